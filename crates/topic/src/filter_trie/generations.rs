//! [`Generations`]: how often what concerns a topic has changed.

use crate::{GenerationBucket, TopicFilter, TopicName};

/// Counts the changes of a trie: of all its filters together while those are few, by [`GenerationBucket`] once they are
/// many, since the counters of the buckets take 8 KiB.
///
/// No topic's generation is one that it had before: a counter starts at the number of all changes and grows by one with
/// some of those that follow, so four of them are at most four times that number, which is a generation while filters
/// are few.
#[derive(Debug, Default)]
pub(super) struct Generations {
    changes: u64,
    by_bucket: Option<Box<[u64]>>,
}

impl Generations {
    /// A trie of so many filters changes this one.
    pub(super) fn count(&mut self, filter: &TopicFilter, filters: usize) {
        self.changes = self.changes.wrapping_add(1);
        match &mut self.by_bucket {
            Some(_) if filters <= FEW_FILTERS / 2 => self.by_bucket = None,
            Some(counters) => {
                let counter = &mut counters[GenerationBucket::of_filter(filter).index()];
                *counter = counter.wrapping_add(1);
            }
            None if filters > FEW_FILTERS => {
                let counters = vec![self.changes; GenerationBucket::COUNT];
                self.by_bucket = Some(counters.into());
            }
            None => {}
        }
    }

    pub(super) fn of_topic(&self, topic: &TopicName) -> u64 {
        let Some(counters) = &self.by_bucket else {
            return self.changes.wrapping_mul(4);
        };
        let buckets = GenerationBucket::of_topic(topic);
        let counts = buckets.map(|bucket| counters[bucket.index()]);
        // Each counter only grows, so the sum changes with any of them.
        counts.into_iter().fold(0, u64::wrapping_add)
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.by_bucket.as_deref().map_or(0, size_of_val)
    }
}

/// What matches a topic is found again at once among as many.
const FEW_FILTERS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_come_with_many_filters_go_with_them_and_repeat_no_generation() {
        let filter = TopicFilter::new("a/b").unwrap();
        let other = TopicFilter::new("x/y").unwrap();
        let topics = ["a/b", "x/y", "a"].map(|name| TopicName::new(name).unwrap());
        let mut generations = Generations::default();
        let mut last = topics.map(|topic| generations.of_topic(topic));
        let growing = 0..=FEW_FILTERS + 2;
        for filters in growing.clone().chain(growing.rev()).chain(0..20) {
            generations.count(filter, filters);
            let now = topics.map(|topic| generations.of_topic(topic));
            assert!(now[0] > last[0], "{filters} filters");
            assert!(now[1] >= last[1] && now[2] >= last[2]);
            last = now;
        }
        assert_eq!(generations.heap_bytes(), 8 * GenerationBucket::COUNT);
        generations.count(other, 20);
        assert_eq!(generations.of_topic(topics[0]), last[0], "another topic's");
        assert!(generations.of_topic(topics[1]) > last[1]);
        generations.count(filter, 0);
        assert_eq!(generations.heap_bytes(), 0);
        assert!(generations.of_topic(topics[1]) > last[1] + 1);
    }
}
