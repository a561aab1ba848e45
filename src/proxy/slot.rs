//! A client connection's place in its worker's list: how others reach its task, and how time does.
//!
//! No timer is armed for an operation: a wait notes when it has to be over, and one sweep per worker wakes the tasks whose
//! time has come.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use slab::Slab;

use crate::net::now;
use crate::pin::GroupId;

/// What is waited for, at most one wait of each kind at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// The client's next bytes: a head, a body, the next request.
    ClientRead,
    /// The client taking bytes.
    ClientWrite,
    /// The server's next bytes.
    UpstreamRead,
    /// The connection to the server, or the server taking bytes.
    UpstreamWrite,
    /// The end of an idle pin's time.
    Pins,
}

const TIMERS: usize = 5;

/// Connections whose time is over that are woken at once: each may have much to close, and others wait for it.
const WOKEN_AT_ONCE: usize = 16;

/// How long a connection that is over, or idle, still waits for its client when its worker drains: a request that is on its way is
/// answered and told that it was the last, instead of meeting a close, and an answer arrives where its client still sends.
const DRAIN_PATIENCE: Duration = Duration::from_secs(1);

/// A wait took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimedOut;

/// What a client connection is doing, for the status page and for draining.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Between requests, without a pin.
    Idle,
    /// Between requests, holding a pin.
    Pinned,
    /// A request head is coming in.
    Reading,
    /// A request is being answered.
    Answering,
    /// The last answer is out; what the client still sends is thrown away.
    Lingering,
}

/// One client connection, as its worker sees it.
pub(super) struct Slot {
    // Milliseconds since the epoch of the worker; 0 is none.
    deadlines: [Cell<u64>; TIMERS],
    expired: Cell<u8>,
    waker: RefCell<Option<Waker>>,
    /// What the connection is doing.
    pub(super) phase: Cell<Phase>,
    /// Groups whose idle pin this connection has to give up.
    evicted: RefCell<Vec<GroupId>>,
    draining: Cell<bool>,
    /// It was asked to make room for another connection, and has not gone yet.
    leaving: Cell<bool>,
    epoch: Instant,
}

impl Phase {
    const ALL: usize = 5;

    /// Whether the connection has no request.
    pub(super) fn is_between_requests(self) -> bool {
        matches!(self, Self::Idle | Self::Pinned)
    }
}

