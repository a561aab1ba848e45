//! The operator: reloads with other limits and timeouts every few seconds, and moves the logs out of the way.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rand::Rng;
use rand::rngs::SmallRng;

use crate::front::{Front, eventually};
use crate::site::{PLENTY, SHORT, Settings, TIMEOUTS_MS};

/// Between two reloads.
const EVERY: Duration = Duration::from_millis(2_500);

/// How long the front stays short of connections: most of what is asked meanwhile shows no more than that it is.
const SHORTAGE_LASTS: Duration = Duration::from_millis(400);

/// One reload in so many leaves the front short of connections.
const SHORT_ONE_IN: u64 = 4;

/// What may stand there as an alarm: a worker that has as many connections as it may.
const SHORTAGE: &str = "worker_connections are not enough";

/// What was done, and what the logs said.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    pub(crate) reloads: u64,
    pub(crate) shortages: u64,
    /// Lines of the access log.
    pub(crate) requests: u64,
    /// Lines of the error log, by level.
    pub(crate) levels: BTreeMap<String, u64>,
    /// The first of those that nothing explains.
    pub(crate) alarming: Vec<String>,
}

impl Logs {
    /// What the next reload brings, but for the limits, which the plan says.
    pub(crate) fn next(&mut self, settings: &Settings, rng: &mut SmallRng) -> Settings {
        self.reloads += 1;
        let short = self.reloads.is_multiple_of(SHORT_ONE_IN);
        self.shortages += u64::from(short);
        Settings {
            worker_connections: if short { SHORT } else { PLENTY },
            timeouts_ms: std::array::from_fn(|_| rng.random_range(TIMEOUTS_MS)),
            ..*settings
        }
    }

    /// Moves both logs away, has the front open new ones, and reads what was moved away the time before: by now nobody
    /// writes to that any more.
    pub(crate) fn rotate(&mut self, front: &Front) {
        let (error, access) = files(front.path());
        self.read_moved(front.path());
        for file in [&error, &access] {
            std::fs::rename(file, moved(file)).expect("the log is there");
        }
        front.signal(Signal::SIGUSR1);
        eventually("the new logs", || {
            (error.exists() && access.exists()).then_some(())
        });
    }

    /// Reads everything that is left, once the front writes no more.
    pub(crate) fn finish(&mut self, directory: &Path) {
        self.read_moved(directory);
        let (error, access) = files(directory);
        self.read(&error, &access);
    }

    fn read_moved(&mut self, directory: &Path) {
        let (error, access) = files(directory);
        self.read(&moved(&error), &moved(&access));
    }

    /// A file that is not there was not written yet.
    fn read(&mut self, error: &Path, access: &Path) {
        let lines = |file| {
            let bytes = std::fs::read(file).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        self.requests += lines(access).lines().count() as u64;
        for line in lines(error).lines() {
            let level = line
                .split_once('[')
                .and_then(|(_, rest)| rest.split_once(']'))
                .map_or("none", |(level, _)| level);
            *self.levels.entry(level.to_owned()).or_default() += 1;
            let alarms = matches!(level, "emerg" | "alert" | "crit" | "none");
            if alarms && !line.contains(SHORTAGE) && self.alarming.len() < 10 {
                self.alarming.push(line.to_owned());
            }
        }
    }
}

/// Waits for the next turn, or for the end of everything.
pub(crate) async fn pause(is_short: bool, is_over: impl Fn() -> bool) {
    let until = Instant::now() + if is_short { SHORTAGE_LASTS } else { EVERY };
    while Instant::now() < until && !is_over() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn files(directory: &Path) -> (PathBuf, PathBuf) {
    let logs = directory.join("logs");
    (logs.join("error.log"), logs.join("access.log"))
}

fn moved(file: &Path) -> PathBuf {
    file.with_extension("log.1")
}
