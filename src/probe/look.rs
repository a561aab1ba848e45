//! What can be seen before anybody logs in: the connection, TLS, HTTP/2, and what a stranger is answered.

use std::io;
use std::sync::Arc;

use ntlm_origin::client::Response;

use crate::observe::escape::Escaped;
use crate::tls::Shown;

use super::crowd::Crowd;
use super::dial::{Dialer, H2, Http, Session, Unreached};
use super::finding::Finding;
use super::http2;
use super::login::ask;
use super::offer;
use super::report::Report;
use super::target::Target;
use super::words::date;

/// Somewhere to log in.
pub(super) struct Place {
    pub(super) dialer: Arc<Dialer>,
    /// The certificate that it shows.
    pub(super) shown: Option<Shown>,
    /// Why clients do not take it. Whoever is there could use a login, or guess the password from it.
    pub(super) distrusted: Option<rustls::Error>,
    /// Who can speak HTTP/2 is made to.
    prefers_http2: bool,
}

impl Place {
    /// Looks at the certificate alone.
    pub(super) async fn find(target: &Target) -> Result<Self, Unreached> {
        let mut dialer = Dialer::find(target).await?;
        let session = dialer.open().await?.session;
        let judged = session.as_ref().map(|session| dialer.judge(session));
        Ok(Self {
            dialer: Arc::new(dialer),
            shown: session.as_ref().and_then(Session::shown),
            distrusted: judged.and_then(Result::err),
            prefers_http2: false,
        })
    }

    /// Connects in each of the ways that clients have, and says what they come to.
    pub(super) async fn look(target: &Target, report: &mut Report<'_>) -> Option<Self> {
        match Self::connect(target, report).await {
            Ok(place) => Some(place),
            Err(finding) => {
                report.note(finding);
                None
            }
        }
    }

    async fn connect(target: &Target, report: &mut Report<'_>) -> Result<Self, Finding> {
        let mut dialer = Dialer::find(target).await.map_err(Finding::Unreached)?;
        report.line("connect", format_args!("{}", dialer.address));
        let place = |dialer, shown, distrusted, prefers_http2| Self {
            dialer: Arc::new(dialer),
            shown,
            distrusted,
            prefers_http2,
        };
        if !target.tls {
            return Ok(place(dialer, None, None, false));
        }
        // First as a browser would.
        let chooses_h2 = |session: &Session| session.protocol.as_deref() == Some(H2);
        let mut prefers_http2 = false;
        if let Ok(opened) = dialer.open_for_any().await
            && opened.session.as_ref().is_some_and(chooses_h2)
        {
            prefers_http2 = true;
            let answer = http2::ask(opened.stream, target).await;
            report.line("http/2", format_args!("chosen, and answered {answer}"));
            report.note(Finding::Http2Preferred(answer));
        }
        let session = match dialer.open().await {
            Ok(opened) => opened.session,
            Err(Unreached::Tls(error)) if prefers_http2 && is_not_spoken(&error) => {
                return Err(Finding::Http2Only);
            }
            Err(unreached) => return Err(Finding::Unreached(unreached)),
        };
        let Some((session, shown)) = session.and_then(|it| it.shown().map(|shown| (it, shown)))
        else {
            return Ok(place(dialer, None, None, prefers_http2));
        };
        let (subject, until) = (Escaped(shown.subject.as_bytes()), date(shown.expires));
        report.line(
            "tls",
            format_args!(
                "{}, certificate of \"{subject}\" until {until}",
                session.version
            ),
        );
        let distrusted = dialer.judge(&session).err();
        if let Some(error) = &distrusted {
            report.note(Finding::Certificate(error.clone(), shown.expires));
        }
        Ok(place(dialer, Some(shown), distrusted, prefers_http2))
    }

    /// Asks without credentials. What is offered to log in with; `None` if nothing is that could be tried.
    pub(super) async fn offers(&self, report: &mut Report<'_>) -> Option<Vec<String>> {
        match self.answer_to_strangers(report).await {
            Ok(schemes) => Some(schemes),
            Err(finding) => {
                report.note(finding);
                None
            }
        }
    }

    async fn answer_to_strangers(&self, report: &mut Report<'_>) -> Result<Vec<String>, Finding> {
        let mut http = self.dialer.http().await.map_err(Finding::Unreached)?;
        let answer = ask(&mut http, &self.dialer.target.path, None).await;
        let answer = answer.map_err(|error| match error.kind() {
            _ if self.prefers_http2 && is_not_spoken(&error) => Finding::Http2Only,
            io::ErrorKind::InvalidData => Finding::NoHttp(error),
            _ => Finding::lost(error),
        })?;
        let schemes = offer::schemes(answer.headers.all("www-authenticate"));
        let offered = match schemes.is_empty() {
            true => String::new(),
            false => format!(", offers {}", schemes.join(", ")),
        };
        let offered = Escaped(offered.as_bytes());
        report.line("anonymous", format_args!("{}{offered}", answer.status));
        let is_offered = |name: &&str| schemes.iter().any(|it| it.eq_ignore_ascii_case(name));
        match answer.status {
            401 if schemes.is_empty() => Err(Finding::Stripped),
            401 if ["NTLM", "Negotiate"].iter().any(is_offered) => {
                Ok(schemes.into_iter().map(str::to_owned).collect())
            }
            401 => Err(Finding::WrongScheme(
                schemes.into_iter().map(str::to_owned).collect(),
            )),
            407 => Err(Finding::ForwardProxy),
            400 | 408 | 421 | 429 | 431 | 500.. => Err(Finding::Unserved(answer.status)),
            status => {
                // Perhaps this one was let in by somebody else's login.
                let crowd = Crowd::ask(&self.dialer, None).await;
                Err(match redirection(&answer) {
                    _ if crowd.asked_to_log_in > 0 => Finding::Differs(crowd.let_in()),
                    Some(to) => Finding::Redirected(self.dialer.target.resolve(to)),
                    None => Finding::NotAsked(status),
                })
            }
        }
    }

    /// A connection on which a stranger was asked to log in, as it is when a browser begins to.
    pub(super) async fn asked_to_log_in(&self) -> Result<Http, Finding> {
        let mut http = self.dialer.http().await.map_err(Finding::Unreached)?;
        let answer = ask(&mut http, &self.dialer.target.path, None).await;
        let answer = answer.map_err(Finding::lost)?;
        match answer.status {
            401 if answer.last => self.dialer.http().await.map_err(Finding::Unreached),
            401 => Ok(http),
            status => Err(Finding::let_in_or_unserved(status)),
        }
    }
}

/// Whether that is how HTTP/1.1 fails where it is not spoken: by an end, or by what is none.
fn is_not_spoken(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::InvalidData
    )
}

fn redirection(answer: &Response) -> Option<&str> {
    let leads = (300..400).contains(&answer.status);
    answer.headers.first("location").filter(|_| leads)
}
