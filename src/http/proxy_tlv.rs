//! Type-length-values behind the addresses of a PROXY header of version 2 (haproxy.org, `proxy-protocol.txt`, section 2.2).

use std::io::Write as _;

use crc::{CRC_32_ISCSI, Crc};

/// A checksum of the whole header, itself counted as zeroes.
const CRC32C: u8 = 0x03;
static CASTAGNOLI: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
/// What the sender's TLS session says: `client`, `verify` and values of its own.
const SSL: u8 = 0x20;

/// Bytes before the values in one of type [`SSL`]: a byte of flags, and four that are 0 if the client's certificate was verified.
const SSL_START: usize = 5;

/// A value that `$proxy_protocol_tlv_NAME` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tlv {
    /// The first of this type.
    Type(u8),
    /// The first of this type in that of type 0x20.
    OfSsl(u8),
    /// `verify` of that of type 0x20, in decimal.
    SslVerify,
}

impl Tlv {
    /// What nginx calls `name`, in lower case: a word of its documentation, or `0x` and a number in hexadecimal, each of them with
    /// `ssl_` before it for those of TLS.
    pub fn named(name: &str) -> Option<Self> {
        let number = |name: &str| {
            let digits = name.strip_prefix("0x")?;
            let is_number = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            u8::from_str_radix(digits, 16).ok().filter(|_| is_number)
        };
        Some(match name {
            "alpn" => Self::Type(0x01),
            "authority" => Self::Type(0x02),
            "unique_id" => Self::Type(0x05),
            "netns" => Self::Type(0x30),
            "ssl" => Self::Type(SSL),
            "ssl_verify" => Self::SslVerify,
            "ssl_version" => Self::OfSsl(0x21),
            "ssl_cn" => Self::OfSsl(0x22),
            "ssl_cipher" => Self::OfSsl(0x23),
            "ssl_sig_alg" => Self::OfSsl(0x24),
            "ssl_key_alg" => Self::OfSsl(0x25),
            _ => match name.strip_prefix("ssl_") {
                Some(name) => Self::OfSsl(number(name)?),
                None => Self::Type(number(name)?),
            },
        })
    }

    /// Appends its value in `tlvs`, as it came. False: there is none.
    pub fn append(self, tlvs: &[u8], out: &mut Vec<u8>) -> bool {
        let ssl = || first(tlvs, SSL)?.split_at_checked(SSL_START);
        let value = match self {
            Self::Type(kind) => first(tlvs, kind),
            Self::OfSsl(kind) => ssl().and_then(|(_, tlvs)| first(tlvs, kind)),
            Self::SslVerify => {
                let verify = ssl().and_then(|(start, _)| start[1..].try_into().ok());
                if let Some(verify) = verify.map(u32::from_be_bytes) {
                    // Writing to a vector does not fail.
                    let _ = write!(out, "{verify}");
                }
                return verify.is_some();
            }
        };
        value.is_some_and(|value| {
            out.extend_from_slice(value);
            true
        })
    }
}

/// The value of the first one of this type; `None` also where something broken comes before it.
fn first(tlvs: &[u8], kind: u8) -> Option<&[u8]> {
    let mut whole = Values(tlvs).map_while(Result::ok);
    whole
        .find(|(other, _)| *other == kind)
        .map(|(_, value)| value)
}

/// Whether `header[start..]` is type-length-values and nothing else, and the checksum of the header right, if there is one among them.
pub(super) fn are_right(header: &[u8], start: usize) -> bool {
    let mut checksum = None;
    for part in Values(&header[start..]) {
        match part {
            Err(Broken) => return false,
            Ok((CRC32C, value)) => match <[u8; 4]>::try_from(value) {
                Ok(sum) if checksum.is_none() => checksum = Some((value, u32::from_be_bytes(sum))),
                _ => return false,
            },
            Ok(_) => {}
        }
    }
    let Some((place, sum)) = checksum else {
        return true;
    };
    let place = place.as_ptr() as usize - header.as_ptr() as usize;
    let mut digest = CASTAGNOLI.digest();
    digest.update(&header[..place]);
    digest.update(&[0; 4]);
    digest.update(&header[place + 4..]);
    digest.finalize() == sum
}

/// A length that goes beyond the end, or too few bytes for a type and a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Broken;

/// What is in these bytes, one after the other, up to the end or to the first that is broken.
struct Values<'a>(&'a [u8]);

