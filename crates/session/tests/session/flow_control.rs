//! Receive Maximum, in-flight windows, and how much may wait.

use whimbrel_session::codec::{Packet, ProtocolVersion, QoS, ReasonCode};
use whimbrel_session::{Hold, ProtocolError, Refused};

use crate::support::{
    Driven, Role, Setup, VERSIONS, everywhere, failed, pub_ack, pub_comp, pub_rec, pub_rel,
    publish, publish_again,
};

#[test]
fn a_used_up_quota_holds_back_publications_only() {
    // [5:MQTT-4.9.0-2] [5:MQTT-4.9.0-3] [5:MQTT-3.3.4-7] [5:MQTT-3.3.4-8] [5:MQTT-3.3.4-9] [5:MQTT-3.3.4-10]
    for (role, version) in everywhere() {
        let mut side = Setup::new(version).peer_receive_maximum(2).connect(role);
        side.publish(QoS::AtLeastOnce, 1).expect("room");
        side.publish(QoS::ExactlyOnce, 2).expect("room");
        let full = side.publish(QoS::AtLeastOnce, 3);
        assert_eq!(full, Err(Refused::WindowFull(3)));
        let token = side.feed_one(&publish(QoS::AtLeastOnce, 1, "m")).token();
        side.ack(token);
        side.publish(QoS::AtMostOnce, 4)
            .expect("QoS 0 needs no quota");
        side.sent();
        side.feed_one(&pub_ack(1));
        side.publish(QoS::AtLeastOnce, 3).expect("room again");
    }
}

#[test]
fn the_smaller_of_both_limits_is_the_quota() {
    // [5:MQTT-4.9.0-1]
    let version = ProtocolVersion::V5;
    for (own, peers) in [(1, 5), (5, 1)] {
        let mut setup = Setup::new(version).peer_receive_maximum(peers);
        setup.server.in_flight_max = std::num::NonZeroU16::new(own).expect("not 0");
        let mut side = setup.connect(Role::Server);
        side.publish(QoS::AtLeastOnce, 1).expect("room");
        let full = side.publish(QoS::AtLeastOnce, 2);
        assert_eq!(full, Err(Refused::WindowFull(2)));
    }
}

#[test]
fn the_quota_never_rises_above_its_start() {
    // [U5-107]
    for (role, version) in everywhere() {
        let mut side = Setup::new(version).peer_receive_maximum(1).connect(role);
        side.publish(QoS::AtLeastOnce, 1).expect("room");
        side.feed_one(&pub_ack(1));
        side.feed_silent(&pub_ack(1));
        side.feed_silent(&pub_comp(1));
        side.publish(QoS::AtLeastOnce, 2).expect("room");
        let full = side.publish(QoS::AtLeastOnce, 3);
        assert_eq!(full, Err(Refused::WindowFull(3)));
    }
}

#[test]
fn the_window_spans_a_bounded_part_of_the_ids() {
    for (role, version) in everywhere() {
        let mut side = Setup::new(version).peer_receive_maximum(20).connect(role);
        side.publish(QoS::AtLeastOnce, 1).expect("room");
        let mut others = 0;
        loop {
            match side.publish(QoS::AtLeastOnce, 2) {
                Ok(()) => {}
                Err(refused) => {
                    assert_eq!(refused, Refused::WindowFull(2));
                    break;
                }
            }
            others += 1;
            side.feed_one(&pub_ack(1 + others));
            assert_eq!(side.in_flight(), 1);
        }
        assert_eq!(others, 4 * 20 - 1);
        side.feed_one(&pub_ack(1));
        side.publish(QoS::AtLeastOnce, 2)
            .expect("the oldest id is free");
    }
}

