//! What a probe can find. `words` says it.

use std::io;

use ntlm_origin::ntlm::ServerNames;

use super::crowd::Crowd;
use super::dial::Unreached;
use super::http2;
use super::login::End;

/// One finding.
#[derive(Debug)]
pub(super) enum Finding {
    /// There is no connection to be had.
    Unreached(Unreached),
    /// Clients do not take the certificate; when it expires, in seconds since 1970.
    Certificate(rustls::Error, i64),
    /// It keeps the probe from logging in.
    NotTried,
    /// Whoever speaks HTTP/1.1 is not served.
    Http2Only,
    /// Whoever can speak HTTP/2 is made to, and was answered so.
    Http2Preferred(http2::Answer),
    /// What is answered is no HTTP/1.1.
    NoHttp(io::Error),
    /// The answer has no end that is worth waiting for.
    TooLarge,
    /// A request without credentials leads elsewhere.
    Redirected(String),
    /// A request without credentials was answered as if none were needed.
    NotAsked(u16),
    /// It is a forward proxy that asks.
    ForwardProxy,
    /// An answer that is about no login.
    Unserved(u16),
    /// 401 with no scheme.
    Stripped,
    /// None of the schemes is one that logs a connection in.
    WrongScheme(Vec<String>),
    /// Negotiate is there without NTLM.
    KerberosOnly,
    /// NTLM is offered and its first message gets no challenge.
    NotChallenged,
    /// The challenge cannot be answered.
    BadChallenge,
    /// A login does not stay on one connection.
    NotKept(Shift),
    /// Strangers were let in by somebody else's login: seen while there was one.
    Inherited(Crowd),
    /// Some strangers are let in and others are asked to log in.
    Differs(Crowd),
    /// The login has to be bound to another certificate than the one that is shown.
    ChannelBinding(Proof),
    /// The server does not take the name and the password.
    Refused(Doubt),
    /// The login works at the server, and not through the front.
    BrokenByTheFront,
    /// A leg was answered by something that is no verdict.
    Unjudged(u16),
    /// The connection ended, or nothing came, in place of an answer.
    Lost(io::Error),
    /// The connection forgets its login, though nothing says that it would.
    DoesNotLast,
    /// The answer to the login ends the connection.
    ClosesAfterLogin,
    /// Each request has to log in by itself: the server wants it so.
    PerRequest,
    /// The server to compare with cannot be asked.
    BehindUnreached(String),
}

/// By what it showed that legs do not arrive where those before them did.
#[derive(Debug)]
pub(super) enum Shift {
    /// The answer to a leg announces the end of the connection.
    Closing,
    /// The second leg was answered as if there had been no first.
    Forgotten,
    /// Two challenges on one connection came of these two servers.
    OtherServer(ServerNames, ServerNames),
    /// The last leg was answered by another challenge.
    BegunAnew,
    /// A login that works alone fails beside another.
    TwoAtOnce,
    /// The login was gone when strangers had asked for something.
    Taken,
}

/// How another certificate showed.
#[derive(Debug)]
pub(super) enum Proof {
    /// A login that is bound to none is taken.
    Unbound,
    /// A login that is bound to the certificate of the server behind is taken: whom that is for.
    Behind(String),
}

/// What else than the password a refusal may come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// Nothing: the server itself says the same, or legs were seen to stay together and nothing is bound.
    None,
    /// Legs may not arrive on one connection: nothing showed whether they do.
    Kept,
    /// The server may want the login bound to another certificate.
    Binding,
    /// Either of them.
    Both,
}

impl Finding {
    /// There was no answer.
    pub(super) fn lost(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::FileTooLarge => Self::TooLarge,
            _ => Self::Lost(error),
        }
    }

    /// Somebody without a login was answered otherwise than by 401, where others were asked to log in.
    pub(super) fn let_in_or_unserved(status: u16) -> Self {
        match status {
            200..300 => Self::Differs(Crowd::default().let_in()),
            _ => Self::Unserved(status),
        }
    }

    /// Whether somebody's login fails, or is in danger, by it.
    pub(super) fn is_problem(&self) -> bool {
        match self {
            Self::NotTried | Self::PerRequest | Self::BehindUnreached(_) => false,
            Self::Http2Preferred(answer) => *answer != http2::Answer::StepsBack,
            _ => true,
        }
    }
}

impl From<End> for Finding {
    /// What the end of a login means if nothing else is known.
    fn from(end: End) -> Self {
        match end {
            // Nobody ends a login so who only asks for a challenge.
            End::LoggedIn(answer) => Self::let_in_or_unserved(answer.status),
            End::Refused => Self::Refused(Doubt::None),
            End::BegunAnew => Self::NotKept(Shift::BegunAnew),
            End::NotChallenged { understood: true } => Self::NotKept(Shift::Forgotten),
            End::NotChallenged { understood: false } => Self::NotChallenged,
            End::Unasked(status) => Self::let_in_or_unserved(status),
            End::Closing => Self::NotKept(Shift::Closing),
            End::Lost(error) => Self::lost(error),
            End::BadChallenge => Self::BadChallenge,
            End::Unjudged(407) => Self::ForwardProxy,
            End::Unjudged(status) => Self::Unjudged(status),
        }
    }
}
