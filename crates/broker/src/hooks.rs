//! What an embedder can plug in: small traits, called on the thread of the connection they are
//! about, before the shard sees a packet and never under a lock.
//!
//! A hook that is not set costs a test of a `None`. A hook that panics is logged and taken as a
//! refusal; the broker goes on.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::ops::BitOr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use whimbrel_broker_core::Event;
use whimbrel_broker_core::session::codec::topic::{
    ByteStr, SubscriptionFilter, TopicName, TopicNameBuf,
};
use whimbrel_broker_core::session::codec::{
    ProtocolVersion, Publish, PublishProperties, PublishRef, QoS, ReasonCode,
};

use crate::admission::{Admission, Refusal};
use crate::exchange::AuthenticationExchange;

/// Decides who may connect.
///
/// ```
/// use whimbrel_broker::{Admission, Authenticator, ConnectRequest, ReasonCode};
///
/// struct OnePassword;
///
/// impl Authenticator for OnePassword {
///     async fn authenticate(&self, request: &ConnectRequest) -> Admission {
///         match request.password.as_deref() {
///             Some(b"swordfish") => Admission::Accept,
///             _ => Admission::Refuse(ReasonCode::BadUserNameOrPassword),
///         }
///     }
/// }
/// ```
pub trait Authenticator: Send + Sync + 'static {
    /// Asked once for each CONNECT, before its session is touched.
    ///
    /// The future is dropped when the client goes, or takes longer than the CONNECT timeout. It
    /// runs on a thread that serves connections: what blocks or computes for long, such as a
    /// password hash, belongs on a thread pool.
    fn authenticate(&self, request: &ConnectRequest) -> impl Future<Output = Admission>;

    /// Begins an enhanced authentication; asked instead of [`authenticate`](Self::authenticate) where CONNECT
    /// names an authentication method, and again whenever such a client authenticates itself anew.
    ///
    /// `None`, the default, says that there is no such method: CONNACK 0x8C [MQTT-4.12.0-1].
    fn begin_exchange(
        &self,
        _method: &str,
        _client: &ClientInfo,
    ) -> Option<Box<dyn AuthenticationExchange>> {
        None
    }
}

/// What an [`Authenticator`] decides on.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectRequest {
    /// Client id; never empty, because the broker has assigned one by then.
    pub client_id: ByteStr,
    /// User name, if there is one.
    pub user_name: Option<ByteStr>,
    /// Password, if there is one.
    pub password: Option<Bytes>,
    /// The other end of the connection, where it has an address.
    pub peer: Option<SocketAddr>,
    /// The protocol version the client speaks.
    pub version: ProtocolVersion,
    /// The topic of the will, if there is one.
    pub will_topic: Option<TopicNameBuf>,
}

impl fmt::Debug for ConnectRequest {
    /// Leaves the password out, so that it does not end in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectRequest")
            .field("client_id", &self.client_id)
            .field("user_name", &self.user_name)
            .field("peer", &self.peer)
            .field("version", &self.version)
            .field("will_topic", &self.will_topic)
            .finish_non_exhaustive()
    }
}

/// A client, as hooks see it after it has connected.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientInfo {
    /// Client id.
    pub client_id: ByteStr,
    /// User name of its CONNECT.
    pub user_name: Option<ByteStr>,
    /// The other end of the connection, where it has an address.
    pub peer: Option<SocketAddr>,
    /// The protocol version it speaks.
    pub version: ProtocolVersion,
}

/// Decides what a client may publish and subscribe to.
///
/// Asked on the thread that serves the connection: decide from memory, and do not block.
pub trait Authorizer: Send + Sync + 'static {
    /// Whether `client` may publish to `topic`; asked for the topic of its will too, which is
    /// dropped when denied (ambiguity C7).
    ///
    /// Decisions are remembered for the last few topics of each connection.
    fn may_publish(&self, client: &ClientInfo, topic: &TopicName) -> Access;

    /// Whether `client` may subscribe to `filter`.
    fn may_subscribe(&self, client: &ClientInfo, filter: SubscriptionFilter<'_>) -> Access;

    /// Change it when rules change, and remembered decisions are forgotten.
    fn generation(&self) -> u64 {
        0
    }
}

/// What an [`Authorizer`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Go on.
    Allow,
    /// MQTT 5 clients are told 0x87, and so are subscribers of MQTT 3.1.1 in their way; a publish
    /// of MQTT 3.x is acknowledged and dropped (ambiguity D1).
    Deny,
    /// The same with another code, or 0x80 where the acknowledgement has no such code.
    DenyWith(ReasonCode),
}

impl Access {
    /// The code to refuse with, if it is to be refused.
    pub(crate) fn refusal(self) -> Option<ReasonCode> {
        match self {
            Self::Allow => None,
            Self::Deny => Some(ReasonCode::NotAuthorized),
            Self::DenyWith(reason) => Some(reason),
        }
    }
}

/// Sees, changes or refuses each message that clients publish.
///
/// Called on the thread that serves the connection: do not block. It is trusted: a topic that it
/// puts in is not authorized again.
pub trait Interceptor: Send + Sync + 'static {
    /// A PUBLISH that was authorized and is about to be routed.
    fn on_publish(&self, client: &ClientInfo, publish: &IncomingPublish<'_>) -> Interception;
}

/// What an [`Interceptor`] sees.
#[derive(Clone, Copy, Debug)]
pub struct IncomingPublish<'a> {
    topic: &'a TopicName,
    publish: &'a PublishRef<'a>,
}

impl<'a> IncomingPublish<'a> {
    pub(crate) fn new(topic: &'a TopicName, publish: &'a PublishRef<'a>) -> Self {
        Self { topic, publish }
    }

