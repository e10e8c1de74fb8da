//! What the packets of the table say, field by field: decoded from their vector, and built by hand.

use std::num::{NonZeroU16, NonZeroU32};

use whimbrel_codec::bytes::Bytes;
use whimbrel_codec::topic::{TopicName, TopicNameBuf};
use whimbrel_codec::{
    Ack, AckProperties, AckType, Auth, Authentication, ConnAck, ConnAckProperties, Connect,
    ConnectProperties, Delivery, Disconnect, EncodeError, Limits, MessageProperties, Packet,
    PacketId, PacketRef, PacketType, PayloadFormat, PropertyError, PropertyId, ProtocolVersion,
    Publish, QoS, ReasonCode, RetainHandling, SubAck, Subscribe, SubscribeFilter, SubscriptionId,
    SubscriptionOptions, UnsubAck, Unsubscribe, UserProperties, UserProperty, UserPropertyRef,
    Will, decode_ref, encode_ack, encode_pingreq, encode_pingresp,
};

use crate::table;

const V31: ProtocolVersion = ProtocolVersion::V31;
const V311: ProtocolVersion = ProtocolVersion::V311;
const V5: ProtocolVersion = ProtocolVersion::V5;

#[test]
fn connect_has_all_its_fields_in_every_version() {
    // [3:MQTT-3.1.2-9] [3:MQTT-3.1.3-1] [5:MQTT-3.1.2-9] [5:MQTT-3.1.3-1]
    let will = Will {
        topic: topic("w"),
        payload: Bytes::from_static(b"bye"),
        qos: QoS::ExactlyOnce,
        retain: true,
        delay_secs: 0,
        properties: MessageProperties::new(),
    };
    let mut connect = Connect {
        will: Some(will),
        user_name: Some("u".into()),
        password: Some(Bytes::from_static(b"p")),
        ..Connect::new(V31, "c")
    };
    assert_is_vector(
        V31,
        "a full CONNECT",
        &Packet::Connect(Box::new(connect.clone())),
    );
    connect.version = V311;
    assert_is_vector(
        V311,
        "a full CONNECT",
        &Packet::Connect(Box::new(connect.clone())),
    );
    connect.version = V5;
    connect.properties = ConnectProperties {
        session_expiry_secs: 10,
        receive_maximum: NonZeroU16::new(5).unwrap(),
        packet_size_max: NonZeroU32::new(4096),
        topic_alias_max: 6,
        request_response_information: true,
        request_problem_information: false,
        authentication: authentication(),
        user_properties: user_properties(&[("k", "v")]),
    };
    let will = connect.will.as_mut().unwrap();
    will.delay_secs = 7;
    will.properties = MessageProperties::builder()
        .payload_format(PayloadFormat::Utf8)
        .message_expiry_secs(8)
        .content_type("t")
        .response_topic(TopicName::new("r").unwrap())
        .correlation_data(b"c")
        .user_property("a", "b")
        .user_property("a", "c")
        .build()
        .unwrap();
    assert_is_vector(V5, "a full CONNECT", &Packet::Connect(Box::new(connect)));
}

#[test]
fn connack_has_all_its_fields() {
    let connack = ConnAck {
        session_present: true,
        reason: ReasonCode::Success,
        properties: ConnAckProperties {
            session_expiry_secs: Some(1),
            receive_maximum: NonZeroU16::new(3).unwrap(),
            maximum_qos: QoS::AtLeastOnce,
            retain_available: false,
            packet_size_max: NonZeroU32::new(5),
            assigned_client_id: Some("id".into()),
            topic_alias_max: 4,
            reason_string: Some("why".into()),
            wildcard_subscription_available: false,
            subscription_id_available: false,
            shared_subscription_available: false,
            server_keep_alive_secs: Some(2),
            response_information: Some("r".into()),
            server_reference: Some("s".into()),
            authentication: authentication(),
            user_properties: user_properties(&[("k", "v")]),
        },
    };
    assert_is_vector(V5, "a full CONNACK", &Packet::ConnAck(Box::new(connack)));
    let refused = Packet::ConnAck(Box::new(ConnAck::new(ReasonCode::NotAuthorized)));
    assert_is_vector(V311, "not authorised", &refused);
}

