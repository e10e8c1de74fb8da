//! SUBSCRIBE and UNSUBSCRIBE and their answers.

use whimbrel_codec::topic::ByteStr;
use whimbrel_codec::{
    EncodeError, Packet, PacketId, PacketType, SubAckRef, Subscribe, SubscribeFilter,
    SubscriptionId, UnsubAckRef, Unsubscribe, UserProperties,
};

use super::{ClientConnection, State};
use crate::diagnostics::Fit;
use crate::event::ClientEvent;
use crate::outbound::Request;
use crate::{ProtocolError, Tick, UsageError};

/// What a client subscribes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscribeRequest {
    /// At least one filter.
    pub filters: Vec<SubscribeFilter>,
    /// Comes back with every message these subscriptions match; not in MQTT 3.x.
    pub subscription_id: Option<SubscriptionId>,
    /// Not in MQTT 3.x.
    pub user_properties: UserProperties,
}

/// What a client unsubscribes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnsubscribeRequest {
    /// At least one filter, as it was subscribed to.
    pub filters: Vec<ByteStr>,
    /// Not in MQTT 3.x.
    pub user_properties: UserProperties,
}

/// A request was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestRefused {
    /// Too many packet ids are in use: try again after the next answer.
    #[error("too many exchanges are open")]
    WindowFull,
    /// The packet is larger than the server accepts [MQTT-3.2.2-15].
    #[error("packet is larger than the server accepts")]
    TooLarge,
    /// The connection is not established, or is closing.
    #[error("not connected")]
    NotConnected,
    /// The packet has no form on the wire.
    #[error("packet can't be encoded")]
    Encode(#[from] EncodeError),
}

impl<M> ClientConnection<M> {
    /// Sends SUBSCRIBE under the id that is returned and that [`ClientEvent::SubAck`] repeats.
    ///
    /// Not held back by a full output or send quota [MQTT-3.3.4-8]. An unanswered request ends with its
    /// connection.
    ///
    /// # Errors
    ///
    /// [`RequestRefused`]; nothing was written.
    pub fn subscribe(
        &mut self,
        now: Tick,
        request: SubscribeRequest,
    ) -> Result<PacketId, RequestRefused> {
        let filters = request.filters.len();
        let subscription_id = request.subscription_id;
        let packet = Packet::Subscribe(Subscribe {
            id: self.flow.session.next_packet_id(),
            filters: request.filters,
            subscription_id,
            user_properties: request.user_properties,
        });
        let packet_id = self.request(now, Request::Subscribe { filters }, packet)?;
        if let Some(id) = subscription_id {
            self.given_ids.give(id);
        }
        Ok(packet_id)
    }

    /// Sends UNSUBSCRIBE under the id that is returned and that [`ClientEvent::UnsubAck`] repeats.
    ///
    /// # Errors
    ///
    /// [`RequestRefused`]; nothing was written.
    pub fn unsubscribe(
        &mut self,
        now: Tick,
        request: UnsubscribeRequest,
    ) -> Result<PacketId, RequestRefused> {
        let filters = request.filters.len();
        let packet = Packet::Unsubscribe(Unsubscribe {
            id: self.flow.session.next_packet_id(),
            filters: request.filters,
            user_properties: request.user_properties,
        });
        self.request(now, Request::Unsubscribe { filters }, packet)
    }

    pub(super) fn handle_sub_ack<'a>(
        &mut self,
        ack: SubAckRef<'a>,
    ) -> Result<Option<ClientEvent<'a, M>>, ProtocolError> {
        let packet_type = PacketType::SubAck;
        match self.flow.session.outbound.request(ack.id) {
            // [MQTT-3.8.4-6]
            Some(Request::Subscribe { filters }) if filters == ack.codes().len() => {
                self.flow.session.outbound.close_request(ack.id);
                Ok(Some(ClientEvent::SubAck(ack)))
            }
            Some(Request::Subscribe { .. }) => Err(ProtocolError::ReasonCodeCount { packet_type }),
            Some(Request::Unsubscribe { .. }) | None => self.ignore_answer(ack.id, packet_type),
        }
    }

    pub(super) fn handle_unsub_ack<'a>(
        &mut self,
        ack: UnsubAckRef<'a>,
    ) -> Result<Option<ClientEvent<'a, M>>, ProtocolError> {
        let packet_type = PacketType::UnsubAck;
        let is_v5 = self.flow.version.is_v5();
        match self.flow.session.outbound.request(ack.id) {
            // [MQTT-3.11.3-1]
            Some(Request::Unsubscribe { filters }) if !is_v5 || filters == ack.codes().len() => {
                self.flow.session.outbound.close_request(ack.id);
                Ok(Some(ClientEvent::UnsubAck(ack)))
            }
            Some(Request::Unsubscribe { .. }) => {
                Err(ProtocolError::ReasonCodeCount { packet_type })
            }
            Some(Request::Subscribe { .. }) | None => self.ignore_answer(ack.id, packet_type),
        }
    }

    fn request(
        &mut self,
        now: Tick,
        request: Request,
        mut packet: Packet,
    ) -> Result<PacketId, RequestRefused> {
        if self.state != State::Connected {
            return Err(RequestRefused::NotConnected);
        }
        let span_max = self.flow.span_max() + REQUESTS_RESERVE;
        if !self.flow.session.outbound.has_room(span_max) {
            return Err(RequestRefused::WindowFull);
        }
        match self.flow.put_packet(&mut packet) {
            Ok(Fit::Written) => {}
            Ok(Fit::TooLarge) => return Err(RequestRefused::TooLarge),
            Err(UsageError::Encode(error)) => return Err(RequestRefused::Encode(error)),
            Err(_) => return Err(RequestRefused::NotConnected),
        }
        self.note_sent(now);
        Ok(self.flow.session.outbound.open_request(request))
    }

    /// An answer to nothing is ignored (D7), one to something else is an error.
    fn ignore_answer<'a>(
        &self,
        packet_id: PacketId,
        packet_type: PacketType,
    ) -> Result<Option<ClientEvent<'a, M>>, ProtocolError> {
        if self.flow.session.outbound.is_open(packet_id) {
            return Err(ProtocolError::UnexpectedAck { packet_type });
        }
        Ok(None)
    }
}

/// Packet ids that requests may take beyond the span of publications.
const REQUESTS_RESERVE: usize = 64;
