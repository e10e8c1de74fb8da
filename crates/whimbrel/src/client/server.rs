//! Which server, and as whom: what `pub`, `sub` and `rr` have in common.

use std::ffi::OsString;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use whimbrel_client::codec::ProtocolVersion;
use whimbrel_client::{Options, Reconnect};

use super::property::{self, GivenProperty, Packet, Value};
use super::tls::TlsArguments;
use super::unsupported::UnsupportedArguments;
use super::url::ServerUrl;
use super::will::WillArguments;
use crate::failure::{Chain, Failure};

#[derive(Args, Debug)]
#[command(disable_help_flag = true, disable_version_flag = true)]
pub(crate) struct ServerArguments {
    /// The server, and a topic if wanted, as in mqtts://USER:PASSWORD@HOST:PORT/TOPIC; ws, wss and unix are schemes too
    #[arg(value_name = "URL")]
    url: Option<ServerUrl>,

    /// The same, where a word in front is unusual
    #[arg(
        short = 'L',
        long = "url",
        value_name = "URL",
        conflicts_with = "url",
        allow_hyphen_values = true
    )]
    url_option: Option<ServerUrl>,

    /// The host, by name or address [default: localhost]
    #[arg(short = 'h', long, value_name = "HOST", conflicts_with_all = ["url", "url_option"], allow_hyphen_values = true)]
    host: Option<String>,

    /// The port [default: 1883, with TLS 8883]
    #[arg(short = 'p', long, value_name = "PORT", conflicts_with_all = ["url", "url_option"], value_parser = clap::value_parser!(u16).range(1..), allow_hyphen_values = true)]
    port: Option<u16>,

    /// Connect through this Unix socket
    #[arg(long, value_name = "PATH", conflicts_with_all = ["url", "url_option", "host", "port"], allow_hyphen_values = true)]
    unix: Option<PathBuf>,

    /// The address of this machine to connect from
    #[arg(
        short = 'A',
        long = "bind",
        value_name = "ADDRESS",
        conflicts_with = "unix",
        allow_hyphen_values = true
    )]
    bind: Option<IpAddr>,

    /// The MQTT version: 31, 311 or 5 [default: 311, and 5 where an option needs it; of rr 5]
    #[arg(
        short = 'V',
        long,
        value_name = "VERSION",
        value_enum,
        hide_possible_values = true
    )]
    protocol_version: Option<Version>,

    /// The user name
    #[arg(short = 'u', long, value_name = "NAME", allow_hyphen_values = true)]
    username: Option<String>,

    /// The password; others on this machine see it in the list of processes
    #[arg(
        short = 'P',
        long = "pw",
        value_name = "PASSWORD",
        allow_hyphen_values = true
    )]
    password: Option<OsString>,

    /// The file whose first line is the password
    #[arg(
        long = "pw-file",
        value_name = "FILE",
        conflicts_with = "password",
        allow_hyphen_values = true
    )]
    password_file: Option<PathBuf>,

    /// The client id [default: the server's choice with MQTT 5, a random one before]
    #[arg(short = 'i', long, value_name = "ID", allow_hyphen_values = true)]
    id: Option<String>,

    /// A client id of this and the number of this process
    #[arg(
        short = 'I',
        long,
        value_name = "PREFIX",
        conflicts_with = "id",
        allow_hyphen_values = true
    )]
    id_prefix: Option<String>,

    /// Go on with the session of this client id, and have it kept
    #[arg(short = 'c', long = "disable-clean-session")]
    keeps_session: bool,

    /// Seconds that the server keeps the session afterwards, -1 for ever [default: 0, with -c for ever]
    #[arg(
        short = 'x',
        long = "session-expiry",
        value_name = "SECS",
        allow_hyphen_values = true
    )]
    session_expiry: Option<SessionExpiry>,

    /// Seconds of silence after which the connection is tested, 0 for never
    #[arg(
        short = 'k',
        long,
        value_name = "SECS",
        default_value_t = 60,
        allow_hyphen_values = true
    )]
    keepalive: u16,

    /// An MQTT 5 property of connect, publish, subscribe, disconnect or will; may be repeated.
    /// "-D COMMAND user-property NAME VALUE" takes four words
    #[arg(
        short = 'D',
        long = "property",
        value_name = "COMMAND> <PROPERTY> <VALUE",
        allow_hyphen_values = true
    )]
    pub(crate) property: Vec<GivenProperty>,

    /// Send small packets at once, which is done anyway
    #[arg(long, hide = true)]
    nodelay: bool,

    /// Tell on standard error what happens
    #[arg(short = 'd', long)]
    pub(crate) debug: bool,

    /// Don't tell what goes wrong, but by the exit status
    #[arg(long)]
    pub(crate) quiet: bool,

    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,

    #[command(flatten, next_help_heading = "Will")]
    will: WillArguments,

    #[command(flatten, next_help_heading = "TLS")]
    tls: TlsArguments,

    #[command(flatten)]
    unsupported: UnsupportedArguments,
}

