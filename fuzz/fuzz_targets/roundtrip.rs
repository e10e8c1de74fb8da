//! Any packet, in every version: what is encoded is decoded as the downgraded packet.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whimbrel_codec::{Limits, Packet, ProtocolVersion};
use whimbrel_fuzz::check_round_trip;

fuzz_target!(|packet: Packet| {
    for version in [
        ProtocolVersion::V31,
        ProtocolVersion::V311,
        ProtocolVersion::V5,
    ] {
        check_round_trip(&packet, version, &Limits::DEFAULT);
    }
});
