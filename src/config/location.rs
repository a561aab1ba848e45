//! Which location of a server a path belongs to.

use std::collections::HashMap;

use super::model::LocationIndex;
use super::pattern::Pattern;
use super::variable::UserVariable;

/// The locations of a server or, nested, of a location: exact, longest prefix (`^~` stops), first regex in order.
#[derive(Debug, Default)]
pub struct Locations {
    exact: HashMap<Vec<u8>, LocationIndex>,
    /// The longest first.
    prefixes: Vec<Prefix>,
    /// In the order of the configuration.
    regexes: Vec<Regex>,
}

#[derive(Debug)]
struct Prefix {
    text: Vec<u8>,
    /// `^~`: regular expressions of the same level are not asked.
    stops: bool,
    location: LocationIndex,
    nested: Locations,
}

#[derive(Debug)]
struct Regex {
    pattern: Pattern,
    location: LocationIndex,
    nested: Locations,
}

/// A match on the way down.
#[derive(Clone, Copy)]
enum Found {
    Nothing,
    /// A prefix: a regular expression further out goes before it.
    Prefix(LocationIndex),
    /// Exact or by regular expression.
    Final(LocationIndex),
}

impl Locations {
    /// Finds the location for a normalised path. `captures` and `assign` as in [`super::names::ServerNames::find`].
    pub fn find(
        &self,
        path: &[u8],
        captures: &mut Vec<Vec<u8>>,
        mut assign: impl FnMut(UserVariable, &[u8]),
    ) -> Option<LocationIndex> {
        match self.search(path, captures, &mut assign) {
            Found::Nothing => None,
            Found::Prefix(location) | Found::Final(location) => Some(location),
        }
    }

    /// nginx's order: within the longest prefix its nested locations go first, then the regular expressions beside it.
    fn search(
        &self,
        path: &[u8],
        captures: &mut Vec<Vec<u8>>,
        assign: &mut dyn FnMut(UserVariable, &[u8]),
    ) -> Found {
        if let Some(&location) = self.exact.get(path) {
            return Found::Final(location);
        }
        let mut found = Found::Nothing;
        let mut stops = false;
        if let Some(prefix) = self.prefixes.iter().find(|p| path.starts_with(&p.text)) {
            stops = prefix.stops;
            found = match prefix.nested.search(path, captures, assign) {
                Found::Nothing => Found::Prefix(prefix.location),
                Found::Prefix(location) => Found::Prefix(location),
                Found::Final(location) => return Found::Final(location),
            };
        }
        if stops {
            return found;
        }
        for regex in &self.regexes {
            if regex.pattern.matches(path, captures, assign) {
                return match regex.nested.search(path, captures, assign) {
                    Found::Nothing => Found::Final(regex.location),
                    Found::Prefix(location) | Found::Final(location) => Found::Final(location),
                };
            }
        }
        found
    }

    /// Adds `= path`; false if it is there already.
    pub(super) fn insert_exact(&mut self, path: &str, location: LocationIndex) -> bool {
        let before = self.exact.insert(path.as_bytes().to_vec(), location);
        before.is_none()
    }

    /// Adds `path` or `^~ path`; false if it is there already.
    pub(super) fn insert_prefix(
        &mut self,
        path: &str,
        stops: bool,
        location: LocationIndex,
        nested: Locations,
    ) -> bool {
        if self.has_prefix(path) {
            return false;
        }
        let shorter = |prefix: &Prefix| prefix.text.len() >= path.len();
        let at = self.prefixes.partition_point(shorter);
        let prefix = Prefix {
            text: path.as_bytes().to_vec(),
            stops,
            location,
            nested,
        };
        self.prefixes.insert(at, prefix);
        true
    }

    /// Adds `~ pattern` or `~* pattern` behind those that are there.
    pub(super) fn insert_regex(
        &mut self,
        pattern: Pattern,
        location: LocationIndex,
        nested: Locations,
    ) {
        self.regexes.push(Regex {
            pattern,
            location,
            nested,
        });
    }

    /// Whether there is a location for exactly this path.
    pub(super) fn has(&self, path: &str) -> bool {
        self.exact.contains_key(path.as_bytes()) || self.has_prefix(path)
    }

    fn has_prefix(&self, path: &str) -> bool {
        let mut texts = self.prefixes.iter().map(|prefix| &prefix.text[..]);
        texts.any(|text| text == path.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::super::pattern::compile;
    use super::*;

    fn regex(pattern: &str) -> Pattern {
        Pattern::new(compile(pattern, false).unwrap(), |_| None)
    }

    #[test]
    fn nginx_order() {
        let mut in_images = Locations::default();
        in_images.insert_regex(regex("gif$"), 11, Locations::default());
        let mut in_docs = Locations::default();
        in_docs.insert_prefix("/docs/old/", true, 12, Locations::default());
        in_docs.insert_regex(regex("secret"), 13, Locations::default());
        let mut in_jpg = Locations::default();
        in_jpg.insert_regex(regex("^/big/"), 14, Locations::default());
        let mut all = Locations::default();
        assert!(all.insert_exact("/", 1));
        assert!(!all.insert_exact("/", 1));
        assert!(all.insert_prefix("/", false, 2, Locations::default()));
        assert!(!all.insert_prefix("/", true, 2, Locations::default()));
        assert!(all.insert_prefix("/docs/", false, 3, in_docs));
        assert!(all.insert_prefix("/images/", true, 4, in_images));
        all.insert_regex(regex(r"\.(gif|jpg)$"), 5, in_jpg);
        all.insert_regex(regex(r"\.jpg$"), 6, Locations::default());
        assert!(all.has("/docs/"));
        assert!(!all.has("/docs"));
        for (path, expected) in [
            ("/", 1),
            ("/index.html", 2),
            ("/docs/x", 3),
            ("/docs", 2),
            ("/images/x.jpg", 4),
            ("/images/x.gif", 11),
            ("/docs/x.jpg", 5),
            ("/docs/secret.jpg", 13),
            ("/docs/old/x", 12),
            // `^~` of a nested location does not stop the expressions further out.
            ("/docs/old/x.jpg", 5),
            ("/big/x.jpg", 14),
        ] {
            let found = all.find(path.as_bytes(), &mut Vec::new(), |_, _| {});
            assert_eq!(found, Some(expected), "{path}");
        }
        let none = Locations::default().find(b"/", &mut Vec::new(), |_, _| {});
        assert_eq!(none, None);
    }
}
