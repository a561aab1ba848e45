//! What the service manager that started the process is told (`sd_notify(3)`); nothing where there is none, or a daemon's
//! starter is waited for instead. Each message is one datagram to the socket that `NOTIFY_SOCKET` names.
#![forbid(unsafe_code)]

use std::io;
use std::time::Duration;

use nix::unistd::{Pid, getpid};
use sd_notify::NotifyState;

/// The process serves for the first time, and is the service from now on, although another one with an older binary may be.
/// `status` is one line for people (`systemctl status`).
///
/// # Errors
/// Here and below: those of `sendmsg(2)`.
pub fn started(status: &str) -> io::Result<()> {
    let status = line(status);
    sd_notify::notify(&[
        NotifyState::Ready,
        NotifyState::Status(&status),
        main_pid(getpid()),
    ])
}

/// The process serves, as it did before a reload, with a new configuration or the old one.
pub fn ready(status: &str) -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(&line(status))])
}

/// Which process the service is, of an old and a new binary, where it is no longer the one that has [`started`].
pub fn main_process(pid: Pid) -> io::Result<()> {
    sd_notify::notify(&[main_pid(pid)])
}

fn main_pid(pid: Pid) -> NotifyState<'static> {
    NotifyState::MainPid(pid.as_raw().cast_unsigned())
}

/// A line end within a status would begin another assignment.
fn line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// A reload begins; [`ready`] says when it is over, in whatever way.
pub fn reloading() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Reloading, NotifyState::monotonic_usec_now()?])
}

/// The process will end, and may take so much time for it where somebody has said how much. Without, the service manager's own
/// limit holds.
pub fn stopping(patience: Option<Duration>) -> io::Result<()> {
    // The crate's own takes no more than 71 minutes.
    let extension =
        patience.map(|patience| format!("EXTEND_TIMEOUT_USEC={}", patience.as_micros()));
    let extension = extension.as_deref().map(NotifyState::Custom);
    let states: Vec<_> = [NotifyState::Stopping]
        .into_iter()
        .chain(extension)
        .collect();
    sd_notify::notify(&states)
}

/// The process is well.
pub fn watchdog() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Watchdog])
}

/// How long the service manager stands to hear nothing of [`watchdog`]; `None`: for ever.
pub fn watchdog_limit() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero())
}
