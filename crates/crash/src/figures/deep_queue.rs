//! Millions of messages for one session that is away.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use whimbrel_codec::QoS;

use super::load::{self, Template, Topics};
use super::recovery::folder_bytes;
use super::{Bench, MEBIBYTE, PAYLOAD_BYTES};
use crate::process::Usage;
use crate::{Failure, wait};

/// A queue far larger than its window in memory.
#[derive(Clone, Copy, Debug)]
pub struct DeepQueueFigure {
    /// Messages in the queue.
    pub messages: u32,
    /// Acknowledgements a second while it was filled.
    pub acks_per_sec: f64,
    /// Messages a second while it was read.
    pub drained_per_sec: f64,
    /// Memory that is not of a file, before, full, and empty again.
    pub anonymous_mebibytes: [f64; 3],
    /// Resident memory, at the same moments.
    pub rss_mebibytes: [f64; 3],
    /// The store on the disk when it was full.
    pub disk_mebibytes: f64,
}

/// Fills the queue of one session, and reads it: whole, and in order.
///
/// # Errors
///
/// When the broker or a client failed, or a message is missing, out of order, or comes twice.
pub fn deep_queue(bench: &Bench, messages: u32) -> Result<DeepQueueFigure, Failure> {
    let place = bench.place("deep-queue")?;
    let broker = bench.broker.start(&place, bench.shards)?;
    let port = broker.port();
    load::leave_sessions(port, "deep", 1, |_| "deep/#".to_owned())?;
    let before = Usage::of(broker.pid())?;
    let begin = Instant::now();
    let each = messages / u32::from(PUBLISHERS);
    thread::scope(|scope| {
        let publishers = (0..PUBLISHERS).map(|number| {
            let topic = format!("deep/{number}");
            let template = Template::new(
                number,
                Topics::One(&topic),
                QoS::AtLeastOnce,
                false,
                PAYLOAD_BYTES,
            );
            let client_id = format!("load-{number}");
            scope.spawn(move || load::publish(port, &client_id, template, each, WINDOW, FOR_EVER))
        });
        let publishers: Vec<_> = publishers.collect();
        for publisher in publishers {
            let outcome = publisher.join();
            let outcome =
                outcome.map_err(|_| Failure::Other("a publisher's thread panicked".to_owned()))?;
            outcome.map_err(Failure::client("a publisher failed"))?;
        }
        Ok::<(), Failure>(())
    })?;
    let filled = begin.elapsed();
    let full = Usage::of(broker.pid())?;
    let disk_bytes = folder_bytes(&place.data_dir);
    let total = each * u32::from(PUBLISHERS);
    let drained = drain(port, total)?;
    wait::pause(SETTLE);
    let after = Usage::of(broker.pid())?;
    let mebibytes = |bytes: u64| bytes as f64 / MEBIBYTE;
    Ok(DeepQueueFigure {
        messages: total,
        acks_per_sec: f64::from(total) / filled.as_secs_f64(),
        drained_per_sec: f64::from(total) / drained.as_secs_f64(),
        anonymous_mebibytes: [before, full, after].map(|usage| mebibytes(usage.anonymous_bytes)),
        rss_mebibytes: [before, full, after].map(|usage| mebibytes(usage.rss_bytes)),
        disk_mebibytes: mebibytes(disk_bytes),
    })
}

fn drain(port: u16, total: u32) -> Result<Duration, Failure> {
    let begin = Instant::now();
    let mut next = [0; PUBLISHERS as usize];
    let mut first_wrong = None;
    load::resume(port, "deep-0")
        .and_then(|mut link| {
            load::receive(&mut link, total, |place, name| {
                let expected = name.and_then(|name| next.get_mut(usize::from(name.publisher)));
                match (name, expected) {
                    (Some(name), Some(expected)) if name.number == *expected => *expected += 1,
                    _ => {
                        first_wrong.get_or_insert((place, name));
                    }
                }
            })?;
            link.disconnect()
        })
        .map_err(Failure::client("the queue did not come whole"))?;
    match first_wrong {
        None => Ok(begin.elapsed()),
        Some((place, name)) => Err(Failure::Other(format!(
            "the queue is not in order: {name:?} came in place {place}"
        ))),
    }
}

impl fmt::Display for DeepQueueFigure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [before, full, after] = self.rss_mebibytes;
        let [before_own, full_own, after_own] = self.anonymous_mebibytes;
        write!(
            f,
            "{} messages for one session: filled at {:.0} acks/s, read whole and in order at {:.0}/s; {:.0} MiB on the disk; \
             resident {before:.0} MiB before, {full:.0} MiB full, {after:.0} MiB empty again \
             (not of files: {before_own:.0}, {full_own:.0}, {after_own:.0} MiB)",
            self.messages, self.acks_per_sec, self.drained_per_sec, self.disk_mebibytes
        )
    }
}

const PUBLISHERS: u16 = 4;
const WINDOW: usize = 250;
const FOR_EVER: Duration = Duration::from_secs(3_600);
/// What the last acknowledgements make the broker remove.
const SETTLE: Duration = Duration::from_secs(2);
