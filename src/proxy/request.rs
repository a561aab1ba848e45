//! One request, the client connection that it came by, and what is known of its answer.

use std::cell::{Cell, OnceCell};
use std::net::SocketAddr;
use std::ops::Deref;
use std::rc::Rc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::balance::PeerIndex;
use crate::config::model::{LocationIndex, ServerIndex};
use crate::http::body::BodyReader;
use crate::http::head::Framing;
use crate::http::request::{RequestHead, shown_line};
use crate::http::response::ResponseHead;
use crate::http::rewrite::Rewrite;
use crate::net::{ClientAddress, now};
use crate::observe::histogram::whole_us;
use crate::pin::{Credentials, State};
use crate::tls::{Presented, Stream};

use super::destination::Replaced;
use super::exchange::Upload;
use super::limits::Standing;
use super::relay::End;
use super::slot::{Slot, SlotKey, Timer};
use super::upstream::Group;
use super::variables::View;
use super::worker::{Settings, Worker};

/// Room for a head that is kept for the next request.
const KEPT_BYTES: usize = 16 << 10;

/// A client connection without its pins: what those see of it who serve a request on it.
pub(super) struct Connection {
    pub(super) worker: Rc<Worker>,
    pub(super) key: SlotKey,
    pub(super) slot: Rc<Slot>,
    pub(super) socket: Stream,
    /// `$connection`
    pub(super) number: u64,
    pub(super) address: ClientAddress,
    /// The address it connected to, looked up when first asked for.
    pub(super) local: OnceCell<Option<Box<SocketAddr>>>,
    pub(super) accepted: Instant,
    /// `$connection_requests`
    pub(super) requests: u64,
    /// What came first is no TLS although that is spoken here.
    pub(super) plain_for_tls: bool,
    /// The certificate that the client was asked for; `None`: it was not.
    pub(super) presented: Option<Box<Presented>>,
    /// What a PROXY header named.
    pub(super) proxied: Option<Box<Proxied>>,
}

/// What a PROXY header says of a connection.
pub(super) struct Proxied {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    /// Type-length-values as they came.
    pub(super) tlvs: Box<[u8]>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.worker.slots.remove(self.key);
    }
}

/// One try to have the request answered by a server.
#[derive(Clone)]
pub(super) struct Attempt {
    /// The server, or the group's name if there was none to try.
    pub(super) server: Rc<str>,
    pub(super) status: u16,
    /// When the request had been sent, or as much of it as could be at once.
    pub(super) sent_at: Instant,
    pub(super) connected_ms: Option<u32>,
    pub(super) header_ms: Option<u32>,
    pub(super) response_ms: Option<u32>,
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) body_received: u64,
}

impl Attempt {
    pub(super) fn new(server: Rc<str>, now: Instant) -> Self {
        Self {
            server,
            status: 0,
            sent_at: now,
            connected_ms: None,
            header_ms: None,
            response_ms: None,
            sent: 0,
            received: 0,
            body_received: 0,
        }
    }

    /// Milliseconds from `sent_at` to `now`.
    pub(super) fn ms_until(&self, now: Instant) -> u32 {
        whole_ms(now.saturating_duration_since(self.sent_at))
    }
}

/// A duration in milliseconds, as far as they fit.
pub(super) fn whole_ms(time: Duration) -> u32 {
    u32::try_from(whole_us(time) / 1000).unwrap_or(u32::MAX)
}

/// What `$pin_…` show.
#[derive(Clone, Copy)]
pub(super) struct PinFacts {
    pub(super) id: u64,
    pub(super) state: State,
    pub(super) age: Duration,
    pub(super) requests: u64,
}

/// A response's head. Few of a worker's requests have one at any time, so that its memory is warm when one is needed.
#[derive(Default)]
pub(super) struct Response {
    /// As it came; empty if the front answers itself.
    pub(super) bytes: Vec<u8>,
    pub(super) head: ResponseHead,
    /// As the client gets it.
    pub(super) rewrite: Rewrite,
    /// `rewrite` is complete.
    pub(super) written: bool,
}

