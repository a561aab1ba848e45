//! A request on its way to a group: the pin first, then the pool or the balancer; another server if one fails and it may be.

use std::net::IpAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::balance::{Method, PeerIndex};
use crate::config::model::{Level, Location, PassTarget, ProxyPass};
use crate::http::head::Framing;
use crate::http::refusal::Refusal;
use crate::http::rewrite::Target;
use crate::http::target::raw_prefix_len;
use crate::net::{Peek, Socket};
use crate::observe::cause::Cause;
use crate::observe::escape::Escaped;
use crate::pin::pins::Pinned;
use crate::pin::{Credentials, EndReason, Limits, Pins, Plan, State};

use super::exchange::{Answered, Exchange, Failed, UpstreamFailure};
use super::relay::RelayError;
use super::request::{Attempt, ClientFacts, PinFacts, Request, View};
use super::slot::{Slot, SlotKey, Timer};
use super::upstream::{Group, Servers, Upstream};
use super::worker::{Settings, Worker};

/// What a client connection lends for one request to a group.
pub(super) struct Forward<'a> {
    pub(super) worker: &'a Worker,
    pub(super) settings: &'a Settings,
    pub(super) slot: &'a Slot,
    pub(super) key: SlotKey,
    pub(super) socket: &'a Socket,
    pub(super) facts: &'a ClientFacts,
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
            self.log(
                Level::Error,
                request,
                format_args!("client intended to send too large body: {length} bytes"),
            );
            return Finished::Answer(413);
        }
        let (group, replaced) = match self.target(request, pass) {
            Ok(target) => target,
            Err(finished) => return finished,
        };
        request.group = Some(Rc::clone(&group));
        let (credentials, tainted) = self.credentials(request);
        request.credentials = credentials;
        let limits = group.ntlm.get().or(self.location.proxy.ntlm);
        let (mut pin, binds) = match limits {
            Some(limits) => {
                group.pin_limits.set(limits);
                self.plan(pins, &group, credentials, &limits)
            }
            // Nothing is pinned here, and what carries credentials is closed after its answer.
            None => (None, false),
        };
        // The server has closed it, or said something that nobody asked for, since the last answer. If this request was there
        // already, nobody has waited since then, and only a look into the socket tells.
        let ended = pin.take_if(|pin| {
            let socket = &pin.connection().socket;
            socket.has_unasked() || request.pipelined && socket.peek() != Peek::Nothing
        });
        if let Some(pin) = ended {
            self.worker.end_pin(pin, EndReason::UpstreamClosed);
            return Finished::Close;
        }
        let mut carrier = pin.map(Carrier::Pin);
        let shared = !binds && carrier.is_none() && credentials.is_none() && !tainted;
        let began = Instant::now();
        let mut tried: SmallVec<[PeerIndex; 4]> = SmallVec::new();
        loop {
            let fresh = carrier.is_none();
            let mut on = match carrier.take() {
                Some(on) => on,
                None => match self.connect(&group, request, &mut tried, began).await {
                    Ok(upstream) if binds => {
                        let (opened, requests) = (upstream.opened, upstream.requests);
                        let id = self.worker.next_pin_id();
                        self.worker.counters.pins_created.add(1);
                        Carrier::Pin(pins.bind(upstream, group.id, id, opened, requests))
                    }
                    Ok(upstream) => Carrier::Clean(upstream),
                    Err(failed) => return self.fail(request, failed, None),
                },
            };
            if !fresh {
                request.attempts.push(Attempt {
                    server: on.upstream().peer_name(),
                    ..Attempt::default()
                });
            }
            let reused = on.upstream().requests > 0;
            on.upstream_mut().requests += 1;
            if let Carrier::Pin(pin) = &on {
                let age = pin.age(Instant::now());
                request.pin = Some(PinFacts {
                    id: pin.id(),
                    state: pin.state(),
                    age,
                    requests: pin.requests(),
                });
            }
            let has_body = !matches!(request.head.framing, Framing::None | Framing::Length(0));
            let repeatable = shared && !has_body && self.is_repeatable(request);
            let exchange = Exchange {
                worker: self.worker,
                settings: self.settings,
                slot: self.slot,
                client: self.socket,
                facts: self.facts,
                location: self.location,
                pinned: matches!(on, Carrier::Pin(_)),
                other_pins: !pins.is_empty(),
                may_keep: self.may_keep,
                may_retry: repeatable
                    && self.is_another_left(request, &tried)
                    && self.tries_left(&tried, began),
            };
            let target = match &replaced {
                Replaced::Nothing => Target::AsItCame,
                Replaced::Prefix(prefix, with) => Target::ReplacePrefix {
                    prefix: *prefix,
                    with,
                },
                Replaced::Whole(whole) => Target::Whole(whole),
            };
            let result = exchange
                .carry(on.upstream(), request, buffered, target)
                .await;
            match result {
                Ok(answered) => {
                    if request.status == 101 {
                        exchange.tunnel(on.upstream(), request, buffered).await;
                    }
                    let stays = self.settle(pins, on, request, credentials, tainted, answered);
                    return Finished::Answered {
                        keep: answered.client_reusable && stays,
                    };
                }
                Err(Failed::Upstream(failure)) => {
                    // A connection that served before may be closed at the very moment it is used, pooled or pinned: no
                    // failure of the server's, and the pool ends.
                    let closed = reused && failure.is_broken();
                    self.note_failure(request, on.upstream(), &failure, !closed);
                    let stale = shared && closed;
                    if stale {
                        tried.pop();
                    }
                    let again = repeatable
                        && self.is_another_left(request, &tried)
                        && self.tries_left(&tried, began)
                        && self.retries(&failure);
                    // A pin that served before and dies before the answer: the client knows how to repeat.
                    let dead_pin = !fresh && failure.is_broken();
                    self.abandon(on, EndReason::UpstreamClosed);
                    if dead_pin {
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
                return (Some(pin), false);
            }
            Plan::Bind { ended } => (ended, true),
            Plan::Plain { ended } => (ended, false),
        };
        if let Some((pin, reason)) = ended {
            self.worker.end_pin(pin, reason);
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
        credentials: Option<Credentials>,
        tainted: bool,
        answered: Answered,
    ) -> bool {
        let now = Instant::now();
        match on {
            Carrier::Pin(pin) if answered.upstream_reusable => {
                let no_persistence = answered.persistent_auth_false;
                let pin = pins.answered(
                    pin,
                    credentials.is_some(),
                    request.status,
                    no_persistence,
                    now,
                );
                if let Some(facts) = &mut request.pin {
                    facts.state = pin.state();
                }
                if pin.state() == State::Established {
                    self.worker.rest(pin, self.key);
                }
            }
            Carrier::Pin(pin) => {
                self.worker.end_pin(pin, EndReason::UpstreamClosed);
                return !pins.is_empty();
            }
            Carrier::Clean(upstream)
                if answered.upstream_reusable && credentials.is_none() && !tainted =>
            {
                let group = Rc::clone(&upstream.group);
                group.keep(upstream, now);
            }
            Carrier::Clean(upstream) => drop(upstream),
        }
        true
    }

    fn abandon(&self, on: Carrier, reason: EndReason) {
        match on {
            Carrier::Pin(pin) => self.worker.end_pin(pin, reason),
            Carrier::Clean(upstream) => drop(upstream),
        }
    }

    /// The credentials that go upstream, and whether anything else in the request may log the connection in.
    fn credentials(&self, request: &Request) -> (Option<Credentials>, bool) {
        let set = &self.location.proxy.set_headers;
        let configured = set
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case("authorization"));
        let credentials = match configured {
            Some((_, template)) => {
                let mut value = Vec::new();
                template.render(&self.view(request), &mut value);
                Credentials::in_value(value.trim_ascii())
            }
            None => request
                .head
                .authorization
                .and_then(|span| Credentials::in_value(span.of(&request.bytes))),
        };
        (credentials, request.head.proxy_authorization)
    }

    fn view<'a>(&'a self, request: &'a Request) -> View<'a> {
        let Self {
            worker,
            settings,
            facts,
            socket,
            ..
        } = *self;
        View {
            worker,
            settings,
            facts,
            request,
            socket,
        }
    }

    /// The group that `proxy_pass` names, and what becomes of the target.
    fn target(
        &self,
        request: &Request,
        pass: &ProxyPass,
    ) -> Result<(Rc<Group>, Replaced), Finished> {
        let template = match &pass.target {
            PassTarget::Group(index) => {
                let group = self.settings.group(*index);
                let replaced = match &pass.uri {
                    Some(uri) if !self.location.prefix.is_empty() => {
                        let path = request.head.path.of(&request.bytes);
                        let prefix = raw_prefix_len(path, &self.location.prefix)
                            .ok_or(Finished::Refuse(Refusal::PathPrefix))?;
                        Replaced::Prefix(prefix, uri.clone().into_bytes())
                    }
                    _ => Replaced::Nothing,
                };
                return Ok((group, replaced));
            }
            PassTarget::Variable(template) => template,
        };
        let mut url = Vec::new();
        template.render(&self.view(request), &mut url);
        let Some(rest) = url.strip_prefix(b"http://") else {
            self.log(
                Level::Error,
                request,
                format_args!("invalid URL prefix in \"{}\"", Escaped(&url)),
            );
            return Err(Finished::Answer(500));
        };
        let split = memchr::memchr2(b'/', b'?', rest).unwrap_or(rest.len());
        let (name, uri) = rest.split_at(split);
        let found = std::str::from_utf8(name)
            .ok()
            .and_then(|name| self.worker.group_named(self.settings, name));
        let Some(group) = found else {
            self.log(
                Level::Error,
                request,
                format_args!("no resolver defined to resolve {}", Escaped(name)),
            );
            return Err(Finished::Answer(502));
        };
        let replaced = if uri.is_empty() {
            Replaced::Nothing
        } else {
            Replaced::Whole(uri.to_vec())
        };
        Ok((group, replaced))
    }

    /// A clean connection to a server of the group: a pooled one, or a new one.
    async fn connect(
        &self,
        group: &Rc<Group>,
        request: &mut Request,
        tried: &mut SmallVec<[PeerIndex; 4]>,
        began: Instant,
    ) -> Result<Upstream, Failed> {
        let servers = Rc::clone(&group.servers.borrow());
        let key = self.balancing_key(group, &servers, request);
        let mut last = None;
        loop {
            let picked = servers
                .balancer
                .borrow_mut()
                .pick(&key, tried, Instant::now(), |n| rand::random_range(0..n));
            let Some(peer) = picked else {
                // All were tried: the last one's failure is the request's.
                if let Some(failure) = last {
                    return Err(Failed::Upstream(failure));
                }
                let name: Rc<str> = group.name.as_str().into();
                request.attempts.push(Attempt {
                    server: name,
                    status: 502,
                    ..Attempt::default()
                });
                self.log(
                    Level::Error,
                    request,
                    format_args!("no live upstreams while connecting to upstream"),
                );
                return Err(Failed::Upstream(UpstreamFailure::NoneLive));
            };
            tried.push(peer);
            let server = Rc::clone(&servers.peers[peer].0);
            request.attempts.push(Attempt {
                server,
                ..Attempt::default()
            });
            if let Some(upstream) = group.reuse(&servers, peer) {
                self.worker.counters.upstream_reused.add(1);
                self.note_connected(request, Duration::ZERO);
                return Ok(upstream);
            }
            let failure = match self.open(group, &servers, peer, request).await {
                Ok(upstream) => return Ok(upstream),
                Err(Failed::Upstream(failure)) => failure,
                Err(failed) => return Err(failed),
            };
            self.worker.counters.upstream_failed.add(1);
            let disabled = servers.balancer.borrow_mut().failed(peer, Instant::now());
            self.log_failure(request, &failure, disabled);
            if let Some(attempt) = request.attempts.last_mut() {
                attempt.status = failure.status();
            }
            // Nothing was sent, so that another server may be tried whatever the request is.
            if !self.retries(&failure) || !self.tries_left(tried, began) {
                return Err(Failed::Upstream(failure));
            }
            last = Some(failure);
        }
    }

    async fn open(
        &self,
        group: &Rc<Group>,
        servers: &Rc<Servers>,
        peer: PeerIndex,
        request: &mut Request,
    ) -> Result<Upstream, Failed> {
        let proxy = &self.location.proxy;
        let began = Instant::now();
        let bind: Option<IpAddr> = proxy.bind.as_ref().and_then(|template| {
            let mut address = Vec::new();
            template.render(&self.view(request), &mut address);
            std::str::from_utf8(&address).ok()?.parse().ok()
        });
        let upstream = Upstream::connect(group, servers, peer, bind, proxy.socket_keepalive, began)
            .map_err(|error| Failed::Upstream(UpstreamFailure::Connect(error)))?;
        let wait = self
            .slot
            .timed(Timer::UpstreamWrite, proxy.connect_timeout, |cx| {
                if let Poll::Ready(connected) = upstream.socket.poll_connected(cx) {
                    return Poll::Ready(
                        connected
                            .map_err(|error| Failed::Upstream(UpstreamFailure::Connect(error))),
                    );
                }
                if self.socket.poll_hung_up(cx).is_ready() {
                    return Poll::Ready(Err(Failed::ClientGone));
                }
                Poll::Pending
            });
        wait.await
            .map_err(|_| Failed::Upstream(UpstreamFailure::ConnectTimedOut))??;
        self.worker.counters.upstream_opened.add(1);
        self.note_connected(request, began.elapsed());
        Ok(upstream)
    }

    fn note_connected(&self, request: &mut Request, time: Duration) {
        if let Some(attempt) = request.attempts.last_mut() {
            attempt.connected = Some(time);
        }
    }

    /// What the balancing method hashes.
    fn balancing_key(&self, group: &Group, servers: &Servers, request: &Request) -> Vec<u8> {
        match servers.method() {
            Method::IpHash => match request.client.ip().map(|ip| ip.to_canonical()) {
                Some(IpAddr::V4(ip)) => ip.octets()[..3].to_vec(),
                Some(IpAddr::V6(ip)) => ip.octets().to_vec(),
                None => Vec::new(),
            },
            Method::Hash { .. } => {
                let mut key = Vec::new();
                if let Some(template) = &*group.hash_key.borrow() {
                    template.render(&self.view(request), &mut key);
                }
                key
            }
            Method::RoundRobin | Method::LeastConn | Method::Random { .. } => Vec::new(),
        }
    }

    fn tries_left(&self, tried: &[PeerIndex], began: Instant) -> bool {
        let proxy = &self.location.proxy;
        (proxy.next_upstream_tries == 0 || tried.len() < proxy.next_upstream_tries as usize)
            && proxy
                .next_upstream_timeout
                .is_none_or(|limit| began.elapsed() < limit)
    }

    /// Whether a request may be sent once more, as far as its method says (nginx documentation, `proxy_next_upstream`).
    fn is_repeatable(&self, request: &Request) -> bool {
        let method = request.head.method.of(&request.bytes);
        self.location.proxy.next_upstream.non_idempotent
            || !matches!(method, b"POST" | b"LOCK" | b"PATCH")
    }

    /// Whether the group has a server that was not tried yet.
    fn is_another_left(&self, request: &Request, tried: &[PeerIndex]) -> bool {
        let group = request.group.as_ref();
        group.is_some_and(|group| tried.len() < group.servers.borrow().peers.len())
    }

    /// Whether `proxy_next_upstream` names the failure.
    fn retries(&self, failure: &UpstreamFailure) -> bool {
        let next = &self.location.proxy.next_upstream;
        match failure {
            UpstreamFailure::NoneLive => false,
            UpstreamFailure::Connect(_)
            | UpstreamFailure::Send(_)
            | UpstreamFailure::Closed
            | UpstreamFailure::Receive(_) => next.error,
            UpstreamFailure::ConnectTimedOut
            | UpstreamFailure::SendTimedOut
            | UpstreamFailure::ReadTimedOut => next.timeout,
            UpstreamFailure::InvalidHead(_) => next.invalid_header,
            UpstreamFailure::Status(_) => true,
        }
    }

    /// Counts and logs that the server failed the request that was sent to it.
    fn note_failure(
        &self,
        request: &mut Request,
        upstream: &Upstream,
        failure: &UpstreamFailure,
        counts: bool,
    ) {
        self.worker.counters.upstream_failed.add(1);
        // These statuses say nothing about the server (nginx documentation, proxy_next_upstream).
        let counts = counts && !matches!(failure, UpstreamFailure::Status(403 | 404));
        let disabled = counts && upstream.failed(Instant::now());
        if let Some(attempt) = request.attempts.last_mut()
            && attempt.status == 0
        {
            attempt.status = failure.status();
        }
        self.log_failure(request, failure, disabled);
    }

    fn log_failure(&self, request: &Request, failure: &UpstreamFailure, disabled: bool) {
        self.log(Level::Error, request, format_args!("{failure}"));
        if disabled {
            self.log(
                Level::Warn,
                request,
                format_args!("upstream server temporarily disabled"),
            );
        }
    }

    /// Ends a request that came to no answer of a server.
    fn fail(&self, request: &mut Request, failed: Failed, on: Option<Carrier>) -> Finished {
        let (reason, finished) = match failed {
            Failed::ClientGone => {
                self.worker.counters.client_aborts.add(1);
                self.log(
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
            Failed::Upstream(failure) => (
                EndReason::UpstreamClosed,
                Finished::Answer(failure.status()),
            ),
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
                self.log(
                    Level::Error,
                    request,
                    format_args!("client intended to send too large chunked body"),
                );
                Finished::Answer(413)
            }
            RelayError::SourceTimedOut => {
                self.log(
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

    fn log(&self, level: Level, request: &Request, message: std::fmt::Arguments<'_>) {
        self.worker
            .log_request(level, self.settings, self.facts, request, message);
    }
}

/// What becomes of the target, owned.
enum Replaced {
    Nothing,
    Prefix(usize, Vec<u8>),
    Whole(Vec<u8>),
}

impl UpstreamFailure {
    /// What the client is answered if nobody else can.
    fn status(&self) -> u16 {
        match self {
            Self::ConnectTimedOut | Self::SendTimedOut | Self::ReadTimedOut => 504,
            Self::Status(status) => *status,
            Self::NoneLive
            | Self::Connect(_)
            | Self::Send(_)
            | Self::Closed
            | Self::Receive(_)
            | Self::InvalidHead(_) => 502,
        }
    }

    /// The connection broke before the first byte of an answer.
    fn is_broken(&self) -> bool {
        matches!(self, Self::Send(_) | Self::Closed | Self::Receive(_))
    }
}

impl std::fmt::Display for UpstreamFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let os = |error: &std::io::Error| Cause::from(error);
        match self {
            Self::NoneLive => f.write_str("no live upstreams while connecting to upstream"),
            Self::Connect(error) => write!(f, "connect() failed ({}) while connecting to upstream", os(error)),
            Self::ConnectTimedOut => {
                f.write_str("upstream timed out (110: Connection timed out) while connecting to upstream")
            }
            Self::Send(error) => write!(f, "sendmsg() failed ({}) while sending request to upstream", os(error)),
            Self::SendTimedOut => {
                f.write_str("upstream timed out (110: Connection timed out) while sending request to upstream")
            }
            Self::Closed => {
                f.write_str("upstream prematurely closed connection while reading response header from upstream")
            }
            Self::Receive(error) => {
                write!(f, "recv() failed ({}) while reading response header from upstream", os(error))
            }
            Self::ReadTimedOut => f.write_str(
                "upstream timed out (110: Connection timed out) while reading response header from upstream",
            ),
            Self::InvalidHead(refusal) => write!(
                f,
                "upstream sent invalid header ({}) while reading response header from upstream",
                refusal.word()
            ),
            Self::Status(status) => write!(f, "upstream answered {status}, which proxy_next_upstream names"),
        }
    }
}
