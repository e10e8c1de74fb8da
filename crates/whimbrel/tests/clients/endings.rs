//! Exit statuses and messages: what a script and a person learn when something is wrong.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{Ended, Server, WHIMBREL};

fn run(arguments: &[&str]) -> Ended {
    let output = Command::new(WHIMBREL).args(arguments).output();
    let output = output.expect("the binary runs");
    Ended {
        status: output.status.code().expect("no signal"),
        stdout: output.stdout,
        stderr: String::from_utf8(output.stderr).expect("text"),
    }
}

#[test]
fn a_command_line_that_cannot_be_meant_is_one_line_and_status_1() {
    for (arguments, words) in [
        (&["sub"][..], &["a topic is missing", "-t"][..]),
        (&["pub", "-m", "x"], &["a topic is missing", "-t"]),
        (&["pub", "-t", "a"], &["--message", "--stdin-line"]),
        (&["pub", "-t", "a/#", "-m", "x"], &["a/#", "wildcard"]),
        (
            &["pub", "-t", "a", "-m", "x", "-n"],
            &["--message", "--null-message"],
        ),
        (&["sub", "-t", "a/#/b"], &["a/#/b"]),
        (&["sub", "-t", "a", "-q", "3"], &["--qos", "0..=2"]),
        (&["sub", "-t", "a", "-V", "4"], &["31, 311, 5"]),
        (&["sub", "-t", "a", "-F", "%z"], &["%z", "%%"]),
        (&["sub", "-t", "a", "-C", "0"], &["--count"]),
        (&["sub", "-t", "a", "-c"], &["client id", "-i"]),
        (&["sub", "-t", "a", "-i", "x", "-I", "y"], &["--id-prefix"]),
        (
            &["sub", "-t", "a", "-R", "--retained-only"],
            &["--retained-only"],
        ),
        (
            &["sub", "-t", "a", "-P", "x"],
            &["password without a user name"],
        ),
        (&["sub", "-t", "a", "-V", "311", "--no-local"], &["-V 5"]),
        (&["sub", "-t", "a", "-x", "soon"], &["-1 for ever"]),
        (&["sub", "-t", "a", "-L", "host"], &["mqtt://HOST"]),
        (
            &["sub", "-t", "a", "--will-payload", "x"],
            &["--will-topic"],
        ),
        (
            &["pub", "-t", "a", "-m", "x", "-D", "publish"],
            &["-D COMMAND PROPERTY VALUE"],
        ),
        (&["rr", "-t", "a", "-e", "a/#", "-m", "x"], &["a/#"]),
        (
            &["sub", "-t", "a", "--cafile", "/nowhere/ca"],
            &["/nowhere/ca"],
        ),
        (&["sub", "-t", "a", "--cert", "x"], &["--key"]),
    ] {
        run(arguments).fails(1, words);
    }
}

#[test]
fn what_is_not_supported_is_refused_by_its_name() {
    for option in [
        &["-S"][..],
        &["--psk", "12"],
        &["--psk-identity", "x"],
        &["--ciphers", "x"],
        &["--tls-version", "tlsv1.2"],
        &["--tls-engine", "x"],
        &["--keyform", "engine"],
        &["--proxy", "socks5h://x"],
    ] {
        let ended = run(&[&["sub", "-t", "a"], option].concat());
        let name = option[0].strip_suffix("-identity").unwrap_or(option[0]);
        ended.fails(1, &[&format!("{name} is not supported: ")]);
    }
}

#[test]
fn nobody_listens_and_status_is_1() {
    let unused = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = unused.local_addr().expect("bound").port().to_string();
    drop(unused);
    let server = ["-h", "127.0.0.1", "-p", &port, "-t", "a"];
    for command in [
        &["sub"][..],
        &["pub", "-m", "x"],
        &["rr", "-e", "b", "-m", "x"],
    ] {
        let ended = run(&[command, &server].concat());
        ended.fails(1, &[&format!("127.0.0.1:{port}"), "refused"]);
        let quiet = run(&[command, &server, &["--quiet"]].concat());
        assert_eq!((quiet.status, &*quiet.stderr), (1, ""));
    }
    run(&["sub", "-h", "host.invalid", "-t", "a"]).fails(1, &["host.invalid"]);
}

/// A CONNECT that has come.
struct Connect {
    body: Vec<u8>,
    from: SocketAddr,
}

/// A server that takes one connection and answers CONNECT with this; the thread ends with what has come.
fn answering(connack: &'static [u8]) -> (String, std::thread::JoinHandle<Connect>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port().to_string();
    let thread = std::thread::spawn(move || {
        let (mut stream, from) = listener.accept().expect("a connection");
        let mut head = [0; 2];
        stream.read_exact(&mut head).expect("CONNECT");
        let mut rest = vec![0; usize::from(head[1])];
        stream.read_exact(&mut rest).expect("the rest of it");
        stream.write_all(connack).expect("it reads");
        // Until the client has gone.
        let _ = stream.read_to_end(&mut Vec::new());
        Connect { body: rest, from }
    });
    (port, thread)
}

