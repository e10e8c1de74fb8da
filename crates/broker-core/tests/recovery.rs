//! What a broker that starts again owes, after the one before it died.

mod support;

use std::collections::BTreeSet;
use std::num::NonZeroU16;

use support::pieces::{first, numbers, publication, will};
use support::{Client, Rig, V5, V311, clean, message, persistent};
use whimbrel_broker_core::session::codec::{
    Ack, MessageProperties, Packet, PacketId, Publish, QoS, ReasonCode, SubscriptionOptions,
};
use whimbrel_broker_core::{CoreConfig, DropCause, Position, QueueFull, QueueId, Replayed};

fn journaled(change: impl FnOnce(&mut CoreConfig)) -> Rig {
    Rig::with(|config| {
        config.journal = true;
        config.limits.queue_window_messages = 10;
        change(config);
    })
}

fn rig() -> Rig {
    journaled(|_| {})
}

/// A persistent client that subscribed to `t` and is away.
fn away(rig: &mut Rig, id: &str, filter: &str, qos: QoS) {
    let client = rig.connect_with(persistent(V5, id)).client;
    assert_eq!(rig.subscribe(client, filter, qos), ReasonCode::granted(qos));
    rig.cut(client);
}

fn back(rig: &mut Rig, id: &str) -> Client {
    rig.connect_with_messages(persistent(V5, id))
}

fn publishes(packets: &[Packet]) -> Vec<&Publish> {
    let mut publishes = Vec::new();
    for packet in packets {
        if let Packet::Publish(publish) = packet {
            publishes.push(publish);
        }
    }
    publishes
}

#[test]
fn queued_messages_and_subscriptions_survive_and_move_to_other_shards() {
    let mut rig = rig();
    for id in ["a", "b", "c", "d"] {
        away(&mut rig, id, "t", QoS::ExactlyOnce);
    }
    let publisher = rig.connect(V311, "p");
    for (payload, qos) in [("1", QoS::AtLeastOnce), ("2", QoS::ExactlyOnce)] {
        rig.publish(publisher, "t", payload, qos);
    }
    rig.restart_with(|config| config.shards = 3);
    let publisher = rig.connect(V311, "p");
    rig.publish(publisher, "t", "3", QoS::AtLeastOnce);
    for id in ["a", "b", "c", "d"] {
        let client = rig.open(V5);
        rig.send(client, Packet::Connect(Box::new(persistent(V5, id))));
        let packets = rig.take(client);
        let Packet::ConnAck(connack) = &packets[0] else {
            panic!("{packets:?}");
        };
        assert!(connack.session_present);
        rig.cut(client);
        let client = back(&mut rig, id);
        assert_eq!(rig.payloads(client), ["1", "2", "3"], "{id}");
    }
    rig.restart_with(|config| config.shards = 1);
    let client = back(&mut rig, "a");
    assert_eq!(
        rig.payloads(client),
        [""; 0],
        "what was acknowledged is over"
    );
}

#[test]
fn what_was_in_flight_is_sent_again_with_dup_and_its_identifiers() {
    // [5:MQTT-4.4.0-1] [5:MQTT-3.3.1-1]
    let mut rig = rig();
    let client = rig.connect_with(persistent(V5, "s")).client;
    rig.subscribe(client, "t", QoS::ExactlyOnce);
    let publisher = rig.connect(V5, "p");
    for (payload, qos) in [
        ("1", QoS::AtLeastOnce),
        ("2", QoS::ExactlyOnce),
        ("3", QoS::ExactlyOnce),
        ("4", QoS::AtLeastOnce),
    ] {
        rig.publish(publisher, "t", payload, qos);
    }
    let packets = rig.take(client);
    let sent: Vec<_> = publishes(&packets)
        .iter()
        .map(|publish| (publish.payload().to_vec(), publish.delivery().packet_id()))
        .collect();
    assert_eq!(sent.len(), 4);
    let received = sent[1].1.expect("QoS 2");
    rig.send(client, Packet::PubRec(Ack::success(received)));
    assert!(matches!(&rig.take(client)[..], [Packet::PubRel(_)]));
    rig.restart();
    let client = back(&mut rig, "s");
    let packets = rig.take(client);
    assert!(
        matches!(&packets[0], Packet::PubRel(ack) if ack.id == received),
        "{packets:?}"
    );
    let again: Vec<_> = publishes(&packets)
        .iter()
        .map(|publish| {
            assert!(publish.delivery().dup());
            (publish.payload().to_vec(), publish.delivery().packet_id())
        })
        .collect();
    assert_eq!(again, [&sent[0], &sent[2], &sent[3]].map(Clone::clone));
}

