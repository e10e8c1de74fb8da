//! [`Report`]: what a run has measured and found.

use std::fmt;

use serde::Serialize;

use crate::{Findings, Percentiles};

/// What a run has measured and found. `Display` prints it as a table.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// Its name on the command line.
    pub scenario: &'static str,
    /// The broker's address.
    pub broker: String,
    /// The version of MQTT.
    pub version: String,
    /// Clients in all.
    pub clients: u64,
    /// What the run's noise and names are made of.
    pub seed: u64,
    /// The whole run, in seconds.
    pub elapsed_secs: f64,
    /// The clients' connections.
    pub connect: ConnectFigures,
    /// Messages, where the scenario sends some.
    pub traffic: Option<TrafficFigures>,
    /// Subscriptions, where the scenario is about them or some are made and ended beside.
    pub subscriptions: Option<SubscriptionFigures>,
    /// Retained messages, where the scenario is about them.
    pub retained: Option<RetainedFigures>,
    /// Messages for clients that are away, where the scenario is about them.
    pub offline: Option<OfflineFigures>,
    /// The process that was asked for.
    pub process: Option<ProcessFigures>,
    /// This tool itself.
    pub generator: GeneratorFigures,
    /// What was wrong, counted.
    pub findings: Findings,
    /// What was wrong, and was not allowed for, in words. Empty after a clean run.
    pub faults: Vec<String>,
    /// What to know when reading the figures.
    pub warnings: Vec<String>,
    /// The time was up before the run was over.
    pub timed_out: bool,
}

/// How clients connected.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct ConnectFigures {
    /// Clients whose CONNACK came.
    pub connected: u64,
    /// From the first attempt to the last CONNACK; with subscriptions, until all were made.
    pub secs: f64,
    /// Clients a second.
    pub per_sec: f64,
    /// From the attempt, or with a rate from when it was due, to CONNACK.
    pub time: Percentiles,
}

/// How messages went.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct TrafficFigures {
    /// Clients that publish.
    pub publishers: u32,
    /// Clients that subscribe.
    pub subscribers: u32,
    /// QoS of publications.
    pub qos: u8,
    /// QoS of subscriptions.
    pub qos_sub: u8,
    /// Bytes of a payload.
    pub size: usize,
    /// Messages in flight of each publisher, in a closed loop.
    pub in_flight: Option<u16>,
    /// Messages a second that were to be sent, in an open loop.
    pub rate: Option<f64>,
    /// Messages of the whole run.
    pub published: u64,
    /// Deliveries of the whole run, each counted once.
    pub delivered: u64,
    /// The time that the following figures are of, in seconds.
    pub measured_secs: f64,
    /// Messages published a second.
    pub published_per_sec: f64,
    /// Deliveries a second.
    pub delivered_per_sec: f64,
    /// Bytes of payloads delivered a second.
    pub payload_bytes_per_sec: f64,
    /// From when a message was sent, in an open loop from when it was to be sent, to its arrival.
    pub latency: Percentiles,
    /// From there to PUBACK or PUBCOMP.
    pub acknowledged: Option<Percentiles>,
    /// How late the generator itself was, in an open loop.
    pub send_delay: Option<Percentiles>,
}

/// How retained messages were stored and fetched.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct RetainedFigures {
    /// Retained messages.
    pub messages: u32,
    /// Clients that published them.
    pub publishers: u32,
    /// Clients that fetched them.
    pub subscribers: u32,
    /// QoS of publications.
    pub qos: u8,
    /// QoS of subscriptions.
    pub qos_sub: u8,
    /// Bytes of a payload.
    pub size: usize,
    /// From the first publication until all were taken.
    pub stored_secs: f64,
    /// Messages stored a second.
    pub stored_per_sec: f64,
    /// From PUBLISH to PUBACK or PUBCOMP.
    pub acknowledged: Option<Percentiles>,
    /// Retained messages that came, each counted once for each subscriber.
    pub fetched: u64,
    /// From the first SUBSCRIBE to the last message.
    pub fetch_secs: f64,
    /// Deliveries a second.
    pub fetched_per_sec: f64,
    /// From a subscriber's SUBSCRIBE to its last message.
    pub fetch: Percentiles,
}

/// How clients with many filters subscribed, and how subscriptions came and went beside the messages.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct SubscriptionFigures {
    /// Filters of all clients with many of them.
    pub filters: u64,
    /// From the first SUBSCRIBE with 100 of them to the last SUBACK.
    pub subscribe_secs: f64,
    /// Filters a second.
    pub subscribed_per_sec: f64,
    /// Subscriptions a second that one client was to make and end while messages were sent.
    pub churn_rate: Option<f64>,
    /// Those that it did, over the whole time that messages were sent.
    pub churned: u64,
    /// The same a second.
    pub churned_per_sec: f64,
}

