//! What the wall clock has said: Message Expiry goes by it, and somebody may set it.

/// The wall clock over the run, in milliseconds since its beginning.
#[derive(Debug)]
pub(super) struct Wall {
    jumps: Vec<Jump>,
}

/// From `at_ms` on the wall clock is ahead of ticks by `offset_ms`.
#[derive(Clone, Copy, Debug)]
struct Jump {
    at_ms: u64,
    offset_ms: i64,
}

impl Wall {
    pub(super) fn new() -> Self {
        let begins = Jump {
            at_ms: 0,
            offset_ms: 0,
        };
        Self {
            jumps: vec![begins],
        }
    }

    pub(super) fn set(&mut self, at_ms: u64, offset_ms: i64) {
        self.jumps.push(Jump { at_ms, offset_ms });
    }

    /// What it says at `now_ms`, which is not before the last jump. May be negative.
    pub(super) fn at(&self, now_ms: u64) -> i64 {
        let offset_ms = self.jumps.last().map_or(0, |jump| jump.offset_ms);
        now_ms as i64 + offset_ms
    }

    /// The least it has said from one moment to another.
    pub(super) fn least(&self, from_ms: u64, to_ms: u64) -> i64 {
        self.spans(from_ms, to_ms)
            .map(|span| span.first_ms)
            .min()
            .unwrap_or(i64::MIN)
    }

    /// The most it has said from one moment to another.
    pub(super) fn most(&self, from_ms: u64, to_ms: u64) -> i64 {
        self.spans(from_ms, to_ms)
            .map(|span| span.last_ms)
            .max()
            .unwrap_or(i64::MAX)
    }

    /// What it said between jumps, as far as that is within the interval.
    fn spans(&self, from_ms: u64, to_ms: u64) -> impl Iterator<Item = Span> {
        self.jumps
            .iter()
            .enumerate()
            .filter_map(move |(index, jump)| {
                let ends_ms = self
                    .jumps
                    .get(index + 1)
                    .map_or(u64::MAX, |next| next.at_ms);
                let first_ms = jump.at_ms.max(from_ms);
                let last_ms = ends_ms.min(to_ms);
                (first_ms <= last_ms).then_some(Span {
                    first_ms: first_ms as i64 + jump.offset_ms,
                    last_ms: last_ms as i64 + jump.offset_ms,
                })
            })
    }
}

#[derive(Clone, Copy, Debug)]
struct Span {
    first_ms: i64,
    last_ms: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_cover_both_sides_of_a_jump() {
        let mut wall = Wall::new();
        wall.set(100, -50);
        wall.set(200, 1_000);
        assert_eq!(wall.at(250), 1_250);
        assert_eq!((wall.least(20, 90), wall.most(20, 90)), (20, 90));
        assert_eq!((wall.least(90, 110), wall.most(90, 110)), (50, 100));
        assert_eq!((wall.least(150, 250), wall.most(150, 250)), (100, 1_250));
    }
}
