//! What binds a client from CONNECT to its last byte, against a scripted server.

use std::num::NonZeroU32;

use whimbrel_session::codec::{Authentication, Disconnect, QoS, ReasonCode};
use whimbrel_session::{
    ProtocolError, PublishOptions, Refused, RequestRefused, SessionExpiry, TimeoutKind,
};

use crate::scripted_server::{
    NUMBERED, PUBACK, PUBCOMP, PUBREC, PUBREL, Scripted, Told, V5, V311, accepted, packet,
    persistent, publish, resumed,
};

#[test]
fn nothing_but_connect_is_sent_before_connack() {
    // [3:MQTT-3.1.0-1] [5:MQTT-3.1.0-1]
    for version in NUMBERED {
        let mut side = Scripted::ready();
        let early = side.publish(QoS::AtMostOnce, 1);
        assert_eq!(early, Err(Refused::NotConnected(1)));
        let early = side.subscribe("a", None);
        assert_eq!(early, Err(RequestRefused::NotConnected));
        assert!(side.hears().is_empty());
        let mut side = Scripted::asking(persistent(version), None);
        let early = side.publish(QoS::AtLeastOnce, 1);
        assert_eq!(early, Err(Refused::NotConnected(1)));
        assert!(side.hears().is_empty());
    }
}

#[test]
fn a_client_with_nothing_to_say_sends_pingreq_within_its_keep_alive() {
    // [3:MQTT-3.1.2-23] [5:MQTT-3.1.2-20]
    for version in NUMBERED {
        let mut connect = persistent(version);
        connect.keep_alive_secs = 10;
        let mut side = Scripted::asking(connect, None);
        side.says_one(accepted(version));
        assert_eq!(side.passes(9_999), None);
        assert!(side.hears().is_empty());
        assert_eq!(side.passes(1), None);
        assert_eq!(side.hears(), b"\xc0\0");
        side.says(b"\xd0\0").expect("PINGRESP");
        // A packet of another kind counts as well.
        assert_eq!(side.passes(5_000), None);
        side.publish(QoS::AtMostOnce, 1).expect("connected");
        side.hears();
        assert_eq!(side.passes(9_999), None);
        assert!(side.hears().is_empty());
        assert_eq!(side.passes(1), None);
        assert_eq!(side.hears(), b"\xc0\0");
    }
}

#[test]
fn a_client_runs_on_the_keep_alive_of_connack() {
    // [5:MQTT-3.1.2-21] [5:MQTT-3.2.2-21]
    for (asked, told) in [(100, 5), (0, 5), (5, 0)] {
        let mut connect = persistent(V5);
        connect.keep_alive_secs = asked;
        let mut side = Scripted::asking(connect, None);
        side.says_one(&[0x20, 0x06, 0, 0, 3, 0x13, 0, told]);
        assert_eq!(side.client.keep_alive_secs(), u16::from(told));
        let _ = side.passes(5_000);
        let pinged = side.hears() == b"\xc0\0";
        assert_eq!(pinged, told != 0);
    }
}

#[test]
fn a_client_without_a_session_closes_when_told_of_one() {
    // [5:MQTT-3.2.2-4] [U311-008]
    for version in NUMBERED {
        let mut side = Scripted::asking(persistent(version), None);
        let error = side.says(resumed(version)).expect_err("no session here");
        assert_eq!(error, ProtocolError::SessionPresent);
        assert!(side.client.is_closing());
        let goodbye: &[u8] = if version.is_v5() {
            b"\xe0\x01\x82"
        } else {
            b""
        };
        assert_eq!(side.hears(), goodbye);
    }
}

#[test]
fn a_client_discards_the_session_that_the_server_has_not() {
    // [3:MQTT-3.1.2-6] [5:MQTT-3.1.2-4] [5:MQTT-3.2.2-5] [U5-100] [U311-008]
    for version in NUMBERED {
        for clean_start in [true, false] {
            let mut side = Scripted::connected(version);
            side.publish(QoS::AtLeastOnce, 7).expect("room");
            let session = side.client.into_state();
            let mut connect = persistent(version);
            connect.clean_start = clean_start;
            let mut side = Scripted::asking(connect, session);
            let told = side.says_one(accepted(version));
            assert!(matches!(told, Told::Connected { discarded, .. } if discarded == [7]));
            assert_eq!(side.resend(), [0; 0]);
            assert!(side.hears().is_empty());
            // It goes on, with all ids free.
            side.publish(QoS::AtLeastOnce, 8).expect("connected");
            assert_eq!(side.hears(), publish(version, 0x32, Some(1), "8"));
        }
    }
}

