//! Shared subscriptions: a group is a pseudo-session with a queue of its own, owned by one shard.

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_session::codec::QoS;
use whimbrel_session::mutant;

use crate::effects::{GroupName, GroupOutcome, MemberStatus};
use crate::map::{self, Map};
use crate::{Message, SessionRef, UnixMillis};

/// A shared subscription at its owner.
///
/// Each message goes to one member [U5-103]. Connected members are preferred; members that are
/// away get messages only while nobody is connected. A member holds at most its credit of
/// unfinished messages; what it returns unsent goes back to its place in the queue.
///
/// A group without members is closed: it only waits for what its last members still hold.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: GroupName,
    members: Vec<Member>,
    slots: Map<SessionRef, usize>,
    /// Slots of connected members with credit.
    ready: BTreeSet<usize>,
    /// Slots of members that are away, store messages and have credit.
    away: BTreeSet<usize>,
    connected: usize,
    durable: usize,
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
    /// Members it is too large for, this one not among them. At most [`REFUSALS_MAX`].
    refused_by: Vec<SessionRef>,
}

/// What is next in a group's queue.
#[derive(Debug)]
pub(super) enum Next {
    /// A message for a member.
    Handout(Handout),
    /// A message that expired while it waited, and is gone.
    Expired,
}

/// A message for a member.
#[derive(Debug)]
pub(super) struct Handout {
    pub(super) member: SessionRef,
    pub(super) sequence: u64,
    pub(super) to_connected: bool,
    pub(super) message: Message,
}

/// What an answer of a member meant.
#[derive(Debug)]
pub(super) enum Answered {
    /// The message is finished, or the answer is of a former holder.
    Settled,
    /// The message is in the queue again.
    Requeued,
    /// The message came back to a group that has no members any more.
    Lost,
    /// The message is too large for this member, and goes to another one.
    HandedOver(Handout),
    /// The message is too large for the members that could have it now, and is gone (F7).
    TooLarge,
}

impl Group {
    pub(super) fn new(name: GroupName, credit: u32, seed: u64) -> Self {
        Self {
            name,
            members: Vec::new(),
            slots: map::new(seed),
            ready: BTreeSet::new(),
            away: BTreeSet::new(),
            connected: 0,
            durable: 0,
            turn: 0,
            queue: BTreeMap::new(),
            queue_bytes: 0,
            handed_out: BTreeMap::new(),
            next_sequence: 0,
            credit: credit.max(1),
        }
    }

    /// Adds a member, or notes its new status: joining twice is one membership [U5-104].
    ///
    /// Says how many messages that made undeliverable.
    pub(super) fn join(&mut self, session: SessionRef, status: MemberStatus) -> usize {
        if self.slots.contains_key(&session) {
            return self.set_status(session, status);
        }
        let slot = self.members.len();
        self.members.push(Member {
            session,
            status,
            credit: self.credit,
        });
        self.slots.insert(session, slot);
        self.connected += usize::from(status.connected);
        self.durable += usize::from(status.durable);
        self.place(slot);
        0
    }

    /// Notes that a member's connection or durability changed, and says how many messages that
    /// made undeliverable: `QoS` 0 without a connected member.
    pub(super) fn set_status(&mut self, session: SessionRef, status: MemberStatus) -> usize {
        let Some(&slot) = self.slots.get(&session) else {
            return 0;
        };
        let before = std::mem::replace(&mut self.members[slot].status, status);
        self.connected += usize::from(status.connected);
        self.connected -= usize::from(before.connected);
        self.durable += usize::from(status.durable);
        self.durable -= usize::from(before.durable);
        self.place(slot);
        if before.connected { self.purge() } else { 0 }
    }