#[test]
fn a_message_that_was_taken_over_is_routed_once_whatever_was_committed() {
    // [5:MQTT-4.3.3-10]: exactly once across a crash, at each session.
    for commits in 0..6 {
        let mut rig = rig();
        let subscribers: Vec<_> = (0..2).map(|shard| rig.id_on(shard, "s")).collect();
        for id in &subscribers {
            away(&mut rig, id, "t", QoS::ExactlyOnce);
        }
        let publisher = rig.connect_with(persistent(V5, "p")).client;
        rig.hold_commits = true;
        let publish = publication("t", "x", first(QoS::ExactlyOnce, 7));
        rig.send(publisher, Packet::Publish(publish.clone()));
        let mut received = false;
        let mut completed = false;
        let id = PacketId::new(7).expect("not 0");
        for _ in 0..commits {
            rig.commit();
            for packet in rig.take(publisher) {
                match packet {
                    Packet::PubRec(_) => {
                        received = true;
                        rig.send(publisher, Packet::PubRel(Ack::success(id)));
                    }
                    Packet::PubComp(_) => completed = true,
                    other => panic!("{other:?}"),
                }
            }
        }
        rig.hold_commits = false;
        rig.restart();
        let publisher = rig.connect_with(persistent(V5, "p")).client;
        if !received {
            let again = publication("t", "x", first(QoS::ExactlyOnce, 7).repeated());
            rig.send(publisher, Packet::Publish(again));
            let packets = rig.take(publisher);
            assert!(matches!(&packets[..], [Packet::PubRec(_)]), "{packets:?}");
        }
        if !completed {
            rig.send(publisher, Packet::PubRel(Ack::success(id)));
            let packets = rig.take(publisher);
            assert!(matches!(&packets[..], [Packet::PubComp(_)]), "{packets:?}");
        }
        for subscriber in &subscribers {
            let client = back(&mut rig, subscriber);
            assert_eq!(rig.payloads(client), ["x"], "after {commits} commits");
        }
        rig.restart();
        for subscriber in &subscribers {
            let client = back(&mut rig, subscriber);
            assert_eq!(rig.payloads(client), [""; 0]);
        }
    }
}

#[test]
fn who_has_a_message_that_is_not_released_does_not_get_it_again() {
    let mut rig = rig();
    away(&mut rig, "s", "t", QoS::ExactlyOnce);
    let publisher = rig.connect_with(persistent(V5, "p")).client;
    let publish = publication("t", "x", first(QoS::ExactlyOnce, 7));
    rig.send(publisher, Packet::Publish(publish));
    assert!(matches!(&rig.take(publisher)[..], [Packet::PubRec(_)]));
    let client = back(&mut rig, "s");
    assert_eq!(rig.payloads(client), ["x"]);
    rig.cut(client);
    // Twice, because what is known has to outlive the second start too.
    for _ in 0..2 {
        rig.restart();
        let client = back(&mut rig, "s");
        assert_eq!(rig.payloads(client), [""; 0]);
        rig.cut(client);
    }
    let publisher = rig.connect_with(persistent(V5, "p")).client;
    let id = PacketId::new(7).expect("not 0");
    rig.send(publisher, Packet::PubRel(Ack::success(id)));
    assert!(matches!(&rig.take(publisher)[..], [Packet::PubComp(_)]));
    let client = back(&mut rig, "s");
    assert_eq!(rig.payloads(client), [""; 0]);
    rig.cut(client);
    rig.cut(publisher);
    rig.advance_secs(4_000);
    assert!(rig.journal.is_empty(), "{:?}", rig.journal);
    rig.assert_empty();
}

#[test]
fn retained_messages_survive_and_deleted_ones_do_not() {
    let mut rig = rig();
    let publisher = rig.connect(V5, "p");
    for (topic, payload, qos) in [
        ("a", "1", QoS::AtMostOnce),
        ("b", "1", QoS::AtLeastOnce),
        ("b", "2", QoS::ExactlyOnce),
        ("c", "1", QoS::AtLeastOnce),
        ("c", "", QoS::AtLeastOnce),
    ] {
        rig.publish_retained(publisher, topic, payload, qos);
    }
    rig.restart();
    let reader = rig.connect(V5, "r");
    rig.subscribe_with_no_answer(reader, "#");
    let messages = rig.messages_after_suback(reader);
    let found: BTreeSet<_> = messages
        .iter()
        .map(|publish| {
            let topic = publish.topic().expect("a name").as_str().to_owned();
            (topic, publish.payload().to_vec())
        })
        .collect();
    let expected = [("a", b"1"), ("b", b"2")];
    let expected = expected.map(|(topic, payload)| (topic.to_owned(), payload.to_vec()));
    assert_eq!(found, expected.into());
}

