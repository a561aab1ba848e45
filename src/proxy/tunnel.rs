//! Upgrades: passed on when configured, and a tunnel after 101 to the protocol that was asked for (rule 29).

use std::cell::Cell;
use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::http::body::BodyReader;
use crate::http::head::Framing;
use crate::http::rewrite;

use super::exchange::{Answered, Exchange, Upload};
use super::failure::Failed;
use super::fields;
use super::relay::{End, Relay, RelayError};
use super::request::Request;
use super::slot::Timer;
use super::upstream::Upstream;

/// Longer than any connection lives.
const NO_TIMEOUT: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

impl Exchange<'_> {
    /// Whether the configuration passes an upgrade on: it sets `Upgrade` and a `Connection` that names it.
    pub(super) fn passes_upgrade(&self, request: &Request) -> bool {
        let rendered = |wanted: &str| -> Vec<u8> {
            let mut value = Vec::new();
            let mut set = self.location.proxy.set_headers.iter();
            if let Some((_, template)) = set.find(|(name, _)| name.eq_ignore_ascii_case(wanted)) {
                template.render(&self.client.view(request), &mut value);
            }
            value
        };
        !rendered("upgrade").is_empty() && fields::names_upgrade(&rendered("connection"))
    }

    /// Whether a 101 switches to a protocol that the client asked for.
    pub(super) fn switches_as_asked(&self, request: &Request) -> bool {
        let response = request.response();
        let (Some(asked), Some(answered)) = (request.head.upgrade, response.head.upgrade) else {
            return false;
        };
        let answered = answered.of(&response.bytes).trim_ascii();
        asked
            .of(&request.bytes)
            .split(|&b| b == b',')
            .any(|protocol| protocol.trim_ascii().eq_ignore_ascii_case(answered))
    }

    /// Answers 101, and sends what the server said behind it. What follows is the tunnel's.
    pub(super) async fn begin_tunnel(
        &self,
        request: &mut Request,
        upload: &Upload,
        behind: Vec<u8>,
    ) -> Result<Answered, Failed> {
        let response = request.response.get_or_insert_default();
        let (bytes, head) = (&response.bytes, &response.head);
        let protocol = head.upgrade.map(|span| span.of(bytes));
        rewrite::response(
            &mut response.rewrite,
            head,
            bytes,
            false,
            |_| false,
            |lines| {
                lines.extend_from_slice(b"Connection: upgrade\r\nUpgrade: ");
                lines.extend_from_slice(protocol.unwrap_or_default());
                lines.extend_from_slice(b"\r\n");
            },
        );
        response.written = true;
        request.status = 101;
        let client = self.client_end(upload);
        self.send_head(request, client).await?;
        client.send(&behind).await.map_err(|_| Failed::Cut)?;
        Ok(Answered {
            upstream_reusable: false,
            client_reusable: false,
            persistent_auth_false: false,
            body_coming: false,
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
        let send_timeout = self.location.client.send_timeout;
        let mut up = one_way(
            self.client.end(Timer::ClientRead, NO_TIMEOUT),
            End {
                source: Some(&self.client.socket),
                ..self.upstream_end(upstream, Timer::UpstreamWrite, proxy.send_timeout)
            },
            &up_moved,
            &ignored,
        );
        let mut down = one_way(
            self.upstream_end(upstream, Timer::UpstreamRead, proxy.read_timeout),
            End {
                source: Some(&upstream.socket),
                ..self.client.end(Timer::ClientWrite, send_timeout)
            },
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
            poll_fn(|cx| match up.as_mut().poll(cx) {
                Poll::Ready(_) => Poll::Ready(()),
                Poll::Pending => down.as_mut().poll(cx),
            })
            .await;
        }
        request.body_received.set(up_moved.get());
        request.body_sent.set(down_moved.get());
        request.sent.set(request.sent.get() + down_moved.get());
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
        ahead: None,
    }
}
