//! What MQTT 3.1.1 can't carry is refused, and what it can is the same.

use std::future::IntoFuture;

use whimbrel_client::SubscribeError;
use whimbrel_client::codec::{QoS, RetainHandling};

use crate::support::{V311, connected, options};

#[tokio::test(start_paused = true)]
async fn options_of_mqtt_5_are_refused_by_name() {
    let (options, mut listener) = options(V311);
    let (client, _peer) = connected(options, &mut listener).await;
    for (subscribe, name) in [
        (client.subscribe("t").no_local(true), "no local"),
        (
            client.subscribe("t").retain_as_published(true),
            "retain as published",
        ),
        (
            client
                .subscribe("t")
                .retain_handling(RetainHandling::DoNotSend),
            "retain handling",
        ),
    ] {
        let error = subscribe.await.expect_err("3.1.1");
        assert!(matches!(error, SubscribeError::NotInThisVersion { option } if option == name));
    }
}

#[tokio::test(start_paused = true)]
async fn a_clean_session_stays_one() {
    // [3:MQTT-3.1.2-6]
    let (options, mut listener) = options(V311);
    let (client, mut peer) = connected(options, &mut listener).await;
    let subscribing = tokio::spawn(client.subscribe("t").qos(QoS::AtMostOnce).into_future());
    peer.grant().await;
    let _messages = subscribing.await.expect("no panic").expect("granted");
    drop(peer);
    let mut peer = listener.link().await;
    assert!(peer.accept(false).await.clean_start);
    peer.grant().await;
}
