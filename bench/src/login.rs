//! The login that each connection makes: NTLM in full, or messages of its shape and size that are made once.

use std::borrow::Cow;

use base64::{Engine, prelude::BASE64_STANDARD};
use ntlm_origin::{User, ntlm};

/// The domain that the origin is in.
pub(crate) const DOMAIN: &str = "EXAMPLE";

/// The requests that a login takes.
pub(crate) const LOGIN_REQUESTS: usize = 2;

/// The one user of the bench.
pub(crate) fn user() -> User {
    User::new(DOMAIN, "alice", "wonderland")
}

/// The `Authorization` that opens a login.
pub(crate) fn type1() -> String {
    authorization(&ntlm::type1())
}

/// A real challenge, for servers that send everybody the same one.
pub(crate) fn sample_challenge() -> Vec<u8> {
    ntlm::challenge(&ntlm::type1(), DOMAIN, "ORIGIN")
        .map(|challenged| challenged.message().to_vec())
        .unwrap_or_default()
}

/// Which of NTLM's messages this is, still in base64: 1, 2 or 3. Every message begins with `NTLMSSP`, a zero byte and its
/// type, which makes 16 characters of base64 that can be compared as they are.
pub(crate) fn message_type(token: &[u8]) -> Option<u8> {
    [
        (1, b"TlRMTVNTUAABAAAA"),
        (2, b"TlRMTVNTUAACAAAA"),
        (3, b"TlRMTVNTUAADAAAA"),
    ]
    .into_iter()
    .find_map(|(number, start)| token.starts_with(&start[..]).then_some(number))
}

/// What a client says in its second leg.
pub(crate) struct Legs {
    /// The same for every challenge, unless NTLM is real.
    ready: Option<String>,
}

impl Legs {
    /// `real` computes an answer for each challenge.
    pub(crate) fn new(real: bool) -> Self {
        let ready = (!real).then(|| answer(&sample_challenge())).flatten();
        Self { ready }
    }

    /// The `Authorization` that answers a challenge; `None` if it is none.
    pub(crate) fn type3(&self, challenge: &str) -> Option<Cow<'_, str>> {
        match &self.ready {
            Some(ready) => Some(Cow::Borrowed(ready)),
            None => answer(&BASE64_STANDARD.decode(challenge).ok()?).map(Cow::Owned),
        }
    }
}

fn answer(challenge: &[u8]) -> Option<String> {
    let user = user();
    let type3 = ntlm::type3(challenge, &user.name, &user.domain, &user.password)?;
    Some(authorization(&type3.message))
}

fn authorization(message: &[u8]) -> String {
    format!("NTLM {}", BASE64_STANDARD.encode(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_known_by_their_first_characters() {
        let token = |authorization: &str| {
            message_type(authorization.strip_prefix("NTLM ").unwrap().as_bytes())
        };
        assert_eq!(token(&type1()), Some(1));
        assert_eq!(token(&authorization(&sample_challenge())), Some(2));
        let ready = Legs::new(false);
        assert_eq!(token(&ready.type3("").unwrap()), Some(3));
        assert_eq!(message_type(b"dHRva2Vu"), None);
    }
}
