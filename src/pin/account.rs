//! Whom a client says that it is: domain and user of NTLM's last message (MS-NLMP section 2.2.1.3).

use super::credentials;
use super::token::{self, Ntlm, message};

/// The names of an account as a client spells them, which nobody has checked: UTF-8, or the bytes of a character set that the
/// message does not name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The domain; empty where the user's name says it, or nobody does.
    pub domain: Box<[u8]>,
    /// The user; empty for an anonymous login.
    pub user: Box<[u8]>,
}

/// The longest name in bytes as it came: 256 characters of UTF-16, more than a directory takes.
const NAME_BYTES_MAX: usize = 512;

/// Offsets in the message: lengths and offsets of the payloads, and the flags.
mod at {
    pub(super) const LM_RESPONSE: usize = 12;
    pub(super) const NT_RESPONSE: usize = 20;
    pub(super) const DOMAIN: usize = 28;
    pub(super) const USER: usize = 36;
    pub(super) const SESSION_KEY: usize = 52;
    pub(super) const FLAGS: usize = 60;
}

/// `NTLMSSP_NEGOTIATE_UNICODE` (MS-NLMP section 2.2.2.5): names are UTF-16, and not of the client's own character set.
const UNICODE: u32 = 1;

impl Account {
    /// Looks at the value of an `Authorization` field. `None`: it is no last message of an NTLM login, bare or inside SPNEGO,
    /// or not a sound one.
    ///
    /// Decodes all of the token, so this is only for who wants to know.
    pub fn in_value(value: &[u8]) -> Option<Self> {
        let (_, text) = credentials::split(value);
        let mut buffer = vec![0; text.len() / 4 * 3 + 3];
        let found = token::ntlm_in(token::decode_base64(text, &mut buffer));
        if found.message_type() != Some(message::AUTHENTICATE) {
            return None;
        }
        let Ntlm::Message(message) = found else {
            return None;
        };
        Self::in_message(message)
    }

    fn in_message(message: &[u8]) -> Option<Self> {
        let flags = u32::from_le_bytes(array(message, at::FLAGS)?);
        let name = |field| {
            let place = payload(message, field)?;
            if place.len() > NAME_BYTES_MAX {
                return None;
            }
            // What proves who the client is must not be taken for a name and be shown.
            for secret in [at::LM_RESPONSE, at::NT_RESPONSE, at::SESSION_KEY] {
                let secret = payload(message, secret)?;
                if place.start < secret.end && secret.start < place.end {
                    return None;
                }
            }
            Some(text(message.get(place)?, flags & UNICODE != 0))
        };
        Some(Self {
            domain: name(at::DOMAIN)?,
            user: name(at::USER)?,
        })
    }
}

