//! Choosing a server of an upstream group: the methods, weights, failure counts. Pure: `now` and randomness are arguments.
//! One balancer per worker and group, as nginx without `zone`.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

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
    /// What hashing methods hash and nginx logs: `10.0.0.1:80`, `unix:/run/x`.
    pub name: String,
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

/// Index of a peer in the list that the balancer was made from.
pub type PeerIndex = usize;

/// Chooses peers for one group.
#[derive(Debug)]
pub struct Balancer {
    _peers: Vec<Peer>,
}

impl Balancer {
    /// A balancer over `peers` in their order.
    pub fn new(_method: Method, _peers: Vec<Peer>) -> Self {
        todo!()
    }

    /// Chooses a peer that was not `tried` for this request yet: primary ones first, then backups, as nginx does.
    /// `None`: no live upstreams.
    pub fn pick(
        &mut self,
        _key: &[u8],
        _tried: &[PeerIndex],
        _now: Instant,
        _random: impl FnMut(u64) -> u64,
    ) -> Option<PeerIndex> {
        todo!()
    }

    /// A connection to the peer was opened.
    pub fn opened(&mut self, _peer: PeerIndex) {
        todo!()
    }

    /// A connection to the peer was closed.
    pub fn closed(&mut self, _peer: PeerIndex) {
        todo!()
    }

    /// The peer answered.
    pub fn succeeded(&mut self, _peer: PeerIndex) {
        todo!()
    }

    /// The peer failed a request. True if this failure made it unavailable (to be logged).
    pub fn failed(&mut self, _peer: PeerIndex, _now: Instant) -> bool {
        todo!()
    }
}
