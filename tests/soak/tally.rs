//! What the soak's threads tell each other: when it is over, what disturbs everybody, and what came of every fault.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// For how long a disturbance may still be met, by what begins after it.
const DISTURBED: Duration = Duration::from_secs(2);

/// How a misbehaving client, or one of a misbehaving server, fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// It left without waiting for anything.
    Left,
    /// An answer with this status, whole.
    Answered(u16),
    /// The beginning of an answer, and a close that shows that it is none.
    Cut,
    /// No answer: the connection was closed.
    Closed,
    /// The tunnel brought back every byte.
    Tunnelled,
    /// The connection stayed open although nobody can know any more what follows on it.
    StaysOpen,
    /// Something that is no HTTP, or not what the server sent.
    Broken,
    /// Nothing, for longer than any of the front's timeouts.
    Hung,
}

/// What may change the outcome of any fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disturbance {
    /// The front has as many connections as it may, and turns people away.
    Shortage,
    /// Servers close idle connections, and logins with them.
    IdleClosed,
}

impl Disturbance {
    fn explains(self, outcome: Outcome) -> bool {
        match self {
            Self::Shortage => matches!(outcome, Outcome::Closed | Outcome::Answered(500)),
            Self::IdleClosed => matches!(outcome, Outcome::Closed | Outcome::Answered(502)),
        }
    }
}

/// Shared by all threads of the soak.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    over: AtomicBool,
    /// The last of each kind.
    disturbances: Mutex<Vec<(Disturbance, Instant)>>,
    tally: Mutex<Tally>,
}

/// Counts.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// By the fault's name.
    pub(crate) faults: BTreeMap<&'static str, BTreeMap<Outcome, u64>>,
    /// Logins of clients that misbehave afterwards, and how many of them did not succeed.
    pub(crate) logins: u64,
    pub(crate) failed_logins: u64,
    /// Outcomes that a disturbance explains.
    pub(crate) excused: u64,
    /// Answers for someone else.
    pub(crate) wrong_identities: u64,
    pub(crate) witness_requests: u64,
    /// The longest that a witness waited for an answer, ever and since [`Tally::take_longest`].
    pub(crate) longest: Duration,
    longest_lately: Duration,
    /// What must not be, how often, and the first in full.
    problems: BTreeMap<&'static str, (u64, String)>,
}

impl Shared {
    /// Whether everybody is to leave.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Has everybody leave.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Says that this happens now.
    pub(crate) fn disturb(&self, disturbance: Disturbance) {
        let mut disturbances = lock(&self.disturbances);
        disturbances.retain(|(other, _)| *other != disturbance);
        disturbances.push((disturbance, Instant::now()));
    }

    pub(crate) fn tally(&self) -> MutexGuard<'_, Tally> {
        lock(&self.tally)
    }

    /// Counts what came of a fault that began at `began`.
    pub(crate) fn note(
        &self,
        fault: &'static str,
        expected: &[Outcome],
        outcome: Outcome,
        began: Instant,
        details: impl FnOnce() -> String,
    ) {
        let explained = lock(&self.disturbances)
            .iter()
            .any(|(disturbance, at)| *at + DISTURBED > began && disturbance.explains(outcome));
        let mut tally = self.tally();
        *tally
            .faults
            .entry(fault)
            .or_default()
            .entry(outcome)
            .or_default() += 1;
        if expected.contains(&outcome) {
            return;
        }
        if explained {
            tally.excused += 1;
        } else {
            tally.problem(fault, format!("{outcome:?}: {}", details()));
        }
    }
}

impl Tally {
    pub(crate) fn problem(&mut self, kind: &'static str, details: String) {
        self.problems.entry(kind).or_insert((0, details)).0 += 1;
    }

    pub(crate) fn wrong_identity(&mut self, details: String) {
        self.wrong_identities += 1;
        self.problem("wrong identity", details);
    }

    /// A witness was answered after so long.
    pub(crate) fn witnessed(&mut self, took: Duration) {
        self.witness_requests += 1;
        self.longest = self.longest.max(took);
        self.longest_lately = self.longest_lately.max(took);
    }

    pub(crate) fn take_longest(&mut self) -> Duration {
        std::mem::take(&mut self.longest_lately)
    }

    /// Faults so far.
    pub(crate) fn faults(&self) -> u64 {
        self.faults.values().flat_map(BTreeMap::values).sum()
    }

    pub(crate) fn unexpected(&self) -> u64 {
        self.problems.values().map(|(count, _)| count).sum()
    }

    /// Every kind of problem, how often, and the first in full. Empty for a faithful front.
    pub(crate) fn problems(&self) -> String {
        let lines = self.problems.iter();
        lines
            .map(|(kind, (count, first))| format!("{kind}: {count}, first: {first}\n"))
            .collect()
    }

    /// Every fault and what came of it.
    pub(crate) fn table(&self) -> String {
        let lines = self.faults.iter();
        lines
            .map(|(name, outcomes)| format!("  {name:<32} {outcomes:?}\n"))
            .collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