#[test]
fn publish_has_all_its_fields() {
    let name = TopicName::new("a/b").unwrap();
    let plain = Publish::builder(name).payload("hey");
    assert_is_vector(V311, "QoS 0", &Packet::Publish(plain.clone().build()));
    assert_is_vector(V5, "QoS 0", &Packet::Publish(plain.clone().build()));
    let repeated = Delivery::AtLeastOnce {
        id: id(1),
        dup: true,
    };
    let repeated = Packet::Publish(plain.clone().delivery(repeated).build());
    assert_is_vector(V31, "QoS 1, sent again", &repeated);
    let retained = Delivery::ExactlyOnce {
        id: PacketId::MAX,
        dup: false,
    };
    let retained = plain.delivery(retained).retain(true).build();
    assert_is_vector(V311, "QoS 2, retained", &Packet::Publish(retained));
    let left_to_alias = Publish::alias_builder(NonZeroU16::MIN).build();
    assert_eq!(left_to_alias.topic(), None);
    assert_is_vector(
        V5,
        "the topic left to an alias",
        &Packet::Publish(left_to_alias),
    );
}

#[test]
fn publish_properties_are_read_in_place() {
    let bytes = vector(V5, "all properties");
    let decoded = decode_ref(&bytes, V5, &Limits::DEFAULT).unwrap().unwrap();
    let PacketRef::Publish(publish) = decoded.packet else {
        panic!("not a PUBLISH");
    };
    assert_eq!(publish.topic().map(TopicName::as_str), Some("a/b"));
    assert_eq!(
        publish.delivery(),
        Delivery::AtLeastOnce {
            id: id(1),
            dup: false
        }
    );
    assert_eq!(publish.qos(), QoS::AtLeastOnce);
    assert_eq!(publish.packet_id(), Some(id(1)));
    assert!(publish.retain());
    assert_eq!(publish.payload(), b"hey");
    let properties = publish.properties();
    assert_eq!(properties.payload_format(), PayloadFormat::Utf8);
    assert_eq!(properties.message_expiry_secs(), Some(8));
    assert_eq!(properties.content_type(), Some("t"));
    assert_eq!(properties.response_topic(), TopicName::new("r").ok());
    assert_eq!(properties.correlation_data(), Some(&b"c"[..]));
    assert_eq!(properties.topic_alias(), NonZeroU16::new(1));
    let ids: Vec<u32> = properties
        .subscription_ids()
        .map(SubscriptionId::get)
        .collect();
    assert_eq!(ids, [1, 268_435_455]);
    let pair = UserPropertyRef {
        name: "a",
        value: "b",
    };
    assert_eq!(
        properties.user_properties().collect::<Vec<_>>(),
        [pair, pair]
    );
    assert_eq!(properties.iter().count(), 10);

    // What is forwarded lacks what belongs to the connection.
    let message = MessageProperties::from_publish(properties);
    let forwarded = message.as_properties();
    assert_eq!(forwarded.topic_alias(), None);
    assert_eq!(forwarded.subscription_ids().count(), 0);
    assert_eq!(forwarded.message_expiry_secs(), Some(8));
    assert_eq!(forwarded.iter().count(), 7);

    // Absent properties mean their default.
    let empty = MessageProperties::new();
    assert!(empty.is_empty() && empty.as_properties().is_empty());
    assert_eq!(empty.as_properties().payload_format(), PayloadFormat::Bytes);
    assert_eq!(empty.as_properties().message_expiry_secs(), None);
}

#[test]
fn an_owned_publish_shares_a_large_frame_and_copies_a_small_one() {
    use whimbrel_codec::{PAYLOAD_SHARE_MIN, decode_owned};
    for (size, is_shared) in [(PAYLOAD_SHARE_MIN - 1, false), (PAYLOAD_SHARE_MIN, true)] {
        let topic = TopicName::new("a/b").unwrap();
        let message = MessageProperties::builder()
            .content_type("t")
            .build()
            .unwrap();
        let publish = Publish::builder(topic)
            .properties(&message)
            .payload(vec![7; size])
            .build();
        let mut frame = Vec::new();
        Packet::Publish(publish.clone())
            .encode(V5, &mut frame)
            .unwrap();
        let frame = Bytes::from(frame);
        let decoded = decode_owned(&frame, V5, &Limits::DEFAULT).unwrap().unwrap();
        assert_eq!(decoded.packet, Packet::Publish(publish));
        let Packet::Publish(publish) = decoded.packet else {
            panic!("not a PUBLISH");
        };
        assert_eq!(
            frame.as_ptr_range().contains(&publish.payload().as_ptr()),
            is_shared
        );
        assert_eq!(publish.payload_bytes().len(), size);
    }
}

