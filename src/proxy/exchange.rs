//! One request and its response over one upstream connection: the head goes out as slices, both bodies move at once, and
//! the client's leaving is noticed while the server is thinking.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::config::model::Location;
use crate::http::body::BodyReader;
use crate::http::head::{Framing, HeadLimits, Version};
use crate::http::refusal::Refusal;
use crate::http::response::Asked;
use crate::http::rewrite::{self, Slices, Target};
use crate::http::scan::{HeadScanner, Scan};
use crate::net::{Loan, Socket};

use super::fields;
use super::relay::{End, Relay, RelayError};
use super::request::{ClientFacts, Request, View};
use super::slot::{Slot, TimedOut, Timer};
use super::upstream::Upstream;
use super::worker::{Settings, Worker};

/// Informational responses that may precede a final one (rule 32).
const INFORMATIONAL_MAX: usize = 16;

/// Sizes of a response head; IIS sends large cookies and tokens.
const RESPONSE_LIMITS: HeadLimits = HeadLimits {
    line: 64 << 10,
    total: 128 << 10,
    fields: 200,
    underscores: true,
};

/// Longer than any connection lives.
const NO_TIMEOUT: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// What one exchange works with.
#[derive(Clone, Copy)]
pub(super) struct Exchange<'a> {
    pub(super) worker: &'a Worker,
    pub(super) settings: &'a Settings,
    pub(super) slot: &'a Slot,
    pub(super) client: &'a Socket,
    pub(super) facts: &'a ClientFacts,
    pub(super) location: &'a Location,
    /// The request travels on a pin.
    pub(super) pinned: bool,
    /// The client holds other pins, which a close would end.
    pub(super) other_pins: bool,
    /// The request's limits on the client connection allow another one after it.
    pub(super) may_keep: bool,
    /// Another server may be tried, because nothing of the request is lost and it is not bound to this one.
    pub(super) may_retry: bool,
}

/// A response that was relayed to its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered {
    /// The server keeps the connection open, nothing unread is on it, and all of the request went out.
    pub(super) upstream_reusable: bool,
    /// The client connection can take another request.
    pub(super) client_reusable: bool,
    /// The server said that it authenticates each request by itself.
    pub(super) persistent_auth_false: bool,
}

/// Why an exchange came to no end.
#[derive(Debug)]
pub(super) enum Failed {
    /// The client left.
    ClientGone,
    /// The client's body broke a rule, stopped or is too large, and no answer had begun.
    Body(RelayError),
    /// The server failed before an answer began.
    Upstream(UpstreamFailure),
    /// The answer had begun and cannot be completed: both connections are closed.
    Cut,
}

/// What a server did wrong.
#[derive(Debug)]
pub(super) enum UpstreamFailure {
    NoneLive,
    Connect(io::Error),
    ConnectTimedOut,
    Send(io::Error),
    SendTimedOut,
    Closed,
    Receive(io::Error),
    ReadTimedOut,
    InvalidHead(Refusal),
    /// Its status is one that `proxy_next_upstream` names.
    Status(u16),
}

