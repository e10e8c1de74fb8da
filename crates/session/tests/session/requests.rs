//! SUBSCRIBE and UNSUBSCRIBE, on both sides.

use whimbrel_session::codec::topic::ByteStr;
use whimbrel_session::codec::{
    AckProperties, EncodeError, Packet, PacketType, ProtocolVersion, QoS, ReasonCode, SubAck,
    Subscribe, SubscribeFilter, SubscriptionOptions, UnsubAck, Unsubscribe, UserProperties,
};
use whimbrel_session::{
    ProtocolError, Refused, RequestRefused, SubscribeRequest, UnsubscribeRequest, UsageError,
};

use crate::support::{Driven, Role, Seen, Setup, VERSIONS, id, pub_ack, publish};

fn subscribe(number: u16, filters: &[&str]) -> Packet {
    Packet::Subscribe(Subscribe {
        id: id(number),
        filters: filters.iter().map(|text| filter(text)).collect(),
        subscription_id: None,
        user_properties: UserProperties::new(),
    })
}

fn unsubscribe(number: u16, filters: &[&str]) -> Packet {
    Packet::Unsubscribe(Unsubscribe {
        id: id(number),
        filters: filters.iter().map(|&text| ByteStr::from(text)).collect(),
        user_properties: UserProperties::new(),
    })
}

fn filter(text: &str) -> SubscribeFilter {
    SubscribeFilter {
        filter: ByteStr::from(text),
        options: SubscriptionOptions::new(QoS::AtLeastOnce),
    }
}

fn sub_ack(number: u16, codes: &[ReasonCode]) -> Packet {
    Packet::SubAck(Box::new(SubAck {
        id: id(number),
        codes: codes.to_vec(),
        properties: AckProperties::new(),
    }))
}

fn unsub_ack(number: u16, codes: &[ReasonCode]) -> Packet {
    Packet::UnsubAck(Box::new(UnsubAck {
        id: id(number),
        codes: codes.to_vec(),
        properties: AckProperties::new(),
    }))
}

fn request(filters: &[&str]) -> SubscribeRequest {
    SubscribeRequest {
        filters: filters.iter().map(|text| filter(text)).collect(),
        ..SubscribeRequest::default()
    }
}

#[test]
fn suback_has_the_id_and_a_code_for_each_filter() {
    // [3:MQTT-2.3.1-7] [3:MQTT-3.8.4-1] [3:MQTT-3.8.4-2] [3:MQTT-3.8.4-4] [3:MQTT-3.8.4-5]
    // [3:MQTT-3.9.3-1] [5:MQTT-2.2.1-6] [5:MQTT-3.8.4-1] [5:MQTT-3.8.4-2] [5:MQTT-3.8.4-5]
    // [5:MQTT-3.8.4-6] [5:MQTT-3.8.4-7] [5:MQTT-3.9.3-1]
    for version in VERSIONS {
        let mut side = Driven::connected(Role::Server, version);
        let seen = side.feed_one(&subscribe(5, &["a", "b/#"]));
        assert!(matches!(seen, Seen::Subscribe { filters: 2, .. }));
        let token = seen.token();
        assert_eq!(token.acknowledged_by(), PacketType::SubAck);
        let codes = [ReasonCode::GrantedQos1, ReasonCode::GRANTED_QOS_0];
        side.server()
            .ack_subscribe(token, &codes)
            .expect("two codes");
        assert_eq!(side.sent_one(), sub_ack(5, &codes));
    }
}

#[test]
fn a_failed_filter_is_told_as_the_version_can() {
    // [3:MQTT-3.8.4-5] [3:MQTT-3.9.3-2] [5:MQTT-3.8.4-7] [5:MQTT-3.9.3-2] [U31-004] (E14)
    for version in VERSIONS {
        let mut side = Driven::connected(Role::Server, version);
        let token = side.feed_one(&subscribe(5, &["a"])).token();
        let codes = [ReasonCode::NotAuthorized];
        side.server()
            .ack_subscribe(token, &codes)
            .expect("one code");
        let Packet::SubAck(ack) = side.sent_one() else {
            panic!("SUBACK");
        };
        let expected = match version {
            ProtocolVersion::V5 => ReasonCode::NotAuthorized,
            ProtocolVersion::V311 => ReasonCode::UnspecifiedError,
            // Has no failure.
            ProtocolVersion::V31 => ReasonCode::GRANTED_QOS_0,
        };
        assert_eq!(ack.codes, [expected]);
    }
}

