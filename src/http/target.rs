//! Request targets: a normalised copy for matching locations; the target itself is never decoded and encoded again.

use memchr::{memchr, memmem};

use super::refusal::Refusal;

/// Appends the normalised form of a raw path to `out`: percent-decoded once, `//` merged, `.` and `..` resolved, as nginx
/// does with `merge_slashes on`; but a `%5C` counts as a slash, because IIS takes it for one. An empty path is `/`, and so is the
/// `*` of `OPTIONS *`.
///
/// # Errors
/// `%00`, encoded CR or LF, a broken escape, or `..` above the root (rule 20). What was appended is then of no use.
pub fn normalize(path: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    let root = out.len();
    match path {
        b"" | b"*" => {
            out.push(b'/');
            return Ok(());
        }
        [b'/', ..] => {}
        _ => return Err(Refusal::TargetForm),
    }
    if is_normal(path) {
        out.extend_from_slice(path);
        return Ok(());
    }
    // root < segment <= out.len(); out[segment - 1] is a slash
    out.push(b'/');
    let mut segment = root + 1;
    for byte in decoded(&path[1..]) {
        let (byte, _) = byte?;
        if matches!(byte, b'/' | b'\\') {
            segment = end_segment(out, root, segment, true)?;
        } else {
            out.push(byte);
        }
    }
    end_segment(out, root, segment, false)?;
    Ok(())
}

/// How many bytes of the raw path stand for its normalised prefix `prefix` (`proxy_pass` with a URI replaces them).
/// `None` if that cannot be said byte for byte: dot segments or doubled slashes within it, or a `..` anywhere behind it,
/// which would lead elsewhere behind another prefix.
pub fn raw_prefix_len(path: &[u8], prefix: &[u8]) -> Option<usize> {
    let mut bytes = decoded(path);
    let mut raw_len = 0;
    for &wanted in prefix {
        let (byte, len) = bytes.next()?.ok()?;
        if byte != wanted {
            return None;
        }
        raw_len += len;
    }
    // Behind a prefix that ends within a segment the rest of it may become a segment of its own.
    let leads_up = |path: &[u8]| {
        let mut segment = SegmentDots::default();
        for byte in decoded(path) {
            if segment.ends_as_parent(Some(byte.ok()?.0)) {
                return Some(true);
            }
        }
        Some(segment.ends_as_parent(None))
    };
    (!leads_up(path)? && !leads_up(&path[raw_len..])?).then_some(raw_len)
}

/// The value of the argument called `name` in a query, for `$arg_NAME`: as nginx, without regard to case, and only if a
/// `=` follows the name.
pub fn argument<'a>(query: &'a [u8], name: &str) -> Option<&'a [u8]> {
    query.split(|&byte| byte == b'&').find_map(|pair| {
        let equals = memchr(b'=', pair)?;
        let is_it = pair[..equals].eq_ignore_ascii_case(name.as_bytes());
        is_it.then(|| &pair[equals + 1..])
    })
}

/// Whether a path is its own normalised form, as nearly every one is. Also says no for names that begin with a dot.
fn is_normal(path: &[u8]) -> bool {
    memchr(b'%', path).is_none()
        && memmem::find(path, b"/.").is_none()
        && memmem::find(path, b"//").is_none()
}

/// Ends the segment that begins at `out[segment]`, with or without a slash behind it. Returns where the next one begins.
fn end_segment(
    out: &mut Vec<u8>,
    root: usize,
    segment: usize,
    slash: bool,
) -> Result<usize, Refusal> {
    match &out[segment..] {
        b"" | b"." => out.truncate(segment),
        b".." => {
            let parent = out[root..segment - 1]
                .iter()
                .rposition(|&byte| byte == b'/')
                .ok_or(Refusal::PathAboveRoot)?;
            out.truncate(root + parent + 1);
        }
        _ if slash => out.push(b'/'),
        _ => {}
    }
    Ok(out.len())
}

/// The bytes of a path, percent-decoded, each with the number of raw bytes that it takes.
fn decoded(path: &[u8]) -> impl Iterator<Item = Result<(u8, usize), Refusal>> {
    let mut rest = path;
    std::iter::from_fn(move || {
        let (&byte, after) = rest.split_first()?;
        if byte != b'%' {
            rest = after;
            return Some(Ok((byte, 1)));
        }
        let digit = |index: usize| char::from(*after.get(index)?).to_digit(16);
        Some(match (digit(0), digit(1)) {
            (Some(high), Some(low)) => {
                rest = &after[2..];
                match (high << 4 | low) as u8 {
                    0 | b'\r' | b'\n' => Err(Refusal::PathByte),
                    byte => Ok((byte, 3)),
                }
            }
            _ => Err(Refusal::PathEscape),
        })
    })
}

/// Finds segments that are `..` in decoded bytes.
#[derive(Default)]
struct SegmentDots {
    dots: u8,
    others: bool,
}

