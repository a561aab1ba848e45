//! A connection with or without TLS.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::task::{Context, Poll};

use rustls::client::UnbufferedClientConnection;
use rustls::server::Acceptor;

use crate::net::{Loan, Peek, Socket};

use super::session::{Agreed, Choose, Session, Tls};

/// A connected socket as [`Socket`], over which everything goes in records where TLS was begun.
pub struct Stream {
    socket: Socket,
    tls: Option<Box<RefCell<Tls>>>,
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
        let tls = Tls::new(session, received);
        self.tls = Some(Box::new(RefCell::new(tls)));
    }

    /// Ready when the handshake of a client is over. `choose` is asked once, when the client has said what it wants.
    ///
    /// # Errors
    /// Those of rustls as `InvalidData`, the alert being on its way; `UnexpectedEof`; those of the socket.
    pub fn poll_accepted(&self, cx: &mut Context<'_>, choose: Choose<'_>) -> Poll<io::Result<()>> {
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
        choose: Option<Choose<'_>>,
    ) -> Poll<io::Result<()>> {
        match &self.tls {
            None => Poll::Ready(Ok(())),
            Some(tls) => tls.borrow_mut().poll_handshake(&self.socket, cx, choose),
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

    /// Lets `look` see what was agreed upon. `None` without TLS.
    pub fn agreed<T>(&self, look: impl FnOnce(&Agreed<'_>) -> T) -> Option<T> {
        let tls = self.tls.as_ref()?.borrow();
        Some(look(&tls.agreed()?))
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
            tls.borrow_mut().fail();
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
        let tls = self.tls.as_ref();
        tls.is_some_and(|tls| tls.borrow().has_plain())
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

#[cfg(test)]
mod tests;
