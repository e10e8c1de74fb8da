//! What the death of a process ends, and what it must not end.

use std::collections::{BTreeMap, VecDeque};

use whimbrel_broker_core::session::codec::QoS;

use super::Oracle;
use super::message::{Fate, Message};

impl Oracle {
    /// The process died. The next one has so many shards.
    ///
    /// Without a journal all that was promised by memory has ended; nothing of it may come back. With one, what was
    /// committed is there.
    pub(crate) fn crashed(&mut self, shards: usize) {
        let moment = self.moment();
        self.followed.clear();
        for connection in self.connections.values_mut() {
            connection.closed = true;
        }
        self.disk.full_since = None;
        self.arriving.clear();
        self.early.clear();
        self.take_changes_back(moment);
        for index in 0..self.sessions.len() {
            let journal = self.journal;
            let session = &mut self.sessions[index];
            session.connection = None;
            session.will_due_ms = None;
            session.expires_ms = None;
            // One that was recorded ends with its connection too, if it asks for that: at the start.
            if session.is_alive() && !(journal && session.queue.is_some()) {
                session.ended = Some(moment.order);
            }
            if !session.is_alive() {
                for subscription in &mut session.subscriptions {
                    subscription.ended.get_or_insert(moment.order);
                }
            }
        }
        let living = self.sessions.iter().filter(|session| session.is_alive());
        self.by_client = living
            .map(|session| (session.client, session.index))
            .collect();
        // The names of queues that are not stored are given again.
        self.queues
            .retain(|_, index| self.sessions[*index].is_alive());
        if self.journal {
            self.retained_restored(moment);
        } else {
            for (_, key) in std::mem::take(&mut self.retained) {
                let message = self.messages.get_mut(&key);
                if let Some(span) = message.and_then(|message| message.retained.last_mut()) {
                    span.until = Some(moment.order);
                }
            }
            self.deletions.clear();
        }
        self.forget_messages();
        self.life += 1;
        self.life_began = moment.order;
        self.appended = vec![0; shards];
        self.committed.push(vec![0; shards]);
        self.changes = vec![VecDeque::new(); shards];
        if let Some(key) = self.follow {
            self.tell(key, || "the process dies".to_owned());
        }
    }

    /// A new process has read back what is stored: every connection that there was counts as lost now.
    pub(crate) fn restarted(&mut self) {
        let moment = self.moment();
        let wall_ms = self.wall.at(moment.ms);
        for index in self.by_client.values().copied().collect::<Vec<_>>() {
            // What a start has counted and its journal has not kept, the next one counts anew.
            let parting = self.sessions[index].disconnected.filter(|parting| {
                let is_kept = || {
                    parting
                        .record
                        .is_some_and(|record| self.is_committed(record))
                };
                parting.by_start_of.is_none() || is_kept()
            });
            let life = self.life;
            let session = &mut self.sessions[index];
            let since_wall_ms = parting.map_or(wall_ms, |parting| parting.wall_ms);
            session.part(moment, since_wall_ms);
            if let (None, Some(counted)) = (parting, session.disconnected.as_mut()) {
                counted.by_start_of = Some(life);
            }
            let expiry_ms = i64::from(session.expiry_secs) * 1000;
            let due = |wait_ms: i64, least_ms: i64| {
                let wait_ms = (since_wall_ms + wait_ms - wall_ms).max(least_ms);
                moment.ms.saturating_add_signed(wait_ms)
            };
            session.expires_ms = session.expires_ms.map(|_| due(expiry_ms, 0));
            session.will_due_ms = session.will.map(|will| {
                let delayed = due(i64::from(will.delay_secs) * 1000, WILL_GRACE_MS);
                // The end of the session does not wait [MQTT-3.1.3-9].
                session
                    .expires_ms
                    .map_or(delayed, |expires| expires.min(delayed))
            });
            self.rejoined(index, moment.order);
            let committed = self.last_window(index);
            let session = &mut self.sessions[index];
            session
                .in_flight
                .retain(|id, sent| sent.qos == QoS::ExactlyOnce || committed.contains(id));
        }
    }

    /// Whether messages were to be refused at any time.
    pub(crate) fn has_been_full(&self) -> bool {
        self.disk.was_full
    }

    /// Topics of which it is not known what is retained: somebody published to them while the disk was full.
    pub(crate) fn retained_unknown(&self) -> usize {
        self.retained_unknown.len()
    }

    /// Whether it is known what is retained on a topic.
    pub(crate) fn knows_retained(&self, topic: &str) -> bool {
        !self.retained_unknown.contains(topic)
    }

    /// Shards were told whether messages are to be refused for want of room.
    pub(crate) fn disk_full(&mut self, is_full: bool) {
        let moment = self.moment();
        self.disk.full_since = is_full.then_some(moment.order);
        self.disk.was_full |= is_full;
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

    /// Notes what of each message is gone.
    fn forget_messages(&mut self) {
        let keys: Vec<_> = self.messages.keys().copied().collect();
        for key in keys {
            let message = &self.messages[&key];
            let Some(last) = message.ingress.last().copied() else {
                continue;
            };
            if last.order < self.life_began {
                continue;
            }
            let fate = match message.inbound_stored {
                Some(stored) if stored.position.life == self.life => {
                    if self.is_committed(stored.position) {
                        Fate::Kept
                    } else {
                        Fate::Undone
                    }
                }
                _ => Fate::Forgotten,
            };
            let Some(message) = self.messages.get_mut(&key) else {
                continue;
            };
            message.promised &= self.journal;
            if message.is_will && fate != Fate::Kept {
                // Nobody was told: that of a session which is stored is published again, any other is not kept.
                message.promised = false;
            }
            if let Some(last) = message.ingress.last_mut() {
                last.fate = fate;
            }
            for holders in message.group_copies.values_mut() {
                // At least once: who had it is not known for sure.
                holders.retain(|holder| holder.qos == QoS::ExactlyOnce);
            }
        }
    }

    /// Shared subscriptions are as they were last asked for.
    fn rejoined(&mut self, index: usize, order: super::Order) {
        let session = &mut self.sessions[index];
        let mut latest = BTreeMap::new();
        for (place, subscription) in session.subscriptions.iter().enumerate() {
            if let (Some(share), None) = (&subscription.share, subscription.ended) {
                latest.insert((share.clone(), subscription.filter.clone()), place);
            }
        }
        for (place, subscription) in session.subscriptions.iter_mut().enumerate() {
            let (Some(share), None) = (&subscription.share, subscription.ended) else {
                continue;
            };
            if latest.get(&(share.clone(), subscription.filter.clone())) == Some(&place) {
                subscription.joined.get_or_insert(order);
            } else {
                let made = subscription.made;
                subscription.end(order, made);
            }
        }
    }

    /// The packet identifiers that the journal has of a session.
    fn last_window(&self, index: usize) -> Vec<u16> {
        let windows = self.sessions[index].windows.iter().rev();
        let mut committed = windows.filter(|window| self.is_committed(window.position));
        committed
            .next()
            .map(|window| window.ids.clone())
            .unwrap_or_default()
    }
}

/// Wills wait at least this long after a start.
const WILL_GRACE_MS: i64 = 5_000;
