//! A client that leaves its session with the broker, and comes back for what was published meanwhile.

use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use whimbrel_session::SessionState;
use whimbrel_session::codec::ProtocolVersion;

use crate::addressee::Addressee;
use crate::error::Gone;
use crate::link::{Ignore, Link};
use crate::options::{Offline, Scenario};
use crate::shared::Phase;
use crate::spread::{Spread, Target};
use crate::worker::Worker;

/// Subscribes, leaves, comes back, and ends its session when the run is over.
pub(crate) async fn come_back(worker: Rc<Worker>, number: u32) {
    let shared = &worker.shared;
    let Scenario::Offline(offline) = &shared.options.scenario else {
        return;
    };
    let mut addressee = Addressee::new(&worker, offline.spread(), number);
    let Some(session) = leave(&worker, offline, number, &mut addressee).await else {
        return;
    };
    shared.live.ready.fetch_add(1, Relaxed);
    let mut phase = shared.phase.subscribe();
    let begun = phase.wait_for(|phase| *phase >= Phase::Measuring).await;
    if begun.is_ok_and(|phase| *phase == Phase::Measuring)
        && let Err(gone) = drain(&worker, offline, number, session, &mut addressee).await
    {
        worker.lost(&format!("client {number}"), &gone);
    }
    addressee.publish_counts();
    addressee.tell_gaps();
    clear(&worker, number).await;
}

/// Connects, subscribes to its topic, and disconnects: what is kept of the session here.
async fn leave(
    worker: &Worker,
    offline: &Offline,
    number: u32,
    addressee: &mut Addressee<'_>,
) -> Option<Option<SessionState<u64>>> {
    let shared = &*worker.shared;
    let connect = shared.connect_to_stay(KIND, number);
    let mut link = worker.connect_with(connect).await?;
    let mut topic = String::new();
    let target = Target {
        client: number,
        place: 0,
        round: 0,
    };
    Spread::name_topic(&shared.base, target, &mut topic);
    let left = async {
        // SUBSCRIBE is part of the set-up, and bounded as that is.
        let _permit = worker.connecting.acquire().await;
        let granted = link
            .subscribe(&[topic], offline.qos, &worker.scratch, &mut Ignore)
            .await?;
        Ok::<_, Gone>((granted, link.leave().await?))
    };
    match left.await {
        Ok((granted, session)) => {
            if granted < offline.qos {
                shared.live.granted_less.fetch_add(1, Relaxed);
            }
            addressee.qos = granted.min(offline.qos);
            Some(session)
        }
        Err(gone) => {
            shared.fail(format!("session {number}"), gone);
            None
        }
    }
}

/// Takes up the session, and receives until the run is over.
async fn drain(
    worker: &Worker,
    offline: &Offline,
    number: u32,
    session: Option<SessionState<u64>>,
    addressee: &mut Addressee<'_>,
) -> Result<(), Gone> {
    let shared = &*worker.shared;
    let mut phase = shared.phase.subscribe();
    let due = due(offline, number);
    let mut is_counted = false;
    let from = shared.clock.nanos();
    let mut link = {
        let _permit = worker.connecting.acquire().await;
        let connect = shared.connect_to_stay(KIND, number);
        let (options, clock) = (&shared.link, shared.clock);
        Link::resume(options, connect, session, clock, &worker.scratch, addressee).await?
    };
    // MQTT 3.1 does not tell [U31-002].
    if !link.is_resumed && shared.options.version != ProtocolVersion::V31 {
        let findings = &mut worker.meter.borrow_mut().findings;
        findings.lost_sessions += 1;
        findings.example(|| format!("the session of client {number} was gone when it came back"));
    }
    loop {
        addressee.publish_counts();
        if !is_counted && addressee.received >= due {
            is_counted = true;
            let mut meter = worker.meter.borrow_mut();
            meter.fetch.note(from, shared.clock.nanos());
            shared.live.fetched.fetch_add(1, Relaxed);
        }
        if *phase.borrow_and_update() >= Phase::Draining {
            break;
        }
        tokio::select! {
            biased;
            turned = link.turn(&worker.scratch, addressee) => turned?,
            changed = phase.changed() => if changed.is_err() { break },
        }
    }
    link.leave().await.map(drop)
}

/// Messages for one session.
fn due(offline: &Offline, number: u32) -> u64 {
    // Sessions take turns at their publisher, from one that the spread chooses.
    let spread = offline.spread();
    let publisher = number % offline.publishers;
    let turn = spread.turn(publisher);
    let messages = offline.messages.saturating_sub(publisher);
    let quota = messages.div_ceil(offline.publishers);
    let is_here = |sequence: &u32| {
        let target = spread.target(publisher, *sequence);
        target.is_some_and(|target| target.client == number)
    };
    let first = (0..turn.min(quota)).find(is_here);
    first.map_or(0, |first| u64::from((quota - first).div_ceil(turn)))
}

/// Ends the session on the broker, by connecting without it.
async fn clear(worker: &Worker, number: u32) {
    let shared = &*worker.shared;
    let connect = shared.connect(KIND, number);
    let cleared = async {
        let _permit = worker.connecting.acquire().await;
        let link = Link::open(&shared.link, connect, shared.clock, &worker.scratch).await?;
        link.leave().await
    };
    // One that stays is told of: it is missing in the count.
    if cleared.await.is_ok() {
        shared.live.cleared.fetch_add(1, Relaxed);
    }
}

const KIND: char = 'o';

#[cfg(test)]
mod tests {
    use whimbrel_session::codec::QoS;

    use super::*;

    #[test]
    fn what_sessions_are_due_is_all_there_is() {
        for (messages, publishers, sessions) in [(100, 4, 10), (7, 3, 5), (3, 1, 9), (1_000, 7, 7)]
        {
            let offline = Offline {
                messages,
                publishers,
                sessions,
                qos: QoS::AtLeastOnce,
                size: 64,
                in_flight: 1,
            };
            let spread = offline.spread();
            let mut counted = vec![0; sessions as usize];
            for publisher in 0..publishers {
                let quota = (messages - publisher.min(messages)).div_ceil(publishers);
                for sequence in 0..quota {
                    let target = spread.target(publisher, sequence).expect("a publisher");
                    counted[target.client as usize] += 1;
                }
            }
            let dues: Vec<u64> = (0..sessions).map(|number| due(&offline, number)).collect();
            assert_eq!(dues, counted);
            assert_eq!(dues.iter().sum::<u64>(), u64::from(messages));
        }
    }
}
