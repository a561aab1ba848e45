//! What directives there are: one table, from which the parser judges and the reference page is printed.

use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

mod reference;
mod table;

pub use reference::reference;

/// A set of contexts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Contexts(u8);

pub(super) const MAIN: Contexts = Contexts(1);
pub(super) const EVENTS: Contexts = Contexts(2);
pub(super) const HTTP: Contexts = Contexts(4);
pub(super) const SERVER: Contexts = Contexts(8);
pub(super) const LOCATION: Contexts = Contexts(16);
pub(super) const UPSTREAM: Contexts = Contexts(32);
/// Everywhere.
pub(super) const EVERYWHERE: Contexts = Contexts(63);
/// The three that settings are inherited through.
const REQUEST: Contexts = HTTP.or(SERVER_LOCATION);
const MAIN_REQUEST: Contexts = MAIN.or(REQUEST);
const HTTP_SERVER: Contexts = HTTP.or(SERVER);
const SERVER_LOCATION: Contexts = SERVER.or(LOCATION);

impl Contexts {
    const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl fmt::Display for Contexts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == EVERYWHERE {
            return f.write_str("any context");
        }
        let mut separator = "";
        for (context, name) in [
            (MAIN, "main"),
            (EVENTS, "events"),
            (HTTP, "http"),
            (SERVER, "server"),
            (LOCATION, "location"),
            (UPSTREAM, "upstream"),
        ] {
            if self.intersects(context) {
                write!(f, "{separator}{name}")?;
                separator = ", ";
            }
        }
        Ok(())
    }
}

/// How many arguments a directive takes, and of which kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arguments {
    pub(super) min: usize,
    pub(super) max: usize,
    /// `on` or `off`.
    pub(super) flag: bool,
    /// What stands between the braces, if it has some.
    pub(super) block: Option<Block>,
}

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Block {
    /// Directives of this context.
    Context(Contexts),
    /// Lines that are no directives (`map`, `types`).
    Entries,
}

const fn words(min: usize, max: usize) -> Arguments {
    Arguments {
        min,
        max,
        flag: false,
        block: None,
    }
}

const fn block(min: usize, max: usize, block: Block) -> Arguments {
    Arguments {
        min,
        max,
        flag: false,
        block: Some(block),
    }
}

const FLAG: Arguments = Arguments {
    flag: true,
    ..words(1, 1)
};

/// No upper limit.
const MANY: usize = usize::MAX;

/// Whether a directive may stand twice in one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    Once,
    Many,
}
use Repeat::{Many, Once};

/// What becomes of a directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disposition {
    /// It does what nginx documents.
    Honoured,
    /// Nothing is lost by it having no effect; the reason is said once at start.
    Accepted(&'static str),
    /// Only this value describes what happens here; others are refused with the hint.
    Only(&'static str, &'static str),
    /// Unknown, with a hint.
    Refused(&'static str),
}
use Disposition::{Accepted, Honoured, Only, Refused};

/// One directive in the contexts where it means one thing.
#[derive(Debug)]
pub(super) struct Definition {
    /// A refused one may stand for a family: `ssl_*`, `*_by_lua*`.
    pub(super) name: &'static str,
    pub(super) contexts: Contexts,
    pub(super) arguments: Arguments,
    pub(super) repeat: Repeat,
    pub(super) syntax: &'static str,
    /// Empty: none.
    pub(super) default: &'static str,
    pub(super) disposition: Disposition,
    pub(super) doc: &'static str,
}

/// What the table knows of a name.
#[derive(Debug)]
pub(super) enum Known {
    /// Here it is.
    Here(&'static Definition),
    /// Only in other contexts.
    Elsewhere,
    /// Refused, with this hint.
    Refused(&'static str),
    /// Nothing.
    Unknown,
}

/// Looks a name up for a context.
pub(super) fn find(name: &str, context: Contexts) -> Known {
    static BY_NAME: LazyLock<HashMap<&str, Vec<&Definition>>> = LazyLock::new(|| {
        let mut by_name: HashMap<_, Vec<_>> = HashMap::new();
        for definition in table::directives() {
            by_name.entry(definition.name).or_default().push(definition);
        }
        by_name
    });
    let Some(definitions) = BY_NAME.get(name) else {
        let family = table::directives().find(|definition| in_family(name, definition.name));
        return match family.map(|definition| definition.disposition) {
            Some(Refused(hint)) => Known::Refused(hint),
            _ => Known::Unknown,
        };
    };
    if let Refused(hint) = definitions[0].disposition {
        return Known::Refused(hint);
    }
    match definitions.iter().find(|d| d.contexts.intersects(context)) {
        Some(definition) => Known::Here(definition),
        None => Known::Elsewhere,
    }
}

/// Whether `name` belongs to a family such as `ssl_*` or `*_by_lua*`.
fn in_family(name: &str, family: &str) -> bool {
    match (family.strip_prefix('*'), family.strip_suffix('*')) {
        (Some(rest), Some(_)) => name.contains(rest.trim_end_matches('*')),
        (None, Some(start)) => name.starts_with(start),
        _ => false,
    }
}

/// Names of all honoured directives.
#[cfg(test)]
pub(super) fn honoured() -> impl Iterator<Item = &'static str> {
    let honoured = table::directives().filter(|d| d.disposition == Honoured);
    honoured.map(|definition| definition.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_by_context() {
        let syntax = |name, context| match find(name, context) {
            Known::Here(definition) => definition.syntax,
            Known::Elsewhere => "elsewhere",
            Known::Refused(_) => "refused",
            Known::Unknown => "unknown",
        };
        for (name, context, expected) in [
            ("keepalive_timeout", HTTP, "timeout [header_timeout]"),
            ("keepalive_timeout", UPSTREAM, "timeout"),
            ("keepalive_timeout", MAIN, "elsewhere"),
            ("listen", HTTP, "elsewhere"),
            ("include", UPSTREAM, "file | mask"),
            ("ssl_certificate", SERVER, "file"),
            ("ssl_ech_file", SERVER, "refused"),
            ("content_by_lua_block", LOCATION, "refused"),
            ("if", LOCATION, "refused"),
            ("nonsense", HTTP, "unknown"),
            ("", HTTP, "unknown"),
            ("*", HTTP, "unknown"),
        ] {
            assert_eq!(syntax(name, context), expected, "{name}");
        }
    }

    #[test]
    fn no_context_has_two_definitions() {
        for (i, one) in table::directives().enumerate() {
            for other in table::directives().take(i) {
                assert!(
                    one.name != other.name || !one.contexts.intersects(other.contexts),
                    "{}",
                    one.name
                );
            }
        }
    }
}
