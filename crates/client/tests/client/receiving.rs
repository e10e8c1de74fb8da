//! Subscriptions and their messages.

use std::future::IntoFuture;

use whimbrel_client::codec::{Ack, Packet, PacketId, QoS, ReasonCode, SubscriptionId};
use whimbrel_client::{Client, Rejection, SubscribeError};

use crate::support::{V5, V311, assert_pending, connected, options, settle};

fn id(number: u16) -> PacketId {
    PacketId::new(number).expect("not 0")
}

#[tokio::test(start_paused = true)]
async fn a_subscription_resolves_with_suback_and_streams_what_matches() {
    // [3:MQTT-3.8.4-1] [5:MQTT-3.8.4-1]
    for version in [V311, V5] {
        let (options, mut listener) = options(version);
        let (client, mut peer) = connected(options, &mut listener).await;
        let subscribe = client.subscribe("a/+").and("b").qos(QoS::AtLeastOnce);
        let subscribing = tokio::spawn(subscribe.into_future());
        let request = peer.expect_subscribe().await;
        assert_eq!(request.filters.len(), 2);
        peer.suback(
            request.id,
            vec![ReasonCode::GrantedQos1, ReasonCode::UnspecifiedError],
        )
        .await;
        let mut messages = subscribing
            .await
            .expect("no panic")
            .expect("granted in part");
        assert_eq!(
            messages.granted(),
            [ReasonCode::GrantedQos1, ReasonCode::UnspecifiedError]
        );
        peer.publish("a/b", "m", QoS::AtMostOnce, 0).await;
        assert_eq!(messages.recv().await.expect("a message").payload(), b"m");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_is_acknowledged_when_the_next_is_asked_for() {
    // [3:MQTT-4.3.2-2] [5:MQTT-4.3.2-4]
    let (options, mut listener) = options(V5);
    let (client, mut peer) = connected(options, &mut listener).await;
    let subscribing = tokio::spawn(client.subscribe("t").into_future());
    peer.grant().await;
    let mut messages = subscribing.await.expect("no panic").expect("granted");
    peer.publish("t", "1", QoS::AtLeastOnce, 1).await;
    peer.publish("t", "2", QoS::AtLeastOnce, 2).await;
    assert_eq!(messages.recv().await.expect("a message").payload(), b"1");
    assert_pending(peer.read()).await;
    assert_eq!(messages.recv().await.expect("a message").payload(), b"2");
    assert_eq!(peer.expect().await, Packet::PubAck(Ack::success(id(1))));
    assert_pending(messages.recv()).await;
    assert_eq!(peer.expect().await, Packet::PubAck(Ack::success(id(2))));
}

#[tokio::test(start_paused = true)]
async fn overlapping_subscriptions_each_get_what_is_meant_for_them() {
    let (options, mut listener) = options(V5);
    let (client, mut peer) = connected(options, &mut listener).await;
    let wide = tokio::spawn(client.subscribe("a/#").into_future());
    let wide_id = peer.grant().await.subscription_id;
    let narrow = tokio::spawn(client.subscribe("a/b").into_future());
    let narrow_id = peer.grant().await.subscription_id;
    let mut wide = wide.await.expect("no panic").expect("granted");
    let mut narrow = narrow.await.expect("no panic").expect("granted");
    peer.publish_for("a/b", "wide", QoS::AtMostOnce, 0, wide_id)
        .await;
    peer.publish_for("a/b", "narrow", QoS::AtMostOnce, 0, narrow_id)
        .await;
    assert_eq!(wide.recv().await.expect("a message").payload(), b"wide");
    assert_eq!(narrow.recv().await.expect("a message").payload(), b"narrow");
    assert_pending(wide.recv()).await;
    // One copy for both is acknowledged when both are done with it.
    peer.publish("a/b", "both", QoS::AtLeastOnce, 7).await;
    assert_eq!(wide.recv().await.expect("a message").payload(), b"both");
    drop(wide);
    settle().await;
    assert!(matches!(peer.expect().await, Packet::Unsubscribe(_)));
    assert_pending(peer.read()).await;
    assert_eq!(narrow.recv().await.expect("a message").payload(), b"both");
    drop(narrow);
    assert_eq!(peer.expect().await, Packet::PubAck(Ack::success(id(7))));
}

#[tokio::test(start_paused = true)]
async fn manual_acknowledgements_leave_in_the_order_of_the_messages() {
    // [3:MQTT-4.6.0-2] [5:MQTT-4.6.0-2]
    for version in [V311, V5] {
        let (options, mut listener) = options(version);
        let (client, mut peer) = connected(options, &mut listener).await;
        let subscribing = tokio::spawn(client.subscribe("t").manual_acks());
        peer.grant().await;
        let mut messages = subscribing.await.expect("no panic").expect("granted");
        for number in 1..=3 {
            peer.publish("t", "m", QoS::AtLeastOnce, number).await;
        }
        let first = messages.recv().await.expect("a message");
        let second = messages.recv().await.expect("a message");
        let third = messages.recv().await.expect("a message");
        third.ack();
        second.reject(Rejection::QuotaExceeded);
        assert_pending(peer.read()).await;
        // Dropped: never acknowledged on this connection, and no longer waited for.
        drop(first);
        let reason = if version.is_v5() {
            ReasonCode::QuotaExceeded
        } else {
            ReasonCode::Success
        };
        assert_eq!(peer.expect().await, Packet::PubAck(Ack::new(id(2), reason)));
        assert_eq!(peer.expect().await, Packet::PubAck(Ack::success(id(3))));
    }
}

#[tokio::test(start_paused = true)]
async fn publishing_from_the_receive_path_does_not_lock_up() {
    for (version, qos) in [(V311, QoS::AtLeastOnce), (V5, QoS::ExactlyOnce)] {
        let (options, mut listener) = options(version);
        let (client, mut peer) = connected(options, &mut listener).await;
        let subscribing = tokio::spawn(client.subscribe("in").capacity(2).into_future());
        peer.grant().await;
        let mut messages = subscribing.await.expect("no panic").expect("granted");
        // Far more than the stream holds, before the answer that the application waits for.
        for number in 0..100 {
            peer.publish("in", &number.to_string(), QoS::AtMostOnce, 0)
                .await;
        }
        let echo = tokio::spawn(async move {
            let message = messages.recv().await.expect("a message");
            let published = client
                .publish("out", message.payload_bytes())
                .qos(qos)
                .await;
            published.expect("acknowledged");
            (client, messages)
        });
        let publish = peer.expect_publish().await;
        if qos == QoS::ExactlyOnce {
            peer.pubrec(&publish).await;
            assert!(matches!(peer.expect().await, Packet::PubRel(_)));
            peer.pubcomp(publish.packet_id().expect("QoS 2")).await;
        } else {
            peer.puback(&publish).await;
        }
        let (_client, mut messages) = echo.await.expect("no lock-up");
        // The oldest gave way, counted, and the newest are there.
        assert!(messages.dropped() > 0);
        let mut last = None;
        for _ in 0..100 - 1 - messages.dropped() {
            last = messages.recv().await;
        }
        assert_eq!(last.expect("a message").payload(), b"99");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_application_holds_the_server_back_instead_of_losing_messages() {
    let (options, mut listener) = options(V5);
    let (client, mut peer) = connected(options.keep_alive_secs(5), &mut listener).await;
    let subscribing = tokio::spawn(client.subscribe("in").capacity(4).into_future());
    peer.grant().await;
    let mut messages = subscribing.await.expect("no panic").expect("granted");
    let payload = "x".repeat(10_000);
    let server = tokio::spawn(async move {
        for _ in 0..200 {
            peer.publish("in", &payload, QoS::AtMostOnce, 0).await;
        }
        peer
    });
    // Long enough for a ping to be owed, whose answer would be behind what is unread.
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert!(!server.is_finished(), "the client reads what nobody takes");
    for _ in 0..200 {
        messages.recv().await.expect("a message");
    }
    assert_eq!(messages.dropped(), 0);
    server.await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn what_is_too_much_of_qos_1_comes_again_in_order() {
    // Before MQTT 5 the server knows no receive maximum.
    let (options, mut listener) = options(V311);
    let options = options
        .clean_start(false)
        .receive_maximum(2.try_into().expect("not 0"));
    let client = Client::spawn(options).expect("valid options");
    let mut peer = listener.link().await;
    peer.accept(false).await;
    let subscribing = tokio::spawn(client.subscribe("t").into_future());
    peer.grant().await;
    let mut messages = subscribing.await.expect("no panic").expect("granted");
    for number in 1..=4 {
        peer.publish("t", &number.to_string(), QoS::AtLeastOnce, number)
            .await;
    }
    settle().await;
    for payload in [b"1", b"2"] {
        assert_eq!(messages.recv().await.expect("a message").payload(), payload);
    }
    let third = tokio::spawn(async move { (messages.recv().await, messages) });
    for number in [1, 2] {
        assert_eq!(
            peer.expect().await,
            Packet::PubAck(Ack::success(id(number)))
        );
    }
    let mut peer = listener.link().await;
    assert!(!peer.accept(true).await.clean_start);
    for number in [3, 4] {
        peer.publish("t", &number.to_string(), QoS::AtLeastOnce, number)
            .await;
    }
    let (message, mut messages) = third.await.expect("no panic");
    assert_eq!(message.expect("a message").payload(), b"3");
    assert_eq!(messages.recv().await.expect("a message").payload(), b"4");
}

#[tokio::test(start_paused = true)]
async fn a_refused_subscription_says_so_and_is_gone() {
    let (options, mut listener) = options(V5);
    let (client, mut peer) = connected(options, &mut listener).await;
    let subscribing = tokio::spawn(client.subscribe("t").into_future());
    let request = peer.expect_subscribe().await;
    peer.suback(request.id, vec![ReasonCode::NotAuthorized])
        .await;
    let error = subscribing.await.expect("no panic").expect_err("refused");
    assert_eq!(
        error.to_string(),
        "server refused the subscription: 0x87 NotAuthorized"
    );
    let again = tokio::spawn(client.subscribe("t").into_future());
    peer.grant().await;
    again.await.expect("no panic").expect("granted");
}

#[tokio::test(start_paused = true)]
async fn a_filter_is_subscribed_to_once() {
    let (options, mut listener) = options(V5);
    let (client, mut peer) = connected(options, &mut listener).await;
    let subscribing = tokio::spawn(client.subscribe("t").into_future());
    peer.grant().await;
    let _messages = subscribing.await.expect("no panic").expect("granted");
    let error = client.subscribe("t").await.expect_err("twice");
    assert!(
        matches!(error, SubscribeError::AlreadySubscribed { .. }),
        "{error}"
    );
    let error = client.subscribe("a/#/b").await.expect_err("no filter");
    assert!(matches!(error, SubscribeError::InvalidFilter(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_unsubscription_resolves_with_unsuback() {
    // [3:MQTT-3.10.4-4] [5:MQTT-3.10.4-4]
    for version in [V311, V5] {
        let (options, mut listener) = options(version);
        let (client, mut peer) = connected(options, &mut listener).await;
        let subscribing = tokio::spawn(client.subscribe("t").into_future());
        peer.grant().await;
        let messages = subscribing.await.expect("no panic").expect("granted");
        let mut unsubscribing = messages.unsubscribe();
        assert_pending(&mut unsubscribing).await;
        let Packet::Unsubscribe(request) = peer.expect().await else {
            panic!("UNSUBSCRIBE");
        };
        assert_eq!(request.filters, ["t"]);
        peer.unsuback(request.id).await;
        unsubscribing.await.expect("acknowledged");
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscription_of_an_earlier_process_is_ended_by_its_filter() {
    for version in [V311, V5] {
        let (options, mut listener) = options(version);
        let (client, mut peer) = connected(options, &mut listener).await;
        let mut unsubscribing = Box::pin(client.unsubscribe("old/+"));
        assert_pending(&mut unsubscribing).await;
        let Packet::Unsubscribe(request) = peer.expect().await else {
            panic!("UNSUBSCRIBE");
        };
        assert_eq!(request.filters, ["old/+"]);
        peer.unsuback(request.id).await;
        unsubscribing.await.expect("acknowledged");
        let error = client.unsubscribe("a/#/b").await.expect_err("no filter");
        assert!(matches!(error, SubscribeError::InvalidFilter(_)), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_is_held_is_not_ended_by_its_filter() {
    let (options, mut listener) = options(V5);
    let (client, mut peer) = connected(options, &mut listener).await;
    let subscribing = tokio::spawn(client.subscribe("t").into_future());
    peer.grant().await;
    let messages = subscribing.await.expect("no panic").expect("granted");
    let error = client.unsubscribe("t").await.expect_err("it is held");
    let is_held = matches!(&error, SubscribeError::AlreadySubscribed { filter } if *filter == "t");
    assert!(is_held, "{error}");
    drop(messages);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_given_up_before_suback_is_ended_again() {
    let (options, mut listener) = options(V5);
    let (client, mut peer) = connected(options, &mut listener).await;
    let mut subscribing = client.subscribe("t").into_future();
    assert_pending(&mut subscribing).await;
    peer.expect_subscribe().await;
    drop(subscribing);
    assert!(matches!(peer.expect().await, Packet::Unsubscribe(_)));
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_process_subscribed_to_waits_for_this_one() {
    let (options, mut listener) = options(V5);
    let client = Client::spawn(options.clean_start(false)).expect("valid options");
    let mut peer = listener.link().await;
    peer.accept(true).await;
    let old = SubscriptionId::new(1);
    peer.publish_for("t", "claimed", QoS::AtLeastOnce, 1, old)
        .await;
    peer.publish_for("other", "unclaimed", QoS::AtLeastOnce, 2, old)
        .await;
    settle().await;
    let subscribing = tokio::spawn(client.subscribe("t").into_future());
    peer.grant().await;
    let mut messages = subscribing.await.expect("no panic").expect("granted");
    assert_eq!(
        messages.recv().await.expect("a message").payload(),
        b"claimed"
    );
    assert_pending(messages.recv()).await;
    assert_eq!(peer.expect().await, Packet::PubAck(Ack::success(id(1))));
    // Nobody comes for the other in time.
    assert_eq!(peer.expect().await, Packet::PubAck(Ack::success(id(2))));
    assert_eq!(client.unclaimed_dropped(), 1);
    let mut unclaimed = client.unclaimed().expect("held by nobody");
    assert!(client.unclaimed().is_none());
    peer.publish_for("other", "late", QoS::AtMostOnce, 0, old)
        .await;
    assert_eq!(
        unclaimed.recv().await.expect("a message").payload(),
        b"late"
    );
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_a_subscription_given_up_is_none_to_the_next() {
    let (options, mut listener) = options(V5);
    let (client, mut peer) = connected(options, &mut listener).await;
    let mut first = client.subscribe("a").into_future();
    assert_pending(&mut first).await;
    let asked = peer.expect_subscribe().await;
    drop(first);
    let mut second = client.subscribe("b").into_future();
    assert_pending(&mut second).await;
    peer.suback(asked.id, vec![ReasonCode::NotAuthorized]).await;
    assert_pending(&mut second).await;
    assert!(matches!(peer.expect().await, Packet::Unsubscribe(_)));
    peer.grant().await;
    second.await.expect("granted");
}

#[tokio::test(start_paused = true)]
async fn unsubscriptions_given_up_without_a_connection_leave_nothing_behind() {
    let (options, mut listener) = options(V5);
    let client = Client::spawn(options.clean_start(false)).expect("valid options");
    for _ in 0..100 {
        assert_pending(client.unsubscribe("old")).await;
    }
    let mut peer = listener.link().await;
    peer.accept(true).await;
    client.publish("t", "m").await.expect("written");
    // None of them, or few: not one for each that was asked for and given up.
    assert_eq!(peer.expect_publish().await.payload(), b"m");
}

#[tokio::test(start_paused = true)]
async fn what_comes_again_by_a_reconnect_of_the_clients_own_does_not_set_off_the_will() {
    // [3:MQTT-3.14.4-3] [5:MQTT-3.14.4-3]
    let (options, mut listener) = options(V311);
    let options = options
        .clean_start(false)
        .receive_maximum(1.try_into().expect("not 0"));
    let client = Client::spawn(options).expect("valid options");
    let mut peer = listener.link().await;
    peer.accept(false).await;
    let subscribing = tokio::spawn(client.subscribe("t").into_future());
    peer.grant().await;
    let mut messages = subscribing.await.expect("no panic").expect("granted");
    for number in 1..=2 {
        peer.publish("t", "m", QoS::AtLeastOnce, number).await;
    }
    messages.recv().await.expect("a message");
    assert_pending(messages.recv()).await;
    assert_eq!(peer.expect().await, Packet::PubAck(Ack::success(id(1))));
    assert!(matches!(peer.expect().await, Packet::Disconnect(_)));
}
