//! A server that is the test.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use whimbrel_client::codec::bytes::Bytes;
use whimbrel_client::codec::topic::TopicNameBuf;
use whimbrel_client::codec::{
    Ack, ConnAck, Connect, Delivery, Limits, Packet, PacketId, ProtocolVersion, Publish, QoS,
    ReasonCode, SubAck, Subscribe, SubscriptionId, UnsubAck, decode_owned,
};
use whimbrel_client::{ByteStream, Client, ConnectFuture, Options};

pub(crate) const V311: ProtocolVersion = ProtocolVersion::V311;
pub(crate) const V5: ProtocolVersion = ProtocolVersion::V5;

/// Where the client's links arrive.
pub(crate) struct Listener {
    links: mpsc::Receiver<DuplexStream>,
    version: ProtocolVersion,
}

/// The server's end of one link.
pub(crate) struct Peer {
    stream: DuplexStream,
    version: ProtocolVersion,
    input: Vec<u8>,
}

/// Options of a client whose links arrive at the listener.
pub(crate) fn options(version: ProtocolVersion) -> (Options, Listener) {
    let (sender, links) = mpsc::channel(16);
    let connector = move || -> ConnectFuture {
        let sender = sender.clone();
        Box::pin(async move {
            let (own, theirs) = tokio::io::duplex(64 * 1024);
            let refused = |_| io::Error::from(io::ErrorKind::ConnectionRefused);
            sender.try_send(theirs).map_err(refused)?;
            Ok(Box::new(own) as Box<dyn ByteStream>)
        })
    };
    let options = Options::with_connector(connector)
        .version(version)
        .client_id("c");
    (options, Listener { links, version })
}

/// A client that the server has accepted.
pub(crate) async fn connected(options: Options, listener: &mut Listener) -> (Client, Peer) {
    let client = Client::spawn(options).expect("valid options");
    let mut peer = listener.link().await;
    peer.accept(false).await;
    client.connected().await.expect("accepted");
    (client, peer)
}

/// Lets every task run until it waits: time is simulated, so this takes none.
pub(crate) async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// Asserts that a future is not over after everybody has done what they can.
pub(crate) async fn assert_pending<T: std::fmt::Debug>(future: impl Future<Output = T>) {
    let over = tokio::time::timeout(Duration::from_millis(5), future).await;
    assert!(over.is_err(), "{over:?}");
}

impl Listener {
    /// The next link, before any packet.
    pub(crate) async fn link(&mut self) -> Peer {
        let stream = self.links.recv().await.expect("the client connects");
        Peer {
            stream,
            version: self.version,
            input: Vec::new(),
        }
    }

    /// Asserts that the client makes no link for so long.
    pub(crate) async fn stays_quiet(&mut self, time: Duration) {
        let link = tokio::time::timeout(time, self.links.recv()).await;
        assert!(link.is_err(), "the client connected");
    }
}

impl Peer {
    /// The next packet, or `None` at the end of the stream.
    pub(crate) async fn read(&mut self) -> Option<Packet> {
        loop {
            let input = Bytes::copy_from_slice(&self.input);
            let decoded =
                decode_owned(&input, self.version, &Limits::DEFAULT).expect("valid packets");
            if let Some(decoded) = decoded {
                self.input.drain(..decoded.length);
                return Some(decoded.packet);
            }
            let mut buffer = [0; 4096];
            let count = self.stream.read(&mut buffer).await.ok()?;
            if count == 0 {
                return None;
            }
            self.input.extend(&buffer[..count]);
        }
    }

    pub(crate) async fn expect(&mut self) -> Packet {
        self.read().await.expect("a packet")
    }

