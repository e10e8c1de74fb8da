//! Names and filters of 65,536 levels, the most that 65,535 bytes can have: recursion would overflow the stack of a
//! test's thread.

use std::ops::ControlFlow;

use whimbrel_topic::{
    FilterTrie, MatchScratch, ScanCursor, ScanState, TopicFilter, TopicFilterBuf, TopicName,
    TopicNameBuf, TopicTree,
};

/// A name of so many empty levels.
fn name_of_levels(count: usize) -> TopicNameBuf {
    TopicNameBuf::try_from("/".repeat(count - 1)).unwrap()
}

/// The longest filter with `+` as every other level.
fn deep_filter() -> TopicFilterBuf {
    TopicFilterBuf::try_from("+//".repeat(21_845)).unwrap()
}

fn matches(trie: &FilterTrie<i32>, topic: &TopicName) -> Vec<i32> {
    let mut found = Vec::new();
    trie.for_each_match(topic, &mut MatchScratch::new(), |value| found.push(*value));
    found.sort_unstable();
    found
}

#[test]
fn a_trie_of_the_deepest_filters_matches() {
    let deepest = name_of_levels(65_536);
    let deepest_filter = <&TopicFilter>::from(deepest.as_name());
    let mut trie = FilterTrie::new();
    let empty_bytes = trie.memory_bytes();
    trie.insert(deepest_filter, 1);
    trie.insert(&deep_filter(), 2);
    trie.insert(TopicFilter::new("#").unwrap(), 3);
    assert_eq!(trie.get(&deep_filter()), Some(&2));
    assert_eq!(trie.iter().count(), 3);

    assert_eq!(matches(&trie, &deepest), [1, 3]);
    let shorter = name_of_levels(deep_filter().level_count());
    assert!(deep_filter().matches(&shorter));
    assert_eq!(matches(&trie, &shorter), [2, 3]);

    trie.remove(deepest_filter);
    trie.remove(&deep_filter());
    assert!(trie.memory_bytes() <= empty_bytes + 4096);
    assert_eq!(matches(&trie, &deepest), [3]);
    trie.insert(&deep_filter(), 4);
    drop(trie);
}

#[test]
fn a_tree_of_the_deepest_names_is_scanned_and_dropped() {
    let deepest = name_of_levels(65_536);
    let mut tree = TopicTree::new();
    let empty_bytes = tree.memory_bytes();
    tree.insert(&deepest, 1);
    tree.insert(TopicName::new("a").unwrap(), 2);
    let filter = TopicFilter::new("#").unwrap();
    let mut cursor = ScanCursor::new();
    let mut found = Vec::new();
    let mut calls = 1;
    while ScanState::More
        == tree.scan(filter, &mut cursor, 1000, |name, value| {
            found.push((name.level_count(), *value));
            ControlFlow::Continue(())
        })
    {
        calls += 1;
    }
    assert_eq!(found, [(65_536, 1), (1, 2)]);
    assert_eq!(calls, 66);
    assert_eq!(tree.iter().count(), 2);

    assert_eq!(tree.remove(&deepest), Some(1));
    assert!(tree.memory_bytes() <= empty_bytes + 4096);
    tree.insert(&deepest, 3);
    drop(tree);
}

#[test]
fn the_longest_level_is_given_back() {
    let name = TopicNameBuf::try_from("x".repeat(65_535)).unwrap();
    let filter = <&TopicFilter>::from(name.as_name());
    let mut trie = FilterTrie::new();
    let mut tree = TopicTree::new();
    let empty_bytes = (trie.memory_bytes(), tree.memory_bytes());
    trie.insert(filter, 1);
    tree.insert(&name, 1);
    assert!(trie.memory_bytes() > empty_bytes.0 + 65_535);
    assert!(tree.memory_bytes() > empty_bytes.1 + 65_535);
    assert_eq!(matches(&trie, &name), [1]);
    trie.remove(filter);
    tree.remove(&name);
    assert!(trie.memory_bytes() < empty_bytes.0 + 1000);
    assert!(tree.memory_bytes() < empty_bytes.1 + 1000);
}
