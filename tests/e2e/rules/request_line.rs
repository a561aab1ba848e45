//! Rules 7, 9, 12 to 14, 16 and 17: the request line, and the shape of a head.

use super::{Passed, Refused, Stand, arrives_at, get, line, refused};

#[test]
fn rule_07_versions() {
    let stand = Stand::new("");
    let mut table: Vec<Refused> = refused(
        line,
        &[
            "GET / HTTP/1.1.1",
            "GET / hTTP/1.1",
            "GET / http/1.1",
            "GET / HTTP/11",
            "GET / HTTP/1.",
            "GET / HTTP/1",
            "GET / HTTP/.1",
            "GET / HTTP/1,1",
            "GET / HTTP/01.1",
            "GET / HTTP/1.10",
            "GET / HTTP/+1.1",
            "GET / HTTPS/1.1",
            "GET / HTTP\\1.1",
        ],
        "version_malformed",
    )
    .collect();
    table.extend(refused(
        line,
        &["GET /", "get /index.html", "X /"],
        "http_09",
    ));
    table.extend(refused(
        line,
        &["GET", "HELO", "GET / FTP/1.1", "GET / HTTP/ 1.1"],
        "malformed",
    ));
    for text in [
        "GET / HTTP/1.2",
        "GET / HTTP/0.9",
        "GET / HTTP/2.0",
        "GET / HTTP/3.0",
        "GET / HTTP/9.9",
    ] {
        table.push((line(text), 505, "version_unknown"));
    }
    table.push((
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        505,
        "http2_preface",
    ));
    table.push((b"\x16\x03\x01\x02\0\x01".to_vec(), 400, "control_byte"));
    table.push((b"\x80\x2e\x01".to_vec(), 400, "malformed"));
    stand.refuses(&table);
    stand.passes(&[
        (line("GET / HTTP/1.1"), arrives_at("/")),
        (b"GET / HTTP/1.0\r\n\r\n".to_vec(), arrives_at("/")),
        (line("GET / HTTP/1.0"), arrives_at("/")),
        (
            line("GET /HTTP/1.1?HTTP/2.0 HTTP/1.1"),
            arrives_at("/HTTP/1.1?HTTP/2.0"),
        ),
    ]);
}

#[test]
fn rule_09_bare_line_ends() {
    let stand = Stand::new("");
    let mut table: Vec<Refused> = Vec::new();
    for request in [
        "GET / HTTP/1.1\nHost: test\n\n",
        "GET / HTTP/1.1\nHost: test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: test\n\r\n",
        "GET / HTTP/1.1\r\nHost: test\r\n\n",
        "GET / HTTP/1.1\r\nHost: test\r\nX-A: b\nContent-Length: 5\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: test\r\nX-A: b\n\nGET /smuggled HTTP/1.1\r\n\r\n",
        "GET /\n HTTP/1.1\r\nHost: test\r\n\r\n",
        "\nGET / HTTP/1.1\r\nHost: test\r\n\r\n",
        "\r\n\nGET / HTTP/1.1\r\nHost: test\r\n\r\n",
    ] {
        table.push((request.into(), 400, "bare_lf"));
    }
    for request in [
        "GET / HTTP/1.1\rHost: test\r\r",
        "GET / HTTP/1.1\r\r\nHost: test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: test\rX-A: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: test\r\nX-A: b\rContent-Length: 5\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: test\r\nX-A\r: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: test\r\nX-A: b\r\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: test\r\n\rX-A: b\r\n\r\n",
        "GET /\r HTTP/1.1\r\nHost: test\r\n\r\n",
        "\rGET / HTTP/1.1\r\nHost: test\r\n\r\n",
    ] {
        table.push((request.into(), 400, "bare_cr"));
    }
    stand.refuses(&table);
    stand.passes(&[(get(""), arrives_at("/"))]);
}

