//! [`Shard`]: the sessions placed on one thread, and everything that happens to them.

mod authenticate;
mod client_ids;
mod connect;
mod connection;
mod deliver;
mod durable;
mod enqueue;
mod group;
mod inbound;
mod local;
mod membership;
mod obligation;
mod publish;
mod restore;
mod route;
mod session;
mod settle;
mod shown;
mod source;
mod subscribe;
mod subscribers;
mod timeout;
mod will;

use std::collections::VecDeque;
use std::sync::Arc;

use slab::Slab;
use whimbrel_session::Tick;
use whimbrel_session::codec::topic::MatchScratch;
use whimbrel_session::codec::{ReasonCode, WriteBuf};
use whimbrel_session::mutant;

use self::client_ids::ClientIds;
use self::connection::{Connection, Endpoint, WaitsFor};
use self::group::Group;
use self::obligation::{Commits, Obligations, OnCommit};
use self::route::{FanOutJob, OwedCredit, Target};
use self::session::Session;
use self::source::SourceBuffers;
use self::subscribers::LocalFilter;
use crate::bundle::{Bundle, Said, Spare, Stored};
use crate::effects::{GroupName, Hop};
use crate::index::Matched;
use crate::map::{self, Map};
use crate::match_cache::MatchCache;
use crate::timers::Timers;
use crate::{
    ConnectionKey, CoreConfig, Effects, Event, FilterId, Forward, GroupId, Index, Message, MsgId,
    Now, Position, QueueId, Record, SessionKey, ShardId, ShardMessage, ShardStats,
};

pub use self::authenticate::AuthenticationAnswer;
pub use self::connect::{Attach, Grants};
pub use self::connection::{InputStatus, Received};
pub use self::local::{LocalDelivery, LocalPublish, LocalSubscribe};
pub use self::publish::Verdict;
pub(crate) use self::restore::{RestoredSession, Taken, group_owner};
pub use self::session::Inflight;

/// One shard of the broker: a state machine without locks, clock or I/O.
///
/// Everything is a method that takes the surroundings as [`Env`] and leaves what it asks of them
/// in [`effects`](Self::effects). After each call, or each turn of several calls, the owner drains
/// the effects, then asks for [`poll_timeout`](Self::poll_timeout) and calls
/// [`run_backlog`](Self::run_backlog) while there is any.
///
/// Its `Debug` shows everything that decides what it will do, and nothing else: two shards of one
/// configuration that print alike behave alike from then on.
pub struct Shard {
    id: ShardId,
    config: Arc<CoreConfig>,
    sessions: Slab<Session>,
    by_client_id: ClientIds,
    connections: Slab<Connection>,
    filters: Map<FilterId, LocalFilter>,
    groups: Map<GroupId, Group>,
    groups_by_name: Map<GroupName, GroupId>,
    cache: MatchCache,
    /// The last match that the cache did not have; its memory serves the next one.
    last_match: Arc<Matched>,
    scratch: MatchScratch,
    targets: Vec<Target>,
    buffers: Option<Box<SourceBuffers>>,
    /// Wide fan-outs under way. While there is one, whatever is to be delivered queues behind it,
    /// and publishers wait.
    jobs: VecDeque<FanOutJob>,
    /// Connections with queued messages or scans that only lack a turn.
    backlog: VecDeque<ConnectionKey>,
    timers: Timers,
    obligations: Obligations,
    commits: Commits,
    /// Bytes under way to each other shard.
    windows: Vec<usize>,
    /// The place in the effects of what was last said to each other shard, if more can be added there.
    filling: Vec<Option<usize>>,
    /// Emptied memory for it. At most [`SPARES_KEPT`].
    spares: Vec<Spare>,
    /// Connections whose next PUBLISH waits for a window or a job.
    blocked: Vec<ConnectionKey>,
    /// What this shard says to itself: handled before a step ends.
    to_self: VecDeque<Hop>,
    next_generation: u32,
    next_message: u64,
    next_group: u64,
    next_join: u64,
    /// Counts positions and queues of the journal, above those of earlier starts.
    next_position: u64,
    next_queue: u64,
    /// Whether it is known what those of earlier starts are; none is given before.
    may_number: bool,
    /// What the journal hears of at the end of the turn: sessions whose window changed, messages that queues are done
    /// with, and what waits for that record.
    dirty: Vec<SessionKey>,
    done: Vec<(QueueId, Position)>,
    after_seal: Vec<OnCommit>,
    /// Who had a message that was routed before the last crash and is routed again.
    known: Map<MsgId, Vec<QueueId>>,
    routing_pass: u64,
    queued_messages: usize,
    queued_bytes: usize,
    /// Those of them that are on the disk only.
    disk_bytes: usize,
    /// Bytes in the queues of groups.
    group_bytes: usize,
    /// Bytes of messages that wait behind a `QoS` 2 message of their publisher.
    behind_bytes: usize,
    subscriptions: usize,
    /// Messages can't be stored for want of room.
    disk_full: bool,
    stats: ShardStats,
    effects: Effects,
}

