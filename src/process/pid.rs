//! The pid file, and the signals that are sent by it (`-s`).
#![forbid(unsafe_code)]

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid, getpid};

use crate::config::model::Level;
use crate::observe::cause::Cause;
use crate::observe::error_log::ErrorLog;
use crate::observe::escape::Escaped;

/// What a running front can be told with `-s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Stop at once.
    Stop,
    /// Finish what is in flight, then stop.
    Quit,
    /// Read the configuration again.
    Reload,
    /// Open the logs again.
    Reopen,
}

impl Control {
    /// What each is called on the command line.
    pub const WORDS: [(&str, Self); 4] = [
        ("stop", Self::Stop),
        ("quit", Self::Quit),
        ("reopen", Self::Reopen),
        ("reload", Self::Reload),
    ];

    /// The control called `word` on the command line.
    pub fn from_word(word: &str) -> Option<Self> {
        let mut words = Self::WORDS.into_iter();
        words.find_map(|(known, control)| (known == word).then_some(control))
    }

    /// The signal that says it.
    pub fn signal(self) -> Signal {
        match self {
            Self::Stop => Signal::SIGTERM,
            Self::Quit => Signal::SIGQUIT,
            Self::Reload => Signal::SIGHUP,
            Self::Reopen => Signal::SIGUSR1,
        }
    }
}

/// Sends a signal to the process that `pid_file` names, and says so in `log`. The error is not logged.
pub fn send_signal(control: Control, pid_file: &Path, log: &ErrorLog) -> Result<(), SignalError> {
    log.note(Level::Notice, format_args!("signal process started"));
    let pid = read(pid_file)?;
    let signal = control.signal();
    kill(pid, signal).map_err(|errno| SignalError::Kill {
        pid,
        signal,
        cause: errno.into(),
    })
}

/// The longest number of 64 bits with its sign and a line end.
const PID_BYTES_MAX: u64 = 22;

fn read(path: &Path) -> Result<Pid, SignalError> {
    let failed = |call, error: &io::Error| SignalError::File {
        call,
        path: path.to_owned(),
        cause: error.into(),
    };
    let file = File::open(path).map_err(|error| failed("open", &error))?;
    let mut text = Vec::new();
    file.take(PID_BYTES_MAX)
        .read_to_end(&mut text)
        .map_err(|error| failed("read", &error))?;
    while text.pop_if(|byte| matches!(byte, b'\r' | b'\n')).is_some() {}
    // Zero and negative numbers would reach whole groups of processes.
    str::from_utf8(&text)
        .ok()
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|digits| digits.parse().ok())
        .filter(|&number| number > 0)
        .map(Pid::from_raw)
        .ok_or_else(|| SignalError::InvalidPid {
            text,
            path: path.to_owned(),
        })
}

/// Why a signal was not sent, in nginx's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignalError {
    /// The pid file cannot be read.
    File {
        /// What failed: `open` or `read`.
        call: &'static str,
        /// The pid file.
        path: PathBuf,
        /// Why.
        cause: Cause,
    },
    /// There is no number in the pid file.
    InvalidPid {
        /// What is there.
        text: Vec<u8>,
        /// The pid file.
        path: PathBuf,
    },
    /// The process does not exist or is not ours.
    Kill {
        /// Whom.
        pid: Pid,
        /// With what.
        signal: Signal,
        /// Why.
        cause: Cause,
    },
}

impl SignalError {
    /// The level that nginx gives it.
    pub fn level(&self) -> Level {
        match self {
            Self::File { .. } | Self::InvalidPid { .. } => Level::Error,
            Self::Kill { .. } => Level::Alert,
        }
    }
}

impl fmt::Display for SignalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { call, path, cause } => {
                write!(f, "{call}() \"{}\" failed ({cause})", path.display())
            }
            Self::InvalidPid { text, path } => {
                let (text, path) = (Escaped(text), path.display());
                write!(f, "invalid PID number \"{text}\" in \"{path}\"")
            }
            Self::Kill { pid, signal, cause } => {
                write!(f, "kill({pid}, {}) failed ({cause})", *signal as i32)
            }
        }
    }
}

impl std::error::Error for SignalError {}

/// The pid file of this process. It stays until [`PidFile::remove`].
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    /// Kept open, so that it can be emptied where it can no longer be removed.
    file: File,
}

/// Opens it, through no link that somebody else has made: whoever may write to its directory could have root empty any file.
fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    match options.custom_flags(libc::O_NOFOLLOW).open(path) {
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            let link = fs::symlink_metadata(path)?;
            match link.uid() == geteuid().as_raw() {
                true => options.custom_flags(0).open(path),
                false => Err(error),
            }
        }
        other => other,
    }
}

