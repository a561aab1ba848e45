//! Which variables a configuration defines, wherever it does.

use regex::bytes::Regex;

use super::super::error::Result;
use super::super::parse::Directive;
use super::super::variable::Variable;
use super::{Builder, regex};

impl Builder<'_> {
    /// Collects what `set`, `map` and named captures define, so that a variable may be used before its definition.
    pub(super) fn collect_variables(&mut self, directives: &[Directive]) -> Result<()> {
        // Maps are numbered in the order in which they are built.
        let maps = directives.iter().filter(|d| d.name == "map");
        for (index, directive) in maps.enumerate() {
            let name = self.own_name(directive, &directive.args[1])?;
            self.variables.insert(name, Variable::Map(index));
        }
        self.collect_assigned(directives)
    }

    fn collect_assigned(&mut self, directives: &[Directive]) -> Result<()> {
        for directive in directives {
            let args = &directive.args;
            match (&directive.name[..], args.len()) {
                ("set", 2) => {
                    let name = self.own_name(directive, &args[0])?;
                    self.assigned(directive, name)?;
                }
                ("server_name", _) => {
                    for pattern in args.iter().filter_map(|name| name.strip_prefix('~')) {
                        self.captures(directive, &regex(directive, pattern, true)?)?;
                    }
                }
                ("location", 2) if args[0].starts_with('~') => {
                    self.captures(directive, &regex(directive, &args[1], args[0] == "~*")?)?;
                }
                ("location", 1) if args[0].starts_with('~') => {
                    let pattern = args[0][1..].trim_start_matches('*');
                    self.captures(directive, &regex(directive, pattern, true)?)?;
                }
                _ => {}
            }
            // The lines of a `map` are no directives.
            if directive.name != "map" {
                self.collect_assigned(&directive.children)?;
            }
        }
        Ok(())
    }

    /// Checks the `$name` of a definition, and returns the name in lower case.
    fn own_name(&self, directive: &Directive, text: &str) -> Result<String> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let name = match text.strip_prefix('$') {
            Some(name) if !name.is_empty() && name.bytes().all(is_name) => name,
            _ => return Err(directive.error(format!("invalid variable name \"{text}\""))),
        };
        let name = name.to_ascii_lowercase();
        if Variable::builtin(&name).is_some() {
            return Err(duplicate(directive, &name));
        }
        Ok(name)
    }

    fn captures(&mut self, directive: &Directive, regex: &Regex) -> Result<()> {
        for name in regex.capture_names().flatten() {
            let name = name.to_ascii_lowercase();
            if Variable::builtin(&name).is_some() {
                return Err(duplicate(directive, &name));
            }
            self.assigned(directive, name)?;
        }
        Ok(())
    }

    fn assigned(&mut self, directive: &Directive, name: String) -> Result<()> {
        match self.variables.get(&name) {
            Some(Variable::User(_)) => {}
            Some(_) => return Err(duplicate(directive, &name)),
            None => {
                let variable = Variable::User(self.http.user_variables.len());
                self.http.user_variables.push(name.clone());
                self.variables.insert(name, variable);
            }
        }
        Ok(())
    }
}

fn duplicate(directive: &Directive, name: &str) -> super::Error {
    directive.error(format!("the duplicate \"{name}\" variable"))
}
