//! How long something took, counted by one thread and read by any.

use std::time::Duration;

use super::counters::Count;

/// The first bound, in microseconds: the time of a worker's turn is no finer.
const FIRST_US: u64 = 500;

/// Bounds: each is twice the one before, so that finding a duration's place takes no search. The last is 65.536 s.
pub const BOUNDS: usize = 18;

/// Durations by size.
#[derive(Debug, Default)]
pub struct Histogram {
    /// One for each bound, and one for what is beyond the last.
    buckets: [Count; BOUNDS + 1],
    sum_us: Count,
}

impl Histogram {
    /// The bound of a bucket, in microseconds.
    pub fn bound_us(bucket: usize) -> u64 {
        FIRST_US << bucket
    }

    /// Counts a duration.
    #[inline]
    pub fn record(&self, time: Duration) {
        let us = whole_us(time);
        let doublings = u64::BITS - (us.saturating_sub(1) / FIRST_US).leading_zeros();
        self.buckets[(doublings as usize).min(BOUNDS)].add(1);
        self.sum_us.add(us);
    }

    /// How many durations are in each bucket and in none below it; the last one is for those beyond every bound.
    pub fn buckets(&self) -> [u64; BOUNDS + 1] {
        std::array::from_fn(|bucket| self.buckets[bucket].value())
    }

    /// The sum of all durations, in microseconds.
    pub fn sum_us(&self) -> u64 {
        self.sum_us.value()
    }
}

/// A duration in microseconds. Of one that takes millennia it does not matter which.
#[inline]
pub fn whole_us(time: Duration) -> u64 {
    let seconds_us = time.as_secs().wrapping_mul(1_000_000);
    seconds_us.wrapping_add(u64::from(time.subsec_micros()))
}

/// Microseconds as seconds. Their shortest decimal notation (`0.0005`) is what OpenMetrics calls canonical.
pub fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        for (us, bucket) in [
            (0, 0),
            (1, 0),
            (500, 0),
            (501, 1),
            (1_000, 1),
            (1_001, 2),
            (2_000, 2),
            (2_001, 3),
            (65_536_000, 17),
            (65_536_001, 18),
            (10_000_000_000, 18),
        ] {
            let histogram = Histogram::default();
            histogram.record(Duration::from_micros(us));
            let mut expected = [0; BOUNDS + 1];
            expected[bucket] = 1;
            assert_eq!(histogram.buckets(), expected, "{us}");
            assert_eq!(histogram.sum_us(), us);
            let within = bucket == BOUNDS || us <= Histogram::bound_us(bucket);
            assert!(within && (bucket == 0 || us > Histogram::bound_us(bucket - 1)));
        }
        Histogram::default().record(Duration::MAX);
    }
}
