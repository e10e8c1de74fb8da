//! A client and a server joined by a link with latency, at simulated time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU16;

use whimbrel_session::codec::{
    Connect, FanOut, FanOutBuffer, PacketId, ProtocolVersion, QoS, ReasonCode, WriteBuf,
};
use whimbrel_session::{
    Accept, AckToken, ClientConfig, ClientConnection, ClientEvent, Deliver, Epoch, InboundPublish,
    PublishOptions, Redeliver, Refused, Resent, ServerConfig, ServerConnection, ServerEvent,
    SessionState, Tick,
};

use crate::support::{NOW, Role, source};

/// Both sides, the link between them, and what an application on each side does.
pub(crate) struct Pair {
    pub(crate) client: ClientConnection<u32>,
    pub(crate) server: ServerConnection<u32>,
    pub(crate) now: Tick,
    pub(crate) client_app: App,
    pub(crate) server_app: App,
    to_server: Link,
    to_client: Link,
    terms: Terms,
    epoch: u32,
    /// The server's sessions, while none is connected.
    stored: Option<SessionState<u32>>,
    record: Record,
}

/// What stays the same over all connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) version: ProtocolVersion,
    pub(crate) latency_ms: u64,
    /// Receive Maximum of both sides, and their own limit in flight.
    pub(crate) window: u16,
    pub(crate) output_bytes_max: usize,
    pub(crate) keep_alive_secs: u16,
    /// The server records the packet ids of its QoS 2 messages first.
    pub(crate) prepares: bool,
}

/// What the server has on the disk, and what it has written to the client.
#[derive(Debug, Default)]
struct Record {
    /// Prepared on this connection, and not on the disk.
    waiting: VecDeque<(PacketId, u32)>,
    /// Items whose packet id is on the disk.
    recorded: BTreeSet<u32>,
    /// Items that were written on any connection, and with which DUP last.
    written: BTreeMap<u32, bool>,
}

/// One side's application: takes every message at once, acknowledges when it is told to.
#[derive(Debug, Default)]
pub(crate) struct App {
    /// What it has taken, in order.
    pub(crate) taken: Vec<Message>,
    /// What it still wants to publish, in order.
    pub(crate) outbox: VecDeque<Message>,
    /// Items whose exchange is over.
    pub(crate) delivered: Vec<u32>,
    tokens: Vec<AckToken>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) qos: QoS,
    pub(crate) item: u32,
}

/// Bytes under way in one direction, and those that arrived and were not looked at yet.
#[derive(Debug, Default)]
struct Link {
    under_way: VecDeque<Chunk>,
    arrived: Vec<u8>,
}

#[derive(Debug)]
struct Chunk {
    due: Tick,
    bytes: Vec<u8>,
}

impl Pair {
    pub(crate) fn new(terms: Terms) -> Self {
        let (client, server) = connections(terms, 1, NOW, Some(SessionState::new()));
        Self {
            client,
            server,
            now: NOW,
            client_app: App::default(),
            server_app: App::default(),
            to_server: Link::default(),
            to_client: Link::default(),
            terms,
            epoch: 1,
            stored: None,
            record: Record::default(),
        }
    }

    /// Lets time pass: bytes arrive, timers fire, applications publish what they can.
    pub(crate) fn wait(&mut self, milliseconds: u64) {
        let end = self.now.saturating_add(milliseconds);
        self.step();
        while self.now < end {
            let next = [
                self.to_server.next_due(),
                self.to_client.next_due(),
                self.client.poll_timeout(),
                self.server.poll_timeout(),
            ];
            let next = next.into_iter().flatten().min().unwrap_or(end);
            self.now = next.clamp(self.now, end);
            assert_eq!(self.client.handle_timeout(self.now), None);
            assert_eq!(self.server.handle_timeout(self.now), None);
            if !self.step() && next >= end {
                self.now = end;
            }
        }
        self.step();
    }

