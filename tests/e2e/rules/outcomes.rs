//! Rule 35: what a client is told when there is no answer to relay.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::front;
use crate::answers::{SHORT, not_before, page};
use crate::peer::{Peer, Server, numbered};
use crate::prefix::free_address;

#[test]
fn rule_35_an_unreachable_server_is_502() {
    let front = front(free_address(), "");
    let mut client = Peer::connect(front.addr(0));
    for _ in 0..2 {
        let answer = client.get("/");
        assert_eq!(answer.head.line(), "HTTP/1.1 502 Bad Gateway");
        assert_eq!(answer.text(), page("502 Bad Gateway"));
        assert_eq!(
            answer.head.field("connection"),
            None,
            "the client did nothing wrong"
        );
    }
    front.error_log_with("connect() failed (111: Connection refused) while connecting to upstream, client: 127.0.0.1, server: , request: \"GET / HTTP/1.1\", upstream: \"http://", 2);
}

#[test]
fn rule_35_a_server_that_closes_without_an_answer_is_502() {
    let server = Server::bind();
    let front = front(server.addr(), "");
    for said in ["", "HTTP/1.1 200 OK\r\nContent-Le"] {
        let mut client = Peer::connect(front.addr(0));
        client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\nhi");
        let mut upstream = server.accept();
        upstream.head();
        upstream.take(2);
        upstream.send(said);
        drop(upstream);
        assert_eq!(client.answer().status(), 502);
    }
    let message =
        "upstream prematurely closed connection while reading response header from upstream";
    assert_eq!(front.error_log_with(message, 2).matches(message).count(), 2);
}

#[test]
fn rule_35_a_server_that_does_not_accept_in_time_is_504() {
    // A full backlog: the kernel answers no further SYN.
    let listener =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    listener
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .expect("a port");
    listener.listen(0).expect("a listener");
    let addr = listener
        .local_addr()
        .expect("an address")
        .as_socket()
        .expect("an address");
    let fill: Vec<_> = (0..4)
        .map(|_| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)
                .expect("a socket");
            socket.set_nonblocking(true).expect("a non-blocking socket");
            let _ = socket.connect(&addr.into());
            socket
        })
        .collect();
    let front = front(addr, "proxy_connect_timeout 300ms;");
    let mut client = Peer::connect(front.addr(0));
    let began = Instant::now();
    let answer = client.get("/");
    not_before(began, SHORT);
    assert_eq!(answer.text(), page("504 Gateway Time-out"));
    let message = "upstream timed out (110: Connection timed out) while connecting to upstream";
    front.error_log_with(message, 1);
    drop(fill);
}

#[test]
fn rule_35_a_server_that_does_not_answer_in_time_is_504() {
    let server = Server::bind();
    let front = front(server.addr(), "proxy_read_timeout 300ms;");
    let mut client = Peer::connect(front.addr(0));
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut upstream = server.accept();
    upstream.head();
    let began = Instant::now();
    let answer = client.answer();
    not_before(began, SHORT - Duration::from_millis(100));
    assert_eq!(answer.text(), page("504 Gateway Time-out"));
    upstream.ends();
    // In the middle of a body it can only be cut.
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut upstream = server.accept();
    upstream.head();
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
    client.head();
    assert_eq!(client.rest(), b"half");
    upstream.ends();
    for reading in ["response header from upstream", "upstream"] {
        let message =
            format!("upstream timed out (110: Connection timed out) while reading {reading}");
        front.error_log_with(&message, 1);
    }
}

#[test]
fn rule_35_a_server_that_does_not_read_is_504() {
    let server = Server::bind();
    let front = front(
        server.addr(),
        "proxy_send_timeout 300ms; client_max_body_size 0;",
    );
    let mut client = Peer::connect(front.addr(0));
    let mut sender = client.another();
    let sending = std::thread::spawn(move || {
        let _ =
            sender.try_send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100000000\r\n\r\n");
        let piece = numbered(1 << 20);
        let _ = (0..96).try_for_each(|_| sender.try_send(&piece));
    });
    let upstream = server.accept();
    let answer = client.answer();
    assert_eq!(answer.status(), 504);
    assert_eq!(
        answer.head.field("connection"),
        Some("close"),
        "the body is still coming"
    );
    drop(client);
    drop(upstream);
    sending.join().expect("the sender");
}

