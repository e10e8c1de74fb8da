//! Shared subscriptions, both ends: the owner's groups, and the members of this shard.

use whimbrel_session::codec::ReasonCode;

use super::deliver::{Outcome, Source};
use super::group::Group;
use super::session::SharedSubscription;
use super::{Env, Shard};
use crate::effects::{GroupName, GroupOutcome, Hop, MemberStatus, ObligationId};
use crate::queue::{GroupOrigin, Outgoing, SubscriptionIds};
use crate::{DropCause, GroupId, Message, SessionKey, SessionRef};

/// The owner's end.
impl Shard {
    pub(super) fn group_join(
        &mut self,
        env: Env<'_>,
        name: GroupName,
        member: SessionRef,
        status: MemberStatus,
        obligation: ObligationId,
    ) {
        let id = match self.groups_by_name.get(&name) {
            Some(&id) => id,
            None => {
                self.next_group += 1;
                let id = GroupId {
                    owner: self.id,
                    sequence: self.next_group,
                };
                let credit = self.config.limits.group_credit;
                self.groups.insert(id, Group::new(name.clone(), credit));
                self.groups_by_name.insert(name.clone(), id);
                id
            }
        };
        if let Some(group) = self.groups.get_mut(&id) {
            group.join(member, status);
            env.index.hold_group(&name.filter, id, group.is_durable());
        }
        self.send(
            member.shard,
            Hop::GroupJoined {
                obligation,
                member: member.key,
                name,
                group: id,
            },
        );
        self.hand_out(id);
    }

    pub(super) fn group_leave(&mut self, env: Env<'_>, id: GroupId, member: SessionRef) {
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        group.leave(member);
        if group.has_members() {
            env.index
                .hold_group(&group.name.filter, id, group.is_durable());
            self.hand_out(id);
        } else {
            // The last member takes the group and its undelivered messages with it.
            env.index.release_group(&group.name.filter, id);
            self.groups_by_name.remove(&group.name);
            if let Some(group) = self.groups.remove(&id) {
                self.stats.count_drops(DropCause::NoMember, group.queued());
            }
        }
    }

    pub(super) fn group_member(
        &mut self,
        env: Env<'_>,
        id: GroupId,
        member: SessionRef,
        status: MemberStatus,
    ) {
        if let Some(group) = self.groups.get_mut(&id) {
            let was_durable = group.is_durable();
            group.set_status(member, status);
            if group.is_durable() != was_durable {
                env.index
                    .hold_group(&group.name.filter, id, group.is_durable());
            }
            self.hand_out(id);
        }
    }

    pub(super) fn group_done(
        &mut self,
        id: GroupId,
        sequence: u64,
        member: SessionRef,
        outcome: GroupOutcome,
    ) {
        if let Some(group) = self.groups.get_mut(&id) {
            group.done(sequence, member, outcome);
            self.hand_out(id);
        }
    }

    /// Adds a message to a group of this shard.
    pub(super) fn publish_to_group(&mut self, id: GroupId, source: &mut Source<'_>) -> Outcome {
        let limits = self.config.limits;
        let Some(group) = self.groups.get_mut(&id) else {
            return Outcome::Handled;
        };
        let durable = group.is_durable();
        let (count_max, bytes_max) = if durable {
            (limits.queue_messages_max, limits.queue_bytes_max)
        } else {
            (
                limits.clean_queue_messages_max,
                limits.clean_queue_bytes_max,
            )
        };
        let message = source.message();
        while group.queued() >= count_max
            || group.queued() > 0 && group.queued_bytes() + message.size() > bytes_max
        {
            if group.drop_oldest().is_some() {
                self.stats.count_drop(DropCause::QueueFull);
            }
        }
        group.push(message.clone());
        self.hand_out(id);
        if durable {
            Outcome::Stored
        } else {
            Outcome::Handled
        }
    }

    /// Hands messages out while there are members to take them.
    fn hand_out(&mut self, id: GroupId) {
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        let undeliverable = group.take_undeliverable();
        let mut handouts = Vec::new();
        while let Some(handout) = group.hand_out() {
            handouts.push(handout);
        }
        self.stats.count_drops(DropCause::NoMember, undeliverable);
        for handout in handouts {
            self.send(
                handout.member.shard,
                Hop::GroupDeliver {
                    group: id,
                    sequence: handout.sequence,
                    member: handout.member.key,
                    message: handout.message,
                },
            );
        }
    }
}

