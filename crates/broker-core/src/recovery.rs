//! [`Recovery`]: from what a journal tells to the shards of a broker that starts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use whimbrel_session::codec::QoS;
use whimbrel_session::mutant;

use crate::journal::{Holder, JournalError, Replayed};
use crate::record::{Position, QueueId, SubscriptionRecord, WindowRecord};
use crate::shard::{RestoredSession, Taken};
use crate::{
    CoreConfig, Env, GroupId, Index, Message, MsgId, Now, SessionKey, Shard, ShardId, placement,
};

/// Builds the shards of a broker from what its journal tells.
///
/// Sessions and groups are placed anew, so that the number of shards may be another one than before. Every
/// connection that there was counts as lost when everything is [told](Self::told).
#[derive(Debug)]
pub struct Recovery<'a> {
    config: Arc<CoreConfig>,
    index: &'a Index,
    now: Now,
    shards: Vec<Shard>,
    sessions: BTreeMap<QueueId, RestoredSession>,
    groups: BTreeMap<QueueId, (ShardId, GroupId)>,
    windows: BTreeMap<QueueId, WindowRecord>,
    /// The sessions that have a message in flight, by its place.
    in_flight: BTreeMap<Position, Vec<QueueId>>,
    /// Messages that are in flight, once they are known.
    bodies: BTreeMap<Position, Message>,
    taken: Vec<TakenOver>,
    unreleased: BTreeSet<MsgId>,
    known: BTreeMap<MsgId, Vec<QueueId>>,
    /// The place of the last message that was told: they rise.
    last_message: Option<Position>,
    /// The highest numbers that any record names.
    last_position: u64,
    last_queue: u64,
    groups_joined: bool,
}

/// A message between the acknowledgement to its publisher and its release.
#[derive(Debug)]
struct TakenOver {
    queue: QueueId,
    packet_id: u16,
    message: Message,
}

impl<'a> Recovery<'a> {
    /// Begins. The configuration has the incarnation of this start.
    #[must_use]
    pub fn new(config: &Arc<CoreConfig>, index: &'a Index, now: Now) -> Self {
        let shards = (0..config.shards)
            .filter_map(ShardId::new)
            .map(|id| {
                let mut shard = Shard::new(id, Arc::clone(config));
                shard.await_numbers();
                shard
            })
            .collect();
        Self {
            config: Arc::clone(config),
            index,
            now,
            shards,
            sessions: BTreeMap::new(),
            groups: BTreeMap::new(),
            windows: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            bodies: BTreeMap::new(),
            taken: Vec::new(),
            unreleased: BTreeSet::new(),
            known: BTreeMap::new(),
            last_message: None,
            last_position: 0,
            last_queue: 0,
            groups_joined: false,
        }
    }

    /// Takes one thing, in the order of [`Journal::replay`](crate::Journal::replay).
    ///
    /// # Errors
    ///
    /// [`JournalError::Damaged`] where it can't be, or contradicts what was told before.
    pub fn apply(&mut self, replayed: Replayed) -> Result<(), JournalError> {
        match replayed {
            Replayed::Group(record) => {
                self.begin_queue(record.group)?;
                let shard = crate::shard::group_owner(&record, &self.config)
                    .ok_or_else(|| damaged(format!("group {record:?} has no valid filter")))?;
                let group = self.shards[shard.index()].restore_group(&record);
                self.groups.insert(record.group, (shard, group));
            }
            Replayed::Session(record) => {
                self.begin_queue(record.session)?;
                let config = &self.config;
                let shard = placement(&record.client_id, config.placement_seed, config.shards);
                let queue = record.session;
                let Some(key) = self.shards[shard.index()].restore_session(record) else {
                    return Err(damaged(format!(
                        "queue {queue:?}: two sessions of one client"
                    )));
                };
                let held = Vec::new();
                self.sessions
                    .insert(queue, RestoredSession { shard, key, held });
            }
            Replayed::Subscriptions {
                session,
                subscriptions,
            } => self.restore_subscriptions(session, &subscriptions)?,
            Replayed::Window(window) => self.restore_window(window)?,
            Replayed::Inbound {
                session,
                packet_id,
                message,
            } => {
                self.note_queue(session)?;
                self.unreleased.insert(message.id());
                self.taken.push(TakenOver {
                    queue: session,
                    packet_id,
                    message,
                });
            }
            Replayed::Known { message, queues } => {
                for &queue in &queues {
                    self.note_queue(queue)?;
                }
                self.known.entry(message).or_default().extend(queues);
            }
            Replayed::Message {
                position,
                message,
                holders,
            } => self.restore_message(position, &message, &holders)?,
            Replayed::Retained(message) => self.index.restore_retained(&message),
            Replayed::Used { position, queue } => {
                if let Some(position) = position {
                    self.note_position(position)?;
                }
                if let Some(queue) = queue {
                    self.note_queue(queue)?;
                }
            }
        }
        Ok(())
    }

