//! A request on its way to a group: the pin first, then the pool or the balancer; another server if one fails and it may be.

use std::rc::Rc;

use crate::config::model::{Level, Location, ProxyPass};
use crate::http::head::{Framing, Name};
use crate::http::refusal::Refusal;
use crate::net::{Peek, now};
use crate::pin::pins::Pinned;
use crate::pin::{self, Credentials, EndReason, Limits, Pins, Plan, State};

use super::exchange::{Answered, Exchange};
use super::failure::Failed;
use super::logins::challenges;
use super::relay::RelayError;
use super::request::{Attempt, ClientRef, PinFacts, Request};
use super::upstream::{Group, Upstream};

/// What a client connection lends for one request to a group.
pub(super) struct Forward<'a> {
    pub(super) client: ClientRef<'a>,
    pub(super) location: &'a Location,
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
    Clean(Box<Upstream>),
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

/// What becomes of a request whose exchange failed.
enum Recovery {
    /// Another server is tried.
    Again,
    /// The connection broke before an answer began.
    Broken(Finished),
    /// Whatever else went wrong.
    Over(Finished),
}

/// How a request travels, settled before anything of it is sent.
#[derive(Clone, Copy)]
struct Way {
    /// A clean connection becomes a pin.
    binds: bool,
    /// It goes by a connection that is everybody's before and after: nothing in it can log one in.
    shared: bool,
    /// It may be sent once more.
    repeatable: bool,
}

