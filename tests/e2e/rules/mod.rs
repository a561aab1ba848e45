//! The rules of what is let through, each with tests that have its number in their names: what is refused and how, and the
//! nearest thing that passes, byte for byte, over real sockets.

use std::net::SocketAddr;

use crate::front::{Front, eventually};
use crate::peer::{Peer, Server};

mod bodies;
mod expectations;
mod fields;
mod lengths;
mod logins;
mod outcomes;
mod paths;
mod pressure;
mod real_clients;
mod request_line;
mod responses;
mod streams;
mod upgrades;

/// A front with one worker before one server; `more` is added to its `server` block.
fn front(server: SocketAddr, more: &str) -> Front {
    Front::start_main(
        "worker_processes 1;",
        &format!(
            "access_log logs/access.log;
             upstream origin {{ server {server}; }}
             server {{ listen 127.0.0.1:0; {more} location / {{ proxy_pass http://origin; }} }}"
        ),
    )
}

/// The request behind a refused one, which nobody may ever see.
const NEXT: &str = "GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n";

/// The head of a request with a body in chunks.
const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n";

/// A GET with these field lines beside `Host`.
fn get(fields: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: test\r\n{fields}\r\n").into()
}

/// A POST with these field lines beside `Host`, and a body that ends at once if it is chunked.
fn post(fields: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nHost: test\r\n{fields}\r\n0\r\n\r\n").into()
}

/// A request with this request line.
fn line(line: &str) -> Vec<u8> {
    format!("{line}\r\nHost: test\r\n\r\n").into()
}

/// A GET without fields but `Host` for this target.
fn ask(target: &str) -> Vec<u8> {
    line(&format!("GET {target} HTTP/1.1"))
}

/// What the server sees of a GET with these field lines.
fn arrives(fields: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\n{fields}Host: origin\r\n\r\n").into()
}

/// What the server sees of a GET for this target.
fn arrives_at(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: origin\r\n\r\n").into()
}

/// Requests that `build` makes of each of these, refused with 400 and this word.
fn refused<'a>(
    build: fn(&str) -> Vec<u8>,
    parts: &'a [&str],
    word: &'static str,
) -> impl Iterator<Item = Refused> + 'a {
    parts.iter().map(move |part| (build(part), 400, word))
}

/// What is sent, and the status and the word of the refusal.
type Refused = (Vec<u8>, u16, &'static str);

/// What is sent, and what the server has to see.
type Passed = (Vec<u8>, Vec<u8>);

/// A front and its server.
struct Stand {
    front: Front,
    server: Server,
}

impl Stand {
    /// `more` is added to the front's `server` block.
    fn new(more: &str) -> Self {
        let server = Server::bind();
        let front = front(server.addr(), more);
        Self { front, server }
    }

    /// Each of these is answered with its status, logged with its word and closed, and nothing of it reaches the server.
    #[track_caller]
    fn refuses(&self, table: &[Refused]) {
        for (request, status, word) in table {
            let shown = shown(request);
            let before = self.refusals().len();
            let mut client = Peer::connect(self.front.addr(0));
            client.send([request, NEXT.as_bytes()].concat());
            self.is_refused(&mut client, *status, &shown);
            self.server.was_left_alone();
            self.logged_once(before, word, &shown);
        }
        self.nothing_was_smuggled();
    }

    /// The client gets one answer, and then the end.
    #[track_caller]
    fn is_refused(&self, client: &mut Peer, status: u16, shown: &str) {
        let answer = client.answer();
        assert_eq!(answer.status(), status, "{shown}");
        assert_eq!(answer.head.field("connection"), Some("close"), "{shown}");
        assert_eq!(client.rest(), b"", "{shown}");
    }

    /// The lines of the error log about refused requests.
    fn refusals(&self) -> Vec<String> {
        let log = self.front.error_log();
        let lines = log
            .lines()
            .filter(|line| line.contains("client sent invalid"));
        lines.map(str::to_owned).collect()
    }

    /// One line more than `before`, with this word.
    #[track_caller]
    fn logged_once(&self, before: usize, word: &str, shown: &str) {
        let lines = eventually(&format!("a line about {shown}"), || {
            Some(self.refusals()).filter(|lines| lines.len() > before)
        });
        assert_eq!(lines.len(), before + 1, "{shown}");
        let line = lines.last().map_or("", |line| line);
        let wanted = format!(" client sent invalid request ({word}): ");
        assert!(
            line.contains(" [info] ") && line.contains(&wanted),
            "{shown}: {line}"
        );
    }

    /// The request behind the refused ones is in no log.
    #[track_caller]
    fn nothing_was_smuggled(&self) {
        for log in [self.front.error_log(), self.front.access_log()] {
            assert!(!log.contains("request: \"GET /smuggled"), "{log}");
            assert!(!log.contains("\"GET /smuggled"), "{log}");
        }
    }

    /// Each of these reaches the server as it says, and is answered.
    #[track_caller]
    fn passes(&self, table: &[Passed]) {
        let before = self.refusals().len();
        for (request, wanted) in table {
            let shown = shown(request);
            let mut client = Peer::connect(self.front.addr(0));
            client.send(request);
            // So that a refusal shows as such, and not as a server that nobody asks.
            let mut upstream = eventually(&format!("a connection for {shown}"), || {
                let refused = client.so_far();
                assert_eq!(refused, "", "{shown}");
                self.server.try_accept()
            });
            let got = upstream.take(wanted.len());
            assert_eq!(
                got.escape_ascii().to_string(),
                wanted.escape_ascii().to_string(),
                "{shown}"
            );
            assert_eq!(upstream.so_far(), "", "{shown}");
            upstream.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
            assert_eq!(client.head().status(), 204, "{shown}");
            assert_eq!(upstream.rest(), b"", "{shown}");
        }
        assert_eq!(self.refusals().len(), before);
    }
}

fn shown(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(200)].escape_ascii().to_string()
}
