//! The front from outside: the real binary, real sockets, real servers and clients.

#[allow(dead_code)] // each group of tests uses its own part
mod front;
#[allow(dead_code)] // each group of tests uses its own part
mod peer;

mod answers;
mod bodies;
mod messages;
mod proxying;
mod smoke;
