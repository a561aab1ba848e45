//! A connected stream socket.

use std::cell::Cell;
use std::future::{Future as _, poll_fn};
use std::io::{self, IoSlice};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::task::{Context, Poll};
use std::time::Duration;

use nix::sys::socket::{MsgFlags, recv, sendmsg};
use socket2::{Domain, SockAddr, SockRef, Type};

use super::executor::{begin_closing, sleep, spawn};
use super::scratch::Loan;
use super::watch::Watch;

/// How long a closed connection may take for the bytes that its driver has yet to send.
const LAST_BYTES: Duration = Duration::from_secs(60);

/// A connected, non-blocking stream socket, used by one task. Dropping it shuts the connection down in both directions and
/// closes it, behind the bytes that were sent.
///
/// "Try first, wait only when it would block": what is remembered of its readiness is a guess that the driver makes true, and a
/// receive or send false that found less than it asked for.
pub struct Socket {
    // Before the descriptor that it watches.
    watch: Watch,
    // The only descriptor of its kernel file, so that closing it ends what the driver has about it.
    socket: socket2::Socket,
    // The close is to be a reset.
    resets: Cell<bool>,
}

/// What is waiting in a socket's receive queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peek {
    /// Nothing, and the peer is there.
    Nothing,
    /// Bytes.
    Bytes,
    /// The end of the stream, or an error.
    Closed,
}

impl Socket {
    /// Takes a connected or connecting socket that is non-blocking already and has no duplicate.
    pub(super) fn connected(socket: socket2::Socket) -> io::Result<Self> {
        Ok(Self {
            watch: Watch::new(socket.as_fd())?,
            socket,
            resets: Cell::new(false),
        })
    }

    /// Begins to connect over TCP, from `bind` if given. The connection is there once [`Socket::poll_connected`] says so.
    ///
    /// # Errors
    /// Those of `socket(2)`, `bind(2)` and `connect(2)`, other than that it goes on in the background.
    pub fn connect(to: SocketAddr, bind: Option<IpAddr>, keepalive: bool) -> io::Result<Self> {
        let socket = socket2::Socket::new(
            Domain::for_address(to),
            Type::STREAM.nonblocking().cloexec(),
            None,
        )?;
        socket.set_tcp_nodelay(true)?;
        if keepalive {
            socket.set_keepalive(true)?;
        }
        if let Some(address) = bind {
            nix::sys::socket::setsockopt(
                &socket,
                nix::sys::socket::sockopt::IpBindAddressNoPort,
                &true,
            )?;
            socket.bind(&SocketAddr::new(address, 0).into())?;
        }
        Self::begin(socket, &to.into())
    }

    /// Begins to connect to a unix socket.
    ///
    /// # Errors
    /// Those of `socket(2)` and `connect(2)`; `WouldBlock` means that its backlog is full.
    pub fn connect_unix(to: &Path) -> io::Result<Self> {
        let socket =
            socket2::Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
        Self::begin(socket, &SockAddr::unix(to)?)
    }

    fn begin(socket: socket2::Socket, to: &SockAddr) -> io::Result<Self> {
        match socket.connect(to) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        Self::connected(socket)
    }

    /// Ready when the connection is made, or with the error that it failed with.
    pub fn poll_connected(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_writable(cx)
            .map(|()| match self.socket.take_error()? {
                Some(error) => Err(error),
                None => Ok(()),
            })
    }

