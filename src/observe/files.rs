//! Every log that is open.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::unistd::{Uid, fchown};

use crate::config::Config;
use crate::config::model::LogTarget;

use super::cause::Cause;
use super::log::{Done, Log, Message};
use super::sink::Sink;
use super::writer::Writer;

/// How often one log's troubles are reported.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// Of a writer, which needs next to none.
const STACK_BYTES: usize = 128 << 10;

/// How long one look waits whether the writers have ended.
const END_PAUSE: Duration = Duration::from_millis(1);

/// Every log that is open, each target once. Owned by the thread that loads the configuration; it outlives reloads.
#[derive(Debug, Default)]
pub struct LogFiles {
    logs: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    target: LogTarget,
    log: Arc<Log>,
    /// What its writer is to be started with.
    inbox: Option<Receiver<Message>>,
    writer: Option<JoinHandle<()>>,
    reported: Reported,
}

/// What was reported of a log.
#[derive(Debug, Default)]
struct Reported {
    at: Option<Instant>,
    failed_writes: u64,
    lost_lines: u64,
}

impl LogFiles {
    /// The log for `target`: the one that is open, or a new one.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(&mut self, target: &LogTarget) -> Result<Arc<Log>, OpenError> {
        if let Some(entry) = self.logs.iter().find(|entry| entry.target == *target) {
            return Ok(Arc::clone(&entry.log));
        }
        let (log, inbox) = Log::new(target, open_target(target)?);
        let log = Arc::new(log);
        self.logs.push(Entry {
            target: target.clone(),
            log: Arc::clone(&log),
            inbox: Some(inbox),
            writer: None,
            reported: Reported::default(),
        });
        Ok(log)
    }

    /// Starts the writers of the logs that have none. For after the process has become what it stays, before the first
    /// thread has outlets.
    ///
    /// # Errors
    /// There are no threads left. Logs without a writer are forgotten then.
    pub fn start_writers(&mut self) -> io::Result<()> {
        let mut started = Ok(());
        for entry in &mut self.logs {
            let Some(inbox) = entry.inbox.take() else {
                continue;
            };
            let writer = Writer::new(&entry.log, inbox);
            let thread = thread::Builder::new()
                .name("log".to_owned())
                .stack_size(STACK_BYTES)
                .spawn(|| writer.run());
            match thread {
                Ok(thread) => {
                    entry.log.written_by(thread.thread().clone());
                    entry.writer = Some(thread);
                }
                Err(error) => started = Err(error),
            }
        }
        self.logs.retain(|entry| entry.writer.is_some());
        started
    }

    /// Opens anew by its name what the configuration names and somebody has moved away. What was handed over before ends in the old
    /// file, and what is handed over when nobody has `done` any more ends in the new one. Where opening fails the old file stays
    /// in use.
    pub fn reopen_all(&mut self, done: &Done) -> Vec<OpenError> {
        let named = self.logs.iter().filter(|entry| entry.log.is_named());
        named.filter_map(|entry| entry.reopen(done).err()).collect()
    }

    /// Notes which logs the configuration names that is in force now. The others are closed when nobody holds them any more.
    pub fn keep(&mut self, config: &Config) {
        let locations = &config.http.locations;
        let errors = locations.iter().flat_map(|location| &location.error_logs);
        let errors = errors.chain(&config.main.error_logs);
        let accesses = locations.iter().flat_map(|location| &location.access_logs);
        let named: HashSet<&LogTarget> = errors
            .map(|log| &log.target)
            .chain(accesses.map(|log| &log.target))
            .collect();
        for entry in &self.logs {
            entry.log.be_named(named.contains(&entry.target));
        }
    }

    /// Closes the logs that nobody holds any more, once their lines are written.
    pub fn close_unused(&mut self) {
        self.logs.retain(|entry| Arc::strong_count(&entry.log) > 1);
    }

    /// Ends the writers when all lines are written, or `patience` is over, and says what is to be said of logs that could not be
    /// written. For when no thread has outlets any more.
    pub fn finish(&mut self, patience: Duration) -> Vec<String> {
        let deadline = Instant::now() + patience;
        self.logs.iter().for_each(|entry| entry.log.end());
        let writers = self.logs.iter().filter_map(|entry| entry.writer.as_ref());
        while writers.clone().any(|writer| !writer.is_finished()) && Instant::now() < deadline {
            thread::sleep(END_PAUSE);
        }
        // Who writes to a log that holds its writer up waits with it.
        match writers.clone().all(JoinHandle::is_finished) {
            true => self.troubles(Instant::now() + REPORT_INTERVAL),
            false => Vec::new(),
        }
    }

    /// What is to be said of logs that cannot be written, or not fast enough: of each once a minute at the most.
    pub fn troubles(&mut self, now: Instant) -> Vec<String> {
        self.logs
            .iter_mut()
            .filter_map(|entry| entry.reported.trouble(&entry.log, now))
            .collect()
    }

    /// Gives the regular files to a user, so that they can be reopened after the process has become that user. Their group, who
    /// may read them, stays.
    pub fn change_owner(&self, uid: Uid) -> Vec<OwnerError> {
        self.logs
            .iter()
            .filter_map(|entry| {
                let LogTarget::File(path) = &entry.target else {
                    return None;
                };
                let changed = entry
                    .log
                    .with_file(|file| match is_to_be_given(file, path) {
                        true => fchown(file.as_fd(), Some(uid), None),
                        false => Ok(()),
                    })?;
                changed.err().map(|errno| OwnerError {
                    path: path.clone(),
                    cause: errno.into(),
                })
            })
            .collect()
    }

    /// The logs that are open, for those who show how they are doing.
    pub fn all(&self) -> Vec<Weak<Log>> {
        self.logs
            .iter()
            .map(|entry| Arc::downgrade(&entry.log))
            .collect()
    }
}

