//! [`Backlog`]: the part of a queue that is on the disk only, as positions and sizes.

use std::collections::VecDeque;

use crate::holders::put_varint;
use crate::record::Position;

/// Places and costs of messages that can be read back, first in, first out, at about three bytes a message.
///
/// Each entry is two varints: the distance from the place before, which is above it, and the cost.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    /// Whole entries; the first chunk is read from `read` on.
    chunks: VecDeque<Vec<u8>>,
    read: usize,
    /// The place before the first entry, and that of the last one.
    before_first: u64,
    last: u64,
    len: usize,
    cost: usize,
}

/// An entry of a [`Backlog`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spilled {
    pub(crate) position: Position,
    /// What the message counts with in the bounds of its queue.
    pub(crate) cost: usize,
}

impl Backlog {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What all messages in it count with.
    pub(crate) fn cost(&self) -> usize {
        self.cost
    }

    /// Adds an entry behind all others; its place is above theirs.
    pub(crate) fn push_back(&mut self, spilled: Spilled) {
        let Spilled { position, cost } = spilled;
        if self.is_empty() {
            self.last = self.before_first;
        }
        debug_assert!(position.get() > self.last, "positions rise in a queue");
        let has_room = |chunk: &Vec<u8>| chunk.len() + ENTRY_BYTES_MAX <= CHUNK_BYTES;
        if !self.chunks.back().is_some_and(has_room) {
            self.chunks.push_back(Vec::new());
        }
        if let Some(chunk) = self.chunks.back_mut() {
            put_varint(chunk, position.get() - self.last);
            put_varint(chunk, cost as u64);
        }
        self.last = position.get();
        self.len += 1;
        self.cost += cost;
    }

    /// The entry that is next.
    pub(crate) fn front(&self) -> Option<Spilled> {
        self.decode().map(|(spilled, _)| spilled)
    }

    /// Takes the entry that is next.
    pub(crate) fn pop_front(&mut self) -> Option<Spilled> {
        let (spilled, read) = self.decode()?;
        self.read = read;
        self.before_first = spilled.position.get();
        self.len -= 1;
        self.cost -= spilled.cost;
        if self.chunks.front().is_some_and(|chunk| read == chunk.len()) {
            self.chunks.pop_front();
            self.read = 0;
            if self.chunks.is_empty() {
                self.chunks = VecDeque::new();
            }
        }
        Some(spilled)
    }

    fn decode(&self) -> Option<(Spilled, usize)> {
        let chunk = self.chunks.front()?;
        let mut read = self.read;
        let distance = varint(chunk, &mut read)?;
        let cost = varint(chunk, &mut read)?;
        let spilled = Spilled {
            position: Position::new(self.before_first + distance)?,
            cost: usize::try_from(cost).ok()?,
        };
        Some((spilled, read))
    }
}

fn varint(bytes: &[u8], read: &mut usize) -> Option<u64> {
    let mut value = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let byte = *bytes.get(*read)?;
        *read += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Bytes of a chunk, the unit in which memory is taken and given back.
const CHUNK_BYTES: usize = 4_096;
/// Two varints of 64 bits.
const ENTRY_BYTES_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spilled(position: u64, cost: usize) -> Spilled {
        Spilled {
            position: Position::new(position).expect("not 0"),
            cost,
        }
    }

    proptest! {
        #[test]
        fn a_backlog_is_a_queue(steps in prop::collection::vec((any::<bool>(), 1_u64..1 << 30, 0_usize..1 << 20), 0..4_000)) {
            let mut backlog = Backlog::default();
            let mut model = VecDeque::new();
            let mut position = 0;
            for (push, distance, cost) in steps {
                if push {
                    position += distance;
                    backlog.push_back(spilled(position, cost));
                    model.push_back(spilled(position, cost));
                } else {
                    prop_assert_eq!(backlog.front(), model.front().copied());
                    prop_assert_eq!(backlog.pop_front(), model.pop_front());
                }
                prop_assert_eq!(backlog.len(), model.len());
                prop_assert_eq!(backlog.cost(), model.iter().map(|spilled| spilled.cost).sum::<usize>());
            }
        }
    }

    #[test]
    fn a_message_costs_a_few_bytes() {
        let mut backlog = Backlog::default();
        for message in 1..=100_000 {
            backlog.push_back(spilled(message * 64, 200));
        }
        let bytes: usize = backlog.chunks.iter().map(Vec::capacity).sum();
        assert!(bytes < 500_000, "{bytes} bytes for 100,000 messages");
    }
}
