//! The disk outbox: a client's session in a file, so that it survives the process.
//!
//! An append-only file of records with checksums, for one client id. It holds what the client has accepted and not
//! finished, the packet ids under which it was sent, and the ids of QoS 2 messages that the server has not released. So
//! QoS 1 and 2 messages that were accepted without a connection go out in order after a restart, and QoS 2 exactly once
//! as long as the server keeps its session too.
//!
//! It blocks, and knows neither sockets nor time. Appending is one write into the page cache;
//! [`sync`](Outbox::sync) is what takes long.
//!
//! ```
//! use whimbrel_client::codec::bytes::Bytes;
//! use whimbrel_client::codec::topic::TopicNameBuf;
//! use whimbrel_client::codec::{MessageProperties, QoS};
//! use whimbrel_client::outbox::{Accepted, Outbox, OutboxOptions, Record};
//!
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("outbox");
//! let (mut outbox, restored) = Outbox::open(&path, "sensor", OutboxOptions::default())?;
//! outbox.append(&[Record::Accepted(Accepted {
//!     sequence: restored.next_sequence,
//!     qos: QoS::ExactlyOnce,
//!     retain: false,
//!     expires_at_unix_ms: None,
//!     topic: TopicNameBuf::try_from("kitchen/temperature")?,
//!     properties: MessageProperties::new(),
//!     payload: Bytes::from_static(b"21.5"),
//! })])?;
//! outbox.sync()?; // From here on the message is safe.
//! drop(outbox);
//!
//! let (_, restored) = Outbox::open(&path, "sensor", OutboxOptions::default())?;
//! assert_eq!(restored.unsent[0].payload, "21.5");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Contract
//!
//! * What was appended and [synced](Outbox::sync) with [`Durability::Sync`] is there after whatever ends the process or
//!   the machine; with [`Durability::Os`], after whatever ends the process.
//! * A batch of records is there as a whole or not at all.
//! * An end that a crash has left unfinished is dropped, and [`Restored::torn_bytes`] says so. Every other damage is an
//!   error: nothing is lost silently.
//! * Any bytes in the file give an error or a session, never a panic.
//!
//! # Limits
//!
//! Messages: [`OutboxOptions::bytes_max`]. The file: twice that and 256 KiB more, as long as
//! [`maintain`](Outbox::maintain) is called; the new file beside it while it runs. Memory: about 100 bytes a message; at
//! the start, the whole file and once more what is in it.

mod compact;
mod error;
#[cfg(test)]
mod faulty;
mod frame;
mod ledger;
mod record;
mod replay;
mod ring;
mod salvage;
mod storage;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use self::ledger::{Ledger, MESSAGE_BYTES, Place};
use self::storage::{Disk, FileSystem, StorageFile, beside};

pub use self::error::{AppendError, Contradiction, Damage, OutboxError};
pub use self::record::{Accepted, Record};
pub use self::replay::{Outstanding, Restored};
pub use self::salvage::{LeftOut, Salvaged};

/// A session's file, opened and locked.
///
/// After an error that leaves unknown what is on the disk every call fails with `Poisoned`; open it again then.
#[derive(Debug)]
pub struct Outbox {
    system: Box<dyn FileSystem>,
    path: PathBuf,
    client_id: Box<str>,
    options: OutboxOptions,
    file: Box<dyn StorageFile>,
    number: u32,
    header_bytes: u64,
    /// Where the next batch goes. Invariant: before it are only whole batches.
    length: u64,
    /// Up to where the file is known to be on the disk. Invariant: at most `length`.
    durable: u64,
    ledger: Ledger,
    /// Compaction failed: it is tried again when the file is longer than this.
    compact_above: u64,
    is_poisoned: bool,
    /// The batch that is being written.
    buffer: Vec<u8>,
    /// Held as long as it is open; tests have none.
    _lock: Option<File>,
}

/// How an outbox is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutboxOptions {
    /// The most bytes of messages that are not done with; each counts 96 and the length of its topic, properties and
    /// payload. 64 MiB by default.
    pub bytes_max: u64,
    /// What [`Outbox::sync`] does.
    pub durability: Durability,
    /// Dead bytes that are not worth a compaction.
    compaction_floor_bytes: u64,
}

