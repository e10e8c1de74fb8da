//! [`Builder`]: configuration, listeners and hooks, and from them a running broker.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::oneshot;
use whimbrel_net::{Address, ListenOptions};

use crate::broker::Broker;
use crate::config::BrokerConfig;
use crate::error::StartError;
use crate::hooks::{Authenticator, Authorizer, Hooks, Interceptor, Observer};
use crate::inbox::Command;
use crate::shared::{Shared, random};
use crate::thread::Thread;

/// Builds a [`Broker`]. Made by [`Broker::builder`].
#[derive(Debug, Default)]
#[must_use = "nothing runs before `start`"]
pub struct Builder {
    config: BrokerConfig,
    listeners: Vec<(Address, ListenOptions)>,
    hooks: Hooks,
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

    /// Starts the broker's threads and opens its listeners. May be awaited on any runtime; the
    /// broker runs on threads of its own.
    ///
    /// # Errors
    ///
    /// [`StartError`] says what to change. Threads and listeners that were there already are gone
    /// again, or are about to.
    pub async fn start(self) -> Result<Broker, StartError> {
        let Self {
            config,
            listeners,
            hooks,
        } = self;
        let mut core = config.core.clone();
        core.validate()?;
        core.journal = false;
        for seed in [&mut core.seed, &mut core.placement_seed] {
            if *seed == 0 {
                *seed = random();
            }
        }
        if core.incarnation == 0 {
            core.incarnation = seconds_since_1970();
        }
        let is_open = hooks.authenticator.is_none();
        let shared = Arc::new(Shared::new(config, core, hooks));
        let mut broker = Broker::new(Arc::clone(&shared));
        for shard in shared.shards() {
            let (reply, started) = oneshot::channel();
            let thread = Thread::start(&shared, shard, reply);
            broker.add_thread(thread.map_err(|source| StartError::Thread { source })?);
            started
                .await
                .map_err(|_| StartError::Stopped)?
                .map_err(|source| StartError::Thread { source })?;
        }
        for (address, options) in listeners {
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
            broker.add_local_addrs(local_addrs);
        }
        if is_open {
            tracing::info!("no authenticator is set: every client is let in");
        }
        tracing::info!(shards = shared.core.shards, "broker started");
        Ok(broker)
    }
}

/// Rises with every start, and fits until the year 2106.
fn seconds_since_1970() -> u32 {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let seconds = since_epoch.unwrap_or_default().as_secs();
    u32::try_from(seconds).unwrap_or(u32::MAX)
}
