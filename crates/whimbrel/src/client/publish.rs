//! `whimbrel pub`.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgGroup, Args};
use tokio::io::BufReader;
use whimbrel_client::codec::bytes::Bytes;
use whimbrel_client::codec::topic::{TopicName, TopicNameBuf};
use whimbrel_client::codec::{MessageProperties, ProtocolVersion, QoS};
use whimbrel_client::{ConnectionError, PublishError, Receipt};

use super::connection::{self, Connection, Ending, Voice};
use super::interrupt::Interrupt;
use super::lines::{LINE_BYTES_MAX, Lines};
use super::property::{self, Packet};
use super::runtime;
use super::server::{Server, ServerArguments};
use super::will;
use crate::failure::Failure;
use crate::values::Topic;

#[derive(Args, Debug)]
#[command(
    disable_help_flag = true,
    disable_version_flag = true, args_override_self = true,
    group = ArgGroup::new("payload").required(true)
)]
pub(crate) struct PublishArguments {
    /// The topic
    #[arg(short = 't', long, value_name = "TOPIC", allow_hyphen_values = true)]
    topic: Option<Topic>,

    /// Publish this text
    #[arg(
        short = 'm',
        long,
        value_name = "TEXT",
        group = "payload",
        allow_hyphen_values = true
    )]
    message: Option<OsString>,

    /// Publish the contents of this file
    #[arg(
        short = 'f',
        long,
        value_name = "FILE",
        group = "payload",
        allow_hyphen_values = true
    )]
    file: Option<PathBuf>,

    /// Publish all of standard input as one message
    #[arg(short = 's', long = "stdin-file", group = "payload")]
    stdin_file: bool,

    /// Publish each line of standard input as a message
    #[arg(short = 'l', long = "stdin-line", group = "payload")]
    stdin_line: bool,

    /// Publish a message of no bytes; with -r it removes the retained one
    #[arg(short = 'n', long = "null-message", group = "payload")]
    null_message: bool,

    /// Have the server keep the message for later subscribers
    #[arg(short = 'r', long)]
    retain: bool,

    /// The QoS
    #[arg(short = 'q', long, value_name = "QOS", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2), allow_hyphen_values = true)]
    qos: u8,

    /// Messages that may be under way at a time with QoS 1 and 2
    #[arg(
        short = 'M',
        long = "in-flight",
        value_name = "N",
        default_value = "1024",
        allow_hyphen_values = true
    )]
    in_flight: NonZeroU16,

    /// Publish the message as often as this
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "stdin_line", allow_hyphen_values = true)]
    repeat: u64,

    /// Seconds between one delivery and the next message
    #[arg(
        long,
        value_name = "SECS",
        default_value = "0",
        allow_hyphen_values = true
    )]
    repeat_delay: Seconds,

    #[command(flatten, next_help_heading = "Server")]
    server: ServerArguments,
}

/// What is published, once, again or line by line.
#[derive(Debug)]
enum Source {
    Message(Bytes),
    Lines,
}

/// What all messages of a run have in common.
#[derive(Debug)]
struct Envelope {
    topic: TopicNameBuf,
    qos: QoS,
    retain: bool,
    properties: MessageProperties,
}

/// Publishes what the arguments say.
pub(crate) fn publish(arguments: &PublishArguments) -> Result<(), Failure> {
    let server = arguments.server.server(ProtocolVersion::V311, false)?;
    let topic = match (&arguments.topic, &server.topic) {
        (Some(Topic(topic)), _) => topic.clone(),
        (None, Some(topic)) => {
            let topic = TopicName::new(topic.as_str());
            let topic = topic.map_err(|error| Failure::Usage(format!("topic of the URL: {error}")));
            topic?.to_owned()
        }
        (None, None) => {
            return Err(Failure::Usage(
                "a topic is missing: name one with -t or in the URL".to_owned(),
            ));
        }
    };
    let properties = property::of_packet(&arguments.server.property, Packet::Publish);
    let envelope = Envelope {
        topic,
        qos: will::qos(arguments.qos),
        retain: arguments.retain,
        properties: property::message_properties(properties).map_err(Failure::Usage)?,
    };
    let source = arguments.source()?;
    let voice = Voice::new(&arguments.server);
    let published = runtime::block_on(run(arguments, server, &envelope, source));
    published.map_err(|failure| voice.of(failure))
}

impl PublishArguments {
    fn source(&self) -> Result<Source, Failure> {
        if self.stdin_line {
            return Ok(Source::Lines);
        }
        let payload = Payload {
            message: self.message.as_ref(),
            file: self.file.as_ref(),
            stdin: self.stdin_file,
        };
        payload.read().map(|bytes| Source::Message(bytes.into()))
    }
}

