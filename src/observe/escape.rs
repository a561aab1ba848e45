//! Bytes of the network, made fit for a line of a log.

use std::fmt::{self, Write};

use crate::config::model::Escape;

/// Writes bytes as nginx does in its logs: `"`, `\`, control bytes and those above 126 as `\xXX`.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &byte in self.0 {
            if needs_hex(byte) {
                write!(f, "\\x{byte:02X}")?;
            } else {
                f.write_char(char::from(byte))?;
            }
        }
        Ok(())
    }
}

/// Escapes what `out` holds from `start` on, in the way of a `log_format`.
pub fn escape_from(start: usize, escape: Escape, out: &mut Vec<u8>) {
    let needs_escape = match escape {
        Escape::Default => needs_hex,
        Escape::Json => needs_json,
        Escape::None => return,
    };
    let Some(first) = out[start..].iter().position(|&byte| needs_escape(byte)) else {
        return;
    };
    let tail = out.split_off(start + first);
    for byte in tail {
        if !needs_escape(byte) {
            out.push(byte);
        } else if escape == Escape::Json {
            push_json(byte, out);
        } else {
            out.extend_from_slice(&[b'\\', b'x', hex(byte >> 4), hex(byte & 15)]);
        }
    }
}

fn needs_hex(byte: u8) -> bool {
    !(32..=126).contains(&byte) || byte == b'"' || byte == b'\\'
}

fn needs_json(byte: u8) -> bool {
    byte < 32 || byte == b'"' || byte == b'\\'
}

fn push_json(byte: u8, out: &mut Vec<u8>) {
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0C => b'f',
        _ => {
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 15)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

fn hex(half: u8) -> u8 {
    b"0123456789ABCDEF"[usize::from(half & 15)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way() {
        for (bytes, default, json) in [
            (&b""[..], &b""[..], &b""[..]),
            (b"plain ~", b"plain ~", b"plain ~"),
            (b"a\"b\\", b"a\\x22b\\x5C", b"a\\\"b\\\\"),
            (b"\n\r\t", b"\\x0A\\x0D\\x09", b"\\n\\r\\t"),
            (
                b"\x08\x0c\x00\x1f",
                b"\\x08\\x0C\\x00\\x1F",
                b"\\b\\f\\u0000\\u001F",
            ),
            (b"\x7f\x80\xff", b"\\x7F\\x80\\xFF", b"\x7f\x80\xff"),
        ] {
            for (escape, expected) in [
                (Escape::Default, default),
                (Escape::Json, json),
                (Escape::None, bytes),
            ] {
                let mut out = b"\"".to_vec();
                out.extend_from_slice(bytes);
                escape_from(1, escape, &mut out);
                assert_eq!(out[1..], *expected, "{bytes:?} {escape:?}");
                assert_eq!(out[0], b'"', "what was there stays");
            }
            assert_eq!(Escaped(bytes).to_string().as_bytes(), default);
        }
    }
}