/// What the arguments come to.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) options: Options,
    pub(crate) version: ProtocolVersion,
    /// What messages call it.
    pub(crate) name: String,
    /// The topic of the URL.
    pub(crate) topic: Option<String>,
    pub(crate) has_will: bool,
}

impl ServerArguments {
    /// The server. Without `-V` the version is `usual`, or 5 if `needs_v5` or another option needs it.
    pub(crate) fn server(&self, usual: ProtocolVersion, needs_v5: bool) -> Result<Server, Failure> {
        self.unsupported.refuse()?;
        let url = self.url.as_ref().or(self.url_option.as_ref());
        let (options, name) = self.target(url)?;
        let given = self.protocol_version.map(ProtocolVersion::from);
        let needs_v5 = needs_v5 || !self.property.is_empty() || self.session_expiry.is_some();
        let version = given
            .or_else(|| url.and_then(|url| url.version))
            .unwrap_or(if needs_v5 { ProtocolVersion::V5 } else { usual });
        if needs_v5 && !version.is_v5() {
            return Err(Failure::Usage(
                "-D, -x and the options of MQTT 5 subscriptions need MQTT 5: use -V 5 or leave -V out"
                    .to_owned(),
            ));
        }
        let options = self.apply(options.version(version), version, url)?;
        let will = self.will.will(&self.property)?;
        let has_will = will.is_some();
        let options = match will {
            Some(will) => options.will(will),
            None => options,
        };
        let checked = options.check();
        checked.map_err(|error| Failure::Usage(Chain(&error).to_string()))?;
        Ok(Server {
            options,
            version,
            name,
            topic: url.and_then(|url| url.topic.clone()),
            has_will,
        })
    }

    /// Seconds that DISCONNECT says the session is to be kept.
    pub(crate) fn disconnect_expiry_secs(&self) -> Option<u32> {
        let mut values = property::of_packet(&self.property, Packet::Disconnect);
        values.find_map(|value| match value {
            Value::SessionExpiry(seconds) => Some(*seconds),
            _ => None,
        })
    }

    /// Whether a session is to outlive this process.
    pub(crate) fn keeps_session(&self) -> bool {
        self.keeps_session || self.session_expiry.is_some_and(|expiry| expiry.0 > 0)
    }

    fn password(&self) -> Result<Option<Vec<u8>>, Failure> {
        let Some(path) = &self.password_file else {
            let password = self.password.as_ref();
            return Ok(password.map(|password| password.as_encoded_bytes().to_vec()));
        };
        let read = std::fs::read(path).map_err(|error| {
            let path = path.display();
            Failure::Usage(format!("--pw-file: cannot read {path}: {error}"))
        });
        let mut bytes = read?;
        let end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
        bytes.truncate(end.unwrap_or(bytes.len()));
        Ok(Some(bytes))
    }

    /// Options that say where to connect, and the name of it.
    fn target(&self, url: Option<&ServerUrl>) -> Result<(Options, String), Failure> {
        if let Some(path) = &self.unix {
            let name = path.display().to_string();
            return Ok((unix(path)?, name));
        }
        if let Some(url) = url {
            let options = url.options().map_err(Failure::Usage)?;
            let options = if self.tls.is_given() {
                self.tls.config().map(|config| options.tls(config))?
            } else {
                options
            };
            return Ok((options, url.name()));
        }
        let host = self.host.as_deref().unwrap_or("localhost");
        let has_tls = self.tls.asks_for_tls() || self.port == Some(TLS_PORT);
        let port = self.port.unwrap_or(if has_tls { TLS_PORT } else { PORT });
        let options = Options::new(host, port);
        let options = if has_tls {
            options.tls(self.tls.config()?)
        } else {
            options
        };
        Ok((options, format!("{host}:{port}")))
    }

