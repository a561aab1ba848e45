//! Many who are logged in while the configuration changes again and again, and addresses that come and go with it.

#![allow(clippy::unwrap_used)] // a test: a panic is a failure

use std::collections::HashSet;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::sys::signal::Signal;
use ntlm_origin::Kerberos;
use ntlm_origin::client::Connection;

use crate::front::{Front, eventually};
use crate::peer::Peer;
use crate::prefix::{free_address, get};
use crate::site::{alice, origins};

const CLIENTS: usize = 1000;
const THREADS: usize = 4;
const RELOADS: usize = 50;

/// Ends the load with its value.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Logs in once, and asks until it is told to stop: always as himself, on the connection of his login.
async fn ask(
    addr: SocketAddr,
    logged_in: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
) {
    let mut connection = Connection::open(addr).await.unwrap();
    let answer = connection
        .login_ntlm("/private/whoami", &alice())
        .await
        .unwrap();
    let place = answer.headers.first("x-connection").map(str::to_owned);
    assert!(place.is_some());
    logged_in.fetch_add(1, Ordering::Relaxed);
    while !stop.load(Ordering::Relaxed) {
        let answer = connection.get("/private/whoami").await.unwrap();
        assert_eq!((answer.status, answer.text()), (200, alice().identity()));
        assert_eq!(answer.headers.first("x-connection"), place.as_deref());
        answers.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_thousand_logins_survive_fifty_reloads_with_requests_in_flight() {
    let origins = origins(3, Kerberos::Declined);
    let http = |reload: usize| {
        // Servers come and go, timeouts and locations change, a listener is opened and closed.
        let servers: String = origins
            .iter()
            .enumerate()
            .filter(|(nth, _)| reload == 0 || reload % 3 != *nth)
            .map(|(_, origin)| format!("server {}; ", origin.addr()))
            .collect();
        let another = match reload % 2 {
            0 => "",
            _ => "server { listen 127.0.0.1:0; return 200 another; }",
        };
        format!(
            "upstream mail {{ {servers} ntlm 4000; ntlm_requests 1000000; keepalive {}; }}
             keepalive_requests 1000000;
             server {{ listen 127.0.0.1:0 backlog=2048; location / {{ proxy_pass http://mail; proxy_read_timeout {}s; }}
                 location /r{reload} {{ return 200 {reload}; }} }}
             {another}",
            8 + reload % 5,
            60 + reload,
        )
    };
    let front = Front::start(&http(0));
    let addr = front.addr(0);
    let stop: Arc<AtomicBool> = Arc::default();
    let [answers, logged_in]: [Arc<AtomicUsize>; 2] = Default::default();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            let (stop, answers, logged_in) = (&stop, &answers, &logged_in);
            scope.spawn(move || {
                let _stop = Stop(stop);
                let runtime = tokio::runtime::Builder::new_current_thread();
                let runtime = { runtime }.enable_all().build().unwrap();
                let local = tokio::task::LocalSet::new();
                local.block_on(&runtime, async {
                    let mut all = tokio::task::JoinSet::new();
                    for _ in 0..CLIENTS / THREADS {
                        all.spawn_local(ask(
                            addr,
                            logged_in.clone(),
                            stop.clone(),
                            answers.clone(),
                        ));
                    }
                    while let Some(ended) = all.join_next().await {
                        ended.unwrap();
                    }
                });
            });
        }
        let _stop = Stop(&stop);
        eventually("all are logged in", || {
            (logged_in.load(Ordering::Relaxed) == CLIENTS || stop.load(Ordering::Relaxed))
                .then_some(())
        });
        for reload in 1..=RELOADS {
            front.reload(&http(reload));
            let goal = answers.load(Ordering::Relaxed) + 50;
            eventually("they go on", || {
                let goes_on = answers.load(Ordering::Relaxed) >= goal;
                (goes_on || stop.load(Ordering::Relaxed)).then_some(())
            });
        }
    });
    let answers = answers.load(Ordering::Relaxed);
    println!("{CLIENTS} clients, {RELOADS} reloads, {answers} answers");
    let log = front.error_log();
    assert_eq!(log.matches("reconfigured").count(), RELOADS);
    assert_eq!(
        logged_in.load(Ordering::Relaxed),
        CLIENTS,
        "nobody logged in twice"
    );
    assert!(
        !log.contains("[error]") && !log.contains("[alert]"),
        "{log}"
    );
}

/// Whatever a reload runs out of, it is refused or in force, and whoever is connected stays.
#[test]
fn a_reload_without_descriptors_is_refused() {
    let first = "server { listen 127.0.0.1:0; return 200 first; }";
    let both = format!("{first} server {{ listen 127.0.0.1:0; return 200 second; }}");
    let (mut refused, mut in_force) = (0, 0);
    for free in 0.. {
        let front = Front::start(first);
        let mut client = Peer::connect(front.addr(0));
        assert_eq!(client.get("/").text(), "first");
        let file = front.path().join("front.conf");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace(first, &both)).unwrap();
        limit_descriptors(front.pid(), free);
        let before = front.error_log().len();
        front.signal(Signal::SIGHUP);
        let log = eventually("the reload is over", || {
            let log = front.error_log()[before..].to_owned();
            (log.contains("reconfigured") || log.contains("[emerg]")).then_some(log)
        });
        if log.contains("reconfigured") {
            in_force += 1;
            // Those who come next need descriptors, too.
            if in_force < 5 {
                continue;
            }
            let second = *front.listening().last().unwrap();
            for _ in 0..20 {
                assert_eq!(Peer::connect(second).get("/").text(), "second");
            }
            assert_eq!(client.get("/").text(), "first");
            break;
        }
        assert!(log.contains("(24: Too many open files)"), "{log}");
        assert_eq!(client.get("/").text(), "first");
        // Nothing is left of what was opened.
        let open = front.sockets();
        front.signal(Signal::SIGHUP);
        eventually("the next reload is over", || {
            (front.error_log().matches("[emerg]").count() > 1).then_some(())
        });
        assert_eq!(
            (front.sockets(), client.get("/").text()),
            (open, "first".into())
        );
        refused += 1;
    }
    println!("{refused} refused");
    assert!(refused > 3, "not even the address was opened");
}