/// The surroundings of a step.
#[derive(Clone, Copy, Debug)]
pub struct Env<'a> {
    /// The present moment.
    pub now: Now,
    /// The index all shards share.
    pub index: &'a Index,
}

impl Shard {
    /// An empty shard.
    #[must_use]
    pub fn new(id: ShardId, config: Arc<CoreConfig>) -> Self {
        let seed = config.seed;
        Self {
            id,
            sessions: Slab::new(),
            by_client_id: ClientIds::new(seed),
            connections: Slab::new(),
            filters: map::new(seed),
            groups: map::new(seed),
            groups_by_name: map::new(seed),
            cache: MatchCache::new(config.limits.match_cache_topics, seed),
            last_match: Arc::default(),
            scratch: MatchScratch::default(),
            targets: Vec::new(),
            buffers: None,
            jobs: VecDeque::new(),
            backlog: VecDeque::new(),
            timers: Timers::default(),
            obligations: Obligations::default(),
            commits: Commits::new(config.journal),
            windows: vec![0; config.shards],
            filling: vec![None; config.shards],
            spares: Vec::new(),
            blocked: Vec::new(),
            to_self: VecDeque::new(),
            next_generation: 0,
            next_message: if mutant!(IdentityRepeated) {
                0
            } else {
                (id.index() as u64) << SHARD_SHIFT
            },
            next_group: 0,
            next_join: 0,
            next_position: 0,
            next_queue: 0,
            may_number: true,
            dirty: Vec::new(),
            done: Vec::new(),
            after_seal: Vec::new(),
            known: map::new(seed),
            routing_pass: 0,
            queued_messages: 0,
            queued_bytes: 0,
            disk_bytes: 0,
            group_bytes: 0,
            behind_bytes: 0,
            subscriptions: 0,
            disk_full: false,
            stats: ShardStats::default(),
            effects: Effects::default(),
            config,
        }
    }

    /// Which shard this is.
    #[must_use]
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// What the steps since the last drain ask for. Whoever takes `wake` out has to call
    /// [`woken`](Self::woken) for each connection in it.
    pub fn effects(&mut self) -> &mut Effects {
        &mut self.effects
    }

