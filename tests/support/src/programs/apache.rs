//! Apache with mod_auth_gssapi and gss-ntlmssp: a server that somebody else wrote.

use std::fs::Permissions;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{TempDir, user_file};
use crate::ntlm::User;

/// A running Apache; dropping it ends it.
///
/// `/private/whoami` asks for a login, bound to the connection; `/whoami` does not. As the origin does, it answers with
/// `X-Identity`, and with an `X-Connection` that is the peer's port. Its NTLM wants Unicode from a client's first
/// message on, which `curl --ntlm` does not offer.
#[derive(Debug)]
pub struct Apache {
    process: Child,
    addr: SocketAddr,
    _home: TempDir,
}

impl Apache {
    /// Starts one on a free port and waits until it answers.
    pub fn start(users: &[User]) -> io::Result<Self> {
        let home = TempDir::new()?;
        let users = home.write("users", &user_file(users))?;
        for folder in ["www", "www/private"] {
            std::fs::create_dir(home.path().join(folder))?;
            home.write(&format!("{folder}/whoami"), "see X-Identity\n")?;
        }
        // Apache gives root's rights away and must still be able to read all of this.
        std::fs::set_permissions(home.path(), Permissions::from_mode(0o755))?;
        // Another process may take the port between the two: hence the loop.
        for _ in 0..5 {
            let addr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
            let configuration = home.write("apache.conf", &configuration(home.path(), addr))?;
            let mut process = Command::new("/usr/sbin/apache2")
                .arg("-X") // one process, in front
                .arg("-f")
                .arg(configuration)
                .env("NTLM_USER_FILE", &users)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
            if serves(&mut process, addr)? {
                return Ok(Self {
                    process,
                    addr,
                    _home: home,
                });
            }
        }
        let log = std::fs::read_to_string(home.path().join("error.log")).unwrap_or_default();
        Err(io::Error::other(format!("Apache does not start: {log}")))
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Apache {
    fn drop(&mut self) {
        // It is the only process of its kind (-X), so nothing outlives this; errors mean that it ended before.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits for the server's first answer. False if it ended instead.
///
/// Accepting is no sign yet: Apache reads its configuration twice, and opens its listener anew the second time.
fn serves(process: &mut Child, addr: SocketAddr) -> io::Result<bool> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while process.try_wait()?.is_none() {
        if answers(addr).unwrap_or(false) {
            return Ok(true);
        }
        if Instant::now() > deadline {
            process.kill()?;
            process.wait()?;
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "Apache runs and does not answer",
            ));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(false)
}

fn answers(addr: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /whoami HTTP/1.0\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer.starts_with(b"HTTP/1.1 200 "))
}

fn configuration(home: &Path, addr: SocketAddr) -> String {
    let home = home.display();
    let modules: String = [
        "mpm_event",
        "authn_core",
        "authz_core",
        "authz_user",
        "headers",
        "auth_gssapi",
    ]
    .iter()
    .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
    .collect();
    format!(
        "{modules}
ServerRoot {home}
DefaultRuntimeDir {home}
PidFile {home}/pid
ErrorLog {home}/error.log
ServerName localhost
Listen {addr}
User www-data
Group www-data
ThreadsPerChild 64
MaxRequestWorkers 64
ServerLimit 1
KeepAlive On
MaxKeepAliveRequests 0
KeepAliveTimeout 60
DocumentRoot {home}/www
<Location /private>
    AuthType GSSAPI
    AuthName ntlm
    GssapiAllowedMech ntlmssp
    GssapiConnectionBound On
    Require valid-user
</Location>
Header always set X-Identity expr=%{{REMOTE_USER}} \"expr=-n %{{REMOTE_USER}}\"
Header always set X-Connection expr=%{{REMOTE_PORT}}
"
    )
}
