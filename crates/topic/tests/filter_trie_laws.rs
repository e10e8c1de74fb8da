//! What holds for a `FilterTrie` after any inserts and removes.

mod strategies;

use std::collections::BTreeMap;

use proptest::prelude::*;
use whimbrel_topic::{
    FilterTrie, MatchScratch, TopicFilter, TopicFilterBuf, TopicName, TopicNameBuf,
};

use self::strategies::{filters, names};

#[derive(Clone, Debug)]
enum Change {
    Insert(TopicFilterBuf),
    GetOrInsert(TopicFilterBuf),
    Modify(prop::sample::Index),
    Remove(TopicFilterBuf),
    /// One that is there, if any is.
    RemoveKnown(prop::sample::Index),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![
        4 => filters().prop_map(Change::Insert),
        1 => filters().prop_map(Change::GetOrInsert),
        1 => any::<prop::sample::Index>().prop_map(Change::Modify),
        1 => filters().prop_map(Change::Remove),
        3 => any::<prop::sample::Index>().prop_map(Change::RemoveKnown),
    ];
    prop::collection::vec(change, 1..80)
}

/// What the trie is held to: all filters, matched one by one.
type Model = BTreeMap<TopicFilterBuf, u32>;

fn known(model: &Model, index: &prop::sample::Index) -> Option<TopicFilterBuf> {
    let filters: Vec<&TopicFilterBuf> = model.keys().collect();
    (!filters.is_empty()).then(|| (*index.get(&filters)).clone())
}

/// Makes one change on both and compares what they return. Values are unique: `value` was not used before.
fn apply(change: &Change, value: u32, trie: &mut FilterTrie<u32>, model: &mut Model) {
    match change {
        Change::Insert(filter) => {
            assert_eq!(
                trie.insert(filter, value),
                model.insert(filter.clone(), value)
            );
        }
        Change::GetOrInsert(filter) => {
            let expected = *model.entry(filter.clone()).or_insert(value);
            assert_eq!(*trie.get_or_insert_with(filter, || value), expected);
        }
        Change::Modify(index) => {
            if let Some(filter) = known(model, index) {
                *trie.get_mut(&filter).unwrap() = value;
                model.insert(filter, value);
            }
        }
        Change::Remove(filter) => assert_eq!(trie.remove(filter), model.remove(filter)),
        Change::RemoveKnown(index) => {
            if let Some(filter) = known(model, index) {
                assert_eq!(trie.remove(&filter), model.remove(&filter));
            }
        }
    }
}

fn naive_matches(model: &Model, topic: &TopicName) -> Vec<u32> {
    let matching = model.iter().filter(|(filter, _)| filter.matches(topic));
    let mut values: Vec<u32> = matching.map(|(_, value)| *value).collect();
    values.sort_unstable();
    values
}

fn trie_matches(trie: &FilterTrie<u32>, topic: &TopicName, scratch: &mut MatchScratch) -> Vec<u32> {
    let mut values = Vec::new();
    trie.for_each_match(topic, scratch, |value| values.push(*value));
    values.sort_unstable();
    values
}

