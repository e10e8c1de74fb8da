//! One side of a connection driven by hand: packets in, packets and events out, at simulated time.

use std::num::NonZeroU16;

use whimbrel_session::codec::topic::TopicName;
use whimbrel_session::codec::{
    Ack, AckProperties, Auth, ConnAck, Connect, Disconnect, FanOut, FanOutBuffer, Limits, Packet,
    PacketId, Payload, ProtocolVersion, Publish, PublishProperties, PublishSource, QoS, ReasonCode,
    SubAck, UnsubAck, decode_ref,
};
use whimbrel_session::{
    Accept, AckToken, ClientConfig, ClientConnection, ClientEvent, Deliver, Epoch, Hold,
    InboundPublish, ProtocolError, PublishOptions, Redeliver, Refused, ResendRefused, Resent,
    ServerConfig, ServerConnection, ServerEvent, SessionState, Tick, TimeoutKind,
};

pub(crate) const VERSIONS: [ProtocolVersion; 3] = [
    ProtocolVersion::V31,
    ProtocolVersion::V311,
    ProtocolVersion::V5,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Server,
}

/// Both roles in every version: the tables of the protocol hold for all of them.
pub(crate) fn everywhere() -> impl Iterator<Item = (Role, ProtocolVersion)> {
    VERSIONS
        .into_iter()
        .flat_map(|version| [(Role::Client, version), (Role::Server, version)])
}

/// An event that outlives its input.
#[derive(Debug)]
pub(crate) enum Seen {
    Publish {
        topic: String,
        payload: String,
        token: Option<AckToken>,
    },
    Release {
        packet_id: PacketId,
        token: AckToken,
    },
    Received {
        packet_id: PacketId,
        token: AckToken,
    },
    Delivered {
        packet_id: PacketId,
        item: u32,
        reason: ReasonCode,
    },
    /// With how many filters.
    Subscribe {
        filters: usize,
        token: AckToken,
    },
    /// With how many filters.
    Unsubscribe {
        filters: usize,
        token: AckToken,
    },
    Auth(Auth),
    SubAck(SubAck),
    UnsubAck(UnsubAck),
    Disconnect(Disconnect),
}

impl Seen {
    /// The token of an event that needs an acknowledgement.
    pub(crate) fn token(self) -> AckToken {
        match self {
            Seen::Publish {
                token: Some(token), ..
            }
            | Seen::Release { token, .. }
            | Seen::Received { token, .. }
            | Seen::Subscribe { token, .. }
            | Seen::Unsubscribe { token, .. } => token,
            other => panic!("{other:?} has no token"),
        }
    }

    pub(crate) fn delivered(&self) -> (u16, u32, ReasonCode) {
        match self {
            Seen::Delivered {
                packet_id,
                item,
                reason,
            } => (packet_id.get(), *item, *reason),
            other => panic!("{other:?} is no end of an exchange"),
        }
    }

    fn publish(inbound: InboundPublish<'_>) -> Self {
        Seen::Publish {
            topic: inbound.topic.as_str().to_owned(),
            payload: String::from_utf8_lossy(inbound.publish.payload()).into_owned(),
            token: inbound.token,
        }
    }

    fn of_server(event: ServerEvent<'_, u32>) -> Self {
        match event {
            ServerEvent::Connect(_) => panic!("the harness answers CONNECT"),
            ServerEvent::Auth(auth) => Seen::Auth(auth.into_owned()),
            ServerEvent::Publish(inbound) => Seen::publish(inbound),
            ServerEvent::Release { packet_id, token } => Seen::Release { packet_id, token },
            ServerEvent::Received { packet_id, token } => Seen::Received { packet_id, token },
            ServerEvent::Delivered {
                packet_id,
                item,
                reason,
            } => Seen::Delivered {
                packet_id,
                item,
                reason,
            },
            ServerEvent::Subscribe { subscribe, token } => Seen::Subscribe {
                filters: subscribe.filters().len(),
                token,
            },
            ServerEvent::Unsubscribe { unsubscribe, token } => Seen::Unsubscribe {
                filters: unsubscribe.filters().len(),
                token,
            },
            ServerEvent::Disconnect(disconnect) => Seen::Disconnect(disconnect.into_owned()),
        }
    }

