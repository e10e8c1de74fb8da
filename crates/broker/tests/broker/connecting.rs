//! CONNECT, from the first byte to the answer.

use std::collections::HashSet;
use std::num::NonZeroU16;

use whimbrel_broker::codec::{
    Authentication, Connect, Packet, ProtocolVersion, QoS, ReasonCode, Will,
};
use whimbrel_broker::topic::ByteStr;

use crate::support::{
    Client, builder, client_id_per_shard, config, connect, start, topic_name, until_stats, within,
};

#[tokio::test]
async fn clients_of_every_version_connect_and_reach_each_other() {
    // [3:MQTT-7.1.1-1] [5:MQTT-4.2-1] over TCP.
    let broker = start(builder()).await;
    let ids = client_id_per_shard();
    let versions = [
        ProtocolVersion::V31,
        ProtocolVersion::V311,
        ProtocolVersion::V5,
    ];
    let mut clients = Vec::new();
    for (id, version) in ids.iter().zip(versions) {
        let (mut client, _) =
            Client::connect_with(&broker, Connect::new(version, id.as_str())).await;
        client.subscribe("news/#", QoS::AtLeastOnce).await;
        clients.push(client);
    }
    for index in 0..clients.len() {
        let publish = clients[index].message("news/today", &[index as u8]);
        clients[index].send(Packet::Publish(publish)).await;
        for (receiver, client) in clients.iter_mut().enumerate() {
            if receiver == index {
                // The own acknowledgement and the own message come in either order.
                let both = [client.receive().await, client.receive().await];
                let publish = both.iter().find_map(|packet| match packet {
                    Packet::Publish(publish) => Some(publish.payload().to_vec()),
                    _ => None,
                });
                assert_eq!(publish, Some(vec![index as u8]));
            } else {
                assert_eq!(client.expect_publish().await.payload(), [index as u8]);
            }
        }
    }
}

#[tokio::test]
async fn packets_sent_behind_connect_are_handled_after_connack() {
    // The connection moves to another thread in between, for two of three ids.
    let broker = start(builder()).await;
    for id in client_id_per_shard() {
        let mut client = Client::open(&broker, ProtocolVersion::V5).await;
        let mut bytes = Vec::new();
        for packet in [Packet::Connect(Box::new(connect(&id))), Packet::PingReq] {
            packet
                .encode(ProtocolVersion::V5, &mut bytes)
                .expect("valid");
        }
        client.send_bytes(&bytes).await;
        assert!(matches!(client.receive().await, Packet::ConnAck(_)));
        assert_eq!(client.receive().await, Packet::PingResp);
    }
}

#[tokio::test]
async fn connect_may_come_byte_by_byte() {
    let broker = start(builder()).await;
    let mut client = Client::open(&broker, ProtocolVersion::V5).await;
    let mut bytes = Vec::new();
    Packet::Connect(Box::new(connect("slow")))
        .encode(ProtocolVersion::V5, &mut bytes)
        .expect("valid");
    for byte in bytes {
        client.send_bytes(&[byte]).await;
    }
    assert!(matches!(client.receive().await, Packet::ConnAck(_)));
}

#[tokio::test]
async fn an_empty_client_id_is_replaced_in_mqtt_5_whatever_clean_start_says() {
    // [5:MQTT-3.1.3-6] [5:MQTT-3.1.3-7] [5:MQTT-3.2.2-16] (A3)
    let broker = start(builder()).await;
    let mut seen = HashSet::new();
    for clean_start in [true, false, true, false] {
        let mut unnamed = connect("");
        unnamed.clean_start = clean_start;
        unnamed.properties.session_expiry_secs = 100;
        let (mut client, connack) = Client::connect_with(&broker, unnamed).await;
        assert!(!connack.session_present);
        let assigned = connack.properties.assigned_client_id;
        let assigned = assigned.expect("an id is assigned");
        assert!(!assigned.is_empty());
        assert!(seen.insert(assigned.clone()), "{assigned} is another's");

        // From here on it is as if the client had sent it.
        client.subscribe("kept", QoS::AtLeastOnce).await;
        client.disconnect().await;
        let mut named = connect(&assigned);
        named.clean_start = false;
        let (_, connack) = Client::connect_with(&broker, named).await;
        assert!(connack.session_present);
        assert_eq!(connack.properties.assigned_client_id, None);
    }
}