    /// Notes the moment when everything is told, which may be long after the first: a connection that there was counts as
    /// lost now, because its client could not return before.
    pub fn told(&mut self, now: Now) {
        self.now = now;
    }

    /// The shards. They have effects and backlog, as after any other step: records, messages for each other.
    ///
    /// # Errors
    ///
    /// As for [`apply`](Self::apply).
    pub fn finish(mut self) -> Result<Vec<Shard>, JournalError> {
        self.join_groups();
        let env = self.env();
        for shard in &mut self.shards {
            shard.continue_after(env, self.last_position, self.last_queue);
        }
        for taken in &self.taken {
            if let Some(session) = self.sessions.get_mut(&taken.queue) {
                session.held.push(taken.packet_id);
            }
        }
        for (queue, restored) in &self.sessions {
            let shard = &mut self.shards[restored.shard.index()];
            let window = self.windows.get(queue);
            shard
                .restore_state(restored, window, &self.bodies, &self.groups)
                .map_err(|error| damaged(format!("window of queue {queue:?}: {error}")))?;
        }
        if mutant!(KnownNotRestored) {
            self.known.clear();
        }
        for (&message, queues) in &self.known {
            for shard in &mut self.shards {
                shard.remember(message, queues);
            }
        }
        for &(shard, group) in self.groups.values() {
            self.shards[shard.index()].close_group_without_members(env, group);
        }
        for restored in self.sessions.values() {
            self.shards[restored.shard.index()].restore_timers(env, restored.key);
        }
        // In the order in which they were taken over: that of their publishers.
        self.taken.sort_by_key(|taken| taken.message.id());
        for taken in self.taken {
            let restored = self.sessions.get(&taken.queue);
            let shard = restored.map_or(0, |restored| restored.shard.index());
            let taken = Taken {
                session: restored.map(|restored| restored.key),
                queue: taken.queue,
                packet_id: taken.packet_id,
                message: taken.message,
            };
            self.shards[shard].restore_taken_over(env, taken);
        }
        Ok(self.shards)
    }

