//! The flow of messages over one connection: what servers and clients do alike.

mod prepare;
mod resume;

use std::num::NonZeroU16;

use whimbrel_codec::topic::TopicName;
use whimbrel_codec::{
    Ack, AckProperties, AckRef, AckType, Delivery, FanOut, FanOutTarget, Packet, PacketId,
    PacketType, ProtocolVersion, PublishRef, QoS, ReasonCode, Sink, SubscriptionId, TopicForm,
    WriteBuf, encode_ack, encode_pingresp,
};

use crate::ack::{AckKind, AckQueues, Answer, DueAck};
use crate::alias::{ReceivedAliases, SentAliases, TopicRef};
use crate::diagnostics::{self, Fit};
use crate::event::{Hold, InboundPublish};
use crate::inbound::{Arrival, Release};
use crate::outbound::Received;
use crate::{AckToken, Epoch, ProtocolError, Refused, SessionState, UsageError};

use self::resume::Resume;
pub use self::resume::{Redeliver, Resend, ResendRefused, Resent};

/// One connection's share in a session, with the limits both sides have set for it.
#[derive(Debug)]
pub(crate) struct Flow<M> {
    pub(crate) version: ProtocolVersion,
    pub(crate) output: WriteBuf,
    pub(crate) limits: FlowLimits,
    pub(crate) session: SessionState<M>,
    acks: AckQueues,
    /// Topic aliases that the peer may use.
    received_alias_max: u16,
    /// Made when the first one comes.
    received_aliases: Option<Box<ReceivedAliases>>,
    /// Made when the first PUBLISH is sent, where the peer takes aliases.
    sent_aliases: Option<Box<SentAliases>>,
    resume: Option<Box<Resume>>,
    /// Nothing more is written [MQTT-3.14.4-1].
    muted: bool,
    /// Something was written since the last [`take_wrote`](Self::take_wrote).
    wrote: bool,
    /// Packets written since the last [`take_packets_sent`](Self::take_packets_sent).
    packets_sent: u32,
}

/// What bounds the flow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FlowLimits {
    /// QoS 1 and 2 publications that the peer may have open.
    pub(crate) receive_maximum: u16,
    /// QoS 1 and 2 publications that may be open towards the peer.
    pub(crate) in_flight_max: u16,
    /// The peer's Maximum Packet Size.
    pub(crate) packet_size_max: usize,
    pub(crate) output_bytes_max: usize,
    /// Topic aliases that may be given to the peer [MQTT-3.1.2-27] [MQTT-3.2.2-18].
    pub(crate) sent_alias_max: u16,
    /// Whether the peer wants reasons in words on acknowledgements [MQTT-3.1.2-29].
    pub(crate) problem_information: bool,
}

/// How a message is sent to one receiver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deliver<'a> {
    /// QoS of this delivery: the lower of published and granted [MQTT-3.8.4-8].
    pub qos: QoS,
    /// The RETAIN flag.
    pub retain: bool,
    /// Identifiers of the subscriptions that matched; none for MQTT 3.x clients [MQTT-3.3.4-3].
    pub subscription_ids: &'a [SubscriptionId],
}

/// What an acknowledgement tells the caller.
#[derive(Debug)]
pub(crate) enum FlowEvent<M> {
    Delivered {
        packet_id: PacketId,
        item: M,
        reason: ReasonCode,
    },
    Received {
        packet_id: PacketId,
        token: AckToken,
    },
    Release {
        packet_id: PacketId,
        token: AckToken,
    },
}

impl<M> Flow<M> {
    pub(crate) fn new(epoch: Epoch, version: ProtocolVersion, limits: FlowLimits) -> Self {
        Self {
            version,
            output: WriteBuf::new(),
            limits,
            session: SessionState::new(),
            acks: AckQueues::new(epoch),
            received_alias_max: 0,
            received_aliases: None,
            sent_aliases: None,
            resume: None,
            muted: false,
            wrote: false,
            packets_sent: 0,
        }
    }

    /// Begins with this session. What it has open is resent before anything new.
    pub(crate) fn start(&mut self, resumed: Option<SessionState<M>>, topic_alias_max: u16) {
        self.received_alias_max = topic_alias_max;
        self.received_aliases = None;
        let Some(mut session) = resumed else {
            self.session = SessionState::new();
            return;
        };
        session.suspend();
        self.resume = Some(Box::new(Resume::new(&session)));
        self.session = session;
        self.continue_resume();
    }

