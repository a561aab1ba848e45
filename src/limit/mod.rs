//! Limits of what one key may do, counted by all workers together: requests in a time, requests at the same time, logins
//! that fail.
//!
//! A [`Zone`] is the only thing in the process that several workers write. It has a fixed size, is made by the control
//! thread, and is touched by requests only where a limit is configured. No operation of it waits for another core.
#![forbid(unsafe_code)]

pub mod failures;
pub mod rate;
mod table;
#[cfg(test)]
mod tests;

use std::collections::TryReserveError;
use std::hash::RandomState;
use std::time::{Duration, Instant};

use failures::{Admission, FailLimits, Failures};
use rate::Rate;
pub use table::Key;
use table::{Entry, Table};

/// What is known of each key. One zone is used in one of three ways: with [`Zone::look`] and [`Zone::charge`] it holds
/// leaky buckets, with [`Zone::enter`] and [`Zone::leave`] counts, with [`Zone::login_failed`] and [`Zone::admit_login`]
/// failed logins.
///
/// A key has 16 places, of 16 bytes each: 65536 to a mebibyte. A bucket, or a key with failures, that finds no room takes the
/// place of the one that was charged, or failed, longest ago, a count only that of one that is 0.
#[derive(Debug)]
pub struct Zone {
    table: Table,
    /// Times are kept as milliseconds since then.
    epoch: Instant,
}

/// A charge would exceed the burst: nothing was charged. In thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded(pub u64);

/// Why a key cannot be counted up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The count is as high as it may be.
    Reached,
    /// There is no room for another key.
    Full,
}

impl Zone {
    /// A zone of `bytes`, in which `hasher` decides what is where: nobody who does not know its keys can aim at a place.
    ///
    /// # Errors
    /// There is no such amount of memory.
    pub fn new(bytes: usize, hasher: RandomState, epoch: Instant) -> Result<Self, TryReserveError> {
        let table = Table::new(bytes, hasher)?;
        Ok(Self { table, epoch })
    }

    /// How the zone names a key.
    pub fn key(&self, bytes: &[u8]) -> Key {
        self.table.key(bytes)
    }

    /// What the excess would be if `key` were charged now, in thousandths. Charges nothing.
    pub fn look(&self, key: Key, rate: Rate, now: Instant) -> u64 {
        rate::excess(self.table.get(key), rate, self.ms(now))
    }

    /// Charges one unit to the bucket of `key`, from which `rate` flows out. Returns the excess, in thousandths: 0 for the
    /// first, or for one that comes when all before it has flowed out.
    ///
    /// # Errors
    /// The excess would be above `burst`, in thousandths.
    pub fn charge(&self, key: Key, rate: Rate, burst: u64, now: Instant) -> Result<u64, Exceeded> {
        let now_ms = self.ms(now);
        let charge = |bucket: Option<Entry>| {
            let excess = rate::excess(bucket, rate, now_ms);
            if excess > burst {
                return (None, Err(Exceeded(excess)));
            }
            // The clocks of two workers are some milliseconds apart.
            let at_ms = bucket.map_or(now_ms, |bucket| bucket.at_ms.max(now_ms));
            let charged = Entry {
                at_ms,
                value: excess,
            };
            (Some(charged), Ok(excess))
        };
        let longest_ago = |bucket: Entry| Some(bucket.at_ms);
        // No place at all: as many newcomers as it has places are being entered at this moment. It need not be counted.
        self.table.update(key, charge, longest_ago).unwrap_or(Ok(0))
    }

    /// Counts `key` up. To be followed by one [`Zone::leave`].
    ///
    /// # Errors
    /// The count is `limit` already, or the zone is full.
    pub fn enter(&self, key: Key, limit: u64, now: Instant) -> Result<(), Refused> {
        let at_ms = self.ms(now);
        let enter = |count: Option<Entry>| {
            let value = count.map_or(0, |count| count.value);
            if value >= limit {
                return (None, Err(Refused::Reached));
            }
            let value = value + 1;
            (Some(Entry { at_ms, value }), Ok(()))
        };
        let unused = |count: Entry| (count.value == 0).then_some(count.at_ms);
        self.table
            .update(key, enter, unused)
            .unwrap_or(Err(Refused::Full))
    }

    /// Counts `key` down.
    pub fn leave(&self, key: Key) {
        let leave = |count: Option<Entry>| {
            let counted = count.map(|count| Entry {
                value: count.value.saturating_sub(1),
                ..count
            });
            (counted, ())
        };
        // It is there: what has a count keeps its place.
        self.table.update(key, leave, |_| None);
    }

    /// Counts a login of `key` that failed.
    pub fn login_failed(&self, key: Key, limits: &FailLimits, now: Instant) {
        let since_epoch = now.saturating_duration_since(self.epoch);
        let failed = |known: Option<Entry>| {
            let failures = known.map_or_else(Failures::default, Failures::from);
            let failed = failures.failed(limits, since_epoch);
            (Some(Entry::from(failed)), ())
        };
        // Without room, as with `charge`: it is not counted.
        self.table.update(key, failed, |entry| Some(entry.at_ms));
    }

    /// Asks whether a login of `key` may go on, and takes its turn.
    pub fn admit_login(&self, key: Key, limits: &FailLimits, now: Instant) -> Admission {
        let since_epoch = now.saturating_duration_since(self.epoch);
        let admit = |known: Option<Entry>| {
            let Some(known) = known else {
                return (None, Admission::Now);
            };
            let (failures, admission) = Failures::from(known).admit(limits, since_epoch);
            (Some(Entry::from(failures)), admission)
        };
        let admitted = self.table.update(key, admit, |entry| Some(entry.at_ms));
        admitted.unwrap_or(Admission::Now)
    }

    fn ms(&self, now: Instant) -> u64 {
        let since: Duration = now.saturating_duration_since(self.epoch);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}
