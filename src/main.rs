//! Command line and exit codes.
fn main() {}
