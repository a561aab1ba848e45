//! One worker's epoll instance and what is registered with it.

use std::cell::{Cell, RefCell};
use std::os::fd::BorrowedFd;
use std::rc::Rc;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use slab::Slab;

use super::watch::State;

/// Events taken by one `epoll_wait`.
const BATCH: usize = 512;

/// What the kernel reports for the descriptor that wakes the worker from outside.
const OUTSIDE: u64 = u64::MAX;

/// Everything, reported once when it comes up.
const INTEREST: EpollFlags = EpollFlags::EPOLLIN
    .union(EpollFlags::EPOLLOUT)
    .union(EpollFlags::EPOLLRDHUP)
    .union(EpollFlags::EPOLLET);

/// Names a registration in the kernel's reports: the place of its state, and a generation, so that a report about a
/// descriptor that is gone finds nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    fn to_u64(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    fn from_u64(data: u64) -> Self {
        Self {
            index: data as u32,
            generation: (data >> 32) as u32,
        }
    }
}

pub(super) struct Reactor {
    epoll: Epoll,
    states: RefCell<Slab<(u32, Rc<State>)>>,
    // Below u32::MAX, so that no key is OUTSIDE.
    generation: Cell<u32>,
    events: RefCell<Vec<EpollEvent>>,
}

impl Reactor {
    /// `outside` becomes readable when somebody has to be noticed who is not a registered descriptor.
    pub(super) fn new(outside: BorrowedFd<'_>) -> nix::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(outside, EpollEvent::new(EpollFlags::EPOLLIN, OUTSIDE))?;
        Ok(Self {
            epoll,
            states: RefCell::default(),
            generation: Cell::new(0),
            events: RefCell::new(vec![EpollEvent::empty(); BATCH]),
        })
    }

    /// Registers a descriptor. The kernel reports what it is ready with at once.
    ///
    /// # Errors
    /// No memory is left, or more descriptors are watched than the user may (`fs.epoll.max_user_watches`).
    pub(super) fn add(&self, fd: BorrowedFd<'_>, state: Rc<State>) -> nix::Result<Key> {
        let generation = (self.generation.get() + 1) % u32::MAX;
        self.generation.set(generation);
        let mut states = self.states.borrow_mut();
        let entry = states.vacant_entry();
        let index = u32::try_from(entry.key()).expect("fewer descriptors than 2^32");
        let key = Key { index, generation };
        self.epoll
            .add(fd, EpollEvent::new(INTEREST, key.to_u64()))?;
        entry.insert((generation, state));
        Ok(key)
    }

    /// Forgets a registration. The kernel forgets it when the descriptor is closed, unless that has duplicates.
    pub(super) fn remove(&self, key: Key) {
        self.states.borrow_mut().remove(key.index as usize);
    }

    /// Has the kernel forget a descriptor that has duplicates.
    pub(super) fn delete(&self, fd: BorrowedFd<'_>) {
        // Not registered: nothing to forget.
        let _ = self.epoll.delete(fd);
    }

    /// Takes what became ready, waiting for it at most for `timeout`, and wakes who waits for it. True if `outside` is.
    pub(super) fn collect(&self, timeout: EpollTimeout) -> nix::Result<bool> {
        let mut events = self.events.borrow_mut();
        let count = match self.epoll.wait(&mut events, timeout) {
            Err(Errno::EINTR) => 0,
            count => count?,
        };
        let mut outside = false;
        let states = self.states.borrow();
        for event in &events[..count] {
            if event.data() == OUTSIDE {
                outside = true;
                continue;
            }
            let key = Key::from_u64(event.data());
            if let Some((generation, state)) = states.get(key.index as usize)
                && *generation == key.generation
            {
                state.notice(event.events());
            }
        }
        Ok(outside)
    }
}

/// How many descriptors this worker watches: by its own books, and by the kernel's.
#[cfg(test)]
pub(in crate::net) fn registrations() -> (usize, usize) {
    use std::os::fd::AsRawFd;

    let count = |reactor: &Reactor| {
        let path = format!("/proc/self/fdinfo/{}", reactor.epoll.0.as_raw_fd());
        let info = std::fs::read_to_string(path).expect("the epoll instance is there");
        let targets = info.lines().filter(|line| line.starts_with("tfd:")).count();
        // One is the alarm.
        (reactor.states.borrow().len(), targets - 1)
    };
    super::executor::reactor(count).expect("within net::run")
}
