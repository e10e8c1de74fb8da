//! [`frames`]: the packets that are decoded and encoded.

use std::num::NonZeroU16;

use whimbrel_broker_core::session::codec::topic::{ByteStr, TopicNameBuf};
use whimbrel_broker_core::session::codec::{
    Ack, AckProperties, Connect, Delivery, MessageProperties, Packet, PacketId, ProtocolVersion,
    Publish, QoS, ReasonCode, SubAck, Subscribe, SubscribeFilter, SubscriptionOptions,
    UserProperties,
};

/// One packet in the form of one version.
#[derive(Clone, Debug)]
pub struct Frame {
    /// What figures call it.
    pub name: &'static str,
    /// Its version.
    pub version: ProtocolVersion,
    /// It, as on the wire.
    pub bytes: Vec<u8>,
}

/// The packets a broker sees most, and CONNECT.
///
/// # Panics
/// When one can't be encoded, which is a bug.
pub fn frames(version: ProtocolVersion) -> Vec<Frame> {
    let mut packets = vec![
        ("connect", connect(version)),
        ("publish_qos0_64B", publish(QoS::AtMostOnce, 64, None)),
        ("publish_qos1_64B", publish(QoS::AtLeastOnce, 64, None)),
        ("publish_qos0_1KiB", publish(QoS::AtMostOnce, 1024, None)),
        ("publish_qos1_1KiB", publish(QoS::AtLeastOnce, 1024, None)),
        ("puback", Packet::PubAck(Ack::success(id(4242)))),
        ("subscribe_3", subscribe()),
        ("suback_3", suback()),
        ("pingreq", Packet::PingReq),
    ];
    if version.is_v5() {
        let properties = properties();
        let properties = Some(&properties);
        packets.extend([
            (
                "publish_qos0_64B_properties",
                publish(QoS::AtMostOnce, 64, properties),
            ),
            (
                "publish_qos1_64B_properties",
                publish(QoS::AtLeastOnce, 64, properties),
            ),
            (
                "publish_qos1_1KiB_properties",
                publish(QoS::AtLeastOnce, 1024, properties),
            ),
            ("publish_qos1_64B_alias", publish_with_alias()),
        ]);
    }
    let frame = |(name, packet): (&'static str, Packet)| {
        let mut bytes = Vec::new();
        let encoded = packet.encode(version, &mut bytes);
        encoded.expect("the packet has a form in this version");
        Frame {
            name,
            version,
            bytes,
        }
    };
    packets.into_iter().map(frame).collect()
}

fn connect(version: ProtocolVersion) -> Packet {
    let mut connect = Connect::new(version, "sensor-gateway-0042");
    connect.keep_alive_secs = 60;
    connect.user_name = Some(ByteStr::from("gateway"));
    connect.password = Some(b"correct horse battery staple".as_slice().into());
    if version.is_v5() {
        connect.properties.session_expiry_secs = 3_600;
    }
    Packet::Connect(Box::new(connect))
}

fn publish(qos: QoS, payload_bytes: usize, properties: Option<&MessageProperties>) -> Packet {
    let mut publish = Publish::builder(topic())
        .payload(vec![b'x'; payload_bytes])
        .delivery(Delivery::first(qos, id(4242)));
    if let Some(properties) = properties {
        publish = publish.properties(properties);
    }
    Packet::Publish(publish.build())
}

/// As a client sends it that sets a topic alias.
fn publish_with_alias() -> Packet {
    let properties = MessageProperties::builder()
        .message_expiry_secs(300)
        .user_property("unit", "celsius")
        .build()
        .expect("valid properties");
    let publish = Publish::builder(topic())
        .payload(vec![b'x'; 64])
        .delivery(Delivery::first(QoS::AtLeastOnce, id(4242)))
        .properties(&properties)
        .topic_alias(NonZeroU16::MIN)
        .build();
    Packet::Publish(publish)
}

fn topic() -> TopicNameBuf {
    TopicNameBuf::try_from("site/12/345/state").expect("a valid topic name")
}

fn properties() -> MessageProperties {
    MessageProperties::builder()
        .message_expiry_secs(300)
        .correlation_data(b"0123456789abcdef")
        .user_property("unit", "celsius")
        .user_property("firmware", "4.11.2")
        .build()
        .expect("valid properties")
}

fn subscribe() -> Packet {
    let filters = ["site/12/+/state", "site/12/345/#", "plant/7/alarm"];
    let filters = filters.map(|filter| SubscribeFilter {
        filter: ByteStr::from(filter),
        options: SubscriptionOptions::new(QoS::AtLeastOnce),
    });
    Packet::Subscribe(Subscribe {
        id: id(7),
        filters: filters.into(),
        subscription_id: None,
        user_properties: UserProperties::new(),
    })
}

fn suback() -> Packet {
    Packet::SubAck(Box::new(SubAck {
        id: id(7),
        codes: vec![ReasonCode::GrantedQos1; 3],
        properties: AckProperties::new(),
    }))
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).expect("not 0")
}