#[test]
fn acknowledgements_have_all_their_fields() {
    let ack = Ack {
        id: id(1),
        reason: ReasonCode::NotAuthorized,
        properties: AckProperties {
            reason_string: Some("why".into()),
            user_properties: user_properties(&[("k", "v"), ("k", "w")]),
        },
    };
    assert_is_vector(V5, "PUBACK, all of it", &Packet::PubAck(ack));
    let suback = SubAck {
        id: id(1),
        codes: vec![
            ReasonCode::GRANTED_QOS_0,
            ReasonCode::GrantedQos1,
            ReasonCode::GrantedQos2,
            ReasonCode::NotAuthorized,
            ReasonCode::WildcardSubscriptionsNotSupported,
        ],
        properties: AckProperties {
            reason_string: Some("why".into()),
            user_properties: user_properties(&[("k", "v")]),
        },
    };
    assert_is_vector(V5, "SUBACK", &Packet::SubAck(Box::new(suback)));
    let unsuback = UnsubAck {
        id: id(1),
        codes: vec![
            ReasonCode::Success,
            ReasonCode::NoSubscriptionExisted,
            ReasonCode::TopicFilterInvalid,
        ],
        properties: AckProperties {
            reason_string: Some("why".into()),
            ..AckProperties::new()
        },
    };
    assert_is_vector(V5, "UNSUBACK", &Packet::UnsubAck(Box::new(unsuback)));
}

#[test]
fn subscribe_and_unsubscribe_have_all_their_fields() {
    let filter = |filter: &str, options| SubscribeFilter {
        filter: filter.into(),
        options,
    };
    let subscribe = Subscribe {
        id: id(1),
        filters: vec![
            filter(
                "a",
                SubscriptionOptions {
                    qos: QoS::ExactlyOnce,
                    no_local: true,
                    retain_as_published: true,
                    retain_handling: RetainHandling::DoNotSend,
                },
            ),
            filter(
                "b",
                SubscriptionOptions {
                    no_local: true,
                    retain_as_published: true,
                    retain_handling: RetainHandling::SendIfNew,
                    ..SubscriptionOptions::new(QoS::AtLeastOnce)
                },
            ),
        ],
        subscription_id: SubscriptionId::new(7),
        user_properties: user_properties(&[("k", "v")]),
    };
    assert_is_vector(V5, "SUBSCRIBE, all of it", &Packet::Subscribe(subscribe));
    let plain = Subscribe {
        id: id(1),
        filters: vec![
            filter("a/+", SubscriptionOptions::new(QoS::AtMostOnce)),
            filter("#", SubscriptionOptions::new(QoS::AtLeastOnce)),
            filter("b", SubscriptionOptions::new(QoS::ExactlyOnce)),
        ],
        subscription_id: None,
        user_properties: UserProperties::new(),
    };
    assert_is_vector(V31, "SUBSCRIBE", &Packet::Subscribe(plain));
    let unsubscribe = Unsubscribe {
        id: id(1),
        filters: vec!["a/+".into(), "b".into()],
        user_properties: user_properties(&[("k", "v")]),
    };
    assert_is_vector(V5, "UNSUBSCRIBE", &Packet::Unsubscribe(unsubscribe));
}

#[test]
fn disconnect_and_auth_have_all_their_fields() {
    let disconnect = Disconnect {
        reason: ReasonCode::UseAnotherServer,
        session_expiry_secs: Some(5),
        server_reference: Some("s".into()),
        reason_string: Some("why".into()),
        user_properties: user_properties(&[("k", "v")]),
    };
    assert_is_vector(
        V5,
        "DISCONNECT, all of it",
        &Packet::Disconnect(Box::new(disconnect)),
    );
    assert_is_vector(V311, "DISCONNECT", &Packet::Disconnect(Box::default()));
    let auth = Auth {
        reason: ReasonCode::ContinueAuthentication,
        authentication: authentication().unwrap(),
        properties: AckProperties {
            reason_string: Some("why".into()),
            user_properties: user_properties(&[("k", "v")]),
        },
    };
    assert_is_vector(V5, "AUTH", &Packet::Auth(Box::new(auth)));
}

#[test]
fn fast_encoders_write_what_the_packets_write() {
    let acks = [
        (AckType::PubAck, Packet::PubAck as fn(Ack) -> Packet),
        (AckType::PubRec, Packet::PubRec),
        (AckType::PubRel, Packet::PubRel),
        (AckType::PubComp, Packet::PubComp),
    ];
    for version in [V31, V311, V5] {
        for (ack_type, packet) in acks {
            for reason in ReasonCode::ALL {
                let mut fast = Vec::new();
                let result = encode_ack(&mut fast, ack_type, id(0x1234), reason, version);
                let mut slow = Vec::new();
                let packet = packet(Ack::new(id(0x1234), reason));
                assert_eq!(packet.encode(version, &mut slow), result);
                assert_eq!(fast, slow);
            }
        }
        let mut fast = Vec::new();
        encode_pingreq(&mut fast);
        encode_pingresp(&mut fast);
        let mut slow = Vec::new();
        Packet::PingReq.encode(version, &mut slow).unwrap();
        Packet::PingResp.encode(version, &mut slow).unwrap();
        assert_eq!(fast, slow);
    }
}

