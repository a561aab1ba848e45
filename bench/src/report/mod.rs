//! What was measured, summed up, and written for people and programs.

mod figures;
mod html;
mod plots;
mod table;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::contender::Contender;
use crate::load::histogram;
use crate::scenario::{Family, Scenario, Work};
use crate::stats::{self, Summary};

const MIB: f64 = 1024.0 * 1024.0;
/// Bodies from this size on get a figure for each MiB.
const BODY_BYTES_MIN: usize = 4 * 1024;

/// A quantity that is measured. The order is that of reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    /// Time of the processors, user and system, of all the contender's processes and threads, for one request or login.
    CpuMicrosPerRequest,
    /// The same for each MiB of body.
    CpuMicrosPerMib,
    /// Part of one core's time that the contender used.
    CpuBusyPercent,
    /// Part of its time that it spent in the kernel; from ticks, so rough.
    SystemPercent,
    /// Requests or logins.
    RequestsPerSecond,
    /// Latencies; see [`Metric::LATENCIES`].
    P50Micros,
    /// See [`Metric::LATENCIES`].
    P90Micros,
    /// See [`Metric::LATENCIES`].
    P99Micros,
    /// See [`Metric::LATENCIES`].
    P999Micros,
    /// Growth of memory for each idle pinned pair.
    MemoryBytesPerPair,
    /// Growth of the number of sockets for each idle client: 2 if it is a pair.
    SocketsPerPair,
}

impl Metric {
    /// The quantiles of the latency.
    pub(crate) const LATENCIES: [(Self, f64); 4] = [
        (Self::P50Micros, 0.5),
        (Self::P90Micros, 0.9),
        (Self::P99Micros, 0.99),
        (Self::P999Micros, 0.999),
    ];

    /// What a scenario is there for; its ratios are the ones that are printed.
    pub(crate) fn headline(work: Work) -> Self {
        match work {
            Work::Cost | Work::Logins | Work::Handshakes { .. } => Self::CpuMicrosPerRequest,
            Work::Latency => Self::P99Micros,
            Work::Idle => Self::MemoryBytesPerPair,
        }
    }

    /// With the unit, for people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::CpuMicrosPerRequest => "CPU µs/request",
            Self::CpuMicrosPerMib => "CPU µs/MiB",
            Self::CpuBusyPercent => "core %",
            Self::SystemPercent => "system %",
            Self::RequestsPerSecond => "requests/s",
            Self::P50Micros => "p50 µs",
            Self::P90Micros => "p90 µs",
            Self::P99Micros => "p99 µs",
            Self::P999Micros => "p99.9 µs",
            Self::MemoryBytesPerPair => "bytes/pair",
            Self::SocketsPerPair => "sockets/pair",
        }
    }
}

/// One measurement of one contender.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sample {
    round: u32,
    values: BTreeMap<Metric, f64>,
    /// Growth of memory in bytes by number of idle pairs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) memory_by_pairs: Vec<(usize, u64)>,
    /// What clients agreed upon with the contender: protocol, suite, key exchange.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) agreed: Option<String>,
}

impl Sample {
    /// An empty one.
    pub(crate) fn new(round: u32) -> Self {
        Self {
            round,
            values: BTreeMap::new(),
            memory_by_pairs: Vec::new(),
            agreed: None,
        }
    }

    /// Notes a value.
    pub(crate) fn set(&mut self, metric: Metric, value: f64) {
        self.values.insert(metric, value);
    }
}

/// One contender in one scenario.
#[derive(Debug, Serialize)]
pub(crate) struct Cell {
    /// Whose.
    pub(crate) contender: String,
    /// Why it could not be measured.
    pub(crate) failure: Option<String>,
    /// By metric.
    metrics: BTreeMap<Metric, Figure>,
    /// Calls for each request by name, from an extra run.
    pub(crate) system_calls: Vec<(String, f64)>,
    /// Percentile and microseconds, of all rounds together.
    latency: Vec<(f64, f64)>,
    samples: Vec<Sample>,
    #[serde(skip)]
    body_bytes: usize,
    #[serde(skip)]
    histogram: Histogram<u64>,
}

/// A metric of one contender in one scenario.
#[derive(Clone, Debug, Serialize)]
struct Figure {
    #[serde(flatten)]
    summary: Summary,
    /// Of values of the same round.
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio_to_nginx: Option<Summary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio_to_floor: Option<Summary>,
}

impl Cell {
    /// An empty one.
    pub(crate) fn new(scenario: &Scenario, contender: &str) -> Self {
        Self {
            contender: contender.to_owned(),
            failure: None,
            metrics: BTreeMap::new(),
            system_calls: Vec::new(),
            latency: Vec::new(),
            samples: Vec::new(),
            body_bytes: scenario.shape.body_bytes(),
            histogram: histogram(),
        }
    }

