//! A thread's way to the logs: lines wait here as long as `buffer=` and `flush=` say, and go to a log's writer through a ring
//! of bytes that one thread fills and one empties.
//!
//! Nobody who logs waits: what a ring has no room for, because its log is not written fast enough, is lost and counted.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtrb::{Producer, RingBuffer};

use crate::config::model::{Buffering, Level};

use super::log::Log;

/// A ring's size when it is made. One that is full gets a successor that is larger ...
const RING_BYTES_MIN: usize = 64 << 10;
const RING_GROWTH: usize = 4;
/// ... up to this: 50,000 lines, or two buffers where those are larger.
const RING_BYTES_MAX: usize = 4 << 20;

/// How long a thread keeps its way to a log that it has nothing for.
const KEPT_UNUSED: Duration = Duration::from_secs(3);

/// Room for a line that is kept for the next one.
const KEPT_BYTES: usize = 16 << 10;

thread_local! {
    static OUTLETS: RefCell<Option<Outlets>> = const { RefCell::new(None) };
}

/// One thread's outlets.
struct Outlets {
    // There are a few logs at the most, so a search is cheaper than a table.
    outlets: Vec<Outlet>,
    /// Where a line is made that does not wait.
    line: Vec<u8>,
}

/// One thread's way to one log.
struct Outlet {
    log: Arc<Log>,
    /// Lines that wait, how many they are, and since when.
    waiting: Vec<u8>,
    lines: u64,
    since: Option<Instant>,
    buffering: Option<Buffering>,
    ring: Option<Producer<u8>>,
    /// A line came since the last look, which was then, or before it.
    used: bool,
    used_at: Instant,
}

/// This thread has outlets as long as this lives. What is in them then is handed over.
#[derive(Debug)]
pub struct Installed(());

impl Drop for Installed {
    fn drop(&mut self) {
        OUTLETS.take();
    }
}

/// Gives this thread outlets. Without them a line is written at once.
#[must_use = "lines are handed over by outlets as long as it lives"]
pub fn install() -> Installed {
    OUTLETS.set(Some(Outlets {
        outlets: Vec::new(),
        line: Vec::new(),
    }));
    Installed(())
}

/// Logs a line, which `text` appends without its end. `level` is that of a line of an error log.
pub fn append(
    log: &Arc<Log>,
    buffering: Option<Buffering>,
    level: Option<Level>,
    text: impl FnOnce(&mut Vec<u8>),
) {
    let mut text = Some(text);
    // At the very end of a thread the variable is gone, and `text` itself may log.
    let _ = OUTLETS.try_with(|outlets| {
        if let Ok(mut outlets) = outlets.try_borrow_mut()
            && let Some(outlets) = &mut *outlets
            && let Some(text) = text.take()
        {
            outlets.append(log, buffering, level, text);
        }
    });
    if let Some(text) = text {
        let mut record = Vec::new();
        log.record(level, &mut record, text);
        log.write(&record);
    }
}

/// Hands over all lines of this thread that wait.
pub fn flush() {
    OUTLETS.with_borrow_mut(|outlets| {
        if let Some(outlets) = outlets {
            outlets.outlets.iter_mut().for_each(Outlet::flush);
        }
    });
}

/// Hands over those that have waited for as long as `flush=` says, and lets go of logs that this thread has had nothing for
/// in a while, so that those which the configuration does not name any more are closed.
pub fn sweep(now: Instant) {
    OUTLETS.with_borrow_mut(|outlets| {
        if let Some(outlets) = outlets {
            outlets.outlets.retain_mut(|outlet| {
                outlet.flush_due(now);
                !outlet.is_unused(now)
            });
        }
    });
}

