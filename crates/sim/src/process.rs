//! The simulated broker process: shards, their index, what is under way between them, journals
//! that commit late, and the pump of each connection.

mod local;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use whimbrel_broker_core::session::codec::{ReasonCode, SubscribeRef, SubscriptionId};
use whimbrel_broker_core::session::{InboundPublish, Tick};
use whimbrel_broker_core::{
    ConnectionKey, ConnectionPump, Env, Gate, Grants, Handshake, Index, InputStatus, LocalOutcome,
    Now, Shard, ShardId, ShardMessage, UnixMillis, Verdict, placement,
};

use crate::client::client_number;
use crate::disk::Disk;
use crate::oracle::{Arrival, ArrivalWill, Gated, Oracle};
use crate::payload;
use crate::plan::Plan;
use crate::rng::Rng;
use crate::trace::Trace;

pub(crate) use self::local::LocalHandle;

/// The broker, with everything that a runtime would put around its core.
#[derive(Debug)]
pub(crate) struct Process {
    config: Arc<whimbrel_broker_core::CoreConfig>,
    index: Index,
    shards: Vec<RefCell<Shard>>,
    /// Messages between shards, first in, first out for each ordered pair.
    hops: Vec<VecDeque<Hop>>,
    disks: Vec<Box<dyn Disk>>,
    sockets: BTreeMap<usize, Socket>,
    by_key: BTreeMap<(usize, ConnectionKey), usize>,
    /// Outcomes of in-process clients that nobody has looked at.
    outcomes: Vec<(LocalHandle, LocalOutcome)>,
}

/// What a step may touch besides the process.
pub(crate) struct Around<'a> {
    pub(crate) now_ms: u64,
    /// Unix milliseconds, which may jump.
    pub(crate) wall_ms: u64,
    pub(crate) oracle: &'a mut Oracle,
    pub(crate) trace: &'a mut Trace,
}

impl Around<'_> {
    fn env<'a>(&self, index: &'a Index) -> Env<'a> {
        Env {
            now: Now {
                tick: Tick(self.now_ms),
                wall: UnixMillis(self.wall_ms),
            },
            index,
        }
    }
}

#[derive(Debug)]
struct Hop {
    sent_ms: u64,
    message: ShardMessage,
}

/// A connection as its task in a runtime would see it.
#[derive(Debug)]
struct Socket {
    pump: ConnectionPump,
    shard: usize,
    key: Option<ConnectionKey>,
    woken: bool,
    /// Output was left when the link was full.
    wants_to_write: bool,
    /// Input is not wanted now.
    blocked: bool,
    closing: bool,
    will: Option<ArrivalWill>,
}

impl Process {
    /// Starts for the `incarnation`-th time after the first, on the disks of the process before.
    pub(crate) fn new(plan: &Plan, incarnation: u32, disks: Vec<Box<dyn Disk>>) -> Self {
        let mut config = plan.core.clone();
        config.incarnation = incarnation;
        let config = Arc::new(config);
        let count = config.shards;
        let shards = (0..count)
            .filter_map(ShardId::new)
            .map(|id| RefCell::new(Shard::new(id, Arc::clone(&config))))
            .collect();
        Self {
            index: Index::new(config.seed, &config.limits),
            shards,
            hops: (0..count * count).map(|_| VecDeque::new()).collect(),
            disks,
            sockets: BTreeMap::new(),
            by_key: BTreeMap::new(),
            outcomes: Vec::new(),
            config,
        }
    }

    /// How many processes there were before.
    pub(crate) fn incarnation(&self) -> u32 {
        self.config.incarnation
    }

    /// The disks, for the process that follows this one.
    pub(crate) fn take_disks(&mut self) -> Vec<Box<dyn Disk>> {
        std::mem::take(&mut self.disks)
    }

    /// Whether a connection was opened to this process and is not closed.
    pub(crate) fn knows(&self, number: usize) -> bool {
        self.sockets.contains_key(&number)
    }

    /// A transport was opened. The will of the CONNECT that will come is known by its number only.
    pub(crate) fn open(&mut self, around: &Around<'_>, number: usize, will: Option<ArrivalWill>) {
        self.sockets.insert(
            number,
            Socket {
                pump: ConnectionPump::new(Tick(around.now_ms), &self.config.connection),
                shard: 0,
                key: None,
                woken: false,
                wants_to_write: false,
                blocked: false,
                closing: false,
                will,
            },
        );
    }

    /// Whether a connection would read now.
    pub(crate) fn wants_input(&self, number: usize) -> bool {
        self.sockets
            .get(&number)
            .is_some_and(|socket| !socket.blocked && !socket.closing)
    }

