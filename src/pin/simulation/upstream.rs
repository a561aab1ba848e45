//! An upstream connection of the model, with the server at its other end.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use crate::pin::random_plan::{Leg, Scheme};
use crate::pin::{Credentials, IdleKey, Scheme as Word};

/// The front's end. Whoever drops it closes it.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) server: Server,
    pub(super) opened: Instant,
    /// Requests that the server saw.
    pub(super) requests: u64,
    pub(super) last_answer: Instant,
    /// The client connection whose credentials came first. For good.
    pub(super) owner: Option<u64>,
    /// The last answer said `Persistent-Auth: false`.
    pub(super) authenticated_request_only: bool,
    /// The server closed it; a front finds that out when it looks.
    pub(super) closed: Cell<bool>,
    /// Its place in the worker's idle order while it is pinned, established and at rest.
    pub(super) idle_key: Option<IdleKey>,
    live: Rc<Cell<usize>>,
}

impl Upstream {
    /// Opens one; `live` counts those that are open.
    pub(super) fn open(live: &Rc<Cell<usize>>, now: Instant) -> Self {
        live.set(live.get() + 1);
        Self {
            server: Server::default(),
            opened: now,
            requests: 0,
            last_answer: now,
            owner: None,
            authenticated_request_only: false,
            closed: Cell::new(false),
            idle_key: None,
            live: Rc::clone(live),
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.live.set(self.live.get() - 1);
    }
}

/// What the server remembers of the connection: as with NTLM, the connection is the login.
#[derive(Debug, Default)]
pub(super) struct Server {
    identity: Option<usize>,
    /// The last leg, if its answer asked for another.
    asked_after: Option<Leg>,
}

/// An answer, and whom it was made for.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) identity: Option<usize>,
    pub(super) challenge: bool,
    pub(super) persistent_auth_false: bool,
    /// A leg came whose predecessor the server never saw.
    pub(super) out_of_nowhere: bool,
}

impl Server {
    pub(super) fn answer(&mut self, leg: Option<Leg>) -> Answer {
        let mut answer = Answer {
            status: 401,
            identity: None,
            challenge: false,
            persistent_auth_false: false,
            out_of_nowhere: false,
        };
        let Some(leg) = leg else {
            answer.identity = self.identity;
            if answer.identity.is_some() {
                answer.status = 200;
            }
            return answer;
        };
        self.identity = None;
        answer.out_of_nowhere = predecessor(leg) != self.asked_after.take() && leg.number > 0;
        if answer.out_of_nowhere {
            return answer;
        }
        if !leg.is_last() {
            self.asked_after = Some(leg);
            answer.challenge = true;
        } else if !leg.wrong_password {
            answer.status = 200;
            answer.identity = Some(leg.identity);
            if leg.scheme == Scheme::KerberosEachRequest {
                answer.persistent_auth_false = true;
            } else {
                self.identity = Some(leg.identity);
            }
        }
        answer
    }
}

/// The leg whose answer this one continues.
pub(super) fn predecessor(leg: Leg) -> Option<Leg> {
    leg.number
        .checked_sub(1)
        .map(|number| Leg { number, ..leg })
}

/// What the front sees of a leg.
pub(super) fn credentials(leg: Leg) -> Credentials {
    Credentials {
        scheme: match leg.scheme {
            Scheme::Ntlm => Word::Ntlm,
            Scheme::NegotiateThenNtlm | Scheme::NegotiateAtOnce => Word::Negotiate,
            Scheme::KerberosEachRequest => Word::Kerberos,
        },
        ntlm_message: leg.scheme.is_ntlm_message(leg.number),
        message_type: None,
    }
}
