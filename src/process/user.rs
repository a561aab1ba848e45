//! The user that the process becomes (`user`).
#![forbid(unsafe_code)]

use std::ffi::CString;
use std::fmt;

use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User, initgroups, setgid, setuid};

use crate::observe::cause::Cause;

/// A user and group that exist. Looked up when the configuration is checked, so that `-t` finds a wrong name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    name: String,
    uid: Uid,
    gid: Gid,
}

impl Identity {
    /// Looks up a user and a group. Without `group`, it is the one that has the user's name, as in nginx.
    pub fn resolve(user: &str, group: Option<&str>) -> Result<Self, IdentityError> {
        let unknown = |call, name: &str| {
            let name = name.to_owned();
            move |errno: Option<Errno>| IdentityError::Unknown {
                call,
                name,
                cause: errno.map(Cause::from),
            }
        };
        let no_user = unknown("getpwnam", user);
        let uid = match User::from_name(user) {
            Ok(Some(found)) => found.uid,
            Ok(None) => return Err(no_user(None)),
            Err(errno) => return Err(no_user(Some(errno))),
        };
        let group = group.unwrap_or(user);
        let no_group = unknown("getgrnam", group);
        let gid = match Group::from_name(group) {
            Ok(Some(found)) => found.gid,
            Ok(None) => return Err(no_group(None)),
            Err(errno) => return Err(no_group(Some(errno))),
        };
        Ok(Self {
            name: user.to_owned(),
            uid,
            gid,
        })
    }

    /// The user's number.
    pub fn uid(&self) -> Uid {
        self.uid
    }

    /// The group's number.
    pub fn gid(&self) -> Gid {
        self.gid
    }

    /// Becomes this user in every thread, for good, with the groups that the user is in. Only root can.
    pub fn assume(&self) -> Result<(), IdentityError> {
        let failed = |call: String| {
            move |errno: Errno| IdentityError::Refused {
                call,
                cause: errno.into(),
            }
        };
        let Self { name, uid, gid } = self;
        setgid(*gid).map_err(failed(format!("setgid({gid})")))?;
        let c_name = CString::new(name.as_bytes())
            .map_err(|_| failed(format!("initgroups({name}, {gid})"))(Errno::EINVAL))?;
        initgroups(&c_name, *gid).map_err(failed(format!("initgroups({name}, {gid})")))?;
        setuid(*uid).map_err(failed(format!("setuid({uid})")))
    }
}

/// Why the process cannot become a user, in nginx's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityError {
    /// There is no such name.
    Unknown {
        /// `getpwnam` or `getgrnam`
        call: &'static str,
        /// The name.
        name: String,
        /// What the system said, if it failed for another reason than the name.
        cause: Option<Cause>,
    },
    /// The system did not allow it.
    Refused {
        /// What failed, with its arguments.
        call: String,
        /// Why.
        cause: Cause,
    },
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { call, name, cause } => {
                write!(f, "{call}(\"{name}\") failed")?;
                cause
                    .as_ref()
                    .map_or(Ok(()), |cause| write!(f, " ({cause})"))
            }
            Self::Refused { call, cause } => write!(f, "{call} failed ({cause})"),
        }
    }
}

impl std::error::Error for IdentityError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let root = Identity::resolve("root", None).unwrap();
        assert_eq!((root.uid().as_raw(), root.gid().as_raw()), (0, 0));
        for (user, group, message) in [
            ("no-such-user", None, "getpwnam(\"no-such-user\") failed"),
            (
                "root",
                Some("no-such-group"),
                "getgrnam(\"no-such-group\") failed",
            ),
        ] {
            let error = Identity::resolve(user, group).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }
}
