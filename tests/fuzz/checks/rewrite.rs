//! Heads that go on: read again, they mean what they meant, and nothing in them is for one connection only.

use ntlmfront::http::head::{Framing, HeadLimits};
use ntlmfront::http::request::RequestHead;
use ntlmfront::http::response::{Asked, ResponseHead};
use ntlmfront::http::rewrite::{self, Rewrite, Slices, Target};
use ntlmfront::http::scan::{HeadScanner, Scan};

use super::input::Input;
use super::reference::{self, Field, HOP_BY_HOP};
use super::request_head::{limits, sizes};

/// Checks one input. Options: 0 a response, 1 and 2 together what becomes of the target, 3 underscores pass; for a response 1 to
/// a HEAD, 2 to an upgrade, 3 to a client of 1.1. The first byte says how long the new target is, and how much of the
/// old one it replaces; the new target follows.
///
/// # Panics
/// The product is wrong.
pub fn check(input: &[u8]) {
    let mut input = Input::new(input);
    if input.option(0) {
        response(&input);
        return;
    }
    let first = input.take_byte();
    let (prefix, length) = (usize::from(first >> 4), usize::from(first & 15));
    let with = input.bytes[..length.min(input.bytes.len())].to_vec();
    for _ in 0..with.len() {
        input.take_byte();
    }
    let limits = limits(false, input.option(3));
    let mut head = RequestHead::default();
    let Some(buffer) = first_head(&input, &limits, |buffer| {
        head.parse(buffer, &limits).is_ok()
    }) else {
        return;
    };
    let expected =
        reference::request(buffer, sizes(&limits), limits.underscores).expect("by the rules, too");
    // A configuration's targets begin with a slash, or the first byte that is left does.
    let whole = [b"/", &with[..]].concat();
    let (target, meant) = match input.options >> 1 & 3 {
        0 | 1 if expected.target == b"*" => (Target::AsItCame, b"*".to_vec()),
        0 | 1 => (Target::AsItCame, slashed(expected.target.clone())),
        2 => {
            let path = slashed(path_of(&expected.target).to_vec());
            let query = &expected.target[path_of(&expected.target).len()..];
            let path = if expected.target == b"*" {
                b"*"
            } else {
                &path[..]
            };
            let behind = &path[prefix.min(path.len())..];
            let target = Target::ReplacePrefix {
                prefix,
                with: &with,
            };
            let meant = [&escaped(&with)[..], behind, query].concat();
            (target, slashed(meant))
        }
        _ => (Target::Whole(&whole), escaped(&whole)),
    };
    let mut out = Rewrite::default();
    let replaced = |name: &[u8]| name.eq_ignore_ascii_case(b"x-replaced");
    rewrite::request(&mut out, &head, buffer, target, replaced, |own| {
        own.extend_from_slice(b"X-Replaced: own\r\nHost: up\r\n");
    });
    let sent = sent(&out, buffer, &input);
    let again = read_again(&sent, limits.underscores);
    assert_eq!(again.method, expected.method, "method");
    assert_eq!(again.target, meant, "target");
    assert_eq!(again.body, expected.body, "framing");
    assert_eq!(again.authorization, expected.authorization, "credentials");
    assert_eq!((again.is_http_10, &again.host[..]), (false, &b"up"[..]));
    let mut all: Vec<Field> = without(&expected.passing, "x-replaced");
    if head.framing == Framing::Chunked {
        all.push(field("Transfer-Encoding", "chunked"));
    }
    all.extend([field("X-Replaced", "own"), field("Host", "up")]);
    assert_eq!(again.fields, all, "fields");
    only_for_all(&again.fields);
    let mut parsed = RequestHead::default();
    parsed
        .parse(
            &sent,
            &HeadLimits {
                total: usize::MAX,
                line: usize::MAX,
                fields: 200,
                ..limits
            },
        )
        .expect("the front takes it itself");
}

