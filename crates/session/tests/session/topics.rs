//! Topic aliases, and what a PUBLISH may say to whom.

use std::num::NonZeroU16;

use whimbrel_session::codec::topic::{ByteStr, TopicName};
use whimbrel_session::codec::{
    Delivery, Packet, ProtocolVersion, Publish, QoS, ReasonCode, SubscribeFilter, SubscriptionId,
    SubscriptionOptions,
};
use whimbrel_session::{ProtocolError, Refused, SubscribeRequest};

use crate::support::{Driven, Role, Seen, Setup, VERSIONS, everywhere, id, publish};

const V5: ProtocolVersion = ProtocolVersion::V5;

fn aliased(topic: Option<&str>, alias: u16) -> Packet {
    let alias = NonZeroU16::new(alias).expect("not 0");
    Packet::Publish(match topic {
        Some(topic) => {
            let topic = TopicName::new(topic).expect("a valid name");
            Publish::builder(topic).topic_alias(alias).build()
        }
        None => Publish::alias_builder(alias).build(),
    })
}

fn topic_of(seen: Seen) -> String {
    match seen {
        Seen::Publish { topic, .. } => topic,
        other => panic!("{other:?}"),
    }
}

fn with_aliases(role: Role) -> Driven {
    let mut setup = Setup::new(V5);
    setup.connect.properties.topic_alias_max = 4;
    setup.server.topic_alias_maximum = 4;
    setup.connect(role)
}

#[test]
fn an_alias_stands_for_its_topic() {
    // [U5-052] [5:MQTT-3.3.2-10] [5:MQTT-3.3.2-12]
    for role in [Role::Client, Role::Server] {
        let mut side = with_aliases(role);
        for alias in 1..=4 {
            assert_eq!(topic_of(side.feed_one(&aliased(Some("a"), alias))), "a");
            assert_eq!(topic_of(side.feed_one(&aliased(None, alias))), "a");
            assert_eq!(topic_of(side.feed_one(&aliased(Some("b"), alias))), "b");
            assert_eq!(topic_of(side.feed_one(&aliased(None, alias))), "b");
        }
    }
}

#[test]
fn an_unknown_or_too_large_alias_breaks_the_protocol() {
    // [U5-050] [U5-051] [5:MQTT-3.3.2-8]
    for role in [Role::Client, Role::Server] {
        let mut side = with_aliases(role);
        let error = side.feed(&aliased(None, 1)).expect_err("unknown");
        assert_eq!(error, ProtocolError::TopicAliasUnknown);
        assert_eq!(error.reason_code(), ReasonCode::ProtocolError);
        let mut side = with_aliases(role);
        let error = side.feed(&aliased(Some("a"), 5)).expect_err("above 4");
        assert_eq!(error, ProtocolError::TopicAliasInvalid);
        assert_eq!(error.reason_code(), ReasonCode::TopicAliasInvalid);
    }
}

#[test]
fn aliases_are_forgotten_with_the_connection() {
    // [5:MQTT-3.3.2-7]
    for role in [Role::Client, Role::Server] {
        let mut side = with_aliases(role);
        side.feed_one(&aliased(Some("a"), 1));
        let mut setup = Setup::new(V5);
        setup.connect.properties.topic_alias_max = 4;
        let mut side = setup.resuming(side.lose()).connect(role);
        let error = side.feed(&aliased(None, 1));
        assert_eq!(error.err(), Some(ProtocolError::TopicAliasUnknown));
    }
}

#[test]
fn a_repeat_that_is_not_delivered_still_sets_its_alias() {
    // D14
    for role in [Role::Client, Role::Server] {
        let mut side = with_aliases(role);
        let token = side.feed_one(&publish(QoS::ExactlyOnce, 1, "m")).token();
        side.ack(token);
        let topic = TopicName::new("a").expect("a valid name");
        let delivery = Delivery::ExactlyOnce {
            id: id(1),
            dup: true,
        };
        let again = Publish::builder(topic)
            .topic_alias(NonZeroU16::MIN)
            .delivery(delivery)
            .build();
        side.feed_silent(&Packet::Publish(again));
        assert_eq!(topic_of(side.feed_one(&aliased(None, 1))), "a");
    }
}

#[test]
fn a_clients_publish_has_no_subscription_identifier() {
    // [5:MQTT-3.3.4-6]
    let topic = TopicName::new("a").expect("a valid name");
    let packet = Publish::builder(topic)
        .subscription_id(SubscriptionId::MIN)
        .build();
    let packet = Packet::Publish(packet);
    let mut side = Driven::connected(Role::Server, V5);
    let error = side.feed(&packet).expect_err("a client's");
    assert_eq!(error, ProtocolError::SubscriptionIdFromClient);
    assert_eq!(error.reason_code(), ReasonCode::ProtocolError);
}

