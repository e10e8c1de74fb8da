//! Proofs that a broker refuses what is illegal *because* it is: the well-formed twin is served first.
//!
//! A broker that hangs up on everything, or answers nothing, fails here, as it should.

use whimbrel_codec::{Packet, PacketId, QoS, ReasonCode};

use crate::client::{Client, Message};
use crate::context::Context;
use crate::link::Link;
use crate::verdict::Outcome;
use crate::wire;

/// A legal packet and the sign that it was served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Twin {
    bytes: Vec<u8>,
    answer: Answer,
}

/// The sign that a packet was served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// PUBACK for this identifier, not negative.
    PubAck(PacketId),
    /// PUBREC for this identifier, not negative. The exchange is then finished.
    PubRec(PacketId),
    /// PUBCOMP for this identifier.
    PubComp(PacketId),
    /// SUBACK for this identifier, in which nothing is refused.
    SubAck(PacketId),
    /// UNSUBACK for this identifier.
    UnsubAck(PacketId),
    /// PINGRESP.
    PingResp,
    /// The message comes to the client itself, which subscribes to this topic beforehand.
    Delivery(String),
    /// Nothing of its own: a PINGREQ after it is answered.
    Alive,
}

impl Twin {
    /// These bytes, with this answer.
    pub fn new(bytes: impl Into<Vec<u8>>, answer: Answer) -> Twin {
        Twin {
            bytes: bytes.into(),
            answer,
        }
    }

    /// A packet the codec can build, with this answer.
    pub fn packet(context: &Context, packet: &Packet, answer: Answer) -> Twin {
        Twin::new(wire::encoded(packet, context.version()), answer)
    }

    /// A PUBLISH of QoS 0 on a topic of the case, which is delivered.
    pub fn publish(context: &Context) -> Twin {
        let topic = context.topic("twin");
        let packet = Message::new(&topic, "twin").packet(PacketId::MIN);
        Twin::packet(context, &packet, Answer::Delivery(topic))
    }

    /// PINGREQ.
    pub fn ping() -> Twin {
        Twin::new([0xC0, 0x00], Answer::PingResp)
    }
}

/// Shows on `client` that `twin` is served.
///
/// # Errors
/// A failure when it is not.
pub async fn serves(client: &mut Client, twin: &Twin) -> Outcome {
    if let Answer::Delivery(topic) = &twin.answer {
        client.subscribe(topic, QoS::AtMostOnce).await?;
    }
    client.send_bytes(&twin.bytes).await?;
    match &twin.answer {
        Answer::PubAck(id) => {
            let ack = client.expect_puback(*id).await?;
            positive(client, ack.reason)
        }
        Answer::PubRec(id) => {
            let ack = client.expect_pubrec(*id).await?;
            positive(client, ack.reason)?;
            let pubrel = Packet::PubRel(whimbrel_codec::Ack::success(*id));
            client.send(&pubrel).await?;
            client.expect_pubcomp(*id).await.map(drop)
        }
        Answer::PubComp(id) => client.expect_pubcomp(*id).await.map(drop),
        Answer::SubAck(id) => {
            let suback = client.expect_suback(*id).await?;
            suback
                .codes
                .iter()
                .try_for_each(|code| positive(client, *code))
        }
        Answer::UnsubAck(id) => client.expect_unsuback(*id).await.map(drop),
        Answer::PingResp => client.expect_pingresp().await,
        Answer::Delivery(topic) => {
            let topic = topic.clone();
            client.receive_on(&topic).await.map(drop)
        }
        Answer::Alive => client.expect_alive().await,
    }
}

fn positive(client: &Client, reason: ReasonCode) -> Outcome {
    let holds = !reason.is_error();
    let context = client.context();
    context.check(holds, "the well-formed twin served", reason.to_string())
}

/// Shows on a new connection that `twin` is served and then `illegal` ends it, in 5.0 with one of `codes` if any.
///
/// # Errors
/// A failure when either does not hold.
pub async fn refuses(
    context: &Context,
    twin: &Twin,
    illegal: impl AsRef<[u8]>,
    codes: &[ReasonCode],
) -> Outcome {
    let mut client = Client::connect(context, "proof").await?;
    refuses_on(&mut client, twin, illegal, codes).await
}

/// As [`refuses`], on a connection that is there.
///
/// # Errors
/// A failure when either does not hold.
pub async fn refuses_on(
    client: &mut Client,
    twin: &Twin,
    illegal: impl AsRef<[u8]>,
    codes: &[ReasonCode],
) -> Outcome {
    serves(client, twin).await?;
    client.send_bytes(illegal.as_ref()).await?;
    client.expect_closed_with(codes).await
}

/// Shows that the CONNECT `twin` is accepted on one connection, and `illegal` refused on another: see
/// [`Link::expect_connect_refused`] for `codes`.
///
/// # Errors
/// A failure when either does not hold.
pub async fn refuses_connect(
    context: &Context,
    twin: impl AsRef<[u8]>,
    illegal: impl AsRef<[u8]>,
    codes: &[ReasonCode],
) -> Outcome {
    accepts_connect(context, twin).await?;
    let mut link = Link::open(context, "illegal").await?;
    link.send_bytes(illegal.as_ref()).await?;
    link.expect_connect_refused(codes).await
}

/// Shows that this CONNECT is accepted and the connection served; returns the link.
///
/// # Errors
/// A failure when it is not.
pub async fn accepts_connect(context: &Context, connect: impl AsRef<[u8]>) -> Outcome<Link> {
    let mut link = Link::open(context, "twin").await?;
    link.send_bytes(connect.as_ref()).await?;
    link.expect_accepted().await?;
    link.expect_alive().await?;
    Ok(link)
}

/// What a malformed CONNECT may be answered with before the connection is closed: in 5.0 a CONNACK with one of
/// [`MALFORMED`], in 3.x nothing [3:MQTT-3.1.4-1], [3:MQTT-3.2.2-6].
pub fn malformed_connect(context: &Context) -> &'static [ReasonCode] {
    if context.is_v5() { MALFORMED } else { &[] }
}

/// The codes for a packet that can't be parsed or breaks a rule: the standard's own text is not always clear which, and
/// either may be reported (U5-113, F10).
pub const MALFORMED: &[ReasonCode] = &[ReasonCode::MalformedPacket, ReasonCode::ProtocolError];
