//! Several shards in one thread at simulated time, with clients that speak packets.
#![allow(
    clippy::needless_pass_by_value,
    dead_code,
    unused_imports,
    reason = "each test file uses its own part of the rig"
)]

pub(crate) mod journal;
pub(crate) mod pieces;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use whimbrel_broker_core::session::Tick;
use whimbrel_broker_core::session::codec::topic::{ByteStr, TopicNameBuf};
use whimbrel_broker_core::session::codec::{
    Ack, ConnAck, Connect, Delivery, Limits, Packet, PacketId, PacketRef, ProtocolVersion, Publish,
    QoS, ReasonCode, SubAck, Subscribe, SubscribeFilter, SubscriptionId, SubscriptionOptions,
    Unsubscribe, UserProperties, WriteBuf, decode_ref,
};
use whimbrel_broker_core::{
    ConnectionKey, ConnectionPump, CoreConfig, Effects, Env, Event, Forward, Grants, Handshake,
    Index, InputStatus, Load, Now, OpenGate, Record, Recovery, Shard, ShardId, UnixMillis,
    placement,
};

use self::journal::ModelJournal;

pub(crate) use whimbrel_broker_core::session::codec::ProtocolVersion::{V5, V31, V311};

/// A client of the rig.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Client(usize);

pub(crate) struct Rig {
    pub(crate) config: Arc<CoreConfig>,
    pub(crate) index: Index,
    pub(crate) shards: Vec<RefCell<Shard>>,
    now: Now,
    under_way: VecDeque<UnderWay>,
    /// Records appended and not committed, by shard.
    uncommitted: Vec<Vec<Record>>,
    pub(crate) journal: ModelJournal,
    /// Asked for and not read yet.
    loads: VecDeque<(usize, Load)>,
    /// Whether records wait for [`Rig::commit`].
    pub(crate) hold_commits: bool,
    /// Whether shards get no turn for what they have put off.
    pub(crate) hold_backlog: bool,
    clients: Vec<Link>,
    pub(crate) events: Vec<Event>,
}

struct UnderWay {
    from: ShardId,
    forward: Forward,
}

