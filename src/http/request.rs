//! Request heads: fields found by httparse, everything judged here.

use memchr::{memchr, memrchr};

use super::fields::{self, Connection, Lengths};
use super::head::{Fate, Field, Framing, HeadLimits, Name, PLAIN, Span, Version, is_token_byte};
use super::host;
use super::refusal::Refusal;

/// Methods that change how a message is handled; every other one passes as it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Method {
    #[default]
    Other,
    Get,
    Head,
    Options,
}

/// A request head as spans over the buffer it was parsed from. Reused from request to request: `parse` clears it.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    /// Length of the head in bytes, final CRLF included; `buffer[..len]` is the head.
    pub len: u32,
    /// The request line as it came without its CRLF, for `$request`.
    pub line: Span,
    /// The method as it came.
    pub method: Span,
    /// What the method means here.
    pub method_kind: Method,
    /// Path and query as they came, for `$request_uri`; `*` in `OPTIONS *`. An absolute target is without its scheme and
    /// authority here, so that it may be empty or begin with `?`, which a `/` belongs before.
    pub target: Span,
    /// Path part of the target, never empty: for an absolute target without a path it is a `/` of the `://`.
    pub path: Span,
    /// Query without its `?`, if there is a `?`.
    pub query: Option<Span>,
    /// The version of the request line.
    pub version: Version,
    /// The effective host: the authority of an absolute target, else the `Host` field's value; empty in 1.0 without one.
    /// Includes the port.
    pub host: Span,
    /// Where the body ends.
    pub framing: Framing,
    /// Whether the client keeps its connection open after the answer (1.1 without `close`; 1.0 with `keep-alive`).
    pub keep_alive: bool,
    /// `Expect: 100-continue` in a 1.1 request.
    pub expect_continue: bool,
    /// The `Upgrade` field's value if `Connection` names `upgrade` and the request is a GET without body in 1.1, not `h2c`.
    pub upgrade: Option<Span>,
    /// The value of the one `Authorization` field.
    pub authorization: Option<Span>,
    /// A `Proxy-Authorization` field is there.
    pub proxy_authorization: bool,
    /// Every field line in its order, those that are never passed on included (hop-by-hop, underscored names).
    pub fields: Vec<Field>,
}

impl RequestHead {
    /// Forgets the buffer it was parsed from, and keeps the allocations: its spans are good for no other.
    pub fn clear(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = Self {
            fields,
            ..Self::default()
        };
    }

    /// Parses `buffer[..]`, which is exactly one head as [`super::scan::HeadScanner`] found it, into `self`.
    ///
    /// # Errors
    /// The rule that the head breaks. `self` is then of no use.
    pub fn parse(&mut self, buffer: &[u8], limits: &HeadLimits) -> Result<(), Refusal> {
        self.clear();
        self.len = u32::try_from(buffer.len()).map_err(|_| Refusal::HeadTooLarge)?;
        let lf = memchr(b'\n', buffer).ok_or(Refusal::Malformed)?;
        let line = buffer[..lf].strip_suffix(b"\r").ok_or(Refusal::BareLf)?;
        let absolute = self.parse_line(line)?;
        fields::of_request(buffer, lf + 1, limits, &mut self.fields)?;
        self.judge_fields(buffer, limits, absolute)
    }

    /// The value of the first field called `name` (lower case with `-` for `_`), for `$http_NAME`. A `_` in a field's name
    /// counts as `-`, as nginx maps both to the variable's `_`.
    pub fn field(&self, buffer: &[u8], name: &str) -> Option<Span> {
        fields::find(buffer, &self.fields, name)
    }

    /// Whether there is a field called `name`.
    pub fn has(&self, name: Name) -> bool {
        self.fields.iter().any(|field| field.known == name)
    }

