//! Maximum Packet Size, and what gives way to it.

use std::num::NonZeroU32;

use whimbrel_session::codec::topic::ByteStr;
use whimbrel_session::codec::{
    AckProperties, Disconnect, Packet, PacketType, ProtocolVersion, QoS, ReasonCode, Subscribe,
    SubscribeFilter, Unsubscribe, UserProperties, UserProperty,
};
use whimbrel_session::{
    Accept, AckToken, Epoch, ProtocolError, Refused, RequestRefused, ServerConfig,
    ServerConnection, SubscribeRequest, UsageError,
};

use crate::support::{
    Driven, NOW, Role, Setup, decoded, encoded, pub_ack, pub_rec, pub_rel, publish,
};

const V5: ProtocolVersion = ProtocolVersion::V5;

/// A side whose peer accepts packets of so many bytes.
fn limited(role: Role, size_max: u32) -> Driven {
    let mut setup = Setup::new(V5);
    setup.connect.properties.packet_size_max = NonZeroU32::new(size_max);
    setup.connack.properties.packet_size_max = NonZeroU32::new(size_max);
    setup.connect(role)
}

fn texts() -> AckProperties {
    let mut user_properties = UserProperties::new();
    user_properties.push(UserProperty::new("name", "a value of some length"));
    AckProperties {
        reason_string: Some(ByteStr::from("because of what was said before")),
        user_properties,
    }
}

fn ack_with_texts(side: &mut Driven, reason: ReasonCode) -> AckProperties {
    let now = side.now;
    let token = side.feed_one(&publish(QoS::AtLeastOnce, 1, "m")).token();
    match &mut side.side {
        crate::support::Side::Client(client) => client.ack_with(now, token, reason, texts()),
        crate::support::Side::Server(server) => server.ack_with(token, reason, texts()),
    }
    .expect("encodable");
    let Packet::PubAck(ack) = side.sent_one() else {
        panic!("PUBACK");
    };
    assert_eq!(ack.reason, reason);
    ack.properties
}

#[test]
fn a_message_too_large_for_the_peer_is_not_sent_and_takes_no_id() {
    // [5:MQTT-3.1.2-24] [5:MQTT-3.1.2-25] [5:MQTT-3.2.2-15]
    for role in [Role::Client, Role::Server] {
        let mut side = limited(role, 60);
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let refused = side.publish_payload(qos, 1, &[0; 100]);
            assert_eq!(refused, Err(Refused::TooLarge(1)));
        }
        assert!(side.sent().is_empty());
        side.publish(QoS::AtLeastOnce, 2).expect("small enough");
        side.feed_one(&pub_ack(1));
    }
}

#[test]
fn texts_of_an_acknowledgement_give_way_one_after_the_other() {
    // [5:MQTT-3.4.2-2] [5:MQTT-3.4.2-3] [5:MQTT-3.5.2-2] [5:MQTT-3.5.2-3] [5:MQTT-3.6.2-2]
    // [5:MQTT-3.6.2-3] [5:MQTT-3.7.2-2] [5:MQTT-3.7.2-3]
    let only_reason = AckProperties {
        user_properties: UserProperties::new(),
        ..texts()
    };
    let nothing = AckProperties::new();
    for role in [Role::Client, Role::Server] {
        for packet_type in [
            PacketType::PubAck,
            PacketType::PubRec,
            PacketType::PubRel,
            PacketType::PubComp,
        ] {
            for (size_max, expected) in [(100, &texts()), (60, &only_reason), (30, &nothing)] {
                let mut side = limited(role, size_max);
                let token = token_for(&mut side, packet_type);
                let sent = answer_with_texts(&mut side, token);
                assert_eq!(sent.packet_type(), packet_type);
                let length = sent.encoded_len(V5).expect("it was sent");
                assert!(length <= usize::try_from(size_max).expect("small"));
                let properties = match sent {
                    Packet::PubAck(ack)
                    | Packet::PubRec(ack)
                    | Packet::PubRel(ack)
                    | Packet::PubComp(ack) => ack.properties,
                    other => panic!("{other:?}"),
                };
                assert_eq!(properties, *expected, "{packet_type} of {size_max} at most");
            }
        }
    }
}

/// Brings an exchange so far that this packet is to be sent next.
fn token_for(side: &mut Driven, packet_type: PacketType) -> AckToken {
    let token = match packet_type {
        PacketType::PubAck => side.feed_one(&publish(QoS::AtLeastOnce, 1, "m")).token(),
        PacketType::PubRec => side.feed_one(&publish(QoS::ExactlyOnce, 1, "m")).token(),
        PacketType::PubRel => {
            side.publish(QoS::ExactlyOnce, 1).expect("room");
            side.feed_one(&pub_rec(1)).token()
        }
        PacketType::PubComp => {
            let token = side.feed_one(&publish(QoS::ExactlyOnce, 1, "m")).token();
            side.ack(token);
            side.feed_one(&pub_rel(1)).token()
        }
        other => panic!("{other} acknowledges no message"),
    };
    side.sent();
    token
}

