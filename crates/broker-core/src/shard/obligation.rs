//! Obligations: acknowledgements that wait, for other shards or for the journal.

use std::collections::VecDeque;
use std::fmt;

use slab::Slab;
use whimbrel_session::AckToken;
use whimbrel_session::codec::{PacketId, ReasonCode};
use whimbrel_session::mutant;

use super::shown::Entries;
use crate::effects::ObligationId;
use crate::record::Record;
use crate::{ConnectionKey, GroupId, Message, MsgId, Position, QueueId, SessionKey, ShardId};

/// Who is told in the end.
#[derive(Debug)]
pub(super) enum Debt {
    /// A publisher on the wire gets the acknowledgement its token stands for.
    Publisher {
        connection: ConnectionKey,
        token: AckToken,
    },
    /// An in-process publisher.
    Local {
        connection: ConnectionKey,
        request: u64,
    },
    /// A subscriber gets its SUBACK, and retained messages after it.
    Subscribe(SubscribeDebt),
    /// A `QoS` 2 message is with all its targets: its publisher may release it.
    Inbound(InboundKey),
}

/// Where a message that was taken over stands: at its publisher's session, while that is there, and in the journal.
#[derive(Clone, Copy, Debug)]
pub(super) struct InboundKey {
    pub(super) session: SessionKey,
    /// 0 for a will.
    pub(super) packet_id: u16,
    pub(super) queue: Option<QueueId>,
    pub(super) message: MsgId,
}

/// A SUBACK that waits, with the codes known so far.
#[derive(Debug)]
pub(super) struct SubscribeDebt {
    pub(super) connection: ConnectionKey,
    pub(super) answer: SubscribeAnswer,
    pub(super) codes: Vec<ReasonCode>,
    /// Retained messages that follow the SUBACK (ambiguity E13).
    pub(super) scans: Vec<super::session::RetainedScan>,
}

/// How the answer to a subscribe goes out.
#[derive(Debug)]
pub(super) enum SubscribeAnswer {
    Wire(AckToken),
    Local(u64),
}

/// A debt and how many answers it waits for.
#[derive(Debug)]
struct Obligation {
    generation: u32,
    remaining: u32,
    reason: ReasonCode,
    debt: Debt,
}

/// The obligations of one shard. Bounded by the in-flight windows of its connections.
#[derive(Default)]
pub(super) struct Obligations {
    slots: Slab<Obligation>,
    next_generation: u32,
}

impl Obligations {
    /// Opens an obligation for `remaining` answers.
    pub(super) fn open(&mut self, remaining: u32, debt: Debt) -> ObligationId {
        debug_assert!(remaining > 0, "nothing to wait for");
        let generation = self.next_generation;
        self.next_generation = generation.wrapping_add(1);
        let index = self.slots.insert(Obligation {
            generation,
            remaining,
            reason: ReasonCode::Success,
            debt,
        });
        ObligationId {
            index: u32::try_from(index).expect("fewer obligations than 32 bits count"),
            generation,
        }
    }

    /// Counts one answer; the last one settles the debt, with the first error if there was any.
    pub(super) fn fulfil(&mut self, id: ObligationId, reason: ReasonCode) -> Option<Settled> {
        let index = id.index as usize;
        let obligation = self
            .slots
            .get_mut(index)
            .filter(|obligation| obligation.generation == id.generation)?;
        if reason.is_error() && !obligation.reason.is_error() {
            obligation.reason = reason;
        }
        obligation.remaining -= 1;
        if obligation.remaining > 0 && !mutant!(AckAfterFirstStored) {
            return None;
        }
        let obligation = self.slots.remove(index);
        Some(Settled {
            debt: obligation.debt,
            reason: obligation.reason,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }
}

/// A debt that is due.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) debt: Debt,
    pub(super) reason: ReasonCode,
}

/// What happens once a record is committed.
#[derive(Debug)]
pub(super) enum OnCommit {
    /// A connection is accepted: CONNACK.
    Accept(ConnectionKey),
    /// An answer of this shard to one of its own obligations.
    Fulfil(ObligationId),
    /// An answer to another shard.
    Stored {
        to: ShardId,
        obligation: ObligationId,
    },
    /// An acknowledgement on the wire: PUBREL, PUBCOMP.
    Acknowledge {
        connection: ConnectionKey,
        token: AckToken,
    },
    /// UNSUBACK.
    Unsubscribed {
        connection: ConnectionKey,
        answer: SubscribeAnswer,
        codes: Vec<ReasonCode>,
    },
    /// A received `QoS` 2 message is recorded: PUBREC, then it is routed.
    RouteInbound(super::publish::InboundRoute),
    /// The `QoS` 2 message in front of this one is routed: its turn.
    RouteBehind(super::publish::BehindRoute),
    /// The packet identifier of an outbound `QoS` 2 message is recorded: its PUBLISH may be sent.
    Prepared {
        connection: ConnectionKey,
        packet_id: PacketId,
    },
    /// A message of a group is recorded: it may be handed out.
    GroupMessage { group: GroupId, sequence: Position },
    /// A will is recorded as a message of its own: it is routed.
    RouteWill { key: InboundKey, message: Message },
}

/// What waits for the journal, in the order of the records.
pub(super) struct Commits {
    journal: bool,
    appended: u64,
    committed: u64,
    /// Bytes of each record that is not committed, and of all of them.
    costs: VecDeque<u32>,
    bytes: usize,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    record: u64,
    then: OnCommit,
}

impl Commits {
    pub(super) fn new(journal: bool) -> Self {
        Self {
            journal,
            appended: 0,
            committed: 0,
            costs: VecDeque::new(),
            bytes: 0,
            waiting: VecDeque::new(),
        }
    }

