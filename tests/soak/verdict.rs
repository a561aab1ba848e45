//! What a soak has to show.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use ntlm_origin::client::Connection;

use crate::crowd::PIPE_ENDS_KEPT;
use crate::crowd::books::{Findings, Violation};
use crate::faults::FAULTS;
use crate::front::{Front, PATIENCE, eventually};
use crate::operator::Logs;
use crate::site::{FOR_WITNESSES, Servers};
use crate::tally::{Outcome, Tally};
use crate::watch::{Descriptors, Sample, Samples, Usage, median, slope_per_hour};

/// The part of a run that is not judged: the first clients come, the allocator gets its memory.
const WARM_UP: f64 = 0.2;
const LONGEST_WARM_UP: Duration = Duration::from_secs(60);

/// From here on a run is long: memory must be flat, and every fault must have happened.
const LONG: Duration = Duration::from_secs(4 * 60);

/// A witness that waits for so long is stalled, on however busy a machine.
const STALLED: Duration = Duration::from_secs(5);

/// A run that is over, with everybody gone.
pub(crate) struct Run<'a> {
    pub(crate) seed: u64,
    pub(crate) length: Duration,
    pub(crate) front: Front,
    pub(crate) servers: &'a Servers,
    pub(crate) at_start: Descriptors,
    pub(crate) threads: u64,
    pub(crate) samples: Samples,
    pub(crate) logs: Logs,
    pub(crate) findings: &'a Findings,
    pub(crate) tally: Tally,
}

/// The name of the driver that the front runs on.
pub(crate) fn driver(front: &Front) -> String {
    let log = front.error_log();
    let named = ["io_uring", "epoll"].into_iter().find(|name| {
        log.lines()
            .any(|line| line.contains(" workers on ") && line.contains(name))
    });
    named.expect("the log says which driver it is").to_owned()
}

