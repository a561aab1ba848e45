use super::*;
use crate::http::scan::{HeadScanner, Scan};
use Refusal::*;

const PLAIN: Asked = Asked {
    head: false,
    upgrade: false,
};

fn parse(input: &str, asked: Asked) -> Result<ResponseHead, Refusal> {
    let limits = HeadLimits::default();
    let input = input.as_bytes();
    let whole = HeadScanner::default().scan(input, &limits);
    for cut in 0..input.len() {
        let mut scanner = HeadScanner::default();
        let mut result = scanner.scan(&input[..cut], &limits);
        if result == Scan::Incomplete {
            result = scanner.scan(input, &limits);
        }
        assert_eq!(result, whole, "cut at {cut}");
    }
    let (start, end) = match whole {
        Scan::Complete { start, end } => (start, end),
        Scan::Refused(refusal) => return Err(refusal),
        Scan::Incomplete => panic!("no end: {}", input.escape_ascii()),
    };
    let mut head = ResponseHead::default();
    head.parse(&input[start..end], &limits, asked)?;
    Ok(head)
}

fn ok(fields: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}\r\n")
}

fn check(table: &[(String, Result<Framing, Refusal>)]) {
    for (input, expected) in table {
        let framing = parse(input, PLAIN).map(|head| head.framing);
        assert_eq!(framing, *expected, "{input:?}");
    }
}

#[test]
fn rule_31_status_lines() {
    type Parts<'a> = (u16, &'a str);
    let table: &[(&str, Result<Parts<'_>, Refusal>)] = &[
        ("HTTP/1.1 200 OK", Ok((200, "200 OK"))),
        ("HTTP/1.0 404 Not Found", Ok((404, "404 Not Found"))),
        ("HTTP/1.1 200 ", Ok((200, "200 "))),
        ("HTTP/1.1 200", Ok((200, "200"))),
        ("HTTP/1.1 599 \u{fc}\t!", Ok((599, "599 \u{fc}\t!"))),
        ("HTTP/1.1 099 A", Err(Status)),
        ("HTTP/1.1 600 A", Err(Status)),
        ("HTTP/1.1 20 A", Err(Status)),
        ("HTTP/1.1 2000 A", Err(Status)),
        ("HTTP/1.1 200OK", Err(Status)),
        ("HTTP/1.1 2x0 OK", Err(Status)),
        ("HTTP/1.1 +20 OK", Err(Status)),
        ("HTTP/1.1 200\tOK", Err(Status)),
        ("HTTP/1.1  200 OK", Err(Status)),
        ("HTTP/1.1 ", Err(Status)),
        ("HTTP/1.1", Err(VersionUnknown)),
        ("HTTP/1.1 200 O\0K", Err(ControlByte)),
        ("HTTP/1.2 200 OK", Err(VersionUnknown)),
        ("HTTP/2 200", Err(VersionUnknown)),
        ("http/1.1 200 OK", Err(Malformed)),
        ("ICY 200 OK", Err(Malformed)),
        ("GET / HTTP/1.1", Err(Malformed)),
    ];
    for (line, expected) in table {
        let input = format!("{line}\r\nContent-Length: 0\r\n\r\n");
        let parsed = parse(&input, PLAIN);
        let parts = parsed.as_ref().map_err(|refusal| *refusal).map(|head| {
            let bytes = head.status_and_reason.of(input.as_bytes());
            (head.status, std::str::from_utf8(bytes).expect("of a str"))
        });
        assert_eq!(parts, *expected, "{line:?}");
    }
}

#[test]
fn rule_31_lengths() {
    check(&[
        (ok("Content-Length: 6\r\n"), Ok(Framing::Length(6))),
        (ok("Content-Length: 0\r\n"), Ok(Framing::Length(0))),
        (ok("Transfer-Encoding: Chunked\r\n"), Ok(Framing::Chunked)),
        (ok(""), Ok(Framing::UntilClose)),
        (
            ok("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n"),
            Err(LengthAndCoding),
        ),
        (
            ok("Content-Length: 5\r\nContent-Length: 5\r\n"),
            Err(LengthRepeated),
        ),
        (ok("Content-Length: 5, 5\r\n"), Err(LengthRepeated)),
        (ok("Content-Length: +5\r\n"), Err(LengthInvalid)),
        (ok("Content-Length:\r\n"), Err(LengthInvalid)),
        (ok("Content-Length: 5\x0b\r\n"), Err(ControlByte)),
        (ok("Transfer-Encoding: xchunked\r\n"), Err(CodingInvalid)),
        (ok("Transfer-Encoding: identity\r\n"), Err(CodingInvalid)),
        (
            ok("Transfer-Encoding: gzip, chunked\r\n"),
            Err(CodingNotImplemented),
        ),
        (
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
            Err(CodingInHttp10),
        ),
        (
            "HTTP/1.0 200 OK\r\n\r\n".to_owned(),
            Ok(Framing::UntilClose),
        ),
        (ok("Content-Length : 5\r\n"), Err(BlankBeforeColon)),
        (ok("A: b\r\n c\r\n"), Err(FoldedLine)),
        (ok("A\r\n"), Err(NoColon)),
        (ok(": a\r\n"), Err(FieldName)),
        ("HTTP/1.1 200 OK\nA: b\r\n\r\n".to_owned(), Err(BareLf)),
        (ok("A: b\nB: c\r\n"), Err(BareLf)),
        (ok("A: b\rB: c\r\n"), Err(BareCr)),
    ]);
    for (input, expected) in [
        ("HTTP/1.1 200 O\rK\r\n\r\n", BareCr),
        ("HTTP/1.1 200 OK\n\r\n", BareLf),
        ("HTTP/1.1 200 OK\r\nA: b\n\r\n", BareLf),
        ("HTTP/1.1 200 OK\r\n\n", BareLf),
        ("HTTP/1.1 200 OK\r\n", Malformed),
    ] {
        let parsed = ResponseHead::default().parse(input.as_bytes(), &HeadLimits::default(), PLAIN);
        assert_eq!(parsed, Err(expected), "{input:?}");
    }
}

