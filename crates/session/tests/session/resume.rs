//! What a resumed session sends again, in which order, and what it does not.

use whimbrel_session::codec::{Packet, ProtocolVersion, QoS};
use whimbrel_session::{
    Exchange, Refused, ResendRefused, Resent, RestoreError, SessionParts, SessionState, Stage,
};

use crate::qos1::publish_of;
use crate::support::{
    Driven, Role, Setup, VERSIONS, everywhere, id, items, pub_ack, pub_comp, pub_rec, pub_rel,
};

/// A session with open QoS 1 and 2 messages, some of them released in another order than sent:
/// 1 and 4 await PUBACK, 3 awaits PUBREC, 5 and 2 await PUBCOMP.
fn mixed(role: Role, version: ProtocolVersion) -> SessionState<u32> {
    let mut side = Driven::connected(role, version);
    for (item, qos) in [
        (1, QoS::AtLeastOnce),
        (2, QoS::ExactlyOnce),
        (3, QoS::ExactlyOnce),
        (4, QoS::AtLeastOnce),
        (5, QoS::ExactlyOnce),
    ] {
        side.publish(qos, item).expect("room");
    }
    for number in [5, 2] {
        let token = side.feed_one(&pub_rec(number)).token();
        side.ack(token);
    }
    side.lose()
}

#[test]
fn pubrels_then_publications_are_resent_in_their_orders() {
    // [3:MQTT-4.4.0-1] [3:MQTT-4.6.0-1] [3:MQTT-4.6.0-4] [5:MQTT-4.4.0-1] [5:MQTT-4.6.0-1]
    // [5:MQTT-4.6.0-4]
    for (role, version) in everywhere() {
        let session = mixed(role, version);
        let mut side = Setup::new(version).resuming(session).connect(role);
        assert_eq!(side.sent(), [pub_rel(5), pub_rel(2)]);
        assert_eq!(side.resend(), [1, 3, 4]);
        let sent = side.sent();
        for (packet, number) in sent.iter().zip([1, 3, 4]) {
            let (delivery, _) = publish_of(packet);
            assert_eq!(delivery.packet_id(), Some(id(number)));
            assert!(delivery.dup());
        }
        assert!(!side.is_resending());
    }
}

#[test]
fn nothing_new_is_sent_before_everything_is_resent() {
    // [3:MQTT-4.6.0-1] [5:MQTT-4.6.0-1]
    for (role, version) in everywhere() {
        let session = mixed(role, version);
        let mut side = Setup::new(version).resuming(session).connect(role);
        let early = side.publish(QoS::AtLeastOnce, 6);
        assert_eq!(early, Err(Refused::Resending(6)));
        side.publish(QoS::AtMostOnce, 6).expect("QoS 0 may pass");
        assert_eq!(side.resend(), [1, 3, 4]);
        side.publish(QoS::AtLeastOnce, 6).expect("all is resent");
        let sent = side.sent();
        let (delivery, _) = publish_of(sent.last().expect("just sent"));
        assert_eq!(delivery.packet_id(), Some(id(6)));
        assert!(!delivery.dup());
    }
}

#[test]
fn a_smaller_quota_holds_back_publications_but_not_pubrels() {
    // [5:MQTT-4.9.0-2] [5:MQTT-4.9.0-3] [U5-108]
    for (role, version) in everywhere() {
        let session = mixed(role, version);
        let setup = Setup::new(version).peer_receive_maximum(1);
        let mut side = setup.resuming(session).connect(role);
        assert_eq!(side.sent(), [pub_rel(5), pub_rel(2)]);
        assert_eq!(side.resend(), [1]);
        assert_eq!(side.in_flight(), 1);
        assert!(side.is_resending());
        side.feed_one(&pub_ack(1));
        assert_eq!(side.resend(), [3]);
        let token = side.feed_one(&pub_rec(3)).token();
        side.ack(token);
        assert_eq!(side.resend(), [0; 0]);
        side.feed_one(&pub_comp(3));
        assert_eq!(side.resend(), [4]);
        assert!(!side.is_resending());
    }
}

#[test]
fn pubcomp_for_a_resent_pubrel_raises_no_quota() {
    // [5:MQTT-3.3.4-7] [5:MQTT-3.3.4-9] [U5-107]
    for (role, version) in everywhere() {
        let session = mixed(role, version);
        let setup = Setup::new(version).peer_receive_maximum(2);
        let mut side = setup.resuming(session).connect(role);
        assert_eq!(side.resend(), [1, 3]);
        side.feed_one(&pub_comp(5));
        side.feed_one(&pub_comp(2));
        assert_eq!(side.in_flight(), 2);
        assert_eq!(side.resend(), [0; 0]);
    }
}

