//! A worker: one thread, one core, its own clients, pins, pools, logs and counters. Nothing that it writes is shared.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

use crate::balance;
use crate::config::Config;
use crate::config::model::{self, Level, PeerAddress};
use crate::http::rewrite::Rewrite;
use crate::limit::Zone;
use crate::net::{self, Accepted, Listener, Unwatched, now};
use crate::observe::cause::Cause;
use crate::observe::counters::Counters;
use crate::observe::error_log::ErrorLog;
use crate::observe::figures::Figures;
use crate::observe::groups::{GroupCounters, unix_seconds};
use crate::observe::recent::Recent;
use crate::observe::{Done, Log, outlet};
use crate::pin::pins::Pinned;
use crate::pin::{self, EndReason, GroupId, LoginEnd};
use crate::tls::{GroupTls, ServerTls};

use super::client::Client;
use super::limits::OwnZone;
use super::request::{Request, Response};
use super::slot::{SlotKey, Slots};
use super::upstream::{Group, Upstream};

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

/// Response heads whose memory is kept for the next one: most answers are over in the turn in which they begin.
const RESPONSES_KEPT: usize = 64;

/// Groups made for `proxy_pass` with variables, above which unused ones are forgotten at once, so that requests cannot fill the memory
/// with names.
const NAMED_BY_REQUESTS_MAX: usize = 1000;

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
                            worker
                                .settings()
                                .deployment
                                .main_log
                                .note(Level::Alert, message);
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
    groups: Vec<Rc<Group>>,
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

/// A listening socket that a task accepts from, until this is dropped.
struct Open {
    listener: Rc<Listener>,
    /// Takes what the task has to drop when the socket is closed.
    closing: oneshot::Sender<Done>,
}

