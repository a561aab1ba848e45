//! Logins leg by leg: whether there is a challenge, whether legs stay together, and whether the password is taken.

use ntlm_origin::User;
use ntlm_origin::client::Scheme;
use ntlm_origin::ntlm::{Binding, ServerNames};

use super::dial::Http;
use super::finding::{Finding, Shift};
use super::login::{End, Login, Step, ask};
use super::look::Place;
use super::report::Report;

/// Whether legs stay together, as far as it can be seen without a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    Yes,
    Unknown,
}

/// A login that has ended.
pub(super) struct Ended {
    /// The connection it was made on.
    pub(super) http: Http,
    /// Who challenged it.
    pub(super) challenger: ServerNames,
    pub(super) end: End,
    /// It may have counted towards the account's lock.
    pub(super) proved: bool,
}

impl Place {
    /// Asks for NTLM's challenge in each way that is offered. The way that gets one.
    ///
    /// # Errors
    /// None does.
    pub(super) async fn challenge(
        &self,
        offers: &[String],
        report: &mut Report<'_>,
    ) -> Result<Scheme, Finding> {
        let offers = |name| offers.iter().any(|it| it.eq_ignore_ascii_case(name));
        let ways = [
            (Scheme::Ntlm, "NTLM"),
            (Scheme::Negotiate, "Negotiate"),
            (Scheme::NegotiateBare, "Negotiate"),
        ];
        let nobody = nobody();
        for (scheme, _) in ways.into_iter().filter(|(_, name)| offers(name)) {
            let mut http = self.asked_to_log_in().await?;
            let mut login = Login::begin(scheme, &nobody, None);
            match self.leg("challenge", &mut login, &mut http, report).await {
                Step::Challenged(_) => return Ok(scheme),
                Step::GoesOn | Step::Over(End::NotChallenged { .. }) => {}
                Step::Over(end) => return Err(end.into()),
            }
        }
        Err(match offers("NTLM") {
            true => Finding::NotChallenged,
            false => Finding::KerberosOnly,
        })
    }

    /// Asks for other challenges on the connection of a login that was refused: they must not come from another server than the
    /// login's own, `first`.
    ///
    /// # Errors
    /// One does.
    pub(super) async fn compare(
        &self,
        scheme: Scheme,
        http: &mut Http,
        first: &ServerNames,
    ) -> Result<(), Finding> {
        let path = &self.dialer.target.path;
        let nobody = nobody();
        for _ in 0..2 {
            // Of servers that take turns it is another one's turn then.
            if ask(http, path, None).await.is_err() {
                break;
            }
            let mut login = Login::begin(scheme, &nobody, None);
            match login.leg(http, path).await.1 {
                Step::Challenged(other) if other != *first => {
                    let shift = Shift::OtherServer(first.clone(), other);
                    return Err(Finding::NotKept(shift));
                }
                Step::Challenged(_) => {}
                // Some servers take it for a mistake, which proves nothing.
                _ => break,
            }
        }
        Ok(())
    }

    /// Has SPNEGO (RFC 4178) agree on NTLM in a leg of its own: only a server that remembers it challenges in the next one.
    ///
    /// # Errors
    /// It does not.
    pub(super) async fn kept(&self, report: &mut Report<'_>) -> Result<Kept, Finding> {
        const LABEL: &str = "kept";
        let mut http = self.asked_to_log_in().await?;
        let nobody = nobody();
        let mut login = Login::begin(Scheme::NegotiateNamed, &nobody, None);
        match self.leg(LABEL, &mut login, &mut http, report).await {
            Step::GoesOn => {}
            Step::Challenged(_) | Step::Over(End::NotChallenged { .. }) => {
                return Ok(Kept::Unknown);
            }
            Step::Over(end) => return Err(end.into()),
        }
        match self.leg(LABEL, &mut login, &mut http, report).await {
            Step::Challenged(_) => Ok(Kept::Yes),
            Step::GoesOn => Ok(Kept::Unknown),
            Step::Over(end) => Err(end.into()),
        }
    }

    /// Logs in on a connection of its own, and says how that ends. `end_point` is the certificate that the login is bound to.
    pub(super) async fn log_in(
        &self,
        scheme: Scheme,
        user: &User,
        end_point: Option<&[u8]>,
        report: &mut Report<'_>,
    ) -> Result<Ended, Finding> {
        let mut http = self.asked_to_log_in().await?;
        let service = self.service();
        let binding = Binding {
            end_point,
            service: &service,
        };
        let mut login = Login::begin(scheme, user, Some(binding));
        let mut challenger = ServerNames::default();
        loop {
            match self.leg("login", &mut login, &mut http, report).await {
                Step::GoesOn => {}
                Step::Challenged(names) => challenger = names,
                Step::Over(end) => {
                    return Ok(Ended {
                        http,
                        challenger,
                        end,
                        proved: login.has_proved(),
                    });
                }
            }
        }
    }

    /// Makes two logins at the same time, a leg of the one and a leg of the other in turn.
    ///
    /// # Errors
    /// One of them fails.
    pub(super) async fn log_in_twice(
        &self,
        scheme: Scheme,
        user: &User,
        report: &mut Report<'_>,
    ) -> Result<(), Finding> {
        let service = self.service();
        let binding = Binding {
            end_point: self.shown.as_ref().map(|it| it.end_point.as_slice()),
            service: &service,
        };
        let mut logins = Vec::new();
        for _ in 0..2 {
            let http = self.asked_to_log_in().await?;
            logins.push((http, Login::begin(scheme, user, Some(binding))));
        }
        let mut ended = 0;
        while ended < logins.len() {
            ended = 0;
            for (http, login) in &mut logins {
                if login.has_succeeded() {
                    ended += 1;
                    continue;
                }
                match login.leg(http, &self.dialer.target.path).await.1 {
                    Step::GoesOn | Step::Challenged(_) => {}
                    Step::Over(End::LoggedIn(_)) => ended += 1,
                    Step::Over(end @ (End::Unjudged(_) | End::Lost(_))) => return Err(end.into()),
                    Step::Over(end) => {
                        report.line("two at once", format_args!("{end}"));
                        return Err(Finding::NotKept(Shift::TwoAtOnce));
                    }
                }
            }
        }
        report.line("two at once", format_args!("both logged in"));
        Ok(())
    }

    async fn leg(
        &self,
        label: &'static str,
        login: &mut Login<'_>,
        http: &mut Http,
        report: &mut Report<'_>,
    ) -> Step {
        let sends = login.sends();
        let (status, step) = login.leg(http, &self.dialer.target.path).await;
        let leg = login.legs();
        match status {
            Some(status) => {
                report.line(label, format_args!("leg {leg}: {sends}: {status}, {step}"))
            }
            None => report.line(label, format_args!("leg {leg}: {sends}: {step}")),
        }
        step
    }

    /// For which service a client logs in, as Windows names it.
    fn service(&self) -> String {
        format!("HTTP/{}", self.dialer.target.host)
    }
}

/// Whoever asks for challenges alone.
fn nobody() -> User {
    User::new("", "", "")
}
