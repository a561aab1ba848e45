//! Strings with variables, and `map`.

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

/// A `map` block. (Fields are the config room's own.)
#[derive(Debug)]
pub struct Map {
    /// What is looked up.
    pub source: Template,
}

impl Map {
    /// The template of the entry that matches `value`, as nginx orders them: exact, longest wildcard (with `hostnames`), first
    /// regex, default.
    pub fn find(&self, _value: &[u8]) -> &Template {
        todo!()
    }
}
