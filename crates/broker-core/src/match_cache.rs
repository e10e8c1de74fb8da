//! Matches of recent topics, remembered while no subscription that concerns them changes.

use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::HashTable;
use whimbrel_session::codec::topic::{GenerationBucket, TopicName, TopicNameBuf};

use crate::index::Matched;
use crate::map::State;

/// Two halves: when the young one is full it becomes the old one, and what is asked again moves
/// back. So the cache is bounded, needs no clock, and a topic in use is never lost.
///
/// A topic is remembered from the second time on that it is asked for within a while: where there are more topics than
/// the cache holds, remembering each and forgetting another one would cost more than the matches.
pub(crate) struct MatchCache {
    half_max: usize,
    young: HashTable<Entry>,
    old: HashTable<Entry>,
    /// Part of the hash of topics that were asked for, each in a place that the rest of the hash names.
    asked: Box<[u16]>,
    hashes: State,
    /// What most topics of devices have that only report: one for all of them.
    nobody: Arc<Matched>,
}

#[derive(Debug)]
struct Entry {
    topic: TopicNameBuf,
    /// The counters whose sum is the generation.
    buckets: [GenerationBucket; 4],
    generation: u64,
    matched: Arc<Matched>,
}

/// What the cache does not have: to be matched, and then [inserted](MatchCache::insert).
#[derive(Debug)]
pub(crate) struct Miss {
    hash: u64,
    pub(crate) buckets: [GenerationBucket; 4],
    /// It is to be remembered.
    pub(crate) is_wanted: bool,
}

impl MatchCache {
    pub(crate) fn new(topics_max: usize, seed: u64) -> Self {
        let half_max = topics_max / 2;
        let asked_count = match half_max {
            0 => 0,
            half => (half * ASKED_PER_TOPIC).next_power_of_two(),
        };
        Self {
            half_max,
            young: HashTable::new(),
            old: HashTable::new(),
            asked: vec![0; asked_count].into(),
            hashes: State::new(seed),
            nobody: Arc::default(),
        }
    }

    /// The matches of `topic` if they are known and their generation is still what it was.
    pub(crate) fn lookup(
        &mut self,
        topic: &TopicName,
        generation: impl Fn([GenerationBucket; 4]) -> u64,
    ) -> Result<Arc<Matched>, Miss> {
        let hash = self.hashes.hash_one(topic);
        let is_it = |entry: &Entry| *entry.topic == *topic;
        let is_current = |entry: &Entry| entry.generation == generation(entry.buckets);
        if let Some(entry) = self.young.find(hash, is_it) {
            if is_current(entry) {
                return Ok(Arc::clone(&entry.matched));
            }
        } else if let Ok(entry) = self.old.find_entry(hash, is_it) {
            let (entry, _) = entry.remove();
            if is_current(&entry) {
                let matched = Arc::clone(&entry.matched);
                self.remember(hash, entry);
                return Ok(matched);
            }
        }
        Err(Miss {
            hash,
            buckets: GenerationBucket::of_topic(topic),
            is_wanted: self.was_asked(hash),
        })
    }

    /// Remembers the matches of a topic that was missed, found when it was of this `generation`.
    pub(crate) fn insert(
        &mut self,
        miss: &Miss,
        topic: &TopicName,
        generation: u64,
        matched: Arc<Matched>,
    ) {
        if matched.len() > MATCHES_MAX || self.half_max == 0 {
            return;
        }
        let matched = if *matched == *self.nobody {
            Arc::clone(&self.nobody)
        } else {
            matched
        };
        let known = |entry: &Entry| *entry.topic == *topic;
        if let Some(entry) = self.young.find_mut(miss.hash, known) {
            entry.generation = generation;
            entry.matched = matched;
            return;
        }
        let entry = Entry {
            topic: topic.to_owned(),
            buckets: miss.buckets,
            generation,
            matched,
        };
        self.remember(miss.hash, entry);
    }

