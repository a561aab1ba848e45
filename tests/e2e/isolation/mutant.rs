//! The check can fail: a front without pins, whose upstream connections serve everybody in turn, is found out.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use ntlm_origin::Origin;

use super::{faithful, until};
use crate::crowd::books::{Holding, Violation};
use crate::crowd::clients::{World, carry_out};
use crate::crowd::{SERVERS, origins};
use crate::front::eventually;

const GROUPS: usize = 2;

#[tokio::test]
async fn a_front_that_shares_connections_is_found_out() {
    let origins = origins(GROUPS);
    let front = Sharing::start(&origins);
    let world = World::new(front.addr, GROUPS, Holding::Always);
    carry_out(
        &world,
        super::seed(),
        faithful(40, GROUPS),
        until(3_000),
        async |_| {},
    )
    .await;
    let findings = world.findings.borrow();
    for violation in [
        Violation::WrongIdentity,
        Violation::LoginLost,
        Violation::HandshakeCut,
    ] {
        let count = findings.count(violation);
        assert!(
            count > 20,
            "{violation:?}: {count}\n{}",
            findings.violations()
        );
    }
}

/// A running proxy that keeps upstream connections for whoever comes next.
struct Sharing {
    process: Child,
    addr: SocketAddr,
    _home: tempfile::TempDir,
}

impl Sharing {
    fn start(origins: &[Origin]) -> Self {
        // Another process may take the port between looking and binding: hence the attempts.
        (0..5)
            .find_map(|_| Self::attempt(origins))
            .expect("the other front starts")
    }

    fn attempt(origins: &[Origin]) -> Option<Self> {
        let home = tempfile::tempdir().expect("a temporary directory");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let addr = listener.local_addr().expect("its address");
        drop(listener);
        let file = home.path().join("front.conf");
        std::fs::write(&file, configuration(origins, addr)).expect("the configuration");
        let mut process = Command::new("/usr/sbin/nginx")
            .arg("-p")
            .arg(home.path())
            .arg("-c")
            .arg(&file)
            .arg("-e")
            .arg(home.path().join("error.log"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it is there: tools/test installs it");
        let serves = eventually("the other front serves or ends", || {
            if process.try_wait().expect("a child").is_some() {
                return Some(false);
            }
            answers(addr).then_some(true)
        });
        serves.then_some(Self {
            process,
            addr,
            _home: home,
        })
    }
}

impl Drop for Sharing {
    fn drop(&mut self) {
        // One process (`master_process off`), so nothing outlives this; errors mean that it ended before.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn answers(addr: SocketAddr) -> bool {
    let answer = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(addr)?;
        stream.write_all(b"GET /ready HTTP/1.0\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    };
    answer().is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 204"))
}

fn configuration(origins: &[Origin], addr: SocketAddr) -> String {
    let (mut upstreams, mut locations) = (String::new(), String::new());
    for (n, servers) in origins.chunks(SERVERS).enumerate() {
        let servers: String = servers
            .iter()
            .map(|origin| format!("server {}; ", origin.addr()))
            .collect();
        upstreams += &format!("upstream group{n} {{ {servers} keepalive 8; }}\n");
        locations += &format!("location /{n}/ {{ proxy_pass http://group{n}/; }}\n");
    }
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("{name}_temp_path {name};\n"))
        .collect();
    format!(
        "daemon off;
         master_process off;
         pid front.pid;
         events {{ worker_connections 1024; }}
         http {{
             access_log off;
             {temporary}
             keepalive_requests 1000000;
             proxy_http_version 1.1;
             proxy_set_header Connection \"\";
             {upstreams}
             server {{
                 listen {addr};
                 location = /ready {{ return 204; }}
                 {locations}
             }}
         }}"
    )
}