impl Response {
    /// Makes it ready for the next response and keeps the allocations.
    pub(super) fn reset(&mut self) {
        clear_bytes(&mut self.bytes);
        self.head.clear();
        self.rewrite.clear();
        self.written = false;
    }
}

/// Forgets what was received and keeps the allocation, but for that of a huge token.
fn clear_bytes(bytes: &mut Vec<u8>) {
    bytes.clear();
    bytes.shrink_to(KEPT_BYTES);
}

/// One request, from its head to its log line. Reused by the worker, so that a warmed-up request allocates nothing.
pub(super) struct Request {
    /// The head as it came.
    pub(super) bytes: Vec<u8>,
    pub(super) head: RequestHead,
    /// Where in its body the request is.
    pub(super) body: BodyReader,
    /// The response's head, once there is one.
    pub(super) response: Option<Box<Response>>,
    /// Normalised path.
    pub(super) path: Vec<u8>,
    /// Host without port, lower case.
    pub(super) host: Vec<u8>,
    /// Those of the last regular expression that matched, `$1` first.
    pub(super) captures: Vec<Vec<u8>>,
    pub(super) user: Vec<Option<Vec<u8>>>,
    pub(super) server: ServerIndex,
    pub(super) location: LocationIndex,
    pub(super) started: Instant,
    /// The client as real_ip sees it.
    pub(super) client: ClientAddress,
    pub(super) credentials: Option<Credentials>,
    pub(super) group: Option<Rc<Group>>,
    /// What limits made of it, where there are some.
    pub(super) limited: Option<Box<Standing>>,
    pub(super) pin: Option<PinFacts>,
    pub(super) attempts: SmallVec<[Attempt; 1]>,
    /// Servers that were tried, by their places in the balancer.
    pub(super) tried: SmallVec<[PeerIndex; 2]>,
    /// The client connection may go on after this request, as far as the request and the limits say.
    pub(super) may_keep: bool,
    /// What becomes of the target on its way upstream, and the target that goes there where it is not the client's.
    pub(super) replaced: Replaced,
    pub(super) upstream_target: Option<Vec<u8>>,
    /// Status sent to the client, 0 before.
    pub(super) status: u16,
    /// The answer did not go out, or not as a whole.
    pub(super) cut: bool,
    /// Bytes sent to the client, and those of them that are body.
    pub(super) sent: Cell<u64>,
    pub(super) body_sent: Cell<u64>,
    /// Body bytes that the client sent.
    pub(super) body_received: Cell<u64>,
    /// `$pipe`: its head was there before the answer to the request before it was complete.
    pub(super) pipelined: bool,
    /// `$request_id`, made when first asked for.
    pub(super) id: OnceCell<Box<[u8; 32]>>,
}

impl Request {
    pub(super) fn new() -> Self {
        Self {
            bytes: Vec::new(),
            head: RequestHead::default(),
            body: BodyReader::new(Framing::None),
            response: None,
            path: Vec::new(),
            host: Vec::new(),
            captures: Vec::new(),
            user: Vec::new(),
            server: 0,
            location: 0,
            started: now(),
            client: ClientAddress::Unix,
            credentials: None,
            group: None,
            limited: None,
            pin: None,
            attempts: SmallVec::new(),
            tried: SmallVec::new(),
            may_keep: false,
            replaced: Replaced::Nothing,
            upstream_target: None,
            status: 0,
            cut: false,
            sent: Cell::new(0),
            body_sent: Cell::new(0),
            body_received: Cell::new(0),
            pipelined: false,
            id: OnceCell::new(),
        }
    }

    /// Lets go of what others count or of what is large, once everything about it is said.
    pub(super) fn retire(&mut self) {
        self.group = None;
        self.limited = None;
        clear_bytes(&mut self.bytes);
    }

