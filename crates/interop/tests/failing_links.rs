//! Nothing accepted is lost over links that are cut, frozen links and a broker that is restarted.

use std::future::IntoFuture;
use std::path::Path;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use whimbrel_client::codec::{ProtocolVersion, QoS};
use whimbrel_client::{Client, ConnectionState, Options, Reconnect};
use whimbrel_interop::{Proxy, Server};

const PATIENCE: Duration = Duration::from_secs(60);
const VERSIONS: [ProtocolVersion; 2] = [ProtocolVersion::V311, ProtocolVersion::V5];

/// Messages that are published.
const COUNT: u32 = 2_000;

fn options(proxy: &Proxy, version: ProtocolVersion, client_id: &str) -> Options {
    let mut reconnect = Reconnect::default();
    reconnect.delay_min = Duration::from_millis(5);
    reconnect.delay_max = Duration::from_millis(50);
    Options::new("127.0.0.1", proxy.address().port())
        .version(version)
        .client_id(client_id)
        .clean_start(false)
        .reconnect(reconnect)
}

/// Publishes numbers in order while `fail` has its way, and checks what the subscriber has seen.
async fn numbers_arrive(
    version: ProtocolVersion,
    qos: QoS,
    fail: impl AsyncFnOnce(&Proxy, &Path, Server) -> Server,
) {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start_in(directory.path()).await;
    let proxy = Proxy::start(server.address()).await;
    let publisher = Client::spawn(options(&proxy, version, "publisher")).expect("valid options");
    let subscriber = Client::spawn(options(&proxy, version, "subscriber")).expect("valid options");
    let subscribed = timeout(PATIENCE, subscriber.subscribe("n").qos(qos).into_future()).await;
    let mut messages = subscribed.expect("in time").expect("granted");
    let publishing = tokio::spawn(async move {
        for number in 0..COUNT {
            let publish = publisher.publish("n", number.to_string()).qos(qos);
            let _receipt = publish.enqueue().await.expect("accepted");
            if number % 16 == 0 {
                sleep(Duration::from_millis(1)).await;
            }
        }
        publisher.disconnect().await
    });
    let receiving = tokio::spawn(async move {
        let (mut next, mut again) = (0_u32, 0);
        while next < COUNT {
            let message = messages.recv().await.expect("the client goes on");
            let text = std::str::from_utf8(message.payload()).expect("a number");
            let number: u32 = text.parse().expect("a number");
            assert!(number <= next, "{number} came before {next}");
            if number == next {
                next += 1;
            } else {
                again += 1;
            }
        }
        (again, subscriber)
    });
    let server = fail(&proxy, directory.path(), server).await;
    let published = timeout(PATIENCE, publishing).await.expect("in time");
    published.expect("no panic").expect("all is acknowledged");
    let received = timeout(PATIENCE, receiving).await.expect("nothing is lost");
    let (again, subscriber) = received.expect("in order");
    if qos == QoS::ExactlyOnce {
        assert_eq!(again, 0, "exactly once");
    }
    subscriber.disconnect().await.expect("in order");
    server.stop().await;
}

#[tokio::test]
async fn nothing_is_lost_over_links_that_are_cut() {
    for version in VERSIONS {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            numbers_arrive(version, qos, async |proxy: &Proxy, _: &Path, server| {
                // Each link ends after another number of bytes, in the middle of a packet.
                for cut in 0..20 {
                    proxy.cut_after(200 + 397 * cut);
                    sleep(Duration::from_millis(15)).await;
                    proxy.cut();
                }
                proxy.cut_after(u64::MAX);
                proxy.cut();
                server
            })
            .await;
        }
    }
}

#[tokio::test]
async fn nothing_is_lost_over_restarts_of_the_broker() {
    for version in VERSIONS {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            numbers_arrive(
                version,
                qos,
                async |proxy: &Proxy, directory: &Path, mut server: Server| {
                    for _ in 0..3 {
                        sleep(Duration::from_millis(60)).await;
                        proxy.cut();
                        server.stop().await;
                        server = Server::start_in(directory).await;
                        proxy.set_server(server.address());
                    }
                    server
                },
            )
            .await;
        }
    }
}

#[tokio::test]
async fn a_frozen_link_is_found_out_and_replaced() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.address()).await;
    let options = options(&proxy, ProtocolVersion::V5, "c")
        .keep_alive_secs(1)
        .ping_timeout(Duration::from_millis(500));
    let client = Client::spawn(options).expect("valid options");
    timeout(PATIENCE, client.connected())
        .await
        .expect("in time")
        .expect("accepted");
    proxy.freeze(true);
    let receipt = client
        .publish("t", "m")
        .qos(QoS::AtLeastOnce)
        .try_enqueue()
        .expect("room");
    let mut state = client.state();
    let lost = state.wait_for(|state| !matches!(state, ConnectionState::Connected(_)));
    timeout(PATIENCE, lost)
        .await
        .expect("found out")
        .expect("a driver");
    proxy.freeze(false);
    timeout(PATIENCE, receipt)
        .await
        .expect("in time")
        .expect("acknowledged");
    assert!(proxy.links() >= 2);
    server.stop().await;
}
