//! Kills a broker under load, again and again, and checks what it had acknowledged.

mod cast;
mod expiry;
mod probe;
mod retained;
mod wills;

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::account::{Account, Violation};
use crate::broker::{Place, RunningBroker};
use crate::publisher::{Env, Load, Publisher, Then};
use crate::rng::Rng;
use crate::subscriber::{Catalogue, Due, Subscriber, Temper, Until, due_messages};
use crate::{BrokerCommand, Failure, wait};

use self::cast::Cast;

/// What one run does.
#[derive(Clone, Debug)]
pub struct CrashPlan {
    /// The broker.
    pub broker: BrokerCommand,
    /// Where its data and its log are; what is there stays.
    pub folder: PathBuf,
    /// How often it is killed.
    pub rounds: u32,
    /// What is published: 1, 2, or both.
    pub qos: QosMix,
    /// Where everything random comes from.
    pub seed: u64,
    /// Whether subscribers are connected while the broker dies.
    pub online: bool,
    /// Whether sessions are away and read at the end.
    pub offline: bool,
    /// The largest payload.
    pub payload_max: u32,
    /// Messages of one publisher and round, at most.
    pub messages_max: u32,
    /// The longest time under load before a kill.
    pub load_max: Duration,
    /// How the broker ends.
    pub death: Death,
}

/// How a broker ends in the middle of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// SIGKILL.
    Kill,
    /// SIGTERM: what a broker that stores only now and then survives, which tells a wrong judge from a wrong broker.
    Stop,
}

/// The QoS of the messages that are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QosMix {
    /// QoS 1.
    AtLeastOnce,
    /// QoS 2.
    ExactlyOnce,
    /// Both, to different topics.
    Both,
}

/// What was done in a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct CrashReport {
    /// Times the broker was killed under load.
    pub kills: u32,
    /// Times it was killed while it started.
    pub kills_at_start: u32,
    /// Messages of QoS 1 and 2 that it acknowledged.
    pub acknowledged: usize,
    /// Messages that came to subscribers.
    pub received: u64,
    /// Those that came again.
    pub repeated: u64,
    /// The longest time from a start until it listened.
    pub start_max: Duration,
}

/// Runs a plan. What was found is in `account`.
///
/// # Errors
///
/// [`Failure`] when the run could not go on: because of the machine, or because the broker did not start again, which
/// is a [`Violation::Start`] too.
pub fn run(plan: &CrashPlan, account: &Account) -> Result<CrashReport, Failure> {
    let mut run = Run {
        plan,
        account,
        place: Place::new(&plan.folder)?,
        rng: Rng::new(plan.seed),
        report: CrashReport::default(),
        cast: Cast::new(plan),
    };
    let mut broker = run.start()?;
    run.set_up(&broker)?;
    for round in 1..=plan.rounds {
        account.begin_round(round);
        run.load_and_kill(broker)?;
        broker = run.start_again()?;
        run.check_start(&broker)?;
    }
    run.finish(broker)?;
    let cast = &run.cast;
    run.report.acknowledged = cast.publishers.iter().map(Publisher::acked).sum();
    let subscribers = || cast.online.iter().chain(&cast.offline).chain(&cast.team);
    run.report.received = subscribers().map(Subscriber::received).sum();
    run.report.repeated = subscribers().map(Subscriber::repeated).sum();
    Ok(run.report)
}

struct Run<'a> {
    plan: &'a CrashPlan,
    account: &'a Account,
    place: Place,
    rng: Rng,
    report: CrashReport,
    cast: Cast,
}

