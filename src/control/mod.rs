//! The control thread: brings the process up, listens to signals, reloads, and takes it down. Nothing here is hot.

mod addresses;
mod binding;
mod deploy;
mod rights;
mod upgrade;
mod watchdog;
mod workers;
mod zones;

use std::convert::{Infallible, identity};
use std::fmt;
use std::io;
use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::MissedTickBehavior;

use crate::config::model::{Level, LogTarget, Main};
use crate::config::{self, Config};
use crate::net::{Bound, Driver};
use crate::observe::cause::Cause;
use crate::observe::error_log::ErrorLog;
use crate::observe::figures::{Certificate, Figures};
use crate::observe::files::LogFiles;
use crate::observe::{Done, outlet};
use crate::process::{
    Io, PidFile, Ready, allowed_cores, check_ring, core_count, daemonize, notify, raise_nofile,
    redirect_stderr,
};
use crate::proxy::{Command, Deployment};

use addresses::{Addresses, Patience};
use binding::{Bindings, Compared};
use deploy::{Loaded, deploy, load, load_group_tls, load_tls, open_logs};
use upgrade::{Inherited, Predecessor};
use workers::Workers;

/// How often the certificates of the front and of the servers are compared, and how soon again if one could not be asked.
const COMPARE_INTERVAL: Duration = Duration::from_secs(3600);
const RETRY_INTERVAL: Duration = Duration::from_secs(60);

/// How often it is looked whether the files of certificates have changed.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(1);

/// How often it is looked whether logs cannot be written.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// How long workers may take to hand over the lines that belong into the files that were moved away, and writers to write them.
const HAND_OVER_PATIENCE: Duration = Duration::from_secs(1);

/// How long logs may take to be written at the end. Those that nobody reads take a second of it.
const LOG_PATIENCE: Duration = Duration::from_secs(10);

/// How long workers may take to stop at once before the process ends without them.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// Why the process could not start, or had to end: what nginx would write after `[emerg] `.
#[derive(Debug)]
pub struct StartError {
    message: String,
    /// The process that was started waits for its daemon; it may end only after the message is written.
    _waiting: Option<Ready>,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StartError {}

fn emerg(error: impl fmt::Display) -> StartError {
    StartError {
        message: error.to_string(),
        _waiting: None,
    }
}

/// Where the configuration came from, for reading it again.
#[derive(Clone)]
pub enum Source {
    /// Files, read again on HUP.
    Files(config::Options),
    /// The command line alone: HUP changes nothing.
    CommandLine,
}

/// Serves until a signal ends it. With `daemon on` this returns in the daemon; the process that was started ends here.
///
/// # Errors
/// What kept it from starting, or the end of a worker. To be dropped only after it was reported.
pub fn serve(config: Config, source: Source, io: Io) -> Result<(), StartError> {
    let inherited = Inherited::from_environment();
    // Who was started by a daemon is one.
    let ready = if config.main.daemon && inherited.predecessor.is_none() {
        daemonize().map_err(emerg)?
    } else {
        Ready::in_front()
    };
    match prepare(config, source, io, inherited) {
        Ok((runtime, control, signals)) => {
            control.tell_manager(notify::started(&control.status(None)));
            ready.announce();
            let result = runtime.block_on(control.run(signals));
            // A name server that is still waited for holds nobody up.
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(StartError {
            _waiting: Some(ready),
            ..error
        }),
    }
}

/// The logs for what `-s` has to say, which the process that it is about can go on to write.
pub fn signaller_log(config: &Config) -> ErrorLog {
    let mut logs = LogFiles::default();
    let log = ErrorLog::open(&config.main.error_logs, &mut logs).unwrap_or_default();
    rights::give_logs(config, &logs);
    log
}

/// Opens what `-t` can open without disturbing a front that runs: an address that is in use may be in use by that one.
///
/// # Errors
/// What would keep the process from starting.
pub fn check(config: &Config) -> Result<(), StartError> {
    PidFile::check(&config.main.pid).map_err(emerg)?;
    let mut logs = LogFiles::default();
    let main_log = Arc::new(ErrorLog::open(&config.main.error_logs, &mut logs).map_err(emerg)?);
    open_logs(config, &mut logs, &main_log)?;
    let (tls, group_tls) = (load_tls(config)?, load_group_tls(config)?);
    let compared = Compared {
        config,
        tls: &tls,
        group_tls: &group_tls,
    };
    let (report, fits) = runtime()?.block_on(Bindings::default().check(&compared));
    for (level, message) in report {
        if level == Level::Warn {
            eprintln!("ntlmfront: [warn] {message}");
        }
    }
    fits.map_err(emerg)?;
    for listener in &config.http.listeners {
        match addresses::bind(listener, 1, false) {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                return Err(addresses::refused(listener, &error));
            }
            _ => {}
        }
    }
    rights::check(config, &logs)
}

fn prepare(
    config: Config,
    source: Source,
    io: Io,
    inherited: Inherited,
) -> Result<(tokio::runtime::Runtime, Control, Signals), StartError> {
    let runtime = runtime()?;
    // Before anyone can know the process by its pid file or by its parent's end, and send it one.
    let signals = {
        let _in_runtime = runtime.enter();
        Signals::new().map_err(emerg)?
    };
    let control = Control::start(config, source, io, inherited, &runtime)?;
    Ok((runtime, control, signals))
}

/// What the control thread runs on.
fn runtime() -> Result<tokio::runtime::Runtime, StartError> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    // A reload reads its files on a thread of its own, which is not kept for the next one.
    builder.thread_keep_alive(Duration::ZERO);
    builder.enable_all().build().map_err(emerg)
}

