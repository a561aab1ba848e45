//! Strings with variables, and `map`.

use regex::bytes::{Captures, Regex};

use super::names::Hosts;
use super::variable::Variable;

/// Gives variables their values.
pub trait Lookup {
    /// Appends the value and returns true, or returns false if the variable has none here.
    fn append(&self, variable: &Variable, out: &mut Vec<u8>) -> bool;
}

/// Part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Bytes as they are.
    Literal(String),
    /// A variable's value.
    Variable(Variable),
}

/// A string with variables, parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    /// Its parts; no two literals in a row, none empty.
    pub parts: Vec<Part>,
}

impl Template {
    /// A template without variables.
    pub fn from_literal(text: &str) -> Self {
        let parts = if text.is_empty() {
            vec![]
        } else {
            vec![Part::Literal(text.to_owned())]
        };
        Self { parts }
    }

    /// Parses `$name` and `${name}`; `variable` knows the names.
    ///
    /// # Errors
    /// nginx's words.
    pub(super) fn parse(
        text: &str,
        variable: impl Fn(&str) -> Option<Variable>,
    ) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            if dollar > 0 {
                parts.push(Part::Literal(rest[..dollar].to_owned()));
            }
            rest = &rest[dollar + 1..];
            let name;
            (name, rest) = split_name(rest)?;
            let found = match name.as_bytes() {
                [digit @ b'1'..=b'9'] => Some(Variable::Capture(digit - b'0')),
                _ => variable(name),
            };
            let found = found.ok_or_else(|| format!("unknown \"{name}\" variable"))?;
            parts.push(Part::Variable(found));
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        Ok(Self { parts })
    }

    /// The text, if there is no variable in it.
    pub fn as_literal(&self) -> Option<&str> {
        match &self.parts[..] {
            [] => Some(""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// Appends the rendered text. A variable without a value is empty.
    pub fn render(&self, lookup: &dyn Lookup, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Part::Variable(variable) => {
                    lookup.append(variable, out);
                }
            }
        }
    }
}

/// Splits what follows a `$` into the name and the rest. A name that starts with a digit is that digit.
fn split_name(text: &str) -> Result<(&str, &str), String> {
    let (braced, text) = match text.strip_prefix('{') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let length = match text.as_bytes() {
        [b'1'..=b'9', ..] => 1,
        bytes => bytes.iter().take_while(|byte| is_name(byte)).count(),
    };
    let (name, rest) = text.split_at(length);
    let rest = match (braced, rest.strip_prefix('}')) {
        (true, None) => {
            return Err(format!(
                "the closing bracket in \"{name}\" variable is missing"
            ));
        }
        (true, Some(rest)) => rest,
        (false, _) => rest,
    };
    if name.is_empty() {
        return Err("invalid variable name".to_owned());
    }
    Ok((name, rest))
}

/// A `map` block. (Fields are the config room's own.)
#[derive(Debug)]
pub struct Map {
    /// What is looked up.
    pub source: Template,
    /// Exact keys in lower case and, with `hostnames`, wildcards.
    pub(super) keys: Hosts<usize>,
    pub(super) hostnames: bool,
    /// In the order of the configuration.
    pub(super) regexes: Vec<(Regex, usize)>,
    /// What the others are indices into.
    pub(super) values: Vec<Template>,
    pub(super) default: Template,
}

impl Map {
    /// The template of the entry that matches `value`, as nginx orders them: exact, longest wildcard (with `hostnames`), first
    /// regex, default. [`Map::append`] also knows what the regex captured.
    pub fn find(&self, value: &[u8]) -> &Template {
        self.entry(value).0
    }

    /// Appends the map's value: renders the source, finds the entry, renders it. `$1` and the named captures of a regex
    /// entry are those of that regex; otherwise `$1` is what `lookup` has.
    pub fn append(&self, lookup: &dyn Lookup, out: &mut Vec<u8>) {
        let mut source = Vec::new();
        self.source.render(lookup, &mut source);
        let (value, regex) = self.entry(&source);
        let captured = regex.filter(|_| value.as_literal().is_none());
        match captured.and_then(|regex| regex.captures(&source)) {
            Some(captures) => value.render(&Captured { lookup, captures }, out),
            None => value.render(lookup, out),
        }
    }

