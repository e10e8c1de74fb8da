//! What a shard says to its journal, and hears from it.

use whimbrel_session::codec::PacketId;
use whimbrel_session::mutant;

use super::connection::Endpoint;
use super::obligation::OnCommit;
use super::session::{Inflight, Session};
use super::{Env, Shard};
use crate::holders::HoldersBuilder;
use crate::journal::{Load, StoredMessage};
use crate::queue::Outgoing;
use crate::record::{ExchangeRecord, Form, Position, QueueId, Record, SessionRecord, WindowRecord};
use crate::{ConnectionKey, Message, SessionKey};

impl Shard {
    /// Adds the records that are written once a turn: the windows of sessions that sent or were acknowledged
    /// something, and the messages that queues are done with. To be called before the effects are drained.
    pub fn seal(&mut self, env: Env<'_>) {
        if self.is_sealed() {
            return;
        }
        for key in std::mem::take(&mut self.dirty) {
            if let Some(session) = self.session_mut(key) {
                session.is_dirty = false;
                if let Some(window) = self.window_record(key) {
                    self.append(|| Record::Window(Box::new(window)));
                }
            }
        }
        self.append_done();
        for then in std::mem::take(&mut self.after_seal) {
            self.after_commit(env, then);
        }
    }

    /// Whether [`seal`](Self::seal) has nothing to do.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.dirty.is_empty() && self.done.is_empty() && self.after_seal.is_empty()
    }

    /// Takes messages that were asked for by a [`Load`].
    pub fn handle_loaded(
        &mut self,
        env: Env<'_>,
        session: SessionKey,
        messages: Vec<StoredMessage>,
    ) {
        for stored in messages {
            let StoredMessage {
                position,
                message,
                form,
            } = stored;
            let outgoing = Outgoing {
                message,
                subscription_ids: form.subscription_ids,
                origin: None,
                position: Some(position),
                qos: form.qos,
                retain: form.retain,
            };
            let Some(found) = self.session_mut(session) else {
                break;
            };
            if let Some(cost) = found.queue.loaded(outgoing) {
                self.disk_bytes -= cost;
            }
        }
        if let Some(connection) = self.session(session).and_then(|found| found.connection) {
            self.refill(env, connection);
        }
        self.finish(env);
    }

    /// Notes that messages can't be stored, or can be again, for want of room on the disk: those that would have to be
    /// are refused until then [DESIGN §6].
    pub fn set_disk_full(&mut self, is_full: bool) {
        self.disk_full = is_full && !mutant!(DiskFullIgnored);
    }

    /// Asks for the next part of a queue, if little of it is left in memory.
    pub(super) fn load_more(&mut self, key: SessionKey) {
        let in_memory = self.queued_bytes - self.disk_bytes + self.group_bytes;
        let room = self.queue_bounds(true).total_max.saturating_sub(in_memory);
        let Some(session) = self.session_mut(key) else {
            return;
        };
        let Some(queue) = session.queue_id else {
            return;
        };
        // One message is read whatever there is in memory, so that each queue goes on.
        let bytes_max = LOAD_BYTES.min(room);
        let positions = session.queue.begin_load(LOAD_MESSAGES, bytes_max);
        if !positions.is_empty() {
            self.effects.load.push(Load {
                session: key,
                queue,
                positions,
            });
        }
    }

    /// The next place for a message of this shard.
    pub(super) fn next_position(&mut self) -> Position {
        debug_assert!(self.may_number, "it may be taken");
        self.next_position += 1;
        self.present_position()
    }

    /// A place above all that were given.
    fn position_above(&self) -> Position {
        Position::new((self.next_position + 1) << SHARD_BITS).expect("above 0")
    }

    fn present_position(&self) -> Position {
        let number = self.next_position << SHARD_BITS | self.id.index() as u64;
        Position::new(number).expect("the counter is above 0")
    }

    pub(super) fn next_queue_id(&mut self) -> QueueId {
        debug_assert!(self.may_number, "it may be taken");
        self.next_queue += 1;
        let number = self.next_queue << SHARD_BITS | self.id.index() as u64;
        QueueId::new(number).expect("the counter is above 0")
    }

    /// Gives no place and no queue a number before [`continue_after`](Self::continue_after).
    pub(crate) fn await_numbers(&mut self) {
        self.may_number = false;
    }

    /// Goes on above all places and queues of earlier starts, with queues for groups whose own the journal does not
    /// have, although it has a member.
    pub(crate) fn continue_after(&mut self, env: Env<'_>, position: u64, queue: u64) {
        self.next_position = self.next_position.max((position >> SHARD_BITS) + 1);
        self.next_queue = self.next_queue.max((queue >> SHARD_BITS) + 1);
        self.may_number = true;
        self.enter_groups(env);
    }

    /// Records a message for queues, in the forms their clients get it.
    pub(super) fn append_enqueued(
        &mut self,
        position: Position,
        message: &Message,
        holders: impl IntoIterator<Item = (QueueId, Form)>,
    ) {
        let mut builder = HoldersBuilder::default();
        for (queue, form) in holders {
            builder.push(queue, &form);
        }
        let holders = builder.finish();
        self.append(|| Record::Enqueued {
            position,
            message: message.clone(),
            holders,
        });
    }

    /// Notes that the window of a session changed, or the front of its queue.
    pub(super) fn touch_window(&mut self, key: SessionKey) {
        if let Some(session) = self.session_mut(key)
            && session.queue_id.is_some()
            && !session.is_dirty
        {
            session.is_dirty = true;
            self.dirty.push(key);
        }
    }

    /// Notes that a session is done with a message of its own queue.
    pub(super) fn note_done(&mut self, key: SessionKey, position: Option<Position>) {
        if let Some(position) = position
            && let Some(queue) = self.session(key).and_then(|session| session.queue_id)
        {
            self.done.push((queue, position));
        }
        self.touch_window(key);
    }

    /// Runs `then` once the window of a session, as it is at the end of this turn, is recorded.
    pub(super) fn after_window(&mut self, env: Env<'_>, key: SessionKey, then: OnCommit) {
        if self
            .session(key)
            .is_some_and(|session| session.queue_id.is_some())
        {
            self.touch_window(key);
            self.after_seal.push(then);
        } else {
            self.committed(env, then);
        }
    }

    /// Records what outlives the connection of a session, as it is now.
    pub(super) fn append_session(&mut self, key: SessionKey) {
        if let Some(record) = self.session(key).and_then(session_record) {
            self.append(|| Record::Session(Box::new(record)));
        }
    }

    /// The packet identifier of a `QoS` 2 message is recorded.
    pub(super) fn prepared(&mut self, env: Env<'_>, key: ConnectionKey, packet_id: PacketId) {
        if let Some(wire) = self.running_mut(key).and_then(|found| found.wire()) {
            wire.recorded(packet_id);
            self.resend(env, key);
            self.refill(env, key);
        }
    }

    fn append_done(&mut self) {
        if self.done.is_empty() {
            return;
        }
        let mut done = std::mem::take(&mut self.done);
        done.sort_unstable();
        for of_queue in done.chunk_by(|(first, _), (second, _)| first == second) {
            let queue = of_queue[0].0;
            let positions = of_queue.iter().map(|&(_, position)| position).collect();
            self.append(|| Record::Done { queue, positions });
        }
        done.clear();
        if done.capacity() <= KEPT_CAPACITY {
            self.done = done;
        }
    }

    fn window_record(&self, key: SessionKey) -> Option<WindowRecord> {
        let session = self.session(key)?;
        let queue = session.queue_id?;
        let above = self.position_above();
        let first = session.queue.first_position();
        let first = if mutant!(CursorTooFar) {
            first.and_then(|first| Position::new(first.get() + 1))
        } else {
            first
        };
        let mut record = WindowRecord {
            session: queue,
            cursor: first.unwrap_or(above),
            next_packet_id: PacketId::MIN,
            exchanges: Vec::new(),
        };
        let wire = session
            .connection
            .and_then(|key| self.connection(key))
            .and_then(|connection| match &connection.endpoint {
                Endpoint::Wire(wire) => Some(wire),
                Endpoint::Local(_) | Endpoint::Draining(_) => None,
            });
        if let Some(state) = &session.state {
            record.next_packet_id = state.next_packet_id();
            record.exchanges = exchange_records(state.exchanges_to_record());
        } else {
            let wire = wire?;
            record.next_packet_id = wire.next_packet_id();
            record.exchanges = exchange_records(wire.exchanges_to_record());
        }
        if mutant!(ExchangesNotRecorded) {
            record.exchanges.clear();
        }
        Some(record)
    }
}

