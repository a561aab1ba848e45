//! HTTP/1.1 as the front lets it through, read whole and in the plainest way. Written from the rules, not from the product:
//! lines are split, lists are collected, nothing is resumed. Where it differs from the product, one of them is wrong.

use std::net::Ipv6Addr;
use std::sync::LazyLock;

use regex::bytes::Regex;

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

/// A field: name and value as they came, without blanks around.
pub type Field = (Vec<u8>, Vec<u8>);

/// Sizes that a head may have.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Of a line with its CRLF.
    pub line: usize,
    /// Of all lines.
    pub total: usize,
    /// Number of fields.
    pub fields: usize,
}

/// What may pass for a request.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: Vec<u8>,
    /// Path and query, without scheme and authority.
    pub target: Vec<u8>,
    pub is_http_10: bool,
    /// The effective host, with its port.
    pub host: Vec<u8>,
    pub body: Body,
    pub keeps_open: bool,
    pub expects_continue: bool,
    pub upgrade: Option<Vec<u8>>,
    pub authorization: Option<Vec<u8>>,
    /// All fields.
    pub fields: Vec<Field>,
    /// Those that go on to the server as they came.
    pub passing: Vec<Field>,
}

/// What may pass for a response.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    /// What stands behind the version.
    pub status_and_reason: Vec<u8>,
    pub is_http_10: bool,
    pub body: Body,
    pub keeps_open: bool,
    pub fields: Vec<Field>,
    pub passing: Vec<Field>,
}

/// Finds the first head: where it begins and where it ends, if it does.
pub fn head_end(bytes: &[u8]) -> Option<(usize, usize)> {
    let start = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
    let end = bytes[start..]
        .windows(4)
        .position(|four| four == b"\r\n\r\n")?;
    Some((start, start + end + 4))
}

/// Reads a request's head, which ends with its empty line. `None`: a rule is broken.
pub fn request(head: &[u8], sizes: Sizes, underscores: bool) -> Option<Request> {
    let (first, fields) = lines(head, sizes)?;
    let mut words = first.split(|&b| b == b' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    let is_http_10 = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        _ => return None,
    };
    if words.next().is_some() || !is_token(method) || lower(method) == b"connect" {
        return None;
    }
    if target.is_empty() || target.iter().any(|&b| b < 0x21 || b == 0x7f || b == b'#') {
        return None;
    }
    let (authority, target) = split_target(method, target)?;
    let path = target.split(|&b| b == b'?').next()?;
    if path.contains(&b'\\') {
        return None;
    }
    let hosts = values(&fields, "host");
    let host = match (&hosts[..], &authority) {
        ([], None) if is_http_10 => Vec::new(),
        ([], Some((authority, _))) if is_http_10 => authority.clone(),
        ([empty], None) if is_http_10 && empty.is_empty() => Vec::new(),
        ([empty], Some((authority, _))) if is_http_10 && empty.is_empty() => authority.clone(),
        ([host], None) if is_host(host) => host.clone(),
        ([host], Some((authority, port))) if is_host(host) => {
            if with_port(host, port) != with_port(authority, port) {
                return None;
            }
            authority.clone()
        }
        _ => return None,
    };
    let body = length_of(&fields, is_http_10)?.unwrap_or(Body::None);
    let authorizations = values(&fields, "authorization");
    let expectations = values(&fields, "expect");
    // In 1.0 an expectation means nothing, but it has to be one that is known.
    let repeated = expectations.len() > 1 && !is_http_10;
    if authorizations.len() > 1 || repeated {
        return None;
    }
    if expectations
        .iter()
        .any(|value| lower(value) != b"100-continue")
    {
        return None;
    }
    let options = connection_options(&fields)?;
    let upgrades = values(&fields, "upgrade");
    let upgrade = match &upgrades[..] {
        [one] if !one.is_empty() => {
            let h2c = members(one)
                .iter()
                .any(|protocol| protocol.starts_with(b"h2c"));
            let asked = options.contains(&b"upgrade".to_vec());
            let bodiless = matches!(body, Body::None | Body::Length(0));
            let may = asked && !h2c && !is_http_10 && method == b"GET" && bodiless;
            may.then(|| one.clone())
        }
        _ => None,
    };
    let passing = fields.iter().filter(|(name, _)| {
        let name = lower(name);
        let is_plain = |b: &u8| b.is_ascii_alphanumeric() || *b == b'-';
        let resembles = || {
            let dashed: Vec<u8> = name
                .iter()
                .map(|&b| if b == b'_' { b'-' } else { b })
                .collect();
            KNOWN.contains(&&dashed[..])
        };
        let ignored = if name.iter().all(is_plain) {
            false
        } else {
            !underscores || !name.iter().all(|b| is_plain(b) || *b == b'_') || resembles()
        };
        let in_vain = is_http_10 && name == b"expect";
        !ignored && !in_vain && name != b"host" && passes(&name, &options)
    });
    Some(Request {
        method: method.to_vec(),
        target: target.to_vec(),
        is_http_10,
        host,
        body,
        keeps_open: keeps_open(&options, is_http_10),
        expects_continue: !expectations.is_empty() && !is_http_10,
        upgrade,
        authorization: authorizations.first().cloned(),
        passing: passing.cloned().collect(),
        fields,
    })
}

