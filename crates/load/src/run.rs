//! [`run`]: a run from its options to its report.

use std::sync::Arc;
use std::thread;

use whimbrel_net::Address;

use crate::director::{Director, usage_of};
use crate::error::RunError;
use crate::meter::Meter;
use crate::options::Options;
use crate::progress::Progress;
use crate::report::Report;
use crate::shared::{Phase, Shared};
use crate::worker::{Outcome, Worker};
use crate::{conclude, pacer};

/// Loads the broker, and reports. `progress` is told several times a second how far it is.
///
/// Blocks until the run is over, at most for [`Options::timeout`] and some seconds to disconnect. Threads are the run's
/// own; a tokio runtime is not needed, and must not be the caller's thread.
///
/// # Errors
///
/// [`RunError`] where nothing could be measured. A broker that loses messages is no error: it is in the report.
pub fn run(options: &Options, mut progress: impl FnMut(&Progress)) -> Result<Report, RunError> {
    options.check()?;
    let address = resolve(&options.broker)?;
    let usage_before = usage_of(options.pid)?;
    let shared = Arc::new(Shared::new(options.clone(), address));
    let (directed, outcomes) = thread::scope(|scope| {
        let start = |index| {
            let shared = Arc::clone(&shared);
            let thread = thread::Builder::new().name(format!("load-{index}"));
            let started = thread.spawn_scoped(scope, {
                let shared = Arc::clone(&shared);
                move || Worker::run(Arc::clone(&shared), index).inspect_err(|_| shared.give_up())
            });
            started.inspect_err(|_| shared.give_up())
        };
        let workers: Vec<_> = (0..options.threads).map(start).collect();
        let pacer = scope.spawn(|| pacer::pace(&shared));
        let directed = Director::new(&shared, usage_before, &mut progress).direct();
        shared.enter(Phase::Closing);
        let join = |worker: std::io::Result<thread::ScopedJoinHandle<'_, _>>| {
            let worker = worker.map_err(RunError::Thread)?;
            worker.join().unwrap_or(Err(RunError::Panicked))
        };
        let outcomes: Result<Vec<Outcome>, RunError> = workers.into_iter().map(join).collect();
        let paced = pacer.join().map_err(|_| RunError::Panicked);
        (
            directed,
            outcomes.and_then(|outcomes| paced.map(|()| outcomes)),
        )
    });
    // Without its threads nobody could be ready: that is why, and not that nobody was.
    let outcomes = outcomes?;
    let timeline = directed?;
    let mut meter = Meter::new();
    let mut busy = Vec::new();
    for outcome in outcomes {
        meter.add(outcome.meter);
        busy.extend(outcome.busy);
    }
    Ok(conclude::conclude(&shared, &timeline, meter, busy))
}

/// Looks the name up once, for all clients.
fn resolve(broker: &Address) -> Result<Address, RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(RunError::Thread)?;
    let resolved = runtime.block_on(broker.resolve());
    let addresses = resolved.map_err(|source| RunError::Resolve {
        host: broker.host().to_string(),
        source,
    })?;
    // A name without an address is an error above.
    Ok(addresses
        .first()
        .map_or(broker.clone(), |&first| first.into()))
}
