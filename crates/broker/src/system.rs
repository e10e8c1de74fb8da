//! `$SYS/#`, and the chores of the whole broker: one thread does them for all.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use whimbrel_broker_core::session::codec::topic::{ScanCursor, ScanState, TopicName};
use whimbrel_broker_core::{DropCause, ShardStats};

use crate::stats::{BrokerStats, JournalStats};
use crate::thread::Thread;

/// Starts the chores on this thread.
pub(crate) fn start(thread: &Rc<Thread>) {
    if let Some(period) = thread.shared.config.system_interval {
        // An interval of 0 would panic; a millisecond is as good.
        let period = period.max(Duration::from_millis(1));
        thread.spawn(publish_system(Rc::clone(thread), period));
    }
    thread.spawn(sweep_retained(Rc::clone(thread)));
}

/// Publishes the figures that have changed, at once and then in each period.
async fn publish_system(thread: Rc<Thread>, period: Duration) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut published: HashMap<String, String> = HashMap::new();
    let mut loads = Loads::default();
    loop {
        ticks.tick().await;
        let stats = thread.shared.stats().await;
        loads.update(&stats);
        let env = thread.env();
        for (topic, value) in figures(&stats, &loads) {
            if published.get(&topic) == Some(&value) {
                continue;
            }
            if let Ok(topic) = TopicName::new(&topic) {
                thread
                    .shard
                    .borrow_mut()
                    .publish_system(env, topic, value.as_bytes());
            }
            published.insert(topic, value);
        }
        thread.settle();
    }
}

/// Removes retained messages that have expired, in steps that leave room for others.
async fn sweep_retained(thread: Rc<Thread>) {
    let mut ticks = interval(SWEEP_PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut cursor = ScanCursor::new();
        while sweep_step(&thread, &mut cursor) == ScanState::More {
            tokio::task::yield_now().await;
        }
    }
}

fn sweep_step(thread: &Thread, cursor: &mut ScanCursor) -> ScanState {
    let env = thread.env();
    let state = env
        .index
        .sweep_retained(cursor, SWEEP_STEP_MESSAGES, env.now.wall);
    if let Some(outbox) = &thread.shared.outbox {
        // The index has logged what was removed; there is no record that would bring the log to the disk.
        outbox.note_swept();
    }
    state
}

/// The topics that Mosquitto's users expect, and `$SYS/broker/dropped/{cause}`.
fn figures(stats: &BrokerStats, loads: &Loads) -> Vec<(String, String)> {
    let ShardStats {
        publishes_received,
        publish_bytes_received,
        publishes_sent,
        publish_bytes_sent,
        packets_received,
        packets_sent,
        sessions,
        connections,
        subscriptions,
        queued_messages,
        queued_bytes,
        ..
    } = stats.shards;
    let numbers = [
        ("clients/connected", connections),
        ("clients/active", connections),
        ("clients/disconnected", sessions.saturating_sub(connections)),
        ("clients/inactive", sessions.saturating_sub(connections)),
        ("clients/total", sessions),
        ("clients/maximum", stats.connections_high),
        ("messages/received", packets_received),
        ("messages/sent", packets_sent),
        ("messages/stored", queued_messages + stats.retained_messages),
        (
            "store/messages/count",
            queued_messages + stats.retained_messages,
        ),
        ("store/messages/bytes", queued_bytes + stats.retained_bytes),
        ("publish/messages/received", publishes_received),
        ("publish/messages/sent", publishes_sent),
        ("publish/messages/dropped", stats.shards.dropped_total()),
        ("publish/bytes/received", publish_bytes_received),
        ("publish/bytes/sent", publish_bytes_sent),
        ("subscriptions/count", subscriptions),
        ("retained messages/count", stats.retained_messages),
        ("bytes/received", stats.bytes_received),
        ("bytes/sent", stats.bytes_sent),
    ];
    let mut figures = vec![
        figure(
            "version",
            concat!("whimbrel version ", env!("CARGO_PKG_VERSION")),
        ),
        figure("uptime", &format!("{} seconds", stats.uptime.as_secs())),
    ];
    figures.extend(
        numbers
            .into_iter()
            .map(|(topic, value)| figure(topic, &value.to_string())),
    );
    if let Some(JournalStats {
        figures: journal,
        is_full,
    }) = stats.journal
    {
        let numbers = [
            ("journal/commits", journal.commits),
            ("journal/records", journal.records),
            ("journal/syncs", journal.syncs),
            ("journal/bytes/written", journal.bytes_written),
            ("journal/bytes/stored", journal.bytes_stored),
            ("journal/full", u64::from(is_full)),
        ];
        figures.extend(
            numbers
                .into_iter()
                .map(|(topic, value)| figure(topic, &value.to_string())),
        );
    }
    figures.extend(DropCause::ALL.into_iter().map(|cause| {
        let topic = format!("dropped/{}", cause.name());
        figure(&topic, &stats.shards.dropped_by(cause).to_string())
    }));
    for load in &loads.all {
        for (window, average) in WINDOWS.iter().zip(load.averages) {
            let topic = format!("load/{}/{}", load.name, window.name);
            figures.push(figure(&topic, &format!("{average:.2}")));
        }
    }
    figures
}

