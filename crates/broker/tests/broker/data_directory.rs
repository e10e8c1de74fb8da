//! The broker with its store on the disk, over several starts.

use std::path::Path;

use tempfile::TempDir;
use whimbrel_broker::codec::{Ack, Delivery, Packet, Publish, QoS, ReasonCode};
use whimbrel_broker::store::OpenError;
use whimbrel_broker::{Broker, Durability, StartError, Stopped};

use crate::support::{Client, builder, config, connect, start, topic_name, within};

fn directory() -> TempDir {
    tempfile::tempdir().expect("room for a directory")
}

/// Starts on a directory that a broker before may still be about to let go of.
async fn start_again(directory: &Path, shards: usize, durability: Durability) -> Broker {
    let starting = async {
        loop {
            let mut config = config();
            config.core.shards = shards;
            config.durability = durability;
            match builder().config(config).data_dir(directory).start().await {
                Ok(broker) => return broker,
                Err(StartError::Store {
                    source: OpenError::Locked { .. },
                }) => tokio::task::yield_now().await,
                Err(error) => panic!("it does not start: {error:?}"),
            }
        }
    };
    within("the directory", starting).await
}

/// Connects a client whose session outlives its connection. Says whether the session was there.
async fn resume(broker: &Broker, client_id: &str) -> (Client, bool) {
    let mut connect = connect(client_id);
    connect.clean_start = false;
    connect.properties.session_expiry_secs = 1_000;
    let (client, connack) = Client::connect_with(broker, connect).await;
    (client, connack.session_present)
}

