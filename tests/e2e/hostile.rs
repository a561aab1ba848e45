//! Clients and servers that mean harm: what one of them can do to the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::front::{Front, eventually};
use crate::peer::{Peer, Server};

/// Reads what a peer gets, and keeps nothing.
struct Reading {
    bytes: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Reading {
    fn of(mut peer: Peer) -> Self {
        let bytes = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&bytes);
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 20];
            while let Ok(n @ 1..) = peer.receive(&mut buffer) {
                counted.fetch_add(n, Ordering::Relaxed);
            }
        });
        Self { bytes, thread }
    }

    fn await_bytes(&self, bytes: usize) {
        eventually("the first bytes", || {
            (self.bytes.load(Ordering::Relaxed) >= bytes).then_some(())
        });
    }
}

#[test]
fn a_client_that_pipelines_without_end_leaves_others_their_turn() {
    let front = Front::start_main(
        "worker_processes 1;",
        "server { listen 127.0.0.1:0; location / { return 200 ok; } }",
    );
    let mut greedy = Peer::connect(front.addr(0));
    let reader = greedy.another();
    let stop = Arc::new(AtomicBool::new(false));
    // With credentials the number of requests on a connection has no limit.
    let requests = "GET / HTTP/1.1\r\nHost: t\r\nAuthorization: NTLM\r\n\r\n".repeat(1000);
    let sender = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) && greedy.try_send(&requests).is_ok() {}
            greedy.finish();
        })
    };
    let reading = Reading::of(reader);
    reading.await_bytes(1 << 20);
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let one = Instant::now();
        let mut other = Peer::connect(front.addr(0));
        let status = other.get("/").status();
        assert_eq!(status, 200);
        slowest = slowest.max(one.elapsed());
    }
    stop.store(true, Ordering::Relaxed);
    sender.join().unwrap();
    reading.thread.join().unwrap();
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
}

fn proxy(server: &Server, more: &str) -> String {
    format!(
        "server {{ listen 127.0.0.1:0; {more} location / {{ proxy_pass http://{}; }} }}",
        server.addr()
    )
}

#[test]
fn an_urgent_byte_in_a_body_is_no_obstacle() {
    use nix::sys::socket::{MsgFlags, send};
    use std::os::fd::AsRawFd;

    let server = Server::bind();
    let front = Front::start_main("worker_processes 1;", &proxy(&server, ""));
    let mut client = Peer::connect(front.addr(0));
    client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 100000\r\n\r\n");
    let mut up = server.accept();
    up.head();
    client.send([b'a'; 1000]);
    up.take(1000);
    send(client.socket().as_raw_fd(), b"!", MsgFlags::MSG_OOB).expect("an urgent byte");
    client.send([b'b'; 99_000]);
    up.take(99_000);
}

#[test]
fn chunks_of_one_byte_leave_others_their_turn() {
    let server = Server::bind();
    let front = Front::start_main(
        "worker_processes 1;",
        &proxy(
            &server,
            "client_max_body_size 0; location = /ok { return 200 ok; }",
        ),
    );
    let mut greedy = Peer::connect(front.addr(0));
    greedy.send("POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut up = server.accept();
    up.head();
    let stop = Arc::new(AtomicBool::new(false));
    let chunks = "1\r\nx\r\n".repeat(100_000);
    let sender = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) && greedy.try_send(&chunks).is_ok() {}
        })
    };
    let reading = Reading::of(up);
    reading.await_bytes(1 << 20);
    let mut slowest = Duration::ZERO;
    let mut other = Peer::connect(front.addr(0));
    for _ in 0..20 {
        let one = Instant::now();
        assert_eq!(other.get("/ok").status(), 200);
        slowest = slowest.max(one.elapsed());
    }
    stop.store(true, Ordering::Relaxed);
    drop(other);
    sender.join().unwrap();
    drop(front);
    reading.thread.join().unwrap();
    assert!(slowest < Duration::from_millis(100), "{slowest:?}");
}

#[test]
fn the_last_forwarded_for_is_believed_whatever_line_it_is_on() {
    let front = Front::start(
        "set_real_ip_from 127.0.0.0/8; real_ip_header X-Forwarded-For;
         server { listen 127.0.0.1:0; location / { return 200 '$remote_addr $proxy_add_x_forwarded_for'; } }",
    );
    let mut client = Peer::connect(front.addr(0));
    client.send("GET / HTTP/1.1\r\nHost: t\r\nX-Forwarded-For: 10.0.0.1\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n");
    assert_eq!(
        client.answer().text(),
        "192.0.2.7 10.0.0.1, 192.0.2.7, 192.0.2.7"
    );
}

#[test]
fn a_target_steers_no_terminal_and_forges_no_part_of_an_error() {
    let server = Server::bind();
    let front = Front::start(&proxy(&server, ""));
    let mut client = Peer::connect(front.addr(0));
    client.send("GET /\u{9b}31m\",host:\"forged HTTP/1.1\r\nHost: t\r\n\r\n");
    let mut up = server.accept();
    up.head();
    drop(up);
    assert_eq!(client.answer().status(), 502);
    let log = front.error_log_with("upstream prematurely closed", 1);
    assert!(!log.contains('\u{9b}'), "{log}");
    assert!(!log.contains("\",host:\"forged"), "{log}");
}