#[test]
fn session_expiry_of_connack_replaces_what_was_asked_for() {
    // [U5-037]
    let mut side = Scripted::asking(persistent(V5), None);
    side.says_one(b"\x20\x08\0\0\x05\x11\0\0\0\x1e");
    assert_eq!(side.client.session_expiry(), SessionExpiry::from_secs(30));
    let side = Scripted::connected(V5);
    assert_eq!(
        side.client.session_expiry(),
        SessionExpiry::from_secs(3_600)
    );
}

#[test]
fn a_client_keeps_to_what_connack_says_the_server_takes() {
    // [5:MQTT-3.2.2-11] [5:MQTT-3.2.2-14] [5:MQTT-3.2.2-15]
    let mut side = Scripted::asking(persistent(V5), None);
    // Maximum QoS 1, Retain Available 0, Maximum Packet Size 20.
    side.says_one(b"\x20\x0c\0\0\x09\x24\x01\x25\0\x27\0\0\0\x14");
    let options = |qos, retain| PublishOptions { qos, retain };
    let refused = side.publish_with(options(QoS::ExactlyOnce, false), 1, "m");
    assert_eq!(refused, Err(Refused::QosNotSupported(1)));
    let refused = side.publish_with(options(QoS::AtMostOnce, true), 2, "m");
    assert_eq!(refused, Err(Refused::RetainNotSupported(2)));
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let refused = side.publish_with(options(qos, false), 3, "more than twenty bytes");
        assert_eq!(refused, Err(Refused::TooLarge(3)));
    }
    let refused = side.subscribe("more/than/twenty/bytes", None);
    assert_eq!(refused, Err(RequestRefused::TooLarge));
    assert!(side.hears().is_empty());
    // 20 bytes are taken, and no id was used up.
    let sent = side.publish_with(options(QoS::AtLeastOnce, false), 4, "twelve bytes");
    assert_eq!(sent, Ok(()));
    let bytes = side.hears();
    assert_eq!(bytes, publish(V5, 0x32, Some(1), "twelve bytes"));
    assert_eq!(bytes.len(), 20);
}

#[test]
fn a_client_disconnects_from_a_server_that_exceeds_its_packet_size() {
    // [U5-022]
    let mut connect = persistent(V5);
    connect.properties.packet_size_max = NonZeroU32::new(100);
    let mut side = Scripted::asking(connect, None);
    side.says_one(accepted(V5));
    let largest = publish(V5, 0x30, None, &"x".repeat(94));
    assert_eq!(largest.len(), 100);
    side.says_one(&largest);
    let larger = publish(V5, 0x30, None, &"x".repeat(95));
    let error = side.says(&larger).expect_err("101 bytes");
    assert_eq!(error.reason_code(), ReasonCode::PacketTooLarge);
    assert_eq!(side.hears(), b"\xe0\x01\x95");
    assert!(side.client.is_closing());
}

