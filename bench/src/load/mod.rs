//! The load generator: one thread, one epoll set, thousands of connections.
//!
//! Every connection logs in once and is then used for plain requests. **Closed loop**: each connection sends its next
//! request when the last is answered, which shows what a request costs. **Open loop**: requests are due at fixed times,
//! whether or not those before them were answered, which shows how long they take; see [`crate::schedule`].
//!
//! Nothing that goes wrong is counted and passed over: an unexpected status, a closed connection or a standstill ends the
//! measurement with an error.

mod connection;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::login::{self, Legs};
use crate::schedule::Schedule;
use crate::tls::Clients;
use crate::wire::{Shape, login_head};

pub(crate) use connection::Visit;
use connection::{Connection, Stage};

/// So many connections log in at the same time; more would only fill queues.
const LOGINS_AT_ONCE: usize = 64;
/// Silence for so long is a standstill.
const PATIENCE: Duration = Duration::from_secs(10);
const BUFFER_BYTES: usize = 256 * 1024;
/// A stretch goes on beyond its time until so many requests were answered, so that it says something on a machine whose
/// other users took the whole time.
const REQUESTS_MIN: u64 = 16;
/// But no further beyond its time than this.
const OVERTIME_MAX: Duration = Duration::from_secs(10);
/// Smaller rests are read with everything else.
const SKIP_BYTES_MIN: u64 = 16 * 1024;
/// Latencies are kept in nanoseconds up to here, with three digits.
const LATENCY_MAX_NS: u64 = 60_000_000_000;
const TIMER: u64 = u64::MAX;

/// What the load is aimed at.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The contender's listener.
    pub(crate) addr: SocketAddr,
    /// Whether a login holds for the connection, so that the origin can insist on it.
    pub(crate) pins: bool,
    /// Whether NTLM is done in full.
    pub(crate) real_ntlm: bool,
    /// How TLS is spoken, if it is.
    pub(crate) tls: Option<Clients>,
}

/// What a stretch of load came to.
#[derive(Clone, Debug)]
pub(crate) struct Stretch {
    /// How long it was.
    pub(crate) time: Duration,
    /// Requests; where bodies are large, by the bytes that moved, so that those under way count with their part.
    pub(crate) requests: f64,
    /// Latencies in nanoseconds: in an open loop from the time a request was due, in a closed one from its sending.
    pub(crate) latency: Histogram<u64>,
    /// How many handshakes resumed a session, of those that are counted as requests.
    pub(crate) resumed: u64,
}

impl Stretch {
    /// Requests per second.
    pub(crate) fn rate(&self) -> f64 {
        self.requests / self.time.as_secs_f64()
    }
}

/// The requests of a run, made once.
struct Requests {
    shape: Shape,
    plain: Rc<[u8]>,
    type1: Rc<[u8]>,
    legs: Legs,
    /// The body of each plain request.
    body: Vec<u8>,
}

/// Connections to one contender, and what they do.
pub(crate) struct Load {
    target: Target,
    requests: Requests,
    epoll: Epoll,
    connections: Vec<Connection>,
    events: Vec<EpollEvent>,
    buffer: Vec<u8>,
    /// Connections whose request was answered or whose login is complete, since the last turn.
    finished: Vec<usize>,
    /// Bytes of bodies that were moved, framing and heads included where that does not matter.
    body_bytes: u64,
    /// Plain requests that were answered.
    answered: u64,
    /// Handshakes that resumed a session, where they are all that is made.
    resumed: u64,
    /// Protocol, suite and key exchange.
    agreed: Option<String>,
    last_progress: Instant,
    interrupted: Arc<AtomicBool>,
}

impl Load {
    /// A load without any connections yet.
    pub(crate) fn new(
        target: &Target,
        shape: Shape,
        interrupted: &Arc<AtomicBool>,
    ) -> io::Result<Self> {
        let requests = Requests {
            shape,
            plain: shape.head(target.pins).into(),
            type1: login_head(target.pins, &login::type1()).into(),
            legs: Legs::new(target.real_ntlm),
            body: match shape {
                Shape::Upload { bytes } => vec![b'u'; bytes],
                _ => Vec::new(),
            },
        };
        Ok(Self {
            target: target.clone(),
            requests,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            connections: Vec::new(),
            events: vec![EpollEvent::empty(); 1024],
            buffer: vec![0; BUFFER_BYTES],
            finished: Vec::new(),
            body_bytes: 0,
            answered: 0,
            resumed: 0,
            agreed: None,
            last_progress: Instant::now(),
            interrupted: interrupted.clone(),
        })
    }

