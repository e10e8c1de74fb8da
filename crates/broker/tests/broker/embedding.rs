//! In-process clients and foreign streams.

use tokio::io::duplex;
use whimbrel_broker::codec::{
    MessageProperties, ProtocolVersion, QoS, ReasonCode, SubscriptionOptions,
};
use whimbrel_broker::{AttachError, Detached, InProcessClient, LocalPublish, LocalSubscribe};

use crate::support::{
    Client, builder, client_id_per_shard, config, connect, start, topic_name, until_stats, within,
};

fn message(topic: &str, payload: &[u8], qos: QoS) -> LocalPublish {
    LocalPublish {
        topic: topic_name(topic),
        payload: payload.to_vec().into(),
        qos,
        retain: false,
        properties: MessageProperties::new(),
    }
}

fn filter(filter: &str) -> LocalSubscribe {
    LocalSubscribe {
        filter: filter.into(),
        options: SubscriptionOptions::new(QoS::AtLeastOnce),
    }
}

async fn receive(client: &mut InProcessClient) -> Vec<u8> {
    let delivery = within("a message", client.recv()).await;
    delivery.expect("attached").message.payload().to_vec()
}

#[tokio::test]
async fn in_process_clients_and_clients_on_the_wire_reach_each_other() {
    let broker = start(builder()).await;
    let ids = client_id_per_shard();
    let mut local = broker.attach(&ids[0]).await.expect("attached");
    let codes = local.subscribe([filter("up"), filter("a/#/b")]).await;
    assert_eq!(
        codes,
        Ok(vec![
            ReasonCode::GrantedQos1,
            ReasonCode::TopicFilterInvalid
        ])
    );
    let mut wire = Client::connect(&broker, &ids[1]).await;
    wire.subscribe("down", QoS::AtLeastOnce).await;
    let reason = local.publish(message("down", b"1", QoS::AtLeastOnce)).await;
    assert_eq!(reason, Ok(ReasonCode::Success));
    assert_eq!(wire.expect_publish().await.payload(), b"1");
    assert_eq!(wire.publish("up", b"2").await, ReasonCode::Success);
    assert_eq!(receive(&mut local).await, b"2");
}

#[tokio::test]
async fn publish_without_a_subscriber_says_so() {
    let broker = start(builder()).await;
    let local = broker.attach("local").await.expect("attached");
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let reason = local.publish(message("nobody", b"", qos)).await;
        assert_eq!(reason, Ok(ReasonCode::NoMatchingSubscribers));
    }
}

#[tokio::test]
async fn unsubscribed_filters_bring_no_more_messages() {
    let broker = start(builder()).await;
    let mut local = broker.attach("local").await.expect("attached");
    local
        .subscribe([filter("a"), filter("b")])
        .await
        .expect("attached");
    let codes = local.unsubscribe(["a", "c"]).await;
    assert_eq!(
        codes,
        Ok(vec![ReasonCode::Success, ReasonCode::NoSubscriptionExisted])
    );
    for topic in ["a", "b"] {
        let sent = local.publish(message(topic, topic.as_bytes(), QoS::AtLeastOnce));
        sent.await.expect("attached");
    }
    assert_eq!(receive(&mut local).await, b"b");
}

#[tokio::test]
async fn more_messages_than_the_mailbox_holds_arrive_in_order() {
    const COUNT: u32 = 2_000;

    let broker = start(builder()).await;
    let ids = client_id_per_shard();
    let mut reader = broker.attach(&ids[0]).await.expect("attached");
    reader
        .subscribe([filter("stream")])
        .await
        .expect("attached");
    let writer = broker.attach(&ids[1]).await.expect("attached");
    for number in 0..COUNT {
        let sent = writer.publish(message("stream", &number.to_be_bytes(), QoS::AtLeastOnce));
        assert_eq!(sent.await, Ok(ReasonCode::Success));
    }
    for number in 0..COUNT {
        assert_eq!(receive(&mut reader).await, number.to_be_bytes());
    }
}

