//! Messages between clients on different threads.

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use whimbrel_broker::DropCause;
use whimbrel_broker::codec::{Ack, Delivery, Packet, ProtocolVersion, Publish, QoS, ReasonCode};

use crate::support::{
    Client, builder, client_id_per_shard, config, connect, start, topic_name, until_stats, within,
};

#[tokio::test]
async fn messages_of_one_publisher_arrive_in_order_on_every_shard() {
    const COUNT: u32 = 500;

    let broker = start(builder()).await;
    let mut subscribers = Vec::new();
    for id in client_id_per_shard() {
        let mut subscriber = Client::connect(&broker, &id).await;
        subscriber.subscribe("stream", QoS::AtLeastOnce).await;
        subscribers.push(subscriber);
    }
    let mut publisher = Client::connect(&broker, "publisher").await;
    for number in 0..COUNT {
        let publish = publisher.message("stream", &number.to_be_bytes());
        publisher.send(Packet::Publish(publish)).await;
    }
    for _ in 0..COUNT {
        assert!(matches!(publisher.receive().await, Packet::PubAck(_)));
    }
    for subscriber in &mut subscribers {
        for number in 0..COUNT {
            let publish = subscriber.expect_publish().await;
            assert_eq!(publish.payload(), number.to_be_bytes());
        }
    }
}

#[tokio::test]
async fn exactly_once_takes_both_handshakes_across_shards() {
    let broker = start(builder()).await;
    let ids = client_id_per_shard();
    let mut subscriber = Client::connect(&broker, &ids[0]).await;
    subscriber.subscribe("once", QoS::ExactlyOnce).await;
    let mut publisher = Client::connect(&broker, &ids[1]).await;
    let id = publisher
        .message("once", b"")
        .delivery()
        .packet_id()
        .expect("an id");
    let publish = Publish::builder(topic_name("once"))
        .payload("payload")
        .delivery(Delivery::ExactlyOnce { id, dup: false })
        .build();
    publisher.send(Packet::Publish(publish)).await;
    assert!(matches!(publisher.receive().await, Packet::PubRec(_)));
    publisher.send(Packet::PubRel(Ack::success(id))).await;
    assert!(matches!(publisher.receive().await, Packet::PubComp(_)));

    let Packet::Publish(received) = subscriber.receive().await else {
        panic!("not a PUBLISH");
    };
    assert_eq!(received.payload(), b"payload");
    let id = received.delivery().packet_id().expect("an id");
    subscriber.send(Packet::PubRec(Ack::success(id))).await;
    assert_eq!(subscriber.receive().await, Packet::PubRel(Ack::success(id)));
    subscriber.send(Packet::PubComp(Ack::success(id))).await;
    subscriber.expect_silence().await;
}

#[tokio::test]
async fn a_retained_message_reaches_subscribers_that_come_later() {
    let broker = start(builder()).await;
    let ids = client_id_per_shard();
    let mut publisher = Client::connect(&broker, &ids[0]).await;
    publisher.publish_retained("state", b"on").await;
    let mut subscriber = Client::connect(&broker, &ids[1]).await;
    subscriber.subscribe("state", QoS::AtMostOnce).await;
    let publish = subscriber.expect_publish().await;
    assert!(publish.retain());
    assert_eq!(publish.payload(), b"on");
    publisher.publish_retained("state", b"").await;
    let stats = broker.stats().await;
    assert_eq!((stats.retained_messages, stats.retained_bytes), (0, 0));
}

#[tokio::test]
async fn a_large_message_crosses_shards_whole() {
    let broker = start(builder()).await;
    let ids = client_id_per_shard();
    let payload: Vec<u8> = (0..1_500_000_u32).map(|number| number as u8).collect();
    let mut subscriber = Client::connect(&broker, &ids[0]).await;
    subscriber.subscribe("large", QoS::AtLeastOnce).await;
    let mut publisher = Client::connect(&broker, &ids[1]).await;
    let reason = publisher.publish("large", &payload).await;
    assert_eq!(reason, ReasonCode::Success);
    assert!(subscriber.expect_publish().await.payload() == payload);
}

