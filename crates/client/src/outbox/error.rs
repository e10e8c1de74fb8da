//! What can go wrong with an outbox.

use std::io;
use std::path::{Path, PathBuf};

use whimbrel_session::codec::PacketId;

/// Why an outbox can't be opened, salvaged, synced or compacted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutboxError {
    /// The file system says no.
    #[error(
        "can't {doing} {path}: make sure that the directory is there, that this user may write to it, and that \
         the disk has room"
    )]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Another process, or another client of this one, has it open.
    #[error("{path} is used by another client: give each client an outbox of its own")]
    Locked {
        /// The outbox.
        path: PathBuf,
    },
    /// The file is none of ours.
    #[error("{path} is not an outbox: choose another path, or move the file away")]
    NotAnOutbox {
        /// The file.
        path: PathBuf,
    },
    /// A later release wrote it.
    #[error(
        "{path} has version {version} of the format, this release knows {known}: use a newer release"
    )]
    NewerVersion {
        /// The outbox.
        path: PathBuf,
        /// The version of its format.
        version: u16,
        /// The newest that is known.
        known: u16,
    },
    /// It belongs to the session of another client id.
    #[error(
        "{path} belongs to client id {found:?}, not to {wanted:?}: choose another path, or that client id"
    )]
    OtherClientId {
        /// The outbox.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Who asked.
        wanted: String,
    },
    /// A client id without characters is one that the server chooses anew each time, and 65,535 bytes is the most that
    /// the protocol takes.
    #[error("an outbox needs a client id of 1 to 65,535 bytes")]
    ClientIdLength,
    /// Something that was written is no longer there.
    #[error(
        "{path} is damaged at byte {at}: {damage}; `Outbox::salvage` keeps what is readable, says what it left out, \
         and leaves a copy of the damaged file"
    )]
    Damaged {
        /// The outbox.
        path: PathBuf,
        /// Where the damage begins.
        at: u64,
        /// What is wrong there.
        damage: Damage,
    },
    /// A copy of a damaged outbox is in the way of another one.
    #[error("{path} is there already, from an earlier salvage: move it away")]
    SalvagedBefore {
        /// The copy.
        path: PathBuf,
    },
    /// An earlier error has left it unknown what is in the file.
    #[error("the outbox is not to be trusted after an earlier error: open it again")]
    Poisoned,
}

/// What is wrong with the bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// The header can't be read.
    #[error("the header is not what was written")]
    Header,
    /// The checksum does not fit, and valid records follow that were written later.
    #[error("bytes are not what was written, and valid records follow")]
    Checksum,
    /// The checksum fits, and still it is no record of this version.
    #[error("no record of this version")]
    Record,
    /// A record does not fit those before it.
    #[error("{0}")]
    Contradiction(#[from] Contradiction),
}

/// A record that does not fit what was recorded before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Contradiction {
    /// Messages of QoS 0 are not kept.
    #[error("message {0} has QoS 0, which is not kept")]
    QosNotKept(u64),
    /// Sequences only grow.
    #[error("sequence {0} was given before, or is the last number there is")]
    SequenceUsed(u64),
    /// No message of this sequence is open.
    #[error("message {0} is not open")]
    MessageUnknown(u64),
    /// The message has an exchange.
    #[error("message {0} was sent already")]
    SentAlready(u64),
    /// Ids are taken one after the other, and none is taken that is in use [MQTT-2.2.1-3].
    #[error("packet id {0} is in use or out of order")]
    PacketIdOrder(PacketId),
    /// No exchange has this id.
    #[error("packet id {0} is not in use")]
    PacketIdUnknown(PacketId),
    /// The exchange is not one of QoS 2 that awaits PUBREC.
    #[error("packet id {0} does not await PUBREC")]
    NotAwaitingPubRec(PacketId),
    /// A rank can't be counted on from.
    #[error("rank of a PUBREC is too large")]
    Rank,
}

/// Why records were not written. Nothing of the batch is in the outbox.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// There is no room for the messages of the batch. Room comes with messages that are done, and with
    /// [`maintain`](super::Outbox::maintain).
    #[error("the outbox is full: {needed} bytes are needed and {room} are left")]
    Full {
        /// What the batch needs, in bytes.
        needed: u64,
        /// What is left, in bytes.
        room: u64,
    },
    /// One batch can't be that large. Split it.
    #[error("a batch has at most {} bytes", super::BATCH_BYTES_MAX)]
    BatchTooLarge,
    /// The caller recorded what can't be.
    #[error("the record contradicts earlier ones: {0}")]
    Contradiction(#[from] Contradiction),
    /// The file system says no, for instance because the disk is full. The outbox is as it was before, and can go on.
    #[error(
        "can't write to {path}: make room on its disk; what was accepted before is still there"
    )]
    Io {
        /// The outbox.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// As [`OutboxError::Poisoned`].
    #[error("the outbox is not to be trusted after an earlier error: open it again")]
    Poisoned,
}

impl OutboxError {
    /// For `map_err`.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            doing,
            path,
            source,
        }
    }
}
