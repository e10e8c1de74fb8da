//! Publications that have to be on the disk before they are acknowledged.

use std::fmt;
use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use whimbrel_codec::QoS;

use super::load::{self, Template, Topics};
use super::{Bench, Each, MEBIBYTE, PAYLOAD_BYTES, percentile};
use crate::link::LinkError;
use crate::process::Usage;
use crate::{Failure, process, wait};

/// Several publishers to sessions that are away.
#[derive(Clone, Copy, Debug)]
pub struct OfflineFigure {
    /// Acknowledgements a second.
    pub acks_per_sec: f64,
    /// CPU time of the broker for each message.
    pub cpu_micros: f64,
    /// Bytes on the disk for each message.
    pub disk_bytes: f64,
    /// Half of the acknowledgements took no longer.
    pub p50_micros: u32,
    /// 99 of 100 took no longer.
    pub p99_micros: u32,
    /// Resident memory at the end.
    pub rss_mebibytes: f64,
}

/// Ten sessions away, 64 B, so many messages of all publishers together.
///
/// # Errors
///
/// When the broker or a client failed.
pub fn offline(
    bench: &Bench,
    qos: QoS,
    messages: u32,
    publishers: u16,
    window: usize,
) -> Result<OfflineFigure, Failure> {
    let broker = bench.start("offline")?;
    let port = broker.port();
    load::leave_sessions(port, "away", OFFLINE_SESSIONS, |_| "offline/#".to_owned())?;
    let before = Usage::of(broker.pid())?;
    let begin = Instant::now();
    let latencies = publish_all(port, qos, messages, publishers, window, FOR_EVER)?;
    let took = begin.elapsed();
    let after = Usage::of(broker.pid())?;
    let each = Each::between(before, after, latencies.len() as u64);
    Ok(OfflineFigure {
        acks_per_sec: latencies.len() as f64 / took.as_secs_f64(),
        cpu_micros: each.cpu_micros,
        disk_bytes: each.disk_bytes,
        p50_micros: percentile(&latencies, 50.0),
        p99_micros: percentile(&latencies, 99.0),
        rss_mebibytes: after.rss_bytes as f64 / MEBIBYTE,
    })
}

/// How often a broker syncs under the load of [`offline`].
#[derive(Clone, Copy, Debug)]
pub struct SyncCount {
    /// Calls of fdatasync, fsync and msync, a second.
    pub syncs_per_sec: f64,
    /// Acknowledgements a second meanwhile, slower than without the tracer.
    pub acks_per_sec: f64,
}

/// Counts syncs with `strace -c`, which slows the broker down.
///
/// # Errors
///
/// When strace, the broker or a client failed.
pub fn syncs(
    bench: &Bench,
    messages: u32,
    publishers: u16,
    window: usize,
) -> Result<SyncCount, Failure> {
    let broker = bench.start("syncs")?;
    let port = broker.port();
    load::leave_sessions(port, "away", OFFLINE_SESSIONS, |_| "offline/#".to_owned())?;
    let summary = bench.folder.join("syncs").join("summary");
    let mut strace = Command::new("strace")
        .args(["-f", "-c", "-e", "trace=fdatasync,fsync,msync", "-o"])
        .arg(&summary)
        .args(["-p", &broker.pid().to_string()])
        .stderr(Stdio::null())
        .spawn()
        .map_err(|source| Failure::Start {
            program: "strace".to_owned(),
            source,
        })?;
    // It says nothing that could be waited for when its output goes to a file.
    wait::pause(ATTACH_TIME);
    let begin = Instant::now();
    let latencies = publish_all(
        port,
        QoS::AtLeastOnce,
        messages,
        publishers,
        window,
        FOR_EVER,
    )?;
    let took = begin.elapsed().as_secs_f64();
    process::signal(strace.id(), "INT")?;
    strace
        .wait()
        .map_err(Failure::system("could not wait for strace"))?;
    let summary = fs::read_to_string(&summary)
        .map_err(Failure::system("could not read what strace counted"))?;
    let calls: u64 = summary
        .lines()
        .filter(|line| line.trim_end().ends_with("sync"))
        .filter_map(|line| line.split_whitespace().nth(3)?.parse::<u64>().ok())
        .sum();
    Ok(SyncCount {
        syncs_per_sec: calls as f64 / took,
        acks_per_sec: latencies.len() as f64 / took,
    })
}

/// How long acknowledgements take.
#[derive(Clone, Copy, Debug)]
pub struct LatencyFigure {
    /// Messages of the one publisher in flight.
    pub in_flight: usize,
    /// Acknowledgements a second.
    pub acks_per_sec: f64,
    /// Half of them took no longer.
    pub p50_micros: u32,
    /// 99 of 100 took no longer.
    pub p99_micros: u32,
}

