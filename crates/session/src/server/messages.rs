//! Messages for the client: sent, and sent again.

use whimbrel_codec::{FanOut, PacketId};

use super::{ServerConnection, State};
use crate::flow::{Deliver, Redeliver, Resend, ResendRefused, Resent};
use crate::{Exchange, Refused};

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

    /// Begins the exchange of a QoS 2 message whose packet id is to be recorded before the client hears
    /// of it: writes nothing.
    ///
    /// The exchange keeps `item`, and has its id and its unit of the window from now on. When the record
    /// of the id is committed, the caller says so with [`recorded`](Self::recorded), and then
    /// [`next_resend`](Self::next_resend) names the message. `deliver.qos` is to be QoS 2.
    ///
    /// If the connection ends before, the next one sends the message like everything that is open, but
    /// without DUP, and waits for no `recorded`: see [`accept`](Self::accept).
    ///
    /// # Errors
    ///
    /// [`Refused`] gives the item back, and no id was taken: as for `deliver`, but never
    /// [`Refused::OutputFull`]. [`Refused::TooLarge`] is decided with the topic by name.
    pub fn prepare(
        &mut self,
        fan_out: &mut FanOut<'_>,
        deliver: Deliver<'_>,
        item: M,
    ) -> Result<PacketId, Refused<M>> {
        if self.state != State::Connected {
            return Err(Refused::NotConnected(item));
        }
        self.flow.prepare(fan_out, deliver, item)
    }

    /// Whether something is prepared and not sent, on this connection or an earlier one. Order is promised to messages of one QoS only, and so is `deliver`
    /// refused for those; a caller that wants more keeps other messages back.
    pub fn has_prepared(&self) -> bool {
        self.flow.has_unsent()
    }

    /// The record of a packet id that [`prepare`](Self::prepare) has given is committed: its PUBLISH may go
    /// out, after those that were prepared before it.
    ///
    /// Ids that wait for no record are ignored.
    pub fn recorded(&mut self, packet_id: PacketId) {
        self.flow.session.outbound.record(packet_id);
    }

    /// Open exchanges in the order of first sending, as a record makes them: a PUBREC that came and waits
    /// for its record counts as recorded ([`Stage::AwaitPubComp`](crate::Stage::AwaitPubComp)), and so does
    /// the id of a prepared exchange ([`Stage::AwaitPubRec`](crate::Stage::AwaitPubRec)).
    pub fn exchanges_to_record(&self) -> impl Iterator<Item = Exchange<&M>> {
        self.flow.session.outbound.exchanges_to_record()
    }

    /// The id that the next exchange gets.
    pub fn next_packet_id(&self) -> PacketId {
        self.flow.session.outbound.next_packet_id()
    }

    /// Whether there is something for [`next_resend`](Self::next_resend) to name, now or after `Delivered`
    /// events and flushes: messages that a resumed session sends again before any new one of QoS 1 or 2, or
    /// one that was prepared and whose record is committed.
    pub fn is_resending(&self) -> bool {
        self.flow.is_resending()
    }

    /// The next message that is to be sent again [MQTT-4.4.0-1], in the order of first sending
    /// [MQTT-4.6.0-1], or the oldest that was [prepared](Self::prepare), once its id is recorded: encode it
    /// and call [`resend`](Self::resend).
    ///
    /// PUBRELs, which go before it, are written here as far as the output takes them. `None` while the window
    /// or, for PUBRELs, the output is full, and when all is sent or waits for its record: then
    /// [`is_resending`](Self::is_resending) is false. Ask again after `Delivered` events, flushes and
    /// `recorded`. A prepared message has its place in the window already.
    pub fn next_resend(&mut self) -> Option<Resend<'_, M>> {
        self.flow.next_resend()
    }

    /// Sends what [`next_resend`](Self::next_resend) names with its own id, and with DUP unless this is the
    /// first time on any connection [MQTT-3.3.1-1].
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
    /// One that was prepared and sent on no connection is over without PUBREL, since the client never saw its
    /// id.
    ///
    /// # Errors
    ///
    /// [`ResendRefused::NothingToResend`].
    pub fn abandon_resend(&mut self) -> Result<Resent<M>, ResendRefused> {
        self.flow.abandon_resend()
    }

    /// What `deliver` or `prepare` was given for this exchange, for instance to let go of a message body that
    /// [`ServerEvent::Received`](crate::ServerEvent::Received) has made superfluous.
    pub fn item_mut(&mut self, packet_id: PacketId) -> Option<&mut M> {
        self.flow.session.outbound.item_mut(packet_id)
    }
}
