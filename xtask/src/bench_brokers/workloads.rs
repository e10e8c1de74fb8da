//! [`Workload`]: what brokers are loaded with, and the [`Figure`]s that are taken of it.

use std::time::Duration;

/// One command line of `whimbrel bench`, by a name.
#[derive(Debug)]
pub(super) struct Workload {
    pub(super) name: &'static str,
    /// In words.
    pub(super) title: &'static str,
    /// Without broker and version; `SECS` stands for the duration.
    arguments: &'static str,
    pub(super) figures: &'static [Figure],
    pub(super) set: Set,
    /// What it asks of a broker beyond QoS 1 in MQTT 3.1.1.
    pub(super) needs: Needs,
}

/// When a workload is run, unless it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Set {
    /// Always.
    Main,
    /// Only when it is asked for.
    OptIn,
    /// With `--scale`, on few brokers.
    Scale,
}

/// What a workload asks of a broker beyond QoS 1 in MQTT 3.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    Nothing,
    QoS2,
    /// Shared subscriptions, which are MQTT 5.
    V5,
}

/// A number that is taken of a run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Figure {
    /// In words, with its unit.
    pub(super) title: &'static str,
    /// Where it is in the JSON report.
    pub(super) pointer: &'static str,
    pub(super) better: Better,
    /// What the number in the report is divided by.
    divisor: u32,
    pub(super) table: Table,
}

/// Which of two numbers is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Better {
    Lower,
    Higher,
}

/// The table in which a figure is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    Cpu,
    Rate,
    Memory,
    Latency,
}

impl Figure {
    /// The figure of a report, in its unit.
    pub(super) fn of(&self, report: &serde_json::Value) -> Option<f64> {
        let number = report.pointer(self.pointer)?.as_f64()?;
        Some(number / f64::from(self.divisor))
    }
}

impl Workload {
    /// The arguments of `whimbrel bench`, for messages sent so long.
    pub(super) fn command(&self, duration: Duration) -> Vec<String> {
        let seconds = duration.as_secs_f64().to_string();
        let words = self.arguments.split_whitespace();
        let words = words.map(|word| if word == "SECS" { &seconds } else { word });
        words.map(str::to_owned).collect()
    }
}

/// The workload of this name.
pub(super) fn named(name: &str) -> Result<&'static Workload, String> {
    let found = WORKLOADS.iter().find(|workload| workload.name == name);
    found.ok_or_else(|| {
        let names: Vec<_> = WORKLOADS.iter().map(|workload| workload.name).collect();
        format!("there is no such workload; there are {}", names.join(", "))
    })
}

