//! [`Changes`]: a plan with some of it set by hand, in a form that fits on a command line.

use std::fmt;
use std::str::FromStr;

use crate::plan::Plan;

/// What is done differently from the plan that a seed has drawn.
///
/// Nothing else is drawn anew, so that a run without one fault, feature or client stays as close
/// to the run with it as can be. The text form is a list such as `no-cuts,shards=1,silent=3`;
/// `skip=20-90` leaves out the steps from 20 up to 89.
///
/// ```
/// use whimbrel_sim::Changes;
///
/// let changes: Changes = "no-wills,shards=1,silent=3".parse()?;
/// assert_eq!(changes.to_string(), "no-wills,shards=1,silent=3");
/// # Ok::<(), whimbrel_sim::UnknownChange>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes(Vec<Change>);

/// A word that names nothing a plan has, or a value that it can't have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownChange(String);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// A fault or feature, by its place in [`SWITCHES`], is on or off.
    Switch { which: usize, on: bool },
    /// A size, by its place in [`SIZES`].
    Size { which: usize, value: usize },
    /// A client does nothing.
    Silent(usize),
    /// Steps that are left out.
    Skip { first: u64, end: u64 },
}

/// Something that is on or off.
struct Switch {
    name: &'static str,
    at: fn(&mut Plan) -> &mut bool,
}

/// Something that has a size.
struct Size {
    name: &'static str,
    at: fn(&mut Plan) -> &mut usize,
    least: usize,
    most: usize,
    /// What a shrunk run tries.
    plain: usize,
}

impl Changes {
    pub(crate) fn apply(&self, plan: &mut Plan) {
        for change in &self.0 {
            match *change {
                Change::Switch { which, on } => *(SWITCHES[which].at)(plan) = on,
                Change::Size { which, value } => *(SIZES[which].at)(plan) = value,
                Change::Skip { .. } => {}
                Change::Silent(client) => {
                    if let Some(persona) = plan.clients.get_mut(client) {
                        persona.is_silent = true;
                    }
                }
            }
        }
        plan.settle();
    }

    /// Each change that would make `plan` plainer, one at a time, after these.
    pub(crate) fn plainer(&self, plan: &mut Plan) -> Vec<Self> {
        let mut changes = Vec::new();
        for (client, persona) in plan.clients.iter().enumerate() {
            if !persona.is_silent {
                changes.push(Change::Silent(client));
            }
        }
        for (which, switch) in SWITCHES.iter().enumerate() {
            if *(switch.at)(plan) {
                changes.push(Change::Switch { which, on: false });
            }
        }
        for (which, size) in SIZES.iter().enumerate() {
            if *(size.at)(plan) != size.plain {
                let value = size.plain;
                changes.push(Change::Size { which, value });
            }
        }
        changes
            .into_iter()
            .map(|change| {
                let mut all = self.0.clone();
                all.push(change);
                Self(all)
            })
            .collect()
    }

    /// These, and steps left out: from `first` up to, not including, `end`. What is left out in all
    /// stands at the end, in order.
    pub(crate) fn skipping(&self, first: u64, end: u64) -> Self {
        let (mut skips, mut all): (Vec<Change>, Vec<Change>) = self
            .0
            .iter()
            .partition(|change| matches!(change, Change::Skip { .. }));
        skips.push(Change::Skip { first, end });
        skips.sort_by_key(|skip| match *skip {
            Change::Skip { first, .. } => first,
            _ => 0,
        });
        for skip in skips {
            match (all.last_mut(), skip) {
                (Some(Change::Skip { end: last, .. }), Change::Skip { first, end })
                    if *last >= first =>
                {
                    *last = end.max(*last);
                }
                _ => all.push(skip),
            }
        }
        Self(all)
    }

    /// Whether a step is left out.
    pub(crate) fn skips(&self, step: u64) -> bool {
        self.0.iter().any(|change| match *change {
            Change::Skip { first, end } => (first..end).contains(&step),
            _ => false,
        })
    }

