//! How clients come in: listening sockets, and room for connections.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::config::model::Level;
use crate::net::{self, Accepted, Listener, Unwatched, now};
use crate::observe::Done;
use crate::observe::cause::Cause;
use crate::observe::groups::unix_seconds;

use super::client::Client;
use super::worker::Worker;

/// Clients accepted in a row before others get their turn.
const ACCEPT_BATCH: usize = 64;

/// How long an address that nobody is let in at any more stays open for those whose handshake is under way: a round trip around the
/// world.
const HANDSHAKE_PATIENCE: Duration = Duration::from_millis(300);

/// How long a worker without descriptors waits before it accepts again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);

/// Idle clients that are asked to go at once when connections are not enough: all have to be looked at to find the oldest.
const LEAVING_BATCH: usize = 32;

/// How long no idle client is looked for after none was found.
const NONE_IDLE_PAUSE: Duration = Duration::from_millis(10);

/// A listening socket that a task accepts from, until this is dropped.
struct Open {
    listener: Rc<Listener>,
    /// Takes what the task has to drop when the socket is closed.
    closing: oneshot::Sender<Done>,
}

/// Where a worker's clients come in.
#[derive(Default)]
pub(super) struct Doors {
    /// The addresses that are open.
    addresses: RefCell<HashMap<u64, Vec<Open>>>,
    clients_accepted: Cell<u64>,
    /// When it was last reported that clients cannot come in.
    complained: Cell<Option<Instant>>,
    /// Every client is busy or logged in, as far as is known, until then.
    none_idle_until: Cell<Option<Instant>>,
}

impl Worker {
    /// Accepts at one more address.
    ///
    /// # Errors
    /// The kernel refuses to watch a socket.
    pub(super) fn listen(self: &Rc<Self>, id: u64, sockets: Vec<Unwatched>) -> io::Result<()> {
        let mut open = Vec::new();
        for socket in sockets {
            let (closing, closed) = oneshot::channel();
            let listener = Rc::new(Listener::new(socket)?);
            open.push(Open {
                listener: Rc::clone(&listener),
                closing,
            });
            net::spawn(Rc::clone(self).accept(id, listener, closed));
        }
        self.doors.addresses.borrow_mut().insert(id, open);
        Ok(())
    }

    /// Closes the addresses that are not among `open`. Whoever waits at those of them that are among `alone` is accepted before; at the
    /// others, another process has the sockets, too. `closed` is dropped when the kernel has let go of them.
    pub(super) async fn close_addresses(
        self: &Rc<Self>,
        open: &[u64],
        alone: &[u64],
        closed: Option<Done>,
    ) {
        let goes = |id: &u64| !open.contains(id);
        self.close(|id| goes(id) && !alone.contains(id), closed.as_ref());
        if self.doors.addresses.borrow().keys().any(goes) {
            net::sleep(HANDSHAKE_PATIENCE).await;
            for (&id, open) in &*self.doors.addresses.borrow() {
                if goes(&id) {
                    self.accept_all(id, open);
                }
            }
        }
        self.close(goes, closed.as_ref());
    }

    fn close(&self, goes: impl Fn(&u64) -> bool, closed: Option<&Done>) {
        let mut addresses = self.doors.addresses.borrow_mut();
        let gone = addresses.extract_if(|id, _| goes(id));
        for Open { closing, .. } in gone.flat_map(|(_, open)| open) {
            if let Some(closed) = closed {
                let _ = closing.send(closed.clone());
            }
        }
    }

    fn accept_all(self: &Rc<Self>, listen: u64, open: &[Open]) {
        for Open { listener, .. } in open {
            while let Ok(Some(accepted)) = listener.try_accept() {
                self.start(accepted, listen);
            }
        }
    }

    /// Accepts until `closed` tells of the end, or the sender of it is gone.
    async fn accept(
        self: Rc<Self>,
        listen: u64,
        listener: Rc<Listener>,
        mut closed: oneshot::Receiver<Done>,
    ) {
        let closed = loop {
            tokio::select! {
                biased;
                closed = &mut closed => break closed,
                () = listener.readable() => {}
            }
            for _ in 0..ACCEPT_BATCH {
                match listener.try_accept() {
                    Ok(Some(accepted)) => self.start(accepted, listen),
                    Ok(None) => break,
                    Err(error) => {
                        // Out of descriptors or memory, or the network's trouble: it passes, and the address stays open.
                        let cause = Cause::from(&error);
                        self.complain(Level::Crit, format_args!("accept4() failed ({cause})"));
                        self.make_room();
                        net::sleep(ACCEPT_PAUSE).await;
                        break;
                    }
                }
            }
        };
        drop(listener);
        // What the driver still waits for there ends with this turn.
        net::give_way().await;
        drop(closed);
    }

    fn start(self: &Rc<Self>, accepted: Accepted, listen: u64) {
        self.counters.accepted.add(1);
        if !self.has_room() {
            self.counters.turned_away_at.set(unix_seconds());
            return;
        }
        self.counters.handled.add(1);
        let count = self.doors.clients_accepted.get() + 1;
        self.doors.clients_accepted.set(count);
        let number = (count - 1) * self.workers as u64 + self.number as u64 + 1;
        let client = Box::new(Client::new(Rc::clone(self), accepted, listen, number));
        // As it is now: the address may be gone when the task has its first turn.
        net::spawn(client.serve(self.settings()));
    }

    /// Whether clients and upstream connections are fewer than `worker_connections`. Where they are not, idle connections that
    /// nobody is logged in on go first.
    pub(super) fn has_room(&self) -> bool {
        let limit = self.settings().config().main.worker_connections;
        let fits = || self.slots.staying() + self.groups.connections.get() < limit;
        if fits() {
            return true;
        }
        self.make_room();
        let fits = fits();
        if fits {
            let message =
                format_args!("{limit} worker_connections are not enough, reusing connections");
            self.complain(Level::Warn, message);
        } else {
            let message = format_args!("{limit} worker_connections are not enough");
            self.complain(Level::Alert, message);
        }
        fits
    }

    /// Closes a clean upstream connection that is idle, or asks idle clients without a pin to go.
    fn make_room(&self) {
        let pooled = self.groups.shed();
        if pooled.is_some()
            || self
                .doors
                .none_idle_until
                .get()
                .is_some_and(|at| now() < at)
        {
            return;
        }
        if self.slots.make_room(LEAVING_BATCH) == 0 {
            self.doors
                .none_idle_until
                .set(Some(now() + NONE_IDLE_PAUSE));
        }
    }

    /// Reports, once a second at the most, that connections cannot be made.
    fn complain(&self, level: Level, message: std::fmt::Arguments<'_>) {
        let now = now();
        let last = self.doors.complained.get();
        if last.is_none_or(|at| now.duration_since(at) >= Duration::from_secs(1)) {
            self.doors.complained.set(Some(now));
            self.main_log().note(level, message);
        }
    }
}