    /// Whether a connection's CONNECT was handed to its shard.
    pub(crate) fn is_attached(&self, number: usize) -> bool {
        self.sockets
            .get(&number)
            .is_some_and(|socket| socket.key.is_some())
    }

    /// Whether a connection has something to do that is no input.
    pub(crate) fn is_woken(&self, number: usize) -> bool {
        self.sockets.get(&number).is_some_and(|socket| {
            socket.woken || socket.wants_to_write || socket.closing && socket.key.is_some()
        })
    }

    /// How a connection stands, for a finding.
    pub(crate) fn describe(&self, number: usize) -> String {
        self.sockets.get(&number).map_or_else(
            || "gone".to_owned(),
            |socket| {
                format!(
                    "{} bytes carried, blocked {}, closing {}",
                    socket.pump.carried(),
                    socket.blocked,
                    socket.closing
                )
            },
        )
    }

    /// Bytes came from the link.
    pub(crate) fn input(&mut self, around: &mut Around<'_>, number: usize, bytes: &[u8]) {
        let Some(socket) = self.sockets.get_mut(&number) else {
            return;
        };
        around.oracle.fed(number, bytes);
        if socket.key.is_some() {
            return self.handle_input(around, number, bytes);
        }
        match socket.pump.handshake(Tick(around.now_ms), bytes) {
            Handshake::NeedInput => {}
            // No client of the simulation names an authentication method.
            Handshake::Auth(_) => socket.closing = true,
            Handshake::Failed => socket.closing = true,
            Handshake::Connect(connect) => {
                let client_id = connect.client_id.clone();
                let config = &self.config;
                let shard = placement(&client_id, config.placement_seed, config.shards).index();
                socket.shard = shard;
                around.oracle.arrives(Arrival {
                    connection: number,
                    client: client_number(&client_id),
                    shard,
                    version: connect.version,
                    clean_start: connect.clean_start,
                    keep_alive_secs: connect.keep_alive_secs,
                    session_expiry_secs: connect.properties.session_expiry_secs,
                    receive_maximum: connect.properties.receive_maximum.get(),
                    packet_size_max: connect.properties.packet_size_max.map(u32::from),
                    topic_alias_max: connect.properties.topic_alias_max,
                    will: socket.will,
                    is_local: false,
                });
                let env = around.env(&self.index);
                let mut target = self.shards[shard].borrow_mut();
                let key = socket
                    .pump
                    .attach(env, &mut target, connect, Grants::default());
                drop(target);
                socket.key = key;
                // What came behind CONNECT waits in the pump until the connection is accepted.
                socket.woken = true;
                if let Some(key) = key {
                    self.by_key.insert((shard, key), number);
                }
                self.drain(around, shard);
            }
        }
    }

    /// The task of a connection was woken, or can write again: `room` bytes in pieces of up to `piece_max`.
    pub(crate) fn serve(
        &mut self,
        around: &mut Around<'_>,
        number: usize,
        room: usize,
        rng: &mut Rng,
        piece_max: usize,
    ) -> Vec<u8> {
        let Some(socket) = self.sockets.get_mut(&number) else {
            return Vec::new();
        };
        if let (true, Some(key)) = (socket.woken, socket.key) {
            socket.woken = false;
            let shard = socket.shard;
            self.shards[shard].borrow_mut().woken(key);
            self.handle_input(around, number, &[]);
        }
        self.write(around, number, room, rng, piece_max)
    }

    /// Whether a connection's transport is to be closed now: it is over, and nothing is left to write.
    pub(crate) fn is_finished(&mut self, number: usize) -> bool {
        let Some(socket) = self.sockets.get(&number) else {
            return false;
        };
        if !socket.closing {
            return false;
        }
        let Some(key) = socket.key else {
            return true;
        };
        self.shards[socket.shard]
            .borrow_mut()
            .output(key)
            .is_none_or(|output| output.is_empty())
    }

    /// A connection's transport is gone.
    pub(crate) fn close(&mut self, around: &mut Around<'_>, number: usize) {
        let Some(mut socket) = self.sockets.remove(&number) else {
            return;
        };
        let Some(key) = socket.key else {
            return;
        };
        let shard = socket.shard;
        let env = around.env(&self.index);
        socket
            .pump
            .detach(env, &mut self.shards[shard].borrow_mut());
        self.by_key.remove(&(shard, key));
        self.drain(around, shard);
        around.oracle.detached(number);
    }

