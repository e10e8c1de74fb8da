//! Retained messages.

mod support;

use support::{Rig, V5, V311, clean, name, persistent};
use whimbrel_broker_core::session::codec::{
    Delivery, MessageProperties, PacketId, Publish, QoS, ReasonCode, RetainHandling,
    SubscriptionId, SubscriptionOptions,
};

fn options(retain_handling: RetainHandling) -> SubscriptionOptions {
    SubscriptionOptions {
        retain_handling,
        ..SubscriptionOptions::new(QoS::AtLeastOnce)
    }
}

#[test]
fn a_new_subscription_gets_the_retained_message_of_each_matching_topic() {
    // [3:MQTT-3.3.1-5] [3:MQTT-3.3.1-6] [3:MQTT-3.3.1-8] [3:MQTT-3.3.1-12] [5:MQTT-3.3.1-5]
    // [5:MQTT-3.3.1-8] [U5-043] [U311-009]
    for version in [V311, V5] {
        let mut rig = Rig::new();
        let publisher = rig.connect(version, "p");
        rig.publish_retained(publisher, "a/1", "old", QoS::ExactlyOnce);
        rig.publish_retained(publisher, "a/1", "one", QoS::ExactlyOnce);
        rig.publish_retained(publisher, "a/2", "two", QoS::AtMostOnce);
        rig.publish_retained(publisher, "b", "other", QoS::AtMostOnce);
        rig.publish(publisher, "a/2", "not retained", QoS::AtMostOnce);
        rig.publish(publisher, "a/3", "not retained", QoS::AtMostOnce);
        let subscriber = rig.connect(version, "s");
        rig.subscribe(subscriber, "a/+", QoS::AtLeastOnce);
        let got = rig.messages(subscriber);
        let seen: Vec<_> = got
            .iter()
            .map(|publish| {
                (
                    publish.payload(),
                    publish.retain(),
                    publish.delivery().qos(),
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                (&b"one"[..], true, QoS::AtLeastOnce),
                (&b"two"[..], true, QoS::AtMostOnce)
            ]
        );
    }
}

#[test]
fn an_empty_payload_deletes_and_is_forwarded() {
    // [3:MQTT-3.3.1-10] [3:MQTT-3.3.1-11] [5:MQTT-3.3.1-6] [5:MQTT-3.3.1-7]
    for version in [V311, V5] {
        let mut rig = Rig::new();
        let publisher = rig.connect(version, "p");
        let live = rig.connect(version, "live");
        rig.subscribe(live, "t", QoS::AtMostOnce);
        rig.publish_retained(publisher, "t", "x", QoS::AtLeastOnce);
        rig.publish_retained(publisher, "t", "", QoS::AtLeastOnce);
        assert_eq!(rig.payloads(live), ["x", ""]);
        let late = rig.connect(version, "late");
        rig.subscribe(late, "t", QoS::AtMostOnce);
        assert_eq!(rig.payloads(late), [""; 0]);
        assert_eq!(rig.index.retained_messages(), 0);
        assert_eq!(rig.index.retained_bytes(), 0);
    }
}

#[test]
fn a_retained_message_of_qos_0_replaces_the_one_before_it() {
    // [3:MQTT-3.3.1-5] [3:MQTT-3.3.1-7] [5:MQTT-3.3.1-5]
    for version in [V311, V5] {
        let mut rig = Rig::new();
        let publisher = rig.connect(version, "p");
        rig.publish_retained(publisher, "t", "old", QoS::ExactlyOnce);
        rig.publish_retained(publisher, "t", "new", QoS::AtMostOnce);
        let subscriber = rig.connect(version, "s");
        rig.subscribe(subscriber, "t", QoS::ExactlyOnce);
        let got = rig.messages(subscriber);
        assert_eq!(got.len(), 1);
        assert_eq!(got[0].payload(), b"new");
        assert_eq!(got[0].delivery(), Delivery::AtMostOnce);
    }
}

#[test]
fn retain_handling_0_sends_at_every_subscribe() {
    // [5:MQTT-3.3.1-9] [5:MQTT-3.8.4-4]
    let mut rig = Rig::new();
    let client = rig.connect(V5, "c");
    rig.publish_retained(client, "t", "x", QoS::AtMostOnce);
    for _ in 0..2 {
        rig.subscribe_with(client, "t", options(RetainHandling::Send), None);
        assert_eq!(rig.payloads(client), ["x"]);
    }
}

#[test]
fn retain_handling_1_sends_to_new_subscriptions_only_even_after_a_resume() {
    // [5:MQTT-3.3.1-10]
    let mut rig = Rig::new();
    let client = rig.connect_with(persistent(V5, "c")).client;
    rig.publish_retained(client, "t", "x", QoS::AtMostOnce);
    rig.subscribe_with(client, "t", options(RetainHandling::SendIfNew), None);
    assert_eq!(rig.payloads(client), ["x"]);
    rig.subscribe_with(client, "t", options(RetainHandling::SendIfNew), None);
    assert_eq!(rig.payloads(client), [""; 0]);
    rig.cut(client);
    let client = rig.connect_with(persistent(V5, "c")).client;
    rig.subscribe_with(client, "t", options(RetainHandling::SendIfNew), None);
    assert_eq!(rig.payloads(client), [""; 0]);
    rig.unsubscribe(client, "t");
    rig.subscribe_with(client, "t", options(RetainHandling::SendIfNew), None);
    assert_eq!(rig.payloads(client), ["x"]);
}

#[test]
fn retain_handling_2_sends_nothing() {
    // [5:MQTT-3.3.1-11]
    let mut rig = Rig::new();
    let client = rig.connect(V5, "c");
    rig.publish_retained(client, "t", "x", QoS::AtMostOnce);
    rig.subscribe_with(client, "t", options(RetainHandling::DoNotSend), None);
    assert_eq!(rig.payloads(client), [""; 0]);
}

#[test]
fn retained_messages_carry_the_identifier_of_the_new_subscription() {
    // [5:MQTT-3.3.4-3]
    let mut rig = Rig::new();
    let client = rig.connect(V5, "c");
    rig.publish_retained(client, "t", "x", QoS::AtMostOnce);
    rig.subscribe_with(client, "t", options(RetainHandling::Send), Some(9));
    let got = rig.messages(client);
    let ids: Vec<_> = got[0]
        .properties()
        .subscription_ids()
        .map(SubscriptionId::get)
        .collect();
    assert_eq!(ids, [9]);
}

#[test]
fn a_retained_message_expires_and_its_interval_counts_down() {
    // [5:MQTT-3.3.2-6] [U5-040] (D15)
    let mut rig = Rig::new();
    let publisher = rig.connect(V5, "p");
    let properties = MessageProperties::builder()
        .message_expiry_secs(10)
        .build()
        .expect("valid");
    let publish = Publish::builder(name("t"))
        .payload("x")
        .retain(true)
        .delivery(Delivery::first(QoS::AtLeastOnce, PacketId::MIN))
        .properties(&properties)
        .build();
    rig.publish_packet(publisher, publish);
    rig.advance_secs(4);
    let early = rig.connect(V5, "early");
    rig.subscribe(early, "t", QoS::AtMostOnce);
    let got = rig.messages(early);
    assert_eq!(got[0].properties().message_expiry_secs(), Some(6));
    rig.advance_secs(6);
    let late = rig.connect(V5, "late");
    rig.subscribe(late, "t", QoS::AtMostOnce);
    assert_eq!(rig.payloads(late), [""; 0]);
    let mut cursor = Default::default();
    let env = rig.env();
    let _ = rig.index.sweep_retained(&mut cursor, 1_000, env.now.wall);
    assert_eq!(rig.index.retained_messages(), 0);
}

#[test]
fn the_limits_of_retained_messages_hold_and_are_told() {
    let mut rig = Rig::with(|config| config.limits.retained_messages_max = 2);
    let client = rig.connect(V5, "c");
    rig.publish_retained(client, "1", "x", QoS::AtLeastOnce);
    rig.publish_retained(client, "2", "x", QoS::AtLeastOnce);
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let publish = Publish::builder(name("3"))
            .payload("x")
            .retain(true)
            .delivery(Delivery::first(qos, PacketId::MIN))
            .build();
        assert_eq!(
            rig.publish_packet(client, publish),
            ReasonCode::QuotaExceeded
        );
    }
    rig.publish_retained(client, "2", "replaced", QoS::AtLeastOnce);
    rig.publish_retained(client, "1", "", QoS::AtLeastOnce);
    rig.publish_retained(client, "3", "x", QoS::AtLeastOnce);
    assert_eq!(rig.index.retained_messages(), 2);
}