    fn apply(
        &self,
        mut options: Options,
        version: ProtocolVersion,
        url: Option<&ServerUrl>,
    ) -> Result<Options, Failure> {
        let id = match (&self.id, &self.id_prefix) {
            (Some(id), _) => Some(id.clone()),
            (None, Some(prefix)) => Some(format!("{prefix}{}", std::process::id())),
            (None, None) => None,
        };
        let has_id = id.is_some() || url.is_some_and(|url| url.has_client_id);
        let is_kept_for_ever = match self.session_expiry {
            Some(expiry) => expiry.0 == u32::MAX,
            None => self.keeps_session,
        };
        if is_kept_for_ever && !has_id {
            return Err(Failure::Usage(
                "a session that is kept for ever needs a client id to come back to: give one with -i"
                    .to_owned(),
            ));
        }
        if let Some(id) = id {
            options = options.client_id(id);
        } else if !has_id && !version.is_v5() {
            // Some servers refuse an empty one, and MQTT 3.1 wants 1 to 23 characters.
            let number = RandomState::new().hash_one(std::process::id());
            options = options.client_id(format!("whim-{number:016x}"));
        }
        if let Some(address) = self.bind {
            options = options.local_address(address);
        }
        if let Some(name) = &self.username {
            options = options.username(name.as_str());
        }
        if let Some(password) = self.password()? {
            options = options.password(password);
        }
        if self.keeps_session {
            options = options.clean_start(false);
        }
        if let Some(SessionExpiry(seconds)) = self.session_expiry {
            options = options.session_expiry_secs(seconds);
        }
        options = options
            .keep_alive_secs(self.keepalive)
            .topic_alias_max(0)
            .receive_bytes_max(RECEIVE_BYTES_MAX)
            .packet_size_max(PACKET_SIZE_MAX)
            .disconnect_timeout(DISCONNECT_TIMEOUT)
            .reconnect(Reconnect::default());
        for value in property::of_packet(&self.property, Packet::Connect) {
            options = match *value {
                Value::MaximumPacketSize(bytes) => match NonZeroU32::new(bytes) {
                    Some(bytes) => options.packet_size_max(bytes.min(PACKET_SIZE_MAX)),
                    None => options,
                },
                Value::ReceiveMaximum(maximum) => match NonZeroU16::new(maximum) {
                    Some(maximum) => options.receive_maximum(maximum),
                    None => options,
                },
                Value::SessionExpiry(seconds) => options.session_expiry_secs(seconds),
                Value::TopicAliasMaximum(maximum) => options.topic_alias_max(maximum),
                _ => options,
            };
        }
        let user_properties =
            property::user_properties(property::of_packet(&self.property, Packet::Connect));
        if !user_properties.is_empty() {
            options = options.user_properties(user_properties);
        }
        Ok(options)
    }
}

#[cfg(unix)]
fn unix(path: &std::path::Path) -> Result<Options, Failure> {
    use whimbrel_client::net::Transport;

    Ok(Options::with_transport(Transport::Unix(path.to_owned())))
}

#[cfg(not(unix))]
fn unix(_path: &std::path::Path) -> Result<Options, Failure> {
    Err(Failure::Usage(
        "--unix: this system has no Unix sockets, use -h and -p".to_owned(),
    ))
}

/// `-V`, in all the ways in which people write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Version {
    #[value(name = "31", alias = "mqttv31", alias = "3.1")]
    V31,
    #[value(name = "311", alias = "mqttv311", alias = "3.1.1")]
    V311,
    #[value(name = "5", alias = "mqttv5", alias = "5.0")]
    V5,
}

impl From<Version> for ProtocolVersion {
    fn from(version: Version) -> Self {
        match version {
            Version::V31 => Self::V31,
            Version::V311 => Self::V311,
            Version::V5 => Self::V5,
        }
    }
}

/// `-x`: seconds, `u32::MAX` for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SessionExpiry(u32);

impl FromStr for SessionExpiry {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if matches!(text, "-1" | "∞" | "never") {
            return Ok(Self(u32::MAX));
        }
        let seconds = text.parse().map(Self);
        seconds.map_err(|_| "write a number of seconds, or -1 for ever")
    }
}

const PORT: u16 = 1883;
const TLS_PORT: u16 = 8883;

/// The largest there is: whoever subscribes at a terminal wants to see what is sent.
const PACKET_SIZE_MAX: NonZeroU32 = NonZeroU32::new(268_435_455 + 5).expect("not 0");

/// What is read ahead of a slow output.
const RECEIVE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How long the end waits for acknowledgements.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(10);
