//! What a worker shows of itself and of the process.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::net::{self, now};
use crate::observe::counters::stub_status;
use crate::observe::groups::PinCensus;
use crate::observe::histogram::whole_us;
use crate::observe::metrics::{self, Format};

use super::upstream::Group;
use super::worker::{Settings, Worker};

impl Worker {
    /// Has others see these groups, each by itself, and all that are not among them together.
    pub(super) fn show_groups(&self, groups: &[Rc<Group>]) {
        let named = groups.iter().map(|group| &group.counters);
        let shown = named.chain([&self.others]).map(Arc::clone).collect();
        self.counters.groups.store(Arc::new(shown));
    }

    /// Brings up to date what is not counted as it happens.
    pub(super) fn look(&self) {
        let counters = &self.counters;
        let gauge = |n: usize| n as u64;
        let [idle, pinned, reading, answering] = self.slots.phases();
        counters.active.set(gauge(self.slots.len()));
        counters.waiting.set(gauge(idle + pinned));
        counters.pinned.set(gauge(pinned));
        counters.reading.set(gauge(reading));
        counters.writing.set(gauge(answering));
        let upstream = self.upstream_connections.get();
        counters.upstream_connections.set(gauge(upstream));
        counters.usage.set(&net::usage());
        if let Ok(time) = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID) {
            counters.cpu_us.set(whole_us(Duration::from(time)));
        }
        let now = now();
        let shown = counters.groups.load();
        let mut others = PinCensus::default();
        for group in self.groups.borrow().values() {
            let census = group.look(now);
            match shown
                .iter()
                .any(|known| Arc::ptr_eq(known, &group.counters))
            {
                true => group.counters.set_census(&census),
                false => others.add(&census),
            }
        }
        self.others.set_census(&others);
    }

    pub(super) fn stub_status(&self) -> String {
        self.look();
        stub_status(&self.figures.workers)
    }

    /// The answer to who collects metrics.
    pub(super) fn metrics(&self, settings: &Settings, format: Format) -> String {
        self.look();
        let connections = settings.config().main.worker_connections;
        metrics::render(&self.figures, connections, format)
    }
}
