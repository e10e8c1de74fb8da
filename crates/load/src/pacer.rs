//! The thread that wakes clients when something is due: timers of the runtimes know whole milliseconds only.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Duration;

use crate::options::{Messages, Pace, Scenario};
use crate::shared::{Phase, Shared, due_at};
use crate::{clock, process};

/// Wakes clients until the run drains. Does nothing in a closed loop.
pub(crate) fn pace(shared: &Shared) {
    if !has_rate(&shared.options.scenario) {
        return;
    }
    process::sharpen_timers();
    while *shared.phase.borrow() < Phase::Running {
        clock::pause(SETUP_PAUSE);
    }
    match &shared.options.scenario {
        Scenario::Messages(
            messages @ Messages {
                pace: Pace::Rate(rate),
                ..
            },
        ) => {
            let publishers = u64::from(messages.publishers);
            follow(shared, *rate, u64::MAX, |from, to| {
                // Each once, however many of its messages are due.
                for index in from..to.min(from + publishers) {
                    let publisher = (index % publishers) as usize;
                    shared.windows[publisher].wake.notify_one();
                }
            });
        }
        Scenario::Connect(storm) => {
            let Some(rate) = storm.rate else { return };
            follow(shared, rate, storm.clients.into(), |_, to| {
                shared.due.store(to, SeqCst);
                for due_grown in &shared.due_grown {
                    due_grown.notify_one();
                }
            });
        }
        Scenario::Messages(_)
        | Scenario::Idle(_)
        | Scenario::Retained(_)
        | Scenario::Offline(_) => {}
    }
}

fn has_rate(scenario: &Scenario) -> bool {
    match scenario {
        Scenario::Messages(messages) => matches!(messages.pace, Pace::Rate(_)),
        Scenario::Connect(storm) => storm.rate.is_some(),
        Scenario::Idle(_) | Scenario::Retained(_) | Scenario::Offline(_) => false,
    }
}

/// Calls `wake` with the range of events that have become due.
fn follow(shared: &Shared, rate: f64, events: u64, wake: impl Fn(u64, u64)) {
    let start = shared.start.load(Relaxed);
    let mut told = 0;
    while told < events && *shared.phase.borrow() < Phase::Draining {
        let now = shared.clock.nanos();
        let mut due = told;
        while due < events && due_at(start, rate, due) <= now {
            due += 1;
        }
        if due > told {
            wake(told, due);
            told = due;
        }
        let pause = due_at(start, rate, told).saturating_sub(shared.clock.nanos());
        let pause = Duration::from_nanos(pause);
        clock::pause(pause.clamp(PAUSE_MIN, PAUSE_MAX));
    }
}

/// More often than this nobody is woken, whatever the rate: it costs the generator more than it gives.
const PAUSE_MIN: Duration = Duration::from_micros(100);
const SETUP_PAUSE: Duration = Duration::from_millis(1);
/// How long the end of a run may go unnoticed.
const PAUSE_MAX: Duration = Duration::from_millis(50);
