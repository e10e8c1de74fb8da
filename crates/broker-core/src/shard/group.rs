//! Shared subscriptions: a group is a pseudo-session with a queue of its own, owned by one shard.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use whimbrel_session::codec::QoS;
use whimbrel_session::mutant;

use crate::effects::{GroupName, GroupOutcome, MemberStatus};
use crate::map::{self, Map};
use crate::record::{Position, QueueId};
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
    /// Its queue in the journal, from its first member that stores messages on.
    pub(super) queue_id: Option<QueueId>,
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
    queue: BTreeMap<Position, Queued>,
    queue_bytes: usize,
    /// Messages a member has and has not finished.
    handed_out: HandedOuts,
    /// Messages of the journal are handed out up to here: a member's record of one must not be there before the
    /// message itself.
    committed: Option<Position>,
    /// Messages of the journal that are over, to be told.
    done: Vec<Position>,
    credit: u32,
}

/// A message of a group.
#[derive(Clone, Debug)]
pub(super) struct Queued {
    pub(super) message: Message,
    /// The journal has it at its sequence.
    pub(super) is_recorded: bool,
}

#[derive(Debug)]
struct Member {
    session: SessionRef,
    status: MemberStatus,
    credit: u32,
    /// Which of the group's sets its slot is in.
    place: Place,
}

/// Whether a member may get a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Nowhere,
    Ready,
    Away,
}

#[derive(Debug)]
struct HandedOut {
    member: SessionRef,
    queued: Queued,
    /// Members it is too large for, this one not among them. At most [`REFUSALS_MAX`].
    refused_by: Vec<SessionRef>,
}

/// Printed in order: what it holds decides what the group does, and not how it came there.
struct HandedOuts(Map<Position, HandedOut>);

