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

/// Escapes what `out` holds from `start` on, in the way of a `log_format`. In JSON, bytes that are no UTF-8 are written as
/// `\u00XX`, so that the line can be parsed whatever a client sent; nginx writes them as they came.
pub fn escape_from(start: usize, escape: Escape, out: &mut Vec<u8>) {
    let value = &out[start..];
    match escape {
        Escape::Default if is_any(value, needs_hex) => {
            let value = out.split_off(start);
            for byte in value {
                match needs_hex(byte) {
                    true => out.extend_from_slice(&[b'\\', b'x', hex(byte >> 4), hex(byte & 15)]),
                    false => out.push(byte),
                }
            }
        }
        Escape::Json if is_any(value, |byte| needs_json(byte) || !byte.is_ascii()) => {
            let value = out.split_off(start);
            for chunk in value.utf8_chunks() {
                for &byte in chunk.valid().as_bytes() {
                    match needs_json(byte) {
                        true => push_json(byte, out),
                        false => out.push(byte),
                    }
                }
                chunk
                    .invalid()
                    .iter()
                    .for_each(|&byte| push_unicode(byte, out));
            }
        }
        _ => {}
    }
}

/// Whether any of the bytes is such a one. By blocks, for which compilers know wide instructions; the last one may overlap
/// the one before it.
fn is_any(bytes: &[u8], such: impl Fn(u8) -> bool) -> bool {
    const BLOCK: usize = 16;
    let in_block = |block: &[u8; BLOCK]| block.iter().fold(false, |any, &byte| any | such(byte));
    match bytes.last_chunk::<BLOCK>() {
        Some(last) => bytes.as_chunks().0.iter().any(in_block) || in_block(last),
        None => bytes.iter().any(|&byte| such(byte)),
    }
}

fn needs_hex(byte: u8) -> bool {
    !(32..=126).contains(&byte) | (byte == b'"') | (byte == b'\\')
}

fn needs_json(byte: u8) -> bool {
    (byte < 32) | (byte == b'"') | (byte == b'\\')
}

fn push_json(byte: u8, out: &mut Vec<u8>) {
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0C => b'f',
        _ => return push_unicode(byte, out),
    };
    out.extend_from_slice(&[b'\\', short]);
}

fn push_unicode(byte: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 15)]);
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
            (b"\x7f\x80\xff", b"\\x7F\\x80\\xFF", b"\x7f\\u0080\\u00FF"),
            (
                "é\u{2028}".as_bytes(),
                b"\\xC3\\xA9\\xE2\\x80\\xA8",
                "é\u{2028}".as_bytes(),
            ),
            (
                b"a block of sixteen\"",
                b"a block of sixteen\\x22",
                b"a block of sixteen\\\"",
            ),
            (
                b"at \"the block's end, and more than it",
                b"at \\x22the block's end, and more than it",
                b"at \\\"the block's end, and more than it",
            ),
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
