//! What an operator may switch off or on, and how clients of each version take it.

mod support;

use std::num::{NonZeroU16, NonZeroU32};

use support::pieces::{attach, encoded, will};
use support::{Rig, V5, V31, V311, clean, message, name, persistent};
use whimbrel_broker_core::session::codec::{
    MessageProperties, Packet, PayloadFormat, Publish, QoS, ReasonCode, SubscriptionOptions,
};
use whimbrel_broker_core::{DropCause, LocalPublish, Verdict};

#[test]
fn no_more_than_the_maximum_qos_is_granted() {
    // [5:MQTT-3.2.2-10] [5:MQTT-3.8.4-7] [3:MQTT-3.8.4-5] E15
    for version in [V31, V311, V5] {
        let mut rig = Rig::with(|config| config.connection.maximum_qos = QoS::AtLeastOnce);
        let subscriber = rig.connect(version, "s");
        for (asked, granted) in [
            (QoS::AtMostOnce, ReasonCode::GRANTED_QOS_0),
            (QoS::AtLeastOnce, ReasonCode::GrantedQos1),
            (QoS::ExactlyOnce, ReasonCode::GrantedQos1),
        ] {
            assert_eq!(rig.subscribe(subscriber, "t", asked), granted);
        }
        let shared = rig.subscribe(subscriber, "$share/g/t", QoS::ExactlyOnce);
        assert_eq!(shared, ReasonCode::GrantedQos1);
    }
}

#[test]
fn a_will_beyond_what_is_available_is_refused_to_who_can_know() {
    // [5:MQTT-3.2.2-12] [5:MQTT-3.2.2-13]
    let connect = |version, qos, retain| {
        let mut connect = clean(version, "c");
        connect.will = Some(will(qos, retain));
        connect
    };
    let restricted = || {
        Rig::with(|config| {
            config.connection.maximum_qos = QoS::AtLeastOnce;
            config.connection.retain_available = false;
        })
    };
    let refused = restricted().connect_with(connect(V5, QoS::ExactlyOnce, false));
    assert_eq!(refused.connack.reason, ReasonCode::QosNotSupported);
    let refused = restricted().connect_with(connect(V5, QoS::AtMostOnce, true));
    assert_eq!(refused.connack.reason, ReasonCode::RetainNotSupported);
    let mut rig = restricted();
    let subscriber = rig.connect(V5, "s");
    let as_published = {
        let mut options = SubscriptionOptions::new(QoS::AtMostOnce);
        options.retain_as_published = true;
        options
    };
    rig.subscribe_with(subscriber, "t", as_published, None);
    let vanishing = rig.connect_with(connect(V311, QoS::ExactlyOnce, true));
    assert_eq!(vanishing.connack.reason, ReasonCode::Success);
    rig.cut(vanishing.client);
    let got = rig.messages(subscriber);
    assert_eq!(got.len(), 1);
    assert!(!got[0].retain());
    assert_eq!(rig.index.retained_messages(), 0);
}

#[test]
fn nothing_is_retained_for_clients_that_are_not_told_that_nothing_is() {
    let mut rig = Rig::with(|config| config.connection.retain_available = false);
    let publisher = rig.connect(V311, "p");
    rig.publish_retained(publisher, "t", "x", QoS::AtLeastOnce);
    let subscriber = rig.connect(V311, "s");
    rig.subscribe(subscriber, "t", QoS::AtMostOnce);
    assert_eq!(rig.payloads(subscriber), [""; 0]);
}

#[test]
fn what_the_broker_its_embedder_and_its_hooks_publish_is_not_retained_either() {
    let mut rig = Rig::with(|config| {
        config.shards = 1;
        config.connection.retain_available = false;
    });
    let publisher = rig.connect(V5, "p");
    let retained = Publish::builder(name("hook"))
        .payload("x")
        .retain(true)
        .build();
    let received = encoded(V5, &[Packet::Publish(message("t", "x", QoS::AtMostOnce))]);
    let inside = attach(&rig, 0, "inside");
    {
        let mut shard = rig.shards[0].borrow_mut();
        let env = rig.env();
        let key = rig.key(publisher);
        let event = shard.receive(env, key, &received).event;
        let verdict = Verdict::Replace(Box::new(retained));
        shard.apply(env, key, event.expect("a PUBLISH"), verdict);
        let publish = LocalPublish {
            topic: name("inside"),
            payload: "x".into(),
            qos: QoS::AtMostOnce,
            retain: true,
            properties: MessageProperties::new(),
        };
        shard.local_publish(env, inside, &publish, 1);
        shard.publish_system(env, &name("$SYS/x"), b"x");
    }
    assert_eq!(rig.index.retained_messages(), 0);
}

#[test]
fn filters_that_are_not_available_are_refused_to_mqtt_3_in_suback() {
    // [3:MQTT-3.8.3-2]
    let mut rig = Rig::with(|config| {
        config.connection.wildcard_subscription_available = false;
        config.connection.shared_subscription_available = false;
    });
    let client = rig.connect(V311, "c");
    for filter in ["#", "a/+", "$share/g/a"] {
        let code = rig.subscribe(client, filter, QoS::AtLeastOnce);
        assert_eq!(code, ReasonCode::UnspecifiedError, "{filter}");
    }
    let code = rig.subscribe(client, "a", QoS::AtLeastOnce);
    assert_eq!(code, ReasonCode::GrantedQos1);
}