/// Leaves a process so many descriptors that it can open.
fn limit_descriptors(pid: i32, mut free: usize) {
    let numbers = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let open: HashSet<usize> = numbers
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|number| number.parse().unwrap())
        .collect();
    // The limit is about numbers, not about how many there are.
    let limit = (0..).find(|number| {
        let is_free = !open.contains(number);
        let enough = is_free && free == 0;
        free -= usize::from(is_free && free > 0);
        enough
    });
    let limit = limit.unwrap();
    let limited = Command::new("prlimit")
        .arg(format!("--pid={pid}"))
        .arg(format!("--nofile={limit}:{limit}"))
        .status();
    assert!(limited.unwrap().success());
}

/// An address is removed and wanted again while workers have yet to close it.
#[test]
fn an_address_comes_back_with_the_next_reload() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("front.sock");
    let stays = "server { listen 127.0.0.1:0; return 200 stays; }";
    let front = Front::start(stays);
    let address = free_address();
    let both = format!(
        "{stays} server {{ listen {address}; listen unix:{}; return 200 back; }}",
        socket.display()
    );
    for _ in 0..10 {
        front.reload(&both);
        eventually("it is back", || {
            get(address, "/")
                .is_ok_and(|(_, body)| body == "back")
                .then_some(())
        });
        assert_eq!(Peer::connect_unix(&socket).get("/").text(), "back");
        front.reload(stays);
    }
    let log = front.error_log();
    assert!(
        !log.contains("[emerg]") && !log.contains("[alert]"),
        "{log}"
    );
}

/// As where a program writes the configuration and numbers what it makes.
#[test]
fn what_reloads_remove_takes_no_memory() {
    const GROUPS: usize = 400;
    let http = |reload: usize| {
        let group = |nth| format!("upstream made-{reload}-{nth} {{ server 127.0.0.1:9; }}\n");
        let groups: String = (0..GROUPS).map(group).collect();
        // A short time of any kind has workers look often.
        format!(
            "{groups} keepalive_timeout 100ms; server {{ listen 127.0.0.1:0; return 200 {reload}; }}"
        )
    };
    let front = Front::start(&http(0));
    let reload_to = |reload| {
        front.reload(&http(reload));
        eventually("it is in force", || {
            let in_force =
                |_| get(front.addr(0), "/").is_ok_and(|(_, body)| body == reload.to_string());
            (0..10).all(in_force).then_some(())
        });
    };
    (1..=5).for_each(reload_to);
    let before = front.resident();
    (6..=30).for_each(reload_to);
    let grown = front.resident().saturating_sub(before);
    let each = grown / (25 * GROUPS);
    println!("{before} bytes, {grown} more: {each} for each group");
    // Two workers need 4,000 for one.
    assert!(each < 1000, "{before} bytes, {grown} more: {each} for each");
}
