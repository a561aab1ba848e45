//! Networks without a name: they, and what is in them, are gone with the last thread or process that is in them.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::process::{Command, Stdio};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

/// A network of its own (network_namespaces(7)).
pub(crate) struct Network(File);

impl Network {
    /// One without any device that is up.
    ///
    /// # Errors
    /// This process may make none, or the kernel knows none.
    pub(crate) fn new() -> io::Result<Self> {
        let made = || {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net").map(Self)
        };
        thread::scope(|scope| scope.spawn(made).join().expect("no panic"))
    }

    /// Does something in it, on a thread of its own; threads and processes that are started there stay in it.
    pub(crate) fn within<T: Send>(&self, deed: impl FnOnce() -> T + Send) -> T {
        let done = thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).expect("one's own network");
                deed()
            });
            thread.join()
        });
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Its name for `ip link`, as long as this value lives.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// Runs commands of `ip`.
    pub(crate) fn ip(&self, commands: &str) -> io::Result<()> {
        let run = || -> io::Result<()> {
            let mut ip = Command::new("ip")
                .args(["-batch", "-"])
                .stdin(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()?;
            let input = ip.stdin.take();
            input.expect("it is piped").write_all(commands.as_bytes())?;
            let output = ip.wait_with_output()?;
            match output.status.success() {
                true => Ok(()),
                false => {
                    let said = String::from_utf8_lossy(&output.stderr);
                    Err(io::Error::other(format!("ip: {said}")))
                }
            }
        };
        self.within(run)
    }
}
