//! `--deny-subscribe`: filters that nobody may subscribe to. No access rules yet: wider filters reach the same topics.

use whimbrel_broker::topic::{SubscriptionFilter, TopicFilter, TopicFilterBuf, TopicName};
use whimbrel_broker::{Access, Authorizer, ClientInfo, ReasonCode};

/// Refuses subscriptions to nothing but topics of these filters, in every version with 0x80. A wider one, such as
/// `#`, is granted, and brings these topics too.
#[derive(Debug)]
pub(crate) struct DeniedFilters(pub(crate) Vec<TopicFilterBuf>);

impl Authorizer for DeniedFilters {
    fn may_publish(&self, _: &ClientInfo, _: &TopicName) -> Access {
        Access::Allow
    }

    fn may_subscribe(&self, _: &ClientInfo, filter: SubscriptionFilter<'_>) -> Access {
        let asked = filter.filter();
        if self.0.iter().any(|denied| covers(denied, asked)) {
            Access::DenyWith(ReasonCode::UnspecifiedError)
        } else {
            Access::Allow
        }
    }
}

/// Whether every topic that `inner` matches is matched by `outer` too.
fn covers(outer: &TopicFilter, inner: &TopicFilter) -> bool {
    let starts_with_dollar = inner.as_str().starts_with('$');
    if starts_with_dollar && outer.starts_with_wildcard() {
        return false; // [MQTT-4.7.2-1]
    }
    let mut inner = inner.levels();
    for level in outer.levels() {
        match (level, inner.next()) {
            // "#" stands for its parent too.
            ("#", _) => return true,
            (_, None | Some("#")) => return false,
            ("+", Some(_)) => {}
            (text, Some(asked)) if text == asked => {}
            _ => return false,
        }
    }
    inner.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> &TopicFilter {
        TopicFilter::new(text).expect("valid")
    }

    #[test]
    fn a_filter_covers_what_matches_no_topic_beyond_its_own() {
        for (outer, inner) in [
            ("a/b", "a/b"),
            ("a/+", "a/b"),
            ("a/+", "a/+"),
            ("a/#", "a"),
            ("a/#", "a/b/+/c"),
            ("a/#", "a/#"),
            ("#", "a/b"),
            ("+/b", "a/b"),
            ("$SYS/#", "$SYS/broker/+"),
        ] {
            assert!(covers(filter(outer), filter(inner)), "{outer} {inner}");
        }
        for (outer, inner) in [
            ("a/b", "a/+"),
            ("a/b", "a/#"),
            ("a/b", "#"),
            ("a/+", "a/#"),
            ("a/+", "a"),
            ("a/+", "a/b/c"),
            ("a/b", "a/b/c"),
            ("a/#", "b/a"),
            ("+/b", "#"),
            ("#", "$SYS/broker"),
            ("+/broker", "$SYS/broker"),
        ] {
            assert!(!covers(filter(outer), filter(inner)), "{outer} {inner}");
        }
    }
}