impl<'a> Run<'a> {
    /// Sessions and subscriptions are there before anything is published, so that all of it is due.
    fn set_up(&mut self, broker: &RunningBroker) -> Result<(), Failure> {
        let alive = AtomicBool::new(false);
        let env = self.env(broker, &alive);
        let cast = &mut self.cast;
        let subscribers = cast
            .online
            .iter_mut()
            .chain(&mut cast.offline)
            .chain(&mut cast.team)
            .chain([&mut cast.will_watcher, &mut cast.expiry_reader]);
        for subscriber in subscribers {
            let doing = format!("could not subscribe {}", subscriber.client_id);
            subscriber
                .set_up(&env, &cast.catalogue)
                .map_err(Failure::client(doing))?;
        }
        for publisher in cast.publishers.iter_mut().chain(&mut cast.writers) {
            publisher.run(&env, Load::FINISH);
        }
        Ok(())
    }

    fn load_and_kill(&mut self, mut broker: RunningBroker) -> Result<(), Failure> {
        let dead = AtomicBool::new(false);
        let env = self.env(&broker, &dead);
        let longest = self.plan.load_max.as_millis() as u64;
        let load_time = Duration::from_millis(self.rng.range(20..longest.max(21)));
        let load = Load {
            window: self.rng.pick(&WINDOWS),
            messages: self.plan.messages_max,
            bytes: ROUND_BYTES_MAX,
            is_restless: self.rng.one_in(2),
            then: Then::Stay,
        };
        self.cast.wills.connect_some(&env, &mut self.cast.catalogue);
        self.cast.sessions.visit(&env);
        let Cast {
            catalogue,
            publishers,
            writers,
            online,
            offline,
            team,
            will_watcher,
            wills,
            sessions,
            probe,
            ..
        } = &mut self.cast;
        let catalogue = &*catalogue;
        let rng = &mut self.rng;
        let place = &self.place;
        let death = self.plan.death;
        thread::scope(|scope| {
            for publisher in publishers.iter_mut().chain(writers) {
                scope.spawn(|| publisher.run(&env, load));
            }
            for subscriber in online {
                scope.spawn(|| subscriber.run(&env, catalogue, Until::Killed, Temper::Restless));
            }
            for subscriber in offline {
                if rng.one_in(4) {
                    let env = &env;
                    let packets = Until::Packets(rng.range(1..2_000) as u32);
                    scope.spawn(move || subscriber.run(env, catalogue, packets, Temper::Restless));
                }
            }
            for member in team {
                if rng.one_in(2) {
                    scope.spawn(|| member.run(&env, catalogue, Until::Killed, Temper::Restless));
                }
            }
            scope.spawn(|| will_watcher.run(&env, catalogue, Until::Killed, Temper::Steady));
            scope.spawn(|| probe.run(&env));
            wait::pause(load_time);
            wills.leave();
            sessions.seen();
            if let Some(how) = broker.ended() {
                let text = format!("it ended by itself, with {how}:\n{}", place.log_tail());
                env.account.found(Violation::Start, text);
            }
            dead.store(true, Ordering::SeqCst);
            match death {
                Death::Kill => broker.kill(),
                Death::Stop => broker.stop(),
            }
        })?;
        self.cast.wills.cut();
        self.report.kills += 1;
        Ok(())
    }

    /// Starts the broker, now and then after it was killed while it started.
    fn start_again(&mut self) -> Result<RunningBroker, Failure> {
        while self.plan.death == Death::Kill && self.rng.one_in(5) {
            let shards = self.shards();
            let broker = self.plan.broker.spawn(&self.place, shards)?;
            wait::pause(Duration::from_millis(self.rng.range(0..150)));
            broker.kill()?;
            self.report.kills_at_start += 1;
        }
        let broker = self.start()?;
        self.cast.sessions.started();
        Ok(broker)
    }

    fn start(&mut self) -> Result<RunningBroker, Failure> {
        let shards = self.shards();
        let broker = self.plan.broker.start(&self.place, shards);
        if let Err(Failure::NotListening { why, tail, .. }) = &broker {
            let text = format!("with {shards} shards, {why}:\n{tail}");
            self.account.found(Violation::Start, text);
        }
        let broker = broker?;
        let took = broker.started().elapsed();
        self.report.start_max = self.report.start_max.max(took);
        Ok(broker)
    }

    fn shards(&mut self) -> u8 {
        self.rng.pick(&[1, 2, 3, 4])
    }

