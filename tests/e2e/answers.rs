//! The front's own answers: what it refuses, what it waits for and how long, and what a bad server becomes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::front::{Front, eventually};
use crate::peer::{Peer, Server, numbered};
use crate::prefix::free_address;

/// A front with one worker before one server; `more` is added to the http context.
fn front(server: SocketAddr, more: &str) -> Front {
    Front::start_main(
        "worker_processes 1;",
        &format!(
            "access_log logs/access.log; {more}
             upstream origin {{ server {server}; }}
             server {{ listen 127.0.0.1:0; location / {{ proxy_pass http://origin; }} }}"
        ),
    )
}

/// nginx's plain page.
pub(crate) fn page(status: &str) -> String {
    let server = concat!("ntlmfront/", env!("CARGO_PKG_VERSION"));
    format!(
        "<html>\r\n<head><title>{status}</title></head>\r\n<body>\r\n<center><h1>{status}</h1></center>\r\n\
         <hr><center>{server}</center>\r\n</body>\r\n</html>\r\n"
    )
}

#[test]
fn refused_requests_are_answered_with_plain_pages() {
    let server = Server::bind();
    let front = front(server.addr(), "");
    let long = format!("GET /{} HTTP/1.1", "x".repeat(70_000));
    let lines = [
        ("GET / HTTP/1.1.1", "400 Bad Request"),
        ("CONNECT a:443 HTTP/1.1", "405 Not Allowed"),
        (&long, "414 Request-URI Too Large"),
        ("GET / HTTP/1.2", "505 HTTP Version Not Supported"),
    ];
    let ask = |line: &str, fields: &str| {
        let mut client = Peer::connect(front.addr(0));
        client.send(format!("{line}\r\nHost: test\r\n{fields}\r\n"));
        let answer = client.answer();
        assert_eq!(answer.head.field("content-type"), Some("text/html"));
        answer
    };
    for (line, status) in lines {
        let answer = ask(line, "");
        assert_eq!(answer.head.line(), format!("HTTP/1.1 {status}"));
        assert_eq!(answer.text(), page(status));
    }
    for (fields, status) in [
        ("Expect: 200-ok\r\n", "417 Expectation Failed"),
        (
            "Transfer-Encoding: gzip, chunked\r\n",
            "501 Not Implemented",
        ),
    ] {
        let answer = ask("GET / HTTP/1.1", fields);
        assert_eq!(answer.head.line(), format!("HTTP/1.1 {status}"));
        assert_eq!(answer.text(), page(status));
    }
    let answer = ask("GET / HTTP/1.1", &"X-A: b\r\n".repeat(100));
    assert_eq!(
        answer.head.line(),
        "HTTP/1.1 431 Request Header Fields Too Large"
    );
    let title = "<title>431 Request Header Or Cookie Too Large</title>";
    assert!(answer.text().contains(title));
    let log = eventually("the access log", || {
        Some(front.access_log()).filter(|log| log.lines().count() == 7)
    });
    assert!(log.contains("\"GET / HTTP/1.2\" 505 "), "{log}");
}

#[test]
fn head_gets_the_head_of_an_error_page_only() {
    let front = front(free_address(), "");
    let mut client = Peer::connect(front.addr(0));
    client.send("HEAD / HTTP/1.1\r\nHost: test\r\n\r\n");
    let head = client.head();
    assert_eq!(head.status(), 502);
    let length = page("502 Bad Gateway").len().to_string();
    assert_eq!(head.field("content-length"), Some(&*length));
    assert_eq!(client.get("/").status(), 502);
}

/// How long something took, which must not be less than a timeout says.
pub(crate) fn not_before(began: Instant, timeout: Duration) {
    let took = began.elapsed();
    assert!(took + Duration::from_millis(5) >= timeout, "after {took:?}");
}

pub(crate) const SHORT: Duration = Duration::from_millis(300);

#[test]
fn a_client_that_takes_nothing_is_given_up() {
    let server = Server::bind();
    let front = front(server.addr(), "send_timeout 300ms;");
    for framing in ["Content-Length: 100000000\r\n", ""] {
        let mut client = Peer::connect(front.addr(0));
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        let mut upstream = server.accept();
        upstream.head();
        upstream.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n"));
        let piece = numbered(1 << 20);
        // The server fails to send when the front has closed.
        let gone = (0..100).any(|_| upstream.try_send(&piece).is_err());
        assert!(gone);
    }
    let message = "client timed out (110: Connection timed out) while sending to client";
    let log = front.error_log_with(message, 2);
    assert_eq!(log.matches(message).count(), 2);
}

#[test]
fn a_server_that_keeps_sending_has_time() {
    let server = Server::bind();
    let front = front(server.addr(), "proxy_read_timeout 1s;");
    let mut client = Peer::connect(front.addr(0));
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut upstream = server.accept();
    upstream.head();
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n");
    client.head();
    // In all, longer than the timeout.
    for _ in 0..12 {
        upstream.send("x");
        assert_eq!(client.take(1), b"x");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(client.so_far(), "");
}

#[test]
fn an_upload_does_not_count_against_the_answer_s_time() {
    let server = Server::bind();
    let front = front(server.addr(), "proxy_read_timeout 1s;");
    let mut client = Peer::connect(front.addr(0));
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 12\r\n\r\n");
    let mut upstream = server.accept();
    upstream.head();
    for _ in 0..12 {
        client.send("x");
        assert_eq!(upstream.take(1), b"x");
        std::thread::sleep(Duration::from_millis(100));
    }
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    assert_eq!(client.answer().text(), "ok");
}

#[test]
fn an_idle_client_connection_ends_in_time() {
    let server = Server::bind();
    let front = front(server.addr(), "keepalive_timeout 300ms 7s;");
    let mut client = Peer::connect(front.addr(0));
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut upstream = server.accept();
    upstream.head();
    upstream.send("HTTP/1.1 204 No Content\r\n\r\n");
    let answer = client.answer();
    assert_eq!(answer.head.field("keep-alive"), Some("timeout=7"));
    let began = Instant::now();
    client.ends();
    not_before(began, SHORT - Duration::from_millis(100));
    assert_eq!(upstream.so_far(), "", "the server's connection stays");
    upstream.send("x");
    upstream.ends();
}

#[test]
fn client_connections_end_after_their_requests() {
    let server = Server::bind();
    let counted = front(server.addr(), "keepalive_requests 3;");
    let once = front(server.addr(), "keepalive_timeout 0;");
    for (front, requests) in [(&counted, 3), (&once, 1)] {
        let mut client = Peer::connect(front.addr(0));
        let mut upstream = None;
        for i in 1..=requests {
            client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
            let upstream = upstream.get_or_insert_with(|| server.accept());
            upstream.head();
            upstream.send("HTTP/1.1 204 No Content\r\n\r\n");
            let close = client.answer().head.field("connection").map(str::to_owned);
            assert_eq!(close.is_some(), i == requests, "request {i}");
        }
        client.ends();
    }
}

#[test]
fn an_idle_tunnel_ends_in_time() {
    let server = Server::bind();
    let front = front(
        server.addr(),
        "proxy_read_timeout 1s; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;",
    );
    let mut client = Peer::connect(front.addr(0));
    client.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    let mut upstream = server.accept();
    upstream.head();
    upstream.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    client.head();
    // While either side talks, it stays.
    for from_client in [true, false] {
        let (from, to) = if from_client {
            (&mut client, &mut upstream)
        } else {
            (&mut upstream, &mut client)
        };
        for _ in 0..12 {
            from.send("x");
            assert_eq!(to.take(1), b"x");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    client.ends();
    upstream.ends();
}
