//! Whether the kernel lets us use io_uring, and if not, why and what to do.
#![forbid(unsafe_code)]

use std::fmt;
use std::fs;
use std::io;

use nix::errno::Errno;

use crate::net;
use crate::observe::cause::Cause;

/// Makes a ring as the workers make theirs, and lets it go.
pub fn check_ring() -> Result<(), RingRefusal> {
    net::check_ring().map_err(|error| {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        RingRefusal::diagnose(
            &error,
            read("/proc/sys/kernel/io_uring_disabled").trim(),
            read("/proc/sys/kernel/osrelease").trim(),
        )
    })
}

/// Why io_uring cannot be used. Each is one line that says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RingRefusal {
    /// The kernel has no io_uring, or one without what we need (deferred completions: Linux 6.1).
    Kernel {
        /// The kernel's release.
        release: String,
        /// What it said.
        cause: Cause,
    },
    /// `kernel.io_uring_disabled` is 1 (unprivileged users) or 2 (all).
    Disabled {
        /// Its value.
        value: String,
    },
    /// Something above the kernel forbids it: mostly a container's seccomp profile.
    Forbidden,
    /// The ring does not fit into the memory that may be locked.
    Memory,
    /// Anything else.
    Other(Cause),
}

impl RingRefusal {
    fn diagnose(error: &io::Error, disabled: &str, release: &str) -> Self {
        let cause = Cause::from(error);
        let Cause::System(errno) = cause else {
            return Self::Other(cause);
        };
        match errno {
            Errno::ENOSYS | Errno::EINVAL => Self::Kernel {
                release: release.to_owned(),
                cause,
            },
            Errno::EPERM if matches!(disabled, "1" | "2") => Self::Disabled {
                value: disabled.to_owned(),
            },
            Errno::EPERM | Errno::EACCES => Self::Forbidden,
            Errno::ENOMEM => Self::Memory,
            _ => Self::Other(cause),
        }
    }
}

impl fmt::Display for RingRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("io_uring cannot be used: ")?;
        match self {
            Self::Kernel { release, cause } => write!(
                f,
                "this kernel ({release}) does not offer what is needed ({cause}); use Linux 6.1 or newer, and a sandbox that \
                 passes io_uring on"
            ),
            Self::Disabled { value } => {
                write!(f, "kernel.io_uring_disabled is {value}; ")?;
                if value == "1" {
                    f.write_str(
                        "set it to 0 with sysctl, or put our user into the group that kernel.io_uring_group names",
                    )
                } else {
                    f.write_str("set it to 0 with sysctl")
                }
            }
            Self::Forbidden => f.write_str(
                "the system call is forbidden, as containers' seccomp profiles do; run with a profile that allows \
                 io_uring_setup, io_uring_enter and io_uring_register",
            ),
            Self::Memory => f.write_str(
                "not enough memory may be locked; raise the limit (ulimit -l, LimitMEMLOCK= of systemd, --ulimit memlock= of a \
                 container)",
            ),
            Self::Other(cause) => write!(f, "io_uring_setup() failed ({cause})"),
        }
    }
}

impl std::error::Error for RingRefusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_advice() {
        for (errno, disabled, advice) in [
            (Errno::ENOSYS, "", "kernel (5.4.0)"),
            (Errno::EINVAL, "0", "Linux 6.1 or newer"),
            (Errno::EPERM, "1", "kernel.io_uring_group"),
            (
                Errno::EPERM,
                "2",
                "kernel.io_uring_disabled is 2; set it to 0",
            ),
            (Errno::EPERM, "0", "seccomp"),
            (Errno::EPERM, "", "seccomp"),
            (Errno::EACCES, "2", "seccomp"),
            (Errno::ENOMEM, "0", "LimitMEMLOCK="),
            (
                Errno::EMFILE,
                "0",
                "io_uring_setup() failed (24: Too many open files)",
            ),
        ] {
            let text = RingRefusal::diagnose(&errno.into(), disabled, "5.4.0").to_string();
            assert!(text.starts_with("io_uring cannot be used: "), "{text}");
            assert!(text.contains(advice), "{errno}: {text}");
            assert!(!text.contains('\n'), "{text}");
        }
    }
}
