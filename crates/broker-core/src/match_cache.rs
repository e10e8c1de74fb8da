//! Matches of recent topics, remembered while no subscription that concerns them changes.

use std::sync::Arc;

use whimbrel_session::codec::topic::{TopicName, TopicNameBuf};

use crate::index::Matched;
use crate::map::Map;

/// Two halves: when the young one is full it becomes the old one, and what is asked again moves
/// back. So the cache is bounded, needs no clock, and a topic in use is never lost.
#[derive(Debug)]
pub(crate) struct MatchCache {
    half_max: usize,
    young: Map<TopicNameBuf, Entry>,
    old: Map<TopicNameBuf, Entry>,
    /// What most topics of devices have that only report: one for all of them.
    nobody: Arc<Matched>,
}

#[derive(Clone, Debug)]
struct Entry {
    generation: u64,
    matched: Arc<Matched>,
}

impl MatchCache {
    pub(crate) fn new(topics_max: usize, seed: u64) -> Self {
        Self {
            half_max: topics_max / 2,
            young: crate::map::new(seed),
            old: crate::map::new(seed),
            nobody: Arc::default(),
        }
    }

    /// The matches of `topic` if they were found at this `generation`.
    pub(crate) fn lookup(&mut self, topic: &TopicName, generation: u64) -> Option<&Arc<Matched>> {
        if !self.young.contains_key(topic) {
            let (key, entry) = self.old.remove_entry(topic)?;
            if entry.generation == generation {
                self.insert_entry(key, entry);
            }
        }
        self.young
            .get(topic)
            .filter(|entry| entry.generation == generation)
            .map(|entry| &entry.matched)
    }

    /// Keeps what was found at this `generation`, and shares it.
    pub(crate) fn insert(
        &mut self,
        topic: &TopicName,
        generation: u64,
        matched: Matched,
    ) -> Arc<Matched> {
        let is_kept = matched.len() <= MATCHES_MAX;
        let matched = if matched == *self.nobody {
            Arc::clone(&self.nobody)
        } else {
            Arc::new(matched)
        };
        if !is_kept {
            return matched;
        }
        let entry = Entry {
            generation,
            matched: Arc::clone(&matched),
        };
        if let Some(known) = self.young.get_mut(topic) {
            *known = entry;
        } else {
            self.insert_entry(topic.to_owned(), entry);
        }
        matched
    }

    fn insert_entry(&mut self, topic: TopicNameBuf, entry: Entry) {
        if self.young.len() >= self.half_max {
            // Swapped, so that both halves keep their memory and nothing is hashed anew.
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        if self.half_max > 0 {
            self.young.insert(topic, entry);
        }
    }
}

/// Results with more holders than this are not kept: finding them costs little beside using them.
const MATCHES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_that_nobody_wants_share_one_result() {
        let mut cache = MatchCache::new(8, 0);
        let [first, second] = ["a", "b"].map(|topic| TopicName::new(topic).expect("valid"));
        let found = cache.insert(first, 1, Matched::default());
        let other = cache.insert(second, 1, Matched::default());
        assert!(Arc::ptr_eq(&found, &other));
        assert!(
            cache
                .lookup(second, 1)
                .is_some_and(|matched| matched.is_empty())
        );
        assert!(cache.lookup(second, 2).is_none(), "a filter has come since");
    }
}
