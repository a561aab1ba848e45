//! A worker's idle clean upstream connections of one group: nginx's `keepalive`.

use std::time::{Duration, Instant};

/// The `keepalive` directives of an `upstream` block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// `keepalive connections`: how many idle ones are kept; 0 keeps none.
    pub connections: usize,
    /// `keepalive_timeout`: how long one may stay idle.
    pub idle_timeout: Duration,
    /// `keepalive_time`: age after which one is closed instead of kept.
    pub max_age: Duration,
    /// `keepalive_requests`: requests after which one is closed instead of kept.
    pub max_requests: u64,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self {
            connections: 32,
            idle_timeout: Duration::from_secs(60),
            max_age: Duration::from_secs(3600),
            max_requests: 1000,
        }
    }
}

/// Idle clean connections, the most recently used first. The peer (`P`) is the server they lead to.
#[derive(Debug, Default)]
pub struct Pool<P, C> {
    _idle: Vec<(P, C)>,
}

impl<P: Copy + Eq, C> Pool<P, C> {
    /// The most recently used idle connection to `peer`.
    pub fn take(&mut self, _peer: P) -> Option<C> {
        todo!()
    }

    /// Keeps a connection that served without credentials; returns what has to be closed instead (itself, or the least
    /// recently used one).
    pub fn put(
        &mut self,
        _peer: P,
        _connection: C,
        _opened: Instant,
        _requests: u64,
        _limits: &PoolLimits,
        _now: Instant,
    ) -> Option<C> {
        todo!()
    }

    /// Removes every connection that is idle too long or that `dead` says is gone, for the caller to close.
    pub fn sweep(
        &mut self,
        _limits: &PoolLimits,
        _now: Instant,
        _dead: impl FnMut(&C) -> bool,
    ) -> Vec<C> {
        todo!()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
