//! From a session to its client: into the connection's output, or into the session's queue.

use whimbrel_session::codec::topic::ScanState;
use whimbrel_session::codec::{QoS, ReasonCode};
use whimbrel_session::mutant;
use whimbrel_session::{Deliver, Refused};

use super::connection::{Endpoint, Phase};
use super::enqueue::{Admission, Outcome};
use super::obligation::OnCommit;
use super::route::Target;
use super::session::Inflight;
use super::source::Source;
use super::{Env, Shard};
use crate::effects::GroupOutcome;
use crate::queue::{GroupOrigin, Outgoing, SessionQueue, SubscriptionIds};
use crate::record::{Form, QueueId};
use crate::{ConnectionKey, DropCause, MsgId, SessionKey};

/// What became of a message that did not have to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    Sent,
    /// The client takes no packet of its size: treated as if its delivery had completed [MQTT-3.1.2-25], and for
    /// the caller to count or to give to somebody else.
    TooLarge,
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
        let retain = target.retain_as_published && source.retain();
        let Some(session) = self.session(target.session) else {
            return Outcome::Handled;
        };
        let stored = session.records(qos);
        if !stored && self.is_routed_again(source.id()) {
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
            && self.is_known(source.id(), queue)
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
            source.hold(queue, &form);
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
        let payload = source.payload_bytes();
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
                match wire.prepare(source.fan_out(), form, item) {
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
            Endpoint::Wire(wire) => match wire.deliver(source.fan_out(), form, item) {
                Ok(()) => {}
                Err(Refused::TooLarge(_)) => return Ok(Written::TooLarge),
                Err(refused) => return Err(refused.into_item()),
            },
            Endpoint::Draining(_) => return Err(item),
            Endpoint::Local(client) => {
                let message = source.message().clone();
                client.push(message, form, item)?;
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
            } else if !self.scan_step(env, session, key) {
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

    /// Takes one step of a retained scan; `false` if nothing more can be done now.
    fn scan_step(&mut self, env: Env<'_>, session: SessionKey, key: ConnectionKey) -> bool {
        let Some(found) = self.session_mut(session) else {
            return false;
        };
        let Some(mut scan) = found.rare.get_mut().and_then(|rare| rare.scans.pop_front()) else {
            return false;
        };
        let Some(filter) = found
            .subscriptions
            .contains_key(&scan.filter)
            .then_some(scan.filter)
            .and_then(|id| self.filters.get(&id))
            .map(|local| local.filter().to_owned())
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
            found.rare.make().scans.push_front(scan);
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

    /// Gives the connection another turn soon.
    fn continue_later(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.connection_mut(key)
            && !connection.in_backlog
        {
            connection.in_backlog = true;
            self.backlog.push_back(key);
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

/// Messages written to one connection in one turn.
const REFILL_BUDGET: usize = 512;

/// Nodes of the retained tree visited in one step of a scan.
const SCAN_BUDGET: usize = 128;
