//! What a shard had when its broker stopped, put back piece by piece.

use std::collections::BTreeMap;

use whimbrel_session::codec::topic::{ByteStr, SubscriptionFilter, TopicFilter};
use whimbrel_session::codec::{PacketId, RetainHandling};
use whimbrel_session::mutant;
use whimbrel_session::{Exchange, RestoreError, SessionParts, SessionState, Stage};

use super::obligation::{Debt, InboundKey};
use super::session::{InboundMessage, Inflight};
use super::{Env, Shard};
use crate::effects::{GroupName, Hop};
use crate::placement::shard_of;
use crate::queue::{GroupOrigin, Outgoing};
use crate::record::{
    ExchangeRecord, Form, GroupRecord, Position, QueueId, SessionRecord, SubscriptionRecord,
    WindowRecord,
};
use crate::timers::Timer;
use crate::{CoreConfig, GroupId, Message, MsgId, SessionKey, SessionRef, ShardId, UnixMillis};

/// A session that was put back.
#[derive(Debug)]
pub(crate) struct RestoredSession {
    pub(crate) shard: ShardId,
    pub(crate) key: SessionKey,
    /// Packet identifiers of messages of its client that are taken over and not released.
    pub(crate) held: Vec<u16>,
}

/// A message between the acknowledgement to its publisher and its release.
#[derive(Debug)]
pub(crate) struct Taken {
    /// The publisher's session, if it is there.
    pub(crate) session: Option<SessionKey>,
    pub(crate) queue: QueueId,
    pub(crate) packet_id: u16,
    pub(crate) message: Message,
}

/// The shard that owns a group, or `None` if its filter is none.
pub(crate) fn group_owner(record: &GroupRecord, config: &CoreConfig) -> Option<ShardId> {
    let name = group_name(record)?;
    Some(shard_of(&name, config.placement_seed, config.shards))
}

fn group_name(record: &GroupRecord) -> Option<GroupName> {
    Some(GroupName {
        share: record.share.clone(),
        filter: TopicFilter::new(&record.filter).ok()?.to_owned(),
    })
}

impl Shard {
    /// Puts a group back, without members. Of two with one name the later one is joined: the earlier one was closed, and
    /// only waits for what its last members have in flight.
    pub(crate) fn restore_group(&mut self, record: &GroupRecord) -> GroupId {
        let name = group_name(record).expect("its owner was found by its name");
        let id = self.open_group(&name);
        if let Some(group) = self.groups.get_mut(&id) {
            group.queue_id = Some(record.group);
        }
        id
    }

    /// Puts a session back, as one whose connection is gone; `None` if there is one of its client.
    pub(crate) fn restore_session(&mut self, record: SessionRecord) -> Option<SessionKey> {
        let SessionRecord {
            session,
            client_id,
            version,
            expiry_secs,
            disconnected_at,
            will,
        } = record;
        if self.by_client_id.find(&client_id, &self.sessions).is_some() {
            return None;
        }
        let key = self.begin_session(&client_id, version);
        let found = self.session_mut(key)?;
        found.queue_id = Some(session);
        found.expiry_secs = expiry_secs;
        found.will = will.filter(|_| !mutant!(WillNotRestored)).map(Box::new);
        found.absence.make().disconnected_at = disconnected_at;
        Some(key)
    }

    /// Puts a subscription back; `false` if its filter is none.
    pub(crate) fn restore_subscription(
        &mut self,
        env: Env<'_>,
        key: SessionKey,
        record: &SubscriptionRecord,
    ) -> bool {
        let Ok(parsed) = SubscriptionFilter::parse(&record.filter) else {
            return false;
        };
        let mut options = record.options;
        options.retain_handling = RetainHandling::DoNotSend;
        match parsed {
            SubscriptionFilter::Plain(filter) => {
                self.add_subscriber(env, key, filter, options, record.subscription_id, false);
            }
            SubscriptionFilter::Shared { group, filter } => {
                let name = GroupName {
                    share: ByteStr::from(group.as_str()),
                    filter: filter.to_owned(),
                };
                self.restore_shared(key, name, options, record.subscription_id);
            }
        }
        self.finish(env);
        true
    }

