//! Keep alive: what the server allows, and what the client sends.

use whimbrel_session::codec::{Disconnect, Packet, ProtocolVersion, QoS, ReasonCode};
use whimbrel_session::{Accept, Epoch, ServerConfig, ServerConnection, Tick, TimeoutKind};

use crate::support::{Driven, NOW, Role, Setup, VERSIONS, decoded, encoded, publish};

fn with_keep_alive(role: Role, version: ProtocolVersion, seconds: u16) -> Driven {
    let mut setup = Setup::new(version);
    setup.connect.keep_alive_secs = seconds;
    setup.connect(role)
}

fn at(milliseconds: u64) -> Tick {
    NOW.saturating_add(milliseconds)
}

#[test]
fn a_silent_client_is_closed_after_one_and_a_half_intervals() {
    // [3:MQTT-3.1.2-24] [5:MQTT-3.1.2-22] [5:MQTT-3.2.2-22] (F1)
    for version in VERSIONS {
        let mut side = with_keep_alive(Role::Server, version, 1);
        assert_eq!(side.poll_timeout(), Some(at(1_500)));
        assert_eq!(side.wait_until(at(1_499)), None);
        assert_eq!(side.wait_until(at(1_500)), Some(TimeoutKind::KeepAlive));
        assert!(side.is_closing());
        let sent = side.sent();
        if version.is_v5() {
            let reason = ReasonCode::KeepAliveTimeout;
            assert_eq!(
                sent,
                [Packet::Disconnect(Box::new(Disconnect::new(reason)))]
            );
        } else {
            assert!(sent.is_empty());
        }
    }
}

#[test]
fn only_complete_packets_of_the_client_count() {
    // [3:MQTT-3.1.2-24] [5:MQTT-3.1.2-22] (F1)
    for version in VERSIONS {
        let mut side = with_keep_alive(Role::Server, version, 10);
        side.wait_until(at(5_000));
        side.feed_silent(&Packet::PingReq);
        assert_eq!(side.poll_timeout(), Some(at(20_000)));
        side.wait_until(at(8_000));
        let bytes = encoded(&publish(QoS::AtMostOnce, 1, "m"), version);
        side.feed_bytes(&bytes[..3])
            .expect("the start of a PUBLISH");
        side.publish(QoS::AtMostOnce, 1).expect("room");
        assert_eq!(side.poll_timeout(), Some(at(20_000)));
        side.feed_bytes(&bytes[3..]).expect("the rest of it");
        assert_eq!(side.poll_timeout(), Some(at(23_000)));
    }
}

#[test]
fn keep_alive_zero_is_off_on_both_sides() {
    // [U5-018] [U311-004]
    for role in [Role::Client, Role::Server] {
        for version in VERSIONS {
            let side = with_keep_alive(role, version, 0);
            assert_eq!(side.poll_timeout(), None);
        }
    }
}

#[test]
fn pingreq_gets_pingresp_at_once() {
    // [3:MQTT-3.12.4-1] [5:MQTT-3.12.4-1]
    for version in VERSIONS {
        let mut side = Driven::connected(Role::Server, version);
        let _unacknowledged = side.feed_one(&publish(QoS::AtLeastOnce, 1, "m"));
        side.feed_silent(&Packet::PingReq);
        assert_eq!(side.sent_one(), Packet::PingResp);
    }
}

#[test]
fn a_server_that_does_not_read_does_not_blame_the_client() {
    let mut side = with_keep_alive(Role::Server, ProtocolVersion::V5, 10);
    side.server().pause_input(at(4_000));
    assert_eq!(side.poll_timeout(), None);
    assert_eq!(side.wait_until(at(100_000)), None);
    side.server().resume_input(at(100_000));
    assert_eq!(side.poll_timeout(), Some(at(111_000)));
}

