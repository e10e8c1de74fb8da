//! From a session to its client: into the connection's output, or into the session's queue.

use bytes::Bytes;
use whimbrel_session::codec::topic::{ScanState, TopicName};
use whimbrel_session::codec::{
    FanOut, FanOutBuffer, PAYLOAD_SHARE_MIN, Payload, PublishSource, QoS, ReasonCode,
};
use whimbrel_session::mutant;
use whimbrel_session::{Deliver, Refused};

use super::connection::{Endpoint, Phase};
use super::obligation::OnCommit;
use super::route::Target;
use super::session::Inflight;
use super::{Env, Shard};
use crate::backlog::Spilled;
use crate::effects::GroupOutcome;
use crate::holders::{Holders, HoldersBuilder};
use crate::message::MessageParts;
use crate::queue::{GroupOrigin, Outgoing, SessionQueue, SubscriptionIds};
use crate::record::{Form, Position, QueueId};
use crate::{ConnectionKey, DropCause, Event, Message, MsgId, QueueFull, SessionKey, UnixMillis};

/// A message on its way out: encoded once per form, made a shared [`Message`] once if anybody has
/// to keep it.
pub(super) struct Source<'a> {
    parts: MessageParts<'a>,
    message: Option<Message>,
    fan_out: FanOut<'a>,
    /// Where the journal will have it, from the first session on that stores it.
    position: Option<Position>,
    /// The queues of this shard that hold it and are not told to the journal yet.
    holders: &'a mut HoldersBuilder,
}

/// The memory of a [`Source`], used for one message after the other.
#[derive(Debug, Default)]
pub(super) struct SourceBuffers {
    fan_out: FanOutBuffer,
    /// The payload to be chained instead of copied, where it is large.
    payload: Bytes,
    holders: HoldersBuilder,
}

impl<'a> Source<'a> {
    /// A message that exists in its publisher's input only.
    pub(super) fn new(
        parts: MessageParts<'a>,
        now: UnixMillis,
        buffers: &'a mut SourceBuffers,
    ) -> Self {
        // A large payload is copied once, into the shared message, and chained from there.
        let message = (parts.payload.len() >= PAYLOAD_SHARE_MIN).then(|| Message::new(&parts));
        Self::with(parts, message, now, buffers)
    }

    /// A message that is shared already.
    pub(super) fn of_message(
        message: &'a Message,
        now: UnixMillis,
        buffers: &'a mut SourceBuffers,
    ) -> Self {
        Self::with(message.parts(), Some(message.clone()), now, buffers)
    }

    fn with(
        parts: MessageParts<'a>,
        message: Option<Message>,
        now: UnixMillis,
        buffers: &'a mut SourceBuffers,
    ) -> Self {
        let SourceBuffers {
            fan_out,
            payload,
            holders,
        } = buffers;
        let payload = match &message {
            Some(message) if parts.payload.len() >= PAYLOAD_SHARE_MIN => {
                *payload = message.payload();
                Payload::Shared(payload)
            }
            _ => Payload::Borrowed(parts.payload),
        };
        let source = PublishSource {
            topic: parts.topic,
            properties: parts.properties,
            payload,
            message_expiry_secs: if mutant!(ExpiryNotCountedDown) {
                parts.properties.message_expiry_secs()
            } else {
                seconds_left(&parts, now)
            },
        };
        Self {
            parts,
            message,
            fan_out: FanOut::new(source, fan_out),
            position: None,
            holders,
        }
    }

    /// Takes what the journal is to be told of the queues that hold the message, if any does.
    pub(super) fn take_holders(&mut self) -> Option<(Position, Holders)> {
        let position = self.position.take()?;
        (!self.holders.is_empty()).then(|| (position, self.holders.finish()))
    }

    pub(super) fn message(&mut self) -> &Message {
        self.message
            .get_or_insert_with(|| Message::new(&self.parts))
    }