impl Slot {
    /// Waits for `poll` to be ready, at most for `timeout`.
    pub(super) fn timed<T>(
        &self,
        timer: Timer,
        timeout: Duration,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> impl Future<Output = Result<T, TimedOut>> {
        let mut armed = false;
        poll_fn(move |cx| {
            let result = match poll(cx) {
                Poll::Ready(value) => Ok(value),
                Poll::Pending => {
                    if !armed {
                        armed = true;
                        self.arm(timer, now() + timeout);
                    }
                    if !self.take_expired(timer) {
                        self.remember(cx);
                        return Poll::Pending;
                    }
                    Err(TimedOut)
                }
            };
            if armed {
                self.disarm(timer);
            }
            Poll::Ready(result)
        })
    }

    /// Notes when a timer expires. What an abandoned wait of the same kind left behind is forgotten.
    pub(super) fn arm(&self, timer: Timer, at: Instant) {
        self.expired.set(self.expired.get() & !bit(timer));
        let ms = at.saturating_duration_since(self.epoch).as_millis();
        self.deadlines[timer as usize].set(u64::try_from(ms).unwrap_or(u64::MAX).max(1));
    }

    /// Forgets a timer, also if it has expired.
    pub(super) fn disarm(&self, timer: Timer) {
        self.deadlines[timer as usize].set(0);
        self.expired.set(self.expired.get() & !bit(timer));
    }

    /// Whether a timer has expired since it was asked last.
    pub(super) fn take_expired(&self, timer: Timer) -> bool {
        let expired = self.expired.get();
        self.expired.set(expired & !bit(timer));
        expired & bit(timer) != 0
    }

    /// Makes sure that the worker can wake the task that is being polled.
    pub(super) fn remember(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker
            .as_ref()
            .is_some_and(|known| known.will_wake(cx.waker()))
        {
            *waker = Some(cx.waker().clone());
        }
    }

    /// The next group whose idle pin has to go.
    pub(super) fn take_evicted(&self) -> Option<GroupId> {
        self.evicted.borrow_mut().pop()
    }

    /// Whether an eviction waits to be carried out.
    pub(super) fn has_evicted(&self) -> bool {
        !self.evicted.borrow().is_empty()
    }

    /// Tells the connection to give up its idle pin of `group`.
    pub(super) fn evict(&self, group: GroupId) {
        self.evicted.borrow_mut().push(group);
        self.wake();
    }

    /// Whether the worker stops: the connection ends after the request that it is serving.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Whether the connection shall end at once unless a request has come.
    pub(super) fn is_unwanted(&self) -> bool {
        self.leaving.get()
    }

    /// How long a connection that needs nothing of its client, and would wait for `timeout`, waits now.
    pub(super) fn patience(&self, timeout: Duration) -> Duration {
        match self.draining.get() {
            true => timeout.min(DRAIN_PATIENCE),
            false => timeout,
        }
    }

    fn drain(&self) {
        self.draining.set(true);
        let phase = self.phase.get();
        if phase.is_between_requests() || phase == Phase::Lingering {
            let deadline = &self.deadlines[Timer::ClientRead as usize];
            let at = (now() + DRAIN_PATIENCE).saturating_duration_since(self.epoch);
            let at = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
            deadline.set(deadline.get().min(at));
        }
        self.wake();
    }

    /// True if a wait of it is over.
    fn sweep(&self, now_ms: u64) -> bool {
        let mut woken = false;
        for (i, deadline) in self.deadlines.iter().enumerate() {
            let at = deadline.get();
            if at != 0 && at <= now_ms {
                deadline.set(0);
                self.expired.set(self.expired.get() | 1 << i);
                woken = true;
            }
        }
        if woken {
            self.wake();
        }
        woken
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

fn bit(timer: Timer) -> u8 {
    1 << timer as u8
}

/// Which client connection: the slot's index, and a generation so that a stale key finds nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotKey {
    index: usize,
    generation: u64,
}

/// All client connections of a worker.
pub(super) struct Slots {
    slots: RefCell<Slab<(u64, Rc<Slot>)>>,
    generation: Cell<u64>,
    /// Connections that were asked to make room and have not gone yet.
    leaving: Cell<usize>,
    epoch: Instant,
}

impl Slots {
    pub(super) fn new(epoch: Instant) -> Self {
        Self {
            slots: RefCell::default(),
            generation: Cell::new(0),
            leaving: Cell::new(0),
            epoch,
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.slots.borrow().len()
    }

    /// Adds a client connection.
    pub(super) fn insert(&self) -> (SlotKey, Rc<Slot>) {
        let slot = Rc::new(Slot {
            deadlines: Default::default(),
            expired: Cell::new(0),
            waker: RefCell::new(None),
            // Its task has yet to wait for anything.
            phase: Cell::new(Phase::Reading),
            evicted: RefCell::default(),
            draining: Cell::new(false),
            leaving: Cell::new(false),
            epoch: self.epoch,
        });
        let generation = self.generation.get() + 1;
        self.generation.set(generation);
        let index = self
            .slots
            .borrow_mut()
            .insert((generation, Rc::clone(&slot)));
        (SlotKey { index, generation }, slot)
    }

    /// The connection is gone.
    pub(super) fn remove(&self, key: SlotKey) {
        let (_, slot) = self.slots.borrow_mut().remove(key.index);
        self.stay(&slot);
    }

    /// How many there will be once those that were asked to go have gone.
    pub(super) fn staying(&self) -> usize {
        self.len() - self.leaving.get()
    }

    /// Asks idle connections without a pin to go, those whose time would end first: an eighth of them, as nginx does, since
    /// looking for them takes time, but not more than `most`. Returns how many.
    pub(super) fn make_room(&self, most: usize) -> usize {
        let slots = self.slots.borrow();
        let spare = |slot: &&Rc<Slot>| slot.phase.get() == Phase::Idle && !slot.leaving.get();
        let mut idle: Vec<(u64, &Rc<Slot>)> = slots
            .iter()
            .map(|(_, (_, slot))| slot)
            .filter(spare)
            .map(|slot| (slot.deadlines[Timer::ClientRead as usize].get(), slot))
            .collect();
        let count = idle.len().div_ceil(8).min(most);
        if count < idle.len() {
            idle.select_nth_unstable_by_key(count, |(deadline, _)| *deadline);
        }
        for (_, slot) in &idle[..count] {
            slot.leaving.set(true);
            slot.wake();
        }
        self.leaving.set(self.leaving.get() + count);
        count
    }

    /// The connection need not go any more: it has a request, or it is gone already.
    pub(super) fn stay(&self, slot: &Slot) {
        if slot.leaving.take() {
            self.leaving.set(self.leaving.get() - 1);
        }
    }

    /// Tells the connection of `key`, if it is still there, to give up its idle pin of `group`.
    pub(super) fn evict(&self, key: SlotKey, group: GroupId) {
        if let Some((generation, slot)) = self.slots.borrow().get(key.index)
            && *generation == key.generation
        {
            slot.evict(group);
        }
    }

    /// Wakes tasks whose time has come, a few of them: those from place `from` on. Returns where to go on once the others had
    /// their turn, unless that was all.
    pub(super) fn sweep(&self, now: Instant, from: usize) -> Option<usize> {
        let now_ms = u64::try_from(now.saturating_duration_since(self.epoch).as_millis())
            .unwrap_or(u64::MAX);
        let slots = self.slots.borrow();
        let mut woken = 0;
        for index in from..slots.capacity() {
            if woken == WOKEN_AT_ONCE {
                return Some(index);
            }
            woken += slots
                .get(index)
                .map_or(0, |(_, slot)| usize::from(slot.sweep(now_ms)));
        }
        None
    }

    /// Tells every connection to end after what it is doing.
    pub(super) fn drain(&self) {
        for (_, (_, slot)) in &*self.slots.borrow() {
            slot.drain();
        }
    }

    /// Connections in each phase, in their order.
    pub(super) fn phases(&self) -> [usize; Phase::ALL] {
        let mut counts = [0; Phase::ALL];
        for (_, (_, slot)) in &*self.slots.borrow() {
            counts[slot.phase.get() as usize] += 1;
        }
        counts
    }
}