    /// Ends with this session: what the caller has settled is applied, nothing is written.
    pub(crate) fn into_session(mut self) -> SessionState<M> {
        self.muted = true;
        let acks = std::mem::replace(&mut self.acks, AckQueues::new(Epoch::default()));
        for due in acks.into_settled() {
            self.acknowledge(due);
        }
        self.session.suspend();
        self.session
    }

    /// From now on nothing is written.
    pub(crate) fn mute(&mut self) {
        self.muted = true;
    }

    /// Whether something was written since this was last asked.
    pub(crate) fn take_wrote(&mut self) -> bool {
        std::mem::take(&mut self.wrote)
    }

    /// How many packets were written since this was last asked.
    pub(crate) fn take_packets_sent(&mut self) -> u64 {
        u64::from(std::mem::take(&mut self.packets_sent))
    }

    /// Why the packet that starts with `first_byte` is not decoded now.
    pub(crate) fn hold(&self, first_byte: u8) -> Option<Hold> {
        if self.output.len() >= self.limits.output_bytes_max.saturating_add(OUTPUT_RESERVE) {
            return Some(Hold::Output);
        }
        let acks_max = usize::from(self.limits.receive_maximum) + ACKS_RESERVE;
        // An MQTT 3.x client knows no Receive Maximum to keep.
        let publish_max = if self.version.is_v5() || !is_acknowledged_publish(first_byte) {
            acks_max
        } else {
            usize::from(self.limits.receive_maximum)
        };
        let full = self.acks.len() >= acks_max || self.acks.publishes() >= publish_max;
        full.then_some(Hold::Acknowledgements)
    }

    /// QoS 1 and 2 publications that may come before the peer has to wait.
    pub(crate) fn receive_credit(&self) -> usize {
        let used = if self.version.is_v5() {
            self.session.inbound.units()
        } else {
            self.acks.publishes()
        };
        usize::from(self.limits.receive_maximum).saturating_sub(used)
    }

    /// QoS 1 and 2 publications that may be sent before the peer has to acknowledge.
    pub(crate) fn send_credit(&self) -> usize {
        let in_flight = self.session.outbound.in_flight();
        let in_flight_max =
            usize::from(self.limits.in_flight_max) + usize::from(mutant!(SendWindowOffByOne));
        in_flight_max.saturating_sub(in_flight)
    }

    /// Whether a QoS 1 or 2 publication could be sent now, as far as the window is concerned.
    pub(crate) fn has_send_room(&self) -> bool {
        self.resume.is_none()
            && self.send_credit() > 0
            && self.session.outbound.has_room(self.span_max())
    }

