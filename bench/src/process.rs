//! Child processes: started on their cores, and ended whatever happens.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// How long a server may take until it accepts connections.
const START_PATIENCE: Duration = Duration::from_secs(10);
/// How long a server may take to end after TERM.
const END_PATIENCE: Duration = Duration::from_millis(1500);
const GLANCE: Duration = Duration::from_millis(3);
/// Of a server's own words, this much is shown when it fails.
const LAST_WORDS_BYTES: usize = 1500;

/// A running server and its directory. Dropping it ends the processes and removes the directory.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    name: String,
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    dir: TempDir,
}

impl Server {
    /// Starts a program on these cores and waits until it accepts connections on `addr`.
    pub(crate) fn start(
        name: &str,
        dir: TempDir,
        cores: &[usize],
        addr: SocketAddr,
        program: &Path,
        arguments: &[String],
    ) -> io::Result<Self> {
        let output = File::create(dir.path().join("output.log"))?;
        let cores: Vec<String> = cores.iter().map(usize::to_string).collect();
        let child = Command::new(std::env::current_exe()?)
            .args(["launch", "--cores", &cores.join(","), "--"])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // Not the terminal's group: Ctrl-C is for the bench, which then ends its servers in order.
            .process_group(0)
            .spawn()?;
        let mut server = Self {
            child,
            name: name.to_owned(),
            addr,
            dir,
        };
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            if let Some(status) = server.child.try_wait()? {
                return Err(server.failure(&format!("did not start ({status})")));
            }
            match TcpStream::connect(addr) {
                Ok(_) => return Ok(server),
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error),
            }
            if Instant::now() > deadline {
                return Err(server.failure("did not listen in time"));
            }
            thread::sleep(GLANCE);
        }
    }

    /// Its process and all that came from it.
    pub(crate) fn processes(&self) -> Vec<Pid> {
        let mut family = vec![Pid::from_raw(self.child.id().cast_signed())];
        let parents = parents();
        let mut next = 0;
        while next < family.len() {
            let parent = family[next];
            family.extend(
                parents
                    .iter()
                    .filter(|&&(_, other)| other == parent)
                    .map(|&(child, _)| child),
            );
            next += 1;
        }
        family
    }

    /// An error that quotes what the server said last.
    pub(crate) fn failure(&self, what: &str) -> io::Error {
        let mut text = format!("{} {what}", self.name);
        for log in ["output.log", "error.log"] {
            let path: PathBuf = self.dir.path().join(log);
            let said = fs::read(path).unwrap_or_default();
            let said =
                String::from_utf8_lossy(&said[said.len().saturating_sub(LAST_WORDS_BYTES)..])
                    .trim()
                    .to_owned();
            if !said.is_empty() {
                text += &format!("\n{log}: {said}");
            }
        }
        io::Error::other(text)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let family = self.processes();
        // Errors mean that a process is gone already, which is what is wanted.
        let _ = kill(family[0], Signal::SIGTERM);
        let deadline = Instant::now() + END_PATIENCE;
        while !matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) && Instant::now() < deadline {
            thread::sleep(GLANCE);
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        for &process in &family[1..] {
            if parents().iter().any(|&(other, _)| other == process) {
                let _ = kill(process, Signal::SIGKILL);
            }
        }
    }
}

/// Every process and its parent.
fn parents() -> Vec<(Pid, Pid)> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| {
            let process: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
            Some((Pid::from_raw(process), Pid::from_raw(parent(&stat)?)))
        })
        .collect()
}

/// The parent in a line of `/proc/PID/stat`. The name before it stands in brackets and may hold anything.
fn parent(stat: &str) -> Option<i32> {
    let (_, behind_name) = stat.rsplit_once(") ")?;
    behind_name.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_hide_the_parent() {
        assert_eq!(parent("12 (a) S 7 12 12 0"), Some(7));
        assert_eq!(parent("12 (a) S 9 (x) R 7 1"), Some(7));
        assert_eq!(parent("12"), None);
        let own = nix::unistd::getpid();
        assert!(parents().contains(&(own, nix::unistd::getppid())));
    }
}
