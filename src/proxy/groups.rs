//! The upstream groups of a worker: those of its configurations, and those that requests named.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use crate::balance;
use crate::config::model::{self, PeerAddress};
use crate::pin::{self, GroupId};

use super::upstream::{Group, Upstream};
use super::worker::Settings;

/// Groups made for `proxy_pass` with variables, above which unused ones are forgotten at once, so that requests cannot fill the memory
/// with names.
const NAMED_BY_REQUESTS_MAX: usize = 1000;

/// All groups that somebody may use.
#[derive(Default)]
pub(super) struct Groups {
    /// They stay through reloads, and with them their pins' ids.
    by_key: RefCell<HashMap<String, Rc<Group>>>,
    next: Cell<u32>,
    /// How many connections there are to the servers of all of them.
    pub(super) connections: Rc<Cell<usize>>,
}

impl Groups {
    /// The group of a configuration that is taken over: what there was of it goes on.
    pub(super) fn take_over(&self, group: &model::Group) -> Rc<Group> {
        let known = self.by_key.borrow().get(&group.key).cloned();
        match known {
            Some(known) => {
                known.reconfigure(group);
                known
            }
            None => self.add(group),
        }
    }

    fn add(&self, group: &model::Group) -> Rc<Group> {
        let id = GroupId(self.next.get());
        self.next.set(id.0 + 1);
        let made = Rc::new(Group::new(id, group, Rc::clone(&self.connections)));
        self.by_key
            .borrow_mut()
            .insert(group.key.clone(), Rc::clone(&made));
        made
    }

    /// Those that there are now.
    pub(super) fn all(&self) -> Vec<Rc<Group>> {
        self.by_key.borrow().values().cloned().collect()
    }

    /// Takes an idle clean connection from one of them.
    pub(super) fn shed(&self) -> Option<Box<Upstream>> {
        let groups = self.by_key.borrow();
        let shed = |group: &Rc<Group>| group.pool.borrow_mut().shed();
        groups.values().find_map(shed)
    }

    /// The group that a `proxy_pass` with variables named: one of the configuration, or an IP address with a port.
    pub(super) fn named(&self, settings: &Settings, name: &str) -> Option<Rc<Group>> {
        if let Some(index) = settings
            .config()
            .http
            .groups
            .iter()
            .position(|group| group.name == name && group.tls.is_none())
        {
            return Some(settings.group(index));
        }
        let address = name
            .parse()
            .or_else(|_| name.parse().map(|ip| std::net::SocketAddr::new(ip, 80)))
            .or_else(|_| {
                name.trim_matches(['[', ']'])
                    .parse()
                    .map(|ip| std::net::SocketAddr::new(ip, 80))
            })
            .ok()?;
        // Only now: a group that a reload took away is nobody's to name.
        if let Some(known) = self.by_key.borrow().get(name) {
            return Some(Rc::clone(known));
        }
        if self.by_key.borrow().len() >= settings.groups.len() + NAMED_BY_REQUESTS_MAX {
            self.forget_unused();
        }
        let peer = balance::Peer {
            server: address.to_string(),
            name: address.to_string(),
            ..balance::Peer::default()
        };
        Some(self.add(&model::Group {
            key: name.to_owned(),
            name: name.to_owned(),
            proxy_host: name.to_owned(),
            port: address.port(),
            implicit: true,
            method: balance::Method::RoundRobin,
            hash_key: None,
            peers: vec![(peer, PeerAddress::Inet(address))],
            pool: pin::pool::PoolLimits::default(),
            ntlm: None,
            tls: None,
        }))
    }

    /// Forgets groups that nobody uses: a reload has removed them, or requests named them.
    pub(super) fn forget_unused(&self) {
        let mut groups = self.by_key.borrow_mut();
        // Configurations refer to theirs as long as somebody is served by them, and so does every connection, also a pooled one or a pin.
        let mut unused = Vec::new();
        groups.retain(|_, group| {
            let used = Rc::strong_count(group) > 1;
            if !used {
                unused.push(Rc::clone(group));
            }
            used
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test: a panic is a failure

    use super::*;

    fn group(key: &str) -> model::Group {
        model::Group {
            key: key.to_owned(),
            name: key.to_owned(),
            proxy_host: key.to_owned(),
            port: 80,
            implicit: false,
            method: balance::Method::RoundRobin,
            hash_key: None,
            peers: vec![(
                balance::Peer::default(),
                PeerAddress::Inet("127.0.0.1:80".parse().unwrap()),
            )],
            pool: pin::pool::PoolLimits::default(),
            ntlm: None,
            tls: None,
        }
    }

    fn keys(groups: &Groups) -> Vec<String> {
        let mut keys: Vec<_> = groups.by_key.borrow().keys().cloned().collect();
        keys.sort();
        keys
    }

    #[test]
    fn a_group_is_forgotten_when_nobody_refers_to_it() {
        let groups = Groups::default();
        let [kept, removed, pinned] =
            ["kept", "removed", "pinned"].map(|key| groups.take_over(&group(key)));
        groups.forget_unused();
        assert_eq!(keys(&groups), ["kept", "pinned", "removed"]);
        // As a pin's connection does.
        let (of_pin, id) = (Rc::clone(&pinned), removed.id);
        drop((removed, pinned));
        groups.forget_unused();
        assert_eq!(keys(&groups), ["kept", "pinned"]);
        // The pin's group is the same if it comes back; the one that is gone is another one.
        assert!(Rc::ptr_eq(&groups.take_over(&group("pinned")), &of_pin));
        assert_ne!(groups.take_over(&group("removed")).id, id);
        drop(of_pin);
        groups.forget_unused();
        assert_eq!(keys(&groups), ["kept"]);
        assert_eq!(kept.name, "kept");
    }

    #[test]
    fn ever_new_configurations_leave_nothing_behind() {
        let groups = Groups::default();
        let mut present = Vec::new();
        for reload in 0..100 {
            let configured =
                (0..10).map(|nth| groups.take_over(&group(&format!("{reload}-{nth}"))));
            present = configured.collect();
            groups.forget_unused();
            assert_eq!(groups.by_key.borrow().len(), present.len());
        }
        assert_eq!(present.len(), 10);
    }
}
