//! What was accepted survives the process.

use std::path::Path;
use std::time::Duration;

use tokio::task::JoinHandle;
use whimbrel_client::codec::{Ack, MessageProperties, Packet, ProtocolVersion, QoS};
use whimbrel_client::outbox::OutboxOptions;
use whimbrel_client::{Client, Closed, Options, OptionsError, PublishError};

use crate::support::{Listener, V5, V311, assert_pending, options, settle};

/// A process: gone without a word when its driver is aborted.
struct Process {
    client: Client,
    driver: JoinHandle<Closed>,
    listener: Listener,
}

fn process(version: ProtocolVersion, path: &Path) -> Process {
    let (options, listener) = options(version);
    let (client, driver) =
        Client::new(options.outbox(path, OutboxOptions::default())).expect("an outbox");
    Process {
        client,
        driver: tokio::spawn(driver.run()),
        listener,
    }
}

impl Process {
    async fn dies(self) {
        self.driver.abort();
        let _ = self.driver.await;
    }

    fn accept(&self, payload: &'static str, qos: QoS) {
        drop(
            self.client
                .publish("t", payload)
                .qos(qos)
                .try_enqueue()
                .expect("room"),
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_accepted_without_a_connection_goes_out_in_order_from_the_next_process() {
    for version in [V311, V5] {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("outbox");
        let first = process(version, &path);
        first.accept("1", QoS::AtLeastOnce);
        first.accept("lost", QoS::AtMostOnce);
        first.accept("2", QoS::ExactlyOnce);
        first.dies().await;
        let second = process(version, &path);
        second.accept("3", QoS::AtLeastOnce);
        second.dies().await;
        let mut third = process(version, &path);
        assert_eq!(third.client.unacknowledged(), 3);
        let mut peer = third.listener.link().await;
        assert!(!peer.accept(false).await.clean_start);
        for payload in [b"1", b"2", b"3"] {
            let publish = peer.expect_publish().await;
            assert_eq!(publish.payload(), payload);
            assert!(!publish.delivery().dup());
            if publish.qos() == QoS::ExactlyOnce {
                peer.pubrec(&publish).await;
            } else {
                peer.puback(&publish).await;
            }
        }
        let Packet::PubRel(release) = peer.expect().await else {
            panic!("PUBREL");
        };
        peer.pubcomp(release.id).await;
        settle().await;
        assert_eq!(third.client.unacknowledged(), 0);
        third.dies().await;
        assert_eq!(process(version, &path).client.unacknowledged(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn qos_2_goes_on_where_the_process_was() {
    // [3:MQTT-4.4.0-1] [5:MQTT-4.4.0-1]
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("outbox");
    let mut first = process(V5, &path);
    let mut peer = first.listener.link().await;
    peer.accept(true).await;
    first.accept("sent", QoS::ExactlyOnce);
    first.accept("taken", QoS::ExactlyOnce);
    let sent = peer.expect_publish().await;
    let taken = peer.expect_publish().await;
    peer.pubrec(&taken).await;
    assert!(matches!(peer.expect().await, Packet::PubRel(_)));
    first.dies().await;
    let mut second = process(V5, &path);
    let mut peer = second.listener.link().await;
    peer.accept(true).await;
    let id = taken.packet_id().expect("QoS 2");
    assert_eq!(peer.expect().await, Packet::PubRel(Ack::success(id)));
    let again = peer.expect_publish().await;
    assert_eq!(
        (again.payload(), again.packet_id()),
        (&b"sent"[..], sent.packet_id())
    );
    assert!(again.delivery().dup());
    peer.pubcomp(id).await;
    peer.pubrec(&again).await;
    assert!(matches!(peer.expect().await, Packet::PubRel(_)));
    peer.pubcomp(again.packet_id().expect("QoS 2")).await;
    settle().await;
    assert_eq!(second.client.unacknowledged(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_qos_2_message_that_was_taken_is_not_taken_again_by_the_next_process() {
    // [5:MQTT-4.3.3-10]
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("outbox");
    let mut first = process(V5, &path);
    let mut unclaimed = first.client.unclaimed().expect("held by nobody");
    let mut peer = first.listener.link().await;
    peer.accept(true).await;
    peer.publish("in", "once", QoS::ExactlyOnce, 9).await;
    assert_eq!(
        unclaimed.recv().await.expect("a message").payload(),
        b"once"
    );
    assert_pending(unclaimed.recv()).await;
    assert!(matches!(peer.expect().await, Packet::PubRec(_)));
    first.dies().await;
    drop(unclaimed);
    let mut second = process(V5, &path);
    let mut unclaimed = second.client.unclaimed().expect("held by nobody");
    let mut peer = second.listener.link().await;
    peer.accept(true).await;
    peer.publish("in", "once", QoS::ExactlyOnce, 9).await;
    assert!(matches!(peer.expect().await, Packet::PubRec(_)));
    assert_pending(unclaimed.recv()).await;
}

#[tokio::test(start_paused = true)]
async fn an_expiry_interval_counts_over_the_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("outbox");
    let first = process(V5, &path);
    let expiring = MessageProperties::builder()
        .message_expiry_secs(3_600)
        .build()
        .expect("valid");
    let publish = first
        .client
        .publish("t", "m")
        .qos(QoS::AtLeastOnce)
        .properties(expiring);
    drop(publish.try_enqueue().expect("room"));
    first.dies().await;
    let mut second = process(V5, &path);
    let mut peer = second.listener.link().await;
    peer.accept(false).await;
    let left = peer
        .expect_publish()
        .await
        .properties()
        .message_expiry_secs()
        .expect("an expiry");
    assert!((3_590..=3_600).contains(&left), "{left}");
}

#[tokio::test(start_paused = true)]
async fn a_full_outbox_holds_back_until_something_is_acknowledged() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("outbox");
    let mut kept = OutboxOptions::default();
    kept.bytes_max = 300;
    let (options, mut listener) = options(V5);
    let client = Client::spawn(options.outbox(&path, kept)).expect("an outbox");
    let publish = || client.publish("t", vec![0; 100]).qos(QoS::AtLeastOnce);
    let first = publish().try_enqueue().expect("room");
    assert!(matches!(
        publish().try_enqueue(),
        Err(PublishError::QueueFull)
    ));
    let mut waiting = publish().enqueue();
    assert_pending(&mut waiting).await;
    let mut peer = listener.link().await;
    peer.accept(false).await;
    let sent = peer.expect_publish().await;
    peer.puback(&sent).await;
    first.await.expect("acknowledged");
    let second = waiting.await.expect("room");
    let sent = peer.expect_publish().await;
    peer.puback(&sent).await;
    second.await.expect("acknowledged");
    let large = client
        .publish("t", vec![0; 1_000])
        .qos(QoS::AtLeastOnce)
        .await;
    assert!(matches!(large, Err(PublishError::Outbox(_))), "{large:?}");
}

#[tokio::test(start_paused = true)]
async fn an_outbox_belongs_to_one_client_at_a_time() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("outbox");
    let plain = || Options::new("127.0.0.1", 1).client_id("c");
    let kept = OutboxOptions::default();
    let (client, driver) = Client::new(plain().outbox(&path, kept)).expect("an outbox");
    assert!(matches!(
        Client::new(plain().outbox(&path, kept)),
        Err(OptionsError::Outbox(_))
    ));
    drop((client, driver));
    tokio::time::sleep(Duration::from_millis(1)).await;
    let other = Client::new(plain().client_id("d").outbox(&path, kept));
    assert!(matches!(other, Err(OptionsError::Outbox(_))));
    let nameless = Client::new(plain().client_id("").outbox(&path, kept));
    assert!(matches!(nameless, Err(OptionsError::ClientIdMissing)));
}
