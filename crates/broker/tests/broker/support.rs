//! A small MQTT client over any stream, and brokers to test.

use std::collections::HashSet;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use whimbrel_broker::codec::{
    Ack, ConnAck, Connect, Delivery, Limits, Packet, PacketId, ProtocolVersion, Publish, QoS,
    ReasonCode, Subscribe, SubscribeFilter, SubscriptionOptions, UserProperties, decode_ref,
};
use whimbrel_broker::core::placement;
use whimbrel_broker::topic::TopicNameBuf;
use whimbrel_broker::{Broker, BrokerConfig, BrokerStats, Builder};

/// How long anything may take before a test fails. Reached by no test that passes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) const SHARDS: usize = 3;
pub(crate) const PLACEMENT_SEED: u64 = 1;

pub(crate) fn config() -> BrokerConfig {
    let mut config = BrokerConfig::default();
    config.core.shards = SHARDS;
    config.core.placement_seed = PLACEMENT_SEED;
    config.system_interval = None;
    config
}

/// A broker on a free port.
pub(crate) fn builder() -> Builder {
    Broker::builder()
        .config(config())
        .listen("tcp://127.0.0.1:0".parse().expect("an address"))
}

pub(crate) async fn start(builder: Builder) -> Broker {
    builder.start().await.expect("the broker starts")
}

pub(crate) fn address(broker: &Broker) -> SocketAddr {
    broker.local_addrs()[0]
}

/// Client ids whose sessions are on different shards, one for each.
pub(crate) fn client_id_per_shard() -> Vec<String> {
    let mut seen = HashSet::new();
    (0..)
        .map(|number| format!("client-{number}"))
        .filter(|id| seen.insert(placement(id, PLACEMENT_SEED, SHARDS)))
        .take(SHARDS)
        .collect()
}

/// Fails the test instead of waiting for ever.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// Waits until the broker's figures are as `wanted`.
pub(crate) async fn until_stats(
    broker: &Broker,
    wanted: impl Fn(&BrokerStats) -> bool,
) -> BrokerStats {
    let reached = async {
        loop {
            let stats = broker.stats().await;
            if wanted(&stats) {
                return stats;
            }
            tokio::task::yield_now().await;
        }
    };
    match timeout(PATIENCE, reached).await {
        Ok(stats) => stats,
        Err(_) => panic!("never reached, now {:?}", broker.stats().await),
    }
}

/// An MQTT client that does what it is told and nothing else.
pub(crate) struct Client<S = TcpStream> {
    io: S,
    version: ProtocolVersion,
    input: Vec<u8>,
    last_id: u16,
}

impl Client {
    /// Connects with a clean start, in MQTT 5.
    pub(crate) async fn connect(broker: &Broker, client_id: &str) -> Self {
        let (client, _) = Self::connect_with(broker, connect(client_id)).await;
        client
    }

    /// Connects, and succeeds.
    pub(crate) async fn connect_with(broker: &Broker, connect: Connect) -> (Self, ConnAck) {
        let mut client = Self::open(broker, connect.version).await;
        let connack = client.handshake(connect).await;
        assert_eq!(connack.reason, ReasonCode::Success);
        (client, connack)
    }

    /// Connects, and is refused.
    pub(crate) async fn refused(broker: &Broker, connect: Connect) -> ReasonCode {
        let mut client = Self::open(broker, connect.version).await;
        let connack = client.handshake(connect).await;
        client.expect_end().await;
        connack.reason
    }

    /// A connection without a CONNECT.
    pub(crate) async fn open(broker: &Broker, version: ProtocolVersion) -> Self {
        let stream = TcpStream::connect(address(broker)).await;
        Self::over(stream.expect("the broker listens"), version)
    }

    /// Closes with a reset, as a vanished process would.
    pub(crate) fn abort(self) {
        self.io.set_zero_linger().expect("a connected socket");
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) fn over(io: S, version: ProtocolVersion) -> Self {
        Self {
            io,
            version,
            input: Vec::new(),
            last_id: 0,
        }
    }

    pub(crate) fn into_inner(self) -> S {
        self.io
    }

    pub(crate) async fn handshake(&mut self, connect: Connect) -> ConnAck {
        self.send(Packet::Connect(Box::new(connect))).await;
        match self.receive().await {
            Packet::ConnAck(connack) => *connack,
            other => panic!("not a CONNACK: {other:?}"),
        }
    }

    pub(crate) async fn send(&mut self, packet: Packet) {
        let mut bytes = Vec::new();
        packet
            .encode(self.version, &mut bytes)
            .expect("a packet that can be encoded");
        self.send_bytes(&bytes).await;
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        within("the broker to read", self.io.write_all(bytes))
            .await
            .expect("the connection is open");
    }