    fn remember(&mut self, hash: u64, entry: Entry) {
        if self.young.len() >= self.half_max {
            // Swapped, so that both halves keep their memory and nothing is hashed anew.
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        let hashes = &self.hashes;
        self.young
            .insert_unique(hash, entry, |entry| hashes.hash_one(&*entry.topic));
    }

    /// Notes that a topic is asked for, and says whether it was before.
    fn was_asked(&mut self, hash: u64) -> bool {
        let Some(mask) = self.asked.len().checked_sub(1) else {
            return false;
        };
        let place = &mut self.asked[hash as usize & mask];
        // 0 stands for none.
        let mark = (hash >> MARK_SHIFT) as u16 | 1;
        std::mem::replace(place, mark) == mark
    }
}

impl fmt::Debug for MatchCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(&self.young)
            .entries(&self.old)
            .finish()
    }
}

/// Results with more holders than this are not kept: finding them costs little beside using them.
const MATCHES_MAX: usize = 256;
/// Places for topics that were asked for, for each topic of a half.
const ASKED_PER_TOPIC: usize = 2;
/// The bits of a hash that name a place are not those that stand in it.
const MARK_SHIFT: u32 = 40;

#[cfg(test)]
mod tests {
    use whimbrel_session::codec::topic::TopicName;

    use super::*;

    fn topic(number: usize) -> TopicNameBuf {
        TopicName::new(&format!("t/{number}"))
            .expect("a valid name")
            .to_owned()
    }

    /// Asks as a shard does, and says whether the cache had it.
    fn ask(cache: &mut MatchCache, topic: &TopicName, generation: u64) -> bool {
        match cache.lookup(topic, |_| generation) {
            Ok(_) => true,
            Err(miss) => {
                if miss.is_wanted {
                    cache.insert(&miss, topic, generation, Arc::default());
                }
                false
            }
        }
    }

    #[test]
    fn a_topic_is_remembered_from_its_second_time_on_until_its_generation_changes() {
        let mut cache = MatchCache::new(8, 0);
        let topic = topic(0);
        assert!(!ask(&mut cache, &topic, 1));
        assert!(!ask(&mut cache, &topic, 1));
        assert!(ask(&mut cache, &topic, 1));
        assert!(!ask(&mut cache, &topic, 2), "a subscription has changed");
        assert!(ask(&mut cache, &topic, 2));
    }

    #[test]
    fn topics_that_come_once_are_not_remembered_and_push_nobody_out() {
        let mut cache = MatchCache::new(8, 0);
        let busy = topic(usize::MAX);
        ask(&mut cache, &busy, 1);
        ask(&mut cache, &busy, 1);
        for number in 0..10_000 {
            ask(&mut cache, &topic(number), 1);
            assert!(ask(&mut cache, &busy, 1), "after {number} others");
        }
    }

    #[test]
    fn it_holds_no_more_than_it_may_and_keeps_what_is_asked_for() {
        let mut cache = MatchCache::new(8, 0);
        let busy = topic(usize::MAX);
        for number in 0..100 {
            for _ in 0..2 {
                ask(&mut cache, &topic(number), 1);
                ask(&mut cache, &busy, 1);
            }
            assert!(ask(&mut cache, &busy, 1), "after {number} others");
            assert!(cache.young.len() + cache.old.len() <= 8);
        }
    }

    #[test]
    fn topics_that_nobody_wants_share_one_result() {
        let mut cache = MatchCache::new(8, 0);
        for number in [0, 0, 1, 1] {
            ask(&mut cache, &topic(number), 1);
        }
        let [first, second] = [0, 1].map(|number| cache.lookup(&topic(number), |_| 1));
        assert!(Arc::ptr_eq(&first.expect("known"), &second.expect("known")));
    }

    #[test]
    fn a_cache_without_room_remembers_nothing() {
        let mut cache = MatchCache::new(0, 0);
        for _ in 0..3 {
            assert!(!ask(&mut cache, &topic(0), 1));
        }
    }
}
