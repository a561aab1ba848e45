//! One measurement of one contender in one scenario.

use std::io::{self, ErrorKind};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::contender::Contender;
use crate::load::{Load, Stretch, Target, Visit, histogram};
use crate::measure::{self, Strace};
use crate::process::Server;
use crate::report::{Metric, Sample};
use crate::scenario::{IDLE_WARM_UP, Scenario, Work};

use super::Comparison;

/// The memory of idle connections is measured in so many steps, for the plot.
const IDLE_STEPS: usize = 5;

impl Comparison<'_> {
    fn load(&self, target: &Target, scenario: &Scenario) -> io::Result<Load> {
        Load::new(target, scenario.shape, &self.interrupted)
    }

    pub(super) fn logged_in(&self, target: &Target, scenario: &Scenario) -> io::Result<Load> {
        let mut load = self.load(target, scenario)?;
        load.grow(Visit::Login, scenario.connections)?;
        Ok(load)
    }

    pub(super) fn warm_up(&self) -> Duration {
        self.duration / 4
    }

    pub(super) fn measure(
        &self,
        scenario: &Scenario,
        contender: &Contender,
        rate: Option<f64>,
        round: u32,
    ) -> io::Result<(Sample, Histogram<u64>)> {
        let (server, target) = self.start(scenario, contender)?;
        self.sample(scenario, &server, &target, rate, round)
            .map_err(|error| match error.kind() {
                ErrorKind::Interrupted => error,
                _ => server.failure(&format!("failed: {error}")),
            })
    }

    fn sample(
        &self,
        scenario: &Scenario,
        server: &Server,
        target: &Target,
        rate: Option<f64>,
        round: u32,
    ) -> io::Result<(Sample, Histogram<u64>)> {
        let mut sample = Sample::new(round);
        let mut load;
        let stretch = match scenario.work {
            Work::Idle => {
                self.idle_memory(scenario, server, target, &mut sample)?;
                return Ok((sample, histogram()));
            }
            Work::Logins | Work::Handshakes { .. } => {
                let visit = match scenario.work {
                    Work::Logins => Visit::Login,
                    _ => Visit::Handshake,
                };
                let at_once = scenario.connections;
                // One visit of each, so that there are tickets for all who shall resume a session, twice over.
                self.load(target, scenario)?.grow(visit, at_once)?;
                // A load of its own for warming up: the rounds of one that is left unfinished would be nobody's.
                self.load(target, scenario)?
                    .churn(visit, at_once, self.warm_up())?;
                load = self.load(target, scenario)?;
                let stretch = watched(server, &mut sample, || {
                    load.churn(visit, at_once, self.duration)
                })?;
                check_resumed(scenario.work, &stretch)?;
                stretch
            }
            Work::Cost => {
                load = self.logged_in(target, scenario)?;
                load.warm_up(self.warm_up())?;
                watched(server, &mut sample, || load.closed_loop(self.duration))?
            }
            Work::Latency => {
                let rate = rate.unwrap_or(1000.0);
                load = self.logged_in(target, scenario)?;
                load.warm_up(self.warm_up())?;
                watched(server, &mut sample, || load.open_loop(rate, self.duration))?
            }
        };
        sample.agreed = load.agreed().map(str::to_owned);
        if stretch.requests <= 0.0 {
            return Err(io::Error::other("no request was answered in time"));
        }
        sample.set(Metric::RequestsPerSecond, stretch.rate());
        for (metric, quantile) in Metric::LATENCIES {
            let nanoseconds = stretch.latency.value_at_quantile(quantile) as f64;
            sample.set(metric, nanoseconds / 1000.0);
        }
        Ok((sample, stretch.latency))
    }

    /// Notes by how many bytes the server's memory grew for so many connections that logged in and then did nothing.
    fn idle_memory(
        &self,
        scenario: &Scenario,
        server: &Server,
        target: &Target,
        sample: &mut Sample,
    ) -> io::Result<()> {
        let settle = Duration::from_millis(100);
        let mut load = self.load(target, scenario)?;
        load.grow(Visit::Login, IDLE_WARM_UP)?;
        drop(load);
        thread::sleep(settle);
        let processes = server.processes();
        let before = measure::own_bytes(&processes)?;
        let sockets_before = measure::sockets(&processes)?;
        let mut load = self.load(target, scenario)?;
        for step in 1..=IDLE_STEPS {
            let pairs = scenario.connections * step / IDLE_STEPS;
            load.grow(Visit::Login, pairs)?;
            thread::sleep(settle);
            let grown = measure::own_bytes(&processes)?.saturating_sub(before);
            sample.memory_by_pairs.push((pairs, grown));
            sample.set(Metric::MemoryBytesPerPair, grown as f64 / pairs as f64);
        }
        let sockets = measure::sockets(&processes)?.saturating_sub(sockets_before);
        sample.set(
            Metric::SocketsPerPair,
            sockets as f64 / scenario.connections as f64,
        );
        // The origin answers 401 on a connection whose login was lost: so they were all there.
        load.closed_loop(Duration::from_millis(1))?;
        load.quiesce()?;
        sample.agreed = load.agreed().map(str::to_owned);
        Ok(())
    }

    pub(super) fn system_calls(
        &self,
        scenario: &Scenario,
        contender: &Contender,
    ) -> io::Result<Vec<(String, f64)>> {
        let (server, target) = self.start(scenario, contender)?;
        let mut load = self.logged_in(&target, scenario)?;
        load.warm_up(Duration::from_millis(50))?;
        load.quiesce()?;
        let strace = Strace::attach(&server.processes())?;
        let answered = load.answered();
        load.closed_loop(Duration::from_millis(400))?;
        load.quiesce()?;
        let counts = strace.finish()?;
        let requests = (load.answered() - answered).max(1) as f64;
        Ok(counts
            .into_iter()
            .map(|(name, calls)| (name, calls as f64 / requests))
            .collect())
    }
}

/// An error unless the handshakes were of the kind that is measured.
fn check_resumed(work: Work, stretch: &Stretch) -> io::Result<()> {
    let expected = match work {
        Work::Handshakes { resumed: true } => stretch.latency.len(),
        _ => 0,
    };
    if stretch.resumed != expected {
        return Err(io::Error::other(format!(
            "{} handshakes of {} resumed a session, and not {expected}",
            stretch.resumed,
            stretch.latency.len()
        )));
    }
    Ok(())
}

/// Notes what the server's processes used while the load ran.
fn watched(
    server: &Server,
    sample: &mut Sample,
    load: impl FnOnce() -> io::Result<Stretch>,
) -> io::Result<Stretch> {
    let processes = server.processes();
    let ticks_before = measure::ticks(&processes)?;
    let began = Instant::now();
    let cpu_before = measure::cpu_time(&processes)?;
    let stretch = load()?;
    let cpu = measure::cpu_time(&processes)? - cpu_before;
    let taken = began.elapsed();
    let ticks = measure::ticks(&processes)?;
    let (user, system) = (ticks.0 - ticks_before.0, ticks.1 - ticks_before.1);
    if stretch.requests > 0.0 {
        let microseconds = cpu.as_secs_f64() * 1e6 / stretch.requests;
        sample.set(Metric::CpuMicrosPerRequest, microseconds);
    }
    sample.set(
        Metric::CpuBusyPercent,
        cpu.as_secs_f64() / taken.as_secs_f64() * 100.0,
    );
    if user + system > 0 {
        let share = system as f64 / (user + system) as f64;
        sample.set(Metric::SystemPercent, share * 100.0);
    }
    Ok(stretch)
}
