//! Shared subscriptions, both ends: the owner's groups, and the members of this shard.

use whimbrel_session::codec::QoS;
use whimbrel_session::codec::topic::ByteStr;
use whimbrel_session::mutant;

use super::enqueue::{Admission, Outcome, QueueBounds};
use super::group::{Answered, Group, Handout, Next, Queued};
use super::obligation::OnCommit;
use super::session::SharedSubscription;
use super::source::Source;
use super::{Env, Shard};
use crate::bundle::{Bundle, Done, Handed, Said};
use crate::effects::{GroupName, GroupOutcome, Hop, MemberStatus};
use crate::queue::{GroupOrigin, Outgoing, SubscriptionIds};
use crate::record::{Form, GroupRecord, Position, Record};
use crate::{DropCause, GroupId, Message, QueueFull, SessionKey, SessionRef};

/// The owner's end.
impl Shard {
    pub(super) fn group_join(
        &mut self,
        env: Env<'_>,
        name: &GroupName,
        member: SessionRef,
        status: MemberStatus,
    ) -> GroupId {
        let id = match self.groups_by_name.get(name) {
            Some(&id) => id,
            None => self.open_group(name),
        };
        let undeliverable = self.with_group(id, |group| group.join(member, status));
        self.stats
            .count_drops(DropCause::NoMember, undeliverable.unwrap_or(0));
        self.enter_group(env, id);
        id
    }

    pub(super) fn group_leave(&mut self, env: Env<'_>, id: GroupId, member: SessionRef) {
        let undeliverable = self.with_group(id, |group| group.leave(member));
        self.stats
            .count_drops(DropCause::NoMember, undeliverable.unwrap_or(0));
        let Some(group) = self.groups.get(&id) else {
            return;
        };
        if !group.is_closed() {
            self.enter_group(env, id);
            self.hand_out(env, id);
            return;
        }
        self.forget_closed_group(env, id);
    }

    /// Lets nobody join or reach a group that has lost its last member.
    pub(super) fn forget_closed_group(&mut self, env: Env<'_>, id: GroupId) {
        if let Some(group) = self.groups.get(&id)
            && self.groups_by_name.get(&group.name) == Some(&id)
        {
            env.index.release_group(&group.name.filter, id);
            self.groups_by_name.remove(&group.name);
        }
        self.forget_group_if_over(id);
    }

    pub(super) fn group_member(
        &mut self,
        env: Env<'_>,
        id: GroupId,
        member: SessionRef,
        status: MemberStatus,
    ) {
        let undeliverable = self.with_group(id, |group| group.set_status(member, status));
        self.stats
            .count_drops(DropCause::NoMember, undeliverable.unwrap_or(0));
        self.enter_group(env, id);
        self.hand_out(env, id);
    }

    pub(super) fn group_done(&mut self, env: Env<'_>, done: Done) {
        let Done {
            group: id,
            sequence,
            member,
            outcome,
        } = done;
        match self.with_group(id, |group| group.done(sequence, member, outcome)) {
            Some(Answered::Lost) => self.stats.count_drop(DropCause::NoMember),
            Some(Answered::TooLarge) => self.stats.count_drop(DropCause::TooLarge),
            Some(Answered::HandedOver(handout)) => self.send_handout(id, handout),
            Some(Answered::Settled | Answered::Requeued) | None => {}
        }
        self.hand_out(env, id);
        self.forget_group_if_over(id);
    }

