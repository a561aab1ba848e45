//! What is written about a request and its client connection.

use std::fmt;

use crate::config::model::{AccessLog, Level};
use crate::http::refusal::Refusal;
use crate::net;
use crate::observe::access_log::render;
use crate::observe::error_log::Context;
use crate::observe::escape::Escaped;
use crate::observe::outlet;

use super::request::{ClientRef, Request};
use super::variables::View;

impl ClientRef<'_> {
    /// Whether an error log line of this level about the request is written anywhere.
    pub(super) fn logs(&self, level: Level, request: &Request) -> bool {
        self.settings.deployment.error_logs[request.location].enabled(level)
    }

    /// Writes an error log line about the request.
    pub(super) fn log(&self, level: Level, request: &Request, message: fmt::Arguments<'_>) {
        if !self.logs(level, request) {
            return;
        }
        let log = &self.settings.deployment.error_logs[request.location];
        let host = request.head.host.of(&request.bytes);
        let upstream = request.last_server().map(|server| {
            let sent = request.upstream_target.as_deref();
            let target = sent.unwrap_or_else(|| request.head.target.of(&request.bytes));
            let tls = request.group.as_ref().is_some_and(|group| group.is_tls());
            let scheme = if tls { "https" } else { "http" };
            format!("{scheme}://{server}{}", Escaped(target))
        });
        let context = Context {
            // As nginx: the address that `$remote_addr` shows.
            client: Some(&request.client),
            server: Some(&self.settings.config().http.servers[request.server].name),
            request: Some(request.line()),
            upstream: upstream.as_ref().map(|text| text as &dyn fmt::Display),
            host: (!host.is_empty()).then_some(host),
        };
        log.log(level, Some(self.number), &context, message);
    }

    /// Notes that the client left before its answer.
    pub(super) fn note_left(&self, request: &mut Request) {
        self.worker.counters.client_aborts.add(1);
        let message = format_args!("client prematurely closed connection");
        self.log(Level::Info, request, message);
        if request.status == 0 {
            request.status = 499;
        }
    }

    /// Counts a request that breaks a rule, and writes an error log line about it.
    #[cold]
    pub(super) fn note_refusal(&self, request: &Request, refusal: Refusal) {
        self.worker.counters.refusals.count(refusal);
        let (word, part) = (refusal.word(), refusal.part());
        let message = format_args!(
            "client sent invalid request ({word}): {refusal} while reading client request {part}"
        );
        self.log(Level::Info, request, message);
    }

    /// Writes an error log line about the connection.
    pub(super) fn log_connection(&self, level: Level, message: fmt::Arguments<'_>) {
        let context = Context {
            client: Some(&self.address),
            ..Context::default()
        };
        let log = &self.settings.deployment.main_log;
        log.log(level, Some(self.number), &context, message);
    }

    /// Counts a request that is over, and writes its access log lines.
    pub(super) fn log_access(&self, request: &Request) {
        let counters = &self.worker.counters;
        counters.responses.count(request.status);
        let took = net::now().saturating_duration_since(request.started);
        counters.request_time.record(took);
        counters.bytes_out.add(request.sent.get());
        let received = request.bytes.len() as u64 + request.body_received.get();
        counters.bytes_in.add(received);
        let location = &self.settings.config().http.locations[request.location];
        if location.access_logs.is_empty() {
            return;
        }
        let view = self.view(request);
        let files = &self.settings.deployment.access_logs[request.location];
        for (log, file) in location.access_logs.iter().zip(files) {
            if is_wanted(log, &view) {
                outlet::append(file, log.buffering, None, |line| {
                    render(&log.format, &view, line);
                });
            }
        }
    }
}

/// Whether the condition of an `access_log` holds.
fn is_wanted(log: &AccessLog, view: &View<'_>) -> bool {
    let Some(condition) = &log.condition else {
        return true;
    };
    let mut value = Vec::new();
    condition.render(view, &mut value);
    !value.is_empty() && value != b"0"
}
