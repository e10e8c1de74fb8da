//! Found in review: races, refusals, shared subscriptions, timers and counters at their edges.

mod support;

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use support::{Client, Rig, V5, V311, clean, name, persistent};
use whimbrel_broker_core::session::codec::topic::ByteStr;
use whimbrel_broker_core::session::codec::{
    Delivery, MessageProperties, Packet, PacketId, ProtocolVersion, Publish, QoS, ReasonCode,
    SubscriptionOptions, Unsubscribe, UserProperties, Will, WriteBuf,
};
use whimbrel_broker_core::{
    ConnectionKey, DropCause, Event, LocalPublish, LocalSubscribe, QueueFull, Record, Verdict,
};

fn publication(topic: &str, payload: &str, delivery: Delivery) -> Publish {
    Publish::builder(name(topic))
        .payload(payload.to_owned())
        .delivery(delivery)
        .build()
}

fn first(qos: QoS, id: u16) -> Delivery {
    Delivery::first(qos, PacketId::new(id).expect("not 0"))
}

fn encoded(version: ProtocolVersion, packets: &[Packet]) -> Vec<u8> {
    let mut buffer = WriteBuf::new();
    for packet in packets {
        packet.encode(version, &mut buffer).expect("valid");
    }
    buffer.chunk().to_vec()
}

fn unsubscribe(filter: &str) -> Packet {
    Packet::Unsubscribe(Unsubscribe {
        id: PacketId::MIN,
        filters: vec![ByteStr::from(filter)],
        user_properties: UserProperties::new(),
    })
}

fn subscribe(filter: &str) -> Packet {
    let options = SubscriptionOptions::new(QoS::AtLeastOnce);
    support::subscribe(&[(filter, options)], None)
}