impl Exchange<'_> {
    /// Sends the request and relays the response. `buffered` holds the bytes that came behind the request head: at the end,
    /// those of the next request.
    pub(super) async fn carry(
        &self,
        upstream: &Upstream,
        request: &mut Request,
        buffered: &mut Vec<u8>,
        target: Target<'_>,
    ) -> Result<Answered, Failed> {
        let asked = self.write_request(request, target)?;
        let uploaded = Cell::new(false);
        let continued = Cell::new(!request.head.expect_continue);
        let (body_received, upload_sent) = (Cell::new(0), Cell::new(0));
        let proxy = &self.location.proxy;
        let client_end = self.end(
            self.client,
            Timer::ClientRead,
            self.location.client.body_timeout,
        );
        let upstream_end = self.end(&upstream.socket, Timer::UpstreamWrite, proxy.send_timeout);
        let mut relay = Relay {
            from: client_end,
            to: upstream_end,
            reader: request.body.clone(),
            chunked: request.head.framing == Framing::Chunked,
            max_bytes: match self.location.client.max_body_size {
                0 => u64::MAX,
                bytes => bytes,
            },
            moved: &body_received,
            sent: &upload_sent,
            watch_receiver: false,
        };
        // The first bytes of the body ride along with the head.
        let left = {
            let mut slices = Slices::new();
            request.rewrite.slices(&request.bytes, 0, &mut slices);
            let (consumed, _, left) = relay.forward(buffered, &slices).map_err(upload_failed)?;
            buffered.drain(..consumed);
            if buffered.is_empty() {
                *buffered = Vec::new();
            }
            left
        };
        let has_body = !relay.reader.is_done();
        let result = if has_body || !left.is_empty() {
            let upload = Box::pin(async {
                upstream_end.send(&left).await?;
                relay.run(buffered).await
            });
            let response = self.respond(
                upstream,
                request,
                asked,
                &uploaded,
                &continued,
                &body_received,
            );
            both(upload, response, &uploaded, &continued, &body_received).await
        } else {
            uploaded.set(true);
            self.respond(
                upstream,
                request,
                asked,
                &uploaded,
                &continued,
                &body_received,
            )
            .await
        };
        // What is left of the body, should the front answer itself.
        request.body = relay.reader;
        request.body_received.set(body_received.get());
        if let Some(attempt) = request.attempts.last_mut() {
            attempt.sent += upload_sent.get();
        }
        result
    }

    fn end<'a>(&'a self, socket: &'a Socket, timer: Timer, timeout: Duration) -> End<'a> {
        End {
            socket,
            slot: self.slot,
            timer,
            timeout,
        }
    }

    fn view<'a>(&'a self, request: &'a Request) -> View<'a> {
        let Self {
            worker,
            settings,
            facts,
            client,
            ..
        } = *self;
        View {
            worker,
            settings,
            facts,
            request,
            socket: client,
        }
    }

    /// Prepares the request head that goes upstream.
    fn write_request(&self, request: &mut Request, target: Target<'_>) -> Result<Asked, Failed> {
        let mut out = std::mem::take(&mut request.rewrite);
        out.clear();
        let set = &self.location.proxy.set_headers;
        let asked = Asked {
            head: request.head.method_kind == crate::http::request::Method::Head,
            upgrade: request.head.upgrade.is_some() && self.passes_upgrade(request),
        };
        let mut clean = true;
        rewrite::request(
            &mut out,
            &request.head,
            &request.bytes,
            target,
            |name| {
                set.iter()
                    .any(|(ours, _)| ours.as_bytes().eq_ignore_ascii_case(name))
            },
            |lines| {
                for (name, value) in set {
                    if !asked.upgrade && name.eq_ignore_ascii_case("upgrade") {
                        continue;
                    }
                    let start = lines.len();
                    clean &= fields::write(lines, name, value, &self.view(request));
                    let value = lines.get(start + name.len() + 2..).unwrap_or_default();
                    if !asked.upgrade
                        && name.eq_ignore_ascii_case("connection")
                        && fields::names_upgrade(value)
                    {
                        lines.truncate(start);
                    }
                }
            },
        );
        request.rewrite = out;
        // A value with a control byte in it would be another request to some server.
        if clean {
            Ok(asked)
        } else {
            Err(Failed::Body(RelayError::Refused(Refusal::ControlByte)))
        }
    }

    /// Whether the configuration passes an upgrade on: it sets `Upgrade` and a `Connection` that names it.
    fn passes_upgrade(&self, request: &Request) -> bool {
        let rendered = |wanted: &str| -> Vec<u8> {
            let mut value = Vec::new();
            let set = self
                .location
                .proxy
                .set_headers
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            if let Some((_, template)) = set {
                template.render(&self.view(request), &mut value);
            }
            value
        };
        !rendered("upgrade").is_empty() && fields::names_upgrade(&rendered("connection"))
    }

    /// Whether a 101 switches to a protocol that the client asked for (rule 29).
    fn switches_as_asked(&self, request: &Request) -> bool {
        let (Some(asked), Some(answered)) = (request.head.upgrade, request.response.upgrade) else {
            return false;
        };
        let answered = answered.of(&request.response_bytes).trim_ascii();
        asked
            .of(&request.bytes)
            .split(|&b| b == b',')
            .any(|protocol| protocol.trim_ascii().eq_ignore_ascii_case(answered))
    }

    /// Reads response heads until the final one and relays what it has to.
    async fn respond(
        &self,
        upstream: &Upstream,
        request: &mut Request,
        asked: Asked,
        uploaded: &Cell<bool>,
        continued: &Cell<bool>,
        body_received: &Cell<u64>,
    ) -> Result<Answered, Failed> {
        let began = Instant::now();
        let client = self.end(
            self.client,
            Timer::ClientWrite,
            self.location.client.send_timeout,
        );
        let mut scanner = HeadScanner::default();
        let mut pending: Vec<u8> = Vec::new();
        let mut rescan = false;
        let mut informational = 0;
        loop {
            let loan = if rescan {
                None
            } else {
                Some(self.receive(upstream, uploaded).await?)
            };
            rescan = false;
            if let Some(attempt) = request.attempts.last_mut() {
                attempt.received += loan.as_ref().map_or(0, |loan| loan.len() as u64);
            }
            let bytes: &[u8] = match &loan {
                Some(loan) if pending.is_empty() => loan,
                Some(loan) => {
                    pending.extend_from_slice(loan);
                    &pending
                }
                None => &pending,
            };
            let (start, end) = match scanner.scan(bytes, &RESPONSE_LIMITS) {
                Scan::Complete { start, end } => (start, end),
                Scan::Refused(refusal) => {
                    return Err(Failed::Upstream(UpstreamFailure::InvalidHead(refusal)));
                }
                Scan::Incomplete => {
                    if pending.is_empty() {
                        pending = bytes.to_vec();
                    }
                    continue;
                }
            };
            request.response_bytes.clear();
            request.response_bytes.extend_from_slice(&bytes[start..end]);
            request
                .response
                .parse(&request.response_bytes, &RESPONSE_LIMITS, asked)
                .map_err(|refusal| Failed::Upstream(UpstreamFailure::InvalidHead(refusal)))?;
            let status = request.response.status;
            if (100..200).contains(&status) && status != 101 {
                informational += 1;
                if informational > INFORMATIONAL_MAX {
                    return Err(Failed::Upstream(UpstreamFailure::InvalidHead(
                        Refusal::TooManyInformational,
                    )));
                }
                let rest = bytes[end..].to_vec();
                drop(loan);
                if status == 100 {
                    continued.set(true);
                }
                if request.head.version == Version::Http11 {
                    self.pass_informational(request, client).await?;
                }
                pending = rest;
                rescan = !pending.is_empty();
                scanner = HeadScanner::default();
                continue;
            }
            if let Some(attempt) = request.attempts.last_mut() {
                attempt.status = status;
                attempt.header = Some(began.elapsed());
            }
            if self.may_retry && self.location.proxy.next_upstream.statuses.contains(&status) {
                return Err(Failed::Upstream(UpstreamFailure::Status(status)));
            }
            upstream.succeeded();
            if status == 101 {
                if !self.switches_as_asked(request) {
                    return Err(Failed::Upstream(UpstreamFailure::InvalidHead(
                        Refusal::SwitchUnasked,
                    )));
                }
                let rest = bytes[end..].to_vec();
                drop(loan);
                return self.begin_tunnel(request, client, rest).await;
            }
            // A body that nobody takes any more, or that may not come (rule 28), leaves the client's next bytes unclear.
            let body_lost = !uploaded.get()
                && (!request.response.keep_alive || !continued.get() && body_received.get() == 0);
            let client_reusable = !body_lost && self.client_reusable(request);
            self.write_response(request, client_reusable);
            request.status = status;
            let (moved, sent) = (Cell::new(0), Cell::new(0));
            let mut relay = Relay {
                from: self.end(
                    &upstream.socket,
                    Timer::UpstreamRead,
                    self.location.proxy.read_timeout,
                ),
                to: client,
                reader: BodyReader::new(request.response.framing),
                chunked: request.response.framing == Framing::Chunked
                    && request.head.version == Version::Http11,
                max_bytes: u64::MAX,
                moved: &moved,
                sent: &sent,
                watch_receiver: uploaded.get(),
            };
            let first = {
                let mut slices = Slices::new();
                request
                    .rewrite
                    .slices(&request.response_bytes, 0, &mut slices);
                relay.forward(&bytes[end..], &slices)
            };
            let relayed = match first {
                Ok((consumed, _, left)) => {
                    let mut rest = bytes[end + consumed..].to_vec();
                    drop(loan);
                    let relayed = async {
                        client.send(&left).await?;
                        relay.run(&mut rest).await
                    };
                    // Bytes behind the end of a response belong to no request (rule 33).
                    relayed.await.map(|()| rest.is_empty())
                }
                Err(error) => Err(error),
            };
            request.sent.set(request.sent.get() + sent.get());
            request.body_sent.set(moved.get());
            if let Some(attempt) = request.attempts.last_mut() {
                attempt.response = Some(began.elapsed());
                attempt.body_received = moved.get();
                attempt.received += moved
                    .get()
                    .saturating_sub(attempt.received.saturating_sub(end as u64));
            }
            let clean = relayed.map_err(|error| self.cut(request, error))?;
            return Ok(Answered {
                upstream_reusable: request.response.keep_alive && clean,
                client_reusable,
                persistent_auth_false: request.response.persistent_auth_false,
            });
        }
    }

    /// Waits for the server's next bytes, or the client's leaving.
    ///
    /// The server's time to answer begins when it has all of the request: an upload may take as long as it moves.
    async fn receive(&self, upstream: &Upstream, uploaded: &Cell<bool>) -> Result<Loan, Failed> {
        let timeout = self.location.proxy.read_timeout;
        let mut counting = uploaded.get();
        loop {
            let wait = self.slot.timed(Timer::UpstreamRead, timeout, |cx| {
                if upstream.socket.poll_readable(cx).is_ready() {
                    return Poll::Ready(Ok(()));
                }
                if uploaded.get() && self.client.poll_hung_up(cx).is_ready() {
                    return Poll::Ready(Err(Failed::ClientGone));
                }
                if uploaded.get() && !counting {
                    counting = true;
                    self.slot.arm(Timer::UpstreamRead, Instant::now() + timeout);
                }
                Poll::Pending
            });
            match wait.await {
                Ok(found) => found?,
                Err(TimedOut) if !uploaded.get() => continue,
                Err(TimedOut) => return Err(Failed::Upstream(UpstreamFailure::ReadTimedOut)),
            }
            match upstream.socket.try_recv() {
                Ok(Some(loan)) if loan.is_empty() => {
                    return Err(Failed::Upstream(UpstreamFailure::Closed));
                }
                Ok(Some(loan)) => return Ok(loan),
                Ok(None) => {}
                Err(error) => return Err(Failed::Upstream(UpstreamFailure::Receive(error))),
            }
        }
    }

    async fn pass_informational(
        &self,
        request: &mut Request,
        client: End<'_>,
    ) -> Result<(), Failed> {
        let mut out = std::mem::take(&mut request.rewrite);
        out.clear();
        rewrite::response(
            &mut out,
            &request.response,
            &request.response_bytes,
            false,
            |_| false,
            |_| {},
        );
        request.rewrite = out;
        self.send_head(request, client).await
    }

    /// Sends the head in `request.rewrite`, which was made of the response's.
    async fn send_head(&self, request: &Request, client: End<'_>) -> Result<(), Failed> {
        let left = {
            let mut slices = Slices::new();
            request
                .rewrite
                .slices(&request.response_bytes, 0, &mut slices);
            client.begin_send(&slices).map_err(|_| Failed::ClientGone)?
        };
        request
            .sent
            .set(request.sent.get() + request.rewrite.len() as u64);
        client.send(&left).await.map_err(|_| Failed::ClientGone)
    }

    /// Answers 101. What follows is the tunnel's.
    async fn begin_tunnel(
        &self,
        request: &mut Request,
        client: End<'_>,
        rest: Vec<u8>,
    ) -> Result<Answered, Failed> {
        let protocol = request
            .response
            .upgrade
            .map(|span| span.of(&request.response_bytes).to_vec());
        let mut out = std::mem::take(&mut request.rewrite);
        out.clear();
        rewrite::response(
            &mut out,
            &request.response,
            &request.response_bytes,
            false,
            |_| false,
            |lines| {
                lines.extend_from_slice(b"Connection: upgrade\r\nUpgrade: ");
                lines.extend_from_slice(protocol.as_deref().unwrap_or_default());
                lines.extend_from_slice(b"\r\n");
            },
        );
        request.rewrite = out;
        request.status = 101;
        self.send_head(request, client).await?;
        client.send(&rest).await.map_err(|_| Failed::Cut)?;
        Ok(Answered {
            upstream_reusable: false,
            client_reusable: false,
            persistent_auth_false: false,
        })
    }

    /// Relays both ways, without framing, until either side ends or nothing moves for `proxy_read_timeout`.
    pub(super) async fn tunnel(
        &self,
        upstream: &Upstream,
        request: &mut Request,
        buffered: &mut Vec<u8>,
    ) {
        let (up_moved, down_moved, ignored) = (Cell::new(0), Cell::new(0), Cell::new(0));
        let proxy = &self.location.proxy;
        let mut up = one_way(
            self.end(self.client, Timer::ClientRead, NO_TIMEOUT),
            self.end(&upstream.socket, Timer::UpstreamWrite, proxy.send_timeout),
            &up_moved,
            &ignored,
        );
        let mut down = one_way(
            self.end(&upstream.socket, Timer::UpstreamRead, proxy.read_timeout),
            self.end(
                self.client,
                Timer::ClientWrite,
                self.location.client.send_timeout,
            ),
            &down_moved,
            &ignored,
        );
        {
            let mut up = pin!(up.run(buffered));
            let mut down = pin!(async {
                // A server that only listens is not idle while its client talks.
                let mut none = Vec::new();
                loop {
                    let before = up_moved.get();
                    let ended = down.run(&mut none).await;
                    if !matches!(ended, Err(RelayError::SourceTimedOut)) || up_moved.get() == before
                    {
                        break;
                    }
                }
            });
            poll_fn(|cx| {
                if up.as_mut().poll(cx).is_ready() {
                    Poll::Ready(())
                } else {
                    down.as_mut().poll(cx)
                }
            })
            .await;
        }
        request.body_received.set(up_moved.get());
        request.body_sent.set(down_moved.get());
        request.sent.set(request.sent.get() + down_moved.get());
    }

    /// Whether the client connection may take another request after this response.
    fn client_reusable(&self, request: &Request) -> bool {
        let response = &request.response;
        let framed = match response.framing {
            Framing::UntilClose => false,
            Framing::Chunked => request.head.version == Version::Http11,
            Framing::None | Framing::Length(_) => true,
        };
        // A server that ends a pin's connection with this answer ends the client's too, as it would without a front.
        let login_ends = self.pinned && !response.keep_alive && !self.other_pins;
        framed && self.may_keep && !login_ends && !self.slot.is_draining()
    }

    /// Prepares the final response head that goes to the client.
    fn write_response(&self, request: &mut Request, client_reusable: bool) {
        let mut out = std::mem::take(&mut request.rewrite);
        out.clear();
        let hidden = &self.location.proxy.hidden;
        let redirects = &self.location.proxy.redirects;
        let view = self.view(request);
        rewrite::response(
            &mut out,
            &request.response,
            &request.response_bytes,
            request.head.version == Version::Http11,
            |name| {
                hidden
                    .iter()
                    .any(|ours| ours.as_bytes().eq_ignore_ascii_case(name))
                    || !redirects.is_empty()
                        && (name.eq_ignore_ascii_case(b"location")
                            || name.eq_ignore_ascii_case(b"refresh"))
            },
            |lines| {
                fields::write_common(lines, self.location, hidden);
                fields::write_connection(
                    lines,
                    &request.head,
                    &self.location.client,
                    client_reusable,
                );
                fields::write_redirected(lines, redirects, &view);
                fields::write_added(
                    lines,
                    &self.location.add_headers,
                    request.response.status,
                    &view,
                );
            },
        );
        request.rewrite = out;
    }

    /// Reports a response that could not be relayed to its end.
    fn cut(&self, request: &Request, error: RelayError) -> Failed {
        match error {
            RelayError::Sink(_) => Failed::ClientGone,
            RelayError::SinkTimedOut => {
                self.log_client_timeout(request);
                Failed::Cut
            }
            RelayError::Source(error) => {
                let cause = crate::observe::cause::Cause::from(&error);
                self.report(
                    request,
                    format_args!("recv() failed ({cause}) while reading upstream"),
                );
                Failed::Cut
            }
            RelayError::CutShort => {
                self.report(
                    request,
                    format_args!("upstream prematurely closed connection while reading upstream"),
                );
                Failed::Cut
            }
            RelayError::SourceTimedOut => {
                self.report(
                    request,
                    format_args!(
                        "upstream timed out (110: Connection timed out) while reading upstream"
                    ),
                );
                Failed::Cut
            }
            RelayError::Refused(refusal) => {
                self.report(
                    request,
                    format_args!(
                        "upstream sent invalid chunked response ({})",
                        refusal.word()
                    ),
                );
                Failed::Cut
            }
            RelayError::TooLarge => Failed::Cut,
        }
    }

    fn report(&self, request: &Request, message: std::fmt::Arguments<'_>) {
        self.worker.log_request(
            crate::config::model::Level::Error,
            self.settings,
            self.facts,
            request,
            message,
        );
    }

    fn log_client_timeout(&self, request: &Request) {
        let message =
            format_args!("client timed out (110: Connection timed out) while sending to client");
        self.worker.log_request(
            crate::config::model::Level::Info,
            self.settings,
            self.facts,
            request,
            message,
        );
    }
}

