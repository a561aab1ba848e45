//! How many instructions the front executes in user space for one request: the real binary under callgrind, on epoll.
//!
//! Time of a shared machine says little about a change of a few hundredths; this number says it exactly, and is the same in
//! every run. It is kept in `tests/instructions/expected`. Whoever changes it by more than [`TOLERANCE_PERCENT`], up or
//! down, records it:
//!
//! ```sh
//! NTLMFRONT_RECORD_INSTRUCTIONS=1 cargo test --release --test instructions
//! ```
//!
//! It depends on the compiler, the C library and the kinds of instructions that the processor has, so that `expected` says
//! which compiler it was taken with; record it anew when that changes.

#![allow(clippy::unwrap_used)] // a test: a panic is a failure

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How far a count may be from the recorded one.
const TOLERANCE_PERCENT: u64 = 3;

/// Requests of the two runs that are compared: what both do, start and login, cancels out.
const FEW: u64 = 100;
const MANY: u64 = 1100;

/// How long anything may take under valgrind on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const EXPECTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/instructions/expected");

/// What a current browser sends, logged in or not.
const FIELDS: &str = "Host: mail.example.com\r\n\
    Connection: keep-alive\r\n\
    User-Agent: Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
    X-Requested-With: XMLHttpRequest\r\n\
    Sec-Fetch-Site: same-origin\r\n\
    Sec-Fetch-Mode: cors\r\n\
    Referer: http://mail.example.com/owa/\r\n\
    Accept-Encoding: gzip, deflate\r\n\
    Accept-Language: en-US,en;q=0.9\r\n\
    Cookie: ClientId=0B4C6E7F8A9D; UC=5d41402abc4b2a76b9719d911017c592; PrivateComputer=true\r\n";

const CHALLENGED: &str = "HTTP/1.1 401 Unauthorized\r\n\
    Content-Length: 0\r\n\
    Server: Microsoft-IIS/10.0\r\n\
    WWW-Authenticate: NTLM TlRMTVNTUAACAAAADAAMADgAAAAFgomi\r\n\
    Date: Mon, 02 Dec 2024 10:00:00 GMT\r\n\r\n";

const ANSWER: &str = "HTTP/1.1 200 OK\r\n\
    Cache-Control: private\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    Server: Microsoft-IIS/10.0\r\n\
    X-AspNet-Version: 4.0.30319\r\n\
    X-Powered-By: ASP.NET\r\n\
    Date: Mon, 02 Dec 2024 10:00:00 GMT\r\n\
    Content-Length: 100\r\n\r\n\
    0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789";

/// A kind of request: its name in `expected`, and what the client says before the requests that are counted.
const KINDS: [(&str, &[&str]); 2] = [
    (
        "pinned",
        &[
            "Authorization: NTLM TlRMTVNTUAABAAAAB4IIogAAAAAAAAAAAAAAAAAAAAA=\r\n",
            "Authorization: NTLM TlRMTVNTUAADAAAAGAAYAHIAAAAYABgAigAAAA==\r\n",
        ],
    ),
    ("pooled", &[]),
];

#[test]
#[cfg_attr(
    debug_assertions,
    ignore = "counts the optimised build: cargo test --release --test instructions"
)]
fn instructions_of_a_request() {
    let origin = origin();
    let counted = KINDS.map(|(kind, login)| {
        // Both at once: what is counted is not time.
        let (few, many) = std::thread::scope(|scope| {
            let few = scope.spawn(|| instructions(origin, login, FEW));
            let many = scope.spawn(|| instructions(origin, login, MANY));
            (few.join().unwrap(), many.join().unwrap())
        });
        (kind, (many - few) / (MANY - FEW))
    });
    let compiler = Command::new("rustc").arg("--version").output().unwrap();
    let compiler = String::from_utf8(compiler.stdout).unwrap();
    let lines = counted.map(|(kind, count)| format!("{kind} {count}\n"));
    let found = format!("{compiler}{}", lines.concat());
    print!("{found}");
    if std::env::var_os("NTLMFRONT_RECORD_INSTRUCTIONS").is_some() {
        fs::write(EXPECTED, found).unwrap();
        return;
    }
    let expected = fs::read_to_string(EXPECTED).unwrap();
    for (kind, count) in counted {
        let recorded = expected.lines().find_map(|line| line.strip_prefix(kind));
        let recorded: u64 = recorded.unwrap().trim().parse().unwrap();
        assert!(
            count.abs_diff(recorded) * 100 <= recorded * TOLERANCE_PERCENT,
            "a {kind} request takes {count} instructions, recorded are {recorded}; if that is meant, see the head of \
             tests/instructions/main.rs\n--- recorded\n{expected}--- now\n{found}"
        );
    }
}