    /// The values of all fields called exactly `name`, without regard to case: one with a `_` resembles none (rule 10).
    pub fn values<'a>(
        &'a self,
        buffer: &'a [u8],
        name: &'a str,
    ) -> impl DoubleEndedIterator<Item = &'a [u8]> {
        let is_it = move |field: &&Field| {
            field.fate != Fate::Ignored
                && field.name.of(buffer).eq_ignore_ascii_case(name.as_bytes())
        };
        let fields = self.fields.iter().filter(is_it);
        fields.map(|field| field.value.of(buffer))
    }

    /// The value of the cookie called `name`, for `$cookie_NAME`.
    pub fn cookie<'a>(&self, buffer: &'a [u8], name: &str) -> Option<&'a [u8]> {
        self.fields
            .iter()
            .filter(|field| field.known == Name::Cookie)
            .find_map(|field| fields::cookie(field.value.of(buffer), name))
    }

    /// Parses the request line, which begins at offset 0. Returns the authority of an absolute target.
    fn parse_line(&mut self, line: &[u8]) -> Result<Option<Authority>, Refusal> {
        self.line = Span::new(0, line.len());
        let target_end = line.len().saturating_sub(b" HTTP/1.1".len());
        self.version = match &line[target_end..] {
            b" HTTP/1.1" => Version::Http11,
            b" HTTP/1.0" => Version::Http10,
            _ => return Err(version_refusal(line)),
        };
        let method_end = memchr(b' ', line).unwrap_or(0);
        let method = &line[..method_end];
        if method.is_empty() {
            return Err(Refusal::Blanks);
        }
        if !method.iter().copied().all(is_token_byte) {
            return Err(Refusal::Malformed);
        }
        self.method = Span::new(0, method_end);
        self.method_kind = match method {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"OPTIONS" => Method::Options,
            // a server may take a method in any case for this one
            _ if method.eq_ignore_ascii_case(b"CONNECT") => return Err(Refusal::Connect),
            _ => Method::Other,
        };
        if method_end + 1 >= target_end {
            return Err(Refusal::Malformed);
        }
        let start = method_end + 1;
        check_target_bytes(&line[start..target_end])?;
        self.parse_target(line, start, target_end)
    }

    /// Takes the target `line[start..end]` apart (rules 12 and 13).
    fn parse_target(
        &mut self,
        line: &[u8],
        start: usize,
        end: usize,
    ) -> Result<Option<Authority>, Refusal> {
        let target = &line[start..end];
        let mut absolute = None;
        let mut path_start = start;
        if target.first() != Some(&b'/') {
            if target == b"*" && self.method_kind == Method::Options {
                self.target = Span::new(start, end);
                self.path = self.target;
                return Ok(None);
            }
            let authority = Authority::parse(line, start, end)?;
            path_start = authority.span.end as usize;
            absolute = Some(authority);
        }
        let query_mark = memchr(b'?', &line[path_start..end]).map(|at| path_start + at);
        let path_end = query_mark.unwrap_or(end);
        self.target = Span::new(path_start, end);
        self.query = query_mark.map(|mark| Span::new(mark + 1, end));
        self.path = Span::new(path_start, path_end);
        if let (true, Some(authority)) = (self.path.is_empty(), &absolute) {
            let slash = authority.span.start as usize - 1;
            self.path = Span::new(slash, slash + 1);
        }
        if memchr(b'\\', self.path.of(line)).is_some() {
            return Err(Refusal::TargetBackslash);
        }
        Ok(absolute)
    }

    /// Judges the fields together (rules 1 to 6, 10 to 12, 15, 18, 19, 28 and 29).
    fn judge_fields(
        &mut self,
        buffer: &[u8],
        limits: &HeadLimits,
        absolute: Option<Authority>,
    ) -> Result<(), Refusal> {
        let mut lengths = Lengths::default();
        let mut connection = Connection::default();
        let mut host = None;
        let mut upgrade = Upgrade::default();
        for field in &mut self.fields {
            let value = field.value.of(buffer);
            match field.known {
                Name::Other => {
                    if is_ignored(field.name.of(buffer), limits.underscores) {
                        field.fate = Fate::Ignored;
                    }
                    continue;
                }
                Name::Authorization if self.authorization.is_some() => {
                    return Err(Refusal::AuthorizationRepeated);
                }
                Name::Authorization => self.authorization = Some(field.value),
                Name::Connection => connection.read(value)?,
                Name::ContentLength => lengths.content_length(value)?,
                Name::Expect => {
                    if self.expect_continue || !value.eq_ignore_ascii_case(b"100-continue") {
                        return Err(Refusal::Expectation);
                    }
                    // a client of 1.0 understands no 100, so that none may be asked for
                    if self.version == Version::Http11 {
                        self.expect_continue = true;
                    } else {
                        field.fate = Fate::Stays;
                    }
                }
                Name::Host if host.is_some() => return Err(Refusal::HostRepeated),
                Name::Host => {
                    host = Some(field.value);
                    field.fate = Fate::Stays;
                }
                Name::ProxyAuthorization => self.proxy_authorization = true,
                Name::TransferEncoding => lengths.transfer_encoding(value)?,
                Name::Upgrade => upgrade.read(field.value, value),
                _ => {}
            }
            if fields::is_hop_by_hop(field.known) {
                field.fate = Fate::Stays;
            }
        }
        connection.keep_back(buffer, &mut self.fields);
        self.host = effective_host(buffer, self.version, host, absolute)?;
        self.framing = lengths.framing(self.version)?.unwrap_or(Framing::None);
        self.keep_alive = connection.keeps_open(self.version);
        let may_upgrade = connection.upgrade
            && self.version == Version::Http11
            && self.method_kind == Method::Get
            && matches!(self.framing, Framing::None | Framing::Length(0));
        self.upgrade = upgrade.permitted().filter(|_| may_upgrade);
        Ok(())
    }
}

