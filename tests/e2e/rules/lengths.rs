//! Rules 1 to 6: where a request ends.

use super::{NEXT, Passed, Refused, Stand, get, post};
use crate::peer::Peer;

/// A POST with these field lines, as the server sees it.
fn arrives(fields: &str, body: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\n{fields}Host: origin\r\n\r\n{body}").into()
}

/// A POST with these field lines beside `Host`, and this body.
fn whole(fields: &str, body: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nHost: test\r\n{fields}\r\n{body}").into()
}

#[test]
fn rule_01_length_beside_coding() {
    let stand = Stand::new("");
    let table: Vec<Refused> = [
        "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n",
        "content-length: 6\r\nX-A: b\r\ntransfer-encoding: CHUNKED\r\n",
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        "Connection: Content-Length\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n",
        "Connection: Transfer-Encoding\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n",
    ]
    .into_iter()
    .flat_map(|fields| [post(fields), get(fields)])
    .map(|request| (request, 400, "length_and_coding"))
    .collect();
    stand.refuses(&table);
    stand.passes(&[
        (
            whole("Content-Length: 5\r\n", "hello"),
            arrives("Content-Length: 5\r\n", "hello"),
        ),
        (
            whole("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
            arrives("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ),
        // names that resemble them are other fields
        (
            whole(
                "Transfer-Encoding: chunked\r\nX-Content-Length: 6\r\nContent-Lengths: 7\r\n",
                "5\r\nhello\r\n0\r\n\r\n",
            ),
            arrives(
                "X-Content-Length: 6\r\nContent-Lengths: 7\r\nTransfer-Encoding: chunked\r\n",
                "5\r\nhello\r\n0\r\n\r\n",
            ),
        ),
        (get(""), b"GET / HTTP/1.1\r\nHost: origin\r\n\r\n".to_vec()),
    ]);
}

#[test]
fn rule_02_one_length() {
    let stand = Stand::new("");
    let table: Vec<Refused> = [
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nX-A: b\r\ncontent-LENGTH: 6\r\n",
        "Content-Length: 0\r\nContent-Length: 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: 5,5\r\n",
        "Content-Length: 5,\r\n",
        "Content-Length: ,5\r\n",
        "Content-Length: 5, 6\r\n",
    ]
    .into_iter()
    .map(|fields| (post(fields), 400, "length_repeated"))
    .collect();
    stand.refuses(&table);
    stand.passes(&[(
        whole("content-LENGTH: 5\r\n", "hello"),
        arrives("content-LENGTH: 5\r\n", "hello"),
    )]);
}

#[test]
fn rule_03_digits_of_a_length() {
    let stand = Stand::new("client_max_body_size 0;");
    let table: Vec<Refused> = [
        "+5",
        "-0",
        "-5",
        "0x10",
        "0x5",
        "1_0",
        "1 0",
        "1\t0",
        "010",
        "00",
        "5.0",
        "5;x",
        "5e0",
        "\"5\"",
        "five",
        "",
        " ",
        "5\u{a0}",
        "\u{665}",
        "9223372036854775808",
        "18446744073709551616",
        "18446744073709551621",
        "99999999999999999999999999",
    ]
    .into_iter()
    .map(|value| {
        let fields = format!("Content-Length: {value}\r\n");
        (post(&fields), 400, "length_invalid")
    })
    .collect();
    stand.refuses(&table);
    let mut table: Vec<Passed> = [
        ("Content-Length:5\r\n", "hello"),
        ("Content-Length: 0\r\n", ""),
    ]
    .into_iter()
    .map(|(fields, body)| (whole(fields, body), arrives(fields, body)))
    .collect();
    // A body that never ends within the test: the answer comes first.
    let tabs = whole("Content-Length: \t 5 \t\r\n", "hello");
    table.push((tabs, arrives("Content-Length: 5\r\n", "hello")));
    let largest = "Content-Length: 9223372036854775807\r\n";
    table.push((whole(largest, "hello"), arrives(largest, "hello")));
    stand.passes(&table);
}

#[test]
fn rule_04_control_bytes() {
    let stand = Stand::new("");
    let mut table: Vec<Refused> = Vec::new();
    let controls = (0..0x20_u8).chain([0x7f]);
    for control in controls.filter(|byte| !b"\t\r\n".contains(byte)) {
        let control = char::from(control);
        for request in [
            get(&format!("X-A: a{control}b\r\n")),
            get(&format!("X-A: {control}\r\n")),
            get(&format!("X{control}A: b\r\n")),
            get(&format!("X-A{control}: b\r\n")),
            get(&format!("{control}X-A: b\r\n")),
            post(&format!("Content-Length: 5{control}\r\n")),
            post(&format!("Content-Length:{control}5\r\n")),
            post(&format!("Transfer-Encoding: chunked{control}\r\n")),
            post(&format!("Transfer-Encoding{control}: chunked\r\n")),
            format!("GET /a{control}b HTTP/1.1\r\nHost: test\r\n\r\n").into(),
            format!("GET /?a{control}b HTTP/1.1\r\nHost: test\r\n\r\n").into(),
        ] {
            table.push((request, 400, "control_byte"));
        }
    }
    table.push((
        b"GET /\ta HTTP/1.1\r\nHost: test\r\n\r\n".to_vec(),
        400,
        "control_byte",
    ));
    // a tab is a blank around a value, and nowhere else
    table.push((get("X-A\t: b\r\n"), 400, "blank_before_colon"));
    table.push((get("X\tA: b\r\n"), 400, "field_name"));
    stand.refuses(&table);
    let as_it_came = |field: &[u8]| {
        let around =
            |before: &str, after: &str| [before.as_bytes(), field, after.as_bytes()].concat();
        (
            around("GET / HTTP/1.1\r\nHost: test\r\n", "\r\n\r\n"),
            around("GET / HTTP/1.1\r\n", "\r\nHost: origin\r\n\r\n"),
        )
    };
    stand.passes(&[
        as_it_came(b"X-A: \t b\tc \t"),
        as_it_came(b"X-A:"),
        as_it_came(b"X-A: \xe9\xff\x80"),
        as_it_came("X-A: \u{20ac}\u{85}".as_bytes()),
    ]);
}

#[test]
fn rule_05_chunked_and_nothing_else() {
    let stand = Stand::new("");
    let mut table: Vec<Refused> = [
        "xchunked",
        "chunkedx",
        "chunk",
        ",chunked",
        "chunked,",
        ", chunked",
        "chunked;x=1",
        "chunked; q=0.5",
        "chunked chunked",
        "chunked, chunked",
        "\"chunked\"",
        "'chunked'",
        "identity",
        "identity, chunked",
        "chunked, identity",
        "chunked, gzip",
        "gzip",
        "br, chunked",
        "gzip, identity, chunked",
        "cow",
        "",
        "\u{a0}chunked",
        "chunked\u{a0}",
        "c\u{212a}unked",
        "chun\u{212a}ed",
    ]
    .into_iter()
    .map(|value| {
        let fields = format!("Transfer-Encoding: {value}\r\n");
        (post(&fields), 400, "coding_invalid")
    })
    .collect();
    for fields in [
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nX-A: b\r\ntransfer-encoding: gzip\r\n",
    ] {
        table.push((post(fields), 400, "coding_invalid"));
    }
    for fields in [
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: Deflate ,x-gzip,chunked\r\n",
        "Transfer-Encoding: compress, CHUNKED\r\n",
    ] {
        table.push((post(fields), 501, "coding_not_implemented"));
    }
    stand.refuses(&table);
    let table: Vec<Passed> = [
        "Transfer-Encoding: chunked\r\n",
        "transfer-ENCODING: ChunKED\r\n",
        "Transfer-Encoding:chunked\r\n",
        "Transfer-Encoding: \t chunked \t\r\n",
    ]
    .into_iter()
    .map(|fields| {
        let body = "5\r\nhello\r\n0\r\n\r\n";
        (
            whole(fields, body),
            arrives("Transfer-Encoding: chunked\r\n", body),
        )
    })
    .collect();
    stand.passes(&table);
}

#[test]
fn rule_06_no_coding_in_http_1_0_and_no_body_without_a_length() {
    let stand = Stand::new("");
    let old = |fields: &str, body: &str| format!("POST / HTTP/1.0\r\n{fields}\r\n{body}").into();
    stand.refuses(&[
        (
            old("Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            400,
            "coding_in_http_10",
        ),
        (
            old(
                "Connection: keep-alive\r\nHost: test\r\nTransfer-Encoding: chunked\r\n",
                "0\r\n\r\n",
            ),
            400,
            "coding_in_http_10",
        ),
        (
            old(
                "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                "0\r\n\r\n",
            ),
            400,
            "length_and_coding",
        ),
    ]);
    stand.passes(&[
        (
            old("Content-Length: 5\r\n", "hello"),
            arrives("Content-Length: 5\r\n", "hello"),
        ),
        // What follows is neither a body nor, where the connection does not go on, a request.
        (old("", "hello"), arrives("", "")),
        (old("", NEXT), arrives("", "")),
    ]);
    stand.nothing_was_smuggled();
    // Where it goes on, it is the next request and travels by itself.
    let mut client = Peer::connect(stand.front.addr(0));
    client.send([whole("", ""), NEXT.into()].concat());
    let mut upstream = stand.server.accept();
    let wanted = arrives("", "");
    assert_eq!(upstream.take(wanted.len()), wanted);
    assert_eq!(upstream.so_far(), "");
    upstream.send("HTTP/1.1 204 No Content\r\n\r\n");
    client.answer();
    assert_eq!(upstream.head().line(), "GET /smuggled HTTP/1.1");
}
