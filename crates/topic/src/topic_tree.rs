//! [`TopicTree`]: values by topic name, asked by topic filter.

mod children;
mod walk;

use std::fmt;
use std::mem;
use std::ops::ControlFlow;

use self::children::Children;
use self::walk::{Pattern, Walk};
use crate::arena::{Arena, Id, Moves};
use crate::level_text::LevelText;
use crate::levels::SEPARATOR;
use crate::{TopicFilter, TopicName, TopicNameBuf};

/// A map from topic names to values, asked by topic filter: a server's retained messages.
///
/// ```
/// use std::ops::ControlFlow;
/// use whimbrel_topic::{ScanCursor, ScanState, TopicFilter, TopicName, TopicTree};
///
/// let mut tree = TopicTree::new();
/// for name in ["lamp/1/state", "lamp/2/state", "lamp/2/power", "$SYS/state"] {
///     tree.insert(TopicName::new(name)?, name.len());
/// }
/// let filter = TopicFilter::new("+/+/state")?;
/// let mut cursor = ScanCursor::new();
/// let mut found = Vec::new();
/// // Two nodes at a time; other work, also on the tree, may be done in between.
/// while let ScanState::More = tree.scan(filter, &mut cursor, 2, |name, _| {
///     found.push(name.to_string());
///     ControlFlow::Continue(())
/// }) {}
/// assert_eq!(found, ["lamp/1/state", "lamp/2/state"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Limits
///
/// One node per distinct prefix of names; the caller limits the levels of the names it lets in. Nothing recurses.
/// Memory follows the names in both directions: removing gives it back. Nothing is hashed, so no names are worse than
/// others: finding a level among *n* siblings takes time logarithmic in *n*.
pub struct TopicTree<V> {
    nodes: Arena<Node<V>>,
    root: Id,
    /// How many nodes have a value.
    len: usize,
    /// Bytes that nodes own beside their slot: children and long levels.
    node_heap_bytes: usize,
}

impl<V> TopicTree<V> {
    /// An empty tree.
    pub fn new() -> TopicTree<V> {
        let mut nodes = Arena::new();
        let root = nodes.insert(Node::new(None));
        TopicTree {
            nodes,
            root,
            len: 0,
            node_heap_bytes: 0,
        }
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no name.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of `name`.
    pub fn get(&self, name: &TopicName) -> Option<&V> {
        self.nodes[self.find(name)?].value.as_ref()
    }

    /// The value of `name`, to be changed.
    pub fn get_mut(&mut self, name: &TopicName) -> Option<&mut V> {
        let node = self.find(name)?;
        self.nodes[node].value.as_mut()
    }

    /// Sets the value of `name` and returns the one it had.
    pub fn insert(&mut self, name: &TopicName, value: V) -> Option<V> {
        let mut node = self.root;
        for level in name.levels() {
            node = match self.nodes[node].children.get(level) {
                Some(child) => child,
                None => self.insert_child(node, level),
            };
        }
        let previous = self.nodes[node].value.replace(value);
        self.len += usize::from(previous.is_none());
        previous
    }

    /// Removes `name` and returns its value.
    pub fn remove(&mut self, name: &TopicName) -> Option<V> {
        let node = self.find(name)?;
        let value = self.nodes[node].value.take()?;
        self.len -= 1;
        self.prune(node, name);
        self.compact();
        Some(value)
    }

    /// Calls `f` with the names that `filter` matches, and their values, from where `cursor` stands: level by level in
    /// bytewise order, a name before those that continue it.
    ///
    /// Goes on until `budget` nodes (of at least one) were visited, matching or not, or `f` breaks; then the cursor
    /// stands behind the node visited last. To find that place again, the next call first takes a step per level of
    /// its name.
    ///
    /// The tree may change between two calls with one cursor. A name that is there all the time is visited exactly
    /// once; one that is not, at most once. A cursor is used with one filter.
    ///
    /// A filter that starts with a wildcard does not match a name that starts with `$` [MQTT-4.7.2-1]; `#` also
    /// matches its parent level [U5-101].
    pub fn scan(
        &self,
        filter: &TopicFilter,
        cursor: &mut ScanCursor,
        budget: usize,
        f: impl FnMut(&TopicName, &V) -> ControlFlow<()>,
    ) -> ScanState {
        self.scan_pattern(Pattern::Filter(filter), cursor, budget, f)
    }

    /// Like [`scan`](TopicTree::scan) over all names, those that start with `$` included.
    pub fn scan_all(
        &self,
        cursor: &mut ScanCursor,
        budget: usize,
        f: impl FnMut(&TopicName, &V) -> ControlFlow<()>,
    ) -> ScanState {
        self.scan_pattern(Pattern::All, cursor, budget, f)
    }

    /// All names and values, in the order of [`TopicTree::scan`], names that start with `$` included.
    pub fn iter(&self) -> impl Iterator<Item = (TopicNameBuf, &V)> {
        let mut walk = Walk::new(self, Pattern::All);
        std::iter::from_fn(move || {
            loop {
                let node = walk.advance()?;
                if let Some(value) = &node.value {
                    return Some((walk.name().to_owned(), value));
                }
            }
        })
    }

    /// Bytes of memory the tree takes, values included, without what values own and what the allocator adds. An
    /// estimate, good to some ten percent.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.nodes.memory_bytes() + self.node_heap_bytes
    }

