//! A random plan of what clients, servers and the operator do to a front that pins, the same for the same seed.
//!
//! The simulation of `src/pin` carries it out on a model in memory; a test from end to end carries out the same plan over
//! real sockets. So an action says only what someone outside the front does, never what the front should do about it.
//!
//! # Carrying a plan out
//! * Actions of one client happen one after another; those of different clients may overlap, and should.
//! * A client whose connection the front closed (as it may when a server closes a pinned connection) opens a new one
//!   under the same name when its next action comes, and goes on; a [`Leg`] that continues a login which that connection
//!   did not begin is skipped, as a real client cannot compute it.
//! * [`Deed::Login`] is one request with credentials: one leg. Its answer is read before the client's next action, and
//!   the legs in between belong to everybody else.
//! * What has to hold after every answer: the identity that it carries is the one that this very client connection
//!   proved to this very group, or none.

// Each of the tests that include this module uses its own part of it.
#![allow(dead_code, unreachable_pub, missing_docs)]

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A client does something.
    Client { client: usize, deed: Deed },
    /// The server of `group` closes the connection that it has with this client, if it has one that is idle.
    ServerCloses { group: usize, client: usize },
    /// Nothing happens for a while, so that idle times run out.
    Pause { millis: u64 },
    /// The operator reloads with other limits for every group. No pin may end by that alone.
    Reload { limits: Limits },
}

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Opens a connection in the name of someone; `None` never logs in.
    Connect { identity: Option<usize> },
    /// Sends a request without credentials and reads the answer.
    Request { group: usize },
    /// Sends one leg of a login and reads the answer.
    Login { group: usize, leg: Leg },
    /// Begins something and closes in the middle of it.
    Abandon { group: usize, stage: Stage },
    /// Closes, whatever state its logins are in.
    Close,
}

/// One request of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leg {
    pub scheme: Scheme,
    /// Who logs in: nearly always the one who connected.
    pub identity: usize,
    /// The server will refuse the last leg.
    pub wrong_password: bool,
    /// 0 for the first.
    pub number: usize,
}

impl Leg {
    /// Whether the server's answer to this leg ends the login, well or not.
    pub fn is_last(&self) -> bool {
        self.number + 1 == self.scheme.legs()
    }
}

/// How a login goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Type 1, a challenge, Type 3.
    Ntlm,
    /// A Kerberos token that the server declines, then NTLM inside SPNEGO.
    NegotiateThenNtlm,
    /// A Kerberos token that the server takes at once, for the connection.
    NegotiateAtOnce,
    /// A Kerberos token that the server takes for this request only: `Persistent-Auth: false`.
    KerberosEachRequest,
}

impl Scheme {
    const ALL: [Scheme; 4] = [
        Scheme::Ntlm,
        Scheme::NegotiateThenNtlm,
        Scheme::NegotiateAtOnce,
        Scheme::KerberosEachRequest,
    ];

    /// How many requests a login takes.
    pub fn legs(self) -> usize {
        match self {
            Scheme::Ntlm => 2,
            Scheme::NegotiateThenNtlm => 3,
            Scheme::NegotiateAtOnce | Scheme::KerberosEachRequest => 1,
        }
    }

    /// Whether the token of this leg is an NTLM message.
    pub fn is_ntlm_message(self, leg: usize) -> bool {
        match self {
            Scheme::Ntlm => true,
            Scheme::NegotiateThenNtlm => leg > 0,
            Scheme::NegotiateAtOnce | Scheme::KerberosEachRequest => false,
        }
    }
}

/// Where a client leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It sends the first leg of an NTLM login and closes without reading the answer.
    AfterFirstLeg,
    /// It reads the challenge and closes instead of answering it.
    BetweenLegs,
    /// It sends a request without credentials and closes with the answer half read.
    DuringAnswer,
}

/// Limits as the `ntlm` directives have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub connections: usize,
    pub timeout_millis: u64,
    pub time_millis: u64,
    pub requests: u64,
    pub reauth_same: bool,
}

/// Who takes part, and how often what happens.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub clients: usize,
    pub identities: usize,
    pub groups: usize,
    /// One client in so many never logs in; 0 for none.
    pub anonymous_one_in: u32,
    pub weights: Weights,
}

