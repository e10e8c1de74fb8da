//! `Arbitrary` for packets: any that can be encoded in at least one version.

use std::num::{NonZeroU16, NonZeroU32};

use arbitrary::{Arbitrary, Result, Unstructured};
use bytes::Bytes;
use whimbrel_topic::{ByteStr, TopicNameBuf};

use crate::{
    Ack, AckProperties, Auth, Authentication, ConnAck, ConnAckProperties, Connect,
    ConnectProperties, Delivery, Disconnect, MessageProperties, Packet, PacketId, PacketType,
    PayloadFormat, ProtocolVersion, Publish, QoS, ReasonCode, RetainHandling, SubAck, Subscribe,
    SubscribeFilter, SubscriptionId, SubscriptionOptions, UnsubAck, Unsubscribe, UserProperties,
    UserProperty, Will,
};

impl<'a> Arbitrary<'a> for ProtocolVersion {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let versions = [
            ProtocolVersion::V31,
            ProtocolVersion::V311,
            ProtocolVersion::V5,
        ];
        u.choose(&versions).copied()
    }
}

impl<'a> Arbitrary<'a> for QoS {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        u.choose(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
            .copied()
    }
}

impl<'a> Arbitrary<'a> for PacketId {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        NonZeroU16::arbitrary(u).map(PacketId::from)
    }
}

impl<'a> Arbitrary<'a> for Delivery {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let first = Delivery::first(u.arbitrary()?, u.arbitrary()?);
        Ok(if u.arbitrary()? {
            first.repeated()
        } else {
            first
        })
    }
}

impl<'a> Arbitrary<'a> for SubscriptionId {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        // Few bits more often than many, so that every length on the wire is met.
        let id = u.arbitrary::<u32>()? >> u.int_in_range(4..=31)?;
        Ok(SubscriptionId::new(id).unwrap_or(SubscriptionId::MIN))
    }
}

impl<'a> Arbitrary<'a> for Packet {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match u.choose(&PacketType::ALL)? {
            PacketType::Connect => Packet::Connect(Box::new(connect(u)?)),
            PacketType::ConnAck => Packet::ConnAck(Box::new(connack(u)?)),
            PacketType::Publish => Packet::Publish(u.arbitrary()?),
            PacketType::PubAck => Packet::PubAck(ack(PacketType::PubAck, u)?),
            PacketType::PubRec => Packet::PubRec(ack(PacketType::PubRec, u)?),
            PacketType::PubRel => Packet::PubRel(ack(PacketType::PubRel, u)?),
            PacketType::PubComp => Packet::PubComp(ack(PacketType::PubComp, u)?),
            PacketType::Subscribe => Packet::Subscribe(subscribe(u)?),
            PacketType::SubAck => Packet::SubAck(Box::new(SubAck {
                id: u.arbitrary()?,
                codes: one_or_more(u, |u| reason(PacketType::SubAck, u))?,
                properties: ack_properties(u)?,
            })),
            PacketType::Unsubscribe => Packet::Unsubscribe(Unsubscribe {
                id: u.arbitrary()?,
                filters: one_or_more(u, filter)?,
                user_properties: user_properties(u)?,
            }),
            PacketType::UnsubAck => Packet::UnsubAck(Box::new(UnsubAck {
                id: u.arbitrary()?,
                codes: one_or_more(u, |u| reason(PacketType::UnsubAck, u))?,
                properties: ack_properties(u)?,
            })),
            PacketType::PingReq => Packet::PingReq,
            PacketType::PingResp => Packet::PingResp,
            PacketType::Disconnect => Packet::Disconnect(Box::new(Disconnect {
                reason: reason(PacketType::Disconnect, u)?,
                session_expiry_secs: u.arbitrary()?,
                server_reference: option(u, text)?,
                reason_string: option(u, text)?,
                user_properties: user_properties(u)?,
            })),
            PacketType::Auth => Packet::Auth(Box::new(Auth {
                reason: reason(PacketType::Auth, u)?,
                authentication: authentication(u)?,
                properties: ack_properties(u)?,
            })),
        })
    }
}

