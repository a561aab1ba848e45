//! A request on its way to a group: the pin first, then the pool or the balancer; another server if one fails and it may be.

use std::rc::Rc;
use std::time::Instant;

use smallvec::SmallVec;

use crate::balance::PeerIndex;
use crate::config::model::{Level, Location, ProxyPass};
use crate::http::head::Framing;
use crate::http::refusal::Refusal;
use crate::net::Peek;
use crate::pin::pins::Pinned;
use crate::pin::{Credentials, EndReason, Limits, Pins, Plan, State};

use super::exchange::{Answered, Exchange};
use super::failure::{Failed, UpstreamFailure};
use super::relay::RelayError;
use super::request::{Attempt, ClientRef, PinFacts, Request};
use super::slot::SlotKey;
use super::upstream::{Group, Upstream};

/// What a client connection lends for one request to a group.
pub(super) struct Forward<'a> {
    pub(super) client: ClientRef<'a>,
    pub(super) key: SlotKey,
    pub(super) location: &'a Location,
    pub(super) may_keep: bool,
}

/// How a request ended.
#[derive(Debug)]
pub(super) enum Finished {
    /// The answer went out; whether the client connection goes on.
    Answered {
        /// It takes another request.
        keep: bool,
        /// The client may still be sending what nobody takes.
        body_coming: bool,
    },
    /// Nothing went out yet: the front answers with this status.
    Answer(u16),
    /// The client's message broke a rule and nothing went out yet.
    Refuse(Refusal),
    /// The client connection is closed without another byte.
    Close,
}

/// The upstream connection of an exchange, by who owns it.
enum Carrier {
    /// Bound to this client.
    Pin(Pinned<Upstream>),
    /// Everybody's, and only ours for now.
    Clean(Upstream),
}

impl Carrier {
    fn upstream(&self) -> &Upstream {
        match self {
            Self::Pin(pin) => pin.connection(),
            Self::Clean(upstream) => upstream,
        }
    }

    fn upstream_mut(&mut self) -> &mut Upstream {
        match self {
            Self::Pin(pin) => pin.connection_mut(),
            Self::Clean(upstream) => upstream,
        }
    }
}

/// How a request travels, settled before anything of it is sent.
struct Way {
    /// The client's pin.
    pin: Option<Pinned<Upstream>>,
    /// A clean connection becomes a pin, with these limits.
    binds: Option<Limits>,
    /// It goes by a connection that is everybody's before and after: nothing in it can log one in.
    shared: bool,
    /// It may be sent once more.
    repeatable: bool,
}

/// The tries to have a request answered.
struct Tries {
    began: Instant,
    servers: SmallVec<[PeerIndex; 4]>,
}

