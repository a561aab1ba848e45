//! The front's own answers: what it refuses, what it waits for and how long, and what a bad server becomes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::front::{Front, eventually};
use crate::peer::{Peer, Server, numbered};

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
fn page(status: &str) -> String {
    let server = concat!("ntlmfront/", env!("CARGO_PKG_VERSION"));
    format!(
        "<html>\r\n<head><title>{status}</title></head>\r\n<body>\r\n<center><h1>{status}</h1></center>\r\n\
         <hr><center>{server}</center>\r\n</body>\r\n</html>\r\n"
    )
}

const NEXT: &str = "GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n";

#[test]
fn a_refused_request_is_answered_closed_and_never_sent_on() {
    let server = Server::bind();
    let front = front(server.addr(), "");
    let get = |fields: &str| format!("GET / HTTP/1.1\r\nHost: test\r\n{fields}\r\n");
    let post = |fields: &str| format!("POST / HTTP/1.1\r\nHost: test\r\n{fields}\r\n0\r\n\r\n");
    let bad = "400 Bad Request";
    let cases: Vec<(String, &str)> = vec![
        // rules 1 to 6
        (
            post("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n"),
            bad,
        ),
        (
            post("Transfer-Encoding: chunked\r\nContent-Length: 6\r\n"),
            bad,
        ),
        (post("Content-Length: 5\r\nContent-Length: 5\r\n"), bad),
        (post("Content-Length: 5, 5\r\n"), bad),
        (post("Content-Length: +5\r\n"), bad),
        (post("Content-Length: -0\r\n"), bad),
        (post("Content-Length: 0x5\r\n"), bad),
        (post("Content-Length: 1 0\r\n"), bad),
        (post("Content-Length: 05\r\n"), bad),
        (post("Content-Length:\r\n"), bad),
        (post("Content-Length: 9223372036854775808\r\n"), bad),
        (post("Content-Length: 5\x0b\r\n"), bad),
        (post("Transfer-Encoding: xchunked\r\n"), bad),
        (post("Transfer-Encoding: ,chunked\r\n"), bad),
        (post("Transfer-Encoding: chunked;x=1\r\n"), bad),
        (post("Transfer-Encoding: identity\r\n"), bad),
        (
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
            bad,
        ),
        (
            post("Transfer-Encoding: gzip, chunked\r\n"),
            "501 Not Implemented",
        ),
        (
            "POST / HTTP/1.0\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(),
            bad,
        ),
        // rules 7 and 14
        ("GET /\r\n\r\n".into(), bad),
        ("GET / HTTP/1.1.1\r\nHost: test\r\n\r\n".into(), bad),
        ("GET / hTTP/1.1\r\nHost: test\r\n\r\n".into(), bad),
        (
            "GET / HTTP/1.2\r\nHost: test\r\n\r\n".into(),
            "505 HTTP Version Not Supported",
        ),
        (
            "GET / HTTP/2.0\r\nHost: test\r\n\r\n".into(),
            "505 HTTP Version Not Supported",
        ),
        (
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(),
            "505 HTTP Version Not Supported",
        ),
        ("GET  / HTTP/1.1\r\nHost: test\r\n\r\n".into(), bad),
        ("G\u{e4}T / HTTP/1.1\r\nHost: test\r\n\r\n".into(), bad),
        ("\x16\x03\x01\x02".into(), bad),
        // rules 4, 8 and 9
        (get("X-A : b\r\n"), bad),
        (get("X-A: b\r\n folded\r\n"), bad),
        (get("no colon\r\n"), bad),
        (get(": x\r\n"), bad),
        (get("X-A: a\0b\r\n"), bad),
        (get("X-A: a\nX-B: c\r\n"), bad),
        (get("X-A: a\rX-B: c\r\n"), bad),
        ("GET / HTTP/1.1\nHost: test\n\n".into(), bad),
        // rules 11 to 13, 15 and 16
        ("GET / HTTP/1.1\r\n\r\n".into(), bad),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n".into(), bad),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n".into(), bad),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".into(), bad),
        ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n".into(), bad),
        ("GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n".into(), bad),
        ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n".into(), bad),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n".into(), bad),
        ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n".into(), bad),
        ("GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n".into(), bad),
        (
            "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n".into(),
            "405 Not Allowed",
        ),
        (
            get("Authorization: NTLM a\r\nAuthorization: NTLM b\r\n"),
            bad,
        ),
        (format!("\r\n\r\n{}", get("")), bad),
        // rule 20
        ("GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n".into(), bad),
        ("GET /a%0d%0ab HTTP/1.1\r\nHost: a\r\n\r\n".into(), bad),
        ("GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n".into(), bad),
        ("GET /../a HTTP/1.1\r\nHost: a\r\n\r\n".into(), bad),
        // rule 28
        (get("Expect: 200-ok\r\n"), "417 Expectation Failed"),
        // rule 17
        (
            format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(70_000)),
            "414 Request-URI Too Large",
        ),
    ];
    for (request, status) in &cases {
        let shown = request[..request.len().min(100)].escape_debug().to_string();
        let mut client = Peer::connect(front.addr(0));
        client.send(format!("{request}{NEXT}"));
        let answer = client.answer();
        assert_eq!(answer.head.line(), format!("HTTP/1.1 {status}"), "{shown}");
        assert_eq!(answer.text(), page(status), "{shown}");
        assert_eq!(
            answer.head.field("content-type"),
            Some("text/html"),
            "{shown}"
        );
        assert_eq!(answer.head.field("connection"), Some("close"), "{shown}");
        assert_eq!(client.rest(), b"", "{shown}");
        server.was_left_alone();
    }
    let log = eventually("the access log", || {
        Some(front.access_log()).filter(|log| log.lines().count() == cases.len())
    });
    assert!(log.contains("\"GET / HTTP/1.2\" 505 "), "{log}");
    assert!(!log.contains("smuggled\""), "{log}");
}

