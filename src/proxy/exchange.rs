//! One request and its response over one upstream connection: the head goes out as slices, and the upload and the response
//! (`response.rs`) run at once.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::ops::Deref;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::http::body::BodyReader;
use crate::http::head::Framing;
use crate::http::refusal::Refusal;
use crate::http::request::Method;
use crate::http::response::Asked;
use crate::http::rewrite::{self, Rewrite, Slices, Target};

use super::failure::Failed;
use super::fields;
use super::forward::Forward;
use super::relay::{Ahead, End, Relay, RelayError};
use super::request::Request;
use super::slot::Timer;
use super::upstream::Upstream;

/// What one exchange works with.
#[derive(Clone, Copy)]
pub(super) struct Exchange<'a> {
    pub(super) forward: &'a Forward<'a>,
    /// The request travels on a pin.
    pub(super) pinned: bool,
    /// The client holds other pins, which a close would end.
    pub(super) other_pins: bool,
    /// Another server may be tried, because nothing of the request is lost and it is not bound to this one.
    pub(super) may_retry: bool,
}

impl<'a> Deref for Exchange<'a> {
    type Target = Forward<'a>;

    fn deref(&self) -> &Forward<'a> {
        self.forward
    }
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
    /// The client may still be sending a body that nobody takes any more.
    pub(super) body_coming: bool,
}

/// How far the request's way up is: what the response's way down has to know of it.
#[derive(Debug, Default)]
pub(super) struct Upload {
    /// All of it went out, or nobody takes it any more: the client is heard of again only when it leaves.
    pub(super) over: Cell<bool>,
    /// The client did not ask to be told to go on, or was told.
    pub(super) continued: Cell<bool>,
    /// Body bytes that went out.
    pub(super) body_bytes: Cell<u64>,
}

impl Upload {
    /// The client waits for a 100 before it sends its body: whether the body comes after another answer nobody can tell
    /// (rule 28).
    pub(super) fn is_held_back(&self) -> bool {
        !self.over.get() && !self.continued.get() && self.body_bytes.get() == 0
    }
}

/// What is left of a request after the first send.
struct Remaining {
    /// What the socket did not take.
    left: Vec<u8>,
    /// Where in the body the request is.
    reader: BodyReader,
    /// What comes next of it, taken from its source already.
    ahead: Ahead,
    /// Bytes that went out.
    sent: u64,
}

