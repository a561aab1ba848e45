//! Logs and counters.
//!
//! Nothing here waits for another thread: a log line is one `write(2)`, a counter has one writer. A log that cannot be
//! written is counted and never stops the program.
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
pub mod metrics;
pub mod recent;
pub mod status;
pub mod time;