#[test]
fn a_reason_code_of_another_packet_is_not_sent() {
    // [5:MQTT-3.2.2-8] [5:MQTT-3.4.2-1] [5:MQTT-3.5.2-1] [5:MQTT-3.6.2-1] [5:MQTT-3.7.2-1]
    // [5:MQTT-3.9.3-2] [5:MQTT-3.11.3-2] [5:MQTT-3.14.2-1] [5:MQTT-3.15.2-1]
    let empty = || Authentication::default();
    let all: [fn(ReasonCode) -> Packet; 8] = [
        |reason| Packet::ConnAck(Box::new(ConnAck::new(reason))),
        |reason| Packet::PubAck(Ack::new(PacketId::MIN, reason)),
        |reason| Packet::PubRec(Ack::new(PacketId::MIN, reason)),
        |reason| Packet::PubRel(Ack::new(PacketId::MIN, reason)),
        |reason| Packet::PubComp(Ack::new(PacketId::MIN, reason)),
        |reason| {
            Packet::SubAck(Box::new(SubAck {
                id: PacketId::MIN,
                codes: vec![ReasonCode::Success, reason],
                properties: AckProperties::new(),
            }))
        },
        |reason| {
            Packet::UnsubAck(Box::new(UnsubAck {
                id: PacketId::MIN,
                codes: vec![reason],
                properties: AckProperties::new(),
            }))
        },
        |reason| Packet::Disconnect(Box::new(Disconnect::new(reason))),
    ];
    for reason in ReasonCode::ALL {
        let auth = Packet::Auth(Box::new(Auth {
            reason,
            authentication: empty(),
            properties: AckProperties::new(),
        }));
        for packet in all.iter().map(|packet| packet(reason)).chain([auth]) {
            let packet_type = packet.packet_type();
            let expected = if reason.allowed_in(packet_type) {
                Ok(())
            } else {
                Err(EncodeError::ReasonNotAllowed {
                    packet_type,
                    reason,
                })
            };
            assert_eq!(packet.encoded_len(V5).map(drop), expected);
        }
    }
}

#[test]
fn what_has_no_form_on_the_wire_is_refused_and_writes_nothing() {
    let long = "x".repeat(65_536);
    let connect = |connect: Connect| Packet::Connect(Box::new(connect));
    let subscribe = |filters| {
        Packet::Subscribe(Subscribe {
            id: PacketId::MIN,
            filters,
            subscription_id: None,
            user_properties: UserProperties::new(),
        })
    };
    let auth = Packet::Auth(Box::new(Auth {
        reason: ReasonCode::Success,
        authentication: Authentication::default(),
        properties: AckProperties::new(),
    }));
    let without_user_name = |version| {
        connect(Connect {
            password: Some(Bytes::new()),
            ..Connect::new(version, "c")
        })
    };
    let old_session = |version| {
        connect(Connect {
            clean_start: false,
            ..Connect::new(version, "")
        })
    };
    let not_in_version = |version| EncodeError::NotInVersion {
        packet_type: PacketType::Auth,
        version,
    };
    let empty_filter = SubscribeFilter {
        filter: "".into(),
        options: SubscriptionOptions::default(),
    };
    let no_codes = Packet::UnsubAck(Box::new(UnsubAck {
        id: PacketId::MIN,
        codes: Vec::new(),
        properties: AckProperties::new(),
    }));
    let huge = Publish::builder(topic("a"))
        .payload(vec![0; 268_435_453])
        .build();
    let table = [
        (
            connect(Connect::new(V311, long.as_str())),
            V311,
            Some(EncodeError::FieldTooLong),
        ),
        (
            connect(Connect::new(V311, "a\0b")),
            V311,
            Some(EncodeError::StringNull),
        ),
        (
            without_user_name(V311),
            V5,
            Some(EncodeError::PasswordWithoutUserName),
        ),
        (without_user_name(V31), V5, None),
        (without_user_name(V5), V311, None),
        (
            connect(Connect::new(V31, "")),
            V31,
            Some(EncodeError::ClientIdEmpty),
        ),
        (connect(Connect::new(V311, "")), V311, None),
        (old_session(V311), V311, Some(EncodeError::ClientIdEmpty)),
        (old_session(V5), V5, None),
        (auth.clone(), V311, Some(not_in_version(V311))),
        (auth, V5, None),
        (
            subscribe(Vec::new()),
            V311,
            Some(EncodeError::FiltersMissing),
        ),
        (
            subscribe(vec![empty_filter]),
            V311,
            Some(EncodeError::FilterEmpty),
        ),
        (no_codes.clone(), V5, Some(EncodeError::ReasonCodesMissing)),
        (no_codes, V311, None),
        (
            Packet::Publish(Publish::alias_builder(NonZeroU16::MIN).build()),
            V311,
            Some(EncodeError::TopicMissing),
        ),
        (
            Packet::Publish(huge),
            V311,
            Some(EncodeError::PacketTooLong),
        ),
    ];
    for (packet, version, error) in table {
        assert_eq!(
            packet.encoded_len(version).err(),
            error,
            "{:?}",
            packet.packet_type()
        );
        let mut out = Vec::new();
        assert_eq!(packet.encode(version, &mut out).err(), error);
        assert_eq!(out.is_empty(), error.is_some());
    }
}

