//! How a shard prints: everything that decides what it will do, and nothing else.
//!
//! Whoever explores the states of shards tells them apart by this, so each field is named here, and
//! a new one does not compile until it is.

use std::fmt;

use slab::Slab;

use super::Shard;

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            id,
            // The same for the life of a shard.
            config: _,
            sessions,
            by_client_id,
            connections,
            filters,
            groups,
            groups_by_name,
            cache,
            // Memory that is written before it is read.
            last_match: _,
            scratch: _,
            targets: _,
            // Where in the effects of this turn to add; the effects are shown.
            filling: _,
            spares: _,
            buffers: _,
            jobs,
            backlog,
            timers,
            obligations,
            commits,
            windows,
            blocked,
            to_self,
            next_generation,
            next_message,
            next_group,
            next_join,
            next_position,
            next_queue,
            may_number,
            dirty,
            done,
            after_seal,
            known,
            // Counted up before each use, and only compared with marks of that use.
            routing_pass: _,
            queued_messages,
            queued_bytes,
            disk_bytes,
            group_bytes,
            behind_bytes,
            subscriptions,
            disk_full,
            // Only counted, never asked.
            stats: _,
            effects,
        } = self;
        f.debug_struct("Shard")
            .field("id", id)
            .field("sessions", &Entries(sessions))
            .field("by_client_id", by_client_id)
            .field("connections", &Entries(connections))
            .field("filters", filters)
            .field("groups", groups)
            .field("groups_by_name", groups_by_name)
            .field("cache", cache)
            .field("jobs", jobs)
            .field("backlog", backlog)
            .field("timers", timers)
            .field("obligations", obligations)
            .field("commits", commits)
            .field("windows", windows)
            .field("blocked", blocked)
            .field("to_self", to_self)
            .field("next_generation", next_generation)
            .field("next_message", next_message)
            .field("next_group", next_group)
            .field("next_join", next_join)
            .field("queued_messages", queued_messages)
            .field("queued_bytes", queued_bytes)
            .field("group_bytes", group_bytes)
            .field("behind_bytes", behind_bytes)
            .field("subscriptions", subscriptions)
            .field("disk_full", disk_full)
            .field("disk_bytes", disk_bytes)
            .field("next_position", next_position)
            .field("next_queue", next_queue)
            .field("may_number", may_number)
            .field("dirty", dirty)
            .field("done", done)
            .field("after_seal", after_seal)
            .field("known", known)
            .field("effects", effects)
            .finish()
    }
}

/// The entries of a [`Slab`], which prints only their number.
///
/// Which free slot is taken next is left out: a key is a name, and another name changes nothing.
pub(super) struct Entries<'a, T>(pub(super) &'a Slab<T>);

impl<T: fmt::Debug> fmt::Debug for Entries<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter()).finish()
    }
}
