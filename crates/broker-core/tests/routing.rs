//! Who gets a message, and in which form.

mod support;

use support::{Rig, V5, V31, V311, clean, name, subscribe};
use whimbrel_broker_core::session::codec::topic::TopicName;
use whimbrel_broker_core::session::codec::{
    Delivery, MessageProperties, Packet, PacketId, PayloadFormat, Publish, QoS, ReasonCode,
    SubscriptionId, SubscriptionOptions,
};

#[test]
fn a_message_reaches_subscribers_on_every_shard_at_their_qos() {
    // [3:MQTT-3.3.2-3] [5:MQTT-3.3.2-3]
    let mut rig = Rig::new();
    let here = rig.id_on(0, "here");
    let there = rig.id_on(1, "there");
    let publisher_id = rig.id_on(0, "publisher");
    let here = rig.connect(V311, &here);
    let there = rig.connect(V5, &there);
    let publisher = rig.connect(V5, &publisher_id);
    assert_eq!(
        rig.subscribe(here, "a/+", QoS::AtLeastOnce),
        ReasonCode::GrantedQos1
    );
    assert_eq!(
        rig.subscribe(there, "#", QoS::ExactlyOnce),
        ReasonCode::GrantedQos2
    );
    assert_eq!(
        rig.publish(publisher, "a/b", "1", QoS::ExactlyOnce),
        ReasonCode::Success
    );
    let at_here = rig.messages(here);
    assert_eq!(at_here.len(), 1);
    assert_eq!(at_here[0].delivery().qos(), QoS::AtLeastOnce);
    assert_eq!(at_here[0].topic().map(TopicName::as_str), Some("a/b"));
    let at_there = rig.messages(there);
    assert_eq!(at_there.len(), 1);
    assert_eq!(at_there[0].delivery().qos(), QoS::ExactlyOnce);
    rig.publish(publisher, "c", "2", QoS::AtMostOnce);
    assert_eq!(rig.payloads(here), [""; 0]);
    assert_eq!(rig.payloads(there), ["2"]);
}

#[test]
fn every_version_talks_to_every_version() {
    let versions = [V31, V311, V5];
    for from in versions {
        for to in versions {
            let mut rig = Rig::new();
            let publisher = rig.connect(from, "publisher");
            let subscriber = rig.connect(to, "subscriber");
            rig.subscribe(subscriber, "t", QoS::ExactlyOnce);
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                rig.publish(publisher, "t", "x", qos);
                let got = rig.messages(subscriber);
                assert_eq!(got.len(), 1, "{from:?} to {to:?} at {qos:?}");
                assert_eq!(got[0].delivery().qos(), qos);
            }
        }
    }
}

#[test]
fn one_publisher_keeps_its_order_per_topic_across_shards() {
    // [3:MQTT-4.6.0-5] [3:MQTT-4.6.0-6] [5:MQTT-4.6.0-5] [5:MQTT-4.6.0-6]
    for version in [V311, V5] {
        let mut rig = Rig::new();
        let publisher_id = rig.id_on(0, "p");
        let subscriber_id = rig.id_on(1, "s");
        let publisher = rig.connect(version, &publisher_id);
        let subscriber = rig.connect(version, &subscriber_id);
        rig.subscribe(subscriber, "t", QoS::ExactlyOnce);
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            for count in 0..200 {
                rig.publish(publisher, "t", &count.to_string(), qos);
            }
            let expected: Vec<_> = (0..200).map(|count| count.to_string()).collect();
            assert_eq!(rig.payloads(subscriber), expected, "{qos:?}");
        }
    }
}

#[test]
fn overlapping_subscriptions_give_one_copy_with_the_highest_qos_and_all_identifiers() {
    // [5:MQTT-3.3.4-2] [5:MQTT-3.3.4-3] [5:MQTT-3.3.4-4] (E1)
    let mut rig = Rig::new();
    let publisher = rig.connect(V5, "p");
    let subscriber = rig.connect(V5, "s");
    for (filter, qos, id) in [
        ("a/#", QoS::AtMostOnce, 1),
        ("a/+", QoS::ExactlyOnce, 2),
        ("+/b", QoS::AtLeastOnce, 3),
    ] {
        rig.subscribe_with(subscriber, filter, SubscriptionOptions::new(qos), Some(id));
    }
    rig.publish(publisher, "a/b", "x", QoS::ExactlyOnce);
    let got = rig.messages(subscriber);
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].delivery().qos(), QoS::ExactlyOnce);
    let mut ids: Vec<_> = got[0]
        .properties()
        .subscription_ids()
        .map(SubscriptionId::get)
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, [1, 2, 3]);
}

