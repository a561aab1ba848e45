//! Debian's HAProxy before the front.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use crate::front::{PATIENCE, eventually};

/// A running HAProxy, ended with its value.
pub(crate) struct HaProxy {
    process: Child,
    home: tempfile::TempDir,
}

impl HaProxy {
    /// Starts one whose address `fd@3` is the listener, and waits until it runs. `SOCKET` in the configuration becomes the path of the
    /// socket that [`Self::tell`] speaks to; the `global` section has to open it (`stats socket SOCKET level admin`).
    pub(crate) fn start(configuration: &str, listener: TcpListener) -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        let socket = home.path().join("socket");
        let text = configuration.replace("SOCKET", &socket.display().to_string());
        let (file, log) = (home.path().join("haproxy.cfg"), home.path().join("log"));
        std::fs::write(&file, text).expect("the configuration");
        let process = Command::new("sh")
            .args(["-c", "exec 3<&0 </dev/null; exec \"$0\" \"$@\""])
            // One process, in front.
            .args(["/usr/sbin/haproxy", "-db", "-f"])
            .arg(&file)
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).expect("a log"))
            .spawn()
            .expect("it is there: tools/test installs it");
        let mut started = Self { process, home };
        eventually("HAProxy runs", || {
            let ended = started.process.try_wait().expect("a child");
            assert!(ended.is_none(), "HAProxy ended: {}", started.log());
            UnixStream::connect(&socket).is_ok().then_some(())
        });
        started
    }

    /// Carries out a command of its runtime API, and says what came of it.
    pub(crate) fn tell(&self, command: &str) -> String {
        let socket = UnixStream::connect(self.home.path().join("socket"));
        let mut socket = socket.expect("the socket of its runtime API");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        writeln!(socket, "{command}").expect("it listens");
        socket.shutdown(Shutdown::Write).expect("a socket");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("an answer");
        answer.trim().to_owned()
    }

    /// A column of `show stat`.
    pub(crate) fn stat(&self, proxy: &str, server: &str, column: &str) -> String {
        let table = self.tell("show stat");
        let mut lines = table.trim_start_matches("# ").lines();
        let names = lines.next().unwrap_or_default().split(',');
        let nth = { names }.position(|name| name == column);
        let nth = nth.unwrap_or_else(|| panic!("no column {column}: {table}"));
        let line = lines.find(|line| line.starts_with(&format!("{proxy},{server},")));
        let line = line.unwrap_or_else(|| panic!("no {proxy}/{server}: {table}"));
        line.split(',').nth(nth).unwrap_or_default().to_owned()
    }

    /// What it wrote to its standard error.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- HAProxy\n{}", self.log());
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