/// What a record survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The end of the machine: `sync` waits for the disk.
    #[default]
    Sync,
    /// The end of the process: `sync` does nothing, and the operating system writes when it likes. After a loss of power
    /// the last seconds may be missing, and the file may need [`Outbox::salvage`].
    Os,
}

impl Outbox {
    /// Opens the outbox of `client_id` at `path`, or makes one where there is none, and tells what it holds.
    ///
    /// Beside it there are, named like it, a `.lock` and at times a `.new`.
    ///
    /// # Errors
    ///
    /// [`OutboxError`], of which each says what to do. The file is as it was.
    pub fn open(
        path: impl AsRef<Path>,
        client_id: &str,
        options: OutboxOptions,
    ) -> Result<(Self, Restored), OutboxError> {
        let path = path.as_ref();
        let lock = lock(path)?;
        Self::open_on(Box::new(Disk), path, client_id, options, Some(lock))
    }

    fn open_on(
        system: Box<dyn FileSystem>,
        path: &Path,
        client_id: &str,
        options: OutboxOptions,
        lock: Option<File>,
    ) -> Result<(Self, Restored), OutboxError> {
        check_client_id(client_id)?;
        remove_unfinished(&*system, path)?;
        let (mut file, image) = match read(&*system, path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                create(&*system, path, client_id)?;
                read(&*system, path)
            }
            read => read,
        }
        .map_err(OutboxError::io("read", path))?;
        let replayed = replay::replay(path, &image, client_id)?;
        let restored = replay::restore(&image, &replayed);
        let restored = restored.ok_or_else(|| OutboxError::Damaged {
            path: path.to_owned(),
            at: replayed.header_bytes,
            damage: Damage::Record,
        })?;
        if replayed.torn_bytes > 0 {
            let truncated = file.truncate(replayed.length);
            truncated.map_err(OutboxError::io("cut", path))?;
        }
        // What an earlier process had not synced is told now, and what follows must not end in a file without a name.
        if options.durability == Durability::Sync {
            let synced = file.sync().and_then(|()| system.sync_directory_of(path));
            synced.map_err(OutboxError::io("sync", path))?;
        }
        let outbox = Self {
            system,
            path: path.to_owned(),
            client_id: client_id.into(),
            options,
            file,
            number: replayed.number,
            header_bytes: replayed.header_bytes,
            length: replayed.length,
            durable: replayed.length,
            ledger: replayed.ledger,
            compact_above: 0,
            is_poisoned: false,
            buffer: Vec::new(),
            _lock: lock,
        };
        Ok((outbox, restored))
    }

    /// Writes records, in one write: all of them, or none.
    ///
    /// They are safe after [`sync`](Self::sync). Only messages are ever refused for want of room: a full outbox can always
    /// be emptied.
    ///
    /// # Errors
    ///
    /// [`AppendError`]; nothing was recorded.
    pub fn append(&mut self, records: &[Record]) -> Result<(), AppendError> {
        if self.is_poisoned {
            return Err(AppendError::Poisoned);
        }
        if records.is_empty() {
            return Ok(());
        }
        self.check_room(records)?;
        if let Err(contradiction) = self.encode(records) {
            self.ledger.take_back();
            return Err(contradiction.into());
        }
        let durable_to = match self.options.durability {
            Durability::Sync => self.durable,
            Durability::Os => self.length,
        };
        frame::finish(&mut self.buffer, self.length, self.number, durable_to);
        if let Err(source) = self.file.write_at(self.length, &self.buffer) {
            self.ledger.take_back();
            self.is_poisoned = self.cut().is_err();
            return Err(AppendError::Io {
                path: self.path.clone(),
                source,
            });
        }
        self.ledger.keep();
        self.length += self.buffer.len() as u64;
        if self.buffer.capacity() > BUFFER_BYTES_KEPT {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    /// Waits until all that was appended is on the disk; with [`Durability::Os`] it does nothing.
    ///
    /// # Errors
    ///
    /// [`OutboxError::Io`], once: what the disk has is not known then, and asking again would not tell. And
    /// [`OutboxError::Poisoned`].
    pub fn sync(&mut self) -> Result<(), OutboxError> {
        self.check_alive()?;
        if self.options.durability == Durability::Os || self.durable == self.length {
            return Ok(());
        }
        if let Err(source) = self.file.sync() {
            self.is_poisoned = true;
            return Err(OutboxError::io("sync", &self.path)(source));
        }
        self.durable = self.length;
        Ok(())
    }

    /// Writes the file anew, without what is over, if that is more than half of it; returns whether it was.
    ///
    /// To be called now and then, for instance after each [`sync`](Self::sync): most often it has nothing to do. It syncs,
    /// whatever the [`Durability`].
    ///
    /// # Errors
    ///
    /// [`OutboxError::Io`], for instance when the disk has no room for the new file, and [`OutboxError::Damaged`]. The old
    /// file goes on, and it is tried again when that has grown. If it is not known which of the two the disk has, the
    /// outbox is poisoned.
    pub fn maintain(&mut self) -> Result<bool, OutboxError> {
        self.check_alive()?;
        let live = self.ledger.live_bytes();
        let dead = self.length.saturating_sub(self.header_bytes + live);
        let floor = self.options.compaction_floor_bytes;
        if dead <= live.max(floor) || self.length < self.compact_above {
            return Ok(false);
        }
        match self.compact() {
            Ok(()) => {
                self.compact_above = 0;
                Ok(true)
            }
            Err(error) => {
                self.compact_above = self.length.saturating_add(floor.max(1));
                Err(error)
            }
        }
    }

    /// Whether there is room for this message.
    pub fn has_room_for(&self, message: &Accepted) -> bool {
        needs(message) <= self.room()
    }

    /// Bytes that messages and ids take which are not over; see [`OutboxOptions::bytes_max`].
    pub fn live_bytes(&self) -> u64 {
        self.ledger.live_bytes()
    }

    /// The file's length in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.length
    }

    /// The sequence of the next message that is accepted; any above it is taken too.
    pub fn next_sequence(&self) -> u64 {
        self.ledger.next().sequence
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn check_alive(&self) -> Result<(), OutboxError> {
        if self.is_poisoned {
            Err(OutboxError::Poisoned)
        } else {
            Ok(())
        }
    }

    fn check_room(&self, records: &[Record]) -> Result<(), AppendError> {
        let messages = records.iter().filter_map(|record| match record {
            Record::Accepted(message) => Some(needs(message)),
            _ => None,
        });
        let needed = messages.fold(0, u64::saturating_add);
        let others = (records.len() as u64).saturating_mul(SMALL_RECORD_BYTES_MAX);
        if needed.saturating_add(others) > BATCH_BYTES_MAX {
            return Err(AppendError::BatchTooLarge);
        }
        let room = self.room();
        if needed > room && needed > 0 {
            return Err(AppendError::Full { needed, room });
        }
        Ok(())
    }

    /// Within the bound of messages, and within that of the file: what is over counts where it can't be removed.
    fn room(&self) -> u64 {
        let bytes_max = self.options.bytes_max;
        let file_bytes_max = bytes_max
            .saturating_mul(2)
            .saturating_add(self.options.compaction_floor_bytes)
            .saturating_add(self.header_bytes);
        let of_file = file_bytes_max.saturating_sub(self.length);
        bytes_max.saturating_sub(self.live_bytes()).min(of_file)
    }

    /// Puts the records into the buffer, and takes their steps.
    fn encode(&mut self, records: &[Record]) -> Result<(), Contradiction> {
        frame::begin(&mut self.buffer);
        for record in records {
            let line = record.line();
            let place = put(&mut self.buffer, self.length, |out| line.encode(out));
            self.ledger.apply(line.step(place))?;
        }
        Ok(())
    }

    /// Removes what a failed write has left.
    fn cut(&mut self) -> io::Result<()> {
        self.file.truncate(self.length)?;
        // Else a crash might bring it back, after the caller was told that it is not there.
        match self.options.durability {
            Durability::Sync => {
                self.file.sync()?;
                self.durable = self.length;
                Ok(())
            }
            Durability::Os => Ok(()),
        }
    }

    fn compact(&mut self) -> Result<(), OutboxError> {
        let file = &mut self.file;
        let mut unreadable = None;
        let installed = compact::install(
            &*self.system,
            &self.path,
            &self.client_id,
            &self.ledger,
            |place, out| {
                let start = out.len();
                out.resize(start + place.length as usize, 0);
                let record = out.get_mut(start..).unwrap_or_default();
                if let Err(error) = file.read_at(place.offset, record) {
                    unreadable = Some(error);
                }
                if unreadable.is_none() && crc32fast::hash(record) == place.checksum {
                    Ok(())
                } else {
                    Err(Damage::Checksum)
                }
            },
        );
        match (installed, unreadable) {
            (Ok(compact::Installed::Whole(written)), _) => {
                debug_assert_eq!(written.ledger.live_bytes(), self.ledger.live_bytes());
                self.file = written.file;
                self.number = written.number;
                self.header_bytes = written.header_bytes;
                self.length = written.length;
                self.durable = written.length;
                self.ledger = written.ledger;
                Ok(())
            }
            (Ok(compact::Installed::Unknown(error)), _) => {
                self.is_poisoned = true;
                Err(error)
            }
            (Err(_), Some(source)) => Err(OutboxError::io("read", &self.path)(source)),
            (Err(error), None) => Err(error),
        }
    }
}

impl Default for OutboxOptions {
    fn default() -> Self {
        Self {
            bytes_max: 64 * 1024 * 1024,
            durability: Durability::default(),
            compaction_floor_bytes: COMPACTION_FLOOR_BYTES,
        }
    }
}

fn lock(path: &Path) -> Result<File, OutboxError> {
    let lock = storage::lock(path).map_err(OutboxError::io("lock", path))?;
    lock.ok_or_else(|| OutboxError::Locked {
        path: path.to_owned(),
    })
}

fn check_client_id(client_id: &str) -> Result<(), OutboxError> {
    if client_id.is_empty() || u16::try_from(client_id.len()).is_err() {
        return Err(OutboxError::ClientIdLength);
    }
    Ok(())
}

/// Removes what an interrupted compaction has left.
fn remove_unfinished(system: &dyn FileSystem, path: &Path) -> Result<(), OutboxError> {
    let unfinished = beside(path, "new");
    match system.remove(&unfinished) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(OutboxError::io("remove", &unfinished)(error))
        }
        _ => Ok(()),
    }
}

