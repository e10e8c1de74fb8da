//! Bounds: queues, windows, slow readers, wide fan-outs. Full is a value, and every drop is counted.

mod support;

use std::num::NonZeroU16;
use std::num::NonZeroU32;

use support::{Rig, V5, V311, clean, name, persistent};
use whimbrel_broker_core::session::codec::{
    Ack, Delivery, MessageProperties, Packet, PacketId, Publish, QoS, ReasonCode,
};
use whimbrel_broker_core::{DropCause, Event, QueueFull};

fn publish_packet(id: u16, qos: QoS, payload: &str) -> Packet {
    let id = PacketId::new(id).expect("not 0");
    Packet::Publish(
        Publish::builder(name("t"))
            .payload(payload.to_owned())
            .delivery(Delivery::first(qos, id))
            .build(),
    )
}

#[test]
fn a_full_queue_drops_its_oldest_messages_and_counts_them() {
    let mut rig = Rig::with(|config| config.limits.queue_messages_max = 3);
    let publisher = rig.connect(V5, "p");
    let subscriber = rig.connect_with(persistent(V311, "s")).client;
    rig.subscribe(subscriber, "t", QoS::AtLeastOnce);
    rig.cut(subscriber);
    for count in 0..5 {
        let reason = rig.publish(publisher, "t", &count.to_string(), QoS::AtLeastOnce);
        assert_eq!(reason, ReasonCode::Success);
    }
    assert_eq!(rig.stats().dropped_by(DropCause::QueueFull), 2);
    let reported = rig
        .events
        .iter()
        .filter(|event| matches!(event, Event::Dropping { .. }))
        .count();
    assert_eq!(reported, 1, "told once, counted twice");
    let subscriber = rig.connect_with_messages(persistent(V311, "s"));
    assert_eq!(rig.payloads(subscriber), ["2", "3", "4"]);
}

#[test]
fn the_queue_is_bounded_in_bytes_too() {
    let mut rig = Rig::with(|config| config.limits.queue_bytes_max = 4_000);
    let publisher = rig.connect(V5, "p");
    let subscriber = rig.connect_with(persistent(V311, "s")).client;
    rig.subscribe(subscriber, "t", QoS::AtLeastOnce);
    rig.cut(subscriber);
    for _ in 0..10 {
        rig.publish(publisher, "t", &"x".repeat(1_000), QoS::AtLeastOnce);
    }
    assert!(rig.stats().queued_bytes <= 4_000);
    assert!(rig.stats().dropped_by(DropCause::QueueFull) >= 6);
}

#[test]
fn all_queues_together_are_bounded() {
    let mut rig = Rig::with(|config| {
        config.shards = 1;
        config.limits.queue_bytes_total_max = 10_000;
    });
    let publisher = rig.connect(V5, "p");
    for session in 0..5 {
        let id = format!("s{session}");
        let subscriber = rig.connect_with(persistent(V311, &id)).client;
        rig.subscribe(subscriber, "t", QoS::AtLeastOnce);
        rig.cut(subscriber);
    }
    for _ in 0..10 {
        rig.publish(publisher, "t", &"x".repeat(1_000), QoS::AtLeastOnce);
    }
    assert!(rig.stats().queued_bytes <= 10_000);
    assert!(rig.stats().dropped_by(DropCause::QueueTotal) > 0);
}

#[test]
fn a_refusing_queue_tells_mqtt_5_publishers() {
    let mut rig = Rig::with(|config| {
        config.queue_full = QueueFull::Refuse;
        config.limits.queue_messages_max = 2;
    });
    let publisher_id = rig.id_on(0, "p");
    let subscriber_id = rig.id_on(1, "s");
    let publisher = rig.connect(V5, &publisher_id);
    let subscriber = rig.connect_with(persistent(V311, &subscriber_id)).client;
    rig.subscribe(subscriber, "t", QoS::AtLeastOnce);
    rig.cut(subscriber);
    let reasons: Vec<_> = (0..3)
        .map(|count| rig.publish(publisher, "t", &count.to_string(), QoS::AtLeastOnce))
        .collect();
    assert_eq!(
        reasons,
        [
            ReasonCode::Success,
            ReasonCode::Success,
            ReasonCode::QuotaExceeded
        ]
    );
    let subscriber = rig.connect_with_messages(persistent(V311, &subscriber_id));
    assert_eq!(rig.payloads(subscriber), ["0", "1"]);
    assert_eq!(rig.stats().dropped_total(), 0);
}

