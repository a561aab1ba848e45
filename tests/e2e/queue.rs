//! Whom the kernel has let in and the front has not accepted yet, when the front is told to stop, or to close their address.

#![allow(clippy::unwrap_used)] // a test: a panic is a failure

use std::net::{SocketAddr, TcpStream};

use nix::sys::signal::Signal;

use crate::front::{Front, eventually};
use crate::peer::Peer;
use crate::prefix::Plain;
use crate::upgrade::{Successor, ends, upgrade};

/// Many more than are accepted in one go.
const WAITING: usize = 1000;

const HTTP: &str = "server { listen 127.0.0.1:0 backlog=1024; return 200 $pid; }";

/// Connections that have sent their request to a front that does nothing at all, and then has something to do for a signal.
fn wait_for(front: &Front, signal: Signal) -> Vec<Peer> {
    wait_at(front, front.addr(0), signal)
}

fn wait_at(front: &Front, address: SocketAddr, signal: Signal) -> Vec<Peer> {
    front.signal(Signal::SIGSTOP);
    eventually("it does nothing", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", front.pid())).unwrap();
        stat.contains(") T ").then_some(())
    });
    let clients = (0..WAITING).map(|_| {
        let mut client = Peer::connect(address);
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        client
    });
    let clients = clients.collect();
    front.signal(signal);
    front.signal(Signal::SIGCONT);
    clients
}

#[test]
fn quit_answers_whoever_is_connected() {
    let mut front = Front::start(HTTP);
    for mut client in wait_for(&front, Signal::SIGQUIT) {
        assert_eq!(client.answer().status(), 200);
        client.ends();
    }
    assert!(front.wait().success());
    assert!(Plain::open(front.addr(0)).is_err(), "nobody new");
}

/// They are answered as the last configuration says that named the address, and stay with that.
#[test]
fn a_reload_without_their_address_answers_whoever_is_connected() {
    for workers in [1, 2] {
        let front = Front::start_main(
            &format!("worker_processes {workers};"),
            &format!("{HTTP} server {{ listen 127.0.0.1:0 backlog=1024; return 200 goes; }}"),
        );
        let address = front.addr(1);
        front.configure(HTTP);
        for mut client in wait_at(&front, address, Signal::SIGHUP) {
            for _ in 0..2 {
                assert_eq!(client.get("/").text(), "goes");
            }
        }
        eventually("nobody new", || TcpStream::connect(address).err());
        let pid = Peer::connect(front.addr(0)).get("/").text();
        assert_eq!(pid, front.pid().to_string());
    }
}

/// Where another process has the sockets, they are its, and so is whoever waits in them.
#[test]
fn whoever_waits_passes_to_the_next_process() {
    let front = Front::start(HTTP);
    let new = Successor(upgrade(&front, front.pid()));
    let mut by_new = 0;
    for mut client in wait_for(&front, Signal::SIGQUIT) {
        let pid = client.answer().text();
        assert!(
            [front.pid(), new.0]
                .iter()
                .any(|process| process.to_string() == pid)
        );
        by_new += usize::from(pid == new.0.to_string());
    }
    ends(front.pid());
    println!("{by_new} of {WAITING} by the next process");
    assert_eq!(
        Peer::connect(front.addr(0)).get("/").text(),
        new.0.to_string()
    );
}
