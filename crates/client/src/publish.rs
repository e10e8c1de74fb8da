//! Publishing: [`Publish`] says what, [`Publishing`] and [`Enqueueing`] wait, [`Receipt`] knows how it ended.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::task::coop::poll_proceed;

use whimbrel_session::codec::bytes::Bytes;
use whimbrel_session::codec::topic::{ByteStr, TopicName, TopicNameBuf, TopicNameError};
use whimbrel_session::codec::{MessageProperties, QoS, ReasonCode};

use crate::PublishError;
use crate::core::{Admitted, Publication, PublicationKey, Ticket};
use crate::shared::Shared;

/// A message to be published.
///
/// It is *accepted* when there is room for it within [`queue_bytes_max`](crate::Options::queue_bytes_max), with or without
/// a connection. From then on the client does not forget it: it is sent, and sent again after a reconnect, until it is
/// acknowledged or refused, or until the client ends. Messages leave in the order in which they were accepted.
///
/// * Awaited, it resolves at the last acknowledgement: PUBACK, PUBCOMP, or, for QoS 0, when it is written.
/// * [`enqueue`](Self::enqueue) resolves at the acceptance, with a [`Receipt`] for the rest: for many messages one after the
///   other without waiting for each answer.
/// * [`try_enqueue`](Self::try_enqueue) does not wait at all.
///
/// It may be called from the receive path: neither waits for a subscription to be read.
#[must_use = "nothing is published before it is awaited or enqueued"]
pub struct Publish {
    shared: Arc<Shared>,
    topic: Topic,
    payload: Bytes,
    properties: MessageProperties,
    qos: QoS,
    retain: bool,
}

/// A topic name, or why it is none: an error of the publication.
///
/// [`TopicNameBuf`] is taken as it is; texts are checked and copied each time.
#[derive(Clone, Debug)]
pub struct Topic(Result<TopicNameBuf, TopicNameError>);

impl Publish {
    pub(crate) fn new(shared: Arc<Shared>, topic: Topic, payload: Bytes) -> Self {
        Self {
            shared,
            topic,
            payload,
            properties: MessageProperties::new(),
            qos: QoS::AtMostOnce,
            retain: false,
        }
    }

    /// The QoS; 0 by default.
    pub fn qos(mut self, qos: QoS) -> Self {
        self.qos = qos;
        self
    }

    /// Whether the server is to keep the message for later subscribers [MQTT-3.3.1-5]; default no.
    pub fn retain(mut self, retain: bool) -> Self {
        self.retain = retain;
        self
    }

    /// The properties. MQTT 5 only: before it they are refused.
    ///
    /// An expiry interval counts from here, also while there is no connection.
    pub fn properties(mut self, properties: MessageProperties) -> Self {
        self.properties = properties;
        self
    }

    /// Resolves when the message is accepted.
    ///
    /// Cancel-safe: dropped before it resolves, nothing is published.
    pub fn enqueue(self) -> Enqueueing {
        let shared = self.shared.clone();
        Enqueueing {
            step: Step::of(self.into_publication()),
            shared,
        }
    }

    /// Accepts the message now.
    ///
    /// # Errors
    ///
    /// [`PublishError::QueueFull`] where there is no room, or others wait for it; and what [`Enqueueing`] fails with.
    pub fn try_enqueue(self) -> Result<Receipt, PublishError> {
        let shared = self.shared.clone();
        let publication = self.into_publication()?;
        let now = shared.now();
        let mut core = shared.core();
        if let Some(error) = core.refuses() {
            return Err(error);
        }
        let admitted = core.try_publish(now, publication);
        drop(core);
        match admitted {
            Admitted::Accepted(key) => Ok(Receipt::new(shared, key)),
            Admitted::Failed(error) => Err(error),
            Admitted::NotYet(_) => Err(PublishError::QueueFull),
        }
    }

    fn into_publication(self) -> Result<Publication, PublishError> {
        let topic = self.topic.0?;
        if !self.properties.is_empty() && !self.shared.version.is_v5() {
            return Err(PublishError::PropertiesNotSupported);
        }
        let expiry_secs = self.properties.as_properties().message_expiry_secs();
        let expires_at = expiry_secs.map(|seconds| {
            let milliseconds = u64::from(seconds).saturating_mul(1_000);
            self.shared.now().saturating_add(milliseconds)
        });
        Ok(Publication {
            topic,
            payload: self.payload,
            properties: self.properties,
            qos: self.qos,
            retain: self.retain,
            expires_at,
            sequence: None,
        })
    }
}

impl IntoFuture for Publish {
    type Output = Result<ReasonCode, PublishError>;
    type IntoFuture = Publishing;

    fn into_future(self) -> Publishing {
        Publishing(Wait::Room(self.enqueue()))
    }
}

impl fmt::Debug for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publish")
            .field("topic", &self.topic)
            .field("payload_bytes", &self.payload.len())
            .field("qos", &self.qos)
            .field("retain", &self.retain)
            .finish_non_exhaustive()
    }
}

