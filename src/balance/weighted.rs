//! Smooth weighted round robin, and `least_conn`, which uses it among equals.

use super::peer::{PeerState, is_candidate};
use super::{PeerIndex, Question};

/// The candidate whose turn it is.
pub(super) fn round_robin(
    peers: &mut [PeerState],
    among: &[PeerIndex],
    question: &Question,
) -> Option<PeerIndex> {
    take_turn(peers, among, |peers, index| {
        is_candidate(peers, index, question)
    })
}

/// The candidate with the fewest connections in use for its weight; among equals, the one whose turn it is.
pub(super) fn least_conn(
    peers: &mut [PeerState],
    among: &[PeerIndex],
    question: &Question,
) -> Option<PeerIndex> {
    let least = among
        .iter()
        .copied()
        .filter(|index| is_candidate(peers, *index, question))
        .min_by(|one, other| load_of(&peers[*one], &peers[*other]))?;
    take_turn(peers, among, |peers, index| {
        is_candidate(peers, index, question) && load_of(&peers[index], &peers[least]).is_eq()
    })
}

/// Each turn gives every peer that takes part its weight, and takes the sum from the one that is chosen, so that weights
/// 5, 1, 1 give `a a b a c a a` and never five in a row.
fn take_turn(
    peers: &mut [PeerState],
    among: &[PeerIndex],
    takes_part: impl Fn(&[PeerState], PeerIndex) -> bool,
) -> Option<PeerIndex> {
    let mut total = 0;
    let mut best: Option<PeerIndex> = None;
    for &index in among {
        if !takes_part(peers, index) {
            continue;
        }
        let state = &mut peers[index];
        state.current_weight += state.effective_weight;
        total += state.effective_weight;
        if state.effective_weight < i64::from(state.peer.weight) {
            state.effective_weight += 1;
        }
        let turn = state.current_weight;
        if best.is_none_or(|best| turn > peers[best].current_weight) {
            best = Some(index);
        }
    }
    let best = best?;
    peers[best].current_weight -= total;
    Some(best)
}

/// Compares connections per weight, without a division.
pub(super) fn load_of(one: &PeerState, other: &PeerState) -> std::cmp::Ordering {
    let scaled = |state: &PeerState, by: &PeerState| {
        u64::from(state.connections) * u64::from(by.peer.weight)
    };
    scaled(one, other).cmp(&scaled(other, one))
}