    pub(crate) async fn expect_connect(&mut self) -> Connect {
        match self.expect().await {
            Packet::Connect(connect) => *connect,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn expect_publish(&mut self) -> Publish {
        match self.expect().await {
            Packet::Publish(publish) => publish,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn expect_subscribe(&mut self) -> Subscribe {
        match self.expect().await {
            Packet::Subscribe(subscribe) => subscribe,
            other => panic!("{other:?}"),
        }
    }

    /// Takes CONNECT and accepts it.
    pub(crate) async fn accept(&mut self, session_present: bool) -> Connect {
        let connect = self.expect_connect().await;
        let mut connack = ConnAck::new(ReasonCode::Success);
        connack.session_present = session_present;
        self.write(Packet::ConnAck(Box::new(connack))).await;
        connect
    }

    /// Takes SUBSCRIBE and grants what it asks for.
    pub(crate) async fn grant(&mut self) -> Subscribe {
        let subscribe = self.expect_subscribe().await;
        let granted = |qos| match qos {
            QoS::AtMostOnce => ReasonCode::Success,
            QoS::AtLeastOnce => ReasonCode::GrantedQos1,
            QoS::ExactlyOnce => ReasonCode::GrantedQos2,
        };
        let codes = subscribe
            .filters
            .iter()
            .map(|filter| granted(filter.options.qos));
        let codes = codes.collect();
        self.suback(subscribe.id, codes).await;
        subscribe
    }

    pub(crate) async fn suback(&mut self, id: PacketId, codes: Vec<ReasonCode>) {
        let properties = Default::default();
        self.write(Packet::SubAck(Box::new(SubAck {
            id,
            codes,
            properties,
        })))
        .await;
    }

    pub(crate) async fn unsuback(&mut self, id: PacketId) {
        let codes = if self.version.is_v5() {
            vec![ReasonCode::Success]
        } else {
            Vec::new()
        };
        let properties = Default::default();
        self.write(Packet::UnsubAck(Box::new(UnsubAck {
            id,
            codes,
            properties,
        })))
        .await;
    }

    pub(crate) async fn puback(&mut self, publish: &Publish) {
        let id = publish.packet_id().expect("QoS 1");
        self.write(Packet::PubAck(Ack::success(id))).await;
    }

    pub(crate) async fn pubrec(&mut self, publish: &Publish) {
        let id = publish.packet_id().expect("QoS 2");
        self.write(Packet::PubRec(Ack::success(id))).await;
    }

    pub(crate) async fn pubcomp(&mut self, id: PacketId) {
        self.write(Packet::PubComp(Ack::success(id))).await;
    }

    /// Publishes to the client.
    pub(crate) async fn publish(&mut self, topic: &str, payload: &str, qos: QoS, id: u16) {
        self.publish_for(topic, payload, qos, id, None).await;
    }

    /// Publishes to the client what it was sent on an earlier connection.
    pub(crate) async fn publish_again(&mut self, topic: &str, payload: &str, qos: QoS, id: u16) {
        let topic = TopicNameBuf::try_from(topic).expect("a topic");
        let id = PacketId::new(id).expect("not 0");
        let delivery = Delivery::first(qos, id).repeated();
        let publish = Publish::builder(topic).payload(payload.to_owned());
        self.write(Packet::Publish(publish.delivery(delivery).build()))
            .await;
    }

    pub(crate) async fn publish_for(
        &mut self,
        topic: &str,
        payload: &str,
        qos: QoS,
        id: u16,
        subscription_id: Option<SubscriptionId>,
    ) {
        let topic = TopicNameBuf::try_from(topic).expect("a topic");
        let id = PacketId::new(id).unwrap_or(PacketId::MIN);
        let mut builder = Publish::builder(topic)
            .payload(payload.to_owned())
            .delivery(Delivery::first(qos, id));
        if let Some(id) = subscription_id {
            builder = builder.subscription_id(id);
        }
        self.write(Packet::Publish(builder.build())).await;
    }

    pub(crate) async fn write(&mut self, packet: Packet) {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes).expect("encodable");
        self.stream
            .write_all(&bytes)
            .await
            .expect("the client reads");
    }

    /// Like [`write`](Self::write), where the client may be gone.
    pub(crate) async fn write_bytes(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }
}
