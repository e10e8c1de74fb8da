//! The streams of messages: [`Subscription`], and [`ManualSubscription`] with its [`Unacked`] messages.

use std::fmt;
use std::future::{Future, poll_fn};
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use whimbrel_session::codec::ReasonCode;

use crate::core::{AckKey, AnswerKey, Keep, SubscriptionKey, Verdict};
use crate::shared::Shared;
use crate::{Message, SubscribeError};

/// A stream of the messages of one subscription, in the order in which they came.
///
/// A message of QoS 1 or 2 is acknowledged when the next one is asked for, or when the stream is dropped: one that was taken
/// and whose work was not finished before the process died is delivered again.
///
/// The stream ends when the client does, or when the server does not take the subscription back after it has lost the
/// session: see [`ended`](Self::ended). Dropped, it unsubscribes.
pub struct Subscription {
    shared: Arc<Shared>,
    key: SubscriptionKey,
    granted: Vec<ReasonCode>,
    /// Of the message that was handed out last.
    unfinished: Option<AckKey>,
    /// Its end was said already.
    is_over: bool,
}

impl Subscription {
    pub(crate) fn new(shared: Arc<Shared>, key: SubscriptionKey) -> Self {
        Self {
            shared,
            key,
            granted: Vec::new(),
            unfinished: None,
            is_over: false,
        }
    }

    /// The next message; `None` when there will be none.
    ///
    /// Cancel-safe: a message is taken when it is returned, and not before.
    pub async fn recv(&mut self) -> Option<Message> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Like [`recv`](Self::recv), to be polled.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.finish();
        let polled = self.shared.core().poll_next(self.key, cx.waker());
        let taken = ready!(polled);
        Poll::Ready(taken.map(|taken| {
            self.unfinished = taken.ack;
            taken.message
        }))
    }

    /// What the server granted, one code for each filter in the order in which they were given.
    pub fn granted(&self) -> &[ReasonCode] {
        &self.granted
    }

    /// QoS 0 messages that gave way because they were not taken in time; see
    /// [`capacity`](crate::Subscribe::capacity).
    pub fn dropped(&self) -> u64 {
        self.shared.core().dropped(self.key)
    }

    /// Why the stream has ended, if it has.
    pub fn ended(&self) -> Option<SubscribeError> {
        self.shared.core().ended(self.key)
    }

    /// Ends the subscription and waits for UNSUBACK. What has come and was not taken is acknowledged.
    pub fn unsubscribe(mut self) -> Unsubscribing {
        let answer = self.end(Keep::Nothing { is_awaited: true });
        Unsubscribing {
            shared: self.shared.clone(),
            answer,
        }
    }

    /// Ends the stream, while the server goes on with the subscription for as long as it keeps the session: what comes
    /// is for whoever subscribes next, or for [`Client::unclaimed`](crate::Client::unclaimed).
    pub fn detach(mut self) {
        self.end(Keep::AtServer);
    }

    pub(crate) fn poll_granted(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SubscribeError>> {
        let polled = self.shared.core().poll_granted(self.key, cx.waker());
        self.granted = ready!(polled)?;
        Poll::Ready(Ok(()))
    }

    fn finish(&mut self) {
        if let Some(ack) = self.unfinished.take() {
            let now = self.shared.now();
            self.shared.core().finish(now, ack, Verdict::Accept);
        }
    }

    fn end(&mut self, keep: Keep) -> Option<AnswerKey> {
        self.finish();
        if std::mem::replace(&mut self.is_over, true) {
            return None;
        }
        let now = self.shared.now();
        let mut core = self.shared.core();
        let answer = core.unsubscribe(now, self.key, keep);
        core.remove_handle(now);
        answer
    }
}

impl Stream for Subscription {
    type Item = Message;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.get_mut().poll_recv(cx)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.end(Keep::Nothing { is_awaited: false });
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("granted", &self.granted)
            .finish_non_exhaustive()
    }
}

/// A stream of messages that the application acknowledges itself, in any order and at any time.
///
/// Acknowledgements leave in the order in which the messages came [MQTT-4.6.0-2], so that one that is held back holds back
/// those behind it, and in the end, at the [`receive_maximum`](crate::Options::receive_maximum), the server.
#[derive(Debug)]
pub struct ManualSubscription(Subscription);

impl ManualSubscription {
    pub(crate) fn new(subscription: Subscription) -> Self {
        Self(subscription)
    }

    /// The next message; `None` when there will be none.
    ///
    /// Cancel-safe: a message is taken when it is returned, and not before.
    pub async fn recv(&mut self) -> Option<Unacked> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Like [`recv`](Self::recv), to be polled.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Unacked>> {
        let message = ready!(self.0.poll_recv(cx));
        Poll::Ready(message.map(|message| Unacked {
            shared: self.0.shared.clone(),
            subscription: self.0.key,
            ack: self.0.unfinished.take(),
            message,
        }))
    }

