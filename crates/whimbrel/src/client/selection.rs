//! [`Selection`]: which of the messages that come are shown.

use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;

use clap::Args;
use whimbrel_client::codec::topic::TopicName;

use crate::values::Filter;

#[derive(Args, Debug)]
pub(crate) struct SelectionArguments {
    /// Leave out topics that match this filter; may be repeated
    #[arg(
        short = 'T',
        long = "filter-out",
        value_name = "FILTER",
        allow_hyphen_values = true
    )]
    filter_out: Vec<Filter>,

    /// Leave out retained messages: they may be old
    #[arg(short = 'R', conflicts_with = "retained_only")]
    fresh_only: bool,

    /// Show retained messages only, and end with the first that is not
    #[arg(long)]
    pub(crate) retained_only: bool,

    /// Show this percentage of the messages, chosen at random
    #[arg(
        long,
        value_name = "PERCENT",
        default_value = "100",
        allow_hyphen_values = true
    )]
    random_filter: Percentage,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    Show,
    /// It is not shown.
    Skip,
    /// Its topic is left out: nothing is done with it.
    Ignore,
    /// No other is wanted.
    End,
}

/// Decides, message by message.
#[derive(Debug)]
pub(crate) struct Selection<'a> {
    arguments: &'a SelectionArguments,
    random: RandomState,
    seen: u64,
}

impl<'a> Selection<'a> {
    pub(crate) fn new(arguments: &'a SelectionArguments) -> Self {
        Self {
            arguments,
            random: RandomState::new(),
            seen: 0,
        }
    }

    pub(crate) fn choose(&mut self, topic: &TopicName, retain: bool) -> Choice {
        let arguments = self.arguments;
        let left_out = &arguments.filter_out;
        if left_out.iter().any(|Filter(filter)| filter.matches(topic)) {
            return Choice::Ignore;
        }
        if arguments.retained_only && !retain {
            return Choice::End;
        }
        if arguments.fresh_only && retain {
            return Choice::Skip;
        }
        self.seen += 1;
        // Seeded by the system, and spread evenly enough for a share of many.
        let drawn = self.random.hash_one(self.seen) % TENTHS;
        if drawn < arguments.random_filter.0 {
            Choice::Show
        } else {
            Choice::Skip
        }
    }
}

/// Tenths of a percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Percentage(u64);

impl FromStr for Percentage {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let percent: Option<f64> = text.parse().ok();
        let percent = percent.filter(|percent| (0.1..=100.0).contains(percent));
        percent
            .map(|percent| Self((percent * 10.0) as u64))
            .ok_or("write a percentage from 0.1 to 100")
    }
}

/// All of them.
const TENTHS: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments() -> SelectionArguments {
        SelectionArguments {
            filter_out: Vec::new(),
            fresh_only: false,
            retained_only: false,
            random_filter: Percentage(TENTHS),
        }
    }

    fn choose(arguments: &SelectionArguments, topic: &str, retain: bool) -> Choice {
        let topic = TopicName::new(topic).expect("a name");
        Selection::new(arguments).choose(topic, retain)
    }

    #[test]
    fn topics_that_are_left_out_come_before_all_else() {
        let filtered = SelectionArguments {
            filter_out: vec!["a/+".parse().expect("a filter")],
            retained_only: true,
            ..arguments()
        };
        assert_eq!(choose(&filtered, "a/b", false), Choice::Ignore);
        assert_eq!(choose(&filtered, "a", false), Choice::End);
        assert_eq!(choose(&filtered, "a", true), Choice::Show);
    }

    #[test]
    fn fresh_messages_are_those_that_are_not_retained() {
        let fresh = SelectionArguments {
            fresh_only: true,
            ..arguments()
        };
        assert_eq!(choose(&fresh, "a", true), Choice::Skip);
        assert_eq!(choose(&fresh, "a", false), Choice::Show);
    }

    #[test]
    fn a_share_of_the_messages_is_shown() {
        let quarter = SelectionArguments {
            random_filter: "25".parse().expect("a percentage"),
            ..arguments()
        };
        let mut selection = Selection::new(&quarter);
        let topic = TopicName::new("a").expect("a name");
        let shown = (0..10_000)
            .filter(|_| selection.choose(topic, false) == Choice::Show)
            .count();
        // Twelve standard deviations on either side.
        assert!((1_980..3_020).contains(&shown), "{shown}");
        for text in ["0", "100.1", "x", "-1", "NaN"] {
            assert!(text.parse::<Percentage>().is_err(), "{text}");
        }
    }
}
