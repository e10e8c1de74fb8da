//! `whimbrel bench` as a shell and its user see it.
#![cfg(unix)]

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

struct Server {
    child: Child,
    port: u16,
}

impl Server {
    /// Starts on a free port, without a store, and waits until it listens.
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_whimbrel"))
            .args(["serve", "--in-memory", "--listen", "tcp://127.0.0.1:0"])
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut log = BufReader::new(child.stderr.take().expect("piped"));
        let port = loop {
            let mut line = String::new();
            let count = log.read_line(&mut line).expect("text");
            assert!(count > 0, "ended before it listened");
            if let Some((_, port)) = line.split_once("listening on tcp://127.0.0.1:") {
                break port.trim().parse().expect("a port");
            }
        };
        Self { child, port }
    }

    /// Waits until so many clients are there, by the system's table of connections.
    #[cfg(target_os = "linux")]
    fn wait_for_clients(&self, count: u32) {
        let connections = || {
            let path = format!("/proc/{}/net/tcp", self.child.id());
            let table = std::fs::read_to_string(path).unwrap_or_default();
            let local = format!(":{:04X}", self.port);
            let established = |line: &&str| {
                let mut fields = line.split_whitespace().skip(1);
                let is_local = fields.next().is_some_and(|field| field.ends_with(&local));
                is_local && fields.nth(1) == Some("01")
            };
            table.lines().filter(established).count()
        };
        let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while connections() < count as usize {
            assert!(std::time::Instant::now() < end, "no clients came");
            std::thread::yield_now();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already where a test has seen to that.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs to the end: exit status, and what was said on standard output and on standard error.
fn bench(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_whimbrel"))
        .arg("bench")
        .args(arguments)
        .output()
        .expect("the binary runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (
        output.status.code().expect("no signal"),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn every_scenario_is_clean_against_the_broker_of_the_same_binary() {
    let server = Server::start();
    let url = format!("mqtt://127.0.0.1:{}", server.port);
    for arguments in [
        &["connect", "--clients", "50"][..],
        &["connect", "--clients", "20", "--rate", "200"],
        &["idle", "--clients", "20", "--duration", "0.2"],
        &["pairs", "--pairs", "3", "-m", "500", "-q", "1"],
        &["pairs", "-m", "200", "-q", "2", "--rate", "2k", "-V", "3.1"],
        &["fan-in", "--publishers", "5", "-m", "500"],
        &[
            "fan-out",
            "--subscribers",
            "5",
            "-m",
            "500",
            "--qos-sub",
            "0",
        ],
        &["shared", "-m", "500", "-V", "3.1.1", "-i", "5"],
        &["shared", "-d", "0.3", "--warm-up", "0.1", "--threads", "2"],
        &["retained", "--messages", "100", "-q", "1"],
        &["subscriptions", "--clients", "5", "-m", "500", "-q", "1"],
        &[
            "subscriptions",
            "--filters",
            "30",
            "-d",
            "0.3",
            "--churn",
            "500",
        ],
        &["offline", "--messages", "500", "--sessions", "7"],
        &["offline", "--messages", "100", "-q", "2", "-V", "3.1.1"],
    ] {
        let (code, stdout, stderr) = bench(&[arguments, &[url.as_str()]].concat());
        assert_eq!(code, 0, "{arguments:?}: {stdout}{stderr}");
        assert!(
            stdout.starts_with(&format!("{}: ", arguments[0])),
            "{stdout}"
        );
        assert!(stdout.ends_with("clean\n"), "{stdout}");
        assert!(stdout.contains("p99.9"), "{stdout}");
        // No terminal, no progress.
        assert_eq!(stderr, "");
    }
}

#[test]
fn json_is_one_object_with_the_figures_and_the_command_without_its_password() {
    let server = Server::start();
    let port = server.port.to_string();
    let pid = server.child.id().to_string();
    let mut arguments = vec![
        "pairs",
        "-h",
        "127.0.0.1",
        "-p",
        &port,
        "-u",
        "ann",
        "-P",
        "secret",
        "-m",
        "300",
        "--json",
    ];
    if cfg!(target_os = "linux") {
        arguments.extend(["--pid", &pid]);
    }
    let (code, stdout, stderr) = bench(&arguments);
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert_eq!(stdout.lines().count(), 1);
    let report: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(report["scenario"], "pairs");
    assert_eq!(report["clean"], true);
    assert_eq!(report["traffic"]["delivered"], 300);
    assert_eq!(report["traffic"]["latency"]["count"], 300);
    assert!(report["traffic"]["latency"]["p999_us"].as_f64() > Some(0.0));
    assert_eq!(report["findings"]["lost"], 0);
    let command = report["command"].to_string();
    assert!(
        command.contains("pairs") && command.contains("***"),
        "{command}"
    );
    assert!(!command.contains("secret"), "{command}");
    if cfg!(target_os = "linux") {
        assert!(report["process"]["rss_after_bytes"].as_u64() > Some(1_000_000));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_broker_that_goes_away_is_a_fault_and_status_1() {
    let mut server = Server::start();
    let port = server.port.to_string();
    let arguments = ["idle", "-h", "127.0.0.1", "-p", &port, "--clients", "5"];
    let mut child = Command::new(env!("CARGO_BIN_EXE_whimbrel"))
        .arg("bench")
        .args(arguments)
        .args(["--duration", "60"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    server.wait_for_clients(5);
    server.child.kill().expect("it runs");
    let status = child.wait().expect("it ends");
    let stdout = std::io::read_to_string(child.stdout.take().expect("piped")).expect("text");
    assert_eq!(status.code(), Some(1), "{stdout}");
    assert!(
        stdout.contains("FAULT: 5 clients lost their connection"),
        "{stdout}"
    );
}

#[test]
fn what_cannot_run_is_one_line_and_status_2() {
    let closed = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = closed.local_addr().expect("bound").port().to_string();
    drop(closed);
    for (arguments, words) in [
        (
            &["pairs", "-h", "127.0.0.1", "-p", &port][..],
            &["could not be set up", "check that a server listens there"][..],
        ),
        (
            &["connect", "-h", "127.0.0.1", "-p", &port],
            &["could not be set up"],
        ),
        (&["pairs", "-h", "host.invalid"], &["host.invalid"]),
        (&["pairs", "--size", "23"], &["24 bytes"]),
        (&["pairs", "--pairs", "0"], &["publishers", "1 to"]),
        (&["pairs", "--qos", "3"], &["--qos", "0..=2"]),
        (&["pairs", "-m", "5", "-d", "3"], &["--duration"]),
        (&["pairs", "-i", "5", "-r", "3"], &["--rate"]),
        (&["pairs", "-i", "0"], &["--in-flight"]),
        (&["fan-in", "--rate", "0"], &["--rate", "0.5"]),
        (&["pairs", "--topic-prefix", "a/#"], &["topic prefix"]),
        (&["pairs", "mqtt://host", "-p", "1"], &["--port"]),
        (&["pairs", "mqtts://host"], &["mqtt://"]),
        (&["pairs", "--pid", "4294967295"], &["process 4294967295"]),
        (&["pairs", "-V", "4"], &["3.1.1"]),
        (&["pairs", "-P", "x", "-V", "3.1.1"], &["user name"]),
        (&["storm"], &["storm"]),
    ] {
        let (code, stdout, stderr) = bench(arguments);
        assert_eq!(code, 2, "{arguments:?}: {stdout}{stderr}");
        assert_eq!(stdout, "", "{arguments:?}");
        assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
        for word in words {
            assert!(stderr.contains(word), "{arguments:?}: {stderr}");
        }
    }
}

#[test]
fn help_is_there_though_h_is_the_host() {
    for scenario in [
        "connect", "idle", "pairs", "fan-in", "fan-out", "shared", "retained",
    ] {
        let (code, stdout, _) = bench(&[scenario, "--help"]);
        assert_eq!(code, 0, "{scenario}");
        for flag in [
            "--host",
            "--protocol-version",
            "--timeout",
            "--pid",
            "--json",
        ] {
            assert!(stdout.contains(flag), "{scenario}: {flag}");
        }
    }
}
