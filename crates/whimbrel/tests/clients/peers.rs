//! The same command line given to mosquitto's clients and to these: the same output, byte for byte, and the same status.

use std::process::Command;

use crate::support::{Ended, Server};

/// Debian's client of this name.
fn mosquitto(name: &str) -> Command {
    let installed = Command::new(name).arg("--help").output().is_ok();
    assert!(
        installed,
        "{name} is not installed: run scripts/install-tools, or apt-get install mosquitto-clients"
    );
    let mut command = Command::new(name);
    command.env("TZ", TIME_ZONE);
    command
}

fn whimbrel(command: &str) -> Command {
    let mut program = Command::new(crate::support::WHIMBREL);
    program.arg(command).env("TZ", TIME_ZONE);
    program
}

/// With an offset that is no whole hour.
const TIME_ZONE: &str = "Asia/Kathmandu";

fn both(server: &Server, command: &str, arguments: &[&str]) -> (Ended, Ended) {
    let theirs = mosquitto(&format!("mosquitto_{command}"));
    let theirs = server.run_program(theirs, arguments, b"");
    let ours = server.run_program(whimbrel(command), arguments, b"");
    (theirs, ours)
}

/// Wants the same output of both.
fn same(server: &Server, command: &str, arguments: &[&str]) {
    let (theirs, ours) = both(server, command, arguments);
    let shown = |ended: &Ended| String::from_utf8_lossy(&ended.stdout).into_owned();
    assert_eq!(
        (ours.status, shown(&ours)),
        (theirs.status, shown(&theirs)),
        "{arguments:?}: {ours:?} {theirs:?}"
    );
    assert_eq!(ours.stdout, theirs.stdout, "{arguments:?}");
}

/// Wants the same exit status of both.
fn same_status(server: &Server, command: &str, arguments: &[&str]) {
    let (theirs, ours) = both(server, command, arguments);
    assert_eq!(
        ours.status, theirs.status,
        "{arguments:?}: {ours:?} {theirs:?}"
    );
}

/// Retained messages of every kind, published by mosquitto_pub.
fn server_with_messages() -> Server {
    let server = Server::start(&[]);
    let properties = [
        "-D",
        "publish",
        "content-type",
        "text/plain",
        "-D",
        "publish",
        "user-property",
        "k\"1",
        "v 1",
        "-D",
        "publish",
        "response-topic",
        "r/t",
        "-D",
        "publish",
        "correlation-data",
        "cor",
        "-D",
        "publish",
        "payload-format-indicator",
        "1",
        "-D",
        "publish",
        "user-property",
        "k2",
        "v2",
    ];
    let full = [
        &["-V", "5", "-t", "m/full", "-m", "h\u{e9}llo \"w\"\tx\\"][..],
        &properties,
    ]
    .concat();
    for (arguments, input) in [
        (&full[..], &b""[..]),
        (&["-t", "m/plain", "-m", "abc"], b""),
        (&["-t", "m/bytes", "-s"], b"a\0b\xFF\x1B\x01\r\n"),
        (
            &["-t", "m/json", "-s"],
            br#" {"b":27, "a" : [1,2, {"x":null}],"s":"x y","o":{}, "l":[] } "#,
        ),
        (&["-t", "m/number", "-m", "21.5"], b""),
    ] {
        let arguments = [arguments, &["-r", "-q", "1"]].concat();
        let published = server.run_program(mosquitto("mosquitto_pub"), &arguments, input);
        assert_eq!(published.status, 0, "{arguments:?}: {published:?}");
    }
    server
}

const TOPICS: [&str; 5] = ["m/full", "m/plain", "m/bytes", "m/json", "m/number"];

#[test]
fn plain_and_verbose_output_is_mosquittos() {
    let server = server_with_messages();
    for topic in TOPICS {
        for style in [&[][..], &["-v"], &["-N"], &["-v", "-N"]] {
            for version in ["mqttv311", "mqttv5"] {
                let one = ["-t", topic, "-C", "1", "-V", version];
                same(&server, "sub", &[&one[..], style].concat());
            }
        }
    }
    same(
        &server,
        "sub",
        &["-t", "m/#", "-T", "m/bytes", "-v", "-C", "4"],
    );
    same(&server, "sub", &["-t", "m/#", "-R", "-v", "-W", "1"]);
    same(
        &server,
        "sub",
        &[
            "-t", "m/+", "-t", "m/full", "-C", "6", "-F", "%t", "-q", "2",
        ],
    );
}

/// Fields of which mosquitto_sub 2.0.11 makes what its manual says.
const FORMATS: [&str; 12] = [
    "%A|%C|%D|%E|%F|%l|%m|%P|%p|%q|%R|%r|%S|%t|%x|%X|%%",
    "%10A|%12C|%10E|%10F|%10l|%10m|%70p|%10R|%10S|%10t",
    "%-10A|%-12C|%-10E|%-10F|%-10l|%-10m|%-70p|%-10R|%-10S|%-10t|",
    "%010A|%012C|%010E|%010F|%010l|%010m|%010R|%010S|%010t",
    "%-010A|%-010C|%-010E|%-010F|%-010l|%-010m|%-010S|%-010t|",
    "%3.3C|%.2R|%.2t|%.t|%5.t|%-5.2t|%05.2t|%3.2l|%.8I",
    "%10q|%5D|%40P|%5r|%5%",
    r"\0|\a|\e|\n|\r|\t|\v|\\",
    "@Y @C @y @m @b @B @h @d @e @j @U @V @W @G @g @u @w @a @A @Z @z @F @D @x @@",
    "@% @E @O @+ @f @i @J @K @L @o @q @v @Q @1",
    "@p @P @n@t.",
    "%% text \u{20ac}",
];

