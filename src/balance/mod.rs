//! Choosing a server of an upstream group: the methods, weights, failure counts. Pure: `now` and randomness are arguments.
//! One balancer per worker and group, as nginx without `zone`.
//!
//! Every method does what nginx's does, down to the hashes, so that a configuration that comes from there finds each
//! client at the server where it was:
//!
//! * Each method looks among the primary servers; a hash or random method that misses 21 times asks smooth weighted
//!   round robin instead. Without an available primary server the backups are asked, and a request that was sent to a
//!   backup stays with them.
//! * A server is unavailable while it is `down`, at its `max_conns`, or has failed `max_fails` times and was not tried
//!   for `fail_timeout` since. Then one request tries it; if that succeeds, the count starts anew.
//! * When all have failed there is no last resort: no live upstreams.
//! * A server that is alone in its group never becomes unavailable by failing.
#![forbid(unsafe_code)]

mod hash;
mod ketama;
mod peer;
mod random;
mod weighted;

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use ketama::Ring;
use peer::PeerState;

/// The balancing method of an `upstream` block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// Smooth weighted round robin.
    #[default]
    RoundRobin,
    /// `least_conn`
    LeastConn,
    /// `ip_hash`: the caller passes the client address's bytes (the first three of IPv4, all sixteen of IPv6) as key.
    IpHash,
    /// `hash key [consistent]`: the caller passes the rendered key.
    Hash {
        /// Ketama points instead of a modulus.
        consistent: bool,
    },
    /// `random [two [least_conn]]`
    Random {
        /// Picks two, takes the one with fewer connections.
        two: bool,
    },
}

/// One address of a `server` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address, as nginx logs it: `10.0.0.1:80`, `unix:/run/x`.
    pub name: String,
    /// The argument of the `server` line as it is written there, `backend:8080` or `10.0.0.1`, the same for all the
    /// addresses of a name. What `hash … consistent` hashes.
    pub server: String,
    /// `weight=`, at least 1.
    pub weight: u32,
    /// `max_fails=`; 0 turns failure counting off.
    pub max_fails: u32,
    /// `fail_timeout=`
    pub fail_timeout: Duration,
    /// `max_conns=`; 0 for no limit.
    pub max_conns: u32,
    /// `backup`
    pub backup: bool,
    /// `down`
    pub down: bool,
}

impl Default for Peer {
    /// A `server` line without parameters.
    fn default() -> Self {
        Self {
            name: String::new(),
            server: String::new(),
            weight: 1,
            max_fails: 1,
            fail_timeout: Duration::from_secs(10),
            max_conns: 0,
            backup: false,
            down: false,
        }
    }
}

/// Whether requests are sent to a peer, and if not, why. In the order of what is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Availability {
    /// They are.
    Up,
    /// `max_conns` are in use.
    Full,
    /// It failed `max_fails` times and has not succeeded since: it is tried once in `fail_timeout`.
    Failed,
    /// `down`
    Down,
}

impl Availability {
    /// Every value, in the order of the variants.
    pub const ALL: [Self; 4] = [Self::Up, Self::Full, Self::Failed, Self::Down];

    /// The word for labels.
    pub fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Full => "full",
            Self::Failed => "failed",
            Self::Down => "down",
        }
    }
}

/// Index of a peer in the list that the balancer was made from.
pub type PeerIndex = usize;

/// Chooses peers for one group.
#[derive(Debug)]
pub struct Balancer {
    method: Method,
    peers: Vec<PeerState>,
    /// In the order of the configuration, as `backups` is; together they are all of `peers`.
    primaries: Vec<PeerIndex>,
    backups: Vec<PeerIndex>,
    /// Sum of the weights of `primaries`, those that are down included, or else a hash would lead elsewhere.
    primary_weight: u64,
    /// Empty unless the method is `hash … consistent`.
    ring: Ring,
}

/// One request's question.
struct Question<'a> {
    key: &'a [u8],
    tried: &'a [PeerIndex],
    now: Instant,
}

/// How often a hash or random method may miss before round robin takes over: nginx counts to 20, from 0.
const ATTEMPTS: u32 = 21;

