//! What goes on while the disk is full.

mod support;

use bytes::Bytes;
use support::pieces::attach;
use support::{Client, Rig, V5, name, persistent};
use whimbrel_broker_core::session::codec::topic::TopicName;
use whimbrel_broker_core::session::codec::{MessageProperties, QoS, ReasonCode};
use whimbrel_broker_core::{DropCause, LocalPublish};

/// A full disk, and a persistent client that subscribed to `t`.
fn full() -> (Rig, Client) {
    let mut rig = Rig::with(|config| {
        config.shards = 1;
        config.journal = true;
    });
    let client = rig.connect_with(persistent(V5, "s")).client;
    rig.subscribe(client, "t", QoS::ExactlyOnce);
    rig.shards[0].borrow_mut().set_disk_full(true);
    (rig, client)
}

fn publish_inside(rig: &Rig, qos: QoS, retain: bool) -> Vec<ReasonCode> {
    let key = attach(rig, 0, "inside");
    let publish = LocalPublish {
        topic: name("t"),
        payload: Bytes::from_static(b"x"),
        qos,
        retain,
        properties: MessageProperties::new(),
    };
    let mut shard = rig.shards[0].borrow_mut();
    shard.local_publish(rig.env(), key, &publish, 1);
    let mut outcomes = std::mem::take(&mut shard.effects().local);
    outcomes.pop().expect("an outcome").reasons
}

#[test]
fn qos_0_of_in_process_clients_goes_on() {
    let (mut rig, client) = full();
    assert_eq!(
        publish_inside(&rig, QoS::AtLeastOnce, false),
        [ReasonCode::QuotaExceeded]
    );
    assert_eq!(
        publish_inside(&rig, QoS::AtMostOnce, false),
        [ReasonCode::Success]
    );
    assert_eq!(
        publish_inside(&rig, QoS::AtMostOnce, true),
        [ReasonCode::Success]
    );
    assert_eq!(rig.payloads(client), ["x", "x"]);
    assert_eq!(rig.index.retained_messages(), 0);
    assert_eq!(rig.stats().dropped_by(DropCause::DiskFull), 1);
}

#[test]
fn values_of_the_broker_itself_are_retained_as_before() {
    let (mut rig, _) = full();
    let topic = TopicName::new("$SYS/broker/uptime").expect("valid");
    rig.shards[0]
        .borrow_mut()
        .publish_system(rig.env(), topic, b"1");
    assert_eq!(rig.stats().dropped_by(DropCause::DiskFull), 0);
    let reader = rig.connect(V5, "r");
    rig.subscribe_with_no_answer(reader, "$SYS/#");
    let messages = rig.messages_after_suback(reader);
    assert_eq!(messages.len(), 1);
}
