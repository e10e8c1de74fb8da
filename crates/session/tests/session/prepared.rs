//! QoS 2 messages whose packet id is recorded before the client hears of it.

use std::num::NonZeroU32;

use whimbrel_session::codec::{
    FanOut, FanOutBuffer, Packet, PacketId, PacketType, ProtocolVersion, QoS, ReasonCode,
};
use whimbrel_session::{
    Deliver, Epoch, Exchange, ProtocolError, Refused, ResendRefused, Resent, ServerConfig,
    ServerConnection, SessionParts, SessionState, Stage,
};

use crate::qos1::publish_of;
use crate::support::{
    Driven, NOW, Role, Setup, VERSIONS, failed, id, not_found, pub_ack, pub_comp, pub_rec, pub_rel,
    source,
};

fn prepare_on(
    server: &mut ServerConnection<u32>,
    item: u32,
    payload: &[u8],
) -> Result<PacketId, Refused<u32>> {
    let mut buffer = FanOutBuffer::new();
    let mut message = FanOut::new(source(payload), &mut buffer);
    let deliver = Deliver {
        qos: QoS::ExactlyOnce,
        ..Deliver::default()
    };
    server.prepare(&mut message, deliver, item)
}

fn prepare(side: &mut Driven, item: u32) -> Result<PacketId, Refused<u32>> {
    prepare_on(side.server(), item, item.to_string().as_bytes())
}

/// A server that has prepared these messages under ids from 1 on.
fn prepared(version: ProtocolVersion, items: &[u32]) -> Driven {
    let mut side = Driven::connected(Role::Server, version);
    for (number, &item) in (1..).zip(items) {
        assert_eq!(prepare(&mut side, item), Ok(id(number)));
    }
    side
}

fn recorded(side: &mut Driven, numbers: &[u16]) {
    for &number in numbers {
        side.server().recorded(id(number));
    }
}

/// Packet ids and DUP of the PUBLISHes in the output.
fn sent(side: &mut Driven) -> Vec<(u16, bool)> {
    let packets = side.sent();
    let deliveries = packets.iter().map(|packet| publish_of(packet).0);
    deliveries
        .map(|delivery| {
            let packet_id = delivery.packet_id().expect("QoS 1 or 2");
            (packet_id.get(), delivery.dup())
        })
        .collect()
}

fn next_connection(side: Driven) -> Driven {
    let setup = Setup::new(side.version);
    setup.resuming(side.lose()).connect(Role::Server)
}

fn stages_to_record(side: &mut Driven) -> Vec<(u16, Stage, u32)> {
    let exchanges = side.server().exchanges_to_record();
    exchanges
        .map(|exchange| (exchange.packet_id.get(), exchange.stage, *exchange.item))
        .collect()
}

#[test]
fn a_prepared_message_takes_an_id_and_quota_and_is_not_written() {
    // [5:MQTT-2.2.1-4] [5:MQTT-4.9.0-2]
    for version in VERSIONS {
        let mut side = prepared(version, &[7]);
        assert!(side.sent().is_empty());
        assert_eq!(side.in_flight(), 1);
        assert_eq!(side.server().next_packet_id(), id(2));
        assert!(!side.is_resending());
        assert_eq!(side.next_resend(), None);
        assert_eq!(
            side.resend_payload(b"7"),
            Err(ResendRefused::NothingToResend)
        );
    }
}

#[test]
fn a_recorded_message_is_sent_without_dup_and_goes_its_way() {
    // [3:MQTT-4.3.3-1] [5:MQTT-3.3.1-1] [5:MQTT-4.3.3-1] [5:MQTT-4.3.3-2]
    for version in VERSIONS {
        let mut side = prepared(version, &[7]);
        recorded(&mut side, &[1]);
        assert!(side.is_resending());
        assert_eq!(side.resend(), [7]);
        assert!(!side.is_resending());
        assert_eq!(sent(&mut side), [(1, false)]);
        assert_eq!(side.in_flight(), 1);
        let token = side.feed_one(&pub_rec(1)).token();
        side.ack(token);
        assert_eq!(side.sent_one(), pub_rel(1));
        let delivered = side.feed_one(&pub_comp(1)).delivered();
        assert_eq!(delivered, (1, 7, ReasonCode::Success));
        assert_eq!(side.in_flight(), 0);
    }
}