#[test]
fn formats_are_mosquittos() {
    let server = server_with_messages();
    for topic in TOPICS {
        for format in FORMATS {
            for qos in ["0", "1"] {
                let one = ["-V", "5", "-t", topic, "-C", "1", "-q", qos];
                same(&server, "sub", &[&one[..], &["-F", format]].concat());
            }
        }
    }
    let numbered = ["-D", "subscribe", "subscription-identifier", "7"];
    let one = ["-V", "5", "-t", "m/full", "-C", "1", "-F", "%S|%4S|%-4S|%j"];
    let (theirs, ours) = both(&server, "sub", &[&one[..], &numbered].concat());
    assert_eq!(without_time(&ours), without_time(&theirs));
}

/// JSON without `tst`, which tells when it was shown, and which 2.0.11 writes with a `Z` before the zone.
fn without_time(ended: &Ended) -> String {
    assert_eq!(ended.status, 0, "{ended:?}");
    let text = String::from_utf8_lossy(&ended.stdout).into_owned();
    let (before, rest) = text.split_once("\"tst\":").expect("a time");
    let (time, after) = rest.split_once(',').expect("a topic");
    let time = time.trim().trim_matches('"');
    let zone = time
        .get("2020-05-06T22:12:00.000000".len()..)
        .expect("microseconds");
    assert_eq!(zone.trim_start_matches('Z'), "+0545", "{time}");
    format!("{before}{after}")
}

#[test]
fn json_is_mosquittos() {
    let server = server_with_messages();
    // mosquitto_sub ends the payload of m/bytes at its first zero.
    for topic in ["m/full", "m/plain", "m/json", "m/number"] {
        for layout in [&[][..], &["--pretty"]] {
            for qos in ["0", "1"] {
                let one = ["-V", "5", "-t", topic, "-C", "1", "-q", qos, "-F", "%j"];
                let (theirs, ours) = both(&server, "sub", &[&one[..], layout].concat());
                assert_eq!(without_time(&ours), without_time(&theirs));
            }
        }
    }
    for topic in ["m/json", "m/number"] {
        for layout in [&[][..], &["--pretty"]] {
            let one = ["-V", "5", "-t", topic, "-C", "1", "-F", "%J"];
            let (theirs, ours) = both(&server, "sub", &[&one[..], layout].concat());
            assert_eq!(without_time(&ours), without_time(&theirs));
        }
    }
    // No JSON: an empty line, and a complaint elsewhere.
    same(&server, "sub", &["-t", "m/plain", "-C", "1", "-F", "%J"]);
}

#[test]
fn statuses_are_mosquittos() {
    let server = server_with_messages();
    for arguments in [
        &["-t", "x", "-W", "1"][..],
        &["-t", "x", "-E"],
        &["-t", "m/plain", "-C", "1"],
        &["-t", "a/#/b"],
        &["-t", "x", "-q", "3"],
        &["-t", "x", "-F", "%z"],
        &["-t", "x", "--no-such-option"],
        &["-t", "x", "-c"],
        &[],
    ] {
        same_status(&server, "sub", arguments);
    }
    for arguments in [
        &["-t", "x", "-m", "x"][..],
        &["-t", "x", "-l", "-q", "2"],
        &["-t", "x", "-s"],
        &["-t", "x", "-n"],
        &["-t", "x"],
        &["-t", "x/#", "-m", "x"],
        &["-t", "x", "-m", "x", "-n"],
        &["-t", "x", "-f", "/nowhere/to/be/found"],
        &[
            "-t",
            "x",
            "-m",
            "x",
            "-V",
            "5",
            "-D",
            "publish",
            "topic-name",
            "x",
        ],
    ] {
        same_status(&server, "pub", arguments);
    }
    same(&server, "rr", &["-t", "q", "-e", "a", "-m", "x", "-W", "1"]);
    same(
        &server,
        "rr",
        &["-t", "q", "-e", "m/plain", "-m", "x", "-v"],
    );
}

#[test]
fn each_understands_the_other() {
    let server = Server::start(&[]);
    for version in ["mqttv31", "mqttv311", "mqttv5"] {
        for qos in ["0", "1", "2"] {
            let subscriber = server.subscribe(&["-t", "a", "-q", qos, "-V", version, "-C", "300"]);
            let lines: String = (0..300).map(|number| format!("{number}\n")).collect();
            let publish = ["-t", "a", "-l", "-q", qos, "-V", version];
            let program = mosquitto("mosquitto_pub");
            let published = server.run_program(program, &publish, lines.as_bytes());
            assert_eq!(published.status, 0, "{published:?}");
            subscriber.wait().expect(0, &lines);
        }
    }
    // A session that one of them has begun is the other's too.
    let session = ["-c", "-i", "both", "-q", "1", "-t", "mail"];
    let begin = [&session[..], &["-E"]].concat();
    let begun = server.run_program(mosquitto("mosquitto_sub"), &begin, b"");
    assert_eq!(begun.status, 0, "{begun:?}");
    server.publish(&["-t", "mail", "-m", "1"]);
    server.publish(&["-t", "mail", "-m", "2"]);
    let first = server.run("sub", &[&session[..], &["-C", "1"]].concat());
    first.expect(0, "1\n");
    let second = [&session[..], &["-C", "1"]].concat();
    let second = server.run_program(mosquitto("mosquitto_sub"), &second, b"");
    second.expect(0, "2\n");
}