    /// The connection breaks when so many more bytes have arrived on each side, and is made again.
    pub(crate) fn cut(&mut self, bytes_to_server: usize, bytes_to_client: usize) {
        self.flush();
        self.to_server.arrive_up_to(bytes_to_server);
        self.to_client.arrive_up_to(bytes_to_client);
        self.handle_input();

        self.epoch += 1;
        let (client, server) = connections(self.terms, self.epoch, self.now, None);
        let session = std::mem::replace(&mut self.client, client).into_state();
        self.check_span(session.as_ref());
        let begin = self
            .client
            .connect(self.now, connect_of(self.terms), session);
        begin.expect("the first CONNECT");
        if let Some(session) = std::mem::replace(&mut self.server, server).into_state() {
            self.check_span(Some(&session));
            self.stored = Some(session);
        }
        for app in [&mut self.client_app, &mut self.server_app] {
            app.tokens.clear();
        }
        self.to_server = Link::default();
        self.to_client = Link::default();
        // A session is resumed when its record is committed.
        let waiting = self.record.waiting.drain(..);
        self.record.recorded.extend(waiting.map(|(_, item)| item));
    }

    /// So many packet ids are recorded, in their order.
    pub(crate) fn commit(&mut self, count: usize) {
        let count = count.min(self.record.waiting.len());
        for (packet_id, item) in self.record.waiting.drain(..count) {
            self.record.recorded.insert(item);
            self.server.recorded(packet_id);
        }
    }

    /// Acknowledges one of the packets that wait for it.
    pub(crate) fn acknowledge(&mut self, role: Role, nth: usize) {
        let tokens = &mut self.app(role).tokens;
        if tokens.is_empty() {
            return;
        }
        let token = tokens.remove(nth % tokens.len());
        let acknowledged = match role {
            Role::Client => self.client.ack(self.now, token, ReasonCode::Success),
            Role::Server => self.server.ack(token, ReasonCode::Success),
        };
        acknowledged.expect("a token of an exchange");
    }

