//! Upstream groups and connections, as one worker has them.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slab::Slab;

use crate::balance::{Balancer, Method, PeerIndex};
use crate::config::model::{self, PeerAddress, UpstreamTls};
use crate::config::template::Template;
use crate::net::{Peek, Socket};
use crate::observe::groups::{GroupCounters, PeerCounters, PinCensus, unix_seconds};
use crate::observe::histogram::whole_us;
use crate::pin::pool::PoolLimits;
use crate::pin::{self, GroupId, IdleKey, IdleOrder, Pool, State};
use crate::tls::{GroupTls, Stream};

use super::slot::SlotKey;
use super::verdicts::LoginUnderWay;

/// A server of a group.
pub(super) struct Peer {
    /// What logs call it.
    pub(super) name: Rc<str>,
    pub(super) address: PeerAddress,
    pub(super) counters: Arc<PeerCounters>,
    /// An earlier one has the same counters: together they are as good as the best of them.
    again: bool,
}

/// The servers of a group: replaced as a whole when a reload changes them, while open connections go on under the old ones.
pub(super) struct Servers {
    /// In the balancer's order.
    pub(super) peers: Vec<Peer>,
    pub(super) balancer: RefCell<Balancer>,
    configured: Vec<(crate::balance::Peer, PeerAddress)>,
    tls: Option<Box<UpstreamTls>>,
    method: Method,
}

impl Servers {
    /// What was counted for servers of the same names goes on.
    fn new(group: &model::Group, counters: &GroupCounters) -> Self {
        let known = counters.peers.load();
        let mut all: Vec<Arc<PeerCounters>> = Vec::with_capacity(group.peers.len());
        let peers = group.peers.iter().map(|(peer, address)| {
            let mut found = all.iter().chain(&**known);
            let same = found.find(|known| known.name == peer.name && known.backup == peer.backup);
            let counters = match same {
                Some(known) => Arc::clone(known),
                None => Arc::new(PeerCounters::new(&peer.name, peer.backup)),
            };
            let again = all.iter().any(|known| Arc::ptr_eq(known, &counters));
            if !again {
                all.push(Arc::clone(&counters));
            }
            Peer {
                name: peer.name.as_str().into(),
                address: address.clone(),
                counters,
                again,
            }
        });
        let peers = peers.collect();
        counters.peers.store(Arc::new(all));
        let balanced = group.peers.iter().map(|(peer, _)| peer.clone()).collect();
        Self {
            peers,
            balancer: RefCell::new(Balancer::new(group.method.clone(), balanced)),
            configured: group.peers.clone(),
            tls: group.tls.clone(),
            method: group.method.clone(),
        }
    }

    /// Notes for others what is known of each server.
    fn show_states(&self) {
        let balancer = self.balancer.borrow();
        for (index, peer) in self.peers.iter().enumerate() {
            let known = balancer.availability(index);
            peer.counters.set_state(match peer.again {
                true => known.min(peer.counters.state()),
                false => known,
            });
        }
    }

    /// The balancing method, which says what the balancer wants hashed.
    pub(super) fn method(&self) -> &Method {
        &self.method
    }
}

/// One upstream group of a worker. The same one, with the same id, through every reload that names it.
pub(super) struct Group {
    pub(super) id: GroupId,
    pub(super) name: String,
    pub(super) proxy_host: String,
    pub(super) port: u16,
    pub(super) servers: RefCell<Rc<Servers>>,
    /// Idle clean connections to the present servers.
    pub(super) pool: RefCell<Pool<PeerIndex, Box<Upstream>>>,
    pub(super) pool_limits: Cell<PoolLimits>,
    pub(super) hash_key: RefCell<Option<Template>>,
    /// How its servers' handshakes are made; `None`: they are spoken to without TLS.
    pub(super) tls: RefCell<Option<GroupTls>>,
    /// The group's own `ntlm`.
    pub(super) ntlm: Cell<Option<pin::Limits>>,
    /// The limits that the last request on a pin found, for all pins that have the same.
    limits: RefCell<Rc<pin::Limits>>,
    /// Clients whose pin of this group is idle and established, the least recently used first.
    pub(super) idle_pins: RefCell<IdleOrder<SlotKey>>,
    /// When the connection of each pin was opened, and the pin's state.
    live_pins: RefCell<Slab<(Instant, State)>>,
    pub(super) counters: Arc<GroupCounters>,
    /// Evictions since the last report of them, and when that was.
    evictions: Cell<u64>,
    reported: Cell<Option<Instant>>,
    connections: Rc<Cell<usize>>,
}

