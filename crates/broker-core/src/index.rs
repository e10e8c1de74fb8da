//! [`Index`]: who holds which filter, and the retained messages, one for the whole process.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use whimbrel_session::codec::topic::{
    FilterTrie, GenerationBucket, MatchScratch, ScanCursor, ScanState, TopicFilter, TopicName,
    TopicTree,
};
use whimbrel_session::mutant;

use crate::ids::ShardSet;
use crate::record::RetainedChange;
use crate::{CoreLimits, FilterId, GroupId, Message, ShardId, UnixMillis};

/// The read-mostly structures that all shards of a process share.
///
/// A publish is matched once, at its publisher's shard; shards remember matches per topic and ask
/// only whether the filters that could concern a topic have changed, which takes no lock.
///
/// Two orders keep retained messages right: a publish writes the retained tree *before* it is
/// matched; a subscription is entered *before* the tree is scanned. So a subscriber may see the
/// same value twice, never an older one last, and never none.
pub struct Index {
    filters: RwLock<Filters>,
    /// Bumped after each change of the filters they stand for, before the change is acknowledged.
    generations: Box<[AtomicU64]>,
    retained: RwLock<Retained>,
    retained_messages_max: usize,
    retained_bytes_max: usize,
}

#[derive(Debug)]
struct Filters {
    trie: FilterTrie<Holders>,
    last_filter: u64,
}

/// Who holds a filter.
#[derive(Debug)]
struct Holders {
    id: FilterId,
    shards: ShardSet,
    /// Shards where a session that outlives its connection holds it; a subset of `shards`.
    durable: ShardSet,
    /// Shared subscriptions with this filter; most filters have none.
    groups: BTreeMap<GroupId, Durability>,
}

/// Whether messages have to be stored before they are acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Durability {
    Transient,
    Durable,
}

#[derive(Debug)]
struct Retained {
    tree: TopicTree<Message>,
    bytes: usize,
    /// Changes for the journal, in the order of the tree; `None` without a journal.
    log: Option<Vec<RetainedChange>>,
}

/// Who is to have a message: the result of one match, shared by every hop of the message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Matched {
    /// Filters with ordinary subscribers.
    pub(crate) filters: Vec<FilterId>,
    /// Shared subscriptions.
    pub(crate) groups: Vec<GroupId>,
    /// Shards with subscribers or groups of these.
    pub(crate) shards: ShardSet,
    /// Those of them that have to say `Stored` before the message is acknowledged.
    pub(crate) durable: ShardSet,
}

/// The part of a match that says who gets the message at one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Matches<'a> {
    /// Filters with ordinary subscribers.
    pub(crate) filters: &'a [FilterId],
    /// Shared subscriptions.
    pub(crate) groups: &'a [GroupId],
}

impl Matched {
    pub(crate) fn matches(&self) -> Matches<'_> {
        Matches {
            filters: &self.filters,
            groups: &self.groups,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.shards.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.filters.len() + self.groups.len()
    }

    /// Gives back what memory is not used.
    pub(crate) fn shrink_to_fit(&mut self) {
        self.filters.shrink_to_fit();
        self.groups.shrink_to_fit();
    }
}

/// The bounds of the retained tree are reached; the message was not retained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the limit of retained messages or of their bytes is reached")]
pub(crate) struct RetainedFull;

impl Index {
    /// An empty index; `seed` keys its hash tables.
    #[must_use]
    pub fn new(seed: u64, limits: &CoreLimits) -> Self {
        Self {
            filters: RwLock::new(Filters {
                trie: FilterTrie::with_seed(seed),
                last_filter: 0,
            }),
            generations: (0..GenerationBucket::COUNT)
                .map(|_| AtomicU64::new(0))
                .collect(),
            retained: RwLock::new(Retained {
                tree: TopicTree::new(),
                bytes: 0,
                log: None,
            }),
            retained_messages_max: limits.retained_messages_max,
            retained_bytes_max: limits.retained_bytes_max,
        }
    }

    /// The index of a broker with a journal: it keeps a log of what becomes of retained messages, which whoever
    /// commits records has to take.
    #[must_use]
    pub fn journaled(self) -> Self {
        self.write_retained().log = Some(Vec::new());
        self
    }

    /// Takes what became of retained messages since the last call, in order. To be called after the records were
    /// taken that are committed with it ([`Record::Retained`](crate::Record::Retained)); bounded by them, as each
    /// change of a shard has one.
    #[must_use]
    pub fn take_retained_changes(&self) -> Vec<RetainedChange> {
        // Most commits find none: no writer is kept waiting then.
        if self.read_retained().log.as_ref().is_none_or(Vec::is_empty) {
            return Vec::new();
        }
        let mut retained = self.write_retained();
        let mut changes = retained
            .log
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default();
        if mutant!(RetainedLogSwapped) {
            changes.reverse();
        }
        changes
    }

