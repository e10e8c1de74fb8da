//! Messages that were accepted, and who waits for what becomes of them.

use std::task::{Poll, Waker};

use slab::Slab;
use whimbrel_session::Tick;
use whimbrel_session::codec::bytes::Bytes;
use whimbrel_session::codec::topic::TopicNameBuf;
use whimbrel_session::codec::{
    FanOut, FanOutBuffer, MessageProperties, PAYLOAD_SHARE_MIN, Payload, PublishSource, QoS,
    ReasonCode,
};

use crate::PublishError;
use crate::message::MESSAGE_BYTES;

/// A message as the application gave it.
#[derive(Debug)]
pub(crate) struct Publication {
    pub(crate) topic: TopicNameBuf,
    pub(crate) payload: Bytes,
    pub(crate) properties: MessageProperties,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// When its expiry interval is over.
    pub(crate) expires_at: Option<Tick>,
    /// Its number in the outbox, if it is kept there.
    pub(crate) sequence: Option<u64>,
}

/// How the publication of a message ended.
pub(crate) type Outcome = Result<ReasonCode, PublishError>;

/// Every message from its acceptance to its last acknowledgement, and until its outcome was asked for or nobody can ask.
///
/// Bounded by [`Admission`](super::admission::Admission), and outcomes by those who hold a receipt.
#[derive(Debug, Default)]
pub(crate) struct Publications {
    slots: Slab<Slot>,
    /// Those that are not done with.
    open_count: usize,
}

/// A message among the [`Publications`].
///
/// Invariant: held by one place in the queue or one exchange, and by one receipt; free when both have let it go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PublicationKey(u32);

#[derive(Debug)]
struct Slot {
    /// `None` when it is done with.
    publication: Option<Publication>,
    /// What the queue counts for it, whatever of it is let go meanwhile.
    cost: usize,
    waiter: Waiter,
}

#[derive(Debug)]
enum Waiter {
    /// A receipt is held, and asked for by this task if by any.
    Held(Option<Waker>),
    /// Nobody asks any more.
    Abandoned,
    Done(Outcome),
}

impl Publication {
    /// What a queue counts for it, in bytes.
    pub(crate) fn cost(&self) -> usize {
        MESSAGE_BYTES
            + self.topic.as_bytes().len()
            + self.payload.len()
            + self.properties.as_properties().as_bytes().len()
    }

    pub(crate) fn is_expired(&self, now: Tick) -> bool {
        self.expires_at.is_some_and(|due| due <= now)
    }

    /// Gets it ready to be written.
    pub(crate) fn fan_out<'a>(&'a self, now: Tick, buffer: &'a mut FanOutBuffer) -> FanOut<'a> {
        let payload = if self.payload.len() >= PAYLOAD_SHARE_MIN {
            Payload::Shared(&self.payload)
        } else {
            Payload::Borrowed(&self.payload)
        };
        let source = PublishSource {
            topic: &self.topic,
            properties: self.properties.as_properties(),
            payload,
            message_expiry_secs: self.expires_at.map(|due| seconds_between(now, due)),
        };
        FanOut::new(source, buffer)
    }
}

impl Publications {
    /// Takes a message, with a receipt for its outcome.
    pub(crate) fn insert(&mut self, publication: Publication) -> PublicationKey {
        let cost = publication.cost();
        self.open_count += 1;
        let key = self.slots.insert(Slot {
            publication: Some(publication),
            cost,
            waiter: Waiter::Held(None),
        });
        // The bound of the queue keeps them far below: each counts 256 bytes there.
        PublicationKey(u32::try_from(key).expect("fewer than 2^32 messages"))
    }

    /// The message, while it is not done with.
    pub(crate) fn message(&self, key: PublicationKey) -> Option<&Publication> {
        self.slots.get(key.0 as usize)?.publication.as_ref()
    }

    /// The server has it: only its place in the exchange is needed still.
    pub(crate) fn let_body_go(&mut self, key: PublicationKey) {
        if let Some(slot) = self.slots.get_mut(key.0 as usize)
            && let Some(publication) = &mut slot.publication
        {
            publication.payload = Bytes::new();
            publication.properties = MessageProperties::new();
        }
    }