#[test]
fn prepared_messages_keep_their_order_whatever_is_recorded_first() {
    // [3:MQTT-4.6.0-1] [5:MQTT-4.6.0-1]
    for version in VERSIONS {
        let mut side = prepared(version, &[7, 8, 9]);
        recorded(&mut side, &[3, 2]);
        assert!(!side.is_resending());
        assert_eq!(side.resend(), [0; 0]);
        recorded(&mut side, &[1]);
        assert_eq!(side.resend(), [7, 8, 9]);
        assert_eq!(sent(&mut side), [(1, false), (2, false), (3, false)]);
    }
}

#[test]
fn the_record_of_an_id_that_waits_for_none_is_ignored() {
    for version in VERSIONS {
        let mut side = prepared(version, &[7, 8]);
        recorded(&mut side, &[1, 1, 5, u16::MAX]);
        assert_eq!(side.resend(), [7]);
        recorded(&mut side, &[1]);
        assert_eq!(side.resend(), [0; 0]);
        assert_eq!(sent(&mut side), [(1, false)]);
        let token = side.feed_one(&pub_rec(1)).token();
        recorded(&mut side, &[1]);
        assert!(side.sent().is_empty());
        side.ack(token);
        recorded(&mut side, &[1]);
        assert_eq!(side.sent_one(), pub_rel(1));
        assert!(!side.is_resending());
    }
}

#[test]
fn qos_1_passes_what_waits_for_its_record_and_qos_2_does_not() {
    // [3:MQTT-4.6.0-1] [5:MQTT-4.6.0-1]: the order of one QoS.
    for version in VERSIONS {
        let mut side = prepared(version, &[7]);
        side.publish(QoS::AtLeastOnce, 8).expect("no resume");
        side.publish(QoS::AtMostOnce, 8).expect("no resume");
        let early = side.publish(QoS::ExactlyOnce, 9);
        assert_eq!(early, Err(Refused::Resending(9)));
        recorded(&mut side, &[1]);
        side.publish(QoS::AtLeastOnce, 10).expect("no resume");
        let early = side.publish(QoS::ExactlyOnce, 9);
        assert_eq!(early, Err(Refused::Resending(9)));
        assert_eq!(side.resend(), [7]);
        side.publish(QoS::ExactlyOnce, 9).expect("7 is sent");
        assert_eq!(side.sent().len(), 5);
        assert_eq!(prepare(&mut side, 11), Ok(id(5)));
    }
}

#[test]
fn a_prepared_message_goes_out_though_another_has_taken_the_last_of_the_window() {
    // [5:MQTT-3.3.4-9] [5:MQTT-4.9.0-2]
    for version in VERSIONS {
        let setup = Setup::new(version).peer_receive_maximum(2);
        let mut side = setup.connect(Role::Server);
        assert_eq!(prepare(&mut side, 7), Ok(id(1)));
        side.publish(QoS::AtLeastOnce, 8).expect("room for two");
        assert_eq!(prepare(&mut side, 9), Err(Refused::WindowFull(9)));
        let full = side.publish(QoS::AtLeastOnce, 9);
        assert_eq!(full, Err(Refused::WindowFull(9)));
        recorded(&mut side, &[1]);
        assert_eq!(side.resend(), [7]);
        assert_eq!(sent(&mut side), [(2, false), (1, false)]);
        side.feed_one(&pub_ack(2));
        assert_eq!(prepare(&mut side, 9), Ok(id(3)));
    }
}

