//! Topic names, topic filters, and which match which.

use tokio::time::Instant;
use whimbrel_codec::{Packet, QoS, ReasonCode};

use super::request::{publish, refuses_filter, subscribe_twin};
use crate::case::{Case, case};
use crate::client::{Client, Message};
use crate::context::Context;
use crate::link::Event;
use crate::proof::{Twin, refuses, serves};
use crate::verdict::{Outcome, Stop};

pub(crate) const CASES: &[Case] = &[
    case!(
        filters_match_the_names_they_should_and_no_others,
        [V31, V311, V5],
        [
            "3:MQTT-3.3.2-3",
            "3:MQTT-4.7.1-3",
            "5:MQTT-3.3.2-3",
            "5:MQTT-4.7.1-2"
        ]
    ),
    case!(
        hash_matches_the_parent_level,
        [V31, V311, V5],
        ["3:MQTT-4.7.1-2", "U311-013", "5:MQTT-4.7.1-1", "U5-101"]
    ),
    case!(
        matching_normalises_nothing,
        [V31, V311, V5],
        ["3:MQTT-4.7.3-4", "5:MQTT-4.7.3-4", "U5-102"]
    ),
    case!(
        a_slash_alone_is_a_topic,
        [V31, V311, V5],
        ["3:MQTT-4.7.3-1", "5:MQTT-4.7.3-1", "U5-102"]
    ),
    case!(
        a_wildcard_in_front_does_not_match_a_dollar_topic,
        [V31, V311, V5],
        ["3:MQTT-4.7.2-1", "5:MQTT-4.7.2-1"]
    ),
    case!(
        a_wildcard_in_a_shared_filter_does_not_match_a_dollar_topic,
        [V5],
        ["5:MQTT-4.7.2-1"]
    ),
    case!(
        hash_alone_brings_no_dollar_topic,
        [V311, V5],
        ["3:MQTT-4.7.2-1", "5:MQTT-4.7.2-1"]
    ),
    case!(
        misplaced_hash_in_a_filter_is_refused,
        [V311, V5],
        ["3:MQTT-4.7.1-2", "5:MQTT-4.7.1-1"]
    ),
    case!(
        plus_that_is_no_whole_level_is_refused,
        [V311, V5],
        ["3:MQTT-4.7.1-3", "5:MQTT-4.7.1-2"]
    ),
    case!(
        an_empty_filter_is_refused,
        [V311, V5],
        ["3:MQTT-4.7.3-1", "5:MQTT-4.7.3-1"]
    ),
    case!(
        an_empty_topic_name_is_refused,
        [V311, V5],
        ["3:MQTT-4.7.3-1", "5:MQTT-4.7.3-1", "U5-044"]
    ),
    case!(
        a_topic_name_with_a_wildcard_is_refused,
        [V31, V311, V5],
        [
            "3:MQTT-3.3.2-2",
            "3:MQTT-4.7.1-1",
            "5:MQTT-3.3.2-2",
            "5:MQTT-4.7.0-1"
        ]
    ),
    case!(
        the_longest_topic_is_served_or_refused,
        [V311, V5],
        ["3:MQTT-4.7.3-3", "5:MQTT-4.7.3-3"]
    ),
];

/// Subscribes to `filter`, publishes to each name, and expects those that match, in any order: only messages on the same
/// topic have one.
///
/// What comes besides them meets the next expectation, which knows it by its payload: a case ends with a silence.
async fn check_matches(client: &mut Client, filter: &str, names: &[(&str, bool)]) -> Outcome {
    client.subscribe(filter, QoS::AtMostOnce).await?;
    for (name, _) in names {
        client
            .publish(&Message::new(name, filter.to_owned()))
            .await?;
    }
    let matching = names.iter().filter(|(_, matches)| *matches);
    let mut expected: Vec<&str> = matching.map(|(name, _)| *name).collect();
    let mut received = Vec::new();
    while received.len() < expected.len() {
        let publish = client.receive().await?;
        let payload = String::from_utf8_lossy(publish.payload()).into_owned();
        client
            .context()
            .check_eq("a message for the filter", filter, payload.as_str())?;
        received.push(publish.topic().map_or("", |name| name.as_str()).to_owned());
    }
    expected.sort_unstable();
    received.sort_unstable();
    let what = format!("for {filter:?} messages on");
    let same = expected == received;
    client.context().check(
        same,
        format!("{what} {expected:?}"),
        format!("{what} {received:?}"),
    )?;
    client.unsubscribe(&[filter]).await?;
    Ok(())
}

