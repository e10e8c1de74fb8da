//! What binds a client that publishes and subscribes, against a scripted server.

use whimbrel_session::codec::{ProtocolVersion, QoS};
use whimbrel_session::{ProtocolError, Refused, RequestRefused};

use crate::scripted_server::{
    NUMBERED, PUBACK, PUBCOMP, PUBREC, PUBREL, Scripted, Told, V5, accepted, ack, packet,
    persistent, publish, publish_with, resumed,
};

#[test]
fn a_message_that_nobody_wants_is_acknowledged_like_any_other() {
    // [3:MQTT-4.5.0-2] [5:MQTT-4.5.0-2]
    for version in NUMBERED {
        // There is no subscription that it could be for.
        let mut side = Scripted::connected(version);
        let told = side.says_one(&publish(version, 0x30, None, "m"));
        assert!(matches!(told, Told::Message { token: None, .. }));
        let token = side.says_one(&publish(version, 0x32, Some(1), "m")).token();
        side.ack(token);
        assert_eq!(side.hears(), ack(PUBACK, 1));
        let token = side.says_one(&publish(version, 0x34, Some(2), "m")).token();
        side.ack(token);
        assert_eq!(side.hears(), ack(PUBREC, 2));
        let token = side.says_one(&ack(PUBREL, 2)).token();
        side.ack(token);
        assert_eq!(side.hears(), ack(PUBCOMP, 2));
    }
}

#[test]
fn acknowledgements_leave_in_the_order_of_what_they_answer() {
    // [3:MQTT-4.6.0-2] [3:MQTT-4.6.0-3] [3:MQTT-4.6.0-4]
    // [5:MQTT-4.6.0-2] [5:MQTT-4.6.0-3] [5:MQTT-4.6.0-4]
    for version in NUMBERED {
        for (first, answer) in [(0x32, PUBACK), (0x34, PUBREC)] {
            let mut side = Scripted::connected(version);
            let tokens = [5, 3, 4].map(|id| {
                side.says_one(&publish(version, first, Some(id), "m"))
                    .token()
            });
            // The application is done with them the other way round.
            for token in tokens.into_iter().rev() {
                side.ack(token);
            }
            let expected = [ack(answer, 5), ack(answer, 3), ack(answer, 4)].concat();
            assert_eq!(side.hears(), expected);
        }
        let mut side = Scripted::connected(version);
        for item in 1..=3 {
            side.publish(QoS::ExactlyOnce, item).expect("room");
        }
        side.hears();
        let tokens = [3, 1, 2].map(|id| side.says_one(&ack(PUBREC, id)).token());
        for token in tokens.into_iter().rev() {
            side.ack(token);
        }
        let expected = [ack(PUBREL, 3), ack(PUBREL, 1), ack(PUBREL, 2)].concat();
        assert_eq!(side.hears(), expected);
    }
}

#[test]
fn an_application_that_acknowledges_late_does_not_hold_back_its_own_publications() {
    // [3:MQTT-4.6.0-4] [5:MQTT-4.6.0-4]
    for version in NUMBERED {
        let mut side = Scripted::connected(version);
        let late = side.says_one(&publish(version, 0x32, Some(7), "m")).token();
        side.publish(QoS::ExactlyOnce, 1).expect("room");
        side.hears();
        let token = side.says_one(&ack(PUBREC, 1)).token();
        side.ack(token);
        assert_eq!(side.hears(), ack(PUBREL, 1));
        assert!(matches!(
            side.says_one(&ack(PUBCOMP, 1)),
            Told::Delivered(1)
        ));
        side.ack(late);
        assert_eq!(side.hears(), ack(PUBACK, 7));
    }
}

#[test]
fn what_was_open_is_sent_again_on_the_next_connection_and_at_no_other_time() {
    // [3:MQTT-2.3.1-3] [3:MQTT-3.3.1-1] [3:MQTT-4.4.0-1] [3:MQTT-4.6.0-1]
    // [5:MQTT-3.3.1-1] [5:MQTT-4.4.0-1] [5:MQTT-4.6.0-1]
    for version in NUMBERED {
        let mut side = Scripted::connected(version);
        for (qos, item) in [
            (QoS::AtLeastOnce, 1),
            (QoS::ExactlyOnce, 2),
            (QoS::AtLeastOnce, 3),
            (QoS::ExactlyOnce, 4),
        ] {
            side.publish(qos, item).expect("room");
        }
        let token = side.says_one(&ack(PUBREC, 4)).token();
        side.ack(token);
        side.hears();
        assert_eq!(side.passes(3_600_000), None);
        assert_eq!(side.resend(), [0; 0]);
        assert!(side.hears().is_empty(), "the connection is alive");

        let mut side = side.reconnected(version);
        assert_eq!(side.resend(), [1, 2, 3]);
        let expected = [
            ack(PUBREL, 4),
            publish(version, 0x3a, Some(1), "1"),
            publish(version, 0x3c, Some(2), "2"),
            publish(version, 0x3a, Some(3), "3"),
        ];
        assert_eq!(side.hears(), expected.concat());
    }
}

