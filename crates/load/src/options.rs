//! [`Options`]: what is to be loaded, and how.

use std::time::Duration;

use thiserror::Error;
use whimbrel_net::Address;
use whimbrel_session::codec::topic::TopicName;
use whimbrel_session::codec::{ProtocolVersion, QoS};

use crate::payload::HEADER_BYTES;
use crate::process;
use crate::spread::Spread;

/// What is to be loaded, and how.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Where the broker listens.
    pub broker: Address,
    /// What the clients speak. Default 5.0.
    pub version: ProtocolVersion,
    /// The user name of every client.
    pub user_name: Option<String>,
    /// The password of every client. Before 5.0 only with a user name [3:MQTT-3.1.2-22].
    pub password: Option<Vec<u8>>,
    /// What the clients do.
    pub scenario: Scenario,
    /// Threads that the clients are spread over. Default 1, at most 64.
    pub threads: usize,
    /// Topics are below this one and a level of the run's own.
    pub topic_prefix: String,
    /// Keep alive of every client in seconds, 0 for none. Default 60.
    pub keep_alive_secs: u16,
    /// The noise in payloads, and the number of the run, which is in topics and client ids: two runs with one seed at
    /// one time on one broker get into each other's way.
    pub seed: u64,
    /// How long messages are sent before those count that are measured. They are checked all the same. Default 0.
    pub warm_up: Duration,
    /// The longest time the whole run may take. Default: ten minutes, and what warm-up and duration ask for.
    pub timeout: Option<Duration>,
    /// How long nothing may come before what is missing is given up. Default 5 s, at least 100 ms.
    pub stall: Duration,
    /// Connections under way at a time, but for [`Storm`], which has its own. Default 64.
    pub connecting_max: usize,
    /// A process on this machine, the broker's, whose CPU time and memory are measured. Linux only.
    pub pid: Option<u32>,
    /// Whether lost messages are reported but are no fault.
    pub allow_loss: bool,
}

/// What the clients do.
#[derive(Clone, Debug, PartialEq)]
pub enum Scenario {
    /// Connects many clients, as fast as asked for, and measures the time to CONNACK.
    Connect(Storm),
    /// Holds many connections that do nothing but keep alive.
    Idle(Idle),
    /// Publishes messages and receives them.
    Messages(Messages),
    /// Publishes retained messages and fetches them all by one subscription.
    Retained(Retained),
    /// Publishes to sessions whose clients are away, and lets these come back for it.
    Offline(Offline),
}

/// A storm of connections.
#[derive(Clone, Debug, PartialEq)]
pub struct Storm {
    /// Clients that connect, and stay connected until all are.
    pub clients: u32,
    /// Clients a second; `None` for as fast as `parallelism` lets them.
    pub rate: Option<f64>,
    /// Clients that wait for their CONNACK at a time.
    pub parallelism: u32,
}

/// Connections that do nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Idle {
    /// Clients.
    pub clients: u32,
    /// How long all of them are held.
    pub duration: Duration,
}

/// Publishers and subscribers.
#[derive(Clone, Debug, PartialEq)]
pub struct Messages {
    /// Who receives what.
    pub shape: Shape,
    /// Publishers. For [`Shape::Pairs`] as many as subscribers.
    pub publishers: u32,
    /// Subscribers.
    pub subscribers: u32,
    /// The QoS of publications.
    pub qos: QoS,
    /// The QoS of subscriptions.
    pub qos_sub: QoS,
    /// Bytes of each payload, [`PAYLOAD_BYTES_MIN`] at least.
    pub size: usize,
    /// When there are enough.
    pub amount: Amount,
    /// How fast.
    pub pace: Pace,
    /// Subscriptions that one client more makes and ends each second while messages are sent: of filters with
    /// wildcards that match none of them. `None` for no such client.
    pub churn: Option<f64>,
}