    pub(super) fn topic(&self) -> &'a TopicName {
        self.parts.topic
    }

    pub(super) fn retain(&self) -> bool {
        self.parts.retain
    }

    pub(super) fn fan_out(&mut self) -> &mut FanOut<'a> {
        &mut self.fan_out
    }

    pub(super) fn payload_bytes(&self) -> u64 {
        self.parts.payload.len() as u64
    }

    pub(super) fn qos(&self) -> QoS {
        self.parts.qos
    }
}

/// What may happen to a message that finds a queue full whose policy is to refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Its publisher waits for the answer and is refused.
    Refusable,
    /// Nobody can be told any more: it is dropped and counted.
    Unasked,
    /// It is let in: its number is bounded elsewhere.
    Bounded,
}

/// What became of a message that did not have to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    Sent,
    /// The client takes no packet of its size: treated as if its delivery had completed [MQTT-3.1.2-25], and for
    /// the caller to count or to give to somebody else.
    TooLarge,
}

/// Bounds of one queue, and of all queues of this shard together.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueueBounds {
    pub(super) count_max: usize,
    pub(super) bytes_max: usize,
    pub(super) total_max: usize,
}

/// What became of one copy of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing more is promised about it: written, or dropped and counted.
    Handled,
    /// A session that outlives its connection holds it, or one whose queue is on the disk.
    Stored,
    /// There was no room, and the publisher is to know.
    Refused,
}

impl Shard {
    /// Gives one copy to a session.
    pub(super) fn deliver_to(
        &mut self,
        target: &Target,
        source: &mut Source<'_>,
        admission: Admission,
    ) -> Outcome {
        // [MQTT-3.8.4-8]
        let qos = if mutant!(QosNotCapped) {
            source.qos()
        } else {
            target.qos.min(source.qos())
        };
        let retain = target.retain_as_published && source.parts.retain;
        let Some(session) = self.session(target.session) else {
            return Outcome::Handled;
        };
        let stored = session.records(qos);
        if !stored && self.is_routed_again(source.parts.id) {
            // It may have been sent, and at most once.
            return Outcome::Handled;
        }
        if stored && self.disk_full && !session.stores(qos) {
            // Nothing is promised about it, it can't be recorded, and in memory it would overtake what is on the disk.
            self.stats.count_drop(DropCause::DiskFull);
            self.report_drop(target.session, DropCause::DiskFull);
            return Outcome::Handled;
        }
        let queue_id = session.queue_id.filter(|_| stored);
        if let Some(queue) = queue_id
            && !self.known.is_empty()
            && self.is_known(source.parts.id, queue)
        {
            // It has the message since before the last stop.
            return Outcome::Handled;
        }
        let form = Form {
            qos,
            retain,
            subscription_ids: target.subscription_ids.clone(),
        };
        if queue_id.is_some() && source.position.is_none() {
            source.position = Some(self.next_position());
        }
        let outcome = self.deliver_form(target.session, source, &form, admission);
        if let Some(queue) = queue_id.filter(|_| outcome == Outcome::Stored) {
            source.holders.push(queue, &form);
        }
        outcome
    }

    /// Whether a message was routed, or may have been, before the last stop.
    pub(super) fn is_routed_again(&self, message: MsgId) -> bool {
        message.incarnation != self.config.incarnation && !mutant!(RoutedAgainAtMostOnce)
    }

    /// Whether a queue had a message before the last stop.
    pub(super) fn is_known(&self, message: MsgId, queue: QueueId) -> bool {
        let known = self.known.get(&message);
        known.is_some_and(|queues| queues.contains(&queue)) && !mutant!(MsgIdForgotten)
    }

