//! The books: what each client connection proved to each group, and so what its answers may say.

use std::time::Duration;

use super::upstream::Answer;
use crate::pin::random_plan::Leg;
use crate::pin::{EndReason, State};

pub(super) type Outcome = Result<(), Violation>;

/// What must never happen.
#[derive(Debug)]
#[allow(dead_code)] // The fields are there to be printed.
pub(super) enum Violation {
    /// An answer was made for someone else than who this client connection proved to be.
    WrongIdentity {
        proved: Option<usize>,
        answered: Option<usize>,
    },
    /// A connection that carried one client's credentials was used for another.
    ForeignConnection { owner: u64, user: u64 },
    /// A leg arrived at a server that had not seen the leg before it, and no server had closed anything.
    HandshakeCut { leg: Leg },
    /// A request went out on an established pin that was over a limit.
    LimitIgnored { age: Duration, requests: u64 },
    /// A new login went out on a connection that carries another.
    LoginNotFresh { leg: Leg },
    /// A pin was ended for a reason that was none.
    EndedTooSoon { reason: EndReason, state: State },
    /// More or fewer connections are open than have an owner.
    Leak { open: usize, owned: usize },
    /// The idle order and the idle established pins are not the same.
    IdleOrder(&'static str),
}

/// One client connection and one group.
#[derive(Clone, Default)]
pub(super) struct Book {
    /// Who this client connection proved to be, on the upstream connection that it has now.
    pub(super) proved: Option<usize>,
    /// The last leg, if its answer asked for another.
    pub(super) asked_after: Option<Leg>,
    /// A server closed the connection of the login that is under way.
    pub(super) broken: bool,
}

impl Book {
    /// An answer must be made for who this book says; then the book is brought up to date.
    pub(super) fn check(&mut self, leg: Option<Leg>, answer: &Answer) -> Outcome {
        let answered = answer.identity;
        let proved = match leg {
            None => self.proved,
            Some(leg) => {
                self.broken &= leg.number > 0;
                if answer.out_of_nowhere && !self.broken {
                    return Err(Violation::HandshakeCut { leg });
                }
                let proves = leg.is_last() && !leg.wrong_password && !answer.out_of_nowhere;
                proves.then_some(leg.identity)
            }
        };
        if answered != proved {
            return Err(Violation::WrongIdentity { proved, answered });
        }
        if let Some(leg) = leg {
            self.proved = proved.filter(|_| !answer.persistent_auth_false);
            self.asked_after = (!leg.is_last() && !answer.out_of_nowhere).then_some(leg);
        }
        Ok(())
    }

    /// The pin of this client connection and group ended.
    pub(super) fn ended(&mut self, reason: EndReason) {
        self.proved = None;
        self.broken |= reason == EndReason::UpstreamClosed;
    }
}
