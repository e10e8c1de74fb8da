//! Servers inside the test, and the ways to reach them.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

#[cfg(target_os = "linux")]
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig, SupportedProtocolVersion,
        crypto::ring,
        server::WebPkiClientVerifier,
        version::{TLS12, TLS13},
    },
    server::TlsStream,
};
#[cfg(target_os = "linux")]
use whimbrel_net::StreamOptions;
use whimbrel_net::{Address, Connect, ConnectError, Stream, TlsConfig, Transport};

use crate::certificates::{Authority, Issued};

/// A listener on loopback and its port.
pub(crate) async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Runs `serve` with the first connection that comes.
pub(crate) async fn serve_one<T, F>(
    serve: impl FnOnce(TcpStream) -> F + Send + 'static,
) -> Server<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let (listener, port) = listen().await;
    let task = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        serve(tcp).await
    });
    Server { port, task }
}

/// A server of one connection, and what it comes to.
pub(crate) struct Server<T> {
    pub(crate) port: u16,
    pub(crate) task: JoinHandle<T>,
}

impl<T> Server<T> {
    /// By IP address, as servers' certificates of these tests have it.
    pub(crate) fn address(&self) -> Address {
        Address::from(SocketAddr::from(([127, 0, 0, 1], self.port)))
    }

    /// A server that still waits after half a minute never gets what it waits for.
    pub(crate) async fn end(self) -> T {
        let task = tokio::time::timeout(Duration::from_secs(30), self.task);
        task.await.expect("the server should have ended").unwrap()
    }

    pub(crate) async fn connect_tls(&self, tls: TlsConfig) -> Result<Stream, ConnectError> {
        let address = self.address();
        Connect::default()
            .connect(&Transport::Tls { address, tls })
            .await
    }
}

/// What a TLS server is like, beyond its certificate.
#[derive(Clone, Copy, Default)]
pub(crate) struct TlsServer<'a> {
    pub(crate) clients_of: Option<&'a Authority>,
    pub(crate) alpn: &'a [&'a str],
    pub(crate) version: Version,
}

#[derive(Clone, Copy, Default)]
pub(crate) enum Version {
    Tls12,
    #[default]
    Tls13,
}

impl TlsServer<'_> {
    pub(crate) fn acceptor(self, issued: &Issued) -> TlsAcceptor {
        let provider = Arc::new(ring::default_provider());
        let version: &'static SupportedProtocolVersion = match self.version {
            Version::Tls12 => &TLS12,
            Version::Tls13 => &TLS13,
        };
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[version])
            .unwrap();
        let builder = match self.clients_of {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.itself().chain().remove(0)).unwrap();
                builder.with_client_cert_verifier(
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .build()
                        .unwrap(),
                )
            }
        };
        let mut config = builder
            .with_single_cert(issued.chain(), issued.private_key())
            .unwrap();
        config.alpn_protocols = self
            .alpn
            .iter()
            .map(|name| name.as_bytes().into())
            .collect();
        TlsAcceptor::from(Arc::new(config))
    }

    /// Serves one connection: `serve` gets the stream, or what became of the handshake.
    pub(crate) async fn serve<T, F>(
        self,
        issued: &Issued,
        serve: impl FnOnce(io::Result<TlsStream<TcpStream>>) -> F + Send + 'static,
    ) -> Server<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let acceptor = self.acceptor(issued);
        serve_one(async move |tcp| serve(acceptor.accept(tcp).await).await).await
    }

    /// Serves one connection with an echo until the client's end of stream.
    pub(crate) async fn echo(self, issued: &Issued) -> Server<()> {
        self.serve(issued, async |accepted| {
            if let Ok(stream) = accepted {
                echo(stream).await;
            }
        })
        .await
    }
}

/// Sends back what comes, then ends.
pub(crate) async fn echo(stream: impl AsyncRead + AsyncWrite) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    tokio::io::copy(&mut reader, &mut writer).await.unwrap();
    writer.shutdown().await.unwrap();
}

/// Sends `length` bytes and receives them back from an echo, both at once, `read_bytes` a read.
pub(crate) async fn assert_echo(stream: Stream, length: usize, read_bytes: usize) {
    let sent: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let write = async {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let read = async {
        let mut received = Vec::with_capacity(length);
        let mut buffer = vec![0; read_bytes];
        loop {
            let count = reader.read(&mut buffer).await.unwrap();
            if count == 0 {
                return received;
            }
            received.extend_from_slice(&buffer[..count]);
        }
    };
    let ((), received) = tokio::join!(write, read);
    assert!(received == sent, "{} of {length} bytes", received.len());
}

/// The TCP connection at the bottom of `stream` has `options`.
#[cfg(target_os = "linux")]
pub(crate) fn assert_options(stream: &Stream, options: &StreamOptions) {
    let socket = SockRef::from(stream.tcp().unwrap().as_ref());
    let keepalive = options.keepalive.unwrap();
    assert_eq!(socket.tcp_nodelay().unwrap(), options.nodelay);
    assert!(socket.keepalive().unwrap());
    assert_eq!(socket.tcp_keepalive_time().unwrap(), keepalive.idle);
    assert_eq!(socket.tcp_keepalive_interval().unwrap(), keepalive.interval);
    assert_eq!(socket.tcp_keepalive_retries().unwrap(), keepalive.count);
    assert_eq!(socket.tcp_user_timeout().unwrap(), options.user_timeout);
}
