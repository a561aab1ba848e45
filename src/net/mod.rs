//! Sockets, pipes and the drivers: the only room that knows io_uring and epoll, and the only one with `unsafe`.
//!
//! The worker's [`Driver`] waits for sockets; non-blocking `recv`, `sendmsg` and `splice` move bytes. A driver may receive while
//! it waits and send with others: io_uring does both. No pointer of the rooms above is ever in the kernel's hands, an idle
//! connection holds no buffer, and a body can be spliced.
//!
//! The seam to the rooms above: `net` lends the bytes it received ([`Loan`]) and takes slices to send; it never fills its
//! caller's buffers. Inside, a [`watch::Watch`] is one descriptor's readiness, the reactor keeps them all and asks the driver,
//! and the executor runs the tasks that it wakes.

mod driver;
mod epoll;
mod executor;
mod listener;
mod outgoing;
mod pipe;
mod reactor;
mod scratch;
mod socket;
mod state;
mod uring;
mod usage;
mod watch;

#[cfg(test)]
mod tests;

pub use driver::Driver;
pub use executor::{closing, give_way, now, run, sleep, spawn, turn_bytes, usage};
pub use listener::{Accepted, Bound, ClientAddress, InetOptions, Listener, Unwatched};
pub use pipe::Pipe;
pub use scratch::{Loan, SCRATCH_BYTES};
pub use socket::{Peek, Socket};
pub use uring::check_ring;
pub use usage::Usage;
