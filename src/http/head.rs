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
    /// The span `start..end` of a buffer whose length fits into 32 bits, which the parsers check first.
    pub(super) fn new(start: usize, end: usize) -> Self {
        debug_assert!(start <= end && u32::try_from(end).is_ok());
        Self {
            start: start as u32,
            end: end as u32,
        }
    }

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
    Http2Settings,
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

impl Name {
    /// Which field a name is, compared without regard to case.
    pub fn of(name: &[u8]) -> Self {
        let Some(first) = name.first() else {
            return Self::Other;
        };
        // Length and first letter tell them apart.
        let (candidate, known): (&[u8], Self) = match (name.len(), first.to_ascii_lowercase()) {
            (2, b't') => (b"te", Self::Te),
            (3, b'v') => (b"via", Self::Via),
            (4, b'h') => (b"host", Self::Host),
            (4, b'd') => (b"date", Self::Date),
            (6, b'c') => (b"cookie", Self::Cookie),
            (6, b'e') => (b"expect", Self::Expect),
            (6, b's') => (b"server", Self::Server),
            (7, b'u') => (b"upgrade", Self::Upgrade),
            (7, b't') => (b"trailer", Self::Trailer),
            (7, b'r') => (b"refresh", Self::Refresh),
            (8, b'l') => (b"location", Self::Location),
            (10, b'c') => (b"connection", Self::Connection),
            (10, b'k') => (b"keep-alive", Self::KeepAlive),
            (13, b'a') => (b"authorization", Self::Authorization),
            (14, b'c') => (b"content-length", Self::ContentLength),
            (14, b'h') => (b"http2-settings", Self::Http2Settings),
            (15, b'p') => (b"persistent-auth", Self::PersistentAuth),
            (16, b'w') => (b"www-authenticate", Self::WwwAuthenticate),
            (16, b'p') => (b"proxy-connection", Self::ProxyConnection),
            (17, b't') => (b"transfer-encoding", Self::TransferEncoding),
            (19, b'p') => (b"proxy-authorization", Self::ProxyAuthorization),
            _ => return Self::Other,
        };
        if name.eq_ignore_ascii_case(candidate) {
            known
        } else {
            Self::Other
        }
    }
}

/// What becomes of a field line when its head goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// It goes on as it came.
    #[default]
    Passes,
    /// It is for this connection only, or the front writes its own in its place (rules 18 and 19).
    Stays,
    /// It is treated as if it were not there: its name is one that nginx ignores (rule 10).
    Ignored,
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
    /// Whether it goes on.
    pub fate: Fate,
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
    /// Request fields with an underscore in their name are passed on (`underscores_in_headers on`) instead of dropped.
    /// Those that resemble a field the front knows are dropped all the same.
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

/// Whether a byte may stand in a token (RFC 9110 section 5.6.2).
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Bytes that may stand in the name of a field that nginx does not ignore: letters, digits and `-`.
pub(super) static PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        plain[byte] = (byte as u8).is_ascii_alphanumeric() || byte as u8 == b'-';
        byte += 1;
    }
    plain
};

/// Whether a byte may stand in a field value: no control byte but the tab.
pub(super) fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}
