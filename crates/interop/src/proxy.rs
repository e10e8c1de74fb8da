//! [`Proxy`]: a TCP proxy that cuts links, in the middle of a packet too, and freezes them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A proxy in front of one server.
///
/// Each link passes bytes in both directions until it is cut, or has passed as many as it may.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    control: Arc<Control>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Control {
    server: watch::Sender<SocketAddr>,
    /// Links of an older generation end.
    generation: watch::Sender<u64>,
    is_frozen: watch::Sender<bool>,
    /// Bytes that a new link passes towards the server before it is cut; `u64::MAX` for any number.
    bytes_max: AtomicU64,
    links: AtomicU64,
}

impl Proxy {
    /// A proxy on a free port of the loopback.
    pub async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let control = Arc::new(Control {
            server: watch::Sender::new(server),
            generation: watch::Sender::new(0),
            is_frozen: watch::Sender::new(false),
            bytes_max: AtomicU64::new(u64::MAX),
            links: AtomicU64::new(0),
        });
        let task = tokio::spawn(accept(listener, control.clone()));
        Self {
            address,
            control,
            task,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Links that were opened so far.
    pub fn links(&self) -> u64 {
        self.control.links.load(Ordering::Relaxed)
    }

    /// Sends new links elsewhere.
    pub fn set_server(&self, server: SocketAddr) {
        self.control.server.send_replace(server);
    }

    /// Cuts all links.
    pub fn cut(&self) {
        self.control
            .generation
            .send_modify(|generation| *generation += 1);
    }

    /// Lets new links pass so many bytes towards the server before they are cut.
    pub fn cut_after(&self, bytes: u64) {
        self.control.bytes_max.store(bytes, Ordering::Relaxed);
    }

    /// Passes nothing more, or goes on, without a word to either side: a half-open link.
    pub fn freeze(&self, is_frozen: bool) {
        self.control.is_frozen.send_replace(is_frozen);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, control: Arc<Control>) {
    while let Ok((client, _)) = listener.accept().await {
        control.links.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(pass(client, control.clone()));
    }
}

async fn pass(client: TcpStream, control: Arc<Control>) {
    let mut generation = control.generation.subscribe();
    generation.mark_unchanged();
    let server = *control.server.borrow();
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    let bytes_max = control.bytes_max.load(Ordering::Relaxed);
    let (client_reader, client_writer) = client.into_split();
    let (server_reader, server_writer) = server.into_split();
    let frozen = || control.is_frozen.subscribe();
    tokio::select! {
        () = copy(client_reader, server_writer, bytes_max, frozen()) => {}
        () = copy(server_reader, client_writer, u64::MAX, frozen()) => {}
        _ = generation.changed() => {}
    }
}

async fn copy(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut bytes_left: u64,
    mut is_frozen: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while bytes_left > 0 {
        let Ok(count @ 1..) = from.read(&mut buffer).await else {
            return;
        };
        if is_frozen.wait_for(|is_frozen| !is_frozen).await.is_err() {
            return;
        }
        let count = count.min(usize::try_from(bytes_left).unwrap_or(usize::MAX));
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
        bytes_left -= count as u64;
    }
}
