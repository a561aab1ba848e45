//! What a worker shows of itself and of the process.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

use crate::config::model::{FiguresForm, Location};
use crate::http::target::argument;
use crate::net::{self, now};
use crate::observe::counters::stub_status;
use crate::observe::groups::PinCensus;
use crate::observe::histogram::whole_us;
use crate::observe::metrics::{self, Format};
use crate::observe::status::{self, Context};

use super::answer::Body;
use super::client::Client;
use super::request::Request;
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
        let [idle, pinned, reading, answering, lingering] = self.slots.phases();
        counters.active.set(gauge(self.slots.len()));
        counters.waiting.set(gauge(idle + pinned));
        counters.pinned.set(gauge(pinned));
        counters.reading.set(gauge(reading));
        counters.writing.set(gauge(answering + lingering));
        let upstream = self.groups.connections.get();
        counters.upstream_connections.set(gauge(upstream));
        counters.usage.set(&net::usage());
        if let Ok(time) = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID) {
            counters.cpu_us.set(whole_us(Duration::from(time)));
        }
        let now = now();
        let logins = counters.logins.by_end();
        let [succeeded, failed, _] = self.recent_logins.growth(logins, now);
        counters.lately_succeeded.set(succeeded);
        counters.lately_failed.set(failed);
        let shown = counters.groups.load();
        let mut others = PinCensus::default();
        for group in self.groups.all() {
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
}

impl Client {
    /// Answers with the front's own figures. False if the connection cannot go on.
    pub(super) async fn answer_figures(
        &mut self,
        settings: &Settings,
        location: &Location,
        request: &mut Request,
        form: FiguresForm,
        keep: bool,
    ) -> bool {
        let worker = Rc::clone(&self.worker);
        let connections = settings.config().main.worker_connections;
        let figures = &*worker.figures;
        worker.look();
        let text;
        let body = match form {
            FiguresForm::StubStatus => {
                text = stub_status(&figures.workers);
                Body::Text("text/plain", text.as_bytes())
            }
            FiguresForm::Metrics => {
                let format = Format::accepted(request.http_field("accept"));
                text = metrics::render(figures, connections, format);
                Body::Text(format.content_type(), text.as_bytes())
            }
            FiguresForm::Status if wants_json(request) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH);
                let context = Context {
                    host: worker.hostname(),
                    connections,
                    now: now.unwrap_or_default(),
                };
                text = status::json(figures, &context);
                Body::With("application/json", status::JSON_FIELDS, text.as_bytes())
            }
            FiguresForm::Status => {
                let page = status::page();
                let content = page.content.as_bytes();
                Body::With("text/html; charset=utf-8", &page.fields, content)
            }
        };
        self.answer(settings, location, request, 200, body, keep)
            .await
    }
}

/// Whether a request asks for the figures behind the page (`?format=json`).
fn wants_json(request: &Request) -> bool {
    let query = request.head.query.map(|query| query.of(&request.bytes));
    query.is_some_and(|query| argument(query, "format") == Some(b"json"))
}