#[test]
fn unsuback_has_codes_in_version_5_only() {
    // [3:MQTT-2.3.1-7] [3:MQTT-3.10.4-4] [3:MQTT-3.10.4-5] [3:MQTT-3.10.4-6] [5:MQTT-2.2.1-6]
    // [5:MQTT-3.10.4-4] [5:MQTT-3.10.4-5] [5:MQTT-3.10.4-6] [5:MQTT-3.11.3-1]
    for version in VERSIONS {
        let mut side = Driven::connected(Role::Server, version);
        let seen = side.feed_one(&unsubscribe(6, &["a", "b"]));
        assert!(matches!(seen, Seen::Unsubscribe { filters: 2, .. }));
        let token = seen.token();
        let codes = [ReasonCode::Success, ReasonCode::NoSubscriptionExisted];
        side.server()
            .ack_unsubscribe(token, &codes)
            .expect("two codes");
        let expected: &[ReasonCode] = if version.is_v5() { &codes } else { &[] };
        assert_eq!(side.sent_one(), unsub_ack(6, expected));
    }
}

#[test]
fn a_suback_waits_for_its_turn() {
    for version in VERSIONS {
        let mut side = Driven::connected(Role::Server, version);
        let first = side.feed_one(&publish(QoS::AtLeastOnce, 1, "m")).token();
        let second = side.feed_one(&subscribe(2, &["a"])).token();
        let codes = [ReasonCode::GrantedQos1];
        side.server()
            .ack_subscribe(second, &codes)
            .expect("one code");
        assert!(side.sent().is_empty());
        side.ack(first);
        assert_eq!(side.sent(), [pub_ack(1), sub_ack(2, &codes)]);
    }
}

#[test]
fn the_wrong_answer_is_a_usage_error_and_sends_nothing() {
    let mut side = Driven::connected(Role::Server, ProtocolVersion::V5);
    let token = side.feed_one(&publish(QoS::AtLeastOnce, 1, "m")).token();
    let packet_type = PacketType::PubAck;
    assert_eq!(
        side.server().ack_subscribe(token, &[]),
        Err(UsageError::WrongToken { packet_type })
    );
    let packet_type = PacketType::SubAck;
    let token = side.feed_one(&subscribe(2, &["a"])).token();
    assert_eq!(
        side.server().ack(token, ReasonCode::Success),
        Err(UsageError::WrongToken { packet_type })
    );
    let token = side.feed_one(&subscribe(3, &["a"])).token();
    assert_eq!(
        side.server().ack_subscribe(token, &[]),
        Err(UsageError::CodeCount { packet_type })
    );
    let token = side.feed_one(&subscribe(4, &["a"])).token();
    let reason = ReasonCode::PacketTooLarge;
    assert_eq!(
        side.server().ack_subscribe(token, &[reason]),
        Err(UsageError::ReasonNotAllowed {
            reason,
            packet_type
        })
    );
    let token = side.feed_one(&publish(QoS::AtLeastOnce, 5, "m")).token();
    let packet_type = PacketType::PubAck;
    assert_eq!(
        side.server().ack(token, reason),
        Err(UsageError::ReasonNotAllowed {
            reason,
            packet_type
        })
    );
    assert!(side.sent().is_empty());
}

