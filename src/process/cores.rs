//! Cores: how many there are for us, and staying on one.
#![forbid(unsafe_code)]

use std::thread::available_parallelism;

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// How many workers `worker_processes auto` means: one for each allowed core, fewer where a control group grants less time
/// than that.
pub fn core_count() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// The cores that the calling thread may run on, which a thread has from the one that started it. Where these are more than
/// [`core_count`], workers are better not pinned: other containers share the cores and would pick the same ones.
pub fn allowed_cores() -> Result<Vec<usize>, Errno> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count())
        .filter(|&core| allowed.is_set(core) == Ok(true))
        .collect())
}

/// Keeps the calling thread on the `worker`-th of its allowed cores, beginning again at the first where there are more
/// workers than cores. Returns the core's number. To be called once in a thread, which afterwards may run on that core only.
pub fn pin_to_core(worker: usize) -> Result<usize, Errno> {
    let allowed = allowed_cores()?;
    let core = *worker
        .checked_rem(allowed.len())
        .and_then(|index| allowed.get(index))
        .ok_or(Errno::EINVAL)?;
    let mut only = CpuSet::new();
    only.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &only)?;
    Ok(core)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_go_round_the_allowed_cores() {
        let allowed = allowed_cores().unwrap();
        assert!((1..=allowed.len()).contains(&core_count()));
        for worker in 0..2 * allowed.len() {
            std::thread::spawn({
                let allowed = allowed.clone();
                move || {
                    let core = allowed[worker % allowed.len()];
                    assert_eq!(pin_to_core(worker), Ok(core));
                    assert_eq!(allowed_cores(), Ok(vec![core]));
                }
            })
            .join()
            .unwrap();
        }
        assert_eq!(
            allowed_cores(),
            Ok(allowed),
            "other threads are not touched"
        );
    }
}
