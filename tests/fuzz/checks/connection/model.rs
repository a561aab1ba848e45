//! What has to come of a client's bytes and a server's answers, however either is cut.
//!
//! Whole messages are read by the reference. Only whether an unfinished line is refused already or may still be mended is asked
//! of the product's own scanners, which have checks of their own.

use ntlmfront::http::body::{BodyReader, Event};
use ntlmfront::http::head::{Framing, HeadLimits};
use ntlmfront::http::scan::{HeadScanner, Scan};

use super::super::credentials::scheme;
use super::super::reference::{self, Body, Chunked, Field, Request, Response, Sizes};
use super::super::request_head::sizes;

/// What the front takes from a client, and from a server.
const REQUEST: HeadLimits = HeadLimits {
    line: 64 << 10,
    total: 64 << 10,
    fields: 100,
    underscores: false,
};
const RESPONSE: HeadLimits = HeadLimits {
    total: 128 << 10,
    fields: 200,
    ..REQUEST
};

/// For what the front sends: it adds something to what it takes.
pub const ANY: Sizes = Sizes {
    line: usize::MAX,
    total: usize::MAX,
    fields: usize::MAX,
};

/// What one client's connection has to come to.
#[derive(Debug, Default)]
pub struct Expected {
    /// What goes to the server, in order.
    pub requests: Vec<Sent>,
    /// What may have begun to go to the server behind those, and never gets there whole.
    pub partial: Option<Sent>,
    /// What comes to the client, in order.
    pub answers: Vec<Answer>,
    /// The front closes the client's connection by itself.
    pub closes: bool,
}

/// A request as the server gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub method: Vec<u8>,
    pub target: Vec<u8>,
    /// Without those that the front writes.
    pub fields: Vec<Field>,
    pub body: Vec<u8>,
}

impl Sent {
    /// Whether this is the other one, as far as its body came.
    pub fn begins(&self, whole: &Self) -> bool {
        let head = |sent: &Self| {
            (
                sent.method.clone(),
                sent.target.clone(),
                sent.fields.clone(),
            )
        };
        head(self) == head(whole) && whole.body.starts_with(&self.body)
    }
}

/// An answer as the client gets it.
#[derive(Debug)]
pub struct Answer {
    /// Statuses that come before it.
    pub informational: Vec<u16>,
    pub kind: Kind,
    /// It answers a HEAD. `None`: the request was refused, and nobody can tell.
    pub to_head: Option<bool>,
}

#[derive(Debug)]
pub enum Kind {
    /// The server's, whole.
    Relayed { response: Response, body: Vec<u8> },
    /// The front's own: a refusal of the client's message, or else 502.
    Own { refusal: bool },
    /// The server's, which never gets there whole. In place of one that is broken there may be 502, if that shows before anything
    /// went out.
    Cut {
        response: Response,
        body: Vec<u8>,
        broken: bool,
    },
    /// None.
    Nothing,
}

/// What a server's bytes are for one request.
enum Said {
    Whole(Response, Vec<u8>, usize),
    /// The head is complete, the body is not, or it is broken.
    Cut(Response, Vec<u8>, bool),
    /// No head that may pass.
    Broken,
    /// The head is not complete.
    Starved,
}

/// The client's login.
#[derive(Clone, Copy)]
struct Pin {
    established: bool,
    authenticates_each_request: bool,
}

/// Reads a client's whole stream; `answer` is what the server says to the nth request that gets to it.
pub fn expect<'a>(stream: &[u8], answer: impl Fn(usize) -> &'a [u8]) -> Expected {
    let mut expected = Expected::default();
    let mut rest = stream;
    let mut pin: Option<Pin> = None;
    while !expected.closes {
        let found = reference::head_end(rest);
        let Some((start, end)) = found else {
            if is_refused(rest, &REQUEST) {
                expected.refuse(None);
            }
            break;
        };
        let request = reference::request(&rest[start..end], sizes(&REQUEST), false);
        let Some(request) = request.filter(|request| is_sound_path(&request.target)) else {
            expected.refuse(None);
            break;
        };
        let to_head = request.method == b"HEAD";
        let (body, taken) = match read_body(request.body, &rest[end..]) {
            Read::Whole(body, taken) => (body, taken),
            Read::Unfinished(body) => {
                expected.partial = Some(sent(&request, body));
                break;
            }
            Read::Broken(body) => {
                expected.partial = Some(sent(&request, body));
                expected.refuse(Some(to_head));
                break;
            }
        };
        rest = &rest[end + taken..];
        let bytes = answer(expected.requests.len());
        expected.requests.push(sent(&request, body));
        pin = expected.answer(&request, to_head, bytes, pin);
    }
    expected
}

