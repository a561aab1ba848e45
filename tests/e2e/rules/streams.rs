//! Rules 24 to 27: bodies framed anew, and the requests behind them.

use super::{NEXT, Passed, Stand, front};
use crate::messages::origin;
use crate::peer::{Peer, Server, alphabet, assert_same, numbered};

const MIB: usize = 1 << 20;

const LARGE: &str = "client_max_body_size 0;";

#[test]
fn rule_24_chunks_of_one_byte_with_extensions_and_trailers_become_a_plain_body() {
    let server = Server::bind();
    let front = front(server.addr(), "");
    let mut client = Peer::connect(front.addr(0));
    client.send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: Chunked\r\n\r\n");
    let body = numbered(3000);
    let mut framed = Vec::new();
    for (i, byte) in body.iter().enumerate() {
        let extension = if i % 50 == 0 { ";name=\"a;b\"" } else { "" };
        framed.extend_from_slice(format!("1{extension}\r\n").as_bytes());
        framed.push(*byte);
        framed.extend_from_slice(b"\r\n");
    }
    framed.extend_from_slice(b"000;last\r\nX-Trailer: dropped\r\nAuthorization: NTLM x\r\n\r\n");
    client.send(&framed);
    let mut upstream = server.accept();
    let head = upstream.head();
    assert!(head.has("Transfer-Encoding: chunked"), "{}", head.text);
    let got = upstream.chunked();
    assert_same(&got.data, &body, "upstream");

    // The same on the way back.
    upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    upstream.send(&framed);
    let answer = client.head();
    assert!(answer.has("Transfer-Encoding: chunked"), "{}", answer.text);
    assert_same(&client.chunked().data, &body, "to the client");

    // Nothing of it is left on either connection.
    client.send("GET /next HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(upstream.head().line(), "GET /next HTTP/1.1");
    upstream.send("HTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(client.answer().status(), 204);
}

#[test]
fn rule_24_large_chunks_are_framed_anew() {
    let server = Server::bind();
    let front = front(server.addr(), LARGE);
    let mut client = Peer::connect(front.addr(0));
    let body = numbered(5 * MIB);
    let mut sender = client.another();
    let sent = body.clone();
    let sending = std::thread::spawn(move || {
        sender.send("PUT / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
        // Large and small ones by turns: into a pipe, and through the buffer.
        let mut rest = &sent[..];
        for size in [700_000, 3, 40_000, 32_767, 32_768, 2 * MIB]
            .into_iter()
            .cycle()
        {
            let chunk = &rest[..size.min(rest.len())];
            rest = &rest[chunk.len()..];
            sender.send(format!("{:X};ext\r\n", chunk.len()));
            sender.send(chunk);
            sender.send("\r\n");
            if rest.is_empty() {
                break;
            }
        }
        sender.send("0\r\n\r\n");
    });
    let mut upstream = server.accept();
    upstream.head();
    let got = upstream.chunked();
    sending.join().expect("the sender");
    assert_same(&got.data, &body, "upstream");
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    assert_eq!(client.answer().text(), "ok");
}

#[test]
fn rule_27_pipelined_requests_are_answered_in_order_and_sent_one_by_one() {
    let server = Server::bind();
    let front = front(server.addr(), "");
    let mut client = Peer::connect(front.addr(0));
    client.send(
        "POST /1 HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\noneGET /2 HTTP/1.1\r\nHost: test\r\n\r\n\
         POST /3 HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nthree\r\n0\r\n\r\n\
         GET /4 HTTP/1.1\r\nHost: test\r\n\r\nGET /5 HTTP",
    );
    let mut upstream = server.accept();
    assert_eq!(upstream.head().line(), "POST /1 HTTP/1.1");
    assert_eq!(upstream.take(3), b"one");
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nON");
    client.head();
    assert_eq!(client.take(2), b"ON");
    assert_eq!(upstream.so_far(), "", "the first answer is not complete");
    server.was_left_alone();
    upstream.send("E");
    assert_eq!(client.take(1), b"E");
    assert_eq!(upstream.head().line(), "GET /2 HTTP/1.1");
    assert_eq!(upstream.so_far(), "");
    upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nTWO\r\n0\r\n\r\n");
    assert_eq!(client.answer().text(), "TWO");
    assert_eq!(upstream.head().line(), "POST /3 HTTP/1.1");
    assert_eq!(upstream.chunked().data, b"three");
    upstream.send("HTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(client.answer().status(), 204);
    assert_eq!(upstream.head().line(), "GET /4 HTTP/1.1");
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nFOUR");
    assert_eq!(client.answer().text(), "FOUR");
    client.send("/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(upstream.head().line(), "GET /5 HTTP/1.1");
    server.was_left_alone();
}

#[test]
fn rule_27_a_hundred_pipelined_requests_are_answered_in_order() {
    let origin = origin();
    let front = front(origin.addr(), "");
    let mut client = Peer::connect(front.addr(0));
    let requests: String = (0..100)
        .map(|i| format!("GET /bytes/{i} HTTP/1.1\r\nHost: test\r\n\r\n"))
        .collect();
    client.send(requests);
    for i in 0..100 {
        assert_eq!(client.answer().body, alphabet(i));
    }
}

#[test]
fn rule_27_a_request_behind_one_that_closes_is_never_served() {
    let server = Server::bind();
    let front = front(server.addr(), "");
    let mut client = Peer::connect(front.addr(0));
    client.send(
        "GET /1 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\nGET /2 HTTP/1.1\r\nHost: test\r\n\r\n",
    );
    let mut upstream = server.accept();
    assert_eq!(upstream.head().line(), "GET /1 HTTP/1.1");
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let answer = client.answer();
    assert_eq!(answer.head.field("connection"), Some("close"));
    assert_eq!(client.rest(), b"", "a clean end, not a reset");
    assert_eq!(upstream.so_far(), "");
    server.was_left_alone();
}

#[test]
fn rule_25_what_is_left_of_a_body_is_not_the_next_request() {
    let server = Server::bind();
    let front = front(server.addr(), "");
    for (framing, first, rest) in [
        ("Content-Length: 10", "0123", "456789"),
        ("Content-Length: 2", "01", ""),
        (
            "Transfer-Encoding: chunked",
            "a\r\n0123",
            "456789\r\n0\r\n\r\n",
        ),
        ("Transfer-Encoding: chunked", "2\r\n01\r\n0\r\n\r\n", ""),
    ] {
        let mut client = Peer::connect(front.addr(0));
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: test\r\n{framing}\r\n\r\n{first}"
        ));
        let mut upstream = server.accept();
        upstream.head();
        upstream.until(b"01");
        // The server goes away in the middle of it.
        drop(upstream);
        client.send(format!("{rest}GET /next HTTP/1.1\r\nHost: test\r\n\r\n"));
        assert_eq!(client.answer().status(), 502, "{framing} {first:?}");
        let mut upstream = server.accept();
        assert_eq!(upstream.head().line(), "GET /next HTTP/1.1");
        upstream.send("HTTP/1.1 204 No Content\r\n\r\n");
        assert_eq!(client.answer().status(), 204);
        drop(upstream);
    }
}

#[test]
fn rule_26_any_method_passes_with_its_body() {
    let origin = origin();
    let front = front(origin.addr(), "");
    let mut client = Peer::connect(front.addr(0));
    for method in [
        "GET",
        "DELETE",
        "OPTIONS",
        "PATCH",
        "PROPFIND",
        "PROPPATCH",
        "MKCOL",
        "LOCK",
        "UNLOCK",
        "SEARCH",
        "SUBSCRIBE",
        "X-MS-ENUMATTS",
        "get",
        "TRACE",
    ] {
        client.send(format!(
            "{method} /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\nDepth: 0\r\n\r\nbody"
        ));
        let text = client.answer().text();
        assert!(
            text.starts_with(&format!("{method} /echo HTTP/1.1\r\n")),
            "{text}"
        );
        assert!(
            text.contains("\r\nDepth: 0\r\n") && text.contains("body-bytes: 4\n"),
            "{text}"
        );
    }
    client.send("OPTIONS * HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.answer().status(), 404, "the origin knows no *");
    assert!(origin.log().iter().any(|entry| entry.path == "*"));
}

#[test]
fn rule_26_bodies_of_any_method_keep_their_framing() {
    let stand = Stand::new("");
    let table: Vec<Passed> = ["GET", "HEAD", "DELETE", "OPTIONS", "PROPFIND", "X"]
        .into_iter()
        .flat_map(|method| {
            [
                ("Content-Length: 5\r\n", "hello"),
                ("Content-Length: 0\r\n", ""),
                ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
                ("Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
                ("", ""),
            ]
            .map(|(framing, body)| {
                let start = format!("{method} / HTTP/1.1\r\n");
                let asked = format!("{start}Host: test\r\n{framing}\r\n{body}");
                let seen = format!("{start}{framing}Host: origin\r\n\r\n{body}");
                (asked.into_bytes(), seen.into_bytes())
            })
        })
        .collect();
    stand.passes(&table);
}

#[test]
fn rule_27_a_refused_request_waits_for_the_answer_before_it() {
    let stand = Stand::new("");
    let mut client = Peer::connect(stand.front.addr(0));
    client.send(format!(
        "GET /1 HTTP/1.1\r\nHost: test\r\n\r\nGET /2 HTTP/1.1\r\nHost: a, b\r\n\r\n{NEXT}"
    ));
    let mut upstream = stand.server.accept();
    assert_eq!(upstream.head().line(), "GET /1 HTTP/1.1");
    assert_eq!(client.so_far(), "");
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none");
    assert_eq!(client.answer().text(), "one");
    stand.is_refused(&mut client, 400, "behind another");
    stand.logged_once(0, "host_invalid", "behind another");
    assert_eq!(upstream.so_far(), "");
    stand.server.was_left_alone();
    stand.nothing_was_smuggled();
}