async fn filters_match_the_names_they_should_and_no_others(context: Context) -> Outcome {
    context.need_wildcards()?;
    let mut client = Client::connect(&context, "c").await?;
    let names = [
        "a", "b", "a/b", "a/", "/a", "a/b/c", "a//c", "a/b/", "ab", "A",
    ];
    let table: [(&str, &[&str]); 11] = [
        ("a", &["a"]),
        ("+", &["a", "b", "ab", "A"]),
        ("a/+", &["a/b", "a/"]),
        ("+/b", &["a/b"]),
        ("+/+", &["a/b", "a/", "/a"]),
        ("/+", &["/a"]),
        ("a/+/c", &["a/b/c", "a//c"]),
        ("+/b/+", &["a/b/c", "a/b/"]),
        ("a/b/#", &["a/b", "a/b/c", "a/b/"]),
        ("+/+/c", &["a/b/c", "a//c"]),
        ("a//c", &["a//c"]),
    ];
    let full = names.map(|name| context.topic(&format!("m/{name}")));
    for (filter, matching) in table {
        let expected = names.iter().map(|name| matching.contains(name));
        let expected = full.iter().map(String::as_str).zip(expected);
        let filter = context.topic(&format!("m/{filter}"));
        check_matches(&mut client, &filter, &expected.collect::<Vec<_>>()).await?;
    }
    client.expect_no_publish().await?;
    client.disconnect().await
}

async fn hash_matches_the_parent_level(context: Context) -> Outcome {
    context.need_wildcards()?;
    let mut client = Client::connect(&context, "c").await?;
    let names = ["p", "p/", "p/a", "p/a/b/c", "q", "pp", "P/a"].map(|name| context.topic(name));
    let expected = [true, true, true, true, false, false, false];
    let names: Vec<_> = names.iter().map(String::as_str).zip(expected).collect();
    check_matches(&mut client, &context.topic("p/#"), &names).await?;
    client.expect_no_publish().await?;
    client.disconnect().await
}

async fn matching_normalises_nothing(context: Context) -> Outcome {
    let mut client = Client::connect(&context, "c").await?;
    let base = context.topic("");
    let base = base.trim_end_matches('/');
    // The first of each row is the filter; the others are as different as two topics can be.
    let rows: [&[&str]; 7] = [
        &["/Case", "/case", "/CASE"],
        &["/with space", "/withspace", "/with%20space", "/with space "],
        &["/end", "/end/", "//end"],
        &["/end/", "/end", "/end//"],
        &["/x/../y", "/y", "/x/y"],
        &["/caf\u{e9}", "/cafe\u{301}", "/cafe"],
        &["/\u{e4}\u{3b1}\u{1f600}", "/a\u{3b1}\u{1f600}"],
    ];
    for row in rows {
        let names: Vec<String> = row.iter().map(|name| format!("{base}{name}")).collect();
        let Some(filter) = names.first() else {
            continue;
        };
        let expected = names.iter().map(|name| (name.as_str(), name == filter));
        check_matches(&mut client, filter, &expected.collect::<Vec<_>>()).await?;
    }
    // With and without a slash in front are two topics, too.
    let plain = format!("{base}/front");
    let slash = format!("/{plain}");
    let names = [(plain.as_str(), false), (slash.as_str(), true)];
    check_matches(&mut client, &slash, &names).await?;
    client.expect_no_publish().await?;
    client.disconnect().await
}

async fn a_slash_alone_is_a_topic(context: Context) -> Outcome {
    let mut client = Client::connect(&context, "c").await?;
    client.subscribe("/", QoS::AtMostOnce).await?;
    let payload = context.topic("slash");
    client.publish(&Message::new("/", payload.clone())).await?;
    // The topic is everybody's: the same case in other versions uses it at the same time.
    for _ in 0..OTHERS_MAX {
        let received = client.receive_on("/").await?;
        if received.payload() == payload.as_bytes() {
            return client.disconnect().await;
        }
    }
    Err(client.fail("the own message on /", "those of others only"))
}

/// Whether the broker lets clients exchange messages on a topic that starts with `$`, which it should not.
async fn dollar_topic_passes(context: &Context, topic: &str) -> Outcome<bool> {
    let mut client = Client::connect(context, "dollar").await?;
    let options = whimbrel_codec::SubscriptionOptions::new(QoS::AtMostOnce);
    let suback = client.subscribe_all(&[(topic, options)], None).await?;
    if suback.codes.iter().any(|code| code.is_error()) {
        return Ok(false);
    }
    client.publish(&Message::new(topic, "dollar")).await?;
    let event = client.next(context.timing().silence).await;
    Ok(matches!(event, Event::Packet(Packet::Publish(_))))
}

async fn a_wildcard_in_front_does_not_match_a_dollar_topic(context: Context) -> Outcome {
    leaves_dollar_topics_alone(&context, "").await
}

async fn a_wildcard_in_a_shared_filter_does_not_match_a_dollar_topic(context: Context) -> Outcome {
    context.need_shared()?;
    leaves_dollar_topics_alone(&context, "$share/g/").await
}

/// Shows that the filter `prefix` with `+/…` behind it matches no topic that starts with `$`.
async fn leaves_dollar_topics_alone(context: &Context, prefix: &str) -> Outcome {
    context.need_wildcards()?;
    let topic = context.topic("name");
    let dollar = format!("${topic}");
    let rest = topic.trim_start_matches(|character| character != '/');
    let mut client = Client::connect(context, "c").await?;
    client
        .subscribe(&format!("{prefix}+{rest}"), QoS::AtMostOnce)
        .await?;
    client.publish(&Message::new(&topic, "plain")).await?;
    client.receive_message(&topic, "plain").await?;
    let passes = dollar_topic_passes(context, &dollar).await?;
    client.expect_no_publish().await?;
    context.need(
        passes,
        "the broker lets no client publish on a topic that starts with $",
    )?;
    client.disconnect().await
}

