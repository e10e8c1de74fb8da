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

    pub(crate) fn insert(&mut self, topic: &TopicName, generation: u64, matched: Arc<Matched>) {
        if matched.len() > MATCHES_MAX {
            return;
        }
        let entry = Entry {
            generation,
            matched,
        };
        if let Some(known) = self.young.get_mut(topic) {
            *known = entry;
        } else {
            self.insert_entry(topic.to_owned(), entry);
        }
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