#[tokio::test]
async fn a_packet_over_the_limit_closes_only_its_own_connection() {
    let mut config = config();
    config.core.connection.limits.packet_size_max = 1_000;
    let broker = start(builder().config(config)).await;
    let mut bystander = Client::connect(&broker, "bystander").await;
    let mut sender = Client::connect(&broker, "sender").await;
    let publish = sender.message("large", &[0; 2_000]);
    sender.send(Packet::Publish(publish)).await;
    let reason = sender.expect_disconnect().await;
    assert_eq!(reason, ReasonCode::PacketTooLarge);
    bystander.expect_silence().await;
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_is_bounded_and_stalls_nobody() {
    const MESSAGES: usize = 3_000;
    const PAYLOAD: &[u8] = &[7; 4_096];

    let mut config = config();
    config.core.limits.clean_queue_messages_max = 100;
    let broker = start(builder().config(config)).await;
    let ids = client_id_per_shard();
    let mut stuck = Client::connect(&broker, &ids[0]).await;
    stuck.subscribe("flood", QoS::AtMostOnce).await;
    let mut reader = Client::connect(&broker, &ids[1]).await;
    reader.subscribe("flood", QoS::AtLeastOnce).await;
    let mut publisher = Client::connect(&broker, &ids[2]).await;
    for _ in 0..MESSAGES {
        publisher.publish("flood", PAYLOAD).await;
        reader.expect_publish().await;
    }
    let stats = broker.stats().await;
    assert!(stats.shards.queued_messages <= 100, "{stats:?}");
    assert!(
        stats.shards.dropped_by(DropCause::SlowReader) > 0,
        "{stats:?}"
    );
    // What it had coming is still there, and so is the connection.
    let publish = stuck.expect_publish().await;
    assert_eq!(publish.payload(), PAYLOAD);
}

#[tokio::test]
async fn a_client_is_read_no_faster_than_it_reads_its_answers() {
    const PINGS_BYTES: usize = 1_000_000;
    // The broker's output limit and its read buffer, and the pipe's two directions.
    const AHEAD_BYTES_MAX: usize = 1_000 + 64 * 1_024 + 2 * 1_024;

    let mut config = config();
    config.core.connection.output_bytes_max = 1_000;
    let broker = start(builder().config(config)).await;
    let (ours, theirs) = duplex(1_024);
    broker.serve(theirs, None).expect("room");
    let mut client = Client::over(ours, ProtocolVersion::V5);
    client.handshake(connect("pinger")).await;
    let before = broker.stats().await.bytes_received as usize;

    let (mut reading, mut writing) = tokio::io::split(client.into_inner());
    let pings = [0xC0, 0].repeat(PINGS_BYTES / 2);
    let writer = tokio::spawn(async move { writing.write_all(&pings).await });
    let mut answers = [0; 10_000];
    for read in (0..PINGS_BYTES).step_by(answers.len()) {
        let received = broker.stats().await.bytes_received as usize - before;
        assert!(
            received <= read + AHEAD_BYTES_MAX,
            "{received} after {read}"
        );
        let answer = within("answers", reading.read_exact(&mut answers)).await;
        answer.expect("the connection is open");
    }
    within("the writer", writer)
        .await
        .expect("no panic")
        .expect("the connection is open");
}

#[tokio::test]
async fn messages_for_an_offline_session_wait_for_it() {
    let broker = start(builder()).await;
    let mut connect = connect("sleeper");
    connect.properties.session_expiry_secs = 100;
    connect.clean_start = false;
    let (mut sleeper, _) = Client::connect_with(&broker, connect.clone()).await;
    sleeper.subscribe("mail", QoS::AtLeastOnce).await;
    sleeper.disconnect().await;
    let mut publisher = Client::connect(&broker, "publisher").await;
    for number in 0..10_u8 {
        publisher.publish("mail", &[number]).await;
    }
    until_stats(&broker, |stats| stats.shards.queued_messages == 10).await;
    let (mut sleeper, connack) = Client::connect_with(&broker, connect).await;
    assert!(connack.session_present);
    for number in 0..10_u8 {
        assert_eq!(sleeper.expect_publish().await.payload(), [number]);
    }
    until_stats(&broker, |stats| stats.shards.queued_messages == 0).await;
}

#[tokio::test]
async fn a_will_is_published_when_the_connection_breaks_and_not_after_disconnect() {
    let broker = start(builder()).await;
    let mut watcher = Client::connect(&broker, "watcher").await;
    watcher.subscribe("will/#", QoS::AtLeastOnce).await;
    let with_will = |id: &str, topic: &str| {
        let mut connect = connect(id);
        connect.will = Some(crate::connecting::will(topic, b"gone"));
        connect
    };
    let (polite, _) = Client::connect_with(&broker, with_will("polite", "will/polite")).await;
    polite.disconnect().await;
    let (rude, _) = Client::connect_with(&broker, with_will("rude", "will/rude")).await;
    rude.abort();
    let publish = watcher.expect_publish().await;
    assert_eq!(publish.topic().expect("a topic").as_str(), "will/rude");
    watcher.expect_silence().await;
}

#[tokio::test]
async fn shared_subscriptions_share_across_shards() {
    let broker = start(builder()).await;
    let mut members = Vec::new();
    for id in client_id_per_shard() {
        let mut member = Client::connect(&broker, &id).await;
        member
            .subscribe("$share/group/work", QoS::AtLeastOnce)
            .await;
        members.push(member);
    }
    let mut publisher = Client::connect(&broker, "publisher").await;
    for number in 0..30_u8 {
        publisher.publish("work", &[number]).await;
    }
    let stats = until_stats(&broker, |stats| stats.shards.publishes_sent == 30).await;
    assert_eq!(stats.shards.dropped_total(), 0);
    let mut received = Vec::new();
    for member in &mut members {
        member.send(Packet::PingReq).await;
        loop {
            match member.receive().await {
                Packet::Publish(publish) => received.extend_from_slice(publish.payload()),
                Packet::PingResp => break,
                other => panic!("unexpected {other:?}"),
            }
        }
    }
    received.sort_unstable();
    assert_eq!(received, (0..30).collect::<Vec<u8>>());
}
