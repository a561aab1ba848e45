//! Bytes that were taken over and do not get through: whose they are, and who waits for them.

use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::front::{Front, eventually};
use crate::peer::{Peer, Server};

const CHUNK: usize = 5000;

fn chunk() -> String {
    format!("{CHUNK:x}\r\n{}\r\n", "x".repeat(CHUNK))
}

/// Sends chunks until nobody takes them any more.
fn fill(peer: &mut Peer) {
    peer.socket()
        .set_write_timeout(Some(Duration::from_millis(500)))
        .expect("a socket");
    while peer.try_send(chunk()).is_ok() {}
}

#[test]
fn a_worker_stops_although_a_client_does_not_read() {
    let server = Server::bind();
    let front = Front::start_main(
        "worker_processes 1;",
        &format!(
            "server {{ listen 127.0.0.1:0; location / {{ proxy_pass http://{}; }} }}",
            server.addr()
        ),
    );
    let mut client = Peer::connect(front.addr(0));
    client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
    let mut up = server.accept();
    up.head();
    up.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    fill(&mut up);
    client.finish();
    front.signal(Signal::SIGTERM);
    eventually("the end", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", front.pid()));
        stat.map_or(true, |stat| stat.contains(") Z "))
            .then_some(())
    });
}

#[test]
fn a_pin_is_closed_with_its_client_whatever_its_server_has_yet_to_take() {
    let server = Server::bind();
    let front = Front::start_main(
        "worker_processes 1;",
        &format!(
            "upstream u {{ server {}; ntlm; }}
             server {{ listen 127.0.0.1:0; client_max_body_size 0; location / {{ proxy_pass http://u; }} }}",
            server.addr()
        ),
    );
    let before = front.sockets();
    let mut client = Peer::connect(front.addr(0));
    client.send(
        "POST /1 HTTP/1.1\r\nHost: t\r\nAuthorization: NTLM TlRMTVNTUAADAAAA\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    let mut up = server.accept();
    up.head();
    fill(&mut client);
    client.socket().set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    let gone = Instant::now();
    eventually("the pin's end", || {
        (front.sockets() <= before).then_some(())
    });
    assert!(
        gone.elapsed() < Duration::from_secs(10),
        "{:?}",
        gone.elapsed()
    );
}

#[test]
fn a_body_whose_first_send_fails_is_no_request() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            drop(connection);
        }
    });
    let front = Front::start_main(
        "worker_processes 1;",
        &format!(
            "server {{ listen 127.0.0.1:0;
                 location /smuggled {{ return 200 smuggled; }}
                 location / {{ proxy_set_header X-Long {}; proxy_pass http://unix:{}:; }} }}",
            "x".repeat(300),
            path.display()
        ),
    );
    for round in 0..50 {
        let mut client = Peer::connect(front.addr(0));
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
        // With its head too large to be sent with others.
        let body = format!("{smuggled}{}", "y".repeat(16_200 - smuggled.len()));
        let len = body.len();
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: {len}\r\n\r\n{body}"
        ));
        let first = client.answer();
        client.finish();
        let rest = client.try_rest().unwrap_or_default();
        let rest = String::from_utf8_lossy(&rest);
        assert_eq!(first.status(), 502);
        assert!(!rest.contains("smuggled"), "round {round}: {rest}");
    }
}

/// Its time was `send_timeout`, whatever had been taken over for it.
#[test]
fn a_client_that_took_nothing_in_time_is_waited_for_no_longer() {
    let server = Server::bind();
    let front = Front::start_main(
        "worker_processes 1;",
        &format!(
            "upstream origin {{ server {}; }}
             server {{
                 listen 127.0.0.1:0;
                 location / {{ proxy_pass http://origin; send_timeout 500ms; }}
             }}",
            server.addr()
        ),
    );
    let sockets = front.sockets();
    let mut client = Peer::connect(front.addr(0));
    let small = client.socket().set_recv_buffer_size(4096);
    small.expect("SO_RCVBUF");
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut upstream = server.accept();
    upstream.head();
    upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    // Sends that are small enough to be taken over.
    let chunk = format!("2000\r\n{}\r\n", "x".repeat(0x2000));
    while upstream.try_send(&chunk).is_ok() {}
    eventually("both connections are closed", || {
        (front.sockets() == sockets).then_some(())
    });
    drop(client);
}
