//! [`Broker`]: the handle of a running broker.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::io::{AsyncRead, AsyncWrite};
use whimbrel_broker_core::session::codec::topic::ByteStr;

use crate::builder::Builder;
use crate::error::{AttachError, ServeError, Stopped};
use crate::in_process::InProcessClient;
use crate::inbox::Command;
use crate::shared::Shared;
use crate::stats::BrokerStats;
use crate::transport::Parcel;

/// A running broker. Clones are handles of the same one, usable on any runtime and thread.
///
/// End it with [`shutdown`](Self::shutdown). When the last handle is dropped without that, the
/// broker stops at once: connections are cut without a word, and wills are not published.
#[derive(Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    local_addrs: Mutex<Vec<SocketAddr>>,
}

impl Broker {
    /// A builder with the default configuration, no listener and no hook.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            inner: Arc::new(Inner {
                shared,
                threads: Mutex::default(),
                local_addrs: Mutex::default(),
            }),
        }
    }

    pub(crate) fn add_thread(&mut self, thread: JoinHandle<()>) {
        lock(&self.inner.threads).push(thread);
    }

    pub(crate) fn add_local_addrs(&mut self, local_addrs: Vec<SocketAddr>) {
        lock(&self.inner.local_addrs).extend(local_addrs);
    }

    /// What is listened on, in the order of the listeners.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        lock(&self.inner.local_addrs).clone()
    }

    /// Serves a stream that was accepted elsewhere, as if a listener had accepted it.
    ///
    /// The stream is polled on a thread of the broker: if it belongs to a tokio runtime, that has to
    /// go on running. `peer` is what hooks are told. Once the broker stops, streams are closed.
    ///
    /// # Errors
    ///
    /// [`ServeError::Busy`]; the stream is closed.
    pub fn serve(
        &self,
        io: impl AsyncRead + AsyncWrite + Send + 'static,
        peer: Option<SocketAddr>,
    ) -> Result<(), ServeError> {
        let shared = &self.inner.shared;
        let permit = Arc::clone(&shared.handshakes)
            .try_acquire_owned()
            .map_err(|_| ServeError::Busy)?;
        shared.inbox(shared.any_shard()).command(Command::Greet {
            parcel: Parcel::foreign(io),
            peer,
            permit,
        });
        Ok(())
    }

    /// Attaches a client in this process. A client that is connected with the same id is
    /// disconnected, as by any other.
    ///
    /// # Errors
    ///
    /// [`AttachError`]
    pub async fn attach(&self, client_id: &str) -> Result<InProcessClient, AttachError> {
        let shared = Arc::clone(&self.inner.shared);
        InProcessClient::attach(shared, ByteStr::from(client_id)).await
    }

    /// What the broker has done and holds. Of a broker that has stopped, little is left to tell.
    pub async fn stats(&self) -> BrokerStats {
        self.inner.shared.stats().await
    }

    /// Stops the broker in good order, and waits for it: listeners close, MQTT 5 clients are told
    /// 0x8B, what is in output buffers is written for as long as [`BrokerConfig::close_timeout`]
    /// allows, and the threads end.
    ///
    /// Cancelled, it may leave the broker without connections but running; call it again.
    ///
    /// [`BrokerConfig::close_timeout`]: crate::BrokerConfig::close_timeout
    pub async fn shutdown(&self) -> Stopped {
        let shared = &self.inner.shared;
        shared.ask_all(Command::ShutDown).await;
        shared.command_all(|| Command::Stop);
        let stopped = self.stopped().await;
        // They have nothing left to do but return, so this does not block for long.
        for thread in std::mem::take(&mut *lock(&self.inner.threads)) {
            // A panic was noted where it happened.
            let _ = thread.join();
        }
        tracing::info!("broker stopped");
        stopped
    }

    /// Waits until the broker has stopped, whoever stopped it.
    pub async fn stopped(&self) -> Stopped {
        self.inner.shared.stopped().await
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("local_addrs", &self.local_addrs())
            .finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.command_all(|| Command::Stop);
    }
}

/// What is behind these locks is only ever extended or taken.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
