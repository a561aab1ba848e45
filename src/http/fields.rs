//! Field lines: found by httparse, judged here, for requests and responses alike.

use std::mem::MaybeUninit;

use httparse::{EMPTY_HEADER, Error, Header, Status};
use memchr::memchr;

use super::head::{
    Fate, Field, Framing, HeadLimits, Name, Span, Version, is_token_byte, is_value_byte,
};
use super::refusal::Refusal;

/// Fields that are found without an allocation: as many as the limit is by default.
const USUAL: usize = 100;

/// Parses the field lines `head[from..]` of a request whose first line was judged already. They end with the empty line
/// that ends the head.
pub(super) fn of_request(
    head: &[u8],
    from: usize,
    limits: &HeadLimits,
    fields: &mut Vec<Field>,
) -> Result<(), Refusal> {
    let mut slots = [const { MaybeUninit::uninit() }; USUAL];
    let slots = &mut slots[..limits.fields.min(USUAL)];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(head, slots) {
        Ok(Status::Complete(taken)) if taken == head.len() => {
            collect(request.headers, head, fields)
        }
        _ => parse_with_allocation(head, from, limits, fields),
    }
}

/// Parses the field lines `head[from..]` of a response whose first line was judged already.
pub(super) fn of_response(
    head: &[u8],
    from: usize,
    limits: &HeadLimits,
    fields: &mut Vec<Field>,
) -> Result<(), Refusal> {
    let mut slots = [const { MaybeUninit::uninit() }; USUAL];
    let slots = &mut slots[..limits.fields.min(USUAL)];
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut response, head, slots) {
        Ok(Status::Complete(taken)) if taken == head.len() => {
            collect(response.headers, head, fields)
        }
        _ => parse_with_allocation(head, from, limits, fields),
    }
}

/// For heads with very many fields, for requests whose target is no UTF-8, which httparse would not have, and for those
/// that are about to be refused.
#[cold]
fn parse_with_allocation(
    head: &[u8],
    from: usize,
    limits: &HeadLimits,
    fields: &mut Vec<Field>,
) -> Result<(), Refusal> {
    let lines = &head[from..];
    // a field takes 4 bytes at least
    let mut slots = vec![EMPTY_HEADER; limits.fields.min(lines.len() / 4 + 1)];
    match httparse::parse_headers(lines, &mut slots) {
        Ok(Status::Complete((taken, headers))) if taken == lines.len() => {
            collect(headers, head, fields)
        }
        Err(Error::TooManyHeaders) => Err(Refusal::TooManyFields),
        _ => Err(diagnose(lines)),
    }
}

fn collect(headers: &[Header<'_>], head: &[u8], fields: &mut Vec<Field>) -> Result<(), Refusal> {
    if !head.ends_with(b"\r\n") {
        return Err(Refusal::BareLf);
    }
    let fields_end = head.len() - 2;
    let span_of = |part: &[u8]| {
        let start = part.as_ptr() as usize - head.as_ptr() as usize;
        Span::new(start, start + part.len())
    };
    for (index, header) in headers.iter().enumerate() {
        let name = span_of(header.name.as_bytes());
        let line_end = match headers.get(index + 1) {
            Some(next) => span_of(next.name.as_bytes()).start as usize,
            None => fields_end,
        };
        // httparse takes a bare LF for a line's end (rule 9)
        if !head[..line_end].ends_with(b"\r\n") {
            return Err(Refusal::BareLf);
        }
        fields.push(Field {
            line: Span::new(name.start as usize, line_end),
            name,
            value: span_of(header.value),
            known: Name::of(header.name.as_bytes()),
            fate: Fate::Passes,
        });
    }
    Ok(())
}

/// The rule that field lines break which httparse refused, or found to end too early.
#[cold]
fn diagnose(lines: &[u8]) -> Refusal {
    let mut rest = lines;
    while let Some(lf) = memchr(b'\n', rest) {
        let Some(line) = rest[..lf].strip_suffix(b"\r") else {
            return Refusal::BareLf;
        };
        if line.is_empty() {
            break;
        }
        if let Err(refusal) = check_line(line) {
            return refusal;
        }
        rest = &rest[lf + 1..];
    }
    Refusal::Malformed
}

/// The rules of one field line (4, 8 and 9), without its CRLF.
fn check_line(line: &[u8]) -> Result<(), Refusal> {
    if line.contains(&b'\r') {
        return Err(Refusal::BareCr);
    }
    if let Some(b' ' | b'\t') = line.first() {
        return Err(Refusal::FoldedLine);
    }
    if !line.iter().copied().all(is_value_byte) {
        return Err(Refusal::ControlByte);
    }
    let colon = memchr(b':', line).ok_or(Refusal::NoColon)?;
    let name = &line[..colon];
    if !name.is_empty() && name.iter().copied().all(is_token_byte) {
        return Ok(());
    }
    Err(match name.last() {
        Some(b' ' | b'\t') => Refusal::BlankBeforeColon,
        _ => Refusal::FieldName,
    })
}

/// Checks a trailer field's line without its CRLF (rule 23).
pub(super) fn check_trailer(line: &[u8]) -> Result<(), Refusal> {
    check_line(line).map_err(|_| Refusal::Trailer)
}

/// The members of a comma-separated list, without blanks, the empty ones left out (RFC 9110 section 5.6.1).
pub(super) fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|&byte| byte == b',')
        .map(trim)
        .filter(|member| !member.is_empty())
}

