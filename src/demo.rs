//! `--demo`: a server that does real NTLM, the front before it, the lines to try, and what the front saw, live.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use ntlm_origin::{LoginPaths, Origin, OriginOptions};

use crate::config::model::LogTarget;
use crate::config::{self, ReadFiles, System};
use crate::control::{self, Source};
use crate::process::Io;

/// Where the demo listens if nobody else does.
const PORT: u16 = 8080;

/// Runs the demo until a signal ends it.
///
/// # Errors
/// What kept it from starting, as a line.
pub fn run(io: Io) -> Result<(), Box<dyn std::error::Error>> {
    let options = OriginOptions {
        login: LoginPaths::Everything,
        ..OriginOptions::default()
    };
    let alice = options.users[0].clone();
    let first = Origin::start(OriginOptions {
        name: "MAIL1".into(),
        ..options.clone()
    })?;
    let second = Origin::start(OriginOptions {
        name: "MAIL2".into(),
        ..options
    })?;
    let front = free_address()?;
    let text = configuration(front, [first.addr(), second.addr()]);
    let file = PathBuf::from("demo.conf");
    let options = config::Options {
        prefix: PathBuf::from("/"),
        file: file.clone(),
        globals: None,
        error_log: LogTarget::Stderr,
    };
    let config = config::load(&options, &InMemory(text.clone()), &System)?;
    let login = format!("{}\\{}:{}", alice.domain, alice.name, alice.password);
    println!("{text}");
    println!(
        "Two servers that ask for NTLM or Negotiate run at {} and {}, and ntlmfront before them.",
        first.addr(),
        second.addr()
    );
    println!("Try, in another terminal:\n");
    println!("  curl --ntlm -u '{login}' http://{front}/ http://{front}/whoami");
    println!("  curl --ntlm -u '{login}' http://{front}/bytes/100000000 -o /dev/null");
    println!(
        "  curl --ntlm -u '{}\\{}:wrong' http://{front}/",
        alice.domain, alice.name
    );
    println!("  curl -i http://{front}/");
    println!("  curl http://{front}/front_status\n");
    println!("What the front sees (Ctrl-C ends it):\n");
    Ok(control::serve(config, Source::CommandLine, io)?)
}

/// The configuration of the demo, as somebody would write it.
fn configuration(front: SocketAddr, servers: [SocketAddr; 2]) -> String {
    let [first, second] = servers;
    format!(
        r#"daemon off;
error_log stderr warn;
worker_processes auto;
events {{}}
http {{
    log_format seen '$remote_addr:$remote_port "$request" $status by $upstream_addr, '
                    'scheme $auth_scheme, pin $pin_id $pin_state, request $pin_requests on it';
    access_log /dev/stdout seen;
    upstream mail {{
        server {first};
        server {second};
        ntlm;
    }}
    server {{
        listen {front};
        location / {{
            proxy_pass http://mail;
            proxy_set_header Host $host;
        }}
        location = /front_status {{
            stub_status;
        }}
    }}
}}
"#
    )
}

/// The well-known port, or any that is free.
fn free_address() -> io::Result<SocketAddr> {
    let probe =
        TcpListener::bind(("127.0.0.1", PORT)).or_else(|_| TcpListener::bind(("127.0.0.1", 0)))?;
    probe.local_addr()
}

/// One configuration file that exists in memory only.
struct InMemory(String);

impl ReadFiles for InMemory {
    fn read(&self, _path: &Path) -> io::Result<Vec<u8>> {
        Ok(self.0.clone().into_bytes())
    }

    fn glob(&self, _pattern: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }
}