/// Reads a response's head, which ends with its empty line. `None`: a rule is broken.
pub fn response(head: &[u8], sizes: Sizes, to_head: bool, upgrade_asked: bool) -> Option<Response> {
    let (first, fields) = lines(head, sizes)?;
    let is_http_10 = match first.get(..9)? {
        b"HTTP/1.1 " => false,
        b"HTTP/1.0 " => true,
        _ => return None,
    };
    let rest = &first[9..];
    let digits = rest.get(..3)?;
    if !digits.iter().all(u8::is_ascii_digit) || !matches!(rest.get(3), None | Some(b' ')) {
        return None;
    }
    let status: u16 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    if !(100..600).contains(&status) || !rest.iter().all(|&b| is_value_byte(b)) {
        return None;
    }
    if status == 101 && (!upgrade_asked || values(&fields, "upgrade").len() != 1) {
        return None;
    }
    let options = connection_options(&fields)?;
    let said = length_of(&fields, is_http_10)?.unwrap_or(Body::UntilClose);
    let bodiless = to_head || status < 200 || status == 204 || status == 304;
    let body = if bodiless { Body::None } else { said };
    // Where none may be announced: perhaps it follows all the same.
    let doubtful =
        (status < 200 || status == 204) && matches!(said, Body::Chunked | Body::Length(1..));
    let passing = fields.iter().filter(|(name, _)| {
        let name = lower(name);
        let misleads = name == b"content-length" && (status < 200 || status == 204);
        !misleads && passes(&name, &options)
    });
    Some(Response {
        status,
        status_and_reason: rest.to_vec(),
        is_http_10,
        body,
        keeps_open: keeps_open(&options, is_http_10) && body != Body::UntilClose && !doubtful,
        passing: passing.cloned().collect(),
        fields,
    })
}

/// The first line and the fields of a head whose shape and sizes are sound.
fn lines(head: &[u8], sizes: Sizes) -> Option<(&[u8], Vec<Field>)> {
    let text = head.strip_suffix(b"\r\n\r\n")?;
    if head.len() > sizes.total {
        return None;
    }
    let mut rest = text;
    let mut lines = Vec::new();
    while let Some(at) = rest.windows(2).position(|two| two == b"\r\n") {
        lines.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    lines.push(rest);
    let is_sound = |line: &&[u8]| {
        line.len() + 2 <= sizes.line
            && !line.is_empty()
            && !line.contains(&b'\r')
            && !line.contains(&b'\n')
    };
    if !lines.iter().all(is_sound) || lines.len() - 1 > sizes.fields {
        return None;
    }
    let fields: Option<Vec<Field>> = lines[1..].iter().map(|line| field(line)).collect();
    Some((lines[0], fields?))
}

/// A field line without its CRLF.
fn field(line: &[u8]) -> Option<Field> {
    let colon = line.iter().position(|&b| b == b':')?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let sound = is_token(name) && value.iter().all(|&b| is_value_byte(b));
    sound.then(|| (name.to_vec(), trim(value).to_vec()))
}

/// The authority of an absolute target with its scheme's port, and what is behind it.
#[allow(clippy::type_complexity)]
fn split_target<'a>(
    method: &[u8],
    target: &'a [u8],
) -> Option<(Option<(Vec<u8>, &'static str)>, &'a [u8])> {
    if target[0] == b'/' || (target == b"*" && method == b"OPTIONS") {
        return Some((None, target));
    }
    let lowered = lower(target);
    let (scheme, port) = match lowered {
        _ if lowered.starts_with(b"http://") => (7, "80"),
        _ if lowered.starts_with(b"https://") => (8, "443"),
        _ => return None,
    };
    let rest = &target[scheme..];
    let end = rest
        .iter()
        .position(|b| b"/?".contains(b))
        .unwrap_or(rest.len());
    let (authority, behind) = rest.split_at(end);
    is_host(authority).then(|| (Some((authority.to_vec(), port)), behind))
}

static HOST: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?-u)^(?:\[([0-9A-Fa-f:.]+)\]|[A-Za-z0-9_~-]+(?:\.[A-Za-z0-9_~-]+)*\.?)(?::([0-9]{1,5}))?$").expect("a regex")
});

