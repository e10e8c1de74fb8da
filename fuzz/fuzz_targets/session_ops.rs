//! Any operations on a server's and a client's connection, which hear each other and noise: the output is always valid
//! packets, limits hold, and every message that was sent comes back exactly once.
#![no_main]

use std::collections::BTreeSet;
use std::num::NonZeroU16;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use whimbrel_codec::bytes::Bytes;
use whimbrel_codec::topic::{ByteStr, TopicName};
use whimbrel_codec::{
    AckProperties, Authentication, Connect, Disconnect, FanOut, FanOutBuffer, Limits, Packet,
    PacketId, Payload, ProtocolVersion, PublishProperties, PublishSource, QoS, ReasonCode,
    SubscribeFilter, SubscriptionOptions, WriteBuf, decode_ref,
};
use whimbrel_session::{
    Accept, AckToken, ClientConfig, ClientConnection, ClientEvent, Deliver, Epoch, Exchange,
    PublishOptions, Redeliver, Resent, ServerConfig, ServerConnection, ServerEvent, SessionState,
    SubscribeRequest, Tick, UnsubscribeRequest,
};

#[derive(Arbitrary, Debug)]
struct Run {
    version: ProtocolVersion,
    /// Connections begin with their handshake done.
    connected: bool,
    clean_start: bool,
    /// CONNECT names an authentication method.
    enhanced: bool,
    /// Sessions are taken apart and put together between connections.
    stored: bool,
    /// 1 to 8.
    window: u8,
    keep_alive_secs: u8,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    NoiseToServer(Noise),
    NoiseToClient(Noise),
    /// So many bytes arrive, of all that was written.
    CarryToServer(u16),
    CarryToClient(u16),
    /// CONNECT is answered.
    Accept,
    Refuse(u8),
    Deliver {
        qos: QoS,
        length: u8,
    },
    /// A message of QoS 2 whose packet id is recorded first.
    Prepare {
        length: u8,
    },
    /// One of the ids is recorded, in any order.
    Recorded {
        nth: u8,
    },
    Publish {
        qos: QoS,
        length: u8,
    },
    AckByServer {
        nth: u8,
        reason: u8,
    },
    AckByClient {
        nth: u8,
        reason: u8,
    },
    WithholdByServer {
        nth: u8,
    },
    WithholdByClient {
        nth: u8,
    },
    ResendByServer {
        abandon: bool,
    },
    ResendByClient {
        abandon: bool,
    },
    Subscribe {
        filters: u8,
    },
    Unsubscribe {
        filters: u8,
    },
    Wait {
        deciseconds: u8,
    },
    Pause,
    Resume,
    DisconnectByServer {
        reason: u8,
    },
    DisconnectByClient {
        reason: u8,
        expiry_secs: Option<u8>,
    },
    Reconnect,
    /// AUTH of the server: a challenge, or the end of a new authentication.
    AuthByServer {
        confirms: bool,
        length: u8,
    },
    /// AUTH of the client: an answer, or the begin of a new authentication.
    AuthByClient {
        begins: bool,
        length: u8,
    },
}

#[derive(Arbitrary, Debug)]
enum Noise {
    Bytes(Vec<u8>),
    Packet(Box<Packet>),
}

/// What both sides of a run have.
#[derive(Default)]
struct Side {
    input: Vec<u8>,
    under_way: Vec<u8>,
    tokens: Vec<AckToken>,
    /// Items of open exchanges.
    open: BTreeSet<u32>,
}

struct World {
    server: ServerConnection<u32>,
    client: ClientConnection<u32>,
    of_server: Side,
    of_client: Side,
    stored: Option<SessionState<u32>>,
    /// What the server has prepared on this connection, and what is not recorded of it.
    waiting: Vec<(PacketId, u32)>,
    /// Items that the server has prepared and not sent on any connection.
    never_sent: BTreeSet<u32>,
    /// The Maximum Packet Size that the server was told.
    client_size_max: usize,
    now: Tick,
    epoch: u32,
    next_item: u32,
    window: u16,
}