    fn of_client(event: ClientEvent<'_, u32>) -> Self {
        match event {
            ClientEvent::ConnAck(_) => panic!("the harness sends CONNACK"),
            ClientEvent::Auth(auth) => Seen::Auth(auth.into_owned()),
            ClientEvent::Publish(inbound) => Seen::publish(inbound),
            ClientEvent::Release { packet_id, token } => Seen::Release { packet_id, token },
            ClientEvent::Received { packet_id, token } => Seen::Received { packet_id, token },
            ClientEvent::Delivered {
                packet_id,
                item,
                reason,
                ..
            } => Seen::Delivered {
                packet_id,
                item,
                reason,
            },
            ClientEvent::SubAck(ack) => Seen::SubAck(ack.into_owned()),
            ClientEvent::UnsubAck(ack) => Seen::UnsubAck(ack.into_owned()),
            ClientEvent::Disconnected(disconnect) => Seen::Disconnect(disconnect.into_owned()),
        }
    }
}

/// The items of a session's open exchanges, in order.
pub(crate) fn items(session: SessionState<u32>) -> Vec<u32> {
    let exchanges = session.into_parts().exchanges;
    exchanges
        .into_iter()
        .map(|exchange| exchange.item)
        .collect()
}

/// What a test wants different from the defaults.
pub(crate) struct Setup {
    pub(crate) server: ServerConfig,
    pub(crate) client: ClientConfig,
    /// Sent by the client's side, whichever that is.
    pub(crate) connect: Connect,
    /// Sent by the server's side where that is the script.
    pub(crate) connack: ConnAck,
    pub(crate) session: Option<SessionState<u32>>,
    pub(crate) epoch: Epoch,
}

impl Setup {
    /// A persistent session that is not there yet, without keep alive.
    pub(crate) fn new(version: ProtocolVersion) -> Self {
        let mut connect = Connect::new(version, "c");
        connect.keep_alive_secs = 0;
        connect.clean_start = false;
        connect.properties.session_expiry_secs = if version.is_v5() { 3_600 } else { 0 };
        Self {
            server: ServerConfig::default(),
            client: ClientConfig::default(),
            connect,
            connack: ConnAck::new(ReasonCode::Success),
            session: None,
            epoch: Epoch(1),
        }
    }

    /// Limits what may be open towards the side under test's peer, in either role.
    pub(crate) fn peer_receive_maximum(mut self, maximum: u16) -> Self {
        let maximum = NonZeroU16::new(maximum).expect("not 0");
        if self.connect.version.is_v5() {
            self.connect.properties.receive_maximum = maximum;
            self.connack.properties.receive_maximum = maximum;
        } else {
            self.server.in_flight_max = maximum;
            self.client.in_flight_max = maximum;
        }
        self
    }

    /// Limits what the side under test accepts, in either role.
    pub(crate) fn own_receive_maximum(mut self, maximum: u16) -> Self {
        let maximum = NonZeroU16::new(maximum).expect("not 0");
        self.server.receive_maximum = maximum;
        self.client.receive_maximum = maximum;
        if self.connect.version.is_v5() {
            self.connect.properties.receive_maximum = maximum;
        }
        self
    }

    pub(crate) fn resuming(mut self, session: SessionState<u32>) -> Self {
        self.connack.session_present = true;
        self.session = Some(session);
        self.epoch = Epoch(2);
        self
    }

