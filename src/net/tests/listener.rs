//! Accepting.

use std::cell::Cell;
use std::rc::Rc;

use super::*;

#[test]
fn nobody_is_left_waiting() {
    on_each(|_| async {
        let bound = bound();
        let listener = bound.listener(0).unwrap();
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
fn a_closed_address_ends_the_wait() {
    on_each(|_| async {
        let bound = bound();
        let listener = bound.listener(0).unwrap();
        let ended = Rc::new(Cell::new(false));
        spawn({
            let ended = Rc::clone(&ended);
            async move {
                loop {
                    listener.readable().await;
                    if listener.try_accept().is_err() {
                        break;
                    }
                }
                ended.set(true);
            }
        });
        sleep(Duration::from_millis(5)).await;
        assert!(!ended.get());
        drop(bound);
        while !ended.get() {
            sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn a_listener_that_is_gone_is_watched_no_more_although_the_address_stays() {
    on_each(|driver| async move {
        let bound = bound();
        for _ in 0..3 {
            let listener = bound.listener(0).unwrap();
            assert!(!is_ready(|cx| pin!(listener.readable()).poll(cx)).await);
            drop(listener);
            if driver == Driver::Epoll {
                assert_eq!(crate::net::executor::registrations(), (0, Some(0)));
            }
        }
        let listener = bound.listener(0).unwrap();
        let _client = connect(bound.address().unwrap()).await;
        accept(&listener).await;
    });
}
