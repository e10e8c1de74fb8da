//! SUBSCRIBE, UNSUBSCRIBE and what they change, in both versions whose statements are numbered.

mod support;

use support::pieces::{first, publication};
use support::{Client, Rig, V5, V311, persistent, subscribe};
use whimbrel_broker_core::session::codec::topic::ByteStr;
use whimbrel_broker_core::session::codec::{
    Ack, Delivery, Packet, PacketId, ProtocolVersion, Publish, QoS, ReasonCode, SubscriptionId,
    SubscriptionOptions, Unsubscribe, UserProperties,
};

const EVERY_QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

fn ids(publish: &Publish) -> Vec<u32> {
    let ids = publish.properties().subscription_ids();
    ids.map(SubscriptionId::get).collect()
}

fn unsubscribe(filters: &[&str]) -> Packet {
    Packet::Unsubscribe(Unsubscribe {
        id: PacketId::MIN,
        filters: filters.iter().map(|&text| ByteStr::from(text)).collect(),
        user_properties: UserProperties::new(),
    })
}

/// A rig with a publisher and a subscriber of this version.
fn two(version: ProtocolVersion) -> (Rig, Client, Client) {
    let mut rig = Rig::new();
    let publisher = rig.connect(version, "p");
    let subscriber = rig.connect(version, "s");
    (rig, publisher, subscriber)
}

#[test]
fn delivery_qos_is_the_lower_of_published_and_granted() {
    // [3:MQTT-3.8.4-5] [3:MQTT-3.8.4-6] [5:MQTT-3.8.4-7] [5:MQTT-3.8.4-8]
    for version in [V311, V5] {
        for granted in EVERY_QOS {
            let (mut rig, publisher, subscriber) = two(version);
            let code = rig.subscribe(subscriber, "t", granted);
            assert_eq!(code, ReasonCode::granted(granted));
            for published in EVERY_QOS {
                rig.publish(publisher, "t", "x", published);
                let got = rig.messages(subscriber);
                assert_eq!(got.len(), 1);
                assert_eq!(got[0].delivery().qos(), granted.min(published));
            }
        }
    }
}

#[test]
fn overlapping_subscriptions_deliver_at_the_highest_granted_qos() {
    // [3:MQTT-3.3.5-1] [5:MQTT-3.3.4-2] (E1)
    let filters = [
        ("a/#", QoS::AtMostOnce),
        ("a/+", QoS::ExactlyOnce),
        ("+/b", QoS::AtLeastOnce),
    ];
    for version in [V311, V5] {
        for start in 0..filters.len() {
            let (mut rig, publisher, subscriber) = two(version);
            for (filter, qos) in filters.iter().cycle().skip(start).take(filters.len()) {
                rig.subscribe(subscriber, filter, *qos);
            }
            rig.publish(publisher, "a/b", "x", QoS::ExactlyOnce);
            let got = rig.messages(subscriber);
            let highest = got.iter().map(|publish| publish.delivery().qos()).max();
            assert_eq!(highest, Some(QoS::ExactlyOnce));
        }
    }
}

#[test]
fn subscribing_again_replaces_and_sends_retained_messages_again() {
    // [3:MQTT-3.8.4-3] [5:MQTT-3.8.4-3] [5:MQTT-3.8.4-4] (E12)
    for version in [V311, V5] {
        let (mut rig, publisher, subscriber) = two(version);
        rig.publish_retained(publisher, "t", "kept", QoS::AtLeastOnce);
        rig.subscribe(subscriber, "t", QoS::AtLeastOnce);
        rig.publish(publisher, "t", "before", QoS::AtLeastOnce);
        rig.send(
            subscriber,
            subscribe(&[("t", SubscriptionOptions::new(QoS::AtMostOnce))], None),
        );
        rig.publish(publisher, "t", "after", QoS::AtLeastOnce);
        let got = rig.messages_after_suback(subscriber);
        let seen: Vec<_> = got
            .iter()
            .map(|publish| (publish.payload(), publish.delivery().qos()))
            .collect();
        assert_eq!(
            seen,
            [
                (&b"kept"[..], QoS::AtLeastOnce),
                (b"before", QoS::AtLeastOnce),
                (b"kept", QoS::AtMostOnce),
                (b"after", QoS::AtMostOnce),
            ]
        );
    }
}

#[test]
fn unsubscribing_compares_the_text_and_ends_deliveries() {
    // [3:MQTT-3.10.4-1] [3:MQTT-3.10.4-2] [3:MQTT-3.10.4-4] [3:MQTT-3.10.4-5]
    // [5:MQTT-3.10.4-1] [5:MQTT-3.10.4-2] [5:MQTT-3.10.4-4] [5:MQTT-3.10.4-5]
    for version in [V311, V5] {
        let (mut rig, publisher, subscriber) = two(version);
        rig.subscribe(subscriber, "a/+", QoS::AtMostOnce);
        for other in ["a/b", "a/#", "+/+", "A/+", "a/+/"] {
            // Answered all the same.
            rig.send(subscriber, unsubscribe(&[other]));
            let answer = rig.take(subscriber);
            assert!(matches!(&answer[..], [Packet::UnsubAck(ack)] if ack.id == PacketId::MIN));
            rig.publish(publisher, "a/b", other, QoS::AtMostOnce);
            assert_eq!(rig.payloads(subscriber), [other]);
        }
        assert_eq!(
            rig.unsubscribe(subscriber, "a/+"),
            Some(ReasonCode::Success)
        );
        rig.publish(publisher, "a/b", "x", QoS::AtMostOnce);
        assert_eq!(rig.payloads(subscriber), [""; 0]);
    }
}

