//! `whimbrel sub`.

use std::io::{BufRead, BufReader, Read};

use crate::support::Server;

#[test]
fn every_version_and_qos_shows_what_comes() {
    let server = Server::start(&[]);
    for version in ["mqttv31", "mqttv311", "mqttv5"] {
        for qos in ["0", "1", "2"] {
            let format = ["-F", "%q %t %p", "-V", version, "-q", qos, "-C", "2"];
            let subscriber = server.subscribe(&[&["-t", "a/+", "-t", "b"], &format[..]].concat());
            server.publish(&["-V", version, "-t", "a/x", "-m", "1", "-q", "2"]);
            server.publish(&["-V", version, "-t", "b", "-m", "2", "-q", "2"]);
            let expected = format!("{qos} a/x 1\n{qos} b 2\n");
            subscriber.wait().expect(0, &expected);
        }
    }
}

#[test]
fn overlapping_filters_and_repeated_ones_are_one_request() {
    let server = Server::start(&[]);
    let filters = ["-t", "a", "-t", "a", "-t", "b/#", "-v", "-C", "2"];
    let subscriber = server.subscribe(&filters);
    server.publish(&["-t", "a", "-m", "1"]);
    server.publish(&["-t", "b", "-m", "2"]);
    subscriber.wait().expect(0, "a 1\nb 2\n");
}

#[test]
fn topics_that_are_filtered_out_are_neither_shown_nor_counted() {
    let server = Server::start(&[]);
    let subscriber = server.subscribe(&["-t", "#", "-T", "a/+", "-T", "b", "-v", "-C", "1"]);
    for topic in ["a/x", "b", "c"] {
        server.publish(&["-t", topic, "-m", topic]);
    }
    subscriber.wait().expect(0, "c c\n");
}

#[test]
fn retained_messages_can_be_all_or_nothing() {
    let server = Server::start(&[]);
    server.publish(&["-t", "a", "-m", "old", "-r"]);
    let fresh = server.subscribe(&["-t", "a", "-R", "-C", "1"]);
    let retained = server.subscribe(&["-t", "a", "--retained-only"]);
    server.publish(&["-t", "a", "-m", "new", "-r"]);
    fresh.wait().expect(0, "new\n");
    retained.wait().expect(0, "old\n");
    let as_published =
        server.subscribe(&["-t", "a", "--retain-as-published", "-F", "%r %p", "-C", "2"]);
    server.publish(&["-t", "a", "-m", "newer", "-r"]);
    as_published.wait().expect(0, "1 new\n1 newer\n");
    let never = ["-t", "a", "--retain-handling", "never", "-W", "1"];
    server.run("sub", &never).expect(27, "");
}

#[test]
fn every_retained_message_is_removed_and_that_is_the_end() {
    let server = Server::start(&[]);
    for version in ["311", "5"] {
        server.retain(10_000);
        server.publish(&["-t", "r/kept", "-m", "x", "-r"]);
        let remove = [
            "-t",
            "r/#",
            "-T",
            "r/kept",
            "--remove-retained",
            "--retained-only",
        ];
        let ended = server.run("sub", &[&remove[..], &["-V", version]].concat());
        assert_eq!((ended.status, &*ended.stderr), (0, ""));
        assert_eq!(ended.text().lines().count(), 10_000);
        let left = server.run("sub", &["-t", "r/#", "-W", "1", "-v"]);
        left.expect(27, "r/kept x\n");
    }
}

#[test]
fn a_session_keeps_what_was_not_shown() {
    let server = Server::start(&[]);
    for version in ["311", "5"] {
        let client_id = format!("keeper-{version}");
        let session = [
            "-V", version, "-c", "-i", &client_id, "-q", "1", "-t", "mail",
        ];
        let begun = server.run("sub", &[&session[..], &["-E"]].concat());
        begun.expect(0, "");
        for number in 0..10 {
            server.publish(&["-t", "mail", "-m", &number.to_string()]);
        }
        // It ends amid what has come, and only what was shown is acknowledged.
        let some = server.run("sub", &[&session[..], &["-C", "3"]].concat());
        some.expect(0, "0\n1\n2\n");
        let others = server.run("sub", &[&session[..], &["-C", "7"]].concat());
        others.expect(0, "3\n4\n5\n6\n7\n8\n9\n");
    }
}

#[test]
fn a_session_goes_on_however_its_command_has_ended() {
    let server = Server::start(&[]);
    let session = ["-c", "-i", "keeper", "-q", "1", "-t", "mail"];
    let timed_out = server.run("sub", &[&session[..], &["-W", "1"]].concat());
    timed_out.expect(27, "");
    server.publish(&["-t", "mail", "-m", "1"]);
    let one = [&session[..], &["-C", "1"]].concat();
    server.run("sub", &one).expect(0, "1\n");
    let subscriber = server.subscribe(&session);
    subscriber.signal("INT");
    subscriber.wait().expect(0, "");
    server.publish(&["-t", "mail", "-m", "2"]);
    server.run("sub", &one).expect(0, "2\n");
}

