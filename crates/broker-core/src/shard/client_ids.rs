//! [`ClientIds`]: which session has which client id.

use std::fmt;
use std::hash::BuildHasher;

use hashbrown::HashTable;
use slab::Slab;

use super::session::Session;
use crate::SessionKey;
use crate::map::{self, SPARSE_MIN};

/// The sessions of a shard by their client ids, which stand in the sessions only.
///
/// Every session in the table is in the slab that its methods are given.
pub(super) struct ClientIds {
    table: HashTable<SessionKey>,
    state: map::State,
}

impl ClientIds {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            table: HashTable::new(),
            state: map::State::new(seed),
        }
    }

    pub(super) fn find(&self, client_id: &str, sessions: &Slab<Session>) -> Option<SessionKey> {
        let hash = self.state.hash_one(client_id);
        let is_it = |key: &SessionKey| client_id_of(*key, sessions) == client_id;
        self.table.find(hash, is_it).copied()
    }

    /// Adds a session, whose client id no other has.
    pub(super) fn insert(&mut self, key: SessionKey, sessions: &Slab<Session>) {
        let hash_of = |key: &SessionKey| self.state.hash_one(client_id_of(*key, sessions));
        self.table.insert_unique(hash_of(&key), key, hash_of);
    }

    /// Takes a session out, before it leaves the slab.
    pub(super) fn remove(&mut self, client_id: &str, sessions: &Slab<Session>) {
        let hash = self.state.hash_one(client_id);
        let is_it = |key: &SessionKey| client_id_of(*key, sessions) == client_id;
        if let Ok(entry) = self.table.find_entry(hash, is_it) {
            entry.remove();
        }
    }

    /// Shrinks the table if less than an eighth of it is used.
    pub(super) fn shrink_if_sparse(&mut self, sessions: &Slab<Session>) {
        if self.table.capacity() > SPARSE_MIN && self.table.len() * 8 < self.table.capacity() {
            let hash_of = |key: &SessionKey| self.state.hash_one(client_id_of(*key, sessions));
            self.table.shrink_to(self.table.len() * 2, hash_of);
        }
    }
}

impl fmt::Debug for ClientIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(&self.table).finish()
    }
}

fn client_id_of(key: SessionKey, sessions: &Slab<Session>) -> &str {
    sessions
        .get(key.index as usize)
        .map_or("", |session| &session.client_id)
}