/// Who receives what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Each publisher has a topic and a subscriber of its own.
    Pairs,
    /// Each publisher has a topic of its own; every subscriber has a wildcard for all of them.
    FanIn,
    /// All publish to one topic, to which every subscriber subscribes.
    FanOut,
    /// As fan-in, but the subscribers share their subscription: each message is for one of them.
    Shared,
    /// Each subscriber has filters with wildcards of its own, a third each as `x/c/k/+`, `x/c/k/#` and `+/c/k/v`, and each
    /// message matches one filter of all.
    Subscriptions {
        /// Filters of each subscriber.
        each: u32,
    },
}

/// When there are enough messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// After so many of all publishers together.
    Messages(u64),
    /// After so long, the warm-up not counted.
    Duration(Duration),
}

/// How fast messages are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Closed loop: each publisher has at most so many messages under way that not all of their receivers have.
    InFlight(u16),
    /// Open loop: so many a second of all publishers together, at fixed times, from which latency is counted.
    Rate(f64),
}

/// Retained messages.
#[derive(Clone, Debug, PartialEq)]
pub struct Retained {
    /// Retained messages, each on a topic of its own.
    pub messages: u32,
    /// Clients that publish them.
    pub publishers: u32,
    /// Clients that fetch all of them, by one wildcard each.
    pub subscribers: u32,
    /// The QoS of publications.
    pub qos: QoS,
    /// The QoS of subscriptions.
    pub qos_sub: QoS,
    /// Bytes of each payload, [`PAYLOAD_BYTES_MIN`] at least.
    pub size: usize,
    /// Unacknowledged messages of each publisher.
    pub in_flight: u16,
    /// What happens to them afterwards.
    pub afterwards: Afterwards,
}

/// Messages for sessions whose clients are away.
#[derive(Clone, Debug, PartialEq)]
pub struct Offline {
    /// Messages for all sessions together.
    pub messages: u32,
    /// Clients that publish them.
    pub publishers: u32,
    /// Clients that leave a session with one subscription, and come back when all is published.
    pub sessions: u32,
    /// The QoS of publications and subscriptions, 1 or 2.
    pub qos: QoS,
    /// Bytes of each payload, [`PAYLOAD_BYTES_MIN`] at least.
    pub size: usize,
    /// Unacknowledged messages of each publisher.
    pub in_flight: u16,
}

/// What happens to retained messages after a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Afterwards {
    /// They are taken off the broker.
    Clear,
    /// They stay.
    Keep,
}

/// Options that can't be meant.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// A number is out of its range.
    #[error("{what} must be {min} to {max}")]
    OutOfRange {
        /// What the number is of.
        what: &'static str,
        /// The smallest that will do.
        min: u64,
        /// The largest that will do.
        max: u64,
    },
    /// A payload has no room for what is checked by it.
    #[error(
        "a payload needs {PAYLOAD_BYTES_MIN} bytes for its publisher, number, time and checksum, not {size}"
    )]
    PayloadTooSmall {
        /// What was asked for.
        size: usize,
    },
    /// A rate is no number of events a second.
    #[error("a rate must be above 0 and at most {RATE_MAX} a second")]
    Rate,
    /// A topic can't begin so.
    #[error("a topic prefix is a topic name of at most {PREFIX_BYTES_MAX} bytes, without + and #")]
    TopicPrefix,
    /// Pairs are as many of both.
    #[error("pairs have as many publishers as subscribers")]
    UnevenPairs,
    /// Each topic has one publisher, so there are no more publishers than topics.
    #[error("there are more publishers than topics: {topics}")]
    IdlePublishers {
        /// Topics that there are.
        topics: u32,
    },
    /// At QoS 0 nothing has to be kept for who is away [MQTT-4.5.0-1].
    #[error("for clients that are away messages are kept at QoS 1 and 2 only")]
    OfflineQos,
    /// Before MQTT 5 there is no password alone.
    #[error("a password needs a user name before MQTT 5")]
    PasswordAlone,
    /// Only Linux tells about other processes in a way that is known here.
    #[error("CPU and memory of a process can be measured on Linux only")]
    PidUnsupported,
}