struct Link {
    pump: ConnectionPump,
    version: ProtocolVersion,
    shard: usize,
    to_broker: BytesMut,
    from_broker: BytesMut,
    /// The client takes what the broker writes.
    reads: bool,
    blocked: bool,
    open: bool,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut CoreConfig)) -> Self {
        let mut config = CoreConfig::default();
        config.shards = 2;
        change(&mut config);
        let config = Arc::new(config);
        let index = journaled_index(&config);
        let shards: Vec<_> = (0..config.shards)
            .filter_map(ShardId::new)
            .map(|id| RefCell::new(Shard::new(id, Arc::clone(&config))))
            .collect();
        Self {
            uncommitted: shards.iter().map(|_| Vec::new()).collect(),
            journal: ModelJournal::default(),
            loads: VecDeque::new(),
            index,
            shards,
            config,
            now: Now {
                tick: Tick(1_000),
                wall: UnixMillis(1_700_000_000_000),
            },
            under_way: VecDeque::new(),
            hold_commits: false,
            hold_backlog: false,
            clients: Vec::new(),
            events: Vec::new(),
        }
    }

    /// A client id that is placed on this shard.
    pub(crate) fn id_on(&self, shard: usize, name: &str) -> String {
        (0..)
            .map(|count| format!("{name}{count}"))
            .find(|id| {
                placement(id, self.config.placement_seed, self.config.shards).index() == shard
            })
            .expect("some id is placed there")
    }

    /// Connects and returns the client with its CONNACK.
    pub(crate) fn connect_with(&mut self, connect: Connect) -> Connected {
        let client = self.open(connect.version);
        self.send(client, Packet::Connect(Box::new(connect)));
        let mut packets = self.take(client);
        match packets.pop() {
            Some(Packet::ConnAck(connack)) if packets.is_empty() => Connected {
                client,
                connack: *connack,
            },
            other => panic!("expected a CONNACK alone, got {packets:?} {other:?}"),
        }
    }

    /// Connects; what follows CONNACK is left to be asked for.
    pub(crate) fn connect_with_messages(&mut self, connect: Connect) -> Client {
        let client = self.open(connect.version);
        self.send(client, Packet::Connect(Box::new(connect)));
        let link = &mut self.clients[client.0];
        let decoded = decode_ref(&link.from_broker, link.version, &Limits::PROTOCOL)
            .expect("valid")
            .expect("a CONNACK");
        assert!(
            matches!(decoded.packet, PacketRef::ConnAck(connack) if connack.reason == ReasonCode::Success)
        );
        let length = decoded.length;
        link.from_broker.advance(length);
        client
    }

    /// Connects with a session that ends with the connection.
    pub(crate) fn connect(&mut self, version: ProtocolVersion, id: &str) -> Client {
        let connected = self.connect_with(clean(version, id));
        assert_eq!(connected.connack.reason, ReasonCode::Success);
        connected.client
    }

    /// Opens a connection and sends nothing.
    pub(crate) fn open(&mut self, version: ProtocolVersion) -> Client {
        self.clients.push(Link {
            pump: ConnectionPump::new(self.now.tick, self.config.connection),
            version,
            shard: 0,
            to_broker: BytesMut::new(),
            from_broker: BytesMut::new(),
            reads: true,
            blocked: false,
            open: true,
        });
        Client(self.clients.len() - 1)
    }

    pub(crate) fn send(&mut self, client: Client, packet: Packet) {
        let link = &mut self.clients[client.0];
        let mut buffer = WriteBuf::new();
        packet
            .encode(link.version, &mut buffer)
            .expect("the packet can be encoded");
        drain_output(&mut buffer, &mut link.to_broker);
        self.run();
    }

    pub(crate) fn send_raw(&mut self, client: Client, bytes: &[u8]) {
        self.clients[client.0].to_broker.extend_from_slice(bytes);
        self.run();
    }

    /// Everything the client has received since it was last asked.
    pub(crate) fn take(&mut self, client: Client) -> Vec<Packet> {
        self.run();
        let link = &mut self.clients[client.0];
        let mut packets = Vec::new();
        while let Some(decoded) = decode_ref(&link.from_broker, link.version, &Limits::PROTOCOL)
            .expect("the broker sends valid packets")
        {
            let length = decoded.length;
            packets.push(decoded.packet.into_owned());
            link.from_broker.advance(length);
        }
        packets
    }

    /// The PUBLISH packets among what the client has received; QoS 1 and 2 are acknowledged in full.
    pub(crate) fn messages(&mut self, client: Client) -> Vec<Publish> {
        self.messages_beside(client, false)
    }

    /// The same, behind a SUBACK.
    pub(crate) fn messages_after_suback(&mut self, client: Client) -> Vec<Publish> {
        self.messages_beside(client, true)
    }

    fn messages_beside(&mut self, client: Client, suback_expected: bool) -> Vec<Publish> {
        let mut messages = Vec::new();
        loop {
            let packets = self.take(client);
            if packets.is_empty() {
                return messages;
            }
            for packet in packets {
                match packet {
                    Packet::Publish(publish) => {
                        match publish.delivery() {
                            Delivery::AtMostOnce => {}
                            Delivery::AtLeastOnce { id, .. } => {
                                self.send(client, Packet::PubAck(Ack::success(id)));
                            }
                            Delivery::ExactlyOnce { id, .. } => {
                                self.send(client, Packet::PubRec(Ack::success(id)));
                            }
                        }
                        messages.push(publish);
                    }
                    Packet::PubRel(ack) => self.send(client, Packet::PubComp(Ack::success(ack.id))),
                    Packet::SubAck(_) if suback_expected => {}
                    other => panic!("unexpected {other:?}"),
                }
            }
        }
    }

    /// The payloads of [`messages`](Self::messages), as text.
    pub(crate) fn payloads(&mut self, client: Client) -> Vec<String> {
        self.messages(client)
            .iter()
            .map(|publish| String::from_utf8_lossy(publish.payload()).into_owned())
            .collect()
    }

    /// Publishes in full and returns the reason of PUBACK or PUBCOMP.
    pub(crate) fn publish(
        &mut self,
        client: Client,
        topic: &str,
        payload: &str,
        qos: QoS,
    ) -> ReasonCode {
        self.publish_packet(client, message(topic, payload, qos))
    }

    pub(crate) fn publish_retained(
        &mut self,
        client: Client,
        topic: &str,
        payload: &str,
        qos: QoS,
    ) {
        let publish = Publish::builder(name(topic))
            .payload(payload.to_owned())
            .delivery(Delivery::first(qos, PacketId::MIN))
            .retain(true)
            .build();
        let reason = self.publish_packet(client, publish);
        assert!(!reason.is_error(), "{reason}");
    }

    pub(crate) fn publish_packet(&mut self, client: Client, publish: Publish) -> ReasonCode {
        let qos = publish.delivery().qos();
        self.send(client, Packet::Publish(publish));
        if qos == QoS::AtMostOnce {
            return ReasonCode::Success;
        }
        let mut others = Vec::new();
        let mut reason = None;
        for packet in self.take(client) {
            match packet {
                Packet::PubAck(ack) => reason = Some(ack.reason),
                Packet::PubRec(ack) if ack.reason.is_error() => reason = Some(ack.reason),
                Packet::PubRec(ack) => {
                    self.send(client, Packet::PubRel(Ack::success(ack.id)));
                    for packet in self.take(client) {
                        match packet {
                            Packet::PubComp(_) => reason = Some(ack.reason),
                            other => others.push(other),
                        }
                    }
                }
                other => others.push(other),
            }
        }
        // What else came is left for whoever asks next.
        let link = &mut self.clients[client.0];
        let mut buffer = WriteBuf::new();
        for packet in others {
            packet
                .encode(link.version, &mut buffer)
                .expect("it was decoded");
        }
        link.from_broker.extend_from_slice(buffer.chunk());
        reason.expect("the publication is acknowledged")
    }

    pub(crate) fn subscribe(&mut self, client: Client, filter: &str, qos: QoS) -> ReasonCode {
        let suback = self.subscribe_with(client, filter, SubscriptionOptions::new(qos), None);
        suback.codes[0]
    }

    /// Subscribes and returns the SUBACK; retained messages stay to be asked for.
    pub(crate) fn subscribe_with(
        &mut self,
        client: Client,
        filter: &str,
        options: SubscriptionOptions,
        id: Option<u32>,
    ) -> SubAck {
        self.send(client, subscribe(&[(filter, options)], id));
        let link = &mut self.clients[client.0];
        let decoded = decode_ref(&link.from_broker, link.version, &Limits::PROTOCOL)
            .expect("valid")
            .expect("a SUBACK");
        let length = decoded.length;
        let Packet::SubAck(suback) = decoded.packet.into_owned() else {
            panic!("expected SUBACK first");
        };
        link.from_broker.advance(length);
        *suback
    }

    /// Sends a SUBSCRIBE of `QoS` 1 whose answer is not waited for.
    pub(crate) fn subscribe_with_no_answer(&mut self, client: Client, filter: &str) {
        let options = SubscriptionOptions::new(QoS::AtLeastOnce);
        self.send(client, subscribe(&[(filter, options)], None));
    }

    pub(crate) fn unsubscribe(&mut self, client: Client, filter: &str) -> Option<ReasonCode> {
        self.send(
            client,
            Packet::Unsubscribe(Unsubscribe {
                id: PacketId::MIN,
                filters: vec![ByteStr::from(filter)],
                user_properties: UserProperties::new(),
            }),
        );
        self.take(client).iter().find_map(|packet| match packet {
            Packet::UnsubAck(unsuback) => Some(
                unsuback
                    .codes
                    .first()
                    .copied()
                    .unwrap_or(ReasonCode::Success),
            ),
            _ => None,
        })
    }

    /// Cuts the link: the broker sees a network failure.
    pub(crate) fn cut(&mut self, client: Client) {
        self.clients[client.0].open = false;
        let env = env(self.now, &self.index);
        let link = &mut self.clients[client.0];
        link.pump
            .detach(env, &mut self.shards[link.shard].borrow_mut());
        self.run();
    }

    /// Says DISCONNECT with this reason.
    pub(crate) fn disconnect(&mut self, client: Client, reason: ReasonCode) {
        use whimbrel_broker_core::session::codec::Disconnect;
        self.send(
            client,
            Packet::Disconnect(Box::new(Disconnect::new(reason))),
        );
    }

    pub(crate) fn is_open(&self, client: Client) -> bool {
        self.clients[client.0].open
    }

    pub(crate) fn is_blocked(&self, client: Client) -> bool {
        self.clients[client.0].blocked
    }

    pub(crate) fn stop_reading(&mut self, client: Client) {
        self.clients[client.0].reads = false;
    }

    pub(crate) fn start_reading(&mut self, client: Client) {
        self.clients[client.0].reads = true;
        self.run();
    }

    /// Somebody sets the wall clock back.
    pub(crate) fn set_clock_back_secs(&mut self, seconds: u64) {
        self.now.wall.0 -= seconds * 1000;
    }

    /// Lets time pass, and what is due happen, in order.
    pub(crate) fn advance_secs(&mut self, seconds: u64) {
        let end = self.now.tick.saturating_add(seconds * 1000);
        loop {
            let next = self
                .shards
                .iter()
                .filter_map(|shard| shard.borrow().poll_timeout())
                .min()
                .filter(|&next| next <= end);
            let to = next.unwrap_or(end).max(self.now.tick);
            self.now.wall.0 += to.since(self.now.tick);
            self.now.tick = to;
            for shard in &self.shards {
                let env = env(self.now, &self.index);
                shard.borrow_mut().handle_timeout(env);
            }
            self.run();
            if next.is_none() {
                return;
            }
        }
    }

    /// Commits every record that was appended so far.
    pub(crate) fn commit(&mut self) {
        for shard in 0..self.shards.len() {
            self.commit_of(shard);
        }
        self.run();
    }

    /// Commits what one shard has appended so far, and lets nothing happen after that.
    pub(crate) fn commit_of(&mut self, shard: usize) {
        let records = std::mem::take(&mut self.uncommitted[shard]);
        let count = records.len() as u64;
        self.journal
            .commit(records, self.index.take_retained_changes());
        let env = env(self.now, &self.index);
        self.shards[shard].borrow_mut().handle_committed(env, count);
    }

    /// The process dies, with what is not committed, and another one starts on the same journal. Every
    /// client's connection is gone.
    pub(crate) fn restart_with(&mut self, change: impl FnOnce(&mut CoreConfig)) {
        self.restart_reading(0, change);
    }

    /// The same, with a journal that takes so long to be read.
    pub(crate) fn restart_reading(&mut self, secs: u64, change: impl FnOnce(&mut CoreConfig)) {
        let mut config = (*self.config).clone();
        config.incarnation += 1;
        change(&mut config);
        self.config = Arc::new(config);
        self.index = journaled_index(&self.config);
        self.under_way.clear();
        self.loads.clear();
        for client in &mut self.clients {
            client.open = false;
        }
        let mut recovery = Recovery::new(&self.config, &self.index, self.now);
        for replayed in self.journal.replay() {
            recovery.apply(replayed).expect("what was committed");
        }
        self.now.tick = self.now.tick.saturating_add(secs * 1_000);
        self.now.wall.0 += secs * 1_000;
        recovery.told(self.now);
        let shards = recovery.finish().expect("what was committed");
        self.shards = shards.into_iter().map(RefCell::new).collect();
        self.uncommitted = self.shards.iter().map(|_| Vec::new()).collect();
        self.run();
    }

    /// Time goes on while there is no process.
    pub(crate) fn pass_secs(&mut self, seconds: u64) {
        self.now.tick = self.now.tick.saturating_add(seconds * 1_000);
        self.now.wall.0 += seconds * 1_000;
    }

    pub(crate) fn restart(&mut self) {
        self.restart_with(|_| {});
    }

    /// Runs until nothing happens any more.
    pub(crate) fn run(&mut self) {
        loop {
            let mut busy = false;
            for client in 0..self.clients.len() {
                busy |= self.feed(client);
            }
            for shard in 0..self.shards.len() {
                busy |= self.drain(shard);
            }
            if !self.hold_commits
                && let Some((shard, load)) = self.loads.pop_front()
            {
                busy = true;
                let messages = self.journal.read(load.queue, &load.positions);
                let env = env(self.now, &self.index);
                let shard = &self.shards[shard];
                shard
                    .borrow_mut()
                    .handle_loaded(env, load.session, messages);
            }
            if let Some(UnderWay { from, forward }) = self.under_way.pop_front() {
                busy = true;
                let env = env(self.now, &self.index);
                let to = &self.shards[forward.to.index()];
                to.borrow_mut().handle_message(env, from, forward.message);
            }
            if !busy {
                return;
            }
        }
    }

    pub(crate) fn stats(&self) -> whimbrel_broker_core::ShardStats {
        let mut sum = whimbrel_broker_core::ShardStats::default();
        for shard in &self.shards {
            sum.merge(&shard.borrow().stats());
        }
        sum
    }

    /// Asserts that nothing is left of all that was.
    pub(crate) fn assert_empty(&self) {
        for shard in &self.shards {
            assert_eq!(shard.borrow().residue(), Default::default());
        }
        assert_eq!(self.index.filters(), 0);
    }

    /// The connection of a client at its shard.
    pub(crate) fn key(&self, client: Client) -> ConnectionKey {
        self.clients[client.0]
            .pump
            .connection()
            .expect("the client is attached")
    }

    pub(crate) fn env(&self) -> Env<'_> {
        env(self.now, &self.index)
    }

    fn feed(&mut self, client: usize) -> bool {
        let now = self.now;
        let link = &mut self.clients[client];
        if !link.open || link.to_broker.is_empty() || link.blocked {
            return false;
        }
        let input = link.to_broker.split();
        if link.pump.connection().is_none() {
            match link.pump.handshake(now.tick, &input) {
                Handshake::NeedInput => return false,
                Handshake::Auth(_) => panic!("the rig challenges nobody"),
                Handshake::Failed => {
                    if let Some(output) = link.pump.handshake_output() {
                        drain_output(output, &mut link.from_broker);
                    }
                    link.open = false;
                    return true;
                }
                Handshake::Connect(connect) => {
                    let config = &self.config;
                    let shard = placement(&connect.client_id, config.placement_seed, config.shards);
                    link.shard = shard.index();
                    let env = env(now, &self.index);
                    let mut shard = self.shards[link.shard].borrow_mut();
                    link.pump
                        .attach(env, &mut shard, connect, Grants::default());
                }
            }
            self.pump(client, &[]);
            return true;
        }
        self.pump(client, &input);
        true
    }

    fn pump(&mut self, client: usize, input: &[u8]) {
        let link = &mut self.clients[client];
        let env = env(self.now, &self.index);
        let shard = &self.shards[link.shard];
        let status = link.pump.handle_input(env, shard, &mut OpenGate, input);
        link.blocked = status == InputStatus::Blocked;
        if status == InputStatus::Closing {
            self.finish(client);
        }
    }

    /// Writes what is left and closes.
    fn finish(&mut self, client: usize) {
        let link = &mut self.clients[client];
        let mut shard = self.shards[link.shard].borrow_mut();
        if let Some(key) = link.pump.connection()
            && let Some(output) = shard.output(key)
        {
            drain_output(output, &mut link.from_broker);
        }
        link.pump.detach(env(self.now, &self.index), &mut shard);
        link.open = false;
    }

    fn drain(&mut self, shard: usize) -> bool {
        let mut cell = self.shards[shard].borrow_mut();
        let mut busy = false;
        if cell.has_backlog() && !self.hold_backlog {
            cell.run_backlog(env(self.now, &self.index));
            busy = true;
        }
        cell.seal(env(self.now, &self.index));
        let Effects {
            forward,
            wake,
            append,
            load,
            events,
            ..
        } = std::mem::take(cell.effects());
        busy |= !load.is_empty();
        self.loads
            .extend(load.into_iter().map(|load| (shard, load)));
        let from = cell.id();
        busy |= !forward.is_empty();
        self.under_way.extend(
            forward
                .into_iter()
                .map(|forward| UnderWay { from, forward }),
        );
        self.events.extend(events);
        self.uncommitted[shard].extend(append);
        if !self.hold_commits && !self.uncommitted[shard].is_empty() {
            busy = true;
            let records = std::mem::take(&mut self.uncommitted[shard]);
            let count = records.len() as u64;
            self.journal
                .commit(records, self.index.take_retained_changes());
            cell.handle_committed(env(self.now, &self.index), count);
        }
        for key in wake {
            cell.woken(key);
            let client = self.clients.iter().position(|link| {
                link.open && link.shard == shard && link.pump.connection() == Some(key)
            });
            let Some(client) = client else {
                continue;
            };
            let link = &mut self.clients[client];
            if link.reads
                && let Some(output) = cell.output(key)
            {
                busy |= !output.is_empty();
                drain_output(output, &mut link.from_broker);
                cell.flushed(env(self.now, &self.index), key);
            }
            drop(cell);
            self.clients[client].blocked = false;
            self.pump(client, &[]);
            cell = self.shards[shard].borrow_mut();
        }
        drop(cell);
        // What could not be written before is written when the client reads again.
        for client in 0..self.clients.len() {
            let link = &mut self.clients[client];
            if !(link.open && link.reads && link.shard == shard) {
                continue;
            }
            let mut cell = self.shards[shard].borrow_mut();
            if let Some(key) = link.pump.connection()
                && let Some(output) = cell.output(key)
                && !output.is_empty()
            {
                drain_output(output, &mut link.from_broker);
                cell.flushed(env(self.now, &self.index), key);
                busy = true;
            }
        }
        busy
    }
}

