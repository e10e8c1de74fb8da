//! Filters matched and changed; retained topics scanned.

use std::ops::ControlFlow;

use whimbrel_benches::{Population, counted};
use whimbrel_broker_core::session::codec::topic::{
    FilterTrie, MatchScratch, ScanCursor, ScanState, TopicFilter, TopicFilterBuf, TopicNameBuf,
    TopicTree,
};

use crate::Scene;

/// One operation is one topic matched, one filter removed and put back, or one retained topic found.
pub(crate) fn scenes() -> Vec<Scene> {
    vec![
        Scene::new("topic/match_exact/1k", || match_exact(1_000)),
        Scene::new("topic/match_exact/100k", || match_exact(100_000)),
        Scene::new("topic/match_wildcard/1k", || match_wildcard(1_000)),
        Scene::new("topic/match_wildcard/100k", || match_wildcard(100_000)),
        Scene::new("topic/generation/100k", || generation(100_000)),
        Scene::new("topic/remove_insert/100k", || remove_insert(100_000)),
        Scene::new("topic/scan_all/10k", || scan("#", 10_000)),
        Scene::new("topic/scan_sparse/10k", || {
            scan("site/+/4/state/battery", 10_000)
        }),
    ]
}

/// Filters without wildcards: each topic of the population is subscribed to by its name.
fn match_exact(size: usize) -> usize {
    let population = Population { size };
    let mut trie = FilterTrie::new();
    for index in 0..size {
        let filter = TopicFilterBuf::try_from(population.topic(index).as_str());
        trie.insert(&filter.expect("a name is a filter"), 0_u32);
    }
    count_matches(&trie, population)
}

fn match_wildcard(size: usize) -> usize {
    let population = Population { size };
    count_matches(&population.trie(), population)
}

fn count_matches(trie: &FilterTrie<u32>, population: Population) -> usize {
    let topics = topics(population);
    let mut scratch = MatchScratch::new();
    let matches = |scratch: &mut MatchScratch| {
        let mut count = 0;
        for topic in &topics {
            trie.for_each_match(topic, scratch, |_| count += 1);
        }
        count
    };
    // The scratch has its size now.
    matches(&mut scratch);
    let count = counted(|| matches(&mut scratch));
    assert_eq!(count, topics.len());
    topics.len()
}

fn generation(size: usize) -> usize {
    let population = Population { size };
    let (trie, topics) = (population.trie(), topics(population));
    counted(|| {
        for topic in &topics {
            std::hint::black_box(trie.generation(topic));
        }
    });
    topics.len()
}

fn remove_insert(size: usize) -> usize {
    let population = Population { size };
    let mut trie = population.trie();
    let filters: Vec<TopicFilterBuf> = population
        .sample(TOPICS)
        .map(|index| population.filter(index))
        .collect();
    counted(|| {
        for filter in &filters {
            let number = trie.remove(filter).expect("it was inserted");
            trie.insert(filter, number);
        }
    });
    assert_eq!(trie.len(), size);
    filters.len()
}

/// Scans in steps, as a shard does.
fn scan(filter: &str, size: usize) -> usize {
    let population = Population { size };
    let filter = TopicFilter::new(filter).expect("a valid filter");
    let mut tree = TopicTree::new();
    for index in 0..size {
        tree.insert(&population.topic(index), index);
    }
    let expected = (0..size)
        .filter(|&index| filter.matches(&population.topic(index)))
        .count();
    let count = counted(|| {
        let mut cursor = ScanCursor::new();
        let mut count = 0;
        while let ScanState::More = tree.scan(filter, &mut cursor, STEP_BUDGET, |_, _| {
            count += 1;
            ControlFlow::Continue(())
        }) {}
        count
    });
    assert_eq!(count, expected);
    count
}

fn topics(population: Population) -> Vec<TopicNameBuf> {
    let sample = population.sample(TOPICS);
    sample.map(|index| population.topic(index)).collect()
}

const TOPICS: usize = 1_000;
/// Nodes per step, as `CoreLimits` has it.
const STEP_BUDGET: usize = 4_096;
