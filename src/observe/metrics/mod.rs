//! `metrics`: the figures in the formats that Prometheus collects.
//!
//! What says how a worker is doing has the label `worker`; what says how clients and servers fare is added up.

mod encode;
mod families;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::Display;

use crate::balance::Availability;

use super::counters::Counters;
use super::figures::{BindingState, Figures};
use super::groups::{PinCensus, Snapshot};
use super::histogram::seconds;
use super::log::Log;
use encode::{Encoder, Family};
use families as f;

pub use encode::Format;

/// The classes of a status.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// What stands for the groups that the configuration does not name.
const OTHERS: &str = "-";

/// The page. `connections`: `worker_connections`.
pub fn render(figures: &Figures, connections: usize, format: Format) -> String {
    let groups = Snapshot::of(&figures.workers);
    let mut page = Page {
        figures,
        groups: &groups,
        workers: (0..figures.workers.len()).map(|n| n.to_string()).collect(),
        out: Encoder::new(format),
    };
    page.process();
    page.workers(connections);
    page.requests();
    page.pins();
    page.logins();
    page.upstreams();
    page.servers();
    page.tls();
    page.below();
    page.out.finish()
}

struct Page<'a> {
    figures: &'a Figures,
    groups: &'a Snapshot,
    /// Their numbers as text.
    workers: Vec<String>,
    out: Encoder,
}

