//! What counts as credentials: an `Authorization` value whose scheme authenticates the connection.

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
    /// The scheme's name in lower case, for `$auth_scheme`.
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
    /// The token is an NTLM message, bare or inside SPNEGO.
    pub ntlm_message: bool,
}

impl Credentials {
    /// Looks at the value of an `Authorization` field. The scheme is compared without regard to case, as a whole word:
    /// the value ends there, or a space or tab follows.
    pub fn in_value(value: &[u8]) -> Option<Self> {
        let value = skip_blanks(value);
        let end = value
            .iter()
            .position(|byte| is_blank(*byte))
            .unwrap_or(value.len());
        let (name, token) = value.split_at(end);
        let (_, scheme) = SCHEMES
            .iter()
            .find(|(word, _)| name.eq_ignore_ascii_case(word))?;
        let mut peek = [0; PEEK_BYTES];
        let decoded = decode_base64(skip_blanks(token), &mut peek);
        Some(Self {
            scheme: *scheme,
            ntlm_message: is_ntlm(decoded),
        })
    }

    /// Whether a value is of a scheme that is known to authenticate its own request and no other. A scheme that nobody here
    /// knows may be one more that logs a connection in.
    pub fn is_for_one_request(value: &[u8]) -> bool {
        let value = skip_blanks(value);
        let end = value.iter().position(|byte| is_blank(*byte));
        let name = &value[..end.unwrap_or(value.len())];
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
/// token. Without one it only offers the scheme, which after a leg of a login means that the login failed.
pub fn challenges(value: &[u8]) -> bool {
    value.split(|&byte| byte == b',').any(|member| {
        let member = skip_blanks(member);
        SCHEMES.iter().any(|(word, _)| {
            member
                .split_at_checked(word.len())
                .is_some_and(|(name, token)| {
                    name.eq_ignore_ascii_case(word)
                        && token.first().is_some_and(|byte| is_blank(*byte))
                        && !skip_blanks(token).is_empty()
                })
        })
    })
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

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

fn skip_blanks(value: &[u8]) -> &[u8] {
    let start = value.iter().position(|byte| !is_blank(*byte));
    &value[start.unwrap_or(value.len())..]
}

/// Decodes `text` until `buffer` is full or a byte is not of the base64 alphabet (RFC 4648 section 4), padding included.
fn decode_base64<'a>(text: &[u8], buffer: &'a mut [u8; PEEK_BYTES]) -> &'a [u8] {
    let (mut bits, mut bit_count, mut length) = (0u32, 0, 0);
    for byte in text {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => break,
        };
        bits = bits << 6 | u32::from(six);
        bit_count += 6;
        if bit_count >= 8 {
            bit_count -= 8;
            let Some(place) = buffer.get_mut(length) else {
                break;
            };
            *place = (bits >> bit_count) as u8;
            length += 1;
        }
    }
    &buffer[..length]
}

const NTLM_SIGNATURE: &[u8] = b"NTLMSSP\0";
/// 1.3.6.1.4.1.311.2.2.10 (MS-NLMP section 1.9)
const NTLM_OID: &[u8] = b"\x2b\x06\x01\x04\x01\x82\x37\x02\x02\x0a";
/// 1.3.6.1.5.5.2 (RFC 4178 section 3)
const SPNEGO_OID: &[u8] = b"\x2b\x06\x01\x05\x05\x02";

/// DER tags that occur on the way to an inner token (RFC 2743 section 3.1, RFC 4178 section 4.2).
mod tag {
    pub(super) const OCTET_STRING: u8 = 0x04;
    pub(super) const OID: u8 = 0x06;
    pub(super) const SEQUENCE: u8 = 0x30;
    pub(super) const INITIAL_CONTEXT_TOKEN: u8 = 0x60;
    pub(super) const NEG_TOKEN_INIT: u8 = 0xa0;
    pub(super) const NEG_TOKEN_RESP: u8 = 0xa1;
    pub(super) const MECH_TYPES: u8 = 0xa0;
    pub(super) const SUPPORTED_MECH: u8 = 0xa1;
    /// `mechToken` of NegTokenInit, `responseToken` of NegTokenResp.
    pub(super) const INNER_TOKEN: u8 = 0xa2;
}