async fn hash_alone_brings_no_dollar_topic(context: Context) -> Outcome {
    context.need_wildcards()?;
    for attempt in 0..ATTEMPTS {
        if listens_to_everything(&context, attempt).await? {
            return Ok(());
        }
    }
    Err(Stop::skip(
        "other clients publish what the broker should not forward, which hides what comes for #",
    ))
}

/// Subscribes to `#` for a while, in which topics with `$` are published. `false` when something came that is no packet:
/// what others publish and the broker forwards unchecked is not for this case to judge.
async fn listens_to_everything(context: &Context, attempt: usize) -> Outcome<bool> {
    let mut client = Client::connect(context, "c").await?;
    let topic = context.topic(&format!("plain{attempt}"));
    let dollar = format!("${topic}");
    client.subscribe("#", QoS::AtMostOnce).await?;
    client.publish(&Message::new(&topic, "plain")).await?;
    dollar_topic_passes(context, &dollar).await?;
    // Everything that others publish passes here, the broker's own $SYS excepted.
    let mut own = false;
    let deadline = Instant::now() + context.timing().silence;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match client.next(left).await {
            Event::Packet(Packet::Publish(publish)) => {
                let name = publish.topic().map_or("", |name| name.as_str());
                own |= name == topic;
                context.check(
                    !name.starts_with('$'),
                    "no topic that starts with $ for #",
                    format!("PUBLISH on {name:?}"),
                )?;
            }
            Event::Silence => break,
            Event::Illegal { .. } => return Ok(false),
            event => return Err(client.fail_with("messages of all kinds", &event)),
        }
        if left.is_zero() {
            break;
        }
    }
    context.check(own, "the plain message for #", "it did not come")?;
    client.disconnect().await?;
    Ok(true)
}

async fn misplaced_hash_in_a_filter_is_refused(context: Context) -> Outcome {
    for filter in ["#/a", "a#", "a/#/b", "a/b#", "##", "/#b"] {
        refuses_filter(&context, context.topic(filter)).await?;
    }
    Ok(())
}

async fn plus_that_is_no_whole_level_is_refused(context: Context) -> Outcome {
    for filter in ["a+", "+a", "a/b+/c", "++", "+#", "a/+#"] {
        refuses_filter(&context, context.topic(filter)).await?;
    }
    Ok(())
}

async fn an_empty_filter_is_refused(context: Context) -> Outcome {
    refuses_filter(&context, "").await
}

async fn an_empty_topic_name_is_refused(context: Context) -> Outcome {
    let illegal = publish(&context, "", &[], "one");
    refuses(&context, &Twin::publish(&context), illegal, NO_NAME).await
}

async fn a_topic_name_with_a_wildcard_is_refused(context: Context) -> Outcome {
    for name in ["a/+", "a/#", "a+", "+/a", "#"] {
        let illegal = publish(&context, context.topic(name), &[], "one");
        refuses(&context, &Twin::publish(&context), illegal, NO_NAME).await?;
    }
    Ok(())
}

async fn the_longest_topic_is_served_or_refused(context: Context) -> Outcome {
    let mut client = Client::connect(&context, "c").await?;
    serves(&mut client, &subscribe_twin(&context)).await?;
    let start = context.topic("long/");
    let topic = format!("{start}{}", "x".repeat(usize::from(u16::MAX) - start.len()));
    let refused = "the broker limits the length of topics more than the standard does";
    let options = whimbrel_codec::SubscriptionOptions::new(QoS::AtMostOnce);
    let asked = client.subscribe_all(&[(&topic, options)], None).await;
    let Ok(suback) = asked else {
        return Err(Stop::skip(refused));
    };
    let granted = suback.codes.iter().all(|code| !code.is_error());
    context.need(granted, refused)?;
    client.publish(&Message::new(&topic, "one")).await?;
    match client.next(context.timing().answer).await {
        Event::Packet(Packet::Publish(publish)) => {
            let received = publish.topic().map_or("", |name| name.as_str());
            context.check(
                received == topic,
                "a topic of 65,535 bytes as it was sent",
                format!("one of {} bytes", received.len()),
            )?;
            client.disconnect().await
        }
        _ => Err(Stop::skip(refused)),
    }
}

/// For a name that is none: the special code, or those of malformed packets (D13).
const NO_NAME: &[ReasonCode] = &[
    ReasonCode::TopicNameInvalid,
    ReasonCode::MalformedPacket,
    ReasonCode::ProtocolError,
];
/// So many versions may run the case at once, and as many runs.
const OTHERS_MAX: usize = 64;
/// Others are done with what is illegal soon.
const ATTEMPTS: usize = 8;
