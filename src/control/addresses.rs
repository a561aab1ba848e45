//! The listening addresses of the process.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::config::model::{Level, ListenAddress, Listener, TcpKeepalive};
use crate::net::{Bound, InetOptions};
use crate::observe::Done;
use crate::observe::cause::Cause;
use crate::observe::error_log::ErrorLog;
use crate::proxy::Sockets;

use super::{StartError, emerg};

/// How long workers may take to close what a reload removed before it is taken for used by somebody else.
const CLOSING_PATIENCE: Duration = Duration::from_secs(2);

/// How long a start waits before it tries for an address again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// A listening address.
#[derive(Clone)]
pub(super) struct Address {
    /// As a configuration names it.
    pub(super) name: ListenAddress,
    /// Its sockets.
    pub(super) bound: Arc<Bound>,
    /// Who has opened them.
    pub(super) opener: Opener,
}

impl Address {
    /// One of which this process was given the sockets; `any_port`: the configuration left the port to the kernel. `None` for sockets
    /// that are neither TCP nor have a file.
    pub(super) fn inherited(bound: Bound, any_port: bool, opener: Opener) -> Option<Self> {
        let mut name = name_of(&bound)?;
        if let ListenAddress::Inet(address) = &mut name
            && any_port
        {
            address.set_port(0);
        }
        Some(Self {
            name,
            bound: Arc::new(bound),
            opener,
        })
    }

    /// Whether its sockets are those of `other`.
    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.bound, &other.bound)
    }
}

/// Where sockets listen, as a configuration would name it.
fn name_of(bound: &Bound) -> Option<ListenAddress> {
    match bound.path() {
        Some(path) => Some(ListenAddress::Unix(path.to_owned())),
        None => bound.address().map(ListenAddress::Inet),
    }
}

/// Who has opened listening sockets, and so may have them still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opener {
    /// This process.
    Own,
    /// The process with the old binary, or one before it.
    Predecessor,
    /// systemd, which keeps them for the next start.
    Systemd,
}

/// The listening addresses of the process, by the number that workers know them by.
#[derive(Default)]
pub(super) struct Addresses {
    open: Vec<(u64, Address)>,
    /// What this process was started with, until the first configuration takes effect.
    inherited: Vec<Address>,
    /// Those of systemd that the configuration does not name. Others can only be closed; these would still be open, and in the way of
    /// a reload that names them.
    unused: Vec<Address>,
    next: u64,
    /// Those with a lower number were handed to the latest process with the new binary.
    handed_over: u64,
    /// Ends when all workers have closed what was removed.
    closing: Option<UnboundedReceiver<Infallible>>,
}

impl Addresses {
    /// With sockets that this process was started with.
    pub(super) fn with(inherited: Vec<Address>) -> Self {
        Self {
            inherited,
            ..Self::default()
        }
    }

    /// All that there are, for the process with the new binary.
    pub(super) fn hand_over(&mut self) -> impl Iterator<Item = &Address> {
        self.handed_over = self.next;
        let open = self.open.iter().map(|(_, address)| address);
        open.chain(&self.unused)
    }

    /// Notes at which addresses somebody else listens, too: systemd, and of the processes with the `old` and the `new` binary those that
    /// are there. Returns the addresses that nobody else has.
    pub(super) fn share(&self, old: bool, new: bool) -> Vec<(u64, Arc<Bound>)> {
        let with_old = |address: &Address| match address.opener {
            Opener::Own => false,
            Opener::Predecessor => old,
            Opener::Systemd => true,
        };
        for address in &self.inherited {
            address.bound.share(with_old(address));
        }
        let mut alone = Vec::new();
        for (id, address) in &self.open {
            let shared = with_old(address) || new && *id < self.handed_over;
            address.bound.share(shared);
            if !shared {
                alone.push((*id, Arc::clone(&address.bound)));
            }
        }
        alone
    }

    /// Opens what `listeners` name and is not open yet. Returns the number of each, and what was opened.
    pub(super) fn open(
        &mut self,
        listeners: &[Listener],
        workers: usize,
        mut patience: Patience<'_>,
    ) -> Result<Opened, StartError> {
        let mut ids = Vec::with_capacity(listeners.len());
        let mut opened = Vec::new();
        let mut next = self.next;
        for listener in listeners {
            // Each `listen` on port 0 has a port of its own, and keeps it.
            let known = self
                .open
                .iter()
                .find(|(id, address)| address.name == listener.address && !ids.contains(id));
            if let Some((id, _)) = known {
                ids.push(*id);
                continue;
            }
            let address = match self.spare(listener, listeners, &opened) {
                Some(spare) => {
                    let set_up = spare.bound.set_up(&inet_options(listener, false));
                    set_up.map_err(|error| refused(listener, &error))?;
                    Address {
                        name: listener.address.clone(),
                        ..spare.clone()
                    }
                }
                None => Address {
                    name: listener.address.clone(),
                    bound: Arc::new(self.bind(listener, workers, &opened, &mut patience)?),
                    opener: Opener::Own,
                },
            };
            ids.push(next);
            opened.push((next, address));
            next += 1;
        }
        self.next = next;
        Ok(Opened { ids, opened })
    }

