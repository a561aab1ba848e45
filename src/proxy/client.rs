//! A client connection: reads request heads, owns the pins, and has each request answered.

use std::cell::OnceCell;
use std::ops::Deref;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::config::model::{Action, FiguresForm, Level, Location, ProxyPass, Return};
use crate::http::body::BodyReader;
use crate::http::head::Framing;
use crate::http::proxy_header;
use crate::http::refusal::Refusal;
use crate::http::request::{Method, shown_line};
use crate::http::scan::{HeadScanner, Scan};
use crate::net::{Accepted, Loan, Peek, give_way, now};
use crate::pin::{Credentials, EndReason, GroupId, Limits, Pinned, Pins, State};

use super::answer::Body;
use super::forward::{Finished, Forward};
use super::limits::Limited;
use super::relay::HEAD_BYTES;
use super::request::{ClientRef, Connection, Proxied, Request};
use super::route::{Routed, returned, route};
use super::slot::{Phase, Timer};
use super::upstream::Upstream;
use super::worker::{Settings, Worker};

/// Requests that a client is answered in a row, each of them there before it was waited for, before others get their turn.
const IN_A_ROW_MAX: u32 = 16;

/// One client connection, owned by the task that serves it.
pub(super) struct Client {
    pub(super) connection: Connection,
    /// Which of the process's listening addresses it came in by, and which of the configuration's listeners that is.
    listen: u64,
    pub(super) listener: usize,
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

/// What came of the bytes at the beginning of a request.
enum Taken {
    /// More of them are needed.
    Nothing,
    /// A head.
    Request(Box<Request>),
    /// Something that breaks a rule; the connection is over.
    Refused(Refusal),
}

/// A request that is answered by the front itself.
enum Own<'a> {
    /// The message breaks a rule.
    Refused(Refusal),
    /// `return`
    Return(&'a Return),
    /// `stub_status` and the like
    Figures(FiguresForm),
    /// The page of a status.
    Status(u16),
    /// What a limit refuses with.
    Limited(u16),
}

/// What an idle connection was woken by.
enum Woken {
    Readable,
    TimedOut,
    /// The worker needs room for another connection.
    Unwanted,
    Evicted,
    PinIdle,
    PinClosed(GroupId),
}

impl Client {
    pub(super) fn new(worker: Rc<Worker>, accepted: Accepted, listen: u64, number: u64) -> Self {
        let (key, slot) = worker.slots.insert();
        let connection = Connection {
            worker,
            key,
            slot,
            socket: accepted.socket.into(),
            number,
            address: accepted.client,
            local: OnceCell::new(),
            accepted: now(),
            requests: 0,
            plain_for_tls: false,
            presented: None,
            proxied: None,
        };
        Self {
            connection,
            listen,
            listener: 0,
            pins: Pins::default(),
            buffered: Vec::new(),
            keepalive_timeout: Duration::ZERO,
            pipelined: false,
        }
    }

