//! What the journal was given, and what it has.

use whimbrel_broker_core::Record;

use super::Oracle;
use super::message::Position;
use super::session::Connection;
use crate::client::client_number;
use crate::payload::{self, MessageKey};

impl Oracle {
    /// A shard appended a record.
    pub(crate) fn recorded(&mut self, shard: usize, record: &Record) {
        self.appended[shard] += 1;
        let position = Position {
            shard,
            record: self.appended[shard],
        };
        if !self.journal {
            self.fail("a record without a journal", format!("{record:?}"));
        }
        match record {
            Record::SessionOpened { client_id } => {
                self.connection_record(client_id, |connection| {
                    connection.opened_record = Some(position.record);
                });
            }
            Record::Subscribed { client_id } => {
                self.connection_record(client_id, |connection| {
                    connection.subscribed_records.push_back(position.record);
                });
            }
            Record::Unsubscribed { client_id } => {
                self.connection_record(client_id, |connection| {
                    connection.unsubscribed_records.push_back(position.record);
                });
            }
            Record::Enqueued { message, .. } => {
                self.message_record(&message.payload(), |found| {
                    // The first one is what the first acknowledgement waits for.
                    found
                        .enqueued
                        .entry(position.shard)
                        .or_insert(position.record);
                });
            }
            Record::InboundStored {
                client_id, message, ..
            } => {
                let session = self.session_of_id(client_id);
                self.message_record(&message.payload(), |found| {
                    found.inbound_stored = session.map(|session| (position, session));
                });
            }
            Record::InboundReleased {
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
            }
            Record::OutboundReceived {
                client_id,
                packet_id,
            } => {
                if let Some(session) = self.session_of_id(client_id) {
                    self.sessions[session]
                        .received_records
                        .insert(*packet_id, position.record);
                }
            }
            Record::Retained { message } => {
                self.message_record(&message.payload(), |found| {
                    found.retained_stored.get_or_insert(position);
                });
            }
            _ => {}
        }
    }

    /// A shard's journal has committed that many more records.
    pub(crate) fn committed(&mut self, shard: usize, records: u64) {
        self.committed[shard] += records;
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

    fn message_record(&mut self, payload: &[u8], note: impl FnOnce(&mut super::Message)) {
        let key: Option<MessageKey> = payload::decode(payload);
        if let Some(message) = key.and_then(|key| self.messages.get_mut(&key)) {
            note(message);
        }
    }
}
