//! Listening sockets that a service manager opens and keeps (`systemd.socket(5)`), passed as systemd passes them.

#![allow(clippy::unwrap_used)] // a test: a panic is a failure

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use socket2::{Domain, SockFilter, SockRef, Socket, Type};

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
    SockRef::from(&listener)
        .attach_filter(&[SockFilter::new(
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

/// As if the front had opened it: what it accepts there sends small answers at once, and notices a peer that is gone.
#[test]
fn a_socket_of_systemd_is_set_up_as_the_configuration_says() {
    let (listener, address) = listener();
    let prefix = Prefix::with(
        MAIN,
        &format!("server {{ listen {address} so_keepalive=7s::3; return 200 $pid; }}"),
    );
    let _front = Activated::serving(&prefix, &[&listener]);
    // The descriptors are those of one socket.
    let socket = SockRef::from(&listener);
    assert!(socket.tcp_nodelay().unwrap());
    assert!(socket.keepalive().unwrap());
    assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(7));
    assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
}

/// `ListenStream=80` takes IPv4 and IPv6 by one socket, unless systemd is told otherwise.
#[test]
fn a_socket_for_both_protocols_serves_listen_with_a_port_alone() {
    let (listener, port) = both_protocols();
    let prefix = Prefix::with(
        MAIN,
        &format!("server {{ listen {port}; return 200 $remote_addr; }}"),
    );
    let front = Activated::serving(&prefix, &[&listener]);
    let (v4, v6) = loopback(port);
    assert_eq!(answers(v4), "127.0.0.1");
    assert_eq!(answers(v6), "::1");
    // Also after an upgrade, and after reloads that call it something else and back.
    let new = Successor(upgrade_logged(front.pid(), || prefix.error_log()));
    front.quits();
    let names = [format!("[::]:{port} ipv6only=off"), port.to_string()];
    for (nth, name) in names.iter().enumerate() {
        let server = format!("server {{ listen {name}; return 200 {nth}$remote_addr; }}");
        prefix.configure(MAIN, &server);
        tell(new.0, Signal::SIGHUP);
        eventually("the reload", || {
            (prefix.error_log().matches("reconfigured").count() > nth).then_some(())
        });
        let [by_v4, by_v6] = ["127.0.0.1", "::1"].map(|client| format!("{nth}{client}"));
        eventually("both workers have taken it over", || {
            (answers(v4) == by_v4 && answers(v6) == by_v6).then_some(())
        });
    }
    let log = prefix.error_log();
    assert!(!log.contains("[emerg]") && !log.contains("[warn]"), "{log}");
}

/// Where the configuration wants the two apart, it is said what to write.
#[test]
fn a_socket_for_both_protocols_leaves_no_room_for_another() {
    let (listener, port) = both_protocols();
    let prefix = Prefix::with(
        MAIN,
        &format!("server {{ listen {port}; listen [::]:{port}; return 200 $pid; }}"),
    );
    let mut front = Activated::start(&prefix, &[&listener]);
    let status = eventually("it ends", || front.0.try_wait().unwrap());
    assert_eq!(status.code(), Some(1));
    let wanted = format!(
        "bind() to 0.0.0.0:{port} failed (98: Address already in use): systemd has opened [::]:{port} for IPv4, too; \
         let its socket unit say BindIPv6Only=ipv6-only"
    );
    assert!(
        prefix.error_log().contains(&wanted),
        "{}",
        prefix.error_log()
    );
}

#[test]
fn a_socket_that_nothing_names_is_said_and_kept_for_a_reload() {
    let ((listener, address), (other, unused)) = (listener(), listener());
    let server = |address| format!("server {{ listen {address}; return 200 $pid; }}");
    let both = server(address) + &server(unused);
    let prefix = Prefix::with(MAIN, &server(address));
    let warning = format!(
        "nobody is accepted on the socket that systemd has opened at {unused}: no \"listen\" names it"
    );
    let warnings = || prefix.error_log().matches(&warning).count();
    let front = Activated::serving(&prefix, &[&listener, &other]);
    assert_eq!(warnings(), 1);
    let reload = |pid, http: &str| {
        prefix.configure(MAIN, http);
        let before = prefix.error_log().matches("reconfigured").count();
        tell(pid, Signal::SIGHUP);
        eventually("the reload", || {
            let log = prefix.error_log();
            assert!(!log.contains("[emerg]"), "{log}");
            (log.matches("reconfigured").count() > before).then_some(())
        });
    };
    // Back and forth, and through an upgrade.
    let pid = front.pid();
    reload(pid, &both);
    assert_eq!(answers(unused), pid.to_string());
    assert_eq!(warnings(), 1);
    reload(pid, &server(address));
    assert_eq!(warnings(), 2);
    let new = Successor(upgrade_logged(pid, || prefix.error_log()));
    front.quits();
    assert_eq!(warnings(), 3);
    reload(new.0, &both);
    assert_eq!(answers(unused), new.0.to_string());
    assert_eq!(warnings(), 3);
}

/// An address of which the front cannot be, because systemd has a part of it.
#[test]
fn an_address_that_systemd_has_a_part_of_is_refused_with_the_reason() {
    let (listener, address) = listener();
    let port = address.port();
    let prefix = Prefix::with(
        MAIN,
        &format!("server {{ listen {port}; return 200 $pid; }}"),
    );
    let mut front = Activated::start(&prefix, &[&listener]);
    let status = eventually("it ends", || front.0.try_wait().unwrap());
    assert_eq!(status.code(), Some(1));
    let wanted = format!(
        "bind() to 0.0.0.0:{port} failed (98: Address already in use): systemd has opened {address}; \
         let \"listen\" and its socket unit name the same address"
    );
    assert!(
        prefix.error_log().contains(&wanted),
        "{}",
        prefix.error_log()
    );
}

/// `ReusePort=`: clients come to any of them.
#[test]
fn several_sockets_of_one_address_are_all_accepted_from() {
    let sharing = |address: SocketAddr| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(128).unwrap();
        socket
    };
    let first = sharing(SocketAddr::from(([127, 0, 0, 1], 0)));
    let address = first.local_addr().unwrap().as_socket().unwrap();
    let others = [0; 2].map(|_| sharing(address));
    let prefix = Prefix::with(
        MAIN,
        &format!("server {{ listen {address}; return 200 $pid; }}"),
    );
    let front = Activated::serving(&prefix, &[&first, &others[0], &others[1]]);
    for _ in 0..50 {
        assert_eq!(answers(address), front.pid().to_string());
    }
    let log = prefix.error_log();
    assert!(!log.contains("[warn]"), "{log}");
}

fn both_protocols() -> (Socket, u16) {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
    socket.set_only_v6(false).unwrap();
    socket
        .bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into())
        .unwrap();
    socket.listen(128).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    (socket, port)
}

fn loopback(port: u16) -> (SocketAddr, SocketAddr) {
    let (v4, v6) = (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST);
    ((v4, port).into(), (v6, port).into())
}
