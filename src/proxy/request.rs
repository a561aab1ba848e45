//! One request and what is known of its answer, and the values that variables have for it.

use std::cell::{Cell, OnceCell};
use std::io::Write as _;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use crate::config::model::{LocationIndex, ServerIndex};
use crate::config::template::Lookup;
use crate::config::variable::Variable;
use crate::http::body::BodyReader;
use crate::http::fields::set_cookie;
use crate::http::head::{Framing, Version};
use crate::http::request::RequestHead;
use crate::http::response::ResponseHead;
use crate::http::rewrite::Rewrite;
use crate::http::target::argument;
use crate::net::ClientAddress;
use crate::observe::time::with_now;
use crate::pin::{Credentials, State};

use super::upstream::Group;
use super::worker::{Settings, Worker};

/// What is known of a client connection.
pub(super) struct ClientFacts {
    /// `$connection`
    pub(super) number: u64,
    pub(super) address: ClientAddress,
    /// The address it connected to, looked up when first asked for.
    pub(super) local: OnceCell<Option<SocketAddr>>,
    pub(super) accepted: Instant,
    /// `$connection_requests`
    pub(super) requests: u64,
    /// Source and destination that a PROXY header named.
    pub(super) proxied: Option<(SocketAddr, SocketAddr)>,
}

/// One try to have the request answered by a server.
#[derive(Clone, Default)]
pub(super) struct Attempt {
    /// The server, or the group's name if there was none to try.
    pub(super) server: Rc<str>,
    pub(super) status: u16,
    pub(super) connected: Option<Duration>,
    pub(super) header: Option<Duration>,
    pub(super) response: Option<Duration>,
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) body_received: u64,
}

/// What `$pin_…` show.
#[derive(Clone, Copy)]
pub(super) struct PinFacts {
    pub(super) id: u64,
    pub(super) state: State,
    pub(super) age: Duration,
    pub(super) requests: u64,
}

/// One request, from its head to its log line. Reused by the worker, so that a warmed-up request allocates nothing.
pub(super) struct Request {
    /// The head as it came.
    pub(super) bytes: Vec<u8>,
    pub(super) head: RequestHead,
    /// Where in its body the request is.
    pub(super) body: BodyReader,
    /// The response head as it came, empty before it does.
    pub(super) response_bytes: Vec<u8>,
    pub(super) response: ResponseHead,
    /// The head that is sent: first the request's, then the response's.
    pub(super) rewrite: Rewrite,
    /// Normalised path.
    pub(super) path: Vec<u8>,
    /// Host without port, lower case.
    pub(super) host: Vec<u8>,
    pub(super) captures: Vec<Vec<u8>>,
    pub(super) user: Vec<Option<Vec<u8>>>,
    pub(super) server: ServerIndex,
    pub(super) location: LocationIndex,
    pub(super) started: Instant,
    /// The client as real_ip sees it.
    pub(super) client: ClientAddress,
    pub(super) credentials: Option<Credentials>,
    pub(super) group: Option<Rc<Group>>,
    pub(super) pin: Option<PinFacts>,
    pub(super) attempts: Vec<Attempt>,
    /// Status sent to the client, 0 before.
    pub(super) status: u16,
    /// Bytes sent to the client, and those of them that are body.
    pub(super) sent: Cell<u64>,
    pub(super) body_sent: Cell<u64>,
    /// Body bytes that the client sent.
    pub(super) body_received: Cell<u64>,
    /// `$pipe`: its head was there before the answer to the request before it was complete.
    pub(super) pipelined: bool,
    id: OnceCell<[u8; 32]>,
}

impl Request {
    pub(super) fn new() -> Self {
        Self {
            bytes: Vec::new(),
            head: RequestHead::default(),
            body: BodyReader::new(Framing::None),
            response_bytes: Vec::new(),
            response: ResponseHead::default(),
            rewrite: Rewrite::default(),
            path: Vec::new(),
            host: Vec::new(),
            captures: Vec::new(),
            user: Vec::new(),
            server: 0,
            location: 0,
            started: Instant::now(),
            client: ClientAddress::Unix,
            credentials: None,
            group: None,
            pin: None,
            attempts: Vec::new(),
            status: 0,
            sent: Cell::new(0),
            body_sent: Cell::new(0),
            body_received: Cell::new(0),
            pipelined: false,
            id: OnceCell::new(),
        }
    }

