//! A client that receives numbered messages and checks each.

use std::rc::Rc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;

use whimbrel_session::codec::{PublishRef, QoS};

use crate::error::Gone;
use crate::link::{Handler, Link};
use crate::meter::Meter;
use crate::options::{Messages, Scenario, Shape};
use crate::payload::Header;
use crate::shared::{Phase, Shared};
use crate::tracker::{Arrival, Tracker};
use crate::worker::Worker;

/// Subscribes, and receives until the run is over.
pub(crate) async fn subscribe(worker: Rc<Worker>, number: u32) {
    let shared = &worker.shared;
    let Scenario::Messages(messages) = &shared.options.scenario else {
        return;
    };
    let Some(mut link) = worker.connect('s', number).await else {
        return;
    };
    let filter = filter(shared, messages.shape, number);
    let mut receiver = Receiver::new(&worker, messages, number);
    let subscribed = {
        // SUBSCRIBE is part of the set-up, and bounded as that is.
        let _permit = worker.connecting.acquire().await;
        link.subscribe(&[filter], messages.qos_sub, &worker.scratch, &mut receiver)
            .await
    };
    match subscribed {
        Ok(granted) => {
            if granted < messages.qos_sub {
                shared.live.granted_less.fetch_add(1, Relaxed);
            }
            receiver.qos = granted.min(messages.qos);
        }
        Err(gone) => return shared.fail(format!("subscriber {number}"), gone),
    }
    link.connection.release_memory();
    shared.live.ready.fetch_add(1, Relaxed);
    match receive(&worker, &mut link, &mut receiver).await {
        Ok(()) => link.close().await,
        Err(gone) => worker.lost(&format!("subscriber {number}"), &gone),
    }
}

/// Receives until the run is over.
async fn receive(
    worker: &Worker,
    link: &mut Link,
    receiver: &mut Receiver<'_>,
) -> Result<(), Gone> {
    let mut phase = worker.shared.phase.subscribe();
    while *phase.borrow_and_update() < Phase::Closing {
        tokio::select! {
            biased;
            turned = link.turn(&worker.scratch, receiver) => turned?,
            changed = phase.changed() => if changed.is_err() { break },
        }
        receiver.publish_counts();
    }
    // Which were never to come is known only now.
    receiver.tell_gaps();
    Ok(())
}

fn filter(shared: &Shared, shape: Shape, number: u32) -> String {
    let base = &shared.base;
    match shape {
        Shape::Pairs | Shape::FanOut => shared.topic(number).as_str().to_owned(),
        Shape::FanIn | Shape::Subscriptions { .. } => format!("{base}/+"),
        Shape::Shared => format!("$share/g{:08x}/{base}/+", shared.run),
    }
}

/// Checks and counts what one subscriber gets.
struct Receiver<'a> {
    worker: &'a Worker,
    number: u32,
    shape: Shape,
    /// At which messages are to come.
    qos: QoS,
    /// The publishers whose messages it gets are numbered from here.
    first_publisher: u32,
    /// Of each of them.
    trackers: Vec<Tracker>,
    /// Messages that came for the first time and that the others have not been told of.
    fresh: u64,
}

impl<'a> Receiver<'a> {
    fn new(worker: &'a Worker, messages: &Messages, number: u32) -> Self {
        let (first_publisher, publishers) = match messages.shape {
            Shape::Pairs => (number, 1),
            Shape::FanIn | Shape::FanOut | Shape::Shared | Shape::Subscriptions { .. } => {
                (0, messages.publishers)
            }
        };
        Self {
            worker,
            number,
            shape: messages.shape,
            qos: messages.qos.min(messages.qos_sub),
            first_publisher,
            trackers: (0..publishers).map(|_| Tracker::new(GAPS_MAX)).collect(),
            fresh: 0,
        }
    }

