//! One side of a TLS connection over a socket: the handshake, and the record layer.
//!
//! Records are taken apart and made in buffers of the worker; a connection keeps only the beginning of a record whose rest has
//! not come. What the kernel has no room for is kept by the socket.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::client::UnbufferedClientConnection;
use rustls::server::{Acceptor, ClientHello, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{CommonState, HandshakeKind, ProtocolVersion, ServerConfig};

use crate::net::{Loan, Peek, SCRATCH_BYTES, Socket};
use crate::observe::handshakes::Shaken;

/// The most that a record takes on the wire, in bytes (RFC 8446 section 5.2, RFC 5246 section 6.2.3).
const RECORD_MAX: usize = (16 << 10) + 2048 + 5;

/// What is received at once, so that it and the beginning of a record before it fit the worker's buffer when they are decrypted.
const RECEIVE_MAX: usize = SCRATCH_BYTES - RECORD_MAX;

/// The most that is encrypted by one call, in bytes: whole records.
const SEND_MAX: usize = 64 << 10;

/// What the records of one call may add to their contents, in bytes, before the buffer has to grow.
const OVERHEAD: usize = 256;

thread_local! {
    /// Records as they came, and those that the session itself sends.
    static INCOMING: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static OUTGOING: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// Records of data. Never shortened, so that its bytes are made zero once.
    static ENCRYPTED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// What goes into one record from several places.
    static GATHERED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}
/// One side of a TLS connection.
pub(super) struct Tls {
    session: Session,
    /// The beginning of a record, or of a message of the handshake, whose rest has not come. The session knows where in it what
    /// is, so that it is shown it at each call.
    partial: Vec<u8>,
    /// What was decrypted when somebody only wanted to know whether there is something.
    plain: Vec<u8>,
    /// The peer has said that nothing more comes.
    peer_closed: bool,
    /// That was said to the peer.
    closed: bool,
    /// The connection is of no use any more.
    failed: bool,
    /// How much of `partial` the client's first message was looked for in.
    read: usize,
    /// The session has seen what came before it was there.
    begun: bool,
    /// The name that the client asked for.
    server_name: Option<Box<str>>,
    offered: Option<Box<Offered>>,
    session_id: Box<[u8]>,
}

#[allow(clippy::large_enum_variant)] // almost all are of the largest
pub(super) enum Session {
    /// The client's first message decides how the connection is configured.
    Hello(Acceptor),
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// What a name that a client asks for leads to.
pub enum Chosen {
    /// This certificate and these rules.
    Config {
        /// What the session is made with.
        config: Arc<ServerConfig>,
        /// Whether what the client offered is kept for `$ssl_ciphers` and `$ssl_curves`.
        keep_offered: bool,
    },
    /// `ssl_reject_handshake`
    Rejected,
}

/// What a client offered to agree upon, by the numbers in IANA's registry.
pub struct Offered {
    /// Cipher suites.
    pub suites: Vec<u16>,
    /// Groups for the exchange of keys.
    pub groups: Vec<u16>,
}

impl Offered {
    fn of(hello: &ClientHello<'_>) -> Self {
        let groups = hello.named_groups().unwrap_or_default();
        Self {
            suites: hello
                .cipher_suites()
                .iter()
                .map(|&suite| suite.into())
                .collect(),
            groups: groups.iter().map(|&group| group.into()).collect(),
        }
    }
}

/// What was agreed upon with a client.
pub struct Agreed<'a> {
    /// rustls's view.
    pub session: &'a CommonState,
    /// The name that the client asked for.
    pub server_name: Option<&'a str>,
    /// What it offered, where that is kept.
    pub offered: Option<&'a Offered>,
    /// By what the session can be resumed from a cache (RFC 5246 section 7.4.1.3); empty in TLS 1.3.
    pub session_id: &'a [u8],
}

impl Agreed<'_> {
    /// How the handshake went, for the counters.
    pub fn shaken(&self) -> Shaken {
        Shaken {
            tls13: self.session.protocol_version() == Some(ProtocolVersion::TLSv1_3),
            resumed: self.session.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }
}

/// Asked once, when the client has said what it wants.
pub(super) type Choose<'a> = &'a mut dyn FnMut(&ClientHello<'_>) -> Chosen;

/// What to do after one state of a session.
enum Step {
    Again,
    Blocked,
}

impl Tls {
    pub(super) fn new(session: Session, received: Vec<u8>) -> Self {
        Self {
            session,
            partial: received,
            plain: Vec::new(),
            peer_closed: false,
            closed: false,
            failed: false,
            read: 0,
            begun: false,
            server_name: None,
            offered: None,
            session_id: Box::default(),
        }
    }

    /// What was agreed upon; `None` before the client has said anything.
    pub(super) fn agreed(&self) -> Option<Agreed<'_>> {
        Some(Agreed {
            session: self.common()?,
            server_name: self.server_name.as_deref(),
            offered: self.offered.as_deref(),
            session_id: &self.session_id,
        })
    }

    /// Whether a receive brings something without asking the kernel: data, or the end.
    pub(super) fn has_plain(&self) -> bool {
        !self.plain.is_empty() || self.peer_closed || self.failed
    }

    /// A record is cut: nothing that came behind it could be read.
    pub(super) fn fail(&mut self) {
        self.failed = true;
    }

    /// Ready when the handshake is over; `choose` is for that of a client.
    pub(super) fn poll_handshake(
        &mut self,
        socket: &Socket,
        cx: &mut Context<'_>,
        mut choose: Option<Choose<'_>>,
    ) -> Poll<io::Result<()>> {
        loop {
            if let Session::Hello(_) = self.session {
                let choose = choose.as_deref_mut().expect("a server chooses");
                self.hello(socket, choose)?;
            }
            // What came before the session began, and what it says first.
            if !matches!(self.session, Session::Hello(_)) && !self.begun {
                self.begun = true;
                self.advance(socket)?;
            }
            if let Some(common) = self.common()
                && !common.is_handshaking()
            {
                return Poll::Ready(Ok(()));
            }
            ready!(socket.poll_readable(cx));
            let Some(received) = socket.try_recv(RECEIVE_MAX)? else {
                continue;
            };
            if received.is_empty() {
                self.failed = true;
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            if let Session::Hello(_) = self.session {
                self.partial.extend_from_slice(&received);
                continue;
            }
            let mut plain = std::mem::take(&mut self.plain);
            let taken = self.take(socket, received, |bytes| {
                plain.extend_from_slice(bytes);
                Ok(())
            });
            self.plain = plain;
            taken?;
        }
    }

    pub(super) fn common(&self) -> Option<&CommonState> {
        match &self.session {
            Session::Hello(_) => None,
            Session::Server(session) => Some(session),
            Session::Client(session) => Some(session),
        }
    }

    /// Chooses how to go on once the client's first message is here.
    fn hello(
        &mut self,
        socket: &Socket,
        choose: &mut dyn FnMut(&ClientHello<'_>) -> Chosen,
    ) -> io::Result<()> {
        let Session::Hello(acceptor) = &mut self.session else {
            return Ok(());
        };
        let mut unread = &self.partial[self.read..];
        while !unread.is_empty() {
            if acceptor.read_tls(&mut unread)? == 0 {
                break;
            }
        }
        self.read = self.partial.len() - unread.len();
        let accepted = match acceptor.accept() {
            Ok(None) => return Ok(()),
            Ok(Some(accepted)) => accepted,
            Err((error, mut alert)) => {
                self.failed = true;
                let mut bytes = Vec::new();
                alert.write_all(&mut bytes)?;
                socket.send_whole(&bytes)?;
                return Err(broken(error));
            }
        };
        let hello = accepted.client_hello();
        self.server_name = hello.server_name().map(Into::into);
        match choose(&hello) {
            Chosen::Config {
                config,
                keep_offered,
            } => {
                self.offered = keep_offered.then(|| Box::new(Offered::of(&hello)));
                let session = UnbufferedServerConnection::new(config).map_err(broken)?;
                self.session = Session::Server(session);
                Ok(())
            }
            Chosen::Rejected => {
                self.failed = true;
                socket.send_whole(&UNRECOGNIZED_NAME)?;
                Err(io::Error::other("handshake rejected"))
            }
        }
    }

    /// Goes on with what has come already.
    fn advance(&mut self, socket: &Socket) -> io::Result<()> {
        let mut incoming = std::mem::take(&mut self.partial);
        let mut plain = std::mem::take(&mut self.plain);
        let used = self.process(socket, &mut incoming, &mut |bytes| {
            plain.extend_from_slice(bytes);
            Ok(())
        });
        self.plain = plain;
        incoming.drain(..used?);
        if !incoming.is_empty() {
            self.partial = incoming;
        }
        Ok(())
    }

    /// Takes records apart: what came before with what has come now. `sink` gets what was in them.
    fn take(
        &mut self,
        socket: &Socket,
        received: Loan,
        mut sink: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut incoming = INCOMING.take();
        incoming.clear();
        incoming.extend_from_slice(&self.partial);
        incoming.extend_from_slice(&received);
        drop(received);
        self.partial = Vec::new();
        let used = self.process(socket, &mut incoming, &mut sink);
        if let Ok(used) = used
            && used < incoming.len()
        {
            self.partial = incoming[used..].to_vec();
        }
        if incoming.capacity() <= 2 * SCRATCH_BYTES {
            INCOMING.set(incoming);
        }
        used.map(drop)
    }

    /// Runs the session on `incoming`, sends what it has to say, and returns how many bytes are done with.
    fn process(
        &mut self,
        socket: &Socket,
        incoming: &mut [u8],
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<usize> {
        let mut outgoing = OUTGOING.take();
        outgoing.clear();
        let mut used = 0;
        let mut failure = None;
        loop {
            // After a failure, only the alert that says why is taken: records are not looked at any more.
            if failure.is_some() && !self.common().is_some_and(CommonState::wants_write) {
                break;
            }
            let rest = &mut incoming[used..];
            let (discard, step) = match &mut self.session {
                Session::Hello(_) => break,
                Session::Server(session) => step(
                    session.process_tls_records(rest),
                    sink,
                    &mut outgoing,
                    &mut self.peer_closed,
                ),
                Session::Client(session) => step(
                    session.process_tls_records(rest),
                    sink,
                    &mut outgoing,
                    &mut self.peer_closed,
                ),
            };
            used += discard;
            match step {
                Ok(Step::Again) => {}
                Ok(Step::Blocked) => break,
                Err(error) if failure.is_none() => failure = Some(error),
                Err(_) => break,
            }
        }
        if matches!(self.session, Session::Server(_)) && self.session_id.is_empty() {
            self.session_id = session_id(&outgoing).into();
        }
        let sent = match outgoing.is_empty() {
            true => Ok(()),
            false => socket.send_whole(&outgoing),
        };
        OUTGOING.set(outgoing);
        if let Some(error) = failure {
            self.failed = true;
            return Err(error);
        }
        sent.map(|()| used)
    }

    pub(super) fn receive(&mut self, socket: &Socket, most: usize) -> io::Result<Option<Loan>> {
        if !self.plain.is_empty() {
            let plain = std::mem::take(&mut self.plain);
            let n = plain.len().min(SCRATCH_BYTES);
            self.plain = plain[n..].to_vec();
            return Loan::fill(SCRATCH_BYTES, |buffer| {
                buffer[..n].copy_from_slice(&plain[..n]);
                Ok(n)
            })
            .map(Some);
        }
        if self.peer_closed {
            return Loan::fill(0, |_| Ok(0)).map(Some);
        }
        if self.failed {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let Some(received) = socket.try_recv(most.min(RECEIVE_MAX))? else {
            return Ok(None);
        };
        if received.is_empty() {
            self.failed = true;
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let loan = Loan::fill(SCRATCH_BYTES, |buffer| {
            let mut len = 0;
            self.take(socket, received, |bytes| {
                let room = buffer.get_mut(len..len + bytes.len());
                room.ok_or(io::ErrorKind::OutOfMemory)?
                    .copy_from_slice(bytes);
                len += bytes.len();
                Ok(())
            })?;
            Ok::<_, io::Error>(len)
        })?;
        Ok((!loan.is_empty() || self.peer_closed).then_some(loan))
    }

    pub(super) fn peek(&mut self, socket: &Socket) -> Peek {
        loop {
            if !self.plain.is_empty() {
                return Peek::Bytes;
            }
            if self.peer_closed || self.failed {
                return Peek::Closed;
            }
            match socket.peek() {
                Peek::Bytes => {}
                other => return other,
            }
            match self.receive(socket, RECEIVE_MAX) {
                Ok(Some(loan)) => self.plain = loan.to_vec(),
                Ok(None) => {}
                Err(_) => self.failed = true,
            }
        }
    }

    pub(super) fn send(&mut self, socket: &Socket, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.failed || self.closed {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if socket.is_backed_up() {
            return Ok(0);
        }
        if let [one] = slices {
            let bytes = &one[..one.len().min(SEND_MAX)];
            return self.encrypt(socket, bytes).map(|()| bytes.len());
        }
        let mut gathered = GATHERED.take();
        gathered.clear();
        for slice in slices {
            let room = SEND_MAX - gathered.len();
            gathered.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        let sent = self.encrypt(socket, &gathered).map(|()| gathered.len());
        GATHERED.set(gathered);
        sent
    }

    fn encrypt(&mut self, socket: &Socket, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut records = ENCRYPTED.take();
        let encrypted = match &mut self.session {
            Session::Hello(_) => Err(io::ErrorKind::NotConnected.into()),
            Session::Server(session) => encrypt(
                || session.process_tls_records(&mut self.partial),
                bytes,
                &mut records,
            ),
            Session::Client(session) => encrypt(
                || session.process_tls_records(&mut self.partial),
                bytes,
                &mut records,
            ),
        };
        let sent = encrypted.and_then(|len| socket.send_whole(&records[..len]));
        ENCRYPTED.set(records);
        sent.inspect_err(|_| self.failed = true)
    }

    /// Tells the peer that nothing more comes, if it has not been told and can be.
    pub(super) fn close(&mut self, socket: &Socket) {
        let shaken = self.common().is_some_and(|common| !common.is_handshaking());
        if self.closed || self.failed || !shaken {
            return;
        }
        self.closed = true;
        let mut alert = Vec::new();
        match &mut self.session {
            Session::Hello(_) => {}
            Session::Server(session) => {
                close_notify(session.process_tls_records(&mut self.partial), &mut alert);
            }
            Session::Client(session) => {
                close_notify(session.process_tls_records(&mut self.partial), &mut alert);
            }
        }
        if !alert.is_empty() {
            // The connection is over in any case.
            let _ = socket.send_whole(&alert);
        }
    }
}

/// `unrecognized_name` (RFC 6066 section 3) as a fatal alert in the clear.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// Carries out what a session wants. Returns how many incoming bytes are done with.
fn step<Side>(
    status: UnbufferedStatus<'_, '_, Side>,
    sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    outgoing: &mut Vec<u8>,
    peer_closed: &mut bool,
) -> (usize, io::Result<Step>) {
    let UnbufferedStatus { mut discard, state } = status;
    let carry_out = || match state.map_err(broken)? {
        ConnectionState::ReadTraffic(mut traffic) => {
            while let Some(record) = traffic.next_record() {
                let record = record.map_err(broken)?;
                discard += record.discard;
                sink(record.payload)?;
            }
            Ok(Step::Again)
        }
        ConnectionState::EncodeTlsData(mut data) => {
            let start = outgoing.len();
            outgoing.resize(start + OVERHEAD, 0);
            loop {
                match data.encode(&mut outgoing[start..]) {
                    Ok(n) => {
                        outgoing.truncate(start + n);
                        return Ok(Step::Again);
                    }
                    Err(EncodeError::InsufficientSize(needed)) => {
                        outgoing.resize(start + needed.required_size, 0);
                    }
                    Err(error) => return Err(io::Error::other(error)),
                }
            }
        }
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Ok(Step::Again)
        }
        ConnectionState::PeerClosed => {
            *peer_closed = true;
            Ok(Step::Again)
        }
        _ => Ok(Step::Blocked),
    };
    let step = carry_out();
    (discard, step)
}

/// Encrypts `bytes` into the beginning of `records`. Returns how many bytes that takes.
fn encrypt<'c, 'i, Side: 'c>(
    next: impl FnOnce() -> UnbufferedStatus<'c, 'i, Side>,
    bytes: &[u8],
    records: &mut Vec<u8>,
) -> io::Result<usize> {
    let ConnectionState::WriteTraffic(mut traffic) = next().state.map_err(broken)? else {
        return Err(io::ErrorKind::NotConnected.into());
    };
    let mut room = bytes.len() + OVERHEAD;
    loop {
        if records.len() < room {
            records.resize(room, 0);
        }
        match traffic.encrypt(bytes, records) {
            Ok(len) => return Ok(len),
            Err(EncryptError::InsufficientSize(needed)) => room = needed.required_size,
            Err(error) => return Err(io::Error::other(error)),
        }
    }
}

/// The session's id in a server's first record (RFC 5246 section 7.4.1.3). Empty for TLS 1.3, where the client's is only repeated
/// (RFC 8446 section 4.1.3), and for every other record.
fn session_id(records: &[u8]) -> &[u8] {
    const SERVER_HELLO: u8 = 2;
    // Record header, message header, version and random bytes.
    let found = match records {
        [22, 3, 3, _, _, SERVER_HELLO, _, _, _, 3, 3, rest @ ..] => rest.get(32..),
        _ => None,
    };
    let id = found.and_then(|rest| rest.split_first());
    let id = id.and_then(|(&len, rest)| rest.split_at_checked(len.into()));
    match id {
        // Suite and method of compression, then extensions, of which 43 says that it is TLS 1.3.
        Some((id, rest)) if !speaks_tls13(rest.get(3..).unwrap_or_default()) => id,
        _ => &[],
    }
}

/// Whether there is `supported_versions` (RFC 8446 section 4.2.1) among extensions with their length before them.
fn speaks_tls13(extensions: &[u8]) -> bool {
    let mut rest = extensions.get(2..).unwrap_or_default();
    while let [high, low, len_high, len_low, more @ ..] = rest {
        if [*high, *low] == [0, 43] {
            return true;
        }
        let len = usize::from(u16::from_be_bytes([*len_high, *len_low]));
        rest = more.get(len..).unwrap_or_default();
    }
    false
}

/// Writes the alert that says that nothing more comes, unless the handshake is not over.
fn close_notify<Side>(status: UnbufferedStatus<'_, '_, Side>, alert: &mut Vec<u8>) {
    if let Ok(ConnectionState::WriteTraffic(mut traffic)) = status.state {
        alert.resize(OVERHEAD, 0);
        let len = traffic.queue_close_notify(alert).unwrap_or_default();
        alert.truncate(len);
    }
}

fn broken(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
