//! Records in few words.

use whimbrel_broker_core::session::Stage;
use whimbrel_broker_core::session::codec::topic::{ByteStr, TopicName, TopicNameBuf};
use whimbrel_broker_core::session::codec::{
    MessageProperties, PacketId, ProtocolVersion, QoS, SubscriptionId, SubscriptionOptions, Will,
};
use whimbrel_broker_core::{
    Batch, ExchangeRecord, Form, GroupRecord, Holder, Holders, Message, MessageParts, MsgId,
    Position, QueueId, Record, RetainedChange, SessionRecord, SubscriptionRecord, UnixMillis,
    WindowRecord,
};

/// The queue with this number.
///
/// # Panics
///
/// If it is 0.
#[must_use]
pub fn queue(number: u64) -> QueueId {
    QueueId::new(number).expect("the number of a queue is not 0")
}

/// The place with this number.
///
/// # Panics
///
/// If it is 0.
#[must_use]
pub fn at(number: u64) -> Position {
    Position::new(number).expect("the number of a place is not 0")
}

/// The identity with this sequence.
#[must_use]
pub fn id(sequence: u64) -> MsgId {
    MsgId {
        node: 0,
        incarnation: 1,
        sequence,
    }
}

/// A message to `topic`, with a payload of so many bytes.
///
/// # Panics
///
/// If the topic is no topic name.
#[must_use]
pub fn message(sequence: u64, topic: &str, payload_bytes: usize) -> Message {
    let user = sequence.to_string();
    let properties = MessageProperties::builder()
        .user_property("n", &user)
        .content_type("text/plain")
        .build()
        .expect("short strings");
    Message::new(&MessageParts {
        id: id(sequence),
        topic: TopicName::new(topic).expect("a topic name"),
        qos: QoS::ExactlyOnce,
        retain: sequence % 2 == 1,
        expires_at: if sequence.is_multiple_of(3) {
            UnixMillis(sequence)
        } else {
            UnixMillis::NEVER
        },
        properties: properties.as_properties(),
        payload: &vec![sequence.to_le_bytes()[0]; payload_bytes],
    })
}

/// How a client gets a message: with an identifier of the subscription for every third.
#[must_use]
pub fn form(number: u64) -> Form {
    let id = u32::try_from(number).ok().and_then(SubscriptionId::new);
    let ids: Vec<SubscriptionId> = id
        .filter(|_| number.is_multiple_of(3))
        .into_iter()
        .collect();
    Form::new(QoS::AtLeastOnce, number.is_multiple_of(2), &ids)
}

/// A batch of records alone.
#[must_use]
pub fn batch(records: Vec<Record>) -> Batch {
    Batch {
        records,
        retained: Vec::new(),
    }
}

/// A session begins.
#[must_use]
pub fn session(number: u64) -> Record {
    session_left_at(number, None)
}

/// A session, whose connection went at this moment.
///
/// # Panics
///
/// Never.
#[must_use]
pub fn session_left_at(number: u64, disconnected_at: Option<u64>) -> Record {
    let will = Will {
        topic: TopicNameBuf::try_from("last/words").expect("a topic name"),
        payload: b"gone"[..].into(),
        qos: QoS::AtLeastOnce,
        retain: true,
        delay_secs: 5,
        properties: MessageProperties::new(),
    };
    Record::Session(Box::new(SessionRecord {
        session: queue(number),
        client_id: format!("client-{number}").into(),
        version: ProtocolVersion::V5,
        expiry_secs: 60,
        disconnected_at: disconnected_at.map(UnixMillis),
        will: number.is_multiple_of(2).then_some(will),
    }))
}

/// A session ends.
#[must_use]
pub fn session_ended(number: u64) -> Record {
    Record::SessionEnded {
        session: queue(number),
    }
}

