//! Many connections, and descriptors that serve again.

use std::cell::Cell;
use std::os::fd::AsRawFd;
use std::rc::Rc;

use super::*;

#[test]
fn a_thousand_sockets() {
    on_each(|driver| async move {
        let bound = bound();
        let address = bound.address().unwrap();
        let listener = listener(&bound);
        spawn(async move {
            loop {
                listener.readable().await;
                while let Ok(Some(accepted)) = listener.try_accept() {
                    spawn(async move {
                        loop {
                            let bytes = receive(&accepted.socket).await;
                            if bytes.is_empty() {
                                break;
                            }
                            send(&accepted.socket, &bytes).await;
                        }
                    });
                }
            }
        });
        let left = Rc::new(Cell::new(500));
        for n in 0..500 {
            let left = Rc::clone(&left);
            spawn(async move {
                let socket = connect(address).await;
                for round in 0..5 {
                    let words = format!("{n}, round {round}");
                    send(&socket, words.as_bytes()).await;
                    assert_eq!(receive(&socket).await, words.as_bytes());
                }
                socket.finish();
                assert_eq!(receive(&socket).await, b"");
                left.set(left.get() - 1);
            });
        }
        while left.get() > 0 {
            sleep(Duration::from_millis(1)).await;
        }
        // The listener's alone.
        let kernel = (driver == Driver::Epoll).then_some(1);
        assert_eq!(crate::net::executor::registrations(), (1, kernel));
    });
}

#[test]
fn a_descriptor_used_again_has_no_past() {
    on_each(|driver| async move {
        let bound = bound();
        let listener = listener(&bound);
        let address = bound.address().unwrap();
        let mut seen = std::collections::HashMap::new();
        for round in 0..300 {
            let client = connect(address).await;
            let server = accept(&listener).await;
            *seen.entry(server.as_raw_fd()).or_insert(0) += 1;
            assert!(
                poll_fn(|cx| Poll::Ready(server.poll_readable(cx))).await == Poll::Pending,
                "round {round}"
            );
            // Left unread, so that the descriptor's past is one of being readable and hung up.
            send(&client, b"unread").await;
            client.finish();
            if round % 2 == 0 {
                poll_fn(|cx| server.poll_hung_up(cx)).await;
            }
        }
        assert!(seen.values().any(|&times| times > 1), "{seen:?}");
        drop(listener);
        let kernel = (driver == Driver::Epoll).then_some(0);
        assert_eq!(crate::net::executor::registrations(), (0, kernel));
    });
}

#[test]
fn an_event_for_a_socket_that_is_gone_is_not_its_successors() {
    on_each(|_| async {
        let bound = bound();
        let listener = listener(&bound);
        let address = bound.address().unwrap();
        for _ in 0..50 {
            let (one, one_peer) = (connect(address).await, accept(&listener).await);
            let (other, other_peer) = (connect(address).await, accept(&listener).await);
            for socket in [&one, &other] {
                assert!(poll_fn(|cx| Poll::Ready(socket.poll_readable(cx).is_pending())).await);
            }
            give_way().await;
            // Both become ready in one turn; the first to be served closes the other and opens a new one in its place.
            send(&one_peer, b"x").await;
            send(&other_peer, b"y").await;
            poll_fn(|cx| one.poll_readable(cx)).await;
            drop(other);
            let successor = connect(address).await;
            let successor_peer = accept(&listener).await;
            assert!(!is_ready(|cx| successor.poll_readable(cx)).await);
            send(&successor_peer, b"z").await;
            assert_eq!(receive(&successor).await, b"z");
            assert_eq!(receive(&one).await, b"x");
        }
    });
}

#[test]
fn sockets_of_an_ended_runtime_are_closed() {
    for driver in [Driver::Uring, Driver::Epoll] {
        if driver == Driver::Uring && crate::process::check_ring().is_err() {
            continue;
        }
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        run(driver, async {
            let connected = Rc::new(Cell::new(false));
            spawn({
                let connected = Rc::clone(&connected);
                async move {
                    let socket = connect(address).await;
                    connected.set(true);
                    receive(&socket).await;
                }
            });
            while !connected.get() {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(std::io::Read::read(&mut peer, &mut [0]).unwrap(), 0);
    }
}