#[test]
fn the_servers_keep_alive_replaces_the_clients_in_version_5() {
    // [5:MQTT-3.1.2-21] [5:MQTT-3.2.2-21] (A10)
    for version in VERSIONS {
        let mut connect = Setup::new(version).connect;
        connect.keep_alive_secs = 100;
        let config = ServerConfig::default();
        let mut server: ServerConnection<u32> = ServerConnection::new(NOW, Epoch(1), config);
        let bytes = encoded(&Packet::Connect(Box::new(connect)), version);
        server.handle_input(NOW, &bytes).expect("a valid CONNECT");
        let mut accept = Accept::new_session();
        accept.properties.server_keep_alive_secs = Some(20);
        server.accept(NOW, accept).expect("CONNECT waits");
        let allowed = if version.is_v5() { 30_000 } else { 150_000 };
        assert_eq!(server.poll_timeout(), Some(at(allowed)));

        let connack = decoded(server.output().chunk(), version).remove(0);
        let Packet::ConnAck(connack) = connack else {
            panic!("{connack:?}");
        };
        let mut setup = Setup::new(version);
        setup.connect.keep_alive_secs = 100;
        setup.connack = *connack;
        let side = setup.connect(Role::Client);
        let interval = if version.is_v5() { 20_000 } else { 100_000 };
        assert_eq!(side.poll_timeout(), Some(at(interval)));
    }
}

#[test]
fn a_client_pings_when_it_has_sent_nothing_for_an_interval() {
    // [3:MQTT-3.1.2-23] [5:MQTT-3.1.2-20]
    for version in VERSIONS {
        let mut side = with_keep_alive(Role::Client, version, 10);
        assert_eq!(side.wait_until(at(9_999)), None);
        assert!(side.sent().is_empty());
        assert_eq!(side.wait_until(at(10_000)), None);
        assert_eq!(side.sent_one(), Packet::PingReq);
        side.feed_silent(&Packet::PingResp);
        assert_eq!(side.poll_timeout(), Some(at(20_000)));
    }
}

#[test]
fn receiving_does_not_put_off_a_ping_and_sending_does() {
    // [3:MQTT-3.1.2-23] [5:MQTT-3.1.2-20] (F2)
    for version in VERSIONS {
        let mut side = with_keep_alive(Role::Client, version, 10);
        side.wait_until(at(5_000));
        let token = side.feed_one(&publish(QoS::AtLeastOnce, 1, "m")).token();
        assert_eq!(side.poll_timeout(), Some(at(10_000)));
        side.wait_until(at(6_000));
        side.ack(token);
        assert_eq!(side.poll_timeout(), Some(at(16_000)));
        side.wait_until(at(7_000));
        side.publish(QoS::AtMostOnce, 1).expect("room");
        assert_eq!(side.poll_timeout(), Some(at(17_000)));
    }
}

#[test]
fn a_client_without_pingresp_gives_up() {
    // [U5-017] [U311-004]
    for version in VERSIONS {
        let mut side = with_keep_alive(Role::Client, version, 60);
        assert_eq!(side.wait_until(at(60_000)), None);
        assert_eq!(side.poll_timeout(), Some(at(70_000)));
        assert_eq!(side.wait_until(at(70_000)), Some(TimeoutKind::Ping));
        assert!(side.is_closing());
    }
}

#[test]
fn a_second_ping_does_not_put_off_the_first_ones_answer() {
    let mut side = with_keep_alive(Role::Client, ProtocolVersion::V5, 4);
    for milliseconds in [4_000, 8_000, 12_000] {
        assert_eq!(side.wait_until(at(milliseconds)), None);
    }
    assert_eq!(side.wait_until(at(14_000)), Some(TimeoutKind::Ping));
}

#[test]
fn a_clients_keep_alive_counts_from_its_connect() {
    // [3:MQTT-3.1.2-23] [5:MQTT-3.1.2-20]
    use whimbrel_session::codec::ConnAck;
    use whimbrel_session::{ClientConfig, ClientConnection};
    for version in VERSIONS {
        let mut connect = Setup::new(version).connect;
        connect.keep_alive_secs = 10;
        let config = ClientConfig::default();
        let mut client: ClientConnection<u32> = ClientConnection::new(Epoch(1), &config);
        client
            .connect(NOW, connect, None)
            .expect("the first CONNECT");
        let connack = Packet::ConnAck(Box::new(ConnAck::new(ReasonCode::Success)));
        let bytes = encoded(&connack, version);
        client
            .handle_input(at(8_000), &bytes)
            .expect("a valid CONNACK");
        assert_eq!(client.poll_timeout(), Some(at(10_000)));
    }
}
