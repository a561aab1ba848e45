//! What a parser may refuse: a closed list of reasons that are a matter of its taste, none of them of framing. Each is checked
//! against the message itself, so that a parser that stops for another reason is a failure.

use crate::case::{Case, Kind};
use crate::message::View;

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
            } else {
                None
            }
        }
        "nginx" if error == "405" => (method == b"TRACE").then_some("TRACE"),
        _ => None,
    }
}
