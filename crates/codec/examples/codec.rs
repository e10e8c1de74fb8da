//! The codec alone: what a client and a server would write to each other, without a socket.
//!
//! Run it with `cargo run -p whimbrel-codec --example codec`.

use whimbrel_codec::topic::TopicName;
use whimbrel_codec::{
    AckType, Connect, Delivery, FanOut, FanOutBuffer, FanOutTarget, Limits, MessageProperties,
    Packet, PacketId, PacketRef, Payload, ProtocolVersion, Publish, PublishSource, QoS, ReasonCode,
    WriteBuf, decode_ref, encode_ack,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A client writes two packets.
    let version = ProtocolVersion::V5;
    let mut sent = WriteBuf::new();
    Packet::Connect(Box::new(Connect::new(version, "kitchen"))).encode(version, &mut sent)?;
    let properties = MessageProperties::builder()
        .content_type("text/plain")
        .user_property("unit", "celsius")
        .build()?;
    let publish = Publish::builder(TopicName::new("sensors/kitchen")?)
        .delivery(Delivery::first(QoS::AtLeastOnce, PacketId::MIN))
        .properties(&properties)
        .payload("21.5")
        .build();
    Packet::Publish(publish).encode(version, &mut sent)?;

    // A server reads them in place, acknowledges the message, and passes it on to an older client.
    let limits = Limits::DEFAULT;
    let mut answer = WriteBuf::new();
    let mut subscriber = WriteBuf::new();
    let mut fan_out_buffer = FanOutBuffer::new();
    let mut input = sent.chunk();
    while let Some(decoded) = decode_ref(input, version, &limits)? {
        println!(
            "{:>3} bytes: {}",
            decoded.length,
            decoded.packet.packet_type()
        );
        if let PacketRef::Publish(publish) = decoded.packet {
            let (Some(topic), Some(id)) = (publish.topic(), publish.packet_id()) else {
                continue;
            };
            for property in publish.properties() {
                println!("           {property:?}");
            }
            encode_ack(
                &mut answer,
                AckType::PubAck,
                id,
                ReasonCode::Success,
                version,
            )?;
            let source = PublishSource {
                topic,
                properties: publish.properties(),
                payload: Payload::Borrowed(publish.payload()),
                message_expiry_secs: None,
            };
            let target = FanOutTarget::new(ProtocolVersion::V311, Delivery::AtMostOnce);
            FanOut::new(source, &mut fan_out_buffer).write(&target, &mut subscriber)?;
        }
        input = &input[decoded.length..];
    }
    println!("to the publisher:  {:02x?}", answer.chunk());
    println!("to the subscriber: {}", subscriber.chunk().escape_ascii());

    // What is no packet is refused with a reason.
    let error = decode_ref(b"\x32\x06\x00\x01#\x00\x01\x00", version, &limits).unwrap_err();
    println!("refused: {error}, close with {}", error.reason_code());
    Ok(())
}
