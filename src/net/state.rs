//! What is known about one descriptor, whichever driver noticed it.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::task::{Context, Poll, Waker};

use nix::errno::Errno;

use super::uring::Ahead;

/// A receive may bring something.
pub(super) const READ: u8 = 1;
/// A send may take something.
pub(super) const WRITE: u8 = 2;
/// The peer has sent its last byte, or the connection failed. Stays.
pub(super) const HUNG_UP: u8 = 4;

/// What is known about one descriptor: shared by its [`super::watch::Watch`] and the reactor.
#[derive(Default)]
pub(super) struct State {
    fd: Cell<RawFd>,
    /// Kinds of readiness that were noticed and not used up.
    ready: Cell<u8>,
    /// Kinds of readiness that the task waits for.
    awaited: Cell<u8>,
    /// The task that waits. One at a time: a socket belongs to one task.
    waker: Cell<Option<Waker>>,
    /// What is on its way out.
    pub(super) outgoing: Sending,
    /// What a ring received before it was asked for.
    pub(super) ahead: Ahead,
}

impl State {
    pub(super) fn set_fd(&self, fd: BorrowedFd<'_>) {
        self.fd.set(fd.as_raw_fd());
    }

    pub(super) fn fd(&self) -> RawFd {
        self.fd.get()
    }

    /// Takes over what the kernel reported, and wakes who waits for it.
    pub(super) fn notice(&self, kinds: u8) {
        self.ready.set(self.ready.get() | kinds);
        let awaited = self.awaited.get();
        self.awaited.set(awaited & !kinds);
        if awaited & kinds != 0
            && let Some(waker) = self.waker.take()
        {
            waker.wake_by_ref();
            // It stays for the next wait of the same task.
            self.waker.set(Some(waker));
        }
    }

    pub(super) fn is(&self, kind: u8) -> bool {
        self.ready.get() & kind != 0
    }

    /// Ready if `kind` was noticed; otherwise the task is woken when it is.
    pub(super) fn poll(&self, kind: u8, cx: &Context<'_>) -> Poll<()> {
        if self.is(kind) {
            return Poll::Ready(());
        }
        self.awaited.set(self.awaited.get() | kind);
        let waker = match self.waker.take() {
            Some(known) if known.will_wake(cx.waker()) => known,
            _ => cx.waker().clone(),
        };
        self.waker.set(Some(waker));
        Poll::Pending
    }

    pub(super) fn forget(&self, kind: u8) {
        self.ready.set(self.ready.get() & !kind);
    }
}

/// What is on its way out on one descriptor.
#[derive(Default)]
pub(super) struct Sending {
    /// The batch in which something was queued last; 0 is none.
    batch: Cell<u32>,
    /// Where in the worker's outgoing bytes the queued send is; no bytes are no send.
    queued: Cell<(u32, u32)>,
    /// Bytes that were taken over for sending and that the kernel had no room for.
    left: Cell<Option<Box<[u8]>>>,
    /// What a send failed with, 0 for nothing.
    error: Cell<u16>,
    /// The stream is to end when everything is sent.
    finish: Cell<bool>,
}

impl Sending {
    /// The batch of which something for the descriptor may not have reached the kernel; 0 for none.
    pub(super) fn batch(&self) -> u32 {
        self.batch.get()
    }

    pub(super) fn set_batch(&self, batch: u32) {
        self.batch.set(batch);
    }

    pub(super) fn queued(&self) -> Option<(u32, u32)> {
        Some(self.queued.get()).filter(|(_, len)| *len > 0)
    }

    pub(super) fn set_sending(&self, queued: Option<(u32, u32)>) {
        self.queued.set(queued.unwrap_or_default());
    }

    pub(super) fn has_left(&self) -> bool {
        let left = self.left.take();
        let has = left.is_some();
        self.left.set(left);
        has
    }

    pub(super) fn take_left(&self) -> Option<Box<[u8]>> {
        self.left.take()
    }

    pub(super) fn keep(&self, left: Box<[u8]>) {
        self.left.set(Some(left));
    }

    pub(super) fn fail(&self, errno: Errno) {
        self.error.set(errno as u16);
        self.left.take();
    }

    pub(super) fn has_failed(&self) -> bool {
        self.error.get() != 0
    }

    /// What an earlier send met. It stays: the connection is of no use for sending any more.
    pub(super) fn error(&self) -> io::Result<()> {
        match self.error.get() {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno.into())),
        }
    }

    pub(super) fn finish_when_sent(&self) {
        self.finish.set(true);
    }

    pub(super) fn is_to_finish(&self) -> bool {
        self.finish.get()
    }
}
