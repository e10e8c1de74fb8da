//! TLS from the client's side.

mod fault;
mod options;
mod pem;
mod stream;
mod verifier;

use std::{io, sync::Arc};

use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, pki_types::ServerName},
};

pub use fault::{TlsError, TlsFault};
pub use options::{DangerousTlsOptions, TlsOptions, TlsOptionsError};
pub use pem::{Pem, PemOrigin, PemPurpose};
pub use stream::TlsStream;

use crate::{address::Host, tcp::TcpStream};

/// [`TlsOptions`], read and checked. Clones share it, sessions to resume included.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    client: Arc<ClientConfig>,
    /// Asked for and checked in place of the host of the address.
    server_name: Option<ServerName<'static>>,
}

/// The handshake over `tcp`, without a limit on its time.
pub(crate) async fn connect(
    config: &TlsConfig,
    host: &Host,
    tcp: TcpStream,
) -> Result<TlsStream, (TlsFault, io::Error)> {
    let server_name = match (&config.server_name, host) {
        (Some(name), _) => name.clone(),
        (None, Host::Ip(ip)) => ServerName::from(*ip),
        (None, Host::Name(name)) => ServerName::try_from(name.clone()).map_err(|error| {
            let source = io::Error::new(io::ErrorKind::InvalidInput, error);
            (TlsFault::InvalidServerName, source)
        })?,
    };
    match TlsConnector::from(config.client.clone())
        .connect(server_name, tcp)
        .await
    {
        Ok(io) => Ok(TlsStream::new(io)),
        Err(error) => Err((TlsFault::of_handshake(&error), error)),
    }
}

/// What a layer above TLS was told by it.
#[cfg(feature = "websocket")]
pub(crate) fn fault_in(error: &io::Error) -> Option<TlsFault> {
    let error: &TlsError = error.get_ref()?.downcast_ref()?;
    Some(error.fault())
}
