//! [`Incoming`]: what comes for a command, and what is owed for it.

use std::future::poll_fn;
use std::task::{Context, Poll};

use whimbrel_client::codec::ReasonCode;
use whimbrel_client::{ManualSubscription, Message, SubscribeError, Subscription, Unacked};

use super::format::Arrived;

/// The messages of a subscription, and of those that an earlier process has made in the same session.
///
/// Dropped, it leaves the subscriptions to the session: whatever ends the command, the next one goes on with them.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// `None` where nothing new was subscribed to.
    subscription: Option<ManualSubscription>,
    unclaimed: Option<Subscription>,
}

/// A message, and the duty to acknowledge it when it has been shown.
#[derive(Debug)]
pub(crate) enum Taken {
    Held(Unacked),
    /// It is acknowledged when the next one is asked for.
    Unclaimed(Message),
}

impl Incoming {
    pub(crate) fn new(
        subscription: Option<ManualSubscription>,
        unclaimed: Option<Subscription>,
    ) -> Self {
        Self {
            subscription,
            unclaimed,
        }
    }

    /// The next message; `None` when there will be none.
    ///
    /// Cancel-safe: a message is taken when it is returned, and not before.
    pub(crate) async fn next(&mut self) -> Option<Taken> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next message if it has come already.
    pub(crate) async fn next_ready(&mut self) -> Option<Taken> {
        poll_fn(|cx| match self.poll_next(cx) {
            Poll::Ready(taken) => Poll::Ready(taken),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    /// Why there will be no other.
    pub(crate) fn ended(&self) -> Option<SubscribeError> {
        self.subscription
            .as_ref()
            .and_then(ManualSubscription::ended)
    }

    /// What the server granted, a code for each filter.
    pub(crate) fn granted(&self) -> &[ReasonCode] {
        self.subscription
            .as_ref()
            .map_or(&[], ManualSubscription::granted)
    }

    /// Messages of QoS 0 that were not shown because the output was slow.
    pub(crate) fn dropped(&self) -> u64 {
        self.subscription
            .as_ref()
            .map_or(0, ManualSubscription::dropped)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Taken>> {
        if let Some(subscription) = &mut self.subscription
            && let Poll::Ready(taken) = subscription.poll_recv(cx)
        {
            return Poll::Ready(taken.map(Taken::Held));
        }
        // That there will be no other, the connection tells too.
        match &mut self.unclaimed {
            Some(unclaimed) => match unclaimed.poll_recv(cx) {
                Poll::Ready(Some(message)) => Poll::Ready(Some(Taken::Unclaimed(message))),
                _ => Poll::Pending,
            },
            None => Poll::Pending,
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(subscription) = self.subscription.take() {
            subscription.detach();
        }
        if let Some(unclaimed) = self.unclaimed.take() {
            unclaimed.detach();
        }
    }
}

impl Taken {
    pub(crate) fn message(&self) -> &Message {
        match self {
            Self::Held(unacked) => unacked.message(),
            Self::Unclaimed(message) => message,
        }
    }

    /// It was shown, or is not wanted.
    pub(crate) fn finish(self) {
        if let Self::Held(unacked) = self {
            unacked.ack();
        }
    }
}

/// A message as it is shown. `subscription_id` is what the user has asked for.
pub(crate) fn arrived(message: &Message, subscription_id: Option<u32>) -> Arrived<'_> {
    let properties = message.properties();
    let has_id = properties.subscription_ids().next().is_some();
    Arrived {
        topic: message.topic().as_str(),
        payload: message.payload(),
        qos: message.qos(),
        retain: message.retain(),
        packet_id: message.as_publish().packet_id(),
        properties,
        subscription_id: subscription_id.filter(|_| has_id),
    }
}