    /// The message is done with; returns what the queue has counted for it.
    pub(crate) fn complete(&mut self, key: PublicationKey, outcome: Outcome) -> usize {
        let index = key.0 as usize;
        let Some(slot) = self.slots.get_mut(index) else {
            return 0;
        };
        let Some(_) = slot.publication.take() else {
            return 0;
        };
        let cost = slot.cost;
        self.open_count -= 1;
        match std::mem::replace(&mut slot.waiter, Waiter::Done(outcome)) {
            Waiter::Held(waker) => {
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            Waiter::Abandoned | Waiter::Done(_) => {
                self.slots.remove(index);
            }
        }
        cost
    }

    /// The outcome; with it the receipt is used up.
    pub(crate) fn poll(&mut self, key: PublicationKey, waker: &Waker) -> Poll<Outcome> {
        let index = key.0 as usize;
        let Some(slot) = self.slots.get_mut(index) else {
            return Poll::Pending;
        };
        match &mut slot.waiter {
            Waiter::Held(Some(known)) => known.clone_from(waker),
            Waiter::Held(known @ None) => *known = Some(waker.clone()),
            Waiter::Abandoned => {}
            Waiter::Done(_) => {
                if let Waiter::Done(outcome) = self.slots.remove(index).waiter {
                    return Poll::Ready(outcome);
                }
            }
        }
        Poll::Pending
    }

    /// The receipt is gone unused.
    pub(crate) fn abandon(&mut self, key: PublicationKey) {
        let index = key.0 as usize;
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        if slot.publication.is_some() {
            slot.waiter = Waiter::Abandoned;
        } else {
            self.slots.remove(index);
        }
    }

    /// How many are not done with.
    pub(crate) fn open_count(&self) -> usize {
        self.open_count
    }

    /// Every message that is not done with.
    pub(crate) fn open(&self) -> Vec<PublicationKey> {
        let open = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.publication.is_some());
        // As it was made in `insert`.
        open.map(|(index, _)| PublicationKey(u32::try_from(index).unwrap_or(u32::MAX)))
            .collect()
    }
}

/// Rounded up: what is left of a second counts as one.
fn seconds_between(now: Tick, due: Tick) -> u32 {
    let milliseconds = due.0.saturating_sub(now.0);
    u32::try_from(milliseconds.div_ceil(1_000)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication() -> Publication {
        Publication {
            topic: TopicNameBuf::try_from("t").expect("a topic"),
            payload: Bytes::from_static(b"m"),
            properties: MessageProperties::new(),
            qos: QoS::AtLeastOnce,
            retain: false,
            expires_at: None,
            sequence: None,
        }
    }

    #[test]
    fn an_outcome_is_kept_for_its_receipt() {
        let mut publications = Publications::default();
        let key = publications.insert(publication());
        assert!(publications.poll(key, Waker::noop()).is_pending());
        assert_eq!(publications.complete(key, Ok(ReasonCode::Success)), 258);
        assert!(publications.message(key).is_none());
        let outcome = publications.poll(key, Waker::noop());
        assert!(matches!(outcome, Poll::Ready(Ok(ReasonCode::Success))));
        assert!(publications.slots.is_empty());
    }

    #[test]
    fn nothing_is_left_of_a_message_whose_receipt_is_gone() {
        let mut publications = Publications::default();
        let before = publications.insert(publication());
        publications.abandon(before);
        assert_eq!(publications.complete(before, Ok(ReasonCode::Success)), 258);
        let after = publications.insert(publication());
        publications.complete(after, Err(PublishError::Expired));
        publications.abandon(after);
        assert!(publications.slots.is_empty());
    }

    #[test]
    fn a_begun_second_counts() {
        for (left_ms, seconds) in [(1, 1), (1_000, 1), (1_001, 2), (0, 0)] {
            assert_eq!(seconds_between(Tick(5), Tick(5 + left_ms)), seconds);
        }
    }
}
