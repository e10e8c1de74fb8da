//! [`Server`]: a Whimbrel broker in this process.

use std::net::SocketAddr;
use std::path::Path;

use whimbrel_broker::Broker;

/// A broker on a loopback port.
#[derive(Debug)]
pub struct Server {
    broker: Broker,
    address: SocketAddr,
}

impl Server {
    /// A broker that keeps nothing, on a free port.
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    /// A broker that keeps its sessions in a directory, on a free port.
    pub async fn start_in(directory: &Path) -> Self {
        Self::start_with(Some(directory)).await
    }

    async fn start_with(directory: Option<&Path>) -> Self {
        let address = "tcp://127.0.0.1:0".parse().expect("an address");
        let mut builder = Broker::builder().listen(address);
        if let Some(directory) = directory {
            builder = builder.data_dir(directory);
        }
        let broker = builder.start().await.expect("a broker");
        let address = *broker.local_addrs().first().expect("a listener");
        Self { broker, address }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops it.
    pub async fn stop(self) {
        self.broker.shutdown().await;
    }
}
