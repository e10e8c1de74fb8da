//! Clients that fetch all retained messages at once.

use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use whimbrel_session::codec::{PublishRef, QoS};

use crate::error::Gone;
use crate::link::{Handler, Link};
use crate::options::{Retained, Scenario};
use crate::shared::Phase;
use crate::worker::Worker;

/// Fetches all messages when they are there.
pub(crate) async fn fetch(worker: Rc<Worker>, number: u32) {
    let Scenario::Retained(retained) = &worker.shared.options.scenario else {
        return;
    };
    let Some(mut link) = worker.connect('s', number).await else {
        return;
    };
    worker.shared.live.ready.fetch_add(1, Relaxed);
    let mut fetched = Fetched::new(&worker, retained, number);
    match fetched.run(&mut link).await {
        Ok(()) => link.close().await,
        Err(gone) => worker.lost(&format!("subscriber {number}"), &gone),
    }
}

/// What a subscriber has got.
struct Fetched<'a> {
    worker: &'a Worker,
    retained: &'a Retained,
    number: u32,
    /// A bit for each message.
    marks: Vec<u64>,
    missing: u32,
    qos: QoS,
    /// When it subscribed.
    from: u64,
    fresh: u64,
}

impl<'a> Fetched<'a> {
    fn new(worker: &'a Worker, retained: &'a Retained, number: u32) -> Self {
        Self {
            worker,
            retained,
            number,
            marks: vec![0; retained.messages.div_ceil(u64::BITS) as usize],
            missing: retained.messages,
            qos: retained.qos.min(retained.qos_sub),
            from: 0,
            fresh: 0,
        }
    }

    async fn run(&mut self, link: &mut Link) -> Result<(), Gone> {
        let shared = &*self.worker.shared;
        let scratch = &self.worker.scratch;
        let mut phase = shared.phase.subscribe();
        let mut is_subscribed = false;
        let mut is_counted = false;
        loop {
            let now = *phase.borrow_and_update();
            if now == Phase::Closing {
                self.tell_missing();
                return Ok(());
            }
            if now >= Phase::Measuring && !is_subscribed {
                is_subscribed = true;
                self.from = shared.clock.nanos();
                let filter = format!("{}/+", shared.base);
                let granted = link
                    .subscribe(&[filter], self.retained.qos_sub, scratch, self)
                    .await?;
                if granted < self.retained.qos_sub {
                    shared.live.granted_less.fetch_add(1, Relaxed);
                }
                self.qos = self.qos.min(granted);
                self.tell_fresh();
            }
            if self.missing == 0 && !is_counted {
                is_counted = true;
                let mut meter = self.worker.meter.borrow_mut();
                meter.fetch.note(self.from, shared.clock.nanos());
                shared.live.fetched.fetch_add(1, Relaxed);
            }
            tokio::select! {
                biased;
                turned = link.turn(scratch, self) => turned?,
                changed = phase.changed() => if changed.is_err() { return Ok(()) },
            }
            self.tell_fresh();
        }
    }

    fn tell_fresh(&mut self) {
        let fresh = std::mem::take(&mut self.fresh);
        self.worker.shared.live.fresh.fetch_add(fresh, Relaxed);
    }

    /// Gives an example of what is lost.
    fn tell_missing(&self) {
        let missing = (0..self.retained.messages).find(|&sequence| !self.has(sequence));
        let Some(sequence) = missing else { return };
        let number = self.number;
        let findings = &mut self.worker.meter.borrow_mut().findings;
        findings.example(|| format!("subscriber {number} never got retained message {sequence}"));
    }

    fn has(&self, sequence: u32) -> bool {
        let word = self.marks.get((sequence / u64::BITS) as usize);
        word.is_some_and(|word| word & (1 << (sequence % u64::BITS)) != 0)
    }

    fn mark(&mut self, sequence: u32) {
        if let Some(word) = self.marks.get_mut((sequence / u64::BITS) as usize) {
            *word |= 1 << (sequence % u64::BITS);
            self.missing -= 1;
        }
    }
}

impl Handler for Fetched<'_> {
    fn message(&mut self, now: u64, topic: &str, message: &PublishRef<'_>) {
        let payload = message.payload();
        if payload.is_empty() && !message.retain() {
            // The run clears its topics while it is still subscribed.
            return;
        }
        let shared = &*self.worker.shared;
        let meter = &mut *self.worker.meter.borrow_mut();
        let number = self.number;
        let header = self.worker.payload.borrow().read(payload);
        let Some(header) = header else {
            meter.findings.corrupt += 1;
            let case = || {
                let length = payload.len();
                format!("subscriber {number} got {length} bytes with a wrong checksum or length")
            };
            meter.findings.example(case);
            return;
        };
        let sequence = header.sequence;
        let level = topic.strip_prefix(shared.base.as_str());
        let level = level.and_then(|rest| rest.strip_prefix('/')?.parse().ok());
        let is_known = header.run == shared.run && sequence < self.retained.messages;
        if !is_known || level != Some(sequence) || !message.retain() {
            meter.findings.strays += 1;
            meter.findings.example(|| {
                format!("subscriber {number} got {sequence} on {topic}, or not as retained")
            });
            return;
        }
        if message.qos() != self.qos {
            meter.findings.wrong_qos += 1;
            let (is, to_be) = (message.qos() as u8, self.qos as u8);
            meter
                .findings
                .example(|| format!("subscriber {number} got QoS {is} where it was to be {to_be}"));
        }
        if self.has(sequence) {
            meter.findings.duplicates += 1;
            meter
                .findings
                .example(|| format!("subscriber {number} got retained message {sequence} again"));
            return;
        }
        self.mark(sequence);
        self.fresh += 1;
        meter.delivered += 1;
        meter.last_arrival = meter.last_arrival.max(now);
        meter.latency.note(self.from, now);
    }
}
