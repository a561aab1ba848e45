//! What happens on one connection: connecting, logging in, asking, and what comes back.

use std::io::{self, ErrorKind, IoSlice};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::Instant;

use nix::sys::epoll::{EpollEvent, EpollFlags};
use rustls::HandshakeKind;

use crate::stream::Stream;
use crate::wire::{Answer, Reader, Shape, invalid, login_head};

use super::{BUFFER_BYTES, Load, SKIP_BYTES_MIN};

/// A server of TLS 1.3 sends so many tickets after a full handshake. After a resumed one, OpenSSL sends one.
const TICKETS: u32 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The server's tickets have not come, so that it may not be done with the handshake. Nothing follows.
    Handshake,
    Type1,
    Type3,
    Idle,
    Busy,
}

/// What a new connection does by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Visit {
    /// It logs in.
    Login,
    /// It makes the handshake of TLS and nothing else.
    Handshake,
}

pub(super) struct Connection {
    pub(super) stream: Stream,
    pub(super) stage: Stage,
    reader: Reader,
    /// What is being sent; a body follows it if the stage is [`Stage::Busy`].
    head: Rc<[u8]>,
    sent: usize,
    waits_to_send: bool,
    /// From when the latency of what is under way counts.
    pub(super) since: Instant,
    /// Plain requests, logins not counted.
    pub(super) asked: u64,
}