    /// Serves the connection to its end; `settings` are those by which it was accepted. (In a box, because a task holds what it was
    /// given by value twice.)
    pub(super) async fn serve(mut self: Box<Self>, mut settings: Rc<Settings>) {
        let Some(listener) = settings.listener(self.listen) else {
            return;
        };
        self.listener = listener;
        if settings.config().http.listeners[listener].proxy_protocol
            && !Box::pin(self.read_proxy_header(&settings)).await
        {
            return;
        }
        if settings.config().http.listeners[listener].ssl
            && !Box::pin(self.shake_hands(&settings)).await
        {
            return;
        }
        let mut in_a_row = 0;
        loop {
            let Some(mut request) = self.next_request(&settings).await else {
                break;
            };
            // What the front answers itself waits for nobody, and its client may send faster than it is answered.
            in_a_row = if request.pipelined { in_a_row + 1 } else { 0 };
            if in_a_row == IN_A_ROW_MAX {
                in_a_row = 0;
                give_way().await;
            }
            // A reload holds from the next request on, also where the connection was idle meanwhile; one whose address is
            // gone stays with the old configuration.
            if let Some(current) = self.worker.settings_unless(&settings)
                && let Some(listener) = current.listener(self.listen)
            {
                (settings, self.listener) = (current, listener);
            }
            self.slot.phase.set(Phase::Answering);
            let next = self.handle(&settings, &mut request).await;
            self.seen(&settings).log_access(&request);
            self.worker.give_back(request);
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
        while let Some(group) = self.pins.iter().next().map(|pin| pin.group()) {
            if let Some(pin) = self.pins.remove(group) {
                self.worker.end_pin(pin, reason);
            }
        }
    }

    /// The connection for those who serve a request on it.
    pub(super) fn seen<'a>(&'a self, settings: &'a Settings) -> ClientRef<'a> {
        ClientRef {
            connection: &self.connection,
            settings,
        }
    }

    /// Waits for a request head and takes it. `None`: the connection is over.
    async fn next_request(&mut self, settings: &Settings) -> Option<Box<Request>> {
        // Before a host is known, the default server's sizes hold.
        let server = settings.default_server(self.listener);
        let mut scanner = HeadScanner::default();
        let mut began: Option<Instant> = None;
        self.pipelined = !self.buffered.is_empty();
        let mut unscanned = self.pipelined;
        loop {
            if began.is_none() {
                self.slot.phase.set(match self.pins.is_empty() {
                    true => Phase::Idle,
                    false => Phase::Pinned,
                });
            }
            // Bytes that are here already; then what the socket brings.
            if unscanned {
                let found = scanner.scan(&self.buffered, &server.head);
                match self.take_head(found, None) {
                    Taken::Nothing => {}
                    Taken::Request(request) => return Some(request),
                    Taken::Refused(refusal) => {
                        Box::pin(self.refuse_head(settings, Some(refusal))).await;
                        return None;
                    }
                }
            }
            // An empty line begins no request (rule 16).
            if began.is_none() && !b"\r\n".starts_with(&self.buffered[..]) {
                began = Some(now());
                self.slot.phase.set(Phase::Reading);
            }
            let timeout = match began {
                Some(at) => server.header_timeout.saturating_sub(now() - at),
                None if self.requests == 0 => self.slot.patience(server.header_timeout),
                None => self.slot.patience(self.keepalive_timeout),
            };
            match self.idle(timeout).await {
                Woken::Readable => self.worker.slots.stay(&self.slot),
                Woken::TimedOut => {
                    if began.is_some() {
                        Box::pin(self.refuse_head(settings, None)).await;
                    }
                    return None;
                }
                Woken::Unwanted => return None,
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
                        let found = scanner.scan(&loan, &server.head);
                        match self.take_head(found, Some(loan)) {
                            Taken::Nothing => {}
                            Taken::Request(request) => return Some(request),
                            Taken::Refused(refusal) => {
                                Box::pin(self.refuse_head(settings, Some(refusal))).await;
                                return None;
                            }
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

    /// Carries out what the scanner found in the loan, or without one in `buffered`.
    fn take_head(&mut self, found: Scan, loan: Option<Loan>) -> Taken {
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
                Taken::Request(request)
            }
            Scan::Incomplete => {
                if let Some(loan) = loan {
                    self.buffered.extend_from_slice(&loan);
                }
                Taken::Nothing
            }
            Scan::Refused(refusal) => {
                if let Some(loan) = loan {
                    self.buffered.extend_from_slice(&loan);
                }
                Taken::Refused(refusal)
            }
        }
    }

    /// Answers bytes that never became a request, and closes: they break a rule, or the rest did not come in time.
    async fn refuse_head(&mut self, settings: &Settings, refusal: Option<Refusal>) {
        let mut request = self.worker.take_request();
        request.bytes.extend_from_slice(shown_line(&self.buffered));
        self.buffered = Vec::new();
        self.connection.requests += 1;
        self.worker.counters.requests.add(1);
        let http = &settings.config().http;
        request.server = http.listeners[self.listener].names.default;
        request.location = http.servers[request.server].root;
        request.client = self.connection.address;
        let seen = self.seen(settings);
        match refusal {
            Some(refusal) => seen.note_refusal(&request, refusal),
            None => seen.log(
                Level::Info,
                &request,
                format_args!(
                    "client timed out (110: Connection timed out) while reading client request headers"
                ),
            ),
        }
        self.end_pins(EndReason::Error);
        self.answer(
            settings,
            &http.locations[request.location],
            &mut request,
            refusal.map_or(408, Refusal::status),
            Body::Page,
            false,
        )
        .await;
        self.seen(settings).log_access(&request);
        self.worker.give_back(request);
        self.linger().await;
    }

    /// Waits for bytes of the client, or for whatever else an idle connection has to notice.
    async fn idle(&mut self, timeout: Duration) -> Woken {
        if !self.pins.is_empty()
            && let Some(at) = self.pins.next_expiry(limits)
        {
            self.slot.arm(Timer::Pins, at);
        }
        let (slot, pins, socket) = (&self.connection.slot, &self.pins, &self.connection.socket);
        let mut waited = false;
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
            if slot.is_unwanted() && slot.phase.get().is_between_requests() {
                // A request may be here that the driver has not told of yet: its client was not idle.
                return Poll::Ready(match socket.peek() {
                    Peek::Bytes => Woken::Readable,
                    _ => Woken::Unwanted,
                });
            }
            waited = true;
            Poll::Pending
        });
        let woken = wait.await.unwrap_or(Woken::TimedOut);
        // Bytes that were here before anyone waited: the driver has not looked at the pins since the last answer.
        self.pipelined |= !waited && self.connection.requests > 0;
        self.slot.disarm(Timer::Pins);
        woken
    }

    pub(super) fn give_up_evicted(&mut self) {
        while let Some(group) = self.slot.take_evicted() {
            if let Some(pin) = self.pins.remove(group) {
                self.worker.end_evicted_pin(pin);
            }
        }
    }

    fn end_idle_pins(&mut self) {
        let now = now();
        while let Some(pin) = self.pins.expired(limits, now) {
            self.worker.end_pin(pin, EndReason::Idle);
        }
    }

    /// Has one request answered.
    #[allow(clippy::manual_async_fn)] // its future would hold each argument twice
    fn handle(&mut self, settings: &Settings, request: &mut Request) -> impl Future<Output = Next> {
        async move {
            let mut judged = self.judge(settings, request);
            if judged.is_ok()
                && let Some(limits) = &settings.config().http.locations[request.location].limits
            {
                judged = match Box::pin(self.limit(settings, request, limits)).await {
                    Limited::Passed => judged,
                    Limited::Refused(status) => Err(Own::Limited(status)),
                    Limited::ClientGone => {
                        request.cut = true;
                        return Next::Close;
                    }
                };
            }
            let own = match judged.and_then(|routed| self.act(settings, request, &routed)) {
                Ok(pass) => {
                    let forward = Forward {
                        // Not by `self.seen`: the pins are lent for writing at the same time.
                        client: ClientRef {
                            connection: &self.connection,
                            settings,
                        },
                        location: &settings.config().http.locations[request.location],
                    };
                    let finished = forward
                        .run(&mut self.pins, &mut self.buffered, request, pass)
                        .await;
                    match finished {
                        Finished::Answered { keep: true, .. } => return Next::Request,
                        Finished::Answered {
                            body_coming: true, ..
                        } => return Next::Linger,
                        Finished::Answered { .. } => return self.closing(),
                        Finished::Close => {
                            request.cut = true;
                            return Next::Close;
                        }
                        Finished::Refuse(refusal) => Own::Refused(refusal),
                        Finished::Answer(status) => Own::Status(status),
                    }
                }
                Err(own) => own,
            };
            // Boxed, like everything else that few requests do, so that what a task holds while a server thinks is small.
            Box::pin(self.answer_itself(settings, request, own)).await
        }
    }

    /// Parses the head and finds out whose request it is, unless it is answered at once.
    fn judge<'a>(
        &mut self,
        settings: &'a Settings,
        request: &mut Request,
    ) -> Result<Routed, Own<'a>> {
        request.started = now();
        self.connection.requests += 1;
        self.worker.counters.requests.add(1);
        self.give_up_evicted();
        let http = &settings.config().http;
        let server = settings.default_server(self.listener);
        request.server = http.listeners[self.listener].names.default;
        request.location = server.root;
        request.client = self.address;
        let parsed = request.head.parse(&request.bytes, &server.head);
        parsed.map_err(Own::Refused)?;
        request.body = BodyReader::new(request.head.framing);
        let routed = route(self.seen(settings), self.listener, request).map_err(Own::Refused)?;
        let location = &http.locations[request.location];
        self.keepalive_timeout = location.client.keepalive_timeout;
        if !location.client.tcp_nodelay {
            self.socket.set_nodelay(false);
        }
        request.may_keep = self.may_keep(location, request);
        if self.plain_for_tls {
            let message = format_args!("client sent plain HTTP request to HTTPS port");
            self.seen(settings).log(Level::Info, request, message);
            return Err(Own::Status(497));
        }
        if self.socket.is_tls()
            && let Some(status) = self.refuses_certificate(settings, request)
        {
            return Err(Own::Status(status));
        }
        if let Framing::Length(length) = request.head.framing
            && length > location.client.max_body_size
            && location.client.max_body_size != 0
            && !matches!(routed, Routed::ServerReturns)
        {
            let message = format_args!("client intended to send too large body: {length} bytes");
            self.seen(settings).log(Level::Error, request, message);
            return Err(Own::Status(413));
        }
        if let Some(answer) = returned(settings, request, &routed) {
            return Err(Own::Return(answer));
        }
        Ok(routed)
    }

