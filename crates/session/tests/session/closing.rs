//! DISCONNECT, and what is not done after it.

use whimbrel_session::codec::topic::ByteStr;
use whimbrel_session::codec::{Disconnect, Packet, PacketType, ProtocolVersion, QoS, ReasonCode};
use whimbrel_session::{ProtocolError, Refused, SessionExpiry, UsageError};

use crate::support::{Driven, Role, Seen, Setup, VERSIONS, everywhere, pub_ack, publish};

fn disconnect(reason: ReasonCode) -> Packet {
    Packet::Disconnect(Box::new(Disconnect::new(reason)))
}

fn with_expiry(seconds: u32) -> Packet {
    let mut disconnect = Disconnect::new(ReasonCode::NORMAL_DISCONNECTION);
    disconnect.session_expiry_secs = Some(seconds);
    Packet::Disconnect(Box::new(disconnect))
}

/// Ends the connection from the side under test.
fn end(side: &mut Driven) {
    match &mut side.side {
        crate::support::Side::Client(client) => client
            .disconnect(Disconnect::new(ReasonCode::NORMAL_DISCONNECTION))
            .expect("connected"),
        crate::support::Side::Server(server) => server
            .disconnect(ReasonCode::SessionTakenOver)
            .expect("a code of servers"),
    }
}

#[test]
fn a_server_tells_why_it_ends_the_connection_in_version_5() {
    // [5:MQTT-3.14.4-2] [5:MQTT-4.13.2-1]
    for version in VERSIONS {
        let mut side = Driven::connected(Role::Server, version);
        end(&mut side);
        assert!(side.is_closing());
        if version.is_v5() {
            assert_eq!(side.sent_one(), disconnect(ReasonCode::SessionTakenOver));
        } else {
            assert!(side.sent().is_empty());
        }
    }
}

#[test]
fn a_client_says_goodbye_in_every_version() {
    // [3:MQTT-3.14.4-1] [5:MQTT-3.14.4-2]
    for version in VERSIONS {
        let mut side = Driven::connected(Role::Client, version);
        end(&mut side);
        let goodbye = disconnect(ReasonCode::NORMAL_DISCONNECTION);
        assert_eq!(side.sent_one(), goodbye);
        assert!(side.is_closing());
    }
}

#[test]
fn nothing_is_sent_after_disconnect() {
    // [3:MQTT-3.14.4-2] [5:MQTT-3.14.4-1]
    for (role, version) in everywhere() {
        let mut side = Driven::connected(role, version);
        let token = side.feed_one(&publish(QoS::AtLeastOnce, 1, "m")).token();
        end(&mut side);
        side.sent();
        side.ack(token);
        let refused = side.publish(QoS::AtMostOnce, 1);
        assert_eq!(refused, Err(Refused::NotConnected(1)));
        assert_eq!(side.resend(), [0; 0]);
        assert_eq!(side.poll_timeout(), None);
        end_again(&mut side);
        assert!(side.sent().is_empty());
    }
}

fn end_again(side: &mut Driven) {
    match &mut side.side {
        crate::support::Side::Client(client) => {
            let again = client.disconnect(Disconnect::new(ReasonCode::NORMAL_DISCONNECTION));
            assert_eq!(again, Err(UsageError::NotConnected));
        }
        crate::support::Side::Server(server) => {
            let again = server.disconnect(ReasonCode::SessionTakenOver);
            assert_eq!(again, Ok(()));
        }
    }
}

#[test]
fn input_after_the_end_is_ignored() {
    for (role, version) in everywhere() {
        let mut side = Driven::connected(role, version);
        side.publish(QoS::AtLeastOnce, 7).expect("room");
        end(&mut side);
        side.feed_silent(&pub_ack(1));
        assert_eq!(crate::support::items(side.lose()), [7]);
    }
}

#[test]
fn a_clients_disconnect_is_told_and_closes() {
    // [U5-084] [U311-011]
    for version in VERSIONS {
        let mut side = Driven::connected(Role::Server, version);
        let seen = side.feed_one(&disconnect(ReasonCode::NORMAL_DISCONNECTION));
        let Seen::Disconnect(told) = seen else {
            panic!("{seen:?}");
        };
        assert_eq!(told.reason, ReasonCode::NORMAL_DISCONNECTION);
        assert!(side.is_closing());
        assert!(side.sent().is_empty());
    }
}

#[test]
fn a_servers_disconnect_is_told_and_closes_in_version_5() {
    // [5:MQTT-4.13.2-1] [U5-084]
    let mut side = Driven::connected(Role::Client, ProtocolVersion::V5);
    let seen = side.feed_one(&disconnect(ReasonCode::ServerShuttingDown));
    let Seen::Disconnect(told) = seen else {
        panic!("{seen:?}");
    };
    assert_eq!(told.reason, ReasonCode::ServerShuttingDown);
    assert!(side.is_closing());
    assert!(side.sent().is_empty());
}

#[test]
fn servers_of_3_x_have_no_disconnect() {
    for version in [ProtocolVersion::V31, ProtocolVersion::V311] {
        let mut side = Driven::connected(Role::Client, version);
        let error = side.feed(&disconnect(ReasonCode::NORMAL_DISCONNECTION));
        let packet_type = PacketType::Disconnect;
        let expected = ProtocolError::WrongDirection { packet_type };
        assert_eq!(error.err(), Some(expected));
    }
}

