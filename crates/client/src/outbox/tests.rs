//! The outbox as a whole, on the faulty twin of the file system and on a real one.

mod crashing;
mod damage;
mod files;
mod harness;
mod model;
mod opening;
mod random;
mod room;
mod salvaging;

use std::path::Path;

use whimbrel_session::codec::bytes::Bytes;
use whimbrel_session::codec::topic::TopicNameBuf;
use whimbrel_session::codec::{MessageProperties, PacketId, QoS};

use super::faulty::FaultyDisk;
use super::{Accepted, Durability, Outbox, OutboxError, OutboxOptions, Record, Restored};

const CLIENT_ID: &str = "sensor";

fn path() -> &'static Path {
    Path::new("outbox")
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).expect("not 0")
}

fn options() -> OutboxOptions {
    OutboxOptions {
        bytes_max: 4_000,
        durability: Durability::Sync,
        compaction_floor_bytes: 500,
    }
}

fn open(disk: &FaultyDisk) -> Result<(Outbox, Restored), OutboxError> {
    open_with(disk, options())
}

fn open_with(disk: &FaultyDisk, options: OutboxOptions) -> Result<(Outbox, Restored), OutboxError> {
    Outbox::open_on(Box::new(disk.clone()), path(), CLIENT_ID, options, None)
}

fn message(sequence: u64, qos: QoS, payload: &[u8]) -> Accepted {
    Accepted {
        sequence,
        qos,
        retain: sequence.is_multiple_of(2),
        expires_at_unix_ms: sequence.is_multiple_of(3).then_some(sequence),
        topic: TopicNameBuf::try_from("a/b").expect("a topic"),
        properties: MessageProperties::new(),
        payload: Bytes::copy_from_slice(payload),
    }
}

fn accepted(sequence: u64, qos: QoS) -> Record {
    Record::Accepted(message(sequence, qos, b"payload"))
}

fn sent(sequence: u64, number: u16) -> Record {
    Record::Sent {
        sequence,
        packet_id: id(number),
    }
}
