//! A worker's idle clean upstream connections of one group: nginx's `keepalive`.

use std::collections::VecDeque;
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
#[derive(Debug)]
pub struct Pool<P, C> {
    /// The least recently used first, so in ascending order of `since`.
    idle: VecDeque<Idle<P, C>>,
}

#[derive(Debug)]
struct Idle<P, C> {
    peer: P,
    connection: C,
    since: Instant,
}

impl<P, C> Default for Pool<P, C> {
    fn default() -> Self {
        Self {
            idle: VecDeque::new(),
        }
    }
}

impl<P: Copy + Eq, C> Pool<P, C> {
    /// The most recently used idle connection to `peer`.
    pub fn take(&mut self, peer: P) -> Option<C> {
        let place = self.idle.iter().rposition(|idle| idle.peer == peer)?;
        self.idle.remove(place).map(|idle| idle.connection)
    }

    /// Keeps a connection that served without credentials; returns what has to be closed instead (itself, or the least
    /// recently used one).
    pub fn put(
        &mut self,
        peer: P,
        connection: C,
        opened: Instant,
        requests: u64,
        limits: &PoolLimits,
        now: Instant,
    ) -> Option<C> {
        let age = now.saturating_duration_since(opened);
        if limits.connections == 0 || requests >= limits.max_requests || age >= limits.max_age {
            return Some(connection);
        }
        let displaced = if self.idle.len() >= limits.connections {
            self.idle.pop_front()
        } else {
            None
        };
        self.idle.push_back(Idle {
            peer,
            connection,
            since: now,
        });
        displaced.map(|idle| idle.connection)
    }

    /// Removes every connection that is idle too long or that `dead` says is gone, and the least recently used ones beyond
    /// a number that was lowered since they came, for the caller to close.
    pub fn sweep(
        &mut self,
        limits: &PoolLimits,
        now: Instant,
        mut dead: impl FnMut(&C) -> bool,
    ) -> Vec<C> {
        let mut surplus = self.idle.len().saturating_sub(limits.connections);
        let mut removed = Vec::new();
        // Once around, in place: what stays comes out in its old order.
        for _ in 0..self.idle.len() {
            let Some(idle) = self.idle.pop_front() else {
                break;
            };
            let old = now.saturating_duration_since(idle.since) >= limits.idle_timeout;
            if surplus > 0 || old || dead(&idle.connection) {
                surplus = surplus.saturating_sub(1);
                removed.push(idle.connection);
            } else {
                self.idle.push_back(idle);
            }
        }
        removed
    }

    /// Removes the least recently used one, for the caller to close.
    pub fn shed(&mut self) -> Option<C> {
        self.idle.pop_front().map(|idle| idle.connection)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.idle.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: PoolLimits = PoolLimits {
        connections: 3,
        idle_timeout: Duration::from_secs(60),
        max_age: Duration::from_secs(100),
        max_requests: 10,
    };

    #[test]
    fn the_most_recently_used_of_the_peer_is_taken() {
        let now = Instant::now();
        let mut pool = Pool::default();
        for (peer, connection) in [(1, "a"), (1, "b"), (2, "c")] {
            assert_eq!(pool.put(peer, connection, now, 1, &LIMITS, now), None);
        }
        assert_eq!(pool.take(1), Some("b"));
        assert_eq!(pool.take(1), Some("a"));
        assert_eq!(pool.take(1), None);
        assert_eq!(pool.take(3), None);
        assert_eq!(pool.len(), 1);
    }

    #[test]
    fn the_least_recently_used_makes_room() {
        let now = Instant::now();
        let mut pool = Pool::default();
        for connection in ["a", "b", "c"] {
            assert_eq!(pool.put(1, connection, now, 1, &LIMITS, now), None);
        }
        assert_eq!(pool.put(2, "d", now, 1, &LIMITS, now), Some("a"));
        assert_eq!(pool.len(), 3);
    }

    #[test]
    fn what_is_worn_out_is_not_kept() {
        let opened = Instant::now();
        for (what, age, requests, connections, kept) in [
            ("young", 99, 9, 3, true),
            ("old", 100, 9, 3, false),
            ("much used", 99, 10, 3, false),
            ("no room at all", 0, 1, 0, false),
        ] {
            let mut pool = Pool::default();
            let limits = PoolLimits {
                connections,
                ..LIMITS
            };
            let now = opened + Duration::from_secs(age);
            let back = pool.put(1, "it", opened, requests, &limits, now);
            assert_eq!(back.is_none(), kept, "{what}");
            assert_eq!(pool.len(), usize::from(kept), "{what}");
        }
    }

    #[test]
    fn a_sweep_takes_the_idle_the_dead_and_the_surplus() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let filled = || {
            let mut pool = Pool::default();
            for (second, connection) in [(0, "a"), (10, "b"), (20, "c")] {
                pool.put(1, connection, at(second), 1, &LIMITS, at(second));
            }
            pool
        };
        for (what, connections, second, dead, swept) in [
            ("nothing", 3, 59, "", vec![]),
            ("idle", 3, 60, "", vec!["a"]),
            ("idle and dead", 3, 60, "c", vec!["a", "c"]),
            ("all idle", 3, 80, "", vec!["a", "b", "c"]),
            ("surplus", 1, 59, "", vec!["a", "b"]),
            ("surplus and dead", 1, 59, "c", vec!["a", "b", "c"]),
            ("none wanted any more", 0, 59, "", vec!["a", "b", "c"]),
        ] {
            let mut pool = filled();
            let limits = PoolLimits {
                connections,
                ..LIMITS
            };
            let gone = pool.sweep(&limits, at(second), |connection| *connection == dead);
            assert_eq!(gone, swept, "{what}");
            assert_eq!(pool.len(), 3 - swept.len(), "{what}");
        }
    }
}
