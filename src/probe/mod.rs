//! `--probe`: a login with a real NTLM handshake through any front or server, leg by leg, and what is wrong with it.
//!
//! [`run`] goes from what needs no password to what does: `look` connects, `legs` ask for challenges and log in, `refusal` finds
//! out why a login was not taken, `session` looks at one that was. Each thing found is a `finding`, which `words` says to an
//! administrator. NTLM is that of `ntlm_origin`, the client's side.
#![forbid(unsafe_code)]

mod crowd;
mod dial;
mod finding;
mod http2;
mod legs;
mod login;
mod look;
mod offer;
pub mod password;
mod refusal;
mod report;
mod session;
mod target;
mod words;

use std::io::{self, Write};

use ntlm_origin::User;
use ntlm_origin::client::Scheme;

pub use target::{Target, TargetError};

use self::crowd::Crowd;
use self::finding::Finding;
use self::legs::{Ended, Kept};
use self::login::{End, scheme_words};
use self::look::Place;
use self::report::Report;

/// What is to be probed.
#[derive(Debug)]
pub struct Options {
    /// Where to log in.
    pub target: Target,
    /// As whom. `None`: only what needs no password is looked at.
    pub user: Option<User>,
    /// The server behind the front, to compare with.
    pub behind: Option<Target>,
    /// Log in also to who shows a certificate that this system does not trust.
    pub insecure: bool,
}

/// Probes, and writes to `out` what happens. True if nothing is wrong.
///
/// # Errors
/// The process can have no sockets to wait with.
pub fn run(options: &Options, out: &mut (dyn Write + Send)) -> io::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut report = Report::new(out);
    report.print(format_args!("{}", options.target));
    let fine = runtime.block_on(probe(options, &mut report));
    Ok(report.conclude(&fine.unwrap_or_default()))
}

/// Probes until nothing more can be learnt. What can be said if nothing is wrong.
async fn probe(options: &Options, report: &mut Report<'_>) -> Option<String> {
    let place = Place::look(&options.target, report).await?;
    let offers = place.offers(report).await?;
    match before_a_login(&place, &offers, report).await {
        Err(finding) => {
            report.note(finding);
            None
        }
        Ok(Before {
            scheme,
            kept,
            strangers,
        }) => {
            let words = scheme_words(scheme);
            let Some(user) = &options.user else {
                return Some(format!(
                    "what needs no password is in order, and {words} is challenged. To have a login tried, add -u USER."
                ));
            };
            if place.distrusted.is_some() && !options.insecure {
                report.line("login", format_args!("not tried"));
                report.note(Finding::NotTried);
                return None;
            }
            let refused = match a_login(&place, scheme, user, &strangers, report).await {
                Ok(refused) => refused,
                Err(finding) => {
                    report.note(finding);
                    return None;
                }
            };
            if let Some(refused) = refused {
                refusal::explain(&place, options, scheme, kept, refused, report).await;
                return None;
            }
            Some(format!(
                "{words} logs in, the login stays on its connection, and nobody else has it."
            ))
        }
    }
}

/// What is known before anybody logs in.
struct Before {
    /// The way to log in.
    scheme: Scheme,
    /// Whether legs stay together.
    kept: Kept,
    /// How many at once were answered.
    strangers: Crowd,
}

/// What can be seen without a password.
async fn before_a_login(
    place: &Place,
    offers: &[String],
    report: &mut Report<'_>,
) -> Result<Before, Finding> {
    let strangers = Crowd::ask(&place.dialer, None).await;
    let strangers = strangers.settle(&place.dialer).await;
    if strangers.let_in > 0 {
        return Err(Finding::Differs(strangers));
    }
    let scheme = place.challenge(offers, report).await?;
    let negotiates = offers.iter().any(|it| it.eq_ignore_ascii_case("Negotiate"));
    let kept = match negotiates {
        true => place.kept(report).await?,
        false => Kept::Unknown,
    };
    Ok(Before {
        scheme,
        kept,
        strangers,
    })
}

/// Logs in, and looks at what came of it. The login, if it was refused.
async fn a_login(
    place: &Place,
    scheme: Scheme,
    user: &User,
    strangers: &Crowd,
    report: &mut Report<'_>,
) -> Result<Option<Ended>, Finding> {
    let end_point = place.shown.as_ref().map(|it| it.end_point.as_slice());
    let ended = place.log_in(scheme, user, end_point, report).await?;
    match ended.end {
        End::Refused => Ok(Some(ended)),
        End::LoggedIn(answer) => {
            if place.session(ended.http, &answer, strangers, report).await {
                place.log_in_twice(scheme, user, report).await?;
            }
            Ok(None)
        }
        end => Err(end.into()),
    }
}
