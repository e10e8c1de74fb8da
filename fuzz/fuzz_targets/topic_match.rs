//! The filter trie and the topic tree against the naive matcher, under any sequence of changes.
//!
//! The input is text, a step a line: `+FILTER` and `-FILTER` change the trie, `?TOPIC` asks it; `=TOPIC` and `!TOPIC`
//! change the tree, `*FILTER` scans it. Lines that are none of these, or whose text is invalid, are skipped.
#![no_main]

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use libfuzzer_sys::fuzz_target;
use whimbrel_topic::{
    FilterTrie, MatchScratch, ScanCursor, ScanState, SubscriptionFilter, TopicFilter,
    TopicFilterBuf, TopicName, TopicNameBuf, TopicTree,
};

fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    let mut trie = FilterTrie::new();
    let mut filters: BTreeMap<TopicFilterBuf, usize> = BTreeMap::new();
    let mut tree = TopicTree::new();
    let mut names: BTreeMap<TopicNameBuf, usize> = BTreeMap::new();
    let mut scratch = MatchScratch::new();
    for (step, line) in text.lines().enumerate() {
        let mut characters = line.chars();
        let kind = characters.next();
        let rest = characters.as_str();
        check_shared(rest);
        match (kind, TopicFilter::new(rest), TopicName::new(rest)) {
            (Some('+'), Ok(filter), _) => {
                let previous = filters.insert(filter.to_owned(), step);
                assert_eq!(trie.insert(filter, step), previous);
            }
            (Some('-'), Ok(filter), _) => assert_eq!(trie.remove(filter), filters.remove(filter)),
            (Some('?'), _, Ok(topic)) => {
                let mut found = Vec::new();
                trie.for_each_match(topic, &mut scratch, |step| found.push(*step));
                found.sort_unstable();
                let matching = filters.iter().filter(|(filter, _)| filter.matches(topic));
                let mut expected: Vec<usize> = matching.map(|(_, step)| *step).collect();
                expected.sort_unstable();
                assert_eq!(found, expected, "{topic}");
            }
            (Some('='), _, Ok(topic)) => {
                let previous = names.insert(topic.to_owned(), step);
                assert_eq!(tree.insert(topic, step), previous);
            }
            (Some('!'), _, Ok(topic)) => assert_eq!(tree.remove(topic), names.remove(topic)),
            (Some('*'), Ok(filter), _) => {
                let mut found = Vec::new();
                let mut cursor = ScanCursor::new();
                let budget = 1 + step % 3;
                while let ScanState::More = tree.scan(filter, &mut cursor, budget, |name, step| {
                    found.push((name.to_owned(), *step));
                    ControlFlow::Continue(())
                }) {}
                found.sort_unstable();
                let matching = names.iter().filter(|(name, _)| filter.matches(name));
                let expected: Vec<_> = matching.map(|(name, step)| (name.clone(), *step)).collect();
                assert_eq!(found, expected, "{filter}");
            }
            _ => {}
        }
        assert_eq!(trie.len(), filters.len());
        assert_eq!(tree.len(), names.len());
    }
});

/// A shared subscription's filter is a filter in its own right, and its text is put together as it was.
fn check_shared(text: &str) {
    if let Ok(subscription) = SubscriptionFilter::parse(text) {
        assert_eq!(subscription.to_string(), text);
        assert!(TopicFilter::new(subscription.filter().as_str()).is_ok());
        assert!(!subscription.is_shared() || text.starts_with("$share/"));
    }
}
