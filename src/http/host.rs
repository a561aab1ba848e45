//! Hosts as they stand in `Host` fields and targets.

use std::net::Ipv6Addr;

/// Whether a value is `host` or `host:port` (rule 11): a name, an IPv4 address or a bracketed IPv6 address, and a port of
/// at most 65535. Neither user information nor a path, list or percent escape.
///
/// Narrower than RFC 3986 section 3.2.2 on purpose: names are letters, digits, `-`, `.`, `_` and `~`.
pub fn is_valid(value: &[u8]) -> bool {
    let (host, port) = split(value);
    let port_is_valid = port.is_none_or(|port| {
        (1..=5).contains(&port.len())
            && port.iter().all(u8::is_ascii_digit)
            && decimal(port) <= u32::from(u16::MAX)
    });
    let host_is_valid = match host {
        [b'[', address @ .., b']'] => {
            std::str::from_utf8(address).is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok())
        }
        // an empty host and empty labels are refused; one dot at the end is the root's
        _ => {
            let name = host.strip_suffix(b".").unwrap_or(host);
            let mut after_dot = true;
            let labels_are_valid = name.iter().all(|&byte| {
                let is_dot = byte == b'.';
                let fits = byte.is_ascii_alphanumeric()
                    || matches!(byte, b'-' | b'_' | b'~')
                    || (is_dot && !after_dot);
                after_dot = is_dot;
                fits
            });
            labels_are_valid && !after_dot
        }
    };
    host_is_valid && port_is_valid
}

/// Splits `host:port` at the colon before the port; the brackets of an IPv6 address stay with the host.
pub fn split(value: &[u8]) -> (&[u8], Option<&[u8]>) {
    let from = if value.first() == Some(&b'[') {
        value.iter().position(|&byte| byte == b']').unwrap_or(0)
    } else {
        0
    };
    match value[from..].iter().position(|&byte| byte == b':') {
        Some(colon) => (&value[..from + colon], Some(&value[from + colon + 1..])),
        None => (value, None),
    }
}

/// Whether two valid hosts are the same without regard to case, where a missing port is `default_port`.
pub(super) fn is_same(a: &[u8], b: &[u8], default_port: u32) -> bool {
    let (a_host, a_port) = split(a);
    let (b_host, b_port) = split(b);
    a_host.eq_ignore_ascii_case(b_host)
        && a_port.map_or(default_port, decimal) == b_port.map_or(default_port, decimal)
}

/// The value of at most 9 decimal digits.
fn decimal(digits: &[u8]) -> u32 {
    digits
        .iter()
        .fold(0, |value, digit| value * 10 + u32::from(digit - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_11_form_of_a_host() {
        for valid in [
            "a",
            "A.example",
            "a.example.",
            "a_b",
            "10.0.0.1",
            "a:80",
            "a:0",
            "a:65535",
            "[::1]",
            "[::1]:8080",
            "[::ffff:10.0.0.1]:1",
            "xn--bcher-kva.example",
        ] {
            assert!(is_valid(valid.as_bytes()), "{valid}");
        }
        for invalid in [
            "",
            ":80",
            "a, b",
            "a,b",
            "a b",
            "u@a",
            "a/b",
            "a\\b",
            "a?b",
            "a#b",
            "a:",
            "a:x",
            "a:65536",
            "a:080808",
            "a:+8",
            "a:80:80",
            "::1",
            "[::1",
            "[::1]x",
            "[::1]x:80",
            "[::1]:",
            "[]",
            "[v1.a]",
            "[fe80::1%25eth0]",
            ".",
            "..",
            ".a",
            "a..b",
            "a..",
            "a%41",
            "b\u{fc}cher",
            "a\tb",
        ] {
            assert!(!is_valid(invalid.as_bytes()), "{invalid}");
        }
    }

    #[test]
    fn host_and_port_are_split() {
        type Split<'a> = (&'a [u8], Option<&'a [u8]>);
        let table: &[(&[u8], Split<'_>)] = &[
            (b"a", (b"a", None)),
            (b"a:80", (b"a", Some(b"80"))),
            (b"[::1]", (b"[::1]", None)),
            (b"[::1]:80", (b"[::1]", Some(b"80"))),
        ];
        for (value, expected) in table {
            assert_eq!(split(value), *expected);
        }
    }
}
