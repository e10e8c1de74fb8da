//! The QoS 1 and 2 publications the peer has open.

use std::collections::BTreeMap;

use whimbrel_codec::PacketId;

/// QoS 2 ids the peer has in use, and how much of the Receive Maximum it has taken.
///
/// ```text
///          PUBLISH                  PUBREC < 0x80 sent        PUBREL
///  (free) ─────────▶ Accepting ───────────────────────▶ Held ────────▶ Releasing ──▶ (free)
///                        │                               ▲                 │  PUBCOMP sent
///                        │ PUBREC ≥ 0x80 sent            └─────────────────┘
///                        ▼                                 connection lost
///                      (free)
/// ```
///
/// The ids survive the connection, the units of Receive Maximum do not [U5-108]: an exchange from an
/// earlier connection takes a unit only when its PUBLISH comes again. Bounded by the number of packet
/// ids; units are bounded by the Receive Maximum that the caller checks with
/// [`needs_unit`](Self::needs_unit).
#[derive(Debug, Default)]
pub(crate) struct InboundWindow {
    held: BTreeMap<PacketId, Held>,
    /// QoS 1 publications without PUBACK and held ids that took a unit.
    units: usize,
}

/// What a QoS 2 PUBLISH means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// A message to deliver.
    New,
    /// A repeat: PUBREC again, nothing to deliver [MQTT-4.3.3-10], whatever DUP says.
    Repeat,
}

/// What a PUBREL means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// The id is to be released.
    First,
    /// A repeat while the release is under way.
    Repeat,
    /// PUBREC has not been sent.
    TooEarly,
    /// The id is free: the PUBCOMP of an earlier release was lost.
    Unknown,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    phase: Phase,
    /// Holds a unit of the Receive Maximum of this connection.
    counted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Accepting,
    Held,
    Releasing,
}

impl InboundWindow {
    /// A window that holds `packet_ids` from an earlier connection.
    pub(crate) fn holding(packet_ids: impl IntoIterator<Item = PacketId>) -> Self {
        let held = Held {
            phase: Phase::Held,
            counted: false,
        };
        Self {
            held: packet_ids.into_iter().map(|id| (id, held)).collect(),
            units: 0,
        }
    }

    /// Units of Receive Maximum in use on this connection.
    pub(crate) fn units(&self) -> usize {
        self.units
    }

