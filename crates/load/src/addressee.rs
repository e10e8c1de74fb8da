//! [`Addressee`]: checks what one client gets where each message is for one of many.

use std::sync::atomic::Ordering::Relaxed;

use whimbrel_session::codec::{PublishRef, QoS};

use crate::link::Handler;
use crate::meter::Meter;
use crate::payload::Header;
use crate::shared::Shared;
use crate::spread::{Spread, Target};
use crate::tracker::{Arrival, Tracker};
use crate::worker::Worker;

/// Checks and counts what one client gets of its topics.
pub(crate) struct Addressee<'a> {
    worker: &'a Worker,
    spread: Spread,
    number: u32,
    /// At which messages are to come.
    pub(crate) qos: QoS,
    /// Of each of its topics.
    trackers: Vec<Tracker>,
    /// Messages that came for the first time and that the others have not been told of.
    fresh: u64,
    /// All of them.
    pub(crate) received: u64,
}

impl<'a> Addressee<'a> {
    /// Client `number` of the run's spread.
    pub(crate) fn new(worker: &'a Worker, spread: Spread, number: u32) -> Self {
        let topics = 0..spread.each();
        let gaps_max = (GAPS_MAX / spread.each() as usize).max(GAPS_MIN);
        Self {
            worker,
            spread,
            number,
            qos: QoS::AtMostOnce,
            trackers: topics.map(|_| Tracker::new(gaps_max)).collect(),
            fresh: 0,
            received: 0,
        }
    }

    /// Tells the others what has come.
    pub(crate) fn publish_counts(&mut self) {
        let fresh = std::mem::take(&mut self.fresh);
        if fresh > 0 {
            self.worker.shared.live.fresh.fetch_add(fresh, Relaxed);
        }
    }

    /// Gives examples of what is lost.
    pub(crate) fn tell_gaps(&self) {
        let findings = &mut self.worker.meter.borrow_mut().findings;
        for (place, tracker) in self.trackers.iter().enumerate() {
            if let Some(gap) = tracker.first_gap() {
                let (number, from, to) = (self.number, gap.start, gap.end - 1);
                findings.example(|| {
                    format!("client {number} never got {from} to {to} of topic {place}")
                });
            }
        }
    }

    /// Whether this message is the first of its kind here, and takes note of gaps, repeats and wrong order.
    fn note(&mut self, header: Header, target: Target, meter: &mut Meter) -> bool {
        let shared = &*self.worker.shared;
        let window = shared.windows.get(header.publisher as usize);
        let settle = |sequence: u32| {
            if let Some(window) = window {
                window.settle(sequence);
            }
        };
        let Target { place, round, .. } = target;
        let Some(tracker) = self.trackers.get_mut(place as usize) else {
            return self.stray(header, meter);
        };
        let number = self.number;
        let findings = &mut meter.findings;
        let next = tracker.next();
        match tracker.note(round) {
            Arrival::InOrder => settle(header.sequence),
            Arrival::AfterGap(gap) => {
                // Whether they come late or never: the publisher does not wait for them.
                let turn = self.spread.turn(header.publisher);
                for missing in gap {
                    settle(header.sequence - (round - missing) * turn);
                }
                settle(header.sequence);
            }
            Arrival::Late => {
                findings.out_of_order += 1;
                findings.example(|| {
                    format!(
                        "client {number} got {round} of topic {place} after {}",
                        next - 1
                    )
                });
            }
            Arrival::Duplicate => {
                findings.duplicates += 1;
                findings.example(|| format!("client {number} got {round} of topic {place} again"));
                return false;
            }
        }
        true
    }

    fn stray(&self, header: Header, meter: &mut Meter) -> bool {
        let number = self.number;
        meter.findings.strays += 1;
        meter.findings.example(|| {
            format!(
                "client {number} got {} of publisher {}, which is not for it",
                header.sequence, header.publisher
            )
        });
        false
    }

    /// Where a message of this run was to go, if that is here and by this topic.
    fn target(&self, shared: &Shared, header: Header, topic: &str) -> Option<Target> {
        let target = self.spread.target(header.publisher, header.sequence)?;
        let is_own = header.run == shared.run && target.client == self.number;
        (is_own && Spread::is_named(&shared.base, target, topic)).then_some(target)
    }
}

impl Handler for Addressee<'_> {
    fn message(&mut self, now: u64, topic: &str, message: &PublishRef<'_>) {
        let shared = &*self.worker.shared;
        let meter = &mut *self.worker.meter.borrow_mut();
        let payload = message.payload();
        let number = self.number;
        let Some(header) = self.worker.payload.borrow().read(payload) else {
            meter.findings.corrupt += 1;
            let length = payload.len();
            meter.findings.example(|| {
                format!("client {number} got {length} bytes with a wrong checksum or length")
            });
            return;
        };
        let Some(target) = self.target(shared, header, topic) else {
            self.stray(header, meter);
            return;
        };
        if message.qos() != self.qos {
            meter.findings.wrong_qos += 1;
            let (is, to_be) = (message.qos() as u8, self.qos as u8);
            meter
                .findings
                .example(|| format!("client {number} got QoS {is} where it was to be {to_be}"));
        }
        if !self.note(header, target, meter) {
            return;
        }
        self.fresh += 1;
        self.received += 1;
        meter.last_arrival = meter.last_arrival.max(now);
        if shared.is_measured(now) {
            meter.delivered += 1;
        }
        if shared.is_measured(header.sent) {
            meter.latency.note(header.sent, now);
        }
    }
}

/// Gaps at a time of all topics of a client: 100 KB of them. A broker that leaves more is beyond counting.
const GAPS_MAX: usize = 4_096;
/// Of one of them, however many there are.
const GAPS_MIN: usize = 4;
