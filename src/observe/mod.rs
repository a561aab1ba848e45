//! Logs and counters.
