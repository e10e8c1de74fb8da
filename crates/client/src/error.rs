//! What can go wrong, by who refused what and why.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use whimbrel_session::codec::topic::{ByteStr, TopicFilterError, TopicNameError};
use whimbrel_session::codec::{EncodeError, ReasonCode};
use whimbrel_session::{ProtocolError, TimeoutKind};

/// Options that no connection can be made with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// The host is neither a name nor an IP address.
    #[error(transparent)]
    Address(#[from] whimbrel_net::AddressError),
    /// TLS can't be set up: for instance no authority is to be found.
    #[cfg(feature = "tls")]
    #[error(transparent)]
    Tls(#[from] whimbrel_net::TlsOptionsError),
    /// The outbox can't be opened.
    #[cfg(feature = "outbox")]
    #[error("cannot open the outbox")]
    Outbox(#[from] crate::outbox::OutboxError),
    /// What the outbox holds is no session: it was made by something else than this client.
    #[cfg(feature = "outbox")]
    #[error("the outbox holds no session, remove or salvage it")]
    OutboxContent(#[from] whimbrel_session::RestoreError),
    /// Without a client id the server can't find a session again [3:MQTT-3.1.3-7].
    #[error(
        "a session that is to be kept needs a client id in MQTT 3.1.1, set one or ask for a clean start"
    )]
    ClientIdMissing,
    /// What only MQTT 5 can carry was set for an earlier version.
    #[error("{option} does not exist before MQTT 5, leave it out or use version 5")]
    NotInThisVersion {
        /// The option's name.
        option: &'static str,
    },
    /// MQTT 3.1.1 has no password without a user name [3:MQTT-3.1.2-22].
    #[error("a password without a user name does not exist before MQTT 5, set a user name too")]
    PasswordAlone,
    /// A limit of 0 would let nothing through.
    #[error("{option} is 0, which lets nothing through")]
    Zero {
        /// The option's name.
        option: &'static str,
    },
    /// A text is longer than the protocol can say, or has a NUL.
    #[error("{option} can't be encoded")]
    Encode {
        /// The option's name.
        option: &'static str,
        /// What is wrong with it.
        source: EncodeError,
    },
}

/// Why there is no connection, or none any more.
///
/// Cheap to clone: everybody who waited is told the same.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// No byte stream to the server could be opened.
    #[error("cannot reach the server")]
    Unreachable(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// The server answered CONNECT with an error.
    #[error("server refused the connection: {0}")]
    Refused(Refusal),
    /// The server sent DISCONNECT.
    #[error("server ended the connection: {0}")]
    Disconnected(Refusal),
    /// The byte stream ended without a word: what servers before MQTT 5 do, and broken links.
    #[error("server closed the connection")]
    Closed,
    /// Reading or writing failed.
    #[error("connection was lost")]
    Io(#[source] Arc<io::Error>),
    /// The server did not answer in time.
    #[error("{}", describe_timeout(*.0))]
    TimedOut(TimeoutKind),
    /// The server broke the protocol; it was told so where the version allows.
    #[error("server broke the protocol")]
    Protocol(#[from] ProtocolError),
    /// The own [`Authenticator`](crate::Authenticator) gave up.
    #[error("authentication failed: {0}")]
    Authentication(Arc<str>),
    /// The outbox can't be written, so that nothing may be sent.
    #[error("outbox can't be written")]
    Outbox(#[source] OutboxFailure),
    /// CONNECT has no form on the wire.
    #[error("CONNECT can't be sent")]
    Connect(#[source] Arc<whimbrel_session::UsageError>),
}

/// Why the outbox can't be written. What the feature `outbox` has of it, behind a type that is there without it too.
pub type OutboxFailure = Arc<dyn std::error::Error + Send + Sync>;

/// A server's no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The code. A return code of MQTT 3.1.1 is given as the reason code that says the same.
    pub reason: ReasonCode,
    /// The server's own words, if it gave any [MQTT-3.2.2-19].
    pub reason_string: Option<ByteStr>,
    /// Where to go instead, with 0x9C and 0x9D.
    pub server_reference: Option<ByteStr>,
}

/// The client is closed: nothing more will happen.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Closed {
    /// [`Client::disconnect`](crate::Client::disconnect) was called, or the last handle was dropped.
    #[error("client was disconnected")]
    Disconnected,
    /// The connection failed in a way that another attempt would not mend, or no other was allowed.
    #[error(transparent)]
    Failed(#[from] ConnectionError),
    /// The [`Driver`](crate::Driver) was dropped, and the connection with it.
    #[error("driver was dropped, keep its task running as long as the client")]
    DriverDropped,
}

/// Why a message was not published, or is not known to be.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The topic is no topic name.
    #[error("invalid topic")]
    InvalidTopic(#[from] TopicNameError),
    /// Properties do not exist before MQTT 5; leaving them out would change the message.
    #[error("properties do not exist before MQTT 5")]
    PropertiesNotSupported,
    /// The server said no, with PUBACK, PUBREC or PUBCOMP.
    #[error("server refused the message: {0}")]
    Refused(Refusal),
    /// The server accepts no packet of that size [MQTT-3.2.2-15].
    #[error("message is larger than the server accepts")]
    TooLarge,
    /// The server takes no such QoS [MQTT-3.2.2-11].
    #[error("server does not support this QoS")]
    QosNotSupported,
    /// The server takes no retained messages [MQTT-3.2.2-14].
    #[error("server does not support retained messages")]
    RetainNotSupported,
    /// The message's expiry interval was over before it could be sent.
    #[error("message expired before it could be sent")]
    Expired,
    /// There is no room: only [`try_enqueue`](crate::Publish::try_enqueue) does not wait for it.
    #[error("queue of messages to send is full")]
    QueueFull,
    /// The client was closed. If the message had been sent, the server may have it.
    #[error("client is closed")]
    Closed(#[from] Closed),
    /// The message can't be kept in the outbox.
    #[error("message can't be kept in the outbox")]
    Outbox(#[source] OutboxFailure),
}

/// Why there is no subscription, or none any more.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// A filter is no topic filter.
    #[error("invalid topic filter")]
    InvalidFilter(#[from] TopicFilterError),
    /// This client is subscribed to the filter already: a second SUBSCRIBE would replace the first.
    #[error("this client is subscribed to {filter} already, use or drop that subscription first")]
    AlreadySubscribed {
        /// The filter.
        filter: ByteStr,
    },
    /// An option does not exist before MQTT 5.
    #[error("{option} does not exist before MQTT 5")]
    NotInThisVersion {
        /// The option's name.
        option: &'static str,
    },
    /// The server refused every filter.
    #[error("server refused the subscription: {}", list(.codes))]
    Refused {
        /// Its codes, one for each filter.
        codes: Vec<ReasonCode>,
    },
    /// The request is larger than the server accepts, or has no form on the wire.
    #[error("request can't be sent")]
    Request(#[from] whimbrel_session::RequestRefused),
    /// The client was closed.
    #[error("client is closed")]
    Closed(#[from] Closed),
}

/// Why a request got no response.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Response topic and correlation data do not exist before MQTT 5.
    #[error("requests need MQTT 5")]
    NotInThisVersion,
    /// The topic for the responses could not be subscribed to.
    #[error("cannot subscribe to the response topic")]
    Subscribe(#[from] SubscribeError),
    /// The request could not be published.
    #[error("cannot publish the request")]
    Publish(#[from] PublishError),
    /// Nobody is subscribed to the request's topic, as far as the server says (0x10).
    #[error("nobody is subscribed to the topic of the request")]
    NoResponder,
    /// Nobody answered in time.
    #[error("no response within {limit:?}")]
    TimedOut {
        /// The time that was given.
        limit: Duration,
    },
    /// The properties of the request can't be encoded.
    #[error("invalid properties")]
    Properties(#[from] whimbrel_session::codec::PropertyError),
}

/// Why there was no new authentication.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReauthenticateError {
    /// The options name no [`Authenticator`](crate::Authenticator).
    #[error("client has no authenticator, set one in its options")]
    NoAuthenticator,
    /// One is under way.
    #[error("a new authentication is under way")]
    UnderWay,
    /// There is no connection: the next one authenticates by itself.
    #[error("not connected")]
    NotConnected,
    /// It failed, and with it the connection.
    #[error("new authentication failed")]
    Failed(#[source] ConnectionError),
}

/// Why a client was not ended in order.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DisconnectError {
    /// The time was over before everything was sent and acknowledged.
    #[error("{left} accepted messages were not acknowledged in time")]
    Unacknowledged {
        /// How many.
        left: usize,
    },
    /// The client had ended before.
    #[error(transparent)]
    Closed(#[from] Closed),
}

impl ConnectionError {
    /// Whether another attempt can't be expected to end otherwise, so that a person has to look at it.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Refused(refusal) => !matches!(
                refusal.reason,
                ReasonCode::ServerUnavailable
                    | ReasonCode::ServerBusy
                    | ReasonCode::ConnectionRateExceeded
                    | ReasonCode::QuotaExceeded
                    | ReasonCode::UnspecifiedError
                    | ReasonCode::ImplementationSpecificError
            ),
            // Two clients with one id would throw each other out for ever.
            Self::Disconnected(refusal) => matches!(
                refusal.reason,
                ReasonCode::SessionTakenOver
                    | ReasonCode::NotAuthorized
                    | ReasonCode::UseAnotherServer
                    | ReasonCode::ServerMoved
            ),
            Self::Authentication(_) | Self::Connect(_) | Self::Outbox(_) => true,
            Self::Unreachable(_)
            | Self::Closed
            | Self::Io(_)
            | Self::TimedOut(_)
            | Self::Protocol(_) => false,
        }
    }
}

impl From<io::Error> for ConnectionError {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)?;
        if let Some(text) = &self.reason_string {
            write!(f, " ({text})")?;
        }
        if let Some(server) = &self.server_reference {
            write!(f, ", use {server}")?;
        }
        Ok(())
    }
}

fn describe_timeout(kind: TimeoutKind) -> &'static str {
    match kind {
        TimeoutKind::Connect => "server did not answer CONNECT in time",
        TimeoutKind::Authentication => "server did not finish the authentication in time",
        TimeoutKind::KeepAlive | TimeoutKind::Ping => {
            "server did not answer PINGREQ in time, the link is taken for dead"
        }
    }
}

fn list(codes: &[ReasonCode]) -> String {
    let words: Vec<_> = codes.iter().map(ToString::to_string).collect();
    words.join(", ")
}
