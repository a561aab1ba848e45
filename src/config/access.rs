//! `allow` and `deny`.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

/// The rules in their order; the first that matches decides; without a match access is allowed.
#[derive(Clone, Debug, Default)]
pub struct AccessRules {
    rules: Vec<(Clients, bool)>,
}

/// Whom a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clients {
    All,
    Net(IpNet),
    Unix,
}

impl AccessRules {
    pub(super) fn push(&mut self, clients: Clients, allowed: bool) {
        self.rules.push((clients, allowed));
    }

    /// Whether a client may come in. `None` is a client of a unix socket.
    pub fn allows(&self, client: Option<IpAddr>) -> bool {
        // An IPv4 client of an IPv6 socket is an IPv4 client.
        let client = client.map(|address| address.to_canonical());
        let concerns = |clients: &Clients| match (clients, &client) {
            (Clients::All, _) | (Clients::Unix, None) => true,
            (Clients::Net(net), Some(address)) => net.contains(address),
            _ => false,
        };
        let rule = self.rules.iter().find(|(clients, _)| concerns(clients));
        rule.is_none_or(|&(_, allowed)| allowed)
    }
}

/// `10.0.0.1`, `10.0.0.0/8`, `fd00::/8`; `::ffff:10.0.0.0/104` is the second of them. True beside it: bits behind the prefix are
/// set, and mean nothing.
pub(super) fn net(text: &str) -> Option<(IpNet, bool)> {
    let net: IpNet = match text.parse::<IpAddr>() {
        Ok(address) => address.into(),
        Err(_) => text.parse().ok()?,
    };
    Some((canonical(net.trunc()), net.trunc() != net))
}

/// Clients are compared by their canonical addresses: IPv4 clients of an IPv6 socket by their IPv4 addresses.
fn canonical(net: IpNet) -> IpNet {
    let v4 = match net {
        IpNet::V6(net) if net.prefix_len() >= 96 => net
            .addr()
            .to_ipv4_mapped()
            .and_then(|address| Ipv4Net::new(address, net.prefix_len() - 96).ok()),
        _ => None,
    };
    v4.map_or(net, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_match_decides() {
        let mut rules = AccessRules::default();
        assert!(rules.allows(None));
        assert!(rules.allows("10.0.0.1".parse().ok()));
        for (text, allowed) in [
            ("10.1.0.1", false),
            ("10.1.0.0/16", true),
            ("fd00::/8", true),
        ] {
            rules.push(Clients::Net(net(text).unwrap().0), allowed);
        }
        rules.push(Clients::Unix, true);
        rules.push(Clients::All, false);
        for (client, expected) in [
            ("10.1.0.1", false),
            ("10.1.0.2", true),
            ("::ffff:10.1.0.2", true),
            ("10.2.0.1", false),
            ("fd12::1", true),
            ("fe80::1", false),
        ] {
            assert_eq!(rules.allows(client.parse().ok()), expected, "{client}");
        }
        assert!(rules.allows(None));
    }

    #[test]
    fn nets() {
        for (text, expected) in [
            ("10.0.0.1", Some(("10.0.0.1/32", false))),
            ("10.0.0.1/8", Some(("10.0.0.0/8", true))),
            ("::1", Some(("::1/128", false))),
            ("::ffff:10.0.0.1", Some(("10.0.0.1/32", false))),
            ("::ffff:10.1.0.0/104", Some(("10.0.0.0/8", true))),
            ("::ffff:0:0/95", Some(("::fffe:0:0/95", true))),
            ("10.0.0.0/33", None),
            ("10.0.0.0/255.0.0.0", None),
            ("x", None),
            ("", None),
        ] {
            let expected = expected.map(|(net, low)| (net.parse().unwrap(), low));
            assert_eq!(net(text), expected, "{text}");
        }
    }
}
