//! Any bytes from any clients into two shards, with any order of hops, commits and time: nothing panics, no bound is
//! exceeded, and when everybody has gone nothing is left.
#![no_main]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU16;
use std::sync::Arc;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use whimbrel_broker_core::session::codec::{
    AckProperties, AuthRef, ConnAckProperties, Connect, Disconnect, Packet, ProtocolVersion, ReasonCode,
    SubscribeRef,
};
use whimbrel_broker_core::session::{InboundPublish, Tick, UsageError};
use whimbrel_broker_core::{
    AuthenticationAnswer, ConnectionKey, ConnectionPump, CoreConfig, Env, Gate, Grants, Handshake,
    Holder, Index, InputStatus, Load, Now, Position, QueueId, Record, Residue, Shard, ShardId,
    ShardMessage, StoredMessage, UnixMillis, Verdict, placement,
};
use whimbrel_fuzz::small_limits;

#[derive(Arbitrary, Debug)]
struct Run {
    journal: bool,
    narrow: bool,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    /// A connection comes, and goes on as one that has said CONNECT.
    Connect {
        version: ProtocolVersion,
        client: u8,
        clean_start: bool,
        keep_alive_secs: u8,
        session_expiry_secs: u8,
        receive_maximum: u8,
    },
    /// A connection comes and says whatever it likes.
    Open,
    /// Well-formed packets.
    Packet {
        nth: u8,
        packet: Packet,
    },
    /// Any bytes.
    Noise {
        nth: u8,
        bytes: Vec<u8>,
    },
    /// The connection takes so much of its output.
    Take {
        nth: u8,
        count: u16,
    },
    Wake {
        nth: u8,
    },
    Close {
        nth: u8,
    },
    Hop {
        pair: u8,
    },
    Commit {
        shard: u8,
        records: u8,
    },
    Backlog {
        shard: u8,
    },
    Advance {
        ms: u16,
    },
}

struct Socket {
    pump: ConnectionPump,
    /// A CONNECT whose client is to say more.
    challenged: Option<Box<Connect>>,
    version: ProtocolVersion,
    place: Option<(usize, ConnectionKey)>,
}

struct World {
    config: Arc<CoreConfig>,
    index: Index,
    shards: Vec<RefCell<Shard>>,
    hops: Vec<VecDeque<ShardMessage>>,
    uncommitted: Vec<u64>,
    /// What the records say that queues hold.
    stored: BTreeMap<(QueueId, Position), StoredMessage>,
    ended: BTreeSet<QueueId>,
    loads: VecDeque<(usize, Load)>,
    sockets: Vec<Socket>,
    now_ms: u64,
}

/// Refuses and discards by the topic, so that verdicts are met too.
#[derive(Default)]
struct ByTopic {
    /// How long the data of the last AUTH are.
    asked: Option<usize>,
}

impl Gate for ByTopic {
    fn publish(&mut self, publish: &InboundPublish<'_>) -> Verdict {
        match publish.topic.as_str().as_bytes().last() {
            Some(b'r') => Verdict::Refuse(ReasonCode::NotAuthorized),
            Some(b'd') => Verdict::Discard,
            _ => Verdict::Allow,
        }
    }

    fn subscribe(&mut self, subscribe: &SubscribeRef<'_>) -> Verdict {
        match subscribe.filters().len() {
            3 => Verdict::Filters(vec![ReasonCode::Success, ReasonCode::NotAuthorized]),
            _ => Verdict::Allow,
        }
    }

    fn authenticate(&mut self, auth: &AuthRef<'_>) -> Verdict {
        let data = auth.properties.authentication_data();
        self.asked = Some(data.map_or(0, <[u8]>::len));
        Verdict::Pending
    }
}

