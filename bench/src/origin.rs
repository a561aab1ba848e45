//! The server behind the contenders: answers from memory, swallows uploads, and binds logins to connections as NTLM does.
//! It costs little, so that what is measured is the contender's limit and not this one's.
//!
//! | path | answer |
//! |---|---|
//! | `/bound/…` | 401 on a connection where no login was completed |
//! | `/loose/…` | no login is asked for: for contenders that share their upstream connections |
//! | `…/bytes/N` `…/chunked/N/C` | N bytes; in chunks of C |
//! | `…/upload` | the request's body is read, then a small answer |
//!
//! Credentials start a login on either kind of path: Type 1 is answered with 401 and a challenge, Type 3 with what was
//! asked for.

use std::collections::HashMap;
use std::io::{self, ErrorKind, IoSlice};
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use memchr::memmem;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use ntlm_origin::ntlm;
use rustls::{ServerConfig, ServerConnection};

use crate::cli::OriginArgs;
use crate::listen;
use crate::login::{self, DOMAIN};
use crate::stream::Stream;
use crate::tls;
use crate::wire::{SMALL_ANSWER_BYTES, invalid};

const BUFFER_BYTES: usize = 256 * 1024;
/// The most that a path may ask for.
const ANSWER_BYTES_MAX: usize = 64 << 20;
const HEAD_BYTES_MAX: usize = 64 * 1024;
const LISTENER: u64 = u64::MAX;

/// Serves until the process is ended.
pub(crate) fn run(args: &OriginArgs) -> io::Result<()> {
    let listener = listen::loopback(args.port)?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
    let mut origin = Origin {
        listener,
        tls: args.tls.as_deref().map(tls::server).transpose()?,
        epoll,
        site: Site::new(args.real_ntlm),
        connections: Vec::new(),
        free: Vec::new(),
        buffer: vec![0; BUFFER_BYTES],
    };
    let mut events = vec![EpollEvent::empty(); 512];
    let mut closed = Vec::new();
    loop {
        let count = match origin.epoll.wait(&mut events, EpollTimeout::NONE) {
            // A tracer was attached.
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        for event in &events[..count] {
            if event.data() == LISTENER {
                origin.accept()?;
            } else if origin
                .advance(event.data() as usize, event.events())
                .is_err()
            {
                origin.connections[event.data() as usize] = None;
                closed.push(event.data() as usize);
            }
        }
        // Only now, so that no event of this batch meets another connection in its slot.
        origin.free.append(&mut closed);
    }
}

struct Origin {
    listener: TcpListener,
    /// Where it is spoken.
    tls: Option<Arc<ServerConfig>>,
    epoll: Epoll,
    site: Site,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    buffer: Vec<u8>,
}

struct Connection {
    stream: Stream,
    /// A request head whose end has not come.
    partial: Vec<u8>,
    /// What is left of the request's body, and what is answered after it.
    body_left: u64,
    answer: Option<Rc<[u8]>>,
    sent: usize,
    login: Login,
    waits_to_send: bool,
}

#[derive(Default)]
enum Login {
    #[default]
    Nobody,
    /// A challenge was sent; with real NTLM, the one to check the answer against.
    Challenged(Option<ntlm::Challenged>),
    Done,
}

impl Origin {
    fn accept(&mut self) -> io::Result<()> {
        loop {
            let socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let session = match &self.tls {
                Some(config) => {
                    let session = ServerConnection::new(config.clone());
                    Some(session.map_err(io::Error::other)?.into())
                }
                None => None,
            };
            let stream = Stream::new(socket, session)?;
            let slot = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            self.epoll
                .add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, slot as u64))?;
            self.connections[slot] = Some(Connection {
                stream,
                partial: Vec::new(),
                body_left: 0,
                answer: None,
                sent: 0,
                login: Login::Nobody,
                waits_to_send: false,
            });
        }
    }

    /// Reads or writes once. An error is the end of the connection.
    fn advance(&mut self, slot: usize, ready: EpollFlags) -> io::Result<()> {
        let Some(connection) = &mut self.connections[slot] else {
            return Ok(());
        };
        if ready.contains(EpollFlags::EPOLLERR) {
            return Err(ErrorKind::ConnectionReset.into());
        }
        if connection.waits_to_send {
            connection.send()?;
        } else if connection.body_left > 0 {
            connection.swallow(&mut self.buffer)?;
        } else {
            connection.receive(&mut self.buffer, &mut self.site)?;
        }
        // While an answer waits, no further request is read: there is at most one at a time.
        let answers = connection.answer.is_some() && connection.body_left == 0;
        let waits = answers || connection.stream.is_pending();
        if waits != connection.waits_to_send {
            connection.waits_to_send = waits;
            let interest = match waits {
                true => EpollFlags::EPOLLOUT,
                false => EpollFlags::EPOLLIN,
            };
            let mut event = EpollEvent::new(interest, slot as u64);
            self.epoll.modify(&connection.stream, &mut event)?;
        }
        Ok(())
    }
}

