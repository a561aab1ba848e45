//! A login on one connection, leg by leg.

use std::fmt;
use std::io;
use std::time::Duration;

use ntlm_origin::User;
use ntlm_origin::client::{Handshake, Response, Scheme};
use ntlm_origin::ntlm::{self, Binding, ServerNames};
use ntlm_origin::spnego::{Mechanism, State, Token};
use tokio::time::timeout;

use super::dial::Http;
use super::words::{Names, Words};

/// What the probe says of itself.
pub(super) const AGENT: &str = concat!("ntlmfront-probe/", env!("CARGO_PKG_VERSION"));

/// The largest answer that is read to its end, in bytes.
const BODY_BYTES_MAX: usize = 16 << 20;

/// How long an answer may take, its body included.
const PATIENCE: Duration = Duration::from_secs(60);

/// Legs after which a login is given up: the longest that there are take four.
const LEGS_MAX: u32 = 6;

/// Asks for `path`. Reads the body, and forgets it.
pub(super) async fn ask(
    http: &mut Http,
    path: &str,
    authorization: Option<&str>,
) -> io::Result<Response> {
    let mut fields = vec![("User-Agent", AGENT), ("Accept", "*/*")];
    fields.extend(authorization.map(|value| ("Authorization", value)));
    let answer = async {
        http.send_request("GET", path, &fields, b"").await?;
        let response = http.response_head("GET").await?;
        let mut read = 0;
        while let Some(piece) = http.body_piece().await? {
            read += piece.len();
            if read > BODY_BYTES_MAX {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
        }
        Ok(response)
    };
    timeout(PATIENCE, answer)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// A login under way.
pub(super) struct Login<'a> {
    scheme: Scheme,
    bound: bool,
    handshake: Handshake<'a>,
    authorization: String,
    legs: u32,
    /// NTLM's first message goes out next, or went out.
    opened: bool,
    succeeded: bool,
}

/// What the answer to a leg says.
#[derive(Debug)]
pub(super) enum Step {
    /// The next leg is asked for, and NTLM's challenge is not there yet.
    GoesOn,
    /// NTLM's challenge: who says to have sent it.
    Challenged(ServerNames),
    /// The login has ended.
    Over(End),
}

/// How a login ended.
#[derive(Debug)]
pub(super) enum End {
    /// The answer is somebody's.
    LoggedIn(Box<Response>),
    /// The password's proof was not taken.
    Refused,
    /// The proof is answered by another challenge, as if it were a login's beginning.
    BegunAnew,
    /// Nothing is asked for that could continue the login. Whether any leg was understood.
    NotChallenged { understood: bool },
    /// What began a login was answered as if it needed none.
    Unasked(u16),
    /// The answer to a leg says that the connection ends with it.
    Closing,
    /// The connection ended in place of an answer.
    Lost(io::Error),
    /// The challenge is none that NTLM version 2 can answer.
    BadChallenge,
    /// An answer that is no verdict: 400, 407, 431, 5xx.
    Unjudged(u16),
}

impl<'a> Login<'a> {
    /// Prepares the first leg.
    pub(super) fn begin(scheme: Scheme, user: &'a User, binding: Option<Binding<'a>>) -> Self {
        let (mut handshake, authorization) = Handshake::begin(scheme, user);
        let bound = binding.is_some_and(|binding| binding.end_point.is_some());
        if let Some(binding) = binding {
            handshake.bind_to(binding);
        }
        Self {
            scheme,
            bound,
            handshake,
            authorization,
            legs: 0,
            opened: scheme != Scheme::NegotiateNamed,
            succeeded: false,
        }
    }

    /// What the next leg sends, in words.
    pub(super) fn sends(&self) -> String {
        let message = match (self.opened, self.has_proved()) {
            (false, _) => return "Negotiate, names NTLM".to_owned(),
            (true, false) => "message 1",
            (true, true) if self.bound => "message 3, bound to the certificate",
            (true, true) => "message 3",
        };
        format!("{}, {message}", scheme_words(self.scheme))
    }

    /// Sends the next leg and reads its answer.
    pub(super) async fn leg(&mut self, http: &mut Http, path: &str) -> (Option<u16>, Step) {
        self.legs += 1;
        match ask(http, path, Some(&self.authorization)).await {
            Ok(response) => (Some(response.status), self.answered(response)),
            Err(error) => (None, Step::Over(End::Lost(error))),
        }
    }

    /// How many legs were sent.
    pub(super) fn legs(&self) -> u32 {
        self.legs
    }

    /// Whether the password's proof went out, or is to go out next.
    pub(super) fn has_proved(&self) -> bool {
        self.handshake.is_over()
    }

    /// Whether it ended as somebody's.
    pub(super) fn has_succeeded(&self) -> bool {
        self.succeeded
    }

    fn answered(&mut self, response: Response) -> Step {
        let proved = self.has_proved();
        let token = self.handshake.challenge(&response);
        let said = token.as_deref().map_or(Said::Nothing, Said::of);
        match (response.status, said) {
            (400 | 407 | 431 | 500.., _) => Step::Over(End::Unjudged(response.status)),
            (401, Said::Nothing | Said::Rejected) if proved => Step::Over(End::Refused),
            (401, Said::GoesOn | Said::Challenge(_)) if proved => Step::Over(End::BegunAnew),
            (401, Said::Nothing | Said::Rejected) => Step::Over(End::NotChallenged {
                understood: self.legs > 1 || token.is_some(),
            }),
            (401, _) if response.last => Step::Over(End::Closing),
            (401, said) => {
                let next = self.handshake.next(&response);
                let Some(next) = next.filter(|_| self.legs < LEGS_MAX) else {
                    return Step::Over(End::BadChallenge);
                };
                self.authorization = next;
                self.opened = true;
                match said {
                    Said::Challenge(names) => Step::Challenged(names),
                    _ => Step::GoesOn,
                }
            }
            _ if proved => {
                self.succeeded = true;
                Step::Over(End::LoggedIn(Box::new(response)))
            }
            (status, _) => Step::Over(End::Unasked(status)),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GoesOn => f.write_str("goes on"),
            Self::Challenged(names) => write!(f, "challenge of {}", Names(names)),
            Self::Over(end) => end.fmt(f),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LoggedIn(_) => "logged in",
            Self::Refused => "refused",
            Self::BegunAnew => "another challenge",
            Self::NotChallenged { .. } => "no challenge",
            Self::Unasked(_) => "no login is asked for",
            Self::Closing => "the connection ends",
            Self::Lost(error) => return write!(f, "no answer ({})", Words(error)),
            Self::BadChallenge => "a challenge that is none",
            Self::Unjudged(_) => "no verdict",
        })
    }
}

/// What the token of an answer says.
enum Said {
    Nothing,
    /// The negotiation is over, or is about a mechanism that is not NTLM.
    Rejected,
    /// The next token is asked for.
    GoesOn,
    /// NTLM's challenge.
    Challenge(ServerNames),
}

impl Said {
    fn of(token: &[u8]) -> Self {
        if ntlm::is_message(token) {
            return Self::Challenge(ServerNames::of(token).unwrap_or_default());
        }
        let Some(Token::Reply(reply)) = Token::parse(token) else {
            return Self::Rejected;
        };
        let other = reply.mechanism.is_some_and(|it| it != Mechanism::Ntlm);
        match reply.token {
            _ if other || reply.state == Some(State::Rejected) => Self::Rejected,
            Some(message) => Self::Challenge(ServerNames::of(&message).unwrap_or_default()),
            None => Self::GoesOn,
        }
    }
}

/// How NTLM's messages travel, in words.
pub(super) fn scheme_words(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Ntlm => "NTLM",
        Scheme::NegotiateBare => "Negotiate with bare NTLM",
        Scheme::Negotiate | Scheme::NegotiateNamed | Scheme::NegotiateAfterKerberos => {
            "Negotiate with NTLM inside"
        }
    }
}
