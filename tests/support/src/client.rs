//! A plain HTTP/1.1 client for tests and load: one connection, requests in turn, logins leg by leg or at once.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::Kerberos;
use crate::kerberos;
use crate::ntlm::{self, User};
use crate::spnego::{Init, Mechanism, Reply, Token};
use crate::wire::{Framing, Headers, Wire, invalid};

/// A peer that is silent for so long has hung; a test then fails instead of hanging too.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection, and the body that is being read from it.
#[derive(Debug)]
pub struct Connection {
    wire: Wire,
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
        self.send(&[bytes.as_bytes(), body].concat()).await?;
        self.response(method).await
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wire.send(bytes).await
    }

    /// Closes the sending half.
    pub async fn finish(&mut self) -> io::Result<()> {
        self.wire.finish().await
    }

    /// Makes the close, when this is dropped, a reset.
    pub fn reset_on_close(&self) -> io::Result<()> {
        self.wire.reset_on_close()
    }

    /// Closes the connection at once, by a reset.
    pub fn reset(self) -> io::Result<()> {
        self.wire.reset_on_close()
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
            return Ok(Response {
                status,
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
    /// `Negotiate`, with a Kerberos ticket first: the server declines it, and NTLM follows, a leg later.
    NegotiateAfterKerberos,
}

/// A login under way, for tests that do something between its legs.
#[derive(Debug)]
pub struct Handshake<'a> {
    scheme: Scheme,
    user: &'a User,
    mechanism_list: Vec<u8>,
    answered: bool,
}

impl<'a> Handshake<'a> {
    /// Starts a login; the text is the first `Authorization`.
    pub fn begin(scheme: Scheme, user: &'a User) -> (Self, String) {
        let (token, mechanism_list) = match scheme {
            Scheme::Ntlm | Scheme::NegotiateBare => (ntlm::type1(), Vec::new()),
            Scheme::Negotiate => opening(Init::new(&[Mechanism::Ntlm], ntlm::type1())),
            Scheme::NegotiateAfterKerberos => opening(kerberos::token(&user.identity(), 0)),
        };
        let handshake = Self {
            scheme,
            user,
            mechanism_list,
            answered: false,
        };
        let authorization = handshake.authorization(&token);
        (handshake, authorization)
    }

    /// The `Authorization` that follows a response; `None` if there is nothing more to say.
    pub fn next(&mut self, response: &Response) -> Option<String> {
        if response.status != 401 || self.answered {
            return None;
        }
        let challenge = response.headers.all("www-authenticate").find_map(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme
                .eq_ignore_ascii_case(self.scheme_name())
                .then(|| BASE64_STANDARD.decode(token.trim()).ok())?
        })?;
        let User {
            name,
            domain,
            password,
        } = self.user;
        let token = match self.scheme {
            Scheme::Ntlm | Scheme::NegotiateBare => {
                self.answered = true;
                ntlm::type3(&challenge, name, domain, password)?.message
            }
            Scheme::Negotiate | Scheme::NegotiateAfterKerberos => {
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
                        let answer = ntlm::type3(&challenge, name, domain, password)?;
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

    fn authorization(&self, token: &[u8]) -> String {
        format!("{} {}", self.scheme_name(), BASE64_STANDARD.encode(token))
    }

    fn scheme_name(&self) -> &'static str {
        match self.scheme {
            Scheme::Ntlm => "NTLM",
            Scheme::NegotiateBare | Scheme::Negotiate | Scheme::NegotiateAfterKerberos => {
                "Negotiate"
            }
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
