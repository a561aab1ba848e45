//! Somebody who is logged in and asks all the time, on each worker, while others do everything wrong: how long an answer
//! took at most, and as whom it was given.
//!
//! On a shared machine everybody waits for a core now and then. So somebody asks the witnesses' server without a front, too,
//! on each core; what took long for a witness is excused as far as it took long there at the same time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use ntlm_origin::User;
use ntlm_origin::client::Connection;

use crate::house::House;

/// Answers that took less are not remembered.
const WORTH_A_NOTE: Duration = Duration::from_millis(5);

/// Between two requests of one witness.
const PAUSE: Duration = Duration::from_millis(2);

/// What nobody may be made to wait.
pub(crate) const PATIENCE: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug)]
struct Slow {
    from: Instant,
    took: Duration,
}

#[derive(Default)]
struct Book {
    slow: Mutex<Vec<Slow>>,
    answers: AtomicU64,
}

impl Book {
    fn note(&self, from: Instant, took: Duration) {
        self.answers.fetch_add(1, Ordering::Relaxed);
        if took >= WORTH_A_NOTE {
            let mut slow = self.slow.lock().unwrap_or_else(PoisonError::into_inner);
            slow.push(Slow { from, took });
        }
    }

    fn since(&self, from: Instant) -> Vec<Slow> {
        let slow = self.slow.lock().unwrap_or_else(PoisonError::into_inner);
        slow.iter()
            .filter(|slow| slow.from + slow.took >= from)
            .copied()
            .collect()
    }
}

/// Witnesses and those that ask without a front.
pub(crate) struct Witnesses {
    stop: Arc<AtomicBool>,
    witness: Arc<Book>,
    without: Arc<Book>,
    threads: Vec<JoinHandle<Result<(), String>>>,
}

/// The slowest answers of a time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Worst {
    /// A witness's.
    pub(crate) raw: Duration,
    /// The same without what took as long without a front at that time.
    pub(crate) by_the_front: Duration,
    /// Without a front.
    pub(crate) without: Duration,
}

impl Worst {
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            raw: self.raw.max(other.raw),
            by_the_front: self.by_the_front.max(other.by_the_front),
            without: self.without.max(other.without),
        }
    }
}

impl Witnesses {
    /// One that is logged in on each of two workers, and one without a front on each core.
    pub(crate) fn start(house: &House) -> Self {
        Self::on(house.addr(false), house.origin.addr(), 2)
    }

    /// The same for a front of `workers` that leads to the origin from `front`, and says `$connection` in `X-Client`.
    pub(crate) fn on(
        front: std::net::SocketAddr,
        origin: std::net::SocketAddr,
        workers: u64,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (witness, without) = (Arc::new(Book::default()), Arc::new(Book::default()));
        let mut threads = Vec::new();
        for worker in 0..workers {
            let (stop, book) = (Arc::clone(&stop), Arc::clone(&witness));
            threads.push(std::thread::spawn(move || {
                runtime().block_on(watch(front, (worker, workers), &stop, &book))
            }));
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        for core in 0..cores {
            let (stop, book) = (Arc::clone(&stop), Arc::clone(&without));
            threads.push(std::thread::spawn(move || {
                let mut cpus = CpuSet::new();
                // A core that may not be used is no core to wait for.
                let _ = cpus
                    .set(core)
                    .and_then(|()| sched_setaffinity(Pid::from_raw(0), &cpus));
                runtime().block_on(ask_without(origin, &stop, &book))
            }));
        }
        crate::front::eventually("all are logged in and ask", || {
            (witness.answers.load(Ordering::Relaxed) >= 10 * workers).then_some(())
        });
        Self {
            stop,
            witness,
            without,
            threads,
        }
    }

    /// Answers so far.
    pub(crate) fn answers(&self) -> u64 {
        self.witness.answers.load(Ordering::Relaxed)
    }

    /// Fails if a witness has met anything but its own answers.
    #[track_caller]
    pub(crate) fn are_well(&mut self) {
        if let Some(ended) = self.threads.iter().position(JoinHandle::is_finished) {
            let result = self.threads.remove(ended).join();
            panic!("WRONG IDENTITY or none: a witness ended: {result:?}");
        }
    }

    /// The slowest answers since `from`.
    pub(crate) fn worst_since(&self, from: Instant) -> Worst {
        let (slow, without) = (self.witness.since(from), self.without.since(from));
        let longest = |slow: &[Slow]| slow.iter().map(|slow| slow.took).max().unwrap_or_default();
        let by_the_front = slow.iter().map(|slow| {
            let meanwhile = without.iter().filter(|other| {
                other.from < slow.from + slow.took && slow.from < other.from + other.took
            });
            let excused = meanwhile.map(|other| other.took).max().unwrap_or_default();
            slow.took.saturating_sub(excused)
        });
        Worst {
            raw: longest(&slow),
            by_the_front: by_the_front.max().unwrap_or_default(),
            without: longest(&without),
        }
    }

    /// Ends them, and fails if one has met anything but its own answers.
    pub(crate) fn finish(mut self) {
        self.are_well();
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join().expect("a witness does not panic");
            ended.expect("a witness meets its own answers only");
        }
    }
}

impl Drop for Witnesses {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

/// The witness of worker `worker` of `workers`: as client connections are numbered, `$connection` says whose one is.
async fn watch(
    front: std::net::SocketAddr,
    (worker, workers): (u64, u64),
    stop: &AtomicBool,
    book: &Book,
) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("worker {worker}: {error}");
    let (name, password) = [("alice", "wonderland"), ("bob", "builder")][worker as usize % 2];
    let user = User::new("EXAMPLE", name, password);
    let mut connection = loop {
        let mut connection = Connection::open(front).await.map_err(failed)?;
        let answer = connection.get("/whoami").await.map_err(failed)?;
        let number: u64 = answer
            .headers
            .first("x-client")
            .unwrap_or_default()
            .parse()
            .map_err(|_| "no number")?;
        if (number - 1) % workers == worker {
            break connection;
        }
    };
    let answer = connection
        .login_ntlm("/private/whoami", &user)
        .await
        .map_err(failed)?;
    let place = answer.headers.first("x-connection").map(str::to_owned);
    while !stop.load(Ordering::Relaxed) {
        let from = Instant::now();
        let answer = connection.get("/whoami").await.map_err(failed)?;
        book.note(from, from.elapsed());
        if answer.text() != user.identity()
            || answer.headers.first("x-connection") != place.as_deref()
        {
            return Err(format!(
                "{} is answered as {:?}",
                user.identity(),
                answer.text()
            ));
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

async fn ask_without(
    origin: std::net::SocketAddr,
    stop: &AtomicBool,
    book: &Book,
) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("without a front: {error}");
    let mut connection = Connection::open(origin).await.map_err(failed)?;
    while !stop.load(Ordering::Relaxed) {
        // From when it wanted to go on: it may not have been let.
        let from = Instant::now() + PAUSE;
        tokio::time::sleep(PAUSE).await;
        connection.get("/whoami").await.map_err(failed)?;
        book.note(from, from.elapsed());
    }
    Ok(())
}
