//! What a driver does ahead of its callers and behind their backs: it receives while they wait, and sends after they said so.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;

use super::*;

/// Sends small pieces until the socket takes no more. What it took.
async fn fill(socket: &Socket) -> Vec<u8> {
    let all = pattern(16 << 20);
    let mut sent = 0;
    loop {
        let piece = &all[sent..(sent + 1500).min(all.len())];
        let n = socket.try_send(&[IoSlice::new(piece)], false).unwrap();
        // The kernel moves bytes on to the receiver's side for a while.
        if n == 0 && !is_ready(|cx| socket.poll_writable(cx)).await {
            return all[..sent].to_vec();
        }
        sent += n;
    }
}

#[test]
fn what_was_sent_arrives_although_its_socket_is_dropped() {
    on_each(|_| async {
        let (client, server) = pair().await;
        let sent = fill(&client).await;
        assert!(sent.len() > 64 << 10);
        drop(client);
        sleep(Duration::from_millis(5)).await;
        assert!(receive_all(&server).await == sent);
    });
}

#[test]
fn the_end_of_a_full_socket_comes_behind_what_it_took() {
    on_each(|_| async {
        let (client, server) = pair().await;
        let sent = fill(&client).await;
        client.finish();
        sleep(Duration::from_millis(5)).await;
        assert!(receive_all(&server).await == sent);
        send(&server, b"I heard").await;
        assert_eq!(receive(&client).await, b"I heard");
    });
}

#[test]
fn a_reset_socket_sends_nothing_more() {
    on_each(|_| async {
        let (client, server) = pair().await;
        send(&client, b"nobody shall read this").await;
        fill(&client).await;
        client.reset_on_close();
        drop(client);
        let ended = loop {
            poll_fn(|cx| server.poll_readable(cx)).await;
            match server.try_recv(SCRATCH_BYTES) {
                Ok(Some(loan)) if loan.is_empty() => break Ok(()),
                Ok(_) => {}
                Err(error) => break Err(error.kind()),
            }
        };
        assert_eq!(ended, Err(io::ErrorKind::ConnectionReset));
    });
}

/// A peer that looks at every moment: there is no end of the stream before the reset.
#[test]
fn a_reset_is_no_end() {
    on_each(|_| async {
        for _ in 0..200 {
            let (client, server) = pair().await;
            assert!(!is_ready(|cx| client.poll_readable(cx)).await);
            // A thread, since the tasks of this one run only after the reset.
            let watched = server.as_fd().try_clone_to_owned().unwrap();
            let (about_to_look, looking) = std::sync::mpsc::channel();
            let watcher = std::thread::spawn(move || {
                about_to_look.send(()).unwrap();
                loop {
                    match nix::unistd::read(&watched, &mut [0]) {
                        Err(nix::Error::EAGAIN) => {}
                        other => break other,
                    }
                }
            });
            looking.recv().unwrap();
            client.reset_on_close();
            drop(client);
            assert_eq!(watcher.join().unwrap(), Err(nix::Error::ECONNRESET));
            drop(server);
        }
    });
}

#[test]
fn bytes_keep_their_order_whichever_way_they_go() {
    on_each(|_| async {
        let (client, from) = pair().await;
        let (to, server) = pair().await;
        let body = pattern(6 << 20);
        join(
            async {
                // Two small ones in a turn, a large one behind a small one, and what is larger than one buffer.
                let mut sent = 0;
                let mut sizes = [7, 1400, 40_000, 9, 16 << 10, (16 << 10) + 1, 200_000]
                    .into_iter()
                    .cycle();
                while sent < body.len() {
                    let end = (sent + sizes.next().unwrap()).min(body.len());
                    send(&client, &body[sent..end]).await;
                    sent = end;
                }
                client.finish();
            },
            join(
                async {
                    // Copied and spliced in turns.
                    let mut pipe = Pipe::take().unwrap();
                    let mut round = 0;
                    loop {
                        poll_fn(|cx| from.poll_readable(cx)).await;
                        round += 1;
                        if round % 3 == 0 {
                            let Some(loan) = from.try_recv(SCRATCH_BYTES).unwrap() else {
                                continue;
                            };
                            if loan.is_empty() {
                                break;
                            }
                            let bytes = loan.to_vec();
                            drop(loan);
                            send(&to, &bytes).await;
                            continue;
                        }
                        match pipe.fill(&from, 10_000) {
                            Ok(0) => break,
                            Ok(n) => assert!(n <= 10_000),
                            Err(error) => {
                                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                                from.found_empty();
                            }
                        }
                        while pipe.held() > 0 {
                            if let Err(error) = pipe.drain(&to, false) {
                                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                                poll_fn(|cx| to.poll_writable(cx)).await;
                            }
                        }
                    }
                    to.finish();
                },
                async { assert!(receive_all(&server).await == body) },
            ),
        )
        .await;
    });
}