#[test]
fn a_servers_publish_has_only_identifiers_that_the_client_gave() {
    // [U5-048]
    let carrying = |number| {
        let topic = TopicName::new("a").expect("a valid name");
        let id = SubscriptionId::new(number).expect("not 0");
        Packet::Publish(Publish::builder(topic).subscription_id(id).build())
    };
    let subscribe = |side: &mut Driven, number| {
        let now = side.now;
        let filter = SubscribeFilter {
            filter: ByteStr::from("a"),
            options: SubscriptionOptions::default(),
        };
        let request = SubscribeRequest {
            filters: vec![filter],
            subscription_id: SubscriptionId::new(number),
            ..SubscribeRequest::default()
        };
        side.client().subscribe(now, request).expect("room");
    };
    let mut side = Driven::connected(Role::Client, V5);
    subscribe(&mut side, 7);
    // The message may come before SUBACK [U5-061].
    side.feed_one(&carrying(7));
    subscribe(&mut side, 8);
    side.feed_one(&carrying(7));
    side.feed_one(&carrying(8));
    side.sent();
    let error = side.feed(&carrying(9)).expect_err("9 was not given");
    assert_eq!(error, ProtocolError::SubscriptionIdUnknown);
    assert_eq!(error.reason_code(), ReasonCode::ProtocolError);
    assert!(side.is_closing());

    let mut side = Driven::connected(Role::Client, V5);
    let error = side.feed(&carrying(1)).expect_err("none was given");
    assert_eq!(error, ProtocolError::SubscriptionIdUnknown);

    // A session that goes on may have subscriptions of an earlier connection.
    let session = Driven::connected(Role::Client, V5).lose();
    let mut side = Setup::new(V5).resuming(session).connect(Role::Client);
    side.feed_one(&carrying(1));
}

#[test]
fn a_publish_beyond_what_was_announced_breaks_the_protocol() {
    // [U5-038] [U5-039]
    let mut setup = Setup::new(V5);
    setup.server.maximum_qos = QoS::AtLeastOnce;
    let mut side = setup.connect(Role::Server);
    side.feed_one(&publish(QoS::AtLeastOnce, 1, "m"));
    let error = side.feed(&publish(QoS::ExactlyOnce, 2, "m"));
    assert_eq!(error.err(), Some(ProtocolError::QosNotSupported));

    let mut setup = Setup::new(V5);
    setup.server.retain_available = false;
    let mut side = setup.connect(Role::Server);
    let topic = TopicName::new("a").expect("a valid name");
    let retained = Packet::Publish(Publish::builder(topic).retain(true).build());
    let error = side.feed(&retained).expect_err("not available");
    assert_eq!(error, ProtocolError::RetainNotSupported);
    assert_eq!(error.reason_code(), ReasonCode::RetainNotSupported);
}

#[test]
fn a_client_publishes_nothing_the_server_does_not_take() {
    // [5:MQTT-3.2.2-11] [5:MQTT-3.2.2-14]
    use whimbrel_session::PublishOptions;
    use whimbrel_session::codec::{FanOut, FanOutBuffer};
    let mut setup = Setup::new(V5);
    setup.connack.properties.maximum_qos = QoS::AtLeastOnce;
    setup.connack.properties.retain_available = false;
    let mut side = setup.connect(Role::Client);
    let refused = side.publish(QoS::ExactlyOnce, 1);
    assert_eq!(refused, Err(Refused::QosNotSupported(1)));
    let mut buffer = FanOutBuffer::new();
    let mut message = FanOut::new(crate::support::source(b"m"), &mut buffer);
    let options = PublishOptions {
        qos: QoS::AtMostOnce,
        retain: true,
    };
    let now = side.now;
    let refused = side.client().publish(now, &mut message, options, 2);
    assert_eq!(refused, Err(Refused::RetainNotSupported(2)));
    side.publish(QoS::AtLeastOnce, 3).expect("what it takes");
}

#[test]
fn a_wildcard_in_a_topic_is_told_apart() {
    // [3:MQTT-3.3.2-2] [5:MQTT-3.3.2-2] (D13)
    for (role, version) in everywhere() {
        let mut side = Driven::connected(role, version);
        let bytes: &[u8] = if version.is_v5() {
            b"\x30\x06\0\x03a/#\0"
        } else {
            b"\x30\x05\0\x03a/#"
        };
        let error = side.feed_bytes(bytes).expect_err("a wildcard");
        assert_eq!(error.reason_code(), ReasonCode::TopicNameInvalid);
    }
}

#[test]
fn versions_before_5_are_not_held_to_what_they_are_not_told() {
    for version in [VERSIONS[0], VERSIONS[1]] {
        let mut setup = Setup::new(version);
        setup.server.maximum_qos = QoS::AtMostOnce;
        let mut side = setup.connect(Role::Server);
        side.feed_one(&publish(QoS::ExactlyOnce, 1, "m"));
    }
}
