//! [`ServerUrl`]: a server and a topic in one word.

use std::str::FromStr;

use percent_encoding::percent_decode_str;
use whimbrel_client::Options;
use whimbrel_client::codec::ProtocolVersion;

use crate::failure::Chain;

/// A URL of `-L`, or in front of the options: a server as [`Options::from_url`] has it, and after the host of `mqtt://` or
/// `mqtts://` a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerUrl {
    /// Without the topic.
    server: String,
    pub(crate) topic: Option<String>,
    /// What `?version=` says.
    pub(crate) version: Option<ProtocolVersion>,
    /// `?client_id=` is there.
    pub(crate) has_client_id: bool,
}

impl ServerUrl {
    /// Where to connect.
    pub(crate) fn options(&self) -> Result<Options, String> {
        Options::from_url(&self.server).map_err(|error| Chain(&error).to_string())
    }

    /// What messages call the server: the URL without its password.
    pub(crate) fn name(&self) -> String {
        let (server, _) = self.server.split_once('?').unwrap_or((&self.server, ""));
        match (server.split_once("://"), server.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
            _ => server.to_owned(),
        }
    }
}

impl FromStr for ServerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, _) = text
            .split_once("://")
            .ok_or("a URL begins with a scheme, as in mqtt://HOST/TOPIC")?;
        let takes_topic = TOPIC_SCHEMES.contains(&scheme.to_ascii_lowercase().as_str());
        let (head, query) = match text.split_once('?') {
            Some((head, query)) => (head, Some(query)),
            None => (text, None),
        };
        let host = scheme.len() + "://".len();
        let slash = head.get(host..).and_then(|rest| rest.find('/'));
        let (server, topic) = match slash.filter(|_| takes_topic) {
            Some(slash) => {
                let (server, topic) = head.split_at(host + slash);
                let decoded = percent_decode_str(&topic[1..]).decode_utf8();
                let topic = decoded.map_err(|_| "the topic of the URL is not UTF-8")?;
                (server, Some(topic.into_owned()))
            }
            None => (head, None),
        };
        let option = |name: &str| {
            let mut pairs = query.into_iter().flat_map(|query| query.split('&'));
            pairs.find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
        };
        let url = Self {
            server: match query {
                Some(query) => format!("{server}?{query}"),
                None => server.to_owned(),
            },
            topic: topic.filter(|topic| !topic.is_empty()),
            version: option("version").and_then(|version| match version {
                "3.1" => Some(ProtocolVersion::V31),
                "3.1.1" => Some(ProtocolVersion::V311),
                "5" | "5.0" => Some(ProtocolVersion::V5),
                // To be complained about by who reads all of it.
                _ => None,
            }),
            has_client_id: option("client_id").is_some_and(|id| !id.is_empty()),
        };
        url.options()?;
        Ok(url)
    }
}

/// Schemes whose path is a topic; that of the others says something about the server.
const TOPIC_SCHEMES: [&str; 5] = ["mqtt", "tcp", "mqtts", "tls", "ssl"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_the_host_is_the_topic() {
        for (text, server, topic) in [
            ("mqtt://h", "mqtt://h", None),
            ("mqtt://h/", "mqtt://h", None),
            ("mqtts://u:p@h:1/a/b", "mqtts://u:p@h:1", Some("a/b")),
            ("mqtt://h//a", "mqtt://h", Some("/a")),
            (
                "mqtt://h/a%20b%23?keep_alive=5",
                "mqtt://h?keep_alive=5",
                Some("a b#"),
            ),
            ("ws://h/mqtt", "ws://h/mqtt", None),
            ("unix:///tmp/s", "unix:///tmp/s", None),
        ] {
            let url: ServerUrl = text.parse().expect(text);
            assert_eq!(url.server, server);
            assert_eq!(url.topic.as_deref(), topic);
        }
    }

    #[test]
    fn its_version_and_client_id_are_known() {
        let url: ServerUrl = "mqtt://h/t?client_id=a&version=5".parse().expect("a URL");
        assert_eq!(url.version, Some(ProtocolVersion::V5));
        assert!(url.has_client_id);
    }

    #[test]
    fn its_name_has_no_password() {
        let url: ServerUrl = "mqtts://u:p@h:1/a?client_id=x".parse().expect("a URL");
        assert_eq!(url.name(), "mqtts://h:1");
    }

    #[test]
    fn what_is_wrong_is_one_line() {
        for (text, words) in [
            ("host/topic", "mqtt://HOST/TOPIC"),
            ("http://host/topic", "\"http\" is not supported"),
            ("mqtt://host?colour=red", "\"colour\" is unknown"),
            ("mqtt://host/%FF", "not UTF-8"),
            ("mqtt://host:x/t", "port"),
        ] {
            let error = text.parse::<ServerUrl>().expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