    /// Takes a measurement and its latencies.
    pub(crate) fn add(&mut self, mut sample: Sample, latency: &Histogram<u64>) {
        if self.body_bytes >= BODY_BYTES_MIN
            && let Some(&micros) = sample.values.get(&Metric::CpuMicrosPerRequest)
        {
            sample.set(
                Metric::CpuMicrosPerMib,
                micros * MIB / self.body_bytes as f64,
            );
        }
        self.samples.push(sample);
        self.histogram += latency;
    }

    /// All system calls for one request.
    fn calls(&self) -> Option<f64> {
        (!self.system_calls.is_empty()).then(|| self.system_calls.iter().map(|call| call.1).sum())
    }

    fn values(&self, metric: Metric) -> Vec<(u32, f64)> {
        self.samples
            .iter()
            .filter_map(|sample| Some((sample.round, *sample.values.get(&metric)?)))
            .collect()
    }

    fn median(&self, metric: Metric) -> Option<f64> {
        Some(self.metrics.get(&metric)?.summary.median)
    }
}

/// A scenario that ran.
#[derive(Debug, Serialize)]
struct Finished {
    name: &'static str,
    about: &'static str,
    family: Family,
    connections: usize,
    body_bytes: usize,
    /// What clients agreed upon with the contenders, and the key of the certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<String>,
    headline: Metric,
    contenders: Vec<Cell>,
    warnings: Vec<String>,
}

/// Where it ran.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
    date: String,
}

impl Machine {
    /// This one, now.
    pub(crate) fn here() -> Self {
        let cpu = fs::read_to_string("/proc/cpuinfo")
            .ok()
            .and_then(|text| {
                let line = text.lines().find(|line| line.starts_with("model name"))?;
                Some(line.split_once(':')?.1.trim().to_owned())
            })
            .unwrap_or_else(|| "unknown".to_owned());
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            cpu,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: kernel.trim().to_owned(),
            date: jiff::Timestamp::now()
                .strftime("%Y-%m-%d %H:%M:%S UTC")
                .to_string(),
        }
    }
}

/// Everything.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: Machine,
    command: String,
    rounds: u32,
    seconds_each: f64,
    /// Names and versions.
    contenders: Vec<(String, String)>,
    notes: Vec<String>,
    scenarios: Vec<Finished>,
    /// CPU of a request with two workers against one, by contender, in the same round.
    two_workers_against_one: BTreeMap<String, Summary>,
}

impl Report {
    /// An empty one.
    pub(crate) fn new(
        machine: Machine,
        contenders: &[Contender],
        rounds: u32,
        each: Duration,
        notes: Vec<String>,
    ) -> Self {
        Self {
            machine,
            command: std::env::args().skip(1).collect::<Vec<_>>().join(" "),
            rounds,
            seconds_each: each.as_secs_f64(),
            contenders: contenders
                .iter()
                .map(|contender| (contender.name.clone(), contender.version.clone()))
                .collect(),
            notes,
            scenarios: Vec::new(),
            two_workers_against_one: BTreeMap::new(),
        }
    }

    /// Adds something the reader should know.
    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Adds a scenario that ran, summed up. Returns its table for the terminal.
    pub(crate) fn add(&mut self, scenario: &Scenario, mut cells: Vec<Cell>) -> String {
        figures::sum_up(&mut cells);
        let headline = Metric::headline(scenario.work);
        let finished = Finished {
            name: scenario.name,
            about: scenario.about,
            family: scenario.family(),
            connections: scenario.connections,
            body_bytes: scenario.shape.body_bytes(),
            tls: figures::agreed(scenario, &cells),
            headline,
            warnings: figures::warnings(&cells, headline),
            contenders: cells,
        };
        let text = table::text(&finished);
        self.scenarios.push(finished);
        self.two_workers_against_one = self.compare_workers();
        text
    }

    /// Whether anything failed.
    pub(crate) fn failed(&self) -> bool {
        self.scenarios
            .iter()
            .flat_map(|scenario| &scenario.contenders)
            .any(|cell| cell.failure.is_some())
    }

    /// Prints what is said about all scenarios together.
    pub(crate) fn print_totals(&self) {
        print!("{}", table::totals(self));
    }

    /// Writes `out` with `.json` and with `.html`, and says so.
    pub(crate) fn write(&self, out: &Path) -> io::Result<()> {
        if let Some(dir) = out.parent() {
            fs::create_dir_all(dir)?;
        }
        // Not `with_extension`, which would take the end of a name like `v1.2` for one.
        let named = |extension: &str| PathBuf::from(format!("{}.{extension}", out.display()));
        let json = serde_json::to_string_pretty(self).map_err(io::Error::other)?;
        for (path, text) in [
            (named("json"), json),
            (named("html"), html::page(self).map_err(io::Error::other)?),
        ] {
            fs::write(&path, text)?;
            println!("wrote {}", path.display());
        }
        Ok(())
    }