#[test]
fn subscribing_again_replaces_options_and_identifier() {
    // [5:MQTT-3.8.4-3] [U5-062]
    let mut rig = Rig::new();
    let publisher = rig.connect(V5, "p");
    let subscriber = rig.connect(V5, "s");
    rig.subscribe_with(
        subscriber,
        "t",
        SubscriptionOptions::new(QoS::ExactlyOnce),
        Some(7),
    );
    rig.subscribe_with(
        subscriber,
        "t",
        SubscriptionOptions::new(QoS::AtMostOnce),
        None,
    );
    rig.publish(publisher, "t", "x", QoS::ExactlyOnce);
    let got = rig.messages(subscriber);
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].delivery(), Delivery::AtMostOnce);
    assert_eq!(got[0].properties().subscription_ids().count(), 0);
}

#[test]
fn no_local_keeps_a_client_from_hearing_itself() {
    // [5:MQTT-3.8.3-3]
    let mut rig = Rig::new();
    let client = rig.connect(V5, "c");
    let other = rig.connect(V5, "o");
    let options = SubscriptionOptions {
        no_local: true,
        ..SubscriptionOptions::new(QoS::AtLeastOnce)
    };
    rig.subscribe_with(client, "t", options, None);
    rig.publish(client, "t", "mine", QoS::AtLeastOnce);
    rig.publish(other, "t", "theirs", QoS::AtLeastOnce);
    assert_eq!(rig.payloads(client), ["theirs"]);
}

#[test]
fn retain_as_published_keeps_the_flag_and_its_absence_clears_it() {
    // [3:MQTT-3.3.1-9] [5:MQTT-3.3.1-12] [5:MQTT-3.3.1-13]
    let mut rig = Rig::new();
    let publisher = rig.connect(V5, "p");
    let keeps = rig.connect(V5, "keeps");
    let clears = [rig.connect(V311, "clears"), rig.connect(V5, "clears too")];
    let options = SubscriptionOptions {
        retain_as_published: true,
        ..SubscriptionOptions::new(QoS::AtMostOnce)
    };
    rig.subscribe_with(keeps, "t", options, None);
    for client in clears {
        rig.subscribe(client, "t", QoS::AtMostOnce);
    }
    rig.publish_retained(publisher, "t", "x", QoS::AtMostOnce);
    rig.publish(publisher, "t", "x", QoS::AtMostOnce);
    let kept: Vec<_> = rig.messages(keeps).iter().map(Publish::retain).collect();
    assert_eq!(kept, [true, false]);
    for client in clears {
        let cleared: Vec<_> = rig.messages(client).iter().map(Publish::retain).collect();
        assert_eq!(cleared, [false, false]);
    }
}

#[test]
fn properties_are_forwarded_unchanged_and_the_alias_is_not() {
    // [5:MQTT-3.3.2-4] [5:MQTT-3.3.2-15] [5:MQTT-3.3.2-16] [5:MQTT-3.3.2-17] [5:MQTT-3.3.2-18]
    // [5:MQTT-3.3.2-20]
    let mut rig = Rig::with(|config| config.connection.topic_alias_maximum = 5);
    let publisher = rig.connect(V5, "p");
    let subscriber = rig.connect(V5, "s");
    rig.subscribe(subscriber, "t", QoS::AtMostOnce);
    let topic = name("reply/to");
    let properties = MessageProperties::builder()
        .payload_format(PayloadFormat::Utf8)
        .content_type("text/plain")
        .response_topic(&topic)
        .correlation_data(b"\x00\x01")
        .user_property("b", "1")
        .user_property("a", "2")
        .user_property("b", "3")
        .build()
        .expect("valid");
    let publish = Publish::builder(name("t"))
        .properties(&properties)
        .topic_alias(std::num::NonZeroU16::MIN)
        .payload("x")
        .build();
    rig.publish_packet(publisher, publish);
    let got = &rig.messages(subscriber)[0];
    let forwarded = got.properties();
    assert_eq!(forwarded.topic_alias(), None);
    assert_eq!(forwarded.payload_format(), PayloadFormat::Utf8);
    assert_eq!(forwarded.content_type(), Some("text/plain"));
    assert_eq!(
        forwarded.response_topic().map(TopicName::as_str),
        Some("reply/to")
    );
    assert_eq!(forwarded.correlation_data(), Some(&b"\x00\x01"[..]));
    let pairs: Vec<_> = forwarded
        .user_properties()
        .map(|property| (property.name, property.value))
        .collect();
    assert_eq!(pairs, [("b", "1"), ("a", "2"), ("b", "3")]);
}

