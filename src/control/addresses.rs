//! The listening addresses of the process.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::config::model::{Level, ListenAddress, Listener, TcpKeepalive};
use crate::net::{Bound, InetOptions};
use crate::observe::cause::Cause;
use crate::observe::error_log::ErrorLog;

use super::{StartError, emerg};

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
    /// What this process was started with and has not used.
    inherited: Vec<Address>,
    next: u64,
    /// Those with a lower number were handed to the latest process with the new binary.
    handed_over: u64,
}

impl Addresses {
    /// With sockets that this process was started with; those that the first configuration does not name are closed.
    pub(super) fn with(inherited: Vec<Address>) -> Self {
        Self {
            inherited,
            ..Self::default()
        }
    }

    /// All that are open, for the process with the new binary.
    pub(super) fn hand_over(&mut self) -> impl Iterator<Item = &Address> {
        self.handed_over = self.next;
        self.open.iter().map(|(_, address)| address)
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
            // What is inherited is there until this takes effect, too.
            let ours = self.open.iter().chain(&opened);
            let mut ours = ours.map(|(_, address)| address).chain(&self.inherited);
            let shares_port = ours.any(|address| same_port(&address.name, &listener.address));
            let mut inherited = self.inherited.iter();
            let inherited = inherited.position(|address| address.name == listener.address);
            let address = match inherited {
                Some(at) => self.inherited.remove(at),
                None => Address {
                    name: listener.address.clone(),
                    bound: Arc::new(bind_patiently(
                        listener,
                        workers,
                        shares_port,
                        &mut patience,
                    )?),
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

    /// Makes what was opened part of the process and closes what `ids` do not name any more.
    pub(super) fn commit(&mut self, opened: Opened) -> Vec<(u64, Arc<Bound>)> {
        let Opened { ids, opened } = opened;
        let new = opened
            .iter()
            .map(|(id, address)| (*id, Arc::clone(&address.bound)))
            .collect();
        self.open.extend(opened);
        self.open.retain(|(id, _)| ids.contains(id));
        self.inherited.clear();
        new
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
}

/// Opens an address, as [`bind`] does, and again if it is in use.
fn bind_patiently(
    listener: &Listener,
    workers: usize,
    shares_port: bool,
    patience: &mut Patience<'_>,
) -> Result<Bound, StartError> {
    loop {
        let error = match bind(listener, workers, shares_port) {
            Ok(bound) => return Ok(bound),
            Err(error) => error,
        };
        let refused = refused(listener, &error);
        if error.kind() != io::ErrorKind::AddrInUse || !patience.wait(&refused) {
            return Err(refused);
        }
    }
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

/// Opens an address, with a socket for each worker. `shares_port`: another address with this port is open already.
pub(super) fn bind(listener: &Listener, workers: usize, shares_port: bool) -> io::Result<Bound> {
    match &listener.address {
        ListenAddress::Inet(address) => {
            let options = InetOptions {
                backlog: listener.backlog,
                shares_port,
                ipv6only: listener.ipv6only,
                keepalive: listener.keepalive.filter(|set| !set.off).map(keepalive),
            };
            Bound::inet(*address, workers, &options)
        }
        ListenAddress::Unix(path) => Bound::unix(path, listener.backlog),
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