#[tokio::test]
async fn a_client_that_is_dropped_ends_its_session() {
    let broker = start(builder()).await;
    let local = broker.attach("local").await.expect("attached");
    local.subscribe([filter("a")]).await.expect("attached");
    drop(local);
    let stats = until_stats(&broker, |stats| stats.shards.connections == 0).await;
    assert_eq!((stats.shards.sessions, stats.shards.subscriptions), (0, 0));
}

#[tokio::test]
async fn a_client_on_the_wire_takes_the_session_of_an_in_process_client_over() {
    let broker = start(builder()).await;
    let mut local = broker.attach("same").await.expect("attached");
    let _wire = Client::connect(&broker, "same").await;
    assert!(within("the end", local.recv()).await.is_none());
    let published = local.publish(message("a", b"", QoS::AtLeastOnce)).await;
    assert_eq!(published, Err(Detached));
    drop(local);
    let stats = until_stats(&broker, |stats| stats.shards.connections == 1).await;
    assert_eq!(stats.shards.sessions, 1);
}

#[tokio::test]
async fn a_full_mailbox_does_not_keep_the_broker_from_stopping() {
    let broker = start(builder()).await;
    let mut reader = broker.attach("reader").await.expect("attached");
    reader
        .subscribe([filter("stream")])
        .await
        .expect("attached");
    let writer = broker.attach("writer").await.expect("attached");
    for _ in 0..1_000 {
        let sent = writer.publish(message("stream", b"", QoS::AtLeastOnce));
        sent.await.expect("attached");
    }
    within("the shutdown", broker.shutdown()).await;
    let published = writer
        .publish(message("stream", b"", QoS::AtLeastOnce))
        .await;
    assert_eq!(published, Err(Detached));
    let mut received = 0;
    while reader.recv().await.is_some() {
        received += 1;
    }
    assert!((1..1_000).contains(&received), "{received}");
    let error = broker.attach("late").await.expect_err("stopped");
    assert_eq!(error, AttachError::Stopped);
}

#[tokio::test]
async fn an_in_process_client_needs_an_id() {
    let broker = start(builder()).await;
    let error = broker.attach("").await.expect_err("no id");
    assert_eq!(error, AttachError::EmptyClientId);
}

#[tokio::test]
async fn foreign_streams_are_served_like_sockets() {
    let broker = start(builder()).await;
    let mut clients = Vec::new();
    for id in client_id_per_shard() {
        let (ours, theirs) = duplex(64);
        broker.serve(theirs, None).expect("room");
        let mut client = Client::over(ours, ProtocolVersion::V5);
        let connack = client.handshake(connect(&id)).await;
        assert_eq!(connack.reason, ReasonCode::Success);
        client.subscribe("all", QoS::AtLeastOnce).await;
        clients.push(client);
    }
    let local = broker.attach("local").await.expect("attached");
    // Larger than the pipe, so that each write is partial.
    let payload = vec![1; 10_000];
    let published = local.publish(message("all", &payload, QoS::AtLeastOnce));
    assert_eq!(published.await, Ok(ReasonCode::Success));
    for client in &mut clients {
        assert_eq!(client.expect_publish().await.payload(), payload);
    }
}

#[tokio::test]
async fn a_foreign_stream_that_panics_ends_alone() {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    struct Panics;

    impl AsyncRead for Panics {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            panic!("on purpose")
        }
    }

    impl AsyncWrite for Panics {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &[u8],
        ) -> Poll<io::Result<usize>> {
            panic!("on purpose")
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            panic!("on purpose")
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            panic!("on purpose")
        }
    }

    let broker = start(builder()).await;
    for _ in 0..10 {
        broker.serve(Panics, None).expect("room");
    }
    Client::connect(&broker, "client")
        .await
        .expect_silence()
        .await;
}

#[tokio::test]
async fn foreign_streams_without_connect_are_bounded() {
    let mut config = config();
    config.handshakes_max = 2;
    let broker = start(builder().config(config)).await;
    let mut held = Vec::new();
    let refused = loop {
        let (ours, theirs) = duplex(64);
        held.push(ours);
        if let Err(error) = broker.serve(theirs, None) {
            break error;
        }
        assert!(held.len() < 10);
    };
    assert_eq!(refused, whimbrel_broker::ServeError::Busy);
}
