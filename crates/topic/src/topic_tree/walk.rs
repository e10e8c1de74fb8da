//! Going through a [`TopicTree`] in order, from anywhere.

use std::ops::Bound;

use super::{Node, TopicTree};
use crate::arena::Id;
use crate::levels::{Levels, SEPARATOR};
use crate::topic_filter::{MULTI_LEVEL, SINGLE_LEVEL};
use crate::{TopicFilter, TopicName, byte_str};

/// A walk over the nodes that a pattern leads to: each before its children, siblings in bytewise order of their levels.
///
/// That order depends on the nodes' paths alone. So a path is all it takes to go on later, however the tree has
/// changed in between: see [`Walk::resume`].
pub(super) struct Walk<'a, V> {
    tree: &'a TopicTree<V>,
    pattern: Pattern<'a>,
    /// Path of the node entered last.
    path: String,
    /// From the root to the node whose children are looked at next.
    frames: Vec<Frame>,
    /// Whether `path` names a child of the last frame's node, with which the walk is through, rather than that node.
    child_finished: bool,
}

/// What the walk leads to.
#[derive(Clone, Copy)]
pub(super) enum Pattern<'a> {
    /// Every node.
    All,
    /// The nodes that the filter matches, and those on the way there.
    Filter(&'a TopicFilter),
}

impl<'a, V> Walk<'a, V> {
    /// A walk that starts in front of the first node.
    pub(super) fn new(tree: &'a TopicTree<V>, pattern: Pattern<'a>) -> Walk<'a, V> {
        let root = Frame {
            node: tree.root,
            path_len: 0,
            pattern_at: 0,
        };
        Walk {
            tree,
            pattern,
            path: String::new(),
            frames: vec![root],
            child_finished: false,
        }
    }

    /// A walk that goes on after the node with this path, which need not be there any more.
    pub(super) fn resume(
        tree: &'a TopicTree<V>,
        pattern: Pattern<'a>,
        path: String,
    ) -> Walk<'a, V> {
        let mut walk = Walk::new(tree, pattern);
        for level in Levels::new(&path) {
            let parent = walk.frames[walk.frames.len() - 1];
            let step = walk.step(parent);
            let child = tree.nodes[parent.node].children.get(level);
            // Without `next_at` the path is none of this pattern's; nothing lies below it.
            let (Some(node), Some(pattern_at)) = (child, step.next_at) else {
                // What the path led to is gone. The walk goes on after where its ancestor was.
                walk.child_finished = true;
                let start = walk.child_start();
                walk.path.push_str(&path[..start + level.len()]);
                return walk;
            };
            let path_len = walk.child_start() + level.len();
            walk.frames.push(Frame {
                node,
                path_len: path_len as u32,
                pattern_at,
            });
        }
        walk.path = path;
        walk
    }

    /// Enters the next node.
    pub(super) fn advance(&mut self) -> Option<&'a Node<V>> {
        loop {
            let frame = *self.frames.last()?;
            let step = self.step(frame);
            let tree = self.tree;
            let children = &tree.nodes[frame.node].children;
            let child = match step.children {
                Wanted::None => None,
                Wanted::Named(_) if self.child_finished => None,
                Wanted::Named(level) => children.get(level).map(|id| (level, id)),
                Wanted::All => {
                    let finished = self
                        .child_finished
                        .then(|| &self.path[self.child_start()..]);
                    children.next(finished.map_or(Bound::Unbounded, Bound::Excluded))
                }
            };
            let is_root = self.frames.len() == 1;
            let child = match child {
                // [MQTT-4.7.2-1]. At once behind all levels that start with `$`, of which there may be many.
                Some((level, _)) if is_root && step.is_wildcard && level.starts_with('$') => {
                    children.next(Bound::Included(AFTER_DOLLAR))
                }
                child => child,
            };
            match (child, step.next_at) {
                (Some((level, node)), Some(pattern_at)) => {
                    self.path.truncate(frame.path_len as usize);
                    if !is_root {
                        self.path.push(SEPARATOR);
                    }
                    self.path.push_str(level);
                    self.frames.push(Frame {
                        node,
                        // Every path is that of a topic name, shorter than 2^16.
                        path_len: self.path.len() as u32,
                        pattern_at,
                    });
                    self.child_finished = false;
                    return Some(&tree.nodes[node]);
                }
                _ => {
                    self.path.truncate(frame.path_len as usize);
                    self.frames.pop();
                    self.child_finished = true;
                }
            }
        }
    }

    /// Whether the pattern matches the node entered last.
    pub(super) fn is_match(&self) -> bool {
        let frame = self.frames.last();
        frame.is_some_and(|frame| self.step(*frame).matches_here)
    }

    /// The path of the node entered last. Only of use for nodes with a value.
    pub(super) fn name(&self) -> &TopicName {
        // A path to a value is the name it was inserted by.
        byte_str::cast_topic_name(&self.path)
    }

    pub(super) fn into_path(self) -> String {
        self.path
    }

    /// Where in `path` the level of a child of the last frame's node starts.
    fn child_start(&self) -> usize {
        match self.frames.as_slice() {
            [] | [_] => 0,
            [.., frame] => frame.path_len as usize + SEPARATOR.len_utf8(),
        }
    }

    fn step(&self, frame: Frame) -> Step<'a> {
        let Pattern::Filter(filter) = self.pattern else {
            return Step {
                matches_here: true,
                children: Wanted::All,
                is_wildcard: false,
                next_at: Some(0),
            };
        };
        let at = frame.pattern_at as usize;
        let Some(rest) = filter.as_str().get(at..) else {
            return Step {
                matches_here: true,
                children: Wanted::None,
                is_wildcard: false,
                next_at: None,
            };
        };
        let level = rest.split(SEPARATOR).next().unwrap_or(rest);
        let is_multi = level == MULTI_LEVEL;
        let is_wildcard = is_multi || level == SINGLE_LEVEL;
        let children = if is_wildcard {
            Wanted::All
        } else {
            Wanted::Named(level)
        };
        // `#` stays the next level for all that is below.
        let next_at = if is_multi { at } else { at + level.len() + 1 };
        Step {
            // Also the parent level of `#` [U5-101].
            matches_here: is_multi,
            children,
            is_wildcard,
            next_at: Some(next_at as u32),
        }
    }
}

/// A node on the way to where the walk is.
#[derive(Clone, Copy)]
struct Frame {
    node: Id,
    /// Bytes of the path to this node.
    path_len: u32,
    /// Byte offset of the filter's level that the node's children have to match; past its end when there is none.
    pattern_at: u32,
}

/// What the pattern says about one node.
struct Step<'a> {
    matches_here: bool,
    children: Wanted<'a>,
    is_wildcard: bool,
    /// The children's `pattern_at`; `None` if none are wanted.
    next_at: Option<u32>,
}

enum Wanted<'a> {
    None,
    Named(&'a str),
    All,
}

/// The least text after all that start with `$`.
const AFTER_DOLLAR: &str = "%";
