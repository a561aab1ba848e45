//! The PROXY header: decided as soon as it can be and never otherwise after that, and read as the reference reads it.

use std::net::{IpAddr, SocketAddr};

use ntlmfront::http::proxy_header::{Parsed, parse};

use super::input::Input;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Checks one input. Options: 0 version 2's signature comes before the bytes.
///
/// # Panics
/// The product is wrong.
pub fn check(input: &[u8]) {
    let input = Input::new(input);
    let bytes = match input.option(0) {
        true => [SIGNATURE, input.bytes].concat(),
        false => input.bytes.to_vec(),
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
        (Parsed::Header { len, addresses }, Some(expected)) => {
            assert_eq!((len, addresses), expected)
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

/// A whole header of version 1: one line of 107 bytes at most.
fn version_1(bytes: &[u8]) -> Option<(usize, Addresses)> {
    let end = bytes.windows(2).position(|two| two == b"\r\n")?;
    if end + 2 > 107 {
        return None;
    }
    let line = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let words: Vec<&str> = line.split(' ').collect();
    if words[..2.min(words.len())] == ["PROXY", "UNKNOWN"] {
        return Some((end + 2, None));
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
    (words.len() == 6).then_some((end + 2, Some((from, to))))
}

/// A whole header of version 2, of 4096 bytes at most.
fn version_2(bytes: &[u8]) -> Option<(usize, Addresses)> {
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
    let addresses = match (command, family) {
        (0x20, _) => None,
        // What is not assigned "must be rejected as invalid by receivers".
        (0x21, _) if protocol > 2 => return None,
        (0x21, 0 | 3) => None,
        (0x21, 1) => Some((address(0, 4, 8)?, address(4, 4, 10)?)),
        (0x21, 2) => Some((address(0, 16, 32)?, address(16, 16, 34)?)),
        _ => return None,
    };
    Some((16 + length, addresses))
}