fuzz_target!(|run: Run| {
    let mut world = World::new(&run);
    for step in run.steps.iter().take(STEPS_MAX) {
        world.apply(&run, step);
        world.check();
    }
    world.reconnect(&run);
});

impl World {
    fn new(run: &Run) -> Self {
        let window = u16::from(run.window % 8) + 1;
        let mut world = Self {
            server: server(window, 0),
            client: client(window, 0),
            of_server: Side::default(),
            of_client: Side::default(),
            stored: None,
            waiting: Vec::new(),
            never_sent: BTreeSet::new(),
            client_size_max: usize::MAX,
            now: Tick(1),
            epoch: 0,
            next_item: 0,
            window,
        };
        world.begin(run, None);
        world
    }

    fn begin(&mut self, run: &Run, session: Option<SessionState<u32>>) {
        let mut connect = Connect::new(run.version, "c");
        connect.clean_start = run.clean_start;
        connect.keep_alive_secs = u16::from(run.keep_alive_secs);
        connect.properties.session_expiry_secs = 100;
        connect.properties.topic_alias_max = 4;
        connect.properties.receive_maximum = NonZeroU16::new(self.window).expect("not 0");
        connect.properties.authentication = run.enhanced.then(|| Authentication {
            method: ByteStr::from("m"),
            data: None,
        });
        let begun = self.client.connect(self.now, connect, session);
        begun.expect("a valid CONNECT");
        if run.connected {
            for step in [
                Step::CarryToServer(u16::MAX),
                Step::Accept,
                Step::CarryToClient(u16::MAX),
            ] {
                self.apply(run, &step);
            }
            assert!(self.client.is_connected());
        }
    }