/// Whether a value is a host, with a port or without.
fn is_host(value: &[u8]) -> bool {
    let Some(found) = HOST.captures(value) else {
        return false;
    };
    // `$` of a regex without the flag `m` matches at the end of the text alone
    let text = |group| {
        found
            .get(group)
            .map(|group| String::from_utf8_lossy(group.as_bytes()).into_owned())
    };
    let address = text(1).is_none_or(|address| address.parse::<Ipv6Addr>().is_ok());
    let port = text(2).is_none_or(|port| port.parse::<u32>().is_ok_and(|port| port < 65536));
    address && port
}

/// A host in lower case, and its port as a number.
fn with_port(host: &[u8], default: &str) -> (Vec<u8>, u32) {
    let host = lower(host);
    let colon = host.iter().rposition(|&b| b == b':');
    // a colon inside of brackets separates no port
    let colon = colon.filter(|&colon| !host[colon..].contains(&b']'));
    let (name, port) = match colon {
        Some(colon) => (
            &host[..colon],
            String::from_utf8_lossy(&host[colon + 1..]).into_owned(),
        ),
        None => (&host[..], default.to_owned()),
    };
    (name.to_vec(), port.parse().unwrap_or(u32::MAX))
}

/// Where the fields say that the body ends; an inner `None` where they say nothing.
fn length_of(fields: &[Field], is_http_10: bool) -> Option<Option<Body>> {
    let lengths = values(fields, "content-length");
    let codings = values(fields, "transfer-encoding");
    match (&lengths[..], &codings[..]) {
        ([], []) => Some(None),
        ([length], []) => {
            let text = std::str::from_utf8(length).ok()?;
            let number: i64 = text.parse().ok()?;
            (number >= 0 && number.to_string() == text).then_some(Some(Body::Length(number as u64)))
        }
        ([], [coding]) => {
            (lower(coding) == b"chunked" && !is_http_10).then_some(Some(Body::Chunked))
        }
        _ => None,
    }
}

/// What all `Connection` fields name, in lower case. `None`: too much.
fn connection_options(fields: &[Field]) -> Option<Vec<Vec<u8>>> {
    let all: Vec<Vec<u8>> = values(fields, "connection")
        .iter()
        .flat_map(|value| members(value))
        .collect();
    let is_usual =
        |option: &&Vec<u8>| [&b"close"[..], b"keep-alive", b"upgrade"].contains(&&option[..]);
    (all.iter().filter(|option| !is_usual(option)).count() <= 32).then_some(all)
}

fn keeps_open(options: &[Vec<u8>], is_http_10: bool) -> bool {
    let says = |word: &[u8]| options.iter().any(|option| option == word);
    !says(b"close") && (!is_http_10 || says(b"keep-alive"))
}

/// The fields that are for one connection only.
pub const HOP_BY_HOP: [&[u8]; 8] = [
    b"connection",
    b"http2-settings",
    b"keep-alive",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
];

/// The other fields that the front knows.
const KNOWN: [&[u8]; 21] = [
    b"authorization",
    b"connection",
    b"content-length",
    b"cookie",
    b"date",
    b"expect",
    b"host",
    b"http2-settings",
    b"keep-alive",
    b"location",
    b"persistent-auth",
    b"proxy-authorization",
    b"proxy-connection",
    b"refresh",
    b"server",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
    b"via",
    b"www-authenticate",
];

