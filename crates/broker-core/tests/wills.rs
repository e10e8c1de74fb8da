//! Wills: published exactly when due.

mod support;

use bytes::Bytes;
use support::{Client, Rig, V5, V311, clean, name, persistent};
use whimbrel_broker_core::session::codec::{
    Connect, MessageProperties, Packet, ProtocolVersion, Publish, QoS, ReasonCode, Will,
};

fn with_will(mut connect: Connect, delay_secs: u32) -> Connect {
    connect.will = Some(Will {
        topic: name("will"),
        payload: Bytes::from_static(b"gone"),
        qos: QoS::AtLeastOnce,
        retain: false,
        delay_secs,
        properties: MessageProperties::new(),
    });
    connect
}

/// A rig with somebody who listens for wills.
fn rig() -> (Rig, Client) {
    let mut rig = Rig::new();
    let listener = rig.connect(V5, "listener");
    rig.subscribe(listener, "will", QoS::AtLeastOnce);
    (rig, listener)
}

fn expiring(version: ProtocolVersion, session_expiry_secs: u32) -> Connect {
    let mut connect = persistent(version, "c");
    connect.properties.session_expiry_secs = session_expiry_secs;
    connect
}

#[test]
fn a_lost_connection_publishes_the_will_at_once() {
    // [3:MQTT-3.1.2-8] [5:MQTT-3.1.2-7] [5:MQTT-3.1.2-8]
    for version in [V311, V5] {
        let (mut rig, listener) = rig();
        let client = rig.connect_with(with_will(clean(version, "c"), 0)).client;
        rig.cut(client);
        assert_eq!(rig.payloads(listener), ["gone"]);
    }
}

#[test]
fn a_normal_disconnect_drops_the_will() {
    // [3:MQTT-3.1.2-10] [3:MQTT-3.14.4-3] [5:MQTT-3.1.2-10] [5:MQTT-3.14.4-3]
    for version in [V311, V5] {
        let (mut rig, listener) = rig();
        let client = rig
            .connect_with(with_will(persistent(version, "c"), 0))
            .client;
        rig.disconnect(client, ReasonCode::NORMAL_DISCONNECTION);
        assert_eq!(rig.payloads(listener), [""; 0]);
        rig.advance_secs(4_000);
        assert_eq!(rig.payloads(listener), [""; 0]);
    }
}

#[test]
fn any_other_disconnect_reason_keeps_the_will() {
    // [U5-083] (C6)
    for reason in [ReasonCode::DisconnectWithWill, ReasonCode::UnspecifiedError] {
        let (mut rig, listener) = rig();
        let client = rig.connect_with(with_will(clean(V5, "c"), 0)).client;
        rig.disconnect(client, reason);
        assert_eq!(rig.payloads(listener), ["gone"]);
    }
}

#[test]
fn a_protocol_error_publishes_the_will() {
    // [3:MQTT-3.1.2-8]
    let (mut rig, listener) = rig();
    let client = rig.connect_with(with_will(clean(V311, "c"), 0)).client;
    rig.send_raw(client, &[0xF0, 0x00]);
    assert_eq!(rig.payloads(listener), ["gone"]);
}

#[test]
fn the_will_waits_for_its_delay() {
    // [5:MQTT-3.1.2-8] [5:MQTT-3.1.2-10]
    let (mut rig, listener) = rig();
    let client = rig.connect_with(with_will(expiring(V5, 100), 10)).client;
    rig.cut(client);
    rig.advance_secs(9);
    assert_eq!(rig.payloads(listener), [""; 0]);
    rig.advance_secs(1);
    assert_eq!(rig.payloads(listener), ["gone"]);
    rig.advance_secs(200);
    assert_eq!(
        rig.payloads(listener),
        [""; 0],
        "published once [5:MQTT-3.1.2-10]"
    );
}

#[test]
fn the_end_of_the_session_ends_the_delay() {
    // [U5-030] (C4)
    let (mut rig, listener) = rig();
    let client = rig.connect_with(with_will(expiring(V5, 5), 10)).client;
    rig.cut(client);
    rig.advance_secs(4);
    assert_eq!(rig.payloads(listener), [""; 0]);
    rig.advance_secs(1);
    assert_eq!(rig.payloads(listener), ["gone"]);
}

#[test]
fn a_session_that_ends_at_close_does_not_wait() {
    let (mut rig, listener) = rig();
    let client = rig.connect_with(with_will(clean(V5, "c"), 10)).client;
    rig.cut(client);
    assert_eq!(rig.payloads(listener), ["gone"]);
}

#[test]
fn a_reconnect_within_the_delay_cancels_the_will() {
    // [5:MQTT-3.1.3-9] (C5)
    let (mut rig, listener) = rig();
    let client = rig.connect_with(with_will(expiring(V5, 100), 10)).client;
    rig.cut(client);
    rig.advance_secs(9);
    rig.connect_with(expiring(V5, 100));
    rig.advance_secs(50);
    assert_eq!(rig.payloads(listener), [""; 0]);
}

#[test]
fn a_clean_start_within_the_delay_publishes_the_will() {
    // C8: the session ended
    let (mut rig, listener) = rig();
    let client = rig.connect_with(with_will(expiring(V5, 100), 10)).client;
    rig.cut(client);
    rig.connect(V5, "c");
    assert_eq!(rig.payloads(listener), ["gone"]);
}

