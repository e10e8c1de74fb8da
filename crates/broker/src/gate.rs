//! [`ConnectionGate`]: the hooks' verdict on each packet of one connection.

use std::panic::{AssertUnwindSafe, catch_unwind};

use whimbrel_broker_core::session::InboundPublish;
use whimbrel_broker_core::session::codec::topic::{SubscriptionFilter, TopicName, TopicNameBuf};
use whimbrel_broker_core::session::codec::{ReasonCode, SubscribeRef};
use whimbrel_broker_core::{Gate, Verdict};

use crate::hooks::{Access, ClientInfo, Hooks, IncomingPublish, Interception};

/// Asks the hooks of a connection; without any, one test of a `None`.
#[derive(Debug)]
pub(crate) struct ConnectionGate {
    hooked: Option<Box<Hooked>>,
}

#[derive(Debug)]
struct Hooked {
    client: ClientInfo,
    hooks: Hooks,
    known: KnownTopics,
}

impl ConnectionGate {
    pub(crate) fn new(hooks: &Hooks, client: ClientInfo) -> Self {
        let is_needed = hooks.authorizer.is_some() || hooks.interceptor.is_some();
        Self {
            hooked: is_needed.then(|| {
                Box::new(Hooked {
                    client,
                    hooks: hooks.clone(),
                    known: KnownTopics::default(),
                })
            }),
        }
    }

    /// Whether the client may publish to `topic`.
    pub(crate) fn may_publish(&mut self, topic: &TopicName) -> Access {
        self.hooked
            .as_mut()
            .map_or(Access::Allow, |hooked| hooked.may_publish(topic))
    }
}

impl Gate for ConnectionGate {
    fn publish(&mut self, publish: &InboundPublish<'_>) -> Verdict {
        let Some(hooked) = &mut self.hooked else {
            return Verdict::Allow;
        };
        match hooked.may_publish(&publish.topic) {
            Access::Allow => hooked.intercept(publish),
            Access::Deny => Verdict::Refuse(ReasonCode::NotAuthorized),
        }
    }

    fn subscribe(&mut self, subscribe: &SubscribeRef<'_>) -> Verdict {
        let Some(hooked) = &mut self.hooked else {
            return Verdict::Allow;
        };
        if hooked.hooks.authorizer.is_none() {
            return Verdict::Allow;
        }
        let codes = subscribe.filters().map(|requested| {
            // An invalid filter is refused by the shard, with the code for that.
            match SubscriptionFilter::parse(requested.filter) {
                Ok(filter) if hooked.may_subscribe(filter) == Access::Deny => {
                    ReasonCode::NotAuthorized
                }
                _ => ReasonCode::Success,
            }
        });
        Verdict::Filters(codes.collect())
    }
}

impl Hooked {
    fn may_publish(&mut self, topic: &TopicName) -> Access {
        let Some(authorizer) = &self.hooks.authorizer else {
            return Access::Allow;
        };
        let decided = caught("authorizer", || {
            self.known.begin(authorizer.generation());
            self.known.find(topic).unwrap_or_else(|| {
                let access = authorizer.may_publish(&self.client, topic);
                self.known.note(topic, access);
                access
            })
        });
        decided.unwrap_or(Access::Deny)
    }

    fn may_subscribe(&self, filter: SubscriptionFilter<'_>) -> Access {
        let Some(authorizer) = &self.hooks.authorizer else {
            return Access::Allow;
        };
        caught("authorizer", || {
            authorizer.may_subscribe(&self.client, filter)
        })
        .unwrap_or(Access::Deny)
    }

    fn intercept(&self, publish: &InboundPublish<'_>) -> Verdict {
        let Some(interceptor) = &self.hooks.interceptor else {
            return Verdict::Allow;
        };
        let incoming = IncomingPublish::new(&publish.topic, &publish.publish);
        let said = caught("interceptor", || {
            interceptor.on_publish(&self.client, &incoming)
        });
        match said {
            Some(Interception::Pass) => Verdict::Allow,
            Some(Interception::Replace(publish)) => Verdict::Replace(publish),
            Some(Interception::Discard) => Verdict::Discard,
            Some(Interception::Refuse(reason)) => Verdict::Refuse(reason),
            Some(Interception::Disconnect(reason)) => Verdict::Disconnect(reason),
            None => Verdict::Refuse(ReasonCode::ImplementationSpecificError),
        }
    }
}

/// Calls a hook; `None` if it panicked.
pub(crate) fn caught<T>(hook: &'static str, call: impl FnOnce() -> T) -> Option<T> {
    let outcome = catch_unwind(AssertUnwindSafe(call));
    if outcome.is_err() {
        tracing::error!(hook, "a hook panicked, which counts as a refusal");
    }
    outcome.ok()
}

/// What the authorizer said about the last few topics of a connection.
#[derive(Debug, Default)]
struct KnownTopics {
    generation: u64,
    /// At most [`TOPICS_MAX`], each of at most [`TOPIC_BYTES_MAX`] bytes.
    topics: Vec<(TopicNameBuf, Access)>,
    oldest: usize,
}

impl KnownTopics {
    /// Forgets everything if the rules have changed.
    fn begin(&mut self, generation: u64) {
        if self.generation != generation {
            *self = Self {
                generation,
                ..Self::default()
            };
        }
    }

    fn find(&self, topic: &TopicName) -> Option<Access> {
        let mut known = self.topics.iter();
        known
            .find(|(known, _)| known.as_name() == topic)
            .map(|&(_, access)| access)
    }

    fn note(&mut self, topic: &TopicName, access: Access) {
        if topic.as_bytes().len() > TOPIC_BYTES_MAX {
            return;
        }
        let entry = (TopicNameBuf::from(topic), access);
        if self.topics.len() < TOPICS_MAX {
            self.topics.push(entry);
        } else {
            self.topics[self.oldest] = entry;
            self.oldest = (self.oldest + 1) % TOPICS_MAX;
        }
    }
}

/// Most devices publish to a handful of topics; past that a linear search is no gain.
const TOPICS_MAX: usize = 8;
/// Longer topics are asked about each time.
const TOPIC_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> TopicNameBuf {
        TopicNameBuf::from(TopicName::new(name).expect("valid"))
    }

    #[test]
    fn decisions_are_remembered_until_the_rules_change() {
        let mut known = KnownTopics::default();
        known.begin(1);
        known.note(&topic("a"), Access::Deny);
        known.begin(1);
        assert_eq!(known.find(&topic("a")), Some(Access::Deny));
        known.begin(2);
        assert_eq!(known.find(&topic("a")), None);
    }

    #[test]
    fn only_the_last_topics_are_remembered() {
        let mut known = KnownTopics::default();
        for number in 0..=TOPICS_MAX {
            known.note(&topic(&format!("t/{number}")), Access::Allow);
        }
        assert_eq!(known.topics.len(), TOPICS_MAX);
        assert_eq!(known.find(&topic("t/0")), None);
        assert_eq!(known.find(&topic("t/1")), Some(Access::Allow));
        known.note(&topic(&"x".repeat(TOPIC_BYTES_MAX + 1)), Access::Allow);
        assert_eq!(known.find(&topic("t/1")), Some(Access::Allow));
    }
}