    /// Puts a message back at the end of a session's queue.
    pub(crate) fn restore_queued(
        &mut self,
        key: SessionKey,
        position: Position,
        message: &Message,
        form: &Form,
    ) {
        let outgoing = Outgoing {
            message: message.clone(),
            subscription_ids: form.subscription_ids.clone(),
            origin: None,
            position: Some(position),
            qos: form.qos,
            retain: form.retain,
        };
        let total_max = self.queue_bounds(true).total_max;
        self.push_queued(key, outgoing, total_max);
    }

    /// Puts a message of a group back: into its queue, or to the member that has it in flight.
    pub(crate) fn restore_group_message(
        &mut self,
        id: GroupId,
        position: Position,
        message: &Message,
        member: Option<SessionRef>,
    ) {
        self.with_group(id, |group| {
            group.restore(position, message.clone(), member);
        });
    }

    /// Puts the open exchanges of a session back, in both directions.
    pub(crate) fn restore_state(
        &mut self,
        restored: &RestoredSession,
        window: Option<&WindowRecord>,
        bodies: &BTreeMap<Position, Message>,
        groups: &BTreeMap<QueueId, (ShardId, GroupId)>,
    ) -> Result<(), RestoreError> {
        let mut exchanges = Vec::new();
        let mut next_rank = 0_u64;
        let records = window.map_or(&[][..], |window| &window.exchanges);
        for record in records {
            if let Stage::AwaitPubComp { rank: given } = record.stage {
                next_rank = next_rank.max(given.checked_add(1).ok_or(RestoreError::Rank)?);
            }
        }
        for record in records {
            let origin = record
                .group
                .and_then(|queue| Some((queue, groups.get(&queue)?.1)));
            let outgoing = restored_outgoing(record, bodies, origin);
            let stage = match (record.stage, &outgoing) {
                // Its message was none of the journal's: nothing is to be sent again.
                (Stage::AwaitPubAck, None) => continue,
                // The client may hold the identifier: it is told to release it.
                (Stage::AwaitPubRec, None) => {
                    let rank = next_rank;
                    next_rank = rank.checked_add(1).ok_or(RestoreError::Rank)?;
                    Stage::AwaitPubComp { rank }
                }
                (stage, _) => stage,
            };
            exchanges.push(Exchange {
                packet_id: record.packet_id,
                stage,
                item: Inflight::of(outgoing),
            });
        }
        let mut held: Vec<_> = restored
            .held
            .iter()
            .filter_map(|&packet_id| PacketId::new(packet_id))
            .collect();
        held.sort_unstable();
        if mutant!(HeldIdsNotRestored) {
            held.clear();
        }
        let state = SessionState::from_parts(SessionParts {
            next_packet_id: window.map_or(PacketId::MIN, |window| window.next_packet_id),
            exchanges,
            held,
        })?;
        if let Some(session) = self.session_mut(restored.key) {
            session.state = Some(Box::new(state));
        }
        Ok(())
    }

    /// Remembers who had a message that is routed again.
    pub(crate) fn remember(&mut self, message: MsgId, queues: &[QueueId]) {
        self.known.insert(message, queues.to_vec());
    }

    /// Ends a group whose members were all gone.
    pub(crate) fn close_group_without_members(&mut self, env: Env<'_>, id: GroupId) {
        let undeliverable = self.with_group(id, super::group::Group::close_without_members);
        let Some(undeliverable) = undeliverable.flatten() else {
            return;
        };
        self.stats
            .count_drops(crate::DropCause::NoMember, undeliverable);
        self.forget_closed_group(env, id);
    }

