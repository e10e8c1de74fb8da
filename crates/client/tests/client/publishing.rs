//! Publications, from their acceptance to their last acknowledgement.

use std::future::IntoFuture;
use std::time::Duration;

use futures::future::join_all;
use whimbrel_client::codec::{Ack, ConnAck, MessageProperties, Packet, QoS, ReasonCode};
use whimbrel_client::{Client, ConnectionState, PublishError, Refusal};

use crate::support::{V5, V311, assert_pending, connected, options, settle};

#[tokio::test(start_paused = true)]
async fn a_publication_resolves_at_its_last_acknowledgement() {
    // [3:MQTT-4.3.2-1] [3:MQTT-4.3.3-1] [5:MQTT-4.3.2-1] [5:MQTT-4.3.3-1]
    for version in [V311, V5] {
        let (options, mut listener) = options(version);
        let (client, mut peer) = connected(options, &mut listener).await;
        client.publish("t", "0").await.expect("written");
        assert_eq!(peer.expect_publish().await.payload(), b"0");

        let mut once = client.publish("t", "1").qos(QoS::AtLeastOnce).into_future();
        assert_pending(&mut once).await;
        let publish = peer.expect_publish().await;
        peer.puback(&publish).await;
        assert_eq!(once.await.expect("acknowledged"), ReasonCode::Success);

        let mut exactly = client.publish("t", "2").qos(QoS::ExactlyOnce).into_future();
        assert_pending(&mut exactly).await;
        let publish = peer.expect_publish().await;
        peer.pubrec(&publish).await;
        assert_pending(&mut exactly).await;
        let id = publish.packet_id().expect("QoS 2");
        assert_eq!(peer.expect().await, Packet::PubRel(Ack::success(id)));
        peer.pubcomp(id).await;
        assert_eq!(exactly.await.expect("acknowledged"), ReasonCode::Success);
        assert_eq!(client.unacknowledged(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_why() {
    let (options, mut listener) = options(V5);
    let (client, mut peer) = connected(options, &mut listener).await;
    let receipt = client
        .publish("t", "1")
        .qos(QoS::AtLeastOnce)
        .enqueue()
        .await
        .expect("room");
    let publish = peer.expect_publish().await;
    let mut ack = Ack::new(
        publish.packet_id().expect("QoS 1"),
        ReasonCode::QuotaExceeded,
    );
    ack.properties.reason_string = Some("come back tomorrow".into());
    peer.write(Packet::PubAck(ack)).await;
    let error = receipt.await.expect_err("refused");
    assert!(matches!(
        &error,
        PublishError::Refused(Refusal {
            reason: ReasonCode::QuotaExceeded,
            ..
        })
    ));
    let text = "server refused the message: 0x97 QuotaExceeded (come back tomorrow)";
    assert_eq!(error.to_string(), text);
}

#[tokio::test(start_paused = true)]
async fn messages_leave_in_the_order_of_their_acceptance_with_and_without_a_connection() {
    // [5:MQTT-4.6.0-1]
    let (options, mut listener) = options(V5);
    let client = Client::spawn(options).expect("valid options");
    let mut receipts = Vec::new();
    for number in 0..10 {
        let publish = client
            .publish("t", number.to_string())
            .qos(QoS::AtLeastOnce);
        receipts.push(publish.enqueue().await.expect("room"));
    }
    let mut peer = listener.link().await;
    peer.accept(false).await;
    client.connected().await.expect("accepted");
    for number in 10..20 {
        let publish = client
            .publish("t", number.to_string())
            .qos(QoS::AtLeastOnce);
        receipts.push(publish.enqueue().await.expect("room"));
    }
    for number in 0..20 {
        let publish = peer.expect_publish().await;
        assert_eq!(publish.payload(), number.to_string().as_bytes());
        peer.puback(&publish).await;
    }
    for outcome in join_all(receipts).await {
        outcome.expect("acknowledged");
    }
}

#[tokio::test(start_paused = true)]
async fn the_servers_receive_maximum_is_kept() {
    // [5:MQTT-3.3.4-9] [5:MQTT-4.9.0-2]
    let (options, mut listener) = options(V5);
    let client = Client::spawn(options).expect("valid options");
    let mut peer = listener.link().await;
    peer.expect_connect().await;
    let mut connack = ConnAck::new(ReasonCode::Success);
    connack.properties.receive_maximum = 2.try_into().expect("not 0");
    peer.write(Packet::ConnAck(Box::new(connack))).await;
    let publish = |payload: &'static str| client.publish("t", payload).qos(QoS::AtLeastOnce);
    let all = tokio::spawn(join_all(
        ["a", "b", "c"].map(|payload| publish(payload).into_future()),
    ));
    let first = peer.expect_publish().await;
    let second = peer.expect_publish().await;
    assert_pending(peer.read()).await;
    peer.puback(&second).await;
    let third = peer.expect_publish().await;
    assert_eq!(third.payload(), b"c");
    peer.puback(&first).await;
    peer.puback(&third).await;
    assert!(
        all.await
            .expect("no panic")
            .into_iter()
            .all(|outcome| outcome.is_ok())
    );
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_waits_its_turn_and_says_so_to_those_who_do_not_wait() {
    let (options, mut listener) = options(V5);
    let client = Client::spawn(options.queue_bytes_max(1_000)).expect("valid options");
    let publish = |payload: &'static str| client.publish("t", payload).qos(QoS::AtLeastOnce);
    let kept = [publish("a"), publish("b"), publish("c")]
        .map(|publish| publish.try_enqueue().expect("room"));
    assert!(matches!(
        publish("d").try_enqueue(),
        Err(PublishError::QueueFull)
    ));
    let mut waiting = publish("d").enqueue();
    assert_pending(&mut waiting).await;
    let mut peer = listener.link().await;
    peer.accept(false).await;
    let first = peer.expect_publish().await;
    assert_pending(&mut waiting).await;
    peer.puback(&first).await;
    let _last = waiting.await.expect("room");
    for payload in [b"b", b"c", b"d"] {
        assert_eq!(peer.expect_publish().await.payload(), payload);
    }
    drop(kept);
}

#[tokio::test(start_paused = true)]
async fn a_future_dropped_before_its_acceptance_publishes_nothing_and_one_after_it_does() {
    let (options, mut listener) = options(V5);
    let client = Client::spawn(options.queue_bytes_max(300)).expect("valid options");
    let publish = |payload: &'static str| client.publish("t", payload).qos(QoS::AtLeastOnce);
    let mut accepted = publish("accepted").into_future();
    assert_pending(&mut accepted).await;
    let mut waiting = publish("waiting").into_future();
    assert_pending(&mut waiting).await;
    let mut third = publish("third").into_future();
    assert_pending(&mut third).await;
    drop(waiting);
    drop(accepted);
    let mut peer = listener.link().await;
    peer.accept(false).await;
    let first = peer.expect_publish().await;
    assert_eq!(first.payload(), b"accepted");
    assert_pending(&mut third).await;
    peer.puback(&first).await;
    assert_pending(&mut third).await;
    let second = peer.expect_publish().await;
    assert_eq!(second.payload(), b"third");
    peer.puback(&second).await;
    third.await.expect("acknowledged");
}

#[tokio::test(start_paused = true)]
async fn what_the_server_can_not_take_is_refused_and_the_rest_goes_on() {
    // [5:MQTT-3.2.2-11] [5:MQTT-3.2.2-14] [5:MQTT-3.2.2-15]
    let (options, mut listener) = options(V5);
    let client = Client::spawn(options).expect("valid options");
    let mut peer = listener.link().await;
    peer.expect_connect().await;
    let mut connack = ConnAck::new(ReasonCode::Success);
    connack.properties.maximum_qos = QoS::AtLeastOnce;
    connack.properties.retain_available = false;
    connack.properties.packet_size_max = Some(100.try_into().expect("not 0"));
    peer.write(Packet::ConnAck(Box::new(connack))).await;
    let qos = client.publish("t", "m").qos(QoS::ExactlyOnce).await;
    assert!(matches!(qos, Err(PublishError::QosNotSupported)));
    let retained = client.publish("t", "m").retain(true).await;
    assert!(matches!(retained, Err(PublishError::RetainNotSupported)));
    let large = client.publish("t", vec![0; 100]).await;
    assert!(matches!(large, Err(PublishError::TooLarge)));
    client.publish("t", "small").await.expect("written");
    assert_eq!(peer.expect_publish().await.payload(), b"small");
}

#[tokio::test(start_paused = true)]
async fn an_expiry_interval_counts_while_there_is_no_connection() {
    // [5:MQTT-3.3.2-6]
    let (options, mut listener) = options(V5);
    let client = Client::spawn(options).expect("valid options");
    let expiring = |seconds| {
        MessageProperties::builder()
            .message_expiry_secs(seconds)
            .build()
            .expect("valid")
    };
    let publish = |seconds| {
        client
            .publish("t", "m")
            .qos(QoS::AtLeastOnce)
            .properties(expiring(seconds))
    };
    let short = publish(2).try_enqueue().expect("room");
    let long = publish(10).try_enqueue().expect("room");
    tokio::time::sleep(Duration::from_secs(4)).await;
    let mut peer = listener.link().await;
    peer.accept(false).await;
    assert!(matches!(short.await, Err(PublishError::Expired)));
    let sent = peer.expect_publish().await;
    assert_eq!(sent.properties().message_expiry_secs(), Some(6));
    peer.puback(&sent).await;
    long.await.expect("acknowledged");
}

#[tokio::test(start_paused = true)]
async fn bad_input_is_an_error_at_once() {
    let (options, _listener) = options(V311);
    let client = Client::spawn(options).expect("valid options");
    let topic = client.publish("a/#", "m").await;
    assert!(matches!(topic, Err(PublishError::InvalidTopic(_))));
    let properties = MessageProperties::builder()
        .content_type("text")
        .build()
        .expect("valid");
    let published = client.publish("a", "m").properties(properties).await;
    assert!(matches!(
        published,
        Err(PublishError::PropertiesNotSupported)
    ));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_driver_tells_everybody() {
    let (options, mut listener) = options(V5);
    let (client, driver) = Client::new(options).expect("valid options");
    let task = tokio::spawn(driver.run());
    let _peer = listener.link().await;
    let receipt = client
        .publish("t", "m")
        .qos(QoS::AtLeastOnce)
        .try_enqueue()
        .expect("room");
    settle().await;
    task.abort();
    let error = receipt.await.expect_err("nobody sends it");
    assert!(matches!(error, PublishError::Closed(_)), "{error:?}");
    assert!(matches!(
        &*client.state().borrow(),
        ConnectionState::Closed(_)
    ));
    assert!(client.publish("t", "m").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_always_finds_room_lets_the_driver_work() {
    let (options, mut listener) = options(V5);
    let (client, mut peer) = connected(options, &mut listener).await;
    let reading = tokio::spawn(async move { while peer.read().await.is_some() {} });
    for _ in 0..10_000 {
        drop(client.publish("t", "m").enqueue().await.expect("room"));
    }
    assert!(
        client.unacknowledged() < 1_000,
        "{}",
        client.unacknowledged()
    );
    drop(client);
    reading.await.expect("no panic");
}