#[test]
fn a_head_that_is_too_large_is_431() {
    let server = Server::bind();
    let front = front(server.addr(), "");
    let fields = (0..101)
        .map(|i| format!("X-{i}: y\r\n"))
        .collect::<String>();
    for fields in [
        format!("Authorization: Negotiate {}\r\n", "x".repeat(66_000)),
        format!("X-A: {}\r\n", "x".repeat(1000)).repeat(70),
        fields,
    ] {
        let mut client = Peer::connect(front.addr(0));
        client.send(format!(
            "GET / HTTP/1.1\r\nHost: test\r\n{fields}\r\n{NEXT}"
        ));
        let answer = client.answer();
        assert_eq!(
            answer.head.line(),
            "HTTP/1.1 431 Request Header Fields Too Large"
        );
        assert!(
            answer
                .text()
                .contains("<title>431 Request Header Or Cookie Too Large</title>")
        );
        assert_eq!(client.rest(), b"");
    }
    server.was_left_alone();
}

#[test]
fn the_sizes_of_heads_can_be_configured() {
    let server = Server::bind();
    let front = front(
        server.addr(),
        "large_client_header_buffers 4 8k; max_headers 5;",
    );
    let ask = |request: String| {
        let mut client = Peer::connect(front.addr(0));
        client.send(request);
        client
    };
    let line = |n: usize| format!("GET /{} HTTP/1.1\r\nHost: test\r\n\r\n", "x".repeat(n));
    assert_eq!(ask(line(9000)).answer().status(), 414);
    let field = |n: usize| {
        format!(
            "GET / HTTP/1.1\r\nHost: test\r\nX-A: {}\r\n\r\n",
            "x".repeat(n)
        )
    };
    assert_eq!(ask(field(9000)).answer().status(), 431);
    let many = |n: usize| {
        format!(
            "GET / HTTP/1.1\r\nHost: test\r\n{}\r\n",
            "X-A: b\r\n".repeat(n)
        )
    };
    assert_eq!(ask(many(5)).answer().status(), 431);
    server.was_left_alone();
    for fits in [line(8000), field(8000), many(4)] {
        let _client = ask(fits);
        server.accept().head();
    }
}

