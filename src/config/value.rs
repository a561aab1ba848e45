//! Sizes, times and numbers as nginx writes them.

use std::time::Duration;

/// Longest time that is understood: far beyond any use, and still a summand that no clock overflows on.
const MAX_TIME_MS: u64 = 100 * 365 * 24 * 3600 * 1000;

/// Bytes: digits, then nothing, `k`, `m` or `g` of either case.
pub(super) fn size(text: &str) -> Option<u64> {
    let (digits, scale) = match text.as_bytes().last()? {
        b'k' | b'K' => (&text[..text.len() - 1], 1 << 10),
        b'm' | b'M' => (&text[..text.len() - 1], 1 << 20),
        b'g' | b'G' => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    let bytes = number(digits)?.checked_mul(scale)?;
    (bytes <= i64::MAX as u64).then_some(bytes)
}

/// Digits only.
pub(super) fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// `60` and `60s` are seconds; `500ms`, `1h 30m`, `1d`: each unit once, the longest first.
pub(super) fn time(text: &str) -> Option<Duration> {
    const SECOND: u64 = 1000;
    const DAY: u64 = 24 * 3600 * SECOND;
    let mut total = 0_u64;
    let mut last_unit = u64::MAX;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let value = number(&rest[..digits])?;
        rest = &rest[digits..];
        let (unit, length) = match rest.as_bytes() {
            [] => (SECOND, 0),
            [b'y', ..] => (365 * DAY, 1),
            [b'M', ..] => (30 * DAY, 1),
            [b'w', ..] => (7 * DAY, 1),
            [b'd', ..] => (DAY, 1),
            [b'h', ..] => (3600 * SECOND, 1),
            [b'm', b's', ..] => (1, 2),
            [b'm', ..] => (60 * SECOND, 1),
            [b's', ..] => (SECOND, 1),
            _ => return None,
        };
        if unit >= last_unit {
            return None;
        }
        last_unit = unit;
        rest = rest[length..].trim_start_matches(' ');
        total = total.checked_add(value.checked_mul(unit)?)?;
    }
    (total <= MAX_TIME_MS).then(|| Duration::from_millis(total))
}

/// `on` or `off`, in any case.
pub(super) fn flag(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("on") {
        Some(true)
    } else if text.eq_ignore_ascii_case("off") {
        Some(false)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1", Some(1)),
            ("8k", Some(8 << 10)),
            ("8K", Some(8 << 10)),
            ("1m", Some(1 << 20)),
            ("2G", Some(2 << 30)),
            ("", None),
            ("k", None),
            ("-1", None),
            ("+1", None),
            ("1.5m", None),
            ("1 k", None),
            ("1kb", None),
            ("ä", None),
            ("99999999999999999999", None),
            ("9223372036854775807g", None),
            ("18446744073709551615", None),
        ] {
            assert_eq!(size(text), expected, "{text}");
        }
    }

    #[test]
    fn times() {
        for (text, expected) in [
            ("0", Some(0)),
            ("60", Some(60_000)),
            ("60s", Some(60_000)),
            ("500ms", Some(500)),
            ("1h 30m", Some(5_400_000)),
            ("1h30m", Some(5_400_000)),
            ("1m 5", Some(65_000)),
            ("1d", Some(86_400_000)),
            ("1w", Some(7 * 86_400_000)),
            ("1M", Some(30 * 86_400_000)),
            ("1y", Some(365 * 86_400_000)),
            ("1s 5ms", Some(1005)),
            ("", None),
            ("s", None),
            (" 1s", None),
            ("30m 1h", None),
            ("1s 1s", None),
            ("5 1s", None),
            ("-1", None),
            ("1x", None),
            ("1sä", None),
            ("1000y", None),
            ("99999999999999999999y", None),
        ] {
            assert_eq!(time(text), expected.map(Duration::from_millis), "{text}");
        }
    }
}
