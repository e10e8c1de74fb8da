//! Topic names and filters over so few levels that they often meet.

use proptest::prelude::*;
use whimbrel_topic::{TopicFilterBuf, TopicNameBuf};

/// Names of one to five levels.
pub(crate) fn names() -> impl Strategy<Value = TopicNameBuf> {
    let levels = prop::collection::vec(level(), 1..=5);
    levels.prop_filter_map("a name is not empty", |levels| {
        TopicNameBuf::try_from(levels.join("/")).ok()
    })
}

/// Filters of one to six levels.
pub(crate) fn filters() -> impl Strategy<Value = TopicFilterBuf> {
    let level = prop_oneof![3 => level(), 1 => Just(String::from("+"))];
    let levels = prop::collection::vec(level, 0..=5);
    let ends = prop_oneof![2 => Just(None), 1 => Just(Some(String::from("#")))];
    (levels, ends).prop_filter_map("a filter is not empty", |(mut levels, end)| {
        levels.extend(end);
        TopicFilterBuf::try_from(levels.join("/")).ok()
    })
}

/// Mostly one of few; sometimes one of enough for nodes to outgrow their inline children.
fn level() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop::sample::select(FEW).prop_map(String::from),
        1 => (0_u8..20).prop_map(|number| number.to_string()),
    ]
}

const FEW: &[&str] = &["", "a", "b", "$x", "a level too long to be kept inline"];
