//! Rule 29: upgrades, and the tunnels that they become.

use std::net::SocketAddr;

use super::front;
use crate::front::{Front, eventually};
use crate::messages::origin;
use crate::peer::{Peer, Server, assert_same, numbered};

const UPGRADE: &str =
    "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;";

/// A front that passes upgrades on, as nginx's documentation configures it.
fn upgrading_front(server: SocketAddr) -> Front {
    Front::start_main(
        "worker_processes 1;",
        &format!(
            "map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
             access_log logs/access.log;
             upstream origin {{ server {server}; }}
             server {{ listen 127.0.0.1:0; location / {{ proxy_pass http://origin; {UPGRADE} }} }}"
        ),
    )
}

const ASK_UPGRADE: &str =
    "GET /upgrade HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: Echo/1\r\n\r\n";

#[test]
fn rule_29_a_tunnel_for_megabytes_both_ways() {
    let origin = origin();
    let front = upgrading_front(origin.addr());
    let mut client = Peer::connect(front.addr(0));
    client.send(ASK_UPGRADE);
    let head = client.head();
    assert_eq!(head.status(), 101);
    assert_eq!(head.field("upgrade"), Some("Echo/1"));
    assert_eq!(head.field("connection"), Some("upgrade"));
    client.send("first");
    assert_eq!(client.take(5), b"first");
    let body = numbered(8 << 20);
    let mut sender = client.another();
    let sent = body.clone();
    let sending = std::thread::spawn(move || sender.send(&sent));
    assert_same(&client.take(body.len()), &body, "through the tunnel");
    sending.join().expect("the sender");
    client.send("last");
    assert_eq!(client.take(4), b"last");
    drop(client);
    eventually("the tunnel ends at the server", || {
        (origin.connections() == 0).then_some(())
    });
    let log = eventually("the access log", || {
        Some(front.access_log()).filter(|log| !log.is_empty())
    });
    assert!(log.contains("\" 101 8388617 "), "{log}");
}

#[test]
fn rule_29_bytes_sent_before_the_101_wait_for_it() {
    let server = Server::bind();
    let front = upgrading_front(server.addr());
    let mut client = Peer::connect(front.addr(0));
    client.send([ASK_UPGRADE.as_bytes(), b"early bytes"].concat());
    let mut upstream = server.accept();
    let head = upstream.head();
    assert!(
        head.has("Upgrade: Echo/1") && head.has("Connection: upgrade"),
        "{}",
        head.text
    );
    client.send(", and more");
    assert_eq!(upstream.so_far(), "", "before the tunnel is there");
    upstream.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: Echo/1\r\nConnection: Upgrade\r\n\r\nearly answer");
    assert_eq!(client.head().status(), 101);
    assert_eq!(client.take(12), b"early answer");
    assert_eq!(upstream.take(21), b"early bytes, and more");
    // The server ends it.
    upstream.send("bye");
    drop(upstream);
    assert_eq!(client.rest(), b"bye");
}

#[test]
fn rule_29_a_refused_upgrade_is_an_ordinary_answer() {
    let server = Server::bind();
    let front = upgrading_front(server.addr());
    let mut client = Peer::connect(front.addr(0));
    client.send(ASK_UPGRADE);
    let mut upstream = server.accept();
    upstream.head();
    upstream.send("HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\nUpgrade: other\r\n\r\nno");
    assert_eq!(client.answer().text(), "no");
    client.send("GET /next HTTP/1.1\r\nHost: test\r\n\r\n");
    let head = upstream.head();
    assert_eq!(head.line(), "GET /next HTTP/1.1");
    assert_eq!(head.field("upgrade"), None);
}

#[test]
fn rule_29_a_101_that_does_not_fit_the_question_is_a_bad_gateway() {
    let server = Server::bind();
    let front = upgrading_front(server.addr());
    for (request, answer) in [
        // nobody asked
        (
            "GET / HTTP/1.1\r\nHost: test\r\n\r\n",
            "Upgrade: Echo/1\r\nConnection: upgrade",
        ),
        // without a protocol
        (ASK_UPGRADE, "Connection: upgrade"),
        // another one
        (ASK_UPGRADE, "Upgrade: other\r\nConnection: upgrade"),
    ] {
        let mut client = Peer::connect(front.addr(0));
        client.send(request);
        let mut upstream = server.accept();
        upstream.head();
        upstream.send(format!(
            "HTTP/1.1 101 Switching Protocols\r\n{answer}\r\n\r\n"
        ));
        assert_eq!(client.answer().status(), 502, "{answer}");
        upstream.ends();
    }
    let logged = "upstream sent invalid header (switch_unasked) while reading response header";
    let log = front.error_log_with(logged, 3);
    assert_eq!(log.matches(logged).count(), 3);
}

#[test]
fn rule_29_not_passed_on_unless_configured_and_h2c_never() {
    let server = Server::bind();
    let plain = front(server.addr(), "");
    let configured = upgrading_front(server.addr());
    let asked =
        |protocol: &str| format!("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: {protocol}\r\n");
    for (front, line, fields) in [
        (&plain, "GET / HTTP/1.1", asked("websocket")),
        (&configured, "GET / HTTP/1.1", asked("h2c")),
        (&configured, "GET / HTTP/1.1", asked("H2C")),
        (&configured, "GET / HTTP/1.1", asked("h2c-14")),
        (&configured, "GET / HTTP/1.1", asked("websocket, h2c")),
        (
            &configured,
            "GET / HTTP/1.1",
            asked("websocket\r\nUpgrade: h2c"),
        ),
        (
            &configured,
            "GET / HTTP/1.1",
            asked("h2c\r\nUpgrade: websocket"),
        ),
        (&configured, "GET / HTTP/1.1", asked("")),
        // not asked of this server
        (
            &configured,
            "GET / HTTP/1.1",
            "Upgrade: websocket\r\n".to_owned(),
        ),
        (
            &configured,
            "GET / HTTP/1.1",
            "Connection: keep-alive\r\nUpgrade: websocket\r\n".to_owned(),
        ),
        // not by a GET without a body, or not in 1.1
        (&configured, "POST / HTTP/1.1", asked("websocket")),
        (&configured, "HEAD / HTTP/1.1", asked("websocket")),
        (&configured, "get / HTTP/1.1", asked("websocket")),
        (&configured, "GET / HTTP/1.0", asked("websocket")),
        (
            &configured,
            "GET / HTTP/1.1",
            asked("websocket\r\nContent-Length: 5"),
        ),
        (
            &configured,
            "GET / HTTP/1.1",
            asked("websocket\r\nTransfer-Encoding: chunked"),
        ),
    ] {
        let mut client = Peer::connect(front.addr(0));
        let body = if fields.contains("Content-Length") {
            "hello"
        } else if fields.contains("chunked") {
            "0\r\n\r\n"
        } else {
            ""
        };
        client.send(format!(
            "{line}\r\nHost: test\r\n{fields}HTTP2-Settings: x\r\n\r\n{body}"
        ));
        let mut upstream = server.accept();
        let head = upstream.head();
        assert_eq!(head.field("http2-settings"), None, "{line} {fields}");
        assert!(
            !head.text.to_lowercase().contains("upgrade"),
            "{line} {fields}: {}",
            head.text
        );
        // So that a 101 would be an answer to nothing.
        upstream.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        );
        assert_eq!(client.head().status(), 502, "{line} {fields}");
        assert_eq!(upstream.rest(), body.as_bytes(), "{line} {fields}");
    }
    server.was_left_alone();
}
