//! The simulated broker process: shards, their index, what is under way between them, a journal
//! that commits late, and the pump of each connection.

mod local;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use whimbrel_broker_core::session::Tick;
use whimbrel_broker_core::{
    Batch, ConnectionKey, ConnectionPump, DropCause, Env, Grants, Handshake, Index, InputStatus,
    JournalError, LocalOutcome, Now, Recovery, Shard, ShardId, ShardMessage, UnixMillis, placement,
};

use crate::client::client_number;
use crate::journal::{Committed, Committer, Disk, Loaded};
use crate::oracle::{Arrival, ArrivalWill, Oracle};
use crate::payload;
use crate::plan::Plan;
use crate::recorder::Recorder;
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
    /// With a journal only.
    committer: Option<Committer>,
    /// Messages are refused for want of room on the disk.
    disk_full: bool,
    /// It has died of its journal, or by chance: it does nothing any more.
    is_dead: bool,
    /// Turns of shards until it dies.
    turns_left: Option<u32>,
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
    /// Starts for the `life`-th time after the first, with what is on the disk if there is one.
    pub(crate) fn start(
        plan: &Plan,
        life: u32,
        disk: Option<&mut Box<dyn Disk>>,
        around: &mut Around<'_>,
    ) -> Result<Self, JournalError> {
        let mut config = plan.core.clone();
        config.incarnation = life;
        let mut journal = disk.map(|disk| disk.open()).transpose()?;
        let mut index = Index::new(config.seed, &config.limits);
        if let Some(journal) = &journal {
            config.incarnation = journal.incarnation();
            index = index.journaled();
        }
        let config = Arc::new(config);
        let mut recovery = Recovery::new(&config, &index, around.env(&index).now);
        if let Some(journal) = &mut journal {
            journal.replay(&mut |item| recovery.apply(item))?;
        }
        let shards = recovery.finish()?.into_iter().map(RefCell::new).collect();
        let count = config.shards;
        let mut process = Self {
            index,
            shards,
            hops: (0..count * count).map(|_| VecDeque::new()).collect(),
            committer: journal.map(|journal| Committer::new(journal, count)),
            disk_full: false,
            is_dead: false,
            turns_left: None,
            sockets: BTreeMap::new(),
            by_key: BTreeMap::new(),
            outcomes: Vec::new(),
            config,
        };
        around.oracle.restarted();
        for shard in 0..count {
            process.drain(around, shard);
        }
        process.look_at_disk(around);
        process.handle_timeouts(around);
        Ok(process)
    }

    /// Whether it does nothing any more.
    pub(crate) fn is_dead(&self) -> bool {
        self.is_dead
    }

    /// The batch whose commit it died of.
    pub(crate) fn take_failed(&mut self) -> Option<(Vec<u64>, Batch)> {
        self.committer.as_mut()?.take_failed()
    }

    /// It dies in so many turns of its shards.
    pub(crate) fn doom(&mut self, turns: u32) {
        self.turns_left = Some(turns);
    }

    /// It lives on, if it does.
    pub(crate) fn spare(&mut self) {
        self.turns_left = None;
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
                pump: ConnectionPump::new(Tick(around.now_ms), self.config.connection),
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
            .is_some_and(|socket| !socket.blocked && !socket.closing && !self.is_dead)
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
            let waits =
                socket.woken || socket.wants_to_write || socket.closing && socket.key.is_some();
            waits && !self.is_dead
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
        if self.is_dead {
            return;
        }
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
        if !self.is_dead {
            around.oracle.detached(number);
        }
    }

    /// Delivers the oldest message from one shard to another, if there is one.
    pub(crate) fn deliver_hop(&mut self, around: &mut Around<'_>, pair: usize) -> bool {
        let Some(Hop { message, .. }) = self.hops[pair].pop_front().filter(|_| !self.is_dead)
        else {
            return false;
        };
        let (from, to) = (pair / self.shards.len(), pair % self.shards.len());
        around.trace.note(&[1, pair as u64], || {
            format!("hop {from} -> {to} {message:?}")
        });
        for payload in message.payloads() {
            around.oracle.tell_of(payload::decode(&payload), || {
                format!("arrives at shard {to} from shard {from}")
            });
        }
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

    /// Commits the oldest posts, so many of each shard, and what the index's log has; or what found no room before.
    pub(crate) fn commit(&mut self, around: &mut Around<'_>, posts: &[usize]) -> bool {
        let Some(committer) = self.committer.as_mut().filter(|_| !self.is_dead) else {
            return false;
        };
        let counts = match committer.commit(&self.index, posts, around.now_ms) {
            Committed::Batch { counts, batch } => {
                around.oracle.committed(&counts, &batch.retained);
                counts
            }
            Committed::Nothing => return false,
            Committed::NoRoom => {
                around
                    .trace
                    .note(&[13], || "a commit finds no room".to_owned());
                self.set_disk_full(around, true);
                return false;
            }
            Committed::Failed(error) => {
                around
                    .trace
                    .note(&[14], || format!("the journal fails: {error:?}"));
                self.is_dead = true;
                return false;
            }
        };
        around
            .trace
            .note(&[2], || format!("commit {counts:?} records"));
        for count in &counts {
            around.trace.note(&[*count], String::new);
        }
        for (shard, &records) in counts.iter().enumerate() {
            if records > 0 && !self.is_dead {
                let env = around.env(&self.index);
                self.shards[shard]
                    .borrow_mut()
                    .handle_committed(env, records);
                self.drain(around, shard);
            }
        }
        self.look_at_disk(around);
        true
    }

    /// Asks the journal whether there is room for messages.
    pub(crate) fn look_at_disk(&mut self, around: &mut Around<'_>) {
        let Some(committer) = self.committer.as_mut().filter(|_| !self.is_dead) else {
            return;
        };
        let is_full = committer.is_full() || committer.waits_for_room();
        self.set_disk_full(around, is_full);
    }

    fn set_disk_full(&mut self, around: &mut Around<'_>, is_full: bool) {
        if std::mem::replace(&mut self.disk_full, is_full) == is_full {
            return;
        }
        around.trace.note(&[15, u64::from(is_full)], || {
            format!("disk full: {is_full}")
        });
        around.oracle.disk_full(is_full);
        for shard in &self.shards {
            shard.borrow_mut().set_disk_full(is_full);
        }
    }

    /// Hands a shard the messages that it asked for first, if they were read before `before_ms`.
    pub(crate) fn hand_loaded(&mut self, around: &mut Around<'_>, before_ms: u64) -> bool {
        let committer = self.committer.as_mut().filter(|_| !self.is_dead);
        let Some(loaded) = committer.and_then(|committer| committer.pop_loaded(before_ms)) else {
            return false;
        };
        let Loaded {
            shard,
            session,
            messages,
            ..
        } = loaded;
        around.trace.note(&[16, shard as u64], || {
            format!("shard {shard} gets {} messages back", messages.len())
        });
        let env = around.env(&self.index);
        self.shards[shard]
            .borrow_mut()
            .handle_loaded(env, session, messages);
        self.drain(around, shard);
        true
    }

    /// Lets a shard go on with what it has put off.
    pub(crate) fn run_backlog(&mut self, around: &mut Around<'_>, shard: usize) -> bool {
        if self.is_dead || !self.shards[shard].borrow().has_backlog() {
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
        let living = self.shards.iter().filter(|_| !self.is_dead);
        living
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
            if due && !self.is_dead {
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
        let older = |committer: &Committer| {
            let shards = 0..self.shards.len();
            let posts = shards.map(|shard| committer.older(shard, before_ms));
            posts.collect::<Vec<_>>()
        };
        if let Some(posts) = self.committer.as_ref().map(older) {
            moved |= self.commit(around, &posts);
        }
        while self.hand_loaded(around, before_ms) {
            moved = true;
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

    /// Does what the journal has put off.
    pub(crate) fn maintain(&mut self) -> Result<(), JournalError> {
        self.committer.as_mut().map_or(Ok(()), Committer::maintain)
    }

    /// Closes the journal, for good.
    pub(crate) fn drop_journal(&mut self) {
        self.committer = None;
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

    /// Messages that it has dropped for want of room in a queue.
    pub(crate) fn drops(&self) -> u64 {
        let stats = self.stats();
        [
            DropCause::QueueFull,
            DropCause::QueueTotal,
            DropCause::SlowReader,
        ]
        .into_iter()
        .map(|cause| stats.dropped_by(cause))
        .sum()
    }

    fn handle_input(&mut self, around: &mut Around<'_>, number: usize, bytes: &[u8]) {
        let Some(socket) = self.sockets.get_mut(&number).filter(|_| !self.is_dead) else {
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
        while !self.is_dead {
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
        if self.is_dead {
            return;
        }
        self.shards[from].borrow_mut().seal(env);
        let effects = std::mem::take(self.shards[from].borrow_mut().effects());
        around.oracle.begin_post(from, effects.append.len());
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
            around.trace.debug("  ", record);
            around.oracle.recorded(from, record);
        }
        if let Some(committer) = &mut self.committer {
            committer.post(from, around.now_ms, effects.append, effects.load);
        }
        self.outcomes
            .extend(effects.local.into_iter().map(|outcome| {
                let handle = LocalHandle {
                    shard: from,
                    key: outcome.connection,
                };
                (handle, outcome)
            }));
        if let Some(left) = &mut self.turns_left {
            match left.checked_sub(1) {
                Some(rest) => *left = rest,
                None => self.is_dead = true,
            }
        }
    }
}
