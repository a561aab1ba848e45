//! The server's side: a challenge, and the check of what answers it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::crypto::{SessionKeys, Strength, Sum, hmac_md5, ntowf_v2, rc4, utf16le};
use super::message::{MIC, Reader, Writer, av, av_pair, flag, push_av_pair};

/// Who may log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The account, found without regard to case.
    pub name: String,
    /// The NetBIOS domain; a client may leave it out.
    pub domain: String,
    /// The password, in clear.
    pub password: String,
}

impl User {
    /// A user of `domain`.
    pub fn new(domain: &str, name: &str, password: &str) -> Self {
        Self {
            name: name.into(),
            domain: domain.into(),
            password: password.into(),
        }
    }

    /// The name a login gives: `DOMAIN\name`.
    pub fn identity(&self) -> String {
        format!("{}\\{}", self.domain, self.name)
    }
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not the message that was due, or its fields do not fit.
    Malformed,
    /// The answer is of the first version (or LM, or an anonymous login).
    NotVersion2,
    /// No such account.
    UnknownUser,
    /// The proof does not fit: another password, another challenge.
    WrongProof,
    /// The integrity code does not fit: one of the three messages was changed.
    WrongIntegrityCode,
}

/// A challenge that was sent and waits for its answer.
#[derive(Debug)]
pub struct Challenged {
    server_challenge: [u8; 8],
    negotiate: Vec<u8>,
    challenge: Vec<u8>,
}

/// A login that held.
#[derive(Debug)]
pub struct Accepted {
    /// Whose it is: `DOMAIN\name`, as the table of users spells it.
    pub identity: String,
    /// For SPNEGO's signatures.
    pub keys: SessionKeys,
}

/// Answers a Type 1 with a Type 2; `domain` and `computer` are the names the server gives itself.
pub fn challenge(negotiate: &[u8], domain: &str, computer: &str) -> Result<Challenged, Refusal> {
    let offered = Reader::new(negotiate, 1)
        .and_then(|reader| reader.u32(12))
        .ok_or(Refusal::Malformed)?;
    let character_set = match offered & flag::UNICODE {
        0 => flag::OEM,
        _ => flag::UNICODE,
    };
    let wishes = flag::SIGN
        | flag::SEAL
        | flag::ALWAYS_SIGN
        | flag::EXTENDED_SESSION_SECURITY
        | flag::KEY_EXCHANGE
        | flag::BITS_128
        | flag::BITS_56;
    let flags = character_set
        | flag::REQUEST_TARGET
        | flag::NTLM
        | flag::TARGET_TYPE_DOMAIN
        | flag::TARGET_INFO
        | flag::VERSION
        | (offered & wishes);
    let server_challenge: [u8; 8] = rand::random();
    let mut target_info = Vec::new();
    push_av_pair(&mut target_info, av::DOMAIN_NAME, &utf16le(domain));
    push_av_pair(&mut target_info, av::COMPUTER_NAME, &utf16le(computer));
    push_av_pair(
        &mut target_info,
        av::DNS_DOMAIN_NAME,
        &utf16le(&domain.to_lowercase()),
    );
    push_av_pair(
        &mut target_info,
        av::DNS_COMPUTER_NAME,
        &utf16le(&computer.to_lowercase()),
    );
    push_av_pair(
        &mut target_info,
        av::TIMESTAMP,
        &windows_time().to_le_bytes(),
    );
    push_av_pair(&mut target_info, av::END, &[]);

    let mut message = Writer::new(2, 56);
    message.put(20, &flags.to_le_bytes());
    message.put(24, &server_challenge);
    message.put(48, &[10, 0, 0x7c, 0x4f, 0, 0, 0, 15]); // Windows 10.0.20348, NTLM revision 15
    let target_name = if character_set == flag::UNICODE {
        utf16le(domain)
    } else {
        domain.as_bytes().to_vec()
    };
    message.field(12, &target_name);
    message.field(40, &target_info);
    Ok(Challenged {
        server_challenge,
        negotiate: negotiate.to_vec(),
        challenge: message.finish(),
    })
}

