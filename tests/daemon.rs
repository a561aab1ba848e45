//! Forking and changing the user need a process with a single thread, which the usual test harness is not: this program
//! starts itself once more for each role.

#![allow(clippy::unwrap_used)] // a test: a panic is a failure

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio, exit};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid, getgid, getpid, getsid, getuid};
use ntlmfront::config::model::{Level, LogTarget};
use ntlmfront::observe::error_log::ErrorLog;
use ntlmfront::observe::files::LogFiles;
use ntlmfront::process::{
    Control, Identity, PidFile, check_ring, daemonize, redirect_stderr, send_signal,
};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, dir] = &arguments[..]
        && let Some(role) = role.strip_prefix("role-")
    {
        return play(role, Path::new(dir));
    }
    ready_daemon();
    failed_daemons();
    changed_user();
    println!("test result: ok");
}

/// The parent ends only when the daemon is ready; nothing of the starter stays open; a signal finds the daemon.
fn ready_daemon() {
    let dir = tempfile::tempdir().unwrap();
    // Reads standard output and error to their ends: it would hang if the daemon kept them.
    let output = start("ready", dir.path());
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, b"");
    assert_eq!(output.stderr, b"starting\n");
    let pid_file = dir.path().join("pid");
    let pid: i32 = fs::read_to_string(&pid_file)
        .expect("written before the parent ended")
        .trim()
        .parse()
        .unwrap();
    let pid = Pid::from_raw(pid);
    assert_eq!(getsid(Some(pid)), Ok(pid));
    send_signal(Control::Stop, &pid_file, &ErrorLog::default()).unwrap();
    wait_for("the daemon's end", || {
        !Path::new(&format!("/proc/{pid}")).exists()
    });
    let log = fs::read_to_string(dir.path().join("log")).unwrap();
    assert_eq!(log, "a panic's message\n");
}

/// A daemon that ends before it is ready, in whatever way, is a failed start.
fn failed_daemons() {
    let dir = tempfile::tempdir().unwrap();
    for role in ["gives-up", "panics", "is-killed"] {
        let output = start(role, dir.path());
        assert_eq!(output.status.code(), Some(1), "{role}: {output:?}");
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(words.contains(role), "said why: {output:?}");
    }
}

/// Every thread is the new user, and the pid file is no trap where it cannot be removed.
fn changed_user() {
    if !geteuid().is_root() {
        println!("not root: the change of the user is not tested");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let output = start("becomes-nobody", dir.path());
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::read_to_string(dir.path().join("pid")).unwrap(), "");
}

fn start(role: &str, dir: &Path) -> std::process::Output {
    Command::new(std::env::current_exe().unwrap())
        .arg(format!("role-{role}"))
        .arg(dir)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn play(role: &str, dir: &Path) {
    if role == "becomes-nobody" {
        return become_nobody(dir);
    }
    let ready = daemonize().unwrap();
    match role {
        "ready" => {
            println!("lost");
            eprintln!("starting");
            let mut files = LogFiles::default();
            let log = files.open(&LogTarget::File(dir.join("log"))).unwrap();
            redirect_stderr(log.descriptor().unwrap()).unwrap();
            PidFile::create(&dir.join("pid")).unwrap();
            eprintln!("a panic's message");
            let mut nothing = Vec::new();
            std::io::stdin().read_to_end(&mut nothing).unwrap();
            ready.announce();
            std::thread::sleep(Duration::from_secs(60));
        }
        "gives-up" => {
            eprintln!("gives-up");
            drop(ready);
            // Still there when the parent ends: it waits for the word, not for the process.
            redirect_stderr(fs::File::open("/dev/null").unwrap()).unwrap();
            std::thread::sleep(Duration::from_millis(100));
            exit(0);
        }
        "panics" => panic!("panics"),
        "is-killed" => {
            eprintln!("is-killed");
            kill(getpid(), Signal::SIGKILL).unwrap();
        }
        _ => unreachable!("{role}"),
    }
}

fn become_nobody(dir: &Path) {
    let group = Some("nogroup").filter(|_| Identity::resolve("nobody", None).is_err());
    let nobody = Identity::resolve("nobody", group).unwrap();
    let mut files = LogFiles::default();
    let path = dir.join("log");
    let log = files.open(&LogTarget::File(path)).unwrap();
    let pid_file = PidFile::create(&dir.join("pid")).unwrap();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let other = std::thread::spawn(move || {
        stopped.recv().unwrap_err();
        (getuid(), getgid())
    });
    assert_eq!(files.change_owner(nobody.uid()), []);
    fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    nobody.assume().unwrap();
    drop(stop);
    let identity = (nobody.uid(), nobody.gid());
    assert_eq!(other.join().unwrap(), identity);
    assert_eq!((getuid(), getgid()), identity);
    assert_eq!(nix::unistd::getgroups(), Ok(vec![nobody.gid()]));
    assert!(Identity::resolve("root", None).unwrap().assume().is_err());
    let (done, _) = tokio::sync::mpsc::unbounded_channel();
    assert_eq!(files.reopen_all(&done), []);
    ErrorLog::new(vec![(log, Level::Debug)]).note(Level::Info, format_args!("reopened"));
    for open in files.all() {
        let failed = open.upgrade().map(|log| log.failed_writes());
        assert_eq!(failed, Some(0));
    }
    pid_file.remove().unwrap();
    // Either is right; it must not panic or hang.
    if let Err(refusal) = check_ring() {
        eprintln!("{refusal}");
    }
}

fn wait_for(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("waited too long for {what}");
}
