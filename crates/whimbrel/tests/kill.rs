//! The client crate against `whimbrel serve`, killed with SIGKILL under load and started again.

use std::future::IntoFuture;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::{sleep, timeout};
use whimbrel_client::codec::{ProtocolVersion, QoS};
use whimbrel_client::{Client, Options, Reconnect};

const PATIENCE: Duration = Duration::from_secs(60);

/// Messages that are published.
const COUNT: u32 = 3_000;

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

impl Drop for Served {
    fn drop(&mut self) {
        self.child.kill().expect("it is running");
        self.child.wait().expect("it is a child");
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
    for (version, qos) in [
        (ProtocolVersion::V311, QoS::AtLeastOnce),
        (ProtocolVersion::V5, QoS::ExactlyOnce),
    ] {
        let directory = tempfile::tempdir().expect("a directory");
        let mut served = Served::start(directory.path(), 0);
        let port = served.port;
        let subscriber = client(port, version, "subscriber");
        let subscribed = timeout(PATIENCE, subscriber.subscribe("n").qos(qos).into_future()).await;
        let mut messages = subscribed.expect("in time").expect("granted");
        let publisher = client(port, version, "publisher");
        let publishing = tokio::spawn(async move {
            for number in 0..COUNT {
                let publish = publisher.publish("n", number.to_string()).qos(qos);
                drop(publish.enqueue().await.expect("accepted"));
                if number % 8 == 0 {
                    sleep(Duration::from_millis(1)).await;
                }
            }
            publisher.disconnect().await
        });
        let receiving = tokio::spawn(async move {
            let (mut next, mut again) = (0_u32, 0);
            while next < COUNT {
                let message = messages.recv().await.expect("the client goes on");
                let text = std::str::from_utf8(message.payload()).expect("a number");
                let number: u32 = text.parse().expect("a number");
                assert!(number <= next, "{number} came before {next}");
                if number == next {
                    next += 1;
                } else {
                    again += 1;
                }
            }
            (again, subscriber)
        });
        for _ in 0..3 {
            sleep(Duration::from_millis(100)).await;
            drop(served);
            served = Served::start(directory.path(), port);
        }
        let published = timeout(PATIENCE, publishing).await.expect("in time");
        published.expect("no panic").expect("all is acknowledged");
        let received = timeout(PATIENCE, receiving).await.expect("nothing is lost");
        let (again, subscriber) = received.expect("in order");
        assert!(qos != QoS::ExactlyOnce || again == 0, "{again} came twice");
        subscriber.disconnect().await.expect("in order");
    }
}
