//! A connection to one of a group's servers: the pool first, then the balancer; another server if one does not answer.

use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::balance::{Method, PeerIndex};
use crate::config::model::Level;
use crate::config::template::Template;
use crate::net::now;
use crate::observe::escape::Escaped;
use crate::observe::handshakes::HandshakeFailure;
use crate::tls::GroupTls;

use super::failure::{Failed, UpstreamFailure};
use super::forward::Forward;
use super::request::{Attempt, Request};
use super::slot::Timer;
use super::upstream::{Group, Servers, Upstream};

impl Forward<'_> {
    /// A clean connection to a server of the group: a pooled one, or a new one.
    pub(super) async fn connect(&self, request: &mut Request) -> Result<Box<Upstream>, Failed> {
        let Some(group) = request.group.clone() else {
            return Err(Failed::Upstream(UpstreamFailure::NoneLive));
        };
        let servers = Rc::clone(&group.servers.borrow());
        let key = self.balancing_key(&group, &servers, request);
        let mut last = None;
        loop {
            let picked = servers
                .balancer
                .borrow_mut()
                .pick(&key, &request.tried, now(), |n| rand::random_range(0..n));
            let Some(peer) = picked else {
                // All were tried: the last one's failure is the request's.
                if let Some(failure) = last {
                    return Err(Failed::Upstream(failure));
                }
                let name: Rc<str> = group.name.as_str().into();
                request.attempts.push(Attempt {
                    status: 502,
                    ..Attempt::new(name, now())
                });
                self.client.log(
                    Level::Error,
                    request,
                    format_args!("no live upstreams while connecting to upstream"),
                );
                return Err(Failed::Upstream(UpstreamFailure::NoneLive));
            };
            request.tried.push(peer);
            let server = Rc::clone(&servers.peers[peer].name);
            request.attempts.push(Attempt::new(server, now()));
            if let Some(upstream) = group.reuse(&servers, peer) {
                self.client.worker.counters.upstream_reused.add(1);
                self.note_connected(request, Duration::ZERO);
                return Ok(upstream);
            }
            let failure = match Box::pin(self.open(&group, &servers, peer, request)).await {
                Ok(upstream) => return Ok(upstream),
                Err(Failed::Upstream(failure)) => failure,
                Err(failed) => return Err(failed),
            };
            let disabled = !failure.is_ours() && {
                self.client.worker.counters.upstream_failed.add(1);
                servers.peers[peer].counters.failed();
                servers.balancer.borrow_mut().failed(peer, now())
            };
            self.log_failure(request, &failure, disabled);
            if let Some(attempt) = request.attempts.last_mut() {
                attempt.status = failure.status();
            }
            // Nothing was sent, so that another server may be tried whatever the request is.
            if !failure.is_named_by(&self.location.proxy.next_upstream) || !self.tries_left(request)
            {
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
    ) -> Result<Box<Upstream>, Failed> {
        let proxy = &self.location.proxy;
        let began = now();
        let bind = proxy
            .bind
            .as_ref()
            .and_then(|template| self.local_address(request, template));
        if !self.client.worker.has_room() {
            return Err(Failed::Upstream(UpstreamFailure::Full));
        }
        let mut upstream =
            Upstream::connect(group, servers, peer, bind, proxy.socket_keepalive, began)
                .map_err(|error| Failed::Upstream(UpstreamFailure::open(error)))?;
        let wait = self
            .client
            .slot
            .timed(Timer::UpstreamWrite, proxy.connect_timeout, |cx| {
                if let Poll::Ready(connected) = upstream.socket.poll_connected(cx) {
                    return Poll::Ready(
                        connected
                            .map_err(|error| Failed::Upstream(UpstreamFailure::Connect(error))),
                    );
                }
                self.poll_client_gone(request, cx)
                    .map(|()| Err(Failed::ClientGone))
            });
        wait.await
            .map_err(|_| Failed::Upstream(UpstreamFailure::ConnectTimedOut))??;
        let tls = group.tls.borrow().clone();
        if let Some(tls) = tls {
            self.shake_hands(&mut upstream, &tls, request).await?;
        }
        self.client.worker.counters.upstream_opened.add(1);
        upstream.is_open();
        self.note_connected(request, now() - began);
        Ok(upstream)
    }

    /// Has the handshake with the server made. Nothing of the request goes out before it is over.
    async fn shake_hands(
        &self,
        upstream: &mut Upstream,
        tls: &GroupTls,
        request: &Request,
    ) -> Result<(), Failed> {
        let counters = &self.client.worker.counters.upstream_tls;
        let failed = |error: io::Error| {
            counters.failed(error.kind().into());
            Failed::Upstream(UpstreamFailure::Handshake(error))
        };
        let session = tls
            .begin()
            .map_err(|error| failed(io::Error::other(error)))?;
        upstream.socket.begin_connect(session);
        let timeout = self.location.proxy.connect_timeout;
        let slot = &self.client.slot;
        let wait = slot.timed(Timer::UpstreamWrite, timeout, |cx| {
            if let Poll::Ready(shaken) = upstream.socket.poll_shaken(cx) {
                return Poll::Ready(shaken.map_err(failed));
            }
            self.poll_client_gone(request, cx)
                .map(|()| Err(Failed::ClientGone))
        });
        wait.await.map_err(|_| {
            counters.failed(HandshakeFailure::TimedOut);
            Failed::Upstream(UpstreamFailure::HandshakeTimedOut)
        })??;
        if let Some(shaken) = upstream.socket.agreed(|agreed| agreed.shaken()) {
            counters.succeeded(shaken);
        }
        Ok(())
    }

    /// Ready when the client has left.
    fn poll_client_gone(&self, request: &Request, cx: &mut Context<'_>) -> Poll<()> {
        match request.body.is_done() {
            true => self.client.socket.poll_gone(cx),
            false => self.client.socket.poll_hung_up(cx),
        }
    }

    /// `proxy_bind`; an address that is none is reported and left to the system, as in nginx.
    fn local_address(&self, request: &Request, template: &Template) -> Option<IpAddr> {
        let mut address = Vec::new();
        template.render(&self.client.view(request), &mut address);
        let parsed = std::str::from_utf8(&address)
            .ok()
            .and_then(|text| text.parse().ok());
        if parsed.is_none() && !address.is_empty() {
            let message = format_args!("invalid local address \"{}\"", Escaped(&address));
            self.client.log(Level::Error, request, message);
        }
        parsed
    }

    fn note_connected(&self, request: &mut Request, time: Duration) {
        if let Some(attempt) = request.attempts.last_mut() {
            attempt.connected_ms = u32::try_from(time.as_millis()).ok();
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
                    template.render(&self.client.view(request), &mut key);
                }
                key
            }
            Method::RoundRobin | Method::LeastConn | Method::Random { .. } => Vec::new(),
        }
    }

    fn tries_left(&self, request: &Request) -> bool {
        let proxy = &self.location.proxy;
        (proxy.next_upstream_tries == 0 || request.tried.len() < proxy.next_upstream_tries as usize)
            && proxy
                .next_upstream_timeout
                .is_none_or(|limit| now() - request.started < limit)
    }

    /// Whether a request may be sent once more, as far as its method says (nginx documentation, `proxy_next_upstream`).
    pub(super) fn is_repeatable(&self, request: &Request) -> bool {
        let method = request.head.method.of(&request.bytes);
        self.location.proxy.next_upstream.non_idempotent
            || !matches!(method, b"POST" | b"LOCK" | b"PATCH")
    }

    /// Whether the group has a server that was not tried yet, and tries and time are left.
    pub(super) fn may_try_another(&self, request: &Request) -> bool {
        let group = request.group.as_ref();
        group.is_some_and(|group| request.tried.len() < group.servers.borrow().peers.len())
            && self.tries_left(request)
    }

    /// Counts and logs that the server failed the request that was sent to it.
    pub(super) fn note_failure(
        &self,
        request: &mut Request,
        upstream: &Upstream,
        failure: &UpstreamFailure,
        counts: bool,
    ) {
        let counters = &self.client.worker.counters;
        counters.upstream_failed.add(1);
        if let UpstreamFailure::InvalidHead(refusal) | UpstreamFailure::InvalidBody(refusal) =
            failure
        {
            counters.refusals.count(*refusal);
        }
        // These statuses say nothing about the server (nginx documentation, proxy_next_upstream).
        let counts = counts && !matches!(failure, UpstreamFailure::Status(403 | 404));
        let disabled = counts && upstream.failed(now());
        if let Some(attempt) = request.attempts.last_mut()
            && attempt.status == 0
        {
            attempt.status = failure.status();
        }
        self.log_failure(request, failure, disabled);
    }

    fn log_failure(&self, request: &Request, failure: &UpstreamFailure, disabled: bool) {
        self.client
            .log(Level::Error, request, format_args!("{failure}"));
        if disabled {
            self.client.log(
                Level::Warn,
                request,
                format_args!("upstream server temporarily disabled"),
            );
        }
    }
}
