//! The shard's side of an in-process client: a task that fills its mailbox.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::sync::mpsc;
use whimbrel_broker_core::{ConnectionKey, LocalDelivery};

use crate::thread::Thread;

/// Moves messages from the shard to the client as long as its mailbox has room. What has none waits
/// in the session's queue, under the same bounds as for any client.
pub(crate) async fn fill_mailbox(
    thread: Rc<Thread>,
    key: ConnectionKey,
    mailbox: mpsc::Sender<LocalDelivery>,
) {
    while let Ok(room) = mailbox.reserve().await {
        match poll_fn(|context| poll_take(&thread, key, context)).await {
            Some(delivery) => room.send(delivery),
            None => break,
        }
    }
    let env = thread.env();
    thread.shard.borrow_mut().detach(env, key);
    thread.wakers.borrow_mut().remove(key);
    thread.settle();
}

/// The next message; `None` once the client is no longer attached.
fn poll_take(
    thread: &Thread,
    key: ConnectionKey,
    context: &mut Context<'_>,
) -> Poll<Option<LocalDelivery>> {
    thread.wakers.borrow_mut().register(key, context.waker());
    thread.forget_own_wake(key);
    let env = thread.env();
    let mut shard = thread.shard.borrow_mut();
    let taken = shard.local_take(env, key);
    let is_attached = shard.local_is_attached(key);
    drop(shard);
    thread.settle();
    match taken {
        Some(delivery) => Poll::Ready(Some(delivery)),
        None if is_attached => Poll::Pending,
        None => Poll::Ready(None),
    }
}
