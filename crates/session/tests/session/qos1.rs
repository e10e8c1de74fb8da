//! QoS 1: the tables of sender and receiver, in both roles and all versions.

use whimbrel_session::codec::{Delivery, Packet, PacketType, ProtocolVersion, QoS, ReasonCode};
use whimbrel_session::{ProtocolError, Refused};

use crate::support::{
    Driven, Role, Seen, Setup, VERSIONS, everywhere, failed, id, pub_ack, pub_comp, pub_rec,
    publish, publish_again,
};

/// Packet id, DUP and payload of a PUBLISH.
pub(crate) fn publish_of(packet: &Packet) -> (Delivery, String) {
    let Packet::Publish(publish) = packet else {
        panic!("{packet:?} is no PUBLISH");
    };
    let payload = String::from_utf8_lossy(publish.payload()).into_owned();
    (publish.delivery(), payload)
}

#[test]
fn a_message_is_sent_with_a_fresh_id_and_without_dup() {
    // [3:MQTT-2.3.1-2] [3:MQTT-2.3.1-4] [3:MQTT-4.3.2-1] [5:MQTT-2.2.1-3] [5:MQTT-2.2.1-4]
    // [5:MQTT-4.3.2-1] [5:MQTT-4.3.2-2]
    for (role, version) in everywhere() {
        let mut side = Driven::connected(role, version);
        for number in 1..=3 {
            side.publish(QoS::AtLeastOnce, u32::from(number))
                .expect("room");
            let first = Delivery::AtLeastOnce {
                id: id(number),
                dup: false,
            };
            assert_eq!(publish_of(&side.sent_one()), (first, number.to_string()));
        }
        assert_eq!(side.in_flight(), 3);
    }
}

#[test]
fn puback_ends_the_exchange_and_gives_quota_and_id_back() {
    // [3:MQTT-2.3.1-3] [3:MQTT-4.3.2-1] [5:MQTT-4.3.2-3] [U5-009] [U5-107]
    for (role, version) in everywhere() {
        let mut side = Setup::new(version).peer_receive_maximum(1).connect(role);
        side.publish(QoS::AtLeastOnce, 7).expect("room");
        assert_eq!(
            side.publish(QoS::AtLeastOnce, 8),
            Err(Refused::WindowFull(8))
        );
        let delivered = side.feed_one(&pub_ack(1)).delivered();
        assert_eq!(delivered, (1, 7, ReasonCode::Success));
        side.publish(QoS::AtLeastOnce, 8).expect("room again");
    }
}

#[test]
fn an_error_puback_ends_the_exchange_and_nothing_is_resent() {
    // [5:MQTT-4.4.0-2] [U5-112] [U5-013]
    for role in [Role::Client, Role::Server] {
        let version = ProtocolVersion::V5;
        let mut side = Driven::connected(role, version);
        side.publish(QoS::AtLeastOnce, 7).expect("room");
        let refusal = Packet::PubAck(failed(1, ReasonCode::QuotaExceeded));
        let delivered = side.feed_one(&refusal).delivered();
        assert_eq!(delivered, (1, 7, ReasonCode::QuotaExceeded));
        assert_eq!(side.in_flight(), 0);
        assert!(!side.is_closing());
        let mut side = Setup::new(version).resuming(side.lose()).connect(role);
        assert_eq!(side.resend(), [0; 0]);
    }
}

#[test]
fn an_acknowledgement_of_qos_2_breaks_the_protocol() {
    for (role, version) in everywhere() {
        for ack in [pub_rec(1), pub_comp(1)] {
            let mut side = Driven::connected(role, version);
            side.publish(QoS::AtLeastOnce, 7).expect("room");
            let packet_type = ack.packet_type();
            let error = side.feed(&ack).expect_err("the wrong acknowledgement");
            assert_eq!(error, ProtocolError::UnexpectedAck { packet_type });
            assert_eq!(error.reason_code(), ReasonCode::ProtocolError);
            assert!(side.is_closing());
        }
    }
}

#[test]
fn puback_for_a_free_id_is_ignored_and_raises_no_quota() {
    // D7
    for (role, version) in everywhere() {
        let mut side = Setup::new(version).peer_receive_maximum(2).connect(role);
        side.publish(QoS::AtLeastOnce, 1).expect("room");
        side.feed_silent(&pub_ack(9));
        side.feed_one(&pub_ack(1));
        side.feed_silent(&pub_ack(1));
        assert_eq!(side.in_flight(), 0);
        for item in [2, 3] {
            side.publish(QoS::AtLeastOnce, item).expect("room");
        }
        assert_eq!(
            side.publish(QoS::AtLeastOnce, 4),
            Err(Refused::WindowFull(4))
        );
    }
}

#[test]
fn a_resumed_session_resends_with_dup_and_the_old_id() {
    // [3:MQTT-2.3.1-3] [3:MQTT-3.3.1-1] [3:MQTT-4.4.0-1] [5:MQTT-3.3.1-1] [5:MQTT-4.4.0-1]
    for (role, version) in everywhere() {
        let mut side = Driven::connected(role, version);
        side.publish(QoS::AtLeastOnce, 7).expect("room");
        let mut side = Setup::new(version).resuming(side.lose()).connect(role);
        assert_eq!(side.resend(), [7]);
        let again = Delivery::AtLeastOnce {
            id: id(1),
            dup: true,
        };
        assert_eq!(publish_of(&side.sent_one()), (again, "7".to_owned()));
        let delivered = side.feed_one(&pub_ack(1)).delivered();
        assert_eq!(delivered, (1, 7, ReasonCode::Success));
    }
}

