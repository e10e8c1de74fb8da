//! Topic aliases that this side gives to topics.

use std::num::{NonZeroU16, NonZeroU32};

use whimbrel_session::codec::topic::TopicName;
use whimbrel_session::codec::{
    FanOut, FanOutBuffer, Packet, Payload, ProtocolVersion, PublishProperties, PublishSource, QoS,
};
use whimbrel_session::{Deliver, PublishOptions, Redeliver, Refused};

use crate::support::{Driven, Role, Setup, Side, pub_ack};

const V5: ProtocolVersion = ProtocolVersion::V5;
const BOTH: [Role; 2] = [Role::Client, Role::Server];

/// The peer announces `announced`, this side uses no more than `own`.
fn with_aliases(version: ProtocolVersion, announced: u16, own: u16) -> Setup {
    let mut setup = Setup::new(version);
    setup.connect.properties.topic_alias_max = announced;
    setup.connack.properties.topic_alias_max = announced;
    setup.server.sent_topic_alias_max = own;
    setup.client.sent_topic_alias_max = own;
    setup
}

fn source(topic: &str) -> PublishSource<'_> {
    PublishSource {
        topic: TopicName::new(topic).expect("a valid name"),
        properties: PublishProperties::EMPTY,
        payload: Payload::Borrowed(b"payload"),
        message_expiry_secs: None,
    }
}

fn try_send(side: &mut Driven, qos: QoS, topic: &str) -> Result<(), Refused<u32>> {
    try_send_source(side, qos, source(topic))
}

fn try_send_source(
    side: &mut Driven,
    qos: QoS,
    source: PublishSource<'_>,
) -> Result<(), Refused<u32>> {
    let mut buffer = FanOutBuffer::new();
    let mut message = FanOut::new(source, &mut buffer);
    let now = side.now;
    match &mut side.side {
        Side::Client(client) => {
            let options = PublishOptions { qos, retain: false };
            client.publish(now, &mut message, options, 1).map(|_| ())
        }
        Side::Server(server) => {
            let deliver = Deliver {
                qos,
                ..Deliver::default()
            };
            server.deliver(&mut message, deliver, 1)
        }
    }
}

/// Topic and alias of the one PUBLISH in the output.
fn named(side: &mut Driven) -> (String, Option<u16>) {
    match side.sent_one() {
        Packet::Publish(publish) => (
            publish
                .topic()
                .map_or(String::new(), |topic| topic.as_str().to_owned()),
            publish.properties().topic_alias().map(NonZeroU16::get),
        ),
        other => panic!("{other:?}"),
    }
}

/// Sends a message and says how its topic was named.
fn send(side: &mut Driven, topic: &str) -> (String, Option<u16>) {
    try_send(side, QoS::AtMostOnce, topic).expect("room");
    named(side)
}

fn by_name(topic: &str, alias: Option<u16>) -> (String, Option<u16>) {
    (topic.to_owned(), alias)
}

#[test]
fn a_topic_is_named_once_and_then_by_its_alias() {
    for role in BOTH {
        let mut side = with_aliases(V5, 2, 16).connect(role);
        assert_eq!(send(&mut side, "a"), by_name("a", Some(1)));
        assert_eq!(send(&mut side, "a"), by_name("", Some(1)));
        assert_eq!(send(&mut side, "b"), by_name("b", Some(2)));
        assert_eq!(send(&mut side, "b"), by_name("", Some(2)));
    }
}

#[test]
fn no_alias_is_above_what_the_peer_announced() {
    // [5:MQTT-3.1.2-26] [5:MQTT-3.2.2-17] [5:MQTT-3.3.2-9] [5:MQTT-3.3.2-11]
    for role in BOTH {
        let mut side = with_aliases(V5, 3, u16::MAX).connect(role);
        for round in 0..50 {
            let (_, alias) = send(&mut side, &format!("t/{}", round % 7));
            assert!(
                alias.is_none_or(|alias| (1..=3).contains(&alias)),
                "{alias:?}"
            );
        }
    }
}

#[test]
fn no_alias_is_used_where_the_peer_takes_none() {
    // [5:MQTT-3.1.2-27] [5:MQTT-3.2.2-18]
    for role in BOTH {
        let mut side = with_aliases(V5, 0, 16).connect(role);
        for _ in 0..3 {
            assert_eq!(send(&mut side, "a"), by_name("a", None));
        }
    }
}

#[test]
fn no_alias_is_used_before_mqtt_5() {
    for version in [ProtocolVersion::V31, ProtocolVersion::V311] {
        for role in BOTH {
            let mut side = with_aliases(version, 16, 16).connect(role);
            for _ in 0..3 {
                assert_eq!(send(&mut side, "a"), by_name("a", None));
            }
        }
    }
}