fn figure(topic: &str, value: &str) -> (String, String) {
    (format!("$SYS/broker/{topic}"), value.to_owned())
}

/// Moving averages per minute, as Mosquitto computes them.
#[derive(Debug)]
struct Loads {
    at: Duration,
    all: [Load; 7],
}

#[derive(Debug)]
struct Load {
    name: &'static str,
    count: fn(&BrokerStats) -> u64,
    before: u64,
    averages: [f64; WINDOWS.len()],
}

struct Window {
    name: &'static str,
    secs: f64,
}

impl Default for Loads {
    fn default() -> Self {
        let load = |name, count| Load {
            name,
            count,
            before: 0,
            averages: [0.0; WINDOWS.len()],
        };
        Self {
            at: Duration::ZERO,
            all: [
                load("messages/received", |stats| stats.shards.packets_received),
                load("messages/sent", |stats| stats.shards.packets_sent),
                load("publish/received", |stats| stats.shards.publishes_received),
                load("publish/sent", |stats| stats.shards.publishes_sent),
                load("bytes/received", |stats| stats.bytes_received),
                load("bytes/sent", |stats| stats.bytes_sent),
                load("connections", |stats| stats.shards.connects),
            ],
        }
    }
}

impl Loads {
    fn update(&mut self, stats: &BrokerStats) {
        let secs = (stats.uptime.saturating_sub(self.at)).as_secs_f64();
        self.at = stats.uptime;
        if secs <= 0.0 {
            return;
        }
        for load in &mut self.all {
            let count = (load.count)(stats);
            let per_minute = count.saturating_sub(load.before) as f64 * 60.0 / secs;
            load.before = count;
            for (window, average) in WINDOWS.iter().zip(&mut load.averages) {
                let kept = (-secs / window.secs).exp();
                *average = per_minute + kept * (*average - per_minute);
            }
        }
    }
}

const WINDOWS: [Window; 3] = [
    Window {
        name: "1min",
        secs: 60.0,
    },
    Window {
        name: "5min",
        secs: 300.0,
    },
    Window {
        name: "15min",
        secs: 900.0,
    },
];

/// An expired retained message is sent to nobody; this is only when its memory comes back.
const SWEEP_PERIOD: Duration = Duration::from_secs(60);
const SWEEP_STEP_MESSAGES: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_load_is_approached_and_an_ended_one_fades() {
        let mut loads = Loads::default();
        let mut stats = BrokerStats::default();
        for _ in 0..600 {
            stats.uptime += Duration::from_secs(1);
            stats.shards.publishes_received += 10;
            loads.update(&stats);
        }
        let received = |loads: &Loads| loads.all[2].averages;
        let [one, five, fifteen] = received(&loads);
        assert!((one - 600.0).abs() < 1.0, "{one}");
        assert!(five > fifteen && five < 600.0);
        for _ in 0..600 {
            stats.uptime += Duration::from_secs(1);
            loads.update(&stats);
        }
        assert!(received(&loads)[0] < 1.0);
    }

    #[test]
    fn every_figure_has_a_topic_of_its_own_that_is_valid() {
        let stats = BrokerStats {
            journal: Some(JournalStats::default()),
            ..BrokerStats::default()
        };
        let figures = figures(&stats, &Loads::default());
        assert!(
            figures
                .iter()
                .any(|(topic, _)| topic == "$SYS/broker/journal/commits")
        );
        let mut topics: Vec<_> = figures.iter().map(|(topic, _)| topic).collect();
        for topic in &topics {
            assert!(TopicName::new(topic).is_ok(), "{topic}");
        }
        let count = topics.len();
        topics.sort();
        topics.dedup();
        assert_eq!(topics.len(), count);
    }
}
