//! `whimbrel sub`.

use std::io;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio::time::{Instant, sleep_until};
use whimbrel_client::codec::topic::SubscriptionFilter;
use whimbrel_client::codec::{ProtocolVersion, RetainHandling};
use whimbrel_client::{SubscribeError, SubscribingManually};

use super::connection::{self, Connection, Ending, Voice};
use super::incoming::{self, Incoming, Taken};
use super::interrupt::Interrupt;
use super::output::{FORMAT_HELP, Output, OutputArguments};
use super::property::{self, Packet, Value};
use super::removal::Removal;
use super::runtime;
use super::selection::{Choice, Selection, SelectionArguments};
use super::server::{Server, ServerArguments};
use super::will;
use crate::failure::Failure;

#[derive(Args, Debug)]
#[command(
    disable_help_flag = true,
    disable_version_flag = true,
    args_override_self = true, after_help = FORMAT_HELP
)]
pub(crate) struct SubscribeArguments {
    /// A topic filter; may be repeated
    #[arg(
        short = 't',
        long = "topic",
        value_name = "FILTER",
        allow_hyphen_values = true
    )]
    topics: Vec<SubscribedFilter>,

    /// The highest QoS of messages
    #[arg(short = 'q', long, value_name = "QOS", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2), allow_hyphen_values = true)]
    qos: u8,

    /// End after this many messages
    #[arg(short = 'C', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), allow_hyphen_values = true)]
    count: Option<u64>,

    /// End after these seconds, with exit status 27
    #[arg(short = 'W', long, value_name = "SECS", value_parser = clap::value_parser!(u32).range(1..), allow_hyphen_values = true)]
    timeout: Option<u32>,

    /// End when the server has taken the subscriptions
    #[arg(short = 'E', long)]
    exit_after_subscribe: bool,

    /// End a subscription of the session; may be repeated
    #[arg(
        short = 'U',
        long = "unsubscribe",
        value_name = "FILTER",
        allow_hyphen_values = true
    )]
    unsubscribe: Vec<SubscribedFilter>,

    /// Have the server forget the retained messages that come
    #[arg(long)]
    remove_retained: bool,

    /// Show whether each message was published as retained, and not whether it is old (MQTT 5)
    #[arg(long)]
    retain_as_published: bool,

    /// Which retained messages are sent at the beginning (MQTT 5)
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = Retained::Always)]
    retain_handling: Retained,

    /// Leave out what this client publishes itself (MQTT 5)
    #[arg(long)]
    no_local: bool,

    #[command(flatten, next_help_heading = "Which messages are shown")]
    selection: SelectionArguments,

    #[command(flatten, next_help_heading = "How messages are shown")]
    output: OutputArguments,

    #[command(flatten, next_help_heading = "Server")]
    server: ServerArguments,
}

/// A filter that may be shared.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SubscribedFilter(String);

impl std::str::FromStr for SubscribedFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match SubscriptionFilter::parse(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// When retained messages are sent for a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Retained {
    /// At each subscription
    #[value(alias = "0")]
    Always,
    /// If the session had no such subscription
    #[value(alias = "1")]
    New,
    /// Not at all
    #[value(alias = "2")]
    Never,
}

/// Shows messages until something ends it.
pub(crate) fn subscribe(arguments: &SubscribeArguments) -> Result<(), Failure> {
    let server = arguments
        .server
        .server(ProtocolVersion::V311, arguments.needs_v5())?;
    let filters = arguments.filters(server.topic.as_deref())?;
    let voice = Voice::new(&arguments.server);
    let subscribed = runtime::block_on(run(arguments, server, &filters));
    subscribed.map_err(|failure| voice.of(failure))
}

impl SubscribeArguments {
    fn needs_v5(&self) -> bool {
        self.retain_as_published || self.no_local || self.retain_handling != Retained::Always
    }

