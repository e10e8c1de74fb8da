//! [`Tracker`]: which messages of one publisher have come, and in which order.

use std::collections::BTreeMap;
use std::ops::Range;

/// What one receiver, or one group of receivers, has seen of one publisher.
///
/// Messages in order cost no memory; each gap costs an entry until it is filled.
#[derive(Debug)]
pub(crate) struct Tracker {
    /// One more than the highest sequence number that has come.
    next: u32,
    /// Ranges below `next` that have not come, by their start. Invariants: none is empty, none touches another, and
    /// there are at most `gaps_max`.
    gaps: BTreeMap<u32, u32>,
    gaps_max: usize,
}

/// How a message came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It is the next one.
    InOrder,
    /// It came, and those before it did not.
    AfterGap(Range<u32>),
    /// A later one has come before it.
    Late,
    /// It has come before.
    Duplicate,
}

impl Tracker {
    /// Nothing has come. With more gaps than `gaps_max` at a time the oldest is forgotten: what fills it later counts
    /// as a duplicate.
    pub(crate) fn new(gaps_max: usize) -> Self {
        Self {
            next: 0,
            gaps: BTreeMap::new(),
            gaps_max,
        }
    }

    /// Takes note of a message.
    pub(crate) fn note(&mut self, sequence: u32) -> Arrival {
        if sequence == self.next {
            self.next = sequence.saturating_add(1);
            return Arrival::InOrder;
        }
        if sequence > self.next {
            let gap = self.next..sequence;
            self.open(gap.clone());
            self.next = sequence.saturating_add(1);
            return Arrival::AfterGap(gap);
        }
        let before = self.gaps.range(..=sequence).next_back();
        let Some((&start, &end)) = before.filter(|&(_, &end)| sequence < end) else {
            return Arrival::Duplicate;
        };
        self.gaps.remove(&start);
        self.open(start..sequence);
        self.open(sequence + 1..end);
        Arrival::Late
    }

    /// What a later message has overtaken, or what is lost: the first range of it.
    pub(crate) fn first_gap(&self) -> Option<Range<u32>> {
        let (&start, &end) = self.gaps.first_key_value()?;
        Some(start..end)
    }

    /// One more than the highest sequence number that has come.
    pub(crate) fn next(&self) -> u32 {
        self.next
    }

    fn open(&mut self, gap: Range<u32>) {
        if gap.is_empty() {
            return;
        }
        if self.gaps.len() >= self.gaps_max {
            self.gaps.pop_first();
        }
        self.gaps.insert(gap.start, gap.end);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn note(tracker: &mut Tracker, sequences: &[u32]) -> Vec<Arrival> {
        let sequences = sequences.iter();
        sequences.map(|&sequence| tracker.note(sequence)).collect()
    }

    #[test]
    fn messages_in_order_leave_no_trace() {
        let mut tracker = Tracker::new(8);
        let arrivals = note(&mut tracker, &[0, 1, 2]);
        assert_eq!(arrivals, vec![Arrival::InOrder; 3]);
        assert_eq!(tracker.first_gap(), None);
        assert_eq!(tracker.next(), 3);
    }

    #[test]
    fn a_dropped_message_is_a_gap() {
        let mut tracker = Tracker::new(8);
        let arrivals = note(&mut tracker, &[0, 2, 3]);
        assert_eq!(
            arrivals,
            [Arrival::InOrder, Arrival::AfterGap(1..2), Arrival::InOrder]
        );
        assert_eq!(tracker.first_gap(), Some(1..2));
    }

    #[test]
    fn a_repeated_message_is_a_duplicate() {
        let mut tracker = Tracker::new(8);
        let arrivals = note(&mut tracker, &[0, 0, 1, 0]);
        assert_eq!(
            arrivals,
            [
                Arrival::InOrder,
                Arrival::Duplicate,
                Arrival::InOrder,
                Arrival::Duplicate
            ]
        );
    }

    #[test]
    fn two_swapped_messages_are_one_late_one_and_no_loss() {
        let mut tracker = Tracker::new(8);
        let arrivals = note(&mut tracker, &[0, 2, 1, 3, 1]);
        assert_eq!(
            arrivals,
            [
                Arrival::InOrder,
                Arrival::AfterGap(1..2),
                Arrival::Late,
                Arrival::InOrder,
                Arrival::Duplicate
            ]
        );
        assert_eq!(tracker.first_gap(), None);
    }

    #[test]
    fn a_gap_is_filled_from_any_side() {
        let mut tracker = Tracker::new(8);
        let arrivals = note(&mut tracker, &[9, 4, 0, 8, 3, 5]);
        assert_eq!(arrivals[0], Arrival::AfterGap(0..9));
        assert_eq!(arrivals[1..], vec![Arrival::Late; 5]);
        assert_eq!(tracker.first_gap(), Some(1..3));
    }

    #[test]
    fn gaps_are_bounded_and_the_oldest_goes() {
        let mut tracker = Tracker::new(2);
        note(&mut tracker, &[1, 3, 5]);
        assert_eq!(tracker.gaps.len(), 2);
        assert_eq!(tracker.first_gap(), Some(2..3));
        assert_eq!(tracker.note(0), Arrival::Duplicate);
        assert_eq!(tracker.note(2), Arrival::Late);
    }

    proptest! {
        /// The tracker says what a set of all that has come would say.
        #[test]
        fn it_agrees_with_a_set(sequences in prop::collection::vec(0..60u32, 0..200)) {
            let mut tracker = Tracker::new(64);
            let mut seen = BTreeSet::new();
            for sequence in sequences {
                let highest = seen.last().copied();
                let next = highest.map_or(0, |highest: u32| highest + 1);
                let expected = if !seen.insert(sequence) {
                    Arrival::Duplicate
                } else if sequence == next {
                    Arrival::InOrder
                } else if sequence > next {
                    Arrival::AfterGap(next..sequence)
                } else {
                    Arrival::Late
                };
                prop_assert_eq!(tracker.note(sequence), expected);
                let missing = (0..tracker.next()).find(|sequence| !seen.contains(sequence));
                prop_assert_eq!(tracker.first_gap().map(|gap| gap.start), missing);
            }
        }
    }
}
