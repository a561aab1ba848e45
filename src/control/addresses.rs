//! The listening addresses of the process.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::config::model::{ListenAddress, Listener};
use crate::net::{Bound, InetOptions};
use crate::observe::cause::Cause;

use super::{StartError, emerg};

/// The listening addresses of the process, by the number that workers know them by.
#[derive(Default)]
pub(super) struct Addresses {
    open: Vec<(ListenAddress, u64, Arc<Bound>)>,
    next: u64,
}

impl Addresses {
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
            let bound = bind(listener, workers).map_err(|error| refused(listener, &error))?;
            ids.push(next);
            opened.push((listener.address.clone(), next, Arc::new(bound)));
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
            .map(|(_, id, bound)| (*id, Arc::clone(bound)))
            .collect();
        self.open.extend(opened);
        self.open.retain(|(_, id, _)| ids.contains(id));
        new
    }
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

/// Opens an address, with a socket for each worker.
pub(super) fn bind(listener: &Listener, workers: usize) -> io::Result<Bound> {
    match &listener.address {
        ListenAddress::Inet(address) => {
            let keepalive = listener
                .keepalive
                .map(|set| (!set.off, set.idle, set.interval, set.count));
            let options = InetOptions {
                backlog: listener.backlog,
                ipv6only: listener.ipv6only,
                keepalive,
            };
            Bound::inet(*address, workers, options)
        }
        ListenAddress::Unix(path) => Bound::unix(path, workers, listener.backlog),
    }
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
