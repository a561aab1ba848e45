//! What is wrong, in plain words, and what to do about it.

use std::fmt::{self, Display};

use serde::Serialize;

use crate::balance::Availability;

use super::super::figures::{BindingState, Figures};
use super::super::groups::{ServerFigures, Servers, Snapshot};
use super::Context;

/// For how long something that happened is news, in seconds.
const NEWS_SECONDS: u64 = 600;

/// For how long a failure of a server that is used all the same is.
const FAILURE_SECONDS: u64 = 60;

/// Fewer failed logins may be those of one who has forgotten a password.
const FAILED_LOGINS: u64 = 10;

/// Days before its end on which a certificate is warned of, as the error log does.
const SOON_DAYS: i64 = 30;
const VERY_SOON_DAYS: i64 = 7;

/// How bad something is, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// People are turned away.
    Critical,
    /// Somebody has to do something.
    Warning,
    /// Good to know.
    Notice,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) level: Level,
    /// The same for as long as it is the same thing.
    pub(super) about: String,
    pub(super) text: String,
    /// What to do about it.
    pub(super) advice: String,
}

/// Everything that is wrong, the worst first.
pub(super) fn findings(
    figures: &Figures,
    snapshot: &Snapshot,
    servers: &Servers<'_>,
    context: &Context<'_>,
) -> Vec<Finding> {
    let mut found = Findings {
        now: context.now.as_secs(),
        workers: figures.workers.len(),
        all: Vec::new(),
    };
    found.servers(servers);
    found.pins(snapshot);
    found.logins(figures);
    found.certificates(figures);
    found.connections(figures, context.connections);
    found.process(figures);
    found.all.sort_by_key(|finding| finding.level);
    found.all
}

struct Findings {
    now: u64,
    workers: usize,
    all: Vec<Finding>,
}

impl Findings {
    fn add(&mut self, level: Level, about: impl Display, text: impl Display, advice: impl Display) {
        self.all.push(Finding {
            level,
            about: about.to_string(),
            text: text.to_string(),
            advice: advice.to_string(),
        });
    }

    fn is_news(&self, at: u64) -> bool {
        at > 0 && self.now.saturating_sub(at) < NEWS_SECONDS
    }

    fn ago(&self, at: u64) -> Span {
        Span(self.now.saturating_sub(at))
    }

    fn servers(&mut self, servers: &Servers<'_>) {
        let is_up = |figures: &ServerFigures| figures.worst().0 == Availability::Up;
        for ((upstream, server), figures) in servers {
            let (state, workers) = figures.worst();
            let about = format!("server {upstream} {server}");
            let of_workers = match self.workers {
                1 => String::new(),
                all => format!(" as {workers} of {all} workers see it"),
            };
            let failures = Counted(figures.failures, "failure");
            let ago = self.ago(figures.failed_at);
            match state {
                Availability::Failed => {
                    let others = servers.iter().filter(|((theirs, _), _)| theirs == upstream);
                    let left = others.filter(|(_, figures)| is_up(figures)).count();
                    let (level, rest) = match left {
                        0 => (Level::Critical, "no other server of it is up".to_owned()),
                        left => (Level::Warning, format!("{left} of its servers are up")),
                    };
                    let text = format!(
                        "Server {server} of upstream \"{upstream}\" fails{of_workers}: {failures} so far, the last one {ago} ago; {rest}."
                    );
                    let advice = "It is tried again once in its fail_timeout. The error log says how it fails.";
                    self.add(level, about, text, advice);
                }
                Availability::Full => self.add(
                    Level::Warning,
                    about,
                    format_args!(
                        "Server {server} of upstream \"{upstream}\" has as many connections as \"max_conns\" allows{of_workers}."
                    ),
                    "A login keeps its connection: raise \"max_conns\", or add a server.",
                ),
                Availability::Down => self.add(
                    Level::Notice,
                    about,
                    format_args!("Server {server} of upstream \"{upstream}\" is marked \"down\"."),
                    "Remove the word and reload to have it used.",
                ),
                Availability::Up => {
                    let since = self.now.saturating_sub(figures.failed_at);
                    if figures.failed_at > 0 && since < FAILURE_SECONDS {
                        let text = format!(
                            "Server {server} of upstream \"{upstream}\" failed {ago} ago, {failures} so far; it is used all the same."
                        );
                        self.add(Level::Warning, about, text, "The error log says how it failed.");
                    }
                }
            }
        }
    }

