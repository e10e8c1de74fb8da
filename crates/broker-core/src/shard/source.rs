//! One message on its way to many sessions.

use bytes::Bytes;
use whimbrel_session::codec::topic::TopicName;
use whimbrel_session::codec::{
    FanOut, FanOutBuffer, PAYLOAD_SHARE_MIN, Payload, PublishSource, QoS,
};
use whimbrel_session::mutant;

use super::Shard;
use crate::holders::{Holders, HoldersBuilder};
use crate::message::MessageParts;
use crate::record::{Form, Position, QueueId};
use crate::{Message, MsgId, UnixMillis};

/// A message on its way out: encoded once per form, made a shared [`Message`] once if anybody has
/// to keep it.
pub(super) struct Source<'a> {
    parts: MessageParts<'a>,
    message: Option<Message>,
    fan_out: FanOut<'a>,
    /// Where the journal will have it, from the first session on that stores it.
    pub(super) position: Option<Position>,
    /// The queues of this shard that hold it and are not told to the journal yet.
    holders: &'a mut HoldersBuilder,
}

/// The memory of a [`Source`], used for one message after the other.
#[derive(Debug, Default)]
pub(super) struct SourceBuffers {
    fan_out: FanOutBuffer,
    /// The payload to be chained instead of copied, where it is large.
    payload: Bytes,
    holders: HoldersBuilder,
}

impl<'a> Source<'a> {
    /// A message that exists in its publisher's input only.
    pub(super) fn new(
        parts: MessageParts<'a>,
        now: UnixMillis,
        buffers: &'a mut SourceBuffers,
    ) -> Self {
        // A large payload is copied once, into the shared message, and chained from there.
        let message = (parts.payload.len() >= PAYLOAD_SHARE_MIN).then(|| Message::new(&parts));
        Self::with(parts, message, now, buffers)
    }

    /// A message that is shared already.
    pub(super) fn of_message(
        message: &'a Message,
        now: UnixMillis,
        buffers: &'a mut SourceBuffers,
    ) -> Self {
        Self::with(message.parts(), Some(message.clone()), now, buffers)
    }

    fn with(
        parts: MessageParts<'a>,
        message: Option<Message>,
        now: UnixMillis,
        buffers: &'a mut SourceBuffers,
    ) -> Self {
        let SourceBuffers {
            fan_out,
            payload,
            holders,
        } = buffers;
        let payload = match &message {
            Some(message) if parts.payload.len() >= PAYLOAD_SHARE_MIN => {
                *payload = message.payload();
                Payload::Shared(payload)
            }
            _ => Payload::Borrowed(parts.payload),
        };
        let source = PublishSource {
            topic: parts.topic,
            properties: parts.properties,
            payload,
            message_expiry_secs: if mutant!(ExpiryNotCountedDown) {
                parts.properties.message_expiry_secs()
            } else {
                seconds_left(&parts, now)
            },
        };
        Self {
            parts,
            message,
            fan_out: FanOut::new(source, fan_out),
            position: None,
            holders,
        }
    }

    /// Takes what the journal is to be told of the queues that hold the message, if any does.
    pub(super) fn take_holders(&mut self) -> Option<(Position, Holders)> {
        let position = self.position.take()?;
        (!self.holders.is_empty()).then(|| (position, self.holders.finish()))
    }

    /// A queue has stored it.
    pub(super) fn hold(&mut self, queue: QueueId, form: &Form) {
        self.holders.push(queue, form);
    }

    /// Whether its shared form exists already.
    pub(super) fn is_shared(&self) -> bool {
        self.message.is_some()
    }

    pub(super) fn parts(&self) -> &MessageParts<'a> {
        &self.parts
    }

    pub(super) fn message(&mut self) -> &Message {
        self.message
            .get_or_insert_with(|| Message::new(&self.parts))
    }

    pub(super) fn id(&self) -> MsgId {
        self.parts.id
    }

    pub(super) fn topic(&self) -> &'a TopicName {
        self.parts.topic
    }

    pub(super) fn retain(&self) -> bool {
        self.parts.retain
    }

    pub(super) fn fan_out(&mut self) -> &mut FanOut<'a> {
        &mut self.fan_out
    }

    pub(super) fn payload_bytes(&self) -> u64 {
        self.parts.payload.len() as u64
    }

    pub(super) fn qos(&self) -> QoS {
        self.parts.qos
    }
}

impl Shard {
    pub(super) fn take_buffers(&mut self) -> Box<SourceBuffers> {
        self.buffers.take().unwrap_or_default()
    }

    pub(super) fn keep_buffers(&mut self, mut buffers: Box<SourceBuffers>) {
        buffers.payload = Bytes::new();
        self.buffers = Some(buffers);
    }
}

/// What a forwarded message says of its expiry, if it has one [MQTT-3.3.2-6]. A wall clock that was
/// set back does not make that longer than its publisher said.
fn seconds_left(parts: &MessageParts<'_>, now: UnixMillis) -> Option<u32> {
    if parts.expires_at == UnixMillis::NEVER {
        return None;
    }
    let left = parts.expires_at.seconds_from(now).unwrap_or(0);
    let given = parts.properties.message_expiry_secs();
    if mutant!(ExpiryAboveGiven) {
        return Some(left);
    }
    Some(given.map_or(left, |given| left.min(given)))
}