/// A session subscribes.
#[must_use]
pub fn subscribed(number: u64, filters: &[&str]) -> Record {
    let subscriptions = filters.iter().map(|filter| SubscriptionRecord {
        filter: ByteStr::from(*filter),
        options: SubscriptionOptions::new(QoS::ExactlyOnce),
        subscription_id: SubscriptionId::new(7),
    });
    Record::Subscribed {
        session: queue(number),
        subscriptions: subscriptions.collect(),
    }
}

/// A session unsubscribes.
#[must_use]
pub fn unsubscribed(number: u64, filters: &[&str]) -> Record {
    Record::Unsubscribed {
        session: queue(number),
        filters: filters
            .iter()
            .map(|filter| ByteStr::from(*filter))
            .collect(),
    }
}

/// A shared subscription begins.
#[must_use]
pub fn group(number: u64) -> Record {
    Record::Group(GroupRecord {
        group: queue(number),
        share: format!("share-{number}").into(),
        filter: "a/#".into(),
    })
}

/// A shared subscription ends.
#[must_use]
pub fn group_ended(number: u64) -> Record {
    Record::GroupEnded {
        group: queue(number),
    }
}

/// Message number `position` is queued there, for these queues.
#[must_use]
pub fn enqueued(position: u64, queues: &[u64]) -> Record {
    enqueued_as(position, message(position, "a/b", 32), queues)
}

/// A message is queued for these queues.
#[must_use]
pub fn enqueued_as(position: u64, message: Message, queues: &[u64]) -> Record {
    let holders: Vec<Holder> = queues
        .iter()
        .map(|&number| Holder {
            queue: queue(number),
            form: form(number),
        })
        .collect();
    Record::Enqueued {
        position: at(position),
        message,
        holders: Holders::of(&holders),
    }
}

/// A queue is done with messages.
#[must_use]
pub fn done(number: u64, positions: &[u64]) -> Record {
    Record::Done {
        queue: queue(number),
        positions: positions.iter().map(|&position| at(position)).collect(),
    }
}

/// The window of a session: everything before `cursor` is done but what is open.
///
/// # Panics
///
/// If there are more than 65,534 open exchanges.
#[must_use]
pub fn window(number: u64, cursor: u64, open: &[u64]) -> Record {
    let packet_id = |place: usize| {
        let id = u16::try_from(place + 1).ok().and_then(PacketId::new);
        id.expect("few exchanges")
    };
    let exchanges = open
        .iter()
        .enumerate()
        .map(|(place, &position)| ExchangeRecord {
            packet_id: packet_id(place),
            stage: match place % 3 {
                0 => Stage::AwaitPubAck,
                1 => Stage::AwaitPubRec,
                _ => Stage::AwaitPubComp { rank: position },
            },
            position: Some(at(position)),
            group: None,
            form: form(number),
        });
    Record::Window(Box::new(WindowRecord {
        session: queue(number),
        cursor: at(cursor),
        next_packet_id: packet_id(open.len()),
        exchanges: exchanges.collect(),
    }))
}

/// A message is taken over.
#[must_use]
pub fn inbound_stored(number: u64, packet_id: u16, message: Message) -> Record {
    Record::InboundStored {
        session: queue(number),
        packet_id,
        message,
    }
}

/// A message that was taken over is released.
#[must_use]
pub fn inbound_released(number: u64, packet_id: u16, sequence: u64) -> Record {
    Record::InboundReleased {
        session: queue(number),
        packet_id,
        message: id(sequence),
    }
}

/// A retained message is set.
#[must_use]
pub fn retained_set(sequence: u64, topic: &str) -> RetainedChange {
    RetainedChange::Set(message(sequence, topic, 16))
}

/// A retained message is deleted.
///
/// # Panics
///
/// If the topic is no topic name.
#[must_use]
pub fn retained_deleted(topic: &str) -> RetainedChange {
    RetainedChange::Deleted {
        topic: TopicNameBuf::try_from(topic).expect("a topic name"),
    }
}