impl Group {
    /// `connections` counts the worker's upstream connections.
    pub(super) fn new(id: GroupId, group: &model::Group, connections: Rc<Cell<usize>>) -> Self {
        let counters = Arc::new(GroupCounters::new(&group.name));
        Self {
            id,
            name: group.name.clone(),
            proxy_host: group.proxy_host.clone(),
            port: group.port,
            servers: RefCell::new(Rc::new(Servers::new(group, &counters))),
            pool: RefCell::new(Pool::default()),
            pool_limits: Cell::new(group.pool),
            hash_key: RefCell::new(group.hash_key.clone()),
            tls: RefCell::default(),
            ntlm: Cell::new(group.ntlm),
            limits: RefCell::default(),
            idle_pins: RefCell::new(IdleOrder::default()),
            live_pins: RefCell::default(),
            counters,
            evictions: Cell::new(0),
            reported: Cell::new(None),
            connections,
        }
    }

    /// Whether its servers are spoken to in TLS.
    pub(super) fn is_tls(&self) -> bool {
        self.tls.borrow().is_some()
    }

    /// Takes over what a reload changed. Pins stay; idle clean connections to servers that changed are closed.
    pub(super) fn reconfigure(&self, group: &model::Group) {
        let same = {
            let servers = self.servers.borrow();
            servers.configured == group.peers
                && servers.tls == group.tls
                && servers.method == group.method
        };
        if !same {
            let idle = self.pool.take();
            let servers = Rc::new(Servers::new(group, &self.counters));
            self.servers.replace(servers);
            drop(idle);
        }
        self.pool_limits.set(group.pool);
        self.hash_key.replace(group.hash_key.clone());
        self.ntlm.set(group.ntlm);
    }

    /// An idle clean connection to the peer that its server has not closed.
    pub(super) fn reuse(&self, servers: &Rc<Servers>, peer: PeerIndex) -> Option<Box<Upstream>> {
        if !Rc::ptr_eq(servers, &self.servers.borrow()) {
            return None;
        }
        loop {
            let mut upstream = self.pool.borrow_mut().take(peer)?;
            if upstream.socket.peek() == Peek::Nothing {
                upstream.use_it();
                return Some(upstream);
            }
        }
    }

    /// Gives a clean connection back for everybody's use, unless its servers are not the group's any more.
    pub(super) fn keep(&self, mut upstream: Box<Upstream>, now: Instant) {
        upstream.rest();
        let closed = if Rc::ptr_eq(&upstream.servers, &self.servers.borrow()) {
            let (peer, opened, requests) = (upstream.peer, upstream.opened, upstream.requests);
            self.pool.borrow_mut().put(
                peer,
                upstream,
                opened,
                requests,
                &self.pool_limits.get(),
                now,
            )
        } else {
            Some(upstream)
        };
        drop(closed);
    }

    /// Closes idle clean connections whose time is over or whose server is gone.
    pub(super) fn sweep(&self, now: Instant) {
        let limits = self.pool_limits.get();
        let gone = self.pool.borrow_mut().sweep(&limits, now, |upstream| {
            upstream.socket.peek() != Peek::Nothing
        });
        drop(gone);
    }

    /// The same limits in memory that pins share.
    pub(super) fn shared_limits(&self, limits: &pin::Limits) -> Rc<pin::Limits> {
        let mut shared = self.limits.borrow_mut();
        if **shared != *limits {
            *shared = Rc::new(*limits);
        }
        Rc::clone(&shared)
    }

    /// Notes for others what is known of its servers, and counts its pins.
    pub(super) fn look(&self, now: Instant) -> PinCensus {
        self.servers.borrow().show_states();
        let pins = self.live_pins.borrow();
        let limit = match self.ntlm.get() {
            Some(limits) => limits.connections,
            // Those of the location that pins here, if one does.
            None if pins.is_empty() => 0,
            None => self.limits.borrow().connections,
        };
        let mut census = PinCensus {
            idle: self.idle_pins.borrow().len() as u64,
            idle_limit: limit as u64,
            ..PinCensus::default()
        };
        for (_, (opened, state)) in &*pins {
            let age = now.saturating_duration_since(*opened);
            census.count(*state, age.as_secs());
        }
        census
    }

    /// Counts an eviction, which [`Group::evictions_to_report`] tells of.
    pub(super) fn note_eviction(&self) {
        self.evictions.set(self.evictions.get() + 1);
        self.counters.table_full.add(1);
        self.counters.table_full_at.set(unix_seconds());
    }

    /// How many evictions there were since it was asked last; `None` if there were none, or if that was less than a minute
    /// ago.
    pub(super) fn evictions_to_report(&self, now: Instant) -> Option<u64> {
        let minute = Duration::from_secs(60);
        let lately = self
            .reported
            .get()
            .is_some_and(|at| now.saturating_duration_since(at) < minute);
        if lately || self.evictions.get() == 0 {
            return None;
        }
        self.reported.set(Some(now));
        Some(self.evictions.take())
    }
}

