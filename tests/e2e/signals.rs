//! Signals: stopping at once and gracefully, and reading the configuration again.

#![allow(clippy::unwrap_used)] // a test: a panic is a failure

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use ntlm_origin::client::Connection;
use ntlm_origin::{Origin, OriginOptions};

use crate::front::{Front, PATIENCE, eventually};
use crate::prefix::{HELLO, Plain, Prefix, free_address, get};

/// A server that takes one request and answers when it is told.
pub(crate) struct Held {
    pub(crate) address: SocketAddr,
    arrived: Receiver<()>,
    answer: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Held {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (arrives, arrived) = channel();
        let (answer, told) = channel::<()>();
        let thread = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut connection = Plain::over(stream).unwrap();
            if connection.read_until("\r\n\r\n").is_err() {
                return;
            }
            let _ = arrives.send(());
            if told.recv().is_ok() {
                let _ = connection.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone");
            }
        });
        Self {
            address,
            arrived,
            answer: Some(answer),
            thread: Some(thread),
        }
    }

    /// A front before it, and a client whose request it holds.
    fn in_flight(&self, main: &str) -> (Front, Plain) {
        let front = Front::start_main(
            main,
            &format!(
                "access_log logs/access.log;
                 server {{ listen 127.0.0.1:0; location / {{ proxy_pass http://{}; }}
                 location /hello {{ return 200 hello; }} }}",
                self.address
            ),
        );
        let client = self.client(front.addr(0));
        (front, client)
    }

    /// A client of a front before it, whose request it holds.
    pub(crate) fn client(&self, front: SocketAddr) -> Plain {
        let mut client = Plain::open(front).unwrap();
        client
            .send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap();
        self.arrived.recv_timeout(PATIENCE).unwrap();
        client
    }

    pub(crate) fn answer(&self) {
        self.answer.as_ref().unwrap().send(()).unwrap();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.answer.take());
        // Where nobody came, it still waits for somebody.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn refuses(address: SocketAddr) -> bool {
    Plain::open(address).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

#[test]
fn term_and_int_stop_at_once() {
    for (signal, words) in [
        (Signal::SIGTERM, "signal 15 (SIGTERM) received, exiting"),
        (Signal::SIGINT, "signal 2 (SIGINT) received, exiting"),
    ] {
        let held = Held::start();
        let (mut front, mut client) =
            held.in_flight("worker_processes 2; worker_shutdown_timeout 1h;");
        front.signal(signal);
        let status = front.wait();
        assert_eq!(status.code(), Some(0), "{status}");
        let read = client.read_to_end();
        assert!(
            read.as_ref().map_or(true, Vec::is_empty),
            "no answer: {read:?}"
        );
        assert!(front.error_log().contains(words));
        assert!(front.error_log().trim_end().ends_with(": exit"));
        assert!(!front.path().join("logs/front.pid").exists());
    }
}

#[test]
fn quit_finishes_what_is_in_flight_and_nothing_else() {
    let held = Held::start();
    let (mut front, mut client) = held.in_flight("worker_processes 2;");
    let address = front.addr(0);
    let accepted = || {
        let before = front.sockets();
        let client = Plain::open(address).unwrap();
        eventually("it is accepted", || {
            (front.sockets() > before).then_some(())
        });
        client
    };
    let mut idle = accepted();
    idle.send("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    idle.read_until("hello").unwrap();
    let mut silent = accepted();
    let mut begun = accepted();
    begun.send("GET /hello HT").unwrap();
    front.signal(Signal::SIGQUIT);
    assert_eq!(idle.read_to_end().unwrap(), b"", "closed at once");
    assert_eq!(silent.read_to_end().unwrap(), b"", "closed at once");
    eventually("nobody new", || refuses(address).then_some(()));
    assert!(front.path().join("logs/front.pid").exists(), "still there");
    held.answer();
    assert!(
        client
            .read_until("done")
            .unwrap()
            .starts_with("HTTP/1.1 200")
    );
    assert_eq!(client.read_to_end().unwrap(), b"", "and closed after it");
    begun.send("TP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(begun.rest().unwrap(), (200, "hello".into()));
    assert_eq!(front.wait().code(), Some(0));
    assert!(!front.path().join("logs/front.pid").exists());
    let log = front.access_log();
    assert!(log.contains("\"GET /held HTTP/1.1\" 200 4"), "{log}");
}

#[tokio::test]
async fn quit_lets_long_bodies_through() {
    const BYTES: usize = 20_000_000;
    let origin = Origin::start(OriginOptions::default()).unwrap();
    let mut front = Front::start(&format!(
        "server {{ listen 127.0.0.1:0; location / {{ proxy_pass http://{}; client_max_body_size 0; }} }}",
        origin.addr()
    ));
    // Neither socket buffer can hold them: the bodies are on their way when the signal comes.
    let mut down = Connection::open(front.addr(0)).await.unwrap();
    let request = format!("GET /bytes/{BYTES} HTTP/1.1\r\nHost: a\r\n\r\n");
    down.send(request.as_bytes()).await.unwrap();
    assert_eq!(down.response_head("GET").await.unwrap().status, 200);
    let mut up = Connection::open(front.addr(0)).await.unwrap();
    let half = vec![b'x'; BYTES / 2];
    let head = format!("PUT /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {BYTES}\r\n\r\n");
    up.send(head.as_bytes()).await.unwrap();
    up.send(&half).await.unwrap();
    front.signal(Signal::SIGQUIT);
    let address = front.addr(0);
    eventually("nobody new", || refuses(address).then_some(()));
    up.send(&half).await.unwrap();
    let answer = up.response("PUT").await.unwrap();
    assert!(
        answer.text().contains(&format!("body-bytes: {BYTES}")),
        "{}",
        answer.text()
    );
    let mut received = 0;
    while let Some(piece) = down.body_piece().await.unwrap() {
        received += piece.len();
    }
    assert_eq!(received, BYTES);
    drop((down, up));
    assert_eq!(front.wait().code(), Some(0));
}

#[test]
fn the_shutdown_timeout_bounds_quit() {
    let held = Held::start();
    let (mut front, mut client) =
        held.in_flight("worker_processes 2; worker_shutdown_timeout 300ms;");
    let began = Instant::now();
    front.signal(Signal::SIGQUIT);
    assert_eq!(front.wait().code(), Some(0));
    assert!(
        began.elapsed() >= Duration::from_millis(300),
        "it waits so long"
    );
    assert!(client.read_to_end().map_or(true, |bytes| bytes.is_empty()));
}

#[test]
fn term_ends_a_graceful_stop() {
    let held = Held::start();
    let (mut front, _client) = held.in_flight("worker_processes 2;");
    front.signal(Signal::SIGQUIT);
    let address = front.addr(0);
    eventually("nobody new", || refuses(address).then_some(()));
    front.signal(Signal::SIGTERM);
    assert_eq!(front.wait().code(), Some(0));
}

#[test]
fn logs_are_reopened_during_a_graceful_stop() {
    let held = Held::start();
    let (mut front, mut client) = held.in_flight("worker_processes 2;");
    front.signal(Signal::SIGQUIT);
    let address = front.addr(0);
    eventually("nobody new", || refuses(address).then_some(()));
    let log = front.path().join("logs/access.log");
    std::fs::rename(&log, log.with_extension("1")).unwrap();
    front.signal(Signal::SIGUSR1);
    eventually("the new file", || log.exists().then_some(()));
    // When it hears of the next one it has done what the first one asked for.
    front.signal(Signal::SIGUSR1);
    front.error_log_with("reopening logs", 2);
    held.answer();
    client.read_until("done").unwrap();
    front.wait();
    assert_eq!(front.access_log().lines().count(), 1);
}

#[test]
fn signals_that_mean_nothing_end_nothing() {
    let front = Front::start(HELLO);
    for signal in [Signal::SIGWINCH, Signal::SIGPIPE] {
        front.signal(signal);
    }
    front.signal(Signal::SIGUSR1);
    eventually("it lives", || {
        front.error_log().contains("reopening").then_some(())
    });
    assert_eq!(get(front.addr(0), "/").unwrap().0, 200);
}

/// What `location /` of a server answers.
fn says(listen: &str, word: &str) -> String {
    format!("server {{ listen {listen}; location / {{ return 200 {word}; }} }}")
}

/// Waits until a new connection gets `word`: workers take a configuration over one after the other.
#[track_caller]
fn eventually_says(front: &Front, nth: usize, word: &str) {
    let address = front.listening()[nth];
    eventually(word, || {
        // Several, because each worker answers for itself.
        (0..10)
            .all(|_| get(address, "/").is_ok_and(|(_, body)| body == word))
            .then_some(())
    });
}

#[test]
fn a_reload_brings_new_locations_servers_and_listeners() {
    let front = Front::start(&says("127.0.0.1:0", "old"));
    eventually_says(&front, 0, "old");
    front.reload(&(says("127.0.0.1:0", "new") + &says("127.0.0.2:0", "second")));
    eventually_says(&front, 0, "new");
    assert_eq!(front.listening().len(), 2, "the first is kept");
    eventually_says(&front, 1, "second");
    let second = front.listening()[1];
    front.reload(&says("127.0.0.1:0", "last"));
    eventually("the address that is gone", || refuses(second).then_some(()));
    front.reload(&(says("127.0.0.1:0", "more") + &says("127.0.0.2:0", "third")));
    eventually_says(&front, 0, "more");
    eventually_says(&front, 2, "third");
}

#[test]
fn the_next_request_of_an_idle_connection_sees_the_new_configuration() {
    const ASK: &str = "GET / HTTP/1.1\r\nHost: front\r\n\r\n";
    let front = Front::start(&says("127.0.0.1:0", "old"));
    let mut client = Plain::open(front.addr(0)).unwrap();
    client.send(ASK).unwrap();
    client.read_until("\r\n\r\nold").unwrap();
    front.reload(&says("127.0.0.1:0", "new"));
    eventually_says(&front, 0, "new");
    client.send(ASK).unwrap();
    client.read_until("\r\n\r\n").unwrap();
    assert!(client.read_until("w").unwrap().ends_with("new"));
}

#[test]
fn a_reload_brings_new_names_on_an_address() {
    let address = free_address();
    let one = says(&address.to_string(), "one");
    let front = Front::start(&one);
    let two = format!("server {{ listen {address}; server_name two.example; return 200 two; }}");
    front.reload(&(one + &two));
    eventually("the other server answers", || {
        let mut client = Plain::open(address).unwrap();
        client
            .send("GET / HTTP/1.1\r\nHost: two.example\r\nConnection: close\r\n\r\n")
            .unwrap();
        (client.rest().unwrap().1 == "two").then_some(())
    });
    assert_eq!(get(address, "/").unwrap().1, "one");
    assert_eq!(front.listening(), [address], "the socket stays");
}

#[test]
fn free_ports_are_kept_by_a_reload_each_for_itself() {
    let front = Front::start(&(says("127.0.0.1:0", "one") + &says("127.0.0.1:0", "two")));
    let words = |first: &str, second: &str| {
        eventually_says(&front, 0, first);
        eventually_says(&front, 1, second);
    };
    words("one", "two");
    front.reload(&(says("127.0.0.1:0", "three") + &says("127.0.0.1:0", "four")));
    words("three", "four");
    assert_eq!(front.listening().len(), 2);
}

#[tokio::test]
async fn a_reload_brings_new_servers_of_a_group() {
    let origin = |name: &str| {
        Origin::start(OriginOptions {
            name: name.into(),
            ..OriginOptions::default()
        })
        .unwrap()
    };
    let (old, new) = (origin("OLD"), origin("NEW"));
    let http = |origin: &Origin| {
        format!(
            "upstream mail {{ server {}; keepalive 8; }}
             server {{ listen 127.0.0.1:0; location / {{ proxy_pass http://mail; }} }}",
            origin.addr()
        )
    };
    let front = Front::start(&http(&old));
    let mut client = Connection::open(front.addr(0)).await.unwrap();
    let answer = client.get("/whoami").await.unwrap();
    assert_eq!(answer.headers.first("x-server"), Some("OLD"));
    front.reload(&http(&new));
    // The client's connection stays. Its worker may be the last one to know.
    for _ in 0..1000 {
        let answer = client.get("/whoami").await.unwrap();
        if answer.headers.first("x-server") == Some("NEW") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the new server is never asked");
}

#[test]
fn a_request_in_flight_finishes_under_the_old_configuration() {
    let held = Held::start();
    let (front, mut client) = held.in_flight("worker_processes 2;");
    let old = front.addr(0);
    front.reload(&says("127.0.0.2:0", "new"));
    eventually_says(&front, 1, "new");
    eventually("the old address is gone", || refuses(old).then_some(()));
    held.answer();
    assert!(
        client
            .read_until("done")
            .unwrap()
            .starts_with("HTTP/1.1 200")
    );
    // Its connection stays, and so does what it knew.
    client
        .send("GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .unwrap();
    assert_eq!(client.rest().unwrap(), (200, "hello".into()));
}

#[test]
fn a_bad_file_changes_nothing_and_is_reported_with_its_line() {
    let front = Front::start(&says("127.0.0.1:0", "old"));
    let file = front.path().join("front.conf");
    let good = std::fs::read_to_string(&file).unwrap();
    for (text, message) in [
        (
            good.replace("return 200", "frobnicate 200"),
            format!("unknown directive \"frobnicate\" in {}:", file.display()),
        ),
        (
            good.replace("info;", "info;\nfrob"),
            format!("unknown directive \"frob\" in {}:", file.display()),
        ),
        (
            // As a file is for a moment while somebody writes it.
            String::new(),
            "no \"events\" section in configuration".to_owned(),
        ),
        (
            good.replace("200 old", "200 new; access_log no/a.log"),
            format!(
                "open() \"{}\" failed (2: No such file or directory)",
                front.path().join("no/a.log").display()
            ),
        ),
        (
            good.replace("pid logs/front.pid;", "pid no/front.pid;")
                .replace("200 old", "200 new"),
            format!(
                "open() \"{}\" failed (2: No such file or directory)",
                front.path().join("no/front.pid").display()
            ),
        ),
    ] {
        assert_ne!(text, good);
        std::fs::write(&file, text).unwrap();
        front.signal(Signal::SIGHUP);
        let emerg = |log: String| {
            log.lines()
                .any(|line| line.contains("[emerg]") && line.contains(&message))
                .then_some(())
        };
        eventually(&message, || emerg(front.error_log()));
        assert_eq!(get(front.addr(0), "/").unwrap(), (200, "old".into()));
    }
    assert!(!front.error_log().contains("reconfigured"));
    std::fs::write(&file, good.replace("200 old", "200 new")).unwrap();
    front.signal(Signal::SIGHUP);
    eventually_says(&front, 0, "new");
}

#[test]
fn a_reload_to_a_port_in_use_keeps_everything_as_it_was() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let front = Front::start(&says("127.0.0.1:0", "old"));
    let file = front.path().join("front.conf");
    let text = std::fs::read_to_string(&file).unwrap();
    let http = says("127.0.0.2:0", "new")
        + &says("127.0.0.1:0", "new")
        + &says(&address.to_string(), "new");
    let (main, _) = text.split_once("http {").unwrap();
    std::fs::write(&file, format!("{main}http {{ {http} }}")).unwrap();
    front.signal(Signal::SIGHUP);
    let message = format!("[emerg] PID: bind() to {address} failed (98: Address already in use)");
    let (level, words) = message.split_once(" PID").unwrap();
    eventually(&message, || {
        front
            .error_log()
            .lines()
            .any(|line| line.contains(level) && line.ends_with(words))
            .then_some(())
    });
    eventually_says(&front, 0, "old");
    // Once it is free, the same file is taken.
    drop(taken);
    front.signal(Signal::SIGHUP);
    eventually_says(&front, 0, "new");
    assert_eq!(get(address, "/").unwrap(), (200, "new".into()));
}

#[test]
fn a_reload_moves_the_pid_file() {
    let prefix = crate::prefix::Prefix::with("", HELLO);
    let daemon = prefix.daemon();
    let text = prefix.read("front.conf").replace("front.pid", "other.pid");
    std::fs::write(prefix.path().join("front.conf"), text).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(daemon.pid()), Signal::SIGHUP).unwrap();
    eventually("the other file", || {
        (prefix.read("logs/other.pid").trim() == daemon.pid().to_string()).then_some(())
    });
    eventually("the first is gone", || {
        (!prefix.path().join("logs/front.pid").exists()).then_some(())
    });
    assert_eq!(prefix.run(&["-s", "stop"]).code, Some(0));
    daemon.wait();
    assert!(!prefix.path().join("logs/other.pid").exists());
}

#[tokio::test]
async fn a_login_survives_reloads() {
    let options = OriginOptions::default();
    let alice = options.users[0].clone();
    let origin = Origin::start(options).unwrap();
    let http = format!(
        "upstream mail {{ server {}; ntlm; }}
         server {{ listen 127.0.0.1:0; location / {{ proxy_pass http://mail; }} }}",
        origin.addr()
    );
    let front = Front::start(&http);
    let mut client = Connection::open(front.addr(0)).await.unwrap();
    let answer = client.login_ntlm("/private/whoami", &alice).await.unwrap();
    let connection = answer.headers.first("x-connection").unwrap().to_owned();
    for _ in 0..3 {
        front.reload(&http);
        let answer = client.get("/private/whoami").await.unwrap();
        assert_eq!(answer.text(), alice.identity());
        assert_eq!(answer.headers.first("x-connection"), Some(&*connection));
    }
}

/// As scripts do it: the pid file is there no more, or the signal is sent, and the next one is started at once.
#[test]
fn a_start_waits_for_the_addresses_of_a_front_that_is_on_its_way_out() {
    let address = free_address();
    let prefix = Prefix::new();
    let unix = prefix.path().join("front.sock");
    prefix.configure(
        "worker_processes 2;",
        &format!(
            "server {{ listen {address}; listen unix:{}; return 200 $pid; }}",
            unix.display()
        ),
    );
    let mut daemon = prefix.daemon();
    for signal in ["quit", "stop", "quit", "stop"] {
        assert_eq!(prefix.run(&["-s", signal]).code, Some(0));
        let next = prefix.daemon();
        daemon.wait();
        assert_ne!(next.pid(), daemon.pid());
        let answer = (200, next.pid().to_string());
        assert_eq!(get(address, "/").unwrap(), answer, "after {signal}");
        assert!(unix.exists());
        daemon = next;
    }
}
