//! [`FilterTrie`]: values by topic filter, asked by topic name.

mod children;
mod generations;
mod scratch;

use std::fmt;
use std::mem;

use self::children::{Child, Children, LevelHash, LevelHasher};
use self::generations::Generations;
pub use self::scratch::MatchScratch;
use self::scratch::Visit;
use crate::arena::{Arena, Id, Moves};
use crate::level_text::LevelText;
use crate::levels::SEPARATOR;
use crate::topic_filter::{MULTI_LEVEL, SINGLE_LEVEL};
use crate::{TopicFilter, TopicFilterBuf, TopicName, byte_str};

/// A map from topic filters to values, asked by topic name: the index of a server's subscriptions.
///
/// It finds what `filter.matches(topic)` over all filters would find, in time that depends on the topic's levels and on
/// the filters that match its beginning, not on how many filters there are.
///
/// ```
/// use whimbrel_topic::{FilterTrie, MatchScratch, TopicFilter, TopicName};
///
/// let mut trie = FilterTrie::new();
/// trie.insert(TopicFilter::new("sport/+/final")?, 1);
/// trie.insert(TopicFilter::new("sport/#")?, 2);
/// trie.insert(TopicFilter::new("news")?, 3);
///
/// let mut found = Vec::new();
/// let topic = TopicName::new("sport/tennis/final")?;
/// trie.for_each_match(topic, &mut MatchScratch::new(), |value| found.push(*value));
/// found.sort();
/// assert_eq!(found, [1, 2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Limits
///
/// One node per distinct filter prefix, 56 bytes each; the caller limits the levels of the filters it lets in. Nothing
/// recurses. Memory follows the filters in both directions: removing gives it back. Inserting and removing take time
/// linear in the filter, but for the times when a table doubles or most of the memory is free, when all nodes (or
/// children of one node) are gone through once.
///
/// # Determinism
///
/// The results, their order included, depend on the inserts and removes only, never on the seed.
pub struct FilterTrie<V> {
    nodes: Arena<Node>,
    values: Arena<V>,
    root: Id,
    /// Bytes that nodes own beside their slot: long levels and tables of children.
    node_heap_bytes: usize,
    hasher: LevelHasher,
    generations: Generations,
}

impl<V> FilterTrie<V> {
    /// An empty trie with a fixed seed.
    ///
    /// For filters of trusted origin, tests and tools. Whoever knows the seed can choose levels that all collide, which
    /// makes operations as slow as a node has children: servers use [`FilterTrie::with_seed`].
    pub fn new() -> FilterTrie<V> {
        FilterTrie::with_seed(0)
    }

    /// An empty trie that hashes levels by `seed`, a random number that clients do not get to know.
    pub fn with_seed(seed: u64) -> FilterTrie<V> {
        let mut nodes = Arena::new();
        let root = nodes.insert(Node::new("", None));
        FilterTrie {
            nodes,
            values: Arena::new(),
            root,
            node_heap_bytes: 0,
            hasher: LevelHasher::new(seed),
            generations: Generations::default(),
        }
    }

    /// How many filters there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is no filter.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of exactly this filter.
    pub fn get(&self, filter: &TopicFilter) -> Option<&V> {
        Some(&self.values[self.find(filter)?])
    }

    /// The value of exactly this filter, to be changed; counts as a change for [`FilterTrie::generation`].
    pub fn get_mut(&mut self, filter: &TopicFilter) -> Option<&mut V> {
        let id = self.find(filter)?;
        self.count_change(filter);
        Some(&mut self.values[id])
    }

    /// Sets the value of `filter` and returns the one it had.
    pub fn insert(&mut self, filter: &TopicFilter, value: V) -> Option<V> {
        self.count_change(filter);
        match self.find(filter) {
            Some(id) => Some(mem::replace(&mut self.values[id], value)),
            None => {
                self.insert_new(filter, value);
                None
            }
        }
    }

    /// The value of `filter`, after setting it to what `make` returns if it had none; counts as a change for
    /// [`FilterTrie::generation`].
    pub fn get_or_insert_with(&mut self, filter: &TopicFilter, make: impl FnOnce() -> V) -> &mut V {
        self.count_change(filter);
        let id = match self.find(filter) {
            Some(id) => id,
            // Made first: should `make` panic, no node was built for nothing.
            None => self.insert_new(filter, make()),
        };
        &mut self.values[id]
    }

    /// Removes `filter` and returns its value.
    pub fn remove(&mut self, filter: &TopicFilter) -> Option<V> {
        let place = self.find_place(filter)?;
        let id = self.nodes[place.node].value_mut(place.end).take()?;
        let value = self.values.remove(id);
        self.prune(place.node);
        self.compact();
        self.count_change(filter);
        Some(value)
    }

