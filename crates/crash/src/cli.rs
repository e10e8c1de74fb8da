//! The command line.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args, Parser, Subcommand, ValueEnum};
use whimbrel_codec::QoS;
use whimbrel_crash::crash::{self, CrashPlan, Death, QosMix};
use whimbrel_crash::figures::{self, Bench};
use whimbrel_crash::full_disk::{self, FullDiskPlan};
use whimbrel_crash::sync_order::{self, SyncPlan};
use whimbrel_crash::{Account, BrokerCommand, Failure};

/// Judges what a broker keeps of its promises when it dies, and what that costs.
#[derive(Debug, Parser)]
#[command(max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Kill the broker under load, restart it, and check that nothing acknowledged is lost
    Crash(CrashArguments),
    /// Trace the broker's system calls, and prove that acknowledgements leave after the sync that covers them
    Strace(StraceArguments),
    /// Fill the disk while the broker runs; the folder has to be on a small file system of its own
    FullDisk(FullDiskArguments),
    /// Measure
    Figures(FigureArguments),
}

#[derive(Args, Debug)]
struct BrokerArguments {
    /// A whimbrel binary, "mosquitto", or a command line with {port}, {dir} and, if it has them, {shards}
    #[arg(
        long,
        value_name = "BROKER",
        default_value = "target/release/whimbrel",
        overrides_with = "broker"
    )]
    broker: String,

    /// Further arguments of the broker, in one word
    #[arg(
        long,
        value_name = "ARGUMENTS",
        default_value = "",
        allow_hyphen_values = true
    )]
    broker_arguments: String,

    /// Where data and logs are kept [default: a new folder under the system's temporary one]
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct CrashArguments {
    #[command(flatten)]
    broker: BrokerArguments,

    /// How often the broker is killed
    #[arg(long, default_value_t = 20)]
    rounds: u32,

    /// What is published
    #[arg(long, value_enum, default_value_t = Qos::Both)]
    qos: Qos,

    /// Where everything random comes from [default: the time]
    #[arg(long)]
    seed: Option<u64>,

    /// Only subscribers that are connected while the broker dies
    #[arg(long, conflicts_with = "offline")]
    online: bool,

    /// Only sessions that are away until the end, or nearly
    #[arg(long)]
    offline: bool,

    /// The largest payload in bytes
    #[arg(long, default_value_t = 256 * 1024)]
    payload_max: u32,

    /// Messages of one publisher and round
    #[arg(long, default_value_t = 3_000)]
    messages: u32,

    /// Longest time under load before a kill, in milliseconds
    #[arg(long, default_value_t = 1_500)]
    load_ms: u64,

    /// Stop the broker with SIGTERM: for judging the judge
    #[arg(long)]
    stop: bool,
}

#[derive(Args, Debug)]
struct StraceArguments {
    #[command(flatten)]
    broker: BrokerArguments,

    /// Messages of each publisher that are sent one by one
    #[arg(long, default_value_t = 20)]
    singles: u16,

    /// Messages of each publisher that are sent at once
    #[arg(long, default_value_t = 100)]
    burst: u16,
}

#[derive(Args, Debug)]
struct FullDiskArguments {
    #[command(flatten)]
    broker: BrokerArguments,

    /// What is published
    #[arg(long, value_enum, default_value_t = Qos::AtLeastOnce)]
    qos: Qos,

    /// Where payloads come from
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Args, Debug)]
struct FigureArguments {
    #[command(flatten)]
    broker: BrokerArguments,

    /// Which figure
    #[arg(value_enum)]
    figure: Figure,

    /// Shards of the broker
    #[arg(long, default_value_t = 2)]
    shards: u8,

    /// Messages, where a figure has a number of them [default: what docs/benchmarks.md has]
    #[arg(long)]
    messages: Option<u32>,

    /// Publishers of the offline figure
    #[arg(long, default_value_t = 4)]
    publishers: u16,

    /// Messages in flight of each of them
    #[arg(long, default_value_t = 128)]
    window: usize,

    /// Stop the broker with SIGTERM before it is started again, for one that would have lost everything
    #[arg(long)]
    stop: bool,

