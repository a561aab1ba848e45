//! Rule 30: bodies are streamed, and memory stays bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::front;
use crate::front::eventually;
use crate::messages::origin;
use crate::peer::{Peer, Server, assert_same, numbered};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

const LARGE: &str = "client_max_body_size 0;";

/// Waits until no more bytes go out, because nothing has moved for a while; says how many did.
fn held_back(who: &str, sent: &AtomicUsize) -> usize {
    let mut last = (0, 0);
    eventually(&format!("{who} is held back"), || {
        std::thread::sleep(Duration::from_millis(20));
        let now = sent.load(Ordering::Relaxed);
        last = if now == last.0 {
            (now, last.1 + 1)
        } else {
            (now, 0)
        };
        (last.1 == 15).then_some(now)
    })
}

#[test]
fn rule_30_every_piece_goes_on_at_once_in_both_directions() {
    let origin = origin();
    let front = front(origin.addr(), LARGE);
    let large = numbered(100 * KIB);
    for framing in ["Content-Length: 1000000000", "Transfer-Encoding: chunked"] {
        let mut peer = Peer::connect(front.addr(0));
        peer.send(format!(
            "POST /mirror HTTP/1.1\r\nHost: test\r\n{framing}\r\n\r\n"
        ));
        assert_eq!(peer.head().status(), 200);
        // Nothing more is sent before this much has come back.
        for piece in [&b"a"[..], b"bc", &large, b"d", &large[..40_000], b"e"] {
            if framing.starts_with('T') {
                peer.send(format!("{:x}\r\n", piece.len()));
            }
            peer.send(piece);
            if framing.starts_with('T') {
                peer.send("\r\n");
            }
            let mut back = Vec::new();
            while back.len() < piece.len() {
                let size = String::from_utf8(peer.until(b"\r\n")).expect("a size");
                let size = usize::from_str_radix(&size, 16).expect("a size");
                back.append(&mut peer.take(size));
                peer.take(2);
            }
            assert_same(&back, piece, framing);
        }
    }
}

#[test]
fn rule_30_a_slow_reader_slows_the_server_and_fills_no_memory() {
    const ALL: usize = 96 * MIB;
    let server = Server::bind();
    let front = front(server.addr(), LARGE);
    for framing in [
        "Content-Length: 100663296\r\n",
        "Transfer-Encoding: chunked\r\n",
        "",
    ] {
        let mut client = Peer::connect(front.addr(0));
        // So that the kernel holds less than what is sent by far.
        client
            .socket()
            .set_recv_buffer_size(64 * KIB)
            .expect("a smaller buffer");
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        let mut upstream = server.accept();
        upstream.head();
        let before = front.resident();
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&sent);
        let piece = numbered(MIB);
        let wanted = piece.clone();
        let sending = std::thread::spawn(move || {
            upstream.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n"));
            let chunked = framing.starts_with('T');
            for _ in 0..ALL / MIB {
                if chunked {
                    upstream.send("100000\r\n");
                }
                upstream.send(&piece);
                counted.fetch_add(MIB, Ordering::Relaxed);
                if chunked {
                    upstream.send("\r\n");
                }
            }
            if chunked {
                upstream.send("0\r\n\r\n");
            }
        });
        client.head();
        let held = held_back("the server", &sent);
        assert!(held < ALL / 2, "{held} bytes went out to nobody");
        let grown = front.resident().saturating_sub(before);
        assert!(
            grown < 8 * MIB,
            "{grown} bytes of memory for one slow reader"
        );
        for i in 0..ALL / MIB {
            if framing.starts_with('T') {
                // Chunks may be cut anew, so that they are read one by one.
                break;
            }
            assert_same(&client.take(MIB), &wanted, &format!("MiB {i}"));
        }
        if framing.starts_with('T') {
            assert_eq!(client.chunked().data.len(), ALL);
        }
        sending.join().expect("the sender");
    }
}

#[test]
fn rule_30_a_slow_server_slows_the_uploading_client_and_fills_no_memory() {
    const ALL: usize = 96 * MIB;
    let server = Server::bind();
    let front = front(server.addr(), LARGE);
    let mut client = Peer::connect(front.addr(0));
    client.send(format!(
        "PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: {ALL}\r\n\r\n"
    ));
    let mut upstream = server.accept();
    upstream
        .socket()
        .set_recv_buffer_size(64 * KIB)
        .expect("a smaller buffer");
    upstream.head();
    let before = front.resident();
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let mut sender = client.another();
    let piece = numbered(MIB);
    let wanted = piece.clone();
    let sending = std::thread::spawn(move || {
        for _ in 0..ALL / MIB {
            sender.send(&piece);
            counted.fetch_add(MIB, Ordering::Relaxed);
        }
    });
    let held = held_back("the client", &sent);
    assert!(held < ALL / 2, "{held} bytes went out to nobody");
    let grown = front.resident().saturating_sub(before);
    assert!(
        grown < 8 * MIB,
        "{grown} bytes of memory for one slow server"
    );
    for i in 0..ALL / MIB {
        assert_same(&upstream.take(MIB), &wanted, &format!("MiB {i}"));
    }
    sending.join().expect("the sender");
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    assert_eq!(client.answer().text(), "ok");
}
