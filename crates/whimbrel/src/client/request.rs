//! `whimbrel rr`: a request, and the response to it.

use std::ffi::OsString;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args};
use tokio::time::Instant;
use whimbrel_client::codec::topic::{TopicName, TopicNameBuf};
use whimbrel_client::codec::{MessageProperties, ProtocolVersion};

use super::connection::{Connection, Ending, Voice};
use super::incoming::{self, Incoming};
use super::interrupt::Interrupt;
use super::output::{FORMAT_HELP, Output, OutputArguments};
use super::property::{self, Packet, Value};
use super::publish::Payload;
use super::runtime;
use super::server::{Server, ServerArguments};
use super::subscribe::{TIMED_OUT, until};
use super::will;
use crate::failure::Failure;
use crate::values::Topic;

#[derive(Args, Debug)]
#[command(
    disable_help_flag = true,
    disable_version_flag = true, args_override_self = true, after_help = FORMAT_HELP,
    group = ArgGroup::new("payload").required(true)
)]
pub(crate) struct RequestArguments {
    /// The topic of the request
    #[arg(short = 't', long, value_name = "TOPIC", allow_hyphen_values = true)]
    topic: Option<Topic>,

    /// The topic of the response [default: one of this request's own, with MQTT 5]
    #[arg(
        short = 'e',
        long = "response-topic",
        value_name = "TOPIC",
        allow_hyphen_values = true
    )]
    response_topic: Option<Topic>,

    /// Send this text
    #[arg(
        short = 'm',
        long,
        value_name = "TEXT",
        group = "payload",
        allow_hyphen_values = true
    )]
    message: Option<OsString>,

    /// Send the contents of this file
    #[arg(
        short = 'f',
        long,
        value_name = "FILE",
        group = "payload",
        allow_hyphen_values = true
    )]
    file: Option<PathBuf>,

    /// Send all of standard input
    #[arg(short = 's', long = "stdin-file", group = "payload")]
    stdin_file: bool,

    /// Send no bytes
    #[arg(short = 'n', long = "null-message", group = "payload")]
    null_message: bool,

    /// The QoS of the request and the response
    #[arg(short = 'q', long, value_name = "QOS", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2), allow_hyphen_values = true)]
    qos: u8,

    /// Seconds that the response may take; without it there is exit status 27
    #[arg(short = 'W', long, value_name = "SECS", value_parser = clap::value_parser!(u32).range(1..), allow_hyphen_values = true)]
    timeout: Option<u32>,

    /// Take no retained message for the response
    #[arg(short = 'R')]
    fresh_only: bool,

    #[command(flatten, next_help_heading = "How the response is shown")]
    output: OutputArguments,

    #[command(flatten, next_help_heading = "Server")]
    server: ServerArguments,
}

/// What is sent, and where the answer comes.
#[derive(Debug)]
struct Question {
    topic: TopicNameBuf,
    response_topic: TopicNameBuf,
    payload: Vec<u8>,
    properties: MessageProperties,
}

/// Asks, and shows the answer.
pub(crate) fn request(arguments: &RequestArguments) -> Result<(), Failure> {
    let server = arguments.server.server(ProtocolVersion::V5, false)?;
    let question = arguments.question(&server)?;
    let voice = Voice::new(&arguments.server);
    let answered = runtime::block_on(run(arguments, server, question));
    answered.map_err(|failure| voice.of(failure))
}

