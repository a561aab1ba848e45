//! What a service manager is told (`sd_notify(3)`), by a socket as systemd has one.

#![allow(clippy::unwrap_used)] // a test: a panic is a failure

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Pid, mkfifo};

use crate::front::{BINARY, PATIENCE, eventually};
use crate::prefix::{HELLO, Prefix, Running, get};
use crate::signals::Held;
use crate::upgrade::Successor;

/// The socket of a service manager.
struct Manager(UnixDatagram);

impl Manager {
    fn of(prefix: &Prefix) -> Self {
        let socket = UnixDatagram::bind(prefix.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    /// The next message, line by line.
    #[track_caller]
    fn told(&self) -> Vec<String> {
        let mut message = [0; 4096];
        let length = self.0.recv(&mut message).expect("a message");
        let text = str::from_utf8(&message[..length]).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// The next one that has `line` in it; what came before is passed over.
    #[track_caller]
    fn told_of(&self, line: &str) -> Vec<String> {
        loop {
            let told = self.told();
            if told.iter().any(|told| told == line) {
                return told;
            }
        }
    }

    /// All that has come and was not read yet.
    fn unread(&self) -> Vec<Vec<String>> {
        self.0.set_nonblocking(true).unwrap();
        let mut unread = Vec::new();
        let mut message = [0; 4096];
        let end = loop {
            match self.0.recv(&mut message) {
                Ok(length) => {
                    let text = str::from_utf8(&message[..length]).unwrap();
                    unread.push(text.lines().map(str::to_owned).collect());
                }
                Err(error) => break error,
            }
        };
        assert_eq!(end.kind(), ErrorKind::WouldBlock);
        self.0.set_nonblocking(false).unwrap();
        unread
    }
}

/// The front as a service manager starts it.
fn service(prefix: &Prefix) -> Command {
    let mut command = prefix.front(&["-g", "daemon off;"]);
    command.env("NOTIFY_SOCKET", prefix.path().join("notify"));
    command
}

/// The same with a watchdog that wants to be told once in `interval`.
fn watched(prefix: &Prefix, interval: Duration) -> Command {
    let mut command = service(prefix);
    command.env("WATCHDOG_USEC", interval.as_micros().to_string());
    command
}

/// What follows `NAME=` in a message.
fn value<'a>(told: &'a [String], name: &str) -> Option<&'a str> {
    told.iter()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
}

fn monotonic_usec() -> i64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
    now.tv_sec() * 1_000_000 + now.tv_nsec() / 1000
}

#[test]
fn ready_is_told_when_every_listener_accepts() {
    let prefix = Prefix::with("worker_processes 2;", &format!("{HELLO}{HELLO}"));
    let manager = Manager::of(&prefix);
    for _ in 0..10 {
        let _ = fs::remove_file(prefix.path().join("logs/error.log"));
        let front = Running::start(service(&prefix));
        let first = manager.told();
        // No condition is waited for from here on.
        let listening = prefix.listening();
        assert_eq!(listening.len(), 2);
        for address in listening {
            assert_eq!(get(address, "/").unwrap(), (200, "hello".into()));
        }
        assert_eq!(first[0], "READY=1");
        let status = value(&first, "STATUS").unwrap();
        assert!(status.starts_with("2 workers on "), "{status}");
        assert_eq!(value(&first, "MAINPID").unwrap(), front.pid().to_string());
        front.signal(Signal::SIGTERM);
        assert_eq!(front.wait().code, Some(0));
        assert_eq!(manager.told(), ["STOPPING=1"]);
    }
}

#[test]
fn a_daemon_tells_it_too() {
    let prefix = Prefix::with("", HELLO);
    let manager = Manager::of(&prefix);
    let mut command = prefix.front(&[]);
    command.env("NOTIFY_SOCKET", prefix.path().join("notify"));
    let started = Running::start(command);
    let ready = manager.told_of("READY=1");
    assert_eq!(started.wait().code, Some(0));
    let daemon = prefix.running_daemon();
    assert_eq!(value(&ready, "MAINPID").unwrap(), daemon.pid().to_string());
    assert_eq!(prefix.run(&["-s", "stop"]).code, Some(0));
    daemon.wait();
}