    pub(crate) fn held(&self) -> impl ExactSizeIterator<Item = PacketId> {
        self.held.keys().copied()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether a QoS 2 PUBLISH with this id takes one more unit: a repeat does not take a second one.
    pub(crate) fn needs_unit(&self, packet_id: PacketId) -> bool {
        self.held.get(&packet_id).is_none_or(|held| !held.counted)
    }

    /// QoS 1: no memory of the id is kept [MQTT-4.3.2-5].
    pub(crate) fn open_at_least_once(&mut self) {
        self.units += 1;
    }

    /// PUBACK was sent.
    pub(crate) fn close_at_least_once(&mut self) {
        self.units = self
            .units
            .saturating_sub(usize::from(!mutant!(ReceiveUnitLeaked)));
    }

    /// A QoS 2 message of an earlier connection was taken after all.
    pub(crate) fn hold(&mut self, packet_id: PacketId) {
        self.held.entry(packet_id).or_insert(Held {
            phase: Phase::Held,
            counted: false,
        });
    }

    /// A QoS 2 PUBLISH has come.
    pub(crate) fn publish(&mut self, packet_id: PacketId) -> Arrival {
        let held = Held {
            phase: Phase::Accepting,
            counted: false,
        };
        let mut arrival = Arrival::Repeat;
        let held = self.held.entry(packet_id).or_insert_with(|| {
            arrival = Arrival::New;
            held
        });
        if !std::mem::replace(&mut held.counted, true) {
            self.units += 1;
        }
        if mutant!(RepeatIsNew) {
            arrival = Arrival::New;
        }
        arrival
    }

    /// Whether the id is in use, so that a repeated PUBLISH gets a PUBREC.
    pub(crate) fn holds(&self, packet_id: PacketId) -> bool {
        self.held.contains_key(&packet_id)
    }

    /// PUBREC below 0x80 was sent.
    pub(crate) fn accepted(&mut self, packet_id: PacketId) {
        if let Some(held) = self.held.get_mut(&packet_id)
            && held.phase == Phase::Accepting
        {
            held.phase = Phase::Held;
        }
    }

    /// PUBREC of 0x80 or above was sent: the id is free [MQTT-4.3.3-9].
    pub(crate) fn rejected(&mut self, packet_id: PacketId) {
        self.free(packet_id);
    }

    /// No PUBREC will be sent: the next PUBLISH with this id is a new message. The peer has no answer,
    /// so its unit stays in use.
    pub(crate) fn withheld(&mut self, packet_id: PacketId) {
        self.held.remove(&packet_id);
    }

    /// A PUBREL has come.
    pub(crate) fn release(&mut self, packet_id: PacketId) -> Release {
        let Some(held) = self.held.get_mut(&packet_id) else {
            return Release::Unknown;
        };
        match held.phase {
            Phase::Accepting => Release::TooEarly,
            Phase::Releasing => Release::Repeat,
            Phase::Held => {
                held.phase = Phase::Releasing;
                Release::First
            }
        }
    }

    /// PUBCOMP was sent: the id is free [MQTT-4.3.3-12].
    pub(crate) fn released(&mut self, packet_id: PacketId) {
        let releasing = |held: &Held| held.phase == Phase::Releasing;
        if self.held.get(&packet_id).is_some_and(releasing) {
            self.free(packet_id);
        }
    }

    /// No PUBCOMP will be sent for this PUBREL: it may come again.
    pub(crate) fn release_withheld(&mut self, packet_id: PacketId) {
        if let Some(held) = self.held.get_mut(&packet_id)
            && held.phase == Phase::Releasing
        {
            held.phase = Phase::Held;
        }
    }

    /// The connection is gone: what was being accepted counts as accepted, a PUBREL comes again.
    pub(crate) fn suspend(&mut self) {
        for held in self.held.values_mut() {
            *held = Held {
                phase: Phase::Held,
                counted: false,
            };
        }
        self.units = 0;
    }

    fn free(&mut self, packet_id: PacketId) {
        if let Some(held) = self.held.remove(&packet_id) {
            self.units -= usize::from(held.counted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: PacketId = PacketId::MIN;

    #[test]
    fn a_repeat_of_a_held_id_is_not_delivered_and_takes_no_second_unit() {
        // [5:MQTT-4.3.3-10]
        let mut window = InboundWindow::default();
        assert_eq!(window.publish(ID), Arrival::New);
        window.accepted(ID);
        assert!(!window.needs_unit(ID));
        assert_eq!(window.publish(ID), Arrival::Repeat);
        assert_eq!(window.units(), 1);
    }

    #[test]
    fn an_id_is_new_after_pubcomp() {
        // [5:MQTT-4.3.3-12]
        let mut window = InboundWindow::default();
        window.publish(ID);
        window.accepted(ID);
        assert_eq!(window.release(ID), Release::First);
        window.released(ID);
        assert_eq!(window.units(), 0);
        assert_eq!(window.publish(ID), Arrival::New);
    }

    #[test]
    fn an_id_is_new_after_an_error_pubrec() {
        // [5:MQTT-4.3.3-9]
        let mut window = InboundWindow::default();
        window.publish(ID);
        window.rejected(ID);
        assert_eq!(window.units(), 0);
        assert_eq!(window.publish(ID), Arrival::New);
    }

    #[test]
    fn a_held_id_survives_the_connection_but_its_unit_does_not() {
        // [U5-108]
        let mut window = InboundWindow::default();
        window.publish(ID);
        window.suspend();
        assert_eq!(window.units(), 0);
        assert!(window.needs_unit(ID));
        assert_eq!(window.publish(ID), Arrival::Repeat);
        assert_eq!(window.units(), 1);
    }

    #[test]
    fn a_release_under_way_starts_again_on_the_next_connection() {
        let mut window = InboundWindow::holding([ID]);
        assert_eq!(window.release(ID), Release::First);
        assert_eq!(window.release(ID), Release::Repeat);
        window.suspend();
        assert_eq!(window.release(ID), Release::First);
    }

    #[test]
    fn pubrel_before_pubrec_is_too_early() {
        let mut window = InboundWindow::default();
        window.publish(ID);
        assert_eq!(window.release(ID), Release::TooEarly);
    }
}