    /// What there is already for a listener that is new: what was inherited, or is systemd's and needed by none of `listeners` as it is.
    fn spare(
        &self,
        listener: &Listener,
        listeners: &[Listener],
        opened: &[(u64, Address)],
    ) -> Option<&Address> {
        let is_named = |name: &ListenAddress| listeners.iter().any(|other| other.address == *name);
        let open = self.open.iter().map(|(_, address)| address);
        let given_up = open.filter(|address| address.opener == Opener::Systemd);
        let given_up = given_up.filter(|address| !is_named(&address.name));
        let spare = self.inherited.iter().chain(&self.unused).chain(given_up);
        let spare = spare.filter(|address| !opened.iter().any(|(_, used)| used.is(address)));
        let same = |address: &&Address| {
            address.name == listener.address
                || name_of(&address.bound).is_some_and(|name| name == listener.address)
        };
        // `ListenStream=80` takes both protocols, `listen 80` is about IPv4.
        let for_both = |address: &&Address| {
            let name = name_of(&address.bound);
            address.opener == Opener::Systemd
                && takes_as_ipv6(&address.bound, &listener.address)
                && name.is_some_and(|name| !is_named(&name))
        };
        let mut of_both = spare.clone();
        { spare }.find(same).or_else(|| of_both.find(for_both))
    }

    /// Opens an address, and tries again as long as there is patience if it is in use.
    fn bind(
        &self,
        listener: &Listener,
        workers: usize,
        opened: &[(u64, Address)],
        patience: &mut Patience<'_>,
    ) -> Result<Bound, StartError> {
        let ours = self.open.iter().chain(opened).map(|(_, address)| address);
        // What the process before had is there until this takes effect, too.
        let inherited = self.inherited.iter();
        let inherited = inherited.filter(|address| address.opener == Opener::Predecessor);
        let mut sharing = ours.clone().chain(inherited);
        let shares_port = sharing.any(|address| same_port(&address.name, &listener.address));
        loop {
            let error = match bind(listener, workers, shares_port) {
                Ok(bound) => return Ok(bound),
                Err(error) => error,
            };
            let refused = refused(listener, &error);
            if error.kind() != io::ErrorKind::AddrInUse {
                return Err(refused);
            }
            let unused = self.inherited.iter().chain(&self.unused);
            let mut of_systemd = ours.clone().chain(unused);
            if let Some(reason) = of_systemd.find_map(|address| in_the_way(address, listener)) {
                return Err(emerg(format_args!("{refused}: {reason}")));
            }
            if !patience.wait(&refused) {
                return Err(refused);
            }
        }
    }

    /// Makes what was opened part of the process and closes what `ids` do not name any more.
    pub(super) fn commit(&mut self, opened: Opened, log: &ErrorLog) {
        let Opened { ids, opened } = opened;
        let all = self.open.drain(..).chain(opened);
        let (open, closed): (Vec<_>, Vec<_>) = all.partition(|(id, _)| ids.contains(id));
        self.open = open;
        let is_used = |address: &Address| self.open.iter().any(|(_, used)| used.is(address));
        self.unused.retain(|address| !is_used(address));
        let closed = closed.into_iter().map(|(_, address)| address);
        for mut address in self.inherited.drain(..).chain(closed) {
            if address.opener != Opener::Systemd || is_used(&address) {
                continue;
            }
            if let Some(name) = name_of(&address.bound) {
                address.name = name;
            }
            let message = format_args!(
                "nobody is accepted on the socket that systemd has opened at {}: no \"listen\" names it",
                Shown(&address.name)
            );
            log.note(Level::Warn, message);
            self.unused.push(address);
        }
    }

    /// What every worker has to drop when it has closed what was removed.
    pub(super) fn closing(&mut self) -> Done {
        // Workers take one configuration over after the other: who has closed what this one removed has closed what those
        // before it did.
        let (closed, all_closed) = unbounded_channel();
        self.closing = Some(all_closed);
        closed
    }

    /// Waits for workers that have yet to close what was removed. False if there is nothing to wait for.
    pub(super) async fn all_closed(&mut self) -> bool {
        let Some(mut closing) = self.closing.take() else {
            return false;
        };
        let _ = tokio::time::timeout(CLOSING_PATIENCE, closing.recv()).await;
        true
    }
}

/// How often an address that is in use is tried for again, as nginx does at a start: who had it may be on the way out.
pub(super) struct Patience<'a> {
    retries: u32,
    log: &'a ErrorLog,
}

impl<'a> Patience<'a> {
    /// For two seconds in all.
    pub(super) fn of_start(log: &'a ErrorLog) -> Self {
        Self { retries: 4, log }
    }

    /// Not at all.
    pub(super) fn none(log: &'a ErrorLog) -> Self {
        Self { retries: 0, log }
    }

