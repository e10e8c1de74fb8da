//! Shared subscriptions.

mod support;

use std::collections::BTreeSet;

use support::{Client, Rig, V5, V311, persistent};
use whimbrel_broker_core::session::codec::{
    Ack, Packet, QoS, ReasonCode, SubscriptionId, SubscriptionOptions,
};

/// Members on both shards, and a publisher.
fn rig_with_members(count: usize, qos: QoS) -> (Rig, Vec<Client>, Client) {
    let mut rig = Rig::new();
    let members = (0..count)
        .map(|member| {
            let id = rig.id_on(member % 2, &format!("member{member}-"));
            let client = rig.connect(V5, &id);
            assert!(!rig.subscribe(client, "$share/g/t/+", qos).is_error());
            client
        })
        .collect();
    let publisher = rig.connect(V311, "publisher");
    (rig, members, publisher)
}

#[test]
fn each_message_reaches_exactly_one_member() {
    // [U5-103]
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let (mut rig, members, publisher) = rig_with_members(4, QoS::ExactlyOnce);
        for count in 0..100 {
            rig.publish(publisher, "t/x", &format!("{count:03}"), qos);
        }
        let mut all = Vec::new();
        for &member in &members {
            let got = rig.payloads(member);
            assert!(
                got.len() >= 10,
                "every member has work, this one {}",
                got.len()
            );
            assert!(got.is_sorted(), "one member's messages keep their order");
            all.extend(got);
        }
        assert_eq!(all.len(), 100);
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 100);
    }
}

#[test]
fn two_groups_and_an_ordinary_subscription_each_get_a_copy() {
    // [5:MQTT-3.3.4-3] [5:MQTT-3.3.4-5] [U5-105]
    let mut rig = Rig::new();
    let client = rig.connect(V5, "c");
    for (filter, id) in [("t", 1), ("$share/one/t", 2), ("$share/two/t", 3)] {
        rig.subscribe_with(
            client,
            filter,
            SubscriptionOptions::new(QoS::AtLeastOnce),
            Some(id),
        );
    }
    let publisher = rig.connect(V5, "p");
    rig.publish(publisher, "t", "x", QoS::AtLeastOnce);
    let mut ids: Vec<Vec<_>> = rig
        .messages(client)
        .iter()
        .map(|publish| {
            let ids = publish.properties().subscription_ids();
            ids.map(SubscriptionId::get).collect()
        })
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, [[1], [2], [3]], "each copy has its own");
}

#[test]
fn a_member_gets_its_own_granted_qos() {
    // [5:MQTT-4.8.2-3]
    let mut rig = Rig::new();
    let member = rig.connect(V5, "m");
    rig.subscribe(member, "$share/g/t", QoS::AtLeastOnce);
    let publisher = rig.connect(V5, "p");
    rig.publish(publisher, "t", "x", QoS::ExactlyOnce);
    assert_eq!(rig.messages(member)[0].delivery().qos(), QoS::AtLeastOnce);
}

#[test]
fn qos_1_messages_of_a_member_that_vanished_go_to_another() {
    // U5-106
    let (mut rig, members, publisher) = rig_with_members(2, QoS::AtLeastOnce);
    for count in 0..10 {
        rig.publish(publisher, "t/x", &count.to_string(), QoS::AtLeastOnce);
    }
    let mut all: BTreeSet<_> = rig.payloads(members[0]).into_iter().collect();
    // The other one received its share and acknowledged nothing.
    rig.cut(members[1]);
    all.extend(rig.payloads(members[0]));
    assert_eq!(all.len(), 10);
}

#[test]
fn a_qos_2_message_that_was_sent_goes_to_nobody_else() {
    // [5:MQTT-4.8.2-5]
    let (mut rig, members, publisher) = rig_with_members(2, QoS::ExactlyOnce);
    for count in 0..10 {
        rig.publish(publisher, "t/x", &count.to_string(), QoS::ExactlyOnce);
    }
    let kept = rig.payloads(members[0]).len();
    rig.cut(members[1]);
    assert_eq!(rig.payloads(members[0]).len(), 0);
    assert_eq!(kept, 5);
}

#[test]
fn a_qos_2_delivery_is_finished_with_the_member_it_began_with() {
    // [5:MQTT-4.8.2-4]
    let mut rig = Rig::new();
    let member = rig.connect_with(persistent(V5, "m")).client;
    rig.subscribe(member, "$share/g/t", QoS::ExactlyOnce);
    let publisher = rig.connect(V5, "p");
    rig.publish(publisher, "t", "x", QoS::ExactlyOnce);
    rig.cut(member);
    let other = rig.connect(V5, "other");
    rig.subscribe(other, "$share/g/t", QoS::ExactlyOnce);
    assert_eq!(rig.payloads(other), [""; 0]);
    let member = rig.connect_with_messages(persistent(V5, "m"));
    let got = rig.messages(member);
    assert_eq!(got.len(), 1);
    assert!(got[0].delivery().dup());
}

