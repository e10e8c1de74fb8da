//! A simulated network link: two byte pipes with latency and a bounded capacity.

use std::collections::VecDeque;

/// One direction of a link. Bytes arrive in order, in pieces of any size, after the latency.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    pieces: VecDeque<Piece>,
    length: usize,
    /// Nothing more comes after what is under way.
    ended: bool,
}

#[derive(Debug)]
struct Piece {
    arrives_ms: u64,
    bytes: VecDeque<u8>,
}

impl Pipe {
    /// Bytes under way.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Puts bytes under way.
    pub(crate) fn push(&mut self, arrives_ms: u64, bytes: &[u8]) {
        if self.ended || bytes.is_empty() {
            return;
        }
        // Bytes never overtake each other.
        let floor = self.pieces.back().map_or(0, |piece| piece.arrives_ms);
        self.pieces.push_back(Piece {
            arrives_ms: arrives_ms.max(floor),
            bytes: bytes.iter().copied().collect(),
        });
        self.length += bytes.len();
    }

    /// Bytes that have arrived.
    pub(crate) fn arrived(&self, now_ms: u64) -> usize {
        self.pieces
            .iter()
            .take_while(|piece| piece.arrives_ms <= now_ms)
            .map(|piece| piece.bytes.len())
            .sum()
    }

    /// Takes up to `count` bytes that have arrived.
    pub(crate) fn take(&mut self, now_ms: u64, count: usize) -> Vec<u8> {
        let mut taken = Vec::with_capacity(count.min(self.length));
        while taken.len() < count {
            let Some(piece) = self
                .pieces
                .front_mut()
                .filter(|piece| piece.arrives_ms <= now_ms)
            else {
                break;
            };
            let step = piece.bytes.len().min(count - taken.len());
            taken.extend(piece.bytes.drain(..step));
            if piece.bytes.is_empty() {
                self.pieces.pop_front();
            }
        }
        self.length -= taken.len();
        taken
    }

    /// Loses all but the first `kept` bytes under way, and ends.
    pub(crate) fn cut(&mut self, kept: usize) {
        let mut left = kept;
        for piece in &mut self.pieces {
            let step = piece.bytes.len().min(left);
            piece.bytes.truncate(step);
            left -= step;
        }
        self.pieces.retain(|piece| !piece.bytes.is_empty());
        self.length = self.length.min(kept);
        self.ended = true;
    }

    /// Ends after what is under way.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    /// Whether the reader sees the end now: everything was taken, and nothing more comes.
    pub(crate) fn is_over(&self) -> bool {
        self.ended && self.length == 0
    }
}

/// A link between a client and the broker.
#[derive(Debug)]
pub(crate) struct Link {
    /// From the client.
    pub(crate) up: Pipe,
    /// To the client.
    pub(crate) down: Pipe,
    pub(crate) latency_ms: u64,
    /// Bytes each pipe takes before its writer has to wait.
    pub(crate) capacity: usize,
    /// Half-open: nothing moves in either direction, and nobody is told.
    pub(crate) frozen: bool,
    /// The client does not read.
    pub(crate) stalled: bool,
}

impl Link {
    pub(crate) fn new(latency_ms: u64, capacity: usize) -> Self {
        Self {
            up: Pipe::default(),
            down: Pipe::default(),
            latency_ms,
            capacity,
            frozen: false,
            stalled: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_arrive_in_order_after_the_latency_and_a_cut_keeps_a_prefix() {
        let mut pipe = Pipe::default();
        pipe.push(10, b"abc");
        pipe.push(5, b"def");
        assert_eq!(pipe.arrived(9), 0);
        assert_eq!(pipe.arrived(10), 6, "a later write does not overtake");
        assert_eq!(pipe.take(10, 2), b"ab");
        pipe.cut(2);
        assert!(!pipe.is_over());
        assert_eq!(pipe.take(10, 9), b"cd");
        assert!(pipe.is_over());
    }
}
