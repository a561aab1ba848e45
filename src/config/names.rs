//! Which server of a listener answers for a host name.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::model::ServerIndex;
use super::pattern::Pattern;
use super::variable::UserVariable;

/// The servers of one listener by name: exact, longest `*.name`, longest `name.*`, first regex, default server.
#[derive(Debug)]
pub struct ServerNames {
    /// Answers where nothing matches.
    pub default: ServerIndex,
    hosts: Hosts<ServerIndex>,
    regexes: Vec<(Pattern, ServerIndex)>,
}

impl ServerNames {
    pub(super) fn new(default: ServerIndex) -> Self {
        Self {
            default,
            hosts: Hosts::default(),
            regexes: Vec::new(),
        }
    }

    /// Adds a name in lower case, or says why not.
    pub(super) fn insert(&mut self, name: &str, server: ServerIndex) -> Result<(), NotInserted> {
        self.hosts.insert(name, server)
    }

    pub(super) fn insert_regex(&mut self, pattern: Pattern, server: ServerIndex) {
        self.regexes.push((pattern, server));
    }

    /// Finds the server for `host` (lower-cased, without port and trailing dot). `assign` gets the named captures of a regex
    /// name, and `$1` … through `captures` (the first of which is `$1`; left alone where no regex matched).
    pub fn find(
        &self,
        host: &[u8],
        captures: &mut Vec<Vec<u8>>,
        mut assign: impl FnMut(UserVariable, &[u8]),
    ) -> ServerIndex {
        if let Some(&server) = self.hosts.find(host) {
            return server;
        }
        if host.is_empty() {
            return self.default;
        }
        let matches = |(pattern, _): &&(Pattern, _)| pattern.matches(host, captures, &mut assign);
        let found = self.regexes.iter().find(matches);
        found.map_or(self.default, |&(_, server)| server)
    }
}

/// Why a name was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotInserted {
    /// It is there already.
    Conflict,
    /// A `*` stands where none may.
    Invalid,
}

/// Values by host name: exact ones, `*.name`, `.name` and `name.*`, of which the longest is chosen.
#[derive(Clone, Debug)]
pub(super) struct Hosts<T> {
    exact: HashMap<Vec<u8>, T>,
    /// `.name`, with the dot.
    suffixes: HashMap<Vec<u8>, T>,
    /// `name.`, with the dot.
    prefixes: HashMap<Vec<u8>, T>,
}

impl<T> Default for Hosts<T> {
    fn default() -> Self {
        Self {
            exact: HashMap::new(),
            suffixes: HashMap::new(),
            prefixes: HashMap::new(),
        }
    }
}

impl<T: Copy> Hosts<T> {
    pub(super) fn insert(&mut self, name: &str, value: T) -> Result<(), NotInserted> {
        if let Some(rest) = name.strip_prefix('.') {
            if self.exact.contains_key(rest.as_bytes()) {
                return Err(NotInserted::Conflict);
            }
            insert(&mut self.suffixes, name, value)?;
            insert(&mut self.exact, rest, value)
        } else if let Some(suffix) = name.strip_prefix('*') {
            if !suffix.starts_with('.') {
                return Err(NotInserted::Invalid);
            }
            insert(&mut self.suffixes, suffix, value)
        } else if let Some(prefix) = name.strip_suffix(".*") {
            insert(&mut self.prefixes, &name[..prefix.len() + 1], value)
        } else {
            insert(&mut self.exact, name, value)
        }
    }

    /// Adds a text that is compared as it is.
    pub(super) fn insert_text(&mut self, text: &str, value: T) -> Result<(), NotInserted> {
        add(&mut self.exact, text, value)
    }

    /// The value of `host`, in lower case.
    pub(super) fn find(&self, host: &[u8]) -> Option<&T> {
        if let Some(value) = self.exact.get(host) {
            return Some(value);
        }
        // The longest suffix starts at the first dot, the longest prefix ends with the last.
        let mut dots = memchr::memchr_iter(b'.', host);
        if !self.suffixes.is_empty()
            && let Some(value) = dots.find_map(|dot| self.suffixes.get(&host[dot..]))
        {
            return Some(value);
        }
        if self.prefixes.is_empty() {
            return None;
        }
        memchr::memrchr_iter(b'.', host).find_map(|dot| self.prefixes.get(&host[..=dot]))
    }
}

fn insert<T>(map: &mut HashMap<Vec<u8>, T>, name: &str, value: T) -> Result<(), NotInserted> {
    if name.contains('*') || name.contains("..") {
        return Err(NotInserted::Invalid);
    }
    add(map, name, value)
}

fn add<T>(map: &mut HashMap<Vec<u8>, T>, name: &str, value: T) -> Result<(), NotInserted> {
    match map.entry(name.as_bytes().to_vec()) {
        Entry::Occupied(_) => Err(NotInserted::Conflict),
        Entry::Vacant(entry) => {
            entry.insert(value);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::pattern::compile;
    use super::*;

    #[test]
    fn the_most_exact_name_wins() {
        let mut names = ServerNames::new(0);
        for (server, name) in [
            (1, "example.com"),
            (2, "*.example.com"),
            (3, "*.mail.example.com"),
            (4, "www.*"),
            (5, "www.example.*"),
            (6, ".dotted.org"),
            (7, "_"),
        ] {
            names.insert(name, server).unwrap();
        }
        for (server, pattern) in [(8, r"^(?<site>.+)\.re\.net$"), (9, "net$")] {
            let regex = compile(pattern, true).unwrap();
            names.insert_regex(Pattern::new(regex, |_| Some(3)), server);
        }
        for (host, expected) in [
            ("example.com", 1),
            ("a.example.com", 2),
            ("a.b.example.com", 2),
            ("mail.example.com", 2),
            ("a.mail.example.com", 3),
            ("www.example.com", 2),
            ("www.example.org", 5),
            ("www.other.org", 4),
            ("www.a.re.net", 4),
            ("dotted.org", 6),
            ("a.dotted.org", 6),
            ("xdotted.org", 0),
            ("_", 7),
            ("a.re.net", 8),
            ("b.net", 9),
            ("", 0),
            (".", 0),
            ("unknown", 0),
        ] {
            let mut assigned = Vec::new();
            let mut captures = Vec::new();
            let found = names.find(host.as_bytes(), &mut captures, |variable, value| {
                assigned.push((variable, value.to_vec()));
            });
            assert_eq!(found, expected, "{host}");
            if expected == 8 {
                assert_eq!(captures, [b"a"]);
                assert_eq!(assigned, [(3, b"a".to_vec())]);
            }
        }
    }

    #[test]
    fn what_cannot_be_inserted() {
        let mut hosts = Hosts::default();
        for (name, expected) in [
            ("a.b", Ok(())),
            ("a.b", Err(NotInserted::Conflict)),
            (".a.b", Err(NotInserted::Conflict)),
            ("*.a.b", Ok(())),
            ("*.a.b", Err(NotInserted::Conflict)),
            ("a.*", Ok(())),
            ("a.*", Err(NotInserted::Conflict)),
            ("a*.b", Err(NotInserted::Invalid)),
            ("*a.b", Err(NotInserted::Invalid)),
            ("*.a.*", Err(NotInserted::Invalid)),
            ("a..b", Err(NotInserted::Invalid)),
            ("", Ok(())),
        ] {
            assert_eq!(hosts.insert(name, ()), expected, "{name}");
        }
    }
}