    /// What can be said before anybody publishes again.
    fn check_start(&mut self, broker: &RunningBroker) -> Result<(), Failure> {
        let alive = AtomicBool::new(false);
        let env = self.env(broker, &alive);
        self.cast.wills.come_back(&env);
        self.check_retained(&env, Due::Completed)?;
        let cast = &mut self.cast;
        cast.probe
            .check(&env)
            .map_err(Failure::client("could not ask about subscriptions"))?;
        cast.messages
            .publish(&env, &mut cast.catalogue)
            .map_err(Failure::client("could not publish messages that expire"))?;
        // In the other rounds, publishers and subscribers return at the same time.
        if self.rng.one_in(2) {
            self.drain_online(&env, Due::Completed);
        }
        Ok(())
    }

    fn drain_online(&mut self, env: &Env<'_>, due: Due) {
        let Cast {
            catalogue,
            publishers,
            online,
            ..
        } = &mut self.cast;
        drain(env, catalogue, publishers, online, due);
    }

    fn check_retained(&self, env: &Env<'_>, due: Due) -> Result<(), Failure> {
        let writers = &self.cast.writers;
        let found = retained::read_all(env.port, "r/#", retained::expected(writers))
            .map_err(Failure::client("could not read the retained messages"))?;
        retained::judge(writers, &found, due, env.account);
        Ok(())
    }

    /// Everything comes to its end, and is looked at in full.
    fn finish(&mut self, broker: RunningBroker) -> Result<(), Failure> {
        let alive = AtomicBool::new(false);
        let env = self.env(&broker, &alive);
        self.finish_publishers(&env);
        self.check_retained(&env, Due::Acked)?;
        self.drain_online(&env, Due::Acked);
        let Cast {
            catalogue,
            publishers,
            offline,
            team,
            ..
        } = &mut self.cast;
        drain(&env, catalogue, publishers, offline, Due::Acked);
        thread::scope(|scope| {
            for member in &mut *team {
                scope.spawn(|| member.run(&env, catalogue, Until::Idle(TEAM_IDLE), Temper::Steady));
            }
        });
        judge_team(&env, publishers, team);
        self.finish_timed(&broker, &env);

        // After a clean stop nothing is sent again, and everybody is still known.
        broker.stop()?;
        self.check_log();
        let broker = self.start()?;
        let env = self.env(&broker, &alive);
        self.check_retained(&env, Due::Acked)?;
        let Cast {
            catalogue,
            online,
            offline,
            team,
            ..
        } = &mut self.cast;
        let subscribers = online.iter_mut().chain(offline).chain(team);
        for subscriber in subscribers {
            let before = (subscriber.received(), subscriber.repeated());
            subscriber.run(&env, catalogue, Until::Idle(AFTER_STOP), Temper::Steady);
            if before != (subscriber.received(), subscriber.repeated()) {
                let text = format!(
                    "{} had acknowledged all, and got {} more after a clean stop",
                    subscriber.client_id,
                    subscriber.received() - before.0
                );
                env.account.found(Violation::Misdelivered, text);
            }
        }
        broker.stop()
    }

    fn finish_publishers(&mut self, env: &Env<'_>) {
        let cast = &mut self.cast;
        thread::scope(|scope| {
            for publisher in cast.publishers.iter_mut().chain(&mut cast.writers) {
                scope.spawn(|| publisher.run(env, Load::FINISH));
            }
        });
        for publisher in cast.publishers.iter().chain(&cast.writers) {
            if publisher.in_flight() > 0 {
                let text = format!(
                    "{} messages of publisher-{} got no acknowledgement",
                    publisher.in_flight(),
                    publisher.number
                );
                env.account.found(Violation::Refused, text);
            }
        }
    }

