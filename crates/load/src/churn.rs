//! A client that makes and ends subscriptions all the time, beside what is measured.

use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::sleep;
use whimbrel_session::RequestRefused;
use whimbrel_session::codec::QoS;

use crate::error::Gone;
use crate::link::{Ignore, Link};
use crate::options::Scenario;
use crate::shared::{Phase, due_at};
use crate::spread::Spread;
use crate::worker::Worker;

/// Subscribes and unsubscribes at a rate while messages are sent.
pub(crate) async fn churn(worker: Rc<Worker>, rate: f64) {
    let Scenario::Messages(_) = &worker.shared.options.scenario else {
        return;
    };
    let Some(mut link) = worker.connect('u', 0).await else {
        return;
    };
    worker.shared.live.ready.fetch_add(1, Relaxed);
    match run(&worker, &mut link, rate).await {
        Ok(()) => link.close().await,
        Err(gone) => worker.lost("the client that subscribes and unsubscribes", &gone),
    }
}

async fn run(worker: &Worker, link: &mut Link, rate: f64) -> Result<(), Gone> {
    let shared = &*worker.shared;
    let mut phase = shared.phase.subscribe();
    let mut begun = None;
    let mut next = 0_u64;
    let mut counted = 0;
    let mut handler = Ignore;
    loop {
        let now = *phase.borrow_and_update();
        let is_on = matches!(now, Phase::Running | Phase::Measuring);
        if now == Phase::Closing {
            return Ok(());
        }
        if is_on {
            let start = *begun.get_or_insert_with(|| shared.clock.nanos());
            while due_at(start, rate, next) <= shared.clock.nanos()
                && next * ANSWERS_EACH - link.answers < OPEN_MAX
            {
                match put(worker, link, next) {
                    Ok(()) => next += 1,
                    Err(RequestRefused::WindowFull) => break,
                    Err(refused) => return Err(refused.into()),
                }
            }
        }
        tokio::select! {
            turned = link.turn(&worker.scratch, &mut handler) => turned?,
            () = sleep(PAUSE), if is_on => {}
            changed = phase.changed() => if changed.is_err() { return Ok(()) },
        }
        // A refusal ends it.
        link.granted()?;
        let done = link.answers / ANSWERS_EACH;
        shared.live.churned.fetch_add(done - counted, Relaxed);
        counted = done;
    }
}

/// Subscribes to one more filter, and at once no more. Such are never published to: their owner is no number.
fn put(worker: &Worker, link: &mut Link, number: u64) -> Result<(), RequestRefused> {
    let place = u32::try_from(number % FILTERS).unwrap_or(0);
    let filter = Spread::wildcard(&worker.shared.base, "u", place);
    link.request_subscription(std::slice::from_ref(&filter), QoS::AtMostOnce)?;
    link.request_end_of_subscription(&filter)
}

/// SUBACK and UNSUBACK.
const ANSWERS_EACH: u64 = 2;
/// Answers that are waited for at a time: a broker that is behind is not given more.
const OPEN_MAX: u64 = 2_000;
/// Filters that take turns.
const FILTERS: u64 = 3 * 10_000;
const PAUSE: Duration = Duration::from_millis(1);
