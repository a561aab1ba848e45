//! Logs that are opened again, other logs after a reload, and logs that a daemon has beside files.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::front::{Front, eventually};
use crate::prefix::{HELLO, Prefix, get, is_root, nobody, nobodys_group};

/// How many threads a process has, and what it has open below its prefix.
fn possessions(front: &Front) -> (usize, Vec<PathBuf>) {
    let list = |kind| fs::read_dir(format!("/proc/{}/{kind}", front.pid())).unwrap();
    let open = list("fd").filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    let mut open: Vec<_> = open.filter(|path| path.starts_with(front.path())).collect();
    open.sort();
    (list("task").count(), open)
}

#[test]
fn a_reload_opens_logs_that_were_moved_away_again() {
    let http = format!("access_log logs/access.log; {HELLO}");
    let front = Front::start(&http);
    let log = |name: &str| front.path().join("logs").join(name);
    get(front.addr(0), "/before").unwrap();
    eventually("its line", || {
        front.access_log().contains("/before").then_some(())
    });
    for name in ["access", "error"] {
        fs::rename(log(&format!("{name}.log")), log(&format!("{name}.1"))).unwrap();
    }
    front.signal(Signal::SIGHUP);
    front.error_log_with("reconfigured", 1);
    get(front.addr(0), "/after").unwrap();
    eventually("its line", || {
        front.access_log().contains("/after").then_some(())
    });
    assert!(
        !fs::read_to_string(log("access.1"))
            .unwrap()
            .contains("/after")
    );
}

#[test]
fn a_reload_leaves_no_log_open_that_it_does_not_name() {
    let text = |number: usize| {
        format!(
            "error_log logs/error.{number}; access_log logs/access.{number} combined buffer=64k; {HELLO}"
        )
    };
    let front = Front::start(&text(0));
    let path = |kind: &str, number: usize| front.path().join(format!("logs/{kind}.{number}"));
    get(front.addr(0), "/").unwrap();
    let before = possessions(&front);
    for number in 1..=4 {
        front.reload(&text(number));
        get(front.addr(0), "/").unwrap();
        eventually("what waited is written", || {
            let last = fs::read_to_string(path("access", number - 1)).unwrap();
            (last.lines().count() == 1).then_some(())
        });
    }
    let names = |number| ["access", "error"].map(|kind| path(kind, number));
    let expected = before.1.into_iter().map(|path| {
        let at = names(0).iter().position(|name| *name == path);
        at.map_or(path, |at| names(4)[at].clone())
    });
    let expected = (before.0, expected.collect());
    eventually("what was there before, but for names", || {
        (possessions(&front) == expected).then_some(())
    });
    // Nor does it make them again.
    for number in 0..4 {
        fs::remove_file(path("access", number)).unwrap();
        fs::remove_file(path("error", number)).unwrap();
    }
    front.signal(Signal::SIGUSR1);
    front.signal(Signal::SIGHUP);
    front.error_log_with("reconfigured", 5);
    for number in 0..4 {
        assert!(!path("access", number).exists() && !path("error", number).exists());
    }
}

#[test]
fn a_daemon_that_logs_to_syslog_alone_has_the_default_log_too_and_holds_no_terminal() {
    let syslog = tempfile::tempdir().unwrap();
    let socket = syslog.path().join("log");
    let server = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    server
        .set_read_timeout(Some(crate::front::PATIENCE))
        .unwrap();
    let prefix = Prefix::new();
    let main = format!("error_log syslog:server=unix:{} info;", socket.display());
    prefix.write(
        "front.conf",
        &format!("pid logs/front.pid; {main} events {{}} http {{ {HELLO} }}"),
    );
    let log = prefix.name("logs/error.log");
    let ran = prefix.run(&["-e", &log]);
    assert_eq!((ran.code, &*ran.stderr), (Some(0), ""));
    let daemon = prefix.running_daemon();
    let mut buffer = [0; 2000];
    let mut said = String::new();
    while !said.contains("start 1 workers") {
        let length = server.recv(&mut buffer).unwrap();
        said.push_str(&String::from_utf8_lossy(&buffer[..length]));
        said.push('\n');
    }
    assert!(!said.contains("[alert]"), "{said}");
    let stderr = fs::read_link(format!("/proc/{}/fd/2", daemon.pid())).unwrap();
    assert_eq!(stderr, fs::canonicalize(&log).unwrap());
    // It takes errors, and not what is less.
    assert_eq!(prefix.error_log(), "");
    prefix.write("front.conf", "nonsense;");
    kill(Pid::from_raw(daemon.pid()), Signal::SIGHUP).unwrap();
    eventually("the error", || {
        prefix
            .error_log()
            .contains("unknown directive")
            .then_some(())
    });
    kill(Pid::from_raw(daemon.pid()), Signal::SIGTERM).unwrap();
    daemon.wait();
}

#[test]
fn logs_can_be_moved_away_from_a_front_that_is_root_s_no_more() {
    if !is_root() {
        return;
    }
    let (uid, gid) = nobody();
    let prefix = Prefix::with(
        &format!("user nobody {};", nobodys_group()),
        &format!("access_log logs/access.log; {HELLO}"),
    );
    // As a service's log directory: the user's own.
    chown(prefix.path().join("logs"), Some(uid), Some(gid)).unwrap();
    let daemon = prefix.daemon();
    let address = prefix.listening()[0];
    let signal = |signal| kill(Pid::from_raw(daemon.pid()), signal).unwrap();
    // What is asked while files are moved away may be in either.
    let is_logged = || {
        eventually("a line in the file", || {
            assert_eq!(get(address, "/").unwrap().0, 200);
            let log = prefix.read("logs/access.log");
            log.contains("\"GET / ").then_some(())
        });
    };
    is_logged();
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
    is_logged();
    signal(Signal::SIGHUP);
    eventually("the new error log", || {
        prefix.error_log().contains("reconfigured").then_some(())
    });
    // By root's own hand, who may make files that are nobody's: the files are the user's all the same.
    for (ask, said) in [("reopen", "reopening logs"), ("reload", "reconfigured")] {
        for name in ["access", "error"] {
            let path = |end: &str| prefix.path().join(format!("logs/{name}.{end}"));
            fs::rename(path("log"), path(ask)).unwrap();
        }
        assert_eq!(prefix.run(&["-s", ask]).code, Some(0));
        is_logged();
        signal(Signal::SIGHUP);
        eventually(said, || {
            prefix.error_log().contains("reconfigured").then_some(())
        });
    }
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
    is_logged();
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

/// Whoever may write to the directory of logs can have made a link there.
#[test]
fn root_gives_nobody_what_a_link_leads_to() {
    if !is_root() {
        return;
    }
    let (uid, gid) = nobody();
    let elsewhere = tempfile::tempdir().unwrap();
    let roots = elsewhere.path().join("file");
    fs::write(&roots, "").unwrap();
    let prefix = Prefix::with(&format!("user nobody {};", nobodys_group()), HELLO);
    chown(prefix.path().join("logs"), Some(uid), Some(gid)).unwrap();
    std::os::unix::fs::symlink(&roots, prefix.path().join("logs/error.log")).unwrap();
    assert_eq!(prefix.run(&["-t"]).code, Some(0));
    let daemon = prefix.daemon();
    assert_eq!(prefix.run(&["-s", "reload"]).code, Some(0));
    assert_eq!(prefix.run(&["-s", "stop"]).code, Some(0));
    daemon.wait();
    assert_eq!(fs::metadata(&roots).unwrap().uid(), 0);
    assert!(
        prefix
            .read("logs/error.log")
            .contains("signal process started")
    );
}
