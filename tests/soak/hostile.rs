//! Servers that misbehave: one does what the path says, the other goes away and comes back.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Longer than any timeout of the front that a server's silence runs into.
const STALL: Duration = Duration::from_secs(60);

/// How long a body is left unread after an answer.
const UNREAD: Duration = Duration::from_millis(500);

/// An address that nobody else can take, whether somebody listens on it or not.
pub(crate) struct Address {
    /// Bound, and never listens.
    _reserved: Socket,
    pub(crate) addr: SocketAddr,
}

impl Address {
    pub(crate) fn bind() -> io::Result<Self> {
        let reserved = bound(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let addr = reserved.local_addr()?.as_socket();
        Ok(Self {
            _reserved: reserved,
            addr: addr.expect("an IP address"),
        })
    }

    /// Listens until the listener is dropped; from then on connections are refused.
    fn listen(&self) -> io::Result<TcpListener> {
        let socket = bound(self.addr)?;
        socket.listen(1024)?;
        TcpListener::from_std(socket.into())
    }
}

fn bound(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}

/// Serves until it is dropped.
pub(crate) async fn misbehave(address: Address) -> io::Result<()> {
    let listener = address.listen()?;
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        connections.spawn_local(serve(stream));
        while connections.try_join_next().is_some() {}
    }
}

/// Serves for some seconds and is gone for some, its connections with it, again and again until it is dropped.
pub(crate) async fn come_and_go(address: Address, mut rng: SmallRng) -> io::Result<()> {
    loop {
        let listener = address.listen()?;
        let mut connections = JoinSet::new();
        let up = tokio::time::sleep(Duration::from_millis(rng.random_range(1_000..5_000)));
        tokio::pin!(up);
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    connections.spawn_local(serve(accepted?.0));
                }
                () = &mut up => break,
            }
            while connections.try_join_next().is_some() {}
        }
        drop(listener);
        connections.shutdown().await;
        tokio::time::sleep(Duration::from_millis(rng.random_range(1_000..3_000))).await;
    }
}

/// Everything that it does on a connection. An error is the front's closing, which ends it.
async fn serve(stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut peer = Peer {
        stream,
        ahead: Vec::new(),
    };
    while let Ok(Some(head)) = peer.head().await {
        match peer.answer(&head).await {
            Ok(Next::Request) => {}
            Ok(Next::Close) | Err(_) => break,
            Ok(Next::Reset) => {
                let _ = peer.stream.set_zero_linger();
                break;
            }
        }
    }
}

enum Next {
    Request,
    Close,
    Reset,
}

struct Peer {
    stream: TcpStream,
    ahead: Vec<u8>,
}

impl Peer {
    async fn head(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.ahead, b"\r\n\r\n") {
                let head: Vec<u8> = self.ahead.drain(..at + 4).collect();
                return Ok(Some(String::from_utf8_lossy(&head).into_owned()));
            }
            if self.stream.read_buf(&mut self.ahead).await? == 0 {
                return Ok(None);
            }
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Waits until the front has had enough.
    async fn stall(&mut self) -> io::Result<Next> {
        let gone =
            async { while matches!(self.stream.read_buf(&mut self.ahead).await, Ok(1..)) {} };
        let _ = tokio::time::timeout(STALL, gone).await;
        Ok(Next::Close)
    }

    async fn answer(&mut self, head: &str) -> io::Result<Next> {
        const BEGINNING: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n";
        let path = head.split(' ').nth(1).unwrap_or_default();
        match path {
            "/reset-at-once" => return Ok(Next::Reset),
            "/close-at-once" => return Ok(Next::Close),
            "/reset-mid-answer" | "/close-mid-answer" | "/stall-mid-answer" => {
                self.send(BEGINNING).await?;
                self.send(&[b'x'; 40_000]).await?;
                return match path {
                    "/reset-mid-answer" => Ok(Next::Reset),
                    "/close-mid-answer" => Ok(Next::Close),
                    _ => self.stall().await,
                };
            }
            "/stall" => return self.stall().await,
            "/garbage" => self.send(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).await?,
            "/garbage-head" => {
                self.send(b"HTTP/1.1 200 OK\r\nno colon in this line\r\n\r\n")
                    .await?;
            }
            "/two-lengths" => {
                self.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc")
                    .await?;
            }
            "/length-and-coding" => {
                self.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
                    .await?;
            }
            "/bad-chunk" => {
                self.send(
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",
                )
                .await?;
            }
            "/interim-forever" => {
                let interim = "HTTP/1.1 102 Processing\r\n\r\n".repeat(20);
                self.send(interim.as_bytes()).await?;
            }
            "/endless-head" => {
                self.send(b"HTTP/1.1 200 OK\r\n").await?;
                for _ in 0..1_000 {
                    self.send(&[b"X-Filler: ", &[b'f'; 1_000][..], b"\r\n"].concat())
                        .await?;
                }
            }
            "/unasked-101" => {
                self.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
                    .await?;
            }
            "/extra" => {
                self.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nX-Identity: EXAMPLE\\user0\r\nContent-Length: 5\r\n\r\nstray")
                    .await?;
            }
            "/bytewise" => {
                for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n12345678901234567890" {
                    self.send(&[*byte]).await?;
                    tokio::task::yield_now().await;
                }
                return Ok(Next::Request);
            }
            "/early" => {
                self.send(
                    b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
                )
                .await?;
                tokio::time::sleep(UNREAD).await;
                return Ok(Next::Close);
            }
            "/reset-mid-upload" | "/close-mid-upload" => {
                while self.ahead.len() < 20_000 && self.stream.read_buf(&mut self.ahead).await? > 0
                {
                }
                return match path {
                    "/reset-mid-upload" => Ok(Next::Reset),
                    _ => Ok(Next::Close),
                };
            }
            "/challenge" => {
                self.send(b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM TlRMTVNTUAACAAAA\r\nContent-Length: 0\r\n\r\n")
                    .await?;
                return Ok(Next::Request);
            }
            _ => {
                self.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nanonymous")
                    .await?;
                return Ok(Next::Request);
            }
        }
        // The front closes; this side must not turn that into a reset that overtakes what was sent.
        self.stall().await
    }
}
