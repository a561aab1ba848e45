//! What one worker counts for each upstream group and each of its servers: written by its thread only, read by any.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;

use crate::balance::Availability;
use crate::pin::State;

use super::counters::{Count, Counters, Gauge, Responses};

/// Ages above which a pin is counted as older, in seconds: a minute, ten, an hour, a working day.
pub const PIN_AGES_SECONDS: [u64; 4] = [60, 600, 3600, 28_800];

/// Pins by whether they are established and by age: up to each of [`PIN_AGES_SECONDS`], and beyond.
pub type PinAges = [[u64; PIN_AGES_SECONDS.len() + 1]; 2];

/// What pins there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PinCensus {
    /// Handshaking ones, and established ones.
    pub ages: PinAges,
    /// Established ones without a request in flight.
    pub idle: u64,
    /// How many of these one worker keeps (`ntlm`); 0 where nothing is pinned.
    pub idle_limit: u64,
}

impl PinCensus {
    /// Counts a pin.
    pub fn count(&mut self, state: State, age_seconds: u64) {
        let place = PIN_AGES_SECONDS.iter().position(|&age| age_seconds <= age);
        let established = usize::from(state == State::Established);
        self.ages[established][place.unwrap_or(PIN_AGES_SECONDS.len())] += 1;
    }

    /// Adds those of another group or worker.
    pub fn add(&mut self, other: &Self) {
        let ours = self.ages.as_flattened_mut().iter_mut();
        for (ours, theirs) in ours.zip(other.ages.as_flattened()) {
            *ours += theirs;
        }
        self.idle += other.idle;
        self.idle_limit += other.idle_limit;
    }

    /// All of them.
    pub fn pins(&self) -> u64 {
        self.ages.as_flattened().iter().sum()
    }

    /// Pins whose login is not over.
    pub fn handshaking(&self) -> u64 {
        self.ages[0].iter().sum()
    }

    /// Established pins with a request in flight.
    pub fn active(&self) -> u64 {
        let established: u64 = self.ages[1].iter().sum();
        established.saturating_sub(self.idle)
    }
}

/// A worker's counts for one group.
#[derive(Debug, Default)]
pub struct GroupCounters {
    /// The group's name; empty for those together that requests name, and those that a reload took away.
    pub name: String,
    /// Idle logins that were ended to make room for others: `ntlm` is not enough.
    pub table_full: Count,
    /// When that happened last, in seconds since 1970; 0 is never.
    pub table_full_at: Gauge,
    ages: [[Gauge; PIN_AGES_SECONDS.len() + 1]; 2],
    idle: Gauge,
    idle_limit: Gauge,
    /// Its servers, each name once. Replaced by the worker when they change.
    pub peers: ArcSwap<Vec<Arc<PeerCounters>>>,
}

impl GroupCounters {
    /// For a group of this name.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// Takes a count of the pins over.
    pub fn set_census(&self, census: &PinCensus) {
        let ages = census.ages.as_flattened().iter();
        for (gauge, number) in self.ages.as_flattened().iter().zip(ages) {
            gauge.set(*number);
        }
        self.idle.set(census.idle);
        self.idle_limit.set(census.idle_limit);
    }

    /// The pins that were counted last.
    pub fn census(&self) -> PinCensus {
        PinCensus {
            ages: std::array::from_fn(|state| {
                std::array::from_fn(|age| self.ages[state][age].value())
            }),
            idle: self.idle.value(),
            idle_limit: self.idle_limit.value(),
        }
    }
}

/// A worker's counts for one server of a group.
#[derive(Debug, Default)]
pub struct PeerCounters {
    /// What logs call it.
    pub name: String,
    /// It is asked only where no other server is there (`backup`).
    pub backup: bool,
    /// Heads of final answers, by class.
    pub answers: Responses,
    /// What they took from the request's having been sent, in microseconds, added up.
    pub header_us: Count,
    /// Connections that were opened.
    pub opened: Count,
    /// Connections that could not be opened and requests that failed, as `max_fails` counts them.
    pub failures: Count,
    /// When that happened last, in seconds since 1970; 0 is never.
    pub failed_at: Gauge,
    /// Open connections.
    pub connections: Gauge,
    /// Those of them that are not idle in the pool; a pin never is.
    pub in_use: Gauge,
    state: Gauge,
}

impl PeerCounters {
    /// For a server of this name.
    pub fn new(name: &str, backup: bool) -> Self {
        Self {
            name: name.to_owned(),
            backup,
            ..Self::default()
        }
    }

