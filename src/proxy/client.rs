//! A client connection: reads request heads, owns the pins, and has each request answered.

use std::cell::OnceCell;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::config::model::{Action, Level, Location};
use crate::http::body::BodyReader;
use crate::http::refusal::Refusal;
use crate::http::request::shown_line;
use crate::http::scan::{HeadScanner, Scan};
use crate::net::{Accepted, Peek, Socket};
use crate::pin::{Credentials, EndReason, GroupId, Limits, Pinned, Pins, State};

use super::answer::Body;
use super::forward::{Finished, Forward};
use super::proxy_header;
use super::relay::HEAD_BYTES;
use super::request::{ClientFacts, ClientRef, Request};
use super::route::{Routed, returned, route};
use super::slot::{Phase, Slot, SlotKey, Timer};
use super::upstream::Upstream;
use super::worker::{Settings, Worker};

/// One client connection, owned by the task that serves it.
pub(super) struct Client {
    pub(super) worker: Rc<Worker>,
    key: SlotKey,
    pub(super) slot: Rc<Slot>,
    pub(super) socket: Socket,
    facts: ClientFacts,
    /// Which of the process's listening addresses it came in by.
    listen: u64,
    /// The pins: here and nowhere else, so that they end with this connection.
    pins: Pins<Upstream>,
    /// Bytes received and not used yet. Has no allocation while idle.
    pub(super) buffered: Vec<u8>,
    /// How long the next request may take to begin.
    keepalive_timeout: Duration,
    pipelined: bool,
}

/// What to do after a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Read another.
    Request,
    /// Close; what was sent has to arrive although bytes of the client may be unread.
    Linger,
    /// Close.
    Close,
}

/// What an idle connection was woken by.
enum Woken {
    Readable,
    TimedOut,
    Draining,
    Evicted,
    PinIdle,
    PinClosed(GroupId),
}

impl Client {
    pub(super) fn new(worker: Rc<Worker>, accepted: Accepted, listen: u64, number: u64) -> Self {
        let (key, slot) = worker.slots.insert();
        let facts = ClientFacts {
            number,
            address: accepted.client,
            local: OnceCell::new(),
            accepted: Instant::now(),
            requests: 0,
            proxied: None,
        };
        Self {
            worker,
            key,
            slot,
            socket: accepted.socket,
            facts,
            listen,
            pins: Pins::default(),
            buffered: Vec::new(),
            keepalive_timeout: Duration::ZERO,
            pipelined: false,
        }
    }

    /// Serves the connection to its end. (In a box, because a task holds what it was given by value twice.)
    pub(super) async fn serve(mut self: Box<Self>) {
        let mut settings = self.worker.settings();
        if settings
            .listener(self.listen)
            .is_some_and(|index| settings.config().http.listeners[index].proxy_protocol)
            && !Box::pin(self.read_proxy_header(&settings)).await
        {
            return;
        }
        loop {
            let Some(mut request) = self.next_request(&settings).await else {
                break;
            };
            // A reload holds from the next request on, also where the connection was idle meanwhile; one whose address is
            // gone stays with the old configuration.
            let current = self.worker.settings();
            if current.listener(self.listen).is_some() {
                settings = current;
            }
            self.slot.phase.set(Phase::Answering);
            // Boxed, like everything else here that an idle connection does not do, so that its task is small.
            let next = Box::pin(self.handle(&settings, &mut request)).await;
            self.seen(&settings).log_access(&request);
            self.worker.give_back(request);
            self.slot.phase.set(Phase::Idle);
            match next {
                Next::Request => {}
                Next::Close => break,
                Next::Linger => {
                    // Whoever the pins are for gets nothing more on this connection.
                    self.end_pins(EndReason::Error);
                    Box::pin(self.linger()).await;
                    break;
                }
            }
        }
        let reason = if self.slot.is_draining() {
            EndReason::Shutdown
        } else {
            EndReason::ClientClosed
        };
        self.end_pins(reason);
    }

    fn end_pins(&mut self, reason: EndReason) {
        let groups: Vec<GroupId> = self.pins.iter().map(|pin| pin.group()).collect();
        for pin in groups
            .into_iter()
            .filter_map(|group| self.pins.remove(group))
        {
            self.worker.end_pin(pin, reason);
        }
    }

