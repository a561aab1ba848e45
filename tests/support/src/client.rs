//! A plain HTTP/1.1 client for tests and load: one connection, requests in turn, logins leg by leg or at once.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::Kerberos;
use crate::kerberos;
use crate::ntlm::{self, Authenticate, Binding, User};
use crate::spnego::{Init, Mechanism, Reply, Token};
use crate::wire::{Framing, Headers, Wire, invalid};

/// A peer that is silent for so long has hung; a test then fails instead of hanging too.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection, and the body that is being read from it.
#[derive(Debug)]
pub struct Connection<S = TcpStream> {
    wire: Wire<S>,
    host: String,
    body: Framing,
}

/// A final response.
#[derive(Clone, Debug)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Its fields.
    pub headers: Headers,
    /// Its body; empty where only the head was asked for.
    pub body: Vec<u8>,
    /// The statuses of the interim responses before it.
    pub interim: Vec<u16>,
    /// Nothing follows it on its connection: it says so, or is of HTTP/1.0 and does not say otherwise, or ends with the close.
    pub last: bool,
}

impl Response {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Connection {
    /// Connects.
    pub async fn open(addr: SocketAddr) -> io::Result<Self> {
        let stream = timeout(PATIENCE, TcpStream::connect(addr)).await??;
        Ok(Self {
            wire: Wire::new(stream)?,
            host: addr.to_string(),
            body: Framing::Ended,
        })
    }

    /// This end's address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.wire.local_addr()
    }

    /// Makes the close, when this is dropped, a reset.
    pub fn reset_on_close(&self) -> io::Result<()> {
        self.wire.reset_on_close()
    }

    /// Closes the connection at once, by a reset.
    pub fn reset(self) -> io::Result<()> {
        self.wire.reset_on_close()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Speaks over a stream that is open already; `host` is what `Host` says.
    pub fn over(stream: S, host: &str) -> Self {
        Self {
            wire: Wire::over(stream),
            host: host.to_owned(),
            body: Framing::Ended,
        }
    }

    /// Sends a GET and reads the response.
    pub async fn get(&mut self, target: &str) -> io::Result<Response> {
        self.request("GET", target, &[], b"").await
    }

    /// Sends a request and reads the response. `Host` and `Content-Length` are added where `headers` lack them.
    pub async fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Response> {
        self.send_request(method, target, headers, body).await?;
        self.response(method).await
    }

    /// Sends a request, with the same fields added.
    pub async fn send_request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<()> {
        let has = |name: &str| {
            headers
                .iter()
                .any(|(other, _)| other.eq_ignore_ascii_case(name))
        };
        let mut bytes = format!("{method} {target} HTTP/1.1\r\n");
        if !has("host") {
            bytes += &format!("Host: {}\r\n", self.host);
        }
        for (name, value) in headers {
            bytes += &format!("{name}: {value}\r\n");
        }
        let takes_body = !body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH");
        if takes_body && !has("content-length") && !has("transfer-encoding") {
            bytes += &format!("Content-Length: {}\r\n", body.len());
        }
        bytes += "\r\n";
        self.send(&[bytes.as_bytes(), body].concat()).await
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wire.send(bytes).await
    }

    /// Closes the sending half.
    pub async fn finish(&mut self) -> io::Result<()> {
        self.wire.finish().await
    }

    /// Reads the response to a request with this method.
    pub async fn response(&mut self, method: &str) -> io::Result<Response> {
        let mut response = self.response_head(method).await?;
        while let Some(piece) = self.body_piece().await? {
            response.body.extend_from_slice(&piece);
        }
        Ok(response)
    }

    /// Reads a response up to its body, for [`Connection::body_piece`] to go on.
    pub async fn response_head(&mut self, method: &str) -> io::Result<Response> {
        let mut interim = Vec::new();
        loop {
            let head = timeout(PATIENCE, self.wire.head())
                .await??
                .ok_or(ErrorKind::UnexpectedEof)?;
            let mut fields = [httparse::EMPTY_HEADER; 256];
            let mut parsed = httparse::Response::new(&mut fields);
            parsed
                .parse(&head)
                .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
            let status = parsed.code.ok_or_else(|| invalid("no status"))?;
            let headers = Headers::new(parsed.headers);
            if (100..200).contains(&status) && status != 101 {
                interim.push(status);
                continue;
            }
            self.body = match status {
                204 | 304 => Framing::Ended,
                101 => Framing::UntilClose,
                _ if method == "HEAD" => Framing::Ended,
                _ => headers.framing()?.unwrap_or(Framing::UntilClose),
            };
            let kept = match parsed.version {
                Some(0) => headers.names("connection", "keep-alive"),
                _ => !headers.names("connection", "close"),
            };
            return Ok(Response {
                status,
                last: !kept || self.body == Framing::UntilClose,
                headers,
                body: Vec::new(),
                interim,
            });
        }
    }

    /// The next bytes of the body, or of the tunnel after 101; `None` after the end.
    pub async fn body_piece(&mut self) -> io::Result<Option<Bytes>> {
        timeout(PATIENCE, self.wire.body_piece(&mut self.body)).await?
    }

    /// Waits for the other side to do something unasked. True if it closed, false if it sent bytes.
    pub async fn closed(&mut self) -> io::Result<bool> {
        Ok(!timeout(PATIENCE, self.wire.still_open()).await?)
    }

    /// Logs in with GETs of `target`; the response is the last one, a 401 if the login failed.
    pub async fn login(
        &mut self,
        scheme: Scheme,
        target: &str,
        user: &User,
    ) -> io::Result<Response> {
        let (mut handshake, mut authorization) = Handshake::begin(scheme, user);
        loop {
            let response = self
                .request("GET", target, &[("Authorization", &authorization)], b"")
                .await?;
            match handshake.next(&response) {
                Some(next) => authorization = next,
                None => return Ok(response),
            }
        }
    }

    /// Logs in with the scheme NTLM.
    pub async fn login_ntlm(&mut self, target: &str, user: &User) -> io::Result<Response> {
        self.login(Scheme::Ntlm, target, user).await
    }

    /// Logs in with the scheme Negotiate, NTLM inside SPNEGO.
    pub async fn login_negotiate(&mut self, target: &str, user: &User) -> io::Result<Response> {
        self.login(Scheme::Negotiate, target, user).await
    }
}

/// The ways to log in with NTLM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `NTLM`.
    Ntlm,
    /// `Negotiate`, with NTLM's messages bare in it.
    NegotiateBare,
    /// `Negotiate`, with NTLM's messages in SPNEGO.
    Negotiate,
    /// `Negotiate`, which names NTLM first and sends its first message when the server has chosen it, a leg later. So the second
    /// leg is answered by a challenge only where the first one is known, without a password.
    NegotiateNamed,
    /// `Negotiate`, with a Kerberos ticket first: the server declines it, and NTLM follows, a leg later.
    NegotiateAfterKerberos,
}

