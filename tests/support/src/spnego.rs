//! SPNEGO (RFC 4178): the two tokens that carry a mechanism's own, as far as a server and a client of NTLM need them.

/// A mechanism that a token names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// NTLM.
    Ntlm,
    /// Kerberos 5, by either of its two names.
    Kerberos,
    /// Anything else.
    Other,
}

/// What the server says of the negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Done, the client is who it says.
    Completed,
    /// Another token is expected.
    Incomplete,
    /// No.
    Rejected,
    /// Another token is expected, and a signature of the list of mechanisms in the end.
    RequestMic,
}

/// Either of the two tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// The first of a negotiation.
    Init(Init),
    /// Each that follows, from either side.
    Reply(Reply),
}

/// `NegTokenInit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Init {
    /// What the client can do, in the order of its preference.
    pub mechanisms: Vec<Mechanism>,
    /// The list of mechanisms as it was encoded: what both sides sign in the end.
    pub mechanism_list: Vec<u8>,
    /// The first token of the preferred mechanism.
    pub token: Option<Vec<u8>>,
}

/// `NegTokenResp`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// Left out by clients.
    pub state: Option<State>,
    /// What the server chose, in its first reply.
    pub mechanism: Option<Mechanism>,
    /// The mechanism's own token.
    pub token: Option<Vec<u8>>,
    /// The signature of the list of mechanisms.
    pub mic: Option<Vec<u8>>,
}

impl Token {
    /// Reads a token; `None` if it is none.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if let Some((content, _)) = element(bytes, tag::APPLICATION) {
            let (oid, content) = element(content, tag::OID)?;
            if oid != oid::SPNEGO {
                return None;
            }
            let (content, _) = element(content, tag::CONTEXT)?;
            return Init::parse(content).map(Self::Init);
        }
        let (content, _) = element(bytes, tag::CONTEXT + 1)?;
        Reply::parse(content).map(Self::Reply)
    }
}

impl Init {
    /// A token that offers `mechanisms`, with the first one's opening token.
    pub fn new(mechanisms: &[Mechanism], token: Vec<u8>) -> Self {
        Self {
            token: Some(token),
            ..Self::naming(mechanisms)
        }
    }

    /// A token that offers `mechanisms`, and waits for the server to choose one.
    pub fn naming(mechanisms: &[Mechanism]) -> Self {
        let oids: Vec<u8> = mechanisms
            .iter()
            .flat_map(|mechanism| der(tag::OID, mechanism.oid()))
            .collect();
        Self {
            mechanisms: mechanisms.to_vec(),
            mechanism_list: der(tag::SEQUENCE, &oids),
            token: None,
        }
    }

    fn parse(content: &[u8]) -> Option<Self> {
        let (fields, _) = element(content, tag::SEQUENCE)?;
        let (mechanism_list, rest) = element(fields, tag::CONTEXT)?;
        let (mut oids, _) = element(mechanism_list, tag::SEQUENCE)?;
        let mut mechanisms = Vec::new();
        while !oids.is_empty() {
            let (oid, rest) = element(oids, tag::OID)?;
            mechanisms.push(Mechanism::named(oid));
            oids = rest;
        }
        let rest = match element(rest, tag::CONTEXT + 1) {
            Some((_flags, rest)) => rest,
            None => rest,
        };
        let token = optional_octets(rest, tag::CONTEXT + 2)?.0;
        Some(Self {
            mechanisms,
            mechanism_list: mechanism_list.to_vec(),
            token,
        })
    }

    /// The bytes to send.
    pub fn encode(&self) -> Vec<u8> {
        let mut fields = der(tag::CONTEXT, &self.mechanism_list);
        if let Some(token) = &self.token {
            fields.extend(der(tag::CONTEXT + 2, &der(tag::OCTETS, token)));
        }
        let inner = der(tag::CONTEXT, &der(tag::SEQUENCE, &fields));
        der(
            tag::APPLICATION,
            &[der(tag::OID, oid::SPNEGO), inner].concat(),
        )
    }
}

impl Reply {
    fn parse(content: &[u8]) -> Option<Self> {
        let (rest, _) = element(content, tag::SEQUENCE)?;
        let (state, rest) = match element(rest, tag::CONTEXT) {
            Some((state, rest)) => (
                Some(State::numbered(element(state, tag::ENUMERATED)?.0)?),
                rest,
            ),
            None => (None, rest),
        };
        let (mechanism, rest) = match element(rest, tag::CONTEXT + 1) {
            Some((oid, rest)) => (Some(Mechanism::named(element(oid, tag::OID)?.0)), rest),
            None => (None, rest),
        };
        let (token, rest) = optional_octets(rest, tag::CONTEXT + 2)?;
        let (mic, _) = optional_octets(rest, tag::CONTEXT + 3)?;
        Some(Self {
            state,
            mechanism,
            token,
            mic,
        })
    }

    /// The bytes to send.
    pub fn encode(&self) -> Vec<u8> {
        let mut fields = Vec::new();
        if let Some(state) = self.state {
            fields.extend(der(tag::CONTEXT, &der(tag::ENUMERATED, &[state as u8])));
        }
        if let Some(mechanism) = self.mechanism {
            fields.extend(der(tag::CONTEXT + 1, &der(tag::OID, mechanism.oid())));
        }
        for (tag, octets) in [
            (tag::CONTEXT + 2, &self.token),
            (tag::CONTEXT + 3, &self.mic),
        ] {
            if let Some(octets) = octets {
                fields.extend(der(tag, &der(tag::OCTETS, octets)));
            }
        }
        der(tag::CONTEXT + 1, &der(tag::SEQUENCE, &fields))
    }
}

