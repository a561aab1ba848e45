//! TLS handshakes of one side, counted by one thread and read by any.

use std::io;

use super::counters::Count;

/// What a handshake agreed upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shaken {
    /// TLS 1.3, else 1.2.
    pub tls13: bool,
    /// It went on with an earlier session.
    pub resumed: bool,
}

impl Shaken {
    /// Every kind, in the order of the counters.
    const ALL: [Self; 4] = [
        Self::new(false, false),
        Self::new(false, true),
        Self::new(true, false),
        Self::new(true, true),
    ];

    const fn new(tls13: bool, resumed: bool) -> Self {
        Self { tls13, resumed }
    }

    /// The protocol's name as `$ssl_protocol` shows it.
    pub fn protocol(self) -> &'static str {
        if self.tls13 { "TLSv1.3" } else { "TLSv1.2" }
    }
}

/// Why a handshake failed. A counter's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum HandshakeFailure {
    TimedOut,
    /// The peer closed the connection before the end.
    Closed,
    /// What the peer said or showed cannot be accepted, or it did not accept ours.
    Tls,
    /// The server block rejects handshakes.
    Rejected,
    /// The connection failed.
    Connection,
}

impl HandshakeFailure {
    /// Every reason, in the order of the counters.
    const ALL: [Self; 5] = [
        Self::TimedOut,
        Self::Closed,
        Self::Tls,
        Self::Rejected,
        Self::Connection,
    ];

    /// The word for labels.
    pub fn word(self) -> &'static str {
        match self {
            Self::TimedOut => "timed_out",
            Self::Closed => "closed",
            Self::Tls => "tls",
            Self::Rejected => "rejected",
            Self::Connection => "connection",
        }
    }
}

impl From<io::ErrorKind> for HandshakeFailure {
    /// What the kinds of [`Stream::poll_accepted`](crate::tls::Stream::poll_accepted) mean.
    fn from(kind: io::ErrorKind) -> Self {
        match kind {
            io::ErrorKind::TimedOut => Self::TimedOut,
            io::ErrorKind::UnexpectedEof => Self::Closed,
            io::ErrorKind::InvalidData => Self::Tls,
            io::ErrorKind::Other => Self::Rejected,
            _ => Self::Connection,
        }
    }
}

/// Handshakes by how they ended.
#[derive(Debug, Default)]
pub struct Handshakes {
    done: [Count; Shaken::ALL.len()],
    failed: [Count; HandshakeFailure::ALL.len()],
}

impl Handshakes {
    /// Counts one that succeeded.
    pub fn succeeded(&self, shaken: Shaken) {
        self.done[usize::from(shaken.tls13) * 2 + usize::from(shaken.resumed)].add(1);
    }

    /// Counts one that failed.
    pub fn failed(&self, failure: HandshakeFailure) {
        // ALL lists the variants in their order.
        self.failed[failure as usize].add(1);
    }

    /// Those that succeeded, by kind.
    pub fn done(&self) -> impl Iterator<Item = (Shaken, u64)> {
        Shaken::ALL
            .into_iter()
            .zip(self.done.iter().map(Count::value))
    }

    /// Those that failed, by reason.
    pub fn failures(&self) -> impl Iterator<Item = (HandshakeFailure, u64)> {
        HandshakeFailure::ALL
            .into_iter()
            .zip(self.failed.iter().map(Count::value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_and_every_reason_has_its_own_count() {
        let handshakes = Handshakes::default();
        for (number, shaken) in Shaken::ALL.into_iter().enumerate() {
            (0..number).for_each(|_| handshakes.succeeded(shaken));
        }
        for (number, failure) in HandshakeFailure::ALL.into_iter().enumerate() {
            (0..number).for_each(|_| handshakes.failed(failure));
        }
        for (number, (shaken, count)) in handshakes.done().enumerate() {
            assert_eq!((shaken, count), (Shaken::ALL[number], number as u64));
        }
        for (number, (failure, count)) in handshakes.failures().enumerate() {
            assert_eq!(
                (failure, count),
                (HandshakeFailure::ALL[number], number as u64)
            );
        }
    }
}
