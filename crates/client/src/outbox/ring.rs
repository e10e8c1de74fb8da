//! The ring of packet ids, as a session's window of exchanges counts them.

use whimbrel_session::codec::PacketId;

/// The id after `packet_id`; 65,535 is followed by 1 [MQTT-2.2.1-3].
pub(super) fn after(packet_id: PacketId) -> PacketId {
    let next = packet_id.get().checked_add(1);
    next.and_then(PacketId::new).unwrap_or(PacketId::MIN)
}

/// Steps on the ring of ids, 0 to 65,534.
pub(super) fn distance(from: PacketId, to: PacketId) -> u16 {
    let steps = to.get().wrapping_sub(from.get());
    // The ring has no 0.
    steps.wrapping_sub(u16::from(to < from))
}

/// Steps from the oldest id in use to the one that is taken next, 1 to 65,535.
pub(super) fn age(oldest: PacketId, next: PacketId) -> u16 {
    match distance(oldest, next) {
        0 => u16::MAX,
        steps => steps,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u16) -> PacketId {
        PacketId::new(number).expect("not 0")
    }

    #[test]
    fn the_ring_has_no_0() {
        // [5:MQTT-2.2.1-3]
        assert_eq!(after(id(65_535)), id(1));
        assert_eq!(distance(id(65_535), id(1)), 1);
        assert_eq!(distance(id(2), id(1)), 65_534);
        assert_eq!(distance(id(1), id(65_535)), 65_534);
    }

    #[test]
    fn the_id_that_is_about_to_be_taken_is_the_oldest_there_is() {
        assert_eq!(age(id(7), id(7)), 65_535);
        assert_eq!(age(id(7), id(8)), 1);
    }
}