#[test]
fn a_message_too_large_for_the_client_takes_no_id() {
    // [5:MQTT-3.1.2-24] [5:MQTT-3.1.2-25]
    let mut setup = Setup::new(ProtocolVersion::V5);
    setup.connect.properties.packet_size_max = NonZeroU32::new(60);
    let mut side = setup.connect(Role::Server);
    let refused = prepare_on(side.server(), 7, &[0; 100]);
    assert_eq!(refused, Err(Refused::TooLarge(7)));
    assert_eq!(side.in_flight(), 0);
    assert_eq!(side.server().next_packet_id(), id(1));
    // Fixed header 2, topic 3, id 2, properties 1.
    assert_eq!(prepare_on(side.server(), 8, &[0; 52]), Ok(id(1)));
    let refused = prepare_on(side.server(), 9, &[0; 53]);
    assert_eq!(refused, Err(Refused::TooLarge(9)));
}

#[test]
fn a_full_output_refuses_the_sending_and_not_the_preparing() {
    for version in VERSIONS {
        let mut setup = Setup::new(version);
        setup.server.output_bytes_max = 10;
        let mut side = setup.connect(Role::Server);
        side.publish(QoS::AtMostOnce, 6).expect("an empty output");
        let full = side.publish(QoS::AtMostOnce, 6);
        assert_eq!(full, Err(Refused::OutputFull(6)));
        assert_eq!(prepare(&mut side, 7), Ok(id(1)));
        recorded(&mut side, &[1]);
        assert_eq!(side.resend_payload(b"7"), Err(ResendRefused::OutputFull));
        assert!(side.is_resending());
        side.sent();
        assert_eq!(side.resend(), [7]);
        assert_eq!(sent(&mut side), [(1, false)]);
    }
}

#[test]
fn nothing_is_prepared_or_sent_without_a_connection() {
    // [5:MQTT-3.14.4-1]
    let mut server = ServerConnection::new(NOW, Epoch(1), ServerConfig::default());
    assert_eq!(
        prepare_on(&mut server, 7, b"7"),
        Err(Refused::NotConnected(7))
    );
    for version in VERSIONS {
        let mut side = prepared(version, &[7]);
        recorded(&mut side, &[1]);
        let closed = side.server().disconnect(ReasonCode::ServerShuttingDown);
        closed.expect("a code of servers");
        assert_eq!(prepare(&mut side, 8), Err(Refused::NotConnected(8)));
        assert!(!side.is_resending());
        assert_eq!(side.next_resend(), None);
        let mut side = next_connection(side);
        assert_eq!(side.resend(), [7]);
    }
}

#[test]
fn nothing_is_prepared_before_everything_is_resent() {
    // [3:MQTT-4.6.0-1] [5:MQTT-4.6.0-1]
    for version in VERSIONS {
        let mut side = Driven::connected(Role::Server, version);
        side.publish(QoS::AtLeastOnce, 6).expect("room");
        let mut side = next_connection(side);
        assert_eq!(prepare(&mut side, 7), Err(Refused::Resending(7)));
        assert_eq!(side.resend(), [6]);
        assert_eq!(prepare(&mut side, 7), Ok(id(2)));
    }
}

#[test]
fn a_message_never_sent_goes_out_on_the_next_connection_without_dup() {
    // [3:MQTT-3.3.1-1] [5:MQTT-3.3.1-1]
    for version in VERSIONS {
        let mut side = prepared(version, &[7, 8]);
        recorded(&mut side, &[1]);
        let mut side = next_connection(side);
        assert_eq!(side.in_flight(), 0);
        assert!(side.is_resending());
        assert_eq!(side.resend(), [7, 8]);
        assert_eq!(sent(&mut side), [(1, false), (2, false)]);
        assert_eq!(side.in_flight(), 2);
        let mut side = next_connection(side);
        assert_eq!(side.resend(), [7, 8]);
        assert_eq!(sent(&mut side), [(1, true), (2, true)]);
    }
}

#[test]
fn a_message_in_the_output_when_the_connection_is_lost_was_sent() {
    // [5:MQTT-3.3.1-1]: how much of it the client got is not known.
    for version in VERSIONS {
        let mut side = prepared(version, &[7]);
        recorded(&mut side, &[1]);
        assert_eq!(side.resend(), [7]);
        let mut side = next_connection(side);
        assert_eq!(side.resend(), [7]);
        assert_eq!(sent(&mut side), [(1, true)]);
    }
}

