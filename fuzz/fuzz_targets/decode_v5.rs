//! Any bytes, to a 5.0 connection: no panic, no read past a packet, no packet beyond the limits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whimbrel_codec::ProtocolVersion;
use whimbrel_fuzz::{decode_all, small_limits, without_control_characters};

fuzz_target!(|input: &[u8]| {
    let limits = small_limits();
    let received = decode_all(input, ProtocolVersion::V5, &limits);
    let strict = without_control_characters(&limits);
    let strict = decode_all(input, ProtocolVersion::V5, &strict);
    assert!(received.packets.starts_with(&strict.packets));
});
