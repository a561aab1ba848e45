//! Which core runs what, and starting a program there.

use std::convert::Infallible;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::cli::LaunchArgs;

/// Who runs where. Contenders get the same cores as each other, and never one of the load's while there are enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placement {
    /// One for each worker, as far as there are cores.
    pub(crate) contender: Vec<usize>,
    /// The server behind the contenders. Its own where there are cores to spare, else the load's.
    pub(crate) origin: usize,
    /// The load generator: always the last.
    pub(crate) load: usize,
}

impl Placement {
    /// Divides the `allowed` cores, of which there is at least one.
    pub(crate) fn divide(allowed: &[usize], workers: usize) -> Self {
        let load = allowed.last().copied().unwrap_or_default();
        let contender: Vec<usize> = allowed.iter().copied().take(workers.max(1)).collect();
        let spare = allowed.len().saturating_sub(contender.len() + 1);
        let origin = match spare {
            0 => load,
            _ => allowed[allowed.len() - 2],
        };
        Self {
            contender,
            origin,
            load,
        }
    }

    /// Whether a contender has to share a core with the load.
    pub(crate) fn shared(&self) -> bool {
        self.contender.contains(&self.load)
    }
}

/// The cores this process may use.
pub(crate) fn allowed() -> Result<Vec<usize>, Errno> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count())
        .filter(|&core| set.is_set(core) == Ok(true))
        .collect())
}

/// Keeps the calling thread, and what it starts from here on, on these cores.
pub(crate) fn stay_on(cores: &[usize]) -> Result<(), Errno> {
    let mut set = CpuSet::new();
    for &core in cores {
        set.set(core)?;
    }
    sched_setaffinity(Pid::from_raw(0), &set)
}

/// Allows this process as many descriptors as it may have. Returns how many those are.
pub(crate) fn raise_descriptor_limit() -> Result<u64, Errno> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

/// Becomes the program. It ends with the bench, however that ends.
pub(crate) fn launch(args: &LaunchArgs) -> io::Result<Infallible> {
    stay_on(&args.cores)?;
    raise_descriptor_limit()?;
    // The kernel sends it when the bench is gone, so that nothing is left behind even by SIGKILL. nginx's master ends its
    // workers on TERM, which it could not on KILL.
    set_pdeathsig(Signal::SIGTERM)?;
    let (program, arguments) = args
        .program
        .split_first()
        .ok_or(io::ErrorKind::InvalidInput)?;
    Err(Command::new(program).args(arguments).exec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contender_and_load_are_apart_while_there_are_cores() {
        let divided = |allowed: &[usize], workers| {
            let placement = Placement::divide(allowed, workers);
            (
                placement.contender.clone(),
                placement.origin,
                placement.load,
                placement.shared(),
            )
        };
        assert_eq!(divided(&[0, 1], 1), (vec![0], 1, 1, false));
        assert_eq!(divided(&[0, 1], 2), (vec![0, 1], 1, 1, true));
        assert_eq!(divided(&[3], 1), (vec![3], 3, 3, true));
        assert_eq!(divided(&[0, 2, 4, 6], 1), (vec![0], 4, 6, false));
        assert_eq!(divided(&[0, 2, 4, 6], 2), (vec![0, 2], 4, 6, false));
        assert_eq!(divided(&[0, 2, 4, 6], 3), (vec![0, 2, 4], 6, 6, false));
    }
}
