//! What counts as credentials: an `Authorization` value whose scheme authenticates the connection.

use super::token::{self, Ntlm};

/// Schemes that authenticate a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Scheme {
    Ntlm,
    Negotiate,
    Nego2,
    Kerberos,
}

impl Scheme {
    /// Every scheme, in the order of the counters.
    pub const ALL: [Self; 4] = [Self::Ntlm, Self::Negotiate, Self::Nego2, Self::Kerberos];

    /// The scheme's name in lower case, for `$auth_scheme`, logs and labels.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ntlm => "ntlm",
            Self::Negotiate => "negotiate",
            Self::Nego2 => "nego2",
            Self::Kerberos => "kerberos",
        }
    }
}

/// Credentials found in a request. Holds no byte of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The scheme's name.
    pub scheme: Scheme,
    /// The token is an NTLM message, bare or inside SPNEGO, or says that one is inside.
    pub ntlm_message: bool,
    /// The type of that message (MS-NLMP section 2.2.1: 1, 2 or 3), if it can be seen.
    pub message_type: Option<u8>,
}

impl Credentials {
    /// Looks at the value of an `Authorization` field. The scheme is compared without regard to case, as a whole word:
    /// the value ends there, or a space or tab follows.
    pub fn in_value(value: &[u8]) -> Option<Self> {
        let (name, text) = split(value);
        let (_, scheme) = SCHEMES
            .iter()
            .find(|(word, _)| name.eq_ignore_ascii_case(word))?;
        let mut peek = [0; PEEK_BYTES];
        let found = token::ntlm_in(token::decode_base64(text, &mut peek));
        Some(Self {
            scheme: *scheme,
            ntlm_message: found != Ntlm::Absent,
            message_type: found.message_type(),
        })
    }

    /// Whether it is the message by which an NTLM login ends, and which names its user.
    pub fn is_last_of_ntlm(self) -> bool {
        self.message_type == Some(token::message::AUTHENTICATE)
    }

    /// Whether a value is of a scheme that is known to authenticate its own request and no other. A scheme that nobody here
    /// knows may be one more that logs a connection in.
    pub fn is_for_one_request(value: &[u8]) -> bool {
        let (name, _) = split(value);
        OF_ONE_REQUEST
            .iter()
            .any(|word| name.eq_ignore_ascii_case(word))
    }
}

/// Schemes of the registry (RFC 9110 section 16.4.1) and of widespread use whose credentials are for one request.
const OF_ONE_REQUEST: [&[u8]; 6] = [
    b"Basic",
    b"Bearer",
    b"Digest",
    b"DPoP",
    b"OAuth",
    b"AWS4-HMAC-SHA256",
];

/// Whether the value of a `WWW-Authenticate` field asks for the next leg of a login: it names one of the schemes with a
/// token. Without one it only offers the scheme, which after a leg of a login means that the login failed, as does a token
/// that says so.
pub fn challenges(value: &[u8]) -> bool {
    value.split(|&byte| byte == b',').any(|member| {
        let member = skip_blanks(member);
        SCHEMES.iter().any(|(word, _)| {
            member
                .split_at_checked(word.len())
                .is_some_and(|(name, token)| {
                    name.eq_ignore_ascii_case(word)
                        && token.first().is_some_and(|byte| is_blank(*byte))
                        && goes_on(skip_blanks(token))
                })
        })
    })
}

/// Whether a server's token, which is not there if it is empty, leaves a login open.
fn goes_on(token: &[u8]) -> bool {
    let mut peek = [0; PEEK_BYTES];
    !token.is_empty() && !token::is_reject(token::decode_base64(token, &mut peek))
}

const SCHEMES: [(&[u8], Scheme); 4] = [
    (b"NTLM", Scheme::Ntlm),
    (b"Negotiate", Scheme::Negotiate),
    (b"Nego2", Scheme::Nego2),
    (b"Kerberos", Scheme::Kerberos),
];

/// How much of a token is decoded to find out what it is. An NTLM message starts within the first hundred bytes of the
/// SPNEGO tokens that are sent in practice, while a Kerberos ticket can go on for 64 KiB. A token built to hide its NTLM
/// message behind more than this gains nothing: it only stays on its sender's own pin under `ntlm_reauth same`.
const PEEK_BYTES: usize = 192;

/// The scheme's name and what stands behind it.
pub(super) fn split(value: &[u8]) -> (&[u8], &[u8]) {
    let value = skip_blanks(value);
    let end = value.iter().position(|byte| is_blank(*byte));
    let (name, token) = value.split_at(end.unwrap_or(value.len()));
    (name, skip_blanks(token))
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

fn skip_blanks(value: &[u8]) -> &[u8] {
    let start = value.iter().position(|byte| !is_blank(*byte));
    &value[start.unwrap_or(value.len())..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn schemes_are_whole_words_of_any_case() {
        for (value, expected) in [
            ("NTLM", Some(Scheme::Ntlm)),
            ("ntlm", Some(Scheme::Ntlm)),
            ("NtLm TlRM", Some(Scheme::Ntlm)),
            ("NTLM\tTlRM", Some(Scheme::Ntlm)),
            (" NTLM TlRM", Some(Scheme::Ntlm)),
            ("NTLM ", Some(Scheme::Ntlm)),
            ("Negotiate YII", Some(Scheme::Negotiate)),
            ("negotiate", Some(Scheme::Negotiate)),
            ("Nego2 YII", Some(Scheme::Nego2)),
            ("KERBEROS YII", Some(Scheme::Kerberos)),
            ("NTLMx", None),
            ("NTLM,", None),
            ("NTLM=TlRM", None),
            ("xNTLM", None),
            ("NTL", None),
            ("NTL M", None),
            ("Negotiate2 YII", None),
            ("Nego YII", None),
            ("Basic NTLM", None),
            ("Bearer TlRM", None),
            ("Digest username=\"NTLM\"", None),
            ("", None),
            (" ", None),
        ] {
            let found = Credentials::in_value(value.as_bytes()).map(|found| found.scheme);
            assert_eq!(found, expected, "{value:?}");
        }
    }

    #[test]
    fn challenges_carry_a_token() {
        for (value, expected) in [
            ("NTLM TlRMTVNTUAAC", true),
            ("ntlm\tTlRMTVNTUAAC", true),
            ("Negotiate oYIB", true),
            ("Negotiate oYIB=", true),
            ("Negotiate oQcwBaADCgEB", true),
            ("Negotiate oQcwBaADCgEC", false),
            ("Negotiate oQcwBaADCgEC, NTLM", false),
            ("Negotiate oQcwBaADCgEC, NTLM TlRM", true),
            ("Basic realm=\"a\", NTLM TlRM", true),
            ("NTLM, Negotiate oYIB", true),
            ("NTLM", false),
            ("NTLM ", false),
            ("Negotiate, NTLM", false),
            ("Negotiate ,NTLM ", false),
            ("NTLMx TlRM", false),
            ("Basic realm=\"NTLM\"", false),
            ("Bearer TlRM", false),
            ("", false),
        ] {
            assert_eq!(challenges(value.as_bytes()), expected, "{value}");
        }
    }

    proptest! {
        #[test]
        fn hostile_values_are_survived(value in prop::collection::vec(any::<u8>(), 0..400)) {
            Credentials::in_value(&value);
            Credentials::in_value(&[b"Negotiate ", value.as_slice()].concat());
        }
    }
}
