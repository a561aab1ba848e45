//! The pins of one client connection.

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::credentials::Credentials;

/// An upstream group, the same number for the same name through every reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId(pub u32);

/// The limits of a group's pins: the `ntlm` directives of an `upstream` block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `ntlm connections`: idle established pins that one worker keeps for the group.
    pub connections: usize,
    /// `ntlm_timeout`: how long an established pin may stay idle.
    pub idle_timeout: Duration,
    /// `ntlm_time`: age from the opening of the upstream connection.
    pub max_age: Duration,
    /// `ntlm_requests`: requests sent over it.
    pub max_requests: u64,
    /// `ntlm_reauth same`: tokens that are no NTLM message stay on an established pin.
    pub reauth_same: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 100,
            idle_timeout: Duration::from_secs(60),
            max_age: Duration::from_secs(3600),
            max_requests: 1000,
            reauth_same: false,
        }
    }
}

/// Where a login is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Credentials were sent, and the last answer was 401 or 407, or has not come yet.
    Handshaking,
    /// The server took the login.
    Established,
}

/// What a pin has to know of the final answer to a request on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// It is a 401 that asks for the next leg of a login ([`challenges`](super::credentials::challenges)).
    pub challenge: bool,
    /// `Persistent-Auth: false` was said: the server authenticates each request by itself.
    pub persistent_auth_false: bool,
}

/// Why a pin ended. A counter's label and the log's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum EndReason {
    ClientClosed,
    UpstreamClosed,
    Idle,
    Age,
    Requests,
    Evicted,
    NewCredentials,
    Error,
    Shutdown,
}

impl EndReason {
    /// Every reason, in the order of the counters.
    pub const ALL: [EndReason; 9] = [
        EndReason::ClientClosed,
        EndReason::UpstreamClosed,
        EndReason::Idle,
        EndReason::Age,
        EndReason::Requests,
        EndReason::Evicted,
        EndReason::NewCredentials,
        EndReason::Error,
        EndReason::Shutdown,
    ];

    /// The word for logs and labels, `client_closed` and so on.
    pub fn word(self) -> &'static str {
        match self {
            EndReason::ClientClosed => "client_closed",
            EndReason::UpstreamClosed => "upstream_closed",
            EndReason::Idle => "idle",
            EndReason::Age => "age",
            EndReason::Requests => "requests",
            EndReason::Evicted => "evicted",
            EndReason::NewCredentials => "new_credentials",
            EndReason::Error => "error",
            EndReason::Shutdown => "shutdown",
        }
    }
}

/// How a request travels.
#[derive(Debug)]
pub enum Plan<C> {
    /// On the pin that is there; it is out of [`Pins`] until [`Pins::answered`] gives it back, so that nothing else can use it
    /// and a lost one is closed by being dropped.
    OnPin(Pinned<C>),
    /// The request carries credentials and needs a clean connection, which becomes a pin by [`Pins::bind`]. If a pin had to
    /// end first, it is here, to be closed before anything is sent.
    Bind {
        /// The pin that ended, and why.
        ended: Option<(Pinned<C>, EndReason)>,
    },
    /// The request has no credentials: a connection of the pool, or a new one. A pin that a limit ended is here to be closed.
    Plain {
        /// The pin that ended, and why.
        ended: Option<(Pinned<C>, EndReason)>,
    },
}

/// A pin: one upstream connection bound to one client connection. Not `Clone`, and its connection cannot be taken out
/// other than by dropping it.
///
/// So a connection that carried credentials cannot get into the pool. This is how a clean one gets there:
///
/// ```
/// use std::time::Instant;
/// use ntlmfront::pin::{Pool, pool::PoolLimits};
///
/// struct Connection;
/// fn keep(pool: &mut Pool<u8, Connection>, clean: Connection, opened: Instant, now: Instant) {
///     pool.put(0, clean, opened, 1, &PoolLimits::default(), now);
/// }
/// ```
///
/// and this is the same with a pin, which does not compile, whether it is tried with the field
///
/// ```compile_fail,E0616
/// use std::time::Instant;
/// use ntlmfront::pin::{Pinned, Pool, pool::PoolLimits};
///
/// struct Connection;
/// fn keep(pool: &mut Pool<u8, Connection>, pin: Pinned<Connection>, opened: Instant, now: Instant) {
///     pool.put(0, pin.bond.connection, opened, 1, &PoolLimits::default(), now);
/// }
/// ```
///
/// or with what the pin lends:
///
/// ```compile_fail,E0507
/// use std::time::Instant;
/// use ntlmfront::pin::{Pinned, Pool, pool::PoolLimits};
///
/// struct Connection;
/// fn keep(pool: &mut Pool<u8, Connection>, mut pin: Pinned<Connection>, opened: Instant, now: Instant) {
///     pool.put(0, *pin.connection_mut(), opened, 1, &PoolLimits::default(), now);
/// }
/// ```
///
/// Let `C` be no `Default` and no `Clone`, so that `std::mem::take` or a copy is no way around.
#[derive(Debug)]
pub struct Pinned<C> {
    /// In a box, because a pin leaves [`Pins`] and comes back with every request.
    bond: Box<Bond<C>>,
}