/// The smallest payload: publisher, number, time and checksum.
pub const PAYLOAD_BYTES_MIN: usize = HEADER_BYTES;

impl Options {
    /// Defaults for a scenario.
    pub fn new(broker: Address, scenario: Scenario) -> Self {
        Self {
            broker,
            version: ProtocolVersion::V5,
            user_name: None,
            password: None,
            scenario,
            threads: 1,
            topic_prefix: "bench".to_owned(),
            keep_alive_secs: 60,
            seed: 0,
            warm_up: Duration::ZERO,
            timeout: None,
            stall: Duration::from_secs(5),
            connecting_max: 64,
            pid: None,
            allow_loss: false,
        }
    }

    /// Checks that all of it can be meant; a run does so by itself.
    ///
    /// # Errors
    ///
    /// The first [`OptionsError`].
    pub fn check(&self) -> Result<(), OptionsError> {
        in_range("threads", self.threads as u64, 1, 64)?;
        let connecting_max = self.connecting_max as u64;
        in_range("connections at a time", connecting_max, 1, 65_535)?;
        let stall = u64::try_from(self.stall.as_millis()).unwrap_or(u64::MAX);
        in_range("milliseconds of stall", stall, 100, STALL_MILLIS_MAX)?;
        let prefix = TopicName::new(&self.topic_prefix);
        if prefix.is_err() || self.topic_prefix.len() > PREFIX_BYTES_MAX {
            return Err(OptionsError::TopicPrefix);
        }
        if self.password.is_some() && self.user_name.is_none() && !self.version.is_v5() {
            return Err(OptionsError::PasswordAlone);
        }
        if self.pid.is_some() && !process::IS_SUPPORTED {
            return Err(OptionsError::PidUnsupported);
        }
        match &self.scenario {
            Scenario::Connect(storm) => {
                clients("clients", storm.clients)?;
                in_range("parallelism", storm.parallelism.into(), 1, 65_535)?;
                storm.rate.map_or(Ok(()), check_rate)
            }
            Scenario::Idle(idle) => clients("clients", idle.clients),
            Scenario::Messages(messages) => messages.check(),
            Scenario::Retained(retained) => retained.check(),
            Scenario::Offline(offline) => offline.check(),
        }
    }

    /// The clients of the scenario.
    pub fn clients(&self) -> u64 {
        match &self.scenario {
            Scenario::Connect(storm) => storm.clients.into(),
            Scenario::Idle(idle) => idle.clients.into(),
            Scenario::Messages(messages) => {
                let churning = u64::from(messages.churn.is_some());
                u64::from(messages.publishers) + u64::from(messages.subscribers) + churning
            }
            Scenario::Retained(retained) => {
                u64::from(retained.publishers) + u64::from(retained.subscribers)
            }
            Scenario::Offline(offline) => {
                u64::from(offline.publishers) + u64::from(offline.sessions)
            }
        }
    }

    /// How long the whole run may take.
    pub(crate) fn time_limit(&self) -> Duration {
        let asked_for = match &self.scenario {
            Scenario::Idle(idle) => idle.duration,
            Scenario::Messages(Messages {
                amount: Amount::Duration(duration),
                ..
            }) => *duration,
            Scenario::Connect(_)
            | Scenario::Messages(_)
            | Scenario::Retained(_)
            | Scenario::Offline(_) => Duration::ZERO,
        };
        let default = TIMEOUT
            .saturating_add(self.warm_up)
            .saturating_add(asked_for);
        self.timeout.unwrap_or(default).min(TIMEOUT_MAX)
    }
}

