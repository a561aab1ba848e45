//! A socket with what was read ahead from it; heads and bodies as both sides of HTTP/1.1 read them.

use std::io::{self, ErrorKind};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

const MAX_HEAD_BYTES: usize = 512 * 1024;
const MAX_LINE_BYTES: usize = 16 * 1024;

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Wire<S = TcpStream> {
    stream: S,
    ahead: BytesMut,
}

/// How a body ends, and what is left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// It has ended.
    Ended,
    /// After so many bytes.
    Length(u64),
    /// With the last chunk; so many bytes are left of the present one.
    Chunked(u64),
    /// With the connection.
    UntilClose,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self::over(stream))
    }

    /// Makes the close a reset.
    pub(crate) fn reset_on_close(&self) -> io::Result<()> {
        self.stream.set_zero_linger()
    }

    /// The local end's address.
    pub(crate) fn local_addr(&self) -> io::Result<std::net::SocketAddr> {
        self.stream.local_addr()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) fn over(stream: S) -> Self {
        Self {
            stream,
            ahead: BytesMut::new(),
        }
    }

    /// The next head with its empty line; `None` if the peer closed before its first byte.
    pub(crate) async fn head(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(end) = self
                .ahead
                .windows(4)
                .position(|window| window == b"\r\n\r\n")
            {
                return Ok(Some(self.ahead.split_to(end + 4).freeze()));
            }
            if self.ahead.len() > MAX_HEAD_BYTES {
                return Err(invalid("head too large"));
            }
            if self.fill(4096).await? == 0 {
                return match self.ahead.is_empty() {
                    true => Ok(None),
                    false => Err(ErrorKind::UnexpectedEof.into()),
                };
            }
        }
    }

    /// The next bytes of a body; `None` after its end.
    pub(crate) async fn body_piece(&mut self, framing: &mut Framing) -> io::Result<Option<Bytes>> {
        if *framing == Framing::Chunked(0) {
            match self.chunk_size().await? {
                0 => {
                    while !self.line().await?.is_empty() {}
                    *framing = Framing::Ended;
                }
                size => *framing = Framing::Chunked(size),
            }
        }
        let left = match *framing {
            Framing::Ended | Framing::Length(0) => return Ok(None),
            Framing::Length(left) | Framing::Chunked(left) => left,
            Framing::UntilClose => u64::MAX,
        };
        if self.ahead.is_empty() && self.fill(65_536).await? == 0 {
            return match *framing {
                Framing::UntilClose => Ok(None),
                _ => Err(ErrorKind::UnexpectedEof.into()),
            };
        }
        let taken =
            usize::try_from(left).map_or(self.ahead.len(), |left| left.min(self.ahead.len()));
        let piece = self.ahead.split_to(taken).freeze();
        match framing {
            Framing::Length(left) => *left -= taken as u64,
            Framing::Chunked(left) => {
                *left -= taken as u64;
                if *left == 0 && !self.line().await?.is_empty() {
                    return Err(invalid("chunk longer than it says"));
                }
            }
            Framing::Ended | Framing::UntilClose => {}
        }
        Ok(Some(piece))
    }

    /// Waits for the peer to close, or for bytes to read ahead. False if it closed.
    pub(crate) async fn still_open(&mut self) -> bool {
        !self.ahead.is_empty() || matches!(self.fill(4096).await, Ok(1..))
    }

    /// Reads ahead. Nothing is lost if this is dropped while it waits.
    async fn fill(&mut self, room_bytes: usize) -> io::Result<usize> {
        self.ahead.reserve(room_bytes);
        self.stream.read_buf(&mut self.ahead).await
    }

    async fn chunk_size(&mut self) -> io::Result<u64> {
        let line = self.line().await?;
        let digits = line.split(|&byte| byte == b';').next().unwrap_or_default();
        std::str::from_utf8(digits)
            .ok()
            .filter(|digits| !digits.starts_with('+'))
            .and_then(|digits| u64::from_str_radix(digits, 16).ok())
            .ok_or_else(|| invalid("chunk size"))
    }

    async fn line(&mut self) -> io::Result<Bytes> {
        loop {
            if let Some(end) = self.ahead.windows(2).position(|window| window == b"\r\n") {
                let mut line = self.ahead.split_to(end + 2);
                line.truncate(end);
                return Ok(line.freeze());
            }
            if self.ahead.len() > MAX_LINE_BYTES {
                return Err(invalid("line too long"));
            }
            if self.fill(4096).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Sends all of it.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Sends one chunk; an empty one ends the body.
    pub(crate) async fn send_chunk(&mut self, data: &[u8]) -> io::Result<()> {
        let head = format!("{:x}\r\n", data.len());
        self.send(&[head.as_bytes(), data, b"\r\n"].concat()).await
    }

    /// Says that nothing more comes from this side.
    pub(crate) async fn finish(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }
}

/// Fields of a head by name, whatever the case.
#[derive(Clone, Debug, Default)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// Takes over what httparse found; bytes that are no UTF-8 are replaced.
    pub(crate) fn new(parsed: &[httparse::Header<'_>]) -> Self {
        let field = |header: &httparse::Header<'_>| {
            (
                header.name.to_owned(),
                String::from_utf8_lossy(header.value).into_owned(),
            )
        };
        Self(parsed.iter().map(field).collect())
    }

    /// The first field of this name.
    pub fn first(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// Every field of this name, in order.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Whether a list such as `Connection` names `word`.
    pub fn names(&self, list: &str, word: &str) -> bool {
        self.all(list)
            .flat_map(|value| value.split(','))
            .any(|item| item.trim().eq_ignore_ascii_case(word))
    }

    /// The framing that `Transfer-Encoding` and `Content-Length` give; `None` if they name none, an error if both do.
    pub(crate) fn framing(&self) -> io::Result<Option<Framing>> {
        let mut lengths = self.all("content-length");
        match (
            self.first("transfer-encoding"),
            lengths.next(),
            lengths.next(),
        ) {
            (None, None, _) => Ok(None),
            (Some(coding), None, _) if coding.eq_ignore_ascii_case("chunked") => {
                Ok(Some(Framing::Chunked(0)))
            }
            (None, Some(length), None) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
                length
                    .parse()
                    .map(|length| Some(Framing::Length(length)))
                    .map_err(|_| invalid("Content-Length"))
            }
            _ => Err(invalid("the length of the body is ambiguous")),
        }
    }
}

pub(crate) fn invalid(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}