#[test]
fn a_publisher_is_told_when_nobody_subscribed() {
    // D3
    let mut rig = Rig::new();
    let publisher = rig.connect(V5, "p");
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let reason = rig.publish(publisher, "nobody", "x", qos);
        assert_eq!(reason, ReasonCode::NoMatchingSubscribers);
    }
}

#[test]
fn clients_cannot_publish_to_the_brokers_own_topics() {
    let mut rig = Rig::new();
    let publisher = rig.connect(V5, "p");
    let subscriber = rig.connect(V5, "s");
    rig.subscribe(subscriber, "$SYS/#", QoS::AtMostOnce);
    let reason = rig.publish(publisher, "$SYS/broker/uptime", "x", QoS::AtLeastOnce);
    assert_eq!(reason, ReasonCode::NotAuthorized);
    assert_eq!(rig.payloads(subscriber), [""; 0]);
}

#[test]
fn filters_that_start_with_a_wildcard_do_not_match_dollar_topics() {
    // [3:MQTT-4.7.2-1] [5:MQTT-4.7.2-1]
    for version in [V311, V5] {
        let mut rig = Rig::new();
        let publisher = rig.connect(version, "p");
        let subscriber = rig.connect(version, "s");
        rig.subscribe(subscriber, "#", QoS::AtMostOnce);
        rig.subscribe(subscriber, "+/x", QoS::AtMostOnce);
        rig.publish(publisher, "$own/x", "hidden", QoS::AtMostOnce);
        assert_eq!(rig.payloads(subscriber), [""; 0]);
        rig.subscribe(subscriber, "$own/#", QoS::AtMostOnce);
        rig.publish(publisher, "$own/x", "seen", QoS::AtMostOnce);
        assert_eq!(rig.payloads(subscriber), ["seen"]);
    }
}

#[test]
fn unsubscribing_ends_deliveries_and_reports_what_existed() {
    // [5:MQTT-3.10.4-1] [5:MQTT-3.10.4-2] [5:MQTT-3.10.4-5]
    let mut rig = Rig::new();
    let publisher = rig.connect(V5, "p");
    let subscriber = rig.connect(V5, "s");
    rig.subscribe(subscriber, "a/+", QoS::AtMostOnce);
    let none = Some(ReasonCode::NoSubscriptionExisted);
    assert_eq!(rig.unsubscribe(subscriber, "a/b"), none, "exact text only");
    assert_eq!(
        rig.unsubscribe(subscriber, "a/+"),
        Some(ReasonCode::Success)
    );
    assert_eq!(rig.unsubscribe(subscriber, "a/+"), none);
    rig.publish(publisher, "a/b", "x", QoS::AtMostOnce);
    assert_eq!(rig.payloads(subscriber), [""; 0]);
}

#[test]
fn an_invalid_filter_gets_its_code_and_the_others_are_served() {
    // [5:MQTT-3.8.4-5] [5:MQTT-3.8.4-6] [5:MQTT-3.9.3-1] (E2)
    let mut rig = Rig::new();
    let publisher = rig.connect(V5, "p");
    let subscriber = rig.connect(V5, "s");
    let options = SubscriptionOptions::new(QoS::AtLeastOnce);
    let filters = [("a/#/b", options), ("ok", options), ("$share/g", options)];
    rig.send(subscriber, subscribe(&filters, None));
    let packets = rig.take(subscriber);
    let [Packet::SubAck(suback)] = &packets[..] else {
        panic!("expected SUBACK, got {packets:?}");
    };
    assert_eq!(
        suback.codes,
        [
            ReasonCode::TopicFilterInvalid,
            ReasonCode::GrantedQos1,
            ReasonCode::TopicFilterInvalid
        ]
    );
    rig.publish(publisher, "ok", "x", QoS::AtMostOnce);
    assert_eq!(rig.payloads(subscriber), ["x"]);
}

