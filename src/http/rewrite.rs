//! Head rewriting: a head goes on as ranges of the bytes that came, with the few changed fields between them, so that
//! it can be sent by one vectored call without being rebuilt.

use std::io::IoSlice;

use smallvec::SmallVec;

use super::head::Span;
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
    len: usize,
}

/// A list of slices for a vectored send.
pub type Slices<'a> = SmallVec<[IoSlice<'a>; 24]>;

impl Rewrite {
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
    pub fn head(&mut self, _span: Span) {
        todo!()
    }

    /// Appends a constant.
    pub fn constant(&mut self, _bytes: &'static [u8]) {
        todo!()
    }

    /// Appends what `write` adds to the buffer it is given.
    pub fn own(&mut self, _write: impl FnOnce(&mut Vec<u8>)) {
        todo!()
    }

    /// The pieces as slices, without their first `skip` bytes; `head` is the buffer that the spans belong to.
    pub fn slices<'a>(&'a self, _head: &'a [u8], _skip: usize, _out: &mut Slices<'a>) {
        todo!()
    }
}

/// What becomes of the request's target.
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
/// for which `replaced` is false, in their order and case; then `Transfer-Encoding: chunked` or `Content-Length` if there
/// is a body framing; then what `add` writes (complete lines `Name: value\r\n`), then the empty line.
///
/// `Host`, `Connection`, `Upgrade`, `TE`, `Transfer-Encoding` and the other hop-by-hop fields are never copied: `add` writes them.
/// `Content-Length` goes on as it came. `Expect: 100-continue` passes.
pub fn request(
    _out: &mut Rewrite,
    _head: &RequestHead,
    _buffer: &[u8],
    _target: Target<'_>,
    _replaced: impl Fn(&[u8]) -> bool,
    _add: impl FnOnce(&mut Vec<u8>),
) {
    todo!()
}

/// Writes the response head that goes to the client: `HTTP/1.1` and the server's status and reason, the fields that pass
/// (not hop-by-hop, not those for which `hidden` is true), the framing's field, then what `add` writes, then the empty line.
/// `Transfer-Encoding: chunked` is written only if `chunked` (a client of 1.0 gets the body unframed, until the close).
/// For 1xx: no framing field. `Content-Length` goes on as it came, also for HEAD and 304 where it frames nothing.
pub fn response(
    _out: &mut Rewrite,
    _head: &ResponseHead,
    _buffer: &[u8],
    _chunked: bool,
    _hidden: impl Fn(&[u8]) -> bool,
    _add: impl FnOnce(&mut Vec<u8>),
) {
    todo!()
}