#[derive(Debug)]
struct Bond<C> {
    connection: C,
    group: GroupId,
    /// A number for logs (`$pin_id`).
    id: u64,
    state: State,
    opened: Instant,
    /// When the last answer was complete. Of no meaning before the first.
    idle_since: Instant,
    /// Requests sent on the connection, the one in flight and those before it became a pin included.
    requests: u64,
    /// The server's last answer said `Persistent-Auth: false`: it authenticates each request by itself.
    authenticates_each_request: bool,
    /// The last answer to credentials asked for the next leg of the login.
    challenged: bool,
}

impl<C> Pinned<C> {
    /// The upstream connection, to be used but not taken.
    pub fn connection(&self) -> &C {
        &self.bond.connection
    }

    /// The same, for changes.
    pub fn connection_mut(&mut self) -> &mut C {
        &mut self.bond.connection
    }

    /// The group it belongs to.
    pub fn group(&self) -> GroupId {
        self.bond.group
    }

    /// `$pin_id`
    pub fn id(&self) -> u64 {
        self.bond.id
    }

    /// Handshaking or established.
    pub fn state(&self) -> State {
        self.bond.state
    }

    /// `$pin_age`
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.bond.opened)
    }

    /// `$pin_requests`: requests sent on it so far.
    pub fn requests(&self) -> u64 {
        self.bond.requests
    }

    /// Whether the next credentials are a leg of a login that the server has begun to judge, and not the first of one.
    pub fn is_challenged(&self) -> bool {
        self.bond.challenged
    }

    /// Why this pin must not take the next request, if so.
    ///
    /// Age and number bound established pins only. A limit that fell between two legs would cut the handshake: the
    /// third leg of a login would reach a server that knows nothing of the first two, and so it would at every attempt
    /// of a login that has more legs than `ntlm_requests` allows. A handshaking pin is bounded by its use instead: it
    /// exists only while its client connection does, it serves nobody else, and its first good answer to credentials
    /// brings it under the limits.
    fn ended_before(
        &self,
        credentials: Option<Credentials>,
        limits: &Limits,
        now: Instant,
    ) -> Option<EndReason> {
        if self.state() == State::Handshaking {
            return None;
        }
        // First, because a new login would not have been sent on this pin: no limit took anything from its user.
        if credentials.is_some_and(|credentials| self.is_left_by(credentials, limits)) {
            Some(EndReason::NewCredentials)
        } else if self.age(now) >= limits.max_age {
            Some(EndReason::Age)
        } else if self.requests() >= limits.max_requests {
            Some(EndReason::Requests)
        } else {
            None
        }
    }

    /// Whether credentials on this established pin are a new login, which gets a connection of its own.
    fn is_left_by(&self, credentials: Credentials, limits: &Limits) -> bool {
        let stays =
            self.bond.authenticates_each_request || limits.reauth_same && !credentials.ntlm_message;
        !stays
    }

    /// When an established pin that rests since `idle_since` has been idle too long. `None` is never.
    fn expiry(&self, limits: &Limits) -> Option<Instant> {
        match self.bond.state {
            State::Handshaking => None,
            State::Established => self.bond.idle_since.checked_add(limits.idle_timeout),
        }
    }
}

/// What a client connection holds: at most one pin per group.
///
/// A pin in here rests: no request is in flight on it. Dropping this closes every pin, as the client's own end must.
#[derive(Debug)]
pub struct Pins<C> {
    /// No two of the same group. In no order. Nearly every client connection uses one group.
    resting: SmallVec<[Pinned<C>; 1]>,
}

impl<C> Default for Pins<C> {
    fn default() -> Self {
        Self {
            resting: SmallVec::new(),
        }
    }
}