#[test]
fn a_refused_connection_has_the_servers_code_as_status() {
    for (version, connack, status, words) in [
        ("311", &b"\x20\x02\x00\x01"[..], 1, "-V"),
        ("311", b"\x20\x02\x00\x02", 2, "-i"),
        ("311", b"\x20\x02\x00\x03", 3, "later"),
        ("311", b"\x20\x02\x00\x04", 4, "-P"),
        ("31", b"\x20\x02\x00\x05", 5, "-P"),
        ("5", b"\x20\x03\x00\x87\x00", 135, "not authorized (0x87)"),
        ("5", b"\x20\x03\x00\x8a\x00", 138, "banned (0x8a)"),
        ("5", b"\x20\x03\x00\x89\x00", 137, "server busy (0x89)"),
    ] {
        let (port, thread) = answering(connack);
        let command = ["pub", "-t", "a", "-m", "x", "-V", version];
        let ended = run(&[&command[..], &["-h", "127.0.0.1", "-p", &port]].concat());
        ended.fails(status, &["refused the connection", words]);
        thread.join().expect("no panic");
    }
}

#[test]
fn a_password_may_be_in_a_file() {
    let folder = tempfile::tempdir().expect("room");
    let file = folder.path().join("password");
    std::fs::write(&file, "p\u{e4}ss word\nnot this\n").expect("room");
    let file = file.to_str().expect("a name of text");
    let (port, thread) = answering(b"\x20\x02\x00\x05");
    let command = ["pub", "-t", "a", "-m", "x", "-h", "127.0.0.1", "-p", &port];
    let ended = run(&[&command[..], &["-u", "joe", "--pw-file", file]].concat());
    ended.fails(5, &["not authorized"]);
    let connect = thread.join().expect("no panic").body;
    let end = "\0\u{3}joe\0\u{a}p\u{e4}ss word".as_bytes();
    assert!(connect.ends_with(end), "{connect:x?}");
    let missing = run(&[
        "sub",
        "-t",
        "a",
        "-u",
        "joe",
        "--pw-file",
        "/nowhere/to/be/found",
    ]);
    missing.fails(1, &["--pw-file", "/nowhere/to/be/found"]);
}

#[test]
#[cfg(target_os = "linux")]
fn the_address_to_connect_from_may_be_chosen() {
    // The whole of 127.0.0.0/8 is this machine.
    let (port, thread) = answering(b"\x20\x02\x00\x03");
    let command = ["pub", "-t", "a", "-m", "x", "-h", "127.0.0.1", "-p", &port];
    run(&[&command[..], &["-A", "127.0.0.3"]].concat()).fails(3, &["server unavailable"]);
    let from = thread.join().expect("no panic").from;
    assert_eq!(from.ip().to_string(), "127.0.0.3");
    let other_family = run(&[&command[..], &["-A", "::1"]].concat());
    other_family.fails(1, &["::1", "other family"]);
    run(&["sub", "-t", "a", "-A", "host"]).fails(1, &["--bind"]);
}

#[test]
fn signals_end_a_subscriber_in_good_order() {
    let server = Server::start(&[]);
    for signal in ["INT", "TERM"] {
        for version in ["311", "5"] {
            // With MQTT 5 whoever is interrupted has its will published, as mosquitto_sub has it.
            let watcher = server.subscribe(&["-t", "will", "-t", "end", "-C", "1"]);
            let will = ["--will-topic", "will", "--will-payload", "gone"];
            let subscriber = server.subscribe(&[&["-t", "a", "-V", version][..], &will].concat());
            subscriber.signal(signal);
            let ended = subscriber.wait();
            assert_eq!(ended.status, 0, "{ended:?}");
            server.publish(&["-t", "end", "-m", "in order"]);
            let expected = if version == "5" {
                "gone\n"
            } else {
                "in order\n"
            };
            watcher.wait().expect(0, expected);
        }
    }
}

#[test]
fn a_subscriber_waits_for_a_server_that_comes_back() {
    let server = Server::start(&[]);
    let mut subscriber = server.start_client("sub", &["-t", "a", "-C", "1"], "subscribed to a");
    drop(server);
    subscriber.wait_for("trying again");
    let interrupted = Instant::now();
    subscriber.signal("INT");
    assert_eq!(subscriber.wait().status, 0);
    // Nothing is to be delivered that would be worth waiting for.
    let waited = interrupted.elapsed();
    assert!(waited < Duration::from_secs(5), "{waited:?}");
}

#[test]
fn the_time_is_over_and_status_is_27() {
    let server = Server::start(&[]);
    let ended = server.run("sub", &["-t", "a", "-W", "1"]);
    ended.fails(27, &["timed out"]);
}

#[test]
fn every_subscription_refused_is_an_end() {
    let server = Server::start(&["--deny-subscribe", "#"]);
    let ended = server.run("sub", &["-t", "a"]);
    ended.fails(1, &["refused every subscription"]);
}

#[test]
fn completions_and_man_pages_are_generated() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&["completions", shell]);
        assert_eq!(script.status, 0);
        assert!(script.text().contains("retained-only"), "{shell}");
    }
    run(&["completions", "tcsh"]).fails(2, &["bash"]);
    let page = run(&["man"]);
    assert!(page.text().contains(".TH whimbrel 1"), "{page:?}");
    let folder = tempfile::tempdir().expect("room");
    let path = folder.path().join("man1");
    let written = run(&["man", "--out", path.to_str().expect("a name of text")]);
    written.expect(0, "");
    for page in ["whimbrel.1", "whimbrel-sub.1", "whimbrel-store-check.1"] {
        let text = std::fs::read_to_string(path.join(page)).expect(page);
        assert!(text.contains(".SH NAME"), "{page}");
    }
}
