//! Any bytes, to a 3.1.1 and a 3.1 connection: no panic, no read past a packet, no packet beyond the limits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whimbrel_codec::ProtocolVersion;
use whimbrel_fuzz::{decode_all, small_limits, without_control_characters};

fuzz_target!(|input: &[u8]| {
    let limits = small_limits();
    for version in [ProtocolVersion::V311, ProtocolVersion::V31] {
        let received = decode_all(input, version, &limits);
        let strict = decode_all(input, version, &without_control_characters(&limits));
        assert!(received.packets.starts_with(&strict.packets));
    }
});
