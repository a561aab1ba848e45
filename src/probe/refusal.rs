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
    let found = match &options.behind {
        Some(behind) => match compare(place, behind, scheme, user, report).await {
            Ok(finding) => Ok(finding),
            Err(why) => {
                report.note(Finding::BehindUnreached(why));
                alone(place, scheme, user, kept, refused, report).await
            }
        },
        None => alone(place, scheme, user, kept, refused, report).await,
    };
    report.note(found.unwrap_or_else(|finding| finding));
}

/// What can be found out at the front alone.
async fn alone(
    place: &Place,
    scheme: Scheme,
    user: &User,
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
    match place.log_in(scheme, user, None, report).await?.end {
        End::LoggedIn(_) => Ok(Finding::ChannelBinding(Proof::Unbound)),
        End::Refused => Ok(Finding::Refused(if kept {
            Doubt::Binding
        } else {
            Doubt::Both
        })),
        end => Err(end.into()),
    }
}

/// Logs in to the server behind itself, and then to the front as to that server. In an error, why the server cannot be asked.
async fn compare(
    place: &Place,
    behind: &Target,
    scheme: Scheme,
    user: &User,
    report: &mut Report<'_>,
) -> Result<Finding, String> {
    let mut target = behind.clone();
    if target.path == "/" {
        target.path.clone_from(&place.dialer.target.path);
    }
    let server = Place::find(&target).await.map_err(|it| it.to_string())?;
    report.line("behind", format_args!("{target}"));
    let end_point = server.shown.as_ref().map(|it| it.end_point.as_slice());
    let direct = server.log_in(scheme, user, end_point, report).await;
    let direct = direct.map_err(|finding| finding.to_string())?;
    match direct.end {
        End::LoggedIn(_) => {}
        End::Refused => return Ok(Finding::Refused(Doubt::None)),
        end => return Err(end.to_string()),
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
