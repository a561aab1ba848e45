//! Listening sockets that pass from process to process: to a new binary (USR2), and from systemd (socket activation).

use std::env;
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::process::{Child, Command};

use nix::unistd::{Pid, getpid, getppid};

use crate::config::model::{Level, ListenAddress};
use crate::net::Bound;
use crate::observe::cause::Cause;
use crate::process::{PidFileError, notify};

use super::Control;

/// Tells a new binary what it inherits: the number of the process that starts it, and for each address a `;` and its descriptors with
/// `,` between them; a `*` behind them says that the configuration left the port to the kernel.
const VARIABLE: &str = "NTLMFRONT";

/// The first descriptor that systemd passes (sd_listen_fds(3)).
const FIRST_OF_SYSTEMD: RawFd = 3;

/// What this process got from the one that started it.
#[derive(Default)]
pub(super) struct Inherited {
    /// The sockets, by the address as a configuration names it.
    pub(super) sockets: Vec<(ListenAddress, Bound)>,
    /// What could not be taken over, for the log.
    pub(super) problems: Vec<String>,
    /// Who else has them.
    pub(super) owner: Owner,
}

/// Who has the listening sockets of this process, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Owner {
    /// Nobody.
    #[default]
    Nobody,
    /// The process with the old binary, until it ends.
    Predecessor(Pid),
    /// systemd, which keeps them for the next start.
    Systemd,
}

impl Owner {
    /// Whether it is there still.
    pub(super) fn is_there(self) -> bool {
        match self {
            Self::Nobody => false,
            // Who loses his parent gets another one.
            Self::Predecessor(pid) => getppid() == pid,
            Self::Systemd => true,
        }
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
            inherited.owner = Owner::Systemd;
            let last = FIRST_OF_SYSTEMD.saturating_add(count.parse().unwrap_or(0));
            for descriptor in FIRST_OF_SYSTEMD..last {
                inherited.add(&[descriptor], false);
            }
        }
        inherited
    }

    fn take_over(&mut self, text: &str) {
        let mut parts = text.split(';');
        let owner = parts.next().and_then(|pid| pid.parse().ok());
        // The environment passes to every process that this one's starter starts.
        let Some(owner) = owner.map(Pid::from_raw).filter(|pid| *pid == getppid()) else {
            return;
        };
        self.owner = Owner::Predecessor(owner);
        for part in parts {
            let numbers = part.trim_end_matches('*');
            let descriptors: Result<Vec<RawFd>, _> = numbers.split(',').map(str::parse).collect();
            match descriptors {
                Ok(descriptors) => self.add(&descriptors, numbers != part),
                Err(_) => self.problems.push(format!(
                    "invalid socket number \"{part}\" in {VARIABLE} environment variable"
                )),
            }
        }
    }

    fn add(&mut self, descriptors: &[RawFd], any_port: bool) {
        match Bound::inherited(descriptors) {
            Ok(bound) => match named(&bound, any_port) {
                Some(address) => {
                    bound.share(true);
                    self.sockets.push((address, bound));
                }
                None => self
                    .problems
                    .push("an inherited socket has no address".to_owned()),
            },
            Err(error) => {
                let cause = Cause::from(&error);
                self.problems.push(format!(
                    "inherited socket {descriptors:?} is ignored ({cause})"
                ));
            }
        }
    }

    /// Whether a process with an old binary has started this one.
    pub(super) fn is_of_predecessor(&self) -> bool {
        matches!(self.owner, Owner::Predecessor(_))
    }
}

/// The address as a configuration names it.
fn named(bound: &Bound, any_port: bool) -> Option<ListenAddress> {
    if let Some(path) = bound.path() {
        return Some(ListenAddress::Unix(path.to_owned()));
    }
    let address = bound.address()?;
    let port = if any_port { 0 } else { address.port() };
    Some(ListenAddress::Inet(SocketAddr::new(address.ip(), port)))
}

impl Control {
    /// Starts the new binary beside this process (nginx documentation, "Upgrading Executable on the Fly"). Both serve until one of them
    /// is told to quit.
    pub(super) fn upgrade(&mut self) {
        self.received("12 (SIGUSR2) received, changing binary");
        if self.successor.is_some()
            || matches!(self.owner, Owner::Predecessor(_)) && self.owner.is_there()
        {
            let message = "the changing binary signal is ignored: end either the old or the new process before";
            return self.main_log.note(Level::Notice, format_args!("{message}"));
        }
        if let Err(error) = self.move_pid_file(true) {
            return self.main_log.note(Level::Alert, format_args!("{error}"));
        }
        match start_successor(self.addresses.iter()) {
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

    /// Notes whether another process listens at the same addresses, before some are closed here.
    pub(super) fn share_addresses(&mut self) -> bool {
        self.reap();
        let shared = self.successor.is_some() || self.owner.is_there();
        for (_, bound) in self.addresses.iter() {
            bound.share(shared);
        }
        shared
    }
}

/// Starts the binary that is now where this process was started from, with the same arguments, and hands it the sockets.
///
/// # Errors
/// There is none, or no process or descriptor can be had.
fn start_successor<'a>(
    addresses: impl Iterator<Item = (&'a ListenAddress, &'a Bound)>,
) -> io::Result<Child> {
    let mut text = getpid().to_string();
    // Open until it is started.
    let mut inherited: Vec<OwnedFd> = Vec::new();
    for (address, bound) in addresses {
        let descriptors = bound.to_inherit()?;
        let numbers: Vec<String> = descriptors
            .iter()
            .map(|descriptor| descriptor.as_raw_fd().to_string())
            .collect();
        let any_port = matches!(address, ListenAddress::Inet(address) if address.port() == 0);
        let mark = if any_port { "*" } else { "" };
        // Writing to a string does not fail.
        let _ = write!(text, ";{}{mark}", numbers.join(","));
        inherited.extend(descriptors);
    }
    let mut arguments = env::args_os();
    let binary = arguments.next().ok_or(io::ErrorKind::NotFound)?;
    Command::new(binary)
        .args(arguments)
        .env(VARIABLE, text)
        // The service manager's watchdog watches over whichever process serves.
        .env_remove("WATCHDOG_PID")
        .spawn()
}
