//! The error log's lines and levels, and logs that are moved away while the front runs.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ntlm_origin::{Origin, OriginOptions};
use regex::Regex;

use crate::front::{Front, eventually};
use crate::peer::Peer;
use crate::prefix::{HELLO, Plain, Prefix, get, is_root, nobody};

const START: &str = r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[(debug|info|notice|warn|error|crit|alert|emerg)\] (\d+)#(\d+): ";

#[test]
fn every_line_has_its_form() {
    // Bound, and nobody listens: a connection is refused.
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let front = Front::start(&format!(
        "server {{ listen 127.0.0.1:0; server_name mail.example; location / {{ proxy_pass http://{nobody}; }}
         location /no {{ deny all; return 204; }} }}"
    ));
    assert_eq!(get(front.addr(0), "/a?b=c").unwrap().0, 502);
    let mut broken = Plain::open(front.addr(0)).unwrap();
    broken
        .send("GET / HTTP/1.1\r\nHost : a\r\nAuthorization: NTLM c2VjcmV0\r\n\r\n")
        .unwrap();
    assert_eq!(broken.rest().unwrap().0, 400);
    let failed = Regex::new(&format!(
        r#"{START}\*\d+ connect\(\) failed \(111: Connection refused\) while connecting to upstream, client: 127\.0\.0\.1, server: mail\.example, request: "GET /a\?b=c HTTP/1\.1", upstream: "http://{nobody}/a\?b=c", host: "front"$"#
    ))
    .unwrap();
    let line = eventually("the error", || {
        front
            .error_log()
            .lines()
            .find(|line| line.contains("connect()"))
            .map(str::to_owned)
    });
    let parts = failed.captures(&line).unwrap_or_else(|| panic!("{line}"));
    assert_eq!(&parts[1], "error");
    assert_eq!(parts[2], front.pid().to_string());
    assert_ne!(parts[3], parts[2], "a worker's thread");
    front.signal(Signal::SIGHUP);
    eventually("more lines", || {
        front.error_log().contains("reconfigured").then_some(())
    });
    let start = Regex::new(START).unwrap();
    for line in front.error_log().lines() {
        assert!(start.is_match(line), "{line}");
    }
    assert!(!front.error_log().contains("c2VjcmV0"));
}