    /// The connection for those who serve a request on it.
    pub(super) fn seen<'a>(&'a self, settings: &'a Settings) -> ClientRef<'a> {
        ClientRef {
            worker: &self.worker,
            settings,
            slot: &self.slot,
            socket: &self.socket,
            facts: &self.facts,
        }
    }

    /// Waits for a request head and takes it. `None`: the connection is over.
    async fn next_request(&mut self, settings: &Settings) -> Option<Box<Request>> {
        let limits = settings.head_limits(self.listen);
        let header_timeout = settings.header_timeout(self.listen);
        let mut scanner = HeadScanner::default();
        let mut began: Option<Instant> = None;
        self.pipelined = !self.buffered.is_empty();
        let mut unscanned = self.pipelined;
        loop {
            // Bytes that are here already; then what the socket brings.
            if unscanned {
                let found = scanner.scan(&self.buffered, &limits);
                if let Some(request) = self.take_head(settings, found, None).await {
                    return request;
                }
            }
            if began.is_none() && !self.buffered.is_empty() {
                began = Some(Instant::now());
                self.slot.phase.set(Phase::Reading);
            }
            let timeout = match began {
                Some(at) => header_timeout.saturating_sub(at.elapsed()),
                None if self.facts.requests == 0 => header_timeout,
                None => self.keepalive_timeout,
            };
            match self.idle(timeout).await {
                Woken::Readable => {}
                Woken::TimedOut => {
                    if began.is_some() {
                        Box::pin(self.refuse_head(settings, 408)).await;
                    }
                    return None;
                }
                Woken::Draining => return None,
                Woken::Evicted => {
                    self.give_up_evicted();
                    continue;
                }
                Woken::PinIdle => {
                    self.end_idle_pins();
                    continue;
                }
                Woken::PinClosed(group) => {
                    if let Some(pin) = self.pins.remove(group) {
                        self.worker.end_pin(pin, EndReason::UpstreamClosed);
                    }
                    // The client would believe itself logged in.
                    if self.pins.is_empty() {
                        return None;
                    }
                    continue;
                }
            }
            unscanned = false;
            let received = self.socket.try_recv(HEAD_BYTES);
            match received {
                Ok(None) => {}
                Ok(Some(loan)) if !loan.is_empty() => {
                    if self.buffered.is_empty() {
                        let found = scanner.scan(&loan, &limits);
                        if let Some(request) = self.take_head(settings, found, Some(loan)).await {
                            return request;
                        }
                    } else {
                        self.buffered.extend_from_slice(&loan);
                        unscanned = true;
                    }
                }
                Ok(Some(_)) | Err(_) => return None,
            }
        }
    }

    /// Carries out what the scanner found in the loan, or without one in `buffered`. `None`: more bytes are needed.
    /// `Some(None)`: the head is refused, and the connection is over.
    async fn take_head(
        &mut self,
        settings: &Settings,
        found: Scan,
        loan: Option<crate::net::Loan>,
    ) -> Option<Option<Box<Request>>> {
        match found {
            Scan::Complete { start, end } => {
                let mut request = self.worker.take_request();
                request.pipelined = self.pipelined;
                match loan {
                    Some(loan) => {
                        request.bytes.extend_from_slice(&loan[start..end]);
                        // What came behind the head is its body or the next request.
                        self.buffered.extend_from_slice(&loan[end..]);
                    }
                    None => {
                        request.bytes.extend_from_slice(&self.buffered[start..end]);
                        if end == self.buffered.len() {
                            self.buffered = Vec::new();
                        } else {
                            self.buffered.drain(..end);
                        }
                    }
                }
                Some(Some(request))
            }
            Scan::Incomplete => {
                if let Some(loan) = loan {
                    self.buffered.extend_from_slice(&loan);
                }
                None
            }
            Scan::Refused(refusal) => {
                if let Some(loan) = loan {
                    self.buffered.extend_from_slice(&loan);
                }
                self.note_refusal(refusal);
                Box::pin(self.refuse_head(settings, refusal.status())).await;
                Some(None)
            }
        }
    }

