//! What the system said, as nginx writes it.

use std::fmt;
use std::io;

use nix::errno::Errno;

/// Writes an error of the system as `2: No such file or directory`, and one of TLS as `SSL: …`, to be put in parentheses after what
/// failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Of the system.
    System(Errno),
    /// Of TLS.
    Tls(String),
}

impl From<&io::Error> for Cause {
    /// An error that did not come from the system (a path with a zero byte) is an invalid argument.
    fn from(error: &io::Error) -> Self {
        match (error.raw_os_error(), error.kind()) {
            (Some(number), _) => Self::System(Errno::from_raw(number)),
            (None, io::ErrorKind::TimedOut) => Self::System(Errno::ETIMEDOUT),
            (None, io::ErrorKind::UnexpectedEof) => {
                Self::Tls("unexpected eof while reading".to_owned())
            }
            (None, io::ErrorKind::InvalidData) => Self::Tls(error.to_string()),
            (None, io::ErrorKind::NotConnected) => {
                Self::Tls("the session has ended with an error".to_owned())
            }
            (None, _) => Self::System(Errno::EINVAL),
        }
    }
}

impl From<Errno> for Cause {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = match self {
            Self::System(errno) => *errno as i32,
            Self::Tls(problem) => return write!(f, "SSL: {problem}"),
        };
        // The C library's words, which nix does not use; std adds the number at their end.
        let text = io::Error::from_raw_os_error(number).to_string();
        let words = text.split(" (os error ").next().unwrap_or_default();
        write!(f, "{number}: {words}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_nginx_writes_them() {
        for (errno, text) in [
            (Errno::ENOENT, "2: No such file or directory"),
            (Errno::ESRCH, "3: No such process"),
            (Errno::ENOMEM, "12: Cannot allocate memory"),
            (Errno::EACCES, "13: Permission denied"),
            (Errno::EADDRINUSE, "98: Address already in use"),
        ] {
            assert_eq!(Cause::from(errno).to_string(), text);
        }
        for (error, text) in [
            (
                io::Error::from_raw_os_error(104),
                "104: Connection reset by peer",
            ),
            (io::ErrorKind::TimedOut.into(), "110: Connection timed out"),
            (
                io::ErrorKind::UnexpectedEof.into(),
                "SSL: unexpected eof while reading",
            ),
            (
                io::Error::new(io::ErrorKind::InvalidData, "wrong record"),
                "SSL: wrong record",
            ),
            (io::ErrorKind::InvalidInput.into(), "22: Invalid argument"),
        ] {
            assert_eq!(Cause::from(&error).to_string(), text);
        }
    }
}