    /// The filters without repetitions, that of the URL among them, and without those whose subscriptions are to end.
    fn filters(&self, of_url: Option<&str>) -> Result<Vec<String>, Failure> {
        let of_url = of_url.map(|text| {
            let filter = text.parse::<SubscribedFilter>();
            filter.map_err(|error| Failure::Usage(format!("topic of the URL: {error}")))
        });
        let mut filters: Vec<String> = Vec::new();
        for SubscribedFilter(filter) in self.topics.iter().chain(&of_url.transpose()?) {
            let is_to_end = self.unsubscribe.iter().any(|other| other.0 == *filter);
            if !is_to_end && !filters.contains(filter) {
                filters.push(filter.clone());
            }
        }
        if filters.is_empty() && self.unsubscribe.is_empty() {
            return Err(Failure::Usage(
                "a topic is missing: name one with -t or in the URL, as in -t 'sensors/#'"
                    .to_owned(),
            ));
        }
        Ok(filters)
    }

    fn subscription_id(&self) -> Option<u32> {
        let mut values = property::of_packet(&self.server.property, Packet::Subscribe);
        values.find_map(|value| match value {
            Value::SubscriptionId(id) => Some(*id),
            _ => None,
        })
    }

    /// `None` where there is no filter.
    fn subscribing(
        &self,
        connection: &Connection,
        filters: &[String],
    ) -> Option<SubscribingManually> {
        let mut filters = filters.iter().map(String::as_str);
        let mut subscribe = connection.client.subscribe(filters.next()?);
        for filter in filters {
            subscribe = subscribe.and(filter);
        }
        let subscribe = subscribe
            .qos(will::qos(self.qos))
            .capacity(CAPACITY)
            .no_local(self.no_local)
            .retain_as_published(self.retain_as_published)
            .retain_handling(match self.retain_handling {
                Retained::Always => RetainHandling::Send,
                Retained::New => RetainHandling::SendIfNew,
                Retained::Never => RetainHandling::DoNotSend,
            });
        Some(subscribe.manual_acks())
    }
}

/// How the showing of messages ended.
enum Shown {
    /// Enough of them.
    Enough,
    /// There will be no other.
    Ended(Option<SubscribeError>),
    /// Nobody reads the output any more.
    OutputGone,
}

async fn run(
    arguments: &SubscribeArguments,
    server: Server,
    filters: &[String],
) -> Result<(), Failure> {
    let interrupt = Interrupt::new();
    let mut interrupt =
        interrupt.map_err(|error| Failure::Runtime(format!("cannot wait for signals: {error}")))?;
    let connection = Connection::begin(&arguments.server, server)?;
    // Before the connection is made: what a session has waiting comes at once, and is to find who shows it.
    let subscribing = arguments.subscribing(&connection, filters);
    let keeps_session = arguments.server.keeps_session();
    let unclaimed = connection.client.unclaimed().filter(|_| keeps_session);
    tokio::select! {
        made = connection.made() => made.map(|_| ())?,
        () = interrupt.next() => return Ok(()),
    }
    let due = arguments
        .timeout
        .map(|seconds| Instant::now() + Duration::from_secs(seconds.into()));
    let showing = async {
        let not_subscribed = |error| connection.not_subscribed(&error);
        let subscription = match subscribing {
            Some(subscribing) => Some(subscribing.await.map_err(not_subscribed)?),
            None => None,
        };
        for SubscribedFilter(filter) in &arguments.unsubscribe {
            let ended = connection.client.unsubscribe(filter.as_str()).await;
            ended.map_err(not_subscribed)?;
            connection
                .voice()
                .debug(|| format!("unsubscribed from {filter}"));
        }
        let mut incoming = Incoming::new(subscription, unclaimed);
        tell_granted(&connection, filters, &incoming);
        let shown = if arguments.exit_after_subscribe {
            Ok(Shown::Enough)
        } else {
            show(arguments, &connection, &mut incoming).await
        };
        let dropped = incoming.dropped();
        if dropped > 0 {
            connection.voice().warn(|| {
                format!("{dropped} messages of QoS 0 were left out, since the output is slower than they came")
            });
        }
        match shown? {
            Shown::Ended(error) => Err(match error {
                Some(error) => connection.not_subscribed(&error),
                None => connection.watch().await,
            }),
            Shown::Enough | Shown::OutputGone => Ok(()),
        }
    };
    let ending = tokio::select! {
        biased;
        () = interrupt.next() => Ending::Interrupted,
        () = until(due) => {
            connection.end(Ending::Done).await?;
            return Err(Failure::Status {
                line: "timed out".to_owned(),
                status: TIMED_OUT,
            });
        }
        shown = showing => {
            shown?;
            Ending::Done
        }
        failure = connection.watch() => return Err(failure),
    };
    tokio::select! {
        ended = connection.end(ending) => ended,
        () = interrupt.next() => Ok(()),
    }
}