#[test]
fn what_the_peer_acknowledges_unasked_is_not_resent() {
    for (role, version) in everywhere() {
        let session = mixed(role, version);
        let mut side = Setup::new(version).resuming(session).connect(role);
        side.feed_one(&pub_ack(1));
        side.feed_one(&pub_ack(4));
        let token = side.feed_one(&pub_rec(3)).token();
        side.ack(token);
        assert_eq!(side.resend(), [0; 0]);
        assert!(!side.is_resending());
        assert_eq!(side.in_flight(), 0);
    }
}

#[test]
fn a_full_output_holds_back_resends() {
    for (role, version) in everywhere() {
        let session = mixed(role, version);
        let mut setup = Setup::new(version);
        setup.server.output_bytes_max = 12;
        setup.client.output_bytes_max = 12;
        let mut side = setup.resuming(session).connect(role);
        // The handshake was taken out, and the PUBRELs that went with it.
        side.sent();
        let mut resent = Vec::new();
        let mut rounds = 0;
        while side.is_resending() {
            resent.extend(side.resend());
            assert!(!side.sent().is_empty());
            rounds += 1;
        }
        assert_eq!(resent, [1, 3, 4]);
        assert!(rounds > 1);
    }
}

#[test]
fn a_full_output_refuses_one_resend_as_a_value() {
    let session = mixed(Role::Server, ProtocolVersion::V311);
    let mut setup = Setup::new(ProtocolVersion::V311);
    setup.server.output_bytes_max = 64;
    let mut side = setup.resuming(session).connect(Role::Server);
    assert_eq!(side.next_resend(), Some(1));
    assert_eq!(side.resend_payload(&[0; 50]), Ok(Resent::Sent));
    assert_eq!(
        side.resend_payload(&[0; 50]),
        Err(ResendRefused::OutputFull)
    );
    assert_eq!(side.next_resend(), Some(3));
}

#[test]
fn a_message_that_can_not_be_resent_ends_or_is_released() {
    for (role, version) in everywhere() {
        let session = mixed(role, version);
        let mut side = Setup::new(version).resuming(session).connect(role);
        side.sent();
        assert_eq!(side.abandon_resend(), Ok(Resent::Dropped(1)));
        // The peer may hold the id from the first sending: a new message under it would be lost.
        assert_eq!(side.abandon_resend(), Ok(Resent::Released));
        assert_eq!(side.sent_one(), pub_rel(3));
        assert_eq!(side.feed_one(&pub_comp(3)).delivered().1, 3);
        assert_eq!(side.abandon_resend(), Ok(Resent::Dropped(4)));
        assert_eq!(side.abandon_resend(), Err(ResendRefused::NothingToResend));
        assert!(!side.is_resending());
    }
}

#[test]
fn a_message_above_a_new_maximum_packet_size_counts_as_delivered() {
    // [5:MQTT-3.1.2-25]
    let version = ProtocolVersion::V5;
    let session = mixed(Role::Server, version);
    let mut setup = Setup::new(version);
    setup.connect.properties.packet_size_max = std::num::NonZeroU32::new(40);
    let mut side = setup.resuming(session).connect(Role::Server);
    side.sent();
    assert_eq!(side.resend_payload(&[0; 100]), Ok(Resent::Dropped(1)));
    assert_eq!(side.resend_payload(&[0; 100]), Ok(Resent::Released));
    assert_eq!(side.sent_one(), pub_rel(3));
}

#[test]
fn a_new_session_resends_nothing_and_frees_all_ids() {
    // [U5-100]
    for (role, version) in everywhere() {
        let _gone = mixed(role, version);
        let mut side = Driven::connected(role, version);
        assert_eq!(side.resend(), [0; 0]);
        side.publish(QoS::AtLeastOnce, 9).expect("room");
        let (delivery, _) = publish_of(&side.sent_one());
        assert_eq!(delivery.packet_id(), Some(id(1)));
    }
}

