//! What a journal is told, who waits for it, and in which order things happen then.

mod support;

use support::pieces::subscribe;
use support::{Rig, V5, clean, name, persistent};
use whimbrel_broker_core::session::codec::{
    Delivery, MessageProperties, Packet, PacketId, Publish, QoS,
};
use whimbrel_broker_core::{DropCause, Record};

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
    // [5:MQTT-3.3.2-5]
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

#[test]
fn publishers_wait_while_much_is_on_its_way_to_the_journal() {
    // Retained messages count too, although their records do not hold them.
    for retain in [false, true] {
        let mut rig = Rig::with(|config| {
            config.shards = 1;
            config.journal = true;
            config.limits.journal_window_bytes = 2_000;
        });
        let subscriber = rig.connect_with(persistent(V5, "s")).client;
        if !retain {
            rig.subscribe(subscriber, "t", QoS::AtLeastOnce);
        }
        let publisher = rig.connect(V5, "p");
        rig.hold_commits = true;
        for number in 1..=3 {
            let publish = Publish::builder(name("t"))
                .payload(vec![b'x'; 1_500])
                .retain(retain)
                .delivery(Delivery::first(
                    QoS::AtLeastOnce,
                    PacketId::new(number).expect("not 0"),
                ))
                .build();
            rig.send(publisher, Packet::Publish(publish));
        }
        assert!(rig.is_blocked(publisher), "retained: {retain}");
        assert_eq!(rig.stats().publishes_received, 2, "retained: {retain}");
        rig.hold_commits = false;
        rig.run();
        assert!(!rig.is_blocked(publisher));
        assert_eq!(rig.take(publisher).len(), 3);
    }
}
