//! What holds for a `TopicTree` after any inserts and removes, and for scans while it changes.

mod strategies;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use proptest::prelude::*;
use whimbrel_topic::{ScanCursor, ScanState, TopicFilter, TopicName, TopicNameBuf, TopicTree};

use self::strategies::{filters, names};

/// What the tree is held to. Keyed by the levels, whose order is that of a scan.
type Model = BTreeMap<Vec<String>, (TopicNameBuf, u32)>;

fn key(name: &TopicName) -> Vec<String> {
    name.levels().map(String::from).collect()
}

fn insert(name: &TopicNameBuf, value: u32, tree: &mut TopicTree<u32>, model: &mut Model) {
    let previous = model.insert(key(name), (name.clone(), value));
    assert_eq!(tree.insert(name, value), previous.map(|(_, value)| value));
}

fn remove(name: &TopicNameBuf, tree: &mut TopicTree<u32>, model: &mut Model) {
    let previous = model.remove(&key(name));
    assert_eq!(tree.remove(name), previous.map(|(_, value)| value));
}

#[derive(Clone, Debug)]
enum Step {
    Insert(TopicNameBuf),
    Remove(TopicNameBuf),
    RemoveKnown(prop::sample::Index),
    /// Go on with the scan, which breaks after so many names.
    Scan {
        budget: usize,
        break_after: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => names().prop_map(Step::Insert),
        1 => names().prop_map(Step::Remove),
        2 => any::<prop::sample::Index>().prop_map(Step::RemoveKnown),
        3 => (0_usize..6, 1_usize..4)
            .prop_map(|(budget, break_after)| Step::Scan { budget, break_after }),
    ];
    prop::collection::vec(step, 0..40)
}

proptest! {
    #[test]
    fn a_tree_is_a_map(
        steps in steps(),
        names in prop::collection::vec(names(), 1..40),
    ) {
        let mut tree = TopicTree::new();
        let mut model = Model::new();
        for (value, name) in names.iter().enumerate() {
            insert(name, value as u32, &mut tree, &mut model);
        }
        for (value, step) in steps.iter().enumerate() {
            match step {
                Step::Insert(name) => insert(name, 1000 + value as u32, &mut tree, &mut model),
                Step::Remove(name) => remove(name, &mut tree, &mut model),
                Step::RemoveKnown(index) => remove(index.get(&names), &mut tree, &mut model),
                Step::Scan { .. } => {
                    let name = &names[value % names.len()];
                    let expected = model.get_mut(&key(name)).map(|(_, value)| value);
                    prop_assert_eq!(tree.get(name), expected.as_deref());
                    prop_assert_eq!(tree.get_mut(name), expected);
                }
            }
            prop_assert_eq!(tree.len(), model.len());
        }
        let entries = tree.iter().map(|(name, value)| (name, *value));
        prop_assert!(entries.eq(model.into_values()));
    }

    #[test]
    fn a_scan_finds_in_order_what_the_filter_matches(
        names in prop::collection::vec(names(), 0..60),
        filter in filters(),
        budget in 0_usize..20,
    ) {
        let mut tree = TopicTree::new();
        let mut model = Model::new();
        for (value, name) in names.iter().enumerate() {
            insert(name, value as u32, &mut tree, &mut model);
        }
        let mut cursor = ScanCursor::new();
        let mut found = Vec::new();
        loop {
            let found_before = found.len();
            let state = tree.scan(&filter, &mut cursor, budget, |name, value| {
                found.push((name.to_owned(), *value));
                ControlFlow::Continue(())
            });
            prop_assert!(found.len() - found_before <= budget.max(1));
            if state == ScanState::Done {
                break;
            }
        }
        let expected = model.into_values().filter(|(name, _)| filter.matches(name));
        prop_assert_eq!(found, expected.collect::<Vec<_>>());
        let again = tree.scan(&filter, &mut cursor, budget, |_, _| unreachable!());
        prop_assert_eq!(again, ScanState::Done);
    }

    #[test]
    fn a_scan_of_a_changing_tree_visits_what_stays_once_and_nothing_twice(
        names in prop::collection::vec(names(), 1..40),
        filter in filters(),
        steps in steps(),
        last_budget in 1_usize..10,
    ) {
        let mut tree = TopicTree::new();
        let mut model = Model::new();
        for (value, name) in names.iter().enumerate() {
            insert(name, value as u32, &mut tree, &mut model);
        }
        let mut staying: BTreeSet<Vec<String>> = model.keys().cloned().collect();
        let mut visited = Vec::new();
        let mut cursor = ScanCursor::new();
        let finish = Step::Scan { budget: last_budget, break_after: usize::MAX };
        let mut state = ScanState::More;
        let mut steps = steps.iter().enumerate();
        while state == ScanState::More {
            match steps.next().unwrap_or((0, &finish)) {
                (value, Step::Insert(name)) => {
                    insert(name, 1000 + value as u32, &mut tree, &mut model);
                }
                (_, Step::Remove(name)) => {
                    remove(name, &mut tree, &mut model);
                    staying.remove(&key(name));
                }
                (_, Step::RemoveKnown(index)) => {
                    let name = index.get(&names);
                    remove(name, &mut tree, &mut model);
                    staying.remove(&key(name));
                }
                (_, Step::Scan { budget, break_after }) => {
                    let mut left = *break_after;
                    state = tree.scan(&filter, &mut cursor, *budget, |name, value| {
                        assert_eq!(model.get(&key(name)), Some(&(name.to_owned(), *value)));
                        assert!(filter.matches(name), "{name}");
                        visited.push(key(name));
                        left -= 1;
                        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                    });
                }
            }
        }
        prop_assert!(visited.is_sorted_by(|a, b| a < b), "{visited:?}");
        let visited: BTreeSet<_> = visited.into_iter().collect();
        let name = |key: &[String]| TopicNameBuf::try_from(key.join("/")).unwrap();
        for key in staying {
            prop_assert_eq!(visited.contains(&key), filter.matches(&name(&key)), "{:?}", key);
        }
    }

    #[test]
    fn removing_every_name_gives_the_memory_back(names in prop::collection::vec(names(), 100..200)) {
        let mut tree = TopicTree::new();
        let empty_bytes = tree.memory_bytes();
        for name in &names {
            tree.insert(name, [0_u64; 2]);
        }
        prop_assert!(tree.memory_bytes() > empty_bytes + tree.len() * 16);
        for name in &names {
            tree.remove(name);
        }
        prop_assert!(tree.is_empty());
        prop_assert_eq!(tree.iter().count(), 0);
        // A few dozen free slots may stay.
        prop_assert!(tree.memory_bytes() <= empty_bytes + 4096);
    }
}