#[test]
fn a_code_about_the_whole_request_is_given_for_each_filter() {
    // [U5-064]
    let mut side = Driven::connected(Role::Server, ProtocolVersion::V5);
    let reason = ReasonCode::PacketIdentifierInUse;
    let token = side.feed_one(&subscribe(1, &["a", "b", "c"])).token();
    let packet_type = PacketType::SubAck;
    let once = side.server().ack_subscribe(token, &[reason]);
    assert_eq!(once, Err(UsageError::CodeCount { packet_type }));
    let token = side.feed_one(&unsubscribe(1, &["a", "b"])).token();
    let packet_type = PacketType::UnsubAck;
    let once = side.server().ack_unsubscribe(token, &[reason]);
    assert_eq!(once, Err(UsageError::CodeCount { packet_type }));
    assert!(side.sent().is_empty());

    let mut side = Driven::connected(Role::Server, ProtocolVersion::V5);
    let token = side.feed_one(&subscribe(1, &["a", "b", "c"])).token();
    let each = [reason; 3];
    side.server()
        .ack_subscribe(token, &each)
        .expect("a code each");
    assert_eq!(side.sent_one(), sub_ack(1, &each));
    let token = side.feed_one(&unsubscribe(1, &["a", "b"])).token();
    let each = [reason; 2];
    side.server()
        .ack_unsubscribe(token, &each)
        .expect("a code each");
    assert_eq!(side.sent_one(), unsub_ack(1, &each));
}

#[test]
fn no_local_on_a_shared_subscription_breaks_the_protocol() {
    // [5:MQTT-3.8.3-4] (E4)
    let mut side = Driven::connected(Role::Server, ProtocolVersion::V5);
    let mut shared = filter("$share/g/a");
    shared.options.no_local = true;
    let packet = Packet::Subscribe(Subscribe {
        id: id(1),
        filters: vec![filter("a"), shared],
        subscription_id: None,
        user_properties: UserProperties::new(),
    });
    let error = side.feed(&packet).expect_err("no local on shared");
    assert_eq!(error, ProtocolError::NoLocalOnShared);
    assert_eq!(error.reason_code(), ReasonCode::ProtocolError);
}

#[test]
fn an_invalid_filter_closes_in_3_x_and_is_the_callers_in_version_5() {
    // [3:MQTT-4.7.1-2] [3:MQTT-4.8.0-1] (E2)
    for version in VERSIONS {
        let mut side = Driven::connected(Role::Server, version);
        let seen = side.feed(&subscribe(1, &["a/#/b"]));
        if version.is_v5() {
            assert_eq!(seen.expect("for SUBACK to say").len(), 1);
        } else {
            assert_eq!(seen.err(), Some(ProtocolError::TopicFilterInvalid));
        }
    }
}

#[test]
fn requests_and_publications_share_the_ids_of_a_client() {
    // [3:MQTT-2.3.1-2] [5:MQTT-2.2.1-3] [U5-008]
    for version in VERSIONS {
        let mut side = Driven::connected(Role::Client, version);
        let now = side.now;
        side.publish(QoS::AtLeastOnce, 1).expect("room");
        let subscribed = side.client().subscribe(now, request(&["a"]));
        assert_eq!(subscribed, Ok(id(2)));
        let unsubscribed = side.client().unsubscribe(
            now,
            UnsubscribeRequest {
                filters: vec![ByteStr::from("a")],
                ..UnsubscribeRequest::default()
            },
        );
        assert_eq!(unsubscribed, Ok(id(3)));
        assert_eq!(
            side.sent()[1..],
            [subscribe(2, &["a"]), unsubscribe(3, &["a"])]
        );
    }
}

#[test]
fn an_answer_ends_its_request() {
    // [3:MQTT-2.3.1-3] [U5-009]
    for version in VERSIONS {
        let mut side = Driven::connected(Role::Client, version);
        let now = side.now;
        side.client().subscribe(now, request(&["a"])).expect("room");
        let answer = sub_ack(1, &[ReasonCode::GrantedQos1]);
        let seen = side.feed_one(&answer);
        assert!(matches!(seen, Seen::SubAck(ack) if ack.codes == [ReasonCode::GrantedQos1]));
        side.feed_silent(&answer);
        let gone = UnsubscribeRequest {
            filters: vec![ByteStr::from("a")],
            ..UnsubscribeRequest::default()
        };
        side.client().unsubscribe(now, gone).expect("room");
        let answer = unsub_ack(2, &[ReasonCode::Success]);
        let seen = side.feed_one(&answer);
        assert!(matches!(seen, Seen::UnsubAck(ack) if ack.id == id(2)));
        side.feed_silent(&answer);
    }
}

