//! A client that publishes numbered messages.

use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use whimbrel_session::codec::topic::TopicName;
use whimbrel_session::codec::{
    FanOut, FanOutBuffer, Payload, PublishProperties, PublishSource, ReasonCode,
};
use whimbrel_session::{PublishOptions, Refused};

use crate::clock;
use crate::error::Gone;
use crate::link::{Handler, Link};
use crate::options::{Messages, Pace, Scenario};
use crate::payload::Header;
use crate::shared::{Phase, Shared, due_at};
use crate::spread::Spread;
use crate::worker::Worker;

/// Publishes until there is enough, and stays until the run is over.
pub(crate) async fn publish(worker: Rc<Worker>, number: u32) {
    let shared = &worker.shared;
    let Scenario::Messages(messages) = &shared.options.scenario else {
        return;
    };
    let Some(mut link) = worker.connect('p', number).await else {
        return;
    };
    shared.live.ready.fetch_add(1, Relaxed);
    let mut publisher = Publisher {
        worker: &worker,
        messages,
        number,
        quota: messages.quota(number).unwrap_or(u64::from(u32::MAX)),
        next: 0,
        is_done: false,
        topic: String::new(),
        buffer: FanOutBuffer::new(),
    };
    match publisher.run(&mut link).await {
        Ok(()) => link.close().await,
        Err(gone) => worker.lost(&format!("publisher {number}"), &gone),
    }
    publisher.finish();
}

/// A client that publishes, apart from its connection.
struct Publisher<'a> {
    worker: &'a Worker,
    messages: &'a Messages,
    number: u32,
    /// Messages that it is to send.
    quota: u64,
    /// Number of its next message.
    next: u32,
    /// It has said that it sends no more.
    is_done: bool,
    /// Of the message at hand, where it is by the message.
    topic: String,
    buffer: FanOutBuffer,
}

/// Why a publisher stops for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    /// Until its connection, its window or the time says more.
    Woken,
    /// Others have their turn.
    Yield,
}

/// Counts what is acknowledged.
struct Acknowledged<'a> {
    worker: &'a Worker,
    number: u32,
}

