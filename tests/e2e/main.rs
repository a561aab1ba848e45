//! The front from outside: the real binary, real sockets, real servers and clients.

#[allow(dead_code)] // each group of tests uses its own part
mod front;
#[path = "../plan/mod.rs"]
mod plan;

mod isolation;
mod retries;
mod smoke;