#[test]
fn this_side_may_use_fewer_aliases_than_it_could() {
    for role in BOTH {
        let mut side = with_aliases(V5, 16, 1).connect(role);
        assert_eq!(send(&mut side, "a"), by_name("a", Some(1)));
        assert_eq!(send(&mut side, "b"), by_name("b", None));
    }
}

#[test]
fn a_message_that_only_a_new_alias_makes_too_large_goes_without_it() {
    // "t" and "payload" in a PUBLISH of QoS 0 take 13 bytes, a topic alias 3 more.
    for role in BOTH {
        let mut setup = with_aliases(V5, 16, 16);
        let size_max = NonZeroU32::new(13);
        setup.connect.properties.packet_size_max = size_max;
        setup.connack.properties.packet_size_max = size_max;
        if role == Role::Server {
            // CONNACK itself is larger.
            setup.connect.properties.packet_size_max = NonZeroU32::new(40);
        }
        let mut side = setup.connect(role);
        if role == Role::Client {
            assert_eq!(send(&mut side, "t"), by_name("t", None));
            assert_eq!(send(&mut side, "t"), by_name("t", None));
        } else {
            // 40 - 12 bytes around the topic leave room for 28 bytes of it.
            let longest = "t".repeat(28);
            assert_eq!(send(&mut side, &longest), by_name(&longest, None));
            let shorter = "t".repeat(25);
            assert_eq!(send(&mut side, &shorter), by_name(&shorter, Some(1)));
        }
    }
}

#[test]
fn a_message_that_only_its_alias_makes_too_large_goes_by_its_name() {
    // An alias takes 3 bytes, which is more than the name of a short topic.
    const SIZE_MAX: usize = 40;
    for role in BOTH {
        let mut setup = with_aliases(V5, 16, 16);
        let size_max = NonZeroU32::new(40);
        setup.connect.properties.packet_size_max = size_max;
        setup.connack.properties.packet_size_max = size_max;
        let mut side = setup.connect(role);
        assert_eq!(send(&mut side, "t"), by_name("t", Some(1)));
        // Fixed header, topic and the length of no properties take 6 bytes.
        let payload = [b'x'; SIZE_MAX - 6];
        let longest = PublishSource {
            payload: Payload::Borrowed(&payload),
            ..source("t")
        };
        let sent = try_send_source(&mut side, QoS::AtMostOnce, longest);
        assert_eq!(sent, Ok(()));
        assert_eq!(named(&mut side), by_name("t", None));
        assert_eq!(send(&mut side, "t"), by_name("", Some(1)));
    }
}

#[test]
fn a_message_that_was_refused_sets_no_alias() {
    for role in BOTH {
        let mut setup = with_aliases(V5, 16, 16).peer_receive_maximum(1);
        setup.server.output_bytes_max = 20;
        setup.client.output_bytes_max = 20;
        let mut side = setup.connect(role);
        try_send(&mut side, QoS::AtMostOnce, "a").expect("an empty output");
        let refused = try_send(&mut side, QoS::AtMostOnce, "b");
        assert_eq!(refused, Err(Refused::OutputFull(1)));
        assert_eq!(named(&mut side), by_name("a", Some(1)));
        assert_eq!(send(&mut side, "b"), by_name("b", Some(2)));
    }
}

#[test]
fn a_resend_names_its_topic_again() {
    // [5:MQTT-3.3.2-7]
    for role in BOTH {
        let mut side = with_aliases(V5, 16, 16).connect(role);
        assert_eq!(send(&mut side, "a"), by_name("a", Some(1)));
        try_send(&mut side, QoS::AtLeastOnce, "a").expect("room");
        assert_eq!(named(&mut side), by_name("", Some(1)));

        let resumed = with_aliases(V5, 16, 16).resuming(side.lose());
        let mut side = resumed.connect(role);
        assert_eq!(side.next_resend(), Some(1));
        let mut buffer = FanOutBuffer::new();
        let mut message = FanOut::new(source("a"), &mut buffer);
        let now = side.now;
        match &mut side.side {
            Side::Client(client) => client.resend(now, &mut message, Redeliver::default()),
            Side::Server(server) => server.resend(&mut message, Redeliver::default()),
        }
        .expect("room");
        assert_eq!(named(&mut side), by_name("a", Some(1)));
        side.feed_one(&pub_ack(1));
        assert_eq!(send(&mut side, "a"), by_name("", Some(1)));
    }
}
