//! Writes the seeds of the codec's targets: `cargo run --example seeds` in `fuzz/`.
//!
//! Those of the decoders come from the codec's table of vectors: for each version and packet type, one file of all
//! valid packets, one after the other.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use arbitrary::{Arbitrary, Unstructured};
use whimbrel_codec::{Packet, PacketType, ProtocolVersion};

use crate::table::Outcome;

// Beside it is the `vectors.txt` that it reads; the tests there use all of it.
#[allow(dead_code)]
#[path = "../../crates/codec/tests/wire/table.rs"]
mod table;

fn main() -> io::Result<()> {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    for (name, input) in packets_of_the_table() {
        let (target, version) = match name.version {
            ProtocolVersion::V31 => ("decode_v3", 0),
            ProtocolVersion::V311 => ("decode_v3", 1),
            ProtocolVersion::V5 => ("decode_v5", 2),
        };
        let file = format!("v{}-{}", name.version.level(), name.packet_type);
        write(&seeds.join(target), &file, &input)?;
        write(
            &seeds.join("split_reads"),
            &file,
            &[&[version, 7], &input[..]].concat(),
        )?;
    }
    for (packet_type, seed) in packets_of_chance() {
        write(&seeds.join("roundtrip"), &packet_type.to_string(), &seed)?;
    }
    Ok(())
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    version: ProtocolVersion,
    packet_type: PacketType,
}

fn packets_of_the_table() -> BTreeMap<Name, Vec<u8>> {
    let mut inputs: BTreeMap<Name, Vec<u8>> = BTreeMap::new();
    for vector in table::all() {
        let is_packet = matches!(vector.expectation, Outcome::Packet(_));
        // A long topic tells a fuzzer nothing and slows it down.
        if !is_packet || vector.bytes.len() > 512 {
            continue;
        }
        let packet_type = PacketType::from_first_byte(vector.bytes[0]).expect("a packet");
        let version = vector.version;
        let input = inputs
            .entry(Name {
                version,
                packet_type,
            })
            .or_default();
        input.extend_from_slice(&vector.bytes);
    }
    inputs
}

/// For each packet type, bytes that `Packet::arbitrary` makes one of.
fn packets_of_chance() -> BTreeMap<PacketType, Vec<u8>> {
    let mut seeds = BTreeMap::new();
    let mut state = 1_u32;
    while seeds.len() < PacketType::ALL.len() {
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        let seed: Vec<u8> = (0..96).map(|_| next()).collect();
        let packet = Packet::arbitrary(&mut Unstructured::new(&seed)).expect("a packet");
        seeds.entry(packet.packet_type()).or_insert(seed);
    }
    seeds
}

fn write(folder: &Path, file: &str, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join(file.to_lowercase()), bytes)
}
