//! QoS 2: the tables of sender and receiver, in both roles and all versions.

use whimbrel_session::codec::{Delivery, Packet, PacketType, ProtocolVersion, QoS, ReasonCode};
use whimbrel_session::{Epoch, ProtocolError, Refused, Tick};

use crate::qos1::publish_of;
use crate::support::{
    Driven, Role, Seen, Setup, VERSIONS, everywhere, failed, id, not_found, pub_ack, pub_comp,
    pub_rec, pub_rel, publish, publish_again,
};

/// A side that has sent message 7 under id 1.
fn sender(role: Role, version: ProtocolVersion) -> Driven {
    let mut side = Driven::connected(role, version);
    side.publish(QoS::ExactlyOnce, 7).expect("room");
    side.sent();
    side
}

/// A side that has sent PUBREL for message 7 under id 1.
fn released(role: Role, version: ProtocolVersion) -> Driven {
    let mut side = sender(role, version);
    let token = side.feed_one(&pub_rec(1)).token();
    side.ack(token);
    side.sent();
    side
}

/// A side that has sent PUBREC for id 9.
fn holder(role: Role, version: ProtocolVersion) -> Driven {
    let mut side = Driven::connected(role, version);
    let token = side.feed_one(&publish(QoS::ExactlyOnce, 9, "m")).token();
    side.ack(token);
    assert_eq!(side.sent_one(), pub_rec(9));
    side
}

#[test]
fn a_message_is_sent_with_a_fresh_id_and_without_dup() {
    // [3:MQTT-4.3.3-1] [5:MQTT-4.3.3-1] [5:MQTT-4.3.3-2]
    for (role, version) in everywhere() {
        let mut side = Driven::connected(role, version);
        side.publish(QoS::ExactlyOnce, 7).expect("room");
        let first = Delivery::ExactlyOnce {
            id: id(1),
            dup: false,
        };
        assert_eq!(publish_of(&side.sent_one()), (first, "7".to_owned()));
    }
}

#[test]
fn pubrec_leads_to_pubrel_once_it_is_recorded() {
    // [3:MQTT-2.3.1-6] [3:MQTT-4.3.3-1] [5:MQTT-2.2.1-5] [5:MQTT-4.3.3-4]
    for (role, version) in everywhere() {
        let mut side = sender(role, version);
        let seen = side.feed_one(&pub_rec(1));
        assert!(matches!(seen, Seen::Received { packet_id, .. } if packet_id == id(1)));
        let token = seen.token();
        assert_eq!(token.acknowledged_by(), PacketType::PubRel);
        assert!(side.sent().is_empty());
        side.ack(token);
        assert_eq!(side.sent_one(), pub_rel(1));
        assert_eq!(side.in_flight(), 1);
    }
}

#[test]
fn an_error_pubrec_ends_the_exchange_without_pubrel() {
    // [5:MQTT-4.4.0-2] [U5-054]
    for role in [Role::Client, Role::Server] {
        let mut side = sender(role, ProtocolVersion::V5);
        let refusal = Packet::PubRec(failed(1, ReasonCode::NotAuthorized));
        let delivered = side.feed_one(&refusal).delivered();
        assert_eq!(delivered, (1, 7, ReasonCode::NotAuthorized));
        assert!(side.sent().is_empty());
        assert_eq!(side.in_flight(), 0);
    }
}

#[test]
fn an_unreleased_message_is_resent_with_dup_and_the_old_id() {
    // [3:MQTT-3.3.1-1] [3:MQTT-4.3.3-1] [3:MQTT-4.4.0-1] [5:MQTT-3.3.1-1] [5:MQTT-4.3.3-3]
    // [5:MQTT-4.4.0-1]
    for (role, version) in everywhere() {
        let side = sender(role, version);
        let mut side = Setup::new(version).resuming(side.lose()).connect(role);
        assert_eq!(side.resend(), [7]);
        let again = Delivery::ExactlyOnce {
            id: id(1),
            dup: true,
        };
        assert_eq!(publish_of(&side.sent_one()), (again, "7".to_owned()));
    }
}