#[test]
fn a_client_tells_a_server_of_version_5_what_it_broke_and_closes() {
    // [3:MQTT-4.8.0-1] [5:MQTT-3.2.0-1] [5:MQTT-4.13.2-1] [U5-110]
    let broken: [(&[u8], ReasonCode); 7] = [
        // Packet type 0; reserved flags of PUBACK; QoS 3.
        (b"\0\0", ReasonCode::MalformedPacket),
        (b"\x41\x02\0\x01", ReasonCode::MalformedPacket),
        (b"\x36\x07\0\x01t\0\x01\0m", ReasonCode::MalformedPacket),
        // A wildcard in a topic name.
        (b"\x30\x04\0\x01#\0", ReasonCode::TopicNameInvalid),
        // Packets of a client; a second CONNACK.
        (b"\xc0\0", ReasonCode::ProtocolError),
        (b"\x82\x07\0\x01\0\0\x01a\0", ReasonCode::ProtocolError),
        (b"\x20\x03\0\0\0", ReasonCode::ProtocolError),
    ];
    for (bytes, reason) in broken {
        let mut side = Scripted::connected(V5);
        let error = side.says(bytes).expect_err("broken");
        assert_eq!(error.reason_code(), reason, "{bytes:02x?}");
        assert_eq!(side.hears(), [0xe0, 1, reason.as_u8()], "{bytes:02x?}");
        assert!(side.client.is_closing());
    }
    for bytes in [&b"\0\0"[..], b"\x41\x02\0\x01", b"\x36\x06\0\x01t\0\x01m"] {
        let mut side = Scripted::connected(V311);
        side.says(bytes).expect_err("broken");
        assert!(side.hears().is_empty(), "{bytes:02x?}");
        assert!(side.client.is_closing());
    }
    let mut side = Scripted::asking(persistent(V5), None);
    side.says(b"\xd0\0").expect_err("no CONNACK");
    assert_eq!(side.hears(), b"\xe0\x01\x82");
}

#[test]
fn one_of_several_errors_in_a_packet_is_told() {
    // [U5-113]
    let mut side = Scripted::connected(V5);
    // QoS 3, a wildcard in the topic name, and a payload format of 2.
    let error = side.says(b"\x36\x08\0\x01#\0\x01\x02\x01\x02");
    let reason = error.expect_err("three errors").reason_code();
    assert!(
        [
            ReasonCode::MalformedPacket,
            ReasonCode::TopicNameInvalid,
            ReasonCode::ProtocolError
        ]
        .contains(&reason),
        "{reason}"
    );
    assert_eq!(side.hears(), [0xe0, 1, reason.as_u8()]);
}

#[test]
fn a_client_is_told_where_else_to_go() {
    // [U5-109]
    for (code, reason) in [
        (0x9c, ReasonCode::UseAnotherServer),
        (0x9d, ReasonCode::ServerMoved),
    ] {
        for reference in [None, Some("one:1883 two")] {
            let properties = reference.map_or_else(Vec::new, |text: &str| {
                let length = u8::try_from(text.len()).expect("short");
                [&[0x1c, 0, length], text.as_bytes()].concat()
            });
            let section = packet(0, &properties);
            let connack = packet(0x20, &[&[0, code], &section[1..]].concat());
            let mut side = Scripted::asking(persistent(V5), None);
            let told = side.says_one(&connack);
            let Told::Connected {
                reason: told_reason,
                server_reference,
                ..
            } = told
            else {
                panic!("{told:?}");
            };
            assert_eq!(told_reason, reason);
            assert_eq!(server_reference.as_deref(), reference);
            assert!(side.client.is_closing());

            let disconnect = packet(0xe0, &[&[code], &section[1..]].concat());
            let mut side = Scripted::connected(V5);
            let told = side.says_one(&disconnect);
            let Told::Disconnected {
                reason: told_reason,
                server_reference,
            } = told
            else {
                panic!("{told:?}");
            };
            assert_eq!(told_reason, reason);
            assert_eq!(server_reference.as_deref(), reference);
            assert!(side.client.is_closing());
        }
    }
}

#[test]
fn disconnect_is_the_last_that_a_client_sends() {
    // [3:MQTT-3.14.4-1] [3:MQTT-3.14.4-2] [5:MQTT-3.14.4-1] [5:MQTT-3.14.4-2]
    for version in NUMBERED {
        let mut connect = persistent(version);
        connect.keep_alive_secs = 10;
        let mut side = Scripted::asking(connect, None);
        side.says_one(accepted(version));
        let token = side.says_one(&publish(version, 0x32, Some(1), "m")).token();
        let goodbye = side.client.disconnect(Disconnect::default());
        goodbye.expect("connected");
        assert_eq!(side.hears(), b"\xe0\0");
        assert!(side.client.is_closing());
        side.ack(token);
        let late = side.publish(QoS::AtMostOnce, 1);
        assert_eq!(late, Err(Refused::NotConnected(1)));
        assert_eq!(side.subscribe("a", None), Err(RequestRefused::NotConnected));
        let answered = side.says(&publish(version, 0x34, Some(2), "m"));
        assert!(answered.expect("ignored").is_empty());
        assert_eq!(side.passes(60_000), None);
        assert!(side.hears().is_empty());
    }
}

