use super::*;
use crate::http::scan::{HeadScanner, Scan};
use Refusal::*;

mod fields;

const LIMITS: HeadLimits = HeadLimits {
    line: 64 << 10,
    total: 64 << 10,
    fields: 100,
    underscores: false,
};

/// Scans `input`, cut in two at every byte (of a long one, at some), and parses the head that is found.
fn parse_with(input: &str, limits: &HeadLimits) -> Result<RequestHead, Refusal> {
    let input = input.as_bytes();
    let whole = HeadScanner::default().scan(input, limits);
    for cut in (0..input.len()).step_by(input.len() / 1000 + 1) {
        let mut scanner = HeadScanner::default();
        let mut result = scanner.scan(&input[..cut], limits);
        if result == Scan::Incomplete {
            result = scanner.scan(input, limits);
        }
        assert_eq!(result, whole, "cut at {cut}");
    }
    let buffer = match whole {
        Scan::Complete { start, end } => &input[start..end],
        Scan::Refused(refusal) => return Err(refusal),
        Scan::Incomplete => panic!("no end: {}", input.escape_ascii()),
    };
    let mut head = RequestHead::default();
    head.parse(buffer, limits)?;
    assert_eq!(head.len as usize, buffer.len());
    Ok(head)
}

fn parse(input: &str) -> Result<RequestHead, Refusal> {
    parse_with(input, &LIMITS)
}

