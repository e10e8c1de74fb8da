//! [`Standing`]: what a client may expect of its session at the broker.

use std::time::{Duration, Instant};

/// Whether the broker must have the session of a client.
///
/// A client knows that the broker has it from the moment of a CONNACK on, until it has been away longer than the
/// session's expiry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    known: bool,
    /// `None` is for ever.
    expiry: Option<Duration>,
    /// The last moment at which the client was certainly connected.
    last_seen: Instant,
    /// The first moment since then at which it was certainly not.
    gone: Instant,
}

/// What Session Present must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    Present,
    Absent,
    /// A CONNECT was not answered, or the expiry is too near to say.
    Open,
}

impl Standing {
    pub(crate) fn new(expiry: Option<Duration>) -> Self {
        let now = Instant::now();
        Self {
            known: false,
            expiry,
            last_seen: now,
            gone: now,
        }
    }

    /// CONNACK has come.
    pub(crate) fn connected(&mut self) {
        self.known = true;
        self.seen();
    }

    /// The connection is there.
    pub(crate) fn seen(&mut self) {
        self.last_seen = Instant::now();
        self.gone = self.last_seen;
    }

    /// The connection is gone, or the broker has started again, which counts as its loss too.
    pub(crate) fn gone(&mut self) {
        self.gone = Instant::now();
    }

    /// What the next CONNACK of this client has to say.
    pub(crate) fn presence(&self) -> Presence {
        if !self.known {
            return Presence::Open;
        }
        let Some(expiry) = self.expiry else {
            return Presence::Present;
        };
        if self.last_seen.elapsed() + TOLERANCE < expiry {
            return Presence::Present;
        }
        if self.gone.elapsed() > expiry + TOLERANCE {
            return Presence::Absent;
        }
        Presence::Open
    }
}

/// Expiry is in whole seconds, and a connection's end takes its time to be seen.
const TOLERANCE: Duration = Duration::from_millis(2_500);
