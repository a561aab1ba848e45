//! The io_uring driver: one ring per worker, entered once per turn.
//!
//! A turn's entries (receives, polls, sends) are queued while its tasks run, and reach the kernel by the one system call that
//! also brings what became ready. A receive waits for its bytes without a buffer of its own: the kernel takes one of the
//! worker's when they come (`buffers`), and they are kept until they are asked for (`ahead`). The sends are those of
//! `net/outgoing.rs`. No pointer of the rooms above is ever in the kernel's hands.

mod ahead;
mod buffers;
mod ring;

use std::io;

pub(super) use ahead::Ahead;
pub(super) use buffers::Buffer;
pub(super) use ring::Ring;

/// Makes a ring as the workers' and lets it go.
///
/// # Errors
/// The kernel refuses it.
pub fn check_ring() -> io::Result<()> {
    Ring::check()
}
