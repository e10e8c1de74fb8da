//! [`explore`]: every state that any order of the possible steps leads to.

use std::collections::HashSet;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::time::{Duration, Instant};

use super::model::{Choices, Fingerprint, StateText, World};
use crate::Finding;

/// How much was explored, and what was found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Exploration {
    /// Distinct states.
    pub states: u64,
    /// Steps taken, one for each choice of each state.
    pub transitions: u64,
    /// States in which nothing was left to happen but faults.
    pub terminal_states: u64,
    /// Steps of the longest path that was taken.
    pub depth: usize,
    /// How long it took.
    pub elapsed: Duration,
    /// The first rule that was broken.
    pub violation: Option<Violation>,
}

/// A broken rule and the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub finding: Finding,
    /// What happened, step by step.
    pub path: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, line) in self.path.iter().enumerate() {
            writeln!(f, "{:>4}  {line}", number + 1)?;
        }
        write!(f, "{}", self.finding)
    }
}

/// Explores everything that can happen, depth first, and stops at the first broken rule.
///
/// Besides the rules of the world itself it finds runs that never end: a state that follows from
/// itself without a fault, or a path longer than `DEPTH_MAX`. A finite graph without such a cycle has
/// only runs that come to rest, so what holds in every terminal state holds in the end of every run.
pub(crate) fn explore<W: World>(begin: impl Fn() -> W) -> Exploration {
    let begun = Instant::now();
    let mut search = Search {
        begin,
        visited: HashSet::new(),
        frames: Vec::new(),
        path: Vec::new(),
        text: StateText::default(),
        seen: Exploration {
            states: 0,
            transitions: 0,
            terminal_states: 0,
            depth: 0,
            elapsed: Duration::ZERO,
            violation: None,
        },
    };
    if let Err(finding) = search.run() {
        let path = tell(&search.begin, &search.path);
        search.seen.violation = Some(Violation { finding, path });
    }
    search.seen.elapsed = begun.elapsed();
    search.seen
}

/// The shortest way to a broken rule, breadth first; `None` if there is none, or none within
/// `SHORTEST_STATES_MAX` states.
///
/// Runs that never end are left to [`explore`].
pub(crate) fn shortest<W: World>(begin: impl Fn() -> W) -> Option<Violation> {
    let mut nodes: Vec<Node<W::Step>> = Vec::new();
    let mut visited = HashSet::new();
    let mut text = StateText::default();
    let mut next = 0;
    // The state without steps is looked at first, then each node that was added, in order.
    let mut node = None;
    loop {
        let path = path_to(&nodes, node);
        let mut choices = Choices::new();
        let world = replay(&begin, &path);
        world.choices(&mut choices);
        if choices.progress.is_empty()
            && let Some(finding) = guarded(|| world.rest()).unwrap_or_else(Some)
        {
            let path = tell(&begin, &path);
            return Some(Violation { finding, path });
        }
        for step in choices.progress.into_iter().chain(choices.faults) {
            let mut world = replay(&begin, &path);
            let taken = guarded(|| world.take(step)).err();
            if let Some(finding) = taken.or_else(|| world.finding().cloned()) {
                let path: Vec<_> = path.iter().copied().chain([step]).collect();
                let path = tell(&begin, &path);
                return Some(Violation { finding, path });
            }
            text.clear();
            world.write_state(&mut text);
            if visited.insert(text.fingerprint()) {
                nodes.push(Node { parent: node, step });
            }
        }
        if next == nodes.len() || nodes.len() > SHORTEST_STATES_MAX {
            return None;
        }
        node = Some(next);
        next += 1;
    }
}

/// A state by the step that led to it first.
struct Node<S> {
    parent: Option<usize>,
    step: S,
}

fn path_to<S: Copy>(nodes: &[Node<S>], mut node: Option<usize>) -> Vec<S> {
    let mut path = Vec::new();
    while let Some(index) = node {
        path.push(nodes[index].step);
        node = nodes[index].parent;
    }
    path.reverse();
    path
}

fn replay<W: World>(begin: &impl Fn() -> W, path: &[W::Step]) -> W {
    let mut world = begin();
    for &step in path {
        world.take(step);
    }
    world
}

/// A path in words.
fn tell<W: World>(begin: &impl Fn() -> W, path: &[W::Step]) -> Vec<String> {
    let mut world = begin();
    world.narrate();
    for &step in path {
        if guarded(|| world.take(step)).is_err() {
            break;
        }
    }
    world.story()
}

struct Search<W: World, B> {
    begin: B,
    visited: HashSet<Fingerprint>,
    /// The states of the present path.
    frames: Vec<Frame<W::Step>>,
    /// The steps between them, and the one being taken.
    path: Vec<W::Step>,
    text: StateText,
    seen: Exploration,
}

struct Frame<S> {
    state: Fingerprint,
    choices: Vec<S>,
    /// How many of the choices were taken.
    next: usize,
}

impl<W: World, B: Fn() -> W> Search<W, B> {
    fn run(&mut self) -> Result<(), Finding> {
        let world = guarded(&self.begin)?;
        if let Some(finding) = world.finding() {
            return Err(finding.clone());
        }
        let state = self.fingerprint(&world);
        self.visited.insert(state);
        let mut present = self.enter(world, state)?;
        while let Some(frame) = self.frames.last_mut() {
            let Some(&step) = frame.choices.get(frame.next) else {
                self.frames.pop();
                self.path.pop();
                present = None;
                continue;
            };
            frame.next += 1;
            let mut world = match present.take() {
                Some(world) => world,
                None => replay(&self.begin, &self.path),
            };
            self.seen.transitions += 1;
            self.path.push(step);
            guarded(|| world.take(step))?;
            if let Some(finding) = world.finding() {
                return Err(finding.clone());
            }
            let state = self.fingerprint(&world);
            if self.visited.insert(state) {
                present = self.enter(world, state)?;
            } else {
                if self.frames.iter().any(|frame| frame.state == state) {
                    return Err(endless("a state follows from itself"));
                }
                self.path.pop();
            }
        }
        Ok(())
    }

    /// Counts a state that is new and opens its choices; gives the world back if it can go on.
    fn enter(&mut self, world: W, state: Fingerprint) -> Result<Option<W>, Finding> {
        let mut choices = Choices::new();
        world.choices(&mut choices);
        self.seen.states += 1;
        self.seen.depth = self.seen.depth.max(self.path.len());
        if self.path.len() > DEPTH_MAX {
            return Err(endless("a path is too long"));
        }
        let is_terminal = choices.progress.is_empty();
        let mut all = choices.progress;
        all.append(&mut choices.faults);
        self.frames.push(Frame {
            state,
            choices: all,
            next: 0,
        });
        if !is_terminal {
            return Ok(Some(world));
        }
        self.seen.terminal_states += 1;
        match guarded(|| world.rest())? {
            Some(finding) => Err(finding),
            None => Ok(None),
        }
    }

    fn fingerprint(&mut self, world: &W) -> Fingerprint {
        self.text.clear();
        world.write_state(&mut self.text);
        self.text.fingerprint()
    }
}

/// A panic of the explored code is a finding like any other.
fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, Finding> {
    panic::catch_unwind(AssertUnwindSafe(run)).map_err(|panic| Finding {
        rule: "panic",
        detail: panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default(),
    })
}

fn endless(detail: &str) -> Finding {
    Finding {
        rule: "a run has no end",
        detail: detail.to_owned(),
    }
}

/// Many times more than the scopes need.
const DEPTH_MAX: usize = 1_000;

/// So that telling of a violation takes no longer than finding it.
const SHORTEST_STATES_MAX: usize = 200_000;
