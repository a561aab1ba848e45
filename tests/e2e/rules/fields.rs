//! Rules 8, 10, 11, 15, 18 and 19: the fields of a request.

use super::{Passed, Refused, Stand, arrives, get, post, refused};

#[test]
fn rule_08_field_lines() {
    let stand = Stand::new("");
    let mut table: Vec<Refused> = refused(
        get,
        &[
            "X-A : b\r\n",
            "X-A\t: b\r\n",
            "X-A  \t: b\r\n",
            "Content-Length : 5\r\n",
            "Transfer-Encoding : chunked\r\n",
            "Host : a\r\n",
        ],
        "blank_before_colon",
    )
    .collect();
    table.extend(refused(
        get,
        &[
            "X-A: b\r\n folded\r\n",
            "X-A: b\r\n\tfolded: c\r\n",
            "X-A:\r\n b\r\n",
            "X-A: b\r\n \r\n",
            "Transfer-Encoding:\r\n chunked\r\n",
            "Content-Length: 5\r\n\t\r\n",
        ],
        "folded_line",
    ));
    table.push((
        b"GET / HTTP/1.1\r\n Host: test\r\n\r\n".to_vec(),
        400,
        "folded_line",
    ));
    table.extend(refused(
        get,
        &["X-A\r\n", "X-A b\r\n", "chunked\r\n"],
        "no_colon",
    ));
    table.extend(refused(
        get,
        &[
            ": x\r\n",
            ":\r\n",
            "X A: b\r\n",
            "X(A): b\r\n",
            "X-A, X-B: c\r\n",
            "\"X-A\": b\r\n",
            "X/A: b\r\n",
            "[X]: b\r\n",
            "\u{fc}: b\r\n",
            "Content\u{2010}Length: 5\r\n",
        ],
        "field_name",
    ));
    stand.refuses(&table);
    let as_it_came = |fields: &str| (get(fields), arrives(fields));
    stand.passes(&[
        as_it_came("X-A:\r\nX-B: \r\nX-C::d\r\nX-D:e: f\r\n"),
        as_it_came(
            "x-lower: a\r\nX-UPPER:b\r\nX-miXed:  two  blanks \r\nX-Twice: 1\r\nX-Twice: 2\r\n",
        ),
    ]);
}

#[test]
fn rule_10_underscores() {
    let resembling = "Content_Length: 5\r\nTransfer_Encoding: chunked\r\nTransfer_Encoding: x\r\n\
                      Keep_Alive: 5\r\nProxy_Authorization: a\r\nProxy_Connection: a\r\n\
                      Http2_Settings: a\r\nWww_Authenticate: a\r\nPersistent_Auth: a\r\n";
    let odd = "X.A: b\r\nX!A: b\r\nContent-Length!: 5\r\nX'A: b\r\n";
    let asked = get(&format!("{resembling}{odd}X_A: b\r\n_: c\r\nX-B: d\r\n"));
    Stand::new("").passes(&[(asked.clone(), arrives("X-B: d\r\n"))]);
    let passing = Stand::new("underscores_in_headers on;");
    passing.passes(&[
        (asked, arrives("X_A: b\r\n_: c\r\nX-B: d\r\n")),
        // Neither is a second one of what it resembles.
        (
            post("Content_Length: 6\r\nTransfer-Encoding: chunked\r\n"),
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nHost: origin\r\n\r\n0\r\n\r\n"
                .to_vec(),
        ),
        (
            b"POST / HTTP/1.1\r\nHost: test\r\nContent_Length: 9\r\nContent-Length: 5\r\n\r\nhello"
                .to_vec(),
            b"POST / HTTP/1.1\r\nContent-Length: 5\r\nHost: origin\r\n\r\nhello".to_vec(),
        ),
    ]);
}

#[test]
fn rule_10_no_address_from_a_name_with_an_underscore() {
    for (header, field, resembling) in [
        ("X-Real-IP", "X-Real-IP", "X_Real_IP"),
        ("X-Forwarded-For", "X-Forwarded-For", "X_Forwarded_For"),
        ("X-Client", "X-Client", "X_Client"),
    ] {
        let stand = Stand::new(&format!(
            "underscores_in_headers on; set_real_ip_from 127.0.0.1; real_ip_header {header};
             proxy_set_header X-Who $remote_addr; proxy_set_header X_Real_IP '';
             proxy_set_header X-Real-IP ''; proxy_set_header X_Forwarded_For '';
             proxy_set_header X-Forwarded-For ''; proxy_set_header X_Client '';
             proxy_set_header X-Client '';"
        ));
        let seen = |address: &str| {
            format!("GET / HTTP/1.1\r\nX-Who: {address}\r\nHost: origin\r\n\r\n").into()
        };
        stand.passes(&[
            (
                get(&format!(
                    "{resembling}: 192.0.2.1\r\n{field}: 192.0.2.2\r\n"
                )),
                seen("192.0.2.2"),
            ),
            (
                get(&format!(
                    "{field}: 192.0.2.2\r\n{resembling}: 192.0.2.1\r\n"
                )),
                seen("192.0.2.2"),
            ),
            (
                get(&format!("{resembling}: 192.0.2.1\r\n")),
                seen("127.0.0.1"),
            ),
        ]);
    }
}

