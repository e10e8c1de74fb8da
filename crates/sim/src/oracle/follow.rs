//! The readable life of one message.

use super::Oracle;
use super::message::Position;
use crate::payload::MessageKey;

/// A record of the message that is followed, until it is committed.
#[derive(Debug)]
pub(super) struct Followed {
    position: Position,
    what: &'static str,
}

impl Oracle {
    /// Says something about a message, if it is the one that is followed.
    pub(crate) fn tell(&self, key: MessageKey, text: impl FnOnce() -> String) {
        if self.follow == Some(key) {
            println!("{:>8} ms  {key} {}", self.now_ms, text());
        }
    }

    /// As [`tell`](Self::tell), of a message that may have no key.
    pub(crate) fn tell_of(&self, key: Option<MessageKey>, text: impl FnOnce() -> String) {
        if let Some(key) = key {
            self.tell(key, text);
        }
    }

    /// A record about a message was appended.
    pub(super) fn follow_record(
        &mut self,
        key: MessageKey,
        position: Position,
        what: &'static str,
    ) {
        if self.follow == Some(key) {
            let Position { shard, record, .. } = position;
            self.tell(key, || format!("{what}: record {record} of shard {shard}"));
            self.followed.push(Followed { position, what });
        }
    }

    /// A journal has committed more.
    pub(super) fn follow_commits(&mut self) {
        let Some(key) = self.follow else {
            return;
        };
        let (done, open) = std::mem::take(&mut self.followed)
            .into_iter()
            .partition(|followed| self.is_committed(followed.position));
        self.followed = open;
        let done: Vec<Followed> = done;
        for Followed { position, what } in done {
            let Position { shard, record, .. } = position;
            self.tell(key, || {
                format!("{what} is committed: record {record} of shard {shard}")
            });
        }
    }
}
