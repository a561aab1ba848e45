//! A table of fixed size that all workers write: what is known of a key is one atomic word.
//!
//! A key has a set of places. It is found by a keyed hash of 64 bits, of which the word holds 48 and the set's number tells
//! the rest, so that a key is taken for another one about once in 2^44 times, and by nobody's intention.

use std::collections::TryReserveError;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::Ordering::SeqCst;

use portable_atomic::AtomicU128;

/// Places of a set, in four cache lines.
const PLACES: usize = 16;

const AT_BITS: u32 = 40;
const VALUE_BITS: u32 = 39;
const AT_MAX: u64 = (1 << AT_BITS) - 1;
const VALUE_MAX: u64 = (1 << VALUE_BITS) - 1;

/// A place that holds nothing.
const EMPTY: u128 = 0;

/// The name of a key in one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(u64);

impl Key {
    fn tag(self) -> u64 {
        // Never 0, so that no word is `EMPTY`.
        (self.0 >> 16).max(1)
    }
}

/// What is known of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Milliseconds; kept up to 34 years.
    pub(super) at_ms: u64,
    /// Kept up to 5.4 * 10^11.
    pub(super) value: u64,
}

/// An entry as its place holds it: tag, whether it counts yet, value and time, from the highest bit down.
#[derive(Clone, Copy)]
struct Word(u128);

impl Word {
    fn new(key: Key, settled: bool, entry: Entry) -> Self {
        let value = u128::from(entry.value.min(VALUE_MAX));
        let at_ms = u128::from(entry.at_ms.min(AT_MAX));
        let settled = u128::from(settled) << (VALUE_BITS + AT_BITS);
        Self(u128::from(key.tag()) << 80 | settled | value << AT_BITS | at_ms)
    }

    fn is_of(self, key: Key) -> bool {
        self.0 >> 80 == u128::from(key.tag())
    }

    fn is_settled(self) -> bool {
        self.0 >> (VALUE_BITS + AT_BITS) & 1 == 1
    }

    #[allow(clippy::cast_possible_truncation)] // the masks are narrower
    fn entry(self) -> Entry {
        Entry {
            at_ms: self.0 as u64 & AT_MAX,
            value: (self.0 >> AT_BITS) as u64 & VALUE_MAX,
        }
    }
}

/// All places of some keys.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Set([AtomicU128; PLACES]);

/// What a set holds of a key.
enum Found {
    /// Its entry.
    Settled(usize, Word),
    /// The first announcement of an entry.
    Announced(usize, Word),
    /// Nothing. The place that it may take, and what is in it.
    Nothing(Option<(usize, u128)>),
}

impl Set {
    fn find(&self, key: Key, rank: &impl Fn(Entry) -> Option<u64>) -> Found {
        let mut announced = None;
        // Ranked from 1 on, behind empty places.
        let mut room: Option<(u64, usize, u128)> = None;
        for (place, word) in self.0.iter().enumerate() {
            let raw = load(word);
            let word = Word(raw);
            if word.is_of(key) {
                if word.is_settled() {
                    return Found::Settled(place, word);
                }
                announced = announced.or(Some((place, word)));
                continue;
            }
            let rank = match raw {
                EMPTY => Some(0),
                // Somebody is about to look at it again.
                _ if !word.is_settled() => None,
                _ => rank(word.entry()).map(|rank| rank.saturating_add(1)),
            };
            if let Some(rank) = rank
                && room.is_none_or(|(best, ..)| rank < best)
            {
                room = Some((rank, place, raw));
            }
        }
        match announced {
            Some((place, word)) => Found::Announced(place, word),
            None => Found::Nothing(room.map(|(_, place, raw)| (place, raw))),
        }
    }

    fn replace(&self, place: usize, old: u128, new: u128) -> bool {
        #[cfg(test)]
        interleave();
        let replaced = self.0[place].compare_exchange(old, new, SeqCst, SeqCst);
        replaced.is_ok()
    }

    /// Takes away what else was announced for `key` behind `place`. False if something cannot be taken away any more.
    fn withdraw_behind(&self, key: Key, place: usize) -> bool {
        self.0
            .iter()
            .enumerate()
            .skip(place + 1)
            .all(|(other, word)| {
                let raw = load(word);
                let word = Word(raw);
                !word.is_of(key) || !word.is_settled() && self.replace(other, raw, EMPTY)
            })
    }
}

fn load(word: &AtomicU128) -> u128 {
    #[cfg(test)]
    interleave();
    word.load(SeqCst)
}