#[test]
fn rule_31_responses_without_a_body() {
    let head = Asked {
        head: true,
        ..PLAIN
    };
    let upgrade = Asked {
        upgrade: true,
        ..PLAIN
    };
    for (status, asked) in [
        (200, head),
        (404, head),
        (100, PLAIN),
        (103, PLAIN),
        (204, PLAIN),
        (304, PLAIN),
        (101, upgrade),
    ] {
        for fields in [
            "",
            "Content-Length: 5\r\n",
            "Transfer-Encoding: chunked\r\n",
        ] {
            let input = format!("HTTP/1.1 {status} A\r\nUpgrade: a\r\n{fields}\r\n");
            let head = parse(&input, asked).expect("valid");
            assert_eq!(head.framing, Framing::None, "{input:?}");
            // What may not be announced there perhaps follows all the same.
            let announced = matches!(status, 100..=204) && !fields.is_empty();
            assert_eq!(head.keep_alive, !announced || asked.head, "{input:?}");
        }
    }
    // even so, what is doubtful is refused
    let doubtful = "HTTP/1.1 304 A\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n";
    assert_eq!(parse(doubtful, PLAIN).map(|_| ()), Err(LengthRepeated));
}

#[test]
fn rule_32_switching_needs_asking() {
    let asked = Asked {
        upgrade: true,
        ..PLAIN
    };
    let switching =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let head = parse(switching, asked).expect("asked for");
    assert_eq!(
        head.upgrade.map(|value| value.of(switching.as_bytes())),
        Some(&b"websocket"[..])
    );
    assert_eq!(parse(switching, PLAIN).map(|_| ()), Err(SwitchUnasked));
    for fields in ["", "Upgrade: a\r\nUpgrade: b\r\n"] {
        let input = format!("HTTP/1.1 101 A\r\n{fields}\r\n");
        assert_eq!(parse(&input, asked).map(|_| ()), Err(SwitchUnasked));
    }
    // an offer in another response is none
    let head = parse(&ok("Upgrade: h2c\r\n"), asked).expect("valid");
    assert_eq!(head.upgrade, None);
}

#[test]
fn keep_alive_by_version_connection_and_framing() {
    let table: &[(&str, &str, bool)] = &[
        ("1.1", "Content-Length: 1\r\n", true),
        ("1.1", "Transfer-Encoding: chunked\r\n", true),
        ("1.1", "", false),
        ("1.1", "Content-Length: 1\r\nConnection: Close\r\n", false),
        ("1.0", "Content-Length: 1\r\n", false),
        (
            "1.0",
            "Content-Length: 1\r\nConnection: keep-alive\r\n",
            true,
        ),
        ("1.0", "Connection: keep-alive\r\n", false),
    ];
    for (version, fields, expected) in table {
        let input = format!("HTTP/{version} 200 OK\r\n{fields}\r\n");
        let keep_alive = parse(&input, PLAIN).map(|head| head.keep_alive);
        assert_eq!(keep_alive, Ok(*expected), "{input:?}");
    }
}

#[test]
fn persistent_auth_is_noticed() {
    let table: &[(&str, bool)] = &[
        ("Persistent-Auth: false\r\n", true),
        ("persistent-auth: FALSE\r\n", true),
        ("Persistent-Auth: true\r\n", false),
        ("Persistent-Auth: falsely\r\n", false),
        ("", false),
    ];
    for (fields, expected) in table {
        let said = parse(&ok(fields), PLAIN).map(|head| head.persistent_auth_false);
        assert_eq!(said, Ok(*expected), "{fields:?}");
    }
}

#[test]
fn fields_are_found_for_variables() {
    let input = ok("X_Foo: 1\r\nWWW-Authenticate: NTLM\r\n");
    let head = parse(&input, PLAIN).expect("valid");
    let value = |name| {
        head.field(input.as_bytes(), name)
            .map(|value| value.of(input.as_bytes()))
    };
    assert_eq!(value("x-foo"), Some(&b"1"[..]));
    assert_eq!(value("www-authenticate"), Some(&b"NTLM"[..]));
    assert_eq!(value("server"), None);
}
