//! [`Stage`]: a broker core with clients that do as they should, where only what the broker does is counted.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use whimbrel_broker_core::session::codec::{
    Ack, AckRef, Connect, Decoded, Delivery, Limits, Packet, PacketId, PacketRef, ProtocolVersion,
    ReasonCode, decode_ref,
};
use whimbrel_broker_core::session::{ServerConfig, Tick};
use whimbrel_broker_core::{
    ConnectionKey, ConnectionPump, CoreConfig, Env, Forward, Grants, Handshake, Index, InputStatus,
    Now, OpenGate, Shard, ShardId, UnixMillis, placement,
};

use crate::counted::counted;

/// A broker of one or more shards in one thread and at one moment, without sockets.
///
/// Clients acknowledge what they get and finish what they began. What they do is never counted; what pumps and shards
/// do is, within [`count`](Self::count).
#[derive(Debug)]
pub struct Stage {
    config: Arc<CoreConfig>,
    /// Shared by all connections, as in a broker.
    connection_config: Arc<ServerConfig>,
    index: Index,
    shards: Vec<RefCell<Shard>>,
    clients: Vec<Client>,
    /// The client of each connection, by shard and place.
    clients_by_key: Vec<Vec<usize>>,
    under_way: VecDeque<UnderWay>,
    is_counting: bool,
    tally: Tally,
}

/// A client of a [`Stage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientNumber(usize);

/// What clients have got since [`Stage::count`] began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages.
    pub deliveries: usize,
    /// The last packets of exchanges that they began: PUBACK and PUBCOMP.
    pub finished: usize,
    /// SUBACK and UNSUBACK.
    pub answered: usize,
    /// CONNACK.
    pub accepted: usize,
}

#[derive(Debug)]
struct Client {
    pump: ConnectionPump,
    version: ProtocolVersion,
    shard: usize,
    is_blocked: bool,
    /// From the broker, not read yet.
    received: BytesMut,
    /// For the broker, not sent yet.
    answers: BytesMut,
}

#[derive(Debug)]
struct UnderWay {
    from: ShardId,
    forward: Forward,
}

impl Stage {
    /// A broker that nobody is connected to.
    ///
    /// # Panics
    /// When there can't be as many shards.
    pub fn new(shards: usize) -> Stage {
        let mut config = CoreConfig::default();
        config.shards = shards;
        config.validate().expect("a possible number of shards");
        let config = Arc::new(config);
        Stage {
            index: Index::new(config.seed, &config.limits),
            shards: (0..shards)
                .filter_map(ShardId::new)
                .map(|id| RefCell::new(Shard::new(id, Arc::clone(&config))))
                .collect(),
            clients: Vec::new(),
            clients_by_key: vec![Vec::new(); shards],
            under_way: VecDeque::new(),
            is_counting: false,
            tally: Tally::default(),
            connection_config: Arc::new(config.connection),
            config,
        }
    }

    /// Counts what the broker does during `scene`, and says what the clients got.
    pub fn count(&mut self, scene: impl FnOnce(&mut Stage)) -> Tally {
        self.tally = Tally::default();
        self.is_counting = true;
        scene(self);
        self.is_counting = false;
        self.tally
    }

    /// A client identifier, the first that begins with `prefix`, whose session is on `shard`.
    ///
    /// # Panics
    /// When there is no such shard.
    pub fn client_id_on(&self, prefix: &str, shard: usize) -> String {
        assert!(shard < self.shards.len(), "no shard {shard}");
        let placed = |name: &String| {
            placement(name, self.config.placement_seed, self.shards.len()).index() == shard
        };
        let mut names = (0..).map(|count| format!("{prefix}-{count}"));
        names.find(placed).expect("there is no end of names")
    }