impl Outlets {
    fn append(
        &mut self,
        log: &Arc<Log>,
        buffering: Option<Buffering>,
        level: Option<Level>,
        text: impl FnOnce(&mut Vec<u8>),
    ) {
        let is_its = |outlet: &Outlet| Arc::ptr_eq(&outlet.log, log);
        let known = self.outlets.iter().position(is_its);
        let index = known.unwrap_or_else(|| {
            self.outlets.push(Outlet::new(Arc::clone(log)));
            self.outlets.len() - 1
        });
        let outlet = &mut self.outlets[index];
        // Whoever still serves by the configuration before has no time to wait with.
        let buffering = buffering.filter(|_| log.is_named());
        outlet.buffering = buffering;
        outlet.used = true;
        match buffering {
            Some(buffering) => outlet.append_waiting(buffering, level, text),
            None => {
                // A configuration before the present one may have had them wait.
                outlet.flush();
                self.line.clear();
                log.record(level, &mut self.line, text);
                outlet.hand_over(&self.line, 1);
                // One huge line shall not be remembered for ever.
                self.line.shrink_to(KEPT_BYTES);
            }
        }
    }
}

impl Outlet {
    fn new(log: Arc<Log>) -> Self {
        Self {
            log,
            waiting: Vec::new(),
            lines: 0,
            since: None,
            buffering: None,
            ring: None,
            used: true,
            used_at: Instant::now(),
        }
    }

    fn flush_due(&mut self, now: Instant) {
        let flush = self.buffering.and_then(|buffering| buffering.flush);
        if let (Some(since), Some(flush)) = (self.since, flush)
            && now.saturating_duration_since(since) >= flush
        {
            self.flush();
        }
    }

    /// Whether there was nothing for the log for a while. Not as long as anything is on its way to it: what waits in a ring that
    /// nobody fills any more would not count for the most that may.
    fn is_unused(&mut self, now: Instant) -> bool {
        let is_empty = |ring: &Producer<u8>| ring.slots() == ring.buffer().capacity();
        let is_idle = self.waiting.is_empty() && self.ring.as_ref().is_none_or(is_empty);
        if std::mem::take(&mut self.used) || !is_idle {
            self.used_at = now;
        }
        now.saturating_duration_since(self.used_at) >= KEPT_UNUSED
    }

    /// Adds a line to those that wait. As in nginx, they go when one more does not fit, and a line that would not fit by
    /// itself does not wait.
    fn append_waiting(
        &mut self,
        buffering: Buffering,
        level: Option<Level>,
        text: impl FnOnce(&mut Vec<u8>),
    ) {
        let start = self.waiting.len();
        self.log.record(level, &mut self.waiting, text);
        if self.waiting.len() > buffering.bytes && start > 0 {
            let line = self.waiting.split_off(start);
            self.flush();
            self.waiting.extend_from_slice(&line);
        }
        self.lines += 1;
        if self.waiting.len() > buffering.bytes {
            self.flush();
        } else if self.since.is_none() {
            self.since = Some(Instant::now());
        }
    }

    /// Hands over all lines that wait.
    fn flush(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let mut waiting = std::mem::take(&mut self.waiting);
        self.hand_over(&waiting, self.lines);
        waiting.clear();
        waiting.shrink_to(self.buffering.map_or(0, |buffering| buffering.bytes));
        self.waiting = waiting;
        (self.lines, self.since) = (0, None);
    }

    /// Puts whole records into the ring: all, or none.
    fn hand_over(&mut self, records: &[u8], number: u64) {
        let fits = |ring: &mut Producer<u8>| ring.push_entire_slice(records).is_ok();
        let mut is_in = self.ring.as_mut().is_some_and(fits);
        if !is_in && self.grow(records.len()) {
            is_in = self.ring.as_mut().is_some_and(fits);
        }
        match is_in {
            true => self.log.wake(),
            false => self.log.note_lost(number),
        }
    }

    /// Makes a larger ring with room for `bytes`. The writer empties the one before it first.
    fn grow(&mut self, bytes: usize) -> bool {
        let buffer = self.buffering.map_or(0, |buffering| buffering.bytes);
        let most = RING_BYTES_MAX.max(buffer.saturating_mul(2));
        let present = self
            .ring
            .as_ref()
            .map_or(0, |ring| ring.buffer().capacity());
        if present >= most || bytes > most {
            return false;
        }
        let wanted = present.saturating_mul(RING_GROWTH).max(bytes);
        let (producer, consumer) = RingBuffer::new(wanted.clamp(RING_BYTES_MIN, most));
        self.ring = Some(producer);
        self.log.attach(consumer);
        true
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.flush();
    }
}
