//! [`print`]: which invalid PUBLISH packets each codec accepts.

use whimbrel_benches::Frame;
use whimbrel_broker_core::session::codec::ProtocolVersion;

use crate::library::{
    Borrowed, Library, Mqttrs, Ntex4, Ntex5, Owned, Proto4, Proto5, ProtocolCore, Rumqttc4,
    Rumqttc5,
};

/// Prints what of the work the figures are about each codec leaves to its user.
pub(crate) fn print() {
    print_table(ProtocolVersion::V311, &[ANY, V311]);
    print_table(ProtocolVersion::V5, &[V5]);
}

fn print_table(version: ProtocolVersion, tables: &[&[Invalid]]) {
    println!("\n{version:?}\n");
    for (what, bytes) in tables.concat() {
        let frame = Frame {
            name: what,
            version,
            bytes: bytes.to_vec(),
        };
        let mut accepting = Vec::new();
        accepts::<Borrowed>(&frame, &mut accepting);
        accepts::<Owned>(&frame, &mut accepting);
        accepts::<Rumqttc4>(&frame, &mut accepting);
        accepts::<Rumqttc5>(&frame, &mut accepting);
        accepts::<ProtocolCore>(&frame, &mut accepting);
        accepts::<Mqttrs>(&frame, &mut accepting);
        accepts::<Proto4>(&frame, &mut accepting);
        accepts::<Proto5>(&frame, &mut accepting);
        accepts::<Ntex4>(&frame, &mut accepting);
        accepts::<Ntex5>(&frame, &mut accepting);
        println!("- {what}: {}", accepting.join(", "));
    }
}

fn accepts<'f, L: Library<'f>>(frame: &'f Frame, accepting: &mut Vec<&'static str>) {
    if L::speaks(frame.version) {
        let mut input = L::input(&frame.bytes, frame);
        if L::decode(&mut input, frame.version).is_some() {
            accepting.push(L::NAME);
        }
    }
}

/// What is wrong, and a packet with that.
type Invalid = (&'static str, &'static [u8]);

/// Invalid in every version, and written as 3.1.1 has it.
const ANY: &[Invalid] = &[
    ("topic that is not UTF-8", b"\x30\x06\x00\x03a\xffbx"),
    ("topic with U+0000", b"\x30\x06\x00\x03a\0bx"),
    ("topic with a wildcard", b"\x30\x06\x00\x03a/#x"),
    ("DUP without QoS", b"\x38\x06\x00\x03a/bx"),
    ("QoS 3", b"\x36\x08\x00\x03a/b\x00\x01x"),
    ("packet identifier 0", b"\x32\x08\x00\x03a/b\x00\x00x"),
    ("topic longer than the packet", b"\x30\x06\x00\x09a/bx"),
];
const V311: &[Invalid] = &[("empty topic", b"\x30\x03\x00\x00x")];
const V5: &[Invalid] = &[
    ("topic that is not UTF-8", b"\x30\x07\x00\x03a\xffb\x00x"),
    ("topic with U+0000", b"\x30\x07\x00\x03a\0b\x00x"),
    ("topic with a wildcard", b"\x30\x07\x00\x03a/#\x00x"),
    ("DUP without QoS", b"\x38\x07\x00\x03a/b\x00x"),
    ("QoS 3", b"\x36\x09\x00\x03a/b\x00\x01\x00x"),
    ("packet identifier 0", b"\x32\x09\x00\x03a/b\x00\x00\x00x"),
    ("empty topic without an alias", b"\x30\x04\x00\x00\x00x"),
    ("length in a longer form", b"\x30\x87\x00\x00\x03a/b\x00x"),
    ("topic alias 0", b"\x30\x0a\x00\x03a/b\x03\x23\x00\x00x"),
    (
        "the same property twice",
        b"\x30\x0b\x00\x03a/b\x04\x01\x00\x01\x00x",
    ),
    (
        "property of another packet",
        b"\x30\x0a\x00\x03a/b\x03\x21\x00\x01x",
    ),
    ("payload format 2", b"\x30\x09\x00\x03a/b\x02\x01\x02x"),
    (
        "response topic with a wildcard",
        b"\x30\x0b\x00\x03a/b\x04\x08\x00\x01#x",
    ),
    (
        "user property with U+0000",
        b"\x30\x0d\x00\x03a/b\x06\x26\x00\x01\0\x00\x00x",
    ),
    (
        "subscription identifier 0",
        b"\x30\x09\x00\x03a/b\x02\x0b\x00x",
    ),
    (
        "properties longer than the packet",
        b"\x30\x07\x00\x03a/b\x09x",
    ),
];
