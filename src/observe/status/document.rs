//! What the status page is made from, as JSON. Names and units are part of what the program promises: `docs/status.md`.

use serde::Serialize;

use crate::pin::{LoginEnd, Scheme};

use super::super::counters::Counters;
use super::super::figures::{Binding, Certificate, Figures};
use super::super::groups::{PIN_AGES_SECONDS, PinCensus, ServerFigures, Servers, Snapshot};
use super::super::histogram::{BOUNDS, Histogram, seconds};
use super::Context;
use super::findings::{Finding, findings};

/// All of it. Counts are since the start; times are seconds since 1970.
#[derive(Serialize)]
pub(super) struct Document<'a> {
    host: &'a str,
    version: &'static str,
    driver: String,
    now: f64,
    started: u64,
    findings: Vec<Finding>,
    reloads: Reloads,
    workers: Vec<Worker>,
    /// `worker_connections`
    connections_limit: usize,
    accepted: u64,
    turned_away: u64,
    requests: Requests,
    upstream_time: Durations,
    logins: Vec<Logins>,
    login_legs: u64,
    pins: Pins<'a>,
    upstreams: Vec<Upstream<'a>>,
    handshakes: Handshakes,
    certificates: &'a [Certificate],
    bindings: &'a [Binding],
    logs: Vec<Log>,
}

#[derive(Serialize)]
struct Reloads {
    success: u64,
    failure: u64,
    last_at: Option<u64>,
    problem: Option<String>,
}

#[derive(Serialize)]
struct Worker {
    cpu_seconds: f64,
    idle: u64,
    pinned: u64,
    reading: u64,
    answering: u64,
    upstream_connections: u64,
    requests: u64,
    pins: u64,
    pipes_used: u64,
    buffers_used: u64,
    buffers: u64,
}

#[derive(Serialize)]
struct Requests {
    number: u64,
    /// By class, 1xx first.
    answers: [u64; 5],
    time: Durations,
    received_bytes: u64,
    sent_bytes: u64,
    client_aborts: u64,
    refusals: Vec<(&'static str, u64)>,
}

/// How many durations are within each bound and beyond the one before; those beyond the last come last.
#[derive(Serialize)]
struct Durations {
    bounds_seconds: [f64; BOUNDS],
    counts: Vec<u64>,
    sum_seconds: f64,
}

/// How logins of one scheme ended.
#[derive(Serialize)]
struct Logins {
    scheme: &'static str,
    succeeded: u64,
    failed: u64,
    aborted: u64,
}

#[derive(Serialize)]
struct Pins<'a> {
    created: u64,
    ended: Vec<(&'static str, u64)>,
    /// Where one age ends and the next one begins.
    ages_seconds: [u64; PIN_AGES_SECONDS.len()],
    groups: Vec<PinGroup<'a>>,
}

#[derive(Serialize)]
struct PinGroup<'a> {
    /// Empty for all groups together that the configuration does not name.
    upstream: &'a str,
    handshaking: u64,
    active: u64,
    idle: u64,
    /// `ntlm`: what one worker keeps.
    idle_limit: u64,
    /// The most that one worker has.
    idle_most: u64,
    evicted: u64,
    ages_handshaking: [u64; PIN_AGES_SECONDS.len() + 1],
    ages_established: [u64; PIN_AGES_SECONDS.len() + 1],
}

#[derive(Serialize)]
struct Upstream<'a> {
    name: &'a str,
    servers: Vec<Server<'a>>,
}

#[derive(Serialize)]
struct Server<'a> {
    name: &'a str,
    backup: bool,
    /// The worst that a worker sees.
    state: &'static str,
    /// How many workers see it so.
    workers: u64,
    active: u64,
    idle: u64,
    opened: u64,
    answers: [u64; 5],
    header_seconds: f64,
    failures: u64,
    failed_at: Option<u64>,
}

#[derive(Serialize)]
struct Handshakes {
    client: u64,
    client_resumed: u64,
    client_failed: u64,
    upstream: u64,
    upstream_resumed: u64,
    upstream_failed: u64,
}

#[derive(Serialize)]
struct Log {
    name: String,
    failed_writes: u64,
    lost_lines: u64,
}