    /// Acknowledges everything and lets time pass until nothing is open any more.
    pub(crate) fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            if self.is_quiet() {
                return;
            }
            for role in [Role::Client, Role::Server] {
                while !self.app(role).tokens.is_empty() {
                    self.acknowledge(role, 0);
                }
            }
            self.commit(usize::MAX);
            self.wait(self.terms.latency_ms + 1);
        }
        panic!("stuck: {:?} {:?}", self.client, self.server);
    }

    pub(crate) fn app(&mut self, role: Role) -> &mut App {
        match role {
            Role::Client => &mut self.client_app,
            Role::Server => &mut self.server_app,
        }
    }

    /// Ends both sides and gives their sessions.
    pub(crate) fn into_sessions(self) -> [SessionState<u32>; 2] {
        let client = self.client.into_state().expect("connected");
        let server = self.server.into_state().expect("connected");
        [client, server]
    }

    fn is_quiet(&self) -> bool {
        let apps = [&self.client_app, &self.server_app];
        let idle = |app: &&App| app.outbox.is_empty() && app.tokens.is_empty();
        let links = [&self.to_server, &self.to_client];
        self.client.is_connected()
            && apps.iter().all(idle)
            && links.iter().all(|link| link.under_way.is_empty())
            && links.iter().all(|link| link.arrived.is_empty())
            && self.record.waiting.is_empty()
            && !self.client.is_resending()
            && !self.server.is_resending()
            && self.client.in_flight() == 0
            && self.server.in_flight() == 0
    }

    /// Whether anything happened.
    fn step(&mut self) -> bool {
        self.publish();
        let flushed = self.flush();
        let arrived = self.to_server.arrive(self.now) | self.to_client.arrive(self.now);
        self.handle_input();
        self.publish();
        let flushed = flushed | self.flush();
        let window = usize::from(self.terms.window);
        assert!(self.client.in_flight() <= window);
        assert!(self.server.in_flight() <= window);
        flushed | arrived
    }

    fn flush(&mut self) -> bool {
        let due = self.now.saturating_add(self.terms.latency_ms);
        self.to_server.send(due, self.client.output())
            | self.to_client.send(due, self.server.output())
    }

    fn handle_input(&mut self) {
        loop {
            let input = std::mem::take(&mut self.to_server.arrived);
            let handled = self.server.handle_input(self.now, &input);
            let handled = handled.expect("the client keeps to the protocol");
            let mut asked = false;
            match handled.event {
                None => {}
                Some(ServerEvent::Connect(_)) => asked = true,
                Some(ServerEvent::Publish(publish)) => self.server_app.take(publish),
                Some(ServerEvent::Release { token, .. } | ServerEvent::Received { token, .. }) => {
                    self.server_app.tokens.push(token);
                }
                Some(ServerEvent::Delivered { item, .. }) => self.server_app.delivered.push(item),
                Some(other) => panic!("{other:?}"),
            }
            self.to_server.arrived = input[handled.consumed..].to_vec();
            if asked {
                let accept = match self.stored.take() {
                    Some(session) => Accept::resume(session),
                    None => Accept::new_session(),
                };
                self.server.accept(self.now, accept).expect("CONNECT waits");
            }
            if handled.consumed == 0 {
                break;
            }
        }
        loop {
            let input = std::mem::take(&mut self.to_client.arrived);
            let handled = self.client.handle_input(self.now, &input);
            let handled = handled.expect("the server keeps to the protocol");
            match handled.event {
                None => {}
                Some(ClientEvent::ConnAck(connected)) => {
                    assert_eq!(connected.connack.reason, ReasonCode::Success);
                    assert!(connected.discarded.is_none(), "the server has the session");
                }
                Some(ClientEvent::Publish(publish)) => {
                    self.record.check(&publish, self.terms.prepares);
                    self.client_app.take(publish);
                }
                Some(ClientEvent::Release { token, .. } | ClientEvent::Received { token, .. }) => {
                    self.client_app.tokens.push(token);
                }
                Some(ClientEvent::Delivered { item, .. }) => self.client_app.delivered.push(item),
                Some(other) => panic!("{other:?}"),
            }
            self.to_client.arrived = input[handled.consumed..].to_vec();
            if handled.consumed == 0 {
                break;
            }
        }
    }

    /// Resends what is to be resent, then publishes what there is room for.
    fn publish(&mut self) {
        let mut buffer = FanOutBuffer::new();
        let now = self.now;
        while let Some(next) = self.client.next_resend(now) {
            let payload = next.item.to_be_bytes();
            let mut message = FanOut::new(source(&payload), &mut buffer);
            let resent = self.client.resend(now, &mut message, Redeliver::default());
            if resent.is_err() {
                break;
            }
        }
        while let Some(next) = self.server.next_resend() {
            let item = *next.item;
            let payload = item.to_be_bytes();
            let mut message = FanOut::new(source(&payload), &mut buffer);
            let resent = self.server.resend(&mut message, Redeliver::default());
            if resent.is_err() {
                break;
            }
            assert_eq!(resent, Ok(Resent::Sent));
            self.record.note_written(item);
        }
        while let Some(&Message { qos, item }) = self.client_app.outbox.front() {
            let payload = item.to_be_bytes();
            let mut message = FanOut::new(source(&payload), &mut buffer);
            let options = PublishOptions { qos, retain: false };
            match self.client.publish(now, &mut message, options, item) {
                Ok(_) => {
                    self.client_app.outbox.pop_front();
                }
                Err(refused) => {
                    assert_waits(&refused);
                    break;
                }
            }
        }
        while let Some(&Message { qos, item }) = self.server_app.outbox.front() {
            let payload = item.to_be_bytes();
            let mut message = FanOut::new(source(&payload), &mut buffer);
            let deliver = Deliver {
                qos,
                ..Deliver::default()
            };
            let taken = if self.terms.prepares && qos == QoS::ExactlyOnce {
                let prepared = self.server.prepare(&mut message, deliver, item);
                prepared.map(|packet_id| self.record.waiting.push_back((packet_id, item)))
            } else {
                let delivered = self.server.deliver(&mut message, deliver, item);
                delivered.map(|()| self.record.note_written(item))
            };
            match taken {
                Ok(()) => {
                    self.server_app.outbox.pop_front();
                }
                Err(refused) => {
                    assert_waits(&refused);
                    break;
                }
            }
        }
    }

    /// The window's memory is bounded, whatever was acknowledged in which order.
    fn check_span(&self, session: Option<&SessionState<u32>>) {
        let Some(session) = session else { return };
        let Some(oldest) = session.exchanges().next() else {
            return;
        };
        let next = usize::from(session.next_packet_id().get());
        let oldest = usize::from(oldest.packet_id.get());
        let span = (next + 65_535 - oldest) % 65_535;
        let span_max = usize::from(self.terms.window) * 4;
        assert!(span <= span_max.max(64), "{span}");
    }
}