#[test]
fn more_than_the_receive_maximum_breaks_the_protocol() {
    // [U5-053] (D4)
    for role in [Role::Client, Role::Server] {
        let version = ProtocolVersion::V5;
        let mut side = Setup::new(version).own_receive_maximum(2).connect(role);
        let first = side.feed_one(&publish(QoS::AtLeastOnce, 1, "m")).token();
        let _second = side.feed_one(&publish(QoS::ExactlyOnce, 2, "m"));
        side.ack(first);
        let _third = side.feed_one(&publish(QoS::AtLeastOnce, 3, "m"));
        side.sent();
        let error = side.feed(&publish(QoS::AtLeastOnce, 4, "m"));
        let error = error.expect_err("three are open");
        assert_eq!(error, ProtocolError::ReceiveMaximumExceeded);
        let Packet::Disconnect(disconnect) = side.sent_one() else {
            panic!("DISCONNECT");
        };
        assert_eq!(disconnect.reason, ReasonCode::ReceiveMaximumExceeded);
    }
}

#[test]
fn qos_0_and_repeats_take_no_unit_of_the_receive_maximum() {
    // [5:MQTT-4.3.3-10]
    for role in [Role::Client, Role::Server] {
        let version = ProtocolVersion::V5;
        let mut side = Setup::new(version).own_receive_maximum(1).connect(role);
        let token = side.feed_one(&publish(QoS::ExactlyOnce, 1, "m")).token();
        side.ack(token);
        side.feed_silent(&publish_again(QoS::ExactlyOnce, 1, "m"));
        side.feed_one(&publish(QoS::AtMostOnce, 1, "m"));
        let error = side.feed(&publish(QoS::ExactlyOnce, 2, "m"));
        let error = error.expect_err("held until PUBCOMP");
        assert_eq!(error, ProtocolError::ReceiveMaximumExceeded);
    }
}

#[test]
fn a_unit_comes_back_with_puback_pubcomp_and_an_error_pubrec() {
    // [U5-107]
    for role in [Role::Client, Role::Server] {
        let version = ProtocolVersion::V5;
        let mut side = Setup::new(version).own_receive_maximum(1).connect(role);
        let token = side.feed_one(&publish(QoS::AtLeastOnce, 1, "m")).token();
        side.ack_with(token, ReasonCode::NoMatchingSubscribers);
        let token = side.feed_one(&publish(QoS::ExactlyOnce, 2, "m")).token();
        side.ack_with(token, ReasonCode::QuotaExceeded);
        let token = side.feed_one(&publish(QoS::ExactlyOnce, 2, "m")).token();
        side.ack(token);
        let token = side.feed_one(&pub_rel(2)).token();
        side.ack(token);
        side.feed_one(&publish(QoS::AtLeastOnce, 3, "m"));
    }
}

#[test]
fn ids_held_from_an_earlier_connection_take_a_unit_when_they_come_again() {
    // [U5-108]
    let version = ProtocolVersion::V5;
    for role in [Role::Client, Role::Server] {
        let mut side = Setup::new(version).own_receive_maximum(1).connect(role);
        let token = side.feed_one(&publish(QoS::ExactlyOnce, 1, "m")).token();
        side.ack(token);
        let setup = Setup::new(version).own_receive_maximum(1);
        let mut side = setup.resuming(side.lose()).connect(role);
        let token = side.feed_one(&publish(QoS::AtLeastOnce, 2, "m")).token();
        side.ack(token);
        side.feed_silent(&publish_again(QoS::ExactlyOnce, 1, "m"));
        let error = side.feed(&publish(QoS::AtLeastOnce, 3, "m"));
        assert_eq!(error.err(), Some(ProtocolError::ReceiveMaximumExceeded));
    }
}

#[test]
fn a_3_x_peer_is_not_read_while_its_messages_wait() {
    // DESIGN: only socket reads block on credits.
    for role in [Role::Client, Role::Server] {
        for version in [ProtocolVersion::V31, ProtocolVersion::V311] {
            let mut side = Setup::new(version).own_receive_maximum(2).connect(role);
            let first = side.feed_one(&publish(QoS::AtLeastOnce, 1, "m")).token();
            let _second = side.feed_one(&publish(QoS::ExactlyOnce, 2, "m"));
            side.feed_silent(&publish(QoS::AtLeastOnce, 3, "m"));
            assert_eq!(side.hold(), Some(Hold::Acknowledgements));
            side.ack(first);
            assert_eq!(side.handle().expect("valid packets").len(), 1);
        }
    }
}

