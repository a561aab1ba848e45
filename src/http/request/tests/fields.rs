use super::*;

#[test]
fn rule_10_underscores() {
    let input =
        post("Content_Length: 5\r\nX_A: 1\r\nX-A: 2\r\nX.A: 3\r\nTransfer_Encoding: chunked\r\n");
    let fates = |limits: &HeadLimits| {
        let head = parse_with(&input, limits).expect("nothing to refuse");
        assert_eq!(head.framing, Framing::None);
        head.fields[1..]
            .iter()
            .map(|field| field.fate)
            .collect::<Vec<_>>()
    };
    use Fate::{Ignored, Passes};
    assert_eq!(fates(&LIMITS), [Ignored, Ignored, Passes, Ignored, Ignored]);
    let underscores = HeadLimits {
        underscores: true,
        ..LIMITS
    };
    assert_eq!(
        fates(&underscores),
        [Ignored, Passes, Passes, Ignored, Ignored]
    );
    check(&[
        (
            post("Content_Length: 5\r\nContent-Length: 6\r\n"),
            Ok(Framing::Length(6)),
        ),
        (post("Host_: b\r\n"), Ok(Framing::None)),
        (
            "GET / HTTP/1.1\r\nH_ost: a\r\n\r\n".to_owned(),
            Err(HostMissing),
        ),
    ]);
}

#[test]
fn rule_15_one_authorization() {
    check(&[
        (
            post("Authorization: NTLM a\r\nauthorization: NTLM a\r\n"),
            Err(AuthorizationRepeated),
        ),
        (
            post("Authorization:\r\nAuthorization: NTLM a\r\n"),
            Err(AuthorizationRepeated),
        ),
        (
            post("Authorization: NTLM a\r\nProxy-Authorization: b\r\n"),
            Ok(Framing::None),
        ),
        (
            post("Authorization_: NTLM a\r\nAuthorization: NTLM a\r\n"),
            Ok(Framing::None),
        ),
    ]);
    let input = post("authorization:  NTLM abc= \r\nProxy-Authorization: b\r\n");
    let head = parse(&input).expect("valid");
    assert_eq!(
        head.authorization.map(|value| text(value, &input)),
        Some("NTLM abc=")
    );
    assert!(head.proxy_authorization);
    let head = parse(&post("")).expect("valid");
    assert!(head.authorization.is_none() && !head.proxy_authorization);
}

/// The names of the fields that do not go on.
fn held_back(input: &str) -> Vec<&str> {
    let head = parse(input).expect("valid");
    head.fields
        .iter()
        .filter(|field| field.fate != Fate::Passes)
        .map(|field| text(field.name, input))
        .collect()
}

#[test]
fn rules_18_19_hop_by_hop() {
    let table: &[(&str, &[&str])] = &[
        ("A: b\r\nVia: c\r\nExpect: 100-continue\r\n", &[]),
        (
            "Connection: close\r\nKeep-Alive: 5\r\n",
            &["Connection", "Keep-Alive"],
        ),
        (
            "proxy-connection: a\r\nTE: trailers\r\nTrailer: A\r\n",
            &["proxy-connection", "TE", "Trailer"],
        ),
        (
            "Upgrade: h2c\r\nHTTP2-Settings: a\r\n",
            &["Upgrade", "HTTP2-Settings"],
        ),
        ("Transfer-Encoding: chunked\r\n", &["Transfer-Encoding"]),
        (
            "Connection: close, X-Hop\r\nx-hop: 1\r\nX-Hop2: 2\r\n",
            &["Connection", "x-hop"],
        ),
        (
            "x-hop: 1\r\nConnection: a\r\nConnection: X-Hop\r\n",
            &["x-hop", "Connection", "Connection"],
        ),
        // rule 18: these are named in vain
        (
            "Connection: close, Authorization\r\nAuthorization: NTLM a\r\n",
            &["Connection"],
        ),
        (
            "Connection: Host, Content-Length\r\nContent-Length: 5\r\n",
            &["Connection"],
        ),
        (
            "Connection: cookie,X-Forwarded-For\r\nCookie: a=b\r\nX-Forwarded-For: c\r\n",
            &["Connection"],
        ),
        ("Connection: ,,;\" \r\nA: b\r\n", &["Connection"]),
    ];
    for (fields, expected) in table {
        let input = format!("POST / HTTP/1.1\r\n{fields}Host: a\r\n\r\n");
        let mut expected = expected.to_vec();
        expected.push("Host");
        assert_eq!(held_back(&input), expected, "{fields:?}");
    }
    let many = |count: usize| post(&format!("Connection: close{}\r\n", ",x".repeat(count)));
    check(&[
        (many(32), Ok(Framing::None)),
        (many(33), Err(TooManyOptions)),
    ]);
}

