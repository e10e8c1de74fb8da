//! [`Disconnecting`]: the orderly end.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;

use whimbrel_session::codec::topic::ByteStr;
use whimbrel_session::codec::{Disconnect, ReasonCode};

use crate::shared::Shared;
use crate::{Closed, ConnectionState, DisconnectError};

/// The end of a client; see [`Client::disconnect`](crate::Client::disconnect).
///
/// Awaited, it resolves when everything that was accepted is acknowledged and DISCONNECT is written, or when the
/// [`disconnect_timeout`](crate::Options::disconnect_timeout) is over.
///
/// Cancel-safe: once it was polled the client ends, whether or not anybody waits for it.
///
/// # Errors
///
/// [`DisconnectError::Unacknowledged`], and [`DisconnectError::Closed`] where the client had ended before.
#[must_use = "the client goes on until this is awaited"]
pub struct Disconnecting {
    shared: Arc<Shared>,
    disconnect: Disconnect,
}

impl Disconnecting {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            disconnect: Disconnect::new(ReasonCode::Success),
        }
    }

    /// Has the server publish the will all the same [MQTT-3.1.2-10].
    ///
    /// Before MQTT 5 there is no DISCONNECT that says so, and the connection is closed without one.
    pub fn with_will(mut self) -> Self {
        self.disconnect.reason = ReasonCode::DisconnectWithWill;
        self
    }

    /// Changes how long the server keeps the session. MQTT 5 only; it can't be raised from 0 [U5-082].
    pub fn session_expiry_secs(mut self, seconds: u32) -> Self {
        self.disconnect.session_expiry_secs = Some(seconds);
        self
    }

    /// Tells the server why, in words. MQTT 5 only.
    pub fn reason_string(mut self, text: impl Into<ByteStr>) -> Self {
        self.disconnect.reason_string = Some(text.into());
        self
    }
}

impl IntoFuture for Disconnecting {
    type Output = Result<(), DisconnectError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Self { shared, disconnect } = self;
            if let Some(closed) = shared.core().closed() {
                return Err(closed.clone().into());
            }
            let mut state = shared.state.subscribe();
            shared.core().close(shared.now(), disconnect);
            loop {
                if let ConnectionState::Closed(closed) = &*state.borrow_and_update() {
                    let ended = shared.core().disconnected().cloned();
                    return ended.unwrap_or_else(|| Err(closed.clone().into()));
                }
                if state.changed().await.is_err() {
                    return Err(Closed::DriverDropped.into());
                }
            }
        })
    }
}

impl fmt::Debug for Disconnecting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disconnecting")
            .field("disconnect", &self.disconnect)
            .finish_non_exhaustive()
    }
}