    /// Delivers the oldest message from one shard to another, if there is one.
    pub(crate) fn deliver_hop(&mut self, around: &mut Around<'_>, pair: usize) -> bool {
        let Some(Hop { message, .. }) = self.hops[pair].pop_front() else {
            return false;
        };
        let (from, to) = (pair / self.shards.len(), pair % self.shards.len());
        around.trace.note(&[1, pair as u64], || {
            format!("hop {from} -> {to} {message:?}")
        });
        let key = message
            .message()
            .and_then(|message| payload::decode(&message.payload()));
        around
            .oracle
            .tell_of(key, || format!("arrives at shard {to} from shard {from}"));
        let Some(sender) = ShardId::new(from) else {
            return false;
        };
        let env = around.env(&self.index);
        self.shards[to]
            .borrow_mut()
            .handle_message(env, sender, message);
        self.drain(around, to);
        true
    }

    /// Commits up to `records` of a shard's journal.
    pub(crate) fn commit(&mut self, around: &mut Around<'_>, shard: usize, records: u64) -> bool {
        let disk = &mut self.disks[shard];
        let records = records.min(disk.unsynced(u64::MAX));
        if records == 0 {
            return false;
        }
        disk.sync(records);
        around.trace.note(&[2, shard as u64, records], || {
            format!("commit {records} records of shard {shard}")
        });
        around.oracle.committed(shard, records);
        let env = around.env(&self.index);
        self.shards[shard]
            .borrow_mut()
            .handle_committed(env, records);
        self.drain(around, shard);
        true
    }

    /// Lets a shard go on with what it has put off.
    pub(crate) fn run_backlog(&mut self, around: &mut Around<'_>, shard: usize) -> bool {
        if !self.shards[shard].borrow().has_backlog() {
            return false;
        }
        around
            .trace
            .note(&[3, shard as u64], || format!("backlog of shard {shard}"));
        let env = around.env(&self.index);
        self.shards[shard].borrow_mut().run_backlog(env);
        self.drain(around, shard);
        true
    }

    /// When a shard has something to do next.
    pub(crate) fn next_timeout_ms(&self) -> Option<u64> {
        self.shards
            .iter()
            .filter_map(|shard| shard.borrow().poll_timeout())
            .map(|tick| tick.0)
            .min()
    }

    /// Handles what is due at every shard.
    pub(crate) fn handle_timeouts(&mut self, around: &mut Around<'_>) {
        for shard in 0..self.shards.len() {
            let due = self.shards[shard]
                .borrow()
                .poll_timeout()
                .is_some_and(|tick| tick.0 <= around.now_ms);
            if due {
                around
                    .trace
                    .note(&[4, shard as u64], || format!("timers of shard {shard}"));
                let env = around.env(&self.index);
                self.shards[shard].borrow_mut().handle_timeout(env);
                self.drain(around, shard);
            }
        }
    }

    /// Moves everything on that has waited since before `before_ms`; true if there was anything.
    pub(crate) fn settle_older(&mut self, around: &mut Around<'_>, before_ms: u64) -> bool {
        let mut moved = false;
        for pair in 0..self.hops.len() {
            while self.hops[pair]
                .front()
                .is_some_and(|hop| hop.sent_ms < before_ms)
            {
                moved |= self.deliver_hop(around, pair);
            }
        }
        for shard in 0..self.shards.len() {
            let old = self.disks[shard].unsynced(before_ms);
            moved |= self.commit(around, shard, old);
        }
        moved
    }

    /// Lets every shard go on with what it has put off; true if there was anything.
    pub(crate) fn run_backlogs(&mut self, around: &mut Around<'_>) -> bool {
        let mut moved = false;
        for shard in 0..self.shards.len() {
            moved |= self.run_backlog(around, shard);
        }
        moved
    }

    /// Ordered pairs of shards.
    pub(crate) fn pairs(&self) -> usize {
        self.hops.len()
    }

    /// Shards.
    pub(crate) fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Removes retained messages that have expired.
    pub(crate) fn sweep(&mut self, wall_ms: u64) {
        let mut cursor = whimbrel_broker_core::session::codec::topic::ScanCursor::default();
        use whimbrel_broker_core::session::codec::topic::ScanState;
        let wall = UnixMillis(wall_ms);
        while self.index.sweep_retained(&mut cursor, 16, wall) == ScanState::More {}
    }

    /// Retained messages, filters.
    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// What each shard still holds.
    pub(crate) fn residues(&self) -> Vec<whimbrel_broker_core::Residue> {
        self.shards
            .iter()
            .map(|shard| shard.borrow().residue())
            .collect()
    }

