//! Regular expressions of server names, locations and maps.

use regex::bytes::{Regex, RegexBuilder};

use super::variable::UserVariable;

/// A regular expression and the variables that its named captures assign.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    regex: Regex,
    /// Numbers of named groups, and whom they assign.
    assigns: Vec<(usize, UserVariable)>,
}

impl Pattern {
    /// `variable` knows the named captures.
    pub(super) fn new(regex: Regex, variable: impl Fn(&str) -> Option<UserVariable>) -> Self {
        let assigns = regex
            .capture_names()
            .enumerate()
            .filter_map(|(group, name)| Some((group, variable(name?)?)))
            .collect();
        Self { regex, assigns }
    }

    /// Whether `text` matches. If so, `captures` becomes `$1` and so on (its first is `$1`), and the named captures are
    /// assigned; a group that took no part is empty.
    pub(super) fn matches(
        &self,
        text: &[u8],
        captures: &mut Vec<Vec<u8>>,
        assign: &mut dyn FnMut(UserVariable, &[u8]),
    ) -> bool {
        if self.regex.captures_len() == 1 {
            let matches = self.regex.is_match(text);
            if matches {
                captures.clear();
            }
            return matches;
        }
        let Some(found) = self.regex.captures(text) else {
            return false;
        };
        let group = |number| found.get(number).map_or(&[][..], |group| group.as_bytes());
        captures.clear();
        captures.extend((1..found.len()).map(|number| group(number).to_vec()));
        for &(number, variable) in &self.assigns {
            assign(variable, group(number));
        }
        true
    }
}

/// Compiles a regular expression over bytes: `.`, `\w` and the like mean bytes, as PCRE without UTF mode has it.
///
/// # Errors
/// One line that says what is wrong. Look-around and backreferences are; they could take exponential time.
pub(super) fn compile(pattern: &str, ignore_case: bool) -> Result<Regex, String> {
    RegexBuilder::new(pattern)
        .unicode(false)
        .case_insensitive(ignore_case)
        .build()
        .map_err(|error| {
            let text = error.to_string();
            // A syntax error is a drawing of several lines, the last of which says what it is.
            let reason = text.lines().last().unwrap_or_default();
            let reason = reason.strip_prefix("error: ").unwrap_or(reason);
            format!("regular expression \"{pattern}\" cannot be used: {reason}")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captures() {
        let regex = compile(r"^/(?<user>\w+)/(x)?(.*)$", true).unwrap();
        let pattern = Pattern::new(regex, |name| (name == "user").then_some(7));
        let mut captures = vec![b"old".to_vec()];
        let mut assigned = Vec::new();
        let mut assign = |variable, value: &[u8]| assigned.push((variable, value.to_vec()));
        assert!(!pattern.matches(b"/-/", &mut captures, &mut assign));
        assert_eq!(captures, [b"old"]);
        assert!(pattern.matches(b"/Ann/\xff", &mut captures, &mut assign));
        assert_eq!(captures, [&b"Ann"[..], b"", b"\xff"]);
        assert_eq!(assigned, [(7, b"Ann".to_vec())]);
        let plain = Pattern::new(compile("nn", false).unwrap(), |_| None);
        assert!(plain.matches(b"Ann", &mut captures, &mut |_, _| {}));
        assert_eq!(captures, [] as [&[u8]; 0]);
    }

    #[test]
    fn errors() {
        for (pattern, expected) in [
            (
                "(?=x)",
                "regular expression \"(?=x)\" cannot be used: look-around, including look-ahead and look-behind, is not supported",
            ),
            (
                r"(a)\1",
                "regular expression \"(a)\\1\" cannot be used: backreferences are not supported",
            ),
            (
                "(",
                "regular expression \"(\" cannot be used: unclosed group",
            ),
        ] {
            assert_eq!(compile(pattern, false).unwrap_err(), expected);
        }
        for pattern in [
            r"\.asmx$",
            r"^/a\/b",
            "^/ä",
            r"(?i)x",
            r"(?P<n>.)",
            r"[^/]+\d{1,3}",
        ] {
            compile(pattern, false).unwrap();
        }
    }
}