#[test]
fn a_resume_keeps_the_order_of_what_was_sent_and_what_was_prepared() {
    // [3:MQTT-4.6.0-1] [5:MQTT-4.6.0-1] [5:MQTT-4.9.0-2]
    for version in VERSIONS {
        let mut side = Driven::connected(Role::Server, version);
        side.publish(QoS::AtLeastOnce, 6).expect("room");
        assert_eq!(prepare(&mut side, 7), Ok(id(2)));
        side.publish(QoS::AtLeastOnce, 8).expect("room");
        let setup = Setup::new(version).peer_receive_maximum(1);
        let mut side = setup.resuming(side.lose()).connect(Role::Server);
        assert_eq!(side.resend(), [6]);
        side.feed_one(&pub_ack(1));
        assert_eq!(side.resend(), [7]);
        let token = side.feed_one(&pub_rec(2)).token();
        side.ack(token);
        side.feed_one(&pub_comp(2));
        assert_eq!(side.resend(), [8]);
        let packets = side.sent();
        let dups = packets.iter().filter_map(|packet| match packet {
            Packet::Publish(publish) => Some(publish.delivery().dup()),
            _ => None,
        });
        assert_eq!(dups.collect::<Vec<_>>(), [true, false, true]);
    }
}

#[test]
fn no_acknowledgement_fits_a_message_never_sent() {
    // [3:MQTT-2.3.1-6] [5:MQTT-2.2.1-5] (D8)
    for version in VERSIONS {
        let mut acknowledgements = vec![
            (pub_ack(1), PacketType::PubAck),
            (pub_rec(1), PacketType::PubRec),
            (pub_comp(1), PacketType::PubComp),
        ];
        if version.is_v5() {
            let refusal = failed(1, ReasonCode::QuotaExceeded);
            acknowledgements.push((Packet::PubRec(refusal), PacketType::PubRec));
        }
        for (acknowledgement, packet_type) in acknowledgements {
            let waits = prepared(version, &[7]);
            let mut is_recorded = prepared(version, &[7]);
            recorded(&mut is_recorded, &[1]);
            let is_resumed = next_connection(prepared(version, &[7]));
            for mut side in [waits, is_recorded, is_resumed] {
                let error = side.feed(&acknowledgement).expect_err("never sent");
                assert_eq!(error, ProtocolError::UnexpectedAck { packet_type });
                let mut side = next_connection(side);
                assert_eq!(side.resend(), [7]);
                assert_eq!(sent(&mut side), [(1, false)]);
            }
        }
    }
}

#[test]
fn a_message_given_up_before_it_was_sent_is_over_without_pubrel() {
    for version in VERSIONS {
        let mut side = prepared(version, &[7, 8, 9]);
        assert_eq!(side.abandon_resend(), Err(ResendRefused::NothingToResend));
        recorded(&mut side, &[1, 2]);
        assert_eq!(side.abandon_resend(), Ok(Resent::Dropped(7)));
        assert!(side.sent().is_empty());
        assert_eq!(side.in_flight(), 2);
        assert_eq!(side.resend(), [8]);
        assert_eq!(sent(&mut side), [(2, false)]);
        side.feed_silent(&pub_rec(1));
        assert_eq!(side.sent_one(), Packet::PubRel(not_found(1, version)));
        let mut side = next_connection(side);
        // The client may hold 2.
        assert_eq!(side.abandon_resend(), Ok(Resent::Released));
        assert_eq!(side.sent_one(), pub_rel(2));
        assert_eq!(side.abandon_resend(), Ok(Resent::Dropped(9)));
        assert!(side.sent().is_empty());
        assert!(!side.is_resending());
        assert_eq!(side.in_flight(), 0);
    }
}