/// Where the bytes of a message are; nowhere if there are to be none.
#[derive(Debug)]
pub(crate) struct Payload<'a> {
    /// `-m`.
    pub(crate) message: Option<&'a OsString>,
    /// `-f`.
    pub(crate) file: Option<&'a PathBuf>,
    /// `-s`.
    pub(crate) stdin: bool,
}

impl Payload<'_> {
    /// Reads them. It blocks: before anything is connected.
    pub(crate) fn read(&self) -> Result<Vec<u8>, Failure> {
        if let Some(message) = self.message {
            return Ok(message.as_encoded_bytes().to_vec());
        }
        if let Some(path) = self.file {
            let bytes = File::open(path).and_then(read_all);
            let bytes = bytes.map_err(|error| {
                let path = path.display();
                Failure::Usage(format!("-f: cannot read {path}: {error}"))
            });
            return not_empty(bytes?, "-f: the file is empty");
        }
        if self.stdin {
            let bytes = read_all(std::io::stdin().lock());
            let bytes =
                bytes.map_err(|error| Failure::Runtime(format!("-s: cannot read: {error}")));
            return not_empty(bytes?, "-s: standard input is empty");
        }
        Ok(Vec::new())
    }
}

/// Reads up to what fits into a packet.
fn read_all(source: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source
        .take(LINE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() > LINE_BYTES_MAX {
        return Err(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            "it is larger than a message can be",
        ));
    }
    Ok(bytes)
}

fn not_empty(bytes: Vec<u8>, what: &str) -> Result<Vec<u8>, Failure> {
    if bytes.is_empty() {
        return Err(Failure::Runtime(format!(
            "{what}; -n publishes a message of no bytes"
        )));
    }
    Ok(bytes)
}

async fn run(
    arguments: &PublishArguments,
    mut server: Server,
    envelope: &Envelope,
    source: Source,
) -> Result<(), Failure> {
    let interrupt = Interrupt::new();
    let mut interrupt =
        interrupt.map_err(|error| Failure::Runtime(format!("cannot wait for signals: {error}")))?;
    server.options = server.options.in_flight_max(arguments.in_flight);
    let connection = Connection::begin(&arguments.server, server)?;
    tokio::select! {
        made = connection.made() => made.map(|_| ())?,
        () = interrupt.next() => return Err(Failure::Runtime("interrupted".to_owned())),
    }
    let progress = Progress::default();
    let publishing = async {
        match source {
            Source::Lines => lines(&connection, envelope, &progress).await,
            Source::Message(payload) => {
                let repeat = arguments.repeat_of();
                repeated(&connection, envelope, &payload, repeat, &progress).await
            }
        }
    };
    let (outcome, ending) = tokio::select! {
        outcome = publishing => (outcome, Ending::Done),
        failure = connection.watch_losses(|error| progress.is_stuck(error)) => return Err(failure),
        // What was accepted is still delivered.
        () = interrupt.next() => (Ok(()), Ending::Interrupted),
    };
    tokio::select! {
        ended = connection.end(ending) => ended?,
        () = interrupt.next() => return Err(Failure::Runtime(format!(
            "interrupted, {} messages are not known to have arrived",
            connection.client.unacknowledged()
        ))),
    }
    outcome
}

/// How often, and how far apart.
#[derive(Clone, Copy, Debug)]
struct RepeatOf {
    times: u64,
    delay: Duration,
}

impl PublishArguments {
    fn repeat_of(&self) -> RepeatOf {
        RepeatOf {
            times: self.repeat,
            delay: self.repeat_delay.0,
        }
    }
}

/// What has arrived, to tell a server that ends the connection for a message from one that is away.
#[derive(Debug, Default)]
struct Progress {
    delivered: Cell<u64>,
    /// At the last loss.
    delivered_before: Cell<u64>,
    /// Since then, in a row.
    losses: Cell<u32>,
}

impl Progress {
    fn note_delivered(&self) {
        self.delivered.set(self.delivered.get() + 1);
    }

    /// Whether the server has ended one connection after the other without taking a message.
    fn is_stuck(&self, error: &ConnectionError) -> Option<Failure> {
        let was_connected = matches!(
            error,
            ConnectionError::Closed | ConnectionError::Io(_) | ConnectionError::Disconnected(_)
        );
        if !was_connected
            || self.delivered_before.replace(self.delivered.get()) != self.delivered.get()
        {
            self.losses.set(0);
            return None;
        }
        self.losses.set(self.losses.get() + 1);
        (self.losses.get() >= LOSSES_MAX).then(|| {
            Failure::Runtime(
                "the server ends the connection whenever the message comes: it may be larger than the server accepts; \
                 with -V 5 it may say why"
                    .to_owned(),
            )
        })
    }
}

