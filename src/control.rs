//! The control thread: brings the process up, listens to signals, reloads, and takes it down. Nothing here is hot.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::config::model::{Level, ListenAddress, Listener, LogTarget, Main, TcpKeepalive};
use crate::config::{self, Config, System};
use crate::net::{Bound, Driver, InetOptions};
use crate::observe::cause::Cause;
use crate::observe::counters::Counters;
use crate::observe::error_log::ErrorLog;
use crate::observe::files::LogFiles;
use crate::process::{
    Identity, Io, PidFile, Ready, allowed_cores, check_ring, core_count, daemonize, pin_to_core,
    raise_nofile, redirect_stderr,
};
use crate::proxy::{self, Command, Deployment, Setup};

/// How long workers may take to stop at once before the process ends without them.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// Why the process could not start: what nginx would write after `[emerg] `.
#[derive(Debug)]
pub struct StartError(String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn emerg(error: impl fmt::Display) -> StartError {
    StartError(error.to_string())
}

/// Where the configuration came from, for reading it again.
pub enum Source {
    /// Files, read again on HUP.
    Files(config::Options),
    /// The command line alone: HUP changes nothing.
    CommandLine,
}

/// Serves until a signal ends it. With `daemon on` this returns in the daemon; the process that was started ends here.
///
/// # Errors
/// What kept it from starting.
pub fn serve(config: Config, source: Source, io: Io) -> Result<(), StartError> {
    let ready = if config.main.daemon {
        daemonize().map_err(emerg)?
    } else {
        Ready::in_front()
    };
    Control::start(config, source, io, ready)?.run()
}

/// The listening addresses of the process, by the number that workers know them by.
#[derive(Default)]
struct Addresses {
    open: Vec<(ListenAddress, u64, Arc<Bound>)>,
    next: u64,
}

impl Addresses {
    /// Opens what `listeners` name and is not open yet. Returns the number of each, and what was opened.
    fn open(&mut self, listeners: &[Listener], workers: usize) -> Result<Opened, StartError> {
        let mut ids = Vec::with_capacity(listeners.len());
        let mut opened = Vec::new();
        let mut next = self.next;
        for listener in listeners {
            // Several listeners may be on port 0 of the same address: each is the one that it was before a reload.
            let known = self
                .open
                .iter()
                .find(|(address, id, _)| *address == listener.address && !ids.contains(id));
            if let Some((_, id, _)) = known {
                ids.push(*id);
                continue;
            }
            let ours = self.open.iter().chain(&opened).map(|(address, ..)| address);
            let shares_port = ours
                .clone()
                .any(|address| same_port(address, &listener.address));
            let bound = bind(listener, workers, shares_port).map_err(|error| {
                let address = Shown(&listener.address);
                StartError(format!(
                    "bind() to {address} failed ({})",
                    Cause::from(&error)
                ))
            })?;
            ids.push(next);
            opened.push((listener.address.clone(), next, Arc::new(bound)));
            next += 1;
        }
        self.next = next;
        Ok(Opened { ids, opened })
    }

    /// Makes what was opened part of the process and closes what `ids` do not name any more.
    fn commit(&mut self, opened: Opened) -> Vec<(u64, Arc<Bound>)> {
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

struct Opened {
    ids: Vec<u64>,
    opened: Vec<(ListenAddress, u64, Arc<Bound>)>,
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

fn bind(listener: &Listener, workers: usize, shares_port: bool) -> io::Result<Bound> {
    match &listener.address {
        ListenAddress::Inet(address) => {
            let keepalive = listener.keepalive.filter(|set| !set.off).map(keepalive);
            let options = InetOptions {
                backlog: listener.backlog,
                ipv6only: listener.ipv6only,
                keepalive,
                shares_port,
            };
            Bound::inet(*address, workers, &options)
        }
        ListenAddress::Unix(path) => Bound::unix(path, workers, listener.backlog),
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

/// One worker thread, as the control thread holds it.
struct WorkerThread {
    commands: UnboundedSender<Command>,
    thread: JoinHandle<()>,
}

struct Control {
    source: Source,
    logs: LogFiles,
    main_log: Arc<ErrorLog>,
    addresses: Addresses,
    pid_file: Option<PidFile>,
    workers: Vec<WorkerThread>,
    /// Workers report here when they end, in whatever way.
    ended: UnboundedReceiver<Ended>,
    /// `worker_shutdown_timeout` and the like come from the present deployment.
    deployment: Arc<Deployment>,
    daemon: bool,
}

/// A worker came to its end.
struct Ended {
    worker: usize,
    /// What went wrong, if anything did.
    problem: Option<String>,
}

impl Control {
    fn start(config: Config, source: Source, io: Io, ready: Ready) -> Result<Self, StartError> {
        let daemon = config.main.daemon;
        let mut logs = LogFiles::default();
        let main_log = Arc::new(ErrorLog::open(&config.main.error_logs, &mut logs).map_err(emerg)?);
        for warning in &config.warnings {
            main_log.note(Level::Warn, format_args!("{warning}"));
        }
        let workers = config.main.workers.unwrap_or_else(core_count);
        let mut addresses = Addresses::default();
        let opened = addresses.open(&config.http.listeners, workers)?;
        let deployment = deploy(config, opened.ids.clone(), &mut logs)?;
        let bound = addresses.commit(opened);
        let main = &deployment.config.main;
        let pid_file = match &source {
            Source::Files(_) => Some(PidFile::create(&main.pid).map_err(emerg)?),
            Source::CommandLine => None,
        };
        if let Err(error) = raise_nofile(main.rlimit_nofile) {
            main_log.note(Level::Alert, format_args!("{error}"));
        }
        become_user(main.user.as_ref(), &logs, &main_log)?;
        let driver = choose_driver(io, main, &main_log)?;
        for (_, bound) in &bound {
            if let Some(address) = bound.address() {
                main_log.note(Level::Notice, format_args!("listening on {address}"));
            }
        }
        let pins_cores =
            main.cpu_affinity || allowed_cores().is_ok_and(|cores| cores.len() == workers);
        let (workers, ended) = start_workers(workers, driver, pins_cores, &deployment, &bound)?;
        drop(bound);
        if daemon {
            send_stderr_to(&deployment, &mut logs, &main_log);
        }
        main_log.note(
            Level::Notice,
            format_args!("start {} workers on {driver}", workers.len()),
        );
        ready.announce();
        Ok(Self {
            source,
            logs,
            main_log,
            addresses,
            pid_file,
            workers,
            ended,
            deployment,
            daemon,
        })
    }

    /// Listens to signals until one of them, or the end of a worker, ends the process.
    fn run(mut self) -> Result<(), StartError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(emerg)?;
        let result = runtime.block_on(self.signals());
        if let Some(pid_file) = self.pid_file.take()
            && let Err(error) = pid_file.remove()
        {
            self.main_log.note(Level::Alert, format_args!("{error}"));
        }
        if result.is_ok() {
            self.main_log.note(Level::Notice, format_args!("exit"));
        }
        result
    }

    async fn signals(&mut self) -> Result<(), StartError> {
        let on = |kind: SignalKind| signal(kind).map_err(emerg);
        let (mut term, mut int) = (on(SignalKind::terminate())?, on(SignalKind::interrupt())?);
        let (mut quit, mut hup) = (on(SignalKind::quit())?, on(SignalKind::hangup())?);
        let mut usr1 = on(SignalKind::user_defined1())?;
        // Without a handler these would end the process; nginx's scripts may send them.
        let _ignored = (
            on(SignalKind::user_defined2())?,
            on(SignalKind::from_raw(libc::SIGWINCH))?,
        );
        loop {
            tokio::select! {
                _ = term.recv() => {
                    self.main_log.note(Level::Notice, format_args!("signal 15 (SIGTERM) received, exiting"));
                    self.stop(STOP_PATIENCE).await;
                    return Ok(());
                }
                _ = int.recv() => {
                    self.main_log.note(Level::Notice, format_args!("signal 2 (SIGINT) received, exiting"));
                    self.stop(STOP_PATIENCE).await;
                    return Ok(());
                }
                _ = quit.recv() => {
                    self.main_log
                        .note(Level::Notice, format_args!("signal 3 (SIGQUIT) received, gracefully shutting down"));
                    self.drain(&mut term, &mut int).await;
                    return Ok(());
                }
                _ = hup.recv() => {
                    self.main_log.note(Level::Notice, format_args!("signal 1 (SIGHUP) received, reconfiguring"));
                    match self.reload() {
                        Ok(()) => self.main_log.note(Level::Notice, format_args!("reconfigured")),
                        Err(error) => self.main_log.note(Level::Emerg, format_args!("{error}")),
                    }
                }
                _ = usr1.recv() => {
                    self.main_log.note(Level::Notice, format_args!("signal 10 (SIGUSR1) received, reopening logs"));
                    for error in self.logs.reopen_all() {
                        self.main_log.note(Level::Emerg, format_args!("{error}"));
                    }
                    if self.daemon {
                        send_stderr_to(&self.deployment, &mut self.logs, &self.main_log);
                    }
                }
                ended = self.ended.recv() => {
                    // Nobody asked it to: a service manager starts a process with all its workers again.
                    let problem = ended.map_or_else(String::new, |ended| {
                        format!("worker {} ended: {}", ended.worker, ended.problem.unwrap_or_default())
                    });
                    self.main_log.note(Level::Alert, format_args!("{problem}"));
                    self.stop(STOP_PATIENCE).await;
                    return Err(StartError(problem));
                }
            }
        }
    }

    /// Reads the configuration again and has every worker take it over. Nothing changes if it is bad.
    fn reload(&mut self) -> Result<(), StartError> {
        let Source::Files(options) = &self.source else {
            return Ok(());
        };
        let config = config::load(options, &System, &System).map_err(emerg)?;
        let main_log =
            Arc::new(ErrorLog::open(&config.main.error_logs, &mut self.logs).map_err(emerg)?);
        for warning in &config.warnings {
            main_log.note(Level::Warn, format_args!("{warning}"));
        }
        if config
            .main
            .workers
            .is_some_and(|workers| workers != self.workers.len())
        {
            main_log.note(
                Level::Warn,
                format_args!("\"worker_processes\" changes at the next start"),
            );
        }
        let opened = self
            .addresses
            .open(&config.http.listeners, self.workers.len())?;
        let deployment = deploy(config, opened.ids.clone(), &mut self.logs)?;
        let new = self.addresses.commit(opened);
        for (_, bound) in &new {
            if let Some(address) = bound.address() {
                main_log.note(Level::Notice, format_args!("listening on {address}"));
            }
        }
        self.tell(|| Command::Deploy(Arc::clone(&deployment), new.clone()));
        self.main_log = main_log;
        self.deployment = deployment;
        self.logs.close_unused();
        Ok(())
    }

    fn tell(&self, command: impl Fn() -> Command) {
        for worker in &self.workers {
            // A worker that has ended is reported elsewhere.
            let _ = worker.commands.send(command());
        }
    }

    /// Stops at once; what does not end in time ends with the process.
    async fn stop(&mut self, patience: Duration) {
        self.addresses = Addresses::default();
        self.tell(|| Command::Stop);
        let _ = tokio::time::timeout(patience, self.all_ended()).await;
        self.workers.retain(|worker| !worker.thread.is_finished());
    }

    /// Finishes what is in flight, at most for `worker_shutdown_timeout`; TERM and INT end the patience.
    async fn drain(&mut self, term: &mut Signal, int: &mut Signal) {
        self.addresses = Addresses::default();
        self.tell(|| Command::Drain);
        let patience = self.deployment.config.main.shutdown_timeout;
        let deadline = patience.map(|patience| Instant::now() + patience);
        let over = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.all_ended() => {}
            () = over => {}
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        self.stop(STOP_PATIENCE).await;
    }

    async fn all_ended(&mut self) {
        while self
            .workers
            .iter()
            .any(|worker| !worker.thread.is_finished())
        {
            if tokio::time::timeout(Duration::from_millis(50), self.ended.recv())
                .await
                .is_ok_and(|e| e.is_none())
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}

/// Opens everything that a configuration names.
fn deploy(
    config: Config,
    listen_ids: Vec<u64>,
    logs: &mut LogFiles,
) -> Result<Arc<Deployment>, StartError> {
    let main_log = Arc::new(ErrorLog::open(&config.main.error_logs, logs).map_err(emerg)?);
    let mut error_logs = Vec::with_capacity(config.http.locations.len());
    let mut access_logs = Vec::with_capacity(config.http.locations.len());
    for location in &config.http.locations {
        error_logs.push(if location.error_logs == config.main.error_logs {
            Arc::clone(&main_log)
        } else {
            Arc::new(ErrorLog::open(&location.error_logs, logs).map_err(emerg)?)
        });
        let files = location
            .access_logs
            .iter()
            .map(|log| logs.open(&log.target));
        access_logs.push(files.collect::<Result<Vec<_>, _>>().map_err(emerg)?);
    }
    Ok(Arc::new(Deployment {
        config,
        error_logs,
        access_logs,
        listen_ids,
        main_log,
    }))
}

/// Becomes the configured user, if this process is root's.
fn become_user(
    user: Option<&(String, Option<String>)>,
    logs: &LogFiles,
    log: &ErrorLog,
) -> Result<(), StartError> {
    let Some((name, group)) = user else {
        return Ok(());
    };
    if !nix::unistd::geteuid().is_root() {
        let message = "the \"user\" directive makes sense only if the process runs with super-user privileges, ignored";
        log.note(Level::Warn, format_args!("{message}"));
        return Ok(());
    }
    let identity = Identity::resolve(name, group.as_deref()).map_err(emerg)?;
    for error in logs.change_owner(identity.uid(), identity.gid()) {
        log.note(Level::Alert, format_args!("{error}"));
    }
    identity.assume().map_err(emerg)
}

/// Settles what the workers wait with. Says so in the log and on standard error where it is not what is best.
fn choose_driver(io: Io, main: &Main, log: &ErrorLog) -> Result<Driver, StartError> {
    let (driver, refusal) = io.choose(check_ring).map_err(emerg)?;
    if let Some(refusal) = refusal {
        let warning = format!("{refusal}; serving on epoll instead");
        log.note(Level::Warn, format_args!("{warning}"));
        if main
            .error_logs
            .iter()
            .all(|log| log.target != LogTarget::Stderr)
        {
            eprintln!("ntlmfront: [warn] {warning}");
        }
    }
    Ok(driver)
}

/// Starts the workers and waits until each of them accepts.
fn start_workers(
    count: usize,
    driver: Driver,
    pins_cores: bool,
    deployment: &Arc<Deployment>,
    bound: &[(u64, Arc<Bound>)],
) -> Result<(Vec<WorkerThread>, UnboundedReceiver<Ended>), StartError> {
    let counters: Vec<Arc<Counters>> = (0..count).map(|_| Arc::default()).collect();
    let (ended, mut ended_receiver) = unbounded_channel();
    let (ready, all_ready) = mpsc::channel();
    let mut workers = Vec::with_capacity(count);
    for number in 0..count {
        let (commands, receiver) = unbounded_channel();
        let ready = ready.clone();
        let setup = Setup {
            number,
            workers: count,
            deployment: Arc::clone(deployment),
            bound: bound.to_vec(),
            counters: counters.clone(),
            driver,
            commands: receiver,
            ready: Box::new(move || {
                // The control thread gave up waiting: it is on its way out.
                let _ = ready.send(());
            }),
        };
        let ended = ended.clone();
        let body = move || {
            if pins_cores {
                // A core that cannot be had is a matter of speed alone.
                let _ = pin_to_core(number);
            }
            let outcome =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| proxy::run(setup)));
            let problem = match outcome {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(Cause::from(&error).to_string()),
                Err(_) => Some("panicked".to_owned()),
            };
            let _ = ended.send(Ended {
                worker: number,
                problem,
            });
        };
        let thread = std::thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(body)
            .map_err(emerg)?;
        workers.push(WorkerThread { commands, thread });
    }
    drop(ready);
    for _ in 0..count {
        if all_ready.recv().is_err() {
            // The senders are gone: some worker ended before it was ready, and has said why.
            let problem = ended_receiver
                .try_recv()
                .ok()
                .and_then(|ended| ended.problem);
            return Err(StartError(format!(
                "worker failed to start ({})",
                problem.unwrap_or_default()
            )));
        }
    }
    Ok((workers, ended_receiver))
}

/// Makes the standard error of a daemon end in its first error log, as nginx does, so that nobody's terminal or pipe is held.
fn send_stderr_to(deployment: &Deployment, logs: &mut LogFiles, log: &ErrorLog) {
    let Some(first) = deployment.config.main.error_logs.first() else {
        return;
    };
    let redirected = logs
        .open(&first.target)
        .map_err(|error| error.to_string())
        .and_then(|file| file.descriptor().map_err(|error| error.to_string()))
        .and_then(|descriptor| redirect_stderr(descriptor).map_err(|error| error.to_string()));
    if let Err(error) = redirected {
        log.note(Level::Alert, format_args!("dup2(STDERR) failed ({error})"));
    }
}