impl Page<'_> {
    fn process(&mut self) {
        let figures = self.figures;
        let driver = figures.driver.to_string();
        let version = env!("CARGO_PKG_VERSION");
        self.out.family(&f::BUILD).put([version, &driver], 1);
        self.out.family(&f::START_TIME).put([], figures.started);
        let mut reloads = self.out.family(&f::RELOADS);
        reloads.put(["success"], figures.reloads.value());
        reloads.put(["failure"], figures.failed_reloads.value());
        let last = figures.last_reload.load();
        let good = last.as_ref().is_none_or(|last| last.problem.is_none());
        self.out.family(&f::LAST_RELOAD).put([], u8::from(good));
        let logs = figures.open_logs();
        // One syslog server may be several logs.
        let sums = |number: fn(&Log) -> u64| {
            let numbers = logs.iter().map(|log| (log.name(), number(log)));
            merged(numbers, |sum, n| *sum += n)
        };
        let mut failures = self.out.family(&f::LOG_FAILURES);
        for (log, number) in sums(Log::failed_writes) {
            failures.put([log], number);
        }
        let mut lost = self.out.family(&f::LOG_LOST);
        for (log, number) in sums(Log::lost_lines) {
            lost.put([log], number);
        }
    }

    fn workers(&mut self, connections: usize) {
        self.each(&f::CPU, |counters| seconds(counters.cpu_us.value()));
        self.each(&f::TURNS, |counters| counters.usage.turns.value());
        self.each(&f::TASKS, |counters| counters.usage.tasks.value());
        self.out.family(&f::CONNECTIONS_LIMIT).put([], connections);
        self.each_state(&f::CONNECTIONS, |counters| {
            let pinned = counters.pinned.value();
            [
                ("idle", counters.waiting.value().saturating_sub(pinned)),
                ("pinned", pinned),
                ("reading", counters.reading.value()),
                ("answering", counters.writing.value()),
            ]
        });
        self.each(&f::ACCEPTED, |counters| counters.accepted.value());
        self.each(&f::HANDLED, |counters| counters.handled.value());
        self.each(&f::RECEIVED, |counters| counters.bytes_in.value());
        self.each(&f::SENT, |counters| counters.bytes_out.value());
    }

    fn requests(&mut self) {
        let figures = self.figures;
        self.each(&f::REQUESTS, |counters| counters.requests.value());
        self.each_state(&f::RESPONSES, |counters| {
            let mut numbers = counters.responses.iter();
            CLASSES.map(|class| (class, numbers.next().map_or(0, |(_, number)| number)))
        });
        let times = figures
            .workers
            .iter()
            .map(|counters| &counters.request_time);
        self.out.family(&f::REQUEST_TIME).put_histogram(times);
        self.each(&f::CLIENT_ABORTS, |counters| counters.client_aborts.value());
        let refusals = figures.workers.iter().flat_map(|c| c.refusals.iter());
        let refusals = merged(refusals.map(|(r, n)| (r.word(), n)), |sum, n| *sum += n);
        let mut samples = self.out.family(&f::REFUSALS);
        for (word, number) in refusals {
            samples.put([word], number);
        }
    }

    fn pins(&mut self) {
        let figures = self.figures;
        // A group that is reached in several ways is one for each of them.
        let seen = self.groups.groups().iter().map(|seen| {
            let (group, name) = (&seen.group, shown(&seen.group.name));
            let counted = (group.census(), group.table_full.value());
            ((seen.worker, name), counted)
        });
        let groups = merged(seen, |(census, full), (theirs, more): (PinCensus, u64)| {
            census.add(&theirs);
            *full += more;
        });
        let mut samples = self.out.family(&f::PINS);
        for ((worker, name), (census, _)) in &groups {
            let worker = &*self.workers[*worker];
            samples.put([worker, name, "handshaking"], census.handshaking());
            samples.put([worker, name, "active"], census.active());
            samples.put([worker, name, "idle"], census.idle);
        }
        let mut samples = self.out.family(&f::PIN_TABLE);
        for ((_, name), (census, _)) in groups.iter().filter(|((worker, _), _)| *worker == 0) {
            if *name != OTHERS {
                samples.put([name], census.idle_limit);
            }
        }
        self.each(&f::PINS_CREATED, |counters| counters.pins_created.value());
        let ended = figures.workers.iter().flat_map(|c| c.pins_ended.iter());
        let ended = merged(ended.map(|(r, n)| (r.word(), n)), |sum, n| *sum += n);
        let mut samples = self.out.family(&f::PINS_ENDED);
        for (word, number) in ended {
            samples.put([word], number);
        }
        let mut samples = self.out.family(&f::PIN_TABLE_FULL);
        for ((worker, name), (_, full)) in &groups {
            samples.put([&self.workers[*worker], name], full);
        }
    }

    fn logins(&mut self) {
        let figures = self.figures;
        let logins = figures.workers.iter().flat_map(|c| c.logins.iter());
        let logins = logins.map(|(scheme, end, n)| ((scheme.word(), end.word()), n));
        let mut samples = self.out.family(&f::LOGINS);
        for ((scheme, end), number) in merged(logins, |sum, n| *sum += n) {
            samples.put([scheme, end], number);
        }
        let legs = figures.sum(|counters| counters.login_legs.value());
        self.out.family(&f::LOGIN_LEGS).put([], legs);
    }

    fn upstreams(&mut self) {
        let figures = self.figures;
        self.each(&f::UPSTREAM_CONNECTIONS, |c| c.upstream_connections.value());
        self.each(&f::UPSTREAM_OPENED, |c| c.upstream_opened.value());
        self.each(&f::UPSTREAM_REUSED, |c| c.upstream_reused.value());
        self.each(&f::UPSTREAM_FAILED, |c| c.upstream_failed.value());
        let times = figures.workers.iter().map(|counters| &counters.header_time);
        self.out.family(&f::UPSTREAM_TIME).put_histogram(times);
    }

    fn servers(&mut self) {
        let servers = self.groups.servers();
        let mut samples = self.out.family(&f::SERVER_STATE);
        for ((upstream, server), figures) in &servers {
            for (state, workers) in Availability::ALL.into_iter().zip(figures.states) {
                samples.put([upstream, server, state.word()], workers);
            }
        }
        let mut samples = self.out.family(&f::SERVER_CONNECTIONS);
        for ((upstream, server), figures) in &servers {
            let idle = figures.connections.saturating_sub(figures.in_use);
            samples.put([upstream, server, "active"], figures.in_use);
            samples.put([upstream, server, "idle"], idle);
        }
        let mut samples = self.out.family(&f::SERVER_OPENED);
        for ((upstream, server), figures) in &servers {
            samples.put([upstream, server], figures.opened);
        }
        let mut samples = self.out.family(&f::SERVER_RESPONSES);
        for ((upstream, server), figures) in &servers {
            for (class, number) in CLASSES.into_iter().zip(figures.answers) {
                samples.put([upstream, server, class], number);
            }
        }
        let mut samples = self.out.family(&f::SERVER_FAILURES);
        for ((upstream, server), figures) in &servers {
            samples.put([upstream, server], figures.failures);
        }
        let mut samples = self.out.family(&f::SERVER_TIME);
        for ((upstream, server), figures) in &servers {
            let sum = seconds(figures.header_us);
            samples.put_summary([upstream, server], figures.answers.iter().sum(), sum);
        }
    }

    fn tls(&mut self) {
        let figures = self.figures;
        let sides = [
            (
                "client",
                figures
                    .workers
                    .iter()
                    .map(|c| &c.client_tls)
                    .collect::<Vec<_>>(),
            ),
            (
                "upstream",
                figures.workers.iter().map(|c| &c.upstream_tls).collect(),
            ),
        ];
        let mut samples = self.out.family(&f::HANDSHAKES);
        for (side, handshakes) in &sides {
            let done = handshakes.iter().flat_map(|handshakes| handshakes.done());
            let done = done.map(|(shaken, n)| ((shaken.protocol(), shaken.resumed), n));
            for ((protocol, resumed), number) in merged(done, |sum, n| *sum += n) {
                let resumed = if resumed { "true" } else { "false" };
                samples.put([side, protocol, resumed], number);
            }
        }
        let mut samples = self.out.family(&f::HANDSHAKE_FAILURES);
        for (side, handshakes) in &sides {
            let failed = handshakes
                .iter()
                .flat_map(|handshakes| handshakes.failures());
            let failed = failed.map(|(reason, n)| (reason.word(), n));
            for (reason, number) in merged(failed, |sum, n| *sum += n) {
                samples.put([side, reason], number);
            }
        }
        let certificates = figures.certificates.load();
        let certificates = certificates
            .iter()
            .map(|shown| ((&*shown.server, &*shown.subject), shown.expires));
        let mut samples = self.out.family(&f::CERTIFICATE);
        for ((server, subject), expires) in merged(certificates, earlier) {
            samples.put([server, subject], expires);
        }
        let bindings = figures.bindings.load();
        let shown = bindings.iter().filter_map(|binding| {
            let (subject, expires) = binding.shown.as_ref()?;
            Some(((&*binding.upstream, &*binding.peer, &**subject), *expires))
        });
        let mut samples = self.out.family(&f::SERVER_CERTIFICATE);
        for ((upstream, peer, subject), expires) in merged(shown, earlier) {
            samples.put([upstream, peer, subject], expires);
        }
        let states = bindings.iter().map(|binding| {
            let key = (&*binding.server, &*binding.upstream, &*binding.peer);
            (key, binding.state)
        });
        let mut samples = self.out.family(&f::BINDING);
        for ((server, upstream, peer), known) in merged(states, |a, b| *a = b.max(*a)) {
            for state in BindingState::ALL {
                let holds = u8::from(state == known);
                samples.put([server, upstream, peer, state.word()], holds);
            }
        }
        let mismatches = figures.mismatches.value();
        self.out.family(&f::MISMATCHES).put([], mismatches);
    }

    fn below(&mut self) {
        self.each_state(&f::PIPES, |counters| {
            let usage = &counters.usage;
            [
                ("used", usage.pipes_used.value()),
                ("free", usage.pipes_free.value()),
            ]
        });
        self.each(&f::PIPES_REFUSED, |c| c.usage.pipes_refused.value());
        self.each(&f::COMPLETIONS, |c| c.usage.completions.value());
        self.each_state(&f::BUFFERS, |counters| {
            let usage = &counters.usage;
            [
                ("used", usage.buffers_used.value()),
                ("free", usage.buffers_free.value()),
            ]
        });
        self.each(&f::BUFFERS_EXHAUSTED, |c| c.usage.buffers_exhausted.value());
    }

    /// A number for each worker.
    fn each<T: Display>(&mut self, family: &'static Family, number: impl Fn(&Counters) -> T) {
        let mut samples = self.out.family(family);
        for (worker, counters) in self.workers.iter().zip(&self.figures.workers) {
            samples.put([worker], number(counters));
        }
    }

    /// Several numbers for each worker, by what they are of.
    fn each_state<const N: usize>(
        &mut self,
        family: &'static Family,
        numbers: impl Fn(&Counters) -> [(&'static str, u64); N],
    ) {
        let mut samples = self.out.family(family);
        for (worker, counters) in self.workers.iter().zip(&self.figures.workers) {
            for (state, number) in numbers(counters) {
                samples.put([worker, state], number);
            }
        }
    }
}

/// What a group is called.
fn shown(name: &str) -> &str {
    if name.is_empty() { OTHERS } else { name }
}

/// Of two times, the first.
fn earlier(known: &mut i64, other: i64) {
    *known = other.min(*known);
}

/// What has the same labels must be one.
fn merged<K: Ord, V>(
    all: impl IntoIterator<Item = (K, V)>,
    merge: impl Fn(&mut V, V),
) -> BTreeMap<K, V> {
    let mut merged = BTreeMap::new();
    for (key, value) in all {
        match merged.entry(key) {
            Entry::Vacant(place) => drop(place.insert(value)),
            Entry::Occupied(mut place) => merge(place.get_mut(), value),
        }
    }
    merged
}

#[cfg(test)]
mod tests;