impl Scenario {
    /// Its name on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Idle(_) => "idle",
            Self::Messages(messages) => match messages.shape {
                Shape::Pairs => "pairs",
                Shape::FanIn => "fan-in",
                Shape::FanOut => "fan-out",
                Shape::Shared => "shared",
                Shape::Subscriptions { .. } => "subscriptions",
            },
            Self::Retained(_) => "retained",
            Self::Offline(_) => "offline",
        }
    }
}

impl Messages {
    /// How many subscribers each message is for.
    pub(crate) fn receivers(&self) -> u32 {
        match self.shape {
            Shape::Pairs | Shape::Shared | Shape::Subscriptions { .. } => 1,
            Shape::FanIn | Shape::FanOut => self.subscribers,
        }
    }

    /// Where messages go, when each is for one of many clients.
    pub(crate) fn spread(&self) -> Option<Spread> {
        match self.shape {
            Shape::Subscriptions { each } => {
                Some(Spread::new(self.subscribers, each, self.publishers))
            }
            Shape::Pairs | Shape::FanIn | Shape::FanOut | Shape::Shared => None,
        }
    }

    /// Whether messages are sent at fixed times.
    pub(crate) fn is_open_loop(&self) -> bool {
        matches!(self.pace, Pace::Rate(_))
    }

    /// How many messages this publisher has to send.
    pub(crate) fn quota(&self, publisher: u32) -> Option<u64> {
        let Amount::Messages(messages) = self.amount else {
            return None;
        };
        let publishers = u64::from(self.publishers);
        Some(messages / publishers + u64::from(u64::from(publisher) < messages % publishers))
    }

    fn check(&self) -> Result<(), OptionsError> {
        clients("publishers", self.publishers)?;
        clients("subscribers", self.subscribers)?;
        if self.shape == Shape::Pairs && self.publishers != self.subscribers {
            return Err(OptionsError::UnevenPairs);
        }
        if let Shape::Subscriptions { each } = self.shape {
            in_range("subscriptions of a client", each.into(), 1, FILTERS_MAX)?;
            let filters = u64::from(self.subscribers) * u64::from(each);
            in_range("subscriptions", filters, 1, FILTERS_MAX)?;
            check_publishers(self.publishers, self.subscribers * each)?;
        } else if self.shape != Shape::Pairs {
            let pairs = u64::from(self.publishers) * u64::from(self.subscribers);
            in_range("publishers times subscribers", pairs, 1, TRACKERS_MAX)?;
        }
        self.churn.map_or(Ok(()), check_rate)?;
        check_size(self.size)?;
        if let Amount::Messages(messages) = self.amount {
            let most = u64::from(self.publishers) * u64::from(u32::MAX);
            in_range("messages", messages, 1, most)?;
        }
        match self.pace {
            Pace::Rate(rate) => check_rate(rate),
            Pace::InFlight(count) => {
                in_range("messages in flight", count.into(), 1, u16::MAX.into())?;
                let slots = u64::from(self.publishers) * u64::from(count);
                in_range("publishers times messages in flight", slots, 1, SLOTS_MAX)
            }
        }
    }
}

impl Retained {
    fn check(&self) -> Result<(), OptionsError> {
        clients("publishers", self.publishers)?;
        clients("subscribers", self.subscribers)?;
        in_range("messages", self.messages.into(), 1, KEPT_MAX)?;
        let marks = u64::from(self.messages) * u64::from(self.subscribers);
        in_range("messages times subscribers", marks, 1, MARKS_MAX)?;
        in_range(
            "messages in flight",
            self.in_flight.into(),
            1,
            u16::MAX.into(),
        )?;
        check_size(self.size)
    }
}

impl Offline {
    /// Where messages go.
    pub(crate) fn spread(&self) -> Spread {
        Spread::new(self.sessions, 1, self.publishers)
    }

