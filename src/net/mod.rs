//! Sockets, pipes and the ring: the only room that knows io_uring, and the only one with `unsafe`.
//!
//! Readiness comes by the ring, bytes by direct calls: a one-shot poll entry waits for a socket, then non-blocking
//! `recv`, `sendmsg` and `splice` move bytes. No pointer of ours is ever in the kernel's hands, an idle connection holds no
//! buffer, and a body can be spliced.
//!
//! The seam to the rooms above: `net` lends the bytes it received ([`Loan`]) and takes slices to send; it never fills its
//! caller's buffers, so that a driver that receives into buffers of its own can take its place.

mod listener;
mod pipe;
mod poll;
mod runtime;
mod scratch;
mod socket;

pub use listener::{Accepted, Bound, ClientAddress, InetOptions, Listener};
pub use pipe::Pipe;
pub use runtime::{run, sleep, spawn, usable};
pub use scratch::{Loan, SCRATCH_BYTES};
pub use socket::{Peek, Socket};