    /// Adds a message to a group of this shard.
    pub(super) fn publish_to_group(
        &mut self,
        env: Env<'_>,
        id: GroupId,
        source: &mut Source<'_>,
        admission: Admission,
    ) -> Outcome {
        let Some(group) = self.groups.get(&id) else {
            return Outcome::Handled;
        };
        let durable = group.is_durable();
        let queue = group.queue_id;
        let message = source.message().clone();
        if let Some(queue) = queue
            && !self.known.is_empty()
            && self.is_known(message.id(), queue)
        {
            return Outcome::Handled;
        }
        if !group.takes(&message) {
            self.stats.count_drop(DropCause::NoMember);
            return Outcome::Handled;
        }
        let stored = durable && source.qos() > QoS::AtMostOnce;
        if !stored && self.is_routed_again(message.id()) {
            // A member may have had it.
            return Outcome::Handled;
        }
        if let Err(outcome) = self.make_room_in_group(id, &message, durable, admission) {
            return outcome;
        }
        let queue = queue.filter(|_| stored);
        let sequence = self.next_position();
        if let Some(queue) = queue {
            // A record of its own: messages of a group end in any order.
            self.append_enqueued(
                sequence,
                &message,
                [(queue, Form::new(source.qos(), false, &[]))],
            );
        }
        let queued = Queued {
            message,
            is_recorded: queue.is_some(),
        };
        let handout = self.with_group(id, |group| group.offer(sequence, queued));
        if let Some(handout) = handout.flatten() {
            self.send_handout(id, handout);
        } else if queue.is_some() && !mutant!(GroupMessageBeforeRecord) {
            let group = id;
            self.after_commit(env, OnCommit::GroupMessage { group, sequence });
        } else {
            self.hand_out_fresh(env, id, Some(sequence));
        }
        if stored {
            Outcome::Stored
        } else {
            Outcome::Handled
        }
    }

    /// Makes room for a message by the policy for it; fails with what becomes of the message where there is none.
    fn make_room_in_group(
        &mut self,
        id: GroupId,
        message: &Message,
        durable: bool,
        admission: Admission,
    ) -> Result<(), Outcome> {
        let QueueBounds {
            count_max,
            bytes_max,
            total_max,
        } = self.queue_bounds(durable);
        let cost = Group::cost(message);
        while let Some(group) = self.groups.get(&id) {
            let total = self.queued_bytes - self.disk_bytes + self.group_bytes;
            let full = group.queued() >= count_max || group.queued_bytes() + cost > bytes_max;
            let cause = if total > 0 && total + cost > total_max {
                DropCause::QueueTotal
            } else if group.queued() > 0 && full {
                DropCause::QueueFull
            } else {
                break;
            };
            if durable && self.config.queue_full == QueueFull::Refuse {
                return Err(self.refuse(admission, cause));
            }
            if total - group.queued_bytes() + cost > total_max && cause == DropCause::QueueTotal {
                self.stats.count_drop(cause);
                return Err(Outcome::Handled);
            }
            if self.with_group(id, Group::drop_oldest) != Some(true) {
                break;
            }
            self.stats.count_drop(cause);
        }
        Ok(())
    }

    /// A message of a group is recorded: it may be handed out.
    pub(super) fn group_message_committed(
        &mut self,
        env: Env<'_>,
        id: GroupId,
        sequence: Position,
    ) {
        self.with_group(id, |group| group.note_committed(sequence));
        self.hand_out_fresh(env, id, Some(sequence));
    }

    /// Hands messages out while there are members to take them.
    pub(super) fn hand_out(&mut self, env: Env<'_>, id: GroupId) {
        self.hand_out_fresh(env, id, None);
    }

    fn hand_out_fresh(&mut self, env: Env<'_>, id: GroupId, fresh: Option<Position>) {
        while let Some(next) = self
            .with_group(id, |group| group.next(env.now.wall, fresh))
            .flatten()
        {
            match next {
                Next::Expired => self.stats.count_drop(DropCause::Expired),
                Next::Handout(handout) => self.send_handout(id, handout),
            }
        }
    }

    fn send_handout(&mut self, group: GroupId, handout: Handout) {
        let Handout {
            member,
            sequence,
            to_connected,
            queued,
        } = handout;
        let found = self.groups.get(&group);
        let queue = found.and_then(|group| group.queue_id);
        let queue = queue.filter(|_| queued.is_recorded);
        let message = queued.message;
        let handed = Handed {
            origin: GroupOrigin {
                group,
                sequence,
                queue,
            },
            member: member.key,
            to_connected,
        };
        let parts = message.parts();
        if member.shard != self.id && Bundle::takes(&parts, 0) {
            self.say(member.shard, &Said::Handout(parts, handed));
        } else {
            self.send(member.shard, Hop::Handout { handed, message });
        }
    }

    pub(super) fn open_group(&mut self, name: &GroupName) -> GroupId {
        self.next_group += 1;
        let id = GroupId {
            owner: self.id,
            sequence: self.next_group,
        };
        let credit = self.config.limits.group_credit;
        let group = Group::new(name.clone(), credit, self.config.seed);
        self.groups.insert(id, group);
        self.groups_by_name.insert(name.clone(), id);
        id
    }

