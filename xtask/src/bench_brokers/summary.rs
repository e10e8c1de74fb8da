//! [`Summary`]: runs put together, by workload, broker and figure.

use std::collections::BTreeMap;

use super::brokers::{self, KINDS, Kind};
use super::results::{Record, Run, Session};
use super::statistics::Spread;
use super::workloads::{Better, Figure, Set, WORKLOADS, Workload};

/// Runs put together.
#[derive(Debug)]
pub(super) struct Summary {
    /// In the order of the files.
    pub(super) sessions: Vec<Session>,
    /// In the order of tables: those that have a run.
    pub(super) brokers: Vec<&'static Kind>,
    pub(super) workloads: Vec<&'static Workload>,
    runs: BTreeMap<(String, String), Vec<Run>>,
}

/// A figure of a workload on a broker.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cell {
    /// There was no run.
    Absent,
    /// No run has come to this figure.
    Failed,
    Measured {
        spread: Spread,
        /// Whether the broker did all of them right.
        is_clean: bool,
    },
}

/// A figure in which another broker is better than Whimbrel as it comes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loss {
    pub(super) workload: &'static Workload,
    pub(super) figure: &'static Figure,
    pub(super) own: f64,
    pub(super) other: f64,
    pub(super) winner: &'static Kind,
}

impl Summary {
    /// Of these records; runs of brokers and workloads that are not known any more are left out.
    pub(super) fn of(records: Vec<Record>) -> Self {
        let mut sessions = Vec::new();
        let mut runs: BTreeMap<_, Vec<Run>> = BTreeMap::new();
        for record in records {
            match record {
                Record::Session(session) => sessions.push(session),
                Record::Run(run) => {
                    let key = (run.workload.clone(), run.broker.clone());
                    runs.entry(key).or_default().push(run);
                }
            }
        }
        let has_broker = |kind: &&Kind| runs.keys().any(|(_, broker)| broker == kind.name);
        let has_workload =
            |workload: &&Workload| runs.keys().any(|(name, _)| name == workload.name);
        Self {
            sessions,
            brokers: KINDS.iter().filter(has_broker).collect(),
            workloads: WORKLOADS.iter().filter(has_workload).collect(),
            runs,
        }
    }

    /// A figure of a workload on a broker.
    pub(super) fn cell(&self, workload: &Workload, figure: &Figure, broker: &Kind) -> Cell {
        let runs = self.runs(workload, broker);
        if runs.is_empty() {
            return Cell::Absent;
        }
        let number = |run: &Run| figure.of(run.report.as_ref()?);
        let numbers: Vec<f64> = runs.iter().filter_map(number).collect();
        let is_clean = runs.iter().all(|run| run.faults().is_empty());
        match Spread::of(&numbers) {
            Some(spread) => Cell::Measured { spread, is_clean },
            None => Cell::Failed,
        }
    }

    /// What was wrong with runs, each once: workload, broker and words.
    pub(super) fn faults(&self) -> Vec<(&'static Workload, &'static Kind, String)> {
        let mut faults = Vec::new();
        for &workload in &self.workloads {
            for &broker in &self.brokers {
                let told = self.runs(workload, broker).iter().flat_map(Run::faults);
                let mut told: Vec<_> = told.collect();
                told.dedup();
                if let Some(first) = told.into_iter().next() {
                    faults.push((workload, broker, first));
                }
            }
        }
        faults
    }

    /// Where the generator had no time left, so that throughput is its own: workload, broker and the middle share of a core
    /// that its busiest thread took.
    pub(super) fn generator_bound(&self) -> Vec<(&'static Workload, &'static Kind, f64)> {
        let mut bound = Vec::new();
        for &workload in &self.workloads {
            for &broker in &self.brokers {
                let busiest: Vec<f64> = self
                    .runs(workload, broker)
                    .iter()
                    .filter_map(Run::generator_share)
                    .collect();
                let busy = Spread::of(&busiest).map(|spread| spread.median);
                let busy = busy.filter(|&share| share > GENERATOR_BUSY_MAX);
                bound.extend(busy.map(|share| (workload, broker, share)));
            }
        }
        bound
    }

