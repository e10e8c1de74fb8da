//! Shared subscriptions: a group is a pseudo-session with a queue of its own, owned by one shard.

use std::collections::BTreeMap;

use whimbrel_session::codec::QoS;

use crate::effects::{GroupName, GroupOutcome, MemberStatus};
use crate::{Message, SessionRef};

/// A shared subscription at its owner.
///
/// Each message goes to one member [U5-103]. Connected members are preferred; members that are
/// away get messages only while nobody is connected. A member holds at most its credit of
/// unfinished messages; what it returns unsent goes back to its place in the queue.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: GroupName,
    members: Vec<Member>,
    /// Where the round over the members goes on.
    turn: usize,
    /// Messages nobody has yet, by sequence, so that a returned one finds its place again.
    queue: BTreeMap<u64, Message>,
    queue_bytes: usize,
    /// Messages a member has and has not finished.
    handed_out: BTreeMap<u64, HandedOut>,
    next_sequence: u64,
    credit: u32,
}

#[derive(Debug)]
struct Member {
    session: SessionRef,
    status: MemberStatus,
    credit: u32,
}

#[derive(Debug)]
struct HandedOut {
    member: SessionRef,
    message: Message,
}

/// A message for a member.
#[derive(Debug)]
pub(super) struct Handout {
    pub(super) member: SessionRef,
    pub(super) sequence: u64,
    pub(super) message: Message,
}

impl Group {
    pub(super) fn new(name: GroupName, credit: u32) -> Self {
        Self {
            name,
            members: Vec::new(),
            turn: 0,
            queue: BTreeMap::new(),
            queue_bytes: 0,
            handed_out: BTreeMap::new(),
            next_sequence: 0,
            credit: credit.max(1),
        }
    }

    /// Adds a member, or notes its new status: joining twice is one membership [U5-104].
    pub(super) fn join(&mut self, session: SessionRef, status: MemberStatus) {
        match self
            .members
            .iter_mut()
            .find(|member| member.session == session)
        {
            Some(member) => member.status = status,
            None => self.members.push(Member {
                session,
                status,
                credit: self.credit,
            }),
        }
    }

    /// Notes that a member's connection or durability changed.
    pub(super) fn set_status(&mut self, session: SessionRef, status: MemberStatus) {
        if let Some(member) = self
            .members
            .iter_mut()
            .find(|member| member.session == session)
        {
            member.status = status;
        }
    }

    /// Removes a member; what it still holds is finished or returned by its shard.
    pub(super) fn leave(&mut self, session: SessionRef) {
        self.members.retain(|member| member.session != session);
    }

    pub(super) fn has_members(&self) -> bool {
        !self.members.is_empty()
    }

    /// Whether a message for this group has to be stored before it is acknowledged.
    pub(super) fn is_durable(&self) -> bool {
        self.members.iter().any(|member| member.status.durable)
    }

    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.queue_bytes
    }

    pub(super) fn push(&mut self, message: Message) {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.enqueue(sequence, message);
    }

    /// Takes the oldest message out to make room.
    pub(super) fn drop_oldest(&mut self) -> Option<Message> {
        let (_, message) = self.queue.pop_first()?;
        self.queue_bytes -= message.size();
        Some(message)
    }

    /// The next message and who gets it, while there is a member to take it.
    pub(super) fn hand_out(&mut self) -> Option<Handout> {
        let qos = self.queue.first_key_value()?.1.qos();
        let index = self.pick(qos)?;
        let (sequence, message) = self.queue.pop_first()?;
        self.queue_bytes -= message.size();
        let member = &mut self.members[index];
        member.credit -= 1;
        let session = member.session;
        self.turn = index + 1;
        self.handed_out.insert(
            sequence,
            HandedOut {
                member: session,
                message: message.clone(),
            },
        );
        Some(Handout {
            member: session,
            sequence,
            message,
        })
    }

    /// Takes the messages at the front that nobody will ever want: `QoS` 0 without a connected member.
    pub(super) fn take_undeliverable(&mut self) -> usize {
        if self.members.iter().any(|member| member.status.connected) {
            return 0;
        }
        let before = self.queue.len();
        let bytes = &mut self.queue_bytes;
        self.queue.retain(|_, message| {
            let keep = message.qos() != QoS::AtMostOnce;
            if !keep {
                *bytes -= message.size();
            }
            keep
        });
        before - self.queue.len()
    }

    /// Notes what became of a message that was handed out.
    pub(super) fn done(&mut self, sequence: u64, session: SessionRef, outcome: GroupOutcome) {
        let known = self
            .handed_out
            .get(&sequence)
            .is_some_and(|handed_out| handed_out.member == session);
        if !known {
            return;
        }
        if let Some(handed_out) = self.handed_out.remove(&sequence) {
            if let Some(member) = self
                .members
                .iter_mut()
                .find(|member| member.session == session)
            {
                member.credit = (member.credit + 1).min(self.credit);
            }
            if outcome == GroupOutcome::Returned {
                self.enqueue(sequence, handed_out.message);
            }
        }
    }

    /// A member that may take a message: connected ones in turn, then those that are away.
    fn pick(&self, qos: QoS) -> Option<usize> {
        let count = self.members.len();
        let round = || (0..count).map(|step| (self.turn + step) % count);
        let connected = |index: &usize| self.members[*index].status.connected;
        if (0..count).any(|index| connected(&index)) {
            return round().find(|index| connected(index) && self.members[*index].credit > 0);
        }
        if qos == QoS::AtMostOnce {
            return None;
        }
        round().find(|index| {
            let member = &self.members[*index];
            member.status.durable && member.credit > 0
        })
    }

    fn enqueue(&mut self, sequence: u64, message: Message) {
        self.queue_bytes += message.size();
        self.queue.insert(sequence, message);
    }
}

