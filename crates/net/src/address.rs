//! `scheme://host:port`, parsed once.

use std::{
    fmt, io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use thiserror::Error;

/// Where to listen or connect, in the form an operator writes it: `tcp://host:port`.
///
/// The port is always written, because this crate knows no protocol and so no default for it; 0
/// asks the system for a free one. `Display` prints the form that parses back to an equal value.
///
/// ```
/// use whimbrel_net::{Address, AddressError};
///
/// let address: Address = "tcp://[::1]:1883".parse()?;
/// assert_eq!(address.port(), 1883);
/// assert!(address.is_loopback());
/// assert_eq!("localhost".parse::<Address>(), Err(AddressError::MissingScheme));
/// # Ok::<(), AddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    scheme: Scheme,
    host: Host,
    port: u16,
}

impl Address {
    /// How bytes travel.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The name or IP address between scheme and port.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port; 0 stands for one that the system chooses.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether the host is a loopback IP address or the name `localhost`.
    ///
    /// A name's answer is about the name: whoever lets safety depend on it checks the resolved
    /// addresses too.
    pub fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Ip(ip) => ip.is_loopback(),
            Host::Name(name) => name.eq_ignore_ascii_case("localhost"),
        }
    }

    /// The socket addresses behind this address, in the resolver's order and never empty.
    ///
    /// # Errors
    /// What the system's resolver answers; `NotFound` when it knows the name but has no address for
    /// it.
    pub async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let name = match &self.host {
            Host::Ip(ip) => return Ok(vec![SocketAddr::new(*ip, self.port)]),
            Host::Name(name) => name.as_str(),
        };
        let addresses: Vec<SocketAddr> =
            tokio::net::lookup_host((name, self.port)).await?.collect();
        if addresses.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "the name has no address",
            ));
        }
        Ok(addresses)
    }
}

impl From<SocketAddr> for Address {
    /// A TCP address. The flow label and scope id of an IPv6 socket address are left out.
    fn from(address: SocketAddr) -> Self {
        Self {
            scheme: Scheme::Tcp,
            host: Host::Ip(address.ip()),
            port: address.port(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme, self.host, self.port)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = text.split_once("://").ok_or(AddressError::MissingScheme)?;
        let scheme = match scheme {
            "tcp" => Scheme::Tcp,
            _ => return Err(AddressError::UnknownScheme),
        };
        if rest.contains(['/', '?', '#']) {
            return Err(AddressError::TrailingText);
        }
        let (host, port) = match rest.strip_prefix('[') {
            Some(bracketed) => {
                let (ip, after) = bracketed.split_once(']').ok_or(AddressError::InvalidHost)?;
                let ip: Ipv6Addr = ip.parse().map_err(|_| AddressError::InvalidHost)?;
                let port = after.strip_prefix(':').ok_or(AddressError::MissingPort)?;
                (Host::Ip(IpAddr::V6(ip)), port)
            }
            None => {
                if rest.parse::<Ipv6Addr>().is_ok() {
                    return Err(AddressError::UnbracketedIpv6);
                }
                let (host, port) = rest.rsplit_once(':').ok_or(AddressError::MissingPort)?;
                (parse_host(host)?, port)
            }
        };
        // u16's own parser would take a sign.
        if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(AddressError::InvalidPort);
        }
        let port = port.parse().map_err(|_| AddressError::InvalidPort)?;
        Ok(Self { scheme, host, port })
    }
}

/// How bytes travel to an [`Address`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheme {
    /// Plain TCP, written `tcp`.
    Tcp,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
        })
    }
}

/// The host part of an [`Address`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// An IP address; IPv6 is written in brackets.
    Ip(IpAddr),
    /// A name to look up: 1 to 253 ASCII letters, digits, `-`, `_` and `.`.
    Name(String),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Why a text is not an [`Address`]; each message says what to write instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AddressError {
    /// There is no `://`.
    #[error("the address has no scheme, write it as tcp://HOST:PORT")]
    MissingScheme,
    /// The scheme is not one that this build knows.
    #[error("the scheme of the address is not supported, use tcp://")]
    UnknownScheme,
    /// There is no port after the host.
    #[error("the address has no port, write it as tcp://HOST:PORT")]
    MissingPort,
    /// The port is not a decimal number of 16 bits.
    #[error("the port is not a number, use 1 to 65535, or 0 for a free one")]
    InvalidPort,
    /// The host is neither an IP address nor a name.
    #[error("the host is neither an IP address nor a name of letters, digits, dots and hyphens")]
    InvalidHost,
    /// The host is `*` or empty, which some programs take for "every address".
    #[error("to listen on every address write 0.0.0.0 or [::] as the host")]
    WildcardHost,
    /// An IPv6 address stands without brackets, so that its end can't be told from the port.
    #[error("write an IPv6 address in brackets, as in tcp://[::1]:PORT")]
    UnbracketedIpv6,
    /// A path, query or fragment follows.
    #[error("nothing may follow the port, remove what begins with / ? or #")]
    TrailingText,
}

