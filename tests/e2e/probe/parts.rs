//! What stands between the probe and the server: nginx, and servers of a few lines.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::front::{BINARY, eventually};
use crate::tls::pki::address;

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

/// A running nginx, ended with its value.
pub(crate) struct Nginx {
    child: Child,
    directory: tempfile::TempDir,
    pub(crate) addr: SocketAddr,
}

impl Nginx {
    /// `http` is the content of the `http` block, with ADDR for where to listen.
    pub(crate) fn start(http: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().display();
        let addr = address();
        let text = format!(
            "daemon off; master_process off; worker_processes 1; pid {path}/pid; error_log {path}/error.log;
             events {{ worker_connections 256; }}
             http {{
                 access_log off;
                 client_body_temp_path {path}/b; proxy_temp_path {path}/p; fastcgi_temp_path {path}/f;
                 uwsgi_temp_path {path}/u; scgi_temp_path {path}/s;
                 {}
             }}",
            http.replace("ADDR", &addr.to_string())
        );
        let file = directory.path().join("nginx.conf");
        std::fs::write(&file, text).expect("a file");
        let child = Command::new("/usr/sbin/nginx")
            .arg("-e")
            .arg(directory.path().join("error.log"))
            .arg("-p")
            .arg(directory.path())
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx, which tools/test installs");
        let mut nginx = Self {
            child,
            directory,
            addr,
        };
        eventually("nginx listens", || {
            if nginx.child.try_wait().expect("a child").is_some() {
                panic!("nginx ended: {}", nginx.log());
            }
            TcpStream::connect(addr).ok()
        });
        nginx
    }

    /// Before a server, with more in its location.
    pub(crate) fn before(servers: &[SocketAddr], group: &str, location: &str) -> Self {
        let servers: String = servers
            .iter()
            .map(|server| format!("server {server}; "))
            .collect();
        Self::start(&format!(
            "upstream mail {{ {servers} {group} }}
             server {{ listen ADDR; location / {{
                 proxy_pass http://mail; proxy_http_version 1.1; proxy_set_header Connection \"\"; {location}
             }} }}"
        ))
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    fn log(&self) -> String {
        let path: PathBuf = self.directory.path().join("error.log");
        std::fs::read_to_string(path).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- error log of nginx\n{}", self.log());
        }
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
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("an address");
        // They end with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answers = connection();
                std::thread::spawn(move || serve(stream, answers));
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

fn serve(mut stream: TcpStream, mut answers: Answers) {
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
