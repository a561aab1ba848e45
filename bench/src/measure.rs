//! What a server's processes use: time of the processors, memory, system calls.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::time::ClockId;
use nix::unistd::Pid;

/// Time of the processors, user and system, since the processes started.
///
/// The kernel's clock for a process: nanoseconds, all its threads, those that ended and io_uring's own ones included.
pub(crate) fn cpu_time(processes: &[Pid]) -> io::Result<Duration> {
    processes
        .iter()
        .map(|&process| Ok(Duration::from(ClockId::pid_cpu_clock_id(process)?.now()?)))
        .sum()
}

/// Ticks in user space and in the kernel. Too coarse to count requests with, fit to divide a sum.
pub(crate) fn ticks(processes: &[Pid]) -> io::Result<(u64, u64)> {
    let mut sum = (0, 0);
    for process in processes {
        let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
        let (user, system) = user_and_system(&stat).ok_or(ErrorKind::InvalidData)?;
        sum = (sum.0 + user, sum.1 + system);
    }
    Ok(sum)
}

fn user_and_system(stat: &str) -> Option<(u64, u64)> {
    let (_, behind_name) = stat.rsplit_once(") ")?;
    // Fields 14 and 15, counted from 1; the first behind the name is field 3.
    let mut fields = behind_name.split(' ').skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Memory that the processes have made their own, in bytes: no files. What they share by having been forked is counted once, and
/// once more as soon as one of them has changed it; resident memory would not show that.
pub(crate) fn own_bytes(processes: &[Pid]) -> io::Result<u64> {
    processes
        .iter()
        .map(|process| {
            // Since Linux 5.14.
            let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
            kilobytes(&text, "Pss_Anon:").ok_or_else(|| ErrorKind::InvalidData.into())
        })
        .sum::<io::Result<u64>>()
        .map(|kilobytes| kilobytes * 1024)
}

/// How many sockets the processes hold.
pub(crate) fn sockets(processes: &[Pid]) -> io::Result<usize> {
    let mut count = 0;
    for process in processes {
        for entry in fs::read_dir(format!("/proc/{process}/fd"))? {
            // One that was closed meanwhile is none.
            let target = fs::read_link(entry?.path()).unwrap_or_default();
            count += usize::from(target.to_string_lossy().starts_with("socket:"));
        }
    }
    Ok(count)
}

fn kilobytes(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// `strace`, counting the system calls of processes that run already.
#[derive(Debug)]
pub(crate) struct Strace {
    child: Child,
    dir: tempfile::TempDir,
}

impl Strace {
    /// Whether it is installed.
    pub(crate) fn is_there() -> bool {
        Command::new("strace")
            .arg("-V")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }

    /// Starts counting. Returns when every process is attached.
    pub(crate) fn attach(processes: &[Pid]) -> io::Result<Self> {
        let dir = tempfile::tempdir()?;
        let mut command = Command::new("strace");
        command
            .args(["-f", "-c", "-o"])
            .arg(dir.path().join("counts"));
        for process in processes {
            command.args(["-p", &process.to_string()]);
        }
        let words = dir.path().join("words");
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&words)?)
            .spawn()?;
        let mut strace = Self { child, dir };
        let deadline = Instant::now() + Duration::from_secs(2);
        while fs::read_to_string(&words)?.matches("attached").count() < processes.len() {
            if strace.child.try_wait()?.is_some() || Instant::now() > deadline {
                let said = fs::read_to_string(&words)?;
                return Err(io::Error::other(format!("strace: {}", said.trim())));
            }
            thread::sleep(Duration::from_millis(10));
        }
        // Threads are attached one after another.
        thread::sleep(Duration::from_millis(50));
        Ok(strace)
    }

    /// Stops counting. System calls by name, the most frequent first.
    pub(crate) fn finish(mut self) -> io::Result<Vec<(String, u64)>> {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGINT)?;
        self.child.wait()?;
        counts(&self.dir.path().join("counts"))
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // Already waited for if all went well.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn counts(path: &Path) -> io::Result<Vec<(String, u64)>> {
    Ok(parse_counts(&fs::read_to_string(path)?))
}

/// Reads the table of `strace -c`: the fourth column is the number of calls, the last one the name.
fn parse_counts(table: &str) -> Vec<(String, u64)> {
    let mut counts: Vec<(String, u64)> = table
        .lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let name = *words.last()?;
            let calls = words.get(3)?.parse().ok()?;
            (name != "total").then(|| (name.to_owned(), calls))
        })
        .collect();
    counts.sort_by_key(|&(_, calls)| std::cmp::Reverse(calls));
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_proc_are_understood() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 1 2 3 4 50 60 0 0 20 0 1 0 100 1 1";
        assert_eq!(user_and_system(stat), Some((50, 60)));
        assert_eq!(
            kilobytes("x\nPss_Anon:\t  123 kB\ny", "Pss_Anon:"),
            Some(123)
        );
        let own = [nix::unistd::getpid()];
        assert!(own_bytes(&own).unwrap() > 100_000);
        ticks(&own).unwrap();
        let _socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(sockets(&own).unwrap() > 0);
    }

    #[test]
    fn the_clock_of_a_process_counts_what_it_does() {
        let own = [nix::unistd::getpid()];
        let before = cpu_time(&own).unwrap();
        let until = Instant::now() + Duration::from_secs(5);
        while cpu_time(&own).unwrap() < before + Duration::from_millis(5) {
            assert!(Instant::now() < until);
        }
    }

    #[test]
    fn the_table_of_strace_is_understood() {
        let table = "% time     seconds  usecs/call     calls    errors syscall\n\
            ------ ----------- ----------- --------- --------- ----------------\n \
            60.00    0.000100           1       100           recvfrom\n \
            40.00    0.000050           1       200        10 sendmsg\n\
            ------ ----------- ----------- --------- --------- ----------------\n\
            100.00    0.000150           0       300        10 total\n";
        assert_eq!(
            parse_counts(table),
            [("sendmsg".to_owned(), 200), ("recvfrom".to_owned(), 100)]
        );
    }
}
