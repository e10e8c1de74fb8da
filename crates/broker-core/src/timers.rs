//! The timers of one shard: an ordered set, so that the next one is known and any can be removed.

use std::collections::BTreeSet;

use whimbrel_session::Tick;

use crate::{ConnectionKey, SessionKey};

/// What a timer of a shard is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Keep alive of a connection, or a new authentication on it; re-armed lazily, one at the most.
    Connection(ConnectionKey),
    /// The Will Delay Interval of a disconnected session has run out.
    Will(SessionKey),
    /// The Session Expiry Interval of a disconnected session has run out.
    SessionExpiry(SessionKey),
}

/// At most one timer per kind and object: the set is bounded by connections and sessions.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_deadline: BTreeSet<(Tick, Timer)>,
}

impl Timers {
    pub(crate) fn arm(&mut self, deadline: Tick, timer: Timer) {
        self.by_deadline.insert((deadline, timer));
    }

    pub(crate) fn disarm(&mut self, deadline: Tick, timer: Timer) {
        self.by_deadline.remove(&(deadline, timer));
    }

    pub(crate) fn next_deadline(&self) -> Option<Tick> {
        self.by_deadline.first().map(|&(deadline, _)| deadline)
    }

    /// Takes a timer that is due, the earliest first.
    pub(crate) fn pop_due(&mut self, now: Tick) -> Option<Timer> {
        if self.next_deadline()? > now {
            return None;
        }
        self.by_deadline.pop_first().map(|(_, timer)| timer)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_deadline.len()
    }
}