fn answer_with_texts(side: &mut Driven, token: AckToken) -> Packet {
    let now = side.now;
    let reason = ReasonCode::Success;
    match &mut side.side {
        crate::support::Side::Client(client) => client.ack_with(now, token, reason, texts()),
        crate::support::Side::Server(server) => server.ack_with(token, reason, texts()),
    }
    .expect("encodable");
    side.sent_one()
}

#[test]
fn suback_and_unsuback_carry_no_texts_that_could_make_them_too_large() {
    // [5:MQTT-3.9.2-1] [5:MQTT-3.9.2-2] [5:MQTT-3.11.2-1] [5:MQTT-3.11.2-2]
    for size_max in [1_000, 30] {
        let mut side = limited(Role::Server, size_max);
        let id = crate::support::id(1);
        let subscribe = Packet::Subscribe(Subscribe {
            id,
            filters: vec![SubscribeFilter {
                filter: ByteStr::from("a"),
                options: Default::default(),
            }],
            subscription_id: None,
            user_properties: texts().user_properties,
        });
        let token = side.feed_one(&subscribe).token();
        let codes = [ReasonCode::QuotaExceeded];
        side.server()
            .ack_subscribe(token, &codes)
            .expect("one code");
        let Packet::SubAck(sent) = side.sent_one() else {
            panic!("SUBACK");
        };
        assert_eq!(sent.properties, AckProperties::new());
        let unsubscribe = Packet::Unsubscribe(Unsubscribe {
            id,
            filters: vec![ByteStr::from("a")],
            user_properties: texts().user_properties,
        });
        let token = side.feed_one(&unsubscribe).token();
        let codes = [ReasonCode::NotAuthorized];
        side.server()
            .ack_unsubscribe(token, &codes)
            .expect("one code");
        let Packet::UnsubAck(sent) = side.sent_one() else {
            panic!("UNSUBACK");
        };
        assert_eq!(sent.properties, AckProperties::new());
    }
}

#[test]
fn a_client_that_wants_no_texts_gets_none_on_acknowledgements() {
    // [5:MQTT-3.1.2-29]
    let mut setup = Setup::new(V5);
    setup.connect.properties.request_problem_information = false;
    let mut side = setup.connect(Role::Server);
    let properties = ack_with_texts(&mut side, ReasonCode::QuotaExceeded);
    assert_eq!(properties, AckProperties::new());
    let mut goodbye = Disconnect::new(ReasonCode::ServerBusy);
    goodbye.reason_string = Some(ByteStr::from("because"));
    side.server()
        .disconnect_with(goodbye.clone())
        .expect("a code of servers");
    assert_eq!(side.sent_one(), Packet::Disconnect(Box::new(goodbye)));
}

#[test]
fn a_client_that_wants_no_texts_takes_none_on_acknowledgements() {
    // [U5-026]
    let mut setup = Setup::new(V5);
    setup.connect.properties.request_problem_information = false;
    let mut side = setup.connect(Role::Client);
    side.publish(QoS::AtLeastOnce, 1).expect("room");
    let mut ack = crate::support::failed(1, ReasonCode::QuotaExceeded);
    ack.properties = texts();
    let ack = Packet::PubAck(ack);
    let packet_type = ack.packet_type();
    let error = side.feed(&ack).expect_err("unasked");
    assert_eq!(error, ProtocolError::ProblemInformation { packet_type });
}

#[test]
fn texts_of_a_disconnect_give_way_one_after_the_other() {
    // [5:MQTT-3.14.2-3] [5:MQTT-3.14.2-4]
    for role in [Role::Client, Role::Server] {
        for (size_max, has_reason, has_property) in
            [(100, true, true), (60, true, false), (30, false, false)]
        {
            let mut side = limited(role, size_max);
            let reason = match role {
                Role::Client => ReasonCode::UnspecifiedError,
                Role::Server => ReasonCode::ServerBusy,
            };
            let mut goodbye = Disconnect::new(reason);
            goodbye.reason_string = texts().reason_string;
            goodbye.user_properties = texts().user_properties;
            match &mut side.side {
                crate::support::Side::Client(client) => client.disconnect(goodbye),
                crate::support::Side::Server(server) => server.disconnect_with(goodbye),
            }
            .expect("a code of this side");
            let Packet::Disconnect(sent) = side.sent_one() else {
                panic!("DISCONNECT");
            };
            assert_eq!(sent.reason, reason);
            assert_eq!(sent.reason_string.is_some(), has_reason, "{size_max}");
            assert_eq!(!sent.user_properties.is_empty(), has_property, "{size_max}");
        }
    }
}