    /// Notes that a connection taken from `effects().wake` is being looked at.
    pub fn woken(&mut self, connection: ConnectionKey) {
        if let Some(connection) = self.connection_mut(connection) {
            connection.woken = false;
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Tick> {
        self.timers.next_deadline()
    }

    /// Whether [`run_backlog`](Self::run_backlog) has anything to do.
    #[must_use]
    pub fn has_backlog(&self) -> bool {
        !self.jobs.is_empty() || !self.backlog.is_empty()
    }

    /// Goes on with wide fan-outs, drains and retained scans for one budgeted step.
    pub fn run_backlog(&mut self, env: Env<'_>) {
        self.run_jobs(env);
        for _ in 0..self.backlog.len().min(BACKLOG_TURNS) {
            let Some(key) = self.backlog.pop_front() else {
                break;
            };
            if let Some(connection) = self.connection_mut(key) {
                connection.in_backlog = false;
            }
            self.refill(env, key);
        }
        self.finish(env);
    }

    /// Takes what another shard said.
    pub fn handle_message(&mut self, env: Env<'_>, from: ShardId, message: ShardMessage) {
        let cost = message.cost();
        match message.0 {
            Hop::Bundle(bundle) => self.open_bundle(env, from, bundle),
            hop => {
                let jobs = self.jobs.len();
                self.handle_hop(env, from, hop);
                let owed = self.defer_credit(jobs, from, cost).unwrap_or(cost);
                if owed > 0 {
                    let credit = OwedCredit {
                        to: from,
                        bytes: owed,
                    };
                    self.give_credit(credit, Spare::default());
                }
            }
        }
        self.finish(env);
    }

    /// Notes that the journal has committed the next `records` of the appended records.
    pub fn handle_committed(&mut self, env: Env<'_>, records: u64) {
        self.commits.commit(records);
        while let Some(ready) = self.commits.pop_ready() {
            self.committed(env, ready);
        }
        self.finish(env);
    }

    /// Counters and gauges.
    #[must_use]
    pub fn stats(&self) -> ShardStats {
        ShardStats {
            sessions: self.sessions.len() as u64,
            connections: self.connections.len() as u64,
            subscriptions: self.subscriptions as u64,
            queued_messages: self.queued_messages as u64
                + self
                    .groups
                    .values()
                    .map(|group| group.queued() as u64)
                    .sum::<u64>(),
            queued_bytes: (self.queued_bytes + self.group_bytes) as u64,
            queued_disk_bytes: self.disk_bytes as u64,
            ..self.stats
        }
    }

    /// How much of what has to come back to nothing is still held; for tests and simulations.
    #[must_use]
    pub fn residue(&self) -> Residue {
        Residue {
            sessions: self.sessions.len(),
            connections: self.connections.len(),
            filters: self.filters.len(),
            groups: self.groups.len(),
            timers: self.timers.len(),
            obligations: self.obligations.len(),
            commits: self.commits.len(),
            jobs: self.jobs.len(),
            queued_messages: self.queued_messages,
            longest_queue: self
                .sessions
                .iter()
                .map(|(_, session)| session.queue.len())
                .max()
                .unwrap_or(0),
            queued_bytes: self.queued_bytes + self.group_bytes + self.behind_bytes,
            exchanges: self
                .sessions
                .iter()
                .map(|(_, session)| session.open_exchanges())
                .sum(),
            window_bytes: self.windows.iter().sum(),
        }
    }

    /// The output of a connection, to be written to its socket; `None` if the connection is gone.
    pub fn output(&mut self, connection: ConnectionKey) -> Option<&mut WriteBuf> {
        self.connection_mut(connection)?.output()
    }

    /// Gives back the memory that a burst has left on a connection and in its session.
    pub fn release_memory(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connection_mut(key) else {
            return;
        };
        match &mut connection.endpoint {
            Endpoint::Wire(wire) => wire.release_memory(),
            Endpoint::Draining(output) => output.release_memory(),
            Endpoint::Local(_) => {}
        }
        let session = connection.session;
        if let Some(session) = self.session_mut(session) {
            session.release_memory();
        }
    }

    /// Ends each step: what the shard said to itself, and publishers that may go on.
    fn finish(&mut self, env: Env<'_>) {
        self.hear_itself(env);
        if !self.blocked.is_empty() && !self.is_congested() {
            for connection in std::mem::take(&mut self.blocked) {
                self.unblock(env, connection, WaitsFor::Shard);
            }
        }
        debug_assert!(self.to_self.is_empty());
        debug_assert_eq!(
            self.queued_bytes == 0,
            self.queued_messages == 0,
            "queue totals disagree"
        );
    }

    fn hear_itself(&mut self, env: Env<'_>) {
        while let Some(hop) = self.to_self.pop_front() {
            self.handle_hop(env, self.id, hop);
        }
    }

    fn handle_hop(&mut self, env: Env<'_>, from: ShardId, hop: Hop) {
        match hop {
            Hop::Bundle(bundle) => self.open_bundle(env, from, bundle),
            Hop::Publish {
                message,
                matched,
                publisher,
                obligation,
            } => {
                self.route_forwarded(
                    env,
                    from,
                    &message,
                    matched.matches(),
                    publisher,
                    obligation,
                );
            }
            Hop::GroupJoin {
                group,
                member,
                status,
                join,
                obligation,
            } => {
                let id = self.group_join(env, &group, member, status);
                let joined = Hop::GroupJoined {
                    obligation,
                    join,
                    member: member.key,
                    name: group,
                    group: id,
                };
                self.send(member.shard, joined);
                self.hand_out(env, id);
            }
            Hop::GroupJoined {
                obligation,
                join,
                member,
                name,
                group,
            } => {
                self.group_joined(join, member, name, group);
                self.fulfil(env, obligation, ReasonCode::Success);
            }
            Hop::GroupLeave { group, member } => self.group_leave(env, group, member),
            Hop::GroupMember {
                group,
                member,
                status,
            } => self.group_member(env, group, member, status),
            Hop::Handout { handed, message } => self.group_deliver(env, handed, message),
            Hop::Done(done) => self.group_done(env, done),
            Hop::Released { message } => {
                self.known.remove(&message);
            }
            Hop::Credit { bytes, spare } => {
                self.keep_spare(spare);
                let window = &mut self.windows[from.index()];
                debug_assert!(*window >= bytes, "more credit than was used");
                *window = window.saturating_sub(bytes);
            }
        }
    }

    /// Says something to a shard, this one included.
    fn send(&mut self, to: ShardId, hop: Hop) {
        if to == self.id {
            self.to_self.push_back(hop);
            return;
        }
        let message = ShardMessage(hop);
        self.windows[to.index()] += message.cost();
        self.filling[to.index()] = None;
        let forward = Forward { to, message };
        if mutant!(ShardOrderBroken) && matches!(forward.message.0, Hop::Publish { .. }) {
            return self.effects.forward.insert(0, forward);
        }
        self.effects.forward.push(forward);
    }

    /// Says something to another shard together with what was last said to it, where there is room.
    fn say(&mut self, to: ShardId, said: &Said<'_>) {
        if let Some(filling) = self.filling_for(to) {
            let cost = filling.push(said);
            self.windows[to.index()] += cost;
            return;
        }
        let mut bundle = self
            .spares
            .pop()
            .and_then(|spare| spare.0)
            .unwrap_or_default();
        self.windows[to.index()] += bundle.push(said);
        let message = ShardMessage(Hop::Bundle(bundle));
        let forward = Forward { to, message };
        if mutant!(ShardOrderBroken) {
            return self.effects.forward.insert(0, forward);
        }
        self.filling[to.index()] = Some(self.effects.forward.len());
        self.effects.forward.push(forward);
    }

    fn keep_spare(&mut self, spare: Spare) {
        if spare.0.is_some() && self.spares.len() < SPARES_KEPT {
            self.spares.push(spare);
        }
    }

    /// What was last said to a shard, if there is room for more in it.
    fn filling_for(&mut self, to: ShardId) -> Option<&mut Bundle> {
        // It is gone once the effects were drained; what stands in its place is for somebody else, or was noted too.
        let place = self.filling[to.index()]?;
        let forward = self.effects.forward.get_mut(place)?;
        match &mut forward.message.0 {
            Hop::Bundle(bundle) if forward.to == to => {
                Some(&mut **bundle).filter(|bundle| bundle.has_room())
            }
            _ => None,
        }
    }

    /// Takes what another shard said, and gives its memory back with its credit.
    fn open_bundle(&mut self, env: Env<'_>, from: ShardId, mut bundle: Box<Bundle>) {
        let mut owed = 0;
        for said in bundle.iter() {
            let jobs = self.jobs.len();
            match said {
                Said::Publication(publication) => self.route_publication(env, from, &publication),
                Said::Handout(parts, handed) => {
                    self.group_deliver(env, handed, Message::new(&parts));
                }
                Said::Done(done) => self.group_done(env, done),
                Said::Stored(Stored { obligation, reason }) => {
                    self.fulfil(env, obligation, reason);
                }
            }
            // A member of a group may be a subscriber too: nothing overtakes.
            self.hear_itself(env);
            let cost = said.cost();
            owed += self.defer_credit(jobs, from, cost).unwrap_or(cost);
        }
        bundle.clear();
        let spare = Spare(Some(bundle));
        if owed > 0 {
            let credit = OwedCredit {
                to: from,
                bytes: owed,
            };
            self.give_credit(credit, spare);
        } else {
            self.keep_spare(spare);
        }
    }

    /// Whether publishers have to wait: a window to another shard or to the journal is used up, or a wide
    /// fan-out is under way. The overrun is what one PUBLISH causes.
    #[must_use]
    pub fn is_congested(&self) -> bool {
        let window_max = self.config.limits.shard_window_bytes;
        !self.jobs.is_empty()
            || self.behind_bytes >= window_max
            || self.commits.bytes() >= self.config.limits.journal_window_bytes
            || self.windows.iter().any(|&bytes| bytes >= window_max)
    }

    fn give_credit(&mut self, credit: OwedCredit, spare: Spare) {
        let OwedCredit { to, bytes } = credit;
        self.send(to, Hop::Credit { bytes, spare });
    }

    fn append(&mut self, record: impl FnOnce() -> Record) {
        self.append_beside(0, record);
    }

    /// Appends a record with which so many bytes are committed that are not in it.
    fn append_beside(&mut self, bytes: usize, record: impl FnOnce() -> Record) {
        if self.commits.has_journal() {
            let record = record();
            self.commits.appended(&record, bytes);
            self.effects.append.push(record);
        }
    }

    /// Runs `then` when all that was appended so far is committed.
    fn after_commit(&mut self, env: Env<'_>, then: OnCommit) {
        if let Some(ready) = self.commits.after(then) {
            self.committed(env, ready);
        }
    }

    fn observe(&mut self, event: Event) {
        self.effects.events.push(event);
    }

    fn wake(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.connection_mut(key)
            && !connection.woken
        {
            connection.woken = true;
            self.effects.wake.push(key);
        }
    }

    fn next_message_id(&mut self) -> MsgId {
        let sequence = self.next_message;
        self.next_message += 1;
        MsgId {
            node: self.config.node,
            incarnation: self.config.incarnation,
            sequence,
        }
    }

    fn next_generation(&mut self) -> u32 {
        self.next_generation = self.next_generation.wrapping_add(1);
        self.next_generation
    }

    fn session(&self, key: SessionKey) -> Option<&Session> {
        self.sessions
            .get(key.index as usize)
            .filter(|session| session.generation == key.generation)
    }

    fn session_mut(&mut self, key: SessionKey) -> Option<&mut Session> {
        self.sessions
            .get_mut(key.index as usize)
            .filter(|session| session.generation == key.generation)
    }

    fn connection(&self, key: ConnectionKey) -> Option<&Connection> {
        self.connections
            .get(key.index as usize)
            .filter(|connection| connection.generation == key.generation)
    }

    fn connection_mut(&mut self, key: ConnectionKey) -> Option<&mut Connection> {
        self.connections
            .get_mut(key.index as usize)
            .filter(|connection| connection.generation == key.generation)
    }
}

/// What a shard still holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Residue {
    /// Sessions.
    pub sessions: usize,
    /// Connections.
    pub connections: usize,
    /// Filters with local subscribers.
    pub filters: usize,
    /// Shared subscriptions owned.
    pub groups: usize,
    /// Armed timers.
    pub timers: usize,
    /// Acknowledgements that wait for other shards.
    pub obligations: usize,
    /// Things that wait for the journal.
    pub commits: usize,
    /// Fan-outs under way.
    pub jobs: usize,
    /// Messages in session queues.
    pub queued_messages: usize,
    /// Messages in the longest queue of a session.
    pub longest_queue: usize,
    /// Bytes in session queues.
    pub queued_bytes: usize,
    /// Exchanges of `QoS` 1 and 2 that are open in either direction, of sessions without a
    /// connection; and received `QoS` 2 messages of all sessions that are not released.
    pub exchanges: usize,
    /// Bytes under way to other shards.
    pub window_bytes: usize,
}

/// The top byte of a message sequence is the shard.
const SHARD_SHIFT: u32 = 56;

/// Memory for what is said to other shards that is kept while it is not in use; each has at most a few hundred KiB.
const SPARES_KEPT: usize = 8;

/// Connections that get a turn in one step of the backlog.
const BACKLOG_TURNS: usize = 64;