/// Whether a log is a file that is the process's own: it is not /dev/null or the container's output, which belong to others, nor what
/// a link leads to, which whoever may write to the directory can have made.
fn is_to_be_given(file: &File, path: &Path) -> bool {
    let (Ok(opened), Ok(called)) = (file.metadata(), fs::symlink_metadata(path)) else {
        return false;
    };
    opened.is_file() && (opened.dev(), opened.ino()) == (called.dev(), called.ino())
}

impl Entry {
    fn reopen(&self, done: &Done) -> Result<(), OpenError> {
        let present = self.log.sink();
        match &self.target {
            // It has no name, and a daemon's ends in another log.
            LogTarget::Stderr => return Ok(()),
            LogTarget::File(path) if present.is_called(path) => return Ok(()),
            LogTarget::File(_) | LogTarget::Syslog(_) => {}
        }
        match open_target(&self.target) {
            Ok(sink) => self.log.reopened(sink, done.clone()),
            // A container's output, which another user has opened, and nobody moves away.
            Err(_) if !present.keeps_lines() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

impl Reported {
    fn trouble(&mut self, log: &Log, now: Instant) -> Option<String> {
        let is_late = |at| now.saturating_duration_since(at) >= REPORT_INTERVAL;
        if !self.at.is_none_or(is_late) {
            return None;
        }
        let failed_writes = log.failed_writes();
        let lost_lines = log.lost_lines();
        let lost = lost_lines - self.lost_lines;
        let message = match (failed_writes > self.failed_writes, lost) {
            (false, 0) => return None,
            (true, 0) => log.last_failure(),
            (true, lost) => format!("{}, {lost} lines were lost", log.last_failure()),
            (false, lost) => {
                let name = log.name();
                format!("\"{name}\" does not take lines fast enough, {lost} of them were lost")
            }
        };
        *self = Self {
            at: Some(now),
            failed_writes,
            lost_lines,
        };
        Some(message)
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

fn open_target(target: &LogTarget) -> Result<Sink, OpenError> {
    Sink::open(target).map_err(|error| OpenError {
        path: match target {
            LogTarget::File(path) => path.clone(),
            _ => PathBuf::from("stderr"),
        },
        cause: (&error).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc::unbounded_channel;

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
        assert_eq!(files.logs.len(), 1);
        drop((first, again));
        files.close_unused();
        assert_eq!(files.logs.len(), 0);
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
        assert_eq!(all[0].upgrade().unwrap().name(), "/dev/full");
        assert_eq!(all[0].upgrade().unwrap().failed_writes(), 2);
        drop(full);
        files.close_unused();
        assert!(all[0].upgrade().is_none(), "it is closed all the same");
    }

    #[test]
    fn a_failed_reopening_keeps_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let (logs, moved) = (dir.path().join("logs"), dir.path().join("moved"));
        fs::create_dir(&logs).unwrap();
        let mut files = LogFiles::default();
        let log = files.open(&target(&logs.join("log"))).unwrap();
        fs::rename(&logs, &moved).unwrap();
        assert_eq!(files.reopen_all(&unbounded_channel().0).len(), 1);
        log.write(b"line\n");
        assert_eq!(fs::read_to_string(moved.join("log")).unwrap(), "line\n");
    }
}