    /// Whether this message is the first of its kind here, and takes note of gaps, repeats and wrong order.
    fn note(&mut self, header: Header, meter: &mut Meter) -> bool {
        let shared = &*self.worker.shared;
        let Some(place) = header.publisher.checked_sub(self.first_publisher) else {
            return self.stray(header, meter);
        };
        let Some(tracker) = self.trackers.get_mut(place as usize) else {
            return self.stray(header, meter);
        };
        let window = &shared.windows[header.publisher as usize];
        let number = self.number;
        let Header {
            publisher,
            sequence,
            ..
        } = header;
        let findings = &mut meter.findings;
        let next = tracker.next();
        let arrival = tracker.note(sequence);
        if let Some(group) = shared.group.get(publisher as usize) {
            // Each member sees a part of the messages: what is missing here is with another. Who has it first
            // takes it from the publisher's window.
            if arrival == Arrival::Late {
                findings.out_of_order += 1;
                findings.example(|| {
                    format!(
                        "member {number} got {sequence} of publisher {publisher} after {}",
                        next - 1
                    )
                });
            }
            let mut group = group.lock().unwrap_or_else(PoisonError::into_inner);
            let is_fresh = group.note(sequence) != Arrival::Duplicate;
            drop(group);
            if is_fresh {
                window.settle(sequence);
            } else {
                findings.duplicates += 1;
                findings.example(|| {
                    format!("member {number} got {sequence} of publisher {publisher}, which the group had")
                });
            }
            return is_fresh;
        }
        match arrival {
            Arrival::InOrder => window.settle(sequence),
            Arrival::AfterGap(gap) => {
                // Whether it comes late or never: the publisher does not wait for it.
                gap.for_each(|missing| window.settle(missing));
                window.settle(sequence);
            }
            Arrival::Late => {
                findings.out_of_order += 1;
                findings.example(|| {
                    format!(
                        "subscriber {number} got {sequence} of publisher {publisher} after {}",
                        next - 1
                    )
                });
            }
            Arrival::Duplicate => {
                findings.duplicates += 1;
                findings.example(|| {
                    format!("subscriber {number} got {sequence} of publisher {publisher} again")
                });
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
                "subscriber {number} got {} of publisher {}, which is not for it",
                header.sequence, header.publisher
            )
        });
        false
    }

    /// Tells the others what has come.
    fn publish_counts(&mut self) {
        let fresh = std::mem::take(&mut self.fresh);
        if fresh > 0 {
            self.worker.shared.live.fresh.fetch_add(fresh, Relaxed);
        }
    }

    /// Gives examples of what is lost.
    fn tell_gaps(&self) {
        if self.shape == Shape::Shared {
            return;
        }
        let findings = &mut self.worker.meter.borrow_mut().findings;
        for (publisher, tracker) in (self.first_publisher..).zip(&self.trackers) {
            if let Some(gap) = tracker.first_gap() {
                let number = self.number;
                findings.example(|| {
                    format!(
                        "subscriber {number} never got {} to {} of publisher {publisher}",
                        gap.start,
                        gap.end - 1
                    )
                });
            }
        }
    }
}

impl Handler for Receiver<'_> {
    fn message(&mut self, now: u64, topic: &str, message: &PublishRef<'_>) {
        let shared = &*self.worker.shared;
        let meter = &mut *self.worker.meter.borrow_mut();
        let payload = message.payload();
        let number = self.number;
        let Some(header) = self.worker.payload.borrow().read(payload) else {
            meter.findings.corrupt += 1;
            let case = || {
                let length = payload.len();
                format!("subscriber {number} got {length} bytes with a wrong checksum or length")
            };
            meter.findings.example(case);
            return;
        };
        let is_own = header.run == shared.run;
        if !is_own || topic != shared.topic(header.publisher).as_str() {
            self.stray(header, meter);
            return;
        }
        if message.qos() != self.qos {
            meter.findings.wrong_qos += 1;
            let (is, to_be) = (message.qos() as u8, self.qos as u8);
            meter
                .findings
                .example(|| format!("subscriber {number} got QoS {is} where it was to be {to_be}"));
        }
        if !self.note(header, meter) {
            return;
        }
        self.fresh += 1;
        meter.last_arrival = meter.last_arrival.max(now);
        if shared.is_measured(now) {
            meter.delivered += 1;
        }
        if shared.is_measured(header.sent) {
            meter.latency.note(header.sent, now);
        }
    }
}

/// Gaps of one publisher at one subscriber at a time: 100 KB of them. A broker that leaves more is beyond counting.
const GAPS_MAX: usize = 4_096;