/// How messages were stored for clients that were away, and fetched by them.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct OfflineFigures {
    /// Messages for all sessions.
    pub messages: u32,
    /// Clients that published them.
    pub publishers: u32,
    /// Clients that were away.
    pub sessions: u32,
    /// QoS of publications and subscriptions.
    pub qos: u8,
    /// Bytes of a payload.
    pub size: usize,
    /// From the first publication until all were taken.
    pub stored_secs: f64,
    /// Messages stored a second.
    pub stored_per_sec: f64,
    /// From PUBLISH to PUBACK or PUBCOMP.
    pub acknowledged: Option<Percentiles>,
    /// Messages that came, each counted once.
    pub drained: u64,
    /// From when clients began to come back to the last message.
    pub drain_secs: f64,
    /// Messages a second.
    pub drained_per_sec: f64,
    /// From when a client began to come back to its last message.
    pub drain: Percentiles,
}

/// What a process used while it was measured.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct ProcessFigures {
    /// Its number.
    pub pid: u32,
    /// User and system time, in seconds.
    pub cpu_secs: f64,
    /// Cores in use on average.
    pub cores: f64,
    /// Microseconds of CPU for each delivery.
    pub cpu_us_per_delivery: Option<f64>,
    /// Microseconds of CPU for each message published.
    pub cpu_us_per_publish: Option<f64>,
    /// Microseconds of CPU for each connection of a storm.
    pub cpu_us_per_connection: Option<f64>,
    /// Microseconds of CPU for each filter that was subscribed to, before messages were sent.
    pub cpu_us_per_subscription: Option<f64>,
    /// Microseconds of CPU for each message that was stored: retained, or for a client that was away.
    pub cpu_us_per_stored_message: Option<f64>,
    /// Resident memory before the first connection, in bytes.
    pub rss_before_bytes: u64,
    /// Resident memory with all clients connected, in bytes.
    pub rss_connected_bytes: u64,
    /// Resident memory at the end of the measured time, in bytes.
    pub rss_after_bytes: u64,
    /// What it grew by for each connection, in bytes, up to when all were connected.
    pub rss_bytes_per_connection: f64,
    /// The same at the end, of connections that have been idle for a while.
    pub rss_bytes_per_idle_connection: Option<f64>,
    /// What it grew by for each filter that was subscribed to, in bytes, all clients being connected.
    pub rss_bytes_per_subscription: Option<f64>,
    /// What it grew by for each message that was stored, in bytes, all publishers being connected.
    pub rss_bytes_per_stored_message: Option<f64>,
}

/// What this tool itself used.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct GeneratorFigures {
    /// Threads with clients.
    pub threads: usize,
    /// CPU time of each for a second of the measured time, 1.0 being a whole core. Empty where the system does not tell.
    pub busy: Vec<f64>,
}

impl Report {
    /// Whether nothing was wrong, but for what was allowed.
    pub fn is_clean(&self) -> bool {
        self.faults.is_empty()
    }
}

impl GeneratorFigures {
    /// The busiest thread's share of a core.
    pub fn busiest(&self) -> Option<f64> {
        self.busy.iter().copied().reduce(f64::max)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: {} clients, MQTT {}, {}",
            self.scenario, self.clients, self.version, self.broker
        )?;
        let connect = &self.connect;
        row(
            f,
            "connected",
            format_args!(
                "{} in {:.3} s, {:.0}/s",
                connect.connected, connect.secs, connect.per_sec
            ),
        )?;
        if let Some(subscriptions) = &self.subscriptions {
            subscriptions.fmt_rows(f)?;
        }
        if let Some(traffic) = &self.traffic {
            traffic.fmt_rows(f)?;
        }
        if let Some(retained) = &self.retained {
            retained.fmt_rows(f)?;
        }
        if let Some(offline) = &self.offline {
            offline.fmt_rows(f)?;
        }
        if let Some(process) = &self.process {
            process.fmt_rows(f)?;
        }
        if let Some(busiest) = self.generator.busiest() {
            let text = format_args!(
                "busiest of {} threads {:.0} % of a core",
                self.generator.threads,
                busiest * 100.0
            );
            row(f, "generator", text)?;
        }
        writeln!(
            f,
            "{:<14}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
            "µs", "mean", "p50", "p90", "p99", "p99.9", "max"
        )?;
        for (what, times) in self.times() {
            if times.count == 0 {
                continue;
            }
            writeln!(
                f,
                "{what:<14}{:>10.1}{:>10.1}{:>10.1}{:>10.1}{:>10.1}{:>10.1}",
                times.mean_us,
                times.p50_us,
                times.p90_us,
                times.p99_us,
                times.p999_us,
                times.max_us
            )?;
        }
        for warning in &self.warnings {
            writeln!(f, "note: {warning}")?;
        }
        for example in &self.findings.examples {
            writeln!(f, "  {example}")?;
        }
        for fault in &self.faults {
            writeln!(f, "FAULT: {fault}")?;
        }
        if self.is_clean() {
            writeln!(f, "clean")?;
        }
        Ok(())
    }
}

