//! Connections that are lost and come back.

use std::future::IntoFuture;
use std::time::Duration;

use whimbrel_client::codec::{Ack, Disconnect, Packet, PacketId, QoS, ReasonCode};
use whimbrel_client::{Client, Closed};

use crate::support::{V5, V311, assert_pending, connected, options, settle};

#[tokio::test(start_paused = true)]
async fn what_was_open_is_sent_again_when_the_server_has_the_session() {
    // [3:MQTT-4.4.0-1] [5:MQTT-4.4.0-1]
    for version in [V311, V5] {
        let (options, mut listener) = options(version);
        let (client, mut peer) = connected(options.clean_start(false), &mut listener).await;
        let once = client
            .publish("t", "1")
            .qos(QoS::AtLeastOnce)
            .try_enqueue()
            .expect("room");
        let exactly = client
            .publish("t", "2")
            .qos(QoS::ExactlyOnce)
            .try_enqueue()
            .expect("room");
        let first = peer.expect_publish().await;
        let second = peer.expect_publish().await;
        peer.pubrec(&second).await;
        let id = second.packet_id().expect("QoS 2");
        assert_eq!(peer.expect().await, Packet::PubRel(Ack::success(id)));
        drop(peer);
        let mut peer = listener.link().await;
        assert!(!peer.accept(true).await.clean_start);
        assert_eq!(peer.expect().await, Packet::PubRel(Ack::success(id)));
        let again = peer.expect_publish().await;
        assert!(again.delivery().dup());
        assert_eq!(
            (again.payload(), again.packet_id()),
            (&b"1"[..], first.packet_id())
        );
        peer.pubcomp(id).await;
        peer.puback(&again).await;
        once.await.expect("acknowledged");
        exactly.await.expect("acknowledged");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_open_is_published_anew_when_the_server_has_lost_the_session() {
    // [3:MQTT-3.1.2-6] [5:MQTT-3.2.2-5]
    for version in [V311, V5] {
        let (options, mut listener) = options(version);
        let (client, mut peer) = connected(options.clean_start(false), &mut listener).await;
        let subscribing = tokio::spawn(client.subscribe("in").into_future());
        peer.grant().await;
        let mut messages = subscribing.await.expect("no panic").expect("granted");
        let once = client
            .publish("t", "1")
            .qos(QoS::AtLeastOnce)
            .try_enqueue()
            .expect("room");
        peer.expect_publish().await;
        drop(peer);
        let mut peer = listener.link().await;
        peer.accept(false).await;
        let subscribe = peer.grant().await;
        assert_eq!(subscribe.filters[0].filter, "in");
        let again = peer.expect_publish().await;
        assert!(!again.delivery().dup());
        assert_eq!(again.payload(), b"1");
        peer.puback(&again).await;
        once.await.expect("acknowledged");
        peer.publish("in", "m", QoS::AtMostOnce, 0).await;
        assert_eq!(messages.recv().await.expect("a message").payload(), b"m");
    }
}

#[tokio::test(start_paused = true)]
async fn subscriptions_are_left_alone_when_the_server_has_the_session() {
    let (options, mut listener) = options(V5);
    let (client, mut peer) = connected(options, &mut listener).await;
    let subscribing = tokio::spawn(client.subscribe("in").into_future());
    peer.grant().await;
    let _messages = subscribing.await.expect("no panic").expect("granted");
    let unanswered = tokio::spawn(client.subscribe("late").into_future());
    peer.expect_subscribe().await;
    drop(peer);
    let mut peer = listener.link().await;
    peer.accept(true).await;
    let subscribe = peer.grant().await;
    assert_eq!(subscribe.filters[0].filter, "late");
    let _late = unanswered.await.expect("no panic").expect("granted");
    assert_pending(peer.read()).await;
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_the_server_does_not_take_back_ends_its_stream() {
    let (options, mut listener) = options(V5);
    let (client, mut peer) = connected(options, &mut listener).await;
    let subscribing = tokio::spawn(client.subscribe("in").into_future());
    peer.grant().await;
    let mut messages = subscribing.await.expect("no panic").expect("granted");
    drop(peer);
    let mut peer = listener.link().await;
    peer.accept(false).await;
    let request = peer.expect_subscribe().await;
    peer.suback(request.id, vec![ReasonCode::NotAuthorized])
        .await;
    assert!(messages.recv().await.is_none());
    let text = "server refused the subscription: 0x87 NotAuthorized";
    assert_eq!(messages.ended().expect("ended").to_string(), text);
}

#[tokio::test(start_paused = true)]
async fn qos_0_that_was_not_written_is_written_on_the_next_connection() {
    let (options, mut listener) = options(V5);
    let (client, peer) = connected(options, &mut listener).await;
    // More than the link takes.
    let receipts = [(); 40].map(|()| {
        client
            .publish("t", vec![0; 4_000])
            .try_enqueue()
            .expect("room")
    });
    settle().await;
    let left = client.unacknowledged();
    assert!(left > 0 && left < 40, "{left}");
    drop(peer);
    let mut peer = listener.link().await;
    peer.accept(true).await;
    for _ in 0..left {
        peer.expect_publish().await;
    }
    for receipt in receipts {
        receipt.await.expect("written");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_not_taken_of_qos_1_is_not_seen_twice_and_qos_2_not_lost() {
    let (options, mut listener) = options(V5);
    let (client, mut peer) = connected(options, &mut listener).await;
    let subscribing = tokio::spawn(client.subscribe("in").into_future());
    peer.grant().await;
    let mut messages = subscribing.await.expect("no panic").expect("granted");
    peer.publish("in", "once", QoS::AtLeastOnce, 1).await;
    peer.publish("in", "exactly", QoS::ExactlyOnce, 2).await;
    settle().await;
    drop(peer);
    let mut peer = listener.link().await;
    peer.accept(true).await;
    peer.publish_again("in", "once", QoS::AtLeastOnce, 1).await;
    peer.publish_again("in", "exactly", QoS::ExactlyOnce, 2)
        .await;
    settle().await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        let message = messages.recv().await.expect("a message");
        seen.push(String::from_utf8_lossy(message.payload()).into_owned());
    }
    seen.sort();
    assert_eq!(seen, ["exactly", "once"]);
    assert_pending(messages.recv()).await;
}

#[tokio::test(start_paused = true)]
async fn a_guard_that_is_dropped_after_its_connection_gives_the_message_back() {
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let (options, mut listener) = options(V5);
        let (client, mut peer) = connected(options, &mut listener).await;
        let subscribing = tokio::spawn(client.subscribe("in").manual_acks());
        peer.grant().await;
        let mut messages = subscribing.await.expect("no panic").expect("granted");
        peer.publish("in", "again", qos, 2).await;
        let message = messages.recv().await.expect("a message");
        drop(peer);
        let mut peer = listener.link().await;
        peer.accept(true).await;
        settle().await;
        drop(message);
        let message = messages.recv().await.expect("the same again");
        assert_eq!(message.payload(), b"again");
        // The server's repeat is no message of its own, and waits for the application.
        peer.publish_again("in", "again", qos, 2).await;
        assert_pending(peer.read()).await;
        message.ack();
        let ack = Ack::success(PacketId::new(2).expect("not 0"));
        let expected = match qos {
            QoS::ExactlyOnce => Packet::PubRec(ack),
            _ => Packet::PubAck(ack),
        };
        assert_eq!(peer.expect().await, expected);
        assert_pending(messages.recv()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn two_clients_of_one_id_do_not_throw_each_other_out_for_ever() {
    let (options, mut listener) = options(V5);
    let (client, mut peer) = connected(options, &mut listener).await;
    let disconnect = Disconnect::new(ReasonCode::SessionTakenOver);
    peer.write(Packet::Disconnect(Box::new(disconnect))).await;
    let mut state = client.state();
    let closed =
        state.wait_for(|state| matches!(state, whimbrel_client::ConnectionState::Closed(_)));
    assert!(closed.await.is_ok());
    listener.stays_quiet(Duration::from_secs(3600)).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_breaks_the_protocol_is_told_and_left() {
    let (options, mut listener) = options(V5);
    let (_client, mut peer) = connected(options, &mut listener).await;
    peer.write_bytes(b"\x00\x00").await;
    let Packet::Disconnect(disconnect) = peer.expect().await else {
        panic!("DISCONNECT");
    };
    assert_eq!(disconnect.reason, ReasonCode::MalformedPacket);
    listener.link().await.expect_connect().await;
}

#[tokio::test(start_paused = true)]
async fn waits_between_attempts_grow() {
    let (options, mut listener) = options(V5);
    let client = Client::spawn(options).expect("valid options");
    let mut last = tokio::time::Instant::now();
    drop(listener.link().await);
    for bound_ms in [250, 500, 1_000, 2_000, 4_000] {
        let link = listener.link().await;
        let waited = last.elapsed();
        let bound = Duration::from_millis(bound_ms);
        // Timers of the runtime round up to a millisecond.
        assert!(
            waited >= bound / 2 && waited <= bound + Duration::from_millis(3),
            "{waited:?} of {bound:?}"
        );
        last = tokio::time::Instant::now();
        drop(link);
    }
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn a_driver_says_why_it_ended() {
    let (options, mut listener) = options(V5);
    let (client, driver) = Client::new(options).expect("valid options");
    let driver = tokio::spawn(driver.run());
    let mut peer = listener.link().await;
    peer.accept(false).await;
    client.connected().await.expect("accepted");
    drop(client);
    assert!(matches!(peer.expect().await, Packet::Disconnect(_)));
    assert!(matches!(
        driver.await.expect("no panic"),
        Closed::Disconnected
    ));
}

#[tokio::test(start_paused = true)]
async fn qos_0_that_leaves_with_the_end_of_its_connection_is_not_sent_again() {
    // [5:MQTT-4.3.1-1]
    let (options, mut listener) = options(V5);
    let (client, mut peer) = connected(options, &mut listener).await;
    // More than the link takes, so that some of it is still to be written when the connection ends.
    let receipts = [(); 40].map(|()| {
        let publish = client.publish("t", vec![0; 4_000]);
        publish.try_enqueue().expect("room")
    });
    settle().await;
    peer.write_bytes(b"\x00\x00").await;
    let mut seen = 0;
    while let Some(packet) = peer.read().await {
        seen += usize::from(matches!(packet, Packet::Publish(_)));
    }
    let mut peer = listener.link().await;
    peer.accept(true).await;
    for _ in seen..40 {
        peer.expect_publish().await;
    }
    assert_pending(peer.read()).await;
    for receipt in receipts {
        receipt.await.expect("written");
    }
}

#[tokio::test(start_paused = true)]
async fn a_qos_2_message_that_nobody_has_taken_is_not_acknowledged_by_a_reconnect() {
    // [5:MQTT-4.3.3-8]
    for manual in [false, true] {
        let (options, mut listener) = options(V5);
        let (client, mut peer) = connected(options, &mut listener).await;
        let subscribing = tokio::spawn(client.subscribe("in").manual_acks());
        peer.grant().await;
        let mut messages = subscribing.await.expect("no panic").expect("granted");
        peer.publish("in", "exactly", QoS::ExactlyOnce, 2).await;
        let taken = if manual { messages.recv().await } else { None };
        settle().await;
        drop(peer);
        let mut peer = listener.link().await;
        peer.accept(true).await;
        peer.publish_again("in", "exactly", QoS::ExactlyOnce, 2)
            .await;
        assert_pending(peer.read()).await;
        let message = match taken {
            Some(message) => message,
            None => messages.recv().await.expect("a message"),
        };
        message.ack();
        let id = PacketId::new(2).expect("not 0");
        assert_eq!(peer.expect().await, Packet::PubRec(Ack::success(id)));
        assert_pending(messages.recv()).await;
        peer.write(Packet::PubRel(Ack::success(id))).await;
        assert_eq!(peer.expect().await, Packet::PubComp(Ack::success(id)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_acknowledged_between_two_connections_does_not_come_twice() {
    let (options, mut listener) = options(V5);
    let (client, mut peer) = connected(options, &mut listener).await;
    let subscribing = tokio::spawn(client.subscribe("in").manual_acks());
    peer.grant().await;
    let mut messages = subscribing.await.expect("no panic").expect("granted");
    peer.publish("in", "early", QoS::ExactlyOnce, 1).await;
    peer.publish("in", "late", QoS::ExactlyOnce, 2).await;
    let early = messages.recv().await.expect("a message");
    let late = messages.recv().await.expect("a message");
    drop(peer);
    let mut peer = listener.link().await;
    early.ack();
    peer.accept(true).await;
    settle().await;
    // After CONNACK, and before the server has sent it again.
    late.ack();
    let ids = [1, 2].map(|id| PacketId::new(id).expect("not 0"));
    for (payload, id) in [("early", ids[0]), ("late", ids[1])] {
        peer.publish_again("in", payload, QoS::ExactlyOnce, id.get())
            .await;
        assert_eq!(peer.expect().await, Packet::PubRec(Ack::success(id)));
    }
    assert_pending(messages.recv()).await;
    // A new message under an id that was in use is a new message.
    peer.write(Packet::PubRel(Ack::success(ids[1]))).await;
    assert_eq!(peer.expect().await, Packet::PubComp(Ack::success(ids[1])));
    peer.publish("in", "new", QoS::ExactlyOnce, 2).await;
    assert_eq!(messages.recv().await.expect("a message").payload(), b"new");
}
