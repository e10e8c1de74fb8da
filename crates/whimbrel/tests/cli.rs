//! The binary as a shell and its user see it.
#![cfg(unix)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

/// Runs to the end: exit status, and what was said on standard output and on standard error.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_whimbrel"))
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

/// Fails with `status` and one line that holds each of `words`.
fn fails(arguments: &[&str], status: i32, words: &[&str]) {
    let (code, _, stderr) = run(arguments);
    assert_eq!(code, status, "{arguments:?}: {stderr}");
    let complaint: Vec<_> = stderr
        .lines()
        .filter(|line| line.starts_with("whimbrel: "))
        .collect();
    assert_eq!(complaint.len(), 1, "{arguments:?}: {stderr}");
    for word in words {
        assert!(complaint[0].contains(word), "{arguments:?}: {stderr}");
    }
    assert!(!stderr.contains("panicked"), "{stderr}");
}

struct Server {
    child: Child,
    stderr: BufReader<ChildStderr>,
    port: u16,
}

impl Server {
    /// Starts on a free port, without a store, and waits until it listens.
    fn start(arguments: &[&str]) -> Self {
        Self::start_with(&[&["--in-memory"], arguments].concat())
    }

    /// Starts on a free port, with a store in `directory`, and waits until it listens.
    fn start_in(directory: &Path, arguments: &[&str]) -> Self {
        let directory = directory.to_str().expect("a name of text");
        Self::start_with(&[&["--data-dir", directory], arguments].concat())
    }

    fn start_with(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_whimbrel"))
            .args(["serve", "--listen", "tcp://127.0.0.1:0"])
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
        Self {
            child,
            stderr,
            port,
        }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([format!("-{name}"), self.child.id().to_string()])
            .status();
        assert!(sent.expect("kill runs").success());
    }

    /// Waits for the end: exit status and the rest of the log.
    fn wait(mut self) -> (i32, String) {
        let mut log = String::new();
        self.stderr.read_to_string(&mut log).expect("text");
        let status = self.child.wait().expect("it ends");
        (status.code().expect("no signal"), log)
    }
}

