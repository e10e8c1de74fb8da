//! What the journal was given, and what it has.

use whimbrel_broker_core::session::Stage;
use whimbrel_broker_core::session::codec::QoS;
use whimbrel_broker_core::{Message, QueueId, Record, RetainedChange, WindowRecord};

use super::Oracle;
use super::message::{InboundRecord, Position};
use super::session::{Connection, Exchange, ExchangeKind, WindowSeen};
use crate::client::client_number;
use crate::payload;

impl Oracle {
    /// A shard's turn is over: it has so many records, which stand or fall together.
    pub(crate) fn begin_post(&mut self, shard: usize, records: usize) {
        self.post = Position {
            life: self.life,
            shard,
            record: self.appended[shard] + records as u64,
        };
    }

    /// A shard appended a record.
    pub(crate) fn recorded(&mut self, shard: usize, record: &Record) {
        self.appended[shard] += 1;
        let position = Position {
            life: self.life,
            shard,
            record: self.appended[shard],
        };
        if !self.journal {
            self.fail("a record without a journal", format!("{record:?}"));
        }
        match record {
            Record::Session(record) => {
                let known = self.queues.get(&record.session).copied();
                let session = known.or_else(|| self.session_of_id(&record.client_id));
                let Some(session) = session else {
                    return;
                };
                self.queues.insert(record.session, session);
                self.sessions[session].queue = Some(record.session);
                let life = self.life;
                if record.disconnected_at.is_some()
                    && let Some(parting) = self.sessions[session].disconnected.as_mut()
                    && parting.by_start_of == Some(life)
                {
                    parting.record.get_or_insert(position);
                }
                if record.disconnected_at.is_none() {
                    self.connection_record(record.session, |connection| {
                        connection.opened_record.get_or_insert(position);
                    });
                }
            }
            Record::Subscribed { session, .. } => {
                self.connection_record(*session, |connection| {
                    connection.subscribed_records.push_back(position);
                });
            }
            Record::Unsubscribed { session, .. } => {
                self.connection_record(*session, |connection| {
                    connection.unsubscribed_records.push_back(position);
                });
            }
            Record::Enqueued {
                message, holders, ..
            } => {
                let queues: Vec<QueueId> = holders.iter().map(|holder| holder.queue).collect();
                let stale: Vec<QueueId> = self.stale_records(message, &queues);
                self.message_record(message, position, FOR_SUBSCRIBERS, |found| {
                    for queue in queues {
                        if stale.contains(&queue) {
                            found.enqueued.insert(queue, position);
                        }
                        // The first one is what the first acknowledgement waits for.
                        found.enqueued.entry(queue).or_insert(position);
                    }
                });
            }
            Record::InboundStored { message, .. } => {
                let id = message.id();
                self.message_record(message, position, "stored as received", |found| {
                    found.inbound_stored = found.ingress.last().map(|ingress| InboundRecord {
                        position,
                        id,
                        session: ingress.session,
                    });
                    found.inbound_released = None;
                });
            }
            Record::InboundReleased { message, .. } => {
                let Some(&key) = self.identities.get(message) else {
                    return;
                };
                if let Some(found) = self.messages.get_mut(&key)
                    && found
                        .inbound_stored
                        .is_some_and(|stored| stored.id == *message)
                {
                    found.inbound_released = Some(position);
                }
                self.follow_record(key, position, "released");
            }
            Record::Window(record) => self.window_record(record, position),
            _ => {}
        }
    }

    /// The journal has committed so many more records of each shard, and with them the log of retained messages.
    pub(crate) fn committed(&mut self, counts: &[u64], retained: &[RetainedChange]) {
        for (committed, count) in self.committed[self.life].iter_mut().zip(counts) {
            *committed += count;
        }
        self.retained_committed(retained);
        self.forget_changes();
        self.follow_commits();
    }

    pub(super) fn is_committed(&self, position: Position) -> bool {
        self.committed[position.life]
            .get(position.shard)
            .is_some_and(|&committed| position.record <= committed)
    }

