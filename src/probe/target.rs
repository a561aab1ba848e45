//! What is probed: a URL taken apart.

use std::fmt;

use http::Uri;
use http::uri::Scheme;

/// Where a URL leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `https`
    pub tls: bool,
    /// A name or an address; of IPv6 without brackets.
    pub host: String,
    /// The scheme's own unless the URL names one.
    pub port: u16,
    /// With the query; at least `/`.
    pub path: String,
}

/// Why a text is not taken for a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetError {
    /// It is none, or not of `http` or `https`.
    NoUrl,
    /// It names a user.
    User,
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoUrl => "it must be http://host[:port][/path] or https://…",
            Self::User => {
                "a user belongs behind -u, and a password on no command line: it is asked for"
            }
        })
    }
}

impl std::error::Error for TargetError {}

impl Target {
    /// Takes a URL apart.
    ///
    /// # Errors
    /// It is none of a web server, or it names a user.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        let uri: Uri = text.parse().map_err(|_| TargetError::NoUrl)?;
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(TargetError::NoUrl),
        };
        let authority = uri.authority().ok_or(TargetError::NoUrl)?;
        if authority.as_str().contains('@') {
            return Err(TargetError::User);
        }
        let host = authority.host();
        let host = host.strip_prefix('[').unwrap_or(host);
        let host = host.strip_suffix(']').unwrap_or(host);
        // A port that is none, or too large, is not there for `port_u16`.
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            None if authority.as_str().ends_with(':') || has_bad_port(authority.as_str()) => {
                return Err(TargetError::NoUrl);
            }
            None => default_port(tls),
        };
        if host.is_empty() || port == 0 {
            return Err(TargetError::NoUrl);
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            tls,
            host: host.to_ascii_lowercase(),
            port,
            path: match path.starts_with('/') {
                true => path.to_owned(),
                // `http://host?query`
                false => format!("/{path}"),
            },
        })
    }

    /// What `Host` says.
    pub fn authority(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        match self.port == default_port(self.tls) {
            true => host,
            false => format!("{host}:{}", self.port),
        }
    }

    /// The URL that a `Location` means which was answered for this one (RFC 3986 section 5.2, without dots).
    pub(super) fn resolve(&self, location: &str) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        if location.contains("://") {
            location.to_owned()
        } else if location.starts_with("//") {
            format!("{scheme}:{location}")
        } else if location.starts_with('/') {
            format!("{scheme}://{}{location}", self.authority())
        } else {
            let path = self.path.split('?').next().unwrap_or_default();
            let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
            format!("{scheme}://{}{directory}/{location}", self.authority())
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

/// Whether something stands where a port does that is no port.
fn has_bad_port(authority: &str) -> bool {
    let behind_host = match authority.rsplit_once(']') {
        Some((_, rest)) => rest,
        None => authority,
    };
    behind_host.contains(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations() {
        let target = Target::parse("https://mail.test:444/owa/x?y=/z").unwrap();
        for (location, expected) in [
            ("http://other/a", "http://other/a"),
            ("//other/a", "https://other/a"),
            ("/a", "https://mail.test:444/a"),
            ("a", "https://mail.test:444/owa/a"),
            ("", "https://mail.test:444/owa/"),
        ] {
            assert_eq!(target.resolve(location), expected, "{location}");
        }
    }

    #[test]
    fn urls() {
        let target = |tls, host: &str, port, path: &str| {
            Ok(Target {
                tls,
                host: host.to_owned(),
                port,
                path: path.to_owned(),
            })
        };
        for (text, expected, shown) in [
            (
                "http://mail",
                target(false, "mail", 80, "/"),
                "http://mail/",
            ),
            (
                "HTTPS://Mail.Test/EWS/a?b=c#d",
                target(true, "mail.test", 443, "/EWS/a?b=c"),
                "https://mail.test/EWS/a?b=c",
            ),
            (
                "https://mail:8443/",
                target(true, "mail", 8443, "/"),
                "https://mail:8443/",
            ),
            (
                "http://[::1]:8080/x",
                target(false, "::1", 8080, "/x"),
                "http://[::1]:8080/x",
            ),
            (
                "http://[::1]",
                target(false, "::1", 80, "/"),
                "http://[::1]/",
            ),
            ("http://a?b", target(false, "a", 80, "/?b"), "http://a/?b"),
            ("http://u:p@a/", Err(TargetError::User), ""),
            ("https://u@a", Err(TargetError::User), ""),
            ("mail.test", Err(TargetError::NoUrl), ""),
            ("mail.test/ews", Err(TargetError::NoUrl), ""),
            ("ftp://a/", Err(TargetError::NoUrl), ""),
            ("http://", Err(TargetError::NoUrl), ""),
            ("http://:80/", Err(TargetError::NoUrl), ""),
            ("http://a:0/", Err(TargetError::NoUrl), ""),
            ("http://a:65536/", Err(TargetError::NoUrl), ""),
            ("http://a:/", Err(TargetError::NoUrl), ""),
            ("http://a/\r\nX: y", Err(TargetError::NoUrl), ""),
            ("", Err(TargetError::NoUrl), ""),
        ] {
            let parsed = Target::parse(text);
            assert_eq!(parsed, expected, "{text:?}");
            if let Ok(target) = parsed {
                assert_eq!(target.to_string(), shown);
            }
        }
    }
}
