//! One connection: read a head, decide about its credentials, do what the path says, again.

use std::fmt::Write;
use std::io;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::net::TcpStream;

use super::page::{Page, is_private};
use super::{Live, LogEntry, LoginPaths};
use crate::login::{Decision, Login, Realm};
use crate::wire::{Framing, Headers, Wire, invalid};

const MAX_FIELDS: usize = 256;

/// Serves a connection until either side closes it.
pub(super) async fn serve(stream: TcpStream, number: u64, live: Live) {
    let Ok(wire) = Wire::new(stream) else { return };
    let mut connection = Connection {
        wire,
        number,
        live,
        login: Login::default(),
    };
    // An error here is the peer's: it left, or sent what is no HTTP. Closing is all the answer there is.
    let _ = connection.requests().await;
    let _ = connection.wire.finish().await;
    // Closing with bytes unread would reset the connection, and the peer might lose the answer by it.
    let mut rest = Framing::UntilClose;
    let drain = async { while let Ok(Some(_)) = connection.wire.body_piece(&mut rest).await {} };
    let _ = tokio::time::timeout(Duration::from_secs(1), drain).await;
}

struct Connection {
    wire: Wire,
    number: u64,
    live: Live,
    login: Login,
}

/// Whether another request may follow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    KeepAlive,
    Close,
}

struct Request {
    head: bytes::Bytes,
    method: String,
    target: String,
    /// HTTP/1.1, not 1.0.
    is_1_1: bool,
    headers: Headers,
    body: Framing,
    /// The answer is the last one, whatever the client would like.
    last: bool,
}

/// As whom a request is served, and what the login adds to its answer.
#[derive(Default)]
struct Caller {
    identity: Option<String>,
    login_fields: String,
}

/// An answer that is written in one piece.
struct Answer<'a> {
    status: u16,
    /// Whole lines.
    fields: String,
    body: &'a [u8],
}

impl Connection {
    async fn requests(&mut self) -> io::Result<()> {
        while let Some(head) = self.next_head().await? {
            let request = match Request::parse(head) {
                Ok(request) => request,
                Err(error) => {
                    self.wire.send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await?;
                    return Err(error);
                }
            };
            if self.answer(request).await? == Next::Close {
                break;
            }
        }
        Ok(())
    }

    async fn next_head(&mut self) -> io::Result<Option<bytes::Bytes>> {
        let Self { wire, live, .. } = self;
        tokio::select! {
            head = wire.head() => head,
            () = live.0.close_idle.notified() => Ok(None),
        }
    }

    async fn answer(&mut self, mut request: Request) -> io::Result<Next> {
        let shared = &self.live.0;
        let decision = self
            .login
            .request(request.headers.first("authorization"), &shared.realm);
        let wanted = shared.login == LoginPaths::Everything || is_private(&request.target);
        let caller = match decision {
            Decision::Continue(challenge) => Err(format!("WWW-Authenticate: {challenge}\r\n")),
            Decision::Refused => Err(shared.realm.offers()),
            Decision::AsBefore if wanted && self.login.identity().is_none() => {
                Err(shared.realm.offers())
            }
            Decision::AsBefore => Ok(Caller {
                identity: self.login.identity().map(str::to_owned),
                login_fields: String::new(),
            }),
            Decision::LoggedIn {
                identity,
                proof,
                persistent,
            } => {
                let mut login_fields = format!("Persistent-Auth: {persistent}\r\n");
                if let Some(proof) = proof {
                    push(
                        &mut login_fields,
                        format_args!("WWW-Authenticate: {proof}\r\n"),
                    );
                }
                Ok(Caller {
                    identity: Some(identity),
                    login_fields,
                })
            }
        };
        shared.record(LogEntry {
            connection: self.number,
            identity: caller
                .as_ref()
                .ok()
                .and_then(|caller| caller.identity.clone()),
            path: request.target.clone(),
        });
        match caller {
            Ok(caller) => self.page(&mut request, &caller).await,
            Err(fields) => {
                self.discard_body(&mut request).await?;
                let answer = Answer {
                    status: 401,
                    fields,
                    body: b"log in\n",
                };
                self.send(&request, &Caller::default(), answer).await
            }
        }
    }

