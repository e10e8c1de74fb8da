//! CONNECT and its answer, on both sides.

use std::num::{NonZeroU16, NonZeroU32};

use whimbrel_session::codec::topic::ByteStr;
use whimbrel_session::codec::{
    Auth, Authentication, ConnAck, ConnAckProperties, Connect, DecodeErrorKind, Packet, PacketType,
    ProtocolVersion, QoS, ReasonCode,
};
use whimbrel_session::{
    Accept, ClientConfig, ClientConnection, ClientEvent, Epoch, Hold, ProtocolError, ServerConfig,
    ServerConnection, ServerEvent, SessionExpiry, SessionState, TimeoutKind, UsageError,
};

use crate::support::{
    Driven, NOW, Role, Setup, VERSIONS, decoded, encoded, everywhere, pub_ack, publish,
};

fn server() -> ServerConnection<u32> {
    ServerConnection::new(NOW, Epoch(1), ServerConfig::default())
}

fn connect_packet(connect: Connect) -> Vec<u8> {
    let version = connect.version;
    encoded(&Packet::Connect(Box::new(connect)), version)
}

/// A server that has a CONNECT to answer.
fn asked(connect: Connect) -> ServerConnection<u32> {
    let mut server = server();
    let bytes = connect_packet(connect);
    let handled = server.handle_input(NOW, &bytes).expect("a valid CONNECT");
    assert_eq!(handled.consumed, bytes.len());
    assert!(matches!(handled.event, Some(ServerEvent::Connect(_))));
    server
}

fn output_of(server: &mut ServerConnection<u32>) -> Vec<u8> {
    let bytes = server.output().chunk().to_vec();
    server.output().advance(bytes.len());
    bytes
}

