//! The response's way down: heads until the final one, rewritten as slices, then the body.

use std::cell::Cell;
use std::task::Poll;

use crate::config::model::Level;
use crate::http::body::BodyReader;
use crate::http::head::{Framing, HeadLimits, Version};
use crate::http::refusal::Refusal;
use crate::http::response::Asked;
use crate::http::rewrite::{self, Slices};
use crate::http::scan::{HeadScanner, Scan};
use crate::net::{Loan, now};
use crate::observe::cause::Cause;

use super::exchange::{Answered, Exchange, Upload};
use super::failure::{Failed, UpstreamFailure};
use super::fields;
use super::logins::challenges;
use super::relay::{Ahead, End, HEAD_BYTES, Relay, RelayError};
use super::request::{Request, Response, whole_ms};
use super::slot::{TimedOut, Timer};
use super::upstream::Upstream;

/// Informational responses that may precede a final one (rule 32).
const INFORMATIONAL_MAX: usize = 16;

/// Sizes of a response head; IIS sends large cookies and tokens.
const RESPONSE_LIMITS: HeadLimits = HeadLimits {
    line: 64 << 10,
    total: 128 << 10,
    fields: 200,
    underscores: true,
};

/// A response whose final head did not come by the first receive, and whole.
#[derive(Default)]
struct Arriving {
    scanner: HeadScanner,
    /// What was received of it.
    kept: Vec<u8>,
    /// `kept` was not looked at yet.
    unscanned: bool,
    informational: usize,
}

/// How far a response is.
enum Progress {
    /// More bytes are needed.
    Starved,
    /// An informational head is in `Request::response`, to be passed on.
    Informational,
    /// 101; these bytes came behind it.
    Switched(Vec<u8>),
    /// All of it went out.
    Over(Answered),
    /// Its beginning went out.
    Begun(Box<Remaining>),
}

/// What is left of a response after the first send.
struct Remaining {
    /// What the socket did not take.
    left: Vec<u8>,
    /// What came of the body and is not done with.
    behind: Vec<u8>,
    /// Where in the body the response is.
    reader: BodyReader,
    /// What comes next of it, taken from its source already.
    ahead: Ahead,
    client_reusable: bool,
}

