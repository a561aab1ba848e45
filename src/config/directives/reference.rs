//! `docs/directives.md`, printed from the table.

use std::fmt::Write;

use super::table::directives;
use super::{Definition, Disposition, EVENTS, MAIN, UPSTREAM};

/// The reference page in Markdown.
pub fn reference() -> String {
    let mut page = String::from(
        "# Directives\n\n\
         Generated from `src/config/directives/table.rs`; `UPDATE_DOCS=1 cargo test --lib config` writes it anew.\n\n\
         The language is nginx's: what is listed here under its name does what nginx documents. Directives that are not\n\
         on this page are refused as unknown, with the line they stand on.\n",
    );
    let main = |d: &&Definition| d.contexts.intersects(MAIN.or(EVENTS));
    let upstream = |d: &&Definition| d.contexts == UPSTREAM;
    section(&mut page, "Main and events", main);
    section(&mut page, "http, server and location", |d| {
        !main(d) && !upstream(d)
    });
    section(&mut page, "upstream", upstream);
    page.push_str(
        "\n## Accepted without effect\n\n\
         A warning at start says so once. Nothing is lost by it.\n\n\
         | directive | context | why |\n|---|---|---|\n",
    );
    for directive in directives() {
        if let Disposition::Accepted(reason) = directive.disposition {
            row(&mut page, directive, reason);
        }
    }
    page.push_str(
        "\n## Accepted with one value\n\n\
         The value describes what happens here in any case. Another value is refused.\n\n\
         | directive | context | why |\n|---|---|---|\n",
    );
    for directive in directives() {
        if let Disposition::Only(value, hint) = directive.disposition {
            let _ = writeln!(
                page,
                "| `{} {value}` | {} | {hint} |",
                directive.name, directive.contexts
            );
        }
    }
    page.push_str(
        "\n## Refused, with a hint\n\n\
         | directive | hint |\n|---|---|\n",
    );
    for directive in directives() {
        if let Disposition::Refused(hint) = directive.disposition {
            let _ = writeln!(page, "| `{}` | {hint} |", directive.name);
        }
    }
    page
}

/// The honoured directives that `belongs` chooses, in the table's order.
fn section(page: &mut String, title: &str, belongs: impl Fn(&&Definition) -> bool) {
    let _ = writeln!(page, "\n## {title}");
    let honoured = directives()
        .filter(|d| d.disposition == Disposition::Honoured)
        .filter(belongs);
    for directive in honoured {
        let _ = write!(page, "\n### {}\n\n`{}", directive.name, directive.name);
        if !directive.syntax.is_empty() {
            let _ = write!(page, " {}", directive.syntax);
        }
        page.push_str(match directive.arguments.block {
            Some(_) => " { … }`",
            None => ";`",
        });
        if !directive.default.is_empty() {
            let _ = write!(page, " · default `{}`", directive.default);
        }
        let _ = writeln!(page, " · {}\n\n{}", directive.contexts, directive.doc);
    }
}

fn row(page: &mut String, directive: &Definition, reason: &str) {
    let _ = writeln!(
        page,
        "| `{}` | {} | {reason} |",
        directive.name, directive.contexts
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/directives.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, reference()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == reference(),
            "docs/directives.md is out of date: UPDATE_DOCS=1 cargo test --lib config"
        );
    }
}
