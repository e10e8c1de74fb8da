//! `whimbrel store`, on what `whimbrel serve` has kept.
#![cfg(unix)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

fn whimbrel() -> Command {
    Command::new(env!("CARGO_BIN_EXE_whimbrel"))
}

/// Runs `whimbrel store` to the end.
fn run(arguments: &[&str]) -> Output {
    let output = whimbrel().arg("store").args(arguments).output();
    output.expect("the binary runs")
}

/// Its lines of JSON, after a run that succeeded.
fn succeeds(arguments: &[&str]) -> Vec<Value> {
    let output = run(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}");
    assert_eq!(stderr, "", "{arguments:?}");
    lines(&output)
}

fn lines(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).expect("text");
    let line = |line| serde_json::from_str(line).expect("a line of JSON");
    text.lines().map(line).collect()
}

/// Fails with `status` and one line that holds each of `words`.
fn fails(output: &Output, status: i32, words: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "no {word}: {stderr}");
    }
}

/// `whimbrel serve` on a directory.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(directory: &Path) -> Self {
        let mut child = whimbrel()
            .args(["serve", "--listen", "tcp://127.0.0.1:0", "--data-dir"])
            .arg(directory)
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
        Self { child, port }
    }

    /// A client of MQTT 3.1.1 with this id, with CONNECT flags that say whether its session is clean.
    fn connect(&self, client_id: u8, flags: u8) -> TcpStream {
        let mut client = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        let timeout = Some(Duration::from_secs(10));
        client.set_read_timeout(timeout).expect("valid");
        let connect = [
            0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, flags, 0, 0, 0, 1, client_id,
        ];
        exchange(&mut client, &connect, &[0x20, 2, 0, 0]);
        client
    }
}

impl Server {
    /// Ends it in good order.
    fn stop(mut self) {
        let sent = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status();
        assert!(sent.expect("kill runs").success());
        assert_eq!(self.child.wait().expect("it ends").code(), Some(0));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already where it was told to.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn exchange(client: &mut TcpStream, request: &[u8], answer: &[u8]) {
    client.write_all(request).expect("it reads");
    let mut got = vec![0; answer.len()];
    client.read_exact(&mut got).expect("an answer");
    assert_eq!(got, answer, "to {request:x?}");
}

const MESSAGES: u8 = 20;

/// A directory with a session, a queue of [`MESSAGES`] and a retained message, of a broker that was killed.
fn filled() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("room for a directory");
    let data = directory.path().join("data");
    let server = Server::start(&data);
    let mut away = server.connect(b's', 0);
    let subscribe = b"\x82\x06\0\x01\0\x01t\x01";
    exchange(&mut away, subscribe, b"\x90\x03\0\x01\x01");
    drop(away);
    let mut publisher = server.connect(b'p', 2);
    for payload in 0..MESSAGES {
        let publish = [0x32, 6, 0, 1, b't', 0, 1, payload];
        exchange(&mut publisher, &publish, &[0x40, 2, 0, 1]);
    }
    let retained = [0x33, 6, 0, 1, b'r', 0, 1, b'x'];
    exchange(&mut publisher, &retained, &[0x40, 2, 0, 1]);
    (directory, data)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a name of text")
}

#[test]
fn check_finds_a_store_sound_after_kill_9() {
    let (_directory, data) = filled();
    let lines = succeeds(&["check", "--data-dir", text(&data)]);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0]["sound"], true);
    assert_eq!(lines[0]["damaged"], 0);
    assert_eq!(lines[0]["rows"]["messages"], u64::from(MESSAGES));
    assert_eq!(lines[0]["rows"]["retained"], 1);
}

#[test]
fn stats_tell_what_there_is_and_which_queue_is_longest() {
    let (_directory, data) = filled();
    let lines = succeeds(&["stats", "--data-dir", text(&data)]);
    assert_eq!(lines[0]["format"], 1);
    assert!(lines[0]["file_bytes"].as_u64().expect("a number") > 0);
    let of_table = |table: &str| lines.iter().find(|line| line["table"] == table);
    let messages = of_table("messages").expect("a line");
    assert_eq!(messages["rows"], u64::from(MESSAGES));
    assert_eq!(of_table("sessions").expect("a line")["rows"], 1);
    let queue = lines.iter().find(|line| line["name"] == "s");
    assert_eq!(queue.expect("a line")["messages"], u64::from(MESSAGES));
}

