//! Where the trees keep their nodes: one `Vec`, ids of four bytes, and a free list.

use std::mem;
use std::num::NonZeroU32;
use std::ops::{Index, IndexMut};

/// Values in one allocation, reached by [`Id`]. What is removed leaves a hole for the next insert; when most of the
/// slots are holes, [`Arena::compact`] closes them.
pub(crate) struct Arena<T> {
    slots: Vec<Slot<T>>,
    /// The hole to fill next, which knows the one after it.
    next_free: Option<Id>,
    /// How many slots are not holes.
    len: usize,
}

impl<T> Arena<T> {
    pub(crate) const fn new() -> Arena<T> {
        Arena {
            slots: Vec::new(),
            next_free: None,
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn insert(&mut self, value: T) -> Id {
        self.len += 1;
        if let Some(id) = self.next_free {
            let hole = mem::replace(&mut self.slots[id.index()], Slot::Full(value));
            let Slot::Free { next } = hole else {
                unreachable!("the free list names free slots only")
            };
            self.next_free = next;
            return id;
        }
        if self.slots.len() == self.slots.capacity() {
            // `Vec` would double, and with that leave up to half of the largest part of a tree unused.
            let additional = self.slots.len() / GROWTH_DIVISOR + GROWTH_MIN;
            self.slots.reserve_exact(additional);
        }
        let id = Id::from_index(self.slots.len());
        self.slots.push(Slot::Full(value));
        id
    }

    pub(crate) fn remove(&mut self, id: Id) -> T {
        let hole = Slot::Free {
            next: self.next_free,
        };
        match mem::replace(&mut self.slots[id.index()], hole) {
            Slot::Full(value) => {
                self.next_free = Some(id);
                self.len -= 1;
                value
            }
            Slot::Free { .. } => unreachable!("ids are dropped with what they name"),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Id, &T)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(index, slot)| match slot {
            Slot::Full(value) => Some((Id::from_index(index), value)),
            Slot::Free { .. } => None,
        })
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().filter_map(|slot| match slot {
            Slot::Full(value) => Some(value),
            Slot::Free { .. } => None,
        })
    }

    /// Closes the holes when three quarters of the slots or more are holes, and gives their memory back. Every id the
    /// caller holds then has to go through the returned moves. The work is paid for by the removals that left the holes.
    pub(crate) fn compact(&mut self) -> Option<Moves> {
        if self.slots.len() < COMPACT_MIN || self.len * COMPACT_DIVISOR > self.slots.len() {
            return None;
        }
        let mut live = 0;
        let new_index = self.slots.iter().map(|slot| {
            let index = live;
            live += u32::from(matches!(slot, Slot::Full(_)));
            index
        });
        let moves = Moves {
            new_index: new_index.collect(),
        };
        self.slots.retain(|slot| matches!(slot, Slot::Full(_)));
        self.slots.shrink_to_fit();
        self.next_free = None;
        Some(moves)
    }

    /// Bytes of the allocation.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot<T>>()
    }
}

impl<T> Index<Id> for Arena<T> {
    type Output = T;

    fn index(&self, id: Id) -> &T {
        match &self.slots[id.index()] {
            Slot::Full(value) => value,
            Slot::Free { .. } => unreachable!("ids are dropped with what they name"),
        }
    }
}

impl<T> IndexMut<Id> for Arena<T> {
    fn index_mut(&mut self, id: Id) -> &mut T {
        match &mut self.slots[id.index()] {
            Slot::Full(value) => value,
            Slot::Free { .. } => unreachable!("ids are dropped with what they name"),
        }
    }
}

/// The name of a value in one [`Arena`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id(
    /// The slot's index plus one, so that an `Option<Id>` takes four bytes too.
    NonZeroU32,
);

impl Id {
    fn from_index(index: usize) -> Id {
        let number = u32::try_from(index + 1).ok().and_then(NonZeroU32::new);
        Id(number.expect("an arena of 2^32 slots would take more than 64 GiB"))
    }

    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// Where [`Arena::compact`] moved values to.
pub(crate) struct Moves {
    new_index: Vec<u32>,
}

impl Moves {
    pub(crate) fn apply(&self, id: &mut Id) {
        *id = Id::from_index(self.new_index[id.index()] as usize);
    }

    pub(crate) fn apply_to_option(&self, id: &mut Option<Id>) {
        if let Some(id) = id {
            self.apply(id);
        }
    }
}

enum Slot<T> {
    Full(T),
    Free { next: Option<Id> },
}

/// A full arena grows by one part in this many: at most a fifth of it is unused.
const GROWTH_DIVISOR: usize = 4;

/// The least an arena grows by, in slots.
const GROWTH_MIN: usize = 4;

/// An arena is compacted when at most one slot in this many is in use.
const COMPACT_DIVISOR: usize = 4;

/// Smaller arenas, in slots, are left as they are.
const COMPACT_MIN: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_filled_before_the_arena_grows() {
        let mut arena = Arena::new();
        let ids: Vec<Id> = (0..20).map(|value| arena.insert(value)).collect();
        let memory_bytes = arena.memory_bytes();
        assert_eq!(arena.remove(ids[3]), 3);
        assert_eq!(arena.remove(ids[7]), 7);
        assert_eq!(arena.len(), 18);
        assert_eq!(arena.insert(70), ids[7]);
        assert_eq!(arena.insert(30), ids[3]);
        assert_eq!(arena[ids[7]], 70);
        assert_eq!(arena.memory_bytes(), memory_bytes);
    }

    #[test]
    fn at_most_a_fifth_of_a_large_arena_is_unused() {
        let mut arena = Arena::new();
        for value in 0..100_000_u64 {
            arena.insert(value);
            if value > 1000 {
                let needed = arena.len() * size_of::<Slot<u64>>();
                assert!(arena.memory_bytes() * 79 / 100 <= needed);
            }
        }
    }

    #[test]
    fn compacting_keeps_every_value_and_gives_memory_back() {
        let mut arena = Arena::new();
        let ids: Vec<Id> = (0..1000).map(|value| arena.insert(value)).collect();
        let memory_bytes = arena.memory_bytes();
        for (value, id) in ids.iter().enumerate() {
            if value % 5 != 0 {
                arena.remove(*id);
                if arena.len() > 250 {
                    assert!(arena.compact().is_none());
                }
            }
        }
        let moves = arena.compact().unwrap();
        assert!(arena.memory_bytes() <= memory_bytes / 4);
        for (value, id) in ids.iter().enumerate().step_by(5) {
            let mut id = Some(*id);
            moves.apply_to_option(&mut id);
            assert_eq!(arena[id.unwrap()], value);
        }
        assert_eq!(arena.iter().count(), 200);
        assert!(arena.compact().is_none());
        // The free list is that of the compacted arena.
        let id = arena.insert(7);
        assert_eq!(arena[id], 7);
        assert_eq!(arena.len(), 201);
    }
}
