//! What handles and the driver share.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;
use whimbrel_session::Tick;
use whimbrel_session::codec::ProtocolVersion;

use crate::core::Core;
use crate::{ConnectionState, Options};

/// One client. The lock is held for one step at a time and never over an await.
pub(crate) struct Shared {
    core: Mutex<Core>,
    began: Instant,
    pub(crate) version: ProtocolVersion,
    pub(crate) state: watch::Sender<ConnectionState>,
}

impl Shared {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            version: options.connect.version,
            core: Mutex::new(Core::new(options)),
            began: Instant::now(),
            state: watch::Sender::new(ConnectionState::Connecting { failures: 0 }),
        }
    }

    /// A panic of another thread under the lock can't have left a step half done that matters more than going on.
    pub(crate) fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> Tick {
        Tick(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    pub(crate) fn instant(&self, tick: Tick) -> Instant {
        let since = std::time::Duration::from_millis(tick.0);
        self.began
            .checked_add(since)
            .unwrap_or_else(|| Instant::now() + FAR)
    }
}

/// Stands in for moments that the clock can't hold.
const FAR: std::time::Duration = std::time::Duration::from_secs(365 * 24 * 60 * 60);
