//! [`Outbox`]: what shards hand to the thread of the journal.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use whimbrel_broker_core::{JournalFigures, Load, Record, ShardId};

use crate::stats::JournalStats;

/// The queue in front of the journal's thread: one lock for each turn of a shard that has something for it.
///
/// It has no limit of its own. Records: what a shard has posted and does not know to be committed counts against the
/// core's byte window, and when that is used up the shard's publishers are read no more. Loads: one for each session.
#[derive(Debug)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    something: Condvar,
    stats: Mutex<JournalStats>,
}

#[derive(Debug)]
struct State {
    post: Post,
    /// Whether the journal's thread sleeps until it is told: it is told once.
    reader: Reader,
    stage: Stage,
}

/// What the journal's thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    Busy,
    /// Whatever comes wakes it.
    Waits,
    /// Only the end wakes it.
    Pauses,
}

/// Whether more may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// Every shard has ended: what is there is the last.
    Closed,
    /// The journal's thread has ended: nobody reads what is added.
    Abandoned,
}

/// What the journal's thread takes out at once.
#[derive(Debug)]
pub(crate) struct Post {
    /// Records of all shards, those of each in order.
    pub(crate) records: Vec<Record>,
    /// How many of them each shard has posted.
    pub(crate) counts: Box<[u64]>,
    /// Of each shard in order. Each was asked for behind the records that say that its messages are there, and before
    /// those that say they are done with.
    pub(crate) loads: Vec<(ShardId, Load)>,
    /// The index has changed a retained message without a record.
    pub(crate) retained_swept: bool,
}

/// What [`Outbox::take`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Something.
    Post,
    /// Nothing so far.
    Nothing,
    /// Nothing, and there will never be more.
    Closed,
}

/// How long [`Outbox::take`] waits for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    Not,
    For(Duration),
    ForEver,
}

impl Outbox {
    pub(crate) fn new(shards: usize) -> Self {
        Self {
            state: Mutex::new(State {
                post: Post::new(shards),
                reader: Reader::Busy,
                stage: Stage::Open,
            }),
            something: Condvar::new(),
            stats: Mutex::default(),
        }
    }

    /// Adds what a shard asked for in a turn: its records in order, and its loads behind them. Both are empty then.
    pub(crate) fn post(&self, from: ShardId, records: &mut Vec<Record>, loads: &mut Vec<Load>) {
        let mut state = self.lock();
        if state.stage == Stage::Abandoned {
            drop(state);
            records.clear();
            loads.clear();
            return;
        }
        let post = &mut state.post;
        post.counts[from.index()] += records.len() as u64;
        if post.records.is_empty() {
            std::mem::swap(&mut post.records, records);
        } else {
            post.records.append(records);
        }
        post.loads.extend(loads.drain(..).map(|load| (from, load)));
        self.wake(state, |reader| reader == Reader::Waits);
    }

    /// Says that the index's log of retained messages is longer, and that no record says so.
    pub(crate) fn note_swept(&self) {
        let mut state = self.lock();
        state.post.retained_swept = true;
        self.wake(state, |reader| reader == Reader::Waits);
    }

    /// Moves everything to `post`, which is empty.
    pub(crate) fn take(&self, post: &mut Post, wait: Wait) -> Taken {
        debug_assert!(post.is_empty());
        let deadline = match wait {
            Wait::For(patience) => Instant::now().checked_add(patience),
            Wait::Not | Wait::ForEver => None,
        };
        let mut state = self.lock();
        loop {
            if !state.post.is_empty() {
                std::mem::swap(&mut state.post, post);
                return Taken::Post;
            }
            if state.stage != Stage::Open {
                return Taken::Closed;
            }
            let now = Instant::now();
            let is_over = wait == Wait::Not || deadline.is_some_and(|deadline| deadline <= now);
            if is_over {
                return Taken::Nothing;
            }
            state = self.sleep(state, Reader::Waits, deadline.map(|due| due - now));
        }
    }

