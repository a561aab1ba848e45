//! The unit that the package ships, as systemd's own tools see it. `tools/package-test` installs and runs it.

#![allow(clippy::unwrap_used)] // a test: a panic is a failure

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::front::{BINARY, Front, eventually};
use crate::prefix::{HELLO, Ran, get, run};
use crate::upgrade::{Successor, ends, runs};

/// A copy of the unit that starts the binary under test and has no manual.
fn unit() -> (TempDir, PathBuf) {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/debian/ntlmfront.service");
    let unit = fs::read_to_string(unit).unwrap();
    assert!(unit.contains("ExecStart=/usr/sbin/ntlmfront "));
    let unit = unit
        .replace("/usr/sbin/ntlmfront ", &format!("{BINARY} "))
        .replace("man:ntlmfront(8) ", "");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ntlmfront.service");
    fs::write(&path, unit).unwrap();
    (directory, path)
}

fn analyze(arguments: &[&str], unit: &Path) -> Ran {
    let mut command = Command::new("systemd-analyze");
    command.args(arguments).arg(unit);
    run(command)
}

/// The number in `systemd 252 (…)`.
fn systemd_version() -> u32 {
    let mut command = Command::new("systemd-analyze");
    command.arg("--version");
    let said = run(command).stdout;
    let number = said.split_whitespace().nth(1).unwrap();
    let digits = number.split(|letter: char| !letter.is_ascii_digit());
    digits.into_iter().next().unwrap().parse().unwrap()
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let (_directory, unit) = unit();
    let said = analyze(&["verify", "--man=no"], &unit).stderr;
    let known = systemd_version() < 253;
    let wrong: Vec<_> = said
        .lines()
        .filter(|line| line.contains("ntlmfront.service"))
        .filter(|line| !(known && line.ends_with("ignoring: notify-reload")))
        .collect();
    assert_eq!(wrong, Vec::<&str>::new());
}

#[test]
fn systemd_finds_nothing_wrong_with_the_sockets_that_it_may_open() {
    let (directory, _service) = unit();
    let example = Path::new(env!("CARGO_MANIFEST_DIR"));
    let example = example.join("tools/debian/sockets-of-systemd.socket");
    let text = fs::read_to_string(example).unwrap();
    let socket = directory.path().join("ntlmfront.socket");
    let verified = |text: &str| {
        fs::write(&socket, text).unwrap();
        let said = analyze(&["verify", "--man=no"], &socket).stderr;
        let of_it = said
            .lines()
            .filter(|line| line.contains("ntlmfront.socket"));
        of_it.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(verified(&text), Vec::<String>::new());
    assert_ne!(verified(&text.replace(":443", ":x")), Vec::<String>::new());
}

#[test]
fn the_unit_stays_hardened() {
    let (_directory, unit) = unit();
    // 2.0, where 10 is the worst.
    let judged = |unit: &Path| {
        let arguments = ["security", "--offline=yes", "--no-pager", "--threshold=20"];
        analyze(&arguments, unit)
    };
    let ran = judged(&unit);
    assert_eq!(ran.code, Some(0), "{}", ran.stdout);
    fs::write(&unit, "[Service]\nExecStart=/bin/true\n").unwrap();
    assert_eq!(judged(&unit).code, Some(1), "one that is not would show");
}

/// A service manager of which only the main process is asked, and time that passes ten times as fast.
struct Manager(TempDir);

impl Manager {
    fn with_main_process(pid: i32) -> Self {
        let manager = Self(tempfile::tempdir().unwrap());
        manager.tell(pid);
        let asked = manager.0.path().display();
        let systemctl = format!("echo asked >>{asked}/log; cat {asked}/main");
        for (name, script) in [
            ("systemctl", &*systemctl),
            ("sleep", "exec /bin/sleep 0.01"),
        ] {
            let path = manager.0.path().join(name);
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        manager
    }

    fn tell(&self, pid: i32) {
        let new = self.0.path().join("new");
        fs::write(&new, format!("{pid}\n")).unwrap();
        fs::rename(new, self.0.path().join("main")).unwrap();
    }

    fn times_asked(&self) -> usize {
        let log = fs::read_to_string(self.0.path().join("log")).unwrap_or_default();
        log.lines().count()
    }

    /// `tools/debian/upgrade`, as the package runs it.
    fn upgrade(&self) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/debian/upgrade");
        let mut command = Command::new(script);
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", self.0.path().display()));
        command
    }
}

/// The new process that a front has started, once its log says so.
fn started_by(front: &Front) -> Successor {
    eventually("the new process", || {
        let log = front.error_log();
        let (_, started) = log.split_once("start new binary process ")?;
        started.lines().next()?.parse().ok().map(Successor)
    })
}

#[test]
fn an_upgrade_of_no_service_signals_nobody() {
    let manager = Manager::with_main_process(0);
    let mut command = manager.upgrade();
    // It would signal its own group, which is not that of the tests.
    command.process_group(0);
    let ran = run(command);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(
        ran.stderr
            .starts_with("ntlmfront: the service does not run")
    );
}

/// Wherever the configuration has the pid file, and however long the start takes.
#[test]
fn an_upgrade_waits_for_the_new_process_and_ends_the_old_one() {
    let mut front = Front::start(HELLO);
    let manager = Manager::with_main_process(front.pid());
    let mut upgrade = manager.upgrade();
    let upgrade = upgrade.stderr(Stdio::piped()).spawn().unwrap();
    let new = started_by(&front);
    eventually("it waits", || (manager.times_asked() > 400).then_some(()));
    assert!(runs(front.pid()) && runs(new.0));
    manager.tell(new.0);
    let output = upgrade.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*said), (Some(0), ""));
    assert!(front.wait().success());
    assert_eq!(get(front.addr(0), "/").unwrap(), (200, "hello".into()));
}

#[test]
fn an_upgrade_ends_a_new_process_that_is_not_ready_in_time() {
    let front = Front::start(HELLO);
    let manager = Manager::with_main_process(front.pid());
    let ran = run(manager.upgrade());
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains(" not ready "), "{}", ran.stderr);
    ends(started_by(&front).0);
    front.error_log_with("new binary process ", 2);
    assert_eq!(get(front.addr(0), "/").unwrap(), (200, "hello".into()));
}

#[test]
fn an_upgrade_to_what_does_not_start_leaves_the_old_process() {
    let front = Front::start(HELLO);
    fs::write(front.path().join("front.conf"), "frobnicate 1;").unwrap();
    let manager = Manager::with_main_process(front.pid());
    let ran = run(manager.upgrade());
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains(" does not start, "), "{}", ran.stderr);
    assert!(manager.times_asked() < 100);
    assert_eq!(get(front.addr(0), "/").unwrap(), (200, "hello".into()));
}
