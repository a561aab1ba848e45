//! Rules 31 to 34: what a server says.

use std::io::ErrorKind;
use std::time::Duration;

use super::{Stand, eventually, front, shown};
use crate::peer::{Peer, Server, numbered};

const KIB: usize = 1 << 10;

/// Fields of the server's own pass, so that responses can be compared byte for byte.
const AS_IT_CAME: &str = "proxy_pass_header Server; proxy_pass_header Date;";

/// A response that nobody asked for, behind another one.
const INJECTED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\ninjected";

/// A front for responses that break rules, and what its log says of them.
struct Bad(Stand);

impl Bad {
    fn new() -> Self {
        Self(Stand::new(""))
    }

    /// How often the log says that a server broke the rule.
    fn logged(&self, message: &str, word: &str) -> usize {
        let log = self.0.front.error_log();
        let wanted = format!(" upstream sent invalid {message} ({word})");
        let lines = log.lines().filter(|line| line.contains("upstream sent"));
        lines
            .map(|line| {
                assert!(line.contains(" [error] "), "{line}");
                usize::from(line.contains(&wanted))
            })
            .sum()
    }

    /// Once more than `before`.
    #[track_caller]
    fn logged_once(&self, message: &str, word: &str, before: usize) {
        let times = eventually(&format!("a line with {word}"), || {
            Some(self.logged(message, word)).filter(|&times| times > before)
        });
        assert_eq!(times, before + 1, "{word}");
    }

    /// Each of these, as an answer to a request of `method`, becomes 502 and one line of the log. The server's connection is
    /// closed, the client's goes on, and what is behind the response goes nowhere.
    #[track_caller]
    fn becomes_502(&self, method: &str, table: &[(String, &str)]) {
        for (response, word) in table {
            let shown = shown(response.as_bytes());
            let before = self.logged("header", word);
            let mut client = Peer::connect(self.0.front.addr(0));
            client.send(format!("{method} / HTTP/1.1\r\nHost: test\r\n\r\n"));
            let mut upstream = self.0.server.accept();
            upstream.head();
            upstream.send(format!("{response}{INJECTED}"));
            let head = client.head();
            assert_eq!(head.status(), 502, "{shown}");
            if method != "HEAD" {
                let length = head.field("content-length").expect("a length");
                let page = client.take(length.parse().expect("a length"));
                assert!(page.starts_with(b"<html>"), "{shown}");
            }
            upstream.ends();
            self.logged_once("header", word, before);
            client.send("GET /next HTTP/1.1\r\nHost: test\r\n\r\n");
            let mut upstream = self.0.server.accept();
            assert_eq!(upstream.head().line(), "GET /next HTTP/1.1", "{shown}");
            upstream.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
            assert_eq!(client.answer().status(), 204, "{shown}");
        }
    }
}