fn post(fields: &str) -> String {
    format!("POST /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

fn line(line: &str) -> String {
    format!("{line}\r\nHost: a\r\n\r\n")
}

/// The span's text in an input without an empty line before it.
fn text(span: Span, input: &str) -> &str {
    &input[span.start as usize..span.end as usize]
}

fn check(table: &[(String, Result<Framing, Refusal>)]) {
    for (input, expected) in table {
        let framing = parse(input).map(|head| head.framing);
        assert_eq!(framing, *expected, "{:.200}", input.escape_debug());
    }
}

#[test]
fn rule_1_length_and_coding() {
    check(&[
        (
            post("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n"),
            Err(LengthAndCoding),
        ),
        (
            post("transfer-encoding: chunked\r\ncontent-length: 6\r\n"),
            Err(LengthAndCoding),
        ),
        (
            post("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"),
            Err(LengthAndCoding),
        ),
        (post("Content-Length: 6\r\n"), Ok(Framing::Length(6))),
        (post("Transfer-Encoding: chunked\r\n"), Ok(Framing::Chunked)),
        (post(""), Ok(Framing::None)),
    ]);
}

#[test]
fn rule_2_one_length() {
    check(&[
        (
            post("Content-Length: 5\r\nContent-Length: 5\r\n"),
            Err(LengthRepeated),
        ),
        (
            post("Content-Length: 5\r\nA: b\r\ncontent-LENGTH: 6\r\n"),
            Err(LengthRepeated),
        ),
        (post("Content-Length: 5, 5\r\n"), Err(LengthRepeated)),
        (post("Content-Length: 5,\r\n"), Err(LengthRepeated)),
        (post("content-LENGTH: 5\r\n"), Ok(Framing::Length(5))),
        (
            post("X-Content-Length: 5\r\nContent-Length: 6\r\n"),
            Ok(Framing::Length(6)),
        ),
    ]);
}

#[test]
fn rules_3_4_digits_and_blanks() {
    for value in [
        "+5",
        "-0",
        "0x10",
        "1_0",
        "1 0",
        "010",
        "",
        " ",
        "5.",
        "5\u{b2}",
        "9223372036854775808",
    ] {
        check(&[(
            post(&format!("Content-Length: {value}\r\n")),
            Err(LengthInvalid),
        )]);
    }
    for value in ["5\x0b", "\x0c5", "5\0", "5\x7f"] {
        check(&[(
            post(&format!("Content-Length: {value}\r\n")),
            Err(ControlByte),
        )]);
    }
    check(&[
        (post("Content-Length: \t 5 \t\r\n"), Ok(Framing::Length(5))),
        (post("Content-Length:5\r\n"), Ok(Framing::Length(5))),
        (post("Content-Length: 0\r\n"), Ok(Framing::Length(0))),
        (
            post("Content-Length: 9223372036854775807\r\n"),
            Ok(Framing::Length(i64::MAX as u64)),
        ),
        (post("A: b\0\r\n"), Err(ControlByte)),
        (post("A\0: b\r\n"), Err(ControlByte)),
        (post("A: b\x1f\r\n"), Err(ControlByte)),
        (post("A: b\u{80}\tc\r\n"), Ok(Framing::None)),
        (line("GET /\x01 HTTP/1.1"), Err(ControlByte)),
        (line("GET /\x7f HTTP/1.1"), Err(ControlByte)),
        (line("GET /\t HTTP/1.1"), Err(ControlByte)),
    ]);
}

#[test]
fn rules_5_6_transfer_encoding() {
    for value in [
        "xchunked",
        ",chunked",
        "chunked,",
        "chunked;x=1",
        "identity",
        "",
        "chunked chunked",
        "\"chunked\"",
        "gzip",
        "chunked, chunked",
        "chunked, gzip",
        "gzip, identity, chunked",
        "br, chunked",
        "chunked\u{a0}",
    ] {
        check(&[(
            post(&format!("Transfer-Encoding: {value}\r\n")),
            Err(CodingInvalid),
        )]);
    }
    check(&[
        (post("Transfer-Encoding: CHUNKED\r\n"), Ok(Framing::Chunked)),
        (
            post("Transfer-Encoding:\tchunked \r\n"),
            Ok(Framing::Chunked),
        ),
        (post("Transfer-Encoding: chunked\x0b\r\n"), Err(ControlByte)),
        (
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
            Err(CodingInvalid),
        ),
        (
            post("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n"),
            Err(CodingInvalid),
        ),
        (
            post("Transfer-Encoding: gzip, chunked\r\n"),
            Err(CodingNotImplemented),
        ),
        (
            post("Transfer-Encoding: Deflate ,x-gzip,chunked\r\n"),
            Err(CodingNotImplemented),
        ),
        (
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
            Err(CodingInHttp10),
        ),
        (
            "POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\n".to_owned(),
            Ok(Framing::Length(5)),
        ),
        ("POST / HTTP/1.0\r\n\r\n".to_owned(), Ok(Framing::None)),
    ]);
    assert_eq!(CodingNotImplemented.status(), 501);
}

#[test]
fn rule_7_versions() {
    for (request_line, expected) in [
        ("GET /", Http09),
        ("GET / HTTP/1.1.1", VersionMalformed),
        ("GET / hTTP/1.1", VersionMalformed),
        ("GET / HTTP/11", VersionMalformed),
        ("GET / HTTP/1.", VersionMalformed),
        ("GET / HTTP/1", VersionMalformed),
        ("GET / HTTP/ 1.1", Malformed),
        ("GET / HTTP/01.1", VersionMalformed),
        ("GET / HTTP/1.2", VersionUnknown),
        ("GET / HTTP/0.9", VersionUnknown),
        ("GET / HTTP/2.0", VersionUnknown),
        ("GET / HTTPS/1.1", VersionMalformed),
        ("GET / FTP/1.1", Malformed),
    ] {
        check(&[(line(request_line), Err(expected))]);
    }
    let preface = parse("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").map(|_| ());
    assert_eq!(preface, Err(Http2Preface));
    assert_eq!(Http2Preface.status(), 505);
    assert_eq!(VersionUnknown.status(), 505);
    for (input, expected) in [
        (line("GET / HTTP/1.1"), Version::Http11),
        (line("GET / HTTP/1.0"), Version::Http10),
    ] {
        assert_eq!(parse(&input).map(|head| head.version), Ok(expected));
    }
}

#[test]
fn rule_8_field_lines() {
    check(&[
        (post("Content-Length : 5\r\n"), Err(BlankBeforeColon)),
        (post("Content-Length\t: 5\r\n"), Err(BlankBeforeColon)),
        (post("A: b\r\n c\r\n"), Err(FoldedLine)),
        (post("A: b\r\n\tc: d\r\n"), Err(FoldedLine)),
        (post("A:\r\n b\r\n"), Err(FoldedLine)),
        (
            "GET / HTTP/1.1\r\n Host: a\r\n\r\n".to_owned(),
            Err(FoldedLine),
        ),
        (post("A\r\n"), Err(NoColon)),
        (post(": x\r\n"), Err(FieldName)),
        (post("A b: c\r\n"), Err(FieldName)),
        (post("A(b): c\r\n"), Err(FieldName)),
        (post("\u{fc}: c\r\n"), Err(FieldName)),
        (post("A:\r\nB: \r\nC::d\r\n"), Ok(Framing::None)),
    ]);
}

#[test]
fn rule_9_bare_line_ends() {
    check(&[
        ("GET / HTTP/1.1\nHost: a\n\n".to_owned(), Err(BareLf)),
        (post("A: b\nB: c\r\n"), Err(BareLf)),
        (post("A: b\rB: c\r\n"), Err(BareCr)),
        (post("A: b\r\r\n"), Err(BareCr)),
        (post("A\r: b\r\n"), Err(BareCr)),
    ]);
    // as the parser itself judges what no scanner saw
    for (input, expected) in [
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", BareLf),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", BareLf),
        ("GET / HTTP/1.1\r\nHost: a\r\nA: b\nB: c\r\n\r\n", BareLf),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", BareLf),
        ("GET / HTTP/1.1\r\nHost: a\n\n", BareLf),
        ("GET / HTTP/1.1\r\nHost: a\r\nA: b\rc\r\n\r\n", BareCr),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\nA: b\r\n\r\n", Malformed),
        ("GET / HTTP/1.1\r\nHost: a\r\n", Malformed),
        ("GET / HTTP/1.1\r\n", Malformed),
        ("GET / HTTP/1.1", Malformed),
        ("", Malformed),
    ] {
        let parsed = RequestHead::default().parse(input.as_bytes(), &LIMITS);
        assert_eq!(parsed, Err(expected), "{input:?}");
    }
}

#[test]
fn rule_11_host() {
    let request = |fields: &str| format!("GET / HTTP/1.1\r\n{fields}\r\n");
    check(&[
        (request(""), Err(HostMissing)),
        (request("Host: a\r\nHost: a\r\n"), Err(HostRepeated)),
        (request("Host: a\r\nhost: b\r\n"), Err(HostRepeated)),
        (request("Host: a, b\r\n"), Err(HostInvalid)),
        (request("Host: u@a\r\n"), Err(HostInvalid)),
        (request("Host: a/b\r\n"), Err(HostInvalid)),
        (request("Host:\r\n"), Err(HostInvalid)),
        (request("Host: a:b\r\n"), Err(HostInvalid)),
        (request("Host: a:80\r\n"), Ok(Framing::None)),
        (request("hOST:[::1]:80\r\n"), Ok(Framing::None)),
        ("GET / HTTP/1.0\r\n\r\n".to_owned(), Ok(Framing::None)),
        (
            "GET / HTTP/1.0\r\nHost:\r\n\r\n".to_owned(),
            Ok(Framing::None),
        ),
        (
            "GET / HTTP/1.0\r\nHost: a/b\r\n\r\n".to_owned(),
            Err(HostInvalid),
        ),
        (
            "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n".to_owned(),
            Err(HostRepeated),
        ),
    ]);
    let input = request("Host:  a.Example:8080 \r\n");
    let head = parse(&input).expect("valid");
    assert_eq!(text(head.host, &input), "a.Example:8080");
}

#[test]
fn rule_12_absolute_form() {
    // target, Host; effective host, path, query, target
    type Parts<'a> = (&'a str, &'a str, Option<&'a str>, &'a str);
    let table: &[(&str, &str, Result<Parts, Refusal>)] = &[
        ("http://a/b?c", "a", Ok(("a", "/b", Some("c"), "/b?c"))),
        ("HTTP://A/b", "a", Ok(("A", "/b", None, "/b"))),
        ("https://a/", "a", Ok(("a", "/", None, "/"))),
        ("http://a:80/", "a", Ok(("a:80", "/", None, "/"))),
        ("http://a/", "a:80", Ok(("a", "/", None, "/"))),
        ("https://a:443/", "a", Ok(("a:443", "/", None, "/"))),
        (
            "http://[::1]:8080/",
            "[::1]:8080",
            Ok(("[::1]:8080", "/", None, "/")),
        ),
        ("http://a", "a", Ok(("a", "/", None, ""))),
        ("http://a?b/c", "a", Ok(("a", "/", Some("b/c"), "?b/c"))),
        ("http://a//b", "a", Ok(("a", "//b", None, "//b"))),
        ("http://a/", "b", Err(HostDiffers)),
        ("http://a/", "a:81", Err(HostDiffers)),
        ("http://a:443/", "a", Err(HostDiffers)),
        ("https://a/", "a:80", Err(HostDiffers)),
        ("http://u@a/", "a", Err(HostInvalid)),
        ("http:///b", "a", Err(HostInvalid)),
        ("http://", "a", Err(HostInvalid)),
        ("http://a\\b/", "a", Err(HostInvalid)),
        ("http:/a", "a", Err(TargetForm)),
        ("ftp://a/", "a", Err(TargetForm)),
        ("ws://a/", "a", Err(TargetForm)),
        ("a", "a", Err(TargetForm)),
        ("a:80", "a", Err(TargetForm)),
        ("?a", "a", Err(TargetForm)),
        ("%2F", "a", Err(TargetForm)),
        ("\\a", "a", Err(TargetForm)),
    ];
    for (target, host, expected) in table {
        let input = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let parsed = parse(&input);
        let parts = parsed.as_ref().map_err(|refusal| *refusal).map(|head| {
            let query = head.query.map(|query| text(query, &input));
            (
                text(head.host, &input),
                text(head.path, &input),
                query,
                text(head.target, &input),
            )
        });
        assert_eq!(parts, *expected, "{target} {host}");
    }
    check(&[
        (
            "GET http://a/ HTTP/1.1\r\n\r\n".to_owned(),
            Err(HostMissing),
        ),
        (
            "GET http://a/ HTTP/1.0\r\n\r\n".to_owned(),
            Ok(Framing::None),
        ),
    ]);
}

#[test]
fn rule_13_targets() {
    check(&[
        (line("CONNECT a:443 HTTP/1.1"), Err(Connect)),
        (line("CONNECT / HTTP/1.1"), Err(Connect)),
        (line("connect a:443 HTTP/1.1"), Err(Connect)),
        (line("GET * HTTP/1.1"), Err(TargetForm)),
        (line("OPTIONS ** HTTP/1.1"), Err(TargetForm)),
        (line("options * HTTP/1.1"), Err(TargetForm)),
        (line("OPTIONS * HTTP/1.1"), Ok(Framing::None)),
        (line("OPTIONS / HTTP/1.1"), Ok(Framing::None)),
        (line("GET /a#b HTTP/1.1"), Err(TargetFragment)),
        (line("GET /?a#b HTTP/1.1"), Err(TargetFragment)),
        (line("GET /a%23b HTTP/1.1"), Ok(Framing::None)),
        (line("GET /a b HTTP/1.1"), Err(Blanks)),
        (line("GET /a\\b HTTP/1.1"), Err(TargetBackslash)),
        (line("GET /a?b\\c HTTP/1.1"), Ok(Framing::None)),
        (line("GET /\u{fc}?\u{fc} HTTP/1.1"), Ok(Framing::None)),
    ]);
    assert_eq!(Connect.status(), 405);
    // bytes above 0x7F need not be UTF-8
    let input = b"GET /a?b=\xfc\xff HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut head = RequestHead::default();
    assert_eq!(head.parse(input, &LIMITS), Ok(()));
    assert_eq!(
        head.query.map(|query| query.of(input)),
        Some(&b"b=\xfc\xff"[..])
    );

    let input = line("GET /a/b?c=d?e HTTP/1.1");
    let head = parse(&input).expect("valid");
    assert_eq!(text(head.line, &input), "GET /a/b?c=d?e HTTP/1.1");
    assert_eq!(text(head.target, &input), "/a/b?c=d?e");
    assert_eq!(text(head.path, &input), "/a/b");
    assert_eq!(head.query.map(|query| text(query, &input)), Some("c=d?e"));
    let empty_query = parse(&line("GET /? HTTP/1.1")).expect("valid").query;
    assert!(empty_query.is_some_and(Span::is_empty));
}

#[test]
fn rule_14_request_line() {
    check(&[
        (line("GET  / HTTP/1.1"), Err(Blanks)),
        (line("GET /  HTTP/1.1"), Err(Blanks)),
        (line("GET / HTTP/1.1 "), Err(Blanks)),
        (line(" GET / HTTP/1.1"), Err(Blanks)),
        (line("GET HTTP/1.1"), Err(Malformed)),
        (line("GET  HTTP/1.1"), Err(Malformed)),
        (line("G(T / HTTP/1.1"), Err(Malformed)),
        (line("GET\t/ HTTP/1.1"), Err(Malformed)),
        (line("G\u{e9}T / HTTP/1.1"), Err(Malformed)),
    ]);
    for (method, kind) in [
        ("GET", Method::Get),
        ("get", Method::Other),
        ("HEAD", Method::Head),
        ("OPTIONS", Method::Options),
        ("RPC_IN_DATA", Method::Other),
        ("X-!#$%&'*+.^_`|~9", Method::Other),
    ] {
        let input = line(&format!("{method} / HTTP/1.1"));
        let head = parse(&input).expect("valid");
        assert_eq!(head.method_kind, kind);
        assert_eq!(text(head.method, &input), method);
    }
}

#[test]
fn rule_16_empty_lines() {
    check(&[
        (format!("\r\n{}", post("")), Ok(Framing::None)),
        (format!("\r\n\r\n{}", post("")), Err(EmptyLines)),
    ]);
}

#[test]
fn rule_17_sizes() {
    let token = |bytes: usize| {
        post(&format!(
            "Authorization: Negotiate {}\r\n",
            "A".repeat(bytes)
        ))
    };
    check(&[
        (token(48 << 10), Ok(Framing::None)),
        (token(64 << 10), Err(HeadTooLarge)),
        (
            post(&format!("A: {0}\r\nB: {0}\r\n", "x".repeat(40 << 10))),
            Err(HeadTooLarge),
        ),
        (
            line(&format!("GET /{} HTTP/1.1", "x".repeat(60 << 10))),
            Ok(Framing::None),
        ),
        (
            line(&format!("GET /{} HTTP/1.1", "x".repeat(64 << 10))),
            Err(FirstLineTooLong),
        ),
        (post(&"A: b\r\n".repeat(99)), Ok(Framing::None)),
        (post(&"A: b\r\n".repeat(100)), Err(TooManyFields)),
    ]);
    for (count, fields, expected) in [
        (2, 3, Ok(())),
        (3, 3, Err(TooManyFields)),
        (999, 1000, Ok(())),
        (1000, 1000, Err(TooManyFields)),
        (1, 0, Err(TooManyFields)),
    ] {
        let limits = HeadLimits { fields, ..LIMITS };
        let parsed = parse_with(&post(&"A: b\r\n".repeat(count)), &limits).map(|_| ());
        assert_eq!(parsed, expected, "{count} beside Host, {fields}");
    }
    let statuses =
        [FirstLineTooLong, FieldTooLong, HeadTooLarge, TooManyFields].map(Refusal::status);
    assert_eq!(statuses, [414, 431, 431, 431]);
}

#[test]
fn a_reused_head_keeps_nothing() {
    let mut head = RequestHead::default();
    let first = post(
        "Content-Length: 5\r\nAuthorization: NTLM a\r\nProxy-Authorization: b\r\nExpect: 100-continue\r\n",
    );
    head.parse(first.as_bytes(), &LIMITS).expect("valid");
    head.parse(b"GET / HTTP/1.0\r\n\r\n", &LIMITS)
        .expect("valid");
    let mut fresh = RequestHead::default();
    fresh
        .parse(b"GET / HTTP/1.0\r\n\r\n", &LIMITS)
        .expect("valid");
    assert_eq!(format!("{head:?}"), format!("{fresh:?}"));
}

#[test]
fn a_line_is_shown_only_if_it_is_a_request_line() {
    for (bytes, shown) in [
        (
            &b"GET /a?b HTTP/1.1\r\nHost: a\r\n"[..],
            "GET /a?b HTTP/1.1",
        ),
        (
            b"GET /a HTTP/1.1\nAuthorization: NTLM TOKEN\n",
            "GET /a HTTP/1.1",
        ),
        (b"M-SEARCH * HTTP/1.1\r\n", "M-SEARCH * HTTP/1.1"),
        (b"CONNECT a:1 HTTP/1.1\r\n", "CONNECT a:1 HTTP/1.1"),
        (b"CONNECT me:word@a:1 HTTP/1.1\r\n", ""),
        (b"CONNECT http://me:word@a/ HTTP/1.1\r\n", ""),
        (b"GET http://a/ HTTP/9.9\r\n", "GET http://a/ HTTP/9.9"),
        (b"GET http://me:secret@a/ HTTP/1.1\r\n", ""),
        (
            b"GET http://a/b@c?d@e HTTP/1.1\r\n",
            "GET http://a/b@c?d@e HTTP/1.1",
        ),
        (b"GET /http://a@b HTTP/1.1\r\n", "GET /http://a@b HTTP/1.1"),
        (b"Authorization: NTLM TOKEN\r\n", ""),
        (b"NTLM TOKEN HTTP/1.1\r\n", ""),
        (b"GET / NTLM TOKEN HTTP/1.1\r\n", ""),
        (b"GET  / HTTP/1.1\r\n", ""),
        (b"TOKEN", ""),
        (b"", ""),
        (b"\r\n", ""),
    ] {
        assert_eq!(String::from_utf8_lossy(shown_line(bytes)), shown);
    }
}
