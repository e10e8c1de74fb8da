//! A disk that fills while the broker runs, is full when it starts, and has room again.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use whimbrel_codec::{
    Connect, Delivery, Packet, PacketId, ProtocolVersion, Publish, QoS, SubscriptionOptions,
};

use crate::account::{Account, Violation};
use crate::broker::{Place, RunningBroker};
use crate::link::{self, Link, LinkError, POLL};
use crate::publisher::{Env, Load, Publisher, Refusals, Sizes, Stream, Then, topic};
use crate::rng::Rng;
use crate::subscriber::{Catalogue, Due, Subscriber, Temper, Until};
use crate::{BrokerCommand, Failure, wait};

/// What is run, on a small file system that nobody else uses.
#[derive(Clone, Debug)]
pub struct FullDiskPlan {
    /// The broker.
    pub broker: BrokerCommand,
    /// A folder on the small file system.
    pub folder: PathBuf,
    /// QoS of the messages.
    pub qos: QoS,
    /// Where payloads come from.
    pub seed: u64,
}

/// What happened.
#[derive(Clone, Debug, Default)]
pub struct FullDiskReport {
    /// Messages that were acknowledged.
    pub acknowledged: usize,
    /// Messages that an MQTT 5 publisher was refused.
    pub refused: usize,
    /// Messages that an MQTT 3.1.1 publisher had to keep while the disk was full.
    pub withheld: usize,
    /// Free bytes at the first refusal.
    pub free_at_refusal: u64,
    /// From the moment when there was room again to the next acknowledgement.
    pub resumed_after: Duration,
    /// Lines of the broker's log that speak of the disk.
    pub log: Vec<String>,
}

/// Runs a plan. What was found is in `account`.
///
/// # Errors
///
/// [`Failure`] when the run could not go on, or the broker did not start on the full disk, which is a
/// [`Violation::Start`] too.
pub fn run(plan: &FullDiskPlan, account: &Account) -> Result<FullDiskReport, Failure> {
    let mut run = Run::new(plan, account)?;
    let broker = plan.broker.start(&run.place, 2)?;
    run.set_up(&broker)?;
    run.ballast.leave_free(SOFT_FREE)?;
    run.fill(&broker)?;
    run.check_alive(&broker);

    // Something else takes all that is left, and the broker dies.
    run.ballast.leave_free(0)?;
    run.publish_in_vain(&broker, HARD_TIME);
    broker.kill()?;
    let broker = run.start_on_full_disk()?;
    run.check_alive(&broker);
    run.read_some(&broker);

    let has_room = Instant::now();
    run.ballast.remove()?;
    run.resume(&broker, has_room);
    broker.kill()?;
    let broker = plan.broker.start(&run.place, 2)?;
    run.drain(&broker);
    broker.stop()?;
    run.report.acknowledged = run.publishers().map(Publisher::acked).sum();
    run.report.refused = run.publishers().map(refused).sum();
    let log = run.place.log_text();
    let of_disk = log.lines().filter(|line| {
        ["full", "space", "room"]
            .iter()
            .any(|word| line.contains(word))
    });
    run.report.log = of_disk.take(LOG_LINES_MAX).map(str::to_owned).collect();
    Ok(run.report)
}

struct Run<'a> {
    account: &'a Account,
    plan: &'a FullDiskPlan,
    place: Place,
    ballast: Ballast,
    /// MQTT 5: told of a refusal.
    told: Publisher,
    /// MQTT 3.1.1: gets no acknowledgement.
    untold: Publisher,
    subscriber: Subscriber,
    catalogue: Catalogue,
    report: FullDiskReport,
}

impl<'a> Run<'a> {
    fn new(plan: &'a FullDiskPlan, account: &'a Account) -> Result<Self, Failure> {
        let mut rng = Rng::new(plan.seed);
        let mut publisher = |number, version| {
            let streams = vec![Stream::new(format!("d/{number}/a"), plan.qos)];
            Publisher::new(number, version, streams, Sizes::Fixed(2_048), rng.fork())
                .with_refusals(Refusals::AreExpected)
        };
        let told = publisher(0, ProtocolVersion::V5);
        let untold = publisher(1, ProtocolVersion::V311);
        let mut catalogue = Catalogue::default();
        catalogue.add(&told);
        catalogue.add(&untold);
        let subscriber = Subscriber::new(
            "away",
            ProtocolVersion::V5,
            "d/#",
            QoS::ExactlyOnce,
            rng.fork(),
        );
        Ok(Self {
            account,
            plan,
            place: Place::new(&plan.folder)?,
            ballast: Ballast::new(&plan.folder),
            told,
            untold,
            subscriber,
            catalogue,
            report: FullDiskReport::default(),
        })
    }

