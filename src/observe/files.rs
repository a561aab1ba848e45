//! The files that logs go to.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use nix::unistd::{Uid, fchown};

use crate::config::model::LogTarget;

use super::cause::Cause;
use super::figures::OpenLog;

/// Every log that is open, each target once. Owned by the thread that loads the configuration; it outlives reloads.
#[derive(Debug, Default)]
pub struct LogFiles {
    files: Vec<(LogTarget, Arc<LogFile>)>,
}

impl LogFiles {
    /// The log for `target`: the one that is open, or a new one.
    pub fn open(&mut self, target: &LogTarget) -> Result<Arc<LogFile>, OpenError> {
        if let Some((_, file)) = self.files.iter().find(|(open, _)| open == target) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(LogFile {
            file: ArcSwap::from_pointee(open_target(target)?),
            failed_writes: AtomicU64::new(0),
        });
        self.files.push((target.clone(), Arc::clone(&file)));
        Ok(file)
    }

    /// Opens every file anew by its name, for those who moved it away (USR1). Writers are not stopped: a write that has begun
    /// ends in the old file, the next goes to the new one. Where that fails the old file stays in use.
    pub fn reopen_all(&mut self) -> Vec<OpenError> {
        self.files
            .iter()
            .filter_map(|(target, log)| {
                open_target(target)
                    .map(|file| log.file.store(Arc::new(file)))
                    .err()
            })
            .collect()
    }

    /// Closes the logs that nobody holds any more. For after a reload.
    pub fn close_unused(&mut self) {
        self.files.retain(|(_, file)| Arc::strong_count(file) > 1);
    }

    /// Gives the regular files to a user, so that they can be reopened after the process has become that user. Their group, who
    /// may read them, stays.
    pub fn change_owner(&self, uid: Uid) -> Vec<OwnerError> {
        self.files
            .iter()
            .filter_map(|(target, log)| {
                let LogTarget::File(path) = target else {
                    return None;
                };
                let file = log.file.load();
                // A log may be /dev/null or the container's output, which belong to others.
                if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
                    return None;
                }
                fchown(file.as_fd(), Some(uid), None)
                    .err()
                    .map(|errno| OwnerError {
                        path: path.clone(),
                        cause: errno.into(),
                    })
            })
            .collect()
    }

    /// The logs that are open, for those who show how they are doing.
    pub fn all(&self) -> Vec<OpenLog> {
        let open = |(target, file): &(LogTarget, Arc<LogFile>)| OpenLog {
            name: match target {
                LogTarget::Stderr => "stderr".to_owned(),
                LogTarget::File(path) => path.display().to_string(),
            },
            file: Arc::downgrade(file),
        };
        self.files.iter().map(open).collect()
    }
}

/// An open log that all threads share.
#[derive(Debug)]
pub struct LogFile {
    file: ArcSwap<File>,
    failed_writes: AtomicU64,
}

impl LogFile {
    /// Writes `lines`, which end with a newline, with one `write(2)`, so that no other writer's bytes come between them.
    /// A failure, or a file system that took only a part, is counted.
    pub fn write(&self, lines: &[u8]) {
        let file = self.file.load();
        let written = (&**file).write(lines);
        if !written.is_ok_and(|count| count == lines.len()) {
            self.failed_writes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many writes failed since the log was opened.
    pub fn failed_writes(&self) -> u64 {
        self.failed_writes.load(Ordering::Relaxed)
    }

    /// A descriptor of the present file, to make the standard error of the process end there.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        self.file.load().as_fd().try_clone_to_owned()
    }
}

/// A log that could not be opened, in nginx's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenError {
    path: PathBuf,
    cause: Cause,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        write!(f, "open() \"{path}\" failed ({})", self.cause)
    }
}

impl std::error::Error for OpenError {}

/// A log that could not be given to the user, in nginx's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerError {
    path: PathBuf,
    cause: Cause,
}

impl fmt::Display for OwnerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        write!(f, "chown() \"{path}\" failed ({})", self.cause)
    }
}

impl std::error::Error for OwnerError {}

fn open_target(target: &LogTarget) -> Result<File, OpenError> {
    match target {
        LogTarget::Stderr => io::stderr()
            .as_fd()
            .try_clone_to_owned()
            .map(File::from)
            .map_err(|error| open_error(Path::new("stderr"), &error)),
        // O_CLOEXEC is std's default.
        LogTarget::File(path) => OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o644)
            .open(path)
            .map_err(|error| open_error(path, &error)),
    }
}