#[tokio::test]
async fn an_empty_client_id_needs_a_clean_session_in_3_1_1_and_is_refused_in_3_1() {
    // [3:MQTT-3.1.3-6] [3:MQTT-3.1.3-8] [U31-002] (A4)
    let broker = start(builder()).await;
    // Protocol name, level, flags, keep alive, and an empty client id.
    let v31 = |flags| [b"\x10\x0e\0\x06MQIsdp\x03", &[flags, 0, 0, 0, 0][..]].concat();
    let v311 = |flags| [b"\x10\x0c\0\x04MQTT\x04", &[flags, 0, 0, 0, 0][..]].concat();
    let refused = ReasonCode::ClientIdentifierNotValid;
    for (version, bytes, reason) in [
        (ProtocolVersion::V31, v31(CLEAN_SESSION), refused),
        (ProtocolVersion::V311, v311(0), refused),
        (
            ProtocolVersion::V311,
            v311(CLEAN_SESSION),
            ReasonCode::Success,
        ),
    ] {
        let mut client = Client::open(&broker, version).await;
        client.send_bytes(&bytes).await;
        let Packet::ConnAck(connack) = client.receive().await else {
            panic!("not a CONNACK");
        };
        assert_eq!(connack.reason, reason);
        if reason.is_error() {
            client.expect_end().await;
        }
    }
    // Two of them are two clients.
    let mut unnamed = Vec::new();
    for _ in 0..2 {
        let mut client = Client::open(&broker, ProtocolVersion::V311).await;
        client.send_bytes(&v311(CLEAN_SESSION)).await;
        assert!(matches!(client.receive().await, Packet::ConnAck(_)));
        client.subscribe("both", QoS::AtMostOnce).await;
        unnamed.push(client);
    }
    let mut publisher = Client::connect(&broker, "publisher").await;
    publisher.publish("both", b"here").await;
    for client in &mut unnamed {
        assert_eq!(client.expect_publish().await.payload(), b"here");
    }
}

#[tokio::test]
async fn enhanced_authentication_is_refused_as_a_bad_method() {
    let broker = start(builder()).await;
    let mut connect = connect("enhanced");
    connect.properties.authentication = Some(Authentication {
        method: ByteStr::from("SCRAM-SHA-256"),
        data: None,
    });
    let reason = Client::refused(&broker, connect).await;
    assert_eq!(reason, ReasonCode::BadAuthenticationMethod);
}

