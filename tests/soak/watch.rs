//! What is watched of the front from outside, and the figures that come of it.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Open descriptors by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Descriptors {
    pub(crate) sockets: usize,
    pub(crate) pipes: usize,
    /// Rings, epoll instances, event counters.
    pub(crate) anonymous: usize,
    pub(crate) files: usize,
}

impl Descriptors {
    pub(crate) fn of(pid: i32) -> Self {
        let mut found = Self::default();
        let links = fs::read_dir(format!("/proc/{pid}/fd")).expect("the process is there");
        for link in links.flatten() {
            // One that was closed meanwhile.
            let Ok(target) = fs::read_link(link.path()) else {
                continue;
            };
            let kind = target.to_string_lossy();
            *match kind.split_once(':').map(|(kind, _)| kind) {
                Some("socket") => &mut found.sockets,
                Some("pipe") => &mut found.pipes,
                Some("anon_inode") => &mut found.anonymous,
                _ => &mut found.files,
            } += 1;
        }
        found
    }

    /// All but the pipes, of which workers keep some for the next body.
    pub(crate) fn without_pipes(self) -> Self {
        Self { pipes: 0, ..self }
    }
}

/// Memory, threads and processor time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) rss_kib: u64,
    pub(crate) pss_kib: u64,
    pub(crate) private_dirty_kib: u64,
    pub(crate) threads: u64,
    pub(crate) cpu_ms: u64,
    /// For how long its threads were ready and had no processor: what a busy machine adds to its answers.
    pub(crate) waited_ms: u64,
}

impl Usage {
    pub(crate) fn of(pid: i32) -> Self {
        let read = |file: &str| {
            fs::read_to_string(format!("/proc/{pid}/{file}")).expect("the process is there")
        };
        let (status, rollup, stat) = (read("status"), read("smaps_rollup"), read("stat"));
        // Behind the name, which may hold anything: state is field 3, utime 14 and stime 15.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let ticks: u64 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        Self {
            rss_kib: number(&status, "VmRSS:"),
            pss_kib: number(&rollup, "Pss:"),
            private_dirty_kib: number(&rollup, "Private_Dirty:"),
            threads: number(&status, "Threads:"),
            // USER_HZ is 100 everywhere that Linux shows it.
            cpu_ms: ticks * 10,
            waited_ms: waited_ns(pid) / 1_000_000,
        }
    }
}

fn waited_ns(pid: i32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the process is there");
    let waited = |task: fs::DirEntry| {
        let schedstat = fs::read_to_string(task.path().join("schedstat")).ok()?;
        // Time on a processor, time waiting for one, turns.
        schedstat.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    tasks.flatten().filter_map(waited).sum()
}

fn number(text: &str, label: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(label));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .expect("a number in /proc")
}

/// Everything at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    /// Since the beginning.
    pub(crate) seconds: f64,
    pub(crate) descriptors: Descriptors,
    pub(crate) usage: Usage,
    /// Connections that the well-behaved servers have.
    pub(crate) upstream: usize,
    pub(crate) requests: u64,
    pub(crate) logins: u64,
    pub(crate) faults: u64,
    pub(crate) wrong: u64,
    pub(crate) excused: u64,
    pub(crate) unexpected: u64,
    pub(crate) witness_requests: u64,
    /// Since the sample before.
    pub(crate) longest_ms: f64,
}

const COLUMNS: &str = "seconds,sockets,pipes,anonymous,files,rss_kib,pss_kib,private_dirty_kib,threads,cpu_ms,waited_ms,upstream,\
                       requests,logins,faults,wrong,excused,unexpected,witness_requests,witness_longest_ms";