    pub(crate) fn handle_publish<'a>(
        &mut self,
        publish: PublishRef<'a>,
    ) -> Result<Option<InboundPublish<'a>>, ProtocolError> {
        // The mapping is set even if the message is refused: the peer counts on it (D14).
        let alias = publish.properties().topic_alias();
        let topic = self.resolve_topic(publish.topic(), alias)?;
        let token = match (publish.qos(), publish.packet_id()) {
            (QoS::AtMostOnce, _) | (_, None) => None,
            (QoS::AtLeastOnce, Some(packet_id)) => {
                self.check_receive_maximum()?;
                self.session.inbound.open_at_least_once();
                Some(self.acks.owe(AckKind::PubAck, packet_id))
            }
            (QoS::ExactlyOnce, Some(packet_id)) => {
                if self.session.inbound.needs_unit(packet_id) {
                    self.check_receive_maximum()?;
                }
                match self.session.inbound.publish(packet_id) {
                    Arrival::New => Some(self.acks.owe(AckKind::PubRec, packet_id)),
                    Arrival::Repeat => {
                        self.answer_in_turn(AckKind::PubRec, packet_id, Answer::Repeat);
                        return Ok(None);
                    }
                }
            }
        };
        Ok(Some(InboundPublish {
            topic,
            publish,
            token,
        }))
    }

    pub(crate) fn handle_pub_ack(
        &mut self,
        ack: &AckRef<'_>,
    ) -> Result<Option<FlowEvent<M>>, ProtocolError> {
        let closed = self.session.outbound.pub_ack(ack.id);
        let item = closed.map_err(|_| unexpected(PacketType::PubAck))?;
        Ok(delivered(ack, item))
    }

    pub(crate) fn handle_pub_rec(
        &mut self,
        ack: &AckRef<'_>,
    ) -> Result<Option<FlowEvent<M>>, ProtocolError> {
        let window = &mut self.session.outbound;
        // A reason code in MQTT 3.x is always success.
        if ack.reason.is_error() {
            let closed = window.pub_rec_failed(ack.id);
            let item = closed.map_err(|_| unexpected(PacketType::PubRec))?;
            return Ok(delivered(ack, item));
        }
        let received = window.pub_rec(ack.id);
        match received.map_err(|_| unexpected(PacketType::PubRec))? {
            Received::First => Ok(Some(FlowEvent::Received {
                packet_id: ack.id,
                token: self.acks.owe(AckKind::PubRel, ack.id),
            })),
            Received::AwaitsRecord => Ok(None),
            Received::Repeated => {
                let answer = Answer::Plain(ReasonCode::Success);
                self.answer_in_turn(AckKind::PubRel, ack.id, answer);
                Ok(None)
            }
            Received::Unknown => {
                let answer = Answer::Plain(ReasonCode::PacketIdentifierNotFound);
                self.answer_in_turn(AckKind::PubRel, ack.id, answer);
                Ok(None)
            }
        }
    }

    pub(crate) fn handle_pub_rel(
        &mut self,
        ack: &AckRef<'_>,
    ) -> Result<Option<FlowEvent<M>>, ProtocolError> {
        match self.session.inbound.release(ack.id) {
            Release::First => Ok(Some(FlowEvent::Release {
                packet_id: ack.id,
                token: self.acks.owe(AckKind::PubComp, ack.id),
            })),
            Release::Repeat => {
                let answer = Answer::Plain(ReasonCode::Success);
                self.answer_in_turn(AckKind::PubComp, ack.id, answer);
                Ok(None)
            }
            // Normal after a lost PUBCOMP (D6).
            Release::Unknown => {
                let answer = Answer::Plain(ReasonCode::PacketIdentifierNotFound);
                self.answer_in_turn(AckKind::PubComp, ack.id, answer);
                Ok(None)
            }
            Release::TooEarly => Err(ProtocolError::ReleaseBeforeReceived),
        }
    }

    pub(crate) fn handle_pub_comp(
        &mut self,
        ack: &AckRef<'_>,
    ) -> Result<Option<FlowEvent<M>>, ProtocolError> {
        let closed = self.session.outbound.pub_comp(ack.id);
        let item = closed.map_err(|_| unexpected(PacketType::PubComp))?;
        Ok(delivered(ack, item))
    }

    /// Owes the answer to a SUBSCRIBE or UNSUBSCRIBE of so many filters.
    pub(crate) fn owe_request(
        &mut self,
        kind: AckKind,
        packet_id: PacketId,
        filters: usize,
    ) -> AckToken {
        self.acks.owe_request(kind, packet_id, filters)
    }

    /// PUBACK, PUBREC, PUBREL or PUBCOMP, in the short form.
    pub(crate) fn ack(&mut self, token: &AckToken, reason: ReasonCode) -> Result<(), UsageError> {
        exchange_ack(token, reason)?;
        self.settle(token, Answer::Plain(reason));
        Ok(())
    }

    /// PUBACK, PUBREC, PUBREL or PUBCOMP with a reason in words.
    pub(crate) fn ack_with(
        &mut self,
        token: &AckToken,
        reason: ReasonCode,
        properties: AckProperties,
    ) -> Result<(), UsageError> {
        let ack_type = exchange_ack(token, reason)?;
        let ack = Ack {
            id: token.packet_id(),
            reason,
            properties,
        };
        let packet = match ack_type {
            AckType::PubAck => Packet::PubAck(ack),
            AckType::PubRec => Packet::PubRec(ack),
            AckType::PubRel => Packet::PubRel(ack),
            AckType::PubComp => Packet::PubComp(ack),
        };
        self.settle_with_packet(token, reason, packet).map(|_| ())
    }

    /// Settles a token with a whole packet; [`Fit::TooLarge`] where the peer accepts no packet of
    /// that size, and the token stays unsettled.
    pub(crate) fn settle_with_packet(
        &mut self,
        token: &AckToken,
        reason: ReasonCode,
        mut packet: Packet,
    ) -> Result<Fit, UsageError> {
        if !self.acks.knows(token) {
            return Ok(Fit::Written);
        }
        if !self.limits.problem_information {
            diagnostics::strip(&mut packet);
        }
        let mut encoded = WriteBuf::new();
        let size_max = self.limits.packet_size_max;
        let fit = diagnostics::encode_within(&mut packet, self.version, size_max, &mut encoded)?;
        if fit == Fit::Written {
            let packet = encoded.chunk().into();
            self.settle(token, Answer::Encoded { packet, reason });
        }
        Ok(fit)
    }

    /// How many filters the request of this token has, if it is one of this connection.
    pub(crate) fn requested_filters(&self, token: &AckToken) -> Option<usize> {
        self.acks.filters(token)
    }

    /// Never acknowledges the packet.
    pub(crate) fn withhold(&mut self, token: &AckToken) {
        self.settle(token, Answer::Withheld);
    }

    /// Sends a message: writes its PUBLISH, and for QoS 1 and 2 begins an exchange that keeps `item`.
    pub(crate) fn send(
        &mut self,
        fan_out: &mut FanOut<'_>,
        deliver: Deliver<'_>,
        item: M,
    ) -> Result<Option<PacketId>, Refused<M>> {
        if self.muted {
            return Err(Refused::NotConnected(item));
        }
        let acknowledged = deliver.qos != QoS::AtMostOnce;
        if acknowledged {
            if self.resume.is_some() || self.would_overtake(deliver.qos) {
                return Err(Refused::Resending(item));
            }
            // [MQTT-4.9.0-2]
            if !self.has_send_room() {
                return Err(Refused::WindowFull(item));
            }
        }
        let delivery = Delivery::first(deliver.qos, self.session.outbound.next_packet_id());
        let target = self.target(delivery, deliver.retain, deliver.subscription_ids);
        if let Err(unsent) = self.put_publish(fan_out, target) {
            return Err(match unsent {
                NotWritten::TooLarge => Refused::TooLarge(item),
                NotWritten::OutputFull => Refused::OutputFull(item),
            });
        }
        if acknowledged {
            self.session.outbound.open_publish(deliver.qos, item);
        }
        self.assert_invariants();
        Ok(delivery.packet_id())
    }

    /// Slots of the window that may be in use, holes included: a peer that leaves its oldest id
    /// open stops the flow after this many.
    pub(crate) fn span_max(&self) -> usize {
        usize::from(self.limits.in_flight_max)
            .saturating_mul(SPAN_FACTOR)
            .max(SPAN_MIN)
    }

    /// Writes a packet of the connection's own, within the peer's Maximum Packet Size.
    pub(crate) fn put_packet(&mut self, packet: &mut Packet) -> Result<Fit, UsageError> {
        if self.muted {
            return Err(UsageError::NotConnected);
        }
        let size_max = self.limits.packet_size_max;
        let fit = diagnostics::encode_within(packet, self.version, size_max, &mut self.output)?;
        if fit == Fit::Written {
            self.note_written();
        }
        Ok(fit)
    }

    /// Gives back the memory that a burst has left.
    pub(crate) fn release_memory(&mut self) {
        self.output.release_memory();
        self.acks.release_memory();
        self.session.outbound.release_memory();
    }

    pub(crate) fn assert_invariants(&self) {
        self.session.outbound.assert_invariants();
        debug_assert!(
            self.session.outbound.in_flight() <= usize::from(self.limits.in_flight_max),
            "the send quota is never exceeded"
        );
        debug_assert!(
            !self.version.is_v5()
                || self.session.inbound.units() <= usize::from(self.limits.receive_maximum),
            "the receive maximum is never exceeded"
        );
    }

    fn target<'t>(
        &self,
        delivery: Delivery,
        retain: bool,
        subscription_ids: &'t [SubscriptionId],
    ) -> FanOutTarget<'t> {
        FanOutTarget {
            version: self.version,
            delivery,
            retain,
            subscription_ids,
            topic: TopicForm::Name,
        }
    }

    fn put_publish(
        &mut self,
        fan_out: &mut FanOut<'_>,
        mut target: FanOutTarget<'_>,
    ) -> Result<(), NotWritten> {
        let topic = fan_out.source().topic;
        target.topic = self.topic_form(topic);
        let size_max = self.limits.packet_size_max;
        let mut length = fan_out
            .encoded_len(&target)
            .map_err(|_| NotWritten::TooLarge)?;
        if length > size_max && target.topic != TopicForm::Name {
            // It may be the alias that makes it too large: beside the name, or longer than a short one.
            target.topic = TopicForm::Name;
            length = fan_out
                .encoded_len(&target)
                .map_err(|_| NotWritten::TooLarge)?;
        }
        if length > size_max && !mutant!(PacketSizeIgnored) {
            return Err(NotWritten::TooLarge);
        }
        if let Some(aliases) = &mut self.sent_aliases
            && mutant!(AliasNotWritten)
        {
            aliases.note_sent(topic, target.topic);
        }
        if !fits_output(&self.output, length, self.limits.output_bytes_max) {
            return Err(NotWritten::OutputFull);
        }
        let written = fan_out.write(&target, &mut self.output);
        written.map_err(|_| NotWritten::TooLarge)?;
        if let Some(aliases) = &mut self.sent_aliases {
            aliases.note_sent(topic, target.topic);
        }
        self.note_written();
        Ok(())
    }

    /// How to name a topic to the peer; always by itself where it takes no aliases.
    fn topic_form(&mut self, topic: &TopicName) -> TopicForm {
        let Some(alias_max) = NonZeroU16::new(self.limits.sent_alias_max) else {
            return TopicForm::Name;
        };
        let alias_max = alias_max.saturating_add(u16::from(mutant!(AliasAboveMaximum)));
        self.sent_aliases
            .get_or_insert_with(|| Box::new(SentAliases::new(alias_max)))
            .form(topic)
    }

    /// The topic of a PUBLISH, whose alias may set a mapping or stand for the topic.
    fn resolve_topic<'a>(
        &mut self,
        topic: Option<&'a TopicName>,
        alias: Option<NonZeroU16>,
    ) -> Result<TopicRef<'a>, ProtocolError> {
        if let (Some(topic), None) = (topic, alias) {
            return Ok(TopicRef::Borrowed(topic));
        }
        let alias_max = self.received_alias_max;
        let aliases = self
            .received_aliases
            .get_or_insert_with(|| Box::new(ReceivedAliases::new(alias_max)));
        aliases.resolve(topic, alias)
    }

    /// [MQTT-3.3.4-7] [MQTT-3.3.4-9]
    fn check_receive_maximum(&self) -> Result<(), ProtocolError> {
        let limit = usize::from(self.limits.receive_maximum);
        if self.version.is_v5() && self.session.inbound.units() >= limit {
            return Err(ProtocolError::ReceiveMaximumExceeded);
        }
        Ok(())
    }

    fn answer_in_turn(&mut self, kind: AckKind, packet_id: PacketId, answer: Answer) {
        self.acks.answer_in_turn(kind, packet_id, answer);
        self.flush_acks(kind);
    }

    fn settle(&mut self, token: &AckToken, mut answer: Answer) {
        if mutant!(AckOutOfTurn) && token.kind() == AckKind::PubAck {
            self.acknowledge(DueAck {
                kind: AckKind::PubAck,
                packet_id: token.packet_id(),
                answer,
            });
            answer = Answer::Withheld;
        }
        self.acks.settle(token, answer);
        self.flush_acks(token.kind());
        self.assert_invariants();
    }

    /// Sends what is due in the queue of this kind.
    fn flush_acks(&mut self, kind: AckKind) {
        while let Some(due) = self.acks.pop_due(kind) {
            self.acknowledge(due);
        }
    }

    fn acknowledge(&mut self, due: DueAck) {
        let DueAck {
            kind,
            packet_id,
            answer,
        } = due;
        match answer {
            Answer::Withheld => self.note_withheld(kind, packet_id),
            Answer::Repeat => {
                if self.session.inbound.holds(packet_id) {
                    self.put_ack(AckType::PubRec, packet_id, ReasonCode::Success);
                }
            }
            Answer::Plain(reason) => {
                self.note_acknowledged(kind, packet_id, reason);
                if let Some(ack_type) = kind.ack_type() {
                    self.put_ack(ack_type, packet_id, reason);
                }
            }
            Answer::Encoded { packet, reason } => {
                self.note_acknowledged(kind, packet_id, reason);
                self.put_encoded(&packet);
            }
        }
    }

    fn note_acknowledged(&mut self, kind: AckKind, packet_id: PacketId, reason: ReasonCode) {
        let SessionState { outbound, inbound } = &mut self.session;
        match kind {
            AckKind::PubAck => inbound.close_at_least_once(),
            AckKind::PubRec if reason.is_error() && self.version.is_v5() => {
                inbound.rejected(packet_id);
            }
            AckKind::PubRec => inbound.accepted(packet_id),
            AckKind::PubComp => inbound.released(packet_id),
            AckKind::PubRel => {
                outbound.release(packet_id);
            }
            AckKind::SubAck | AckKind::UnsubAck => {}
        }
    }

    fn note_withheld(&mut self, kind: AckKind, packet_id: PacketId) {
        match kind {
            AckKind::PubRec => self.session.inbound.withheld(packet_id),
            AckKind::PubComp => self.session.inbound.release_withheld(packet_id),
            AckKind::PubAck | AckKind::PubRel | AckKind::SubAck | AckKind::UnsubAck => {}
        }
    }

    fn put_ack(&mut self, ack_type: AckType, packet_id: PacketId, reason: ReasonCode) {
        if self.muted {
            return;
        }
        let encoded = encode_ack(&mut self.output, ack_type, packet_id, reason, self.version);
        debug_assert!(encoded.is_ok(), "the reason was checked when it was given");
        self.note_written();
    }

    pub(crate) fn put_pingresp(&mut self) {
        encode_pingresp(&mut self.output);
        self.note_written();
    }

    fn put_encoded(&mut self, packet: &[u8]) {
        if !self.muted {
            self.output.put_slice(packet);
            self.note_written();
        }
    }

    fn note_written(&mut self) {
        self.wrote = true;
        self.packets_sent = self.packets_sent.saturating_add(1);
    }
}