#[tokio::test]
async fn connections_beyond_the_limit_are_refused_until_one_ends() {
    let mut config = config();
    config.connections_max = 1;
    let broker = start(builder().config(config)).await;
    let only = Client::connect(&broker, "first").await;
    let reason = Client::refused(&broker, connect("second")).await;
    assert_eq!(reason, ReasonCode::ServerBusy);
    let reason = Client::refused(&broker, Connect::new(ProtocolVersion::V311, "third")).await;
    assert_eq!(reason, ReasonCode::ServerUnavailable);
    only.disconnect().await;
    until_stats(&broker, |stats| stats.shards.connections == 0).await;
    // The place is free once the old socket is closed, which comes after.
    within("a free place", async {
        loop {
            let mut client = Client::open(&broker, ProtocolVersion::V5).await;
            if client.handshake(connect("fourth")).await.reason == ReasonCode::Success {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_connection_without_connect_is_closed_and_counted_as_half_open() {
    let mut config = config();
    config.core.connection.handshake_timeout_ms = 20;
    let broker = start(builder().config(config)).await;
    let mut silent = Client::open(&broker, ProtocolVersion::V5).await;
    let mut halting = Client::open(&broker, ProtocolVersion::V5).await;
    halting.send_bytes(&[0x10, 0x20, 0x00]).await;
    silent.expect_end().await;
    halting.expect_end().await;
    let stats = broker.stats().await;
    assert_eq!(stats.half_open_closes(), 2);
    assert_eq!(stats.shards.connects, 0);
}

#[tokio::test]
async fn what_is_not_mqtt_is_closed_at_once() {
    let broker = start(builder()).await;
    let mut client = Client::open(&broker, ProtocolVersion::V311).await;
    client.send_bytes(b"GET / HTTP/1.1\r\n\r\n").await;
    client.expect_end().await;
}

#[tokio::test]
async fn keep_alive_is_lowered_for_mqtt_5_where_the_broker_says_so() {
    let mut config = config();
    config.keep_alive_secs_max = Some(30);
    let broker = start(builder().config(config)).await;
    for (asked, granted) in [(0, Some(30)), (31, Some(30)), (30, None)] {
        let mut connect = connect("client");
        connect.keep_alive_secs = asked;
        let (_, connack) = Client::connect_with(&broker, connect).await;
        assert_eq!(connack.properties.server_keep_alive_secs, granted);
    }
}

#[tokio::test]
async fn a_silent_client_is_closed_after_its_keep_alive_and_its_will_published() {
    let broker = start(builder()).await;
    let mut watcher = Client::connect(&broker, "watcher").await;
    watcher.subscribe("will", QoS::AtMostOnce).await;
    let mut connect = connect("silent");
    connect.keep_alive_secs = 1;
    connect.will = Some(will("will", b"gone"));
    let (mut silent, _) = Client::connect_with(&broker, connect).await;
    let reason = silent.expect_disconnect().await;
    assert_eq!(reason, ReasonCode::KeepAliveTimeout);
    assert_eq!(watcher.expect_publish().await.payload(), b"gone");
    assert_eq!(broker.stats().await.half_open_closes(), 1);
}

#[tokio::test]
async fn a_second_connection_takes_the_session_over() {
    let broker = start(builder()).await;
    let mut connect = connect("same");
    connect.clean_start = false;
    connect.properties.session_expiry_secs = 100;
    let (mut old, connack) = Client::connect_with(&broker, connect.clone()).await;
    assert!(!connack.session_present);
    old.subscribe("kept", QoS::AtLeastOnce).await;
    let (mut new, connack) = Client::connect_with(&broker, connect).await;
    assert!(connack.session_present);
    assert_eq!(old.expect_disconnect().await, ReasonCode::SessionTakenOver);
    let mut publisher = Client::connect(&broker, "publisher").await;
    publisher.publish("kept", b"still mine").await;
    assert_eq!(new.expect_publish().await.payload(), b"still mine");
    assert_eq!(broker.stats().await.shards.takeovers, 1);
}

#[tokio::test]
async fn many_takeovers_in_a_row_leave_one_connection() {
    let broker = start(builder()).await;
    let mut last = None;
    for _ in 0..200 {
        last = Some(Client::connect(&broker, "popular").await);
    }
    let stats = until_stats(&broker, |stats| stats.shards.connections == 1).await;
    assert_eq!(stats.shards.sessions, 1);
    last.expect("a client").expect_silence().await;
}

#[tokio::test]
async fn the_announced_receive_maximum_is_the_configured_one() {
    let mut config = config();
    config.core.connection.receive_maximum = NonZeroU16::new(7).expect("not 0");
    let broker = start(builder().config(config)).await;
    let (_, connack) = Client::connect_with(&broker, connect("client")).await;
    assert_eq!(connack.properties.receive_maximum.get(), 7);
}

#[tokio::test]
async fn a_will_with_too_many_levels_is_refused() {
    let mut config = config();
    config.core.limits.topic_levels_max = 4;
    let broker = start(builder().config(config)).await;
    let mut connect = connect("deep");
    connect.will = Some(will("1/2/3/4/5", b""));
    let reason = Client::refused(&broker, connect).await;
    assert_eq!(reason, ReasonCode::TopicNameInvalid);
}

#[tokio::test]
async fn half_open_connections_do_not_keep_others_out() {
    let broker = start(builder()).await;
    let mut half_open = Vec::new();
    for _ in 0..200 {
        half_open.push(Client::open(&broker, ProtocolVersion::V5).await);
    }
    Client::connect(&broker, "whole")
        .await
        .expect_silence()
        .await;
    drop(half_open);
}

const CLEAN_SESSION: u8 = 0b10;

pub(crate) fn will(topic: &str, payload: &'static [u8]) -> Will {
    Will {
        topic: topic_name(topic),
        payload: payload.into(),
        qos: QoS::AtLeastOnce,
        retain: false,
        delay_secs: 0,
        properties: Default::default(),
    }
}
