//! Packet identifiers that a client uses twice at a time.

use whimbrel_session::codec::topic::ByteStr;
use whimbrel_session::codec::{
    Packet, ProtocolVersion, QoS, ReasonCode, Subscribe, SubscribeFilter, SubscriptionOptions,
    Unsubscribe, UserProperties,
};

use crate::support::{
    Driven, Role, Seen, Setup, failed, id, pub_ack, pub_comp, pub_rec, pub_rel, publish,
};

fn subscribe(number: u16) -> Packet {
    let filter = |text| SubscribeFilter {
        filter: ByteStr::from(text),
        options: SubscriptionOptions::new(QoS::AtLeastOnce),
    };
    Packet::Subscribe(Subscribe {
        id: id(number),
        filters: vec![filter("a"), filter("b")],
        subscription_id: None,
        user_properties: UserProperties::new(),
    })
}

fn unsubscribe(number: u16) -> Packet {
    Packet::Unsubscribe(Unsubscribe {
        id: id(number),
        filters: vec![ByteStr::from("a")],
        user_properties: UserProperties::new(),
    })
}

fn codes(packet: Packet) -> Vec<ReasonCode> {
    match packet {
        Packet::SubAck(ack) => ack.codes,
        Packet::UnsubAck(ack) => ack.codes,
        other => panic!("{other:?}"),
    }
}

/// A server whose client has a QoS 2 exchange open with id 1.
fn with_open_exchange(version: ProtocolVersion) -> Driven {
    let mut side = Driven::connected(Role::Server, version);
    let token = side.feed_one(&publish(QoS::ExactlyOnce, 1, "m")).token();
    side.ack(token);
    assert_eq!(side.sent_one(), pub_rec(1));
    side
}

#[test]
fn a_request_with_the_id_of_an_open_exchange_is_refused_for_each_filter() {
    // [U5-064] [U5-008]
    let mut side = with_open_exchange(ProtocolVersion::V5);
    side.feed_silent(&subscribe(1));
    let in_use = ReasonCode::PacketIdentifierInUse;
    assert_eq!(codes(side.sent_one()), [in_use, in_use]);
    side.feed_silent(&unsubscribe(1));
    assert_eq!(codes(side.sent_one()), [in_use]);
    // The exchange itself goes on.
    let token = side.feed_one(&pub_rel(1)).token();
    side.ack(token);
    assert_eq!(side.sent_one(), pub_comp(1));
    assert!(matches!(
        side.feed_one(&subscribe(1)),
        Seen::Subscribe { .. }
    ));
}

#[test]
fn requests_that_share_an_id_are_answered_in_order() {
    // Some clients give all their requests one id.
    let mut side = Driven::connected(Role::Server, ProtocolVersion::V5);
    let first = side.feed_one(&subscribe(7)).token();
    let second = side.feed_one(&subscribe(7)).token();
    let granted = [ReasonCode::GrantedQos1, ReasonCode::GrantedQos1];
    let refused = [ReasonCode::NotAuthorized, ReasonCode::NotAuthorized];
    let server = side.server();
    server.ack_subscribe(second, &refused).expect("two codes");
    server.ack_subscribe(first, &granted).expect("two codes");
    let sent: Vec<_> = side.sent().into_iter().map(codes).collect();
    assert_eq!(sent, [granted, refused]);
}

#[test]
fn a_publish_with_the_id_of_an_open_exchange_is_refused() {
    let mut side = with_open_exchange(ProtocolVersion::V5);
    side.feed_silent(&publish(QoS::AtLeastOnce, 1, "other"));
    let refused = failed(1, ReasonCode::PacketIdentifierInUse);
    assert_eq!(side.sent_one(), Packet::PubAck(refused));
    let token = side
        .feed_one(&publish(QoS::AtLeastOnce, 2, "other"))
        .token();
    side.ack(token);
    assert_eq!(side.sent_one(), pub_ack(2));
}

#[test]
fn clients_that_can_not_be_told_are_served() {
    let mut side = with_open_exchange(ProtocolVersion::V311);
    assert!(matches!(
        side.feed_one(&subscribe(1)),
        Seen::Subscribe { .. }
    ));
}

#[test]
fn an_exchange_of_an_earlier_connection_is_in_nobodys_way() {
    // The client may have lost its state, and the server may not.
    let session = with_open_exchange(ProtocolVersion::V5).lose();
    let mut side = Setup::new(ProtocolVersion::V5)
        .resuming(session)
        .connect(Role::Server);
    assert!(matches!(
        side.feed_one(&subscribe(1)),
        Seen::Subscribe { .. }
    ));
}
