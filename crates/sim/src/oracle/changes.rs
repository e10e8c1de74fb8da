//! What became of sessions and is not committed: a crash takes it back.

use super::message::{Position, Span};
use super::session::Standing;
use super::{Moment, Oracle};
use crate::payload;
use whimbrel_broker_core::RetainedChange;

/// A session as it was before a turn whose records are not committed.
#[derive(Clone, Debug)]
pub(super) struct Change {
    post: Position,
    session: usize,
    before: Standing,
}

impl Oracle {
    /// A session is about to become another than it is.
    pub(super) fn change(&mut self, session: usize) {
        if self.journal {
            let change = Change {
                post: self.post,
                session,
                before: self.sessions[session].standing(),
            };
            self.changes[self.post.shard].push_back(change);
        }
    }

    /// What is committed is not taken back.
    pub(super) fn forget_changes(&mut self) {
        for shard in 0..self.changes.len() {
            while let Some(change) = self.changes[shard].front()
                && self.is_committed(change.post)
            {
                self.changes[shard].pop_front();
            }
        }
    }

    /// Takes back what is not committed of this life, which is over.
    pub(super) fn take_changes_back(&mut self, moment: Moment) {
        for changes in std::mem::take(&mut self.changes) {
            for change in changes.into_iter().rev() {
                if !self.is_committed(change.post) {
                    self.sessions[change.session].stand(change.before);
                }
            }
        }
        for index in 0..self.sessions.len() {
            for place in 0..self.sessions[index].subscriptions.len() {
                let subscription = &self.sessions[index].subscriptions[place];
                let was_made = self.is_committed(subscription.made);
                let ends = subscription.unmade;
                let is_reopened = ends
                    .is_some_and(|unmade| unmade.life == self.life && !self.is_committed(unmade));
                let subscription = &mut self.sessions[index].subscriptions[place];
                if !was_made {
                    subscription.ended.get_or_insert(moment.order);
                } else if is_reopened {
                    subscription.ended = None;
                    subscription.unmade = None;
                }
            }
        }
    }

    /// The journal has these changes of retained messages, in its own order: it must be that of the broker.
    pub(super) fn retained_committed(&mut self, changes: &[RetainedChange]) {
        for change in changes {
            let (topic, key) = match change {
                RetainedChange::Set(message) => {
                    let key = payload::decode(&message.payload());
                    if let Some(found) = key.and_then(|key| self.messages.get_mut(&key)) {
                        found.is_retained_stored = true;
                    }
                    (message.topic().as_str().to_owned(), key)
                }
                RetainedChange::Deleted { topic } => (topic.as_str().to_owned(), None),
            };
            self.retained_stored.insert(topic, key);
        }
        for change in changes {
            let topic = match change {
                RetainedChange::Set(message) => message.topic().as_str(),
                RetainedChange::Deleted { topic } => topic.as_str(),
            };
            let stored = self.retained_stored.get(topic).copied().flatten();
            let now = self.retained.get(topic).copied();
            let has_expired = now
                .is_some_and(|key| self.messages[&key].may_have_expired(&self.wall, self.now_ms));
            let agrees = stored == now || stored.is_none() && has_expired;
            if !agrees && !self.retained_unknown.contains(topic) {
                let detail = format!("{topic}: {stored:?}, the broker has {now:?}");
                self.fail("the journal has another retained message", detail);
            }
        }
    }

    /// What was retained in memory is what the journal has.
    pub(super) fn retained_restored(&mut self, moment: Moment) {
        let stored = self.retained_stored.clone();
        let before = std::mem::take(&mut self.retained);
        for (topic, &key) in &before {
            if stored.get(topic).copied().flatten() != Some(key) {
                let message = self.messages.get_mut(&key);
                if let Some(span) = message.and_then(|message| message.retained.last_mut()) {
                    span.until.get_or_insert(moment.order);
                }
            }
        }
        self.retained_unknown.clear();
        for (topic, key) in stored {
            let Some(key) = key else {
                continue;
            };
            if before.get(&topic) != Some(&key)
                && let Some(message) = self.messages.get_mut(&key)
            {
                message.retained.push(Span {
                    from: moment.order,
                    until: None,
                });
            }
            self.retained.insert(topic, key);
        }
    }
}
