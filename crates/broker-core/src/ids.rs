//! Identifiers: small, fixed-width, and never mixed up.

use std::fmt;

/// A shard of the broker: one thread that owns the sessions placed on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub(crate) u8);

impl ShardId {
    /// The shard with this index, or `None` at or above [`SHARDS_MAX`].
    #[must_use]
    pub fn new(index: usize) -> Option<Self> {
        u8::try_from(index)
            .ok()
            .filter(|&index| usize::from(index) < SHARDS_MAX)
            .map(Self)
    }

    /// The shard's index, from 0.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The most shards of one process: holders of a filter are a bit set of this many bits.
pub const SHARDS_MAX: usize = 64;

/// A set of shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct ShardSet(u64);

impl ShardSet {
    /// The empty set.
    pub(crate) const EMPTY: Self = Self(0);

    /// Whether no shard is in the set.
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `shard` is in the set.
    pub(crate) fn contains(self, shard: ShardId) -> bool {
        self.0 & (1 << shard.0) != 0
    }

    /// Adds `shard`.
    pub(crate) fn insert(&mut self, shard: ShardId) {
        self.0 |= 1 << shard.0;
    }

    /// Removes `shard`.
    pub(crate) fn remove(&mut self, shard: ShardId) {
        self.0 &= !(1 << shard.0);
    }

    /// The set without `shard`.
    pub(crate) fn without(mut self, shard: ShardId) -> Self {
        self.remove(shard);
        self
    }

    /// The shards of either set.
    pub(crate) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// How many shards are in the set.
    pub(crate) fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// The shards, in order.
    pub(crate) fn iter(self) -> impl Iterator<Item = ShardId> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let shard = u8::try_from(rest.trailing_zeros())
                .ok()
                .filter(|_| rest != 0)?;
            rest &= rest - 1;
            Some(ShardId(shard))
        })
    }
}

/// A topic filter with at least one subscriber.
///
/// Never used twice in a process, so that a message matched just before its filter went away
/// can't reach the subscribers of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilterId(pub(crate) u64);

/// A shared subscription: share name and filter, owned by one shard. Never used twice in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId {
    pub(crate) owner: ShardId,
    pub(crate) sequence: u64,
}

/// A session of one shard; stale keys are recognised by their generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl SessionKey {
    /// No session: slots are below this.
    pub(crate) const NONE: Self = Self {
        index: u32::MAX,
        generation: u32::MAX,
    };
}

/// A network connection or in-process client of one shard; stale keys are recognised by their generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionKey {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl ConnectionKey {
    /// The connection's place among those of its shard: dense, and used again by later connections.
    #[must_use]
    pub fn index(self) -> usize {
        self.index as usize
    }
}

/// A session anywhere in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionRef {
    pub(crate) shard: ShardId,
    pub(crate) key: SessionKey,
}

/// The identity of a message, given once at ingress and kept on every hop: the deduplication key
/// of exactly-once delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MsgId {
    /// The broker node the message entered at; 0 while there is one node only.
    pub node: u16,
    /// The start of that node; rises with every start.
    pub incarnation: u32,
    /// Sequence within the incarnation; the top byte is the shard.
    pub sequence: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shard_set_iterates_in_order() {
        let mut set = ShardSet::EMPTY;
        for index in [63, 0, 5] {
            set.insert(ShardId::new(index).expect("in range"));
        }
        let indices: Vec<_> = set.iter().map(ShardId::index).collect();
        assert_eq!(indices, [0, 5, 63]);
        assert_eq!(set.without(ShardId(5)).len(), 2);
        assert!(ShardId::new(64).is_none());
    }
}