    /// Removes a member; what it still holds is finished or returned by its shard. Says how many
    /// messages that made undeliverable.
    pub(super) fn leave(&mut self, session: SessionRef) -> usize {
        let Some(slot) = self.slots.remove(&session) else {
            return 0;
        };
        let last = self.members.len() - 1;
        self.unplace(slot);
        self.unplace(last);
        let left = self.members.swap_remove(slot);
        self.connected -= usize::from(left.status.connected);
        self.durable -= usize::from(left.status.durable);
        if slot < last {
            self.slots.insert(self.members[slot].session, slot);
            self.place(slot);
        }
        if self.is_closed() {
            self.queue_bytes = 0;
            return std::mem::take(&mut self.queue).len();
        }
        self.purge()
    }

    /// Whether the last member has left.
    pub(super) fn is_closed(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether nothing is left of it.
    pub(super) fn is_over(&self) -> bool {
        self.is_closed() && self.handed_out.is_empty()
    }

    /// Whether a message for this group has to be stored before it is acknowledged.
    pub(super) fn is_durable(&self) -> bool {
        self.durable > 0
    }

    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.queue_bytes
    }

    /// Bytes a queued message counts with.
    pub(super) fn cost(message: &Message) -> usize {
        message.size() + ENTRY_BYTES
    }

    /// Adds a message; `None` if nobody will ever take it: the last member has left, or it is of
    /// `QoS` 0 and no member is connected.
    pub(super) fn push(&mut self, message: Message) -> Option<u64> {
        let undeliverable = self.connected == 0 && message.qos() == QoS::AtMostOnce;
        if self.is_closed() && !mutant!(EmptyGroupTakes) || undeliverable {
            return None;
        }
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.enqueue(sequence, message);
        Some(sequence)
    }

    /// Takes the oldest message out to make room.
    pub(super) fn drop_oldest(&mut self) -> Option<Message> {
        let (_, message) = self.queue.pop_first()?;
        self.queue_bytes -= Self::cost(&message);
        Some(message)
    }

    /// Takes the next message and picks who gets it, while there is a member to take it.
    ///
    /// `fresh` has not waited, so that its expiry is not looked at: an interval of 0 reaches who is
    /// there now.
    pub(super) fn next(&mut self, now: UnixMillis, fresh: Option<u64>) -> Option<Next> {
        let (&sequence, message) = self.queue.first_key_value()?;
        if fresh != Some(sequence) && message.is_expired(now) {
            self.drop_oldest();
            return Some(Next::Expired);
        }
        let slot = self.pick(message.qos())?;
        let message = self.drop_oldest()?;
        Some(Next::Handout(self.give(
            slot,
            sequence,
            message,
            Vec::new(),
        )))
    }

    fn give(
        &mut self,
        slot: usize,
        sequence: u64,
        message: Message,
        refused_by: Vec<SessionRef>,
    ) -> Handout {
        let member = &mut self.members[slot];
        member.credit -= 1;
        let (session, to_connected) = (member.session, member.status.connected);
        self.turn = slot + 1;
        self.place(slot);
        let handed_out = HandedOut {
            member: session,
            message: message.clone(),
            refused_by,
        };
        self.handed_out.insert(sequence, handed_out);
        Handout {
            member: session,
            sequence,
            to_connected,
            message,
        }
    }

    /// Notes what became of a message that was handed out.
    pub(super) fn done(
        &mut self,
        sequence: u64,
        session: SessionRef,
        outcome: GroupOutcome,
    ) -> Answered {
        let known = self
            .handed_out
            .get(&sequence)
            .is_some_and(|handed_out| handed_out.member == session);
        let Some(handed_out) = known.then(|| self.handed_out.remove(&sequence)).flatten() else {
            return Answered::Settled;
        };
        if let Some(&slot) = self.slots.get(&session) {
            let member = &mut self.members[slot];
            let finished = u32::from(!mutant!(GroupCreditLeaked));
            member.credit = (member.credit + finished).min(self.credit);
            self.place(slot);
        }
        match outcome {
            GroupOutcome::Consumed => return Answered::Settled,
            GroupOutcome::TooLarge => return self.hand_over(sequence, handed_out),
            GroupOutcome::Returned => {}
        }
        let undeliverable = self.connected == 0 && handed_out.message.qos() == QoS::AtMostOnce;
        if self.is_closed() || undeliverable {
            return Answered::Lost;
        }
        self.enqueue(sequence, handed_out.message);
        Answered::Requeued
    }

