//! [`OpenError`]: why a store can't be opened, and what to do.

use std::io;
use std::path::PathBuf;

use thiserror::Error;
use whimbrel_broker_core::JournalError;

/// Why a store can't be opened. The message says what to do next.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "{} is in use by another process; stop that one, or name another data directory", path.display()
    )]
    Locked {
        /// The database.
        path: PathBuf,
    },
    /// It was written by a newer version.
    #[error(
        "the store has format {found}, and this version knows formats up to {known}; \
         run a version that is at least as new as the one that wrote it"
    )]
    NewerFormat {
        /// Its format.
        found: u32,
        /// The newest known here.
        known: u32,
    },
    /// It is something else.
    #[error(
        "{} is not a store ({detail}); name another data directory, or move the file away", path.display()
    )]
    NotAStore {
        /// The file.
        path: PathBuf,
        /// What it is.
        detail: String,
    },
    /// The operating system does not let us.
    #[error(
        "no permission for {}; give it to the user the broker runs as, or name another data directory", path.display()
    )]
    Permission {
        /// What may not be opened or made.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// It can't be read.
    #[error(
        "the store is damaged: {detail}; `whimbrel store check` tells how much, and `whimbrel store salvage` writes \
         what can be read into a new store"
    )]
    Damaged {
        /// What was found, and where.
        detail: String,
    },
    /// There is no room on the disk, not even after the reserve was given up.
    #[error("no room on the disk to open the store; free some, at least a few mebibytes")]
    Full,
    /// The disk failed.
    #[error("{} can't be opened", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// The store failed in another way.
    #[error("the store can't be opened")]
    Failed(#[source] JournalError),
}

impl OpenError {
    pub(crate) fn io(path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::Permission { path, source }
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Io { path, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_refuses_is_told_apart() {
        let of = |kind: io::ErrorKind| OpenError::io("data", kind.into());
        for kind in [
            io::ErrorKind::PermissionDenied,
            io::ErrorKind::ReadOnlyFilesystem,
        ] {
            let refused = of(kind);
            assert!(matches!(refused, OpenError::Permission { .. }), "{kind}");
            let text = refused.to_string();
            assert!(
                text.starts_with("no permission for data; give it"),
                "{text}"
            );
        }
        assert!(matches!(of(io::ErrorKind::StorageFull), OpenError::Full));
        assert!(matches!(
            of(io::ErrorKind::NotADirectory),
            OpenError::Io { .. }
        ));
    }
}
