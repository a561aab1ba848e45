//! Failed logins of one client address, and how long its next login waits (`ntlm_fail_delay`). Replayed handshakes guess
//! passwords and lock accounts, whoever's they are.

use std::time::Duration;

use super::table::Entry;

/// The parameters of `ntlm_fail_delay`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailLimits {
    /// How far apart logins are let through once `after` of them failed; twice as far with every further failure.
    pub delay: Duration,
    /// `after`: failures that cost nothing.
    pub after: u8,
    /// `forget`, in whole seconds: after so long one failure is forgotten, after twice as long two.
    pub forget: Duration,
    /// `max`: the longest that logins are kept apart, and that one waits. One that would wait longer is refused.
    pub max: Duration,
}

impl FailLimits {
    /// The limits with this delay and the default of everything else.
    pub fn new(delay: Duration) -> Self {
        Self {
            delay,
            after: 3,
            forget: Duration::from_secs(60),
            max: Duration::from_secs(30),
        }
    }
}

/// What is known of an address. Times are counted from an epoch that the caller keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// Failures that count still.
    pub count: u8,
    /// When the oldest of them began to be forgotten, in seconds. Of no meaning while there is none.
    pub since_s: u64,
    /// When the next login has its turn, in milliseconds.
    pub turn_ms: u64,
}

/// Whether a login goes on now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// At once.
    Now,
    /// When this time is over. Its turn is taken: the next one comes after it.
    After(Duration),
    /// Not at all: its turn would come too late.
    Refused,
}

impl Failures {
    /// One more login failed. `now` is the time since the epoch.
    pub fn failed(self, limits: &FailLimits, now: Duration) -> Self {
        let state = self.at(limits, now);
        let since_s = match state.count {
            0 => now.as_secs(),
            _ => state.since_s,
        };
        Self {
            count: state.count.saturating_add(1),
            since_s,
            // Also when it was heard of last.
            turn_ms: state.turn_ms.max(ms(now)),
        }
    }

    /// Asks whether a login may go on.
    pub fn admit(self, limits: &FailLimits, now: Duration) -> (Self, Admission) {
        let state = self.at(limits, now);
        let Some(excess) = state.count.checked_sub(limits.after) else {
            return (state, Admission::Now);
        };
        let apart = limits.delay.saturating_mul(1 << u32::from(excess).min(24));
        let apart = apart.min(limits.max);
        let turn = now.max(Duration::from_millis(state.turn_ms));
        let wait = turn - now;
        if wait > limits.max {
            return (state, Admission::Refused);
        }
        let admission = match wait.is_zero() {
            true => Admission::Now,
            false => Admission::After(wait),
        };
        let turn_ms = ms(turn + apart);
        (Self { turn_ms, ..state }, admission)
    }

    /// The state with what is forgotten by `now` taken off.
    fn at(self, limits: &FailLimits, now: Duration) -> Self {
        // Another worker's clock may be a moment ahead.
        let age = now.as_secs().saturating_sub(self.since_s);
        let period = limits.forget.as_secs().max(1);
        let forgotten = age / period;
        let count = u64::from(self.count).saturating_sub(forgotten);
        Self {
            // No more than it was.
            count: count as u8,
            since_s: self.since_s + forgotten * period,
            turn_ms: self.turn_ms,
        }
    }
}

/// How an entry's value holds the two numbers that are no turn: 31 bits are 68 years of seconds.
const SINCE_BITS: u32 = 31;

impl From<Entry> for Failures {
    #[allow(clippy::cast_possible_truncation)] // a value has 39 bits
    fn from(entry: Entry) -> Self {
        Self {
            count: (entry.value >> SINCE_BITS) as u8,
            since_s: entry.value & ((1 << SINCE_BITS) - 1),
            turn_ms: entry.at_ms,
        }
    }
}