    /// The topic, a topic alias resolved.
    #[must_use]
    pub fn topic(&self) -> &'a TopicName {
        self.topic
    }

    /// The `QoS` it is published with.
    #[must_use]
    pub fn qos(&self) -> QoS {
        self.publish.qos()
    }

    /// Whether it is to be retained.
    #[must_use]
    pub fn retain(&self) -> bool {
        self.publish.retain()
    }

    /// The properties; empty for MQTT 3.x.
    #[must_use]
    pub fn properties(&self) -> PublishProperties<'a> {
        self.publish.properties()
    }

    /// The payload.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.publish.payload()
    }
}

/// What an [`Interceptor`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Interception {
    /// Go on.
    Pass,
    /// Route this instead. Its topic, RETAIN, properties and payload count; `QoS` and
    /// acknowledgement stay those of the original.
    Replace(Box<Publish>),
    /// Acknowledge as if it were routed, and drop it.
    Discard,
    /// Acknowledge with this error and drop it; MQTT 3.x knows no errors and gets a plain
    /// acknowledgement.
    Refuse(ReasonCode),
    /// Close the connection; MQTT 5 clients are told why, by 0x80 where DISCONNECT has no such code.
    Disconnect(ReasonCode),
    /// The same, with another server to use, words or user properties.
    DisconnectWith(Box<Refusal>),
}

/// Learns what happens to clients and sessions.
pub trait Observer: Send + Sync + 'static {
    /// Which events are wanted. Asked once, at the start.
    fn interest(&self) -> EventMask {
        EventMask::ALL
    }

    /// Events of one shard, in order, a turn's worth at a time. Called on the shard's thread: hand
    /// on what takes time.
    fn on_events(&self, events: &[Event]);
}

/// A set of kinds of [`Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventMask(u8);

impl EventMask {
    /// No event.
    pub const NONE: Self = Self(0);
    /// [`Event::Connected`].
    pub const CONNECTED: Self = Self(1);
    /// [`Event::Disconnected`].
    pub const DISCONNECTED: Self = Self(1 << 1);
    /// [`Event::SessionEnded`].
    pub const SESSION_ENDED: Self = Self(1 << 2);
    /// [`Event::Subscribed`].
    pub const SUBSCRIBED: Self = Self(1 << 3);
    /// [`Event::Unsubscribed`].
    pub const UNSUBSCRIBED: Self = Self(1 << 4);
    /// [`Event::Dropping`].
    pub const DROPPING: Self = Self(1 << 5);
    /// [`Event::WillPublished`].
    pub const WILL_PUBLISHED: Self = Self(1 << 6);
    /// Every event, those of later versions included.
    pub const ALL: Self = Self(u8::MAX);

    /// Whether events of the kind of `event` are in the set.
    #[must_use]
    pub fn contains(self, event: &Event) -> bool {
        let kind = match event {
            Event::Connected { .. } => Self::CONNECTED,
            Event::Disconnected { .. } => Self::DISCONNECTED,
            Event::SessionEnded { .. } => Self::SESSION_ENDED,
            Event::Subscribed { .. } => Self::SUBSCRIBED,
            Event::Unsubscribed { .. } => Self::UNSUBSCRIBED,
            Event::Dropping { .. } => Self::DROPPING,
            Event::WillPublished { .. } => Self::WILL_PUBLISHED,
            _ => Self::ALL,
        };
        self.0 & kind.0 == kind.0
    }
}

impl BitOr for EventMask {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The hooks of one broker.
#[derive(Clone, Default)]
pub(crate) struct Hooks {
    pub(crate) authenticator: Option<Arc<dyn AnyAuthenticator>>,
    pub(crate) authorizer: Option<Arc<dyn Authorizer>>,
    pub(crate) interceptor: Option<Arc<dyn Interceptor>>,
    pub(crate) observer: Option<Arc<dyn Observer>>,
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("authenticator", &self.authenticator.is_some())
            .field("authorizer", &self.authorizer.is_some())
            .field("interceptor", &self.interceptor.is_some())
            .field("observer", &self.observer.is_some())
            .finish()
    }
}

/// [`Authenticator`] in a form that can stand behind a pointer.
pub(crate) trait AnyAuthenticator: Send + Sync {
    fn authenticate<'a>(
        &'a self,
        request: &'a ConnectRequest,
    ) -> Pin<Box<dyn Future<Output = Admission> + 'a>>;

    fn begin_exchange(
        &self,
        method: &str,
        client: &ClientInfo,
    ) -> Option<Box<dyn AuthenticationExchange>>;
}

impl<T: Authenticator> AnyAuthenticator for T {
    fn authenticate<'a>(
        &'a self,
        request: &'a ConnectRequest,
    ) -> Pin<Box<dyn Future<Output = Admission> + 'a>> {
        Box::pin(Authenticator::authenticate(self, request))
    }

    fn begin_exchange(
        &self,
        method: &str,
        client: &ClientInfo,
    ) -> Option<Box<dyn AuthenticationExchange>> {
        Authenticator::begin_exchange(self, method, client)
    }
}

#[cfg(test)]
mod tests {
    use whimbrel_broker_core::CloseReason;

    use super::*;

    #[test]
    fn a_mask_holds_the_kinds_it_is_made_of() {
        let client_id = ByteStr::from("client");
        let disconnected = Event::Disconnected {
            client_id: client_id.clone(),
            reason: CloseReason::Disconnect,
        };
        let ended = Event::SessionEnded { client_id };
        let mask = EventMask::CONNECTED | EventMask::DISCONNECTED;
        assert!(mask.contains(&disconnected) && !mask.contains(&ended));
        assert!(EventMask::ALL.contains(&ended) && !EventMask::NONE.contains(&ended));
    }
}