impl<'a> Iterator for Values<'a> {
    type Item = Result<(u8, &'a [u8]), Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        let tlvs = std::mem::take(&mut self.0);
        if tlvs.is_empty() {
            return None;
        }
        let whole = tlvs
            .split_first_chunk::<3>()
            .and_then(|(&[kind, high, low], rest)| {
                let length = usize::from(u16::from_be_bytes([high, low]));
                let (value, rest) = rest.split_at_checked(length)?;
                Some((kind, value, rest))
            });
        Some(match whole {
            Some((kind, value, rest)) => {
                self.0 = rest;
                Ok((kind, value))
            }
            None => Err(Broken),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len()).unwrap().to_be_bytes();
        [&[kind], &length[..], value].concat()
    }

    /// As HAProxy sends it with `proxy-v2-options ssl,cert-cn,ssl-cipher,authority,unique-id`, and a type that nobody knows.
    fn tlvs() -> Vec<u8> {
        let of_ssl = [
            vec![0x07, 0, 0, 0, 18],
            tlv(0x21, b"TLSv1.3"),
            tlv(0x22, b"alice"),
            tlv(0x23, b"TLS_AES_256_GCM_SHA384"),
            tlv(0x24, b"RSA-SHA256"),
            tlv(0x25, b"RSA2048"),
        ];
        [
            tlv(0x01, b"http/1.1"),
            tlv(0x04, &[0; 9]),
            tlv(0x02, b"mail.test"),
            tlv(0x02, b"second.test"),
            tlv(SSL, &of_ssl.concat()),
            tlv(0x05, b"\x00\xff\r\n"),
            tlv(0x30, b"blue"),
            tlv(0xea, b""),
        ]
        .concat()
    }

    fn value(name: &str, tlvs: &[u8]) -> Option<Vec<u8>> {
        let mut out = b"before ".to_vec();
        let found = Tlv::named(name).unwrap().append(tlvs, &mut out);
        let value = out.strip_prefix(b"before ").unwrap();
        assert!(found || value.is_empty());
        found.then(|| value.to_vec())
    }

    #[test]
    fn names_are_nginx_s() {
        for name in [
            "crc32c", "noop", "", "0x", "0x100", "0xg", "0x+1", "ssl_", "ssl_0x", "ssl_alpn", "cn",
            "5",
        ] {
            assert_eq!(Tlv::named(name), None, "{name}");
        }
        assert_eq!(Tlv::named("0x01"), Tlv::named("alpn"));
        assert_eq!(Tlv::named("0x1"), Tlv::named("alpn"));
        assert_eq!(Tlv::named("ssl_0x22"), Tlv::named("ssl_cn"));
    }

    #[test]
    fn values_are_found_by_name_and_number() {
        let tlvs = tlvs();
        for (name, expected) in [
            ("alpn", &b"http/1.1"[..]),
            ("authority", b"mail.test"),
            ("unique_id", b"\x00\xff\r\n"),
            ("netns", b"blue"),
            ("ssl_version", b"TLSv1.3"),
            ("ssl_cn", b"alice"),
            ("ssl_cipher", b"TLS_AES_256_GCM_SHA384"),
            ("ssl_sig_alg", b"RSA-SHA256"),
            ("ssl_key_alg", b"RSA2048"),
            ("ssl_verify", b"18"),
            ("0xea", b""),
            ("0x04", &[0; 9]),
        ] {
            assert_eq!(value(name, &tlvs).as_deref(), Some(expected), "{name}");
        }
        assert_eq!(value("ssl", &tlvs).unwrap()[..5], [7, 0, 0, 0, 18]);
        // Those of TLS are not among the others, nor the others among them.
        for name in ["0x21", "ssl_0x01", "0xeb", "0x00"] {
            assert_eq!(value(name, &tlvs), None, "{name}");
        }
        assert_eq!(value("alpn", b""), None);
    }

    #[test]
    fn what_is_cut_has_the_values_before_the_cut() {
        let tlvs = tlvs();
        for cut in 0..tlvs.len() {
            let cut = &tlvs[..cut];
            for name in [
                "alpn",
                "authority",
                "unique_id",
                "netns",
                "ssl_cn",
                "ssl_verify",
                "0xea",
            ] {
                let found = value(name, cut);
                assert!(found.is_none() || found == value(name, &tlvs), "{name}");
            }
        }
        // A value of type 0x20 that is too short for what begins it, and one that is broken behind that.
        for of_ssl in [&b""[..], b"\x01\0\0\0", b"\x01\0\0\0\x01\x21\xff\xff"] {
            let tlvs = tlv(SSL, of_ssl);
            assert_eq!(value("ssl_version", &tlvs), None);
            let verify = (of_ssl.len() >= SSL_START).then(|| b"1".to_vec());
            assert_eq!(value("ssl_verify", &tlvs), verify);
        }
    }

    #[test]
    fn only_whole_ones_are_right() {
        let tlvs = tlvs();
        let whole: Vec<usize> = (0..=tlvs.len())
            .filter(|&end| are_right(&tlvs[..end], 0))
            .collect();
        // The beginning, and the end of each of the eight.
        assert_eq!(whole.len(), 9);
        assert_eq!((whole[0], whole[8]), (0, tlvs.len()));
    }

    /// The check value of the catalogue of parametrised CRC algorithms for CRC-32/ISCSI, which is CRC32C.
    #[test]
    fn the_checksum_is_of_the_whole_header() {
        assert_eq!(CASTAGNOLI.checksum(b"123456789"), 0xe306_9283);
        let before = [&b"a header and its addresses"[..], &tlv(0x01, b"http/1.1")].concat();
        let start = b"a header and its addresses".len();
        let after = tlv(0x05, b"id");
        let zeroed = [&before[..], &tlv(CRC32C, &[0; 4]), &after].concat();
        let sum = CASTAGNOLI.checksum(&zeroed);
        let header = [&before[..], &tlv(CRC32C, &sum.to_be_bytes()), &after].concat();
        assert!(are_right(&header, start));
        for at in 0..header.len() {
            let mut wrong = header.clone();
            wrong[at] ^= 1;
            // All but what makes another type of the checksum's, or another length.
            let is_checked = !(before.len()..before.len() + 3).contains(&at);
            assert!(!is_checked || !are_right(&wrong, start), "byte {at}");
        }
        // Two of them, and those of other lengths.
        for sums in [
            [tlv(CRC32C, &[0; 4]), tlv(CRC32C, &sum.to_be_bytes())].concat(),
            tlv(CRC32C, &[0; 3]),
            tlv(CRC32C, &[0; 8]),
            tlv(CRC32C, b""),
        ] {
            assert!(!are_right(&[&before[..], &sums].concat(), start));
        }
    }
}