    /// Where another broker is better than Whimbrel as it comes, the largest factor first; scenes that show how costs grow
    /// are left to the plots.
    pub(super) fn losses(&self) -> Vec<Loss> {
        let Some(own) = self.brokers.iter().find(|kind| kind.is_own()) else {
            return Vec::new();
        };
        let mut losses = Vec::new();
        for &workload in &self.workloads {
            if workload.set == Set::Scale {
                continue;
            }
            for figure in workload.figures {
                let clean = |broker| match self.cell(workload, figure, broker) {
                    Cell::Measured {
                        spread,
                        is_clean: true,
                    } => Some(spread.median),
                    _ => None,
                };
                let Some(number) = clean(own) else { continue };
                let others = self.brokers.iter().filter(|kind| !kind.is_own());
                let better = others.filter_map(|&kind| {
                    let other = clean(kind)?;
                    is_better(figure, other, number).then_some((kind, other))
                });
                let best = better.reduce(|best, next| {
                    if is_better(figure, next.1, best.1) {
                        next
                    } else {
                        best
                    }
                });
                losses.extend(best.map(|(winner, other)| Loss {
                    workload,
                    figure,
                    own: number,
                    other,
                    winner,
                }));
            }
        }
        losses.sort_by(|one, two| two.factor().total_cmp(&one.factor()));
        losses
    }

    /// The middle share of the machine that other work took during a run, where it is known.
    pub(super) fn others(&self) -> Option<f64> {
        let shares: Vec<f64> = self
            .runs
            .values()
            .flatten()
            .filter_map(|run| run.others)
            .collect();
        Spread::of(&shares).map(|spread| spread.median)
    }

    /// How often the most repeated of all was run.
    pub(super) fn repeats(&self) -> usize {
        self.runs.values().map(Vec::len).max().unwrap_or(0)
    }

    /// The versions of brokers with runs.
    pub(super) fn versions(&self) -> BTreeMap<&str, &str> {
        let versions = self.sessions.iter().flat_map(|session| &session.brokers);
        let versions = versions.map(|(name, version)| (name.as_str(), version.as_str()));
        let is_here = |name: &str| self.brokers.iter().any(|kind| kind.name == name);
        versions.filter(|(name, _)| is_here(name)).collect()
    }

    /// The reference, if it has runs.
    pub(super) fn reference(&self) -> Option<&'static Kind> {
        let mut brokers = self.brokers.iter().copied();
        brokers.find(|kind| kind.name == brokers::REFERENCE)
    }

    fn runs(&self, workload: &Workload, broker: &Kind) -> &[Run] {
        let key = (workload.name.to_owned(), broker.name.to_owned());
        self.runs.get(&key).map_or(&[], Vec::as_slice)
    }
}

/// A generator that takes more of a core than this is what is measured, as `whimbrel bench` says itself.
const GENERATOR_BUSY_MAX: f64 = 0.9;

impl Loss {
    /// By how much Whimbrel is behind.
    pub(super) fn factor(&self) -> f64 {
        match self.figure.better {
            Better::Lower => self.own / self.other,
            Better::Higher => self.other / self.own,
        }
    }
}

