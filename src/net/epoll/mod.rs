//! The epoll driver: readiness by one edge-triggered registration per descriptor, and an executor made for it.
//!
//! A worker's turn: every task that is ready runs, then one `epoll_wait` collects what became ready meanwhile or, if there
//! is nothing to do, waits. No other system call is made for the waiting, whatever the number of sockets.

#![forbid(unsafe_code)]

mod executor;
mod reactor;
mod watch;

pub(super) use executor::{give_way, run, sleep, spawn};
#[cfg(test)]
pub(super) use reactor::registrations;
pub(super) use watch::Watch;