impl From<Failures> for Entry {
    fn from(failures: Failures) -> Self {
        let since_s = failures.since_s & ((1 << SINCE_BITS) - 1);
        Self {
            value: u64::from(failures.count) << SINCE_BITS | since_s,
            at_ms: failures.turn_ms,
        }
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    const LIMITS: FailLimits = FailLimits {
        delay: SECOND,
        after: 2,
        forget: Duration::from_secs(60),
        max: Duration::from_secs(8),
    };

    fn failed(times: usize, at: Duration) -> Failures {
        (0..times).fold(Failures::default(), |state, _| state.failed(&LIMITS, at))
    }

    /// What each of a number of logins that come at once is told, in seconds.
    fn waits(mut state: Failures, logins: usize, at: Duration) -> Vec<Option<f64>> {
        let mut admit = || {
            let (next, admission) = state.admit(&LIMITS, at);
            state = next;
            match admission {
                Admission::Now => Some(0.0),
                Admission::After(wait) => Some(wait.as_secs_f64()),
                Admission::Refused => None,
            }
        };
        (0..logins).map(|_| admit()).collect()
    }

    #[test]
    fn logins_of_an_address_come_one_by_one_after_failures() {
        for (failures, expected) in [
            (0, vec![Some(0.0); 4]),
            (1, vec![Some(0.0); 4]),
            (2, vec![Some(0.0), Some(1.0), Some(2.0), Some(3.0)]),
            (3, vec![Some(0.0), Some(2.0), Some(4.0), Some(6.0)]),
            (4, vec![Some(0.0), Some(4.0), Some(8.0), None]),
            (5, vec![Some(0.0), Some(8.0), None, None]),
            (6, vec![Some(0.0), Some(8.0), None, None]),
            (300, vec![Some(0.0), Some(8.0), None, None]),
        ] {
            let at = 1000 * SECOND;
            assert_eq!(waits(failed(failures, at), 4, at), expected, "{failures}");
        }
    }

    #[test]
    fn turns_pass_and_failures_are_forgotten_one_by_one() {
        let at = 1000 * SECOND;
        let (state, admission) = failed(3, at).admit(&LIMITS, at);
        assert_eq!(admission, Admission::Now);
        let wait = |after: Duration| waits(state, 1, at + after)[0];
        assert_eq!(wait(SECOND / 2), Some(1.5));
        assert_eq!(wait(2 * SECOND), Some(0.0));
        for (after, failures) in [(59, 3), (60, 2), (119, 2), (120, 1), (179, 1), (180, 0)] {
            let then = at + after * SECOND;
            assert_eq!(state.at(&LIMITS, then).count, failures, "{after}");
        }
        // A new failure does not keep the old ones from being forgotten.
        let state = state.failed(&LIMITS, at + 59 * SECOND);
        assert_eq!(state.at(&LIMITS, at + 59 * SECOND).count, 4);
        assert_eq!(state.at(&LIMITS, at + 60 * SECOND).count, 3);
    }

    #[test]
    fn an_entry_holds_all_of_it() {
        for failures in [
            Failures::default(),
            Failures {
                count: 255,
                since_s: (1 << SINCE_BITS) - 1,
                turn_ms: 1 << 39,
            },
        ] {
            assert_eq!(Failures::from(Entry::from(failures)), failures);
        }
    }

    proptest! {
        #[test]
        fn logins_are_never_closer_than_their_delay(
            failures in 2usize..300,
            steps in prop::collection::vec(0u64..3000, 1..50),
        ) {
            let (mut now, mut last) = (1000 * SECOND, None::<Duration>);
            let mut state = failed(failures, now);
            for step in steps {
                now += Duration::from_millis(step);
                let (next, admission) = state.admit(&LIMITS, now);
                state = next;
                let turn = match admission {
                    Admission::Now => now,
                    Admission::After(wait) => now + wait,
                    Admission::Refused => continue,
                };
                prop_assert!(turn <= now + LIMITS.max);
                if let Some(last) = last
                    && state.at(&LIMITS, now).count >= LIMITS.after
                {
                    // Turns are whole milliseconds.
                    let least = last + LIMITS.delay - Duration::from_millis(1);
                    prop_assert!(turn >= least, "{turn:?} {last:?}");
                }
                last = Some(turn);
            }
        }
    }
}
