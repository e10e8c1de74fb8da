//! The client's side of a connection.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    net::TcpSocket,
    time::{Instant, timeout_at},
};

#[cfg(feature = "tls")]
use crate::tls::{self, TlsConfig};
#[cfg(unix)]
use crate::unix;
#[cfg(feature = "websocket")]
use crate::websocket::{self, WebSocketRequest};
use crate::{
    address::Address,
    connect_error::{ConnectError, ConnectStage},
    options::StreamOptions,
    stream::Stream,
    tcp::TcpStream,
    transport::Transport,
};

/// Opens connections with a set of socket options and one limit on the time it may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Connect {
    /// Options of the TCP connection, set before its handshake begins, also when TLS or WebSocket
    /// go on top of it. A Unix socket has none of them.
    pub stream: StreamOptions,
    /// The address of this machine to connect from, over TCP; `None`, the default, leaves it to the system's routes. Of
    /// a name's addresses only those of its family are tried.
    pub local: Option<IpAddr>,
    /// The whole time a connect may take: name look-up, all addresses of the name, and the
    /// handshakes of TLS and WebSocket. Default 10 s: three tries of a SYN, which the system
    /// repeats after 1 s and 3 s.
    pub timeout: Duration,
}

impl Connect {
    /// Connects through every layer of `transport`.
    ///
    /// Each address of a name is tried in turn, with its even share of the time that is left, so
    /// that one black hole does not use up what the next address would need. The first that takes
    /// the TCP connection is the one that TLS and WebSocket are tried with. Cancel-safe: a dropped
    /// call closes what it had opened.
    ///
    /// # Errors
    /// [`ConnectError`], for the last address tried.
    pub async fn connect(&self, transport: &Transport) -> Result<Stream, ConnectError> {
        let deadline = self.deadline();
        match transport {
            Transport::Tcp(address) => Ok(Stream::Tcp(self.open_tcp(address, deadline).await?)),
            #[cfg(unix)]
            Transport::Unix(path) => Ok(Stream::Unix(unix::connect(path).await?)),
            #[cfg(feature = "tls")]
            Transport::Tls { address, tls } => self.open_tls(address, tls, deadline).await,
            #[cfg(feature = "websocket")]
            Transport::WebSocket { address, request } => {
                let below = Stream::Tcp(self.open_tcp(address, deadline).await?);
                self.open_websocket(below, address, request, deadline).await
            }
            #[cfg(all(feature = "tls", feature = "websocket"))]
            Transport::SecureWebSocket {
                address,
                tls,
                request,
            } => {
                let below = self.open_tls(address, tls, deadline).await?;
                self.open_websocket(below, address, request, deadline).await
            }
        }
    }

    /// Connects to `address` over plain TCP, as [`connect`](Self::connect) does, and returns the
    /// stream in the form that can move between runtimes.
    ///
    /// # Errors
    /// [`ConnectError`], for the last address tried.
    pub async fn connect_tcp(&self, address: &Address) -> Result<TcpStream, ConnectError> {
        self.open_tcp(address, self.deadline()).await
    }

    fn deadline(&self) -> Instant {
        let now = Instant::now();
        now.checked_add(self.timeout).unwrap_or(now + TIMEOUT_MAX)
    }

    async fn open_tcp(
        &self,
        address: &Address,
        deadline: Instant,
    ) -> Result<TcpStream, ConnectError> {
        self.stream.validate()?;
        let remotes = match timeout_at(deadline, address.resolve()).await {
            Ok(Ok(remotes)) => remotes,
            Ok(Err(source)) => {
                return Err(ConnectError::Resolve {
                    host: address.host().clone(),
                    source,
                });
            }
            Err(_) => return Err(self.timed_out(address, ConnectStage::Tcp)),
        };
        let remotes: Vec<_> = remotes
            .into_iter()
            .filter(|remote| self.reaches(remote))
            .collect();
        if let (Some(local), true) = (self.local, remotes.is_empty()) {
            let address = address.clone();
            return Err(ConnectError::LocalFamily { address, local });
        }
        let attempt = |remote| open(remote, self.local, self.stream);
        match first_success(&remotes, deadline, attempt).await {
            Ok(stream) => Ok(stream),
            Err(Failure::Io { remote, source }) => Err(ConnectError::Connect { remote, source }),
            Err(Failure::TimedOut) => Err(self.timed_out(address, ConnectStage::Tcp)),
        }
    }

    #[cfg(feature = "tls")]
    async fn open_tls(
        &self,
        address: &Address,
        tls: &TlsConfig,
        deadline: Instant,
    ) -> Result<Stream, ConnectError> {
        let tcp = self.open_tcp(address, deadline).await?;
        match timeout_at(deadline, tls::connect(tls, address.host(), tcp)).await {
            Ok(Ok(stream)) => Ok(Stream::Tls(Box::new(stream))),
            Ok(Err((fault, source))) => Err(ConnectError::Tls {
                address: address.clone(),
                fault,
                source,
            }),
            Err(_) => Err(self.timed_out(address, ConnectStage::Tls)),
        }
    }