    /// Whether records are kept at all.
    pub(super) fn has_journal(&self) -> bool {
        self.journal
    }

    /// Counts a record that was appended, and so many bytes that are committed with it.
    pub(super) fn appended(&mut self, record: &Record, beside: usize) {
        self.appended += 1;
        // A record is made of packets, whose sizes fit in 32 bits; what does not counts as the largest.
        let cost = u32::try_from(record.cost() + beside).unwrap_or(u32::MAX);
        self.costs.push_back(cost);
        self.bytes += cost as usize;
    }

    /// Bytes of records that are not committed.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Runs `then` once everything appended so far is committed: `Some` if that is now.
    pub(super) fn after(&mut self, then: OnCommit) -> Option<OnCommit> {
        if self.committed == self.appended {
            return Some(then);
        }
        self.waiting.push_back(Waiting {
            record: self.appended,
            then,
        });
        None
    }

    /// Notes that `records` more of the appended records are committed, in order.
    pub(super) fn commit(&mut self, records: u64) {
        let records = records.min(self.appended - self.committed);
        self.committed += records;
        for _ in 0..records {
            self.bytes -= self.costs.pop_front().unwrap_or(0) as usize;
        }
    }

    /// The next thing whose record is committed.
    pub(super) fn pop_ready(&mut self) -> Option<OnCommit> {
        if self.waiting.front()?.record > self.committed {
            return None;
        }
        self.waiting.pop_front().map(|waiting| waiting.then)
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}

impl fmt::Debug for Obligations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            slots,
            next_generation,
        } = self;
        f.debug_struct("Obligations")
            .field("slots", &Entries(slots))
            .field("next_generation", next_generation)
            .finish()
    }
}

/// Counts records from the last one that is committed: how many there were before it decides nothing.
impl fmt::Debug for Commits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            journal,
            appended,
            committed,
            costs,
            bytes: _,
            waiting,
        } = self;
        let waiting = waiting
            .iter()
            .map(|waiting| (waiting.record.saturating_sub(*committed), &waiting.then));
        f.debug_struct("Commits")
            .field("journal", journal)
            .field("open", &(appended - committed))
            .field("costs", costs)
            .field("waiting", &waiting.collect::<Vec<_>>())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECTION: ConnectionKey = ConnectionKey {
        index: 0,
        generation: 0,
    };

    fn local(request: u64) -> Debt {
        Debt::Local {
            connection: CONNECTION,
            request,
        }
    }

    #[test]
    fn a_debt_is_due_with_the_last_answer_and_the_first_error() {
        let mut obligations = Obligations::default();
        let id = obligations.open(3, local(1));
        assert!(obligations.fulfil(id, ReasonCode::Success).is_none());
        assert!(obligations.fulfil(id, ReasonCode::QuotaExceeded).is_none());
        let settled = obligations
            .fulfil(id, ReasonCode::UnspecifiedError)
            .expect("the last answer");
        assert_eq!(settled.reason, ReasonCode::QuotaExceeded);
        assert_eq!(obligations.len(), 0);
    }

    #[test]
    fn an_answer_to_a_reused_slot_is_ignored() {
        let mut obligations = Obligations::default();
        let old = obligations.open(1, local(1));
        assert!(obligations.fulfil(old, ReasonCode::Success).is_some());
        let new = obligations.open(1, local(2));
        assert_eq!(old.index, new.index);
        assert!(obligations.fulfil(old, ReasonCode::Success).is_none());
        assert!(obligations.fulfil(new, ReasonCode::Success).is_some());
    }

    #[test]
    fn what_waits_for_a_record_runs_when_that_record_is_committed() {
        let mut commits = Commits::new(true);
        assert!(commits.after(OnCommit::Accept(CONNECTION)).is_some());
        commits.appended(&Record::Retained, 0);
        assert!(commits.after(OnCommit::Accept(CONNECTION)).is_none());
        commits.appended(&Record::Retained, 0);
        assert!(commits.after(OnCommit::Accept(CONNECTION)).is_none());
        assert!(commits.pop_ready().is_none());
        commits.commit(1);
        assert!(commits.pop_ready().is_some());
        assert!(commits.pop_ready().is_none());
        commits.commit(1);
        assert!(commits.pop_ready().is_some());
        assert_eq!(commits.len(), 0);
    }
}