    fn pins(&mut self, snapshot: &Snapshot) {
        let mut names: Vec<&str> = Vec::new();
        for seen in snapshot.groups() {
            if !seen.group.name.is_empty() && !names.contains(&&*seen.group.name) {
                names.push(&seen.group.name);
            }
        }
        for name in names {
            let groups = snapshot.groups().iter().map(|seen| &seen.group);
            let groups = groups.filter(|group| group.name == name);
            let (mut evicted, mut at, mut limit, mut most) = (0, 0, 0, 0);
            for group in groups {
                let census = group.census();
                evicted += group.table_full.value();
                at = at.max(group.table_full_at.value());
                limit = limit.max(census.idle_limit);
                most = most.max(census.idle);
            }
            let about = format!("pins {name}");
            if self.is_news(at) {
                let (ago, evicted) = (self.ago(at), Counted(evicted, "idle login"));
                let text = format!(
                    "Pins of upstream \"{name}\" are evicted: {evicted} ended to make room for others, the last one {ago} ago."
                );
                let advice = format!(
                    "Raise \"ntlm {limit}\" (idle logins that one worker keeps): people had to log in again."
                );
                self.add(Level::Warning, about, text, advice);
            } else if limit > 0 && most * 10 >= limit * 9 {
                let text = format!(
                    "A worker keeps {most} idle logins of upstream \"{name}\", of {limit} that it may."
                );
                let advice = format!("Raise \"ntlm {limit}\" before logins are ended for others.");
                self.add(Level::Notice, about, text, advice);
            }
        }
    }

    fn logins(&mut self, figures: &Figures) {
        let failed = figures.sum(|counters| counters.lately_failed.value());
        let succeeded = figures.sum(|counters| counters.lately_succeeded.value());
        if failed < FAILED_LOGINS || failed <= succeeded {
            return;
        }
        let all = failed + succeeded;
        let text = format!("Most logins fail: {failed} of {all} in the last two minutes.");
        let advice = "\"ntlmfront --probe URL -u user\" says why one fails; \"error_log … info\" has a line for each.";
        self.add(Level::Warning, "logins", text, advice);
    }

    fn certificates(&mut self, figures: &Figures) {
        for binding in &**figures.bindings.load() {
            let (server, upstream, reason) = (&binding.server, &binding.upstream, &binding.reason);
            let peer = match &*binding.peer {
                "all" => format!("the servers of upstream \"{upstream}\""),
                peer => format!("server {peer} of upstream \"{upstream}\""),
            };
            let about = format!("binding {server} {upstream} {}", binding.peer);
            match binding.state {
                BindingState::Same => {}
                BindingState::Different => self.add(
                    Level::Warning,
                    about,
                    format_args!("Logins of \"{server}\" cannot be bound to the certificate of {peer}: {reason}."),
                    "Servers that require Extended Protection refuse every login. Show the servers' own certificate and pass to them \
                     with https://, or say \"ntlm_channel_binding off\" if they do not require it.",
                ),
                BindingState::Unknown => self.add(
                    Level::Notice,
                    about,
                    format_args!("Whether clients of \"{server}\" see the certificate of {peer} is not known: {reason}."),
                    "It is looked at again within a minute.",
                ),
            }
            if let Some((subject, expires)) = &binding.shown {
                self.expiry(format_args!("{subject} of {peer}"), *expires);
            }
        }
        for shown in &**figures.certificates.load() {
            let whose = format_args!("{} of \"{}\"", shown.subject, shown.server);
            self.expiry(whose, shown.expires);
        }
    }