    #[cfg(feature = "websocket")]
    async fn open_websocket(
        &self,
        below: Stream,
        address: &Address,
        request: &WebSocketRequest,
        deadline: Instant,
    ) -> Result<Stream, ConnectError> {
        match timeout_at(deadline, websocket::connect(request, address, below)).await {
            Ok(Ok(stream)) => Ok(Stream::WebSocket(Box::new(stream))),
            Ok(Err((fault, source))) => {
                let address = address.clone();
                // In TLS 1.3 a server looks at our certificate after our handshake is done.
                #[cfg(feature = "tls")]
                if let Some(fault) = tls::fault_in(&source) {
                    return Err(ConnectError::Tls {
                        address,
                        fault,
                        source,
                    });
                }
                Err(ConnectError::WebSocket {
                    address,
                    fault,
                    source,
                })
            }
            Err(_) => Err(self.timed_out(address, ConnectStage::WebSocket)),
        }
    }

    fn reaches(&self, remote: &SocketAddr) -> bool {
        self.local
            .is_none_or(|local| local.is_ipv6() == remote.is_ipv6())
    }

    fn timed_out(&self, address: &Address, stage: ConnectStage) -> ConnectError {
        ConnectError::TimedOut {
            address: address.clone(),
            stage,
            limit: self.timeout,
        }
    }
}

impl Default for Connect {
    fn default() -> Self {
        Self {
            stream: StreamOptions::default(),
            local: None,
            timeout: Duration::from_secs(10),
        }
    }
}

/// How the last attempt of [`first_success`] ended.
#[derive(Debug)]
enum Failure {
    Io {
        remote: SocketAddr,
        source: io::Error,
    },
    TimedOut,
}

/// Tries `remotes` in order, giving each its even share of the time left until `deadline`.
async fn first_success<T, F: Future<Output = io::Result<T>>>(
    remotes: &[SocketAddr],
    deadline: Instant,
    mut attempt: impl FnMut(SocketAddr) -> F,
) -> Result<T, Failure> {
    let mut last = Failure::TimedOut;
    for (remote, attempts_left) in remotes.iter().copied().zip((1..=remotes.len()).rev()) {
        let now = Instant::now();
        let left = deadline.saturating_duration_since(now);
        let share = left / u32::try_from(attempts_left).unwrap_or(u32::MAX);
        last = match timeout_at(now + share, attempt(remote)).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(source)) => Failure::Io { remote, source },
            Err(_) => Failure::TimedOut,
        };
    }
    Err(last)
}

async fn open(
    remote: SocketAddr,
    local: Option<IpAddr>,
    options: StreamOptions,
) -> io::Result<TcpStream> {
    let socket = if remote.is_ipv6() {
        TcpSocket::new_v6()?
    } else {
        TcpSocket::new_v4()?
    };
    options.apply(&SockRef::from(&socket))?;
    if let Some(local) = local {
        socket.bind(SocketAddr::new(local, 0))?;
    }
    Ok(TcpStream::new(socket.connect(remote).await?, remote))
}

/// Stands in for a timeout that the clock can't hold.
const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    fn remotes(count: u16) -> Vec<SocketAddr> {
        (1..=count)
            .map(|port| SocketAddr::from(([192, 0, 2, 1], port)))
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn black_hole_leaves_the_next_address_its_share_of_the_time() {
        let started = Instant::now();
        let deadline = started + Duration::from_secs(9);
        let remotes = remotes(3);
        let mut begun = Vec::new();
        let port = first_success(&remotes, deadline, |remote| {
            begun.push(started.elapsed());
            async move {
                match remote.port() {
                    3 => Ok(3),
                    _ => pending().await,
                }
            }
        })
        .await;
        assert!(matches!(port, Ok(3)), "{port:?}");
        assert_eq!(begun, [0, 3, 6].map(Duration::from_secs));
    }

    #[tokio::test(start_paused = true)]
    async fn silent_addresses_end_at_the_deadline() {
        let started = Instant::now();
        let deadline = started + Duration::from_secs(9);
        let failure = first_success(&remotes(2), deadline, |_| pending::<io::Result<()>>()).await;
        assert!(matches!(failure, Err(Failure::TimedOut)));
        assert_eq!(started.elapsed(), Duration::from_secs(9));
    }

    #[tokio::test(start_paused = true)]
    async fn refusal_moves_on_at_once_and_the_last_one_is_reported() {
        let started = Instant::now();
        let deadline = started + Duration::from_secs(9);
        let failure: Result<(), _> = first_success(&remotes(2), deadline, |_| {
            ready(Err(io::ErrorKind::ConnectionRefused.into()))
        })
        .await;
        let Err(Failure::Io { remote, source }) = failure else {
            panic!("{failure:?}")
        };
        assert_eq!(remote.port(), 2);
        assert_eq!(source.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(started.elapsed(), Duration::ZERO);
    }
}
