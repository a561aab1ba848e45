//! The lines of the access log.

use crate::config::model::{Escape, LogFormat};
use crate::config::template::{Lookup, Part};

use super::escape::escape_from;

/// Appends a line without its newline. As in nginx, a variable without a value is `-` in the default escaping and nothing
/// in the others.
pub fn render(format: &LogFormat, lookup: &dyn Lookup, out: &mut Vec<u8>) {
    for part in &format.template.parts {
        match part {
            Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
            Part::Variable(variable) => {
                let start = out.len();
                if lookup.append(variable, out) {
                    if !variable.is_plain() {
                        escape_from(start, format.escape, out);
                    }
                } else if format.escape == Escape::Default {
                    out.push(b'-');
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::template::Template;
    use crate::config::variable::Variable;

    /// Has a `$uri`, an empty `$args` and nothing else.
    struct Request(&'static [u8]);

    impl Lookup for Request {
        fn append(&self, variable: &Variable, out: &mut Vec<u8>) -> bool {
            match variable {
                Variable::Uri => out.extend_from_slice(self.0),
                Variable::Args => {}
                _ => return false,
            }
            true
        }
    }

    fn format(escape: Escape) -> LogFormat {
        LogFormat {
            name: "main".into(),
            escape,
            template: Template {
                parts: vec![
                    Part::Literal("\"é\" ".into()),
                    Part::Variable(Variable::Uri),
                    Part::Literal(" ".into()),
                    Part::Variable(Variable::Args),
                    Part::Literal(" ".into()),
                    Part::Variable(Variable::Host),
                    Part::Literal(".".into()),
                ],
            },
        }
    }

    #[test]
    fn lines() {
        for (escape, uri, line) in [
            (Escape::Default, &b"/a\"\n"[..], "\"é\" /a\\x22\\x0A  -."),
            (Escape::Json, b"/a\"\n", "\"é\" /a\\\"\\n  ."),
            (Escape::None, b"/a\"", "\"é\" /a\"  ."),
        ] {
            let mut out = Vec::new();
            render(&format(escape), &Request(uri), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), line);
        }
    }
}
