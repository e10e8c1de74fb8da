//! How connections and brokers end.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use whimbrel_broker::codec::{Connect, Packet, ProtocolVersion, QoS, ReasonCode};
use whimbrel_broker::{Broker, StartError, Stopped};

use crate::support::{
    Client, address, builder, client_id_per_shard, config, connect, start, until_stats, within,
};

#[tokio::test]
async fn shutdown_tells_mqtt_5_clients_and_ends_every_connection() {
    let broker = start(builder()).await;
    let mut v5 = Vec::new();
    for id in client_id_per_shard() {
        v5.push(Client::connect(&broker, &id).await);
    }
    let (mut v311, _) =
        Client::connect_with(&broker, Connect::new(ProtocolVersion::V311, "old")).await;
    let stopping = broker.clone();
    let shutdown = tokio::spawn(async move { stopping.shutdown().await });
    for client in &mut v5 {
        assert_eq!(
            client.expect_disconnect().await,
            ReasonCode::ServerShuttingDown
        );
    }
    v311.expect_end().await;
    let stopped = within("the shutdown", shutdown).await.expect("no panic");
    assert_eq!(stopped, Stopped::Orderly);
    assert!(TcpStream::connect(address(&broker)).await.is_err());
}

#[tokio::test]
async fn shutdown_writes_what_is_queued_in_output_buffers() {
    let broker = start(builder()).await;
    let ids = client_id_per_shard();
    let mut subscriber = Client::connect(&broker, &ids[0]).await;
    subscriber.subscribe("last", QoS::AtMostOnce).await;
    let mut publisher = Client::connect(&broker, &ids[1]).await;
    publisher.publish("last", b"words").await;
    until_stats(&broker, |stats| stats.shards.publishes_sent == 1).await;
    let shutdown = broker.shutdown();
    let reading = async {
        assert_eq!(subscriber.expect_publish().await.payload(), b"words");
        subscriber.expect_disconnect().await
    };
    let (_, reason) = within("the shutdown", async { tokio::join!(shutdown, reading) }).await;
    assert_eq!(reason, ReasonCode::ServerShuttingDown);
}

#[tokio::test]
async fn shutdown_does_not_wait_for_clients_that_do_not_read() {
    let mut config = config();
    config.close_timeout = Duration::from_millis(50);
    let broker = start(builder().config(config)).await;
    let mut stuck = Client::connect(&broker, "stuck").await;
    stuck.subscribe("flood", QoS::AtMostOnce).await;
    let mut publisher = Client::connect(&broker, "publisher").await;
    for _ in 0..200 {
        publisher.publish("flood", &[0; 65_536]).await;
    }
    let stopped = within("the shutdown", broker.shutdown()).await;
    assert_eq!(stopped, Stopped::Orderly);
}

#[tokio::test]
async fn dropping_the_last_handle_stops_the_broker() {
    let broker = start(builder()).await;
    let mut client = Client::connect(&broker, "client").await;
    drop(broker);
    client.expect_end().await;
}

#[tokio::test]
async fn shutdown_may_be_called_by_several_and_again() {
    let broker = start(builder()).await;
    let (first, second) = tokio::join!(broker.shutdown(), broker.shutdown());
    assert_eq!((first, second), (Stopped::Orderly, Stopped::Orderly));
    assert_eq!(broker.shutdown().await, Stopped::Orderly);
    assert_eq!(broker.stats().await.shards, Default::default());
}

#[tokio::test]
async fn a_protocol_error_is_explained_even_to_a_client_that_goes_on_sending() {
    let broker = start(builder()).await;
    let mut stream = TcpStream::connect(address(&broker)).await.expect("open");
    let mut bytes = Vec::new();
    for packet in [connect("chatty"), connect("chatty")] {
        Packet::Connect(Box::new(packet))
            .encode(ProtocolVersion::V5, &mut bytes)
            .expect("valid");
    }
    // What follows the error is never wanted; closing with it unread would reset the connection and
    // take the DISCONNECT away from the client.
    bytes.resize(bytes.len() + 300_000, 0xC0);
    let (mut reading, mut writing) = stream.split();
    let mut received = Vec::new();
    let (read, _) = within("the end", async {
        tokio::join!(
            reading.read_to_end(&mut received),
            writing.write_all(&bytes)
        )
    })
    .await;
    read.expect("the end, and no reset");
    // DISCONNECT, protocol error [5:MQTT-3.1.0-2].
    assert_eq!(received[received.len() - 3..], [0xE0, 1, 0x82]);
}

#[tokio::test]
async fn memory_of_ended_connections_comes_back() {
    let broker = start(builder()).await;
    for round in 0..3 {
        let mut clients = Vec::new();
        for number in 0..50 {
            let mut client = Client::connect(&broker, &format!("{round}-{number}")).await;
            client.subscribe("all", QoS::AtMostOnce).await;
            clients.push(client);
        }
        drop(clients);
        let stats = until_stats(&broker, |stats| stats.shards.connections == 0).await;
        assert_eq!((stats.shards.sessions, stats.shards.subscriptions), (0, 0));
    }
    assert!(broker.stats().await.connections_high >= 50);
}

#[tokio::test]
async fn a_listener_beyond_loopback_needs_an_authenticator_or_a_word() {
    let listening = |config| {
        Broker::builder()
            .config(config)
            .listen("tcp://0.0.0.0:0".parse().expect("an address"))
            .start()
    };
    let error = listening(config())
        .await
        .expect_err("nobody checks clients");
    assert!(
        matches!(error, StartError::AnonymousBeyondLoopback { .. }),
        "{error}"
    );
    let mut open = config();
    open.allow_anonymous = true;
    listening(open).await.expect("allowed").shutdown().await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_a_start_error_and_leaves_nothing_behind() {
    let broker = start(builder()).await;
    let taken = format!("tcp://{}", address(&broker))
        .parse()
        .expect("an address");
    let error = builder().listen(taken).start().await.expect_err("taken");
    let StartError::Listen { source, .. } = error else {
        panic!("unexpected {error}");
    };
    assert_eq!(source.kind(), std::io::ErrorKind::AddrInUse);
}

#[test]
fn a_broker_starts_and_stops_without_a_runtime_of_the_caller() {
    let done = std::thread::spawn(|| {
        block_on(async {
            let broker = start(builder()).await;
            broker.shutdown().await
        })
    });
    assert_eq!(done.join().expect("no panic"), Stopped::Orderly);
}

/// The smallest executor: parks the thread between polls.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    use std::sync::Arc;
    use std::task::{Context, Poll, Wake, Waker};

    struct Unpark(std::thread::Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
