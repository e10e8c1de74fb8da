//! [`Line`]: a row as a line of JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use whimbrel_broker_core::session::Stage;
use whimbrel_broker_core::session::codec::topic::{TopicName, TopicNameBuf};
use whimbrel_broker_core::session::codec::{
    Limits, MessageProperties, PacketId, PayloadFormat, Property, ProtocolVersion,
    PublishProperties, QoS, RetainHandling, SubscriptionId, SubscriptionOptions, Will,
};
use whimbrel_broker_core::{
    ExchangeRecord, Form, GroupRecord, Holder, Holders, Message, MessageParts, MsgId, Position,
    QueueId, SessionRecord, SubscriptionRecord, UnixMillis, WindowRecord,
};

use crate::row::Row;

/// A line of an export. Binary data is base64; a field that is absent is what it is by default.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Line {
    Store {
        format: u32,
        incarnation: u32,
    },
    Group {
        queue: u64,
        share: String,
        filter: String,
    },
    Session(SessionLine),
    Subscription {
        session: u64,
        filter: String,
        qos: u8,
        no_local: bool,
        retain_as_published: bool,
        retain_handling: u8,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subscription_id: Option<u32>,
    },
    Window {
        session: u64,
        cursor: u64,
        next_packet_id: u16,
        exchanges: Vec<ExchangeLine>,
    },
    Inbound {
        session: u64,
        packet_id: u16,
        message: MessageLine,
    },
    Known {
        message: IdLine,
        position: u64,
        queues: Vec<u64>,
    },
    Message {
        position: u64,
        holders: Vec<HolderLine>,
        message: MessageLine,
    },
    Retained {
        message: MessageLine,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SessionLine {
    queue: u64,
    client_id: String,
    /// As in CONNECT: 3, 4 or 5.
    protocol_level: u8,
    expiry_secs: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    disconnected_at_millis: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    will: Option<WillLine>,
}

#[derive(Debug, Serialize, Deserialize)]
struct WillLine {
    topic: String,
    qos: u8,
    retain: bool,
    delay_secs: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    properties: Vec<PropertyLine>,
    payload: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ExchangeLine {
    packet_id: u16,
    awaits: StageLine,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<u64>,
    #[serde(flatten)]
    form: FormLine,
}

/// What is awaited.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StageLine {
    Puback,
    Pubrec,
    Pubcomp { rank: u64 },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HolderLine {
    queue: u64,
    #[serde(flatten)]
    form: FormLine,
}

#[derive(Debug, Serialize, Deserialize)]
struct FormLine {
    qos: u8,
    retain: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    subscription_ids: Vec<u32>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct IdLine {
    node: u16,
    incarnation: u32,
    sequence: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MessageLine {
    id: IdLine,
    topic: String,
    qos: u8,
    retain: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at_millis: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    properties: Vec<PropertyLine>,
    payload: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PropertyLine {
    PayloadFormat(u8),
    MessageExpirySecs(u32),
    ContentType(String),
    ResponseTopic(String),
    CorrelationData(String),
    UserProperty(String, String),
    SubscriptionId(u32),
    TopicAlias(u16),
}

/// A line that is no row: which field is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadField(pub(crate) &'static str);

impl Line {
    /// A row as a line; rows of the table `meta` are none.
    pub(crate) fn of(row: Row) -> Option<Self> {
        Some(match row {
            Row::Meta { .. } => return None,
            Row::Group(group) => Self::Group {
                queue: group.group.get(),
                share: group.share.to_string(),
                filter: group.filter.to_string(),
            },
            Row::Session(session) => Self::Session(SessionLine {
                queue: session.session.get(),
                client_id: session.client_id.to_string(),
                protocol_level: session.version.level(),
                expiry_secs: session.expiry_secs,
                disconnected_at_millis: session.disconnected_at.map(|at| at.0),
                will: session.will.as_ref().map(will_line),
            }),
            Row::Subscription {
                session,
                subscription,
            } => Self::Subscription {
                session: session.get(),
                filter: subscription.filter.to_string(),
                qos: subscription.options.qos.bits(),
                no_local: subscription.options.no_local,
                retain_as_published: subscription.options.retain_as_published,
                retain_handling: subscription.options.retain_handling as u8,
                subscription_id: subscription.subscription_id.map(SubscriptionId::get),
            },
            Row::Window(window) => Self::Window {
                session: window.session.get(),
                cursor: window.cursor.get(),
                next_packet_id: window.next_packet_id.get(),
                exchanges: window.exchanges.iter().map(exchange_line).collect(),
            },
            Row::Inbound {
                session,
                packet_id,
                message,
            } => Self::Inbound {
                session: session.get(),
                packet_id,
                message: message_line(&message),
            },
            Row::Known {
                message,
                position,
                queues,
            } => Self::Known {
                message: id_line(message),
                position: position.get(),
                queues: queues.into_iter().map(QueueId::get).collect(),
            },
            Row::Message {
                position,
                holders,
                message,
            } => Self::Message {
                position: position.get(),
                holders: holders.iter().map(|holder| holder_line(&holder)).collect(),
                message: message_line(&message),
            },
            Row::Retained(message) => Self::Retained {
                message: message_line(&message),
            },
        })
    }

    /// The row of a line; the first line of an export is none.
    pub(crate) fn into_row(self) -> Result<Row, BadField> {
        Ok(match self {
            Self::Store { .. } => return Err(BadField("type: the line of the store comes first")),
            Self::Group {
                queue: number,
                share,
                filter,
            } => Row::Group(GroupRecord {
                group: queue(number)?,
                share: share.into(),
                filter: filter.into(),
            }),
            Self::Session(line) => Row::Session(session(line)?),
            Self::Subscription {
                session,
                filter,
                qos: bits,
                no_local,
                retain_as_published,
                retain_handling,
                subscription_id: id,
            } => Row::Subscription {
                session: queue(session)?,
                subscription: SubscriptionRecord {
                    filter: filter.into(),
                    options: SubscriptionOptions {
                        qos: qos(bits)?,
                        no_local,
                        retain_as_published,
                        retain_handling: RetainHandling::from_bits(retain_handling)
                            .ok_or(BadField("retain_handling"))?,
                    },
                    subscription_id: id.map(subscription_id).transpose()?,
                },
            },
            Self::Window {
                session,
                cursor,
                next_packet_id,
                exchanges,
            } => Row::Window(WindowRecord {
                session: queue(session)?,
                cursor: position(cursor)?,
                next_packet_id: packet_id(next_packet_id)?,
                exchanges: exchanges.iter().map(exchange).collect::<Result<_, _>>()?,
            }),
            Self::Inbound {
                session,
                packet_id,
                message: line,
            } => Row::Inbound {
                session: queue(session)?,
                packet_id,
                message: message(&line)?,
            },
            Self::Known {
                message,
                position: at,
                queues,
            } => Row::Known {
                message: id(message),
                position: position(at)?,
                queues: queues.into_iter().map(queue).collect::<Result<_, _>>()?,
            },
            Self::Message {
                position: at,
                holders,
                message: line,
            } => {
                let holders: Vec<Holder> = holders.iter().map(holder).collect::<Result<_, _>>()?;
                Row::Message {
                    position: position(at)?,
                    holders: Holders::of(&holders),
                    message: message(&line)?,
                }
            }
            Self::Retained { message: line } => Row::Retained(message(&line)?),
        })
    }
}

fn will_line(will: &Will) -> WillLine {
    WillLine {
        topic: will.topic.as_str().to_owned(),
        qos: will.qos.bits(),
        retain: will.retain,
        delay_secs: will.delay_secs,
        properties: property_lines(will.properties.as_properties()),
        payload: STANDARD.encode(&will.payload),
    }
}

fn session(line: SessionLine) -> Result<SessionRecord, BadField> {
    let version = match line.protocol_level {
        3 => ProtocolVersion::V31,
        4 => ProtocolVersion::V311,
        5 => ProtocolVersion::V5,
        _ => return Err(BadField("protocol_level")),
    };
    Ok(SessionRecord {
        session: queue(line.queue)?,
        client_id: line.client_id.into(),
        version,
        expiry_secs: line.expiry_secs,
        disconnected_at: line.disconnected_at_millis.map(UnixMillis),
        will: line.will.map(will).transpose()?,
    })
}

fn will(line: WillLine) -> Result<Will, BadField> {
    let bytes = property_bytes(&line.properties)?;
    let properties =
        PublishProperties::parse(&bytes, &Limits::PROTOCOL).map_err(|_| BadField("properties"))?;
    Ok(Will {
        topic: TopicNameBuf::new(line.topic.into()).map_err(|_| BadField("topic"))?,
        payload: payload(&line.payload)?,
        qos: qos(line.qos)?,
        retain: line.retain,
        delay_secs: line.delay_secs,
        properties: MessageProperties::from_publish(properties),
    })
}

fn exchange_line(exchange: &ExchangeRecord) -> ExchangeLine {
    ExchangeLine {
        packet_id: exchange.packet_id.get(),
        awaits: match exchange.stage {
            Stage::AwaitPubAck => StageLine::Puback,
            Stage::AwaitPubRec => StageLine::Pubrec,
            Stage::AwaitPubComp { rank } => StageLine::Pubcomp { rank },
        },
        position: exchange.position.map(Position::get),
        group: exchange.group.map(QueueId::get),
        form: form_line(&exchange.form),
    }
}

fn exchange(line: &ExchangeLine) -> Result<ExchangeRecord, BadField> {
    Ok(ExchangeRecord {
        packet_id: packet_id(line.packet_id)?,
        stage: match line.awaits {
            StageLine::Puback => Stage::AwaitPubAck,
            StageLine::Pubrec => Stage::AwaitPubRec,
            StageLine::Pubcomp { rank } => Stage::AwaitPubComp { rank },
        },
        position: line.position.map(position).transpose()?,
        group: line.group.map(queue).transpose()?,
        form: form(&line.form)?,
    })
}

fn holder_line(holder: &Holder) -> HolderLine {
    HolderLine {
        queue: holder.queue.get(),
        form: form_line(&holder.form),
    }
}

fn holder(line: &HolderLine) -> Result<Holder, BadField> {
    // Lists of holders have no room for larger numbers.
    if line.queue >= 1 << 62 {
        return Err(BadField("queue"));
    }
    Ok(Holder {
        queue: queue(line.queue)?,
        form: form(&line.form)?,
    })
}

fn form_line(form: &Form) -> FormLine {
    let ids = form.subscription_ids().iter();
    FormLine {
        qos: form.qos.bits(),
        retain: form.retain,
        subscription_ids: ids.copied().map(SubscriptionId::get).collect(),
    }
}

fn form(line: &FormLine) -> Result<Form, BadField> {
    let ids = line.subscription_ids.iter().copied().map(subscription_id);
    let ids: Vec<SubscriptionId> = ids.collect::<Result<_, _>>()?;
    Ok(Form::new(qos(line.qos)?, line.retain, &ids))
}

fn id_line(id: MsgId) -> IdLine {
    IdLine {
        node: id.node,
        incarnation: id.incarnation,
        sequence: id.sequence,
    }
}

fn id(line: IdLine) -> MsgId {
    MsgId {
        node: line.node,
        incarnation: line.incarnation,
        sequence: line.sequence,
    }
}

fn message_line(message: &Message) -> MessageLine {
    let parts = message.parts();
    MessageLine {
        id: id_line(parts.id),
        topic: parts.topic.as_str().to_owned(),
        qos: parts.qos.bits(),
        retain: parts.retain,
        expires_at_millis: (parts.expires_at != UnixMillis::NEVER).then_some(parts.expires_at.0),
        properties: property_lines(parts.properties),
        payload: STANDARD.encode(parts.payload),
    }
}

fn message(line: &MessageLine) -> Result<Message, BadField> {
    let properties = property_bytes(&line.properties)?;
    Ok(Message::new(&MessageParts {
        id: id(line.id),
        topic: TopicName::new(&line.topic).map_err(|_| BadField("topic"))?,
        qos: qos(line.qos)?,
        retain: line.retain,
        expires_at: line.expires_at_millis.map_or(UnixMillis::NEVER, UnixMillis),
        properties: PublishProperties::parse(&properties, &Limits::PROTOCOL)
            .map_err(|_| BadField("properties"))?,
        payload: &payload(&line.payload)?,
    }))
}

fn property_lines(properties: PublishProperties<'_>) -> Vec<PropertyLine> {
    let lines = properties.iter().filter_map(|property| {
        Some(match property {
            Property::PayloadFormat(format) => PropertyLine::PayloadFormat(format as u8),
            Property::MessageExpiry(seconds) => PropertyLine::MessageExpirySecs(seconds),
            Property::ContentType(text) => PropertyLine::ContentType(text.to_owned()),
            Property::ResponseTopic(name) => PropertyLine::ResponseTopic(name.as_str().to_owned()),
            Property::CorrelationData(data) => PropertyLine::CorrelationData(STANDARD.encode(data)),
            Property::UserProperty(user) => {
                PropertyLine::UserProperty(user.name.to_owned(), user.value.to_owned())
            }
            Property::SubscriptionId(id) => PropertyLine::SubscriptionId(id.get()),
            Property::TopicAlias(alias) => PropertyLine::TopicAlias(alias.get()),
            // A PUBLISH has no others.
            _ => return None,
        })
    });
    lines.collect()
}

/// The properties as in a packet, in the order of the lines.
fn property_bytes(lines: &[PropertyLine]) -> Result<Vec<u8>, BadField> {
    const SUBSCRIPTION_ID: u8 = 0x0b;
    const TOPIC_ALIAS: u8 = 0x23;
    const BAD: BadField = BadField("properties");
    let mut bytes = Vec::new();
    for line in lines {
        let builder = MessageProperties::builder();
        let data;
        let built = match line {
            PropertyLine::PayloadFormat(0) => builder.payload_format(PayloadFormat::Bytes),
            PropertyLine::PayloadFormat(1) => builder.payload_format(PayloadFormat::Utf8),
            PropertyLine::PayloadFormat(_) => return Err(BAD),
            PropertyLine::MessageExpirySecs(seconds) => builder.message_expiry_secs(*seconds),
            PropertyLine::ContentType(text) => builder.content_type(text),
            PropertyLine::ResponseTopic(name) => {
                builder.response_topic(TopicName::new(name).map_err(|_| BAD)?)
            }
            PropertyLine::CorrelationData(text) => {
                data = STANDARD.decode(text).map_err(|_| BAD)?;
                builder.correlation_data(&data)
            }
            PropertyLine::UserProperty(name, value) => builder.user_property(name, value),
            PropertyLine::SubscriptionId(id) => {
                bytes.push(SUBSCRIPTION_ID);
                put_variable(&mut bytes, subscription_id(*id)?.get());
                continue;
            }
            PropertyLine::TopicAlias(alias) => {
                bytes.push(TOPIC_ALIAS);
                bytes.extend_from_slice(&alias.to_be_bytes());
                continue;
            }
        };
        let built = built.build().map_err(|_| BAD)?;
        bytes.extend_from_slice(built.as_properties().as_bytes());
    }
    Ok(bytes)
}

/// A variable byte integer [MQTT-1.5.5-1].
fn put_variable(bytes: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn payload(text: &str) -> Result<Bytes, BadField> {
    let decoded = STANDARD.decode(text).map_err(|_| BadField("payload"))?;
    Ok(decoded.into())
}

fn queue(number: u64) -> Result<QueueId, BadField> {
    QueueId::new(number).ok_or(BadField("queue"))
}

fn position(number: u64) -> Result<Position, BadField> {
    Position::new(number).ok_or(BadField("position"))
}

fn packet_id(number: u16) -> Result<PacketId, BadField> {
    PacketId::new(number).ok_or(BadField("packet_id"))
}

fn qos(bits: u8) -> Result<QoS, BadField> {
    QoS::from_bits(bits).ok_or(BadField("qos"))
}

fn subscription_id(id: u32) -> Result<SubscriptionId, BadField> {
    SubscriptionId::new(id).ok_or(BadField("subscription_id"))
}
