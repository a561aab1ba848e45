//! What changes while the process runs: the configuration and the files of logs.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::config::model::{Level, LogTarget};
use crate::observe::error_log::ErrorLog;
use crate::observe::files::LogFiles;
use crate::observe::{Done, outlet};
use crate::process::{PidFile, notify, redirect_stderr};
use crate::proxy::{Command, Deployment};

use super::addresses::{self, Patience};
use super::deploy::{Loaded, deploy};
use super::start::{limit_descriptors, note_addresses};
use super::{Control, StartError, emerg, let_nobody_in, remove, show};

/// How long workers may take to hand over the lines that belong into the files that were moved away, and writers to write them.
const HAND_OVER_PATIENCE: Duration = Duration::from_secs(1);

impl Control {
    /// Ends a reload with a configuration that was read, or could not be. True if there is one to be compared.
    pub(super) async fn reload(&mut self, loaded: Result<Option<Loaded>, StartError>) -> bool {
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
    pub(super) async fn reopen(&mut self) {
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

    /// Says which logs cannot be written, and closes those that are not named any more.
    pub(super) fn look_after_logs(&mut self) {
        let now = Instant::now();
        outlet::sweep(now);
        self.logs.close_unused();
        for trouble in self.logs.troubles(now) {
            self.main_log.note(Level::Alert, format_args!("{trouble}"));
        }
    }
}

/// Waits until all who were asked have done what they were asked for, or are no more, but not for ever.
async fn all(asked: Done, mut done: UnboundedReceiver<Infallible>) {
    drop(asked);
    let _ = tokio::time::timeout(HAND_OVER_PATIENCE, done.recv()).await;
}

/// Makes the standard error of a daemon end in its first error log that is a file, as nginx does, so that nobody's terminal or pipe is
/// held.
pub(super) fn send_stderr_to(deployment: &Deployment, logs: &mut LogFiles, log: &ErrorLog) {
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
