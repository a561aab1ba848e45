//! A worker: one thread, one core, its own clients, pins, pools, logs and counters. Nothing that it writes is shared.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

use crate::config::Config;
use crate::config::model::{self, Level};
use crate::http::rewrite::Rewrite;
use crate::limit::Zone;
use crate::net::{self, Unwatched, now};
use crate::observe::cause::Cause;
use crate::observe::counters::Counters;
use crate::observe::error_log::ErrorLog;
use crate::observe::figures::Figures;
use crate::observe::groups::GroupCounters;
use crate::observe::recent::Recent;
use crate::observe::{Done, Log, outlet};
use crate::pin::pins::Pinned;
use crate::pin::{EndReason, LoginEnd};
use crate::tls::{GroupTls, ServerTls};

use super::accept::Doors;
use super::groups::Groups;
use super::limits::OwnZone;
use super::request::{Request, Response};
use super::slot::{SlotKey, Slots};
use super::upstream::{Group, Upstream};

/// Response heads whose memory is kept for the next one: most answers are over in the turn in which they begin.
const RESPONSES_KEPT: usize = 64;

/// One configuration with everything opened that it names: made by the control thread, shared by all workers, never
/// changed.
#[derive(Debug)]
pub struct Deployment {
    /// The configuration.
    pub config: Config,
    /// For each location, where its errors go.
    pub error_logs: Vec<Arc<ErrorLog>>,
    /// For each location, the files of its `access_log` lines, in their order.
    pub access_logs: Vec<Vec<Arc<Log>>>,
    /// For each listener of the configuration, the number of its address in this process, the same through every reload.
    pub listen_ids: Vec<u64>,
    /// The memory of each `limit_req_zone` and `limit_conn_zone`: what is written in it is the one thing that workers share.
    pub zones: Vec<Arc<Zone>>,
    /// For each server, how its handshakes are made; `None`: it rejects them, or has no certificate.
    pub tls: Vec<Option<Arc<ServerTls>>>,
    /// For each group, how handshakes with its servers are made; `None`: they are spoken to without TLS.
    pub group_tls: Vec<Option<GroupTls>>,
    /// Failed logins by client address, if `ntlm_fail_delay` is used.
    pub logins: Option<Arc<Zone>>,
    /// The main context's error log.
    pub main_log: Arc<ErrorLog>,
}

/// What the control thread tells a worker.
pub enum Command {
    /// Take over a configuration.
    Deploy {
        /// All of it, but for what `sockets` are for.
        deployment: Arc<Deployment>,
        /// Where to listen, too.
        sockets: Sockets,
        /// As in [`Command::Drain`].
        alone: Arc<[u64]>,
        /// To be dropped when the addresses are closed that it does not name.
        closed: Done,
    },
    /// Hand over the log lines that wait, then drop this.
    HandLogsOver(Done),
    /// Finish what is in flight, then stop.
    Drain {
        /// The addresses that no other process has, nor whoever waits there.
        alone: Arc<[u64]>,
    },
    /// Stop.
    Stop,
    /// Say something, to show that the worker's tasks get their turn.
    Answer(oneshot::Sender<()>),
}

/// Listening sockets for one worker, by the number of their address.
pub type Sockets = Vec<(u64, Vec<Unwatched>)>;

/// What a worker is started with.
pub struct Setup {
    /// Its number, from 0.
    pub number: usize,
    /// How many there are.
    pub workers: usize,
    /// The configuration.
    pub deployment: Arc<Deployment>,
    /// Where to listen.
    pub sockets: Sockets,
    /// What the process shows of itself; this worker writes the counters at `number`.
    pub figures: Arc<Figures>,
    /// What it waits with.
    pub driver: net::Driver,
    /// What the control thread says.
    pub commands: UnboundedReceiver<Command>,
    /// Called once when the worker accepts clients.
    pub ready: Box<dyn FnOnce() + Send>,
}

