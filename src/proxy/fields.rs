//! Field lines that the front writes itself.

use crate::config::model::{AddHeader, ClientSettings, Location, Redirect, RedirectFrom};
use crate::config::template::{Lookup, Template};
use crate::http::head::{Name, Version};
use crate::http::request::RequestHead;
use crate::observe::time::with_now;

use super::request::Response;
use super::variables::View;

/// Statuses on which `add_header` without `always` adds its field (nginx documentation, `add_header`).
const ADDED_TO: [u16; 10] = [200, 201, 204, 206, 301, 302, 303, 304, 307, 308];

/// Appends a field line with a rendered value; nothing if the value is empty. False, and nothing appended, if the value has
/// a control byte in it: written out, it could be another field or another message.
pub(super) fn write(
    lines: &mut Vec<u8>,
    name: &str,
    value: &Template,
    lookup: &dyn Lookup,
) -> bool {
    let line = lines.len();
    lines.extend_from_slice(name.as_bytes());
    lines.extend_from_slice(b": ");
    let start = lines.len();
    value.render(lookup, lines);
    let clean = is_clean(&lines[start..]);
    if !clean || lines.len() == start {
        lines.truncate(line);
    } else {
        lines.extend_from_slice(b"\r\n");
    }
    clean
}

/// Whether bytes may stand in a field's value.
pub(super) fn is_clean(value: &[u8]) -> bool {
    !value.iter().any(|&b| (b < 0x20 && b != b'\t') || b == 0x7f)
}

/// Whether a field of the client is one of ours, or resembles it: a server that makes variables of fields takes one for the
/// other (rule 10).
pub(super) fn is_named(name: &[u8], ours: &str) -> bool {
    name.len() == ours.len()
        && (name.eq_ignore_ascii_case(ours.as_bytes()) || resembles(name, ours.as_bytes()))
}

#[cold]
fn resembles(name: &[u8], ours: &[u8]) -> bool {
    name.iter().zip(ours).all(|(&theirs, ours)| {
        theirs.eq_ignore_ascii_case(ours) || (theirs == b'_' && *ours == b'-')
    })
}

/// Whether a `Connection` value names `upgrade`.
pub(super) fn names_upgrade(value: &[u8]) -> bool {
    value
        .split(|&b| b == b',')
        .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
}

/// The word that `Server` and the plain pages show.
pub(super) fn server_word(client: &ClientSettings) -> &'static str {
    if client.server_tokens {
        concat!("ntlmfront/", env!("CARGO_PKG_VERSION"))
    } else {
        "ntlmfront"
    }
}

/// `Server` and `Date`, each unless the server's own is passed on.
pub(super) fn write_common(lines: &mut Vec<u8>, location: &Location, hidden: &[impl AsRef<str>]) {
    if hidden.iter().any(|name| name.as_ref() == "server") {
        lines.extend_from_slice(b"Server: ");
        lines.extend_from_slice(server_word(&location.client).as_bytes());
        lines.extend_from_slice(b"\r\n");
    }
    if hidden.iter().any(|name| name.as_ref() == "date") {
        write_date(lines);
    }
}

/// `Date` (RFC 9110 section 6.6.1).
pub(super) fn write_date(lines: &mut Vec<u8>) {
    lines.extend_from_slice(b"Date: ");
    with_now(|stamps| lines.extend_from_slice(stamps.http_date().as_bytes()));
    lines.extend_from_slice(b"\r\n");
}

/// `Connection` and `Keep-Alive`, where they say more than the version does.
pub(super) fn write_connection(
    lines: &mut Vec<u8>,
    head: &RequestHead,
    client: &ClientSettings,
    keep: bool,
) {
    if !keep {
        lines.extend_from_slice(b"Connection: close\r\n");
        return;
    }
    if head.version == Version::Http10 || client.keepalive_header.is_some() {
        lines.extend_from_slice(b"Connection: keep-alive\r\n");
    }
    if let Some(timeout) = client.keepalive_header {
        lines
            .extend_from_slice(format!("Keep-Alive: timeout={}\r\n", timeout.as_secs()).as_bytes());
    }
}

/// `add_header`
pub(super) fn write_added(
    lines: &mut Vec<u8>,
    added: &[AddHeader],
    status: u16,
    lookup: &dyn Lookup,
) {
    for header in added
        .iter()
        .filter(|header| header.always || ADDED_TO.contains(&status))
    {
        // A value that cannot stand in a field is left out: the answer itself is right.
        write(lines, &header.name, &header.value, lookup);
    }
}

/// Whether `proxy_redirect` may change a field.
pub(super) fn is_redirect(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"location") || name.eq_ignore_ascii_case(b"refresh")
}

/// `Location` and `Refresh` of the response, changed as `proxy_redirect` says.
pub(super) fn write_redirected(lines: &mut Vec<u8>, redirects: &[Redirect], view: &View<'_>) {
    if redirects.is_empty() {
        return;
    }
    let Response { bytes, head, .. } = view.request.response();
    for field in &head.fields {
        let value = field.value.of(bytes);
        // `Refresh: 5; url=http://…`: what stands before the URL stays.
        let url_at = match field.known {
            Name::Location => 0,
            Name::Refresh => memchr::memmem::find(value, b"url=").map_or(0, |at| at + 4),
            _ => continue,
        };
        lines.extend_from_slice(field.name.of(bytes));
        lines.extend_from_slice(b": ");
        lines.extend_from_slice(&value[..url_at]);
        let url = lines.len();
        let changed = redirects
            .iter()
            .any(|redirect| redirected(lines, redirect, &value[url_at..], view));
        if !changed || !is_clean(&lines[url..]) {
            lines.truncate(url);
            lines.extend_from_slice(&value[url_at..]);
        }
        lines.extend_from_slice(b"\r\n");
    }
}

/// Appends the changed URL if the rule matches it.
fn redirected(lines: &mut Vec<u8>, redirect: &Redirect, url: &[u8], view: &View<'_>) -> bool {
    match &redirect.from {
        RedirectFrom::Prefix(prefix) => {
            let mut from = Vec::new();
            prefix.render(view, &mut from);
            let Some(rest) = url.strip_prefix(&from[..]) else {
                return false;
            };
            redirect.to.render(view, lines);
            lines.extend_from_slice(rest);
            true
        }
        RedirectFrom::Regex(regex) => {
            let Some(found) = regex.captures(url) else {
                return false;
            };
            redirect.to.render(
                &WithCaptures {
                    view,
                    found: &found,
                },
                lines,
            );
            true
        }
    }
}

/// The variables of a request with the captures of another regex.
struct WithCaptures<'a> {
    view: &'a View<'a>,
    found: &'a regex::bytes::Captures<'a>,
}

impl Lookup for WithCaptures<'_> {
    fn append(&self, variable: &crate::config::variable::Variable, out: &mut Vec<u8>) -> bool {
        match variable {
            crate::config::variable::Variable::Capture(n) => {
                match self.found.get(usize::from(*n)) {
                    Some(group) => {
                        out.extend_from_slice(group.as_bytes());
                        true
                    }
                    None => false,
                }
            }
            other => self.view.append(other, out),
        }
    }
}
