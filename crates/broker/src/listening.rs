//! Listeners: opened on a shard's thread, and accepting there.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use whimbrel_net::{Address, ListenOptions, TcpListener};

use crate::error::StartError;
use crate::handshake::greet;
use crate::thread::Thread;
use crate::transport::Transport;

/// Opens a listener on every address that `address` stands for.
///
/// A name often has an IPv6 address on a machine without IPv6: it is left out if there is another.
pub(crate) async fn open(
    thread: Rc<Thread>,
    address: Address,
    options: ListenOptions,
) -> Result<Vec<SocketAddr>, StartError> {
    let resolved = address.resolve().await;
    let candidates = resolved.map_err(|source| StartError::Resolve {
        address: address.clone(),
        source,
    })?;
    let config = &thread.shared.config;
    if thread.shared.hooks.authenticator.is_none() && !config.allow_anonymous {
        let beyond = candidates.iter().find(|socket| !socket.ip().is_loopback());
        if beyond.is_some() {
            return Err(StartError::AnonymousBeyondLoopback { address });
        }
    }
    let failed = |source| StartError::Listen {
        address: address.clone(),
        source,
    };
    let mut listeners = Vec::new();
    let mut left_out = None;
    for candidate in candidates {
        match TcpListener::bind(candidate, &options) {
            Ok(listener) => listeners.push(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => left_out = Some(error),
            Err(error) => return Err(failed(error)),
        }
    }
    if let (true, Some(error)) = (listeners.is_empty(), left_out) {
        return Err(failed(error));
    }
    let mut local_addrs = Vec::new();
    for listener in &listeners {
        local_addrs.push(listener.local_addr().map_err(failed)?);
    }
    for listener in listeners {
        let task = thread.spawn(accept(Rc::clone(&thread), listener));
        thread.add_listener(task);
    }
    Ok(local_addrs)
}

/// Accepts until the listener breaks or the task is ended.
async fn accept(thread: Rc<Thread>, mut listener: TcpListener) {
    let counters = listener.counters();
    let mut shortages_seen = 0;
    loop {
        // Without a permit, clients wait in the backlog.
        let handshakes = Arc::clone(&thread.shared.handshakes);
        let Ok(permit) = handshakes.acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok(stream) => {
                let shortages = counters.shortages();
                if shortages > shortages_seen {
                    tracing::warn!(
                        failures = shortages - shortages_seen,
                        "connections had to wait: the process was out of file descriptors or memory"
                    );
                    shortages_seen = shortages;
                }
                let peer = Some(stream.peer_addr());
                let transport = Transport::Tcp(stream.into_inner());
                thread.spawn(greet(Rc::clone(&thread), transport, peer, permit));
            }
            Err(error) => {
                tracing::error!(%error, "a listener broke; it accepts no more connections");
                return;
            }
        }
    }
}