    /// Retained messages now.
    #[must_use]
    pub fn retained_messages(&self) -> usize {
        self.read_retained().tree.len()
    }

    /// Bytes of retained messages now.
    #[must_use]
    pub fn retained_bytes(&self) -> usize {
        self.read_retained().bytes
    }

    /// Filters with at least one holder now.
    #[must_use]
    pub fn filters(&self) -> usize {
        self.read_filters().trie.len()
    }

    /// Removes retained messages that have expired, a budgeted step at a time; `cursor` remembers
    /// how far it came.
    pub fn sweep_retained(
        &self,
        cursor: &mut ScanCursor,
        budget: usize,
        now: UnixMillis,
    ) -> ScanState {
        let mut expired = Vec::new();
        let state = self
            .read_retained()
            .tree
            .scan_all(cursor, budget, |topic, message| {
                let is_missed = mutant!(DollarTopicsNotSwept) && topic.as_str().starts_with('$');
                if message.is_expired(now) && !is_missed {
                    expired.push(topic.to_owned());
                }
                std::ops::ControlFlow::Continue(())
            });
        if !expired.is_empty() {
            let mut retained = self.write_retained();
            for topic in expired {
                let still = retained
                    .tree
                    .get(&topic)
                    .is_some_and(|message| message.is_expired(now));
                if still {
                    retained.remove(&topic);
                    retained.note(|| RetainedChange::Deleted { topic });
                }
            }
        }
        state
    }

    /// Enters `shard` as a holder of `filter` and says how the filter is called from now on.
    pub(crate) fn hold(&self, filter: &TopicFilter, shard: ShardId, durable: bool) -> FilterId {
        let mut filters = self.write_filters();
        let holders = filters.holders(filter);
        holders.shards.insert(shard);
        if durable {
            holders.durable.insert(shard);
        } else {
            holders.durable.remove(shard);
        }
        let id = holders.id;
        if mutant!(StaleMatch) {
            return id;
        }
        self.bump(filter);
        id
    }

    /// How `filter` is called, if anybody holds it.
    pub(crate) fn filter_id(&self, filter: &TopicFilter) -> Option<FilterId> {
        self.read_filters()
            .trie
            .get(filter)
            .map(|holders| holders.id)
    }

    /// Takes `shard` out of the holders of `filter`.
    pub(crate) fn release(&self, filter: &TopicFilter, shard: ShardId) {
        let mut filters = self.write_filters();
        if let Some(holders) = filters.trie.get_mut(filter) {
            holders.shards.remove(shard);
            holders.durable.remove(shard);
            if holders.is_unheld() {
                filters.trie.remove(filter);
            }
            self.bump(filter);
        }
    }

    /// Enters a shared subscription, or changes whether one of its members is durable.
    pub(crate) fn hold_group(&self, filter: &TopicFilter, id: GroupId, durable: bool) {
        let mut filters = self.write_filters();
        let holders = filters.holders(filter);
        let durability = if durable {
            Durability::Durable
        } else {
            Durability::Transient
        };
        if holders.groups.insert(id, durability) == Some(durability) {
            return;
        }
        self.bump(filter);
    }

    /// Takes a shared subscription out.
    pub(crate) fn release_group(&self, filter: &TopicFilter, id: GroupId) {
        let mut filters = self.write_filters();
        if let Some(holders) = filters.trie.get_mut(filter) {
            holders.groups.remove(&id);
            if holders.is_unheld() {
                filters.trie.remove(filter);
            }
            self.bump(filter);
        }
    }

    /// Changes whenever the matches of a topic with these buckets could have.
    pub(crate) fn generation(&self, buckets: [GenerationBucket; 4]) -> u64 {
        buckets
            .into_iter()
            .map(|bucket| self.generations[bucket.index()].load(Ordering::Acquire))
            .fold(0, u64::wrapping_add)
    }

    /// Makes `matched` who is to have a message published to `topic`.
    pub(crate) fn find_matches(
        &self,
        topic: &TopicName,
        scratch: &mut MatchScratch,
        matched: &mut Matched,
    ) {
        let Matched {
            filters,
            groups,
            shards,
            durable,
        } = matched;
        filters.clear();
        filters.shrink_to(SCRATCH_KEPT);
        groups.clear();
        groups.shrink_to(SCRATCH_KEPT);
        *shards = ShardSet::EMPTY;
        *durable = ShardSet::EMPTY;
        self.read_filters()
            .trie
            .for_each_match(topic, scratch, |holders| {
                if !holders.shards.is_empty() {
                    filters.push(holders.id);
                    *shards = shards.union(holders.shards);
                    *durable = durable.union(holders.durable);
                }
                for (&group, &durability) in &holders.groups {
                    groups.push(group);
                    shards.insert(group.owner);
                    if durability == Durability::Durable {
                        durable.insert(group.owner);
                    }
                }
            });
    }

