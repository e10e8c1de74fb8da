//! Into a session's queue, within its bounds; and what its policy drops or refuses.

use whimbrel_session::codec::QoS;
use whimbrel_session::mutant;

use super::Shard;
use crate::backlog::Spilled;
use crate::effects::GroupOutcome;
use crate::queue::{Outgoing, SessionQueue};
use crate::{DropCause, Event, QueueFull, SessionKey};

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
    pub(super) fn report_drop(&mut self, key: SessionKey, cause: DropCause) {
        if let Some(session) = self.session_mut(key)
            && !session.drop_reported
        {
            session.drop_reported = true;
            let client_id = session.client_id();
            self.observe(Event::Dropping { client_id, cause });
        }
    }

    pub(super) fn uncount_queued(&mut self, outgoing: &Outgoing) {
        self.queued_messages -= 1;
        self.queued_bytes -= SessionQueue::cost(&outgoing.message);
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
}