/// Waits until a message is accepted; see [`Publish::enqueue`].
///
/// # Errors
///
/// [`PublishError::InvalidTopic`], [`PublishError::PropertiesNotSupported`] and [`PublishError::Closed`].
#[must_use = "nothing is published before it is awaited"]
pub struct Enqueueing {
    shared: Arc<Shared>,
    step: Step,
}

enum Step {
    Failed(PublishError),
    Ready(Publication),
    Waiting(Publication, Ticket),
    Done,
}

impl Step {
    fn of(publication: Result<Publication, PublishError>) -> Self {
        match publication {
            Ok(publication) => Self::Ready(publication),
            Err(error) => Self::Failed(error),
        }
    }
}

impl Future for Enqueueing {
    type Output = Result<Receipt, PublishError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // A loop that always finds room must not keep the driver from running.
        let turn = ready!(poll_proceed(cx));
        let Self { shared, step } = self.get_mut();
        let now = shared.now();
        let mut core = shared.core();
        let refused = core.refuses();
        let (admitted, ticket) = match (mem::replace(step, Step::Done), refused) {
            (Step::Failed(error), _) | (Step::Ready(_), Some(error)) => {
                turn.made_progress();
                return Poll::Ready(Err(error));
            }
            (Step::Waiting(_, ticket), Some(error)) => {
                turn.made_progress();
                core.leave_queue(ticket);
                return Poll::Ready(Err(error));
            }
            (Step::Ready(publication), None) => (core.try_publish(now, publication), None),
            (Step::Waiting(publication, ticket), None) => {
                let admitted = core.publish_in_turn(now, ticket, publication, cx.waker());
                (admitted, Some(ticket))
            }
            (Step::Done, _) => panic!("polled after it was ready"),
        };
        match admitted {
            Admitted::Accepted(key) => {
                drop(core);
                turn.made_progress();
                Poll::Ready(Ok(Receipt::new(shared.clone(), key)))
            }
            Admitted::Failed(error) => {
                turn.made_progress();
                Poll::Ready(Err(error))
            }
            Admitted::NotYet(publication) => {
                let ticket = ticket.unwrap_or_else(|| core.wait_for_room(cx.waker()));
                *step = Step::Waiting(publication, ticket);
                Poll::Pending
            }
        }
    }
}

impl Drop for Enqueueing {
    fn drop(&mut self) {
        if let Step::Waiting(_, ticket) = self.step {
            self.shared.core().leave_queue(ticket);
        }
    }
}

/// Knows how the publication of one accepted message ends: resolves at its last acknowledgement.
///
/// Cancel-safe, and may be dropped: the message is published all the same.
///
/// # Errors
///
/// [`PublishError`], where the server refuses the message or the client ends first.
#[must_use = "the message is published, but nobody will know whether it arrived"]
pub struct Receipt {
    shared: Arc<Shared>,
    /// `None` once it has resolved.
    key: Option<PublicationKey>,
}

impl Receipt {
    fn new(shared: Arc<Shared>, key: PublicationKey) -> Self {
        Self {
            shared,
            key: Some(key),
        }
    }
}

impl Future for Receipt {
    type Output = Result<ReasonCode, PublishError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let key = self.key.expect("polled after it was ready");
        let polled = self.shared.core().poll_outcome(key, cx.waker());
        if polled.is_ready() {
            self.key = None;
        }
        polled
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.shared.core().abandon_outcome(key);
        }
    }
}

/// Waits for the last acknowledgement of a message; what [`Publish`] turns into when it is awaited.
///
/// Cancel-safe: dropped before the message is accepted, nothing is published; dropped later, the message is published all
/// the same.
#[must_use = "nothing is published before it is awaited"]
pub struct Publishing(Wait);

enum Wait {
    Room(Enqueueing),
    Outcome(Receipt),
}

impl Future for Publishing {
    type Output = Result<ReasonCode, PublishError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match &mut self.0 {
                Wait::Room(enqueueing) => match Pin::new(enqueueing).poll(cx) {
                    Poll::Ready(Ok(receipt)) => self.0 = Wait::Outcome(receipt),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                },
                Wait::Outcome(receipt) => return Pin::new(receipt).poll(cx),
            }
        }
    }
}

macro_rules! opaque_debug {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    )*};
}

opaque_debug!(Enqueueing, Receipt, Publishing);

impl From<&str> for Topic {
    fn from(text: &str) -> Self {
        Self(TopicName::new(text).map(TopicNameBuf::from))
    }
}

impl From<String> for Topic {
    fn from(text: String) -> Self {
        Self(TopicNameBuf::new(ByteStr::from(text)))
    }
}

impl From<&String> for Topic {
    fn from(text: &String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<ByteStr> for Topic {
    fn from(text: ByteStr) -> Self {
        Self(TopicNameBuf::new(text))
    }
}

impl From<TopicNameBuf> for Topic {
    fn from(topic: TopicNameBuf) -> Self {
        Self(Ok(topic))
    }
}

impl From<&TopicNameBuf> for Topic {
    fn from(topic: &TopicNameBuf) -> Self {
        Self(Ok(topic.clone()))
    }
}

impl From<&TopicName> for Topic {
    fn from(topic: &TopicName) -> Self {
        Self(Ok(TopicNameBuf::from(topic)))
    }
}