    /// How often the offline and clean figures are taken
    #[arg(long, default_value_t = 3)]
    runs: u32,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Qos {
    /// QoS 1
    #[value(name = "1")]
    AtLeastOnce,
    /// QoS 2
    #[value(name = "2")]
    ExactlyOnce,
    /// Both, on different topics
    Both,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Figure {
    /// Acknowledgements a second and CPU with ten sessions away
    Offline,
    /// Syncs a second under the same load
    Syncs,
    /// Time of an acknowledgement with 1, 10, 100, 1,000 in flight
    Latency,
    /// Bytes written for one publication to 1, 10, 100, 1,000 sessions
    FanOut,
    /// Time and memory of a start with a million queued messages and 100,000 retained
    Recovery,
    /// What a store costs clients without sessions
    Clean,
    /// Five million messages for one session that is away
    DeepQueue,
}

impl Cli {
    pub(crate) fn run(&self, account: &Account) -> Result<(), Failure> {
        match &self.command {
            Command::Crash(arguments) => arguments.run(account)?,
            Command::Strace(arguments) => arguments.run(account)?,
            Command::FullDisk(arguments) => arguments.run(account)?,
            Command::Figures(arguments) => return arguments.run(),
        }
        if account.is_clean() {
            println!("no violation");
        }
        Ok(())
    }
}

impl BrokerArguments {
    fn command(&self, autosave_secs: u32) -> Result<BrokerCommand, Failure> {
        let further: Vec<&str> = self.broker_arguments.split_whitespace().collect();
        if self.broker == "mosquitto" {
            return Ok(BrokerCommand::mosquitto(autosave_secs).with(&further));
        }
        if self.broker.contains('{') {
            return Ok(BrokerCommand::parse(&self.broker)?.with(&further));
        }
        Ok(BrokerCommand::whimbrel(self.broker.as_ref(), &further))
    }

    fn folder(&self) -> PathBuf {
        self.folder.clone().unwrap_or_else(|| {
            let name = format!("whimbrel-crash-{}", std::process::id());
            std::env::temp_dir().join(name)
        })
    }
}

impl CrashArguments {
    fn run(&self, account: &Account) -> Result<(), Failure> {
        let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = clock.unwrap_or_default().as_millis() as u64;
        let plan = CrashPlan {
            broker: self.broker.command(AUTOSAVE_OFTEN_SECS)?,
            folder: self.broker.folder(),
            rounds: self.rounds,
            qos: match self.qos {
                Qos::AtLeastOnce => QosMix::AtLeastOnce,
                Qos::ExactlyOnce => QosMix::ExactlyOnce,
                Qos::Both => QosMix::Both,
            },
            seed: self.seed.unwrap_or(now),
            online: !self.offline,
            offline: !self.online,
            payload_max: self.payload_max,
            messages_max: self.messages,
            load_max: Duration::from_millis(self.load_ms),
            death: if self.stop { Death::Stop } else { Death::Kill },
        };
        println!(
            "seed {}, data and log in {}",
            plan.seed,
            plan.folder.display()
        );
        let report = crash::run(&plan, account)?;
        println!("{report}");
        Ok(())
    }
}

impl StraceArguments {
    fn run(&self, account: &Account) -> Result<(), Failure> {
        let plan = SyncPlan {
            broker: self.broker.command(AUTOSAVE_OFTEN_SECS)?,
            folder: self.broker.folder(),
            singles: self.singles,
            burst: self.burst,
        };
        println!("data, log and trace in {}", plan.folder.display());
        let report = sync_order::run(&plan, account)?;
        println!("{report}");
        Ok(())
    }
}

impl FullDiskArguments {
    fn run(&self, account: &Account) -> Result<(), Failure> {
        let plan = FullDiskPlan {
            broker: self.broker.command(AUTOSAVE_OFTEN_SECS)?,
            folder: self.broker.folder(),
            qos: match self.qos {
                Qos::AtLeastOnce => QoS::AtLeastOnce,
                Qos::ExactlyOnce | Qos::Both => QoS::ExactlyOnce,
            },
            seed: self.seed,
        };
        let report = full_disk::run(&plan, account)?;
        println!("{report}");
        Ok(())
    }
}

impl FigureArguments {
    fn run(&self) -> Result<(), Failure> {
        let bench = Bench {
            broker: self.broker.command(AUTOSAVE_DEFAULT_SECS)?,
            shards: self.shards,
            folder: self.broker.folder(),
        };
        let messages = |default| self.messages.unwrap_or(default);
        let (publishers, window) = (self.publishers, self.window);
        match self.figure {
            Figure::Offline => {
                for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
                    for _ in 0..self.runs {
                        let count = messages(400_000);
                        let figure = figures::offline(&bench, qos, count, publishers, window)?;
                        println!("offline, QoS {}: {figure}", qos.bits());
                    }
                }
            }
            Figure::Syncs => {
                let figure = figures::syncs(&bench, messages(200_000), publishers, window)?;
                println!("offline, QoS 1: {figure}");
            }
            Figure::Latency => {
                for in_flight in [1, 10, 100, 1_000] {
                    let figure = figures::latency(&bench, in_flight, LATENCY_TIME)?;
                    println!("latency, QoS 1, {figure}");
                }
            }
            Figure::FanOut => {
                for sessions in [1, 10, 100, 1_000] {
                    let figure = figures::fan_out(&bench, sessions)?;
                    println!("fan-out, QoS 1, {figure}");
                }
            }
            Figure::Recovery => {
                let death = if self.stop { Death::Stop } else { Death::Kill };
                let figure = figures::recovery(&bench, messages(1_000_000), 100_000, death)?;
                println!("recovery: {figure}");
            }
            Figure::Clean => {
                let without = BrokerCommand::whimbrel_in_memory(self.broker.broker.as_ref());
                for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                    // A reader may be behind by all of its messages, which its queue has to hold.
                    let count = messages(360_000);
                    let figure = figures::clean_sessions(&bench, &without, qos, count, self.runs)?;
                    println!("clean sessions, {figure}");
                }
            }
            Figure::DeepQueue => {
                let figure = figures::deep_queue(&bench, messages(5_000_000))?;
                println!("deep queue: {figure}");
            }
        }
        Ok(())
    }
}

/// Mosquitto saves every second where it is judged, so that it has a chance.
const AUTOSAVE_OFTEN_SECS: u32 = 1;
/// Its default, where it is measured: it writes all it has, each time.
const AUTOSAVE_DEFAULT_SECS: u32 = 1_800;
const LATENCY_TIME: Duration = Duration::from_secs(5);