impl Drop for Server {
    /// A test that fails leaves no server behind.
    fn drop(&mut self) {
        // It has ended already, unless the test failed or did not wait.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn help_and_version_are_no_failures() {
    let (code, stdout, _) = run(&["--help"]);
    assert_eq!(code, 0);
    assert!(stdout.contains("serve"));
    let (code, stdout, _) = run(&["serve", "--help"]);
    assert_eq!(code, 0);
    for flag in [
        "--listen",
        "--packet-size",
        "[default: 2M]",
        "--tcp-keepalive",
        "[default: ./whimbrel-data]",
        "whatever ends the process or the machine",
    ] {
        assert!(stdout.contains(flag), "{flag}");
    }
    let (code, stdout, _) = run(&["--version"]);
    assert_eq!(code, 0);
    assert_eq!(stdout, format!("whimbrel {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_command_line_that_cannot_be_meant_is_one_line_and_status_2() {
    for (arguments, words) in [
        (&["serve", "--lisen"][..], &["--lisen", "--listen"][..]),
        (
            &["serve", "--listen", "localhost:1883"],
            &["--listen", "tcp://HOST:PORT"],
        ),
        (&["serve", "--listen", "tls://localhost:1"], &["use tcp://"]),
        (&["serve", "--shards", "0"], &["--shards", "1..=64"]),
        (&["serve", "--packet-size", "300M"], &["268435460"]),
        (&["serve", "--tcp-keepalive", "60"], &["60,15,4"]),
        (&["serve", "--tcp-keepalive", "0,1,1"], &["keepalive idle"]),
        (&["serve", "--backlog", "0"], &["--backlog"]),
        (
            &["serve", "--data-dir", "/tmp", "--in-memory"],
            &["--data-dir", "--in-memory"],
        ),
        (
            &["serve", "--durability", "os", "--in-memory"],
            &["--durability", "--in-memory"],
        ),
        (&["serve", "--durability", "fsync"], &["sync", "os", "none"]),
        (
            &["serve", "--deny-subscribe", "a/#/b"],
            &["--deny-subscribe", "a/#/b"],
        ),
        (&["serve", "--max-qos", "3"], &["--max-qos", "0..=2"]),
        (
            &["serve", "--response-information", "a/+"],
            &["--response-information"],
        ),
        (&["server"], &["serve"]),
        (&[], &["serve"]),
    ] {
        fails(arguments, 2, words);
    }
}

#[test]
fn a_listener_beyond_loopback_needs_allow_anonymous() {
    let everywhere = [
        "serve",
        "--in-memory",
        "--listen",
        "tcp://0.0.0.0:0",
        "--log",
        "off",
    ];
    fails(&everywhere, 2, &["tcp://0.0.0.0:0", "--allow-anonymous"]);
}

#[test]
fn a_port_that_is_taken_is_one_line_and_status_1() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("tcp://{}", taken.local_addr().expect("bound"));
    let words = [&*address, "address in use", "--listen"];
    fails(
        &[
            "serve",
            "--in-memory",
            "--listen",
            &address,
            "--log",
            "error",
        ],
        1,
        &words,
    );
}

#[test]
fn a_host_without_an_address_is_one_line_and_status_1() {
    let unknown = [
        "serve",
        "--in-memory",
        "--listen",
        "tcp://host.invalid:1883",
        "--log",
        "off",
    ];
    fails(&unknown, 1, &["host.invalid", "--listen"]);
}

#[test]
fn signals_stop_the_broker_in_good_order() {
    for signal in ["TERM", "INT"] {
        let server = Server::start(&[]);
        let mut client = TcpStream::connect(("127.0.0.1", server.port)).expect("it listens");
        client
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a valid timeout");
        // CONNECT of MQTT 5 with client id "x".
        client
            .write_all(b"\x10\x0e\0\x04MQTT\x05\x02\0\0\0\0\x01x")
            .expect("it reads");
        let mut first_byte = [0];
        client.read_exact(&mut first_byte).expect("a CONNACK");
        assert_eq!(first_byte, [0x20]);
        server.signal(signal);
        let mut rest = Vec::new();
        client
            .read_to_end(&mut rest)
            .expect("the end, and no reset");
        // DISCONNECT, server shutting down.
        assert!(rest.ends_with(&[0xE0, 1, 0x8B]), "{rest:x?}");
        let (status, log) = server.wait();
        assert_eq!(status, 0, "{log}");
        assert!(log.contains("broker stopped"), "{log}");
    }
}

/// Sends `request` to a server, and wants `answer`.
fn exchange(client: &mut TcpStream, request: &[u8], answer: &[u8]) {
    client.write_all(request).expect("it reads");
    let mut got = vec![0; answer.len()];
    client.read_exact(&mut got).expect("an answer");
    assert_eq!(got, answer, "to {request:x?}");
}

#[test]
fn denied_filters_are_refused_with_0x80_in_both_versions() {
    let server = Server::start(&[
        "--deny-subscribe",
        "test/nosubscribe",
        "--deny-subscribe",
        "s/#",
    ]);
    let connect = || {
        let client = TcpStream::connect(("127.0.0.1", server.port)).expect("it listens");
        let timeout = Some(Duration::from_secs(10));
        client.set_read_timeout(timeout).expect("valid");
        client
    };
    let mut client = connect();
    exchange(
        &mut client,
        b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01x",
        b"\x20\x02\0\0",
    );
    // Id 1: the denied filter and another one.
    let subscribe = b"\x82\x19\0\x01\0\x10test/nosubscribe\x01\0\x01t\x01";
    exchange(&mut client, subscribe, b"\x90\x04\0\x01\x80\x01");
    exchange(
        &mut client,
        b"\x82\x08\0\x02\0\x03s/+\x01",
        b"\x90\x03\0\x02\x80",
    );

    let mut client = connect();
    client
        .write_all(b"\x10\x0e\0\x04MQTT\x05\x02\0\0\0\0\x01y")
        .expect("it reads");
    let mut head = [0; 2];
    client.read_exact(&mut head).expect("a CONNACK");
    let mut connack = vec![0; usize::from(head[1])];
    client.read_exact(&mut connack).expect("the rest");
    let subscribe = b"\x82\x1a\0\x01\0\0\x10test/nosubscribe\x01\0\x01t\x01";
    exchange(&mut client, subscribe, b"\x90\x05\0\x01\0\x80\x01");
}

#[test]
fn connack_says_what_the_flags_say() {
    let server = Server::start(&[
        "--max-qos",
        "1",
        "--no-retained",
        "--no-wildcard-subscriptions",
        "--no-shared-subscriptions",
        "--no-subscription-identifiers",
        "--max-topic-alias",
        "0",
        "--receive-maximum",
        "9",
        "--max-keep-alive",
        "60",
        "--packet-size",
        "268435460",
        "--response-information",
        "answers",
    ]);
    let mut client = TcpStream::connect(("127.0.0.1", server.port)).expect("it listens");
    let timeout = Some(Duration::from_secs(10));
    client.set_read_timeout(timeout).expect("valid");
    // Keep alive 120, Request Response Information.
    let connect = b"\x10\x10\0\x04MQTT\x05\x02\0\x78\x02\x19\x01\0\x01x";
    let connack = [
        &b"\x20\x1f\0\0\x1c"[..],
        b"\x13\0\x3c",               // Server Keep Alive 60
        b"\x1a\0\x09answers/x",      // Response Information
        b"\x21\0\x09",               // Receive Maximum 9
        b"\x24\x01",                 // Maximum QoS 1
        b"\x25\0\x28\0\x29\0\x2a\0", // no retain, wildcards, identifiers, shared
    ]
    .concat();
    exchange(&mut client, connect, &connack);
}

#[test]
fn listeners_are_told_at_every_level_but_off() {
    for level in ["error", "warn", "info", "debug"] {
        let server = Server::start(&["--log", level]);
        server.signal("TERM");
        let (status, log) = server.wait();
        assert_eq!(status, 0);
        assert!(
            !log.contains("listening on"),
            "said twice at {level}: {log}"
        );
    }
}

fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().expect("room for a directory")
}

/// A client of MQTT 3.1.1 that keeps its session. Says whether it was there.
fn connect_persistent(server: &Server) -> (TcpStream, bool) {
    let mut client = TcpStream::connect(("127.0.0.1", server.port)).expect("it listens");
    let timeout = Some(Duration::from_secs(10));
    client.set_read_timeout(timeout).expect("valid");
    client
        .write_all(b"\x10\x0d\0\x04MQTT\x04\0\0\0\0\x01x")
        .expect("it reads");
    let mut connack = [0; 4];
    client.read_exact(&mut connack).expect("a CONNACK");
    assert_eq!((connack[0], connack[3]), (0x20, 0));
    (client, connack[2] == 1)
}

/// PUBLISH to "t" with QoS 1, id 1 and this payload of one byte.
fn publish(payload: u8) -> [u8; 8] {
    [0x32, 6, 0, 1, b't', 0, 1, payload]
}

#[test]
fn what_was_acknowledged_is_there_after_kill_9() {
    let directory = temporary();
    for durability in ["sync", "os"] {
        let data = directory.path().join(durability);
        let mut server = Server::start_in(&data, &["--durability", durability]);
        let (mut client, is_present) = connect_persistent(&server);
        assert!(!is_present);
        exchange(
            &mut client,
            b"\x82\x06\0\x01\0\x01t\x01",
            b"\x90\x03\0\x01\x01",
        );
        drop(client);
        let mut publisher = TcpStream::connect(("127.0.0.1", server.port)).expect("it listens");
        exchange(
            &mut publisher,
            b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01p",
            b"\x20\x02\0\0",
        );
        for payload in 0..10 {
            exchange(&mut publisher, &publish(payload), b"\x40\x02\0\x01");
        }
        server.child.kill().expect("it runs");
        server.child.wait().expect("it ends");

        let server = Server::start_in(&data, &["--shards", "3"]);
        let (mut client, is_present) = connect_persistent(&server);
        assert!(is_present, "{durability}");
        for payload in 0..10 {
            let mut received = [0; 8];
            client.read_exact(&mut received).expect("a PUBLISH");
            assert_eq!((received[0] & 0xF7, received[7]), (0x32, payload));
            let id = [received[5], received[6]];
            client
                .write_all(&[0x40, 2, id[0], id[1]])
                .expect("it reads");
        }
        server.signal("TERM");
        let (status, log) = server.wait();
        assert_eq!(status, 0, "{log}");
    }
}

#[test]
fn a_second_process_on_a_data_directory_is_one_line_and_status_1() {
    let directory = temporary();
    let _server = Server::start_in(directory.path(), &[]);
    let path = directory.path().to_str().expect("a name of text");
    let second = [
        "serve",
        "--data-dir",
        path,
        "--listen",
        "tcp://127.0.0.1:0",
        "--log",
        "error",
    ];
    fails(&second, 1, &[path, "in use", "--data-dir"]);
}

#[test]
fn a_damaged_store_is_one_line_that_names_the_commands_for_it() {
    let directory = temporary();
    let server = Server::start_in(directory.path(), &[]);
    let (client, _) = connect_persistent(&server);
    drop(client);
    server.signal("TERM");
    let (status, log) = server.wait();
    assert_eq!(status, 0, "{log}");
    let database = directory.path().join("whimbrel.redb");
    let mut bytes = std::fs::read(&database).expect("a file");
    for byte in bytes.iter_mut().skip(4_096) {
        *byte ^= 0x55;
    }
    std::fs::write(&database, bytes).expect("it can be written");
    let path = directory.path().to_str().expect("a name of text");
    let words = [
        path,
        "damaged",
        "whimbrel store check",
        "whimbrel store salvage",
    ];
    let serve = [
        "serve",
        "--data-dir",
        path,
        "--listen",
        "tcp://127.0.0.1:0",
        "--log",
        "off",
    ];
    fails(&serve, 1, &words);
}

#[test]
fn a_data_directory_that_can_not_be_made_is_one_line_and_status_1() {
    let directory = temporary();
    let file = directory.path().join("file");
    std::fs::write(&file, b"").expect("room");
    let below = file.join("data");
    let path = below.to_str().expect("a name of text");
    fails(&["serve", "--data-dir", path, "--log", "off"], 1, &[path]);
}