    /// What the server granted, one code for each filter in the order in which they were given.
    pub fn granted(&self) -> &[ReasonCode] {
        self.0.granted()
    }

    /// QoS 0 messages that gave way; see [`Subscription::dropped`].
    pub fn dropped(&self) -> u64 {
        self.0.dropped()
    }

    /// Why the stream has ended, if it has.
    pub fn ended(&self) -> Option<SubscribeError> {
        self.0.ended()
    }

    /// Ends the subscription; see [`Subscription::unsubscribe`].
    pub fn unsubscribe(self) -> Unsubscribing {
        self.0.unsubscribe()
    }

    /// Ends the stream only; see [`Subscription::detach`].
    pub fn detach(self) {
        self.0.detach();
    }
}

impl Stream for ManualSubscription {
    type Item = Unacked;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Unacked>> {
        self.get_mut().poll_recv(cx)
    }
}

/// A message that the application is to acknowledge.
///
/// Dropped without that, the message comes again after the next reconnect.
#[must_use = "dropped without acknowledgement, the message comes again after a reconnect"]
pub struct Unacked {
    shared: Arc<Shared>,
    subscription: SubscriptionKey,
    /// `None` for QoS 0, and once it is answered.
    ack: Option<AckKey>,
    message: Message,
}

impl Unacked {
    /// Acknowledges the message: PUBACK, or PUBREC.
    pub fn ack(mut self) -> Message {
        self.answer(Verdict::Accept);
        self.message.clone()
    }

    /// Refuses the message. MQTT 5 servers are told why and drop it; to others it is an acknowledgement, since they know no
    /// other answer.
    pub fn reject(mut self, rejection: Rejection) -> Message {
        self.answer(Verdict::Reject(rejection.reason()));
        self.message.clone()
    }

    /// The message.
    pub fn message(&self) -> &Message {
        &self.message
    }

    fn answer(&mut self, verdict: Verdict) {
        if let Some(ack) = self.ack.take() {
            let now = self.shared.now();
            self.shared.core().finish(now, ack, verdict);
        }
    }
}

/// Why an application refuses a message: what PUBACK and PUBREC may say [MQTT-3.4.2-1] [MQTT-3.5.2-1].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// It does not say.
    Unspecified,
    /// The message is valid and can't be dealt with here.
    ImplementationSpecific,
    /// The publisher may not do that.
    NotAuthorized,
    /// The topic is not accepted.
    TopicNameInvalid,
    /// Some quota is used up.
    QuotaExceeded,
    /// The payload is not what its properties say.
    PayloadFormatInvalid,
}

impl Rejection {
    fn reason(self) -> ReasonCode {
        match self {
            Self::Unspecified => ReasonCode::UnspecifiedError,
            Self::ImplementationSpecific => ReasonCode::ImplementationSpecificError,
            Self::NotAuthorized => ReasonCode::NotAuthorized,
            Self::TopicNameInvalid => ReasonCode::TopicNameInvalid,
            Self::QuotaExceeded => ReasonCode::QuotaExceeded,
            Self::PayloadFormatInvalid => ReasonCode::PayloadFormatInvalid,
        }
    }
}

impl Deref for Unacked {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.message
    }
}

impl Drop for Unacked {
    fn drop(&mut self) {
        if let Some(ack) = self.ack.take() {
            let now = self.shared.now();
            let mut core = self.shared.core();
            core.return_message(now, self.subscription, ack, &self.message);
        }
    }
}

impl fmt::Debug for Unacked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unacked")
            .field("message", &self.message)
            .field("is_answered", &self.ack.is_none())
            .finish_non_exhaustive()
    }
}

/// Waits for UNSUBACK; see [`Subscription::unsubscribe`].
///
/// Cancel-safe: dropped, the subscription ends all the same.
///
/// # Errors
///
/// [`SubscribeError::Refused`] with the server's codes, and [`SubscribeError::Closed`].
pub struct Unsubscribing {
    shared: Arc<Shared>,
    /// `None` where the server was never asked for the subscription, and once it has answered.
    answer: Option<AnswerKey>,
}

impl Unsubscribing {
    pub(crate) fn new(shared: Arc<Shared>, answer: Option<AnswerKey>) -> Self {
        Self { shared, answer }
    }
}

impl Future for Unsubscribing {
    type Output = Result<(), SubscribeError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(answer) = self.answer else {
            return Poll::Ready(Ok(()));
        };
        let result = ready!(self.shared.core().poll_answer(answer, cx.waker()));
        self.answer = None;
        Poll::Ready(result)
    }
}

impl Drop for Unsubscribing {
    fn drop(&mut self) {
        if let Some(answer) = self.answer {
            self.shared.core().abandon_answer(answer);
        }
    }
}

impl fmt::Debug for Unsubscribing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unsubscribing").finish_non_exhaustive()
    }
}
