//! The results as markdown.

use std::fmt::{self, Write};

use super::brokers::Kind;
use super::statistics::digits;
use super::summary::{Cell, Summary};
use super::workloads::{Figure, Set, Table, Workload};

/// Where and how it was measured, and where Whimbrel loses.
pub(super) fn losses(summary: &Summary) -> String {
    let mut text = String::new();
    let written = write_origin(summary, &mut text).and_then(|()| write_losses(summary, &mut text));
    written.expect("a string takes all");
    text
}

/// All figures, and what was wrong.
pub(super) fn tables(summary: &Summary) -> String {
    let mut text = String::new();
    let write = |table: &(&str, Table)| write_table(summary, table.0, table.1, &mut text);
    let written = TABLES.iter().try_for_each(write);
    let written = written.and_then(|()| write_faults(summary, &mut text));
    written.expect("a string takes all");
    text
}

fn write_origin(summary: &Summary, text: &mut String) -> fmt::Result {
    for session in &summary.sessions {
        let machine = &session.machine;
        writeln!(
            text,
            "    {}\n\n{} UTC, commit `{}`: {} cores ({}), {:.0} GB, {}.\n",
            session.command,
            machine.date,
            machine.commit,
            machine.cores,
            machine.cpu,
            machine.memory_bytes as f64 / 1e9,
            machine.system
        )?;
        if let Some(note) = &session.note {
            writeln!(text, "{note}\n")?;
        }
    }
    if let Some(others) = summary.others() {
        let percent = others * 100.0;
        let judgement = if others < QUIET_MAX {
            "nothing to speak of"
        } else {
            "so the spread is wide, and times that pass say little"
        };
        writeln!(
            text,
            "In the middle run other work took {percent:.0} % of the machine: {judgement}."
        )?;
    }
    writeln!(
        text,
        "Each figure is the median of {} interleaved runs (least–most), each on a freshly started broker; ×0.10 is a tenth of\n\
         mosquitto's. Payloads have 64 bytes. Brokers: {}.\n",
        summary.repeats(),
        versions(summary)
    )
}

fn versions(summary: &Summary) -> String {
    let versions = summary.versions();
    let mut told = Vec::new();
    for kind in &summary.brokers {
        let version = versions.get(kind.name).copied().unwrap_or("unknown");
        if !kind.is_own() {
            told.push(format!("{} ({version})", kind.title));
        } else if kind.name == "whimbrel" {
            told.push(format!("{} ({version}, in memory, 2 shards)", kind.title));
        }
    }
    told.join(", ")
}

fn write_losses(summary: &Summary, text: &mut String) -> fmt::Result {
    let losses = summary.losses();
    writeln!(text, "### Where Whimbrel loses to another broker\n")?;
    if losses.is_empty() {
        return writeln!(
            text,
            "In none of these figures another broker is ahead that did its work right.\n"
        );
    }
    writeln!(text, "| workload | figure | Whimbrel | best | factor |")?;
    writeln!(text, "|---|---|---:|---:|---:|")?;
    for loss in losses {
        writeln!(
            text,
            "| {} | {} | {} | {} {} | {} |",
            loss.workload.title,
            loss.figure.title,
            digits(loss.own),
            loss.winner.title,
            digits(loss.other),
            digits(loss.factor())
        )?;
    }
    writeln!(text)
}

fn write_table(summary: &Summary, title: &str, table: Table, text: &mut String) -> fmt::Result {
    let rows: Vec<_> = summary
        .workloads
        .iter()
        .filter(|workload| workload.set != Set::Scale)
        .flat_map(|&workload| {
            workload
                .figures
                .iter()
                .map(move |figure| (workload, figure))
        })
        .filter(|(_, figure)| figure.table == table)
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(text, "### {title}\n")?;
    let titles = summary.brokers.iter().map(|kind| kind.title);
    writeln!(text, "| | {} |", titles.collect::<Vec<_>>().join(" | "))?;
    writeln!(text, "|---|{}", "---:|".repeat(summary.brokers.len()))?;
    for (workload, figure) in rows {
        write!(text, "| {}, {} |", workload.title, figure.title)?;
        for broker in &summary.brokers {
            write!(text, " {} |", cell(summary, workload, figure, broker))?;
        }
        writeln!(text)?;
    }
    writeln!(text)
}

