//! The token behind a scheme: base64, and in it an NTLM message, bare or inside SPNEGO.

const NTLM_SIGNATURE: &[u8] = b"NTLMSSP\0";
/// 1.3.6.1.4.1.311.2.2.10 (MS-NLMP section 1.9)
const NTLM_OID: &[u8] = b"\x2b\x06\x01\x04\x01\x82\x37\x02\x02\x0a";
/// 1.3.6.1.5.5.2 (RFC 4178 section 3)
const SPNEGO_OID: &[u8] = b"\x2b\x06\x01\x05\x05\x02";

/// DER tags that occur on the way to an inner token (RFC 2743 section 3.1, RFC 4178 section 4.2).
mod tag {
    pub(super) const OCTET_STRING: u8 = 0x04;
    pub(super) const OID: u8 = 0x06;
    pub(super) const ENUMERATED: u8 = 0x0a;
    pub(super) const SEQUENCE: u8 = 0x30;
    pub(super) const INITIAL_CONTEXT_TOKEN: u8 = 0x60;
    pub(super) const NEG_TOKEN_INIT: u8 = 0xa0;
    pub(super) const NEG_TOKEN_RESP: u8 = 0xa1;
    pub(super) const MECH_TYPES: u8 = 0xa0;
    pub(super) const NEG_STATE: u8 = 0xa0;
    pub(super) const SUPPORTED_MECH: u8 = 0xa1;
    /// `mechToken` of NegTokenInit, `responseToken` of NegTokenResp.
    pub(super) const INNER_TOKEN: u8 = 0xa2;
}

/// The negState by which whoever accepts ends the negotiation (RFC 4178 section 4.2.2).
const REJECT: &[u8] = &[2];

/// The types of NTLM messages (MS-NLMP section 2.2.1).
pub(super) mod message {
    pub(crate) const NEGOTIATE: u8 = 1;
    pub(crate) const AUTHENTICATE: u8 = 3;
}

/// What a token has of NTLM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ntlm<'a> {
    /// Nothing.
    Absent,
    /// It names NTLM as what its own inner token is, or the next one.
    Named,
    /// A message: what there is of it.
    Message(&'a [u8]),
}

impl Ntlm<'_> {
    /// The message's type; `None` if there is no message, or too little of one.
    pub(super) fn message_type(self) -> Option<u8> {
        let Self::Message(message) = self else {
            return None;
        };
        let number = message.get(NTLM_SIGNATURE.len()..)?.first_chunk()?;
        u8::try_from(u32::from_le_bytes(*number)).ok()
    }
}

/// Decodes `text` until `buffer` is full or a byte is not of the base64 alphabet (RFC 4648 section 4), padding included.
pub(super) fn decode_base64<'a>(text: &[u8], buffer: &'a mut [u8]) -> &'a [u8] {
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

/// What the token has of NTLM that begins with `start`, or is all of it.
pub(super) fn ntlm_in(start: &[u8]) -> Ntlm<'_> {
    if start.starts_with(NTLM_SIGNATURE) {
        return Ntlm::Message(start);
    }
    in_gss(start).unwrap_or(Ntlm::Absent)
}

/// Whether the token that begins with `start` says that the negotiation has failed.
pub(super) fn is_reject(mut start: &[u8]) -> bool {
    let mut state = || {
        let mut content = element_of(tag::NEG_TOKEN_RESP, &mut start)?;
        let mut fields = element_of(tag::SEQUENCE, &mut content)?;
        let mut state = element_of(tag::NEG_STATE, &mut fields)?;
        element_of(tag::ENUMERATED, &mut state)
    };
    state() == Some(REJECT)
}

