//! Counters of one worker: written by its thread only, read by any.

use std::array;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use crate::http::refusal::Refusal;
use crate::net::Usage;
use crate::pin::{EndReason, LoginEnd, Scheme};

use super::groups::GroupCounters;
use super::handshakes::Handshakes;
use super::histogram::Histogram;

/// A number that only grows. Only one thread may add to it, which is why a load and a store are enough.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds `number`; wraps around after 2^64.
    pub fn add(&self, number: u64) {
        let old = self.0.load(Ordering::Relaxed);
        self.0.store(old.wrapping_add(number), Ordering::Relaxed);
    }

    /// The number so far.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that grows and shrinks. Only one thread may change it.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Exactly this many.
    pub fn set(&self, number: u64) {
        self.0.store(number, Ordering::Relaxed);
    }

    /// One more.
    pub fn rise(&self) {
        let old = self.0.load(Ordering::Relaxed);
        self.0.store(old.wrapping_add(1), Ordering::Relaxed);
    }

    /// One less.
    pub fn fall(&self) {
        let old = self.0.load(Ordering::Relaxed);
        self.0.store(old.wrapping_sub(1), Ordering::Relaxed);
    }

    /// How many there are.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one worker counts. On cache lines of its own, so that no worker slows another.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counters {
    /// Client connections accepted.
    pub accepted: Count,
    /// Client connections accepted and not closed at once for want of room (`worker_connections`). At most `accepted`.
    pub handled: Count,
    /// When one was closed at once for the last time, in seconds since 1970; 0 is never.
    pub turned_away_at: Gauge,
    /// Requests whose head was read, refused ones too.
    pub requests: Count,
    /// Client connections open now: at least `reading` + `writing` + `waiting`.
    pub active: Gauge,
    /// Client connections in the middle of a request head.
    pub reading: Gauge,
    /// Client connections whose request is being carried or answered.
    pub writing: Gauge,
    /// Client connections without a request.
    pub waiting: Gauge,
    /// Those of them that hold a pin.
    pub pinned: Gauge,
    /// Final answers to clients by the first digit of their status.
    pub responses: Responses,
    /// From a request's head to the end of its answer.
    pub request_time: Histogram,
    /// From a request's having been sent to a server to the head of its answer.
    pub header_time: Histogram,
    /// Bytes received from clients.
    pub bytes_in: Count,
    /// Bytes sent to clients.
    pub bytes_out: Count,
    /// Pins made.
    pub pins_created: Count,
    /// Pins ended, by reason.
    pub pins_ended: PinEnds,
    /// Logins that ended, by scheme and end.
    pub logins: Logins,
    /// Requests that were legs of logins, those of logins under way included.
    pub login_legs: Count,
    /// Logins that succeeded in the last minutes.
    pub lately_succeeded: Gauge,
    /// Logins that failed in the last minutes.
    pub lately_failed: Gauge,
    /// Messages of clients and servers refused, by reason.
    pub refusals: Refusals,
    /// Handshakes with clients.
    pub client_tls: Handshakes,
    /// Handshakes with servers.
    pub upstream_tls: Handshakes,
    /// Connections to servers that are open now.
    pub upstream_connections: Gauge,
    /// Connections to servers that were opened.
    pub upstream_opened: Count,
    /// Requests that went out on a pooled connection.
    pub upstream_reused: Count,
    /// Connections to servers that could not be opened, or failed with a request on them.
    pub upstream_failed: Count,
    /// Clients that left before their answer was complete.
    pub client_aborts: Count,
    /// Processor time of the thread, in microseconds.
    pub cpu_us: Gauge,
    /// What its runtime and its driver use.
    pub usage: UsageGauges,
    /// What it counts for each group, and for all that have none of their own. Replaced by the worker when groups change.
    pub groups: ArcSwap<Vec<Arc<GroupCounters>>>,
}

/// [`Usage`] as it was seen last.
#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct UsageGauges {
    pub turns: Gauge,
    pub tasks: Gauge,
    pub pipes_used: Gauge,
    pub pipes_free: Gauge,
    pub pipes_refused: Gauge,
    pub completions: Gauge,
    pub buffers_used: Gauge,
    pub buffers_free: Gauge,
    pub buffers_exhausted: Gauge,
}

impl UsageGauges {
    /// Takes a look over.
    pub fn set(&self, usage: &Usage) {
        self.turns.set(usage.turns);
        self.tasks.set(usage.tasks);
        self.pipes_used.set(usage.pipes_used);
        self.pipes_free.set(usage.pipes_free);
        self.pipes_refused.set(usage.pipes_refused);
        self.completions.set(usage.completions);
        self.buffers_used.set(usage.buffers_used);
        self.buffers_free.set(usage.buffers_free);
        self.buffers_exhausted.set(usage.buffers_exhausted);
    }
}

/// Final answers by class.
#[derive(Debug, Default)]
pub struct Responses([Count; 5]);

impl Responses {
    /// Counts an answer. Statuses outside 100 to 599 are counted as 5xx.
    pub fn count(&self, status: u16) {
        let class = usize::from(status / 100);
        self.0[if (1..=5).contains(&class) {
            class - 1
        } else {
            4
        }]
        .add(1);
    }

    /// The classes (1 for 1xx) and their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u16, u64)> {
        (1..).zip(self.0.iter().map(Count::value))
    }
}

/// Ends of pins by reason.
#[derive(Debug, Default)]
pub struct PinEnds([Count; EndReason::ALL.len()]);

impl PinEnds {
    /// Counts an end.
    pub fn count(&self, reason: EndReason) {
        // ALL lists the variants in their order.
        self.0[reason as usize].add(1);
    }

