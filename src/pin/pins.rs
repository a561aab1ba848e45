//! The pins of one client connection.

use std::time::{Duration, Instant};

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
        todo!()
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
#[derive(Debug)]
pub struct Pinned<C> {
    connection: C,
    group: GroupId,
    /// A number for logs (`$pin_id`).
    id: u64,
    state: State,
    opened: Instant,
    idle_since: Instant,
    requests: u64,
    reauthenticates: bool,
}

impl<C> Pinned<C> {
    /// The upstream connection, to be used but not taken.
    pub fn connection(&self) -> &C {
        &self.connection
    }

    /// The same, for changes.
    pub fn connection_mut(&mut self) -> &mut C {
        &mut self.connection
    }

    /// The group it belongs to.
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// `$pin_id`
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Handshaking or established.
    pub fn state(&self) -> State {
        self.state
    }

    /// `$pin_age`
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.opened)
    }

    /// `$pin_requests`: requests sent on it so far.
    pub fn requests(&self) -> u64 {
        self.requests
    }
}

/// What a client connection holds: at most one pin per group.
#[derive(Debug, Default)]
pub struct Pins<C> {
    _idle: Vec<Pinned<C>>,
}

impl<C> Pins<C> {
    /// Decides how a request for `group` travels (rules 1 to 4 and 7 of a pin's life).
    pub fn plan(
        &mut self,
        _group: GroupId,
        _credentials: Option<Credentials>,
        _limits: &Limits,
        _now: Instant,
    ) -> Plan<C> {
        todo!()
    }

    /// Makes a pin of a connection that never carried credentials, before the credentials are sent on it. `opened` is
    /// when the upstream connection was opened, `requests` what it already served.
    pub fn bind(
        &self,
        _connection: C,
        _group: GroupId,
        _id: u64,
        _opened: Instant,
        _requests: u64,
    ) -> Pinned<C> {
        todo!()
    }

    /// The final answer to a request on `pin` is complete and its connection goes on: the pin moves to its next state and
    /// rests here. `credentials`: whether that request carried some.
    pub fn answered(
        &mut self,
        _pin: Pinned<C>,
        _credentials: bool,
        _status: u16,
        _persistent_auth_false: bool,
        _now: Instant,
    ) {
        todo!()
    }

    /// The resting pins.
    pub fn iter(&self) -> std::slice::Iter<'_, Pinned<C>> {
        todo!()
    }

    /// Takes the pin of `group` out to be closed (evicted, closed by the server).
    pub fn remove(&mut self, _group: GroupId) -> Option<Pinned<C>> {
        todo!()
    }

    /// Takes out one pin that has been idle too long, if there is one; `limits` answers for its group.
    pub fn expired(
        &mut self,
        _limits: impl Fn(GroupId) -> Limits,
        _now: Instant,
    ) -> Option<Pinned<C>> {
        todo!()
    }

    /// When `expired` should be asked again: the earliest end of an established pin's idle time.
    pub fn next_expiry(&self, _limits: impl Fn(GroupId) -> Limits) -> Option<Instant> {
        todo!()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        todo!()
    }
}