#[test]
fn sessions_and_subscriptions_that_ended_do_not_come_back() {
    let mut rig = rig();
    let client = rig.connect_with(persistent(V5, "s")).client;
    rig.subscribe(client, "t", QoS::AtLeastOnce);
    rig.subscribe(client, "u", QoS::AtLeastOnce);
    rig.unsubscribe(client, "t");
    away(&mut rig, "gone", "t", QoS::AtLeastOnce);
    rig.connect_with(clean(V5, "gone"));
    rig.restart();
    let publisher = rig.connect(V5, "p");
    let reason = rig.publish(publisher, "t", "x", QoS::AtLeastOnce);
    assert_eq!(reason, ReasonCode::NoMatchingSubscribers);
    rig.publish(publisher, "u", "y", QoS::AtLeastOnce);
    let client = back(&mut rig, "s");
    assert_eq!(rig.payloads(client), ["y"]);
    let again = rig.connect_with(persistent(V5, "gone"));
    assert!(!again.connack.session_present);
}

#[test]
fn a_queue_larger_than_its_window_is_read_back_in_order() {
    for restart in [false, true] {
        let mut rig = rig();
        away(&mut rig, "s", "t", QoS::ExactlyOnce);
        let publisher = rig.connect(V5, "p");
        for number in numbers(1_000) {
            rig.publish(publisher, "t", &number, QoS::AtLeastOnce);
        }
        if restart {
            rig.restart();
        }
        let client = back(&mut rig, "s");
        let got = rig.payloads(client);
        assert_eq!(got, numbers(1_000), "restarted: {restart}");
        rig.cut(client);
        rig.cut(publisher);
        rig.advance_secs(4_000);
        assert!(rig.journal.is_empty(), "{:?}", rig.journal);
        rig.assert_empty();
    }
}

#[test]
fn what_comes_while_a_queue_is_read_back_keeps_its_place() {
    let mut rig = rig();
    away(&mut rig, "s", "t", QoS::AtLeastOnce);
    let publisher = rig.connect(V5, "p");
    for number in 0..400 {
        rig.publish(publisher, "t", &number.to_string(), QoS::AtLeastOnce);
    }
    let client = back(&mut rig, "s");
    let mut got = Vec::new();
    for number in 400..800 {
        rig.publish(publisher, "t", &number.to_string(), QoS::AtLeastOnce);
        got.extend(rig.payloads(client));
    }
    assert_eq!(got, numbers(800));
}

#[test]
fn the_oldest_messages_on_the_disk_give_way_once_the_quota_is_reached() {
    let mut rig = journaled(|config| config.limits.queue_messages_max = 50);
    away(&mut rig, "s", "t", QoS::AtLeastOnce);
    let publisher = rig.connect(V5, "p");
    for number in numbers(200) {
        rig.publish(publisher, "t", &number, QoS::AtLeastOnce);
    }
    assert_eq!(rig.stats().dropped_by(DropCause::QueueFull), 150);
    rig.restart();
    let client = back(&mut rig, "s");
    assert_eq!(rig.payloads(client), numbers(200)[150..]);
}

#[test]
fn a_shared_queue_survives_and_a_member_keeps_what_it_has_in_flight() {
    // [5:MQTT-4.8.2-4]
    let mut rig = rig();
    let ids = [rig.id_on(0, "m"), rig.id_on(1, "m")];
    let first_member = rig.connect_with(persistent(V5, &ids[0])).client;
    rig.subscribe(first_member, "$share/g/t", QoS::ExactlyOnce);
    let publisher = rig.connect(V5, "p");
    rig.publish(publisher, "t", "1", QoS::ExactlyOnce);
    let packets = rig.take(first_member);
    let sent = publishes(&packets)[0].delivery().packet_id();
    rig.cut(first_member);
    let second_member = rig.connect_with(persistent(V5, &ids[1])).client;
    rig.subscribe(second_member, "$share/g/t", QoS::ExactlyOnce);
    rig.cut(second_member);
    for payload in ["2", "3"] {
        rig.publish(publisher, "t", payload, QoS::ExactlyOnce);
    }
    rig.restart_with(|config| config.shards = 1);
    let second_member = back(&mut rig, &ids[1]);
    assert_eq!(rig.payloads(second_member), ["2", "3"]);
    let first_member = back(&mut rig, &ids[0]);
    let packets = rig.take(first_member);
    let again = publishes(&packets);
    assert_eq!(again.len(), 1, "{packets:?}");
    assert_eq!(again[0].payload()[..], b"1"[..]);
    assert_eq!(again[0].delivery().packet_id(), sent);
}

