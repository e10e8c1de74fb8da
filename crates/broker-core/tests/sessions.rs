//! Sessions: begun, resumed, taken over, expired.

mod support;

use support::{Rig, V5, V31, V311, clean, name, persistent};
use whimbrel_broker_core::session::codec::{
    Ack, Delivery, Disconnect, MessageProperties, Packet, PacketId, Publish, QoS, ReasonCode,
};

#[test]
fn session_present_says_whether_there_was_state() {
    // [3:MQTT-3.1.2-4] [3:MQTT-3.1.2-6] [3:MQTT-3.1.4-3] [3:MQTT-3.2.2-1] [3:MQTT-3.2.2-2]
    // [3:MQTT-3.2.2-3] [5:MQTT-3.1.2-4] [5:MQTT-3.1.2-5] [5:MQTT-3.1.2-6] [5:MQTT-3.1.4-4]
    // [5:MQTT-3.2.2-2] [5:MQTT-3.2.2-3]
    for version in [V311, V5] {
        let mut rig = Rig::new();
        let first = rig.connect_with(persistent(version, "c"));
        assert!(!first.connack.session_present);
        rig.cut(first.client);
        let second = rig.connect_with(persistent(version, "c"));
        assert!(second.connack.session_present);
        rig.cut(second.client);
        let third = rig.connect_with(clean(version, "c"));
        assert!(!third.connack.session_present);
        rig.cut(third.client);
        let fourth = rig.connect_with(persistent(version, "c"));
        assert!(!fourth.connack.session_present, "clean start left nothing");
    }
}

#[test]
fn sessions_are_kept_by_their_client_id() {
    // [3:MQTT-3.1.3-2] [5:MQTT-3.1.3-2]
    for version in [V311, V5] {
        let mut rig = Rig::new();
        let one = rig.connect_with(persistent(version, "one")).client;
        rig.subscribe(one, "t", QoS::AtLeastOnce);
        rig.cut(one);
        for other in ["One", "one ", "on", "other"] {
            let other = rig.connect_with(persistent(version, other));
            assert!(!other.connack.session_present);
            assert!(rig.is_open(other.client));
        }
        let publisher = rig.connect(version, "p");
        rig.publish(publisher, "t", "x", QoS::AtLeastOnce);
        let one = rig.connect_with_messages(persistent(version, "one"));
        assert_eq!(rig.payloads(one), ["x"]);
    }
}

#[test]
fn every_client_id_of_1_to_23_digits_and_letters_is_accepted() {
    // [3:MQTT-3.1.3-5] [5:MQTT-3.1.3-5]
    let allowed = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for version in [V311, V5] {
        let mut rig = Rig::new();
        for length in 1..=23 {
            let id = &allowed[..length];
            let connected = rig.connect_with(clean(version, id));
            assert_eq!(connected.connack.reason, ReasonCode::Success, "{id}");
        }
        for character in allowed.chars() {
            let id = character.to_string().repeat(23);
            let connected = rig.connect_with(clean(version, &id));
            assert_eq!(connected.connack.reason, ReasonCode::Success, "{id}");
        }
    }
}

#[test]
fn a_session_lasts_at_least_as_long_as_its_connection() {
    // [3:MQTT-4.1.0-1] [3:MQTT-4.1.0-2] [5:MQTT-4.1.0-1]
    for version in [V311, V5] {
        for (clean_start, expiry_secs) in [(true, 0), (false, 10)] {
            let mut rig = Rig::with(|config| config.v3_session_expiry_secs = 10);
            let mut connect = persistent(version, "c");
            connect.clean_start = clean_start;
            if version.is_v5() {
                connect.properties.session_expiry_secs = expiry_secs;
            }
            let client = rig.connect_with(connect).client;
            rig.subscribe(client, "t", QoS::ExactlyOnce);
            let publisher = rig.connect(version, "p");
            rig.publish(publisher, "t", "open", QoS::ExactlyOnce);
            let sent = deliveries(&rig.take(client));
            rig.advance_secs(100_000);
            assert!(rig.is_open(client));
            // Subscription and open exchange are still there.
            rig.publish(publisher, "t", "x", QoS::AtMostOnce);
            assert_eq!(rig.payloads(client), ["x"]);
            let id = sent[0].packet_id().expect("QoS 2");
            rig.send(client, Packet::PubRec(Ack::success(id)));
            assert_eq!(rig.take(client), [Packet::PubRel(Ack::success(id))]);
        }
    }
}