    /// Finds out who answers: a server of the group that is returned, or the front itself.
    fn act<'a>(
        &self,
        settings: &'a Settings,
        request: &Request,
        routed: &Routed,
    ) -> Result<&'a ProxyPass, Own<'a>> {
        let location = &settings.config().http.locations[request.location];
        match (routed, &location.action) {
            (Routed::Forbidden, _) => {
                let message = format_args!("access forbidden by rule");
                self.seen(settings).log(Level::Error, request, message);
                Err(Own::Status(403))
            }
            (_, Action::Proxy(pass)) => Ok(pass),
            (_, Action::Show(_)) if !is_get(request) => Err(Own::Status(405)),
            (_, Action::Show(form)) => Err(Own::Figures(*form)),
            (_, Action::NotFound | Action::Return(_)) => Err(Own::Status(404)),
        }
    }

    /// Answers a request that no server answers.
    async fn answer_itself(
        &mut self,
        settings: &Settings,
        request: &mut Request,
        own: Own<'_>,
    ) -> Next {
        let location = &settings.config().http.locations[request.location];
        let keep = request.may_keep;
        let kept = match own {
            Own::Refused(refusal) => {
                // Never look for a next request in the rest.
                self.seen(settings).note_refusal(request, refusal);
                let status = refusal.status();
                self.answer(settings, location, request, status, Body::Page, false)
                    .await
            }
            Own::Return(answer) => {
                let kept = self
                    .answer_return(settings, location, request, answer, keep)
                    .await;
                if request.status == 444 {
                    request.cut = true;
                    return Next::Close;
                }
                kept
            }
            Own::Figures(form) => {
                self.answer_figures(settings, location, request, form, keep)
                    .await
            }
            // As nginx ends a request with these statuses: without an answer.
            Own::Limited(status @ (408 | 444 | 499)) => {
                request.status = status;
                request.cut = true;
                self.socket.reset_on_close();
                return Next::Close;
            }
            Own::Limited(status) => {
                // After these statuses nginx goes on with no connection.
                let ends = matches!(status, 400 | 413 | 414 | 494..=497 | 500 | 501);
                self.answer(
                    settings,
                    location,
                    request,
                    status,
                    Body::Page,
                    keep && !ends,
                )
                .await
            }
            Own::Status(status) => {
                // The client would believe itself logged in on a connection whose last login failed with this request.
                let login_lost = self.pins.is_empty()
                    && request
                        .pin
                        .is_some_and(|pin| pin.state == State::Established);
                // 408 and 413 leave a body unread that may be of any length; who is refused for a certificate needs another connection.
                let keep = keep && !login_lost && !matches!(status, 408 | 413 | 495..=497);
                self.answer(settings, location, request, status, Body::Page, keep)
                    .await
            }
        };
        if kept { Next::Request } else { Next::Linger }
    }

    /// Whether the client connection may go on after this request, as far as the request and the limits say.
    fn may_keep(&self, location: &Location, request: &Request) -> bool {
        let client = &location.client;
        // The limits of the client connection never end a login.
        let authorization = request.head.authorization;
        let logs_in = authorization
            .is_some_and(|value| Credentials::in_value(value.of(&request.bytes)).is_some());
        let within = !self.pins.is_empty()
            || logs_in
            || self.connection.requests < client.keepalive_requests
                && now() - self.accepted < client.keepalive_time;
        request.head.keep_alive
            && !client.keepalive_timeout.is_zero()
            && within
            && (logs_in || !self.slot.is_draining())
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
        let deadline = now() + settings.default_server(self.listener).header_timeout;
        loop {
            match proxy_header::parse(&self.buffered) {
                proxy_header::Parsed::Incomplete => {}
                proxy_header::Parsed::Header {
                    len,
                    addresses,
                    tlvs,
                } => {
                    self.connection.proxied = addresses.map(|(source, destination)| {
                        Box::new(Proxied {
                            source,
                            destination,
                            tlvs: tlvs.of(&self.buffered).into(),
                        })
                    });
                    self.buffered = self.buffered.split_off(len);
                    return true;
                }
                proxy_header::Parsed::Broken => {
                    let message = format_args!("broken header while reading PROXY protocol");
                    self.seen(settings).log_connection(Level::Error, message);
                    return false;
                }
            }
            if !self
                .receive_more(deadline.saturating_duration_since(now()))
                .await
            {
                return false;
            }
        }
    }
}

impl Deref for Client {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

/// Whether a request only asks for something.
fn is_get(request: &Request) -> bool {
    matches!(request.head.method_kind, Method::Get | Method::Head)
}

/// The limits that hold for a pin now.
fn limits(pin: &Pinned<Upstream>) -> Limits {
    *pin.connection().pin_limits
}