/// One publisher with so many messages in flight, one session away, QoS 1, for so long.
///
/// # Errors
///
/// When the broker or a client failed.
pub fn latency(bench: &Bench, in_flight: usize, time: Duration) -> Result<LatencyFigure, Failure> {
    let broker = bench.start("latency")?;
    let port = broker.port();
    load::leave_sessions(port, "away", 1, |_| "offline/#".to_owned())?;
    let begin = Instant::now();
    let latencies = publish_all(port, QoS::AtLeastOnce, u32::MAX, 1, in_flight, time)?;
    let took = begin.elapsed();
    Ok(LatencyFigure {
        in_flight,
        acks_per_sec: latencies.len() as f64 / took.as_secs_f64(),
        p50_micros: percentile(&latencies, 50.0),
        p99_micros: percentile(&latencies, 99.0),
    })
}

/// What one publication to so many sessions writes.
#[derive(Clone, Copy, Debug)]
pub struct FanOutFigure {
    /// Persistent sessions that are away.
    pub sessions: u32,
    /// Bytes on the disk for each publication, sent one by one.
    pub disk_bytes_single: f64,
    /// Bytes of all write calls for each publication, sent one by one.
    pub call_bytes_single: f64,
    /// Bytes on the disk for each publication, 100 in flight.
    pub disk_bytes_grouped: f64,
    /// CPU time of the broker for each publication, 100 in flight.
    pub cpu_micros_grouped: f64,
}

/// Publishes to so many sessions, one by one and with 100 in flight.
///
/// # Errors
///
/// When the broker or a client failed.
pub fn fan_out(bench: &Bench, sessions: u32) -> Result<FanOutFigure, Failure> {
    let broker = bench.start("fan-out")?;
    let port = broker.port();
    load::leave_sessions(port, "away", sessions, |_| "offline/#".to_owned())?;
    let measure = |count, window| {
        let before = Usage::of(broker.pid())?;
        publish_all(port, QoS::AtLeastOnce, count, 1, window, FOR_EVER)?;
        let after = Usage::of(broker.pid())?;
        Ok::<_, Failure>(Each::between(before, after, count.into()))
    };
    let single = measure(FAN_OUT_SINGLES, 1)?;
    let grouped = measure(FAN_OUT_GROUPED, 100)?;
    Ok(FanOutFigure {
        sessions,
        disk_bytes_single: single.disk_bytes,
        call_bytes_single: single.call_bytes,
        disk_bytes_grouped: grouped.disk_bytes,
        cpu_micros_grouped: grouped.cpu_micros,
    })
}

/// So many messages of several publishers together; the latencies, sorted.
fn publish_all(
    port: u16,
    qos: QoS,
    messages: u32,
    publishers: u16,
    window: usize,
    time: Duration,
) -> Result<Vec<u32>, Failure> {
    let each = messages / u32::from(publishers);
    let outcomes = thread::scope(|scope| {
        let threads: Vec<_> = (0..publishers)
            .map(|number| {
                scope.spawn(move || {
                    let topic = format!("offline/{number}");
                    let template =
                        Template::new(number, Topics::One(&topic), qos, false, PAYLOAD_BYTES);
                    let client_id = format!("load-{number}");
                    load::publish(port, &client_id, template, each, window, time)
                })
            })
            .collect();
        let joined = threads.into_iter().map(thread::ScopedJoinHandle::join);
        joined
            .map(|joined| {
                joined.map_err(|_| Failure::Other("a publisher's thread panicked".to_owned()))
            })
            .collect::<Result<Vec<Result<Vec<u32>, LinkError>>, Failure>>()
    })?;
    let mut latencies = Vec::new();
    for outcome in outcomes {
        latencies.extend(outcome.map_err(Failure::client("a publisher failed"))?);
    }
    latencies.sort_unstable();
    Ok(latencies)
}

impl fmt::Display for OfflineFigure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.0} acks/s, {:.2} µs CPU and {:.0} B written a message, p50 {:.2} ms, p99 {:.2} ms, {:.0} MiB resident",
            self.acks_per_sec,
            self.cpu_micros,
            self.disk_bytes,
            f64::from(self.p50_micros) / 1e3,
            f64::from(self.p99_micros) / 1e3,
            self.rss_mebibytes,
        )
    }
}

impl fmt::Display for SyncCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.0} syncs/s at {:.0} acks/s under strace",
            self.syncs_per_sec, self.acks_per_sec
        )
    }
}

impl fmt::Display for LatencyFigure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} in flight: p50 {} µs, p99 {} µs, {:.0} acks/s",
            self.in_flight, self.p50_micros, self.p99_micros, self.acks_per_sec
        )
    }
}

impl fmt::Display for FanOutFigure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} sessions: {:.0} B on the disk ({:.0} B in write calls) one by one; with 100 in flight {:.0} B and {:.2} µs CPU",
            self.sessions,
            self.disk_bytes_single,
            self.call_bytes_single,
            self.disk_bytes_grouped,
            self.cpu_micros_grouped
        )
    }
}

const OFFLINE_SESSIONS: u32 = 10;
const FAN_OUT_SINGLES: u32 = 300;
const FAN_OUT_GROUPED: u32 = 10_000;
const FOR_EVER: Duration = Duration::from_secs(600);
const ATTACH_TIME: Duration = Duration::from_millis(700);