/// The signals that the process listens to.
struct Signals {
    term: Signal,
    int: Signal,
    quit: Signal,
    hup: Signal,
    usr1: Signal,
    usr2: Signal,
    child: Signal,
    /// Without a handler it would end the process; nginx's scripts may send it.
    _winch: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hup: signal(SignalKind::hangup())?,
            usr1: signal(SignalKind::user_defined1())?,
            usr2: signal(SignalKind::user_defined2())?,
            child: signal(SignalKind::child())?,
            _winch: signal(SignalKind::window_change())?,
        })
    }
}

struct Control {
    source: Source,
    logs: LogFiles,
    main_log: Arc<ErrorLog>,
    addresses: Addresses,
    /// The process with the old binary, which may be there still.
    predecessor: Option<Predecessor>,
    /// The process with the new binary, while it runs.
    successor: Option<Child>,
    pid_file: Option<PidFile>,
    workers: Workers,
    /// `worker_shutdown_timeout` and the like come from the present deployment.
    deployment: Arc<Deployment>,
    daemon: bool,
}

impl Control {
    fn start(
        config: Config,
        source: Source,
        io: Io,
        inherited: Inherited,
        runtime: &tokio::runtime::Runtime,
    ) -> Result<Self, StartError> {
        let daemon = config.main.daemon;
        let mut logs = LogFiles::default();
        let main_log = Arc::new(ErrorLog::open(&config.main.error_logs, &mut logs).map_err(emerg)?);
        for warning in &config.warnings {
            main_log.note(Level::Warn, format_args!("{warning}"));
        }
        let workers = config.main.workers.unwrap_or_else(core_count);
        for problem in &inherited.problems {
            main_log.note(Level::Warn, format_args!("{problem}"));
        }
        let predecessor = inherited.predecessor;
        let mut addresses = Addresses::with(inherited.addresses);
        let patience = match &source {
            Source::Files(_) => Patience::of_start(&main_log),
            // It is no successor of one that somebody told to end.
            Source::CommandLine => Patience::none(&main_log),
        };
        let opened = addresses.open(&config.http.listeners, workers, patience)?;
        let loaded = Loaded::with(config)?;
        runtime.block_on(loaded.require_bindings(&main_log))?;
        let deployment = deploy(loaded, opened.ids().to_vec(), &mut logs, None)?;
        addresses.share(predecessor.and_then(Predecessor::pid).is_some(), false);
        let bound = opened.bound();
        addresses.commit(opened, &main_log);
        let pid_file = match &source {
            Source::Files(_) => Some(PidFile::create(&deployment.config.main.pid).map_err(emerg)?),
            Source::CommandLine => None,
        };
        match start_workers(workers, io, &deployment, bound, &mut logs, &main_log) {
            Ok(workers) => {
                if daemon {
                    send_stderr_to(&deployment, &mut logs, &main_log);
                }
                show(workers.figures(), &deployment, &logs);
                Ok(Self {
                    source,
                    logs,
                    main_log,
                    addresses,
                    predecessor,
                    successor: None,
                    pid_file,
                    workers,
                    deployment,
                    daemon,
                })
            }
            Err(error) => {
                remove(pid_file, &main_log);
                Err(error)
            }
        }
    }

