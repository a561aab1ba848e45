//! Request heads: found by httparse, judged here.

use super::head::{Field, Framing, HeadLimits, Span, Version};
use super::refusal::Refusal;

/// Methods that change how a message is handled; every other one passes as it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Method {
    #[default]
    Other,
    Get,
    Head,
    Options,
}

/// A request head as spans over the buffer it was parsed from. Reused from request to request: `parse` clears it.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    /// Length of the head in bytes, final CRLF included; `buffer[..len]` is the head.
    pub len: u32,
    /// The method as it came.
    pub method: Span,
    /// What the method means here.
    pub method_kind: Method,
    /// The request target as it came (`$request_uri` is it, or its path and query if it is in absolute form).
    pub target: Span,
    /// Path part of the target, never empty (in absolute form without a path: an empty span, which means `/`).
    pub path: Span,
    /// Query without its `?`, if there is a `?`.
    pub query: Option<Span>,
    /// The version of the request line.
    pub version: Version,
    /// The effective host: the authority of an absolute target, else the `Host` field's value; empty in 1.0 without one.
    /// Includes the port.
    pub host: Span,
    /// Where the body ends.
    pub framing: Framing,
    /// Whether the client keeps its connection open after the answer (1.1 without `close`; 1.0 with `keep-alive`).
    pub keep_alive: bool,
    /// `Expect: 100-continue` in a 1.1 request.
    pub expect_continue: bool,
    /// The `Upgrade` field's value if `Connection` names `upgrade` and the request is a GET without body in 1.1, not `h2c`.
    pub upgrade: Option<Span>,
    /// The value of the one `Authorization` field.
    pub authorization: Option<Span>,
    /// A `Proxy-Authorization` field is there.
    pub proxy_authorization: bool,
    /// Every field line in its order, those that are never passed on included (hop-by-hop, underscored names).
    pub fields: Vec<Field>,
}

impl RequestHead {
    /// Parses `buffer[..]`, which is exactly one head as [`super::scan::HeadScanner`] found it, into `self`.
    ///
    /// # Errors
    /// The rule that the head breaks. `self` is then of no use.
    pub fn parse(&mut self, _buffer: &[u8], _limits: &HeadLimits) -> Result<(), Refusal> {
        todo!()
    }

    /// The value of the first field called `name` (lower case; `_` matches `-` if `as_variable`), for `$http_NAME`.
    pub fn field(&self, _buffer: &[u8], _name: &str) -> Option<Span> {
        todo!()
    }
}
