//! From what was measured to the report.

use std::sync::atomic::Ordering::Relaxed;

use whimbrel_session::codec::QoS;

use crate::director::Timeline;
use crate::meter::Meter;
use crate::options::{Amount, Messages, Offline, Pace, Retained, Scenario, Shape};
use crate::report::{
    ConnectFigures, GeneratorFigures, OfflineFigures, ProcessFigures, Report, RetainedFigures,
    SubscriptionFigures, TrafficFigures,
};
use crate::shared::Shared;
use crate::{Findings, Percentiles};

/// Adds it all up.
pub(crate) fn conclude(
    shared: &Shared,
    timeline: &Timeline,
    mut meter: Meter,
    busy: Vec<f64>,
) -> Report {
    let options = &shared.options;
    count_missing(shared, &mut meter.findings);
    let generator = GeneratorFigures {
        threads: options.threads,
        busy,
    };
    let traffic = match &options.scenario {
        Scenario::Messages(messages) => Some(traffic(shared, timeline, messages, &meter)),
        _ => None,
    };
    let retained = match &options.scenario {
        Scenario::Retained(retained) => Some(fetched(shared, timeline, retained, &meter)),
        _ => None,
    };
    let offline = match &options.scenario {
        Scenario::Offline(offline) => Some(drained(shared, timeline, offline, &meter)),
        _ => None,
    };
    let warnings = warnings(shared, timeline, &generator, traffic.as_ref());
    Report {
        scenario: options.scenario.name(),
        broker: options.broker.to_string(),
        version: options.version.to_string(),
        clients: options.clients(),
        seed: options.seed,
        elapsed_secs: shared.clock.elapsed().as_secs_f64(),
        connect: connect(shared, timeline, &meter),
        process: process(shared, timeline, &meter),
        subscriptions: subscriptions(shared, timeline),
        traffic,
        retained,
        offline,
        generator,
        faults: faults(shared, timeline, &meter.findings),
        findings: meter.findings,
        warnings,
        timed_out: timeline.timed_out,
    }
}

/// What did not come shows in the sums alone.
fn count_missing(shared: &Shared, findings: &mut Findings) {
    let live = &shared.live;
    let owed = live.owed.load(Relaxed);
    findings.lost += owed.saturating_sub(live.fresh.load(Relaxed));
    let qos = match &shared.options.scenario {
        Scenario::Messages(messages) => messages.qos,
        Scenario::Retained(retained) => retained.qos,
        Scenario::Offline(offline) => offline.qos,
        Scenario::Connect(storm) => {
            let known = live.connected.load(Relaxed) + live.failed.load(Relaxed);
            findings.failed_connections += u64::from(storm.clients).saturating_sub(known);
            return;
        }
        Scenario::Idle(_) => return,
    };
    if qos != QoS::AtMostOnce {
        let acknowledged = live.acknowledged.load(Relaxed);
        findings.unacknowledged += live.sent.load(Relaxed).saturating_sub(acknowledged);
    }
}

fn connect(shared: &Shared, timeline: &Timeline, meter: &Meter) -> ConnectFigures {
    let connected = shared.live.connected.load(Relaxed);
    let secs = match &shared.options.scenario {
        Scenario::Connect(_) => seconds(timeline.start, meter.last_arrival),
        _ => seconds(0, timeline.ready),
    };
    ConnectFigures {
        connected,
        secs,
        per_sec: rate(connected, secs),
        time: meter.connect.percentiles(),
    }
}

fn traffic(
    shared: &Shared,
    timeline: &Timeline,
    messages: &Messages,
    meter: &Meter,
) -> TrafficFigures {
    // Until the last message came; or as long as it was to last, unless it was cut short.
    let to = match messages.amount {
        Amount::Messages(_) if meter.last_arrival > timeline.from => meter.last_arrival,
        Amount::Messages(_) => timeline.to,
        Amount::Duration(_) => shared.measure_to.load(Relaxed).min(timeline.to),
    };
    let measured_secs = seconds(timeline.from, to);
    let delivered_per_sec = rate(meter.delivered, measured_secs);
    let (in_flight, open_rate) = match messages.pace {
        Pace::InFlight(count) => (Some(count), None),
        Pace::Rate(rate) => (None, Some(rate)),
    };
    let some = |times: Percentiles| (times.count > 0).then_some(times);
    TrafficFigures {
        publishers: messages.publishers,
        subscribers: messages.subscribers,
        qos: messages.qos as u8,
        qos_sub: messages.qos_sub as u8,
        size: messages.size,
        in_flight,
        rate: open_rate,
        published: shared.live.sent.load(Relaxed),
        delivered: shared.live.fresh.load(Relaxed),
        measured_secs,
        published_per_sec: rate(meter.published, measured_secs),
        delivered_per_sec,
        payload_bytes_per_sec: delivered_per_sec * messages.size as f64,
        latency: meter.latency.percentiles(),
        acknowledged: some(meter.acknowledged.percentiles()),
        send_delay: some(meter.send_delay.percentiles()),
    }
}