    /// Makes it ready for the next request and keeps the allocations.
    pub(super) fn reset(&mut self) {
        self.bytes.clear();
        // Its spans belong to the bytes, and bytes that never become a head are shown in logs, too.
        self.head.clear();
        self.response_bytes.clear();
        self.rewrite.clear();
        self.body = BodyReader::new(Framing::None);
        self.path.clear();
        self.host.clear();
        self.captures.clear();
        self.user.clear();
        self.credentials = None;
        self.group = None;
        self.pin = None;
        self.attempts.clear();
        self.status = 0;
        self.sent.set(0);
        self.body_sent.set(0);
        self.body_received.set(0);
        self.pipelined = false;
        self.id.take();
    }

    /// Assigns a variable of `set` or a named capture.
    pub(super) fn assign(user: &mut Vec<Option<Vec<u8>>>, variable: usize, value: &[u8]) {
        if user.len() <= variable {
            user.resize(variable + 1, None);
        }
        user[variable] = Some(value.to_vec());
    }

    /// The request line, for logs.
    pub(super) fn line(&self) -> &[u8] {
        let end = memchr::memchr(b'\r', &self.bytes).unwrap_or(self.bytes.len());
        &self.bytes[..end]
    }

    /// The server of the last attempt, for logs.
    pub(super) fn last_server(&self) -> Option<&str> {
        self.attempts.last().map(|attempt| &*attempt.server)
    }

    fn http_field(&self, name: &str) -> Option<&[u8]> {
        self.head
            .field(&self.bytes, name)
            .map(|span| span.of(&self.bytes))
    }

    fn upstream_field(&self, name: &str) -> Option<&[u8]> {
        if self.response_bytes.is_empty() {
            return None;
        }
        self.response
            .field(&self.response_bytes, name)
            .map(|span| span.of(&self.response_bytes))
    }
}

/// Everything that variables can be asked about.
pub(super) struct View<'a> {
    pub(super) worker: &'a Worker,
    pub(super) settings: &'a Settings,
    pub(super) facts: &'a ClientFacts,
    pub(super) request: &'a Request,
    /// The front's local end, for `$server_addr`.
    pub(super) socket: &'a crate::net::Socket,
}

/// A value that shows no more than the scheme of credentials.
fn scheme_only(value: &[u8]) -> &[u8] {
    let end = value
        .iter()
        .position(|b| matches!(b, b' ' | b'\t' | b','))
        .unwrap_or(value.len());
    &value[..end]
}

/// Fields whose values are credentials, or parts of a login.
fn is_secret(name: &str) -> bool {
    matches!(
        name,
        "authorization" | "proxy-authorization" | "www-authenticate" | "proxy-authenticate"
    ) || name == "authentication-info"
}

fn put(out: &mut Vec<u8>, value: Option<&[u8]>) -> bool {
    let Some(value) = value else { return false };
    out.extend_from_slice(value);
    true
}

fn show(out: &mut Vec<u8>, value: impl std::fmt::Display) -> bool {
    // Writing to a vector does not fail.
    let _ = write!(out, "{value}");
    true
}

fn seconds(out: &mut Vec<u8>, duration: Duration) -> bool {
    show(
        out,
        format_args!("{}.{:03}", duration.as_secs(), duration.subsec_millis()),
    )
}

impl View<'_> {
    fn local(&self) -> Option<SocketAddr> {
        *self.facts.local.get_or_init(|| self.socket.local_address())
    }

    fn attempts(&self, out: &mut Vec<u8>, mut one: impl FnMut(&Attempt, &mut Vec<u8>)) -> bool {
        for (i, attempt) in self.request.attempts.iter().enumerate() {
            if i > 0 {
                out.extend_from_slice(b", ");
            }
            one(attempt, out);
        }
        !self.request.attempts.is_empty()
    }

    fn times(&self, out: &mut Vec<u8>, time: impl Fn(&Attempt) -> Option<Duration>) -> bool {
        self.attempts(out, |attempt, out| match time(attempt) {
            Some(duration) => drop(seconds(out, duration)),
            None => out.push(b'-'),
        })
    }

    fn field(&self, out: &mut Vec<u8>, name: &str, value: Option<&[u8]>) -> bool {
        put(
            out,
            if is_secret(name) {
                value.map(scheme_only)
            } else {
                value
            },
        )
    }

    fn sent_field(&self, out: &mut Vec<u8>, name: &str) -> bool {
        // What was sent is in the rewritten head, unless that is still the request's.
        if self.request.status == 0 {
            return false;
        }
        let mut head = Vec::with_capacity(self.request.rewrite.len());
        let mut slices = crate::http::rewrite::Slices::new();
        self.request
            .rewrite
            .slices(&self.request.response_bytes, 0, &mut slices);
        slices
            .iter()
            .for_each(|slice| head.extend_from_slice(slice));
        let mut lines = head.split(|&b| b == b'\n').skip(1);
        let found = lines.find_map(|line| {
            let colon = memchr::memchr(b':', line)?;
            line[..colon]
                .eq_ignore_ascii_case(name.as_bytes())
                .then(|| line[colon + 1..].trim_ascii())
        });
        self.field(out, name, found)
    }

    fn request_id(&self) -> &[u8] {
        self.request.id.get_or_init(|| {
            let mut id = [0; 32];
            let random: [u8; 16] = rand::random();
            for (pair, byte) in id.chunks_exact_mut(2).zip(random) {
                pair.copy_from_slice(&[
                    b"0123456789abcdef"[usize::from(byte >> 4)],
                    b"0123456789abcdef"[usize::from(byte & 15)],
                ]);
            }
            id
        })
    }
}

