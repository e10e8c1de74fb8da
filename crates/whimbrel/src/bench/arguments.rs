//! The command line of `whimbrel bench`.

use std::time::{Duration, SystemTime};

use clap::{ArgAction, Args, Subcommand, ValueEnum};
use whimbrel_conformance::Target;
use whimbrel_load::codec::{ProtocolVersion, QoS};
use whimbrel_load::net::Address;
use whimbrel_load::{
    Afterwards, Amount, Idle, Messages, Offline, Options, Pace, Retained, Scenario, Shape, Storm,
};

use super::amounts::{Count, Rate, Seconds};
use crate::values::Bytes;

#[derive(Args, Debug)]
#[command(disable_version_flag = true)]
pub(crate) struct BenchArguments {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Connect many clients at once or at a rate: the time to CONNACK
    Connect(ConnectArguments),
    /// Hold many connections that only keep alive: which are lost, and what each costs
    Idle(IdleArguments),
    /// Pairs of a publisher and a subscriber, each with a topic of its own
    Pairs(PairsArguments),
    /// Many publishers, and subscribers that get everything by a wildcard
    FanIn(FanInArguments),
    /// One topic with many subscribers
    FanOut(FanOutArguments),
    /// Many publishers, and members of a shared subscription
    Shared(SharedArguments),
    /// Clients with many filters each, and messages of which each matches one of them all
    Subscriptions(SubscriptionsArguments),
    /// Store retained messages, and fetch them all by one subscription
    Retained(RetainedArguments),
    /// Store messages for clients that are away, and let these come back for them
    Offline(OfflineArguments),
}

#[derive(Args, Debug)]
#[command(disable_help_flag = true, disable_version_flag = true)]
struct ConnectArguments {
    /// Clients
    #[arg(long, value_name = "N", default_value = "1000")]
    clients: Count,

    /// Clients a second, from whose times the time to CONNACK counts [default: as fast as --parallelism lets them]
    #[arg(long, value_name = "R")]
    rate: Option<Rate>,

    /// Clients that wait for CONNACK at a time
    #[arg(long, value_name = "N", default_value = "64")]
    parallelism: Count,

    #[command(flatten)]
    common: CommonArguments,
}

#[derive(Args, Debug)]
#[command(disable_help_flag = true, disable_version_flag = true)]
struct IdleArguments {
    /// Clients
    #[arg(long, value_name = "N", default_value = "1000")]
    clients: Count,

    /// How long all of them are held
    #[arg(long, value_name = "SECS", default_value = "30")]
    duration: Seconds,

    #[command(flatten)]
    common: CommonArguments,
}

#[derive(Args, Debug)]
#[command(disable_help_flag = true, disable_version_flag = true)]
struct PairsArguments {
    /// Pairs
    #[arg(long, value_name = "N", default_value = "10", alias = "clients")]
    pairs: Count,

    #[command(flatten)]
    traffic: TrafficArguments,

    #[command(flatten)]
    common: CommonArguments,
}

#[derive(Args, Debug)]
#[command(disable_help_flag = true, disable_version_flag = true)]
struct FanInArguments {
    /// Publishers, each with a topic of its own
    #[arg(long, value_name = "N", default_value = "100")]
    publishers: Count,

    /// Subscribers, each of which gets everything
    #[arg(long, value_name = "N", default_value = "1")]
    subscribers: Count,

    #[command(flatten)]
    traffic: TrafficArguments,

    #[command(flatten)]
    common: CommonArguments,
}

#[derive(Args, Debug)]
#[command(disable_help_flag = true, disable_version_flag = true)]
struct FanOutArguments {
    /// Publishers, all to one topic
    #[arg(long, value_name = "N", default_value = "1")]
    publishers: Count,

    /// Subscribers, each of which gets everything
    #[arg(long, value_name = "N", default_value = "100")]
    subscribers: Count,

    #[command(flatten)]
    traffic: TrafficArguments,

    #[command(flatten)]
    common: CommonArguments,
}

#[derive(Args, Debug)]
#[command(disable_help_flag = true, disable_version_flag = true)]
struct SharedArguments {
    /// Publishers, each with a topic of its own
    #[arg(long, value_name = "N", default_value = "10")]
    publishers: Count,

    /// Members of the group, which share the messages
    #[arg(long, value_name = "N", default_value = "10")]
    subscribers: Count,

    #[command(flatten)]
    traffic: TrafficArguments,