impl<C> Pins<C> {
    /// Decides how a request for `group` travels (rules 1 to 4 and 7 of a pin's life). With [`Plan::OnPin`] the request
    /// is counted as sent.
    ///
    /// Idle time is not looked at: a request that arrives before the sweep found the pin has found it alive.
    pub fn plan(
        &mut self,
        group: GroupId,
        credentials: Option<Credentials>,
        limits: &Limits,
        now: Instant,
    ) -> Plan<C> {
        let ended = match self.remove(group) {
            None => None,
            Some(mut pin) => match pin.ended_before(credentials, limits, now) {
                None => {
                    pin.bond.requests += 1;
                    return Plan::OnPin(pin);
                }
                Some(reason) => Some((pin, reason)),
            },
        };
        match credentials {
            Some(_) => Plan::Bind { ended },
            None => Plan::Plain { ended },
        }
    }

    /// Makes a pin of a connection that never carried credentials, before the credentials are sent on it: that request
    /// is counted as sent. `opened` is when the upstream connection was opened, `requests` what it already served.
    pub fn bind(
        &self,
        connection: C,
        group: GroupId,
        id: u64,
        opened: Instant,
        requests: u64,
    ) -> Pinned<C> {
        debug_assert!(
            self.position(group).is_none(),
            "bind follows a plan, which took the group's pin out"
        );
        Pinned {
            bond: Box::new(Bond {
                connection,
                group,
                id,
                state: State::Handshaking,
                opened,
                idle_since: opened,
                requests: requests + 1,
                authenticates_each_request: false,
                challenged: false,
            }),
        }
    }

    /// The final answer to a request on `pin` is complete and its connection goes on: the pin moves to its next state and
    /// rests here. `credentials`: whether that request carried some.
    ///
    /// Lends the resting pin: if it is established now, it belongs into the worker's [`IdleOrder`](super::IdleOrder), and
    /// its connection is where the key may be noted.
    pub fn answered(
        &mut self,
        mut pin: Pinned<C>,
        credentials: bool,
        answer: Answer,
        now: Instant,
    ) -> &mut Pinned<C> {
        debug_assert!(
            self.position(pin.group()).is_none(),
            "one request at a time, so one pin per group"
        );
        if credentials {
            pin.bond.state = match answer.status {
                401 | 407 => State::Handshaking,
                _ => State::Established,
            };
            pin.bond.challenged = answer.challenge;
        }
        pin.bond.authenticates_each_request = answer.persistent_auth_false;
        pin.bond.idle_since = now;
        let place = self.resting.len();
        self.resting.push(pin);
        &mut self.resting[place]
    }

    /// The resting pins.
    pub fn iter(&self) -> std::slice::Iter<'_, Pinned<C>> {
        self.resting.iter()
    }

    /// Takes the pin of `group` out to be closed (evicted, closed by the server).
    pub fn remove(&mut self, group: GroupId) -> Option<Pinned<C>> {
        self.position(group)
            .map(|place| self.resting.swap_remove(place))
    }

    /// Takes out one pin that has been idle too long, if there is one; `limits` are those of its group. Call until `None`.
    ///
    /// Only established pins expire. A handshaking one ends with its client connection, which the client's own
    /// `keepalive_timeout` bounds.
    pub fn expired(
        &mut self,
        limits: impl Fn(&Pinned<C>) -> Limits,
        now: Instant,
    ) -> Option<Pinned<C>> {
        let place = self
            .resting
            .iter()
            .position(|pin| pin.expiry(&limits(pin)).is_some_and(|expiry| expiry <= now))?;
        Some(self.resting.swap_remove(place))
    }

    /// Takes out the pin that was used least recently, in whatever state, if there are more than `limit`, to be closed. Call
    /// until `None`.
    pub fn overflow(&mut self, limit: usize) -> Option<Pinned<C>> {
        if self.resting.len() <= limit {
            return None;
        }
        let oldest = (0..self.resting.len()).min_by_key(|&n| self.resting[n].bond.idle_since)?;
        Some(self.resting.swap_remove(oldest))
    }

    /// When `expired` should be asked again: the earliest end of an established pin's idle time.
    pub fn next_expiry(&self, limits: impl Fn(&Pinned<C>) -> Limits) -> Option<Instant> {
        self.resting
            .iter()
            .filter_map(|pin| pin.expiry(&limits(pin)))
            .min()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.resting.is_empty()
    }

    fn position(&self, group: GroupId) -> Option<usize> {
        self.resting.iter().position(|pin| pin.group() == group)
    }
}

#[cfg(test)]
mod tests;