impl Lookup for View<'_> {
    fn append(&self, variable: &Variable, out: &mut Vec<u8>) -> bool {
        let Self { request, facts, .. } = self;
        let head = &request.head;
        match variable {
            Variable::Http(name) => self.field(out, name, request.http_field(name)),
            Variable::SentHttp(name) => self.sent_field(out, name),
            Variable::UpstreamHttp(name) => self.field(out, name, request.upstream_field(name)),
            Variable::UpstreamCookie(name) => {
                let found = request.response.fields.iter().find_map(|field| {
                    let set = field
                        .name
                        .of(&request.response_bytes)
                        .eq_ignore_ascii_case(b"set-cookie");
                    set.then(|| set_cookie(field.value.of(&request.response_bytes), name))
                        .flatten()
                });
                put(out, found)
            }
            Variable::Cookie(name) => put(out, head.cookie(&request.bytes, name)),
            Variable::Arg(name) => put(
                out,
                head.query
                    .and_then(|query| argument(query.of(&request.bytes), name)),
            ),
            Variable::Capture(n) => put(
                out,
                // The first of them is $1.
                usize::from(*n)
                    .checked_sub(1)
                    .and_then(|at| request.captures.get(at))
                    .map(Vec::as_slice),
            ),
            Variable::User(i) => put(out, request.user.get(*i).and_then(Option::as_deref)),
            Variable::Map(i) => {
                self.settings.config().http.maps[*i].append(self, out);
                true
            }
            Variable::Host => {
                if request.host.is_empty() {
                    return show(
                        out,
                        &self.settings.config().http.servers[request.server].name,
                    );
                }
                put(out, Some(&request.host))
            }
            Variable::ProxyHost => put(
                out,
                request
                    .group
                    .as_ref()
                    .map(|group| group.proxy_host.as_bytes()),
            ),
            Variable::ProxyPort => request
                .group
                .as_ref()
                .is_some_and(|group| show(out, group.port)),
            Variable::ProxyAddXForwardedFor => {
                if let Some(value) = request.http_field("x-forwarded-for") {
                    out.extend_from_slice(value);
                    out.extend_from_slice(b", ");
                }
                show(out, request.client)
            }
            Variable::RemoteAddr => show(out, request.client),
            Variable::RemotePort => match request.client {
                ClientAddress::Inet(address) => show(out, address.port()),
                ClientAddress::Unix => false,
            },
            Variable::RemoteUser => false,
            Variable::BinaryRemoteAddr => {
                match request.client.ip().map(|ip| ip.to_canonical()) {
                    Some(std::net::IpAddr::V4(ip)) => out.extend_from_slice(&ip.octets()),
                    Some(std::net::IpAddr::V6(ip)) => out.extend_from_slice(&ip.octets()),
                    None => out.extend_from_slice(b"unix:"),
                }
                true
            }
            Variable::RealipRemoteAddr => show(out, facts.address),
            Variable::RealipRemotePort => match facts.address {
                ClientAddress::Inet(address) => show(out, address.port()),
                ClientAddress::Unix => false,
            },
            Variable::ProxyProtocolAddr => facts
                .proxied
                .is_some_and(|(source, _)| show(out, source.ip())),
            Variable::ProxyProtocolPort => facts
                .proxied
                .is_some_and(|(source, _)| show(out, source.port())),
            Variable::ProxyProtocolServerAddr => {
                facts.proxied.is_some_and(|(_, to)| show(out, to.ip()))
            }
            Variable::ProxyProtocolServerPort => {
                facts.proxied.is_some_and(|(_, to)| show(out, to.port()))
            }
            Variable::Scheme => put(out, Some(b"http")),
            Variable::Https => false,
            Variable::ServerName => show(
                out,
                &self.settings.config().http.servers[request.server].name,
            ),
            Variable::ServerAddr => match self.local() {
                Some(local) => show(out, local.ip().to_canonical()),
                None => put(out, Some(b"unix:")),
            },
            Variable::ServerPort => self.local().is_some_and(|local| show(out, local.port())),
            Variable::ServerProtocol => put(
                out,
                Some(match head.version {
                    Version::Http10 => b"HTTP/1.0",
                    Version::Http11 => b"HTTP/1.1",
                }),
            ),
            Variable::Request => put(out, Some(request.line())),
            Variable::RequestMethod => put(out, Some(head.method.of(&request.bytes))),
            Variable::RequestUri => {
                let path = head.path.of(&request.bytes);
                out.extend_from_slice(if path.is_empty() { b"/" } else { path });
                if let Some(query) = head.query {
                    out.push(b'?');
                    out.extend_from_slice(query.of(&request.bytes));
                }
                true
            }
            Variable::Uri => put(out, Some(&request.path)),
            Variable::Args => put(out, head.query.map(|query| query.of(&request.bytes))),
            Variable::IsArgs => put(
                out,
                head.query
                    .filter(|query| !query.is_empty())
                    .map(|_| &b"?"[..]),
            ),
            Variable::RequestId => put(out, Some(self.request_id())),
            Variable::RequestLength => show(
                out,
                request.bytes.len() as u64 + request.body_received.get(),
            ),
            Variable::RequestTime => seconds(out, request.started.elapsed()),
            Variable::RequestCompletion => {
                put(out, Some(if request.status == 0 { b"" } else { b"OK" }))
            }
            Variable::Status => {
                if request.status == 0 {
                    return put(out, Some(b"000"));
                }
                show(out, request.status)
            }
            Variable::BytesSent => show(out, request.sent.get()),
            Variable::BodyBytesSent => show(out, request.body_sent.get()),
            Variable::Connection => show(out, facts.number),
            Variable::ConnectionRequests => show(out, facts.requests),
            Variable::ConnectionTime => seconds(out, facts.accepted.elapsed()),
            Variable::ContentLength => put(out, request.http_field("content-length")),
            Variable::ContentType => put(out, request.http_field("content-type")),
            Variable::Msec => seconds(
                out,
                SystemTime::now()
                    .duration_since(SystemTime::UNIX_EPOCH)
                    .unwrap_or_default(),
            ),
            Variable::TimeLocal => with_now(|stamps| show(out, stamps.local())),
            Variable::TimeIso8601 => with_now(|stamps| show(out, stamps.iso8601())),
            Variable::Pid => show(out, std::process::id()),
            Variable::Pipe => put(out, Some(if request.pipelined { b"p" } else { b"." })),
            Variable::Hostname => show(out, self.worker.hostname()),
            Variable::NginxVersion => show(out, crate::cli::NGINX_VERSION),
            Variable::UpstreamAddr => self.attempts(out, |attempt, out| {
                out.extend_from_slice(attempt.server.as_bytes())
            }),
            Variable::UpstreamStatus => self.attempts(out, |attempt, out| match attempt.status {
                0 => out.push(b'-'),
                status => drop(show(out, status)),
            }),
            Variable::UpstreamResponseTime => self.times(out, |attempt| attempt.response),
            Variable::UpstreamConnectTime => self.times(out, |attempt| attempt.connected),
            Variable::UpstreamHeaderTime => self.times(out, |attempt| attempt.header),
            Variable::UpstreamBytesSent => self.attempts(out, |attempt, out| {
                show(out, attempt.sent);
            }),
            Variable::UpstreamBytesReceived => self.attempts(out, |attempt, out| {
                show(out, attempt.received);
            }),
            Variable::UpstreamResponseLength => self.attempts(out, |attempt, out| {
                show(out, attempt.body_received);
            }),
            Variable::PinId => request.pin.is_some_and(|pin| show(out, pin.id)),
            Variable::PinState => request.pin.is_some_and(|pin| {
                put(
                    out,
                    Some(match pin.state {
                        State::Handshaking => b"handshaking",
                        State::Established => b"established",
                    }),
                )
            }),
            Variable::PinAge => request.pin.is_some_and(|pin| seconds(out, pin.age)),
            Variable::PinRequests => request.pin.is_some_and(|pin| show(out, pin.requests)),
            Variable::AuthScheme => request
                .credentials
                .is_some_and(|credentials| show(out, credentials.scheme.word())),
        }
    }
}
