//! Valid requests of all shapes, and what is meant by them.

use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;

use crate::message::Message;

/// What a client sends.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) bytes: Vec<u8>,
    /// Where it is sent in two pieces.
    pub(crate) cut: usize,
    pub(crate) meant: Meant,
}

/// What has to come of it.
#[derive(Clone, Debug)]
pub(crate) enum Meant {
    /// These requests, in this order.
    Requests(Vec<Message>),
    /// A refusal, without anything for the server.
    Refusal,
    /// Whatever all parsers agree on.
    Anything,
}

/// One request, in parts that a mutation can get at.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) line: Vec<u8>,
    /// Field lines without their CRLF.
    pub(crate) fields: Vec<Vec<u8>>,
    /// As it travels.
    pub(crate) body: Vec<u8>,
    pub(crate) meant: Message,
}

const METHODS: &[&str] = &[
    "GET",
    "GET",
    "GET",
    "GET",
    "GET",
    "POST",
    "POST",
    "POST",
    "POST",
    "PUT",
    "HEAD",
    "DELETE",
    "OPTIONS",
    "PATCH",
    "TRACE",
    "PROPFIND",
    "PROPPATCH",
    "REPORT",
    "MKCOL",
    "LOCK",
    "M-SEARCH",
    "SUBSCRIBE",
    "SEARCH",
    "RPC_IN_DATA",
    "RPC_OUT_DATA",
    "BPROPPATCH",
    "X-MS-ENUMATTS",
    "get",
    "Post",
    "G",
    "!#$%&'*+-.^_`|~09azAZ",
];

const HOSTS: &[&str] = &[
    "a",
    "mail.example.com",
    "MAIL.example.com.",
    "10.0.0.1",
    "[::1]",
    "a_b",
    "xn--bcher-kva.example",
];

/// Fields that change nothing about what the message is.
const FIELDS: &[&str] = &[
    "Accept: */*",
    "Accept-Encoding: gzip, deflate",
    "User-Agent: Mozilla/5.0 (a; b) c/1.0",
    "Cookie: a=1; b=\"2\"",
    "Cookie: c=3",
    "Content-Type: application/json; charset=utf-8",
    "Content-Encoding: gzip",
    "Content-Language: de",
    "Content-MD5: x",
    "Content-Range: bytes 0-4/5",
    "Content-Length-X: 7",
    "X-Content-Length: 7",
    "Authorization: Basic YWxpY2U6cHc=",
    "Authorization: Bearer abc.def",
    "Authorization: NTLM TlRMTVNTUAABAAAAB4IIAAAAAAAAAAAAAAAAAAAAAAA=",
    "Connection: keep-alive",
    "Connection:keep-alive, X-Gone",
    "X-Gone: 1",
    "Connection: Content-Length",
    "Connection: host",
    "Connection: Transfer-Encoding, Cookie",
    "Connection:",
    "Connection: ,,",
    "Keep-Alive: timeout=5",
    "Proxy-Connection: keep-alive",
    "TE: trailers",
    "TE: trailers, chunked",
    "Trailer: X-Sum",
    "Upgrade: websocket",
    "Upgrade: h2c",
    "HTTP2-Settings: AAMAAABk",
    "Via: 1.1 a",
    "X-Forwarded-For: 1.2.3.4",
    "X-Forwarded-Host: b",
    "Forwarded: for=1.2.3.4",
    "X-HTTP-Method-Override: DELETE",
    "X-Original-URL: /admin",
    "Content_Length: 7",
    "Transfer_Encoding: chunked",
    "Transfer-Encoding_: chunked",
    "under_score: 1",
    "Content.Length: 7",
    "X!#$%&'*+.^`|~: odd",
    "Range: bytes=0-3",
    "If-None-Match: \"x\"",
    "Pragma: no-cache",
    "Max-Forwards: 0",
    "X-Empty:",
    "X-Blank:   ",
    "X-Tab:\tv\tw\t",
    "X-Trail: v   ",
    "X-Obs: \u{e4}\u{f6}",
    "X-Colon: a:b:c",
    "X-Quote: \"a\\\"b",
    "x-lower: v",
    "X-UPPER: V",
    "X-List: a,,b, ,c",
    "DNT: 1",
    "Origin: null",
    "Referer: http://a/b?c",
    "SOAPAction: \"urn:x\"",
    "X-Request: GET / HTTP/1.1",
    "X-Chunk: 0",
    "Expect-CT: max-age=0",
    "Translate: f",
    "Depth: 1",
    "Overwrite: T",
];