/// Why a PUBLISH is not in the output.
enum NotWritten {
    TooLarge,
    OutputFull,
}

fn delivered<M>(ack: &AckRef<'_>, item: Option<M>) -> Option<FlowEvent<M>> {
    Some(FlowEvent::Delivered {
        packet_id: ack.id,
        item: item?,
        reason: ack.reason,
    })
}

fn unexpected(packet_type: PacketType) -> ProtocolError {
    ProtocolError::UnexpectedAck { packet_type }
}

/// Checks that a token is for one of the four acknowledgements, and that this may say `reason`.
fn exchange_ack(token: &AckToken, reason: ReasonCode) -> Result<AckType, UsageError> {
    let packet_type = token.acknowledged_by();
    let ack_type = token.kind().ack_type();
    let ack_type = ack_type.ok_or(UsageError::WrongToken { packet_type })?;
    if !reason.allowed_in(packet_type) {
        return Err(UsageError::ReasonNotAllowed {
            reason,
            packet_type,
        });
    }
    Ok(ack_type)
}

fn is_acknowledged_publish(first_byte: u8) -> bool {
    PacketType::from_first_byte(first_byte) == Some(PacketType::Publish) && first_byte & 0b110 != 0
}

/// An empty output takes a message of any size.
fn fits_output(output: &WriteBuf, length: usize, bytes_max: usize) -> bool {
    output.is_empty() || output.len().saturating_add(length) <= bytes_max
}

/// Output beyond its limit that answers may take before the peer is not read any more.
const OUTPUT_RESERVE: usize = 16 * 1024;

/// Acknowledgements that may wait besides those of publications: of SUBSCRIBE, UNSUBSCRIBE, PUBREC
/// and PUBREL.
const ACKS_RESERVE: usize = 256;

/// How much of the id space the window may span, as a multiple of the in-flight limit.
const SPAN_FACTOR: usize = 4;

/// The least span, so that a window of 1 does not wait for a slow QoS 2 exchange at each message.
const SPAN_MIN: usize = 64;
