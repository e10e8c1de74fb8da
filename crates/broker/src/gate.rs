//! [`ConnectionGate`]: the hooks' verdict on each packet of one connection.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll};

use whimbrel_broker_core::session::InboundPublish;
use whimbrel_broker_core::session::codec::bytes::Bytes;
use whimbrel_broker_core::session::codec::topic::{SubscriptionFilter, TopicName, TopicNameBuf};
use whimbrel_broker_core::session::codec::{AuthRef, PacketType, ReasonCode, SubscribeRef};
use whimbrel_broker_core::{AuthenticationAnswer, Gate, Verdict};

use crate::exchange::{AuthenticationExchange, Renewal};
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
    /// Of a client that is let in by enhanced authentication, and may do it again.
    renewal: Renewal,
}

impl ConnectionGate {
    /// `is_enhanced` says that the client is let in by enhanced authentication.
    pub(crate) fn new(hooks: &Hooks, client: ClientInfo, is_enhanced: bool) -> Self {
        let is_needed = is_enhanced || hooks.authorizer.is_some() || hooks.interceptor.is_some();
        Self {
            hooked: is_needed.then(|| {
                Box::new(Hooked {
                    client,
                    hooks: hooks.clone(),
                    known: KnownTopics::default(),
                    renewal: Renewal::Over,
                })
            }),
        }
    }

    /// The answer to the client's last AUTH, once it is decided.
    pub(crate) fn poll_authentication(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<AuthenticationAnswer> {
        match &mut self.hooked {
            Some(hooked) => hooked.renewal.poll(context),
            None => Poll::Pending,
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
        match hooked.may_publish(&publish.topic).refusal() {
            None => hooked.intercept(publish),
            Some(reason) => Verdict::Refuse(reason),
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
                Ok(filter) => hooked.may_subscribe(filter).refusal(),
                Err(_) => None,
            }
        });
        let codes = codes.map(|refusal| {
            refusal.map_or(ReasonCode::Success, |reason| {
                sayable(reason, PacketType::SubAck)
            })
        });
        Verdict::Filters(codes.collect())
    }

    fn authenticate(&mut self, auth: &AuthRef<'_>) -> Verdict {
        match &mut self.hooked {
            Some(hooked) => hooked.renew(auth),
            None => Verdict::Disconnect(ReasonCode::NotAuthorized),
        }
    }
}

/// `reason`, if it is a failure that the packet can say, else 0x80.
fn sayable(reason: ReasonCode, packet_type: PacketType) -> ReasonCode {
    if reason.is_error() && reason.allowed_in(packet_type) {
        reason
    } else {
        ReasonCode::UnspecifiedError
    }
}

impl Hooked {
    /// A step of a new authentication [MQTT-4.12.1-1].
    fn renew(&mut self, auth: &AuthRef<'_>) -> Verdict {
        let exchange = if auth.reason == ReasonCode::ReAuthenticate {
            begin_exchange(&self.hooks, auth.method, &self.client)
        } else {
            match std::mem::replace(&mut self.renewal, Renewal::Over) {
                Renewal::Waiting(exchange) => Some(exchange),
                Renewal::Deciding(_) | Renewal::Over => None,
            }
        };
        let Some(exchange) = exchange else {
            return Verdict::Disconnect(ReasonCode::NotAuthorized);
        };
        let data = auth.properties.authentication_data();
        self.renewal = Renewal::begin(exchange, data.map(Bytes::copy_from_slice));
        Verdict::Pending
    }

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
            Some(Interception::DisconnectWith(refusal)) => {
                Verdict::DisconnectWith(Box::new(refusal.into_disconnect()))
            }
            None => Verdict::Refuse(ReasonCode::ImplementationSpecificError),
        }
    }
}

/// Begins an enhanced authentication, if there is an authenticator that knows the method.
pub(crate) fn begin_exchange(
    hooks: &Hooks,
    method: &str,
    client: &ClientInfo,
) -> Option<Box<dyn AuthenticationExchange>> {
    let authenticator = hooks.authenticator.as_ref()?;
    caught("authenticator", || {
        authenticator.begin_exchange(method, client)
    })
    .flatten()
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
