//! Why a login was refused: the password, the certificate it is bound to, or the way it took.
//!
//! Each try with a wrong password counts towards the account's lock. At most two are made here and before: a third one only after
//! the server has taken the password.

use ntlm_origin::User;
use ntlm_origin::client::Scheme;

use super::Options;
use super::finding::{Doubt, Finding, Proof};
use super::legs::{Ended, Kept};
use super::login::End;
use super::look::Place;
use super::report::Report;
use super::target::Target;

/// Finds out why `refused` was refused by `place`, and notes it.
pub(super) async fn explain(
    place: &Place,
    options: &Options,
    scheme: Scheme,
    kept: Kept,
    refused: Ended,
    report: &mut Report<'_>,
) {
    let Some(user) = &options.user else { return };
    let mut unbound = Some(user);
    if let Some(behind) = &options.behind {
        match compare(place, behind, options.insecure, scheme, user, report).await {
            Ok(finding) => return report.note(finding),
            Err(NotCompared { mut why, proved }) => {
                // As the note has one of its own.
                why.truncate(why.trim_end_matches('.').len());
                report.note(Finding::BehindUnreached(why));
                unbound = unbound.filter(|_| !proved);
            }
        }
    }
    let found = alone(place, scheme, unbound, kept, refused, report).await;
    report.note(found.unwrap_or_else(|finding| finding));
}

/// Why the server behind says nothing about a refusal.
struct NotCompared {
    why: String,
    /// The password's proof went there all the same: there is no try left.
    proved: bool,
}

/// What can be found out at the front alone. `unbound` is who may log in once more, bound to no certificate.
async fn alone(
    place: &Place,
    scheme: Scheme,
    unbound: Option<&User>,
    kept: Kept,
    mut refused: Ended,
    report: &mut Report<'_>,
) -> Result<Finding, Finding> {
    let kept = kept == Kept::Yes;
    if !kept {
        let Ended {
            http, challenger, ..
        } = &mut refused;
        place.compare(scheme, http, challenger).await?;
    }
    if place.shown.is_none() {
        return Ok(Finding::Refused(if kept {
            Doubt::None
        } else {
            Doubt::Kept
        }));
    }
    if let Some(user) = unbound {
        match place.log_in(scheme, user, None, report).await?.end {
            End::LoggedIn(_) => return Ok(Finding::ChannelBinding(Proof::Unbound)),
            End::Refused => {}
            end => return Err(end.into()),
        }
    }
    Ok(Finding::Refused(if kept {
        Doubt::Binding
    } else {
        Doubt::Both
    }))
}

/// Logs in to the server behind itself, and then to the front as to that server.
///
/// # Errors
/// The server cannot be asked, or gives no verdict.
async fn compare(
    place: &Place,
    behind: &Target,
    insecure: bool,
    scheme: Scheme,
    user: &User,
    report: &mut Report<'_>,
) -> Result<Finding, NotCompared> {
    let unproved = |why| NotCompared { why, proved: false };
    let mut target = behind.clone();
    if target.path == "/" {
        target.path.clone_from(&place.dialer.target.path);
    }
    let server = Place::find(&target).await;
    let server = server.map_err(|it| unproved(it.to_string()))?;
    report.line("behind", format_args!("{target}"));
    if let (Some(error), Some(shown), false) = (&server.distrusted, &server.shown, insecure) {
        let certificate = Finding::Certificate(error.clone(), shown.expires).to_string();
        let certificate = certificate.trim_end_matches('.');
        return Err(unproved(format!("{certificate}; {}", Finding::NotTried)));
    }
    let end_point = server.shown.as_ref().map(|it| it.end_point.as_slice());
    let direct = server.log_in(scheme, user, end_point, report).await;
    let direct = direct.map_err(|finding| unproved(finding.to_string()))?;
    match direct.end {
        End::LoggedIn(_) => {}
        End::Refused => return Ok(Finding::Refused(Doubt::None)),
        end => {
            return Err(NotCompared {
                why: end.to_string(),
                proved: direct.proved,
            });
        }
    }
    // From here on the password is known to be right.
    let certificates = [&server.shown, &place.shown].map(|it| it.as_ref());
    let [theirs, ours] = certificates.map(|it| it.map(|shown| &*shown.end_point));
    let mut bindings = vec![(theirs, server.shown.as_ref()), (None, None)];
    bindings.retain(|(end_point, _)| *end_point != ours);
    bindings.dedup_by_key(|(end_point, _)| *end_point);
    for (end_point, shown) in bindings {
        report.line("front", format_args!("{}", place.dialer.target));
        let tried = place.log_in(scheme, user, end_point, report).await;
        if tried.is_ok_and(|tried| matches!(tried.end, End::LoggedIn(_))) {
            return Ok(Finding::ChannelBinding(match shown {
                Some(shown) => Proof::Behind(shown.subject.clone()),
                None => Proof::Unbound,
            }));
        }
    }
    Ok(Finding::BrokenByTheFront)
}
