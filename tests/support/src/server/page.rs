//! What each path does. Every path exists below `/private` too.

use std::str::FromStr;
use std::time::Duration;

/// The behaviour that a path asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// `/`: a greeting, for people who try the demo.
    Home,
    /// `/whoami`: the identity, or `anonymous`.
    Whoami,
    /// `/echo`, `/continue`: the head as it came, the length and SHA-256 of the body.
    Echo,
    /// `/mirror`: the body, while it comes.
    Mirror,
    /// `/bytes/N`: so many bytes.
    Bytes(u64),
    /// `/chunked/N`: so many bytes in chunks.
    Chunked(u64),
    /// `/close/N`: so many bytes, ended by the close.
    Close(u64),
    /// `/cut/N`: announces so many bytes, sends half of them and closes.
    Cut(u64),
    /// `/headers/N`: a head with so many bytes of fields.
    Headers(usize),
    /// `/status/N`, `/204`, `/304`: that status.
    Status(u16),
    /// `/slow/MS`: answers after so long.
    Slow(Duration),
    /// `/linger/MS`: answers, and closes the idle connection after so long without having announced it.
    Linger(Duration),
    /// `/early/N`: that status at once; the body is read after it.
    Early(u16),
    /// `/early-close/N`: that status at once, and the connection is closed without reading the body.
    EarlyClose(u16),
    /// `/continue/N`: that status in place of 100, and the connection is closed.
    NoContinue(u16),
    /// `/upgrade`: 101 to whatever protocol is asked for, then every byte comes back.
    Upgrade,
    /// `/redirect`: 302 to `/whoami` of this very host, as an absolute URL.
    Redirect,
    /// `/hints`: 103, then 200.
    Hints,
    /// `/extra`: a complete answer with bytes after it that nobody asked for.
    Extra,
    /// `/drop`: closes without an answer.
    Drop,
    /// Any other path: 404.
    Missing,
}

impl Page {
    /// The page at a target, query or not.
    pub(super) fn at(target: &str) -> Self {
        let path = path(target);
        let path = path
            .strip_prefix("/private")
            .filter(|_| is_private(target))
            .unwrap_or(path);
        let mut parts = path.trim_matches('/').splitn(2, '/');
        let name = parts.next().unwrap_or_default();
        let Some(argument) = parts.next() else {
            return match name {
                "" => Self::Home,
                "whoami" => Self::Whoami,
                "echo" | "continue" => Self::Echo,
                "mirror" => Self::Mirror,
                "204" => Self::Status(204),
                "304" => Self::Status(304),
                "early" => Self::Early(401),
                "upgrade" => Self::Upgrade,
                "redirect" => Self::Redirect,
                "hints" => Self::Hints,
                "extra" => Self::Extra,
                "drop" => Self::Drop,
                _ => Self::Missing,
            };
        };
        match name {
            "bytes" => number(argument).map(Self::Bytes),
            "chunked" => number(argument).map(Self::Chunked),
            "close" => number(argument).map(Self::Close),
            "cut" => number(argument).map(Self::Cut),
            "headers" => number(argument).map(Self::Headers),
            "slow" => number(argument).map(Duration::from_millis).map(Self::Slow),
            "linger" => number(argument)
                .map(Duration::from_millis)
                .map(Self::Linger),
            "status" => status(argument).map(Self::Status),
            "early" => status(argument).map(Self::Early),
            "early-close" => status(argument).map(Self::EarlyClose),
            "continue" => status(argument).map(Self::NoContinue),
            _ => None,
        }
        .unwrap_or(Self::Missing)
    }

    /// Whether it has plans of its own for the request's body; for the others it is read and forgotten first.
    pub(super) fn reads_the_body(self) -> bool {
        matches!(
            self,
            Self::Echo
                | Self::Mirror
                | Self::Early(_)
                | Self::EarlyClose(_)
                | Self::NoContinue(_)
                | Self::Drop
        )
    }
}

/// Whether a target is `/private` or below it.
pub(super) fn is_private(target: &str) -> bool {
    path(target)
        .strip_prefix("/private")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn path(target: &str) -> &str {
    target.split('?').next().unwrap_or_default()
}

fn number<N: FromStr>(text: &str) -> Option<N> {
    text.parse().ok()
}

fn status(text: &str) -> Option<u16> {
    number(text).filter(|status| (200..600).contains(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages() {
        let cases = [
            ("/", Page::Home),
            ("/?a=/whoami", Page::Home),
            ("/private", Page::Home),
            ("/private/", Page::Home),
            ("/privateer", Page::Missing),
            ("/private/whoami?x", Page::Whoami),
            ("/bytes/17", Page::Bytes(17)),
            ("/private/bytes/17", Page::Bytes(17)),
            ("/bytes/-1", Page::Missing),
            ("/bytes", Page::Missing),
            ("/bytes/1/2", Page::Missing),
            ("/status/101", Page::Missing),
            ("/status/503", Page::Status(503)),
            ("/slow/250", Page::Slow(Duration::from_millis(250))),
            ("/continue", Page::Echo),
            ("/continue/417", Page::NoContinue(417)),
            ("/early/413", Page::Early(413)),
        ];
        for (target, expected) in cases {
            assert_eq!(Page::at(target), expected, "{target}");
        }
    }
}
