//! The process among others: its pid file and signals, the daemon, its user, limits and cores, its service manager.
//!
//! The order at start matters: [`daemonize`] before any thread, [`PidFile::create`] and ports below 1024 before
//! [`Identity::assume`], [`check_ring`] after it, because the kernel may allow io_uring to root alone.

mod cores;
mod daemon;
mod io;
mod limits;
pub mod notify;
mod pid;
mod ring;
mod user;

pub use cores::{allowed_cores, core_count, pin_to_core};
pub use daemon::{DaemonError, Ready, daemonize, redirect_stderr};
pub use io::Io;
pub use limits::{NofileError, raise_nofile};
pub use pid::{Control, PidFile, PidFileError, SignalError, send_signal};
pub use ring::{RingRefusal, check_ring};
pub use user::{Identity, IdentityError};
