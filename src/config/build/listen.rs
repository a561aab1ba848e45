//! `listen` and `server_name`: which servers stand behind which address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::super::address::{Address, Host};
use super::super::error::{Place, Result};
use super::super::model::{ListenAddress, Listener, PeerAddress, ServerIndex, TcpKeepalive};
use super::super::names::{NotInserted, ServerNames};
use super::super::parse::Directive;
use super::super::pattern::Pattern;
use super::super::value;
use super::{Builder, Level};

const DEFAULT_PORT: u16 = 80;
const DEFAULT_BACKLOG: i32 = 511;

/// A `server_name`.
enum Name {
    /// In lower case, perhaps with wildcards.
    Text(String),
    Regex(Pattern),
}

/// The names of a server, in order; one that has none has the empty one.
pub(super) struct Names(Vec<Name>);

/// An address while its servers are gathered.
pub(super) struct Draft {
    address: ListenAddress,
    options: SocketOptions,
    /// Some `listen` gave options of the socket, which may be said once.
    options_set: bool,
    /// Some `listen` said `default_server`.
    default_set: bool,
    default: ServerIndex,
    servers: Vec<ServerIndex>,
    /// Where `ssl` stands, if it does.
    ssl_at: Option<Place>,
}

/// What one `listen` says besides the address.
#[derive(Clone, Copy)]
struct SocketOptions {
    backlog: i32,
    ipv6only: bool,
    keepalive: Option<TcpKeepalive>,
    proxy_protocol: bool,
    ssl: bool,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            backlog: DEFAULT_BACKLOG,
            ipv6only: true,
            keepalive: None,
            proxy_protocol: false,
            ssl: false,
        }
    }
}