#[test]
fn mqtt_3_1_is_told_what_it_asked_for_even_where_it_is_refused() {
    // [U31-004] E14
    let mut rig = Rig::with(|config| config.limits.subscriptions_per_session_max = 1);
    let client = rig.connect(V31, "c");
    assert_eq!(
        rig.subscribe(client, "a", QoS::AtLeastOnce),
        ReasonCode::GrantedQos1
    );
    assert_eq!(
        rig.subscribe(client, "b", QoS::ExactlyOnce),
        ReasonCode::GrantedQos2
    );
    let publisher = rig.connect(V311, "p");
    rig.publish(publisher, "b", "x", QoS::AtLeastOnce);
    assert_eq!(rig.payloads(client), [""; 0]);
}

#[test]
fn an_invalid_filter_can_not_be_unsubscribed_from() {
    // [5:MQTT-3.11.3-2]
    let mut rig = Rig::new();
    let client = rig.connect(V5, "c");
    let code = rig.unsubscribe(client, "a/#/b");
    assert_eq!(code, Some(ReasonCode::TopicFilterInvalid));
    let code = rig.unsubscribe(client, "a/b");
    assert_eq!(code, Some(ReasonCode::NoSubscriptionExisted));
}

fn claimed(format: PayloadFormat, payload: &'static [u8], qos: QoS) -> Publish {
    let properties = MessageProperties::builder().payload_format(format).build();
    Publish::builder(name("t"))
        .properties(&properties.expect("valid"))
        .payload(payload)
        .delivery(support::pieces::first(qos, 1))
        .build()
}

#[test]
fn a_payload_that_is_not_what_it_is_said_to_be_is_refused_where_that_is_looked_at() {
    // [U5-046]
    const NOT_TEXT: &[u8] = b"\xff\xfe";
    for is_checked in [false, true] {
        let mut rig = Rig::with(|config| config.payload_format_checked = is_checked);
        let publisher = rig.connect(V5, "p");
        let subscriber = rig.connect(V5, "s");
        rig.subscribe(subscriber, "t", QoS::AtMostOnce);
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let text = claimed(PayloadFormat::Utf8, "tür".as_bytes(), qos);
            assert_eq!(rig.publish_packet(publisher, text), ReasonCode::Success);
            let bytes = claimed(PayloadFormat::Bytes, NOT_TEXT, qos);
            assert_eq!(rig.publish_packet(publisher, bytes), ReasonCode::Success);
            let wrong = claimed(PayloadFormat::Utf8, NOT_TEXT, qos);
            let expected = if is_checked {
                ReasonCode::PayloadFormatInvalid
            } else {
                ReasonCode::Success
            };
            assert_eq!(rig.publish_packet(publisher, wrong), expected);
        }
        let wrong = claimed(PayloadFormat::Utf8, NOT_TEXT, QoS::AtMostOnce);
        rig.publish_packet(publisher, wrong);
        let (delivered, refused) = if is_checked { (4, 3) } else { (7, 0) };
        assert_eq!(rig.messages(subscriber).len(), delivered);
        assert_eq!(rig.stats().publishes_refused, refused);
    }
}

#[test]
fn a_client_that_takes_aliases_gets_each_topic_once() {
    // [5:MQTT-3.1.2-26] [5:MQTT-3.1.2-27] [5:MQTT-3.3.2-11]
    let mut rig = Rig::new();
    let mut connect = clean(V5, "aliased");
    connect.properties.topic_alias_max = 1;
    let aliased = rig.connect_with(connect).client;
    let plain = rig.connect(V5, "plain");
    for client in [aliased, plain] {
        rig.subscribe(client, "#", QoS::AtLeastOnce);
    }
    let publisher = rig.connect(V311, "p");
    for topic in ["a", "a", "b", "a"] {
        rig.publish(publisher, topic, "x", QoS::AtLeastOnce);
    }
    let mut named = |client| -> Vec<_> {
        let messages = rig.messages(client);
        let named = messages.iter().map(|publish| {
            let topic = publish.topic().map(|topic| topic.as_str().to_owned());
            let alias = publish.properties().topic_alias().map(NonZeroU16::get);
            (topic.unwrap_or_default(), alias)
        });
        named.collect()
    };
    let told = |topic: &str, alias| (topic.to_owned(), alias);
    assert_eq!(
        named(aliased),
        [
            told("a", Some(1)),
            told("", Some(1)),
            told("b", None),
            told("", Some(1))
        ]
    );
    let names = ["a", "a", "b", "a"].map(|topic| told(topic, None));
    assert_eq!(named(plain), names);
}

#[test]
fn a_shared_message_too_large_for_one_member_goes_to_another() {
    // F7
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut rig = Rig::new();
        let small: Vec<_> = (0..2)
            .map(|shard| {
                let id = rig.id_on(shard, "small");
                let mut connect = persistent(V5, &id);
                connect.properties.packet_size_max = NonZeroU32::new(100);
                rig.connect_with(connect).client
            })
            .collect();
        let large = rig.connect(V5, "large");
        for &client in small.iter().chain([&large]) {
            rig.subscribe(client, "$share/g/t", QoS::ExactlyOnce);
        }
        let publisher = rig.connect(V311, "p");
        for _ in 0..6 {
            rig.publish(publisher, "t", &"x".repeat(200), qos);
        }
        assert_eq!(rig.messages(large).len(), 6, "{qos:?}");
        assert_eq!(rig.stats().dropped_total(), 0);

        rig.cut(large);
        rig.publish(publisher, "t", &"x".repeat(200), qos);
        assert_eq!(rig.stats().dropped_by(DropCause::TooLarge), 1);
        rig.publish(publisher, "t", "fits", qos);
        let got: usize = small.iter().map(|&client| rig.messages(client).len()).sum();
        assert_eq!(got, 1);
    }
}