fn journaled_index(config: &CoreConfig) -> Index {
    let index = Index::new(config.seed, &config.limits);
    if config.journal {
        index.journaled()
    } else {
        index
    }
}

pub(crate) struct Connected {
    pub(crate) client: Client,
    pub(crate) connack: ConnAck,
}

/// A session that ends with its connection.
pub(crate) fn clean(version: ProtocolVersion, id: &str) -> Connect {
    let mut connect = Connect::new(version, id);
    connect.clean_start = true;
    connect.keep_alive_secs = 0;
    connect
}

/// A session that outlives its connection: an hour in MQTT 5.
pub(crate) fn persistent(version: ProtocolVersion, id: &str) -> Connect {
    let mut connect = Connect::new(version, id);
    connect.clean_start = false;
    connect.keep_alive_secs = 0;
    if version.is_v5() {
        connect.properties.session_expiry_secs = 3_600;
    }
    connect
}

pub(crate) fn name(topic: &str) -> TopicNameBuf {
    TopicNameBuf::new(ByteStr::from(topic)).expect("a valid topic name")
}

pub(crate) fn message(topic: &str, payload: &str, qos: QoS) -> Publish {
    Publish::builder(name(topic))
        .payload(payload.to_owned())
        .delivery(Delivery::first(qos, PacketId::MIN))
        .build()
}

pub(crate) fn subscribe(filters: &[(&str, SubscriptionOptions)], id: Option<u32>) -> Packet {
    Packet::Subscribe(Subscribe {
        id: PacketId::MIN,
        filters: filters
            .iter()
            .map(|&(filter, options)| SubscribeFilter {
                filter: ByteStr::from(filter),
                options,
            })
            .collect(),
        subscription_id: id.and_then(SubscriptionId::new),
        user_properties: UserProperties::new(),
    })
}

fn env(now: Now, index: &Index) -> Env<'_> {
    Env { now, index }
}

fn drain_output(output: &mut WriteBuf, to: &mut BytesMut) {
    while output.has_remaining() {
        to.extend_from_slice(output.chunk());
        let written = output.chunk().len();
        output.advance(written);
    }
}