#[test]
fn rule_10_no_field_beside_ours_that_resembles_it() {
    // Servers that make variables of fields (HTTP_X_FORWARDED_FOR) take one for the other.
    let stand = Stand::new(
        "underscores_in_headers on; proxy_set_header X-Forwarded-For $remote_addr;
         proxy_set_header X-SSL-Client ''; proxy_set_header X_Mine ours;",
    );
    stand.passes(&[(
        get(
            "X_Forwarded_For: 192.0.2.1\r\nx-forwarded_FOR: 192.0.2.2\r\nX_SSL-Client: a\r\n\
             X_SSL_Client: b\r\nX_Mine: c\r\nX-Mine: d\r\nX_Forwarded_Fort: e\r\n",
        ),
        b"GET / HTTP/1.1\r\nX-Mine: d\r\nX_Forwarded_Fort: e\r\nX-Forwarded-For: 127.0.0.1\r\n\
          X_Mine: ours\r\nHost: origin\r\n\r\n"
            .to_vec(),
    )]);
}

#[test]
fn rule_11_host() {
    let stand = Stand::new("proxy_set_header Host $http_host;");
    let ask = |fields: &str| -> Vec<u8> { format!("GET / HTTP/1.1\r\n{fields}\r\n").into() };
    let mut table: Vec<Refused> = [
        "",
        " ",
        "a, b",
        "a,b",
        "a b",
        "u@a",
        "u:p@a",
        "a/b",
        "a/",
        "/",
        "a\\b",
        "a?b",
        "a#b",
        "a;b",
        "http://a",
        "a:",
        ":80",
        "a:b",
        "a:80b",
        "a:65536",
        "a:100000",
        "a:-1",
        "a:+80",
        "a:80:80",
        "::1",
        "[::1",
        "::1]",
        "[::1]x",
        "[::1]:",
        "[]",
        "[a]",
        "[v1.a]",
        "[fe80::1%25eth0]",
        "[::1]@a",
        "a%2eb",
        "a%00",
        "a\tb",
        "\"a\"",
        "<a>",
        "a..b",
        ".a",
        ".",
        "b\u{fc}cher",
    ]
    .into_iter()
    .map(|host| (ask(&format!("Host: {host}\r\n")), 400, "host_invalid"))
    .collect();
    for fields in [
        "Host: a\r\nHost: a\r\n",
        "Host: a\r\nhost: b\r\n",
        "Host: a\r\nX-A: b\r\nHOST: a\r\n",
        "Host: a\r\nHost:\r\n",
    ] {
        table.push((ask(fields), 400, "host_repeated"));
        let old = format!("GET / HTTP/1.0\r\n{fields}\r\n").into();
        table.push((old, 400, "host_repeated"));
    }
    table.push((ask(""), 400, "host_missing"));
    table.push((ask("X-Host: a\r\nHosts: a\r\n"), 400, "host_missing"));
    table.push((ask("Connection: Host\r\n"), 400, "host_missing"));
    table.push((
        b"GET / HTTP/1.0\r\nHost: a/b\r\n\r\n".to_vec(),
        400,
        "host_invalid",
    ));
    stand.refuses(&table);
    let mut table: Vec<Passed> = [
        "a",
        "A.Example",
        "a.example.",
        "a_b-c",
        "10.0.0.1",
        "a:80",
        "a:0",
        "a:65535",
        "[::1]",
        "[::1]:8080",
        "[2001:db8::1]",
        "[::ffff:10.0.0.1]:1",
        "xn--bcher-kva.example",
    ]
    .into_iter()
    .map(|host| {
        let fields = format!("Host: {host}\r\n");
        (ask(&fields), ask(&fields))
    })
    .collect();
    table.push((ask("hOST:\t a \r\n"), ask("Host: a\r\n")));
    for old in ["GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.0\r\nHost:\r\n\r\n"] {
        // RFC 9112 section 3.2: there is one in 1.1.
        table.push((old.into(), ask("Host: origin\r\n")));
    }
    stand.passes(&table);
}