    /// Gives a message that is too large for its member to another one that could take it now. It does not wait
    /// for others, which would hold up what is behind it.
    fn hand_over(&mut self, sequence: u64, handed_out: HandedOut) -> Answered {
        let HandedOut {
            member,
            message,
            mut refused_by,
        } = handed_out;
        refused_by.push(member);
        let may_ask = refused_by.len() < REFUSALS_MAX;
        let from_turn = self
            .ready
            .range(self.turn..)
            .chain(self.ready.range(..self.turn));
        let untried = from_turn
            .copied()
            .find(|&slot| !refused_by.contains(&self.members[slot].session));
        match untried.filter(|_| may_ask) {
            Some(slot) => Answered::HandedOver(self.give(slot, sequence, message, refused_by)),
            None => Answered::TooLarge,
        }
    }

    /// A member that may take a message: connected ones in turn, then those that are away.
    fn pick(&self, qos: QoS) -> Option<usize> {
        let round = |slots: &BTreeSet<usize>| {
            slots
                .range(self.turn..)
                .next()
                .or_else(|| slots.first())
                .copied()
        };
        if self.connected > 0 {
            return round(&self.ready);
        }
        if qos == QoS::AtMostOnce {
            return None;
        }
        round(&self.away)
    }

    /// Enters a member where its status and credit say.
    fn place(&mut self, slot: usize) {
        self.unplace(slot);
        let member = &self.members[slot];
        if member.credit == 0 {
            return;
        }
        if member.status.connected {
            self.ready.insert(slot);
        } else if member.status.durable {
            self.away.insert(slot);
        }
    }

    fn unplace(&mut self, slot: usize) {
        self.ready.remove(&slot);
        self.away.remove(&slot);
    }

    /// Takes `QoS` 0 messages out once the last connected member is gone.
    fn purge(&mut self) -> usize {
        if self.connected > 0 {
            return 0;
        }
        let before = self.queue.len();
        let bytes = &mut self.queue_bytes;
        self.queue.retain(|_, message| {
            let keep = message.qos() != QoS::AtMostOnce;
            if !keep {
                *bytes -= Self::cost(message);
            }
            keep
        });
        before - self.queue.len()
    }

    fn enqueue(&mut self, sequence: u64, message: Message) {
        self.queue_bytes += Self::cost(&message);
        self.queue.insert(sequence, message);
    }
}

/// Members asked to take one message before it is dropped as too large.
const REFUSALS_MAX: usize = 8;