impl Load {
    /// Opens a connection and begins its visit; in place of the one at `index`, which is closed, or as one more.
    pub(super) fn connect(&mut self, index: Option<usize>, visit: Visit) -> io::Result<()> {
        let since = Instant::now();
        // On the loopback interface, connecting waits for nobody unless the listener's queue is full.
        let socket = TcpStream::connect(self.target.addr)?;
        let session = match &self.target.tls {
            Some(clients) => Some(clients.connect()?),
            None => None,
        };
        let stream = Stream::new(socket, session)?;
        let mark = index.unwrap_or(self.connections.len());
        self.epoll
            .add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, mark as u64))?;
        let (stage, head) = match visit {
            Visit::Login => (Stage::Type1, self.requests.type1.clone()),
            Visit::Handshake => (Stage::Handshake, [].into()),
        };
        let connection = Connection {
            stream,
            stage,
            reader: Reader::default(),
            head,
            sent: 0,
            waits_to_send: false,
            since,
            asked: 0,
        };
        match index {
            Some(index) => self.connections[index] = connection,
            None => self.connections.push(connection),
        }
        self.send(mark)
    }

    /// Sends a plain request on an idle connection.
    pub(super) fn ask(&mut self, index: usize, since: Instant) -> io::Result<()> {
        let connection = &mut self.connections[index];
        debug_assert_eq!(connection.stage, Stage::Idle);
        connection.stage = Stage::Busy;
        connection.head = self.requests.plain.clone();
        connection.sent = 0;
        connection.since = since;
        connection.asked += 1;
        self.send(index)
    }

    /// Sends what the socket takes, and waits for it to take more if it has to.
    pub(super) fn send(&mut self, index: usize) -> io::Result<()> {
        let connection = &mut self.connections[index];
        let body: &[u8] = match connection.stage {
            Stage::Busy => &self.requests.body,
            _ => &[],
        };
        let head_bytes = connection.head.len();
        let total = head_bytes + body.len();
        if connection.sent < total {
            let head_left = connection.head.get(connection.sent..).unwrap_or_default();
            let body_left = &body[connection.sent.saturating_sub(head_bytes)..];
            let mut slices = [IoSlice::new(head_left), IoSlice::new(body_left)];
            let slices = match body.is_empty() {
                true => &mut slices[..1],
                false => &mut slices[..],
            };
            match connection.stream.send(slices) {
                Ok(count) => {
                    self.body_bytes += count.saturating_sub(head_left.len()) as u64;
                    connection.sent += count;
                    self.last_progress = Instant::now();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        } else {
            connection.stream.flush()?;
        }
        let waits = connection.sent < total || connection.stream.is_pending();
        if waits != connection.waits_to_send {
            connection.waits_to_send = waits;
            let mut interest = EpollFlags::EPOLLIN;
            interest.set(EpollFlags::EPOLLOUT, waits);
            let mut event = EpollEvent::new(interest, index as u64);
            self.epoll.modify(&connection.stream, &mut event)?;
        }
        Ok(())
    }

    pub(super) fn receive(&mut self, index: usize) -> io::Result<()> {
        let connection = &mut self.connections[index];
        let skippable = connection.reader.skippable();
        let skips = skippable >= SKIP_BYTES_MIN && connection.stream.can_skip();
        let received = if skips {
            let most = BUFFER_BYTES.min(usize::try_from(skippable).unwrap_or(usize::MAX));
            connection.stream.skip(&mut self.buffer[..most])
        } else {
            connection.stream.receive(&mut self.buffer)
        };
        let count = match received {
            Ok(0) => return Err(closed(connection.stage)),
            Ok(count) => count,
            // With TLS, what came may have been a part of the handshake, which has its answer.
            Err(error) if error.kind() == ErrorKind::WouldBlock => return self.shake(index),
            Err(error) => return Err(error),
        };
        self.last_progress = Instant::now();
        if matches!(connection.stage, Stage::Idle | Stage::Handshake) {
            return Err(invalid("what came without being asked for"));
        }
        let answer = match skips {
            true => connection.reader.skipped(count as u64),
            false => connection.reader.feed(&self.buffer[..count])?,
        };
        if self.requests.body.is_empty() {
            self.body_bytes += count as u64;
        }
        match answer {
            Some(answer) => self.complete(index, answer),
            None => Ok(()),
        }
    }

    /// Goes on after messages of TLS alone: sends what they led to, and notices the end of a handshake that is all there is.
    fn shake(&mut self, index: usize) -> io::Result<()> {
        let connection = &mut self.connections[index];
        if connection.stream.is_pending() {
            return self.send(index);
        }
        if connection.stage != Stage::Handshake {
            return Ok(());
        }
        let agreed = connection.stream.agreed();
        let resumed = match agreed.and_then(|agreed| agreed.handshake_kind()) {
            Some(HandshakeKind::Resumed) => true,
            Some(_) => false,
            None => return Ok(()),
        };
        if connection.stream.tickets() < if resumed { 1 } else { TICKETS } {
            return Ok(());
        }
        self.last_progress = Instant::now();
        self.resumed += u64::from(resumed);
        self.finish(index);
        Ok(())
    }

    /// The connection is idle, for the first time or again.
    fn finish(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        connection.stage = Stage::Idle;
        if self.agreed.is_none() {
            self.agreed = connection.stream.agreed().and_then(agreed);
        }
        self.finished.push(index);
    }

    fn complete(&mut self, index: usize, answer: Answer) -> io::Result<()> {
        let connection = &mut self.connections[index];
        let expected = match connection.stage {
            Stage::Type1 => 401,
            _ => 200,
        };
        if answer.status != expected {
            return Err(io::Error::other(format!(
                "status {} instead of {expected} ({:?})",
                answer.status, connection.stage
            )));
        }
        if connection.stage == Stage::Type1 {
            let answer = answer
                .challenge
                .and_then(|challenge| self.requests.legs.type3(&challenge).map(String::from))
                .ok_or_else(|| invalid("a challenge"))?;
            connection.stage = Stage::Type3;
            connection.head = login_head(self.target.pins, &answer).into();
            connection.sent = 0;
            return self.send(index);
        }
        if connection.stage == Stage::Busy
            && let Shape::Answer { bytes } | Shape::Chunked { bytes, .. } = self.requests.shape
            && answer.body_bytes != bytes as u64
        {
            return Err(io::Error::other(format!(
                "{} bytes of body instead of {bytes}",
                answer.body_bytes
            )));
        }
        if connection.stage == Stage::Busy {
            self.answered += 1;
        }
        self.finish(index);
        Ok(())
    }
}

/// For people.
fn agreed(session: &rustls::CommonState) -> Option<String> {
    Some(format!(
        "{:?}, {:?}, {:?}",
        session.protocol_version()?,
        session.negotiated_cipher_suite()?.suite(),
        session.negotiated_key_exchange_group()?.name()
    ))
}

fn closed(stage: Stage) -> io::Error {
    io::Error::new(
        ErrorKind::UnexpectedEof,
        format!("a connection was closed ({stage:?})"),
    )
}