impl SegmentDots {
    /// Takes the next byte, or the end; says whether a segment that is `..` ends before it.
    fn ends_as_parent(&mut self, byte: Option<u8>) -> bool {
        match byte {
            Some(b'/' | b'\\') | None => {
                let is_parent = self.dots == 2 && !self.others;
                *self = Self::default();
                return is_parent;
            }
            Some(b'.') if self.dots < 2 => self.dots += 1,
            Some(_) => self.others = true,
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn normalized(path: &str) -> Result<String, Refusal> {
        let mut out = b"kept".to_vec();
        normalize(path.as_bytes(), &mut out)?;
        let out = String::from_utf8_lossy(&out).into_owned();
        Ok(out
            .strip_prefix("kept")
            .expect("what was there stays")
            .to_owned())
    }

    #[test]
    fn rule_20_paths_are_normalised() {
        let table: &[(&str, &str)] = &[
            ("", "/"),
            ("*", "/"),
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("//", "/"),
            ("//a///b//", "/a/b/"),
            ("/.", "/"),
            ("/./", "/"),
            ("/a/.", "/a/"),
            ("/a/./b", "/a/b"),
            ("/a/..", "/"),
            ("/a/../", "/"),
            ("/a/b/..", "/a/"),
            ("/a/b/../c", "/a/c"),
            ("/a/b/../../c", "/c"),
            ("/a//../b", "/b"),
            ("/...", "/..."),
            ("/.a/..b/c./d..", "/.a/..b/c./d.."),
            ("/%61", "/a"),
            ("/%2e/a", "/a"),
            ("/a/%2E%2e/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/a%2fb", "/a/b"),
            ("/a%2F%2fb", "/a/b"),
            ("/a%2f..%2fb", "/b"),
            ("/a%5cb%5C%5c", "/a/b/"),
            ("/a%5c..%5cb", "/b"),
            ("/a/..%5cb", "/b"),
            ("/%2561", "/%61"),
            ("/%252e%252e/a", "/%2e%2e/a"),
            ("/a%3Fb%23c%25", "/a?b#c%"),
            ("/a%20b+c", "/a b+c"),
            ("/%09", "/\t"),
            ("/\u{fc}", "/\u{fc}"),
            ("/%c3%bc", "/\u{fc}"),
        ];
        for (path, expected) in table {
            assert_eq!(normalized(path).as_deref(), Ok(*expected), "{path}");
        }
    }

    #[test]
    fn rule_20_paths_are_refused() {
        use Refusal::{PathAboveRoot, PathByte, PathEscape, TargetForm};
        let table: &[(&str, Refusal)] = &[
            ("/%00", PathByte),
            ("/a%0ab", PathByte),
            ("/a%0Db", PathByte),
            ("/%", PathEscape),
            ("/%4", PathEscape),
            ("/%4g", PathEscape),
            ("/%%41", PathEscape),
            ("/%+1", PathEscape),
            ("/%u0041", PathEscape),
            ("/..", PathAboveRoot),
            ("/../a", PathAboveRoot),
            ("/a/../..", PathAboveRoot),
            ("/a/../../b", PathAboveRoot),
            ("/%2e%2e/", PathAboveRoot),
            ("//..", PathAboveRoot),
            ("/..%5c", PathAboveRoot),
            ("a", TargetForm),
            ("%2Fa", TargetForm),
        ];
        for (path, expected) in table {
            assert_eq!(normalized(path), Err(*expected), "{path}");
        }
    }

    #[test]
    fn raw_prefixes_are_measured() {
        let table: &[(&str, &str, Option<usize>)] = &[
            ("/app/x", "/app/", Some(5)),
            ("/app/", "/app/", Some(5)),
            ("/app", "/app/", None),
            ("/%61pp/x", "/app/", Some(7)),
            ("/app%2fx", "/app/", Some(7)),
            ("/app//x", "/app/", Some(5)),
            ("/app/./x", "/app/", Some(5)),
            ("/app/x..", "/app/", Some(5)),
            ("/app/x%5cy", "/app/", Some(5)),
            ("/app%5cx", "/app/", None),
            ("/app/x%5c..%5cy", "/app/", None),
            ("/app/...", "/app/", Some(5)),
            ("//app/x", "/app/", None),
            ("/./app/x", "/app/", None),
            ("/x/../app/y", "/app/", None),
            ("/app/../app/y", "/app/", None),
            ("/app/x/..", "/app/", None),
            ("/app/x/%2e%2E/y", "/app/", None),
            ("/app/%", "/app/", None),
            ("/app../x", "/app", None),
            ("/app%2e%2E", "/app", None),
            ("/app.x", "/app", Some(4)),
            ("/app./x", "/app", Some(4)),
            ("/x", "/", Some(1)),
            ("/x", "", Some(0)),
        ];
        for (path, prefix, expected) in table {
            let found = raw_prefix_len(path.as_bytes(), prefix.as_bytes());
            assert_eq!(found, *expected, "{path} {prefix}");
        }
    }

    #[test]
    fn arguments_are_found() {
        let table: &[(&str, &str, Option<&str>)] = &[
            ("a=1&b=2", "a", Some("1")),
            ("a=1&b=2", "b", Some("2")),
            ("A=1", "a", Some("1")),
            ("ab=1", "b", None),
            ("a", "a", None),
            ("a&a=2", "a", Some("2")),
            ("a=", "a", Some("")),
            ("a=b=c", "a", Some("b=c")),
            ("", "a", None),
        ];
        for (query, name, expected) in table {
            let found = argument(query.as_bytes(), name);
            assert_eq!(found, expected.map(str::as_bytes), "{query} {name}");
        }
    }

    proptest! {
        #[test]
        fn a_normal_path_has_no_dots_and_no_doubled_slashes(path in "/([./a]|%2[eEfF]|%61){0,12}") {
            if let Ok(normal) = normalized(&path) {
                prop_assert!(normal.starts_with('/'));
                prop_assert!(!normal.contains("//"));
                prop_assert!(normal.split('/').all(|segment| segment != "." && segment != ".."));
                prop_assert_eq!(normalized(&normal), Ok(normal));
            }
        }

        #[test]
        fn a_raw_prefix_stands_for_its_prefix(path in "/([./a]|%2[eEfF]|%61){0,12}") {
            if let (Ok(normal), Some(n)) = (normalized(&path), raw_prefix_len(path.as_bytes(), b"/a/")) {
                prop_assert!(normal.starts_with("/a/"));
                let rest = normalized(&format!("/{}", &path[n..])).expect("no way above the root");
                prop_assert_eq!(&normal[2..], rest);
            }
        }
    }
}
