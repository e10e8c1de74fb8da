//! [`Shared`]: what the threads of a run have in common.

use std::num::NonZeroU16;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use tokio::sync::{Notify, watch};
use whimbrel_net::Address;
use whimbrel_session::codec::Connect;
use whimbrel_session::codec::topic::{TopicName, TopicNameBuf};

use crate::clock::Clock;
use crate::error::{Gone, RunError};
use crate::link::LinkOptions;
use crate::options::{Options, Pace, Scenario, Shape};
use crate::payload::splitmix;
use crate::spread::Spread;
use crate::tracker::Tracker;
use crate::window::Window;

/// How far a run is. Each phase begins for all clients at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Clients connect and subscribe; those with many filters connect.
    Setup,
    /// Clients with many filters subscribe.
    Subscribing,
    /// They do what they are here for.
    Running,
    /// The same, and it counts. For messages that are kept: they are fetched.
    Measuring,
    /// Nothing new is sent; what is under way may arrive. For messages that are kept: what is left of them goes.
    Draining,
    /// Clients disconnect.
    Closing,
}

/// What the threads of a run have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) link: LinkOptions,
    pub(crate) clock: Clock,
    /// In every payload, client id and topic of the run.
    pub(crate) run: u32,
    /// What all topics of the run begin with, without a slash at the end.
    pub(crate) base: String,
    /// The topic of each publisher; one for all where they share it, and none where it is by the message.
    topics: Vec<TopicNameBuf>,
    /// Which is the topic of a message, where each is for one of many clients.
    pub(crate) spread: Option<Spread>,
    /// Of each publisher.
    pub(crate) windows: Vec<Window>,
    /// What the members of the shared subscription have got together, of each publisher.
    pub(crate) group: Vec<Mutex<Tracker>>,
    pub(crate) phase: watch::Sender<Phase>,
    pub(crate) live: Live,
    /// When the first message, or connection, is due.
    pub(crate) start: AtomicU64,
    /// From when messages count that are measured, by the time they were to be sent.
    pub(crate) measure_from: AtomicU64,
    /// Until when.
    pub(crate) measure_to: AtomicU64,
    /// Connections of a storm whose time has come.
    pub(crate) due: AtomicU64,
    /// Wakes each thread when `due` has grown.
    pub(crate) due_grown: Vec<Notify>,
    failure: Mutex<Option<RunError>>,
}

/// Counts that are watched while they grow.
#[derive(Debug, Default)]
pub(crate) struct Live {
    /// Clients whose CONNACK has come.
    pub(crate) connected: AtomicU64,
    /// Clients that have all they need to begin.
    pub(crate) ready: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) lost: AtomicU64,
    /// Messages sent.
    pub(crate) sent: AtomicU64,
    /// Deliveries that these messages ask for.
    pub(crate) owed: AtomicU64,
    /// Deliveries that have come, each once.
    pub(crate) fresh: AtomicU64,
    /// Messages of QoS 1 and 2 that are acknowledged to the end, or refused.
    pub(crate) acknowledged: AtomicU64,
    /// Publishers that have sent all they were to send; what the broker keeps is acknowledged too.
    pub(crate) done: AtomicU64,
    /// Filters that clients with many of them have subscribed to.
    pub(crate) subscribed: AtomicU64,
    /// Subscriptions that were made and ended beside the messages.
    pub(crate) churned: AtomicU64,
    /// Subscribers that have all that was kept for them.
    pub(crate) fetched: AtomicU64,
    /// Clients that have taken off the broker what they had left there.
    pub(crate) cleared: AtomicU64,
    /// Subscriptions that were granted a lower QoS than they asked for.
    pub(crate) granted_less: AtomicU64,
}