fn will(qos: QoS, retain: bool) -> Will {
    Will {
        topic: name("t"),
        payload: Bytes::from_static(b"gone"),
        qos,
        retain,
        delay_secs: 0,
        properties: MessageProperties::new(),
    }
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

fn attach(rig: &Rig, shard: usize, id: &str) -> ConnectionKey {
    let mut shard = rig.shards[shard].borrow_mut();
    shard.attach_local(rig.env(), &ByteStr::from(id), 1_000)
}

fn subscribe_inside(rig: &Rig, shard: usize, key: ConnectionKey, filter: &str) {
    let subscribe = LocalSubscribe {
        filter: ByteStr::from(filter),
        options: SubscriptionOptions::new(QoS::AtLeastOnce),
    };
    let mut shard = rig.shards[shard].borrow_mut();
    shard.local_subscribe(rig.env(), key, &[subscribe], 0);
}

fn publish_inside(rig: &Rig, shard: usize, key: ConnectionKey, payload: &str, qos: QoS) {
    let publish = LocalPublish {
        topic: name("t"),
        payload: Bytes::from(payload.to_owned()),
        qos,
        retain: false,
        properties: MessageProperties::new(),
    };
    let mut shard = rig.shards[shard].borrow_mut();
    shard.local_publish(rig.env(), key, &publish, 1);
}

// Timers

#[test]
fn a_client_that_falls_silent_after_it_was_held_back_is_still_noticed() {
    // [MQTT-3.1.2-22]: the pause outlasts the armed deadline.
    let mut rig = Rig::with(|config| {
        config.shards = 1;
        config.journal = true;
        config.connection.receive_maximum = NonZeroU16::MIN;
    });
    let subscriber = rig.connect_with(persistent(V311, "s")).client;
    rig.subscribe(subscriber, "t", QoS::AtLeastOnce);
    rig.cut(subscriber);
    let mut connect = clean(V311, "p");
    connect.keep_alive_secs = 10;
    let publisher = rig.connect_with(connect).client;
    rig.hold_commits = true;
    for id in 1..=2 {
        let publish = publication("t", "x", first(QoS::AtLeastOnce, id));
        rig.send(publisher, Packet::Publish(publish));
    }
    assert!(rig.is_blocked(publisher));
    rig.advance_secs(60);
    assert!(rig.is_open(publisher), "its bytes wait here, unread");
    rig.hold_commits = false;
    rig.commit();
    assert_eq!(rig.take(publisher).len(), 2);
    rig.advance_secs(60);
    assert!(!rig.is_open(publisher));
}

// Shared subscriptions

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
    // [MQTT-3.8.4-3]
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

// Queues that refuse

/// A broker whose persistent sessions hold two messages, a subscriber that is away, a publisher.
fn refusing(filters: &[&str]) -> (Rig, Client) {
    let mut rig = Rig::with(|config| {
        config.queue_full = QueueFull::Refuse;
        config.limits.queue_messages_max = 2;
    });
    let subscriber = rig.connect_with(persistent(V5, "s")).client;
    for filter in filters {
        rig.subscribe(subscriber, filter, QoS::ExactlyOnce);
    }
    rig.cut(subscriber);
    let publisher = rig.connect(V5, "p");
    (rig, publisher)
}

#[test]
fn a_qos_2_message_that_a_refusing_queue_has_no_room_for_is_refused_or_counted() {
    let (mut rig, publisher) = refusing(&["t"]);
    let accepted = numbers(4)
        .iter()
        .map(|number| rig.publish(publisher, "t", number, QoS::ExactlyOnce))
        .filter(|reason| !reason.is_error())
        .count();
    let subscriber = rig.connect_with_messages(persistent(V5, "s"));
    let got = rig.payloads(subscriber).len() as u64;
    assert_eq!(got + rig.stats().dropped_total(), accepted as u64);
}

#[test]
fn a_shared_subscription_pushes_nothing_out_of_a_refusing_queue() {
    let (mut rig, publisher) = refusing(&["t", "$share/g/shared"]);
    for number in numbers(2) {
        rig.publish(publisher, "t", &number, QoS::AtLeastOnce);
    }
    for _ in 0..2 {
        rig.publish(publisher, "shared", "x", QoS::AtLeastOnce);
    }
    let subscriber = rig.connect_with_messages(persistent(V5, "s"));
    let got = rig.payloads(subscriber);
    assert_eq!(got.get(..2), Some(&numbers(2)[..]), "{got:?}");
}

#[test]
fn retained_messages_that_a_refusing_queue_has_no_room_for_are_not_lost_in_silence() {
    let mut rig = Rig::with(|config| {
        config.queue_full = QueueFull::Refuse;
        config.limits.queue_messages_max = 2;
        config.connection.output_bytes_max = 64;
    });
    let publisher = rig.connect(V5, "p");
    for number in 0..20 {
        rig.publish_retained(publisher, &format!("r/{number}"), "x", QoS::AtLeastOnce);
    }
    let subscriber = rig.connect_with(persistent(V5, "s")).client;
    rig.stop_reading(subscriber);
    rig.subscribe_with_no_answer(subscriber, "r/+");
    rig.start_reading(subscriber);
    let got = rig.messages_after_suback(subscriber).len() as u64;
    assert_eq!(got + rig.stats().dropped_total(), 20);
}

#[test]
fn a_will_that_a_refusing_queue_has_no_room_for_is_counted() {
    let (mut rig, publisher) = refusing(&["t"]);
    for number in numbers(2) {
        rig.publish(publisher, "t", &number, QoS::AtLeastOnce);
    }
    let mut connect = clean(V5, "dies");
    connect.will = Some(will(QoS::AtLeastOnce, false));
    let dies = rig.connect_with(connect).client;
    rig.cut(dies);
    assert_eq!(rig.stats().dropped_total(), 1);
}

// Queues in all

#[test]
fn a_message_that_finds_no_room_pushes_nobody_out_in_vain() {
    let mut rig = Rig::with(|config| {
        config.shards = 1;
        config.limits.queue_bytes_total_max = 10_000;
    });
    for (id, filter) in [("modest", "small"), ("greedy", "large")] {
        let subscriber = rig.connect_with(persistent(V311, id)).client;
        rig.subscribe(subscriber, filter, QoS::AtLeastOnce);
        rig.cut(subscriber);
    }
    let publisher = rig.connect(V5, "p");
    rig.publish(publisher, "small", "kept", QoS::AtLeastOnce);
    for _ in 0..8 {
        rig.publish(publisher, "large", &"x".repeat(1_000), QoS::AtLeastOnce);
    }
    assert_eq!(rig.stats().dropped_total(), 0);
    rig.publish(publisher, "small", &"x".repeat(2_000), QoS::AtLeastOnce);
    let modest = rig.connect_with_messages(persistent(V311, "modest"));
    assert_eq!(rig.payloads(modest), ["kept"]);
}

#[test]
fn drops_are_reported_anew_after_the_client_came_back() {
    // `Event::Dropping`: one for each connection or absence of it.
    let mut rig = Rig::with(|config| {
        config.limits.queue_messages_max = 1;
        config.connection.in_flight_max = NonZeroU16::MIN;
    });
    let publisher = rig.connect(V5, "p");
    let subscriber = rig.connect_with(persistent(V311, "s")).client;
    rig.subscribe(subscriber, "t", QoS::AtLeastOnce);
    rig.cut(subscriber);
    for round in 1..=2 {
        for number in numbers(5) {
            rig.publish(publisher, "t", &number, QoS::AtLeastOnce);
        }
        let reported = rig
            .events
            .iter()
            .filter(|event| matches!(event, Event::Dropping { .. }))
            .count();
        assert_eq!(reported, round);
        rig.connect_with_messages(persistent(V311, "s"));
    }
}

#[test]
fn bytes_that_are_sent_again_are_counted_like_their_packets() {
    let mut rig = Rig::new();
    let publisher = rig.connect(V5, "p");
    let subscriber = rig.connect_with(persistent(V5, "s")).client;
    rig.subscribe(subscriber, "t", QoS::AtLeastOnce);
    rig.publish(publisher, "t", "0123456789", QoS::AtLeastOnce);
    rig.cut(subscriber);
    let subscriber = rig.connect_with_messages(persistent(V5, "s"));
    assert_eq!(rig.payloads(subscriber).len(), 1);
    assert_eq!(rig.stats().publishes_sent, 2);
    assert_eq!(rig.stats().publish_bytes_sent, 20);
}

// Back-pressure

#[test]
fn a_shard_that_is_behind_with_wide_fan_outs_holds_publishers_of_other_shards_back() {
    let rig = Rig::with(|config| {
        config.limits.step_budget = 2;
        config.limits.shard_window_bytes = 4_000;
    });
    for number in 0..3 {
        let key = attach(&rig, 1, &format!("s{number}"));
        subscribe_inside(&rig, 1, key, "t");
    }
    let publisher = attach(&rig, 0, "p");
    for _ in 0..100 {
        if rig.shards[0].borrow().is_congested() {
            break;
        }
        publish_inside(&rig, 0, publisher, &"x".repeat(1_000), QoS::AtMostOnce);
        for (from, to) in [(0, 1), (1, 0)] {
            let mut from = rig.shards[from].borrow_mut();
            let mut to = rig.shards[to].borrow_mut();
            for forward in std::mem::take(&mut from.effects().forward) {
                to.handle_message(rig.env(), from.id(), forward.message);
            }
        }
    }
    let waiting = rig.shards[1].borrow().residue().jobs;
    assert!(
        waiting <= 5,
        "{waiting} messages wait in a shard that does not keep up"
    );
}

// The journal

#[test]
fn a_persistent_session_that_is_resumed_to_end_with_its_connection_is_recorded_as_ended() {
    let mut rig = Rig::with(|config| {
        config.shards = 1;
        config.journal = true;
    });
    let client = rig.connect_with(persistent(V5, "c")).client;
    rig.cut(client);
    let mut connect = persistent(V5, "c");
    connect.properties.session_expiry_secs = 0;
    let connected = rig.connect_with(connect);
    assert!(connected.connack.session_present);
    let key = rig.key(connected.client);
    let mut shard = rig.shards[0].borrow_mut();
    shard.detach(rig.env(), key);
    let records = &shard.effects().append;
    assert!(
        records
            .iter()
            .any(|record| matches!(record, Record::SessionEnded { .. })),
        "{records:?}"
    );
}

#[test]
fn a_session_that_needs_no_record_waits_for_none() {
    // DESIGN §6: every packet waits for its own record.
    let mut rig = Rig::with(|config| {
        config.shards = 1;
        config.journal = true;
    });
    rig.hold_commits = true;
    let other = rig.open(V5);
    rig.send(other, Packet::Connect(Box::new(persistent(V5, "other"))));
    assert!(rig.take(other).is_empty());
    let quick = rig.open(V5);
    rig.send(quick, Packet::Connect(Box::new(clean(V5, "quick"))));
    assert!(matches!(&rig.take(quick)[..], [Packet::ConnAck(_)]));
}

#[test]
fn retained_messages_follow_the_suback_that_waits_for_its_record() {
    // E13
    let mut rig = Rig::with(|config| {
        config.shards = 1;
        config.journal = true;
    });
    let client = rig.connect_with(persistent(V5, "c")).client;
    rig.publish_retained(client, "t", "x", QoS::AtMostOnce);
    rig.hold_commits = true;
    rig.send(client, subscribe("t"));
    rig.send(client, Packet::PingReq);
    let packets = rig.take(client);
    assert!(matches!(&packets[..], [Packet::PingResp]), "{packets:?}");
    rig.commit();
    let packets = rig.take(client);
    assert!(
        matches!(&packets[..], [Packet::SubAck(_), Packet::Publish(_)]),
        "{packets:?}"
    );
}

#[test]
fn the_last_message_of_a_single_writer_is_the_retained_one() {
    // DESIGN §10: whatever their QoS, and while records wait.
    let mut rig = Rig::with(|config| {
        config.shards = 1;
        config.journal = true;
    });
    let subscriber = rig.connect_with(persistent(V5, "s")).client;
    rig.subscribe(subscriber, "t", QoS::ExactlyOnce);
    let publisher = rig.connect(V5, "p");
    rig.hold_commits = true;
    for (payload, qos) in [("old", QoS::ExactlyOnce), ("new", QoS::AtLeastOnce)] {
        let publish = Publish::builder(name("t"))
            .payload(payload)
            .retain(true)
            .delivery(Delivery::first(qos, PacketId::MIN))
            .build();
        rig.send(publisher, Packet::Publish(publish));
    }
    rig.hold_commits = false;
    rig.commit();
    let got = rig.payloads(subscriber);
    let late = rig.connect(V5, "late");
    rig.subscribe(late, "t", QoS::AtMostOnce);
    assert_eq!(got.last(), rig.payloads(late).last());
}

#[test]
fn a_qos_2_message_that_expires_while_its_record_is_written_is_not_delivered() {
    // [MQTT-3.3.2-5]
    let mut rig = Rig::with(|config| {
        config.shards = 1;
        config.journal = true;
    });
    let subscriber = rig.connect_with(persistent(V5, "s")).client;
    rig.subscribe(subscriber, "t", QoS::ExactlyOnce);
    let publisher = rig.connect(V5, "p");
    rig.hold_commits = true;
    let properties = MessageProperties::builder()
        .message_expiry_secs(2)
        .build()
        .expect("valid");
    let publish = Publish::builder(name("t"))
        .payload("x")
        .delivery(Delivery::first(QoS::ExactlyOnce, PacketId::MIN))
        .properties(&properties)
        .build();
    rig.send(publisher, Packet::Publish(publish));
    rig.advance_secs(5);
    rig.hold_commits = false;
    rig.commit();
    assert_eq!(rig.payloads(subscriber), [""; 0]);
    assert_eq!(rig.stats().dropped_by(DropCause::Expired), 1);
}

// In-process clients

#[test]
fn an_in_process_client_publishes_while_the_records_of_others_wait() {
    let mut rig = Rig::with(|config| {
        config.shards = 1;
        config.journal = true;
    });
    rig.hold_commits = true;
    let other = rig.open(V5);
    rig.send(other, Packet::Connect(Box::new(persistent(V5, "other"))));
    let inside = attach(&rig, 0, "inside");
    publish_inside(&rig, 0, inside, "x", QoS::AtLeastOnce);
    let mut shard = rig.shards[0].borrow_mut();
    let refused = shard
        .effects()
        .local
        .iter()
        .any(|outcome| outcome.reasons.iter().any(|reason| reason.is_error()));
    assert!(!refused, "{:?}", shard.effects().local);
}

#[test]
fn every_request_of_an_in_process_client_has_an_outcome_even_after_its_end() {
    let rig = Rig::with(|config| config.shards = 1);
    let inside = attach(&rig, 0, "inside");
    rig.shards[0].borrow_mut().detach(rig.env(), inside);
    subscribe_inside(&rig, 0, inside, "t");
    publish_inside(&rig, 0, inside, "x", QoS::AtLeastOnce);
    let mut shard = rig.shards[0].borrow_mut();
    shard.local_unsubscribe(rig.env(), inside, &[ByteStr::from("t")], 2);
    let requests: Vec<_> = shard
        .effects()
        .local
        .iter()
        .map(|outcome| outcome.request)
        .collect();
    assert_eq!(requests, [0, 1, 2]);
}

// Verdicts

/// Hands a PUBLISH to the only shard under a verdict.
fn publish_under(
    rig: &mut Rig,
    version: ProtocolVersion,
    client: Client,
    publish: Publish,
    verdict: Verdict,
) {
    let key = rig.key(client);
    let input = encoded(version, &[Packet::Publish(publish)]);
    {
        let mut shard = rig.shards[0].borrow_mut();
        let received = shard.receive(rig.env(), key, &input);
        let event = received.event.expect("a PUBLISH");
        shard.apply(rig.env(), key, event, verdict);
    }
    rig.run();
}

#[test]
fn a_qos_2_message_that_a_hook_cut_off_is_new_when_it_comes_again() {
    let mut rig = Rig::with(|config| config.shards = 1);
    let subscriber = rig.connect(V5, "s");
    rig.subscribe(subscriber, "t", QoS::ExactlyOnce);
    let publisher = rig.connect_with(persistent(V5, "p")).client;
    let delivery = first(QoS::ExactlyOnce, 1);
    let verdict = Verdict::Disconnect(ReasonCode::QuotaExceeded);
    publish_under(
        &mut rig,
        V5,
        publisher,
        publication("t", "x", delivery),
        verdict,
    );
    assert!(!rig.is_open(publisher));
    let publisher = rig.connect_with(persistent(V5, "p")).client;
    let again = publication("t", "x", delivery.repeated());
    assert_eq!(rig.publish_packet(publisher, again), ReasonCode::Success);
    assert_eq!(rig.payloads(subscriber), ["x"]);
}

#[test]
fn a_refusal_that_puback_has_no_code_for_does_not_hold_later_acknowledgements_back() {
    let mut rig = Rig::with(|config| config.shards = 1);
    let publisher = rig.connect(V5, "p");
    let refused = publication("t", "x", first(QoS::AtLeastOnce, 1));
    let verdict = Verdict::Refuse(ReasonCode::ServerBusy);
    publish_under(&mut rig, V5, publisher, refused, verdict);
    let publish = publication("t", "x", first(QoS::AtLeastOnce, 2));
    rig.send(publisher, Packet::Publish(publish));
    assert_eq!(rig.take(publisher).len(), 2);
}

#[test]
fn an_mqtt_3_client_that_a_hook_refuses_gets_a_plain_acknowledgement_whatever_the_reason() {
    // D2, and the promise of `Verdict::Refuse`.
    for reason in [ReasonCode::NotAuthorized, ReasonCode::QuotaExceeded] {
        let mut rig = Rig::with(|config| config.shards = 1);
        let publisher = rig.connect(V311, "p");
        let publish = publication("t", "x", first(QoS::AtLeastOnce, 1));
        publish_under(&mut rig, V311, publisher, publish, Verdict::Refuse(reason));
        assert!(
            matches!(&rig.take(publisher)[..], [Packet::PubAck(_)]),
            "{reason}"
        );
    }
}

// CONNECT

#[test]
fn a_will_beyond_what_connack_announces_is_refused() {
    // [MQTT-3.2.2-12], [MQTT-3.2.2-13]
    let cases = [
        (QoS::ExactlyOnce, false, ReasonCode::QosNotSupported),
        (QoS::AtMostOnce, true, ReasonCode::RetainNotSupported),
    ];
    for (qos, retain, expected) in cases {
        let mut rig = Rig::with(|config| {
            config.connection.maximum_qos = QoS::AtLeastOnce;
            config.connection.retain_available = false;
        });
        let mut connect = clean(V5, "c");
        connect.will = Some(will(qos, retain));
        let client = rig.open(V5);
        rig.send(client, Packet::Connect(Box::new(connect)));
        let packets = rig.take(client);
        assert!(
            matches!(&packets[..], [Packet::ConnAck(connack)] if connack.reason == expected),
            "{packets:?}"
        );
    }
}

#[test]
fn a_client_that_reads_nothing_does_not_escape_its_keep_alive() {
    // [MQTT-3.1.2-22]: its input is held back by output that it alone can take.
    let mut rig = Rig::with(|config| config.connection.output_bytes_max = 64);
    let mut connect = clean(V311, "c");
    connect.keep_alive_secs = 10;
    let client = rig.connect_with(connect).client;
    rig.stop_reading(client);
    let pings = encoded(V311, &vec![Packet::PingReq; 10_000]);
    rig.send_raw(client, &pings);
    assert!(rig.is_blocked(client));
    rig.advance_secs(3_600);
    assert_eq!(rig.stats().keep_alive_closes, 1);
}

// Subscriptions

#[test]
fn a_filter_answered_with_an_error_is_not_subscribed() {
    let mut rig = Rig::with(|config| config.limits.subscriptions_per_session_max = 1);
    let client = rig.connect(V5, "c");
    rig.publish_retained(client, "t", "x", QoS::AtMostOnce);
    let options = SubscriptionOptions::new(QoS::AtLeastOnce);
    let filter = ("t", options);
    rig.send(client, support::subscribe(&[filter, filter, filter], None));
    let packets = rig.take(client);
    let Some(Packet::SubAck(suback)) = packets.first() else {
        panic!("a SUBACK first");
    };
    assert!(
        suback.codes.iter().all(|code| !code.is_error()),
        "the subscription is there: {:?}",
        suback.codes
    );
}

// What holds already

#[test]
fn a_takeover_while_connack_waits_keeps_the_session_and_answers_the_last_only() {
    let mut rig = Rig::with(|config| config.journal = true);
    let subscriber = rig.connect_with(persistent(V5, "s")).client;
    rig.subscribe(subscriber, "t", QoS::AtLeastOnce);
    let publisher = rig.connect(V5, "p");
    rig.publish(publisher, "t", "in flight", QoS::AtLeastOnce);
    assert_eq!(rig.take(subscriber).len(), 1);
    rig.cut(subscriber);
    rig.publish(publisher, "t", "queued", QoS::AtLeastOnce);
    rig.hold_commits = true;
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let client = rig.open(V5);
            rig.send(client, Packet::Connect(Box::new(persistent(V5, "s"))));
            client
        })
        .collect();
    rig.hold_commits = false;
    rig.commit();
    assert!(rig.take(waiting[0]).is_empty());
    assert!(!rig.is_open(waiting[0]));
    let packets = rig.take(waiting[1]);
    let payloads: Vec<_> = packets
        .iter()
        .filter_map(|packet| match packet {
            Packet::Publish(publish) => Some((publish.payload(), publish.delivery().dup())),
            _ => None,
        })
        .collect();
    assert!(matches!(&packets[0], Packet::ConnAck(connack) if connack.session_present));
    assert_eq!(payloads, [(&b"in flight"[..], true), (b"queued", false)]);
}

