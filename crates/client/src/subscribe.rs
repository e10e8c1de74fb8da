//! Subscribing: [`Subscribe`] says to what, [`Subscribing`] waits for SUBACK.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use whimbrel_session::codec::topic::ByteStr;
use whimbrel_session::codec::{QoS, RetainHandling, SubscribeFilter, SubscriptionOptions};

use crate::core::Wanted;
use crate::shared::Shared;
use crate::{ManualSubscription, SubscribeError, Subscription};

/// A subscription to be made: one SUBSCRIBE with one filter or several, whose messages come by one stream.
///
/// Awaited, it resolves with SUBACK. The subscription lasts as long as its stream: after a reconnect to a server that has
/// lost the session it is made again.
///
/// Messages of QoS 1 and 2 are acknowledged when the next one is asked for, so that one that was taken and not worked off is
/// delivered again if the process dies; with [`manual_acks`](Self::manual_acks) when the application says so.
#[must_use = "nothing is subscribed to before it is awaited"]
pub struct Subscribe {
    shared: Arc<Shared>,
    filters: Vec<ByteStr>,
    options: SubscriptionOptions,
    capacity: usize,
}

impl Subscribe {
    pub(crate) fn new(shared: Arc<Shared>, filter: ByteStr) -> Self {
        Self {
            shared,
            filters: vec![filter],
            options: SubscriptionOptions::new(QoS::ExactlyOnce),
            capacity: CAPACITY,
        }
    }

    /// One more filter in the same request, with the same options.
    pub fn and(mut self, filter: impl Into<ByteStr>) -> Self {
        self.filters.push(filter.into());
        self
    }

    /// The highest QoS of messages to this client; 2 by default: as they were published.
    pub fn qos(mut self, qos: QoS) -> Self {
        self.options.qos = qos;
        self
    }

    /// Whether messages of this client itself are left out [MQTT-3.8.3-3]; default no. MQTT 5 only.
    pub fn no_local(mut self, no_local: bool) -> Self {
        self.options.no_local = no_local;
        self
    }

    /// Whether forwarded messages keep the RETAIN flag they were published with; default no. MQTT 5 only.
    pub fn retain_as_published(mut self, retain_as_published: bool) -> Self {
        self.options.retain_as_published = retain_as_published;
        self
    }

    /// Which retained messages are sent at the beginning; all by default. MQTT 5 only.
    pub fn retain_handling(mut self, retain_handling: RetainHandling) -> Self {
        self.options.retain_handling = retain_handling;
        self
    }

    /// Messages that may wait in the stream before the client stops reading; default 1,024, at least 1.
    ///
    /// While this client itself waits for an answer of the server it reads on, so that publishing from the receive path does
    /// not lock up. Then, from twice as many on, QoS 0 messages give way to later ones and are counted; QoS 1 and 2 never do.
    pub fn capacity(mut self, messages: usize) -> Self {
        self.capacity = messages.max(1);
        self
    }

    /// A stream whose messages the application acknowledges itself.
    pub fn manual_acks(self) -> SubscribingManually {
        SubscribingManually(self.into_future())
    }

    fn wanted(&self) -> Result<Wanted, SubscribeError> {
        if !self.shared.version.is_v5() {
            let options = [
                ("no local", self.options.no_local),
                ("retain as published", self.options.retain_as_published),
                (
                    "retain handling",
                    self.options.retain_handling != RetainHandling::default(),
                ),
            ];
            if let Some(&(option, _)) = options.iter().find(|(_, is_set)| *is_set) {
                return Err(SubscribeError::NotInThisVersion { option });
            }
        }
        let filters = self.filters.iter().map(|filter| SubscribeFilter {
            filter: filter.clone(),
            options: self.options,
        });
        Ok(Wanted {
            filters: filters.collect(),
            capacity: self.capacity,
        })
    }
}

impl IntoFuture for Subscribe {
    type Output = Result<Subscription, SubscribeError>;
    type IntoFuture = Subscribing;

    fn into_future(self) -> Subscribing {
        let wanted = self.wanted();
        let made = wanted.and_then(|wanted| self.shared.core().subscribe(wanted));
        Subscribing {
            step: match made {
                Ok(key) => Step::Requested(Subscription::new(self.shared, key)),
                Err(error) => Step::Failed(error),
            },
        }
    }
}

impl fmt::Debug for Subscribe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscribe")
            .field("filters", &self.filters)
            .field("options", &self.options)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

/// Waits for SUBACK; what [`Subscribe`] turns into when it is awaited.
///
/// Cancel-safe: dropped before it resolves, the subscription is not made, or ended again where the server was asked.
///
/// # Errors
///
/// [`SubscribeError`], and [`SubscribeError::Refused`] only where every filter was refused: see
/// [`Subscription::granted`].
#[must_use = "nothing is subscribed to before it is awaited"]
#[derive(Debug)]
pub struct Subscribing {
    step: Step,
}

#[derive(Debug)]
enum Step {
    Failed(SubscribeError),
    Requested(Subscription),
    Done,
}

impl Future for Subscribing {
    type Output = Result<Subscription, SubscribeError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match std::mem::replace(&mut self.step, Step::Done) {
            Step::Failed(error) => Poll::Ready(Err(error)),
            Step::Requested(mut subscription) => match subscription.poll_granted(cx) {
                Poll::Ready(Ok(())) => Poll::Ready(Ok(subscription)),
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.step = Step::Requested(subscription);
                    Poll::Pending
                }
            },
            Step::Done => panic!("polled after it was ready"),
        }
    }
}

/// Waits for SUBACK; see [`Subscribe::manual_acks`]. As cancel-safe as [`Subscribing`], and with its errors.
#[must_use = "nothing is subscribed to before it is awaited"]
#[derive(Debug)]
pub struct SubscribingManually(Subscribing);

impl Future for SubscribingManually {
    type Output = Result<ManualSubscription, SubscribeError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let subscribed = std::task::ready!(Pin::new(&mut self.0).poll(cx));
        Poll::Ready(subscribed.map(ManualSubscription::new))
    }
}

const CAPACITY: usize = 1_024;