fn parse_host(host: &str) -> Result<Host, AddressError> {
    if host.is_empty() || host == "*" {
        return Err(AddressError::WildcardHost);
    }
    if let Ok(ip) = host.parse() {
        return match ip {
            IpAddr::V4(_) => Ok(Host::Ip(ip)),
            IpAddr::V6(_) => Err(AddressError::UnbracketedIpv6),
        };
    }
    let is_name_byte =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if host.len() > NAME_BYTES_MAX || !host.bytes().all(is_name_byte) {
        return Err(AddressError::InvalidHost);
    }
    Ok(Host::Name(host.to_owned()))
}

/// A DNS name in text form is at most this long (RFC 1035 §2.3.4 less the length and root octets).
const NAME_BYTES_MAX: usize = 253;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn host_and_port_are_read() {
        let address: Address = "tcp://broker.example:1883".parse().unwrap();
        assert_eq!(address.scheme(), Scheme::Tcp);
        assert_eq!(address.host(), &Host::Name("broker.example".to_owned()));
        assert_eq!(address.port(), 1883);
    }

    #[test]
    fn ip_addresses_are_not_names() {
        let v4: Address = "tcp://0.0.0.0:0".parse().unwrap();
        assert_eq!(v4.host(), &Host::Ip(IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
        let v6: Address = "tcp://[::]:65535".parse().unwrap();
        assert_eq!(v6.host(), &Host::Ip(IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
    }

    #[test]
    fn each_mistake_has_its_own_error() {
        for (text, error) in [
            ("", AddressError::MissingScheme),
            ("localhost:1883", AddressError::MissingScheme),
            ("mqtt://localhost:1883", AddressError::UnknownScheme),
            ("TCP://localhost:1883", AddressError::UnknownScheme),
            ("tcp://localhost", AddressError::MissingPort),
            ("tcp://[::1]", AddressError::MissingPort),
            ("tcp://localhost:", AddressError::InvalidPort),
            ("tcp://localhost:+1", AddressError::InvalidPort),
            ("tcp://localhost:65536", AddressError::InvalidPort),
            ("tcp://[::1]:x", AddressError::InvalidPort),
            ("tcp://local host:1", AddressError::InvalidHost),
            ("tcp://user@host:1", AddressError::InvalidHost),
            ("tcp://[::1:1", AddressError::InvalidHost),
            ("tcp://[127.0.0.1]:1", AddressError::InvalidHost),
            ("tcp://:1", AddressError::WildcardHost),
            ("tcp://*:1", AddressError::WildcardHost),
            ("tcp://::1", AddressError::UnbracketedIpv6),
            (
                "tcp://2001:db8:1:2:3:4:5:6:1883",
                AddressError::UnbracketedIpv6,
            ),
            ("tcp://localhost:1/mqtt", AddressError::TrailingText),
        ] {
            assert_eq!(text.parse::<Address>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn names_are_bounded() {
        let longest = "n".repeat(NAME_BYTES_MAX);
        assert!(format!("tcp://{longest}:1").parse::<Address>().is_ok());
        assert_eq!(
            format!("tcp://{longest}n:1").parse::<Address>(),
            Err(AddressError::InvalidHost)
        );
    }

    #[test]
    fn loopback_is_an_address_or_localhost() {
        for (text, loopback) in [
            ("tcp://127.8.9.1:1", true),
            ("tcp://[::1]:1", true),
            ("tcp://LocalHost:1", true),
            ("tcp://0.0.0.0:1", false),
            ("tcp://localhost.example:1", false),
        ] {
            assert_eq!(
                text.parse::<Address>().unwrap().is_loopback(),
                loopback,
                "{text}"
            );
        }
    }

    #[tokio::test]
    async fn ip_addresses_resolve_to_themselves() {
        let address: Address = "tcp://[2001:db8::1]:7".parse().unwrap();
        assert_eq!(
            address.resolve().await.unwrap(),
            ["[2001:db8::1]:7".parse::<SocketAddr>().unwrap()]
        );
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_parses_prints_back(text in "(tcp://)?[\\[\\]:.a-z0-9*/ -]{0,24}(:[0-9]{1,5})?") {
            if let Ok(address) = text.parse::<Address>() {
                prop_assert_eq!(address.to_string().parse::<Address>(), Ok(address));
            }
        }

        #[test]
        fn socket_addresses_survive_the_text_form(ip: IpAddr, port: u16) {
            let address = Address::from(SocketAddr::new(ip, port));
            prop_assert_eq!(address.to_string().parse::<Address>(), Ok(address));
        }
    }
}
