//! The control thread: brings the process up (`start`), listens to signals, reloads (`reload`), and takes it down. Nothing here is hot.

mod addresses;
mod binding;
mod deploy;
mod reload;
mod rights;
mod start;
mod upgrade;
mod watchdog;
mod workers;
mod zones;

use std::convert::identity;
use std::fmt;
use std::io;
use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::MissedTickBehavior;

use crate::config::model::Level;
use crate::config::{self, Config};
use crate::net::Bound;
use crate::observe::cause::Cause;
use crate::observe::error_log::ErrorLog;
use crate::observe::figures::{Certificate, Figures};
use crate::observe::files::LogFiles;
use crate::observe::outlet;
use crate::process::{Io, PidFile, Ready, daemonize, notify};
use crate::proxy::{Command, Deployment};

use addresses::Addresses;
use binding::{Bindings, Compared};
use deploy::{load, load_group_tls, load_tls, open_logs};
use start::{prepare, runtime};
use upgrade::{Inherited, Predecessor};
use workers::Workers;

/// How often the certificates of the front and of the servers are compared, and how soon again if one could not be asked.
const COMPARE_INTERVAL: Duration = Duration::from_secs(3600);
const RETRY_INTERVAL: Duration = Duration::from_secs(60);

/// How often it is looked whether the files of certificates have changed.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(1);

/// How often it is looked whether logs cannot be written.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

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

/// Has nobody new come in at addresses that are about to be closed.
fn let_nobody_in<'a>(addresses: impl Iterator<Item = &'a (u64, Arc<Bound>)>, log: &ErrorLog) {
    for error in addresses.filter_map(|(_, bound)| bound.let_nobody_in().err()) {
        let cause = Cause::from(&error);
        let message = format_args!("setsockopt(SO_ATTACH_FILTER) failed ({cause}), ignored");
        log.note(Level::Warn, message);
    }
}

/// The end of a task, if there is one.
async fn of<T>(task: &mut Option<JoinHandle<T>>) -> Option<Result<T, JoinError>> {
    match task {
        Some(task) => Some(task.await),
        None => None,
    }
}