    fn scan_pattern(
        &self,
        pattern: Pattern<'_>,
        cursor: &mut ScanCursor,
        budget: usize,
        mut f: impl FnMut(&TopicName, &V) -> ControlFlow<()>,
    ) -> ScanState {
        // While `f` runs, and should it panic, the cursor is done.
        let mut walk = match mem::replace(&mut cursor.position, Position::End) {
            Position::Start => Walk::new(self, pattern),
            Position::After(path) => Walk::resume(self, pattern, path),
            Position::End => return ScanState::Done,
        };
        for _ in 0..budget.max(1) {
            let Some(node) = walk.advance() else {
                return ScanState::Done;
            };
            if walk.is_match()
                && let Some(value) = &node.value
                && f(walk.name(), value).is_break()
            {
                break;
            }
        }
        cursor.position = Position::After(walk.into_path());
        ScanState::More
    }

    fn find(&self, name: &TopicName) -> Option<Id> {
        let mut levels = name.levels();
        levels.try_fold(self.root, |node, level| {
            self.nodes[node].children.get(level)
        })
    }

    fn insert_child(&mut self, parent: Id, level: &str) -> Id {
        let child = self.nodes.insert(Node::new(Some(parent)));
        self.change_children(parent, |children| children.insert(level, child));
        self.node_heap_bytes += LevelText::heap_bytes_of(level);
        child
    }

    /// Removes `node`, which is that of `name`, and its ancestors, as far as they lead to no value.
    fn prune(&mut self, mut node: Id, name: &TopicName) {
        for level in name.as_str().rsplit(SEPARATOR) {
            let Node {
                parent: Some(parent),
                value: None,
                children,
            } = &self.nodes[node]
            else {
                return;
            };
            if !children.is_empty() {
                return;
            }
            let parent = *parent;
            self.nodes.remove(node);
            self.change_children(parent, |children| children.remove(level));
            self.node_heap_bytes -= LevelText::heap_bytes_of(level);
            node = parent;
        }
    }

    fn change_children(&mut self, parent: Id, change: impl FnOnce(&mut Children)) {
        let children = &mut self.nodes[parent].children;
        self.node_heap_bytes -= children.heap_bytes();
        change(children);
        self.node_heap_bytes += children.heap_bytes();
    }

    fn compact(&mut self) {
        if let Some(moves) = self.nodes.compact() {
            moves.apply(&mut self.root);
            self.nodes.iter_mut().for_each(|node| node.apply(&moves));
        }
    }
}

impl<V> Default for TopicTree<V> {
    fn default() -> TopicTree<V> {
        TopicTree::new()
    }
}

impl<V: fmt::Debug> fmt::Debug for TopicTree<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// How far a [`TopicTree::scan`] has come: nothing, the name of a node, or all. It holds no reference to the tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanCursor {
    position: Position,
}

impl ScanCursor {
    /// A cursor in front of everything.
    pub const fn new() -> ScanCursor {
        ScanCursor {
            position: Position::Start,
        }
    }
}

/// Whether a [`TopicTree::scan`] is through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a scan may have to be continued"]
pub enum ScanState {
    /// Everything was visited.
    Done,
    /// There may be more: call again with the same cursor.
    More,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Position {
    #[default]
    Start,
    /// Behind the node with this path, in front of its children.
    After(String),
    End,
}

/// A prefix of names: the path from the root to this node.
struct Node<V> {
    parent: Option<Id>,
    value: Option<V>,
    children: Children,
}

impl<V> Node<V> {
    fn new(parent: Option<Id>) -> Node<V> {
        Node {
            parent,
            value: None,
            children: Children::NONE,
        }
    }

    fn apply(&mut self, moves: &Moves) {
        moves.apply_to_option(&mut self.parent);
        self.children.apply(moves);
    }
}