/// What an entry of the queue costs beside its message.
const ENTRY_BYTES: usize = size_of::<(u64, Message)>();

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
        Group::new(name, credit, 0)
    }

    fn handouts(group: &mut Group) -> Vec<(u32, u64)> {
        std::iter::from_fn(|| group.next(UnixMillis(0), None))
            .filter_map(|next| match next {
                Next::Handout(handout) => Some(handout),
                Next::Expired => None,
            })
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
        group.join(session(1), ONLINE);
        group.leave(session(0));
        let answer = group.done(0, session(0), GroupOutcome::Returned);
        assert!(matches!(answer, Answered::Requeued));
        assert_eq!(handouts(&mut group), [(1, 0)]);
        let answer = group.done(0, session(0), GroupOutcome::Returned);
        assert!(matches!(answer, Answered::Settled));
        assert_eq!(group.queued(), 0, "the message is with its new holder");
    }

    #[test]
    fn members_that_are_away_get_messages_only_while_nobody_is_connected() {
        let mut group = group(8);
        group.join(session(0), AWAY);
        assert!(group.push(message(0, QoS::AtLeastOnce)).is_some());
        assert!(group.push(message(1, QoS::AtMostOnce)).is_none());
        assert_eq!(handouts(&mut group), [(0, 0)]);
        group.join(session(1), ONLINE);
        group.push(message(2, QoS::AtMostOnce));
        group.push(message(3, QoS::AtLeastOnce));
        assert_eq!(handouts(&mut group), [(1, 2), (1, 3)]);
        assert_eq!(group.queued_bytes(), 0);
    }

    #[test]
    fn qos_0_goes_with_the_last_connected_member() {
        let mut group = group(1);
        group.join(session(0), ONLINE);
        for sequence in 0..3 {
            group.push(message(sequence, QoS::AtMostOnce));
        }
        assert_eq!(handouts(&mut group), [(0, 0)]);
        assert_eq!(group.set_status(session(0), AWAY), 2);
        assert_eq!((group.queued(), group.queued_bytes()), (0, 0));
    }

    #[test]
    fn what_is_too_large_for_a_member_goes_to_another_one_once() {
        // F7
        let mut group = group(1);
        for index in 0..3 {
            group.join(session(index), ONLINE);
        }
        group.push(message(0, QoS::AtLeastOnce));
        group.push(message(1, QoS::AtLeastOnce));
        assert_eq!(handouts(&mut group), [(0, 0), (1, 1)]);
        // Member 1 has no credit left, so that it is not asked.
        let answer = group.done(0, session(0), GroupOutcome::TooLarge);
        let Answered::HandedOver(handout) = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(handout.member, session(2));
        let answer = group.done(0, session(2), GroupOutcome::TooLarge);
        assert!(matches!(answer, Answered::TooLarge));
        let answer = group.done(1, session(1), GroupOutcome::Consumed);
        assert!(matches!(answer, Answered::Settled));
        assert_eq!(group.queued(), 0);
        // All have their credit back.
        for sequence in 2..5 {
            group.push(message(sequence, QoS::AtLeastOnce));
        }
        assert_eq!(handouts(&mut group).len(), 3);
    }

    #[test]
    fn a_closed_group_waits_for_what_its_members_still_hold() {
        let mut group = group(2);
        group.join(session(0), ONLINE);
        for sequence in 0..3 {
            group.push(message(sequence, QoS::AtLeastOnce));
        }
        assert_eq!(handouts(&mut group).len(), 2);
        assert_eq!(group.leave(session(0)), 1, "nobody will get the third");
        assert!(group.is_closed() && !group.is_over());
        assert!(
            group.push(message(3, QoS::AtLeastOnce)).is_none(),
            "matched too early"
        );
        let answer = group.done(0, session(0), GroupOutcome::Returned);
        assert!(matches!(answer, Answered::Lost));
        let answer = group.done(1, session(0), GroupOutcome::Consumed);
        assert!(matches!(answer, Answered::Settled));
        assert!(group.is_over());
    }

    #[test]
    fn leaving_keeps_the_slots_of_the_others_right() {
        let mut group = group(1);
        for index in 0..4 {
            group.join(session(index), ONLINE);
        }
        group.leave(session(1));
        for sequence in 0..3 {
            group.push(message(sequence, QoS::AtLeastOnce));
        }
        let mut members: Vec<_> = handouts(&mut group)
            .iter()
            .map(|&(member, _)| member)
            .collect();
        members.sort_unstable();
        assert_eq!(members, [0, 2, 3]);
        group.done(0, session(0), GroupOutcome::Consumed);
        group.done(1, session(3), GroupOutcome::Consumed);
        group.done(2, session(2), GroupOutcome::Consumed);
        group.push(message(3, QoS::AtLeastOnce));
        assert_eq!(handouts(&mut group).len(), 1);
    }
}
