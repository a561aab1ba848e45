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
    Connect(io::Error),
    ConnectTimedOut,
    Send(io::Error),
    SendTimedOut,
    Closed,
    Receive(io::Error),
    ReadTimedOut,
    InvalidHead(Refusal),
    /// Its status is one that `proxy_next_upstream` names.
    Status(u16),
}

impl UpstreamFailure {
    /// What the client is answered if nobody else can.
    pub(super) fn status(&self) -> u16 {
        match self {
            Self::ConnectTimedOut | Self::SendTimedOut | Self::ReadTimedOut => 504,
            Self::Status(status) => *status,
            Self::Full => 500,
            Self::NoneLive
            | Self::Connect(_)
            | Self::Send(_)
            | Self::Closed
            | Self::Receive(_)
            | Self::InvalidHead(_) => 502,
        }
    }

    /// The front lacks what a connection takes: a place among its own, a descriptor, memory, a port.
    pub(super) fn is_ours(&self) -> bool {
        match self {
            Self::Full => true,
            Self::Connect(error) => matches!(
                error.raw_os_error(),
                Some(
                    libc::EMFILE
                        | libc::ENFILE
                        | libc::ENOBUFS
                        | libc::ENOMEM
                        | libc::EADDRNOTAVAIL
                )
            ),
            _ => false,
        }
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
            Self::NoneLive | Self::Full => false,
            Self::Connect(_) | Self::Send(_) | Self::Closed | Self::Receive(_) => next.error,
            Self::ConnectTimedOut | Self::SendTimedOut | Self::ReadTimedOut => next.timeout,
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
            Self::Connect(error) => {
                let cause = Cause::from(error);
                write!(f, "connect() failed ({cause}) while connecting to upstream")
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
            Self::Status(status) => {
                write!(
                    f,
                    "upstream answered {status}, which proxy_next_upstream names"
                )
            }
        }
    }
}