#[test]
fn an_offline_session_gets_what_it_missed_in_order() {
    // [3:MQTT-3.1.2-5] [3:MQTT-4.5.0-1] [5:MQTT-3.1.2-5] [5:MQTT-4.5.0-1]
    for version in [V31, V311, V5] {
        let mut rig = Rig::new();
        let publisher = rig.connect(V311, "p");
        let subscriber = rig.connect_with(persistent(version, "s")).client;
        rig.subscribe(subscriber, "t", QoS::ExactlyOnce);
        let other = rig.connect_with(persistent(version, "other")).client;
        rig.subscribe(other, "+", QoS::AtLeastOnce);
        for client in [subscriber, other] {
            rig.cut(client);
        }
        for count in 0..5 {
            rig.publish(publisher, "t", &count.to_string(), QoS::AtLeastOnce);
        }
        rig.publish(publisher, "t", "not kept", QoS::AtMostOnce);
        for id in ["s", "other"] {
            let subscriber = rig.connect_with_messages(persistent(version, id));
            assert_eq!(rig.payloads(subscriber), ["0", "1", "2", "3", "4"]);
        }
    }
}

#[test]
fn unacknowledged_messages_are_sent_again_with_dup_and_their_old_identifiers() {
    // [5:MQTT-3.3.1-1] [5:MQTT-4.3.2-3] [5:MQTT-4.3.3-3] [5:MQTT-4.4.0-1]
    let mut rig = Rig::new();
    let publisher = rig.connect(V5, "p");
    let subscriber = rig.connect_with(persistent(V5, "s")).client;
    rig.subscribe(subscriber, "t", QoS::ExactlyOnce);
    rig.publish(publisher, "t", "one", QoS::AtLeastOnce);
    rig.publish(publisher, "t", "two", QoS::ExactlyOnce);
    let sent: Vec<_> = deliveries(&rig.take(subscriber));
    rig.cut(subscriber);
    let subscriber = rig.connect_with_messages(persistent(V5, "s"));
    let resent: Vec<_> = deliveries(&rig.take(subscriber));
    let expected: Vec<_> = sent.iter().map(|delivery| delivery.repeated()).collect();
    assert_eq!(resent, expected);
    assert_eq!(resent.len(), 2);
    assert!(resent.iter().all(|delivery| delivery.dup()));
}

#[test]
fn after_pubrec_only_pubrel_is_sent_again() {
    // [3:MQTT-4.3.3-1] [3:MQTT-4.4.0-1]
    let mut rig = Rig::new();
    let publisher = rig.connect(V311, "p");
    let subscriber = rig.connect_with(persistent(V311, "s")).client;
    rig.subscribe(subscriber, "t", QoS::ExactlyOnce);
    rig.publish(publisher, "t", "x", QoS::ExactlyOnce);
    let sent = deliveries(&rig.take(subscriber));
    let id = sent[0].packet_id().expect("QoS 2");
    rig.send(subscriber, Packet::PubRec(Ack::success(id)));
    rig.cut(subscriber);
    let subscriber = rig.connect_with_messages(persistent(V311, "s"));
    let packets = rig.take(subscriber);
    assert!(
        matches!(&packets[..], [Packet::PubRel(ack)] if ack.id == id),
        "{packets:?}"
    );
    rig.send(subscriber, Packet::PubComp(Ack::success(id)));
    rig.publish(publisher, "t", "y", QoS::ExactlyOnce);
    assert_eq!(rig.payloads(subscriber), ["y"]);
}

#[test]
fn a_repeated_qos_2_publish_is_delivered_once() {
    // [5:MQTT-4.3.3-10] (D9)
    let mut rig = Rig::new();
    let subscriber = rig.connect(V5, "s");
    rig.subscribe(subscriber, "t", QoS::ExactlyOnce);
    let publisher = rig.connect_with(persistent(V5, "p")).client;
    let delivery = Delivery::first(QoS::ExactlyOnce, PacketId::MIN);
    let publish = Publish::builder(name("t"))
        .payload("x")
        .delivery(delivery)
        .build();
    rig.send(publisher, Packet::Publish(publish.clone()));
    rig.cut(publisher);
    let publisher = rig.connect_with(persistent(V5, "p")).client;
    rig.send(
        publisher,
        Packet::Publish(publish.with_delivery(delivery.repeated())),
    );
    let packets = rig.take(publisher);
    assert!(matches!(&packets[..], [Packet::PubRec(_)]), "{packets:?}");
    rig.send(publisher, Packet::PubRel(Ack::success(PacketId::MIN)));
    assert!(matches!(&rig.take(publisher)[..], [Packet::PubComp(_)]));
    assert_eq!(rig.payloads(subscriber), ["x"]);
}

