//! Readiness of one descriptor, as its owner asks for it.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::executor::reactor;
use super::reactor::{Key, Reactor, Want};
use super::scratch::Loan;
use super::state::{HUNG_UP, READ, State, WRITE};

/// Readiness of one descriptor, watched by the worker's driver as long as this lives. Dropped before the descriptor is closed.
///
/// What is remembered is right because every receive and send that finds the kernel's queue empty or full says so
/// ([`Watch::found_empty`], [`Watch::found_full`]), and what changes after that is noticed anew.
pub(super) struct Watch {
    key: Key,
    state: Rc<State>,
}

impl Watch {
    /// Registers a descriptor that has none yet, and is connected, connecting or listening.
    ///
    /// # Errors
    /// `ENOMEM`: the kernel has no memory for it, or the user is at the limit `fs.epoll.max_user_watches`.
    pub(super) fn new(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let state = Rc::new(State::default());
        let key =
            reactor(|reactor| reactor.add(fd, Rc::clone(&state))).expect("watched by a worker")?;
        Ok(Self { key, state })
    }

    /// Whether a receive may bring something: noticed, and not used up.
    pub(super) fn is_readable(&self) -> bool {
        self.state.is(READ)
    }

    /// Whether the peer was noticed to have hung up.
    pub(super) fn is_hung_up(&self) -> bool {
        self.state.is(HUNG_UP)
    }

    /// Ready when a receive may bring something. A driver that can receives it already ([`Watch::take_ahead`]).
    pub(super) fn poll_bytes(&self, cx: &Context<'_>) -> Poll<()> {
        self.poll(READ, Want::Bytes, cx)
    }

    /// Ready when a receive, an accept or a splice may bring something; nothing is received meanwhile.
    pub(super) fn poll_readable(&self, cx: &Context<'_>) -> Poll<()> {
        self.poll(READ, Want::Readable, cx)
    }

    /// Ready when the peer has sent its last byte or is gone.
    pub(super) fn poll_hung_up(&self, cx: &Context<'_>) -> Poll<()> {
        self.poll(HUNG_UP, Want::HangUp, cx)
    }

    /// Ready when a send may take something, or fail; until [`Watch::found_full`].
    pub(super) fn poll_writable(&self, cx: &Context<'_>) -> Poll<()> {
        self.poll(WRITE, Want::Writable, cx)
    }

    fn poll(&self, kind: u8, want: Want, cx: &Context<'_>) -> Poll<()> {
        let found = self.state.poll(kind, cx);
        if found.is_pending() {
            reactor(|reactor| reactor.arm(self.key, &self.state, want));
        }
        found
    }

    /// A receive has just found the queue empty: what was noticed before that counts no more.
    pub(super) fn found_empty(&self) {
        if !self.state.ahead.is_there() && !self.is_hung_up() {
            self.state.forget(READ);
        }
    }

    /// A send has just found the queue full.
    pub(super) fn found_full(&self) {
        self.state.forget(WRITE);
    }

    /// What the driver received while nobody took it: bytes, or the error that it met. It comes before everything that is in
    /// the kernel's queue.
    ///
    /// # Errors
    /// That one.
    pub(super) fn take_ahead(&self) -> io::Result<Option<Loan>> {
        let Some((loan, all)) = self.state.ahead.take()? else {
            return Ok(None);
        };
        if all {
            self.found_empty();
        }
        Ok(Some(loan))
    }

    /// Whether [`Watch::take_ahead`] brings something, after asking the kernel if a receive is with it.
    pub(super) fn look_ahead(&self) -> bool {
        if self.state.ahead.is_receiving() {
            reactor(Reactor::flush);
        }
        self.state.ahead.is_there()
    }

    /// Lets `take` have the bytes that the driver received, if any; it returns how many of them it took.
    pub(super) fn take_bytes_ahead<E>(
        &self,
        take: impl FnOnce(&[u8]) -> Result<usize, E>,
    ) -> Option<Result<usize, E>> {
        self.state.ahead.take_bytes(take)
    }

    /// Whether the connection was noticed to have failed.
    pub(super) fn has_failed(&self) -> bool {
        self.state.ahead.has_failed() || self.state.outgoing.has_failed()
    }

    /// Takes the bytes over to be sent at the end of this turn, unless `more` follow at once. `None`: they have to be sent directly, which is in order;
    /// `Some(0)`: nothing can be sent now.
    ///
    /// # Errors
    /// Those that an earlier send met.
    pub(super) fn send(&self, slices: &[IoSlice<'_>], more: bool) -> io::Result<Option<usize>> {
        reactor(|reactor| reactor.send(self.key, &self.state, slices, more)).unwrap_or(Ok(None))
    }

    /// Takes over bytes that the kernel has no room for.
    pub(super) fn keep(&self, bytes: &[u8]) {
        reactor(|reactor| reactor.keep(self.key, &self.state, bytes));
    }

    /// Whether there are bytes that wait for the kernel to have room.
    pub(super) fn has_left(&self) -> bool {
        self.state.outgoing.has_left()
    }

    /// Has everything reach the kernel that is queued for the descriptor. False if there are bytes that it has no room for.
    pub(super) fn settle(&self) -> bool {
        if self.state.outgoing.batch() != 0 {
            reactor(|reactor| reactor.settle(&self.state));
        }
        !self.state.outgoing.has_left()
    }

    /// Ends the stream as soon as the bytes are sent that the kernel has no room for.
    pub(super) fn finish_when_sent(&self) {
        self.state.outgoing.finish_when_sent();
    }

    /// Gives up the bytes that the kernel has no room for.
    pub(super) fn forget_left(&self) {
        self.state.outgoing.take_left();
    }

    /// The descriptor, which listens, is about to be closed while duplicates of it stay open.
    pub(super) fn forget(&self, fd: BorrowedFd<'_>) {
        reactor(|reactor| reactor.delete(fd, self.key, &self.state));
    }

    /// Goes on with a duplicate of the descriptor, which is about to be closed; what is left is good for nothing but dropping.
    pub(super) fn move_to(&mut self, fd: BorrowedFd<'_>) -> io::Result<Self> {
        let left = Self::new(fd)?;
        self.state.set_fd(fd);
        // What is queued for the old one reaches it; what comes after is for the new one.
        self.settle();
        Ok(std::mem::replace(self, left))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // An entry that reaches the kernel when the descriptor's number is another connection's would be that one's.
        self.settle();
        // Nothing if the runtime is gone.
        reactor(|reactor| reactor.remove(self.key));
    }
}