impl<'a> Arbitrary<'a> for Publish {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let alias = option(u, NonZeroU16::arbitrary)?;
        let mut builder = match alias {
            Some(alias) if u.arbitrary()? => Publish::alias_builder(alias),
            Some(alias) => Publish::builder(topic(u)?).topic_alias(alias),
            None => Publish::builder(topic(u)?),
        };
        for _ in 0..u.int_in_range(0..=3)? {
            builder = builder.subscription_id(u.arbitrary()?);
        }
        let builder = builder.properties(&message_properties(u)?);
        let builder = builder.delivery(u.arbitrary()?).retain(u.arbitrary()?);
        Ok(builder.payload(binary(u)?).build())
    }
}

fn connect(u: &mut Unstructured<'_>) -> Result<Connect> {
    let version = u.arbitrary()?;
    let client_id = match version {
        ProtocolVersion::V5 => text(u)?,
        ProtocolVersion::V31 | ProtocolVersion::V311 => filter(u)?,
    };
    let user_name = option(u, text)?;
    let allows_password = user_name.is_some() || version != ProtocolVersion::V311;
    Ok(Connect {
        version,
        client_id,
        clean_start: u.arbitrary()?,
        keep_alive_secs: u.arbitrary()?,
        will: option(u, will)?,
        password: option(u, binary)?.filter(|_| allows_password),
        user_name,
        properties: ConnectProperties {
            session_expiry_secs: u.arbitrary()?,
            receive_maximum: u.arbitrary()?,
            packet_size_max: option(u, NonZeroU32::arbitrary)?,
            topic_alias_max: u.arbitrary()?,
            request_response_information: u.arbitrary()?,
            request_problem_information: u.arbitrary()?,
            authentication: option(u, authentication)?,
            user_properties: user_properties(u)?,
        },
    })
}

fn will(u: &mut Unstructured<'_>) -> Result<Will> {
    Ok(Will {
        topic: topic(u)?,
        payload: binary(u)?,
        qos: u.arbitrary()?,
        retain: u.arbitrary()?,
        delay_secs: u.arbitrary()?,
        properties: message_properties(u)?,
    })
}

fn connack(u: &mut Unstructured<'_>) -> Result<ConnAck> {
    Ok(ConnAck {
        session_present: u.arbitrary()?,
        reason: reason(PacketType::ConnAck, u)?,
        properties: ConnAckProperties {
            session_expiry_secs: u.arbitrary()?,
            receive_maximum: u.arbitrary()?,
            maximum_qos: u.arbitrary()?,
            retain_available: u.arbitrary()?,
            packet_size_max: option(u, NonZeroU32::arbitrary)?,
            assigned_client_id: option(u, text)?,
            topic_alias_max: u.arbitrary()?,
            reason_string: option(u, text)?,
            wildcard_subscription_available: u.arbitrary()?,
            subscription_id_available: u.arbitrary()?,
            shared_subscription_available: u.arbitrary()?,
            server_keep_alive_secs: u.arbitrary()?,
            response_information: option(u, text)?,
            server_reference: option(u, text)?,
            authentication: option(u, authentication)?,
            user_properties: user_properties(u)?,
        },
    })
}

fn subscribe(u: &mut Unstructured<'_>) -> Result<Subscribe> {
    Ok(Subscribe {
        id: u.arbitrary()?,
        filters: one_or_more(u, |u| {
            let handling = [
                RetainHandling::Send,
                RetainHandling::SendIfNew,
                RetainHandling::DoNotSend,
            ];
            Ok(SubscribeFilter {
                filter: filter(u)?,
                options: SubscriptionOptions {
                    qos: u.arbitrary()?,
                    no_local: u.arbitrary()?,
                    retain_as_published: u.arbitrary()?,
                    retain_handling: *u.choose(&handling)?,
                },
            })
        })?,
        subscription_id: u.arbitrary()?,
        user_properties: user_properties(u)?,
    })
}

fn ack(packet_type: PacketType, u: &mut Unstructured<'_>) -> Result<Ack> {
    Ok(Ack {
        id: u.arbitrary()?,
        reason: reason(packet_type, u)?,
        properties: ack_properties(u)?,
    })
}

fn ack_properties(u: &mut Unstructured<'_>) -> Result<AckProperties> {
    Ok(AckProperties {
        reason_string: option(u, text)?,
        user_properties: user_properties(u)?,
    })
}

