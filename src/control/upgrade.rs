//! Listening sockets that pass from process to process: to a new binary (USR2), and from systemd (socket activation).

use std::env;
use std::fmt::Write as _;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::process::{Child, Command};
use std::sync::Arc;

use nix::unistd::{Pid, getpid, getppid};

use crate::config::model::{Level, ListenAddress};
use crate::net::Bound;
use crate::observe::cause::Cause;
use crate::process::{PidFileError, notify};

use super::Control;
use super::addresses::{Address, Opener};

/// Tells a new binary what it inherits: the number of the process that starts it, and for each address a `;` and its descriptors with
/// `,` between them, and behind them marks: [`ANY_PORT`], [`OF_SYSTEMD`].
const VARIABLE: &str = "NTLMFRONT";

/// The configuration left the port to the kernel.
const ANY_PORT: char = '*';

/// systemd has opened the sockets.
const OF_SYSTEMD: char = 's';

/// The first descriptor that systemd passes (sd_listen_fds(3)).
const FIRST_OF_SYSTEMD: RawFd = 3;

/// What this process got from the one that started it.
#[derive(Default)]
pub(super) struct Inherited {
    /// The sockets.
    pub(super) addresses: Vec<Address>,
    /// What could not be taken over, for the log.
    pub(super) problems: Vec<String>,
    /// The process that has started this one to be its successor.
    pub(super) predecessor: Option<Predecessor>,
}

/// The process with the old binary.
#[derive(Clone, Copy, Debug)]
pub(super) struct Predecessor(Pid);

impl Predecessor {
    /// Its number, as long as it is there.
    pub(super) fn pid(self) -> Option<Pid> {
        // Who loses his parent gets another one.
        (getppid() == self.0).then_some(self.0)
    }
}

impl Inherited {
    /// Reads what the environment says. To be called once, before this process forks or opens anything.
    pub(super) fn from_environment() -> Self {
        let mut inherited = Self::default();
        if let Ok(text) = env::var(VARIABLE) {
            inherited.take_over(&text);
        } else if let (Ok(pid), Ok(count)) = (env::var("LISTEN_PID"), env::var("LISTEN_FDS"))
            && pid.parse() == Ok(getpid().as_raw())
        {
            let last = FIRST_OF_SYSTEMD.saturating_add(count.parse().unwrap_or(0));
            let mut all: Vec<Bound> = Vec::new();
            for descriptor in FIRST_OF_SYSTEMD..last {
                let Some(bound) = inherited.take(&[descriptor]) else {
                    continue;
                };
                // `ReusePort=`: several may have one address.
                let address = bound.address();
                let mut known = all.iter_mut();
                match known.find(|known| address.is_some() && known.address() == address) {
                    Some(known) => known.join(bound),
                    None => all.push(bound),
                }
            }
            for bound in all {
                inherited.add(bound, false, Opener::Systemd);
            }
        }
        inherited
    }

    fn take_over(&mut self, text: &str) {
        let mut parts = text.split(';');
        let starter = parts.next().and_then(|pid| pid.parse().ok());
        let Some(starter) = starter.map(|pid| Predecessor(Pid::from_raw(pid))) else {
            return;
        };
        for part in parts {
            let (numbers, marks) =
                part.split_at(part.trim_end_matches([ANY_PORT, OF_SYSTEMD]).len());
            let opener = match marks.contains(OF_SYSTEMD) {
                true => Opener::Systemd,
                false => Opener::Predecessor,
            };
            let descriptors: Result<Vec<RawFd>, _> = numbers.split(',').map(str::parse).collect();
            match descriptors {
                Ok(descriptors) => {
                    if let Some(bound) = self.take(&descriptors) {
                        self.add(bound, marks.contains(ANY_PORT), opener);
                    }
                }
                Err(_) => self.problems.push(format!(
                    "invalid socket number \"{part}\" in {VARIABLE} environment variable"
                )),
            }
        }
        // The environment passes to every process that this one's starter starts, the sockets do not. The starter may be gone.
        if starter.pid().is_some() || !self.addresses.is_empty() {
            self.predecessor = Some(starter);
        } else {
            self.problems.clear();
        }
    }

    /// Has the sockets be this process's.
    fn take(&mut self, descriptors: &[RawFd]) -> Option<Bound> {
        let taken = Bound::inherited(descriptors);
        if let Err(error) = &taken {
            let cause = Cause::from(error);
            self.problems.push(format!(
                "inherited socket {descriptors:?} is ignored ({cause})"
            ));
        }
        taken.ok()
    }