impl World {
    fn new(run: &Run) -> World {
        let mut config = CoreConfig::default();
        config.shards = SHARDS;
        config.journal = run.journal;
        // Every session ends some time.
        config.v3_session_expiry_secs = 1_000;
        config.session_expiry_secs_max = 1_000;
        config.connection.limits = small_limits();
        config.connection.receive_maximum = NonZeroU16::new(4).unwrap();
        config.connection.in_flight_max = NonZeroU16::new(3).unwrap();
        config.connection.output_bytes_max = 2_000;
        config.limits.queue_messages_max = 5;
        config.limits.queue_window_messages = 2;
        config.limits.clean_queue_messages_max = 3;
        config.limits.queue_bytes_total_max = QUEUE_BYTES_TOTAL;
        config.limits.subscriptions_per_session_max = 6;
        config.limits.retained_messages_max = RETAINED;
        if run.narrow {
            config.limits.shard_window_bytes = 200;
            config.limits.step_budget = 1;
            config.limits.group_credit = 1;
            config.limits.match_cache_topics = 2;
        }
        let config = Arc::new(config);
        let index = Index::new(1, &config.limits);
        World {
            index: if run.journal {
                index.journaled()
            } else {
                index
            },
            stored: BTreeMap::new(),
            ended: BTreeSet::new(),
            loads: VecDeque::new(),
            shards: (0..SHARDS)
                .map(|index| {
                    RefCell::new(Shard::new(
                        ShardId::new(index).unwrap(),
                        Arc::clone(&config),
                    ))
                })
                .collect(),
            hops: (0..SHARDS * SHARDS).map(|_| VecDeque::new()).collect(),
            uncommitted: vec![0; SHARDS],
            sockets: Vec::new(),
            now_ms: 0,
            config,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Connect {
                version,
                client,
                clean_start,
                keep_alive_secs,
                session_expiry_secs,
                receive_maximum,
            } => {
                if self.open() {
                    let mut connect = Connect::new(version, format!("c{}", client % 4));
                    connect.clean_start = clean_start;
                    connect.keep_alive_secs = keep_alive_secs.into();
                    connect.properties.session_expiry_secs = session_expiry_secs.into();
                    connect.properties.receive_maximum =
                        NonZeroU16::new(receive_maximum.into()).unwrap_or(NonZeroU16::MAX);
                    let packet = Packet::Connect(Box::new(connect));
                    self.packet(self.sockets.len() - 1, &packet);
                }
            }
            Step::Open => {
                self.open();
            }
            Step::Packet { nth, packet } => {
                if let Some(nth) = self.pick(nth) {
                    self.packet(nth, &packet);
                }
            }
            Step::Noise { nth, bytes } => {
                if let Some(nth) = self.pick(nth) {
                    self.input(nth, &bytes);
                }
            }
            Step::Take { nth, count } => {
                if let Some(nth) = self.pick(nth) {
                    self.take(nth, count.into());
                }
            }
            Step::Wake { nth } => {
                if let Some(nth) = self.pick(nth) {
                    self.wake(nth);
                }
            }
            Step::Close { nth } => {
                if let Some(nth) = self.pick(nth) {
                    self.close(nth);
                }
            }
            Step::Hop { pair } => {
                let pair = usize::from(pair) % self.hops.len();
                self.hop(pair);
            }
            Step::Commit { shard, records } => {
                self.commit(usize::from(shard) % SHARDS, records.into());
            }
            Step::Backlog { shard } => {
                let shard = usize::from(shard) % SHARDS;
                let env = env(&self.index, self.now_ms);
                self.shards[shard].borrow_mut().run_backlog(env);
                self.drain(shard);
            }
            Step::Advance { ms } => self.advance(ms.into()),
        }
    }

    fn pick(&self, nth: u8) -> Option<usize> {
        usize::from(nth).checked_rem(self.sockets.len())
    }

    fn open(&mut self) -> bool {
        let room = self.sockets.len() < SOCKETS;
        if room {
            self.sockets.push(Socket {
                pump: ConnectionPump::new(Tick(self.now_ms), self.config.connection),
                challenged: None,
                version: ProtocolVersion::V5,
                place: None,
            });
        }
        room
    }

    fn attach(&mut self, nth: usize, connect: Box<Connect>) {
        let env = env(&self.index, self.now_ms);
        let socket = &mut self.sockets[nth];
        socket.version = connect.version;
        let shard = placement(&connect.client_id, 0, SHARDS).index();
        let mut target = self.shards[shard].borrow_mut();
        let key = socket
            .pump
            .attach(env, &mut target, connect, Grants::default());
        drop(target);
        socket.place = key.map(|key| (shard, key));
        self.drain(shard);
    }

    /// Answers an AUTH, if there was one, by the length of its data.
    fn answer(&mut self, shard: usize, key: ConnectionKey, asked: Option<usize>) {
        let answer = match asked {
            None => return,
            Some(length) if length % 3 == 0 => AuthenticationAnswer::Continue(None),
            Some(length) if length % 3 == 1 => AuthenticationAnswer::Confirm(None),
            Some(_) => {
                let refusal = Disconnect::new(ReasonCode::NotAuthorized);
                AuthenticationAnswer::Refuse(Box::new(refusal))
            }
        };
        let env = env(&self.index, self.now_ms);
        self.shards[shard]
            .borrow_mut()
            .answer_authentication(env, key, answer);
    }

