//! Where the password comes from, and where it is not shown.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use nix::pty::openpty;
use nix::sys::termios::{LocalFlags, tcgetattr};

use super::{BOTH, LOGS_IN, origin};
use crate::front::{BINARY, eventually};
use crate::prefix::{Ran, run};

fn probe(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(["--probe", url]).args(arguments);
    command.env_remove("NTLMFRONT_PASSWORD");
    command
}

#[test]
fn it_is_taken_from_the_environment() {
    let origin = origin("A", BOTH);
    let url = format!("http://{}/", origin.addr());
    let mut command = probe(&url, &["-u", "EXAMPLE\\alice"]);
    command.env("NTLMFRONT_PASSWORD", "wonderland");
    let Ran {
        code,
        stdout,
        stderr,
    } = run(command);
    assert_eq!((code, &*stderr), (Some(0), ""), "{stdout}");
    assert!(stdout.contains(LOGS_IN) && !stdout.contains("wonderland"));
}

#[test]
fn without_one_nothing_is_sent() {
    let origin = origin("A", BOTH);
    let url = format!("http://{}/", origin.addr());
    for (arguments, said) in [
        (&["-u", "alice"][..], "no password ("),
        (
            &["-u", "alice:wonderland"],
            "-u takes DOMAIN\\name, name@domain or name, and no password",
        ),
        (&["-u", ""], "-u takes "),
    ] {
        let ran = run(probe(&url, arguments));
        assert_eq!((ran.code, &*ran.stdout), (Some(1), ""), "{arguments:?}");
        let begin = format!("ntlmfront: {said}");
        assert!(
            ran.stderr.starts_with(&begin),
            "{arguments:?}: {}",
            ran.stderr
        );
        assert!(!ran.stderr.contains("wonderland"));
    }
    for url in [
        "http://alice:wonderland@127.0.0.1/",
        "127.0.0.1",
        "ftp://a/",
    ] {
        let ran = run(probe(url, &[]));
        assert_eq!((ran.code, &*ran.stdout), (Some(1), ""), "{url}");
        assert!(
            ran.stderr
                .starts_with("ntlmfront: invalid URL of \"--probe\": "),
            "{}",
            ran.stderr
        );
        assert!(!ran.stderr.contains("wonderland"));
    }
    assert_eq!(origin.accepted(), 0);
}

/// On a terminal it is asked for, and what is typed is not shown.
#[test]
fn it_is_typed_without_being_shown() {
    let origin = origin("A", BOTH);
    let url = format!("http://{}/", origin.addr());
    let pty = openpty(None, None).unwrap();
    let end = |fd: &OwnedFd| Stdio::from(fd.try_clone().unwrap());
    let probe = probe(&url, &["-u", "EXAMPLE\\alice"]);
    // Its terminal is that one, and not that of whoever runs the tests.
    let mut setsid = Command::new("/usr/bin/setsid");
    setsid.args(["--ctty", "--wait"]).arg(probe.get_program());
    let mut child = setsid
        .args(probe.get_args())
        .env_remove("NTLMFRONT_PASSWORD")
        .stdin(end(&pty.slave))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Which holds the other end, too.
    drop(setsid);
    drop(pty.slave);
    let mut terminal = File::from(pty.master);
    let mut shown = String::new();
    eventually("it asks", || {
        let mut buffer = [0; 256];
        let read = terminal.read(&mut buffer).unwrap();
        shown += &String::from_utf8_lossy(&buffer[..read]);
        shown.contains("Password of EXAMPLE\\alice: ").then_some(())
    });
    // The terminal shows no more what is typed.
    eventually("it is ready", || {
        let flags = tcgetattr(&terminal).unwrap().local_flags;
        (!flags.contains(LocalFlags::ECHO)).then_some(())
    });
    terminal.write_all(b"wonderland\n").unwrap();
    let mut output = String::new();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_to_string(&mut output).unwrap();
    assert!(child.wait().unwrap().success(), "{output}");
    assert!(output.contains(LOGS_IN), "{output}");
    // Whatever was shown meanwhile; the other end is closed, which is an error here.
    let mut rest = Vec::new();
    let _ = terminal.read_to_end(&mut rest);
    shown += &String::from_utf8_lossy(&rest);
    assert!(
        !shown.contains("wonder") && !output.contains("wonder"),
        "{shown}"
    );
}