    /// Opens more connections, until there are `count` whose visit is complete. Nothing else may be under way.
    pub(crate) fn grow(&mut self, visit: Visit, count: usize) -> io::Result<()> {
        let mut complete = self.connections.len();
        self.last_progress = Instant::now();
        while complete < count {
            while self.connections.len() < count.min(complete + LOGINS_AT_ONCE) {
                self.connect(None, visit)?;
            }
            self.turn(EpollTimeout::from(100_u8))?;
            complete += self.finished.drain(..).count();
        }
        Ok(())
    }

    /// A closed loop for so long, and until every connection was answered twice on average: by then a contender has opened
    /// the upstream connections that it will use.
    pub(crate) fn warm_up(&mut self, time: Duration) -> io::Result<()> {
        let enough = self.answered + 2 * self.connections.len() as u64;
        let latest = Instant::now() + OVERTIME_MAX;
        self.closed_loop(time)?;
        while self.answered < enough && Instant::now() < latest {
            self.closed_loop(Duration::from_millis(20))?;
        }
        Ok(())
    }

    /// Every connection asks again as soon as it is answered. Requests under way at the end stay under way, and the next
    /// stretch goes on with them.
    pub(crate) fn closed_loop(&mut self, time: Duration) -> io::Result<Stretch> {
        let start = Instant::now();
        let end = start + time;
        let body_bytes_before = self.body_bytes;
        let mut latency = histogram();
        for index in 0..self.connections.len() {
            if self.connections[index].stage == Stage::Idle {
                self.ask(index, Instant::now())?;
            }
        }
        loop {
            self.turn(wait_until(end))?;
            let now = Instant::now();
            let finished = std::mem::take(&mut self.finished);
            for &index in &finished {
                let taken = now.duration_since(self.connections[index].since);
                record(&mut latency, taken);
                self.ask(index, now)?;
            }
            self.reuse(finished);
            if is_over(now, end, &latency) {
                break;
            }
        }
        let body_bytes = (self.body_bytes - body_bytes_before) as f64;
        let requests = match self.requests.shape {
            Shape::Answer { bytes } | Shape::Chunked { bytes, .. } | Shape::Upload { bytes }
                if bytes >= SKIP_BYTES_MIN as usize =>
            {
                body_bytes / bytes as f64
            }
            _ => latency.len() as f64,
        };
        Ok(Stretch {
            time: start.elapsed(),
            requests,
            latency,
            resumed: 0,
        })
    }

    /// How many plain requests were answered since the beginning.
    pub(crate) fn answered(&self) -> u64 {
        self.answered
    }

    /// Lets what is under way come to its end.
    pub(crate) fn quiesce(&mut self) -> io::Result<()> {
        self.last_progress = Instant::now();
        while self
            .connections
            .iter()
            .any(|connection| connection.stage == Stage::Busy)
        {
            self.turn(EpollTimeout::from(100_u8))?;
            self.finished.clear();
        }
        Ok(())
    }

    /// Sends `rate` requests per second, each at its time or, if every connection is busy then, as soon as one is not.
    pub(crate) fn open_loop(&mut self, rate: f64, time: Duration) -> io::Result<Stretch> {
        self.quiesce()?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
        self.epoll
            .add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
        let mut latency = histogram();
        let mut schedule = Schedule::new(rate, time, self.connections.len());
        let start = Instant::now();
        loop {
            let now = start.elapsed();
            while let Some((index, due)) = schedule.next_request(now) {
                self.ask(index, start + due)?;
            }
            if schedule.is_over() {
                break;
            }
            if let Some(due) = schedule.next_due() {
                // Relative, and never zero, which would disarm the timer.
                let wait = due
                    .saturating_sub(start.elapsed())
                    .max(Duration::from_nanos(1));
                timer.set(
                    Expiration::OneShot(TimeSpec::from_duration(wait)),
                    TimerSetTimeFlags::empty(),
                )?;
            }
            self.turn(EpollTimeout::from(100_u8))?;
            let now = Instant::now();
            let finished = std::mem::take(&mut self.finished);
            for &index in &finished {
                record(
                    &mut latency,
                    now.duration_since(self.connections[index].since),
                );
                schedule.answered(index);
            }
            self.reuse(finished);
        }
        self.epoll.delete(&timer)?;
        Ok(Stretch {
            time: start.elapsed(),
            requests: latency.len() as f64,
            latency,
            resumed: 0,
        })
    }

