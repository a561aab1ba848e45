//! The request head: found in any pieces, judged as the reference judges it, all spans of it meaning what they say.

use ntlmfront::http::head::{Fate, Framing, HeadLimits, Span, Version};
use ntlmfront::http::request::RequestHead;
use ntlmfront::http::scan::{HeadScanner, Scan};

use super::input::Input;
use super::reference::{self, Body, Field, Sizes};

/// Checks one input. Options: 0 small limits, 1 underscores pass.
///
/// # Panics
/// The product is wrong.
pub fn check(input: &[u8]) {
    let input = Input::new(input);
    let limits = limits(input.option(0), input.option(1));
    let whole = scan(&input, &limits);
    let expected = reference::head_end(input.bytes);
    let Scan::Complete { start, end } = whole else {
        let accepted = expected.and_then(|(start, end)| {
            reference::request(&input.bytes[start..end], sizes(&limits), limits.underscores)
        });
        assert!(
            accepted.is_none(),
            "{whole:?}, but the head is sound: {accepted:?}"
        );
        return;
    };
    assert_eq!(Some((start, end)), expected, "where the head is");
    let head = &input.bytes[start..end];
    let expected = reference::request(head, sizes(&limits), limits.underscores);
    let mut found = used();
    let result = found.parse(head, &limits);
    match (result, expected) {
        (Ok(()), Some(expected)) => same(&found, head, &expected),
        (Err(_), None) => {}
        (result, expected) => panic!("{result:?}, but by the rules {expected:?}"),
    }
}

/// Sizes that a fuzzer's inputs do not reach, or such that they do.
pub fn limits(small: bool, underscores: bool) -> HeadLimits {
    let limits = HeadLimits {
        underscores,
        ..HeadLimits::default()
    };
    if !small {
        return limits;
    }
    HeadLimits {
        line: 48,
        total: 96,
        fields: 4,
        ..limits
    }
}

/// The same sizes for the reference.
pub fn sizes(limits: &HeadLimits) -> Sizes {
    Sizes {
        line: limits.line,
        total: limits.total,
        fields: limits.fields,
    }
}

/// What the scanner says of an input, after checking that its pieces do not matter.
pub fn scan(input: &Input<'_>, limits: &HeadLimits) -> Scan {
    let whole = HeadScanner::default().scan(input.bytes, limits);
    let in_prefixes = |ends: &mut dyn Iterator<Item = usize>| {
        let mut scanner = HeadScanner::default();
        ends.map(|end| scanner.scan(&input.bytes[..end], limits))
            .find(|scan| *scan != Scan::Incomplete)
            .unwrap_or(Scan::Incomplete)
    };
    let pieces = in_prefixes(&mut input.ends.iter().copied());
    assert_eq!(pieces, whole, "cut at {:?}", input.ends);
    let bytewise = in_prefixes(&mut (0..=input.bytes.len()));
    assert_eq!(bytewise, whole, "byte by byte");
    whole
}

/// A head that was in use before: nothing of that may stay.
fn used() -> RequestHead {
    let mut head = RequestHead::default();
    let before = b"GET http://a/b?c HTTP/1.1\r\nAuthorization: NTLM a\r\nProxy-Authorization: b\r\nExpect: 100-continue\r\n\
        Connection: close, upgrade\r\nUpgrade: websocket\r\n\r\n";
    // Whether it passes does not matter: it leaves something in every field.
    let _ = head.parse(before, &HeadLimits::default());
    head
}

fn same(found: &RequestHead, head: &[u8], expected: &reference::Request) {
    assert_eq!(found.len as usize, head.len(), "length");
    let line_end = head.windows(2).position(|two| two == b"\r\n").unwrap_or(0);
    assert_eq!(found.line.of(head), &head[..line_end], "line");
    assert_eq!(found.method.of(head), expected.method, "method");
    assert_eq!(found.target.of(head), expected.target, "target");
    let mut parts = expected.target.splitn(2, |&b| b == b'?');
    let path = match parts.next() {
        None | Some([]) => b"/",
        Some(path) => path,
    };
    assert_eq!(found.path.of(head), path, "path");
    assert_eq!(
        found.query.map(|query| query.of(head)),
        parts.next(),
        "query"
    );
    assert_eq!(
        found.version == Version::Http10,
        expected.is_http_10,
        "version"
    );
    assert_eq!(found.host.of(head), expected.host, "host");
    assert_eq!(body(found.framing), expected.body, "framing");
    assert_eq!(found.keep_alive, expected.keeps_open, "keep-alive");
    assert_eq!(
        found.expect_continue, expected.expects_continue,
        "expectation"
    );
    let of = |span: Option<Span>| span.map(|span| span.of(head).to_vec());
    assert_eq!(of(found.upgrade), expected.upgrade, "upgrade");
    assert_eq!(
        of(found.authorization),
        expected.authorization,
        "authorization"
    );
    let proxy = !reference::values(&expected.fields, "proxy-authorization").is_empty();
    assert_eq!(found.proxy_authorization, proxy, "proxy authorization");
    same_fields(
        &found.fields,
        head,
        line_end + 2,
        &expected.fields,
        &expected.passing,
    );
}

/// Compares all fields, and those that pass, and has a second parser count them.
pub fn same_fields(
    found: &[ntlmfront::http::head::Field],
    head: &[u8],
    from: usize,
    all: &[Field],
    passing: &[Field],
) {
    let text = |field: &ntlmfront::http::head::Field| {
        (field.name.of(head).to_vec(), field.value.of(head).to_vec())
    };
    assert_eq!(found.iter().map(text).collect::<Vec<_>>(), all, "fields");
    let passes = found.iter().filter(|field| field.fate == Fate::Passes);
    assert_eq!(
        passes.map(text).collect::<Vec<_>>(),
        passing,
        "fields that pass"
    );
    let mut at = from;
    for field in found {
        assert_eq!(field.line.start as usize, at, "lines follow each other");
        let line = field.line.of(head);
        assert!(line.ends_with(b"\r\n") && line.starts_with(field.name.of(head)));
        at += line.len();
    }
    assert_eq!(&head[at..], b"\r\n", "the empty line");
    let mut slots = vec![httparse::EMPTY_HEADER; all.len() + 1];
    let parsed = httparse::parse_headers(&head[from..], &mut slots).expect("another parser agrees");
    let httparse::Status::Complete((taken, fields)) = parsed else {
        panic!("another parser finds no end");
    };
    assert_eq!((taken, fields.len()), (head.len() - from, all.len()));
}

/// The framing in the reference's words.
pub fn body(framing: Framing) -> Body {
    match framing {
        Framing::None => Body::None,
        Framing::Length(length) => Body::Length(length),
        Framing::Chunked => Body::Chunked,
        Framing::UntilClose => Body::UntilClose,
    }
}