    fn check(&self) -> Result<(), OptionsError> {
        clients("publishers", self.publishers)?;
        clients("sessions", self.sessions)?;
        in_range("messages", self.messages.into(), 1, KEPT_MAX)?;
        in_range(
            "messages in flight",
            self.in_flight.into(),
            1,
            u16::MAX.into(),
        )?;
        check_publishers(self.publishers, self.sessions)?;
        if self.qos == QoS::AtMostOnce {
            return Err(OptionsError::OfflineQos);
        }
        check_size(self.size)
    }
}

fn check_publishers(publishers: u32, topics: u32) -> Result<(), OptionsError> {
    if publishers > topics {
        return Err(OptionsError::IdlePublishers { topics });
    }
    Ok(())
}

fn clients(what: &'static str, count: u32) -> Result<(), OptionsError> {
    in_range(what, count.into(), 1, CLIENTS_MAX)
}

fn check_size(size: usize) -> Result<(), OptionsError> {
    if size < PAYLOAD_BYTES_MIN {
        return Err(OptionsError::PayloadTooSmall { size });
    }
    in_range(
        "bytes of a payload",
        size as u64,
        PAYLOAD_BYTES_MIN as u64,
        PAYLOAD_BYTES_MAX,
    )
}

fn check_rate(rate: f64) -> Result<(), OptionsError> {
    if rate > 0.0 && rate <= RATE_MAX {
        return Ok(());
    }
    Err(OptionsError::Rate)
}

fn in_range(what: &'static str, number: u64, min: u64, max: u64) -> Result<(), OptionsError> {
    if (min..=max).contains(&number) {
        return Ok(());
    }
    Err(OptionsError::OutOfRange { what, min, max })
}

