//! Logs to syslog servers that the tests play, over UDP and over unix sockets.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use nix::sys::signal::Signal;
use regex::Regex;
use tempfile::TempDir;

use crate::front::{Front, PATIENCE, eventually};
use crate::nginx::Nginx;
use crate::peer::Peer;
use crate::prefix::{free_address, get};

/// A server, and what it received.
struct Syslog {
    socket: Socket,
    received: Vec<String>,
    directory: TempDir,
}

enum Socket {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

impl Syslog {
    fn udp() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        Self::over(Socket::Udp(socket), tempfile::tempdir().unwrap())
    }

    fn unix() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(path(directory.path())).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self::over(Socket::Unix(socket), directory)
    }

    fn over(socket: Socket, directory: TempDir) -> Self {
        Self {
            socket,
            received: Vec::new(),
            directory,
        }
    }

    /// What `server=` says.
    fn server(&self) -> String {
        match &self.socket {
            Socket::Udp(socket) => socket.local_addr().unwrap().to_string(),
            Socket::Unix(_) => format!("unix:{}", path(self.directory.path()).display()),
        }
    }

    /// Everything that has come so far.
    fn so_far(&mut self) -> &[String] {
        let mut message = vec![0; 1 << 16];
        loop {
            let length = match &self.socket {
                Socket::Udp(socket) => socket.recv(&mut message),
                Socket::Unix(socket) => socket.recv(&mut message),
            };
            match length {
                Ok(length) => self
                    .received
                    .push(String::from_utf8(message[..length].to_vec()).unwrap()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return &self.received,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Everything, once these are so many messages.
    #[track_caller]
    fn messages(&mut self, number: usize) -> Vec<String> {
        eventually(&format!("{number} messages"), || {
            let messages = self.so_far();
            (messages.len() >= number).then(|| messages.to_vec())
        })
    }
}

fn path(directory: &Path) -> PathBuf {
    directory.join("log")
}

/// RFC 3164: priority, time, host and tag in the header, and the rest of the message.
fn parsed(message: &str) -> (u8, Option<String>, String, String) {
    static FORM: LazyLock<Regex> = LazyLock::new(|| {
        let months = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec";
        let time = format!("(?:{months}) [ 123][0-9] [0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}");
        let form =
            format!("(?s)^<([0-9]{{1,3}})>{time} (?:([^ ]+) )?([A-Za-z0-9_]{{1,32}}): (.*)$");
        Regex::new(&form).unwrap()
    });
    let parts = FORM
        .captures(message)
        .unwrap_or_else(|| panic!("{message}"));
    (
        parts[1].parse().unwrap(),
        parts.get(2).map(|host| host.as_str().to_owned()),
        parts[3].to_owned(),
        parts[4].to_owned(),
    )
}

/// Has the requests made by whoever listens on `addr`, and returns the messages.
fn play(addr: SocketAddr, syslogs: &mut [Syslog; 2]) -> Vec<(u8, Option<String>, String, String)> {
    let mut client = Peer::connect(addr);
    for target in ["/", "/%22?\"x\"", "/tagged", "/tagged/quiet"] {
        client.send(format!(
            "GET {target} HTTP/1.1\r\nHost: h\r\nUser-Agent: a\tb\u{e9}\r\n\r\n"
        ));
        client.answer();
    }
    let [udp, unix] = syslogs;
    let messages = [udp.messages(4), unix.messages(2)].concat();
    // Each log has its own way to the server.
    let mut messages: Vec<_> = messages.iter().map(|message| parsed(message)).collect();
    messages.sort();
    messages
}

#[test]
fn messages_are_those_of_nginx() {
    let scene = |listen: &str, [udp, unix]: &[Syslog; 2]| {
        format!(
            "log_format f '$request \"$http_user_agent\"'; log_format j escape=json '{{\"a\":\"$http_user_agent\"}}';
             access_log syslog:server={udp} f;
             server {{ listen {listen}; location / {{ return 200; }}
                 location /tagged {{
                     access_log syslog:server={udp},facility=mail,severity=debug,tag=Exchange_1 f;
                     access_log syslog:server={unix},nohostname,tag=x j;
                     return 200;
                 }}
                 location /tagged/quiet {{
                     access_log syslog:server={unix},facility=kern,severity=emerg f if=$arg_none;
                     access_log syslog:nohostname,server={udp} f;
                     access_log syslog:server={unix},severity=error f if=$host;
                     return 200;
                 }} }}",
            udp = udp.server(),
            unix = unix.server(),
        )
    };
    let mut servers = [Syslog::udp(), Syslog::unix()];
    let nginx = Nginx::start(&scene("ADDR", &servers));
    let theirs = play(nginx.addr, &mut servers);
    drop(nginx);
    let mut servers = [Syslog::udp(), Syslog::unix()];
    let front = Front::start_main("worker_processes 1;", &scene("127.0.0.1:0", &servers));
    let ours = play(front.addr(0), &mut servers);
    drop(front);
    assert_eq!(ours, theirs);
}

#[test]
fn lines_of_the_error_log_have_the_severities_of_their_levels() {
    let nobody = free_address();
    let (mut all, mut own) = (Syslog::unix(), Syslog::udp());
    let mut front = Front::start_main(
        &format!("worker_processes 1; error_log syslog:server={},nohostname info;", all.server()),
        &format!(
            "server {{ listen 127.0.0.1:0; location / {{ proxy_pass http://{nobody}; }}
                       location /own {{ error_log syslog:server={},facility=daemon,severity=debug,tag=own;
                                        proxy_pass http://{nobody}; }} }}",
            own.server()
        ),
    );
    for path in ["/", "/own"] {
        assert_eq!(get(front.addr(0), path).unwrap().0, 502);
    }
    let failed = "connect() failed (111: Connection refused) while connecting to upstream";
    let (priority, host, tag, text) = parsed(&own.messages(1)[0]);
    assert_eq!((priority, &tag[..]), (3 * 8 + 3, "own"));
    assert_eq!(host.as_deref(), Some(&*hostname()));
    let line =
        Regex::new(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[error\] \d+#\d+: \*\d+ (.*)$").unwrap();
    assert!(
        line.captures(&text).unwrap()[1].starts_with(failed),
        "{text}"
    );
    front.signal(Signal::SIGTERM);
    front.wait();
    let mut seen = Vec::new();
    for message in all.so_far() {
        let (priority, host, tag, text) = parsed(message);
        assert_eq!((host, &tag[..]), (None, "nginx"), "{message}");
        let level = text.split(['[', ']']).nth(1).unwrap();
        seen.push((priority, level.to_owned(), text));
    }
    for (priority, level, words) in [
        (189, "notice", "listening on"),
        (187, "error", failed),
        (189, "notice", "#: exit"),
    ] {
        let is_it = |(p, l, text): &&(u8, String, String)| {
            *p == priority
                && l == level
                && normal(text).contains(words)
                && !text.contains("GET /own")
        };
        assert_eq!(seen.iter().filter(is_it).count(), 1, "{words}: {seen:#?}");
    }
}

/// Without the process and the thread.
fn normal(text: &str) -> String {
    Regex::new(r"\d+#\d+")
        .unwrap()
        .replace(text, "#")
        .into_owned()
}

fn hostname() -> String {
    let name = nix::unistd::gethostname().unwrap();
    name.to_string_lossy().to_lowercase()
}

#[test]
fn no_message_is_lost_at_the_end_or_while_a_server_is_started_anew() {
    const REQUESTS: usize = 2000;
    let mut syslog = Syslog::unix();
    let mut front = Front::start(&format!(
        "log_format n $request_uri; access_log syslog:server={} n; keepalive_requests 1000000;
         server {{ listen 127.0.0.1:0; location / {{ return 204; }} }}",
        syslog.server()
    ));
    let ask = |from: usize, to: usize| {
        let mut clients = [0; 2].map(|_| Peer::connect(front.addr(0)));
        for number in from..to {
            assert_eq!(clients[number % 2].get(&format!("/{number}")).status(), 204);
        }
    };
    ask(0, REQUESTS);
    syslog.messages(REQUESTS);
    // Gone, and back at the same place.
    let path = path(syslog.directory.path());
    syslog.socket = Socket::Unix(UnixDatagram::unbound().unwrap());
    std::fs::remove_file(&path).unwrap();
    ask(REQUESTS, REQUESTS + 1);
    front.error_log_with("[alert]", 1);
    let failed = format!(
        "send() to \"syslog:server=unix:{}\" failed (",
        path.display()
    );
    front.error_log_with(&failed, 1);
    ask(REQUESTS + 1, 2 * REQUESTS);
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    syslog.socket = Socket::Unix(socket);
    syslog.messages(2 * REQUESTS);
    // What it has no room for when the front ends is still sent.
    ask(2 * REQUESTS, 3 * REQUESTS);
    front.signal(Signal::SIGQUIT);
    let mut messages = syslog.messages(3 * REQUESTS);
    assert_eq!(front.wait().code(), Some(0));
    messages.sort();
    let mut numbers: Vec<usize> = messages
        .iter()
        .map(|message| parsed(message).3[1..].parse().unwrap())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..3 * REQUESTS).collect::<Vec<_>>());
}

/// Whom nobody listens to is no reason not to start, and costs no more than its messages.
#[test]
fn a_syslog_server_over_udp_need_not_be_there() {
    let nobody = free_address();
    let mut front = Front::start(&format!(
        "access_log syslog:server={nobody}; access_log logs/access.log;
         server {{ listen 127.0.0.1:0; location / {{ return 204; }} }}"
    ));
    let began = std::time::Instant::now();
    let mut client = Peer::connect(front.addr(0));
    for _ in 0..200 {
        assert_eq!(client.get("/").status(), 204);
    }
    let failed = format!("send() to \"syslog:server={nobody}\" failed (111: Connection refused)");
    let log = front.error_log_with(&failed, 1);
    assert!(log.contains("lines were lost"), "{log}");
    front.signal(Signal::SIGTERM);
    assert_eq!(front.wait().code(), Some(0));
    assert!(began.elapsed() < PATIENCE / 2);
    assert_eq!(front.access_log().lines().count(), 200);
}
