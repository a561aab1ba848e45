//! Either side of a connection as a test plays it: byte for byte and step by step, without any leniency.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;

use socket2::SockRef;

use crate::front::{PATIENCE, eventually};

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Peer {
    stream: Stream,
    /// Received and not taken yet.
    ahead: Vec<u8>,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<rustls::StreamOwned<rustls::ClientConnection, TcpStream>>),
}

/// A server that the test plays: it accepts when the test says so.
#[derive(Debug)]
pub(crate) struct Server {
    listener: Listener,
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A request's or response's head as it came.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// All of it, without the empty line.
    pub(crate) text: String,
}

/// A response with its whole body.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
}

/// A chunked body, taken apart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chunked {
    pub(crate) data: Vec<u8>,
    /// How many chunks of data there were.
    pub(crate) chunks: usize,
}

impl Server {
    /// Listens on a free port.
    pub(crate) fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener
            .set_nonblocking(true)
            .expect("a non-blocking listener");
        Self {
            listener: Listener::Tcp(listener),
        }
    }

    /// Listens on a unix socket.
    pub(crate) fn bind_unix(path: &Path) -> Self {
        let listener = UnixListener::bind(path).expect("a unix socket");
        listener
            .set_nonblocking(true)
            .expect("a non-blocking listener");
        Self {
            listener: Listener::Unix(listener),
        }
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        match &self.listener {
            Listener::Tcp(listener) => listener.local_addr().expect("an address"),
            Listener::Unix(_) => panic!("a unix socket has no such address"),
        }
    }

    /// The next connection.
    #[track_caller]
    pub(crate) fn accept(&self) -> Peer {
        eventually("a connection to the server", || self.try_accept())
    }

    /// A connection that is waiting already.
    pub(crate) fn try_accept(&self) -> Option<Peer> {
        let accepted = match &self.listener {
            Listener::Tcp(listener) => listener.accept().map(|(stream, _)| Stream::Tcp(stream)),
            Listener::Unix(listener) => listener.accept().map(|(stream, _)| Stream::Unix(stream)),
        };
        match accepted {
            Ok(stream) => Some(Peer::new(stream)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("accept: {error}"),
        }
    }

    /// Fails if anybody has connected, whatever was sent then.
    #[track_caller]
    pub(crate) fn was_left_alone(&self) {
        if let Some(mut peer) = self.try_accept() {
            panic!("somebody connected and said {:?}", peer.so_far());
        }
    }
}

