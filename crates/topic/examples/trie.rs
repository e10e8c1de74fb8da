//! A table of subscriptions, asked who gets what: the trie without a broker around it.
//!
//! ```console
//! $ cargo run -p whimbrel-topic --example trie
//! ```

use whimbrel_topic::{FilterTrie, MatchScratch, SubscriptionFilter, TopicName};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let subscriptions = [
        ("kitchen display", "home/kitchen/#"),
        ("climate control", "home/+/temperature"),
        ("archive", "#"),
        ("broker monitor", "$SYS/#"),
        ("worker 1", "$share/workers/home/+/camera"),
        ("worker 2", "$share/workers/home/+/camera"),
    ];
    // One entry per filter; its value is who subscribed.
    let mut trie: FilterTrie<Vec<&str>> = FilterTrie::new();
    for (subscriber, text) in subscriptions {
        let subscription = SubscriptionFilter::parse(text)?;
        trie.get_or_insert_with(subscription.filter(), Vec::new)
            .push(subscriber);
    }
    println!("{} filters in {} bytes", trie.len(), trie.memory_bytes());

    let mut scratch = MatchScratch::new();
    for text in [
        "home/kitchen/temperature",
        "home/kitchen",
        "home/hall/camera",
        "$SYS/uptime",
    ] {
        let mut subscribers = Vec::new();
        trie.for_each_match(TopicName::new(text)?, &mut scratch, |value| {
            subscribers.extend_from_slice(value);
        });
        println!("{text}: {}", subscribers.join(", "));
    }
    Ok(())
}