/// More sockets than one process can have.
const CLIENTS_MAX: u64 = 1_000_000;
/// Pairs of publisher and receiver whose order is kept track of: 320 MB.
const TRACKERS_MAX: u64 = 10_000_000;
/// Places in the windows of all publishers: 256 MB.
const SLOTS_MAX: u64 = 64 * 1024 * 1024;
/// Messages that a broker keeps for a run.
const KEPT_MAX: u64 = 100_000_000;
/// Filters of all clients, and a tracker for each: 400 MB.
const FILTERS_MAX: u64 = 10_000_000;
/// Bits for what each subscriber has got: 125 MB.
const MARKS_MAX: u64 = 1_000_000_000;
/// The largest remaining length [MQTT-2.1.4] without a topic of any length.
const PAYLOAD_BYTES_MAX: u64 = 268_435_455 - 70_000;
const PREFIX_BYTES_MAX: usize = 1_024;
const RATE_MAX: f64 = 100e6;
/// A day.
const STALL_MILLIS_MAX: u64 = 24 * 60 * 60 * 1_000;
const TIMEOUT: Duration = Duration::from_secs(600);
/// A year: what is longer is no limit.
const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    fn messages() -> Messages {
        Messages {
            shape: Shape::Pairs,
            publishers: 3,
            subscribers: 3,
            qos: QoS::AtLeastOnce,
            qos_sub: QoS::AtLeastOnce,
            size: 64,
            amount: Amount::Messages(10),
            pace: Pace::InFlight(100),
            churn: None,
        }
    }

    fn check(scenario: Scenario) -> Result<(), OptionsError> {
        let broker = "tcp://127.0.0.1:1883".parse().expect("an address");
        Options::new(broker, scenario).check()
    }

    fn is_out_of_range(result: Result<(), OptionsError>, name: &str) -> bool {
        result.is_err_and(
            |error| matches!(error, OptionsError::OutOfRange { what, .. } if what == name),
        )
    }

    #[test]
    fn a_payload_without_room_for_its_header_is_refused_with_the_least_size() {
        let size = PAYLOAD_BYTES_MIN - 1;
        let error = check(Scenario::Messages(Messages { size, ..messages() })).expect_err("small");
        assert_eq!(error, OptionsError::PayloadTooSmall { size });
        assert!(error.to_string().contains("24 bytes"), "{error}");
        let size = PAYLOAD_BYTES_MIN;
        assert_eq!(
            check(Scenario::Messages(Messages { size, ..messages() })),
            Ok(())
        );
    }

    #[test]
    fn numbers_out_of_range_are_named() {
        let with = |change: fn(&mut Messages)| {
            let mut messages = messages();
            change(&mut messages);
            check(Scenario::Messages(messages))
        };
        assert_eq!(with(|_| ()), Ok(()));
        assert!(is_out_of_range(with(|m| m.publishers = 0), "publishers"));
        assert!(is_out_of_range(with(|m| m.subscribers = 0), "subscribers"));
        assert!(is_out_of_range(
            with(|m| m.amount = Amount::Messages(0)),
            "messages"
        ));
        assert!(is_out_of_range(
            with(|m| m.pace = Pace::InFlight(0)),
            "messages in flight"
        ));
        assert_eq!(with(|m| m.subscribers = 4), Err(OptionsError::UnevenPairs));
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let messages = Messages {
                pace: Pace::Rate(rate),
                ..messages()
            };
            assert_eq!(
                check(Scenario::Messages(messages)),
                Err(OptionsError::Rate),
                "{rate}"
            );
        }
    }

    #[test]
    fn there_are_no_publishers_without_a_topic() {
        let scenario = |publishers| {
            Scenario::Messages(Messages {
                shape: Shape::Subscriptions { each: 3 },
                publishers,
                subscribers: 2,
                ..messages()
            })
        };
        assert_eq!(check(scenario(6)), Ok(()));
        assert_eq!(
            check(scenario(7)),
            Err(OptionsError::IdlePublishers { topics: 6 })
        );
    }

    #[test]
    fn for_who_is_away_nothing_is_kept_at_qos_0() {
        let offline = |qos| {
            check(Scenario::Offline(Offline {
                messages: 10,
                publishers: 1,
                sessions: 2,
                qos,
                size: 64,
                in_flight: 10,
            }))
        };
        assert_eq!(offline(QoS::AtMostOnce), Err(OptionsError::OfflineQos));
        assert_eq!(offline(QoS::AtLeastOnce), Ok(()));
    }

    #[test]
    fn a_prefix_is_the_begin_of_a_topic_name() {
        let broker = "tcp://127.0.0.1:1883".parse().expect("an address");
        let mut options = Options::new(broker, Scenario::Messages(messages()));
        for prefix in ["", "a/+", "#", "a\0b"] {
            options.topic_prefix = prefix.to_owned();
            assert_eq!(
                options.check(),
                Err(OptionsError::TopicPrefix),
                "{prefix:?}"
            );
        }
    }

    #[test]
    fn a_stall_is_neither_nothing_nor_forever() {
        let broker = "tcp://127.0.0.1:1883".parse().expect("an address");
        let mut options = Options::new(broker, Scenario::Messages(messages()));
        for stall in [Duration::ZERO, Duration::MAX] {
            options.stall = stall;
            assert!(is_out_of_range(options.check(), "milliseconds of stall"));
        }
    }

    #[test]
    fn messages_are_shared_out_without_a_rest() {
        let messages = messages();
        let quotas: Vec<_> = (0..3).map(|number| messages.quota(number)).collect();
        assert_eq!(quotas, [Some(4), Some(3), Some(3)]);
    }

    #[test]
    fn the_time_of_a_run_covers_what_it_was_asked_for() {
        let broker = "tcp://127.0.0.1:1883".parse().expect("an address");
        let hour = Duration::from_secs(3_600);
        let mut options = Options::new(
            broker,
            Scenario::Idle(Idle {
                clients: 1,
                duration: hour,
            }),
        );
        assert!(options.time_limit() > hour);
        options.timeout = Some(Duration::from_secs(1));
        assert_eq!(options.time_limit(), Duration::from_secs(1));
    }
}