impl Forward<'_> {
    /// Has `request` answered by a server of the group that `pass` names.
    pub(super) async fn run(
        &self,
        pins: &mut Pins<Upstream>,
        buffered: &mut Vec<u8>,
        request: &mut Request,
        pass: &ProxyPass,
    ) -> Finished {
        if let Framing::Length(length) = request.head.framing
            && self.location.client.max_body_size != 0
            && length > self.location.client.max_body_size
        {
            let message = format_args!("client intended to send too large body: {length} bytes");
            self.client.log(Level::Error, request, message);
            return Finished::Answer(413);
        }
        let (group, replaced) = match self.destination(request, pass) {
            Ok(destination) => destination,
            Err(finished) => return finished,
        };
        request.group = Some(Rc::clone(&group));
        let Some(mut way) = self.way(pins, &group, request) else {
            return Finished::Close;
        };
        let mut tries = Tries {
            began: Instant::now(),
            servers: SmallVec::new(),
        };
        loop {
            let on_pin = way.pin.is_some();
            let mut on = match way.pin.take() {
                Some(pin) => {
                    request.attempts.push(Attempt {
                        server: pin.connection().peer_name(),
                        ..Attempt::default()
                    });
                    Carrier::Pin(pin)
                }
                None => {
                    let connected = self
                        .connect(&group, request, &mut tries.servers, tries.began)
                        .await;
                    match connected {
                        Ok(upstream) => self.carrier(pins, &group, upstream, way.binds),
                        Err(failed) => return self.fail(request, failed, None),
                    }
                }
            };
            let reused = self.note_sending(&mut on, request);
            let exchange = Exchange {
                client: self.client,
                location: self.location,
                pinned: matches!(on, Carrier::Pin(_)),
                other_pins: !pins.is_empty(),
                may_keep: self.may_keep,
                may_retry: way.repeatable
                    && self.may_try_another(request, &tries.servers, tries.began),
            };
            let result = exchange
                .carry(on.upstream(), request, buffered, replaced.target())
                .await;
            match result {
                Ok(answered) => {
                    if request.status == 101 {
                        exchange.tunnel(on.upstream(), request, buffered).await;
                    }
                    let stays = self.settle(pins, on, request, way.shared, answered);
                    return Finished::Answered {
                        keep: answered.client_reusable && stays,
                        body_coming: answered.body_coming,
                    };
                }
                Err(Failed::Upstream(failure)) => {
                    let again = self.may_repeat(&way, &mut tries, reused, request, &on, &failure);
                    self.abandon(on, failure.end_reason());
                    // A pin that served before and dies before the answer: the client knows how to repeat.
                    if on_pin && failure.is_broken() {
                        return Finished::Close;
                    }
                    if !again {
                        return Finished::Answer(failure.status());
                    }
                }
                Err(failed) => return self.fail(request, failed, Some(on)),
            }
        }
    }

    /// Settles how a request travels. `None`: on a pin whose server has closed it, so that the client has to go too.
    fn way(
        &self,
        pins: &mut Pins<Upstream>,
        group: &Rc<Group>,
        request: &mut Request,
    ) -> Option<Way> {
        let (credentials, tainted) = self.credentials(request);
        request.credentials = credentials;
        // A pin is looked up first, also where a reload or another location does not pin any more.
        let limits = group.ntlm.get().or(self.location.proxy.ntlm);
        let held = pins.iter().find(|pin| pin.group() == group.id);
        let (mut pin, binds) = match limits.or(held.map(|pin| pin.connection().pin_limits)) {
            Some(limits) => self.plan(pins, group, credentials, &limits),
            None => (None, false),
        };
        // The server has closed it, or said something that nobody asked for, since the last answer. If this request was there
        // already, nobody has waited since then, and only a look into the socket tells.
        let ended = pin.take_if(|pin| {
            let socket = &pin.connection().socket;
            socket.has_unasked() || request.pipelined && socket.peek() != Peek::Nothing
        });
        if let Some(pin) = ended {
            self.client.worker.end_pin(pin, EndReason::UpstreamClosed);
            return None;
        }
        let shared = pin.is_none() && credentials.is_none() && !tainted;
        let has_body = !matches!(request.head.framing, Framing::None | Framing::Length(0));
        Some(Way {
            pin,
            // Where nothing is pinned, what carries credentials is closed after its answer.
            binds: limits.filter(|_| binds),
            shared,
            repeatable: shared && !has_body && self.is_repeatable(request),
        })
    }

    /// A clean connection for this request: everybody's, or a pin from now on.
    fn carrier(
        &self,
        pins: &Pins<Upstream>,
        group: &Group,
        mut upstream: Upstream,
        binds: Option<Limits>,
    ) -> Carrier {
        let Some(limits) = binds else {
            return Carrier::Clean(upstream);
        };
        upstream.pin_limits = limits;
        let (opened, requests) = (upstream.opened, upstream.requests);
        let worker = self.client.worker;
        worker.counters.pins_created.add(1);
        Carrier::Pin(pins.bind(upstream, group.id, worker.next_pin_id(), opened, requests))
    }

    /// Notes that the request is about to be sent. Whether the connection served another one before.
    fn note_sending(&self, on: &mut Carrier, request: &mut Request) -> bool {
        let reused = on.upstream().requests > 0;
        on.upstream_mut().requests += 1;
        if let Carrier::Pin(pin) = on {
            request.pin = Some(PinFacts {
                id: pin.id(),
                state: pin.state(),
                age: pin.age(Instant::now()),
                requests: pin.requests(),
            });
        }
        reused
    }

    /// Counts a server's failure, and says whether the request may be sent once more.
    fn may_repeat(
        &self,
        way: &Way,
        tries: &mut Tries,
        reused: bool,
        request: &mut Request,
        on: &Carrier,
        failure: &UpstreamFailure,
    ) -> bool {
        // A connection that served before may be closed at the very moment it is used, pooled or pinned: no failure of the
        // server's, and the pool ends.
        let closed = reused && failure.is_broken();
        self.note_failure(request, on.upstream(), failure, !closed);
        if way.shared && closed {
            tries.servers.pop();
        }
        way.repeatable
            && self.may_try_another(request, &tries.servers, tries.began)
            && failure.is_named_by(&self.location.proxy.next_upstream)
    }

    /// Asks the pins how the request travels, and ends what has to end first: on the pin that is returned, or on a clean
    /// connection, which becomes a pin if the second value says so.
    fn plan(
        &self,
        pins: &mut Pins<Upstream>,
        group: &Rc<Group>,
        credentials: Option<Credentials>,
        limits: &Limits,
    ) -> (Option<Pinned<Upstream>>, bool) {
        let (ended, binds) = match pins.plan(group.id, credentials, limits, Instant::now()) {
            Plan::OnPin(mut pin) => {
                pin.connection_mut().leave_idle();
                pin.connection_mut().pin_limits = *limits;
                return (Some(pin), false);
            }
            Plan::Bind { ended } => (ended, true),
            Plan::Plain { ended } => (ended, false),
        };
        if let Some((pin, reason)) = ended {
            self.client.worker.end_pin(pin, reason);
        }
        (None, binds)
    }

    /// The connection after a complete answer: back on its pin, back to everybody, or closed. False if the client has to go
    /// with it: its last login ended, and it would believe itself logged in.
    fn settle(
        &self,
        pins: &mut Pins<Upstream>,
        on: Carrier,
        request: &mut Request,
        shared: bool,
        answered: Answered,
    ) -> bool {
        let now = Instant::now();
        match on {
            Carrier::Pin(pin) if answered.upstream_reusable => {
                let no_persistence = answered.persistent_auth_false;
                let pin = pins.answered(
                    pin,
                    request.credentials.is_some(),
                    request.status,
                    no_persistence,
                    now,
                );
                if let Some(facts) = &mut request.pin {
                    facts.state = pin.state();
                }
                if pin.state() == State::Established {
                    self.client.worker.rest(pin, self.key);
                }
            }
            Carrier::Pin(pin) => {
                self.client.worker.end_pin(pin, EndReason::UpstreamClosed);
                return !pins.is_empty();
            }
            Carrier::Clean(upstream) if answered.upstream_reusable && shared => {
                let group = Rc::clone(&upstream.group);
                group.keep(upstream, now);
            }
            Carrier::Clean(upstream) => drop(upstream),
        }
        true
    }

    fn abandon(&self, on: Carrier, reason: EndReason) {
        match on {
            Carrier::Pin(pin) => self.client.worker.end_pin(pin, reason),
            Carrier::Clean(upstream) => drop(upstream),
        }
    }

    /// The credentials that go upstream, and whether anything else in the request may log the connection in.
    fn credentials(&self, request: &Request) -> (Option<Credentials>, bool) {
        let set = &self.location.proxy.set_headers;
        let is_set = |wanted: &str| {
            set.iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
        };
        let credentials = match is_set("authorization") {
            Some((_, template)) => {
                let mut value = Vec::new();
                template.render(&self.client.view(request), &mut value);
                Credentials::in_value(value.trim_ascii())
            }
            None => request
                .head
                .authorization
                .and_then(|span| Credentials::in_value(span.of(&request.bytes))),
        };
        let tainted = request.head.proxy_authorization || is_set("proxy-authorization").is_some();
        (credentials, tainted)
    }

    /// Ends a request that came to no answer of a server.
    fn fail(&self, request: &mut Request, failed: Failed, on: Option<Carrier>) -> Finished {
        let (reason, finished) = match failed {
            Failed::ClientGone => {
                self.client.worker.counters.client_aborts.add(1);
                self.client.log(
                    Level::Info,
                    request,
                    format_args!("client prematurely closed connection"),
                );
                if request.status == 0 {
                    request.status = 499;
                }
                (EndReason::ClientClosed, Finished::Close)
            }
            Failed::Cut => (EndReason::Error, Finished::Close),
            Failed::Upstream(failure) => (failure.end_reason(), Finished::Answer(failure.status())),
            Failed::Body(error) => (EndReason::Error, self.body_failed(request, error)),
        };
        if let Some(on) = on {
            self.abandon(on, reason);
        }
        finished
    }

    fn body_failed(&self, request: &Request, error: RelayError) -> Finished {
        match error {
            RelayError::Refused(refusal) => Finished::Refuse(refusal),
            RelayError::TooLarge => {
                self.client.log(
                    Level::Error,
                    request,
                    format_args!("client intended to send too large chunked body"),
                );
                Finished::Answer(413)
            }
            RelayError::SourceTimedOut => {
                self.client.log(
                    Level::Info,
                    request,
                    format_args!("client timed out (110: Connection timed out)"),
                );
                Finished::Answer(408)
            }
            RelayError::CutShort
            | RelayError::Source(_)
            | RelayError::Sink(_)
            | RelayError::SinkTimedOut => Finished::Close,
        }
    }
}