#[cfg(test)]
thread_local! {
    /// Whether [`interleave`] does anything on this thread.
    pub(super) static INTERLEAVES: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Lets another thread go on in between, now and then: on few cores hardly anything would meet otherwise.
#[cfg(test)]
fn interleave() {
    if INTERLEAVES.get() && rand::random_ratio(1, 16) {
        std::thread::yield_now();
    }
}

/// The table.
#[derive(Debug)]
pub(super) struct Table {
    sets: Box<[Set]>,
    hasher: RandomState,
}

impl Table {
    /// A table of `bytes`, of one set at the least.
    ///
    /// # Errors
    /// There is no such amount of memory.
    pub(super) fn new(bytes: usize, hasher: RandomState) -> Result<Self, TryReserveError> {
        let number = (bytes / size_of::<Set>()).max(1);
        let mut sets = Vec::new();
        sets.try_reserve_exact(number)?;
        sets.resize_with(number, Set::default);
        Ok(Self {
            sets: sets.into_boxed_slice(),
            hasher,
        })
    }

    pub(super) fn key(&self, bytes: &[u8]) -> Key {
        Key(self.hasher.hash_one(bytes))
    }

    fn set(&self, key: Key) -> &Set {
        // The low bits, which the tag has not, count first.
        #[allow(clippy::cast_possible_truncation)] // that is meant
        let low = u64::from((key.0 as u32).rotate_left(16));
        // Below the number of sets, which is far below 2^32.
        #[allow(clippy::cast_possible_truncation)]
        let index = ((low * self.sets.len() as u64) >> 32) as usize;
        &self.sets[index]
    }

    /// The entry of a key.
    pub(super) fn get(&self, key: Key) -> Option<Entry> {
        match self.set(key).find(key, &|_| None) {
            Found::Settled(_, word) => Some(word.entry()),
            Found::Announced(..) | Found::Nothing(_) => None,
        }
    }

    /// Changes the entry of a key, as one step for every other worker. `change` is told the entry, if there is one, and
    /// returns the new one, or `None` if all stays as it is, and what to return; it may be asked again if others were
    /// faster. Where a new key finds no empty place it takes that of the entry with the lowest `rank`; one without a rank
    /// stays. `None`: there is no place.
    ///
    /// Two workers must not both make an entry of one key. So an entry is announced first, and counts only when somebody
    /// has looked at the whole set after that and found no other of its key: of two such looks the later sees what the
    /// earlier was about. Of two announcements the one in front stays; the other is taken away before the first counts.
    /// Whoever finds an announcement helps it, so that nobody waits.
    pub(super) fn update<T>(
        &self,
        key: Key,
        mut change: impl FnMut(Option<Entry>) -> (Option<Entry>, T),
        rank: impl Fn(Entry) -> Option<u64>,
    ) -> Option<T> {
        let set = self.set(key);
        // An announcement that was there before the next look begins.
        let mut known: Option<(usize, u128)> = None;
        loop {
            match set.find(key, &rank) {
                Found::Settled(place, word) => {
                    if let Some((place, raw)) = known.take() {
                        set.replace(place, raw, EMPTY);
                    }
                    let (new, result) = change(Some(word.entry()));
                    let Some(new) = new else { return Some(result) };
                    if set.replace(place, word.0, Word::new(key, true, new).0) {
                        return Some(result);
                    }
                }
                Found::Announced(place, word) if known == Some((place, word.0)) => {
                    if !set.withdraw_behind(key, place) {
                        continue;
                    }
                    let (new, result) = change(None);
                    let new = new.map_or(EMPTY, |new| Word::new(key, true, new).0);
                    if set.replace(place, word.0, new) {
                        return Some(result);
                    }
                }
                Found::Announced(place, word) => {
                    if let Some((place, raw)) = known {
                        set.replace(place, raw, EMPTY);
                    }
                    known = Some((place, word.0));
                }
                Found::Nothing(room) => {
                    let (new, result) = change(None);
                    let Some(new) = new else { return Some(result) };
                    let (place, raw) = room?;
                    let word = Word::new(key, false, new).0;
                    known = set.replace(place, raw, word).then_some((place, word));
                }
            }
        }
    }

    /// How many places there are.
    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.sets.len() * PLACES
    }

    /// Entries and announcements that there are.
    #[cfg(test)]
    pub(super) fn words(&self) -> Vec<(bool, Entry)> {
        let words = self.sets.iter().flat_map(|set| &set.0);
        let words = words.map(|word| word.load(SeqCst));
        words
            .filter(|&raw| raw != EMPTY)
            .map(|raw| (Word(raw).is_settled(), Word(raw).entry()))
            .collect()
    }
}