fn create(system: &dyn FileSystem, path: &Path, client_id: &str) -> Result<(), OutboxError> {
    // There is no record to copy.
    let copy = |_, _: &mut Vec<u8>| Err(Damage::Record);
    match compact::install(system, path, client_id, &Ledger::new(), copy)? {
        compact::Installed::Whole(_) => Ok(()),
        compact::Installed::Unknown(error) => Err(error),
    }
}

fn read(system: &dyn FileSystem, path: &Path) -> io::Result<(Box<dyn StorageFile>, Vec<u8>)> {
    let mut file = system.open(path)?;
    let image = file.read_all()?;
    Ok((file, image))
}

/// Appends a record to `out`, which is to stand at `offset` in the file; returns the record's place.
fn put(out: &mut Vec<u8>, offset: u64, encode: impl FnOnce(&mut Vec<u8>)) -> Place {
    let start = out.len();
    encode(out);
    let record = out.get(start..).unwrap_or_default();
    Place {
        offset: offset + start as u64,
        // The callers bound their batches.
        length: u32::try_from(record.len()).unwrap_or(u32::MAX),
        checksum: crc32fast::hash(record),
    }
}

/// What a message counts.
fn needs(message: &Accepted) -> u64 {
    message.encoded_bytes().saturating_add(MESSAGE_BYTES)
}

/// Far above the largest packet of the protocol, far below what a batch's length can say.
const BATCH_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// The longest record that is no message.
const SMALL_RECORD_BYTES_MAX: u64 = 19;
const COMPACTION_FLOOR_BYTES: u64 = 256 * 1024;
const BUFFER_BYTES_KEPT: usize = 64 * 1024;
