//! The front from outside: the real binary, real sockets, real servers and clients.

#[allow(dead_code)] // each group of tests uses its own part
mod front;
#[allow(dead_code)]
mod prefix;

mod cli;
mod demo;
mod logs;
mod process;
mod signals;
mod smoke;
