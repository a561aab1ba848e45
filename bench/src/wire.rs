//! What goes over the wire between load and origin: the requests, and reading responses.

use std::fmt;
use std::io::{self, ErrorKind};

use memchr::memmem;

/// Larger heads are a mistake of somebody's.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// What one request asks for and brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// An answer of so many bytes, its length said in advance.
    Answer {
        /// Its body.
        bytes: usize,
    },
    /// An answer in chunks.
    Chunked {
        /// Its body.
        bytes: usize,
        /// One chunk.
        chunk: usize,
    },
    /// A request with a body; the answer is small.
    Upload {
        /// The body.
        bytes: usize,
    },
    /// A request whose head carries a token (a bearer's, which belongs to the request and is no login of the connection);
    /// the answer is small.
    Token {
        /// The token.
        bytes: usize,
    },
}

/// What small answers have for a body.
pub(crate) const SMALL_ANSWER_BYTES: usize = 100;

impl Shape {
    /// The bytes of the larger body, without any framing.
    pub(crate) fn body_bytes(self) -> usize {
        match self {
            Self::Answer { bytes } | Self::Chunked { bytes, .. } | Self::Upload { bytes } => bytes,
            Self::Token { .. } => SMALL_ANSWER_BYTES,
        }
    }

    /// The request's head. `bound` asks the origin to answer logged-in connections only.
    pub(crate) fn head(self, bound: bool) -> Vec<u8> {
        let prefix = prefix(bound);
        let (method, path, more) = match self {
            Self::Answer { bytes } => ("GET", format!("bytes/{bytes}"), String::new()),
            Self::Chunked { bytes, chunk } => {
                ("GET", format!("chunked/{bytes}/{chunk}"), String::new())
            }
            Self::Upload { bytes } => (
                "POST",
                "upload".to_owned(),
                format!("Content-Length: {bytes}\r\n"),
            ),
            Self::Token { bytes } => (
                "GET",
                format!("bytes/{SMALL_ANSWER_BYTES}"),
                format!("Authorization: Bearer {}\r\n", "t".repeat(bytes)),
            ),
        };
        head(method, &format!("{prefix}{path}"), &more)
    }
}

/// A leg of a login: credentials for a small answer.
pub(crate) fn login_head(bound: bool, authorization: &str) -> Vec<u8> {
    let path = format!("{}bytes/{SMALL_ANSWER_BYTES}", prefix(bound));
    head("GET", &path, &format!("Authorization: {authorization}\r\n"))
}

// Equally long, so that contenders which pin and those which do not get heads of the same size.
fn prefix(bound: bool) -> &'static str {
    if bound { "/bound/" } else { "/loose/" }
}

