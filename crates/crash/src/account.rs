//! [`Account`]: what a run has found.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What a broker can do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Violation {
    /// An acknowledged message did not come to a session that was to have it.
    Lost,
    /// A QoS 2 message came to a session again.
    Twice,
    /// A message came for the first time after a later one of its publisher, topic and QoS.
    OutOfOrder,
    /// A payload was not what was sent.
    Damaged,
    /// A message came with the wrong topic, QoS or flag, or to somebody who was not to have it.
    Misdelivered,
    /// A packet identifier that is still in use came with another message, or without DUP.
    PacketIdentifier,
    /// Session Present was not what it must be.
    SessionPresent,
    /// The retained message is older than the last acknowledged one, or none that was sent.
    Retained,
    /// A will came too early, too late, twice, not at all, or without reason.
    Will,
    /// A message came after it had expired, or its remaining time was wrong.
    Expiry,
    /// A subscription was lost, or came back after it had been removed.
    Subscription,
    /// The broker refused what it had no reason to refuse, or closed a connection.
    Refused,
    /// The broker did not start again, or panicked.
    Start,
    /// An acknowledgement left before what it promises was on the disk.
    AckBeforeSync,
    /// A limit of time or memory was exceeded.
    Limit,
}

/// Collects violations, from any thread.
#[derive(Debug)]
pub struct Account {
    start: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    round: u32,
    counts: BTreeMap<Violation, u64>,
    texts: Vec<String>,
}

/// A moment of a run: its round, and seconds since its beginning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Moment {
    pub(crate) round: u32,
    seconds: f32,
}

impl Account {
    /// Nothing found yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            inner: Mutex::new(Inner::default()),
        }
    }

    /// How many of each were found.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<Violation, u64> {
        self.lock().counts.clone()
    }

    /// Whether nothing was found.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.lock().counts.is_empty()
    }

    /// Every violation that was described: the first ten of each kind.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        self.lock().texts.clone()
    }

    pub(crate) fn found(&self, violation: Violation, text: impl fmt::Display) {
        let now = self.start.elapsed();
        let mut inner = self.lock();
        let round = inner.round;
        let count = inner.counts.entry(violation).or_default();
        *count += 1;
        if *count <= DESCRIBED_MAX {
            let line = format!(
                "VIOLATION {violation:?} (round {round}, {:.3} s): {text}",
                now.as_secs_f64()
            );
            eprintln!("{line}");
            inner.texts.push(line);
        }
    }

    /// A new round begins.
    pub(crate) fn begin_round(&self, round: u32) {
        self.lock().round = round;
    }

    pub(crate) fn now(&self) -> Moment {
        Moment {
            round: self.lock().round,
            seconds: self.start.elapsed().as_secs_f32(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Whoever panicked while it was held left counts that are whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Account {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "round {} at {:.3} s", self.round, self.seconds)
    }
}

/// Violations of one kind that are described; the others are counted only.
const DESCRIBED_MAX: u64 = 10;
