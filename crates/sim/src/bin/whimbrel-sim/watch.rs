//! Runs on threads of their own, watched: one that does not end is a finding too.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use whimbrel_sim::{Options, Outcome, run};

/// The outcome of a seed's run.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) options: Options,
    pub(crate) outcome: Outcome,
}

/// What happened next.
#[derive(Debug)]
pub(crate) enum Next {
    Done(Done),
    /// The run of this seed has no end: its thread is lost.
    Endless(u64),
    /// All runs are done.
    Over,
}

/// Runs that go on in the background.
#[derive(Debug)]
pub(crate) struct Watched {
    done: Receiver<Done>,
    running: Vec<Arc<Mutex<Option<Running>>>>,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    seed: u64,
    since: Instant,
}

/// Starts the runs that `next` gives, `jobs` at a time.
pub(crate) fn start(
    jobs: usize,
    next: impl FnMut() -> Option<Options> + Send + 'static,
) -> Watched {
    // Told as a finding, once.
    std::panic::set_hook(Box::new(|_| {}));
    let next = Arc::new(Mutex::new(next));
    let (tell, done) = sync_channel(jobs);
    let running = (0..jobs)
        .map(|_| {
            let slot = Arc::new(Mutex::new(None));
            let (next, tell, own) = (Arc::clone(&next), tell.clone(), Arc::clone(&slot));
            std::thread::spawn(move || work(&next, &tell, &own));
            slot
        })
        .collect();
    Watched { done, running }
}

impl Watched {
    /// Waits for the next outcome.
    pub(crate) fn next(&self) -> Next {
        loop {
            match self.done.recv_timeout(LOOK_EVERY) {
                Ok(done) => return Next::Done(done),
                Err(RecvTimeoutError::Disconnected) => return Next::Over,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let endless = self.running.iter().find_map(|slot| {
                let running = *slot.lock().unwrap_or_else(PoisonError::into_inner);
                running.filter(|running| running.since.elapsed() > RUN_TIME_MAX)
            });
            if let Some(running) = endless {
                return Next::Endless(running.seed);
            }
        }
    }
}

fn work(
    next: &Mutex<impl FnMut() -> Option<Options>>,
    tell: &SyncSender<Done>,
    slot: &Mutex<Option<Running>>,
) {
    let set = |running| *slot.lock().unwrap_or_else(PoisonError::into_inner) = running;
    loop {
        let options = {
            let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
            next()
        };
        let Some(options) = options else {
            return;
        };
        set(Some(Running {
            seed: options.seed,
            since: Instant::now(),
        }));
        let outcome = run(&options);
        set(None);
        if tell.send(Done { options, outcome }).is_err() {
            return;
        }
    }
}

/// How long a run may take. Usual ones take some tens of milliseconds, and the core has no clock
/// of its own: more means that it goes round in circles.
const RUN_TIME_MAX: Duration = Duration::from_secs(120);

/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