#[test]
fn a_second_connection_takes_the_session_over() {
    // [3:MQTT-3.1.4-2] [5:MQTT-3.1.4-3]
    for version in [V311, V5] {
        let mut rig = Rig::new();
        let old = rig.connect_with(persistent(version, "c")).client;
        rig.subscribe(old, "t", QoS::AtLeastOnce);
        let new = rig.connect_with(persistent(version, "c"));
        assert!(new.connack.session_present);
        let packets = rig.take(old);
        match &packets[..] {
            [Packet::Disconnect(disconnect)] if version.is_v5() => {
                assert_eq!(disconnect.reason, ReasonCode::SessionTakenOver);
            }
            [] if !version.is_v5() => {}
            other => panic!("{other:?}"),
        }
        assert!(!rig.is_open(old));
        let publisher = rig.connect(V5, "p");
        rig.publish(publisher, "t", "x", QoS::AtLeastOnce);
        assert_eq!(rig.payloads(new.client), ["x"]);
        assert_eq!(rig.stats().takeovers, 1);
    }
}

#[test]
fn two_thousand_takeovers_leave_one_session_and_no_residue() {
    let mut rig = Rig::new();
    let mut last = None;
    for count in 0..2_000 {
        let connect = if count % 2 == 0 {
            persistent(V311, "c")
        } else {
            persistent(V5, "c")
        };
        last = Some(rig.connect_with(connect).client);
    }
    assert_eq!(rig.stats().sessions, 1);
    assert_eq!(rig.stats().connections, 1);
    rig.cut(last.expect("connected"));
    let last = rig.connect_with(clean(V5, "c")).client;
    rig.cut(last);
    rig.assert_empty();
}

#[test]
fn a_session_ends_when_its_expiry_interval_is_over() {
    // [5:MQTT-3.1.2-23] [5:MQTT-4.1.0-2]
    let mut rig = Rig::new();
    let mut connect = persistent(V5, "c");
    connect.properties.session_expiry_secs = 10;
    let client = rig.connect_with(connect.clone()).client;
    rig.subscribe(client, "t", QoS::AtLeastOnce);
    rig.cut(client);
    rig.advance_secs(9);
    let again = rig.connect_with(connect.clone());
    assert!(again.connack.session_present);
    rig.cut(again.client);
    rig.advance_secs(10);
    rig.assert_empty();
    let late = rig.connect_with(connect);
    assert!(!late.connack.session_present);
}

#[test]
fn disconnect_may_change_the_expiry_interval() {
    // [U5-081]
    let mut rig = Rig::new();
    let client = rig.connect_with(persistent(V5, "c")).client;
    let mut disconnect = Disconnect::new(ReasonCode::NORMAL_DISCONNECTION);
    disconnect.session_expiry_secs = Some(0);
    rig.send(client, Packet::Disconnect(Box::new(disconnect)));
    rig.assert_empty();
}

#[test]
fn the_granted_expiry_interval_is_capped_and_told() {
    // B5
    let mut rig = Rig::with(|config| config.session_expiry_secs_max = 60);
    let connected = rig.connect_with(persistent(V5, "c"));
    assert_eq!(connected.connack.properties.session_expiry_secs, Some(60));
    rig.cut(connected.client);
    rig.advance_secs(60);
    rig.assert_empty();
}

#[test]
fn a_3x_session_without_clean_session_expires_when_so_configured() {
    let mut rig = Rig::with(|config| config.v3_session_expiry_secs = 5);
    let client = rig.connect_with(persistent(V311, "c")).client;
    rig.cut(client);
    rig.advance_secs(5);
    rig.assert_empty();
}

#[test]
fn a_silent_client_is_disconnected_after_one_and_a_half_keep_alives() {
    // [5:MQTT-3.1.2-22] [5:MQTT-3.12.4-1]
    let mut rig = Rig::new();
    let mut connect = clean(V5, "c");
    connect.keep_alive_secs = 10;
    let client = rig.connect_with(connect).client;
    rig.advance_secs(14);
    rig.send(client, Packet::PingReq);
    assert!(matches!(&rig.take(client)[..], [Packet::PingResp]));
    rig.advance_secs(14);
    assert!(rig.is_open(client));
    rig.advance_secs(2);
    let packets = rig.take(client);
    assert!(
        matches!(&packets[..], [Packet::Disconnect(disconnect)] if disconnect.reason == ReasonCode::KeepAliveTimeout),
        "{packets:?}"
    );
    assert_eq!(rig.stats().keep_alive_closes, 1);
    rig.assert_empty();
}