    /// Connects a client.
    ///
    /// # Panics
    /// When it is refused.
    pub fn connect(&mut self, connect: &Packet, version: ProtocolVersion) -> ClientNumber {
        let Packet::Connect(parameters) = connect else {
            panic!("a client begins with CONNECT");
        };
        let shards = self.shards.len();
        let shard = placement(&parameters.client_id, self.config.placement_seed, shards).index();
        let bytes = encoded(connect, version);
        let accepted = self.tally.accepted;
        let env = env(&self.index);
        let (config, is_counting) = (&self.connection_config, self.is_counting);
        let (pump, handshake) = step(is_counting, || {
            let mut pump = ConnectionPump::new(NOW.tick, Arc::clone(config));
            let handshake = pump.handshake(NOW.tick, &bytes);
            (pump, handshake)
        });
        let Handshake::Connect(connect) = handshake else {
            panic!("a whole CONNECT was given");
        };
        let mut client = Client {
            pump,
            version,
            shard,
            is_blocked: false,
            received: BytesMut::new(),
            answers: BytesMut::new(),
        };
        let key = {
            let shard = &mut self.shards[shard].borrow_mut();
            step(is_counting, || {
                client.pump.attach(env, shard, connect, Grants::default())
            })
        };
        let by_key = &mut self.clients_by_key[shard];
        let place = key.expect("the first CONNECT").index();
        if by_key.len() <= place {
            by_key.resize(place + 1, usize::MAX);
        }
        by_key[place] = self.clients.len();
        let number = ClientNumber(self.clients.len());
        self.clients.push(client);
        self.settle();
        assert_eq!(self.tally.accepted, accepted + 1, "the client is refused");
        number
    }

    /// A client sends `bytes`, whole packets; everything that follows from it happens.
    pub fn send(&mut self, client: ClientNumber, bytes: &[u8]) {
        self.pump(client.0, bytes);
        self.settle();
    }

    /// A client takes its leave with DISCONNECT, and closes.
    pub fn disconnect(&mut self, client: ClientNumber) {
        let bytes = [0xE0, 0];
        let Client { pump, shard, .. } = &mut self.clients[client.0];
        let (env, shard) = (env(&self.index), &self.shards[*shard]);
        let status = step(self.is_counting, || {
            pump.handle_input(env, shard, &mut OpenGate, &bytes)
        });
        assert_eq!(status, InputStatus::Closing, "DISCONNECT ends a connection");
        step(self.is_counting, || {
            pump.detach(env, &mut shard.borrow_mut());
        });
        self.settle();
    }

    /// Nothing is queued, under way or unacknowledged.
    ///
    /// # Panics
    /// When something is.
    pub fn assert_at_rest(&self) {
        for shard in &self.shards {
            let residue = shard.borrow().residue();
            assert_eq!(residue.queued_messages, 0);
            assert_eq!(residue.window_bytes, 0);
            assert_eq!(residue.exchanges, 0);
        }
    }

    fn pump(&mut self, client: usize, input: &[u8]) {
        let Client {
            pump,
            shard,
            is_blocked,
            ..
        } = &mut self.clients[client];
        let (env, shard) = (env(&self.index), &self.shards[*shard]);
        let status = step(self.is_counting, || {
            pump.handle_input(env, shard, &mut OpenGate, input)
        });
        assert_ne!(status, InputStatus::Closing, "a client broke the protocol");
        *is_blocked = status == InputStatus::Blocked;
    }

    /// Carries out what the shards ask for until they ask for nothing more.
    fn settle(&mut self) {
        loop {
            let mut is_busy = false;
            for shard in 0..self.shards.len() {
                is_busy |= self.take_effects(shard);
            }
            while let Some(UnderWay { from, forward }) = self.under_way.pop_front() {
                let mut to = self.shards[forward.to.index()].borrow_mut();
                let env = env(&self.index);
                step(self.is_counting, || {
                    to.handle_message(env, from, forward.message);
                });
                is_busy = true;
            }
            if !is_busy {
                return;
            }
        }
    }

    fn take_effects(&mut self, number: usize) -> bool {
        let mut shard = self.shards[number].borrow_mut();
        let env = env(&self.index);
        let mut is_busy = false;
        if shard.has_backlog() {
            step(self.is_counting, || shard.run_backlog(env));
            is_busy = true;
        }
        let from = shard.id();
        let effects = shard.effects();
        effects.events.clear();
        let forwards = effects.forward.drain(..);
        self.under_way
            .extend(forwards.map(|forward| UnderWay { from, forward }));
        let woken = std::mem::take(&mut effects.wake);
        drop(shard);
        for key in woken {
            self.serve(number, key);
            is_busy = true;
        }
        is_busy
    }

