//! The worker threads, as the control thread holds them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::net::Driver;
use crate::observe::cause::Cause;
use crate::observe::figures::Figures;
use crate::process::pin_to_core;
use crate::proxy::{self, Command, Deployment, Setup, Sockets};

use super::{StartError, emerg};

/// All workers of the process.
pub(super) struct Workers {
    workers: Vec<Worker>,
    figures: Arc<Figures>,
    /// They report here when they end, in whatever way.
    ended: UnboundedReceiver<Ended>,
}

struct Worker {
    commands: UnboundedSender<Command>,
    thread: JoinHandle<()>,
}

/// A worker came to its end.
struct Ended {
    worker: usize,
    /// What went wrong, if anything did.
    problem: Option<String>,
}

impl Workers {
    /// Starts a worker for each of `sockets` and waits until all of them accept.
    pub(super) fn start(
        sockets: Vec<Sockets>,
        driver: Driver,
        pins_cores: bool,
        deployment: &Arc<Deployment>,
    ) -> Result<Self, StartError> {
        let count = sockets.len();
        let figures = Arc::new(Figures::new(count, driver));
        let (report, mut ended) = unbounded_channel();
        let (ready, all_ready) = mpsc::channel();
        let mut workers = Vec::with_capacity(count);
        for (number, sockets) in sockets.into_iter().enumerate() {
            let (commands, receiver) = unbounded_channel();
            let ready = ready.clone();
            let setup = Setup {
                number,
                workers: count,
                deployment: Arc::clone(deployment),
                sockets,
                figures: Arc::clone(&figures),
                driver,
                commands: receiver,
                ready: Box::new(move || {
                    // The control thread gave up waiting: it is on its way out.
                    let _ = ready.send(());
                }),
            };
            let report = report.clone();
            let thread = std::thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || run(setup, pins_cores, &report))
                .map_err(emerg)?;
            workers.push(Worker { commands, thread });
        }
        drop(ready);
        for _ in 0..count {
            if all_ready.recv().is_err() {
                // The senders are gone: some worker ended before it was ready, and reports it next.
                let problem = ended.blocking_recv().and_then(|ended| ended.problem);
                let problem = problem.unwrap_or_default();
                return Err(emerg(format_args!("worker failed to start ({problem})")));
            }
        }
        Ok(Self {
            workers,
            figures,
            ended,
        })
    }

    /// What the process shows of itself.
    pub(super) fn figures(&self) -> &Arc<Figures> {
        &self.figures
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.workers.len()
    }

    /// Tells each of them, in their order.
    pub(super) fn tell(&self, mut command: impl FnMut() -> Command) {
        for worker in &self.workers {
            // A worker that has ended is reported elsewhere.
            let _ = worker.commands.send(command());
        }
    }

    /// How to tell each of them something, in their order.
    pub(super) fn commands(&self) -> Vec<UnboundedSender<Command>> {
        let workers = self.workers.iter();
        workers.map(|worker| worker.commands.clone()).collect()
    }

    /// Waits for the end of a worker that nobody told to end, and says what happened.
    pub(super) async fn problem(&mut self) -> String {
        match self.ended.recv().await {
            Some(Ended { worker, problem }) => {
                format!("worker {worker} ended: {}", problem.unwrap_or_default())
            }
            None => "all workers ended".to_owned(),
        }
    }

    /// Waits until all have ended.
    pub(super) async fn all_ended(&mut self) {
        while self
            .workers
            .iter()
            .any(|worker| !worker.thread.is_finished())
        {
            // They report a moment before their threads end.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn run(setup: Setup, pins_core: bool, report: &UnboundedSender<Ended>) {
    let worker = setup.number;
    if pins_core {
        // A core that cannot be had is a matter of speed alone.
        let _ = pin_to_core(worker);
    }
    let problem = match catch_unwind(AssertUnwindSafe(|| proxy::run(setup))) {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(Cause::from(&error).to_string()),
        Err(_) => Some("panicked".to_owned()),
    };
    // The control thread may be on its way out.
    let _ = report.send(Ended { worker, problem });
}
