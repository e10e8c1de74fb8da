//! `whimbrel rr`.

use crate::support::Server;

#[test]
fn a_request_says_where_the_response_goes_and_shows_it() {
    let server = Server::start(&[]);
    for named in [true, false] {
        let responder = server.subscribe(&["-V", "5", "-t", "q", "-C", "1", "-F", "%R|%D|%p"]);
        let data = ["-D", "publish", "correlation-data", "17"];
        let answer_topic: &[&str] = if named { &["-e", "answers"] } else { &[] };
        let request = [&["-t", "q", "-m", "2+2", "-v"], answer_topic, &data].concat();
        let requester = server.start_client("rr", &request, "connected");
        let asked = responder.wait();
        let (topic, rest) = asked.text().split_once('|').expect("fields");
        assert_eq!(rest, "17|2+2\n");
        assert_eq!(topic == "answers", named, "{topic}");
        server.publish(&["-t", topic, "-m", "4"]);
        requester.wait().expect(0, &format!("{topic} 4\n"));
    }
}

#[test]
fn before_mqtt_5_the_response_topic_has_to_be_agreed_on() {
    let server = Server::start(&[]);
    let responder = server.subscribe(&["-t", "q", "-C", "1"]);
    let request = ["-V", "311", "-t", "q", "-e", "a", "-m", "2+2", "-q", "1"];
    let requester = server.start_client("rr", &request, "connected");
    responder.wait().expect(0, "2+2\n");
    server.publish(&["-t", "a", "-m", "4"]);
    requester.wait().expect(0, "4\n");
    let without = server.run("rr", &["-V", "311", "-t", "q", "-m", "x"]);
    without.fails(1, &["-e"]);
}

#[test]
fn nobody_answers_and_the_time_is_over() {
    let server = Server::start(&[]);
    let ended = server.run("rr", &["-t", "q", "-m", "x", "-W", "1"]);
    ended.fails(27, &["timed out"]);
}

#[test]
fn a_retained_message_is_no_response_if_that_is_asked_for() {
    let server = Server::start(&[]);
    server.publish(&["-t", "a", "-m", "old", "-r"]);
    let request = ["-t", "q", "-e", "a", "-m", "x", "-W", "1"];
    server.run("rr", &request).expect(0, "old\n");
    let fresh = server.run("rr", &[&request[..], &["-R"]].concat());
    fresh.expect(27, "");
}
