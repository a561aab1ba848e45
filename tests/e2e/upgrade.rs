//! A new binary beside the old one, and sockets that somebody else has opened.

#![allow(clippy::unwrap_used)] // a test: a panic is a failure

use std::fs::Permissions;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ntlm_origin::client::Connection;
use ntlm_origin::{Kerberos, User};

use crate::front::{BINARY, Front, eventually};
use crate::peer::Peer;
use crate::prefix::{Prefix, Running, free_address, get};
use crate::signals::Held;
use crate::site::{alice, origins};

/// Upgrades in a row.
const UPGRADES: usize = 10;

/// Whether a thread of a process runs: neither gone nor waiting for somebody to ask what became of it. While one does, those that the
/// process has started have it for their parent.
pub(crate) fn runs(pid: i32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
    threads.into_iter().flatten().flatten().any(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        let state = stat.rsplit(") ").next().unwrap_or_default();
        !state.is_empty() && !state.starts_with(['Z', 'X'])
    })
}

pub(crate) fn tell(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

pub(crate) fn ends(pid: i32) {
    eventually("the process ends", || (!runs(pid)).then_some(()));
}

/// Ends a process that nobody else does.
pub(crate) struct Successor(pub(crate) i32);

impl Drop for Successor {
    fn drop(&mut self) {
        if runs(self.0) {
            let _ = kill(Pid::from_raw(self.0), Signal::SIGTERM);
            ends(self.0);
        }
    }
}

/// Has `pid` start the new binary; the number of its process, once it serves.
pub(crate) fn upgrade(front: &Front, pid: i32) -> i32 {
    upgrade_logged(pid, || front.error_log())
}

/// The same of a front whose error log is what `error_log` returns.
pub(crate) fn upgrade_logged(pid: i32, error_log: impl Fn() -> String) -> i32 {
    let before = error_log().len();
    tell(pid, Signal::SIGUSR2);
    eventually("the new binary serves", || {
        let log = &error_log()[before..];
        let (_, started) = log.split_once("start new binary process ")?;
        let new: i32 = started.lines().next()?.parse().ok()?;
        let serves = log
            .lines()
            .any(|line| line.contains(&format!(" {new}#")) && line.contains(" workers on "));
        serves.then_some(new)
    })
}

fn pid_file(front: &Front, name: &str) -> Option<i32> {
    let text = std::fs::read_to_string(front.path().join("logs").join(name)).ok()?;
    text.trim().parse().ok()
}

/// Asks as one who keeps connections for as long as he may, and fails at the first answer that is not his.
async fn ask(addr: SocketAddr, user: Option<User>, stop: &AtomicBool, answers: &AtomicUsize) {
    while !stop.load(Ordering::Relaxed) {
        let mut connection = Connection::open(addr).await.expect("nobody is refused");
        let mut left = 50;
        let mut last = false;
        if let Some(user) = &user {
            let answer = connection.login_ntlm("/private/whoami", user).await;
            let answer = answer.expect("a login");
            assert_eq!(answer.text(), user.identity());
            last = answer.headers.first("connection") == Some("close");
        }
        while !last && left > 0 && !stop.load(Ordering::Relaxed) {
            let answer = connection
                .get("/whoami")
                .await
                .unwrap_or_else(|error| panic!("a request is lost: {error}"));
            assert_eq!(answer.status, 200);
            if let Some(user) = &user {
                assert_eq!(answer.text(), user.identity());
            }
            answers.fetch_add(1, Ordering::Relaxed);
            last = answer.headers.first("connection") == Some("close");
            left -= 1;
        }
    }
}

#[test]
fn upgrades_under_load_refuse_and_lose_nothing() {
    let origins = origins(1, Kerberos::Declined);
    let http = format!(
        "upstream mail {{ server {}; ntlm; keepalive 16; }}
         server {{ listen 127.0.0.1:0 backlog=1024; location / {{ proxy_pass http://mail; }} }}",
        origins[0].addr()
    );
    let front = Front::start(&http);
    let addr = front.addr(0);
    let (stop, answers) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut pid = front.pid();
    let mut all = Vec::new();
    std::thread::scope(|scope| {
        for nth in 0..8 {
            let (stop, answers) = (&stop, &answers);
            let user = (nth % 2 == 0).then(alice);
            scope.spawn(move || {
                // Whatever ends this thread, the others end with it.
                let _stop = Stop(stop);
                let runtime = tokio::runtime::Builder::new_current_thread();
                let runtime = { runtime }.enable_all().build().unwrap();
                runtime.block_on(ask(addr, user, stop, answers));
            });
        }
        let _stop = Stop(&stop);
        for nth in 0..UPGRADES {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let new = upgrade(&front, pid);
            all.push(Successor(new));
            assert_eq!(pid_file(&front, "front.pid"), Some(new));
            assert_eq!(pid_file(&front, "front.pid.oldbin"), Some(pid));
            // Both answer.
            let goal = answers.load(Ordering::Relaxed) + 100;
            eventually("both serve", || {
                (answers.load(Ordering::Relaxed) > goal || stop.load(Ordering::Relaxed))
                    .then_some(())
            });
            tell(pid, Signal::SIGQUIT);
            ends(pid);
            assert_eq!(pid_file(&front, "front.pid.oldbin"), None, "upgrade {nth}");
            pid = new;
        }
    });
    println!("{} answers", answers.load(Ordering::Relaxed));
    let log = front.error_log();
    assert!(
        !log.contains("[alert]") && !log.contains("[error]"),
        "{log}"
    );
}

/// Ends the load with its value.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_logged_in_client_stays_with_the_old_process_until_it_quits() {
    let origins = origins(1, Kerberos::Declined);
    let front = Front::start(&format!(
        "upstream mail {{ server {}; ntlm; }}
         server {{ listen 127.0.0.1:0; location / {{ proxy_pass http://mail; add_header X-Pid $pid; }} }}",
        origins[0].addr()
    ));
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = Connection::open(front.addr(0)).await.unwrap();
        connection
            .login_ntlm("/private/whoami", &alice())
            .await
            .unwrap();
        let new = Successor(upgrade(&front, front.pid()));
        let answer = connection.get("/whoami").await.unwrap();
        assert_eq!(answer.text(), alice().identity());
        assert_eq!(
            answer.headers.first("x-pid"),
            Some(&front.pid().to_string()[..])
        );
        tell(front.pid(), Signal::SIGQUIT);
        // The request that comes while it drains is answered, and told to be the last.
        eventually("it drains", || {
            front
                .error_log()
                .contains("gracefully shutting down")
                .then_some(())
        });
        let answer = connection.get("/whoami").await.unwrap();
        assert_eq!(answer.text(), alice().identity());
        ends(front.pid());
        // He logs in again with the new one.
        let mut connection = Connection::open(front.addr(0)).await.unwrap();
        let answer = connection
            .login_ntlm("/private/whoami", &alice())
            .await
            .unwrap();
        assert_eq!(answer.headers.first("x-pid"), Some(&new.0.to_string()[..]));
    });
}

#[test]
fn a_new_binary_that_cannot_start_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("front.sock");
    let front = Front::start(&format!(
        "server {{ listen 127.0.0.1:0; listen unix:{}; return 200 $pid; }}",
        socket.display()
    ));
    let file = front.path().join("front.conf");
    let good = std::fs::read_to_string(&file).unwrap();
    // Before it has looked at what it was given, and after.
    let bad = ["retrun", "access_log no/such/directory; return"];
    for (nth, bad) in bad.into_iter().enumerate() {
        std::fs::write(&file, good.replace("return", bad)).unwrap();
        front.signal(Signal::SIGUSR2);
        eventually("the new one ends", || {
            let log = front.error_log();
            (log.matches(" ended: exit status: 1").count() > nth).then_some(())
        });
    }
    assert_eq!(
        Peer::connect_unix(&socket).get("/").text(),
        front.pid().to_string()
    );
    assert_eq!(pid_file(&front, "front.pid"), Some(front.pid()));
    assert_eq!(pid_file(&front, "front.pid.oldbin"), None);
    assert_eq!(
        Peer::connect(front.addr(0)).get("/").text(),
        front.pid().to_string()
    );
    // What was wrong is mended: now it works.
    std::fs::write(&file, good).unwrap();
    let new = Successor(upgrade(&front, front.pid()));
    assert_eq!(pid_file(&front, "front.pid"), Some(new.0));
}

/// The way back: the new one is told to quit, and the old one serves as before.
#[test]
fn an_upgrade_can_be_taken_back() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("front.sock");
    let front = Front::start(&format!(
        "server {{ listen 127.0.0.1:0; listen unix:{}; return 200 $pid; }}",
        socket.display()
    ));
    let old = front.pid();
    let new = Successor(upgrade(&front, old));
    // One at a time, and not by the new one while the old one is there.
    for pid in [old, new.0] {
        let before = front.error_log().matches("signal is ignored").count();
        tell(pid, Signal::SIGUSR2);
        eventually("it is ignored", || {
            (front.error_log().matches("signal is ignored").count() > before).then_some(())
        });
    }
    tell(new.0, Signal::SIGQUIT);
    ends(new.0);
    eventually("the pid file is back", || {
        (pid_file(&front, "front.pid") == Some(old)).then_some(())
    });
    for _ in 0..20 {
        assert_eq!(
            Peer::connect(front.addr(0)).get("/").text(),
            old.to_string()
        );
    }
    assert_eq!(Peer::connect_unix(&socket).get("/").text(), old.to_string());
    // And forth again; then the old one goes, and what it listened on stays.
    let new = Successor(upgrade(&front, old));
    tell(old, Signal::SIGQUIT);
    ends(old);
    for _ in 0..20 {
        assert_eq!(
            Peer::connect(front.addr(0)).get("/").text(),
            new.0.to_string()
        );
    }
    assert_eq!(
        Peer::connect_unix(&socket).get("/").text(),
        new.0.to_string()
    );
    tell(new.0, Signal::SIGTERM);
    ends(new.0);
    assert!(!socket.exists());
}

/// Scripts ask by its number whether it is there.
#[test]
fn a_new_process_that_ends_while_the_old_one_drains_is_gone() {
    let held = Held::start();
    let mut front = Front::start(&format!(
        "server {{ listen 127.0.0.1:0; location / {{ proxy_pass http://{}; }} }}",
        held.address
    ));
    let mut client = held.client(front.addr(0));
    let new = Successor(upgrade(&front, front.pid()));
    front.signal(Signal::SIGQUIT);
    front.error_log_with("gracefully shutting down", 1);
    tell(new.0, Signal::SIGTERM);
    eventually("nobody has its number", || {
        kill(Pid::from_raw(new.0), None).err()
    });
    // The pid file is that of the one that is left.
    eventually("the pid file is back", || {
        (pid_file(&front, "front.pid") == Some(front.pid())).then_some(())
    });
    held.answer();
    client.read_until("done").unwrap();
    assert_eq!(front.wait().code(), Some(0));
    assert_eq!(pid_file(&front, "front.pid"), None);
}

/// Sockets of more or fewer workers than there are now: all are accepted from.
#[test]
fn the_number_of_workers_may_change_with_the_binary() {
    let front = Front::start_main(
        "worker_processes 3;",
        "server { listen 127.0.0.1:0; return 200 $pid; }",
    );
    let file = front.path().join("front.conf");
    let mut pid = front.pid();
    let mut last = Successor(0);
    for workers in ["1", "5", "2"] {
        let text = std::fs::read_to_string(&file).unwrap();
        let (before, rest) = text.split_once("worker_processes ").unwrap();
        let (_, after) = rest.split_once(';').unwrap();
        std::fs::write(&file, format!("{before}worker_processes {workers};{after}")).unwrap();
        let new = upgrade(&front, pid);
        tell(pid, Signal::SIGQUIT);
        ends(pid);
        drop(std::mem::replace(&mut last, Successor(new)));
        for _ in 0..50 {
            assert_eq!(
                Peer::connect(front.addr(0)).get("/").text(),
                new.to_string()
            );
        }
        pid = new;
    }
}

/// A reload of the new process closes what the old one opened, and is not in its way before.
#[test]
fn addresses_of_the_old_process_can_be_closed_later() {
    let front = Front::start(
        "server { listen 127.0.0.1:0; return 200 a; } server { listen 127.0.0.1:0; return 200 b; }",
    );
    let new = Successor(upgrade(&front, front.pid()));
    tell(front.pid(), Signal::SIGQUIT);
    ends(front.pid());
    let file = front.path().join("front.conf");
    let text = std::fs::read_to_string(&file).unwrap();
    let cut = text.replace("server { listen 127.0.0.1:0; return 200 b; }", "");
    std::fs::write(&file, cut).unwrap();
    tell(new.0, Signal::SIGHUP);
    eventually("the address is closed", || {
        std::net::TcpStream::connect(front.addr(1)).err()
    });
    assert_eq!(Peer::connect(front.addr(0)).get("/").text(), "a");
}

/// What is opened after USR2 is the old process's alone, whatever the new one has.
#[test]
fn an_address_that_was_not_handed_over_is_closed_with_its_process() {
    let directory = tempfile::tempdir().unwrap();
    let [handed, later] = ["handed", "later"].map(|name| directory.path().join(name));
    let server = format!(
        "server {{ listen 127.0.0.1:0; listen unix:{}; return 200 $pid; }}",
        handed.display()
    );
    let front = Front::start(&server);
    let new = Successor(upgrade(&front, front.pid()));
    front.reload(&format!(
        "{server} server {{ listen unix:{}; }}",
        later.display()
    ));
    assert!(later.exists());
    tell(front.pid(), Signal::SIGQUIT);
    ends(front.pid());
    assert!(!later.exists());
    assert_eq!(
        Peer::connect_unix(&handed).get("/").text(),
        new.0.to_string()
    );
}

/// The old process may be gone before the new one has looked at what it was given.
#[test]
fn a_new_binary_serves_although_the_old_one_was_quicker_to_quit() {
    let prefix = Prefix::with(
        "",
        &format!("server {{ listen {}; return 200 $pid; }}", free_address()),
    );
    // A binary that takes its time: until the process that started it is no more.
    let slow = prefix.path().join("slow");
    let script = format!(
        "#!/bin/sh\nwhile kill -0 $PPID 2>/dev/null; do sleep 0.01; done\nexec {BINARY} \"$@\"\n"
    );
    std::fs::write(&slow, script).unwrap();
    std::fs::set_permissions(&slow, Permissions::from_mode(0o755)).unwrap();
    let mut command = prefix.front(&[]);
    command.arg0(&slow);
    let started = Running::start(command);
    assert_eq!(started.wait().code, Some(0));
    let old = prefix.running_daemon();
    let address = prefix.listening()[0];
    tell(old.pid(), Signal::SIGUSR2);
    let new = eventually("the new binary is started", || {
        let log = prefix.error_log();
        let (_, started) = log.split_once("start new binary process ")?;
        started.lines().next()?.parse::<i32>().ok()
    });
    let _new = Successor(new);
    tell(old.pid(), Signal::SIGQUIT);
    old.wait();
    let served = eventually("the pid file", || {
        prefix.read("logs/front.pid").trim().parse::<i32>().ok()
    });
    assert_eq!(served, new, "{}", prefix.error_log());
    for _ in 0..10 {
        assert_eq!(get(address, "/").unwrap(), (200, new.to_string()));
    }
    let log = prefix.error_log();
    assert!(!log.contains("[emerg]") && !log.contains("socket"), "{log}");
    assert_eq!(prefix.run(&["-s", "stop"]).code, Some(0));
    ends(new);
}

/// An address that becomes wider or narrower with the binary, as it may with a reload.
#[test]
fn an_address_may_change_on_its_port_with_the_binary() {
    // Free on every address.
    let probe = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = probe.local_addr().unwrap().port();
    drop(probe);
    let http = |ip: &str| format!("server {{ listen {ip}:{port}; return 200 $pid; }}");
    for (before, after) in [("*", "127.0.0.1"), ("127.0.0.1", "*")] {
        let front = Front::start(&http(before));
        let file = front.path().join("front.conf");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace(&http(before), &http(after))).unwrap();
        let new = Successor(upgrade(&front, front.pid()));
        tell(front.pid(), Signal::SIGQUIT);
        ends(front.pid());
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        for _ in 0..10 {
            assert_eq!(Peer::connect(address).get("/").text(), new.0.to_string());
        }
    }
}
