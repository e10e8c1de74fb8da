//! [`Thread`]: a shard with the tasks around it, on one thread.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, spawn_local};
use whimbrel_broker_core::session::Tick;
use whimbrel_broker_core::{ConnectionKey, Env, Shard, ShardId};

use crate::arrival::{Admitted, Arrival};
use crate::connection::Connection;
use crate::driver::drive;
use crate::inbox::Command;
use crate::shared::Shared;
use crate::stats::Traffic;
use crate::system;
use crate::transport::{Parcel, Transport};
use crate::wakers::{Sweep, Wakers};

/// A shard and what its tasks share.
///
/// Tasks borrow the shard for one call at a time and never across an await. What a call asks for
/// is carried out by the driver, once for all tasks of a turn; see [`settle`](Self::settle).
#[derive(Debug)]
pub(crate) struct Thread {
    pub(crate) id: ShardId,
    pub(crate) shared: Arc<Shared>,
    pub(crate) shard: RefCell<Shard>,
    /// One for all connections, so that idle ones hold none.
    pub(crate) read_buffer: RefCell<Box<[u8]>>,
    pub(crate) traffic: Traffic,
    pub(crate) wakers: RefCell<Wakers>,
    driver: RefCell<Option<Waker>>,
    /// When the driver wakes by itself.
    driver_due: Cell<Tick>,
    /// Connections, and farewells to them, that are not over.
    connection_tasks: Cell<usize>,
    is_stopping: Cell<bool>,
    listeners: RefCell<Vec<AbortHandle>>,
}

impl Thread {
    /// Starts the thread of one shard, which may have something to do from before; the reply comes when it runs, or
    /// says why it can't.
    pub(crate) fn start(
        shared: &Arc<Shared>,
        shard: Shard,
        reply: oneshot::Sender<io::Result<()>>,
    ) -> io::Result<JoinHandle<()>> {
        let shared = Arc::clone(shared);
        let id = shard.id();
        std::thread::Builder::new()
            .name(format!("whimbrel-{id}"))
            .spawn(move || {
                let _ended = Ended {
                    shared: Arc::clone(&shared),
                    id,
                };
                match runtime() {
                    Ok(runtime) => {
                        // Whoever waited for it is gone: then a stop is on its way.
                        let _ = reply.send(Ok(()));
                        runtime.block_on(run(shared, shard));
                    }
                    Err(error) => {
                        let _ = reply.send(Err(error));
                    }
                }
            })
    }

    fn new(shared: Arc<Shared>, shard: Shard) -> Self {
        Self {
            id: shard.id(),
            shard: RefCell::new(shard),
            read_buffer: RefCell::new(vec![0; READ_BUFFER_BYTES].into()),
            traffic: Traffic::default(),
            wakers: RefCell::default(),
            driver: RefCell::default(),
            driver_due: Cell::new(Tick::NEVER),
            connection_tasks: Cell::new(0),
            is_stopping: Cell::new(false),
            listeners: RefCell::default(),
            shared,
        }
    }