#[test]
fn a_start_that_fails_is_never_ready() {
    let prefix = Prefix::with("", "server { listen unix:no/such/directory; }");
    let manager = Manager::of(&prefix);
    assert_eq!(Running::start(service(&prefix)).wait().code, Some(1));
    for arguments in [["-t", "-q"], ["-s", "reload"]] {
        let mut command = prefix.front(&arguments);
        command.env("NOTIFY_SOCKET", prefix.path().join("notify"));
        assert_eq!(Running::start(command).wait().code, Some(1));
    }
    assert_eq!(manager.unread(), Vec::<Vec<String>>::new());
}

#[test]
fn a_manager_that_is_not_there_changes_nothing() {
    let prefix = Prefix::with("", HELLO);
    let front = Running::start(service(&prefix));
    let address = eventually("the front listens", || prefix.listening().first().copied());
    assert_eq!(get(address, "/").unwrap().0, 200);
    front.signal(Signal::SIGTERM);
    assert_eq!(front.wait().code, Some(0));
    let log = prefix.error_log();
    assert!(
        log.contains("[warn]") && log.contains("the service manager cannot be told"),
        "{log}"
    );
}

#[test]
fn a_reload_is_told_at_its_beginning_and_its_end() {
    let greeting = |word: &str| {
        format!("server {{ listen 127.0.0.1:0; location / {{ return 200 {word}; }} }}")
    };
    let prefix = Prefix::with("worker_processes 2;", &greeting("first"));
    let manager = Manager::of(&prefix);
    let front = Running::start(service(&prefix));
    manager.told_of("READY=1");
    let address = prefix.listening()[0];
    for (nth, (http, answer)) in [
        (greeting("second"), "second"),
        ("frobnicate 1;".into(), "second"),
        ("server { listen unix:no/such/directory; }".into(), "second"),
        (greeting("third"), "third"),
    ]
    .into_iter()
    .enumerate()
    {
        prefix.configure("worker_processes 2;", &http);
        let before = monotonic_usec();
        front.signal(Signal::SIGHUP);
        let begins = manager.told();
        let after = monotonic_usec();
        assert_eq!(begins[0], "RELOADING=1", "{nth}");
        let time = value(&begins, "MONOTONIC_USEC").unwrap().parse::<i64>();
        assert!((before..=after).contains(&time.unwrap()), "{begins:?}");
        let ends = manager.told();
        assert_eq!(ends[0], "READY=1", "{nth}");
        let status = value(&ends, "STATUS").unwrap();
        if http.contains(answer) {
            eventually("every worker has it", || {
                (0..8)
                    .all(|_| get(address, "/").unwrap().1 == answer)
                    .then_some(())
            });
            assert!(status.starts_with("2 workers on "), "{status}");
        } else {
            assert_eq!(get(address, "/").unwrap().1, answer);
            assert!(
                status.starts_with("the old configuration goes on: "),
                "{status}"
            );
        }
        let knows_why = match nth {
            1 => status.contains("unknown directive \"frobnicate\" in"),
            2 => status.contains("bind() to unix:"),
            _ => true,
        };
        assert!(knows_why, "{status}");
    }
    front.signal(Signal::SIGTERM);
    assert_eq!(front.wait().code, Some(0));
}

#[test]
fn a_reload_that_takes_long_keeps_the_watchdog_quiet() {
    let prefix = Prefix::with("worker_processes 2;", HELLO);
    let manager = Manager::of(&prefix);
    let front = Running::start(watched(&prefix, Duration::from_millis(40)));
    manager.told_of("READY=1");
    // A file that is read as slowly as it is written, as a name server may answer.
    let slow = prefix.path().join("slow.conf");
    mkfifo(&slow, Mode::S_IRWXU).unwrap();
    prefix.configure(
        "worker_processes 2;",
        &format!("include slow.conf; {HELLO}"),
    );
    front.signal(Signal::SIGHUP);
    manager.told_of("RELOADING=1");
    for _ in 0..5 {
        assert_eq!(manager.told(), ["WATCHDOG=1"]);
    }
    fs::write(slow, "default_type text/html;").unwrap();
    let ready = manager.told_of("READY=1");
    assert!(ready[1].starts_with("STATUS=2 workers on "), "{ready:?}");
    front.signal(Signal::SIGTERM);
    assert_eq!(front.wait().code, Some(0));
}

