//! How much counters have grown lately, for those who say what is wrong now.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// What is lately, at the least; at most it is twice as much.
const LATELY: Duration = Duration::from_secs(60);

/// Remembers what counters were one to two times [`LATELY`] ago.
#[derive(Debug)]
pub struct Recent<const N: usize> {
    /// When `newer` was taken.
    at: Cell<Instant>,
    newer: Cell<[u64; N]>,
    older: Cell<[u64; N]>,
}

impl<const N: usize> Recent<N> {
    /// From now on, with counters at 0.
    pub fn new(now: Instant) -> Self {
        Self {
            at: Cell::new(now),
            newer: Cell::new([0; N]),
            older: Cell::new([0; N]),
        }
    }

    /// How much the counters, which are at `counts` now, have grown lately.
    pub fn growth(&self, counts: [u64; N], now: Instant) -> [u64; N] {
        let passed = now.saturating_duration_since(self.at.get());
        if passed >= LATELY {
            let before = match passed < 2 * LATELY {
                true => self.newer.get(),
                // Nobody looked in between.
                false => counts,
            };
            self.older.set(before);
            self.newer.set(counts);
            self.at.set(now);
        }
        let older = self.older.get();
        std::array::from_fn(|n| counts[n].wrapping_sub(older[n]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_two_minutes_is_forgotten() {
        let start = Instant::now();
        let recent = Recent::new(start);
        for (second, count, expected) in [
            (1, 5, 5),
            (59, 7, 7),
            (60, 7, 7),
            (100, 9, 9),
            // What there was a minute ago is all that is forgotten.
            (120, 10, 3),
            (179, 10, 3),
            (180, 10, 0),
            (1000, 50, 0),
            (1001, 51, 1),
        ] {
            let now = start + Duration::from_secs(second);
            assert_eq!(recent.growth([count], now), [expected], "{second}");
        }
    }
}