impl Expected {
    /// The client's bytes break a rule.
    fn refuse(&mut self, to_head: Option<bool>) {
        self.own(true, to_head, Vec::new());
        self.closes = true;
    }

    fn own(&mut self, refusal: bool, to_head: Option<bool>, informational: Vec<u16>) {
        self.answers.push(Answer {
            informational,
            kind: Kind::Own { refusal },
            to_head,
        });
    }

    /// A request went to the server, which says `bytes`. Returns the client's login after that.
    fn answer(
        &mut self,
        request: &Request,
        to_head: bool,
        bytes: &[u8],
        pin: Option<Pin>,
    ) -> Option<Pin> {
        let logs_in = request
            .authorization
            .as_ref()
            .is_some_and(|value| scheme(value).is_some());
        // A new login leaves the pin of the last one.
        let before =
            pin.filter(|pin| !pin.established || !logs_in || pin.authenticates_each_request);
        let pinned = before.is_some() || logs_in;
        let established = before.is_some_and(|pin| pin.established);
        let (mut informational, said) = read_answer(bytes, to_head);
        if request.is_http_10 {
            informational.clear();
        }
        let (kind, closes, pin) = match said {
            Said::Whole(response, body, end) => {
                let server_keeps = response.keeps_open && end == bytes.len();
                let framed = match response.body {
                    Body::UntilClose => false,
                    Body::Chunked => !request.is_http_10,
                    Body::None | Body::Length(_) => true,
                };
                let after = Pin {
                    established: match logs_in {
                        true => !matches!(response.status, 401 | 407),
                        false => established,
                    },
                    authenticates_each_request: reference::values(
                        &response.fields,
                        "persistent-auth",
                    )
                    .iter()
                    .any(|value| value.eq_ignore_ascii_case(b"false")),
                };
                let keeps = framed && request.keeps_open && (server_keeps || !pinned);
                let pin = Some(after).filter(|_| pinned && server_keeps);
                (Kind::Relayed { response, body }, !keeps, pin)
            }
            Said::Cut(response, body, broken) => {
                let cut = Kind::Cut {
                    response,
                    body,
                    broken,
                };
                (cut, true, None)
            }
            // The client of a pin that served before knows how to repeat its request.
            Said::Starved if before.is_some() => (Kind::Nothing, true, None),
            // It would believe itself logged in on a connection that is not.
            Said::Broken | Said::Starved => (
                Kind::Own { refusal: false },
                !request.keeps_open || established,
                None,
            ),
        };
        self.closes = closes;
        self.answers.push(Answer {
            informational,
            kind,
            to_head: Some(to_head),
        });
        pin
    }
}

/// What a server's bytes are, and the statuses that come before it.
fn read_answer(bytes: &[u8], to_head: bool) -> (Vec<u16>, Said) {
    let mut informational = Vec::new();
    let mut at = 0;
    loop {
        let rest = &bytes[at..];
        let Some((start, end)) = reference::head_end(rest) else {
            let said = if is_refused(rest, &RESPONSE) {
                Said::Broken
            } else {
                Said::Starved
            };
            return (informational, said);
        };
        let Some(response) =
            reference::response(&rest[start..end], sizes(&RESPONSE), to_head, false)
        else {
            return (informational, Said::Broken);
        };
        at += end;
        if response.status >= 200 {
            let said = match read_body(response.body, &bytes[at..]) {
                Read::Whole(body, taken) => Said::Whole(response, body, at + taken),
                Read::Unfinished(body) => Said::Cut(response, body, false),
                Read::Broken(body) => Said::Cut(response, body, true),
            };
            return (informational, said);
        }
        if informational.len() == 16 {
            return (informational, Said::Broken);
        }
        informational.push(response.status);
    }
}