/// Runs a worker on this thread until it is told to stop, or drained.
///
/// # Errors
/// The kernel refuses the driver, or to watch the listening sockets.
pub fn run(setup: Setup) -> io::Result<()> {
    let _outlets = outlet::install();
    net::run(setup.driver, async move {
        let worker = Worker::new(&setup);
        let Setup {
            deployment,
            sockets,
            mut commands,
            ready,
            ..
        } = setup;
        // It would be held for ever here, its logs with it.
        drop(deployment);
        for (id, sockets) in sockets {
            worker.listen(id, sockets)?;
        }
        net::spawn(Rc::clone(&worker).sweep());
        ready();
        while let Some(command) = commands.recv().await {
            match command {
                Command::Deploy {
                    deployment,
                    sockets,
                    alone,
                    closed,
                } => {
                    // First, so that whoever comes in there is served as the configuration says that names the address.
                    let open = &deployment.listen_ids;
                    worker.close_addresses(open, &alone, Some(closed)).await;
                    worker.deploy(deployment);
                    for (id, sockets) in sockets {
                        if let Err(error) = worker.listen(id, sockets) {
                            // Whoever is served already need not lose his login for it.
                            let cause = Cause::from(&error);
                            let message = format_args!("a new address is not watched ({cause})");
                            worker.main_log().note(Level::Alert, message);
                        }
                    }
                }
                Command::HandLogsOver(_done) => outlet::flush(),
                Command::Drain { alone } => {
                    // First, so that whoever is told to come again is refused at once where he would come here.
                    worker.close_addresses(&[], &alone, None).await;
                    worker.slots.drain();
                    while worker.slots.len() + net::closing() > 0 {
                        match commands.try_recv() {
                            // It ends the patience.
                            Ok(Command::Stop) => break,
                            Ok(Command::Answer(asker)) => answer(asker),
                            Ok(Command::HandLogsOver(_done)) => outlet::flush(),
                            _ => {}
                        }
                        net::sleep(Duration::from_millis(20)).await;
                    }
                    break;
                }
                Command::Stop => break,
                Command::Answer(asker) => answer(asker),
            }
        }
        Ok(())
    })?
}

fn answer(asker: oneshot::Sender<()>) {
    // Who asked may be on the way out.
    let _ = asker.send(());
}

/// A configuration as one worker uses it.
pub(super) struct Settings {
    pub(super) deployment: Arc<Deployment>,
    pub(super) groups: Vec<Rc<Group>>,
    /// Those of the deployment.
    pub(super) zones: Vec<Rc<OwnZone>>,
}

impl Settings {
    pub(super) fn config(&self) -> &Config {
        &self.deployment.config
    }

    pub(super) fn group(&self, index: model::GroupIndex) -> Rc<Group> {
        Rc::clone(&self.groups[index])
    }

    /// The listener of an address, if the configuration still has it.
    pub(super) fn listener(&self, id: u64) -> Option<usize> {
        self.deployment
            .listen_ids
            .iter()
            .position(|&known| known == id)
    }

    /// The server of a listener that answers where no name matches.
    pub(super) fn default_server(&self, listener: usize) -> &model::Server {
        let http = &self.config().http;
        &http.servers[http.listeners[listener].names.default]
    }
}

/// One worker's own world.
pub(super) struct Worker {
    pub(super) number: usize,
    pub(super) workers: usize,
    settings: RefCell<Rc<Settings>>,
    pub(super) groups: Groups,
    pub(super) slots: Slots,
    // Boxed: a request moves from task to task, and is large.
    #[allow(clippy::vec_box)]
    requests: RefCell<Vec<Box<Request>>>,
    /// The fewest that `requests` held since the last sweep: so many were needed by nobody.
    spare_requests: Cell<usize>,
    #[allow(clippy::vec_box)]
    responses: RefCell<Vec<Box<Response>>>,
    /// Where a request's head is prepared.
    pub(super) rewrite: Cell<Rewrite>,
    pub(super) counters: Arc<Counters>,
    pub(super) figures: Arc<Figures>,
    /// For the groups together that the configuration does not name.
    pub(super) others: Arc<GroupCounters>,
    /// Ends of logins, as [`Logins::by_end`](crate::observe::counters::Logins::by_end) counts them.
    pub(super) recent_logins: Recent<{ LoginEnd::ALL.len() }>,
    pub(super) doors: Doors,
    pins_made: Cell<u64>,
    hostname: String,
}

impl Worker {
    fn new(setup: &Setup) -> Rc<Self> {
        let empty = Rc::new(Settings {
            deployment: Arc::clone(&setup.deployment),
            groups: Vec::new(),
            zones: Vec::new(),
        });
        let worker = Rc::new(Self {
            number: setup.number,
            workers: setup.workers,
            settings: RefCell::new(empty),
            groups: Groups::default(),
            slots: Slots::new(now()),
            requests: RefCell::default(),
            spare_requests: Cell::new(0),
            responses: RefCell::default(),
            rewrite: Cell::default(),
            counters: Arc::clone(&setup.figures.workers[setup.number]),
            figures: Arc::clone(&setup.figures),
            others: Arc::default(),
            recent_logins: Recent::new(now()),
            doors: Doors::default(),
            pins_made: Cell::new(0),
            hostname: nix::unistd::gethostname()
                .map(|name| name.to_string_lossy().to_lowercase())
                .unwrap_or_default(),
        });
        worker.deploy(Arc::clone(&setup.deployment));
        worker
    }

