//! Head rewriting: a head goes on as ranges of the bytes that came, with the few changed fields between them, so that
//! it can be sent by one vectored call without being rebuilt.

use std::io::IoSlice;

use smallvec::SmallVec;

use super::head::{Fate, Field, Framing, Name, Span, Version};
use super::request::RequestHead;
use super::response::ResponseHead;

/// One piece of an outgoing head.
#[derive(Clone, Copy, Debug)]
enum Piece {
    /// Bytes of the head that came in.
    Head(Span),
    /// Bytes of [`Rewrite::own`].
    Own(Span),
    /// A constant.
    Static(&'static [u8]),
}

/// An outgoing head as a list of pieces; neighbours in the same buffer are one piece. Reused from message to message.
#[derive(Clone, Debug, Default)]
pub struct Rewrite {
    pieces: Vec<Piece>,
    own: Vec<u8>,
    // the sum of the pieces' lengths; none of them is empty
    len: usize,
}

/// A list of slices for a vectored send.
pub type Slices<'a> = SmallVec<[IoSlice<'a>; 24]>;

impl Rewrite {
    /// Nothing written yet.
    pub const EMPTY: Self = Self {
        pieces: Vec::new(),
        own: Vec::new(),
        len: 0,
    };

    /// Forgets everything, and keeps the allocations.
    pub fn clear(&mut self) {
        self.pieces.clear();
        self.own.clear();
        self.len = 0;
    }

    /// Length of the outgoing head in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends bytes of the head that came in.
    pub fn head(&mut self, span: Span) {
        if span.is_empty() {
            return;
        }
        self.len += span.len();
        match self.pieces.last_mut() {
            Some(Piece::Head(last)) if last.end == span.start => last.end = span.end,
            _ => self.pieces.push(Piece::Head(span)),
        }
    }

    /// Appends a constant.
    pub fn constant(&mut self, bytes: &'static [u8]) {
        if !bytes.is_empty() {
            self.len += bytes.len();
            self.pieces.push(Piece::Static(bytes));
        }
    }

    /// Appends what `write` adds to the buffer it is given.
    pub fn own(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.own.len();
        write(&mut self.own);
        debug_assert!(self.own.len() >= start, "only added to");
        let span = Span::new(start, self.own.len());
        if span.is_empty() {
            return;
        }
        self.len += span.len();
        match self.pieces.last_mut() {
            Some(Piece::Own(last)) if last.end == span.start => last.end = span.end,
            _ => self.pieces.push(Piece::Own(span)),
        }
    }

    /// The target of the request line that was written.
    pub fn target(&self, head: &[u8]) -> Vec<u8> {
        let mut slices = Slices::new();
        self.slices(head, 0, &mut slices);
        let bytes = slices.iter().flat_map(|slice| slice.iter().copied());
        bytes
            .skip_while(|&b| b != b' ')
            .skip(1)
            .take_while(|&b| b != b' ')
            .collect()
    }

    /// Appends the pieces as slices to `out`, without their first `skip` bytes; `head` is the buffer that the spans
    /// belong to.
    pub fn slices<'a>(&'a self, head: &'a [u8], skip: usize, out: &mut Slices<'a>) {
        let mut skip = skip;
        for piece in &self.pieces {
            let bytes = match piece {
                Piece::Head(span) => span.of(head),
                Piece::Own(span) => span.of(&self.own),
                Piece::Static(bytes) => bytes,
            };
            if skip < bytes.len() {
                out.push(IoSlice::new(&bytes[skip..]));
            }
            skip = skip.saturating_sub(bytes.len());
        }
    }
}

/// What becomes of the request's target. Bytes that end a target early or that a client may not send in one are
/// percent-encoded in what is given here.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// Path and query as they came (an absolute form loses its scheme and authority, RFC 9112 section 3.2.1).
    AsItCame,
    /// The first `prefix` bytes of the path are replaced by `with`; the rest of path and query follow as they came.
    ReplacePrefix {
        /// Bytes of the path to drop.
        prefix: usize,
        /// What takes their place.
        with: &'a [u8],
    },
    /// Wholly replaced.
    Whole(&'a [u8]),
}

/// Writes the request head that goes upstream: request line in HTTP/1.1, the fields that pass (rules 10, 18, 19), those
/// for which `replaced` is false, in their order and case; then `Transfer-Encoding: chunked` if the body is chunked;
/// then what `add` writes (complete lines `Name: value\r\n`), then the empty line. Clears `out` first.
///
/// `Host`, `Connection`, `Upgrade`, `TE`, `Transfer-Encoding` and the other hop-by-hop fields are never copied: `add` writes them.
/// `Content-Length` goes on as it came, and `replaced` is not asked about it: it frames the body. `Expect: 100-continue`
/// passes. `replaced` is given names as they came, and only those of fields that would pass.
pub fn request(
    out: &mut Rewrite,
    head: &RequestHead,
    buffer: &[u8],
    target: Target<'_>,
    replaced: impl Fn(&[u8]) -> bool,
    add: impl FnOnce(&mut Vec<u8>),
) {
    out.clear();
    request_line(out, head, buffer, target);
    let framed = head.framing != Framing::None;
    fields(out, &head.fields, buffer, framed, replaced);
    finish(out, head.framing == Framing::Chunked, add);
}

