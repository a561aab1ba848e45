//! What a parser may refuse: a closed list of reasons that are a matter of its taste, none of them of framing. Each is checked
//! against the message itself, so that a parser that stops for another reason is a failure.

use crate::case::{Case, Kind};
use crate::message::{Head, View};

/// Methods that llhttp knows for HTTP, which are all that it takes.
const LLHTTP_METHODS: &[&str] = &[
    "ACL",
    "BIND",
    "CHECKOUT",
    "CONNECT",
    "COPY",
    "DELETE",
    "GET",
    "HEAD",
    "LINK",
    "LOCK",
    "M-SEARCH",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MOVE",
    "NOTIFY",
    "OPTIONS",
    "PATCH",
    "POST",
    "PROPFIND",
    "PROPPATCH",
    "PURGE",
    "PUT",
    "QUERY",
    "REBIND",
    "REPORT",
    "SEARCH",
    "SOURCE",
    "SUBSCRIBE",
    "TRACE",
    "UNBIND",
    "UNLINK",
    "UNLOCK",
    "UNSUBSCRIBE",
];

/// Fields, not of framing, that nginx takes once; others make a list of them, or take the first or the last.
const NGINX_TAKES_ONCE: &[&str] = &[
    "if-modified-since",
    "if-unmodified-since",
    "if-match",
    "if-none-match",
    "content-range",
    "if-range",
];

/// Why a parser may have refused a case, if it refused its first message and may.
pub(crate) fn excuse(who: &str, case: &Case, view: &View) -> Option<&'static str> {
    let error = view.error.as_deref()?;
    let first = case.expected.first()?;
    if !view.messages.is_empty() || case.kind != Kind::Request {
        return None;
    }
    let (method, target) = (&*first.method, &*first.target);
    match who {
        "llhttp" if error.starts_with("HPE_INVALID_METHOD") => {
            let known = LLHTTP_METHODS
                .iter()
                .any(|known| known.as_bytes() == method);
            (!known).then_some("method that is not registered")
        }
        "llhttp" if error.starts_with("HPE_INVALID_URL") => target
            .iter()
            .any(|b| *b > 0x7e)
            .then_some("byte above 0x7e in the target"),
        // RFC 3986 has none of these in a target, browsers send some of them.
        "hyper" if error == "invalid URI" => target
            .iter()
            .any(|b| *b > 0x7e || b"\"<>\\^`{|}".contains(b))
            .then_some("byte in the target that no URI has"),
        "h11" if error.starts_with("illegal request line") => target
            .iter()
            .any(|b| !(0x21..=0x7e).contains(b))
            .then_some("byte above 0x7e in the target"),
        "nginx" if error == "400" => {
            let known = |b: &u8| b.is_ascii_uppercase() || matches!(b, b'_' | b'-');
            if !method.iter().all(known) {
                Some("method with other bytes than A-Z, _ and -")
            } else if target == b"*" {
                Some("the target *")
            } else if has_repeated_field(&case.bytes) {
                Some("field that it takes once")
            } else {
                None
            }
        }
        "nginx" if error == "405" => (method == b"TRACE").then_some("TRACE"),
        _ => None,
    }
}

fn has_repeated_field(bytes: &[u8]) -> bool {
    let Ok(Some(head)) = Head::of(bytes) else {
        return false;
    };
    NGINX_TAKES_ONCE
        .iter()
        .any(|name| head.all(name).count() > 1)
}
