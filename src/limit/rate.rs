//! The leaky bucket as nginx has it: a request adds 1, the rate takes away, and what is in it before a request is that
//! request's excess. All of it in thousandths of a request.

use super::table::Entry;

/// One request.
const REQUEST: u64 = 1000;

/// How fast a bucket empties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Thousandths of a request in a second, at least 1.
    thousandths: u64,
}

impl Rate {
    /// `requests` in a second, at least 1.
    pub fn per_second(requests: u64) -> Self {
        Self {
            thousandths: requests.saturating_mul(REQUEST).max(1),
        }
    }

    /// `requests` in a minute, at least 1; rounded down to thousandths in a second, as nginx does.
    pub fn per_minute(requests: u64) -> Self {
        Self {
            thousandths: (requests.saturating_mul(REQUEST) / 60).max(1),
        }
    }

    /// How many milliseconds `excess` takes to flow out, down to `undelayed`.
    pub fn delay_ms(self, excess: u64, undelayed: u64) -> u64 {
        excess.saturating_sub(undelayed).saturating_mul(1000) / self.thousandths
    }
}

/// The excess of a request that comes at `now_ms`; `None` is a bucket that never had one.
pub(super) fn excess(bucket: Option<Entry>, rate: Rate, now_ms: u64) -> u64 {
    let Some(bucket) = bucket else { return 0 };
    let passed_ms = now_ms.saturating_sub(bucket.at_ms);
    let flowed_out = rate.thousandths.saturating_mul(passed_ms) / 1000;
    (bucket.value + REQUEST).saturating_sub(flowed_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What nginx computes, with its signed numbers.
    fn as_in_nginx(excess: i64, rate: i64, passed_ms: i64) -> i64 {
        (excess - rate * passed_ms / 1000 + 1000).max(0)
    }

    #[test]
    fn rates() {
        for (rate, thousandths) in [
            (Rate::per_second(1), 1000),
            (Rate::per_second(10), 10_000),
            (Rate::per_minute(60), 1000),
            (Rate::per_minute(30), 500),
            (Rate::per_minute(1), 16),
            (Rate::per_second(u64::MAX), u64::MAX),
        ] {
            assert_eq!(rate.thousandths, thousandths);
        }
    }

    #[test]
    fn excesses() {
        assert_eq!(excess(None, Rate::per_second(1), 5), 0);
        let rates = [
            Rate::per_second(1),
            Rate::per_second(10),
            Rate::per_second(997),
            Rate::per_minute(7),
        ];
        for rate in rates {
            for value in [0, 1, 999, 1000, 1001, 5000, 123_456] {
                for passed_ms in [0, 1, 9, 10, 99, 100, 101, 999, 1000, 1001, 60_000] {
                    let bucket = Entry { at_ms: 77, value };
                    let signed = |n: u64| i64::try_from(n).unwrap();
                    assert_eq!(
                        signed(excess(Some(bucket), rate, 77 + passed_ms)),
                        as_in_nginx(signed(value), signed(rate.thousandths), signed(passed_ms)),
                        "{value} after {passed_ms} ms at {rate:?}"
                    );
                }
            }
        }
        // Another worker's clock was ahead.
        let bucket = Entry {
            at_ms: 100,
            value: 3000,
        };
        assert_eq!(excess(Some(bucket), Rate::per_second(1), 90), 4000);
    }

    #[test]
    fn delays() {
        for (rate, excess, undelayed, expected_ms) in [
            (Rate::per_second(10), 0, 0, 0),
            (Rate::per_second(10), 1000, 0, 100),
            (Rate::per_second(10), 1500, 0, 150),
            (Rate::per_second(10), 3000, 2000, 100),
            (Rate::per_second(10), 2000, 2000, 0),
            (Rate::per_second(10), 1000, 2000, 0),
            (Rate::per_second(10), 5000, u64::MAX, 0),
            (Rate::per_minute(1), 1000, 0, 62_500),
            (Rate::per_second(1_000_000), 1, 0, 0),
        ] {
            let ms = rate.delay_ms(excess, undelayed);
            assert_eq!(ms, expected_ms, "{rate:?}: {excess} over {undelayed}");
        }
    }
}
