//! Responses of all shapes, and what is meant by them.

use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;

use crate::grammar::{content, cut, framed, insert};
use crate::mutation::{mutate, splice};

/// What a server sends, and to what.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) bytes: Vec<u8>,
    /// Where it is sent in two pieces.
    pub(crate) cut: usize,
    /// The server closes behind it.
    pub(crate) closes: bool,
    /// The request is a HEAD.
    pub(crate) to_head: bool,
    /// The client speaks HTTP/1.0.
    pub(crate) to_http10: bool,
    pub(crate) meant: Meant,
}

/// What has to come of it.
#[derive(Clone, Debug)]
pub(crate) enum Meant {
    /// This status and this body.
    Whole(Vec<u8>, Vec<u8>),
    /// Nothing that looks complete, but for a 502.
    Cut,
    /// Whatever all parsers agree on.
    Anything,
}

const STATUSES: &[&str] = &[
    "200", "200", "200", "200", "200", "201", "204", "206", "207", "301", "302", "304", "400",
    "401", "403", "404", "407", "412", "413", "500", "503", "299", "599",
];

const REASONS: &[&str] = &[
    " OK",
    " OK",
    " OK",
    " ",
    "",
    " Not  so\tplain",
    " \u{e4}\u{f6}",
    " 200 OK",
    " HTTP/1.1 200 OK",
];

const INFORMATIONAL: &[&str] = &[
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n",
    "HTTP/1.1 102\r\nX: y\r\n\r\n",
    "HTTP/1.1 100 \r\nContent-Length: 5\r\n\r\n",
];

const FIELDS: &[&str] = &[
    "Content-Type: text/html; charset=utf-8",
    "Set-Cookie: a=b; Path=/; HttpOnly",
    "Set-Cookie: c=\"d\"; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
    "Server: Microsoft-IIS/10.0",
    "X-Powered-By: ASP.NET",
    "Date: Mon, 02 Dec 2024 10:00:00 GMT",
    "Cache-Control: private",
    "ETag: \"x\"",
    "WWW-Authenticate: NTLM",
    "WWW-Authenticate: Negotiate",
    "WWW-Authenticate: Basic realm=\"a, b\"",
    "Persistent-Auth: true",
    "Persistent-Auth: false",
    "Location: http://a/b",
    "Refresh: 5; url=http://a/",
    "Vary: *",
    "Connection: keep-alive",
    "Connection: X-Gone",
    "Connection: Content-Length",
    "Connection: Transfer-Encoding, Set-Cookie",
    "Connection:",
    "X-Gone: 1",
    "Keep-Alive: timeout=5",
    "Proxy-Connection: close",
    "Upgrade: websocket",
    "Trailer: X-Sum",
    "TE: x",
    "X-Empty:",
    "X-Tab:\tv\t",
    "X-Obs: \u{e4}",
    "under_score: 1",
    "Content_Length: 7",
    "Content-Length-X: 7",
    "Transfer_Encoding: chunked",
    "X-Next: HTTP/1.1 200 OK",
    "Via: 1.1 a",
    "Content-Encoding: gzip",
    "Content-Range: bytes 0-1/2",
    "Accept-Ranges: bytes",
    "X!#$%&'*+.^`|~: odd",
    "Alt-Svc: h2=\":443\"",
    "Age: 0",
    "X-Accel-Redirect: /a",
];

/// A valid response, or one that is cut.
pub(crate) fn valid(rng: &mut SmallRng) -> Answer {
    let to_head = rng.random_ratio(1, 8);
    let to_http10 = rng.random_ratio(1, 12);
    let mut bytes = Vec::new();
    if rng.random_ratio(1, 8) {
        for _ in 0..rng.random_range(1..4) {
            bytes.extend_from_slice(
                INFORMATIONAL
                    .choose(rng)
                    .expect("there are some")
                    .as_bytes(),
            );
        }
    }
    let http10 = rng.random_ratio(1, 8);
    let status = *STATUSES.choose(rng).expect("there are some");
    let reason = *REASONS.choose(rng).expect("there are some");
    let version = if http10 { "1.0" } else { "1.1" };
    let line = format!("HTTP/{version} {status}{reason}");
    let mut fields: Vec<Vec<u8>> = Vec::new();
    for _ in 0..*[0, 1, 2, 3, 5, 9].choose(rng).expect("there are some") {
        let field = *FIELDS.choose(rng).expect("there are some");
        fields.push(latin1(field));
    }
    let len = match rng.random_range(0..40) {
        0..6 => 0,
        6..30 => rng.random_range(1..60),
        30..39 => rng.random_range(60..2000),
        _ => rng.random_range(2000..70_000),
    };
    let body = content(rng, len);
    let bodyless = to_head || matches!(status, "204" | "304");
    let mut closes = rng.random_ratio(1, 10);
    let mut travelling = body.clone();
    let until_close = match rng.random_range(0..10) {
        0..5 => {
            insert(
                rng,
                &mut fields,
                format!("Content-Length: {len}").into_bytes(),
            );
            false
        }
        5..9 if !http10 => {
            travelling = framed(rng, &body);
            insert(rng, &mut fields, b"Transfer-Encoding: chunked".to_vec());
            false
        }
        _ => !bodyless,
    };
    if until_close || rng.random_ratio(1, 12) {
        closes = true;
        if rng.random_ratio(2, 3) {
            insert(rng, &mut fields, b"Connection: close".to_vec());
        }
    }
    bytes.extend(latin1(&line));
    bytes.extend_from_slice(b"\r\n");
    for field in fields {
        bytes.extend_from_slice(&field);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    let mut meant = Meant::Whole(
        status.as_bytes().to_vec(),
        if bodyless { Vec::new() } else { body },
    );
    if !bodyless {
        bytes.extend_from_slice(&travelling);
        if !until_close && !travelling.is_empty() && rng.random_ratio(1, 6) {
            let most = travelling.len().min(if rng.random_ratio(1, 2) {
                8
            } else {
                usize::MAX
            });
            bytes.truncate(bytes.len() - rng.random_range(1..=most));
            closes = true;
            meant = Meant::Cut;
        }
    }
    Answer {
        cut: cut(rng, bytes.len()),
        bytes,
        closes,
        to_head,
        to_http10,
        meant,
    }
}

/// A response with some of its bytes changed; of the corpus, or valid before.
pub(crate) fn mutated(rng: &mut SmallRng, corpus: &[Vec<u8>]) -> Answer {
    let mut answer = valid(rng);
    if rng.random_ratio(1, 2) {
        answer
            .bytes
            .clone_from(corpus.choose(rng).expect("there are some"));
    }
    if rng.random_ratio(1, 6) {
        let other = match rng.random_ratio(1, 2) {
            true => corpus.choose(rng).expect("there are some").clone(),
            false => valid(rng).bytes,
        };
        splice(rng, &mut answer.bytes, &other);
    }
    mutate(rng, &mut answer.bytes);
    Answer {
        cut: cut(rng, answer.bytes.len()),
        closes: rng.random_ratio(3, 4),
        meant: Meant::Anything,
        ..answer
    }
}

fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|c| c as u8).collect()
}