    async fn page(&mut self, request: &mut Request, caller: &Caller) -> io::Result<Next> {
        let name = caller.identity.as_deref().unwrap_or("anonymous");
        let page = Page::at(&request.target);
        if !page.reads_the_body() {
            self.discard_body(request).await?;
        }
        match page {
            Page::Early(status) => {
                self.send(
                    request,
                    caller,
                    Answer::with_status(status, &self.live.0.realm),
                )
                .await?;
                while self.wire.body_piece(&mut request.body).await?.is_some() {}
                Ok(request.next())
            }
            Page::EarlyClose(status) | Page::NoContinue(status) => {
                request.last = true;
                self.send(
                    request,
                    caller,
                    Answer::with_status(status, &self.live.0.realm),
                )
                .await
            }
            Page::Drop => Ok(Next::Close),
            Page::Mirror => self.mirror(request, caller).await,
            Page::Echo => {
                let echo = self.echo(request).await?;
                self.send(request, caller, Answer::text(&echo)).await
            }
            Page::Home => {
                let text = format!(
                    "Hello {name}. This is connection {} of {}.\n",
                    self.number, self.live.0.name
                );
                self.send(request, caller, Answer::text(text.as_bytes()))
                    .await
            }
            Page::Whoami => {
                self.send(request, caller, Answer::text(name.as_bytes()))
                    .await
            }
            Page::Bytes(length) => {
                self.send_head(
                    request,
                    caller,
                    200,
                    &format!("Content-Length: {length}\r\n"),
                )
                .await?;
                self.send_pattern(request, length).await?;
                Ok(request.next())
            }
            Page::Chunked(length) if request.is_1_1 => {
                self.send_head(request, caller, 200, "Transfer-Encoding: chunked\r\n")
                    .await?;
                if request.has_answer_body() {
                    for piece in pattern(length) {
                        self.wire.send_chunk(piece).await?;
                    }
                    self.wire.send_chunk(b"").await?;
                }
                Ok(request.next())
            }
            Page::Close(length) | Page::Chunked(length) => {
                request.last = true;
                self.send_head(request, caller, 200, "").await?;
                self.send_pattern(request, length).await?;
                Ok(Next::Close)
            }
            Page::Cut(length) => {
                self.send_head(
                    request,
                    caller,
                    200,
                    &format!("Content-Length: {length}\r\n"),
                )
                .await?;
                self.send_pattern(request, length / 2).await?;
                Ok(Next::Close)
            }
            Page::Headers(length) => {
                let mut fields = String::new();
                while fields.len() < length {
                    let number = fields.len();
                    push(
                        &mut fields,
                        format_args!("X-Filler-{number}: {}\r\n", "x".repeat(1000)),
                    );
                }
                self.send(
                    request,
                    caller,
                    Answer {
                        status: 200,
                        fields,
                        body: b"",
                    },
                )
                .await
            }
            Page::Status(status) => {
                self.send(
                    request,
                    caller,
                    Answer::with_status(status, &self.live.0.realm),
                )
                .await
            }
            Page::Slow(delay) => match self.gone_within(delay).await {
                true => Ok(Next::Close),
                false => self.send(request, caller, Answer::text(b"at last\n")).await,
            },
            Page::Linger(delay) => {
                self.send(request, caller, Answer::text(b"for a while\n"))
                    .await?;
                tokio::time::sleep(delay).await;
                Ok(Next::Close)
            }
            Page::Upgrade => self.upgrade(request, caller).await,
            Page::Redirect => {
                let host = request.headers.first("host").unwrap_or("localhost");
                let fields = format!("Location: http://{host}/whoami\r\n");
                self.send(
                    request,
                    caller,
                    Answer {
                        status: 302,
                        fields,
                        body: b"",
                    },
                )
                .await
            }
            Page::Hints => {
                if request.is_1_1 {
                    self.wire
                        .send(
                            b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n",
                        )
                        .await?;
                }
                self.send(request, caller, Answer::text(b"hinted\n")).await
            }
            Page::Extra => {
                let next = self
                    .send(request, caller, Answer::text(b"complete\n"))
                    .await?;
                self.wire
                    .send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nunasked\r\n")
                    .await?;
                Ok(next)
            }
            Page::Missing => {
                self.send(
                    request,
                    caller,
                    Answer::with_status(404, &self.live.0.realm),
                )
                .await
            }
        }
    }

