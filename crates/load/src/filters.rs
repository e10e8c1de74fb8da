//! A client with many filters, and the messages that match them.

use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use whimbrel_session::codec::QoS;

use crate::addressee::Addressee;
use crate::error::Gone;
use crate::link::Link;
use crate::options::{Messages, Scenario};
use crate::shared::Phase;
use crate::spread::Spread;
use crate::worker::Worker;

/// Connects, subscribes when all clients are connected, and receives until the run is over.
pub(crate) async fn subscribe(worker: Rc<Worker>, number: u32) {
    let shared = &worker.shared;
    let (Scenario::Messages(messages), Some(spread)) = (&shared.options.scenario, shared.spread)
    else {
        return;
    };
    let Some(mut link) = worker.connect('s', number).await else {
        return;
    };
    shared.live.ready.fetch_add(1, Relaxed);
    let mut addressee = Addressee::new(&worker, spread, number);
    match wait_for_turn(&worker, &mut link, &mut addressee).await {
        Ok(true) => {}
        Ok(false) => return link.close().await,
        Err(gone) => return shared.fail(format!("subscriber {number}"), gone),
    }
    let subscribed = subscribe_all(
        &worker,
        &mut link,
        messages,
        &spread,
        number,
        &mut addressee,
    );
    match subscribed.await {
        Ok(granted) => {
            if granted < messages.qos_sub {
                shared.live.granted_less.fetch_add(1, Relaxed);
            }
            addressee.qos = granted.min(messages.qos);
        }
        Err(gone) => return shared.fail(format!("subscriber {number}"), gone),
    }
    link.connection.release_memory();
    match receive(&worker, &mut link, &mut addressee).await {
        Ok(()) => link.close().await,
        Err(gone) => worker.lost(&format!("subscriber {number}"), &gone),
    }
}

/// Keeps the connection until it is time to subscribe. False when the run is over before that.
async fn wait_for_turn(
    worker: &Worker,
    link: &mut Link,
    addressee: &mut Addressee<'_>,
) -> Result<bool, Gone> {
    let mut phase = worker.shared.phase.subscribe();
    loop {
        let now = *phase.borrow_and_update();
        if now > Phase::Setup {
            return Ok(now == Phase::Subscribing);
        }
        tokio::select! {
            turned = link.turn(&worker.scratch, addressee) => turned?,
            changed = phase.changed() => if changed.is_err() { return Ok(false) },
        }
    }
}

/// Subscribes to all of its filters: the lowest QoS that was granted.
async fn subscribe_all(
    worker: &Worker,
    link: &mut Link,
    messages: &Messages,
    spread: &Spread,
    number: u32,
    addressee: &mut Addressee<'_>,
) -> Result<QoS, Gone> {
    let shared = &*worker.shared;
    let owner = number.to_string();
    let mut lowest = QoS::ExactlyOnce;
    let mut next = 0;
    while next < spread.each() {
        let end = spread.each().min(next + FILTERS_PER_PACKET);
        let filters: Vec<_> = (next..end)
            .map(|place| Spread::wildcard(&shared.base, &owner, place))
            .collect();
        // No more of these under way than of connections.
        let _permit = worker.connecting.acquire().await;
        let granted = link
            .subscribe(&filters, messages.qos_sub, &worker.scratch, addressee)
            .await?;
        lowest = lowest.min(granted);
        let count = u64::from(end - next);
        shared.live.subscribed.fetch_add(count, Relaxed);
        next = end;
    }
    Ok(lowest)
}

async fn receive(
    worker: &Worker,
    link: &mut Link,
    addressee: &mut Addressee<'_>,
) -> Result<(), Gone> {
    let mut phase = worker.shared.phase.subscribe();
    while *phase.borrow_and_update() < Phase::Closing {
        tokio::select! {
            biased;
            turned = link.turn(&worker.scratch, addressee) => turned?,
            changed = phase.changed() => if changed.is_err() { break },
        }
        addressee.publish_counts();
    }
    // Which were never to come is known only now.
    addressee.tell_gaps();
    Ok(())
}

/// Some 4 KB of them: no broker takes that for too large a packet.
const FILTERS_PER_PACKET: u32 = 100;