#[test]
fn pubcomp_before_pubrel_breaks_the_protocol() {
    for (role, version) in everywhere() {
        for recorded in [false, true] {
            let mut side = sender(role, version);
            if recorded {
                let _waits = side.feed_one(&pub_rec(1));
            }
            let packet_type = PacketType::PubComp;
            let error = side.feed(&pub_comp(1)).expect_err("out of order");
            assert_eq!(error, ProtocolError::UnexpectedAck { packet_type });
        }
    }
}

#[test]
fn puback_for_a_qos_2_message_breaks_the_protocol() {
    // D8
    for (role, version) in everywhere() {
        let mut side = sender(role, version);
        let packet_type = PacketType::PubAck;
        let error = side
            .feed(&pub_ack(1))
            .expect_err("the wrong acknowledgement");
        assert_eq!(error, ProtocolError::UnexpectedAck { packet_type });
    }
}

#[test]
fn a_repeated_pubrec_gets_pubrel_again() {
    for (role, version) in everywhere() {
        let mut side = released(role, version);
        side.feed_silent(&pub_rec(1));
        assert_eq!(side.sent_one(), pub_rel(1));
        assert_eq!(side.in_flight(), 1);
    }
}

#[test]
fn a_pubrec_repeated_before_the_record_gets_one_pubrel() {
    for (role, version) in everywhere() {
        let mut side = sender(role, version);
        let token = side.feed_one(&pub_rec(1)).token();
        side.feed_silent(&pub_rec(1));
        side.ack(token);
        assert_eq!(side.sent_one(), pub_rel(1));
    }
}

#[test]
fn an_error_pubrec_after_pubrel_ends_the_exchange() {
    for role in [Role::Client, Role::Server] {
        let mut side = released(role, ProtocolVersion::V5);
        let odd = Packet::PubRec(failed(1, ReasonCode::UnspecifiedError));
        let delivered = side.feed_one(&odd).delivered();
        assert_eq!(delivered, (1, 7, ReasonCode::UnspecifiedError));
        assert_eq!(side.in_flight(), 0);
    }
}

#[test]
fn an_error_pubrec_while_the_record_is_written_changes_nothing() {
    for role in [Role::Client, Role::Server] {
        let mut side = sender(role, ProtocolVersion::V5);
        let token = side.feed_one(&pub_rec(1)).token();
        side.feed_silent(&Packet::PubRec(failed(1, ReasonCode::UnspecifiedError)));
        side.ack(token);
        assert_eq!(side.sent_one(), pub_rel(1));
    }
}

#[test]
fn pubcomp_with_any_code_ends_the_exchange() {
    // [3:MQTT-4.3.3-1] [5:MQTT-4.3.3-5] [U5-009] [U5-107]
    for (role, version) in everywhere() {
        let mut side = released(role, version);
        assert_eq!(
            side.feed_one(&pub_comp(1)).delivered(),
            (1, 7, ReasonCode::Success)
        );
        assert_eq!(side.in_flight(), 0);
        let reason = ReasonCode::PacketIdentifierNotFound;
        if version.is_v5() {
            let mut side = released(role, version);
            let unknown = Packet::PubComp(failed(1, reason));
            assert_eq!(side.feed_one(&unknown).delivered(), (1, 7, reason));
            assert_eq!(side.in_flight(), 0);
        }
    }
}

#[test]
fn after_pubrel_only_pubrel_is_resent() {
    // [3:MQTT-4.3.3-1] [3:MQTT-4.4.0-1] [5:MQTT-4.3.3-5] [5:MQTT-4.3.3-6] [5:MQTT-4.4.0-1]
    for (role, version) in everywhere() {
        let side = released(role, version);
        let mut side = Setup::new(version).resuming(side.lose()).connect(role);
        assert_eq!(side.sent_one(), pub_rel(1));
        assert!(!side.is_resending());
        assert_eq!(side.resend(), [0; 0]);
        assert_eq!(
            side.feed_one(&pub_comp(1)).delivered(),
            (1, 7, ReasonCode::Success)
        );
    }
}