#[test]
fn rule_12_absolute_form() {
    let stand = Stand::new("proxy_set_header Host $http_host; proxy_set_header X-Host $host;");
    let ask = |target: &str, host: &str| -> Vec<u8> {
        format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").into()
    };
    let mut table: Vec<Refused> = Vec::new();
    for (target, host) in [
        ("http://a/", "b"),
        ("http://a/", "a.b"),
        ("http://a/", "a."),
        ("http://a/", "a:81"),
        ("http://a:443/", "a"),
        ("https://a/", "a:80"),
        ("http://10.0.0.1/", "10.0.0.2"),
        ("http://[::1]/", "[::2]"),
    ] {
        table.push((ask(target, host), 400, "host_differs"));
    }
    for target in [
        "http://u@a/",
        "http://u:p@a/",
        "http://a:80:80/",
        "http://a:/",
        "http://a:65536/",
        "http:///b",
        "http://",
        "http://?b",
        "http://a%2fb/",
        "http://a\\b/",
        "http://a;b/",
        "http://[::1/",
        "http://.a/",
    ] {
        table.push((ask(target, "a"), 400, "host_invalid"));
    }
    for target in [
        "http:/a",
        "http:a",
        "http//a/",
        "ftp://a/",
        "ws://a/",
        "file:///etc/passwd",
        "a",
        "a:80",
        "?a",
        "%2Fa",
        ".",
        "*a",
        "javascript:alert(1)",
    ] {
        table.push((ask(target, "a"), 400, "target_form"));
    }
    table.push((
        b"GET http://a/ HTTP/1.1\r\n\r\n".to_vec(),
        400,
        "host_missing",
    ));
    table.push((ask("http://a/b\\c", "a"), 400, "target_backslash"));
    stand.refuses(&table);
    let table: Vec<Passed> = [
        // what is asked for, Host; target, $http_host, $host
        ("http://a/b?c", "a", "/b?c", "a", "a"),
        ("HTTP://A/b", "a", "/b", "a", "a"),
        ("https://a/", "a", "/", "a", "a"),
        ("http://a:80/", "a", "/", "a", "a"),
        ("http://a/", "a:80", "/", "a:80", "a"),
        ("https://a:443/", "a", "/", "a", "a"),
        ("http://a", "a", "/", "a", "a"),
        ("http://a?b/c", "a", "/?b/c", "a", "a"),
        ("http://a?", "a", "/?", "a", "a"),
        ("http://a//b", "a", "//b", "a", "a"),
        (
            "http://[::1]:8080/",
            "[::1]:8080",
            "/",
            "[::1]:8080",
            "[::1]",
        ),
        (
            "http://Mail.Example.com/owa/",
            "mail.example.com",
            "/owa/",
            "mail.example.com",
            "mail.example.com",
        ),
    ]
    .into_iter()
    .map(|(asked, host, target, http_host, name)| {
        let arrives =
            format!("GET {target} HTTP/1.1\r\nHost: {http_host}\r\nX-Host: {name}\r\n\r\n");
        (ask(asked, host), arrives.into())
    })
    .collect();
    stand.passes(&table);
}

#[test]
fn rule_13_targets() {
    let stand = Stand::new("");
    let mut table: Vec<Refused> = ["CONNECT a:443", "CONNECT /", "connect a:443", "Connect *"]
        .into_iter()
        .map(|text| (line(&format!("{text} HTTP/1.1")), 405, "connect"))
        .collect();
    table.extend(refused(
        line,
        &[
            "GET * HTTP/1.1",
            "options * HTTP/1.1",
            "OPTIONS ** HTTP/1.1",
            "OPTIONS */ HTTP/1.1",
            "OPTIONS *?a HTTP/1.1",
            "OPTIONS *a HTTP/1.1",
        ],
        "target_form",
    ));
    table.extend(refused(
        line,
        &[
            "GET /a#b HTTP/1.1",
            "GET /# HTTP/1.1",
            "GET /?a#b HTTP/1.1",
            "GET http://test#/ HTTP/1.1",
            "OPTIONS *# HTTP/1.1",
        ],
        "target_fragment",
    ));
    table.extend(refused(
        line,
        &[
            "GET /a b HTTP/1.1",
            "GET / a HTTP/1.1",
            "OPTIONS * x HTTP/1.1",
        ],
        "blanks",
    ));
    table.extend(refused(
        line,
        &[
            "GET /a\\b HTTP/1.1",
            "GET /\\ HTTP/1.1",
            "GET /a\\..\\b?c HTTP/1.1",
            "GET /..\\a HTTP/1.1",
        ],
        "target_backslash",
    ));
    table.extend(refused(line, &["GET \\a HTTP/1.1"], "target_form"));
    stand.refuses(&table);
    let mut table: Vec<Passed> = [
        "/a%23b",
        "/?a\\b",
        "/?a=http://b/c?d",
        "/?a=%00%0d%0a",
        "/\u{fc}?\u{fc}=\u{20ac}",
        "/~a/!$&'()*+,;=:@-._",
        "/?a=<b>&\"c\"|{d}^`e`[f]",
    ]
    .into_iter()
    .map(|target| (line(&format!("GET {target} HTTP/1.1")), arrives_at(target)))
    .collect();
    // bytes above 0x7F need not be UTF-8
    table.push((
        b"GET /?a=\xfc\xff\x80 HTTP/1.1\r\nHost: test\r\n\r\n".to_vec(),
        b"GET /?a=\xfc\xff\x80 HTTP/1.1\r\nHost: origin\r\n\r\n".to_vec(),
    ));
    table.push((
        line("OPTIONS * HTTP/1.1"),
        b"OPTIONS * HTTP/1.1\r\nHost: origin\r\n\r\n".to_vec(),
    ));
    stand.passes(&table);
}