/// A login under way, for tests that do something between its legs.
#[derive(Debug)]
pub struct Handshake<'a> {
    scheme: Scheme,
    user: &'a User,
    mechanism_list: Vec<u8>,
    binding: Option<Binding<'a>>,
    answered: bool,
}

impl<'a> Handshake<'a> {
    /// Starts a login; the text is the first `Authorization`.
    pub fn begin(scheme: Scheme, user: &'a User) -> (Self, String) {
        let (token, mechanism_list) = match scheme {
            Scheme::Ntlm | Scheme::NegotiateBare => (ntlm::type1(), Vec::new()),
            Scheme::Negotiate => opening(Init::new(&[Mechanism::Ntlm], ntlm::type1())),
            Scheme::NegotiateNamed => opening(Init::naming(&[Mechanism::Ntlm])),
            Scheme::NegotiateAfterKerberos => opening(kerberos::token(&user.identity(), 0)),
        };
        let handshake = Self {
            scheme,
            user,
            mechanism_list,
            binding: None,
            answered: false,
        };
        let authorization = handshake.authorization(&token);
        (handshake, authorization)
    }

    /// Binds the login, which says so in its last message.
    pub fn bind_to(&mut self, binding: Binding<'a>) {
        self.binding = Some(binding);
    }

    /// Whether the last `Authorization` was the one that proves who the client is.
    pub fn is_over(&self) -> bool {
        self.answered
    }

    /// The token of a response's challenge in this login's scheme, if there is one.
    pub fn challenge(&self, response: &Response) -> Option<Vec<u8>> {
        response.headers.all("www-authenticate").find_map(|value| {
            let (scheme, token) = value.trim().split_once(' ')?;
            scheme
                .eq_ignore_ascii_case(self.scheme_name())
                .then(|| BASE64_STANDARD.decode(token.trim()).ok())?
        })
    }

    /// The `Authorization` that follows a response; `None` if there is nothing more to say.
    pub fn next(&mut self, response: &Response) -> Option<String> {
        if response.status != 401 || self.answered {
            return None;
        }
        let challenge = self.challenge(response)?;
        let token = match self.scheme {
            Scheme::Ntlm | Scheme::NegotiateBare => {
                self.answered = true;
                self.answer(&challenge)?.message
            }
            Scheme::Negotiate | Scheme::NegotiateNamed | Scheme::NegotiateAfterKerberos => {
                let Some(Token::Reply(reply)) = Token::parse(&challenge) else {
                    return None;
                };
                let reply = match reply.token {
                    None => Reply {
                        token: Some(ntlm::type1()),
                        ..Reply::default()
                    },
                    Some(challenge) => {
                        self.answered = true;
                        let answer = self.answer(&challenge)?;
                        let mic = Some(answer.keys.client_signature(&self.mechanism_list).to_vec());
                        Reply {
                            token: Some(answer.message),
                            mic,
                            ..Reply::default()
                        }
                    }
                };
                reply.encode()
            }
        };
        Some(self.authorization(&token))
    }

    fn answer(&self, challenge: &[u8]) -> Option<Authenticate> {
        let User {
            name,
            domain,
            password,
        } = self.user;
        match &self.binding {
            None => ntlm::type3(challenge, name, domain, password),
            Some(binding) => ntlm::type3_bound(challenge, name, domain, password, binding),
        }
    }

    fn authorization(&self, token: &[u8]) -> String {
        format!("{} {}", self.scheme_name(), BASE64_STANDARD.encode(token))
    }

    fn scheme_name(&self) -> &'static str {
        match self.scheme {
            Scheme::Ntlm => "NTLM",
            Scheme::NegotiateBare
            | Scheme::Negotiate
            | Scheme::NegotiateNamed
            | Scheme::NegotiateAfterKerberos => "Negotiate",
        }
    }
}

fn opening(init: Init) -> (Vec<u8>, Vec<u8>) {
    (init.encode(), init.mechanism_list)
}

/// The `Authorization` with a ticket that says what is to be done with it ([`kerberos::token_for`]).
pub fn ticket_for(user: &User, treatment: Kerberos, genuine: bool) -> String {
    let token = kerberos::token_for(&user.identity(), treatment, genuine);
    format!("Negotiate {}", BASE64_STANDARD.encode(token.encode()))
}

/// The `Authorization` with Kerberos' stand-in for `user`, as large as `padding_bytes` make it.
pub fn ticket(user: &User, padding_bytes: usize) -> String {
    format!(
        "Negotiate {}",
        BASE64_STANDARD.encode(kerberos::token(&user.identity(), padding_bytes).encode())
    )
}