    /// Connects the side under test with a script as its peer.
    pub(crate) fn connect(self, role: Role) -> Driven {
        let version = self.connect.version;
        let mut driven = match role {
            Role::Server => Driven {
                side: Side::Server(ServerConnection::new(NOW, self.epoch, self.server)),
                now: NOW,
                version,
                input: Vec::new(),
                early: Vec::new(),
            },
            Role::Client => Driven {
                side: Side::Client(ClientConnection::new(self.epoch, &self.client)),
                now: NOW,
                version,
                input: Vec::new(),
                early: Vec::new(),
            },
        };
        match &mut driven.side {
            Side::Server(server) => {
                let bytes = encoded(&Packet::Connect(Box::new(self.connect)), version);
                let input = server.handle_input(NOW, &bytes).expect("a valid CONNECT");
                assert!(matches!(input.event, Some(ServerEvent::Connect(_))));
                let accept = match self.session {
                    Some(session) => Accept::resume(session),
                    None => Accept::new_session(),
                };
                server.accept(NOW, accept).expect("CONNECT waits");
            }
            Side::Client(client) => {
                let connect = client.connect(NOW, self.connect, self.session);
                connect.expect("the first CONNECT");
                let bytes = encoded(&Packet::ConnAck(Box::new(self.connack)), version);
                let input = client.handle_input(NOW, &bytes).expect("a valid CONNACK");
                assert!(matches!(input.event, Some(ClientEvent::ConnAck(_))));
            }
        }
        let mut handshake = driven.sent();
        let first = handshake.remove(0);
        assert!(matches!(first, Packet::Connect(_) | Packet::ConnAck(_)));
        driven.early = handshake;
        driven
    }
}

pub(crate) enum Side {
    Client(ClientConnection<u32>),
    Server(ServerConnection<u32>),
}

/// The side under test; its peer is the test.
pub(crate) struct Driven {
    pub(crate) side: Side,
    pub(crate) now: Tick,
    pub(crate) version: ProtocolVersion,
    input: Vec<u8>,
    /// What was sent right behind the handshake.
    early: Vec<Packet>,
}

impl Driven {
    pub(crate) fn connected(role: Role, version: ProtocolVersion) -> Self {
        Setup::new(version).connect(role)
    }

    /// Gives the side a packet of its peer.
    pub(crate) fn feed(&mut self, packet: &Packet) -> Result<Vec<Seen>, ProtocolError> {
        let bytes = encoded(packet, self.version);
        self.feed_bytes(&bytes)
    }

    /// Gives the side a packet that means exactly one event.
    pub(crate) fn feed_one(&mut self, packet: &Packet) -> Seen {
        let mut seen = self.feed(packet).expect("a valid packet");
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen.remove(0)
    }

    /// Gives the side a packet that means no event.
    pub(crate) fn feed_silent(&mut self, packet: &Packet) {
        let seen = self.feed(packet).expect("a valid packet");
        assert!(seen.is_empty(), "{seen:?}");
    }

    pub(crate) fn feed_bytes(&mut self, bytes: &[u8]) -> Result<Vec<Seen>, ProtocolError> {
        self.input.extend_from_slice(bytes);
        self.handle()
    }

    /// Goes on with what was fed and held back.
    pub(crate) fn handle(&mut self) -> Result<Vec<Seen>, ProtocolError> {
        let mut all = Vec::new();
        loop {
            let input = std::mem::take(&mut self.input);
            let (consumed, seen) = match &mut self.side {
                Side::Client(client) => {
                    let handled = client.handle_input(self.now, &input)?;
                    (handled.consumed, handled.event.map(Seen::of_client))
                }
                Side::Server(server) => {
                    let handled = server.handle_input(self.now, &input)?;
                    (handled.consumed, handled.event.map(Seen::of_server))
                }
            };
            self.input = input[consumed..].to_vec();
            all.extend(seen);
            if consumed == 0 || self.input.is_empty() {
                return Ok(all);
            }
        }
    }

    /// Why input that was fed is not looked at.
    pub(crate) fn hold(&mut self) -> Option<Hold> {
        match &mut self.side {
            Side::Client(client) => client.handle_input(self.now, &self.input).ok()?.hold,
            Side::Server(server) => server.handle_input(self.now, &self.input).ok()?.hold,
        }
    }

