//! The literal children of a trie node.

use std::hash::Hasher;

use foldhash::SharedSeed;
use foldhash::fast::FoldHasher;
use hashbrown::HashTable;

use super::Node;
use crate::arena::{Arena, Id, Moves};

/// The ids of a node's literal children: inline while few, then in a hash table. The levels stand in the children.
pub(super) enum Children {
    Few {
        /// A byte of each child's hash, so that most of the others are told apart without reading them.
        tags: [u8; FEW_MAX],
        /// Invariant: what is `Some` comes first.
        ids: [Option<Id>; FEW_MAX],
    },
    Many(Box<HashTable<Child>>),
}

/// A child in a hash table.
pub(super) struct Child {
    /// Kept so that a table of a million children grows in milliseconds: without reading them.
    hash: LevelHash,
    id: Id,
}

impl Children {
    pub(super) const NONE: Children = Children::Few {
        tags: [0; FEW_MAX],
        ids: [None; FEW_MAX],
    };

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Children::Few { ids, .. } => ids[0].is_none(),
            Children::Many(table) => table.is_empty(),
        }
    }

    /// The child whose level is `level`.
    pub(super) fn find(&self, level: &[u8], hash: LevelHash, nodes: &Arena<Node>) -> Option<Id> {
        let is_it = |id: Id| nodes[id].level.as_bytes() == level;
        match self {
            Children::Few { tags, ids } => {
                for (tag, id) in tags.iter().zip(ids) {
                    let id = (*id)?;
                    if *tag == hash.tag() && is_it(id) {
                        return Some(id);
                    }
                }
                None
            }
            Children::Many(table) => {
                let is_it = |child: &Child| child.hash == hash && is_it(child.id);
                table.find(hash.spread(), is_it).map(|child| child.id)
            }
        }
    }

    /// Adds a child that is not there yet.
    pub(super) fn insert(&mut self, child: Child, hash_of: impl Fn(Id) -> LevelHash) {
        let spread = |child: &Child| child.hash.spread();
        match self {
            Children::Few { tags, ids } => {
                if let Some(place) = ids.iter().position(Option::is_none) {
                    tags[place] = child.hash.tag();
                    ids[place] = Some(child.id);
                    return;
                }
                let mut table = HashTable::with_capacity(FEW_MAX + 1);
                let few = ids.iter().flatten();
                let few = few.map(|id| Child::new(*id, hash_of(*id)));
                for child in few.chain([child]) {
                    table.insert_unique(child.hash.spread(), child, spread);
                }
                *self = Children::Many(Box::new(table));
            }
            Children::Many(table) => {
                table.insert_unique(child.hash.spread(), child, spread);
            }
        }
    }

    /// Removes a child; when few are left, or the table is mostly empty, memory is given back.
    pub(super) fn remove(&mut self, child: &Child) {
        match self {
            Children::Few { tags, ids } => {
                let count = ids.iter().flatten().count();
                if let Some(place) = ids.iter().position(|id| *id == Some(child.id)) {
                    tags.swap(place, count - 1);
                    ids.swap(place, count - 1);
                    ids[count - 1] = None;
                }
            }
            Children::Many(table) => {
                if let Ok(entry) = table.find_entry(child.hash.spread(), |c| c.id == child.id) {
                    entry.remove();
                }
                if table.len() < FEW_MAX {
                    let mut tags = [0; FEW_MAX];
                    let mut ids = [None; FEW_MAX];
                    for (place, child) in table.iter().enumerate() {
                        tags[place] = child.hash.tag();
                        ids[place] = Some(child.id);
                    }
                    *self = Children::Few { tags, ids };
                } else if table.len() * SHRINK_DIVISOR <= table.capacity() {
                    table.shrink_to(table.len() * 2, |child| child.hash.spread());
                }
            }
        }
    }

    pub(super) fn apply(&mut self, moves: &Moves) {
        match self {
            Children::Few { ids, .. } => ids.iter_mut().for_each(|id| moves.apply_to_option(id)),
            Children::Many(table) => {
                let ids = table.iter_mut().map(|child| &mut child.id);
                ids.for_each(|id| moves.apply(id));
            }
        }
    }

    /// Bytes allocated beside the node.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Children::Few { .. } => 0,
            Children::Many(table) => size_of::<HashTable<Child>>() + table.allocation_size(),
        }
    }
}

impl Child {
    pub(super) fn new(id: Id, hash: LevelHash) -> Child {
        Child { hash, id }
    }
}

/// Hashes levels by a seed, so that clients cannot choose levels that collide.
pub(super) struct LevelHasher {
    seed: u64,
    shared: SharedSeed,
}

impl LevelHasher {
    pub(super) fn new(seed: u64) -> LevelHasher {
        // The hash's constants have to come from the seed as well: with known ones, some inputs collide for any seed.
        LevelHasher {
            seed,
            shared: SharedSeed::from_u64(seed),
        }
    }

    pub(super) fn hash(&self, level: &[u8]) -> LevelHash {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.shared);
        hasher.write(level);
        let hash = hasher.finish();
        LevelHash((hash ^ (hash >> 32)) as u32)
    }
}

/// The hash of a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LevelHash(u32);

impl LevelHash {
    fn tag(self) -> u8 {
        self.0 as u8
    }

    /// The hash for a table, which uses the low bits and the topmost ones.
    fn spread(self) -> u64 {
        u64::from(self.0) << 32 | u64::from(self.0)
    }
}

/// What fits in 16 bytes beside the variant.
const FEW_MAX: usize = 3;

/// A table is shrunk when at most one of this many places is in use.
const SHRINK_DIVISOR: usize = 8;

const _: () = assert!(size_of::<Children>() == 16);
const _: () = assert!(size_of::<Child>() == 8);

#[cfg(test)]
mod tests {
    use super::*;

    /// So many children of one node, in an arena of their own.
    fn children(count: usize) -> (Children, Vec<Child>, Arena<Node>) {
        let hasher = LevelHasher::new(1);
        let mut nodes = Arena::new();
        let mut children = Children::NONE;
        let mut all = Vec::new();
        for number in 0..count {
            let id = nodes.insert(Node::new(&number.to_string(), None));
            let hash_of = |id| hasher.hash(nodes[id].level.as_bytes());
            children.insert(Child::new(id, hash_of(id)), hash_of);
            all.push(Child::new(id, hash_of(id)));
        }
        (children, all, nodes)
    }

    fn assert_found(children: &Children, expected: &[Child], nodes: &Arena<Node>) {
        for child in expected {
            let level = nodes[child.id].level.as_bytes();
            assert_eq!(children.find(level, child.hash, nodes), Some(child.id));
        }
    }

    #[test]
    fn children_are_inline_again_when_few_are_left() {
        let (mut children, mut all, nodes) = children(FEW_MAX + 2);
        assert!(matches!(children, Children::Many(_)));
        while all.len() >= FEW_MAX {
            assert_found(&children, &all, &nodes);
            children.remove(&all.pop().unwrap());
        }
        assert!(matches!(children, Children::Few { .. }));
        assert_eq!(children.heap_bytes(), 0);
        assert_found(&children, &all, &nodes);
        all.drain(..).for_each(|child| children.remove(&child));
        assert!(children.is_empty());
    }

    #[test]
    fn a_table_shrinks_with_what_is_in_it() {
        let (mut children, mut all, nodes) = children(10_000);
        let full_bytes = children.heap_bytes();
        while all.len() > 100 {
            children.remove(&all.pop().unwrap());
        }
        assert!(children.heap_bytes() < full_bytes / 8);
        assert_found(&children, &all, &nodes);
    }
}