/// Whether the token that begins with `start` is an NTLM message, or says that one is inside.
fn is_ntlm(start: &[u8]) -> bool {
    start.starts_with(NTLM_SIGNATURE) || is_gss_of_ntlm(start).unwrap_or(false)
}

fn is_gss_of_ntlm(start: &[u8]) -> Option<bool> {
    let (mut kind, mut content) = element(&mut { start })?;
    if kind == tag::INITIAL_CONTEXT_TOKEN {
        let oid = element_of(tag::OID, &mut content)?;
        if oid == NTLM_OID {
            return Some(true);
        }
        if oid != SPNEGO_OID {
            return Some(false);
        }
        (kind, content) = element(&mut content)?;
    }
    let is_init = match kind {
        tag::NEG_TOKEN_INIT => true,
        tag::NEG_TOKEN_RESP => false,
        _ => return Some(false),
    };
    let mut fields = element_of(tag::SEQUENCE, &mut content)?;
    while let Some((field, mut content)) = element(&mut fields) {
        let found = match field {
            // The inner token is for the first mechanism of the list.
            tag::MECH_TYPES if is_init => element_of(tag::SEQUENCE, &mut content)
                .and_then(|mut list| element_of(tag::OID, &mut list))
                .is_some_and(|first| first == NTLM_OID),
            tag::SUPPORTED_MECH if !is_init => {
                element_of(tag::OID, &mut content).is_some_and(|mech| mech == NTLM_OID)
            }
            tag::INNER_TOKEN => element_of(tag::OCTET_STRING, &mut content)
                .is_some_and(|token| token.starts_with(NTLM_SIGNATURE)),
            _ => false,
        };
        if found {
            return Some(true);
        }
    }
    Some(false)
}

/// Takes one DER element off the front: its tag and its content, which ends where the peek ends if it goes on beyond.
fn element<'a>(input: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        let octets = usize::from(first & 0x7f);
        if octets == 0 || octets > 4 || octets > rest.len() {
            return None;
        }
        let (length_octets, after) = rest.split_at(octets);
        length = length_octets
            .iter()
            .fold(0, |length, octet| length << 8 | usize::from(*octet));
        rest = after;
    }
    let (content, rest) = rest.split_at(length.min(rest.len()));
    *input = rest;
    Some((tag, content))
}