impl Record {
    fn note_written(&mut self, item: u32) {
        let is_repeated = self.written.contains_key(&item);
        self.written.insert(item, is_repeated);
    }

    /// The client got a message: its id is recorded if it has to be, and DUP says whether it was sent before.
    fn check(&self, publish: &InboundPublish<'_>, prepares: bool) {
        let item = item_of(publish);
        assert_eq!(
            self.written.get(&item),
            Some(&publish.publish.delivery().dup())
        );
        let waits = prepares && publish.publish.qos() == QoS::ExactlyOnce;
        assert!(!waits || self.recorded.contains(&item));
    }
}

impl App {
    fn take(&mut self, publish: InboundPublish<'_>) {
        self.taken.push(Message {
            qos: publish.publish.qos(),
            item: item_of(&publish),
        });
        self.tokens.extend(publish.token);
    }

    /// Items of one QoS that were taken, in order.
    pub(crate) fn taken_of(&self, qos: QoS) -> Vec<u32> {
        let taken = self.taken.iter().filter(|message| message.qos == qos);
        taken.map(|message| message.item).collect()
    }
}

impl Link {
    fn send(&mut self, due: Tick, output: &mut WriteBuf) -> bool {
        let mut sent = false;
        while !output.is_empty() {
            let bytes = output.chunk().to_vec();
            output.advance(bytes.len());
            self.under_way.push_back(Chunk { due, bytes });
            sent = true;
        }
        sent
    }

    fn arrive(&mut self, now: Tick) -> bool {
        let mut arrived = false;
        while self.under_way.front().is_some_and(|chunk| chunk.due <= now) {
            let chunk = self.under_way.pop_front().expect("just seen");
            self.arrived.extend(chunk.bytes);
            arrived = true;
        }
        arrived
    }

    /// So many bytes arrive at once, the rest never.
    fn arrive_up_to(&mut self, bytes: usize) {
        let under_way = self.under_way.drain(..).flat_map(|chunk| chunk.bytes);
        self.arrived.extend(under_way.take(bytes));
    }

    fn next_due(&self) -> Option<Tick> {
        self.under_way.front().map(|chunk| chunk.due)
    }
}

fn item_of(publish: &InboundPublish<'_>) -> u32 {
    let payload = publish.publish.payload().try_into();
    u32::from_be_bytes(payload.expect("four bytes"))
}

fn connections(
    terms: Terms,
    epoch: u32,
    now: Tick,
    session: Option<SessionState<u32>>,
) -> (ClientConnection<u32>, ServerConnection<u32>) {
    let window = NonZeroU16::new(terms.window).expect("not 0");
    let mut client = ClientConfig::default();
    client.receive_maximum = window;
    client.in_flight_max = window;
    client.output_bytes_max = terms.output_bytes_max;
    let mut server = ServerConfig::default();
    server.receive_maximum = window;
    server.in_flight_max = window;
    server.output_bytes_max = terms.output_bytes_max;
    let mut client = ClientConnection::new(Epoch(epoch), &client);
    if session.is_some() {
        let begin = client.connect(now, connect_of(terms), session);
        begin.expect("the first CONNECT");
    }
    (client, ServerConnection::new(now, Epoch(epoch), server))
}

fn connect_of(terms: Terms) -> Connect {
    let mut connect = Connect::new(terms.version, "c");
    connect.clean_start = false;
    connect.keep_alive_secs = terms.keep_alive_secs;
    if terms.version.is_v5() {
        connect.properties.session_expiry_secs = u32::MAX;
        connect.properties.receive_maximum = NonZeroU16::new(terms.window).expect("not 0");
    }
    connect
}

/// A message that is refused here can be sent later.
fn assert_waits(refused: &Refused<u32>) {
    assert!(
        matches!(
            refused,
            Refused::WindowFull(_)
                | Refused::OutputFull(_)
                | Refused::NotConnected(_)
                | Refused::Resending(_)
        ),
        "{refused:?}"
    );
}

/// More than any run of the tests needs.
const ROUNDS_MAX: usize = 2_000;
