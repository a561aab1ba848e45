//! What the system said, as nginx writes it.

use std::fmt;
use std::io;

use nix::errno::Errno;

/// Writes an error of the system as `2: No such file or directory`, to be put in parentheses after what failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause(pub Errno);

impl From<&io::Error> for Cause {
    /// An error that did not come from the system (a path with a zero byte) is an invalid argument.
    fn from(error: &io::Error) -> Self {
        Self(error.raw_os_error().map_or(Errno::EINVAL, Errno::from_raw))
    }
}

impl From<Errno> for Cause {
    fn from(errno: Errno) -> Self {
        Self(errno)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.0 as i32;
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
            assert_eq!(Cause(errno).to_string(), text);
        }
    }
}