impl Challenged {
    /// The Type 2 to send.
    pub fn message(&self) -> &[u8] {
        &self.challenge
    }

    /// Checks a Type 3 against this challenge, which is used up by it.
    pub fn authenticate(self, authenticate: &[u8], users: &[User]) -> Result<Accepted, Refusal> {
        let response = Response::parse(authenticate).ok_or(Refusal::Malformed)?;
        // A version 1 response is 24 bytes; a version 2 one has a proof (16 bytes), a head (28) and target info.
        if response.nt.len() < 16 + 28 || response.nt[16..18] != [1, 1] {
            return Err(Refusal::NotVersion2);
        }
        let (proof, blob) = response.nt.split_at(16);
        let user = find(users, &response).ok_or(Refusal::UnknownUser)?;
        let secret = ntowf_v2(&response.user, &response.domain, &user.password);
        if hmac_md5(&secret, &[&self.server_challenge, blob]) != proof {
            return Err(Refusal::WrongProof);
        }
        let keys = response
            .session_keys(hmac_md5(&secret, &[proof]))
            .ok_or(Refusal::Malformed)?;
        if has_integrity_code(blob) {
            let stated: Sum = authenticate
                .get(MIC)
                .and_then(|mic| mic.try_into().ok())
                .ok_or(Refusal::Malformed)?;
            let (before, after) = (&authenticate[..MIC.start], &authenticate[MIC.end..]);
            let messages = [&self.negotiate, &self.challenge, before, &[0; 16], after];
            if hmac_md5(&keys.exported, &messages) != stated {
                return Err(Refusal::WrongIntegrityCode);
            }
        }
        Ok(Accepted {
            identity: user.identity(),
            keys,
        })
    }
}

/// What a Type 3 says.
struct Response<'a> {
    nt: &'a [u8],
    domain: String,
    user: String,
    session_key: &'a [u8],
    flags: u32,
}

impl<'a> Response<'a> {
    fn parse(message: &'a [u8]) -> Option<Self> {
        let reader = Reader::new(message, 3)?;
        let flags = reader.u32(60)?;
        Some(Self {
            nt: reader.field(20)?,
            domain: reader.text(28, flags)?,
            user: reader.text(36, flags)?,
            session_key: reader.field(52)?,
            flags,
        })
    }

    fn session_keys(&self, session_base_key: Sum) -> Option<SessionKeys> {
        let key_exchange = self.flags & flag::KEY_EXCHANGE != 0;
        let exported = if key_exchange {
            let mut key: Sum = self.session_key.try_into().ok()?;
            rc4(&session_base_key, &mut key);
            key
        } else {
            session_base_key
        };
        let strength = strength(self.flags);
        Some(SessionKeys {
            exported,
            key_exchange,
            strength,
        })
    }
}

pub(super) fn strength(flags: u32) -> Strength {
    match (flags & flag::BITS_128, flags & flag::BITS_56) {
        (0, 0) => Strength::Bits40,
        (0, _) => Strength::Bits56,
        _ => Strength::Bits128,
    }
}

/// The account a response names: as `DOMAIN` and `name`, as `name` alone, or as `name@domain`.
fn find<'a>(users: &'a [User], response: &Response<'_>) -> Option<&'a User> {
    let (name, domain) = match response.user.split_once('@') {
        Some((name, domain)) if response.domain.is_empty() => (name, domain),
        _ => (response.user.as_str(), response.domain.as_str()),
    };
    let same = |a: &str, b: &str| a.to_lowercase() == b.to_lowercase();
    users
        .iter()
        .find(|user| same(&user.name, name) && (domain.is_empty() || same(&user.domain, domain)))
}

/// The client says in the target info it sends back that it made one.
fn has_integrity_code(blob: &[u8]) -> bool {
    blob.get(28..)
        .and_then(|target_info| av_pair(target_info, av::FLAGS))
        .and_then(|flags| flags.try_into().ok())
        .is_some_and(|flags| u32::from_le_bytes(flags) & av::FLAG_HAS_MIC != 0)
}

