//! `map`.

use super::super::error::Result;
use super::super::names::{Hosts, NotInserted};
use super::super::parse::Directive;
use super::super::template::{Map, Template};
use super::{Builder, Level, regex};

impl Builder<'_> {
    /// All `map` blocks.
    pub(super) fn maps(&mut self, level: Level<'_>) -> Result<()> {
        for directive in level.all("map") {
            let map = self.map(directive)?;
            self.http.maps.push(map);
        }
        for (index, directive) in level.all("map").enumerate() {
            if self.reaches(index, index, &mut vec![false; self.http.maps.len()]) {
                let name = directive.args[1].trim_start_matches('$');
                let message = format!("cycle while evaluating variable \"{name}\"");
                return Err(directive.error(message));
            }
        }
        Ok(())
    }

    /// Whether the value of map `from` depends on map `to`.
    fn reaches(&self, from: usize, to: usize, seen: &mut Vec<bool>) -> bool {
        self.http.maps[from].depends_on().any(|next| {
            next == to
                || (!std::mem::replace(&mut seen[next], true) && self.reaches(next, to, seen))
        })
    }

    fn map(&self, directive: &Directive) -> Result<Map> {
        let hostnames = directive.children.iter().any(|d| is_option(d, "hostnames"));
        let mut map = Map {
            source: self.template(directive, &directive.args[0])?,
            keys: Hosts::default(),
            hostnames,
            regexes: Vec::new(),
            values: Vec::new(),
            default: Template::default(),
        };
        let mut has_default = false;
        for entry in &directive.children {
            if is_option(entry, "hostnames") || is_option(entry, "volatile") {
                continue;
            }
            let [value] = &entry.args[..] else {
                return Err(entry.error("invalid number of the map parameters"));
            };
            if entry.name == "default" {
                if has_default {
                    return Err(entry.error("duplicate default map parameter"));
                }
                has_default = true;
                map.default = self.template(entry, value)?;
                continue;
            }
            let index = map.values.len();
            if let Some(pattern) = entry.name.strip_prefix('~') {
                let (pattern, ignore_case) = match pattern.strip_prefix('*') {
                    Some(pattern) => (pattern, true),
                    None => (pattern, false),
                };
                let regex = regex(entry, pattern, ignore_case)?;
                map.values
                    .push(self.captured_template(entry, value, &regex)?);
                map.regexes.push((regex, index));
                continue;
            }
            map.values.push(self.template(entry, value)?);
            // A backslash takes the meaning from `default`, `~` and the like.
            let key = entry.name.strip_prefix('\\').unwrap_or(&entry.name);
            let key = key.to_ascii_lowercase();
            let inserted = if hostnames {
                map.keys.insert(&key, index)
            } else {
                map.keys.insert_text(&key, index)
            };
            inserted.map_err(|error| match error {
                NotInserted::Conflict => entry.error(format!("conflicting parameter \"{key}\"")),
                NotInserted::Invalid => {
                    entry.error(format!("invalid hostname or wildcard \"{}\"", entry.name))
                }
            })?;
        }
        Ok(map)
    }
}

fn is_option(entry: &Directive, name: &str) -> bool {
    entry.name == name && entry.args.is_empty()
}
