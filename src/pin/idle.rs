//! The order in which a worker's idle established pins of one group are given up: the least recently used first.

/// A place in an [`IdleOrder`]; stale once removed (it carries a generation that is checked).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdleKey {
    slot: u32,
    generation: u32,
}

/// Least-recently-used order over entries `T` (who to tell), by an intrusive list in a slab. Every operation is O(1).
///
/// Memory grows to the largest number of entries that were here at once.
#[derive(Debug)]
pub struct IdleOrder<T> {
    slots: Vec<Slot<T>>,
    /// First of the vacant slots, which are linked by `newer`; [`NONE`] if all are taken.
    vacant: u32,
    /// Ends of the list of occupied slots; both [`NONE`] if there is none.
    oldest: u32,
    newest: u32,
    len: usize,
}

/// No slot. A worker would run out of descriptors long before it had that many.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Slot<T> {
    /// `None`: the slot is vacant.
    entry: Option<T>,
    /// Counts how often the slot became vacant: a key of an earlier tenant does not open it.
    generation: u32,
    older: u32,
    newer: u32,
}

impl<T> Default for IdleOrder<T> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            vacant: NONE,
            oldest: NONE,
            newest: NONE,
            len: 0,
        }
    }
}

impl<T: Copy> IdleOrder<T> {
    /// Adds an entry as the most recently used.
    pub fn insert(&mut self, entry: T) -> IdleKey {
        let slot = self.vacant_slot();
        let older = self.newest;
        let place = &mut self.slots[slot as usize];
        place.entry = Some(entry);
        place.older = older;
        place.newer = NONE;
        let generation = place.generation;
        self.link_newer(older, slot);
        self.newest = slot;
        self.len += 1;
        IdleKey { slot, generation }
    }

    /// Removes an entry; false if it is not there any more.
    pub fn remove(&mut self, key: IdleKey) -> bool {
        let occupied = self
            .slots
            .get(key.slot as usize)
            .is_some_and(|slot| slot.generation == key.generation && slot.entry.is_some());
        occupied && self.vacate(key.slot).is_some()
    }

    /// Removes and returns the least recently used entry if there are more than `limit`. Call until `None`.
    pub fn overflow(&mut self, limit: usize) -> Option<T> {
        if self.len > limit {
            self.vacate(self.oldest)
        } else {
            None
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn vacant_slot(&mut self) -> u32 {
        if self.vacant == NONE {
            self.slots.push(Slot {
                entry: None,
                generation: 0,
                older: NONE,
                newer: NONE,
            });
            return (self.slots.len() - 1) as u32;
        }
        let slot = self.vacant;
        self.vacant = self.slots[slot as usize].newer;
        slot
    }

    fn vacate(&mut self, slot: u32) -> Option<T> {
        let place = self.slots.get_mut(slot as usize)?;
        let entry = place.entry.take()?;
        let (older, newer) = (place.older, place.newer);
        place.generation = place.generation.wrapping_add(1);
        place.newer = self.vacant;
        self.vacant = slot;
        self.link_newer(older, newer);
        self.link_older(newer, older);
        self.len -= 1;
        Some(entry)
    }

    /// Says to `slot`, or to the list if there is no slot, which one is next newer.
    fn link_newer(&mut self, slot: u32, newer: u32) {
        match self.slots.get_mut(slot as usize) {
            Some(place) => place.newer = newer,
            None => self.oldest = newer,
        }
    }

    /// Says to `slot`, or to the list if there is no slot, which one is next older.
    fn link_older(&mut self, slot: u32, older: u32) {
        match self.slots.get_mut(slot as usize) {
            Some(place) => place.older = older,
            None => self.newest = older,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut order = IdleOrder::default();
        let keys = ["a", "b", "c", "d"].map(|name| order.insert(name));
        assert!(order.remove(keys[1]));
        assert!(order.remove(keys[0]));
        order.insert("a");
        assert_eq!(order.overflow(3), None);
        assert_eq!(order.overflow(1), Some("c"));
        assert_eq!(order.overflow(1), Some("d"));
        assert_eq!(order.overflow(1), None);
        assert_eq!(order.overflow(0), Some("a"));
        assert_eq!(order.overflow(0), None);
        assert!(order.is_empty());
    }

    #[test]
    fn a_stale_key_removes_nothing() {
        let mut order = IdleOrder::default();
        let stale = order.insert(1);
        assert!(order.remove(stale));
        assert!(!order.remove(stale));
        let fresh = order.insert(2);
        assert_eq!(stale.slot, fresh.slot, "the slot is used again");
        assert!(!order.remove(stale));
        assert_eq!(order.len(), 1);
        assert_eq!(order.overflow(0), Some(2));
        assert!(!order.remove(fresh), "evicted is gone as well");
        let elsewhere = IdleKey {
            slot: 17,
            generation: 0,
        };
        assert!(!order.remove(elsewhere));
    }

    proptest! {
        /// Against the plainest thing that does the same: a vector in order of use.
        #[test]
        fn does_what_a_vector_does(steps in prop::collection::vec((0..4u8, any::<prop::sample::Index>()), 0..400)) {
            let mut order = IdleOrder::default();
            let mut model: Vec<(u32, IdleKey)> = Vec::new();
            let mut gone = Vec::new();
            for (serial, (step, which)) in steps.into_iter().enumerate() {
                let serial = serial as u32;
                match step {
                    0 | 1 => model.push((serial, order.insert(serial))),
                    2 if !model.is_empty() => {
                        let (_, key) = model.remove(which.index(model.len()));
                        prop_assert!(order.remove(key));
                        gone.push(key);
                    }
                    2 => prop_assert!(order.is_empty()),
                    _ => {
                        let limit = which.index(12);
                        let expected = (model.len() > limit).then(|| model.remove(0));
                        prop_assert_eq!(order.overflow(limit), expected.map(|(entry, _)| entry));
                        gone.extend(expected.map(|(_, key)| key));
                    }
                }
                prop_assert_eq!(order.len(), model.len());
                for key in &gone {
                    prop_assert!(!order.remove(*key));
                }
            }
        }
    }
}
