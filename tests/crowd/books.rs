//! The books: what each client connection proved to each group, and so whose identity its answers may carry.
//!
//! They know nothing of the front but its promises, and they are kept by the clients.

use std::collections::BTreeMap;

use crate::plan::Leg;

/// What a front must never do, by a word to count it under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Violation {
    /// An answer was made for someone else than who this client connection proved to be to this group.
    WrongIdentity,
    /// The same, with an identity that this client connection had and lost.
    CameBack,
    /// An answer was made for nobody although the login holds.
    LoginLost,
    /// A login did not come to the end that the server gives it.
    HandshakeCut,
    /// A status that nothing explains.
    WrongStatus,
    /// The client connection ended without an answer.
    Closed,
    /// The body is not what the server sent.
    WrongBody,
}

/// What happened, counted, with the first violation of each kind in full.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) requests: u64,
    /// Requests whose answers were read to the end.
    pub(crate) answers: u64,
    pub(crate) connections: u64,
    /// Logins that succeeded.
    pub(crate) logins: u64,
    /// Requests without credentials that were answered as the one who had logged in.
    pub(crate) recognised: u64,
    /// Logins that ended before their client did, as limits, evictions and servers end them.
    pub(crate) ended: u64,
    /// What a server's closing explains, by the violation that it would be otherwise.
    pub(crate) excused: BTreeMap<Violation, u64>,
    violations: BTreeMap<Violation, (u64, String)>,
}

impl Findings {
    pub(crate) fn report(&mut self, violation: Violation, details: String) {
        let (count, _) = self.violations.entry(violation).or_insert((0, details));
        *count += 1;
    }

    pub(crate) fn excuse(&mut self, violation: Violation) {
        *self.excused.entry(violation).or_default() += 1;
    }

    pub(crate) fn excused(&self) -> u64 {
        self.excused.values().sum()
    }

    pub(crate) fn count(&self, violation: Violation) -> u64 {
        self.violations
            .get(&violation)
            .map_or(0, |(count, _)| *count)
    }

    /// Violations of every kind.
    pub(crate) fn all_violations(&self) -> u64 {
        self.violations.values().map(|(count, _)| count).sum()
    }

    /// Every kind of violation, how often, and the first in full. Empty for a faithful front.
    pub(crate) fn violations(&self) -> String {
        let lines = self.violations.iter();
        lines
            .map(|(violation, (count, first))| format!("{violation:?}: {count}, first: {first}\n"))
            .collect()
    }
}

/// Whether logins may end before their clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holding {
    /// No limit is reached, nothing closes: a login holds until the next one.
    Always,
    /// Limits, evictions and servers end logins.
    UntilEnded,
}

/// One client connection and one group.
#[derive(Debug, Default)]
pub(crate) struct Book {
    /// Who this client connection is to this group.
    proved: Option<usize>,
    /// Who it was, until the login ended by itself. May not come back.
    lost: Option<usize>,
}

impl Book {
    /// Whether a login holds, as far as the client can know.
    pub(crate) fn is_logged_in(&self) -> bool {
        self.proved.is_some()
    }

    /// The server closed the connection that the login was on.
    pub(crate) fn server_closed(&mut self, findings: &mut Findings) {
        if let Some(proved) = self.proved.take() {
            findings.ended += 1;
            self.lost = Some(proved);
        }
    }

    /// A request without credentials was answered as `answered`.
    pub(crate) fn check_request(
        &mut self,
        answered: Option<usize>,
        holding: Holding,
        findings: &mut Findings,
        details: impl Fn() -> String,
    ) {
        match (self.proved, answered) {
            (proved, answered) if proved == answered => {
                findings.recognised += u64::from(proved.is_some());
            }
            (Some(_), None) if holding == Holding::UntilEnded => self.server_closed(findings),
            (proved, _) => {
                let violation = match answered {
                    None => Violation::LoginLost,
                    Some(_) if proved.is_none() && self.lost == answered => Violation::CameBack,
                    Some(_) => Violation::WrongIdentity,
                };
                let details = format!("proved {proved:?}, answered {answered:?}: {}", details());
                findings.report(violation, details);
            }
        }
    }

    /// A request with credentials was answered as `answered`. `expected`: who it logs in, if it ends a login well. False if
    /// the login did not end well although it should have.
    pub(crate) fn check_login(
        &mut self,
        leg: Leg,
        expected: Option<usize>,
        answered: Option<usize>,
        for_this_request: bool,
        findings: &mut Findings,
        details: impl Fn() -> String,
    ) -> bool {
        (self.proved, self.lost) = (None, None);
        if let Some(answered) = answered.filter(|answered| Some(*answered) != expected) {
            let details = format!("{leg:?} answered {answered:?}: {}", details());
            findings.report(Violation::WrongIdentity, details);
            return true;
        }
        if answered != expected {
            return false;
        }
        if expected.is_some() {
            findings.logins += 1;
            if !for_this_request {
                self.proved = answered;
            }
        }
        true
    }
}
