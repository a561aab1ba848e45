//! What is known of one peer.

use std::time::Instant;

use super::{Availability, Peer, PeerIndex, Question};

#[derive(Debug)]
pub(super) struct PeerState {
    pub(super) peer: Peer,
    /// The weight less what failures took from it; choosing the peer's group gives it back one by one.
    /// `0 <= effective_weight <= peer.weight`
    pub(super) effective_weight: i64,
    /// The peer's turn in smooth weighted round robin: the highest is next.
    pub(super) current_weight: i64,
    /// Connections in use.
    pub(super) connections: u32,
    /// Since they were last forgotten.
    fails: u32,
    last_failure: Option<Instant>,
    /// When it last failed, or was last chosen after `fail_timeout` without either.
    checked: Option<Instant>,
}

impl PeerState {
    pub(super) fn new(peer: Peer) -> Self {
        Self {
            effective_weight: i64::from(peer.weight),
            current_weight: 0,
            connections: 0,
            fails: 0,
            last_failure: None,
            checked: None,
            peer,
        }
    }

    pub(super) fn is_available(&self, now: Instant) -> bool {
        let failed = self.has_failed() && !self.was_unchecked_for_fail_timeout(now);
        !self.peer.down && !failed && !self.is_full()
    }

    /// What is known of it. One that failed too often is one that failed until a request to it succeeds.
    pub(super) fn availability(&self) -> Availability {
        if self.peer.down {
            Availability::Down
        } else if self.has_failed() {
            Availability::Failed
        } else if self.is_full() {
            Availability::Full
        } else {
            Availability::Up
        }
    }

    fn has_failed(&self) -> bool {
        self.peer.max_fails > 0 && self.fails >= self.peer.max_fails
    }

    fn is_full(&self) -> bool {
        self.peer.max_conns > 0 && self.connections >= self.peer.max_conns
    }

    /// A request is going to be sent to it. If it has failed too often, that request is the trial, and no other
    /// follows it for another `fail_timeout`.
    pub(super) fn chosen(&mut self, now: Instant) {
        if self.was_unchecked_for_fail_timeout(now) {
            self.checked = Some(now);
        }
    }

    /// Forgets failures once `fail_timeout` has passed after the last of them. (`None` is before every `Some`.)
    pub(super) fn succeeded(&mut self) {
        if self.last_failure < self.checked {
            self.fails = 0;
        }
    }

    /// True if it has failed too often now.
    pub(super) fn failed(&mut self, now: Instant) -> bool {
        self.fails = self.fails.saturating_add(1);
        self.last_failure = Some(now);
        self.checked = Some(now);
        let max_fails = self.peer.max_fails;
        if max_fails == 0 {
            return false;
        }
        let share = i64::from(self.peer.weight / max_fails);
        self.effective_weight = (self.effective_weight - share).max(0);
        self.fails >= max_fails
    }

    fn was_unchecked_for_fail_timeout(&self, now: Instant) -> bool {
        self.checked
            .is_none_or(|checked| now.saturating_duration_since(checked) > self.peer.fail_timeout)
    }
}

/// Whether the question may be answered with this peer.
pub(super) fn is_candidate(peers: &[PeerState], index: PeerIndex, question: &Question) -> bool {
    !question.tried.contains(&index) && peers[index].is_available(question.now)
}
