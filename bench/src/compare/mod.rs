//! The command `compare`: contenders in rounds, one measurement after the other.

mod sample;

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::CompareArgs;
use crate::contender::{self, Contender, NGINX, NGINX_CUSTOM, Setting};
use crate::cores::{self, Placement};
use crate::load::Target;
use crate::measure::Strace;
use crate::process::Server;
use crate::report::{self, Cell, Machine, Report};
use crate::scenario::{self, LATENCY_LOAD, Scenario, Work};
use crate::tls::{Clients, Key};

const DEFAULT_ROUNDS: u32 = 5;
const DEFAULT_DURATION: Duration = Duration::from_secs(2);
const QUICK_DURATION: Duration = Duration::from_millis(300);

/// Runs the comparison. True if nothing failed.
pub(crate) fn run(args: &CompareArgs) -> io::Result<bool> {
    let mut scenarios = scenario::chosen(&args.scenarios).map_err(io::Error::other)?;
    if args.quick {
        scenarios.iter_mut().for_each(Scenario::shorten);
    }
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
        origins: Origins::start(&scenarios, &placement, args.real_ntlm)?,
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

/// The servers behind the contenders, and the certificates that are shown.
struct Origins {
    plain: Server,
    /// For the scenarios in which TLS is spoken to it.
    tls: Option<Server>,
    certificates: tempfile::TempDir,
}

impl Origins {
    fn start(scenarios: &[Scenario], placement: &Placement, real_ntlm: bool) -> io::Result<Self> {
        let certificates = directory()?;
        for key in [Key::P256, Key::Rsa2048] {
            key.write(&certificate(certificates.path(), key))?;
        }
        let reached = scenarios
            .iter()
            .find(|scenario| scenario.tls.reaches_origin());
        let tls = reached
            .and_then(|scenario| scenario.tls.key())
            .map(|key| certificate(certificates.path(), key))
            .map(|file| start_origin(placement, real_ntlm, Some(&file)))
            .transpose()?;
        Ok(Self {
            plain: start_origin(placement, real_ntlm, None)?,
            tls,
            certificates,
        })
    }

    fn of(&self, scenario: &Scenario) -> &Server {
        match &self.tls {
            Some(tls) if scenario.tls.reaches_origin() => tls,
            _ => &self.plain,
        }
    }
}

fn certificate(dir: &Path, key: Key) -> PathBuf {
    dir.join(format!("{key:?}.pem"))
}

fn directory() -> io::Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix("ntlmfront-bench-")
        .tempdir()
}

fn start_origin(placement: &Placement, real_ntlm: bool, tls: Option<&Path>) -> io::Result<Server> {
    let addr = crate::listen::free_address()?;
    let mut arguments = vec!["origin".to_owned(), format!("--port={}", addr.port())];
    if real_ntlm {
        arguments.push("--real-ntlm".to_owned());
    }
    if let Some(file) = tls {
        arguments.push(format!("--tls={}", file.display()));
    }
    let program = std::env::current_exe()?;
    Server::start(
        "origin",
        directory()?,
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
    origins: Origins,
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
        let certificate = scenario
            .tls
            .key()
            .map(|key| certificate(self.origins.certificates.path(), key));
        let server = contender.start(&Setting {
            scenario,
            origin: self.origins.of(scenario).addr,
            workers,
            cores: &Placement::divide(&self.allowed, workers).contender,
            descriptors: self.descriptors,
            certificate: certificate.as_deref(),
        })?;
        let resume = scenario.work == Work::Handshakes { resumed: true };
        let target = Target {
            addr: server.addr,
            pins: contender.pins,
            real_ntlm: self.args.real_ntlm,
            tls: match &certificate {
                Some(file) => Some(Clients::new(file, resume)?),
                None => None,
            },
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
}