impl Peer {
    /// Connects to a front.
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        Self::new(Stream::Tcp(
            TcpStream::connect(addr).expect("a connection to the front"),
        ))
    }

    /// Connects to a unix socket.
    pub(crate) fn connect_unix(path: &Path) -> Self {
        Self::new(Stream::Unix(
            UnixStream::connect(path).expect("a connection to the front"),
        ))
    }

    /// Connects over TLS, and asks for `name` if it is a host's.
    ///
    /// # Errors
    /// The handshake fails.
    pub(crate) fn connect_tls(
        addr: SocketAddr,
        name: &str,
        config: Arc<rustls::ClientConfig>,
    ) -> io::Result<Self> {
        let socket = TcpStream::connect(addr).expect("a connection to the front");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let name = name.to_owned().try_into().expect("a name");
        let session = rustls::ClientConnection::new(config, name).expect("a session");
        let mut stream = rustls::StreamOwned::new(session, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self::new(Stream::Tls(Box::new(stream))))
    }

    /// The session of [`Peer::connect_tls`].
    pub(crate) fn session(&self) -> &rustls::ClientConnection {
        match &self.stream {
            Stream::Tls(stream) => &stream.conn,
            _ => panic!("no TLS"),
        }
    }

    /// The connection below the session of [`Peer::connect_tls`].
    pub(crate) fn raw(&mut self) -> &mut TcpStream {
        match &mut self.stream {
            Stream::Tls(stream) => &mut stream.sock,
            _ => panic!("no TLS"),
        }
    }

    /// An end whose other end is gone.
    pub(crate) fn of_nobody() -> Self {
        let (stream, _) = UnixStream::pair().expect("a pair of sockets");
        Self::new(Stream::Unix(stream))
    }

    fn new(stream: Stream) -> Self {
        let socket = match &stream {
            Stream::Tcp(stream) => SockRef::from(stream),
            Stream::Unix(stream) => SockRef::from(stream),
            Stream::Tls(stream) => SockRef::from(&stream.sock),
        };
        socket.set_nonblocking(false).expect("a blocking socket");
        socket
            .set_read_timeout(Some(PATIENCE))
            .expect("a read timeout");
        socket
            .set_write_timeout(Some(PATIENCE))
            .expect("a write timeout");
        if let Stream::Tcp(stream) = &stream {
            stream.set_nodelay(true).expect("TCP_NODELAY");
        }
        Self {
            stream,
            ahead: Vec::new(),
        }
    }

    /// The same connection once more, to send from another thread.
    pub(crate) fn another(&self) -> Self {
        let stream = match &self.stream {
            Stream::Tcp(stream) => Stream::Tcp(stream.try_clone().expect("a descriptor")),
            Stream::Unix(stream) => Stream::Unix(stream.try_clone().expect("a descriptor")),
            Stream::Tls(_) => panic!("a session of TLS has one end"),
        };
        Self {
            stream,
            ahead: Vec::new(),
        }
    }

    /// The socket, for its options.
    pub(crate) fn socket(&self) -> SockRef<'_> {
        match &self.stream {
            Stream::Tcp(stream) => SockRef::from(stream),
            Stream::Unix(stream) => SockRef::from(stream),
            Stream::Tls(stream) => SockRef::from(&stream.sock),
        }
    }

    /// This end's address.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        match &self.stream {
            Stream::Tcp(stream) => stream.local_addr().expect("an address"),
            Stream::Tls(stream) => stream.sock.local_addr().expect("an address"),
            Stream::Unix(_) => panic!("a unix socket has no such address"),
        }
    }

    /// The other end's address.
    pub(crate) fn peer_addr(&self) -> SocketAddr {
        match &self.stream {
            Stream::Tcp(stream) => stream.peer_addr().expect("an address"),
            Stream::Tls(stream) => stream.sock.peer_addr().expect("an address"),
            Stream::Unix(_) => panic!("a unix socket has no such address"),
        }
    }

    /// Sends all of it.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("sending");
    }

    /// Sends all of it, unless the other side does not want it.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.writer().write_all(bytes.as_ref())
    }

    /// Says that nothing more comes from this side.
    pub(crate) fn finish(&mut self) {
        let _ = self.socket().shutdown(std::net::Shutdown::Write);
    }

    pub(crate) fn writer(&mut self) -> &mut dyn Write {
        match &mut self.stream {
            Stream::Tcp(stream) => stream,
            Stream::Unix(stream) => stream,
            Stream::Tls(stream) => stream,
        }
    }

    /// Receives into `buffer` and keeps nothing.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.stream {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
            Stream::Tls(stream) => stream.read(buffer),
        }
    }

    /// Reads ahead, at least one byte; 0 at the end.
    fn fill(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 64 << 10];
        let n = match &mut self.stream {
            Stream::Tcp(stream) => stream.read(&mut buffer)?,
            Stream::Unix(stream) => stream.read(&mut buffer)?,
            Stream::Tls(stream) => stream.read(&mut buffer)?,
        };
        self.ahead.extend_from_slice(&buffer[..n]);
        Ok(n)
    }

    #[track_caller]
    fn fill_or_fail(&mut self) {
        match self.fill() {
            Ok(0) => panic!("the end after {:?}", lossy(&self.ahead)),
            Ok(_) => {}
            Err(error) => panic!("{error} after {:?}", lossy(&self.ahead)),
        }
    }

    /// The next bytes up to `marker`, which is taken too and not returned.
    #[track_caller]
    pub(crate) fn until(&mut self, marker: &[u8]) -> Vec<u8> {
        let mut searched = 0;
        loop {
            if let Some(at) = memchr::memmem::find(&self.ahead[searched..], marker) {
                let mut taken = self.take(searched + at + marker.len());
                taken.truncate(searched + at);
                return taken;
            }
            searched = self.ahead.len().saturating_sub(marker.len());
            self.fill_or_fail();
        }
    }

    /// Exactly so many bytes.
    #[track_caller]
    pub(crate) fn take(&mut self, n: usize) -> Vec<u8> {
        while self.ahead.len() < n {
            self.fill_or_fail();
        }
        let rest = self.ahead.split_off(n);
        std::mem::replace(&mut self.ahead, rest)
    }

    /// Exactly so many bytes, unless the other side closes before.
    pub(crate) fn try_take(&mut self, n: usize) -> io::Result<Vec<u8>> {
        while self.ahead.len() < n {
            if self.fill()? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.take(n))
    }

    /// The next head.
    #[track_caller]
    pub(crate) fn head(&mut self) -> Head {
        let bytes = self.until(b"\r\n\r\n");
        Head {
            text: String::from_utf8(bytes).expect("heads of tests are text"),
        }
    }

    /// A chunked body, to its end. Extensions and trailers are wrong: the front passes none on.
    #[track_caller]
    pub(crate) fn chunked(&mut self) -> Chunked {
        let mut body = Chunked::default();
        loop {
            let line = String::from_utf8(self.until(b"\r\n")).expect("a chunk size");
            let size = usize::from_str_radix(&line, 16)
                .unwrap_or_else(|_| panic!("{line:?} is no plain chunk size"));
            if size == 0 {
                assert_eq!(self.until(b"\r\n"), b"", "a trailer was passed on");
                return body;
            }
            body.chunks += 1;
            body.data.append(&mut self.take(size));
            assert_eq!(self.take(2), b"\r\n", "behind a chunk of {size}");
        }
    }

    /// The response to a request other than HEAD, with its body as its head frames it.
    #[track_caller]
    pub(crate) fn answer(&mut self) -> Answer {
        let head = self.head();
        let status = head.status();
        let body = match (
            head.field("content-length"),
            head.field("transfer-encoding"),
        ) {
            (Some(length), None) => {
                let length = length.parse().expect("a length");
                self.take(length)
            }
            (None, Some("chunked")) => self.chunked().data,
            (None, None) if matches!(status, 100..=199 | 204 | 304) => Vec::new(),
            (None, None) => self.rest(),
            both => panic!("framed by {both:?}"),
        };
        Answer { head, body }
    }

    /// Everything to the end, unless that is a reset.
    pub(crate) fn try_rest(&mut self) -> io::Result<Vec<u8>> {
        while self.fill()? > 0 {}
        Ok(std::mem::take(&mut self.ahead))
    }

    /// Everything to the end, which must not be a reset.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self
            .fill()
            .unwrap_or_else(|error| panic!("{error} after {:?}", lossy(&self.ahead)))
            > 0
        {}
        std::mem::take(&mut self.ahead)
    }

    /// Waits for the other side to close; fails if it says anything before. A reset is a close, too.
    #[track_caller]
    pub(crate) fn ends(&mut self) {
        match self.fill() {
            Ok(0) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
                ) => {}
            Ok(_) => {}
            Err(error) => panic!("not closed: {error}"),
        }
        assert!(self.ahead.is_empty(), "more came: {:?}", lossy(&self.ahead));
    }

    /// What is there now, without waiting and without taking it.
    pub(crate) fn so_far(&mut self) -> String {
        self.socket()
            .set_nonblocking(true)
            .expect("a non-blocking socket");
        while matches!(self.fill(), Ok(1..)) {}
        self.socket()
            .set_nonblocking(false)
            .expect("a blocking socket");
        lossy(&self.ahead)
    }

    /// A GET in HTTP/1.1 and its answer.
    #[track_caller]
    pub(crate) fn get(&mut self, target: &str) -> Answer {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
        self.answer()
    }
}