    /// Calls `f` with the value of each filter that matches `topic`, in an order of no meaning.
    ///
    /// A filter that starts with a wildcard does not match a topic that starts with `$` [MQTT-4.7.2-1]; `#` also
    /// matches its parent level [U5-101].
    pub fn for_each_match(
        &self,
        topic: &TopicName,
        scratch: &mut MatchScratch,
        mut f: impl FnMut(&V),
    ) {
        let text = topic.as_bytes();
        scratch.start();
        let mut visit = Visit {
            node: self.root,
            depth: 0,
        };
        // Of the root's; those of all others apply whatever they stand for starts with.
        let mut wildcards_apply = !topic.is_dollar();
        loop {
            let node = &self.nodes[visit.node];
            if let Some(id) = node.multi_level_value
                && wildcards_apply
            {
                f(&self.values[id]);
            }
            let mut next = None;
            match scratch.level(visit.depth as usize, text, &self.hasher) {
                Some(level) => {
                    let depth = visit.depth + 1;
                    if let Some(node) = node.single_level
                        && wildcards_apply
                    {
                        scratch.pending.push(Visit { node, depth });
                    }
                    let child = node.children.find(level.of(text), level.hash, &self.nodes);
                    next = child.map(|node| Visit { node, depth });
                }
                None => {
                    if let Some(id) = node.value {
                        f(&self.values[id]);
                    }
                }
            }
            let Some(next) = next.or_else(|| scratch.pending.pop()) else {
                break;
            };
            visit = next;
            wildcards_apply = true;
        }
        scratch.finish();
    }

    /// A number that changes whenever a filter that matches `topic` is inserted, removed or changed. While it stays the
    /// same, cached results for `topic` hold.
    ///
    /// Now and then it changes for another filter too, see [`GenerationBucket`](crate::GenerationBucket); in a trie of a
    /// few filters for every one.
    pub fn generation(&self, topic: &TopicName) -> u64 {
        self.generations.of_topic(topic)
    }

    /// All filters and values. The order has no meaning, and is the same after the same inserts and removes.
    pub fn iter(&self) -> impl Iterator<Item = (TopicFilterBuf, &V)> {
        self.nodes.iter().flat_map(move |(id, node)| {
            let ends = [
                (End::Value, node.value),
                (End::MultiLevel, node.multi_level_value),
            ];
            let ends = ends.into_iter();
            ends.filter_map(move |(end, value)| {
                let value = &self.values[value?];
                Some((self.filter_at(id, end), value))
            })
        })
    }

