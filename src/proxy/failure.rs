//! Why an exchange came to no end, and whose fault it was.

use std::fmt;
use std::io;

use crate::config::model::NextUpstream;
use crate::http::refusal::Refusal;
use crate::observe::cause::Cause;
use crate::pin::EndReason;

use super::relay::RelayError;

/// Why an exchange came to no end.
#[derive(Debug)]
pub(super) enum Failed {
    /// The client left.
    ClientGone,
    /// The client's body broke a rule, stopped or is too large, and no answer had begun.
    Body(RelayError),
    /// The server failed before an answer began.
    Upstream(UpstreamFailure),
    /// The answer had begun and cannot be completed: both connections are closed.
    Cut,
}

impl Failed {
    /// The server's head breaks a rule.
    pub(super) fn invalid_head(refusal: Refusal) -> Self {
        Self::Upstream(UpstreamFailure::InvalidHead(refusal))
    }

    /// What a request body's failure means for the exchange.
    pub(super) fn upload(error: RelayError) -> Self {
        match error {
            RelayError::CutShort | RelayError::Source(_) => Self::ClientGone,
            RelayError::Sink(error) => Self::Upstream(UpstreamFailure::Send(error)),
            RelayError::SinkTimedOut => Self::Upstream(UpstreamFailure::SendTimedOut),
            other => Self::Body(other),
        }
    }
}

/// What a server did wrong.
#[derive(Debug)]
pub(super) enum UpstreamFailure {
    NoneLive,
    /// The worker has as many connections as it may.
    Full,
    /// No descriptors or memory are left for another connection.
    Exhausted(io::Error),
    Connect(io::Error),
    ConnectTimedOut,
    /// The handshake failed: `InvalidData` is what TLS says about it.
    Handshake(io::Error),
    HandshakeTimedOut,
    Send(io::Error),
    SendTimedOut,
    Closed,
    Receive(io::Error),
    ReadTimedOut,
    InvalidHead(Refusal),
    /// The first bytes of its body break a rule, and nothing went to the client yet.
    InvalidBody(Refusal),
    /// Its status is one that `proxy_next_upstream` names.
    Status(u16),
}

impl UpstreamFailure {
    /// What the client is answered if nobody else can.
    pub(super) fn status(&self) -> u16 {
        match self {
            Self::ConnectTimedOut
            | Self::HandshakeTimedOut
            | Self::SendTimedOut
            | Self::ReadTimedOut => 504,
            Self::Status(status) => *status,
            Self::Full | Self::Exhausted(_) => 500,
            Self::NoneLive
            | Self::Connect(_)
            | Self::Handshake(_)
            | Self::Send(_)
            | Self::Closed
            | Self::Receive(_)
            | Self::InvalidHead(_)
            | Self::InvalidBody(_) => 502,
        }
    }

    /// A connection that could not be opened: the server's fault, or ours.
    pub(super) fn open(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS) => {
                Self::Exhausted(error)
            }
            _ => Self::Connect(error),
        }
    }

    /// Whether the front lacks something, which says nothing about the server.
    pub(super) fn is_ours(&self) -> bool {
        matches!(self, Self::Full | Self::Exhausted(_))
    }

    /// The connection broke before the first byte of an answer.
    pub(super) fn is_broken(&self) -> bool {
        matches!(self, Self::Send(_) | Self::Closed | Self::Receive(_))
    }

    /// Why a pin ends that this happened on: the server closed it, or the front does.
    pub(super) fn end_reason(&self) -> EndReason {
        if self.is_broken() {
            EndReason::UpstreamClosed
        } else {
            EndReason::Error
        }
    }

    /// Whether `proxy_next_upstream` names the failure.
    pub(super) fn is_named_by(&self, next: &NextUpstream) -> bool {
        match self {
            Self::NoneLive | Self::Full | Self::Exhausted(_) | Self::InvalidBody(_) => false,
            Self::Connect(_)
            | Self::Handshake(_)
            | Self::Send(_)
            | Self::Closed
            | Self::Receive(_) => next.error,
            Self::ConnectTimedOut
            | Self::HandshakeTimedOut
            | Self::SendTimedOut
            | Self::ReadTimedOut => next.timeout,
            Self::InvalidHead(_) => next.invalid_header,
            Self::Status(status) => next.statuses.contains(status),
        }
    }
}

impl fmt::Display for UpstreamFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HEADER: &str = "while reading response header from upstream";
        const TIMED_OUT: &str = "upstream timed out (110: Connection timed out)";
        match self {
            Self::NoneLive => f.write_str("no live upstreams while connecting to upstream"),
            Self::Full => {
                f.write_str("worker_connections are not enough while connecting to upstream")
            }
            Self::Exhausted(error) => {
                let cause = Cause::from(error);
                write!(f, "socket() failed ({cause}) while connecting to upstream")
            }
            Self::Connect(error) => {
                let cause = Cause::from(error);
                write!(f, "connect() failed ({cause}) while connecting to upstream")
            }
            Self::Handshake(error) => match error.kind() {
                io::ErrorKind::InvalidData => write!(
                    f,
                    "SSL_do_handshake() failed (SSL: {error}) while SSL handshaking to upstream"
                ),
                io::ErrorKind::UnexpectedEof => f.write_str(
                    "peer closed connection in SSL handshake while SSL handshaking to upstream",
                ),
                _ => {
                    let cause = Cause::from(error);
                    write!(
                        f,
                        "recv() failed ({cause}) while SSL handshaking to upstream"
                    )
                }
            },
            Self::HandshakeTimedOut => {
                write!(f, "{TIMED_OUT} while SSL handshaking to upstream")
            }
            Self::ConnectTimedOut => write!(f, "{TIMED_OUT} while connecting to upstream"),
            Self::Send(error) => {
                let cause = Cause::from(error);
                write!(
                    f,
                    "sendmsg() failed ({cause}) while sending request to upstream"
                )
            }
            Self::SendTimedOut => write!(f, "{TIMED_OUT} while sending request to upstream"),
            Self::Closed => write!(f, "upstream prematurely closed connection {HEADER}"),
            Self::Receive(error) => {
                let cause = Cause::from(error);
                write!(f, "recv() failed ({cause}) {HEADER}")
            }
            Self::ReadTimedOut => write!(f, "{TIMED_OUT} {HEADER}"),
            Self::InvalidHead(refusal) => {
                write!(
                    f,
                    "upstream sent invalid header ({}) {HEADER}",
                    refusal.word()
                )
            }
            Self::InvalidBody(refusal) => {
                let word = refusal.word();
                write!(f, "upstream sent invalid chunked response ({word})")
            }
            Self::Status(status) => {
                write!(
                    f,
                    "upstream answered {status}, which proxy_next_upstream names"
                )
            }
        }
    }
}
