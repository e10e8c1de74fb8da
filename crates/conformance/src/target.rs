//! [`Target`]: the broker's address and the credentials for it.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Where the broker is, from `mqtt://[user[:password]@]host[:port]`.
///
/// ```
/// use whimbrel_conformance::Target;
///
/// let target: Target = "mqtt://ann:secret@broker.example:1884".parse()?;
/// assert_eq!(target.to_string(), "mqtt://broker.example:1884");
/// # Ok::<(), whimbrel_conformance::TargetError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    /// A name or an address; an IPv6 address has no brackets here.
    pub host: String,
    /// The TCP port: 1883 unless the URL has one.
    pub port: u16,
    /// The user name for every CONNECT.
    pub user_name: Option<String>,
    /// The password for every CONNECT.
    pub password: Option<String>,
}

impl fmt::Display for Target {
    /// The address without the credentials, so that it may be printed and stored.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "mqtt://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "mqtt://{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("user_name", &self.user_name)
            .finish_non_exhaustive()
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(url: &str) -> Result<Target, TargetError> {
        let rest = match url.split_once("://") {
            Some(("mqtt" | "tcp", rest)) => rest,
            Some(_) => return Err(TargetError::Scheme),
            None => url,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (credentials, address) = match rest.rsplit_once('@') {
            Some((credentials, address)) => (Some(credentials), address),
            None => (None, rest),
        };
        let (user_name, password) = match credentials {
            None => (None, None),
            Some(credentials) => match credentials.split_once(':') {
                Some((user, password)) => (Some(unescape(user)?), Some(unescape(password)?)),
                None => (Some(unescape(credentials)?), None),
            },
        };
        let (host, port) = split_port(address)?;
        if host.is_empty() || host.contains(['/', '?', '#']) {
            return Err(TargetError::Host);
        }
        Ok(Target {
            host: host.to_owned(),
            port,
            user_name,
            password,
        })
    }
}

/// Why a text is no target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TargetError {
    /// The scheme is not `mqtt`.
    #[error("only mqtt:// can be tested; write mqtt://host:port")]
    Scheme,
    /// There is no host name, or it is none.
    #[error("the host is missing or not one; write mqtt://host:port")]
    Host,
    /// The port is no number from 1 to 65535.
    #[error("the port has to be a number from 1 to 65535; write mqtt://host:port")]
    Port,
    /// A `%` in the credentials is not followed by two hexadecimal digits, or the bytes are no UTF-8.
    #[error("a % in the user name or password has to be written as %25")]
    Escape,
}

fn split_port(address: &str) -> Result<(&str, u16), TargetError> {
    let (host, port) = if let Some(rest) = address.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(TargetError::Host)?;
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => return Err(TargetError::Host),
        }
    } else {
        match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        }
    };
    let Some(port) = port else {
        return Ok((host, PORT_DEFAULT));
    };
    match port.parse() {
        Ok(port) if port != 0 => Ok((host, port)),
        _ => Err(TargetError::Port),
    }
}

/// Replaces `%3A` by `:` and so on.
fn unescape(text: &str) -> Result<String, TargetError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || {
            let digit = rest.next().map(char::from)?;
            digit.to_digit(16)
        };
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(TargetError::Escape);
        };
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| TargetError::Escape)?);
    }
    String::from_utf8(bytes).map_err(|_| TargetError::Escape)
}

const PORT_DEFAULT: u16 = 1883;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_host_port_and_credentials() {
        let target: Target = "mqtt://ann:p%40ss:1@[::1]:1884/".parse().expect("a target");
        assert_eq!((target.host.as_str(), target.port), ("::1", 1884));
        assert_eq!(target.user_name.as_deref(), Some("ann"));
        assert_eq!(target.password.as_deref(), Some("p@ss:1"));
        let target: Target = "localhost".parse().expect("a target");
        assert_eq!((target.host.as_str(), target.port), ("localhost", 1883));
    }

    #[test]
    fn what_is_no_target_is_refused() {
        let error = |url: &str| url.parse::<Target>().expect_err("no target");
        assert_eq!(error("mqtts://host"), TargetError::Scheme);
        assert_eq!(error("mqtt://:1883"), TargetError::Host);
        assert_eq!(error("mqtt://host/path"), TargetError::Host);
        assert_eq!(error("mqtt://host:0"), TargetError::Port);
        assert_eq!(error("mqtt://host:70000"), TargetError::Port);
        assert_eq!(error("mqtt://a%4:b@host"), TargetError::Escape);
    }

    #[test]
    fn the_password_is_not_shown() {
        let target: Target = "mqtt://ann:secret@host".parse().expect("a target");
        assert!(!format!("{target} {target:?}").contains("secret"));
    }
}