impl Exchange<'_> {
    /// Sends the request and relays the response. `buffered` holds the bytes that came behind the request head: at the end,
    /// those of the next request.
    #[allow(clippy::manual_async_fn)] // its future would hold each argument twice
    pub(super) fn carry(
        &self,
        upstream: &Upstream,
        request: &mut Request,
        buffered: &mut Vec<u8>,
    ) -> impl Future<Output = Result<Answered, Failed>> {
        async move {
            let upload = Upload::default();
            let (asked, remaining) = self.begin(upstream, request, buffered, &upload)?;
            let result = match remaining {
                None => self.respond(upstream, request, asked, &upload).await,
                Some(remaining) => {
                    // Boxed: most requests are sent by one call, and their tasks shall not pay for the others.
                    let both = self.go_on(upstream, request, asked, buffered, &upload, remaining);
                    Box::pin(both).await
                }
            };
            match result {
                // An answer that has begun can only be cut, whoever is to blame.
                Err(Failed::Body(_) | Failed::Upstream(_)) if request.status != 0 => {
                    self.break_off(request);
                    Err(Failed::Cut)
                }
                result => result,
            }
        }
    }

    /// Sends the request's head and the first bytes of its body, which ride along. Returns what is left to send.
    fn begin(
        &self,
        upstream: &Upstream,
        request: &mut Request,
        buffered: &mut Vec<u8>,
        upload: &Upload,
    ) -> Result<(Asked, Option<Box<Remaining>>), Failed> {
        // Lost, and made anew, where something fails.
        let mut rewrite = self.client.worker.rewrite.take();
        let asked = self.write_request(request, &mut rewrite)?;
        upload.continued.set(!request.head.expect_continue);
        let sent = Cell::new(0);
        let reader = std::mem::replace(&mut request.body, BodyReader::new(Framing::None));
        let mut relay = self.up(upstream, request, reader, upload, &sent);
        let forwarded = {
            let mut slices = Slices::new();
            rewrite.slices(&request.bytes, 0, &mut slices);
            relay.forward(buffered, &slices)
        };
        let (consumed, _, left) = match forwarded {
            Ok(forwarded) => forwarded,
            Err(error) => {
                // Where the client's bytes are in its body has to be known still, should the front answer itself.
                request.body = relay.reader;
                return Err(Failed::upload(error));
            }
        };
        buffered.drain(..consumed);
        if buffered.is_empty() {
            *buffered = Vec::new();
        }
        let (reader, ahead) = (relay.reader, relay.ahead);
        self.client.worker.rewrite.set(rewrite);
        if left.is_empty() && reader.is_done() && ahead.is_none() {
            upload.over.set(true);
            request.sent_up(reader, upload, sent.get());
            return Ok((asked, None));
        }
        let sent = sent.get();
        let remaining = Remaining {
            left,
            reader,
            ahead,
            sent,
        };
        Ok((asked, Some(Box::new(remaining))))
    }

    /// Sends the rest of the request and relays the response at once.
    async fn go_on(
        &self,
        upstream: &Upstream,
        request: &mut Request,
        asked: Asked,
        buffered: &mut Vec<u8>,
        upload: &Upload,
        remaining: Box<Remaining>,
    ) -> Result<Answered, Failed> {
        let Remaining {
            left,
            reader,
            ahead,
            sent,
        } = *remaining;
        let sent = Cell::new(sent);
        let mut relay = self.up(upstream, request, reader, upload, &sent);
        relay.ahead = ahead;
        let up = async {
            relay.to.send(&left).await?;
            relay.run(buffered).await
        };
        let response = self.respond(upstream, request, asked, upload);
        let result = both(up, response, upload).await;
        request.sent_up(relay.reader, upload, sent.get());
        result
    }

    /// The body's way up.
    fn up<'a>(
        &'a self,
        upstream: &'a Upstream,
        request: &Request,
        reader: BodyReader,
        upload: &'a Upload,
        sent: &'a Cell<u64>,
    ) -> Relay<'a> {
        let limits = &self.location.client;
        let send_timeout = self.location.proxy.send_timeout;
        Relay {
            from: self.client.end(Timer::ClientRead, limits.body_timeout),
            to: End {
                source: Some(&self.client.socket),
                ..self.upstream_end(upstream, Timer::UpstreamWrite, send_timeout)
            },
            reader,
            chunked: request.head.framing == Framing::Chunked,
            max_bytes: match limits.max_body_size {
                0 => u64::MAX,
                bytes => bytes,
            },
            moved: &upload.body_bytes,
            sent,
            ahead: None,
        }
    }

    pub(super) fn upstream_end<'a>(
        &'a self,
        upstream: &'a Upstream,
        timer: Timer,
        timeout: Duration,
    ) -> End<'a> {
        End {
            socket: &upstream.socket,
            slot: &self.client.slot,
            timer,
            timeout,
            watched: None,
            source: None,
        }
    }

    /// Prepares the request head that goes upstream.
    fn write_request(&self, request: &mut Request, out: &mut Rewrite) -> Result<Asked, Failed> {
        let target = request.replaced.target();
        let set = &self.location.proxy.set_headers;
        let asked = Asked {
            head: request.head.method_kind == Method::Head,
            upgrade: request.head.upgrade.is_some() && self.passes_upgrade(request),
        };
        let mut clean = true;
        rewrite::request(
            out,
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
                    clean &= fields::write(lines, name, value, &self.client.view(request));
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
        if !matches!(target, Target::AsItCame) {
            request.upstream_target = Some(out.target(&request.bytes));
        }
        // A value with a control byte in it would be another request to some server.
        if clean {
            Ok(asked)
        } else {
            Err(Failed::Body(RelayError::Refused(Refusal::ControlByte)))
        }
    }
}

/// Runs the upload and the response at once. The response's end ends the exchange, unless a rest of the request still has
/// to go to a server that keeps its connection.
async fn both(
    up: impl Future<Output = Result<(), RelayError>>,
    response: impl Future<Output = Result<Answered, Failed>>,
    upload: &Upload,
) -> Result<Answered, Failed> {
    let (mut up, mut response) = (pin!(up), pin!(response));
    let mut answered: Option<Answered> = None;
    let mut lost = false;
    poll_fn(|cx| {
        if !upload.over.get() {
            match up.as_mut().poll(cx) {
                Poll::Ready(Ok(())) => upload.over.set(true),
                // The server takes no more of the body: it may have answered early, so its answer is still read.
                Poll::Ready(Err(RelayError::Sink(_))) => {
                    upload.over.set(true);
                    lost = true;
                }
                Poll::Ready(Err(_)) if answered.is_some() => return Poll::Ready(Err(Failed::Cut)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Failed::upload(error))),
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
        let over = upload.over.get();
        if !over && done.upstream_reusable && !upload.is_held_back() {
            return Poll::Pending;
        }
        let whole = over && !lost;
        Poll::Ready(Ok(Answered {
            upstream_reusable: done.upstream_reusable && whole,
            client_reusable: done.client_reusable && whole,
            body_coming: !whole,
            ..done
        }))
    })
    .await
}
