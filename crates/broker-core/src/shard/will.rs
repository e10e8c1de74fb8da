//! Wills: published once, when their delay is over.

use whimbrel_session::codec::{QoS, Will};
use whimbrel_session::mutant;

use super::obligation::{InboundKey, OnCommit};
use super::{Env, Shard};
use crate::message::MessageParts;
use crate::{Event, Message, Record, SessionKey, SessionRef};

impl Shard {
    /// The Will Delay Interval is over: the will is published [MQTT-3.1.2-8].
    pub(super) fn will_due(&mut self, env: Env<'_>, key: SessionKey) {
        if let Some(session) = self.session_mut(key) {
            session.absence.make().will_due = None;
            self.publish_will(env, key);
        }
    }

    pub(super) fn publish_will(&mut self, env: Env<'_>, key: SessionKey) {
        let Some(session) = self.session_mut(key) else {
            return;
        };
        let Some(will) = session.will.take() else {
            return;
        };
        let client_id = session.client_id();
        let Will {
            topic,
            payload,
            qos,
            retain,
            properties,
            ..
        } = *will;
        if self.check_topic(&topic).is_err() {
            self.stats.publishes_refused += 1;
            return;
        }
        let properties = properties.as_properties();
        let parts = MessageParts {
            id: self.next_message_id(),
            topic: &topic,
            qos,
            retain: retain && self.config.connection.retain_available && !mutant!(WillNotRetained),
            // Counts from publication [U5-032].
            expires_at: super::publish::expires_at(env, properties.message_expiry_secs()),
            properties,
            payload: &payload,
        };
        let publisher = SessionRef {
            shard: self.id,
            key,
        };
        if qos > QoS::AtMostOnce
            && self
                .session(key)
                .is_some_and(|found| found.queue_id.is_some())
        {
            self.take_over_will(env, &parts, key);
        } else {
            self.publish_own(env, &parts, Some(publisher));
        }
        self.append_session(key);
        self.observe(Event::WillPublished {
            client_id,
            topic: topic.clone(),
        });
    }

    /// Publishes the will of a recorded session: as a message that is recorded before it is routed, so that it
    /// reaches everybody once, although the session's record says no longer that it is to be published.
    fn take_over_will(&mut self, env: Env<'_>, parts: &MessageParts<'_>, session: SessionKey) {
        let message = Message::new(parts);
        if parts.retain && self.retain(env, &message).is_err() {
            self.stats.publishes_refused += 1;
            return;
        }
        let Some(queue) = self.session(session).and_then(|found| found.queue_id) else {
            return;
        };
        let key = InboundKey {
            session,
            packet_id: 0,
            queue: Some(queue),
            message: parts.id,
        };
        self.append(|| Record::InboundStored {
            session: queue,
            packet_id: 0,
            message: message.clone(),
        });
        self.after_commit(env, OnCommit::RouteWill { key, message });
    }
}