#[test]
fn a_reload_that_takes_long_makes_no_other_signal_wait() {
    for end in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
        let prefix = Prefix::with("", HELLO);
        let manager = Manager::of(&prefix);
        let front = Running::start(service(&prefix));
        manager.told_of("READY=1");
        mkfifo(&prefix.path().join("slow.conf"), Mode::S_IRWXU).unwrap();
        prefix.configure("", &format!("include slow.conf; {HELLO}"));
        front.signal(Signal::SIGHUP);
        manager.told_of("RELOADING=1");
        // One more has its turn when this one is over.
        front.signal(Signal::SIGHUP);
        front.signal(Signal::SIGUSR1);
        eventually("the logs", || {
            prefix.error_log().contains("reopening logs").then_some(())
        });
        assert_eq!(get(prefix.listening()[0], "/").unwrap().0, 200);
        front.signal(end);
        assert_eq!(front.wait().code, Some(0), "{end}");
        let log = prefix.error_log();
        assert_eq!(log.matches("reconfigur").count(), 1, "{log}");
    }
}

#[test]
fn what_a_status_quotes_stays_within_its_line() {
    let prefix = Prefix::with("", HELLO);
    let manager = Manager::of(&prefix);
    let front = Running::start(service(&prefix));
    manager.told_of("READY=1");
    prefix.configure("", "\"a\nSTOPPING=1\nb\" 1;");
    front.signal(Signal::SIGHUP);
    assert_eq!(manager.told()[0], "RELOADING=1");
    let ends = manager.told();
    assert_eq!(ends.len(), 2, "{ends:?}");
    assert_eq!(ends[0], "READY=1");
    assert!(ends[1].starts_with("STATUS=the old"), "{ends:?}");
    front.signal(Signal::SIGTERM);
    assert_eq!(front.wait().code, Some(0));
    assert_eq!(manager.told(), ["STOPPING=1"]);
}

#[test]
fn a_drain_asks_for_the_time_that_it_may_take_and_keeps_the_watchdog_quiet() {
    for (timeout, asks) in [
        ("worker_shutdown_timeout 2h;", true),
        ("worker_shutdown_timeout 0;", false),
        ("", false),
    ] {
        let held = Held::start();
        let http = format!(
            "server {{ listen 127.0.0.1:0; location / {{ proxy_pass http://{}; }} }}",
            held.address
        );
        let prefix = Prefix::with(&format!("worker_processes 2; {timeout}"), &http);
        let manager = Manager::of(&prefix);
        let front = Running::start(watched(&prefix, Duration::from_millis(40)));
        manager.told_of("READY=1");
        let mut client = held.client(prefix.listening()[0]);
        front.signal(Signal::SIGQUIT);
        let stopping = manager.told_of("STOPPING=1");
        match value(&stopping, "EXTEND_TIMEOUT_USEC") {
            Some(micros) => {
                let extended = Duration::from_micros(micros.parse().unwrap());
                let asked = Duration::from_secs(2 * 3600);
                assert!(
                    asks && extended > asked && extended < asked + Duration::from_secs(20),
                    "{extended:?}"
                );
            }
            None => assert!(!asks, "{stopping:?}"),
        }
        for _ in 0..5 {
            assert_eq!(manager.told(), ["WATCHDOG=1"]);
        }
        held.answer();
        client.read_until("done").unwrap();
        assert_eq!(front.wait().code, Some(0));
    }
}

#[test]
fn the_watchdog_is_told_twice_in_its_time() {
    let prefix = Prefix::with("worker_processes 2;", HELLO);
    let manager = Manager::of(&prefix);
    let limit = Duration::from_millis(200);
    let before = Instant::now();
    let front = Running::start(watched(&prefix, limit));
    manager.told_of("READY=1");
    for nth in 1..=8 {
        assert_eq!(manager.told(), ["WATCHDOG=1"], "{nth}");
        assert!(before.elapsed() >= nth * limit / 2, "not more often: {nth}");
    }
    front.signal(Signal::SIGTERM);
    assert_eq!(front.wait().code, Some(0));
    manager.told_of("STOPPING=1");
}

#[test]
fn a_watchdog_of_another_process_is_let_alone() {
    let prefix = Prefix::with("worker_processes 2;", HELLO);
    let manager = Manager::of(&prefix);
    let mut command = watched(&prefix, Duration::from_millis(2));
    command.env("WATCHDOG_PID", std::process::id().to_string());
    let front = Running::start(command);
    assert_eq!(manager.told()[0], "READY=1");
    for _ in 0..5 {
        // Each takes longer than such a watchdog would stay silent.
        front.signal(Signal::SIGHUP);
        assert_eq!(manager.told()[0], "RELOADING=1");
        assert_eq!(manager.told()[0], "READY=1");
    }
    front.signal(Signal::SIGTERM);
    assert_eq!(front.wait().code, Some(0));
    assert_eq!(manager.told(), ["STOPPING=1"]);
}