/// One worker's own world.
pub(super) struct Worker {
    number: usize,
    workers: usize,
    settings: RefCell<Rc<Settings>>,
    /// Groups by name. They stay through reloads, and with them their pins' ids.
    pub(super) groups: RefCell<HashMap<String, Rc<Group>>>,
    next_group: Cell<u32>,
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
    pub(super) upstream_connections: Rc<Cell<usize>>,
    /// The addresses that are open.
    addresses: RefCell<HashMap<u64, Vec<Open>>>,
    clients_accepted: Cell<u64>,
    pins_made: Cell<u64>,
    hostname: String,
    /// When it was last reported that clients cannot come in.
    complained: Cell<Option<Instant>>,
    /// Every client is busy or logged in, as far as is known, until then.
    none_idle_until: Cell<Option<Instant>>,
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
            groups: RefCell::default(),
            next_group: Cell::new(0),
            slots: Slots::new(now()),
            requests: RefCell::default(),
            spare_requests: Cell::new(0),
            responses: RefCell::default(),
            rewrite: Cell::default(),
            counters: Arc::clone(&setup.figures.workers[setup.number]),
            figures: Arc::clone(&setup.figures),
            others: Arc::default(),
            recent_logins: Recent::new(now()),
            upstream_connections: Rc::default(),
            addresses: RefCell::default(),
            clients_accepted: Cell::new(0),
            pins_made: Cell::new(0),
            hostname: nix::unistd::gethostname()
                .map(|name| name.to_string_lossy().to_lowercase())
                .unwrap_or_default(),
            complained: Cell::new(None),
            none_idle_until: Cell::new(None),
        });
        worker.deploy(Arc::clone(&setup.deployment));
        worker
    }

    /// Takes over a configuration. What is in flight goes on under the old one.
    fn deploy(&self, deployment: Arc<Deployment>) {
        let sessions = deployment.group_tls.iter();
        let groups = deployment.config.http.groups.iter().zip(sessions);
        let groups = groups.map(|(group, tls)| {
            let known = self.groups.borrow().get(&group.key).cloned();
            let group = match known {
                Some(known) => {
                    known.reconfigure(group);
                    known
                }
                None => self.add_group(group),
            };
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

    fn add_group(&self, group: &model::Group) -> Rc<Group> {
        let id = GroupId(self.next_group.get());
        self.next_group.set(id.0 + 1);
        let made = Rc::new(Group::new(id, group, Rc::clone(&self.upstream_connections)));
        self.groups
            .borrow_mut()
            .insert(group.key.clone(), Rc::clone(&made));
        made
    }

    fn listen(self: &Rc<Self>, id: u64, sockets: Vec<Unwatched>) -> io::Result<()> {
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
        self.addresses.borrow_mut().insert(id, open);
        Ok(())
    }

    /// Closes the addresses that are not among `open`. Whoever waits at those of them that are among `alone` is accepted before; at the
    /// others, another process has the sockets, too. `closed` is dropped when the kernel has let go of them.
    async fn close_addresses(self: &Rc<Self>, open: &[u64], alone: &[u64], closed: Option<Done>) {
        let goes = |id: &u64| !open.contains(id);
        self.close(|id| goes(id) && !alone.contains(id), closed.as_ref());
        if self.addresses.borrow().keys().any(goes) {
            net::sleep(HANDSHAKE_PATIENCE).await;
            for (&id, open) in &*self.addresses.borrow() {
                if goes(&id) {
                    self.accept_all(id, open);
                }
            }
        }
        self.close(goes, closed.as_ref());
    }

    fn close(&self, goes: impl Fn(&u64) -> bool, closed: Option<&Done>) {
        let mut addresses = self.addresses.borrow_mut();
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
        let count = self.clients_accepted.get() + 1;
        self.clients_accepted.set(count);
        let number = (count - 1) * self.workers as u64 + self.number as u64 + 1;
        let client = Box::new(Client::new(Rc::clone(self), accepted, listen, number));
        // As it is now: the address may be gone when the task has its first turn.
        net::spawn(client.serve(self.settings()));
    }

    /// Whether clients and upstream connections are fewer than `worker_connections`. Where they are not, idle connections that
    /// nobody is logged in on go first.
    pub(super) fn has_room(&self) -> bool {
        let limit = self.settings.borrow().config().main.worker_connections;
        let fits = || self.slots.staying() + self.upstream_connections.get() < limit;
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
        let pooled = {
            let groups = self.groups.borrow();
            let shed = |group: &Rc<Group>| group.pool.borrow_mut().shed();
            groups.values().find_map(shed)
        };
        if pooled.is_some() || self.none_idle_until.get().is_some_and(|at| now() < at) {
            return;
        }
        if self.slots.make_room(LEAVING_BATCH) == 0 {
            self.none_idle_until.set(Some(now() + NONE_IDLE_PAUSE));
        }
    }

    /// Reports, once a second at the most, that connections cannot be made.
    fn complain(&self, level: Level, message: std::fmt::Arguments<'_>) {
        let now = now();
        let last = self.complained.get();
        if last.is_none_or(|at| now.duration_since(at) >= Duration::from_secs(1)) {
            self.complained.set(Some(now));
            self.main_log().note(level, message);
        }
    }

    /// Once a second, or more often where a short timeout is configured: ends waits that are over, closes idle clean
    /// connections, hands lines over that have waited for long enough, and brings the gauges up to date.
    async fn sweep(self: Rc<Self>) {
        loop {
            let pause = sweep_interval(self.settings.borrow().config());
            net::sleep(pause).await;
            let now = now();
            let mut next = self.slots.sweep(now, 0);
            while let Some(from) = next {
                net::give_way().await;
                next = self.slots.sweep(now, from);
            }
            self.free_spare_requests();
            let groups: Vec<Rc<Group>> = self.groups.borrow().values().cloned().collect();
            for group in &groups {
                group.sweep(now);
                let limits = group.ntlm.get().unwrap_or_default();
                self.report_evictions(group, limits.connections);
            }
            drop(groups);
            self.forget_unused();
            outlet::sweep(now);
            self.look();
        }
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

    fn main_log(&self) -> Arc<ErrorLog> {
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
    fn free_spare_requests(&self) {
        let mut requests = self.requests.borrow_mut();
        // Those that were used longest ago.
        requests.drain(..self.spare_requests.get());
        self.spare_requests.set(requests.len());
    }

    /// The group that a `proxy_pass` with variables named: one of the configuration, or an IP address with a port.
    pub(super) fn group_named(&self, settings: &Settings, name: &str) -> Option<Rc<Group>> {
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
        if let Some(known) = self.groups.borrow().get(name) {
            return Some(Rc::clone(known));
        }
        if self.groups.borrow().len() >= settings.groups.len() + NAMED_BY_REQUESTS_MAX {
            self.forget_unused();
        }
        let peer = balance::Peer {
            server: address.to_string(),
            name: address.to_string(),
            ..balance::Peer::default()
        };
        Some(self.add_group(&model::Group {
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
    fn forget_unused(&self) {
        let mut groups = self.groups.borrow_mut();
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

    /// Warns, once a minute at the most, that idle logins had to go for others.
    fn report_evictions(&self, group: &Group, connections: usize) {
        if let Some(count) = group.evictions_to_report(now()) {
            let name = &group.name;
            self.main_log().note(
                Level::Warn,
                format_args!(
                    "upstream \"{name}\": {count} idle logins were ended because \"ntlm {connections}\" connections are not enough, raise it"
                ),
            );
        }
    }
}

/// How often waits have to be looked at so that the shortest configured timeout is kept to a quarter of it.
fn sweep_interval(config: &Config) -> Duration {
    let timeouts = config.http.locations.iter().flat_map(|location| {
        let (client, proxy) = (&location.client, &location.proxy);
        [
            client.body_timeout,
            client.send_timeout,
            client.keepalive_timeout,
            proxy.connect_timeout,
            proxy.read_timeout,
            proxy.send_timeout,
        ]
    });
    let servers = config
        .http
        .servers
        .iter()
        .map(|server| server.header_timeout);
    let pins = config
        .http
        .groups
        .iter()
        .filter_map(|group| Some(group.ntlm?.idle_timeout));
    let unnamed = config
        .http
        .locations
        .iter()
        .filter_map(|location| Some(location.proxy.ntlm?.idle_timeout));
    let pools = config
        .http
        .groups
        .iter()
        .map(|group| group.pool.idle_timeout);
    let flushes = config
        .http
        .locations
        .iter()
        .flat_map(|location| &location.access_logs)
        .filter_map(|log| log.buffering?.flush);
    let shortest = timeouts
        .chain(flushes)
        .chain(servers)
        .chain(pins)
        .chain(unnamed)
        .chain(pools)
        .filter(|timeout| !timeout.is_zero())
        .min();
    (shortest.unwrap_or(Duration::MAX) / 4).clamp(Duration::from_millis(20), Duration::from_secs(1))
}
