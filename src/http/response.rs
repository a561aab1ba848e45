//! Response heads: found by httparse, judged here.

use super::head::{Field, Framing, HeadLimits, Span, Version};
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
    /// Parses `buffer[..]`, which is exactly one head as [`super::scan::HeadScanner`] found it, into `self`.
    ///
    /// # Errors
    /// The rule that the head breaks. `self` is then of no use.
    pub fn parse(
        &mut self,
        _buffer: &[u8],
        _limits: &HeadLimits,
        _asked: Asked,
    ) -> Result<(), Refusal> {
        todo!()
    }

    /// The value of the first field called `name` (lower case), for `$upstream_http_NAME`.
    pub fn field(&self, _buffer: &[u8], _name: &str) -> Option<Span> {
        todo!()
    }
}