    /// The last one, by itself.
    pub(crate) fn last(&self) -> Option<Self> {
        self.0.last().map(|&change| Self(vec![change]))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for Changes {
    type Err = UnknownChange;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let words = text.split(',').filter(|word| !word.is_empty());
        words.map(parse).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, change) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            match *change {
                Change::Switch { which, on } => {
                    let not = if on { "" } else { "no-" };
                    write!(f, "{not}{}", SWITCHES[which].name)?;
                }
                Change::Size { which, value } => write!(f, "{}={value}", SIZES[which].name)?,
                Change::Silent(client) => write!(f, "silent={client}")?,
                Change::Skip { first, end } => write!(f, "skip={first}-{end}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for UnknownChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a plan has no `{}`", self.0)
    }
}

impl std::error::Error for UnknownChange {}

fn parse(word: &str) -> Result<Change, UnknownChange> {
    let unknown = || UnknownChange(word.to_owned());
    let Some((name, value)) = word.split_once('=') else {
        let (name, on) = match word.strip_prefix("no-") {
            Some(name) => (name, false),
            None => (word, true),
        };
        let which = SWITCHES.iter().position(|switch| switch.name == name);
        return which
            .map(|which| Change::Switch { which, on })
            .ok_or_else(unknown);
    };
    if name == "skip" {
        return value
            .split_once('-')
            .and_then(|(first, end)| {
                let (first, end) = (first.parse().ok()?, end.parse().ok()?);
                (first < end).then_some(Change::Skip { first, end })
            })
            .ok_or_else(unknown);
    }
    let value: usize = value.parse().map_err(|_| unknown())?;
    if name == "silent" {
        return Ok(Change::Silent(value));
    }
    let which = SIZES.iter().position(|size| size.name == name);
    which
        .filter(|&which| (SIZES[which].least..=SIZES[which].most).contains(&value))
        .map(|which| Change::Size { which, value })
        .ok_or_else(unknown)
}

macro_rules! switches {
    ($($name:literal => $($field:ident).+,)+) => {
        &[$(Switch { name: $name, at: |plan| &mut plan.$($field).+ },)+]
    };
}

/// Ordered by what explains most when it is gone.
const SWITCHES: &[Switch] = switches! {
    "crashes" => faults.crashes,
    "clock-jumps" => faults.clock_jumps,
    "takeovers" => faults.takeovers,
    "cuts" => faults.cuts,
    "half-open" => faults.half_open,
    "slow-readers" => faults.slow_readers,
    "slow-backlog" => faults.slow_backlog,
    "disk-errors" => faults.disk_errors,
    "disk-full" => faults.disk_full,
    "reshards" => faults.reshards,
    "redb" => redb,
    "garbage" => faults.garbage,
    "long-pauses" => faults.long_pauses,
    "storms" => features.storms,
    "aliases" => features.aliases,
    "shared" => features.shared,
    "shared-at-least-once" => features.shared_at_least_once,
    "retained" => features.retained,
    "wills" => features.wills,
    "expiry" => features.expiry,
    "no-local" => features.no_local,
    "keep-alive" => features.keep_alive,
    "denied-topics" => features.denied_topics,
    "large-payloads" => features.large_payloads,
    "small-queues" => queues_are_small,
    "journal" => core.journal,
};

macro_rules! sizes {
    ($($name:literal => $($field:ident).+, $least:literal..=$most:expr, $plain:expr;)+) => {
        &[$(Size {
            name: $name,
            at: |plan| &mut plan.$($field).+,
            least: $least,
            most: $most,
            plain: $plain,
        },)+]
    };
}

const SIZES: &[Size] = sizes! {
    "shards" => core.shards, 1..=8, 1;
    "locals" => local_clients, 0..=8, 0;
    "link-bytes" => link_capacity, 64..=65_536, 65_536;
    "piece-bytes" => piece_max, 1..=65_536, 65_536;
    "shard-window" => core.limits.shard_window_bytes, 1..=1 << 20, 1 << 20;
    "queue-window" => core.limits.queue_window_messages, 1..=1_000, 1_000;
    "step-budget" => core.limits.step_budget, 1..=4_096, 4_096;
    "output-bytes" => core.connection.output_bytes_max, 64..=262_144, 262_144;
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn changes_are_read_as_they_are_written() {
        let text = "no-cuts,wills,shards=3,silent=0,small-queues,skip=3-9";
        let changes: Changes = text.parse().expect("known words");
        assert_eq!(changes.to_string(), text);
        let mut plan = Plan::draw(&mut Rng::new(1));
        changes.apply(&mut plan);
        assert!(!plan.faults.cuts && plan.features.wills && plan.clients[0].is_silent);
        assert!(changes.skips(3) && changes.skips(8) && !changes.skips(9));
        assert_eq!(plan.core.shards, 3);
        assert!(plan.queues_are_small && plan.core.limits.queue_messages_max < 100);
    }

    #[test]
    fn steps_left_out_are_told_once_and_in_order() {
        let changes: Changes = "skip=4-6,no-cuts".parse().expect("known words");
        let changes = changes.skipping(8, 9).skipping(5, 8);
        assert_eq!(changes.to_string(), "no-cuts,skip=4-9");
        let changes = changes.skipping(0, 2);
        assert_eq!(changes.to_string(), "no-cuts,skip=0-2,skip=4-9");
    }

    #[test]
    fn unknown_words_and_values_are_refused() {
        for text in [
            "no-bugs", "shards=0", "shards=9", "silent=x", "cuts=1", "crash", "skip=4-4",
        ] {
            let error = text.parse::<Changes>().expect_err("refused");
            assert_eq!(error, UnknownChange(text.to_owned()));
        }
    }

    #[test]
    fn the_plainest_plan_can_be_made_no_plainer() {
        let mut plan = Plan::draw(&mut Rng::new(3));
        let mut changes = Changes::default();
        while let Some(next) = changes.plainer(&mut plan).into_iter().next() {
            changes = next;
            changes.apply(&mut plan);
        }
        assert!(!plan.faults.cuts && !plan.queues_are_small && plan.core.shards == 1);
    }
}
