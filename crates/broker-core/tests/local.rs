//! In-process clients.

mod support;

use bytes::Bytes;
use support::{Rig, V5, name, persistent};
use whimbrel_broker_core::session::codec::topic::ByteStr;
use whimbrel_broker_core::session::codec::{
    MessageProperties, QoS, ReasonCode, SubscriptionOptions,
};
use whimbrel_broker_core::{ConnectionKey, LocalPublish, LocalSubscribe};

fn attach(rig: &Rig, mailbox_max: usize) -> ConnectionKey {
    rig.shards[0]
        .borrow_mut()
        .attach_local(rig.env(), &ByteStr::from("inside"), mailbox_max)
}

fn subscribe(rig: &Rig, key: ConnectionKey, filter: &str) -> Vec<ReasonCode> {
    let subscribe = LocalSubscribe {
        filter: ByteStr::from(filter),
        options: SubscriptionOptions::new(QoS::AtLeastOnce),
    };
    let mut shard = rig.shards[0].borrow_mut();
    shard.local_subscribe(rig.env(), key, &[subscribe], 7);
    let outcomes = std::mem::take(&mut shard.effects().local);
    assert_eq!(outcomes[0].request, 7);
    outcomes[0].reasons.clone()
}

fn take(rig: &Rig, key: ConnectionKey) -> Vec<Bytes> {
    let mut shard = rig.shards[0].borrow_mut();
    std::iter::from_fn(|| shard.local_take(rig.env(), key))
        .map(|delivery| delivery.message.payload())
        .collect()
}

#[test]
fn an_in_process_client_publishes_and_receives() {
    let mut rig = Rig::with(|config| config.shards = 1);
    let inside = attach(&rig, 10);
    assert_eq!(
        subscribe(&rig, inside, "to/inside"),
        [ReasonCode::GrantedQos1]
    );
    assert_eq!(
        subscribe(&rig, inside, "a/#/b"),
        [ReasonCode::TopicFilterInvalid]
    );
    let outside = rig.connect(V5, "outside");
    rig.subscribe(outside, "to/outside", QoS::AtLeastOnce);
    rig.publish(outside, "to/inside", "hello", QoS::ExactlyOnce);
    assert_eq!(take(&rig, inside), ["hello"]);
    let publish = LocalPublish {
        topic: name("to/outside"),
        payload: Bytes::from_static(b"answer"),
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: MessageProperties::new(),
    };
    {
        let mut shard = rig.shards[0].borrow_mut();
        shard.local_publish(rig.env(), inside, &publish, 8);
        let outcomes = std::mem::take(&mut shard.effects().local);
        assert_eq!(outcomes[0].reasons, [ReasonCode::Success]);
    }
    assert_eq!(rig.payloads(outside), ["answer"]);
}

#[test]
fn what_does_not_fit_the_mailbox_waits_in_order() {
    let mut rig = Rig::with(|config| config.shards = 1);
    let inside = attach(&rig, 2);
    subscribe(&rig, inside, "t");
    let publisher = rig.connect(V5, "p");
    for count in 0..10 {
        rig.publish(publisher, "t", &count.to_string(), QoS::AtLeastOnce);
    }
    let expected: Vec<_> = (0..10).map(|count| count.to_string()).collect();
    assert_eq!(take(&rig, inside), expected);
}

#[test]
fn a_detached_client_leaves_nothing() {
    let mut rig = Rig::with(|config| config.shards = 1);
    let inside = attach(&rig, 2);
    subscribe(&rig, inside, "t");
    subscribe(&rig, inside, "$share/g/t");
    let publisher = rig.connect(V5, "p");
    for _ in 0..5 {
        rig.publish(publisher, "t", "x", QoS::AtLeastOnce);
    }
    rig.shards[0].borrow_mut().detach(rig.env(), inside);
    assert!(!rig.shards[0].borrow().local_is_attached(inside));
    rig.cut(publisher);
    rig.assert_empty();
}

#[test]
fn an_in_process_client_that_takes_a_recorded_session_over_publishes_at_once() {
    let mut rig = Rig::with(|config| {
        config.shards = 1;
        config.journal = true;
    });
    let outside = rig.connect_with(persistent(V5, "inside")).client;
    rig.cut(outside);
    rig.hold_commits = true;
    let inside = attach(&rig, 10);
    let publish = LocalPublish {
        topic: name("t"),
        payload: Bytes::from_static(b"x"),
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: MessageProperties::new(),
    };
    let mut shard = rig.shards[0].borrow_mut();
    shard.local_publish(rig.env(), inside, &publish, 1);
    let outcomes = std::mem::take(&mut shard.effects().local);
    assert_eq!(outcomes[0].reasons, [ReasonCode::NoMatchingSubscribers]);
}
