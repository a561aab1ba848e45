//! The command `compare`: contenders in rounds, one measurement after the other.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::CompareArgs;
use crate::contender::{self, Contender, NGINX, NGINX_CUSTOM, Setting};
use crate::cores::{self, Placement};
use crate::load::{Load, Stretch, Target, histogram};
use crate::measure::{self, Strace};
use crate::process::Server;
use crate::report::{self, Cell, Machine, Metric, Report, Sample};
use crate::scenario::{self, LATENCY_LOAD, Scenario, Work};

/// Connections that come and go before the memory of idle ones is measured, so that code is loaded.
const IDLE_WARM_UP: usize = 8;
/// In so many steps, for the plot.
const IDLE_STEPS: usize = 5;
const DEFAULT_ROUNDS: u32 = 5;
const DEFAULT_DURATION: Duration = Duration::from_secs(2);
const QUICK_DURATION: Duration = Duration::from_millis(300);

/// Runs the comparison. True if nothing failed.
pub(crate) fn run(args: &CompareArgs) -> io::Result<bool> {
    let scenarios = scenario::chosen(&args.scenarios).map_err(io::Error::other)?;
    let (contenders, mut notes) = contender::find(args)?;
    if contenders.is_empty() {
        return Err(io::Error::other("nobody to compare"));
    }
    let allowed = cores::allowed()?;
    let descriptors = cores::raise_descriptor_limit()?;
    let placement = Placement::divide(&allowed, usize::from(args.workers));
    if placement.shared() {
        notes.push("contenders share a core with the load: there are too few".to_owned());
    }
    cores::stay_on(&[placement.load])?;
    let counts_calls = !args.no_syscalls && Strace::is_there();
    if !args.no_syscalls && !counts_calls {
        notes.push("system calls are not counted: apt-get install strace".to_owned());
    }
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [
        signal_hook::consts::SIGINT,
        signal_hook::consts::SIGTERM,
        signal_hook::consts::SIGHUP,
    ] {
        signal_hook::flag::register(signal, interrupted.clone())?;
    }
    let rounds = args
        .rounds
        .unwrap_or(if args.quick { 1 } else { DEFAULT_ROUNDS });
    let duration = args.duration.unwrap_or(match args.quick {
        true => QUICK_DURATION,
        false => DEFAULT_DURATION,
    });
    let out = report::output(args.out.as_deref());
    let steps: usize = scenarios
        .iter()
        .map(|scenario| {
            contenders
                .iter()
                .filter(|contender| contender.takes_part(scenario, &args.contenders))
                .count()
                * rounds as usize
        })
        .sum();
    let mut comparison = Comparison {
        args,
        origin: start_origin(&placement, args.real_ntlm)?,
        allowed,
        descriptors,
        duration,
        rounds,
        counts_calls,
        interrupted,
        progress: progress_bar(steps),
        report: Report::new(Machine::here(), &contenders, rounds, duration, notes),
    };
    let outcome = scenarios
        .iter()
        .try_for_each(|scenario| comparison.scenario(scenario, &contenders));
    comparison.progress.finish_and_clear();
    let report = comparison.report;
    if let Err(error) = outcome {
        if error.kind() == ErrorKind::Interrupted {
            eprintln!("bench: interrupted; what was measured so far:");
        } else {
            return Err(error);
        }
        report.print_totals();
        return Ok(false);
    }
    report.print_totals();
    report.write(&out)?;
    Ok(!report.failed())
}

fn start_origin(placement: &Placement, real_ntlm: bool) -> io::Result<Server> {
    let addr = crate::listen::free_address()?;
    let mut arguments = vec!["origin".to_owned(), format!("--listen={addr}")];
    if real_ntlm {
        arguments.push("--real-ntlm".to_owned());
    }
    let dir = tempfile::Builder::new()
        .prefix("ntlmfront-bench-")
        .tempdir()?;
    let program = std::env::current_exe()?;
    Server::start(
        "origin",
        dir,
        &[placement.origin],
        addr,
        &program,
        &arguments,
    )
}

fn progress_bar(steps: usize) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{bar:40.cyan/blue} {pos}/{len} {elapsed} (left: {eta}) {wide_msg}",
    )
    .unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(steps as u64).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