/// Sends a request by one client, and by another when the first is answered; returns what the second gets.
fn poisoned(request: &str, answer: &str, late: &str) -> String {
    let server = Server::bind();
    let front = Front::start_main(
        "worker_processes 1;",
        &format!(
            "upstream u {{ server {}; keepalive 4; }} server {{ listen 127.0.0.1:0; location / {{ proxy_pass http://u; }} }}",
            server.addr()
        ),
    );
    let mut first = Peer::connect(front.addr(0));
    first.send(request);
    let mut up = server.accept();
    up.head();
    up.send(answer);
    first.head();
    let mut second = Peer::connect(front.addr(0));
    second.send("GET /second HTTP/1.1\r\nHost: t\r\n\r\n");
    // Either on the same connection or on another.
    let head = eventually("the second request", || {
        if up.so_far().contains("GET /second") {
            return Some(true);
        }
        let mut other = server.try_accept()?;
        other.head();
        other.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nright");
        Some(false)
    });
    if head {
        up.send(late);
        up.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nright");
    }
    let answer = second.answer();
    format!("{} {}", answer.status(), answer.text())
}

#[test]
fn a_scheme_that_nobody_knows_is_not_shared() {
    let answer = "HTTP/1.1 204 No Content\r\n\r\n";
    for (value, shared) in [
        ("Negotiate:Kerberos YII", false),
        ("PKU2U YII", false),
        ("Basic eDp5", true),
    ] {
        let request = format!("GET / HTTP/1.1\r\nHost: t\r\nAuthorization: {value}\r\n\r\n");
        let late = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nshared";
        let got = poisoned(&request, answer, late);
        assert_eq!(got == "200 shared", shared, "{value}: {got}");
    }
}

#[test]
fn a_value_without_a_scheme_is_shown_to_nobody() {
    let front = Front::start(
        "log_format f '$http_authorization|$request'; access_log logs/access.log f;
         server { listen 127.0.0.1:0; location / { return 200 $http_authorization; } }",
    );
    for value in ["c2VjcmV0OnNlY3JldA==", "NTLM=c2VjcmV0OnNlY3JldA=="] {
        let mut client = Peer::connect(front.addr(0));
        client.send(format!(
            "GET / HTTP/1.1\r\nHost: t\r\nAuthorization: {value}\r\n\r\n"
        ));
        let text = client.answer().text();
        assert!(!text.contains("c2Vj"), "{text}");
    }
    let mut client = Peer::connect(front.addr(0));
    client.send("GET http://me:pa55word@t/ HTTP/1.1\r\nHost: t\r\n\r\n");
    assert_eq!(client.answer().status(), 400);
    front.error_log_with("client sent invalid request", 1);
    let log = eventually("the lines of the access log", || {
        Some(front.access_log()).filter(|log| log.lines().count() == 3)
    });
    let log = log + &front.error_log();
    assert!(!log.contains("c2Vj"), "{log}");
    assert!(!log.contains("pa55word"), "{log}");
}

#[test]
fn a_body_where_servers_expect_none_is_nobody_else_s_request() {
    let hidden = "GET /hidden HTTP/1.1\r\nHost: t\r\n\r\n";
    for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
        let request = format!(
            "{method} / HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n{hidden}",
            hidden.len()
        );
        let answer = "HTTP/1.1 204 No Content\r\n\r\n";
        let late = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong";
        assert_eq!(poisoned(&request, answer, late), "200 right", "{method}");
    }
}

#[test]
fn a_body_that_may_not_be_there_spoils_nobody_else_s_answer() {
    let request = "GET / HTTP/1.1\r\nHost: t\r\n\r\n";
    for (head, late) in [
        ("Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("Content-Length: 5\r\n", "wrong"),
    ] {
        let answer = format!("HTTP/1.1 204 No Content\r\n{head}\r\n");
        assert_eq!(poisoned(request, &answer, late), "200 right", "{head}");
    }
}

#[test]
fn a_body_that_ends_with_the_close_and_is_cut_short_does_not_look_complete() {
    let (old, new) = (
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: t\r\n\r\n",
    );
    let chunked = "Transfer-Encoding: chunked\r\n";
    for (request, head, body, rest) in [
        (old, chunked, "5\r\nhello\r\n", ""),
        (old, chunked, "5\r\nhello\r\n", "nonsense\r\n"),
        (new, "", "hello", ""),
    ] {
        let server = Server::bind();
        let front = Front::start(&proxy(&server, ""));
        let mut client = Peer::connect(front.addr(0));
        client.send(request);
        let mut up = server.accept();
        up.head();
        up.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n"));
        client.head();
        up.send(body);
        client.take(5);
        up.send(rest);
        up.socket().set_linger(Some(Duration::ZERO)).unwrap();
        drop(up);
        let rest = client.try_rest();
        assert!(rest.is_err(), "{head}: {rest:?}");
    }
}

#[test]
fn a_path_that_a_server_would_read_as_another_is_refused() {
    let server = Server::bind();
    let front = Front::start(&proxy(&server, "location /admin { deny all; }"));
    for path in ["/x%5c..%5Cadmin", "/%5cadmin"] {
        let mut client = Peer::connect(front.addr(0));
        client.send(format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n"));
        assert_eq!(client.answer().status(), 403, "{path}");
    }
    server.was_left_alone();
}
