//! Every request is logged once, in a line that reads as its format says, whatever becomes of the files meanwhile.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::signal::Signal;
use regex::bytes::Regex;
use serde_json::Value;

use crate::front::{Front, PATIENCE, eventually};
use crate::prefix::get;

const REQUESTS: u64 = 100_000;
const CLIENTS: u64 = 4;
/// Requests that a client sends at once.
const BATCH: u64 = 25;
const ROTATIONS: usize = 6;

/// What the client of a request says that it is: everything that a format has to escape, and bytes that are no UTF-8.
fn agent(number: u64) -> Vec<u8> {
    let strange: &[&[u8]] = &[
        b"plain",
        b"\"quoted\" \\ back",
        "\u{e9}\u{20ac}".as_bytes(),
        b"\xff\xc3 \xe2\x82",
        b"a\ttab, {brace} [bracket] $dollar 'single'",
    ];
    let strange = strange[usize::try_from(number).unwrap() % strange.len()];
    [format!("{number} ").as_bytes(), strange].concat()
}

/// Sends the requests from `first` on, one batch after the other.
fn ask(address: SocketAddr, first: u64, sent: &AtomicU64) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer_bytes = 0;
    for batch in (first..first + REQUESTS / CLIENTS).step_by(BATCH as usize) {
        let mut requests = Vec::new();
        for number in batch..batch + BATCH {
            requests
                .extend_from_slice(format!("GET /?n={number} HTTP/1.1\r\nHost: a\r\n").as_bytes());
            requests.extend_from_slice(b"User-Agent: ");
            requests.extend_from_slice(&agent(number));
            requests.extend_from_slice(b"\r\n\r\n");
        }
        stream.write_all(&requests).unwrap();
        if answer_bytes == 0 {
            // All answers are alike.
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\nok") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                answer.push(byte[0]);
            }
            assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
            answer_bytes = answer.len();
        } else {
            stream.read_exact(&mut vec![0; answer_bytes]).unwrap();
        }
        let mut rest = vec![0; answer_bytes * (BATCH as usize - 1)];
        stream.read_exact(&mut rest).unwrap();
        sent.fetch_add(BATCH, Ordering::Relaxed);
    }
}

