//! `whimbrel pub`.

use std::io::Write;

use crate::support::Server;

#[test]
fn payloads_come_from_the_command_line_a_file_or_standard_input() {
    let server = Server::start(&[]);
    let folder = tempfile::tempdir().expect("room");
    let file = folder.path().join("payload");
    std::fs::write(&file, b"of\0a file").expect("room");
    let file = file.to_str().expect("a name of text");
    for (arguments, input, payload) in [
        (&["-m", "-text"][..], &b""[..], &b"-text"[..]),
        (&["-f", file], b"", b"of\0a file"),
        (&["-s"], b"one\ntwo\xFF\n", b"one\ntwo\xFF\n"),
        (&["-n"], b"", b""),
        (&["-m", ""], b"", b""),
    ] {
        let subscriber = server.subscribe(&["-t", "a", "-C", "1", "-N"]);
        let topic = [&["-t", "a"], arguments].concat();
        let ended = server.run_with_input("pub", &topic, input);
        assert_eq!(ended.status, 0, "{arguments:?}: {ended:?}");
        let shown = subscriber.wait();
        assert_eq!(shown.stdout, payload, "{arguments:?}");
    }
}

#[test]
fn what_is_empty_by_mistake_is_not_published() {
    let server = Server::start(&[]);
    let nothing = server.run_with_input("pub", &["-t", "a", "-s"], b"");
    nothing.fails(1, &["standard input is empty", "-n"]);
    let missing = server.run("pub", &["-t", "a", "-f", "/nowhere/to/be/found"]);
    missing.fails(1, &["/nowhere/to/be/found"]);
}

#[test]
fn each_line_is_a_message_and_all_are_acknowledged_at_the_end() {
    let server = Server::start(&[]);
    for qos in ["0", "1", "2"] {
        let subscriber = server.subscribe(&["-t", "lines", "-q", qos, "-C", "5000"]);
        let lines: String = (0..5_000)
            .map(|number| format!("line {number}\n"))
            .collect();
        let input = lines.trim_end().as_bytes();
        let ended = server.run_with_input("pub", &["-t", "lines", "-l", "-q", qos], input);
        ended.expect(0, "");
        subscriber.wait().expect(0, &lines);
    }
}

#[test]
fn lines_are_published_as_they_come() {
    let server = Server::start(&[]);
    let mut publisher = server.start_client("pub", &["-t", "a", "-l"], "connected");
    let mut stdin = publisher.child().stdin.take().expect("piped");
    for text in ["one", "", "three"] {
        let subscriber = server.subscribe(&["-t", "a", "-C", "1"]);
        writeln!(stdin, "{text}").expect("it reads");
        subscriber.wait().expect(0, &format!("{text}\n"));
    }
    drop(stdin);
    publisher.wait().expect(0, "");
}

#[test]
fn an_interrupted_publisher_delivers_what_it_has_read() {
    let server = Server::start(&[]);
    let subscriber = server.subscribe(&["-t", "a", "-q", "1", "-C", "1"]);
    let mut publisher = server.start_client("pub", &["-t", "a", "-l", "-q", "1"], "connected");
    let mut stdin = publisher.child().stdin.take().expect("piped");
    writeln!(stdin, "last words").expect("it reads");
    subscriber.wait().expect(0, "last words\n");
    publisher.signal("INT");
    publisher.wait().expect(0, "");
}

#[test]
fn a_message_is_repeated() {
    let server = Server::start(&[]);
    let subscriber = server.subscribe(&["-t", "a", "-C", "3"]);
    let repeat = [
        "-t",
        "a",
        "-m",
        "x",
        "--repeat",
        "3",
        "--repeat-delay",
        "0.01",
    ];
    server.publish(&repeat);
    subscriber.wait().expect(0, "x\nx\nx\n");
    let never = server.run("pub", &["-t", "a", "-m", "x", "--repeat", "0"]);
    never.fails(1, &["--repeat"]);
}

#[test]
fn retained_messages_are_kept_and_removed() {
    let server = Server::start(&[]);
    server.publish(&["-t", "a", "-m", "kept", "-r"]);
    let shown = server.run("sub", &["-t", "a", "-C", "1", "-F", "%r %p"]);
    shown.expect(0, "1 kept\n");
    server.publish(&["-t", "a", "-n", "-r"]);
    server.run("sub", &["-t", "a", "-W", "1"]).expect(27, "");
}

#[test]
fn properties_go_with_the_message() {
    let server = Server::start(&[]);
    let format = "%C|%R|%D|%E|%F|%P|%p";
    let subscriber = server.subscribe(&["-V", "5", "-t", "a", "-C", "1", "-F", format]);
    server.publish(&[
        "-t",
        "a",
        "-m",
        "x",
        "-D",
        "publish",
        "content-type",
        "text/plain",
        "-D",
        "PUBLISH",
        "response-topic",
        "r",
        "-D",
        "publish",
        "correlation-data",
        "-17",
        "-D",
        "publish",
        "message-expiry-interval",
        "1000",
        "-D",
        "publish",
        "payload-format-indicator",
        "1",
        "-D",
        "publish",
        "user-property",
        "k",
        "v",
        "-D",
        "publish",
        "user-property",
        "k",
        "-w",
    ]);
    subscriber
        .wait()
        .expect(0, "text/plain|r|-17|1000|1|k:v k:-w|x\n");
}

#[test]
fn what_the_server_refuses_is_told_with_its_code() {
    let server = Server::start(&["--check-payload-format"]);
    let invalid = b"no text: \xFF\nfine\n";
    let properties = ["-D", "publish", "payload-format-indicator", "1"];
    let arguments = [&["-t", "a", "-q", "1", "-l"][..], &properties].concat();
    let subscriber = server.subscribe(&["-t", "a", "-C", "1"]);
    let ended = server.run_with_input("pub", &arguments, invalid);
    ended.fails(
        0x99,
        &["refused the message to a", "payload format invalid (0x99)"],
    );
    // The other line has arrived.
    subscriber.wait().expect(0, "fine\n");
}

#[test]
fn a_message_for_which_the_server_leaves_is_given_up() {
    let server = Server::start(&["--packet-size", "1k"]);
    let file = tempfile::NamedTempFile::new().expect("room");
    std::fs::write(file.path(), [b'x'; 2_000]).expect("room");
    let file = file.path().to_str().expect("a name of text");
    let large = ["-t", "a", "-q", "1", "-f", file];
    let ended = server.run("pub", &large);
    assert_eq!(ended.status, 1, "{ended:?}");
    let last = ended.stderr.lines().last().expect("a line");
    assert!(last.contains("larger than the server accepts"), "{ended:?}");
    // MQTT 5 says it before.
    let ended = server.run("pub", &[&large[..], &["-V", "5"]].concat());
    ended.fails(1, &["larger than the server accepts"]);
}

#[test]
fn a_topic_and_the_server_may_be_a_url() {
    let server = Server::start(&[]);
    let subscriber = server.subscribe(&["-t", "from/a url", "-C", "1"]);
    let url = format!("mqtt://127.0.0.1:{}/from/a%20url", server.port());
    let published = std::process::Command::new(crate::support::WHIMBREL)
        .args(["pub", &url, "-m", "x"])
        .status();
    assert!(published.expect("the binary runs").success());
    subscriber.wait().expect(0, "x\n");
}
