//! A connection with or without TLS.
//!
//! Records are taken apart and made in buffers of the worker; a connection keeps only the beginning of a record whose rest has
//! not come. What the kernel has no room for is kept by the socket.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::client::UnbufferedClientConnection;
use rustls::server::{Acceptor, ClientHello, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{CommonState, ServerConfig};

use crate::net::{Loan, Peek, SCRATCH_BYTES, Socket};

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

/// A connected socket as [`Socket`], over which everything goes in records where TLS was begun.
pub struct Stream {
    socket: Socket,
    tls: Option<Box<RefCell<Tls>>>,
}

/// One side of a TLS connection.
struct Tls {
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
}

#[allow(clippy::large_enum_variant)] // almost all are of the largest
enum Session {
    /// The client's first message decides how the connection is configured.
    Hello(Acceptor),
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// What a name that a client asks for leads to.
pub enum Chosen {
    /// This certificate and these rules.
    Config(Arc<ServerConfig>),
    /// `ssl_reject_handshake`
    Rejected,
}

/// What to do after one state of a session.
enum Step {
    Again,
    Blocked,
}

impl From<Socket> for Stream {
    fn from(socket: Socket) -> Self {
        Self { socket, tls: None }
    }
}

impl Stream {
    /// Begins TLS as the server with what has come already; [`Stream::poll_accepted`] goes on with it.
    pub fn begin_accept(&mut self, received: Vec<u8>) {
        self.begin(Session::Hello(Acceptor::default()), received);
    }

    /// Begins TLS as the client; [`Stream::poll_shaken`] goes on with it.
    pub fn begin_connect(&mut self, session: UnbufferedClientConnection) {
        self.begin(Session::Client(session), Vec::new());
    }

    fn begin(&mut self, session: Session, received: Vec<u8>) {
        self.tls = Some(Box::new(RefCell::new(Tls {
            session,
            partial: received,
            plain: Vec::new(),
            peer_closed: false,
            closed: false,
            failed: false,
            read: 0,
            begun: false,
            server_name: None,
        })));
    }

    /// Ready when the handshake of a client is over. `choose` is asked once, when the client has said what it wants.
    ///
    /// # Errors
    /// Those of rustls as `InvalidData`, the alert being on its way; `UnexpectedEof`; those of the socket.
    pub fn poll_accepted(
        &self,
        cx: &mut Context<'_>,
        choose: &mut dyn FnMut(&ClientHello<'_>) -> Chosen,
    ) -> Poll<io::Result<()>> {
        self.poll_handshake(cx, Some(choose))
    }

    /// Ready when the handshake with a server is over.
    ///
    /// # Errors
    /// Those of [`Stream::poll_accepted`].
    pub fn poll_shaken(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_handshake(cx, None)
    }

    fn poll_handshake(
        &self,
        cx: &mut Context<'_>,
        mut choose: Option<&mut dyn FnMut(&ClientHello<'_>) -> Chosen>,
    ) -> Poll<io::Result<()>> {
        let Some(tls) = &self.tls else {
            return Poll::Ready(Ok(()));
        };
        let tls = &mut *tls.borrow_mut();
        loop {
            if let Session::Hello(_) = tls.session {
                let choose = choose.as_deref_mut().expect("a server chooses");
                tls.hello(&self.socket, choose)?;
            }
            // What came before the session began, and what it says first.
            if !matches!(tls.session, Session::Hello(_)) && !tls.begun {
                tls.begun = true;
                tls.advance(&self.socket)?;
            }
            if let Some(common) = tls.common()
                && !common.is_handshaking()
            {
                return Poll::Ready(Ok(()));
            }
            ready!(self.socket.poll_readable(cx));
            let Some(received) = self.socket.try_recv(RECEIVE_MAX)? else {
                continue;
            };
            if received.is_empty() {
                tls.failed = true;
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            if let Session::Hello(_) = tls.session {
                tls.partial.extend_from_slice(&received);
                continue;
            }
            let mut plain = std::mem::take(&mut tls.plain);
            let taken = tls.take(&self.socket, received, |bytes| {
                plain.extend_from_slice(bytes);
                Ok(())
            });
            tls.plain = plain;
            taken?;
        }
    }

    /// Whether everything goes in records, so that bytes cannot be spliced.
    #[inline]
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// The socket, for what goes past the records: only where there are none.
    #[inline]
    pub fn plain_socket(&self) -> &Socket {
        debug_assert!(!self.is_tls());
        &self.socket
    }

    /// Lets `look` see what was agreed upon, and the name that the client asked for. `None` without TLS.
    pub fn session<T>(&self, look: impl FnOnce(&CommonState, Option<&str>) -> T) -> Option<T> {
        let tls = self.tls.as_ref()?.borrow();
        let common = tls.common()?;
        Some(look(common, tls.server_name.as_deref()))
    }

    /// See [`Socket::poll_connected`].
    pub fn poll_connected(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_connected(cx)
    }

    /// See [`Socket::poll_readable`].
    #[inline]
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.has_plain() {
            return Poll::Ready(());
        }
        self.socket.poll_readable(cx)
    }

    /// See [`Socket::poll_spliceable`].
    #[inline]
    pub fn poll_spliceable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.plain_socket().poll_spliceable(cx)
    }

    /// See [`Socket::poll_hung_up`].
    #[inline]
    pub fn poll_hung_up(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.socket.poll_hung_up(cx)
    }

    /// See [`Socket::poll_gone`].
    #[inline]
    pub fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.socket.poll_gone(cx)
    }

    /// See [`Socket::poll_writable`].
    #[inline]
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.socket.poll_writable(cx)
    }

    /// See [`Socket::poll_unasked`].
    #[inline]
    pub fn poll_unasked(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.tls.is_none() {
            return self.socket.poll_unasked(cx);
        }
        while self.poll_readable(cx).is_ready() {
            if self.has_unasked() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }

    /// See [`Socket::has_unasked`]. Messages of TLS itself, such as tickets, were asked for.
    #[inline]
    pub fn has_unasked(&self) -> bool {
        if self.tls.is_none() {
            return self.socket.has_unasked();
        }
        if !self.has_plain() && !self.socket.may_hold_more() {
            return false;
        }
        let found = self.peek() != Peek::Nothing;
        if !found {
            // The last receive took exactly what was there, or what came was a message of TLS.
            self.socket.found_empty();
        }
        found
    }

    /// See [`Socket::try_recv`]. Where TLS is, the end of the stream is only what the peer said to be one.
    ///
    /// # Errors
    /// Those of [`Socket::try_recv`]; `InvalidData` from rustls; `UnexpectedEof` for an end without a word.
    #[inline]
    pub fn try_recv(&self, most: usize) -> io::Result<Option<Loan>> {
        match &self.tls {
            None => self.socket.try_recv(most),
            Some(tls) => tls.borrow_mut().receive(&self.socket, most),
        }
    }

    /// See [`Socket::may_hold_more`].
    #[inline]
    pub fn may_hold_more(&self) -> bool {
        self.socket.may_hold_more()
    }

    /// See [`Socket::found_empty`].
    #[inline]
    pub fn found_empty(&self) {
        self.socket.found_empty();
    }

    /// See [`Socket::try_send`]. Where TLS is, what is sent at once goes in as few records as it can.
    ///
    /// # Errors
    /// Those of [`Socket::try_send`]; `NotConnected` after a failure of TLS.
    #[inline]
    pub fn try_send(&self, slices: &[IoSlice<'_>], more: bool) -> io::Result<usize> {
        match &self.tls {
            None => self.socket.try_send(slices, more),
            Some(tls) => tls.borrow_mut().send(&self.socket, slices),
        }
    }

    /// See [`Socket::is_reset`].
    pub fn is_reset(&self) -> bool {
        self.socket.is_reset()
    }

    /// See [`Socket::peek`]. Where TLS is, whole records are taken, and what is in them is kept for the next receive.
    #[inline]
    pub fn peek(&self) -> Peek {
        match &self.tls {
            None => self.socket.peek(),
            Some(tls) => tls.borrow_mut().peek(&self.socket),
        }
    }

    /// See [`Socket::finish`].
    pub fn finish(&self) {
        if let Some(tls) = &self.tls {
            tls.borrow_mut().close(&self.socket);
        }
        self.socket.finish();
    }

    /// See [`Socket::forget_unsent`].
    pub fn forget_unsent(&self) {
        if self.socket.forget_unsent()
            && let Some(tls) = &self.tls
        {
            // A record is cut: nothing that came behind it could be read.
            tls.borrow_mut().failed = true;
        }
    }

    /// See [`Socket::reset_on_close`]. The peer is not told that this is the end.
    pub fn reset_on_close(&self) {
        self.socket.reset_on_close();
    }

    /// See [`Socket::set_nodelay`].
    pub fn set_nodelay(&self, on: bool) {
        self.socket.set_nodelay(on);
    }

    /// See [`Socket::local_address`].
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.socket.local_address()
    }

    #[inline]
    fn has_plain(&self) -> bool {
        let has = |tls: &RefCell<Tls>| {
            let tls = tls.borrow();
            !tls.plain.is_empty() || tls.peer_closed || tls.failed
        };
        self.tls.as_deref().is_some_and(has)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(tls) = &self.tls
            && !self.socket.is_to_be_reset()
        {
            tls.borrow_mut().close(&self.socket);
        }
    }
}

impl Tls {
    fn common(&self) -> Option<&CommonState> {
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
            // What comes behind the message is for the session, so that it is not taken here.
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
            Chosen::Config(config) => {
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

    fn receive(&mut self, socket: &Socket, most: usize) -> io::Result<Option<Loan>> {
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

    fn peek(&mut self, socket: &Socket) -> Peek {
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

    fn send(&mut self, socket: &Socket, slices: &[IoSlice<'_>]) -> io::Result<usize> {
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
    fn close(&mut self, socket: &Socket) {
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

#[cfg(test)]
mod tests;
