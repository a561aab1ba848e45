//! The worker's scratch buffer, which every receive uses and lends.

use std::cell::RefCell;
use std::ops::Deref;

use super::uring::Buffer;

/// Size of a scratch buffer in bytes: the most that one receive brings.
pub const SCRATCH_BYTES: usize = 64 << 10;

/// Buffers kept per worker. More than one exists only while a loan is held across an await.
const KEPT: usize = 4;

thread_local! {
    static FREE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// Received bytes, lent until dropped. Do not hold one across an await: what must outlive it is copied.
pub struct Loan(Lent);

enum Lent {
    Scratch(Scratch),
    /// A ring's.
    Ring(Buffer),
}

/// One of the worker's scratch buffers, with `len` bytes in it.
struct Scratch {
    buffer: Box<[u8]>,
    // len <= buffer.len()
    len: usize,
}

impl Loan {
    /// Takes the worker's buffer and lets `fill` write into its first `most` bytes; it returns how many it wrote.
    ///
    /// # Errors
    /// That of `fill`.
    pub fn fill<E>(
        most: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<Self, E> {
        let buffer = FREE
            .with_borrow_mut(Vec::pop)
            .unwrap_or_else(|| vec![0; SCRATCH_BYTES].into_boxed_slice());
        // It exists before `fill` runs, so that the buffer goes back when that fails.
        let mut scratch = Scratch { buffer, len: 0 };
        let most = most.min(scratch.buffer.len());
        scratch.len = fill(&mut scratch.buffer[..most])?;
        Ok(Self(Lent::Scratch(scratch)))
    }

    /// Lends what a ring has received.
    pub(super) fn of_ring(buffer: Buffer) -> Self {
        Self(Lent::Ring(buffer))
    }
}

impl Deref for Loan {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Lent::Scratch(scratch) => &scratch.buffer[..scratch.len],
            Lent::Ring(buffer) => buffer,
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        FREE.with_borrow_mut(|free| {
            if free.len() < KEPT {
                free.push(buffer);
            }
        });
    }
}
