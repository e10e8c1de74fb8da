//! [`Shared`]: what all threads and handles of one broker have in common.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::{Semaphore, oneshot, watch};
use whimbrel_broker_core::session::ServerConfig;
use whimbrel_broker_core::session::codec::topic::ByteStr;
use whimbrel_broker_core::{CoreConfig, Index, ShardId, assigned_client_id, placement};

use crate::clock::Clock;
use crate::config::BrokerConfig;
use crate::error::Stopped;
use crate::hooks::Hooks;
use crate::inbox::{Command, Inbox};
use crate::outbox::Outbox;
use crate::stats::{BrokerStats, ThreadStats};

/// One broker, as its threads and handles share it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: BrokerConfig,
    pub(crate) core: Arc<CoreConfig>,
    /// That of `core`, as all connections share it.
    pub(crate) connection_config: Arc<ServerConfig>,
    pub(crate) hooks: Hooks,
    pub(crate) index: Index,
    pub(crate) clock: Clock,
    /// What leads to the journal, if there is one.
    pub(crate) outbox: Option<Arc<Outbox>>,
    /// Permits for connections that are not attached yet.
    pub(crate) handshakes: Arc<Semaphore>,
    inboxes: Box<[Inbox]>,
    lifecycle: watch::Sender<Lifecycle>,
    shards_alive: AtomicUsize,
    /// Those of the shards and of the journal.
    threads_alive: AtomicUsize,
    connections: AtomicUsize,
    connections_high: AtomicUsize,
    next_shard: AtomicUsize,
    client_id_secret: [u64; 2],
    client_ids_assigned: AtomicU64,
}

/// Whether the broker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifecycle {
    Running,
    /// A thread panicked or the journal failed; all are ending.
    Failing,
    Stopped,
    /// Stopped, after that.
    Failed,
}

/// What there is before the broker.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) core: Arc<CoreConfig>,
    pub(crate) index: Index,
    pub(crate) clock: Clock,
    pub(crate) outbox: Option<Arc<Outbox>>,
}

impl Ground {
    /// Without a journal.
    pub(crate) fn in_memory(core: CoreConfig) -> Self {
        Self {
            index: Index::new(core.seed, &core.limits),
            clock: Clock::start(),
            outbox: None,
            core: Arc::new(core),
        }
    }
}

impl Shared {
    pub(crate) fn new(config: BrokerConfig, hooks: Hooks, ground: Ground) -> Self {
        let Ground {
            core,
            index,
            clock,
            outbox,
        } = ground;
        let threads = core.shards + usize::from(outbox.is_some());
        Self {
            index,
            clock,
            outbox,
            handshakes: Arc::new(Semaphore::new(
                config.handshakes_max.min(Semaphore::MAX_PERMITS),
            )),
            inboxes: (0..core.shards).map(|_| Inbox::default()).collect(),
            lifecycle: watch::Sender::new(Lifecycle::Running),
            shards_alive: AtomicUsize::new(core.shards),
            threads_alive: AtomicUsize::new(threads),
            connections: AtomicUsize::new(0),
            connections_high: AtomicUsize::new(0),
            next_shard: AtomicUsize::new(0),
            client_id_secret: [random(), random()],
            client_ids_assigned: AtomicU64::new(0),
            config,
            connection_config: Arc::new(core.connection),
            core,
            hooks,
        }
    }

