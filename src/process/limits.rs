//! How many descriptors the process may have.
#![forbid(unsafe_code)]

use std::fmt;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::observe::cause::Cause;

/// Sets the limit of open descriptors to `worker_rlimit_nofile`, or without it to as many as the process is allowed.
/// Returns the limit in force. The hard limit is raised if need be, which only root can, but never lowered, so that a reload
/// can ask for more.
pub fn raise_nofile(limit: Option<u64>) -> Result<u64, NofileError> {
    let failed = |limit| {
        move |errno: nix::errno::Errno| NofileError {
            limit,
            cause: errno.into(),
        }
    };
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(failed(limit.unwrap_or(0)))?;
    let soft = limit.unwrap_or(hard);
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard.max(soft)).map_err(failed(soft))?;
    Ok(soft)
}

/// The limit could not be set, in nginx's words. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NofileError {
    limit: u64,
    cause: Cause,
}

impl fmt::Display for NofileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, cause } = self;
        write!(f, "setrlimit(RLIMIT_NOFILE, {limit}) failed ({cause})")
    }
}

impl std::error::Error for NofileError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        // Large enough for the tests that run beside this one.
        assert_eq!(raise_nofile(Some(hard - 1)), Ok(hard - 1));
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE), Ok((hard - 1, hard)));
        assert_eq!(raise_nofile(None), Ok(hard));
        // More than any kernel allows (fs.nr_open), even to root.
        let error = raise_nofile(Some(1 << 40)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "setrlimit(RLIMIT_NOFILE, 1099511627776) failed (1: Operation not permitted)"
        );
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE), Ok((hard, hard)));
    }
}
