//! One run: a fresh broker on a free port, `whimbrel bench` against it, and both gone again.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::brokers::{Broker, Version};
use super::workloads::{Needs, Workload};

/// How a run is to be.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) whimbrel: &'a Path,
    pub(super) duration: Duration,
    pub(super) timeout: Duration,
}

impl Plan<'_> {
    /// Runs a workload on a broker, and returns what `whimbrel bench` says of it.
    ///
    /// # Errors
    ///
    /// In words, where there is no report. A broker that loses messages is no error: that is in the report.
    pub(super) fn run(&self, broker: &Broker, workload: &Workload) -> Result<Value, String> {
        let version = match workload.needs {
            Needs::V5 => Version::V5,
            Needs::Nothing | Needs::QoS2 => Version::V311,
        };
        let folder = tempfile::tempdir().map_err(|error| format!("no folder: {error}"))?;
        let port = free_port().map_err(|error| format!("no free port: {error}"))?;
        let started = Started::start(broker, port, version, folder.path())?;
        let output = folder.path().join("report.json");
        let mut bench = self.bench(workload, version, port, started.child.id());
        let file = File::create(&output).map_err(|error| error.to_string())?;
        bench
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(Stdio::piped());
        let child = bench.spawn();
        let mut child = Ended(child.map_err(|error| format!("whimbrel bench: {error}"))?);
        let status = child
            .wait(self.timeout + GRACE)
            .map_err(|error| error.to_string())?;
        if status.is_none() {
            return Err(format!("no end after {} s", self.timeout.as_secs()));
        }
        let text = fs::read_to_string(&output).map_err(|error| error.to_string())?;
        serde_json::from_str(&text).map_err(|_| child.complaint())
    }

    fn bench(&self, workload: &Workload, version: Version, port: u16, pid: u32) -> Command {
        let mut command = Command::new(self.whimbrel);
        let version = match version {
            Version::V311 => "3.1.1",
            Version::V5 => "5",
        };
        command
            .arg("bench")
            .args(workload.command(self.duration))
            .args(["--host", "127.0.0.1", "--port", &port.to_string()])
            .args(["--protocol-version", version, "--pid", &pid.to_string()])
            .args(["--timeout", &self.timeout.as_secs_f64().to_string()])
            .args(["--json", "--quiet"]);
        command
    }
}

/// A broker that takes connections, until it is dropped.
struct Started {
    child: Child,
}

impl Started {
    fn start(broker: &Broker, port: u16, version: Version, folder: &Path) -> Result<Self, String> {
        let said = folder.join("broker.log");
        let log = File::create(&said).map_err(|error| error.to_string())?;
        let errors = log.try_clone().map_err(|error| error.to_string())?;
        let command = broker.command(port, version, folder);
        let mut command = command.map_err(|error| format!("no configuration: {error}"))?;
        let command = command.stdin(Stdio::null()).stdout(log).stderr(errors);
        let child = command
            .spawn()
            .map_err(|error| format!("it does not start: {error}"))?;
        let mut started = Self { child };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let deadline = Instant::now() + START_TIMEOUT;
        while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
            let ended = started
                .child
                .try_wait()
                .map_err(|error| error.to_string())?;
            if let Some(status) = ended {
                let said = fs::read_to_string(&said).unwrap_or_default();
                let line = said.lines().last().unwrap_or("it said nothing");
                return Err(format!("it ended at its start with {status}: {line}"));
            }
            if Instant::now() > deadline {
                return Err(format!(
                    "it did not listen in {} s",
                    START_TIMEOUT.as_secs()
                ));
            }
            pause(TICK);
        }
        // It may have something left to do at its start.
        pause(SETTLE);
        Ok(started)
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // Nothing of it is needed any more, so it is not asked to go. It may have gone by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that is ended when it is dropped.
struct Ended(Child);

impl Ended {
    /// Waits for its end, for so long.
    fn wait(&mut self, limit: Duration) -> io::Result<Option<ExitStatus>> {
        let deadline = Instant::now() + limit;
        loop {
            let status = self.0.try_wait()?;
            if status.is_some() || Instant::now() > deadline {
                return Ok(status);
            }
            pause(TICK);
        }
    }

    /// The last line that it has written to standard error.
    fn complaint(&mut self) -> String {
        let errors = self.0.stderr.take();
        let text = errors.and_then(|errors| io::read_to_string(errors).ok());
        let text = text.unwrap_or_default();
        let line = text.lines().last().unwrap_or("whimbrel bench said nothing");
        line.trim_start_matches("error: ").to_owned()
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        // It has ended already, unless its time was up.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port of loopback that nobody listens on. Somebody may take it before the broker does; then the broker does not start.
fn free_port() -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

#[expect(
    clippy::disallowed_methods,
    reason = "this task has one thread and no clients: there is nothing that it keeps waiting"
)]
fn pause(duration: Duration) {
    thread::sleep(duration);
}

const TICK: Duration = Duration::from_millis(20);
const SETTLE: Duration = Duration::from_millis(200);
const START_TIMEOUT: Duration = Duration::from_secs(15);
/// For clients to disconnect when their time is up.
const GRACE: Duration = Duration::from_secs(20);