fn fetched(
    shared: &Shared,
    timeline: &Timeline,
    retained: &Retained,
    meter: &Meter,
) -> RetainedFigures {
    let acknowledged = meter.acknowledged.percentiles();
    let stored_secs = seconds(timeline.start, timeline.stored);
    let fetched = shared.live.fresh.load(Relaxed);
    let fetch_secs = seconds(timeline.from, meter.last_arrival);
    RetainedFigures {
        messages: retained.messages,
        publishers: retained.publishers,
        subscribers: retained.subscribers,
        qos: retained.qos as u8,
        qos_sub: retained.qos_sub as u8,
        size: retained.size,
        stored_secs,
        stored_per_sec: rate(shared.live.sent.load(Relaxed), stored_secs),
        acknowledged: (acknowledged.count > 0).then_some(acknowledged),
        fetched,
        fetch_secs,
        fetched_per_sec: rate(fetched, fetch_secs),
        fetch: meter.fetch.percentiles(),
    }
}

fn drained(
    shared: &Shared,
    timeline: &Timeline,
    offline: &Offline,
    meter: &Meter,
) -> OfflineFigures {
    let acknowledged = meter.acknowledged.percentiles();
    let stored_secs = seconds(timeline.start, timeline.stored);
    let drained = shared.live.fresh.load(Relaxed);
    let drain_secs = seconds(timeline.from, meter.last_arrival);
    OfflineFigures {
        messages: offline.messages,
        publishers: offline.publishers,
        sessions: offline.sessions,
        qos: offline.qos as u8,
        size: offline.size,
        stored_secs,
        stored_per_sec: rate(shared.live.acknowledged.load(Relaxed), stored_secs),
        acknowledged: (acknowledged.count > 0).then_some(acknowledged),
        drained,
        drain_secs,
        drained_per_sec: rate(drained, drain_secs),
        drain: meter.fetch.percentiles(),
    }
}

fn subscriptions(shared: &Shared, timeline: &Timeline) -> Option<SubscriptionFigures> {
    let Scenario::Messages(messages) = &shared.options.scenario else {
        return None;
    };
    if shared.spread.is_none() && messages.churn.is_none() {
        return None;
    }
    let filters = shared.live.subscribed.load(Relaxed);
    let subscribe_secs = seconds(timeline.subscribe_start, timeline.subscribed);
    let churned = shared.live.churned.load(Relaxed);
    Some(SubscriptionFigures {
        filters,
        subscribe_secs,
        subscribed_per_sec: rate(filters, subscribe_secs),
        churn_rate: messages.churn,
        churned,
        churned_per_sec: rate(churned, seconds(timeline.start, timeline.to)),
    })
}

fn process(shared: &Shared, timeline: &Timeline, meter: &Meter) -> Option<ProcessFigures> {
    let pid = shared.options.pid?;
    let cpu = timeline
        .usage_to
        .cpu
        .saturating_sub(timeline.usage_from.cpu);
    let wall = seconds(timeline.from, timeline.to);
    let connected = shared.live.connected.load(Relaxed);
    let each = |count: u64| (count > 0).then(|| cpu.as_secs_f64() * 1e6 / count as f64);
    let is_storm = matches!(shared.options.scenario, Scenario::Connect(_));
    let is_idle = matches!(shared.options.scenario, Scenario::Idle(_));
    let (unprepared, prepared) = (timeline.usage_unprepared, timeline.usage_prepared);
    let prepared_cpu = prepared.cpu.saturating_sub(unprepared.cpu).as_secs_f64();
    let prepared_rss = prepared.rss_bytes.saturating_sub(unprepared.rss_bytes);
    let subscribed = shared.live.subscribed.load(Relaxed);
    let stored = match &shared.options.scenario {
        Scenario::Retained(_) | Scenario::Offline(_) => shared.live.sent.load(Relaxed),
        _ => 0,
    };
    let cpu_us_of = |count: u64| (count > 0).then(|| prepared_cpu * 1e6 / count as f64);
    let rss_of = |count: u64| (count > 0).then(|| prepared_rss as f64 / count as f64);
    let rss_before_bytes = timeline.usage_before.rss_bytes;
    let rss_connected_bytes = timeline.usage_connected.rss_bytes;
    let growth = rss_connected_bytes.saturating_sub(rss_before_bytes);
    Some(ProcessFigures {
        pid,
        cpu_secs: cpu.as_secs_f64(),
        cores: if wall > 0.0 {
            cpu.as_secs_f64() / wall
        } else {
            0.0
        },
        cpu_us_per_delivery: each(meter.delivered),
        cpu_us_per_publish: each(meter.published),
        cpu_us_per_connection: each(if is_storm { connected } else { 0 }),
        cpu_us_per_subscription: cpu_us_of(subscribed),
        cpu_us_per_stored_message: cpu_us_of(stored),
        rss_before_bytes,
        rss_connected_bytes,
        rss_after_bytes: timeline.usage_to.rss_bytes,
        rss_bytes_per_connection: growth as f64 / connected.max(1) as f64,
        rss_bytes_per_idle_connection: is_idle.then(|| {
            let growth = timeline.usage_to.rss_bytes.saturating_sub(rss_before_bytes);
            growth as f64 / connected.max(1) as f64
        }),
        rss_bytes_per_subscription: rss_of(subscribed),
        rss_bytes_per_stored_message: rss_of(stored),
    })
}