fn conn_ack(server: &mut ServerConnection<u32>, version: ProtocolVersion) -> ConnAck {
    let bytes = output_of(server);
    match decoded(&bytes, version).as_slice() {
        [Packet::ConnAck(connack)] => (**connack).clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_accepted_connect_gets_connack_and_session_present_as_it_is() {
    // [3:MQTT-3.1.4-4] [3:MQTT-3.2.0-1] [3:MQTT-3.2.2-1] [3:MQTT-3.2.2-2] [3:MQTT-3.2.2-3]
    // [5:MQTT-3.1.4-5] [5:MQTT-3.2.2-2] [5:MQTT-3.2.2-3]
    for version in VERSIONS {
        for resumed in [false, true] {
            let mut server = asked(Setup::new(version).connect);
            let accept = if resumed {
                Accept::resume(SessionState::new())
            } else {
                Accept::new_session()
            };
            server.accept(NOW, accept).expect("CONNECT waits");
            let connack = conn_ack(&mut server, version);
            assert_eq!(connack.reason, ReasonCode::Success);
            // 3.1 has no Session Present [U31-003].
            let expected = resumed && version != ProtocolVersion::V31;
            assert_eq!(connack.session_present, expected);
            assert_eq!(server.version(), version);
        }
    }
}

#[test]
fn the_configuration_is_announced() {
    // [5:MQTT-3.2.2-9]
    let config = {
        let mut config = ServerConfig::default();
        config.receive_maximum = NonZeroU16::new(5).expect("not 0");
        config.topic_alias_maximum = 3;
        config.limits.packet_size_max = 9_999;
        config.maximum_qos = QoS::AtLeastOnce;
        config.retain_available = false;
        config
    };
    let mut setup = Setup::new(ProtocolVersion::V5);
    setup.server = config;
    let mut server: ServerConnection<u32> = ServerConnection::new(NOW, Epoch(1), config);
    let bytes = connect_packet(setup.connect);
    let handled = server.handle_input(NOW, &bytes).expect("a valid CONNECT");
    assert!(handled.event.is_some());
    let mut accept = Accept::new_session();
    accept.properties.assigned_client_id = Some(ByteStr::from("given"));
    accept.properties.session_expiry_secs = Some(60);
    server.accept(NOW, accept).expect("CONNECT waits");
    let properties = conn_ack(&mut server, ProtocolVersion::V5).properties;
    assert_eq!(properties.receive_maximum.get(), 5);
    assert_eq!(properties.topic_alias_max, 3);
    assert_eq!(properties.packet_size_max, NonZeroU32::new(9_999));
    assert_eq!(properties.maximum_qos, QoS::AtLeastOnce);
    assert!(!properties.retain_available);
    assert_eq!(properties.assigned_client_id.as_deref(), Some("given"));
    assert_eq!(server.session_expiry(), SessionExpiry::from_secs(60));
}

#[test]
fn session_expiry_comes_from_connect_unless_connack_replaces_it() {
    // [U5-019] (B1)
    let expiry_of = |version, clean_start, seconds| {
        let mut connect = Connect::new(version, "c");
        connect.clean_start = clean_start;
        connect.properties.session_expiry_secs = seconds;
        asked(connect).session_expiry()
    };
    for version in [ProtocolVersion::V31, ProtocolVersion::V311] {
        assert_eq!(expiry_of(version, true, 0), SessionExpiry::AT_CLOSE);
        assert_eq!(expiry_of(version, false, 0), SessionExpiry::NEVER);
    }
    let version = ProtocolVersion::V5;
    assert_eq!(expiry_of(version, false, 0), SessionExpiry::AT_CLOSE);
    assert_eq!(expiry_of(version, true, 7), SessionExpiry::from_secs(7));
    assert_eq!(expiry_of(version, true, u32::MAX), SessionExpiry::NEVER);
}

#[test]
fn nothing_is_decoded_while_connect_waits_for_its_answer() {
    // [3:MQTT-3.2.0-1] [5:MQTT-3.2.0-1] [U5-034] [U311-005] (A13)
    for version in VERSIONS {
        let mut server = asked(Setup::new(version).connect);
        let early = encoded(&publish(QoS::AtLeastOnce, 1, "m"), version);
        let handled = server.handle_input(NOW, &early).expect("held");
        assert_eq!((handled.consumed, handled.hold), (0, Some(Hold::Handshake)));
        assert!(server.output().is_empty(), "nothing goes before CONNACK");
        server
            .accept(NOW, Accept::new_session())
            .expect("CONNECT waits");
        let handled = server.handle_input(NOW, &early).expect("a valid PUBLISH");
        assert!(matches!(handled.event, Some(ServerEvent::Publish(_))));
    }
}

#[test]
fn a_refusal_is_told_in_the_words_of_the_version() {
    // [3:MQTT-3.2.2-4] [3:MQTT-3.2.2-5] [5:MQTT-3.1.4-2] [5:MQTT-3.2.2-6] [5:MQTT-3.2.2-7]
    // [5:MQTT-4.13.2-1]
    for version in VERSIONS {
        let mut server = asked(Setup::new(version).connect);
        server
            .refuse(ReasonCode::NotAuthorized)
            .expect("CONNECT waits");
        let connack = conn_ack(&mut server, version);
        assert_eq!(connack.reason, ReasonCode::NotAuthorized);
        assert!(!connack.session_present);
        assert!(server.is_closing());
        assert!(server.into_state().is_none());
    }
}

#[test]
fn a_refusal_without_a_return_code_is_silent_in_3_x() {
    // [3:MQTT-3.2.2-6]
    for version in [ProtocolVersion::V31, ProtocolVersion::V311] {
        let mut server = asked(Setup::new(version).connect);
        let refused = server.refuse(ReasonCode::MalformedPacket);
        refused.expect("CONNECT waits");
        assert!(server.output().is_empty());
        assert!(server.is_closing());
    }
}

#[test]
fn a_refusal_can_name_another_server() {
    let mut server = asked(Setup::new(ProtocolVersion::V5).connect);
    let properties = ConnAckProperties {
        server_reference: Some(ByteStr::from("elsewhere")),
        ..ConnAckProperties::default()
    };
    let refused = server.refuse_with(ReasonCode::UseAnotherServer, properties);
    refused.expect("CONNECT waits");
    let connack = conn_ack(&mut server, ProtocolVersion::V5);
    let reference = connack.properties.server_reference;
    assert_eq!(reference.as_deref(), Some("elsewhere"));
}

#[test]
fn a_success_is_no_refusal() {
    let mut server = asked(Setup::new(ProtocolVersion::V5).connect);
    for reason in [ReasonCode::Success, ReasonCode::SessionTakenOver] {
        let packet_type = PacketType::ConnAck;
        let refused = server.refuse(reason);
        assert_eq!(
            refused,
            Err(UsageError::ReasonNotAllowed {
                reason,
                packet_type
            })
        );
    }
    assert!(!server.is_closing());
}

#[test]
fn accept_without_connect_is_a_usage_error_and_keeps_the_session() {
    let mut server = server();
    let accepted = server.accept(NOW, Accept::resume(SessionState::new()));
    assert_eq!(accepted, Err(UsageError::NoConnectWaiting));
    assert_eq!(
        server.refuse(ReasonCode::Banned),
        Err(UsageError::NoConnectWaiting)
    );
    assert!(server.into_state().is_some());
}

#[test]
fn a_first_packet_that_is_not_connect_closes_silently() {
    // [3:MQTT-3.1.0-1] [5:MQTT-3.1.0-1] [5:MQTT-3.14.0-1]
    for version in VERSIONS {
        let mut server = server();
        let bytes = encoded(&publish(QoS::AtMostOnce, 1, "m"), version);
        // The first byte says it all.
        let error = server
            .handle_input(NOW, &bytes[..1])
            .expect_err("no CONNECT");
        let packet_type = PacketType::Publish;
        assert_eq!(error, ProtocolError::FirstPacketNotConnect { packet_type });
        assert_eq!(error.clause(), "MQTT-3.1.0-1");
        assert!(server.is_closing());
        assert!(server.output().is_empty());
    }
}

#[test]
fn a_second_connect_breaks_the_protocol() {
    // [3:MQTT-3.1.0-2] [5:MQTT-3.1.0-2]
    for version in VERSIONS {
        let mut side = Driven::connected(Role::Server, version);
        let connect = Packet::Connect(Box::new(Setup::new(version).connect));
        let error = side.feed(&connect).expect_err("a second CONNECT");
        assert_eq!(error, ProtocolError::ConnectTwice);
        assert!(side.is_closing());
    }
}

#[test]
fn an_unknown_level_is_answered_and_a_wrong_name_is_not() {
    // [3:MQTT-3.1.2-1] [3:MQTT-3.1.2-2] [5:MQTT-3.1.2-1] [5:MQTT-3.1.2-2]
    let answer_to = |bytes: &[u8]| {
        let mut server = server();
        let error = server.handle_input(NOW, bytes).expect_err("unsupported");
        assert!(server.is_closing());
        (error.reason_code(), output_of(&mut server))
    };
    let unsupported = ReasonCode::UnsupportedProtocolVersion;
    let level_6 = b"\x10\x0c\0\x04MQTT\x06\x02\0\0\0\0";
    assert_eq!(
        answer_to(level_6),
        (unsupported, b"\x20\x03\0\x84\0".to_vec())
    );
    let level_2 = b"\x10\x0c\0\x04MQTT\x02\x02\0\0\0\0";
    assert_eq!(
        answer_to(level_2),
        (unsupported, b"\x20\x02\0\x01".to_vec())
    );
    let wrong_name = b"\x10\x0c\0\x04MQTX\x04\x02\0\0\0\0";
    assert_eq!(answer_to(wrong_name), (unsupported, Vec::new()));
}

#[test]
fn a_malformed_connect_is_answered_in_version_5_only() {
    // [3:MQTT-3.1.4-1] [5:MQTT-3.1.4-1] (A8) (A9)
    for version in VERSIONS {
        let mut server = server();
        let mut bytes = connect_packet(Setup::new(version).connect);
        // One byte too many.
        bytes.push(0);
        bytes[1] += 1;
        let error = server.handle_input(NOW, &bytes).expect_err("trailing byte");
        let ProtocolError::Decode(error) = error else {
            panic!("{error:?}");
        };
        assert_eq!(error.kind(), DecodeErrorKind::TrailingBytes);
        let answer = output_of(&mut server);
        if version.is_v5() {
            assert_eq!(answer, b"\x20\x03\0\x81\0");
        } else {
            assert!(answer.is_empty());
        }
    }
}

#[test]
fn an_empty_client_id_of_a_persistent_3_1_1_session_is_rejected() {
    // [3:MQTT-3.1.3-8]
    let mut server = server();
    let bytes = b"\x10\x0c\0\x04MQTT\x04\0\0\0\0\0";
    server.handle_input(NOW, bytes).expect_err("no client id");
    assert_eq!(output_of(&mut server), b"\x20\x02\0\x02");
}

#[test]
fn a_connect_too_large_is_refused_from_its_first_bytes() {
    let mut server = server();
    let error = server.handle_input(NOW, b"\x10\xff\xff\xff\x7f");
    let error = error.expect_err("256 MiB");
    assert_eq!(error.reason_code(), ReasonCode::PacketTooLarge);
    assert!(server.output().is_empty());
}

#[test]
fn a_client_that_sends_no_connect_is_closed() {
    // [U5-033] [U311-005]
    let mut server = server();
    let deadline = NOW.saturating_add(10_000);
    assert_eq!(server.poll_timeout(), Some(deadline));
    assert_eq!(server.handle_timeout(NOW), None);
    assert_eq!(server.handle_timeout(deadline), Some(TimeoutKind::Connect));
    assert!(server.is_closing());
    assert!(server.output().is_empty());
    assert_eq!(server.poll_timeout(), None);
}

#[test]
fn a_connect_without_an_answer_is_refused_as_unavailable() {
    for version in VERSIONS {
        let mut server = asked(Setup::new(version).connect);
        let deadline = server.poll_timeout().expect("the handshake is timed");
        assert_eq!(server.handle_timeout(deadline), Some(TimeoutKind::Connect));
        let reason = conn_ack(&mut server, version).reason;
        assert_eq!(reason, ReasonCode::ServerUnavailable);
        let late = server.accept(deadline, Accept::resume(SessionState::new()));
        assert_eq!(late, Err(UsageError::NoConnectWaiting));
        assert!(server.into_state().is_some());
    }
}

#[test]
fn input_after_a_refusal_is_ignored() {
    // [3:MQTT-3.1.4-5] [5:MQTT-3.1.4-6]
    for version in VERSIONS {
        let mut server = asked(Setup::new(version).connect);
        server.refuse(ReasonCode::Banned).expect("CONNECT waits");
        assert_eq!(conn_ack(&mut server, version).reason, told(version));
        let late = encoded(&publish(QoS::AtLeastOnce, 1, "m"), version);
        let handled = server.handle_input(NOW, &late).expect("ignored");
        assert_eq!(handled.consumed, late.len());
        assert!(handled.event.is_none());
        assert!(server.output().is_empty());
    }
}

/// A ban, in the words of the version.
fn told(version: ProtocolVersion) -> ReasonCode {
    if version.is_v5() {
        ReasonCode::Banned
    } else {
        ReasonCode::NotAuthorized
    }
}

#[test]
fn a_refused_client_id_is_told_and_the_connection_closed() {
    // [3:MQTT-3.1.3-9] [5:MQTT-3.1.3-8]
    for version in VERSIONS {
        let mut server = asked(Setup::new(version).connect);
        let refused = server.refuse(ReasonCode::ClientIdentifierNotValid);
        refused.expect("CONNECT waits");
        let expected: &[u8] = if version.is_v5() {
            b"\x20\x03\0\x85\0"
        } else {
            b"\x20\x02\0\x02"
        };
        assert_eq!(output_of(&mut server), expected);
        assert!(server.is_closing());
    }
}

#[test]
fn a_connect_is_answered_once() {
    // [5:MQTT-3.2.0-2]
    for version in VERSIONS {
        let connect = Setup::new(version).connect;
        let mut server = asked(connect.clone());
        server
            .accept(NOW, Accept::new_session())
            .expect("CONNECT waits");
        assert!(!output_of(&mut server).is_empty());
        let again = server.accept(NOW, Accept::new_session());
        assert_eq!(again, Err(UsageError::NoConnectWaiting));
        let again = server.refuse(ReasonCode::Banned);
        assert_eq!(again, Err(UsageError::NoConnectWaiting));
        let second = connect_packet(connect);
        let error = server.handle_input(NOW, &second);
        assert_eq!(error.err(), Some(ProtocolError::ConnectTwice));
        let bytes = output_of(&mut server);
        let sent = decoded(&bytes, version);
        let is_connack = |packet: &Packet| matches!(packet, Packet::ConnAck(_));
        assert!(!sent.iter().any(is_connack), "{sent:?}");
    }
}

#[test]
fn auth_without_a_method_breaks_the_protocol() {
    // [U5-090]
    for role in [Role::Client, Role::Server] {
        let mut side = Driven::connected(role, ProtocolVersion::V5);
        let auth = Packet::Auth(Box::new(Auth {
            reason: ReasonCode::ContinueAuthentication,
            authentication: Authentication {
                method: ByteStr::from("m"),
                data: None,
            },
            properties: Default::default(),
        }));
        let error = side.feed(&auth).expect_err("no method in use");
        assert_eq!(error, ProtocolError::UnexpectedAuth);
    }
}

#[test]
fn a_client_told_of_a_session_it_does_not_have_closes() {
    // [5:MQTT-3.2.2-4] [U311-008]
    for version in [ProtocolVersion::V311, ProtocolVersion::V5] {
        for clean_start in [true, false] {
            let mut connect = Setup::new(version).connect;
            connect.clean_start = clean_start;
            let session = clean_start.then(SessionState::new);
            let (error, sent) = refused_connack(connect, session, true);
            assert_eq!(error, ProtocolError::SessionPresent);
            if version.is_v5() {
                assert_eq!(sent, b"\xe0\x01\x82");
            } else {
                assert!(sent.is_empty());
            }
        }
    }
}

/// What a client says to a CONNACK that breaks the protocol.
fn refused_connack(
    connect: Connect,
    session: Option<SessionState<u32>>,
    session_present: bool,
) -> (ProtocolError, Vec<u8>) {
    let version = connect.version;
    let mut client = ClientConnection::new(Epoch(1), &ClientConfig::default());
    client
        .connect(NOW, connect, session)
        .expect("the first CONNECT");
    let sent = client.output().len();
    client.output().advance(sent);
    let mut connack = ConnAck::new(ReasonCode::Success);
    connack.session_present = session_present;
    let bytes = encoded(&Packet::ConnAck(Box::new(connack)), version);
    let error = client.handle_input(NOW, &bytes).expect_err("no session");
    assert!(client.is_closing());
    (error, client.output().chunk().to_vec())
}

#[test]
fn a_refused_client_keeps_its_session() {
    // [5:MQTT-4.13.2-1]
    for version in VERSIONS {
        let mut client: ClientConnection<u32> =
            ClientConnection::new(Epoch(1), &ClientConfig::default());
        let connect = Setup::new(version).connect;
        let session = Some(SessionState::new());
        client
            .connect(NOW, connect, session)
            .expect("the first CONNECT");
        let connack = ConnAck::new(ReasonCode::ServerUnavailable);
        let bytes = encoded(&Packet::ConnAck(Box::new(connack)), version);
        let handled = client.handle_input(NOW, &bytes).expect("a valid CONNACK");
        let Some(ClientEvent::ConnAck(connected)) = handled.event else {
            panic!("CONNACK");
        };
        assert_eq!(connected.connack.reason, ReasonCode::ServerUnavailable);
        assert!(client.is_closing());
        assert!(client.into_state().is_some());
    }
}

#[test]
fn a_server_that_starts_without_connack_breaks_the_protocol() {
    // [3:MQTT-3.2.0-1] [5:MQTT-3.2.0-1]
    for version in VERSIONS {
        let mut client: ClientConnection<u32> =
            ClientConnection::new(Epoch(1), &ClientConfig::default());
        let connect = Setup::new(version).connect;
        client
            .connect(NOW, connect, None)
            .expect("the first CONNECT");
        let bytes = encoded(&pub_ack(1), version);
        let error = client.handle_input(NOW, &bytes).expect_err("no CONNACK");
        let packet_type = PacketType::PubAck;
        assert_eq!(error, ProtocolError::FirstPacketNotConnAck { packet_type });
    }
}

#[test]
fn a_client_gives_up_waiting_for_connack() {
    // [U5-035]
    let mut client: ClientConnection<u32> =
        ClientConnection::new(Epoch(1), &ClientConfig::default());
    assert_eq!(client.poll_timeout(), None);
    let connect = Setup::new(ProtocolVersion::V5).connect;
    client
        .connect(NOW, connect, None)
        .expect("the first CONNECT");
    let deadline = NOW.saturating_add(10_000);
    assert_eq!(client.poll_timeout(), Some(deadline));
    assert_eq!(client.handle_timeout(deadline), Some(TimeoutKind::Connect));
    assert!(client.is_closing());
}

#[test]
fn a_client_connects_once() {
    let mut side = Driven::connected(Role::Client, ProtocolVersion::V5);
    let connect = Setup::new(ProtocolVersion::V5).connect;
    let again = side.client().connect(NOW, connect, None);
    assert_eq!(again, Err(UsageError::ConnectTwice));
}

#[test]
fn a_client_announces_the_size_it_decodes() {
    let mut client: ClientConnection<u32> =
        ClientConnection::new(Epoch(1), &ClientConfig::default());
    let connect = Setup::new(ProtocolVersion::V5).connect;
    client
        .connect(NOW, connect, None)
        .expect("the first CONNECT");
    let sent = decoded(client.output().chunk(), ProtocolVersion::V5);
    let [Packet::Connect(connect)] = sent.as_slice() else {
        panic!("{sent:?}");
    };
    let limit = ClientConfig::default().limits.packet_size_max;
    assert_eq!(connect.properties.packet_size_max, NonZeroU32::new(limit));
}

#[test]
fn packets_of_the_other_direction_break_the_protocol() {
    for (role, version) in everywhere() {
        let packets = match role {
            Role::Server => vec![
                Packet::ConnAck(Box::new(ConnAck::new(ReasonCode::Success))),
                Packet::PingResp,
            ],
            Role::Client => vec![Packet::PingReq],
        };
        for packet in packets {
            let mut side = Driven::connected(role, version);
            let packet_type = packet.packet_type();
            let error = side.feed(&packet).expect_err("the other direction");
            assert_eq!(error, ProtocolError::WrongDirection { packet_type });
            assert!(side.is_closing());
        }
    }
}