    /// The next packet.
    pub(crate) async fn receive(&mut self) -> Packet {
        within("a packet", self.next())
            .await
            .expect("a packet and not the end of the connection")
    }

    /// The end of the connection, and no packet before it.
    pub(crate) async fn expect_end(&mut self) {
        let next = within("the end of the connection", self.next()).await;
        assert_eq!(next, None);
    }

    /// The next packet is a DISCONNECT, and the connection ends with it.
    pub(crate) async fn expect_disconnect(&mut self) -> ReasonCode {
        match self.receive().await {
            Packet::Disconnect(disconnect) => {
                self.expect_end().await;
                disconnect.reason
            }
            other => panic!("not a DISCONNECT: {other:?}"),
        }
    }

    /// The next packet, acknowledged if it asks for it, is a PUBLISH.
    pub(crate) async fn expect_publish(&mut self) -> Publish {
        match self.receive().await {
            Packet::Publish(publish) => {
                if let Delivery::AtLeastOnce { id, .. } = publish.delivery() {
                    self.send(Packet::PubAck(Ack::success(id))).await;
                }
                publish
            }
            other => panic!("not a PUBLISH: {other:?}"),
        }
    }

    /// Nothing was sent before the answer to a ping.
    pub(crate) async fn expect_silence(&mut self) {
        self.send(Packet::PingReq).await;
        assert_eq!(self.receive().await, Packet::PingResp);
    }

    /// Subscribes to one filter, and is granted it.
    pub(crate) async fn subscribe(&mut self, filter: &str, qos: QoS) {
        let code = self.try_subscribe(filter, qos).await;
        assert_eq!(code, ReasonCode::granted(qos));
    }

    pub(crate) async fn try_subscribe(&mut self, filter: &str, qos: QoS) -> ReasonCode {
        let id = self.next_id();
        self.send(Packet::Subscribe(Subscribe {
            id,
            filters: vec![SubscribeFilter {
                filter: filter.into(),
                options: SubscriptionOptions::new(qos),
            }],
            subscription_id: None,
            user_properties: UserProperties::new(),
        }))
        .await;
        match self.receive().await {
            Packet::SubAck(suback) => {
                assert_eq!(suback.id, id);
                suback.codes[0]
            }
            other => panic!("not a SUBACK: {other:?}"),
        }
    }

    /// Publishes with `QoS` 1 and says what PUBACK said.
    pub(crate) async fn publish(&mut self, topic: &str, payload: &[u8]) -> ReasonCode {
        let publish = self.message(topic, payload);
        self.publish_packet(publish).await
    }

    pub(crate) async fn publish_retained(&mut self, topic: &str, payload: &[u8]) -> ReasonCode {
        let id = self.next_id();
        let publish = Publish::builder(topic_name(topic))
            .payload(payload.to_vec())
            .delivery(Delivery::AtLeastOnce { id, dup: false })
            .retain(true)
            .build();
        self.publish_packet(publish).await
    }

    /// A PUBLISH with `QoS` 1.
    pub(crate) fn message(&mut self, topic: &str, payload: &[u8]) -> Publish {
        let id = self.next_id();
        Publish::builder(topic_name(topic))
            .payload(payload.to_vec())
            .delivery(Delivery::AtLeastOnce { id, dup: false })
            .build()
    }

    async fn publish_packet(&mut self, publish: Publish) -> ReasonCode {
        let id = publish.delivery().packet_id();
        self.send(Packet::Publish(publish)).await;
        match self.receive().await {
            Packet::PubAck(ack) => {
                assert_eq!(Some(ack.id), id);
                ack.reason
            }
            other => panic!("not a PUBACK: {other:?}"),
        }
    }

    pub(crate) async fn disconnect(mut self) {
        self.send(Packet::Disconnect(Box::default())).await;
        self.expect_end().await;
    }

    fn next_id(&mut self) -> PacketId {
        self.last_id += 1;
        PacketId::new(self.last_id).expect("fewer packets than ids")
    }

    async fn next(&mut self) -> Option<Packet> {
        loop {
            let decoded = decode_ref(&self.input, self.version, &Limits::PROTOCOL)
                .expect("the broker sends valid packets");
            if let Some(decoded) = decoded {
                let length = decoded.length;
                let packet = decoded.packet.into_owned();
                self.input.drain(..length);
                return Some(packet);
            }
            match self.io.read_buf(&mut self.input).await {
                Ok(count) if count > 0 => {}
                Ok(_) => return None,
                Err(error) => panic!("the connection broke: {error}"),
            }
        }
    }
}

/// A CONNECT of MQTT 5 with a clean start.
pub(crate) fn connect(client_id: &str) -> Connect {
    Connect::new(ProtocolVersion::V5, client_id)
}

pub(crate) fn topic_name(name: &str) -> TopicNameBuf {
    name.try_into().expect("a valid topic name")
}
