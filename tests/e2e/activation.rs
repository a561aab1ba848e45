//! Listening sockets that a service manager opens and keeps (`systemd.socket(5)`), passed as systemd passes them.

#![allow(clippy::unwrap_used)] // a test: a panic is a failure

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::front::{BINARY, eventually};
use crate::peer::Peer;
use crate::prefix::{Prefix, free_address};
use crate::upgrade::{Successor, ends, tell, upgrade_logged};

const MAIN: &str = "daemon off; worker_processes 2;";

/// A front that was started with sockets, ended with its value.
struct Activated(Child);

impl Activated {
    /// Starts it with up to three sockets, which are its descriptors 3 to 5.
    fn start(prefix: &Prefix, sockets: &[&dyn AsFd]) -> Self {
        let count = sockets.len();
        let carried = |nth: usize| match sockets.get(nth) {
            Some(socket) => Stdio::from(socket.as_fd().try_clone_to_owned().unwrap()),
            None => Stdio::null(),
        };
        // The standard streams carry the sockets into the shell, which moves them to where systemd would have put them.
        let moves: String = (0..count)
            .map(|nth| format!(" {}<&{nth}", nth + 3))
            .collect();
        let script = format!(
            "exec{moves}; exec </dev/null >/dev/null 2>>logs/stderr
             export LISTEN_PID=$$ LISTEN_FDS={count}; exec \"$0\" \"$@\""
        );
        let child = Command::new("sh")
            .current_dir(prefix.path())
            .args(["-c", &script, BINARY, "-p", "."])
            .args(["-c", "front.conf"])
            .stdin(carried(0))
            .stdout(carried(1))
            .stderr(carried(2))
            .spawn()
            .unwrap();
        Self(child)
    }

    /// The same, once it serves.
    fn serving(prefix: &Prefix, sockets: &[&dyn AsFd]) -> Self {
        let mut started = Self::start(prefix, sockets);
        let mark = format!(" {}#", started.pid());
        eventually("the front serves", || {
            if let Some(status) = started.0.try_wait().unwrap() {
                panic!("{status}\n{}", prefix.error_log());
            }
            let log = prefix.error_log();
            let mut lines = log.lines();
            lines
                .any(|line| line.contains(&mark) && line.contains(" workers on "))
                .then_some(())
        });
        started
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    fn tell(&self, signal: Signal) {
        tell(self.pid(), signal);
    }

    /// Tells it to quit, and waits until it has.
    fn quits(mut self) {
        self.tell(Signal::SIGQUIT);
        self.ends();
    }

    fn ends(&mut self) {
        let status = eventually("the front ends", || self.0.try_wait().unwrap());
        assert!(status.success(), "{status}");
    }
}

impl Drop for Activated {
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Who answers at an address.
fn answers(address: SocketAddr) -> String {
    // Where the kernel lets nobody in, this would wait for minutes.
    TcpStream::connect_timeout(&address, Duration::from_secs(5)).expect("the kernel lets us in");
    Peer::connect(address).get("/").text()
}

#[test]
fn a_socket_of_systemd_is_used_and_left_open() {
    let (listener, address) = listener();
    let server = format!("server {{ listen {address}; return 200 $pid; }}");
    let prefix = Prefix::with(MAIN, &server);
    for _ in 0..2 {
        let front = Activated::start(&prefix, &[&listener]);
        // Whoever connects before it serves is served.
        for _ in 0..10 {
            assert_eq!(answers(address), front.pid().to_string());
        }
        front.quits();
        // systemd holds on to it.
        TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap();
        let log = prefix.error_log();
        assert!(!log.contains("[emerg]") && !log.contains("[warn]"), "{log}");
    }
}

/// The process that was started with them has gone; the one that it started knows still whose they are.
#[test]
fn sockets_of_systemd_stay_its_own_through_upgrades() {
    let (listener, address) = listener();
    let prefix = Prefix::new();
    let path = prefix.path().join("front.sock");
    let unix = UnixListener::bind(&path).unwrap();
    prefix.configure(
        MAIN,
        &format!(
            "server {{ listen {address}; listen unix:{}; return 200 $pid; }}",
            path.display()
        ),
    );
    let first = Activated::serving(&prefix, &[&listener, &unix]);
    let mut pid = first.pid();
    let mut first = Some(first);
    for _ in 0..2 {
        let new = Successor(upgrade_logged(pid, || prefix.error_log()));
        match first.take() {
            Some(first) => first.quits(),
            None => {
                tell(pid, Signal::SIGQUIT);
                ends(pid);
            }
        }
        assert_eq!(answers(address), new.0.to_string());
        pid = new.0;
        std::mem::forget(new);
    }
    let last = Successor(pid);
    tell(last.0, Signal::SIGQUIT);
    ends(last.0);
    // The next start has them as the first one had.
    let next = Activated::serving(&prefix, &[&listener, &unix]);
    for _ in 0..10 {
        assert_eq!(answers(address), next.pid().to_string());
    }
    assert_eq!(
        Peer::connect_unix(&path).get("/").text(),
        next.pid().to_string()
    );
    next.quits();
    assert!(path.exists());
}

/// Of the addresses of one front, some are systemd's and some its own: each is left as it ought to be.
#[test]
fn what_systemd_has_not_opened_is_closed_by_who_has() {
    const WAITING: usize = 200;
    let (listener, address) = listener();
    let own = free_address();
    let prefix = Prefix::new();
    let path = prefix.path().join("own.sock");
    prefix.configure(
        MAIN,
        &format!(
            "server {{ listen {address}; listen {own} backlog=1024; listen unix:{}; return 200 $pid; }}",
            path.display()
        ),
    );
    let mut front = Activated::serving(&prefix, &[&listener]);
    assert_eq!(
        Peer::connect_unix(&path).get("/").text(),
        front.pid().to_string()
    );
    front.tell(Signal::SIGSTOP);
    let clients: Vec<_> = (0..WAITING)
        .map(|_| {
            let mut client = Peer::connect(own);
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            client
        })
        .collect();
    front.tell(Signal::SIGQUIT);
    front.tell(Signal::SIGCONT);
    for mut client in clients {
        assert_eq!(client.answer().text(), front.pid().to_string());
    }
    front.ends();
    assert!(!path.exists(), "nobody listens there");
    let refused = TcpStream::connect(own).map_err(|error| error.kind());
    assert_eq!(refused.err(), Some(ErrorKind::ConnectionRefused));
    let next = Activated::serving(&prefix, &[&listener]);
    assert_eq!(answers(address), next.pid().to_string());
    assert_eq!(answers(own), next.pid().to_string());
}

/// A socket that is handed over with the filter of a process that thought that it was the last.
#[test]
fn an_inherited_socket_lets_everybody_in() {
    let (listener, address) = listener();
    socket2::SockRef::from(&listener)
        .attach_filter(&[socket2::SockFilter::new(
            (libc::BPF_RET | libc::BPF_K) as u16,
            0,
            0,
            0,
        )])
        .unwrap();
    let server = format!("server {{ listen {address}; return 200 $pid; }}");
    let prefix = Prefix::with(MAIN, &server);
    let front = Activated::serving(&prefix, &[&listener]);
    assert_eq!(answers(address), front.pid().to_string());
}