#[test]
fn deliveries_under_way_are_finished_after_unsubscribing() {
    // [3:MQTT-3.10.4-3] [5:MQTT-3.10.4-3]
    for version in [V311, V5] {
        let mut rig = Rig::new();
        let publisher = rig.connect(version, "p");
        let subscriber = rig.connect_with(persistent(version, "s")).client;
        rig.subscribe(subscriber, "t", QoS::ExactlyOnce);
        rig.publish(publisher, "t", "one", QoS::AtLeastOnce);
        rig.publish(publisher, "t", "two", QoS::ExactlyOnce);
        let sent: Vec<_> = publications(&rig.take(subscriber));
        assert_eq!(sent.len(), 2);
        rig.send(subscriber, unsubscribe(&["t"]));
        assert!(matches!(&rig.take(subscriber)[..], [Packet::UnsubAck(_)]));

        // Also over another connection.
        rig.cut(subscriber);
        let subscriber = rig.connect_with_messages(persistent(version, "s"));
        let again = publications(&rig.take(subscriber));
        let expected: Vec<_> = sent.iter().map(|delivery| delivery.repeated()).collect();
        assert_eq!(again, expected);
        let [one, two] = again[..] else {
            panic!("{again:?}");
        };
        let id = one.packet_id().expect("QoS 1");
        rig.send(subscriber, Packet::PubAck(Ack::success(id)));
        let id = two.packet_id().expect("QoS 2");
        rig.send(subscriber, Packet::PubRec(Ack::success(id)));
        assert_eq!(
            rig.take(subscriber),
            [Packet::PubRel(Ack::success(id))],
            "the handshake goes on"
        );
        rig.send(subscriber, Packet::PubComp(Ack::success(id)));
        rig.cut(subscriber);
        let subscriber = rig.connect_with_messages(persistent(version, "s"));
        assert!(rig.take(subscriber).is_empty(), "all is finished");
    }
}

fn publications(packets: &[Packet]) -> Vec<Delivery> {
    let deliveries = packets.iter().filter_map(|packet| match packet {
        Packet::Publish(publish) => Some(publish.delivery()),
        _ => None,
    });
    deliveries.collect()
}

#[test]
fn several_filters_of_one_request_act_in_order_and_have_one_answer() {
    // [3:MQTT-3.8.4-4] [3:MQTT-3.8.4-5] [3:MQTT-3.9.3-1] [3:MQTT-3.10.4-6]
    // [5:MQTT-3.8.4-5] [5:MQTT-3.8.4-6] [5:MQTT-3.9.3-1] [5:MQTT-3.10.4-6] [5:MQTT-3.11.3-1]
    for version in [V311, V5] {
        let (mut rig, publisher, subscriber) = two(version);
        let options = SubscriptionOptions::new;
        let filters = [
            ("t", options(QoS::AtMostOnce)),
            ("t", options(QoS::ExactlyOnce)),
            ("u", options(QoS::AtLeastOnce)),
        ];
        rig.send(subscriber, subscribe(&filters, None));
        let answer = rig.take(subscriber);
        let [Packet::SubAck(suback)] = &answer[..] else {
            panic!("{answer:?}");
        };
        assert_eq!(
            suback.codes,
            [QoS::AtMostOnce, QoS::ExactlyOnce, QoS::AtLeastOnce].map(ReasonCode::granted)
        );
        rig.publish(publisher, "t", "x", QoS::ExactlyOnce);
        let got = rig.messages(subscriber);
        assert_eq!(got.len(), 1, "the second has replaced the first");
        assert_eq!(got[0].delivery().qos(), QoS::ExactlyOnce);

        rig.send(subscriber, unsubscribe(&["t", "t", "u"]));
        let answer = rig.take(subscriber);
        let [Packet::UnsubAck(unsuback)] = &answer[..] else {
            panic!("{answer:?}");
        };
        let codes: &[ReasonCode] = if version.is_v5() {
            &[
                ReasonCode::Success,
                ReasonCode::NoSubscriptionExisted,
                ReasonCode::Success,
            ]
        } else {
            &[]
        };
        assert_eq!(unsuback.codes, codes);
        for topic in ["t", "u"] {
            rig.publish(publisher, topic, "x", QoS::AtMostOnce);
        }
        assert_eq!(rig.payloads(subscriber), [""; 0]);
    }
}

