//! `ip_hash` and `hash` without `consistent`: a number from the key, modulo the sum of the weights.

use crc32fast::Hasher;

use super::peer::is_candidate;
use super::{ATTEMPTS, Balancer, PeerIndex, Question};

impl Balancer {
    /// The key is hashed again, from where it was, until it leads to a candidate. nginx does the same from one try of a
    /// request to the next; here each try walks the same way from its start.
    pub(super) fn ip_hash(&self, question: &Question) -> Option<PeerIndex> {
        // A client without an address (a unix socket) has this one.
        let key = match question.key {
            [] => &[0; 3],
            key => key,
        };
        let mut hash = 89;
        self.first_candidate(question, |_| {
            for byte in key {
                hash = (hash * 113 + u64::from(*byte)) % 6271;
            }
            hash
        })
    }

    /// The hash of Cache::Memcached: `(crc32(attempt key) >> 16) & 0x7fff`, added up over the attempts, the first of
    /// which goes without its number.
    pub(super) fn hash(&self, question: &Question) -> Option<PeerIndex> {
        let mut hash = 0u32;
        self.first_candidate(question, |attempt| {
            let mut crc = Hasher::new();
            if attempt > 0 {
                crc.update(attempt.to_string().as_bytes());
            }
            crc.update(question.key);
            hash = hash.wrapping_add(crc.finalize() >> 16 & 0x7fff);
            u64::from(hash)
        })
    }

    /// The first candidate that `hash` leads to, called with the number of the attempt.
    fn first_candidate(
        &self,
        question: &Question,
        mut hash: impl FnMut(u32) -> u64,
    ) -> Option<PeerIndex> {
        (0..ATTEMPTS).find_map(|attempt| {
            let point = hash(attempt).checked_rem(self.primary_weight)?;
            self.primary_at(point)
                .filter(|index| is_candidate(&self.peers, *index, question))
        })
    }
}