    /// Enters every group of this shard, as far as it is not.
    pub(super) fn enter_groups(&mut self, env: Env<'_>) {
        let mut groups: Vec<_> = self.groups.keys().copied().collect();
        groups.sort_unstable();
        for group in groups {
            self.enter_group(env, group);
        }
    }

    /// Tells the index of a group, and whether its messages are to be stored; and the journal, once they are.
    fn enter_group(&mut self, env: Env<'_>, id: GroupId) {
        let stores = |group: &Group| group.is_durable() && group.queue_id.is_none();
        let may_record = self.commits.has_journal() && self.may_number;
        if may_record && self.groups.get(&id).is_some_and(stores) {
            let queue = self.next_queue_id();
            if let Some(group) = self.groups.get_mut(&id) {
                group.queue_id = Some(queue);
                let record = GroupRecord {
                    group: queue,
                    share: group.name.share.clone(),
                    filter: ByteStr::from(group.name.filter.as_str()),
                };
                self.append(|| Record::Group(record));
            }
        }
        if let Some(group) = self.groups.get(&id).filter(|group| !group.is_closed()) {
            env.index
                .hold_group(&group.name.filter, id, group.is_durable());
        }
    }

    fn forget_group_if_over(&mut self, id: GroupId) {
        if self.groups.get(&id).is_some_and(Group::is_over)
            && let Some(group) = self.groups.remove(&id)
            && let Some(group) = group.queue_id
        {
            self.append(|| Record::GroupEnded { group });
        }
    }

    /// Does something to a group, keeps the count of queued bytes, and notes what the journal is to hear.
    pub(super) fn with_group<R>(
        &mut self,
        id: GroupId,
        f: impl FnOnce(&mut Group) -> R,
    ) -> Option<R> {
        let group = self.groups.get_mut(&id)?;
        let before = group.queued_bytes();
        let result = f(group);
        self.group_bytes = self.group_bytes + group.queued_bytes() - before;
        let done = group.take_done();
        if let Some(queue) = group.queue_id {
            self.done
                .extend(done.into_iter().map(|position| (queue, position)));
        }
        Some(result)
    }
}

/// The members' end.
impl Shard {
    pub(super) fn group_joined(
        &mut self,
        join: u64,
        member: SessionKey,
        name: GroupName,
        group: GroupId,
    ) {
        let this = SessionRef {
            shard: self.id,
            key: member,
        };
        let Some(session) = self.session_mut(member) else {
            return self.send(
                group.owner,
                Hop::GroupLeave {
                    group,
                    member: this,
                },
            );
        };
        let rare = session.rare.make();
        match rare.joining.get(&name).map(|joining| joining.join) {
            Some(latest) if latest == join => {}
            // A later join of the same name will be answered too.
            Some(_) => return,
            // Unsubscribed before it was joined.
            None => {
                if !rare.shared.contains_key(&group) {
                    self.send(
                        group.owner,
                        Hop::GroupLeave {
                            group,
                            member: this,
                        },
                    );
                }
                return;
            }
        }
        let Some(joining) = rare.joining.remove(&name) else {
            return;
        };
        rare.shared_by_name.insert(name.clone(), group);
        let shared = SharedSubscription {
            name,
            qos: joining.qos,
            retain_as_published: joining.retain_as_published,
            subscription_id: joining.subscription_id,
        };
        let is_new = rare.shared.insert(group, shared).is_none();
        self.subscriptions += usize::from(is_new);
        // The connection may have gone since the join was sent.
        if let Some(status) = self.member_status(member, joining.qos) {
            let member = this;
            self.send(
                group.owner,
                Hop::GroupMember {
                    group,
                    member,
                    status,
                },
            );
        }
    }