#[test]
fn rule_15_one_authorization() {
    let stand = Stand::new("");
    let table: Vec<Refused> = refused(
        get,
        &[
            "Authorization: NTLM a\r\nAuthorization: NTLM a\r\n",
            "Authorization: Basic a\r\nauthorization: NTLM b\r\n",
            "AUTHORIZATION: Negotiate a\r\nX-A: b\r\nAuthorization:\r\n",
            "Authorization:\r\nAuthorization:\r\n",
            "Connection: Authorization\r\nAuthorization: NTLM a\r\nAuthorization: NTLM b\r\n",
        ],
        "authorization_repeated",
    )
    .collect();
    stand.refuses(&table);
    let as_it_came = |fields: &str| (get(fields), arrives(fields));
    stand.passes(&[
        as_it_came("Authorization: NTLM TlRMTVNTUAAB\r\n"),
        as_it_came("authorization:Basic YTpi \r\nX-Authorization: c\r\n"),
        as_it_came("Authorization: Bearer a\r\nProxy-Authorization: Basic YTpi\r\n"),
    ]);
}

#[test]
fn rule_18_what_connection_names() {
    let stand =
        Stand::new("proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Mine ours;");
    let asked =
        |connection: &str, fields: &str| get(&format!("Connection: {connection}\r\n{fields}"));
    let arrives = |fields: &str| -> Vec<u8> {
        format!(
            "GET / HTTP/1.1\r\n{fields}X-Forwarded-For: 127.0.0.1\r\nX-Mine: ours\r\nHost: origin\r\n\r\n"
        )
        .into()
    };
    let end_to_end = "Authorization: Basic YTpi\r\nCookie: a=b\r\nContent-Length: 0\r\nContent-Type: a/b\r\n\
                      Proxy-Authorization: Basic YTpi\r\nVia: 1.1 a\r\nDate: x\r\nRange: bytes=0-1\r\n\
                      If-Match: a\r\nIf-None-Match: b\r\nCache-Control: no-cache\r\nPragma: x\r\nAccept: a/b\r\n\
                      Origin: null\r\nReferer: http://a/\r\nForwarded: for=a\r\nX-Forwarded-Proto: http\r\n\
                      X-Real-IP: 192.0.2.1\r\nSec-Fetch-Mode: cors\r\nExpect: 100-continue\r\n";
    let all_names: Vec<&str> = end_to_end
        .lines()
        .filter_map(|line| Some(line.split_once(':')?.0))
        .collect();
    let mut table: Vec<Passed> = all_names
        .chunks(10)
        .map(|names| {
            (
                asked(&format!("close, {}", names.join(", ")), end_to_end),
                arrives(end_to_end),
            )
        })
        .collect();
    table.push((
        asked(
            "CLOSE, authorization ,,COOKIE",
            "Authorization: Basic a\r\nCookie: b\r\n",
        ),
        arrives("Authorization: Basic a\r\nCookie: b\r\n"),
    ));
    // a field that is ours is ours whatever the client says of it
    table.push((
        asked(
            "X-Forwarded-For, X-Mine, Host",
            "X-Forwarded-For: 192.0.2.1\r\nX-Mine: theirs\r\n",
        ),
        arrives(""),
    ));
    // what is for this connection only goes, on whichever line it is named
    table.push((
        get("X-Hop: a\r\nConnection: x-hop\r\nConnection: X-Other, TE\r\nX-Other: b\r\nX-Hop: c\r\nTE: trailers\r\nX-Stays: d\r\n"),
        arrives("X-Stays: d\r\n"),
    ));
    // words that are no names change nothing
    table.push((
        asked("\"X-A\", X-A;b, (X-A), X A", "X-A: b\r\n"),
        arrives("X-A: b\r\n"),
    ));
    stand.passes(&table);
    let many = |number: usize| {
        (0..number)
            .map(|i| format!("X-{i}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    stand.refuses(&[
        (asked(&many(33), ""), 400, "too_many_options"),
        (
            get(&format!("Connection: {0}\r\nConnection: {0}\r\n", many(20))),
            400,
            "too_many_options",
        ),
    ]);
    stand.passes(&[(asked(&many(32), ""), arrives(""))]);
}

#[test]
fn rule_19_hop_by_hop_fields_and_all_others() {
    let stand = Stand::new("");
    let kept = "x-lower: a\r\nX-UPPER:b\r\nX-miXed:  two  blanks \r\nX-Twice: 1\r\nX-Twice: 2\r\nX-Empty:\r\n\
                X-Latin: \u{e9}\r\nCookie: a=b; c=d\r\nContent-Type: a/b\r\nKeep: a\r\nTEs: b\r\nTrailers: c\r\n";
    let hop = "Connection: Keep-Alive, Upgrade, HTTP2-Settings\r\nkeep-alive: 300\r\nPROXY-CONNECTION: keep-alive\r\n\
               TE: trailers, gzip\r\nTrailer: X-A\r\nUpgrade: websocket\r\nHTTP2-Settings: AAM\r\n";
    stand.passes(&[
        (get(kept), arrives(kept)),
        (get(hop), arrives("")),
        (get(&format!("{hop}{kept}")), arrives(kept)),
        (get(&format!("{kept}{hop}")), arrives(kept)),
    ]);
}
