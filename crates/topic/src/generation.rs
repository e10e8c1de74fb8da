//! How much of a trie a change concerns, so that match results can be cached.

use std::hash::Hasher;

use foldhash::SharedSeed;
use foldhash::fast::FoldHasher;

use crate::levels::Levels;
use crate::topic_filter::{MULTI_LEVEL, SINGLE_LEVEL};
use crate::{TopicFilter, TopicName};

/// One of [`GenerationBucket::COUNT`] parts of all filters, told by their first two levels.
///
/// Who caches what a topic matched keeps one counter per bucket. A change of a filter counts up the filter's bucket; a
/// topic's generation is the sum of the counters of the topic's buckets. While the sum stays the same, no filter
/// that matches the topic was added, changed or removed. (The reverse does not hold: filters share buckets.)
///
/// [`FilterTrie::generation`](crate::FilterTrie::generation) does this. A program that keeps its trie behind a lock
/// rather keeps an array of atomics beside it, which is read without the lock:
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use whimbrel_topic::{GenerationBucket, TopicFilter, TopicName};
///
/// let counters = [const { AtomicU64::new(0) }; GenerationBucket::COUNT];
/// let generation = |topic| {
///     let buckets = GenerationBucket::of_topic(topic);
///     let counts = buckets.map(|bucket| counters[bucket.index()].load(Ordering::Acquire));
///     counts.into_iter().fold(0, u64::wrapping_add)
/// };
/// let topic = TopicName::new("sport/tennis/final")?;
/// let before = generation(topic); // read before the trie is asked
///
/// // After the trie is changed, and before the lock is let go:
/// let filter = TopicFilter::new("+/tennis/#")?;
/// counters[GenerationBucket::of_filter(filter).index()].fetch_add(1, Ordering::Release);
/// assert_ne!(generation(topic), before);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GenerationBucket(u16);

impl GenerationBucket {
    /// How many buckets there are.
    pub const COUNT: usize = HASHED_COUNT + 1;

    /// The bucket of `filter`.
    ///
    /// By first and second level if both are literal; by the first one if the second is missing or a wildcard; by the
    /// second one if only the first is a wildcard; and one bucket for the rest, such as `#`, `+` and `+/+/a`.
    pub fn of_filter(filter: &TopicFilter) -> GenerationBucket {
        let mut levels = filter.levels();
        let is_literal = |level: &&str| *level != SINGLE_LEVEL && *level != MULTI_LEVEL;
        let first = levels.next().filter(is_literal).map(level_hash);
        let second = levels.next().filter(is_literal).map(level_hash);
        match (first, second) {
            (Some(first), Some(second)) => by_both(first, second),
            (Some(first), None) => by_first(first),
            (None, Some(second)) => by_second(second),
            (None, None) => OPEN,
        }
    }

    /// The buckets of all filters that could match `topic`, now or ever. Some may be the same.
    pub fn of_topic(topic: &TopicName) -> [GenerationBucket; 4] {
        let mut levels = Levels::new(topic.as_str());
        let Some(first) = levels.next().map(level_hash) else {
            // Unreachable: a topic name has a first level.
            return [OPEN; 4];
        };
        let only_first = by_first(first);
        match levels.next().map(level_hash) {
            Some(second) => [by_both(first, second), only_first, by_second(second), OPEN],
            None => [only_first, only_first, only_first, OPEN],
        }
    }

    /// The bucket's place in an array of [`GenerationBucket::COUNT`] counters.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

fn by_both(first: u64, second: u64) -> GenerationBucket {
    by_hash(first.rotate_left(32) ^ second)
}

fn by_first(first: u64) -> GenerationBucket {
    by_hash(first)
}

fn by_second(second: u64) -> GenerationBucket {
    by_hash(!second)
}

fn by_hash(hash: u64) -> GenerationBucket {
    // The multiplication brings every bit of the hash to the top, of which `HASHED_BITS` are kept.
    let top = hash.wrapping_mul(SPREAD) >> (u64::BITS - HASHED_BITS);
    GenerationBucket(top as u16)
}

/// Not seeded: whoever may subscribe can make any topic's generation change, with `#` if nothing else.
fn level_hash(level: &str) -> u64 {
    let mut hasher = FoldHasher::with_seed(0, SharedSeed::global_fixed());
    hasher.write(level.as_bytes());
    hasher.finish()
}

/// The bucket of filters that tell nothing by their first two levels.
const OPEN: GenerationBucket = GenerationBucket(HASHED_COUNT as u16);

const HASHED_BITS: u32 = 10;
const HASHED_COUNT: usize = 1 << HASHED_BITS;

/// 2^64 divided by the golden ratio, made odd (Knuth, The Art of Computer Programming 3, section 6.4).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn of_filter(text: &str) -> GenerationBucket {
        GenerationBucket::of_filter(TopicFilter::new(text).unwrap())
    }

    #[test]
    fn a_filter_is_in_a_bucket_of_every_topic_it_matches() {
        let texts = ["a", "b", "/", "a/", "a/b", "b/a/c", "/a", "$x", "$x/a"];
        let filters = [
            "a", "a/#", "a/+", "a/b", "a/b/#", "+/b", "+/a/+", "+/+", "#", "+", "+/#", "/#", "/a",
            "b/a/c", "b/+/c", "+/", "a/", "/", "$x/#", "$x/+", "$x",
        ];
        let mut matches = 0;
        for text in texts {
            let topic = TopicName::new(text).unwrap();
            let buckets = GenerationBucket::of_topic(topic);
            for filter in filters {
                if TopicFilter::new(filter).unwrap().matches(topic) {
                    assert!(buckets.contains(&of_filter(filter)), "{filter} {text}");
                    matches += 1;
                }
            }
        }
        assert!(matches > 40, "{matches}");
    }

    #[test]
    fn filters_spread_over_the_buckets() {
        for pattern in ["x/N", "x/N/#", "N/+/v", "+/N/v", "N"] {
            let of_number = |n: u32| of_filter(&pattern.replace('N', &n.to_string()));
            let used: HashSet<_> = (0..4096).map(of_number).collect();
            // 4096 balls in 1024 bins leave 19 empty on average.
            assert!(used.len() > 900, "{pattern}: {}", used.len());
            assert!(!used.contains(&OPEN));
            assert!(used.iter().all(|b| b.index() < GenerationBucket::COUNT));
        }
    }
}
