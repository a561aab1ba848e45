//! The response's way down: heads until the final one, rewritten as slices, then the body.

use std::cell::Cell;
use std::task::Poll;
use std::time::Instant;

use crate::config::model::Level;
use crate::http::body::BodyReader;
use crate::http::head::{Framing, HeadLimits, Version};
use crate::http::refusal::Refusal;
use crate::http::response::Asked;
use crate::http::rewrite::{self, Slices};
use crate::http::scan::{HeadScanner, Scan};
use crate::net::Loan;
use crate::observe::cause::Cause;

use super::exchange::{Answered, Exchange, Upload};
use super::failure::{Failed, UpstreamFailure};
use super::fields;
use super::relay::{End, HEAD_BYTES, Relay, RelayError};
use super::request::Request;
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

/// Bytes of the server: still lent, or kept because they came in pieces. `at` is where those behind the head begin.
struct Received {
    lent: Option<Loan>,
    kept: Vec<u8>,
    at: usize,
}

impl Received {
    fn bytes(&self) -> &[u8] {
        self.lent.as_deref().unwrap_or(&self.kept)
    }

    fn behind(&self) -> &[u8] {
        &self.bytes()[self.at..]
    }
}

impl Exchange<'_> {
    /// Relays the final response, and informational ones before it.
    pub(super) async fn respond(
        &self,
        upstream: &Upstream,
        request: &mut Request,
        asked: Asked,
        upload: &Upload,
    ) -> Result<Answered, Failed> {
        let began = Instant::now();
        let client = End {
            // A client that has sent its request is heard of again only when it leaves.
            watched: Some(&upload.over),
            ..self
                .client
                .end(Timer::ClientWrite, self.location.client.send_timeout)
        };
        let received = self
            .final_head(upstream, request, asked, upload, client)
            .await?;
        let status = request.response.status;
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
                return Err(Failed::invalid_head(Refusal::SwitchUnasked));
            }
            let behind = received.behind().to_vec();
            drop(received);
            return self.begin_tunnel(request, client, &behind).await;
        }
        // A body that nobody takes any more, or that may not come, leaves the client's next bytes unclear.
        let body_lost = !upload.over.get() && !request.response.keep_alive || upload.is_held_back();
        let client_reusable = !body_lost && self.client_reusable(request);
        self.write_response(request, client_reusable);
        request.status = status;
        let (moved, sent) = (Cell::new(0), Cell::new(0));
        let read_timeout = self.location.proxy.read_timeout;
        let mut relay = Relay {
            from: self.upstream_end(upstream, Timer::UpstreamRead, read_timeout),
            to: client,
            reader: BodyReader::new(request.response.framing),
            chunked: request.response.framing == Framing::Chunked
                && request.head.version == Version::Http11,
            max_bytes: u64::MAX,
            moved: &moved,
            sent: &sent,
            ahead: None,
        };
        let relayed = relay_with_head(&mut relay, request, received).await;
        request.sent.set(request.sent.get() + sent.get());
        request.body_sent.set(moved.get());
        if let Some(attempt) = request.attempts.last_mut() {
            attempt.response = Some(began.elapsed());
            attempt.body_received = moved.get();
            attempt.received += moved.get();
        }
        let nothing_behind = relayed.map_err(|error| self.cut(request, error))?;
        Ok(Answered {
            upstream_reusable: request.response.keep_alive && nothing_behind,
            client_reusable,
            persistent_auth_false: request.response.persistent_auth_false,
            body_coming: false,
        })
    }

    /// Reads heads until the final one is in `request`, and passes informational ones on. Returns what came with it.
    async fn final_head(
        &self,
        upstream: &Upstream,
        request: &mut Request,
        asked: Asked,
        upload: &Upload,
        client: End<'_>,
    ) -> Result<Received, Failed> {
        let mut scanner = HeadScanner::default();
        let mut received = Received {
            lent: None,
            kept: Vec::new(),
            at: 0,
        };
        let mut informational = 0;
        loop {
            let (start, end) = match scanner.scan(received.bytes(), &RESPONSE_LIMITS) {
                Scan::Complete { start, end } => (start, end),
                Scan::Refused(refusal) => return Err(Failed::invalid_head(refusal)),
                Scan::Incomplete => {
                    // Nothing is kept of the loan across the wait but a copy.
                    if let Some(lent) = received.lent.take() {
                        received.kept.extend_from_slice(&lent);
                    }
                    let loan = self.receive(upstream, upload).await?;
                    if received.kept.is_empty() {
                        received.lent = Some(loan);
                    } else {
                        received.kept.extend_from_slice(&loan);
                    }
                    continue;
                }
            };
            received.at = end;
            request.response_bytes.clear();
            request
                .response_bytes
                .extend_from_slice(&received.bytes()[start..end]);
            request
                .response
                .parse(&request.response_bytes, &RESPONSE_LIMITS, asked)
                .map_err(Failed::invalid_head)?;
            if let Some(attempt) = request.attempts.last_mut() {
                attempt.received += end as u64;
            }
            let status = request.response.status;
            if status == 101 || !(100..200).contains(&status) {
                return Ok(received);
            }
            informational += 1;
            if informational > INFORMATIONAL_MAX {
                return Err(Failed::invalid_head(Refusal::TooManyInformational));
            }
            if status == 100 {
                upload.continued.set(true);
            }
            received = Received {
                kept: received.behind().to_vec(),
                lent: None,
                at: 0,
            };
            scanner = HeadScanner::default();
            if request.head.version == Version::Http11 {
                self.pass_informational(request, client).await?;
            }
        }
    }

    /// Waits for the server's next bytes, or the client's leaving.
    ///
    /// The server's time to answer begins when it has all of the request: an upload may take as long as it moves.
    async fn receive(&self, upstream: &Upstream, upload: &Upload) -> Result<Loan, Failed> {
        let (slot, timeout) = (self.client.slot, self.location.proxy.read_timeout);
        let uploaded = &upload.over;
        let mut counting = uploaded.get();
        loop {
            let wait = slot.timed(Timer::UpstreamRead, timeout, |cx| {
                if upstream.socket.poll_readable(cx).is_ready() {
                    return Poll::Ready(Ok(()));
                }
                if uploaded.get() && self.client.socket.poll_hung_up(cx).is_ready() {
                    return Poll::Ready(Err(Failed::ClientGone));
                }
                if uploaded.get() && !counting {
                    counting = true;
                    slot.arm(Timer::UpstreamRead, Instant::now() + timeout);
                }
                Poll::Pending
            });
            match wait.await {
                Ok(found) => found?,
                Err(TimedOut) if !uploaded.get() => continue,
                Err(TimedOut) => return Err(Failed::Upstream(UpstreamFailure::ReadTimedOut)),
            }
            match upstream.socket.try_recv(HEAD_BYTES) {
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
        rewrite::response(
            &mut request.rewrite,
            &request.response,
            &request.response_bytes,
            false,
            |_| false,
            |_| {},
        );
        self.send_head(request, client).await
    }

    /// Sends the head in `request.rewrite`, which was made of the response's.
    pub(super) async fn send_head(&self, request: &Request, client: End<'_>) -> Result<(), Failed> {
        let left = {
            let mut slices = Slices::new();
            let head = &request.response_bytes;
            request.rewrite.slices(head, 0, &mut slices);
            client
                .begin_send(&slices, false)
                .map_err(|_| Failed::ClientGone)?
        };
        let len = request.rewrite.len() as u64;
        request.sent.set(request.sent.get() + len);
        client.send(&left).await.map_err(|_| Failed::ClientGone)
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
        framed && self.may_keep && !login_ends && !self.client.slot.is_draining()
    }

    /// Prepares the final response head that goes to the client.
    fn write_response(&self, request: &mut Request, client_reusable: bool) {
        // Taken out, because what is added to it is made from the request.
        let mut out = std::mem::take(&mut request.rewrite);
        let (location, proxy) = (self.location, &self.location.proxy);
        let view = self.client.view(request);
        rewrite::response(
            &mut out,
            &request.response,
            &request.response_bytes,
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
                let status = request.response.status;
                fields::write_added(lines, &location.add_headers, status, &view);
            },
        );
        request.rewrite = out;
        request.head_written = true;
    }

    /// Reports a response that could not be relayed to its end.
    fn cut(&self, request: &Request, error: RelayError) -> Failed {
        let log = |level, message| self.client.log(level, request, message);
        match error {
            RelayError::Sink(_) => return Failed::ClientGone,
            RelayError::SinkTimedOut => log(
                Level::Info,
                format_args!(
                    "client timed out (110: Connection timed out) while sending to client"
                ),
            ),
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
            RelayError::Refused(refusal) => log(
                Level::Error,
                format_args!(
                    "upstream sent invalid chunked response ({})",
                    refusal.word()
                ),
            ),
            RelayError::TooLarge => {}
        }
        Failed::Cut
    }
}

/// Sends the head in `request.rewrite` with the first bytes of the body in one call, then the rest. Whether nothing came
/// behind the body: bytes there belong to no request (rule 33).
async fn relay_with_head(
    relay: &mut Relay<'_>,
    request: &Request,
    received: Received,
) -> Result<bool, RelayError> {
    let (mut rest, left) = {
        let mut slices = Slices::new();
        let head = &request.response_bytes;
        request.rewrite.slices(head, 0, &mut slices);
        let (consumed, _, left) = relay.forward(received.behind(), &slices)?;
        (received.behind()[consumed..].to_vec(), left)
    };
    drop(received);
    relay.to.send(&left).await?;
    relay.run(&mut rest).await?;
    Ok(rest.is_empty())
}