fn head(method: &str, path: &str, more: &str) -> Vec<u8> {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: bench\r\nAccept: */*\r\n{more}\r\n"
    )
    .into_bytes()
}

/// What a response said, body aside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Its status.
    pub(crate) status: u16,
    /// NTLM's challenge, still in base64.
    pub(crate) challenge: Option<String>,
    /// Bytes of the body, framing left out.
    pub(crate) body_bytes: u64,
}

/// Reads one response at a time, from pieces of any size.
#[derive(Default)]
pub(crate) struct Reader {
    state: State,
    answer: Answer,
    /// The beginning of a head, or of a chunk's size line, whose end has not come.
    partial: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    Sized {
        left: u64,
    },
    ChunkSize,
    /// The chunk's bytes and the line end behind them.
    Chunk {
        left: u64,
    },
    Trailer,
}

impl Reader {
    /// Takes bytes. `Some` once the response is complete; bytes behind it are an error, as nobody asked for them.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> io::Result<Option<Answer>> {
        loop {
            let complete = match self.state {
                State::Head => match self.line(&mut bytes, b"\r\n\r\n")? {
                    None => return Ok(None),
                    Some(head) => self.begin(&head)?,
                },
                State::Sized { left } => {
                    let taken = take(&mut bytes, left);
                    self.answer.body_bytes += taken;
                    self.state = State::Sized { left: left - taken };
                    left == taken
                }
                State::ChunkSize => match self.line(&mut bytes, b"\r\n")? {
                    None => return Ok(None),
                    Some(line) => {
                        let size = chunk_size(&line).ok_or_else(|| invalid("a chunk's size"))?;
                        self.answer.body_bytes += size;
                        self.state = match size {
                            0 => State::Trailer,
                            size => State::Chunk { left: size + 2 },
                        };
                        false
                    }
                },
                State::Chunk { left } => {
                    let taken = take(&mut bytes, left);
                    self.state = match left - taken {
                        0 => State::ChunkSize,
                        left => State::Chunk { left },
                    };
                    false
                }
                State::Trailer => match self.line(&mut bytes, b"\r\n")? {
                    None => return Ok(None),
                    Some(line) => line == b"\r\n",
                },
            };
            if complete {
                self.state = State::Head;
                if !bytes.is_empty() {
                    return Err(invalid("bytes behind a response"));
                }
                return Ok(Some(std::mem::take(&mut self.answer)));
            }
            if bytes.is_empty() {
                return Ok(None);
            }
        }
    }

    /// So many of the next bytes are body and need not be looked at: [`Reader::skipped`] takes their number.
    pub(crate) fn skippable(&self) -> u64 {
        match self.state {
            State::Sized { left } => left,
            _ => 0,
        }
    }

    /// As [`Reader::feed`], for at most [`Reader::skippable`] bytes that nobody kept.
    pub(crate) fn skipped(&mut self, count: u64) -> Option<Answer> {
        let left = self.skippable().saturating_sub(count);
        self.answer.body_bytes += count;
        self.state = State::Sized { left };
        (left == 0).then(|| {
            self.state = State::Head;
            std::mem::take(&mut self.answer)
        })
    }

    /// Whether nothing of a response has come.
    #[cfg(test)]
    fn at_start(&self) -> bool {
        self.state == State::Head && self.partial.is_empty()
    }

    /// Cuts off what ends with `end`, with what was kept of it before.
    fn line(&mut self, bytes: &mut &[u8], end: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let kept = self.partial.len();
        let search_from = kept.saturating_sub(end.len() - 1);
        self.partial.extend_from_slice(bytes);
        let Some(found) = memmem::find(&self.partial[search_from..], end) else {
            *bytes = &[];
            if self.partial.len() > HEAD_BYTES_MAX {
                return Err(invalid("a head"));
            }
            return Ok(None);
        };
        let length = search_from + found + end.len();
        *bytes = &bytes[length - kept..];
        let mut line = std::mem::take(&mut self.partial);
        line.truncate(length);
        Ok(Some(line))
    }

    /// Starts the body; true if there is none.
    fn begin(&mut self, head: &[u8]) -> io::Result<bool> {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut fields);
        response
            .parse(head)
            .map_err(|error| invalid(format_args!("a response head ({error})")))?;
        self.answer.status = response.code.unwrap_or_default();
        let mut framing = None;
        for field in response.headers.iter() {
            let value = || std::str::from_utf8(field.value).unwrap_or_default();
            if field.name.eq_ignore_ascii_case("content-length") {
                framing = value().parse().ok().map(|left| State::Sized { left });
            } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
                framing = Some(State::ChunkSize);
            } else if field.name.eq_ignore_ascii_case("www-authenticate") {
                self.answer.challenge = value().strip_prefix("NTLM ").map(str::to_owned);
            }
        }
        self.state = framing.ok_or_else(|| invalid("a response without a length"))?;
        Ok(self.state == State::Sized { left: 0 })
    }
}

fn take(bytes: &mut &[u8], most: u64) -> u64 {
    let count = bytes.len().min(usize::try_from(most).unwrap_or(usize::MAX));
    *bytes = &bytes[count..];
    count as u64
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let line = std::str::from_utf8(line).ok()?.trim_end();
    u64::from_str_radix(line.split(';').next()?.trim(), 16).ok()
}

/// An error about what came over the wire.
pub(crate) fn invalid(what: impl fmt::Display) -> io::Error {
    io::Error::new(
        ErrorKind::InvalidData,
        format!("{what} was not as it should be"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESPONSES: [(&[u8], u16, u64); 4] = [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, 5),
        (b"HTTP/1.1 204 X\r\ncontent-length: 0\r\n\r\n", 204, 0),
        (
            b"HTTP/1.1 401 X\r\nWWW-Authenticate: NTLM abc\r\nContent-Length: 1\r\n\r\n.",
            401,
            1,
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nT: u\r\n\r\n",
            200,
            13,
        ),
    ];

    #[test]
    fn responses_are_read_however_they_are_cut() {
        for (bytes, status, body_bytes) in RESPONSES {
            for cut in 0..bytes.len() {
                let mut reader = Reader::default();
                assert_eq!(reader.feed(&bytes[..cut]).unwrap(), None, "cut at {cut}");
                let answer = reader.feed(&bytes[cut..]).unwrap().unwrap();
                assert_eq!((answer.status, answer.body_bytes), (status, body_bytes));
                assert_eq!(
                    answer.challenge.as_deref(),
                    (status == 401).then_some("abc")
                );
                assert!(reader.at_start());
            }
            let mut reader = Reader::default();
            let complete: Vec<_> = bytes
                .iter()
                .filter_map(|byte| reader.feed(std::slice::from_ref(byte)).unwrap())
                .collect();
            assert_eq!(complete.len(), 1);
        }
    }

    #[test]
    fn a_body_may_be_skipped_unseen() {
        let mut reader = Reader::default();
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab";
        assert_eq!(reader.feed(head).unwrap(), None);
        assert_eq!(reader.skippable(), 8);
        assert_eq!(reader.skipped(5), None);
        assert_eq!(reader.skipped(3).unwrap().body_bytes, 10);
        assert!(reader.at_start());
    }

    #[test]
    fn what_nobody_asked_for_is_an_error() {
        for bytes in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab"[..],
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"nonsense\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        ] {
            assert!(Reader::default().feed(bytes).is_err());
        }
    }

    #[test]
    fn requests_of_both_kinds_have_one_size() {
        for shape in [
            Shape::Answer { bytes: 100 },
            Shape::Chunked {
                bytes: 100,
                chunk: 10,
            },
            Shape::Upload { bytes: 7 },
            Shape::Token { bytes: 8192 },
        ] {
            assert_eq!(shape.head(true).len(), shape.head(false).len());
        }
        assert!(Shape::Token { bytes: 8192 }.head(true).len() > 8192);
    }
}