/// The members' end.
impl Shard {
    pub(super) fn group_joined(
        &mut self,
        env: Env<'_>,
        obligation: ObligationId,
        member: SessionKey,
        name: GroupName,
        group: GroupId,
    ) {
        let this = SessionRef {
            shard: self.id,
            key: member,
        };
        let status = self.member_status(member);
        let found = self.session_mut(member).and_then(|session| {
            let joining = session.joining.remove(&name)?;
            let shared = SharedSubscription {
                name,
                qos: joining.qos,
                retain_as_published: joining.retain_as_published,
                subscription_id: joining.subscription_id,
            };
            Some(session.shared.insert(group, shared).is_none())
        });
        match found {
            Some(new) => {
                self.subscriptions += usize::from(new);
                if let Some(status) = status {
                    // The connection may have gone since the join was sent.
                    self.send(
                        group.owner,
                        Hop::GroupMember {
                            group,
                            member: this,
                            status,
                        },
                    );
                }
            }
            // The session ended, or unsubscribed, before it had joined.
            None => {
                let joined = self
                    .session(member)
                    .is_some_and(|session| session.shared.contains_key(&group));
                if !joined {
                    self.send(
                        group.owner,
                        Hop::GroupLeave {
                            group,
                            member: this,
                        },
                    );
                }
            }
        }
        self.fulfil(env, obligation, ReasonCode::Success);
    }

    pub(super) fn group_deliver(
        &mut self,
        env: Env<'_>,
        group: GroupId,
        sequence: u64,
        member: SessionKey,
        message: Message,
    ) {
        let Some(shared) = self
            .session(member)
            .and_then(|session| session.shared.get(&group))
        else {
            self.send_group_done(group, sequence, member, GroupOutcome::Returned);
            return;
        };
        if message.is_expired(env.now.wall) {
            self.stats.count_drop(DropCause::Expired);
            self.send_group_done(group, sequence, member, GroupOutcome::Consumed);
            return;
        }
        let outgoing = Outgoing {
            subscription_ids: shared
                .subscription_id
                .map_or(SubscriptionIds::None, SubscriptionIds::One),
            origin: Some(Box::new(GroupOrigin { group, sequence })),
            // The QoS granted to this member [MQTT-4.8.2-3].
            qos: shared.qos.min(message.qos()),
            // [MQTT-3.3.1-12, MQTT-3.3.1-13]
            retain: shared.retain_as_published && message.retain(),
            message,
        };
        let connection = self
            .session(member)
            .filter(|session| session.queue.is_empty())
            .and_then(|session| session.connection);
        let rest = match connection {
            Some(key) => self.write_outgoing(env, key, outgoing),
            None => Err(outgoing),
        };
        if let Err(outgoing) = rest {
            self.enqueue(member, outgoing);
        }
    }

    /// Leaves one group: what was not sent goes to somebody else, what was sent is finished.
    pub(super) fn leave_group(&mut self, member: SessionKey, group: GroupId) {
        let Some(session) = self.session_mut(member) else {
            return;
        };
        if session.shared.remove(&group).is_none() {
            return;
        }
        self.subscriptions -= 1;
        self.return_unsent(member, Some(group));
        let member = SessionRef {
            shard: self.id,
            key: member,
        };
        self.send(group.owner, Hop::GroupLeave { group, member });
    }

    /// Gives back what groups handed to this member and it was never sent.
    pub(super) fn return_unsent(&mut self, member: SessionKey, of: Option<GroupId>) {
        let Some(session) = self.session_mut(member) else {
            return;
        };
        if session.shared.is_empty() && of.is_none() {
            return;
        }
        let unsent = session.queue.take_matching(|outgoing| {
            outgoing
                .origin
                .as_ref()
                .is_some_and(|origin| of.is_none_or(|group| group == origin.group))
        });
        for outgoing in unsent {
            self.uncount_queued(&outgoing);
            if let Some(origin) = outgoing.origin {
                self.send_group_done(
                    origin.group,
                    origin.sequence,
                    member,
                    GroupOutcome::Returned,
                );
            }
        }
    }

    /// Tells all groups of a session that its connection came or went.
    pub(super) fn tell_groups_status(&mut self, key: SessionKey) {
        let Some(status) = self.member_status(key) else {
            return;
        };
        let member = SessionRef {
            shard: self.id,
            key,
        };
        let Some(session) = self.session(key) else {
            return;
        };
        let mut groups: Vec<_> = session.shared.keys().copied().collect();
        groups.sort_unstable();
        for group in groups {
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

    pub(super) fn member_status(&self, key: SessionKey) -> Option<MemberStatus> {
        self.session(key).map(|session| MemberStatus {
            connected: session.connection.is_some(),
            durable: session.is_durable(),
        })
    }

    pub(super) fn send_group_done(
        &mut self,
        group: GroupId,
        sequence: u64,
        member: SessionKey,
        outcome: GroupOutcome,
    ) {
        let member = SessionRef {
            shard: self.id,
            key: member,
        };
        self.send(
            group.owner,
            Hop::GroupDone {
                group,
                sequence,
                member,
                outcome,
            },
        );
    }
}