#[test]
fn an_answer_with_a_wrong_number_of_codes_breaks_the_protocol() {
    // [3:MQTT-3.8.4-5] [5:MQTT-3.8.4-6] [5:MQTT-3.11.3-1]
    for version in VERSIONS {
        let mut side = Driven::connected(Role::Client, version);
        let now = side.now;
        side.client()
            .subscribe(now, request(&["a", "b"]))
            .expect("room");
        let error = side.feed(&sub_ack(1, &[ReasonCode::GrantedQos1]));
        let packet_type = PacketType::SubAck;
        let expected = ProtocolError::ReasonCodeCount { packet_type };
        assert_eq!(error.err(), Some(expected));
    }
    let mut side = Driven::connected(Role::Client, ProtocolVersion::V5);
    let now = side.now;
    let gone = UnsubscribeRequest {
        filters: vec![ByteStr::from("a"), ByteStr::from("b")],
        ..UnsubscribeRequest::default()
    };
    side.client().unsubscribe(now, gone).expect("room");
    let error = side.feed(&unsub_ack(1, &[ReasonCode::Success]));
    let packet_type = PacketType::UnsubAck;
    let expected = ProtocolError::ReasonCodeCount { packet_type };
    assert_eq!(error.err(), Some(expected));
}

#[test]
fn an_answer_to_something_else_breaks_the_protocol() {
    for version in VERSIONS {
        let mut side = Driven::connected(Role::Client, version);
        side.publish(QoS::AtLeastOnce, 1).expect("room");
        let error = side.feed(&sub_ack(1, &[ReasonCode::GrantedQos1]));
        let packet_type = PacketType::SubAck;
        assert_eq!(
            error.err(),
            Some(ProtocolError::UnexpectedAck { packet_type })
        );
        let mut side = Driven::connected(Role::Client, version);
        let now = side.now;
        side.client().subscribe(now, request(&["a"])).expect("room");
        let packet_type = PacketType::PubAck;
        assert_eq!(
            side.feed(&pub_ack(1)).err(),
            Some(ProtocolError::UnexpectedAck { packet_type })
        );
    }
}

#[test]
fn requests_go_out_when_the_quota_is_used_up() {
    // [5:MQTT-3.3.4-8] [5:MQTT-4.9.0-3]
    for version in VERSIONS {
        let setup = Setup::new(version).peer_receive_maximum(1);
        let mut side = setup.connect(Role::Client);
        let now = side.now;
        side.publish(QoS::AtLeastOnce, 1).expect("room");
        let full = side.publish(QoS::AtLeastOnce, 2);
        assert_eq!(full, Err(Refused::WindowFull(2)));
        let subscribed = side.client().subscribe(now, request(&["a"]));
        assert_eq!(subscribed, Ok(id(2)));
    }
}

#[test]
fn unanswered_requests_are_refused_in_the_end() {
    for version in VERSIONS {
        let setup = Setup::new(version).peer_receive_maximum(1);
        let mut side = setup.connect(Role::Client);
        let now = side.now;
        let mut sent = 0;
        let refused = loop {
            match side.client().subscribe(now, request(&["a"])) {
                Ok(_) => sent += 1,
                Err(refused) => break refused,
            }
        };
        assert_eq!(refused, RequestRefused::WindowFull);
        assert!((64..=256).contains(&sent), "{sent}");
    }
}

#[test]
fn a_request_ends_with_its_connection() {
    for version in VERSIONS {
        let mut side = Driven::connected(Role::Client, version);
        let now = side.now;
        side.client().subscribe(now, request(&["a"])).expect("room");
        let session = side.lose();
        assert!(session.is_empty());
        let mut side = Setup::new(version).resuming(session).connect(Role::Client);
        side.feed_silent(&sub_ack(1, &[ReasonCode::GrantedQos1]));
    }
}

#[test]
fn a_request_that_can_not_be_said_is_refused() {
    let mut side = Driven::connected(Role::Client, ProtocolVersion::V5);
    let now = side.now;
    let refused = side.client().subscribe(now, SubscribeRequest::default());
    let expected = RequestRefused::Encode(EncodeError::FiltersMissing);
    assert_eq!(refused, Err(expected));
    side.client()
        .disconnect(whimbrel_session::codec::Disconnect::default())
        .expect("connected");
    let refused = side.client().subscribe(now, request(&["a"]));
    assert_eq!(refused, Err(RequestRefused::NotConnected));
}
