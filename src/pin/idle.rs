//! The order in which a worker's idle established pins of one group are given up: the least recently used first.

/// A place in an [`IdleOrder`]; stale once removed (it carries a generation that is checked).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdleKey {
    _slot: u32,
    _generation: u32,
}

/// Least-recently-used order over entries `T` (who to tell), by an intrusive list in a slab. Every operation is O(1).
#[derive(Debug, Default)]
pub struct IdleOrder<T> {
    _entries: Vec<T>,
}

impl<T: Copy> IdleOrder<T> {
    /// Adds an entry as the most recently used.
    pub fn insert(&mut self, _entry: T) -> IdleKey {
        todo!()
    }

    /// Removes an entry; false if it is not there any more.
    pub fn remove(&mut self, _key: IdleKey) -> bool {
        todo!()
    }

    /// Removes and returns the least recently used entry if there are more than `limit`. Call until `None`.
    pub fn overflow(&mut self, _limit: usize) -> Option<T> {
        todo!()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