    /// Listens to signals until one of them, or the end of a worker, ends the process.
    async fn run(mut self, mut signals: Signals) -> Result<(), StartError> {
        watchdog::start(self.workers.commands());
        let outlets = outlet::install();
        let result = self.serve(&mut signals).await;
        remove(self.pid_file.take(), &self.main_log);
        if result.is_ok() {
            self.main_log.note(Level::Notice, format_args!("exit"));
        }
        drop(outlets);
        for trouble in self.logs.finish(LOG_PATIENCE) {
            self.main_log.note(Level::Alert, format_args!("{trouble}"));
        }
        result
    }

    async fn serve(&mut self, signals: &mut Signals) -> Result<(), StartError> {
        let mut compare_at = Instant::now();
        let mut compared_at = compare_at;
        let mut comparing = None;
        let mut loading = None;
        let mut bindings = Some(Bindings::default());
        let [mut renewals, mut reports] = [RENEWAL_INTERVAL, REPORT_INTERVAL].map(|period| {
            let mut interval = tokio::time::interval(period);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        });
        loop {
            let has_certificates = self.deployment.tls.iter().any(Option::is_some);
            tokio::select! {
                _ = signals.term.recv() => {
                    self.received("15 (SIGTERM) received, exiting");
                    self.stop().await;
                    return Ok(());
                }
                _ = signals.int.recv() => {
                    self.received("2 (SIGINT) received, exiting");
                    self.stop().await;
                    return Ok(());
                }
                _ = signals.quit.recv() => {
                    self.received("3 (SIGQUIT) received, gracefully shutting down");
                    self.drain(signals).await;
                    return Ok(());
                }
                // One that comes meanwhile has its turn when this one is over.
                _ = signals.hup.recv(), if loading.is_none() => {
                    self.received("1 (SIGHUP) received, reconfiguring");
                    self.tell_manager(notify::reloading());
                    let loaded = load(self.source.clone(), Arc::clone(&self.main_log));
                    loading = Some(tokio::spawn(loaded));
                }
                loaded = of(&mut loading), if loading.is_some() => {
                    loading = None;
                    let loaded = loaded.unwrap_or(Ok(Ok(None)));
                    if self.reload(loaded.map_err(emerg).and_then(identity)).await {
                        compare_at = Instant::now();
                    }
                }
                _ = signals.usr1.recv() => self.reopen().await,
                _ = signals.usr2.recv() => self.upgrade(),
                _ = signals.child.recv() => { self.reap(); },
                _ = reports.tick() => self.look_after_logs(),
                _ = renewals.tick(), if has_certificates => if self.renew_certificates() {
                    compare_at = Instant::now();
                },
                () = tokio::time::sleep_until(compare_at.into()), if bindings.is_some() => {
                    compared_at = Instant::now();
                    comparing = bindings.take().map(|bindings| self.compare(bindings));
                }
                known = of(&mut comparing), if comparing.is_some() => {
                    let known = known.and_then(Result::ok).unwrap_or_default();
                    let pause = match known.is_incomplete() {
                        true => RETRY_INTERVAL,
                        false => COMPARE_INTERVAL,
                    };
                    // Unless a reload or a renewal wanted another look meanwhile.
                    if compare_at <= compared_at {
                        compare_at = Instant::now() + pause;
                    }
                    comparing = None;
                    bindings = Some(known);
                }
                problem = self.workers.problem() => {
                    // Nobody asked it to: a service manager starts a process with all its workers again.
                    self.main_log.note(Level::Alert, format_args!("{problem}"));
                    self.stop().await;
                    return Err(emerg(problem));
                }
            }
        }
    }

    /// Has clients shown new certificates where their files have changed. True if any have.
    fn renew_certificates(&self) -> bool {
        let mut renewed = false;
        for tls in self.deployment.tls.iter().flatten() {
            match tls.renew() {
                Ok(false) => {}
                Ok(true) => {
                    renewed = true;
                    let message = format_args!("certificate \"{}\" renewed", tls.name());
                    self.main_log.note(Level::Notice, message);
                }
                Err(error) => {
                    let message = format_args!("{error}; the old certificate is kept");
                    self.main_log.note(Level::Warn, message);
                }
            }
        }
        if renewed {
            show(self.workers.figures(), &self.deployment, &self.logs);
        }
        renewed
    }