/// Publishes one message again and again, each time when the one before is delivered.
async fn repeated(
    connection: &Connection,
    envelope: &Envelope,
    payload: &Bytes,
    repeat: RepeatOf,
    progress: &Progress,
) -> Result<(), Failure> {
    for index in 0..repeat.times {
        if index > 0 && !repeat.delay.is_zero() {
            tokio::time::sleep(repeat.delay).await;
        }
        let topic = envelope.topic.as_str();
        let reason = envelope
            .message(connection, payload.clone())
            .await
            .map_err(|error| connection.not_published(topic, &error))?;
        progress.note_delivered();
        connection.voice().debug(|| {
            let length = payload.len();
            format!(
                "published {length} bytes to {topic}: {}",
                connection::words(reason, None)
            )
        });
    }
    Ok(())
}

/// Publishes each line, without waiting for the one before. Ends when the input has ended and everything is acknowledged.
async fn lines(
    connection: &Connection,
    envelope: &Envelope,
    progress: &Progress,
) -> Result<(), Failure> {
    let mut lines = Lines::new(BufReader::with_capacity(BUFFER_BYTES, tokio::io::stdin()));
    // Bounded by RECEIPTS_MAX: beyond it no line is read.
    let mut receipts: VecDeque<Receipt> = VecDeque::new();
    let mut refused = Refused::default();
    let mut has_ended = false;
    while !has_ended || !receipts.is_empty() {
        let reads = !has_ended && receipts.len() < RECEIPTS_MAX;
        let line = tokio::select! {
            biased;
            outcome = next_outcome(&mut receipts), if !receipts.is_empty() => {
                progress.note_delivered();
                refused.note(connection, envelope, outcome)?;
                continue;
            }
            line = lines.next(), if reads => line,
        };
        let line = line.map_err(|error| {
            Failure::Runtime(format!("-l: cannot read standard input: {error}"))
        })?;
        let Some(line) = line else {
            has_ended = true;
            continue;
        };
        match envelope.message(connection, line).enqueue().await {
            Ok(receipt) => receipts.push_back(receipt),
            Err(error) => refused.note(connection, envelope, Err(error))?,
        }
    }
    refused.status()
}

/// How the oldest of them ended.
async fn next_outcome(receipts: &mut VecDeque<Receipt>) -> Result<(), PublishError> {
    let Some(receipt) = receipts.front_mut() else {
        return Ok(());
    };
    let outcome = receipt.await;
    receipts.pop_front();
    outcome.map(|_| ())
}

impl Envelope {
    fn message(&self, connection: &Connection, payload: Bytes) -> whimbrel_client::Publish {
        connection
            .client
            .publish(&self.topic, payload)
            .qos(self.qos)
            .retain(self.retain)
            .properties(self.properties.clone())
    }
}

/// Messages that did not arrive while others did.
#[derive(Debug, Default)]
struct Refused {
    first_status: Option<u8>,
}

impl Refused {
    /// Tells it, and remembers it; the end of the client is the end of the command.
    fn note(
        &mut self,
        connection: &Connection,
        envelope: &Envelope,
        outcome: Result<(), PublishError>,
    ) -> Result<(), Failure> {
        let Err(error) = outcome else { return Ok(()) };
        let failure = connection.not_published(envelope.topic.as_str(), &error);
        if matches!(error, PublishError::Closed(_)) {
            return Err(failure);
        }
        self.first_status.get_or_insert(failure.status());
        connection.voice().warn(|| failure.to_string());
        Ok(())
    }

    fn status(self) -> Result<(), Failure> {
        match self.first_status {
            Some(status) => Err(Failure::Silent(status)),
            None => Ok(()),
        }
    }
}

/// Seconds with a fraction.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Seconds(Duration);

impl FromStr for Seconds {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let seconds = text.parse().ok();
        let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        duration
            .map(Self)
            .ok_or("write a number of seconds, such as 0.5")
    }
}

const BUFFER_BYTES: usize = 64 * 1024;

/// Connections that end without a message having arrived, before it is the message that is taken for the reason.
const LOSSES_MAX: u32 = 5;

/// Lines that are published and not known to have arrived, at most. The bytes are bounded by the client's own queue.
const RECEIPTS_MAX: usize = 8_192;
