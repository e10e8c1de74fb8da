//! Packet identifiers that a client uses twice at a time: its mistake, which harms nobody but itself.

use whimbrel_session::codec::topic::ByteStr;
use whimbrel_session::codec::{
    Packet, QoS, ReasonCode, Subscribe, SubscribeFilter, SubscriptionOptions, UserProperties,
};

use crate::support::{Driven, Role, VERSIONS, id, pub_ack, pub_comp, pub_rec, pub_rel, publish};

fn subscribe(number: u16) -> Packet {
    Packet::Subscribe(Subscribe {
        id: id(number),
        filters: vec![SubscribeFilter {
            filter: ByteStr::from("a"),
            options: SubscriptionOptions::new(QoS::AtLeastOnce),
        }],
        subscription_id: None,
        user_properties: UserProperties::new(),
    })
}

fn codes(packet: Packet) -> Vec<ReasonCode> {
    match packet {
        Packet::SubAck(ack) => ack.codes,
        other => panic!("{other:?}"),
    }
}

#[test]
fn packets_with_the_id_of_an_open_exchange_are_served_beside_it() {
    // Several clients give every request the id 1.
    for version in VERSIONS {
        let mut side = Driven::connected(Role::Server, version);
        let token = side.feed_one(&publish(QoS::ExactlyOnce, 1, "m")).token();
        side.ack(token);
        assert_eq!(side.sent_one(), pub_rec(1));

        let token = side.feed_one(&subscribe(1)).token();
        let granted = [ReasonCode::GrantedQos1];
        side.server()
            .ack_subscribe(token, &granted)
            .expect("one code");
        assert_eq!(codes(side.sent_one()), granted);
        let token = side
            .feed_one(&publish(QoS::AtLeastOnce, 1, "other"))
            .token();
        side.ack(token);
        assert_eq!(side.sent_one(), pub_ack(1));

        let token = side.feed_one(&pub_rel(1)).token();
        side.ack(token);
        assert_eq!(side.sent_one(), pub_comp(1));
    }
}

#[test]
fn requests_that_share_an_id_are_answered_in_order() {
    for version in VERSIONS {
        let mut side = Driven::connected(Role::Server, version);
        let first = side.feed_one(&subscribe(7)).token();
        let second = side.feed_one(&subscribe(7)).token();
        let server = side.server();
        let (zero, one) = (ReasonCode::GRANTED_QOS_0, ReasonCode::GrantedQos1);
        server.ack_subscribe(second, &[one]).expect("one code");
        server.ack_subscribe(first, &[zero]).expect("one code");
        let sent: Vec<_> = side.sent().into_iter().map(codes).collect();
        assert_eq!(sent, [[zero], [one]]);
    }
}
