//! `whimbrel conformance`, and what it finds at `whimbrel serve`.
#![cfg(unix)]

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use whimbrel_conformance::codec::ProtocolVersion;
use whimbrel_conformance::{Order, Report, RunOptions, Target, Verdict, run};

/// `whimbrel serve` on a free port, killed at the end.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    /// Without a store.
    fn start() -> Server {
        Server::start_with(&["--in-memory"])
    }

    fn start_with(arguments: &[&str]) -> Server {
        let mut child = Command::new(env!("CARGO_BIN_EXE_whimbrel"))
            .args(["serve", "--listen", "tcp://127.0.0.1:0", "--log", "warn"])
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        let port = loop {
            let mut line = String::new();
            let count = stderr.read_line(&mut line).expect("text");
            assert!(count > 0, "ended before it listened");
            if let Some((_, port)) = line.split_once("listening on tcp://127.0.0.1:") {
                break port.trim().parse().expect("a port");
            }
        };
        Server { child, port }
    }

    fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }
}

fn whimbrel(arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_whimbrel"))
        .arg("conformance")
        .args(arguments)
        .output();
    output.expect("the binary runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

fn json_file(name: &str) -> PathBuf {
    let name = format!("whimbrel-conformance-{}-{name}.json", std::process::id());
    std::env::temp_dir().join(name)
}

#[test]
fn whimbrel_passes_in_every_version() {
    passes_in_every_version(&Server::start(), "in-memory");
}

#[test]
fn whimbrel_with_a_store_passes_in_every_version() {
    let directory = tempfile::tempdir().expect("room for a directory");
    let path = directory.path().to_str().expect("a path of text");
    let server = Server::start_with(&["--data-dir", path]);
    passes_in_every_version(&server, "store");
}

fn passes_in_every_version(server: &Server, name: &str) {
    let file = json_file(name);
    let path = file.to_str().expect("a path of text");
    let output = whimbrel(&["--target", &server.url(), "--json", path]);
    let report = text(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{report}\n{}",
        text(&output.stderr)
    );
    let json = std::fs::read_to_string(&file).expect("the report");
    std::fs::remove_file(&file).expect("it is there");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    for (index, version) in ["3.1", "3.1.1", "5.0"].into_iter().enumerate() {
        let section = &json["sections"][index];
        assert_eq!(section["version"], version);
        assert_eq!(section["summary"]["fail"], 0, "{version}");
        assert!(section["summary"]["pass"].as_u64() > Some(20), "{version}");
        assert!(report.contains(&format!("\nMQTT {version}: ")), "{report}");
    }
}

#[test]
fn the_order_of_cases_changes_no_verdict() {
    let server = Server::start();
    let target: Target = server.url().parse().expect("a target");
    let in_order = |order| {
        let mut options = RunOptions::default();
        options.versions = vec![ProtocolVersion::V5];
        options.order = order;
        options
    };
    let declared = in_order(Order::Declared);
    let reversed = in_order(Order::Reversed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime");
    let declared = runtime
        .block_on(run(&target, &declared, |_| {}))
        .expect("a report");
    let reversed = runtime
        .block_on(run(&target, &reversed, |_| {}))
        .expect("a report");
    assert_eq!(differing(&declared, &reversed), Vec::<String>::new());
}

fn differing(one: &Report, other: &Report) -> Vec<String> {
    let cases = |report: &Report| report.sections[0].cases.clone();
    let kind = |verdict: &Verdict| std::mem::discriminant(verdict);
    let (one, other) = (cases(one), cases(other));
    assert!(one.len() > 80 && one.len() == other.len());
    let pairs = one.iter().zip(&other);
    let differ = pairs.filter(|(one, other)| kind(&one.verdict) != kind(&other.verdict));
    differ
        .map(|(one, other)| format!("{one:?}\n{other:?}"))
        .collect()
}

#[test]
fn only_runs_the_cases_of_that_statement_in_that_version() {
    let server = Server::start();
    let url = server.url();
    let output = whimbrel(&[
        "--target",
        &url,
        "--version",
        "3.1.1",
        "--only",
        "MQTT-3.12.4-1",
    ]);
    let report = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{report}");
    assert!(report.contains("pass 3:MQTT-3.12.4-1 "), "{report}");
    assert!(
        report.contains("MQTT 3.1.1: 1 pass, 0 fail, 0 skip, 0 not visible"),
        "{report}"
    );
}

#[test]
fn an_unknown_statement_is_one_line_and_status_2() {
    let output = whimbrel(&["--target", "mqtt://127.0.0.1:1", "--only", "MQTT-9.9.9-9"]);
    assert_eq!(output.status.code(), Some(2));
    let complaint = text(&output.stderr);
    assert_eq!(complaint.lines().count(), 1, "{complaint}");
    assert!(
        complaint.contains("MQTT-9.9.9-9") && complaint.contains("--list"),
        "{complaint}"
    );
}

#[test]
fn a_target_that_is_none_is_status_2() {
    let output = whimbrel(&["--target", "https://127.0.0.1:1883"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("mqtt://host:port"));
    assert_eq!(whimbrel(&[]).status.code(), Some(2));
}

#[test]
fn nobody_there_is_status_3_and_says_what_to_do() {
    // Port 1 of the loopback interface is nobody's.
    let output = whimbrel(&["--target", "mqtt://127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(3));
    let complaint = text(&output.stderr);
    assert_eq!(complaint.lines().count(), 1, "{complaint}");
    assert!(complaint.contains("start the broker"), "{complaint}");
}

#[test]
fn the_list_has_every_statement_with_its_cases() {
    let output = whimbrel(&["--list"]);
    assert_eq!(output.status.code(), Some(0));
    let list = text(&output.stdout);
    assert!(list.contains("5:MQTT-3.12.4-1") && list.contains("[each_pingreq_gets_a_pingresp]"));
    let statements = list.lines().filter(|line| !line.starts_with(' ')).count();
    assert_eq!(statements, whimbrel_conformance::Statement::all().len());
}