/// All of them, in the order of tables.
pub(super) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "pairs10-q0",
        title: "10 pairs, QoS 0",
        arguments: "pairs --pairs 10 --qos 0 --in-flight 256 --duration SECS",
        figures: TRAFFIC,
        set: Set::Main,
        needs: Needs::Nothing,
    },
    Workload {
        name: "pairs10-q0-w16",
        title: "10 pairs, QoS 0, 16 in flight",
        arguments: "pairs --pairs 10 --qos 0 --in-flight 16 --duration SECS",
        figures: TRAFFIC,
        set: Set::Main,
        needs: Needs::Nothing,
    },
    Workload {
        name: "pairs10-q1",
        title: "10 pairs, QoS 1",
        arguments: "pairs --pairs 10 --qos 1 --in-flight 256 --duration SECS",
        figures: TRAFFIC,
        set: Set::Main,
        needs: Needs::Nothing,
    },
    Workload {
        name: "pairs10-q2",
        title: "10 pairs, QoS 2",
        arguments: "pairs --pairs 10 --qos 2 --in-flight 256 --duration SECS",
        figures: TRAFFIC,
        set: Set::Main,
        needs: Needs::QoS2,
    },
    Workload {
        name: "pairs500-q0",
        title: "500 pairs, QoS 0",
        arguments: "pairs --pairs 500 --qos 0 --in-flight 16 --duration SECS",
        figures: TRAFFIC,
        set: Set::Main,
        needs: Needs::Nothing,
    },
    Workload {
        name: "fanout100-q0",
        title: "1 → 100, QoS 0",
        arguments: "fan-out --publishers 1 --subscribers 100 --qos 0 --in-flight 256 --duration SECS",
        figures: TRAFFIC,
        set: Set::Main,
        needs: Needs::Nothing,
    },
    Workload {
        name: "fanout100-q1",
        title: "1 → 100, QoS 1",
        arguments: "fan-out --publishers 1 --subscribers 100 --qos 1 --in-flight 256 --duration SECS",
        figures: TRAFFIC,
        set: Set::Main,
        needs: Needs::Nothing,
    },
    Workload {
        name: "fanin50-q0",
        title: "50 → 1, QoS 0",
        arguments: "fan-in --publishers 50 --subscribers 1 --qos 0 --in-flight 256 --duration SECS",
        figures: TRAFFIC,
        set: Set::Main,
        needs: Needs::Nothing,
    },
    Workload {
        name: "fanin50-q1",
        title: "50 → 1, QoS 1",
        arguments: "fan-in --publishers 50 --subscribers 1 --qos 1 --in-flight 256 --duration SECS",
        figures: TRAFFIC,
        set: Set::Main,
        needs: Needs::Nothing,
    },
    Workload {
        name: "shared10-q1",
        title: "10 → group of 10, QoS 1, MQTT 5",
        arguments: "shared --publishers 10 --subscribers 10 --qos 1 --in-flight 256 --duration SECS",
        figures: TRAFFIC,
        set: Set::Main,
        needs: Needs::V5,
    },
    Workload {
        name: "subs100k",
        title: "through 100,000 filters, QoS 0",
        arguments: "subscriptions --clients 100 --filters 1000 --qos 0 --in-flight 256 --duration SECS",
        figures: SUBSCRIPTIONS,
        set: Set::Main,
        needs: Needs::Nothing,
    },
    Workload {
        name: "subs100k-churn",
        title: "the same, 1,000 subscribed and unsubscribed a second",
        arguments: "subscriptions --clients 100 --filters 1000 --qos 0 --in-flight 256 --churn 1000 --duration SECS",
        figures: TRAFFIC,
        set: Set::Main,
        needs: Needs::Nothing,
    },
    Workload {
        name: "subs1m",
        title: "through 1,000,000 filters, QoS 0",
        arguments: "subscriptions --clients 200 --filters 5000 --qos 0 --in-flight 256 --duration SECS",
        figures: SUBSCRIPTIONS,
        set: Set::OptIn,
        needs: Needs::Nothing,
    },
    Workload {
        name: "retained100k",
        title: "100,000 retained messages",
        arguments: "retained --messages 100000 --qos 1 --qos-sub 0 --keep --stall 20",
        figures: RETAINED,
        set: Set::Main,
        needs: Needs::Nothing,
    },
    Workload {
        name: "offline100k",
        title: "10 sessions away, 100,000 messages",
        arguments: "offline --messages 100000 --sessions 10 --qos 1 --stall 20",
        figures: OFFLINE,
        set: Set::Main,
        needs: Needs::Nothing,
    },
    Workload {
        name: "connect",
        title: "5,000 connections, 64 at a time",
        arguments: "connect --clients 5000 --parallelism 64",
        figures: CONNECT,
        set: Set::Main,
        needs: Needs::Nothing,
    },
    Workload {
        name: "idle10k",
        title: "10,000 idle connections",
        arguments: "idle --clients 10000 --duration 2",
        figures: IDLE,
        set: Set::Main,
        needs: Needs::Nothing,
    },
    Workload {
        name: "rate10k-q0",
        title: "10,000 messages/s over 10 pairs, QoS 0",
        arguments: "pairs --pairs 10 --qos 0 --rate 10000 --duration SECS",
        figures: RATE,
        set: Set::Main,
        needs: Needs::Nothing,
    },
    Workload {
        name: "rate10k-q1",
        title: "10,000 messages/s over 10 pairs, QoS 1",
        arguments: "pairs --pairs 10 --qos 1 --rate 10000 --duration SECS",
        figures: RATE,
        set: Set::Main,
        needs: Needs::Nothing,
    },
    Workload {
        name: "scale-subs1k",
        title: "through 1,000 filters, QoS 0",
        arguments: "subscriptions --clients 100 --filters 10 --qos 0 --in-flight 256 --duration SECS",
        figures: SUBSCRIPTIONS,
        set: Set::Scale,
        needs: Needs::Nothing,
    },
    Workload {
        name: "scale-subs10k",
        title: "through 10,000 filters, QoS 0",
        arguments: "subscriptions --clients 100 --filters 100 --qos 0 --in-flight 256 --duration SECS",
        figures: SUBSCRIPTIONS,
        set: Set::Scale,
        needs: Needs::Nothing,
    },
    Workload {
        name: "scale-subs100k",
        title: "through 100,000 filters, QoS 0",
        arguments: "subscriptions --clients 100 --filters 1000 --qos 0 --in-flight 256 --duration SECS",
        figures: SUBSCRIPTIONS,
        set: Set::Scale,
        needs: Needs::Nothing,
    },
    Workload {
        name: "scale-subs1m",
        title: "through 1,000,000 filters, QoS 0",
        arguments: "subscriptions --clients 100 --filters 10000 --qos 0 --in-flight 256 --duration SECS",
        figures: SUBSCRIPTIONS,
        set: Set::Scale,
        needs: Needs::Nothing,
    },
    Workload {
        name: "scale-pairs100",
        title: "100 connections in pairs, QoS 0, 4 in flight",
        arguments: "pairs --pairs 50 --qos 0 --in-flight 4 --duration SECS",
        figures: TRAFFIC,
        set: Set::Scale,
        needs: Needs::Nothing,
    },
    Workload {
        name: "scale-pairs1k",
        title: "1,000 connections in pairs, QoS 0, 4 in flight",
        arguments: "pairs --pairs 500 --qos 0 --in-flight 4 --duration SECS",
        figures: TRAFFIC,
        set: Set::Scale,
        needs: Needs::Nothing,
    },
    Workload {
        name: "scale-pairs5k",
        title: "5,000 connections in pairs, QoS 0, 4 in flight",
        arguments: "pairs --pairs 2500 --qos 0 --in-flight 4 --duration SECS",
        figures: TRAFFIC,
        set: Set::Scale,
        needs: Needs::Nothing,
    },
    Workload {
        name: "scale-pairs19k",
        title: "19,000 connections in pairs, QoS 0, 4 in flight",
        arguments: "pairs --pairs 9500 --qos 0 --in-flight 4 --duration SECS",
        figures: TRAFFIC,
        set: Set::Scale,
        needs: Needs::Nothing,
    },
    Workload {
        name: "scale-idle100",
        title: "100 idle connections",
        arguments: "idle --clients 100 --duration 2",
        figures: IDLE,
        set: Set::Scale,
        needs: Needs::Nothing,
    },
    Workload {
        name: "scale-idle1k",
        title: "1,000 idle connections",
        arguments: "idle --clients 1000 --duration 2",
        figures: IDLE,
        set: Set::Scale,
        needs: Needs::Nothing,
    },
    Workload {
        name: "scale-idle5k",
        title: "5,000 idle connections",
        arguments: "idle --clients 5000 --duration 2",
        figures: IDLE,
        set: Set::Scale,
        needs: Needs::Nothing,
    },
    Workload {
        name: "scale-idle19k",
        title: "19,000 idle connections",
        arguments: "idle --clients 19000 --duration 2",
        figures: IDLE,
        set: Set::Scale,
        needs: Needs::Nothing,
    },
];

