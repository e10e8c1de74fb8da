//! A broker on a thread of its own.

use std::net::SocketAddr;
use std::thread::JoinHandle;

use tokio::sync::oneshot;
use whimbrel_broker::{Broker, BrokerConfig, Builder};

/// Serves on a free port of loopback until it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(BrokerConfig::default())
    }

    pub(crate) fn with(mut config: BrokerConfig) -> Self {
        config.core.shards = 1;
        Self::built(move || Broker::builder().config(config))
    }

    pub(crate) fn built(builder: impl FnOnce() -> Builder + Send + 'static) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let listen = "tcp://127.0.0.1:0".parse().expect("an address");
                let broker = builder().listen(listen).start().await.expect("it starts");
                tell.send(broker.local_addrs()[0]).expect("somebody waits");
                // Dropped or told, it is over.
                let _ = stopped.await;
                broker.shutdown().await;
            });
        });
        Self {
            address: told.recv().expect("it starts"),
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(
                matches!(ended, Some(Ok(()))),
                "the broker's thread panicked"
            );
        }
    }
}
