//! Acknowledgements wait for what they promise: with a journal that commits late.

mod support;

use support::{Client, Rig, V5, V311, name, persistent};
use whimbrel_broker_core::session::codec::{
    Ack, Delivery, Packet, PacketId, Publish, QoS, SubscriptionOptions,
};

/// A rig with a journal, a persistent subscriber that is away, and a publisher, each on `shards`.
fn rig(subscriber_shard: usize, publisher_shard: usize) -> (Rig, String, Client) {
    let mut rig = Rig::with(|config| config.journal = true);
    let subscriber_id = rig.id_on(subscriber_shard, "s");
    let publisher_id = rig.id_on(publisher_shard, "p");
    let subscriber = rig.connect_with(persistent(V5, &subscriber_id)).client;
    rig.subscribe(subscriber, "t", QoS::ExactlyOnce);
    rig.cut(subscriber);
    let publisher = rig.connect(V5, &publisher_id);
    rig.hold_commits = true;
    (rig, subscriber_id, publisher)
}

fn publish(topic: &str, id: u16, qos: QoS) -> Packet {
    let id = PacketId::new(id).expect("not 0");
    Packet::Publish(
        Publish::builder(name(topic))
            .payload("x")
            .delivery(Delivery::first(qos, id))
            .build(),
    )
}

fn names(packets: &[Packet]) -> Vec<String> {
    packets
        .iter()
        .map(|packet| match packet {
            Packet::PubAck(ack) => format!("PUBACK {}", ack.id.get()),
            Packet::PubRec(ack) => format!("PUBREC {}", ack.id.get()),
            Packet::PubRel(ack) => format!("PUBREL {}", ack.id.get()),
            Packet::PubComp(ack) => format!("PUBCOMP {}", ack.id.get()),
            other => format!("{:?}", other.packet_type()),
        })
        .collect()
}

#[test]
fn puback_waits_for_the_commit_of_every_shard_that_stores() {
    for (subscriber_shard, publisher_shard) in [(0, 0), (1, 0)] {
        let (mut rig, _, publisher) = rig(subscriber_shard, publisher_shard);
        rig.send(publisher, publish("t", 1, QoS::AtLeastOnce));
        assert!(rig.take(publisher).is_empty());
        rig.commit();
        assert_eq!(names(&rig.take(publisher)), ["PUBACK 1"]);
    }
}

#[test]
fn what_nobody_stores_is_acknowledged_at_once() {
    let (mut rig, _, publisher) = rig(1, 0);
    let clean_id = rig.id_on(1, "clean");
    let clean = rig.connect(V311, &clean_id);
    rig.subscribe(clean, "u", QoS::AtLeastOnce);
    rig.send(publisher, publish("u", 1, QoS::AtLeastOnce));
    assert_eq!(names(&rig.take(publisher)), ["PUBACK 1"]);
    assert_eq!(rig.payloads(clean), ["x"]);
}

#[test]
fn acknowledgements_keep_the_order_of_their_packets() {
    let (mut rig, _, publisher) = rig(1, 0);
    rig.send(publisher, publish("t", 1, QoS::AtLeastOnce));
    rig.send(publisher, publish("nobody", 2, QoS::AtLeastOnce));
    assert!(
        rig.take(publisher).is_empty(),
        "the second waits for the first"
    );
    rig.commit();
    assert_eq!(names(&rig.take(publisher)), ["PUBACK 1", "PUBACK 2"]);
}

