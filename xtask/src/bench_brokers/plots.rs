//! The plots of docs/plots.

mod bars;
mod canvas;
mod lines;
mod scale;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use self::bars::{Bar, Bars, Group};
use self::lines::{Lines, Panel, Series};
use super::brokers::{KINDS, Kind};
use super::summary::{Cell, Summary};
use super::workloads::{self, Figure, Table, Workload};

/// Draws all plots for which there are results into this folder, and returns where they are.
pub(super) fn draw(summary: &Summary, folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let made = fs::create_dir_all(folder);
    made.map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    let mut written = Vec::new();
    for (name, document) in documents(summary) {
        let path = folder.join(name);
        let saved = svg::save(&path, &document);
        saved.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        written.push(path);
    }
    Ok(written)
}

fn documents(summary: &Summary) -> Vec<(&'static str, svg::Document)> {
    let mut documents = Vec::new();
    for (name, title, table, workloads) in COMPARISONS {
        let groups = groups(summary, table, workloads);
        if !groups.is_empty() {
            documents.push((name, Bars { title, groups }.draw()));
        }
    }
    for (name, title, across, panels) in GROWTHS {
        let panels: Vec<_> = panels
            .iter()
            .map(|(title, points)| panel(summary, title, points))
            .filter(|panel| !panel.series.is_empty())
            .collect();
        if !panels.is_empty() {
            let lines = Lines {
                title,
                across,
                panels,
            };
            documents.push((name, lines.draw()));
        }
    }
    documents
}

/// A group of bars for each of these workloads' figures that belong into this table.
fn groups(summary: &Summary, table: Table, names: &[&str]) -> Vec<Group> {
    let mut groups = Vec::new();
    for workload in names.iter().filter_map(|name| workloads::named(name).ok()) {
        for figure in workload
            .figures
            .iter()
            .filter(|figure| figure.table == table)
        {
            let bars: Vec<_> = shown()
                .filter_map(|kind| {
                    let (number, is_clean) = number(summary, workload, figure, kind)?;
                    Some(Bar {
                        kind,
                        number,
                        is_clean,
                    })
                })
                .collect();
            if !bars.is_empty() {
                groups.push(Group {
                    workload: workload.title,
                    figure: figure.title,
                    bars,
                });
            }
        }
    }
    groups
}

/// A line for each broker that has been measured at more than one of these sizes.
fn panel(summary: &Summary, title: &'static str, points: &[(f64, &str)]) -> Panel {
    let mut series = Vec::new();
    for kind in shown() {
        let measured = points.iter().filter_map(|&(size, name)| {
            let workload = workloads::named(name).ok()?;
            let figure = workload
                .figures
                .iter()
                .find(|figure| figure.title == title)?;
            let (number, _) = number(summary, workload, figure, kind)?;
            Some((size, number))
        });
        let points: Vec<_> = measured.collect();
        if points.len() > 1 {
            series.push(Series { kind, points });
        }
    }
    Panel { title, series }
}

fn number(
    summary: &Summary,
    workload: &Workload,
    figure: &Figure,
    kind: &Kind,
) -> Option<(f64, bool)> {
    match summary.cell(workload, figure, kind) {
        Cell::Measured { spread, is_clean } if spread.median > 0.0 => {
            Some((spread.median, is_clean))
        }
        _ => None,
    }
}

/// Brokers that plots show: Whimbrel in one setting is enough for a glance.
fn shown() -> impl Iterator<Item = &'static Kind> {
    KINDS
        .iter()
        .filter(|kind| !kind.is_own() || kind.name == "whimbrel")
}

/// File, title, figures and workloads of a comparison.
type Comparison = (&'static str, &'static str, Table, &'static [&'static str]);
/// Figure of a panel, and the workload at each size.
type Points = (&'static str, &'static [(f64, &'static str)]);
/// File, title, what grows, and panels.
type Growth = (&'static str, &'static str, &'static str, &'static [Points]);

const COMPARISONS: [Comparison; 3] = [
    (
        "cpu.svg",
        "CPU of the broker: microseconds on a log scale, shorter is better",
        Table::Cpu,
        GLANCE,
    ),
    (
        "throughput.svg",
        "Throughput: thousands a second on a log scale, longer is better",
        Table::Rate,
        GLANCE,
    ),
    (
        "memory.svg",
        "Memory of the broker: bytes on a log scale, shorter is better",
        Table::Memory,
        &["idle10k", "subs100k", "retained100k", "offline100k"],
    ),
];

/// The workloads that show what is to be known at a glance.
const GLANCE: &[&str] = &[
    "pairs10-q0",
    "pairs10-q1",
    "pairs10-q2",
    "pairs500-q0",
    "fanout100-q0",
    "fanin50-q1",
    "shared10-q1",
    "connect",
];

const GROWTHS: [Growth; 2] = [
    (
        "subscriptions.svg",
        "As subscriptions grow, on log scales",
        "subscriptions",
        &[
            (
                "CPU µs a delivery",
                &[
                    (1e3, "scale-subs1k"),
                    (1e4, "scale-subs10k"),
                    (1e5, "scale-subs100k"),
                    (1e6, "scale-subs1m"),
                ],
            ),
            (
                "bytes a subscription",
                &[
                    (1e4, "scale-subs10k"),
                    (1e5, "scale-subs100k"),
                    (1e6, "scale-subs1m"),
                ],
            ),
        ],
    ),
    (
        "connections.svg",
        "As connections grow, on log scales",
        "connections",
        &[
            (
                "CPU µs a delivery",
                &[
                    (1e2, "scale-pairs100"),
                    (1e3, "scale-pairs1k"),
                    (5e3, "scale-pairs5k"),
                    (1.9e4, "scale-pairs19k"),
                ],
            ),
            (
                "bytes a connection",
                &[
                    (1e2, "scale-idle100"),
                    (1e3, "scale-idle1k"),
                    (5e3, "scale-idle5k"),
                    (1.9e4, "scale-idle19k"),
                ],
            ),
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench_brokers::summary::tests::records;

    #[test]
    fn there_is_a_plot_for_what_was_measured_and_none_for_what_was_not() {
        let summary = Summary::of(records(&[
            ("whimbrel", 0.5, 2e6, &[]),
            ("whimbrel-1", 0.5, 2e6, &[]),
            ("mosquitto", 4.0, 2e5, &["1 deliveries lost"]),
        ]));
        let folder = tempfile::tempdir().expect("a folder");
        let written = draw(&summary, folder.path()).expect("it has room");
        let names: Vec<_> = written.iter().filter_map(|path| path.file_name()).collect();
        assert_eq!(names, ["cpu.svg", "throughput.svg"]);
        let text = fs::read_to_string(&written[0]).expect("a file");
        assert!(
            text.contains("10 pairs, QoS 0") && text.contains("0.50"),
            "{text}"
        );
        // Not all that mosquitto did was right.
        assert!(text.contains("4.00 †"), "{text}");
        assert!(!text.contains("1 shard"), "{text}");
    }

    #[test]
    fn every_workload_of_a_plot_is_there_and_has_the_figure() {
        for name in COMPARISONS.iter().flat_map(|comparison| comparison.3) {
            assert!(workloads::named(name).is_ok(), "{name}");
        }
        for (title, points) in GROWTHS.iter().flat_map(|growth| growth.3) {
            for (_, name) in *points {
                let workload = workloads::named(name).expect("a workload");
                let mut titles = workload.figures.iter().map(|figure| figure.title);
                assert!(titles.any(|figure| figure == *title), "{name}: {title}");
            }
        }
    }
}
