//! WebSocket from the client's side, as a stream of bytes.

mod fault;
mod request;
mod stream;

use std::io;

use tokio_tungstenite::client_async_with_config;

pub use fault::{WebSocketError, WebSocketFault};
pub use request::{WebSocketRequest, WebSocketRequestError};
pub use stream::WebSocketStream;

use crate::{address::Address, stream::Stream};

/// The handshake over `below`, without a limit on its time.
pub(crate) async fn connect(
    request: &WebSocketRequest,
    address: &Address,
    below: Stream,
) -> Result<WebSocketStream, (WebSocketFault, io::Error)> {
    let http = request.to_http(address, port_of_scheme(&below));
    let config = stream::config(request.message_limit());
    match client_async_with_config(http, below, Some(config)).await {
        Ok((io, response)) => Ok(WebSocketStream::new(io, &response)),
        Err(error) => Err(fault::of_handshake(error)),
    }
}

/// The port that goes without saying (RFC 6455 §3).
fn port_of_scheme(below: &Stream) -> u16 {
    #[cfg(feature = "tls")]
    if below.tls().is_some() {
        return 443;
    }
    let _ = below;
    80
}