#[test]
fn rule_14_one_space_and_a_token() {
    let stand = Stand::new("");
    let mut table: Vec<Refused> = refused(
        line,
        &[
            "GET  / HTTP/1.1",
            "GET /  HTTP/1.1",
            "GET / HTTP/1.1 ",
            " GET / HTTP/1.1",
        ],
        "blanks",
    )
    .collect();
    table.extend(refused(
        line,
        &[
            "GET\t/ HTTP/1.1",
            "GET HTTP/1.1",
            "GET  HTTP/1.1",
            "G(T / HTTP/1.1",
            "G\u{e9}T / HTTP/1.1",
            "GET: / HTTP/1.1",
            "\"GET\" / HTTP/1.1",
            "G\x0bT / HTTP/1.1",
        ],
        "malformed",
    ));
    table.extend(refused(line, &["GET / \tHTTP/1.1"], "malformed"));
    table.extend(refused(line, &["GET /\tHTTP/1.1"], "http_09"));
    stand.refuses(&table);
    let table: Vec<Passed> = [
        "GET",
        "get",
        "Get",
        "DELETE",
        "PROPFIND",
        "VERSION-CONTROL",
        "RPC_IN_DATA",
        "M-SEARCH",
        "X-!#$%&'*+.^_`|~9",
    ]
    .into_iter()
    .map(|method| {
        (
            line(&format!("{method} / HTTP/1.1")),
            format!("{method} / HTTP/1.1\r\nHost: origin\r\n\r\n").into(),
        )
    })
    .collect();
    stand.passes(&table);
}

#[test]
fn rule_16_one_empty_line() {
    let stand = Stand::new("");
    let before = |empty: &str| [empty.as_bytes(), &get("")].concat();
    stand.refuses(&[
        (before("\r\n\r\n"), 400, "empty_lines"),
        (before("\r\n\r\n\r\n"), 400, "empty_lines"),
        (before("\n"), 400, "bare_lf"),
        (before("\r"), 400, "bare_cr"),
        (before("\r\n "), 400, "blanks"),
        (before("\r\n\t"), 400, "control_byte"),
    ]);
    stand.passes(&[(before("\r\n"), arrives_at("/"))]);
}

/// A request whose head has exactly so many bytes, most of them in one field or, without a `field`, in its first line.
fn sized(field: Option<&str>, bytes: usize) -> (Vec<u8>, Vec<u8>) {
    let around = match field {
        Some(field) => ("/".to_owned(), format!("{field}: ")),
        None => ("/".to_owned(), String::new()),
    };
    let build = |filler: &str, host: &str| -> Vec<u8> {
        let (target, value) = match field {
            Some(_) => (around.0.clone(), format!("{}{filler}\r\n", around.1)),
            None => (format!("/{filler}"), String::new()),
        };
        // Ours comes behind the fields that pass.
        let (before, after) = match host {
            "origin" => ("", "Host: origin\r\n"),
            _ => ("Host: test\r\n", ""),
        };
        format!("GET {target} HTTP/1.1\r\n{before}{value}{after}\r\n").into()
    };
    let filler = "x".repeat(bytes - build("", "test").len());
    (build(&filler, "test"), build(&filler, "origin"))
}

#[test]
fn rule_17_sizes() {
    const MOST: usize = 64 << 10;
    let stand = Stand::new("");
    let fields = |number: usize| "X-A: b\r\n".repeat(number);
    let too_large = |field, word| {
        let (request, _) = sized(Some(field), MOST + 1);
        (request, 431, word)
    };
    stand.refuses(&[
        too_large("X-A", "head_too_large"),
        too_large("Authorization", "head_too_large"),
        (sized(None, MOST + 100).0, 414, "first_line_too_long"),
        (sized(Some("Cookie"), 3 * MOST).0, 431, "head_too_large"),
        (
            get(&format!("X-A: {}\r\n", "x".repeat(1000)).repeat(70)),
            431,
            "head_too_large",
        ),
        // with Host, 101
        (get(&fields(100)), 431, "too_many_fields"),
        (get(&fields(1000)), 431, "too_many_fields"),
    ]);
    stand.passes(&[
        sized(Some("X-A"), MOST),
        sized(Some("Authorization"), MOST),
        sized(None, MOST),
        (
            get(&fields(99)),
            format!("GET / HTTP/1.1\r\n{}Host: origin\r\n\r\n", fields(99)).into(),
        ),
    ]);
}

#[test]
fn rule_17_sizes_as_configured() {
    let stand = Stand::new("large_client_header_buffers 4 8k; max_headers 5;");
    let fields = |number: usize| "X-A: b\r\n".repeat(number);
    let field = |bytes: usize| format!("X-A: {}\r\n", "x".repeat(bytes - "X-A: \r\n".len()));
    let first = |bytes: usize| {
        let target = "x".repeat(bytes - "GET / HTTP/1.1\r\n".len());
        (
            line(&format!("GET /{target} HTTP/1.1")),
            arrives_at(&format!("/{target}")),
        )
    };
    stand.refuses(&[
        (first(8193).0, 414, "first_line_too_long"),
        (get(&field(8193)), 431, "field_too_long"),
        (get(&field(8192).repeat(4)), 431, "head_too_large"),
        (get(&fields(5)), 431, "too_many_fields"),
    ]);
    let passes = |fields: &str| {
        let arrives = format!("GET / HTTP/1.1\r\n{fields}Host: origin\r\n\r\n");
        (get(fields), arrives.into())
    };
    stand.passes(&[
        first(8192),
        passes(&field(8192)),
        passes(&field(8192).repeat(3)),
        passes(&fields(4)),
    ]);
}