fn is_better(figure: &Figure, one: f64, other: f64) -> bool {
    match figure.better {
        Better::Lower => one < other,
        Better::Higher => one > other,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::bench_brokers::machine::Machine;
    use crate::bench_brokers::workloads::{self, CPU_PER_DELIVERY, DELIVERIES};

    /// Records of runs of `pairs10-q0`: broker, CPU, deliveries a second, faults.
    pub(in crate::bench_brokers) fn records(runs: &[(&str, f64, f64, &[&str])]) -> Vec<Record> {
        let session = Session {
            machine: Machine {
                cpu: "Some CPU".to_owned(),
                cores: 2,
                memory_bytes: 8 << 30,
                system: "Linux 6".to_owned(),
                date: "2026-01-02 03:04".to_owned(),
                commit: "abc1234".to_owned(),
            },
            command: "cargo xtask bench-brokers".to_owned(),
            note: Some("Taken in a test.".to_owned()),
            brokers: [("mosquitto", "2.0"), ("nats", "2.9")]
                .map(|(name, version)| (name.to_owned(), version.to_owned()))
                .into(),
        };
        let record =
            |(repeat, &(broker, cpu, rate, faults)): (usize, &(&str, f64, f64, &[&str]))| {
                let report = json!({
                    "process": {"cpu_us_per_delivery": cpu},
                    "traffic": {"delivered_per_sec": rate},
                    "faults": faults,
                });
                Record::Run(run(broker, repeat, Some(report), None))
            };
        let runs = runs.iter().enumerate().map(record);
        std::iter::once(Record::Session(session))
            .chain(runs)
            .collect()
    }

    pub(in crate::bench_brokers) fn run(
        broker: &str,
        repeat: usize,
        report: Option<Value>,
        error: Option<&str>,
    ) -> Run {
        Run {
            broker: broker.to_owned(),
            workload: "pairs10-q0".to_owned(),
            repeat: u32::try_from(repeat).unwrap_or(0),
            others: Some(0.1),
            report,
            error: error.map(str::to_owned),
        }
    }

    fn cell(summary: &Summary, figure: &Figure, broker: &str) -> Cell {
        let workload = workloads::named("pairs10-q0").expect("a workload");
        summary.cell(workload, figure, brokers::named(broker).expect("a broker"))
    }

    #[test]
    fn a_cell_is_the_middle_of_its_runs_and_one_fault_is_enough() {
        let summary = Summary::of(records(&[
            ("mosquitto", 3.0, 2e5, &[]),
            ("mosquitto", 1.0, 3e5, &["1 deliveries lost"]),
            ("mosquitto", 2.0, 1e5, &[]),
        ]));
        let spread = Spread {
            median: 2.0,
            least: 1.0,
            most: 3.0,
        };
        let is_clean = false;
        assert_eq!(
            cell(&summary, &CPU_PER_DELIVERY, "mosquitto"),
            Cell::Measured { spread, is_clean }
        );
        assert_eq!(cell(&summary, &CPU_PER_DELIVERY, "nats"), Cell::Absent);
        let faults: Vec<_> = summary.faults().into_iter().map(|fault| fault.2).collect();
        assert_eq!(faults, ["1 deliveries lost"]);
    }

    #[test]
    fn runs_without_a_report_are_failures() {
        let failed = Record::Run(run("nats", 0, None, Some("it did not start")));
        let summary = Summary::of(vec![failed]);
        assert_eq!(cell(&summary, &DELIVERIES, "nats"), Cell::Failed);
        assert_eq!(summary.faults()[0].2, "it did not start");
    }

    #[test]
    fn a_generator_without_time_left_is_told() {
        let with = |broker, busy: &[f64]| {
            let report = json!({"generator": {"busy": busy}, "faults": []});
            Record::Run(run(broker, 0, Some(report), None))
        };
        let records = vec![with("whimbrel", &[0.3, 0.95]), with("mosquitto", &[0.2])];
        let summary = Summary::of(records);
        let bound = summary.generator_bound();
        let told: Vec<_> = bound.iter().map(|bound| (bound.1.name, bound.2)).collect();
        assert_eq!(told, [("whimbrel", 0.95)]);
    }

    #[test]
    fn losses_are_to_the_best_clean_other_by_the_largest_factor() {
        let summary = Summary::of(records(&[
            ("whimbrel", 1.0, 1e5, &[]),
            ("mosquitto", 2.0, 2e5, &[]),
            ("nats", 0.8, 4e5, &[]),
            // Faster, and wrong.
            ("rumqttd", 0.1, 9e5, &["5 deliveries lost"]),
        ]));
        let losses = summary.losses();
        let told: Vec<_> = losses
            .iter()
            .map(|loss| (loss.figure.title, loss.winner.name, loss.factor()))
            .collect();
        assert_eq!(
            told,
            [
                ("deliveries, thousand/s", "nats", 4.0),
                ("CPU µs a delivery", "nats", 1.25)
            ]
        );
    }
}