    fn add(&mut self, bound: Bound, any_port: bool, opener: Opener) {
        // Whoever opened it has it as long as nothing else is known.
        bound.share(true);
        match Address::inherited(bound, any_port, opener) {
            Some(address) => self.addresses.push(address),
            None => self
                .problems
                .push("an inherited socket has no address".to_owned()),
        }
    }
}

impl Control {
    /// Starts the new binary beside this process (nginx documentation, "Upgrading Executable on the Fly"). Both serve until one of them
    /// is told to quit.
    pub(super) fn upgrade(&mut self) {
        self.received("12 (SIGUSR2) received, changing binary");
        if self.successor.is_some() || self.old_process().is_some() {
            let message = "the changing binary signal is ignored: end either the old or the new process before";
            return self.main_log.note(Level::Notice, format_args!("{message}"));
        }
        if let Err(error) = self.move_pid_file(true) {
            return self.main_log.note(Level::Alert, format_args!("{error}"));
        }
        match start_successor(self.addresses.hand_over()) {
            Ok(child) => {
                let message = format_args!("start new binary process {}", child.id());
                self.main_log.note(Level::Notice, message);
                self.successor = Some(child);
            }
            Err(error) => {
                let cause = Cause::from(&error);
                let message =
                    format_args!("execve() failed while executing new binary process ({cause})");
                self.main_log.note(Level::Alert, message);
                self.take_pid_file_back();
            }
        }
    }

    /// Looks whether the new binary's process has ended; then this one stays. True if it has.
    pub(super) fn reap(&mut self) -> bool {
        let Some(child) = &mut self.successor else {
            return false;
        };
        let Ok(Some(status)) = child.try_wait() else {
            return false;
        };
        let message = format_args!("new binary process {} ended: {status}", child.id());
        self.main_log.note(Level::Alert, message);
        self.successor = None;
        self.take_pid_file_back();
        self.tell_manager(notify::main_process(getpid()));
        true
    }

    fn take_pid_file_back(&mut self) {
        if let Err(error) = self.move_pid_file(false) {
            self.main_log.note(Level::Alert, format_args!("{error}"));
        }
    }

    /// Moves the pid file out of the way of the new process's (`.oldbin`), or back.
    fn move_pid_file(&mut self, away: bool) -> Result<(), PidFileError> {
        let mut path = self.deployment.config.main.pid.clone().into_os_string();
        if away {
            path.push(".oldbin");
        }
        match &mut self.pid_file {
            Some(file) => file.rename(path.as_ref()),
            None => Ok(()),
        }
    }

    /// The process with the old binary, while it runs beside this one.
    pub(super) fn old_process(&self) -> Option<Pid> {
        self.predecessor.and_then(Predecessor::pid)
    }

    /// Notes at which addresses somebody else listens, too, before some are closed here. Returns the others.
    pub(super) fn share_addresses(&mut self) -> Vec<(u64, Arc<Bound>)> {
        self.reap();
        let old = self.old_process().is_some();
        self.addresses.share(old, self.successor.is_some())
    }
}

/// Starts the binary that is now where this process was started from, with the same arguments, and hands it the sockets.
///
/// # Errors
/// There is none, or no process or descriptor can be had.
fn start_successor<'a>(addresses: impl Iterator<Item = &'a Address>) -> io::Result<Child> {
    let mut text = getpid().to_string();
    // Open until it is started.
    let mut inherited: Vec<OwnedFd> = Vec::new();
    for address in addresses {
        let descriptors = address.bound.to_inherit()?;
        let numbers: Vec<String> = descriptors
            .iter()
            .map(|descriptor| descriptor.as_raw_fd().to_string())
            .collect();
        // Writing to a string does not fail.
        let _ = write!(text, ";{}", numbers.join(","));
        if matches!(address.name, ListenAddress::Inet(address) if address.port() == 0) {
            text.push(ANY_PORT);
        }
        if address.opener == Opener::Systemd {
            text.push(OF_SYSTEMD);
        }
        inherited.extend(descriptors);
    }
    let mut arguments = env::args_os();
    let binary = arguments.next().ok_or(io::ErrorKind::NotFound)?;
    Command::new(binary)
        .args(arguments)
        .env(VARIABLE, text)
        // The service manager's watchdog watches over whichever process serves.
        .env_remove("WATCHDOG_PID")
        // The number may be that of any process some day.
        .env_remove("LISTEN_PID")
        .spawn()
}
