//! After a login: whether it lasts, and whether it is this connection's alone.

use ntlm_origin::client::Response;

use super::crowd::Crowd;
use super::dial::Http;
use super::finding::{Finding, Shift};
use super::login::ask;
use super::look::Place;
use super::report::Report;

/// How often strangers come while the login stands.
const ROUNDS: usize = 3;

impl Place {
    /// Looks at the connection that `answer` logged in; `before` are those who came before. True if nothing speaks against more
    /// logins.
    pub(super) async fn session(
        &self,
        mut http: Http,
        answer: &Response,
        before: &Crowd,
        report: &mut Report<'_>,
    ) -> bool {
        let each_request = answer
            .headers
            .first("persistent-auth")
            .is_some_and(|value| value.eq_ignore_ascii_case("false"));
        let mut lasts = !each_request && !answer.last;
        if each_request {
            report.note(Finding::PerRequest);
        } else if answer.last {
            report.note(Finding::ClosesAfterLogin);
        } else if let Err(finding) = self.again(&mut http, "again", report).await {
            report.note(finding);
            lasts = false;
        }
        // Where a limit answers like somebody who has no right, it says nothing.
        let limited = before.doubtful > 0;
        let login = Some(answer.status).filter(|_| !limited);
        let mut strangers = Crowd::default();
        for _ in 0..ROUNDS {
            strangers += Crowd::ask(&self.dialer, login).await;
        }
        let taken = match lasts {
            true => self.again(&mut http, "still", report).await.err(),
            false => None,
        };
        // The connection to the server may be anybody's from now on.
        drop(http);
        strangers += Crowd::ask(&self.dialer, login).await;
        report.line("strangers", format_args!("{strangers}"));
        if strangers.let_in > 0 {
            report.note(Finding::Inherited(strangers));
        }
        match taken {
            None => return strangers.let_in == 0,
            // It is said who has it.
            Some(Finding::DoesNotLast) if strangers.let_in > 0 => {}
            Some(Finding::DoesNotLast) => report.note(Finding::NotKept(Shift::Taken)),
            Some(other) => report.note(other),
        }
        false
    }

    /// Asks on a connection that is logged in.
    async fn again(
        &self,
        http: &mut Http,
        label: &'static str,
        report: &mut Report<'_>,
    ) -> Result<(), Finding> {
        let answer = ask(http, &self.dialer.target.path, None).await;
        let answer = answer.map_err(Finding::lost)?;
        report.line(
            label,
            format_args!(
                "without credentials on the same connection: {}",
                answer.status
            ),
        );
        match answer.status {
            401 => Err(Finding::DoesNotLast),
            _ => Ok(()),
        }
    }
}