    /// Waits for as long as `patience` says, or until the shards have ended; says whether they have.
    pub(crate) fn pause(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            if state.stage != Stage::Open || deadline <= now {
                return state.stage != Stage::Open;
            }
            state = self.sleep(state, Reader::Pauses, Some(deadline - now));
        }
    }

    /// Notes that every shard has ended.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        if state.stage == Stage::Open {
            state.stage = Stage::Closed;
        }
        self.wake(state, |reader| reader != Reader::Busy);
    }

    /// Takes nothing in any more, because nobody reads it.
    pub(crate) fn abandon(&self) {
        let mut state = self.lock();
        state.stage = Stage::Abandoned;
        let shards = state.post.counts.len();
        let post = std::mem::replace(&mut state.post, Post::new(shards));
        drop(state);
        drop(post);
    }

    /// What the journal has done and how it is.
    pub(crate) fn stats(&self) -> JournalStats {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what [`stats`](Self::stats) says from now on.
    pub(crate) fn set_stats(&self, figures: JournalFigures, is_full: bool) {
        let mut stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        *stats = JournalStats { figures, is_full };
    }

    fn sleep<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        reader: Reader,
        patience: Option<Duration>,
    ) -> MutexGuard<'a, State> {
        state.reader = reader;
        let mut state = match patience {
            Some(patience) => {
                let woken = self.something.wait_timeout(state, patience);
                woken.unwrap_or_else(PoisonError::into_inner).0
            }
            None => {
                let woken = self.something.wait(state);
                woken.unwrap_or_else(PoisonError::into_inner)
            }
        };
        state.reader = Reader::Busy;
        state
    }

    /// Wakes the journal's thread, unless it is busy or what happened is nothing that would wake it.
    fn wake(&self, mut state: MutexGuard<'_, State>, is_woken: impl FnOnce(Reader) -> bool) {
        if is_woken(state.reader) {
            state.reader = Reader::Busy;
            drop(state);
            self.something.notify_one();
        }
    }

    // The lock is held for moves only; a panic in one leaves at worst a record behind, and ends the broker.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Post {
    pub(crate) fn new(shards: usize) -> Self {
        Self {
            records: Vec::new(),
            counts: vec![0; shards].into(),
            loads: Vec::new(),
            retained_swept: false,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.loads.is_empty() && !self.retained_swept
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn shard(index: usize) -> ShardId {
        ShardId::new(index).expect("a shard")
    }

    #[test]
    fn one_take_brings_what_all_shards_have_posted() {
        let outbox = Outbox::new(2);
        let mut post = Post::new(2);
        assert_eq!(outbox.take(&mut post, Wait::Not), Taken::Nothing);
        let mut records = vec![Record::Retained; 2];
        outbox.post(shard(1), &mut records, &mut Vec::new());
        assert!(records.is_empty());
        outbox.post(shard(0), &mut vec![Record::Retained], &mut Vec::new());
        assert_eq!(outbox.take(&mut post, Wait::ForEver), Taken::Post);
        assert_eq!(post.records.len(), 3);
        assert_eq!(*post.counts, [1, 2]);
        let mut next = Post::new(2);
        assert_eq!(outbox.take(&mut next, Wait::Not), Taken::Nothing);
    }

    #[test]
    fn a_post_wakes_who_waits_and_the_end_comes_behind_the_last_post() {
        let outbox = Arc::new(Outbox::new(1));
        let reader = std::thread::spawn({
            let outbox = Arc::clone(&outbox);
            move || {
                let mut records = 0;
                let mut post = Post::new(1);
                while outbox.take(&mut post, Wait::ForEver) == Taken::Post {
                    records += post.records.len();
                    post = Post::new(1);
                }
                records
            }
        });
        for _ in 0..100 {
            outbox.post(shard(0), &mut vec![Record::Retained], &mut Vec::new());
            std::thread::yield_now();
        }
        outbox.close();
        assert_eq!(reader.join().expect("no panic"), 100);
    }

    #[test]
    fn a_pause_ends_with_its_time_or_with_the_shards_and_not_for_a_post() {
        let outbox = Arc::new(Outbox::new(1));
        assert!(!outbox.pause(Duration::from_millis(1)));
        let reader = std::thread::spawn({
            let outbox = Arc::clone(&outbox);
            move || outbox.pause(Duration::from_secs(60))
        });
        outbox.post(shard(0), &mut vec![Record::Retained], &mut Vec::new());
        outbox.close();
        assert!(reader.join().expect("no panic"));
    }

    #[test]
    fn what_is_posted_to_nobody_is_dropped() {
        let outbox = Outbox::new(1);
        outbox.abandon();
        let mut records = vec![Record::Retained];
        outbox.post(shard(0), &mut records, &mut Vec::new());
        assert!(records.is_empty());
        let mut post = Post::new(1);
        assert_eq!(outbox.take(&mut post, Wait::ForEver), Taken::Closed);
    }
}
