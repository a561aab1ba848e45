//! One connection: bytes, ends, readiness.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use super::*;

#[test]
fn bytes_pass_both_ways() {
    on_each(|_| async {
        let (client, server) = pair().await;
        for round in 0..100 {
            let bytes = pattern(1 + round * 37);
            send(&client, &bytes).await;
            assert_eq!(receive(&server).await, bytes);
            send(&server, &bytes).await;
            assert_eq!(receive(&client).await, bytes);
        }
    });
}

#[test]
fn a_unix_socket_is_a_socket() {
    on_each(|_| async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let bound = Bound::unix(&path, 16).unwrap();
        let listener = listener(&bound);
        let client = Socket::connect_unix(&path).unwrap();
        poll_fn(|cx| client.poll_connected(cx)).await.unwrap();
        let server = accept(&listener).await;
        let body = pattern(3 << 20);
        join(
            async {
                send(&client, &body).await;
                client.finish();
            },
            async { assert!(receive_all(&server).await == body) },
        )
        .await;
    });
}

#[test]
fn a_refused_connection_is_an_error() {
    on_each(|_| async {
        let nobody = {
            let bound = bound();
            bound.address().unwrap()
        };
        let error = match Socket::connect(nobody, None, false) {
            Ok(socket) => poll_fn(|cx| socket.poll_connected(cx)).await.unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_large_body_waits_for_its_receiver() {
    on_each(|_| async {
        let (client, server) = pair().await;
        let body = pattern(16 << 20);
        // The receiver begins when the sender is stuck.
        let stuck = Cell::new(false);
        join(
            async {
                let mut sent = 0;
                while sent < body.len() {
                    let n = client
                        .try_send(&[IoSlice::new(&body[sent..])], false)
                        .unwrap();
                    sent += n;
                    if n == 0 {
                        stuck.set(true);
                        poll_fn(|cx| client.poll_writable(cx)).await;
                    }
                }
                client.finish();
            },
            async {
                while !stuck.get() {
                    sleep(Duration::from_millis(1)).await;
                }
                assert!(receive_all(&server).await == body);
            },
        )
        .await;
    });
}

#[test]
fn a_full_socket_is_not_writable_until_there_is_room() {
    on_each(|_| async {
        let (client, server) = pair().await;
        let bytes = vec![0; 1 << 20];
        assert!(is_ready(|cx| client.poll_writable(cx)).await);
        let mut sent = 0;
        // The kernel moves bytes on to the receiver's side for a while.
        while sent == 0 || is_ready(|cx| client.poll_writable(cx)).await {
            sent += client.try_send(&[IoSlice::new(&bytes)], false).unwrap();
        }
        // A full socket does not keep its task from giving way.
        give_way().await;
        let mut received = 0;
        join(
            async { poll_fn(|cx| client.poll_writable(cx)).await },
            async {
                while received < sent {
                    received += receive(&server).await.len();
                }
            },
        )
        .await;
        assert!(is_ready(|cx| client.poll_writable(cx)).await);
    });
}

#[test]
fn the_end_comes_behind_the_bytes() {
    on_each(|_| async {
        // Sent and ended before the receiver looks for the first time; after it waited; after it received.
        for order in 0..3 {
            let (client, server) = pair().await;
            if order == 1 {
                assert!(!is_ready(|cx| server.poll_readable(cx)).await);
            }
            send(&client, b"last words").await;
            if order == 2 {
                assert_eq!(receive(&server).await, b"last words");
                client.finish();
            } else {
                client.finish();
                assert_eq!(receive(&server).await, b"last words");
            }
            assert_eq!(receive(&server).await, b"");
            assert_eq!(receive(&server).await, b"", "the end stays");
            // Half of the connection is open yet.
            send(&server, b"I heard").await;
            drop(server);
            assert_eq!(receive_all(&client).await, b"I heard");
        }
    });
}

#[test]
fn a_hang_up_is_noticed_behind_unread_bytes() {
    on_each(|_| async {
        let (client, server) = pair().await;
        let server = Rc::new(server);
        assert!(!is_ready(|cx| server.poll_hung_up(cx)).await);
        send(&client, b"the next request").await;
        assert!(!is_ready(|cx| server.poll_hung_up(cx)).await);
        let (polls, done) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
        spawn({
            let (server, polls, done) = (Rc::clone(&server), Rc::clone(&polls), Rc::clone(&done));
            async move {
                poll_fn(|cx| {
                    polls.set(polls.get() + 1);
                    server.poll_hung_up(cx)
                })
                .await;
                done.set(true);
            }
        });
        for _ in 0..50 {
            send(&client, b"more of it").await;
            sleep(Duration::from_millis(1)).await;
        }
        assert!(
            polls.get() < 5,
            "bytes woke it {} times although nobody reads them",
            polls.get()
        );
        assert!(!done.get());
        client.finish();
        while !done.get() {
            sleep(Duration::from_millis(1)).await;
        }
        let expected = 16 + 50 * 10;
        assert_eq!(receive(&server).await.len(), expected);
        assert_eq!(receive(&server).await, b"");
    });
}

#[test]
fn what_nobody_asked_for_is_told_from_what_was_read() {
    on_each(|_| async {
        let (client, server) = pair().await;
        assert!(!is_ready(|cx| server.poll_unasked(cx)).await);
        for _ in 0..3 {
            send(&client, b"an answer").await;
            assert_eq!(receive(&server).await, b"an answer");
            assert!(!is_ready(|cx| server.poll_unasked(cx)).await);
            assert!(!server.has_unasked());
        }
        send(&client, b"more").await;
        assert!(is_ready(|cx| server.poll_unasked(cx)).await);
        assert!(server.has_unasked());
        assert_eq!(server.peek(), Peek::Bytes);
        assert_eq!(receive(&server).await, b"more");
        assert!(!is_ready(|cx| server.poll_unasked(cx)).await);
        drop(client);
        assert!(is_ready(|cx| server.poll_unasked(cx)).await);
        assert_eq!(server.peek(), Peek::Closed);
    });
}

#[test]
fn a_reset_wakes_everybody() {
    on_each(|_| async {
        let (client, server) = pair().await;
        let bytes = vec![0; 1 << 20];
        while server.try_send(&[IoSlice::new(&bytes)], false).unwrap() > 0 {}
        join(
            async {
                poll_fn(|cx| server.poll_hung_up(cx)).await;
                poll_fn(|cx| server.poll_writable(cx)).await;
                poll_fn(|cx| server.poll_readable(cx)).await;
            },
            async {
                sleep(Duration::from_millis(5)).await;
                client.reset_on_close();
                drop(client);
            },
        )
        .await;
        let received = server.try_recv(crate::net::SCRATCH_BYTES).map(|_| ());
        let kind = received.map_err(|error| error.kind());
        assert_eq!(kind, Err(std::io::ErrorKind::ConnectionReset));
        let sent = server.try_send(&[IoSlice::new(&bytes)], false);
        assert!(sent.is_err(), "{sent:?}");
    });
}

#[test]
fn a_body_is_spliced_through_a_pipe() {
    on_each(|_| async {
        let (client, from) = pair().await;
        let (to, server) = pair().await;
        let body = pattern(8 << 20);
        join(
            async {
                send(&client, &body).await;
                client.finish();
            },
            join(
                async {
                    let mut pipe = Pipe::take().unwrap();
                    loop {
                        if pipe.held() == 0 {
                            match pipe.fill(&from, 1 << 20) {
                                Ok(0) => break,
                                Ok(_) => {}
                                Err(error) => {
                                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                                    from.found_empty();
                                    poll_fn(|cx| from.poll_readable(cx)).await;
                                }
                            }
                        } else if let Err(error) = pipe.drain(&to, false) {
                            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                            poll_fn(|cx| to.poll_writable(cx)).await;
                        }
                    }
                    to.finish();
                },
                async {
                    sleep(Duration::from_millis(20)).await;
                    assert!(receive_all(&server).await == body);
                },
            ),
        )
        .await;
    });
}

#[test]
fn a_reset_is_no_end_of_the_stream() {
    on_each(|_| async {
        for finished in [false, true] {
            let (client, server) = pair().await;
            send(&client, b"all is sent and received").await;
            assert_eq!(receive(&server).await, b"all is sent and received");
            if finished {
                // Its own end, not that of the one that is reset.
                server.finish();
                assert_eq!(receive(&client).await, b"");
            }
            client.reset_on_close();
            drop(client);
            poll_fn(|cx| server.poll_readable(cx)).await;
            let received = server.try_recv(crate::net::SCRATCH_BYTES).map(|_| ());
            let kind = received.map_err(|error| error.kind());
            assert_eq!(kind, Err(std::io::ErrorKind::ConnectionReset));
        }
    });
}