    fn apply(&mut self, run: &Run, step: &Step) {
        let now = self.now;
        match step {
            Step::NoiseToServer(noise) => {
                noise.add_to(&mut self.of_server.input, self.server.version());
                self.server_input();
            }
            Step::NoiseToClient(noise) => {
                noise.add_to(&mut self.of_client.input, self.client.version());
                self.client_input();
            }
            Step::CarryToServer(bytes) => {
                let version = self.client.version();
                let written = take_output(self.client.output(), version, usize::MAX);
                self.of_client.under_way.extend(written);
                carry(
                    &mut self.of_client.under_way,
                    &mut self.of_server.input,
                    *bytes,
                );
                self.server_input();
            }
            Step::CarryToClient(bytes) => {
                let version = self.server.version();
                let written = take_output(self.server.output(), version, self.client_size_max);
                self.of_server.under_way.extend(written);
                carry(
                    &mut self.of_server.under_way,
                    &mut self.of_client.input,
                    *bytes,
                );
                self.client_input();
            }
            Step::Accept => match self.stored.take().filter(|_| !run.clean_start) {
                // Where nothing is asked, the session comes back with the connection's end.
                Some(session) => drop(self.server.accept(now, Accept::resume(session))),
                None => {
                    if self.server.accept(now, Accept::new_session()).is_ok() {
                        self.of_server.open.clear();
                        self.never_sent.clear();
                    }
                }
            },
            Step::Refuse(reason) => {
                let _ = self.server.refuse(code(*reason));
            }
            Step::Deliver { qos, length } => {
                let item = self.new_item();
                let payload = vec![0; usize::from(*length)];
                let mut buffer = FanOutBuffer::new();
                let mut fan_out = FanOut::new(source(&payload), &mut buffer);
                let deliver = Deliver {
                    qos: *qos,
                    ..Deliver::default()
                };
                match self.server.deliver(&mut fan_out, deliver, item) {
                    Ok(()) if *qos == QoS::AtMostOnce => {}
                    Ok(()) => assert!(self.of_server.open.insert(item)),
                    Err(refused) => assert_eq!(refused.into_item(), item),
                }
            }
            Step::Prepare { length } => {
                let item = self.new_item();
                let payload = vec![0; usize::from(*length)];
                let mut buffer = FanOutBuffer::new();
                let mut fan_out = FanOut::new(source(&payload), &mut buffer);
                let deliver = Deliver {
                    qos: QoS::ExactlyOnce,
                    ..Deliver::default()
                };
                let written = self.server.output().len();
                match self.server.prepare(&mut fan_out, deliver, item) {
                    Ok(packet_id) => {
                        self.waiting.push((packet_id, item));
                        assert!(self.never_sent.insert(item));
                        assert!(self.of_server.open.insert(item));
                    }
                    Err(refused) => assert_eq!(refused.into_item(), item),
                }
                assert_eq!(self.server.output().len(), written);
            }
            Step::Recorded { nth } => {
                let nth = usize::from(*nth);
                let packet_id = match self.waiting.len() {
                    // None that waits: to be ignored.
                    0 => PacketId::new(nth as u16 + 1).expect("not 0"),
                    count => self.waiting.swap_remove(nth % count).0,
                };
                self.server.recorded(packet_id);
            }
            Step::Publish { qos, length } => {
                let item = self.new_item();
                let payload = vec![0; usize::from(*length)];
                let mut buffer = FanOutBuffer::new();
                let mut fan_out = FanOut::new(source(&payload), &mut buffer);
                let options = PublishOptions {
                    qos: *qos,
                    retain: false,
                };
                match self.client.publish(now, &mut fan_out, options, item) {
                    Ok(None) => assert_eq!(*qos, QoS::AtMostOnce),
                    Ok(Some(_)) => assert!(self.of_client.open.insert(item)),
                    Err(refused) => assert_eq!(refused.into_item(), item),
                }
            }
            Step::AckByServer { nth, reason } => {
                if let Some(token) = self.of_server.take_token(*nth) {
                    self.answer_by_server(token, code(*reason));
                }
            }
            Step::AckByClient { nth, reason } => {
                if let Some(token) = self.of_client.take_token(*nth) {
                    let _ = self.client.ack(now, token, code(*reason));
                }
            }
            Step::WithholdByServer { nth } => {
                if let Some(token) = self.of_server.take_token(*nth) {
                    self.server.withhold(token);
                }
            }
            Step::WithholdByClient { nth } => {
                if let Some(token) = self.of_client.take_token(*nth) {
                    self.client.withhold(now, token);
                }
            }
            Step::ResendByServer { abandon } => {
                let mut buffer = FanOutBuffer::new();
                let mut fan_out = FanOut::new(source(b"again"), &mut buffer);
                let is_resending = self.server.is_resending();
                let named = self.server.next_resend().map(|resend| *resend.item);
                assert!(named.is_none() || is_resending);
                assert!(self.waiting.iter().all(|&(_, item)| Some(item) != named));
                let resent = if *abandon {
                    self.server.abandon_resend()
                } else {
                    self.server.resend(&mut fan_out, Redeliver::default())
                };
                match resent {
                    Ok(Resent::Sent) => {
                        self.never_sent.remove(&named.expect("sent"));
                    }
                    Ok(Resent::Dropped(item)) => {
                        assert_eq!(named, Some(item));
                        assert!(self.of_server.open.remove(&item));
                        self.never_sent.remove(&item);
                    }
                    // The client can't hold what it was never sent.
                    Ok(Resent::Released) => {
                        assert!(!self.never_sent.contains(&named.expect("released")));
                    }
                    Err(_) => {}
                }
            }
            Step::ResendByClient { abandon } => {
                let mut buffer = FanOutBuffer::new();
                let mut fan_out = FanOut::new(source(b"again"), &mut buffer);
                let resent = if *abandon {
                    self.client.abandon_resend(now)
                } else {
                    let redeliver = Redeliver::default();
                    self.client.resend(now, &mut fan_out, redeliver)
                };
                if let Ok(Resent::Dropped(item)) = resent {
                    assert!(self.of_client.open.remove(&item));
                }
            }
            Step::Subscribe { filters } => {
                let filter = SubscribeFilter {
                    filter: ByteStr::from("a/+"),
                    options: SubscriptionOptions::new(QoS::ExactlyOnce),
                };
                let request = SubscribeRequest {
                    filters: vec![filter; usize::from(*filters % 4)],
                    ..SubscribeRequest::default()
                };
                let _ = self.client.subscribe(now, request);
            }
            Step::Unsubscribe { filters } => {
                let request = UnsubscribeRequest {
                    filters: vec![ByteStr::from("a/+"); usize::from(*filters % 4)],
                    ..UnsubscribeRequest::default()
                };
                let _ = self.client.unsubscribe(now, request);
            }
            Step::Wait { deciseconds } => {
                self.now = now.saturating_add(u64::from(*deciseconds) * 100);
                let _ = self.client.handle_timeout(self.now);
                let _ = self.server.handle_timeout(self.now);
            }
            Step::Pause => self.server.pause_input(now),
            Step::Resume => self.server.resume_input(now),
            Step::DisconnectByServer { reason } => {
                let _ = self.server.disconnect(code(*reason));
            }
            Step::DisconnectByClient {
                reason,
                expiry_secs,
            } => {
                let mut disconnect = Disconnect::new(code(*reason));
                disconnect.session_expiry_secs = expiry_secs.map(u32::from);
                let _ = self.client.disconnect(disconnect);
            }
            Step::Reconnect => self.reconnect(run),
            Step::AuthByServer { confirms, length } => {
                let data = Some(Bytes::from(vec![0; usize::from(*length)]));
                let properties = AckProperties::new();
                let _ = if *confirms {
                    self.server.confirm_authentication(data, properties)
                } else {
                    self.server.challenge(data, properties)
                };
            }
            Step::AuthByClient { begins, length } => {
                let data = Some(Bytes::from(vec![0; usize::from(*length)]));
                let properties = AckProperties::new();
                let _ = if *begins {
                    self.client.reauthenticate(now, data, properties)
                } else {
                    self.client.authenticate(now, data, properties)
                };
            }
        }
    }