impl Forward<'_> {
    /// Has `request` answered by a server of the group that `pass` names.
    #[allow(clippy::manual_async_fn)] // its future would hold each argument twice
    pub(super) fn run(
        &self,
        pins: &mut Pins<Upstream>,
        buffered: &mut Vec<u8>,
        request: &mut Request,
        pass: &ProxyPass,
    ) -> impl Future<Output = Finished> {
        async move {
            let (mut pin, way) = match self.depart(pins, request, pass) {
                Ok(departed) => departed,
                Err(finished) => return finished,
            };
            if self.location.proxy.fail_delay.is_some()
                && let Err(finished) = Box::pin(self.admit_login(request, &mut pin)).await
            {
                return finished;
            }
            let pinned_before = pin.is_some();
            let mut on = pin.map(Carrier::Pin);
            loop {
                if on.is_none() {
                    match self.connect(request).await {
                        Ok(upstream) => on = Some(self.carrier(pins, upstream, way)),
                        Err(failed) => return self.fail(request, failed),
                    }
                }
                let Some(carrier) = &mut on else { continue };
                let (exchange, reused) = self.board(pins, request, way, carrier);
                let judged = matches!(&*carrier, Carrier::Pin(pin) if self.is_judged(request, pin));
                let upstream = carrier.upstream();
                let result = exchange.carry(upstream, request, buffered).await;
                if judged {
                    self.note_login(request, &result);
                }
                if let Carrier::Pin(pin) = &mut *carrier {
                    self.note_verdict(request, pin);
                }
                if request.status == 101 && result.is_ok() {
                    let upstream = carrier.upstream();
                    Box::pin(exchange.tunnel(upstream, request, buffered)).await;
                }
                let Some(carrier) = on.take() else { continue };
                let answered = match result {
                    Ok(answered) => answered,
                    Err(failed) => match self.recover(request, way, carrier, reused, failed) {
                        Recovery::Again => continue,
                        // A pin that served before and dies before the answer: the client knows how to repeat.
                        Recovery::Broken(_) if pinned_before => return Finished::Close,
                        Recovery::Broken(finished) | Recovery::Over(finished) => return finished,
                    },
                };
                let stays = self.settle(pins, carrier, request, way.shared, answered);
                return Finished::Answered {
                    keep: answered.client_reusable && stays,
                    body_coming: answered.body_coming,
                };
            }
        }
    }

    /// Settles where a request goes and how, and takes the pin out that it goes on.
    fn depart(
        &self,
        pins: &mut Pins<Upstream>,
        request: &mut Request,
        pass: &ProxyPass,
    ) -> Result<(Option<Pinned<Upstream>>, Way), Finished> {
        let (group, replaced) = self.destination(request, pass)?;
        request.replaced = replaced;
        let (credentials, tainted) = self.credentials(request);
        request.credentials = credentials;
        if credentials.is_some() && self.location.proxy.refuse_via && request.head.has(Name::Via) {
            return Err(Finished::Refuse(Refusal::CredentialsVia));
        }
        // A pin is looked up first, also where a reload or another location does not pin any more.
        let limits = group.ntlm.get().or(self.location.proxy.ntlm);
        let held = pins.iter().find(|pin| pin.group() == group.id);
        let (mut pin, binds) = match limits.or(held.map(|pin| *pin.connection().pin_limits)) {
            Some(limits) => self.plan(pins, &group, request, &limits),
            None => (None, false),
        };
        request.group = Some(group);
        // The server has closed it, or said something that nobody asked for, since the last answer. If this request was there
        // already, nobody has waited since then, and only a look into the socket tells.
        let ended = pin.take_if(|pin| {
            let socket = &pin.connection().socket;
            socket.has_unasked() || request.pipelined && socket.peek() != Peek::Nothing
        });
        if let Some(pin) = ended {
            self.client.worker.end_pin(pin, EndReason::UpstreamClosed);
            return Err(Finished::Close);
        }
        if let Some(pin) = &pin {
            let server = pin.connection().peer_name();
            request.attempts.push(Attempt::new(server, request.started));
        }
        let has_body = !matches!(request.head.framing, Framing::None | Framing::Length(0));
        // A server that expects no body there may take it for the next request, and its answer would be somebody else's.
        let unexpected_body = has_body && is_without_body(request.head.method.of(&request.bytes));
        let shared = pin.is_none() && credentials.is_none() && !tainted && !unexpected_body;
        let way = Way {
            // Where nothing is pinned, what carries credentials is closed after its answer.
            binds: binds && limits.is_some(),
            shared,
            repeatable: shared && !has_body && self.is_repeatable(request),
        };
        Ok((pin, way))
    }

    /// A clean connection for this request: everybody's, or a pin from now on.
    fn carrier(&self, pins: &mut Pins<Upstream>, mut upstream: Box<Upstream>, way: Way) -> Carrier {
        if !way.binds {
            return Carrier::Clean(upstream);
        }
        let worker = &self.client.worker;
        while let Some(pin) = pins.overflow(self.location.proxy.pins_per_client - 1) {
            worker.end_pin(pin, EndReason::Evicted);
        }
        // None only if a reload took them away since: the login that has begun is finished all the same.
        let limits = upstream.group.ntlm.get().or(self.location.proxy.ntlm);
        upstream.pin_limits = upstream.group.shared_limits(&limits.unwrap_or_default());
        upstream.is_pinned(State::Handshaking);
        let (group, opened, requests) = (upstream.group.id, upstream.opened, upstream.requests);
        worker.counters.pins_created.add(1);
        Carrier::Pin(pins.bind(*upstream, group, worker.next_pin_id(), opened, requests))
    }

    /// Notes that the request is about to be sent. Also says whether the connection served another one before.
    fn board<'a>(
        &'a self,
        pins: &Pins<Upstream>,
        request: &mut Request,
        way: Way,
        on: &mut Carrier,
    ) -> (Exchange<'a>, bool) {
        let upstream = on.upstream_mut();
        let reused = upstream.requests > 0;
        upstream.requests += 1;
        if let Carrier::Pin(pin) = on {
            self.note_leg(request, pin);
            request.pin = Some(PinFacts {
                id: pin.id(),
                state: pin.state(),
                age: pin.age(request.started),
                requests: pin.requests(),
            });
        }
        let exchange = Exchange {
            forward: self,
            pinned: matches!(on, Carrier::Pin(_)),
            other_pins: !pins.is_empty(),
            may_retry: way.repeatable && self.may_try_another(request),
        };
        (exchange, reused)
    }

    /// What becomes of a request whose exchange failed. The connection is closed.
    fn recover(
        &self,
        request: &mut Request,
        way: Way,
        on: Carrier,
        reused: bool,
        failed: Failed,
    ) -> Recovery {
        let Failed::Upstream(failure) = failed else {
            let reason = match failed {
                Failed::ClientGone => EndReason::ClientClosed,
                _ => EndReason::Error,
            };
            let finished = self.fail(request, failed);
            self.abandon(on, reason);
            return Recovery::Over(finished);
        };
        // A connection that served before may be closed at the very moment it is used, pooled or pinned: no failure of the
        // server's, and the pool ends.
        let closed = reused && failure.is_broken();
        self.note_failure(request, on.upstream(), &failure, !closed);
        if way.shared && closed {
            request.tried.pop();
        }
        let again = way.repeatable
            && self.may_try_another(request)
            && failure.is_named_by(&self.location.proxy.next_upstream);
        self.abandon(on, failure.end_reason());
        if again {
            return Recovery::Again;
        }
        let finished = Finished::Answer(failure.status());
        if failure.is_broken() {
            Recovery::Broken(finished)
        } else {
            Recovery::Over(finished)
        }
    }

    /// Asks the pins how the request travels, and ends what has to end first: on the pin that is returned, or on a clean
    /// connection, which becomes a pin if the second value says so.
    fn plan(
        &self,
        pins: &mut Pins<Upstream>,
        group: &Rc<Group>,
        request: &Request,
        limits: &Limits,
    ) -> (Option<Pinned<Upstream>>, bool) {
        let (ended, binds) = match pins.plan(group.id, request.credentials, limits, request.started)
        {
            Plan::OnPin(mut pin) => {
                pin.connection_mut().leave_idle();
                pin.connection_mut().pin_limits = group.shared_limits(limits);
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
        let now = now();
        match on {
            Carrier::Pin(pin) if answered.upstream_reusable => {
                let answer = pin::Answer {
                    status: request.status,
                    challenge: challenges(request),
                    persistent_auth_false: answered.persistent_auth_false,
                };
                let pin = pins.answered(pin, request.credentials.is_some(), answer, now);
                let state = pin.state();
                pin.connection_mut().is_pinned(state);
                if let Some(facts) = &mut request.pin {
                    facts.state = state;
                }
                if state == State::Established {
                    self.client.worker.rest(pin, self.client.key);
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
        let set = is_set("authorization").map(|(_, template)| {
            let mut value = Vec::new();
            template.render(&self.client.view(request), &mut value);
            value
        });
        let came = || Some(request.head.authorization?.of(&request.bytes));
        let value = set
            .as_deref()
            .or_else(came)
            .unwrap_or_default()
            .trim_ascii();
        let unknown = !value.is_empty() && !Credentials::is_for_one_request(value);
        let tainted =
            unknown || request.head.proxy_authorization || is_set("proxy-authorization").is_some();
        (Credentials::in_value(value), tainted)
    }

    /// Ends a request that came to no answer of a server.
    pub(super) fn fail(&self, request: &mut Request, failed: Failed) -> Finished {
        match failed {
            Failed::ClientGone => {
                self.client.note_left(request);
                Finished::Close
            }
            Failed::Cut => Finished::Close,
            Failed::Upstream(failure) => Finished::Answer(failure.status()),
            Failed::Body(error) => self.body_failed(request, error),
        }
    }

    /// What becomes of a request whose body failed. Says why, but for a refusal, which is still to be noted.
    #[cold]
    pub(super) fn body_failed(&self, request: &Request, error: RelayError) -> Finished {
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

/// Whether requests of this method usually have no body, so that some servers do not look for one.
fn is_without_body(method: &[u8]) -> bool {
    matches!(method, b"GET" | b"HEAD" | b"DELETE" | b"OPTIONS" | b"TRACE")
}