/// Without the spaces and tabs around it; no other byte is a blank (rule 4).
fn trim(value: &[u8]) -> &[u8] {
    let is_visible = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let start = value.iter().position(is_visible).unwrap_or(value.len());
    let end = value
        .iter()
        .rposition(is_visible)
        .map_or(start, |last| last + 1);
    &value[start..end]
}

/// What a head says of its body's length: rules 1 to 3, 5 and 6.
#[derive(Default)]
pub(super) struct Lengths {
    length: Option<u64>,
    is_chunked: bool,
}

impl Lengths {
    /// Takes a `Content-Length` field.
    pub(super) fn content_length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.length.is_some() || value.contains(&b',') {
            return Err(Refusal::LengthRepeated);
        }
        self.length = Some(length(value).ok_or(Refusal::LengthInvalid)?);
        Ok(())
    }

    /// Takes a `Transfer-Encoding` field.
    pub(super) fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.is_chunked {
            return Err(Refusal::CodingInvalid);
        }
        if !value.eq_ignore_ascii_case(b"chunked") {
            return Err(coding_refusal(value));
        }
        self.is_chunked = true;
        Ok(())
    }

    /// The framing that the fields name, if any does.
    pub(super) fn framing(&self, version: Version) -> Result<Option<Framing>, Refusal> {
        match (self.length, self.is_chunked) {
            (Some(_), true) => Err(Refusal::LengthAndCoding),
            (None, true) if version == Version::Http10 => Err(Refusal::CodingInHttp10),
            (None, true) => Ok(Some(Framing::Chunked)),
            (length, false) => Ok(length.map(Framing::Length)),
        }
    }
}

/// Digits only, no leading zero before another digit, at most 2^63-1.
fn length(digits: &[u8]) -> Option<u64> {
    let is_canonical = !digits.is_empty() && (digits[0] != b'0' || digits.len() == 1);
    if !is_canonical || digits.len() > 19 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // 19 digits fit into 64 bits
    let value = digits
        .iter()
        .fold(0, |value, digit| value * 10 + u64::from(digit - b'0'));
    (value <= i64::MAX as u64).then_some(value)
}

/// Known codings before `chunked` are well-formed, and nothing that the front does (RFC 9112 section 6.1).
#[cold]
fn coding_refusal(value: &[u8]) -> Refusal {
    const KNOWN: [&[u8]; 5] = [b"gzip", b"deflate", b"compress", b"x-gzip", b"x-compress"];
    let codings: Vec<&[u8]> = value.split(|&byte| byte == b',').map(trim).collect();
    let Some((last, before)) = codings.split_last() else {
        return Refusal::CodingInvalid;
    };
    let all_known = before
        .iter()
        .all(|coding| KNOWN.iter().any(|known| coding.eq_ignore_ascii_case(known)));
    if !before.is_empty() && all_known && last.eq_ignore_ascii_case(b"chunked") {
        Refusal::CodingNotImplemented
    } else {
        Refusal::CodingInvalid
    }
}

/// The options of all `Connection` fields of a head.
#[derive(Default)]
pub(super) struct Connection {
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade: bool,
    /// Options that may be the names of fields.
    others: usize,
}

impl Connection {
    /// Takes a `Connection` field.
    pub(super) fn read(&mut self, value: &[u8]) -> Result<(), Refusal> {
        // Each is compared with every field, so that their number has to be bounded.
        const OTHERS_MAX: usize = 32;
        for option in members(value) {
            match option {
                _ if option.eq_ignore_ascii_case(b"close") => self.close = true,
                _ if option.eq_ignore_ascii_case(b"keep-alive") => self.keep_alive = true,
                _ if option.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
                _ => self.others += 1, // those that `is_of_connection` says no to
            }
        }
        if self.others > OTHERS_MAX {
            return Err(Refusal::TooManyOptions);
        }
        Ok(())
    }

    /// Keeps the fields back that the options name, but for those that are never hop-by-hop (rule 18).
    pub(super) fn keep_back(&self, head: &[u8], fields: &mut [Field]) {
        if self.others == 0 {
            return;
        }
        for index in 0..fields.len() {
            if fields[index].known != Name::Connection {
                continue;
            }
            let options = members(fields[index].value.of(head));
            for option in options.filter(|option| !is_of_connection(option)) {
                for field in &mut *fields {
                    let name = field.name.of(head);
                    if name.eq_ignore_ascii_case(option) && !is_end_to_end(name) {
                        field.fate = Fate::Stays;
                    }
                }
            }
        }
    }

    /// Whether the sender keeps its connection open.
    pub(super) fn keeps_open(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }
}

/// Whether an option is about the connection itself. There may be any number of them.
fn is_of_connection(option: &[u8]) -> bool {
    [&b"close"[..], b"keep-alive", b"upgrade"]
        .iter()
        .any(|known| option.eq_ignore_ascii_case(known))
}

