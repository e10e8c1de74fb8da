//! One message to many connections: each gets the packet that would have been built for it alone.

use std::num::NonZeroU16;

use proptest::collection::vec;
use proptest::prelude::*;
use whimbrel_codec::bytes::Bytes;
use whimbrel_codec::topic::TopicName;
use whimbrel_codec::{
    Delivery, EncodeError, FanOut, FanOutBuffer, FanOutTarget, Limits, MessageProperties,
    PAYLOAD_SHARE_MIN, Packet, PacketId, Payload, ProtocolVersion, Publish, PublishProperties,
    PublishSource, QoS, SubscriptionId, TopicForm, WriteBuf, decode_ref,
};

#[derive(Clone, Debug)]
struct Target {
    version: ProtocolVersion,
    delivery: Delivery,
    retain: bool,
    subscription_ids: Vec<SubscriptionId>,
    topic: TopicForm,
}

impl Target {
    fn borrow(&self) -> FanOutTarget<'_> {
        let mut target = FanOutTarget::new(self.version, self.delivery);
        target.retain = self.retain;
        target.subscription_ids = &self.subscription_ids;
        target.topic = self.topic;
        target
    }
}

proptest! {
    #[test]
    fn every_subscriber_gets_its_own_packet(
        targets in vec(target(), 1..30),
        payload in prop_oneof![Just(0), 1..40_usize, Just(PAYLOAD_SHARE_MIN)],
        properties in properties(),
        expiry in any::<Option<u32>>(),
        is_shared in any::<bool>(),
        rounds in 1..3,
    ) {
        let topic = TopicName::new("a/b").unwrap();
        let payload = Bytes::from(vec![7; payload]);
        let publisher = publisher_properties(&properties, expiry.map(|_| 1));
        let mut buffer = FanOutBuffer::new();
        for _ in 0..rounds {
            let source = PublishSource {
                topic,
                properties: publisher.properties(),
                payload: if is_shared {
                    Payload::Shared(&payload)
                } else {
                    Payload::Borrowed(&payload)
                },
                message_expiry_secs: expiry,
            };
            let mut fan_out = FanOut::new(source, &mut buffer);
            for target in &targets {
                let mut out = WriteBuf::new();
                fan_out.write(&target.borrow(), &mut out).unwrap();
                prop_assert_eq!(fan_out.encoded_len(&target.borrow()), Ok(out.len()));
                let bytes = drained(&mut out);
                let decoded = decode_ref(&bytes, target.version, &Limits::DEFAULT);
                let packet = decoded.unwrap().unwrap().packet.into_owned();
                assert_is_for(&packet, target, &properties, expiry, &payload);
            }
        }
    }

    #[test]
    fn images_are_byte_by_byte_what_is_written_part_by_part(target in target(), size in 0..50_usize) {
        let payload = vec![1; size];
        let source = PublishSource {
            topic: TopicName::new("some/topic").unwrap(),
            properties: PublishProperties::EMPTY,
            payload: Payload::Borrowed(&payload),
            message_expiry_secs: None,
        };
        let mut buffer = FanOutBuffer::new();
        let mut fan_out = FanOut::new(source, &mut buffer);
        let mut written = [Vec::new(), Vec::new(), Vec::new()];
        for out in &mut written {
            fan_out.write(&target.borrow(), out).unwrap();
        }
        prop_assert_eq!(&written[0], &written[1]);
        prop_assert_eq!(&written[0], &written[2]);
    }
}

#[test]
fn a_large_payload_is_not_copied() {
    let payload = Bytes::from(vec![7; PAYLOAD_SHARE_MIN]);
    let source = PublishSource {
        topic: TopicName::new("a").unwrap(),
        properties: PublishProperties::EMPTY,
        payload: Payload::Shared(&payload),
        message_expiry_secs: None,
    };
    let mut buffer = FanOutBuffer::new();
    let mut fan_out = FanOut::new(source, &mut buffer);
    let target = FanOutTarget::new(ProtocolVersion::V5, Delivery::AtMostOnce);
    for _ in 0..3 {
        let mut out = WriteBuf::new();
        fan_out.write(&target, &mut out).unwrap();
        assert!(out.allocated_bytes() < 1000);
        out.advance(out.chunk().len());
        assert_eq!(out.chunk().as_ptr(), payload.as_ptr());
    }
}