/// Renders it.
pub(super) fn render(figures: &Figures, context: &Context<'_>) -> String {
    let snapshot = Snapshot::of(&figures.workers);
    let servers = snapshot.servers();
    let (certificates, bindings) = (figures.certificates.load(), figures.bindings.load());
    let last = figures.last_reload.load();
    let (accepted, handled) = (
        figures.sum(|counters| counters.accepted.value()),
        figures.sum(|counters| counters.handled.value()),
    );
    let document = Document {
        host: context.host,
        version: env!("CARGO_PKG_VERSION"),
        driver: figures.driver.to_string(),
        now: context.now.as_secs_f64(),
        started: figures.started,
        findings: findings(figures, &snapshot, &servers, context),
        reloads: Reloads {
            success: figures.reloads.value(),
            failure: figures.failed_reloads.value(),
            last_at: last.as_ref().map(|last| last.at),
            problem: last.as_ref().and_then(|last| last.problem.clone()),
        },
        workers: workers(figures, &snapshot),
        connections_limit: context.connections,
        accepted,
        turned_away: accepted.saturating_sub(handled),
        requests: requests(figures),
        upstream_time: durations(figures, |counters| &counters.header_time),
        logins: logins(figures),
        login_legs: figures.sum(|counters| counters.login_legs.value()),
        pins: pins(figures, &snapshot),
        upstreams: upstreams(&servers),
        handshakes: handshakes(figures),
        certificates: &certificates,
        bindings: &bindings,
        logs: figures
            .open_logs()
            .iter()
            .map(|log| Log {
                name: log.name().to_owned(),
                failed_writes: log.failed_writes(),
                lost_lines: log.lost_lines(),
            })
            .collect(),
    };
    // Numbers, strings and lists: nothing that JSON has no form for.
    serde_json::to_string(&document).unwrap_or_default()
}

fn workers(figures: &Figures, snapshot: &Snapshot) -> Vec<Worker> {
    let counters = figures.workers.iter().enumerate();
    let worker = |(number, counters): (usize, &std::sync::Arc<Counters>)| {
        let pinned = counters.pinned.value();
        let usage = &counters.usage;
        let groups = snapshot
            .groups()
            .iter()
            .filter(|seen| seen.worker == number);
        let pins = groups.map(|seen| seen.group.census().pins());
        Worker {
            cpu_seconds: seconds(counters.cpu_us.value()),
            idle: counters.waiting.value().saturating_sub(pinned),
            pinned,
            reading: counters.reading.value(),
            answering: counters.writing.value(),
            upstream_connections: counters.upstream_connections.value(),
            requests: counters.requests.value(),
            pins: pins.sum(),
            pipes_used: usage.pipes_used.value(),
            buffers_used: usage.buffers_used.value(),
            buffers: usage.buffers_used.value() + usage.buffers_free.value(),
        }
    };
    counters.map(worker).collect()
}

fn requests(figures: &Figures) -> Requests {
    let mut answers = [0; 5];
    for counters in &figures.workers {
        let classes = counters.responses.iter();
        let sums = answers.iter_mut().zip(classes);
        sums.for_each(|(sum, (_, number))| *sum += number);
    }
    Requests {
        number: figures.sum(|counters| counters.requests.value()),
        answers,
        time: durations(figures, |counters| &counters.request_time),
        received_bytes: figures.sum(|counters| counters.bytes_in.value()),
        sent_bytes: figures.sum(|counters| counters.bytes_out.value()),
        client_aborts: figures.sum(|counters| counters.client_aborts.value()),
        refusals: nonzero(figures, |counters| {
            let refusals = counters.refusals.iter();
            refusals.map(|(reason, n)| (reason.word(), n)).collect()
        }),
    }
}

fn durations(figures: &Figures, of: impl Fn(&Counters) -> &Histogram) -> Durations {
    let mut counts = vec![0; BOUNDS + 1];
    for counters in &figures.workers {
        let buckets = of(counters).buckets();
        let sums = counts.iter_mut().zip(buckets);
        sums.for_each(|(sum, number)| *sum += number);
    }
    Durations {
        bounds_seconds: std::array::from_fn(|bucket| seconds(Histogram::bound_us(bucket))),
        counts,
        sum_seconds: seconds(figures.sum(|counters| of(counters).sum_us())),
    }
}