    /// The counters of all shards together.
    pub(crate) fn stats(&self) -> whimbrel_broker_core::ShardStats {
        let mut sum = whimbrel_broker_core::ShardStats::default();
        for shard in &self.shards {
            sum.merge(&shard.borrow().stats());
        }
        sum
    }

    fn handle_input(&mut self, around: &mut Around<'_>, number: usize, bytes: &[u8]) {
        let Some(socket) = self.sockets.get_mut(&number) else {
            return;
        };
        let env = around.env(&self.index);
        let shard = socket.shard;
        let mut gate = Recorder::default();
        let status = socket
            .pump
            .handle_input(env, &self.shards[shard], &mut gate, bytes);
        socket.blocked = status == InputStatus::Blocked;
        socket.closing = status == InputStatus::Closing;
        let waits = socket.pump.carried() > 0;
        around.oracle.gated(number, gate.gated);
        around.oracle.input_waits(number, waits);
        self.drain(around, shard);
    }

    fn write(
        &mut self,
        around: &mut Around<'_>,
        number: usize,
        room: usize,
        rng: &mut Rng,
        piece_max: usize,
    ) -> Vec<u8> {
        let mut written = Vec::new();
        let Some(socket) = self.sockets.get_mut(&number) else {
            return written;
        };
        let Some(key) = socket.key else {
            if let Some(output) = socket.pump.handshake_output() {
                let count = output.len();
                output.advance(count);
            }
            return written;
        };
        let shard = socket.shard;
        loop {
            let mut target = self.shards[shard].borrow_mut();
            let Some(output) = target.output(key) else {
                break;
            };
            let chunk = output.chunk();
            let wanted = chunk.len().min(room - written.len());
            if wanted == 0 {
                break;
            }
            let count = rng.between(1, wanted.min(piece_max) as u64) as usize;
            written.extend_from_slice(&chunk[..count]);
            output.advance(count);
            target.flushed(around.env(&self.index), key);
            drop(target);
            self.drain(around, shard);
        }
        around.oracle.left(number, &written);
        let left = self.shards[shard]
            .borrow_mut()
            .output(key)
            .is_some_and(|output| !output.is_empty());
        if !left {
            around.oracle.output_is_empty(number);
        }
        if let Some(socket) = self.sockets.get_mut(&number) {
            socket.wants_to_write = left;
        }
        written
    }

    /// Carries a shard's effects to where they go.
    fn drain(&mut self, around: &mut Around<'_>, from: usize) {
        let count = self.shards.len();
        let env = around.env(&self.index);
        self.shards[from].borrow_mut().seal(env);
        let effects = std::mem::take(self.shards[from].borrow_mut().effects());
        for forward in effects.forward {
            self.hops[from * count + forward.to.index()].push_back(Hop {
                sent_ms: around.now_ms,
                message: forward.message,
            });
        }
        for key in effects.wake {
            if let Some(socket) = self
                .by_key
                .get(&(from, key))
                .and_then(|number| self.sockets.get_mut(number))
            {
                socket.woken = true;
            }
        }
        for event in &effects.events {
            around.trace.debug("  ", event);
            around.oracle.observed(event);
        }
        for record in &effects.append {
            self.disks[from].append(around.now_ms, record);
            around.oracle.recorded(from, record);
        }
        self.outcomes
            .extend(effects.local.into_iter().map(|outcome| {
                let handle = LocalHandle {
                    shard: from,
                    key: outcome.connection,
                };
                (handle, outcome)
            }));
    }
}

/// Lets the oracle see what is handled, and refuses what is denied.
#[derive(Debug, Default)]
struct Recorder {
    gated: Vec<Gated>,
}

impl Gate for Recorder {
    fn publish(&mut self, publish: &InboundPublish<'_>) -> Verdict {
        let topic = publish.topic.as_str().to_owned();
        let is_denied = is_denied(&topic);
        let packet = &publish.publish;
        self.gated.push(Gated::Publish {
            key: payload::decode(packet.payload()),
            qos: packet.qos(),
            retain: packet.retain(),
            topic,
            is_denied,
        });
        if is_denied {
            Verdict::Refuse(ReasonCode::NotAuthorized)
        } else {
            Verdict::Allow
        }
    }

    fn subscribe(&mut self, subscribe: &SubscribeRef<'_>) -> Verdict {
        self.gated.push(Gated::Subscribe {
            filters: subscribe
                .filters()
                .map(|request| (request.filter.to_owned(), request.options))
                .collect(),
            id: subscribe.subscription_id().map(SubscriptionId::get),
        });
        Verdict::Allow
    }
}

/// Topics that the hook refuses.
pub(crate) fn is_denied(topic: &str) -> bool {
    topic.starts_with("deny/")
}
