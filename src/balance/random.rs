//! `random`, and `random two`.

use super::peer::is_candidate;
use super::weighted::load_of;
use super::{ATTEMPTS, Balancer, PeerIndex, Question};

impl Balancer {
    /// A candidate by lot, by weight.
    pub(super) fn random(
        &self,
        question: &Question,
        mut random: impl FnMut(u64) -> u64,
    ) -> Option<PeerIndex> {
        (0..ATTEMPTS).find_map(|_| self.drawn(question, &mut random))
    }

    /// Of two different candidates by lot, the one with fewer connections for its weight; the second if they are equal.
    pub(super) fn random_two(
        &self,
        question: &Question,
        mut random: impl FnMut(u64) -> u64,
    ) -> Option<PeerIndex> {
        let mut first: Option<PeerIndex> = None;
        (0..ATTEMPTS).find_map(|_| {
            let drawn = self.drawn(question, &mut random)?;
            match first {
                None => {
                    first = Some(drawn);
                    None
                }
                Some(first) if first == drawn => None,
                Some(first) if load_of(&self.peers[drawn], &self.peers[first]).is_gt() => {
                    Some(first)
                }
                Some(_) => Some(drawn),
            }
        })
    }

    /// One draw; `None` if it hit no candidate.
    fn drawn(&self, question: &Question, random: &mut impl FnMut(u64) -> u64) -> Option<PeerIndex> {
        if self.primary_weight == 0 {
            return None;
        }
        self.primary_at(random(self.primary_weight))
            .filter(|index| is_candidate(&self.peers, *index, question))
    }
}
