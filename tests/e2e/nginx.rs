//! A real nginx on a port of its own.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::front::eventually;
use crate::prefix::{Prefix, free_address, run};

/// A running nginx, one process, ended with its value.
pub(crate) struct Nginx {
    child: Child,
    directory: tempfile::TempDir,
    pub(crate) addr: SocketAddr,
}

impl Nginx {
    /// `http` is the content of the `http` block, with ADDR for where to listen. Logs nothing but errors unless it says so.
    pub(crate) fn start(http: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(directory.path().join("logs")).expect("the log directory");
        let path = directory.path().display();
        let addr = free_address();
        let access_log = match http.contains("access_log") {
            true => "",
            false => "access_log off;",
        };
        let text = format!(
            "daemon off; master_process off; worker_processes 1; pid {path}/pid; error_log {path}/logs/error.log info;
             events {{ worker_connections 256; }}
             http {{
                 {access_log}
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
            .arg(directory.path().join("logs/error.log"))
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

    /// Its directory: `logs/`.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        kill(Pid::from_raw(pid), signal).expect("the process is there");
    }

    fn log(&self) -> String {
        let path = self.directory.path().join("logs/error.log");
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

/// Each of these, behind `before` in the `http` block, is a mistake to both, and in the same words.
#[track_caller]
pub(crate) fn assert_same_mistakes(before: &str, mistakes: &[&str]) {
    let mut different = Vec::new();
    for text in mistakes {
        let prefix = Prefix::new();
        let text = format!("pid logs/pid; events {{}}\nhttp {{\n{before}{text}\n}}");
        prefix.write("front.conf", &text);
        let ours = prefix.run(&["-t"]);
        let mut nginx = Command::new("/usr/sbin/nginx");
        nginx.arg("-p").arg(prefix.path());
        nginx.args(["-t", "-c", "front.conf", "-e", "logs/nginx.log"]);
        let theirs = run(nginx);
        assert_eq!((ours.code, theirs.code), (Some(1), Some(1)), "{text}");
        let words = [&ours, &theirs].map(|ran| {
            let (_, words) = ran.stderr.split_once("[emerg] ").expect("an error");
            words.lines().next().unwrap_or_default().to_owned()
        });
        if words[0] != words[1] {
            different.push(words);
        }
    }
    assert!(different.is_empty(), "{different:#?}");
}
