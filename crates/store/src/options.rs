//! [`OpenOptions`]: how a store is opened.

/// How a store is opened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OpenOptions {
    /// What a commit waits for.
    pub durability: Durability,
    /// Memory for pages of the database, in bytes; 64 MiB by default. At most half of it holds pages that were
    /// changed and are not yet written.
    pub cache_bytes: usize,
    /// Free space in bytes below which the store says that it is full; 32 MiB by default.
    pub full_below_bytes: u64,
    /// Free space in bytes from which on it says that it is not full any more; 64 MiB by default.
    pub room_again_bytes: u64,
}

/// What a commit waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Durability {
    /// Until the disk says that it has everything: survives the loss of power.
    #[default]
    Sync,
    /// Until the operating system has everything: survives the end of the process, whatever ends it.
    Os,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Sync,
            cache_bytes: 64 * MIB,
            full_below_bytes: 32 * MIB as u64,
            room_again_bytes: 64 * MIB as u64,
        }
    }
}

const MIB: usize = 1024 * 1024;