#[test]
fn rule_31_heads_of_responses() {
    let bad = Bad::new();
    let ok = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\nhello");
    let mut table: Vec<(String, &str)> = Vec::new();
    for (line, word) in [
        ("garbage", "malformed"),
        ("ICY 200 OK", "malformed"),
        ("200 OK", "http_09"),
        ("\x7f\0", "control_byte"),
        (" HTTP/1.1 200 OK", "blanks"),
        ("HTTP/1.1  200 OK", "status"),
        ("HTTP/1.1\t200 OK", "version_unknown"),
        ("HTTP/1.1", "version_unknown"),
        ("HTTP/2.0 200 OK", "version_unknown"),
        ("HTTP/1.2 200 OK", "version_unknown"),
        ("HTTP/0.9 200 OK", "version_unknown"),
        ("http/1.1 200 OK", "malformed"),
        ("HTTP/1.1 99 Low", "status"),
        ("HTTP/1.1 099 Low", "status"),
        ("HTTP/1.1 600 High", "status"),
        ("HTTP/1.1 2000 OK", "status"),
        ("HTTP/1.1 20x OK", "status"),
        ("HTTP/1.1 +20 OK", "status"),
        ("HTTP/1.1 200OK", "status"),
        ("HTTP/1.1 200\tOK", "status"),
        ("HTTP/1.1 ", "status"),
        ("HTTP/1.1 200 O\0K", "control_byte"),
        ("HTTP/1.1 200 O\x1bK", "control_byte"),
        ("HTTP/1.1 200 O\rK", "bare_cr"),
    ] {
        table.push((format!("{line}\r\nContent-Length: 5\r\n\r\nhello"), word));
    }
    // rules 1 to 5
    for (fields, word) in [
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "length_and_coding",
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
            "length_and_coding",
        ),
        (
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "length_repeated",
        ),
        (
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "length_repeated",
        ),
        ("Content-Length: 5, 5\r\n", "length_repeated"),
        ("Content-Length: five\r\n", "length_invalid"),
        ("Content-Length: +5\r\n", "length_invalid"),
        ("Content-Length: 0x5\r\n", "length_invalid"),
        ("Content-Length: 05\r\n", "length_invalid"),
        ("Content-Length: 5 5\r\n", "length_invalid"),
        ("Content-Length:\r\n", "length_invalid"),
        ("Content-Length: 9223372036854775808\r\n", "length_invalid"),
        ("Content-Length: 5\x0b\r\n", "control_byte"),
        ("X-A: a\0b\r\n", "control_byte"),
        ("X\x01A: b\r\n", "control_byte"),
        ("Transfer-Encoding: xchunked\r\n", "coding_invalid"),
        ("Transfer-Encoding: identity\r\n", "coding_invalid"),
        ("Transfer-Encoding: chunked, identity\r\n", "coding_invalid"),
        ("Transfer-Encoding:\r\n", "coding_invalid"),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "coding_invalid",
        ),
        (
            "Transfer-Encoding: gzip, chunked\r\n",
            "coding_not_implemented",
        ),
        ("Transfer-Encoding: chunked\x0b\r\n", "control_byte"),
        // rules 8 and 9
        ("Content-Length : 5\r\n", "blank_before_colon"),
        ("X-A: b\r\n folded\r\n", "folded_line"),
        ("Transfer-Encoding:\r\n chunked\r\n", "folded_line"),
        (" X-A: b\r\n", "folded_line"),
        ("X-A\r\n", "no_colon"),
        (": b\r\n", "field_name"),
        ("X A: b\r\n", "field_name"),
        ("X-A: b\nX-B: c\r\n", "bare_lf"),
        ("X-A: b\rX-B: c\r\n", "bare_cr"),
        ("X-A: b\r\r\n", "bare_cr"),
    ] {
        table.push((ok(fields), word));
    }
    let large = |number: usize| ok(&format!("X-A: {}\r\n", "x".repeat(1000)).repeat(number));
    table.push((
        ok(&format!("X-A: {}\r\n", "x".repeat(70_000))),
        "field_too_long",
    ));
    table.push((large(140), "head_too_large"));
    table.push((ok(&"X-A: b\r\n".repeat(201)), "too_many_fields"));
    table.push((
        "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello".to_owned(),
        "bare_lf",
    ));
    table.push(("\r\n\r\n\r\n".to_owned(), "empty_lines"));
    table.push((
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_owned(),
        "coding_in_http_10",
    ));
    // informational ones are judged as strictly
    table.push((
        "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
            .to_owned(),
        "length_and_coding",
    ));
    table.push((
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n".to_owned(),
        "switch_unasked",
    ));
    bad.becomes_502("GET", &table);
    // also where there is no body to frame
    let lengths = |line: &str| {
        [
            (
                "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                "length_and_coding",
            ),
            (
                "Content-Length: 5\r\nContent-Length: 5\r\n",
                "length_repeated",
            ),
            ("Content-Length: -1\r\n", "length_invalid"),
            ("Transfer-Encoding: gzip\r\n", "coding_invalid"),
        ]
        .map(|(fields, word)| (format!("HTTP/1.1 {line}\r\n{fields}\r\n"), word))
    };
    bad.becomes_502("HEAD", &lengths("200 OK"));
    bad.becomes_502("GET", &lengths("204 No Content"));
    bad.becomes_502("GET", &lengths("304 Not Modified"));
}

