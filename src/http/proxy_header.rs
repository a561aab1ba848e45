//! The PROXY protocol, versions 1 and 2 (haproxy.org, `proxy-protocol.txt`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What stands at the beginning of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// More bytes are needed.
    Incomplete,
    /// No PROXY header.
    Broken,
    /// A header of `len` bytes.
    Header {
        /// Its length in bytes.
        len: usize,
        /// Source and destination; `None` for `UNKNOWN` and `LOCAL`.
        addresses: Option<(SocketAddr, SocketAddr)>,
    },
}

const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Longest header of version 1 in bytes, CRLF included.
const V1_MAX: usize = 107;

/// Longest header of version 2 that is read, in bytes: addresses and type-length-values.
const V2_MAX: usize = 4096;

/// Looks at the beginning of a connection.
pub fn parse(bytes: &[u8]) -> Parsed {
    let common = bytes.len().min(V2_SIGNATURE.len());
    if bytes[..common] == V2_SIGNATURE[..common] {
        return if common < V2_SIGNATURE.len() {
            Parsed::Incomplete
        } else {
            version_2(bytes)
        };
    }
    version_1(bytes)
}

fn version_1(bytes: &[u8]) -> Parsed {
    const NAME: &[u8] = b"PROXY ";
    let common = bytes.len().min(NAME.len());
    if bytes[..common] != NAME[..common] {
        return Parsed::Broken;
    }
    let Some(end) = memchr::memmem::find(&bytes[..bytes.len().min(V1_MAX)], b"\r\n") else {
        return if bytes.len() < V1_MAX {
            Parsed::Incomplete
        } else {
            Parsed::Broken
        };
    };
    let Ok(line) = std::str::from_utf8(&bytes[..end]) else {
        return Parsed::Broken;
    };
    let words: Vec<&str> = line.split(' ').collect();
    let addresses = match words[..] {
        ["PROXY", "UNKNOWN", ..] => None,
        [
            "PROXY",
            family @ ("TCP4" | "TCP6"),
            source,
            destination,
            from_port,
            to_port,
        ] => {
            let Some(pair) = pair(source, destination, from_port, to_port) else {
                return Parsed::Broken;
            };
            if pair.0.is_ipv4() != (family == "TCP4") || pair.1.is_ipv4() != pair.0.is_ipv4() {
                return Parsed::Broken;
            }
            Some(pair)
        }
        _ => return Parsed::Broken,
    };
    Parsed::Header {
        len: end + 2,
        addresses,
    }
}

fn pair(source: &str, destination: &str, from: &str, to: &str) -> Option<(SocketAddr, SocketAddr)> {
    let address = |ip: &str, port: &str| -> Option<SocketAddr> {
        // Digits alone, and no zero before them, which somebody might take for octal.
        let is_plain = port == "0" || port.starts_with(|first| matches!(first, '1'..='9'));
        let port = Some(port).filter(|_| is_plain)?;
        Some(SocketAddr::new(
            ip.parse::<IpAddr>().ok()?,
            port.parse().ok()?,
        ))
    };
    Some((address(source, from)?, address(destination, to)?))
}

fn version_2(bytes: &[u8]) -> Parsed {
    let Some(&[version_and_command, family, high, low]) =
        bytes.get(12..16).and_then(|b| <&[u8; 4]>::try_from(b).ok())
    else {
        return Parsed::Incomplete;
    };
    let len = 16 + usize::from(u16::from_be_bytes([high, low]));
    if version_and_command >> 4 != 2 || len > V2_MAX {
        return Parsed::Broken;
    }
    let Some(body) = bytes.get(16..len) else {
        return Parsed::Incomplete;
    };
    let port = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    let addresses = match (version_and_command & 15, family >> 4) {
        (0, _) => None,
        // A transport that is not assigned.
        (1, _) if family & 15 > 2 => return Parsed::Broken,
        (1, 0 | 3) => None,
        (1, 1) if body.len() >= 12 => {
            let ip = |at: usize| {
                IpAddr::from(Ipv4Addr::new(
                    body[at],
                    body[at + 1],
                    body[at + 2],
                    body[at + 3],
                ))
            };
            Some((
                SocketAddr::new(ip(0), port(8)),
                SocketAddr::new(ip(4), port(10)),
            ))
        }
        (1, 2) if body.len() >= 36 => {
            let ip = |at: usize| {
                let octets: [u8; 16] = body[at..at + 16].try_into().unwrap_or_default();
                IpAddr::from(Ipv6Addr::from(octets))
            };
            Some((
                SocketAddr::new(ip(0), port(32)),
                SocketAddr::new(ip(16), port(34)),
            ))
        }
        _ => return Parsed::Broken,
    };
    Parsed::Header { len, addresses }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
        match parse(text) {
            Parsed::Header { len, addresses } => {
                assert_eq!(len, text.len());
                for cut in 0..text.len() {
                    assert_eq!(parse(&text[..cut]), Parsed::Incomplete, "cut at {cut}");
                }
                addresses
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn both_versions_name_source_and_destination() {
        let v4 = Some((
            "192.0.2.1:1000".parse().unwrap(),
            "192.0.2.2:80".parse().unwrap(),
        ));
        let v6 = Some((
            "[2001:db8::1]:1000".parse().unwrap(),
            "[2001:db8::2]:80".parse().unwrap(),
        ));
        assert_eq!(header(b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\n"), v4);
        assert_eq!(
            header(b"PROXY TCP6 2001:db8::1 2001:db8::2 1000 80\r\n"),
            v6
        );
        assert_eq!(header(b"PROXY UNKNOWN\r\n"), None);
        let mut two = V2_SIGNATURE.to_vec();
        two.extend([
            0x21, 0x11, 0, 12, 192, 0, 2, 1, 192, 0, 2, 2, 0x03, 0xe8, 0, 80,
        ]);
        assert_eq!(header(&two), v4);
        let mut local = V2_SIGNATURE.to_vec();
        local.extend([0x20, 0, 0, 0]);
        assert_eq!(header(&local), None);
    }

    #[test]
    fn anything_else_is_broken() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1000\r\n",
            b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 80000\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 +80\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 080\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 \r\n",
            b"PROXY TCP4 192.0.2.1  192.0.2.2 1000 80\r\n",
            &[b'P'; 200],
            b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x02ab",
            // what is not assigned: a command, a family, a transport
            b"\r\n\r\n\0\r\nQUIT\n\x22\x11\0\0",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x41\0\0",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x03\0\0",
        ] {
            assert_eq!(parse(bytes), Parsed::Broken, "{bytes:?}");
        }
    }
}
