//! What the rooms above rely on, on each driver.

#![allow(clippy::unwrap_used)] // a test: a panic is a failure

mod ahead;
mod executor;
mod listener;
mod many;
mod socket;

use std::future::{Future, poll_fn};
use std::io::IoSlice;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use super::*;

/// How long one test may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs `test` on each driver that the kernel allows.
fn on_each<F: Future<Output = ()>>(test: impl Fn(Driver) -> F) {
    for driver in [Driver::Uring, Driver::Epoll] {
        if driver == Driver::Uring
            && let Err(refusal) = crate::process::check_ring()
        {
            println!("not tested: {refusal}");
            continue;
        }
        println!("on {driver}");
        let finished = async {
            let patience = sleep(PATIENCE);
            let (mut test, mut patience) = (pin!(test(driver)), pin!(patience));
            poll_fn(|cx| match test.as_mut().poll(cx) {
                Poll::Pending => patience.as_mut().poll(cx).map(|()| false),
                Poll::Ready(()) => Poll::Ready(true),
            })
            .await
        };
        assert!(run(driver, finished).unwrap(), "{driver}: took too long");
    }
}

/// Whether `poll` is ready now, once everything has been noticed that the kernel knows.
async fn is_ready<T>(mut poll: impl FnMut(&mut std::task::Context<'_>) -> Poll<T>) -> bool {
    // Arms what has to be armed; a ring needs a turn to submit and one to complete.
    for _ in 0..3 {
        if poll_fn(|cx| Poll::Ready(poll(cx).is_ready())).await {
            return true;
        }
        sleep(Duration::from_millis(2)).await;
    }
    false
}

fn bound() -> Bound {
    bound_for(1)
}

fn listener(bound: &Bound) -> Listener {
    Listener::new(bound.for_worker(0, 1).unwrap().remove(0)).unwrap()
}

fn bound_for(workers: usize) -> Bound {
    let options = InetOptions {
        backlog: 1024,
        shares_port: false,
        ipv6only: false,
        keepalive: None,
    };
    Bound::inet("127.0.0.1:0".parse().unwrap(), workers, &options).unwrap()
}

async fn accept(listener: &Listener) -> Socket {
    loop {
        if let Some(accepted) = listener.try_accept().unwrap() {
            return accepted.socket;
        }
        listener.readable().await;
    }
}

async fn connect(to: SocketAddr) -> Socket {
    let socket = Socket::connect(to, None, false).unwrap();
    poll_fn(|cx| socket.poll_connected(cx)).await.unwrap();
    socket
}

/// Both ends of a connection.
async fn pair() -> (Socket, Socket) {
    let bound = bound();
    let listener = listener(&bound);
    let client = connect(bound.address().unwrap()).await;
    (client, accept(&listener).await)
}

async fn send(socket: &Socket, mut bytes: &[u8]) {
    loop {
        let n = socket.try_send(&[IoSlice::new(bytes)], false).unwrap();
        bytes = &bytes[n..];
        if bytes.is_empty() {
            return;
        }
        poll_fn(|cx| socket.poll_writable(cx)).await;
    }
}

/// Receives something; nothing is the end.
async fn receive(socket: &Socket) -> Vec<u8> {
    loop {
        poll_fn(|cx| socket.poll_readable(cx)).await;
        if let Some(loan) = socket.try_recv(crate::net::SCRATCH_BYTES).unwrap() {
            return loan.to_vec();
        }
    }
}

async fn receive_all(socket: &Socket) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let piece = receive(socket).await;
        if piece.is_empty() {
            return all;
        }
        all.extend_from_slice(&piece);
    }
}

/// Bytes that differ at every place.
fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32)
        .flat_map(u32::to_le_bytes)
        .take(len)
        .collect()
}

/// Runs both to their ends.
async fn join(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    let (mut one_left, mut other_left) = (true, true);
    poll_fn(|cx| {
        one_left = one_left && one.as_mut().poll(cx).is_pending();
        other_left = other_left && other.as_mut().poll(cx).is_pending();
        if one_left || other_left {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
}