/// One direction of a tunnel.
fn one_way<'a>(from: End<'a>, to: End<'a>, moved: &'a Cell<u64>, sent: &'a Cell<u64>) -> Relay<'a> {
    Relay {
        from,
        to,
        reader: BodyReader::new(Framing::UntilClose),
        chunked: false,
        max_bytes: u64::MAX,
        moved,
        sent,
        watch_receiver: false,
    }
}

/// Runs the upload and the response at once. The response's end ends the exchange, unless a rest of the request still has
/// to go to a server that keeps its connection.
async fn both(
    mut upload: Pin<Box<dyn Future<Output = Result<(), RelayError>> + '_>>,
    response: impl Future<Output = Result<Answered, Failed>>,
    uploaded: &Cell<bool>,
    continued: &Cell<bool>,
    body_received: &Cell<u64>,
) -> Result<Answered, Failed> {
    let mut response = pin!(response);
    let mut answered: Option<Answered> = None;
    let mut uploading = true;
    let mut lost = false;
    poll_fn(|cx| {
        if uploading {
            match upload.as_mut().poll(cx) {
                Poll::Ready(Ok(())) => {
                    uploading = false;
                    uploaded.set(true);
                }
                // The server takes no more of the body: it may have answered early, so its answer is still read.
                Poll::Ready(Err(RelayError::Sink(_))) => {
                    uploading = false;
                    lost = true;
                    uploaded.set(true);
                }
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Err(if answered.is_some() {
                        Failed::Cut
                    } else {
                        upload_failed(error)
                    }));
                }
                Poll::Pending => {}
            }
        }
        if answered.is_none()
            && let Poll::Ready(result) = response.as_mut().poll(cx)
        {
            match result {
                Ok(done) => answered = Some(done),
                Err(failed) => return Poll::Ready(Err(failed)),
            }
        }
        let Some(done) = answered else {
            return Poll::Pending;
        };
        // A final answer in place of 100: the client sends its body or not, nobody can tell, unless it is coming already
        // (rule 28).
        let body_awaited = uploading && !continued.get() && body_received.get() == 0;
        if uploading && done.upstream_reusable && !body_awaited {
            return Poll::Pending;
        }
        let whole = !uploading && !lost;
        Poll::Ready(Ok(Answered {
            upstream_reusable: done.upstream_reusable && whole,
            client_reusable: done.client_reusable && whole,
            ..done
        }))
    })
    .await
}

/// What a request body's failure means for the exchange.
fn upload_failed(error: RelayError) -> Failed {
    match error {
        RelayError::CutShort | RelayError::Source(_) => Failed::ClientGone,
        RelayError::Sink(error) => Failed::Upstream(UpstreamFailure::Send(error)),
        RelayError::SinkTimedOut => Failed::Upstream(UpstreamFailure::SendTimedOut),
        other => Failed::Body(other),
    }
}