#[test]
fn rule_31_bodies_of_responses() {
    let bad = Bad::new();
    for (broken, word) in [
        ("g\r\n", "chunk_size"),
        ("\r\n", "chunk_size"),
        ("5 \r\nhello\r\n", "chunk_size"),
        ("0x5\r\nhello\r\n", "chunk_size"),
        ("5\nhello\r\n", "chunk_size"),
        ("00000000000000005\r\nhello\r\n", "chunk_size"),
        ("ffffffffffffffff\r\nhello\r\n", "chunk_size"),
        ("5;\r\nhello\r\n", "chunk_extension"),
        ("5;a=\"\r\n\"\r\nhello\r\n", "chunk_extension"),
        ("5\r\nhelloX\r\n", "chunk_end"),
        ("5\r\nhello\n", "chunk_end"),
        ("4\r\nhello\r\n", "chunk_end"),
        ("0\r\nX : y\r\n\r\n", "trailer"),
        ("0\r\nX: y\n\r\n", "trailer"),
        ("0\r\n\n", "trailer"),
    ] {
        let begun = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
        let rest = format!("{broken}0\r\n\r\n{INJECTED}");
        let ask = || {
            let mut client = Peer::connect(bad.0.front.addr(0));
            client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
            let mut upstream = bad.0.server.accept();
            upstream.head();
            (client, upstream)
        };

        // Together with the head: nothing was sent yet. The client's connection ends as it does below.
        let before = bad.logged("chunked response", word);
        let (mut client, mut upstream) = ask();
        upstream.send(format!("{begun}{rest}"));
        assert_eq!(client.answer().status(), 502, "{broken:?}");
        upstream.ends();
        bad.logged_once("chunked response", word, before);
        client.ends();

        // Behind it, both connections can only be closed.
        let before = bad.logged("chunked response", word);
        let (mut client, mut upstream) = ask();
        upstream.send(begun);
        client.head();
        assert_eq!(client.take(8), b"3\r\nabc\r\n");
        upstream.send(&rest);
        let got = client.rest();
        let got = String::from_utf8_lossy(&got);
        assert!(
            !got.contains("0\r\n\r\n") && !got.contains("injected"),
            "{broken:?}: {got:?}"
        );
        upstream.ends();
        bad.logged_once("chunked response", word, before);
    }
}

#[test]
fn rule_31_responses_pass_as_they_came() {
    let stand = Stand::new(AS_IT_CAME);
    let fields = "x-lower: a\r\nX-UPPER:b\r\nX-miXed:  two  blanks \r\nX-Twice: 1\r\nX-Twice: 2\r\nX-Empty:\r\n\
                  X-Latin: \u{e9}\r\nX_Under: a\r\nServer: S\r\nDate: D\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\n";
    let hop = "Connection: X-Hop, Set-Cookie, Content-Length, WWW-Authenticate\r\nX-Hop: a\r\n\
               Keep-Alive: timeout=5\r\nProxy-Connection: x\r\nTrailer: x\r\nUpgrade: h2c\r\nTE: x\r\n";
    for (said, wanted) in [
        (
            format!("HTTP/1.1 299 Any Reason, \u{e9}\r\n{fields}content-length: 5\r\n\r\nhello"),
            format!("HTTP/1.1 299 Any Reason, \u{e9}\r\n{fields}content-length: 5\r\n\r\nhello"),
        ),
        (
            format!("HTTP/1.1 200 OK\r\n{hop}{fields}Content-Length: 5\r\n\r\nhello"),
            format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 5\r\n\r\nhello"),
        ),
        (
            format!("HTTP/1.1 401 No\r\n{hop}WWW-Authenticate: NTLM\r\nContent-Length:0\r\n\r\n"),
            "HTTP/1.1 401 No\r\nWWW-Authenticate: NTLM\r\nContent-Length:0\r\n\r\n".to_owned(),
        ),
        // the reason may be missing, and its blank, too; old servers answer in 1.0, or begin with an empty line
        (
            "HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
            "HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nhello".to_owned(),
        ),
        (
            "\r\nHTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: \t5 \r\n\r\nhello".to_owned(),
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: CHUNKED\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n".to_owned(),
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_owned(),
        ),
        // a length where none is allowed would be believed by some client
        (
            "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\nX-A: b\r\n\r\n".to_owned(),
            "HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n".to_owned(),
        ),
        (
            "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
            "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
        ),
        (
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n".to_owned(),
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n".to_owned(),
        ),
    ] {
        let mut client = Peer::connect(stand.front.addr(0));
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        let mut upstream = stand.server.accept();
        upstream.head();
        upstream.send(&said);
        let got = String::from_utf8(client.take(wanted.len())).expect("text");
        assert_eq!(got, wanted);
        assert_eq!(client.so_far(), "");
        client.send("GET /next HTTP/1.1\r\nHost: test\r\n\r\n");
        // Both connections are in step, unless a body was announced where none may be.
        if said.contains(" 204 ") && said.contains("chunked") {
            upstream = stand.server.accept();
        }
        assert_eq!(upstream.head().line(), "GET /next HTTP/1.1");
        upstream.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
        assert_eq!(client.answer().status(), 204);
    }
}