    /// The head as it came, then what the body was.
    async fn echo(&mut self, request: &mut Request) -> io::Result<Vec<u8>> {
        self.say_continue(request).await?;
        let (mut length, mut hash) = (0, Sha256::new());
        while let Some(piece) = self.wire.body_piece(&mut request.body).await? {
            length += piece.len();
            hash.update(&piece);
        }
        let mut text = format!("body-bytes: {length}\nbody-sha256: ");
        for byte in hash.finalize() {
            push(&mut text, format_args!("{byte:02x}"));
        }
        Ok([&request.head, text.as_bytes(), b"\n"].concat())
    }

    /// Sends the body back while it comes.
    async fn mirror(&mut self, request: &mut Request, caller: &Caller) -> io::Result<Next> {
        self.say_continue(request).await?;
        let chunked = request.is_1_1;
        if !chunked {
            request.last = true;
        }
        let fields = if chunked {
            "Transfer-Encoding: chunked\r\n"
        } else {
            ""
        };
        self.send_head(request, caller, 200, fields).await?;
        while let Some(piece) = self.wire.body_piece(&mut request.body).await? {
            match chunked {
                true => self.wire.send_chunk(&piece).await?,
                false => self.wire.send(&piece).await?,
            }
        }
        if chunked {
            self.wire.send_chunk(b"").await?;
        }
        Ok(request.next())
    }

    async fn upgrade(&mut self, request: &Request, caller: &Caller) -> io::Result<Next> {
        let Some(protocol) = request.headers.first("upgrade") else {
            return self
                .send(
                    request,
                    caller,
                    Answer::with_status(426, &self.live.0.realm),
                )
                .await;
        };
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: {protocol}\r\n"
        );
        self.wire
            .send(format!("{head}{}\r\n", self.own_fields(caller)).as_bytes())
            .await?;
        let mut tunnel = Framing::UntilClose;
        while let Some(piece) = self.wire.body_piece(&mut tunnel).await? {
            self.wire.send(&piece).await?;
        }
        Ok(Next::Close)
    }

    /// Waits, unless the client leaves meanwhile.
    async fn gone_within(&mut self, delay: Duration) -> bool {
        let timer = tokio::time::sleep(delay);
        tokio::pin!(timer);
        tokio::select! {
            () = &mut timer => return false,
            open = self.wire.still_open() => if !open { return true },
        }
        timer.await; // a pipelined request came; whether its sender stays shows later
        false
    }

    async fn say_continue(&mut self, request: &Request) -> io::Result<()> {
        match request.expects_continue() {
            true => self.wire.send(b"HTTP/1.1 100 Continue\r\n\r\n").await,
            false => Ok(()),
        }
    }

    async fn discard_body(&mut self, request: &mut Request) -> io::Result<()> {
        self.say_continue(request).await?;
        while self.wire.body_piece(&mut request.body).await?.is_some() {}
        Ok(())
    }

    async fn send(
        &mut self,
        request: &Request,
        caller: &Caller,
        answer: Answer<'_>,
    ) -> io::Result<Next> {
        let Answer {
            status,
            mut fields,
            body,
        } = answer;
        if status != 204 && status != 304 {
            push(
                &mut fields,
                format_args!(
                    "Content-Type: text/plain\r\nContent-Length: {}\r\n",
                    body.len()
                ),
            );
        }
        let mut bytes = self.head(request, caller, status, &fields).into_bytes();
        if request.has_answer_body() && status != 204 && status != 304 {
            bytes.extend_from_slice(body);
        }
        self.wire.send(&bytes).await?;
        Ok(request.next())
    }

    async fn send_head(
        &mut self,
        request: &Request,
        caller: &Caller,
        status: u16,
        fields: &str,
    ) -> io::Result<()> {
        let head = self.head(request, caller, status, fields);
        self.wire.send(head.as_bytes()).await
    }

    async fn send_pattern(&mut self, request: &Request, length: u64) -> io::Result<()> {
        if request.has_answer_body() {
            for piece in pattern(length) {
                self.wire.send(piece).await?;
            }
        }
        Ok(())
    }

    fn head(&self, request: &Request, caller: &Caller, status: u16, fields: &str) -> String {
        let connection = match (request.next(), request.is_1_1) {
            (Next::KeepAlive, true) => "",
            (Next::KeepAlive, false) => "Connection: keep-alive\r\n",
            (Next::Close, _) => "Connection: close\r\n",
        };
        let reason = reason(status);
        format!(
            "HTTP/1.1 {status} {reason}\r\n{}{fields}{connection}\r\n",
            self.own_fields(caller)
        )
    }

    fn own_fields(&self, caller: &Caller) -> String {
        let Caller {
            identity,
            login_fields,
        } = caller;
        let mut fields = format!(
            "X-Server: {}\r\nX-Connection: {}\r\n",
            self.live.0.name, self.number
        );
        if let Some(identity) = identity {
            push(&mut fields, format_args!("X-Identity: {identity}\r\n"));
        }
        fields + login_fields
    }
}