/// Why a line that does not end in a known version is refused (rules 7 and 14).
#[cold]
pub(super) fn version_refusal(line: &[u8]) -> Refusal {
    let last = match memrchr(b' ', line) {
        Some(blank) => &line[blank + 1..],
        None => return Refusal::Malformed,
    };
    match last {
        b"" => Refusal::Blanks,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Refusal::VersionUnknown
        }
        _ if last
            .get(..4)
            .is_some_and(|start| start.eq_ignore_ascii_case(b"http"))
            && !last.contains(&b':') =>
        {
            Refusal::VersionMalformed
        }
        _ if line.split(|&byte| byte == b' ').count() == 2 => Refusal::Http09,
        _ => Refusal::Malformed,
    }
}

/// Rules 4, 13 and 14 for the bytes of a target.
fn check_target_bytes(target: &[u8]) -> Result<(), Refusal> {
    // without a way out of the loop, so that it takes many bytes at a time
    let is_bad = |byte: u8| byte <= b' ' || byte == b'#' || byte == 0x7f;
    if !target.iter().fold(false, |bad, &byte| bad | is_bad(byte)) {
        return Ok(());
    }
    Err(match target.iter().find(|&&byte| is_bad(byte)) {
        Some(b'#') => Refusal::TargetFragment,
        Some(b' ') => Refusal::Blanks,
        _ => Refusal::ControlByte,
    })
}

/// The authority of a target in absolute form.
struct Authority {
    span: Span,
    default_port: u32,
}

impl Authority {
    /// Finds the authority of `line[start..end]` (rule 12).
    fn parse(line: &[u8], start: usize, end: usize) -> Result<Self, Refusal> {
        let target = &line[start..end];
        let scheme = |name: &[u8], default_port: u32| {
            let is_it = target
                .get(..name.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(name));
            is_it.then_some((start + name.len(), default_port))
        };
        let (from, default_port) = scheme(b"http://", 80)
            .or_else(|| scheme(b"https://", 443))
            .ok_or(Refusal::TargetForm)?;
        let length = line[from..end]
            .iter()
            .position(|byte| matches!(byte, b'/' | b'?'))
            .unwrap_or(end - from);
        let span = Span::new(from, from + length);
        if host::is_valid(span.of(line)) {
            Ok(Self { span, default_port })
        } else {
            Err(Refusal::HostInvalid)
        }
    }
}

/// Rules 11 and 12.
fn effective_host(
    buffer: &[u8],
    version: Version,
    field: Option<Span>,
    absolute: Option<Authority>,
) -> Result<Span, Refusal> {
    let field = match field {
        None if version == Version::Http11 => return Err(Refusal::HostMissing),
        // what an old client without a name for the server sends says as much as no Host
        Some(host) if host.is_empty() && version == Version::Http10 => None,
        Some(host) if !host::is_valid(host.of(buffer)) => return Err(Refusal::HostInvalid),
        field => field,
    };
    match (absolute, field) {
        (Some(authority), Some(host)) => {
            let is_same = host::is_same(
                authority.span.of(buffer),
                host.of(buffer),
                authority.default_port,
            );
            if is_same {
                Ok(authority.span)
            } else {
                Err(Refusal::HostDiffers)
            }
        }
        (Some(authority), None) => Ok(authority.span),
        (None, field) => Ok(field.unwrap_or_default()),
    }
}

