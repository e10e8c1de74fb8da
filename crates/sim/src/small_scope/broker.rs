//! The broker of an exploration: the production shards, index and pumps, with what a runtime would put
//! around them as steps that somebody else chooses.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use whimbrel_broker_core::session::InboundPublish;
use whimbrel_broker_core::session::codec::SubscribeRef;
use whimbrel_broker_core::{
    ConnectionKey, ConnectionPump, CoreConfig, Env, Gate, Grants, Handshake, Index, InputStatus,
    Now, Residue, Shard, ShardId, ShardMessage, UnixMillis, Verdict, placement,
};

use super::client::{NOW, take_output};
use super::model::StateText;
use super::packet::message_of;

/// A broker from its start to its crash.
#[derive(Debug)]
pub(crate) struct Broker {
    config: Arc<CoreConfig>,
    index: Index,
    shards: Vec<RefCell<Shard>>,
    /// Messages between shards, first in, first out for each ordered pair.
    hops: Vec<VecDeque<ShardMessage>>,
    credits: Credits,
    /// How many records each turn of a shard had, of those that the journal has not committed.
    open_records: Vec<VecDeque<u64>>,
    sockets: BTreeMap<LinkId, Socket>,
}

/// When a shard hears that bytes of its window are free again.
///
/// While no window is ever used up, nothing asks how full one is: taking a credit commutes with every
/// other step, so its place among them need not be explored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Credits {
    /// As soon as it is the first of what is under way.
    AtOnce,
    /// In a step of its own.
    Steps,
}

/// A network connection; never used twice.
pub(crate) type LinkId = u32;

/// A connection as its task in a runtime would see it.
#[derive(Debug)]
struct Socket {
    pump: ConnectionPump,
    shard: usize,
    key: Option<ConnectionKey>,
    woken: bool,
    /// Input is not wanted now.
    blocked: bool,
    closing: bool,
}

/// What a step of the broker brought about outside it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Bytes for clients.
    pub(crate) written: Vec<(LinkId, Vec<u8>)>,
    /// Connections that the broker has closed.
    pub(crate) closed: Vec<LinkId>,
    /// Messages that came for the first time, as the broker sees it.
    pub(crate) accepted: Vec<u8>,
    /// The step did not end.
    pub(crate) restless: bool,
}

impl Broker {
    pub(crate) fn new(config: Arc<CoreConfig>, credits: Credits) -> Self {
        let count = config.shards;
        let shards = (0..count)
            .filter_map(ShardId::new)
            .map(|id| RefCell::new(Shard::new(id, Arc::clone(&config))))
            .collect();
        Self {
            index: Index::new(config.seed, &config.limits),
            shards,
            hops: (0..count * count).map(|_| VecDeque::new()).collect(),
            credits,
            open_records: vec![VecDeque::new(); count],
            sockets: BTreeMap::new(),
            config,
        }
    }

    /// A transport was opened.
    pub(crate) fn open(&mut self, link: LinkId) {
        self.sockets.insert(
            link,
            Socket {
                pump: ConnectionPump::new(NOW, self.config.connection),
                shard: 0,
                key: None,
                woken: false,
                blocked: false,
                closing: false,
            },
        );
    }

    /// Whether the reader of a connection would read now.
    pub(crate) fn wants_input(&self, link: LinkId) -> bool {
        self.sockets
            .get(&link)
            .is_some_and(|socket| !socket.blocked && !socket.closing)
    }

    /// Whether the CONNECT of a connection was handed to its shard.
    pub(crate) fn is_attached(&self, link: LinkId) -> bool {
        self.sockets
            .get(&link)
            .is_some_and(|socket| socket.key.is_some())
    }

    /// Bytes came.
    pub(crate) fn input(&mut self, link: LinkId, bytes: &[u8]) -> Outcome {
        let mut outcome = Outcome::default();
        let Some(socket) = self.sockets.get_mut(&link) else {
            return outcome;
        };
        if socket.key.is_some() {
            self.feed(link, bytes, &mut outcome);
        } else {
            match socket.pump.handshake(NOW, bytes) {
                Handshake::NeedInput => {}
                // No client here names an authentication method.
                Handshake::Failed | Handshake::Auth(_) => socket.closing = true,
                Handshake::Connect(connect) => {
                    let config = &self.config;
                    let shard =
                        placement(&connect.client_id, config.placement_seed, config.shards).index();
                    socket.shard = shard;
                    let mut target = self.shards[shard].borrow_mut();
                    socket.key = socket.pump.attach(
                        env(&self.index),
                        &mut target,
                        connect,
                        Grants::default(),
                    );
                    socket.woken = true;
                }
            }
        }
        self.settle(outcome)
    }

