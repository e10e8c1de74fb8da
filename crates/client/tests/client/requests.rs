//! Requests and responses.

use std::future::IntoFuture;
use std::time::Duration;

use whimbrel_client::RequestError;
use whimbrel_client::codec::topic::TopicNameBuf;
use whimbrel_client::codec::{Ack, Delivery, MessageProperties, Packet, Publish, ReasonCode};

use crate::support::{Peer, V5, V311, connected, options};

async fn respond(peer: &mut Peer, request: &Publish, payload: &'static str) {
    let properties = request.properties();
    let data = properties.correlation_data().expect("correlation data");
    let topic = TopicNameBuf::from(properties.response_topic().expect("a response topic"));
    let properties = MessageProperties::builder()
        .correlation_data(data)
        .build()
        .expect("valid");
    let response = Publish::builder(topic)
        .payload(payload)
        .properties(&properties)
        .delivery(Delivery::AtMostOnce)
        .build();
    peer.write(Packet::Publish(response)).await;
}

#[tokio::test(start_paused = true)]
async fn responses_find_their_requests_whatever_their_order() {
    // [5:MQTT-4.10]
    let (options, mut listener) = options(V5);
    let (client, mut peer) = connected(options, &mut listener).await;
    let first = tokio::spawn(client.request("service", "1").into_future());
    let subscribe = peer.grant().await;
    let first_request = peer.expect_publish().await;
    let second = tokio::spawn(client.request("service", "2").into_future());
    let second_request = peer.expect_publish().await;
    let response_topic = first_request
        .properties()
        .response_topic()
        .expect("a topic");
    assert_eq!(subscribe.filters[0].filter, response_topic.as_str());
    respond(&mut peer, &second_request, "two").await;
    respond(&mut peer, &first_request, "one").await;
    let response = first.await.expect("no panic").expect("a response");
    assert_eq!(response.payload(), b"one");
    let response = second.await.expect("no panic").expect("a response");
    assert_eq!(response.payload(), b"two");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_nobody_answers_ends() {
    let (options, mut listener) = options(V5);
    let (client, mut peer) = connected(options, &mut listener).await;
    let request = client
        .request("service", "1")
        .timeout(Duration::from_secs(3));
    let request = tokio::spawn(request.into_future());
    peer.grant().await;
    let publish = peer.expect_publish().await;
    peer.puback(&publish).await;
    let error = request
        .await
        .expect("no panic")
        .expect_err("nobody answers");
    assert_eq!(error.to_string(), "no response within 3s");
    let request = tokio::spawn(client.request("service", "2").into_future());
    let publish = peer.expect_publish().await;
    let id = publish.packet_id().expect("QoS 1");
    peer.write(Packet::PubAck(Ack::new(
        id,
        ReasonCode::NoMatchingSubscribers,
    )))
    .await;
    let error = request
        .await
        .expect("no panic")
        .expect_err("nobody is there");
    assert!(matches!(error, RequestError::NoResponder), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_neighbour_is_dropped_is_still_woken() {
    let (options, mut listener) = options(V5);
    let (client, mut peer) = connected(options, &mut listener).await;
    let first = tokio::spawn(client.request("service", "1").into_future());
    peer.grant().await;
    let first_request = peer.expect_publish().await;
    let second = tokio::spawn(client.request("service", "2").into_future());
    peer.expect_publish().await;
    second.abort();
    respond(&mut peer, &first_request, "one").await;
    assert_eq!(
        first
            .await
            .expect("no panic")
            .expect("a response")
            .payload(),
        b"one"
    );
}

#[tokio::test(start_paused = true)]
async fn requests_need_mqtt_5() {
    let (options, mut listener) = options(V311);
    let (client, _peer) = connected(options, &mut listener).await;
    let error = client.request("service", "1").await.expect_err("3.1.1");
    assert!(matches!(error, RequestError::NotInThisVersion));
}