    /// What a connection's task does when it is woken: write until nothing is left, then read.
    fn serve(&mut self, number: usize, key: ConnectionKey) {
        let place = self.clients_by_key[number][key.index()];
        let is_counting = self.is_counting;
        let env = env(&self.index);
        let mut shard = self.shards[number].borrow_mut();
        step(is_counting, || shard.woken(key));
        loop {
            let Some(output) = shard.output(key) else {
                return;
            };
            let written = output.chunk().len();
            if written == 0 {
                break;
            }
            self.clients[place]
                .received
                .extend_from_slice(output.chunk());
            step(is_counting, || output.advance(written));
            step(is_counting, || shard.flushed(env, key));
        }
        drop(shard);
        self.clients[place].answer(&mut self.tally);
        let client = &mut self.clients[place];
        if client.is_blocked || !client.answers.is_empty() {
            let mut answers = std::mem::take(&mut client.answers);
            self.pump(place, &answers);
            answers.clear();
            self.clients[place].answers = answers;
        }
    }
}

impl Client {
    /// Reads what came, and writes what has to be said to it.
    fn answer(&mut self, tally: &mut Tally) {
        loop {
            let decoded = decode_ref(&self.received, self.version, &Limits::DEFAULT);
            let decoded = decoded.expect("the broker keeps to the protocol");
            let Some(Decoded { packet, length }) = decoded else {
                return;
            };
            let answer = match packet {
                PacketRef::Publish(publish) => {
                    tally.deliveries += 1;
                    match publish.delivery() {
                        Delivery::AtMostOnce => None,
                        Delivery::AtLeastOnce { id, .. } => Some(Packet::PubAck(Ack::success(id))),
                        Delivery::ExactlyOnce { id, .. } => Some(Packet::PubRec(Ack::success(id))),
                    }
                }
                PacketRef::PubRec(ack) => Some(Packet::PubRel(Ack::success(accepted(&ack)))),
                PacketRef::PubRel(ack) => Some(Packet::PubComp(Ack::success(accepted(&ack)))),
                PacketRef::PubAck(ack) | PacketRef::PubComp(ack) => {
                    accepted(&ack);
                    tally.finished += 1;
                    None
                }
                PacketRef::SubAck(_) | PacketRef::UnsubAck(_) => {
                    tally.answered += 1;
                    None
                }
                PacketRef::ConnAck(_) => {
                    tally.accepted += 1;
                    None
                }
                other => panic!("a broker does not send {other:?} here"),
            };
            if let Some(answer) = answer {
                self.answers
                    .extend_from_slice(&encoded(&answer, self.version));
            }
            self.received.advance(length);
        }
    }
}

/// A packet's bytes.
///
/// # Panics
/// When it has no form in this version.
pub fn encoded(packet: &Packet, version: ProtocolVersion) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoded = packet.encode(version, &mut bytes);
    encoded.expect("the packet has a form in this version");
    bytes
}

/// A CONNECT that is never too late: nothing here takes time.
pub fn connect_packet(version: ProtocolVersion, client_id: &str, clean_start: bool) -> Packet {
    let mut connect = Connect::new(version, client_id);
    connect.keep_alive_secs = 0;
    connect.clean_start = clean_start;
    if !clean_start && version.is_v5() {
        connect.properties.session_expiry_secs = u32::MAX;
    }
    Packet::Connect(Box::new(connect))
}

fn accepted(ack: &AckRef<'_>) -> PacketId {
    let is_fine = matches!(
        ack.reason,
        ReasonCode::Success | ReasonCode::NoMatchingSubscribers
    );
    assert!(is_fine, "{ack:?}");
    ack.id
}

fn step<R>(is_counting: bool, operation: impl FnOnce() -> R) -> R {
    if is_counting {
        counted(operation)
    } else {
        operation()
    }
}

fn env(index: &Index) -> Env<'_> {
    Env { now: NOW, index }
}

const NOW: Now = Now {
    tick: Tick(1_000),
    wall: UnixMillis(1_700_000_000_000),
};
