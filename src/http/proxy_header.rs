//! The PROXY protocol, versions 1 and 2 (haproxy.org, `proxy-protocol.txt`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::head::Span;
use super::proxy_tlv;

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
        /// Source and destination; `None` for `UNKNOWN`, for `LOCAL`, and for what is neither TCP over IPv4 nor over IPv6.
        addresses: Option<(SocketAddr, SocketAddr)>,
        /// Where its type-length-values are; empty without addresses.
        tlvs: Span,
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
        tlvs: Span::default(),
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
    let Some(header) = bytes.get(..len) else {
        return Parsed::Incomplete;
    };
    let local = Parsed::Header {
        len,
        addresses: None,
        tlvs: Span::default(),
    };
    let found = match (version_and_command & 15, family >> 4, family & 15) {
        // The whole block is to be discarded, whatever it holds.
        (0, ..) => return local,
        // A command, a family or a transport that is not assigned.
        (2.., ..) | (_, 4.., _) | (.., 3..) => return Parsed::Broken,
        (1, 1, 1) => ipv4(&header[16..]),
        (1, 2, 1) => ipv6(&header[16..]),
        (1, ..) => return local,
    };
    match found {
        Some((addresses, taken)) if proxy_tlv::are_right(header, 16 + taken) => Parsed::Header {
            len,
            addresses: Some(addresses),
            tlvs: Span::new(16 + taken, len),
        },
        _ => Parsed::Broken,
    }
}

/// The addresses of a block, and the bytes that they take.
fn ipv4(block: &[u8]) -> Option<((SocketAddr, SocketAddr), usize)> {
    let [a, b, c, d, e, f, g, h, ports @ ..] = *block.first_chunk::<12>()?;
    let source = IpAddr::from(Ipv4Addr::new(a, b, c, d));
    let destination = IpAddr::from(Ipv4Addr::new(e, f, g, h));
    Some((with_ports(source, destination, ports), 12))
}

/// The same for IPv6.
fn ipv6(block: &[u8]) -> Option<((SocketAddr, SocketAddr), usize)> {
    let (&source, rest) = block.split_first_chunk::<16>()?;
    let (&destination, rest) = rest.split_first_chunk::<16>()?;
    let ip = |octets: [u8; 16]| IpAddr::from(Ipv6Addr::from(octets));
    let ports = *rest.first_chunk::<4>()?;
    Some((with_ports(ip(source), ip(destination), ports), 36))
}

fn with_ports(source: IpAddr, destination: IpAddr, ports: [u8; 4]) -> (SocketAddr, SocketAddr) {
    let [a, b, c, d] = ports;
    let [from, to] = [[a, b], [c, d]].map(u16::from_be_bytes);
    (
        SocketAddr::new(source, from),
        SocketAddr::new(destination, to),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
        header_and_tlvs(text).0
    }

    fn header_and_tlvs(text: &[u8]) -> (Option<(SocketAddr, SocketAddr)>, &[u8]) {
        match parse(text) {
            Parsed::Header {
                len,
                addresses,
                tlvs,
            } => {
                assert_eq!(len, text.len());
                for cut in 0..text.len() {
                    assert_eq!(parse(&text[..cut]), Parsed::Incomplete, "cut at {cut}");
                }
                (addresses, tlvs.of(text))
            }
            other => panic!("{other:?}"),
        }
    }

    fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let length = u16::try_from(block.len()).unwrap().to_be_bytes();
        [&V2_SIGNATURE[..], &[command, family], &length[..], block].concat()
    }

    /// 192.0.2.1:1000 and 192.0.2.2:80
    const IPV4: [u8; 12] = [192, 0, 2, 1, 192, 0, 2, 2, 0x03, 0xe8, 0, 80];

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
        assert_eq!(header(&v2(0x21, 0x11, &IPV4)), v4);
        let ip = |last: u8| [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
        let block = [&ip(1)[..], &ip(2), &IPV4[8..]].concat();
        assert_eq!(header(&v2(0x21, 0x21, &block)), v6);
    }

    /// No addresses, as nginx and HAProxy have none: what the balancer says of itself, and what is no TCP over IP.
    #[test]
    fn others_have_no_addresses() {
        let tlv = [&IPV4[..], b"\x01\0\x02h2"].concat();
        for (command, family) in [
            (0x20, 0x11),
            (0x20, 0xff),
            (0x21, 0),
            (0x21, 0x10),
            (0x21, 0x12),
        ] {
            for block in [&b""[..], b"\x03", &IPV4, &tlv] {
                let bytes = v2(command, family, block);
                assert_eq!(header_and_tlvs(&bytes), (None, &b""[..]));
            }
        }
        assert_eq!(header(&v2(0x21, 0x31, &[b'/'; 216])), None);
    }

    #[test]
    fn type_length_values_come_behind_the_addresses() {
        let tlvs = b"\x01\0\x08http/1.1\x04\0\0";
        let bytes = v2(0x21, 0x11, &[&IPV4[..], tlvs].concat());
        assert_eq!(header_and_tlvs(&bytes).1, tlvs);
        // As many as there may be, and one byte more.
        let most = |more: usize| {
            let length = V2_MAX - 16 - IPV4.len() - 3 + more;
            let head = [0xee, length.to_be_bytes()[6], length.to_be_bytes()[7]];
            v2(
                0x21,
                0x11,
                &[&IPV4[..], &head, &vec![b'x'; length]].concat(),
            )
        };
        assert_eq!(header_and_tlvs(&most(0)).1.len(), V2_MAX - 28);
        assert_eq!(parse(&most(1)[..16]), Parsed::Broken);
        for broken in [
            &b"\x01"[..],
            b"\x01\0",
            b"\x01\0\x01",
            b"\x03\0\x04\0\0\0\0",
        ] {
            let bytes = v2(0x21, 0x11, &[&IPV4[..], broken].concat());
            assert_eq!(parse(&bytes), Parsed::Broken, "{broken:?}");
        }
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