/// A response's head that goes on.
fn response(input: &Input<'_>) {
    let limits = limits(false, false);
    let asked = Asked {
        head: input.option(1),
        upgrade: input.option(2),
    };
    let chunked = input.option(3);
    let mut head = ResponseHead::default();
    let Some(buffer) = first_head(input, &limits, |buffer| {
        head.parse(buffer, &limits, asked).is_ok()
    }) else {
        return;
    };
    let judge = |head| {
        let sizes = reference::Sizes {
            line: usize::MAX,
            total: usize::MAX,
            fields: usize::MAX,
        };
        reference::response(head, sizes, asked.head, false).expect("by the rules, too")
    };
    // What the server says of an upgrade is not for the reader behind the front: `add` would say it.
    if head.status == 101 {
        return;
    }
    let expected = judge(buffer);
    let mut out = Rewrite::default();
    let hidden = |name: &[u8]| name.eq_ignore_ascii_case(b"server");
    rewrite::response(&mut out, &head, buffer, chunked, hidden, |own| {
        own.extend_from_slice(b"Connection: close\r\n");
    });
    let sent = sent(&out, buffer, input);
    let again = judge(&sent);
    assert_eq!((again.status, again.is_http_10), (expected.status, false));
    let mut reason = expected.status_and_reason.clone();
    if reason.len() == 3 {
        reason.push(b' ');
    }
    assert_eq!(again.status_and_reason, reason);
    let unframed = head.framing == Framing::Chunked && !chunked;
    let body = if unframed {
        reference::Body::UntilClose
    } else {
        expected.body
    };
    assert_eq!(again.body, body, "framing");
    let mut all = without(&expected.passing, "server");
    if head.framing == Framing::Chunked && chunked {
        all.push(field("Transfer-Encoding", "chunked"));
    }
    all.push(field("Connection", "close"));
    assert_eq!(again.fields, all, "fields");
    let own = again.fields.len() - 1;
    only_for_all(&again.fields[..own]);
}

/// The head that the input begins with, if `parse` takes it.
fn first_head<'a>(
    input: &Input<'a>,
    limits: &HeadLimits,
    parse: impl FnOnce(&[u8]) -> bool,
) -> Option<&'a [u8]> {
    let Scan::Complete { start, end } = HeadScanner::default().scan(input.bytes, limits) else {
        return None;
    };
    let head = &input.bytes[start..end];
    parse(head).then_some(head)
}

/// The outgoing bytes, after checking that what was sent already can be left out at every cut.
fn sent(out: &Rewrite, buffer: &[u8], input: &Input<'_>) -> Vec<u8> {
    let from = |skip| {
        let mut slices = Slices::new();
        out.slices(buffer, skip, &mut slices);
        assert!(slices.iter().all(|slice| !slice.is_empty()));
        slices
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect()
    };
    let whole: Vec<u8> = from(0);
    assert_eq!(whole.len(), out.len());
    for &skip in input.ends.iter().filter(|&&skip| skip <= whole.len()) {
        assert_eq!(from(skip), whole[skip..], "without the first {skip} bytes");
    }
    let whole_again = HeadScanner::default().scan(
        &whole,
        &HeadLimits {
            total: usize::MAX,
            line: usize::MAX,
            ..HeadLimits::default()
        },
    );
    assert_eq!(
        whole_again,
        Scan::Complete {
            start: 0,
            end: whole.len()
        }
    );
    let target = whole.split(|&b| b == b' ').nth(1);
    assert_eq!(Some(&out.target(buffer)[..]), target);
    whole
}

fn read_again(sent: &[u8], underscores: bool) -> reference::Request {
    let sizes = reference::Sizes {
        line: usize::MAX,
        total: usize::MAX,
        fields: usize::MAX,
    };
    reference::request(sent, sizes, underscores).expect("what goes on is sound")
}

/// No field is for one connection only, but the coding that the front writes itself.
fn only_for_all(fields: &[Field]) {
    for (name, value) in fields {
        let name = name.to_ascii_lowercase();
        assert!(
            !HOP_BY_HOP.contains(&&name[..])
                || (name == b"transfer-encoding" && value == b"chunked")
        );
    }
}

fn without(fields: &[Field], name: &str) -> Vec<Field> {
    let others = fields
        .iter()
        .filter(|(field, _)| !field.eq_ignore_ascii_case(name.as_bytes()));
    others.cloned().collect()
}

fn field(name: &str, value: &str) -> Field {
    (name.into(), value.into())
}

fn slashed(target: Vec<u8>) -> Vec<u8> {
    match target.first() {
        Some(b'/') => target,
        _ => [b"/", &target[..]].concat(),
    }
}

fn path_of(target: &[u8]) -> &[u8] {
    target.split(|&b| b == b'?').next().unwrap_or_default()
}

/// What a configuration says a target is, with the bytes escaped that a request line cannot hold.
fn escaped(target: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for &byte in target {
        match byte {
            0..=b' ' | b'#' | b'\\' | 0x7f => {
                out.extend_from_slice(format!("%{byte:02X}").as_bytes())
            }
            _ => out.push(byte),
        }
    }
    out
}
