//! How long a start takes on a full store, and what it costs in memory.

use std::fmt;
use std::thread;
use std::time::Duration;

use whimbrel_codec::QoS;

use super::load::{self, Template, Topics};
use super::{Bench, MEBIBYTE, PAYLOAD_BYTES};
use crate::Failure;
use crate::broker::START_TIMEOUT;
use crate::crash::Death;
use crate::process::Usage;

/// A start on a full store.
#[derive(Clone, Copy, Debug)]
pub struct RecoveryFigure {
    /// Messages that were queued.
    pub queued: u32,
    /// Retained messages.
    pub retained: u32,
    /// From the start of the process to its answer to a client.
    pub took: Duration,
    /// Resident memory of a broker without any state.
    pub empty_mebibytes: f64,
    /// Resident memory when the messages had been queued.
    pub before_mebibytes: f64,
    /// Resident memory after the start on the full store.
    pub after_mebibytes: f64,
    /// The store on the disk.
    pub disk_mebibytes: f64,
}

/// Queues messages for ten sessions, retains others, ends the broker, starts it again.
///
/// # Errors
///
/// When the broker or a client failed, or something is missing afterwards.
pub fn recovery(
    bench: &Bench,
    queued: u32,
    retained: u32,
    death: Death,
) -> Result<RecoveryFigure, Failure> {
    let place = bench.place("recovery")?;
    let broker = bench.broker.start(&place, bench.shards)?;
    let port = broker.port();
    let empty = Usage::of(broker.pid())?;
    load::leave_sessions(port, "away", SESSIONS, |number| format!("queue/{number}"))?;
    let each = queued / SESSIONS;
    thread::scope(|scope| {
        let publishers = (0..SESSIONS as u16).map(|number| {
            let topic = format!("queue/{number}");
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
    let template = Template::new(
        99,
        Topics::Each("retained/"),
        QoS::AtLeastOnce,
        true,
        PAYLOAD_BYTES,
    );
    load::publish(port, "load-retained", template, retained, WINDOW, FOR_EVER)
        .map_err(Failure::client("could not retain"))?;
    let before = Usage::of(broker.pid())?;
    match death {
        Death::Kill => broker.kill()?,
        Death::Stop => broker.stop()?,
    }
    let disk_bytes = folder_bytes(&place.data_dir);

    let broker = bench.broker.start(&place, bench.shards)?;
    load::wait_until_answered(port, START_TIMEOUT)?;
    let took = broker.started().elapsed();
    let after = Usage::of(broker.pid())?;
    check(port, each, retained)?;
    Ok(RecoveryFigure {
        queued: each * SESSIONS,
        retained,
        took,
        empty_mebibytes: empty.rss_bytes as f64 / MEBIBYTE,
        before_mebibytes: before.rss_bytes as f64 / MEBIBYTE,
        after_mebibytes: after.rss_bytes as f64 / MEBIBYTE,
        disk_mebibytes: disk_bytes as f64 / MEBIBYTE,
    })
}

/// One of the queues is whole, and so are the retained messages.
fn check(port: u16, queued: u32, retained: u32) -> Result<(), Failure> {
    let mut wrong = 0;
    load::resume(port, "away-3")
        .and_then(|mut link| {
            load::receive(&mut link, queued, |number, name| {
                wrong += u32::from(name.is_none_or(|name| name.number != number));
            })?;
            link.disconnect()
        })
        .map_err(Failure::client("a queue did not come whole"))?;
    load::subscribe(port, "retained-reader", true, "retained/#", QoS::AtMostOnce)
        .and_then(|mut link| {
            load::receive(&mut link, retained, |_, name| {
                wrong += u32::from(name.is_none());
            })?;
            link.disconnect()
        })
        .map_err(Failure::client("the retained messages did not come whole"))?;
    if wrong > 0 {
        return Err(Failure::Other(format!(
            "{wrong} messages were not what they had to be after the start"
        )));
    }
    Ok(())
}

pub(super) fn folder_bytes(folder: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let lengths = entries.filter_map(|entry| Some(entry.metadata().ok()?.len()));
    lengths.sum()
}

impl fmt::Display for RecoveryFigure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = |mebibytes: f64| {
            (mebibytes - self.empty_mebibytes) * MEBIBYTE / f64::from(self.queued + self.retained)
        };
        write!(
            f,
            "{} queued and {} retained messages: answers after {:.2} s; {:.0} MiB on the disk; \
             resident {:.0} MiB empty, {:.0} MiB full ({:.0} B a message), {:.0} MiB after the start ({:.0} B a message)",
            self.queued,
            self.retained,
            self.took.as_secs_f64(),
            self.disk_mebibytes,
            self.empty_mebibytes,
            self.before_mebibytes,
            each(self.before_mebibytes),
            self.after_mebibytes,
            each(self.after_mebibytes),
        )
    }
}

const SESSIONS: u32 = 10;
const WINDOW: usize = 100;
const FOR_EVER: Duration = Duration::from_secs(900);