impl Sample {
    fn row(&self) -> String {
        let Self {
            seconds,
            descriptors,
            usage,
            upstream,
            requests,
            logins,
            faults,
            wrong,
            excused,
            unexpected,
            witness_requests,
            longest_ms,
        } = self;
        let Descriptors {
            sockets,
            pipes,
            anonymous,
            files,
        } = descriptors;
        let Usage {
            rss_kib,
            pss_kib,
            private_dirty_kib,
            threads,
            cpu_ms,
            waited_ms,
        } = usage;
        format!(
            "{seconds:.1},{sockets},{pipes},{anonymous},{files},{rss_kib},{pss_kib},{private_dirty_kib},{threads},{cpu_ms},{waited_ms},\
             {upstream},{requests},{logins},{faults},{wrong},{excused},{unexpected},{witness_requests},{longest_ms:.1}"
        )
    }
}

/// All samples, written to a file as they come.
pub(crate) struct Samples {
    file: fs::File,
    pub(crate) path: PathBuf,
    pub(crate) all: Vec<Sample>,
}

impl Samples {
    pub(crate) fn create(directory: &Path, name: &str) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let path = directory.join(format!("{name}.csv"));
        let mut file = fs::File::create(&path)?;
        writeln!(file, "{COLUMNS}")?;
        Ok(Self {
            file,
            path,
            all: Vec::new(),
        })
    }

    /// Keeps a sample, and shows those that begin another minute.
    pub(crate) fn push(&mut self, sample: Sample) -> io::Result<()> {
        let minute = |sample: &Sample| (sample.seconds / 60.0) as u64;
        if self.all.is_empty() {
            println!(
                "{:>6} {:>7} {:>5} {:>5} {:>9} {:>9} {:>9} {:>10} {:>8} {:>8} {:>5} {:>7} {:>10} {:>8}",
                "s",
                "sockets",
                "pipes",
                "other",
                "RSS KiB",
                "Pss KiB",
                "dirty KiB",
                "requests",
                "logins",
                "faults",
                "wrong",
                "excused",
                "unexpected",
                "worst ms"
            );
        }
        if self.all.last().map(minute) != Some(minute(&sample)) {
            println!(
                "{:>6.0} {:>7} {:>5} {:>5} {:>9} {:>9} {:>9} {:>10} {:>8} {:>8} {:>5} {:>7} {:>10} {:>8.1}",
                sample.seconds,
                sample.descriptors.sockets,
                sample.descriptors.pipes,
                sample.descriptors.anonymous + sample.descriptors.files,
                sample.usage.rss_kib,
                sample.usage.pss_kib,
                sample.usage.private_dirty_kib,
                sample.requests,
                sample.logins,
                sample.faults,
                sample.wrong,
                sample.excused,
                sample.unexpected,
                sample.longest_ms
            );
        }
        self.all.push(sample);
        writeln!(self.file, "{}", sample.row())
    }

    /// Those after the warm-up.
    pub(crate) fn since(&self, seconds: f64) -> &[Sample] {
        let first = self.all.partition_point(|sample| sample.seconds < seconds);
        &self.all[first..]
    }
}

/// The median of a figure.
pub(crate) fn median(samples: &[Sample], figure: impl Fn(&Sample) -> u64) -> u64 {
    let mut figures: Vec<u64> = samples.iter().map(figure).collect();
    figures.sort_unstable();
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}

/// By how much a figure grows in an hour: the slope of the line that fits best.
pub(crate) fn slope_per_hour(samples: &[Sample], figure: impl Fn(&Sample) -> u64) -> f64 {
    let points = || {
        samples
            .iter()
            .map(|sample| (sample.seconds / 3600.0, figure(sample) as f64))
    };
    let n = samples.len() as f64;
    let (x_mean, y_mean) = (
        points().map(|(x, _)| x).sum::<f64>() / n,
        points().map(|(_, y)| y).sum::<f64>() / n,
    );
    let (mut covariance, mut variance) = (0.0, 0.0);
    for (x, y) in points() {
        covariance += (x - x_mean) * (y - y_mean);
        variance += (x - x_mean) * (x - x_mean);
    }
    covariance / variance
}