/// Messages of QoS 0 are delivered, and of more acknowledged.
const TRAFFIC: &[Figure] = &[CPU_PER_DELIVERY, DELIVERIES];

const SUBSCRIPTIONS: &[Figure] = &[
    CPU_PER_DELIVERY,
    Figure {
        title: "subscribing, CPU µs a filter",
        pointer: "/process/cpu_us_per_subscription",
        better: Better::Lower,
        divisor: 1,
        table: Table::Cpu,
    },
    DELIVERIES,
    Figure {
        title: "bytes a subscription",
        pointer: "/process/rss_bytes_per_subscription",
        better: Better::Lower,
        divisor: 1,
        table: Table::Memory,
    },
];

const RETAINED: &[Figure] = &[
    Figure {
        title: "stored, CPU µs each",
        pointer: "/process/cpu_us_per_stored_message",
        better: Better::Lower,
        divisor: 1,
        table: Table::Cpu,
    },
    CPU_PER_DELIVERY,
    Figure {
        title: "stored, thousand/s",
        pointer: "/retained/stored_per_sec",
        better: Better::Higher,
        divisor: 1_000,
        table: Table::Rate,
    },
    Figure {
        title: "delivered, thousand/s",
        pointer: "/retained/fetched_per_sec",
        better: Better::Higher,
        divisor: 1_000,
        table: Table::Rate,
    },
    Figure {
        title: "bytes a retained message",
        pointer: "/process/rss_bytes_per_stored_message",
        better: Better::Lower,
        divisor: 1,
        table: Table::Memory,
    },
];

