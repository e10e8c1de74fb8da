//! [`Server`]: a Whimbrel broker in this process, which can be killed and started again on its port.

use std::net::SocketAddr;
use std::path::Path;

use whimbrel_broker::Broker;

/// A broker on a loopback port.
pub struct Server {
    broker: Broker,
    address: SocketAddr,
}

impl Server {
    /// A broker that keeps nothing, on a free port.
    pub async fn start() -> Self {
        Self::start_with(None, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// A broker that keeps its sessions in a directory, on this port.
    pub async fn start_in(directory: &Path, address: Option<SocketAddr>) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::start_with(Some(directory), address.unwrap_or(any)).await
    }

    async fn start_with(directory: Option<&Path>, address: SocketAddr) -> Self {
        let address = format!("tcp://{address}").parse().expect("an address");
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
