//! One block's directives, and reading their arguments.

use std::fmt::Display;
use std::time::Duration;

use super::super::directives::{self, Known};
use super::super::error::{Error, Result};
use super::super::parse::Directive;
use super::super::value;

/// The directives of one block.
#[derive(Clone, Copy)]
pub(super) struct Level<'a>(pub(super) &'a [Directive]);

impl<'a> Level<'a> {
    /// A directive that stands here at most once.
    pub(super) fn one(self, name: &str) -> Option<&'a Directive> {
        debug_assert!(known(name), "{name}");
        self.0.iter().find(|directive| directive.name == name)
    }

    /// All directives of a name, in order.
    pub(super) fn all(self, name: &str) -> impl Iterator<Item = &'a Directive> {
        debug_assert!(known(name), "{name}");
        self.0
            .iter()
            .filter(move |directive| directive.name == name)
    }

    /// Whether a directive stands here.
    pub(super) fn has(self, name: &str) -> bool {
        self.one(name).is_some()
    }

    /// Reads a directive into `slot` if it stands here; else the inherited value stays.
    pub(super) fn set<T>(
        self,
        name: &str,
        slot: &mut T,
        read: impl FnOnce(&Directive) -> Result<T>,
    ) -> Result<()> {
        if let Some(directive) = self.one(name) {
            *slot = read(directive)?;
        }
        Ok(())
    }
}

/// Whether the table has the name.
fn known(name: &str) -> bool {
    let anywhere = directives::EVERYWHERE;
    matches!(directives::find(name, anywhere), Known::Here(_))
}

/// Reads a number of at least 1.
pub(super) fn positive(level: Level<'_>, name: &str, slot: &mut usize) -> Result<()> {
    level.set(name, slot, |directive| {
        let number = value::number(&directive.args[0]).filter(|&number| number > 0);
        let number = number.and_then(|number| usize::try_from(number).ok());
        number.ok_or_else(|| directive.error(format!("invalid number \"{}\"", directive.args[0])))
    })
}

impl Directive {
    /// An error at this directive.
    pub(super) fn error(&self, message: impl Display) -> Error {
        Error::at(&self.place, message)
    }

    /// An error at this directive, and what to do about it.
    pub(super) fn hinted(&self, message: impl Display, hint: &str) -> Error {
        Error::hinted(&self.place, message, hint)
    }

    /// `"x" directive …`
    pub(super) fn error_of(&self, what: &str) -> Error {
        self.error(format!("\"{}\" directive {what}", self.name))
    }

    /// `invalid parameter "x"`
    pub(super) fn invalid_parameter(&self, parameter: &str) -> Error {
        self.error(format!("invalid parameter \"{parameter}\""))
    }

    /// `invalid value "x" in "y" directive`
    pub(super) fn invalid_value_of(&self, argument: usize) -> String {
        let value = &self.args[argument];
        format!("invalid value \"{value}\" in \"{}\" directive", self.name)
    }

    /// The first argument as `on` or `off`; the parser has checked it.
    pub(super) fn flag(&self) -> Result<bool> {
        value::flag(&self.args[0]).ok_or_else(|| self.error_of("invalid value"))
    }

    /// The first argument as a size in bytes.
    pub(super) fn size(&self) -> Result<u64> {
        value::size(&self.args[0]).ok_or_else(|| self.error_of("invalid value"))
    }

    /// The first argument as a number.
    pub(super) fn number(&self) -> Result<u64> {
        value::number(&self.args[0]).ok_or_else(|| self.error_of("invalid number"))
    }

    /// The first argument as a time.
    pub(super) fn time(&self) -> Result<Duration> {
        value::time(&self.args[0]).ok_or_else(|| self.error_of("invalid value"))
    }
}
