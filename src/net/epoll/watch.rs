//! What is known about the readiness of one descriptor.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;

use super::executor::reactor;
use super::reactor::Key;

/// A receive may bring something.
const READ: u8 = 1;
/// A send may take something.
const WRITE: u8 = 2;
/// The peer has sent its last byte, or the connection failed. Stays.
const HUNG_UP: u8 = 4;

/// What is known about one descriptor: shared by its [`Watch`] and the reactor.
#[derive(Default)]
pub(super) struct State {
    /// Kinds of readiness that were reported and not used up.
    ready: Cell<u8>,
    /// Kinds of readiness that a task waits for.
    awaited: Cell<u8>,
    /// The task that waits for READ or HUNG_UP.
    reader: RefCell<Option<Waker>>,
    /// The task that waits for WRITE.
    writer: RefCell<Option<Waker>>,
}

impl State {
    /// Takes over what the kernel reported.
    pub(super) fn notice(&self, events: EpollFlags) {
        let mut kinds = 0;
        let failed = EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
        if events.intersects(EpollFlags::EPOLLIN) {
            kinds |= READ;
        }
        if events.intersects(EpollFlags::EPOLLRDHUP | failed) {
            kinds |= READ | HUNG_UP;
        }
        if events.intersects(EpollFlags::EPOLLOUT | failed) {
            kinds |= WRITE;
        }
        self.ready.set(self.ready.get() | kinds);
        let awaited = self.awaited.get();
        self.awaited.set(awaited & !kinds);
        // The wakers stay for the next wait of the same task.
        if awaited & kinds & (READ | HUNG_UP) != 0 {
            wake(&self.reader);
        }
        if awaited & kinds & WRITE != 0 {
            wake(&self.writer);
        }
    }

    fn poll(&self, kind: u8, waker: &RefCell<Option<Waker>>, cx: &Context<'_>) -> Poll<()> {
        if self.ready.get() & kind != 0 {
            return Poll::Ready(());
        }
        self.awaited.set(self.awaited.get() | kind);
        let mut waker = waker.borrow_mut();
        if !waker
            .as_ref()
            .is_some_and(|known| known.will_wake(cx.waker()))
        {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    fn forget(&self, kind: u8) {
        self.ready.set(self.ready.get() & !kind);
    }
}

fn wake(waker: &RefCell<Option<Waker>>) {
    if let Some(waker) = &*waker.borrow() {
        waker.wake_by_ref();
    }
}

/// Readiness of one descriptor, registered with the worker's epoll instance as long as this lives.
///
/// Reports are edges. What is remembered of them is right because every receive and send that finds the kernel's queue
/// empty or full says so ([`Watch::found_empty`], [`Watch::found_full`]), and what changes after that is a new edge.
pub(in crate::net) struct Watch {
    key: Key,
    state: Rc<State>,
}

impl Watch {
    /// Registers a descriptor that has none yet, and is connected, connecting or listening.
    ///
    /// # Errors
    /// `ENOMEM`: the kernel has no memory for it, or the user is at the limit `fs.epoll.max_user_watches`.
    pub(in crate::net) fn new(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let state = Rc::new(State::default());
        let key = reactor(|reactor| reactor.add(fd, Rc::clone(&state)))
            .expect("watched by a worker")
            .map_err(|errno| match errno {
                Errno::ENOSPC => Errno::ENOMEM,
                errno => errno,
            })?;
        Ok(Self { key, state })
    }

    pub(in crate::net) fn poll_read(&self, cx: &Context<'_>) -> Poll<bool> {
        let state = &self.state;
        let hung_up = state.ready.get() & HUNG_UP != 0;
        if !hung_up && state.poll(READ, &state.reader, cx).is_pending() {
            return Poll::Pending;
        }
        state.forget(READ);
        Poll::Ready(hung_up)
    }

    pub(in crate::net) fn poll_hung_up(&self, cx: &Context<'_>) -> Poll<()> {
        self.state.poll(HUNG_UP, &self.state.reader, cx)
    }

    pub(in crate::net) fn poll_write(&self, cx: &Context<'_>) -> Poll<()> {
        self.state.poll(WRITE, &self.state.writer, cx)
    }

    pub(in crate::net) fn found_empty(&self) {
        self.state.forget(READ);
    }

    pub(in crate::net) fn found_full(&self) {
        self.state.forget(WRITE);
    }

    /// Has the kernel forget the descriptor although duplicates of it stay open. Without duplicates, closing it does.
    pub(in crate::net) fn forget(&self, fd: BorrowedFd<'_>) {
        reactor(|reactor| reactor.delete(fd));
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Nothing if the runtime is gone, and the epoll instance with it.
        reactor(|reactor| reactor.remove(self.key));
    }
}