impl RequestArguments {
    fn question(&self, server: &Server) -> Result<Question, Failure> {
        let named = |text: &str, what: &str| {
            let topic = TopicName::new(text).map(ToOwned::to_owned);
            topic.map_err(|error| Failure::Usage(format!("{what}: {error}")))
        };
        let topic = match (&self.topic, &server.topic) {
            (Some(Topic(topic)), _) => topic.clone(),
            (None, Some(topic)) => named(topic, "topic of the URL")?,
            (None, None) => {
                return Err(Failure::Usage(
                    "a topic is missing: name one with -t or in the URL".to_owned(),
                ));
            }
        };
        let is_v5 = server.version.is_v5();
        let values = || property::of_packet(&self.server.property, Packet::Publish);
        let given = values().find_map(|value| match value {
            Value::ResponseTopic(topic) => Some(topic.as_str()),
            _ => None,
        });
        let response_topic = match (&self.response_topic, given) {
            (Some(Topic(topic)), _) => topic.clone(),
            (None, Some(topic)) => named(topic, "-D publish response-topic")?,
            (None, None) if is_v5 => {
                let number = RandomState::new().hash_one(std::process::id());
                named(&format!("response/{number:016x}"), "response topic")?
            }
            (None, None) => {
                return Err(Failure::Usage(
                    "before MQTT 5 a request does not say where the response is to go: name a topic that the other side uses with -e"
                        .to_owned(),
                ));
            }
        };
        let added = Value::ResponseTopic(response_topic.as_str().to_owned());
        let added = (is_v5 && given.is_none()).then_some(&added);
        let properties = property::message_properties(values().chain(added));
        let payload = Payload {
            message: self.message.as_ref(),
            file: self.file.as_ref(),
            stdin: self.stdin_file,
        };
        Ok(Question {
            topic,
            response_topic,
            payload: payload.read()?,
            properties: properties.map_err(Failure::Usage)?,
        })
    }
}

async fn run(
    arguments: &RequestArguments,
    server: Server,
    question: Question,
) -> Result<(), Failure> {
    let interrupt = Interrupt::new();
    let mut interrupt =
        interrupt.map_err(|error| Failure::Runtime(format!("cannot wait for signals: {error}")))?;
    let connection = Connection::begin(&arguments.server, server)?;
    tokio::select! {
        made = connection.made() => made.map(|_| ())?,
        () = interrupt.next() => return Err(Failure::Runtime("interrupted".to_owned())),
    }
    let due = arguments
        .timeout
        .map(|seconds| Instant::now() + Duration::from_secs(seconds.into()));
    let outcome = tokio::select! {
        biased;
        () = interrupt.next() => Err(Failure::Runtime("interrupted".to_owned())),
        () = until(due) => Err(Failure::Status {
            line: "timed out: nobody has answered".to_owned(),
            status: TIMED_OUT,
        }),
        outcome = ask(arguments, &connection, question) => outcome,
        failure = connection.watch() => return Err(failure),
    };
    tokio::select! {
        ended = connection.end(Ending::Done) => outcome.and(ended),
        () = interrupt.next() => outcome,
    }
}

async fn ask(
    arguments: &RequestArguments,
    connection: &Connection,
    question: Question,
) -> Result<(), Failure> {
    let qos = will::qos(arguments.qos);
    let subscribe = connection
        .client
        .subscribe(question.response_topic.as_str());
    let subscription = subscribe.qos(qos).manual_acks().await;
    let subscription = subscription.map_err(|error| connection.not_subscribed(&error))?;
    let mut incoming = Incoming::new(Some(subscription), None);
    let publish = connection.client.publish(&question.topic, question.payload);
    let publish = publish.qos(qos).properties(question.properties);
    let not_published = |error| connection.not_published(question.topic.as_str(), &error);
    let mut receipt = publish.enqueue().await.map_err(not_published)?;
    // The answer may come before the acknowledgement; a refusal is told at once.
    let answered = answer(arguments, connection, &mut incoming);
    tokio::pin!(answered);
    tokio::select! {
        biased;
        answered = &mut answered => return answered,
        published = &mut receipt => published.map(|_| ()).map_err(not_published)?,
    }
    answered.await
}

/// Waits for the answer, and shows it.
async fn answer(
    arguments: &RequestArguments,
    connection: &Connection,
    incoming: &mut Incoming,
) -> Result<(), Failure> {
    let taken = loop {
        match incoming.next().await {
            Some(taken) if arguments.fresh_only && taken.message().retain() => taken.finish(),
            Some(taken) => break taken,
            None => {
                return Err(match incoming.ended() {
                    Some(error) => connection.not_subscribed(&error),
                    None => connection.watch().await,
                });
            }
        }
    };
    let mut output = Output::new(&arguments.output, connection.voice());
    output.render(&incoming::arrived(taken.message(), None));
    let flushed = output.flush().await;
    taken.finish();
    match flushed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Runtime(format!(
            "cannot write to standard output: {error}"
        ))),
        _ => Ok(()),
    }
}
