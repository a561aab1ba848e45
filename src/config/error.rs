//! Where something stands in the configuration, and what is wrong with it.

use std::fmt;
use std::rc::Rc;

/// A line of a file, or the `-g` option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// `None`: the command line.
    pub(super) file: Option<Rc<str>>,
    /// Counted from 1.
    pub(super) line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{file}:{}", self.line),
            None => f.write_str("command line"),
        }
    }
}

/// Why a configuration cannot be used. Displays as what nginx writes after `[emerg] `, the place included. Always the
/// operator's to mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(String);

impl Error {
    /// An error that no line of the configuration is the cause of.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// `MESSAGE in FILE:LINE`
    pub(super) fn at(place: &Place, message: impl fmt::Display) -> Self {
        Self(format!("{message} in {place}"))
    }

    /// `MESSAGE in FILE:LINE (HINT)`: what scripts look for stays as nginx says it, and the hint follows.
    pub(super) fn hinted(place: &Place, message: impl fmt::Display, hint: &str) -> Self {
        if hint.is_empty() {
            return Self::at(place, message);
        }
        Self(format!("{message} in {place} ({hint})"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

/// What the configuration room returns.
pub(super) type Result<T> = std::result::Result<T, Error>;
