//! Request targets: a normalised copy for matching locations; the target itself is never decoded and encoded again.

use super::refusal::Refusal;

/// Appends the normalised form of a raw path to `out`: percent-decoded once, `//` merged, `.` and `..` resolved, as nginx
/// does with `merge_slashes on`. An empty path is `/`.
///
/// # Errors
/// `%00`, encoded CR or LF, a broken escape, or `..` above the root (rule 20).
pub fn normalize(_path: &[u8], _out: &mut Vec<u8>) -> Result<(), Refusal> {
    todo!()
}

/// How many bytes of the raw path stand for its normalised prefix `prefix` (`proxy_pass` with a URI replaces them).
/// `None` if that cannot be said byte for byte (dot segments or doubled slashes within it).
pub fn raw_prefix_len(_path: &[u8], _prefix: &[u8]) -> Option<usize> {
    todo!()
}