#[test]
fn an_expired_message_is_not_delivered_and_the_interval_counts_down_in_the_queue() {
    // [5:MQTT-3.3.2-5] [5:MQTT-3.3.2-6]
    let mut rig = Rig::new();
    let publisher = rig.connect(V5, "p");
    let subscriber = rig.connect_with(persistent(V5, "s")).client;
    rig.subscribe(subscriber, "t", QoS::AtLeastOnce);
    rig.cut(subscriber);
    for (payload, expiry_secs) in [("short", 5), ("long", 60)] {
        let properties = MessageProperties::builder()
            .message_expiry_secs(expiry_secs)
            .build()
            .expect("valid");
        let publish = Publish::builder(name("t"))
            .payload(payload)
            .delivery(Delivery::first(QoS::AtLeastOnce, PacketId::MIN))
            .properties(&properties)
            .build();
        rig.publish_packet(publisher, publish);
    }
    rig.advance_secs(20);
    let subscriber = rig.connect_with_messages(persistent(V5, "s"));
    let got = rig.messages(subscriber);
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].payload(), b"long");
    assert_eq!(got[0].properties().message_expiry_secs(), Some(40));
}

#[test]
fn a_clock_that_was_set_back_makes_no_expiry_longer_than_its_publisher_gave() {
    // [5:MQTT-3.3.2-6]
    let mut rig = Rig::new();
    let publisher = rig.connect(V5, "p");
    let subscriber = rig.connect_with(persistent(V5, "s")).client;
    rig.subscribe(subscriber, "t", QoS::AtLeastOnce);
    rig.cut(subscriber);
    let properties = MessageProperties::builder()
        .message_expiry_secs(60)
        .build()
        .expect("valid");
    let publish = Publish::builder(name("t"))
        .delivery(Delivery::first(QoS::AtLeastOnce, PacketId::MIN))
        .properties(&properties)
        .build();
    rig.publish_packet(publisher, publish);
    rig.set_clock_back_secs(3_600);
    let subscriber = rig.connect_with_messages(persistent(V5, "s"));
    let got = rig.messages(subscriber);
    assert_eq!(got[0].properties().message_expiry_secs(), Some(60));
}

#[test]
fn a_qos_2_exchange_that_has_begun_is_finished_though_its_message_expires() {
    // [5:MQTT-4.3.3-7] [5:MQTT-4.3.3-13]
    let mut rig = Rig::new();
    let subscriber = rig.connect_with(persistent(V5, "s")).client;
    rig.subscribe(subscriber, "t", QoS::ExactlyOnce);
    let publisher = rig.connect(V5, "p");
    let properties = MessageProperties::builder()
        .message_expiry_secs(5)
        .build()
        .expect("valid");
    let delivery = Delivery::first(QoS::ExactlyOnce, PacketId::MIN);
    let publish = Publish::builder(name("t"))
        .payload("x")
        .delivery(delivery)
        .properties(&properties)
        .build();
    rig.send(publisher, Packet::Publish(publish));
    let pub_rec = Packet::PubRec(Ack::success(PacketId::MIN));
    assert_eq!(rig.take(publisher), [pub_rec]);
    let sent = deliveries(&rig.take(subscriber));
    assert_eq!(sent.len(), 1);
    rig.cut(subscriber);
    rig.advance_secs(60);

    // The receiver of the expired message finishes.
    rig.send(publisher, Packet::PubRel(Ack::success(PacketId::MIN)));
    let pub_comp = Packet::PubComp(Ack::success(PacketId::MIN));
    assert_eq!(rig.take(publisher), [pub_comp]);
    // So does its sender.
    let subscriber = rig.connect_with_messages(persistent(V5, "s"));
    let resent = deliveries(&rig.take(subscriber));
    assert_eq!(resent, [sent[0].repeated()]);
    let id = sent[0].packet_id().expect("QoS 2");
    rig.send(subscriber, Packet::PubRec(Ack::success(id)));
    assert_eq!(rig.take(subscriber), [Packet::PubRel(Ack::success(id))]);
}

#[test]
fn shut_down_tells_mqtt_5_clients_and_closes_all() {
    let mut rig = Rig::new();
    let five = rig.connect(V5, "five");
    let three = rig.connect(V311, "three");
    for shard in 0..rig.shards.len() {
        let env = rig.env();
        rig.shards[shard].borrow_mut().shut_down(env);
    }
    let packets = rig.take(five);
    assert!(
        matches!(&packets[..], [Packet::Disconnect(disconnect)] if disconnect.reason == ReasonCode::ServerShuttingDown),
        "{packets:?}"
    );
    assert!(rig.take(three).is_empty());
    assert!(!rig.is_open(five) && !rig.is_open(three));
}

fn deliveries(packets: &[Packet]) -> Vec<Delivery> {
    packets
        .iter()
        .filter_map(|packet| match packet {
            Packet::Publish(publish) => Some(publish.delivery()),
            _ => None,
        })
        .collect()
}
