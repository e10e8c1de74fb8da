//! [`Director`]: leads a run from phase to phase.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use whimbrel_session::codec::QoS;

use crate::clock;
use crate::error::RunError;
use crate::options::{
    Afterwards, Amount, Idle, Messages, Offline, Pace, Retained, Scenario, Storm,
};
use crate::process::Usage;
use crate::progress::{Progress, Stage};
use crate::shared::{Live, Phase, Shared};

/// Leads a run from phase to phase, watches the time, and shows how far it is.
pub(crate) struct Director<'a> {
    shared: &'a Shared,
    show: &'a mut dyn FnMut(&Progress),
    shown: Progress,
    /// When the run has to be over.
    deadline: Duration,
    stalls: Vec<Stall>,
    timeline: Timeline,
}

/// What happened when, by the run's clock in nanoseconds, and what the broker's process had used by then.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timeline {
    pub(crate) usage_before: Usage,
    /// The load begins.
    pub(crate) start: u64,
    /// All clients are ready; for a storm: all have connected.
    pub(crate) usage_connected: Usage,
    /// The measured time begins, and ends.
    pub(crate) from: u64,
    pub(crate) usage_from: Usage,
    pub(crate) to: u64,
    pub(crate) usage_to: Usage,
    /// When all clients were ready.
    pub(crate) ready: u64,
    /// Before and after what the measured part stands on: filters are subscribed to, or messages stored.
    pub(crate) usage_unprepared: Usage,
    pub(crate) usage_prepared: Usage,
    /// When filters were begun to be subscribed to.
    pub(crate) subscribe_start: u64,
    /// When all filters were subscribed to.
    pub(crate) subscribed: u64,
    /// When messages were stored.
    pub(crate) stored: u64,
    /// The whole run's time was up.
    pub(crate) timed_out: bool,
    /// The broker let publishers wait in vain.
    pub(crate) stalled: bool,
    /// Retained messages, or sessions, could not be cleared.
    pub(crate) left_behind: bool,
}

/// Since when a publisher has waited in vain.
#[derive(Clone, Copy, Debug, Default)]
struct Stall {
    completed: u64,
    since: Duration,
}

/// How waiting has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// What was waited for is there.
    Met,
    /// The moment has come until which it was waited for.
    Until,
    /// Nothing has moved for a long time.
    Quiet,
    /// The time of the run is up.
    Deadline,
}

/// For how long is waited, beside for what.
#[derive(Clone, Copy, Debug)]
enum Patience {
    /// Until this moment of the clock.
    Until(u64),
    /// As long as anything moves.
    WhileMoving(Duration),
    /// To the end of the run's time.
    All,
}

impl<'a> Director<'a> {
    pub(crate) fn new(
        shared: &'a Shared,
        usage_before: Usage,
        show: &'a mut dyn FnMut(&Progress),
    ) -> Self {
        let clients = shared.options.clients();
        Self {
            shared,
            show,
            shown: Progress::of(&shared.live, Stage::Connecting, Duration::ZERO, clients),
            deadline: shared.options.time_limit(),
            stalls: vec![Stall::default(); shared.windows.len()],
            timeline: Timeline {
                usage_before,
                ..Timeline::default()
            },
        }
    }

    /// The whole run, up to where clients are to disconnect.
    pub(crate) fn direct(mut self) -> Result<Timeline, RunError> {
        match &self.shared.options.scenario {
            Scenario::Connect(storm) => self.connect(storm)?,
            Scenario::Idle(idle) => self.idle(idle)?,
            Scenario::Messages(messages) => self.messages(messages)?,
            Scenario::Retained(retained) => self.retained(retained)?,
            Scenario::Offline(offline) => self.offline(offline)?,
        }
        Ok(self.timeline)
    }

    fn connect(&mut self, storm: &Storm) -> Result<(), RunError> {
        let clients = u64::from(storm.clients);
        self.begin(Phase::Measuring)?;
        self.wait(Stage::Connecting, Patience::All, |live| {
            live.connected.load(Relaxed) + live.failed.load(Relaxed) >= clients
        });
        // Some that fail are what a storm is to show; all that fail are no storm.
        if self.shared.live.connected.load(Relaxed) == 0
            && let Some(failure) = self.shared.take_failure()
        {
            return Err(failure);
        }
        self.timeline.ready = self.shared.clock.nanos();
        self.end()?;
        self.timeline.usage_connected = self.timeline.usage_to;
        Ok(())
    }

