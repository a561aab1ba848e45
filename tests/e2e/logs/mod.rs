//! The error log's lines and levels, the access log's lines, and where both of them go.
#![allow(clippy::unwrap_used)] // what fails in a helper fails its test

mod access;
mod reopening;
mod rotation;
mod stuck;
mod syslog;

use nix::sys::signal::Signal;
use regex::Regex;

use crate::front::{Front, eventually};
use crate::prefix::{Plain, Prefix, free_address, get};

const START: &str = r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[(debug|info|notice|warn|error|crit|alert|emerg)\] (\d+)#(\d+): ";

#[test]
fn every_line_has_its_form() {
    let nobody = free_address();
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
    let nobody = free_address();
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
        let text = eventually(log, || {
            let text = prefix.read(log);
            said.iter()
                .all(|words| text.contains(words))
                .then_some(text)
        });
        assert!(
            !unsaid.iter().any(|words| text.contains(words)),
            "{log}: {text}"
        );
        assert!(prefix.path().join(log).exists());
    }
}