    /// Starts the timers of a session that was put back. If it had a connection, that is lost now.
    pub(crate) fn restore_timers(&mut self, env: Env<'_>, key: SessionKey) {
        let Some(session) = self.session_mut(key) else {
            return;
        };
        let absence = session.absence.make();
        let recorded = absence
            .disconnected_at
            .filter(|_| !mutant!(ExpiryFromStart));
        let since = recorded.unwrap_or(env.now.wall);
        if absence.disconnected_at.replace(since).is_none() {
            // So that a broker that stops again does not count from then on.
            self.append_session(key);
        }
        let Some(session) = self.session_mut(key) else {
            return;
        };
        let tick = |at: UnixMillis, wait_min_ms: u64| {
            let wait_ms = at.0.saturating_sub(env.now.wall.0).max(wait_min_ms);
            env.now.tick.saturating_add(wait_ms)
        };
        let expiry = session.expiry_secs;
        let expiry_due = (expiry != u32::MAX).then(|| tick(since.plus_secs(expiry), 0));
        let will_due = session.will.as_ref().map(|will| {
            let grace_ms = if mutant!(WillGraceIgnored) {
                0
            } else {
                WILL_GRACE_MS
            };
            tick(since.plus_secs(will.delay_secs), grace_ms)
        });
        let absence = session.absence.make();
        (absence.expiry_due, absence.will_due) = (expiry_due, will_due);
        if let Some(due) = expiry_due {
            self.timers.arm(due, Timer::SessionExpiry(key));
        }
        if let Some(due) = will_due {
            self.timers.arm(due, Timer::Will(key));
        }
    }

    /// Routes a message again that was taken over and is not released: whoever has it does not get it twice.
    pub(crate) fn restore_taken_over(&mut self, env: Env<'_>, taken: Taken) {
        let Taken {
            session,
            queue,
            packet_id,
            message,
        } = taken;
        let id = message.id();
        // A will has no packet identifier, and nobody releases it.
        if packet_id != 0
            && let Some(found) = session.and_then(|key| self.session_mut(key))
        {
            let inbound = InboundMessage {
                id,
                queue: Some(queue),
                routed: false,
                release: None,
            };
            found.rare.make().inbound.insert(packet_id, inbound);
        }
        // Told to the other shards when it is released.
        self.known.entry(id).or_default();
        let key = InboundKey {
            session: session.unwrap_or(SessionKey::NONE),
            packet_id,
            queue: Some(queue),
            message: id,
        };
        self.route_taken_over(env, key, &message, Debt::Inbound(key));
        self.finish(env);
    }

    fn restore_shared(
        &mut self,
        key: SessionKey,
        name: GroupName,
        options: whimbrel_session::codec::SubscriptionOptions,
        subscription_id: Option<whimbrel_session::codec::SubscriptionId>,
    ) {
        let join = self.begin_join(key, &name, options, subscription_id);
        let owner = shard_of(&name, self.config.placement_seed, self.config.shards);
        let member = SessionRef {
            shard: self.id,
            key,
        };
        let Some(status) = self.member_status(key, options.qos) else {
            return;
        };
        // Nobody waits for the answer.
        let obligation = crate::effects::ObligationId::NONE;
        self.send(
            owner,
            Hop::GroupJoin {
                group: name,
                member,
                status,
                join,
                obligation,
            },
        );
    }
}

fn restored_outgoing(
    record: &ExchangeRecord,
    bodies: &BTreeMap<Position, Message>,
    origin: Option<(QueueId, GroupId)>,
) -> Option<Outgoing> {
    let position = record.position?;
    let message = bodies.get(&position)?.clone();
    // What a group that is gone handed out is the session's own now.
    let origin = origin.map(|(queue, group)| {
        Box::new(GroupOrigin {
            group,
            sequence: position,
            queue: Some(queue),
        })
    });
    Some(Outgoing {
        message,
        subscription_ids: record.form.subscription_ids.clone(),
        origin,
        position: Some(position),
        qos: record.form.qos,
        retain: record.form.retain,
    })
}

/// Wills wait at least this long after a start, so that a restart does not announce the death of clients that are about to
/// reconnect.
const WILL_GRACE_MS: u64 = 5_000;
