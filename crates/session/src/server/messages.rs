//! Messages for the client: sent, and sent again.

use whimbrel_codec::{FanOut, PacketId};

use super::{ServerConnection, State};
use crate::Refused;
use crate::flow::{Deliver, Redeliver, Resend, ResendRefused, Resent};

impl<M> ServerConnection<M> {
    /// Writes a PUBLISH into the output.
    ///
    /// QoS 1 and 2 begin an exchange that keeps `item` until [`ServerEvent::Delivered`](crate::ServerEvent::Delivered), or until the
    /// session's end; a QoS 0 item is dropped.
    ///
    /// # Errors
    ///
    /// [`Refused`] gives the item back; nothing was written.
    pub fn deliver(
        &mut self,
        fan_out: &mut FanOut<'_>,
        deliver: Deliver<'_>,
        item: M,
    ) -> Result<(), Refused<M>> {
        if self.state != State::Connected {
            return Err(Refused::NotConnected(item));
        }
        self.flow.send(fan_out, deliver, item).map(|_| ())
    }

    /// Whether a resumed session has messages that are to be sent again before any new one of QoS 1 or 2.
    pub fn is_resending(&self) -> bool {
        self.flow.is_resending()
    }

    /// The next message that is to be sent again [MQTT-4.4.0-1], in the order of first sending
    /// [MQTT-4.6.0-1]: encode it and call [`resend`](Self::resend).
    ///
    /// PUBRELs, which go before it, are written here as far as the output takes them. `None` while the window
    /// or, for PUBRELs, the output is full, and when all is sent: then [`is_resending`](Self::is_resending) is
    /// false. Ask again after `Delivered` events and flushes.
    pub fn next_resend(&mut self) -> Option<Resend<'_, M>> {
        self.flow.next_resend()
    }

    /// Sends what [`next_resend`](Self::next_resend) names, with DUP and its own id.
    ///
    /// A message that the client no longer accepts for its size is treated as delivered [MQTT-3.1.2-25].
    ///
    /// # Errors
    ///
    /// [`ResendRefused`] where the output is full or nothing is to be sent now.
    pub fn resend(
        &mut self,
        fan_out: &mut FanOut<'_>,
        redeliver: Redeliver<'_>,
    ) -> Result<Resent<M>, ResendRefused> {
        self.flow.resend(fan_out, redeliver)
    }

    /// Does not send what [`next_resend`](Self::next_resend) names, because the message is gone.
    ///
    /// # Errors
    ///
    /// [`ResendRefused::NothingToResend`].
    pub fn abandon_resend(&mut self) -> Result<Resent<M>, ResendRefused> {
        self.flow.abandon_resend()
    }

    /// What `deliver` was given for this exchange, for instance to let go of a message body that
    /// [`ServerEvent::Received`](crate::ServerEvent::Received) has made superfluous.
    pub fn item_mut(&mut self, packet_id: PacketId) -> Option<&mut M> {
        self.flow.session.outbound.item_mut(packet_id)
    }
}
