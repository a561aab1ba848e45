//! Both ends of the front in one thread: a client, and an origin that only this client's requests reach, so that whatever
//! arrives belongs to what was sent.

use std::io::{self, ErrorKind, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::SockRef;

use crate::front::PATIENCE;

/// How long nothing has to happen until the other side of what seems to be incomplete is told that no more comes. Sooner or later
/// makes no difference to what is checked.
const QUIET: Duration = Duration::from_millis(15);

/// A lane's sockets.
pub(crate) struct Lane {
    front: SocketAddr,
    listener: TcpListener,
    client: Option<Client>,
    pub(crate) origins: Vec<Origin>,
}

/// The client's connection.
pub(crate) struct Client {
    stream: TcpStream,
    /// Received since the exchange began.
    pub(crate) bytes: Vec<u8>,
    pub(crate) end: Option<End>,
    finished: bool,
    exchanges: u64,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Clean,
    Reset,
}

/// A connection that the front opened.
pub(crate) struct Origin {
    stream: TcpStream,
    /// Received since the last answer.
    pub(crate) bytes: Vec<u8>,
    /// What the client sent when the first of these bytes came.
    pub(crate) cause: Arc<[u8]>,
    /// 100 was sent for what is there.
    pub(crate) continued: bool,
    /// The response of this exchange was sent on it.
    pub(crate) has_answered: bool,
    pub(crate) end: Option<End>,
    finished: bool,
}

/// What a wait ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    Something,
    /// Nothing for [`QUIET`].
    Nothing,
    /// The deadline is over.
    Hung,
}

impl Lane {
    pub(crate) fn new(listener: TcpListener, front: SocketAddr) -> Self {
        listener
            .set_nonblocking(true)
            .expect("a non-blocking listener");
        Self {
            front,
            listener,
            client: None,
            origins: Vec::new(),
        }
    }

    /// Begins an exchange: a client that has received nothing yet, on a connection of its own if the last one is gone.
    ///
    /// # Errors
    /// Bytes came on an idle connection.
    pub(crate) fn begin(&mut self) -> Result<&mut Client, Vec<u8>> {
        if let Some(client) = &mut self.client {
            client.bytes.clear();
            client.receive();
            if !client.bytes.is_empty() {
                return Err(std::mem::take(&mut client.bytes));
            }
            if client.end.is_some() || client.finished {
                self.leave();
            }
        }
        let front = self.front;
        for origin in &mut self.origins {
            origin.has_answered = false;
        }
        let client = self.client.get_or_insert_with(|| Client::connect(front));
        client.exchanges += 1;
        Ok(client)
    }

    /// The client, after [`Lane::begin`].
    pub(crate) fn client(&mut self) -> &mut Client {
        self.client.as_mut().expect("an exchange has begun")
    }

    /// Drops the client's connection.
    pub(crate) fn leave(&mut self) {
        if let Some(client) = self.client.take() {
            spare_port(&client.stream);
        }
    }

    /// Waits until something arrived anywhere and receives it.
    pub(crate) fn wait(&mut self, deadline: Instant, cause: &Arc<[u8]>) -> Waited {
        match self.poll(QUIET, cause) {
            true => Waited::Something,
            false if Instant::now() < deadline => Waited::Nothing,
            false => Waited::Hung,
        }
    }

    fn poll(&mut self, timeout: Duration, cause: &Arc<[u8]>) -> bool {
        let client = self.client.as_ref().filter(|client| client.end.is_none());
        let origins = self.origins.iter().filter(|origin| origin.end.is_none());
        let streams = client.map(|client| &client.stream).into_iter();
        let streams = streams
            .chain(origins.map(|origin| &origin.stream))
            .map(AsFd::as_fd);
        let mut polled: Vec<_> = std::iter::once(self.listener.as_fd())
            .chain(streams)
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        let timeout = PollTimeout::try_from(timeout).expect("a short time");
        if !matches!(poll(&mut polled, timeout), Ok(1..)) {
            return false;
        }
        let ready: Vec<bool> = polled.iter().map(|fd| fd.any() == Some(true)).collect();
        if ready[0]
            && let Ok((stream, _)) = self.listener.accept()
        {
            self.origins.push(Origin::new(stream));
        }
        let mut ready = ready[1..].iter();
        if let Some(client) = self.client.as_mut().filter(|client| client.end.is_none())
            && ready.next() == Some(&true)
        {
            client.receive();
        }
        let origins = self
            .origins
            .iter_mut()
            .filter(|origin| origin.end.is_none());
        // One that was accepted just now stands behind those that were polled.
        for (origin, ready) in origins.zip(ready) {
            if *ready {
                origin.receive(cause);
            }
        }
        true
    }

    /// When the current exchange has to be over.
    pub(crate) fn deadline() -> Instant {
        Instant::now() + PATIENCE
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Client {
    fn connect(front: SocketAddr) -> Self {
        let stream = TcpStream::connect(front).expect("a connection to the front");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        Self {
            stream,
            bytes: Vec::new(),
            end: None,
            finished: false,
            exchanges: 0,
        }
    }

    /// Whether this is the first exchange on its connection.
    pub(crate) fn is_new(&self) -> bool {
        self.exchanges == 1
    }

    /// Sends all of it, unless the front does not want it: then its answer says why.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Says that nothing more comes. Once is enough.
    pub(crate) fn finish(&mut self) {
        if !std::mem::replace(&mut self.finished, true) {
            let _ = self.stream.shutdown(Shutdown::Write);
        }
    }

    fn receive(&mut self) {
        self.end = receive(&self.stream, &mut self.bytes);
    }
}

impl Origin {
    fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        Self {
            stream,
            bytes: Vec::new(),
            cause: Arc::default(),
            continued: false,
            has_answered: false,
            end: None,
            finished: false,
        }
    }

    fn receive(&mut self, cause: &Arc<[u8]>) {
        if self.bytes.is_empty() {
            self.cause = Arc::clone(cause);
        }
        self.end = receive(&self.stream, &mut self.bytes);
    }

    /// Sends all of it, unless the front has left.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Says that nothing more comes. Once is enough.
    pub(crate) fn finish(&mut self) {
        if !std::mem::replace(&mut self.finished, true) {
            let _ = self.stream.shutdown(Shutdown::Write);
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        spare_port(&self.stream);
    }
}

/// Receives what is there, without waiting; says so if that was all.
fn receive(stream: &TcpStream, bytes: &mut Vec<u8>) -> Option<End> {
    let mut buffer = [0; 64 << 10];
    loop {
        match receive_some(stream, &mut buffer) {
            Ok(0) => return Some(End::Clean),
            Ok(n) => {
                bytes.extend_from_slice(&buffer[..n]);
                if n < buffer.len() {
                    return None;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            Err(_) => return Some(End::Reset),
        }
    }
}

fn receive_some(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    use nix::sys::socket::{MsgFlags, recv};
    use std::os::fd::AsRawFd;
    Ok(recv(stream.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)?)
}

/// Has a connection end with a reset, after which nobody keeps its ports for a minute.
fn spare_port(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
