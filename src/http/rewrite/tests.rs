use super::*;
use crate::http::head::HeadLimits;
use crate::http::response::Asked;
use crate::http::scan::{HeadScanner, Scan};
use proptest::prelude::*;

/// The outgoing bytes, after checking the length and that any bytes may be skipped.
fn bytes(out: &Rewrite, buffer: &[u8]) -> String {
    let from = |skip: usize| {
        let mut slices = Slices::new();
        out.slices(buffer, skip, &mut slices);
        assert!(slices.iter().all(|slice| !slice.is_empty()));
        slices
            .iter()
            .flat_map(|slice| slice.to_vec())
            .collect::<Vec<u8>>()
    };
    let whole = from(0);
    assert_eq!(whole.len(), out.len());
    for skip in 0..=whole.len() {
        assert_eq!(from(skip), whole[skip..]);
    }
    String::from_utf8_lossy(&whole).into_owned()
}

fn parse_request(input: &[u8]) -> RequestHead {
    let mut head = RequestHead::default();
    head.parse(input, &HeadLimits::default()).expect("valid");
    head
}

fn upstream(input: &str, target: Target<'_>, replaced: &str, add: &str) -> (String, usize) {
    let head = parse_request(input.as_bytes());
    let mut out = Rewrite::default();
    request(
        &mut out,
        &head,
        input.as_bytes(),
        target,
        |name| name.eq_ignore_ascii_case(replaced.as_bytes()),
        |own| own.extend_from_slice(add.as_bytes()),
    );
    (bytes(&out, input.as_bytes()), out.pieces.len())
}

#[test]
fn rules_10_18_19_requests_go_on() {
    // input, replaced, added; output, pieces
    let table: &[(&str, &str, &str, &str, usize)] = &[
        (
            "GET /a?b HTTP/1.1\r\nHost: c\r\nUser-Agent: D\r\naccept:e\r\nConnection: keep-alive\r\n\r\n",
            "",
            "Host: up\r\n",
            "GET /a?b HTTP/1.1\r\nUser-Agent: D\r\naccept:e\r\nHost: up\r\n\r\n",
            3,
        ),
        // bytes, cases and blanks stay as they came; what passes is one piece
        (
            "RPC_IN_DATA /%7e?\u{fc} HTTP/1.1\r\nA:  b \r\nx-C:\r\nA: d\r\nHost: c\r\n\r\n",
            "",
            "",
            "RPC_IN_DATA /%7e?\u{fc} HTTP/1.1\r\nA:  b \r\nx-C:\r\nA: d\r\n\r\n",
            2,
        ),
        (
            "GET / HTTP/1.1\r\nHost: c\r\nX_A: 1\r\nX.B: 2\r\nTE: trailers\r\nConnection: X-Hop\r\nX-Hop: 3\r\nA: b\r\n\r\n",
            "",
            "",
            "GET / HTTP/1.1\r\nA: b\r\n\r\n",
            3,
        ),
        // 1.0 goes on as 1.1
        (
            "GET /a HTTP/1.0\r\nA: b\r\n\r\n",
            "",
            "Host: up\r\n",
            "GET /a HTTP/1.1\r\nA: b\r\nHost: up\r\n\r\n",
            4,
        ),
        (
            "GET / HTTP/1.0\r\n\r\n",
            "",
            "",
            "GET / HTTP/1.1\r\n\r\n",
            3,
        ),
        // an absolute form loses its scheme and authority
        (
            "GET http://c/a?b HTTP/1.1\r\nHost: c\r\n\r\n",
            "",
            "",
            "GET /a?b HTTP/1.1\r\n\r\n",
            3,
        ),
        (
            "GET http://c HTTP/1.1\r\nHost: c\r\n\r\n",
            "",
            "",
            "GET / HTTP/1.1\r\n\r\n",
            4,
        ),
        (
            "GET http://c?b HTTP/1.1\r\nHost: c\r\n\r\n",
            "",
            "",
            "GET /?b HTTP/1.1\r\n\r\n",
            4,
        ),
        (
            "OPTIONS * HTTP/1.1\r\nHost: c\r\n\r\n",
            "",
            "",
            "OPTIONS * HTTP/1.1\r\n\r\n",
            2,
        ),
        (
            "GET /? HTTP/1.1\r\nHost: c\r\n\r\n",
            "",
            "",
            "GET /? HTTP/1.1\r\n\r\n",
            2,
        ),
        // what the configuration sets
        (
            "GET / HTTP/1.1\r\nHost: c\r\nX-A: 1\r\nA: b\r\nx-a: 2\r\n\r\n",
            "x-A",
            "X-A: own\r\n",
            "GET / HTTP/1.1\r\nA: b\r\nX-A: own\r\n\r\n",
            3,
        ),
        // framing (rule 24): a length as it came, even if the configuration would set it; chunked is ours
        (
            "POST / HTTP/1.1\r\nHost: c\r\nContent-Length:\t5 \t\r\nA:\tb\r\n\r\n",
            "",
            "",
            "POST / HTTP/1.1\r\nContent-Length: 5\r\nA:\tb\r\n\r\n",
            7,
        ),
        (
            "POST / HTTP/1.1\r\nHost: c\r\nContent-Length: 5\r\n\r\n",
            "content-length",
            "",
            "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
            3,
        ),
        (
            "DELETE / HTTP/1.1\r\nTransfer-Encoding:  CHUNKED\r\nTrailer: A\r\nHost: c\r\n\r\n",
            "",
            "Host: up\r\n",
            "DELETE / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nHost: up\r\n\r\n",
            2,
        ),
        (
            "POST / HTTP/1.1\r\nHost: c\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
            "",
            "",
            "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
            3,
        ),
        // an upgrade is written by the caller
        (
            "GET / HTTP/1.1\r\nHost: c\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            "",
            "Connection: upgrade\r\nUpgrade: websocket\r\n",
            "GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            2,
        ),
    ];
    for (input, replaced, add, expected, pieces) in table {
        let (output, count) = upstream(input, Target::AsItCame, replaced, add);
        assert_eq!(output, *expected, "{input:?}");
        assert_eq!(count, *pieces, "{input:?}");
    }
}

