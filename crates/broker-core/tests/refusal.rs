//! Queues that refuse, and the bound of all queues together.

mod support;

use std::num::NonZeroU16;

use support::pieces::{numbers, will};
use support::{Client, Rig, V5, V311, clean, persistent};
use whimbrel_broker_core::session::codec::QoS;
use whimbrel_broker_core::{Event, QueueFull};

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