fn authentication(u: &mut Unstructured<'_>) -> Result<Authentication> {
    Ok(Authentication {
        method: text(u)?,
        data: option(u, binary)?,
    })
}

fn user_properties(u: &mut Unstructured<'_>) -> Result<UserProperties> {
    let count = u.int_in_range(0..=2)?;
    let property = |_| {
        let name = text(u)?;
        Ok(UserProperty {
            name,
            value: text(u)?,
        })
    };
    (0..count).map(property).collect()
}

fn message_properties(u: &mut Unstructured<'_>) -> Result<MessageProperties> {
    let content_type = option(u, text)?;
    let response_topic = option(u, topic)?;
    let correlation_data = option(u, binary)?;
    let user_properties = user_properties(u)?;
    let mut builder = MessageProperties::builder();
    if u.arbitrary()? {
        let formats = [PayloadFormat::Bytes, PayloadFormat::Utf8];
        builder = builder.payload_format(*u.choose(&formats)?);
    }
    if let Some(seconds) = u.arbitrary()? {
        builder = builder.message_expiry_secs(seconds);
    }
    if let Some(content_type) = &content_type {
        builder = builder.content_type(content_type);
    }
    if let Some(name) = &response_topic {
        builder = builder.response_topic(name);
    }
    if let Some(data) = &correlation_data {
        builder = builder.correlation_data(data);
    }
    for property in &user_properties {
        builder = builder.user_property(&property.name, &property.value);
    }
    // All parts are short and without U+0000.
    builder
        .build()
        .map_err(|_| arbitrary::Error::IncorrectFormat)
}

fn reason(packet_type: PacketType, u: &mut Unstructured<'_>) -> Result<ReasonCode> {
    let codes = ReasonCode::ALL.into_iter();
    let codes: Vec<ReasonCode> = codes.filter(|code| code.allowed_in(packet_type)).collect();
    u.choose(&codes).copied()
}

/// A string that any field may have, the empty one among them.
fn text(u: &mut Unstructured<'_>) -> Result<ByteStr> {
    const CHARACTERS: [char; 8] = ['a', 'B', '7', ' ', '/', 'ü', '\u{feff}', '\u{1f426}'];
    let count = u.int_in_range(0..=5)?;
    let characters = (0..count).map(|_| u.choose(&CHARACTERS).copied());
    let text: String = characters.collect::<Result<_>>()?;
    Ok(ByteStr::from(text))
}

/// A string of at least one character, with wildcards in any place.
fn filter(u: &mut Unstructured<'_>) -> Result<ByteStr> {
    let start = *u.choose(&["a", "+", "#", "$share/g/", "/"])?;
    Ok(ByteStr::from(format!("{start}{}", text(u)?)))
}

fn topic(u: &mut Unstructured<'_>) -> Result<TopicNameBuf> {
    let start = *u.choose(&["a", "$SYS", "/"])?;
    let name = format!("{start}{}", text(u)?);
    // No character of these is a wildcard.
    TopicNameBuf::try_from(name).map_err(|_| arbitrary::Error::IncorrectFormat)
}

fn binary(u: &mut Unstructured<'_>) -> Result<Bytes> {
    let length = u.int_in_range(0..=8)?;
    let length = u.len().min(length);
    u.bytes(length).map(Bytes::copy_from_slice)
}

fn option<'a, T>(
    u: &mut Unstructured<'a>,
    value: impl FnOnce(&mut Unstructured<'a>) -> Result<T>,
) -> Result<Option<T>> {
    if u.arbitrary()? {
        value(u).map(Some)
    } else {
        Ok(None)
    }
}

fn one_or_more<'a, T>(
    u: &mut Unstructured<'a>,
    mut value: impl FnMut(&mut Unstructured<'a>) -> Result<T>,
) -> Result<Vec<T>> {
    (0..u.int_in_range(1..=3)?).map(|_| value(u)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_packet_type_is_made_from_any_seed() {
        let types = (0..=255_u8).map(|seed| {
            let seed = [seed, 200, 10, 3, 1, 90, 7];
            let packet = Packet::arbitrary(&mut Unstructured::new(&seed));
            packet.unwrap().packet_type()
        });
        assert_eq!(types.collect::<BTreeSet<_>>().len(), PacketType::ALL.len());
    }
}