#[test]
fn a_pubrec_whose_record_was_never_confirmed_counts_as_not_received() {
    for (role, version) in everywhere() {
        let mut side = sender(role, version);
        let stale = side.feed_one(&pub_rec(1)).token();
        let mut side = Setup::new(version).resuming(side.lose()).connect(role);
        side.ack(stale);
        assert!(side.sent().is_empty());
        assert_eq!(side.resend(), [7]);
    }
}

#[test]
fn pubrec_for_a_free_id_is_answered_with_pubrel() {
    for (role, version) in everywhere() {
        let mut side = Driven::connected(role, version);
        side.feed_silent(&pub_rec(5));
        assert_eq!(side.sent_one(), Packet::PubRel(not_found(5, version)));
    }
}

#[test]
fn an_error_pubrec_for_a_free_id_is_ignored() {
    for role in [Role::Client, Role::Server] {
        let mut side = Driven::connected(role, ProtocolVersion::V5);
        side.feed_silent(&Packet::PubRec(failed(5, ReasonCode::UnspecifiedError)));
        assert!(side.sent().is_empty());
    }
}

#[test]
fn pubcomp_for_a_free_id_is_ignored() {
    // D7
    for (role, version) in everywhere() {
        let mut side = Driven::connected(role, version);
        side.feed_silent(&pub_comp(5));
        assert!(side.sent().is_empty());
    }
}

#[test]
fn pubrels_leave_in_the_order_of_their_pubrecs() {
    // [3:MQTT-4.6.0-4] [5:MQTT-4.6.0-4]
    for (role, version) in everywhere() {
        let mut side = Driven::connected(role, version);
        for item in 1..=3 {
            side.publish(QoS::ExactlyOnce, item).expect("room");
        }
        side.sent();
        let tokens = [3, 1, 2].map(|number| side.feed_one(&pub_rec(number)).token());
        for token in tokens.into_iter().rev() {
            side.ack(token);
        }
        assert_eq!(side.sent(), [pub_rel(3), pub_rel(1), pub_rel(2)]);
    }
}

#[test]
fn pubrecs_leave_in_the_order_of_their_publications() {
    // [3:MQTT-4.6.0-3] [5:MQTT-4.6.0-3]
    for (role, version) in everywhere() {
        let mut side = Driven::connected(role, version);
        let tokens = [4, 2, 3].map(|number| {
            side.feed_one(&publish(QoS::ExactlyOnce, number, "m"))
                .token()
        });
        for token in tokens.into_iter().rev() {
            side.ack(token);
        }
        assert_eq!(side.sent(), [pub_rec(4), pub_rec(2), pub_rec(3)]);
    }
}

#[test]
fn one_id_may_be_in_use_both_ways_at_once() {
    // [U311-003] [U5-008]
    for (role, version) in everywhere() {
        let mut side = sender(role, version);
        let token = side.feed_one(&publish(QoS::ExactlyOnce, 1, "m")).token();
        side.ack(token);
        let token = side.feed_one(&pub_rec(1)).token();
        side.ack(token);
        assert_eq!(side.sent(), [pub_rec(1), pub_rel(1)]);
        let token = side.feed_one(&pub_rel(1)).token();
        side.ack(token);
        assert_eq!(side.sent_one(), pub_comp(1));
        assert_eq!(side.feed_one(&pub_comp(1)).delivered().1, 7);
    }
}

#[test]
fn an_expired_message_is_resent_and_its_handshake_finished() {
    for role in [Role::Client, Role::Server] {
        let version = ProtocolVersion::V5;
        let mut sent = sender(role, version);
        assert_eq!(sent.wait_until(Tick(u64::MAX / 2)), None);
        let mut side = Setup::new(version).resuming(sent.lose()).connect(role);
        assert_eq!(side.resend(), [7]);
        let mut held = holder(role, version);
        assert_eq!(held.wait_until(Tick(u64::MAX / 2)), None);
        let token = held.feed_one(&pub_rel(9)).token();
        held.ack(token);
        assert_eq!(held.sent_one(), pub_comp(9));
    }
}

