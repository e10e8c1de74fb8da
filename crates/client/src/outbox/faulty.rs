//! The faulty twin of the file system: it fails when it is told to, and loses or tears what was not synced.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::storage::{FileSystem, StorageFile};

/// Files in memory, of one directory. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct FaultyDisk(Arc<Mutex<State>>);

/// What goes wrong at one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It fails and does nothing; those after it work.
    Error,
    /// A write does half of its work and fails; everything else is as `Error`.
    ShortWrite,
    /// A write does all of its work and fails; everything else is as `Error`.
    LateWrite,
    /// It and all after it do nothing, as if the process had ended; a write does half of its work.
    Stop,
}

/// What a crash leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crash {
    /// The process has ended: all that was done is there.
    Process,
    /// Power is lost: what was not synced is gone.
    PowerLost,
    /// Power is lost: of what was not synced, the names and these blocks are there. A bit a block, from the first.
    PowerLostKeeping(u64),
}

#[derive(Debug, Default)]
struct State {
    files: Vec<Content>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    operations: usize,
    fault: Option<(usize, Fault)>,
    is_stopped: bool,
}

#[derive(Clone, Debug, Default)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// As it was before it was cut; that is not synced, and a loss of power may undo it.
    uncut: Vec<u8>,
}

#[derive(Debug)]
struct FaultyFile {
    disk: FaultyDisk,
    index: usize,
}

impl FaultyDisk {
    pub(super) fn with_file(path: &Path, bytes: Vec<u8>) -> Self {
        let disk = Self::default();
        let content = Content {
            durable: bytes.clone(),
            now: bytes,
            uncut: Vec::new(),
        };
        let mut state = disk.state();
        state.files.push(content);
        state.names.insert(path.to_owned(), 0);
        state.durable_names = state.names.clone();
        drop(state);
        disk
    }

    /// Lets the operation fail that is the `after`-th from now on, counted from 0.
    pub(super) fn fail(&self, after: usize, fault: Fault) {
        let mut state = self.state();
        state.fault = Some((state.operations + after, fault));
    }

    /// No operation is to fail any more.
    pub(super) fn heal(&self) {
        self.state().fault = None;
    }

    /// How many operations there were.
    pub(super) fn operations(&self) -> usize {
        self.state().operations
    }

    /// What is found after the crash.
    pub(super) fn after(&self, crash: Crash) -> Self {
        let state = self.state();
        let names = match crash {
            Crash::Process | Crash::PowerLostKeeping(_) => state.names.clone(),
            Crash::PowerLost => state.durable_names.clone(),
        };
        // A process leaves what is not durable to the next one.
        let durable_names = match crash {
            Crash::Process => state.durable_names.clone(),
            Crash::PowerLost | Crash::PowerLostKeeping(_) => names.clone(),
        };
        let content = |content: &Content| {
            let now = match crash {
                Crash::Process => return content.clone(),
                Crash::PowerLost => content.durable.clone(),
                Crash::PowerLostKeeping(blocks) => content.torn(blocks),
            };
            Content {
                durable: now.clone(),
                now,
                uncut: Vec::new(),
            }
        };
        Self(Arc::new(Mutex::new(State {
            files: state.files.iter().map(content).collect(),
            names,
            durable_names,
            ..State::default()
        })))
    }

    pub(super) fn image(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        let index = *state.names.get(path)?;
        Some(state.files[index].now.clone())
    }

    /// The byte at this place decays.
    pub(super) fn flip(&self, path: &Path, at: usize) {
        let mut state = self.state();
        let index = state.names[path];
        state.files[index].now[at] ^= 1;
    }

    pub(super) fn names(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an operation; an error if it is to fail.
    fn operation(&self) -> Result<MutexGuard<'_, State>, (MutexGuard<'_, State>, Fault)> {
        let mut state = self.state();
        if state.is_stopped {
            return Err((state, Fault::Error));
        }
        let number = state.operations;
        state.operations += 1;
        match state.fault {
            Some((at, fault)) if at == number => {
                state.is_stopped = fault == Fault::Stop;
                Err((state, fault))
            }
            _ => Ok(state),
        }
    }

    fn state_for_operation(&self) -> io::Result<MutexGuard<'_, State>> {
        self.operation().map_err(|_| failed())
    }

    fn file(&self, index: usize) -> Box<dyn StorageFile> {
        Box::new(FaultyFile {
            disk: self.clone(),
            index,
        })
    }
}

impl Content {
    /// Block by block what is now there, or else what was durable; where that was nothing, zeros.
    fn torn(&self, blocks: u64) -> Vec<u8> {
        let mut torn = self.now.clone();
        torn.extend(self.uncut.get(torn.len()..).unwrap_or_default());
        for (index, block) in torn.chunks_mut(BLOCK_BYTES).enumerate() {
            let is_kept = blocks >> (index % 64) & 1 == 1;
            if !is_kept {
                for (offset, byte) in block.iter_mut().enumerate() {
                    let durable = self.durable.get(index * BLOCK_BYTES + offset);
                    *byte = durable.copied().unwrap_or(0);
                }
            }
        }
        torn
    }
}

impl FileSystem for FaultyDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        let state = self.state_for_operation()?;
        let index = *state.names.get(path).ok_or(ErrorKind::NotFound)?;
        Ok(self.file(index))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        let mut state = self.state_for_operation()?;
        let index = state.files.len();
        state.files.push(Content::default());
        state.names.insert(path.to_owned(), index);
        Ok(self.file(index))
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        if self.state().names.contains_key(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.create(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state_for_operation()?;
        let index = state.names.remove(from).ok_or(ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), index);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state_for_operation()?;
        let removed = state.names.remove(path);
        removed.map(drop).ok_or(ErrorKind::NotFound.into())
    }

    fn sync_directory_of(&self, _: &Path) -> io::Result<()> {
        let mut state = self.state_for_operation()?;
        state.durable_names = state.names.clone();
        Ok(())
    }
}

impl StorageFile for FaultyFile {
    fn read_all(&mut self) -> io::Result<Vec<u8>> {
        let state = self.disk.state_for_operation()?;
        Ok(state.files[self.index].now.clone())
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let state = self.disk.state_for_operation()?;
        let content = &state.files[self.index].now;
        let read = content.get(offset as usize..);
        let read = read.and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(read.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let (mut state, written, result) = match self.disk.operation() {
            Ok(state) => (state, bytes.len(), Ok(())),
            Err((state, Fault::Error)) => (state, 0, Err(failed())),
            Err((state, Fault::LateWrite)) => (state, bytes.len(), Err(failed())),
            Err((state, Fault::ShortWrite | Fault::Stop)) => {
                (state, bytes.len() / 2, Err(failed()))
            }
        };
        let content = &mut state.files[self.index].now;
        let (start, end) = (offset as usize, offset as usize + written);
        if content.len() < end {
            content.resize(end, 0);
        }
        content[start..end].copy_from_slice(&bytes[..written]);
        result
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let mut state = self.disk.state_for_operation()?;
        let content = &mut state.files[self.index];
        content.uncut = content.now.clone();
        content.now.truncate(length as usize);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.state_for_operation()?;
        let content = &mut state.files[self.index];
        content.durable = content.now.clone();
        content.uncut.clear();
        Ok(())
    }
}

fn failed() -> io::Error {
    io::Error::from(ErrorKind::StorageFull)
}

/// Small, so that a batch is torn in many ways.
const BLOCK_BYTES: usize = 32;