#[test]
fn a_scan_through_what_does_not_match_yields_too() {
    let mut tree = TopicTree::new();
    for number in 0..1000 {
        let name = TopicNameBuf::try_from(format!("k{number}/x")).unwrap();
        tree.insert(&name, number);
    }
    let filter = TopicFilter::new("+/y").unwrap();
    let mut cursor = ScanCursor::new();
    let mut calls = 1;
    while tree.scan(filter, &mut cursor, 10, |_, _| unreachable!()) == ScanState::More {
        calls += 1;
    }
    assert_eq!(calls, 101);
}

#[test]
fn names_that_start_with_dollar_cost_a_wildcard_scan_nothing() {
    // [3:MQTT-4.7.2-1] [5:MQTT-4.7.2-1]
    let mut tree = TopicTree::new();
    for number in 0..1000 {
        let name = TopicNameBuf::try_from(format!("${number}")).unwrap();
        tree.insert(&name, number);
    }
    for name in ["!bang", "zebra"] {
        tree.insert(&TopicNameBuf::try_from(name).unwrap(), 0);
    }
    for (filter, expected) in [("#", vec!["!bang", "zebra"]), ("+", vec!["!bang", "zebra"])] {
        let mut found = Vec::new();
        let filter = TopicFilter::new(filter).unwrap();
        let state = tree.scan(filter, &mut ScanCursor::new(), 3, |name, _| {
            found.push(name.to_string());
            ControlFlow::Continue(())
        });
        assert_eq!(state, ScanState::Done);
        assert_eq!(found, expected);
    }
}

#[test]
fn a_scan_of_all_names_visits_those_that_start_with_dollar_too() {
    let mut tree = TopicTree::new();
    for name in ["$SYS/up", "a", "a/b", "zebra"] {
        tree.insert(&TopicNameBuf::try_from(name).unwrap(), 0);
    }
    let mut found = Vec::new();
    let mut cursor = ScanCursor::new();
    // A node a step: the cursor has to find its place again each time.
    while tree.scan_all(&mut cursor, 1, |name, _| {
        found.push(name.to_string());
        ControlFlow::Continue(())
    }) == ScanState::More
    {}
    assert_eq!(found, ["$SYS/up", "a", "a/b", "zebra"]);
}

#[test]
fn a_large_tree_survives_its_shrinking() {
    let name = |number: u32| {
        TopicNameBuf::try_from(format!("r/c{}/k{}", number / 500, number % 500)).unwrap()
    };
    let count = 20_000;
    let mut tree = TopicTree::new();
    let empty_bytes = tree.memory_bytes();
    for number in 0..count {
        assert_eq!(tree.insert(&name(number), [u64::from(number); 2]), None);
    }
    let full_bytes = tree.memory_bytes();
    assert!(full_bytes / count as usize <= 150 + 16, "{full_bytes}");
    for step in 0..count {
        let number = step * 7_919 % count;
        assert_eq!(tree.remove(&name(number)), Some([u64::from(number); 2]));
        assert_eq!(tree.get(&name(number)), None);
        if step + 1 < count {
            let next = (step + 1) * 7_919 % count;
            assert_eq!(tree.get(&name(next)), Some(&[u64::from(next); 2]));
        }
        if step + 1 == count * 9 / 10 {
            assert!(tree.memory_bytes() < full_bytes / 3);
        }
    }
    assert!(tree.memory_bytes() <= empty_bytes + 4096);
}

#[test]
fn a_tree_shows_its_names_and_values() {
    let mut tree = TopicTree::default();
    tree.insert(TopicName::new("b").unwrap(), 2);
    tree.insert(TopicName::new("a/c").unwrap(), 1);
    assert_eq!(format!("{tree:?}"), "{\"a/c\": 1, \"b\": 2}");
}
