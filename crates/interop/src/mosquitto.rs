//! [`Mosquitto`]: Debian's broker as a process, to be killed and started again.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

/// A mosquitto that keeps nothing, on one port of the loopback.
#[derive(Debug)]
pub struct Mosquitto {
    address: SocketAddr,
    configuration: PathBuf,
    process: Option<Child>,
}

impl Mosquitto {
    /// One on a free port; `directory` has its configuration.
    pub async fn start(directory: &Path) -> Self {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = free.local_addr().expect("a bound socket");
        drop(free);
        let configuration = directory.join("mosquitto.conf");
        let port = address.port();
        let lines =
            format!("listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n");
        std::fs::write(&configuration, lines).expect("a directory that can be written");
        let mut mosquitto = Self {
            address,
            configuration,
            process: None,
        };
        mosquitto.start_again().await;
        mosquitto
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Kills it, as SIGKILL does, with all that it has in memory.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("it is running");
            process.wait().expect("it is a child");
        }
    }

    /// Starts it after it was killed, on the same port.
    pub async fn start_again(&mut self) {
        let program = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"];
        let program = program
            .into_iter()
            .find(|program| Path::new(program).exists());
        let process = Command::new(program.unwrap_or("mosquitto"))
            .arg("-c")
            .arg(&self.configuration)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto is missing; install it: apt-get install mosquitto");
        self.process = Some(process);
        let began = Instant::now();
        while TcpStream::connect(self.address).await.is_err() {
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "mosquitto does not listen"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
    }
}
