//! [`Options`]: whom to connect to, and as whom.

use std::fmt;
use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "tls")]
use whimbrel_net::TlsConfig;
use whimbrel_net::{Address, Connect as NetConnect, StreamOptions, Transport};
use whimbrel_session::codec::bytes::Bytes;
use whimbrel_session::codec::topic::ByteStr;
use whimbrel_session::codec::{
    Authentication, Connect, EncodeError, ProtocolVersion, UserProperties, Will,
};
use whimbrel_session::{ClientConfig, codec};

use crate::authenticator::Authenticator;
use crate::connector::Connector;
#[cfg(feature = "outbox")]
use crate::outbox::OutboxOptions;
use crate::reconnect::Reconnect;
#[cfg(feature = "tls")]
use crate::target::Tls;
use crate::target::{Layers, Target};
use crate::{OptionsError, UrlError};

/// Whom a [`Client`](crate::Client) connects to, as whom, and within which bounds.
///
/// ```
/// use whimbrel_client::Options;
///
/// let options = Options::new("broker.example", 1883)
///     .client_id("sensor-7")
///     .keep_alive_secs(30)
///     .username("sensor");
/// ```
#[derive(Clone)]
pub struct Options {
    pub(crate) target: Target,
    pub(crate) connect: Connect,
    /// `None` for the default that fits `clean_start`.
    pub(crate) session_expiry_secs: Option<u32>,
    pub(crate) config: ClientConfig,
    pub(crate) reconnect: Reconnect,
    pub(crate) net: NetConnect,
    pub(crate) queue_bytes_max: usize,
    pub(crate) receive_bytes_max: usize,
    pub(crate) disconnect_timeout: Duration,
    pub(crate) authenticator: Option<Arc<dyn Authenticator>>,
    pub(crate) password_from: Option<PasswordSource>,
    pub(crate) response_topic_prefix: String,
    #[cfg(feature = "outbox")]
    pub(crate) outbox: Option<(std::path::PathBuf, OutboxOptions)>,
}

/// Where the password of each attempt comes from.
pub(crate) type PasswordSource = Arc<dyn Fn() -> Bytes + Send + Sync>;

impl Options {
    /// A client of the server at this host name or IP address, over plain TCP, with MQTT 5.
    ///
    /// The name is looked up at each attempt.
    pub fn new(host: &str, port: u16) -> Self {
        Self::with_target(Target::host(host, port))
    }

    /// A client over this transport: TCP, a Unix socket, TLS, WebSocket, or both.
    pub fn with_transport(transport: Transport) -> Self {
        Self::with_target(Target::Transport(transport))
    }

    /// A client of the server that a URL names; see [`UrlError`] for what can be wrong with it.
    ///
    /// | URL | over | default port |
    /// |---|---|---|
    /// | `mqtt://` or `tcp://` | TCP | 1883 |
    /// | `mqtts://`, `tls://` or `ssl://` | TLS | 8883 |
    /// | `ws://` | WebSocket, by default on `/mqtt` | 80 |
    /// | `wss://` | WebSocket over TLS | 443 |
    /// | `unix:///path` | a Unix socket | – |
    ///
    /// `user:password@` goes before the host, percent-encoded. Further options follow a `?` and are joined by `&`:
    /// `client_id`, `version` (`3.1`, `3.1.1`, `5`), `keep_alive`, `session_expiry` (both in seconds) and `clean_start` (`true`,
    /// `false`). An unknown one is an error.
    ///
    /// ```
    /// # use whimbrel_client::Options;
    /// let options = Options::from_url("mqtt://user:p%40ss@host:1884?client_id=sensor&keep_alive=30")?;
    /// # Ok::<(), whimbrel_client::UrlError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`UrlError`].
    pub fn from_url(url: &str) -> Result<Self, UrlError> {
        crate::url::options(url)
    }

    /// A client over byte streams that `connector` opens: through a proxy, a tunnel, or in memory.
    pub fn with_connector(connector: impl Connector) -> Self {
        Self::with_target(Target::Custom(Arc::new(connector)))
    }

