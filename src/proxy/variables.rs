//! The values that variables have for a request.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use itoa::{Buffer, Integer};

use crate::config::template::Lookup;
use crate::config::variable::Variable;
use crate::http::fields::set_cookie;
use crate::http::head::Version;
use crate::http::target::argument;
use crate::net::ClientAddress;
use crate::observe::time::with_now;
use crate::pin::{Credentials, State};

use super::request::{Attempt, ClientRef, Request, Response};
use super::tls_variables;

/// Everything that variables can be asked about.
pub(super) struct View<'a> {
    pub(super) client: ClientRef<'a>,
    pub(super) request: &'a Request,
}

/// A value that shows no more than the scheme of credentials, and that only if it is a known one: some clients send a bare token, or a
/// key of two words.
fn scheme_only(value: &[u8]) -> &[u8] {
    let end = value.iter().position(|b| matches!(b, b' ' | b'\t' | b','));
    let scheme = &value[..end.unwrap_or(value.len())];
    match Credentials::in_value(scheme).is_some() || Credentials::is_for_one_request(scheme) {
        true => scheme,
        false => &[],
    }
}

/// Fields whose values are credentials, or parts of a login.
fn is_secret(name: &str) -> bool {
    matches!(
        name,
        "authorization" | "proxy-authorization" | "www-authenticate" | "proxy-authenticate"
    ) || matches!(name, "authentication-info" | "proxy-authentication-info")
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

/// What `show` would do, and faster: most of a line of the access log are numbers.
fn number(out: &mut Vec<u8>, value: impl Integer) -> bool {
    put(out, Some(Buffer::new().format(value).as_bytes()))
}

/// nginx shows no port 0: nobody said which it is.
fn port(out: &mut Vec<u8>, address: SocketAddr) -> bool {
    address.port() != 0 && number(out, address.port())
}

fn client_port(out: &mut Vec<u8>, address: ClientAddress) -> bool {
    match address {
        ClientAddress::Inet(address) => port(out, address),
        ClientAddress::Unix => false,
    }
}

fn seconds(out: &mut Vec<u8>, duration: Duration) -> bool {
    number(out, duration.as_secs());
    out.push(b'.');
    let ms = duration.subsec_millis();
    for unit in [100, 10, 1] {
        out.push(b"0123456789"[(ms / unit % 10) as usize]);
    }
    true
}

fn ip(out: &mut Vec<u8>, ip: IpAddr) -> bool {
    let IpAddr::V4(ip) = ip.to_canonical() else {
        return show(out, ip);
    };
    let mut text = [b'.'; "255.255.255.255.".len()];
    let mut len = 0;
    for octet in ip.octets() {
        for unit in [100, 10, 1] {
            if octet >= unit || unit == 1 {
                text[len] = b'0' + octet / unit % 10;
                len += 1;
            }
        }
        // A dot that is there already.
        len += 1;
    }
    put(out, Some(&text[..len - 1]))
}

fn address(out: &mut Vec<u8>, client: &ClientAddress) -> bool {
    match client {
        ClientAddress::Inet(address) => ip(out, address.ip()),
        ClientAddress::Unix => put(out, Some(b"unix:")),
    }
}

impl View<'_> {
    fn local(&self) -> Option<&SocketAddr> {
        let found = || self.client.socket.local_address().map(Box::new);
        self.client.local.get_or_init(found).as_deref()
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

    fn times(&self, out: &mut Vec<u8>, ms: impl Fn(&Attempt) -> Option<u32>) -> bool {
        self.attempts(out, |attempt, out| match ms(attempt) {
            Some(ms) => drop(seconds(out, Duration::from_millis(ms.into()))),
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
        let response = self.request.response();
        if !response.written {
            return false;
        }
        let mut head = Vec::with_capacity(response.rewrite.len());
        let mut slices = crate::http::rewrite::Slices::new();
        response.rewrite.slices(&response.bytes, 0, &mut slices);
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
        &**self.request.id.get_or_init(|| {
            let mut id = [0; 32];
            let random: [u8; 16] = rand::random();
            for (pair, byte) in id.chunks_exact_mut(2).zip(random) {
                pair.copy_from_slice(&[
                    b"0123456789abcdef"[usize::from(byte >> 4)],
                    b"0123456789abcdef"[usize::from(byte & 15)],
                ]);
            }
            Box::new(id)
        })
    }
}

impl Lookup for View<'_> {
    fn append(&self, variable: &Variable, out: &mut Vec<u8>) -> bool {
        let Self { client, request } = self;
        let head = &request.head;
        match variable {
            Variable::Http(name) => self.field(out, name, request.http_field(name)),
            Variable::SentHttp(name) => self.sent_field(out, name),
            Variable::UpstreamHttp(name) => self.field(out, name, request.upstream_field(name)),
            // The front's own answer took the place of the head that the fields are of.
            Variable::UpstreamCookie(_) if request.response().bytes.is_empty() => false,
            Variable::UpstreamCookie(name) => {
                let Response { bytes, head, .. } = request.response();
                let found = head.fields.iter().find_map(|field| {
                    let set = field.name.of(bytes).eq_ignore_ascii_case(b"set-cookie");
                    set.then(|| set_cookie(field.value.of(bytes), name))
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
            Variable::Capture(n) => {
                let captured = usize::from(*n)
                    .checked_sub(1)
                    .and_then(|i| request.captures.get(i));
                put(out, captured.map(Vec::as_slice))
            }
            // As nginx: what no `set` has reached yet is empty.
            Variable::User(i) => {
                let value = request.user.get(*i).and_then(Option::as_deref);
                put(out, Some(value.unwrap_or_default()))
            }
            Variable::Map(i) => {
                self.client.settings.config().http.maps[*i].append(self, out);
                true
            }
            Variable::Host => {
                if request.host.is_empty() {
                    return show(
                        out,
                        &self.client.settings.config().http.servers[request.server].name,
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
                .is_some_and(|group| number(out, group.port)),
            Variable::ProxyAddXForwardedFor => {
                for value in head.values(&request.bytes, "x-forwarded-for") {
                    out.extend_from_slice(value);
                    out.extend_from_slice(b", ");
                }
                address(out, &request.client)
            }
            Variable::RemoteAddr => address(out, &request.client),
            Variable::RemotePort => client_port(out, request.client),
            Variable::RemoteUser => false,
            Variable::BinaryRemoteAddr => {
                match request.client.ip().map(|ip| ip.to_canonical()) {
                    Some(std::net::IpAddr::V4(ip)) => out.extend_from_slice(&ip.octets()),
                    Some(std::net::IpAddr::V6(ip)) => out.extend_from_slice(&ip.octets()),
                    None => out.extend_from_slice(b"unix:"),
                }
                true
            }
            Variable::RealipRemoteAddr => address(out, &self.client.address),
            Variable::RealipRemotePort => client_port(out, client.address),
            Variable::ProxyProtocolAddr => client
                .proxied
                .as_ref()
                .is_some_and(|from| ip(out, from.source.ip())),
            Variable::ProxyProtocolPort => client
                .proxied
                .as_ref()
                .is_some_and(|from| port(out, from.source)),
            Variable::ProxyProtocolServerAddr => client
                .proxied
                .as_ref()
                .is_some_and(|to| ip(out, to.destination.ip())),
            Variable::ProxyProtocolServerPort => client
                .proxied
                .as_ref()
                .is_some_and(|to| port(out, to.destination)),
            Variable::ProxyProtocolTlv(tlv) => client
                .proxied
                .as_ref()
                .is_some_and(|proxied| tlv.append(&proxied.tlvs, out)),
            Variable::Scheme => put(out, Some(client.scheme())),
            Variable::Tls(variable) => client
                .socket
                .agreed(|agreed| tls_variables::of_session(*variable, agreed, out))
                .unwrap_or_default(),
            Variable::ClientCertificate(variable) => client
                .socket
                .agreed(|agreed| {
                    let presented = client.presented.as_deref();
                    tls_variables::of_certificate(*variable, agreed, presented, out)
                })
                .unwrap_or_default(),
            Variable::Https => client.socket.is_tls() && put(out, Some(b"on")),
            Variable::ServerName => show(
                out,
                &self.client.settings.config().http.servers[request.server].name,
            ),
            Variable::ServerAddr => match self.local() {
                Some(local) => ip(out, local.ip()),
                None => put(out, Some(b"unix:")),
            },
            Variable::ServerPort => self.local().is_some_and(|local| number(out, local.port())),
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
            Variable::IsArgs => {
                let has_any = head.query.is_some_and(|query| !query.is_empty());
                put(out, Some(if has_any { b"?" } else { b"" }))
            }
            Variable::RequestId => put(out, Some(self.request_id())),
            Variable::RequestLength => number(
                out,
                request.bytes.len() as u64 + request.body_received.get(),
            ),
            Variable::RequestTime => seconds(out, request.started.elapsed()),
            Variable::RequestCompletion => {
                let is_whole = request.status != 0 && !request.cut;
                put(out, Some(if is_whole { b"OK" } else { b"" }))
            }
            Variable::Status => {
                if request.status == 0 {
                    return put(out, Some(b"000"));
                }
                number(out, request.status)
            }
            Variable::BytesSent => number(out, request.sent.get()),
            Variable::BodyBytesSent => number(out, request.body_sent.get()),
            Variable::Connection => number(out, client.number),
            Variable::ConnectionRequests => number(out, client.requests),
            Variable::ConnectionTime => seconds(out, client.accepted.elapsed()),
            Variable::ContentLength => put(out, request.http_field("content-length")),
            Variable::ContentType => put(out, request.http_field("content-type")),
            Variable::Msec => seconds(
                out,
                SystemTime::now()
                    .duration_since(SystemTime::UNIX_EPOCH)
                    .unwrap_or_default(),
            ),
            Variable::TimeLocal => with_now(|stamps| put(out, Some(stamps.local().as_bytes()))),
            Variable::TimeIso8601 => with_now(|stamps| put(out, Some(stamps.iso8601().as_bytes()))),
            Variable::Pid => number(out, std::process::id()),
            Variable::Pipe => put(out, Some(if request.pipelined { b"p" } else { b"." })),
            Variable::Hostname => show(out, self.client.worker.hostname()),
            Variable::NginxVersion => show(out, crate::cli::NGINX_VERSION),
            Variable::UpstreamAddr => self.attempts(out, |attempt, out| {
                out.extend_from_slice(attempt.server.as_bytes())
            }),
            Variable::UpstreamStatus => self.attempts(out, |attempt, out| match attempt.status {
                0 => out.push(b'-'),
                status => drop(number(out, status)),
            }),
            Variable::UpstreamResponseTime => self.times(out, |attempt| attempt.response_ms),
            Variable::UpstreamConnectTime => self.times(out, |attempt| attempt.connected_ms),
            Variable::UpstreamHeaderTime => self.times(out, |attempt| attempt.header_ms),
            Variable::UpstreamBytesSent => self.attempts(out, |attempt, out| {
                number(out, attempt.sent);
            }),
            Variable::UpstreamBytesReceived => self.attempts(out, |attempt, out| {
                number(out, attempt.received);
            }),
            Variable::UpstreamResponseLength => self.attempts(out, |attempt, out| {
                number(out, attempt.body_received);
            }),
            Variable::PinId => request.pin.is_some_and(|pin| number(out, pin.id)),
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
            Variable::PinRequests => request.pin.is_some_and(|pin| number(out, pin.requests)),
            Variable::LimitReqStatus => request
                .limited
                .as_ref()
                .and_then(|standing| standing.requests())
                .is_some_and(|word| show(out, word)),
            Variable::LimitConnStatus => request
                .limited
                .as_ref()
                .and_then(|standing| standing.connections())
                .is_some_and(|word| show(out, word)),
            Variable::AuthScheme => request
                .credentials
                .is_some_and(|credentials| show(out, credentials.scheme.word())),
        }
    }
}
