//! The binary as a shell and its user see it.
#![cfg(unix)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
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
    /// Starts on a free port and waits until it listens.
    fn start(arguments: &[&str]) -> Self {
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
            &["serve", "--data-dir", "/tmp"],
            &["no store yet", "--in-memory"],
        ),
        (
            &["serve", "--data-dir", "/tmp", "--in-memory"],
            &["--data-dir", "--in-memory"],
        ),
        (&["server"], &["serve"]),
        (&[], &["serve"]),
    ] {
        fails(arguments, 2, words);
    }
}

#[test]
fn a_listener_beyond_loopback_needs_allow_anonymous() {
    let everywhere = ["serve", "--listen", "tcp://0.0.0.0:0", "--log", "off"];
    fails(&everywhere, 2, &["tcp://0.0.0.0:0", "--allow-anonymous"]);
}

#[test]
fn a_port_that_is_taken_is_one_line_and_status_1() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("tcp://{}", taken.local_addr().expect("bound"));
    let words = [&*address, "address in use", "--listen"];
    fails(
        &["serve", "--listen", &address, "--log", "error"],
        1,
        &words,
    );
}

#[test]
fn a_host_without_an_address_is_one_line_and_status_1() {
    let unknown = [
        "serve",
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
        let server = Server::start(&["--in-memory"]);
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