    /// Bytes of memory the trie takes, values included, without what values own and what the allocator adds.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.nodes.memory_bytes()
            + self.values.memory_bytes()
            + self.node_heap_bytes
            + self.generations.heap_bytes()
    }

    fn count_change(&mut self, filter: &TopicFilter) {
        self.generations.count(filter, self.values.len());
    }

    fn find(&self, filter: &TopicFilter) -> Option<Id> {
        let place = self.find_place(filter)?;
        self.nodes[place.node].value(place.end)
    }

    fn find_place(&self, filter: &TopicFilter) -> Option<Place> {
        let mut node = self.root;
        for level in filter.levels() {
            node = match level {
                MULTI_LEVEL => {
                    let end = End::MultiLevel;
                    return Some(Place { node, end });
                }
                SINGLE_LEVEL => self.nodes[node].single_level?,
                _ => {
                    let hash = self.hasher.hash(level.as_bytes());
                    let children = &self.nodes[node].children;
                    children.find(level.as_bytes(), hash, &self.nodes)?
                }
            };
        }
        let end = End::Value;
        Some(Place { node, end })
    }

    /// Adds a filter that is not there yet.
    fn insert_new(&mut self, filter: &TopicFilter, value: V) -> Id {
        let id = self.values.insert(value);
        let mut node = self.root;
        let mut end = End::Value;
        for level in filter.levels() {
            node = match level {
                MULTI_LEVEL => {
                    end = End::MultiLevel;
                    break;
                }
                SINGLE_LEVEL => self.single_level_or_new(node),
                _ => self.child_or_new(node, level),
            };
        }
        *self.nodes[node].value_mut(end) = Some(id);
        id
    }

    fn single_level_or_new(&mut self, parent: Id) -> Id {
        if let Some(node) = self.nodes[parent].single_level {
            return node;
        }
        let node = self.nodes.insert(Node::new(SINGLE_LEVEL, Some(parent)));
        self.nodes[parent].single_level = Some(node);
        node
    }

    fn child_or_new(&mut self, parent: Id, level: &str) -> Id {
        let hash = self.hasher.hash(level.as_bytes());
        let children = &self.nodes[parent].children;
        if let Some(child) = children.find(level.as_bytes(), hash, &self.nodes) {
            return child;
        }
        let child = self.nodes.insert(Node::new(level, Some(parent)));
        self.node_heap_bytes += self.nodes[child].level.heap_bytes();
        self.change_children(parent, |children, hash_of| {
            children.insert(Child::new(child, hash), hash_of);
        });
        child
    }

    /// Removes `node` and its ancestors, as far as they lead to no value.
    fn prune(&mut self, mut node: Id) {
        while self.nodes[node].is_unused()
            && let Some(parent) = self.nodes[node].parent
        {
            if self.nodes[parent].single_level == Some(node) {
                self.nodes[parent].single_level = None;
            } else {
                let hash = self.hasher.hash(self.nodes[node].level.as_bytes());
                self.change_children(parent, |children, _| {
                    children.remove(&Child::new(node, hash));
                });
            }
            let removed = self.nodes.remove(node);
            self.node_heap_bytes -= removed.level.heap_bytes();
            node = parent;
        }
    }

    /// Lends out a node's children, with the hashes of all nodes.
    fn change_children(
        &mut self,
        parent: Id,
        change: impl FnOnce(&mut Children, &dyn Fn(Id) -> LevelHash),
    ) {
        let mut children = mem::replace(&mut self.nodes[parent].children, Children::NONE);
        self.node_heap_bytes -= children.heap_bytes();
        change(&mut children, &|id| {
            self.hasher.hash(self.nodes[id].level.as_bytes())
        });
        self.node_heap_bytes += children.heap_bytes();
        self.nodes[parent].children = children;
    }

    fn compact(&mut self) {
        if let Some(moves) = self.nodes.compact() {
            moves.apply(&mut self.root);
            self.nodes.iter_mut().for_each(|node| node.apply(&moves));
        }
        if let Some(moves) = self.values.compact() {
            for node in self.nodes.iter_mut() {
                moves.apply_to_option(&mut node.value);
                moves.apply_to_option(&mut node.multi_level_value);
            }
        }
    }

    /// The filter whose value is at `end` of `node`.
    fn filter_at(&self, node: Id, end: End) -> TopicFilterBuf {
        let mut levels = Vec::new();
        let mut node = &self.nodes[node];
        while let Some(parent) = node.parent {
            levels.push(node.level.as_str());
            node = &self.nodes[parent];
        }
        levels.reverse();
        if let End::MultiLevel = end {
            levels.push(MULTI_LEVEL);
        }
        let text = levels.join(SEPARATOR.encode_utf8(&mut [0; 4]));
        // The levels of a filter, put together again.
        byte_str::cast_topic_filter(&text).to_owned()
    }
}

impl<V> Default for FilterTrie<V> {
    fn default() -> FilterTrie<V> {
        FilterTrie::new()
    }
}

impl<V: fmt::Debug> fmt::Debug for FilterTrie<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// A prefix of filters: the path from the root to this node.
struct Node {
    /// The last level of the path; the root's is empty and has no meaning.
    level: LevelText,
    children: Children,
    parent: Option<Id>,
    /// The child for the level `+`.
    single_level: Option<Id>,
    /// The value of the filter that ends here.
    value: Option<Id>,
    /// The value of the filter that has `#` as its next and last level.
    multi_level_value: Option<Id>,
}

impl Node {
    fn new(level: &str, parent: Option<Id>) -> Node {
        Node {
            level: LevelText::new(level),
            children: Children::NONE,
            parent,
            single_level: None,
            value: None,
            multi_level_value: None,
        }
    }

    fn value(&self, end: End) -> Option<Id> {
        match end {
            End::Value => self.value,
            End::MultiLevel => self.multi_level_value,
        }
    }

    fn value_mut(&mut self, end: End) -> &mut Option<Id> {
        match end {
            End::Value => &mut self.value,
            End::MultiLevel => &mut self.multi_level_value,
        }
    }

    fn is_unused(&self) -> bool {
        self.value.is_none()
            && self.multi_level_value.is_none()
            && self.single_level.is_none()
            && self.children.is_empty()
    }

    fn apply(&mut self, moves: &Moves) {
        self.children.apply(moves);
        moves.apply_to_option(&mut self.parent);
        moves.apply_to_option(&mut self.single_level);
    }
}

/// Where a filter's value is.
struct Place {
    node: Id,
    end: End,
}

#[derive(Clone, Copy)]
enum End {
    /// The filter ends with the node's own level.
    Value,
    /// The filter ends with `#` below the node.
    MultiLevel,
}

const _: () = assert!(size_of::<Node>() == 56);