    /// Takes the packets out of the output.
    pub(crate) fn sent(&mut self) -> Vec<Packet> {
        let output = match &mut self.side {
            Side::Client(client) => client.output(),
            Side::Server(server) => server.output(),
        };
        let mut bytes = Vec::new();
        while !output.is_empty() {
            let chunk = output.chunk().to_vec();
            output.advance(chunk.len());
            bytes.extend(chunk);
        }
        let mut packets = std::mem::take(&mut self.early);
        packets.extend(decoded(&bytes, self.version));
        packets
    }

    /// Takes the one packet out of the output.
    pub(crate) fn sent_one(&mut self) -> Packet {
        let mut sent = self.sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.remove(0)
    }

    pub(crate) fn publish(&mut self, qos: QoS, item: u32) -> Result<(), Refused<u32>> {
        self.publish_payload(qos, item, item.to_string().as_bytes())
    }

    pub(crate) fn publish_payload(
        &mut self,
        qos: QoS,
        item: u32,
        payload: &[u8],
    ) -> Result<(), Refused<u32>> {
        let mut buffer = FanOutBuffer::new();
        let mut message = FanOut::new(source(payload), &mut buffer);
        match &mut self.side {
            Side::Client(client) => {
                let options = PublishOptions { qos, retain: false };
                client
                    .publish(self.now, &mut message, options, item)
                    .map(|_| ())
            }
            Side::Server(server) => {
                let deliver = Deliver {
                    qos,
                    ..Deliver::default()
                };
                server.deliver(&mut message, deliver, item)
            }
        }
    }