    fn set_up(&mut self, broker: &RunningBroker) -> Result<(), Failure> {
        let alive = AtomicBool::new(false);
        let env = env(self.account, broker, &alive);
        self.subscriber
            .set_up(&env, &self.catalogue)
            .map_err(Failure::client("could not subscribe"))?;
        self.told.run(&env, Load::FINISH);
        self.untold.run(&env, Load::FINISH);
        Ok(())
    }

    /// Publishes until the broker refuses, and then looks what it does with who can't be told.
    fn fill(&mut self, broker: &RunningBroker) -> Result<(), Failure> {
        let alive = AtomicBool::new(false);
        let env = env(self.account, broker, &alive);
        for _ in 0..FILL_STEPS_MAX {
            self.told.run(&env, step(Then::Leave));
            if refused(&self.told) > 0 {
                self.report.free_at_refusal = free_bytes(&self.plan.folder)?;
                self.report.withheld = self.publish_in_vain(broker, SOFT_TIME);
                if self.report.withheld == 0 {
                    let text = "MQTT 3.1.1 messages were acknowledged while MQTT 5 was refused";
                    self.account.found(Violation::Refused, text);
                }
                return Ok(());
            }
        }
        let text = format!(
            "{} messages were taken and none refused, with {} bytes free",
            self.told.acked(),
            free_bytes(&self.plan.folder)?
        );
        self.account.found(Violation::Limit, text);
        Ok(())
    }

    /// Both publish for some time. Returns what the MQTT 3.1.1 publisher has in flight afterwards.
    fn publish_in_vain(&mut self, broker: &RunningBroker, time: Duration) -> usize {
        let over = AtomicBool::new(false);
        let env = env(self.account, broker, &over);
        let (told, untold) = (&mut self.told, &mut self.untold);
        thread::scope(|scope| {
            scope.spawn(|| told.run(&env, step(Then::Stay)));
            scope.spawn(|| untold.run(&env, step(Then::Stay)));
            wait::pause(time);
            over.store(true, Ordering::SeqCst);
        });
        self.untold.in_flight()
    }

    /// Whoever needs no room goes on: PINGREQ is answered, QoS 0 comes through.
    fn check_alive(&self, broker: &RunningBroker) {
        if let Err(error) = at_most_once(broker.port()) {
            let text = format!("QoS 0 does not work on a full disk: {error:?}");
            self.account.found(Violation::Refused, text);
        }
    }

    fn start_on_full_disk(&mut self) -> Result<RunningBroker, Failure> {
        let started = self.plan.broker.start(&self.place, 3);
        if let Err(failure) = &started {
            let text = format!("on a full disk: {}", failure.in_full());
            self.account.found(Violation::Start, text);
        }
        started
    }

    /// Removals go on. How far, depends on what is left; nothing may be lost by it.
    fn read_some(&mut self, broker: &RunningBroker) {
        let alive = AtomicBool::new(false);
        let env = env(self.account, broker, &alive);
        let before = self.subscriber.received();
        let until = Until::Idle(Duration::from_secs(3));
        self.subscriber
            .run(&env, &self.catalogue, until, Temper::Steady);
        if self.subscriber.received() == before {
            let text = "a full queue could not be read on a full disk";
            self.account.found(Violation::Refused, text);
        }
    }

    /// With room, everything that was withheld is acknowledged, and new messages are taken.
    fn resume(&mut self, broker: &RunningBroker, has_room: Instant) {
        let over = AtomicBool::new(false);
        let env = env(self.account, broker, &over);
        let acked = self.told.acked();
        while self.told.acked() == acked {
            if has_room.elapsed() > RESUME_TIMEOUT {
                let text = format!("nothing was taken {RESUME_TIMEOUT:?} after there was room");
                self.account.found(Violation::Refused, text);
                return;
            }
            let one = Load {
                messages: 1,
                ..step(Then::Leave)
            };
            self.told.run(&env, one);
        }
        self.report.resumed_after = has_room.elapsed();
        let untold = &mut self.untold;
        thread::scope(|scope| {
            scope.spawn(|| {
                untold.run(&env, Load::FINISH);
                over.store(true, Ordering::SeqCst);
            });
            let ended = || over.load(Ordering::SeqCst).then_some(());
            if wait::poll(RESUME_TIMEOUT, ended).is_none() {
                over.store(true, Ordering::SeqCst);
            }
        });
        if self.untold.in_flight() > 0 {
            let text = format!(
                "{} messages of MQTT 3.1.1 were not acknowledged after there was room",
                self.untold.in_flight()
            );
            self.account.found(Violation::Refused, text);
        }
    }

    fn drain(&mut self, broker: &RunningBroker) {
        let alive = AtomicBool::new(false);
        let env = env(self.account, broker, &alive);
        let publishers = [&self.told, &self.untold];
        let mut missing = Vec::new();
        // Both in turn: what is due is looked up by publisher.
        for publisher in publishers {
            let until = Until::Quiet(std::slice::from_ref(publisher), Due::Acked);
            self.subscriber
                .run(&env, &self.catalogue, until, Temper::Steady);
            let due = std::slice::from_ref(publisher);
            let found = self.subscriber.missing(due, Due::Acked);
            missing.extend(found.into_iter().map(|(name, sent)| (name, *sent)));
        }
        for (name, sent) in missing {
            let text = format!(
                "{name}, acknowledged in {}, did not come",
                sent.acked
                    .map_or_else(String::new, |acked| acked.to_string())
            );
            self.account.found(Violation::Lost, text);
        }
    }