fn cell(summary: &Summary, workload: &Workload, figure: &Figure, broker: &Kind) -> String {
    match summary.cell(workload, figure, broker) {
        Cell::Absent => broker.lacks(workload).unwrap_or("–").to_owned(),
        Cell::Failed => format!("fails{UNCLEAN}"),
        Cell::Measured { spread, is_clean } => {
            let mut text = digits(spread.median);
            if spread.least < spread.most {
                let _ = write!(text, " ({}–{})", digits(spread.least), digits(spread.most));
            }
            if let Some(reference) = summary.reference().filter(|kind| kind.name != broker.name)
                && let Cell::Measured { spread: other, .. } =
                    summary.cell(workload, figure, reference)
                && other.median > 0.0
            {
                let _ = write!(text, " ×{}", digits(spread.median / other.median));
            }
            if !is_clean {
                text.push_str(UNCLEAN);
            }
            text
        }
    }
}

fn write_faults(summary: &Summary, text: &mut String) -> fmt::Result {
    let bound = summary.generator_bound();
    if !bound.is_empty() {
        let bound = bound.into_iter().map(|(workload, broker, share)| {
            let percent = share * 100.0;
            format!("{} on {} ({percent:.0} %)", workload.title, broker.title)
        });
        writeln!(
            text,
            "The generator's thread had no time left, so that throughput is its own and not the broker's, in: {}.\n",
            bound.collect::<Vec<_>>().join("; ")
        )?;
    }
    let faults = summary.faults();
    if faults.is_empty() {
        return writeln!(
            text,
            "No run lost, repeated, reordered, corrupted or misrouted a message."
        );
    }
    writeln!(text, "Runs that were not right:\n")?;
    for (workload, broker, fault) in faults {
        writeln!(text, "- {}, {}: {fault}", workload.title, broker.title)?;
    }
    Ok(())
}

const TABLES: [(&str, Table); 4] = [
    ("CPU of the broker", Table::Cpu),
    ("Throughput", Table::Rate),
    ("Memory", Table::Memory),
    ("Latency", Table::Latency),
];
/// Behind a figure of which not all runs were right.
const UNCLEAN: &str = " †";
/// Less than this share of a machine is what a system does for itself.
const QUIET_MAX: f64 = 0.05;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench_brokers::results::Record;
    use crate::bench_brokers::summary::tests::{records, run};

    fn markdown(summary: &Summary) -> String {
        losses(summary) + &tables(summary)
    }

    #[test]
    fn a_row_has_medians_spreads_shares_and_marks() {
        let mut records = records(&[
            ("whimbrel", 0.5, 2e6, &[]),
            ("whimbrel", 0.3, 2e6, &[]),
            ("mosquitto", 4.0, 2e5, &[]),
            ("rumqttd", 2.0, 4e5, &["7 deliveries lost"]),
        ]);
        records.push(Record::Run(run("nats", 0, None, Some("it did not start"))));
        let text = markdown(&Summary::of(records));
        let row = "| 10 pairs, QoS 0, CPU µs a delivery | 0.40 (0.30–0.50) ×0.10 | 4.00 | \
                   fails † | 2.00 ×0.50 † |";
        assert!(text.contains(row), "{text}");
        assert!(text.contains(
            "| | Whimbrel | mosquitto | nats-server | rumqttd |\n|---|---:|---:|---:|---:|\n"
        ));
        assert!(text.contains("- 10 pairs, QoS 0, rumqttd: 7 deliveries lost\n"));
        assert!(text.contains("- 10 pairs, QoS 0, nats-server: it did not start\n"));
        assert!(text.contains("commit `abc1234`: 2 cores (Some CPU), 9 GB, Linux 6"));
        assert!(text.contains("\n\nTaken in a test.\n\n"));
        assert!(text.contains("other work took 10 % of the machine"));
        assert!(text.contains("the median of 2 interleaved runs"));
        assert!(text.contains("mosquitto (2.0)"));
        // Memory and latency are no figures of this workload.
        assert!(!text.contains("### Memory"));
    }

    #[test]
    fn where_nothing_was_lost_that_is_said() {
        let text = markdown(&Summary::of(records(&[
            ("whimbrel", 0.5, 2e6, &[]),
            ("mosquitto", 4.0, 2e5, &[]),
        ])));
        assert!(text.contains("In none of these figures another broker is ahead"));
        assert!(text.contains("No run lost, repeated"));
        assert!(!text.contains('†'));
    }

    #[test]
    fn where_another_is_ahead_that_comes_before_the_tables() {
        let text = markdown(&Summary::of(records(&[
            ("whimbrel", 0.5, 2e6, &[]),
            ("mosquitto", 0.25, 2e5, &[]),
        ])));
        let row = "| 10 pairs, QoS 0 | CPU µs a delivery | 0.50 | mosquitto 0.25 | 2.00 |";
        let (loss, table) = (text.find(row), text.find("### CPU"));
        assert!(loss.is_some() && loss < table, "{text}");
    }
}
