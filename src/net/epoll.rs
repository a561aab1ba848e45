//! The epoll driver: readiness by one edge-triggered registration per descriptor.
//!
//! One `epoll_wait` per turn collects what became ready or, if there is nothing to do, waits. No other system call is made
//! for the waiting, whatever the number of sockets.

use std::cell::RefCell;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{self, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use nix::sys::socket::send;

use super::outgoing::{self, FLAGS};
use super::reactor::{Key, Registry};
use super::state::{HUNG_UP, READ, State};

/// Events taken by one `epoll_wait`.
const BATCH: usize = 512;

/// What the kernel reports for the descriptor that wakes the worker from outside.
const OUTSIDE: u64 = u64::MAX;

/// Everything, reported once when it comes up.
const INTEREST: EpollFlags = EpollFlags::EPOLLIN
    .union(EpollFlags::EPOLLOUT)
    .union(EpollFlags::EPOLLRDHUP)
    .union(EpollFlags::EPOLLET);

/// One worker's epoll instance.
pub(super) struct Epoll {
    epoll: epoll::Epoll,
    events: RefCell<Vec<EpollEvent>>,
    /// Who has a send queued.
    sends: RefCell<Vec<Key>>,
}

impl Epoll {
    /// `outside` becomes readable when somebody has to be noticed who is not a registered descriptor.
    pub(super) fn new(outside: BorrowedFd<'_>) -> io::Result<Self> {
        let epoll = epoll::Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(outside, EpollEvent::new(EpollFlags::EPOLLIN, OUTSIDE))?;
        Ok(Self {
            epoll,
            events: RefCell::new(vec![EpollEvent::empty(); BATCH]),
            sends: RefCell::default(),
        })
    }

    /// Registers a descriptor. The kernel reports what it is ready with at once.
    pub(super) fn add(&self, fd: BorrowedFd<'_>, key: Key) -> io::Result<()> {
        let event = EpollEvent::new(INTEREST, key.to_u64(0));
        self.epoll.add(fd, event).map_err(|errno| match errno {
            Errno::ENOSPC => Errno::ENOMEM.into(),
            errno => errno.into(),
        })
    }

    /// Forgets a descriptor that has duplicates.
    pub(super) fn delete(&self, fd: BorrowedFd<'_>) {
        // Not registered: nothing to forget.
        let _ = self.epoll.delete(fd);
    }

    /// Queues the send of which `state` says where it is.
    #[inline]
    pub(super) fn send(&self, registry: &Registry, key: Key, state: &State) {
        self.sends.borrow_mut().push(key);
        registry.note_queued(state);
    }

    /// Makes the sends that are queued.
    pub(super) fn flush(&self, registry: &Registry) {
        for key in self.sends.borrow_mut().drain(..) {
            let mut outgoing = registry.outgoing.borrow_mut();
            // Whoever closes a descriptor settles it first, so that the state is there.
            registry.with(key, |state| {
                if let Some(queued) = state.outgoing.queued() {
                    let bytes = outgoing.bytes(queued);
                    outgoing::sent(state, bytes, send(state.fd(), bytes, FLAGS));
                }
            });
            outgoing.done();
        }
        registry.begin_batch();
    }

    /// Makes the sends that are queued, and takes what became ready. True if `outside` is.
    #[inline]
    pub(super) fn collect(
        &self,
        registry: &Registry,
        timeout: Option<Duration>,
    ) -> io::Result<bool> {
        self.flush(registry);
        let mut events = self.events.borrow_mut();
        let count = match self.epoll.wait(&mut events, in_ms(timeout)) {
            Err(Errno::EINTR) => 0,
            count => count?,
        };
        let mut outside = false;
        for event in &events[..count] {
            if event.data() == OUTSIDE {
                outside = true;
                continue;
            }
            let (key, _) = Key::from_u64(event.data());
            registry.with(key, |state| notice(state, event.events()));
        }
        Ok(outside)
    }

    /// How many descriptors the kernel watches, `outside` not counted.
    #[cfg(test)]
    pub(super) fn registrations(&self) -> usize {
        use std::os::fd::AsRawFd;

        let path = format!("/proc/self/fdinfo/{}", self.epoll.0.as_raw_fd());
        let info = std::fs::read_to_string(path).expect("the epoll instance is there");
        let targets = info.lines().filter(|line| line.starts_with("tfd:"));
        targets.count() - 1
    }
}

/// Whole milliseconds, rounded up.
fn in_ms(timeout: Option<Duration>) -> EpollTimeout {
    let Some(timeout) = timeout else {
        return EpollTimeout::NONE;
    };
    let ms = timeout.as_nanos().div_ceil(1_000_000);
    EpollTimeout::try_from(ms).unwrap_or(EpollTimeout::MAX)
}

fn notice(state: &State, events: EpollFlags) {
    let mut kinds = 0;
    let failed = EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
    if events.intersects(EpollFlags::EPOLLIN) {
        kinds |= READ;
    }
    if events.intersects(EpollFlags::EPOLLRDHUP | failed) {
        kinds |= READ | HUNG_UP;
    }
    if kinds != 0 {
        state.notice(kinds);
    }
    if events.intersects(EpollFlags::EPOLLOUT | failed) {
        // A rest is tried again at the next edge.
        outgoing::writable(state);
    }
}
