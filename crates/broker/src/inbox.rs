//! [`Inbox`]: what reaches a shard's thread from elsewhere.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use whimbrel_broker_core::session::codec::ReasonCode;
use whimbrel_broker_core::session::codec::topic::ByteStr;
use whimbrel_broker_core::{
    ConnectionKey, LocalDelivery, LocalPublish, LocalSubscribe, SessionKey, ShardId, ShardMessage,
    StoredMessage,
};
use whimbrel_net::{Address, ListenOptions};

use crate::arrival::Arrival;
use crate::error::StartError;
use crate::stats::ThreadStats;
use crate::transport::Parcel;

/// The queue in front of a shard's thread: one lock and at most one wake for each batch.
///
/// It has no limit of its own, because everything in it has one where it comes from. Messages of
/// other shards: the core's byte windows; its control messages answer something that was let in.
/// What the journal says answers what the shard has asked. Commands: see each.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    mail: Mail,
    /// Set while the driver has seen everything; taken by the first to add something.
    waker: Option<Waker>,
    /// The thread has ended: nobody will read what is added.
    is_closed: bool,
}

/// What the driver takes out at once.
#[derive(Debug, Default)]
pub(crate) struct Mail {
    /// Per sender in order.
    pub(crate) messages: Vec<(ShardId, ShardMessage)>,
    /// Records of this shard that the journal has committed since.
    pub(crate) committed: u64,
    /// Messages that were read back, in the order they were asked for. One answer for each session that waits.
    pub(crate) loaded: Vec<(SessionKey, Vec<StoredMessage>)>,
    /// Whether there is room for messages on the journal's disk, where that has changed.
    pub(crate) disk_full: Option<bool>,
    pub(crate) commands: Vec<Command>,
}

/// What a handle or another thread asks of a shard's thread. A reply that is dropped says that the
/// thread has ended.
#[derive(Debug)]
pub(crate) enum Command {
    /// Opens a listener. As many as there are in the configuration.
    Listen {
        address: Address,
        options: ListenOptions,
        reply: oneshot::Sender<Result<Vec<SocketAddr>, StartError>>,
    },
    /// Begins the handshake of a foreign stream. Bounded by the permits for handshakes.
    Greet {
        parcel: Parcel,
        /// What hooks are told.
        peer: Option<SocketAddr>,
        permit: OwnedSemaphorePermit,
    },
    /// Attaches a connection whose session is here. Holds its permit for handshakes until then.
    Adopt(Box<Arrival>),
    /// Attaches an in-process client. One for each caller that waits.
    AttachLocal {
        client_id: ByteStr,
        mailbox: mpsc::Sender<LocalDelivery>,
        reply: oneshot::Sender<ConnectionKey>,
    },
    /// A request of an in-process client. Bounded by its permits.
    Local(LocalRequest),
    /// The handle of an in-process client is gone.
    DetachLocal(ConnectionKey),
    /// One for each caller that waits.
    Stats(oneshot::Sender<ThreadStats>),
    /// Ends every connection; replies when their last bytes are out, or time is up. One for each
    /// caller that waits.
    ShutDown(oneshot::Sender<()>),
    /// Ends the thread.
    Stop,
}

/// What an in-process client asks for.
#[derive(Debug)]
pub(crate) struct LocalRequest {
    pub(crate) key: ConnectionKey,
    pub(crate) action: LocalAction,
    pub(crate) reply: LocalReply,
}

#[derive(Debug)]
pub(crate) enum LocalAction {
    Publish(Box<LocalPublish>),
    Subscribe(Vec<LocalSubscribe>),
    Unsubscribe(Vec<ByteStr>),
}

/// Where the reason codes go. The permit is held until they are there, whether or not the caller
/// still waits, so that abandoned requests count too.
#[derive(Debug)]
pub(crate) struct LocalReply {
    pub(crate) sender: oneshot::Sender<Vec<ReasonCode>>,
    pub(crate) _permit: OwnedSemaphorePermit,
}

impl Mail {
    fn is_empty(&self) -> bool {
        self.messages.is_empty()
            && self.committed == 0
            && self.loaded.is_empty()
            && self.disk_full.is_none()
            && self.commands.is_empty()
    }
}

impl Inbox {
    /// Adds messages of another shard, in their order.
    pub(crate) fn post(&self, from: ShardId, messages: &mut Vec<ShardMessage>) {
        let mut state = self.lock();
        if state.is_closed {
            messages.clear();
            return;
        }
        let batch = messages.drain(..).map(|message| (from, message));
        state.mail.messages.extend(batch);
        wake(state);
    }

    /// Counts records that the journal has committed.
    pub(crate) fn committed(&self, records: u64) {
        self.mail(|mail| mail.committed += records);
    }

    /// Adds messages that the journal has read back.
    pub(crate) fn loaded(&self, session: SessionKey, messages: Vec<StoredMessage>) {
        self.mail(|mail| mail.loaded.push((session, messages)));
    }

    /// Says whether the journal's disk is full.
    pub(crate) fn disk_full(&self, is_full: bool) {
        self.mail(|mail| mail.disk_full = Some(is_full));
    }

    /// Adds a command. One for a thread that has ended is dropped, and its reply with it.
    pub(crate) fn command(&self, command: Command) {
        let mut state = self.lock();
        if state.is_closed {
            // A command may hold streams and permits, whose drop does not belong under the lock.
            drop(state);
            drop(command);
            return;
        }
        state.mail.commands.push(command);
        wake(state);
    }

    /// Moves everything to `mail`, which is empty, and wakes `waker` when there is more.
    pub(crate) fn take(&self, mail: &mut Mail, waker: &Waker) {
        debug_assert!(mail.is_empty());
        let mut state = self.lock();
        std::mem::swap(&mut state.mail, mail);
        match &mut state.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    /// Takes nothing in any more.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        state.waker = None;
        let mail = std::mem::take(&mut state.mail);
        drop(state);
        drop(mail);
    }

    fn mail(&self, add: impl FnOnce(&mut Mail)) {
        let mut state = self.lock();
        if !state.is_closed {
            add(&mut state.mail);
            wake(state);
        }
    }

    // The lock is held for moves only; a panic in one leaves at worst a message behind.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(mut state: MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_reader_is_woken_once_for_all_that_comes_before_it_reads() {
        let inbox = Inbox::default();
        let counter = Arc::new(Counter::default());
        let waker = Waker::from(Arc::clone(&counter));
        let mut mail = Mail::default();
        inbox.take(&mut mail, &waker);
        for _ in 0..3 {
            inbox.command(Command::Stop);
        }
        assert_eq!(counter.0.load(Ordering::Relaxed), 1);
        inbox.take(&mut mail, &waker);
        assert_eq!(mail.commands.len(), 3);
        inbox.command(Command::Stop);
        assert_eq!(counter.0.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_command_for_a_closed_inbox_drops_its_reply() {
        let inbox = Inbox::default();
        let (before, mut reply_before) = oneshot::channel();
        inbox.command(Command::ShutDown(before));
        inbox.close();
        let (after, mut reply_after) = oneshot::channel();
        inbox.command(Command::ShutDown(after));
        for reply in [&mut reply_before, &mut reply_after] {
            assert_eq!(reply.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        }
    }
}