#[test]
fn each_log_takes_its_levels_and_each_server_its_log() {
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let pass = format!("location / {{ proxy_pass http://{nobody}; }}");
    let prefix = Prefix::with(
        "daemon on; error_log logs/crit.log crit; error_log logs/notice.log notice;",
        &format!(
            "server {{ listen 127.0.0.1:0; {pass} }}
             server {{ listen 127.0.0.2:0; error_log logs/own.log; {pass}
                       location /quiet {{ error_log logs/quiet.log crit; proxy_pass http://{nobody}; }} }}"
        ),
    );
    let _daemon = prefix.daemon();
    let [first, second] = prefix.listening()[..] else {
        panic!("two addresses");
    };
    for (address, path) in [(first, "/main"), (second, "/own"), (second, "/quiet")] {
        assert_eq!(get(address, path).unwrap().0, 502);
    }
    let line = |path: &str| format!("request: \"GET {path} HTTP/1.1\"");
    for (log, said, unsaid) in [
        (
            "logs/error.log",
            vec![line("/main"), "listening on".into()],
            vec![line("/own"), line("/quiet")],
        ),
        (
            "logs/notice.log",
            vec![line("/main"), "listening on".into()],
            vec![line("/own"), line("/quiet")],
        ),
        (
            "logs/crit.log",
            vec![],
            vec![line("/main"), line("/own"), "listening on".into()],
        ),
        (
            "logs/own.log",
            vec![line("/own")],
            vec![line("/main"), line("/quiet"), "listening on".into()],
        ),
        ("logs/quiet.log", vec![], vec![line("/quiet")]),
    ] {
        // A line is written before its answer goes out.
        let text = prefix.read(log);
        assert!(
            said.iter().all(|words| text.contains(words)),
            "{log}: {text}"
        );
        assert!(
            !unsaid.iter().any(|words| text.contains(words)),
            "{log}: {text}"
        );
        assert!(prefix.path().join(log).exists());
    }
}

#[test]
fn no_line_is_lost_when_logs_are_moved_away() {
    let front = Front::start(
        "log_format path $request_uri; access_log logs/access.log path; keepalive_requests 1000000000;
         server { listen 127.0.0.1:0; location / { return 204; } }",
    );
    let log = front.path().join("logs/access.log");
    let moved = |round: usize| front.path().join(format!("logs/access.{round}"));
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    const ROUNDS: usize = 8;
    std::thread::scope(|scope| {
        let clients = [0; 2].map(|_| {
            scope.spawn(|| {
                let mut client = Plain::open(front.addr(0)).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    let number = sent.fetch_add(1, Ordering::Relaxed);
                    client
                        .send(&format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n"))
                        .unwrap();
                    client.read_until("\r\n\r\n").unwrap();
                }
            })
        });
        for round in 0..ROUNDS {
            let before = sent.load(Ordering::Relaxed);
            eventually("requests in every round", || {
                (sent.load(Ordering::Relaxed) > before + 20).then_some(())
            });
            fs::rename(&log, moved(round)).unwrap();
            front.signal(Signal::SIGUSR1);
            eventually("the new file", || log.exists().then_some(()));
        }
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().unwrap();
        }
    });
    let sent = sent.into_inner();
    let numbers = || {
        let files = (0..ROUNDS).map(moved).chain([log.clone()]);
        let text: String = files
            .map(|file| fs::read_to_string(file).unwrap())
            .collect();
        let lines = text
            .lines()
            .map(|line| line[1..].parse::<u64>().expect("a whole line"));
        lines.collect::<Vec<u64>>()
    };
    eventually("the last line", || {
        (numbers().len() as u64 >= sent).then_some(())
    });
    let seen = numbers();
    assert_eq!(seen.len() as u64, sent, "each once");
    assert_eq!(
        seen.into_iter().collect::<BTreeSet<u64>>().len() as u64,
        sent
    );
}

#[test]
fn logs_can_be_moved_away_from_a_front_that_is_root_s_no_more() {
    if !is_root() {
        return;
    }
    let (uid, gid) = nobody();
    let group = nix::unistd::Group::from_gid(gid.into())
        .unwrap()
        .unwrap()
        .name;
    let prefix = Prefix::with(
        &format!("user nobody {group};"),
        &format!("access_log logs/access.log; {HELLO}"),
    );
    // As a service's log directory: the user's own.
    chown(prefix.path().join("logs"), Some(uid), Some(gid)).unwrap();
    let daemon = prefix.daemon();
    let address = prefix.listening()[0];
    let signal = |signal| kill(Pid::from_raw(daemon.pid()), signal).unwrap();
    let requested = |file: &str| {
        assert_eq!(get(address, "/").unwrap().0, 200);
        eventually("its line", || {
            prefix.read(file).contains("\"GET / ").then_some(())
        });
    };
    requested("logs/access.log");
    for (from, to) in [("access.log", "access.1"), ("error.log", "error.1")] {
        fs::rename(
            prefix.path().join("logs").join(from),
            prefix.path().join("logs").join(to),
        )
        .unwrap();
    }
    signal(Signal::SIGUSR1);
    eventually("new files", || {
        ["logs/access.log", "logs/error.log"]
            .iter()
            .all(|file| prefix.path().join(file).exists())
            .then_some(())
    });
    requested("logs/access.log");
    signal(Signal::SIGHUP);
    eventually("the new error log", || {
        prefix.error_log().contains("reconfigured").then_some(())
    });
    // As logrotate's `create` does in a directory that only root may write.
    chown(prefix.path().join("logs"), Some(0), Some(0)).unwrap();
    fs::set_permissions(prefix.path().join("logs"), Permissions::from_mode(0o755)).unwrap();
    fs::rename(
        prefix.path().join("logs/access.log"),
        prefix.path().join("logs/access.2"),
    )
    .unwrap();
    prefix.write("logs/access.log", "");
    chown(prefix.path().join("logs/access.log"), Some(uid), Some(gid)).unwrap();
    let before = prefix.error_log().matches("reopening logs").count();
    signal(Signal::SIGUSR1);
    eventually("the reopening", || {
        (prefix.error_log().matches("reopening logs").count() > before).then_some(())
    });
    eventually("a line in it", || {
        get(address, "/").unwrap();
        prefix
            .read("logs/access.log")
            .contains("\"GET / ")
            .then_some(())
    });
    // And where nobody created one, the old file stays in use, and that is said.
    fs::rename(
        prefix.path().join("logs/access.log"),
        prefix.path().join("logs/access.3"),
    )
    .unwrap();
    let lines = prefix.read("logs/access.3").lines().count();
    signal(Signal::SIGUSR1);
    let refused = format!(
        "open() \"{}\" failed (13: Permission denied)",
        prefix.name("logs/access.log")
    );
    eventually("the refusal", || {
        prefix
            .error_log()
            .lines()
            .any(|line| line.contains("[emerg]") && line.ends_with(&refused))
            .then_some(())
    });
    get(address, "/").unwrap();
    eventually("the old file goes on", || {
        (prefix.read("logs/access.3").lines().count() > lines).then_some(())
    });
}

/// There is no answer whose fields could be shown: the client left before it, or was left without one.
#[test]
fn a_field_of_an_answer_that_was_never_sent_is_a_hyphen() {
    let origin = Origin::start(OriginOptions::default()).unwrap();
    let front = Front::start_main(
        "worker_processes 1;",
        &format!(
            "log_format sent '$request_uri $status $sent_http_content_type $sent_http_x_server|';
             access_log logs/access.log sent;
             server {{ listen 127.0.0.1:0; location / {{ proxy_pass http://{}; }}
                       location /nothing {{ return 444; }} }}",
            origin.addr()
        ),
    );
    let padding = "x".repeat(2000);
    let mut wanted = Vec::new();
    for round in 0..3 {
        for path in ["/slow/60000", "/nothing"] {
            let target = format!("{path}?{round}");
            let mut client = Peer::connect(front.addr(0));
            if round == 1 {
                // Nothing of an answer before it is shown either.
                assert_eq!(client.get("/whoami").status(), 200);
                wanted.push("/whoami 200 text/plain ORIGIN|".to_owned());
            }
            client.send(format!(
                "GET {target} HTTP/1.1\r\nHost: test\r\nX-Padding: {padding}\r\n\r\n"
            ));
            if path.starts_with("/slow") {
                eventually("the request arrives", || {
                    let log = origin.log();
                    log.iter().any(|entry| entry.path == target).then_some(())
                });
                drop(client);
                wanted.push(format!("{target} 499 - -|"));
            } else {
                client.ends();
                wanted.push(format!("{target} 444 - -|"));
            }
            let text = eventually("a line that ends", || {
                let log = front.access_log();
                (log.contains(&target) && log.ends_with('\n')).then_some(log)
            });
            assert_eq!(text.lines().collect::<Vec<_>>(), wanted);
            assert_eq!(
                Peer::connect(front.addr(0)).get("/whoami").status(),
                200,
                "the worker serves on"
            );
            wanted.push("/whoami 200 text/plain ORIGIN|".to_owned());
            eventually("the next line", || {
                (front.access_log().lines().count() >= wanted.len()).then_some(())
            });
            let text = front.access_log();
            assert_eq!(text.lines().collect::<Vec<_>>(), wanted);
        }
    }
    let log = front.error_log();
    assert!(!log.contains("panic") && !log.contains("[alert]"), "{log}");
}
