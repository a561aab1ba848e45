//! A connection of the load or of the origin, with or without TLS.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::sys::socket::{MsgFlags, recv};
use rustls::{CommonState, Connection};

/// A connected socket that never waits. With TLS, handshakes go on as a part of receiving and sending.
pub(crate) struct Stream {
    socket: TcpStream,
    session: Option<Box<Connection>>,
}

impl Stream {
    /// Over a socket, which is made ready for that.
    pub(crate) fn new(socket: TcpStream, session: Option<Connection>) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        let session = session.map(Box::new);
        Ok(Self { socket, session })
    }

    /// What was agreed upon; `None` without TLS.
    pub(crate) fn agreed(&self) -> Option<&CommonState> {
        self.session.as_deref().map(|session| &**session)
    }

    /// How many tickets the server has sent (RFC 8446 section 4.6.1).
    pub(crate) fn tickets(&self) -> u32 {
        match self.session.as_deref() {
            Some(Connection::Client(session)) => session.tls13_tickets_received(),
            _ => 0,
        }
    }

    /// Takes what has come, at most once from the socket; 0 is the end. Nothing that was taken from the socket is left for the
    /// next call, so that the socket tells whether there is anything. `WouldBlock` where nothing has come but messages of TLS.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(session) = &mut self.session else {
            return self.socket.read(buffer);
        };
        // What is in the records has room in front of them, with what came of one before: two thirds are enough from buffers
        // of 64 KiB on.
        let (plain, records) = buffer.split_at_mut(buffer.len() / 3 * 2);
        let count = self.socket.read(records)?;
        let mut records = &records[..count];
        let mut filled = 0;
        let mut closed = count == 0;
        while !records.is_empty() {
            session.read_tls(&mut records)?;
            session
                .process_new_packets()
                .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
            loop {
                match session.reader().read(&mut plain[filled..]) {
                    Ok(0) => closed = true,
                    Ok(count) => {
                        filled += count;
                        continue;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
                break;
            }
            if closed {
                break;
            }
        }
        self.flush()?;
        match filled {
            0 if !closed => Err(ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }

    /// Whether [`Stream::skip`] is of use.
    pub(crate) fn can_skip(&self) -> bool {
        self.session.is_none()
    }

    /// Drops what has come, up to the buffer's length, without looking at it. Not with TLS.
    pub(crate) fn skip(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // With MSG_TRUNC, TCP drops the bytes without copying them: the load's core has enough to do.
        Ok(recv(self.socket.as_raw_fd(), buffer, MsgFlags::MSG_TRUNC)?)
    }

    /// Sends as much as the socket takes and returns how much that was; with TLS, what was taken may be [pending](Stream::is_pending).
    pub(crate) fn send(&mut self, slices: &mut [IoSlice<'_>]) -> io::Result<usize> {
        if self.session.is_none() {
            return match slices {
                [one] => self.socket.write(one),
                several => self.socket.write_vectored(several),
            };
        }
        let mut rest = slices;
        let mut sent = 0;
        loop {
            self.flush()?;
            let Some(session) = &mut self.session else {
                break;
            };
            if rest.is_empty() || session.wants_write() {
                break;
            }
            // As much as the session keeps at once, which it then sends.
            match session.writer().write_vectored(rest)? {
                0 => break,
                count => {
                    sent += count;
                    IoSlice::advance_slices(&mut rest, count);
                }
            }
        }
        match sent {
            0 => Err(ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }

    /// Sends what is pending, as far as the socket takes it.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        while session.wants_write() {
            match session.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether there are records that the socket has not taken yet.
    pub(crate) fn is_pending(&self) -> bool {
        self.session
            .as_ref()
            .is_some_and(|session| session.wants_write())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Stream {
    /// Tells the peer, as clients do.
    fn drop(&mut self) {
        if let Some(session) = &mut self.session {
            session.send_close_notify();
            // The connection is over in any case.
            let _ = self.flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::sync::Arc;

    use rustls::{HandshakeKind, ServerConfig, ServerConnection};

    use super::*;
    use crate::tls::{self, Clients, Key};

    /// Both ends of a connection; with TLS, the handshake is still to be made.
    fn pair(tls: Option<(&Clients, &Arc<ServerConfig>)>) -> (Stream, Stream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let sessions = tls.map(|(clients, config)| {
            let server = ServerConnection::new(config.clone()).unwrap();
            (clients.connect().unwrap(), server.into())
        });
        let (client_session, server_session) = sessions.unzip();
        (
            Stream::new(client, client_session).unwrap(),
            Stream::new(server, server_session).unwrap(),
        )
    }

    /// Moves all of `bytes` from one end to the other, however often they have to be asked.
    fn move_over(from: &mut Stream, to: &mut Stream, bytes: &[u8]) {
        let mut buffer = vec![0; 64 * 1024];
        let (mut sent, mut received) = (0, Vec::new());
        while received.len() < bytes.len() {
            if sent < bytes.len() {
                sent += or_nothing(from.send(&mut [IoSlice::new(&bytes[sent..])]));
            }
            from.flush().unwrap();
            let count = or_nothing(to.receive(&mut buffer));
            received.extend_from_slice(&buffer[..count]);
            // The handshake's answers.
            or_nothing(from.receive(&mut buffer));
        }
        assert!(received == bytes && !from.is_pending());
    }

    fn or_nothing(moved: io::Result<usize>) -> usize {
        match moved {
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            other => other.unwrap(),
        }
    }

    #[test]
    fn everything_arrives_whole_with_and_without_tls() {
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
        for key in [Key::P256, Key::Rsa2048] {
            let file = dir.path().join("key.pem");
            key.write(&file).unwrap();
            let clients = Clients::new(&file, false).unwrap();
            let config = tls::server(&file).unwrap();
            for tls in [None, Some((&clients, &config))] {
                let (mut client, mut server) = pair(tls);
                move_over(&mut client, &mut server, &bytes);
                move_over(&mut server, &mut client, &bytes);
                assert_eq!(client.agreed().is_some(), tls.is_some());
                drop(server);
                let mut buffer = vec![0; 64 * 1024];
                assert_eq!(client.receive(&mut buffer).unwrap(), 0);
            }
        }
    }

    #[test]
    fn another_certificate_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let files = ["ours", "theirs"].map(|name| dir.path().join(name));
        for file in &files {
            Key::P256.write(file).unwrap();
        }
        let clients = Clients::new(&files[0], false).unwrap();
        let theirs = tls::server(&files[1]).unwrap();
        let (mut client, mut server) = pair(Some((&clients, &theirs)));
        let mut buffer = vec![0; 64 * 1024];
        client.flush().unwrap();
        let refused = loop {
            or_nothing(server.receive(&mut buffer));
            match client.receive(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                other => break other.unwrap_err(),
            }
        };
        assert_eq!(refused.kind(), ErrorKind::InvalidData);
    }

    #[test]
    fn sessions_are_resumed_where_they_shall_be() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key.pem");
        Key::P256.write(&file).unwrap();
        let config = tls::server(&file).unwrap();
        for (resume, second) in [(true, HandshakeKind::Resumed), (false, HandshakeKind::Full)] {
            let clients = Clients::new(&file, resume).unwrap();
            for expected in [HandshakeKind::Full, second] {
                let (mut client, mut server) = pair(Some((&clients, &config)));
                move_over(&mut client, &mut server, b"there");
                move_over(&mut server, &mut client, b"and back");
                let kind = client.agreed().and_then(|agreed| agreed.handshake_kind());
                assert_eq!(kind, Some(expected));
                assert_eq!(client.tickets(), 2);
            }
        }
    }
}