    /// Compares the certificates of the front and of the servers behind it, beside everything else.
    fn compare(&self, mut bindings: Bindings) -> JoinHandle<Bindings> {
        let (deployment, log) = (Arc::clone(&self.deployment), Arc::clone(&self.main_log));
        let figures = Arc::clone(self.workers.figures());
        tokio::spawn(async move {
            let (report, _) = bindings.check(&Compared::from(&*deployment)).await;
            binding::note(&report, &log);
            bindings.show(&figures);
            bindings
        })
    }

    /// What `systemctl status` shows; `problem` is that of the last reload.
    fn status(&self, problem: Option<&str>) -> String {
        match problem {
            Some(problem) => format!("the old configuration goes on: {problem}"),
            None => format!(
                "{} workers on {}",
                self.workers.len(),
                self.workers.figures().driver
            ),
        }
    }

    /// Tells the service manager that this process ends, in `patience` if that is limited; the service goes on where there is a
    /// process with the other binary.
    fn tell_of_stop(&self, patience: Option<Duration>) {
        self.tell_manager(match self.old_process() {
            Some(pid) => notify::main_process(pid),
            // It has said that it is the one when it was ready.
            None if self.successor.is_some() => Ok(()),
            None => notify::stopping(
                patience.map(|patience| patience + 2 * STOP_PATIENCE + LOG_PATIENCE),
            ),
        });
    }

    /// Notes a message to the service manager that did not get there.
    fn tell_manager(&self, told: io::Result<()>) {
        if let Err(error) = told {
            let cause = Cause::from(&error);
            let message = format_args!("the service manager cannot be told ({cause})");
            self.main_log.note(Level::Warn, message);
        }
    }

    fn received(&self, signal: &str) {
        self.main_log
            .note(Level::Notice, format_args!("signal {signal}"));
    }

    /// Ends a reload with a configuration that was read, or could not be. True if there is one to be compared.
    async fn reload(&mut self, loaded: Result<Option<Loaded>, StartError>) -> bool {
        let result = match loaded {
            Ok(Some(loaded)) => self.take_over(loaded).await,
            other => other.map(|_| ()),
        };
        let problem = match result {
            Ok(()) => {
                // As nginx, which opens all its files with the configuration.
                self.reopen_logs().await;
                self.main_log
                    .note(Level::Notice, format_args!("reconfigured"));
                None
            }
            Err(error) => {
                self.main_log.note(Level::Emerg, format_args!("{error}"));
                Some(error.to_string())
            }
        };
        let is_new = problem.is_none();
        let status = self.status(problem.as_deref());
        self.workers.figures().reloaded(problem);
        show(self.workers.figures(), &self.deployment, &self.logs);
        self.tell_manager(notify::ready(&status));
        is_new
    }

    /// Has every worker take a configuration over. Nothing changes if that fails.
    async fn take_over(&mut self, loaded: Loaded) -> Result<(), StartError> {
        let config = &loaded.config;
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
        let (listeners, workers) = (&config.http.listeners, self.workers.len());
        let patience = || Patience::none(&main_log);
        let opened = match self.addresses.open(listeners, workers, patience()) {
            // What it wants may be what the last reload removed.
            Err(_) if self.addresses.all_closed().await => {
                self.addresses.open(listeners, workers, patience())
            }
            opened => opened,
        };
        let opened = opened?;
        let new = opened.bound();
        let sockets = addresses::for_workers(&new, workers)?;
        let ids = opened.ids().to_vec();
        let deployment = deploy(loaded, ids, &mut self.logs, Some(&self.deployment))?;
        self.logs.start_writers().map_err(emerg)?;
        let main = &deployment.config.main;
        // `-s` looks where the present file says.
        if self
            .pid_file
            .as_ref()
            .is_some_and(|file| file.path() != main.pid && self.successor.is_none())
        {
            let moved = PidFile::create(&main.pid).map_err(emerg)?;
            remove(self.pid_file.replace(moved), &main_log);
        }
        limit_descriptors(main, self.workers.len(), &main_log);
        let alone = self.share_addresses();
        self.addresses.commit(opened, &main_log);
        note_addresses(&new, &main_log);
        self.logs.keep(&deployment.config);
        let removed = alone
            .iter()
            .filter(|(id, _)| !deployment.listen_ids.contains(id));
        let_nobody_in(removed, &main_log);
        let alone: Arc<[u64]> = alone.into_iter().map(|(id, _)| id).collect();
        let mut sockets = sockets.into_iter();
        let closed = self.addresses.closing();
        self.workers.tell(|| Command::Deploy {
            deployment: Arc::clone(&deployment),
            sockets: sockets.next().unwrap_or_default(),
            alone: Arc::clone(&alone),
            closed: closed.clone(),
        });
        self.main_log = main_log;
        self.deployment = deployment;
        Ok(())
    }

