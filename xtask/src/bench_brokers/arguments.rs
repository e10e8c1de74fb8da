//! The command line of `cargo xtask bench-brokers`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use super::brokers::{self, Kind};
use super::workloads::{self, Workload};

/// Loads brokers with `whimbrel bench`, interleaved, and compares what they cost.
///
/// Builds Whimbrel for release, finds the other brokers that are installed, and says how to install those that are not.
/// Each run is on a freshly started broker on a free loopback port. Prints a markdown table and writes every run to
/// OUT/results.jsonl, a JSON object a line.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench-brokers", disable_version_flag = true)]
pub(super) struct Arguments {
    /// Runs of each workload on each broker
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(super) repeats: u32,

    /// Brokers, separated by commas [default: all that are found, but for whimbrel-8]
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = brokers::named)]
    pub(super) brokers: Vec<&'static Kind>,

    /// Workloads, separated by commas [default: all, but for subs1m and those of --scale]
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = workloads::named)]
    pub(super) workloads: Vec<&'static Workload>,

    /// How long messages are sent in a run, where that is not set by the workload
    #[arg(long, value_name = "SECS", default_value = "2", value_parser = seconds)]
    pub(super) seconds: Duration,

    /// Add the workloads that show how costs grow with subscriptions and connections, on whimbrel and mosquitto
    #[arg(long)]
    pub(super) scale: bool,

    /// One run of each, of half a second: to see whether it works
    #[arg(long, conflicts_with_all = ["repeats", "seconds"])]
    pub(super) quick: bool,

    /// The longest time for one run
    #[arg(long, value_name = "SECS", default_value = "120", value_parser = seconds)]
    pub(super) timeout: Duration,

    /// Where results are written [default: bench-brokers in the target folder]
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,

    /// Use this binary and build none
    #[arg(long, value_name = "PATH")]
    pub(super) whimbrel: Option<PathBuf>,

    /// What readers are to know of these results, in a sentence
    #[arg(long, value_name = "TEXT")]
    pub(super) note: Option<String>,

    /// Write the table into docs/benchmarks.md and plots into docs/plots, too
    #[arg(long)]
    pub(super) write: bool,

    /// Run nothing: print the table of these results, and make the plots in docs/plots from them
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["quick", "scale", "out", "repeats"])]
    pub(super) plot: Vec<PathBuf>,

    /// List brokers and workloads, and end
    #[arg(long)]
    pub(super) list: bool,
}

impl Arguments {
    /// Runs of each workload on each broker.
    pub(super) fn rounds(&self) -> u32 {
        if self.quick { 1 } else { self.repeats }
    }

    /// How long messages are sent in a run.
    pub(super) fn duration(&self) -> Duration {
        if self.quick { QUICK } else { self.seconds }
    }
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    let seconds: f64 = text.parse().map_err(|_| SECONDS_EXPECTED)?;
    if !(SECONDS_MIN..=SECONDS_MAX).contains(&seconds) {
        return Err(SECONDS_EXPECTED);
    }
    Ok(Duration::from_secs_f64(seconds))
}

const QUICK: Duration = Duration::from_millis(500);
const SECONDS_MIN: f64 = 0.1;
const SECONDS_MAX: f64 = 3_600.0;
const SECONDS_EXPECTED: &str = "write a number of seconds from 0.1 to 3600";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, String> {
        let words = line.split_whitespace();
        Arguments::try_parse_from(std::iter::once("bench-brokers").chain(words))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_said_is_three_runs_of_two_seconds_of_everything() {
        let arguments = parse("").expect("it may be empty");
        assert_eq!(arguments.rounds(), 3);
        assert_eq!(arguments.duration(), Duration::from_secs(2));
        assert!(arguments.brokers.is_empty() && arguments.workloads.is_empty());
        assert!(!arguments.write && !arguments.scale);
    }

    #[test]
    fn names_are_lists_and_numbers_are_taken() {
        let line =
            "--brokers mosquitto,whimbrel --workloads pairs10-q0,connect --repeats 5 --seconds 0.5";
        let arguments = parse(line).expect("a line");
        let names: Vec<_> = arguments.brokers.iter().map(|kind| kind.name).collect();
        assert_eq!(names, ["mosquitto", "whimbrel"]);
        assert_eq!(arguments.workloads.len(), 2);
        assert_eq!(arguments.rounds(), 5);
        assert_eq!(arguments.duration(), Duration::from_millis(500));
    }

    #[test]
    fn quick_is_one_short_run() {
        let arguments = parse("--quick").expect("a line");
        assert_eq!(arguments.rounds(), 1);
        assert_eq!(arguments.duration(), QUICK);
        assert!(parse("--quick --repeats 2").is_err());
    }

    #[test]
    fn what_cannot_be_meant_is_told_with_what_can() {
        for (line, expected) in [
            ("--brokers mosquito", "mosquitto"),
            ("--workloads pairs", "pairs10-q0"),
            ("--repeats 0", "1..=100"),
            ("--seconds 0", "0.1 to 3600"),
            ("--seconds two", "0.1 to 3600"),
            ("--repeat", "--repeats"),
            ("--plot", "a value is required"),
        ] {
            let error = parse(line).expect_err("not meant");
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
