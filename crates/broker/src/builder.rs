//! [`Builder`]: configuration, listeners and hooks, and from them a running broker.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::oneshot;
use whimbrel_broker_core::{CoreConfig, Journal, Shard};
use whimbrel_net::{Address, ListenOptions};

use crate::broker::Broker;
use crate::config::BrokerConfig;
#[cfg(feature = "store")]
use crate::config::Durability;
use crate::error::StartError;
use crate::hooks::{Authenticator, Authorizer, Hooks, Interceptor, Observer};
use crate::inbox::Command;
use crate::journal;
use crate::outbox::Outbox;
use crate::restart::{OpenJournal, restart};
use crate::shared::{Ground, Shared, random};
use crate::thread::Thread;

/// Builds a [`Broker`]. Made by [`Broker::builder`].
#[derive(Default)]
#[must_use = "nothing runs before `start`"]
pub struct Builder {
    config: BrokerConfig,
    listeners: Vec<(Address, ListenOptions)>,
    hooks: Hooks,
    open_journal: Option<OpenJournal>,
}

impl Builder {
    /// Limits, timeouts and switches; replaces what was set before.
    pub fn config(mut self, config: BrokerConfig) -> Self {
        self.config = config;
        self
    }

    /// Adds a listener with the default [`ListenOptions`]. A broker may have none.
    pub fn listen(self, address: Address) -> Self {
        self.listen_with(address, ListenOptions::default())
    }

    /// Adds a listener. Where its name stands for several addresses, it listens on each.
    pub fn listen_with(mut self, address: Address, options: ListenOptions) -> Self {
        self.listeners.push((address, options));
        self
    }

    /// Asks `authenticator` about each CONNECT. Without one every client is let in, and only
    /// loopback listeners open unless [`BrokerConfig::allow_anonymous`] is set.
    pub fn authenticator(mut self, authenticator: impl Authenticator) -> Self {
        self.hooks.authenticator = Some(Arc::new(authenticator));
        self
    }

    /// Asks `authorizer` about topics and filters.
    pub fn authorizer(mut self, authorizer: impl Authorizer) -> Self {
        self.hooks.authorizer = Some(Arc::new(authorizer));
        self
    }

    /// Shows `interceptor` each message that clients publish.
    pub fn interceptor(mut self, interceptor: impl Interceptor) -> Self {
        self.hooks.interceptor = Some(Arc::new(interceptor));
        self
    }

