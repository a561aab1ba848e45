//! `ntlm_fail_delay`: the logins of a client address whose logins keep failing wait.

use std::net::IpAddr;

use crate::config::model::Level;
use crate::http::head::Name;
use crate::limit::failures::{Admission, FailLimits};
use crate::limit::{Key, Zone};
use crate::net::now;
use crate::pin::pins::Pinned;
use crate::pin::{EndReason, State, credentials};

use super::exchange::Answered;
use super::failure::Failed;
use super::forward::{Finished, Forward};
use super::limits::Turn;
use super::request::{Request, Response};
use super::upstream::Upstream;

impl Forward<'_> {
    /// Has a request that begins a login wait for its turn. One that continues a login goes on, and so does one on a login that
    /// stands.
    ///
    /// # Errors
    /// How the request ended instead.
    pub(super) async fn admit_login(
        &self,
        request: &mut Request,
        pin: &mut Option<Pinned<Upstream>>,
    ) -> Result<(), Finished> {
        let goes_on = pin
            .as_ref()
            .is_some_and(|pin| pin.is_challenged() || pin.state() == State::Established);
        if request.credentials.is_none() || goes_on {
            return Ok(());
        }
        let Some((zone, key, limits)) = self.failures(request) else {
            return Ok(());
        };
        let finished = match zone.admit_login(key, limits, now()) {
            Admission::Now => return Ok(()),
            Admission::After(wait) => {
                let message = format_args!(
                    "delaying login by {}ms, logins of this address keep failing",
                    wait.as_millis()
                );
                self.client.log(Level::Warn, request, message);
                match self.client.turn(request, now() + wait, false).await {
                    Turn::Came | Turn::Evicted => return Ok(()),
                    Turn::ClientGone => self.fail(request, Failed::ClientGone),
                }
            }
            Admission::Refused => {
                let message = format_args!("refusing login, logins of this address keep failing");
                self.client.log(Level::Error, request, message);
                Finished::Answer(429)
            }
        };
        if let Some(pin) = pin.take() {
            self.client.worker.end_pin(pin, EndReason::Error);
        }
        Err(finished)
    }

    /// Whether the request is one by whose answer the server judges a login, and failed ones are counted here.
    pub(super) fn is_judged(&self, request: &Request, pin: &Pinned<Upstream>) -> bool {
        self.location.proxy.fail_delay.is_some()
            && request.credentials.is_some()
            && pin.is_challenged()
    }

    /// Counts the login that the request was judged by if it failed: the answer offers to begin anew. A client that does not
    /// wait for the answer may have failed, too.
    pub(super) fn note_login(&self, request: &Request, result: &Result<Answered, Failed>) {
        let failed = match (request.status, result) {
            (0, Err(Failed::Upstream(_))) => false,
            (0, _) => true,
            (401, _) => !challenges(request),
            _ => false,
        };
        if failed && let Some((zone, key, limits)) = self.failures(request) {
            zone.login_failed(key, limits, now());
        }
    }

    /// Where the failed logins of the request's client are counted, and what they cost.
    fn failures(&self, request: &Request) -> Option<(&Zone, Key, &FailLimits)> {
        let limits = self.location.proxy.fail_delay.as_ref()?;
        let zone = self.client.settings.deployment.logins.as_deref()?;
        let key = match request.client.ip()?.to_canonical() {
            IpAddr::V4(ip) => zone.key(&ip.octets()),
            // Whoever has one address of a network has all of them.
            IpAddr::V6(ip) => zone.key(&ip.octets()[..8]),
        };
        Some((zone, key, limits))
    }
}

/// Whether the answer asks for the next leg of a login.
pub(super) fn challenges(request: &Request) -> bool {
    let Response { bytes, head, .. } = request.response();
    head.status == 401
        && head.fields.iter().any(|field| {
            field.known == Name::WwwAuthenticate && credentials::challenges(field.value.of(bytes))
        })
}