    /// Makes a retired one ready for the next request and keeps the allocations. Not before it is needed: its memory has to
    /// come into the cache then anyway.
    pub(super) fn reset(&mut self) {
        self.started = now();
        // Its spans belong to the bytes, and bytes that never become a head are shown in logs, too.
        self.head.clear();
        self.body = BodyReader::new(Framing::None);
        self.path.clear();
        self.host.clear();
        self.captures.clear();
        self.user.clear();
        self.credentials = None;
        self.pin = None;
        self.attempts.clear();
        self.tried.clear();
        self.may_keep = false;
        self.replaced = Replaced::Nothing;
        self.upstream_target = None;
        self.status = 0;
        self.cut = false;
        self.sent.set(0);
        self.body_sent.set(0);
        self.body_received.set(0);
        self.pipelined = false;
        self.id.take();
    }

    /// Notes what of it went upstream: `bytes` of the last attempt, and how far its body is, should the front answer itself.
    pub(super) fn sent_up(&mut self, body: BodyReader, upload: &Upload, bytes: u64) {
        self.body = body;
        self.body_received.set(upload.body_bytes.get());
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.sent += bytes;
        }
    }

    /// Notes what of the answer went down since it was noted last: body bytes, and all bytes.
    pub(super) fn sent_down(&mut self, body: u64, all: u64, now: Instant) {
        self.sent.set(self.sent.get() + all);
        self.body_sent.set(self.body_sent.get() + body);
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.response_ms = Some(attempt.ms_until(now));
            attempt.body_received += body;
            attempt.received += body;
        }
    }

    /// The response's head; an empty one before it is there.
    pub(super) fn response(&self) -> &Response {
        static NONE: Response = Response {
            bytes: Vec::new(),
            head: ResponseHead::EMPTY,
            rewrite: Rewrite::EMPTY,
            written: false,
        };
        self.response.as_deref().unwrap_or(&NONE)
    }

    /// Assigns a variable of `set` or a named capture.
    pub(super) fn assign(user: &mut Vec<Option<Vec<u8>>>, variable: usize, value: &[u8]) {
        if user.len() <= variable {
            user.resize(variable + 1, None);
        }
        user[variable] = Some(value.to_vec());
    }

    /// The request line, for logs: empty if the bytes do not begin with one, since they may be anything then.
    pub(super) fn line(&self) -> &[u8] {
        shown_line(&self.bytes)
    }

    /// The server of the last attempt, for logs.
    pub(super) fn last_server(&self) -> Option<&str> {
        self.attempts.last().map(|attempt| &*attempt.server)
    }

    /// The value of a request field, for `$http_NAME`.
    pub(super) fn http_field(&self, name: &str) -> Option<&[u8]> {
        self.head
            .field(&self.bytes, name)
            .map(|span| span.of(&self.bytes))
    }

    /// The value of a response field as the server sent it, for `$upstream_http_NAME`.
    pub(super) fn upstream_field(&self, name: &str) -> Option<&[u8]> {
        let response = self.response();
        if response.bytes.is_empty() {
            return None;
        }
        let found = response.head.field(&response.bytes, name);
        found.map(|span| span.of(&response.bytes))
    }
}

/// The client connection that a request came by, for those who serve it, and the configuration that they serve it by.
#[derive(Clone, Copy)]
pub(super) struct ClientRef<'a> {
    pub(super) connection: &'a Connection,
    pub(super) settings: &'a Settings,
}

impl Deref for ClientRef<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
    }
}

impl<'a> ClientRef<'a> {
    /// What variables see.
    pub(super) fn view<'v>(&self, request: &'v Request) -> View<'v>
    where
        'a: 'v,
    {
        View {
            client: *self,
            request,
        }
    }

    /// `$scheme`: what the client speaks.
    pub(super) fn scheme(&self) -> &'static [u8] {
        match self.socket.is_tls() {
            true => b"https",
            false => b"http",
        }
    }

    /// The client's end of a relay.
    pub(super) fn end(&self, timer: Timer, timeout: Duration) -> End<'a> {
        End {
            socket: &self.connection.socket,
            slot: &self.connection.slot,
            timer,
            timeout,
            watched: None,
            source: None,
        }
    }
}
