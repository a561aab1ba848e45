//! The three messages as bytes: their fields are (length, offset) pairs into what follows a fixed head.

/// The flags of \[MS-NLMP\] 2.2.2.5 that are looked at or offered here.
pub(super) mod flag {
    pub(crate) const UNICODE: u32 = 0x0000_0001;
    pub(crate) const OEM: u32 = 0x0000_0002;
    pub(crate) const REQUEST_TARGET: u32 = 0x0000_0004;
    pub(crate) const SIGN: u32 = 0x0000_0010;
    pub(crate) const SEAL: u32 = 0x0000_0020;
    pub(crate) const NTLM: u32 = 0x0000_0200;
    pub(crate) const ALWAYS_SIGN: u32 = 0x0000_8000;
    pub(crate) const TARGET_TYPE_DOMAIN: u32 = 0x0001_0000;
    pub(crate) const EXTENDED_SESSION_SECURITY: u32 = 0x0008_0000;
    pub(crate) const TARGET_INFO: u32 = 0x0080_0000;
    pub(crate) const VERSION: u32 = 0x0200_0000;
    pub(crate) const BITS_128: u32 = 0x2000_0000;
    pub(crate) const KEY_EXCHANGE: u32 = 0x4000_0000;
    pub(crate) const BITS_56: u32 = 0x8000_0000;
}

/// The items of a challenge's target info, \[MS-NLMP\] 2.2.2.1.
pub(super) mod av {
    pub(crate) const END: u16 = 0;
    pub(crate) const COMPUTER_NAME: u16 = 1;
    pub(crate) const DOMAIN_NAME: u16 = 2;
    pub(crate) const DNS_COMPUTER_NAME: u16 = 3;
    pub(crate) const DNS_DOMAIN_NAME: u16 = 4;
    pub(crate) const FLAGS: u16 = 6;
    pub(crate) const TIMESTAMP: u16 = 7;
    pub(crate) const TARGET_NAME: u16 = 9;
    pub(crate) const CHANNEL_BINDINGS: u16 = 10;
    /// In `FLAGS`: the client's message carries an integrity code.
    pub(crate) const FLAG_HAS_MIC: u32 = 2;
}

/// What every message begins with.
pub(super) const SIGNATURE: &[u8; 8] = b"NTLMSSP\0";
/// Where the integrity code stands in a Type 3: after eight bytes of version.
pub(super) const MIC: std::ops::Range<usize> = 72..88;

/// Whether a token is an NTLM message, bare of any wrapping.
pub fn is_message(token: &[u8]) -> bool {
    token.starts_with(SIGNATURE)
}

/// Reads a message of one type; every access is checked, none can panic.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(message: &'a [u8], kind: u32) -> Option<Self> {
        let reader = Self(message);
        (is_message(message) && reader.u32(8)? == kind).then_some(reader)
    }

    pub(super) fn u32(self, at: usize) -> Option<u32> {
        Some(u32::from_le_bytes(self.array(at)?))
    }

    pub(super) fn array<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..at.checked_add(N)?)?.try_into().ok()
    }

    /// The payload that the length and offset at `at` describe.
    pub(super) fn field(self, at: usize) -> Option<&'a [u8]> {
        let length = usize::from(u16::from_le_bytes(self.array(at)?));
        let offset = usize::try_from(self.u32(at + 4)?).ok()?;
        if length == 0 {
            return Some(&[]);
        }
        self.0.get(offset..offset.checked_add(length)?)
    }

    /// A name, in the character set that the message's flags say.
    pub(super) fn text(self, at: usize, flags: u32) -> Option<String> {
        let bytes = self.field(at)?;
        if flags & flag::UNICODE == 0 {
            return Some(bytes.iter().copied().map(char::from).collect());
        }
        let (units, rest) = bytes.as_chunks::<2>();
        if !rest.is_empty() {
            return None;
        }
        char::decode_utf16(units.iter().copied().map(u16::from_le_bytes))
            .collect::<Result<_, _>>()
            .ok()
    }
}

/// Whom a server says in its challenge that it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerNames {
    /// Its NetBIOS domain; empty if it does not say.
    pub domain: String,
    /// Its NetBIOS name; empty if it does not say.
    pub computer: String,
}