    #[command(flatten)]
    common: CommonArguments,
}

#[derive(Args, Debug)]
#[command(disable_help_flag = true, disable_version_flag = true)]
struct SubscriptionsArguments {
    /// Clients that subscribe
    #[arg(long, value_name = "N", default_value = "100")]
    clients: Count,

    /// Filters of each, a third each as x/c/k/+, x/c/k/# and +/c/k/v
    #[arg(long, value_name = "N", default_value = "100")]
    filters: Count,

    /// Publishers, each to topics of all clients
    #[arg(long, value_name = "N", default_value = "4")]
    publishers: Count,

    #[command(flatten)]
    traffic: TrafficArguments,

    #[command(flatten)]
    common: CommonArguments,
}

#[derive(Args, Debug)]
#[command(disable_help_flag = true, disable_version_flag = true)]
struct OfflineArguments {
    /// Messages for all sessions together
    #[arg(long, value_name = "N", default_value = "10000")]
    messages: Count,

    /// Clients that store them
    #[arg(long, value_name = "N", default_value = "4")]
    publishers: Count,

    /// Clients that leave a session and come back
    #[arg(long, value_name = "N", default_value = "10")]
    sessions: Count,

    /// Messages of each publisher without their acknowledgement
    #[arg(long, value_name = "N", default_value_t = 100)]
    in_flight: u16,

    /// QoS of publications and subscriptions
    #[arg(short, long, value_name = "QOS", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    qos: u8,

    /// Bytes of a payload, 24 or more: it has number, time and checksum in it
    #[arg(short, long, value_name = "BYTES", default_value = "64")]
    size: Bytes,

    /// Report lost messages, and do not fail because of them
    #[arg(long)]
    allow_loss: bool,

    #[command(flatten)]
    common: CommonArguments,
}

#[derive(Args, Debug)]
#[command(disable_help_flag = true, disable_version_flag = true)]
struct RetainedArguments {
    /// Retained messages, each on a topic of its own
    #[arg(long, value_name = "N", default_value = "10000")]
    messages: Count,

    /// Clients that store them
    #[arg(long, value_name = "N", default_value = "4")]
    publishers: Count,

    /// Clients that fetch all of them
    #[arg(long, value_name = "N", default_value = "1")]
    subscribers: Count,

    /// Messages of each publisher without their acknowledgement
    #[arg(long, value_name = "N", default_value_t = 100)]
    in_flight: u16,

    /// Leave them on the broker
    #[arg(long)]
    keep: bool,

    #[command(flatten)]
    payload: PayloadArguments,

    #[command(flatten)]
    common: CommonArguments,
}

#[derive(Args, Debug)]
struct PayloadArguments {
    /// QoS of publications
    #[arg(short, long, value_name = "QOS", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,

    /// QoS of subscriptions [default: that of publications]
    #[arg(long, value_name = "QOS", value_parser = clap::value_parser!(u8).range(0..=2))]
    qos_sub: Option<u8>,

    /// Bytes of a payload, 24 or more: it has number, time and checksum in it
    #[arg(short, long, value_name = "BYTES", default_value = "64")]
    size: Bytes,

    /// Report lost messages, and do not fail because of them
    #[arg(long)]
    allow_loss: bool,
}

#[derive(Args, Debug)]
struct TrafficArguments {
    #[command(flatten)]
    payload: PayloadArguments,

    /// Messages of all publishers together, and then end
    #[arg(short, long, value_name = "N", conflicts_with = "duration")]
    messages: Option<Count>,

    /// How long messages are sent, the warm-up not counted [default: 10]
    #[arg(short, long, value_name = "SECS")]
    duration: Option<Seconds>,

    /// How long messages are sent before they are measured; they are checked all the same
    #[arg(long, value_name = "SECS", default_value = "0")]
    warm_up: Seconds,

    /// Messages a second of all publishers together: an open loop, latency counts from when each was to be sent
    #[arg(short, long, value_name = "R")]
    rate: Option<Rate>,

    /// Messages of each publisher that not all of their receivers have: a closed loop [default: 100]
    #[arg(short, long, value_name = "N", conflicts_with = "rate", value_parser = clap::value_parser!(u16).range(1..))]
    in_flight: Option<u16>,

    /// Subscriptions with wildcards that one client more makes and ends each second beside the messages
    #[arg(long, value_name = "R")]
    churn: Option<Rate>,
}