#[test]
fn a_hundred_thousand_requests_are_a_hundred_thousand_lines_of_each_log() {
    const LOGS: [&str; 3] = ["combined", "json", "numbers"];
    let mut front = Front::start_main(
        "worker_processes 3;",
        "log_format json escape=json
             '{\"n\":\"$arg_n\",\"agent\":\"$http_user_agent\",\"status\":$status,\"bytes\":$body_bytes_sent,'
             '\"request\":\"$request\",\"time\":\"$time_iso8601\",\"msec\":$msec,\"took\":$request_time,'
             '\"referer\":\"$http_referer\",\"client\":\"$remote_addr:$remote_port\",\"pin\":\"$pin_state\"}';
         log_format numbers $arg_n;
         access_log logs/combined combined buffer=32k flush=1s;
         access_log logs/json json;
         keepalive_requests 1000000;
         server { listen 127.0.0.1:0; access_log logs/combined; access_log logs/json json;
                  access_log logs/numbers numbers buffer=4k; location / { return 200 ok; } }",
    );
    let path = |log: &str, rotation: usize| {
        let name = match rotation {
            ROTATIONS => format!("logs/{log}"),
            rotation => format!("logs/{log}.{rotation}"),
        };
        front.path().join(name)
    };
    let (address, sent) = (front.addr(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let clients = (0..CLIENTS).map(|client| {
            let (first, sent) = (client * REQUESTS / CLIENTS, &sent);
            scope.spawn(move || ask(address, first, sent))
        });
        let clients: Vec<_> = clients.collect();
        // As logrotate does it, while requests go on.
        for rotation in 0..ROTATIONS {
            let enough = REQUESTS * (rotation as u64 + 1) / (ROTATIONS as u64 + 2);
            eventually("more requests", || {
                (sent.load(Ordering::Relaxed) >= enough).then_some(())
            });
            for log in LOGS {
                fs::rename(path(log, ROTATIONS), path(log, rotation)).unwrap();
            }
            front.signal(Signal::SIGUSR1);
            eventually("the new files", || {
                LOGS.iter()
                    .all(|log| path(log, ROTATIONS).exists())
                    .then_some(())
            });
        }
        clients
            .into_iter()
            .for_each(|client| client.join().unwrap());
    });
    let paths: BTreeMap<&str, Vec<PathBuf>> = LOGS
        .map(|log| {
            (
                log,
                (0..=ROTATIONS)
                    .map(|rotation| path(log, rotation))
                    .collect(),
            )
        })
        .into();
    front.signal(Signal::SIGQUIT);
    assert_eq!(front.wait().code(), Some(0));
    let lines = |log: &str| {
        let mut lines: Vec<Vec<u8>> = Vec::new();
        for path in &paths[log] {
            let text = fs::read(path).unwrap();
            assert!(text.ends_with(b"\n"), "{path:?} has {} bytes", text.len());
            lines.extend(text.split(|&byte| byte == b'\n').map(<[u8]>::to_vec));
            lines.pop();
        }
        assert_eq!(lines.len() as u64, REQUESTS, "{log}");
        lines
    };
    let combined = Regex::new(
        r#"(?-u)^127\.0\.0\.1 - - \[\d\d/[A-Z][a-z]{2}/\d{4}(?::\d\d){3} [+-]\d{4}\] "GET /\?n=(\d+) HTTP/1\.1" 200 2 "-" "((?:[ !#-\[\]-~]|\\x[0-9A-F]{2})+)"$"#,
    )
    .unwrap();
    each_once(lines("combined").iter().map(|line| {
        let shown = line.escape_ascii();
        let parts = combined.captures(line).unwrap_or_else(|| panic!("{shown}"));
        let number = str::from_utf8(&parts[1]).unwrap().parse().unwrap();
        assert_eq!(unescaped(&parts[2]), agent(number), "{shown}");
        number
    }));
    each_once(lines("json").iter().map(|line| {
        let shown = line.escape_ascii();
        let value: Value = serde_json::from_slice(line).unwrap_or_else(|e| panic!("{e}: {shown}"));
        let number = value["n"].as_str().unwrap().parse().unwrap();
        let expected: String = agent(number)
            .utf8_chunks()
            .flat_map(|chunk| {
                let invalid = chunk.invalid().iter().map(|&byte| char::from(byte));
                chunk.valid().chars().chain(invalid)
            })
            .collect();
        assert_eq!(value["agent"], expected, "{shown}");
        assert_eq!(value["status"], 200);
        assert_eq!(value["bytes"], 2);
        assert_eq!(value["request"], format!("GET /?n={number} HTTP/1.1"));
        assert!(value["msec"].as_f64().unwrap() > 1e9, "{shown}");
        assert!(value["took"].is_number(), "{shown}");
        assert_eq!((&value["referer"], &value["pin"]), (&"".into(), &"".into()));
        number
    }));
    each_once(
        lines("numbers")
            .iter()
            .map(|line| str::from_utf8(line).unwrap().parse().unwrap()),
    );
    assert!(!front.error_log().contains("[alert]"));
}

/// Every request's number is among these, and none is twice.
#[track_caller]
fn each_once(numbers: impl Iterator<Item = u64>) {
    let mut seen = vec![false; REQUESTS as usize];
    for number in numbers {
        let was_seen = std::mem::replace(&mut seen[number as usize], true);
        assert!(!was_seen, "{number} twice");
    }
    assert!(seen.into_iter().all(|seen| seen));
}

/// What the default escaping was made of.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'\\' {
            let digits = str::from_utf8(&rest[1..3]).unwrap();
            bytes.push(u8::from_str_radix(digits, 16).unwrap());
            rest = &rest[3..];
        } else {
            bytes.push(byte);
        }
    }
    bytes
}

/// What waits when the front ends in whatever way, or is reloaded, is written.
#[test]
fn no_line_that_waits_is_lost_at_the_end() {
    for signal in [Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGINT] {
        let http =
            "log_format path $request_uri; access_log logs/access.log path buffer=1m flush=1h;
             server { listen 127.0.0.1:0; location / { return 204; } }";
        let mut front = Front::start(http);
        for number in 0..20 {
            get(front.addr(0), &format!("/{number}")).unwrap();
        }
        assert_eq!(front.access_log(), "");
        front.reload(http);
        let lines = eventually("the lines before the reload", || {
            Some(front.access_log()).filter(|log| log.lines().count() == 20)
        });
        get(front.addr(0), "/last").unwrap();
        assert_eq!(front.access_log(), lines);
        front.signal(signal);
        assert_eq!(front.wait().code(), Some(0));
        let log = front.access_log();
        let mut numbers: Vec<&str> = log.lines().collect();
        assert_eq!(numbers.pop(), Some("/last"), "{signal}");
        numbers.sort_by_key(|path| path[1..].parse::<u32>().unwrap());
        let expected: Vec<String> = (0..20).map(|number| format!("/{number}")).collect();
        assert_eq!(numbers, expected, "{signal}");
    }
}