#[test]
fn a_client_that_wants_no_problem_information_disconnects_where_it_comes_unasked() {
    // [U5-026]
    let reason_string: &[u8] = b"\x1f\0\x03why";
    let user_property: &[u8] = b"\x26\0\x01k\0\x01v";
    let asking = || {
        let mut connect = persistent(V5);
        connect.properties.request_problem_information = false;
        Scripted::asking(connect, None)
    };
    for properties in [reason_string, user_property] {
        let section = &packet(0, properties)[1..];
        let unasked = [
            packet(PUBACK, &[&[0, 1, 0], section].concat()),
            packet(PUBREC, &[&[0, 1, 0], section].concat()),
            packet(PUBREL, &[&[0, 1, 0], section].concat()),
            packet(PUBCOMP, &[&[0, 1, 0], section].concat()),
            packet(0x90, &[&[0, 1], section, &[0]].concat()),
            packet(0xb0, &[&[0, 1], section, &[0]].concat()),
        ];
        for bytes in unasked {
            let mut side = asking();
            side.says_one(accepted(V5));
            let error = side.says(&bytes).expect_err("unasked");
            assert!(
                matches!(error, ProtocolError::ProblemInformation { .. }),
                "{bytes:02x?}: {error:?}"
            );
            assert_eq!(side.hears(), b"\xe0\x01\x82", "{bytes:02x?}");
        }
        let mut side = asking();
        side.says_one(&packet(0x20, &[&[0, 0], section].concat()));
        side.says_one(&packet(0xe0, &[&[0x8b], section].concat()));
    }
    let mut side = asking();
    side.says_one(accepted(V5));
    let section = &packet(0, user_property)[1..];
    side.says_one(&packet(0x30, &[b"\0\x01t", section].concat()));
}

#[test]
fn a_client_that_wants_no_problem_information_takes_none_before_connack() {
    // [U5-026]
    for words in [b"\x1f\0\x03why".as_slice(), b"\x26\0\x01k\0\x01v"] {
        let mut connect = persistent(V5);
        connect.properties.request_problem_information = false;
        connect.properties.authentication = Some(Authentication {
            method: "m".into(),
            data: None,
        });
        let mut side = Scripted::asking(connect, None);
        let properties = &packet(0, &[b"\x15\0\x01m", words].concat())[1..];
        let challenge = packet(0xf0, &[&[0x18], properties].concat());
        let error = side.says(&challenge).expect_err("unasked");
        assert!(
            matches!(error, ProtocolError::ProblemInformation { .. }),
            "{error:?}"
        );
        assert!(side.client.is_closing());
    }
}

#[test]
fn a_client_does_not_wait_for_ever() {
    // [U5-017] [U5-035] [U311-004]
    for version in NUMBERED {
        let mut side = Scripted::asking(persistent(version), None);
        assert_eq!(side.passes(10_000), Some(TimeoutKind::Connect));
        assert!(side.client.is_closing());
        let mut connect = persistent(version);
        connect.keep_alive_secs = 60;
        let mut side = Scripted::asking(connect, None);
        side.says_one(accepted(version));
        assert_eq!(side.passes(60_000), None);
        assert_eq!(side.hears(), b"\xc0\0");
        assert_eq!(side.passes(10_000), Some(TimeoutKind::Ping));
        assert!(side.client.is_closing());
    }
}

#[test]
fn a_server_whose_answer_waits_unread_is_not_taken_for_dead() {
    // [U5-017]
    for version in NUMBERED {
        let mut connect = persistent(version);
        connect.keep_alive_secs = 60;
        let mut side = Scripted::asking(connect, None);
        side.says_one(accepted(version));
        side.client.pause_input();
        assert_eq!(side.passes(60_000), None);
        assert_eq!(side.hears(), [0xc0, 0]);
        assert_eq!(side.passes(59_999), None);
        side.client.resume_input(side.now);
        assert_eq!(side.passes(9_999), None);
        assert_eq!(side.passes(1), Some(TimeoutKind::Ping));
    }
}
