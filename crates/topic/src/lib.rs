//! MQTT topic names, topic filters and shared subscriptions, and the two trees a server needs to match them.
//!
//! The rules for topics are short, but every MQTT program needs them and most have got one of them wrong: `#` matches
//! its parent level, `$` topics hide from wildcards, empty levels count. Here a text is checked once and is then of a
//! type that cannot be wrong, and the fast structures are held by tests to the plain reading of the standard,
//! [`TopicFilter::matches`].
//!
//! ```
//! use whimbrel_topic::{FilterTrie, MatchScratch, SubscriptionFilter, TopicName};
//!
//! let mut trie = FilterTrie::new();
//! for (client, text) in ["sport/#", "$share/g/sport/+"].into_iter().enumerate() {
//!     let subscription = SubscriptionFilter::parse(text)?;
//!     trie.get_or_insert_with(subscription.filter(), Vec::new).push(client);
//! }
//! let mut clients: Vec<usize> = Vec::new();
//! let topic = TopicName::new("sport/tennis")?;
//! trie.for_each_match(topic, &mut MatchScratch::new(), |value| clients.extend(value));
//! clients.sort();
//! assert_eq!(clients, [0, 1]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What there is
//!
//! * [`TopicName`], [`TopicFilter`], [`ShareName`]: checked text, borrowed, as `Path` is to `str`; [`TopicNameBuf`],
//!   [`TopicFilterBuf`], [`SubscriptionFilterBuf`]: owned over a [`ByteStr`], whose clones and slices share memory;
//!   [`TopicNameList`]: many names without an allocation for each.
//! * [`SubscriptionFilter`]: what a SUBSCRIBE names, a filter or a group's share of one.
//! * [`FilterTrie`]: filter to value, asked by topic: subscriptions. [`GenerationBucket`] tells when a cached match has
//!   to be done again.
//! * [`TopicTree`]: topic to value, asked by filter: retained messages. Its scan goes in steps, between which the tree
//!   may change.
//!
//! # Contract
//!
//! The rules are those of MQTT 5.0, sections 4.7 and 4.8.2; those of 3.1.1 are the same but for shared subscriptions,
//! which it does not have. Text is compared bytewise. Errors are `Copy`, name the rule broken and cite its clause.
//! There is no I/O, no clock, no thread and no randomness: the same calls give the same results, in the same order.
//! Whoever lets clients choose filters gives [`FilterTrie::with_seed`] a random seed.
//!
//! # Limits
//!
//! A name or filter takes at most [`TOPIC_BYTES_MAX`] bytes and so has at most 65,536 levels; nothing recurses over
//! them. A server limits levels further with `exceeds_levels`, as each level of a filter or retained topic may cost a
//! node. How many entries the trees hold is the caller's to bound; `memory_bytes` tells what they take.
//!
//! The minimum Rust version is 1.90; raising it is a minor release. There are no cargo features.

mod arena;
mod byte_str;
mod filter_trie;
mod generation;
mod level_text;
mod levels;
mod scan;
mod subscription_filter;
mod topic_filter;
mod topic_name;
mod topic_name_list;
mod topic_tree;

pub use byte_str::{ByteStr, ascii_text};
pub use filter_trie::{FilterTrie, MatchScratch};
pub use generation::GenerationBucket;
pub use levels::Levels;
pub use subscription_filter::{ShareName, SubscriptionFilter, SubscriptionFilterBuf};
pub use topic_filter::{TopicFilter, TopicFilterBuf, TopicFilterError};
pub use topic_name::{TOPIC_BYTES_MAX, TopicName, TopicNameBuf, TopicNameError};
pub use topic_name_list::TopicNameList;
pub use topic_tree::{ScanCursor, ScanState, TopicTree};