#[test]
fn outgoing_dup_does_not_follow_incoming_dup() {
    // [3:MQTT-3.3.1-3] [5:MQTT-3.3.1-3]
    for version in [V311, V5] {
        let mut rig = Rig::new();
        let publisher = rig.connect(version, "p");
        let subscriber = rig.connect_with(persistent(version, "s")).client;
        rig.subscribe(subscriber, "t", QoS::AtLeastOnce);
        for (id, dup) in [(1, true), (2, false)] {
            let delivery = first(QoS::AtLeastOnce, id);
            let delivery = if dup { delivery.repeated() } else { delivery };
            rig.publish_packet(publisher, publication("t", "x", delivery));
        }
        let sent = publications(&rig.take(subscriber));
        assert_eq!(sent.len(), 2);
        assert!(sent.iter().all(|delivery| !delivery.dup()));
        rig.cut(subscriber);
        let subscriber = rig.connect_with_messages(persistent(version, "s"));
        let again = publications(&rig.take(subscriber));
        assert_eq!(again.len(), 2);
        assert!(again.iter().all(|delivery| delivery.dup()));
    }
}

#[test]
fn a_server_without_qos_1_or_2_takes_subscriptions_of_every_qos() {
    // [5:MQTT-3.2.2-9] [5:MQTT-3.2.2-10]
    for maximum in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let mut rig = Rig::with(|config| config.connection.maximum_qos = maximum);
        let connected = rig.connect_with(persistent(V5, "s"));
        assert_eq!(connected.connack.properties.maximum_qos, maximum);
        let publisher = rig.connect(V5, "p");
        for qos in EVERY_QOS {
            let code = rig.subscribe(connected.client, "t", qos);
            assert!(!code.is_error(), "{code}");
            rig.publish(publisher, "t", "x", maximum);
            assert_eq!(rig.payloads(connected.client), ["x"]);
        }
    }
}

#[test]
fn a_shared_message_carries_the_identifiers_of_its_receiver_only() {
    // [5:MQTT-3.3.4-3] [U5-049]
    let mut rig = Rig::new();
    let publisher = rig.connect(V5, "p");
    let options = SubscriptionOptions::new(QoS::AtLeastOnce);
    let members = [1, 2, 3].map(|id| {
        let member = rig.connect(V5, &format!("m{id}"));
        // The third has given none.
        let given = (id < 3).then_some(id);
        rig.subscribe_with(member, "$share/g/t", options, given);
        member
    });
    for _ in 0..30 {
        rig.publish(publisher, "t", "x", QoS::AtLeastOnce);
    }
    for (member, expected) in members.into_iter().zip([vec![1], vec![2], vec![]]) {
        let got = rig.messages(member);
        assert!(!got.is_empty());
        assert!(got.iter().all(|publish| ids(publish) == expected));
    }
}

#[test]
fn a_member_that_subscribes_again_is_one_member_and_leaves_once() {
    // [U5-104]
    let mut rig = Rig::new();
    let publisher = rig.connect(V5, "p");
    let member = rig.connect(V5, "m");
    rig.subscribe(member, "$share/g/t", QoS::AtLeastOnce);
    let code = rig.subscribe(member, "$share/g/t", QoS::AtMostOnce);
    assert_eq!(code, ReasonCode::GRANTED_QOS_0);
    rig.publish(publisher, "t", "x", QoS::AtLeastOnce);
    let got = rig.messages(member);
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].delivery(), Delivery::AtMostOnce);
    let left = rig.unsubscribe(member, "$share/g/t");
    assert_eq!(left, Some(ReasonCode::Success));
    rig.publish(publisher, "t", "x", QoS::AtLeastOnce);
    assert_eq!(rig.payloads(member), [""; 0]);
    let left = rig.unsubscribe(member, "$share/g/t");
    assert_eq!(left, Some(ReasonCode::NoSubscriptionExisted));
}

#[test]
fn a_message_that_is_sent_again_does_not_go_back_to_an_old_identifier() {
    // [U5-063] [U5-062]
    let mut rig = Rig::new();
    let publisher = rig.connect(V5, "p");
    let mut subscriber = rig.connect_with(persistent(V5, "s")).client;
    let options = SubscriptionOptions::new(QoS::AtLeastOnce);
    rig.subscribe_with(subscriber, "t", options, Some(7));
    rig.publish(publisher, "t", "x", QoS::AtLeastOnce);
    assert_eq!(rig.take(subscriber).len(), 1);
    rig.subscribe_with(subscriber, "t", options, Some(8));
    let mut used = vec![vec![7]];
    for _ in 0..3 {
        rig.cut(subscriber);
        subscriber = rig.connect_with_messages(persistent(V5, "s"));
        let again = rig.take(subscriber);
        let [Packet::Publish(publish)] = &again[..] else {
            panic!("{again:?}");
        };
        used.push(ids(publish));
    }
    assert!(used.iter().all(|ids| *ids == [7] || *ids == [8]));
    assert!(used.is_sorted(), "{used:?}");
    rig.publish(publisher, "t", "y", QoS::AtMostOnce);
    let live = rig.messages(subscriber);
    assert_eq!(ids(live.last().expect("a live message")), [8]);
}