impl Publisher<'_> {
    async fn run(&mut self, link: &mut Link) -> Result<(), Gone> {
        let shared = &*self.worker.shared;
        let worker = self.worker;
        let mut phase = shared.phase.subscribe();
        let mut handler = Acknowledged {
            worker,
            number: self.number,
        };
        let window = &shared.windows[self.number as usize];
        loop {
            let pause = match *phase.borrow_and_update() {
                Phase::Setup | Phase::Subscribing => Pause::Woken,
                Phase::Running | Phase::Measuring => self.fill(link)?,
                Phase::Draining => {
                    self.finish();
                    Pause::Woken
                }
                Phase::Closing => return Ok(()),
            };
            tokio::select! {
                biased;
                turned = link.turn(&worker.scratch, &mut handler) => turned?,
                changed = phase.changed() => if changed.is_err() { return Ok(()) },
                () = window.wake.notified() => {}
                () = tokio::task::yield_now(), if pause == Pause::Yield => {}
            }
        }
    }

    /// Puts as many messages into the output as may go now.
    fn fill(&mut self, link: &mut Link) -> Result<Pause, Gone> {
        let shared = &*self.worker.shared;
        let window = &shared.windows[self.number as usize];
        if window.is_awaited() {
            // An acknowledgement has come meanwhile: no reason to send one message where a batch is due soon.
            return Ok(Pause::Woken);
        }
        let options = PublishOptions {
            qos: self.messages.qos,
            retain: false,
        };
        let first = self.next;
        let mut meter = self.worker.meter.borrow_mut();
        let mut template = self.worker.payload.borrow_mut();
        let mut now = 0;
        let pause = loop {
            if u64::from(self.next) >= self.quota {
                break Pause::Woken;
            }
            let batched = self.next - first;
            if batched.is_multiple_of(CLOCK_EVERY) || self.messages.is_open_loop() {
                now = shared.clock.nanos();
            }
            let sent = match self.messages.pace {
                Pace::Rate(rate) => {
                    let due = self.due(shared, rate);
                    if due > now {
                        break Pause::Woken;
                    }
                    due
                }
                Pace::InFlight(_) if window.has_room(self.next) => now,
                Pace::InFlight(_) if window.wait() => break Pause::Woken,
                Pace::InFlight(_) => continue,
            };
            let header = Header {
                run: shared.run,
                publisher: self.number,
                sequence: self.next,
                sent,
            };
            let mut message = FanOut::new(
                PublishSource {
                    topic: name_topic(shared, self.number, self.next, &mut self.topic),
                    properties: PublishProperties::EMPTY,
                    payload: Payload::Borrowed(template.fill_in(header)),
                    message_expiry_secs: None,
                },
                &mut self.buffer,
            );
            let tick = clock::tick(now);
            match link.connection.publish(tick, &mut message, options, sent) {
                Ok(_) => {}
                // The next acknowledgement ends the turn.
                Err(Refused::WindowFull(_)) => break Pause::Woken,
                Err(Refused::OutputFull(_)) => {
                    link.wants_output = true;
                    break Pause::Woken;
                }
                Err(refused) => return Err(Gone::Unpublishable(refused.to_string())),
            }
            window.take(self.next);
            self.next += 1;
            if shared.is_measured(sent) {
                meter.published += 1;
                if let Pace::Rate(_) = self.messages.pace {
                    meter.send_delay.note(sent, now);
                }
            }
            if self.next - first >= BATCH_MAX {
                break Pause::Yield;
            }
        };
        let sent = u64::from(self.next - first);
        let owed = sent * u64::from(self.messages.receivers());
        shared.live.sent.fetch_add(sent, Relaxed);
        shared.live.owed.fetch_add(owed, Relaxed);
        if u64::from(self.next) >= self.quota {
            self.finish();
        }
        Ok(pause)
    }

    /// When its next message is to be sent: publishers take turns.
    fn due(&self, shared: &Shared, rate: f64) -> u64 {
        let publishers = u64::from(self.messages.publishers);
        let index = u64::from(self.next) * publishers + u64::from(self.number);
        due_at(shared.start.load(Relaxed), rate, index)
    }

    /// It sends no more. Counts once.
    fn finish(&mut self) {
        if !std::mem::replace(&mut self.is_done, true) {
            self.worker.shared.live.done.fetch_add(1, Relaxed);
        }
    }
}

/// The topic of a message, written into `name` where it is by the message.
fn name_topic<'a>(
    shared: &'a Shared,
    publisher: u32,
    sequence: u32,
    name: &'a mut String,
) -> &'a TopicName {
    let spread = shared.spread.as_ref();
    match spread.and_then(|spread| spread.target(publisher, sequence)) {
        Some(target) => {
            Spread::name_topic(&shared.base, target, name);
            TopicName::new(name).expect("the prefix was checked, and digits are no wildcards")
        }
        None => shared.topic(publisher),
    }
}

impl Handler for Acknowledged<'_> {
    fn delivered(&mut self, now: u64, sent: u64, reason: ReasonCode) {
        let shared = &*self.worker.shared;
        let mut meter = self.worker.meter.borrow_mut();
        shared.live.acknowledged.fetch_add(1, Relaxed);
        if reason.is_error() {
            meter.findings.refused += 1;
            let number = self.number;
            let case = || format!("a message of publisher {number} was refused with {reason}");
            meter.findings.example(case);
        } else if shared.is_measured(sent) {
            meter.acknowledged.note(sent, now);
        }
    }
}

/// Messages after which the clients of the same thread have their turn.
const BATCH_MAX: u32 = 1_024;
/// Messages of one batch that share a look at the clock, in a closed loop: they are put into the output within a few
/// microseconds, and leave together.
const CLOCK_EVERY: u32 = 16;
