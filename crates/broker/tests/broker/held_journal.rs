//! A journal in memory that does what a test tells it to.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use tokio::sync::watch;
use whimbrel_broker::core::{
    Batch, Maintenance, Position, QueueId, Record, Replay, Replayed, RetainedChange, StoredMessage,
};
use whimbrel_broker::{Journal, JournalError, JournalFigures};

use crate::support::{PATIENCE, within};

/// The journal, to be given to a broker.
pub(crate) struct HeldJournal(Arc<Inner>);

/// The test's hand on it.
#[derive(Clone)]
pub(crate) struct Hand(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    changed: Condvar,
    seen: watch::Sender<Seen>,
}

#[derive(Default)]
struct State {
    mood: Mood,
    is_full: bool,
    records: Vec<Record>,
    retained: Vec<RetainedChange>,
}

/// What becomes of commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mood {
    #[default]
    Commits,
    /// They wait until it changes its mind.
    Holds,
    /// No room.
    Full,
    /// The disk says that it failed.
    Breaks,
    Panics,
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Commits begun, those that failed included.
    pub(crate) begun: u64,
    pub(crate) committed: u64,
    pub(crate) records: u64,
    /// The broker has let go of the journal.
    pub(crate) is_dropped: bool,
}

impl HeldJournal {
    pub(crate) fn new() -> (Self, Hand) {
        let inner = Arc::new(Inner {
            state: Mutex::default(),
            changed: Condvar::new(),
            seen: watch::Sender::new(Seen::default()),
        });
        (Self(Arc::clone(&inner)), Hand(inner))
    }
}

impl Hand {
    pub(crate) fn set(&self, mood: Mood) {
        self.0.lock().mood = mood;
        self.0.changed.notify_all();
    }

    pub(crate) fn set_full(&self, is_full: bool) {
        self.0.lock().is_full = is_full;
    }

    pub(crate) fn seen(&self) -> Seen {
        *self.0.seen.borrow()
    }

    /// Waits until what happened is as `wanted`.
    pub(crate) async fn until(&self, what: &str, wanted: impl FnMut(&Seen) -> bool) -> Seen {
        let mut seen = self.0.seen.subscribe();
        let reached = within(what, seen.wait_for(wanted)).await;
        *reached.expect("the hand has the sender")
    }

    /// Whether a record was committed that `wanted` knows.
    pub(crate) fn has(&self, wanted: impl FnMut(&Record) -> bool) -> bool {
        self.0.lock().records.iter().any(wanted)
    }

    /// What was committed of retained messages.
    pub(crate) fn retained(&self) -> Vec<RetainedChange> {
        self.0.lock().retained.clone()
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }
}

impl Journal for HeldJournal {
    fn replay(
        &mut self,
        _: &mut dyn FnMut(Replayed) -> Result<(), JournalError>,
    ) -> Result<Replay, JournalError> {
        match self.0.lock().mood {
            Mood::Breaks => Err(JournalError::Damaged {
                detail: "on purpose".to_owned(),
            }),
            _ => Ok(Replay {
                incarnation: 1,
                items: 0,
            }),
        }
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), JournalError> {
        self.0.seen.send_modify(|seen| seen.begun += 1);
        let state = self.0.lock();
        let waited = self.0.changed.wait_timeout_while(state, PATIENCE, |state| {
            state.mood == Mood::Holds
        });
        let (mut state, _) = waited.expect("nobody panics with it");
        match state.mood {
            Mood::Commits => {}
            Mood::Holds => panic!("a test held a commit for too long"),
            Mood::Full => return Err(JournalError::Full),
            Mood::Breaks => return Err(JournalError::Failed("the disk failed on purpose".into())),
            Mood::Panics => {
                drop(state);
                panic!("on purpose")
            }
        }
        state.records.extend(batch.records.iter().cloned());
        state.retained.extend(batch.retained.iter().cloned());
        drop(state);
        self.0.seen.send_modify(|seen| {
            seen.committed += 1;
            seen.records += batch.records.len() as u64;
        });
        Ok(())
    }

    fn read(&mut self, _: QueueId, _: &[Position]) -> Result<Vec<StoredMessage>, JournalError> {
        Err(JournalError::Damaged {
            detail: "no queue here is larger than its window".to_owned(),
        })
    }

    fn maintain(&mut self) -> Result<Maintenance, JournalError> {
        Ok(Maintenance::Done)
    }

    fn is_full(&mut self) -> bool {
        self.0.lock().is_full
    }

    fn figures(&self) -> JournalFigures {
        let Seen {
            committed, records, ..
        } = *self.0.seen.borrow();
        let mut figures = JournalFigures::default();
        figures.commits = committed;
        figures.records = records;
        figures
    }
}

impl Drop for HeldJournal {
    fn drop(&mut self) {
        self.0.seen.send_modify(|seen| seen.is_dropped = true);
    }
}