#[test]
fn disconnect_replaces_the_session_expiry() {
    // [U5-081]
    let version = ProtocolVersion::V5;
    for (role, seconds) in [(Role::Server, 5), (Role::Server, 0), (Role::Client, 5)] {
        let mut side = Driven::connected(role, version);
        match role {
            Role::Server => {
                side.feed_one(&with_expiry(seconds));
                let expiry = side.server().session_expiry();
                assert_eq!(expiry, SessionExpiry::from_secs(seconds));
            }
            Role::Client => {
                let Packet::Disconnect(packet) = with_expiry(seconds) else {
                    panic!("DISCONNECT");
                };
                side.client().disconnect(*packet).expect("connected");
                let expiry = side.client().session_expiry();
                assert_eq!(expiry, SessionExpiry::from_secs(seconds));
            }
        }
    }
}

#[test]
fn disconnect_can_not_raise_the_session_expiry_from_0() {
    // [U5-082] (B2) (B3)
    let version = ProtocolVersion::V5;
    for role in [Role::Server, Role::Client] {
        let mut setup = Setup::new(version);
        setup.connect.properties.session_expiry_secs = 0;
        let mut side = setup.connect(role);
        match role {
            Role::Server => {
                let error = side.feed(&with_expiry(5)).expect_err("raised from 0");
                assert_eq!(error, ProtocolError::SessionExpiryRaised);
                assert_eq!(side.sent_one(), disconnect(ReasonCode::ProtocolError));
                assert_eq!(side.server().session_expiry(), SessionExpiry::AT_CLOSE);
            }
            Role::Client => {
                let Packet::Disconnect(packet) = with_expiry(5) else {
                    panic!("DISCONNECT");
                };
                let refused = side.client().disconnect(*packet);
                assert_eq!(refused, Err(UsageError::SessionExpiryRaised));
                assert!(!side.is_closing());
            }
        }
    }
}

#[test]
fn expiry_0_at_disconnect_is_legal_after_expiry_0() {
    let mut setup = Setup::new(ProtocolVersion::V5);
    setup.connect.properties.session_expiry_secs = 0;
    let mut side = setup.connect(Role::Server);
    let seen = side.feed_one(&with_expiry(0));
    assert!(matches!(seen, Seen::Disconnect(_)));
}

#[test]
fn a_server_never_sends_a_session_expiry_and_a_client_never_takes_one() {
    // [5:MQTT-3.14.2-2]
    let version = ProtocolVersion::V5;
    let mut side = Driven::connected(Role::Server, version);
    let mut packet = Disconnect::new(ReasonCode::AdministrativeAction);
    packet.session_expiry_secs = Some(5);
    packet.reason_string = Some(ByteStr::from("because"));
    side.server()
        .disconnect_with(packet)
        .expect("a code of servers");
    let Packet::Disconnect(sent) = side.sent_one() else {
        panic!("DISCONNECT");
    };
    assert_eq!(sent.session_expiry_secs, None);
    assert_eq!(sent.reason_string.as_deref(), Some("because"));

    let mut side = Driven::connected(Role::Client, version);
    let mut packet = Disconnect::new(ReasonCode::AdministrativeAction);
    packet.session_expiry_secs = Some(5);
    let error = side.feed(&Packet::Disconnect(Box::new(packet)));
    assert_eq!(error.err(), Some(ProtocolError::SessionExpiryFromServer));
}

#[test]
fn reason_codes_of_the_other_side_break_the_protocol() {
    // [5:MQTT-3.14.2-1]
    let version = ProtocolVersion::V5;
    for (role, reason) in [
        (Role::Server, ReasonCode::ServerShuttingDown),
        (Role::Server, ReasonCode::KeepAliveTimeout),
        (Role::Client, ReasonCode::DisconnectWithWill),
    ] {
        let mut side = Driven::connected(role, version);
        let error = side
            .feed(&disconnect(reason))
            .expect_err("the other side's");
        assert_eq!(error, ProtocolError::DisconnectReason { reason });
    }
}

#[test]
fn own_disconnects_keep_to_the_own_column() {
    // [5:MQTT-3.14.2-1]
    let version = ProtocolVersion::V5;
    let packet_type = PacketType::Disconnect;
    for reason in ReasonCode::ALL {
        let refused = Err(UsageError::ReasonNotAllowed {
            reason,
            packet_type,
        });
        let mut server = Driven::connected(Role::Server, version);
        let by_server = server.server().disconnect(reason);
        let mut client = Driven::connected(Role::Client, version);
        let by_client = client.client().disconnect(Disconnect::new(reason));
        assert!(by_server.is_ok() || by_server == refused);
        assert!(by_client.is_ok() || by_client == refused);
        // What one side sends, the other accepts.
        if by_server.is_ok() {
            let mut peer = Driven::connected(Role::Client, version);
            peer.feed_one(&server.sent_one());
        }
        if by_client.is_ok() {
            let mut peer = Driven::connected(Role::Server, version);
            peer.feed_one(&client.sent_one());
        }
    }
}

#[test]
fn a_broken_protocol_is_answered_before_the_close() {
    // [3:MQTT-2.2.2-2] [3:MQTT-4.8.0-1] [5:MQTT-4.13.1-1] [U5-110] [U5-111]
    for (role, version) in everywhere() {
        let mut side = Driven::connected(role, version);
        // A reserved packet type.
        let error = side.feed_bytes(&[0x00, 0x00]).expect_err("malformed");
        assert_eq!(error.reason_code(), ReasonCode::MalformedPacket);
        assert!(side.is_closing());
        let sent = side.sent();
        if version.is_v5() {
            assert_eq!(sent, [disconnect(ReasonCode::MalformedPacket)]);
        } else {
            assert!(sent.is_empty());
        }
    }
}