#[test]
fn a_body_that_breaks_the_chunk_rules_ends_both_connections() {
    let server = Server::bind();
    let front = front(server.addr(), "");
    for broken in [
        "g\r\n",
        " 5\r\nhello\r\n",
        "5 \r\nhello\r\n",
        "+5\r\nhello\r\n",
        "0x5\r\nhello\r\n",
        "\r\n",
        ";a\r\n",
        "5\nhello\r\n",
        "5\r\nhello\n",
        "5\r\nhelloX\r\n",
        "00000000000000005\r\nhello\r\n",
        "ffffffffffffffff\r\n",
        "5;a=\x01\r\nhello\r\n",
        "0\r\nX : y\r\n\r\n",
        "0\r\nX: y\n\r\n",
    ] {
        let mut client = Peer::connect(front.addr(0));
        // The first piece arrives on its own, so that the rest breaks the rule while the request is on its way.
        client.send(
            "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        );
        let mut upstream = server.accept();
        upstream.head();
        client.send(format!("{broken}0\r\n\r\n{NEXT}"));
        let answer = client.answer();
        assert_eq!(answer.status(), 400, "{broken:?}");
        assert_eq!(answer.head.field("connection"), Some("close"), "{broken:?}");
        assert_eq!(client.rest(), b"", "{broken:?}");
        let got = String::from_utf8(upstream.rest()).expect("text");
        assert!(got.starts_with("3\r\nabc\r\n"), "{broken:?} {got:?}");
        assert!(
            !got.contains("0\r\n\r\n") && !got.contains("smuggled"),
            "{broken:?} {got:?}"
        );
    }
}

#[test]
fn a_body_larger_than_allowed_is_413() {
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
    assert!(
        front
            .error_log()
            .contains("client intended to send too large body: 102401 bytes")
    );
}

#[test]
fn an_unreachable_server_is_502() {
    let server = Server::bind();
    let gone = server.addr();
    drop(server);
    let front = front(gone, "");
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
    let log = front.error_log();
    assert!(log.contains("connect() failed (111: Connection refused) while connecting to upstream, client: 127.0.0.1, server: , request: \"GET / HTTP/1.1\", upstream: \"http://"), "{log}");
}

#[test]
fn head_gets_the_head_of_an_error_page_only() {
    let server = Server::bind();
    let gone = server.addr();
    drop(server);
    let front = front(gone, "");
    let mut client = Peer::connect(front.addr(0));
    client.send("HEAD / HTTP/1.1\r\nHost: test\r\n\r\n");
    let head = client.head();
    assert_eq!(head.status(), 502);
    let length = page("502 Bad Gateway").len().to_string();
    assert_eq!(head.field("content-length"), Some(&*length));
    assert_eq!(client.get("/").status(), 502);
}

#[test]
fn a_response_that_cannot_be_trusted_is_502() {
    let server = Server::bind();
    let front = front(server.addr(), "");
    let ok = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\nhello");
    for response in [
        "garbage\r\n\r\n".to_owned(),
        "\r\n\r\n\r\n".to_owned(),
        "HTTP/1.1 99 Low\r\n\r\n".to_owned(),
        "HTTP/1.1 600 High\r\n\r\n".to_owned(),
        "HTTP/1.1 20x OK\r\n\r\n".to_owned(),
        "HTTP/2.0 200 OK\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello".to_owned(),
        ok("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        ok("Content-Length: 5\r\nContent-Length: 6\r\n"),
        ok("Content-Length: 5\r\nContent-Length: 5\r\n"),
        ok("Content-Length: 5, 5\r\n"),
        ok("Content-Length: five\r\n"),
        ok("Transfer-Encoding: gzip, chunked\r\n"),
        ok("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        ok("Content-Length : 5\r\n"),
        ok("X-A: b\r\n folded\r\nContent-Length: 5\r\n"),
        ok("X-A: a\0b\r\nContent-Length: 5\r\n"),
        ok(&format!(
            "X-A: {}\r\nContent-Length: 5\r\n",
            "x".repeat(140_000)
        )),
    ] {
        let shown = response[..response.len().min(80)]
            .escape_debug()
            .to_string();
        let mut client = Peer::connect(front.addr(0));
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        let mut upstream = server.accept();
        upstream.head();
        upstream.send(&response);
        assert_eq!(client.answer().status(), 502, "{shown}");
        upstream.ends();
        // Only the server is at fault: the client's connection goes on.
        client.send("GET /next HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_eq!(
            server.accept().head().line(),
            "GET /next HTTP/1.1",
            "{shown}"
        );
    }
}

#[test]
fn a_server_that_closes_without_an_answer_is_502() {
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
    assert_eq!(
        front
            .error_log()
            .matches(
                "upstream prematurely closed connection while reading response header from upstream"
            )
            .count(),
        2
    );
}

#[test]
fn bytes_that_nobody_asked_for_close_the_server_s_connection() {
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
fn a_response_body_that_breaks_the_chunk_rules_ends_both_connections() {
    let server = Server::bind();
    let front = front(server.addr(), "");
    for broken in [
        "g\r\n",
        "5 \r\nhello\r\n",
        "5\nhello\r\n",
        "5\r\nhelloX\r\n",
        "0\r\nX : y\r\n\r\n",
    ] {
        let mut client = Peer::connect(front.addr(0));
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        let mut upstream = server.accept();
        upstream.head();
        upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
        client.head();
        assert_eq!(client.take(8), b"3\r\nabc\r\n");
        upstream.send(format!("{broken}0\r\n\r\n"));
        let got = client.rest();
        assert!(!got.ends_with(b"0\r\n\r\n"), "{broken:?}");
        upstream.ends();
    }
}

/// How long something took, which must not be less than a timeout says.
fn not_before(began: Instant, timeout: Duration) {
    let took = began.elapsed();
    assert!(took + Duration::from_millis(5) >= timeout, "after {took:?}");
}

const SHORT: Duration = Duration::from_millis(300);

#[test]
fn a_head_has_to_come_in_time() {
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
fn a_body_has_to_come_in_time() {
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
    assert_eq!(
        front
            .error_log()
            .matches("client timed out (110: Connection timed out) while sending to client")
            .count(),
        2
    );
}

#[test]
fn a_server_that_does_not_answer_in_time_is_504() {
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
    let log = front.error_log();
    assert!(log.contains("upstream timed out (110: Connection timed out) while reading response header from upstream"), "{log}");
    assert!(
        log.contains("upstream timed out (110: Connection timed out) while reading upstream"),
        "{log}"
    );
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
fn a_server_that_does_not_read_is_504() {
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
fn a_server_that_does_not_accept_in_time_is_504() {
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
    assert!(
        front.error_log().contains(
            "upstream timed out (110: Connection timed out) while connecting to upstream"
        )
    );
    drop(fill);
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

#[test]
fn what_is_left_of_a_body_is_not_the_next_request() {
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
