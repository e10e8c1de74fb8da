//! Clients that connect all at once, or at a rate.

use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::task::JoinSet;

use crate::idle;
use crate::options::{Scenario, Storm};
use crate::shared::{Phase, due_at};
use crate::worker::{Worker, chain};

/// Connects this thread's clients when their time has come, and holds them.
pub(crate) async fn storm(worker: Rc<Worker>) {
    let shared = &worker.shared;
    let Scenario::Connect(storm) = &shared.options.scenario else {
        return;
    };
    let mut phase = shared.phase.subscribe();
    let mut tasks = JoinSet::new();
    if phase.wait_for(|phase| *phase > Phase::Setup).await.is_err() {
        return;
    }
    let clients = u64::from(storm.clients);
    let threads = shared.options.threads as u64;
    let mut next = worker.index as u64;
    while next < clients {
        let due = if storm.rate.is_some() {
            shared.due.load(Relaxed)
        } else {
            clients
        };
        while next < clients.min(due) {
            tasks.spawn_local(client(Rc::clone(&worker), next));
            next += threads;
        }
        if next >= clients {
            break;
        }
        tokio::select! {
            () = shared.due_grown[worker.index].notified() => {}
            closing = phase.wait_for(|phase| *phase == Phase::Closing) => {
                let _ = closing;
                break;
            }
        }
    }
    while tasks.join_next().await.is_some() {}
}

/// One client of the storm.
async fn client(worker: Rc<Worker>, index: u64) {
    let shared = &worker.shared;
    let Scenario::Connect(Storm { rate, .. }) = shared.options.scenario else {
        return;
    };
    let number = u32::try_from(index).unwrap_or(u32::MAX);
    let link = {
        let Ok(_permit) = worker.connecting.acquire().await else {
            return;
        };
        if *shared.phase.borrow() == Phase::Closing {
            return;
        }
        // With a rate, who waits for others waits on the broker's account.
        let from = match rate {
            Some(rate) => due_at(shared.start.load(Relaxed), rate, index),
            None => shared.clock.nanos(),
        };
        worker.open(shared.connect('c', number), from).await
    };
    let ended = match link {
        Ok(link) => idle::stay(&worker, link).await,
        Err(gone) => {
            let findings = &mut worker.meter.borrow_mut().findings;
            findings.failed_connections += 1;
            findings.example(|| format!("client {number} could not connect: {}", chain(&gone)));
            shared.fail(format!("client {number}"), gone);
            return;
        }
    };
    if let Err(gone) = ended {
        worker.lost(&format!("client {number}"), &gone);
    }
}
