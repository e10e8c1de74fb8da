//! [`Recovery`]: from what a journal tells to the shards of a broker that starts.

use std::sync::Arc;

use crate::journal::{JournalError, Replayed};
use crate::{CoreConfig, Index, Now, Shard, ShardId};

/// Builds the shards of a broker from what its journal tells.
#[derive(Debug)]
pub struct Recovery<'a> {
    index: &'a Index,
    now: Now,
    shards: Vec<Shard>,
}

impl<'a> Recovery<'a> {
    /// Begins. The configuration has the incarnation of this start.
    #[must_use]
    pub fn new(config: &Arc<CoreConfig>, index: &'a Index, now: Now) -> Self {
        let shards = (0..config.shards)
            .filter_map(ShardId::new)
            .map(|id| Shard::new(id, Arc::clone(config)))
            .collect();
        Self { index, now, shards }
    }

    /// Takes one thing, in the order of [`Journal::replay`](crate::Journal::replay).
    ///
    /// # Errors
    ///
    /// [`JournalError::Damaged`] where it contradicts what was told before.
    pub fn apply(&mut self, replayed: Replayed) -> Result<(), JournalError> {
        let _ = replayed;
        Ok(())
    }

    /// The shards. They have effects and backlog, as after any other step: records, messages for each other.
    ///
    /// # Errors
    ///
    /// As for [`apply`](Self::apply).
    pub fn finish(self) -> Result<Vec<Shard>, JournalError> {
        let _ = (self.index, self.now);
        Ok(self.shards)
    }
}
