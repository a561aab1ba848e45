//! Whether logins can be bound to the certificates that clients see (Extended Protection): the front has to show the one that the
//! servers show, or they refuse every login, and nobody is told why.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::config::Config;
use crate::config::model::{Action, ChannelBinding, Level, PassTarget, PeerAddress, ServerIndex};
use crate::observe::cause::Cause;
use crate::observe::error_log::ErrorLog;
use crate::observe::figures::{Binding, BindingState, Figures};
use crate::proxy::Deployment;
use crate::tls::{GroupTls, ServerTls, Shown, shown_by};

/// Days before its end on which a certificate is warned of.
const WARN_DAYS: [i64; 2] = [7, 30];

/// What the operator can do about it.
const ADVICE: &str = "servers that require Extended Protection refuse every login; show the servers' own certificate, \
                      or say \"ntlm_channel_binding off\" if they do not require it";

/// A configuration with what it names.
pub(super) struct Compared<'a> {
    pub(super) config: &'a Config,
    pub(super) tls: &'a [Option<Arc<ServerTls>>],
    pub(super) group_tls: &'a [Option<GroupTls>],
}

impl<'a> From<&'a Deployment> for Compared<'a> {
    fn from(deployment: &'a Deployment) -> Self {
        Self {
            config: &deployment.config,
            tls: &deployment.tls,
            group_tls: &deployment.group_tls,
        }
    }
}

impl Compared<'_> {
    /// Whether `ntlm_channel_binding require` holds anywhere.
    pub(super) fn is_required(&self) -> bool {
        pairs(self).iter().any(|pair| pair.required)
    }
}

/// A server of the front whose logins go to a group.
struct Pair {
    server: String,
    /// What clients see; nothing without TLS.
    shown: Vec<Shown>,
    group: String,
    peers: Vec<(String, PeerAddress)>,
    /// `None`: the group is spoken to without TLS.
    tls: Option<GroupTls>,
    required: bool,
}

/// What came of a comparison.
enum State {
    Same,
    Different(String),
    /// Nothing can be said now.
    Unknown(String),
}

/// What is known, so that only changes are reported.
#[derive(Default)]
pub(super) struct Bindings {
    /// What was said the last time.
    told: HashSet<String>,
    /// Some server could not be asked.
    incomplete: bool,
    /// What came of each comparison, and how many came to be different since that was shown.
    found: Vec<Binding>,
    mismatches: u64,
    /// Certificates by their hash and the days for which was warned.
    warned: HashSet<(Vec<u8>, i64)>,
}

/// A login cannot be bound where that is required.
#[derive(Debug)]
pub(super) struct Mismatch(String);

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is reported, and how loudly.
pub(super) type Report = Vec<(Level, String)>;

impl Bindings {
    /// Compares what clients see with what the servers show, and reports what has changed since the last time.
    ///
    /// # Errors
    /// Something does not fit where `ntlm_channel_binding require` holds. A server that cannot be reached is no error.
    pub(super) async fn check(&mut self, what: &Compared<'_>) -> (Report, Result<(), Mismatch>) {
        let mut report = Report::new();
        let mut result = Ok(());
        let mut told = HashSet::new();
        self.incomplete = false;
        self.found.clear();
        for pair in pairs(what) {
            for shown in &pair.shown {
                self.warn_of_end(shown, &format!("of \"{}\"", pair.server), &mut report);
            }
            for (peer, state, theirs) in pair.compare().await {
                if let Some(theirs) = &theirs {
                    self.warn_of_end(theirs, &format!("of server {peer}"), &mut report);
                }
                self.incomplete |= matches!(state, State::Unknown(_));
                self.found.push(pair.binding(&peer, &state, theirs));
                let (level, message) = pair.told(&peer, &state);
                if pair.required && matches!(state, State::Different(_)) {
                    result = Err(Mismatch(message.clone()));
                }
                if told.insert(message.clone()) && !self.told.contains(&message) {
                    self.mismatches += u64::from(matches!(state, State::Different(_)));
                    report.push((level, message));
                }
            }
        }
        self.told = told;
        (report, result)
    }

    /// Has the status pages show what came of the comparisons.
    pub(super) fn show(&mut self, figures: &Figures) {
        figures.bindings.store(Arc::new(self.found.clone()));
        figures.mismatches.add(std::mem::take(&mut self.mismatches));
    }

    /// Whether some server could not be asked.
    pub(super) fn is_incomplete(&self) -> bool {
        self.incomplete
    }

    /// Warns once for each of the days before a certificate ends.
    fn warn_of_end(&mut self, shown: &Shown, whose: &str, report: &mut Report) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs().cast_signed();
        let days = (shown.expires - now).div_euclid(86_400);
        let Some(limit) = WARN_DAYS.into_iter().find(|&limit| days < limit) else {
            return;
        };
        if self.warned.insert((shown.end_point.clone(), limit)) {
            let subject = &shown.subject;
            let when = match days {
                ..0 => "has expired".to_owned(),
                days => format!("expires in {days} days"),
            };
            let message = format!("the certificate {whose} (\"{subject}\") {when}");
            report.push((Level::Warn, message));
        }
    }
}