    fn publishers(&self) -> impl Iterator<Item = &Publisher> {
        [&self.told, &self.untold].into_iter()
    }
}

fn env<'a>(account: &'a Account, broker: &RunningBroker, dead: &'a AtomicBool) -> Env<'a> {
    Env {
        port: broker.port(),
        account,
        dead,
    }
}

fn step(then: Then) -> Load {
    Load {
        window: 20,
        messages: 500,
        bytes: u64::MAX,
        is_restless: false,
        then,
    }
}

fn refused(publisher: &Publisher) -> usize {
    let sent = publisher.streams.iter().flat_map(|stream| &stream.sent);
    sent.filter(|sent| sent.is_refused).count()
}

/// A client without a session sends itself a message of QoS 0.
fn at_most_once(port: u16) -> Result<(), LinkError> {
    let connect = Connect::new(ProtocolVersion::V5, "needs-no-room");
    let (mut link, _) = Link::open(port, &connect)?;
    let filter = ("needs/no/room".to_owned(), SubscriptionOptions::default());
    link.put(&link::subscribe_packet(PacketId::MIN, [filter]));
    let publish = Publish::builder(topic("needs/no/room"))
        .payload(b"0".as_slice())
        .delivery(Delivery::AtMostOnce);
    link.put(&Packet::Publish(publish.build()));
    link.put(&Packet::PingReq);
    link.flush()?;
    let (mut came, mut is_answered) = (false, false);
    let begin = Instant::now();
    while !(came && is_answered) {
        match link.next()? {
            Some(Packet::Publish(_)) => came = true,
            Some(Packet::PingResp) => is_answered = true,
            Some(_) => {}
            None if begin.elapsed() > ALIVE_TIMEOUT => {
                return Err(LinkError::Silent(ALIVE_TIMEOUT));
            }
            None => drop(link.fill(POLL)?),
        }
    }
    link.disconnect()
}

/// A file that takes the room of the file system.
struct Ballast {
    path: PathBuf,
    folder: PathBuf,
}

impl Ballast {
    fn new(folder: &Path) -> Self {
        Self {
            path: folder.join("ballast"),
            folder: folder.to_owned(),
        }
    }

    /// Grows until no more than so many bytes are free; with 0, until nothing can be written.
    fn leave_free(&self, bytes: u64) -> Result<(), Failure> {
        let failed = || Failure::system("could not fill the file system");
        let mut file: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)
            .map_err(failed())?;
        let mut piece = BALLAST_PIECE;
        while piece > 0 {
            if bytes > 0 && free_bytes(&self.folder)? <= bytes + piece as u64 {
                return Ok(());
            }
            match file.write(&vec![0xBA; piece]) {
                Ok(_) => {}
                // What is left may be less than a piece.
                Err(error) if error.kind() == io::ErrorKind::StorageFull => piece /= 2,
                Err(error) => return Err(failed()(error)),
            }
        }
        Ok(())
    }

    fn remove(&self) -> Result<(), Failure> {
        fs::remove_file(&self.path).map_err(Failure::system("could not remove the ballast"))
    }
}

/// Free bytes, as `df` has them.
fn free_bytes(folder: &Path) -> Result<u64, Failure> {
    let output = Command::new("df")
        .args(["--output=avail", "-B1"])
        .arg(folder)
        .output()
        .map_err(Failure::system("could not run df"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.split_whitespace().next_back();
    last.and_then(|free| free.parse().ok())
        .ok_or_else(|| Failure::Other(format!("df said '{}'", text.trim())))
}

impl fmt::Display for FullDiskReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} acknowledged; {} refused to MQTT 5, the first with {} KiB free; {} withheld from MQTT 3.1.1; \
             taken again {:.1?} after there was room; the log says:",
            self.acknowledged,
            self.refused,
            self.free_at_refusal / 1024,
            self.withheld,
            self.resumed_after
        )?;
        for line in &self.log {
            write!(f, "\n  {line}")?;
        }
        Ok(())
    }
}

/// Room for some messages above the mark at which a broker of this workspace refuses.
const SOFT_FREE: u64 = 44 * 1024 * 1024;
const FILL_STEPS_MAX: u32 = 80;
const SOFT_TIME: Duration = Duration::from_secs(3);
const HARD_TIME: Duration = Duration::from_secs(3);
const RESUME_TIMEOUT: Duration = Duration::from_secs(30);
const ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
const BALLAST_PIECE: usize = 1024 * 1024;
const LOG_LINES_MAX: usize = 12;