    fn idle(&mut self, idle: &Idle) -> Result<(), RunError> {
        self.set_up()?;
        self.begin(Phase::Measuring)?;
        let until = self
            .timeline
            .from
            .saturating_add(clock::nanos(idle.duration));
        let clients = u64::from(idle.clients);
        self.wait(Stage::Measuring, Patience::Until(until), |live| {
            live.lost.load(Relaxed) >= clients
        });
        self.end()
    }

    fn messages(&mut self, messages: &Messages) -> Result<(), RunError> {
        self.set_up()?;
        if let Some(spread) = &self.shared.spread {
            self.subscribe(spread.topics().into())?;
        }
        let shared = self.shared;
        let warm_up = clock::nanos(shared.options.warm_up);
        let publishers = u64::from(messages.publishers);
        if warm_up > 0 {
            self.timeline.start = shared.clock.nanos();
            let from = self.timeline.start.saturating_add(warm_up);
            self.set_measured(messages, from);
            shared.start.store(self.timeline.start, Relaxed);
            shared.enter(Phase::Running);
            self.wait(Stage::WarmingUp, Patience::Until(from), |live| {
                live.lost.load(Relaxed) > 0 || live.done.load(Relaxed) >= publishers
            });
            self.timeline.usage_from = self.usage()?;
            self.timeline.from = from;
            shared.enter(Phase::Measuring);
        } else {
            self.set_measured(messages, shared.clock.nanos());
            self.begin(Phase::Measuring)?;
        }
        let is_over = |live: &Live| live.lost.load(Relaxed) > 0 || is_complete(messages, live);
        match messages.amount {
            Amount::Duration(duration) => {
                let until = self.timeline.from.saturating_add(clock::nanos(duration));
                self.wait(Stage::Measuring, Patience::Until(until), |live| {
                    live.lost.load(Relaxed) > 0
                });
            }
            Amount::Messages(_) => {
                let patience = match messages.pace {
                    // A slow rate is no stall.
                    Pace::Rate(_) => Patience::All,
                    // Windows are given up and go on once before this is given up.
                    Pace::InFlight(_) => Patience::WhileMoving(shared.options.stall * 2),
                };
                let sent = self.wait(Stage::Measuring, patience, |live| {
                    live.lost.load(Relaxed) > 0 || live.done.load(Relaxed) >= publishers
                });
                self.timeline.stalled = sent == Ended::Quiet;
                if sent == Ended::Met {
                    let patience = Patience::WhileMoving(shared.options.stall);
                    self.wait(Stage::Measuring, patience, is_over);
                }
            }
        }
        // What is late by then is measured by its latency, and not counted as throughput.
        let now = shared.clock.nanos();
        shared.measure_to.fetch_min(now, Relaxed);
        self.end()?;
        let patience = Patience::WhileMoving(shared.options.stall);
        self.wait(Stage::Draining, patience, |live| {
            live.done.load(Relaxed) >= publishers && is_complete(messages, live)
        });
        self.settle();
        Ok(())
    }

    /// Lets clients with many filters subscribe to them.
    fn subscribe(&mut self, filters: u64) -> Result<(), RunError> {
        let shared = self.shared;
        self.timeline.usage_unprepared = self.usage()?;
        self.timeline.subscribe_start = shared.clock.nanos();
        shared.enter(Phase::Subscribing);
        let ended = self.wait(Stage::Subscribing, Patience::All, |live| {
            live.subscribed.load(Relaxed) >= filters || live.failed.load(Relaxed) > 0
        });
        if let Some(failure) = shared.take_failure() {
            return Err(failure);
        }
        if ended != Ended::Met {
            return Err(RunError::SubscribingTimedOut {
                made: shared.live.subscribed.load(Relaxed),
                filters,
                limit: self.deadline,
            });
        }
        self.timeline.subscribed = shared.clock.nanos();
        self.timeline.usage_prepared = self.usage()?;
        Ok(())
    }

