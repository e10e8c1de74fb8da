//! What the journal was given, and what it has.

use whimbrel_broker_core::{Message, OldRecord};

use super::Oracle;
use super::message::Position;
use super::session::Connection;
use crate::client::client_number;
use crate::payload;

impl Oracle {
    /// A shard appended a record.
    pub(crate) fn recorded(&mut self, shard: usize, record: &OldRecord) {
        self.appended[shard] += 1;
        let position = Position {
            shard,
            record: self.appended[shard],
        };
        if !self.journal {
            self.fail("a record without a journal", format!("{record:?}"));
        }
        match record {
            OldRecord::SessionOpened { client_id } => {
                self.connection_record(client_id, |connection| {
                    connection.opened_record = Some(position.record);
                });
            }
            OldRecord::Subscribed { client_id } => {
                self.connection_record(client_id, |connection| {
                    connection.subscribed_records.push_back(position.record);
                });
            }
            OldRecord::Unsubscribed { client_id } => {
                self.connection_record(client_id, |connection| {
                    connection.unsubscribed_records.push_back(position.record);
                });
            }
            OldRecord::Enqueued { message, .. } => {
                self.message_record(message, position, "stored for subscribers", |found| {
                    // The first one is what the first acknowledgement waits for.
                    found
                        .enqueued
                        .entry(position.shard)
                        .or_insert(position.record);
                });
            }
            OldRecord::InboundStored {
                client_id, message, ..
            } => {
                let session = self.session_of_id(client_id);
                self.message_record(message, position, "stored as received", |found| {
                    found.inbound_stored = session.map(|session| (position, session));
                });
            }
            OldRecord::InboundReleased {
                client_id,
                packet_id,
                ..
            } => {
                let key = self
                    .session_of_id(client_id)
                    .and_then(|session| self.sessions[session].inbound.get(packet_id).copied());
                if let Some(message) = key.and_then(|key| self.messages.get_mut(&key)) {
                    message.inbound_released = Some(position);
                }
                if let Some(key) = key {
                    self.follow_record(key, position, "released");
                }
            }
            OldRecord::OutboundReceived {
                client_id,
                packet_id,
            } => {
                if let Some(session) = self.session_of_id(client_id) {
                    self.sessions[session]
                        .received_records
                        .insert(*packet_id, position.record);
                }
            }
            OldRecord::Retained { message } => {
                self.message_record(message, position, "stored as retained", |found| {
                    found.retained_stored.get_or_insert(position);
                });
            }
            _ => {}
        }
    }

    /// A shard's journal has committed that many more records.
    pub(crate) fn committed(&mut self, shard: usize, records: u64) {
        self.committed[shard] += records;
        self.follow_commits();
    }

    pub(super) fn is_committed(&self, position: Position) -> bool {
        position.record <= self.committed[position.shard]
    }

    fn session_of_id(&self, client_id: &str) -> Option<usize> {
        self.by_client.get(&client_number(client_id)).copied()
    }

    fn connection_record(&mut self, client_id: &str, note: impl FnOnce(&mut Connection)) {
        let connection = self
            .session_of_id(client_id)
            .and_then(|session| self.sessions[session].connection)
            .and_then(|connection| self.connections.get_mut(&connection));
        if let Some(connection) = connection {
            note(connection);
        }
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
        if let Some(message) = self.messages.get_mut(&key) {
            note(message);
        }
        self.follow_record(key, position, what);
    }
}
