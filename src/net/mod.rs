//! Sockets, pipes and the drivers: the only room that knows io_uring and epoll, and the only one with `unsafe`.
//!
//! Readiness comes by the driver, bytes by direct calls: the worker's [`Driver`] waits for a socket, then non-blocking
//! `recv`, `sendmsg` and `splice` move bytes. No pointer of ours is ever in the kernel's hands, an idle connection holds no
//! buffer, and a body can be spliced.
//!
//! The seam to the rooms above: `net` lends the bytes it received ([`Loan`]) and takes slices to send; it never fills its
//! caller's buffers, so that a driver that receives into buffers of its own can take its place. The seam to the drivers is
//! in `driver`: run, spawn, sleep, give way, and readiness of a descriptor.

mod driver;
mod epoll;
mod listener;
mod pipe;
mod scratch;
mod socket;
mod uring;

#[cfg(test)]
mod tests;

pub use driver::{Driver, give_way, now, run, sleep, spawn};
pub use listener::{Accepted, Bound, ClientAddress, InetOptions, Listener};
pub use pipe::Pipe;
pub use scratch::{Loan, SCRATCH_BYTES};
pub use socket::{Peek, Socket};