    /// The reasons and their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (EndReason, u64)> {
        EndReason::ALL
            .into_iter()
            .zip(self.0.iter().map(Count::value))
    }
}

/// Ends of logins by scheme and end.
#[derive(Debug, Default)]
pub struct Logins([[Count; LoginEnd::ALL.len()]; Scheme::ALL.len()]);

impl Logins {
    /// Counts an end.
    pub fn count(&self, scheme: Scheme, end: LoginEnd) {
        // Either ALL lists the variants in their order.
        self.0[scheme as usize][end as usize].add(1);
    }

    /// The numbers of each end, all schemes together, in the order of [`LoginEnd::ALL`].
    pub fn by_end(&self) -> [u64; LoginEnd::ALL.len()] {
        let sum = |end: usize| self.0.iter().map(|ends| ends[end].value()).sum();
        array::from_fn(sum)
    }

    /// The schemes, the ends and their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (Scheme, LoginEnd, u64)> {
        Scheme::ALL
            .into_iter()
            .zip(&self.0)
            .flat_map(|(scheme, ends)| {
                let ends = LoginEnd::ALL.into_iter().zip(ends);
                ends.map(move |(end, count)| (scheme, end, count.value()))
            })
    }
}

/// Refused messages by reason.
#[derive(Debug)]
pub struct Refusals([Count; Refusal::ALL.len()]);

impl Default for Refusals {
    fn default() -> Self {
        Self(array::from_fn(|_| Count::default()))
    }
}

impl Refusals {
    /// Counts a refused message.
    pub fn count(&self, refusal: Refusal) {
        // ALL lists the variants in their order.
        self.0[refusal as usize].add(1);
    }

    /// The reasons and their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (Refusal, u64)> {
        let all = Refusal::ALL.iter().copied();
        all.zip(self.0.iter().map(Count::value))
    }
}

/// The text of nginx's `stub_status` over all workers.
pub fn stub_status(workers: &[Arc<Counters>]) -> String {
    StubStatus(workers).to_string()
}

struct StubStatus<'a>(&'a [Arc<Counters>]);

impl StubStatus<'_> {
    fn sum(&self, value: impl Fn(&Counters) -> u64) -> u64 {
        self.0.iter().map(|counters| value(counters)).sum()
    }
}

impl fmt::Display for StubStatus<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The blanks before the line ends are nginx's, and scripts match them.
        writeln!(
            f,
            "Active connections: {} ",
            self.sum(|counters| counters.active.value())
        )?;
        writeln!(f, "server accepts handled requests")?;
        writeln!(
            f,
            " {} {} {} ",
            self.sum(|counters| counters.accepted.value()),
            self.sum(|counters| counters.handled.value()),
            self.sum(|counters| counters.requests.value()),
        )?;
        writeln!(
            f,
            "Reading: {} Writing: {} Waiting: {} ",
            self.sum(|counters| counters.reading.value()),
            self.sum(|counters| counters.writing.value()),
            self.sum(|counters| counters.waiting.value()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stub_status_sums_the_workers() {
        let workers = [1, 10].map(|weight| {
            let counters = Counters::default();
            counters.accepted.add(5 * weight);
            counters.handled.add(4 * weight);
            counters.requests.add(9 * weight);
            counters.active.set(3 * weight);
            counters.reading.set(1);
            counters.writing.set(weight);
            Arc::new(counters)
        });
        assert_eq!(
            stub_status(&workers),
            "Active connections: 33 \nserver accepts handled requests\n 55 44 99 \nReading: 2 Writing: 11 Waiting: 0 \n"
        );
    }

    #[test]
    fn answers_by_class() {
        let responses = Responses::default();
        for status in [101, 200, 204, 302, 401, 404, 499, 502, 0, 600, 999] {
            responses.count(status);
        }
        assert_eq!(
            responses.iter().collect::<Vec<_>>(),
            [(1, 1), (2, 2), (3, 1), (4, 3), (5, 4)]
        );
    }

    #[test]
    fn every_reason_has_its_own_count() {
        let ends = PinEnds::default();
        for (number, reason) in EndReason::ALL.into_iter().enumerate() {
            for _ in 0..number {
                ends.count(reason);
            }
        }
        for (number, (reason, count)) in ends.iter().enumerate() {
            assert_eq!(reason, EndReason::ALL[number]);
            assert_eq!(count, number as u64);
        }
    }

    #[test]
    fn every_end_of_a_login_has_its_own_count() {
        let logins = Logins::default();
        let mut expected = Vec::new();
        for scheme in Scheme::ALL {
            for end in LoginEnd::ALL {
                for _ in 0..expected.len() {
                    logins.count(scheme, end);
                }
                expected.push((scheme, end, expected.len() as u64));
            }
        }
        assert_eq!(logins.iter().collect::<Vec<_>>(), expected);
        let of = |end| expected.iter().filter(move |(_, it, _)| *it == end);
        let sums = LoginEnd::ALL.map(|end| of(end).map(|(_, _, number)| number).sum::<u64>());
        assert_eq!(logins.by_end(), sums);
    }

    #[test]
    fn every_refusal_has_its_own_count() {
        let refusals = Refusals::default();
        for (number, refusal) in Refusal::ALL.iter().enumerate() {
            for _ in 0..number {
                refusals.count(*refusal);
            }
        }
        for (number, (refusal, count)) in refusals.iter().enumerate() {
            assert_eq!(refusal, Refusal::ALL[number]);
            assert_eq!(count, number as u64);
        }
    }
}
