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
    /// What is told to a broker that starts.
    told: Vec<Replayed>,
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
        Self::with(Vec::new())
    }

    /// One with something from before.
    pub(crate) fn with(told: Vec<Replayed>) -> (Self, Hand) {
        let state = State {
            told,
            ..State::default()
        };
        let inner = Arc::new(Inner {
            state: Mutex::new(state),
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

    /// What was committed, but for retained messages.
    pub(crate) fn records(&self) -> Vec<Record> {
        self.0.lock().records.clone()
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
    fn incarnation(&self) -> u32 {
        INCARNATION
    }

    fn replay(
        &mut self,
        apply: &mut dyn FnMut(Replayed) -> Result<(), JournalError>,
    ) -> Result<Replay, JournalError> {
        let mut state = self.0.lock();
        if state.mood == Mood::Breaks {
            return Err(JournalError::Damaged {
                detail: "on purpose".to_owned(),
            });
        }
        let told = std::mem::take(&mut state.told);
        drop(state);
        let items = told.len() as u64;
        for item in told {
            apply(item)?;
        }
        Ok(Replay {
            incarnation: INCARNATION,
            items,
        })
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), JournalError> {
        self.0.seen.send_modify(|seen| seen.begun += 1);
        let state = self.0.lock();
        let waited = self
            .0
            .changed
            .wait_timeout_while(state, PATIENCE, |state| state.mood == Mood::Holds);
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

pub(crate) const INCARNATION: u32 = 7;
