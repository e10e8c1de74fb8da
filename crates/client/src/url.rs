//! [`Options::from_url`].

use percent_encoding::percent_decode_str;
use whimbrel_net::AddressError;
use whimbrel_session::codec::ProtocolVersion;

use crate::Options;
use crate::target::{Layers, Target};

/// What is wrong with a URL; see [`Options::from_url`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// There is no `://`.
    #[error("the URL has no scheme, write it as mqtt://HOST")]
    SchemeMissing,
    /// The scheme is not one of MQTT's, or this build was made without it.
    #[error("the scheme {scheme:?} is not supported, use one of {}", SCHEMES.join(", "))]
    SchemeUnknown {
        /// The scheme.
        scheme: String,
    },
    /// The host or the port is none.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Only `ws://`, `wss://` and `unix://` have a path.
    #[error("a {scheme} URL has no path, remove what follows the first / of it")]
    PathNotAllowed {
        /// The scheme.
        scheme: String,
    },
    /// A percent sign does not begin an escape, or what comes of it is not UTF-8.
    #[error("{part} of the URL is not percent-encoded UTF-8")]
    Escape {
        /// Which part.
        part: &'static str,
    },
    /// There is no such option.
    #[error("the URL option {name:?} is unknown, use one of {}", OPTIONS.join(", "))]
    OptionUnknown {
        /// Its name.
        name: String,
    },
    /// An option's value is none.
    #[error("the URL option {name} can't be {value:?}")]
    OptionInvalid {
        /// The option.
        name: &'static str,
        /// What was given.
        value: String,
    },
    /// The path can't be asked for.
    #[cfg(feature = "websocket")]
    #[error(transparent)]
    WebSocket(#[from] whimbrel_net::WebSocketRequestError),
}

pub(crate) fn options(url: &str) -> Result<Options, UrlError> {
    let (scheme, rest) = url.split_once("://").ok_or(UrlError::SchemeMissing)?;
    let scheme = scheme.to_ascii_lowercase();
    let (rest, query) = match rest.split_once('?') {
        Some((rest, query)) => (rest, Some(query)),
        None => (rest, None),
    };
    let mut options = if scheme == "unix" {
        unix(rest)?
    } else {
        network(&scheme, rest)?
    };
    for pair in query
        .into_iter()
        .flat_map(|query| query.split('&'))
        .filter(|pair| !pair.is_empty())
    {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        options = set(
            options,
            &decode(name, "an option")?,
            decode(value, "an option")?,
        )?;
    }
    Ok(options)
}

fn network(scheme: &str, rest: &str) -> Result<Options, UrlError> {
    let (authority, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, ""),
    };
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    let port = match scheme {
        "mqtt" | "tcp" => 1883,
        #[cfg(feature = "tls")]
        "mqtts" | "tls" | "ssl" => 8883,
        #[cfg(feature = "websocket")]
        "ws" => 80,
        #[cfg(all(feature = "tls", feature = "websocket"))]
        "wss" => 443,
        _ => {
            let scheme = scheme.to_owned();
            return Err(UrlError::SchemeUnknown { scheme });
        }
    };
    // A colon inside of brackets is part of an IPv6 address.
    let has_port = host
        .rsplit_once(':')
        .is_some_and(|(_, port)| !port.contains(']'));
    let address = if has_port {
        format!("tcp://{host}").parse()?
    } else {
        format!("tcp://{host}:{port}").parse()?
    };
    #[cfg_attr(
        not(any(feature = "tls", feature = "websocket")),
        expect(unused_mut, reason = "TCP has no options")
    )]
    let mut layers = Layers::tcp(address);
    #[cfg(feature = "tls")]
    if matches!(scheme, "mqtts" | "tls" | "ssl" | "wss") {
        layers.tls = crate::target::Tls::System;
    }
    #[cfg(feature = "websocket")]
    if matches!(scheme, "ws" | "wss") {
        let path = if path.is_empty() { "/mqtt" } else { path };
        layers.websocket = Some(crate::target::websocket_request(path)?);
    }
    if !path.trim_start_matches('/').is_empty() && !matches!(scheme, "ws" | "wss") {
        let scheme = scheme.to_owned();
        return Err(UrlError::PathNotAllowed { scheme });
    }
    let mut options = Options::with_target(Target::Layers(layers));
    if let Some(user) = user {
        let (name, password) = match user.split_once(':') {
            Some((name, password)) => (name, Some(password)),
            None => (user, None),
        };
        options = options.username(decode(name, "the user name")?);
        if let Some(password) = password {
            options = options.password(decode(password, "the password")?);
        }
    }
    Ok(options)
}

#[cfg(unix)]
fn unix(path: &str) -> Result<Options, UrlError> {
    let path = decode(path, "the path")?;
    let transport = whimbrel_net::Transport::Unix(path.into());
    Ok(Options::with_transport(transport))
}