const PATH_BYTES: &[u8] = b"abcxyzABC0129-_~!$&'()*+,;=:@";
const QUERY_BYTES: &[u8] = b"abc019-._~!$&'()*+,;=:@/?%[]{}|^`<>\"\\";

/// Requests of one client, one behind the other, all of them valid. `number` shows in their targets.
pub(crate) fn valid(rng: &mut SmallRng, number: u64) -> Sent {
    let count = if rng.random_ratio(1, 8) {
        rng.random_range(2..5)
    } else {
        1
    };
    let mut bytes = Vec::new();
    if rng.random_ratio(1, 40) {
        bytes.extend_from_slice(b"\r\n");
    }
    let mut meant = Vec::new();
    for index in 0..count {
        let request = request(rng, number, index, index + 1 == count);
        bytes.extend(request.bytes());
        meant.push(request.meant);
    }
    let cut = cut(rng, bytes.len());
    Sent {
        bytes,
        cut,
        meant: Meant::Requests(meant),
    }
}

/// Where bytes are sent in two pieces; mostly nowhere.
pub(crate) fn cut(rng: &mut SmallRng, len: usize) -> usize {
    if rng.random_ratio(1, 8) {
        rng.random_range(0..=len)
    } else {
        len
    }
}

/// One valid request. Only the last on its connection may close it.
pub(crate) fn request(rng: &mut SmallRng, number: u64, index: usize, last: bool) -> Request {
    let http10 = last && rng.random_ratio(1, 15);
    let method = *METHODS.choose(rng).expect("there are some");
    let host = host(rng);
    let (sent_target, target, absolute) = target(rng, method, &host, number, index);
    let version = if http10 { "1.0" } else { "1.1" };
    let mut line = format!("{method} ").into_bytes();
    line.extend_from_slice(&sent_target);
    line.extend_from_slice(format!(" HTTP/{version}").as_bytes());

    let mut fields = Vec::new();
    let mut names = Vec::new();
    for _ in 0..*[0, 0, 1, 2, 3, 5, 9, 20]
        .choose(rng)
        .expect("there are some")
    {
        let field = field(rng, &mut names);
        fields.extend(field);
    }
    if !http10 || absolute || rng.random_ratio(1, 2) {
        let host = if absolute && rng.random_ratio(1, 3) {
            host.to_ascii_uppercase()
        } else {
            host
        };
        let name = *["Host", "Host", "Host", "host", "HOST"]
            .choose(rng)
            .expect("there are some");
        let line = format!("{name}:{}{host}{}", blanks(rng, " "), blanks(rng, ""));
        insert(rng, &mut fields, line.into_bytes());
    }
    let body = body(rng, method);
    let mut travelling = Vec::new();
    let chunked = !http10 && rng.random_ratio(1, 2);
    match body {
        None => {}
        Some(ref body) if chunked => {
            let word = *["chunked", "chunked", "Chunked", "CHUNKED"]
                .choose(rng)
                .expect("there are some");
            let line = format!(
                "Transfer-Encoding:{}{word}{}",
                blanks(rng, " "),
                blanks(rng, "")
            );
            insert(rng, &mut fields, line.into_bytes());
            travelling = framed(rng, body);
        }
        Some(ref body) => {
            let line = format!(
                "Content-Length:{}{}{}",
                blanks(rng, " "),
                body.len(),
                blanks(rng, "")
            );
            insert(rng, &mut fields, line.into_bytes());
            travelling.clone_from(body);
        }
    }
    if body.as_ref().is_some_and(|body| !body.is_empty()) && rng.random_ratio(1, 12) {
        insert(rng, &mut fields, b"Expect: 100-continue".to_vec());
    }
    if last && rng.random_ratio(1, 15) {
        insert(rng, &mut fields, b"Connection: close".to_vec());
    }
    Request {
        line,
        fields,
        body: travelling,
        meant: Message {
            method: method.as_bytes().to_vec(),
            target,
            version: b"1.1".to_vec(),
            body: body.unwrap_or_default(),
        },
    }
}