    /// Answers bytes that never became a request, and closes.
    async fn refuse_head(&mut self, settings: &Settings, status: u16) {
        let mut request = self.worker.take_request();
        request.bytes.extend_from_slice(shown_line(&self.buffered));
        self.buffered = Vec::new();
        self.facts.requests += 1;
        self.worker.counters.requests.add(1);
        let Some(listener) = settings.listener(self.listen) else {
            return;
        };
        let http = &settings.config().http;
        request.server = http.listeners[listener].names.default;
        request.location = http.servers[request.server].root;
        request.client = self.facts.address;
        let message = match status {
            408 => {
                "client timed out (110: Connection timed out) while reading client request headers"
            }
            _ => "client sent invalid request",
        };
        self.seen(settings)
            .log(Level::Info, &request, format_args!("{message}"));
        self.end_pins(EndReason::Error);
        self.answer(
            settings,
            &http.locations[request.location],
            &mut request,
            status,
            Body::Page,
            false,
        )
        .await;
        self.seen(settings).log_access(&request);
        self.worker.give_back(request);
        self.linger().await;
    }

    fn note_refusal(&self, refusal: Refusal) {
        self.worker.counters.refusals.count(refusal as usize);
    }

    /// Waits for bytes of the client, or for whatever else an idle connection has to notice.
    async fn idle(&mut self, timeout: Duration) -> Woken {
        if !self.pins.is_empty()
            && let Some(at) = self.pins.next_expiry(limits)
        {
            self.slot.arm(Timer::Pins, at);
        }
        let (slot, pins, socket) = (&self.slot, &self.pins, &self.socket);
        let wait = slot.timed(Timer::ClientRead, timeout, |cx| {
            if slot.has_evicted() {
                return Poll::Ready(Woken::Evicted);
            }
            // The pins first: a request must not go out on one that its server has just closed.
            for pin in pins.iter() {
                if pin.connection().socket.poll_unasked(cx).is_ready() {
                    return Poll::Ready(Woken::PinClosed(pin.group()));
                }
            }
            if slot.take_expired(Timer::Pins) {
                return Poll::Ready(Woken::PinIdle);
            }
            if socket.poll_readable(cx).is_ready() {
                return Poll::Ready(Woken::Readable);
            }
            if slot.is_draining() && slot.phase.get() == Phase::Idle {
                // A request may be here that the driver has not told of yet: its client was not idle.
                return Poll::Ready(match socket.peek() {
                    Peek::Bytes => Woken::Readable,
                    _ => Woken::Draining,
                });
            }
            Poll::Pending
        });
        let woken = wait.await.unwrap_or(Woken::TimedOut);
        self.slot.disarm(Timer::Pins);
        woken
    }

    fn give_up_evicted(&mut self) {
        while let Some(group) = self.slot.take_evicted() {
            if let Some(pin) = self.pins.remove(group) {
                self.worker.end_pin(pin, EndReason::Evicted);
            }
        }
    }

    fn end_idle_pins(&mut self) {
        let now = Instant::now();
        while let Some(pin) = self.pins.expired(limits, now) {
            self.worker.end_pin(pin, EndReason::Idle);
        }
    }