#[test]
fn a_filter_with_too_many_levels_and_one_subscription_too_many_are_refused() {
    let mut rig = Rig::with(|config| {
        config.limits.topic_levels_max = 3;
        config.limits.subscriptions_per_session_max = 2;
    });
    let client = rig.connect(V5, "c");
    let refused = rig.subscribe(client, "a/b/c/d", QoS::AtMostOnce);
    assert_eq!(refused, ReasonCode::TopicFilterInvalid);
    assert_eq!(
        rig.subscribe(client, "1", QoS::AtMostOnce),
        ReasonCode::Success
    );
    assert_eq!(
        rig.subscribe(client, "2", QoS::AtMostOnce),
        ReasonCode::Success
    );
    assert_eq!(
        rig.subscribe(client, "3", QoS::AtMostOnce),
        ReasonCode::QuotaExceeded
    );
    assert_eq!(
        rig.subscribe(client, "2", QoS::AtLeastOnce),
        ReasonCode::GrantedQos1
    );
    let reason = rig.publish(client, "a/b/c/d", "x", QoS::AtLeastOnce);
    assert_eq!(reason, ReasonCode::TopicNameInvalid);
}

#[test]
fn everything_is_gone_when_everybody_is_gone() {
    let mut rig = Rig::new();
    let clients: Vec<_> = (0..20)
        .map(|count| {
            let client = rig.connect(V5, &format!("client{count}"));
            rig.subscribe(client, "a/#", QoS::AtLeastOnce);
            rig.subscribe(client, &format!("b/{count}"), QoS::ExactlyOnce);
            rig.subscribe(client, "$share/g/c/+", QoS::AtLeastOnce);
            client
        })
        .collect();
    for &client in &clients {
        rig.publish(client, "a/b", "x", QoS::AtLeastOnce);
        rig.publish(client, "c/d", "y", QoS::AtLeastOnce);
    }
    for client in clients {
        rig.cut(client);
    }
    rig.assert_empty();
}

#[test]
fn a_second_connect_closes_the_connection() {
    // [5:MQTT-3.1.0-2]
    let mut rig = Rig::new();
    let client = rig.connect(V5, "c");
    rig.send(client, Packet::Connect(Box::new(clean(V5, "c"))));
    let packets = rig.take(client);
    assert!(
        matches!(&packets[..], [Packet::Disconnect(disconnect)] if disconnect.reason == ReasonCode::ProtocolError),
        "{packets:?}"
    );
    assert!(!rig.is_open(client));
}

#[test]
fn a_malformed_packet_closes_its_own_connection_only() {
    // [5:MQTT-4.13.1-1] [U5-111]
    let mut rig = Rig::new();
    let good = rig.connect(V5, "good");
    let bad = rig.connect(V5, "bad");
    rig.subscribe(good, "t", QoS::AtMostOnce);
    rig.send_raw(bad, &[0x00, 0x00]);
    let packets = rig.take(bad);
    assert!(
        matches!(&packets[..], [Packet::Disconnect(disconnect)] if disconnect.reason == ReasonCode::MalformedPacket),
        "{packets:?}"
    );
    assert!(!rig.is_open(bad));
    rig.publish(good, "t", "x", QoS::AtMostOnce);
    assert_eq!(rig.payloads(good), ["x"]);
    assert_eq!(rig.stats().protocol_error_closes, 1);
}

#[test]
fn bytes_may_come_one_at_a_time() {
    let mut rig = Rig::new();
    let subscriber = rig.connect(V311, "s");
    rig.subscribe(subscriber, "t", QoS::AtMostOnce);
    let publisher = rig.connect(V311, "p");
    let mut buffer = whimbrel_broker_core::session::codec::WriteBuf::new();
    let publish = Publish::builder(name("t"))
        .payload("x".repeat(300))
        .delivery(Delivery::first(QoS::AtLeastOnce, PacketId::MIN))
        .build();
    Packet::Publish(publish)
        .encode(V311, &mut buffer)
        .expect("encodes");
    for &byte in buffer.chunk() {
        rig.send_raw(publisher, &[byte]);
    }
    assert_eq!(rig.payloads(subscriber), ["x".repeat(300)]);
}
