//! Response heads: fields found by httparse, everything judged here.

use memchr::memchr;

use super::fields::{self, Connection, Lengths};
use super::head::{Fate, Field, Framing, HeadLimits, Name, Span, Version, is_value_byte};
use super::refusal::Refusal;

/// What the response's reader has to know of the request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    /// The request's method was HEAD.
    pub head: bool,
    /// An upgrade was passed on: 101 is allowed.
    pub upgrade: bool,
}

/// A response head as spans over the buffer it was parsed from. Reused: `parse` clears it.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// Length of the head in bytes, final CRLF included.
    pub len: u32,
    /// The server's version.
    pub version: Version,
    /// 100 to 599 (anything else is refused).
    pub status: u16,
    /// From the status to the end of the reason phrase, `200 OK`: what follows the version on the first line.
    pub status_and_reason: Span,
    /// Where the body ends; `None` for HEAD, 1xx, 204, 304.
    pub framing: Framing,
    /// Whether the server keeps the connection open after this response.
    pub keep_alive: bool,
    /// The `Upgrade` field of a 101.
    pub upgrade: Option<Span>,
    /// `Persistent-Auth: false` was said ([MS-N2HT]).
    pub persistent_auth_false: bool,
    /// Every field line in its order.
    pub fields: Vec<Field>,
}

impl ResponseHead {
    /// What none says.
    pub const EMPTY: Self = Self {
        len: 0,
        version: Version::Http11,
        status: 0,
        status_and_reason: Span { start: 0, end: 0 },
        framing: Framing::None,
        keep_alive: false,
        upgrade: None,
        persistent_auth_false: false,
        fields: Vec::new(),
    };

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
    pub fn parse(
        &mut self,
        buffer: &[u8],
        limits: &HeadLimits,
        asked: Asked,
    ) -> Result<(), Refusal> {
        self.clear();
        self.len = u32::try_from(buffer.len()).map_err(|_| Refusal::HeadTooLarge)?;
        let lf = memchr(b'\n', buffer).ok_or(Refusal::Malformed)?;
        let line = buffer[..lf].strip_suffix(b"\r").ok_or(Refusal::BareLf)?;
        self.parse_line(line)?;
        fields::of_response(buffer, lf + 1, limits, &mut self.fields)?;
        self.judge_fields(buffer, asked)
    }

    /// The value of the first field called `name` (lower case with `-` for `_`), for `$upstream_http_NAME`.
    pub fn field(&self, buffer: &[u8], name: &str) -> Option<Span> {
        fields::find(buffer, &self.fields, name)
    }

    /// Whether a response of this status has no body, whatever its head says (RFC 9112 section 6.3).
    fn is_bodyless(&self) -> bool {
        matches!(self.status, 100..=199 | 204 | 304)
    }

    /// Parses the status line, which begins at offset 0. The reason may be missing, and its blank too.
    fn parse_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let version_len = b"HTTP/1.1 ".len();
        self.version = match line.get(..version_len) {
            Some(b"HTTP/1.1 ") => Version::Http11,
            Some(b"HTTP/1.0 ") => Version::Http10,
            _ if line.starts_with(b"HTTP/") => return Err(Refusal::VersionUnknown),
            _ => return Err(Refusal::Malformed),
        };
        let rest = &line[version_len..];
        let digits = match rest {
            [a, b, c] | [a, b, c, b' ', ..] => [*a, *b, *c],
            _ => return Err(Refusal::Status),
        };
        if !digits.iter().all(u8::is_ascii_digit) {
            return Err(Refusal::Status);
        }
        self.status = digits
            .iter()
            .fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
        if !(100..=599).contains(&self.status) {
            return Err(Refusal::Status);
        }
        if line.contains(&b'\r') {
            return Err(Refusal::BareCr);
        }
        if !rest.iter().copied().all(is_value_byte) {
            return Err(Refusal::ControlByte);
        }
        self.status_and_reason = Span::new(version_len, line.len());
        Ok(())
    }

    /// Judges the fields together (rules 1 to 5, 19, 31 and 32).
    fn judge_fields(&mut self, buffer: &[u8], asked: Asked) -> Result<(), Refusal> {
        let mut lengths = Lengths::default();
        let mut connection = Connection::default();
        let mut upgrades = 0;
        // RFC 9110 section 8.6: none is allowed there, and a client that believed it would take the next response for a body
        let length_misleads = matches!(self.status, 100..=199 | 204);
        for field in &mut self.fields {
            let value = field.value.of(buffer);
            match field.known {
                Name::Connection => connection.read(value)?,
                Name::ContentLength => {
                    lengths.content_length(value)?;
                    if length_misleads {
                        field.fate = Fate::Stays;
                    }
                }
                Name::PersistentAuth => {
                    self.persistent_auth_false |= value.eq_ignore_ascii_case(b"false");
                }
                Name::TransferEncoding => lengths.transfer_encoding(value)?,
                Name::Upgrade if self.status == 101 => {
                    self.upgrade = Some(field.value);
                    upgrades += 1;
                }
                _ => {}
            }
            if fields::is_hop_by_hop(field.known) {
                field.fate = Fate::Stays;
            }
        }
        if self.status == 101 && (!asked.upgrade || upgrades != 1) {
            return Err(Refusal::SwitchUnasked);
        }
        connection.keep_back(buffer, &mut self.fields);
        let framing = lengths
            .framing(self.version)?
            .unwrap_or(Framing::UntilClose);
        self.framing = if asked.head || self.is_bodyless() {
            Framing::None
        } else {
            framing
        };
        // A server that announces a body where none may be perhaps sends it, behind what counts as the end.
        let announced =
            length_misleads && matches!(framing, Framing::Chunked | Framing::Length(1..));
        self.keep_alive = connection.keeps_open(self.version)
            && self.framing != Framing::UntilClose
            && !announced;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
