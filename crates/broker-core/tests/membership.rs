//! Shared subscriptions at their edges: members that leave, return, are away or pushed aside.

mod support;

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use support::pieces::{
    attach, encoded, first, numbers, publish_inside, subscribe, subscribe_inside, unsubscribe,
};
use support::{Rig, V5, V311, clean, name, persistent};
use whimbrel_broker_core::session::codec::{MessageProperties, Publish, QoS, ReasonCode};

#[test]
fn a_shared_message_too_large_for_its_member_does_not_use_its_credit_up() {
    let mut rig = Rig::with(|config| config.limits.group_credit = 2);
    let mut connect = clean(V5, "small");
    connect.properties.packet_size_max = NonZeroU32::new(50);
    let member = rig.connect_with(connect).client;
    rig.subscribe(member, "$share/g/t", QoS::AtLeastOnce);
    let publisher = rig.connect(V5, "p");
    for _ in 0..4 {
        rig.publish(publisher, "t", &"x".repeat(100), QoS::AtLeastOnce);
    }
    rig.publish(publisher, "t", "fits", QoS::AtLeastOnce);
    assert_eq!(rig.payloads(member), ["fits"]);
}

#[test]
fn subscribing_anew_behind_an_unsubscribe_ends_subscribed_on_any_shard() {
    for shard in 0..2 {
        let mut rig = Rig::new();
        let id = rig.id_on(shard, "c");
        let client = rig.connect(V5, &id);
        let filter = "$share/g/t";
        rig.subscribe(client, filter, QoS::AtLeastOnce);
        let packets = [subscribe(filter), unsubscribe(filter), subscribe(filter)];
        rig.send_raw(client, &encoded(V5, &packets));
        assert_eq!(rig.take(client).len(), 3);
        let publisher = rig.connect(V5, "p");
        rig.publish(publisher, "t", "x", QoS::AtLeastOnce);
        assert_eq!(rig.payloads(client), ["x"], "client on shard {shard}");
    }
}

#[test]
fn a_shared_subscription_is_replaced_at_the_limit_of_subscriptions() {
    // [5:MQTT-3.8.4-3] [U5-104]
    for filter in ["t", "$share/g/t"] {
        let mut rig = Rig::with(|config| config.limits.subscriptions_per_session_max = 1);
        let client = rig.connect(V5, "c");
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let reason = rig.subscribe(client, filter, qos);
            assert_eq!(reason, ReasonCode::granted(qos), "{filter}");
        }
    }
}

#[test]
fn a_member_granted_qos_0_that_is_away_takes_nothing_from_one_that_keeps_it() {
    let mut rig = Rig::new();
    let forgetful = rig.connect_with(persistent(V5, "forgetful")).client;
    rig.subscribe(forgetful, "$share/g/t", QoS::AtMostOnce);
    let keeper = rig.connect_with(persistent(V5, "keeper")).client;
    rig.subscribe(keeper, "$share/g/t", QoS::AtLeastOnce);
    rig.cut(forgetful);
    rig.cut(keeper);
    let publisher = rig.connect(V5, "p");
    for number in numbers(10) {
        rig.publish(publisher, "t", &number, QoS::AtLeastOnce);
    }
    let keeper = rig.connect_with_messages(persistent(V5, "keeper"));
    assert_eq!(rig.payloads(keeper), numbers(10));
}

#[test]
fn what_the_last_member_was_never_sent_is_counted_when_it_leaves() {
    for filter_is_left_by_unsubscribe in [true, false] {
        let mut rig = Rig::with(|config| config.connection.in_flight_max = NonZeroU16::MIN);
        let member = rig.connect(V311, "m");
        rig.subscribe(member, "$share/g/t", QoS::AtLeastOnce);
        let publisher = rig.connect(V311, "p");
        for number in numbers(5) {
            rig.publish(publisher, "t", &number, QoS::AtLeastOnce);
        }
        assert_eq!(rig.take(member).len(), 1);
        if filter_is_left_by_unsubscribe {
            rig.unsubscribe(member, "$share/g/t");
        } else {
            rig.cut(member);
        }
        assert!(rig.stats().dropped_total() >= 4, "{:?}", rig.stats());
        assert_eq!(rig.stats().queued_messages, 0);
    }
}

