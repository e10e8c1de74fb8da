//! Keeping what is readable of a damaged file.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::error::{Damage, OutboxError};
use super::frame::{self, HEAD_BYTES, Header, NoHeader, Search};
use super::ledger::Ledger;
use super::replay::{check_header, lines};
use super::storage::{Disk, FileSystem, beside};
use super::{Outbox, check_client_id, compact, lock, read};

/// What a salvage kept, and what it left out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Salvaged {
    /// Messages that will be sent, or sent again.
    pub messages: usize,
    /// Bytes that could not be read, all together.
    pub left_out_bytes: u64,
    /// Where they were; the first 1,024 places.
    pub left_out: Vec<LeftOut>,
    /// Records that were read and meant nothing any more, because others are missing.
    pub records_without_meaning: u64,
    /// The damaged file. `None` if there was no damage, and the file is as it was.
    pub copy: Option<PathBuf>,
}

/// A part of a file that could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Its first byte.
    pub at: u64,
    /// Its length in bytes.
    pub bytes: u64,
}

impl Outbox {
    /// Makes a damaged outbox usable: keeps every record that is readable, and leaves the damaged file beside it as
    /// `.damaged`.
    ///
    /// What is missing decides what follows. Without its acceptance a message is lost. Without its end it is sent again,
    /// also at QoS 2; so it is without the record of its packet id.
    ///
    /// # Errors
    ///
    /// [`OutboxError`], of which each says what to do. [`OutboxError::NotAnOutbox`] where not one record is readable. The
    /// file is as it was.
    pub fn salvage(path: impl AsRef<Path>, client_id: &str) -> Result<Salvaged, OutboxError> {
        let path = path.as_ref();
        let _lock = lock(path)?;
        salvage_on(&Disk, path, client_id)
    }
}

pub(super) fn salvage_on(
    system: &dyn FileSystem,
    path: &Path,
    client_id: &str,
) -> Result<Salvaged, OutboxError> {
    check_client_id(client_id)?;
    let (_, image) = read(system, path).map_err(OutboxError::io("read", path))?;
    let mut salvage = Salvage::default();
    salvage.read(path, &image, client_id)?;
    let messages = salvage.ledger.messages();
    let mut salvaged = Salvaged {
        messages: messages.filter(|(_, entry)| entry.body.is_some()).count(),
        left_out_bytes: salvage.left_out_bytes,
        left_out: salvage.left_out,
        records_without_meaning: salvage.records_without_meaning,
        copy: None,
    };
    if salvaged.left_out_bytes == 0 && salvaged.records_without_meaning == 0 {
        return Ok(salvaged);
    }
    let copy = beside(path, "damaged");
    keep_copy(system, &copy, &image)?;
    let installed = compact::install(system, path, client_id, &salvage.ledger, |place, out| {
        let start = usize::try_from(place.offset).map_err(|_| Damage::Record)?;
        let record = image
            .get(start..)
            .and_then(|rest| rest.get(..place.length as usize));
        out.extend(record.ok_or(Damage::Record)?);
        Ok(())
    });
    match installed {
        Ok(compact::Installed::Whole(_)) => {
            salvaged.copy = Some(copy);
            Ok(salvaged)
        }
        Ok(compact::Installed::Unknown(error)) => Err(error),
        Err(error) => {
            // The damaged file has its name still.
            let _ = system.remove(&copy);
            Err(error)
        }
    }
}

fn keep_copy(system: &dyn FileSystem, copy: &Path, image: &[u8]) -> Result<(), OutboxError> {
    let mut file = system.create_new(copy).map_err(|source| {
        if source.kind() == ErrorKind::AlreadyExists {
            OutboxError::SalvagedBefore {
                path: copy.to_owned(),
            }
        } else {
            OutboxError::io("create", copy)(source)
        }
    })?;
    let written = file
        .write_at(0, image)
        .and_then(|()| file.sync())
        .and_then(|()| system.sync_directory_of(copy));
    written.map_err(|source| {
        let _ = system.remove(copy);
        OutboxError::io("write", copy)(source)
    })
}

struct Salvage {
    ledger: Ledger,
    left_out_bytes: u64,
    left_out: Vec<LeftOut>,
    records_without_meaning: u64,
}

impl Default for Salvage {
    fn default() -> Self {
        Self {
            ledger: Ledger::new(),
            left_out_bytes: 0,
            left_out: Vec::new(),
            records_without_meaning: 0,
        }
    }
}

impl Salvage {
    fn read(&mut self, path: &Path, image: &[u8], client_id: &str) -> Result<(), OutboxError> {
        let (mut number, mut at) = match Header::decode(image) {
            Err(NoHeader::Magic | NoHeader::Damaged) => (None, 0),
            Ok(_) | Err(NoHeader::Version(_)) => {
                let (header, header_bytes) = check_header(path, image, client_id)?;
                (Some(header.number), header_bytes)
            }
        };
        let mut budget = frame::search_budget(image);
        loop {
            match frame::search(image, at, number, &mut budget) {
                Search::Found(found, batch) => {
                    self.leave_out(at, found);
                    number = Some(batch.number);
                    at = found + HEAD_BYTES + batch.records.len();
                    for (offset, line) in lines(found, &batch) {
                        match line {
                            Ok((line, place)) => {
                                let applied = self.ledger.apply(line.step(place));
                                self.records_without_meaning += u64::from(applied.is_err());
                            }
                            Err(_) => self.leave_out(offset, at),
                        }
                    }
                    self.ledger.keep();
                }
                Search::Nothing | Search::GivenUp => {
                    self.leave_out(at, image.len());
                    break;
                }
            }
        }
        if number.is_none() {
            return Err(OutboxError::NotAnOutbox {
                path: path.to_owned(),
            });
        }
        Ok(())
    }

    fn leave_out(&mut self, from: usize, to: usize) {
        if from == to {
            return;
        }
        let (at, bytes) = (from as u64, (to - from) as u64);
        self.left_out_bytes += bytes;
        if self.left_out.len() < LEFT_OUT_MAX {
            self.left_out.push(LeftOut { at, bytes });
        }
    }
}

const LEFT_OUT_MAX: usize = 1024;