    /// Counts a failure.
    pub fn failed(&self) {
        self.failures.add(1);
        self.failed_at.set(unix_seconds());
    }

    /// Notes how the worker sees it.
    pub fn set_state(&self, state: Availability) {
        self.state.set(state as u64);
    }

    /// How the worker saw it last.
    pub fn state(&self) -> Availability {
        let state = Availability::ALL.get(self.state.value() as usize);
        state.copied().unwrap_or(Availability::Up)
    }
}

/// The groups of all workers at one time.
pub struct Snapshot(Vec<Seen>);

/// A group as one worker sees it.
pub struct Seen {
    /// The worker's number.
    pub worker: usize,
    /// What it counts.
    pub group: Arc<GroupCounters>,
    peers: Arc<Vec<Arc<PeerCounters>>>,
}

/// Servers by group and name.
pub type Servers<'a> = BTreeMap<(&'a str, &'a str), ServerFigures>;

/// What all workers together count for a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // as in `PeerCounters`
pub struct ServerFigures {
    /// How many workers see it in each of [`Availability::ALL`].
    pub states: [u64; Availability::ALL.len()],
    pub backup: bool,
    pub connections: u64,
    pub in_use: u64,
    pub opened: u64,
    /// By class, 1xx first.
    pub answers: [u64; 5],
    pub header_us: u64,
    pub failures: u64,
    pub failed_at: u64,
}

impl Snapshot {
    /// Of these workers.
    pub fn of(workers: &[Arc<Counters>]) -> Self {
        let mut seen = Vec::new();
        for (worker, counters) in workers.iter().enumerate() {
            for group in &**counters.groups.load() {
                seen.push(Seen {
                    worker,
                    group: Arc::clone(group),
                    peers: group.peers.load_full(),
                });
            }
        }
        Self(seen)
    }

    /// The groups, worker by worker.
    pub fn groups(&self) -> &[Seen] {
        &self.0
    }

    /// The servers of the groups that the configuration names, by group and server.
    pub fn servers(&self) -> Servers<'_> {
        let mut servers = Servers::new();
        for Seen { group, peers, .. } in &self.0 {
            for peer in &**peers {
                let figures = servers.entry((&group.name, &peer.name)).or_default();
                figures.add(peer);
            }
        }
        servers
    }
}

impl ServerFigures {
    /// The worst that a worker sees, and how many see it so.
    pub fn worst(&self) -> (Availability, u64) {
        let states = Availability::ALL.into_iter().zip(self.states).rev();
        let mut seen = states.filter(|(_, workers)| *workers > 0);
        seen.next().unwrap_or((Availability::Up, 0))
    }

    fn add(&mut self, peer: &PeerCounters) {
        self.states[peer.state() as usize] += 1;
        self.backup |= peer.backup;
        self.connections += peer.connections.value();
        self.in_use += peer.in_use.value();
        self.opened += peer.opened.value();
        for (ours, (_, theirs)) in self.answers.iter_mut().zip(peer.answers.iter()) {
            *ours += theirs;
        }
        self.header_us += peer.header_us.value();
        self.failures += peer.failures.value();
        self.failed_at = self.failed_at.max(peer.failed_at.value());
    }
}

/// Seconds since 1970. For what is rare: it asks the clock.
pub fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_counted_by_state_and_age() {
        let mut census = PinCensus::default();
        for (state, age) in [
            (State::Handshaking, 0),
            (State::Established, 60),
            (State::Established, 61),
            (State::Established, 28_800),
            (State::Established, 28_801),
        ] {
            census.count(state, age);
        }
        census.idle = 3;
        assert_eq!(census.ages, [[1, 0, 0, 0, 0], [1, 1, 0, 1, 1]]);
        assert_eq!((census.handshaking(), census.active()), (1, 1));
        let counters = GroupCounters::new("mail");
        counters.set_census(&census);
        assert_eq!(counters.census(), census);
        let mut twice = census;
        twice.add(&census);
        assert_eq!((twice.ages[1][0], twice.idle), (2, 6));
    }

    #[test]
    fn a_state_is_what_was_set() {
        let peer = PeerCounters::new("10.0.0.1:80", false);
        assert_eq!(peer.state(), Availability::Up);
        for state in Availability::ALL {
            peer.set_state(state);
            assert_eq!(peer.state(), state);
        }
    }
}
