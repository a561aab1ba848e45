//! `upstream` blocks and the groups that stand for literal addresses.

use crate::balance::{self, Method};
use crate::pin;
use crate::pin::pool::PoolLimits;

use super::super::address::{Address, Host};
use super::super::error::Result;
use super::super::model::{Group, GroupIndex, PeerAddress};
use super::super::parse::Directive;
use super::super::value;
use super::tls::UpstreamTlsScope;
use super::{Builder, Level};

const DEFAULT_PORT: u16 = 80;

/// That of a `proxy_pass https://`.
const DEFAULT_TLS_PORT: u16 = 443;

impl Builder<'_> {
    /// All `upstream` blocks, before anything that names them.
    pub(super) fn upstreams(&mut self, level: Level<'_>) -> Result<()> {
        for directive in level.all("upstream") {
            let key = directive.args[0].to_ascii_lowercase();
            if self.groups.contains_key(&key) {
                let message = format!("duplicate upstream \"{}\"", directive.args[0]);
                return Err(directive.error(message));
            }
            let group = self.upstream(directive)?;
            self.groups.insert(key, self.http.groups.len());
            self.http.groups.push(group);
        }
        Ok(())
    }

    fn upstream(&mut self, directive: &Directive) -> Result<Group> {
        let level = Level(&directive.children);
        let (method, hash_key) = self.method(level)?;
        let mut peers = Vec::new();
        for server in level.all("server") {
            let (peer, addresses) = self.server_line(server)?;
            let hashes = !matches!(method, Method::RoundRobin | Method::LeastConn);
            if peer.backup && hashes {
                let message = "balancing method does not support parameter \"backup\"";
                return Err(server.error(message));
            }
            peers.extend(addresses.into_iter().map(|address| {
                let peer = balance::Peer {
                    name: peer_name(&address),
                    ..peer.clone()
                };
                (peer, address)
            }));
        }
        if !level.has("server") {
            let message = "no servers are inside upstream";
            return Err(super::Error::at(&directive.end, message));
        }
        let name = directive.args[0].clone();
        if peers.iter().all(|(peer, _)| peer.backup) {
            return Err(directive.error(format!("no servers in upstream \"{name}\"")));
        }
        let mut pool = PoolLimits::default();
        level.set("keepalive", &mut pool.connections, connections)?;
        level.set("keepalive_timeout", &mut pool.idle_timeout, Directive::time)?;
        level.set("keepalive_time", &mut pool.max_age, Directive::time)?;
        level.set(
            "keepalive_requests",
            &mut pool.max_requests,
            Directive::number,
        )?;
        let mut limits = pin::Limits::default();
        pin_limits(level, &mut limits)?;
        Ok(Group {
            proxy_host: name.clone(),
            key: name.clone(),
            name,
            port: DEFAULT_PORT,
            implicit: false,
            method,
            hash_key,
            peers,
            pool,
            ntlm: level.has("ntlm").then_some(limits),
            tls: None,
        })
    }

    /// The balancing method, wherever in the block it stands; of several the last holds.
    fn method(&mut self, level: Level<'_>) -> Result<(Method, Option<super::Template>)> {
        let mut chosen = None;
        for directive in level.0 {
            let args: Vec<&str> = directive.args.iter().map(|arg| &arg[..]).collect();
            let method = match (&directive.name[..], &args[..]) {
                ("least_conn", _) => (Method::LeastConn, None),
                ("ip_hash", _) => (Method::IpHash, None),
                ("hash", [key, rest @ ..]) => {
                    let consistent = match rest {
                        [] => false,
                        ["consistent"] => true,
                        [other, ..] => return Err(directive.invalid_parameter(other)),
                    };
                    let key = self.template(directive, key)?;
                    (Method::Hash { consistent }, Some(key))
                }
                ("random", []) => (Method::Random { two: false }, None),
                ("random", ["two"] | ["two", "least_conn"]) => (Method::Random { two: true }, None),
                ("random", ["two", other] | [other, ..]) => {
                    return Err(directive.invalid_parameter(other));
                }
                _ => continue,
            };
            if chosen.replace(method).is_some() {
                self.warn(&directive.place, "load balancing method redefined");
            }
        }
        Ok(chosen.unwrap_or_default())
    }

    /// `server address [parameters]`: its addresses, and what all of them have in common.
    fn server_line(&self, directive: &Directive) -> Result<(balance::Peer, Vec<PeerAddress>)> {
        let text = &directive.args[0];
        let failed = |error| directive.error(format!("{error} in upstream \"{text}\""));
        let address = Address::parse(text, false).map_err(failed)?;
        if address.port == Some(0) {
            return Err(failed("invalid port"));
        }
        let mut peer = balance::Peer {
            server: text.clone(),
            ..balance::Peer::default()
        };
        for parameter in &directive.args[1..] {
            let number = |text: &str| value::number(text).and_then(|n| u32::try_from(n).ok());
            let understood = match parameter.split_once('=') {
                Some(("weight", text)) => number(text).filter(|&n| n > 0).map(|n| peer.weight = n),
                Some(("max_fails", text)) => number(text).map(|n| peer.max_fails = n),
                Some(("max_conns", text)) => number(text).map(|n| peer.max_conns = n),
                Some(("fail_timeout", text)) => value::time(text).map(|t| peer.fail_timeout = t),
                None if parameter == "backup" => {
                    peer.backup = true;
                    Some(())
                }
                None if parameter == "down" => {
                    peer.down = true;
                    Some(())
                }
                _ => None,
            };
            understood.ok_or_else(|| directive.invalid_parameter(parameter))?;
        }
        let addresses = address.resolve(DEFAULT_PORT, self.resolver);
        Ok((peer, addresses.map_err(failed)?))
    }

    /// The group that a `proxy_pass` to `address` means: an `upstream` block of that name, or one made for the address.
    /// `url` is the address as written, for messages.
    pub(super) fn group_for(
        &mut self,
        directive: &Directive,
        address: &Address,
        url: &str,
        tls: Option<&UpstreamTlsScope>,
    ) -> Result<GroupIndex> {
        let host = address.host_text();
        if let Some(&group) = self.groups.get(&host) {
            if let Some(port) = address.port {
                let message = format!("upstream \"{host}\" may not have port {port}");
                return Err(directive.error(message));
            }
            return self.reached_by(directive, group, tls);
        }
        let failed = |error| directive.error(format!("{error} in upstream \"{url}\""));
        let default_port = match tls {
            Some(_) => DEFAULT_TLS_PORT,
            None => DEFAULT_PORT,
        };
        let port = address.port.unwrap_or(default_port);
        if port == 0 {
            return Err(failed("invalid port"));
        }
        let (name, proxy_host) = match &address.host {
            Host::Unix(_) => (host, "localhost".to_owned()),
            _ if port == default_port => (format!("{host}:{port}"), host),
            _ => (format!("{host}:{port}"), format!("{host}:{port}")),
        };
        if let Some(&group) = self.groups.get(&name)
            && self.http.groups[group].implicit
        {
            return self.reached_by(directive, group, tls);
        }
        let addresses = address.resolve(port, self.resolver).map_err(failed)?;
        let peer = |address| {
            let name = peer_name(&address);
            (
                balance::Peer {
                    server: name.clone(),
                    name,
                    ..balance::Peer::default()
                },
                address,
            )
        };
        let group = self.http.groups.len();
        self.groups.insert(name.clone(), group);
        self.http.groups.push(Group {
            key: name.clone(),
            name,
            proxy_host,
            port,
            implicit: true,
            method: Method::default(),
            hash_key: None,
            peers: addresses.into_iter().map(peer).collect(),
            pool: PoolLimits::default(),
            ntlm: None,
            tls: None,
        });
        self.reached_by(directive, group, tls)
    }

    /// The group as it is reached by `https://` with these settings, if any: made of the one that is reached without.
    fn reached_by(
        &mut self,
        directive: &Directive,
        plain: GroupIndex,
        tls: Option<&UpstreamTlsScope>,
    ) -> Result<GroupIndex> {
        let Some(tls) = tls else { return Ok(plain) };
        let Group {
            name,
            proxy_host,
            port,
            implicit,
            method,
            hash_key,
            peers,
            pool,
            ntlm,
            ..
        } = &self.http.groups[plain];
        let settings = tls.settings(directive, proxy_host)?;
        let same_name = self.http.groups.iter().enumerate();
        let same_name = same_name.filter(|(_, group)| group.name == *name && group.tls.is_some());
        let mut number = 1;
        for (index, group) in same_name {
            if group.tls.as_deref() == Some(&settings) {
                return Ok(index);
            }
            number += 1;
        }
        let key = match number {
            1 => format!("https://{name}"),
            _ => format!("https://{name}#{number}"),
        };
        let group = Group {
            name: name.clone(),
            key,
            proxy_host: proxy_host.clone(),
            port: if *implicit { *port } else { DEFAULT_TLS_PORT },
            implicit: *implicit,
            method: method.clone(),
            hash_key: hash_key.clone(),
            peers: peers.clone(),
            pool: *pool,
            ntlm: *ntlm,
            tls: Some(Box::new(settings)),
        };
        self.http.groups.push(group);
        Ok(self.http.groups.len() - 1)
    }
}

