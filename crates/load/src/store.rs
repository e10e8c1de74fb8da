//! Clients that publish what a broker is to keep: retained messages, and messages for clients that are away.

use std::fmt::Write;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::watch;
use whimbrel_session::codec::topic::TopicName;
use whimbrel_session::codec::{
    FanOut, FanOutBuffer, Payload, PublishProperties, PublishSource, QoS, ReasonCode,
};
use whimbrel_session::{PublishOptions, Refused};

use crate::clock;
use crate::error::Gone;
use crate::link::{Handler, Link};
use crate::options::{Afterwards, Scenario};
use crate::payload::Header;
use crate::shared::Phase;
use crate::spread::Spread;
use crate::worker::Worker;

/// Publishes this client's share, and clears it in the end if it has to.
pub(crate) async fn publish(worker: Rc<Worker>, number: u32) {
    let Some(task) = Task::of(&worker.shared.options.scenario) else {
        return;
    };
    let Some(link) = worker.connect('p', number).await else {
        return;
    };
    worker.shared.live.ready.fetch_add(1, Relaxed);
    let mut publisher = Publisher {
        worker: &worker,
        task,
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

/// What is to be published.
#[derive(Clone, Copy, Debug)]
struct Task {
    messages: u32,
    publishers: u32,
    qos: QoS,
    kind: Kind,
}

/// Why a broker keeps it.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// It is retained, each message on a topic of its own.
    Retained(Afterwards),
    /// It is for clients that are away, each of which has one topic.
    Queued,
}

impl Task {
    fn of(scenario: &Scenario) -> Option<Self> {
        match scenario {
            Scenario::Retained(retained) => Some(Self {
                messages: retained.messages,
                publishers: retained.publishers,
                qos: retained.qos,
                kind: Kind::Retained(retained.afterwards),
            }),
            Scenario::Offline(offline) => Some(Self {
                messages: offline.messages,
                publishers: offline.publishers,
                qos: offline.qos,
                kind: Kind::Queued,
            }),
            Scenario::Connect(_) | Scenario::Idle(_) | Scenario::Messages(_) => None,
        }
    }

    /// Messages of one publisher.
    fn quota(&self, publisher: u32) -> u32 {
        let rest = self.messages.saturating_sub(publisher);
        rest.div_ceil(self.publishers)
    }
}

struct Publisher<'a> {
    worker: &'a Worker,
    task: Task,
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
        if matches!(self.task.kind, Kind::Retained(Afterwards::Clear)) {
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
        let quota = self.task.quota(self.number);
        let mut sent = 0;
        while sent < quota {
            let sequence = self.name_topic(sent);
            match self.put(content, sequence, self.task.qos)? {
                Put::NoRoom => self.proceed(Until::Moved).await?,
                Put::Written => {
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
        if self.task.qos == QoS::AtMostOnce {
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

    /// Names the topic of the message that this client sends after so many, and returns the number of the message: among
    /// all retained ones, and among this client's for those that are queued.
    fn name_topic(&mut self, sent: u32) -> u32 {
        let shared = &*self.worker.shared;
        let base = &shared.base;
        let target = shared
            .spread
            .and_then(|spread| spread.target(self.number, sent));
        if let Some(target) = target {
            Spread::name_topic(base, target, &mut self.topic);
            return sent;
        }
        let sequence = self.number + sent * self.task.publishers;
        self.topic.clear();
        write!(self.topic, "{base}/{sequence}").expect("a string takes all");
        sequence
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
        let retain = matches!(self.task.kind, Kind::Retained(_));
        let options = PublishOptions { qos, retain };
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
            let case = || format!("a message of publisher {number} was refused with {reason}");
            meter.findings.example(case);
        } else {
            meter.acknowledged.note(sent, now);
        }
    }
}

/// Messages after which the clients of the same thread have their turn.
const BATCH_MAX: u32 = 1_024;
