//! Hash maps with a seed of the configuration: deterministic in a simulation, unpredictable in production.

use std::hash::Hash;

pub(crate) type Map<K, V> = hashbrown::HashMap<K, V, State>;

/// Builds hashers from the configured seed.
#[derive(Clone)]
pub(crate) struct State(foldhash::fast::FixedState);

impl State {
    pub(crate) fn new(seed: u64) -> Self {
        Self(foldhash::fast::FixedState::with_seed(seed))
    }
}

impl std::hash::BuildHasher for State {
    type Hasher = foldhash::fast::FoldHasher<'static>;

    fn build_hasher(&self) -> Self::Hasher {
        self.0.build_hasher()
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("State")
    }
}

pub(crate) fn new<K: Eq + Hash, V>(seed: u64) -> Map<K, V> {
    Map::with_hasher(State::new(seed))
}

/// Gives memory back after many removals.
pub(crate) trait ShrinkIfSparse {
    /// Shrinks the table if less than an eighth of it is used.
    fn shrink_if_sparse(&mut self);
}

impl<K: Eq + Hash, V> ShrinkIfSparse for Map<K, V> {
    fn shrink_if_sparse(&mut self) {
        if self.capacity() > SPARSE_MIN && self.len() * 8 < self.capacity() {
            self.shrink_to(self.len() * 2);
        }
    }
}

/// Tables up to this capacity are left alone.
pub(crate) const SPARSE_MIN: usize = 64;
