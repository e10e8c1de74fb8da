//! Clients that publish retained messages, and clients that fetch them all at once.

use std::fmt::Write;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::watch;
use whimbrel_session::codec::topic::TopicName;
use whimbrel_session::codec::{
    FanOut, FanOutBuffer, Payload, PublishProperties, PublishRef, PublishSource, QoS, ReasonCode,
};
use whimbrel_session::{PublishOptions, Refused};

use crate::clock;
use crate::error::Gone;
use crate::link::{Handler, Link};
use crate::options::{Afterwards, Retained, Scenario};
use crate::payload::Header;
use crate::shared::Phase;
use crate::worker::Worker;

/// Publishes this client's share, and clears it in the end.
pub(crate) async fn publish(worker: Rc<Worker>, number: u32) {
    let Scenario::Retained(retained) = &worker.shared.options.scenario else {
        return;
    };
    let Some(link) = worker.connect('p', number).await else {
        return;
    };
    worker.shared.live.ready.fetch_add(1, Relaxed);
    let mut publisher = Publisher {
        worker: &worker,
        retained,
        number,
        link,
        topic: String::new(),
        buffer: FanOutBuffer::new(),
    };
    match publisher.run().await {
        Ok(()) => publisher.link.close().await,
        Err(gone) => worker.lost(&format!("publisher {number}"), &gone),
    }
}

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

struct Publisher<'a> {
    worker: &'a Worker,
    retained: &'a Retained,
    number: u32,
    link: Link,
    /// Of the message at hand.
    topic: String,
    buffer: FanOutBuffer,
}

/// What is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Numbered,
    /// An empty retained message takes the topic's off the broker [5:MQTT-3.3.1-6].
    Nothing,
}

/// Whether a message went into the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Put {
    Written,
    NoRoom,
}

/// How long a publisher pauses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// Until something has come, or the output has room.
    Moved,
    /// Until the clients of the same thread had their turn, or something has come.
    OthersRan,
}

impl Publisher<'_> {
    async fn run(&mut self) -> Result<(), Gone> {
        let mut phase = self.worker.shared.phase.subscribe();
        if !self.wait_for(&mut phase, Phase::Running).await? {
            return Ok(());
        }
        self.publish_all(Content::Numbered).await?;
        if !self.wait_for(&mut phase, Phase::Draining).await? {
            return Ok(());
        }
        if self.retained.afterwards == Afterwards::Clear {
            self.publish_all(Content::Nothing).await?;
        }
        self.wait_for(&mut phase, Phase::Closing).await?;
        Ok(())
    }

    /// Keeps the connection until a phase has begun. False when it was left out.
    async fn wait_for(
        &mut self,
        phase: &mut watch::Receiver<Phase>,
        wanted: Phase,
    ) -> Result<bool, Gone> {
        loop {
            let now = *phase.borrow_and_update();
            if now >= wanted {
                return Ok(now == wanted);
            }
            tokio::select! {
                biased;
                turned = turn(&mut self.link, self.worker, self.number) => turned?,
                changed = phase.changed() => if changed.is_err() { return Ok(false) },
            }
        }
    }

    /// Publishes to each topic of this client's, and waits until the broker has all of it.
    async fn publish_all(&mut self, content: Content) -> Result<(), Gone> {
        let live = &self.worker.shared.live;
        let mut next = self.number;
        let mut sent = 0_u64;
        while next < self.retained.messages {
            self.name_topic(next);
            match self.put(content, next, self.retained.qos)? {
                Put::NoRoom => self.proceed(Until::Moved).await?,
                Put::Written => {
                    next = next.saturating_add(self.retained.publishers);
                    sent += 1;
                    if content == Content::Numbered {
                        live.sent.fetch_add(1, Relaxed);
                    }
                    if sent.is_multiple_of(BATCH_MAX) {
                        self.proceed(Until::OthersRan).await?;
                    }
                }
            }
        }
        if self.retained.qos == QoS::AtMostOnce {
            // QoS 0 is not acknowledged: what is sent behind it is.
            let (base, number) = (&self.worker.shared.base, self.number);
            self.topic = format!("{base}/fence/{number}");
            while self.put(Content::Nothing, 0, QoS::AtLeastOnce)? == Put::NoRoom {
                self.proceed(Until::Moved).await?;
            }
        }
        while self.link.connection.in_flight() > 0 {
            self.proceed(Until::Moved).await?;
        }
        let done = match content {
            Content::Numbered => &live.done,
            Content::Nothing => &live.cleared,
        };
        done.fetch_add(1, Relaxed);
        Ok(())
    }

    async fn proceed(&mut self, until: Until) -> Result<(), Gone> {
        tokio::select! {
            biased;
            turned = turn(&mut self.link, self.worker, self.number) => turned,
            () = tokio::task::yield_now(), if until == Until::OthersRan => Ok(()),
        }
    }

    fn name_topic(&mut self, sequence: u32) {
        self.topic.clear();
        let base = &self.worker.shared.base;
        write!(self.topic, "{base}/{sequence}").expect("a string takes all");
    }

    fn put(&mut self, content: Content, sequence: u32, qos: QoS) -> Result<Put, Gone> {
        let shared = &*self.worker.shared;
        let now = shared.clock.nanos();
        let topic = TopicName::new(&self.topic).expect("the prefix was checked");
        let mut template = self.worker.payload.borrow_mut();
        let payload = match content {
            Content::Nothing => &[],
            Content::Numbered => template.fill_in(Header {
                run: shared.run,
                publisher: self.number,
                sequence,
                sent: now,
            }),
        };
        let source = PublishSource {
            topic,
            properties: PublishProperties::EMPTY,
            payload: Payload::Borrowed(payload),
            message_expiry_secs: None,
        };
        let options = PublishOptions { qos, retain: true };
        let mut message = FanOut::new(source, &mut self.buffer);
        let connection = &mut self.link.connection;
        match connection.publish(clock::tick(now), &mut message, options, now) {
            Ok(_) => Ok(Put::Written),
            Err(Refused::WindowFull(_)) => Ok(Put::NoRoom),
            Err(Refused::OutputFull(_)) => {
                self.link.wants_output = true;
                Ok(Put::NoRoom)
            }
            Err(refused) => Err(Gone::Unpublishable(refused.to_string())),
        }
    }
}

async fn turn(link: &mut Link, worker: &Worker, number: u32) -> Result<(), Gone> {
    let mut handler = Acknowledged { worker, number };
    link.turn(&worker.scratch, &mut handler).await
}

/// Counts what is acknowledged.
struct Acknowledged<'a> {
    worker: &'a Worker,
    number: u32,
}

impl Handler for Acknowledged<'_> {
    fn delivered(&mut self, now: u64, sent: u64, reason: ReasonCode) {
        let mut meter = self.worker.meter.borrow_mut();
        let number = self.number;
        self.worker.shared.live.acknowledged.fetch_add(1, Relaxed);
        if reason.is_error() {
            meter.findings.refused += 1;
            let case =
                || format!("a retained message of publisher {number} was refused with {reason}");
            meter.findings.example(case);
        } else {
            meter.acknowledged.note(sent, now);
        }
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
                    .subscribe(&filter, self.retained.qos_sub, scratch, self)
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
        let header = Header::read(payload).filter(|_| payload.len() == self.retained.size);
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

/// Messages after which the clients of the same thread have their turn.
const BATCH_MAX: u64 = 1_024;