#[test]
fn a_refusing_queue_withholds_the_ack_of_mqtt_3_publishers() {
    let mut rig = Rig::with(|config| {
        config.queue_full = QueueFull::Refuse;
        config.limits.queue_messages_max = 1;
    });
    let publisher = rig.connect(V311, "p");
    let subscriber = rig.connect_with(persistent(V311, "s")).client;
    rig.subscribe(subscriber, "t", QoS::AtLeastOnce);
    rig.cut(subscriber);
    for id in 1..=2 {
        rig.send(publisher, publish_packet(id, QoS::AtLeastOnce, "x"));
    }
    let acks = rig.take(publisher);
    assert!(
        matches!(&acks[..], [Packet::PubAck(ack)] if ack.id.get() == 1),
        "{acks:?}"
    );
    rig.send(publisher, Packet::PingReq);
    assert!(matches!(&rig.take(publisher)[..], [Packet::PingResp]));
}

#[test]
fn the_clients_receive_maximum_is_kept() {
    // [5:MQTT-3.3.4-9] [5:MQTT-4.9.0-2]
    let mut rig = Rig::new();
    let mut connect = clean(V5, "s");
    connect.properties.receive_maximum = NonZeroU16::new(2).expect("not 0");
    let subscriber = rig.connect_with(connect).client;
    rig.subscribe(subscriber, "t", QoS::ExactlyOnce);
    let publisher = rig.connect(V5, "p");
    for count in 0..5 {
        rig.publish(publisher, "t", &count.to_string(), QoS::AtLeastOnce);
    }
    let first = rig.take(subscriber);
    assert_eq!(first.len(), 2);
    let Packet::Publish(publish) = &first[0] else {
        panic!("a message");
    };
    let id = publish.delivery().packet_id().expect("QoS 1");
    rig.send(subscriber, Packet::PubAck(Ack::success(id)));
    assert_eq!(rig.take(subscriber).len(), 1);
}

#[test]
fn a_message_larger_than_the_client_takes_is_dropped_for_it_alone() {
    // [5:MQTT-3.1.2-24] [5:MQTT-3.1.2-25]
    let mut rig = Rig::new();
    let mut connect = clean(V5, "small");
    connect.properties.packet_size_max = NonZeroU32::new(50);
    let small = rig.connect_with(connect).client;
    let large = rig.connect(V5, "large");
    for client in [small, large] {
        rig.subscribe(client, "t", QoS::AtLeastOnce);
    }
    let publisher = rig.connect(V5, "p");
    rig.publish(publisher, "t", &"x".repeat(100), QoS::AtLeastOnce);
    rig.publish(publisher, "t", "fits", QoS::AtLeastOnce);
    assert_eq!(rig.payloads(small), ["fits"]);
    assert_eq!(rig.payloads(large).len(), 2);
    assert_eq!(rig.stats().dropped_by(DropCause::TooLarge), 1);
}

#[test]
fn a_message_too_large_for_its_client_is_reported_like_any_drop() {
    // Sent at once, and out of the queue.
    for is_away in [false, true] {
        let mut rig = Rig::new();
        let connect = || {
            let mut connect = persistent(V5, "small");
            connect.properties.packet_size_max = NonZeroU32::new(50);
            connect
        };
        let small = rig.connect_with(connect()).client;
        rig.subscribe(small, "t", QoS::AtLeastOnce);
        if is_away {
            rig.cut(small);
        }
        let publisher = rig.connect(V5, "p");
        rig.publish(publisher, "t", &"x".repeat(100), QoS::AtLeastOnce);
        if is_away {
            rig.connect_with(connect());
        }
        let reported = rig.events.iter().filter(|event| {
            matches!(event, Event::Dropping { client_id, cause: DropCause::TooLarge } if &**client_id == "small")
        });
        assert_eq!(reported.count(), 1);
        assert_eq!(rig.stats().dropped_by(DropCause::TooLarge), 1);
    }
}