    /// Whether a record was lost with the process that made it.
    pub(super) fn is_lost(&self, position: Position) -> bool {
        position.life < self.life && !self.is_committed(position)
    }

    fn session_of_id(&self, client_id: &str) -> Option<usize> {
        self.by_client.get(&client_number(client_id)).copied()
    }

    fn connection_record(&mut self, queue: QueueId, note: impl FnOnce(&mut Connection)) {
        let session = self.queues.get(&queue).copied();
        let connection = session
            .and_then(|session| self.sessions[session].connection)
            .and_then(|connection| self.connections.get_mut(&connection));
        if let Some(connection) = connection {
            note(connection);
        }
    }

    /// Queues for which an earlier record of the message is lost.
    fn stale_records(&self, message: &Message, queues: &[QueueId]) -> Vec<QueueId> {
        let found = payload::decode(&message.payload()).and_then(|key| self.messages.get(&key));
        let is_stale = |queue: &QueueId| {
            found
                .and_then(|found| found.enqueued.get(queue))
                .is_some_and(|&position| self.is_lost(position))
        };
        queues.iter().copied().filter(is_stale).collect()
    }

    fn message_record(
        &mut self,
        message: &Message,
        position: Position,
        what: &'static str,
        note: impl FnOnce(&mut super::Message),
    ) {
        let Some(key) = payload::decode(&message.payload()) else {
            return;
        };
        let named = *self.identities.entry(message.id()).or_insert(key);
        if named != key {
            let detail = format!("{:?} is {named} and {key}", message.id());
            self.fail("two messages with one identity", detail);
        }
        let full_since = self.disk.full_since;
        let mut is_refusable = false;
        if let Some(message) = self.messages.get_mut(&key) {
            // Retained ones are recorded for new subscribers too; and what nobody stored when it came may find somebody
            // who does when it arrives at another shard.
            let is_fresh = !message.is_will && !message.retain && message.qos > QoS::AtMostOnce;
            is_refusable = is_fresh
                && full_since.is_some()
                && message.first_ingress() > full_since
                && message.ingress.last().is_some_and(|ingress| {
                    let shard = self.sessions[ingress.session].shard;
                    ingress.at_ms == self.now_ms && shard == position.shard
                });
            note(message);
        }
        if is_refusable && what == FOR_SUBSCRIBERS {
            self.fail("stored though there is no room", format!("{key}"));
        }
        self.follow_record(key, position, what);
    }

    /// The open exchanges of a session: since which record each of them is known in its present stage.
    fn window_record(&mut self, record: &WindowRecord, position: Position) {
        let Some(&session) = self.queues.get(&record.session) else {
            return;
        };
        let exchanges = record.exchanges.iter().map(|exchange| {
            let kind = match exchange.stage {
                Stage::AwaitPubAck => ExchangeKind::PubAck,
                Stage::AwaitPubRec => ExchangeKind::PubRec,
                Stage::AwaitPubComp { .. } => ExchangeKind::PubComp,
            };
            (exchange.packet_id.get(), kind, exchange.position)
        });
        let mut ids = Vec::with_capacity(record.exchanges.len());
        for (id, kind, place) in exchanges {
            if place.is_some() {
                ids.push(id);
            }
            let key = (id, kind);
            let known = self.sessions[session].exchanges.get(&key);
            let is_same =
                known.is_some_and(|known| known.place == place && !self.is_lost(known.since));
            if !is_same {
                let since = position;
                let exchange = Exchange { place, since };
                self.sessions[session].exchanges.insert(key, exchange);
            }
        }
        let windows = &mut self.sessions[session].windows;
        windows.push_back(WindowSeen { position, ids });
        self.forget_windows(session);
    }

    /// Only the last window that is committed, and those after it, say what a crash leaves.
    fn forget_windows(&mut self, session: usize) {
        while let Some(second) = self.sessions[session].windows.get(1)
            && self.is_committed(second.position)
        {
            self.sessions[session].windows.pop_front();
        }
    }
}

/// What is said of the record that puts a message into queues.
const FOR_SUBSCRIBERS: &str = "stored for subscribers";
