//! `status`: a page for people, and what it is made from as JSON.
//!
//! The page is one document without any resource beside it. Every second it asks where it came from for `?format=json` and shows
//! what has changed; rates are its own to compute, so that nothing is kept here for it.

mod document;
mod findings;

use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha256};

use super::figures::Figures;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// What is shown beside the figures.
pub struct Context<'a> {
    /// The machine's name.
    pub host: &'a str,
    /// `worker_connections`
    pub connections: usize,
    /// Since 1970.
    pub now: Duration,
}

/// The figures as JSON.
pub fn json(figures: &Figures, context: &Context<'_>) -> String {
    document::render(figures, context)
}

/// The page, and the fields that go with it.
pub fn page() -> &'static Page {
    static MADE: LazyLock<Page> = LazyLock::new(|| Page {
        content: PAGE
            .replace("/*STYLE*/", STYLE)
            .replace("/*SCRIPT*/", SCRIPT),
        fields: format!(
            "Content-Security-Policy: default-src 'none'; style-src '{}'; script-src '{}'; img-src data:; connect-src 'self'; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n\
             Referrer-Policy: no-referrer\r\n{JSON_FIELDS}",
            hash(STYLE),
            hash(SCRIPT)
        ),
    });
    &MADE
}

/// The fields that go with the JSON.
pub const JSON_FIELDS: &str = "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n";

/// A page with the fields of its answer.
pub struct Page {
    /// HTML
    pub content: String,
    /// Whole lines: a policy that allows what is in the page and nothing else (CSP Level 3).
    pub fields: String,
}

/// How a policy names what is inline.
fn hash(inline: &str) -> String {
    format!("sha256-{}", BASE64_STANDARD.encode(Sha256::digest(inline)))
}

#[cfg(test)]
mod tests;
