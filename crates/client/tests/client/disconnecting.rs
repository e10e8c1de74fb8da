//! The orderly end.

use std::future::IntoFuture;
use std::time::Duration;

use whimbrel_client::codec::{Packet, QoS, ReasonCode};
use whimbrel_client::{Client, Closed, DisconnectError, PublishError};

use crate::support::{V5, V311, assert_pending, connected, options};

#[tokio::test(start_paused = true)]
async fn what_was_accepted_is_acknowledged_first() {
    for version in [V311, V5] {
        let (options, mut listener) = options(version);
        let (client, mut peer) = connected(options, &mut listener).await;
        let receipt = client
            .publish("t", "m")
            .qos(QoS::AtLeastOnce)
            .try_enqueue()
            .expect("room");
        let mut disconnecting = client.disconnect().into_future();
        assert_pending(&mut disconnecting).await;
        let late = client.publish("t", "late").await;
        assert!(matches!(
            late,
            Err(PublishError::Closed(Closed::Disconnected))
        ));
        let publish = peer.expect_publish().await;
        assert_pending(peer.read()).await;
        peer.puback(&publish).await;
        receipt.await.expect("acknowledged");
        let Packet::Disconnect(disconnect) = peer.expect().await else {
            panic!("DISCONNECT");
        };
        assert_eq!(disconnect.reason, ReasonCode::Success);
        // Nobody asked the server to keep the session.
        let expiry = version.is_v5().then_some(0);
        assert_eq!(disconnect.session_expiry_secs, expiry);
        assert_eq!(peer.read().await, None);
        disconnecting.await.expect("in order");
        let again = client.disconnect().await;
        assert!(matches!(
            again,
            Err(DisconnectError::Closed(Closed::Disconnected))
        ));
    }
}

#[tokio::test(start_paused = true)]
async fn the_wait_has_an_end() {
    let (options, mut listener) = options(V5);
    let options = options.disconnect_timeout(Duration::from_secs(2));
    let (client, mut peer) = connected(options, &mut listener).await;
    let receipt = client
        .publish("t", "m")
        .qos(QoS::AtLeastOnce)
        .try_enqueue()
        .expect("room");
    let ended = client.disconnect().await;
    assert!(
        matches!(ended, Err(DisconnectError::Unacknowledged { left: 1 })),
        "{ended:?}"
    );
    assert!(matches!(
        receipt.await,
        Err(PublishError::Closed(Closed::Disconnected))
    ));
    peer.expect_publish().await;
    assert!(matches!(peer.expect().await, Packet::Disconnect(_)));
}

#[tokio::test(start_paused = true)]
async fn the_wait_has_an_end_without_a_connection_too() {
    let (options, listener) = options(V5);
    drop(listener);
    let client = Client::spawn(options).expect("valid options");
    let _receipt = client.publish("t", "m").try_enqueue().expect("room");
    let began = tokio::time::Instant::now();
    let ended = client.disconnect().await;
    assert!(
        matches!(ended, Err(DisconnectError::Unacknowledged { left: 1 })),
        "{ended:?}"
    );
    assert!(began.elapsed() < Duration::from_secs(11));
}

#[tokio::test(start_paused = true)]
async fn a_client_with_nothing_to_send_ends_at_once_without_a_connection() {
    let (options, listener) = options(V5);
    drop(listener);
    let client = Client::spawn(options).expect("valid options");
    let began = tokio::time::Instant::now();
    client.disconnect().await.expect("nothing is left");
    assert!(began.elapsed() < Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn the_will_can_be_asked_for() {
    // [5:MQTT-3.1.2-10] [3:MQTT-3.1.2-8]
    let (with_5, mut listener) = options(V5);
    let (client, mut peer) = connected(with_5, &mut listener).await;
    client
        .disconnect()
        .with_will()
        .session_expiry_secs(60)
        .await
        .expect("in order");
    let Packet::Disconnect(disconnect) = peer.expect().await else {
        panic!("DISCONNECT");
    };
    assert_eq!(disconnect.reason, ReasonCode::DisconnectWithWill);
    assert_eq!(disconnect.session_expiry_secs, Some(60));
    let (with_3, mut listener) = options(V311);
    let (client, mut peer) = connected(with_3, &mut listener).await;
    client.disconnect().with_will().await.expect("in order");
    assert_eq!(peer.read().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_to_be_kept_is_kept() {
    let (options, mut listener) = options(V5);
    let options = options.clean_start(false);
    let client = Client::spawn(options).expect("valid options");
    let mut peer = listener.link().await;
    assert_eq!(
        peer.accept(true).await.properties.session_expiry_secs,
        u32::MAX
    );
    client.connected().await.expect("accepted");
    client.disconnect().await.expect("in order");
    let Packet::Disconnect(disconnect) = peer.expect().await else {
        panic!("DISCONNECT");
    };
    assert_eq!(disconnect.session_expiry_secs, None);
}

#[tokio::test(start_paused = true)]
async fn the_last_handle_ends_the_client() {
    let (options, mut listener) = options(V5);
    let (client, mut peer) = connected(options, &mut listener).await;
    let subscribing = tokio::spawn(client.subscribe("t").into_future());
    peer.grant().await;
    let mut messages = subscribing.await.expect("no panic").expect("granted");
    drop(client);
    peer.publish("t", "m", QoS::AtMostOnce, 0).await;
    assert_eq!(messages.recv().await.expect("a message").payload(), b"m");
    drop(messages);
    let Packet::Unsubscribe(request) = peer.expect().await else {
        panic!("UNSUBSCRIBE");
    };
    peer.unsuback(request.id).await;
    assert!(matches!(peer.expect().await, Packet::Disconnect(_)));
}

#[tokio::test(start_paused = true)]
async fn an_unsubscription_that_nobody_can_be_asked_for_does_not_delay_the_end() {
    let (options, mut listener) = options(V5);
    let (client, mut peer) = connected(options, &mut listener).await;
    let subscribing = tokio::spawn(client.subscribe("t").into_future());
    peer.grant().await;
    let messages = subscribing.await.expect("no panic").expect("granted");
    drop((peer, listener));
    crate::support::settle().await;
    drop(messages);
    let began = tokio::time::Instant::now();
    client.disconnect().await.expect("nothing is left");
    assert!(began.elapsed() < Duration::from_millis(100));
}