#[test]
fn the_item_can_be_let_go_of_when_the_peer_has_the_message() {
    for (role, version) in everywhere() {
        let mut side = sender(role, version);
        let token = side.feed_one(&pub_rec(1)).token();
        let item = match &mut side.side {
            crate::support::Side::Client(client) => client.item_mut(id(1)),
            crate::support::Side::Server(server) => server.item_mut(id(1)),
        };
        *item.expect("an open exchange") = 0;
        side.ack(token);
        assert_eq!(
            side.feed_one(&pub_comp(1)).delivered(),
            (1, 0, ReasonCode::Success)
        );
    }
}

#[test]
fn a_received_message_is_delivered_once_and_acknowledged_in_two_steps() {
    // [3:MQTT-2.3.1-6] [3:MQTT-3.3.4-1] [3:MQTT-4.3.3-2] [5:MQTT-2.2.1-5] [5:MQTT-3.3.4-1]
    // [5:MQTT-4.3.3-8] [5:MQTT-4.3.3-11]
    for (role, version) in everywhere() {
        let mut side = holder(role, version);
        let seen = side.feed_one(&pub_rel(9));
        assert!(matches!(seen, Seen::Release { packet_id, .. } if packet_id == id(9)));
        assert!(side.sent().is_empty());
        side.ack(seen.token());
        assert_eq!(side.sent_one(), pub_comp(9));
    }
}

#[test]
fn a_repeat_of_a_held_id_gets_pubrec_and_is_not_delivered() {
    // [3:MQTT-4.3.3-2] [5:MQTT-4.3.3-10] [U31-006] (D9)
    for (role, version) in everywhere() {
        let mut side = holder(role, version);
        side.feed_silent(&publish_again(QoS::ExactlyOnce, 9, "m"));
        side.feed_silent(&publish(QoS::ExactlyOnce, 9, "other"));
        assert_eq!(side.sent(), [pub_rec(9), pub_rec(9)]);
    }
}

#[test]
fn a_repeat_before_pubrec_is_answered_after_it() {
    for (role, version) in everywhere() {
        let mut side = Driven::connected(role, version);
        let token = side.feed_one(&publish(QoS::ExactlyOnce, 9, "m")).token();
        side.feed_silent(&publish_again(QoS::ExactlyOnce, 9, "m"));
        assert!(side.sent().is_empty());
        side.ack(token);
        assert_eq!(side.sent(), [pub_rec(9), pub_rec(9)]);
    }
}

#[test]
fn a_repeat_before_an_error_pubrec_gets_no_success() {
    for role in [Role::Client, Role::Server] {
        let mut side = Driven::connected(role, ProtocolVersion::V5);
        let token = side.feed_one(&publish(QoS::ExactlyOnce, 9, "m")).token();
        side.feed_silent(&publish_again(QoS::ExactlyOnce, 9, "m"));
        side.ack_with(token, ReasonCode::QuotaExceeded);
        let refusal = Packet::PubRec(failed(9, ReasonCode::QuotaExceeded));
        assert_eq!(side.sent_one(), refusal);
    }
}

#[test]
fn dup_with_an_unknown_id_is_a_new_message() {
    // D10
    for (role, version) in everywhere() {
        let mut side = Driven::connected(role, version);
        let seen = side.feed_one(&publish_again(QoS::ExactlyOnce, 9, "m"));
        assert!(matches!(seen, Seen::Publish { .. }));
    }
}

#[test]
fn after_an_error_pubrec_the_id_is_a_new_message() {
    // [5:MQTT-4.3.3-9]
    for role in [Role::Client, Role::Server] {
        let mut side = Driven::connected(role, ProtocolVersion::V5);
        for _ in 0..2 {
            let token = side.feed_one(&publish(QoS::ExactlyOnce, 9, "m")).token();
            side.ack_with(token, ReasonCode::QuotaExceeded);
        }
        assert_eq!(side.sent().len(), 2);
    }
}

