//! What a shard says to its journal, and hears from it.

use super::{Env, Shard};
use crate::SessionKey;
use crate::journal::StoredMessage;

impl Shard {
    /// Adds the records that are written once a turn. To be called before the effects are drained.
    pub fn seal(&mut self) {}

    /// Takes messages that were asked for by a [`Load`](crate::Load).
    pub fn handle_loaded(
        &mut self,
        env: Env<'_>,
        session: SessionKey,
        messages: Vec<StoredMessage>,
    ) {
        let _ = (session, messages);
        self.finish(env);
    }

    /// Notes that messages can't be stored, or can be again, for want of room on the disk.
    pub fn set_disk_full(&mut self, is_full: bool) {
        self.disk_full = is_full;
    }
}