#[test]
fn a_worker_that_hangs_ends_the_watchdogs_messages() {
    let prefix = Prefix::with("worker_processes 2;", HELLO);
    let manager = Manager::of(&prefix);
    let front = Running::start(watched(&prefix, Duration::from_secs(1)));
    manager.told_of("READY=1");
    manager.told_of("WATCHDOG=1");
    let hung = Hung::new(thread(front.pid(), "worker-1"));
    // One may have answered for it before.
    let said = "[alert] worker 1 has not answered for 500 ms\n";
    eventually(said, || front.stderr().contains(said).then_some(()));
    let answered = manager.unread();
    assert!(
        answered.len() <= 1 && answered.iter().flatten().all(|line| line == "WATCHDOG=1"),
        "{answered:?}"
    );
    // The control thread goes on, but says nothing of the sort.
    for _ in 0..3 {
        front.signal(Signal::SIGHUP);
        assert_eq!(manager.told()[0], "RELOADING=1");
        assert_eq!(manager.told()[0], "READY=1");
    }
    drop(hung);
    for _ in 0..3 {
        assert_eq!(manager.told(), ["WATCHDOG=1"]);
    }
    assert_eq!(front.stderr().matches("[alert]").count(), 1, "said once");
    front.signal(Signal::SIGTERM);
    assert_eq!(front.wait().code, Some(0));
}

/// Waits until the service is another process than it was, and returns its number.
#[track_caller]
fn other_process(manager: &Manager, before: i32) -> i32 {
    loop {
        if let Some(pid) = value(&manager.told(), "MAINPID")
            && pid != before.to_string()
        {
            return pid.parse().unwrap();
        }
    }
}

fn tell(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

#[test]
fn of_an_old_and_a_new_binary_the_one_that_serves_is_the_service() {
    let prefix = Prefix::with("worker_processes 1;", HELLO);
    let manager = Manager::of(&prefix);
    // As systemd says it: this process and no other is watched.
    let mut command = Command::new("sh");
    command.args(["-c", "export WATCHDOG_PID=$$; exec \"$0\" \"$@\"", BINARY]);
    command.arg("-p").arg(prefix.path());
    command.args(["-c", "front.conf", "-g", "daemon off;"]);
    command.env("NOTIFY_SOCKET", prefix.path().join("notify"));
    command.env("WATCHDOG_USEC", "100000");
    let front = Running::start(command);
    let old = front.pid();
    assert_eq!(other_process(&manager, 0), old);
    // One that quits, and one that is killed: the old one is the service again.
    for end in [Signal::SIGQUIT, Signal::SIGKILL] {
        tell(old, Signal::SIGUSR2);
        let new = Successor(other_process(&manager, old));
        tell(new.0, end);
        assert_eq!(other_process(&manager, new.0), old, "{end}");
        let back = "the old one has its pid file back";
        eventually(back, || {
            (prefix.read("logs/front.pid").trim() == old.to_string()).then_some(())
        });
    }
    // The old one goes, and the service does not stop.
    tell(old, Signal::SIGUSR2);
    let new = Successor(other_process(&manager, old));
    assert_eq!(prefix.read("logs/front.pid").trim(), new.0.to_string());
    tell(old, Signal::SIGQUIT);
    assert_eq!(front.wait().code, Some(0));
    let told = manager.unread();
    assert!(
        told.iter().flatten().all(|line| line == "WATCHDOG=1"),
        "{told:?}"
    );
    for _ in 0..3 {
        assert_eq!(manager.told(), ["WATCHDOG=1"], "the new one is watched");
    }
    tell(new.0, Signal::SIGTERM);
    manager.told_of("STOPPING=1");
}

/// The number of a thread by its name.
fn thread(pid: i32, name: &str) -> Pid {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let named = threads.map(|thread| thread.unwrap()).find(|thread| {
        fs::read_to_string(thread.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
    });
    let number = named.unwrap().file_name().into_string().unwrap();
    Pid::from_raw(number.parse().unwrap())
}

/// One thread of another process, which stands still as long as this lives.
struct Hung(Pid);

impl Hung {
    fn new(thread: Pid) -> Self {
        ptrace::seize(thread, ptrace::Options::empty()).unwrap();
        ptrace::interrupt(thread).unwrap();
        let stopped = waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap();
        assert!(
            matches!(stopped, WaitStatus::PtraceEvent(..)),
            "{stopped:?}"
        );
        Self(thread)
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        let _ = ptrace::detach(self.0, None);
    }
}
