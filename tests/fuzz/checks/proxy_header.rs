//! The PROXY header: decided as soon as it can be and never otherwise after that, and read as the reference reads it.

use std::net::{IpAddr, SocketAddr};

use ntlmfront::http::proxy_header::{Parsed, parse};
use ntlmfront::http::proxy_tlv::Tlv;

use super::input::Input;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Checks one input. Options: 0 version 2's signature comes before the bytes; 1 the length and a right checksum are added to them.
///
/// # Panics
/// The product is wrong.
pub fn check(input: &[u8]) {
    let input = Input::new(input);
    let bytes = match (input.option(0), input.option(1)) {
        (true, true) => with_checksum(input.bytes),
        (true, false) => [SIGNATURE, input.bytes].concat(),
        (false, _) => input.bytes.to_vec(),
    };
    let whole = parse(&bytes);
    let decided = (0..=bytes.len()).map(|end| (end, parse(&bytes[..end])));
    let first = decided
        .filter(|(_, parsed)| *parsed != Parsed::Incomplete)
        .collect::<Vec<_>>();
    for (end, parsed) in &first {
        assert_eq!(*parsed, whole, "with the first {end} bytes");
    }
    if let (Parsed::Header { len, .. }, Some((end, _))) = (whole, first.first()) {
        assert_eq!(
            len, *end,
            "known with its last byte, and takes none behind it"
        );
    }
    let expected = match bytes.starts_with(SIGNATURE) {
        true => version_2(&bytes),
        false => version_1(&bytes),
    };
    match (whole, expected) {
        (
            Parsed::Header {
                len,
                addresses,
                tlvs,
            },
            Some(expected),
        ) => {
            let tlvs = tlvs.of(&bytes);
            assert_eq!((len, addresses, tlvs), expected);
            same_values(tlvs);
        }
        (Parsed::Broken | Parsed::Incomplete, None) => {}
        (found, expected) => panic!("{found:?}, but by the rules {expected:?}"),
    }
    if whole == Parsed::Incomplete {
        let known = bytes.len().min(SIGNATURE.len());
        let line = bytes.len().min(6);
        assert!(bytes[..known] == SIGNATURE[..known] || bytes[..line] == b"PROXY "[..line]);
        assert!(bytes.len() < 4096);
    }
}

type Addresses = Option<(SocketAddr, SocketAddr)>;

/// Its length, its addresses and its type-length-values.
type Header<'a> = (usize, Addresses, &'a [u8]);

/// Command, family and block of a header of version 2, made whole: with the length, and with a right checksum at the end.
fn with_checksum(bytes: &[u8]) -> Vec<u8> {
    let (start, block) = bytes.split_at(bytes.len().min(2));
    let length = (block.len() + 7).min(0xffff) as u16;
    let checksum = [3, 0, 4, 0, 0, 0, 0];
    let mut header = [SIGNATURE, start, &length.to_be_bytes(), block, &checksum].concat();
    let place = header.len() - 4;
    let sum = crc32c(&header);
    header[place..].copy_from_slice(&sum.to_be_bytes());
    header
}

/// The checksum of RFC 3720 section 12.1, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |sum: u32, _| match sum & 1 {
        1 => sum >> 1 ^ 0x82f6_3b78,
        _ => sum >> 1,
    };
    let sum = bytes
        .iter()
        .fold(!0, |sum, &byte| (0..8).fold(sum ^ u32::from(byte), step));
    !sum
}

/// Each type and value, if there is nothing else in these bytes.
fn values(mut bytes: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let mut values = Vec::new();
    while !bytes.is_empty() {
        let end = 3 + 256 * usize::from(*bytes.get(1)?) + usize::from(*bytes.get(2)?);
        values.push((bytes[0], bytes.get(3..end)?));
        bytes = &bytes[end..];
    }
    Some(values)
}

/// Whether there is no checksum, or one that is right.
fn is_sound(header: &[u8], tlvs: &[u8]) -> bool {
    let Some(values) = values(tlvs) else {
        return false;
    };
    let mut sums = values.iter().filter(|(kind, _)| *kind == 3);
    let Some((_, sum)) = sums.next() else {
        return true;
    };
    let place = sum.as_ptr() as usize - header.as_ptr() as usize;
    let mut zeroed = header.to_vec();
    zeroed[place..place + sum.len()].fill(0);
    sums.next().is_none() && **sum == crc32c(&zeroed).to_be_bytes()
}