impl Builder<'_> {
    /// Adds a server to the addresses that it listens on.
    pub(super) fn listens(
        &mut self,
        level: Level<'_>,
        server: ServerIndex,
        drafts: &mut Vec<Draft>,
    ) -> Result<()> {
        for directive in level.all("listen") {
            self.listen(directive, server, drafts)?;
        }
        if !level.has("listen") {
            let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), DEFAULT_PORT);
            draft_of(drafts, ListenAddress::Inet(any), server)
                .servers
                .push(server);
        }
        Ok(())
    }

    fn listen(
        &mut self,
        directive: &Directive,
        server: ServerIndex,
        drafts: &mut Vec<Draft>,
    ) -> Result<()> {
        let text = &directive.args[0];
        let addresses = self.listen_addresses(text).map_err(|error| {
            directive.error(format!("{error} in \"{text}\" of the \"listen\" directive"))
        })?;
        let mut options = SocketOptions::default();
        let mut options_set = false;
        let mut is_default = false;
        for parameter in &directive.args[1..] {
            let invalid = || directive.invalid_parameter(parameter);
            match parameter.split_once('=') {
                None => match &parameter[..] {
                    "default_server" | "default" => is_default = true,
                    // Every worker has a socket of its own in any case.
                    "reuseport" | "bind" => options_set = true,
                    "proxy_protocol" => options.proxy_protocol = true,
                    "deferred" => self.without_effect(directive, parameter),
                    "ssl" => options.ssl = true,
                    "http2" | "spdy" => {
                        return Err(requires_module(directive, "http2", "v2", NO_HTTP2));
                    }
                    "quic" => return Err(requires_module(directive, "quic", "v3", NO_HTTP2)),
                    _ => return Err(invalid()),
                },
                Some(("backlog", number)) => {
                    options_set = true;
                    let number = value::number(number).and_then(|n| i32::try_from(n).ok());
                    let number = number.filter(|&n| n > 0);
                    options.backlog = number.ok_or_else(|| {
                        directive.error(format!("invalid backlog \"{parameter}\""))
                    })?;
                }
                Some(("ipv6only", flag)) => {
                    options_set = true;
                    options.ipv6only = value::flag(flag).ok_or_else(invalid)?;
                }
                Some(("so_keepalive", text)) => {
                    options_set = true;
                    options.keepalive = Some(tcp_keepalive(text).ok_or_else(|| {
                        directive.error(format!("invalid so_keepalive value: \"{text}\""))
                    })?);
                }
                Some(("rcvbuf" | "sndbuf" | "fastopen", _)) => {
                    self.without_effect(directive, parameter);
                }
                Some(_) => return Err(invalid()),
            }
        }
        for address in addresses {
            let shown = show(&address);
            let draft = draft_of(drafts, address, server);
            if draft.servers.contains(&server) {
                return Err(directive.error(format!("a duplicate listen {shown}")));
            }
            if options_set && draft.options_set {
                return Err(directive.error(format!("duplicate listen options for {shown}")));
            }
            if is_default && draft.default_set {
                return Err(directive.error(format!("a duplicate default server for {shown}")));
            }
            let proxy_protocol = draft.options.proxy_protocol || options.proxy_protocol;
            let ssl = draft.options.ssl || options.ssl;
            if options_set {
                draft.options = options;
                draft.options_set = true;
            }
            draft.options.proxy_protocol = proxy_protocol;
            draft.options.ssl = ssl;
            if options.ssl {
                draft.ssl_at.get_or_insert_with(|| directive.place.clone());
            }
            if is_default {
                draft.default = server;
                draft.default_set = true;
            }
            draft.servers.push(server);
        }
        Ok(())
    }

    fn without_effect(&mut self, directive: &Directive, parameter: &str) {
        let message = format!("\"{parameter}\" of \"listen\" has no effect");
        self.warn(&directive.place, message);
    }

    /// `80`, `*:80`, `host:80`, `[::]:80`, `unix:path`; a name stands for all its addresses.
    fn listen_addresses(
        &self,
        text: &str,
    ) -> std::result::Result<Vec<ListenAddress>, &'static str> {
        if value::number(text).is_some() {
            let port = text.parse().map_err(|_| "invalid port")?;
            let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
            return Ok(vec![ListenAddress::Inet(any)]);
        }
        let mut address = Address::parse(text, false)?;
        if address.host == Host::Name("*".to_owned()) {
            address.host = Host::Ip(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        }
        let addresses = address.resolve(DEFAULT_PORT, self.resolver)?;
        let listen = |address| match address {
            PeerAddress::Inet(address) => ListenAddress::Inet(address),
            PeerAddress::Unix(path) => ListenAddress::Unix(path),
        };
        Ok(addresses.into_iter().map(listen).collect())
    }

    /// The names of a server.
    pub(super) fn server_names(&mut self, level: Level<'_>) -> Result<Names> {
        let mut names = Vec::new();
        for directive in level.all("server_name") {
            for name in &directive.args {
                names.push(self.server_name(directive, name)?);
            }
        }
        if names.is_empty() {
            names.push(Name::Text(String::new()));
        }
        Ok(Names(names))
    }

    fn server_name(&mut self, directive: &Directive, name: &str) -> Result<Name> {
        let invalid = || directive.error(format!("server name \"{name}\" is invalid"));
        match name.as_bytes() {
            [b'~'] => {
                let message = format!("empty regex in server name \"{name}\"");
                Err(directive.error(message))
            }
            [b'~', ..] => Ok(Name::Regex(self.pattern(directive, &name[1..], true)?)),
            [b'*'] | [b'*', _] | [b'.'] => Err(invalid()),
            [b'*', next, ..] if *next != b'.' => Err(invalid()),
            _ => {
                if name.contains('/') {
                    let message = format!("server name \"{name}\" has suspicious symbols");
                    self.warn(&directive.place, message);
                }
                Ok(Name::Text(match name {
                    "$hostname" => hostname(),
                    _ => name.to_ascii_lowercase(),
                }))
            }
        }
    }

    /// Makes listeners of the drafts once all servers are known; `names` by server.
    pub(super) fn listeners(&mut self, drafts: Vec<Draft>, names: &[Names]) -> Result<()> {
        for draft in drafts {
            let shown = show(&draft.address);
            if let Some(place) = &draft.ssl_at
                && self.http.servers[draft.default].tls.is_none()
            {
                let message =
                    "no \"ssl_certificate\" is defined for the \"listen ... ssl\" directive";
                return Err(super::Error::at(place, message));
            }
            let mut by_name = ServerNames::new(draft.default);
            for &server in &draft.servers {
                for name in &names[server].0 {
                    let name = match name {
                        Name::Text(name) => name,
                        Name::Regex(pattern) => {
                            by_name.insert_regex(pattern.clone(), server);
                            continue;
                        }
                    };
                    match by_name.insert(name, server) {
                        Ok(()) => {}
                        Err(NotInserted::Conflict) => self.warnings.push(format!(
                            "conflicting server name \"{name}\" on {shown}, ignored"
                        )),
                        Err(NotInserted::Invalid) => {
                            return Err(super::Error::new(format!(
                                "invalid server name or wildcard \"{name}\" on {shown}"
                            )));
                        }
                    }
                }
            }
            self.http.listeners.push(Listener {
                address: draft.address,
                backlog: draft.options.backlog,
                ipv6only: draft.options.ipv6only,
                keepalive: draft.options.keepalive,
                proxy_protocol: draft.options.proxy_protocol,
                ssl: draft.options.ssl,
                servers: draft.servers,
                names: by_name,
            });
        }
        Ok(())
    }
}