#[test]
fn what_is_queued_for_a_socket_never_reaches_its_successor() {
    on_each(|_| async {
        let bound = bound();
        let listener = listener(&bound);
        let address = bound.address().unwrap();
        let mut reused = 0;
        for _ in 0..50 {
            let (one, one_peer) = (connect(address).await, accept(&listener).await);
            let number = one.as_raw_fd();
            // All in one turn: said to be sent, waited for, closed, and its number given to another connection.
            let sent = one
                .try_send(&[IoSlice::new(b"for the first")], false)
                .unwrap();
            assert_eq!(sent, 13);
            assert!(poll_fn(|cx| Poll::Ready(one.poll_readable(cx).is_pending())).await);
            drop(one);
            let other = Socket::connect(address, None, false).unwrap();
            reused += u32::from(other.as_raw_fd() == number);
            poll_fn(|cx| other.poll_connected(cx)).await.unwrap();
            let other_peer = accept(&listener).await;
            assert_eq!(receive_all(&one_peer).await, b"for the first");
            assert!(!is_ready(|cx| other_peer.poll_readable(cx)).await);
            send(&other_peer, b"for the second").await;
            assert_eq!(receive(&other).await, b"for the second");
        }
        assert!(reused > 25, "{reused}");
    });
}

#[test]
fn more_sockets_hold_bytes_than_there_are_buffers() {
    on_each(|_| async {
        let mut pairs = Vec::new();
        for _ in 0..300 {
            let (client, server) = pair().await;
            assert!(poll_fn(|cx| Poll::Ready(server.poll_readable(cx).is_pending())).await);
            pairs.push((client, server));
        }
        for round in 0..3 {
            let words = |n: usize| format!("{n} in round {round}").into_bytes();
            for (n, (client, _)) in pairs.iter().enumerate() {
                send(client, &words(n)).await;
            }
            for (_, server) in &pairs {
                poll_fn(|cx| server.poll_readable(cx)).await;
            }
            for (n, (_, server)) in pairs.iter().enumerate() {
                assert_eq!(receive(server).await, words(n));
                assert!(poll_fn(|cx| Poll::Ready(server.poll_readable(cx).is_pending())).await);
            }
        }
    });
}

#[test]
fn bytes_that_came_while_nobody_looked_are_seen() {
    on_each(|_| async {
        let (client, server) = pair().await;
        // A receive is with the kernel, perhaps, and completes behind our back.
        assert!(!is_ready(|cx| server.poll_readable(cx)).await);
        send(&client, b"unasked").await;
        drop(client);
        let server = Rc::new(server);
        while server.peek() == Peek::Nothing {
            std::thread::sleep(Duration::from_millis(1));
            give_way().await;
        }
        assert_eq!(server.peek(), Peek::Bytes);
        assert!(is_ready(|cx| server.poll_unasked(cx)).await && server.has_unasked());
        assert_eq!(receive(&server).await, b"unasked");
        assert_eq!(receive(&server).await, b"");
        assert_eq!(server.peek(), Peek::Closed);
    });
}

#[test]
fn a_worker_ends_although_bytes_are_left() {
    for driver in [Driver::Uring, Driver::Epoll] {
        if driver == Driver::Uring && crate::process::check_ring().is_err() {
            continue;
        }
        let (done, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            run(driver, async {
                let dropped = connect(address).await;
                fill(&dropped).await;
                drop(dropped);
                assert_eq!(closing(), 1);
                let held = connect(address).await;
                fill(&held).await;
                spawn(async move {
                    poll_fn(|cx| held.poll_hung_up(cx)).await;
                });
                give_way().await;
            })
            .unwrap();
            done.send(()).unwrap();
        });
        assert!(ended.recv_timeout(PATIENCE).is_ok(), "{driver}");
    }
}

#[test]
fn last_bytes_do_not_wait_for_a_successor() {
    on_each(|_| async {
        // A listener whose queue is full: a connection to it stays on its way, and has no room.
        let full =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        full.bind(&any.into()).unwrap();
        full.listen(0).unwrap();
        let full_address = full.local_addr().unwrap().as_socket().unwrap();
        let _first = Socket::connect(full_address, None, false).unwrap();
        let _second = Socket::connect(full_address, None, false).unwrap();

        let (client, server) = pair().await;
        // Filled by direct calls, so that the first send that is queued finds no room when the descriptor is settled.
        let bytes = pattern(1 << 20);
        let mut sent = Vec::new();
        let mut full_turns = 0;
        while full_turns < 20 {
            let n = client.try_send(&[IoSlice::new(&bytes)], false).unwrap();
            sent.extend_from_slice(&bytes[..n]);
            full_turns = if n == 0 { full_turns + 1 } else { 0 };
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(
            client
                .try_send(&[IoSlice::new(b"last words")], false)
                .unwrap(),
            10
        );
        sent.extend_from_slice(b"last words");
        drop(client);
        // One of them gets the number of the one that was closed, unless a test beside this one was faster.
        let _successors: Vec<_> = (0..8)
            .map(|_| Socket::connect(full_address, None, false).unwrap())
            .collect();
        give_way().await;
        assert!(receive_all(&server).await == sent);
    });
}