impl Pair {
    /// For each peer, what came of it, and what it shows.
    async fn compare(&self) -> Vec<(String, State, Option<Shown>)> {
        let Some(tls) = &self.tls else {
            let why = "TLS ends at the front: they are spoken to without".to_owned();
            return vec![("all".to_owned(), State::Different(why), None)];
        };
        // All at once: one that does not answer holds nobody up.
        let asked: Vec<_> = self
            .peers
            .iter()
            .map(|(_, address)| {
                let (address, tls) = (address.clone(), tls.clone());
                tokio::spawn(async move { shown_by(&address, &tls).await })
            })
            .collect();
        let mut found = Vec::new();
        for ((name, _), asked) in self.peers.iter().zip(asked) {
            let shown = asked.await.unwrap_or_else(|error| Err(error.into()));
            let (state, theirs) = match shown {
                Err(error) => (State::Unknown(Cause::from(&error).to_string()), None),
                Ok(theirs) => {
                    let fits = |ours: &&Shown| ours.end_point == theirs.end_point;
                    let fitting = self.shown.iter().filter(fits).count();
                    let why = match (fitting, self.shown.len()) {
                        (_, 0) => Some("clients are spoken to without TLS".to_owned()),
                        (0, _) => {
                            let theirs = &theirs.subject;
                            Some(format!("it shows another certificate (\"{theirs}\")"))
                        }
                        // Which one a client is shown depends on what it can do.
                        (fitting, all) if fitting < all => Some(format!(
                            "it shows one of the {all} certificates that clients are shown"
                        )),
                        _ => None,
                    };
                    let state = why.map_or(State::Same, State::Different);
                    (state, Some(theirs))
                }
            };
            found.push((name.clone(), state, theirs));
        }
        found
    }

    /// What the status pages show of a comparison.
    fn binding(&self, peer: &str, state: &State, theirs: Option<Shown>) -> Binding {
        let (state, reason) = match state {
            State::Same => (BindingState::Same, ""),
            State::Different(why) => (BindingState::Different, why.as_str()),
            State::Unknown(why) => (BindingState::Unknown, why.as_str()),
        };
        Binding {
            server: self.server.clone(),
            upstream: self.group.clone(),
            peer: peer.to_owned(),
            state,
            reason: reason.to_owned(),
            shown: theirs.map(|theirs| (theirs.subject, theirs.expires)),
        }
    }

    fn told(&self, peer: &str, state: &State) -> (Level, String) {
        let Self { server, group, .. } = self;
        let about = match peer {
            "all" => format!("server \"{server}\" and the servers of upstream \"{group}\""),
            peer => format!("server \"{server}\" and {peer} of upstream \"{group}\""),
        };
        match state {
            State::Same => (
                Level::Notice,
                format!("channel binding: {about} show the same certificate"),
            ),
            State::Different(why) => (
                Level::Warn,
                format!("channel binding: {about} do not fit: {why}; {ADVICE}"),
            ),
            State::Unknown(why) => (
                Level::Notice,
                format!(
                    "channel binding: {about} cannot be compared yet ({why}); it is tried again"
                ),
            ),
        }
    }
}

/// Servers and groups between which logins pass and TLS is on either side.
fn pairs(what: &Compared<'_>) -> Vec<Pair> {
    let http = &what.config.http;
    let mut pairs = Vec::new();
    for (index, server) in http.servers.iter().enumerate() {
        let shown = shown(what, index);
        // By group: whether it is required somewhere.
        let mut groups = BTreeMap::new();
        for location in &http.locations[server.all_locations.clone()] {
            let Action::Proxy(pass) = &location.action else {
                continue;
            };
            let PassTarget::Group(group) = pass.target else {
                continue;
            };
            let pins = http.groups[group].ntlm.is_some() || location.proxy.ntlm.is_some();
            let binding = location.proxy.channel_binding;
            if pins && binding != ChannelBinding::Off {
                let required: &mut bool = groups.entry(group).or_default();
                *required |= binding == ChannelBinding::Require;
            }
        }
        for (group, required) in groups {
            let tls = what.group_tls[group].clone();
            if shown.is_none() && tls.is_none() {
                continue;
            }
            let group = &http.groups[group];
            let peers = group.peers.iter();
            pairs.push(Pair {
                server: server.name.clone(),
                shown: shown.clone().unwrap_or_default(),
                group: group.name.clone(),
                peers: peers
                    .map(|(peer, address)| (peer.name.clone(), address.clone()))
                    .collect(),
                tls,
                required,
            });
        }
    }
    pairs
}

/// What clients of a server see; `None` if none of its addresses speaks TLS.
fn shown(what: &Compared<'_>, server: ServerIndex) -> Option<Vec<Shown>> {
    let listeners = what.config.http.listeners.iter();
    let mut speaking = listeners
        .filter(|listener| listener.ssl && listener.servers.contains(&server))
        .peekable();
    speaking.peek()?;
    let mut shown = Vec::new();
    for listener in speaking {
        // One without a certificate shows that of the default server.
        let own = what.tls[server].as_ref();
        let tls = own.or(what.tls[listener.names.default].as_ref());
        for certificate in tls.iter().flat_map(|tls| tls.shown()) {
            if !shown.contains(&certificate) {
                shown.push(certificate);
            }
        }
    }
    Some(shown)
}

/// Writes a report to the log.
pub(super) fn note(report: &Report, log: &Arc<ErrorLog>) {
    for (level, message) in report {
        log.note(*level, format_args!("{message}"));
    }
}