#[test]
fn a_message_never_sent_and_above_a_new_maximum_packet_size_is_over() {
    // [5:MQTT-3.1.2-25]
    let version = ProtocolVersion::V5;
    let mut side = prepared(version, &[]);
    assert_eq!(prepare_on(side.server(), 7, &[0; 100]), Ok(id(1)));
    let mut setup = Setup::new(version);
    setup.connect.properties.packet_size_max = NonZeroU32::new(60);
    let mut side = setup.resuming(side.lose()).connect(Role::Server);
    assert_eq!(side.resend_payload(&[0; 100]), Ok(Resent::Dropped(7)));
    assert!(side.sent().is_empty());
    assert!(side.lose().is_empty());
}

#[test]
fn what_is_to_be_recorded_is_what_the_record_makes_true() {
    for version in VERSIONS {
        let mut side = Driven::connected(Role::Server, version);
        side.publish(QoS::AtLeastOnce, 5).expect("room");
        for item in [6, 7, 8] {
            prepare(&mut side, item).expect("room");
        }
        let sent = Stage::AwaitPubRec;
        let mut expected = [
            (1, Stage::AwaitPubAck, 5),
            (2, sent, 6),
            (3, sent, 7),
            (4, sent, 8),
        ];
        assert_eq!(stages_to_record(&mut side), expected);
        recorded(&mut side, &[2, 3]);
        side.resend();
        assert_eq!(stages_to_record(&mut side), expected);
        // Both wait for their record.
        let second = side.feed_one(&pub_rec(3)).token();
        let _waits = side.feed_one(&pub_rec(2)).token();
        expected[2].1 = Stage::AwaitPubComp { rank: 0 };
        expected[1].1 = Stage::AwaitPubComp { rank: 1 };
        assert_eq!(stages_to_record(&mut side), expected);
        side.ack(second);
        assert_eq!(stages_to_record(&mut side), expected);
        side.feed_one(&pub_ack(1));
        assert_eq!(stages_to_record(&mut side), expected[1..]);
        assert_eq!(side.server().next_packet_id(), id(5));

        // A PUBREC without a record is forgotten with the connection.
        expected[1].1 = sent;
        let session = side.lose();
        let of_session = session.exchanges_to_record();
        let of_session =
            of_session.map(|exchange| (exchange.packet_id.get(), exchange.stage, *exchange.item));
        assert_eq!(of_session.collect::<Vec<_>>(), expected[1..]);
        assert!(session.exchanges_to_record().eq(session.exchanges()));
    }
}

#[test]
fn a_session_from_a_record_sends_with_dup_and_keeps_its_ids() {
    // [3:MQTT-4.4.0-1] [5:MQTT-3.3.1-1] [5:MQTT-4.4.0-1] [5:MQTT-4.6.0-4]
    for version in VERSIONS {
        let mut side = Driven::connected(Role::Server, version);
        for item in 1..=6 {
            prepare(&mut side, item).expect("room");
        }
        recorded(&mut side, &[1, 2, 3, 4]);
        assert_eq!(side.resend(), [1, 2, 3, 4]);
        for number in [4, 2, 1] {
            let _waits = side.feed_one(&pub_rec(number)).token();
        }
        // As the owner's record has it; then the process ends.
        let parts = SessionParts {
            next_packet_id: side.server().next_packet_id(),
            exchanges: side
                .server()
                .exchanges_to_record()
                .filter(|exchange| exchange.packet_id != id(1))
                .map(|exchange| Exchange {
                    packet_id: exchange.packet_id,
                    stage: exchange.stage,
                    item: *exchange.item,
                })
                .collect(),
            held: Vec::new(),
        };
        let session = SessionState::from_parts(parts).expect("parts of a session");
        let mut side = Setup::new(version).resuming(session).connect(Role::Server);
        assert_eq!(side.sent(), [pub_rel(4), pub_rel(2)]);
        assert_eq!(side.resend(), [3, 5, 6]);
        assert_eq!(sent(&mut side), [(3, true), (5, true), (6, true)]);
        assert_eq!(prepare(&mut side, 7), Ok(id(7)));
        // A PUBREC that comes now ranks behind the restored ones.
        let _waits = side.feed_one(&pub_rec(3)).token();
        let ranked = stages_to_record(&mut side);
        assert!(ranked.contains(&(3, Stage::AwaitPubComp { rank: 2 }, 3)));
    }
}
