//! A real nginx on a port of its own.

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use crate::front::eventually;
use crate::tls::pki::address;

/// A running nginx, one process, ended with its value.
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
        let path = self.directory.path().join("error.log");
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