    fn expiry(&mut self, whose: fmt::Arguments<'_>, expires: i64) {
        let left = expires - self.now.cast_signed();
        let days = left.div_euclid(86_400);
        if days >= SOON_DAYS {
            return;
        }
        let about = format!("certificate {whose}");
        // One that is shown in several places is one.
        if self.all.iter().any(|known| known.about == about) {
            return;
        }
        let (level, text) = match days {
            ..0 => (
                Level::Critical,
                format!("The certificate {whose} has expired."),
            ),
            days => {
                let level = match days < VERY_SOON_DAYS {
                    true => Level::Critical,
                    false => Level::Warning,
                };
                let left = Span(left.unsigned_abs());
                (level, format!("The certificate {whose} expires in {left}."))
            }
        };
        let advice = "Renew it at the front and at the servers at the same time; new files are taken over without a reload.";
        self.add(level, about, text, advice);
    }

    fn connections(&mut self, figures: &Figures, limit: usize) {
        let limit = limit as u64;
        let used = figures.workers.iter().map(|counters| {
            let clients = counters.active.value();
            clients + counters.upstream_connections.value()
        });
        let most = used.max().unwrap_or_default();
        let turned_away = figures.sum(|c| c.accepted.value().saturating_sub(c.handled.value()));
        let at = figures
            .workers
            .iter()
            .map(|c| c.turned_away_at.value())
            .max();
        let advice = format!(
            "Raise \"worker_connections {limit}\" and \"worker_rlimit_nofile\": a logged-in client takes two connections."
        );
        let at = at.unwrap_or_default();
        if self.is_news(at) {
            let (ago, turned_away) = (self.ago(at), Counted(turned_away, "client"));
            let text = format!(
                "{turned_away} turned away for want of connections, the last one {ago} ago."
            );
            self.add(Level::Critical, "connections", text, advice);
        } else if most * 10 >= limit * 9 {
            let text = format!("A worker uses {most} of its {limit} connections.");
            self.add(Level::Warning, "connections", text, advice);
        }
    }

    fn process(&mut self, figures: &Figures) {
        if let Some(reload) = &*figures.last_reload.load()
            && let Some(problem) = &reload.problem
        {
            let ago = self.ago(reload.at);
            let text = format!(
                "The last reload was refused {ago} ago, and the configuration before it is in force: {problem}."
            );
            let advice = "\"ntlmfront -t\" checks a configuration without touching what runs.";
            self.add(Level::Warning, "reload", text, advice);
        }
        for log in figures.open_logs() {
            let name = log.name();
            let (failed, lost) = (log.failed_writes(), log.lost_lines());
            let (failures, lines) = (Counted(failed, "write"), Counted(lost, "line"));
            let text = match (failed, lost) {
                (0, 0) => continue,
                (0, _) => {
                    format!("{lines} for the log {name} lost: it does not take them fast enough.")
                }
                (_, 0) => {
                    format!("{failures} to the log {name} failed: its lines wait for another try.")
                }
                _ => format!("{failures} to the log {name} failed, {lines} lost."),
            };
            let advice = "The disk may be full, or nobody reads. Requests are served all the same.";
            self.add(Level::Warning, format_args!("log {name}"), text, advice);
        }
        let refused = figures.sum(|counters| counters.usage.pipes_refused.value());
        if refused > 0 {
            let text = format!(
                "The kernel gave no pipe to splice a body through, {}: it was copied.",
                Counted(refused, "time")
            );
            let advice = "Raise the limit of descriptors (worker_rlimit_nofile), or fs.pipe-user-pages-soft.";
            self.add(Level::Notice, "pipes", text, advice);
        }
    }
}

/// So many of something.
struct Counted(u64, &'static str);

impl Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(number, what) = self;
        let plural = if *number == 1 { "" } else { "s" };
        write!(f, "{number} {what}{plural}")
    }
}

/// A span of time in seconds, as people say it.
struct Span(u64);

impl Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, unit) = match self.0 {
            seconds @ ..120 => (seconds, "second"),
            seconds @ ..7200 => (seconds / 60, "minute"),
            seconds @ ..172_800 => (seconds / 3600, "hour"),
            seconds => (seconds / 86_400, "day"),
        };
        Counted(number, unit).fmt(f)
    }
}

#[cfg(test)]
mod tests;