    fn answer_by_server(&mut self, token: AckToken, reason: ReasonCode) {
        use whimbrel_codec::PacketType;
        match token.acknowledged_by() {
            // One filter is the most frequent; other counts are refused as our own mistake.
            PacketType::SubAck => drop(self.server.ack_subscribe(token, &[reason])),
            PacketType::UnsubAck => drop(self.server.ack_unsubscribe(token, &[reason])),
            _ => drop(self.server.ack(token, reason)),
        }
    }

    fn server_input(&mut self) {
        loop {
            let input = std::mem::take(&mut self.of_server.input);
            let written = self.server.output().len();
            let was_closing = self.server.is_closing();
            let Ok(handled) = self.server.handle_input(self.now, &input) else {
                assert!(self.server.is_closing());
                return;
            };
            match handled.event {
                None | Some(ServerEvent::Disconnect(_)) => {}
                Some(ServerEvent::Auth(auth)) => assert_eq!(auth.method, "m"),
                Some(ServerEvent::Connect(connect)) => {
                    let size_max = connect.properties.packet_size_max;
                    let size_max = size_max.filter(|_| connect.version.is_v5());
                    self.client_size_max = size_max.map_or(usize::MAX, |max| max.get() as usize);
                }
                Some(ServerEvent::Publish(publish)) => {
                    assert!(!publish.topic.as_str().is_empty());
                    self.of_server.tokens.extend(publish.token);
                }
                Some(
                    ServerEvent::Release { token, .. }
                    | ServerEvent::Received { token, .. }
                    | ServerEvent::Subscribe { token, .. }
                    | ServerEvent::Unsubscribe { token, .. },
                ) => self.of_server.tokens.push(token),
                Some(ServerEvent::Delivered { item, .. }) => {
                    assert!(!self.never_sent.contains(&item));
                    assert!(self.of_server.open.remove(&item));
                }
            }
            let consumed = handled.consumed;
            assert!(consumed <= input.len() && (consumed == 0 || handled.hold.is_none()));
            if was_closing {
                assert_eq!(self.server.output().len(), written);
            }
            self.of_server.input = input[consumed..].to_vec();
            if consumed == 0 || self.of_server.input.is_empty() {
                return;
            }
        }
    }