#[test]
fn a_shared_message_that_was_never_sent_goes_to_another_member() {
    // [5:MQTT-4.8.2-5] speaks of messages that were sent.
    let mut rig = rig();
    let ids = [rig.id_on(0, "m"), rig.id_on(1, "m")];
    away(&mut rig, &ids[1], "$share/g/t", QoS::ExactlyOnce);
    let first_member = rig.connect_with(persistent(V5, &ids[0])).client;
    rig.subscribe(first_member, "$share/g/t", QoS::ExactlyOnce);
    let publisher = rig.connect(V5, "p");
    rig.hold_commits = true;
    let publish = publication("t", "1", first(QoS::ExactlyOnce, 1));
    rig.send(publisher, Packet::Publish(publish));
    // Taken over, and recorded for the group; its packet identifier at the member is not.
    rig.commit();
    rig.commit();
    assert_eq!(rig.take(first_member), []);
    let again = rig.open(V5);
    rig.send(again, Packet::Connect(Box::new(clean(V5, &ids[0]))));
    rig.hold_commits = false;
    let second_member = back(&mut rig, &ids[1]);
    assert_eq!(rig.payloads(second_member), ["1"]);
}

#[test]
fn a_will_is_published_after_a_restart_unless_its_client_returns() {
    let mut rig = rig();
    away(&mut rig, "s", "t", QoS::AtLeastOnce);
    for id in ["returns", "vanishes"] {
        let mut connect = persistent(V5, id);
        let mut will = will(QoS::AtLeastOnce, false);
        will.payload = id.as_bytes().to_vec().into();
        will.delay_secs = 20;
        connect.will = Some(will);
        rig.connect_with(connect);
    }
    rig.restart();
    rig.advance_secs(10);
    rig.connect_with(persistent(V5, "returns"));
    rig.advance_secs(9);
    let client = back(&mut rig, "s");
    assert_eq!(rig.payloads(client), [""; 0]);
    rig.cut(client);
    rig.advance_secs(2);
    rig.restart();
    rig.advance_secs(100);
    let client = back(&mut rig, "s");
    assert_eq!(rig.payloads(client), ["vanishes"], "once");
}

#[test]
fn wills_and_sessions_wait_for_clients_also_after_a_start_that_took_long() {
    let mut rig = rig();
    away(&mut rig, "s", "t", QoS::AtLeastOnce);
    let mut connect = persistent(V5, "returns");
    connect.will = Some(will(QoS::AtLeastOnce, false));
    connect.properties.session_expiry_secs = 10;
    rig.connect_with(connect);
    rig.restart_reading(60, |_| {});
    rig.advance_secs(4);
    let connected = rig.connect_with(persistent(V5, "returns"));
    assert!(connected.connack.session_present);
    rig.advance_secs(60);
    let client = back(&mut rig, "s");
    assert_eq!(rig.payloads(client), [""; 0]);
}

#[test]
fn a_will_that_is_routed_again_does_not_reach_its_own_client_that_wants_no_local_ones() {
    // [5:MQTT-3.8.3-3]
    let mut rig = rig();
    let mut connect = persistent(V5, "c");
    connect.will = Some(will(QoS::AtLeastOnce, false));
    let client = rig.connect_with(connect).client;
    let mut options = SubscriptionOptions::new(QoS::AtLeastOnce);
    options.no_local = true;
    rig.send(client, support::subscribe(&[("t", options)], None));
    rig.take(client);
    away(&mut rig, "other", "t", QoS::AtLeastOnce);
    rig.hold_commits = true;
    rig.cut(client);
    // The will is taken over, and with nobody.
    rig.commit();
    rig.hold_commits = false;
    rig.restart();
    let client = back(&mut rig, "c");
    assert_eq!(rig.payloads(client), [""; 0]);
    let other = back(&mut rig, "other");
    assert_eq!(rig.payloads(other), ["gone"]);
}

