//! The ring of packet ids.

use whimbrel_codec::PacketId;

/// The id `steps` after `packet_id`; 65,535 is followed by 1 [MQTT-2.2.1-3] [MQTT-2.2.1-4].
pub(super) fn advance(packet_id: PacketId, steps: usize) -> PacketId {
    let index = (usize::from(packet_id.get()) - 1 + steps) % SPAN_MAX;
    let id = u16::try_from(index + 1).ok().and_then(PacketId::new);
    id.expect("1 to 65,535 after the remainder")
}

/// Steps from `from` to `to`, 0 to 65,534.
pub(super) fn distance(from: PacketId, to: PacketId) -> usize {
    let (from, to) = (usize::from(from.get()), usize::from(to.get()));
    if to >= from {
        to - from
    } else {
        to + SPAN_MAX - from
    }
}

/// Steps from `packet_id` to `next`, 1 to 65,535: the id about to be taken is the oldest there is.
pub(super) fn age(packet_id: PacketId, next: PacketId) -> usize {
    match distance(packet_id, next) {
        0 => SPAN_MAX,
        steps => steps,
    }
}

/// Every packet id there is.
pub(super) const SPAN_MAX: usize = u16::MAX as usize;