#[derive(Args, Debug)]
struct CommonArguments {
    /// The broker, as in mqtt://host or mqtt://user:password@host:port [default: mqtt://localhost:1883]
    #[arg(value_name = "URL", conflicts_with_all = ["host", "port"])]
    url: Option<Target>,

    /// The broker's host
    #[arg(short = 'h', long, value_name = "HOST", default_value = "localhost")]
    host: String,

    /// The broker's port
    #[arg(short, long, value_name = "PORT", default_value_t = 1883, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,

    /// Version of MQTT
    #[arg(
        short = 'V',
        long,
        value_name = "VERSION",
        value_enum,
        default_value = "5"
    )]
    protocol_version: Version,

    /// User name of every client
    #[arg(short, long, value_name = "NAME")]
    user: Option<String>,

    /// Password of every client
    #[arg(short = 'P', long, value_name = "PASSWORD")]
    password: Option<String>,

    /// Keep alive of every client, 0 for none
    #[arg(short, long, value_name = "SECS", default_value_t = 60)]
    keep_alive: u16,

    /// Topics are below this one
    #[arg(long, value_name = "TOPIC", default_value = "bench")]
    topic_prefix: String,

    /// Threads that the clients are spread over
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    threads: u8,

    /// Connections under way at a time, where connecting is not what is measured
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    connecting: u16,

    /// The longest time for all of it [default: 600, and what the other times ask for]
    #[arg(long, value_name = "SECS")]
    timeout: Option<Seconds>,

    /// How long nothing may come before what is missing is given up
    #[arg(long, value_name = "SECS", default_value = "5")]
    stall: Seconds,

    /// Makes the noise in payloads, and the names of topics and clients, the same in each run [default: by the clock]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// The broker's process on this machine: its CPU time and memory are measured (Linux)
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,

    /// Print one JSON object instead of the table
    #[arg(long)]
    json: bool,

    /// Show no progress
    #[arg(long)]
    quiet: bool,

    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Version {
    /// MQTT 3.1
    #[value(name = "3.1", alias = "mqttv31")]
    V31,
    /// MQTT 3.1.1
    #[value(name = "3.1.1", alias = "mqttv311")]
    V311,
    /// MQTT 5.0
    #[value(name = "5", aliases = ["5.0", "mqttv5"])]
    V5,
}

/// How the report is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Output {
    pub(super) json: bool,
    pub(super) quiet: bool,
}

impl BenchArguments {
    /// What is to be run, and how it is told.
    pub(super) fn options(&self) -> Result<(Options, Output), String> {
        match &self.command {
            BenchCommand::Connect(arguments) => {
                let storm = Storm {
                    clients: arguments.clients.as_u32(),
                    rate: arguments.rate.map(|Rate(rate)| rate),
                    parallelism: arguments.parallelism.as_u32(),
                };
                arguments.common.options(Scenario::Connect(storm))
            }
            BenchCommand::Idle(arguments) => {
                let idle = Idle {
                    clients: arguments.clients.as_u32(),
                    duration: arguments.duration.0,
                };
                arguments.common.options(Scenario::Idle(idle))
            }
            BenchCommand::Pairs(arguments) => {
                let clients = (arguments.pairs, arguments.pairs);
                let traffic = &arguments.traffic;
                traffic.options(Shape::Pairs, clients, &arguments.common)
            }
            BenchCommand::FanIn(arguments) => {
                let clients = (arguments.publishers, arguments.subscribers);
                let traffic = &arguments.traffic;
                traffic.options(Shape::FanIn, clients, &arguments.common)
            }
            BenchCommand::FanOut(arguments) => {
                let clients = (arguments.publishers, arguments.subscribers);
                let traffic = &arguments.traffic;
                traffic.options(Shape::FanOut, clients, &arguments.common)
            }
            BenchCommand::Shared(arguments) => {
                let clients = (arguments.publishers, arguments.subscribers);
                let traffic = &arguments.traffic;
                traffic.options(Shape::Shared, clients, &arguments.common)
            }
            BenchCommand::Subscriptions(arguments) => {
                let clients = (arguments.publishers, arguments.clients);
                let each = arguments.filters.as_u32();
                let traffic = &arguments.traffic;
                traffic.options(Shape::Subscriptions { each }, clients, &arguments.common)
            }
            BenchCommand::Offline(arguments) => {
                let offline = Offline {
                    messages: arguments.messages.as_u32(),
                    publishers: arguments.publishers.as_u32(),
                    sessions: arguments.sessions.as_u32(),
                    qos: qos(arguments.qos),
                    size: arguments.size.as_limit(),
                    in_flight: arguments.in_flight,
                };
                let common = &arguments.common;
                let (mut options, output) = common.options(Scenario::Offline(offline))?;
                options.allow_loss = arguments.allow_loss;
                Ok((options, output))
            }
            BenchCommand::Retained(arguments) => {
                let payload = &arguments.payload;
                let retained = Retained {
                    messages: arguments.messages.as_u32(),
                    publishers: arguments.publishers.as_u32(),
                    subscribers: arguments.subscribers.as_u32(),
                    qos: payload.qos(),
                    qos_sub: payload.qos_sub(),
                    size: payload.size.as_limit(),
                    in_flight: arguments.in_flight,
                    afterwards: if arguments.keep {
                        Afterwards::Keep
                    } else {
                        Afterwards::Clear
                    },
                };
                let common = &arguments.common;
                let (mut options, output) = common.options(Scenario::Retained(retained))?;
                options.allow_loss = payload.allow_loss;
                Ok((options, output))
            }
        }
    }
}