    /// The surroundings of a step that begins now.
    pub(crate) fn env(&self) -> Env<'_> {
        Env {
            now: self.shared.clock.now(),
            index: &self.shared.index,
        }
    }

    /// Starts a task whose panic ends the broker.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + 'static) -> AbortHandle {
        let guard = PanicGuard(Arc::clone(&self.shared));
        let task = Box::pin(task);
        spawn_local(async move {
            let _guard = guard;
            task.await;
        })
        .abort_handle()
    }

    /// Sees to it that what was asked of the shard in this turn is carried out.
    ///
    /// The driver's turn comes after those of the connections that are ready now, so that one wake
    /// of a subscriber and one lock of another shard's inbox serve all their messages.
    pub(crate) fn settle(&self) {
        let mut shard = self.shard.borrow_mut();
        let is_due = |due: Tick| due < self.driver_due.get();
        if !shard.effects().is_empty()
            || !shard.is_sealed()
            || shard.has_backlog()
            || shard.poll_timeout().is_some_and(is_due)
        {
            self.wake_driver();
        }
    }

    /// Notes whom to wake, and when that happens anyway.
    pub(crate) fn driver_sleeps(&self, waker: &Waker, until: Tick) {
        let mut driver = self.driver.borrow_mut();
        match &mut *driver {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        self.driver_due.set(until);
    }

    /// A connection is about to look at its output and input: a wake that it has just earned
    /// itself is done with.
    pub(crate) fn forget_own_wake(&self, key: ConnectionKey) {
        let mut shard = self.shard.borrow_mut();
        let wake = &mut shard.effects().wake;
        // What the connection has just asked for is at the end; further back it is not worth the search.
        let start = wake.len().saturating_sub(OWN_WAKE_SEARCH);
        if let Some(found) = wake[start..].iter().position(|&woken| woken == key) {
            wake.swap_remove(start + found);
            shard.woken(key);
        }
    }

    /// Notes that a connection wrote, so that it may hold memory for output.
    pub(crate) fn warm_up(&self, key: ConnectionKey) {
        if self.wakers.borrow_mut().warm_up(key) == Sweep::Begins {
            self.wake_driver();
        }
    }

    /// Brings an admitted connection to the thread of its session.
    pub(crate) fn hand_over(
        self: &Rc<Self>,
        transport: Transport,
        admitted: Admitted,
        permit: tokio::sync::OwnedSemaphorePermit,
    ) {
        let home = self.shared.home(&admitted.connect.client_id);
        if home == self.id {
            self.adopt(transport, admitted);
            return;
        }
        match transport.pack() {
            Ok(parcel) => self
                .shared
                .inbox(home)
                .command(Command::Adopt(Box::new(Arrival {
                    parcel,
                    admitted,
                    _permit: permit,
                }))),
            Err(error) => tracing::debug!(%error, "a connection was lost on its way to its shard"),
        }
    }

    /// Takes in a connection that another thread handed over.
    pub(crate) fn receive(self: &Rc<Self>, arrival: Arrival) {
        match arrival.parcel.unpack() {
            Ok(transport) => self.adopt(transport, arrival.admitted),
            Err(error) => tracing::debug!(%error, "a connection was lost on its way to its shard"),
        }
    }

    /// Attaches an admitted connection to its session and starts its task.
    fn adopt(self: &Rc<Self>, transport: Transport, admitted: Admitted) {
        if self.is_stopping.get() {
            return;
        }
        let Admitted {
            mut pump,
            connect,
            grants,
            gate,
            slot,
        } = admitted;
        let attached = pump.attach(self.env(), &mut self.shard.borrow_mut(), connect, grants);
        if let Some(key) = attached {
            let task = ThreadTask::new(self);
            spawn_local(Connection::new(task, transport, pump, key, gate, slot));
            self.settle();
        }
    }

    /// Takes in a stream that an embedder brought.
    pub(crate) fn unpack(parcel: Parcel) -> Option<Transport> {
        match parcel.unpack() {
            Ok(transport) => Some(transport),
            Err(error) => {
                tracing::debug!(%error, "a stream was lost on its way to a shard");
                None
            }
        }
    }

    /// Notes the task of a listener, to be ended when the broker stops.
    pub(crate) fn add_listener(&self, listener: AbortHandle) {
        self.listeners.borrow_mut().push(listener);
    }

    /// Takes no new connections, and ends those there are.
    pub(crate) fn begin_stop(&self, env: Env<'_>) {
        self.is_stopping.set(true);
        for listener in self.listeners.take() {
            listener.abort();
        }
        self.shard.borrow_mut().shut_down(env);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.get()
    }

    /// Whether no connection and no farewell is left.
    pub(crate) fn is_quiet(&self) -> bool {
        self.connection_tasks.get() == 0
    }

    pub(crate) fn wake_driver(&self) {
        if let Some(driver) = &*self.driver.borrow() {
            driver.wake_by_ref();
        }
    }
}

/// A task of a connection on its thread, counted as long as it lives.
#[derive(Debug)]
pub(crate) struct ThreadTask(Rc<Thread>);

