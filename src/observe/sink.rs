//! Where the bytes of a log go.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};

use crate::config::model::{LogTarget, PeerAddress};

use super::syslog::{Socket, framed};

/// Where the bytes of a log go.
#[derive(Debug)]
pub(super) enum Sink {
    /// A file, or what else has a name.
    File(File),
    /// A syslog server. Connected to by whoever sends to it.
    Syslog(PeerAddress),
}

impl Sink {
    /// Opens what a configuration names. A syslog server need not be there.
    pub(super) fn open(target: &LogTarget) -> io::Result<Self> {
        Ok(match target {
            LogTarget::Stderr => {
                let stderr = io::stderr().as_fd().try_clone_to_owned()?;
                Self::File(stderr.into())
            }
            LogTarget::File(path) => {
                let mut options = OpenOptions::new();
                options.append(true);
                if fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo()) {
                    // For reading, too, so that it need not have a reader yet, and stays open without one (fifo(7)).
                    options.read(true).custom_flags(libc::O_NONBLOCK);
                } else {
                    options.create(true).mode(0o644);
                }
                Self::File(options.open(path)?)
            }
            LogTarget::Syslog(syslog) => Self::Syslog(syslog.server.clone()),
        })
    }

    /// Whether both are one file, as they are when nobody has moved it away.
    pub(super) fn is_same_file(&self, other: &Self) -> bool {
        let identity = |sink: &Self| match sink {
            Self::File(file) => file.metadata().ok().map(|file| (file.dev(), file.ino())),
            Self::Syslog(_) => None,
        };
        identity(self).is_some_and(|this| identity(other) == Some(this))
    }

    /// Writes a record by one call, so that no other writer's bytes come between.
    pub(super) fn write(&self, record: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => match (&*file).write(record)? {
                all if all == record.len() => Ok(()),
                _ => Err(io::Error::from_raw_os_error(libc::ENOSPC)),
            },
            Self::Syslog(server) => Socket::connect(server)?.send(framed(record)),
        }
    }
}
