//! Clients that do nothing but stay.

use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use crate::error::Gone;
use crate::link::{Ignore, Link};
use crate::shared::Phase;
use crate::worker::Worker;

/// Connects, and stays until the run is over.
pub(crate) async fn hold(worker: Rc<Worker>, number: u32) {
    let Some(link) = worker.connect('i', number).await else {
        return;
    };
    worker.shared.live.ready.fetch_add(1, Relaxed);
    if let Err(gone) = stay(&worker, link).await {
        worker.lost(&format!("client {number}"), &gone);
    }
}

/// Keeps a connection alive until the run is over.
pub(crate) async fn stay(worker: &Worker, mut link: Link) -> Result<(), Gone> {
    let mut phase = worker.shared.phase.subscribe();
    let mut handler = Ignore;
    while *phase.borrow_and_update() < Phase::Closing {
        tokio::select! {
            turned = link.turn(&worker.scratch, &mut handler) => turned?,
            changed = phase.changed() => if changed.is_err() { break },
        }
    }
    link.close().await;
    Ok(())
}
