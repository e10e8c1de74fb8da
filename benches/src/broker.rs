//! [`Broker`]: pumps and shards as a runtime drives them, with memory for sockets.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::BytesMut;
use whimbrel_broker_core::session::Tick;
use whimbrel_broker_core::session::codec::topic::TopicNameBuf;
use whimbrel_broker_core::session::codec::{
    Connect, Delivery, Packet, PacketId, ProtocolVersion, Publish, QoS, Subscribe, SubscribeFilter,
    SubscriptionOptions, UserProperties,
};
use whimbrel_broker_core::{
    ConnectionKey, ConnectionPump, CoreConfig, Env, Forward, Grants, Handshake, Index, InputStatus,
    Now, OpenGate, Shard, ShardId, UnixMillis, placement,
};

/// Who sends how much to whom.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// What all clients speak.
    pub version: ProtocolVersion,
    /// QoS of publications and subscriptions.
    pub qos: QoS,
    /// Clients that are subscribed to the one topic.
    pub subscribers: usize,
    /// Publications that come in one read.
    pub batch: usize,
    /// One, or two: then publisher and subscribers are on different ones.
    pub shards: usize,
}

/// A broker with a publisher and its subscribers, in one thread and at one moment.
#[derive(Debug)]
pub struct Broker {
    shape: Shape,
    index: Index,
    shards: Vec<RefCell<Shard>>,
    clients: Vec<Client>,
    /// The client of each connection, by shard and place.
    clients_by_key: Vec<Vec<usize>>,
    under_way: VecDeque<UnderWay>,
    woken: Vec<ConnectionKey>,
    input: BytesMut,
    /// The length of one delivered PUBLISH, and where in it its packet identifier is.
    frame_length: usize,
    packet_id_at: usize,
    deliveries: usize,
    publisher_acks: usize,
}

#[derive(Debug)]
struct Client {
    pump: ConnectionPump,
    shard: usize,
    is_subscriber: bool,
    is_blocked: bool,
    /// Acknowledgements that the broker has not read yet.
    answers: BytesMut,
}

#[derive(Debug)]
struct UnderWay {
    from: ShardId,
    forward: Forward,
}

impl Broker {
    /// Connects and subscribes everybody.
    ///
    /// # Panics
    /// When the shape is impossible, or the broker does not do as it should.
    pub fn new(shape: Shape) -> Broker {
        let mut config = CoreConfig::default();
        config.shards = shape.shards;
        config.validate().expect("a possible number of shards");
        let config = Arc::new(config);
        let shards: Vec<_> = (0..shape.shards)
            .filter_map(ShardId::new)
            .map(|id| RefCell::new(Shard::new(id, Arc::clone(&config))))
            .collect();
        let mut broker = Broker {
            shape,
            index: Index::new(config.seed, &config.limits),
            clients: Vec::new(),
            clients_by_key: vec![Vec::new(); shape.shards],
            under_way: VecDeque::new(),
            woken: Vec::new(),
            input: publications(shape),
            frame_length: encoded(&publication(shape.qos, PacketId::MIN), shape.version).len(),
            // Fixed header of two bytes, length of the topic, topic.
            packet_id_at: 2 + 2 + TOPIC.len(),
            deliveries: 0,
            publisher_acks: 0,
            shards,
        };
        let mut names = (0..).map(|count| format!("client-{count}"));
        let mut name_on = |shard: usize| {
            names
                .find(|name| placement(name, config.placement_seed, shape.shards).index() == shard)
                .expect("there is no end of names")
        };
        broker.connect(&name_on(0), 0);
        for _ in 0..shape.subscribers {
            let shard = shape.shards - 1;
            broker.connect(&name_on(shard), shard);
            broker.subscribe();
        }
        broker.check();
        broker
    }

    /// The publisher sends its batch; everything that follows from it happens. Returns the number of deliveries.
    pub fn turn(&mut self) -> usize {
        self.deliveries = 0;
        self.publisher_acks = 0;
        let input = std::mem::take(&mut self.input);
        self.pump(PUBLISHER, &input);
        self.input = input;
        self.settle();
        self.deliveries
    }

    /// What the shape promises is what happens.
    fn check(&mut self) {
        for _ in 0..3 {
            assert_eq!(self.turn(), self.shape.batch * self.shape.subscribers);
            let acknowledged = match self.shape.qos {
                QoS::AtMostOnce => 0,
                QoS::AtLeastOnce | QoS::ExactlyOnce => self.shape.batch,
            };
            assert_eq!(self.publisher_acks, acknowledged);
        }
        for shard in &self.shards {
            assert_eq!(shard.borrow().residue().queued_messages, 0);
            assert_eq!(shard.borrow().residue().window_bytes, 0);
        }
    }

    fn connect(&mut self, name: &str, shard: usize) {
        let env = env(&self.index);
        let config = CoreConfig::default().connection;
        let mut pump = ConnectionPump::new(NOW.tick, config);
        let mut connect = Connect::new(self.shape.version, name);
        connect.keep_alive_secs = 0;
        let bytes = encoded(&Packet::Connect(Box::new(connect)), self.shape.version);
        let Handshake::Connect(connect) = pump.handshake(NOW.tick, &bytes) else {
            panic!("a whole CONNECT was given");
        };
        let key = {
            let mut shard = self.shards[shard].borrow_mut();
            pump.attach(env, &mut shard, connect, Grants::default())
        };
        let by_key = &mut self.clients_by_key[shard];
        let place = key.expect("the first CONNECT").index();
        if by_key.len() <= place {
            by_key.resize(place + 1, PUBLISHER);
        }
        by_key[place] = self.clients.len();
        self.clients.push(Client {
            pump,
            shard,
            is_subscriber: false,
            is_blocked: false,
            answers: BytesMut::new(),
        });
        self.settle();
    }

