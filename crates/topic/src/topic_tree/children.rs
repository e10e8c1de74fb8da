//! The children of a tree node, in order of their levels.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::arena::{Id, Moves};
use crate::level_text::LevelText;

/// A node's children by level, in bytewise order: a sorted `Vec` while few, then a B-tree.
pub(super) enum Children {
    Few(Vec<Child>),
    #[expect(
        clippy::box_collection,
        reason = "keeps nodes small, of which few have many children"
    )]
    Many(Box<BTreeMap<LevelText, Id>>),
}

/// One child.
pub(super) struct Child {
    level: LevelText,
    id: Id,
}

impl Children {
    pub(super) const NONE: Children = Children::Few(Vec::new());

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Children::Few(children) => children.is_empty(),
            Children::Many(children) => children.is_empty(),
        }
    }

    pub(super) fn get(&self, level: &str) -> Option<Id> {
        match self {
            Children::Few(children) => {
                let place = place(children, level.as_bytes()).ok()?;
                Some(children[place].id)
            }
            Children::Many(children) => children.get(level.as_bytes()).copied(),
        }
    }

    /// The first child at or after `bound` in order.
    pub(super) fn next(&self, bound: Bound<&str>) -> Option<(&str, Id)> {
        let bound = bound.map(str::as_bytes);
        match self {
            Children::Few(children) => {
                let start = match bound {
                    Bound::Unbounded => 0,
                    Bound::Included(level) => place(children, level).unwrap_or_else(|place| place),
                    Bound::Excluded(level) => {
                        place(children, level).map_or_else(|place| place, |place| place + 1)
                    }
                };
                let child = children.get(start)?;
                Some((child.level.as_str(), child.id))
            }
            Children::Many(children) => {
                let range = (bound, Bound::Unbounded);
                let (level, id) = children.range::<[u8], _>(range).next()?;
                Some((level.as_str(), *id))
            }
        }
    }

    /// Adds a child that is not there yet.
    pub(super) fn insert(&mut self, level: &str, id: Id) {
        let child = Child {
            level: LevelText::new(level),
            id,
        };
        match self {
            Children::Few(children) if children.len() < FEW_MAX => {
                let place = place(children, level.as_bytes()).unwrap_or_else(|place| place);
                // Exactly, as most nodes have one child or a few for good.
                children.reserve_exact(1);
                children.insert(place, child);
            }
            Children::Few(children) => {
                let all = children.drain(..).chain([child]);
                let map = all.map(|child| (child.level, child.id)).collect();
                *self = Children::Many(Box::new(map));
            }
            Children::Many(children) => {
                children.insert(child.level, child.id);
            }
        }
    }

    pub(super) fn remove(&mut self, level: &str) {
        match self {
            Children::Few(children) => {
                if let Ok(place) = place(children, level.as_bytes()) {
                    children.remove(place);
                    children.shrink_to_fit();
                }
            }
            Children::Many(children) => {
                children.remove(level.as_bytes());
                if children.len() <= FEW_AGAIN_MAX {
                    let few = std::mem::take(&mut **children).into_iter();
                    let mut few: Vec<Child> = few.map(|(level, id)| Child { level, id }).collect();
                    few.shrink_to_fit();
                    *self = Children::Few(few);
                }
            }
        }
    }

    pub(super) fn apply(&mut self, moves: &Moves) {
        match self {
            Children::Few(children) => {
                let ids = children.iter_mut().map(|child| &mut child.id);
                ids.for_each(|id| moves.apply(id));
            }
            Children::Many(children) => children.values_mut().for_each(|id| moves.apply(id)),
        }
    }

    /// Bytes allocated beside the node, without the texts of long levels. An estimate for B-trees.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Children::Few(children) => children.capacity() * size_of::<Child>(),
            Children::Many(children) => {
                size_of::<BTreeMap<LevelText, Id>>() + children.len() * MAP_ENTRY_BYTES
            }
        }
    }
}

fn place(children: &[Child], level: &[u8]) -> Result<usize, usize> {
    children.binary_search_by(|child| child.level.as_bytes().cmp(level))
}

/// The most children in a sorted `Vec`, where each insert moves half of them.
const FEW_MAX: usize = 8;

/// When a B-tree turns back into a `Vec`; below `FEW_MAX`, so that it does not go to and fro.
const FEW_AGAIN_MAX: usize = 4;

/// What an entry takes in a B-tree that is filled to two thirds, its share of inner nodes included.
const MAP_ENTRY_BYTES: usize = 48;

const _: () = assert!(size_of::<Children>() == 24);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Arena;

    #[test]
    fn children_are_in_order_whether_few_or_many() {
        let mut ids = Arena::new();
        let mut children = Children::NONE;
        // 7 and 17 have no common divisor: all numbers below 17, mixed.
        let mut levels: Vec<String> = (0..17).map(|n| (n * 7 % 17).to_string()).collect();
        for level in &levels {
            children.insert(level, ids.insert(()));
        }
        assert!(matches!(children, Children::Many(_)));
        while !levels.is_empty() {
            let mut sorted = levels.clone();
            sorted.sort();
            let mut bound = Bound::Unbounded;
            for level in &sorted {
                let (found, id) = children.next(bound).unwrap();
                assert_eq!(found, level);
                assert_eq!(children.get(level), Some(id));
                assert_eq!(children.next(Bound::Included(level)).unwrap().0, level);
                bound = Bound::Excluded(level.as_str());
            }
            assert!(children.next(bound).is_none());
            children.remove(&levels.pop().unwrap());
        }
        assert!(matches!(children, Children::Few(_)));
        assert!(children.is_empty());
        assert_eq!(children.heap_bytes(), 0);
    }
}
