//! [`Room`]: free space on the disk, and the reserve.

use std::fmt::Debug;

/// What a store asks about the room on its disk.
pub trait Room: Debug + Send {
    /// Bytes that can still be written; `None` if that can't be told.
    fn free_bytes(&self) -> Option<u64>;

    /// Gives up the space that was set aside for a full disk. Says whether there was any.
    fn give_up_reserve(&mut self) -> bool;

    /// Sets space aside, where it is not.
    fn make_reserve(&mut self);
}

/// The room of a storage without bounds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Boundless;

impl Room for Boundless {
    fn free_bytes(&self) -> Option<u64> {
        None
    }

    fn give_up_reserve(&mut self) -> bool {
        false
    }

    fn make_reserve(&mut self) {}
}