    fn packet(&mut self, nth: usize, packet: &Packet) {
        let mut bytes = Vec::new();
        if packet.encode(self.sockets[nth].version, &mut bytes).is_ok() {
            self.input(nth, &bytes);
        }
    }

    fn input(&mut self, nth: usize, bytes: &[u8]) {
        let env = env(&self.index, self.now_ms);
        let socket = &mut self.sockets[nth];
        if let Some((shard, key)) = socket.place {
            // A task that is blocked does not read.
            if socket.pump.carried() < CARRIED_MAX {
                let mut gate = ByTopic::default();
                socket
                    .pump
                    .handle_input(env, &self.shards[shard], &mut gate, bytes);
                self.answer(shard, key, gate.asked);
                self.drain(shard);
            }
            return;
        }
        match socket.pump.handshake(Tick(self.now_ms), bytes) {
            Handshake::NeedInput => {}
            Handshake::Failed => self.close(nth),
            // Who names a method is asked once, and let in with what it said first.
            Handshake::Connect(connect)
                if connect.properties.authentication.is_some() && !connect.client_id.is_empty() =>
            {
                let challenged = socket.pump.challenge(None, AckProperties::new());
                let too_large = Err(UsageError::TooLarge);
                assert!(
                    challenged == Ok(()) || challenged == too_large,
                    "{challenged:?}"
                );
                socket.challenged = Some(connect);
            }
            Handshake::Auth(_) => {
                if let Some(connect) = socket.challenged.take() {
                    self.attach(nth, connect);
                }
            }
            Handshake::Connect(connect) if connect.client_id.is_empty() => {
                let refused = socket.pump.refuse(
                    ReasonCode::ClientIdentifierNotValid,
                    ConnAckProperties::default(),
                );
                assert!(refused.is_ok(), "{refused:?}");
                self.close(nth);
            }
            Handshake::Connect(connect) => self.attach(nth, connect),
        }
    }

    fn wake(&mut self, nth: usize) {
        let env = env(&self.index, self.now_ms);
        let socket = &mut self.sockets[nth];
        let Some((shard, key)) = socket.place else {
            return;
        };
        self.shards[shard].borrow_mut().woken(key);
        let mut gate = ByTopic::default();
        let status = socket
            .pump
            .handle_input(env, &self.shards[shard], &mut gate, &[]);
        self.answer(shard, key, gate.asked);
        self.drain(shard);
        if status == InputStatus::Closing {
            self.take(nth, usize::MAX);
            self.close(nth);
        }
    }

    fn take(&mut self, nth: usize, count: usize) {
        let env = env(&self.index, self.now_ms);
        let socket = &self.sockets[nth];
        let Some((shard, key)) = socket.place else {
            return;
        };
        let mut target = self.shards[shard].borrow_mut();
        if let Some(output) = target.output(key) {
            assert!(
                output.len() <= OUTPUT_MAX,
                "{} bytes of output",
                output.len()
            );
            let count = count.min(output.len());
            output.advance(count);
            target.flushed(env, key);
        }
        drop(target);
        self.drain(shard);
    }

    fn close(&mut self, nth: usize) {
        let env = env(&self.index, self.now_ms);
        let mut socket = self.sockets.swap_remove(nth);
        if let Some((shard, _)) = socket.place {
            socket
                .pump
                .detach(env, &mut self.shards[shard].borrow_mut());
            self.drain(shard);
        }
    }

    fn hop(&mut self, pair: usize) -> bool {
        let Some(message) = self.hops[pair].pop_front() else {
            return false;
        };
        let (from, to) = (pair / SHARDS, pair % SHARDS);
        let env = env(&self.index, self.now_ms);
        self.shards[to]
            .borrow_mut()
            .handle_message(env, ShardId::new(from).unwrap(), message);
        self.drain(to);
        true
    }

    fn commit(&mut self, shard: usize, records: u64) -> bool {
        let records = records.min(self.uncommitted[shard]);
        self.uncommitted[shard] -= records;
        let env = env(&self.index, self.now_ms);
        self.shards[shard]
            .borrow_mut()
            .handle_committed(env, records);
        self.drain(shard);
        records > 0
    }

    /// Reads back what a shard has asked for first.
    fn load(&mut self) -> bool {
        let Some((shard, load)) = self.loads.pop_front() else {
            return false;
        };
        // What is done with since, or ended, is not asked for again.
        let read = |position| self.stored.get(&(load.queue, position)).cloned();
        let messages = load.positions.iter().copied().filter_map(read).collect();
        let env = env(&self.index, self.now_ms);
        self.shards[shard]
            .borrow_mut()
            .handle_loaded(env, load.session, messages);
        self.drain(shard);
        true
    }