#[test]
fn a_message_too_long_for_the_protocol_is_refused_and_not_written() {
    let payload = vec![0; 268_435_450];
    let source = PublishSource {
        topic: TopicName::new("abcd").unwrap(),
        properties: PublishProperties::EMPTY,
        payload: Payload::Borrowed(&payload),
        message_expiry_secs: None,
    };
    let mut buffer = FanOutBuffer::new();
    let mut fan_out = FanOut::new(source, &mut buffer);
    let target = FanOutTarget::new(ProtocolVersion::V311, Delivery::AtMostOnce);
    for _ in 0..2 {
        let mut out = WriteBuf::new();
        assert_eq!(
            fan_out.encoded_len(&target),
            Err(EncodeError::PacketTooLong)
        );
        let result = fan_out.write(&target, &mut out);
        assert_eq!(result, Err(EncodeError::PacketTooLong));
        assert!(out.is_empty());
    }
}

fn assert_is_for(
    packet: &Packet,
    target: &Target,
    properties: &MessageProperties,
    expiry: Option<u32>,
    payload: &Bytes,
) {
    let Packet::Publish(publish) = packet else {
        panic!("not a PUBLISH");
    };
    assert_eq!(publish.delivery(), target.delivery);
    assert_eq!(publish.retain(), target.retain);
    assert_eq!(publish.payload(), payload);
    if !target.version.is_v5() {
        assert_eq!(publish.topic().unwrap().as_str(), "a/b");
        assert!(publish.properties().is_empty());
        return;
    }
    let (name, alias) = match target.topic {
        TopicForm::Name => (Some("a/b"), None),
        TopicForm::NameAndAlias(alias) => (Some("a/b"), Some(alias)),
        TopicForm::Alias(alias) => (None, Some(alias)),
    };
    assert_eq!(publish.topic().map(TopicName::as_str), name);
    assert_eq!(publish.properties().topic_alias(), alias);
    let ids: Vec<SubscriptionId> = publish.properties().subscription_ids().collect();
    assert_eq!(ids, target.subscription_ids);
    assert_eq!(publish.properties().message_expiry_secs(), expiry);
    let sent = publish.properties();
    let sent = (
        sent.content_type(),
        sent.user_properties().collect::<Vec<_>>(),
    );
    let given = properties.as_properties();
    let given = (
        given.content_type(),
        given.user_properties().collect::<Vec<_>>(),
    );
    assert_eq!(sent, given);
}

/// The properties as a publisher sends them: with an alias and subscription identifiers, which are not forwarded.
fn publisher_properties(properties: &MessageProperties, expiry: Option<u32>) -> Publish {
    let given = properties.as_properties();
    let mut builder = MessageProperties::builder();
    if let Some(content_type) = given.content_type() {
        builder = builder.content_type(content_type);
    }
    if let Some(seconds) = expiry {
        builder = builder.message_expiry_secs(seconds);
    }
    for property in given.user_properties() {
        builder = builder.user_property(property.name, property.value);
    }
    Publish::builder(TopicName::new("a/b").unwrap())
        .topic_alias(NonZeroU16::new(77).unwrap())
        .subscription_id(SubscriptionId::MAX)
        .properties(&builder.build().unwrap())
        .build()
}

fn drained(buf: &mut WriteBuf) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !buf.is_empty() {
        bytes.extend_from_slice(buf.chunk());
        buf.advance(buf.chunk().len());
    }
    bytes
}

fn target() -> impl Strategy<Value = Target> {
    let version = prop_oneof![
        Just(ProtocolVersion::V31),
        Just(ProtocolVersion::V311),
        Just(ProtocolVersion::V5),
    ];
    let qos = prop_oneof![
        Just(QoS::AtMostOnce),
        Just(QoS::AtLeastOnce),
        Just(QoS::ExactlyOnce),
    ];
    let delivery = (qos, 1..=u16::MAX, any::<bool>()).prop_map(|(qos, id, dup)| {
        let first = Delivery::first(qos, PacketId::new(id).unwrap());
        if dup { first.repeated() } else { first }
    });
    let id = (1..=268_435_455_u32).prop_map(|id| SubscriptionId::new(id).unwrap());
    let alias = any::<NonZeroU16>();
    let topic = prop_oneof![
        3 => Just(TopicForm::Name),
        1 => alias.prop_map(TopicForm::NameAndAlias),
        1 => any::<NonZeroU16>().prop_map(TopicForm::Alias),
    ];
    let ids = prop_oneof![2 => Just(Vec::new()), 1 => vec(id, 1..4)];
    (version, delivery, any::<bool>(), ids, topic).prop_map(
        |(version, delivery, retain, subscription_ids, topic)| Target {
            version,
            delivery,
            retain,
            subscription_ids,
            topic,
        },
    )
}

fn properties() -> impl Strategy<Value = MessageProperties> {
    (any::<bool>(), 0..3).prop_map(|(has_content_type, user_properties)| {
        let mut builder = MessageProperties::builder();
        if has_content_type {
            builder = builder.content_type("text/plain");
        }
        for _ in 0..user_properties {
            builder = builder.user_property("k", "v");
        }
        builder.build().unwrap()
    })
}