#[test]
fn a_will_that_a_full_queue_refuses_is_counted() {
    let mut rig = journaled(|config| {
        config.queue_full = QueueFull::Refuse;
        config.limits.queue_messages_max = 1;
    });
    away(&mut rig, "s", "t", QoS::AtLeastOnce);
    let publisher = rig.connect(V5, "p");
    rig.publish(publisher, "t", "first", QoS::AtLeastOnce);
    let mut connect = persistent(V5, "vanishes");
    connect.will = Some(will(QoS::AtLeastOnce, false));
    let client = rig.connect_with(connect).client;
    rig.cut(client);
    assert_eq!(rig.stats().dropped_by(DropCause::QueueFull), 1);
    let client = back(&mut rig, "s");
    assert_eq!(rig.payloads(client), ["first"]);
}

#[test]
fn sessions_and_messages_expire_by_wall_clock_while_the_broker_is_away() {
    let mut rig = rig();
    away(&mut rig, "s", "t", QoS::AtLeastOnce);
    away(&mut rig, "short", "t", QoS::AtLeastOnce);
    let mut connect = persistent(V5, "short");
    connect.properties.session_expiry_secs = 100;
    let client = rig.connect_with(connect).client;
    rig.cut(client);
    let publisher = rig.connect(V5, "p");
    let properties = MessageProperties::builder()
        .message_expiry_secs(50)
        .build()
        .expect("valid");
    let mut expires = message("t", "expires", QoS::AtLeastOnce);
    expires = Publish::builder(expires.topic().expect("a name").to_owned())
        .payload("expires")
        .delivery(expires.delivery())
        .properties(&properties)
        .build();
    rig.publish_packet(publisher, expires);
    rig.publish(publisher, "t", "stays", QoS::AtLeastOnce);
    rig.pass_secs(99);
    rig.restart();
    let client = back(&mut rig, "s");
    assert_eq!(rig.payloads(client), ["stays"]);
    rig.advance_secs(2);
    let again = rig.connect_with(persistent(V5, "short"));
    assert!(!again.connack.session_present);
}

#[test]
fn a_full_disk_refuses_what_would_be_stored_and_nothing_else() {
    // DESIGN §6
    let mut rig = rig();
    away(&mut rig, "s", "t", QoS::ExactlyOnce);
    let online = rig.connect(V5, "online");
    rig.subscribe(online, "u", QoS::AtLeastOnce);
    let publisher = rig.connect(V5, "p");
    let old = rig.connect(V311, "old");
    for shard in &rig.shards {
        shard.borrow_mut().set_disk_full(true);
    }
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let reason = rig.publish(publisher, "t", "no", qos);
        assert_eq!(reason, ReasonCode::QuotaExceeded);
    }
    rig.send(old, Packet::Publish(message("t", "no", QoS::AtLeastOnce)));
    assert_eq!(rig.take(old), [], "the acknowledgement is withheld");
    let reason = rig.publish(publisher, "u", "yes", QoS::AtLeastOnce);
    assert_eq!(reason, ReasonCode::Success);
    assert_eq!(rig.payloads(online), ["yes"]);
    let client = back(&mut rig, "s");
    assert_eq!(rig.payloads(client), [""; 0]);
    rig.subscribe(client, "v", QoS::AtLeastOnce);
    for shard in &rig.shards {
        shard.borrow_mut().set_disk_full(false);
    }
    rig.publish(publisher, "t", "again", QoS::ExactlyOnce);
    assert_eq!(rig.payloads(client), ["again"]);
}

#[test]
fn a_wide_fan_out_in_steps_is_recorded_whole() {
    let mut rig = journaled(|config| config.limits.step_budget = 4);
    let ids: Vec<_> = (0..30).map(|number| format!("s{number}")).collect();
    for id in &ids {
        away(&mut rig, id, "t", QoS::AtLeastOnce);
    }
    let publisher = rig.connect(V5, "p");
    rig.publish(publisher, "t", "x", QoS::AtLeastOnce);
    rig.restart();
    for id in &ids {
        let client = back(&mut rig, id);
        assert_eq!(rig.payloads(client), ["x"], "{id}");
    }
}