/// Publishes with `QoS` 2, all four packets of it.
async fn publish_exactly_once(client: &mut Client, topic: &str, payload: &[u8]) {
    let id = client.message(topic, b"").delivery().packet_id();
    let id = id.expect("of QoS 1");
    let publish = Publish::builder(topic_name(topic))
        .payload(payload.to_vec())
        .delivery(Delivery::ExactlyOnce { id, dup: false })
        .build();
    client.send(Packet::Publish(publish)).await;
    assert_eq!(client.receive().await, Packet::PubRec(Ack::success(id)));
    client.send(Packet::PubRel(Ack::success(id))).await;
    assert_eq!(client.receive().await, Packet::PubComp(Ack::success(id)));
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_broker_that_was_dropped() {
    for durability in [Durability::Sync, Durability::Os, Durability::None] {
        let directory = directory();
        let broker = start_again(directory.path(), 3, durability).await;
        let (mut away, is_present) = resume(&broker, "away").await;
        assert!(!is_present);
        away.subscribe("kept/#", QoS::ExactlyOnce).await;
        away.disconnect().await;
        let mut publisher = Client::connect(&broker, "publisher").await;
        for number in 0..20_u8 {
            let reason = publisher.publish("kept/1", &[number]).await;
            assert_eq!(reason, ReasonCode::Success);
            publish_exactly_once(&mut publisher, "kept/2", &[number]).await;
        }
        publisher.publish_retained("state", b"on").await;
        publisher.publish_retained("gone", b"soon").await;
        publisher.publish_retained("gone", b"").await;
        // No good-bye: connections are cut, and nobody waits.
        drop(broker);
        publisher.expect_end().await;

        let broker = start_again(directory.path(), 2, durability).await;
        let (mut away, is_present) = resume(&broker, "away").await;
        assert!(is_present, "{durability:?}");
        let mut received = [Vec::new(), Vec::new()];
        while received.iter().map(Vec::len).sum::<usize>() < 40 {
            match away.receive().await {
                Packet::Publish(publish) => {
                    let kind = usize::from(publish.topic() == Some(&*topic_name("kept/2")));
                    received[kind].push(publish.payload()[0]);
                    match publish.delivery() {
                        Delivery::AtLeastOnce { id, .. } => {
                            away.send(Packet::PubAck(Ack::success(id))).await;
                        }
                        Delivery::ExactlyOnce { id, .. } => {
                            away.send(Packet::PubRec(Ack::success(id))).await;
                        }
                        Delivery::AtMostOnce => panic!("sent with more"),
                    }
                }
                Packet::PubRel(ack) => away.send(Packet::PubComp(ack)).await,
                other => panic!("not a PUBLISH: {other:?}"),
            }
        }
        let in_order: Vec<u8> = (0..20).collect();
        assert_eq!(received, [in_order.clone(), in_order], "{durability:?}");

        let mut reader = Client::connect(&broker, "reader").await;
        reader.subscribe("gone", QoS::AtMostOnce).await;
        reader.subscribe("state", QoS::AtMostOnce).await;
        assert_eq!(reader.expect_publish().await.payload(), b"on");
        reader.expect_silence().await;
        assert_eq!(broker.shutdown().await, Stopped::Orderly);
    }
}

#[tokio::test]
async fn a_queue_larger_than_its_window_is_read_back_in_order() {
    const COUNT: u32 = 1_000;

    let directory = directory();
    let mut config = config();
    config.core.limits.queue_window_messages = 10;
    let broker = start(builder().config(config.clone()).data_dir(directory.path())).await;
    let (mut away, _) = resume(&broker, "away").await;
    away.subscribe("kept", QoS::AtLeastOnce).await;
    away.disconnect().await;
    let mut publisher = Client::connect(&broker, "publisher").await;
    for number in 0..COUNT {
        let publish = publisher.message("kept", &number.to_be_bytes());
        publisher.send(Packet::Publish(publish)).await;
    }
    for _ in 0..COUNT {
        assert!(matches!(publisher.receive().await, Packet::PubAck(_)));
    }
    assert_eq!(broker.shutdown().await, Stopped::Orderly);

    let broker = start(builder().config(config).data_dir(directory.path())).await;
    let queued = broker.stats().await.shards.queued_messages;
    assert_eq!(queued, u64::from(COUNT));
    let (mut away, is_present) = resume(&broker, "away").await;
    assert!(is_present);
    for number in 0..COUNT {
        let publish = away.expect_publish().await;
        assert_eq!(publish.payload(), number.to_be_bytes());
    }
}

#[tokio::test]
async fn a_queue_that_drops_its_oldest_while_it_is_read_back_keeps_the_order_and_the_newest() {
    const COUNT: u32 = 5_000;

    let directory = directory();
    let mut config = config();
    config.core.limits.queue_window_messages = 10;
    config.core.limits.queue_messages_max = 100;
    config.durability = Durability::Os;
    let broker = start(builder().config(config).data_dir(directory.path())).await;
    let (mut reader, _) = resume(&broker, "reader").await;
    reader.subscribe("kept", QoS::AtLeastOnce).await;
    let mut publisher = Client::connect(&broker, "publisher").await;
    let publishing = tokio::spawn(async move {
        for number in 0..COUNT {
            let publish = publisher.message("kept", &number.to_be_bytes());
            publisher.send(Packet::Publish(publish)).await;
            if number % 1_000 == 999 {
                for _ in 0..1_000 {
                    assert!(matches!(publisher.receive().await, Packet::PubAck(_)));
                }
            }
        }
    });
    let mut last = None;
    while last != Some(COUNT - 1) {
        let publish = reader.expect_publish().await;
        let payload: &[u8; 4] = publish.payload()[..].try_into().expect("four bytes");
        let number = u32::from_be_bytes(*payload);
        assert!(last < Some(number), "{number} after {last:?}");
        last = Some(number);
    }
    publishing.await.expect("no panic");
    let dropped = broker.stats().await.shards.dropped_total();
    assert!(dropped > 0, "the reader was too fast to show anything");
    assert_eq!(broker.shutdown().await, Stopped::Orderly);
}

#[tokio::test]
async fn a_session_may_end_while_its_queue_is_read_back() {
    const ROUNDS: usize = 50;

    let directory = directory();
    let mut config = config();
    config.core.limits.queue_window_messages = 4;
    config.durability = Durability::Os;
    let broker = start(builder().config(config).data_dir(directory.path())).await;
    let mut publisher = Client::connect(&broker, "publisher").await;
    for round in 0..ROUNDS {
        let (mut away, is_present) = resume(&broker, "away").await;
        assert!(!is_present, "the round before ended it");
        away.subscribe("kept", QoS::AtLeastOnce).await;
        away.disconnect().await;
        for _ in 0..100 {
            let publish = publisher.message("kept", b"1");
            publisher.send(Packet::Publish(publish)).await;
        }
        for _ in 0..100 {
            assert!(matches!(publisher.receive().await, Packet::PubAck(_)));
        }
        let (mut away, is_present) = resume(&broker, "away").await;
        assert!(is_present);
        for _ in 0..round {
            away.expect_publish().await;
        }
        // It takes the session over, and ends it.
        let clean = Client::connect(&broker, "away").await;
        clean.disconnect().await;
    }
    assert_eq!(broker.shutdown().await, Stopped::Orderly);
}

#[tokio::test]
async fn a_second_broker_on_a_directory_is_refused_until_the_first_has_stopped() {
    let directory = directory();
    let first = start(builder().data_dir(directory.path())).await;
    let second = builder().data_dir(directory.path()).start().await;
    let error = second.expect_err("it is in use");
    assert!(
        matches!(
            error,
            StartError::Store {
                source: OpenError::Locked { .. }
            }
        ),
        "{error:?}"
    );
    assert_eq!(first.shutdown().await, Stopped::Orderly);
    let second = start(builder().data_dir(directory.path())).await;
    assert_eq!(second.shutdown().await, Stopped::Orderly);
}
