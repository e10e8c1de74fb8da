//! The memory a match works in.

use super::children::{LevelHash, LevelHasher};
use crate::arena::Id;
use crate::levels::SEPARATOR_BYTE;

/// The memory that [`FilterTrie::for_each_match`](super::FilterTrie::for_each_match) works in.
///
/// Keep one and pass it to every match, of any trie: once it has seen a topic as deep, a match allocates nothing. It
/// keeps at most 20 KiB between matches.
#[derive(Debug, Default)]
pub struct MatchScratch {
    /// The topic's levels, as far down as the trie had nodes to compare with.
    levels: Vec<LevelSpan>,
    /// Where the first level that is not in `levels` starts in the topic; past its end when all are.
    next_start: usize,
    /// Nodes that match the topic's first levels, still to be visited.
    pub(super) pending: Vec<Visit>,
}

impl MatchScratch {
    /// Memory for a first match; allocates nothing yet.
    pub const fn new() -> MatchScratch {
        MatchScratch {
            levels: Vec::new(),
            next_start: 0,
            pending: Vec::new(),
        }
    }

    pub(super) fn start(&mut self) {
        self.levels.clear();
        self.next_start = 0;
        self.pending.clear();
    }

    /// Gives back what one unusually deep topic needed.
    pub(super) fn finish(&mut self) {
        if self.levels.capacity() > KEPT_LEVELS_MAX {
            self.levels = Vec::new();
        }
        if self.pending.capacity() > KEPT_LEVELS_MAX {
            self.pending = Vec::new();
        }
    }

    /// The level at `depth` of `topic`, or `None` past its last one. `depth` is at most one more than asked before.
    pub(super) fn level(
        &mut self,
        depth: usize,
        topic: &[u8],
        hasher: &LevelHasher,
    ) -> Option<LevelSpan> {
        if let Some(level) = self.levels.get(depth) {
            return Some(*level);
        }
        let start = self.next_start;
        let rest = topic.get(start..)?;
        let len = rest.iter().position(|byte| *byte == SEPARATOR_BYTE);
        let end = start + len.unwrap_or(rest.len());
        let level = LevelSpan {
            start: start as u32,
            end: end as u32,
            hash: hasher.hash(&topic[start..end]),
        };
        self.levels.push(level);
        self.next_start = end + 1;
        Some(level)
    }
}

/// One level of the topic.
#[derive(Clone, Copy, Debug)]
pub(super) struct LevelSpan {
    /// Byte offsets in the topic, which is shorter than 2^16.
    start: u32,
    end: u32,
    pub(super) hash: LevelHash,
}

impl LevelSpan {
    pub(super) fn of(self, topic: &[u8]) -> &[u8] {
        &topic[self.start as usize..self.end as usize]
    }
}

/// A node that matches the topic's first `depth` levels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Visit {
    pub(super) node: Id,
    pub(super) depth: u32,
}

/// Kept between matches, of each of both vectors: more than any server's usual limit of levels.
const KEPT_LEVELS_MAX: usize = 1024;