/// Tenths of microseconds since 1601.
fn windows_time() -> u64 {
    const FROM_1601_TO_1970: Duration = Duration::from_secs(11_644_473_600);
    let since_1970 = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from((since_1970 + FROM_1601_TO_1970).as_nanos() / 100).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::initiator::{type1, type3};
    use super::*;

    fn alice() -> User {
        User::new("EXAMPLE", "alice", "p\u{e4}ss")
    }

    fn challenged() -> Challenged {
        challenge(&type1(), "EXAMPLE", "ORIGIN").expect("our own Type 1")
    }

    #[test]
    fn logins() {
        let cases = [
            ("alice", "EXAMPLE", "p\u{e4}ss", Ok("EXAMPLE\\alice")),
            ("ALICE", "example", "p\u{e4}ss", Ok("EXAMPLE\\alice")),
            ("alice", "", "p\u{e4}ss", Ok("EXAMPLE\\alice")),
            ("alice@Example", "", "p\u{e4}ss", Ok("EXAMPLE\\alice")),
            ("alice", "EXAMPLE", "pass", Err(Refusal::WrongProof)),
            ("alice", "EXAMPLE", "", Err(Refusal::WrongProof)),
            ("alice", "OTHER", "p\u{e4}ss", Err(Refusal::UnknownUser)),
            ("bob", "EXAMPLE", "p\u{e4}ss", Err(Refusal::UnknownUser)),
            ("", "", "", Err(Refusal::UnknownUser)),
        ];
        for (user, domain, password, expected) in cases {
            let challenged = challenged();
            let answer = type3(challenged.message(), user, domain, password).expect("a Type 2");
            let outcome = challenged
                .authenticate(&answer.message, &[alice()])
                .map(|accepted| accepted.identity);
            assert_eq!(
                outcome.as_deref(),
                expected.as_ref().map(|identity| *identity),
                "{domain}\\{user} {password}"
            );
        }
    }

    #[test]
    fn both_sides_hold_the_same_keys() {
        let challenged = challenged();
        let answer =
            type3(challenged.message(), "alice", "EXAMPLE", "p\u{e4}ss").expect("a Type 2");
        let accepted = challenged
            .authenticate(&answer.message, &[alice()])
            .expect("the right password");
        assert_eq!(
            accepted.keys.client_signature(b"list"),
            answer.keys.client_signature(b"list")
        );
        assert_ne!(
            accepted.keys.client_signature(b"list"),
            accepted.keys.server_signature(b"list")
        );
    }

    #[test]
    fn the_answer_to_another_challenge_is_refused() {
        let answer =
            type3(challenged().message(), "alice", "EXAMPLE", "p\u{e4}ss").expect("a Type 2");
        let outcome = challenged().authenticate(&answer.message, &[alice()]);
        assert_eq!(outcome.err(), Some(Refusal::WrongProof));
    }

    #[test]
    fn a_changed_message_is_refused() {
        let mut challenged = challenged();
        let answer =
            type3(challenged.message(), "alice", "EXAMPLE", "p\u{e4}ss").expect("a Type 2");
        challenged.negotiate[13] ^= 1;
        assert_eq!(
            challenged.authenticate(&answer.message, &[alice()]).err(),
            Some(Refusal::WrongIntegrityCode)
        );
    }

    #[test]
    fn a_version_1_response_is_refused() {
        let mut message = Writer::new(3, 64);
        message.put(60, &flag::UNICODE.to_le_bytes());
        message.field(20, &[7; 24]);
        message.field(36, &utf16le("alice"));
        let outcome = challenged().authenticate(&message.finish(), &[alice()]);
        assert_eq!(outcome.err(), Some(Refusal::NotVersion2));
    }

    #[test]
    fn messages_cut_anywhere_are_refused() {
        for cut in 0..16 {
            assert!(challenge(&type1()[..cut], "D", "C").is_err());
        }
        let whole = type3(challenged().message(), "alice", "EXAMPLE", "p\u{e4}ss")
            .expect("a Type 2")
            .message;
        for cut in 0..whole.len() {
            assert!(
                challenged()
                    .authenticate(&whole[..cut], &[alice()])
                    .is_err(),
                "cut at {cut}"
            );
        }
    }
}