#[test]
fn keep_alive_by_version_and_connection() {
    let table: &[(&str, &str, bool)] = &[
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: Keep-Alive, CLOSE\r\n", false),
        (
            "1.1",
            "Connection: keep-alive\r\nConnection: close\r\n",
            false,
        ),
        ("1.1", "Connection: closed\r\n", true),
        ("1.1", "Proxy-Connection: close\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ];
    for (version, fields, expected) in table {
        let input = format!("GET / HTTP/{version}\r\nHost: a\r\n{fields}\r\n");
        let keep_alive = parse(&input).map(|head| head.keep_alive);
        assert_eq!(keep_alive, Ok(*expected), "{input:?}");
    }
}

#[test]
fn rule_28_expectations() {
    let table: &[(&str, &str, Result<bool, Refusal>)] = &[
        ("1.1", "Expect: 100-continue\r\n", Ok(true)),
        ("1.1", "expect: 100-Continue\r\n", Ok(true)),
        ("1.1", "", Ok(false)),
        ("1.1", "Expect: 200-ok\r\n", Err(Expectation)),
        ("1.1", "Expect:\r\n", Err(Expectation)),
        (
            "1.1",
            "Expect: 100-continue, 100-continue\r\n",
            Err(Expectation),
        ),
        (
            "1.1",
            "Expect: 100-continue\r\nExpect: 100-continue\r\n",
            Err(Expectation),
        ),
        ("1.0", "Expect: 100-continue\r\n", Ok(false)),
        ("1.0", "Expect: x\r\n", Err(Expectation)),
    ];
    for (version, fields, expected) in table {
        let input =
            format!("POST / HTTP/{version}\r\nHost: a\r\nContent-Length: 1\r\n{fields}\r\n");
        let expects = parse(&input).map(|head| head.expect_continue);
        assert_eq!(expects, *expected, "{input:?}");
        if *version == "1.0" && expected.is_ok() {
            assert_eq!(held_back(&input), ["Host", "Expect"]);
        }
    }
    assert_eq!(Expectation.status(), 417);
}

#[test]
fn rule_29_upgrades() {
    let asking = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let table: &[(&str, &str, Option<&str>)] = &[
        ("GET / HTTP/1.1", asking, Some("websocket")),
        (
            "GET / HTTP/1.1",
            "Upgrade: a, b/2\r\nConnection: keep-alive, UPGRADE\r\n",
            Some("a, b/2"),
        ),
        ("GET / HTTP/1.0", asking, None),
        ("POST / HTTP/1.1", asking, None),
        (
            "GET / HTTP/1.1",
            &format!("{asking}Content-Length: 1\r\n"),
            None,
        ),
        (
            "GET / HTTP/1.1",
            &format!("{asking}Content-Length: 0\r\n"),
            Some("websocket"),
        ),
        (
            "GET / HTTP/1.1",
            &format!("{asking}Transfer-Encoding: chunked\r\n"),
            None,
        ),
        ("GET / HTTP/1.1", "Upgrade: websocket\r\n", None),
        ("GET / HTTP/1.1", "Connection: upgrade\r\n", None),
        (
            "GET / HTTP/1.1",
            "Connection: upgrade\r\nUpgrade:\r\n",
            None,
        ),
        (
            "GET / HTTP/1.1",
            "Connection: upgrade\r\nUpgrade: h2c\r\n",
            None,
        ),
        (
            "GET / HTTP/1.1",
            "Connection: upgrade\r\nUpgrade: websocket, H2C\r\n",
            None,
        ),
        (
            "GET / HTTP/1.1",
            "Connection: upgrade\r\nUpgrade: a\r\nUpgrade: b\r\n",
            None,
        ),
    ];
    for (request_line, fields, expected) in table {
        let input = format!("{request_line}\r\nHost: a\r\n{fields}\r\n");
        let head = parse(&input).expect("valid");
        assert_eq!(
            head.upgrade.map(|value| text(value, &input)),
            *expected,
            "{input:?}"
        );
    }
}

#[test]
fn fields_are_found_for_variables() {
    let input =
        post("X-Foo: 1\r\nx-foo: 2\r\nUpgrade: u\r\nX_Bar: 3\r\nCookie: a=1\r\nCookie: b=2\r\n");
    let value = |limits: &HeadLimits, name: &str| {
        let head = parse_with(&input, limits).expect("valid");
        head.field(input.as_bytes(), name)
            .map(|value| text(value, &input).to_owned())
    };
    let table: &[(&str, Option<&str>)] = &[
        ("x-foo", Some("1")),
        ("host", Some("a")),
        ("upgrade", Some("u")),
        ("x-bar", None),
        ("x-fo", None),
        ("", None),
    ];
    for (name, expected) in table {
        assert_eq!(value(&LIMITS, name).as_deref(), *expected, "{name}");
    }
    let underscores = HeadLimits {
        underscores: true,
        ..LIMITS
    };
    assert_eq!(value(&underscores, "x-bar").as_deref(), Some("3"));
    // What resembles a field does not stand before it.
    let both = post("X_Foo: 1\r\nX_Foo: 2\r\nX-Foo: 3\r\nX-Foo: 4\r\n");
    let head = parse_with(&both, &underscores).expect("valid");
    let found = head.field(both.as_bytes(), "x-foo");
    assert_eq!(found.map(|value| text(value, &both)), Some("3"));
    let head = parse(&input).expect("valid");
    assert_eq!(head.cookie(input.as_bytes(), "b"), Some(&b"2"[..]));
    assert_eq!(head.cookie(input.as_bytes(), "c"), None);
}

#[test]
fn rule_18_repeated_options_cost_no_more_than_their_bytes() {
    let fastest = |first: &str| {
        let options = "close,".repeat(10_000);
        let others = "close: x\r\n".repeat(90);
        let input = post(&format!("{first}: x, {options}\r\n{others}"));
        let mut head = RequestHead::default();
        let parse = |_| {
            let began = std::time::Instant::now();
            head.parse(input.as_bytes(), &LIMITS)
                .expect("nothing to refuse");
            began.elapsed()
        };
        (0..5).map(parse).min().expect("five of them")
    };
    let (hostile, harmless) = (fastest("Connection"), fastest("X-Options"));
    // With every option compared to every field it is hundreds of times.
    assert!(hostile < 50 * harmless, "{hostile:?} {harmless:?}");
}
