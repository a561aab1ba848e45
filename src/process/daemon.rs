//! Going into the background (`daemon on`).

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::process::exit;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, fork, pipe2, setsid};

use crate::observe::cause::Cause;

/// Goes on in a child process without terminal, whose standard input and output lead nowhere. Standard error stays for
/// what goes wrong at start; see [`redirect_stderr`].
///
/// The parent never returns from here: it waits for the child and exits with 0 when the child calls [`Ready::announce`], with
/// 1 when [`Ready`] is dropped or the child ends before.
///
/// To be called before any other thread is started, and refused otherwise.
pub fn daemonize() -> Result<Ready, DaemonError> {
    // The kernel's own count: a listing of /proc/self/task can miss some while others end.
    let status = fs::read_to_string("/proc/self/status")
        .map_err(|error| failed("open() \"/proc/self/status\"", &error))?;
    if !status.lines().any(|line| line == "Threads:\t1") {
        return Err(DaemonError::Threads);
    }
    let (reader, writer) =
        pipe2(OFlag::O_CLOEXEC).map_err(|errno| failed("pipe2()", &errno.into()))?;
    match fork_single().map_err(|errno| failed("fork()", &errno.into()))? {
        ForkResult::Parent { .. } => {
            drop(writer);
            let mut word = [0];
            // An end without a word, or an error, is a child that did not get ready, and has said why.
            let ready = fs::File::from(reader).read_exact(&mut word).is_ok();
            exit(if ready { 0 } else { 1 });
        }
        ForkResult::Child => {
            drop(reader);
            setsid().map_err(|errno| failed("setsid()", &errno.into()))?;
            let nowhere = OpenOptions::new()
                .read(true)
                .write(true)
                .open("/dev/null")
                .map_err(|error| failed("open() \"/dev/null\"", &error))?;
            dup2_stdin(&nowhere)
                .and_then(|()| dup2_stdout(&nowhere))
                .map_err(|errno| failed("dup2()", &errno.into()))?;
            Ok(Ready(Some(writer.into())))
        }
    }
}

/// Makes everything that is written to standard error (a panic's message) end in a log, so that no terminal or pipe of
/// whoever started the daemon stays open. To be called again when the log is reopened.
pub fn redirect_stderr(log: impl AsFd) -> Result<(), Errno> {
    dup2_stderr(log)
}

/// Someone may be waiting for this process to get ready.
#[derive(Debug)]
#[must_use = "dropped, it tells the parent that the start failed"]
pub struct Ready(Option<fs::File>);

impl Ready {
    /// For a process that stays in front: nobody waits.
    pub fn in_front() -> Self {
        Self(None)
    }

    /// Lets the waiting parent exit with 0. To be called when every listener accepts.
    pub fn announce(self) {
        if let Some(mut pipe) = self.0 {
            // Fails only if the parent was killed, and then nobody waits.
            let _ = pipe.write_all(&[1]);
        }
    }
}

/// Why the process cannot go into the background.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DaemonError {
    /// Other threads run already: a mistake of ours.
    Threads,
    /// The system did not allow it.
    System {
        /// What failed.
        call: &'static str,
        /// Why.
        cause: Cause,
    },
}

impl fmt::Display for DaemonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Threads => f.write_str("fork() refused: other threads are running"),
            Self::System { call, cause } => write!(f, "{call} failed ({cause})"),
        }
    }
}

impl std::error::Error for DaemonError {}

fn failed(call: &'static str, error: &io::Error) -> DaemonError {
    DaemonError::System {
        call,
        cause: error.into(),
    }
}

/// Forks. [`daemonize`] has seen that there is one thread.
#[allow(unsafe_code)]
fn fork_single() -> Result<ForkResult, Errno> {
    // SAFETY: the child of a fork may do what the parent could do only if no other thread can have held a lock (of the
    // allocator, of standard error) at that moment. The caller has counted the threads: there is none but this one, and so
    // none that could start another in between.
    unsafe { fork() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_fork_beside_other_threads() {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || stopped.recv());
        assert_eq!(daemonize().unwrap_err(), DaemonError::Threads);
        drop(stop);
        assert!(other.join().unwrap().is_err());
    }

    #[test]
    fn nobody_waits_for_a_process_in_front() {
        Ready::in_front().announce();
    }
}