    /// Subscribes who came last.
    fn subscribe(&mut self) {
        let subscribe = Packet::Subscribe(Subscribe {
            id: PacketId::MIN,
            filters: vec![SubscribeFilter {
                filter: TOPIC.into(),
                options: SubscriptionOptions::new(self.shape.qos),
            }],
            subscription_id: None,
            user_properties: UserProperties::new(),
        });
        let bytes = encoded(&subscribe, self.shape.version);
        let client = self.clients.len() - 1;
        self.pump(client, &bytes);
        self.settle();
        self.clients[client].is_subscriber = true;
    }

    fn pump(&mut self, client: usize, input: &[u8]) {
        let client = &mut self.clients[client];
        let env = env(&self.index);
        let shard = &self.shards[client.shard];
        let status = client.pump.handle_input(env, shard, &mut OpenGate, input);
        assert_ne!(status, InputStatus::Closing, "a client broke the protocol");
        client.is_blocked = status == InputStatus::Blocked;
    }

    /// Carries out what the shards ask for until they ask for nothing more.
    fn settle(&mut self) {
        loop {
            let mut is_busy = false;
            for shard in 0..self.shards.len() {
                is_busy |= self.take_effects(shard);
            }
            while let Some(UnderWay { from, forward }) = self.under_way.pop_front() {
                let to = &self.shards[forward.to.index()];
                let env = env(&self.index);
                to.borrow_mut().handle_message(env, from, forward.message);
                is_busy = true;
            }
            if !is_busy {
                return;
            }
        }
    }

    fn take_effects(&mut self, number: usize) -> bool {
        let mut shard = self.shards[number].borrow_mut();
        let mut is_busy = false;
        if shard.has_backlog() {
            shard.run_backlog(env(&self.index));
            is_busy = true;
        }
        let from = shard.id();
        let effects = shard.effects();
        effects.events.clear();
        let forwards = effects.forward.drain(..);
        self.under_way
            .extend(forwards.map(|forward| UnderWay { from, forward }));
        std::mem::swap(&mut effects.wake, &mut self.woken);
        drop(shard);
        let mut woken = std::mem::take(&mut self.woken);
        for key in woken.drain(..) {
            self.serve(number, key);
            is_busy = true;
        }
        self.woken = woken;
        is_busy
    }

    /// What a connection's task does when it is woken: write, then read.
    fn serve(&mut self, number: usize, key: ConnectionKey) {
        let place = self.clients_by_key[number][key.index()];
        let client = &mut self.clients[place];
        let mut shard = self.shards[number].borrow_mut();
        shard.woken(key);
        if let Some(output) = shard.output(key) {
            let chunk = output.chunk();
            if client.is_subscriber {
                let frames = chunk.chunks_exact(self.frame_length);
                self.deliveries += frames.len();
                assert!(frames.remainder().is_empty(), "nothing but PUBLISH");
                if self.shape.qos == QoS::AtLeastOnce {
                    for frame in frames {
                        let id = &frame[self.packet_id_at..][..2];
                        client.answers.extend_from_slice(&[0x40, 2, id[0], id[1]]);
                    }
                }
            } else if place == PUBLISHER {
                // Nothing but PUBACK, once its CONNACK is out; in 3.1.1 all of 4 bytes.
                self.publisher_acks += chunk.len() / 4;
            }
            let written = chunk.len();
            output.advance(written);
            assert!(output.is_empty(), "small packets are in one piece");
            shard.flushed(env(&self.index), key);
        }
        drop(shard);
        if client.is_blocked || !client.answers.is_empty() {
            let mut answers = std::mem::take(&mut client.answers);
            self.pump(place, &answers);
            answers.clear();
            self.clients[place].answers = answers;
        }
    }
}

/// The publisher's reads: one batch.
fn publications(shape: Shape) -> BytesMut {
    let mut bytes = BytesMut::new();
    for number in 1..=shape.batch {
        let id = u16::try_from(number).ok().and_then(PacketId::new);
        let publish = publication(shape.qos, id.expect("a batch of less than 65,536"));
        bytes.extend_from_slice(&encoded(&publish, shape.version));
    }
    bytes
}

fn publication(qos: QoS, id: PacketId) -> Packet {
    let topic = TopicNameBuf::try_from(TOPIC).expect("a valid topic name");
    let publish = Publish::builder(topic)
        .payload(vec![b'x'; PAYLOAD_BYTES])
        .delivery(Delivery::first(qos, id))
        .build();
    Packet::Publish(publish)
}

fn encoded(packet: &Packet, version: ProtocolVersion) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoded = packet.encode(version, &mut bytes);
    encoded.expect("the packet has a form in this version");
    bytes
}

fn env(index: &Index) -> Env<'_> {
    Env { now: NOW, index }
}

/// The first to connect.
const PUBLISHER: usize = 0;
const TOPIC: &str = "site/12/345/state";
const PAYLOAD_BYTES: usize = 64;
const NOW: Now = Now {
    tick: Tick(1_000),
    wall: UnixMillis(1_700_000_000_000),
};
