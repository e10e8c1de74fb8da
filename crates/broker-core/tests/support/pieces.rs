//! Pieces that tests of edges are put together from.

use bytes::Bytes;
use whimbrel_broker_core::session::codec::topic::ByteStr;
use whimbrel_broker_core::session::codec::{
    Delivery, MessageProperties, Packet, PacketId, ProtocolVersion, Publish, QoS,
    SubscriptionOptions, Unsubscribe, UserProperties, Will, WriteBuf,
};
use whimbrel_broker_core::{ConnectionKey, LocalPublish, LocalSubscribe};

use super::{Rig, name};

pub(crate) fn publication(topic: &str, payload: &str, delivery: Delivery) -> Publish {
    Publish::builder(name(topic))
        .payload(payload.to_owned())
        .delivery(delivery)
        .build()
}

pub(crate) fn first(qos: QoS, id: u16) -> Delivery {
    Delivery::first(qos, PacketId::new(id).expect("not 0"))
}

pub(crate) fn encoded(version: ProtocolVersion, packets: &[Packet]) -> Vec<u8> {
    let mut buffer = WriteBuf::new();
    for packet in packets {
        packet.encode(version, &mut buffer).expect("valid");
    }
    buffer.chunk().to_vec()
}

pub(crate) fn unsubscribe(filter: &str) -> Packet {
    Packet::Unsubscribe(Unsubscribe {
        id: PacketId::MIN,
        filters: vec![ByteStr::from(filter)],
        user_properties: UserProperties::new(),
    })
}

pub(crate) fn subscribe(filter: &str) -> Packet {
    let options = SubscriptionOptions::new(QoS::AtLeastOnce);
    super::subscribe(&[(filter, options)], None)
}

pub(crate) fn will(qos: QoS, retain: bool) -> Will {
    Will {
        topic: name("t"),
        payload: Bytes::from_static(b"gone"),
        qos,
        retain,
        delay_secs: 0,
        properties: MessageProperties::new(),
    }
}

pub(crate) fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

pub(crate) fn attach(rig: &Rig, shard: usize, id: &str) -> ConnectionKey {
    let mut shard = rig.shards[shard].borrow_mut();
    shard.attach_local(rig.env(), &ByteStr::from(id), 1_000)
}

pub(crate) fn subscribe_inside(rig: &Rig, shard: usize, key: ConnectionKey, filter: &str) {
    let subscribe = LocalSubscribe {
        filter: ByteStr::from(filter),
        options: SubscriptionOptions::new(QoS::AtLeastOnce),
    };
    let mut shard = rig.shards[shard].borrow_mut();
    shard.local_subscribe(rig.env(), key, &[subscribe], 0);
}

pub(crate) fn publish_inside(rig: &Rig, shard: usize, key: ConnectionKey, payload: &str, qos: QoS) {
    let publish = LocalPublish {
        topic: name("t"),
        payload: Bytes::from(payload.to_owned()),
        qos,
        retain: false,
        properties: MessageProperties::new(),
    };
    let mut shard = rig.shards[shard].borrow_mut();
    shard.local_publish(rig.env(), key, &publish, 1);
}