impl PidFile {
    /// Writes this process's number to `path`, over what was there.
    pub fn create(path: &Path) -> Result<Self, PidFileError> {
        let failed = |call, error: &io::Error| PidFileError {
            call,
            path: path.to_owned(),
            cause: error.into(),
        };
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o644);
        let mut file = open(path, &mut options).map_err(|error| failed("open", &error))?;
        writeln!(file, "{}", getpid()).map_err(|error| failed("write", &error))?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    /// Whether `path` could be written now, for `-t`. What is there stays as it is.
    pub fn check(path: &Path) -> Result<(), PidFileError> {
        let failed = |call, error: &io::Error| PidFileError {
            call,
            path: path.to_owned(),
            cause: error.into(),
        };
        let mut write = OpenOptions::new();
        write.write(true);
        match open(path, &mut write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                write
                    .create_new(true)
                    .open(path)
                    .map_err(|error| failed("open", &error))?;
                fs::remove_file(path).map_err(|error| failed("unlink", &error))
            }
            other => other.map(drop).map_err(|error| failed("open", &error)),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves it to `path`, to make room for that of another process, or back.
    pub fn rename(&mut self, path: &Path) -> Result<(), PidFileError> {
        fs::rename(&self.path, path).map_err(|error| PidFileError {
            call: "rename",
            path: self.path.clone(),
            cause: Cause::from(&error),
        })?;
        path.clone_into(&mut self.path);
        Ok(())
    }

    /// Removes it, unless another process has put its own number there. A process that has become an unprivileged user may
    /// not be allowed to remove it: then it is left empty, so that no signal ever goes to whoever gets our number.
    pub fn remove(self) -> Result<(), PidFileError> {
        if read(&self.path).is_ok_and(|pid| pid != getpid()) {
            return Ok(());
        }
        fs::remove_file(&self.path).or_else(|error| {
            self.file.set_len(0).map_err(|_| PidFileError {
                call: "unlink",
                path: self.path,
                cause: Cause::from(&error),
            })
        })
    }
}

/// A pid file that cannot be written or removed, in nginx's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PidFileError {
    call: &'static str,
    path: PathBuf,
    cause: Cause,
}

impl fmt::Display for PidFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { call, path, cause } = self;
        write!(f, "{call}() \"{}\" failed ({cause})", path.display())
    }
}

impl std::error::Error for PidFileError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_lives_as_long_as_it_is_ours() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ntlmfront.pid");
        fs::write(&path, "123456789012345").unwrap();
        let file = PidFile::create(&path).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            format!("{}\n", getpid())
        );
        assert_eq!(read(&path), Ok(getpid()));
        file.remove().unwrap();
        assert!(!path.exists());

        let file = PidFile::create(&path).unwrap();
        fs::write(&path, "1\n").unwrap();
        file.remove().unwrap();
        assert_eq!(read(&path), Ok(Pid::from_raw(1)), "it is another's now");
    }

    #[test]
    fn a_pid_file_that_cannot_be_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("no/pid");
        let error = PidFile::create(&path).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "open() \"{}\" failed (2: No such file or directory)",
                path.display()
            )
        );
    }

    #[test]
    fn signals_that_cannot_be_sent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        for (text, level, message) in [
            (
                None,
                Level::Error,
                "open() \"PATH\" failed (2: No such file or directory)",
            ),
            (
                Some("abc\n"),
                Level::Error,
                "invalid PID number \"abc\" in \"PATH\"",
            ),
            (
                Some(""),
                Level::Error,
                "invalid PID number \"\" in \"PATH\"",
            ),
            (
                Some("\r\n\n"),
                Level::Error,
                "invalid PID number \"\" in \"PATH\"",
            ),
            (
                Some("0"),
                Level::Error,
                "invalid PID number \"0\" in \"PATH\"",
            ),
            (
                Some("-1"),
                Level::Error,
                "invalid PID number \"-1\" in \"PATH\"",
            ),
            (
                Some("+1"),
                Level::Error,
                "invalid PID number \"+1\" in \"PATH\"",
            ),
            (
                Some("1 "),
                Level::Error,
                "invalid PID number \"1 \" in \"PATH\"",
            ),
            (
                Some("99999999999"),
                Level::Error,
                "invalid PID number \"99999999999\" in \"PATH\"",
            ),
            // Above the largest number that the kernel gives.
            (
                Some("4194305\r\n"),
                Level::Alert,
                "kill(4194305, 15) failed (3: No such process)",
            ),
        ] {
            if let Some(text) = text {
                fs::write(&path, text).unwrap();
            }
            let error = send_signal(Control::Stop, &path, &ErrorLog::default()).unwrap_err();
            assert_eq!(error.level(), level, "{text:?}");
            let message = message.replace("PATH", path.to_str().unwrap());
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn each_control_is_a_signal() {
        for (word, signal) in [
            ("stop", Some(Signal::SIGTERM)),
            ("quit", Some(Signal::SIGQUIT)),
            ("reload", Some(Signal::SIGHUP)),
            ("reopen", Some(Signal::SIGUSR1)),
            ("Stop", None),
            ("", None),
        ] {
            assert_eq!(Control::from_word(word).map(Control::signal), signal);
        }
    }
}