#[test]
fn retained_messages_in_flight_to_a_persistent_session_are_sent_again() {
    let mut rig = rig();
    let publisher = rig.connect(V5, "p");
    rig.publish_retained(publisher, "t", "x", QoS::ExactlyOnce);
    let client = rig.connect_with(persistent(V5, "s")).client;
    let options = SubscriptionOptions::new(QoS::ExactlyOnce);
    rig.send(client, support::subscribe(&[("t", options)], Some(5)));
    let packets = rig.take(client);
    let sent = publishes(&packets)[0].clone();
    rig.restart();
    let client = back(&mut rig, "s");
    let packets = rig.take(client);
    let again = publishes(&packets)[0].clone();
    assert_eq!(again.delivery().packet_id(), sent.delivery().packet_id());
    assert!(again.retain() && again.delivery().dup());
    assert_eq!(again.payload(), sent.payload());
}

#[test]
fn numbers_go_on_above_those_of_what_is_not_told_any_more() {
    let mut rig = rig();
    let position = Position::new(1 << 20).expect("not 0");
    let queue = QueueId::new(1 << 30).expect("not 0");
    rig.journal.used = Some((position, queue));
    rig.restart();
    away(&mut rig, "a", "t", QoS::AtLeastOnce);
    let publisher = rig.connect(V311, "p");
    rig.publish(publisher, "t", "1", QoS::AtLeastOnce);
    let mut given = 0;
    for replayed in rig.journal.replay() {
        match replayed {
            Replayed::Session(session) => assert!(session.session > queue),
            Replayed::Message { position: at, .. } => assert!(at > position),
            _ => continue,
        }
        given += 1;
    }
    assert_eq!(given, 2);
}

/// Comes back to a session that ends with this connection.
fn back_for_the_last_time(rig: &mut Rig, id: &str, window: u16) -> Client {
    let mut connect = persistent(V5, id);
    connect.properties.session_expiry_secs = 0;
    connect.properties.receive_maximum = NonZeroU16::new(window).expect("not 0");
    rig.connect_with_messages(connect)
}

#[test]
fn qos_2_reaches_a_session_that_now_ends_with_its_connection() {
    let mut rig = rig();
    away(&mut rig, "s", "t", QoS::ExactlyOnce);
    let client = back_for_the_last_time(&mut rig, "s", 10);
    let publisher = rig.connect(V5, "p");
    rig.publish(publisher, "t", "1", QoS::ExactlyOnce);
    assert_eq!(rig.payloads(client), ["1"]);
}

#[test]
fn nothing_overtakes_the_part_of_a_queue_that_is_on_the_disk_only() {
    // [5:MQTT-4.6.0-6]
    let mut rig = journaled(|config| config.limits.queue_window_messages = 1);
    away(&mut rig, "s", "t", QoS::AtLeastOnce);
    let publisher = rig.connect(V5, "p");
    for payload in ["1", "2", "3"] {
        rig.publish(publisher, "t", payload, QoS::AtLeastOnce);
    }
    let client = back_for_the_last_time(&mut rig, "s", 1);
    rig.publish(publisher, "t", "4", QoS::AtLeastOnce);
    let mut order = Vec::new();
    for _ in 0..4 {
        let packets = rig.take(client);
        for publish in publishes(&packets) {
            order.push(publish.payload().to_vec());
            let id = publish.delivery().packet_id().expect("QoS 1");
            rig.send(client, Packet::PubAck(Ack::success(id)));
        }
    }
    assert_eq!(order, [b"1", b"2", b"3", b"4"]);
}

#[test]
fn what_is_routed_again_goes_to_qos_0_subscribers_once_at_the_most() {
    // [5:MQTT-4.3.1-1]
    let mut rig = journaled(|config| config.queue_qos0_offline = true);
    let at_most_once = rig.connect_with(persistent(V5, "0")).client;
    rig.subscribe(at_most_once, "t", QoS::AtMostOnce);
    away(&mut rig, "2", "t", QoS::ExactlyOnce);
    let publisher = rig.connect_with(persistent(V5, "p")).client;
    let publish = message("t", "1", QoS::ExactlyOnce);
    rig.send(publisher, Packet::Publish(publish));
    assert!(matches!(&rig.take(publisher)[..], [Packet::PubRec(_)]));
    assert_eq!(rig.payloads(at_most_once), ["1"]);
    rig.restart();
    let at_most_once = back(&mut rig, "0");
    assert_eq!(rig.payloads(at_most_once), [""; 0]);
    let exactly_once = back(&mut rig, "2");
    assert_eq!(rig.payloads(exactly_once), ["1"]);
}