fn element_of<'a>(expected: u8, input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (tag, content) = element(input)?;
    (tag == expected).then_some(content)
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

    const TYPE_1: &[u8] =
        b"NTLMSSP\0\x01\0\0\0\x97\x82\x08\xe2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x0a\0";
    const KERBEROS: &[u8] = b"\x6e\x82\x0c\x34\x30\x82\x0c\x30\xa0\x03\x02\x01\x05";
    const KRB5_OID: &[u8] = b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02";
    const MS_KRB5_OID: &[u8] = b"\x2a\x86\x48\x82\xf7\x12\x01\x02\x02";
    const NEGOEX_OID: &[u8] = b"\x2b\x06\x01\x04\x01\x82\x37\x02\x02\x1e";

    fn der(tag: u8, content: &[&[u8]]) -> Vec<u8> {
        let content = content.concat();
        let mut out = vec![tag];
        match content.len() {
            length @ 0..=0x7f => out.push(length as u8),
            length @ 0x80..=0xff => out.extend([0x81, length as u8]),
            length => out.extend([0x82, (length >> 8) as u8, length as u8]),
        }
        out.extend(content);
        out
    }

    fn init(mechanisms: &[&[u8]], token: Option<&[u8]>) -> Vec<u8> {
        let list: Vec<_> = mechanisms.iter().map(|oid| der(0x06, &[oid])).collect();
        let list: Vec<_> = list.iter().map(Vec::as_slice).collect();
        let mut fields = der(0xa0, &[&der(0x30, &list)]);
        if let Some(token) = token {
            fields.extend(der(0xa2, &[&der(0x04, &[token])]));
        }
        der(0xa0, &[&der(0x30, &[&fields])])
    }

    fn gss(oid: &[u8], inner: &[u8]) -> Vec<u8> {
        der(0x60, &[&der(0x06, &[oid]), inner])
    }

    fn resp(fields: &[&[u8]]) -> Vec<u8> {
        der(0xa1, &[&der(0x30, fields)])
    }

    fn encode(bytes: &[u8]) -> String {
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for group in bytes.chunks(3) {
            let bits = (0..3).fold(0u32, |bits, at| {
                bits << 8 | u32::from(*group.get(at).unwrap_or(&0))
            });
            for at in 0..4 {
                text.push(if at <= group.len() {
                    char::from(ALPHABET[(bits >> (18 - 6 * at)) as usize & 63])
                } else {
                    '='
                });
            }
        }
        text
    }

    fn says_ntlm(token: &str) -> bool {
        Credentials::in_value(format!("Negotiate {token}").as_bytes())
            .expect("Negotiate is a known scheme")
            .ntlm_message
    }

    #[test]
    fn ntlm_messages_are_seen_bare_and_inside_spnego() {
        let all: &[&[u8]] = &[MS_KRB5_OID, KRB5_OID, NEGOEX_OID, NTLM_OID];
        let ticket = [KERBEROS, &[0x55; 3000]].concat();
        for (what, token, expected) in [
            ("bare", TYPE_1.to_vec(), true),
            (
                "bare, nothing after the signature",
                TYPE_1[..8].to_vec(),
                true,
            ),
            ("signature without its zero", TYPE_1[..7].to_vec(), false),
            (
                "init with a message",
                gss(SPNEGO_OID, &init(all, Some(TYPE_1))),
                true,
            ),
            ("init without the frame", init(all, Some(TYPE_1)), true),
            (
                "a message much longer than the peek",
                gss(SPNEGO_OID, &init(all, Some(&[TYPE_1, &[7; 900]].concat()))),
                true,
            ),
            (
                "init naming NTLM first",
                gss(SPNEGO_OID, &init(&[NTLM_OID, KRB5_OID], None)),
                true,
            ),
            (
                "init naming NTLM last",
                gss(SPNEGO_OID, &init(all, None)),
                false,
            ),
            (
                "init with a ticket",
                gss(SPNEGO_OID, &init(all, Some(&ticket))),
                false,
            ),
            ("raw NTLM mechanism", gss(NTLM_OID, TYPE_1), true),
            ("raw Kerberos", gss(KRB5_OID, &ticket), false),
            (
                "resp with a message",
                resp(&[&der(0xa2, &[&der(0x04, &[TYPE_1])])]),
                true,
            ),
            (
                "resp with state and a message",
                resp(&[
                    &der(0xa0, &[&der(0x0a, &[&[1]])]),
                    &der(0xa2, &[&der(0x04, &[&[TYPE_1, &[1; 500]].concat()])]),
                ]),
                true,
            ),
            (
                "resp that chose NTLM",
                resp(&[&der(0xa1, &[&der(0x06, &[NTLM_OID])])]),
                true,
            ),
            (
                "resp with a ticket",
                resp(&[&der(0xa2, &[&der(0x04, &[&ticket])])]),
                false,
            ),
            (
                "NEGOEX",
                gss(SPNEGO_OID, &init(&[NEGOEX_OID], Some(b"NEGOEXTS"))),
                false,
            ),
            ("a message that is no token", der(0x04, &[TYPE_1]), false),
        ] {
            assert_eq!(says_ntlm(&encode(&token)), expected, "{what}");
        }
        assert!(!says_ntlm(""), "no token");
        assert!(says_ntlm("TlRMTVNTUAABAAAA"), "as browsers send it");
        assert!(
            !says_ntlm("TlRMTVNT,UAABAAAA"),
            "cut by a byte that is no base64"
        );
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_survived() {
        let token = gss(SPNEGO_OID, &init(&[KRB5_OID, NTLM_OID], Some(TYPE_1)));
        for end in 0..token.len() {
            says_ntlm(&encode(&token[..end]));
            for value in 0..=255 {
                let mut changed = token.clone();
                changed[end] = value;
                is_ntlm(&changed);
            }
        }
        for first in 0..=255 {
            for second in 0..=255 {
                is_ntlm(&[first, second, 0x84, 0xff, 0xff, 0xff, 0xff]);
            }
        }
    }

    proptest! {
        #[test]
        fn hostile_values_are_survived(value in prop::collection::vec(any::<u8>(), 0..400)) {
            Credentials::in_value(&value);
            is_ntlm(&value);
            Credentials::in_value(&[b"Negotiate ", value.as_slice()].concat());
        }
    }
}