fn exchange_records<'a>(
    exchanges: impl Iterator<Item = whimbrel_session::Exchange<&'a Inflight>>,
) -> Vec<ExchangeRecord> {
    exchanges
        .map(|exchange| {
            let outgoing = exchange.item.outgoing();
            let origin = outgoing.and_then(|outgoing| outgoing.origin.as_deref());
            ExchangeRecord {
                packet_id: exchange.packet_id,
                stage: exchange.stage,
                position: outgoing.and_then(|outgoing| outgoing.position),
                group: origin.and_then(|origin| origin.queue),
                form: outgoing.map_or_else(|| Form::of_stage(exchange.stage), Outgoing::form),
            }
        })
        .collect()
}

fn session_record(session: &Session) -> Option<SessionRecord> {
    Some(SessionRecord {
        session: session.queue_id?,
        client_id: session.client_id(),
        version: session.version,
        expiry_secs: session.expiry_secs,
        disconnected_at: session
            .absence
            .get()
            .and_then(|absence| absence.disconnected_at),
        will: session.will.as_deref().cloned(),
    })
}

/// Positions and queues end in the number of the shard that gave them: [`SHARDS_MAX`](crate::SHARDS_MAX) fit.
const SHARD_BITS: u32 = 6;

/// What is read back at a time.
const LOAD_MESSAGES: usize = 256;
const LOAD_BYTES: usize = 256 << 10;

/// Entries of scratch capacity kept between turns.
const KEPT_CAPACITY: usize = 4_096;

const _: () = assert!(crate::SHARDS_MAX <= 1 << SHARD_BITS);