#[test]
fn held_qos_2_ids_do_not_stop_a_3_x_peer_from_releasing_them() {
    for version in [ProtocolVersion::V31, ProtocolVersion::V311] {
        let setup = Setup::new(version).own_receive_maximum(1);
        let mut side = setup.connect(Role::Server);
        for number in [1, 2, 3] {
            let token = side
                .feed_one(&publish(QoS::ExactlyOnce, number, "m"))
                .token();
            side.ack(token);
        }
        assert_eq!(side.server().receive_credit(), 1);
        assert_eq!(side.sent(), [pub_rec(1), pub_rec(2), pub_rec(3)]);
        let token = side.feed_one(&pub_rel(1)).token();
        side.ack(token);
        assert_eq!(side.sent_one(), pub_comp(1));
    }
}

#[test]
fn receive_credit_counts_down_to_zero() {
    for version in VERSIONS {
        let setup = Setup::new(version).own_receive_maximum(2);
        let mut side = setup.connect(Role::Server);
        assert_eq!(side.server().receive_credit(), 2);
        let _first = side.feed_one(&publish(QoS::AtLeastOnce, 1, "m"));
        let second = side.feed_one(&publish(QoS::AtLeastOnce, 2, "m")).token();
        assert_eq!(side.server().receive_credit(), 0);
        side.ack(second);
        // It waits for its turn, so the client has not been told.
        assert_eq!(side.server().receive_credit(), 0);
    }
}

#[test]
fn a_full_output_gives_the_message_back() {
    for (role, version) in everywhere() {
        let mut setup = Setup::new(version);
        setup.server.output_bytes_max = 100;
        setup.client.output_bytes_max = 100;
        let mut side = setup.connect(role);
        side.publish_payload(QoS::AtLeastOnce, 1, &[0; 1_000])
            .expect("an empty output takes a message of any size");
        let full = side.publish(QoS::AtMostOnce, 2);
        assert_eq!(full, Err(Refused::OutputFull(2)));
        let full = side.publish(QoS::ExactlyOnce, 3);
        assert_eq!(full, Err(Refused::OutputFull(3)));
        assert_eq!(side.in_flight(), 1);
        side.sent();
        side.publish(QoS::ExactlyOnce, 3).expect("room again");
    }
}

#[test]
fn a_peer_that_does_not_read_its_answers_is_not_read_either() {
    for version in VERSIONS {
        let mut setup = Setup::new(version);
        setup.server.output_bytes_max = 100;
        let mut side = setup.connect(Role::Server);
        let mut pings = 0;
        while side.hold().is_none() {
            side.feed_silent(&Packet::PingReq);
            pings += 1;
            assert!(pings < 100_000);
        }
        assert_eq!(side.hold(), Some(Hold::Output));
        side.sent();
        side.feed_silent(&Packet::PingReq);
        assert_eq!(side.hold(), None);
    }
}

#[test]
fn unanswered_requests_are_bounded() {
    use whimbrel_session::codec::topic::ByteStr;
    use whimbrel_session::codec::{Unsubscribe, UserProperties};
    for version in VERSIONS {
        let mut side = Driven::connected(Role::Server, version);
        let mut tokens = Vec::new();
        for number in 1..5_000 {
            let request = Packet::Unsubscribe(Unsubscribe {
                id: crate::support::id(number),
                filters: vec![ByteStr::from("a")],
                user_properties: UserProperties::new(),
            });
            tokens.extend(side.feed(&request).expect("a valid UNSUBSCRIBE"));
        }
        assert_eq!(side.hold(), Some(Hold::Acknowledgements));
        assert!(tokens.len() < 2_000);
    }
}

#[test]
fn an_error_code_affects_its_own_exchange_only() {
    // [U5-112]
    for role in [Role::Client, Role::Server] {
        let mut side = Driven::connected(role, ProtocolVersion::V5);
        side.publish(QoS::AtLeastOnce, 1).expect("room");
        side.publish(QoS::AtLeastOnce, 2).expect("room");
        side.feed_one(&Packet::PubAck(failed(1, ReasonCode::UnspecifiedError)));
        assert_eq!(side.feed_one(&pub_ack(2)).delivered().1, 2);
        assert!(!side.is_closing());
    }
}