impl Connection {
    fn receive(&mut self, buffer: &mut [u8], site: &mut Site) -> io::Result<()> {
        let count = match self.stream.receive(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        let whole;
        let bytes = if self.partial.is_empty() {
            &buffer[..count]
        } else {
            self.partial.extend_from_slice(&buffer[..count]);
            whole = std::mem::take(&mut self.partial);
            &whole
        };
        let Some(end) = memmem::find(bytes, b"\r\n\r\n") else {
            if bytes.len() > HEAD_BYTES_MAX {
                return Err(invalid("a head"));
            }
            self.partial = bytes.to_vec();
            return Ok(());
        };
        let body_begun = (bytes.len() - end - 4) as u64;
        let (answer, body_bytes) = site.answer(&bytes[..end + 4], &mut self.login)?;
        self.body_left = body_bytes
            .checked_sub(body_begun)
            .ok_or_else(|| invalid("what came behind a request"))?;
        self.answer = Some(answer);
        self.sent = 0;
        self.answer_if_read()
    }

    fn swallow(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let most = buffer
            .len()
            .min(usize::try_from(self.body_left).unwrap_or(usize::MAX));
        let swallowed = match self.stream.can_skip() {
            true => self.stream.skip(&mut buffer[..most]),
            false => self.stream.receive(buffer),
        };
        let count = match swallowed {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        self.body_left = self
            .body_left
            .checked_sub(count as u64)
            .ok_or_else(|| invalid("what came behind a request"))?;
        self.answer_if_read()
    }

    fn answer_if_read(&mut self) -> io::Result<()> {
        match self.body_left {
            0 => self.send(),
            _ => Ok(()),
        }
    }

    fn send(&mut self) -> io::Result<()> {
        let Some(answer) = &self.answer else {
            return self.stream.flush();
        };
        match self.stream.send(&mut [IoSlice::new(&answer[self.sent..])]) {
            Ok(count) => self.sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
        if self.sent == answer.len() {
            self.answer = None;
        }
        Ok(())
    }
}

/// What is answered.
struct Site {
    /// By path without `/bound` or `/loose`: made once, sent from there.
    answers: HashMap<Vec<u8>, Rc<[u8]>>,
    small: Rc<[u8]>,
    login_please: Rc<[u8]>,
    /// The answer to every Type 1, unless NTLM is real.
    challenge: Rc<[u8]>,
    real_ntlm: bool,
}

impl Site {
    fn new(real_ntlm: bool) -> Self {
        let challenge = BASE64_STANDARD.encode(login::sample_challenge());
        Self {
            answers: HashMap::new(),
            small: sized_answer(SMALL_ANSWER_BYTES),
            login_please: unauthorized("NTLM"),
            challenge: unauthorized(&format!("NTLM {challenge}")),
            real_ntlm,
        }
    }

    /// The answer to a request, and the bytes of its body.
    fn answer(&mut self, head: &[u8], login: &mut Login) -> io::Result<(Rc<[u8]>, u64)> {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut fields);
        request
            .parse(head)
            .map_err(|error| invalid(format_args!("a request head ({error})")))?;
        let mut body_bytes = 0;
        let mut token = None;
        for field in request.headers.iter() {
            if field.name.eq_ignore_ascii_case("content-length") {
                body_bytes = std::str::from_utf8(field.value)
                    .ok()
                    .and_then(|value| value.parse().ok())
                    .ok_or_else(|| invalid("a Content-Length"))?;
            } else if field.name.eq_ignore_ascii_case("authorization") {
                token = field.value.strip_prefix(b"NTLM ");
            }
        }
        if let Some(token) = token
            && let Some(refusal) = self.login(token, login)
        {
            return Ok((refusal, body_bytes));
        }
        let path = request.path.unwrap_or_default();
        let rest = match (path.strip_prefix("/bound/"), path.strip_prefix("/loose/")) {
            (Some(_), _) if !matches!(login, Login::Done) => {
                return Ok((self.login_please.clone(), body_bytes));
            }
            (Some(rest), _) | (_, Some(rest)) => rest,
            (None, None) => return Err(invalid("a path")),
        };
        if rest == "upload" {
            return Ok((self.small.clone(), body_bytes));
        }
        if let Some(answer) = self.answers.get(rest.as_bytes()) {
            return Ok((answer.clone(), body_bytes));
        }
        let answer = made(rest).ok_or_else(|| invalid("a path"))?;
        self.answers.insert(rest.into(), answer.clone());
        Ok((answer, body_bytes))
    }

    /// Carries a login one leg further. `None` when it is complete; otherwise what to answer.
    fn login(&self, token: &[u8], login: &mut Login) -> Option<Rc<[u8]>> {
        let before = std::mem::take(login);
        match login::message_type(token) {
            Some(1) if self.real_ntlm => {
                let challenged = BASE64_STANDARD
                    .decode(token)
                    .ok()
                    .and_then(|message| ntlm::challenge(&message, DOMAIN, "ORIGIN").ok());
                let Some(challenged) = challenged else {
                    return Some(self.login_please.clone());
                };
                let challenge = BASE64_STANDARD.encode(challenged.message());
                *login = Login::Challenged(Some(challenged));
                Some(unauthorized(&format!("NTLM {challenge}")))
            }
            Some(1) => {
                *login = Login::Challenged(None);
                Some(self.challenge.clone())
            }
            Some(3) => {
                let held = match before {
                    Login::Challenged(Some(challenged)) => {
                        BASE64_STANDARD.decode(token).is_ok_and(|message| {
                            challenged.authenticate(&message, &[login::user()]).is_ok()
                        })
                    }
                    Login::Challenged(None) => true,
                    // Over shared upstream connections the legs may come in on two of them. Paths below /loose stay
                    // open to such a login; those below /bound are not, as the connection is nobody's.
                    Login::Nobody | Login::Done => return None,
                };
                if !held {
                    return Some(self.login_please.clone());
                }
                *login = Login::Done;
                None
            }
            _ => Some(self.login_please.clone()),
        }
    }
}

fn made(path: &str) -> Option<Rc<[u8]>> {
    let mut words = path.split('/');
    let kind = words.next()?;
    let mut number = || -> Option<usize> {
        let number = words.next()?.parse().ok()?;
        (number <= ANSWER_BYTES_MAX).then_some(number)
    };
    match kind {
        "bytes" => Some(sized_answer(number()?)),
        "chunked" => {
            let (bytes, chunk) = (number()?, number()?);
            if chunk == 0 {
                return None;
            }
            let mut answer = head("200 OK", "Transfer-Encoding: chunked\r\n");
            let body = body(bytes);
            for piece in body.chunks(chunk) {
                answer.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                answer.extend_from_slice(piece);
                answer.extend_from_slice(b"\r\n");
            }
            answer.extend_from_slice(b"0\r\n\r\n");
            Some(answer.into())
        }
        _ => None,
    }
}

fn sized_answer(bytes: usize) -> Rc<[u8]> {
    let mut answer = head("200 OK", &format!("Content-Length: {bytes}\r\n"));
    answer.extend_from_slice(&body(bytes));
    answer.into()
}

// With a page for people, as servers that ask for NTLM send one.
fn unauthorized(challenge: &str) -> Rc<[u8]> {
    let page = body(300);
    let fields = format!(
        "WWW-Authenticate: {challenge}\r\nContent-Length: {}\r\n",
        page.len()
    );
    let mut answer = head("401 Unauthorized", &fields);
    answer.extend_from_slice(&page);
    answer.into()
}

fn head(status: &str, fields: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nServer: origin\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Type: text/plain\r\n{fields}\r\n"
    )
    .into_bytes()
}

fn body(bytes: usize) -> Vec<u8> {
    (b'a'..=b'z').cycle().take(bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Reader, Shape, login_head};

    fn status(site: &mut Site, head: &[u8], login: &mut Login) -> (u16, Option<String>) {
        let (answer, _) = site.answer(head, login).unwrap();
        let answer = Reader::default().feed(&answer).unwrap().unwrap();
        (answer.status, answer.challenge)
    }

    #[test]
    fn a_login_belongs_to_its_connection() {
        for real in [false, true] {
            let mut site = Site::new(real);
            let mut login = Login::default();
            let plain = Shape::Answer { bytes: 10 }.head(true);
            assert_eq!(status(&mut site, &plain, &mut login).0, 401);
            let type1 = login_head(true, &login::type1());
            let (code, challenge) = status(&mut site, &type1, &mut login);
            assert_eq!(code, 401);
            let type3 = login::Legs::new(real)
                .type3(&challenge.unwrap())
                .unwrap()
                .into_owned();
            let type3 = login_head(true, &type3);
            assert_eq!(status(&mut site, &type3, &mut Login::default()).0, 401);
            assert_eq!(status(&mut site, &type3, &mut login).0, 200);
            assert_eq!(status(&mut site, &plain, &mut login).0, 200);
            let loose = Shape::Answer { bytes: 10 }.head(false);
            assert_eq!(status(&mut site, &loose, &mut Login::default()).0, 200);
        }
    }

    #[test]
    fn answers_are_as_long_as_asked_for() {
        for (shape, length) in [
            (Shape::Answer { bytes: 12345 }, 12345),
            (
                Shape::Chunked {
                    bytes: 10_000,
                    chunk: 4096,
                },
                10_000,
            ),
            (Shape::Upload { bytes: 7 }, SMALL_ANSWER_BYTES as u64),
            (Shape::Token { bytes: 8192 }, SMALL_ANSWER_BYTES as u64),
        ] {
            let mut site = Site::new(false);
            let (answer, body_bytes) = site
                .answer(&shape.head(false), &mut Login::default())
                .unwrap();
            let answer = Reader::default().feed(&answer).unwrap().unwrap();
            assert_eq!(answer.body_bytes, length);
            assert_eq!(
                body_bytes,
                u64::from(shape == Shape::Upload { bytes: 7 }) * 7
            );
        }
    }
}
