//! [`InProcessClient`]: an MQTT client in the broker's own process, without a byte of MQTT.

use std::fmt;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, oneshot};
use whimbrel_broker_core::session::codec::ReasonCode;
use whimbrel_broker_core::session::codec::topic::ByteStr;
use whimbrel_broker_core::{ConnectionKey, LocalDelivery, LocalPublish, LocalSubscribe, ShardId};

use crate::error::{AttachError, Detached};
use crate::inbox::{Command, LocalAction, LocalReply, LocalRequest};
use crate::shared::Shared;

/// A client in the broker's own process. Made by [`Broker::attach`](crate::Broker::attach).
///
/// It has a session like any client: a client id of its own, subscriptions, a queue with the bounds
/// of clean sessions. Another client that connects with the id takes the session over, and this one
/// is detached; dropping it ends the session. Hooks are not asked about it.
///
/// Every method may be awaited on any runtime.
pub struct InProcessClient {
    client_id: ByteStr,
    shared: Arc<Shared>,
    shard: ShardId,
    key: ConnectionKey,
    mailbox: mpsc::Receiver<LocalDelivery>,
    permits: Arc<Semaphore>,
}

impl InProcessClient {
    pub(crate) async fn attach(
        shared: Arc<Shared>,
        client_id: ByteStr,
    ) -> Result<Self, AttachError> {
        if client_id.is_empty() {
            return Err(AttachError::EmptyClientId);
        }
        let shard = shared.home(&client_id);
        let (sender, mailbox) = mpsc::channel(MAILBOX_MESSAGES_MAX);
        let (reply, attached) = oneshot::channel();
        shared.inbox(shard).command(Command::AttachLocal {
            client_id: client_id.clone(),
            mailbox: sender,
            reply,
        });
        let key = attached.await.map_err(|_| AttachError::Stopped)?;
        Ok(Self {
            client_id,
            shared,
            shard,
            key,
            mailbox,
            permits: Arc::new(Semaphore::new(REQUESTS_MAX)),
        })
    }

    /// The client id of its session.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Publishes a message, and says what a PUBACK would: [`ReasonCode::Success`],
    /// [`ReasonCode::NoMatchingSubscribers`], or why it was refused.
    ///
    /// For `QoS` 1 and 2 that is when every queue it belongs in has it. Messages of one client are
    /// routed in the order of the first polls. Waits for a place if 64 requests of this client are
    /// open.
    ///
    /// Cancel-safe: once it was polled the message may be published whether or not the outcome is
    /// awaited.
    ///
    /// # Errors
    ///
    /// [`Detached`] if the session was taken over or the broker has stopped; the message may have
    /// been published.
    pub async fn publish(&self, publish: LocalPublish) -> Result<ReasonCode, Detached> {
        let codes = self
            .request(LocalAction::Publish(Box::new(publish)))
            .await?;
        codes.first().copied().ok_or(Detached)
    }

    /// Subscribes to filters, and says what a SUBACK would: one code for each.
    ///
    /// Cancel-safe like [`publish`](Self::publish).
    ///
    /// # Errors
    ///
    /// [`Detached`] if the session was taken over or the broker has stopped.
    pub async fn subscribe(
        &self,
        filters: impl IntoIterator<Item = LocalSubscribe>,
    ) -> Result<Vec<ReasonCode>, Detached> {
        let filters = filters.into_iter().collect();
        self.request(LocalAction::Subscribe(filters)).await
    }

    /// Ends subscriptions, and says what an UNSUBACK would: one code for each filter.
    ///
    /// Cancel-safe like [`publish`](Self::publish).
    ///
    /// # Errors
    ///
    /// [`Detached`] if the session was taken over or the broker has stopped.
    pub async fn unsubscribe(
        &self,
        filters: impl IntoIterator<Item = &str>,
    ) -> Result<Vec<ReasonCode>, Detached> {
        let filters = filters.into_iter().map(ByteStr::from).collect();
        self.request(LocalAction::Unsubscribe(filters)).await
    }

    /// The next message; `None` once the session was taken over or the broker has stopped.
    ///
    /// A message counts as delivered when it reaches the mailbox of 256 messages in front of this
    /// call; the others wait in the session's queue. Cancel-safe: no message is lost.
    pub async fn recv(&mut self) -> Option<LocalDelivery> {
        self.mailbox.recv().await
    }

    async fn request(&self, action: LocalAction) -> Result<Vec<ReasonCode>, Detached> {
        let permits = Arc::clone(&self.permits);
        let permit = permits.acquire_owned().await.map_err(|_| Detached)?;
        let (sender, outcome) = oneshot::channel();
        let request = LocalRequest {
            key: self.key,
            action,
            reply: LocalReply {
                sender,
                _permit: permit,
            },
        };
        self.shared
            .inbox(self.shard)
            .command(Command::Local(request));
        outcome.await.map_err(|_| Detached)
    }
}

impl fmt::Debug for InProcessClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InProcessClient")
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

impl Drop for InProcessClient {
    fn drop(&mut self) {
        self.shared
            .inbox(self.shard)
            .command(Command::DetachLocal(self.key));
    }
}

const MAILBOX_MESSAGES_MAX: usize = 256;
/// Open requests of one client.
const REQUESTS_MAX: usize = 64;