#[test]
fn rule_35_a_body_larger_than_allowed_is_413() {
    let server = Server::bind();
    let front = front(server.addr(), "client_max_body_size 100k;");
    // By its length, nothing of it goes upstream.
    let mut client = Peer::connect(front.addr(0));
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 102401\r\n\r\n");
    let answer = client.answer();
    assert_eq!(answer.text(), page("413 Request Entity Too Large"));
    assert_eq!(answer.head.field("connection"), Some("close"));
    client.send(numbered(50_000));
    assert_eq!(client.rest(), b"");
    server.was_left_alone();
    // In chunks it shows on the way: the server never gets the end, nor more than allowed.
    for chunk in [1000, 102_401] {
        let mut client = Peer::connect(front.addr(0));
        let mut sender = client.another();
        let sending = std::thread::spawn(move || {
            let _ = sender
                .try_send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
            let mut left = 102_401;
            while left > 0 {
                let n = left.min(chunk);
                let _ = sender.try_send(format!("{n:x}\r\n"));
                let _ = sender.try_send(numbered(n));
                let _ = sender.try_send("\r\n");
                left -= n;
            }
            let _ = sender.try_send("0\r\n\r\n");
        });
        let mut upstream = server.accept();
        upstream.head();
        let got = upstream.rest();
        assert!(!got.ends_with(b"0\r\n\r\n"));
        assert!(got.len() < 105_000, "{}", got.len());
        assert_eq!(client.answer().status(), 413);
        sending.join().expect("the sender");
    }
    // Exactly as much is fine.
    let mut client = Peer::connect(front.addr(0));
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 102400\r\n\r\n");
    client.send(numbered(102_400));
    let mut upstream = server.accept();
    upstream.head();
    assert_eq!(upstream.take(102_400), numbered(102_400));
    front.error_log_with("client intended to send too large body: 102401 bytes", 1);
}

#[test]
fn rule_35_a_head_has_to_come_in_time() {
    let server = Server::bind();
    let front = front(server.addr(), "client_header_timeout 300ms;");
    // Nothing at all: closed without a word.
    let began = Instant::now();
    let mut silent = Peer::connect(front.addr(0));
    silent.ends();
    not_before(began, SHORT);
    // A part of it: 408. Sending a little now and then does not help.
    let began = Instant::now();
    let mut slow = Peer::connect(front.addr(0));
    slow.send("GET / HTTP/1.1\r\nHost: test\r\nX-A: ");
    let mut dripping = slow.another();
    let drops = std::thread::spawn(move || {
        for _ in 0..100 {
            if dripping.try_send("x").is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Instant::now()
    });
    let answer = slow.answer();
    not_before(began, SHORT);
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(answer.text(), page("408 Request Time-out"));
    assert_eq!(answer.head.field("connection"), Some("close"));
    drop(slow);
    drops.join().expect("the sender");
    server.was_left_alone();
}

#[test]
fn rule_35_a_body_has_to_come_in_time() {
    let server = Server::bind();
    let front = front(server.addr(), "client_body_timeout 300ms;");
    for framing in [
        "Content-Length: 100",
        "Content-Length: 500000",
        "Transfer-Encoding: chunked",
    ] {
        let mut client = Peer::connect(front.addr(0));
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: test\r\n{framing}\r\n\r\n"
        ));
        let mut upstream = server.accept();
        upstream.head();
        let began = Instant::now();
        client.send("1\r\na\r\n");
        let answer = client.answer();
        not_before(began, SHORT);
        assert_eq!(answer.text(), page("408 Request Time-out"));
        assert_eq!(answer.head.field("connection"), Some("close"));
        let got = upstream.rest();
        assert!(got.len() < 20 && !got.ends_with(b"0\r\n\r\n"));
    }
}

#[test]
fn rule_35_an_empty_line_begins_no_request() {
    let server = Server::bind();
    let front = front(
        server.addr(),
        "client_header_timeout 300ms; keepalive_timeout 2s;",
    );
    let mut client = Peer::connect(front.addr(0));
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\nhi\r\n");
    let mut upstream = server.accept();
    upstream.head();
    upstream.send("HTTP/1.1 204 No Content\r\n\r\n");
    let began = Instant::now();
    assert_eq!(client.answer().status(), 204);
    // Its connection is idle, and ends like any other: an answer to nothing would be taken for that of the next request.
    client.ends();
    not_before(began, Duration::from_millis(1900));
}