/// Whether nginx ignores a field of this name (`ignore_invalid_headers on`): anything but letters, digits and `-`, and
/// `_` unless they pass. One that resembles a field the front knows never passes (rule 10).
fn is_ignored(name: &[u8], underscores: bool) -> bool {
    let is_plain = |byte: &u8| PLAIN[usize::from(*byte)];
    if name.iter().all(is_plain) {
        return false;
    }
    if !underscores || !name.iter().all(|byte| is_plain(byte) || *byte == b'_') {
        return true;
    }
    let resembled: Vec<u8> = name
        .iter()
        .map(|&byte| if byte == b'_' { b'-' } else { byte })
        .collect();
    Name::of(&resembled) != Name::Other
}

/// The `Upgrade` fields of a head.
#[derive(Default)]
struct Upgrade {
    value: Option<Span>,
    is_refused: bool,
}

impl Upgrade {
    fn read(&mut self, span: Span, value: &[u8]) {
        let is_h2c = |protocol: &[u8]| {
            protocol
                .get(..3)
                .is_some_and(|start| start.eq_ignore_ascii_case(b"h2c"))
        };
        self.is_refused |=
            self.value.is_some() || value.is_empty() || fields::members(value).any(is_h2c);
        self.value = Some(span);
    }

    /// The value of the only field, if it names no protocol that is never passed on (rule 29).
    fn permitted(&self) -> Option<Span> {
        self.value.filter(|_| !self.is_refused)
    }
}

/// The request line that bytes begin with, for logs; empty if they begin with none, because anything may stand there then,
/// a piece of a token too. Looks at no more than the first 64 KiB.
pub fn shown_line(bytes: &[u8]) -> &[u8] {
    let bytes = &bytes[..bytes.len().min(64 << 10)];
    let end = memchr::memchr2(b'\r', b'\n', bytes).unwrap_or(bytes.len());
    if is_usual_line(&bytes[..end]) {
        return &bytes[..end];
    }
    let mut words = bytes[..end].split(|&b| b == b' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let is_method = method.is_some_and(|word| {
        !word.is_empty()
            && word
                .iter()
                .all(|b| b.is_ascii_alphabetic() || b"-_".contains(b))
    });
    let is_target = target.is_some_and(|word| {
        // The target of CONNECT is a host and a port, which a token has nothing of.
        word == b"*"
            || method == Some(b"CONNECT") && word.contains(&b':') && !word.contains(&b'@')
            || [&b"/"[..], b"http://", b"https://"]
                .iter()
                .any(|&start| word.starts_with(start))
                && !has_user_information(word)
    });
    let is_version = version.is_some_and(|word| word.starts_with(b"HTTP/") && word.len() <= 10);
    if is_method && is_target && is_version && words.next().is_none() {
        &bytes[..end]
    } else {
        &[]
    }
}

/// What nearly all requests are; the rest of [`shown_line`] would say the same, and take longer.
fn is_usual_line(line: &[u8]) -> bool {
    let Some(rest) = line.strip_suffix(b" HTTP/1.1") else {
        return false;
    };
    let rest = rest.strip_prefix(b"GET ").or(rest.strip_prefix(b"POST "));
    rest.is_some_and(|target| target.starts_with(b"/") && memchr(b' ', target).is_none())
}

/// Whether the authority of an absolute target names a user, and perhaps a password.
fn has_user_information(target: &[u8]) -> bool {
    let Some(at) = memchr::memmem::find(target, b"://") else {
        return false;
    };
    let authority = target[at + 3..].split(|b| matches!(b, b'/' | b'?')).next();
    target.first() != Some(&b'/') && authority.is_some_and(|authority| authority.contains(&b'@'))
}

#[cfg(test)]
mod tests;
