//! In-process clients: sessions without bytes, which end with their handle.

use std::collections::VecDeque;

use bytes::Bytes;
use whimbrel_session::Deliver;
use whimbrel_session::codec::topic::{ByteStr, TopicNameBuf};
use whimbrel_session::codec::{
    Connect, MessageProperties, ProtocolVersion, QoS, ReasonCode, SubscriptionId,
    SubscriptionOptions,
};

use super::connect::Grants;
use super::connection::Endpoint;
use super::obligation::{Debt, SubscribeAnswer};
use super::session::Inflight;
use super::subscribe::Request;
use super::{Env, Shard};
use crate::effects::LocalOutcome;
use crate::message::MessageParts;
use crate::queue::GroupOrigin;
use crate::{ConnectionKey, Message, SessionRef};

/// A message for an in-process client.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LocalDelivery {
    /// The message.
    pub message: Message,
    /// `QoS` it is delivered with.
    pub qos: QoS,
    /// RETAIN as a client on the wire would see it.
    pub retain: bool,
    /// Subscription Identifiers of the matching subscriptions.
    pub subscription_ids: Vec<SubscriptionId>,
}

/// A message an in-process client publishes.
#[derive(Clone, Debug)]
pub struct LocalPublish {
    /// Where to.
    pub topic: TopicNameBuf,
    /// What.
    pub payload: Bytes,
    /// With which `QoS`; above 0 the outcome is reported when the message is stored.
    pub qos: QoS,
    /// Whether it is retained, where anything is.
    pub retain: bool,
    /// MQTT 5 properties.
    pub properties: MessageProperties,
}

/// A filter an in-process client subscribes to.
#[derive(Clone, Debug)]
pub struct LocalSubscribe {
    /// A topic filter, or `$share/{name}/{filter}`.
    pub filter: ByteStr,
    /// Options, as in SUBSCRIBE.
    pub options: SubscriptionOptions,
}

/// The mailbox of an in-process client. What does not fit waits in the session's queue.
#[derive(Debug)]
pub(super) struct LocalClient {
    mailbox: VecDeque<Mail>,
    mailbox_max: usize,
}

#[derive(Debug)]
struct Mail {
    delivery: LocalDelivery,
    item: Inflight,
}

impl LocalClient {
    pub(super) fn push(
        &mut self,
        message: Message,
        form: Deliver<'_>,
        item: Inflight,
    ) -> Result<(), Inflight> {
        if self.mailbox.len() >= self.mailbox_max {
            return Err(item);
        }
        self.mailbox.push_back(Mail {
            delivery: LocalDelivery {
                message,
                qos: form.qos,
                retain: form.retain,
                subscription_ids: form.subscription_ids.to_vec(),
            },
            item,
        });
        Ok(())
    }

    /// What groups handed out and was not taken.
    pub(super) fn take_group_origins(&mut self) -> Vec<GroupOrigin> {
        self.mailbox
            .drain(..)
            .filter(|mail| mail.delivery.qos > QoS::AtMostOnce)
            .filter_map(|mail| mail.item.into_outgoing()?.origin)
            .map(|origin| *origin)
            .collect()
    }
}

impl Shard {
    /// Attaches an in-process client. It takes over a session of the same id, as a client on the
    /// wire would; its own session ends when it is [detached](Self::detach).
    pub fn attach_local(
        &mut self,
        env: Env<'_>,
        client_id: &ByteStr,
        mailbox_max: usize,
    ) -> ConnectionKey {
        let mut connect = Connect::new(ProtocolVersion::V5, client_id.clone());
        connect.clean_start = true;
        let endpoint = Endpoint::Local(Box::new(LocalClient {
            mailbox: VecDeque::new(),
            mailbox_max: mailbox_max.max(1),
        }));
        let key = self.attach_endpoint(env, endpoint, connect, Grants::default());
        self.finish(env);
        key
    }

    /// Publishes for an in-process client. The outcome comes as [`LocalOutcome`] with `request`.
    pub fn local_publish(
        &mut self,
        env: Env<'_>,
        key: ConnectionKey,
        publish: &LocalPublish,
        request: u64,
    ) {
        let Some(session) = self.running_mut(key).map(|connection| connection.session) else {
            self.effects.local.push(LocalOutcome {
                connection: key,
                request,
                reasons: vec![ReasonCode::SessionTakenOver],
            });
            return self.finish(env);
        };
        self.stats.publishes_received += 1;
        self.stats.publish_bytes_received += publish.payload.len() as u64;
        let properties = publish.properties.as_properties();
        let parts = MessageParts {
            id: self.next_message_id(),
            topic: &publish.topic,
            qos: publish.qos,
            retain: publish.retain && self.config.connection.retain_available,
            expires_at: super::publish::expires_at(env, properties.message_expiry_secs()),
            properties,
            payload: &publish.payload,
        };
        let publisher = SessionRef {
            shard: self.id,
            key: session,
        };
        let debt = Debt::Local {
            connection: key,
            request,
        };
        self.ingest(env, &parts, Some(publisher), Some(debt));
        self.finish(env);
    }

    /// Subscribes an in-process client. The codes come as [`LocalOutcome`] with `request`.
    pub fn local_subscribe(
        &mut self,
        env: Env<'_>,
        key: ConnectionKey,
        filters: &[LocalSubscribe],
        request: u64,
    ) {
        let requests = filters.iter().map(|subscribe| Request {
            filter: &subscribe.filter,
            options: subscribe.options,
        });
        self.enter_all(
            env,
            key,
            requests,
            None,
            &[],
            SubscribeAnswer::Local(request),
        );
        self.finish(env);
    }

    /// Ends subscriptions of an in-process client. The codes come as [`LocalOutcome`] with `request`.
    pub fn local_unsubscribe(
        &mut self,
        env: Env<'_>,
        key: ConnectionKey,
        filters: &[ByteStr],
        request: u64,
    ) {
        let filters = filters.iter().map(|filter| &**filter);
        self.remove_all(env, key, filters, SubscribeAnswer::Local(request));
        self.finish(env);
    }

    /// Takes the next message of an in-process client's mailbox: that finishes its delivery.
    pub fn local_take(&mut self, env: Env<'_>, key: ConnectionKey) -> Option<LocalDelivery> {
        let connection = self.running_mut(key)?;
        let Endpoint::Local(client) = &mut connection.endpoint else {
            return None;
        };
        let Mail { delivery, item } = client.mailbox.pop_front()?;
        if delivery.qos > QoS::AtMostOnce {
            self.delivered(env, key, item, ReasonCode::Success);
        } else {
            self.refill(env, key);
        }
        self.finish(env);
        Some(delivery)
    }

    /// Whether an in-process client still has its session.
    #[must_use]
    pub fn local_is_attached(&self, key: ConnectionKey) -> bool {
        self.connection(key)
            .is_some_and(|connection| connection.phase != super::connection::Phase::Closing)
    }
}
