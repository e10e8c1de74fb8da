//! Publishing and subscribing against a Whimbrel broker.

use std::future::IntoFuture;
use std::time::Duration;

use tokio::time::timeout;
use whimbrel_client::codec::{ProtocolVersion, QoS, ReasonCode};
use whimbrel_client::{Client, Options};
use whimbrel_interop::Server;

const PATIENCE: Duration = Duration::from_secs(20);

fn options(server: &Server, version: ProtocolVersion) -> Options {
    Options::new("127.0.0.1", server.address().port()).version(version)
}

#[tokio::test]
async fn each_qos_resolves_at_its_last_acknowledgement() {
    let server = Server::start().await;
    for version in [ProtocolVersion::V311, ProtocolVersion::V5] {
        let client = Client::spawn(options(&server, version)).expect("valid options");
        let mut messages = timeout(PATIENCE, client.subscribe("a/+"))
            .await
            .expect("in time")
            .expect("granted");
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let published = timeout(PATIENCE, client.publish("a/b", "hello").qos(qos)).await;
            assert_eq!(
                published.expect("in time").expect("acknowledged"),
                ReasonCode::Success
            );
            let message = timeout(PATIENCE, messages.recv())
                .await
                .expect("in time")
                .expect("a message");
            assert_eq!(
                (message.topic().as_str(), message.payload(), message.qos()),
                ("a/b", &b"hello"[..], qos)
            );
        }
        timeout(PATIENCE, client.disconnect().into_future())
            .await
            .expect("in time")
            .expect("in order");
    }
    server.stop().await;
}