    fn entry(&self, value: &[u8]) -> (&Template, Option<&Regex>) {
        let mut key = value.to_ascii_lowercase();
        if self.hostnames && key.ends_with(b".") {
            key.pop();
        }
        if let Some(&index) = self.keys.find(&key) {
            return (&self.values[index], None);
        }
        let found = self.regexes.iter().find(|(regex, _)| regex.is_match(value));
        match found {
            Some((regex, index)) => (&self.values[*index], Some(regex)),
            None => (&self.default, None),
        }
    }

    /// The maps that this one's value depends on.
    pub(super) fn depends_on(&self) -> impl Iterator<Item = usize> {
        let templates = [&self.source, &self.default]
            .into_iter()
            .chain(&self.values);
        templates
            .flat_map(|template| &template.parts)
            .filter_map(|part| match part {
                Part::Variable(Variable::Map(index)) => Some(*index),
                _ => None,
            })
    }
}

/// Values as `lookup` has them, but for what a regex of a map captured.
struct Captured<'a> {
    lookup: &'a dyn Lookup,
    captures: Captures<'a>,
}

impl Lookup for Captured<'_> {
    fn append(&self, variable: &Variable, out: &mut Vec<u8>) -> bool {
        let Variable::Capture(number) = variable else {
            return self.lookup.append(variable, out);
        };
        match self.captures.get(usize::from(*number)) {
            Some(capture) => {
                out.extend_from_slice(capture.as_bytes());
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::pattern::compile;
    use super::*;

    /// Knows `$1` and the host.
    struct Known;

    impl Lookup for Known {
        fn append(&self, variable: &Variable, out: &mut Vec<u8>) -> bool {
            match variable {
                Variable::Capture(1) => out.extend_from_slice(b"outer"),
                Variable::Host => out.extend_from_slice(b"Mail.Example.com"),
                _ => return false,
            }
            true
        }
    }

    fn variable(name: &str) -> Option<Variable> {
        Variable::builtin(name)
    }

    #[test]
    fn parsing() {
        use Part::{Literal, Variable as Var};
        let text = |text: &str| Literal(text.to_owned());
        for (template, expected) in [
            ("", vec![]),
            ("abc", vec![text("abc")]),
            ("$host", vec![Var(Variable::Host)]),
            ("$HOST", vec![Var(Variable::Host)]),
            ("a${host}b", vec![text("a"), Var(Variable::Host), text("b")]),
            (
                "$host:$host",
                vec![Var(Variable::Host), text(":"), Var(Variable::Host)],
            ),
            ("$10", vec![Var(Variable::Capture(1)), text("0")]),
            ("$http_x_y", vec![Var(Variable::Http("x-y".to_owned()))]),
        ] {
            let parsed = Template::parse(template, variable).map(|t| t.parts);
            assert_eq!(parsed, Ok(expected), "{template}");
        }
        for (template, expected) in [
            ("$", "invalid variable name"),
            ("a$ b", "invalid variable name"),
            ("$$host", "invalid variable name"),
            ("${}", "invalid variable name"),
            (
                "${host",
                "the closing bracket in \"host\" variable is missing",
            ),
            ("$nonsense", "unknown \"nonsense\" variable"),
            ("$0", "unknown \"0\" variable"),
        ] {
            let error = Template::parse(template, variable).unwrap_err();
            assert_eq!(error, expected, "{template}");
        }
    }

    #[test]
    fn maps() {
        let mut keys = Hosts::default();
        keys.insert("*.example.com", 0).unwrap();
        keys.insert("mail", 1).unwrap();
        let template = |text| Template::parse(text, variable).unwrap();
        let map = Map {
            source: template("$host"),
            keys,
            hostnames: true,
            regexes: vec![(compile("^x(.*)", false).unwrap(), 2)],
            values: vec![template("wild $1"), template("exact"), template("regex $1")],
            default: template("default"),
        };
        for (value, expected) in [
            ("A.example.COM", "wild $1"),
            ("MAIL", "exact"),
            ("mail.", "exact"),
            ("xyz", "regex $1"),
            ("Xyz", "default"),
            ("", "default"),
        ] {
            assert_eq!(map.find(value.as_bytes()), &template(expected), "{value}");
        }
        for (source, expected) in [
            ("$host", "wild outer"),
            ("xyz", "regex yz"),
            ("", "default"),
        ] {
            let map = Map {
                source: template(source),
                keys: map.keys.clone(),
                regexes: map.regexes.clone(),
                values: map.values.clone(),
                default: map.default.clone(),
                ..map
            };
            let mut out = Vec::new();
            map.append(&Known, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected);
        }
    }
}