impl Names {
    /// `$server_name`: the first name as written, without the leading dot of `.name`.
    pub(super) fn first(&self, level: Level<'_>) -> String {
        match (&self.0[0], level.one("server_name")) {
            (Name::Text(name), _) => name.strip_prefix('.').unwrap_or(name).to_owned(),
            (Name::Regex(_), Some(directive)) => directive.args[0].clone(),
            (Name::Regex(_), None) => String::new(),
        }
    }
}

const NO_HTTP2: &str = "Windows authentication does not exist in HTTP/2 and HTTP/3";

fn requires_module(
    directive: &Directive,
    parameter: &str,
    module: &str,
    hint: &str,
) -> super::Error {
    let message = format!("the \"{parameter}\" parameter requires ngx_http_{module}_module");
    directive.hinted(message, hint)
}

/// The draft of an address; `server` is the default one if it is new.
fn draft_of(drafts: &mut Vec<Draft>, address: ListenAddress, server: ServerIndex) -> &mut Draft {
    // Port 0 is another address every time.
    let any_port = matches!(&address, ListenAddress::Inet(inet) if inet.port() == 0);
    let known = drafts.iter().position(|draft| draft.address == address);
    let at = match known {
        Some(at) if !any_port => at,
        _ => {
            drafts.push(Draft {
                address,
                options: SocketOptions::default(),
                options_set: false,
                default_set: false,
                default: server,
                servers: Vec::new(),
                ssl_at: None,
            });
            drafts.len() - 1
        }
    };
    &mut drafts[at]
}

fn show(address: &ListenAddress) -> String {
    match address {
        ListenAddress::Inet(address) => address.to_string(),
        ListenAddress::Unix(path) => format!("unix:{}", path.display()),
    }
}

/// `on`, `off`, or `[idle]:[interval]:[count]`.
fn tcp_keepalive(text: &str) -> Option<TcpKeepalive> {
    if let Some(on) = value::flag(text) {
        return Some(TcpKeepalive {
            off: !on,
            ..TcpKeepalive::default()
        });
    }
    let mut parts = text.split(':');
    let time = |part: &str| match part {
        "" => Some(None),
        _ => value::time(part)
            .filter(|time| *time >= Duration::from_secs(1))
            .map(Some),
    };
    let idle = time(parts.next()?)?;
    let interval = time(parts.next()?)?;
    let count = match parts.next()? {
        "" => None,
        part => Some(
            value::number(part)
                .and_then(|n| u32::try_from(n).ok())
                .filter(|&n| n > 0)?,
        ),
    };
    if parts.next().is_some() || (idle.is_none() && interval.is_none() && count.is_none()) {
        return None;
    }
    Some(TcpKeepalive {
        off: false,
        idle,
        interval,
        count,
    })
}

fn hostname() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    name.to_string_lossy().to_ascii_lowercase()
}