/// A front that ends with its value, so that a failed test leaves none.
struct Front(Child);

impl Drop for Front {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the front executes from its start to its end, with `requests` behind the login.
fn instructions(origin: SocketAddr, login: &[&str], requests: u64) -> u64 {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let mut front = Front(start(path, origin));
    let address: SocketAddr = eventually("the front listens", || {
        let log = fs::read_to_string(path.join("error.log")).unwrap_or_default();
        log.contains(" workers on ").then_some(())?;
        let line = log
            .lines()
            .find_map(|line| line.split_once("listening on "))?;
        line.1.trim().parse().ok()
    });
    let mut client = TcpStream::connect(address).unwrap();
    client.set_nodelay(true).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    for credentials in login {
        ask(&mut client, credentials);
    }
    for _ in 0..requests {
        assert!(ask(&mut client, "").starts_with(b"HTTP/1.1 200 OK\r\n"));
    }
    drop(client);
    kill(
        Pid::from_raw(front.0.id().try_into().unwrap()),
        Signal::SIGTERM,
    )
    .unwrap();
    eventually("the front ends", || front.0.try_wait().unwrap());
    let counts = fs::read_to_string(path.join("callgrind.out")).unwrap();
    let total = counts
        .lines()
        .find_map(|line| line.strip_prefix("totals: "));
    total.unwrap().trim().parse().unwrap()
}

fn start(path: &Path, origin: SocketAddr) -> Child {
    let configuration = format!(
        "daemon off;\npid front.pid;\nerror_log error.log notice;\nworker_processes 1;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n\
         access_log off;\n\
         upstream mail {{ server {origin}; ntlm; ntlm_requests 1000000; keepalive 4; keepalive_requests 1000000; }}\n\
         server {{ listen 127.0.0.1:0; server_name mail.example.com; keepalive_requests 1000000;\n\
         location / {{ proxy_pass http://mail; }} }}\n}}\n"
    );
    fs::write(path.join("front.conf"), configuration).unwrap();
    let mut command = Command::new("valgrind");
    command
        .args([
            "--tool=callgrind",
            "--callgrind-out-file=callgrind.out",
            "-q",
        ])
        .arg(env!("CARGO_BIN_EXE_ntlmfront"))
        .args(["-p", ".", "-c", "front.conf", "--io", "epoll"])
        .current_dir(path)
        .stdin(Stdio::null());
    command.spawn().expect("valgrind is installed")
}

/// Sends one request and reads its answer.
fn ask(client: &mut TcpStream, credentials: &str) -> Vec<u8> {
    let request =
        format!("GET /owa/service.svc?action=GetItem HTTP/1.1\r\n{FIELDS}{credentials}\r\n");
    client.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !is_whole(&answer) {
        let mut piece = [0; 4096];
        let n = client.read(&mut piece).unwrap();
        assert!(n > 0, "closed after {}", answer.escape_ascii());
        answer.extend_from_slice(&piece[..n]);
    }
    answer
}

/// Whether all of an answer is there, which is one of two.
fn is_whole(answer: &[u8]) -> bool {
    answer.ends_with(b"0123456789")
        || answer.starts_with(b"HTTP/1.1 401") && answer.ends_with(b"\r\n\r\n")
}

/// A server that begins a login with a challenge and answers everything else.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            std::thread::spawn(move || answer_all(connection.unwrap()));
        }
    });
    address
}

fn answer_all(mut connection: TcpStream) {
    connection.set_nodelay(true).unwrap();
    let mut request = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(n @ 1..) = connection.read(&mut piece) {
        request.extend_from_slice(&piece[..n]);
        if !request.ends_with(b"\r\n\r\n") {
            continue;
        }
        let challenges = request
            .windows(20)
            .any(|bytes| bytes == b"NTLM TlRMTVNTUAABAAA");
        let answer = if challenges { CHALLENGED } else { ANSWER };
        connection.write_all(answer.as_bytes()).unwrap();
        request.clear();
    }
}

#[track_caller]
fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