impl Request {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.line.clone();
        bytes.extend_from_slice(b"\r\n");
        for field in &self.fields {
            bytes.extend_from_slice(field);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// Puts a line anywhere among the others.
pub(crate) fn insert(rng: &mut SmallRng, fields: &mut Vec<Vec<u8>>, line: Vec<u8>) {
    let at = rng.random_range(0..=fields.len());
    fields.insert(at, line);
}

fn blanks(rng: &mut SmallRng, usual: &'static str) -> &'static str {
    if rng.random_ratio(1, 8) {
        ["", " ", "\t", "  ", " \t "]
            .choose(rng)
            .expect("there are some")
    } else {
        usual
    }
}

fn host(rng: &mut SmallRng) -> String {
    let host = *HOSTS.choose(rng).expect("there are some");
    match rng.random_range(0..6) {
        0 => format!("{host}:8080"),
        1 => format!("{host}:80"),
        _ => host.to_owned(),
    }
}

/// The target as it is sent and as it has to arrive, and whether it is in absolute form.
fn target(
    rng: &mut SmallRng,
    method: &str,
    host: &str,
    number: u64,
    index: usize,
) -> (Vec<u8>, Vec<u8>, bool) {
    if method == "OPTIONS" && rng.random_ratio(1, 3) {
        return (b"*".to_vec(), b"*".to_vec(), false);
    }
    let mut target = format!("/n{number}.{index}").into_bytes();
    for _ in 0..rng.random_range(0..4) {
        target.extend_from_slice(b"/");
        for _ in 0..rng.random_range(0..6) {
            match rng.random_range(0..24) {
                0 => target.extend_from_slice(b"%2F"),
                1 => target.extend_from_slice(b"%20"),
                2 => target.extend_from_slice(b"%c3%A4"),
                3 if rng.random_ratio(1, 4) => target.extend_from_slice("\u{e4}".as_bytes()),
                4 if rng.random_ratio(1, 8) => target.push(rng.random_range(0x80..=0xff)),
                // not one that leads above the root
                5 => target.extend_from_slice(b"a.b"),
                6 => target.extend_from_slice(b"...x"),
                _ => target.push(*PATH_BYTES.choose(rng).expect("there are some")),
            }
        }
    }
    if rng.random_ratio(1, 3) {
        target.push(b'?');
        for _ in 0..rng.random_range(0..12) {
            match rng.random_range(0..40) {
                0 if rng.random_ratio(1, 4) => target.push(rng.random_range(0x80..=0xff)),
                _ => target.push(*QUERY_BYTES.choose(rng).expect("there are some")),
            }
        }
    }
    if !rng.random_ratio(1, 12) {
        return (target.clone(), target, false);
    }
    let scheme = *["http", "http", "HTTP", "https"]
        .choose(rng)
        .expect("there are some");
    let mut sent = format!("{scheme}://{host}").into_bytes();
    match rng.random_range(0..8) {
        0 => return (sent, b"/".to_vec(), true),
        1 => {
            sent.extend_from_slice(format!("?n{number}.{index}").as_bytes());
            return (sent, format!("/?n{number}.{index}").into_bytes(), true);
        }
        _ => sent.extend_from_slice(&target),
    }
    (sent, target, true)
}

/// Field lines that may stand in any request, a name at most once where that is all that is allowed.
fn field(rng: &mut SmallRng, names: &mut Vec<&'static str>) -> Option<Vec<u8>> {
    match rng.random_range(0..12) {
        0 => {
            let mut line = b"X-Random:".to_vec();
            for _ in 0..rng.random_range(0..40) {
                let byte = match rng.random_range(0..12) {
                    0 => rng.random_range(0x80..=0xff),
                    1 => b'\t',
                    _ => rng.random_range(0x20..0x7f),
                };
                line.push(byte);
            }
            Some(line)
        }
        1 if rng.random_ratio(1, 20) => {
            let long = "y".repeat(rng.random_range(1000..7000));
            Some(format!("X-Long: {long}").into_bytes())
        }
        _ => {
            let line = *FIELDS.choose(rng).expect("there are some");
            let name = line.split(':').next().expect("a name");
            // nginx and others have these once; Connection comes as often as it likes.
            if names.contains(&name) && !matches!(name, "Cookie" | "Connection") {
                return None;
            }
            names.push(name);
            // as bytes of Latin-1
            Some(line.chars().map(|c| c as u8).collect())
        }
    }
}

fn body(rng: &mut SmallRng, method: &str) -> Option<Vec<u8>> {
    let usual = matches!(
        method,
        "POST" | "PUT" | "PATCH" | "PROPFIND" | "REPORT" | "RPC_IN_DATA" | "LOCK"
    );
    if !rng.random_ratio(if usual { 9 } else { 2 }, 10) {
        return None;
    }
    let len = match rng.random_range(0..40) {
        0..5 => 0,
        5..30 => rng.random_range(1..60),
        30..39 => rng.random_range(60..2000),
        _ => rng.random_range(2000..70_000),
    };
    Some(content(rng, len))
}

/// A body that looks like the beginning of a request, like chunks or like nothing.
pub(crate) fn content(rng: &mut SmallRng, len: usize) -> Vec<u8> {
    let mut body: Vec<u8> = match rng.random_range(0..5) {
        0 => b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n".repeat(len / 35 + 1),
        1 => b"0\r\n\r\n".repeat(len / 5 + 1),
        2 => b"\r\n".repeat(len / 2 + 1),
        3 => (0..len).map(|_| rng.random()).collect(),
        _ => b"abcdefghij".repeat(len / 10 + 1),
    };
    body.truncate(len);
    body
}

const EXTENSIONS: &[&str] = &[
    ";a",
    ";a=b",
    ";a=\"b;c\"",
    ";a=\"\\\"\"",
    ";a=b;c=d",
    "; a = b",
    ";a=\"\"",
    ";a=\"0 x\"",
    ";!#$%&'*+-.^_`|~=1",
];
const TRAILERS: &[&str] = &[
    "X-Sum: 1",
    "Content-Length: 7",
    "Transfer-Encoding: chunked",
    "Host: b",
    "x:",
    "X-T: \t a",
];

/// A body in chunks of any sizes.
pub(crate) fn framed(rng: &mut SmallRng, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = body;
    let extension = |rng: &mut SmallRng| match rng.random_ratio(1, 6) {
        true => *EXTENSIONS.choose(rng).expect("there are some"),
        false => "",
    };
    let size = |rng: &mut SmallRng, n: usize| match rng.random_range(0..8) {
        0 => format!("{n:08x}"),
        1 => format!("{n:016X}"),
        2 => format!("{n:X}"),
        _ => format!("{n:x}"),
    };
    while !rest.is_empty() {
        let most = if rng.random_ratio(1, 2) {
            rest.len()
        } else {
            rest.len().min(20)
        };
        // Small chunks of large bodies would be very many.
        let least = (rest.len() / 50).clamp(1, most);
        let (chunk, after) = rest.split_at(rng.random_range(least..=most));
        rest = after;
        bytes.extend_from_slice(
            format!("{}{}\r\n", size(rng, chunk.len()), extension(rng)).as_bytes(),
        );
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    let zeros = *["0", "0", "0", "00", "0000000000000000"]
        .choose(rng)
        .expect("there are some");
    bytes.extend_from_slice(format!("{zeros}{}\r\n", extension(rng)).as_bytes());
    if rng.random_ratio(1, 6) {
        for _ in 0..rng.random_range(1..3) {
            let trailer = TRAILERS.choose(rng).expect("there are some");
            bytes.extend_from_slice(format!("{trailer}\r\n").as_bytes());
        }
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}
