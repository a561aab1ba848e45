//! The front from outside: the real binary, real sockets, real servers and clients.

#[allow(dead_code)] // each group of tests uses its own part
mod front;
#[allow(dead_code)]
mod peer;
#[path = "../plan/mod.rs"]
mod plan;
#[allow(dead_code)]
mod prefix;
#[allow(dead_code)]
mod site;

mod answers;
mod bodies;
mod cli;
mod clients;
mod demo;
mod endings;
mod hostile;
mod isolation;
mod last_bytes;
mod limits;
mod logs;
mod messages;
mod pins;
mod process;
mod proxying;
mod retries;
mod secrets;
mod signals;
mod smoke;
mod unpinned;