    fn retained(&mut self, retained: &Retained) -> Result<(), RunError> {
        self.set_up()?;
        let publishers = u64::from(retained.publishers);
        let subscribers = u64::from(retained.subscribers);
        let owed = u64::from(retained.messages) * subscribers;
        self.store(publishers)?;
        self.fetch(owed, subscribers)?;
        if retained.afterwards == Afterwards::Clear {
            self.clear(publishers);
        }
        Ok(())
    }

    fn offline(&mut self, offline: &Offline) -> Result<(), RunError> {
        self.set_up()?;
        // The broker may have a rest of the clients' leaving to do.
        self.settle();
        let sessions = u64::from(offline.sessions);
        self.store(offline.publishers.into())?;
        self.fetch(offline.messages.into(), sessions)?;
        self.clear(sessions);
        Ok(())
    }

    /// Lets messages be published that the broker keeps.
    fn store(&mut self, publishers: u64) -> Result<(), RunError> {
        let shared = self.shared;
        let patience = Patience::WhileMoving(shared.options.stall);
        self.timeline.usage_unprepared = self.usage()?;
        self.timeline.start = shared.clock.nanos();
        shared.enter(Phase::Running);
        let stored = self.wait(Stage::Storing, patience, |live| {
            live.lost.load(Relaxed) > 0 || live.done.load(Relaxed) >= publishers
        });
        self.timeline.stalled = stored == Ended::Quiet;
        self.timeline.stored = shared.clock.nanos();
        self.timeline.usage_prepared = self.usage()?;
        Ok(())
    }

    /// Lets subscribers have what the broker keeps: so many messages of all of them.
    fn fetch(&mut self, owed: u64, subscribers: u64) -> Result<(), RunError> {
        let shared = self.shared;
        let patience = Patience::WhileMoving(shared.options.stall);
        shared.live.owed.store(owed, Relaxed);
        let start = self.timeline.start;
        shared.measure_from.store(shared.clock.nanos(), Relaxed);
        self.begin(Phase::Measuring)?;
        self.timeline.start = start;
        self.wait(Stage::Fetching, patience, |live| {
            live.lost.load(Relaxed) > 0 || live.fetched.load(Relaxed) >= subscribers
        });
        // What is measured ends here; who clears is not to be taken for a repeat.
        self.mark_end()?;
        self.settle();
        shared.enter(Phase::Draining);
        Ok(())
    }

    /// Waits until so many clients have taken off the broker what they had left there.
    fn clear(&mut self, clients: u64) {
        let patience = Patience::WhileMoving(self.shared.options.stall);
        let cleared = self.wait(Stage::Clearing, patience, |live| {
            live.cleared.load(Relaxed) >= clients
        });
        self.timeline.left_behind = cleared != Ended::Met;
    }

    /// Waits until all clients have what they need.
    fn set_up(&mut self) -> Result<(), RunError> {
        let clients = self.shared.options.clients();
        let ended = self.wait(Stage::Connecting, Patience::All, |live| {
            live.ready.load(Relaxed) >= clients || live.failed.load(Relaxed) > 0
        });
        if let Some(failure) = self.shared.take_failure() {
            return Err(failure);
        }
        if ended != Ended::Met {
            return Err(RunError::SetupTimedOut {
                ready: self.shared.live.ready.load(Relaxed),
                clients,
                limit: self.deadline,
            });
        }
        self.timeline.ready = self.shared.clock.nanos();
        self.timeline.usage_connected = self.usage()?;
        Ok(())
    }

    /// The measured time begins.
    fn begin(&mut self, phase: Phase) -> Result<(), RunError> {
        self.timeline.usage_from = self.usage()?;
        let now = self.shared.clock.nanos();
        self.timeline.start = now;
        self.timeline.from = now;
        self.shared.start.store(now, Relaxed);
        self.shared.enter(phase);
        Ok(())
    }

    /// The measured time ends.
    fn end(&mut self) -> Result<(), RunError> {
        self.mark_end()?;
        self.shared.enter(Phase::Draining);
        Ok(())
    }

    fn mark_end(&mut self) -> Result<(), RunError> {
        self.timeline.to = self.shared.clock.nanos();
        self.timeline.usage_to = self.usage()?;
        Ok(())
    }