impl Exchange<'_> {
    /// Relays the final response, and informational ones before it.
    #[allow(clippy::manual_async_fn)] // its future would hold each argument twice
    pub(super) fn respond(
        &self,
        upstream: &Upstream,
        request: &mut Request,
        asked: Asked,
        upload: &Upload,
    ) -> impl Future<Output = Result<Answered, Failed>> {
        async move {
            if let Some(attempt) = request.attempts.last_mut() {
                attempt.sent_at = now();
            }
            let mut arriving: Option<Box<Arriving>> = None;
            loop {
                let unscanned = arriving.as_ref().is_some_and(|head| head.unscanned);
                let loan = match unscanned {
                    true => None,
                    false => match self.receive(upstream, upload).await {
                        Ok(received) => Some(received?),
                        // An upload may take as long as it moves.
                        Err(TimedOut) if !upload.over.get() => continue,
                        Err(TimedOut) => {
                            return Err(Failed::Upstream(UpstreamFailure::ReadTimedOut));
                        }
                    },
                };
                // Boxed: what most responses do not need.
                match self.look(upstream, request, asked, upload, &mut arriving, loan)? {
                    Progress::Over(answered) => return Ok(answered),
                    Progress::Starved => {}
                    Progress::Begun(remaining) => {
                        let rest = self.relay_rest(upstream, request, upload, remaining);
                        return Box::pin(rest).await;
                    }
                    Progress::Informational if request.head.version == Version::Http11 => {
                        Box::pin(self.pass_informational(request, upload)).await?;
                    }
                    Progress::Informational => {}
                    Progress::Switched(behind) => {
                        return Box::pin(self.begin_tunnel(request, upload, behind)).await;
                    }
                }
            }
        }
    }

    /// The client as it is answered: one that has sent its request is heard of again only when it leaves.
    pub(super) fn client_end<'a>(&'a self, upload: &'a Upload) -> End<'a> {
        End {
            watched: Some(&upload.over),
            ..self
                .client
                .end(Timer::ClientWrite, self.location.client.send_timeout)
        }
    }

    /// Looks at the bytes that came, in the loan or kept before, and carries out what they say.
    fn look(
        &self,
        upstream: &Upstream,
        request: &mut Request,
        asked: Asked,
        upload: &Upload,
        arriving: &mut Option<Box<Arriving>>,
        loan: Option<Loan>,
    ) -> Result<Progress, Failed> {
        let lent = loan.as_deref().unwrap_or_default();
        let mut scanner = HeadScanner::default();
        let (scanner, received) = match arriving.as_deref_mut() {
            None => (&mut scanner, lent),
            Some(arriving) => {
                arriving.kept.extend_from_slice(lent);
                arriving.unscanned = false;
                (&mut arriving.scanner, &arriving.kept[..])
            }
        };
        let (start, end) = match scanner.scan(received, &RESPONSE_LIMITS) {
            Scan::Complete { start, end } => (start, end),
            Scan::Refused(refusal) => return Err(Failed::invalid_head(refusal)),
            Scan::Incomplete => {
                // The first piece is scanned again with the second one.
                arriving.get_or_insert_with(|| {
                    Box::new(Arriving {
                        kept: lent.to_vec(),
                        ..Arriving::default()
                    })
                });
                return Ok(Progress::Starved);
            }
        };
        let worker = &self.client.worker;
        let response = request
            .response
            .get_or_insert_with(|| worker.take_response());
        response.bytes.clear();
        response.bytes.extend_from_slice(&received[start..end]);
        let parsed = response
            .head
            .parse(&response.bytes, &RESPONSE_LIMITS, asked);
        parsed.map_err(Failed::invalid_head)?;
        let status = response.head.status;
        if let Some(attempt) = request.attempts.last_mut() {
            attempt.received += end as u64;
        }
        let behind = &received[end..];
        if status == 101 || !(100..200).contains(&status) {
            return self.answer(upstream, request, upload, behind);
        }
        if status == 100 {
            upload.continued.set(true);
        }
        let behind = behind.to_vec();
        let arriving = arriving.get_or_insert_default();
        arriving.informational += 1;
        if arriving.informational > INFORMATIONAL_MAX {
            return Err(Failed::invalid_head(Refusal::TooManyInformational));
        }
        (arriving.kept, arriving.unscanned) = (behind, true);
        Ok(Progress::Informational)
    }

    /// Sends the final head, which is in `request.response`, with the first bytes of the body.
    fn answer(
        &self,
        upstream: &Upstream,
        request: &mut Request,
        upload: &Upload,
        behind: &[u8],
    ) -> Result<Progress, Failed> {
        let (now, status) = (now(), request.response().head.status);
        if let Some(attempt) = request.attempts.last_mut() {
            attempt.status = status;
            let waited = now.saturating_duration_since(attempt.sent_at);
            attempt.header_ms = Some(whole_ms(waited));
            upstream.answered(status, waited);
            self.client.worker.counters.header_time.record(waited);
        }
        if self.may_retry && self.location.proxy.next_upstream.statuses.contains(&status) {
            return Err(Failed::Upstream(UpstreamFailure::Status(status)));
        }
        upstream.succeeded();
        if status == 101 {
            if !self.switches_as_asked(request) {
                return Err(Failed::invalid_head(Refusal::SwitchUnasked));
            }
            return Ok(Progress::Switched(behind.to_vec()));
        }
        // A body that nobody takes any more, or that may not come, leaves the client's next bytes unclear.
        let body_lost =
            !upload.over.get() && !request.response().head.keep_alive || upload.is_held_back();
        let client_reusable = !body_lost && self.client_reusable(request);
        self.write_response(request, client_reusable);
        request.status = status;
        let (moved, sent) = (Cell::new(0), Cell::new(0));
        let reader = BodyReader::new(request.response().head.framing);
        let mut relay = self.down(upstream, request, upload, reader, &moved, &sent);
        let forwarded = {
            let mut slices = Slices::new();
            let response = request.response();
            response.rewrite.slices(&response.bytes, 0, &mut slices);
            relay.forward(behind, &slices)
        };
        let (reader, ahead) = (relay.reader, relay.ahead);
        request.sent_down(moved.get(), sent.get(), now);
        let (consumed, _, left) = match forwarded {
            Ok(forwarded) => forwarded,
            // It shows before anything is sent. The connection ends as it would had the head gone out before: what becomes of the
            // next request is not a matter of how the bytes were cut.
            Err(RelayError::Refused(refusal)) => {
                request.status = 0;
                request.may_keep = false;
                return Err(Failed::Upstream(UpstreamFailure::InvalidBody(refusal)));
            }
            Err(error) => return Err(self.cut(request, error)),
        };
        let behind = &behind[consumed..];
        if left.is_empty() && reader.is_done() && ahead.is_none() {
            let nothing_behind = behind.is_empty();
            return Ok(Progress::Over(answered(
                request,
                client_reusable,
                nothing_behind,
            )));
        }
        Ok(Progress::Begun(Box::new(Remaining {
            left,
            behind: behind.to_vec(),
            reader,
            ahead,
            client_reusable,
        })))
    }

    /// Sends the rest of a response.
    async fn relay_rest(
        &self,
        upstream: &Upstream,
        request: &mut Request,
        upload: &Upload,
        remaining: Box<Remaining>,
    ) -> Result<Answered, Failed> {
        let Remaining {
            left,
            mut behind,
            reader,
            ahead,
            client_reusable,
        } = *remaining;
        let (moved, sent) = (Cell::new(0), Cell::new(0));
        let mut relay = self.down(upstream, request, upload, reader, &moved, &sent);
        relay.ahead = ahead;
        let relayed = async {
            relay.to.send(&left).await?;
            relay.run(&mut behind).await
        };
        let relayed = relayed.await;
        request.sent_down(moved.get(), sent.get(), now());
        relayed.map_err(|error| self.cut(request, error))?;
        Ok(answered(request, client_reusable, behind.is_empty()))
    }

    /// The body's way down.
    fn down<'a>(
        &'a self,
        upstream: &'a Upstream,
        request: &Request,
        upload: &'a Upload,
        reader: BodyReader,
        moved: &'a Cell<u64>,
        sent: &'a Cell<u64>,
    ) -> Relay<'a> {
        let read_timeout = self.location.proxy.read_timeout;
        Relay {
            from: self.upstream_end(upstream, Timer::UpstreamRead, read_timeout),
            to: self.client_end(upload),
            reader,
            chunked: request.response().head.framing == Framing::Chunked
                && request.head.version == Version::Http11,
            max_bytes: u64::MAX,
            moved,
            sent,
            ahead: None,
        }
    }

    /// Waits for the server's next bytes, or the client's leaving.
    ///
    /// The server's time to answer begins when it has all of the request.
    fn receive(
        &self,
        upstream: &Upstream,
        upload: &Upload,
    ) -> impl Future<Output = Result<Result<Loan, Failed>, TimedOut>> {
        let slot = &self.client.slot;
        let mut counting = upload.over.get();
        slot.timed(
            Timer::UpstreamRead,
            self.location.proxy.read_timeout,
            move |cx| {
                let failed = |failure| Poll::Ready(Err(Failed::Upstream(failure)));
                while upstream.socket.poll_readable(cx).is_ready() {
                    match upstream.socket.try_recv(HEAD_BYTES) {
                        Ok(Some(loan)) if loan.is_empty() => {
                            return failed(UpstreamFailure::Closed);
                        }
                        Ok(Some(loan)) => return Poll::Ready(Ok(loan)),
                        Ok(None) => {}
                        Err(error) => return failed(UpstreamFailure::Receive(error)),
                    }
                }
                if upload.over.get() {
                    if self.client.socket.poll_gone(cx).is_ready() {
                        return Poll::Ready(Err(Failed::ClientGone));
                    }
                    if !counting {
                        counting = true;
                        self.client.slot.arm(
                            Timer::UpstreamRead,
                            now() + self.location.proxy.read_timeout,
                        );
                    }
                }
                Poll::Pending
            },
        )
    }

    async fn pass_informational(
        &self,
        request: &mut Request,
        upload: &Upload,
    ) -> Result<(), Failed> {
        let response = request.response.get_or_insert_default();
        rewrite::response(
            &mut response.rewrite,
            &response.head,
            &response.bytes,
            false,
            |_| false,
            |_| {},
        );
        self.send_head(request, self.client_end(upload)).await
    }

    /// Sends the head that goes to the client.
    pub(super) async fn send_head(&self, request: &Request, client: End<'_>) -> Result<(), Failed> {
        let left = {
            let mut slices = Slices::new();
            let response = request.response();
            response.rewrite.slices(&response.bytes, 0, &mut slices);
            client
                .begin_send(&slices, false)
                .map_err(|_| Failed::ClientGone)?
        };
        let len = request.response().rewrite.len() as u64;
        request.sent.set(request.sent.get() + len);
        client.send(&left).await.map_err(|_| Failed::ClientGone)
    }

    /// Whether the client connection may take another request after this response.
    fn client_reusable(&self, request: &Request) -> bool {
        let response = &request.response().head;
        // A server that ends a pin's connection with this answer ends the client's too, as it would without a front.
        let login_ends = self.pinned && !response.keep_alive && !self.other_pins;
        !ends_with_close(request)
            && request.may_keep
            && !login_ends
            // A login that has begun is not cut.
            && (!self.client.slot.is_draining() || self.pinned && challenges(request))
    }

    /// Prepares the final response head that goes to the client.
    fn write_response(&self, request: &mut Request, client_reusable: bool) {
        // Taken out, because what is added to it is made from the request.
        let mut out = std::mem::take(&mut request.response.get_or_insert_default().rewrite);
        let Response { bytes, head, .. } = request.response();
        let (location, proxy) = (self.location, &self.location.proxy);
        let view = self.client.view(request);
        rewrite::response(
            &mut out,
            head,
            bytes,
            request.head.version == Version::Http11,
            |name| {
                let mut hidden = proxy.hidden.iter();
                hidden.any(|ours| ours.as_bytes().eq_ignore_ascii_case(name))
                    || !proxy.redirects.is_empty() && fields::is_redirect(name)
            },
            |lines| {
                fields::write_common(lines, location, &proxy.hidden);
                fields::write_connection(lines, &request.head, &location.client, client_reusable);
                fields::write_redirected(lines, &proxy.redirects, &view);
                fields::write_added(lines, &location.add_headers, head.status, &view);
            },
        );
        let response = request.response.get_or_insert_default();
        (response.rewrite, response.written) = (out, true);
    }

    /// Sees to it that a response which came to no end does not look complete (rule 34): a client that takes the close for the
    /// end of the body gets a reset in its place.
    pub(super) fn break_off(&self, request: &Request) {
        if ends_with_close(request) {
            self.client.socket.reset_on_close();
        }
    }

    /// Reports a response that could not be relayed to its end.
    fn cut(&self, request: &Request, error: RelayError) -> Failed {
        let log = |level, message| self.client.log(level, request, message);
        match error {
            RelayError::Sink(_) => return Failed::ClientGone,
            RelayError::SinkTimedOut => {
                // It had its time for what was taken over for it, too.
                self.client.socket.forget_unsent();
                log(
                    Level::Info,
                    format_args!(
                        "client timed out (110: Connection timed out) while sending to client"
                    ),
                );
            }
            RelayError::CutShort => log(
                Level::Error,
                format_args!("upstream prematurely closed connection while reading upstream"),
            ),
            RelayError::Source(error) => log(
                Level::Error,
                format_args!(
                    "recv() failed ({}) while reading upstream",
                    Cause::from(&error)
                ),
            ),
            RelayError::SourceTimedOut => log(
                Level::Error,
                format_args!(
                    "upstream timed out (110: Connection timed out) while reading upstream"
                ),
            ),
            RelayError::Refused(refusal) => {
                self.client.worker.counters.refusals.count(refusal);
                let failure = UpstreamFailure::InvalidBody(refusal);
                log(Level::Error, format_args!("{failure}"));
            }
            RelayError::TooLarge => {}
        }
        self.break_off(request);
        Failed::Cut
    }
}

/// Whether the client knows the end of the body by that of its connection.
fn ends_with_close(request: &Request) -> bool {
    match request.response().head.framing {
        Framing::UntilClose => true,
        Framing::Chunked => request.head.version == Version::Http10,
        Framing::None | Framing::Length(_) => false,
    }
}

/// What is known of a response that went out to its end. Bytes behind its body belong to no request (rule 33).
fn answered(request: &Request, client_reusable: bool, nothing_behind: bool) -> Answered {
    let response = &request.response().head;
    Answered {
        upstream_reusable: response.keep_alive && nothing_behind,
        client_reusable,
        persistent_auth_false: response.persistent_auth_false,
        body_coming: false,
    }
}