    /// Resends what may be resent now, and returns the items.
    pub(crate) fn resend(&mut self) -> Vec<u32> {
        let mut resent = Vec::new();
        while let Some(item) = self.next_resend() {
            match self.resend_payload(item.to_string().as_bytes()) {
                Ok(Resent::Sent) => resent.push(item),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        resent
    }

    pub(crate) fn next_resend(&mut self) -> Option<u32> {
        match &mut self.side {
            Side::Client(client) => client.next_resend(self.now).map(|next| *next.item),
            Side::Server(server) => server.next_resend().map(|next| *next.item),
        }
    }

    pub(crate) fn resend_payload(&mut self, payload: &[u8]) -> Result<Resent<u32>, ResendRefused> {
        let mut buffer = FanOutBuffer::new();
        let mut message = FanOut::new(source(payload), &mut buffer);
        let redeliver = Redeliver::default();
        match &mut self.side {
            Side::Client(client) => client.resend(self.now, &mut message, redeliver),
            Side::Server(server) => server.resend(&mut message, redeliver),
        }
    }

    pub(crate) fn abandon_resend(&mut self) -> Result<Resent<u32>, ResendRefused> {
        match &mut self.side {
            Side::Client(client) => client.abandon_resend(self.now),
            Side::Server(server) => server.abandon_resend(),
        }
    }

    pub(crate) fn is_resending(&self) -> bool {
        match &self.side {
            Side::Client(client) => client.is_resending(),
            Side::Server(server) => server.is_resending(),
        }
    }

    pub(crate) fn ack(&mut self, token: AckToken) {
        self.ack_with(token, ReasonCode::Success);
    }

    pub(crate) fn ack_with(&mut self, token: AckToken, reason: ReasonCode) {
        match &mut self.side {
            Side::Client(client) => client.ack(self.now, token, reason),
            Side::Server(server) => server.ack(token, reason),
        }
        .expect("a token of an exchange");
    }

    pub(crate) fn withhold(&mut self, token: AckToken) {
        match &mut self.side {
            Side::Client(client) => client.withhold(self.now, token),
            Side::Server(server) => server.withhold(token),
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        match &self.side {
            Side::Client(client) => client.in_flight(),
            Side::Server(server) => server.in_flight(),
        }
    }

    pub(crate) fn is_closing(&self) -> bool {
        match &self.side {
            Side::Client(client) => client.is_closing(),
            Side::Server(server) => server.is_closing(),
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Tick> {
        match &self.side {
            Side::Client(client) => client.poll_timeout(),
            Side::Server(server) => server.poll_timeout(),
        }
    }

    /// Lets time pass up to `now`, and returns why the connection ended, if it did.
    pub(crate) fn wait_until(&mut self, now: Tick) -> Option<TimeoutKind> {
        self.now = now;
        match &mut self.side {
            Side::Client(client) => client.handle_timeout(now),
            Side::Server(server) => server.handle_timeout(now),
        }
    }

    /// The connection is lost.
    pub(crate) fn lose(self) -> SessionState<u32> {
        match self.side {
            Side::Client(client) => client.into_state(),
            Side::Server(server) => server.into_state(),
        }
        .expect("the connection was accepted")
    }

    pub(crate) fn server(&mut self) -> &mut ServerConnection<u32> {
        match &mut self.side {
            Side::Server(server) => server,
            Side::Client(_) => panic!("the client is under test"),
        }
    }

    pub(crate) fn client(&mut self) -> &mut ClientConnection<u32> {
        match &mut self.side {
            Side::Client(client) => client,
            Side::Server(_) => panic!("the server is under test"),
        }
    }
}

pub(crate) fn id(number: u16) -> PacketId {
    PacketId::new(number).expect("not 0")
}

pub(crate) fn source(payload: &[u8]) -> PublishSource<'_> {
    PublishSource {
        topic: TopicName::new("t").expect("a valid name"),
        properties: PublishProperties::EMPTY,
        payload: Payload::Borrowed(payload),
        message_expiry_secs: None,
    }
}

pub(crate) fn encoded(packet: &Packet, version: ProtocolVersion) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes).expect("encodable");
    bytes
}

pub(crate) fn decoded(bytes: &[u8], version: ProtocolVersion) -> Vec<Packet> {
    let mut packets = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let decoded = decode_ref(rest, version, &Limits::PROTOCOL).expect("a valid packet");
        let decoded = decoded.expect("a complete packet");
        packets.push(decoded.packet.into_owned());
        rest = &rest[decoded.length..];
    }
    packets
}

/// A PUBLISH of the peer.
pub(crate) fn publish(qos: QoS, number: u16, payload: &str) -> Packet {
    let delivery = whimbrel_session::codec::Delivery::first(qos, id(number));
    Packet::Publish(message(payload).with_delivery(delivery))
}

/// A PUBLISH of the peer, sent again.
pub(crate) fn publish_again(qos: QoS, number: u16, payload: &str) -> Packet {
    let delivery = whimbrel_session::codec::Delivery::first(qos, id(number)).repeated();
    Packet::Publish(message(payload).with_delivery(delivery))
}

fn message(payload: &str) -> Publish {
    let topic = TopicName::new("t").expect("a valid name");
    Publish::builder(topic).payload(payload.to_owned()).build()
}

pub(crate) fn pub_ack(number: u16) -> Packet {
    Packet::PubAck(Ack::success(id(number)))
}

pub(crate) fn pub_rec(number: u16) -> Packet {
    Packet::PubRec(Ack::success(id(number)))
}

pub(crate) fn pub_rel(number: u16) -> Packet {
    Packet::PubRel(Ack::success(id(number)))
}

pub(crate) fn pub_comp(number: u16) -> Packet {
    Packet::PubComp(Ack::success(id(number)))
}

pub(crate) fn failed(number: u16, reason: ReasonCode) -> Ack {
    Ack {
        id: id(number),
        reason,
        properties: AckProperties::new(),
    }
}

/// `unknown` as an acknowledgement says it: 3.x has no reason codes.
pub(crate) fn not_found(number: u16, version: ProtocolVersion) -> Ack {
    if version.is_v5() {
        failed(number, ReasonCode::PacketIdentifierNotFound)
    } else {
        Ack::success(id(number))
    }
}

/// When connections of tests begin: not 0, so that a forgotten `now` shows.
pub(crate) const NOW: Tick = Tick(1_000_000);