#[test]
fn takeover_follows_the_table() {
    // timers-and-flows 6; C1, C2, C3, C8
    let cases = [
        // delay, old expiry, new clean start, published
        (0, 0, false, true),
        (0, 100, false, true),
        (0, 100, true, true),
        (10, 0, false, true),
        (10, 0, true, true),
        (10, 100, true, true),
        (10, 100, false, false),
    ];
    for (delay, expiry, clean_start, published) in cases {
        let (mut rig, listener) = rig();
        rig.connect_with(with_will(expiring(V5, expiry), delay));
        let mut new = expiring(V5, 100);
        new.clean_start = clean_start;
        rig.connect_with(new);
        let expected: &[&str] = if published { &["gone"] } else { &[] };
        assert_eq!(
            rig.payloads(listener),
            expected,
            "delay {delay}, expiry {expiry}, clean start {clean_start}"
        );
        rig.advance_secs(60);
        assert_eq!(rig.payloads(listener), [""; 0], "never twice");
    }
    for clean_session in [true, false] {
        let (mut rig, listener) = rig();
        rig.connect_with(with_will(persistent(V311, "c"), 0));
        let mut new = persistent(V311, "c");
        new.clean_start = clean_session;
        rig.connect_with(new);
        assert_eq!(rig.payloads(listener), ["gone"]);
    }
}

#[test]
fn a_retained_will_is_retained_and_keeps_its_properties() {
    // [5:MQTT-3.1.2-15] [5:MQTT-3.1.3-10]
    let mut rig = Rig::new();
    let mut connect = with_will(clean(V5, "c"), 0);
    let will = connect.will.as_mut().expect("set above");
    will.retain = true;
    will.properties = MessageProperties::builder()
        .user_property("b", "1")
        .user_property("a", "2")
        .message_expiry_secs(30)
        .build()
        .expect("valid");
    let client = rig.connect_with(connect).client;
    rig.advance_secs(20);
    rig.cut(client);
    rig.advance_secs(10);
    let late = rig.connect(V5, "late");
    rig.subscribe(late, "will", QoS::AtMostOnce);
    let got = rig.messages(late);
    assert!(got[0].retain());
    let properties = got[0].properties();
    // Counts from publication [U5-032].
    assert_eq!(properties.message_expiry_secs(), Some(20));
    let pairs: Vec<_> = properties
        .user_properties()
        .map(|property| (property.name, property.value))
        .collect();
    assert_eq!(pairs, [("b", "1"), ("a", "2")]);
}

#[test]
fn a_will_is_retained_exactly_when_it_says_so() {
    // [3:MQTT-3.1.2-16] [3:MQTT-3.1.2-17] [5:MQTT-3.1.2-14] [5:MQTT-3.1.2-15]
    for version in [V311, V5] {
        for retain in [false, true] {
            let (mut rig, listener) = rig();
            let mut connect = with_will(clean(version, "c"), 0);
            connect.will.as_mut().expect("set above").retain = retain;
            let client = rig.connect_with(connect).client;
            rig.cut(client);
            let live = rig.messages(listener);
            assert_eq!(live.len(), 1);
            assert!(!live[0].retain(), "an established subscription");
            let late = rig.connect(version, "late");
            rig.subscribe(late, "will", QoS::AtMostOnce);
            let stored = rig.messages(late);
            assert_eq!(stored.len(), usize::from(retain));
            assert!(stored.iter().all(Publish::retain));
        }
    }
}

#[test]
fn a_client_without_a_will_leaves_nothing() {
    // [3:MQTT-3.1.2-12]
    for version in [V311, V5] {
        let mut rig = Rig::new();
        let listener = rig.connect(version, "listener");
        rig.subscribe(listener, "#", QoS::AtLeastOnce);
        let client = rig.connect(version, "c");
        rig.cut(client);
        let client = rig.connect(version, "c");
        rig.send_raw(client, &[0x00, 0x00]);
        assert!(!rig.is_open(client));
        rig.advance_secs(4_000);
        assert_eq!(rig.payloads(listener), [""; 0]);
    }
}

#[test]
fn keep_alive_timeout_publishes_the_will() {
    // [3:MQTT-3.1.2-8] [3:MQTT-3.1.2-24]
    let (mut rig, listener) = rig();
    let mut connect = with_will(clean(V311, "c"), 0);
    connect.keep_alive_secs = 2;
    let client = rig.connect_with(connect).client;
    rig.advance_secs(3);
    assert_eq!(rig.payloads(listener), ["gone"]);
    assert!(!rig.is_open(client));
    assert!(
        rig.take(client)
            .iter()
            .all(|packet| !matches!(packet, Packet::Disconnect(_)))
    );
}

#[test]
fn a_will_to_the_brokers_own_topics_is_not_published() {
    let mut rig = Rig::new();
    let listener = rig.connect(V5, "listener");
    rig.subscribe(listener, "$SYS/#", QoS::AtMostOnce);
    let mut connect = with_will(clean(V5, "c"), 0);
    connect.will.as_mut().expect("set above").topic = name("$SYS/broker/version");
    let client = rig.connect_with(connect).client;
    rig.cut(client);
    assert_eq!(rig.payloads(listener), [""; 0]);
}
