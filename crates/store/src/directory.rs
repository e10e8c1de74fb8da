//! [`DataDirectory`]: the files of a store, and who has them.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;

use crate::open_error::OpenError;
use crate::room::Room;

/// The database's name in its directory.
pub(crate) const DATABASE: &str = "whimbrel.redb";
/// The database, as long as nothing is committed in it. So an empty file of the final name is damage.
const UNFINISHED: &str = "whimbrel.redb.new";
const RESERVE: &str = "reserve";
/// Enough for some thousand commits of acknowledgements and removals.
const RESERVE_BYTES: usize = 8 * 1024 * 1024;

/// An opened and locked data directory.
#[derive(Debug)]
pub(crate) struct DataDirectory {
    path: PathBuf,
    /// Locked as long as it, or what was made of it, is open.
    file: File,
    is_new: bool,
}

impl DataDirectory {
    /// Opens a directory, and makes it where it is not.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        if !path.is_dir() {
            fs::create_dir_all(path).map_err(|error| OpenError::io(path, error))?;
            sync_directory(path.parent().unwrap_or(path));
        }
        let database = path.join(DATABASE);
        if let Some(file) = open_file(&database, false)? {
            return Self::locked(path, file, &database, false);
        }
        let unfinished = path.join(UNFINISHED);
        let file = open_file(&unfinished, true)?
            .ok_or_else(|| OpenError::io(&unfinished, io::Error::from(io::ErrorKind::NotFound)))?;
        let directory = Self::locked(path, file, &unfinished, true)?;
        // Another process may have finished in between.
        if let Some(file) = open_file(&database, false)? {
            drop(directory);
            return Self::locked(path, file, &database, false);
        }
        let emptied = directory.file.set_len(0);
        emptied.map_err(|error| OpenError::io(&unfinished, error))?;
        Ok(directory)
    }

    /// Opens a directory that has a store.
    #[cfg(feature = "tools")]
    pub(crate) fn open_existing(path: &Path) -> Result<Self, OpenError> {
        let database = path.join(DATABASE);
        match open_file(&database, false)? {
            Some(file) => Self::locked(path, file, &database, false),
            None => Err(OpenError::NotAStore {
                path: database,
                detail: "there is no such file".to_owned(),
            }),
        }
    }

    fn locked(path: &Path, file: File, named: &Path, is_new: bool) -> Result<Self, OpenError> {
        match file.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                file,
                is_new,
            }),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked {
                path: named.to_owned(),
            }),
            Err(TryLockError::Error(error)) => Err(OpenError::io(named, error)),
        }
    }

    /// Whether there was no store.
    pub(crate) fn is_new(&self) -> bool {
        self.is_new
    }

    /// Where the database is.
    pub(crate) fn database(&self) -> PathBuf {
        self.path
            .join(if self.is_new { UNFINISHED } else { DATABASE })
    }

    /// What redb reads and writes. It keeps the lock.
    pub(crate) fn storage(&self) -> Result<FileBackend, OpenError> {
        let file = self.file.try_clone();
        let file = file.map_err(|error| OpenError::io(self.database(), error))?;
        FileBackend::new(file).map_err(|error| OpenError::Io {
            path: self.database(),
            source: io::Error::other(error),
        })
    }

    pub(crate) fn room(&self) -> DirectoryRoom {
        DirectoryRoom {
            path: self.path.clone(),
        }
    }

    /// A new store has its first commit: from now on it is one.
    pub(crate) fn finish(&mut self) -> Result<(), OpenError> {
        if self.is_new {
            let (from, to) = (self.path.join(UNFINISHED), self.path.join(DATABASE));
            fs::rename(from, &to).map_err(|error| OpenError::io(to, error))?;
            sync_directory(&self.path);
            self.is_new = false;
        }
        Ok(())
    }
}

fn open_file(path: &Path, create: bool) -> Result<Option<File>, OpenError> {
    let mut options = fs::OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(create)
        .truncate(false);
    match options.open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !create => Ok(None),
        Err(error) => Err(OpenError::io(path, error)),
    }
}

/// Makes the names in a directory durable, where the system has a way to.
fn sync_directory(path: &Path) {
    if cfg!(unix)
        && let Ok(directory) = File::open(path)
    {
        // Some file systems have no sync of directories, and need none.
        let _ = directory.sync_all();
    }
}

/// The room of the file system that a directory is on.
#[derive(Debug)]
pub(crate) struct DirectoryRoom {
    path: PathBuf,
}

impl Room for DirectoryRoom {
    fn free_bytes(&self) -> Option<u64> {
        free_bytes(&self.path)
    }

    fn give_up_reserve(&mut self) -> bool {
        fs::remove_file(self.path.join(RESERVE)).is_ok()
    }

    fn make_reserve(&mut self) {
        let path = self.path.join(RESERVE);
        let is_there = fs::metadata(&path).is_ok_and(|file| file.len() == RESERVE_BYTES as u64);
        if !is_there && write_reserve(&path).is_err() {
            // Without room for it there is none.
            let _ = fs::remove_file(&path);
        }
    }
}

/// Written in full: a file with holes has no space.
fn write_reserve(path: &Path) -> io::Result<()> {
    let mut file = File::create(path)?;
    let block = vec![0; 1024 * 1024];
    for _ in 0..RESERVE_BYTES / block.len() {
        file.write_all(&block)?;
    }
    Ok(())
}

#[cfg(unix)]
fn free_bytes(path: &Path) -> Option<u64> {
    let system = rustix::fs::statvfs(path).ok()?;
    Some(system.f_bavail.saturating_mul(system.f_frsize))
}

#[cfg(not(unix))]
fn free_bytes(_: &Path) -> Option<u64> {
    None
}