    /// Opens the logs again, because somebody has moved the files away.
    async fn reopen(&mut self) {
        self.received("10 (SIGUSR1) received, reopening logs");
        self.reopen_logs().await;
    }

    async fn reopen_logs(&mut self) {
        outlet::flush();
        let (done, handed_over) = unbounded_channel();
        self.workers.tell(|| Command::HandLogsOver(done.clone()));
        all(done, handed_over).await;
        let (done, taken_over) = unbounded_channel();
        let errors = self.logs.reopen_all(&done);
        all(done, taken_over).await;
        for error in errors {
            self.main_log.note(Level::Emerg, format_args!("{error}"));
        }
        if self.daemon {
            send_stderr_to(&self.deployment, &mut self.logs, &self.main_log);
        }
    }

    /// Stops at once; what does not end in time ends with the process.
    async fn stop(&mut self) {
        self.tell_of_stop(None);
        self.share_addresses();
        self.addresses = Addresses::default();
        self.workers.tell(|| Command::Stop);
        let _ = tokio::time::timeout(STOP_PATIENCE, self.workers.all_ended()).await;
    }

    /// Finishes what is in flight, at most for `worker_shutdown_timeout`; TERM and INT end the patience.
    async fn drain(&mut self, signals: &mut Signals) {
        let alone = self.share_addresses();
        let_nobody_in(alone.iter(), &self.main_log);
        self.addresses = Addresses::default();
        let alone: Arc<[u64]> = alone.into_iter().map(|(id, _)| id).collect();
        self.workers.tell(|| Command::Drain {
            alone: Arc::clone(&alone),
        });
        let patience = self.deployment.config.main.shutdown_timeout;
        self.tell_of_stop(patience);
        let deadline = patience.map(|patience| Instant::now() + patience);
        let mut reports = tokio::time::interval(REPORT_INTERVAL);
        loop {
            let over = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.workers.all_ended() => break,
                () = over => break,
                _ = signals.term.recv() => break,
                _ = signals.int.recv() => break,
                // A drain can take hours, and logs are rotated meanwhile.
                _ = signals.usr1.recv() => self.reopen().await,
                // Unless it is asked for, what ended keeps its number. The service is this process then, until it has stopped.
                _ = signals.child.recv() => if self.reap() {
                    let now = Instant::now();
                    self.tell_of_stop(deadline.map(|at| at.saturating_duration_since(now)));
                },
                _ = reports.tick() => self.look_after_logs(),
            }
        }
        self.stop().await;
    }

    /// Says which logs cannot be written, and closes those that are not named any more.
    fn look_after_logs(&mut self) {
        let now = Instant::now();
        outlet::sweep(now);
        self.logs.close_unused();
        for trouble in self.logs.troubles(now) {
            self.main_log.note(Level::Alert, format_args!("{trouble}"));
        }
    }
}

/// Has the status pages show what is in force.
fn show(figures: &Figures, deployment: &Deployment, logs: &LogFiles) {
    let servers = deployment.config.http.servers.iter().zip(&deployment.tls);
    let shown = servers.flat_map(|(server, tls)| {
        let shown = tls.iter().flat_map(|tls| tls.shown());
        shown.map(|shown| Certificate {
            server: server.name.clone(),
            subject: shown.subject,
            expires: shown.expires,
        })
    });
    figures.certificates.store(Arc::new(shown.collect()));
    figures.logs.store(Arc::new(logs.all()));
}

fn remove(pid_file: Option<PidFile>, log: &ErrorLog) {
    if let Some(Err(error)) = pid_file.map(PidFile::remove) {
        log.note(Level::Alert, format_args!("{error}"));
    }
}

