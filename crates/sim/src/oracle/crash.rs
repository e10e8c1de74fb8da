//! What the death of a process ends.

use super::Oracle;
use super::message::Message;

impl Oracle {
    /// The process died, and its disks lost so many records each. All that was promised by memory
    /// has ended; nothing of it may come back.
    pub(crate) fn crashed(&mut self, lost: &[u64]) {
        let moment = self.moment();
        for (shard, &lost) in lost.iter().enumerate() {
            let open = self.appended[shard] - self.committed[shard];
            if lost != open {
                let detail = format!("shard {shard}: {lost}, {open} were not committed");
                self.fail("the disk lost other records than the unsynced ones", detail);
            }
        }
        self.appended.fill(0);
        self.committed.fill(0);
        self.followed.clear();
        for (_, index) in std::mem::take(&mut self.by_client) {
            let session = &mut self.sessions[index];
            session.ended = Some(moment.order);
            session.connection = None;
            for subscription in &mut session.subscriptions {
                subscription.ended.get_or_insert(moment.order);
            }
        }
        for connection in self.connections.values_mut() {
            connection.closed = true;
        }
        self.arriving.clear();
        self.early.clear();
        for (_, key) in std::mem::take(&mut self.retained) {
            let message = self.messages.get_mut(&key);
            if let Some(span) = message.and_then(|message| message.retained.last_mut()) {
                span.until = Some(moment.order);
            }
        }
        self.deletions.clear();
        for message in self.messages.values_mut() {
            message.forget_records();
            message.promised = false;
        }
        self.life_began = moment.order;
        if let Some(key) = self.follow {
            self.tell(key, || "the process dies".to_owned());
        }
    }

    /// The wall clock is ahead of ticks by `offset_ms` from now on.
    pub(crate) fn clock_set(&mut self, offset_ms: i64) {
        self.wall.set(self.now_ms, offset_ms);
    }

    /// Whether the broker took the message before its process died, and not since.
    pub(super) fn is_of_earlier_life(&self, message: &Message) -> bool {
        message
            .ingress
            .last()
            .is_some_and(|ingress| ingress.order < self.life_began)
    }
}