#[test]
fn a_session_shows_what_an_earlier_process_has_subscribed_to() {
    let server = Server::start(&[]);
    let session = ["-c", "-i", "keeper", "-q", "1"];
    let begin = [&session[..], &["-t", "old", "-E"]].concat();
    server.run("sub", &begin).expect(0, "");
    server.publish(&["-t", "old", "-m", "1"]);
    let shown = server.run(
        "sub",
        &[&session[..], &["-t", "new", "-v", "-C", "1"]].concat(),
    );
    shown.expect(0, "old 1\n");
    let end = [&session[..], &["-U", "old", "-t", "new", "-E"]].concat();
    server.run("sub", &end).expect(0, "");
    server.publish(&["-t", "old", "-m", "2"]);
    server.publish(&["-t", "new", "-m", "3"]);
    let shown = server.run(
        "sub",
        &[&session[..], &["-t", "new", "-v", "-C", "1"]].concat(),
    );
    shown.expect(0, "new 3\n");
}

#[test]
fn a_refused_filter_is_told_and_the_others_serve() {
    let server = Server::start(&["--deny-subscribe", "secret"]);
    let mut subscriber = server.start_client(
        "sub",
        &["-t", "secret", "-t", "open", "-C", "1"],
        "the subscription to secret was refused: unspecified error (0x80)",
    );
    subscriber.wait_for("subscribed to open");
    server.publish(&["-t", "open", "-m", "x"]);
    subscriber.wait().expect(0, "x\n");
}

#[test]
fn a_reader_that_has_gone_is_a_quiet_end() {
    let server = Server::start(&[]);
    let mut subscriber = server.subscribe(&["-t", "a"]);
    let mut stdout = BufReader::new(subscriber.child().stdout.take().expect("piped"));
    server.publish(&["-t", "a", "-m", "first"]);
    let mut line = String::new();
    stdout.read_line(&mut line).expect("text");
    assert_eq!(line, "first\n");
    drop(stdout);
    server.publish(&["-t", "a", "-m", "second"]);
    let ended = subscriber.wait();
    assert_eq!(ended.status, 0, "{ended:?}");
    assert!(!ended.stderr.contains("whimbrel:"), "{ended:?}");
}

#[test]
fn a_reader_that_does_not_read_holds_back_the_messages_and_none_is_lost() {
    let server = Server::start(&[]);
    let mut subscriber = server.subscribe(&["-t", "a", "-q", "1", "-C", "2000"]);
    // Sixty megabytes, of which the pipe holds 64 KiB.
    let line = "x".repeat(30_000);
    let lines = format!("{line}\n").repeat(2_000);
    let ended = server.run_with_input("pub", &["-t", "a", "-q", "1", "-l"], lines.as_bytes());
    ended.expect(0, "");
    #[cfg(target_os = "linux")]
    {
        let status = format!("/proc/{}/status", subscriber.child().id());
        let status = std::fs::read_to_string(status).expect("it runs");
        let (_, peak) = status.split_once("VmHWM:").expect("its peak");
        let peak_kib = peak.split_whitespace().next().expect("a number");
        let peak_kib: u64 = peak_kib.parse().expect("a number");
        assert!(peak_kib < 50_000, "{peak_kib} KiB");
    }
    let mut stdout = subscriber.child().stdout.take().expect("piped");
    let mut shown = String::new();
    stdout.read_to_string(&mut shown).expect("text");
    assert!(shown == lines, "{} bytes of {}", shown.len(), lines.len());
    assert_eq!(subscriber.wait().status, 0);
}

#[test]
fn an_interrupt_ends_a_subscriber_whose_reader_does_not_read() {
    let server = Server::start(&[]);
    let mut subscriber = server.subscribe(&["-t", "a", "-q", "1"]);
    let lines = format!("{}\n", "x".repeat(10_000)).repeat(200);
    let ended = server.run_with_input("pub", &["-t", "a", "-q", "1", "-l"], lines.as_bytes());
    ended.expect(0, "");
    subscriber.signal("INT");
    let status = subscriber.child().wait().expect("it ends");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn the_subscription_identifier_is_the_one_asked_for() {
    let server = Server::start(&[]);
    server.publish(&["-t", "a", "-m", "x", "-r"]);
    let plain = ["-V", "5", "-t", "a", "-C", "1", "-F", "[%S]"];
    server.run("sub", &plain).expect(0, "[]\n");
    let numbered = ["-D", "subscribe", "subscription-identifier", "7"];
    let shown = server.run("sub", &[&plain[..], &numbered].concat());
    shown.expect(0, "[7]\n");
}

#[test]
fn a_payload_that_is_no_json_is_told() {
    let server = Server::start(&[]);
    server.publish(&["-t", "a", "-m", "{", "-r"]);
    let arguments = ["-t", "a", "-C", "1", "-F", "%J"];
    let ended = server.run("sub", &arguments);
    ended.fails(0, &["not valid JSON on topic a", "%j"]);
    assert_eq!(ended.text(), "\n");
}