#[test]
fn targets_are_replaced() {
    let replace = |prefix, with: &'static str| Target::ReplacePrefix {
        prefix,
        with: with.as_bytes(),
    };
    let table: &[(&str, &str, Target<'_>, &str)] = &[
        ("/app/x?y", "1.1", replace(5, "/"), "/x?y"),
        ("/app/x?y", "1.0", replace(5, "/"), "/x?y"),
        ("/app/%2e?y", "1.1", replace(5, "/up/"), "/up/%2e?y"),
        ("/app", "1.1", replace(4, ""), "/"),
        ("/app?y", "1.1", replace(4, ""), "/?y"),
        ("/app/x", "1.1", replace(4, ""), "/x"),
        ("/app/x", "1.1", replace(5, "up/"), "/up/x"),
        ("/app", "1.1", replace(99, "/up"), "/up"),
        ("http://h/app/x?y", "1.1", replace(5, "/"), "/x?y"),
        ("http://h?y", "1.1", replace(1, "/up/"), "/up/?y"),
        ("/x", "1.1", Target::Whole(b"/whole?z"), "/whole?z"),
        ("/x?y", "1.0", Target::Whole(b""), "/"),
        ("/x?y", "1.1", Target::Whole(b"?z"), "/?z"),
        // what a configuration makes of decoded variables stays one target
        (
            "/x",
            "1.1",
            Target::Whole(b"/a b\r\nc\x7f"),
            "/a%20b%0D%0Ac%7F",
        ),
        ("/app/x", "1.1", replace(5, "/\n"), "/%0Ax"),
    ];
    for (target, version, change, expected) in table {
        let input = format!("GET {target} HTTP/{version}\r\nHost: h\r\nA: b\r\n\r\n");
        let (output, _) = upstream(&input, *change, "", "");
        assert_eq!(
            output,
            format!("GET {expected} HTTP/1.1\r\nA: b\r\n\r\n"),
            "{target} {change:?}"
        );
    }
}