/// Gives up what only root may do, and starts the workers.
fn start_workers(
    count: usize,
    io: Io,
    deployment: &Arc<Deployment>,
    bound: Vec<(u64, Arc<Bound>)>,
    logs: &mut LogFiles,
    log: &ErrorLog,
) -> Result<Workers, StartError> {
    let main = &deployment.config.main;
    limit_descriptors(main, count, log);
    rights::become_user(&deployment.config, logs, log)?;
    let driver = choose_driver(io, main, log)?;
    logs.start_writers().map_err(emerg)?;
    note_addresses(&bound, log);
    let pins_cores = main.cpu_affinity || allowed_cores().is_ok_and(|cores| cores.len() == count);
    let sockets = addresses::for_workers(&bound, count)?;
    let workers = Workers::start(sockets, driver, pins_cores, deployment)?;
    log.note(
        Level::Notice,
        format_args!("start {count} workers on {driver}"),
    );
    Ok(workers)
}

/// Sets the limit of descriptors, and says so where it is below what the workers may use: they would run out of descriptors
/// before they make room by `worker_connections`.
fn limit_descriptors(main: &Main, workers: usize, log: &ErrorLog) {
    let limit = match raise_nofile(main.rlimit_nofile) {
        Ok(limit) => limit,
        Err(error) => return log.note(Level::Alert, format_args!("{error}")),
    };
    let connections = main.worker_connections;
    if (workers as u64).saturating_mul(connections as u64) > limit {
        log.note(
            Level::Warn,
            format_args!(
                "{connections} worker_connections of {workers} workers exceed open file resource limit: {limit}"
            ),
        );
    }
}

/// Settles what the workers wait with. Says so in the log and on standard error where it is not what is best.
fn choose_driver(io: Io, main: &Main, log: &ErrorLog) -> Result<Driver, StartError> {
    let (driver, refusal) = io.choose(check_ring).map_err(|refusal| {
        emerg(format_args!(
            "{refusal}; or start without --io uring, to serve on epoll"
        ))
    })?;
    if let Some(refusal) = refusal {
        let warning = format!("{refusal}; serving on epoll instead");
        log.note(Level::Warn, format_args!("{warning}"));
        let mut logs = main.error_logs.iter();
        if logs.all(|log| log.target != LogTarget::Stderr) {
            eprintln!("ntlmfront: [warn] {warning}");
        }
    }
    Ok(driver)
}

/// Has nobody new come in at addresses that are about to be closed.
fn let_nobody_in<'a>(addresses: impl Iterator<Item = &'a (u64, Arc<Bound>)>, log: &ErrorLog) {
    for error in addresses.filter_map(|(_, bound)| bound.let_nobody_in().err()) {
        let cause = Cause::from(&error);
        let message = format_args!("setsockopt(SO_ATTACH_FILTER) failed ({cause}), ignored");
        log.note(Level::Warn, message);
    }
}

/// Says where the process listens: who configured port 0 learns from it which it is.
fn note_addresses(bound: &[(u64, Arc<Bound>)], log: &ErrorLog) {
    for (_, bound) in bound {
        if let Some(address) = bound.address() {
            log.note(Level::Notice, format_args!("listening on {address}"));
        }
    }
}

/// Waits until all who were asked have done what they were asked for, or are no more, but not for ever.
async fn all(asked: Done, mut done: UnboundedReceiver<Infallible>) {
    drop(asked);
    let _ = tokio::time::timeout(HAND_OVER_PATIENCE, done.recv()).await;
}

/// The end of a task, if there is one.
async fn of<T>(task: &mut Option<JoinHandle<T>>) -> Option<Result<T, JoinError>> {
    match task {
        Some(task) => Some(task.await),
        None => None,
    }
}

/// Makes the standard error of a daemon end in its first error log that is a file, as nginx does, so that nobody's terminal or pipe is
/// held.
fn send_stderr_to(deployment: &Deployment, logs: &mut LogFiles, log: &ErrorLog) {
    let mut targets = deployment
        .config
        .main
        .error_logs
        .iter()
        .map(|log| &log.target);
    let first = targets.find(|target| !matches!(target, LogTarget::Syslog(_)));
    // Where that is the standard error itself, it was asked for.
    let Some(first @ LogTarget::File(_)) = first else {
        return;
    };
    let redirected = logs
        .open(first)
        .map_err(|error| error.to_string())
        .and_then(|file| file.descriptor().map_err(|error| error.to_string()))
        .and_then(|descriptor| redirect_stderr(descriptor).map_err(|error| error.to_string()));
    if let Err(error) = redirected {
        log.note(Level::Alert, format_args!("dup2(STDERR) failed ({error})"));
    }
}
