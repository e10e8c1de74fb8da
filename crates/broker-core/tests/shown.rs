//! What a shard tells of itself: how it prints, and what it still holds.

mod support;

use support::{Rig, V5, clean, persistent};
use whimbrel_broker_core::session::codec::{Ack, Packet, PacketId, QoS};

fn rig() -> Rig {
    Rig::with(|config| config.shards = 1)
}

fn shown(rig: &Rig) -> String {
    format!("{:?}", rig.shards[0].borrow())
}

#[test]
fn a_shard_prints_its_sessions_and_not_what_it_only_counts() {
    let mut rig = rig();
    let client = rig.connect_with(clean(V5, "somebody")).client;
    let before = shown(&rig);
    assert!(before.contains("somebody"), "{before}");
    let received = rig.stats().packets_received;
    rig.send(client, Packet::PingReq);
    assert_eq!(rig.take(client), [Packet::PingResp]);
    assert!(rig.stats().packets_received > received);
    assert_eq!(shown(&rig), before);
}

#[test]
fn a_shard_prints_the_exchanges_of_its_connections() {
    let mut rig = rig();
    let publisher = rig.connect(V5, "publisher");
    let subscriber = rig.connect_with(persistent(V5, "subscriber")).client;
    rig.subscribe(subscriber, "t", QoS::AtLeastOnce);
    rig.publish(publisher, "t", "x", QoS::AtLeastOnce);
    assert!(shown(&rig).contains("AwaitPubAck"), "{}", shown(&rig));
    rig.send(subscriber, Packet::PubAck(Ack::success(PacketId::MIN)));
    assert!(!shown(&rig).contains("AwaitPubAck"), "{}", shown(&rig));
}

#[test]
fn a_residue_counts_open_exchanges_until_they_are_acknowledged() {
    let mut rig = rig();
    let publisher = rig.connect(V5, "publisher");
    let subscriber = rig.connect_with(persistent(V5, "subscriber")).client;
    rig.subscribe(subscriber, "t", QoS::AtLeastOnce);
    rig.publish(publisher, "t", "x", QoS::AtLeastOnce);
    rig.cut(subscriber);
    assert_eq!(rig.shards[0].borrow().residue().exchanges, 1);
    let subscriber = rig.connect_with_messages(persistent(V5, "subscriber"));
    rig.send(subscriber, Packet::PubAck(Ack::success(PacketId::MIN)));
    rig.cut(subscriber);
    assert_eq!(rig.shards[0].borrow().residue().exchanges, 0);
}
