//! Which shard owns what.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::FixedState;

use crate::ShardId;

/// The shard that owns the session of `client_id`.
///
/// `seed` is one for the whole broker; choose it at random, because clients pick their ids.
#[must_use]
pub fn placement(client_id: &str, seed: u64, shards: usize) -> ShardId {
    shard_of(client_id, seed, shards)
}

/// The shard that owns what `key` names.
pub(crate) fn shard_of(key: impl Hash, seed: u64, shards: usize) -> ShardId {
    let hash = FixedState::with_seed(seed).hash_one(key);
    // The upper half of the product spreads the hash evenly over the shards.
    let index = (u128::from(hash) * shards as u128) >> 64;
    ShardId::new(index as usize).expect("an index below the number of shards")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_ids_spread_over_all_shards_and_depend_on_the_seed() {
        let mut counts = [0_u32; 8];
        for client in 0..8_000 {
            counts[placement(&format!("client-{client}"), 1, 8).index()] += 1;
        }
        assert!(
            counts.iter().all(|&count| (700..1_300).contains(&count)),
            "{counts:?}"
        );
        let moved = (0..100)
            .filter(|client| {
                let id = format!("client-{client}");
                placement(&id, 1, 8) != placement(&id, 2, 8)
            })
            .count();
        assert!(moved > 50);
    }
}