/// `ntlm` and its limits, of whatever block.
pub(super) fn pin_limits(level: Level<'_>, limits: &mut pin::Limits) -> Result<()> {
    level.set("ntlm", &mut limits.connections, |directive| {
        let Some(text) = directive.args.first() else {
            return Ok(pin::Limits::default().connections);
        };
        let number = value::number(text).filter(|&number| number > 0);
        let number = number.and_then(|number| usize::try_from(number).ok());
        number.ok_or_else(|| directive.error(directive.invalid_value_of(0)))
    })?;
    level.set("ntlm_timeout", &mut limits.idle_timeout, Directive::time)?;
    level.set("ntlm_time", &mut limits.max_age, Directive::time)?;
    level.set("ntlm_requests", &mut limits.max_requests, Directive::number)?;
    level.set(
        "ntlm_reauth",
        &mut limits.reauth_same,
        |directive| match &directive.args[0][..] {
            "same" => Ok(true),
            "fresh" => Ok(false),
            _ => {
                let message = directive.invalid_value_of(0);
                let message = format!("{message}, it must be \"same\" or \"fresh\"");
                Err(directive.error(message))
            }
        },
    )
}

/// `keepalive connections [local]`; every worker's pool is its own here, which is what `local` means.
fn connections(directive: &Directive) -> Result<usize> {
    if let Some(other) = directive.args.get(1).filter(|word| *word != "local") {
        return Err(directive.invalid_parameter(other));
    }
    let number = value::number(&directive.args[0]).and_then(|n| usize::try_from(n).ok());
    number.ok_or_else(|| directive.error(directive.invalid_value_of(0)))
}

fn peer_name(address: &PeerAddress) -> String {
    match address {
        PeerAddress::Inet(address) => address.to_string(),
        PeerAddress::Unix(path) => format!("unix:{}", path.display()),
    }
}