    fn set_measured(&self, messages: &Messages, from: u64) {
        let to = match messages.amount {
            Amount::Messages(_) => u64::MAX,
            Amount::Duration(duration) => from.saturating_add(clock::nanos(duration)),
        };
        self.shared.measure_from.store(from, Relaxed);
        self.shared.measure_to.store(to, Relaxed);
    }

    fn usage(&self) -> Result<Usage, RunError> {
        usage_of(self.shared.options.pid)
    }

    /// Time for duplicates of the last messages.
    fn settle(&mut self) {
        let until = self.shared.clock.nanos() + clock::nanos(SETTLE);
        self.wait(Stage::Draining, Patience::Until(until), |_| false);
    }

    fn wait(&mut self, stage: Stage, patience: Patience, is_met: impl Fn(&Live) -> bool) -> Ended {
        let clock = self.shared.clock;
        let (mut moved, mut moved_at) = (self.shared.live.sum(), clock.elapsed());
        loop {
            if is_met(&self.shared.live) {
                return Ended::Met;
            }
            let elapsed = clock.elapsed();
            if elapsed >= self.deadline {
                self.timeline.timed_out = true;
                return Ended::Deadline;
            }
            let mut pause = TICK.min(self.deadline - elapsed);
            match patience {
                Patience::Until(until) => {
                    let left = until.saturating_sub(clock.nanos());
                    if left == 0 {
                        return Ended::Until;
                    }
                    pause = pause.min(Duration::from_nanos(left));
                }
                Patience::WhileMoving(quiet_max) => {
                    let sum = self.shared.live.sum();
                    if sum != moved {
                        (moved, moved_at) = (sum, elapsed);
                    } else if elapsed.saturating_sub(moved_at) >= quiet_max {
                        return Ended::Quiet;
                    }
                }
                Patience::All => {}
            }
            self.give_up_stalled_windows(elapsed);
            self.show(stage, elapsed);
            clock::pause(pause);
        }
    }

    /// Lets publishers go on whose messages do not arrive.
    fn give_up_stalled_windows(&mut self, elapsed: Duration) {
        for (stall, window) in self.stalls.iter_mut().zip(&self.shared.windows) {
            match window.stalled_at() {
                Some(completed) if completed == stall.completed => {
                    if elapsed.saturating_sub(stall.since) >= self.shared.options.stall {
                        window.give_up();
                        stall.since = elapsed;
                    }
                }
                Some(completed) => {
                    *stall = Stall {
                        completed,
                        since: elapsed,
                    };
                }
                None => stall.since = elapsed,
            }
        }
    }

    fn show(&mut self, stage: Stage, elapsed: Duration) {
        if stage == self.shown.stage && elapsed.saturating_sub(self.shown.elapsed) < SHOW_INTERVAL {
            return;
        }
        let clients = self.shared.options.clients();
        let progress = Progress::of(&self.shared.live, stage, elapsed, clients);
        self.shown = progress.since(&self.shown);
        (self.show)(&self.shown);
    }
}

impl Live {
    /// Changes whenever anything moves.
    fn sum(&self) -> u64 {
        let counts = [
            &self.connected,
            &self.ready,
            &self.subscribed,
            &self.sent,
            &self.fresh,
            &self.acknowledged,
            &self.done,
            &self.fetched,
            &self.cleared,
        ];
        let counts = counts.into_iter().map(|count| count.load(Relaxed));
        counts.fold(0, u64::wrapping_add)
    }
}

/// What a process has used; nothing where none was asked for.
pub(crate) fn usage_of(pid: Option<u32>) -> Result<Usage, RunError> {
    let Some(pid) = pid else {
        return Ok(Usage::default());
    };
    Usage::of(pid).map_err(|source| RunError::Process { pid, source })
}

/// Whether all that was sent has come and was acknowledged.
fn is_complete(messages: &Messages, live: &Live) -> bool {
    let is_acknowledged = messages.qos == QoS::AtMostOnce
        || live.acknowledged.load(Relaxed) >= live.sent.load(Relaxed);
    is_acknowledged && live.fresh.load(Relaxed) >= live.owed.load(Relaxed)
}

/// How often the director looks.
const TICK: Duration = Duration::from_millis(5);
const SHOW_INTERVAL: Duration = Duration::from_millis(200);
/// Longer than a broker that repeats a message would take for it.
const SETTLE: Duration = Duration::from_millis(200);
