//! What request and response heads share: spans over the buffer, fields, framing.

/// A range of bytes in the buffer that a head was parsed from. `start <= end <= buffer length`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Offset behind the last byte.
    pub end: u32,
}

impl Span {
    /// The span's bytes in the buffer it was made for.
    pub fn of(self, buffer: &[u8]) -> &[u8] {
        &buffer[self.start as usize..self.end as usize]
    }

    /// Length in bytes.
    pub fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether the span has no bytes.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// The field names that the front itself has to recognise; everything else is `Other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // each variant is the field of that name
pub enum Name {
    Other,
    Authorization,
    Connection,
    ContentLength,
    Cookie,
    Date,
    Expect,
    Host,
    KeepAlive,
    Location,
    PersistentAuth,
    ProxyAuthorization,
    ProxyConnection,
    Refresh,
    Server,
    Te,
    Trailer,
    TransferEncoding,
    Upgrade,
    Via,
    WwwAuthenticate,
}

/// One field line of a head.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The whole line with its CRLF.
    pub line: Span,
    /// The name as it came.
    pub name: Span,
    /// The value without the blanks around it.
    pub value: Span,
    /// Which field this is, if the front cares.
    pub known: Name,
}

/// The two versions that are let through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    #[default]
    Http11,
}

/// How the end of a body is known (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    #[default]
    None,
    /// `Content-Length`, in bytes; 0 is possible.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// A response that ends with the connection.
    UntilClose,
}

/// Sizes a head may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of one line, the request line included.
    pub line: usize,
    /// Bytes of the whole head.
    pub total: usize,
    /// Number of field lines.
    pub fields: usize,
    /// Fields with an underscore in their name are passed on (`underscores_in_headers on`) instead of dropped.
    pub underscores: bool,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self {
            line: 64 << 10,
            total: 64 << 10,
            fields: 100,
            underscores: false,
        }
    }
}
