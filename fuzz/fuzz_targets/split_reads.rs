//! Any bytes in any pieces: the packets and the error are those of the whole.
//!
//! The first byte chooses the version, the second how the rest is cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whimbrel_codec::{PacketRef, ProtocolVersion, decode_ref};
use whimbrel_fuzz::{Received, decode_all, small_limits};

fuzz_target!(|input: &[u8]| {
    let [version, cut, input @ ..] = input else {
        return;
    };
    let first_version = match version % 3 {
        0 => ProtocolVersion::V31,
        1 => ProtocolVersion::V311,
        _ => ProtocolVersion::V5,
    };
    let limits = small_limits();
    let mut version = first_version;
    let mut cut = usize::from(*cut);
    let mut received = Received {
        packets: Vec::new(),
        error: None,
        rest: 0,
    };
    let mut buffer = Vec::new();
    let mut rest = input;
    'reads: while !rest.is_empty() {
        // Pieces of one byte up to 32, in no pattern.
        cut = (cut * 5 + 3) % 251;
        let (piece, tail) = rest.split_at(rest.len().min(1 + cut % 32));
        buffer.extend_from_slice(piece);
        rest = tail;
        loop {
            match decode_ref(&buffer, version, &limits) {
                Ok(Some(decoded)) => {
                    if let PacketRef::Connect(connect) = decoded.packet {
                        version = connect.version;
                    }
                    received.packets.push(decoded.packet.into_owned());
                    let length = decoded.length;
                    buffer.drain(..length);
                }
                Ok(None) => break,
                Err(error) => {
                    received.error = Some(error);
                    break 'reads;
                }
            }
        }
    }
    received.rest = buffer.len() + rest.len();
    assert_eq!(received, decode_all(input, first_version, &limits));
});