impl Request {
    fn parse(head: bytes::Bytes) -> io::Result<Self> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut parsed = httparse::Request::new(&mut fields);
        parsed
            .parse(&head)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let (Some(method), Some(target), Some(version)) =
            (parsed.method, parsed.path, parsed.version)
        else {
            return Err(invalid("no request line"));
        };
        let headers = Headers::new(parsed.headers);
        let (method, target, is_1_1) = (method.to_owned(), target.to_owned(), version == 1);
        let body = headers.framing()?.unwrap_or(Framing::Ended);
        Ok(Self {
            head,
            method,
            target,
            is_1_1,
            headers,
            body,
            last: false,
        })
    }

    fn has_answer_body(&self) -> bool {
        self.method != "HEAD"
    }

    fn expects_continue(&self) -> bool {
        let expected = self
            .headers
            .first("expect")
            .is_some_and(|value| value.eq_ignore_ascii_case("100-continue"));
        expected && self.is_1_1 && self.body != Framing::Ended
    }

    fn next(&self) -> Next {
        let keep_alive = match self.is_1_1 {
            true => !self.headers.names("connection", "close"),
            false => self.headers.names("connection", "keep-alive"),
        };
        if keep_alive && !self.last {
            Next::KeepAlive
        } else {
            Next::Close
        }
    }
}

impl<'a> Answer<'a> {
    fn text(body: &'a [u8]) -> Self {
        Self {
            status: 200,
            fields: String::new(),
            body,
        }
    }

    /// An answer about nothing but its status.
    fn with_status(status: u16, realm: &Realm) -> Self {
        let fields = if status == 401 {
            realm.offers()
        } else {
            String::new()
        };
        Self {
            status,
            fields,
            body: reason(status).as_bytes(),
        }
    }
}

/// The letters of the alphabet, over and over, in pieces: what bodies consist of.
fn pattern(length: u64) -> impl Iterator<Item = &'static [u8]> {
    const PIECE_BYTES: usize = 26 * 2520;
    static PIECE: [u8; PIECE_BYTES] = {
        let mut piece = [0; PIECE_BYTES];
        let mut at = 0;
        while at < PIECE_BYTES {
            piece[at] = b'a' + (at % 26) as u8;
            at += 1;
        }
        piece
    };
    let whole = usize::try_from(length / PIECE_BYTES as u64).unwrap_or(usize::MAX);
    let rest = &PIECE[..(length % PIECE_BYTES as u64) as usize];
    std::iter::repeat_n(&PIECE[..], whole).chain((!rest.is_empty()).then_some(rest))
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        302 => "Found",
        304 => "Not Modified",
        401 => "Unauthorized",
        404 => "Not Found",
        413 => "Content Too Large",
        417 => "Expectation Failed",
        426 => "Upgrade Required",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Status",
    }
}

fn push(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more)
        .expect("writing to a string cannot fail");
}