#[test]
fn what_is_exported_and_imported_is_exported_alike_and_served() {
    let (directory, data) = filled();
    let exported = run(&["export", "--data-dir", text(&data)]);
    assert_eq!(exported.status.code(), Some(0));
    assert!(lines(&exported).len() > usize::from(MESSAGES));
    let file = directory.path().join("exported.jsonl");
    succeeds(&["export", "--data-dir", text(&data), "--output", text(&file)]);
    let written = std::fs::read(&file).expect("it is there");
    assert_eq!(written, exported.stdout);

    let copy = directory.path().join("copy");
    let imported = succeeds(&["import", "--data-dir", text(&copy), "--input", text(&file)]);
    assert_eq!(imported[0]["lines"], lines(&exported).len());
    let again = run(&["export", "--data-dir", text(&copy)]);
    assert_eq!(again.stdout, exported.stdout);

    let onto = run(&["import", "--data-dir", text(&copy), "--input", text(&file)]);
    fails(&onto, 1, &[text(&copy), "has a store already"]);

    let server = Server::start(&copy);
    let mut away = TcpStream::connect(("127.0.0.1", server.port)).expect("it listens");
    exchange(
        &mut away,
        b"\x10\x0d\0\x04MQTT\x04\0\0\0\0\x01s",
        b"\x20\x02\x01\0",
    );
    for payload in 0..MESSAGES {
        let mut publish = [0; 8];
        away.read_exact(&mut publish).expect("a PUBLISH");
        assert_eq!(publish[7], payload);
    }
}

#[test]
fn a_line_that_can_not_be_imported_is_named_and_leaves_no_store() {
    let directory = tempfile::tempdir().expect("room for a directory");
    let file = directory.path().join("lines");
    std::fs::write(&file, "{\"neither\": \"nor\"}\n").expect("room");
    let copy = directory.path().join("copy");
    let output = run(&["import", "--data-dir", text(&copy), "--input", text(&file)]);
    fails(&output, 1, &["line 1"]);
    let check = run(&["check", "--data-dir", text(&copy)]);
    fails(&check, 1, &[text(&copy)]);
}

#[test]
fn damage_is_listed_with_status_1_and_the_rest_is_salvaged() {
    let (directory, data) = filled();
    // After a crash damage in the last commit can't be told from one that was torn; so this one is not the last.
    Server::start(&data).stop();
    let database = data.join("whimbrel.redb");
    let mut bytes = std::fs::read(&database).expect("a file");
    // One byte of the retained message, wherever redb has put it.
    let topic_and_payload = b"rx";
    let places: Vec<_> = bytes
        .windows(topic_and_payload.len())
        .enumerate()
        .filter(|(_, found)| found == topic_and_payload)
        .map(|(at, _)| at)
        .collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at + 1] ^= 0x55;
    }
    std::fs::write(&database, bytes).expect("it can be written");

    let check = run(&["check", "--data-dir", text(&data)]);
    fails(
        &check,
        1,
        &["damaged", "whimbrel store salvage", text(&data)],
    );
    let found = lines(&check);
    let summary = found.last().expect("a line");
    assert_eq!(summary["sound"], false);
    assert!(found[0]["damaged"].is_string(), "{found:?}");

    let rescued = directory.path().join("rescued");
    let salvage = succeeds(&[
        "salvage",
        "--data-dir",
        text(&data),
        "--into",
        text(&rescued),
    ]);
    let summary = salvage.last().expect("a line");
    assert_eq!(summary["kept"]["sessions"], 1, "{salvage:?}");
    assert!(summary["left_out"].as_u64().expect("a number") > 0);
    let check = succeeds(&["check", "--data-dir", text(&rescued)]);
    assert_eq!(check[0]["sound"], true);
}

#[test]
fn a_directory_that_a_broker_has_is_refused() {
    let directory = tempfile::tempdir().expect("room for a directory");
    let _server = Server::start(directory.path());
    for command in ["check", "stats", "export"] {
        let output = run(&[command, "--data-dir", text(directory.path())]);
        fails(&output, 1, &[text(directory.path()), "in use"]);
    }
}

#[test]
fn a_command_line_that_cannot_be_meant_has_status_2() {
    fails(&run(&[]), 2, &["store"]);
    fails(&run(&["salvage"]), 2, &["--into"]);
    let missing = run(&["import", "--input", "/nowhere/at/all"]);
    fails(&missing, 2, &["--input", "/nowhere/at/all"]);
}
