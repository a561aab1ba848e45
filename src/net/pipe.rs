//! Pipes that bodies are spliced through, and the worker's pool of them.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;

use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::unistd::pipe2;

use super::{Socket, Usage};

/// Pipes kept per worker.
const KEPT: usize = 16;

/// What a pipe is asked to hold, in bytes.
const CAPACITY_BYTES: i32 = 256 << 10;

/// What a pipe holds if the kernel gives no more, in bytes. Once a user's pipes hold `pipe-user-pages-soft`, it gives 8 KiB, and
/// copying costs less.
const CAPACITY_BYTES_MIN: i32 = 64 << 10;

thread_local! {
    static FREE: RefCell<Vec<(OwnedFd, OwnedFd)>> = const { RefCell::new(Vec::new()) };
    /// Pipes that are taken, and how often there was none to take.
    static TAKEN: Cell<u64> = const { Cell::new(0) };
    static REFUSED: Cell<u64> = const { Cell::new(0) };
}

/// Notes how many pipes the worker has.
pub(super) fn look(usage: &mut Usage) {
    usage.pipes_used = TAKEN.get();
    usage.pipes_free = FREE.with_borrow(|free| free.len() as u64);
    usage.pipes_refused = REFUSED.get();
}

/// A pipe with `held` bytes in it. Goes back to the worker's pool when dropped empty, and is closed otherwise.
pub struct Pipe {
    // Some until drop.
    ends: Option<(OwnedFd, OwnedFd)>,
    held: usize,
}

impl Pipe {
    /// A pipe of the pool or a new one.
    ///
    /// # Errors
    /// No descriptors or memory are left; the body is copied then.
    pub fn take() -> io::Result<Self> {
        let free = FREE.with_borrow_mut(Vec::pop);
        let ends = free
            .map_or_else(open, Ok)
            .inspect_err(|_| REFUSED.set(REFUSED.get() + 1))?;
        TAKEN.set(TAKEN.get() + 1);
        Ok(Self {
            ends: Some(ends),
            held: 0,
        })
    }

    /// Bytes in the pipe.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Moves at most `len` bytes from the socket into the pipe. `Ok(0)` is the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` if the socket is empty *or* the pipe is full: only with `held() == 0` it means the socket.
    pub fn fill(&mut self, from: &Socket, len: usize) -> io::Result<usize> {
        let (_, write) = self.ends();
        // What the driver has received already comes first.
        let ahead = from.take_bytes_ahead(|bytes| {
            Ok(nix::unistd::write(write, &bytes[..bytes.len().min(len)])?)
        })?;
        let n = match ahead {
            Some(written) => written,
            None => uninterrupted(|| splice(from, None, write, None, len, flags()))?,
        };
        self.held += n;
        Ok(n)
    }

    /// Moves what the pipe holds into the socket. `more` is for a caller that sends something else at once when the pipe is
    /// empty: without that, the kernel would hold the last, unfilled segment back for 200 ms.
    ///
    /// # Errors
    /// `WouldBlock` if the socket takes nothing now; `BrokenPipe` and the like if it is gone.
    pub fn drain(&mut self, to: &Socket, more: bool) -> io::Result<usize> {
        if !to.settle() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut flags = flags();
        flags.set(SpliceFFlags::SPLICE_F_MORE, more);
        let (read, _) = self.ends();
        let held = self.held;
        let n =
            uninterrupted(|| splice(read, None, to, None, held, flags)).inspect_err(|&error| {
                if error == nix::Error::EAGAIN {
                    to.found_full();
                }
            })?;
        self.held -= n;
        Ok(n)
    }

    fn ends(&self) -> (&OwnedFd, &OwnedFd) {
        let (read, write) = self.ends.as_ref().expect("ends are there until drop");
        (read, write)
    }
}

/// A new pipe.
fn open() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    if fcntl(&write, FcntlArg::F_SETPIPE_SZ(CAPACITY_BYTES)).is_err()
        && fcntl(&write, FcntlArg::F_GETPIPE_SZ)? < CAPACITY_BYTES_MIN
    {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    Ok((read, write))
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // At the very end of a thread the variables are gone, and nobody looks.
        let _ = TAKEN.try_with(|taken| taken.set(taken.get() - 1));
        if self.held > 0 {
            return;
        }
        FREE.with_borrow_mut(|free| {
            if free.len() < KEPT {
                free.extend(self.ends.take());
            }
        });
    }
}

/// A signal is no error.
fn uninterrupted(mut call: impl FnMut() -> nix::Result<usize>) -> nix::Result<usize> {
    loop {
        match call() {
            Err(nix::Error::EINTR) => {}
            result => return result,
        }
    }
}

fn flags() -> SpliceFFlags {
    SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK
}