#[cfg(test)]
mod tests {
    use whimbrel_session::codec::PublishProperties;
    use whimbrel_session::codec::topic::{ByteStr, TopicFilter, TopicName};

    use super::*;
    use crate::message::MessageParts;
    use crate::{MsgId, SessionKey, ShardId, UnixMillis};

    const ONLINE: MemberStatus = MemberStatus {
        connected: true,
        durable: true,
    };
    const AWAY: MemberStatus = MemberStatus {
        connected: false,
        durable: true,
    };

    fn session(index: u32) -> SessionRef {
        SessionRef {
            shard: ShardId(0),
            key: SessionKey {
                index,
                generation: 0,
            },
        }
    }

    fn message(sequence: u64, qos: QoS) -> Message {
        Message::new(&MessageParts {
            id: MsgId {
                node: 0,
                incarnation: 0,
                sequence,
            },
            topic: TopicName::new("t").expect("valid"),
            qos,
            retain: false,
            expires_at: UnixMillis::NEVER,
            properties: PublishProperties::EMPTY,
            payload: b"",
        })
    }

    fn group(credit: u32) -> Group {
        let name = GroupName {
            share: ByteStr::from("g"),
            filter: TopicFilter::new("t").expect("valid").to_owned(),
        };
        Group::new(name, credit)
    }

    fn handouts(group: &mut Group) -> Vec<(u32, u64)> {
        std::iter::from_fn(|| group.hand_out())
            .map(|handout| (handout.member.key.index, handout.message.id().sequence))
            .collect()
    }

    #[test]
    fn messages_go_round_the_connected_members_within_their_credit() {
        let mut group = group(2);
        for index in 0..2 {
            group.join(session(index), ONLINE);
        }
        group.join(session(9), AWAY);
        for sequence in 0..6 {
            group.push(message(sequence, QoS::AtLeastOnce));
        }
        assert_eq!(handouts(&mut group), [(0, 0), (1, 1), (0, 2), (1, 3)]);
        assert_eq!(group.queued(), 2);
        group.done(1, session(1), GroupOutcome::Consumed);
        assert_eq!(handouts(&mut group), [(1, 4)]);
    }

    #[test]
    fn what_a_member_returns_goes_in_front_of_newer_messages() {
        let mut group = group(2);
        group.join(session(0), ONLINE);
        for sequence in 0..3 {
            group.push(message(sequence, QoS::AtLeastOnce));
        }
        assert_eq!(handouts(&mut group), [(0, 0), (0, 1)]);
        group.join(session(1), ONLINE);
        group.leave(session(0));
        group.done(0, session(0), GroupOutcome::Returned);
        group.done(1, session(0), GroupOutcome::Consumed);
        assert_eq!(handouts(&mut group), [(1, 0), (1, 2)]);
    }

    #[test]
    fn a_late_answer_of_a_former_holder_changes_nothing() {
        let mut group = group(2);
        group.join(session(0), ONLINE);
        group.push(message(0, QoS::AtLeastOnce));
        assert_eq!(handouts(&mut group), [(0, 0)]);
        group.leave(session(0));
        group.done(0, session(0), GroupOutcome::Returned);
        group.join(session(1), ONLINE);
        assert_eq!(handouts(&mut group), [(1, 0)]);
        group.done(0, session(0), GroupOutcome::Returned);
        assert_eq!(group.queued(), 0, "the message is with its new holder");
    }

    #[test]
    fn members_that_are_away_get_messages_only_while_nobody_is_connected() {
        let mut group = group(8);
        group.join(session(0), AWAY);
        group.push(message(0, QoS::AtLeastOnce));
        group.push(message(1, QoS::AtMostOnce));
        assert_eq!(handouts(&mut group), [(0, 0)]);
        assert_eq!(group.take_undeliverable(), 1);
        group.join(session(1), ONLINE);
        group.push(message(2, QoS::AtMostOnce));
        group.push(message(3, QoS::AtLeastOnce));
        assert_eq!(handouts(&mut group), [(1, 2), (1, 3)]);
        assert_eq!(group.queued_bytes(), 0);
    }
}