fn downstream(
    input: &str,
    asked: Asked,
    chunked: bool,
    hidden: &str,
    add: &str,
) -> (String, usize) {
    let buffer = input.as_bytes();
    let mut head = ResponseHead::default();
    head.parse(buffer, &HeadLimits::default(), asked)
        .expect("valid");
    let mut out = Rewrite::default();
    // what was there before is forgotten
    out.constant(b"before");
    response(
        &mut out,
        &head,
        buffer,
        chunked,
        |name| name.eq_ignore_ascii_case(hidden.as_bytes()),
        |own| own.extend_from_slice(add.as_bytes()),
    );
    (bytes(&out, buffer), out.pieces.len())
}

#[test]
fn rules_19_24_31_responses_go_on() {
    // input, hidden, added; output, pieces
    let table: &[(&str, &str, &str, &str, usize)] = &[
        (
            "HTTP/1.1 200 OK\r\nServer: A\r\nX_b:  c\r\nContent-Length: 5\r\n\r\n",
            "",
            "",
            "HTTP/1.1 200 OK\r\nServer: A\r\nX_b:  c\r\nContent-Length: 5\r\n\r\n",
            2,
        ),
        (
            "HTTP/1.0 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\n",
            "",
            "Connection: keep-alive\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n",
            5,
        ),
        (
            "HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n",
            "",
            "",
            "HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n",
            5,
        ),
        (
            "HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n",
            "",
            "",
            "HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n",
            2,
        ),
        (
            "HTTP/1.1 200 OK\r\nKeep-Alive: 5\r\nProxy-Connection: a\r\nTE: b\r\nTrailer: c\r\nUpgrade: h2c\r\nA: b\r\n\r\n",
            "",
            "",
            "HTTP/1.1 200 OK\r\nA: b\r\n\r\n",
            3,
        ),
        (
            "HTTP/1.1 302 Found\r\nLocation: http://up/\r\nContent-Length: 0\r\n\r\n",
            "location",
            "Location: http://front/\r\n",
            "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: http://front/\r\n\r\n",
            3,
        ),
        // a length that frames the body is not hidden
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            "content-length",
            "",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            2,
        ),
        (
            "HTTP/1.1 200 OK\r\nA: b\r\nTransfer-Encoding: Chunked\r\n\r\n",
            "",
            "",
            "HTTP/1.1 200 OK\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n",
            2,
        ),
        (
            "HTTP/1.1 200 OK\r\nA: b\r\n\r\n",
            "",
            "",
            "HTTP/1.1 200 OK\r\nA: b\r\n\r\n",
            2,
        ),
        (
            "HTTP/1.1 100 Continue\r\n\r\n",
            "",
            "",
            "HTTP/1.1 100 Continue\r\n\r\n",
            2,
        ),
        (
            "HTTP/1.1 103 A\r\nContent-Length: 5\r\nLink: b\r\n\r\n",
            "",
            "",
            "HTTP/1.1 103 A\r\nLink: b\r\n\r\n",
            3,
        ),
        (
            "HTTP/1.1 204 A\r\nContent-Length: 5\r\n\r\n",
            "",
            "",
            "HTTP/1.1 204 A\r\n\r\n",
            2,
        ),
        (
            "HTTP/1.1 304 A\r\nContent-Length: 5\r\n\r\n",
            "",
            "",
            "HTTP/1.1 304 A\r\nContent-Length: 5\r\n\r\n",
            2,
        ),
        (
            "HTTP/1.1 304 A\r\nTransfer-Encoding: chunked\r\n\r\n",
            "",
            "",
            "HTTP/1.1 304 A\r\n\r\n",
            2,
        ),
    ];
    for (input, hidden, add, expected, pieces) in table {
        let (output, count) = downstream(input, Asked::default(), true, hidden, add);
        assert_eq!(output, *expected, "{input:?}");
        assert_eq!(count, *pieces, "{input:?}");
    }
    let head = Asked {
        head: true,
        ..Asked::default()
    };
    let input = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(downstream(input, head, true, "", "").0, input);
    // a client of 1.0
    let input = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (output, _) = downstream(input, Asked::default(), false, "", "Connection: close\r\n");
    assert_eq!(output, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
}