#[test]
fn a_used_up_receive_maximum_holds_back_publications_and_nothing_else() {
    // [5:MQTT-3.3.4-7] [5:MQTT-3.3.4-8] [5:MQTT-4.9.0-2] [5:MQTT-4.9.0-3] [U5-107]
    let mut connect = persistent(V5);
    connect.keep_alive_secs = 10;
    let mut side = Scripted::asking(connect, None);
    // Receive Maximum 2.
    side.says_one(b"\x20\x06\0\0\x03\x21\0\x02");
    side.publish(QoS::AtLeastOnce, 1).expect("room");
    side.publish(QoS::ExactlyOnce, 2).expect("room");
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        assert_eq!(side.publish(qos, 3), Err(Refused::WindowFull(3)));
    }
    side.hears();

    side.publish(QoS::AtMostOnce, 4)
        .expect("QoS 0 is not counted");
    assert_eq!(side.hears(), publish(V5, 0x30, None, "4"));
    side.subscribe("a", None).expect("SUBSCRIBE is not counted");
    assert_eq!(side.hears()[0], 0x82);
    let token = side.says_one(&publish(V5, 0x32, Some(1), "m")).token();
    side.ack(token);
    assert_eq!(side.hears(), ack(PUBACK, 1));
    assert_eq!(side.passes(10_000), None);
    assert_eq!(side.hears(), b"\xc0\0");
    let token = side.says_one(&ack(PUBREC, 2)).token();
    side.ack(token);
    assert_eq!(side.hears(), ack(PUBREL, 2));

    // PUBREC has given nothing back; PUBCOMP does, PUBACK does, and so does a PUBREC of 0x80 or above.
    assert_eq!(
        side.publish(QoS::AtLeastOnce, 3),
        Err(Refused::WindowFull(3))
    );
    side.says_one(&ack(PUBCOMP, 2));
    side.publish(QoS::ExactlyOnce, 3).expect("room again");
    side.says_one(&ack(PUBACK, 1));
    side.publish(QoS::ExactlyOnce, 5).expect("room again");
    assert_eq!(
        side.publish(QoS::AtLeastOnce, 6),
        Err(Refused::WindowFull(6))
    );
    let refused = side.says_one(b"\x50\x03\0\x04\x97");
    assert!(matches!(refused, Told::Delivered(3)));
    side.publish(QoS::AtLeastOnce, 6).expect("room again");
}

#[test]
fn a_client_takes_every_topic_alias_that_it_allowed_and_forgets_them_at_the_end() {
    // [5:MQTT-3.3.2-7] [5:MQTT-3.3.2-10] [U5-050] [U5-051]
    let asking = |session| {
        let mut connect = persistent(V5);
        connect.properties.topic_alias_max = 3;
        Scripted::asking(connect, session)
    };
    let by_alias = |alias| packet(0x30, &[0, 0, 3, 0x23, 0, alias]);
    let mut side = asking(None);
    side.says_one(accepted(V5));
    for alias in 1..=3 {
        let topic = [b'a' + alias];
        let set = packet(0x30, &[&[0, 1], &topic[..], &[3, 0x23, 0, alias]].concat());
        side.says_one(&set);
    }
    for (alias, expected) in [(1, "b"), (2, "c"), (3, "d")] {
        let told = side.says_one(&by_alias(alias));
        assert!(matches!(told, Told::Message { topic, .. } if topic == expected));
    }
    let mut side = asking(side.client.into_state());
    side.says_one(resumed(V5));
    let error = side
        .says(&by_alias(1))
        .expect_err("of an earlier connection");
    assert_eq!(error, ProtocolError::TopicAliasUnknown);
    assert_eq!(side.hears(), b"\xe0\x01\x82");

    let mut side = asking(None);
    side.says_one(accepted(V5));
    let error = side.says(&packet(0x30, b"\0\x01a\x03\x23\0\x04"));
    assert_eq!(error.err(), Some(ProtocolError::TopicAliasInvalid));
    assert_eq!(side.hears(), b"\xe0\x01\x94");
}