    fn deliver_form(
        &mut self,
        key: SessionKey,
        source: &mut Source<'_>,
        form: &Form,
        admission: Admission,
    ) -> Outcome {
        let Some(session) = self.session(key) else {
            return Outcome::Handled;
        };
        let Form {
            qos,
            retain,
            ref subscription_ids,
        } = *form;
        let stored = session.records(qos);
        let position = source.position.filter(|_| stored);
        let connection = session
            .connection
            .filter(|_| session.queue.is_empty() || mutant!(QueueOvertaken));
        let outgoing = |source: &mut Source<'_>| Outgoing {
            message: source.message().clone(),
            subscription_ids: subscription_ids.clone(),
            origin: None,
            position,
            qos,
            retain,
        };
        let mut kept = None;
        if let Some(connection) = connection {
            // What ends with its connection is never resent: nothing is kept of it.
            let item = Inflight::of(stored.then(|| outgoing(source)));
            let form = Deliver {
                qos,
                retain,
                subscription_ids: subscription_ids.as_slice(),
            };
            match self.write(connection, source, form, item) {
                Ok(Written::TooLarge) => {
                    self.stats.count_drop(DropCause::TooLarge);
                    self.report_drop(key, DropCause::TooLarge);
                    return Outcome::Handled;
                }
                Ok(Written::Sent) if stored => {
                    self.touch_window(key);
                    if mutant!(DoneWhenSent) {
                        self.note_done(key, position);
                    }
                    return Outcome::Stored;
                }
                Ok(Written::Sent) => return Outcome::Handled,
                Err(item) => kept = item.into_outgoing(),
            }
        }
        let waiting = kept.unwrap_or_else(|| outgoing(source));
        self.enqueue(key, waiting, admission)
    }

    /// Writes a PUBLISH into a connection's output, or gives the item back if it has to wait.
    fn write(
        &mut self,
        key: ConnectionKey,
        source: &mut Source<'_>,
        form: Deliver<'_>,
        item: Inflight,
    ) -> Result<Written, Inflight> {
        let payload = source.parts.payload.len() as u64;
        // Its packet identifier is recorded before it is sent, so that it is never sent under two. A session that was
        // recorded and now ends with its connection sends nothing again.
        let waits_for_id = form.qos == QoS::ExactlyOnce
            && self.commits.has_journal()
            && self
                .connection(key)
                .and_then(|connection| self.session(connection.session))
                .is_some_and(|session| session.queue_id.is_some() && session.is_durable());
        let Some(connection) = self
            .connections
            .get_mut(key.index as usize)
            .filter(|connection| connection.generation == key.generation)
            .filter(|connection| connection.phase == Phase::Running)
        else {
            return Err(item);
        };
        match &mut connection.endpoint {
            Endpoint::Wire(wire) if waits_for_id => {
                match wire.prepare(&mut source.fan_out, form, item) {
                    Ok(packet_id) => {
                        let session = connection.session;
                        let connection = key;
                        self.touch_window(session);
                        self.after_seal.push(OnCommit::Prepared {
                            connection,
                            packet_id,
                        });
                        return Ok(Written::Sent);
                    }
                    Err(Refused::TooLarge(_)) => return Ok(Written::TooLarge),
                    Err(refused) => return Err(refused.into_item()),
                }
            }
            // Nothing overtakes a message that waits for its record, so that the last one of a writer arrives last.
            Endpoint::Wire(wire) if wire.has_prepared() && !mutant!(PreparedOvertaken) => {
                return Err(item);
            }
            Endpoint::Wire(wire) => match wire.deliver(&mut source.fan_out, form, item) {
                Ok(()) => {}
                Err(Refused::TooLarge(_)) => return Ok(Written::TooLarge),
                Err(refused) => return Err(refused.into_item()),
            },
            Endpoint::Draining(_) => return Err(item),
            Endpoint::Local(client) => {
                let message = source
                    .message
                    .get_or_insert_with(|| Message::new(&source.parts));
                client.push(message.clone(), form, item)?;
            }
        }
        if !connection.woken {
            connection.woken = true;
            self.effects.wake.push(key);
        }
        self.stats.publishes_sent += 1;
        self.stats.publish_bytes_sent += payload;
        Ok(Written::Sent)
    }

    /// Adds a message to a session's queue, within the bounds and by the policy for it.
    pub(super) fn enqueue(
        &mut self,
        key: SessionKey,
        outgoing: Outgoing,
        admission: Admission,
    ) -> Outcome {
        let Some(session) = self.session(key) else {
            return Outcome::Handled;
        };
        let durable = session.is_durable();
        let QueueBounds {
            count_max,
            bytes_max,
            total_max,
        } = self.queue_bounds(durable);
        let stored = session.records(outgoing.qos);
        if outgoing.qos == QoS::AtMostOnce
            && session.connection.is_none()
            && !self.config.queue_qos0_offline
        {
            self.drop_outgoing(key, outgoing, DropCause::Offline);
            return Outcome::Handled;
        }
        let cause = if durable {
            DropCause::QueueFull
        } else {
            DropCause::SlowReader
        };
        let cost = SessionQueue::cost(&outgoing.message);
        let spillable = outgoing.own_position();
        let refuses = stored && self.config.queue_full == QueueFull::Refuse;
        loop {
            let total = self.queued_bytes - self.disk_bytes + self.group_bytes;
            let Some(session) = self.session_mut(key) else {
                return Outcome::Handled;
            };
            // What the journal has need not be in memory.
            let total_full = spillable.is_none() && total > 0 && total + cost > total_max;
            let fits = session.queue.fits(&outgoing.message, count_max, bytes_max);
            if !total_full && fits || mutant!(QueueUnbounded) {
                break;
            }
            let cause = if total_full {
                DropCause::QueueTotal
            } else {
                cause
            };
            if refuses {
                match admission {
                    Admission::Bounded => break,
                    Admission::Refusable => return Outcome::Refused,
                    Admission::Unasked => {
                        self.drop_outgoing(key, outgoing, cause);
                        return Outcome::Handled;
                    }
                }
            }
            // A QoS 0 message gives way itself rather than push out what was acknowledged; and
            // nothing is pushed out where that would not make enough room.
            let gives_way = outgoing.qos == QoS::AtMostOnce && !session.queue.has_at_most_once();
            let in_memory = session.queue.bytes() - session.queue.disk_bytes();
            let in_vain = total_full && total - in_memory + cost > total_max;
            if !gives_way
                && !in_vain
                && !session.queue.has_at_most_once()
                && let Some(dropped) = session.queue.drop_oldest_on_disk()
            {
                self.drop_on_disk(key, dropped, cause);
                continue;
            }
            let oldest = if gives_way || in_vain {
                None
            } else {
                session.queue.drop_oldest()
            };
            match oldest {
                Some(oldest) => {
                    self.uncount_queued(&oldest);
                    self.drop_outgoing(key, oldest, cause);
                }
                None => {
                    self.drop_outgoing(key, outgoing, cause);
                    return Outcome::Handled;
                }
            }
        }
        self.push_queued(key, outgoing, total_max);
        if stored {
            Outcome::Stored
        } else {
            Outcome::Handled
        }
    }

    /// Puts a message at the end of a queue: in memory, or only by its place where the journal has it and the queue's
    /// window in memory is full.
    pub(super) fn push_queued(&mut self, key: SessionKey, outgoing: Outgoing, total_max: usize) {
        let limits = &self.config.limits;
        let (count_max, bytes_max) = (limits.queue_window_messages, limits.queue_window_bytes);
        let cost = SessionQueue::cost(&outgoing.message);
        let in_memory = self.queued_bytes - self.disk_bytes + self.group_bytes;
        let has_room = in_memory == 0 || in_memory + cost <= total_max;
        let Some(session) = self.session_mut(key) else {
            return;
        };
        match outgoing.own_position() {
            Some(position)
                if !has_room || !session.queue.keeps_in_memory(cost, count_max, bytes_max) =>
            {
                let spilled = Spilled { position, cost };
                session.queue.push_back_on_disk(spilled);
                self.disk_bytes += cost;
            }
            _ => session.queue.push_back(outgoing),
        }
        self.queued_messages += 1;
        self.queued_bytes += cost;
    }

    /// Drops a message that is on the disk only.
    fn drop_on_disk(&mut self, key: SessionKey, dropped: Spilled, cause: DropCause) {
        let Spilled { position, cost } = dropped;
        self.queued_messages -= 1;
        self.queued_bytes -= cost;
        self.disk_bytes -= cost;
        self.stats.count_drop(cause);
        self.note_done(key, Some(position));
        self.report_drop(key, cause);
    }

    /// What a queue may hold, of a session or of a group.
    pub(super) fn queue_bounds(&self, durable: bool) -> QueueBounds {
        let limits = &self.config.limits;
        let total_max = limits.queue_bytes_total_max / self.config.shards;
        if durable {
            QueueBounds {
                count_max: limits.queue_messages_max,
                bytes_max: limits.queue_bytes_max,
                total_max,
            }
        } else {
            QueueBounds {
                count_max: limits.clean_queue_messages_max,
                bytes_max: limits.clean_queue_bytes_max,
                total_max,
            }
        }
    }

    /// Writes what waits for this connection: queued messages, then retained ones, until the
    /// output, the window or the budget is full.
    pub(super) fn refill(&mut self, env: Env<'_>, key: ConnectionKey) {
        let Some(connection) = self.connection(key) else {
            return;
        };
        let session = connection.session;
        if connection.phase != Phase::Running {
            return;
        }
        let mut budget = REFILL_BUDGET.min(self.config.limits.step_budget);
        loop {
            let Some(found) = self.session_mut(session) else {
                return;
            };
            if budget == 0 {
                self.continue_later(key);
                return;
            }
            budget -= 1;
            if let Some(outgoing) = found.queue.pop_front() {
                self.uncount_queued(&outgoing);
                if outgoing.message.is_expired(env.now.wall) && !mutant!(ExpiredIsDelivered) {
                    self.drop_outgoing(session, outgoing, DropCause::Expired); // [MQTT-3.3.2-5]
                } else if let Err(outgoing) = self.write_outgoing(env, key, outgoing) {
                    self.queued_messages += 1;
                    self.queued_bytes += SessionQueue::cost(&outgoing.message);
                    if let Some(session) = self.session_mut(session) {
                        if mutant!(QueuePutBackBehind) {
                            session.queue.push_back(outgoing);
                        } else {
                            session.queue.push_front(outgoing);
                        }
                    }
                    return;
                }
                self.load_more(session);
            } else if found.queue.has_disk_part() {
                self.load_more(session);
                return;
            } else if found.scans.is_empty() || !self.scan_step(env, session, key) {
                return;
            }
        }
    }

    /// Writes a queued message, or gives it back if it has to wait.
    pub(super) fn write_outgoing(
        &mut self,
        env: Env<'_>,
        key: ConnectionKey,
        outgoing: Outgoing,
    ) -> Result<(), Outgoing> {
        let message = outgoing.message.clone();
        let mut buffers = self.take_buffers();
        let mut source = Source::of_message(&message, env.now.wall, &mut buffers);
        let qos = outgoing.qos;
        let retain = outgoing.retain;
        let subscription_ids = outgoing.subscription_ids.clone();
        let origin = outgoing.origin.as_deref().copied();
        let own_position = outgoing.own_position();
        let form = Deliver {
            qos,
            retain,
            subscription_ids: subscription_ids.as_slice(),
        };
        let written = self.write(key, &mut source, form, Inflight::of(Some(outgoing)));
        self.keep_buffers(buffers);
        if qos > QoS::AtMostOnce
            && let Some(session) = self.connection(key).map(|found| found.session)
        {
            match written {
                Ok(Written::Sent) => self.touch_window(session),
                Ok(Written::TooLarge) => self.note_done(session, own_position),
                Err(_) => {}
            }
        }
        let outcome = match written {
            // A group is told when a delivery is over; one of QoS 0 is over when it is written.
            Ok(Written::Sent) => (qos == QoS::AtMostOnce).then_some(GroupOutcome::Consumed),
            Ok(Written::TooLarge) => {
                if origin.is_none() {
                    self.stats.count_drop(DropCause::TooLarge);
                    if let Some(session) = self.connection(key).map(|found| found.session) {
                        self.report_drop(session, DropCause::TooLarge);
                    }
                }
                (!mutant!(GroupTooLargeUnanswered)).then_some(GroupOutcome::TooLarge)
            }
            Err(item) => {
                return Err(item
                    .into_outgoing()
                    .expect("the item was given with a message"));
            }
        };
        if let (Some(outcome), Some(origin)) = (outcome, origin)
            && !(outcome == GroupOutcome::TooLarge && mutant!(GroupTooLargeUnanswered))
            && let Some(session) = self.connection(key).map(|found| found.session)
        {
            self.tell_group(session, origin, outcome);
        }
        Ok(())
    }

    /// An outbound exchange is over.
    pub(super) fn delivered(
        &mut self,
        env: Env<'_>,
        key: ConnectionKey,
        item: Inflight,
        reason: ReasonCode,
    ) {
        let Some(session) = self.connection(key).map(|connection| connection.session) else {
            return;
        };
        if reason.is_error() && reason != ReasonCode::PacketIdentifierNotFound {
            self.stats.count_drop(DropCause::Rejected);
        }
        let outgoing = item.into_outgoing();
        self.note_done(session, outgoing.as_ref().and_then(Outgoing::own_position));
        if let Some(origin) = outgoing.and_then(|outgoing| outgoing.origin) {
            self.tell_group(session, *origin, GroupOutcome::Consumed);
        }
        self.resend(env, key);
        self.refill(env, key);
    }

    /// Counts a message that is dropped, and tells its group.
    pub(super) fn drop_outgoing(&mut self, key: SessionKey, outgoing: Outgoing, cause: DropCause) {
        if !mutant!(DropNotCounted) {
            self.stats.count_drop(cause);
        }
        if outgoing.qos > QoS::AtMostOnce {
            self.note_done(key, outgoing.own_position());
        }
        if let Some(origin) = outgoing.origin {
            self.tell_group(key, *origin, GroupOutcome::Consumed);
        }
        if !matches!(
            cause,
            DropCause::Offline | DropCause::Expired | DropCause::SessionEnded
        ) {
            self.report_drop(key, cause);
        }
    }

    /// Reports the first drop of a session's connection, or of its absence.
    fn report_drop(&mut self, key: SessionKey, cause: DropCause) {
        if let Some(session) = self.session_mut(key)
            && !session.drop_reported
        {
            session.drop_reported = true;
            let client_id = session.client_id.clone();
            self.observe(Event::Dropping { client_id, cause });
        }
    }

    pub(super) fn uncount_queued(&mut self, outgoing: &Outgoing) {
        self.queued_messages -= 1;
        self.queued_bytes -= SessionQueue::cost(&outgoing.message);
    }

    /// Takes one step of a retained scan; `false` if nothing more can be done now.
    fn scan_step(&mut self, env: Env<'_>, session: SessionKey, key: ConnectionKey) -> bool {
        let Some(found) = self.session_mut(session) else {
            return false;
        };
        let Some(mut scan) = found.scans.pop_front() else {
            return false;
        };
        let Some(filter) = found
            .subscriptions
            .contains_key(&scan.filter)
            .then_some(scan.filter)
            .and_then(|id| self.filters.get(&id))
            .map(|local| local.filter.clone())
        else {
            return true; // unsubscribed since
        };
        let mut messages = Vec::new();
        let budget = SCAN_BUDGET.min(self.config.limits.step_budget);
        let state = env.index.scan_retained(
            &filter,
            &mut scan.cursor,
            budget,
            env.now.wall,
            &mut messages,
        );
        let (granted, subscription_id) = (scan.qos, scan.subscription_id);
        if state == ScanState::More
            && !mutant!(RetainedScanCut)
            && let Some(found) = self.session_mut(session)
        {
            found.scans.push_front(scan);
        }
        for message in messages {
            let mut outgoing = Outgoing {
                qos: granted.min(message.qos()),
                message,
                subscription_ids: subscription_id
                    .map_or(SubscriptionIds::None, SubscriptionIds::One),
                origin: None,
                position: None,
                // Whatever Retain As Published says [U5-043].
                retain: true,
            };
            let found = self.session(session);
            let stores = found.is_some_and(|found| found.records(outgoing.qos));
            if let Some(queue) = found.and_then(|found| found.queue_id).filter(|_| stores) {
                let position = self.next_position();
                outgoing.position = Some(position);
                let holder = (queue, outgoing.form());
                self.append_enqueued(position, &outgoing.message, [holder]);
            }
            let waits = self
                .session(session)
                .is_none_or(|session| !session.queue.is_empty());
            let rest = if waits {
                Err(outgoing)
            } else {
                self.write_outgoing(env, key, outgoing)
            };
            if let Err(outgoing) = rest {
                // One step of a scan at the most, and only while the queue was empty.
                self.enqueue(session, outgoing, Admission::Bounded);
            }
        }
        true
    }

    pub(super) fn take_buffers(&mut self) -> Box<SourceBuffers> {
        self.buffers.take().unwrap_or_default()
    }

    pub(super) fn keep_buffers(&mut self, mut buffers: Box<SourceBuffers>) {
        buffers.payload = Bytes::new();
        self.buffers = Some(buffers);
    }

    /// Gives the connection another turn soon.
    fn continue_later(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.connection_mut(key)
            && !connection.in_backlog
        {
            connection.in_backlog = true;
            self.backlog.push_back(key);
        }
    }

    /// Says no to a publisher that can still be told, and counts what nobody can be told.
    pub(super) fn refuse(&mut self, admission: Admission, cause: DropCause) -> Outcome {
        match admission {
            Admission::Refusable => Outcome::Refused,
            Admission::Unasked | Admission::Bounded => {
                self.stats.count_drop(cause);
                Outcome::Handled
            }
        }
    }

    /// Says what became of a message of a group. That it is over stands in the journal with the record that ends its
    /// exchange: a crash between that and the group's own record would hand it out again.
    pub(super) fn tell_group(
        &mut self,
        session: SessionKey,
        origin: GroupOrigin,
        outcome: GroupOutcome,
    ) {
        if outcome == GroupOutcome::Consumed
            && let Some(queue) = origin.queue
            && !mutant!(GroupDoneAlone)
        {
            self.done.push((queue, origin.sequence));
        }
        self.send_group_done(origin.group, origin.sequence, session, outcome);
    }
}

/// What a forwarded message says of its expiry, if it has one [MQTT-3.3.2-6]. A wall clock that was
/// set back does not make that longer than its publisher said.
fn seconds_left(parts: &MessageParts<'_>, now: UnixMillis) -> Option<u32> {
    if parts.expires_at == UnixMillis::NEVER {
        return None;
    }
    let left = parts.expires_at.seconds_from(now).unwrap_or(0);
    let given = parts.properties.message_expiry_secs();
    if mutant!(ExpiryAboveGiven) {
        return Some(left);
    }
    Some(given.map_or(left, |given| left.min(given)))
}

/// Messages written to one connection in one turn.
const REFILL_BUDGET: usize = 512;

/// Nodes of the retained tree visited in one step of a scan.
const SCAN_BUDGET: usize = 128;
