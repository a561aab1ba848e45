//! Requests and responses as they pass through: what is kept, dropped, held back and answered, message by message.

use std::net::SocketAddr;

use ntlm_origin::{Origin, OriginOptions};

use crate::front::{Front, eventually};
use crate::peer::{Peer, Server, alphabet, assert_same, numbered};

/// A front with one worker before one server; `location` is added to the only location.
fn front(server: SocketAddr, location: &str) -> Front {
    Front::start_main(
        "worker_processes 1;",
        &format!(
            "client_max_body_size 0; access_log logs/access.log;
             upstream origin {{ server {server}; }}
             server {{ listen 127.0.0.1:0; location / {{ proxy_pass http://origin; {location} }} }}"
        ),
    )
}

fn origin() -> Origin {
    Origin::start(OriginOptions::default()).expect("the origin starts")
}

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
fn answers_without_a_body_leave_the_connection_in_step() {
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
fn head_says_what_get_would() {
    let origin = origin();
    let front = front(origin.addr(), "");
    let mut client = Peer::connect(front.addr(0));
    client.send("HEAD /bytes/100000 HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.head().field("content-length"), Some("100000"));
    assert_same(
        &client.get("/bytes/100000").body,
        &alphabet(100_000),
        "the next answer",
    );
}

#[test]
fn early_hints_pass_but_not_to_clients_of_http_1_0() {
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
fn hints_come_before_the_answer_is_there() {
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
fn endless_informational_responses_are_a_bad_gateway() {
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
}

#[test]
fn a_body_waits_for_the_server_s_100() {
    let server = Server::bind();
    let front = front(server.addr(), "");
    let mut client = Peer::connect(front.addr(0));
    client
        .send("PUT / HTTP/1.1\r\nHost: test\r\nExpect: 100-Continue\r\nContent-Length: 5\r\n\r\n");
    let mut upstream = server.accept();
    assert!(upstream.head().has("Expect: 100-Continue"));
    assert_eq!(client.so_far(), "", "the front does not say 100 itself");
    upstream.send("HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(client.head().text, "HTTP/1.1 100 Continue");
    client.send("hello");
    assert_eq!(upstream.take(5), b"hello");
    upstream.send("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.answer().status(), 201);
    // The connections go on.
    client.send("GET /next HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(upstream.head().line(), "GET /next HTTP/1.1");
}

#[test]
fn a_final_answer_in_place_of_100_ends_the_connection() {
    let server = Server::bind();
    let front = front(server.addr(), "");
    let mut client = Peer::connect(front.addr(0));
    client
        .send("PUT / HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    let mut upstream = server.accept();
    upstream.head();
    upstream.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
    let answer = client.answer();
    assert_eq!(answer.text(), "no");
    assert_eq!(answer.head.field("connection"), Some("close"));
    // Nobody can tell whether five bytes that come now are the body.
    client.ends();
    upstream.ends();
}

#[test]
fn a_client_that_does_not_wait_for_100_keeps_its_connection() {
    let origin = origin();
    let front = front(origin.addr(), "");
    let mut client = Peer::connect(front.addr(0));
    client.send("PUT /echo HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(client.head().status(), 100);
    assert!(client.answer().text().contains("body-bytes: 5"));
    assert_eq!(client.get("/whoami").text(), "anonymous");
}

#[test]
fn pipelined_requests_are_answered_in_order_and_sent_one_by_one() {
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
fn a_hundred_pipelined_requests_are_answered_in_order() {
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
fn a_request_behind_one_that_closes_is_never_served() {
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
fn an_upgrade_becomes_a_tunnel_for_megabytes_both_ways() {
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
fn bytes_sent_before_the_101_wait_for_it() {
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
fn a_refused_upgrade_is_an_ordinary_answer() {
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
fn a_101_that_does_not_fit_the_question_is_a_bad_gateway() {
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
}

#[test]
fn an_upgrade_is_not_passed_on_unless_configured_and_h2c_never() {
    let server = Server::bind();
    let plain = front(server.addr(), "");
    let configured = upgrading_front(server.addr());
    for (front, protocol, method) in [
        (&plain, "websocket", "GET"),
        (&configured, "h2c", "GET"),
        (&configured, "websocket, h2c", "GET"),
        (&configured, "H2C", "GET"),
        (&configured, "websocket", "POST"),
    ] {
        let mut client = Peer::connect(front.addr(0));
        client.send(format!(
            "{method} / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {protocol}\r\nHTTP2-Settings: x\r\n\r\n"
        ));
        let mut upstream = server.accept();
        let head = upstream.head();
        assert_eq!(head.field("upgrade"), None, "{protocol}");
        assert_eq!(head.field("http2-settings"), None, "{protocol}");
        assert!(
            !head.text.to_lowercase().contains("upgrade"),
            "{}",
            head.text
        );
    }
}

#[test]
fn an_early_answer_arrives_and_the_body_goes_on() {
    let server = Server::bind();
    let front = front(server.addr(), "");
    let body = numbered(300_000);
    for framing in ["Content-Length: 300000", "Transfer-Encoding: chunked"] {
        let chunked = framing.starts_with('T');
        let mut client = Peer::connect(front.addr(0));
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: test\r\n{framing}\r\n\r\n"
        ));
        let mut send = |bytes: &[u8]| {
            if chunked {
                client.send(format!("{:x}\r\n", bytes.len()));
            }
            client.send(bytes);
            if chunked {
                client.send("\r\n");
            }
        };
        send(&body[..1000]);
        let mut upstream = server.accept();
        upstream.head();
        upstream.send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno");
        send(&body[1000..100_000]);
        assert_eq!(client.answer().text(), "no");
        let mut send = |bytes: &[u8]| {
            if chunked {
                client.send(format!("{:x}\r\n", bytes.len()));
            }
            client.send(bytes);
            if chunked {
                client.send("\r\n0\r\n\r\n");
            }
        };
        send(&body[100_000..]);
        let got = match chunked {
            true => upstream.chunked().data,
            false => upstream.take(body.len()),
        };
        assert_same(&got, &body, framing);
        client.send("GET /next HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_eq!(upstream.head().line(), "GET /next HTTP/1.1");
        upstream.send("HTTP/1.1 204 No Content\r\n\r\n");
        assert_eq!(client.answer().status(), 204);
    }
}

#[test]
fn a_server_that_answers_and_closes_without_reading_is_heard() {
    let origin = origin();
    let front = front(origin.addr(), "");
    for _ in 0..20 {
        let mut client = Peer::connect(front.addr(0));
        let mut sender = client.another();
        let sending = std::thread::spawn(move || {
            // How much of it goes out does not matter.
            let _ = sender.try_send(
                "POST /early-close/413 HTTP/1.1\r\nHost: test\r\nContent-Length: 4000000\r\n\r\n",
            );
            let _ = sender.try_send(numbered(4_000_000));
        });
        let answer = client.answer();
        assert_eq!(answer.status(), 413);
        assert_eq!(answer.head.field("connection"), Some("close"));
        drop(client);
        sending.join().expect("the sender");
    }
}

#[test]
fn a_client_that_leaves_while_the_server_thinks_is_noticed_at_once() {
    let server = Server::bind();
    let front = front(server.addr(), "");
    for request in [
        "GET /think HTTP/1.1\r\nHost: test\r\n\r\n",
        "POST /think HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody",
        // bytes of a next request must not hide the close
        "GET /think HTTP/1.1\r\nHost: test\r\n\r\nGET /next HTTP/1.1\r\nHost: test\r\n\r\n",
    ] {
        let before = front.access_log().lines().count();
        let mut client = Peer::connect(front.addr(0));
        client.send(request);
        let mut upstream = server.accept();
        upstream.head();
        if request.starts_with("POST") {
            upstream.take(4);
        }
        drop(client);
        upstream.ends();
        let log = eventually("the access log", || {
            Some(front.access_log()).filter(|log| log.lines().count() > before)
        });
        let line = log.lines().nth(before).unwrap_or_default();
        assert!(line.contains("/think HTTP/1.1\" 499 0 "), "{log}");
        server.was_left_alone();
    }
}

#[test]
fn a_client_that_leaves_in_the_middle_of_an_answer_is_noticed() {
    let server = Server::bind();
    let front = front(server.addr(), "");
    for framing in [
        "Content-Length: 10000000",
        "Transfer-Encoding: chunked",
        "X: y",
    ] {
        let mut client = Peer::connect(front.addr(0));
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        let mut upstream = server.accept();
        upstream.head();
        upstream.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n"));
        upstream.send("5\r\nabcde\r\n");
        client.head();
        drop(client);
        upstream.ends();
    }
}

#[test]
fn clients_of_http_1_0_get_plain_bodies_and_a_close() {
    let origin = origin();
    let front = front(origin.addr(), "");
    let mut client = Peer::connect(front.addr(0));
    client.send("GET /chunked/100000 HTTP/1.0\r\n\r\n");
    let head = client.head();
    assert_eq!(head.line(), "HTTP/1.1 200 OK");
    assert_eq!(head.field("transfer-encoding"), None);
    assert_eq!(head.field("connection"), Some("close"));
    assert_same(&client.rest(), &alphabet(100_000), "dechunked");

    let mut client = Peer::connect(front.addr(0));
    client.send("GET /bytes/10 HTTP/1.0\r\nHost: test\r\n\r\n");
    assert_eq!(client.answer().body, alphabet(10));
    client.ends();
}

#[test]
fn clients_of_http_1_0_may_keep_their_connection() {
    let server = Server::bind();
    let front = front(server.addr(), "");
    let mut client = Peer::connect(front.addr(0));
    for _ in 0..2 {
        client.send("GET / HTTP/1.0\r\nHost: test\r\nConnection: Keep-Alive\r\nExpect: 100-continue\r\n\r\n");
    }
    let mut upstream = server.accept();
    for _ in 0..2 {
        let head = upstream.head();
        assert_eq!(head.line(), "GET / HTTP/1.1");
        assert_eq!(head.field("expect"), None, "1.0 knows no 100");
        upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        let answer = client.answer();
        assert_eq!(answer.head.field("connection"), Some("keep-alive"));
        assert_eq!(answer.text(), "ok");
    }
}

#[test]
fn unix_sockets_serve_on_both_sides() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (inside, outside) = (directory.path().join("in"), directory.path().join("out"));
    let server = Server::bind_unix(&inside);
    let front = Front::start_main(
        "worker_processes 2;",
        &format!(
            "log_format who '$remote_addr|$remote_port|$server_addr|$upstream_addr|$realip_remote_addr';
             access_log logs/access.log who; client_max_body_size 0;
             upstream origin {{ server unix:{}; }}
             server {{
                 listen unix:{};
                 location / {{ proxy_pass http://origin; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }}
                 location /literal/ {{ proxy_pass http://unix:{}:/there/; }}
             }}",
            inside.display(),
            outside.display(),
            inside.display(),
        ),
    );
    let mut client = Peer::connect_unix(&outside);
    let body = numbered(100_000);
    client.send("PUT /x HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\n");
    let mut upstream = server.accept();
    let head = upstream.head();
    assert_eq!(head.field("host"), Some("origin"));
    assert_eq!(head.field("x-forwarded-for"), Some("unix:"));
    client.send(&body);
    assert_same(&upstream.take(body.len()), &body, "in");
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
    upstream.send(&body);
    assert_same(&client.answer().body, &body, "out");
    let line = eventually("the access log", || {
        Some(front.access_log()).filter(|log| log.ends_with('\n'))
    });
    let wanted = format!("unix:||unix:|unix:{}|unix:\n", inside.display());
    assert_eq!(line.replace('-', ""), wanted.replace('-', ""));

    client.send("GET /literal/y HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut literal = server.accept();
    let head = literal.head();
    assert_eq!(head.line(), "GET /there/y HTTP/1.1");
    assert_eq!(head.field("host"), Some("localhost"));
}

/// A PROXY header of version 2: TCP over IPv4.
fn proxy_v2(source: [u8; 4], port: u16) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend_from_slice(&source);
    header.extend_from_slice(&[10, 0, 0, 1]);
    header.extend_from_slice(&port.to_be_bytes());
    header.extend_from_slice(&443_u16.to_be_bytes());
    header
}

#[test]
fn the_proxy_protocol_says_who_the_client_is() {
    let server = Server::bind();
    let front = Front::start(&format!(
        "upstream origin {{ server {}; }}
         proxy_set_header X-Proxy $proxy_protocol_addr:$proxy_protocol_port>$proxy_protocol_server_addr:$proxy_protocol_server_port;
         proxy_set_header X-Client $remote_addr:$remote_port;
         server {{ listen 127.0.0.1:0 proxy_protocol; location / {{ proxy_pass http://origin; }}
                   location /real {{ set_real_ip_from 127.0.0.0/8; real_ip_header proxy_protocol; proxy_pass http://origin; }} }}",
        server.addr()
    ));
    let v1 = b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\n".to_vec();
    let v6 = b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n".to_vec();
    for (header, proxied, real) in [
        (v1, "192.0.2.7:4711>10.0.0.1:443", "192.0.2.7:4711"),
        (v6, "2001:db8::7:4711>2001:db8::1:443", "2001:db8::7:4711"),
        (
            proxy_v2([192, 0, 2, 8], 4712),
            "192.0.2.8:4712>10.0.0.1:443",
            "192.0.2.8:4712",
        ),
    ] {
        for path in ["/", "/real"] {
            let mut client = Peer::connect(front.addr(0));
            // In pieces, and the request right behind it.
            client.send(&header[..7]);
            client.send(
                [
                    &header[7..],
                    format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes(),
                ]
                .concat(),
            );
            let head = server.accept().head();
            assert_eq!(head.field("x-proxy"), Some(proxied));
            let itself = client.local_addr().to_string();
            let wanted = if path == "/" { &itself } else { real };
            assert_eq!(head.field("x-client"), Some(wanted));
        }
    }
    // A health check of the balancer itself.
    let mut client = Peer::connect(front.addr(0));
    client.send("PROXY UNKNOWN\r\nGET / HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(server.accept().head().field("x-proxy"), Some(":>:"));
    // Without a header, or with a broken one: closed, and nothing goes upstream.
    for broken in [
        "GET / HTTP/1.1\r\nHost: test\r\n\r\n",
        "PROXY TCP4 1.2.3.4 x y z\r\n",
        "\r\n\r\n\0\r\nQUIT\nxxxxxxxx",
    ] {
        let mut client = Peer::connect(front.addr(0));
        client.send(broken);
        client.ends();
    }
    server.was_left_alone();
    assert_eq!(front.error_log().matches("broken header").count(), 3);
}

#[test]
fn any_method_passes_with_its_body() {
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
fn an_absolute_target_names_the_host() {
    let server = Server::bind();
    let front = front(
        server.addr(),
        "proxy_set_header Host $host; proxy_set_header X-Host $http_host;",
    );
    let mut client = Peer::connect(front.addr(0));
    client.send("GET http://Mail.Example.com/owa/?a=b HTTP/1.1\r\nHost: mail.example.com\r\n\r\n");
    let mut upstream = server.accept();
    let head = upstream.head();
    assert_eq!(head.line(), "GET /owa/?a=b HTTP/1.1");
    assert_eq!(head.field("host"), Some("mail.example.com"));
    assert_eq!(head.fields("host").count(), 1);
    upstream.send("HTTP/1.1 204 No Content\r\n\r\n");
    client.answer();
    client.send("GET http://mail.example.com?a=b HTTP/1.1\r\nHost: mail.example.com\r\n\r\n");
    assert_eq!(upstream.head().line(), "GET /?a=b HTTP/1.1");
}

#[test]
fn heads_pass_byte_for_byte() {
    let server = Server::bind();
    let front = front(server.addr(), "proxy_set_header Host $http_host;");
    let fields = "x-lower: a\r\nX-UPPER:b\r\nX-miXed:  two  blanks \r\nX-Twice: 1\r\nX-Twice: 2\r\nX-Empty:\r\nX-Latin: \u{e9}\r\nCookie: a=b; c=d";
    let mut client = Peer::connect(front.addr(0));
    client.send(format!(
        "GET /%41/../b//c?x=%0a&y=a|b[]\u{fc} HTTP/1.1\r\nhOST: Test:8080\r\n{fields}\r\n\r\n"
    ));
    let mut upstream = server.accept();
    let head = upstream.head();
    assert_eq!(head.line(), "GET /%41/../b//c?x=%0a&y=a|b[]\u{fc} HTTP/1.1");
    assert!(
        head.text.contains(&format!("\r\n{fields}")),
        "{}",
        head.text
    );
    assert_eq!(head.field("host"), Some("Test:8080"));
    upstream.send(format!(
        "HTTP/1.1 299 Any Reason, really\r\n{fields}\r\ncontent-length: 0\r\n\r\n"
    ));
    let head = client.head();
    assert_eq!(head.line(), "HTTP/1.1 299 Any Reason, really");
    assert!(
        head.text.contains(&format!("\r\n{fields}")),
        "{}",
        head.text
    );
}

#[test]
fn hop_by_hop_fields_end_here_in_both_directions() {
    let server = Server::bind();
    let front = front(server.addr(), "");
    let mut client = Peer::connect(front.addr(0));
    client.send(
        "GET / HTTP/1.1\r\nHost: test\r\nConnection: Keep-Alive, X-Hop\r\nKeep-Alive: 300\r\nX-Hop: a\r\n\
         Proxy-Connection: keep-alive\r\nTE: trailers\r\nTrailer: x\r\nUpgrade: websocket\r\n\
         X_Under_Score: a\r\nContent_Length: 5\r\nX-Stays: b\r\n\r\n",
    );
    let mut upstream = server.accept();
    let head = upstream.head();
    let wanted = "GET / HTTP/1.1\r\nX-Stays: b\r\nHost: origin";
    assert_eq!(head.text, wanted);
    upstream.send(
        "HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: a\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\n\
         Trailer: x\r\nUpgrade: h2c\r\nX-Stays: b\r\nContent-Length: 0\r\n\r\n",
    );
    let head = client.head();
    let mut names: Vec<&str> = head
        .text
        .split("\r\n")
        .skip(1)
        .filter_map(|line| Some(line.split_once(':')?.0))
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["Content-Length", "Date", "Server", "X-Stays"]);
}

#[test]
fn connection_cannot_take_away_what_matters() {
    let server = Server::bind();
    let front = front(
        server.addr(),
        "proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header Host $host;",
    );
    let mut client = Peer::connect(front.addr(0));
    client.send(
        "POST / HTTP/1.1\r\nHost: test\r\nConnection: close, Authorization, Host, Content-Length, Cookie, X-Forwarded-For\r\n\
         Authorization: Basic YTpi\r\nCookie: a=b\r\nX-Forwarded-For: 1.2.3.4\r\nContent-Length: 4\r\n\r\nbody",
    );
    let mut upstream = server.accept();
    let head = upstream.head();
    assert_eq!(head.field("authorization"), Some("Basic YTpi"));
    assert_eq!(head.field("host"), Some("test"));
    assert_eq!(head.field("cookie"), Some("a=b"));
    assert_eq!(
        head.fields("x-forwarded-for").collect::<Vec<_>>(),
        ["127.0.0.1"]
    );
    assert_eq!(head.field("content-length"), Some("4"));
    assert_eq!(upstream.take(4), b"body");
}

#[test]
fn a_head_in_many_pieces_is_read_at_every_cut() {
    let server = Server::bind();
    let front = front(server.addr(), "");
    let mut client = Peer::connect(front.addr(0));
    for byte in "\r\nGET / HTTP/1.1\r\nHost: test\r\nX-A: b\r\n\r\n".bytes() {
        client.send([byte]);
    }
    let mut upstream = server.accept();
    assert!(upstream.head().has("X-A: b"));
    for byte in "HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 2\r\n\r\nok".bytes() {
        upstream.send([byte]);
    }
    let answer = client.answer();
    assert!(answer.head.has("X-A: b"));
    assert_eq!(answer.text(), "ok");
}

#[test]
fn large_tokens_and_large_answer_heads_pass() {
    let origin = origin();
    let front = front(origin.addr(), "");
    let mut client = Peer::connect(front.addr(0));
    let token = "x".repeat(60 << 10);
    client.send(format!(
        "GET /echo HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\n\r\n"
    ));
    let echo = client.answer().body;
    assert!(memchr::memmem::find(&echo, token.as_bytes()).is_some());
    let answer = client.get("/headers/60000");
    assert!(answer.head.text.len() > 60_000);
    // The same buffers serve the next request.
    assert_eq!(client.get("/whoami").text(), "anonymous");
}

#[test]
fn interleaved_clients_do_not_see_each_other() {
    let origin = origin();
    let front = front(origin.addr(), "");
    let mut clients: Vec<Peer> = (0..50).map(|_| Peer::connect(front.addr(0))).collect();
    for round in 0..5 {
        for (i, client) in clients.iter_mut().enumerate() {
            client.send(format!(
                "POST /echo HTTP/1.1\r\nHost: test\r\nX-Who: {i}.{round}\r\nContent-Length: {i}\r\n\r\n"
            ));
            client.send(alphabet(i));
        }
        for (i, client) in clients.iter_mut().enumerate() {
            let text = client.answer().text();
            assert!(
                text.contains(&format!("\r\nX-Who: {i}.{round}\r\n")),
                "{text}"
            );
            assert!(text.contains(&format!("body-bytes: {i}\n")), "{text}");
        }
    }
}