#[test]
fn a_reader_that_stops_costs_bounded_memory_and_stalls_nobody() {
    let mut rig = Rig::with(|config| {
        config.limits.clean_queue_messages_max = 100;
        config.connection.output_bytes_max = 10_000;
    });
    let stuck = rig.connect(V311, "stuck");
    let works = rig.connect(V311, "works");
    for client in [stuck, works] {
        rig.subscribe(client, "t", QoS::AtMostOnce);
    }
    rig.stop_reading(stuck);
    let publisher = rig.connect(V311, "p");
    for count in 0..2_000 {
        rig.publish(publisher, "t", &format!("{count:0100}"), QoS::AtMostOnce);
    }
    assert_eq!(rig.payloads(works).len(), 2_000);
    assert_eq!(rig.stats().queued_messages, 100);
    let dropped = rig.stats().dropped_by(DropCause::SlowReader);
    rig.start_reading(stuck);
    let got = rig.payloads(stuck);
    assert!(got.is_sorted());
    assert_eq!(
        got.len() as u64 + dropped,
        2_000,
        "none is lost without a count"
    );
    assert_eq!(rig.stats().queued_messages, 0);
}

#[test]
fn a_wide_fan_out_goes_in_steps_and_keeps_the_order() {
    let mut rig = Rig::with(|config| {
        config.shards = 1;
        config.limits.step_budget = 10;
    });
    let subscribers: Vec<_> = (0..35)
        .map(|count| {
            let client = rig.connect(V311, &format!("s{count}"));
            rig.subscribe(client, "t", QoS::AtLeastOnce);
            client
        })
        .collect();
    let publisher = rig.connect(V311, "p");
    for count in 0..5 {
        rig.publish(publisher, "t", &count.to_string(), QoS::AtLeastOnce);
    }
    for subscriber in subscribers {
        assert_eq!(rig.payloads(subscriber), ["0", "1", "2", "3", "4"]);
    }
}

#[test]
fn a_wide_fan_out_ends_when_its_message_expires() {
    // [5:MQTT-3.3.2-5]
    let mut rig = Rig::with(|config| {
        config.shards = 1;
        config.limits.step_budget = 2;
    });
    let subscribers: Vec<_> = (0..5)
        .map(|count| {
            let client = rig.connect(V5, &format!("s{count}"));
            rig.subscribe(client, "t", QoS::AtLeastOnce);
            client
        })
        .collect();
    let publisher = rig.connect(V5, "p");
    let properties = MessageProperties::builder()
        .message_expiry_secs(3)
        .build()
        .expect("valid");
    let publish = Publish::builder(name("t"))
        .delivery(Delivery::first(QoS::AtLeastOnce, PacketId::MIN))
        .properties(&properties)
        .build();
    rig.hold_backlog = true;
    rig.publish_packet(publisher, publish);
    rig.advance_secs(4);
    rig.hold_backlog = false;
    rig.run();
    for subscriber in subscribers {
        assert_eq!(rig.messages(subscriber), []);
    }
    assert_eq!(rig.stats().dropped_by(DropCause::Expired), 5);
}

#[test]
fn an_in_flight_limit_below_the_clients_holds_for_mqtt_3() {
    // D17
    let mut rig = Rig::with(|config| {
        config.connection.in_flight_max = NonZeroU16::new(3).expect("not 0");
    });
    let subscriber = rig.connect(V311, "s");
    rig.subscribe(subscriber, "t", QoS::AtLeastOnce);
    let publisher = rig.connect(V311, "p");
    for count in 0..10 {
        rig.publish(publisher, "t", &count.to_string(), QoS::AtLeastOnce);
    }
    let expected: Vec<_> = (0..10).map(|count| count.to_string()).collect();
    assert_eq!(rig.payloads(subscriber), expected);
}