    /// What is due at a time of its own.
    fn finish_timed(&mut self, broker: &RunningBroker, env: &Env<'_>) {
        let cast = &mut self.cast;
        let due = broker.started() + cast.wills.longest_delay();
        let idle = due.saturating_duration_since(Instant::now());
        let watcher = &mut cast.will_watcher;
        watcher.run(
            env,
            &cast.catalogue,
            Until::Idle(idle.max(TEAM_IDLE)),
            Temper::Steady,
        );
        cast.wills.judge(env, watcher);
        let reader = &mut cast.expiry_reader;
        reader.run(env, &cast.catalogue, Until::Idle(TEAM_IDLE), Temper::Steady);
        cast.messages.judge(env, reader);
    }

    fn check_log(&self) {
        let log = self.place.log_text();
        for line in log.lines().filter(|line| line.contains("panicked")) {
            self.account.found(Violation::Start, line);
        }
    }

    fn env<'b>(&self, broker: &RunningBroker, dead: &'b AtomicBool) -> Env<'b>
    where
        'a: 'b,
    {
        Env {
            port: broker.port(),
            account: self.account,
            dead,
        }
    }
}

/// Lets sessions read until all that is due has come, and says what has not.
fn drain(
    env: &Env<'_>,
    catalogue: &Catalogue,
    publishers: &[Publisher],
    subscribers: &mut [Subscriber],
    due: Due,
) {
    thread::scope(|scope| {
        for subscriber in &mut *subscribers {
            let until = Until::Quiet(publishers, due);
            scope.spawn(move || subscriber.run(env, catalogue, until, Temper::Steady));
        }
    });
    for subscriber in subscribers {
        for (name, sent) in subscriber.missing(publishers, due) {
            let text = format!(
                "{name} of {} bytes, sent in {}, acknowledged in {}, did not come to {}",
                sent.length,
                sent.at,
                sent.acked
                    .map_or_else(String::new, |acked| acked.to_string()),
                subscriber.client_id
            );
            env.account.found(Violation::Lost, text);
        }
    }
}

/// Each message of a shared subscription comes to one of its members; at QoS 2, once in all.
fn judge_team(env: &Env<'_>, publishers: &[Publisher], team: &[Subscriber]) {
    for (name, sent) in due_messages(publishers, cast::TEAM_TOPICS, Due::Acked) {
        let times: u32 = team
            .iter()
            .map(|member| u32::from(member.count(name)))
            .sum();
        let stream = publishers
            .iter()
            .find(|publisher| publisher.number == name.publisher)
            .and_then(|publisher| publisher.streams.get(usize::from(name.stream)));
        let is_exactly_once =
            stream.is_some_and(|stream| stream.qos == whimbrel_codec::QoS::ExactlyOnce);
        if times == 0 {
            let text = format!(
                "{name}, sent in {}, came to no member of the shared subscription",
                sent.at
            );
            env.account.found(Violation::Lost, text);
        } else if times > 1 && is_exactly_once {
            let acked = sent
                .acked
                .map_or_else(String::new, |acked| acked.to_string());
            let mut text = format!("{name}, sent in {}, acknowledged in {acked}, came", sent.at);
            for member in team {
                if let Some(moment) = member.arrival(name) {
                    text.push_str(&format!(" to {} in {moment};", member.client_id));
                }
            }
            env.account.found(Violation::Twice, text);
        }
    }
}

impl fmt::Display for CrashReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kills,
            kills_at_start,
            acknowledged,
            received,
            repeated,
            start_max,
        } = self;
        write!(
            f,
            "{kills} kills under load, {kills_at_start} while starting; {acknowledged} messages acknowledged, \
             {received} received, {repeated} of them again; slowest start {start_max:.3?}"
        )
    }
}

/// In-flight windows of publishers; one for all in a round.
const WINDOWS: [usize; 5] = [1, 4, 20, 100, 400];
/// Bytes of one publisher and round, so that a run fits on a disk.
const ROUND_BYTES_MAX: u64 = 6 * 1024 * 1024;
/// A shared subscription's members can't know what is to come to each: they wait.
const TEAM_IDLE: Duration = Duration::from_secs(4);
const AFTER_STOP: Duration = Duration::from_millis(500);
