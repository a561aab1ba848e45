//! Accepting.

use std::os::fd::{AsRawFd as _, IntoRawFd};

use super::*;

#[test]
fn nobody_is_left_waiting() {
    on_each(|_| async {
        let bound = bound();
        let listener = listener(&bound);
        let address = bound.address().unwrap();
        let mut ours = Vec::new();
        for round in 0..3 {
            // All of them are there before the first is accepted, which reports them by one edge.
            for _ in 0..100 {
                ours.push(connect(address).await);
            }
            for n in 0..100 {
                listener.readable().await;
                let accepted = listener.try_accept().unwrap();
                assert!(accepted.is_some(), "client {n} of round {round}");
            }
            assert!(listener.try_accept().unwrap().is_none());
        }
    });
}

#[test]
fn who_was_let_in_can_be_accepted_when_nobody_else_is() {
    on_each(|_| async {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let options = InetOptions {
                backlog: 1024,
                shares_port: false,
                ipv6only: true,
                keepalive: None,
            };
            let bound = Bound::inet(address.parse().unwrap(), 1, &options).unwrap();
            let listener = listener(&bound);
            let address = bound.address().unwrap();
            let waiting = [connect(address).await, connect(address).await];
            bound.let_nobody_in().unwrap();
            let late = Socket::connect(address, None, false).unwrap();
            assert!(!is_ready(|cx| late.poll_connected(cx)).await);
            drop(bound);
            for client in &waiting {
                let accepted = accept(&listener).await;
                send(client, b"here").await;
                assert_eq!(receive(&accepted).await, b"here");
            }
            assert!(listener.try_accept().unwrap().is_none());
            drop(listener);
            // It asks again a second later (RFC 6298), and is told.
            let told = poll_fn(|cx| late.poll_connected(cx)).await;
            let kind = told.unwrap_err().kind();
            assert_eq!(kind, std::io::ErrorKind::ConnectionRefused);
        }
    });
}

/// Also where somebody waited: an entry that is with the kernel would keep the address open.
#[test]
fn an_address_is_closed_with_the_last_listener() {
    on_each(|_| async {
        let bound = bound();
        let address = bound.address().unwrap();
        let listener = listener(&bound);
        assert!(!is_ready(|cx| pin!(listener.readable()).poll(cx)).await);
        drop(bound);
        connect(address).await;
        drop(listener);
        let refused = || {
            let refused = std::net::TcpStream::connect(address).is_err();
            refused.then_some(())
        };
        while refused().is_none() {
            sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn another_process_goes_on_with_the_sockets() {
    on_each(|_| async {
        let bound = bound_for(3);
        let address = bound.address().unwrap();
        let inherited = bound.to_inherit().unwrap();
        assert_eq!(inherited.len(), 3);
        let numbers: Vec<_> = inherited.into_iter().map(IntoRawFd::into_raw_fd).collect();
        let other = Bound::inherited(&numbers).unwrap();
        drop(bound);
        assert_eq!(other.address(), Some(address));
        // Whether there are more or fewer workers now: each has one, and each socket has somebody.
        for workers in 1..6 {
            let mut listeners: Vec<_> = (0..workers)
                .map(|worker| other.for_worker(worker, workers).unwrap())
                .map(|sockets| {
                    sockets
                        .into_iter()
                        .map(|socket| Listener::new(socket).unwrap())
                })
                .map(Iterator::collect::<Vec<_>>)
                .collect();
            assert!(listeners.iter().all(|of_one| !of_one.is_empty()));
            let _clients = [connect(address).await, connect(address).await];
            let mut accepted = 0;
            while accepted < 2 {
                for listener in listeners.iter_mut().flatten() {
                    accepted += usize::from(listener.try_accept().unwrap().is_some());
                }
            }
        }
        let ends = nix::unistd::pipe().unwrap();
        let end = ends.0.as_raw_fd();
        for wrong in [&[][..], &[0], &[end], &[1_000_000], &[-1]] {
            assert!(Bound::inherited(wrong).is_err(), "{wrong:?}");
        }
        // It was left as it is.
        assert!(nix::fcntl::fcntl(&ends.0, nix::fcntl::FcntlArg::F_GETFD).is_ok());
    });
}

#[test]
fn a_listener_that_is_gone_is_watched_no_more_although_the_address_stays() {
    on_each(|driver| async move {
        let bound = bound();
        for _ in 0..3 {
            let listener = listener(&bound);
            assert!(!is_ready(|cx| pin!(listener.readable()).poll(cx)).await);
            drop(listener);
            if driver == Driver::Epoll {
                assert_eq!(crate::net::executor::registrations(), (0, Some(0)));
            }
        }
        let listener = listener(&bound);
        let _client = connect(bound.address().unwrap()).await;
        accept(&listener).await;
    });
}
