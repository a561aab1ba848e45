//! Where the bytes of a log go.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::config::model::{LogTarget, PeerAddress};

use super::syslog::{Socket, framed};

/// Where the bytes of a log go.
#[derive(Debug)]
pub(super) enum Sink {
    /// A file, or what else has a name.
    File(File),
    /// A pipe. Others may write to it, too, and lines are only whole to each other if each call writes no more than the kernel keeps
    /// together (pipe(7), `PIPE_BUF`).
    Pipe(File),
    /// A syslog server. Connected to by whoever sends to it.
    Syslog(PeerAddress),
}

impl Sink {
    /// Opens what a configuration names. A syslog server need not be there.
    pub(super) fn open(target: &LogTarget) -> io::Result<Self> {
        match target {
            LogTarget::Stderr => {
                let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
                let is_pipe = stderr.metadata()?.file_type().is_fifo();
                // Whoever shares the standard error is not to find that it does not wait any more, so it is opened anew.
                let again = || {
                    let mut options = OpenOptions::new();
                    options.write(true).custom_flags(libc::O_NONBLOCK);
                    options.open("/proc/self/fd/2").ok()
                };
                Ok(match is_pipe {
                    true => Self::Pipe(again().unwrap_or(stderr)),
                    false => Self::File(stderr),
                })
            }
            LogTarget::File(path) => {
                let mut options = OpenOptions::new();
                options.append(true);
                if fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo()) {
                    // For reading, too, so that it need not have a reader yet, and stays open without one (fifo(7)).
                    options.read(true).custom_flags(libc::O_NONBLOCK);
                    return options.open(path).map(Self::Pipe);
                }
                options.create(true).mode(0o644);
                options.open(path).map(Self::File)
            }
            LogTarget::Syslog(syslog) => Ok(Self::Syslog(syslog.server.clone())),
        }
    }

    /// What was opened, if it has a name.
    pub(super) fn file(&self) -> Option<&File> {
        match self {
            Self::File(file) | Self::Pipe(file) => Some(file),
            Self::Syslog(_) => None,
        }
    }

    /// Whether both are one file, as they are when nobody has moved it away.
    pub(super) fn is_same_file(&self, other: &Self) -> bool {
        let of = |sink: &Self| sink.file()?.metadata().ok().map(identity);
        of(self).is_some_and(|this| of(other) == Some(this))
    }

    /// Whether the file that was opened is what is called so now.
    pub(super) fn is_called(&self, path: &Path) -> bool {
        let opened = self.file().and_then(|file| file.metadata().ok());
        let called = fs::metadata(path).ok();
        opened.is_some() && opened.map(identity) == called.map(identity)
    }

    /// Whether lines stay in it: it is no pipe, device or socket.
    pub(super) fn keeps_lines(&self) -> bool {
        let metadata = self.file().and_then(|file| file.metadata().ok());
        metadata.is_some_and(|metadata| metadata.is_file())
    }

    /// Writes a record by one call, so that no other writer's bytes come between.
    pub(super) fn write(&self, record: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) | Self::Pipe(file) => match (&*file).write(record)? {
                all if all == record.len() => Ok(()),
                _ => Err(io::Error::from_raw_os_error(libc::ENOSPC)),
            },
            Self::Syslog(server) => Socket::connect(server)?.send(framed(record)),
        }
    }
}

/// What a file is, whatever it is called.
fn identity(metadata: Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}
