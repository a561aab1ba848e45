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

pub(crate) fn origin() -> Origin {
    Origin::start(OriginOptions::default()).expect("the origin starts")
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