    fn client_input(&mut self) {
        loop {
            let input = std::mem::take(&mut self.of_client.input);
            let written = self.client.output().len();
            let was_closing = self.client.is_closing();
            let Ok(handled) = self.client.handle_input(self.now, &input) else {
                assert!(self.client.is_closing());
                return;
            };
            match handled.event {
                None
                | Some(
                    ClientEvent::Auth(_)
                    | ClientEvent::SubAck(_)
                    | ClientEvent::UnsubAck(_)
                    | ClientEvent::Disconnected(_),
                ) => {}
                Some(ClientEvent::ConnAck(connected)) => {
                    for exchange in connected.discarded.iter().flat_map(SessionState::exchanges) {
                        assert!(self.of_client.open.remove(exchange.item));
                    }
                }
                Some(ClientEvent::Publish(publish)) => {
                    assert!(!publish.topic.as_str().is_empty());
                    self.of_client.tokens.extend(publish.token);
                }
                Some(ClientEvent::Release { token, .. } | ClientEvent::Received { token, .. }) => {
                    self.of_client.tokens.push(token);
                }
                Some(ClientEvent::Delivered { item, .. }) => {
                    assert!(self.of_client.open.remove(&item));
                }
            }
            let consumed = handled.consumed;
            assert!(consumed <= input.len() && (consumed == 0 || handled.hold.is_none()));
            if was_closing {
                assert_eq!(self.client.output().len(), written);
            }
            self.of_client.input = input[consumed..].to_vec();
            if consumed == 0 || self.of_client.input.is_empty() {
                return;
            }
        }
    }

    /// Every message that was sent is in its session, or has come back.
    fn reconnect(&mut self, run: &Run) {
        self.epoch += 1;
        let window = self.window;
        self.waiting.clear();
        let next = server(window, self.epoch);
        let last = std::mem::replace(&mut self.server, next);
        let to_record: Vec<_> = last.exchanges_to_record().map(id_and_item).collect();
        let next_packet_id = last.next_packet_id();
        if let Some(session) = last.into_state() {
            assert!(session.exchanges().map(id_and_item).eq(to_record));
            assert_eq!(session.next_packet_id(), next_packet_id);
            assert_eq!(items_of(&session), self.of_server.open);
            self.stored = Some(self.keep(run, session));
        }
        let next = client(window, self.epoch);
        let session = std::mem::replace(&mut self.client, next).into_state();
        let held = session.as_ref().map(items_of).unwrap_or_default();
        assert_eq!(held, self.of_client.open);
        for side in [&mut self.of_server, &mut self.of_client] {
            side.input.clear();
            side.under_way.clear();
            side.tokens.truncate(TOKENS_KEPT);
        }
        self.client_size_max = usize::MAX;
        self.begin(run, session.map(through_parts));
    }

    /// As the server's owner keeps a session between connections.
    fn keep(&mut self, run: &Run, session: SessionState<u32>) -> SessionState<u32> {
        if !run.stored {
            return session;
        }
        self.never_sent.clear();
        through_parts(session)
    }

    fn check(&mut self) {
        assert!(self.server.in_flight() <= usize::from(self.window));
        assert!(self.client.in_flight() <= usize::from(self.window));
        assert!(!self.server.is_closing() || self.server.poll_timeout().is_none());
        assert!(!self.client.is_closing() || self.client.poll_timeout().is_none());
        // Full, one answer reserve, and the largest packet.
        assert!(self.server.output().len() <= OUTPUT_MAX + 64 * 1024);
        assert!(self.client.output().len() <= OUTPUT_MAX + 64 * 1024);
    }