/// Each variable has the value that nginx gives it; none where a value is broken.
fn same_values(tlvs: &[u8]) {
    let first = |tlvs: &[u8], kind: u8| {
        let mut all = values(tlvs)?.into_iter();
        all.find(|(other, _)| *other == kind)
            .map(|(_, value)| value.to_vec())
    };
    let ssl = first(tlvs, 0x20).filter(|ssl| ssl.len() >= 5);
    let shown = |name: &str| {
        let mut out = Vec::new();
        let tlv = Tlv::named(name).expect("a name");
        tlv.append(tlvs, &mut out).then_some(out)
    };
    for kind in 0..=255 {
        assert_eq!(shown(&format!("0x{kind:02x}")), first(tlvs, kind));
        let found = shown(&format!("ssl_0x{kind:02x}"));
        let of_ssl = ssl.as_ref().map(|ssl| &ssl[5..]);
        match of_ssl.and_then(values) {
            Some(_) => assert_eq!(found, of_ssl.and_then(|of_ssl| first(of_ssl, kind))),
            // What comes before the broken one may be shown.
            None => assert!(found.is_none() || of_ssl.is_some()),
        }
    }
    let verify = ssl.map(|ssl| u32::from_be_bytes([ssl[1], ssl[2], ssl[3], ssl[4]]));
    let verify = verify.map(|verify| verify.to_string().into_bytes());
    assert_eq!(shown("ssl_verify"), verify);
}

/// A whole header of version 1: one line of 107 bytes at most.
fn version_1(bytes: &[u8]) -> Option<Header<'_>> {
    let end = bytes.windows(2).position(|two| two == b"\r\n")?;
    if end + 2 > 107 {
        return None;
    }
    let line = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let words: Vec<&str> = line.split(' ').collect();
    if words[..2.min(words.len())] == ["PROXY", "UNKNOWN"] {
        return Some((end + 2, None, b""));
    }
    let (&["PROXY", family, from, to, from_port, to_port], _) = words.split_first_chunk::<6>()?
    else {
        return None;
    };
    let is_4 = match family {
        "TCP4" => true,
        "TCP6" => false,
        _ => return None,
    };
    // Decimal, and without zeroes before other digits.
    let port = |text: &str| {
        text.parse::<u16>()
            .ok()
            .filter(|port| port.to_string() == text)
    };
    let ip = |text: &str| {
        text.parse::<IpAddr>()
            .ok()
            .filter(|ip| ip.is_ipv4() == is_4)
    };
    let from = SocketAddr::new(ip(from)?, port(from_port)?);
    let to = SocketAddr::new(ip(to)?, port(to_port)?);
    (words.len() == 6).then_some((end + 2, Some((from, to)), b""))
}

/// A whole header of version 2, of 4096 bytes at most.
fn version_2(bytes: &[u8]) -> Option<Header<'_>> {
    let length = 256 * usize::from(*bytes.get(14)?) + usize::from(*bytes.get(15)?);
    let (command, family, protocol) = (bytes[12], bytes[13] / 16, bytes[13] % 16);
    let body = bytes.get(16..16 + length)?;
    if length > 4096 - 16 {
        return None;
    }
    let address = |at: usize, size: usize, port: usize| -> Option<SocketAddr> {
        let ip = match size {
            4 => IpAddr::from(<[u8; 4]>::try_from(body.get(at..at + 4)?).ok()?),
            _ => IpAddr::from(<[u8; 16]>::try_from(body.get(at..at + 16)?).ok()?),
        };
        let port = u16::from_be_bytes(body.get(port..port + 2)?.try_into().ok()?);
        Some(SocketAddr::new(ip, port))
    };
    let (source, destination, taken) = match (command, family, protocol) {
        (0x20, ..) => return Some((16 + length, None, b"")),
        (0x21, 1, 1) => (address(0, 4, 8)?, address(4, 4, 10)?, 12),
        (0x21, 2, 1) => (address(0, 16, 32)?, address(16, 16, 34)?, 36),
        // What is not assigned "must be rejected as invalid by receivers"; of the rest only TCP over IP has addresses.
        (0x21, ..4, ..3) => return Some((16 + length, None, b"")),
        _ => return None,
    };
    let tlvs = &body[taken..];
    is_sound(&bytes[..16 + length], tlvs).then_some((
        16 + length,
        Some((source, destination)),
        tlvs,
    ))
}
