//! How the process comes up.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::config::model::{Level, LogTarget, Main};
use crate::net::{Bound, Driver};
use crate::observe::error_log::ErrorLog;
use crate::observe::files::LogFiles;
use crate::process::{Io, PidFile, allowed_cores, check_ring, core_count, raise_nofile};
use crate::proxy::Deployment;

use super::addresses::{self, Addresses, Patience};
use super::deploy::{Loaded, deploy};
use super::reload::send_stderr_to;
use super::upgrade::{Inherited, Predecessor};
use super::workers::Workers;
use super::{Control, Signals, Source, StartError, emerg, remove, rights, show};

pub(super) fn prepare(
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
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, StartError> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    // A reload reads its files on a thread of its own, which is not kept for the next one.
    builder.thread_keep_alive(Duration::ZERO);
    builder.enable_all().build().map_err(emerg)
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
pub(super) fn limit_descriptors(main: &Main, workers: usize, log: &ErrorLog) {
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

/// Says where the process listens: who configured port 0 learns from it which it is.
pub(super) fn note_addresses(bound: &[(u64, Arc<Bound>)], log: &ErrorLog) {
    for (_, bound) in bound {
        if let Some(address) = bound.address() {
            log.note(Level::Notice, format_args!("listening on {address}"));
        }
    }
}
