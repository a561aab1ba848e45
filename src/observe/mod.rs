//! Logs and counters.
//!
//! Nobody who logs or counts waits for another thread: a line goes into a ring that the log's own thread writes out, a counter
//! has one writer. A log that cannot be written is reported and counted, and stops nothing.
#![forbid(unsafe_code)]

pub mod access_log;
pub mod cause;
pub mod counters;
pub mod error_log;
pub mod escape;
pub mod figures;
pub mod files;
pub mod groups;
pub mod handshakes;
pub mod histogram;
mod log;
pub mod metrics;
pub mod outlet;
pub mod recent;
mod sink;
pub mod status;
mod syslog;
pub mod time;
mod writer;

pub use log::{Done, Log};

#[cfg(test)]
mod tests;
