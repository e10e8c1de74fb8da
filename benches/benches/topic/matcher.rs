//! The matchers that are compared, each used as its documentation shows.

use mqtt_topic_engine::{CacheStrategy, TopicPath, TopicPatternPath, TopicRouter};
use whimbrel_benches::Population;
use whimbrel_topic::{FilterTrie, MatchScratch, TopicNameBuf};

/// A structure that finds the filters that match a topic.
pub(crate) trait Matcher {
    /// What figures call it.
    const NAME: &'static str;
    /// A topic in the form that it is asked by: making it is not counted.
    type Topic;

    /// All filters of the population, each with its number.
    fn build(population: Population) -> Self;
    fn topic(text: &str) -> Self::Topic;
    /// How many filters match.
    fn matches(&mut self, topic: &Self::Topic) -> usize;
}

/// Whimbrel's, whose matches are told one by one, without allocating.
pub(crate) struct Whimbrel {
    trie: FilterTrie<u32>,
    scratch: MatchScratch,
}

impl Matcher for Whimbrel {
    const NAME: &'static str = "whimbrel";
    type Topic = TopicNameBuf;

    fn build(population: Population) -> Whimbrel {
        Whimbrel {
            trie: population.trie(),
            scratch: MatchScratch::new(),
        }
    }

    fn topic(text: &str) -> TopicNameBuf {
        TopicNameBuf::try_from(text).expect("a valid topic name")
    }

    fn matches(&mut self, topic: &TopicNameBuf) -> usize {
        let mut count = 0;
        self.trie
            .for_each_match(topic, &mut self.scratch, |_| count += 1);
        count
    }
}

/// mqtt-topic-engine: a tree of hash maps, under a table of subscriptions by number.
pub(crate) struct TopicEngine(TopicRouter<u32>);

impl Matcher for TopicEngine {
    const NAME: &'static str = "mqtt_topic_engine";
    type Topic = TopicPath;

    fn build(population: Population) -> TopicEngine {
        let mut router = TopicRouter::new();
        for (number, filter) in numbered(population) {
            let pattern = TopicPatternPath::new_from_string(filter, CacheStrategy::NoCache);
            let pattern = pattern.expect("a valid filter");
            router.add_subscription(pattern, mqtt_topic_engine::QoS::AtMostOnce, number);
        }
        TopicEngine(router)
    }

    fn topic(text: &str) -> TopicPath {
        TopicPath::new(text).expect("a valid topic name")
    }

    fn matches(&mut self, topic: &TopicPath) -> usize {
        self.0.get_subscribers(topic).len()
    }
}

/// mqtt_topic_tree: a tree of hash maps. Each match reserves room for as many subscribers as there are in all.
pub(crate) struct TopicTree(mqtt_topic_tree::TopicTree);

impl Matcher for TopicTree {
    const NAME: &'static str = "mqtt_topic_tree";
    type Topic = mqtt_topic_tree::TopicName;

    fn build(population: Population) -> TopicTree {
        let mut tree = mqtt_topic_tree::TopicTree::default();
        for (number, filter) in numbered(population) {
            let filter = mqtt_topic_tree::TopicFilter::try_from(filter);
            let filter = filter.expect("a valid filter");
            tree.add_subscription(filter, u64::from(number), mqtt_topic_tree::QoS::Level0);
        }
        TopicTree(tree)
    }

    fn topic(text: &str) -> Self::Topic {
        let name = mqtt_topic_tree::TopicName::try_from(text.to_owned());
        name.expect("a valid topic name")
    }

    fn matches(&mut self, topic: &Self::Topic) -> usize {
        self.0.get_subscriptions(topic).len()
    }
}

/// quill-pubsub: a tree of hash maps behind a lock, with the patterns by subscriber beside it.
pub(crate) struct Quill(quill::Registry<u32>);

impl Matcher for Quill {
    const NAME: &'static str = "quill_pubsub";
    type Topic = quill::Topic;

    fn build(population: Population) -> Quill {
        let registry = quill::Registry::new();
        for (number, filter) in numbered(population) {
            let pattern = quill::Pattern::parse(&filter).expect("a valid filter");
            registry.subscribe(pattern, number);
        }
        Quill(registry)
    }

    fn topic(text: &str) -> quill::Topic {
        quill::Topic::parse(text).expect("a valid topic name")
    }

    fn matches(&mut self, topic: &quill::Topic) -> usize {
        self.0.matching(topic).len()
    }
}

fn numbered(population: Population) -> impl Iterator<Item = (u32, String)> {
    (0..population.size).map(move |index| {
        let number = u32::try_from(index).expect("a population of less than 2^32");
        (number, population.filter(index).as_str().to_owned())
    })
}
