//! Everything that the process shows of itself: what its workers count, and what the control thread knows.

use std::fmt;
use std::sync::{Arc, Weak};

use arc_swap::{ArcSwap, ArcSwapOption};
use serde::Serialize;

use crate::net::Driver;

use super::counters::{Count, Counters};
use super::groups::unix_seconds;
use super::log::Log;

/// What is shown. Workers write their own counters, the control thread the rest; whoever shows it only reads.
pub struct Figures {
    /// Those of each worker.
    pub workers: Vec<Arc<Counters>>,
    /// What the workers wait with.
    pub driver: Driver,
    /// When the process began, in seconds since 1970.
    pub started: u64,
    /// Reloads that changed the configuration.
    pub reloads: Count,
    /// Reloads that changed nothing, because the configuration is bad.
    pub failed_reloads: Count,
    /// How the last reload ended; `None` before the first.
    pub last_reload: ArcSwapOption<Reload>,
    /// Whether logins can be bound to certificates: of each server block and each server behind it, as far as logins pass.
    pub bindings: ArcSwap<Vec<Binding>>,
    /// Comparisons of certificates that came to be different.
    pub mismatches: Count,
    /// The certificates that clients are shown.
    pub certificates: ArcSwap<Vec<Certificate>>,
    /// The logs that are open.
    pub logs: ArcSwap<Vec<Weak<Log>>>,
}

/// How a reload ended.
#[derive(Clone, Debug)]
pub struct Reload {
    /// When, in seconds since 1970.
    pub at: u64,
    /// Why the old configuration is still in force.
    pub problem: Option<String>,
}

/// Whether a server block and a server behind it show the same certificate (RFC 5929: what a login is bound to).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Binding {
    /// The server block's first name.
    pub server: String,
    /// The group that its logins go to.
    pub upstream: String,
    /// The server of the group, or `all` where they are spoken to without TLS.
    pub peer: String,
    /// What came of the comparison.
    pub state: BindingState,
    /// Why it is not the same; empty if it is.
    pub reason: String,
    /// What the server shows.
    pub shown: Option<(String, i64)>,
}

/// What came of a comparison. In the order of what is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum BindingState {
    Same,
    Unknown,
    Different,
}

impl BindingState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Same, Self::Unknown, Self::Different];

    /// The word for labels.
    pub fn word(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Unknown => "unknown",
            Self::Different => "different",
        }
    }
}

/// A certificate that clients are shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Certificate {
    /// The server block's first name.
    pub server: String,
    /// Whom it is for.
    pub subject: String,
    /// When it expires, in seconds since 1970.
    pub expires: i64,
}

impl Figures {
    /// For so many workers.
    pub fn new(workers: usize, driver: Driver) -> Self {
        Self {
            workers: (0..workers).map(|_| Arc::default()).collect(),
            driver,
            started: unix_seconds(),
            reloads: Count::default(),
            failed_reloads: Count::default(),
            last_reload: ArcSwapOption::empty(),
            bindings: ArcSwap::default(),
            mismatches: Count::default(),
            certificates: ArcSwap::default(),
            logs: ArcSwap::default(),
        }
    }

    /// The logs that are still open.
    pub fn open_logs(&self) -> Vec<Arc<Log>> {
        self.logs.load().iter().filter_map(Weak::upgrade).collect()
    }

    /// Notes how a reload ended. For the control thread.
    pub fn reloaded(&self, problem: Option<String>) {
        match &problem {
            None => self.reloads.add(1),
            Some(_) => self.failed_reloads.add(1),
        }
        let at = unix_seconds();
        self.last_reload
            .store(Some(Arc::new(Reload { at, problem })));
    }

    /// A sum over all workers.
    pub fn sum(&self, value: impl Fn(&Counters) -> u64) -> u64 {
        self.workers.iter().map(|counters| value(counters)).sum()
    }
}

impl fmt::Debug for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Figures")
            .field("workers", &self.workers.len())
            .finish_non_exhaustive()
    }
}
