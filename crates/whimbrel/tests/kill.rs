//! The client crate against `whimbrel serve`, killed with SIGKILL under load and started again.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::sleep;
use whimbrel_client::codec::{ProtocolVersion, QoS};
use whimbrel_client::{Client, Options, Reconnect};
use whimbrel_interop::numbers_arrive;

/// `whimbrel serve`, killed at the end.
struct Served {
    child: Child,
    port: u16,
}

impl Served {
    /// On this port, 0 for a free one.
    fn start(directory: &Path, port: u16) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_whimbrel"))
            .args(["serve", "--listen", &format!("tcp://127.0.0.1:{port}")])
            .arg("--data-dir")
            .arg(directory)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let mut lines = stderr.lines().map_while(Result::ok);
        let listening = lines.find_map(|line| {
            let (_, port) = line.split_once("listening on tcp://127.0.0.1:")?;
            port.trim().parse().ok()
        });
        // Nobody reads on: what it logs later must not stop it.
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            child,
            port: listening.expect("it listens"),
        }
    }
}

impl Served {
    fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it is a child");
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.kill();
    }
}

fn client(port: u16, version: ProtocolVersion, client_id: &str) -> Client {
    let mut reconnect = Reconnect::default();
    reconnect.delay_min = Duration::from_millis(5);
    reconnect.delay_max = Duration::from_millis(100);
    let options = Options::new("127.0.0.1", port)
        .version(version)
        .client_id(client_id)
        .clean_start(false)
        .reconnect(reconnect);
    Client::spawn(options).expect("valid options")
}

#[tokio::test]
async fn a_killed_broker_and_its_clients_lose_nothing_and_repeat_no_qos_2() {
    for version in [ProtocolVersion::V311, ProtocolVersion::V5] {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let directory = tempfile::tempdir().expect("a directory");
            let mut served = Served::start(directory.path(), 0);
            let port = served.port;
            let publisher = client(port, version, "publisher");
            let subscriber = client(port, version, "subscriber");
            let fail = async {
                for _ in 0..3 {
                    sleep(Duration::from_millis(80)).await;
                    served.kill();
                    served = Served::start(directory.path(), port);
                }
            };
            numbers_arrive(publisher, subscriber, qos, fail).await;
        }
    }
}