    pub(super) fn group_deliver(&mut self, env: Env<'_>, handed: Handed, message: Message) {
        let Handed {
            origin,
            member,
            to_connected,
        } = handed;
        let GroupOrigin {
            group, sequence, ..
        } = origin;
        let found = self.session(member).and_then(|session| {
            let shared = session.rare.get()?.shared.get(&group)?;
            // Somebody else may be connected still [E10].
            let wanted = session.connection.is_some() || !to_connected;
            wanted.then_some((session, shared))
        });
        let Some((session, shared)) = found else {
            return self.send_group_done(group, sequence, member, GroupOutcome::Returned);
        };
        let outgoing = Outgoing {
            subscription_ids: shared
                .subscription_id
                .map_or(SubscriptionIds::None, SubscriptionIds::One),
            position: origin.queue.map(|_| sequence),
            origin: Some(Box::new(origin)),
            // The QoS granted to this member [MQTT-4.8.2-3].
            qos: if mutant!(GroupQosNotCapped) {
                message.qos()
            } else {
                shared.qos.min(message.qos())
            },
            // [MQTT-3.3.1-12, MQTT-3.3.1-13]
            retain: shared.retain_as_published && message.retain() && !mutant!(GroupRetainIgnored),
            message,
        };
        let connection = session.connection.filter(|_| session.queue.is_empty());
        let rest = match connection {
            Some(key) => self.write_outgoing(env, key, outgoing),
            None => Err(outgoing),
        };
        if let Err(outgoing) = rest {
            // Bounded by the credit of the member.
            self.enqueue(member, outgoing, Admission::Bounded);
        }
    }

    /// Leaves one group: what was not sent goes to somebody else, what was sent is finished.
    pub(super) fn leave_group(&mut self, member: SessionKey, group: GroupId) {
        if self.say_leave(member, group) {
            self.return_unsent(member, Some(group));
        }
    }

    /// Leaves one group. What the member holds is answered for by the caller, after this.
    pub(super) fn say_leave(&mut self, key: SessionKey, group: GroupId) -> bool {
        let session = self.session_mut(key);
        let Some(rare) = session.and_then(|session| session.rare.get_mut()) else {
            return false;
        };
        let Some(shared) = rare.shared.remove(&group) else {
            return false;
        };
        rare.shared_by_name.remove(&shared.name);
        self.subscriptions -= 1;
        let member = SessionRef {
            shard: self.id,
            key,
        };
        self.send(group.owner, Hop::GroupLeave { group, member });
        true
    }

    /// Gives back what groups handed to this member and it was never sent.
    pub(super) fn return_unsent(&mut self, member: SessionKey, of: Option<GroupId>) {
        let Some(session) = self.session_mut(member) else {
            return;
        };
        let unsent = session.queue.take_matching(|outgoing| {
            outgoing
                .origin
                .as_ref()
                .is_some_and(|origin| of.is_none_or(|group| group == origin.group))
        });
        for outgoing in unsent {
            self.uncount_queued(&outgoing);
            if let Some(origin) = outgoing.origin {
                let outcome = if mutant!(GroupUnsentLost) {
                    GroupOutcome::Consumed
                } else {
                    GroupOutcome::Returned
                };
                self.send_group_done(origin.group, origin.sequence, member, outcome);
            }
        }
    }

    /// Tells all groups of a session that its connection came or went.
    pub(super) fn tell_groups_status(&mut self, key: SessionKey) {
        let member = SessionRef {
            shard: self.id,
            key,
        };
        let Some(session) = self.session(key) else {
            return;
        };
        let shared = session.rare.get().into_iter().flat_map(|rare| &rare.shared);
        let mut groups: Vec<_> = shared
            .filter_map(|(&group, shared)| {
                let status = self.member_status(key, shared.qos)?;
                Some(Hop::GroupMember {
                    group,
                    member,
                    status,
                })
            })
            .collect();
        // In an order that does not depend on the hash table.
        groups.sort_unstable_by_key(|hop| match hop {
            Hop::GroupMember { group, .. } => Some(*group),
            _ => None,
        });
        for hop in groups {
            if let Hop::GroupMember { group, .. } = hop {
                self.send(group.owner, hop);
            }
        }
    }

    pub(super) fn member_status(&self, key: SessionKey, granted: QoS) -> Option<MemberStatus> {
        self.session(key).map(|session| MemberStatus {
            connected: session.connection.is_some(),
            durable: session.stores(granted),
        })
    }

    pub(super) fn send_group_done(
        &mut self,
        group: GroupId,
        sequence: Position,
        member: SessionKey,
        outcome: GroupOutcome,
    ) {
        let member = SessionRef {
            shard: self.id,
            key: member,
        };
        let done = Done {
            group,
            sequence,
            member,
            outcome,
        };
        if group.owner == self.id {
            self.send(self.id, Hop::Done(done));
        } else {
            self.say(group.owner, &Said::Done(done));
        }
    }
}