/// Whether the server has to close for its answer to be over, or to fail.
pub fn ends_with_close(bytes: &[u8], to_head: bool) -> bool {
    match read_answer(bytes, to_head).1 {
        Said::Whole(response, ..) => response.body == Body::UntilClose,
        _ => true,
    }
}

/// How many bytes of an answer belong to it.
pub fn answer_len(bytes: &[u8], to_head: bool) -> usize {
    match read_answer(bytes, to_head).1 {
        Said::Whole(_, _, end) => end,
        _ => bytes.len(),
    }
}

/// What is found of a body.
pub enum Read {
    Whole(Vec<u8>, usize),
    Unfinished(Vec<u8>),
    Broken(Vec<u8>),
}

/// Reads a body that `bytes` begin with, when no more will come.
pub fn read_body(body: Body, bytes: &[u8]) -> Read {
    match body {
        Body::None => Read::Whole(Vec::new(), 0),
        Body::Length(length) if bytes.len() as u64 >= length => {
            Read::Whole(bytes[..length as usize].to_vec(), length as usize)
        }
        Body::Length(_) => Read::Unfinished(bytes.to_vec()),
        Body::UntilClose => Read::Whole(bytes.to_vec(), bytes.len()),
        Body::Chunked => match reference::chunked(bytes) {
            Chunked::Whole { data, end } => Read::Whole(data, end),
            Chunked::Broken { data } => Read::Broken(data),
            Chunked::Unfinished { data, .. } if is_refused_body(bytes) => Read::Broken(data),
            Chunked::Unfinished { data, .. } => Read::Unfinished(data),
        },
    }
}

fn is_refused(head: &[u8], limits: &HeadLimits) -> bool {
    let scan = HeadScanner::default().scan(head, limits);
    matches!(scan, Scan::Refused(_))
}

fn is_refused_body(mut bytes: &[u8]) -> bool {
    let mut reader = BodyReader::new(Framing::Chunked);
    loop {
        match reader.next(bytes) {
            Err(_) => return true,
            Ok(step) if matches!(step.event, Event::More | Event::End) => return false,
            Ok(step) => bytes = &bytes[step.consumed..],
        }
    }
}

/// Whether a target's path can be matched with locations.
fn is_sound_path(target: &[u8]) -> bool {
    let path = target.split(|&b| b == b'?').next().unwrap_or_default();
    let mut text = String::new();
    let mut bytes = path.iter().map(|&b| char::from(b));
    while let Some(byte) = bytes.next() {
        if byte != '%' {
            text.push(byte);
            continue;
        }
        let digits: String = bytes.by_ref().take(2).collect();
        let is_hex = digits.len() == 2 && digits.chars().all(|digit| digit.is_ascii_hexdigit());
        match u8::from_str_radix(&digits, 16) {
            Ok(code) if is_hex && !matches!(code, 0 | b'\r' | b'\n') => text.push(char::from(code)),
            _ => return false,
        }
    }
    let mut depth = 0;
    for segment in text.split('/') {
        match segment {
            "" | "." => {}
            ".." if depth == 0 => return false,
            ".." => depth -= 1,
            _ => depth += 1,
        }
    }
    true
}

/// A request as the server gets it, but for what the front writes itself.
pub fn sent(request: &Request, body: Vec<u8>) -> Sent {
    let own = [&b"host"[..], b"x-client", b"transfer-encoding"];
    let fields = request.passing.iter().filter(|(name, _)| {
        let name = name.to_ascii_lowercase();
        !own.contains(&&name[..])
    });
    let mut target = request.target.clone();
    if !matches!(target.first(), Some(b'/' | b'*')) {
        target.insert(0, b'/');
    }
    Sent {
        method: request.method.clone(),
        target,
        fields: fields.cloned().collect(),
        body,
    }
}