impl Report {
    fn times(&self) -> impl Iterator<Item = (&'static str, Percentiles)> {
        let traffic = self.traffic.as_ref();
        let retained = self.retained.as_ref();
        let offline = self.offline.as_ref();
        let acknowledged = traffic
            .and_then(|traffic| traffic.acknowledged)
            .or(retained.and_then(|retained| retained.acknowledged))
            .or(offline.and_then(|offline| offline.acknowledged));
        [
            ("connect", Some(self.connect.time)),
            ("latency", traffic.map(|traffic| traffic.latency)),
            ("acknowledged", acknowledged),
            ("send delay", traffic.and_then(|traffic| traffic.send_delay)),
            ("fetch all", retained.map(|retained| retained.fetch)),
            ("drain", offline.map(|offline| offline.drain)),
        ]
        .into_iter()
        .filter_map(|(what, times)| Some((what, times?)))
    }
}

impl TrafficFigures {
    fn fmt_rows(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pace = match (self.in_flight, self.rate) {
            (Some(in_flight), _) => format!("{in_flight} in flight each"),
            (None, Some(rate)) => format!("{rate}/s"),
            (None, None) => String::new(),
        };
        row(
            f,
            "load",
            format_args!(
                "{} publishers, {} subscribers, QoS {} to {}, {} bytes, {pace}",
                self.publishers, self.subscribers, self.qos, self.qos_sub, self.size
            ),
        )?;
        row(
            f,
            "messages",
            format_args!("{} published, {} delivered", self.published, self.delivered),
        )?;
        row(
            f,
            "throughput",
            format_args!(
                "{:.0}/s published, {:.0}/s delivered, {:.1} MB/s, over {:.3} s",
                self.published_per_sec,
                self.delivered_per_sec,
                self.payload_bytes_per_sec / 1e6,
                self.measured_secs
            ),
        )
    }
}

impl RetainedFigures {
    fn fmt_rows(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        row(
            f,
            "stored",
            format_args!(
                "{} by {} publishers at QoS {}, {} bytes: {:.3} s, {:.0}/s",
                self.messages,
                self.publishers,
                self.qos,
                self.size,
                self.stored_secs,
                self.stored_per_sec
            ),
        )?;
        row(
            f,
            "fetched",
            format_args!(
                "{} by {} subscribers at QoS {}: {:.3} s, {:.0}/s",
                self.fetched, self.subscribers, self.qos_sub, self.fetch_secs, self.fetched_per_sec
            ),
        )
    }
}

impl SubscriptionFigures {
    fn fmt_rows(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.filters > 0 {
            row(
                f,
                "subscribed",
                format_args!(
                    "{} filters: {:.3} s, {:.0}/s",
                    self.filters, self.subscribe_secs, self.subscribed_per_sec
                ),
            )?;
        }
        let Some(rate) = self.churn_rate else {
            return Ok(());
        };
        row(
            f,
            "churn",
            format_args!(
                "{} subscriptions made and ended, {:.0}/s of {rate}/s",
                self.churned, self.churned_per_sec
            ),
        )
    }
}

impl OfflineFigures {
    fn fmt_rows(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        row(
            f,
            "stored",
            format_args!(
                "{} by {} publishers for {} sessions at QoS {}, {} bytes: {:.3} s, {:.0}/s",
                self.messages,
                self.publishers,
                self.sessions,
                self.qos,
                self.size,
                self.stored_secs,
                self.stored_per_sec
            ),
        )?;
        row(
            f,
            "drained",
            format_args!(
                "{}: {:.3} s, {:.0}/s",
                self.drained, self.drain_secs, self.drained_per_sec
            ),
        )
    }
}

impl ProcessFigures {
    fn fmt_rows(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = [
            (self.cpu_us_per_delivery, "delivery"),
            (self.cpu_us_per_publish, "publish"),
            (self.cpu_us_per_connection, "connection"),
            (self.cpu_us_per_subscription, "subscription"),
            (self.cpu_us_per_stored_message, "stored message"),
        ];
        let each = each
            .into_iter()
            .filter_map(|(micros, what)| Some(format!(", {:.2} µs a {what}", micros?)));
        row(
            f,
            "broker CPU",
            format_args!(
                "{:.3} s, {:.2} cores{}",
                self.cpu_secs,
                self.cores,
                each.collect::<String>()
            ),
        )?;
        let each = [
            (self.rss_bytes_per_idle_connection, "idle connection"),
            (self.rss_bytes_per_subscription, "subscription"),
            (self.rss_bytes_per_stored_message, "stored message"),
        ];
        let each = each
            .into_iter()
            .filter_map(|(bytes, what)| Some(format!(", {:.0} bytes a {what}", bytes?)));
        let mebibytes = |bytes: u64| bytes as f64 / (1024.0 * 1024.0);
        row(
            f,
            "broker memory",
            format_args!(
                "{:.1} MiB before, {:.1} connected, {:.1} after; {:.0} bytes a connection{}",
                mebibytes(self.rss_before_bytes),
                mebibytes(self.rss_connected_bytes),
                mebibytes(self.rss_after_bytes),
                self.rss_bytes_per_connection,
                each.collect::<String>()
            ),
        )
    }
}

fn row(f: &mut fmt::Formatter<'_>, what: &str, text: fmt::Arguments<'_>) -> fmt::Result {
    writeln!(f, "{what:<14}{text}")
}