#[test]
fn a_subscription_identifier_that_was_not_given_ends_the_connection() {
    // [U5-048]
    let mut side = Scripted::connected(V5);
    side.subscribe("t", Some(5)).expect("connected");
    side.hears();
    side.says_one(&publish_with(V5, 0x30, None, b"\x0b\x05", "m"));
    let error = side.says(&publish_with(V5, 0x30, None, b"\x0b\x05\x0b\x06", "m"));
    assert_eq!(error.err(), Some(ProtocolError::SubscriptionIdUnknown));
    assert_eq!(side.hears(), b"\xe0\x01\x82");
    assert!(side.client.is_closing());
}

#[test]
fn a_message_of_a_new_subscription_may_come_before_its_suback() {
    // [U5-061] [U311-010]
    for version in NUMBERED {
        let mut side = Scripted::connected(version);
        side.subscribe("t", None).expect("connected");
        let told = side.says_one(&publish(version, 0x31, None, "retained"));
        assert_eq!(told.payload(), "retained");
        let suback: &[u8] = if version.is_v5() {
            b"\x90\x04\0\x01\0\x01"
        } else {
            b"\x90\x03\0\x01\x01"
        };
        assert!(matches!(side.says_one(suback), Told::Answered));
    }
}

#[test]
fn every_copy_for_overlapping_subscriptions_is_a_message() {
    // [U311-014] (E1)
    for version in NUMBERED {
        let mut side = Scripted::connected(version);
        side.subscribe("t", Some(1)).expect("connected");
        side.subscribe("#", Some(2)).expect("connected");
        let copies = [
            publish_with(version, 0x32, Some(1), b"\x0b\x01", "m"),
            publish_with(version, 0x32, Some(2), b"\x0b\x02", "m"),
        ];
        for copy in copies {
            assert_eq!(side.says_one(&copy).payload(), "m");
        }
    }
}

#[test]
fn a_repeat_of_a_qos_2_message_is_taken_once_over_two_connections() {
    // [3:MQTT-3.1.2-4] [3:MQTT-4.1.0-1] [3:MQTT-4.3.3-2] [5:MQTT-3.1.2-23] [5:MQTT-4.3.3-10]
    for version in NUMBERED {
        let mut side = Scripted::connected(version);
        let token = side.says_one(&publish(version, 0x34, Some(9), "m")).token();
        side.ack(token);
        assert_eq!(side.hears(), ack(PUBREC, 9));
        let mut side = side.reconnected(version);
        let told = side.says(&publish(version, 0x3c, Some(9), "m"));
        assert!(told.expect("a repeat").is_empty());
        assert_eq!(side.hears(), ack(PUBREC, 9));
        let token = side.says_one(&ack(PUBREL, 9)).token();
        side.ack(token);
        assert_eq!(side.hears(), ack(PUBCOMP, 9));
        // From now on the identifier is that of a new message.
        let told = side.says_one(&publish(version, 0x34, Some(9), "new"));
        assert_eq!(told.payload(), "new");
    }
}

#[test]
fn ids_of_a_client_are_not_0_and_not_in_use() {
    // [3:MQTT-2.3.1-1] [3:MQTT-2.3.1-2] [5:MQTT-2.2.1-3] [U5-008]
    for version in NUMBERED {
        let mut side = Scripted::connected(version);
        side.publish(QoS::AtLeastOnce, 1).expect("room");
        assert_eq!(side.hears(), publish(version, 0x32, Some(1), "1"));
        // 1 stays in use until there is no room for ids behind it.
        let mut last = 1;
        while let Some(id) = asked(&mut side, version) {
            assert_eq!(id, last + 1);
            last = id;
        }
        side.says_one(&ack(PUBACK, 1));
        for _ in 0..70_000 {
            let id = asked(&mut side, version).expect("room");
            let next = if last == u16::MAX { 1 } else { last + 1 };
            assert_eq!(id, next);
            last = id;
        }
    }
}

/// Subscribes and is answered; gives the id, if there was one.
fn asked(side: &mut Scripted, version: ProtocolVersion) -> Option<u16> {
    if let Err(refused) = side.subscribe("a", None) {
        assert_eq!(refused, RequestRefused::WindowFull);
        return None;
    }
    let [0x82, _, high, low, ..] = side.hears()[..] else {
        panic!("SUBSCRIBE");
    };
    let codes: &[u8] = if version.is_v5() { &[0, 0] } else { &[0] };
    let answer = packet(0x90, &[&[high, low], codes].concat());
    assert!(matches!(side.says_one(&answer), Told::Answered));
    Some(u16::from_be_bytes([high, low]))
}
