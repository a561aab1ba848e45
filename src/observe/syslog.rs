//! Messages to a syslog server, as nginx writes them (RFC 3164), and how they stand in a ring.

use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;

use crate::config::model::{Level, PeerAddress, Syslog};

use super::time;

/// Bytes before each message in a ring that say how long it is.
pub(super) const FRAME_BYTES: usize = size_of::<u32>();

/// Appends a message with its length before it.
pub(super) fn frame(out: &mut Vec<u8>, message: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_BYTES]);
    message(out);
    let length = out.len() - start - FRAME_BYTES;
    // No request's head is that long; what cannot be sent is found out by sending it.
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    out[start..start + FRAME_BYTES].copy_from_slice(&length.to_ne_bytes());
}

/// The message of a frame.
pub(super) fn framed(frame: &[u8]) -> &[u8] {
    &frame[FRAME_BYTES..]
}

/// How long the message of a frame is.
pub(super) fn framed_bytes(start: [u8; FRAME_BYTES]) -> usize {
    u32::from_ne_bytes(start) as usize
}

/// What a server is called in messages.
pub(super) fn name(syslog: &Syslog) -> String {
    match &syslog.server {
        PeerAddress::Inet(address) => format!("syslog:server={address}"),
        PeerAddress::Unix(path) => format!("syslog:server=unix:{}", path.display()),
    }
}

/// How the messages to one server begin.
#[derive(Debug)]
pub(super) struct Header {
    facility: u8,
    severity: u8,
    /// What stands between the time and the text.
    names: String,
}

impl Header {
    pub(super) fn new(syslog: &Syslog) -> Self {
        let host = nix::unistd::gethostname()
            .map(|name| name.to_string_lossy().to_lowercase())
            .unwrap_or_default();
        Self {
            facility: syslog.facility,
            severity: syslog.severity,
            names: match syslog.hostname {
                true => format!(" {host} {}: ", syslog.tag),
                false => format!(" {}: ", syslog.tag),
            },
        }
    }

    /// Appends the beginning of a message. `level` is that of a line of an error log.
    pub(super) fn append(&self, level: Option<Level>, out: &mut Vec<u8>) {
        let priority = self.facility * 8 + level.map_or(self.severity, severity);
        // Writing to a vector does not fail.
        let _ = time::with_now(|now| write!(out, "<{priority}>{}{}", now.syslog(), self.names));
    }
}

/// RFC 3164 section 4.1.1.
fn severity(level: Level) -> u8 {
    match level {
        Level::Emerg => 0,
        Level::Alert => 1,
        Level::Crit => 2,
        Level::Error => 3,
        Level::Warn => 4,
        Level::Notice => 5,
        Level::Info => 6,
        Level::Debug => 7,
    }
}

/// A connected datagram socket that never waits.
#[derive(Debug)]
pub(super) enum Socket {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

impl Socket {
    pub(super) fn connect(server: &PeerAddress) -> io::Result<Self> {
        Ok(match server {
            PeerAddress::Inet(server) => {
                let any = match server {
                    SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
                    SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
                };
                let socket = UdpSocket::bind(any)?;
                socket.set_nonblocking(true)?;
                socket.connect(server)?;
                Self::Udp(socket)
            }
            PeerAddress::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.set_nonblocking(true)?;
                socket.connect(path)?;
                Self::Unix(socket)
            }
        })
    }

    /// Sends one datagram.
    pub(super) fn send(&self, message: &[u8]) -> io::Result<()> {
        match self {
            Self::Udp(socket) => socket.send(message),
            Self::Unix(socket) => socket.send(message),
        }
        .map(drop)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Udp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_begin_as_rfc_3164_says() {
        let host = nix::unistd::gethostname().unwrap();
        let host = host.to_string_lossy().to_lowercase();
        let time = regex::Regex::new(">[A-Z][a-z]{2} [ 1-3][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2}");
        let time = time.unwrap();
        for (facility, severity, level, hostname, expected) in [
            (23, 6, None, false, "<190>TIME nginx: ".to_owned()),
            (0, 0, None, true, format!("<0>TIME {host} nginx: ")),
            (
                2,
                6,
                Some(Level::Error),
                true,
                format!("<19>TIME {host} nginx: "),
            ),
            (
                23,
                6,
                Some(Level::Debug),
                false,
                "<191>TIME nginx: ".to_owned(),
            ),
        ] {
            let header = Header::new(&Syslog {
                server: PeerAddress::Unix("/dev/log".into()),
                facility,
                severity,
                tag: "nginx".to_owned(),
                hostname,
            });
            let mut out = Vec::new();
            header.append(level, &mut out);
            let text = String::from_utf8(out).unwrap();
            let text = time.replace(&text, ">TIME");
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn frames() {
        let mut out = b"before".to_vec();
        frame(&mut out, |out| out.extend_from_slice(b"message"));
        let frame = &out[6..];
        assert_eq!(framed(frame), b"message");
        assert_eq!(framed_bytes(*frame.first_chunk().unwrap()), 7);
    }
}
