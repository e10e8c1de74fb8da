//! Nothing accepted is lost over links that are cut, frozen links and a broker that is restarted.

use std::path::Path;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use whimbrel_client::codec::{ProtocolVersion, QoS};
use whimbrel_client::outbox::OutboxOptions;
use whimbrel_client::{Client, ConnectionState, Options, Reconnect};
use whimbrel_interop::{Proxy, Server, numbers_arrive};

const PATIENCE: Duration = Duration::from_secs(60);
const VERSIONS: [ProtocolVersion; 2] = [ProtocolVersion::V311, ProtocolVersion::V5];

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

fn client(proxy: &Proxy, version: ProtocolVersion, client_id: &str) -> Client {
    Client::spawn(options(proxy, version, client_id)).expect("valid options")
}

/// A client that keeps its session in a file.
fn keeping(proxy: &Proxy, version: ProtocolVersion, client_id: &str, directory: &Path) -> Client {
    let path = directory.join(client_id);
    let options = options(proxy, version, client_id).outbox(path, OutboxOptions::default());
    Client::spawn(options).expect("an outbox")
}

/// Each link ends after another number of bytes, in the middle of a packet.
async fn cut(proxy: &Proxy) {
    for cut in 0..20 {
        proxy.cut_after(200 + 397 * cut);
        sleep(Duration::from_millis(15)).await;
        proxy.cut();
    }
    proxy.cut_after(u64::MAX);
    proxy.cut();
}

async fn restart(proxy: &Proxy, directory: &Path, mut server: Server) -> Server {
    for _ in 0..3 {
        sleep(Duration::from_millis(60)).await;
        proxy.cut();
        server.stop().await;
        server = Server::start_in(directory).await;
        proxy.set_server(server.address());
    }
    server
}

#[tokio::test]
async fn nothing_is_lost_over_links_that_are_cut() {
    let server = Server::start().await;
    for version in VERSIONS {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let proxy = Proxy::start(server.address()).await;
            let publisher = client(&proxy, version, &format!("publisher-{version}-{qos:?}"));
            let subscriber = client(&proxy, version, &format!("subscriber-{version}-{qos:?}"));
            numbers_arrive(publisher, subscriber, qos, cut(&proxy)).await;
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn nothing_is_lost_of_what_an_outbox_keeps_over_links_that_are_cut() {
    let server = Server::start().await;
    for version in VERSIONS {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let directory = tempfile::tempdir().expect("a directory");
            let proxy = Proxy::start(server.address()).await;
            let publisher = format!("publisher-{version}-{qos:?}");
            let publisher = keeping(&proxy, version, &publisher, directory.path());
            let subscriber = format!("subscriber-{version}-{qos:?}");
            let subscriber = keeping(&proxy, version, &subscriber, directory.path());
            numbers_arrive(publisher, subscriber, qos, cut(&proxy)).await;
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn nothing_is_lost_over_restarts_of_the_broker() {
    for version in VERSIONS {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let directory = tempfile::tempdir().expect("a directory");
            let server = Server::start_in(directory.path()).await;
            let proxy = Proxy::start(server.address()).await;
            let publisher = client(&proxy, version, "publisher");
            let subscriber = client(&proxy, version, "subscriber");
            let mut last = None;
            let fail = async { last = Some(restart(&proxy, directory.path(), server).await) };
            numbers_arrive(publisher, subscriber, qos, fail).await;
            last.expect("restarted").stop().await;
        }
    }
}

#[tokio::test]
async fn nothing_is_lost_over_a_broker_that_forgets_everything_but_what_it_had_taken() {
    // Each of its lives knows no session: what is open goes out anew, from an outbox too.
    let server = Server::start().await;
    let directory = tempfile::tempdir().expect("a directory");
    let proxy = Proxy::start(server.address()).await;
    let publisher = keeping(&proxy, ProtocolVersion::V5, "publisher", directory.path());
    let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce];
    let receipts = (0..400).map(|number: usize| {
        let publish = publisher
            .publish("n", number.to_string())
            .qos(qos[number % 2]);
        publish.try_enqueue().expect("room")
    });
    let receipts: Vec<_> = receipts.collect();
    let mut server = Some(server);
    for _ in 0..3 {
        sleep(Duration::from_millis(10)).await;
        proxy.cut();
        server.take().expect("running").stop().await;
        let next = Server::start().await;
        proxy.set_server(next.address());
        server = Some(next);
    }
    for receipt in receipts {
        timeout(PATIENCE, receipt)
            .await
            .expect("in time")
            .expect("acknowledged");
    }
    assert_eq!(publisher.unacknowledged(), 0);
}

#[tokio::test]
async fn a_frozen_link_is_found_out_and_replaced() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.address()).await;
    let options = options(&proxy, ProtocolVersion::V5, "c")
        .keep_alive_secs(1)
        .ping_timeout(Duration::from_millis(500));
    let client = Client::spawn(options).expect("valid options");
    let connected = timeout(PATIENCE, client.connected()).await;
    connected.expect("in time").expect("accepted");
    proxy.freeze(true);
    let publish = client.publish("t", "m").qos(QoS::AtLeastOnce);
    let receipt = publish.try_enqueue().expect("room");
    let mut state = client.state();
    let lost = state.wait_for(|state| !matches!(state, ConnectionState::Connected(_)));
    drop(
        timeout(PATIENCE, lost)
            .await
            .expect("found out")
            .expect("a driver"),
    );
    proxy.freeze(false);
    let acknowledged = timeout(PATIENCE, receipt).await.expect("in time");
    acknowledged.expect("acknowledged");
    assert!(proxy.links() >= 2);
    server.stop().await;
}