fn faults(shared: &Shared, timeline: &Timeline, findings: &Findings) -> Vec<String> {
    let (allow_loss, is_group) = match &shared.options.scenario {
        Scenario::Messages(messages) => {
            (shared.options.allow_loss, messages.shape == Shape::Shared)
        }
        _ => (shared.options.allow_loss, false),
    };
    let mut faults = Vec::new();
    let mut fault = |count: u64, what: &str| {
        if count > 0 {
            faults.push(format!("{count} {what}"));
        }
    };
    if !allow_loss {
        fault(findings.lost, "deliveries lost");
    }
    fault(
        findings.duplicates,
        "deliveries came twice, though no client has reconnected",
    );
    if !is_group {
        fault(findings.out_of_order, "deliveries out of order");
    }
    fault(findings.corrupt, "messages corrupt");
    fault(findings.strays, "messages where they do not belong");
    fault(findings.wrong_qos, "messages at the wrong QoS");
    fault(findings.unacknowledged, "publications never acknowledged");
    fault(findings.refused, "publications refused");
    fault(findings.failed_connections, "clients could not connect");
    fault(findings.lost_connections, "clients lost their connection");
    fault(
        findings.lost_sessions,
        "sessions gone when their clients came back",
    );
    if timeline.stalled {
        let stall = shared.options.stall.as_secs_f64();
        faults.push(format!(
            "publishers could not go on: for {stall} s and more nothing was taken"
        ));
    }
    if timeline.timed_out {
        let limit = shared.options.time_limit().as_secs_f64();
        faults.push(format!(
            "the time of {limit} s was up before all was done; --timeout gives it more"
        ));
    }
    faults
}

fn warnings(
    shared: &Shared,
    timeline: &Timeline,
    generator: &GeneratorFigures,
    traffic: Option<&TrafficFigures>,
) -> Vec<String> {
    let mut warnings = Vec::new();
    let busiest = generator.busiest().unwrap_or(0.0);
    if busiest > BUSY_MAX {
        warnings.push(format!(
            "a thread of the generator was busy for {:.0} % of the time, so these may be its limits and not the \
             broker's; give it more threads, or another machine",
            busiest * 100.0
        ));
    }
    if let Some(traffic) = traffic {
        if traffic.latency.count == 0 {
            warnings.push("nothing was measured: all was over within the warm-up".to_owned());
        }
        if let Some(delay) = traffic.send_delay
            && delay.p99_us > SEND_DELAY_MAX_US
        {
            warnings.push(format!(
                "the generator was late itself: 1 % of the messages went out more than {:.0} µs after their time, \
                 which is in their latency",
                delay.p99_us
            ));
        }
        if let Some(rate) = traffic.rate
            && traffic.published_per_sec < rate * RATE_SHARE_MIN
            && traffic.latency.count > 0
        {
            warnings.push(format!(
                "{:.0} messages a second went out where {rate} were to",
                traffic.published_per_sec
            ));
        }
    }
    let lost = shared.live.owed.load(Relaxed) > shared.live.fresh.load(Relaxed);
    if lost && shared.options.allow_loss {
        let lost = shared.live.owed.load(Relaxed) - shared.live.fresh.load(Relaxed);
        warnings.push(format!("{lost} deliveries lost, which was allowed"));
    }
    let granted_less = shared.live.granted_less.load(Relaxed);
    if granted_less > 0 {
        warnings.push(format!(
            "{granted_less} subscriptions were granted a lower QoS than they asked for"
        ));
    }
    if timeline.left_behind {
        let what = match &shared.options.scenario {
            Scenario::Offline(_) => "sessions",
            _ => "retained messages",
        };
        warnings.push(format!(
            "{what} are left on the broker, below {}",
            shared.base
        ));
    }
    if let Some(subscriptions) = subscriptions(shared, timeline)
        && let Some(rate) = subscriptions.churn_rate
        && subscriptions.churned_per_sec < rate * RATE_SHARE_MIN
        && timeline.to > 0
    {
        warnings.push(format!(
            "{:.0} subscriptions a second were made and ended where {rate} were to",
            subscriptions.churned_per_sec
        ));
    }
    warnings
}

