//! What a client asks a WebSocket server for.

use std::fmt;

use thiserror::Error;
use tokio_tungstenite::tungstenite::{
    handshake::client::{Request, generate_key},
    http::{
        HeaderMap, Uri,
        header::{self, HeaderName, HeaderValue},
        uri::PathAndQuery,
    },
};

use crate::address::Address;

/// What to ask a WebSocket server for: a path, subprotocols, headers.
///
/// Redirects are not followed, and no extension is offered. `Debug` prints neither the query nor a
/// header's value, since both may hold a secret.
///
/// ```
/// use whimbrel_net::WebSocketRequest;
///
/// let request = WebSocketRequest::new("/mqtt")?
///     .subprotocol("mqtt")?
///     .header("authorization", "Bearer 1234")?;
/// # Ok::<(), whimbrel_net::WebSocketRequestError>(())
/// ```
#[derive(Clone)]
pub struct WebSocketRequest {
    path: PathAndQuery,
    subprotocols: Vec<String>,
    headers: HeaderMap,
    header_bytes: usize,
    message_bytes_max: usize,
}

impl WebSocketRequest {
    /// A request for `path`, which begins with `/` and may have a query.
    ///
    /// # Errors
    /// [`WebSocketRequestError::Path`].
    pub fn new(path: &str) -> Result<Self, WebSocketRequestError> {
        if !path.starts_with('/') || path.len() > PATH_BYTES_MAX || path.contains('#') {
            return Err(WebSocketRequestError::Path);
        }
        Ok(Self {
            path: path.parse().map_err(|_| WebSocketRequestError::Path)?,
            subprotocols: Vec::new(),
            headers: HeaderMap::new(),
            header_bytes: 0,
            message_bytes_max: MESSAGE_BYTES_MAX_DEFAULT,
        })
    }

    /// Offers a subprotocol, the preferred one first. The connection fails if any is offered and
    /// the server chooses none of them.
    ///
    /// # Errors
    /// [`WebSocketRequestError::Subprotocol`], or [`WebSocketRequestError::TooManyHeaders`] beyond
    /// 16 of them.
    pub fn subprotocol(mut self, name: &str) -> Result<Self, WebSocketRequestError> {
        // The grammar is that of a token, and so of a header's name (RFC 6455 §4.1).
        if name.len() > SUBPROTOCOL_BYTES_MAX || HeaderName::from_bytes(name.as_bytes()).is_err() {
            return Err(WebSocketRequestError::Subprotocol);
        }
        if self.subprotocols.len() == SUBPROTOCOLS_MAX {
            return Err(WebSocketRequestError::TooManyHeaders);
        }
        self.subprotocols.push(name.to_owned());
        Ok(self)
    }

    /// Sends a header with the request, such as a token for the proxy in front of the server. The
    /// same name may be used again for a further value.
    ///
    /// # Errors
    /// The name or the value is not one of HTTP, the header is one that the handshake sets itself,
    /// or there are too many.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, WebSocketRequestError> {
        let name: HeaderName = name
            .parse()
            .map_err(|_| WebSocketRequestError::HeaderName)?;
        let is_reserved = name == header::HOST
            || name == header::CONNECTION
            || name == header::UPGRADE
            || name.as_str().starts_with("sec-websocket-");
        if is_reserved {
            return Err(WebSocketRequestError::ReservedHeader);
        }
        let mut value: HeaderValue = value
            .parse()
            .map_err(|_| WebSocketRequestError::HeaderValue)?;
        // Keeps it out of Debug.
        value.set_sensitive(true);
        self.header_bytes += name.as_str().len() + value.len();
        if self.headers.len() == HEADERS_MAX || self.header_bytes > HEADER_BYTES_MAX {
            return Err(WebSocketRequestError::TooManyHeaders);
        }
        self.headers.append(name, value);
        Ok(self)
    }

    /// Sets how many bytes a message from the server may have, in one frame or in fragments; a
    /// longer one ends the connection. A message is held in memory until all of it has come, so
    /// this is also what one connection may cost. Default 16 MiB.
    ///
    /// A server may send all it has in one message: it should be no less than the longest unit of
    /// the protocol above.
    #[must_use]
    pub fn message_bytes_max(mut self, message_bytes_max: usize) -> Self {
        self.message_bytes_max = message_bytes_max;
        self
    }

    /// The path, without the query.
    pub fn path(&self) -> &str {
        self.path.path()
    }

    pub(super) fn message_limit(&self) -> usize {
        self.message_bytes_max
    }

    /// The HTTP request, with a new key. `port_of_scheme` goes without saying in the host header.
    pub(super) fn to_http(&self, address: &Address, port_of_scheme: u16) -> Request {
        let host = match address.port() {
            port if port == port_of_scheme => address.host().to_string(),
            port => format!("{}:{port}", address.host()),
        };
        let uri = Uri::builder()
            .scheme("ws")
            .authority(host.as_str())
            .path_and_query(self.path.clone())
            .build()
            .expect("the host of an Address is an IP address or of letters, digits, `-`, `_`, `.`");
        let mut request = Request::new(());
        *request.uri_mut() = uri;
        *request.headers_mut() = self.headers.clone();
        let headers = request.headers_mut();
        headers.insert(header::HOST, visible(host));
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(
            header::SEC_WEBSOCKET_VERSION,
            HeaderValue::from_static("13"),
        );
        headers.insert(header::SEC_WEBSOCKET_KEY, visible(generate_key()));
        if !self.subprotocols.is_empty() {
            let offered = visible(self.subprotocols.join(", "));
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, offered);
        }
        request
    }
}

impl fmt::Debug for WebSocketRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketRequest")
            .field("path", &self.path())
            .field("subprotocols", &self.subprotocols)
            .field("headers", &self.headers)
            .field("message_bytes_max", &self.message_bytes_max)
            .finish_non_exhaustive()
    }
}