impl ThreadTask {
    fn new(thread: &Rc<Thread>) -> Self {
        thread
            .connection_tasks
            .set(thread.connection_tasks.get() + 1);
        Self(Rc::clone(thread))
    }
}

impl Clone for ThreadTask {
    fn clone(&self) -> Self {
        Self::new(&self.0)
    }
}

impl From<&Rc<Thread>> for ThreadTask {
    fn from(thread: &Rc<Thread>) -> Self {
        Self::new(thread)
    }
}

impl Deref for ThreadTask {
    type Target = Thread;

    fn deref(&self) -> &Thread {
        &self.0
    }
}

impl Drop for ThreadTask {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.shared.fail(PANICKED);
        }
        let count = self.0.connection_tasks.get() - 1;
        self.0.connection_tasks.set(count);
        if count == 0 && self.0.is_stopping.get() {
            self.0.wake_driver();
        }
    }
}

/// A panic in a task is a bug that may have left the shard half changed. Going on could
/// acknowledge what is not there, so the broker stops.
#[derive(Debug)]
struct PanicGuard(Arc<Shared>);

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(PANICKED);
        }
    }
}

/// Notes the end of the thread, whatever ended it.
#[derive(Debug)]
struct Ended {
    shared: Arc<Shared>,
    id: ShardId,
}

impl Drop for Ended {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.fail(PANICKED);
        }
        self.shared.thread_ended(self.id);
    }
}

fn runtime() -> io::Result<LocalRuntime> {
    Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build_local(LocalOptions::default())
}

async fn run(shared: Arc<Shared>, shard: Shard) {
    let thread = Rc::new(Thread::new(shared, shard));
    if thread.id.index() == 0 {
        system::start(&thread);
    }
    // A task like those of the connections, so that it takes turns with them.
    if let Err(error) = spawn_local(drive(thread)).await
        && error.is_panic()
    {
        std::panic::resume_unwind(error.into_panic());
    }
}

const PANICKED: &str = "a broker thread panicked";
/// What one read takes in: more only delays the others, less costs system calls.
const READ_BUFFER_BYTES: usize = 64 * 1024;
const OWN_WAKE_SEARCH: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BrokerConfig;
    use crate::error::Stopped;
    use crate::hooks::Hooks;
    use crate::shared::Ground;

    /// A thread without a driver, for tasks to run on.
    fn on_thread<F: Future<Output = ()>>(test: impl FnOnce(Rc<Thread>) -> F) {
        let config = BrokerConfig::default();
        let mut core = config.core.clone();
        core.shards = 1;
        let ground = Ground::in_memory(core);
        let shared = Arc::new(Shared::new(config, Hooks::default(), ground));
        let id = ShardId::new(0).expect("a shard");
        let shard = Shard::new(id, Arc::clone(&shared.core));
        let runtime = runtime().expect("a runtime");
        runtime.block_on(async { test(Rc::new(Thread::new(shared, shard))).await });
    }

    #[test]
    fn a_panic_in_a_task_fails_the_broker() {
        on_thread(async |thread| {
            thread.spawn(async { panic!("on purpose") });
            tokio::task::yield_now().await;
            thread.shared.thread_ended(thread.id);
            assert_eq!(thread.shared.stopped().await, Stopped::Failed);
        });
    }

    #[test]
    fn a_panic_in_a_connection_fails_the_broker() {
        on_thread(async |thread| {
            let task = ThreadTask::from(&thread);
            spawn_local(async move {
                let _task = task;
                panic!("on purpose")
            });
            tokio::task::yield_now().await;
            assert!(thread.is_quiet());
            thread.shared.thread_ended(thread.id);
            assert_eq!(thread.shared.stopped().await, Stopped::Failed);
        });
    }

    #[test]
    fn a_thread_that_ends_by_itself_is_no_failure() {
        on_thread(async |thread| {
            thread.shared.thread_ended(thread.id);
            assert_eq!(thread.shared.stopped().await, Stopped::Orderly);
        });
    }
}