impl Run<'_> {
    /// Says what happened, and fails if anything happened that must not.
    pub(crate) async fn judge(mut self) {
        let left = self.await_nothing_left().await;
        let usage = Usage::of(self.front.pid());
        self.front.signal(Signal::SIGQUIT);
        let status = self.front.wait();
        self.logs.finish(self.front.path());
        self.report(&left, &usage);

        assert!(status.success(), "the front ended with {status}");
        assert_eq!(usage.threads, self.threads, "threads");
        assert_eq!(self.front.stderr(), "", "standard error of the front");
        assert!(
            self.logs.alarming.is_empty(),
            "in the error log: {:#?}",
            self.logs.alarming
        );
        let problems = self.findings.violations() + &self.tally.problems();
        assert!(problems.is_empty(), "SOAK_SEED={}\n{problems}", self.seed);
        assert!(
            self.tally.longest < STALLED,
            "a witness waited for {:.1?}",
            self.tally.longest
        );
        self.check_memory();
        self.check_that_something_happened();
    }

    /// Nothing may be left of clients that are gone. Returns the descriptors then.
    async fn await_nothing_left(&self) -> Descriptors {
        eventually("no upstream connection is left", || {
            (self.servers.connections() == 0).then_some(())
        });
        let left = eventually("the descriptors are those of the start", || {
            let left = Descriptors::of(self.front.pid());
            (left.without_pipes() == self.at_start.without_pipes()).then_some(left)
        });
        let kept = left.pipes - self.at_start.pipes;
        assert!(kept <= PIPE_ENDS_KEPT, "{kept} ends of pipes are left");
        self.await_no_client().await;
        left
    }

    /// Each worker brings its gauges up to date now and then.
    async fn await_no_client(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut connection = Connection::open(self.front.addr(FOR_WITNESSES))
                .await
                .expect("the front accepts");
            let page = connection.get("/status").await.expect("an answer").text();
            // The one that asks.
            if page.starts_with("Active connections: 1 ") {
                return;
            }
            assert!(Instant::now() < deadline, "clients are left: {page}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn report(&self, left: &Descriptors, usage: &Usage) {
        let Findings {
            requests,
            answers,
            connections,
            logins,
            recognised,
            ended,
            excused,
            ..
        } = self.findings;
        println!(
            "crowd: {requests} requests, {answers} answers, {connections} connections, {logins} logins, {recognised} \
             recognised without credentials, {ended} logins ended by limits and servers, excused {excused:?}"
        );
        let Tally {
            logins,
            failed_logins,
            excused,
            witness_requests,
            longest,
            ..
        } = &self.tally;
        println!(
            "faults: {}, {logins} logins before them ({failed_logins} failed), {excused} excused, by kind:\n{}",
            self.tally.faults(),
            self.tally.table()
        );
        println!("witnesses: {witness_requests} requests, the longest took {longest:.1?}");
        println!(
            "operator: {} reloads, {} of them leaving it short of connections; {} lines of the access log, of the error log {:?}",
            self.logs.reloads, self.logs.shortages, self.logs.requests, self.logs.levels
        );
        println!(
            "wrong identities: {}",
            self.findings.count(Violation::WrongIdentity)
                + self.findings.count(Violation::CameBack)
                + self.tally.wrong_identities
        );
        println!("descriptors at the start {:?}", self.at_start);
        println!("descriptors at the end   {left:?}");
        let steady = self.steady();
        let (first, last) = self.fifths();
        let rss = |sample: &Sample| sample.usage.rss_kib;
        let dirty = |sample: &Sample| sample.usage.private_dirty_kib;
        println!(
            "resident memory, KiB: first fifth {}, last fifth {}, {:+.0} in an hour; private and dirty {}, {}, {:+.0}; after \
             everybody has left {}",
            median(first, rss),
            median(last, rss),
            slope_per_hour(steady, rss),
            median(first, dirty),
            median(last, dirty),
            slope_per_hour(steady, dirty),
            usage.rss_kib,
        );
        println!(
            "processor time {:.1} s, waited for a processor {:.1} s; samples in {}",
            usage.cpu_ms as f64 / 1_000.0,
            usage.waited_ms as f64 / 1_000.0,
            self.samples.path.display()
        );
    }

    /// The samples that are judged.
    fn steady(&self) -> &[Sample] {
        let warm_up = (self.length.mul_f64(WARM_UP)).min(LONGEST_WARM_UP);
        self.samples.since(warm_up.as_secs_f64())
    }

    fn fifths(&self) -> (&[Sample], &[Sample]) {
        let steady = self.steady();
        let fifth = steady.len().div_ceil(5);
        (&steady[..fifth], &steady[steady.len() - fifth..])
    }

    fn check_memory(&self) {
        let (first, last) = self.fifths();
        let rss = |samples| median(samples, |sample| sample.usage.rss_kib);
        let (before, after) = (rss(first), rss(last));
        // In its first minutes memory still grows to what the worst moments need, as each is worse than those before.
        let may_grow = match self.length >= LONG {
            true => (before / 20).max(2 << 10),
            false => (before / 2).max(8 << 10),
        };
        assert!(
            after <= before + may_grow,
            "resident memory grew from {before} to {after} KiB"
        );
    }

    /// A run in which nothing happened would show nothing.
    fn check_that_something_happened(&self) {
        let Findings {
            requests,
            logins,
            recognised,
            ended,
            ..
        } = *self.findings;
        assert!(logins > requests / 40, "{logins} logins");
        assert!(recognised > requests / 100, "{recognised} recognised");
        assert!(ended > requests / 400, "{ended} ended");
        let excused = self.findings.excused();
        assert!(excused < requests / 10, "{excused} excused of {requests}");
        let faults = self.tally.faults();
        assert!(
            self.tally.excused < faults / 4,
            "{} excused of {faults} faults",
            self.tally.excused
        );
        let Tally {
            logins,
            failed_logins,
            ..
        } = self.tally;
        assert!(
            failed_logins < logins / 5,
            "{failed_logins} of {logins} failed"
        );
        if self.length >= LONG {
            assert_eq!(self.tally.faults.len(), FAULTS.len(), "kinds of faults");
            assert!(self.logs.shortages > 0, "no shortage");
            let gone = &self.tally.faults["gone"];
            for outcome in [Outcome::Answered(200), Outcome::Answered(502)] {
                assert!(
                    gone.contains_key(&outcome),
                    "a server that comes and goes: {gone:?}"
                );
            }
        }
    }
}