/// Whether a field goes on, whatever `Connection` names.
fn passes(name: &[u8], options: &[Vec<u8>]) -> bool {
    const END_TO_END: [&[u8]; 11] = [
        b"accept",
        b"cache-control",
        b"forwarded",
        b"if-match",
        b"if-none-match",
        b"origin",
        b"pragma",
        b"range",
        b"referer",
        b"set-cookie",
        b"x-real-ip",
    ];
    let prefixed = [&b"content-"[..], b"sec-", b"x-forwarded-"]
        .iter()
        .any(|prefix| name.starts_with(prefix));
    let end_to_end = KNOWN.contains(&name) || END_TO_END.contains(&name) || prefixed;
    let named = options.iter().any(|option| option == name);
    !HOP_BY_HOP.contains(&name) && (end_to_end || !named)
}

/// What a chunked body is found to be when all bytes that came are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunked {
    /// It is over, and took that many bytes.
    Whole { data: Vec<u8>, end: usize },
    /// A rule is broken behind this data.
    Broken { data: Vec<u8> },
    /// More has to come; the line that is not over begins at `line`, if there is one.
    Unfinished { data: Vec<u8>, line: Option<usize> },
}

static CHUNK_LINE: LazyLock<Regex> = LazyLock::new(|| {
    let token = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+";
    let quoted = r#""(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*""#;
    let extension = format!(r"[ \t]*{token}(?:[ \t]*=[ \t]*(?:{token}|{quoted}))?");
    let text = format!(r"(?s-u)^([0-9A-Fa-f]{{1,16}})((?:;{extension}(?:[ \t]*;{extension})*)?)$");
    Regex::new(&text).expect("a regex")
});

/// Reads a chunked body.
pub fn chunked(bytes: &[u8]) -> Chunked {
    let mut data = Vec::new();
    let (mut at, mut extension_bytes, mut trailer_bytes) = (0, 0, 0);
    loop {
        let Some(line) = line(&bytes[at..]) else {
            return Chunked::Unfinished {
                data,
                line: Some(at),
            };
        };
        let Some(found) = CHUNK_LINE.captures(line) else {
            return Chunked::Broken { data };
        };
        extension_bytes += found[2].len();
        let size = String::from_utf8_lossy(&found[1]).into_owned();
        let size = u64::from_str_radix(&size, 16).unwrap_or(u64::MAX);
        if extension_bytes > 4096 || size > i64::MAX as u64 {
            return Chunked::Broken { data };
        }
        at += line.len() + 2;
        if size == 0 {
            break;
        }
        let rest = &bytes[at..];
        let here = (rest.len() as u64).min(size) as usize;
        data.extend_from_slice(&rest[..here]);
        let behind = &rest[here..];
        match behind {
            [b'\r', b'\n', ..] => at += here + 2,
            [] | [b'\r'] => return Chunked::Unfinished { data, line: None },
            _ => return Chunked::Broken { data },
        }
    }
    loop {
        let Some(line) = line(&bytes[at..]) else {
            return Chunked::Unfinished {
                data,
                line: Some(at),
            };
        };
        at += line.len() + 2;
        trailer_bytes += line.len();
        if line.is_empty() {
            return Chunked::Whole { data, end: at };
        }
        if trailer_bytes > 8192 || line.contains(&b'\r') || field(line).is_none() {
            return Chunked::Broken { data };
        }
    }
}

/// The first line, if it is over.
fn line(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.windows(2).position(|two| two == b"\r\n")?;
    Some(&bytes[..end])
}

/// All values of a field.
pub fn values(fields: &[Field], name: &str) -> Vec<Vec<u8>> {
    let found = fields
        .iter()
        .filter(|(field, _)| lower(field) == name.as_bytes());
    found.map(|(_, value)| value.clone()).collect()
}

fn members(value: &[u8]) -> Vec<Vec<u8>> {
    let members = value
        .split(|&b| b == b',')
        .map(|member| lower(trim(member)));
    members.filter(|member| !member.is_empty()).collect()
}

fn lower(bytes: &[u8]) -> Vec<u8> {
    bytes.to_ascii_lowercase()
}

fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

fn is_token(name: &[u8]) -> bool {
    let is_token_byte = |b: &u8| b.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(b);
    !name.is_empty() && name.iter().all(is_token_byte)
}

fn is_value_byte(b: u8) -> bool {
    !b.is_ascii_control() || b == b'\t'
}