#[test]
fn nothing_is_resent_on_a_live_connection() {
    // [5:MQTT-4.4.0-1] [U311-012] (D12)
    for (role, version) in everywhere() {
        let mut side = Driven::connected(role, version);
        side.publish(QoS::AtLeastOnce, 7).expect("room");
        side.sent();
        assert_eq!(side.resend(), [0; 0]);
        assert!(side.sent().is_empty());
    }
}

#[test]
fn a_received_message_is_acknowledged_when_the_owner_says_so() {
    // [3:MQTT-2.3.1-6] [3:MQTT-3.3.4-1] [3:MQTT-4.3.2-2] [5:MQTT-2.2.1-5] [5:MQTT-3.3.4-1]
    // [5:MQTT-4.3.2-4]
    for (role, version) in everywhere() {
        let mut side = Driven::connected(role, version);
        let seen = side.feed_one(&publish(QoS::AtLeastOnce, 9, "m"));
        assert!(matches!(&seen, Seen::Publish { payload, .. } if payload == "m"));
        let token = seen.token();
        assert_eq!(token.packet_id(), id(9));
        assert_eq!(token.acknowledged_by(), PacketType::PubAck);
        assert!(side.sent().is_empty());
        side.ack(token);
        assert_eq!(side.sent_one(), pub_ack(9));
    }
}

#[test]
fn after_puback_the_same_id_is_a_new_message_whatever_dup_says() {
    // [3:MQTT-4.3.2-2] [5:MQTT-4.3.2-5] [U31-006] [U311-012]
    for (role, version) in everywhere() {
        let mut side = Driven::connected(role, version);
        for packet in [
            publish(QoS::AtLeastOnce, 9, "m"),
            publish_again(QoS::AtLeastOnce, 9, "m"),
            publish(QoS::AtLeastOnce, 9, "m"),
        ] {
            let token = side.feed_one(&packet).token();
            side.ack(token);
        }
        assert_eq!(side.sent(), [pub_ack(9), pub_ack(9), pub_ack(9)]);
    }
}

#[test]
fn a_refusal_is_told_in_version_5_and_acknowledged_before() {
    // [3:MQTT-3.3.5-2] D2
    for (role, version) in everywhere() {
        let mut side = Driven::connected(role, version);
        let token = side.feed_one(&publish(QoS::AtLeastOnce, 9, "m")).token();
        side.ack_with(token, ReasonCode::NotAuthorized);
        let expected = if version.is_v5() {
            Packet::PubAck(failed(9, ReasonCode::NotAuthorized))
        } else {
            pub_ack(9)
        };
        assert_eq!(side.sent_one(), expected);
    }
}

#[test]
fn pubacks_leave_in_the_order_of_receipt() {
    // [3:MQTT-4.6.0-2] [5:MQTT-4.6.0-2]
    for (role, version) in everywhere() {
        let mut side = Driven::connected(role, version);
        let tokens = [4, 2, 3].map(|number| {
            side.feed_one(&publish(QoS::AtLeastOnce, number, "m"))
                .token()
        });
        let [first, second, third] = tokens;
        side.ack(third);
        side.ack(second);
        assert!(side.sent().is_empty());
        side.ack(first);
        assert_eq!(side.sent(), [pub_ack(4), pub_ack(2), pub_ack(3)]);
    }
}

#[test]
fn a_withheld_acknowledgement_holds_back_no_other() {
    for version in VERSIONS {
        let mut side = Driven::connected(Role::Server, version);
        let first = side.feed_one(&publish(QoS::AtLeastOnce, 1, "m")).token();
        let second = side.feed_one(&publish(QoS::AtLeastOnce, 2, "m")).token();
        side.ack(second);
        side.withhold(first);
        assert_eq!(side.sent_one(), pub_ack(2));
    }
}

#[test]
fn qos_0_needs_no_acknowledgement_and_no_quota() {
    // [3:MQTT-3.3.1-2] [3:MQTT-3.3.4-1] [3:MQTT-4.3.1-1] [5:MQTT-3.3.1-2] [5:MQTT-3.3.4-1]
    // [5:MQTT-4.3.1-1] [5:MQTT-4.9.0-2]
    for (role, version) in everywhere() {
        let mut side = Setup::new(version).peer_receive_maximum(1).connect(role);
        side.publish(QoS::AtLeastOnce, 1).expect("room");
        side.sent();
        side.publish(QoS::AtMostOnce, 2).expect("no room needed");
        let sent = publish_of(&side.sent_one());
        assert_eq!(sent, (Delivery::AtMostOnce, "2".to_owned()));
        let seen = side.feed_one(&publish(QoS::AtMostOnce, 1, "m"));
        assert!(matches!(seen, Seen::Publish { token: None, .. }));
    }
}