#[test]
fn a_refusal_in_3_x_is_a_plain_pubrec_and_the_id_is_held() {
    // D2
    for role in [Role::Client, Role::Server] {
        for version in [ProtocolVersion::V31, ProtocolVersion::V311] {
            let mut side = Driven::connected(role, version);
            let token = side.feed_one(&publish(QoS::ExactlyOnce, 9, "m")).token();
            side.ack_with(token, ReasonCode::NotAuthorized);
            side.feed_silent(&publish_again(QoS::ExactlyOnce, 9, "m"));
            assert_eq!(side.sent(), [pub_rec(9), pub_rec(9)]);
        }
    }
}

#[test]
fn after_pubcomp_the_id_is_a_new_message() {
    // [3:MQTT-4.3.3-2] [5:MQTT-4.3.3-12]
    for (role, version) in everywhere() {
        let mut side = holder(role, version);
        let token = side.feed_one(&pub_rel(9)).token();
        side.ack(token);
        let seen = side.feed_one(&publish_again(QoS::ExactlyOnce, 9, "m"));
        assert!(matches!(seen, Seen::Publish { .. }));
    }
}

#[test]
fn pubrel_for_an_unknown_id_gets_packet_identifier_not_found() {
    // D6: normal after a lost PUBCOMP.
    for (role, version) in everywhere() {
        let mut side = Driven::connected(role, version);
        side.feed_silent(&pub_rel(9));
        assert_eq!(side.sent_one(), Packet::PubComp(not_found(9, version)));
        assert!(!side.is_closing());
    }
}

#[test]
fn a_repeated_pubrel_gets_one_pubcomp_each() {
    for (role, version) in everywhere() {
        let mut side = holder(role, version);
        let token = side.feed_one(&pub_rel(9)).token();
        side.feed_silent(&pub_rel(9));
        assert!(side.sent().is_empty());
        side.ack(token);
        assert_eq!(side.sent(), [pub_comp(9), pub_comp(9)]);
    }
}

#[test]
fn pubrel_before_pubrec_breaks_the_protocol() {
    for (role, version) in everywhere() {
        let mut side = Driven::connected(role, version);
        let _waits = side.feed_one(&publish(QoS::ExactlyOnce, 9, "m"));
        let error = side.feed(&pub_rel(9)).expect_err("out of order");
        assert_eq!(error, ProtocolError::ReleaseBeforeReceived);
    }
}

#[test]
fn a_held_id_outlives_the_connection() {
    // [3:MQTT-3.1.2-4] [3:MQTT-4.1.0-1] [3:MQTT-4.3.3-2] [5:MQTT-3.1.2-23] [5:MQTT-4.3.3-10]
    for (role, version) in everywhere() {
        let side = holder(role, version);
        let mut side = Setup::new(version).resuming(side.lose()).connect(role);
        side.feed_silent(&publish_again(QoS::ExactlyOnce, 9, "m"));
        assert_eq!(side.sent_one(), pub_rec(9));
        let token = side.feed_one(&pub_rel(9)).token();
        side.ack(token);
        assert_eq!(side.sent_one(), pub_comp(9));
    }
}

#[test]
fn a_message_that_was_being_accepted_is_not_delivered_again() {
    for (role, version) in everywhere() {
        let mut side = Driven::connected(role, version);
        let _begun = side.feed_one(&publish(QoS::ExactlyOnce, 9, "m"));
        let mut side = Setup::new(version).resuming(side.lose()).connect(role);
        side.feed_silent(&publish_again(QoS::ExactlyOnce, 9, "m"));
        assert_eq!(side.sent_one(), pub_rec(9));
    }
}