/// Whether a field is for all recipients, whatever `Connection` says: identity, framing, meaning of the content, and what
/// a front before this one says of the client.
fn is_end_to_end(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 11] = [
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
    const PREFIXES: [&[u8]; 3] = [b"content-", b"sec-", b"x-forwarded-"];
    // those that are hop-by-hop by themselves stay already
    Name::of(name) != Name::Other
        || NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
        || PREFIXES.iter().any(|prefix| {
            name.get(..prefix.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        })
}

/// Whether a field is for one connection only (rule 19), or one that the front always writes itself.
pub(super) fn is_hop_by_hop(known: Name) -> bool {
    matches!(
        known,
        Name::Connection
            | Name::Http2Settings
            | Name::KeepAlive
            | Name::ProxyConnection
            | Name::Te
            | Name::Trailer
            | Name::TransferEncoding
            | Name::Upgrade
    )
}

/// The value of the first field that a variable's `name` (lower case, `-` for `_`) stands for. `-` and `_` are one in the
/// name of a field that is not ignored, but one without a `_` comes first (rule 10).
pub(super) fn find(head: &[u8], fields: &[Field], name: &str) -> Option<Span> {
    let wanted = name.as_bytes();
    let mut resembling = None;
    for field in fields {
        if field.name.len() != wanted.len() || field.fate == Fate::Ignored {
            continue;
        }
        let mut has_underscore = false;
        let is_wanted = field
            .name
            .of(head)
            .iter()
            .zip(wanted)
            .all(|(&byte, &wanted)| {
                if byte == b'_' {
                    has_underscore = true;
                    return wanted == b'-';
                }
                byte.to_ascii_lowercase() == wanted
            });
        match (is_wanted, has_underscore) {
            (true, false) => return Some(field.value),
            (true, true) if resembling.is_none() => resembling = Some(field.value),
            _ => {}
        }
    }
    resembling
}

/// The value of the cookie called `name` in the value of a `Cookie` field, for `$cookie_NAME`: as nginx, without regard to
/// case.
pub fn cookie<'a>(value: &'a [u8], name: &str) -> Option<&'a [u8]> {
    value
        .split(|&byte| matches!(byte, b';' | b','))
        .find_map(|pair| pair_value(pair, name))
        // a comma separates cookies, but does not end a value
        .map(|found| &value[found.as_ptr() as usize - value.as_ptr() as usize..])
        .map(|from| &from[..memchr(b';', from).unwrap_or(from.len())])
}

/// The value of the cookie called `name` if the value of a `Set-Cookie` field sets it, for `$upstream_cookie_NAME`.
pub fn set_cookie<'a>(value: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let pair = &value[..memchr(b';', value).unwrap_or(value.len())];
    pair_value(pair, name)
}

/// What follows `name=` in a pair with any spaces around the name and before the value.
fn pair_value<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let equals = memchr(b'=', pair)?;
    if !trim(&pair[..equals]).eq_ignore_ascii_case(name.as_bytes()) {
        return None;
    }
    let value = &pair[equals + 1..];
    let start = value
        .iter()
        .position(|&byte| byte != b' ')
        .unwrap_or(value.len());
    Some(&value[start..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_found() {
        let table: &[(&str, &str, Option<&str>)] = &[
            ("a=1; b=2", "a", Some("1")),
            ("a=1; b=2", "b", Some("2")),
            ("a=1;b=2", "B", Some("2")),
            ("ab=1; b=2", "b", Some("2")),
            ("a=b=2", "b", None),
            ("a=b=2", "a", Some("b=2")),
            ("a=1,2; b=2", "a", Some("1,2")),
            ("a=1, b=2", "b", Some("2")),
            ("a = 1", "a", Some("1")),
            ("a=", "a", Some("")),
            ("a", "a", None),
            ("", "a", None),
        ];
        for (value, name, expected) in table {
            let found = cookie(value.as_bytes(), name);
            assert_eq!(found, expected.map(str::as_bytes), "{value} {name}");
        }
        assert_eq!(set_cookie(b"a=1; Path=/", "a"), Some(&b"1"[..]));
        assert_eq!(set_cookie(b"a=1; Path=/", "path"), None);
    }

    #[test]
    fn rule_3_lengths() {
        let table: &[(&str, Option<u64>)] = &[
            ("0", Some(0)),
            ("5", Some(5)),
            ("9223372036854775807", Some(i64::MAX as u64)),
            ("9223372036854775808", None),
            ("9999999999999999999", None),
            ("10000000000000000000", None),
            ("18446744073709551616", None),
            ("", None),
            ("+5", None),
            ("-0", None),
            ("0x10", None),
            ("1_0", None),
            ("1 0", None),
            ("010", None),
            ("00", None),
            ("5\u{b}", None),
            ("5.0", None),
            ("5a", None),
            ("\u{665}", None),
        ];
        for (value, expected) in table {
            assert_eq!(length(value.as_bytes()), *expected, "{value:?}");
        }
    }
}