/// Shows messages, and acknowledges each when it is written.
async fn show(
    arguments: &SubscribeArguments,
    connection: &Connection,
    incoming: &mut Incoming,
) -> Result<Shown, Failure> {
    let mut output = Output::new(&arguments.output, connection.voice());
    let mut selection = Selection::new(&arguments.selection);
    let mut removal = Removal::default();
    let subscription_id = arguments.subscription_id();
    let mut left = arguments.count;
    // Shown and not written. Bounded by the bytes of a batch.
    let mut unwritten: Vec<Taken> = Vec::new();
    loop {
        let Some(first) = incoming.next().await else {
            return Ok(Shown::Ended(incoming.ended()));
        };
        let mut next = Some(first);
        let mut is_over = false;
        while let Some(taken) = next.take() {
            let message = taken.message();
            let topic = message.topic();
            let mut choice = selection.choose(topic, message.retain());
            if arguments.remove_retained {
                let is_echo = removal.is_echo_before_the_last(topic, message.payload());
                if choice == Choice::End && is_echo {
                    choice = Choice::Ignore;
                }
                if choice != Choice::Ignore && message.retain() {
                    removal.remove(connection, topic).await?;
                }
            }
            match choice {
                Choice::Show => {
                    output.render(&incoming::arrived(message, subscription_id));
                    left = left.map(|left| left - 1);
                }
                Choice::Skip | Choice::Ignore => {}
                Choice::End => is_over = true,
            }
            is_over |= left == Some(0);
            let is_unclaimed = matches!(taken, Taken::Unclaimed(_));
            unwritten.push(taken);
            // An unclaimed one is acknowledged when the next is asked for: it is written before.
            if !is_over && !is_unclaimed && !output.is_full() && unwritten.len() < UNWRITTEN_MAX {
                next = incoming.next_ready().await;
            }
        }
        match output.flush().await {
            Ok(()) => unwritten.drain(..).for_each(Taken::finish),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Ok(Shown::OutputGone);
            }
            Err(error) => {
                return Err(Failure::Runtime(format!(
                    "cannot write to standard output: {error}"
                )));
            }
        }
        if is_over {
            removal.settle(connection).await?;
            return Ok(Shown::Enough);
        }
    }
}

/// Refused filters are told, where others were granted.
fn tell_granted(connection: &Connection, filters: &[String], incoming: &Incoming) {
    for (filter, code) in filters.iter().zip(incoming.granted()) {
        if code.is_error() {
            connection.voice().warn(|| {
                let words = connection::words(*code, None);
                format!("the subscription to {filter} was refused: {words}")
            });
        } else {
            connection
                .voice()
                .debug(|| format!("subscribed to {filter} with QoS {}", code.as_u8()));
        }
    }
}

/// Never, where there is no such moment.
pub(crate) async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// The exit status of `-W`, as mosquitto_sub has it.
pub(crate) const TIMED_OUT: u8 = 27;

/// Messages that are read ahead of a slow output, if their bytes do not bound them before.
const CAPACITY: usize = 16_384;

/// Messages that are written together.
const UNWRITTEN_MAX: usize = 1_024;
