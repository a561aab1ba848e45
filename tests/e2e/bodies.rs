//! Bodies: of every length and framing, whole or not at all, streamed, with bounded memory, and nothing left behind.

use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use ntlm_origin::{Origin, OriginOptions};

use crate::front::{Front, eventually};
use crate::peer::{Peer, Server, alphabet, assert_same, numbered};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Around the scratch buffer's size, the size from which bodies are spliced, and a pipe's.
const LENGTHS: [usize; 10] = [
    0,
    1,
    31 * KIB,
    32 * KIB,
    64 * KIB - 1,
    64 * KIB,
    64 * KIB + 1,
    256 * KIB + 1,
    MIB,
    20 * MIB,
];

fn origin() -> Origin {
    Origin::start(OriginOptions::default()).expect("the origin starts")
}

/// A front without a limit for bodies, before one server.
fn front(server: std::net::SocketAddr) -> Front {
    front_with(server, "")
}

fn front_with(server: std::net::SocketAddr, more: &str) -> Front {
    Front::start_main("worker_processes 1;", &configuration(server, more))
}

fn configuration(server: std::net::SocketAddr, more: &str) -> String {
    format!(
        "client_max_body_size 0;
         upstream origin {{ server {server}; }}
         server {{ listen 127.0.0.1:0; {more} location / {{ proxy_pass http://origin; }} }}"
    )
}

/// Sends `body` in chunks of `size` bytes, the last one smaller.
fn send_chunked(peer: &mut Peer, body: &[u8], size: usize) {
    for chunk in body.chunks(size) {
        let head = format!("{:x}\r\n", chunk.len());
        peer.send([head.as_bytes(), chunk, b"\r\n"].concat());
    }
    peer.send("0\r\n\r\n");
}

#[test]
fn answers_of_every_length_and_framing_arrive_whole() {
    let origin = origin();
    let front = front(origin.addr());
    let mut kept = Peer::connect(front.addr(0));
    for length in LENGTHS {
        let wanted = alphabet(length);
        let answer = kept.get(&format!("/bytes/{length}"));
        assert_eq!(
            answer.head.field("content-length"),
            Some(&*length.to_string())
        );
        assert_same(&answer.body, &wanted, "by length");
        let answer = kept.get(&format!("/chunked/{length}"));
        assert_eq!(answer.head.field("transfer-encoding"), Some("chunked"));
        assert_same(&answer.body, &wanted, "chunked");
        let answer = Peer::connect(front.addr(0)).get(&format!("/close/{length}"));
        assert_eq!(answer.head.field("connection"), Some("close"));
        assert_eq!(answer.head.field("transfer-encoding"), None);
        assert_same(&answer.body, &wanted, "until the close");
    }
    assert_eq!(front.error_log().matches("[error]").count(), 0);
}

#[test]
fn requests_of_every_length_and_framing_arrive_whole() {
    let origin = origin();
    let front = front(origin.addr());
    let mut peer = Peer::connect(front.addr(0));
    for length in LENGTHS {
        for chunk in [0, 1000, 50_000, MIB] {
            if length > MIB && chunk == 1000 {
                continue; // takes long and shows nothing new
            }
            let body = numbered(length);
            let framing = match chunk {
                0 => format!("Content-Length: {length}"),
                _ => "Transfer-Encoding: chunked".to_owned(),
            };
            // The body comes back while it goes out, so that both have to be read and written at once.
            let mut sender = peer.another();
            let sent = body.clone();
            let sending = std::thread::spawn(move || {
                sender.send(format!(
                    "POST /mirror HTTP/1.1\r\nHost: test\r\n{framing}\r\n\r\n"
                ));
                match chunk {
                    0 => sender.send(&sent),
                    _ => send_chunked(&mut sender, &sent, chunk),
                }
            });
            let answer = peer.answer();
            sending.join().expect("the sender");
            assert_eq!(answer.status(), 200);
            assert_same(
                &answer.body,
                &body,
                &format!("{length} in chunks of {chunk}"),
            );
        }
    }
    assert_eq!(
        origin.accepted(),
        1,
        "every request left its connection clean"
    );
}

#[test]
fn a_chunk_that_comes_byte_by_byte_is_read_at_every_cut() {
    let server = Server::bind();
    let front = front(server.addr());
    let mut client = Peer::connect(front.addr(0));
    let request = "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3;x=y\r\nabc\r\n00a\r\n0123456789\r\n0\r\nA: b\r\n\r\n";
    let mut sender = client.another();
    let sending = std::thread::spawn(move || {
        for byte in request.bytes() {
            sender.send([byte]);
        }
    });
    let mut upstream = server.accept();
    upstream.head();
    assert_eq!(upstream.chunked().data, b"abc0123456789");
    sending.join().expect("the sender");
    for byte in request
        .replace("POST / HTTP/1.1\r\nHost: test", "HTTP/1.1 200 OK")
        .bytes()
    {
        upstream.send([byte]);
    }
    assert_eq!(client.answer().body, b"abc0123456789");
}

#[test]
fn a_large_piece_of_an_answer_is_not_held_back() {
    let server = Server::bind();
    let front = front(server.addr());
    let piece = numbered(100_001);
    for framing in [
        "Content-Length: 1000000000",
        "Transfer-Encoding: chunked",
        "Connection: close",
    ] {
        let mut client = Peer::connect(front.addr(0));
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        let mut upstream = server.accept();
        upstream.head();
        let mut head = format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n").into_bytes();
        let chunked = framing.starts_with('T');
        // A kernel that waits for a full segment waits for 200 ms, each time.
        let fastest = (0..10).map(|number| {
            let began = Instant::now();
            let mut bytes = std::mem::take(&mut head);
            if chunked {
                bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            }
            bytes.extend_from_slice(&piece);
            if chunked {
                bytes.extend_from_slice(b"\r\n");
            }
            upstream.send(bytes);
            if number == 0 {
                assert_eq!(client.head().status(), 200);
            }
            let mut back = Vec::new();
            while chunked && back.len() < piece.len() {
                let size = String::from_utf8(client.until(b"\r\n")).expect("a size");
                let size = usize::from_str_radix(&size, 16).expect("a size");
                back.append(&mut client.take(size));
                client.take(2);
            }
            if !chunked {
                back = client.take(piece.len());
            }
            assert_same(&back, &piece, framing);
            began.elapsed()
        });
        let fastest = fastest.min().expect("ten");
        assert!(
            fastest < Duration::from_millis(150),
            "{framing}: {fastest:?}"
        );
    }
}

#[test]
fn a_request_body_cut_short_never_looks_complete() {
    let server = Server::bind();
    let front = front(server.addr());
    for (framing, sent) in [
        ("Content-Length: 10", "12345"),
        ("Content-Length: 1000000", "12345"),
        ("Transfer-Encoding: chunked", "a\r\n12345"),
        ("Transfer-Encoding: chunked", "5\r\n12345\r\n"),
        ("Transfer-Encoding: chunked", "5\r\n12345\r\n0\r\n"),
    ] {
        let mut client = Peer::connect(front.addr(0));
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: test\r\n{framing}\r\n\r\n{sent}"
        ));
        let mut upstream = server.accept();
        upstream.head();
        client.finish();
        let got = upstream.rest();
        assert!(got.len() < 25 && !got.ends_with(b"0\r\n\r\n"), "{framing}");
        client.ends();
    }
}

#[test]
fn pipes_go_back_and_no_descriptor_is_left() {
    let origin = origin();
    let front = front_with(origin.addr(), "keepalive_timeout 0;");
    let (sockets, pipes) = (front.sockets(), front.pipes());
    assert_eq!(pipes, front.pipes());
    for _ in 0..2 {
        // More at once than pipes are kept, each stuck in the middle of its body.
        let mut clients: Vec<Peer> = (0..100)
            .map(|_| {
                let mut client = Peer::connect(front.addr(0));
                client.send("GET /bytes/8000000 HTTP/1.1\r\nHost: test\r\n\r\n");
                client
            })
            .collect();
        for client in &mut clients {
            assert_eq!(client.head().status(), 200);
        }
        eventually("all bodies are in pipes", || {
            (front.pipes() > pipes + 2 * 64).then_some(())
        });
        let wanted = alphabet(8_000_000);
        // A few leave; their pipes hold bytes and must not be used again.
        let leaving = clients.split_off(90);
        drop(leaving);
        for client in &mut clients {
            assert_same(&client.take(wanted.len()), &wanted, "in parallel");
            client.ends();
        }
        drop(clients);
        eventually("surplus pipes are closed", || {
            (front.pipes() <= pipes + 2 * 64).then_some(())
        });
    }
    eventually("the origin sees its connections end or rest", || {
        (origin.connections() <= 32).then_some(())
    });
    origin.close_idle();
    eventually("no socket is left", || {
        (front.sockets() == sockets).then_some(())
    });
}

#[test]
fn many_large_transfers_both_ways_at_once_stay_apart() {
    let origin = origin();
    let front = Front::start(&configuration(origin.addr(), ""));
    const CLIENTS: usize = 24;
    let together = Arc::new(Barrier::new(CLIENTS));
    let threads: Vec<_> = (0..CLIENTS)
        .map(|i| {
            let mut peer = Peer::connect(front.addr(0));
            let together = Arc::clone(&together);
            std::thread::spawn(move || {
                // Every client's bytes are its own.
                let body: Vec<u8> = numbered(2 * MIB)
                    .into_iter()
                    .map(|byte| byte.wrapping_add(i as u8))
                    .collect();
                together.wait();
                let mut sender = peer.another();
                let sent = body.clone();
                let sending = std::thread::spawn(move || {
                    if i % 2 == 0 {
                        sender.send("POST /mirror HTTP/1.1\r\nHost: test\r\nContent-Length: 2097152\r\n\r\n");
                        sender.send(&sent);
                    } else {
                        sender.send("POST /mirror HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
                        send_chunked(&mut sender, &sent, 100_000);
                    }
                });
                let answer = peer.answer();
                sending.join().expect("the sender");
                assert_same(&answer.body, &body, "the client's own");
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("a client");
    }
}

#[test]
fn a_gigabyte_announced_and_sent_slowly_reaches_the_server_piece_by_piece() {
    // RPC over HTTP: two requests that never end, each a stream of small messages.
    let server = Server::bind();
    let front = front(server.addr());
    let mut inbound = Peer::connect(front.addr(0));
    inbound.send("RPC_IN_DATA /rpc/rpcproxy.dll?mail:6001 HTTP/1.1\r\nHost: test\r\nContent-Length: 1073741824\r\n\r\n");
    let mut upstream = server.accept();
    let head = upstream.head();
    assert_eq!(
        head.line(),
        "RPC_IN_DATA /rpc/rpcproxy.dll?mail:6001 HTTP/1.1"
    );
    assert!(head.has("Content-Length: 1073741824"));
    let began = std::time::Instant::now();
    for i in 0..20 {
        let message = numbered(100 + i);
        inbound.send(&message);
        assert_same(&upstream.take(message.len()), &message, "in");
    }
    // Held back in the kernel, a piece would wait for 200 ms.
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );

    let mut outbound = Peer::connect(front.addr(0));
    outbound.send("RPC_OUT_DATA /rpc/rpcproxy.dll?mail:6001 HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nopen");
    let mut upstream = server.accept();
    upstream.head();
    assert_eq!(upstream.take(4), b"open");
    upstream.send("HTTP/1.1 200 Success\r\nContent-Length: 1073741824\r\n\r\n");
    assert_eq!(outbound.head().line(), "HTTP/1.1 200 Success");
    let began = std::time::Instant::now();
    for i in 0..20 {
        let message = numbered(100 + i);
        upstream.send(&message);
        assert_same(&outbound.take(message.len()), &message, "out");
    }
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    drop(outbound);
    upstream.ends();
}

/// Rule 34, where the client has nothing but the close to tell it where the body ends.
#[test]
fn a_body_until_the_close_that_is_cut_short_ends_by_a_reset() {
    let server = Server::bind();
    let front = front_with(server.addr(), "proxy_read_timeout 300ms;");
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    let until_close = "HTTP/1.1 200 OK\r\n\r\nhalf";
    let (close, reset, stall, break_a_rule) = ("close", "reset", "stall", "break a rule");
    for (version, answer, end) in [
        ("1.1", until_close, reset),
        ("1.1", until_close, stall),
        ("1.0", until_close, reset),
        ("1.0", until_close, stall),
        ("1.0", chunked, close),
        ("1.0", chunked, reset),
        ("1.0", chunked, stall),
        ("1.0", chunked, break_a_rule),
    ] {
        let mut client = Peer::connect(front.addr(0));
        client.send(format!("GET / HTTP/{version}\r\nHost: test\r\n\r\n"));
        let mut upstream = server.accept();
        upstream.head();
        upstream.send(answer);
        client.head();
        assert_eq!(client.take(4), b"half");
        if end == reset {
            let linger = upstream.socket().set_linger(Some(Duration::ZERO));
            linger.expect("SO_LINGER");
        }
        if end == break_a_rule {
            upstream.send("x");
        }
        let upstream = (end == stall || end == break_a_rule).then_some(upstream);
        let kind = client.try_rest().map_err(|error| error.kind());
        let what = format!("HTTP/{version}, {answer:?}, {end}");
        assert_eq!(kind, Err(std::io::ErrorKind::ConnectionReset), "{what}");
        drop(upstream);
    }
}