    pub(crate) fn with_target(target: Target) -> Self {
        let mut connect = Connect::new(ProtocolVersion::V5, "");
        connect.clean_start = true;
        connect.keep_alive_secs = 60;
        connect.properties.receive_maximum = RECEIVE_MAXIMUM;
        connect.properties.topic_alias_max = TOPIC_ALIAS_MAX;
        let mut config = ClientConfig::default();
        config.sent_topic_alias_max = TOPIC_ALIAS_MAX;
        config.in_flight_max = RECEIVE_MAXIMUM;
        // Before MQTT 5 the server does not know it; what is too much is left unacknowledged instead of unread.
        config.receive_maximum = NonZeroU16::MAX;
        Self {
            target,
            connect,
            session_expiry_secs: None,
            config,
            reconnect: Reconnect::default(),
            net: NetConnect::default(),
            queue_bytes_max: 16 * 1024 * 1024,
            receive_bytes_max: 64 * 1024 * 1024,
            disconnect_timeout: Duration::from_secs(10),
            authenticator: None,
            password_from: None,
            response_topic_prefix: "response".to_owned(),
            #[cfg(feature = "outbox")]
            outbox: None,
        }
    }

    /// The protocol version; MQTT 5 by default. What an earlier one can't carry is refused, not left out.
    #[must_use]
    pub fn version(mut self, version: ProtocolVersion) -> Self {
        self.connect.version = version;
        self
    }

    /// The client id; without one the server assigns it, and the client keeps it for its reconnects
    /// [MQTT-3.1.3-6].
    #[must_use]
    pub fn client_id(mut self, client_id: impl Into<ByteStr>) -> Self {
        self.connect.client_id = client_id.into();
        self
    }

    /// Whether the first connection discards a session that the server has of this client id; default yes.
    ///
    /// Later connections go on with the session in MQTT 5. In MQTT 3.1.1 a clean session ends with its connection:
    /// what was published and not acknowledged is published again, and subscriptions are made again.
    #[must_use]
    pub fn clean_start(mut self, clean_start: bool) -> Self {
        self.connect.clean_start = clean_start;
        self
    }

    /// Seconds that the server keeps the session after the connection; `u32::MAX` for ever. MQTT 5 only.
    ///
    /// By default for ever without a clean start, as MQTT 3.1.1 has it; with one, five minutes after a lost connection
    /// and not at all after [`Client::disconnect`](crate::Client::disconnect).
    #[must_use]
    pub fn session_expiry_secs(mut self, seconds: u32) -> Self {
        self.session_expiry_secs = Some(seconds);
        self
    }

    /// Seconds without a packet after which the client sends PINGREQ; default 60, 0 for never. The server may
    /// override it [MQTT-3.2.2-21].
    ///
    /// A server that does not answer within [`ping_timeout`](Self::ping_timeout) is taken for gone.
    #[must_use]
    pub fn keep_alive_secs(mut self, seconds: u16) -> Self {
        self.connect.keep_alive_secs = seconds;
        self
    }

    /// How long PINGRESP may take; default 10 s [U5-017].
    #[must_use]
    pub fn ping_timeout(mut self, timeout: Duration) -> Self {
        self.config.ping_timeout_ms = milliseconds(timeout);
        self
    }