    /// Makes visits, on so many connections at a time: each is closed when it is over, and the next begins. One that logs in asks
    /// once. What is counted are whole visits; latencies are theirs.
    pub(crate) fn churn(
        &mut self,
        visit: Visit,
        at_once: usize,
        time: Duration,
    ) -> io::Result<Stretch> {
        let start = Instant::now();
        let end = start + time;
        let resumed_before = self.resumed;
        let mut latency = histogram();
        for _ in 0..at_once {
            self.connect(None, visit)?;
        }
        loop {
            self.turn(wait_until(end))?;
            let now = Instant::now();
            let finished = std::mem::take(&mut self.finished);
            for &index in &finished {
                let Connection { since, asked, .. } = self.connections[index];
                if visit == Visit::Login && asked == 0 {
                    self.ask(index, since)?;
                } else {
                    record(&mut latency, now.duration_since(since));
                    self.connect(Some(index), visit)?;
                }
            }
            self.reuse(finished);
            if is_over(now, end, &latency) {
                break;
            }
        }
        Ok(Stretch {
            time: start.elapsed(),
            requests: latency.len() as f64,
            latency,
            resumed: self.resumed - resumed_before,
        })
    }

    /// The protocol, suite and key exchange that were agreed upon; `None` without TLS or connections.
    pub(crate) fn agreed(&self) -> Option<&str> {
        self.agreed.as_deref()
    }

    /// Waits for events and does what they allow.
    fn turn(&mut self, timeout: EpollTimeout) -> io::Result<()> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(ErrorKind::Interrupted.into());
        }
        let mut events = std::mem::take(&mut self.events);
        let count = match self.epoll.wait(&mut events, timeout) {
            Err(nix::errno::Errno::EINTR) => 0,
            other => other?,
        };
        for event in &events[..count] {
            if event.data() == TIMER {
                // It is set anew, or not needed, before the next wait.
                continue;
            }
            let index = event.data() as usize;
            if event.events().contains(EpollFlags::EPOLLOUT) {
                self.send(index)?;
            }
            if event.events() != EpollFlags::EPOLLOUT {
                self.receive(index)?;
            }
        }
        self.events = events;
        if count == 0 && self.last_progress.elapsed() > PATIENCE {
            return Err(io::Error::new(
                ErrorKind::TimedOut,
                format!("no byte came for {} seconds", PATIENCE.as_secs()),
            ));
        }
        Ok(())
    }

    /// Keeps the list's memory for the next turn.
    fn reuse(&mut self, mut finished: Vec<usize>) {
        finished.clear();
        if self.finished.is_empty() {
            self.finished = finished;
        }
    }
}

/// No histograms of its own could be wrong: the bounds are constants.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, LATENCY_MAX_NS, 3).expect("the bounds are in order")
}

fn is_over(now: Instant, end: Instant, latency: &Histogram<u64>) -> bool {
    now >= end && (latency.len() >= REQUESTS_MIN || now >= end + OVERTIME_MAX)
}

fn record(latency: &mut Histogram<u64>, taken: Duration) {
    latency.saturating_record(u64::try_from(taken.as_nanos()).unwrap_or(u64::MAX));
}

/// Milliseconds up to `end`, rounded up: at least one, since turning without a pause would take the core from the origin,
/// and at most 100, so that an interruption is noticed.
fn wait_until(end: Instant) -> EpollTimeout {
    let left = end.saturating_duration_since(Instant::now());
    EpollTimeout::from(
        u8::try_from(left.as_micros().div_ceil(1000)).map_or(100, |ms| ms.clamp(1, 100)),
    )
}
