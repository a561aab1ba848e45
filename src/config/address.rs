//! `host:port`, `[v6]:port` and `unix:path`, as nginx reads them.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use super::Resolve;
use super::model::PeerAddress;

/// Longest path of a unix socket: what `sockaddr_un` holds, less the ending zero.
const MAX_UNIX_PATH: usize = 107;

/// An address as written, not resolved yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) host: Host,
    /// `None`: not said.
    pub(super) port: Option<u16>,
    /// What follows the address, from its `/` or `?` on; empty if nothing does.
    pub(super) uri: String,
}

/// The host of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// A name, in lower case.
    Name(String),
    Ip(IpAddr),
    Unix(PathBuf),
}

impl Address {
    /// Reads `host[:port]` or `unix:path`; `with_uri` allows a URI behind it.
    ///
    /// # Errors
    /// nginx's words.
    pub(super) fn parse(text: &str, with_uri: bool) -> Result<Self, &'static str> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Self::parse_unix(path, with_uri);
        }
        let (authority, uri) = match text.find(['/', '?']) {
            Some(_) if !with_uri => return Err("invalid host"),
            Some(at) => text.split_at(at),
            None => (text, ""),
        };
        if let Some(v6) = authority.strip_prefix('[') {
            let (address, port) = v6.split_once(']').ok_or("invalid host")?;
            let port = match (port.strip_prefix(':'), port) {
                (Some(port), _) => Some(parse_port(port)?),
                (None, "") => None,
                (None, _) => return Err("invalid host"),
            };
            let address: Ipv6Addr = address.parse().map_err(|_| "invalid IPv6 address")?;
            return Ok(Self {
                host: Host::Ip(address.into()),
                port,
                uri: uri.to_owned(),
            });
        }
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, Some(parse_port(port)?)),
            None => (authority, None),
        };
        if host.is_empty() {
            return Err("no host");
        }
        let host = match host.parse() {
            Ok(address) => Host::Ip(IpAddr::V4(address)),
            Err(_) => Host::Name(host.to_ascii_lowercase()),
        };
        Ok(Self {
            host,
            port,
            uri: uri.to_owned(),
        })
    }

    fn parse_unix(text: &str, with_uri: bool) -> Result<Self, &'static str> {
        let (path, uri) = match text.split_once(':') {
            Some((path, uri)) if with_uri => (path, uri),
            _ => (text, ""),
        };
        match path.len() {
            0 => Err("no path in the unix domain socket"),
            1..=MAX_UNIX_PATH => Ok(Self {
                host: Host::Unix(PathBuf::from(path)),
                port: None,
                uri: uri.to_owned(),
            }),
            _ => Err("too long path in the unix domain socket"),
        }
    }

    /// The addresses that this one stands for.
    ///
    /// # Errors
    /// `host not found`
    pub(super) fn resolve(
        &self,
        default_port: u16,
        resolver: &dyn Resolve,
    ) -> Result<Vec<PeerAddress>, &'static str> {
        let port = self.port.unwrap_or(default_port);
        let inet = |ip: IpAddr| PeerAddress::Inet(SocketAddr::new(ip, port));
        match &self.host {
            Host::Unix(path) => Ok(vec![PeerAddress::Unix(path.clone())]),
            Host::Ip(ip) => Ok(vec![inet(*ip)]),
            Host::Name(name) => match resolver.resolve(name) {
                Ok(found) if !found.is_empty() => Ok(found.into_iter().map(inet).collect()),
                _ => Err("host not found"),
            },
        }
    }

    /// The host as it stands in a URL.
    pub(super) fn host_text(&self) -> String {
        match &self.host {
            Host::Name(name) => name.clone(),
            Host::Ip(IpAddr::V6(ip)) => format!("[{ip}]"),
            Host::Ip(ip) => ip.to_string(),
            Host::Unix(path) => format!("unix:{}", path.display()),
        }
    }
}

/// 0 is allowed: for a listener the kernel chooses, and a server cannot have it.
fn parse_port(text: &str) -> Result<u16, &'static str> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("invalid port");
    }
    text.parse().map_err(|_| "invalid port")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("10.0.0.1", Ok(("10.0.0.1", None, ""))),
            ("10.0.0.1:80", Ok(("10.0.0.1", Some(80), ""))),
            (
                "Mail.Example:8080/owa/?x",
                Ok(("mail.example", Some(8080), "/owa/?x")),
            ),
            ("a/b:c", Ok(("a", None, "/b:c"))),
            ("a?b/c", Ok(("a", None, "?b/c"))),
            ("[::1]", Ok(("[::1]", None, ""))),
            ("[::1]:443/", Ok(("[::1]", Some(443), "/"))),
            ("unix:/run/x", Ok(("unix:/run/x", None, ""))),
            ("unix:/run/x:/owa", Ok(("unix:/run/x", None, "/owa"))),
            ("", Err("no host")),
            (":80", Err("no host")),
            ("/x", Err("no host")),
            ("a:", Err("invalid port")),
            ("a:x", Err("invalid port")),
            ("a:+1", Err("invalid port")),
            ("a:65536", Err("invalid port")),
            ("a:1:2", Err("invalid port")),
            ("[::1", Err("invalid host")),
            ("[::1]x", Err("invalid host")),
            ("[x]", Err("invalid IPv6 address")),
            ("unix:", Err("no path in the unix domain socket")),
        ] {
            let parsed = Address::parse(text, true);
            let parsed = parsed.map(|address| (address.host_text(), address.port, address.uri));
            let expected = expected.map(|(h, p, u)| (h.to_owned(), p, u.to_owned()));
            assert_eq!(parsed, expected, "{text}");
        }
        assert_eq!(Address::parse("a/b", false), Err("invalid host"));
        let long = format!("unix:/{}", "x".repeat(107));
        assert_eq!(
            Address::parse(&long, false),
            Err("too long path in the unix domain socket")
        );
    }
}