fn open_error(path: &Path, error: &io::Error) -> OpenError {
    OpenError {
        path: path.to_owned(),
        cause: error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::fs;
    use std::sync::atomic::AtomicBool;

    fn target(path: &Path) -> LogTarget {
        LogTarget::File(path.to_owned())
    }

    #[test]
    fn a_target_is_opened_once_and_kept_while_used() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        let mut files = LogFiles::default();
        let first = files.open(&target(&a)).unwrap();
        let again = files.open(&target(&a)).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        let other = files.open(&target(&b)).unwrap();
        assert!(!Arc::ptr_eq(&first, &other));
        drop(other);
        files.close_unused();
        assert_eq!(files.files.len(), 1);
        drop((first, again));
        files.close_unused();
        assert_eq!(files.files.len(), 0);
    }

    #[test]
    fn lines_are_appended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, "old\n").unwrap();
        let mut files = LogFiles::default();
        files.open(&target(&path)).unwrap().write(b"new\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old\nnew\n");
    }

    #[test]
    fn what_cannot_be_opened_is_said_as_nginx_says_it() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("no/log");
        let error = LogFiles::default().open(&target(&missing)).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "open() \"{}\" failed (2: No such file or directory)",
                missing.display()
            )
        );
    }

    #[test]
    fn failed_writes_are_counted() {
        let mut files = LogFiles::default();
        let full = files.open(&target(Path::new("/dev/full"))).unwrap();
        full.write(b"line\n");
        full.write(b"line\n");
        assert_eq!(full.failed_writes(), 2);
        let all = files.all();
        assert_eq!(all[0].name, "/dev/full");
        assert_eq!(all[0].file.upgrade().unwrap().failed_writes(), 2);
        drop(full);
        files.close_unused();
        assert!(all[0].file.upgrade().is_none(), "it is closed all the same");
    }

    #[test]
    fn a_failed_reopening_keeps_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let (logs, moved) = (dir.path().join("logs"), dir.path().join("moved"));
        fs::create_dir(&logs).unwrap();
        let mut files = LogFiles::default();
        let log = files.open(&target(&logs.join("log"))).unwrap();
        fs::rename(&logs, &moved).unwrap();
        assert_eq!(files.reopen_all().len(), 1);
        log.write(b"line\n");
        assert_eq!(fs::read_to_string(moved.join("log")).unwrap(), "line\n");
    }

    #[test]
    fn reopening_under_two_writers_loses_and_breaks_no_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut files = LogFiles::default();
        let log = files.open(&target(&path)).unwrap();
        let stop = AtomicBool::new(false);
        let counts = [AtomicU64::new(0), AtomicU64::new(0)];
        let names = ["one", "two"];
        std::thread::scope(|scope| {
            for (name, count) in names.iter().zip(&counts) {
                let (log, stop) = (&log, &stop);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let number = count.load(Ordering::Relaxed);
                        log.write(format!("{name} {number} {}\n", "x".repeat(100)).as_bytes());
                        count.store(number + 1, Ordering::Relaxed);
                    }
                });
            }
            let written = || counts.each_ref().map(|count| count.load(Ordering::Relaxed));
            for rotation in 0..50 {
                let before = written();
                while written()
                    .iter()
                    .zip(before)
                    .any(|(&now, before)| now == before)
                {
                    std::thread::yield_now();
                }
                fs::rename(&path, dir.path().join(rotation.to_string())).unwrap();
                assert_eq!(files.reopen_all(), []);
            }
            stop.store(true, Ordering::Relaxed);
        });
        let mut seen: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for entry in fs::read_dir(dir.path()).unwrap() {
            for line in fs::read_to_string(entry.unwrap().path()).unwrap().lines() {
                let [name, count, rest] = line.splitn(3, ' ').collect::<Vec<_>>()[..] else {
                    panic!("{line}");
                };
                assert_eq!(rest, "x".repeat(100));
                seen.entry(name.to_owned())
                    .or_default()
                    .push(count.parse().unwrap());
            }
        }
        for (name, count) in names.into_iter().zip(counts) {
            let lines = seen.get_mut(name).unwrap();
            lines.sort_unstable();
            assert_eq!(
                *lines,
                (0..count.into_inner()).collect::<Vec<u64>>(),
                "{name}"
            );
        }
    }
}
