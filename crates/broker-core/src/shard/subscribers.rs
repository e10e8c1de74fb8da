//! The dense local table: filter → the sessions of this shard that subscribed to it.

use whimbrel_session::codec::topic::TopicFilter;
use whimbrel_session::codec::{QoS, SubscriptionId, SubscriptionOptions};
use whimbrel_session::mutant;

use crate::SessionKey;

/// A filter with at least one subscriber on this shard.
#[derive(Debug)]
pub(super) struct LocalFilter {
    /// Its text, which takes half the place of an owned filter that can be shared.
    text: Box<str>,
    /// Subscribers whose messages have to be stored: granted above `QoS` 0 in a session that
    /// outlives its connection.
    pub(super) durable: u32,
    pub(super) subscribers: Subscribers,
}

impl LocalFilter {
    pub(super) fn new(filter: &TopicFilter, first: Subscriber, stores: bool) -> Self {
        Self {
            text: filter.as_str().into(),
            durable: u32::from(stores),
            subscribers: Subscribers::One(first),
        }
    }

    pub(super) fn filter(&self) -> &TopicFilter {
        TopicFilter::new(&self.text).expect("it is the text of a filter")
    }
}

/// One session's subscription to one filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subscriber {
    pub(super) session: SessionKey,
    pub(super) subscription_id: Option<SubscriptionId>,
    pub(super) qos: QoS,
    flags: u8,
}

impl Subscriber {
    pub(super) fn new(
        session: SessionKey,
        options: SubscriptionOptions,
        subscription_id: Option<SubscriptionId>,
    ) -> Self {
        Self {
            session,
            subscription_id,
            qos: options.qos,
            flags: if options.no_local { NO_LOCAL } else { 0 }
                | if options.retain_as_published {
                    RETAIN_AS_PUBLISHED
                } else {
                    0
                },
        }
    }

    /// [MQTT-3.8.3-3]
    pub(super) fn no_local(self) -> bool {
        self.flags & NO_LOCAL != 0
    }

    /// [MQTT-3.3.1-12, MQTT-3.3.1-13]
    pub(super) fn retain_as_published(self) -> bool {
        self.flags & RETAIN_AS_PUBLISHED != 0 && !mutant!(RetainAsPublishedIgnored)
    }
}

const NO_LOCAL: u8 = 1;
const RETAIN_AS_PUBLISHED: u8 = 2;

/// Most filters have one subscriber: it stands inline.
#[derive(Debug)]
pub(super) enum Subscribers {
    One(Subscriber),
    /// Boxed, so that the usual one costs 16 bytes.
    #[expect(clippy::box_collection, reason = "keeps the enum small")]
    Many(Box<Vec<Subscriber>>),
}

impl Subscribers {
    pub(super) fn as_slice(&self) -> &[Subscriber] {
        match self {
            Self::One(subscriber) => std::slice::from_ref(subscriber),
            Self::Many(subscribers) => subscribers,
        }
    }

    pub(super) fn slot_mut(&mut self, slot: u32) -> &mut Subscriber {
        match self {
            Self::One(subscriber) => subscriber,
            Self::Many(subscribers) => &mut subscribers[slot as usize],
        }
    }

    /// Adds a subscriber and says in which slot it stands.
    pub(super) fn push(&mut self, subscriber: Subscriber) -> u32 {
        if let Self::One(first) = self {
            *self = Self::Many(Box::new(vec![*first]));
        }
        let Self::Many(subscribers) = self else {
            unreachable!("made many just above")
        };
        subscribers.push(subscriber);
        // Sessions are counted in 32 bits, and each stands here once.
        u32::try_from(subscribers.len() - 1).expect("fewer subscribers than sessions")
    }

    /// Takes the subscriber in `slot` out and says what is left.
    pub(super) fn remove(&mut self, slot: u32) -> Removed {
        match self {
            Self::One(_) => Removed::Last,
            Self::Many(subscribers) => {
                subscribers.swap_remove(slot as usize);
                if subscribers.is_empty() {
                    return Removed::Last;
                }
                let moved = subscribers.get(slot as usize).map(|moved| moved.session);
                if subscribers.len() == 1 {
                    *self = Self::One(subscribers[0]);
                } else if subscribers.len() * 4 < subscribers.capacity() {
                    subscribers.shrink_to(subscribers.len() * 2);
                }
                moved.map_or(Removed::Plain, Removed::Moved)
            }
        }
    }
}

/// What the removal of a subscriber did to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removed {
    /// Nobody is left.
    Last,
    /// The others stand where they stood.
    Plain,
    /// This session's subscriber moved into the freed slot.
    Moved(SessionKey),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscriber(index: u32) -> Subscriber {
        let session = SessionKey {
            index,
            generation: 0,
        };
        Subscriber::new(session, SubscriptionOptions::default(), None)
    }

    #[test]
    fn removal_tells_who_moved() {
        let mut subscribers = Subscribers::One(subscriber(0));
        assert_eq!(subscribers.push(subscriber(1)), 1);
        assert_eq!(subscribers.push(subscriber(2)), 2);
        assert_eq!(subscribers.remove(0), Removed::Moved(subscriber(2).session));
        assert_eq!(subscribers.remove(1), Removed::Plain);
        assert_eq!(subscribers.as_slice(), [subscriber(2)]);
        assert_eq!(subscribers.remove(0), Removed::Last);
    }

    #[test]
    fn a_subscriber_is_small() {
        assert!(size_of::<Subscriber>() <= 16);
        assert!(size_of::<Subscribers>() <= 16);
        assert!(size_of::<(crate::FilterId, LocalFilter)>() <= 48);
    }
}