#[test]
fn a_qos_2_message_is_recorded_before_pubrec_and_routed_before_pubcomp() {
    let (mut rig, subscriber_id, publisher) = rig(1, 0);
    rig.send(publisher, publish("t", 1, QoS::ExactlyOnce));
    assert!(
        rig.take(publisher).is_empty(),
        "PUBREC waits for the record"
    );
    rig.commit();
    assert_eq!(names(&rig.take(publisher)), ["PUBREC 1"]);
    rig.send(publisher, Packet::PubRel(Ack::success(PacketId::MIN)));
    assert!(
        rig.take(publisher).is_empty(),
        "PUBCOMP waits for the target and its own record"
    );
    rig.commit();
    rig.commit();
    assert_eq!(names(&rig.take(publisher)), ["PUBCOMP 1"]);
    rig.hold_commits = false;
    let subscriber = rig.connect_with_messages(persistent(V5, &subscriber_id));
    assert_eq!(rig.payloads(subscriber), ["x"]);
}

#[test]
fn pubrel_waits_for_the_record_of_pubrec() {
    let (mut rig, subscriber_id, publisher) = rig(1, 0);
    rig.hold_commits = false;
    let subscriber = rig.connect_with(persistent(V5, &subscriber_id)).client;
    rig.hold_commits = true;
    rig.send(publisher, publish("t", 1, QoS::ExactlyOnce));
    rig.commit();
    assert!(
        rig.take(subscriber).is_empty(),
        "PUBLISH waits for the record of its packet identifier"
    );
    rig.commit();
    let got = rig.take(subscriber);
    assert_eq!(names(&got), ["Publish"]);
    let Packet::Publish(delivered) = &got[0] else {
        panic!("a message");
    };
    let id = delivered.delivery().packet_id().expect("QoS 2");
    rig.send(subscriber, Packet::PubRec(Ack::success(id)));
    assert!(rig.take(subscriber).is_empty());
    rig.commit();
    assert_eq!(
        names(&rig.take(subscriber)),
        [format!("PUBREL {}", id.get())]
    );
}

#[test]
fn connack_and_suback_of_persistent_sessions_wait() {
    let (mut rig, _, _) = rig(1, 0);
    let client = rig.open(V5);
    rig.send(client, Packet::Connect(Box::new(persistent(V5, "new"))));
    assert!(rig.take(client).is_empty());
    // What comes meanwhile is kept and handled afterwards [U5-034].
    rig.send(
        client,
        support::subscribe(&[("a", SubscriptionOptions::new(QoS::AtMostOnce))], None),
    );
    assert!(rig.take(client).is_empty());
    rig.commit();
    assert_eq!(names(&rig.take(client)), ["ConnAck"]);
    rig.commit();
    assert_eq!(names(&rig.take(client)), ["SubAck"]);
}

#[test]
fn a_clean_session_is_answered_at_once() {
    let (mut rig, _, _) = rig(1, 0);
    let client = rig.connect(V311, "quick");
    let reason = rig.subscribe(client, "a", QoS::AtLeastOnce);
    assert!(!reason.is_error());
}

#[test]
fn a_retained_message_is_recorded_before_its_acknowledgement() {
    let (mut rig, _, publisher) = rig(1, 0);
    let retained = Publish::builder(name("r"))
        .payload("x")
        .retain(true)
        .delivery(Delivery::first(QoS::AtLeastOnce, PacketId::MIN))
        .build();
    rig.send(publisher, Packet::Publish(retained));
    assert!(rig.take(publisher).is_empty());
    rig.commit();
    assert_eq!(names(&rig.take(publisher)), ["PUBACK 1"]);
}

#[test]
fn a_publisher_that_left_leaves_no_obligation_behind() {
    let (mut rig, subscriber_id, publisher) = rig(1, 0);
    for id in 1..=5 {
        rig.send(publisher, publish("t", id, QoS::AtLeastOnce));
    }
    for id in 6..=9 {
        rig.send(publisher, publish("t", id, QoS::ExactlyOnce));
    }
    rig.cut(publisher);
    rig.commit();
    rig.commit();
    rig.hold_commits = false;
    let subscriber = rig.connect_with_messages(persistent(V5, &subscriber_id));
    assert_eq!(rig.payloads(subscriber).len(), 9);
    rig.cut(subscriber);
    let last = rig.connect(V5, &subscriber_id);
    rig.cut(last);
    rig.assert_empty();
}