    fn compare_workers(&self) -> BTreeMap<String, Summary> {
        let cells = |name: &str| {
            self.scenarios
                .iter()
                .find(|scenario| scenario.name == name)
                .map(|scenario| scenario.contenders.as_slice())
                .unwrap_or_default()
        };
        let metric = Metric::CpuMicrosPerRequest;
        cells("workers-2")
            .iter()
            .filter_map(|two| {
                let one = cells("workers-1")
                    .iter()
                    .find(|one| one.contender == two.contender)?;
                let ratios = stats::ratios(&two.values(metric), &one.values(metric));
                Some((two.contender.clone(), Summary::of(&ratios)?))
            })
            .collect()
    }
}

/// Where the report goes: what was said, or `results/compare-DATE`.
pub(crate) fn output(said: Option<&Path>) -> PathBuf {
    said.map_or_else(
        || {
            let now = jiff::Timestamp::now();
            format!("results/compare-{}", now.strftime("%Y%m%d-%H%M%S")).into()
        },
        Path::to_owned,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario;

    fn report() -> Report {
        let mut report = Report::new(
            Machine::here(),
            &[],
            3,
            Duration::from_secs(1),
            vec!["a <note>".to_owned()],
        );
        for scenario in scenario::all() {
            let cells = [("floor", 10.0), ("ntlmfront", 11.0), ("nginx", 20.0)].map(
                |(contender, micros)| {
                    let mut cell = Cell::new(&scenario, contender);
                    for round in 0..3 {
                        let mut sample = Sample::new(round);
                        let mut latency = histogram();
                        if scenario.work == Work::Idle {
                            sample.set(Metric::MemoryBytesPerPair, micros * 100.0);
                            sample.memory_by_pairs = vec![(1000, 1_000_000), (2000, 2_000_000)];
                        } else {
                            let restless = 1.0 + f64::from(round);
                            sample.set(Metric::CpuMicrosPerRequest, micros * restless);
                            sample.set(Metric::P99Micros, micros);
                            for nanoseconds in 0..10_000 {
                                latency.record(nanoseconds).unwrap();
                            }
                        }
                        cell.add(sample, &latency);
                    }
                    cell
                },
            );
            report.add(&scenario, cells.into());
        }
        report
    }

    #[test]
    fn ratios_hold_on_a_restless_machine() {
        let report = report();
        let small = &report.scenarios[1];
        let figure = |contender: usize| &small.contenders[contender].metrics[&small.headline];
        assert!(figure(1).summary.is_wide());
        assert_eq!(figure(1).ratio_to_nginx.unwrap().median, 0.55);
        assert!((figure(1).ratio_to_floor.unwrap().median - 1.1).abs() < 1e-9);
        assert_eq!(small.warnings, Vec::<String>::new());
        assert_eq!(report.two_workers_against_one["nginx"].median, 1.0);
        assert!(!report.failed());
    }

    #[test]
    fn a_wide_spread_and_a_failure_are_told() {
        let scenario = &scenario::all()[0];
        let mut cell = Cell::new(scenario, "ntlmfront");
        for (round, micros) in [5.0, 10.0, 20.0].into_iter().enumerate() {
            let mut sample = Sample::new(round as u32);
            sample.set(Metric::CpuMicrosPerRequest, micros);
            cell.add(sample, &histogram());
        }
        let mut broken = Cell::new(scenario, "nginx");
        broken.failure = Some("did not start".to_owned());
        let mut cells = vec![cell, broken];
        figures::sum_up(&mut cells);
        let warnings = figures::warnings(&cells, Metric::CpuMicrosPerRequest);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[1].contains("nginx failed: did not start"));
    }

    #[test]
    fn costs_of_bodies_are_told_by_the_mebibyte() {
        let all = scenario::all();
        let of = |name: &str| {
            let scenario = all.iter().find(|scenario| scenario.name == name).unwrap();
            let mut cell = Cell::new(scenario, "x");
            let mut sample = Sample::new(0);
            sample.set(Metric::CpuMicrosPerRequest, 100.0);
            cell.add(sample, &histogram());
            cell.values(Metric::CpuMicrosPerMib)
        };
        assert_eq!(of("answer-64k"), [(0, 1600.0)]);
        assert_eq!(of("small-64"), []);
    }

    #[test]
    fn the_report_is_whole() {
        let report = report();
        let json = serde_json::to_value(&report).unwrap();
        let cell = &json["scenarios"][1]["contenders"][1];
        let cpu = &cell["metrics"]["cpu_micros_per_request"];
        assert_eq!(cpu["median"], 22.0);
        assert_eq!(cpu["ratio_to_nginx"]["median"], 0.55);
        let page = html::page(&report).unwrap();
        assert!(page.contains("a &lt;note&gt;"));
        assert!(page.matches("<svg").count() >= 5);
        // Self-contained: nothing is fetched.
        for fetched in ["src=", "<link", "@import", "url("] {
            assert!(!page.contains(fetched), "{fetched}");
        }
        for scenario in scenario::all() {
            assert!(page.contains(scenario.name));
        }
        assert!(table::totals(&report).contains("2 workers against 1"));
    }
}
