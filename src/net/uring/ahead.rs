//! What a ring keeps for one descriptor: which entries are with the kernel, and what a receive brought before it was asked for.

use std::cell::Cell;
use std::io;

use nix::errno::Errno;

use super::super::scratch::Loan;
use super::buffers::Buffer;

/// A receive or a poll for bytes is with the kernel, or queued.
pub(super) const READING: u8 = 1;
/// It is a receive.
pub(super) const RECEIVING: u8 = 2;
/// A poll for the peer's hanging up is.
pub(super) const HANG_UP: u8 = 4;
/// A poll for room is.
pub(super) const WRITING: u8 = 8;

/// What a ring keeps for one descriptor.
#[derive(Default)]
pub(in crate::net) struct Ahead {
    armed: Cell<u8>,
    /// Bytes received and not taken yet.
    bytes: Cell<Option<Buffer>>,
    /// What a receive failed with, 0 for nothing.
    error: Cell<u16>,
}

impl Ahead {
    pub(super) fn is_armed(&self, what: u8) -> bool {
        self.armed.get() & what != 0
    }

    pub(super) fn arm(&self, what: u8) {
        self.armed.set(self.armed.get() | what);
    }

    pub(super) fn disarm(&self, what: u8) {
        self.armed.set(self.armed.get() & !what);
    }

    /// Whether a receive is with the kernel, so that bytes may come without being asked for again.
    pub(in crate::net) fn is_receiving(&self) -> bool {
        self.is_armed(RECEIVING)
    }

    pub(in crate::net) fn has_failed(&self) -> bool {
        self.error.get() != 0
    }

    /// Whether [`Ahead::take`] brings something.
    pub(in crate::net) fn is_there(&self) -> bool {
        let bytes = self.bytes.take();
        let is = bytes.is_some() || self.has_failed();
        self.bytes.set(bytes);
        is
    }

    /// What was received, and whether nothing more was there when it came.
    ///
    /// # Errors
    /// What the receive met; once.
    pub(in crate::net) fn take(&self) -> io::Result<Option<(Loan, bool)>> {
        if let Some(buffer) = self.bytes.take() {
            let all = !buffer.is_full();
            return Ok(Some((Loan::of_ring(buffer), all)));
        }
        match self.error.replace(0) {
            0 => Ok(None),
            errno => Err(io::Error::from_raw_os_error(errno.into())),
        }
    }

    /// Lets `take` have the bytes, if there are any; it returns how many it took.
    pub(in crate::net) fn take_bytes<E>(
        &self,
        take: impl FnOnce(&[u8]) -> Result<usize, E>,
    ) -> Option<Result<usize, E>> {
        let mut buffer = self.bytes.take()?;
        let taken = take(&buffer);
        if let Ok(taken) = taken {
            buffer.advance(taken);
        }
        if !buffer.is_empty() {
            self.bytes.set(Some(buffer));
        }
        Some(taken)
    }

    pub(super) fn put(&self, buffer: Buffer) {
        self.bytes.set(Some(buffer));
    }

    pub(super) fn fail(&self, errno: Errno) {
        self.error.set(errno as u16);
    }
}