    /// How long an attempt may take: to open the byte stream, and again to get CONNACK; default 10 s each [U5-035].
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.config.connack_timeout_ms = milliseconds(timeout);
        self.net.timeout = timeout;
        self
    }

    /// The user name.
    #[must_use]
    pub fn username(mut self, username: impl Into<ByteStr>) -> Self {
        self.connect.user_name = Some(username.into());
        self
    }

    /// The password, which may be any bytes.
    #[must_use]
    pub fn password(mut self, password: impl Into<Bytes>) -> Self {
        self.connect.password = Some(password.into());
        self
    }

    /// Asks for the password before each attempt: for tokens that expire. Must not block.
    #[must_use]
    pub fn password_from(mut self, source: impl Fn() -> Bytes + Send + Sync + 'static) -> Self {
        self.password_from = Some(Arc::new(source));
        self
    }

    /// What the server publishes when the connection is lost.
    #[must_use]
    pub fn will(mut self, will: Will) -> Self {
        self.connect.will = Some(will);
        self
    }

    /// User properties of CONNECT. MQTT 5 only.
    #[must_use]
    pub fn user_properties(mut self, properties: UserProperties) -> Self {
        self.connect.properties.user_properties = properties;
        self
    }

    /// QoS 1 and 2 messages that the server may have open towards this client; default 1,024.
    ///
    /// MQTT 5 servers are told; of others, more than this are left to be delivered again after a reconnect.
    #[must_use]
    pub fn receive_maximum(mut self, maximum: NonZeroU16) -> Self {
        self.connect.properties.receive_maximum = maximum;
        self
    }

    /// QoS 1 and 2 messages that this client has open towards the server, if that allows as many; default 1,024.
    #[must_use]
    pub fn in_flight_max(mut self, maximum: NonZeroU16) -> Self {
        self.config.in_flight_max = maximum;
        self
    }

    /// Topic aliases in each direction, if the server wants any; default 16, 0 for none. MQTT 5 only.
    #[must_use]
    pub fn topic_alias_max(mut self, maximum: u16) -> Self {
        self.connect.properties.topic_alias_max = maximum;
        self.config.sent_topic_alias_max = maximum;
        self
    }

    /// The largest packet that is accepted, in bytes. MQTT 5 servers are told.
    #[must_use]
    pub fn packet_size_max(mut self, bytes: NonZeroU32) -> Self {
        self.config.limits.packet_size_max = bytes.get();
        self
    }

    /// Bytes of messages that may be accepted and not yet acknowledged; default 16 MiB.
    ///
    /// Each counts 256 bytes and its own. Beyond it [`publish`](crate::Client::publish) waits. One message passes at any
    /// size when nothing else is there.
    #[must_use]
    pub fn queue_bytes_max(mut self, bytes: usize) -> Self {
        self.queue_bytes_max = bytes;
        self
    }

    /// Bytes of messages that may have come and wait for the application, of all subscriptions together; default
    /// 64 MiB.
    #[must_use]
    pub fn receive_bytes_max(mut self, bytes: usize) -> Self {
        self.receive_bytes_max = bytes;
        self
    }

    /// How the client comes back when the connection is lost.
    #[must_use]
    pub fn reconnect(mut self, reconnect: Reconnect) -> Self {
        self.reconnect = reconnect;
        self
    }

    /// How long [`Client::disconnect`](crate::Client::disconnect) waits for what was accepted to be acknowledged;
    /// default 10 s.
    #[must_use]
    pub fn disconnect_timeout(mut self, timeout: Duration) -> Self {
        self.disconnect_timeout = timeout;
        self
    }

    /// TCP keepalive, user timeout, no-delay: what finds a half-open link and keeps latency low. The defaults do both.
    #[must_use]
    pub fn socket_options(mut self, options: StreamOptions) -> Self {
        self.net.stream = options;
        self
    }

    /// The address of this machine to connect from; by default the system's routes decide. TCP only, with what goes on top
    /// of it.
    #[must_use]
    pub fn local_address(mut self, address: IpAddr) -> Self {
        self.net.local = Some(address);
        self
    }

    /// Puts TLS on top of TCP, and below WebSocket where there is one. The server may be given as `mqtts://` or `wss://` for
    /// the system's authorities, without this.
    ///
    /// # Panics
    ///
    /// For a Unix socket, a [`Transport`] or a [`Connector`], which say themselves what they are.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, config: TlsConfig) -> Self {
        match &mut self.target {
            Target::Layers(layers) => layers.tls = Tls::Given(config),
            Target::Invalid(_) => {}
            Target::Transport(_) | Target::Custom(_) => {
                panic!("TLS goes over TCP: give it with the transport or connector")
            }
        }
        self
    }

    /// Keeps what is accepted of QoS 1 and 2, and the session's packet ids, in a file at `path`: they survive the process, and go
    /// out in order when the next one opens the file. QoS 2 arrives exactly once as long as the server keeps the session
    /// too. Implies no clean start, and needs a client id.
    ///
    /// Each acceptance is a write into the file, in the call that accepts. With
    /// [`Durability::Sync`](crate::outbox::Durability::Sync) it waits for the disk there: give the driver a thread of its own
    /// then.
    #[cfg(feature = "outbox")]
    #[must_use]
    pub fn outbox(mut self, path: impl Into<std::path::PathBuf>, options: OutboxOptions) -> Self {
        self.connect.clean_start = false;
        self.outbox = Some((path.into(), options));
        self
    }

    /// The beginning of the topic that responses come to; default `response`. A random level is added to it.
    #[must_use]
    pub fn response_topic_prefix(mut self, prefix: &str) -> Self {
        self.response_topic_prefix = prefix.to_owned();
        self
    }

    /// Enhanced authentication [MQTT-4.12.0]. MQTT 5 only.
    #[must_use]
    pub fn authenticator(mut self, authenticator: impl Authenticator) -> Self {
        self.authenticator = Some(Arc::new(authenticator));
        self
    }

    /// What is wrong with the options, before anything is connected.
    ///
    /// # Errors
    ///
    /// [`OptionsError`], for the first thing that is wrong.
    pub fn check(&self) -> Result<(), OptionsError> {
        self.target.opener()?;
        let connect = &self.connect;
        if !connect.version.is_v5() {
            let options = [
                ("a session expiry", self.session_expiry_secs.is_some()),
                ("enhanced authentication", self.authenticator.is_some()),
                (
                    "a user property",
                    !connect.properties.user_properties.is_empty(),
                ),
                (
                    "a will delay",
                    connect
                        .will
                        .as_ref()
                        .is_some_and(|will| will.delay_secs > 0),
                ),
                (
                    "a property of a will",
                    connect
                        .will
                        .as_ref()
                        .is_some_and(|will| !will.properties.is_empty()),
                ),
            ];
            if let Some(&(option, _)) = options.iter().find(|(_, is_set)| *is_set) {
                return Err(OptionsError::NotInThisVersion { option });
            }
            if connect.client_id.is_empty() && !connect.clean_start {
                return Err(OptionsError::ClientIdMissing);
            }
            let has_password = connect.password.is_some() || self.password_from.is_some();
            if has_password && connect.user_name.is_none() {
                return Err(OptionsError::PasswordAlone);
            }
        }
        #[cfg(feature = "outbox")]
        if self.outbox.is_some() && (connect.client_id.is_empty() || connect.clean_start) {
            return Err(OptionsError::ClientIdMissing);
        }
        for (option, value) in [
            ("the queue's size", self.queue_bytes_max),
            ("the receive buffers' size", self.receive_bytes_max),
        ] {
            if value == 0 {
                return Err(OptionsError::Zero { option });
            }
        }
        let packet = codec::Packet::Connect(Box::new(connect.clone()));
        packet
            .encoded_len(connect.version)
            .map_err(|source: EncodeError| OptionsError::Encode {
                option: "CONNECT",
                source,
            })?;
        Ok(())
    }

    /// Whether the server is to forget the session at the end.
    pub(crate) fn ends_session(&self) -> bool {
        self.connect.clean_start && self.session_expiry_secs.is_none()
    }

    /// The CONNECT of one attempt.
    ///
    /// `client_id` is what the server has assigned, and `is_first` whether no connection was accepted before.
    pub(crate) fn connect_packet(&self, client_id: Option<&ByteStr>, is_first: bool) -> Connect {
        let mut connect = self.connect.clone();
        if let Some(client_id) = client_id.filter(|_| connect.client_id.is_empty()) {
            connect.client_id = client_id.clone();
        }
        if let Some(source) = &self.password_from {
            connect.password = Some(source());
        }
        if connect.version.is_v5() {
            connect.properties.session_expiry_secs =
                self.session_expiry_secs.unwrap_or(if connect.clean_start {
                    LOST_SESSION_SECS
                } else {
                    u32::MAX
                });
            connect.clean_start &= is_first;
            connect.properties.authentication =
                self.authenticator.as_ref().map(|by| Authentication {
                    method: ByteStr::from(by.method()),
                    data: None,
                });
        }
        connect
    }
}

impl fmt::Debug for Options {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("target", &self.target)
            .field("version", &self.connect.version)
            .field("client_id", &self.connect.client_id)
            .field("clean_start", &self.connect.clean_start)
            .field("session_expiry_secs", &self.session_expiry_secs)
            .field("keep_alive_secs", &self.connect.keep_alive_secs)
            .field("reconnect", &self.reconnect)
            .finish_non_exhaustive()
    }
}

impl From<Address> for Options {
    fn from(address: Address) -> Self {
        Self::with_target(Target::Layers(Layers::tcp(address)))
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

const RECEIVE_MAXIMUM: NonZeroU16 = NonZeroU16::new(1_024).expect("not 0");

/// Each keeps a topic in memory, on both sides.
const TOPIC_ALIAS_MAX: u16 = 16;

/// What a session that nobody asked to keep outlives a lost connection by.
const LOST_SESSION_SECS: u32 = 300;