#[test]
fn many_retained_messages_reach_a_slow_reader_without_being_queued() {
    let mut rig = Rig::with(|config| config.connection.output_bytes_max = 2_000);
    let publisher = rig.connect(V311, "p");
    for count in 0..2_000 {
        rig.publish_retained(
            publisher,
            &format!("r/{count:04}"),
            "payload",
            QoS::AtLeastOnce,
        );
    }
    let reader = rig.connect(V311, "slow");
    rig.stop_reading(reader);
    rig.subscribe_with_no_answer(reader, "r/#");
    let queued = rig.stats().queued_messages;
    assert!(
        queued <= 128,
        "one step of the scan at the most, not {queued}"
    );
    rig.start_reading(reader);
    let mut topics: Vec<_> = rig
        .messages_after_suback(reader)
        .iter()
        .filter_map(|publish| publish.topic().map(|topic| topic.as_str().to_owned()))
        .collect();
    topics.sort_unstable();
    topics.dedup();
    assert_eq!(topics.len(), 2_000);
    assert_eq!(rig.stats().dropped_total(), 0);
}

#[test]
fn shared_subscriptions_get_no_retained_messages() {
    // U5-060
    let mut rig = Rig::new();
    let client = rig.connect(V5, "c");
    rig.publish_retained(client, "t", "x", QoS::AtLeastOnce);
    rig.subscribe(client, "$share/g/t", QoS::AtLeastOnce);
    assert_eq!(rig.payloads(client), [""; 0]);
}

#[test]
fn retained_messages_survive_the_session_that_published_them() {
    // [3:MQTT-3.1.2-7]
    let mut rig = Rig::new();
    let publisher = rig.connect_with(clean(V311, "p")).client;
    rig.publish_retained(publisher, "t", "x", QoS::AtLeastOnce);
    rig.cut(publisher);
    let subscriber = rig.connect(V311, "s");
    rig.subscribe(subscriber, "t", QoS::AtMostOnce);
    assert_eq!(rig.payloads(subscriber), ["x"]);
}