/// A name in UTF-8 if it is known what it is in.
fn text(name: &[u8], unicode: bool) -> Box<[u8]> {
    if !unicode {
        return name.into();
    }
    // An odd byte at the end is none of the name's.
    let (units, _) = name.as_chunks::<2>();
    let units = units.iter().copied().map(u16::from_le_bytes);
    let characters = char::decode_utf16(units);
    let text: String = characters
        .map(|it| it.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect();
    text.into_bytes().into()
}

/// Where the payload is whose length and offset stand at `field`. Not necessarily within the message.
fn payload(message: &[u8], field: usize) -> Option<std::ops::Range<usize>> {
    let length = usize::from(u16::from_le_bytes(array(message, field)?));
    let start = usize::try_from(u32::from_le_bytes(array(message, field + 4)?)).ok()?;
    if length == 0 {
        return Some(0..0);
    }
    Some(start..start.checked_add(length)?)
}

fn array<const N: usize>(message: &[u8], at: usize) -> Option<[u8; N]> {
    message.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    use ntlm_origin::ntlm::{challenge, type1, type3};
    use ntlm_origin::spnego::Reply;
    use proptest::prelude::*;

    fn in_token(token: &[u8]) -> Option<Account> {
        let value = format!("Negotiate {}", BASE64_STANDARD.encode(token));
        Account::in_value(value.as_bytes())
    }

    fn account(domain: &[u8], user: &[u8]) -> Option<Account> {
        Some(Account {
            domain: domain.into(),
            user: user.into(),
        })
    }

    /// What a client sends in the end.
    fn last_message(domain: &str, user: &str) -> Vec<u8> {
        let challenged = challenge(&type1(), "EXAMPLE", "ORIGIN").unwrap();
        let answer = type3(challenged.message(), user, domain, "secret").unwrap();
        answer.message
    }

    /// A message of a client that does not speak UTF-16.
    fn oem(domain: &[u8], user: &[u8]) -> Vec<u8> {
        let mut message = b"NTLMSSP\0\x03\0\0\0".to_vec();
        let mut offset = 64;
        for length in [0, 0, domain.len(), user.len(), 0, 0] {
            let length = length as u16;
            message.extend(length.to_le_bytes());
            message.extend(length.to_le_bytes());
            message.extend(u32::to_le_bytes(offset));
            offset += u32::from(length);
        }
        message.extend(2u32.to_le_bytes());
        message.extend(domain);
        message.extend(user);
        message
    }

    #[test]
    fn names_are_found_bare_and_inside_spnego() {
        for (domain, user) in [
            ("EXAMPLE", "alice"),
            ("", "alice@example.com"),
            ("", ""),
            ("Bücher", "Zoë \u{1f600}"),
            ("a\nb", "\"\0"),
        ] {
            let message = last_message(domain, user);
            let expected = account(domain.as_bytes(), user.as_bytes());
            assert_eq!(in_token(&message), expected, "{domain}\\{user}");
            let reply = Reply {
                token: Some(message),
                mic: Some(vec![1; 16]),
                ..Reply::default()
            };
            assert_eq!(in_token(&reply.encode()), expected, "{domain}\\{user}");
        }
        let ours = oem(b"EXAMPLE", b"Zo\xeb");
        assert_eq!(in_token(&ours), account(b"EXAMPLE", b"Zo\xeb"));
        // Half of a pair, and half of a character.
        let mut broken = oem(b"", b"\x00\xd8a\0b");
        broken[at::FLAGS] = 1;
        assert_eq!(in_token(&broken), account(b"", "\u{fffd}a".as_bytes()));
    }

    #[test]
    fn what_is_no_sound_last_message_names_nobody() {
        let challenged = challenge(&type1(), "EXAMPLE", "ORIGIN").unwrap();
        for token in [&b""[..], b"NTLMSSP\0", &type1(), challenged.message()] {
            assert_eq!(in_token(token), None);
        }
        assert_eq!(Account::in_value(b""), None);
        assert_eq!(Account::in_value(b"NTLM"), None);
        // Longer than a name is.
        assert_eq!(in_token(&oem(b"", &[b'a'; 513])), None);
        assert!(in_token(&oem(b"", &[b'a'; 512])).is_some());
    }

    #[test]
    fn a_name_that_lies_over_a_proof_is_none() {
        for secret in [at::LM_RESPONSE, at::NT_RESPONSE, at::SESSION_KEY] {
            for field in [at::DOMAIN, at::USER] {
                let mut message = last_message("EXAMPLE", "alice");
                let place = payload(&message, secret).unwrap();
                assert!(!place.is_empty());
                for (start, overlaps) in [
                    (place.start, true),
                    (place.end - 1, true),
                    (place.start - 3, true),
                    (place.start - 4, false),
                ] {
                    message[field..field + 2].copy_from_slice(&4u16.to_le_bytes());
                    let offset = u32::try_from(start).unwrap();
                    message[field + 4..field + 8].copy_from_slice(&offset.to_le_bytes());
                    // What stands before one proof may be another.
                    let found = in_token(&message);
                    assert!(!overlaps || found.is_none(), "{secret} {field} {start}");
                }
            }
        }
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_survived() {
        let whole = last_message("EXAMPLE", "alice");
        for end in 0..whole.len() {
            in_token(&whole[..end]);
        }
        for at in 0..88 {
            for value in 0..=255 {
                let mut changed = whole.clone();
                changed[at] = value;
                in_token(&changed);
            }
        }
    }

    proptest! {
        #[test]
        fn hostile_messages_are_survived(rest in prop::collection::vec(any::<u8>(), 0..300)) {
            in_token(&[b"NTLMSSP\0\x03\0\0\0", rest.as_slice()].concat());
            in_token(&rest);
            Account::in_value(&rest);
        }
    }
}