    /// The transport of a connection is gone.
    pub(crate) fn close(&mut self, link: LinkId) -> Outcome {
        if let Some(mut socket) = self.sockets.remove(&link)
            && socket.key.is_some()
        {
            let mut shard = self.shards[socket.shard].borrow_mut();
            socket.pump.detach(env(&self.index), &mut shard);
        }
        self.settle(Outcome::default())
    }

    /// Ordered pairs of shards between which something is under way.
    pub(crate) fn busy_pairs(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.hops.len()).filter(|&pair| !self.hops[pair].is_empty())
    }

    /// Delivers what is first between a pair of shards.
    pub(crate) fn deliver_hop(&mut self, pair: usize) -> Outcome {
        self.take_hop(pair);
        self.settle(Outcome::default())
    }

    /// Loses what is first between a pair of shards: a fault of the surroundings.
    pub(crate) fn lose_hop(&mut self, pair: usize) {
        self.hops[pair].pop_front();
    }

    /// Lets the second pass the first between a pair of shards: a fault of the surroundings.
    pub(crate) fn swap_hops(&mut self, pair: usize) {
        if self.hops[pair].len() > 1 {
            self.hops[pair].swap(0, 1);
        }
    }

    /// Which shard speaks to which.
    pub(crate) fn ends(&self, pair: usize) -> (usize, usize) {
        (pair / self.shards.len(), pair % self.shards.len())
    }

    /// Shards with records that are not committed.
    pub(crate) fn uncommitted(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.open_records.len()).filter(|&shard| !self.open_records[shard].is_empty())
    }

    /// The journal commits what a shard said in one turn.
    pub(crate) fn commit(&mut self, shard: usize) -> Outcome {
        if let Some(records) = self.open_records[shard].pop_front() {
            let mut target = self.shards[shard].borrow_mut();
            target.handle_committed(env(&self.index), records);
        }
        self.settle(Outcome::default())
    }

    /// Shards that have put something off.
    pub(crate) fn backlogs(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.shards.len()).filter(|&shard| self.shards[shard].borrow().has_backlog())
    }

    /// A shard goes on with what it has put off.
    pub(crate) fn run_backlog(&mut self, shard: usize) -> Outcome {
        self.shards[shard]
            .borrow_mut()
            .run_backlog(env(&self.index));
        self.settle(Outcome::default())
    }

    /// What each shard still holds.
    pub(crate) fn residues(&self) -> impl Iterator<Item = Residue> + '_ {
        self.shards.iter().map(|shard| shard.borrow().residue())
    }

    /// Links that are open.
    pub(crate) fn links(&self) -> Vec<LinkId> {
        self.sockets.keys().copied().collect()
    }

    pub(crate) fn write_state(&self, text: &mut StateText) {
        let Self {
            // The same in every state.
            config: _,
            credits: _,
            index,
            shards,
            hops,
            open_records,
            sockets,
        } = self;
        text.debug(index);
        for shard in shards {
            text.debug(&*shard.borrow());
        }
        text.debug(hops);
        text.debug(open_records);
        text.debug(sockets);
    }

    fn take_hop(&mut self, pair: usize) {
        let (from, to) = self.ends(pair);
        if let (Some(message), Some(sender)) = (self.hops[pair].pop_front(), ShardId::new(from)) {
            let mut shard = self.shards[to].borrow_mut();
            shard.handle_message(env(&self.index), sender, message);
        }
    }

    fn feed(&mut self, link: LinkId, bytes: &[u8], outcome: &mut Outcome) {
        let Some(socket) = self.sockets.get_mut(&link) else {
            return;
        };
        let mut recorder = Recorder {
            accepted: &mut outcome.accepted,
        };
        let shard = &self.shards[socket.shard];
        let status = socket
            .pump
            .handle_input(env(&self.index), shard, &mut recorder, bytes);
        socket.blocked = status == InputStatus::Blocked;
        socket.closing = status == InputStatus::Closing;
    }

    /// Carries all effects to where they go and serves every connection that was woken, until nothing
    /// is left to do at once.
    fn settle(&mut self, mut outcome: Outcome) -> Outcome {
        for _ in 0..SETTLE_ROUNDS {
            for shard in 0..self.shards.len() {
                self.drain(shard);
                self.commit_unawaited(shard);
            }
            if self.credits == Credits::AtOnce {
                self.take_credits();
            }
            let woken = |socket: &Socket| socket.woken || socket.closing;
            let Some(link) = self
                .sockets
                .iter()
                .find_map(|(&link, socket)| woken(socket).then_some(link))
            else {
                return outcome;
            };
            self.serve(link, &mut outcome);
        }
        outcome.restless = true;
        outcome
    }

    /// Commits what nobody waits for: such a commit changes nothing that anybody sees, and commutes with every step.
    fn commit_unawaited(&mut self, shard: usize) {
        let mut target = self.shards[shard].borrow_mut();
        if target.residue().commits == 0 {
            let records: u64 = self.open_records[shard].drain(..).sum();
            if records > 0 {
                target.handle_committed(env(&self.index), records);
            }
        }
    }

    fn take_credits(&mut self) {
        for pair in 0..self.hops.len() {
            while self.hops[pair].front().is_some_and(ShardMessage::is_credit) {
                self.take_hop(pair);
            }
        }
    }

    fn drain(&mut self, from: usize) {
        let count = self.shards.len();
        self.shards[from].borrow_mut().seal(env(&self.index));
        let effects = std::mem::take(self.shards[from].borrow_mut().effects());
        for forward in effects.forward {
            self.hops[from * count + forward.to.index()].push_back(forward.message);
        }
        for key in effects.wake {
            let socket = self
                .sockets
                .values_mut()
                .find(|socket| socket.shard == from && socket.key == Some(key));
            if let Some(socket) = socket {
                socket.woken = true;
            }
        }
        if !effects.append.is_empty() {
            self.open_records[from].push_back(effects.append.len() as u64);
        }
    }

    /// The task of a connection runs: it goes on with input that waited, writes, and closes.
    fn serve(&mut self, link: LinkId, outcome: &mut Outcome) {
        let Some(socket) = self.sockets.get_mut(&link) else {
            return;
        };
        let (shard, key) = (socket.shard, socket.key);
        if let (true, Some(key)) = (std::mem::take(&mut socket.woken), key) {
            self.shards[shard].borrow_mut().woken(key);
            self.feed(link, &[], outcome);
        }
        let mut written = Vec::new();
        if let Some(key) = key {
            let mut target = self.shards[shard].borrow_mut();
            // Flushing may let more be written.
            while let Some(output) = target.output(key).filter(|output| !output.is_empty()) {
                written.append(&mut take_output(output));
                target.flushed(env(&self.index), key);
            }
        } else if let Some(socket) = self.sockets.get_mut(&link)
            && let Some(output) = socket.pump.handshake_output()
        {
            written = take_output(output);
        }
        if !written.is_empty() {
            outcome.written.push((link, written));
        }
        if self.sockets.get(&link).is_some_and(|socket| socket.closing) {
            if let Some(mut socket) = self.sockets.remove(&link) {
                let mut target = self.shards[shard].borrow_mut();
                socket.pump.detach(env(&self.index), &mut target);
            }
            outcome.closed.push(link);
        }
    }
}

/// Lets everything pass and notes which messages are new to the broker.
struct Recorder<'a> {
    accepted: &'a mut Vec<u8>,
}

impl Gate for Recorder<'_> {
    fn publish(&mut self, publish: &InboundPublish<'_>) -> Verdict {
        self.accepted.push(message_of(publish.publish.payload()));
        Verdict::Allow
    }

    fn subscribe(&mut self, _: &SubscribeRef<'_>) -> Verdict {
        Verdict::Allow
    }
}

fn env(index: &Index) -> Env<'_> {
    Env {
        now: Now {
            tick: NOW,
            wall: UnixMillis(1_700_000_000_000),
        },
        index,
    }
}

/// Many times more than a step needs.
const SETTLE_ROUNDS: u32 = 100;