#[test]
fn what_a_vanished_member_had_goes_to_the_other_in_order() {
    // DESIGN §5: it goes back to the queue, in front.
    let mut rig = Rig::new();
    let gone = rig.connect(V5, "gone");
    rig.subscribe(gone, "$share/g/t", QoS::AtLeastOnce);
    let publisher = rig.connect(V5, "p");
    for number in numbers(6) {
        rig.publish(publisher, "t", &number, QoS::AtLeastOnce);
    }
    let stays = rig.connect(V5, "stays");
    rig.subscribe(stays, "$share/g/t", QoS::AtLeastOnce);
    rig.cut(gone);
    assert_eq!(rig.payloads(stays), numbers(6));
}

#[test]
fn a_message_on_its_way_to_a_member_that_just_left_goes_to_a_connected_one() {
    // E10: messages wait for members that are away only while nobody is connected.
    for away_shard in 0..2 {
        let mut rig = Rig::new();
        let away_id = rig.id_on(away_shard, "away");
        let away = rig.connect_with(persistent(V5, &away_id)).client;
        let here_id = rig.id_on(1 - away_shard, "here");
        let here = rig.connect(V5, &here_id);
        for client in [away, here] {
            rig.subscribe(client, "$share/g/t", QoS::AtLeastOnce);
        }
        let publisher = attach(&rig, 1 - away_shard, "inside");
        publish_inside(&rig, 1 - away_shard, publisher, "0", QoS::AtLeastOnce);
        publish_inside(&rig, 1 - away_shard, publisher, "1", QoS::AtLeastOnce);
        rig.cut(away);
        let mut got = rig.payloads(here);
        got.sort_unstable();
        assert_eq!(got, numbers(2), "away on shard {away_shard}");
    }
}

#[test]
fn a_message_with_an_expiry_interval_of_0_reaches_connected_members_like_subscribers() {
    // timers-and-flows 10: delivered to those reachable now.
    for filter in ["t", "$share/g/t"] {
        let mut rig = Rig::new();
        let client = rig.connect(V5, "c");
        rig.subscribe(client, filter, QoS::AtLeastOnce);
        let publisher = rig.connect(V5, "p");
        let properties = MessageProperties::builder()
            .message_expiry_secs(0)
            .build()
            .expect("valid");
        let publish = Publish::builder(name("t"))
            .payload("x")
            .delivery(first(QoS::AtLeastOnce, 1))
            .properties(&properties)
            .build();
        rig.publish_packet(publisher, publish);
        assert_eq!(rig.payloads(client), ["x"], "{filter}");
    }
}

#[test]
fn queues_of_shared_subscriptions_count_towards_the_total() {
    let mut rig = Rig::with(|config| {
        config.shards = 1;
        config.limits.queue_bytes_total_max = 10_000;
        config.limits.group_credit = 1;
    });
    let member = rig.connect_with(persistent(V311, "m")).client;
    for group in 0..5 {
        rig.subscribe(member, &format!("$share/g{group}/t"), QoS::AtLeastOnce);
    }
    rig.cut(member);
    let publisher = rig.connect(V5, "p");
    for _ in 0..10 {
        rig.publish(publisher, "t", &"x".repeat(1_000), QoS::AtLeastOnce);
    }
    let queued = rig.stats().queued_bytes;
    assert!(queued <= 10_000, "{queued}");
}

#[test]
fn many_shared_subscriptions_of_one_topic_are_served_in_steps() {
    let rig = Rig::with(|config| {
        config.shards = 1;
        config.limits.step_budget = 10;
    });
    let member = attach(&rig, 0, "member");
    for group in 0..50 {
        subscribe_inside(&rig, 0, member, &format!("$share/g{group}/t"));
    }
    let publisher = attach(&rig, 0, "publisher");
    publish_inside(&rig, 0, publisher, "x", QoS::AtMostOnce);
    let mut shard = rig.shards[0].borrow_mut();
    let sent = shard.stats().publishes_sent;
    assert!(sent <= 10, "{sent} deliveries in one step");
    while shard.has_backlog() {
        shard.run_backlog(rig.env());
    }
    assert_eq!(shard.stats().publishes_sent, 50);
}

#[test]
fn a_queue_bound_of_0_messages_does_not_stall_a_shared_subscription() {
    let (done, waits) = mpsc::sync_channel(1);
    // Apart, because the defect is a loop without end.
    thread::spawn(move || {
        let mut rig = Rig::with(|config| config.limits.clean_queue_messages_max = 0);
        let member = rig.connect(V5, "m");
        rig.subscribe(member, "$share/g/t", QoS::AtLeastOnce);
        let publisher = rig.connect(V5, "p");
        rig.publish(publisher, "t", "x", QoS::AtLeastOnce);
        let _ = done.send(rig.payloads(member));
    });
    let got = waits.recv_timeout(Duration::from_secs(10));
    assert_eq!(got, Ok(vec!["x".to_owned()]));
}