impl fmt::Debug for HandedOuts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted: Vec<_> = self.0.iter().collect();
        sorted.sort_unstable_by_key(|&(&sequence, _)| sequence);
        f.debug_map().entries(sorted).finish()
    }
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
    pub(super) sequence: Position,
    pub(super) to_connected: bool,
    pub(super) queued: Queued,
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
            queue_id: None,
            members: Vec::new(),
            slots: map::new(seed),
            ready: BTreeSet::new(),
            away: BTreeSet::new(),
            connected: 0,
            durable: 0,
            turn: 0,
            queue: BTreeMap::new(),
            queue_bytes: 0,
            handed_out: HandedOuts(map::new(seed)),
            committed: None,
            done: Vec::new(),
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
            place: Place::Nowhere,
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
        self.close_without_members().unwrap_or_else(|| self.purge())
    }

    /// Whether the last member has left.
    pub(super) fn is_closed(&self) -> bool {
        self.members.is_empty()
    }

    /// Drops what is queued if there are no members, and says how many messages that were.
    pub(super) fn close_without_members(&mut self) -> Option<usize> {
        if !self.is_closed() {
            return None;
        }
        self.queue_bytes = 0;
        Some(std::mem::take(&mut self.queue).len())
    }

    /// Whether nothing is left of it.
    pub(super) fn is_over(&self) -> bool {
        self.is_closed() && self.handed_out.0.is_empty()
    }

    /// Whether a message for this group has to be stored before it is acknowledged.
    pub(super) fn is_durable(&self) -> bool {
        self.durable > 0
    }

    /// Takes the messages of the journal that are over.
    pub(super) fn take_done(&mut self) -> Vec<Position> {
        std::mem::take(&mut self.done)
    }

    /// The journal has committed the message at `sequence`, and those before it.
    pub(super) fn note_committed(&mut self, sequence: Position) {
        self.committed = self.committed.max(Some(sequence));
    }

    /// Puts a message of the journal back where it was when the broker stopped: with a member that has it in
    /// flight, or into the queue.
    pub(super) fn restore(
        &mut self,
        sequence: Position,
        message: Message,
        holder: Option<SessionRef>,
    ) {
        self.note_committed(sequence);
        let queued = Queued {
            message,
            is_recorded: true,
        };
        let Some(member) = holder else {
            return self.enqueue(sequence, queued);
        };
        if let Some(&slot) = self.slots.get(&member) {
            let member = &mut self.members[slot];
            member.credit = member.credit.saturating_sub(1);
            self.place(slot);
        }
        let handed_out = HandedOut {
            member,
            queued,
            refused_by: Vec::new(),
        };
        self.handed_out.0.insert(sequence, handed_out);
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

    /// Whether anybody will ever take this message: not once the last member has left, nor, of `QoS` 0, while no
    /// member is connected.
    pub(super) fn takes(&self, message: &Message) -> bool {
        let undeliverable = self.connected == 0 && message.qos() == QoS::AtMostOnce;
        (!self.is_closed() || mutant!(EmptyGroupTakes)) && !undeliverable
    }

    /// Takes a message that the group [`takes`](Self::takes), and picks who gets it if nothing is before it and
    /// a member can have it now; what has to wait is queued. Sequences rise.
    pub(super) fn offer(&mut self, sequence: Position, queued: Queued) -> Option<Handout> {
        let is_next = self.queue.is_empty() && self.may_go(sequence, &queued);
        let slot = is_next.then(|| self.pick(queued.message.qos())).flatten();
        match slot {
            Some(slot) => Some(self.give(slot, sequence, queued, Vec::new())),
            None => {
                self.enqueue(sequence, queued);
                None
            }
        }
    }

    /// Whether the journal has what it is to have of a message.
    fn may_go(&self, sequence: Position, queued: &Queued) -> bool {
        !queued.is_recorded || self.committed >= Some(sequence) || mutant!(GroupMessageBeforeRecord)
    }

    /// Drops the oldest message to make room; `false` if there is none.
    pub(super) fn drop_oldest(&mut self) -> bool {
        let Some((sequence, queued)) = self.take_first() else {
            return false;
        };
        self.note_done(sequence, &queued);
        true
    }

    fn take_first(&mut self) -> Option<(Position, Queued)> {
        let (sequence, queued) = self.queue.pop_first()?;
        self.queue_bytes -= Self::cost(&queued.message);
        Some((sequence, queued))
    }

    fn note_done(&mut self, sequence: Position, queued: &Queued) {
        if queued.is_recorded {
            self.done.push(sequence);
        }
    }

    /// Takes the next message and picks who gets it, while there is a member to take it.
    ///
    /// `fresh` has not waited, so that its expiry is not looked at: an interval of 0 reaches who is
    /// there now.
    pub(super) fn next(&mut self, now: UnixMillis, fresh: Option<Position>) -> Option<Next> {
        let (&sequence, queued) = self.queue.first_key_value()?;
        if !self.may_go(sequence, queued) {
            return None;
        }
        if fresh != Some(sequence) && queued.message.is_expired(now) {
            self.drop_oldest();
            return Some(Next::Expired);
        }
        let slot = self.pick(queued.message.qos())?;
        let (sequence, queued) = self.take_first()?;
        Some(Next::Handout(self.give(slot, sequence, queued, Vec::new())))
    }

    fn give(
        &mut self,
        slot: usize,
        sequence: Position,
        queued: Queued,
        refused_by: Vec<SessionRef>,
    ) -> Handout {
        let member = &mut self.members[slot];
        member.credit -= 1;
        let (session, to_connected) = (member.session, member.status.connected);
        self.turn = slot + 1;
        self.place(slot);
        let handed_out = HandedOut {
            member: session,
            queued: queued.clone(),
            refused_by,
        };
        self.handed_out.0.insert(sequence, handed_out);
        Handout {
            member: session,
            sequence,
            to_connected,
            queued,
        }
    }

    /// Notes what became of a message that was handed out.
    pub(super) fn done(
        &mut self,
        sequence: Position,
        session: SessionRef,
        outcome: GroupOutcome,
    ) -> Answered {
        let known = self
            .handed_out
            .0
            .get(&sequence)
            .is_some_and(|handed_out| handed_out.member == session);
        let Some(handed_out) = known.then(|| self.handed_out.0.remove(&sequence)).flatten() else {
            return Answered::Settled;
        };
        if let Some(&slot) = self.slots.get(&session) {
            let member = &mut self.members[slot];
            let finished = u32::from(!mutant!(GroupCreditLeaked));
            member.credit = (member.credit + finished).min(self.credit);
            self.place(slot);
        }
        match outcome {
            // Its member has told the journal.
            GroupOutcome::Consumed => return Answered::Settled,
            GroupOutcome::TooLarge => return self.hand_over(sequence, handed_out),
            GroupOutcome::Returned => {}
        }
        let queued = handed_out.queued;
        let undeliverable = self.connected == 0 && queued.message.qos() == QoS::AtMostOnce;
        if self.is_closed() || undeliverable {
            self.note_done(sequence, &queued);
            return Answered::Lost;
        }
        self.enqueue(sequence, queued);
        Answered::Requeued
    }

    /// Gives a message that is too large for its member to another one that could take it now. It does not wait
    /// for others, which would hold up what is behind it.
    fn hand_over(&mut self, sequence: Position, handed_out: HandedOut) -> Answered {
        let HandedOut {
            member,
            queued,
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
            Some(slot) => Answered::HandedOver(self.give(slot, sequence, queued, refused_by)),
            None => {
                self.note_done(sequence, &queued);
                Answered::TooLarge
            }
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
        let member = &self.members[slot];
        let place = match member.status {
            _ if member.credit == 0 => Place::Nowhere,
            MemberStatus {
                connected: true, ..
            } => Place::Ready,
            MemberStatus { durable: true, .. } => Place::Away,
            _ => Place::Nowhere,
        };
        self.put(slot, place);
    }

    fn unplace(&mut self, slot: usize) {
        self.put(slot, Place::Nowhere);
    }

    fn put(&mut self, slot: usize, place: Place) {
        let before = std::mem::replace(&mut self.members[slot].place, place);
        if before == place {
            return;
        }
        match before {
            Place::Nowhere => false,
            Place::Ready => self.ready.remove(&slot),
            Place::Away => self.away.remove(&slot),
        };
        match place {
            Place::Nowhere => false,
            Place::Ready => self.ready.insert(slot),
            Place::Away => self.away.insert(slot),
        };
    }

    /// Takes `QoS` 0 messages out once the last connected member is gone.
    fn purge(&mut self) -> usize {
        if self.connected > 0 {
            return 0;
        }
        let before = self.queue.len();
        let bytes = &mut self.queue_bytes;
        self.queue.retain(|_, queued| {
            // None of these is recorded.
            let keep = queued.message.qos() != QoS::AtMostOnce;
            if !keep {
                *bytes -= Self::cost(&queued.message);
            }
            keep
        });
        before - self.queue.len()
    }

    fn enqueue(&mut self, sequence: Position, queued: Queued) {
        self.queue_bytes += Self::cost(&queued.message);
        self.queue.insert(sequence, queued);
    }
}

/// Members asked to take one message before it is dropped as too large.
const REFUSALS_MAX: usize = 8;

/// What an entry of the queue costs beside its message.
const ENTRY_BYTES: usize = size_of::<(Position, Queued)>();

#[cfg(test)]
mod tests;
