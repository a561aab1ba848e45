//! Probes as somebody makes them, and servers of a few lines.

use std::io::{ErrorKind, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Weak};
use std::time::Duration;

use socket2::SockRef;

use crate::front::BINARY;

/// What a probe came to.
#[derive(Debug)]
pub(crate) struct Probed {
    pub(crate) fine: bool,
    pub(crate) text: String,
}

/// A probe that is to be made.
pub(crate) struct Probe {
    command: Command,
    password: Option<&'static str>,
}

impl Probe {
    pub(crate) fn new(url: &str) -> Self {
        let mut command = Command::new(BINARY);
        command.args(["--probe", url]);
        for name in ["NTLMFRONT_PASSWORD", "SSL_CERT_FILE", "SSL_CERT_DIR"] {
            command.env_remove(name);
        }
        Self {
            command,
            password: None,
        }
    }

    pub(crate) fn user(mut self, user: &str, password: &'static str) -> Self {
        self.command.args(["-u", user]);
        self.password = Some(password);
        self
    }

    /// As alice of the servers' domain.
    pub(crate) fn alice(self) -> Self {
        self.user("EXAMPLE\\alice", "wonderland")
    }

    pub(crate) fn behind(mut self, url: &str) -> Self {
        self.command.args(["--behind", url]);
        self
    }

    pub(crate) fn insecure(mut self) -> Self {
        self.command.arg("--insecure");
        self
    }

    /// Has the machine trust the certificates of a file.
    pub(crate) fn trusting(mut self, file: &Path) -> Self {
        self.command.env("SSL_CERT_FILE", file);
        self
    }

    pub(crate) fn run(mut self) -> Probed {
        let mut child = self
            .command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut input = child.stdin.take().expect("a pipe");
        if let Some(password) = self.password {
            writeln!(input, "{password}").expect("it reads the password");
        }
        drop(input);
        let output = child.wait_with_output().expect("it ends");
        let text = String::from_utf8(output.stdout).expect("text");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(errors, "", "{text}");
        let fine = match output.status.code() {
            Some(0) => true,
            Some(1) => false,
            other => panic!("{other:?}: {text}"),
        };
        if let Some(password) = self.password {
            assert!(!text.contains(password), "the password is shown: {text}");
        }
        assert!(!text.contains("TlRM"), "a token is shown: {text}");
        let fit = |character: char| !character.is_control() || character == '\n';
        assert!(text.chars().all(fit), "it steers the terminal: {text:?}");
        Probed { fine, text }
    }

    /// Nothing is wrong.
    #[track_caller]
    pub(crate) fn succeeds(self, said: &str) -> Probed {
        let probed = self.run();
        let text = &probed.text;
        assert!(probed.fine && text.contains("\nFine: "), "{text}");
        assert!(!text.contains("Problem"), "{text}");
        assert!(text.contains(said), "it does not say {said}: {text}");
        probed
    }

    /// These are wrong and nothing else; what to do is said about each.
    #[track_caller]
    pub(crate) fn finds(self, problems: &[&str]) -> Probed {
        let probed = self.run();
        let text = &probed.text;
        assert!(!probed.fine && !text.contains("Fine"), "{text}");
        let found: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("Problem: "))
            .collect();
        assert_eq!(found.len(), problems.len(), "{text}");
        for (found, problem) in found.iter().zip(problems) {
            assert!(found.starts_with(problem), "not {problem}: {text}");
        }
        assert_eq!(
            text.matches("\n  What to do: ").count(),
            problems.len(),
            "{text}"
        );
        probed
    }
}

/// A server whose connections each do what `serve` makes of their requests' credentials, until its value ends.
pub(crate) struct Scripted {
    pub(crate) addr: SocketAddr,
}

/// One connection's answers to its requests, by their `Authorization`. Nothing closes the connection.
pub(crate) type Answers = Box<dyn FnMut(Option<&str>) -> Option<String> + Send>;

impl Scripted {
    pub(crate) fn start(connection: impl Fn() -> Answers + Send + 'static) -> Self {
        Self::start_counting(move |_| connection())
    }

    /// The same with the number of other connections that there are when one comes.
    pub(crate) fn start_counting(connection: impl Fn(usize) -> Answers + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("an address");
        // They end with the test's process.
        std::thread::spawn(move || {
            let mut open: Vec<Weak<TcpStream>> = Vec::new();
            for stream in listener.incoming().flatten() {
                open.retain(is_open);
                let answers = connection(open.len());
                let stream = Arc::new(stream);
                open.push(Arc::downgrade(&stream));
                std::thread::spawn(move || serve(&stream, answers));
            }
        });
        Self { addr }
    }

    /// The same answer to everybody.
    pub(crate) fn saying(answer: &'static str) -> Self {
        Self::start(move || Box::new(move |_| Some(answer.to_owned())))
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.addr)
    }
}

/// Whether neither the peer has closed nor the thread that serves it.
fn is_open(stream: &Weak<TcpStream>) -> bool {
    let Some(stream) = stream.upgrade() else {
        return false;
    };
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    let mut byte = [MaybeUninit::uninit()];
    match SockRef::from(&*stream).recv_with_flags(&mut byte, flags) {
        Ok(bytes) => bytes > 0,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

fn serve(mut stream: &TcpStream, mut answers: Answers) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
    let mut ahead = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = ahead.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            let mut buffer = [0; 4096];
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(read) => ahead.extend_from_slice(&buffer[..read]),
            }
        };
        let head = String::from_utf8_lossy(&ahead[..end]).into_owned();
        ahead.drain(..end);
        let authorization = head
            .lines()
            .find_map(|line| line.strip_prefix("Authorization: "));
        let Some(answer) = answers(authorization) else {
            return;
        };
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// An answer without a body.
pub(crate) fn answer(status: u16, fields: &str) -> String {
    format!("HTTP/1.1 {status} Status\r\nContent-Length: 0\r\n{fields}\r\n")
}
