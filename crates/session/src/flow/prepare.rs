//! Messages whose packet id is recorded before they are sent.

use whimbrel_codec::{Delivery, FanOut, PacketId, QoS};

use super::{Deliver, Flow};
use crate::Refused;

impl<M> Flow<M> {
    /// Begins the exchange of a QoS 2 message, without its PUBLISH.
    pub(crate) fn prepare(
        &mut self,
        fan_out: &mut FanOut<'_>,
        deliver: Deliver<'_>,
        item: M,
    ) -> Result<PacketId, Refused<M>> {
        debug_assert!(deliver.qos == QoS::ExactlyOnce, "other QoS wait for no id");
        if self.muted {
            return Err(Refused::NotConnected(item));
        }
        if self.resume.is_some() {
            return Err(Refused::Resending(item));
        }
        // [MQTT-4.9.0-2]
        if !self.has_send_room() {
            return Err(Refused::WindowFull(item));
        }
        // The topic by its name: which alias it has when it is sent is not known, and that form is
        // taken only if it fits.
        let packet_id = self.session.outbound.next_packet_id();
        let delivery = Delivery::first(QoS::ExactlyOnce, packet_id);
        let target = self.target(delivery, deliver.retain, deliver.subscription_ids);
        let fits = fan_out
            .encoded_len(&target)
            .is_ok_and(|length| length <= self.limits.packet_size_max);
        if !fits && !mutant!(PacketSizeIgnored) {
            return Err(Refused::TooLarge(item));
        }
        let packet_id = self.session.outbound.prepare(item);
        self.assert_invariants();
        Ok(packet_id)
    }

    /// Whether a message is prepared, and sent on no connection.
    pub(crate) fn has_unsent(&self) -> bool {
        let outbound = &self.session.outbound;
        outbound.has_prepared() || self.resume.is_some() && outbound.has_never_sent()
    }

    /// Whether a message sent at once would overtake one that is prepared: order is promised to
    /// messages of one QoS [MQTT-4.6.0-1].
    pub(super) fn would_overtake(&self, qos: QoS) -> bool {
        qos == QoS::ExactlyOnce && self.session.outbound.has_prepared()
    }
}
