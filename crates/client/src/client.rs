//! [`Client`]: the handle that applications hold.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;

use tokio::sync::watch;
use whimbrel_session::codec::bytes::Bytes;
use whimbrel_session::codec::topic::{ByteStr, SubscriptionFilter};

use crate::driver::Driver;
use crate::publish::{Publish, Topic};
use crate::request::{Request, Responses};
use crate::shared::Shared;
use crate::subscribe::Subscribe;
use crate::{
    Closed, ConnectionState, Disconnecting, Established, Options, OptionsError,
    ReauthenticateError, SubscribeError, Subscription, Unsubscribing,
};

/// A handle on one connection to a server, which comes back when it is lost.
///
/// Cloning is cheap; all clones and all subscriptions are the same client. When the last of them is dropped, the client
/// sends what it has accepted and disconnects, as [`disconnect`](Self::disconnect) does.
pub struct Client {
    shared: Arc<Shared>,
    responses: Arc<Responses>,
}

impl Client {
    /// A client, and the future that does its work: to be spawned as a task of its own, or polled beside other things.
    /// Nothing happens before that.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use whimbrel_client::{Client, Options};
    ///
    /// let (client, driver) = Client::new(Options::new("localhost", 1883))?;
    /// tokio::spawn(driver.run());
    /// client.publish("greeting", "hello").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`OptionsError`] for options that no connection can be made with.
    pub fn new(options: Options) -> Result<(Self, Driver), OptionsError> {
        options.check()?;
        let opener = options.target.opener()?;
        #[cfg(feature = "outbox")]
        let outbox = options.outbox.clone().map(|(path, kept)| {
            crate::outbox::Outbox::open(path, &options.connect.client_id, kept)
        });
        let shared = Arc::new(Shared::new(options));
        #[cfg(feature = "outbox")]
        if let Some(opened) = outbox {
            let (outbox, restored) = opened?;
            shared.core().restore(shared.now(), outbox, restored)?;
        }
        let client = Self::of(&shared, Arc::default());
        Ok((client, Driver::new(shared, opener)))
    }

    /// A client whose driver is a task of the current tokio runtime.
    ///
    /// # Errors
    ///
    /// [`OptionsError`] for options that no connection can be made with.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn spawn(options: Options) -> Result<Self, OptionsError> {
        let (client, driver) = Self::new(options)?;
        tokio::spawn(driver.run());
        Ok(client)
    }

    /// A message to be published: await it for the last acknowledgement, or see [`Publish`] for more.
    pub fn publish(&self, topic: impl Into<Topic>, payload: impl Into<Bytes>) -> Publish {
        Publish::new(self.shared.clone(), topic.into(), payload.into())
    }

    /// A subscription to be made: await it for the stream of its messages, or see [`Subscribe`] for more.
    pub fn subscribe(&self, filter: impl Into<ByteStr>) -> Subscribe {
        Subscribe::new(self.shared.clone(), filter.into())
    }

    /// A request, which is answered by whoever is subscribed to the topic: await it for the response, or see
    /// [`Request`] for more. MQTT 5 only.
    pub fn request(&self, topic: impl Into<Topic>, payload: impl Into<Bytes>) -> Request {
        let responses = self.responses.clone();
        Request::new(self.shared.clone(), responses, topic.into(), payload.into())
    }

    /// Messages that match no subscription of this process: those that a session from before has subscribed to.
    ///
    /// `None` while another such stream is held. Without one they wait ten seconds from the first connection for a
    /// subscription that they match, and are acknowledged and counted then.
    pub fn unclaimed(&self) -> Option<Subscription> {
        let key = self.shared.core().hold_unclaimed()?;
        Some(Subscription::new(self.shared.clone(), key))
    }

    /// Ends a subscription that the session has and no [`Subscription`] of this client stands for: one from an earlier
    /// process. Waits for UNSUBACK.
    ///
    /// Cancel-safe: dropped before it was sent, nothing is asked; dropped later, the subscription ends all the same.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`], also for a filter that this client is subscribed to: drop that subscription instead.
    pub async fn unsubscribe(&self, filter: impl Into<ByteStr>) -> Result<(), SubscribeError> {
        let filter = filter.into();
        SubscriptionFilter::parse(&filter)?;
        let answer = self.shared.core().unsubscribe_unheld(filter)?;
        Unsubscribing::new(self.shared.clone(), Some(answer)).await
    }

    /// Messages that nobody had subscribed to and that were acknowledged all the same.
    pub fn unclaimed_dropped(&self) -> u64 {
        self.shared.core().unclaimed_dropped()
    }

    /// Messages that were accepted and are not acknowledged yet.
    pub fn unacknowledged(&self) -> usize {
        self.shared.core().unacknowledged()
    }

    /// How the connection stands, now and from now on.
    pub fn state(&self) -> watch::Receiver<ConnectionState> {
        self.shared.state.subscribe()
    }

    /// Waits until the server has accepted a connection.
    ///
    /// Cancel-safe: it only looks.
    ///
    /// # Errors
    ///
    /// [`Closed`] when there will be no connection: the server has refused for good, or
    /// [`Reconnect`](crate::Reconnect) allows no other attempt.
    pub async fn connected(&self) -> Result<Arc<Established>, Closed> {
        let mut state = self.state();
        loop {
            match &*state.borrow_and_update() {
                ConnectionState::Connected(established) => return Ok(established.clone()),
                ConnectionState::Closed(closed) => return Err(closed.clone()),
                ConnectionState::Connecting { .. } | ConnectionState::Waiting { .. } => {}
            }
            if state.changed().await.is_err() {
                return Err(Closed::DriverDropped);
            }
        }
    }

    /// Ends the client: takes nothing new, waits until all that was accepted is acknowledged, and disconnects.
    pub fn disconnect(&self) -> Disconnecting {
        Disconnecting::new(self.shared.clone())
    }

    /// Authenticates anew on the live connection, with the [`Authenticator`](crate::Authenticator) of the options
    /// [MQTT-4.12.1-1].
    ///
    /// Cancel-safe: once begun it goes on, and only its end is not told.
    ///
    /// # Errors
    ///
    /// [`ReauthenticateError`].
    pub async fn reauthenticate(&self) -> Result<(), ReauthenticateError> {
        self.shared.core().reauthenticate(self.shared.now())?;
        let waiting = Reauthenticating(&self.shared);
        let result = poll_fn(|cx| waiting.0.core().poll_reauthenticated(cx.waker())).await;
        result.map_err(ReauthenticateError::Failed)
    }

    fn of(shared: &Arc<Shared>, responses: Arc<Responses>) -> Self {
        shared.core().add_handle();
        Self {
            shared: shared.clone(),
            responses,
        }
    }
}

impl Clone for Client {
    fn clone(&self) -> Self {
        Self::of(&self.shared, self.responses.clone())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let now = self.shared.now();
        self.shared.core().remove_handle(now);
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("state", &*self.shared.state.borrow())
            .finish_non_exhaustive()
    }
}

/// Says that nobody waits any more.
struct Reauthenticating<'a>(&'a Shared);

impl Drop for Reauthenticating<'_> {
    fn drop(&mut self) {
        self.0.core().abandon_reauthentication();
    }
}