/// Sums over all workers of numbers that come in the same order from each, without those that are 0.
fn nonzero(
    figures: &Figures,
    of: impl Fn(&Counters) -> Vec<(&'static str, u64)>,
) -> Vec<(&'static str, u64)> {
    let mut sums: Vec<(&'static str, u64)> = Vec::new();
    for counters in &figures.workers {
        let numbers = of(counters);
        if sums.is_empty() {
            sums = numbers;
            continue;
        }
        let both = sums.iter_mut().zip(numbers);
        both.for_each(|((_, sum), (_, number))| *sum += number);
    }
    sums.retain(|(_, sum)| *sum > 0);
    sums
}

fn logins(figures: &Figures) -> Vec<Logins> {
    let of = |wanted: Scheme| {
        let mut ends = [0; LoginEnd::ALL.len()];
        for counters in &figures.workers {
            let logins = counters.logins.iter();
            let ours = logins.filter(|(scheme, _, _)| *scheme == wanted);
            ours.for_each(|(_, end, number)| ends[end as usize] += number);
        }
        // The order of `LoginEnd::ALL`.
        let [succeeded, failed, aborted] = ends;
        Logins {
            scheme: wanted.word(),
            succeeded,
            failed,
            aborted,
        }
    };
    Scheme::ALL.into_iter().map(of).collect()
}

fn pins<'a>(figures: &Figures, snapshot: &'a Snapshot) -> Pins<'a> {
    let mut groups: Vec<PinGroup<'a>> = Vec::new();
    // In the order of the configuration, which is that of every worker.
    for seen in snapshot.groups() {
        let (name, census) = (&*seen.group.name, seen.group.census());
        let known = groups.iter().position(|group| group.upstream == name);
        let place = known.unwrap_or_else(|| {
            groups.push(PinGroup::new(name));
            groups.len() - 1
        });
        groups[place].add(&census, seen.group.table_full.value());
    }
    // What is not pinned and never was says nothing.
    groups.retain(|group| group.says_something());
    Pins {
        created: figures.sum(|counters| counters.pins_created.value()),
        ended: nonzero(figures, |counters| {
            let ended = counters.pins_ended.iter();
            ended.map(|(reason, n)| (reason.word(), n)).collect()
        }),
        ages_seconds: PIN_AGES_SECONDS,
        groups,
    }
}

impl<'a> PinGroup<'a> {
    fn new(upstream: &'a str) -> Self {
        Self {
            upstream,
            handshaking: 0,
            active: 0,
            idle: 0,
            idle_limit: 0,
            idle_most: 0,
            evicted: 0,
            ages_handshaking: Default::default(),
            ages_established: Default::default(),
        }
    }

    fn add(&mut self, census: &PinCensus, evicted: u64) {
        self.handshaking += census.handshaking();
        self.active += census.active();
        self.idle += census.idle;
        self.idle_limit = self.idle_limit.max(census.idle_limit);
        self.idle_most = self.idle_most.max(census.idle);
        self.evicted += evicted;
        let [handshaking, established] = census.ages;
        let add = |sums: &mut [u64], numbers: &[u64]| {
            let both = sums.iter_mut().zip(numbers);
            both.for_each(|(sum, number)| *sum += number);
        };
        add(&mut self.ages_handshaking, &handshaking);
        add(&mut self.ages_established, &established);
    }

    fn says_something(&self) -> bool {
        let pins = self.handshaking + self.active + self.idle + self.evicted;
        pins > 0 || self.idle_limit > 0 && !self.upstream.is_empty()
    }
}

fn upstreams<'a>(servers: &Servers<'a>) -> Vec<Upstream<'a>> {
    let mut upstreams: Vec<Upstream<'a>> = Vec::new();
    for (&(upstream, name), figures) in servers {
        if upstreams.last().is_none_or(|last| last.name != upstream) {
            upstreams.push(Upstream {
                name: upstream,
                servers: Vec::new(),
            });
        }
        let last = upstreams.len() - 1;
        upstreams[last].servers.push(server(name, figures));
    }
    upstreams
}

fn server<'a>(name: &'a str, figures: &ServerFigures) -> Server<'a> {
    let (state, workers) = figures.worst();
    Server {
        name,
        backup: figures.backup,
        state: state.word(),
        workers,
        active: figures.in_use,
        idle: figures.connections.saturating_sub(figures.in_use),
        opened: figures.opened,
        answers: figures.answers,
        header_seconds: seconds(figures.header_us),
        failures: figures.failures,
        failed_at: (figures.failed_at > 0).then_some(figures.failed_at),
    }
}

fn handshakes(figures: &Figures) -> Handshakes {
    let mut sums = Handshakes {
        client: 0,
        client_resumed: 0,
        client_failed: 0,
        upstream: 0,
        upstream_resumed: 0,
        upstream_failed: 0,
    };
    for counters in &figures.workers {
        for (shaken, number) in counters.client_tls.done() {
            sums.client += number;
            sums.client_resumed += if shaken.resumed { number } else { 0 };
        }
        for (shaken, number) in counters.upstream_tls.done() {
            sums.upstream += number;
            sums.upstream_resumed += if shaken.resumed { number } else { 0 };
        }
        let failed = |(_, number)| number;
        sums.client_failed += counters.client_tls.failures().map(failed).sum::<u64>();
        sums.upstream_failed += counters.upstream_tls.failures().map(failed).sum::<u64>();
    }
    sums
}
