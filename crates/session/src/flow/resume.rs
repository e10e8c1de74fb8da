//! What a resumed session sends again, and what was prepared and is recorded.

use std::collections::VecDeque;

use whimbrel_codec::{AckType, Delivery, FanOut, PacketId, QoS, ReasonCode, SubscriptionId};

use super::{Flow, NotWritten, fits_output};
use crate::SessionState;
use crate::outbound::{Abandoned, Position, Unsent};

/// How a message is sent again: like [`Deliver`](crate::Deliver), with the QoS of its exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Redeliver<'a> {
    /// The RETAIN flag.
    pub retain: bool,
    /// Identifiers of the subscriptions that matched, old or new ones [U5-063].
    pub subscription_ids: &'a [SubscriptionId],
}

/// The next message that a resumed session has to send again, or that was prepared and may go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resend<'a, M> {
    /// The id of the exchange.
    pub packet_id: PacketId,
    /// QoS 1 or 2.
    pub qos: QoS,
    /// What the message was sent or prepared with.
    pub item: &'a M,
    /// It was prepared on an earlier connection and sent on none, so that it need not be sent.
    pub is_overdue: bool,
}

/// What became of a message that was to be sent again, or that was prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resent<M> {
    /// It is in the output.
    Sent,
    /// QoS 1, or prepared and sent on no connection: it was not sent, and its exchange is over
    /// [MQTT-3.1.2-25].
    Dropped(M),
    /// QoS 2 that was sent before: it was not sent, and its exchange goes on with PUBREL, because the peer may hold the
    /// id; `Delivered` follows.
    Released,
}

/// A message was not sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResendRefused {
    /// The output buffer is full: try again after some of it was written.
    #[error("output buffer is full")]
    OutputFull,
    /// `next_resend` names nothing: all is sent, or the window is full, or a record is awaited.
    #[error("nothing is to be sent again now")]
    NothingToResend,
}

/// What is still to be resent [MQTT-4.4.0-1]: PUBRELs first, since no quota holds them back, then
/// publications.
#[derive(Debug)]
pub(super) struct Resume {
    releases: VecDeque<PacketId>,
    /// Everything before it was resent or is over.
    publishes: Option<Position>,
}

impl Resume {
    pub(super) fn new<M>(session: &SessionState<M>) -> Self {
        Self {
            releases: if mutant!(PubRelNotResent) {
                VecDeque::new()
            } else {
                session.outbound.released()
            },
            publishes: (!mutant!(ResendForgotten)).then(Position::default),
        }
    }
}

impl<M> Flow<M> {
    /// Whether something is still to be resent, or was prepared and may go out.
    pub(crate) fn is_resending(&self) -> bool {
        let prepared = || self.session.outbound.next_prepared();
        self.resume.is_some() || (!self.muted && prepared().is_some())
    }

    /// The next message to resend, once there is quota for it, or to send because its id is recorded.
    /// Resends PUBRELs by itself.
    pub(crate) fn next_resend(&mut self) -> Option<Resend<'_, M>> {
        let is_resuming = self.resume.is_some();
        let unsent = self.next_unsent()?;
        Some(Resend {
            is_overdue: is_resuming && unsent.is_never_sent,
            packet_id: unsent.packet_id,
            qos: unsent.qos,
            item: unsent.item,
        })
    }

    /// Sends the message that [`next_resend`](Self::next_resend) has named with its own id, and with DUP
    /// unless it is the first time [MQTT-3.3.1-1].
    pub(crate) fn resend(
        &mut self,
        fan_out: &mut FanOut<'_>,
        redeliver: Redeliver<'_>,
    ) -> Result<Resent<M>, ResendRefused> {
        let next = self.next_unsent().ok_or(ResendRefused::NothingToResend)?;
        let packet_id = next.packet_id;
        let mut delivery = Delivery::first(next.qos, packet_id);
        let is_repeated = !next.is_never_sent || mutant!(DupOnFirstSending);
        if is_repeated && !mutant!(NoDupOnResend) {
            delivery = delivery.repeated();
        }
        let target = self.target(delivery, redeliver.retain, redeliver.subscription_ids);
        match self.put_publish(fan_out, target) {
            Ok(()) => {}
            Err(NotWritten::TooLarge) => return self.abandon_resend(),
            Err(NotWritten::OutputFull) => return Err(ResendRefused::OutputFull),
        }
        self.session.outbound.mark_sent(packet_id);
        self.continue_resume();
        Ok(Resent::Sent)
    }

    /// Does not send the message that [`next_resend`](Self::next_resend) has named.
    pub(crate) fn abandon_resend(&mut self) -> Result<Resent<M>, ResendRefused> {
        let next = self.next_resend().ok_or(ResendRefused::NothingToResend)?;
        let packet_id = next.packet_id;
        let resent = match self.session.outbound.abandon(packet_id) {
            Some(Abandoned::Ended(item)) => Resent::Dropped(item),
            Some(Abandoned::Released) => {
                self.put_ack(AckType::PubRel, packet_id, ReasonCode::Success);
                Resent::Released
            }
            None => return Err(ResendRefused::NothingToResend),
        };
        self.continue_resume();
        Ok(resent)
    }

    fn next_unsent(&mut self) -> Option<Unsent<'_, M>> {
        if self.muted {
            return None;
        }
        self.continue_resume();
        let Some(resume) = &self.resume else {
            return self.session.outbound.next_prepared();
        };
        if !resume.releases.is_empty() || self.send_credit() == 0 {
            return None;
        }
        self.session.outbound.unsent_from(resume.publishes?)
    }

    /// Writes PUBRELs as far as the output takes them, and notices the end of resending.
    pub(crate) fn continue_resume(&mut self) {
        let Some(mut resume) = self.resume.take() else {
            return;
        };
        while let Some(&packet_id) = resume.releases.front() {
            if !fits_output(&self.output, ACK_BYTES, self.limits.output_bytes_max) {
                break;
            }
            resume.releases.pop_front();
            if self.session.outbound.awaits_pub_comp(packet_id) {
                self.put_ack(AckType::PubRel, packet_id, ReasonCode::Success);
            }
        }
        let position = resume.publishes.unwrap_or_default();
        let unsent = self.session.outbound.unsent_from(position);
        let unsent = unsent.filter(|_| !mutant!(ResendForgotten));
        resume.publishes = unsent.map(|unsent| unsent.position);
        if resume.publishes.is_some() || !resume.releases.is_empty() {
            self.resume = Some(resume);
        }
    }
}

/// The longest acknowledgement without properties: fixed header, id, reason code.
const ACK_BYTES: usize = 5;
