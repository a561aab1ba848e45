//! The worker's scratch buffer, which every receive uses and lends.

use std::cell::RefCell;
use std::ops::Deref;

/// Size of a scratch buffer in bytes: the most that one receive brings.
pub const SCRATCH_BYTES: usize = 64 << 10;

/// Buffers kept per worker. More than one exists only while a loan is held across an await.
const KEPT: usize = 4;

thread_local! {
    static FREE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// Received bytes, lent until dropped. Do not hold one across an await: what must outlive it is copied.
pub struct Loan {
    // Some until drop. len <= buffer.len()
    buffer: Box<[u8]>,
    len: usize,
}

impl Loan {
    /// Takes the worker's buffer and lets `fill` receive into its first `most` bytes.
    pub(super) fn fill<E>(
        most: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<Self, E> {
        let buffer = FREE
            .with_borrow_mut(Vec::pop)
            .unwrap_or_else(|| vec![0; SCRATCH_BYTES].into_boxed_slice());
        // The loan exists before `fill` runs, so that the buffer goes back when it fails.
        let mut loan = Self { buffer, len: 0 };
        let most = most.min(loan.buffer.len());
        loan.len = fill(&mut loan.buffer[..most])?;
        Ok(loan)
    }
}

impl Deref for Loan {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        FREE.with_borrow_mut(|free| {
            if free.len() < KEPT {
                free.push(buffer);
            }
        });
    }
}