#[test]
fn ids_in_use_stay_in_use_after_a_resume() {
    // [3:MQTT-2.3.1-2] [3:MQTT-2.3.1-3] [3:MQTT-2.3.1-4] [5:MQTT-2.2.1-3] [5:MQTT-2.2.1-4]
    for (role, version) in everywhere() {
        let session = mixed(role, version);
        assert_eq!(session.next_packet_id(), id(6));
        let mut side = Setup::new(version).resuming(session).connect(role);
        side.resend();
        side.sent();
        side.publish(QoS::AtLeastOnce, 6).expect("room");
        let (delivery, _) = publish_of(&side.sent_one());
        assert_eq!(delivery.packet_id(), Some(id(6)));
    }
}

#[test]
fn a_session_survives_being_taken_apart() {
    for (role, version) in everywhere() {
        let parts = mixed(role, version).into_parts();
        assert_eq!(parts.exchanges.len(), 5);
        let session = SessionState::from_parts(parts.clone()).expect("its own parts");
        assert_eq!(session.into_parts(), parts);
        let session = SessionState::from_parts(parts).expect("its own parts");
        let mut side = Setup::new(version).resuming(session).connect(role);
        assert_eq!(side.sent(), [pub_rel(5), pub_rel(2)]);
        assert_eq!(side.resend(), [1, 3, 4]);
    }
}

#[test]
fn parts_that_contradict_each_other_are_refused() {
    let exchange = |number| Exchange {
        packet_id: id(number),
        stage: Stage::AwaitPubAck,
        item: (),
    };
    let restore = |next, numbers: &[u16]| {
        let parts = SessionParts {
            next_packet_id: id(next),
            exchanges: numbers.iter().map(|&number| exchange(number)).collect(),
            held: Vec::new(),
        };
        SessionState::from_parts(parts).map(|session| session.next_packet_id())
    };
    assert_eq!(restore(9, &[2, 5, 8]), Ok(id(9)));
    assert_eq!(restore(3, &[65_530, 65_535, 1]), Ok(id(3)));
    let out_of_order = |number| Err(RestoreError::PacketIdOrder(id(number)));
    assert_eq!(restore(9, &[5, 2]), out_of_order(2));
    assert_eq!(restore(9, &[5, 5]), out_of_order(5));
    assert_eq!(restore(9, &[5, 10]), out_of_order(10));
    let rank = SessionParts {
        next_packet_id: id(2),
        exchanges: vec![Exchange {
            packet_id: id(1),
            stage: Stage::AwaitPubComp { rank: u64::MAX },
            item: (),
        }],
        held: Vec::new(),
    };
    assert_eq!(
        SessionState::from_parts(rank).err(),
        Some(RestoreError::Rank)
    );
}

#[test]
fn a_server_that_lost_the_session_gives_the_client_its_messages_back() {
    // [5:MQTT-3.2.2-5] [U5-100] [U311-008]
    for version in [ProtocolVersion::V311, ProtocolVersion::V5] {
        let session = mixed(Role::Client, version);
        let mut setup = Setup::new(version).resuming(session);
        setup.connack.session_present = false;
        let connack = Packet::ConnAck(Box::new(setup.connack.clone()));
        let client = setup.client;
        let mut client: whimbrel_session::ClientConnection<u32> =
            whimbrel_session::ClientConnection::new(setup.epoch, &client);
        let connect = client.connect(crate::support::NOW, setup.connect, setup.session);
        connect.expect("the first CONNECT");
        let bytes = crate::support::encoded(&connack, version);
        let handled = client.handle_input(crate::support::NOW, &bytes);
        let event = handled.expect("a valid CONNACK").event;
        let Some(whimbrel_session::ClientEvent::ConnAck(connected)) = event else {
            panic!("CONNACK");
        };
        let discarded = connected.discarded.expect("five messages were open");
        assert_eq!(items(discarded), [1, 2, 3, 4, 5]);
        let session = client.into_state().expect("connected");
        assert!(session.is_empty());
    }
}

#[test]
fn a_version_3_1_client_resumes_without_session_present() {
    // [U31-003]
    let session = mixed(Role::Client, ProtocolVersion::V31);
    let mut setup = Setup::new(ProtocolVersion::V31).resuming(session);
    setup.connack.session_present = false;
    let mut side = setup.connect(Role::Client);
    assert_eq!(side.resend(), [1, 3, 4]);
}

#[test]
fn an_idle_session_is_empty() {
    for version in VERSIONS {
        let side = Driven::connected(Role::Server, version);
        assert!(side.lose().is_empty());
    }
}