#[test]
fn properties_that_cannot_be_sent_are_refused_when_they_are_built() {
    let long = "x".repeat(65_536);
    let too_long = |id| Err(PropertyError::TooLong { id });
    let builder = MessageProperties::builder;
    assert_eq!(
        builder().content_type(&long).build(),
        too_long(PropertyId::ContentType)
    );
    assert_eq!(
        builder().correlation_data(long.as_bytes()).build(),
        too_long(PropertyId::CorrelationData)
    );
    assert_eq!(
        builder().user_property("k", &long).build(),
        too_long(PropertyId::UserProperty)
    );
    let null = PropertyError::StringNull {
        id: PropertyId::UserProperty,
    };
    assert_eq!(builder().user_property("\0", "v").build(), Err(null));
    assert!(builder().correlation_data(b"\0").build().is_ok());
}

#[test]
fn older_versions_get_the_nearest_code() {
    // [3:MQTT-3.9.3-2] [U31-003] [U31-004]
    let connack = |reason| {
        let mut connack = ConnAck::new(reason);
        connack.session_present = true;
        Packet::ConnAck(Box::new(connack))
    };
    let mut bytes = Vec::new();
    connack(ReasonCode::Banned)
        .encode(V311, &mut bytes)
        .unwrap();
    assert_eq!(bytes, [0x20, 2, 1, 5]);
    bytes.clear();
    connack(ReasonCode::UnspecifiedError)
        .encode(V31, &mut bytes)
        .unwrap();
    assert_eq!(bytes, [0x20, 2, 0, 3]);

    let suback = Packet::SubAck(Box::new(SubAck {
        id: id(1),
        codes: vec![ReasonCode::GrantedQos2, ReasonCode::TopicFilterInvalid],
        properties: AckProperties::new(),
    }));
    bytes.clear();
    suback.encode(V311, &mut bytes).unwrap();
    assert_eq!(bytes, [0x90, 4, 0, 1, 2, 0x80]);
    bytes.clear();
    suback.encode(V31, &mut bytes).unwrap();
    assert_eq!(bytes, [0x90, 4, 0, 1, 2, 0]);
}

/// `packet` and the vector of this name are the same in both directions.
fn assert_is_vector(version: ProtocolVersion, name: &str, packet: &Packet) {
    let bytes = vector(version, name);
    let mut encoded = Vec::new();
    packet.encode(version, &mut encoded).unwrap();
    assert_eq!(encoded, bytes, "{name}");
    let decoded = decode_ref(&bytes, version, &Limits::DEFAULT)
        .unwrap()
        .unwrap();
    assert_eq!(decoded.packet.into_owned(), *packet, "{name}");
    assert_eq!(decoded.packet.packet_type(), packet.packet_type());
}

fn vector(version: ProtocolVersion, name: &str) -> Vec<u8> {
    let mut vectors = table::all().into_iter();
    let vector = vectors.find(|vector| vector.version == version && vector.name == name);
    vector.unwrap_or_else(|| panic!("no vector {name}")).bytes
}

fn id(id: u16) -> PacketId {
    PacketId::new(id).unwrap()
}

fn topic(name: &str) -> TopicNameBuf {
    TopicNameBuf::try_from(name).unwrap()
}

fn authentication() -> Option<Authentication> {
    Some(Authentication {
        method: "m".into(),
        data: Some(Bytes::from_static(b"d")),
    })
}

fn user_properties(pairs: &[(&str, &str)]) -> UserProperties {
    let properties = pairs
        .iter()
        .map(|(name, value)| UserProperty::new(*name, *value));
    properties.collect()
}