/// Why a [`WebSocketRequest`] can't be made; each message says what to write instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WebSocketRequestError {
    /// The path is not that of a URL.
    #[error("the WebSocket path must begin with / and be that of a URL, as in /mqtt")]
    Path,
    /// A subprotocol is not a token.
    #[error("a WebSocket subprotocol is 1 to 64 letters, digits and hyphens, as in mqtt")]
    Subprotocol,
    /// A header's name is not a token.
    #[error("the name of a header is of letters, digits and hyphens, as in authorization")]
    HeaderName,
    /// A header's value has bytes that can't stand in HTTP.
    #[error("the value of a header has no line breaks and no other control characters")]
    HeaderValue,
    /// The header is part of the handshake.
    #[error("the headers host, connection, upgrade and sec-websocket-* are set by the handshake")]
    ReservedHeader,
    /// There are too many headers or subprotocols, or they are too long together.
    #[error("a request has up to 64 headers of 16384 bytes together, and up to 16 subprotocols")]
    TooManyHeaders,
}

/// A header's value from what can only be visible ASCII: hosts, tokens and base64.
fn visible(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("hosts, tokens and base64 are visible ASCII")
}

/// What most servers take of a request line.
const PATH_BYTES_MAX: usize = 8_000;
const SUBPROTOCOLS_MAX: usize = 16;
/// The registered names are shorter by far; the bound keeps the header small.
const SUBPROTOCOL_BYTES_MAX: usize = 64;
const HEADERS_MAX: usize = 64;
/// A cookie and a long token; servers refuse much more than this.
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// The default of most WebSocket libraries, and more than brokers put into one message.
const MESSAGE_BYTES_MAX_DEFAULT: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> WebSocketRequest {
        WebSocketRequest::new("/mqtt?tenant=7").unwrap()
    }

    fn header<'a>(http: &'a Request, name: &str) -> &'a str {
        http.headers().get(name).unwrap().to_str().unwrap()
    }

    #[test]
    fn request_has_what_rfc_6455_asks_for() {
        let request = request().subprotocol("mqtt").unwrap();
        let request = request.subprotocol("mqttv3.1").unwrap();
        let address: Address = "tcp://broker.example:8080".parse().unwrap();
        let http = request.to_http(&address, 80);
        assert_eq!(http.uri().path_and_query().unwrap(), "/mqtt?tenant=7");
        assert_eq!(header(&http, "host"), "broker.example:8080");
        assert_eq!(header(&http, "sec-websocket-protocol"), "mqtt, mqttv3.1");
        assert_eq!(header(&http, "sec-websocket-version"), "13");
        assert_ne!(
            header(&http, "sec-websocket-key"),
            header(&request.to_http(&address, 80), "sec-websocket-key"),
            "each handshake has its own key"
        );
    }

    #[test]
    fn port_of_the_scheme_is_left_out_of_the_host() {
        for (address, port_of_scheme, host) in [
            ("tcp://broker.example:443", 443, "broker.example"),
            ("tcp://broker.example:443", 80, "broker.example:443"),
            ("tcp://[::1]:80", 80, "[::1]"),
            ("tcp://_dev-1.example:9001", 80, "_dev-1.example:9001"),
        ] {
            let http = request().to_http(&address.parse().unwrap(), port_of_scheme);
            assert_eq!(header(&http, "host"), host, "{address}");
        }
    }

    #[test]
    fn each_mistake_has_its_own_error() {
        for path in ["", "mqtt", "/mq tt", "/mqtt#top", "http://host/mqtt"] {
            let error = WebSocketRequest::new(path).unwrap_err();
            assert_eq!(error, WebSocketRequestError::Path, "{path:?}");
        }
        for name in ["", "a b", "a,b"] {
            let error = request().subprotocol(name).unwrap_err();
            assert_eq!(error, WebSocketRequestError::Subprotocol, "{name:?}");
        }
        for (name, value, error) in [
            ("", "value", WebSocketRequestError::HeaderName),
            ("a b", "value", WebSocketRequestError::HeaderName),
            ("cookie", "a\r\nhost: b", WebSocketRequestError::HeaderValue),
            ("Host", "elsewhere", WebSocketRequestError::ReservedHeader),
            ("UPGRADE", "h2c", WebSocketRequestError::ReservedHeader),
            (
                "Sec-WebSocket-Key",
                "1",
                WebSocketRequestError::ReservedHeader,
            ),
            (
                "Sec-WebSocket-Protocol",
                "1",
                WebSocketRequestError::ReservedHeader,
            ),
        ] {
            assert_eq!(request().header(name, value).unwrap_err(), error, "{name}");
        }
    }

    #[test]
    fn headers_are_bounded_in_number_and_size() {
        let mut full = request();
        for _ in 0..HEADERS_MAX {
            full = full.header("x", "y").unwrap();
        }
        let error = full.header("x", "y").unwrap_err();
        assert_eq!(error, WebSocketRequestError::TooManyHeaders);
        let longest = "y".repeat(HEADER_BYTES_MAX - 1);
        assert!(request().header("x", &longest).is_ok());
        let error = request().header("xx", &longest).unwrap_err();
        assert_eq!(error, WebSocketRequestError::TooManyHeaders);
    }

    #[test]
    fn debug_shows_no_query_and_no_header_value() {
        let request = WebSocketRequest::new("/mqtt?signature=5678").unwrap();
        let request = request.header("authorization", "Bearer 1234").unwrap();
        let text = format!("{request:?}");
        assert!(text.contains("/mqtt") && !text.contains("5678"), "{text}");
        assert!(
            text.contains("authorization") && !text.contains("1234"),
            "{text}"
        );
    }
}
