//! What clients see of a graceful stop while they still send.

#![allow(clippy::unwrap_used)] // a test: a panic is a failure

use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::front::{Front, eventually};
use crate::peer::Peer;

/// More than socket buffers hold at first.
const UNREAD: usize = 4_000_000;

/// A front that drains, and a client of it that has sent the beginning of `head`.
fn draining(head: &str) -> (Front, Peer) {
    let front = Front::start(
        "server { listen 127.0.0.1:0; client_max_body_size 1k; large_client_header_buffers 4 8k;
             location / { return 200 hello; }
             location /pass { proxy_pass http://127.0.0.1:9; } }",
    );
    let before = front.sockets();
    let mut client = Peer::connect(front.addr(0));
    client.send(head);
    eventually("it is accepted", || {
        (front.sockets() > before).then_some(())
    });
    front.signal(Signal::SIGQUIT);
    eventually("nobody new", || TcpStream::connect(front.addr(0)).err());
    (front, client)
}

#[test]
fn a_client_that_still_sends_gets_its_answer_whole() {
    let body = "x".repeat(UNREAD);
    for (begun, rest, status) in [
        (
            "PUT /pass HTTP/1.1\r\nHost: t\r\n",
            format!("Content-Length: {UNREAD}\r\n\r\n{body}"),
            413,
        ),
        (
            "GET / HTTP/1.1\r\nHost : t\r\n",
            format!("Content-Length: {UNREAD}\r\n\r\n{body}"),
            400,
        ),
        // The next requests came before the answer that says that there is none.
        (
            "GET / HTTP/1.1\r\nHost: t\r\n",
            format!("\r\nPUT / HTTP/1.1\r\nHost: t\r\nContent-Length: {UNREAD}\r\n\r\n{body}"),
            200,
        ),
    ] {
        let (mut front, mut client) = draining(&begun[..10]);
        // Like many a client it looks for an answer only then.
        client.send(format!("{}{rest}", &begun[10..]));
        let answer = client.answer();
        assert_eq!(answer.status(), status);
        assert_eq!(answer.head.field("connection"), Some("close"));
        let rest = client.try_rest();
        assert!(
            matches!(&rest, Ok(rest) if rest.is_empty()),
            "{status}: {rest:?}"
        );
        drop(client);
        assert_eq!(front.wait().code(), Some(0));
    }
}

#[test]
fn a_client_that_never_ceases_to_send_does_not_hold_a_stop_up() {
    let (mut front, mut client) = draining("PUT /pass ");
    client.send("HTTP/1.1\r\nHost: t\r\nContent-Length: 1000000000\r\n\r\n");
    assert_eq!(client.answer().status(), 413);
    let began = Instant::now();
    let mut bytes = 0;
    while client.try_send([b'x'; 1000]).is_ok() {
        bytes += 1000;
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(bytes > 50_000, "{bytes} bytes: it is read from for a while");
    assert_eq!(front.wait().code(), Some(0));
    let took = began.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn a_stop_shortens_what_a_client_has_left() {
    let mut front = Front::start(
        "server { listen 127.0.0.1:0; client_max_body_size 1k; location / { proxy_pass http://127.0.0.1:9; } }",
    );
    let mut client = Peer::connect(front.addr(0));
    client.send("PUT / HTTP/1.1\r\nHost: t\r\nContent-Length: 1000000\r\n\r\n");
    assert_eq!(client.answer().status(), 413);
    // It neither sends nor goes.
    let began = Instant::now();
    front.signal(Signal::SIGQUIT);
    assert_eq!(front.wait().code(), Some(0));
    let took = began.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}");
}