impl ServerNames {
    /// Reads a challenge; `None` if it is none.
    pub fn of(challenge: &[u8]) -> Option<Self> {
        let target_info = Reader::new(challenge, 2)?.field(40)?;
        let name = |id| {
            let (units, _) = av_pair(target_info, id)
                .unwrap_or_default()
                .as_chunks::<2>();
            let units: Vec<u16> = units.iter().copied().map(u16::from_le_bytes).collect();
            String::from_utf16_lossy(&units)
        };
        Some(Self {
            domain: name(av::DOMAIN_NAME),
            computer: name(av::COMPUTER_NAME),
        })
    }
}

/// Puts a message together: a head of known length, then the payloads that its fields point to.
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn new(kind: u32, head_bytes: usize) -> Self {
        let mut bytes = vec![0; head_bytes];
        bytes[..8].copy_from_slice(SIGNATURE);
        bytes[8..12].copy_from_slice(&kind.to_le_bytes());
        Self { bytes }
    }

    pub(super) fn put(&mut self, at: usize, value: &[u8]) {
        self.bytes[at..at + value.len()].copy_from_slice(value);
    }

    pub(super) fn field(&mut self, at: usize, payload: &[u8]) {
        let length = u16::try_from(payload.len())
            .expect("names and responses of our own are short")
            .to_le_bytes();
        let offset = u32::try_from(self.bytes.len())
            .expect("a message is short")
            .to_le_bytes();
        self.put(at, &length);
        self.put(at + 2, &length);
        self.put(at + 4, &offset);
        self.bytes.extend_from_slice(payload);
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// The value of one item of a list of (id, length, value).
pub(super) fn av_pair(list: &[u8], wanted: u16) -> Option<&[u8]> {
    av_pairs(list)
        .map_while(Result::ok)
        .find(|(id, _)| *id == wanted)
        .map(|(_, value)| value)
}

/// The list is cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CutShort;

/// The items of a list up to its end.
pub(super) fn av_pairs(mut list: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), CutShort>> {
    let mut over = false;
    std::iter::from_fn(move || {
        if over {
            return None;
        }
        let mut item = || {
            let (id, rest) = list.split_first_chunk::<2>()?;
            let (length, rest) = rest.split_first_chunk::<2>()?;
            let length = usize::from(u16::from_le_bytes(*length));
            let (value, rest) = rest.split_at_checked(length)?;
            list = rest;
            Some((u16::from_le_bytes(*id), value))
        };
        let item = item();
        over = item.is_none_or(|(id, _)| id == av::END);
        match item {
            Some((av::END, _)) => None,
            item => Some(item.ok_or(CutShort)),
        }
    })
}

pub(super) fn push_av_pair(list: &mut Vec<u8>, id: u16, value: &[u8]) {
    let length = u16::try_from(value.len()).expect("names of our own are short");
    list.extend_from_slice(&id.to_le_bytes());
    list.extend_from_slice(&length.to_le_bytes());
    list.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_beyond_the_message_are_refused() {
        let mut message = Writer::new(3, 20);
        message.field(12, b"abc");
        let whole = message.finish();
        assert_eq!(
            Reader::new(&whole, 3).and_then(|reader| reader.field(12)),
            Some(&b"abc"[..])
        );
        assert!(Reader::new(&whole, 2).is_none(), "another type");
        for cut in 0..whole.len() {
            let reader = Reader::new(&whole[..cut], 3);
            assert!(
                reader.and_then(|reader| reader.field(12)).is_none(),
                "cut at {cut}"
            );
        }
        let mut far = whole;
        far[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(
            Reader::new(&far, 3)
                .and_then(|reader| reader.field(12))
                .is_none()
        );
    }

    #[test]
    fn av_pairs_are_found_up_to_the_end() {
        let mut list = Vec::new();
        push_av_pair(&mut list, av::DOMAIN_NAME, b"D");
        push_av_pair(&mut list, av::END, b"");
        push_av_pair(&mut list, av::FLAGS, b"late");
        assert_eq!(av_pair(&list, av::DOMAIN_NAME), Some(&b"D"[..]));
        assert_eq!(av_pair(&list, av::FLAGS), None);
        assert_eq!(av_pair(&list[..4], av::DOMAIN_NAME), None, "cut short");
    }
}
