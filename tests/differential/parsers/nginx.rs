//! nginx as an origin: it is sent the captured bytes, and its access log says what it saw, bodies included.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use nix::sys::stat::Mode;
use tempfile::TempDir;

use crate::case::Case;
use crate::front::{PATIENCE, eventually};
use crate::message::{Message, View};

/// A running nginx, ended with its value.
pub(crate) struct Nginx {
    child: Child,
    directory: TempDir,
    /// What comes out of its access log.
    lines: Receiver<Vec<u8>>,
    markers: u64,
}

/// One line of the log.
struct Line {
    status: Vec<u8>,
    message: Message,
}

impl Nginx {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().display().to_string();
        let log = directory.path().join("seen");
        nix::unistd::mkfifo(&log, Mode::S_IRUSR | Mode::S_IWUSR).expect("a fifo");
        // `mirror` has the whole body read before the answer, which is an error page for most methods.
        let text = format!(
            "daemon off; master_process off; worker_processes 1;
             pid {path}/pid; error_log {path}/error.log crit;
             events {{ worker_connections 64; }}
             http {{
                 log_format seen escape=json
                     '$status\\t$request_method\\t$request_uri\\t$server_protocol\\t$request_body';
                 access_log {log} seen;
                 client_max_body_size 0; client_body_buffer_size 4m; client_body_in_single_buffer on;
                 large_client_header_buffers 8 256k;
                 keepalive_requests 1000000000; keepalive_timeout 600s;
                 client_body_temp_path {path}/b; proxy_temp_path {path}/p; fastcgi_temp_path {path}/f;
                 uwsgi_temp_path {path}/u; scgi_temp_path {path}/s;
                 server {{
                     listen unix:{path}/socket;
                     location / {{ mirror /the-mirror-of-this-test; empty_gif; }}
                     location = /the-mirror-of-this-test {{ internal; return 204; }}
                 }}
             }}",
            log = log.display(),
        );
        let file = directory.path().join("nginx.conf");
        fs::write(&file, text).expect("a file can be written");
        // For reading and writing, so that it neither waits for the other side nor ends with it.
        let fifo = fs::File::options()
            .read(true)
            .write(true)
            .open(&log)
            .expect("the fifo opens");
        let child = Command::new("/usr/sbin/nginx")
            .arg("-p")
            .arg(directory.path())
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("nginx, which tools/test installs");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let mut fifo = BufReader::with_capacity(1 << 20, fifo);
            loop {
                let mut line = Vec::new();
                let read = fifo.read_until(b'\n', &mut line);
                // An empty line is not nginx's.
                if read.is_err() || line == b"\n" || sender.send(line).is_err() {
                    return;
                }
            }
        });
        let nginx = Self {
            child,
            directory,
            lines,
            markers: 0,
        };
        eventually("nginx listens", || {
            UnixStream::connect(nginx.directory.path().join("socket")).ok()
        });
        nginx
    }

    /// What it sees in each case of a batch: requests, each followed by its sentinel.
    pub(crate) fn read(&mut self, batch: &[Case]) -> Vec<View> {
        let mut views: Vec<View> = Vec::with_capacity(batch.len());
        while views.len() < batch.len() {
            let rest = &batch[views.len()..];
            self.exchange(rest);
            let mut lines = self.until_marker();
            // At least one case is done with by each connection: nginx closes it behind one that it refuses.
            for case in rest {
                let sentinel = &case.expected.last().expect("a sentinel").target;
                let mut view = View::default();
                let mut found = false;
                while let Some(line) = lines.pop_front() {
                    if line.is_refusal() {
                        view.error = Some(String::from_utf8_lossy(&line.status).into_owned());
                        continue;
                    }
                    found = line.message.target == *sentinel;
                    view.messages.push(line.message);
                    if found {
                        break;
                    }
                }
                if !found && view.error.is_none() {
                    view.error = Some("closed".into());
                }
                views.push(view);
                if !found {
                    break;
                }
            }
        }
        views
    }

    /// Sends the bytes of all cases and reads until nginx closes.
    fn exchange(&self, cases: &[Case]) {
        let mut stream = self.connect();
        let mut writer = stream.try_clone().expect("a descriptor");
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut bytes = Vec::new();
                for case in cases {
                    bytes.extend_from_slice(&case.bytes);
                }
                bytes.extend_from_slice(
                    b"GET /over HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n",
                );
                // It may close early.
                let _ = writer.write_all(&bytes);
            });
            let mut sink = [0; 64 << 10];
            while matches!(stream.read(&mut sink), Ok(1..)) {}
            // The writer may wait for room that nobody makes any more.
            let _ = stream.shutdown(Shutdown::Both);
        });
    }

    /// The lines up to that of a request of our own, which is sent after nginx closed the connection before.
    fn until_marker(&mut self) -> VecDeque<Line> {
        self.markers += 1;
        let target = format!("/marker-{}", self.markers);
        let mut stream = self.connect();
        let request = format!("GET {target} HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("nginx listens");
        let mut lines = VecDeque::new();
        loop {
            let line = self
                .lines
                .recv_timeout(PATIENCE)
                .expect("a line of nginx's log");
            let line = Line::parse(&line);
            if line.message.target == target.as_bytes() {
                return lines;
            }
            if line.message.target != b"/over" {
                lines.push_back(line);
            }
        }
    }

    fn connect(&self) -> UnixStream {
        let stream =
            UnixStream::connect(self.directory.path().join("socket")).expect("nginx listens");
        for set in [UnixStream::set_read_timeout, UnixStream::set_write_timeout] {
            set(&stream, Some(Duration::from_secs(60))).expect("a timeout");
        }
        stream
    }
}

impl Line {
    fn parse(line: &[u8]) -> Self {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let mut parts = line.split(|b| *b == b'\t').map(unescape);
        let mut part = || parts.next().unwrap_or_default();
        let status = part();
        Self {
            status,
            message: Message {
                method: part(),
                target: part(),
                version: without_protocol(part()),
                body: part(),
            },
        }
    }

    /// nginx answers other methods than GET with 405 here, but reads them; TRACE it does not read to the end.
    fn is_refusal(&self) -> bool {
        match &*self.status {
            b"405" => self.message.method == b"TRACE",
            // what conditions and ranges ask for
            b"412" | b"416" => false,
            status => status >= b"400".as_slice(),
        }
    }
}

fn without_protocol(version: Vec<u8>) -> Vec<u8> {
    let number = version.strip_prefix(b"HTTP/").map(<[u8]>::to_vec);
    number.unwrap_or(version)
}

/// The bytes that `escape=json` wrote.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let Some((letter, after)) = rest.split_first() else {
            break;
        };
        rest = after;
        bytes.push(match letter {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'b' => 8,
            b'f' => 12,
            b'u' => {
                let (digits, after) = rest.split_at(4);
                rest = after;
                let digits = std::str::from_utf8(digits).expect("hexadecimal digits");
                u8::from_str_radix(digits, 16).expect("a control byte")
            }
            other => *other,
        });
    }
    bytes
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Ends the thread that reads the log.
        if let Ok(mut fifo) = fs::File::options()
            .write(true)
            .open(self.directory.path().join("seen"))
        {
            let _ = fifo.write_all(b"\n");
        }
    }
}
