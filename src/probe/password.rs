//! Where the password comes from: never from the command line, which everybody on the machine can read.

use std::env;
use std::fmt;
use std::io::{self, BufRead, IsTerminal};

use ntlm_origin::User;

/// The environment variable that a script may put it in.
const VARIABLE: &str = "NTLMFRONT_PASSWORD";

/// The longest name and password in bytes.
const BYTES_MAX: usize = 1024;

/// Why there is no user to log in as.
#[derive(Debug)]
pub enum UserError {
    /// The name is none.
    Name,
    /// There is no password.
    Password(io::Error),
}

impl fmt::Display for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => f.write_str(
                "-u takes DOMAIN\\name, name@domain or name, and no password: that is asked for",
            ),
            Self::Password(error) => write!(f, "no password ({error})"),
        }
    }
}

impl std::error::Error for UserError {}

/// Who `-u` names.
pub fn user(name: &str) -> Result<User, UserError> {
    // A colon is in no name, but where people are used to write a password behind it.
    if name.is_empty() || name.len() > BYTES_MAX || name.contains([':', '\0']) {
        return Err(UserError::Name);
    }
    Ok(match name.split_once('\\') {
        Some((domain, name)) => User::new(domain, name, ""),
        None => User::new("", name, ""),
    })
}

/// The password of `user`: that of the environment, or typed without being shown, or the first line of what is piped in.
///
/// # Errors
/// There is none.
pub fn ask(user: &str) -> Result<String, UserError> {
    let password = match env::var(VARIABLE) {
        Ok(password) => Ok(password),
        Err(env::VarError::NotUnicode(_)) => Err(io::ErrorKind::InvalidData.into()),
        Err(env::VarError::NotPresent) if io::stdin().is_terminal() => {
            rpassword::prompt_password(format!("Password of {user}: "))
        }
        Err(env::VarError::NotPresent) => first_line(io::stdin().lock()),
    };
    password.map_err(UserError::Password)
}

fn first_line(input: impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    let read = input.take(BYTES_MAX as u64 + 2).read_line(&mut line)?;
    if read == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let line = line.strip_suffix('\n').unwrap_or(&line);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.len() > BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (name, domain, user_name) in [
            ("EXAMPLE\\alice", "EXAMPLE", "alice"),
            ("alice@example.com", "", "alice@example.com"),
            ("alice", "", "alice"),
            ("EXAMPLE\\", "EXAMPLE", ""),
        ] {
            let user = user(name).unwrap();
            assert_eq!((&*user.domain, &*user.name), (domain, user_name), "{name}");
        }
        for name in ["", "alice:secret", "a\0", &"x".repeat(1025)] {
            assert!(user(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_line_that_is_piped_in() {
        for (input, expected) in [
            (&b"secret\n"[..], Some("secret")),
            (b"secret\r\nmore", Some("secret")),
            (b"secret", Some("secret")),
            (b" s \n", Some(" s ")),
            (b"\n", Some("")),
            (b"", None),
            (b"\xff\n", None),
            (&[b'x'; 2000], None),
        ] {
            let line = first_line(input).ok();
            assert_eq!(line.as_deref(), expected, "{input:?}");
        }
    }
}