#[test]
fn texts_of_a_connack_give_way_and_a_larger_one_closes() {
    // [5:MQTT-3.2.2-19] [5:MQTT-3.2.2-20]
    // CONNACK alone has more than ten bytes here, with what it announces.
    let table = [
        (200, Some((true, true))),
        (70, Some((true, false))),
        (30, Some((false, false))),
        (10, None),
    ];
    for (size_max, left) in table {
        let mut connect = Setup::new(V5).connect;
        connect.properties.packet_size_max = NonZeroU32::new(size_max);
        let config = ServerConfig::default();
        let mut server: ServerConnection<u32> = ServerConnection::new(NOW, Epoch(1), config);
        let bytes = encoded(&Packet::Connect(Box::new(connect)), V5);
        server.handle_input(NOW, &bytes).expect("a valid CONNECT");
        let mut accept = Accept::new_session();
        accept.properties.reason_string = texts().reason_string;
        accept.properties.user_properties = texts().user_properties;
        let accepted = server.accept(NOW, accept);
        let Some((has_reason, has_property)) = left else {
            assert_eq!(accepted, Err(UsageError::TooLarge));
            assert!(server.output().is_empty());
            assert!(server.is_closing());
            continue;
        };
        assert_eq!(accepted, Ok(()));
        let sent = server.output().chunk();
        assert!(sent.len() <= usize::try_from(size_max).expect("small"));
        let sent = decoded(sent, V5);
        let [Packet::ConnAck(connack)] = &sent[..] else {
            panic!("{sent:?}");
        };
        let properties = &connack.properties;
        assert_eq!(properties.reason_string.is_some(), has_reason, "{size_max}");
        assert_eq!(
            !properties.user_properties.is_empty(),
            has_property,
            "{size_max}"
        );
    }
}

#[test]
fn a_suback_that_the_client_does_not_accept_ends_the_connection() {
    // [5:MQTT-3.1.2-24]
    let mut side = limited(Role::Server, 30);
    let filters = vec![ByteStr::from("a"); 100];
    let request = Packet::Unsubscribe(Unsubscribe {
        id: crate::support::id(1),
        filters,
        user_properties: UserProperties::new(),
    });
    let token = side.feed_one(&request).token();
    let codes = [ReasonCode::Success; 100];
    side.server()
        .ack_unsubscribe(token, &codes)
        .expect("100 codes");
    let Packet::Disconnect(sent) = side.sent_one() else {
        panic!("DISCONNECT");
    };
    assert_eq!(sent.reason, ReasonCode::ImplementationSpecificError);
    assert!(side.is_closing());
}

#[test]
fn a_request_too_large_for_the_server_is_refused() {
    // [5:MQTT-3.2.2-15]
    let mut side = limited(Role::Client, 30);
    let now = side.now;
    let filter = SubscribeFilter {
        filter: ByteStr::from("a/filter/that/is/longer/than/thirty/bytes"),
        options: Default::default(),
    };
    let refused = side.client().subscribe(
        now,
        SubscribeRequest {
            filters: vec![filter],
            ..SubscribeRequest::default()
        },
    );
    assert_eq!(refused, Err(RequestRefused::TooLarge));
}

#[test]
fn a_packet_above_the_own_limit_breaks_the_protocol() {
    // [U5-022] [U5-041]
    let mut setup = Setup::new(V5);
    setup.server.limits.packet_size_max = 20;
    let mut side = Driven::connected(Role::Client, V5);
    let large = publish(QoS::AtMostOnce, 1, &"x".repeat(2 * 1024 * 1024));
    let error = side.feed(&large).expect_err("above 1 MiB");
    assert_eq!(error.reason_code(), ReasonCode::PacketTooLarge);
    let Packet::Disconnect(sent) = side.sent_one() else {
        panic!("DISCONNECT");
    };
    assert_eq!(sent.reason, ReasonCode::PacketTooLarge);

    let mut connect = Setup::new(V5);
    connect.server.limits.packet_size_max = 40;
    let mut side = connect.connect(Role::Server);
    let error = side.feed(&publish(QoS::AtMostOnce, 1, &"x".repeat(40)));
    let error = error.expect_err("above 40 bytes");
    assert_eq!(error.reason_code(), ReasonCode::PacketTooLarge);
}
