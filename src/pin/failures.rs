//! Failed logins of one client address, and how long its next login waits (`ntlm_fail_delay`). Replayed handshakes guess
//! passwords and lock accounts, whoever's they are.

use std::time::Duration;

/// The parameters of `ntlm_fail_delay`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailLimits {
    /// How far apart logins are let through once `after` of them failed; twice as far with every further failure.
    pub delay: Duration,
    /// `after`: failures that cost nothing.
    pub after: u8,
    /// `forget`: after so long one failure is forgotten, after twice as long two.
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

/// What is known of an address, in 64 bits so that one atomic holds it. 0 is nothing.
///
/// Times are counted in ticks of a sixteenth of a second from an epoch that the caller keeps, and come around after 194
/// days: an entry that was not touched for half of that may count for the future. It then keeps its address waiting `max` at
/// the most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures(u64);

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

const TICKS_PER_SECOND: u128 = 16;
const TICK_BITS: u32 = 28;
const TICK_MASK: u64 = (1 << TICK_BITS) - 1;

impl Failures {
    /// What [`Failures::bits`] gave.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// All of it as a number.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// One more login failed. `now` is the time since the epoch.
    pub fn failed(self, limits: &FailLimits, now: Duration) -> Self {
        let state = self.at(limits, now);
        match state.count() {
            0 => Self::new(1, ticks(now), ticks(now)),
            count => Self::new(count.saturating_add(1), state.since(), state.turn()),
        }
    }

    /// Asks whether a login may go on.
    pub fn admit(self, limits: &FailLimits, now: Duration) -> (Self, Admission) {
        let state = self.at(limits, now);
        let Some(excess) = state.count().checked_sub(limits.after) else {
            return (state, Admission::Now);
        };
        let doubled = limits.delay.saturating_mul(1 << u32::from(excess).min(24));
        let apart = doubled.min(limits.max);
        let wait = duration(ahead(state.turn(), ticks(now)));
        if wait > limits.max {
            return (state, Admission::Refused);
        }
        let turn = ticks(now + wait + apart);
        let state = Self::new(state.count(), state.since(), turn);
        match wait.is_zero() {
            true => (state, Admission::Now),
            false => (state, Admission::After(wait)),
        }
    }

    /// Whether nothing of it counts any more.
    pub fn is_forgotten(self, limits: &FailLimits, now: Duration) -> bool {
        self.at(limits, now).count() == 0
    }

    /// The state with what is forgotten by `now` taken off.
    fn at(self, limits: &FailLimits, now: Duration) -> Self {
        if self.count() == 0 {
            return Self::default();
        }
        let now = ticks(now);
        let age = ahead(now, self.since());
        let period = ticks(limits.forget).max(1);
        let forgotten = age / period;
        let Some(count) = u8::try_from(forgotten)
            .ok()
            .and_then(|forgotten| self.count().checked_sub(forgotten))
            .filter(|&count| count > 0)
        else {
            return Self::default();
        };
        let since = (self.since() + forgotten * period) & TICK_MASK;
        // A turn that is over says nothing.
        let turn = match ahead(self.turn(), now) {
            0 => now,
            _ => self.turn(),
        };
        Self::new(count, since, turn)
    }

    fn new(count: u8, since: u64, turn: u64) -> Self {
        Self(u64::from(count) << (2 * TICK_BITS) | since << TICK_BITS | turn)
    }

    fn count(self) -> u8 {
        (self.0 >> (2 * TICK_BITS)) as u8
    }

    /// When the oldest failure that counts began to be forgotten.
    fn since(self) -> u64 {
        self.0 >> TICK_BITS & TICK_MASK
    }

    /// When the next login has its turn.
    fn turn(self) -> u64 {
        self.0 & TICK_MASK
    }
}

fn ticks(time: Duration) -> u64 {
    let ticks = time.as_millis() * TICKS_PER_SECOND / 1000;
    ticks as u64 & TICK_MASK
}

fn duration(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND as u64)
}

/// How far `later` is ahead of `earlier`; 0 if it is behind.
fn ahead(later: u64, earlier: u64) -> u64 {
    let distance = later.wrapping_sub(earlier) & TICK_MASK;
    if distance <= TICK_MASK / 2 {
        distance
    } else {
        0
    }
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
            assert_eq!(state.at(&LIMITS, then).count(), failures, "{after}");
            assert_eq!(state.is_forgotten(&LIMITS, then), failures == 0, "{after}");
        }
        // A new failure does not keep the old ones from being forgotten.
        let state = state.failed(&LIMITS, at + 59 * SECOND);
        assert_eq!(state.at(&LIMITS, at + 59 * SECOND).count(), 4);
        assert_eq!(state.at(&LIMITS, at + 60 * SECOND).count(), 3);
    }

    #[test]
    fn the_clock_may_come_around() {
        let end = duration(TICK_MASK);
        let at = end - SECOND;
        let (state, _) = failed(2, at).admit(&LIMITS, at);
        assert_eq!(waits(state, 2, at), [Some(1.0), Some(2.0)]);
        let then = end + 2 * SECOND;
        assert_eq!(waits(state, 2, then), [Some(0.0), Some(1.0)]);
        assert!(state.is_forgotten(&LIMITS, then + 120 * SECOND));
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
                    && state.at(&LIMITS, now).count() >= LIMITS.after
                {
                    // Times are whole ticks.
                    prop_assert!(turn + SECOND / 8 >= last + LIMITS.delay, "{turn:?} {last:?}");
                }
                last = Some(turn);
            }
        }
    }
}