    /// Makes `message` the retained one of its topic, or deletes that if its payload is empty
    /// [MQTT-3.3.1-5, MQTT-3.3.1-6, MQTT-3.3.1-7].
    pub(crate) fn retain(&self, message: &Message, keeping: Keeping) -> Result<(), RetainedFull> {
        let mut retained = self.write_retained();
        let topic = message.topic();
        if message.payload_is_empty() {
            if mutant!(RetainedNotDeleted) {
                return Ok(());
            }
            retained.remove(topic);
            if keeping == Keeping::Logged && !mutant!(RetainedDeleteNotLogged) {
                let topic = topic.to_owned();
                retained.note(|| RetainedChange::Deleted { topic });
            }
            return Ok(());
        }
        let replaced = retained.tree.get(topic).map(Message::size);
        let count = retained.tree.len() + usize::from(replaced.is_none());
        let bytes = retained.bytes - replaced.unwrap_or(0) + message.size();
        if count > self.retained_messages_max || bytes > self.retained_bytes_max {
            return Err(RetainedFull);
        }
        retained.bytes = bytes;
        retained.tree.insert(topic, message.clone());
        if keeping == Keeping::Logged {
            retained.note(|| RetainedChange::Set(message.clone()));
        }
        Ok(())
    }

    /// Puts a retained message back that the journal has.
    pub(crate) fn restore_retained(&self, message: &Message) {
        // What no longer fits in lowered limits is left out of memory, and stays in the journal.
        let _ = self.retain(message, Keeping::Unlogged);
    }

    /// Whether `topic` has a retained message.
    pub(crate) fn is_retained(&self, topic: &TopicName) -> bool {
        self.read_retained().tree.get(topic).is_some()
    }

    /// Whether there is anything to scan.
    pub(crate) fn has_retained(&self) -> bool {
        !self.read_retained().tree.is_empty()
    }

    /// Collects retained messages that match `filter`, a budgeted step at a time.
    pub(crate) fn scan_retained(
        &self,
        filter: &TopicFilter,
        cursor: &mut ScanCursor,
        budget: usize,
        now: UnixMillis,
        found: &mut Vec<Message>,
    ) -> ScanState {
        self.read_retained()
            .tree
            .scan(filter, cursor, budget, |_, message| {
                if !message.is_expired(now) || mutant!(RetainedExpiryIgnored) {
                    found.push(message.clone());
                }
                std::ops::ControlFlow::Continue(())
            })
    }

    fn bump(&self, filter: &TopicFilter) {
        let bucket = GenerationBucket::of_filter(filter);
        self.generations[bucket.index()].fetch_add(1, Ordering::Release);
    }

    // A panic while a lock was held leaves a structure that is still sound memory; refusing all
    // further work would turn one lost message into a lost broker.
    fn read_filters(&self) -> RwLockReadGuard<'_, Filters> {
        self.filters.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_filters(&self) -> RwLockWriteGuard<'_, Filters> {
        self.filters.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_retained(&self) -> RwLockReadGuard<'_, Retained> {
        self.retained.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_retained(&self) -> RwLockWriteGuard<'_, Retained> {
        self.retained
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leaves out the counters of filters that never changed: nearly all of them.
impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            filters,
            generations,
            retained,
            retained_messages_max,
            retained_bytes_max,
        } = self;
        let changed: BTreeMap<usize, u64> = generations
            .iter()
            .map(|generation| generation.load(Ordering::Relaxed))
            .enumerate()
            .filter(|&(_, generation)| generation > 0)
            .collect();
        f.debug_struct("Index")
            .field("filters", filters)
            .field("generations", &changed)
            .field("retained", retained)
            .field("retained_messages_max", retained_messages_max)
            .field("retained_bytes_max", retained_bytes_max)
            .finish()
    }
}

impl Filters {
    fn holders(&mut self, filter: &TopicFilter) -> &mut Holders {
        let last_filter = &mut self.last_filter;
        self.trie.get_or_insert_with(filter, || {
            *last_filter += 1;
            Holders {
                id: FilterId(*last_filter),
                shards: ShardSet::EMPTY,
                durable: ShardSet::EMPTY,
                groups: BTreeMap::new(),
            }
        })
    }
}

impl Holders {
    fn is_unheld(&self) -> bool {
        self.shards.is_empty() && self.groups.is_empty()
    }
}

/// Whether the journal is to know of a retained message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeping {
    Logged,
    /// It comes from the journal, or is of this start of the broker only.
    Unlogged,
}

impl Retained {
    fn note(&mut self, change: impl FnOnce() -> RetainedChange) {
        if let Some(log) = &mut self.log {
            log.push(change());
        }
    }

    fn remove(&mut self, topic: &TopicName) {
        if let Some(removed) = self.tree.remove(topic) {
            self.bytes -= removed.size();
        }
    }
}

/// Matches of scratch capacity kept between messages.
const SCRATCH_KEPT: usize = 4_096;