impl Mechanism {
    fn named(oid: &[u8]) -> Self {
        match oid {
            oid::NTLM => Self::Ntlm,
            oid::KERBEROS | oid::MICROSOFT_KERBEROS => Self::Kerberos,
            _ => Self::Other,
        }
    }

    fn oid(self) -> &'static [u8] {
        match self {
            Self::Ntlm => oid::NTLM,
            Self::Kerberos => oid::KERBEROS,
            Self::Other => oid::NEGOEX,
        }
    }
}

impl State {
    fn numbered(content: &[u8]) -> Option<Self> {
        match content {
            [0] => Some(Self::Completed),
            [1] => Some(Self::Incomplete),
            [2] => Some(Self::Rejected),
            [3] => Some(Self::RequestMic),
            _ => None,
        }
    }
}

/// Object identifiers as they are encoded.
mod oid {
    /// 1.3.6.1.5.5.2
    pub(super) const SPNEGO: &[u8] = &[0x2b, 6, 1, 5, 5, 2];
    /// 1.3.6.1.4.1.311.2.2.10
    pub(super) const NTLM: &[u8] = &[0x2b, 6, 1, 4, 1, 0x82, 0x37, 2, 2, 10];
    /// 1.3.6.1.4.1.311.2.2.30
    pub(super) const NEGOEX: &[u8] = &[0x2b, 6, 1, 4, 1, 0x82, 0x37, 2, 2, 30];
    /// 1.2.840.113554.1.2.2
    pub(super) const KERBEROS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 1, 2, 2];
    /// 1.2.840.48018.1.2.2, an old mistake that is still sent
    pub(super) const MICROSOFT_KERBEROS: &[u8] = &[0x2a, 0x86, 0x48, 0x82, 0xf7, 0x12, 1, 2, 2];
}

mod tag {
    pub(super) const OCTETS: u8 = 0x04;
    pub(super) const OID: u8 = 0x06;
    pub(super) const ENUMERATED: u8 = 0x0a;
    pub(super) const SEQUENCE: u8 = 0x30;
    pub(super) const APPLICATION: u8 = 0x60;
    /// The first of the numbered fields.
    pub(super) const CONTEXT: u8 = 0xa0;
}

/// The content of the element at the front, if it has this tag, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81..=0x84 => {
            let (octets, rest) = rest.split_at_checked(usize::from(length - 0x80))?;
            (
                octets
                    .iter()
                    .fold(0, |length, &octet| length << 8 | usize::from(octet)),
                rest,
            )
        }
        _ => return None,
    };
    (first == tag).then_some(())?;
    rest.split_at_checked(length)
}

/// An octet string inside a numbered field that may be missing: `None` only if it is there and broken.
fn optional_octets(bytes: &[u8], tag: u8) -> Option<(Option<Vec<u8>>, &[u8])> {
    match element(bytes, tag) {
        Some((content, rest)) => Some((Some(element(content, tag::OCTETS)?.0.to_vec()), rest)),
        None => Some((None, bytes)),
    }
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant = &length[length.iter().take_while(|&&octet| octet == 0).count()..];
    let mut bytes = vec![tag];
    match significant {
        [] => bytes.push(0),
        [short @ 0..=0x7f] => bytes.push(*short),
        octets => {
            bytes.push(0x80 | octets.len() as u8); // at most 8
            bytes.extend_from_slice(octets);
        }
    }
    bytes.extend_from_slice(content);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_read_back() {
        let init = |length| {
            Init::new(
                &[Mechanism::Kerberos, Mechanism::Ntlm, Mechanism::Other],
                vec![7; length],
            )
        };
        for length in [0, 1, 0x7f, 0x80, 0xff, 0x100, 0x1_0000] {
            let token = init(length);
            assert_eq!(
                Token::parse(&token.encode()),
                Some(Token::Init(token)),
                "{length} bytes"
            );
        }
        let replies = [
            Reply::default(),
            Reply {
                state: Some(State::Rejected),
                ..Reply::default()
            },
            Reply {
                state: Some(State::Incomplete),
                mechanism: Some(Mechanism::Ntlm),
                token: Some(b"token".to_vec()),
                mic: None,
            },
            Reply {
                token: Some(b"token".to_vec()),
                mic: Some(vec![1; 16]),
                ..Reply::default()
            },
        ];
        for reply in replies {
            assert_eq!(Token::parse(&reply.encode()), Some(Token::Reply(reply)));
        }
    }

    #[test]
    fn tokens_cut_anywhere_are_refused() {
        let whole = Init::new(&[Mechanism::Ntlm], b"token".to_vec()).encode();
        for cut in 0..whole.len() {
            assert_eq!(Token::parse(&whole[..cut]), None, "cut at {cut}");
        }
        for junk in [
            &b"\x60\x84\xff\xff\xff\xff"[..],
            b"\x60\x80",
            b"\xa1\x01\x30",
            b"NTLMSSP\0",
        ] {
            assert_eq!(Token::parse(junk), None);
        }
    }
}