proptest! {
    #[test]
    fn a_trie_matches_what_its_filters_match_one_by_one(
        changes in changes(),
        topics in prop::collection::vec(names(), 12),
        seed: u64,
    ) {
        let mut trie = FilterTrie::with_seed(seed);
        let mut model = Model::new();
        let mut scratch = MatchScratch::new();
        for (value, change) in changes.iter().enumerate() {
            apply(change, value as u32, &mut trie, &mut model);
            prop_assert_eq!(trie.len(), model.len());
            let topic = &topics[value % topics.len()];
            prop_assert_eq!(
                trie_matches(&trie, topic, &mut scratch),
                naive_matches(&model, topic)
            );
        }
        for topic in &topics {
            prop_assert_eq!(
                trie_matches(&trie, topic, &mut scratch),
                naive_matches(&model, topic)
            );
        }
        for (filter, value) in &model {
            prop_assert_eq!(trie.get(filter), Some(value));
        }
        let mut entries: Vec<(TopicFilterBuf, u32)> =
            trie.iter().map(|(filter, value)| (filter, *value)).collect();
        entries.sort();
        prop_assert_eq!(entries, model.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn a_generation_changes_with_what_its_topic_matches(
        changes in changes(),
        topics in prop::collection::vec(names(), 6),
    ) {
        let mut trie = FilterTrie::new();
        let mut model = Model::new();
        let state = |trie: &FilterTrie<u32>, model: &Model, topic: &TopicNameBuf| {
            (naive_matches(model, topic), trie.generation(topic))
        };
        for (value, change) in changes.iter().enumerate() {
            let before: Vec<_> = topics.iter().map(|t| state(&trie, &model, t)).collect();
            apply(change, value as u32, &mut trie, &mut model);
            for (topic, (matches, generation)) in topics.iter().zip(before) {
                let (matches_now, generation_now) = state(&trie, &model, topic);
                prop_assert!(matches == matches_now || generation != generation_now, "{topic}");
            }
        }
    }

    #[test]
    fn removing_every_filter_gives_the_memory_back(
        mut filters in prop::collection::vec(filters(), 100..200),
    ) {
        let mut trie = FilterTrie::new();
        let empty_bytes = trie.memory_bytes();
        for filter in &filters {
            trie.insert(filter, [0_u64; 2]);
        }
        prop_assert!(trie.memory_bytes() > empty_bytes + trie.len() * 16);
        filters.reverse();
        for filter in &filters {
            trie.remove(filter);
        }
        prop_assert!(trie.is_empty());
        prop_assert_eq!(trie.iter().count(), 0);
        // A few dozen free slots may stay.
        prop_assert!(trie.memory_bytes() <= empty_bytes + 4096);
    }

    #[test]
    fn a_seed_never_shows(changes in changes(), topics in prop::collection::vec(names(), 4)) {
        let build = |seed| {
            let mut trie = FilterTrie::with_seed(seed);
            let mut model = Model::new();
            for (value, change) in changes.iter().enumerate() {
                apply(change, value as u32, &mut trie, &mut model);
            }
            trie
        };
        let (one, other) = (build(1), build(2));
        prop_assert!(one.iter().eq(other.iter()));
        let in_order = |trie: &FilterTrie<u32>, topic: &TopicNameBuf| {
            let mut values = Vec::new();
            trie.for_each_match(topic, &mut MatchScratch::new(), |value| values.push(*value));
            values
        };
        for topic in &topics {
            prop_assert_eq!(in_order(&one, topic), in_order(&other, topic));
        }
    }
}

// Enough nodes for tables to grow, shrink and turn back, and for the nodes to be compacted several times.
#[test]
fn a_large_trie_survives_its_shrinking() {
    let filter = |number: u32| {
        let (high, low) = (number / 500, number % 500);
        let text = match number % 3 {
            0 => format!("x/c{high}/k{low}/+"),
            1 => format!("x/c{high}/k{low}/#"),
            _ => format!("+/c{high}/k{low}/v"),
        };
        TopicFilterBuf::try_from(text).unwrap()
    };
    let topic = |number: u32| {
        let (high, low) = (number / 500, number % 500);
        TopicNameBuf::try_from(format!("x/c{high}/k{low}/v")).unwrap()
    };
    let count = 20_000;
    let mut trie = FilterTrie::with_seed(7);
    let empty_bytes = trie.memory_bytes();
    for number in 0..count {
        assert_eq!(trie.insert(&filter(number), number), None);
    }
    let full_bytes = trie.memory_bytes();
    assert!(full_bytes / count as usize <= 180, "{full_bytes}");

    let mut scratch = MatchScratch::new();
    // In an order that leaves holes everywhere.
    for (removed, step) in (0..count).enumerate() {
        let number = step * 7_919 % count;
        assert_eq!(trie.remove(&filter(number)), Some(number));
        assert_eq!(
            trie_matches(&trie, &topic(number), &mut scratch),
            Vec::<u32>::new()
        );
        let next = (step + 1) * 7_919 % count;
        if step + 1 < count {
            assert_eq!(trie_matches(&trie, &topic(next), &mut scratch), [next]);
        }
        if removed + 1 == count as usize * 9 / 10 {
            assert!(trie.memory_bytes() < full_bytes / 3);
        }
    }
    assert!(trie.memory_bytes() <= empty_bytes + 4096);
}

#[test]
fn a_trie_shows_its_filters_and_values() {
    let mut trie = FilterTrie::default();
    trie.insert(TopicFilter::new("a/#").unwrap(), 1);
    assert_eq!(format!("{trie:?}"), "{\"a/#\": 1}");
}