    /// Tells `observer` what happens to clients and sessions.
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.hooks.observer = Some(Arc::new(observer));
        self
    }

    /// Keeps in `journal` what the broker acknowledges, and begins with what is there. Without one all state is in
    /// memory, and ends with the broker.
    ///
    /// The journal has a thread of its own, on which it may block. What acknowledgements wait for is
    /// [`BrokerConfig::durability`]. When it fails, the broker stops ([`Stopped::Failed`]).
    ///
    /// [`Stopped::Failed`]: crate::Stopped::Failed
    pub fn journal(mut self, journal: impl Journal + 'static) -> Self {
        self.open_journal = Some(Box::new(|_| Ok(Box::new(journal))));
        self
    }

    /// Keeps what the broker acknowledges in files of a directory, which is made where it is not, and begins with what
    /// is there. One process at a time has it. As [`journal`](Self::journal) in all else.
    #[cfg(feature = "store")]
    pub fn data_dir(mut self, directory: impl Into<std::path::PathBuf>) -> Self {
        let directory = directory.into();
        self.open_journal = Some(Box::new(move |durability| {
            let mut options = whimbrel_store::OpenOptions::default();
            options.durability = match durability {
                Durability::Sync => whimbrel_store::Durability::Sync,
                Durability::Os | Durability::None => whimbrel_store::Durability::Os,
            };
            tracing::info!(directory = %directory.display(), ?durability, "opening the store");
            let store = whimbrel_store::RedbStore::open(&directory, options)?;
            Ok(Box::new(store))
        }));
        self
    }

    /// Reads the journal back if there is one, starts the broker's threads and opens its listeners. May be awaited on any runtime; the
    /// broker runs on threads of its own.
    ///
    /// # Errors
    ///
    /// [`StartError`] says what to change. Threads and listeners that were there already are gone
    /// again; only where a thread can't be started they are about to.
    pub async fn start(self) -> Result<Broker, StartError> {
        let Self {
            config,
            listeners,
            hooks,
            open_journal,
        } = self;
        let core = core_config(&config, open_journal.is_some())?;
        let is_open = hooks.authenticator.is_none();
        let (shared, mut broker, shards) = match open_journal {
            None => {
                let shared = Arc::new(Shared::new(config, hooks, Ground::in_memory(core)));
                let shards = new_shards(&shared);
                (Arc::clone(&shared), Broker::new(shared), shards)
            }
            Some(open_journal) => {
                let restarted = restart(open_journal, config.durability, core).await?;
                let outbox = Arc::new(Outbox::new(restarted.core.shards));
                let ground = Ground {
                    core: restarted.core,
                    index: restarted.index,
                    clock: restarted.clock,
                    outbox: Some(Arc::clone(&outbox)),
                };
                let shared = Arc::new(Shared::new(config, hooks, ground));
                let mut broker = Broker::new(Arc::clone(&shared));
                let thread = journal::start(&shared, &outbox, restarted.journal);
                broker.add_thread(thread.map_err(|source| StartError::Thread { source })?);
                (shared, broker, restarted.shards)
            }
        };
        if let Err(error) = start_shards(&shared, &mut broker, shards).await {
            if let Some(outbox) = &shared.outbox {
                // A shard that has not begun is not going to end: no other one would be the last.
                outbox.close();
            }
            return Err(error);
        }
        for (address, options) in listeners {
            match open_listener(&shared, address, options).await {
                Ok(local_addrs) => broker.add_local_addrs(local_addrs),
                Err(error) => {
                    broker.shutdown().await;
                    return Err(error);
                }
            }
        }
        if is_open {
            tracing::info!("no authenticator is set: every client is let in");
        }
        tracing::info!(shards = shared.core.shards, "broker started");
        Ok(broker)
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("config", &self.config)
            .field("listeners", &self.listeners)
            .field("hooks", &self.hooks)
            .field("has_journal", &self.open_journal.is_some())
            .finish()
    }
}

/// What the core is told: as configured, with what is left to the broker.
fn core_config(config: &BrokerConfig, journal: bool) -> Result<CoreConfig, StartError> {
    let mut core = config.core.clone();
    core.validate()?;
    core.journal = journal;
    for seed in [&mut core.seed, &mut core.placement_seed] {
        if *seed == 0 {
            *seed = random();
        }
    }
    if core.incarnation == 0 {
        core.incarnation = seconds_since_1970();
    }
    Ok(core)
}

fn new_shards(shared: &Shared) -> Vec<Shard> {
    let shards = shared.shards();
    shards
        .map(|id| Shard::new(id, Arc::clone(&shared.core)))
        .collect()
}

async fn start_shards(
    shared: &Arc<Shared>,
    broker: &mut Broker,
    shards: Vec<Shard>,
) -> Result<(), StartError> {
    for shard in shards {
        let (reply, started) = oneshot::channel();
        let thread = Thread::start(shared, shard, reply);
        broker.add_thread(thread.map_err(|source| StartError::Thread { source })?);
        started
            .await
            .map_err(|_| StartError::Stopped)?
            .map_err(|source| StartError::Thread { source })?;
    }
    Ok(())
}

async fn open_listener(
    shared: &Shared,
    address: Address,
    options: ListenOptions,
) -> Result<Vec<SocketAddr>, StartError> {
    let (reply, opened) = oneshot::channel();
    shared.inbox(shared.any_shard()).command(Command::Listen {
        address,
        options,
        reply,
    });
    let local_addrs = opened.await.map_err(|_| StartError::Stopped)??;
    for local_addr in &local_addrs {
        tracing::info!("listening on tcp://{local_addr}");
    }
    Ok(local_addrs)
}

/// Rises with every start, and fits until the year 2106.
fn seconds_since_1970() -> u32 {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let seconds = since_epoch.unwrap_or_default().as_secs();
    u32::try_from(seconds).unwrap_or(u32::MAX)
}