    /// Takes over a configuration. What is in flight goes on under the old one.
    fn deploy(&self, deployment: Arc<Deployment>) {
        let sessions = deployment.group_tls.iter();
        let groups = deployment.config.http.groups.iter().zip(sessions);
        let groups = groups.map(|(group, tls)| {
            let group = self.groups.take_over(group);
            group.tls.replace(tls.clone());
            group
        });
        let groups: Vec<_> = groups.collect();
        self.show_groups(&groups);
        let zones = deployment.zones.iter().cloned().map(OwnZone::new).collect();
        self.settings.replace(Rc::new(Settings {
            deployment,
            groups,
            zones,
        }));
        // Nothing waits any more for logs that the new configuration does not name.
        outlet::flush();
    }

    /// The configuration for the next request.
    pub(super) fn settings(&self) -> Rc<Settings> {
        Rc::clone(&self.settings.borrow())
    }

    /// The same if it is another one than `known`.
    pub(super) fn settings_unless(&self, known: &Rc<Settings>) -> Option<Rc<Settings>> {
        let settings = self.settings.borrow();
        (!Rc::ptr_eq(&settings, known)).then(|| Rc::clone(&settings))
    }

    pub(super) fn main_log(&self) -> Arc<ErrorLog> {
        Arc::clone(&self.settings.borrow().deployment.main_log)
    }

    pub(super) fn hostname(&self) -> &str {
        &self.hostname
    }

    /// Memory for a request.
    pub(super) fn take_request(&self) -> Box<Request> {
        let mut requests = self.requests.borrow_mut();
        let kept = requests.pop();
        let left = requests.len().min(self.spare_requests.get());
        self.spare_requests.set(left);
        match kept {
            Some(mut request) => {
                request.reset();
                request
            }
            None => Box::new(Request::new()),
        }
    }

    pub(super) fn give_back(&self, mut request: Box<Request>) {
        if let Some(mut response) = request.response.take() {
            response.reset();
            let mut responses = self.responses.borrow_mut();
            if responses.len() < RESPONSES_KEPT {
                responses.push(response);
            }
        }
        request.retire();
        self.requests.borrow_mut().push(request);
    }

    /// Memory for a response's head.
    pub(super) fn take_response(&self) -> Box<Response> {
        self.responses.borrow_mut().pop().unwrap_or_default()
    }

    /// Frees the memory for requests that a whole interval between two sweeps did not need.
    pub(super) fn free_spare_requests(&self) {
        let mut requests = self.requests.borrow_mut();
        // Those that were used longest ago.
        requests.drain(..self.spare_requests.get());
        self.spare_requests.set(requests.len());
    }

    /// A number for a new pin, unlike every other of this process.
    pub(super) fn next_pin_id(&self) -> u64 {
        let count = self.pins_made.get() + 1;
        self.pins_made.set(count);
        (count - 1) * self.workers as u64 + self.number as u64 + 1
    }

    /// Puts an established pin on its group's list of idle ones, and has those given up that are too many.
    pub(super) fn rest(&self, pin: &mut Pinned<Upstream>, client: SlotKey) {
        let group = Rc::clone(&pin.connection().group);
        let limit = pin.connection().pin_limits.connections;
        let mut evicted: SmallVec<[SlotKey; 2]> = SmallVec::new();
        {
            let mut idle = group.idle_pins.borrow_mut();
            pin.connection_mut().idle = Some(idle.insert(client));
            while let Some(key) = idle.overflow(limit) {
                evicted.push(key);
            }
        }
        for key in evicted {
            self.slots.evict(key, group.id);
        }
    }

    /// Closes a pin, and says why where somebody looks.
    pub(super) fn end_pin(&self, mut pin: Pinned<Upstream>, reason: EndReason) {
        self.counters.pins_ended.count(reason);
        if let Some(login) = pin.connection_mut().login.take() {
            login.abort(self, &pin.connection().peer_name(), reason);
        }
        let group = &pin.connection().group;
        let settings = self.settings();
        let log = &settings.deployment.main_log;
        log.note(
            Level::Info,
            format_args!(
                "pin {} of upstream \"{}\" to {} ended after {} requests: {}",
                pin.id(),
                group.name,
                pin.connection().peer_name(),
                pin.requests(),
                reason.word(),
            ),
        );
    }

    /// Closes a pin that had to go for another client's, and warns now and then.
    pub(super) fn end_evicted_pin(&self, pin: Pinned<Upstream>) {
        let group = Rc::clone(&pin.connection().group);
        let limit = pin.connection().pin_limits.connections;
        self.end_pin(pin, EndReason::Evicted);
        group.note_eviction();
        self.report_evictions(&group, limit);
    }
}
