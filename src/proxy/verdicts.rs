//! What becomes of each login: counted, and a line of `error_log … info`. No byte of a token is in it.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use crate::config::model::Level;
use crate::net::{ClientAddress, now};
use crate::observe::error_log::Context;
use crate::observe::escape::Escaped;
use crate::pin::pins::Pinned;
use crate::pin::{self, Account, EndReason, Login, LoginEnd, State};

use super::forward::Forward;
use super::logins::challenges;
use super::request::Request;
use super::upstream::Upstream;
use super::worker::{Settings, Worker};

/// A login on a pin that its server has not judged yet, with what a line about its end has to say when no request is there any
/// more.
pub(super) struct LoginUnderWay {
    login: Login,
    /// Only where it is to be logged.
    account: Option<Account>,
    /// The configuration, if that was still the worker's when the login began, and the location.
    settings: Option<Rc<Settings>>,
    location: usize,
    server: usize,
    /// `$connection`
    connection: u64,
    client: ClientAddress,
}

impl Forward<'_> {
    /// Notes that `request`, which is about to be sent on `pin`, is a leg of a login if it carries credentials. On an established
    /// pin they are for that request alone.
    pub(super) fn note_leg(&self, request: &Request, pin: &mut Pinned<Upstream>) {
        let Some(credentials) = request.credentials else {
            return;
        };
        if pin.state() == State::Established {
            return;
        }
        self.client.worker.counters.login_legs.add(1);
        let goes_on = pin
            .connection_mut()
            .login
            .as_mut()
            .is_some_and(|under_way| under_way.login.goes_on(credentials));
        if !goes_on {
            let settings = self.client.worker.settings();
            // A reload came between: its locations are others.
            let same = std::ptr::eq(&raw const *settings, self.client.settings);
            let begun = LoginUnderWay {
                login: Login::begin(credentials, request.started),
                account: None,
                settings: same.then_some(settings),
                location: request.location,
                server: request.server,
                connection: self.client.number,
                client: request.client,
            };
            let left = pin.connection_mut().login.replace(Box::new(begun));
            if let Some(left) = left {
                let peer = pin.connection().peer_name();
                left.abort(&self.client.worker, &peer, EndReason::NewCredentials);
            }
        }
        if self.location.proxy.log_user
            && credentials.is_last_of_ntlm()
            && self.client.logs(Level::Info, request)
            && let Some(value) = request.head.authorization
            && let Some(under_way) = &mut pin.connection_mut().login
        {
            under_way.account = Account::in_value(value.of(&request.bytes));
        }
    }

    /// Notes what the answer to `request` makes of the login on `pin`, if there is an answer and a login.
    pub(super) fn note_verdict(&self, request: &Request, pin: &mut Pinned<Upstream>) {
        let login = &mut pin.connection_mut().login;
        let Some(under_way) = login else { return };
        if request.credentials.is_none() || request.status == 0 {
            return;
        }
        let answer = pin::Answer {
            status: request.status,
            challenge: challenges(request),
            persistent_auth_false: false,
        };
        let Some(end) = under_way.login.answered(&answer) else {
            return;
        };
        let Some(ended) = login.take() else { return };
        let counters = &self.client.worker.counters;
        counters.logins.count(ended.login.scheme(), end);
        let line = ended.line(end, self.location.proxy.log_user);
        self.client.log(
            Level::Info,
            request,
            format_args!("{line}, status {}", request.status),
        );
    }
}

impl LoginUnderWay {
    /// Notes that it ended without a verdict, since its pin to `peer` did, or another login began on it.
    pub(super) fn abort(&self, worker: &Worker, peer: &str, reason: EndReason) {
        let end = LoginEnd::Aborted;
        worker.counters.logins.count(self.login.scheme(), end);
        let fallback;
        let (log, server, log_user) = match &self.settings {
            Some(settings) => {
                let http = &settings.config().http;
                (
                    &settings.deployment.error_logs[self.location],
                    Some(&*http.servers[self.server].name),
                    http.locations[self.location].proxy.log_user,
                )
            }
            None => {
                fallback = worker.settings();
                (&fallback.deployment.main_log, None, false)
            }
        };
        if !log.enabled(Level::Info) {
            return;
        }
        let context = Context {
            client: Some(&self.client),
            server,
            upstream: Some(&peer),
            ..Context::default()
        };
        let line = self.line(end, log_user);
        log.log(
            Level::Info,
            Some(self.connection),
            &context,
            format_args!("{line}, {}", reason.word()),
        );
    }

    fn line(&self, end: LoginEnd, log_user: bool) -> Line<'_> {
        Line {
            end,
            login: &self.login,
            account: log_user.then_some(self.account.as_ref()),
            age: self.login.age(now()),
        }
    }
}

/// The beginning of the line about a login that ended.
struct Line<'a> {
    end: LoginEnd,
    login: &'a Login,
    /// If it is to be shown, what is known of it.
    account: Option<Option<&'a Account>>,
    age: Duration,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (end, scheme) = (self.end.word(), self.login.scheme().word());
        let types = self.login.types();
        write!(f, "login {end}: scheme {scheme}, ntlm messages {types}, ")?;
        match self.account {
            None => {}
            Some(None) => f.write_str("domain -, user -, ")?,
            Some(Some(Account { domain, user })) => {
                let (domain, user) = (Escaped(domain), Escaped(user));
                write!(f, "domain \"{domain}\", user \"{user}\", ")?;
            }
        }
        let (legs, age) = (self.login.legs(), self.age.as_secs_f64());
        write!(f, "legs {legs}, time {age:.3}")
    }
}