#[test]
fn rule_31_a_response_without_length_ends_with_the_close() {
    let stand = Stand::new(AS_IT_CAME);
    for (version, said) in [
        ("1.1", "HTTP/1.1 200 OK\r\n\r\nhello"),
        (
            "1.1",
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nhello",
        ),
        ("1.0", "HTTP/1.1 200 OK\r\n\r\nhello"),
        (
            "1.0",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
    ] {
        let mut client = Peer::connect(stand.front.addr(0));
        client.send(format!(
            "GET / HTTP/{version}\r\nHost: test\r\nConnection: keep-alive\r\n\r\n"
        ));
        let mut upstream = stand.server.accept();
        upstream.head();
        upstream.send(said);
        upstream.finish();
        let got = String::from_utf8(client.rest()).expect("text");
        assert_eq!(got, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello");
        upstream.ends();
    }
}

#[test]
fn rule_34_a_body_that_ends_with_the_close_is_cut_by_a_reset() {
    let server = Server::bind();
    let front = front(server.addr(), "proxy_read_timeout 300ms;");
    let chunked = "Transfer-Encoding: chunked\r\n\r\n";
    for (version, said, then) in [
        // the server resets its own
        ("1.1", "\r\nhello".to_owned(), None),
        ("1.0", "\r\nhello".to_owned(), None),
        ("1.0", format!("{chunked}9\r\nhello"), None),
        // nothing more comes
        ("1.1", "\r\nhello".to_owned(), Some("")),
        ("1.0", format!("{chunked}9\r\nhello"), Some("")),
        ("1.0", format!("{chunked}5\r\nhello\r\n"), Some("0\r\n")),
        // against the rules of chunks
        ("1.0", format!("{chunked}5\r\nhello\r\n"), Some("g\r\n")),
    ] {
        let mut client = Peer::connect(front.addr(0));
        client.send(format!("GET / HTTP/{version}\r\nHost: test\r\n\r\n"));
        let mut upstream = server.accept();
        upstream.head();
        upstream.send(format!("HTTP/1.1 200 OK\r\n{said}"));
        assert_eq!(client.head().status(), 200);
        assert_eq!(client.take(5), b"hello");
        match then {
            Some(more) => upstream.send(more),
            None => {
                let socket = upstream.socket();
                socket.set_linger(Some(Duration::ZERO)).expect("an option");
            }
        }
        let kept = then.map(|_| upstream);
        let ended = client.try_rest().map_err(|error| error.kind());
        assert_eq!(
            ended,
            Err(ErrorKind::ConnectionReset),
            "{version} {said:?} {then:?}"
        );
        drop(kept);
    }
}

#[test]
fn rule_31_answers_without_a_body_leave_the_connection_in_step() {
    let server = Server::bind();
    let front = front(server.addr(), "");
    let mut client = Peer::connect(front.addr(0));
    let mut upstream = None;
    // Every one of these heads announces a body that does not come.
    for (method, answer) in [
        ("HEAD", "200 OK\r\nContent-Length: 1000"),
        ("HEAD", "200 OK\r\nTransfer-Encoding: chunked"),
        ("HEAD", "200 OK"),
        ("GET", "304 Not Modified\r\nContent-Length: 1000"),
        ("GET", "304 Not Modified\r\nTransfer-Encoding: chunked"),
        ("GET", "204 No Content"),
        ("POST", "204 No Content"),
    ] {
        client.send(format!("{method} / HTTP/1.1\r\nHost: test\r\n\r\n"));
        let upstream = upstream.get_or_insert_with(|| server.accept());
        upstream.head();
        upstream.send(format!("HTTP/1.1 {answer}\r\nX-It: this\r\n\r\n"));
        let head = client.head();
        let line = format!(
            "HTTP/1.1 {}",
            answer.split("\r\n").next().unwrap_or_default()
        );
        assert_eq!(head.line(), line);
        assert_eq!(head.field("x-it"), Some("this"));
        assert_eq!(client.so_far(), "", "{method} {answer}");
    }
    server.was_left_alone();
}

#[test]
fn rule_32_hints_pass_but_not_to_clients_of_http_1_0() {
    let server = Server::bind();
    let front = front(server.addr(), "");
    let answer = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: x\r\n\r\n\
                  HTTP/1.1 103 Early Hints\r\nLink: </b.css>\r\n\r\n\
                  HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let mut client = Peer::connect(front.addr(0));
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut upstream = server.accept();
    upstream.head();
    upstream.send(answer);
    let first = client.head();
    assert_eq!(first.text, "HTTP/1.1 103 Early Hints\r\nLink: </a.css>");
    assert_eq!(client.head().field("link"), Some("</b.css>"));
    assert_eq!(client.answer().text(), "ok");

    let mut old = Peer::connect(front.addr(0));
    old.send("GET / HTTP/1.0\r\n\r\n");
    upstream.head();
    upstream.send(answer);
    let head = old.head();
    assert_eq!(head.status(), 200);
    assert_eq!(old.rest(), b"ok");
}

#[test]
fn rule_32_hints_come_before_the_answer_is_there() {
    let server = Server::bind();
    let front = front(server.addr(), "");
    let mut client = Peer::connect(front.addr(0));
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut upstream = server.accept();
    upstream.head();
    upstream.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n");
    assert_eq!(client.head().status(), 103);
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    assert_eq!(client.answer().text(), "ok");
}

#[test]
fn rule_32_endless_informational_responses_are_a_bad_gateway() {
    let server = Server::bind();
    let front = front(server.addr(), "");
    let mut client = Peer::connect(front.addr(0));
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut upstream = server.accept();
    upstream.head();
    upstream.send("HTTP/1.1 102 Processing\r\n\r\n".repeat(17));
    for _ in 0..16 {
        assert_eq!(client.head().status(), 102);
    }
    assert_eq!(client.answer().status(), 502);
    upstream.ends();
    let logged = "upstream sent invalid header (too_many_informational) while";
    let log = front.error_log_with(logged, 1);
    assert_eq!(log.matches(logged).count(), 1);
}

#[test]
fn rule_33_bytes_that_nobody_asked_for_close_the_server_s_connection() {
    let server = Server::bind();
    let front = front(server.addr(), "");
    let mut client = Peer::connect(front.addr(0));
    let injected = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\ninjected";
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ] {
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        let mut upstream = server.accept();
        upstream.head();
        upstream.send(format!("{answer}{injected}"));
        assert_eq!(client.answer().text(), "ok");
        upstream.ends();
        assert_eq!(client.so_far(), "");
    }
    for answer in [
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\n\r\n",
    ] {
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        let mut upstream = server.accept();
        upstream.head();
        upstream.send(format!("{answer}{injected}"));
        client.answer();
        upstream.ends();
        assert_eq!(client.so_far(), "");
    }
    // On an idle connection, too.
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut upstream = server.accept();
    upstream.head();
    upstream.send("HTTP/1.1 204 No Content\r\n\r\n");
    client.answer();
    upstream.send(injected);
    upstream.ends();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut upstream = server.accept();
    upstream.head();
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine");
    assert_eq!(client.answer().text(), "mine");
}

#[test]
fn rule_34_a_body_cut_short_never_looks_complete() {
    let server = Server::bind();
    let front = front(server.addr(), "");
    let large = numbered(300 * KIB);
    // head and what is sent of the body; what arrives of it
    let chunk =
        |announced: usize, sent: &[u8]| [format!("{announced:x}\r\n").as_bytes(), sent].concat();
    let cases: [(&str, Vec<u8>); 7] = [
        ("Content-Length: 10", b"12345".to_vec()),
        ("Content-Length: 10", Vec::new()),
        ("Content-Length: 1000000", large.clone()),
        ("Transfer-Encoding: chunked", chunk(10, b"12345")),
        ("Transfer-Encoding: chunked", chunk(5, b"12345\r\n")),
        ("Transfer-Encoding: chunked", chunk(5, b"12345\r\n0\r\n")),
        ("Transfer-Encoding: chunked", chunk(1_000_000, &large)),
    ];
    for (framing, sent) in cases {
        let mut client = Peer::connect(front.addr(0));
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        let mut upstream = server.accept();
        upstream.head();
        upstream.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n"));
        upstream.send(&sent);
        upstream.finish();
        assert_eq!(client.head().status(), 200);
        let got = client.rest();
        match framing.strip_prefix("Content-Length: ") {
            Some(length) => assert!(got.len() < length.parse().expect("a length")),
            None => assert!(!got.ends_with(b"0\r\n\r\n"), "{framing}"),
        }
        upstream.ends();
    }
    let message = "upstream prematurely closed connection while reading upstream";
    let log = front.error_log_with(message, 7);
    assert_eq!(log.matches(message).count(), 7, "{log}");
}