    /// Ready when a receive would bring something: bytes, the end or an error. The driver may receive them meanwhile.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.watch.poll_bytes(cx)
    }

    /// Ready when [`super::Pipe::fill`] would bring something. The driver leaves the bytes where they are.
    pub fn poll_spliceable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.watch.poll_readable(cx)
    }

    /// Ready when the peer has sent its last byte or is gone, whatever is still unread. Bytes do not wake it twice.
    pub fn poll_hung_up(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.watch.poll_hung_up(cx)
    }

    /// As [`Socket::poll_hung_up`], for a peer whose message is complete: the driver may receive the beginning of its next one,
    /// for which it waits with the same entry.
    pub fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        // Waiting for bytes reports a hang-up too, so that usually no second wait is needed.
        if !self.watch.is_readable() && self.poll_readable(cx).is_pending() {
            return Poll::Pending;
        }
        self.poll_hung_up(cx)
    }

    /// Ready when a send would take something, or fail.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.watch.poll_writable(cx)
    }

    /// Ready when something is there that nobody asked for: bytes, the end or an error. Unlike [`Socket::poll_readable`]
    /// it does not guess.
    pub fn poll_unasked(&self, cx: &mut Context<'_>) -> Poll<()> {
        while self.poll_readable(cx).is_ready() {
            if self.has_unasked() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }

    /// Whether something is there that nobody asked for, as far as the driver has noticed. Makes a system call only if so.
    pub fn has_unasked(&self) -> bool {
        if self.watch.is_readable() && self.peek() == Peek::Nothing {
            // The last receive took exactly what was there.
            self.found_empty();
        }
        self.watch.is_readable()
    }

    /// Receives what is there, at most `most` bytes (what the driver has received already comes whole) and
    /// [`super::SCRATCH_BYTES`]. `Ok(None)`: nothing now. An empty loan is the end of the stream.
    ///
    /// # Errors
    /// Those of `recv(2)`.
    pub fn try_recv(&self, most: usize) -> io::Result<Option<Loan>> {
        if let Some(loan) = self.watch.take_ahead()? {
            return Ok(Some(loan));
        }
        let mut asked = 0;
        let received = Loan::fill(most, |buffer| {
            asked = buffer.len();
            recv(self.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)
        });
        match received {
            Ok(loan) => {
                // Less than asked for: the queue is empty now (true of stream sockets), so the next look waits for the
                // driver. At the end of the stream the socket stays readable.
                if loan.len() < asked && !loan.is_empty() {
                    self.found_empty();
                }
                Ok(Some(loan))
            }
            Err(nix::Error::EAGAIN) => {
                self.found_empty();
                Ok(None)
            }
            Err(nix::Error::EINTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the last receive left something, as far as anybody knows.
    pub fn may_hold_more(&self) -> bool {
        self.watch.is_readable()
    }

    /// Says that a receive or `splice` found nothing more to take: the next look waits for the driver.
    pub fn found_empty(&self) {
        self.watch.found_empty();
    }

    /// Lets `take` have the bytes that the driver received ahead, if any; it returns how many it took.
    ///
    /// # Errors
    /// Those of `take`, or the one that the driver met.
    pub(super) fn take_bytes_ahead(
        &self,
        take: impl FnOnce(&[u8]) -> io::Result<usize>,
    ) -> io::Result<Option<usize>> {
        match self.watch.take_bytes_ahead(take) {
            Some(taken) => taken.map(Some),
            None => self.watch.take_ahead().map(|_| None),
        }
    }

    /// Has everything reach the kernel that the driver has for this socket. False if there is no room for all of it.
    pub(super) fn settle(&self) -> bool {
        self.watch.settle()
    }

    /// Says that a send or `splice` found no more room: the next look waits for the driver.
    pub(super) fn found_full(&self) {
        self.watch.found_full();
    }

    /// Sends as much as the socket takes now; `Ok(0)`: nothing. As with the kernel's own queue, what was taken may be on its
    /// way yet, and a failure shows at the next call or by receiving. With `more`, the kernel may hold the last segment back,
    /// 200 ms at the most, until it is filled: only for bytes that others follow at once.
    ///
    /// # Errors
    /// Those of `sendmsg(2)`; never a signal.
    pub fn try_send(&self, slices: &[IoSlice<'_>], more: bool) -> io::Result<usize> {
        if let Some(sent) = self.watch.send(slices, more)? {
            return Ok(sent);
        }
        let mut flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        if more {
            flags |= MsgFlags::from_bits_retain(libc::MSG_MORE);
        }
        match sendmsg::<()>(self.as_raw_fd(), slices, &[], flags, None) {
            Ok(n) => {
                // Less than offered: there is no room now (true of stream sockets).
                if n < slices.iter().map(|slice| slice.len()).sum() {
                    self.found_full();
                }
                Ok(n)
            }
            Err(nix::Error::EAGAIN) => {
                self.found_full();
                Ok(0)
            }
            Err(nix::Error::EINTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends all of `bytes`: what the kernel has no room for is kept until it has. For pieces that must not be cut, such as
    /// records; whoever sends one after another asks [`Socket::is_backed_up`] before, so that little is kept.
    ///
    /// # Errors
    /// Those of [`Socket::try_send`].
    pub fn send_whole(&self, bytes: &[u8]) -> io::Result<()> {
        let sent = self.try_send(&[IoSlice::new(bytes)], false)?;
        if sent < bytes.len() {
            self.watch.keep(&bytes[sent..]);
        }
        Ok(())
    }

    /// Whether bytes that were taken over wait for room. [`Socket::poll_writable`] is ready when they are gone.
    pub fn is_backed_up(&self) -> bool {
        self.watch.has_left()
    }

    /// Whether the close is to be a reset.
    pub fn is_to_be_reset(&self) -> bool {
        self.resets.get()
    }

    /// Whether the connection has failed, a reset by the peer above all. Bytes that came before may be unread still.
    pub fn is_reset(&self) -> bool {
        self.watch.has_failed() || !matches!(self.socket.take_error(), Ok(None))
    }

    /// Looks into the receive queue without taking anything.
    pub fn peek(&self) -> Peek {
        if self.watch.look_ahead() {
            return if self.watch.has_failed() {
                Peek::Closed
            } else {
                Peek::Bytes
            };
        }
        let mut byte = [0];
        match recv(
            self.as_raw_fd(),
            &mut byte,
            MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK,
        ) {
            Err(nix::Error::EAGAIN) => Peek::Nothing,
            Ok(n) if n > 0 => Peek::Bytes,
            Ok(_) | Err(_) => Peek::Closed,
        }
    }

    /// Sends the end of the stream; receiving goes on.
    pub fn finish(&self) {
        if !self.settle() {
            self.watch.finish_when_sent();
            return;
        }
        // An error means that the connection is gone, which the next receive says too.
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Gives up what was taken over for sending and the kernel has no room for, so that the close waits for nothing. True if
    /// there was any.
    pub fn forget_unsent(&self) -> bool {
        let left = !self.watch.settle();
        self.watch.forget_left();
        left
    }

    /// Makes the close a reset, as nginx does for `return 444` and timed out connections with data unsent. A unix socket, which
    /// knows none, is only closed.
    pub fn reset_on_close(&self) {
        self.forget_unsent();
        self.resets.set(true);
    }

    /// `TCP_NODELAY`; no effect on a unix socket.
    pub fn set_nodelay(&self, on: bool) {
        let _ = self.socket.set_tcp_nodelay(on);
    }

    /// Leaves the connection to a task that closes it when all is sent. What is left here is a descriptor to close.
    ///
    /// # Errors
    /// No descriptors are left, or no worker runs.
    fn send_last_bytes(&mut self) -> io::Result<()> {
        let Some(closing) = begin_closing() else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let socket = self.socket.try_clone()?;
        let watch = self.watch.move_to(socket.as_fd())?;
        let resets = Cell::new(false);
        let socket = Self {
            watch,
            socket,
            resets,
        };
        spawn(async move {
            let mut patience = std::pin::pin!(sleep(LAST_BYTES));
            poll_fn(|cx| match socket.poll_writable(cx) {
                Poll::Pending => patience.as_mut().poll(cx),
                ready => ready,
            })
            .await;
            socket.watch.forget_left();
            drop(closing);
        });
        Ok(())
    }

    /// The address that the peer connected to; `None` for a unix socket.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()?.as_socket()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if !self.settle() && self.send_last_bytes().is_ok() {
            return;
        }
        if self.resets.get() {
            reset(&self.socket);
        }
        // A ring's armed poll entries keep the kernel's file alive, so that closing the descriptor alone would send no FIN.
        // Shutting down does, and completes them.
        let _ = SockRef::from(&self.socket).shutdown(Shutdown::Both);
    }
}

/// Ends a TCP connection by a reset. A close that is to be one (`SO_LINGER`) would come behind the end of the stream that shutting
/// down sends.
#[cold]
#[allow(unsafe_code)]
fn reset(socket: &socket2::Socket) {
    let nobody = libc::sockaddr {
        sa_family: libc::AF_UNSPEC as libc::sa_family_t,
        sa_data: [0; 14],
    };
    let len = size_of_val(&nobody) as libc::socklen_t;
    // Connecting to nobody dissolves the connection (connect(2)). An error means that there was none any more.
    // SAFETY: the kernel reads `len` bytes of `nobody`, which lives that long, and writes nothing.
    unsafe { libc::connect(socket.as_raw_fd(), &raw const nobody, len) };
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.socket.as_raw_fd()
    }
}