impl Balancer {
    /// A balancer over `peers` in their order.
    pub fn new(method: Method, peers: Vec<Peer>) -> Self {
        let (backups, primaries): (Vec<_>, Vec<_>) =
            (0..peers.len()).partition(|index| peers[*index].backup);
        let primary_weight = primaries
            .iter()
            .map(|index| u64::from(peers[*index].weight))
            .sum();
        let ring = match method {
            Method::Hash { consistent: true } => Ring::new(&peers, &primaries),
            _ => Ring::default(),
        };
        Self {
            method,
            peers: peers.into_iter().map(PeerState::new).collect(),
            primaries,
            backups,
            primary_weight,
            ring,
        }
    }

    /// Chooses a peer that was not `tried` for this request yet: primary ones first, then backups, as nginx does.
    /// `None`: no live upstreams. `random(n)` answers a number below `n`.
    pub fn pick(
        &mut self,
        key: &[u8],
        tried: &[PeerIndex],
        now: Instant,
        random: impl FnMut(u64) -> u64,
    ) -> Option<PeerIndex> {
        let question = Question { key, tried, now };
        let sent_to_backup = tried.iter().any(|index| self.backups.contains(index));
        let primary = if sent_to_backup {
            None
        } else {
            self.pick_primary(&question, random)
        };
        let index = primary.or_else(|| self.pick_backup(&question))?;
        self.peers[index].chosen(now);
        Some(index)
    }

    /// A connection to the peer is in use from now on: opened, or taken from the pool. `max_conns` and `least_conn` count
    /// these; one that is idle in the pool is not among them, as in nginx, but a pin is for as long as it lives.
    pub fn opened(&mut self, peer: PeerIndex) {
        if let Some(state) = self.peers.get_mut(peer) {
            state.connections += 1;
        }
    }

    /// A connection to the peer is no longer in use: closed, or returned to the pool.
    pub fn closed(&mut self, peer: PeerIndex) {
        if let Some(state) = self.peers.get_mut(peer) {
            debug_assert!(state.connections > 0, "closed follows opened");
            state.connections = state.connections.saturating_sub(1);
        }
    }

    /// The peer answered.
    pub fn succeeded(&mut self, peer: PeerIndex) {
        if let Some(state) = self.peers.get_mut(peer) {
            state.succeeded();
        }
    }

    /// The peer failed a request. True if it is unavailable now (to be logged).
    pub fn failed(&mut self, peer: PeerIndex, now: Instant) -> bool {
        if self.peers.len() == 1 {
            return false;
        }
        self.peers
            .get_mut(peer)
            .is_some_and(|state| state.failed(now))
    }

    /// What is known of a peer.
    pub fn availability(&self, peer: PeerIndex) -> Availability {
        let state = self.peers.get(peer);
        state.map_or(Availability::Down, PeerState::availability)
    }

    fn pick_primary(
        &mut self,
        question: &Question,
        random: impl FnMut(u64) -> u64,
    ) -> Option<PeerIndex> {
        let chosen = if self.primaries.len() < 2 {
            None
        } else {
            match self.method {
                Method::RoundRobin => None,
                Method::LeastConn => {
                    return weighted::least_conn(&mut self.peers, &self.primaries, question);
                }
                Method::IpHash => self.ip_hash(question),
                Method::Hash { .. } if question.key.is_empty() => None,
                Method::Hash { consistent: false } => self.hash(question),
                Method::Hash { consistent: true } => self.ring.pick(&mut self.peers, question),
                Method::Random { two: false } => self.random(question, random),
                Method::Random { two: true } => self.random_two(question, random),
            }
        };
        chosen.or_else(|| weighted::round_robin(&mut self.peers, &self.primaries, question))
    }

    fn pick_backup(&mut self, question: &Question) -> Option<PeerIndex> {
        if self.method == Method::LeastConn {
            weighted::least_conn(&mut self.peers, &self.backups, question)
        } else {
            weighted::round_robin(&mut self.peers, &self.backups, question)
        }
    }

    /// The primary peer at `point` of their weights laid end to end: `point < primary_weight`.
    fn primary_at(&self, mut point: u64) -> Option<PeerIndex> {
        self.primaries.iter().copied().find(|index| {
            let weight = u64::from(self.peers[*index].peer.weight);
            let here = point < weight;
            point = point.saturating_sub(weight);
            here
        })
    }
}