    fn env(&self) -> Env<'a> {
        Env {
            now: self.now,
            index: self.index,
        }
    }

    /// Notes the queue of a session or group, which no other has.
    fn begin_queue(&mut self, queue: QueueId) -> Result<(), JournalError> {
        if self.sessions.contains_key(&queue) || self.groups.contains_key(&queue) {
            return Err(damaged(format!("queue {queue:?} is there twice")));
        }
        self.note_queue(queue)
    }

    fn note_queue(&mut self, queue: QueueId) -> Result<(), JournalError> {
        if queue.get() > NUMBER_MAX {
            return Err(damaged(format!("queue {queue:?}: no such number is given")));
        }
        self.last_queue = self.last_queue.max(queue.get());
        Ok(())
    }

    fn note_position(&mut self, position: Position) -> Result<(), JournalError> {
        if position.get() > NUMBER_MAX {
            return Err(damaged(format!("{position:?}: no such place is given")));
        }
        self.last_position = self.last_position.max(position.get());
        Ok(())
    }

    fn restore_subscriptions(
        &mut self,
        queue: QueueId,
        subscriptions: &[SubscriptionRecord],
    ) -> Result<(), JournalError> {
        let Some(restored) = self.sessions.get(&queue) else {
            return Err(damaged(format!(
                "subscriptions of queue {queue:?}, which is no session"
            )));
        };
        let (shard, key) = (restored.shard, restored.key);
        let env = self.env();
        for subscription in subscriptions {
            let shard = &mut self.shards[shard.index()];
            if !shard.restore_subscription(env, key, subscription) {
                let filter = &subscription.filter;
                return Err(damaged(format!(
                    "queue {queue:?}: filter {filter:?} is not valid"
                )));
            }
        }
        Ok(())
    }

    fn restore_window(&mut self, window: WindowRecord) -> Result<(), JournalError> {
        let queue = window.session;
        if !self.sessions.contains_key(&queue) {
            return Err(damaged(format!(
                "window of queue {queue:?}, which is no session"
            )));
        }
        self.note_position(window.cursor)?;
        for exchange in &window.exchanges {
            if let Some(position) = exchange.position {
                self.note_position(position)?;
                let sessions = self.in_flight.entry(position).or_default();
                sessions.push(window.session);
            }
        }
        match self.windows.insert(queue, window) {
            None => Ok(()),
            Some(_) => Err(damaged(format!("queue {queue:?} has two windows"))),
        }
    }

    fn restore_message(
        &mut self,
        position: Position,
        message: &Message,
        holders: &[Holder],
    ) -> Result<(), JournalError> {
        self.join_groups();
        self.note_position(position)?;
        if self.last_message.replace(position) >= Some(position) {
            return Err(damaged(format!(
                "the message at {position:?} is not above the one before"
            )));
        }
        let is_unreleased = self.unreleased.contains(&message.id());
        // Taken out, so that the queues can be noted; told once.
        let in_flight = self.in_flight.remove(&position);
        let in_flight = in_flight.as_deref();
        if in_flight.is_some() {
            self.bodies.insert(position, message.clone());
        }
        let mut seen = BTreeSet::new();
        for Holder { queue, form } in holders {
            self.note_queue(*queue)?;
            let is_repeated = holders.len() > 1 && !seen.insert(*queue);
            if is_repeated || form.qos == QoS::AtMostOnce {
                return Err(damaged(format!(
                    "queue {queue:?} can't hold the message at {position:?} so"
                )));
            }
            if is_unreleased {
                self.known.entry(message.id()).or_default().push(*queue);
            }
            let flies = |session: &QueueId| in_flight.is_some_and(|all| all.contains(session));
            if let Some(restored) = self.sessions.get(queue) {
                let window = self.windows.get(queue);
                let is_done = window.is_some_and(|window| position < window.cursor);
                if !is_done && !flies(queue) {
                    let shard = &mut self.shards[restored.shard.index()];
                    shard.restore_queued(restored.key, position, message, form);
                }
            } else if let Some(&(shard, group)) = self.groups.get(queue) {
                // A member that has it in flight keeps it.
                let member = in_flight
                    .filter(|_| !mutant!(GroupClaimIgnored))
                    .and_then(|sessions| sessions.first())
                    .and_then(|session| self.sessions.get(session))
                    .map(|restored| restored.shard.session_ref(restored.key));
                let shard = &mut self.shards[shard.index()];
                shard.restore_group_message(group, position, message, member);
            }
        }
        Ok(())
    }

    /// Carries what sessions say to the owners of their groups, and back.
    fn join_groups(&mut self) {
        if std::mem::replace(&mut self.groups_joined, true) {
            return;
        }
        let env = self.env();
        loop {
            let mut said = Vec::new();
            for shard in &mut self.shards {
                let from = shard.id();
                let forward = std::mem::take(&mut shard.effects().forward);
                said.extend(forward.into_iter().map(|forward| (from, forward)));
            }
            if said.is_empty() {
                return;
            }
            for (from, forward) in said {
                self.shards[forward.to.index()].handle_message(env, from, forward.message);
            }
        }
    }
}

/// What numbers of places and queues stay below by far: there is always one above.
const NUMBER_MAX: u64 = (1 << 62) - 1;

fn damaged(detail: String) -> JournalError {
    JournalError::Damaged { detail }
}

impl ShardId {
    fn session_ref(self, key: SessionKey) -> crate::SessionRef {
        crate::SessionRef { shard: self, key }
    }
}