#[test]
fn a_session_that_ends_while_a_message_is_under_way_leaves_its_publisher_nothing_to_wait_for() {
    let mut rig = Rig::new();
    let id = rig.id_on(1, "s");
    let subscriber = rig.connect_with(persistent(V5, &id)).client;
    rig.subscribe(subscriber, "t", QoS::AtLeastOnce);
    rig.subscribe(subscriber, "$share/g/t", QoS::AtLeastOnce);
    rig.cut(subscriber);
    let inside = attach(&rig, 0, "inside");
    publish_inside(&rig, 0, inside, "x", QoS::AtLeastOnce);
    // Handled at its shard before the message arrives.
    let discarded = rig.open(V5);
    rig.send(discarded, Packet::Connect(Box::new(clean(V5, &id))));
    rig.cut(discarded);
    rig.shards[0].borrow_mut().detach(rig.env(), inside);
    rig.run();
    rig.assert_empty();
}

#[test]
fn whether_a_publisher_waits_follows_the_durability_and_qos_of_the_subscription() {
    let mut rig = Rig::with(|config| {
        config.shards = 1;
        config.journal = true;
    });
    let publisher = rig.connect(V5, "p");
    let ending = {
        let mut connect = persistent(V5, "s");
        connect.properties.session_expiry_secs = 0;
        connect
    };
    let steps = [
        (persistent(V5, "s"), QoS::AtLeastOnce, true),
        (persistent(V5, "s"), QoS::AtMostOnce, false),
        (persistent(V5, "s"), QoS::ExactlyOnce, true),
        (ending, QoS::ExactlyOnce, false),
    ];
    for (step, (connect, qos, waits)) in steps.into_iter().enumerate() {
        let subscriber = rig.connect_with_messages(connect);
        rig.subscribe(subscriber, "t", qos);
        rig.hold_commits = true;
        let publish = publication("t", "x", first(QoS::AtLeastOnce, 1));
        rig.send(publisher, Packet::Publish(publish));
        assert_eq!(rig.take(publisher).is_empty(), waits, "step {step}");
        rig.hold_commits = false;
        rig.commit();
        rig.take(publisher);
        assert_eq!(rig.payloads(subscriber), ["x"], "step {step}");
    }
}

#[test]
fn unsubscribing_before_the_owner_of_the_group_has_answered_ends_unsubscribed() {
    for shard in 0..2 {
        let mut rig = Rig::new();
        let id = rig.id_on(shard, "c");
        let client = rig.connect(V5, &id);
        let packets = [subscribe("$share/g/t"), unsubscribe("$share/g/t")];
        rig.send_raw(client, &encoded(V5, &packets));
        assert_eq!(rig.take(client).len(), 2);
        assert_eq!(rig.stats().subscriptions, 0);
        rig.cut(client);
        rig.assert_empty();
    }
}
