//! What a worker waits for, whichever way the kernel tells.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::mem::ManuallyDrop;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::Duration;

use slab::Slab;

use super::driver::Driver;
use super::epoll::Epoll;
use super::outgoing::{Outgoing, SEND_BYTES_MAX};
use super::state::{State, WRITE};
use super::uring::Ring;
use super::usage::Usage;

/// Names a registration in the kernel's reports: the place of its state, and a generation, so that a report about a
/// descriptor that is gone finds nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    // Below 2^INDEX_BITS.
    index: u32,
    generation: u32,
}

/// Bits of a key's index; those above it are a ring's to tell its entries apart.
const INDEX_BITS: u32 = 28;

impl Key {
    /// The key with a mark below 16 in one number.
    pub(super) fn to_u64(self, mark: u8) -> u64 {
        u64::from(self.generation) << 32 | u64::from(mark) << INDEX_BITS | u64::from(self.index)
    }

    /// The key and the mark.
    pub(super) fn from_u64(data: u64) -> (Self, u8) {
        let low = data as u32;
        let key = Self {
            index: low & ((1 << INDEX_BITS) - 1),
            generation: (data >> 32) as u32,
        };
        (key, (low >> INDEX_BITS) as u8)
    }
}

/// What a task waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// Bytes, which a driver that can receives.
    Bytes,
    /// Something to receive, to accept or to splice.
    Readable,
    /// The peer's last byte, or the connection's failure.
    HangUp,
    /// Room.
    Writable,
}

/// The descriptors that a worker watches, and what is on its way to them.
pub(super) struct Registry {
    states: RefCell<Slab<(u32, Rc<State>)>>,
    // Below u32::MAX, which the drivers use for descriptors of their own.
    generation: Cell<u32>,
    pub(super) outgoing: ManuallyDrop<RefCell<Outgoing>>,
    /// The number of the batch that is being queued, never 0.
    batch: Cell<u32>,
}

impl Registry {
    fn new() -> Self {
        Self {
            states: RefCell::default(),
            generation: Cell::new(0),
            outgoing: ManuallyDrop::new(RefCell::default()),
            batch: Cell::new(1),
        }
    }

    /// Something for the descriptor was put into the present batch.
    #[inline]
    pub(super) fn note_queued(&self, state: &State) {
        state.outgoing.set_batch(self.batch.get());
    }

    /// All of the present batch has reached the kernel.
    pub(super) fn begin_batch(&self) {
        self.batch.set(self.batch.get().checked_add(1).unwrap_or(1));
    }

    fn add(&self, state: Rc<State>) -> Key {
        let generation = (self.generation.get() + 1) % u32::MAX;
        self.generation.set(generation);
        let index = self.states.borrow_mut().insert((generation, state));
        let index = u32::try_from(index).expect("fewer descriptors than 2^28");
        Key { index, generation }
    }

    fn remove(&self, key: Key) {
        self.states.borrow_mut().remove(key.index as usize);
    }

    /// Runs `f` on the state that `key` names, if it is there still.
    #[inline]
    pub(super) fn with(&self, key: Key, f: impl FnOnce(&State)) {
        if let Some((generation, state)) = self.states.borrow().get(key.index as usize)
            && *generation == key.generation
        {
            f(state);
        }
    }
}

impl Drop for Registry {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // Sends are complete when they have been submitted; should one not be, its bytes stay for ever.
        if !self.outgoing.borrow().is_in_use() {
            // SAFETY: nobody uses the field after this.
            unsafe { ManuallyDrop::drop(&mut self.outgoing) };
        }
    }
}

enum Kernel {
    Ring(Box<Ring>),
    Epoll(Epoll),
}

/// One worker's registrations and its driver.
pub(super) struct Reactor {
    // Before what it may still read of.
    kernel: Kernel,
    registry: Registry,
}

