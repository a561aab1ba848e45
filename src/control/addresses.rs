//! The listening addresses of the process.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::config::model::{ListenAddress, Listener, TcpKeepalive};
use crate::net::{Bound, InetOptions};
use crate::observe::cause::Cause;

use super::{StartError, emerg};

/// How long workers may take to close what a reload removed before it is taken for used by somebody else.
const CLOSING_PATIENCE: Duration = Duration::from_secs(2);

/// The listening addresses of the process, by the number that workers know them by.
#[derive(Default)]
pub(super) struct Addresses {
    open: Vec<(ListenAddress, u64, Arc<Bound>)>,
    /// What this process was started with and has not used.
    inherited: Vec<(ListenAddress, Bound)>,
    next: u64,
    /// Ends when all workers have closed what was removed.
    closing: Option<UnboundedReceiver<Infallible>>,
}

impl Addresses {
    /// With sockets that this process was started with; those that the first configuration does not name are closed.
    pub(super) fn with(inherited: Vec<(ListenAddress, Bound)>) -> Self {
        Self {
            inherited,
            ..Self::default()
        }
    }

    /// All that are open.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&ListenAddress, &Bound)> {
        self.open
            .iter()
            .map(|(address, _, bound)| (address, &**bound))
    }

    /// Opens what `listeners` name and is not open yet. Returns the number of each, and what was opened.
    pub(super) fn open(
        &mut self,
        listeners: &[Listener],
        workers: usize,
    ) -> Result<Opened, StartError> {
        let mut ids = Vec::with_capacity(listeners.len());
        let mut opened = Vec::new();
        let mut next = self.next;
        for listener in listeners {
            // Each `listen` on port 0 has a port of its own, and keeps it.
            let known = self
                .open
                .iter()
                .find(|(address, id, _)| *address == listener.address && !ids.contains(id));
            if let Some((_, id, _)) = known {
                ids.push(*id);
                continue;
            }
            let ours = self.open.iter().chain(&opened);
            let shares_port = ours
                .map(|(address, ..)| address)
                .any(|address| same_port(address, &listener.address));
            let mut inherited = self.inherited.iter();
            let inherited = inherited.position(|(address, _)| *address == listener.address);
            let bound = match inherited {
                Some(at) => self.inherited.remove(at).1,
                None => bind(listener, workers, shares_port)
                    .map_err(|error| refused(listener, &error))?,
            };
            ids.push(next);
            opened.push((listener.address.clone(), next, Arc::new(bound)));
            next += 1;
        }
        self.next = next;
        Ok(Opened { ids, opened })
    }

    /// Makes what was opened part of the process. Returns that, and what the configuration does not name any more.
    pub(super) fn commit(&mut self, opened: Opened) -> Changes {
        let Opened { ids, opened } = opened;
        let new = opened
            .iter()
            .map(|(_, id, bound)| (*id, Arc::clone(bound)))
            .collect();
        let removed = { self.open.extract_if(.., |(_, id, _)| !ids.contains(id)) }
            .map(|(_, _, bound)| bound)
            .collect();
        self.open.extend(opened);
        self.inherited.clear();
        Changes { new, removed }
    }

    /// What every worker has to drop when it has closed what was removed.
    pub(super) fn closing(&mut self) -> UnboundedSender<Infallible> {
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

/// What a configuration changed.
pub(super) struct Changes {
    /// What workers have to listen on, by the number that they know it by.
    pub(super) new: Vec<(u64, Arc<Bound>)>,
    /// What they have to close.
    pub(super) removed: Vec<Arc<Bound>>,
}

/// What was opened for a configuration, and is closed again unless that takes effect.
pub(super) struct Opened {
    ids: Vec<u64>,
    opened: Vec<(ListenAddress, u64, Arc<Bound>)>,
}

impl Opened {
    /// For each listener of the configuration, the number of its address.
    pub(super) fn ids(&self) -> &[u64] {
        &self.ids
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
