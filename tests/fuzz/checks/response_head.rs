//! The response head: found in any pieces, and judged as the reference judges it.

use ntlmfront::http::head::{HeadLimits, Span, Version};
use ntlmfront::http::response::{Asked, ResponseHead};
use ntlmfront::http::scan::Scan;

use super::input::Input;
use super::reference;
use super::request_head::{body, limits, same_fields, scan, sizes};

/// Checks one input. Options: 0 small limits, 1 an answer to HEAD, 2 an upgrade was asked for.
///
/// # Panics
/// The product is wrong.
pub fn check(input: &[u8]) {
    let input = Input::new(input);
    let limits = limits(input.option(0), false);
    let asked = Asked {
        head: input.option(1),
        upgrade: input.option(2),
    };
    let judge = |head| reference::response(head, sizes(&limits), asked.head, asked.upgrade);
    let whole = scan(&input, &limits);
    let expected = reference::head_end(input.bytes);
    let Scan::Complete { start, end } = whole else {
        let accepted = expected.and_then(|(start, end)| judge(&input.bytes[start..end]));
        assert!(
            accepted.is_none(),
            "{whole:?}, but the head is sound: {accepted:?}"
        );
        return;
    };
    assert_eq!(Some((start, end)), expected, "where the head is");
    let head = &input.bytes[start..end];
    let mut found = used();
    match (found.parse(head, &limits, asked), judge(head)) {
        (Ok(()), Some(expected)) => same(&found, head, &expected),
        (Err(_), None) => {}
        (result, expected) => panic!("{result:?}, but by the rules {expected:?}"),
    }
}

/// A head that was in use before: nothing of that may stay.
fn used() -> ResponseHead {
    let mut head = ResponseHead::default();
    let before =
        b"HTTP/1.0 101 A\r\nUpgrade: a\r\nPersistent-Auth: false\r\nConnection: close\r\n\r\n";
    let asked = Asked {
        head: false,
        upgrade: true,
    };
    let _ = head.parse(before, &HeadLimits::default(), asked);
    head
}

fn same(found: &ResponseHead, head: &[u8], expected: &reference::Response) {
    assert_eq!(found.len as usize, head.len(), "length");
    assert_eq!(found.status, expected.status, "status");
    assert_eq!(
        found.status_and_reason.of(head),
        expected.status_and_reason,
        "reason"
    );
    assert_eq!(
        found.version == Version::Http10,
        expected.is_http_10,
        "version"
    );
    assert_eq!(body(found.framing), expected.body, "framing");
    assert_eq!(found.keep_alive, expected.keeps_open, "keep-alive");
    let upgrades = reference::values(&expected.fields, "upgrade");
    let upgrade = upgrades.first().filter(|_| found.status == 101);
    assert_eq!(
        found.upgrade.map(|span: Span| span.of(head)),
        upgrade.map(Vec::as_slice),
        "upgrade"
    );
    let persistent = reference::values(&expected.fields, "persistent-auth");
    let says_false = persistent
        .iter()
        .any(|value| value.eq_ignore_ascii_case(b"false"));
    assert_eq!(found.persistent_auth_false, says_false, "Persistent-Auth");
    let line_end = head.windows(2).position(|two| two == b"\r\n").unwrap_or(0);
    same_fields(
        &found.fields,
        head,
        line_end + 2,
        &expected.fields,
        &expected.passing,
    );
}
