//! Packets decoded and encoded.

use std::hint::black_box;

use bytes::{Buf, Bytes, BytesMut};
use whimbrel_benches::{Frame, counted, frames};
use whimbrel_broker_core::session::codec::{
    Decoded, FanOut, FanOutBuffer, FanOutTarget, Limits, PacketRef, Payload, ProtocolVersion,
    PublishSource, decode_owned, decode_ref,
};

use crate::Scene;

/// One operation is one packet, decoded and let go, or encoded into memory that is there.
pub(crate) fn scenes() -> Vec<Scene> {
    let operations = [
        ("decode_ref", decode_by_ref as Run),
        ("decode_owned", decode_to_owned),
        ("encode", encode),
    ];
    let mut scenes = Vec::new();
    for (version, name) in [(ProtocolVersion::V311, "v4"), (ProtocolVersion::V5, "v5")] {
        let frames = frames(version).into_iter();
        for frame in frames.filter(|frame| FRAMES.contains(&frame.name)) {
            let scene = |operation: &str, run: Run| {
                let frame = frame.clone();
                let name = format!("codec/{operation}/{name}/{}", frame.name);
                Scene::new(name, move || run(&frame))
            };
            scenes.extend(operations.map(|(operation, run)| scene(operation, run)));
            if frame.name.starts_with("publish") {
                scenes.push(scene("fan_out", fan_out));
            }
        }
    }
    scenes
}

/// Does one thing with many of a frame, and says how many.
type Run = fn(&Frame) -> usize;

fn decode_by_ref(frame: &Frame) -> usize {
    let bytes = frame.bytes.repeat(PACKETS);
    counted(|| {
        let mut input = &*bytes;
        for _ in 0..PACKETS {
            let decoded = decode_ref(black_box(input), frame.version, &Limits::DEFAULT);
            let Decoded { packet, length } = decoded.expect("valid").expect("whole");
            black_box(packet);
            input = &input[length..];
        }
        assert!(input.is_empty());
    });
    PACKETS
}

fn decode_to_owned(frame: &Frame) -> usize {
    let mut input = Bytes::from(frame.bytes.repeat(PACKETS));
    counted(|| {
        for _ in 0..PACKETS {
            let decoded = decode_owned(black_box(&input), frame.version, &Limits::DEFAULT);
            let decoded = decoded.expect("valid").expect("whole");
            input.advance(decoded.length);
            drop(black_box(decoded.packet));
        }
        assert!(input.is_empty());
    });
    PACKETS
}

fn encode(frame: &Frame) -> usize {
    let bytes = Bytes::from(frame.bytes.clone());
    let decoded = decode_owned(&bytes, frame.version, &Limits::DEFAULT);
    let packet = decoded.expect("valid").expect("whole").packet;
    let mut output = BytesMut::with_capacity(frame.bytes.len() * PACKETS);
    counted(|| {
        for _ in 0..PACKETS {
            let encoded = black_box(&packet).encode(frame.version, &mut output);
            encoded.expect("it was decoded in this version");
        }
    });
    assert_eq!(output.len(), frame.bytes.len() * PACKETS);
    PACKETS
}

/// What a PUBLISH costs when the same message goes to many: the template and its share of making it.
fn fan_out(frame: &Frame) -> usize {
    let decoded = decode_ref(&frame.bytes, frame.version, &Limits::DEFAULT);
    let PacketRef::Publish(publish) = decoded.expect("valid").expect("whole").packet else {
        panic!("only PUBLISH is fanned out");
    };
    let source = PublishSource {
        topic: publish.topic().expect("it has no alias"),
        properties: publish.properties(),
        payload: Payload::Borrowed(publish.payload()),
        message_expiry_secs: publish.properties().message_expiry_secs(),
    };
    let target = FanOutTarget::new(frame.version, publish.delivery());
    let mut buffer = FanOutBuffer::new();
    let mut output = BytesMut::with_capacity(frame.bytes.len() * PACKETS);
    counted(|| {
        let mut fan_out = FanOut::new(black_box(source), &mut buffer);
        for _ in 0..PACKETS {
            let written = fan_out.write(black_box(&target), &mut output);
            written.expect("it was decoded in this version");
        }
    });
    assert_eq!(output.len(), frame.bytes.len() * PACKETS);
    PACKETS
}

/// The packets that are most of the traffic, and two that allocate.
const FRAMES: [&str; 7] = [
    "publish_qos1_64B",
    "publish_qos1_1KiB",
    "publish_qos1_64B_properties",
    "publish_qos1_1KiB_properties",
    "puback",
    "subscribe_3",
    "connect",
];
const PACKETS: usize = 1_000;