impl Head {
    /// A response's status.
    #[track_caller]
    pub(crate) fn status(&self) -> u16 {
        let status = self.text.split(' ').nth(1).expect("a status line");
        status.parse().expect("a status")
    }

    /// The first line.
    pub(crate) fn line(&self) -> &str {
        self.text.split("\r\n").next().unwrap_or_default()
    }

    /// The value of the first field of this name.
    pub(crate) fn field<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.fields(name).next()
    }

    /// The values of all fields of this name.
    pub(crate) fn fields<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.text
            .split("\r\n")
            .skip(1)
            .filter_map(|line| line.split_once(": "))
            .filter(move |(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// Whether it has exactly this line.
    pub(crate) fn has(&self, line: &str) -> bool {
        self.text.split("\r\n").any(|other| other == line)
    }
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head.status()
    }

    pub(crate) fn text(&self) -> String {
        lossy(&self.body)
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(2000)]).into_owned()
}

/// The letters of the alphabet, over and over: what the origin's bodies consist of.
pub(crate) fn alphabet(length: usize) -> Vec<u8> {
    let letters: Vec<u8> = (b'a'..=b'z').collect();
    let mut body = letters.repeat(length.div_ceil(letters.len()));
    body.truncate(length);
    body
}

/// A body that shows where a piece of it is missing or doubled: every eight bytes are their number.
pub(crate) fn numbered(length: usize) -> Vec<u8> {
    let mut body: Vec<u8> = (0..length.div_ceil(8) as u64)
        .flat_map(|number| (number + 0x3030_3030).to_be_bytes())
        .collect();
    body.truncate(length);
    body
}

/// Fails without printing megabytes.
#[track_caller]
pub(crate) fn assert_same(got: &[u8], wanted: &[u8], what: &str) {
    if got != wanted {
        let common = got.iter().zip(wanted).take_while(|(a, b)| a == b).count();
        panic!(
            "{what}: {} bytes came, {} were sent, the first difference is at {common}",
            got.len(),
            wanted.len()
        );
    }
}