    /// Waits; false: no longer.
    fn wait(&mut self, error: &StartError) -> bool {
        let Some(left) = self.retries.checked_sub(1) else {
            return false;
        };
        self.retries = left;
        let pause = RETRY_PAUSE.as_millis();
        let message = format_args!("{error}; try again to bind() after {pause}ms");
        self.log.note(Level::Notice, message);
        std::thread::sleep(RETRY_PAUSE);
        true
    }
}

/// What was opened for a configuration, and is closed again unless that takes effect.
pub(super) struct Opened {
    ids: Vec<u64>,
    opened: Vec<(u64, Address)>,
}

impl Opened {
    /// For each listener of the configuration, the number of its address.
    pub(super) fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// What was opened, by the number of its address.
    pub(super) fn bound(&self) -> Vec<(u64, Arc<Bound>)> {
        let opened = self.opened.iter();
        opened
            .map(|(id, address)| (*id, Arc::clone(&address.bound)))
            .collect()
    }
}

/// For each worker, the sockets that it is to accept from. What it could lack then is lacking here already, where nobody is served by it.
///
/// # Errors
/// No descriptors are left.
pub(super) fn for_workers(
    bound: &[(u64, Arc<Bound>)],
    workers: usize,
) -> Result<Vec<Sockets>, StartError> {
    let of_one = |worker| {
        let bound = bound.iter();
        bound
            .map(|(id, bound)| Ok((*id, bound.for_worker(worker, workers)?)))
            .collect()
    };
    let all: io::Result<_> = (0..workers).map(of_one).collect();
    all.map_err(|error| {
        let cause = Cause::from(&error);
        emerg(format_args!("fcntl(F_DUPFD_CLOEXEC) failed ({cause})"))
    })
}

/// The error of an address that cannot be had.
pub(super) fn refused(listener: &Listener, error: &io::Error) -> StartError {
    let address = Shown(&listener.address);
    emerg(format_args!(
        "bind() to {address} failed ({})",
        Cause::from(error)
    ))
}

/// Whether two addresses name the same port, as `*:80` and `127.0.0.1:80` do.
fn same_port(one: &ListenAddress, other: &ListenAddress) -> bool {
    match (one, other) {
        (ListenAddress::Inet(one), ListenAddress::Inet(other)) => {
            one.port() != 0 && one.port() == other.port()
        }
        _ => false,
    }
}

/// Whether IPv6 sockets take clients of this IPv4 address.
fn takes_as_ipv6(bound: &Bound, other: &ListenAddress) -> bool {
    match (bound.address(), other) {
        (Some(address), ListenAddress::Inet(other)) => {
            other.is_ipv4() && other.port() == address.port() && bound.takes_both_protocols()
        }
        _ => false,
    }
}

/// Why a listener cannot have its address, if it is because systemd has it already in another way, and what to do about it.
fn in_the_way(address: &Address, listener: &Listener) -> Option<String> {
    let ListenAddress::Inet(wanted) = listener.address else {
        return None;
    };
    let at = address.bound.address()?;
    if address.opener != Opener::Systemd || at.port() != wanted.port() {
        None
    } else if address.bound.takes_both_protocols() {
        Some(format!(
            "systemd has opened {at} for IPv4, too; let its socket unit say BindIPv6Only=ipv6-only"
        ))
    } else if at.is_ipv4() == wanted.is_ipv4()
        && at.ip().is_unspecified() != wanted.ip().is_unspecified()
    {
        Some(format!(
            "systemd has opened {at}; let \"listen\" and its socket unit name the same address"
        ))
    } else {
        None
    }
}

/// Opens an address, with a socket for each worker. `shares_port`: another address with this port is open already.
pub(super) fn bind(listener: &Listener, workers: usize, shares_port: bool) -> io::Result<Bound> {
    match &listener.address {
        ListenAddress::Inet(address) => {
            Bound::inet(*address, workers, &inet_options(listener, shares_port))
        }
        ListenAddress::Unix(path) => Bound::unix(path, listener.backlog),
    }
}

fn inet_options(listener: &Listener, shares_port: bool) -> InetOptions {
    InetOptions {
        backlog: listener.backlog,
        shares_port,
        ipv6only: listener.ipv6only,
        keepalive: listener.keepalive.filter(|set| !set.off).map(keepalive),
    }
}

fn keepalive(set: TcpKeepalive) -> socket2::TcpKeepalive {
    let mut keepalive = socket2::TcpKeepalive::new();
    if let Some(idle) = set.idle {
        keepalive = keepalive.with_time(idle);
    }
    if let Some(interval) = set.interval {
        keepalive = keepalive.with_interval(interval);
    }
    if let Some(count) = set.count {
        keepalive = keepalive.with_retries(count);
    }
    keepalive
}

/// An address in nginx's words.
struct Shown<'a>(&'a ListenAddress);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ListenAddress::Inet(address) => address.fmt(f),
            ListenAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