    fn advance(&mut self, ms: u64) {
        self.now_ms += ms;
        for shard in 0..SHARDS {
            loop {
                let due = self.shards[shard].borrow().poll_timeout();
                if due.is_none_or(|due| due.0 > self.now_ms) {
                    break;
                }
                let env = env(&self.index, self.now_ms);
                self.shards[shard].borrow_mut().handle_timeout(env);
                self.drain(shard);
            }
        }
    }

    fn drain(&mut self, from: usize) {
        let mut shard = self.shards[from].borrow_mut();
        shard.seal(env(&self.index, self.now_ms));
        let effects = std::mem::take(shard.effects());
        for forward in effects.forward {
            self.hops[from * SHARDS + forward.to.index()].push_back(forward.message);
        }
        assert!(self.config.journal || effects.append.is_empty());
        self.uncommitted[from] += effects.append.len() as u64;
        for record in effects.append {
            match record {
                Record::Enqueued {
                    position,
                    message,
                    holders,
                } => {
                    for Holder { queue, form } in holders.iter() {
                        let stored = StoredMessage {
                            position,
                            message: message.clone(),
                            form,
                        };
                        let old = self.stored.insert((queue, position), stored);
                        assert!(old.is_none(), "a place is given twice");
                    }
                }
                Record::Done { queue, positions } => {
                    for position in positions {
                        let done = self.stored.remove(&(queue, position));
                        let is_over = self.ended.contains(&queue);
                        assert!(done.is_some() || is_over, "done twice, or never there");
                    }
                }
                Record::SessionEnded { session: queue } | Record::GroupEnded { group: queue } => {
                    self.stored.retain(|&(of, _), _| of != queue);
                    self.ended.insert(queue);
                }
                _ => {}
            }
        }
        self.loads
            .extend(effects.load.into_iter().map(|load| (from, load)));
        let stats = shard.stats();
        // One message may be larger than the whole allowance; it passes alone.
        assert!(stats.queued_bytes - stats.queued_disk_bytes <= (QUEUE_BYTES_TOTAL / SHARDS + MESSAGE_MAX) as u64 * 2);
        assert!(stats.connections <= SOCKETS as u64);
        assert!(self.index.retained_messages() <= RETAINED);
    }

    /// Until nothing is under way.
    fn settle(&mut self) {
        for round in 0.. {
            assert!(round < 100_000, "the shards never come to rest");
            let mut moved = false;
            for pair in 0..self.hops.len() {
                moved |= self.hop(pair);
            }
            moved |= self.load();
            for shard in 0..SHARDS {
                moved |= self.commit(shard, u64::MAX);
                let mut target = self.shards[shard].borrow_mut();
                if target.has_backlog() {
                    target.run_backlog(env(&self.index, self.now_ms));
                    moved = true;
                }
                drop(target);
                self.drain(shard);
            }
            if !moved {
                return;
            }
        }
    }
}

fn env(index: &Index, now_ms: u64) -> Env<'_> {
    Env {
        now: Now {
            tick: Tick(now_ms),
            wall: UnixMillis(1_700_000_000_000 + now_ms),
        },
        index,
    }
}

const SHARDS: usize = 2;
const SOCKETS: usize = 6;
const RETAINED: usize = 8;
const QUEUE_BYTES_TOTAL: usize = 8_000;
/// The packet size limit, and what a message needs beside its packet.
const MESSAGE_MAX: usize = 4_096 + 512;
/// The limit, what answers may add, and one message.
const OUTPUT_MAX: usize = 2_000 + 16 * 1024 + 300 * 1024 + MESSAGE_MAX;
/// Input that waits: one packet, and one piece of input.
const CARRIED_MAX: usize = 64 * 1024;

fuzz_target!(|run: Run| {
    let mut world = World::new(&run);
    for step in run.steps {
        world.step(step);
    }
    while !world.sockets.is_empty() {
        world.close(0);
    }
    world.settle();
    // Wills may be published on the way, and queued for sessions that end later.
    for _ in 0..3 {
        world.advance(2_000_000);
        world.settle();
    }
    for shard in &world.shards {
        assert_eq!(shard.borrow().residue(), Residue::default());
    }
    assert_eq!(world.index.filters(), 0);
    assert!(world.stored.is_empty(), "nobody is left to get these");
});
