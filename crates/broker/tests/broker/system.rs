//! `$SYS/#` and the figures of [`Broker::stats`](whimbrel_broker::Broker::stats).

use std::time::Duration;

use whimbrel_broker::codec::{QoS, ReasonCode};

use crate::support::{Client, builder, config, start};

#[tokio::test]
async fn system_topics_tell_the_figures_of_the_broker() {
    let mut config = config();
    config.system_interval = Some(Duration::from_millis(10));
    let broker = start(builder().config(config)).await;
    let mut client = Client::connect(&broker, "client").await;
    client
        .subscribe("$SYS/broker/version", QoS::AtMostOnce)
        .await;
    let version = client.expect_publish().await;
    assert!(version.payload().starts_with(b"whimbrel version "));
    client
        .subscribe("$SYS/broker/clients/connected", QoS::AtMostOnce)
        .await;
    while client.expect_publish().await.payload() != b"1" {}
    let second = Client::connect(&broker, "second").await;
    assert_eq!(client.expect_publish().await.payload(), b"2");
    second.disconnect().await;
    assert_eq!(client.expect_publish().await.payload(), b"1");
}

#[tokio::test]
async fn clients_do_not_publish_system_topics_and_do_not_see_them_by_wildcard() {
    let mut config = config();
    config.system_interval = Some(Duration::from_millis(10));
    let broker = start(builder().config(config)).await;
    let mut client = Client::connect(&broker, "client").await;
    let reason = client.publish("$SYS/broker/version", b"mine").await;
    assert_eq!(reason, ReasonCode::NotAuthorized);
    client.subscribe("#", QoS::AtMostOnce).await;
    client.expect_silence().await;
}

#[tokio::test]
async fn stats_count_what_went_through() {
    let broker = start(builder()).await;
    let mut subscriber = Client::connect(&broker, "subscriber").await;
    subscriber.subscribe("a", QoS::AtLeastOnce).await;
    let mut publisher = Client::connect(&broker, "publisher").await;
    for _ in 0..5 {
        publisher.publish("a", b"1234").await;
        subscriber.expect_publish().await;
    }
    let stats = broker.stats().await;
    assert_eq!(stats.shards.connections, 2);
    assert_eq!(stats.shards.subscriptions, 1);
    assert_eq!(stats.shards.publishes_received, 5);
    assert_eq!(stats.shards.publish_bytes_received, 20);
    assert_eq!(stats.shards.publishes_sent, 5);
    assert_eq!(stats.shards.publish_bytes_sent, 20);
    // Two CONNECT, a SUBSCRIBE, and a PUBLISH and a PUBACK for each message; as many answers.
    assert_eq!(stats.shards.packets_sent, 13);
    assert!(
        stats.bytes_received > 5 * 9 && stats.bytes_sent > 5 * 9,
        "{stats:?}"
    );
}