struct Comparison<'a> {
    args: &'a CompareArgs,
    origin: Server,
    allowed: Vec<usize>,
    descriptors: u64,
    duration: Duration,
    rounds: u32,
    counts_calls: bool,
    interrupted: Arc<AtomicBool>,
    progress: ProgressBar,
    report: Report,
}

impl Comparison<'_> {
    /// Measures everybody in a scenario, in turn, round after round. A contender's failure is noted, and the next one's turn
    /// comes; only an interruption is an error.
    fn scenario(&mut self, scenario: &Scenario, contenders: &[Contender]) -> io::Result<()> {
        let taking_part: Vec<&Contender> = contenders
            .iter()
            .filter(|contender| contender.takes_part(scenario, &self.args.contenders))
            .collect();
        let mut cells: Vec<Cell> = taking_part
            .iter()
            .map(|contender| Cell::new(scenario, &contender.name))
            .collect();
        for contender in taking_part
            .iter()
            .filter(|contender| scenario.work == Work::Idle && !contender.pins)
        {
            self.report.note(format!(
                "{}: {} keeps no upstream connection for each client, so its figure is that of half a pair",
                scenario.name, contender.name
            ));
        }
        let rate = match scenario.work {
            Work::Latency => Some(self.latency_rate(scenario, &taking_part)?),
            _ => None,
        };
        for round in 0..self.rounds {
            for (contender, cell) in taking_part.iter().zip(&mut cells) {
                self.progress.set_message(format!(
                    "{}: {}, round {} of {}",
                    scenario.name,
                    contender.name,
                    round + 1,
                    self.rounds
                ));
                // Once failed is failed; that also keeps a run with a broken contender short.
                if cell.failure.is_none() {
                    match self.measure(scenario, contender, rate, round) {
                        Ok((sample, latency)) => cell.add(sample, &latency),
                        Err(error) => self.failed(cell, error)?,
                    }
                }
                self.progress.inc(1);
            }
        }
        let countable = scenario.work == Work::Cost
            && self.counts_calls
            && (!self.args.quick || scenario.name == "small-64");
        for (contender, cell) in taking_part.iter().zip(&mut cells) {
            if countable && cell.failure.is_none() {
                self.progress.set_message(format!(
                    "{}: {}, system calls",
                    scenario.name, contender.name
                ));
                match self.system_calls(scenario, contender) {
                    Ok(calls) => cell.system_calls = calls,
                    Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
                    Err(error) => self.report.note(format!(
                        "{}: no system calls of {}: {error}",
                        scenario.name, contender.name
                    )),
                }
            }
        }
        let text = self.report.add(scenario, cells);
        self.progress.suspend(|| println!("{text}"));
        Ok(())
    }

    fn failed(&self, cell: &mut Cell, error: io::Error) -> io::Result<()> {
        if error.kind() == ErrorKind::Interrupted || self.interrupted.load(Ordering::Relaxed) {
            return Err(ErrorKind::Interrupted.into());
        }
        cell.failure = Some(error.to_string());
        Ok(())
    }

    fn start(&self, scenario: &Scenario, contender: &Contender) -> io::Result<(Server, Target)> {
        let workers = scenario.workers.unwrap_or(usize::from(self.args.workers));
        let server = contender.start(&Setting {
            scenario,
            origin: self.origin.addr,
            workers,
            cores: &Placement::divide(&self.allowed, workers).contender,
            descriptors: self.descriptors,
        })?;
        let target = Target {
            addr: server.addr,
            pins: contender.pins,
            real_ntlm: self.args.real_ntlm,
        };
        Ok((server, target))
    }

    /// The rate of a latency scenario: a part of the best that nginx reaches in a closed loop; without nginx, of the
    /// slowest.
    fn latency_rate(&mut self, scenario: &Scenario, contenders: &[&Contender]) -> io::Result<f64> {
        let base = [NGINX, NGINX_CUSTOM]
            .iter()
            .find_map(|name| contenders.iter().find(|contender| contender.name == *name));
        let candidates = match base {
            Some(base) => std::slice::from_ref(base),
            None => contenders,
        };
        let mut lowest: Option<(f64, &str)> = None;
        for contender in candidates {
            self.progress.set_message(format!(
                "{}: the best rate of {}",
                scenario.name, contender.name
            ));
            match self.peak(scenario, contender) {
                Ok(rate) if lowest.is_none_or(|(other, _)| rate < other) => {
                    lowest = Some((rate, &contender.name));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
                // It will fail again, and then be noted, when it is measured.
                _ => {}
            }
        }
        let (peak, name) = lowest.unwrap_or((1000.0, "nobody"));
        let rate = peak * LATENCY_LOAD;
        self.report.note(format!(
            "{}: {rate:.0} requests per second, {:.0}% of what {name} reached in a closed loop ({peak:.0})",
            scenario.name,
            LATENCY_LOAD * 100.0
        ));
        Ok(rate)
    }

    /// The most requests per second of a closed loop, in as many tries as there are rounds, but at most three.
    fn peak(&self, scenario: &Scenario, contender: &Contender) -> io::Result<f64> {
        let mut highest: f64 = 0.0;
        for _ in 0..self.rounds.min(3) {
            let (_server, target) = self.start(scenario, contender)?;
            let mut load = self.logged_in(&target, scenario)?;
            load.warm_up(self.warm_up())?;
            highest = highest.max(load.closed_loop(self.duration)?.rate());
        }
        Ok(highest)
    }

    fn load(&self, target: &Target, scenario: &Scenario) -> io::Result<Load> {
        Load::new(target, scenario.shape, &self.interrupted)
    }

    fn logged_in(&self, target: &Target, scenario: &Scenario) -> io::Result<Load> {
        let mut load = self.load(target, scenario)?;
        load.grow(scenario.connections)?;
        Ok(load)
    }

    fn warm_up(&self) -> Duration {
        self.duration / 4
    }

    fn measure(
        &self,
        scenario: &Scenario,
        contender: &Contender,
        rate: Option<f64>,
        round: u32,
    ) -> io::Result<(Sample, hdrhistogram::Histogram<u64>)> {
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
    ) -> io::Result<(Sample, hdrhistogram::Histogram<u64>)> {
        let mut sample = Sample::new(round);
        let stretch = match scenario.work {
            Work::Idle => {
                sample.memory_by_pairs = self.idle_memory(scenario, server, target)?;
                if let Some(&(pairs, grown)) = sample.memory_by_pairs.last() {
                    sample.set(Metric::MemoryBytesPerPair, grown as f64 / pairs as f64);
                }
                return Ok((sample, histogram()));
            }
            Work::Logins => {
                // A load of its own for warming up: the rounds of one that is left unfinished would be nobody's.
                self.load(target, scenario)?
                    .churn(scenario.connections, self.warm_up())?;
                let mut load = self.load(target, scenario)?;
                watched(server, &mut sample, || {
                    load.churn(scenario.connections, self.duration)
                })?
            }
            Work::Cost => {
                let mut load = self.logged_in(target, scenario)?;
                load.warm_up(self.warm_up())?;
                watched(server, &mut sample, || load.closed_loop(self.duration))?
            }
            Work::Latency => {
                let rate = rate.unwrap_or(1000.0);
                let mut load = self.logged_in(target, scenario)?;
                load.warm_up(self.warm_up())?;
                watched(server, &mut sample, || load.open_loop(rate, self.duration))?
            }
        };
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

    /// By how many bytes the server's memory grew for so many connections that logged in and then did nothing.
    fn idle_memory(
        &self,
        scenario: &Scenario,
        server: &Server,
        target: &Target,
    ) -> io::Result<Vec<(usize, u64)>> {
        let settle = Duration::from_millis(100);
        let mut load = self.load(target, scenario)?;
        load.grow(IDLE_WARM_UP)?;
        drop(load);
        thread::sleep(settle);
        let processes = server.processes();
        let before = measure::resident_bytes(&processes)?;
        let mut load = self.load(target, scenario)?;
        let mut growth = Vec::new();
        for step in 1..=IDLE_STEPS {
            let pairs = scenario.connections * step / IDLE_STEPS;
            load.grow(pairs)?;
            thread::sleep(settle);
            let grown = measure::resident_bytes(&processes)?.saturating_sub(before);
            growth.push((pairs, grown));
        }
        // The origin answers 401 on a connection whose login was lost: so they were all there.
        load.closed_loop(Duration::from_millis(1))?;
        load.quiesce()?;
        Ok(growth)
    }

    fn system_calls(
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