fn in_gss(start: &[u8]) -> Option<Ntlm<'_>> {
    let (mut kind, mut content) = element(&mut { start })?;
    if kind == tag::INITIAL_CONTEXT_TOKEN {
        let oid = element_of(tag::OID, &mut content)?;
        if oid == NTLM_OID {
            return Some(match content.starts_with(NTLM_SIGNATURE) {
                true => Ntlm::Message(content),
                false => Ntlm::Named,
            });
        }
        if oid != SPNEGO_OID {
            return Some(Ntlm::Absent);
        }
        (kind, content) = element(&mut content)?;
    }
    let is_init = match kind {
        tag::NEG_TOKEN_INIT => true,
        tag::NEG_TOKEN_RESP => false,
        _ => return Some(Ntlm::Absent),
    };
    let mut fields = element_of(tag::SEQUENCE, &mut content)?;
    let mut found = Ntlm::Absent;
    while let Some((field, mut content)) = element(&mut fields) {
        let named = match field {
            // The inner token is for the first mechanism of the list.
            tag::MECH_TYPES if is_init => element_of(tag::SEQUENCE, &mut content)
                .and_then(|mut list| element_of(tag::OID, &mut list)),
            tag::SUPPORTED_MECH if !is_init => element_of(tag::OID, &mut content),
            tag::INNER_TOKEN => {
                let token = element_of(tag::OCTET_STRING, &mut content);
                if let Some(token) = token.filter(|token| token.starts_with(NTLM_SIGNATURE)) {
                    return Some(Ntlm::Message(token));
                }
                None
            }
            _ => None,
        };
        if named == Some(NTLM_OID) {
            found = Ntlm::Named;
        }
    }
    Some(found)
}

/// Takes one DER element off the front: its tag and its content, which ends where the input ends if it goes on beyond.
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
    use crate::pin::Credentials;
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    use proptest::prelude::*;

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
            assert_eq!(
                says_ntlm(&BASE64_STANDARD.encode(&token)),
                expected,
                "{what}"
            );
        }
        assert!(!says_ntlm(""), "no token");
        assert!(says_ntlm("TlRMTVNTUAABAAAA"), "as browsers send it");
        assert!(
            !says_ntlm("TlRMTVNT,UAABAAAA"),
            "cut by a byte that is no base64"
        );
    }

    #[test]
    fn the_type_is_that_of_the_message() {
        let message = |kind: u32| [b"NTLMSSP\0".as_slice(), &kind.to_le_bytes()].concat();
        for (token, expected) in [
            (message(1), Some(1)),
            (message(3), Some(3)),
            (resp(&[&der(0xa2, &[&der(0x04, &[&message(3)])])]), Some(3)),
            (
                resp(&[
                    &der(0xa1, &[&der(0x06, &[NTLM_OID])]),
                    &der(0xa2, &[&der(0x04, &[&message(1)])]),
                ]),
                Some(1),
            ),
            (
                gss(SPNEGO_OID, &init(&[NTLM_OID], Some(&message(1)))),
                Some(1),
            ),
            (gss(NTLM_OID, &message(1)), Some(1)),
            (gss(SPNEGO_OID, &init(&[NTLM_OID], None)), None),
            (message(256), None),
            (message(3)[..11].to_vec(), None),
            (KERBEROS.to_vec(), None),
        ] {
            assert_eq!(ntlm_in(&token).message_type(), expected, "{token:x?}");
        }
    }

    #[test]
    fn a_reject_says_so_in_its_state() {
        let state = |value: &[u8]| der(0xa0, &[&der(0x0a, &[value])]);
        let mech = der(0xa1, &[&der(0x06, &[NTLM_OID])]);
        let token = der(0xa2, &[&der(0x04, &[TYPE_1])]);
        for (token, expected) in [
            (resp(&[&state(&[2])]), true),
            (resp(&[&state(&[2]), &mech]), true),
            (resp(&[&state(&[1]), &mech, &token]), false),
            (resp(&[&state(&[3]), &mech]), false),
            (resp(&[&state(&[0])]), false),
            (resp(&[&state(&[])]), false),
            (resp(&[&state(&[2, 2])]), false),
            (resp(&[&mech]), false),
            (resp(&[]), false),
            (init(&[NTLM_OID], None), false),
            (TYPE_1.to_vec(), false),
            (Vec::new(), false),
        ] {
            assert_eq!(is_reject(&token), expected, "{token:x?}");
        }
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_survived() {
        let token = gss(SPNEGO_OID, &init(&[KRB5_OID, NTLM_OID], Some(TYPE_1)));
        for end in 0..token.len() {
            says_ntlm(&BASE64_STANDARD.encode(&token[..end]));
            for value in 0..=255 {
                let mut changed = token.clone();
                changed[end] = value;
                ntlm_in(&changed);
            }
        }
        for first in 0..=255 {
            for second in 0..=255 {
                ntlm_in(&[first, second, 0x84, 0xff, 0xff, 0xff, 0xff]);
            }
        }
    }

    proptest! {
        #[test]
        fn hostile_tokens_are_survived(token in prop::collection::vec(any::<u8>(), 0..400)) {
            ntlm_in(&token).message_type();
            is_reject(&token);
        }
    }
}