    /// Has one request answered.
    async fn handle(&mut self, settings: &Settings, request: &mut Request) -> Next {
        request.started = Instant::now();
        self.facts.requests += 1;
        self.worker.counters.requests.add(1);
        self.give_up_evicted();
        let Some(listener) = settings.listener(self.listen) else {
            return Next::Close;
        };
        let http = &settings.config().http;
        request.server = http.listeners[listener].names.default;
        request.location = http.servers[request.server].root;
        request.client = self.facts.address;
        let limits = settings.head_limits(self.listen);
        if let Err(refusal) = request.head.parse(&request.bytes, &limits) {
            return self.refuse(settings, request, refusal).await;
        }
        request.body = BodyReader::new(request.head.framing);
        let routed = match route(self.seen(settings), listener, request) {
            Ok(routed) => routed,
            Err(refusal) => return self.refuse(settings, request, refusal).await,
        };
        let location = &http.locations[request.location];
        self.keepalive_timeout = location.client.keepalive_timeout;
        if !location.client.tcp_nodelay {
            self.socket.set_nodelay(false);
        }
        let keep = self.may_keep(location, request);
        if let Some(answer) = returned(settings, request, &routed) {
            let kept = self
                .answer_return(settings, location, request, answer, keep)
                .await;
            return if request.status == 444 {
                Next::Close
            } else {
                after_own_answer(kept)
            };
        }
        let status = match (&routed, &location.action) {
            (Routed::Forbidden, _) => {
                let message = format_args!("access forbidden by rule");
                self.seen(settings).log(Level::Error, request, message);
                403
            }
            (_, Action::Proxy(pass)) => {
                let forward = Forward {
                    // Not by `self.seen`: the pins are lent for writing at the same time.
                    client: ClientRef {
                        worker: &self.worker,
                        settings,
                        slot: &self.slot,
                        socket: &self.socket,
                        facts: &self.facts,
                    },
                    key: self.key,
                    location,
                    may_keep: keep,
                };
                match forward
                    .run(&mut self.pins, &mut self.buffered, request, pass)
                    .await
                {
                    Finished::Answered { keep: true, .. } => return Next::Request,
                    Finished::Answered {
                        body_coming: true, ..
                    } => return Next::Linger,
                    Finished::Answered { .. } => return self.closing(),
                    Finished::Close => return Next::Close,
                    Finished::Refuse(refusal) => {
                        return self.refuse(settings, request, refusal).await;
                    }
                    Finished::Answer(status) => status,
                }
            }
            (_, Action::StubStatus) => {
                let text = self.worker.stub_status();
                let body = Body::Text("text/plain", text.as_bytes());
                return after_own_answer(
                    self.answer(settings, location, request, 200, body, keep)
                        .await,
                );
            }
            (_, Action::NotFound | Action::Return(_)) => 404,
        };
        // The client would believe itself logged in on a connection whose last login failed with this request.
        let login_lost = self.pins.is_empty()
            && request
                .pin
                .is_some_and(|pin| pin.state == State::Established);
        // 408 and 413 leave a body unread that may be of any length.
        let keep = keep && !login_lost && !matches!(status, 408 | 413);
        after_own_answer(
            self.answer(settings, location, request, status, Body::Page, keep)
                .await,
        )
    }

    /// Whether the client connection may go on after this request, as far as the request and the limits say.
    fn may_keep(&self, location: &Location, request: &Request) -> bool {
        let client = &location.client;
        // The limits of the client connection never end a login.
        let within = !self.pins.is_empty()
            || request
                .head
                .authorization
                .is_some_and(|value| Credentials::in_value(value.of(&request.bytes)).is_some())
            || self.facts.requests < client.keepalive_requests
                && self.facts.accepted.elapsed() < client.keepalive_time;
        request.head.keep_alive
            && !client.keepalive_timeout.is_zero()
            && within
            && !self.slot.is_draining()
    }

    /// Answers a message that breaks a rule, and closes: never look for a next request in the rest.
    async fn refuse(
        &mut self,
        settings: &Settings,
        request: &mut Request,
        refusal: Refusal,
    ) -> Next {
        self.note_refusal(refusal);
        let message = format_args!("client sent invalid request: {refusal}");
        self.seen(settings).log(Level::Info, request, message);
        let location = &settings.config().http.locations[request.location];
        self.answer(
            settings,
            location,
            request,
            refusal.status(),
            Body::Page,
            false,
        )
        .await;
        Next::Linger
    }

    /// How a connection ends whose last answer is out: the client's unread bytes must not turn the close into a reset.
    fn closing(&self) -> Next {
        if self.buffered.is_empty() && self.socket.peek() != Peek::Bytes {
            Next::Close
        } else {
            Next::Linger
        }
    }

    /// Reads the PROXY header that comes before everything else. False if there is none.
    async fn read_proxy_header(&mut self, settings: &Settings) -> bool {
        let deadline = Instant::now() + settings.header_timeout(self.listen);
        loop {
            match proxy_header::parse(&self.buffered) {
                proxy_header::Parsed::Incomplete => {}
                proxy_header::Parsed::Header { len, addresses } => {
                    self.buffered.drain(..len);
                    self.facts.proxied = addresses;
                    return true;
                }
                proxy_header::Parsed::Broken => {
                    let message = format_args!("broken header while reading PROXY protocol");
                    self.seen(settings).log_connection(Level::Error, message);
                    return false;
                }
            }
            if !self
                .receive_more(deadline.saturating_duration_since(Instant::now()))
                .await
            {
                return false;
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.worker.slots.remove(self.key);
    }
}

/// The limits that hold for a pin now.
fn limits(pin: &Pinned<Upstream>) -> Limits {
    pin.connection().pin_limits
}

fn after_own_answer(kept: bool) -> Next {
    if kept { Next::Request } else { Next::Linger }
}