#[cfg(not(unix))]
fn unix(_path: &str) -> Result<Options, UrlError> {
    let scheme = "unix".to_owned();
    Err(UrlError::SchemeUnknown { scheme })
}

fn set(options: Options, name: &str, value: String) -> Result<Options, UrlError> {
    fn parsed<T: std::str::FromStr>(name: &'static str, value: String) -> Result<T, UrlError> {
        value
            .parse()
            .map_err(|_| UrlError::OptionInvalid { name, value })
    }
    Ok(match name {
        "client_id" => options.client_id(value),
        "keep_alive" => options.keep_alive_secs(parsed("keep_alive", value)?),
        "session_expiry" => options.session_expiry_secs(parsed("session_expiry", value)?),
        "clean_start" => options.clean_start(parsed("clean_start", value)?),
        "version" => options.version(match value.as_str() {
            "3.1" => ProtocolVersion::V31,
            "3.1.1" => ProtocolVersion::V311,
            "5" | "5.0" => ProtocolVersion::V5,
            _ => {
                let name = "version";
                return Err(UrlError::OptionInvalid { name, value });
            }
        }),
        name => {
            let name = name.to_owned();
            return Err(UrlError::OptionUnknown { name });
        }
    })
}

fn decode(text: &str, part: &'static str) -> Result<String, UrlError> {
    let mut escapes = text.split('%').skip(1);
    let is_escape = |escape: &str| {
        let digits = escape.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !escapes.all(is_escape) {
        return Err(UrlError::Escape { part });
    }
    let decoded = percent_decode_str(text).decode_utf8();
    Ok(decoded.map_err(|_| UrlError::Escape { part })?.into_owned())
}

const SCHEMES: &[&str] = &[
    "mqtt",
    "tcp",
    #[cfg(feature = "tls")]
    "mqtts",
    #[cfg(feature = "tls")]
    "tls",
    #[cfg(feature = "tls")]
    "ssl",
    #[cfg(feature = "websocket")]
    "ws",
    #[cfg(all(feature = "tls", feature = "websocket"))]
    "wss",
    #[cfg(unix)]
    "unix",
];

const OPTIONS: &[&str] = &[
    "client_id",
    "version",
    "keep_alive",
    "session_expiry",
    "clean_start",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn error(url: &str) -> String {
        match options(url) {
            Ok(options) => panic!("{url} is {options:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn all_of_it_is_read() {
        let url = "mqtt://us%3Aer:p%40ss@[::1]:1884?client_id=x%26y&version=3.1.1&keep_alive=7&clean_start=false";
        let options = options(url).expect("a URL");
        let connect = &options.connect;
        assert_eq!(connect.user_name.as_deref(), Some("us:er"));
        assert_eq!(connect.password.as_deref(), Some(&b"p@ss"[..]));
        assert_eq!(connect.client_id, "x&y");
        assert_eq!(connect.version, ProtocolVersion::V311);
        assert_eq!(connect.keep_alive_secs, 7);
        assert!(!connect.clean_start);
        let Target::Layers(layers) = &options.target else {
            panic!("TCP");
        };
        assert_eq!(layers.address.to_string(), "tcp://[::1]:1884");
    }

    #[test]
    fn each_scheme_has_its_port() {
        for (url, address) in [
            ("mqtt://h", "tcp://h:1883"),
            ("TCP://h/", "tcp://h:1883"),
            ("mqtts://h", "tcp://h:8883"),
            ("ws://h", "tcp://h:80"),
            ("wss://h/path", "tcp://h:443"),
        ] {
            let Target::Layers(layers) = options(url).expect(url).target else {
                panic!("{url}");
            };
            assert_eq!(layers.address.to_string(), address, "{url}");
        }
    }

    #[test]
    fn each_mistake_says_what_to_do() {
        for (url, text) in [
            ("host", "the URL has no scheme, write it as mqtt://HOST"),
            (
                "mqtt://h/path",
                "a mqtt URL has no path, remove what follows the first / of it",
            ),
            (
                "mqtt://u%4@h",
                "the user name of the URL is not percent-encoded UTF-8",
            ),
            (
                "mqtt://h?version=4",
                "the URL option version can't be \"4\"",
            ),
            (
                "mqtt://h:x",
                "the port is not a number, use 1 to 65535, or 0 for a free one",
            ),
        ] {
            assert_eq!(error(url), text);
        }
        assert!(
            error("http://h")
                .starts_with("the scheme \"http\" is not supported, use one of mqtt, tcp")
        );
        assert!(
            error("mqtt://h?qos=1")
                .starts_with("the URL option \"qos\" is unknown, use one of client_id")
        );
    }
}
