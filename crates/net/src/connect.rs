//! The client's side of a connection.

use std::{io, net::SocketAddr, time::Duration};

use socket2::SockRef;
use thiserror::Error;
use tokio::{
    net::TcpSocket,
    time::{Instant, timeout_at},
};

use crate::{
    address::{Address, Host},
    options::{OptionsError, StreamOptions},
    stream::TcpStream,
};

/// Opens TCP connections with a set of options and a limit on the time it may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpConnect {
    /// Options of the connected stream, set before the handshake begins.
    pub stream: StreamOptions,
    /// The whole time a connect may take, name look-up and all addresses of the name included.
    /// Default 10 s: three tries of a SYN, which the system repeats after 1 s and 3 s.
    pub timeout: Duration,
}

impl TcpConnect {
    /// Connects to `address`, trying each address of a name in turn.
    ///
    /// Each attempt may take its even share of the time that is left, so that one black hole does
    /// not use up what the next address would need. Cancel-safe: a dropped call closes what it
    /// had opened.
    ///
    /// # Errors
    /// [`ConnectError`], for the last address tried.
    pub async fn connect(&self, address: &Address) -> Result<TcpStream, ConnectError> {
        self.stream.validate()?;
        let now = Instant::now();
        let deadline = now.checked_add(self.timeout).unwrap_or(now + TIMEOUT_MAX);
        let remotes = match timeout_at(deadline, address.resolve()).await {
            Ok(Ok(remotes)) => remotes,
            Ok(Err(source)) => {
                return Err(ConnectError::Resolve {
                    host: address.host().clone(),
                    source,
                });
            }
            Err(_) => {
                return Err(ConnectError::TimedOut {
                    address: address.clone(),
                    limit: self.timeout,
                });
            }
        };
        match first_success(&remotes, deadline, |remote| open(remote, self.stream)).await {
            Ok(stream) => Ok(stream),
            Err(Failure::Io { remote, source }) => Err(ConnectError::Connect { remote, source }),
            Err(Failure::TimedOut) => Err(ConnectError::TimedOut {
                address: address.clone(),
                limit: self.timeout,
            }),
        }
    }
}

impl Default for TcpConnect {
    fn default() -> Self {
        Self {
            stream: StreamOptions::default(),
            timeout: Duration::from_secs(10),
        }
    }
}

/// Why [`TcpConnect::connect`] gave up; each message says what to look at.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The host's name could not be looked up.
    #[error("cannot resolve {host}, check the name or use an IP address")]
    Resolve {
        /// The host that was looked up.
        host: Host,
        /// The resolver's answer.
        source: io::Error,
    },
    /// The last address tried did not take the connection.
    #[error("cannot connect to {remote}, check that a server listens there")]
    Connect {
        /// The socket address that was tried.
        remote: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// The time ran out.
    #[error("no connection to {address} within {limit:?}, check the route and the firewalls on it")]
    TimedOut {
        /// The address that was asked for.
        address: Address,
        /// [`TcpConnect::timeout`].
        limit: Duration,
    },
    /// An option is out of range.
    #[error(transparent)]
    Options(#[from] OptionsError),
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

async fn open(remote: SocketAddr, options: StreamOptions) -> io::Result<TcpStream> {
    let socket = if remote.is_ipv6() {
        TcpSocket::new_v6()?
    } else {
        TcpSocket::new_v4()?
    };
    options.apply(&SockRef::from(&socket))?;
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