/// Writes the response head that goes to the client: `HTTP/1.1` and the server's status and reason, the fields that pass
/// (not hop-by-hop, not those for which `hidden` is true), the framing's field, then what `add` writes, then the empty line.
/// Clears `out` first.
///
/// `Transfer-Encoding: chunked` is written only if `chunked` and the body came chunked (a client of 1.0 gets the body
/// unframed, until the close). `Content-Length` goes on as it came, also for HEAD and 304 where it frames nothing, but not
/// for 1xx and 204, where clients might believe it; `hidden` is not asked about it where it frames the body.
///
/// A field with a changed value (`Location` under `proxy_redirect`) is one that `hidden` says yes to and `add` writes.
pub fn response(
    out: &mut Rewrite,
    head: &ResponseHead,
    buffer: &[u8],
    chunked: bool,
    hidden: impl Fn(&[u8]) -> bool,
    add: impl FnOnce(&mut Vec<u8>),
) {
    out.clear();
    let status_len = b"200".len();
    let has_blank = head.status_and_reason.len() > status_len;
    if has_blank && head.version == Version::Http11 {
        out.head(Span::new(0, fields_start(&head.fields, head.len)));
    } else {
        out.constant(b"HTTP/1.1 ");
        out.head(head.status_and_reason);
        // RFC 9112 section 4: the blank is there even where the reason is missing
        out.constant(if has_blank { b"\r\n" } else { b" \r\n" });
    }
    let framed = matches!(head.framing, Framing::Length(_));
    fields(out, &head.fields, buffer, framed, hidden);
    finish(out, chunked && head.framing == Framing::Chunked, add);
}

fn request_line(out: &mut Rewrite, head: &RequestHead, buffer: &[u8], target: Target<'_>) {
    let target_end = head.target.end as usize;
    let version_start = target_end..fields_start(&head.fields, head.len);
    let rest = |path_start: usize| {
        // path and query follow each other, but for an absolute target with a query and no path
        let path = Span::new(path_start, head.path.end as usize);
        let query = head
            .query
            .map(|query| Span::new(query.start as usize - 1, query.end as usize));
        (path, query)
    };
    match target {
        Target::AsItCame => {
            out.head(Span::new(0, head.method.end as usize + 1));
            let (path, query) = rest(head.path.start as usize);
            out.head(path);
            out.head(query.unwrap_or_default());
        }
        Target::ReplacePrefix { prefix, with } => {
            let start = head.path.start as usize + prefix.min(head.path.len());
            let (path, query) = rest(start);
            out.own(|own| {
                own.extend_from_slice(head.method.of(buffer));
                own.push(b' ');
                if with.first().or(path.of(buffer).first()) != Some(&b'/') {
                    own.push(b'/');
                }
                push_target(own, with);
            });
            out.head(path);
            out.head(query.unwrap_or_default());
        }
        Target::Whole(whole) => out.own(|own| {
            own.extend_from_slice(head.method.of(buffer));
            own.push(b' ');
            if whole.first() != Some(&b'/') {
                own.push(b'/');
            }
            push_target(own, whole);
        }),
    }
    match head.version {
        Version::Http11 => out.head(Span::new(version_start.start, version_start.end)),
        Version::Http10 => out.constant(b" HTTP/1.1\r\n"),
    }
}

/// Appends bytes that the configuration made, of decoded variables perhaps, so that they stay one target.
fn push_target(own: &mut Vec<u8>, target: &[u8]) {
    for &byte in target {
        // A number sign and a backslash would be refused from a client (rule 13).
        if byte > b' ' && !matches!(byte, 0x7f | b'#' | b'\\') {
            own.push(byte);
        } else {
            let digit = |value: u8| b"0123456789ABCDEF"[usize::from(value & 0xf)];
            own.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte)]);
        }
    }
}

/// Where the field lines begin, or the empty line if there are none.
fn fields_start(fields: &[Field], head_len: u32) -> usize {
    match fields.first() {
        Some(field) => field.line.start as usize,
        None => head_len as usize - b"\r\n".len(),
    }
}

/// Appends the fields that pass and for which `left_out` is false; a `Content-Length` that frames is not asked about.
fn fields(
    out: &mut Rewrite,
    fields: &[Field],
    buffer: &[u8],
    framed: bool,
    left_out: impl Fn(&[u8]) -> bool,
) {
    for field in fields {
        if field.fate != Fate::Passes {
            continue;
        }
        let frames = framed && field.known == Name::ContentLength;
        if frames || !left_out(field.name.of(buffer)) {
            // Some readers take only spaces for blanks there, and would have no length.
            if field.known == Name::ContentLength && field.line.of(buffer).contains(&b'\t') {
                out.head(field.name);
                out.constant(b": ");
                out.head(field.value);
                out.constant(b"\r\n");
            } else {
                out.head(field.line);
            }
        }
    }
}

fn finish(out: &mut Rewrite, chunked: bool, add: impl FnOnce(&mut Vec<u8>)) {
    out.own(|own| {
        if chunked {
            own.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        add(own);
        own.extend_from_slice(b"\r\n");
    });
}

#[cfg(test)]
mod tests;
