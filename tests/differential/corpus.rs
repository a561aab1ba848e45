//! Messages from files: a line each, escaped as Rust escapes bytes, `#` before a comment.

/// Requests that are known to have been read in two ways by some server or other.
pub(crate) fn requests() -> Vec<Vec<u8>> {
    parse(include_str!("corpus/requests"))
}

/// Responses of that kind.
pub(crate) fn responses() -> Vec<Vec<u8>> {
    parse(include_str!("corpus/responses"))
}

fn parse(text: &str) -> Vec<Vec<u8>> {
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(unescape)
        .collect()
}

fn unescape(line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = line.as_bytes();
    while let [first, after @ ..] = rest {
        (rest, _) = match (first, after) {
            (b'\\', [b'r', after @ ..]) => (after, bytes.push(b'\r')),
            (b'\\', [b'n', after @ ..]) => (after, bytes.push(b'\n')),
            (b'\\', [b't', after @ ..]) => (after, bytes.push(b'\t')),
            (b'\\', [b'\\', after @ ..]) => (after, bytes.push(b'\\')),
            (b'\\', [b'x', high, low, after @ ..]) => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).expect("hexadecimal digits");
                let byte = u8::from_str_radix(digits, 16).expect("hexadecimal digits");
                (after, bytes.push(byte))
            }
            (b'\\', _) => panic!("an unknown escape in {line}"),
            (_, after) => (after, bytes.push(*first)),
        };
    }
    bytes
}