impl TrafficArguments {
    fn options(
        &self,
        shape: Shape,
        (publishers, subscribers): (Count, Count),
        common: &CommonArguments,
    ) -> Result<(Options, Output), String> {
        let messages = Messages {
            shape,
            publishers: publishers.as_u32(),
            subscribers: subscribers.as_u32(),
            qos: self.payload.qos(),
            qos_sub: self.payload.qos_sub(),
            size: self.payload.size.as_limit(),
            amount: match (self.messages, self.duration) {
                (Some(Count(messages)), _) => Amount::Messages(messages),
                (None, Some(Seconds(duration))) => Amount::Duration(duration),
                (None, None) => Amount::Duration(DURATION),
            },
            pace: match (self.rate, self.in_flight) {
                (Some(Rate(rate)), _) => Pace::Rate(rate),
                (None, in_flight) => Pace::InFlight(in_flight.unwrap_or(IN_FLIGHT)),
            },
            churn: self.churn.map(|Rate(rate)| rate),
        };
        let (mut options, output) = common.options(Scenario::Messages(messages))?;
        options.warm_up = self.warm_up.0;
        options.allow_loss = self.payload.allow_loss;
        Ok((options, output))
    }
}

impl PayloadArguments {
    fn qos(&self) -> QoS {
        qos(self.qos)
    }

    fn qos_sub(&self) -> QoS {
        self.qos_sub.map_or(self.qos(), qos)
    }
}

impl CommonArguments {
    fn options(&self, scenario: Scenario) -> Result<(Options, Output), String> {
        let by_url = self.url.as_ref();
        let (host, port) = by_url.map_or((&self.host, self.port), |url| (&url.host, url.port));
        let mut options = Options::new(address(host, port)?, scenario);
        options.version = match self.protocol_version {
            Version::V31 => ProtocolVersion::V31,
            Version::V311 => ProtocolVersion::V311,
            Version::V5 => ProtocolVersion::V5,
        };
        let user = by_url.and_then(|url| url.user_name.clone());
        let password = by_url.and_then(|url| url.password.clone());
        options.user_name = self.user.clone().or(user);
        options.password = self.password.clone().or(password).map(String::into_bytes);
        options.keep_alive_secs = self.keep_alive;
        options.topic_prefix.clone_from(&self.topic_prefix);
        options.threads = usize::from(self.threads);
        options.connecting_max = usize::from(self.connecting);
        options.timeout = self.timeout.map(|Seconds(timeout)| timeout);
        options.stall = self.stall.0;
        options.seed = self.seed.unwrap_or_else(seed_of_the_clock);
        options.pid = self.pid;
        let output = Output {
            json: self.json,
            quiet: self.quiet,
        };
        Ok((options, output))
    }
}

fn address(host: &str, port: u16) -> Result<Address, String> {
    let url = if host.contains(':') {
        format!("tcp://[{host}]:{port}")
    } else {
        format!("tcp://{host}:{port}")
    };
    url.parse().map_err(|error| format!("--host: {error}"))
}

fn qos(number: u8) -> QoS {
    match number {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    }
}

/// Another one for each run, so that nothing of the one before is met.
fn seed_of_the_clock() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as u64)
}

const DURATION: Duration = Duration::from_secs(10);
const IN_FLIGHT: u16 = 100;
