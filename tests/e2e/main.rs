//! The front from outside: the real binary, real sockets, real servers and clients.

#[allow(dead_code)] // each group of tests uses its own part
mod front;

mod clients;
mod endings;
mod limits;
mod pins;
mod secrets;
mod site;
mod smoke;
mod unpinned;