#[test]
fn a_message_refused_after_the_connection_was_lost_is_new_when_it_comes_again() {
    for (role, version) in everywhere() {
        let mut side = Driven::connected(role, version);
        let token = side.feed_one(&publish(QoS::ExactlyOnce, 9, "m")).token();
        let mut session = side.lose();
        session.settle(token, ReasonCode::QuotaExceeded);
        assert!(session.is_empty());
        let mut side = Setup::new(version).resuming(session).connect(role);
        let seen = side.feed_one(&publish_again(QoS::ExactlyOnce, 9, "m"));
        assert!(matches!(seen, Seen::Publish { .. }));
    }
}

#[test]
fn a_release_finished_after_the_connection_was_lost_frees_the_id() {
    for (role, version) in everywhere() {
        let mut side = holder(role, version);
        let token = side.feed_one(&pub_rel(9)).token();
        let mut session = side.lose();
        session.settle(token, ReasonCode::Success);
        assert!(session.is_empty());
        let mut side = Setup::new(version).resuming(session).connect(role);
        side.feed_silent(&pub_rel(9));
        assert_eq!(side.sent_one(), Packet::PubComp(not_found(9, version)));
    }
}

#[test]
fn an_answer_that_waited_for_its_turn_counts_when_the_connection_is_lost() {
    for role in [Role::Client, Role::Server] {
        let version = ProtocolVersion::V5;
        let mut side = Driven::connected(role, version);
        let _first = side.feed_one(&publish(QoS::AtLeastOnce, 1, "m"));
        let token = side.feed_one(&publish(QoS::ExactlyOnce, 9, "m")).token();
        side.ack_with(token, ReasonCode::QuotaExceeded);
        assert!(side.sent().is_empty());
        assert_eq!(side.lose().held().len(), 0);
    }
}

#[test]
fn a_withheld_pubrec_leaves_the_id_free_for_a_repeat() {
    for version in [ProtocolVersion::V31, ProtocolVersion::V311] {
        let mut side = Driven::connected(Role::Server, version);
        let token = side.feed_one(&publish(QoS::ExactlyOnce, 9, "m")).token();
        side.withhold(token);
        assert!(side.sent().is_empty());
        let mut side = Setup::new(version)
            .resuming(side.lose())
            .connect(Role::Server);
        let seen = side.feed_one(&publish_again(QoS::ExactlyOnce, 9, "m"));
        assert!(matches!(seen, Seen::Publish { .. }));
    }
}

#[test]
fn a_withheld_pubcomp_lets_pubrel_come_again() {
    for (role, version) in everywhere() {
        let mut side = holder(role, version);
        let token = side.feed_one(&pub_rel(9)).token();
        side.withhold(token);
        assert!(side.sent().is_empty());
        let seen = side.feed_one(&pub_rel(9));
        assert!(matches!(seen, Seen::Release { .. }));
    }
}

#[test]
fn a_qos_2_message_holds_its_quota_until_pubcomp() {
    // [5:MQTT-4.9.0-2] [U5-107]
    for (role, version) in everywhere() {
        let mut side = Setup::new(version).peer_receive_maximum(1).connect(role);
        side.publish(QoS::ExactlyOnce, 7).expect("room");
        let token = side.feed_one(&pub_rec(1)).token();
        side.ack(token);
        let full = side.publish(QoS::AtLeastOnce, 8);
        assert_eq!(full, Err(Refused::WindowFull(8)));
        side.feed_one(&pub_comp(1));
        side.publish(QoS::AtLeastOnce, 8).expect("room again");
    }
}

#[test]
fn tokens_of_an_earlier_connection_do_nothing() {
    for version in VERSIONS {
        let mut side = Driven::connected(Role::Server, version);
        let stale = side.feed_one(&publish(QoS::ExactlyOnce, 9, "m")).token();
        let mut setup = Setup::new(version).resuming(side.lose());
        setup.epoch = Epoch(7);
        let mut side = setup.connect(Role::Server);
        let current = side.feed_one(&publish(QoS::ExactlyOnce, 10, "m")).token();
        side.ack(stale);
        assert!(side.sent().is_empty());
        side.ack(current);
        assert_eq!(side.sent_one(), pub_rec(10));
    }
}