const OFFLINE: &[Figure] = &[
    Figure {
        title: "queued, CPU µs each",
        pointer: "/process/cpu_us_per_stored_message",
        better: Better::Lower,
        divisor: 1,
        table: Table::Cpu,
    },
    CPU_PER_DELIVERY,
    Figure {
        title: "queued, thousand/s",
        pointer: "/offline/stored_per_sec",
        better: Better::Higher,
        divisor: 1_000,
        table: Table::Rate,
    },
    Figure {
        title: "drained, thousand/s",
        pointer: "/offline/drained_per_sec",
        better: Better::Higher,
        divisor: 1_000,
        table: Table::Rate,
    },
    Figure {
        title: "bytes a queued message",
        pointer: "/process/rss_bytes_per_stored_message",
        better: Better::Lower,
        divisor: 1,
        table: Table::Memory,
    },
];

const CONNECT: &[Figure] = &[
    Figure {
        title: "CPU µs a connection",
        pointer: "/process/cpu_us_per_connection",
        better: Better::Lower,
        divisor: 1,
        table: Table::Cpu,
    },
    Figure {
        title: "connections, thousand/s",
        pointer: "/connect/per_sec",
        better: Better::Higher,
        divisor: 1_000,
        table: Table::Rate,
    },
];

const IDLE: &[Figure] = &[Figure {
    title: "bytes a connection",
    pointer: "/process/rss_bytes_per_idle_connection",
    better: Better::Lower,
    divisor: 1,
    table: Table::Memory,
}];

const RATE: &[Figure] = &[
    CPU_PER_DELIVERY,
    Figure {
        title: "latency p50, µs",
        pointer: "/traffic/latency/p50_us",
        better: Better::Lower,
        divisor: 1,
        table: Table::Latency,
    },
    Figure {
        title: "latency p99, µs",
        pointer: "/traffic/latency/p99_us",
        better: Better::Lower,
        divisor: 1,
        table: Table::Latency,
    },
];

pub(super) const CPU_PER_DELIVERY: Figure = Figure {
    title: "CPU µs a delivery",
    pointer: "/process/cpu_us_per_delivery",
    better: Better::Lower,
    divisor: 1,
    table: Table::Cpu,
};

pub(super) const DELIVERIES: Figure = Figure {
    title: "deliveries, thousand/s",
    pointer: "/traffic/delivered_per_sec",
    better: Better::Higher,
    divisor: 1_000,
    table: Table::Rate,
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    #[test]
    fn every_workload_has_a_name_of_its_own() {
        let names: BTreeSet<_> = WORKLOADS.iter().map(|workload| workload.name).collect();
        assert_eq!(names.len(), WORKLOADS.len());
    }

    #[test]
    fn the_time_goes_into_the_command() {
        let command = |name| {
            let workload = named(name).expect("a workload");
            workload.command(Duration::from_millis(1_500)).join(" ")
        };
        assert!(command("pairs10-q0").ends_with("--duration 1.5"));
        assert!(command("retained100k").contains("--messages 100000 "));
    }

    #[test]
    fn a_figure_is_read_in_its_unit_and_may_be_missing() {
        let report = json!({"traffic": {"delivered_per_sec": 2500.0}, "process": null});
        assert_eq!(DELIVERIES.of(&report), Some(2.5));
        assert_eq!(CPU_PER_DELIVERY.of(&report), None);
    }
}
