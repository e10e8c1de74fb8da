//! [`Request`]: a message that is answered by a message.

use std::collections::HashMap;
use std::fmt;
use std::future::{Future, IntoFuture, poll_fn};
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::sync::OnceCell;
use whimbrel_session::codec::bytes::Bytes;
use whimbrel_session::codec::topic::TopicNameBuf;
use whimbrel_session::codec::{MessageProperties, QoS, ReasonCode};

use crate::publish::Topic;
use crate::shared::Shared;
use crate::{Message, Publish, RequestError, Subscribe, Subscription};

/// A request: published with a response topic and correlation data [MQTT-4.10], and resolved by the first response with the
/// same.
///
/// Awaited, it resolves with the response, or fails after [`timeout`](Self::timeout). MQTT 5 only. All requests of a client share
/// one subscription, which the first of them makes.
///
/// Cancel-safe: dropped, nobody waits for the response any more; the request may have been published.
#[must_use = "nothing is published before it is awaited"]
pub struct Request {
    shared: Arc<Shared>,
    responses: Arc<Responses>,
    topic: Topic,
    payload: Bytes,
    qos: QoS,
    timeout: Duration,
}

impl Request {
    pub(crate) fn new(
        shared: Arc<Shared>,
        responses: Arc<Responses>,
        topic: Topic,
        payload: Bytes,
    ) -> Self {
        Self {
            shared,
            responses,
            topic,
            payload,
            qos: QoS::AtLeastOnce,
            timeout: Duration::from_secs(10),
        }
    }

    /// The QoS of the request; 1 by default.
    pub fn qos(mut self, qos: QoS) -> Self {
        self.qos = qos;
        self
    }

    /// How long the response may take, from now on and everything included; default 10 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    async fn run(self) -> Result<Message, RequestError> {
        let Self {
            shared,
            responses,
            topic,
            payload,
            qos,
            ..
        } = self;
        if !shared.version.is_v5() {
            return Err(RequestError::NotInThisVersion);
        }
        let listener = responses.listener(&shared).await?;
        let waiting = Waiting::new(listener);
        let properties = MessageProperties::builder()
            .response_topic(&listener.topic)
            .correlation_data(&waiting.number.to_be_bytes())
            .build()?;
        let publish = Publish::new(shared, topic, payload);
        let mut published = publish.qos(qos).properties(properties).into_future();
        let mut is_published = false;
        poll_fn(|cx| {
            if !is_published && let Poll::Ready(reason) = Pin::new(&mut published).poll(cx) {
                is_published = true;
                if reason? == ReasonCode::NoMatchingSubscribers {
                    return Poll::Ready(Err(RequestError::NoResponder));
                }
            }
            waiting.poll(cx)
        })
        .await
    }
}

impl IntoFuture for Request {
    type Output = Result<Message, RequestError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let limit = self.timeout;
        Box::pin(async move {
            let answered = tokio::time::timeout(limit, self.run()).await;
            answered.unwrap_or(Err(RequestError::TimedOut { limit }))
        })
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("topic", &self.topic)
            .field("payload_bytes", &self.payload.len())
            .field("qos", &self.qos)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// Where the responses of one client arrive.
#[derive(Default)]
pub(crate) struct Responses {
    listener: OnceCell<Listener>,
}

struct Listener {
    topic: TopicNameBuf,
    state: Mutex<Listening>,
}

struct Listening {
    subscription: Subscription,
    next_number: u64,
    /// By the number that is the correlation data. Bounded by the futures that there are.
    waiting: HashMap<u64, Slot>,
}

#[derive(Default)]
struct Slot {
    waker: Option<Waker>,
    response: Option<Message>,
}

/// A place among those that wait.
struct Waiting<'a> {
    listener: &'a Listener,
    number: u64,
}

impl Responses {
    async fn listener(&self, shared: &Arc<Shared>) -> Result<&Listener, RequestError> {
        let begin = async {
            let prefix = shared.core().options.response_topic_prefix.clone();
            let level = RandomState::new().hash_one(0);
            let name = format!("{prefix}/{level:016x}");
            let topic = TopicNameBuf::try_from(name).map_err(crate::PublishError::from)?;
            let subscribe = Subscribe::new(shared.clone(), topic.clone().into_byte_str());
            let subscription = subscribe.await?;
            Ok(Listener {
                topic,
                state: Mutex::new(Listening {
                    subscription,
                    next_number: 0,
                    waiting: HashMap::new(),
                }),
            })
        };
        self.listener.get_or_try_init(|| begin).await
    }
}

impl Listener {
    fn state(&self) -> MutexGuard<'_, Listening> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listening {
    /// Hands out what has come. Whoever is polled last is woken for the next.
    fn poll_subscription(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(response) = ready!(self.subscription.poll_recv(cx)) {
            let data = response.properties().correlation_data();
            let number = data
                .and_then(|data| data.try_into().ok())
                .map(u64::from_be_bytes);
            let Some(slot) = number.and_then(|number| self.waiting.get_mut(&number)) else {
                continue;
            };
            slot.response.get_or_insert(response);
            if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
        }
        Poll::Ready(())
    }
}

impl<'a> Waiting<'a> {
    fn new(listener: &'a Listener) -> Self {
        let mut state = listener.state();
        let number = state.next_number;
        state.next_number += 1;
        state.waiting.insert(number, Slot::default());
        Self { listener, number }
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<Message, RequestError>> {
        let mut state = self.listener.state();
        if let Some(slot) = state.waiting.get_mut(&self.number) {
            slot.waker = Some(cx.waker().clone());
        }
        let is_over = state.poll_subscription(cx).is_ready();
        let slot = state.waiting.get_mut(&self.number);
        if let Some(response) = slot.and_then(|slot| slot.response.take()) {
            return Poll::Ready(Ok(response));
        }
        match state.subscription.ended().filter(|_| is_over) {
            Some(error) => Poll::Ready(Err(error.into())),
            None => Poll::Pending,
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.listener.state();
        state.waiting.remove(&self.number);
        // It may have been the one that is woken for what comes next.
        if let Some(other) = state
            .waiting
            .values_mut()
            .find_map(|slot| slot.waker.take())
        {
            other.wake();
        }
    }
}
