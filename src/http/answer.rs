//! The front's own answers, with nginx's plain pages.

/// The reason phrase of a status, as nginx words it; empty for one that it does not know.
pub fn reason(_status: u16) -> &'static str {
    todo!()
}

/// Appends nginx's plain page for an error or redirect status to `out`; `server` is the word under the rule.
/// Statuses without a page (200, 204, 304 …) append nothing.
pub fn page(_status: u16, _server: &str, _out: &mut Vec<u8>) {
    todo!()
}