/// A connection to a server. Dropping it closes it, and every count and list it is in forgets it.
pub(super) struct Upstream {
    pub(super) socket: Stream,
    pub(super) group: Rc<Group>,
    servers: Rc<Servers>,
    peer: PeerIndex,
    /// It counts for the balancer: `max_conns` and `least_conn` do not look at idle pooled connections.
    in_use: bool,
    /// When its opening began.
    pub(super) opened: Instant,
    /// Requests that were sent on it.
    pub(super) requests: u64,
    /// The limits that the last request found, if it is a pin.
    pub(super) pin_limits: Rc<pin::Limits>,
    /// Its place in the group's list of idle pins.
    pub(super) idle: Option<IdleKey>,
    /// The login that the server has not judged yet, if it is a pin.
    pub(super) login: Option<Box<LoginUnderWay>>,
    /// Its place in the group's list of all pins, and the state that is noted there.
    pin: Option<(usize, State)>,
}

impl Upstream {
    /// Begins to connect to a peer.
    ///
    /// # Errors
    /// Those of `socket(2)`, `bind(2)` and `connect(2)`.
    pub(super) fn connect(
        group: &Rc<Group>,
        servers: &Rc<Servers>,
        peer: PeerIndex,
        bind: Option<std::net::IpAddr>,
        keepalive: bool,
        now: Instant,
    ) -> io::Result<Box<Self>> {
        let socket = match &servers.peers[peer].address {
            PeerAddress::Inet(address) => Socket::connect(*address, bind, keepalive)?,
            PeerAddress::Unix(path) => Socket::connect_unix(path)?,
        };
        group.connections.set(group.connections.get() + 1);
        servers.peers[peer].counters.connections.rise();
        let mut upstream = Box::new(Self {
            socket: socket.into(),
            group: Rc::clone(group),
            servers: Rc::clone(servers),
            peer,
            opened: now,
            in_use: false,
            requests: 0,
            pin_limits: Rc::clone(&group.limits.borrow()),
            idle: None,
            login: None,
            pin: None,
        });
        upstream.use_it();
        Ok(upstream)
    }

    fn use_it(&mut self) {
        self.in_use = true;
        self.servers.balancer.borrow_mut().opened(self.peer);
        self.counters().in_use.rise();
    }

    fn rest(&mut self) {
        if std::mem::take(&mut self.in_use) {
            self.servers.balancer.borrow_mut().closed(self.peer);
            self.counters().in_use.fall();
        }
    }

    /// What logs call the server.
    pub(super) fn peer_name(&self) -> Rc<str> {
        Rc::clone(&self.servers.peers[self.peer].name)
    }

    fn counters(&self) -> &PeerCounters {
        &self.servers.peers[self.peer].counters
    }

    /// It is open: requests can be sent on it.
    pub(super) fn is_open(&self) {
        self.counters().opened.add(1);
    }

    /// Counts the head of a final answer, and how long it took.
    pub(super) fn answered(&self, status: u16, waited: Duration) {
        let counters = self.counters();
        counters.answers.count(status);
        counters.header_us.add(whole_us(waited));
    }

    /// Notes the state of the pin that it is.
    pub(super) fn is_pinned(&mut self, state: State) {
        match &mut self.pin {
            Some((_, known)) if *known == state => {}
            Some((place, known)) => {
                *known = state;
                if let Some((_, noted)) = self.group.live_pins.borrow_mut().get_mut(*place) {
                    *noted = state;
                }
            }
            None => {
                let mut pins = self.group.live_pins.borrow_mut();
                self.pin = Some((pins.insert((self.opened, state)), state));
            }
        }
    }

    /// The server answered.
    pub(super) fn succeeded(&self) {
        self.servers.balancer.borrow_mut().succeeded(self.peer);
    }

    /// The server failed a request; true if it counts as unavailable from now on.
    pub(super) fn failed(&self, now: Instant) -> bool {
        self.counters().failed();
        self.servers.balancer.borrow_mut().failed(self.peer, now)
    }

    /// Takes the connection off its group's list of idle pins.
    pub(super) fn leave_idle(&mut self) {
        if let Some(key) = self.idle.take() {
            self.group.idle_pins.borrow_mut().remove(key);
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        // A login ends now, whatever its server has yet to take.
        self.socket.forget_unsent();
        self.leave_idle();
        self.rest();
        self.counters().connections.fall();
        if let Some((place, _)) = self.pin {
            self.group.live_pins.borrow_mut().remove(place);
        }
        self.group.connections.set(self.group.connections.get() - 1);
    }
}
