//! The command line.

use std::str::FromStr;
use std::time::Duration;

use whimbrel_sim::{Changes, MessageKey, Options};

/// What is asked for.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) mode: Mode,
    pub(crate) steps: u64,
    pub(crate) changes: Changes,
    pub(crate) trace: Trace,
    /// Begins no seed after so long.
    pub(crate) time_max: Option<Duration>,
    /// Seeds, or mutants, that run at a time.
    pub(crate) jobs: usize,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Mode {
    Single {
        seed: u64,
    },
    Shrink {
        seed: u64,
    },
    Sweep {
        first: u64,
        end: u64,
    },
    #[cfg(mutants)]
    Mutant {
        which: whimbrel_sim::mutants::Mutant,
        first: u64,
        end: u64,
    },
    #[cfg(mutants)]
    Mutants {
        first: u64,
        end: u64,
    },
}

/// What is printed of a single run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trace {
    Nothing,
    Everything,
    Message(MessageKey),
}

impl Command {
    /// Reads the arguments; the error says which one can't be understood.
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments = arguments.peekable();
        let mut seeds = None;
        let mut seed = None;
        let mut shrinks = false;
        #[cfg(mutants)]
        let mut mutants = None;
        let mut command = Self {
            mode: Mode::Single { seed: 0 },
            steps: STEPS,
            changes: Changes::default(),
            trace: Trace::Nothing,
            time_max: None,
            jobs: 1,
        };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--seed" => seed = Some(value(&argument, arguments.next())?),
                "--seeds" => seeds = Some(range(arguments.next())?),
                "--steps" => command.steps = value(&argument, arguments.next())?,
                "--plan" => command.changes = value(&argument, arguments.next())?,
                "--jobs" => command.jobs = value::<usize>(&argument, arguments.next())?.max(1),
                "--minutes" => {
                    let minutes: u64 = value(&argument, arguments.next())?;
                    command.time_max = Some(Duration::from_secs(minutes * 60));
                }
                "--shrink" => shrinks = true,
                "--trace" => {
                    let key = arguments.next_if(|next| !next.starts_with("--"));
                    command.trace = match key {
                        Some(key) => Trace::Message(value(&argument, Some(key))?),
                        None => Trace::Everything,
                    };
                }
                #[cfg(mutants)]
                "--mutants" => mutants = Some(None),
                #[cfg(mutants)]
                "--mutant" => {
                    let name: String = value(&argument, arguments.next())?;
                    mutants = Some(Some(crate::mutants::named(&name)?));
                }
                _ => return Err(format!("unknown argument `{argument}`")),
            }
        }
        #[cfg(mutants)]
        let seeds = seeds.or(mutants.map(|_| 0..MUTANT_SEEDS));
        let seeds = seeds.unwrap_or(0..SEEDS);
        command.mode = match seed {
            Some(seed) if shrinks => Mode::Shrink { seed },
            Some(seed) => Mode::Single { seed },
            None if shrinks => return Err("--shrink needs --seed".to_owned()),
            None => Mode::Sweep {
                first: seeds.start,
                end: seeds.end,
            },
        };
        #[cfg(mutants)]
        if let Some(which) = mutants {
            let (first, end) = match seed {
                Some(seed) => (seed, seed + 1),
                None => (seeds.start, seeds.end),
            };
            command.mode = match which {
                Some(which) => Mode::Mutant { which, first, end },
                None => Mode::Mutants { first, end },
            };
        }
        Ok(command)
    }

    /// The options of one seed's run.
    pub(crate) fn options(&self, seed: u64) -> Options {
        let mut options = Options::new(seed, self.steps);
        options.changes = self.changes.clone();
        options
    }
}

/// The command that shows a run again.
pub(crate) fn again(options: &Options) -> String {
    let mut command = format!(
        "cargo xtask sim --seed {} --steps {}",
        options.seed, options.steps
    );
    if !options.changes.is_empty() {
        command = format!("{command} --plan {}", options.changes);
    }
    command
}

fn value<T: FromStr>(name: &str, text: Option<String>) -> Result<T, String> {
    let text = text.ok_or_else(|| format!("{name} needs a value"))?;
    text.parse()
        .map_err(|_| format!("{name} can't be `{text}`"))
}

fn range(text: Option<String>) -> Result<std::ops::Range<u64>, String> {
    let text: String = value("--seeds", text)?;
    text.split_once("..")
        .and_then(|(first, end)| Some(first.parse().ok()?..end.parse().ok()?))
        .filter(|range| !range.is_empty())
        .ok_or_else(|| format!("--seeds is a range such as 0..100, not `{text}`"))
}

const SEEDS: u64 = 100;
/// A planted bug that survives so many is a hole in the oracle.
#[cfg(mutants)]
const MUTANT_SEEDS: u64 = 2_000;
const STEPS: u64 = 10_000;

pub(crate) const USAGE: &str = "usage: whimbrel-sim [--seed N | --seeds A..B] [options]

  --seed N        run one seed
  --seeds A..B    run the seeds from A up to, not including, B (default 0..100)
  --steps M       steps of each run before its quiet end (default 10000)
  --plan CHANGES  change what seeds draw, as in no-cuts,shards=1,silent=3
  --trace         with --seed: print everything that happens
  --trace mC.N    with --seed: print the life of the N-th message of client C
  --shrink        with --seed: look for the plainest run with the same finding
  --minutes T     begin no seed after T minutes
  --jobs J        run J seeds at a time (default 1)
  --exhaustive    explore every order of events in small worlds instead; [--scope full | --scope NAME]

in a build with --cfg mutants, also

  --mutants       run every planted bug over the seeds until it is found
  --mutant NAME   run one of them";