/// How often an action comes, in relation to the others; 0 for never.
#[derive(Clone, Copy, Debug)]
pub struct Weights {
    pub request: u32,
    pub login: u32,
    pub abandon: u32,
    pub close: u32,
    pub server_closes: u32,
    pub pause: u32,
    pub reload: u32,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            clients: 40,
            identities: 50,
            groups: 3,
            anonymous_one_in: 4,
            weights: Weights {
                request: 400,
                login: 500,
                abandon: 10,
                close: 15,
                server_closes: 10,
                pause: 4,
                reload: 1,
            },
        }
    }
}

/// The plan: an endless iterator.
#[derive(Clone, Debug)]
pub struct Plan {
    rng: SmallRng,
    shape: Shape,
    /// `None`: not connected.
    clients: Vec<Option<Client>>,
}

/// What the plan remembers of a client connection.
#[derive(Clone, Debug)]
struct Client {
    identity: Option<usize>,
    /// By group: the leg that comes next in the login that is under way there.
    logins: Vec<Option<Leg>>,
}

impl Plan {
    /// The plan of this seed.
    pub fn new(seed: u64, shape: Shape) -> Self {
        Self {
            rng: SmallRng::seed_from_u64(seed),
            shape,
            clients: vec![None; shape.clients],
        }
    }

    fn one_in(&mut self, number: u32) -> bool {
        number > 0 && self.rng.random_range(0..number) == 0
    }

    fn connect(&mut self, client: usize) -> Deed {
        let identity = if self.one_in(self.shape.anonymous_one_in) {
            None
        } else {
            Some(self.rng.random_range(0..self.shape.identities))
        };
        self.clients[client] = Some(Client {
            identity,
            logins: vec![None; self.shape.groups],
        });
        Deed::Connect { identity }
    }

    /// The next leg of this client in this group, or the first of a new login; an anonymous client only asks.
    fn login(&mut self, client: usize, group: usize) -> Deed {
        let under_way = self.clients[client]
            .as_ref()
            .and_then(|client| client.logins[group]);
        // Now and then a login is begun anew before it came to its end.
        let leg = match under_way {
            Some(leg) if !self.one_in(20) => leg,
            _ => {
                let Some(own) = self.clients[client].as_ref().and_then(|c| c.identity) else {
                    return Deed::Request { group };
                };
                Leg {
                    scheme: Scheme::ALL[self.rng.random_range(0..Scheme::ALL.len())],
                    identity: if self.one_in(20) {
                        self.rng.random_range(0..self.shape.identities)
                    } else {
                        own
                    },
                    wrong_password: self.one_in(10),
                    number: 0,
                }
            }
        };
        if let Some(client) = &mut self.clients[client] {
            client.logins[group] = (!leg.is_last()).then_some(Leg {
                number: leg.number + 1,
                ..leg
            });
        }
        Deed::Login { group, leg }
    }

    fn limits(&mut self) -> Limits {
        Limits {
            connections: self.rng.random_range(1..self.shape.clients.max(2)),
            timeout_millis: self.rng.random_range(200..5_000),
            time_millis: self.rng.random_range(500..30_000),
            requests: self.rng.random_range(2..40),
            reauth_same: self.one_in(2),
        }
    }
}

impl Iterator for Plan {
    type Item = Action;

    fn next(&mut self) -> Option<Action> {
        let weights = self.shape.weights;
        let client = self.rng.random_range(0..self.shape.clients);
        let group = self.rng.random_range(0..self.shape.groups);
        let mut left = self.rng.random_range(
            0..weights.request
                + weights.login
                + weights.abandon
                + weights.close
                + weights.server_closes
                + weights.pause
                + weights.reload,
        );
        let mut is = |weight: u32| {
            let chosen = left < weight;
            if !chosen {
                left -= weight;
            }
            chosen
        };
        if is(weights.pause) {
            let millis = self.rng.random_range(100..3_000);
            return Some(Action::Pause { millis });
        }
        if is(weights.reload) {
            let limits = self.limits();
            return Some(Action::Reload { limits });
        }
        if is(weights.server_closes) {
            return Some(Action::ServerCloses { group, client });
        }
        let deed = if self.clients[client].is_none() {
            self.connect(client)
        } else if is(weights.request) {
            Deed::Request { group }
        } else if is(weights.login) {
            self.login(client, group)
        } else {
            self.clients[client] = None;
            if is(weights.abandon) {
                let stages = [
                    Stage::AfterFirstLeg,
                    Stage::BetweenLegs,
                    Stage::DuringAnswer,
                ];
                let stage = stages[self.rng.random_range(0..stages.len())];
                Deed::Abandon { group, stage }
            } else {
                Deed::Close
            }
        };
        Some(Action::Client { client, deed })
    }
}