    /// Every shard.
    pub(crate) fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.inboxes.len()).filter_map(ShardId::new)
    }

    pub(crate) fn inbox(&self, shard: ShardId) -> &Inbox {
        &self.inboxes[shard.index()]
    }

    /// The shard of a client's session.
    pub(crate) fn home(&self, client_id: &str) -> ShardId {
        placement(client_id, self.core.placement_seed, self.inboxes.len())
    }

    /// Shards in turn, for what is bound to none.
    pub(crate) fn any_shard(&self) -> ShardId {
        let turn = self.next_shard.fetch_add(1, Ordering::Relaxed);
        ShardId::new(turn % self.inboxes.len()).expect("as many inboxes as shards")
    }

    /// A client id for a client that left the choice to us [MQTT-3.1.3-6].
    pub(crate) fn assign_client_id(&self) -> ByteStr {
        let count = self.client_ids_assigned.fetch_add(1, Ordering::Relaxed);
        assigned_client_id(self.client_id_secret, count)
    }

    /// Counts a connection, unless there are as many as may be.
    pub(crate) fn take_slot(self: &Arc<Self>) -> Option<ConnectionSlot> {
        let connections_max = self.config.connections_max;
        let before = self
            .connections
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                (count < connections_max).then_some(count + 1)
            })
            .ok()?;
        self.connections_high
            .fetch_max(before + 1, Ordering::Relaxed);
        Some(ConnectionSlot(Arc::clone(self)))
    }

    /// Gives every shard's thread a command.
    pub(crate) fn command_all(&self, mut command: impl FnMut() -> Command) {
        for inbox in &self.inboxes {
            inbox.command(command());
        }
    }

    /// Gives every shard's thread a command, and waits for their replies. Threads that have ended
    /// don't reply.
    pub(crate) async fn ask_all<T>(
        &self,
        command: impl Fn(oneshot::Sender<T>) -> Command,
    ) -> Vec<T> {
        let mut replies = Vec::with_capacity(self.inboxes.len());
        for inbox in &self.inboxes {
            let (sender, reply) = oneshot::channel();
            inbox.command(command(sender));
            replies.push(reply);
        }
        let mut answers = Vec::with_capacity(replies.len());
        for reply in replies {
            answers.extend(reply.await);
        }
        answers
    }

    pub(crate) async fn stats(&self) -> BrokerStats {
        let threads = self.ask_all(Command::Stats).await;
        let mut sum = ThreadStats::default();
        for thread in &threads {
            sum.merge(thread);
        }
        BrokerStats {
            shards: sum.shard,
            bytes_received: sum.bytes_received,
            bytes_sent: sum.bytes_sent,
            handshake_timeouts: sum.handshake_timeouts,
            connections_high: self.connections_high.load(Ordering::Relaxed) as u64,
            retained_messages: self.index.retained_messages() as u64,
            retained_bytes: self.index.retained_bytes() as u64,
            journal: self.outbox.as_ref().map(|outbox| outbox.stats()),
            uptime: self.clock.uptime(),
        }
    }

    /// Ends the whole broker, because a part of it can no longer be trusted. `why` is for the log.
    pub(crate) fn fail(&self, why: &'static str) {
        let failing = self.lifecycle.send_if_modified(|lifecycle| {
            let is_first = *lifecycle == Lifecycle::Running;
            if is_first {
                *lifecycle = Lifecycle::Failing;
            }
            is_first
        });
        if failing {
            tracing::error!("{why}; the broker stops");
            self.command_all(|| Command::Stop);
        }
    }

    /// Notes the end of a shard's thread.
    pub(crate) fn thread_ended(&self, shard: ShardId) {
        self.inbox(shard).close();
        if self.shards_alive.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(outbox) = &self.outbox
        {
            outbox.close();
        }
        self.one_thread_ended();
    }

    /// Notes the end of the journal's thread.
    pub(crate) fn journal_ended(&self) {
        self.one_thread_ended();
    }

    /// Whether something is wrong, so that what a shard holds can't be trusted.
    pub(crate) fn is_failing(&self) -> bool {
        matches!(
            *self.lifecycle.borrow(),
            Lifecycle::Failing | Lifecycle::Failed
        )
    }

    fn one_thread_ended(&self) {
        if self.threads_alive.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.lifecycle.send_modify(|lifecycle| {
                *lifecycle = match *lifecycle {
                    Lifecycle::Failing | Lifecycle::Failed => Lifecycle::Failed,
                    Lifecycle::Running | Lifecycle::Stopped => Lifecycle::Stopped,
                };
            });
        }
    }

    /// Waits until every thread has ended.
    pub(crate) async fn stopped(&self) -> Stopped {
        let mut lifecycle = self.lifecycle.subscribe();
        let has_ended =
            |lifecycle: &Lifecycle| matches!(lifecycle, Lifecycle::Stopped | Lifecycle::Failed);
        match lifecycle.wait_for(has_ended).await.as_deref() {
            Ok(Lifecycle::Failed) => Stopped::Failed,
            // The sender is in `self`, so there is no error.
            _ => Stopped::Orderly,
        }
    }
}

/// A counted connection.
#[derive(Debug)]
pub(crate) struct ConnectionSlot(Arc<Shared>);

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A number that peers can't guess: std's hasher keys come from the system's source of randomness.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(())
}