/// Lines to make heads of, sound ones and others.
const LINES: [&str; 26] = [
    "Host: a\r\n",
    "Host: a\r\n",
    "Host : a\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 5\r\n",
    "content_length: 6\r\n",
    "Content-Length: 5,5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer_Encoding: chunked\r\n",
    "Transfer-Encoding : chunked\r\n",
    "Transfer-Encoding: xchunked\r\n",
    "Connection: close, content-length\r\n",
    "Connection: transfer-encoding\r\n",
    "Connection: upgrade, X-A\r\n",
    "Upgrade: websocket\r\n",
    "X-A: b\r\n",
    "X-A: b\n",
    "X-A: b\rX-B: c\r\n",
    " folded\r\n",
    "A: \u{fc}\t\r\n",
    "A: \0\r\n",
    "Expect: 100-continue\r\n",
    "Authorization: NTLM a\r\n",
    "TE: trailers\r\n",
    "\r\n",
];

const FIRST_LINES: [&str; 8] = [
    "GET / HTTP/1.1\r\n",
    "POST /a?b HTTP/1.1\r\n",
    "POST http://a/b HTTP/1.1\r\n",
    "POST http://a?b HTTP/1.1\r\n",
    "POST / HTTP/1.0\r\n",
    "OPTIONS * HTTP/1.1\r\n",
    "GET  / HTTP/1.1\r\n",
    "POST /\u{fc} HTTP/1.0\n",
];

proptest! {
    /// Whatever is let through is sound and means the same when it is read again.
    #[test]
    fn what_goes_on_is_read_again_as_the_same(
        first in prop::sample::select(&FIRST_LINES[..]),
        lines in prop::collection::vec(prop::sample::select(&LINES[..]), 0..8),
        mutation in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let limits = HeadLimits::default();
        let mut input = first.as_bytes().to_vec();
        if first.ends_with("1\r\n") {
            input.extend_from_slice(b"Host: a\r\n");
        }
        for line in &lines {
            input.extend_from_slice(line.as_bytes());
        }
        input.extend_from_slice(b"\r\n");
        if let Some((at, byte)) = mutation {
            let at = at.index(input.len());
            input[at] = byte;
        }
        if let Scan::Complete { start, end } = HeadScanner::default().scan(&input, &limits) {
            let buffer = &input[start..end];
            let mut head = RequestHead::default();
            if head.parse(buffer, &limits).is_ok() {
                let mut out = Rewrite::default();
                request(&mut out, &head, buffer, Target::AsItCame, |_| false, |own| {
                    own.extend_from_slice(b"Host: a\r\n");
                });
                let mut slices = Slices::new();
                out.slices(buffer, 0, &mut slices);
                let sent: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
                let scanned = HeadScanner::default().scan(&sent, &limits);
                prop_assert_eq!(scanned, Scan::Complete { start: 0, end: sent.len() });
                let mut again = RequestHead::default();
                prop_assert_eq!(again.parse(&sent, &limits), Ok(()));
                prop_assert_eq!(again.framing, head.framing);
                prop_assert_eq!(again.method.of(&sent), head.method.of(buffer));
                prop_assert_eq!(again.path.of(&sent), head.path.of(buffer));
                prop_assert_eq!(again.query.map(|q| q.of(&sent)), head.query.map(|q| q.of(buffer)));
                prop_assert_eq!(again.version, Version::Http11);
                prop_assert!(again.fields.iter().all(|field| field.fate != Fate::Ignored));
            }
        }
    }
}