fn seconds(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1e9
}

fn rate(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 {
        count as f64 / seconds
    } else {
        0.0
    }
}

/// Above this share of a core a thread has no time left to be on time.
const BUSY_MAX: f64 = 0.9;
const SEND_DELAY_MAX_US: f64 = 1_000.0;
const RATE_SHARE_MIN: f64 = 0.99;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Idle, Options};

    fn shared(scenario: Scenario) -> Shared {
        let broker: whimbrel_net::Address = "tcp://127.0.0.1:1883".parse().expect("an address");
        Shared::new(Options::new(broker.clone(), scenario), broker)
    }

    fn messages(shape: Shape) -> Scenario {
        Scenario::Messages(Messages {
            shape,
            publishers: 2,
            subscribers: 2,
            qos: QoS::AtLeastOnce,
            qos_sub: QoS::AtLeastOnce,
            size: 64,
            amount: Amount::Messages(10),
            pace: Pace::Rate(100.0),
            churn: None,
        })
    }

    #[test]
    fn a_generator_without_time_left_is_told() {
        let shared = shared(Scenario::Idle(Idle {
            clients: 1,
            duration: std::time::Duration::ZERO,
        }));
        let told = |busy: &[f64]| {
            let generator = GeneratorFigures {
                threads: busy.len(),
                busy: busy.to_vec(),
            };
            warnings(&shared, &Timeline::default(), &generator, None)
        };
        assert_eq!(told(&[]), [""; 0]);
        assert_eq!(told(&[0.2, 0.89]), [""; 0]);
        let warnings = told(&[0.95, 0.2]);
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("busy for 95 %"), "{warnings:?}");
    }

    #[test]
    fn a_generator_that_was_late_or_slow_is_told() {
        let shared = shared(messages(Shape::Pairs));
        let generator = GeneratorFigures {
            threads: 1,
            busy: Vec::new(),
        };
        let told = |send_delay_us: u64, published: u64| {
            let mut meter = Meter::new();
            meter.latency.note(0, 1_000);
            meter.send_delay.note(0, send_delay_us * 1_000);
            meter.published = published;
            let Scenario::Messages(messages) = &shared.options.scenario else {
                panic!("it was made of messages");
            };
            let timeline = Timeline {
                to: 1_000_000_000,
                ..Timeline::default()
            };
            let figures = traffic(&shared, &timeline, messages, &meter);
            warnings(&shared, &timeline, &generator, Some(&figures))
        };
        assert_eq!(told(100, 100), [""; 0]);
        assert!(told(5_000, 100)[0].contains("late itself"));
        assert!(told(100, 50)[0].contains("50 messages a second went out where 100 were to"));
    }

    #[test]
    fn wrong_order_is_a_fault_unless_the_subscription_is_shared() {
        let findings = Findings {
            out_of_order: 3,
            ..Findings::default()
        };
        let of = |shape| faults(&shared(messages(shape)), &Timeline::default(), &findings);
        assert_eq!(of(Shape::Pairs), ["3 deliveries out of order"]);
        assert_eq!(of(Shape::Shared), [""; 0]);
    }

    #[test]
    fn every_finding_is_a_fault() {
        let shared = shared(messages(Shape::FanIn));
        let with = |change: fn(&mut Findings)| {
            let mut findings = Findings::default();
            change(&mut findings);
            faults(&shared, &Timeline::default(), &findings).len()
        };
        assert_eq!(with(|_| ()), 0);
        for change in [
            (|findings| findings.lost = 1) as fn(&mut Findings),
            |findings| findings.duplicates = 1,
            |findings| findings.out_of_order = 1,
            |findings| findings.corrupt = 1,
            |findings| findings.strays = 1,
            |findings| findings.wrong_qos = 1,
            |findings| findings.unacknowledged = 1,
            |findings| findings.refused = 1,
            |findings| findings.failed_connections = 1,
            |findings| findings.lost_connections = 1,
            |findings| findings.lost_sessions = 1,
        ] {
            assert_eq!(with(change), 1);
        }
    }

    #[test]
    fn what_is_missing_is_counted_by_the_sums() {
        let shared = shared(messages(Shape::Pairs));
        shared.live.sent.store(10, Relaxed);
        shared.live.owed.store(20, Relaxed);
        shared.live.fresh.store(17, Relaxed);
        shared.live.acknowledged.store(9, Relaxed);
        let mut findings = Findings::default();
        count_missing(&shared, &mut findings);
        assert_eq!((findings.lost, findings.unacknowledged), (3, 1));
    }
}