// Every request comes this way several times: what is marked `inline` is inlined wherever the compiler cuts the crate.
impl Reactor {
    /// `outside` becomes readable when somebody has to be noticed who is not a registered descriptor.
    ///
    /// # Errors
    /// The kernel refuses the driver.
    pub(super) fn new(driver: Driver, outside: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self {
            registry: Registry::new(),
            kernel: match driver {
                Driver::Uring => Kernel::Ring(Box::new(Ring::new(outside)?)),
                Driver::Epoll => Kernel::Epoll(Epoll::new(outside)?),
            },
        })
    }

    /// Registers a descriptor.
    ///
    /// # Errors
    /// No memory is left, or more descriptors are watched than the user may (`fs.epoll.max_user_watches`).
    pub(super) fn add(&self, fd: BorrowedFd<'_>, state: Rc<State>) -> io::Result<Key> {
        state.set_fd(fd);
        let key = self.registry.add(state);
        let added = match &self.kernel {
            Kernel::Ring(_) => Ok(()),
            Kernel::Epoll(epoll) => epoll.add(fd, key),
        };
        if added.is_err() {
            self.registry.remove(key);
        }
        added.map(|()| key)
    }

    /// Forgets a registration. The kernel forgets it when the descriptor is closed, unless that has duplicates.
    pub(super) fn remove(&self, key: Key) {
        self.registry.remove(key);
    }

    /// Has the kernel forget a listening descriptor that has duplicates.
    pub(super) fn delete(&self, fd: BorrowedFd<'_>, key: Key, state: &State) {
        match &self.kernel {
            Kernel::Ring(ring) => ring.disarm(&self.registry, key, state),
            Kernel::Epoll(epoll) => epoll.delete(fd),
        }
    }

    /// Has the kernel tell when `want` is there, if it would not unasked.
    #[inline]
    pub(super) fn arm(&self, key: Key, state: &State, want: Want) {
        match &self.kernel {
            Kernel::Ring(ring) => ring.arm(&self.registry, key, state, want),
            Kernel::Epoll(_) => {}
        }
    }

    /// Takes the slices over to be sent at the end of this turn, unless `more` follow at once. `None`: the caller has to send directly, which is in order;
    /// `Some(0)`: there is no room now.
    ///
    /// # Errors
    /// Those that an earlier send met.
    #[inline]
    pub(super) fn send(
        &self,
        key: Key,
        state: &State,
        slices: &[IoSlice<'_>],
        more: bool,
    ) -> io::Result<Option<usize>> {
        if state.outgoing.queued().is_some() {
            self.flush();
        }
        state.outgoing.error()?;
        if state.outgoing.has_left() {
            state.forget(WRITE);
            return Ok(Some(0));
        }
        let len = slices.iter().map(|slice| slice.len()).sum();
        if more || len == 0 || len > SEND_BYTES_MAX {
            return Ok(None);
        }
        let add = || self.registry.outgoing.borrow_mut().add(slices, len);
        let added = add().or_else(|| {
            self.flush();
            add()
        });
        let Some(at) = added else {
            return Ok(None);
        };
        state.outgoing.set_sending(Some((at, len as u32)));
        match &self.kernel {
            Kernel::Ring(ring) => ring.send(&self.registry, key, state),
            Kernel::Epoll(epoll) => epoll.send(&self.registry, key, state),
        }
        Ok(Some(len))
    }

    /// Keeps bytes that the kernel has no room for, behind those that wait already, until there is room.
    pub(super) fn keep(&self, key: Key, state: &State, bytes: &[u8]) {
        let mut left = state.outgoing.take_left().map_or_else(Vec::new, Vec::from);
        left.extend_from_slice(bytes);
        state.outgoing.keep(left.into());
        state.forget(WRITE);
        self.arm(key, state, Want::Writable);
    }

    /// Has everything reach the kernel that is queued for the descriptor.
    pub(super) fn settle(&self, state: &State) {
        // Forgotten first: what the flush finds may queue a wait for room.
        let queued = state.outgoing.batch() == self.registry.batch.get();
        state.outgoing.set_batch(0);
        if queued {
            self.flush();
        }
    }

    /// Has everything reach the kernel that is queued, and takes over what it says.
    #[inline]
    pub(super) fn flush(&self) {
        match &self.kernel {
            Kernel::Ring(ring) => ring.flush(&self.registry),
            Kernel::Epoll(epoll) => epoll.flush(&self.registry),
        }
    }

    /// Takes what became ready, waiting for it at most for `timeout` (`None`: as long as it takes), and wakes who waits for
    /// it. True if `outside` is.
    #[inline]
    pub(super) fn collect(&self, timeout: Option<Duration>) -> io::Result<bool> {
        match &self.kernel {
            Kernel::Ring(ring) => ring.collect(&self.registry, timeout),
            Kernel::Epoll(epoll) => epoll.collect(&self.registry, timeout),
        }
    }

    /// Notes how much the driver is used.
    pub(super) fn look(&self, usage: &mut Usage) {
        if let Kernel::Ring(ring) = &self.kernel {
            ring.look(usage);
        }
    }

    /// How many descriptors are watched, by our own books and, if it keeps any, by the kernel's.
    #[cfg(test)]
    pub(super) fn registrations(&self) -> (usize, Option<usize>) {
        let kernel = match &self.kernel {
            Kernel::Ring(_) => None,
            Kernel::Epoll(epoll) => Some(epoll.registrations()),
        };
        (self.registry.states.borrow().len(), kernel)
    }
}