#[test]
fn messages_wait_for_an_offline_member_only_while_nobody_is_connected() {
    // E10
    let mut rig = Rig::new();
    let away = rig.connect_with(persistent(V5, "away")).client;
    rig.subscribe(away, "$share/g/t", QoS::AtLeastOnce);
    rig.cut(away);
    let publisher = rig.connect(V5, "p");
    rig.publish(publisher, "t", "kept", QoS::AtLeastOnce);
    rig.publish(publisher, "t", "lost", QoS::AtMostOnce);
    let here = rig.connect(V5, "here");
    rig.subscribe(here, "$share/g/t", QoS::AtLeastOnce);
    rig.publish(publisher, "t", "now", QoS::AtLeastOnce);
    assert_eq!(rig.payloads(here), ["now"]);
    let away = rig.connect_with_messages(persistent(V5, "away"));
    assert_eq!(rig.payloads(away), ["kept"]);
}

#[test]
fn a_rejected_message_goes_to_no_other_member() {
    // [5:MQTT-4.8.2-6]
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let (mut rig, members, publisher) = rig_with_members(2, qos);
        rig.publish(publisher, "t/x", "x", qos);
        let mut rejected = 0;
        for &member in &members {
            for packet in rig.take(member) {
                let Packet::Publish(publish) = packet else {
                    continue;
                };
                rejected += 1;
                let id = publish.packet_id().expect("QoS 1 or 2");
                let ack = Ack::new(id, ReasonCode::UnspecifiedError);
                let rejection = match publish.delivery().qos() {
                    QoS::ExactlyOnce => Packet::PubRec(ack),
                    _ => Packet::PubAck(ack),
                };
                rig.send(member, rejection);
            }
        }
        assert_eq!(rejected, 1);
        for &member in &members {
            assert!(rig.take(member).is_empty());
        }
    }
}

#[test]
fn no_local_on_a_shared_subscription_is_a_protocol_error() {
    // [5:MQTT-3.8.3-4] (E4)
    let mut rig = Rig::new();
    let client = rig.connect(V5, "c");
    let options = SubscriptionOptions {
        no_local: true,
        ..SubscriptionOptions::new(QoS::AtMostOnce)
    };
    rig.send(client, support::subscribe(&[("$share/g/t", options)], None));
    let packets = rig.take(client);
    assert!(
        matches!(&packets[..], [Packet::Disconnect(disconnect)] if disconnect.reason == ReasonCode::ProtocolError),
        "{packets:?}"
    );
}

#[test]
fn the_last_member_takes_the_group_with_it() {
    // U5-066
    let (mut rig, members, publisher) = rig_with_members(2, QoS::AtLeastOnce);
    for &member in &members {
        assert_eq!(
            rig.unsubscribe(member, "$share/g/t/+"),
            Some(ReasonCode::Success)
        );
    }
    rig.publish(publisher, "t/x", "x", QoS::AtLeastOnce);
    for &member in &members {
        assert!(rig.take(member).is_empty());
        rig.cut(member);
    }
    rig.cut(publisher);
    rig.assert_empty();
}

#[test]
fn a_member_that_does_not_read_holds_no_more_than_its_credit() {
    let mut rig = Rig::with(|config| {
        config.limits.group_credit = 4;
        config.connection.output_bytes_max = 64;
    });
    let stuck = rig.connect(V5, "stuck");
    let works = rig.connect(V5, "works");
    for client in [stuck, works] {
        rig.subscribe(client, "$share/g/t", QoS::AtLeastOnce);
    }
    rig.stop_reading(stuck);
    let publisher = rig.connect(V5, "p");
    for count in 0..50 {
        rig.publish(publisher, "t", &count.to_string(), QoS::AtLeastOnce);
    }
    assert_eq!(rig.payloads(works).len(), 46);
    rig.cut(stuck);
    assert_eq!(rig.payloads(works).len(), 4);
}

#[test]
fn mqtt_3_clients_share_too() {
    // E7
    let mut rig = Rig::new();
    let one = rig.connect(V311, "one");
    let two = rig.connect(V311, "two");
    for client in [one, two] {
        rig.subscribe(client, "$share/g/t", QoS::AtLeastOnce);
    }
    let publisher = rig.connect(V311, "p");
    for _ in 0..10 {
        rig.publish(publisher, "t", "x", QoS::AtLeastOnce);
    }
    assert_eq!(rig.payloads(one).len() + rig.payloads(two).len(), 10);
}