impl Shared {
    /// For a broker at `address`, the options being checked.
    pub(crate) fn new(options: Options, address: Address) -> Self {
        let mut state = options.seed;
        let run = (splitmix(&mut state) >> 32) as u32;
        let base = format!("{}/{run:08x}", options.topic_prefix);
        let (mut topics, mut windows, mut group) = (Vec::new(), Vec::new(), Vec::new());
        let (mut payload_bytes, mut in_flight, mut spread) = (0, u16::MAX, None);
        match &options.scenario {
            Scenario::Messages(messages) => {
                let publishers = 0..messages.publishers;
                let slots = match messages.pace {
                    Pace::InFlight(count) => count,
                    Pace::Rate(_) => 0,
                };
                let receivers = messages.receivers();
                windows = publishers
                    .clone()
                    .map(|_| Window::new(slots.into(), receivers))
                    .collect();
                if messages.shape == Shape::Shared {
                    let tracker = || Mutex::new(Tracker::new(GROUP_GAPS_MAX));
                    group = publishers.clone().map(|_| tracker()).collect();
                }
                let topic_numbers = match messages.shape {
                    Shape::FanOut => 0..1,
                    Shape::Subscriptions { .. } => 0..0,
                    Shape::Pairs | Shape::FanIn | Shape::Shared => publishers,
                };
                spread = messages.spread();
                topics = topic_numbers.map(|number| name(&base, number)).collect();
                payload_bytes = messages.size;
            }
            Scenario::Retained(retained) => {
                payload_bytes = retained.size;
                in_flight = retained.in_flight;
            }
            Scenario::Offline(offline) => {
                payload_bytes = offline.size;
                in_flight = offline.in_flight;
                spread = Some(offline.spread());
            }
            Scenario::Connect(_) | Scenario::Idle(_) => {}
        }
        let in_flight = NonZeroU16::new(in_flight).unwrap_or(NonZeroU16::MIN);
        let packet_bytes = payload_bytes + base.len() + PACKET_OVERHEAD_MAX;
        Self {
            link: LinkOptions::new(address, packet_bytes, in_flight),
            clock: Clock::new(),
            run,
            base,
            topics,
            spread,
            windows,
            group,
            phase: watch::Sender::new(Phase::Setup),
            live: Live::default(),
            start: AtomicU64::new(0),
            measure_from: AtomicU64::new(u64::MAX),
            measure_to: AtomicU64::new(u64::MAX),
            due: AtomicU64::new(0),
            due_grown: (0..options.threads).map(|_| Notify::new()).collect(),
            failure: Mutex::new(None),
            options,
        }
    }

    /// The topic of a publisher; not where it is by the message.
    pub(crate) fn topic(&self, publisher: u32) -> &TopicName {
        let topic = self.topics.get(publisher as usize).or(self.topics.first());
        topic.expect("a scenario with publishers has topics")
    }

    /// CONNECT of a client: of its kind, as one letter, this number.
    pub(crate) fn connect(&self, kind: char, number: u32) -> Connect {
        // 23 bytes at most [3:MQTT-3.1.3-5].
        let client_id = format!("b{:08x}-{kind}{number}", self.run);
        let options = &self.options;
        let mut connect = Connect::new(options.version, client_id);
        connect.keep_alive_secs = options.keep_alive_secs;
        connect.user_name = options.user_name.as_deref().map(Into::into);
        connect.password = options.password.clone().map(Into::into);
        connect
    }

    /// CONNECT of a client whose session outlives its connection.
    pub(crate) fn connect_to_stay(&self, kind: char, number: u32) -> Connect {
        let mut connect = self.connect(kind, number);
        connect.clean_start = false;
        // Before MQTT 5 there is nothing to say how long.
        connect.properties.session_expiry_secs = SESSION_EXPIRY_SECS;
        connect
    }

    /// Begins a phase.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// A client could not be set up. But for a storm, the run is over. The first failure is told.
    pub(crate) fn fail(&self, client: String, source: Gone) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(RunError::Setup { client, source });
        self.live.failed.fetch_add(1, Relaxed);
    }

    /// A thread has not come up: nobody is to wait for its clients.
    pub(crate) fn give_up(&self) {
        self.live.failed.fetch_add(self.options.clients(), Relaxed);
    }

    /// Why the run is over before it began.
    pub(crate) fn take_failure(&self) -> Option<RunError> {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.take()
    }

    /// Whether what was to be sent at this time is measured.
    pub(crate) fn is_measured(&self, at: u64) -> bool {
        (self.measure_from.load(Relaxed)..self.measure_to.load(Relaxed)).contains(&at)
    }
}

fn name(base: &str, number: u32) -> TopicNameBuf {
    let text = format!("{base}/{number}");
    let name = TopicName::new(&text).expect("the prefix was checked, and digits are no wildcards");
    name.to_owned()
}

/// When the `index`-th of all events of a rate is due.
pub(crate) fn due_at(start: u64, rate: f64, index: u64) -> u64 {
    start.saturating_add((index as f64 * 1e9 / rate) as u64)
}

/// Members of a group are never in step: what one has and another has not yet is a gap of the group.
const GROUP_GAPS_MAX: usize = 65_536;
/// Longer than any run: sessions that a run could not end go by themselves.
const SESSION_EXPIRY_SECS: u32 = 24 * 60 * 60;
/// Fixed header, lengths, packet id, properties and the last level of a topic.
const PACKET_OVERHEAD_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_a_rate_are_evenly_spaced_and_never_drift() {
        let rate = 3.0;
        assert_eq!(due_at(5, rate, 0), 5);
        assert_eq!(due_at(0, rate, 1), 333_333_333);
        assert_eq!(due_at(0, rate, 3_000_000), 1_000_000 * 1_000_000_000);
    }
}
