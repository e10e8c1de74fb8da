//! Against Debian's mosquitto, which forgets everything when it is killed.

use std::future::IntoFuture;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use whimbrel_client::codec::{ProtocolVersion, QoS};
use whimbrel_client::{Client, ConnectionState, Options, Reconnect};
use whimbrel_interop::Mosquitto;

const PATIENCE: Duration = Duration::from_secs(60);

fn client(mosquitto: &Mosquitto, version: ProtocolVersion, client_id: &str) -> Client {
    let mut reconnect = Reconnect::default();
    reconnect.delay_min = Duration::from_millis(5);
    reconnect.delay_max = Duration::from_millis(100);
    let options = Options::new("127.0.0.1", mosquitto.address().port())
        .version(version)
        .client_id(client_id)
        .clean_start(false)
        .reconnect(reconnect);
    Client::spawn(options).expect("valid options")
}

#[tokio::test]
async fn clients_outlive_a_broker_that_is_killed_under_load_and_forgets_them() {
    for version in [ProtocolVersion::V311, ProtocolVersion::V5] {
        let directory = tempfile::tempdir().expect("a directory");
        let mut mosquitto = Mosquitto::start(directory.path()).await;
        let subscriber = client(&mosquitto, version, "subscriber");
        let subscribed = timeout(PATIENCE, subscriber.subscribe("n/+").into_future()).await;
        let mut messages = subscribed.expect("in time").expect("granted");
        let publisher = client(&mosquitto, version, "publisher");
        let publishing = tokio::spawn(async move {
            for number in 0_u32..3_000 {
                let qos = if number % 2 == 0 {
                    QoS::AtLeastOnce
                } else {
                    QoS::ExactlyOnce
                };
                let publish = publisher.publish("n/load", number.to_string()).qos(qos);
                drop(publish.enqueue().await.expect("accepted"));
                if number % 8 == 0 {
                    sleep(Duration::from_millis(1)).await;
                }
            }
            publisher
        });
        for _ in 0..3 {
            sleep(Duration::from_millis(70)).await;
            mosquitto.kill();
            sleep(Duration::from_millis(20)).await;
            mosquitto.start_again().await;
        }
        let publisher = timeout(PATIENCE, publishing)
            .await
            .expect("in time")
            .expect("no panic");
        // The subscription is there again before this: what is published now arrives.
        let mut state = subscriber.state();
        let connected = state.wait_for(|state| matches!(state, ConnectionState::Connected(_)));
        drop(
            timeout(PATIENCE, connected)
                .await
                .expect("in time")
                .expect("a driver"),
        );
        let last = async {
            loop {
                let publish = publisher.publish("n/last", "last").qos(QoS::AtLeastOnce);
                publish.await.expect("acknowledged");
                let arrived = timeout(Duration::from_secs(1), async {
                    loop {
                        let message = messages.recv().await.expect("the client goes on");
                        if message.topic().as_str() == "n/last" {
                            break;
                        }
                    }
                });
                if arrived.await.is_ok() {
                    break;
                }
            }
        };
        timeout(PATIENCE, last)
            .await
            .expect("the subscription is back");
        // Everything that was accepted was acknowledged by one of its lives.
        timeout(PATIENCE, publisher.disconnect().into_future())
            .await
            .expect("in time")
            .expect("all is acknowledged");
        assert!(messages.ended().is_none());
    }
}

#[tokio::test]
async fn both_directions_and_all_qos_work_with_mosquitto() {
    let directory = tempfile::tempdir().expect("a directory");
    let mosquitto = Mosquitto::start(directory.path()).await;
    for version in [
        ProtocolVersion::V31,
        ProtocolVersion::V311,
        ProtocolVersion::V5,
    ] {
        let client = client(&mosquitto, version, &format!("both-{version}"));
        let subscribed = timeout(PATIENCE, client.subscribe("a/+").into_future()).await;
        let mut messages = subscribed.expect("in time").expect("granted");
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let published =
                timeout(PATIENCE, client.publish("a/b", "m").qos(qos).into_future()).await;
            published.expect("in time").expect("acknowledged");
            let message = timeout(PATIENCE, messages.recv())
                .await
                .expect("in time")
                .expect("a message");
            assert_eq!(message.qos(), qos);
        }
        timeout(PATIENCE, messages.unsubscribe())
            .await
            .expect("in time")
            .expect("acknowledged");
        timeout(PATIENCE, client.disconnect().into_future())
            .await
            .expect("in time")
            .expect("in order");
    }
}