    fn new_item(&mut self) -> u32 {
        self.next_item += 1;
        self.next_item
    }
}

impl Side {
    fn take_token(&mut self, nth: u8) -> Option<AckToken> {
        let count = self.tokens.len();
        (count > 0).then(|| self.tokens.swap_remove(usize::from(nth) % count))
    }
}

impl Noise {
    fn add_to(&self, input: &mut Vec<u8>, version: ProtocolVersion) {
        match self {
            Noise::Bytes(bytes) => input.extend_from_slice(bytes),
            // One that has no form in this version is no noise.
            Noise::Packet(packet) => drop(packet.encode(version, input)),
        }
    }
}

fn server(window: u16, epoch: u32) -> ServerConnection<u32> {
    let mut config = ServerConfig::default();
    config.limits = whimbrel_fuzz::small_limits();
    config.receive_maximum = NonZeroU16::new(window).expect("not 0");
    config.in_flight_max = config.receive_maximum;
    config.topic_alias_maximum = 4;
    config.sent_topic_alias_max = 2;
    config.output_bytes_max = OUTPUT_MAX;
    ServerConnection::new(Tick(1), Epoch(epoch), config)
}

fn client(window: u16, epoch: u32) -> ClientConnection<u32> {
    let mut config = ClientConfig::default();
    config.limits = whimbrel_fuzz::small_limits();
    config.receive_maximum = NonZeroU16::new(window).expect("not 0");
    config.in_flight_max = config.receive_maximum;
    config.sent_topic_alias_max = 2;
    config.output_bytes_max = OUTPUT_MAX;
    ClientConnection::new(Epoch(epoch), &config)
}

/// What a connection has written: whole packets of its version, none above what the peer accepts.
fn take_output(output: &mut WriteBuf, version: ProtocolVersion, size_max: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !output.is_empty() {
        let chunk = output.chunk().to_vec();
        output.advance(chunk.len());
        bytes.extend(chunk);
    }
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let decoded = decode_ref(rest, version, &Limits::PROTOCOL).expect("a valid packet");
        let length = decoded.expect("a whole packet").length;
        assert!(length <= size_max);
        rest = &rest[length..];
    }
    bytes
}

fn carry(under_way: &mut Vec<u8>, input: &mut Vec<u8>, bytes: u16) {
    let count = usize::from(bytes).min(under_way.len());
    input.extend(under_way.drain(..count));
}

fn items_of(session: &SessionState<u32>) -> BTreeSet<u32> {
    session.exchanges().map(|exchange| *exchange.item).collect()
}

fn id_and_item(exchange: Exchange<&u32>) -> (PacketId, u32) {
    (exchange.packet_id, *exchange.item)
}

/// A session survives being taken apart.
fn through_parts(session: SessionState<u32>) -> SessionState<u32> {
    let parts = session.into_parts();
    let session = SessionState::from_parts(parts.clone()).expect("its own parts");
    assert_eq!(session.into_parts(), parts);
    SessionState::from_parts(parts).expect("its own parts")
}

fn source(payload: &[u8]) -> PublishSource<'_> {
    PublishSource {
        // More topics than there are aliases.
        topic: TopicName::new(TOPICS[payload.len() % TOPICS.len()]).expect("a valid name"),
        properties: PublishProperties::EMPTY,
        payload: Payload::Borrowed(payload),
        message_expiry_secs: None,
    }
}

fn code(number: u8) -> ReasonCode {
    ReasonCode::ALL[usize::from(number) % ReasonCode::ALL.len()]
}

/// More say nothing new and slow the fuzzer down.
const STEPS_MAX: usize = 256;

const OUTPUT_MAX: usize = 600;

const TOPICS: [&str; 4] = ["a/b", "c", "d/e/f", "g/h"];

/// Tokens of an earlier connection that are still used, to do nothing.
const TOKENS_KEPT: usize = 4;
