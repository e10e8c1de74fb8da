//! Writing a file anew, and putting it in place of the old one.

use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};

use super::error::{Damage, OutboxError};
use super::frame::{self, Header};
use super::ledger::{Ledger, Place, Step};
use super::put;
use super::record::Line;
use super::storage::{FileSystem, StorageFile, beside};

/// A file that was written anew.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) file: Box<dyn StorageFile>,
    pub(super) number: u32,
    pub(super) header_bytes: u64,
    pub(super) length: u64,
    /// That of the caller, with its places in this file.
    pub(super) ledger: Ledger,
}

/// What became of a new file.
#[derive(Debug)]
pub(super) enum Installed {
    /// It has its name, also after a crash.
    Whole(Written),
    /// It may have its name, or the old one has it still.
    Unknown(OutboxError),
}

/// Writes a file that holds what `ledger` holds, and gives it the name `path` when it is on the disk: at each moment
/// there is a whole file of that name, or none if there was none.
///
/// `copy` appends the record at a place of the old file.
pub(super) fn install(
    system: &dyn FileSystem,
    path: &Path,
    client_id: &str,
    ledger: &Ledger,
    copy: impl FnMut(Place, &mut Vec<u8>) -> Result<(), Damage>,
) -> Result<Installed, OutboxError> {
    let unfinished = beside(path, "new");
    let written = match write(system, path, &unfinished, client_id, ledger, copy) {
        Ok(written) => written,
        Err(error) => {
            // If it stays, the next attempt or the next start overwrites it.
            let _ = system.remove(&unfinished);
            return Err(error);
        }
    };
    let installed = system
        .rename(&unfinished, path)
        .and_then(|()| system.sync_directory_of(path));
    Ok(match installed {
        Ok(()) => Installed::Whole(written),
        Err(source) => Installed::Unknown(OutboxError::io("replace", path)(source)),
    })
}

fn write(
    system: &dyn FileSystem,
    old: &Path,
    unfinished: &Path,
    client_id: &str,
    ledger: &Ledger,
    mut copy: impl FnMut(Place, &mut Vec<u8>) -> Result<(), Damage>,
) -> Result<Written, OutboxError> {
    let mut writer = Writer::begin(system, unfinished, client_id)?;
    for (sequence, entry) in ledger.messages() {
        if let Some(place) = entry.body {
            let damaged = |damage| OutboxError::Damaged {
                path: old.to_owned(),
                at: place.offset,
                damage,
            };
            let mut copied = Ok(());
            let accepted = |place| Step::Accepted {
                sequence,
                qos: entry.qos,
                place,
            };
            writer.put(|out| copied = copy(place, out), accepted)?;
            copied.map_err(damaged)?;
        }
    }
    for sent in ledger.exchanges() {
        writer.put_line(match sent.rank {
            None => Line::Sent {
                sequence: sent.sequence,
                packet_id: sent.packet_id,
            },
            Some(rank) => Line::Taken {
                sequence: sent.sequence,
                packet_id: sent.packet_id,
                rank,
            },
        })?;
    }
    for packet_id in ledger.held() {
        writer.put_line(Line::Held { packet_id })?;
    }
    let next = ledger.next();
    if next != writer.ledger.next() {
        writer.put_line(Line::Next {
            sequence: next.sequence,
            packet_id: next.packet_id,
        })?;
    }
    writer.finish()
}

struct Writer {
    path: PathBuf,
    file: Box<dyn StorageFile>,
    number: u32,
    header_bytes: u64,
    /// Where the batch in `buffer` goes.
    length: u64,
    buffer: Vec<u8>,
    ledger: Ledger,
}

impl Writer {
    fn begin(system: &dyn FileSystem, path: &Path, client_id: &str) -> Result<Self, OutboxError> {
        let header = Header {
            number: file_number(),
            client_id: client_id.to_owned(),
        };
        let bytes = header.encode();
        let mut file = system
            .create(path)
            .map_err(OutboxError::io("create", path))?;
        let written = file.write_at(0, &bytes);
        written.map_err(OutboxError::io("write", path))?;
        let length = bytes.len() as u64;
        let mut buffer = Vec::new();
        frame::begin(&mut buffer);
        Ok(Self {
            path: path.to_owned(),
            file,
            number: header.number,
            header_bytes: length,
            length,
            buffer,
            ledger: Ledger::new(),
        })
    }

    fn put_line(&mut self, line: Line<'_>) -> Result<(), OutboxError> {
        self.put(|out| line.encode(out), |place| line.step(place))
    }

    fn put(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>),
        step: impl FnOnce(Place) -> Step,
    ) -> Result<(), OutboxError> {
        let place = put(&mut self.buffer, self.length, encode);
        let applied = self.ledger.apply(step(place));
        debug_assert_eq!(applied, Ok(()), "a ledger contradicts itself");
        applied.map_err(|contradiction| OutboxError::Damaged {
            path: self.path.clone(),
            at: place.offset,
            damage: contradiction.into(),
        })?;
        if self.buffer.len() >= WRITE_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), OutboxError> {
        // It gets its name when all of it is on the disk.
        let durable_to = self.length;
        frame::finish(&mut self.buffer, self.length, self.number, durable_to);
        let written = self.file.write_at(self.length, &self.buffer);
        written.map_err(OutboxError::io("write", &self.path))?;
        self.length += self.buffer.len() as u64;
        frame::begin(&mut self.buffer);
        self.ledger.keep();
        Ok(())
    }

    fn finish(mut self) -> Result<Written, OutboxError> {
        if self.buffer.len() > frame::HEAD_BYTES {
            self.flush()?;
        }
        let synced = self.file.sync();
        synced.map_err(OutboxError::io("sync", &self.path))?;
        Ok(Written {
            file: self.file,
            number: self.number,
            header_bytes: self.header_bytes,
            length: self.length,
            ledger: self.ledger,
        })
    }
}

/// Another one for each file; who writes payloads can't know it.
fn file_number() -> u32 {
    // The keys of a `RandomState` are random: the upper half of its hash of anything is.
    let random = RandomState::new().hash_one(0_u8);
    u32::try_from(random >> 32).unwrap_or(u32::MAX)
}

/// How much is gathered for a write.
const WRITE_BYTES: usize = 64 * 1024;
